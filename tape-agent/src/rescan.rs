//! A rescan: all that is on a cartridge is told, for a catalog that does not have it.
//!
//! ```text
//! drive's thread: label → indexes, from the last one back → parts that no index has ──► file ──► ReportScan
//! ```
//! From the end of data one goes back over the tape files to the last volume index, and from there from index to index. What lies in
//! between and is told by none, because an index is damaged or was never written, is looked at itself; parts among it are
//! read back whole. All is told at once, when all is there: whoever is killed before begins again, and nothing is lost. Nothing is
//! written, and nothing is compared with the catalog.

mod account;
mod survey;
mod told;

use std::path::PathBuf;

use taf_drive::health::Chip;
use taf_drive::{Drive, Error as DriveError};
use taf_format::block0::Block0;
use taf_format::index::{Body, IndexOrphan, IndexPart, IndexPartEnd};
use taf_format::label::Label;
use taf_format::record;
use taf_proto::agent::report_scan_request::Message;
use taf_proto::agent::{
    AssignmentKey, Recording, ReportScanRequest, RescanDone, RescanWork, ScanHeader, ScanIndex,
    ScanProblem, ScanTrailer,
};
use taf_proto::tape;
use taf_proto::v1::Fault;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::account::{Account, Kept, Records};
use self::survey::{TapeFile, What};
use self::told::Known;
use crate::commit;
use crate::fault::{fault, of_drive, stopped};
use crate::gauge::Gauge;
use crate::medium::{self, Beginning};
use crate::read;
use crate::readback::{self, Back, Extent};
use crate::reader::Reader;
use crate::worker::drive::Surroundings;

/// Bytes of a segment table in a record.
const TABLE: usize = 1 << 20;
/// Records that are sent ahead of a slow controller.
const AHEAD: usize = 4;
/// Problems that are named; the rest is counted.
const NAMED: usize = 1_000;

/// Tells what is on a cartridge.
pub async fn run(
    around: &Surroundings,
    key: AssignmentKey,
    work: RescanWork,
    stop: &CancellationToken,
) -> Result<RescanDone, Fault> {
    around.gauge.begin(key, &work.barcode, "mounting");
    let (task, stopping) = (around.clone(), stop.clone());
    let installation = around.link.own().identity().installation;
    let found = around
        .block(move || {
            let device = task.device.clone();
            device.work(|drive| {
                medium::steadily(
                    |fault| fault,
                    || {
                        let scan = Scan {
                            around: &task,
                            key,
                            barcode: &work.barcode,
                            installation,
                            stop: &stopping,
                        };
                        scan.whole(drive)
                    },
                )
            })
        })
        .await?;
    around.gauge.phase("telling the controller");
    let told = commit::persist("telling what is on a cartridge", || {
        tell(around, key, &found)
    });
    let told = stop.run_until_cancelled(told).await;
    if let Err(error) = std::fs::remove_file(&found.account.path) {
        tracing::debug!(%error, "what was found on a cartridge stays until the next rescan");
    }
    told.ok_or_else(stopped)??;
    tracing::info!(
        volume = found
            .header
            .label
            .as_ref()
            .map_or("", |label| &label.barcode),
        parts = found.done.part_count,
        read = found.done.read_part_count,
        indexes = found.done.index_count,
        problems = found.done.problem_count,
        "told what is on a cartridge"
    );
    Ok(found.done)
}

/// What was found.
struct Found {
    header: ScanHeader,
    account: Kept,
    trailer: ScanTrailer,
    done: RescanDone,
}

async fn tell(
    around: &Surroundings,
    key: AssignmentKey,
    found: &Found,
) -> Result<(), tonic::Status> {
    let (sender, receiver) = mpsc::channel(AHEAD);
    let header = ScanHeader {
        key: Some(key),
        ..found.header.clone()
    };
    let (account, trailer) = (found.account.clone(), found.trailer.clone());
    let feeding = tokio::task::spawn_blocking(move || {
        if let Err(error) = feed(header, &account, trailer, &sender) {
            tracing::error!(file = %account.path.display(), %error, "what was found on a cartridge can't be read");
        }
    });
    let answer = around
        .link
        .catalog()
        .report_scan(ReceiverStream::new(receiver))
        .await;
    feeding.abort();
    answer.map(|_| ())
}

/// Errors of sending mean that the call has ended, which its answer says.
fn feed(
    header: ScanHeader,
    account: &Kept,
    trailer: ScanTrailer,
    sender: &mpsc::Sender<ReportScanRequest>,
) -> std::io::Result<()> {
    let send = |message| {
        let request = ReportScanRequest {
            message: Some(message),
        };
        sender.blocking_send(request).is_ok()
    };
    if !send(Message::Header(header)) {
        return Ok(());
    }
    for record in Records::open(account)? {
        if !send(Message::Record(record?)) {
            return Ok(());
        }
    }
    send(Message::Trailer(trailer));
    Ok(())
}

/// What a drive says while a cartridge is scanned.
fn said(error: &DriveError, barcode: &str) -> Fault {
    of_drive(error, "scanning", barcode)
}

/// The file of what is found can't be used.
fn kept(error: &std::io::Error) -> Fault {
    fault(
        "SPOOL_FULL",
        format!("what is found on the cartridge can't be kept: {error}"),
        "make room in the tape agent's state folder and scan the cartridge again",
    )
}

/// A rescan on the drive's thread.
struct Scan<'a> {
    around: &'a Surroundings,
    key: AssignmentKey,
    barcode: &'a str,
    installation: Uuid,
    stop: &'a CancellationToken,
}

impl Scan<'_> {
    fn gauge(&self) -> &Gauge {
        &self.around.gauge
    }

    fn whole(&self, drive: &mut dyn Drive) -> Result<Found, Fault> {
        let barcode = self.barcode;
        let show = |phase: &str| self.gauge().phase(phase);
        medium::mount_shown(drive, barcode, self.stop, &show)?;
        self.around.watch.begin(drive, self.key, barcode, false)?;
        let chip =
            Chip::read(drive).map_err(|e| of_drive(&e, "asking for the memory of", barcode))?;
        let label = match medium::beginning(drive, barcode)? {
            Beginning::Label(label) => label,
            Beginning::Unreadable(why) => return Err(medium::unreadable(barcode, &why)),
            other => return Err(no_label(barcode, &other)),
        };
        self.is_ours(&label)?;
        let begin = drive.position().map_err(|e| said(&e, barcode))?.block;
        let recording = recording_of(&label, chip.serial());
        let path = self
            .around
            .spool
            .scanned(&recording.recording_uuid)
            .map_err(|e| kept(&e))?;
        let account = Account::create(&path).map_err(|e| kept(&e))?;
        let mut search = Search {
            scan: self,
            recording,
            path,
            account,
            end: 0,
            known: Known::default(),
            parts: Vec::new(),
            problems: Vec::new(),
            problem_count: 0,
            done: RescanDone::default(),
        };
        let end = search.files(drive, begin)?;
        search.read_parts(drive)?;
        let mut done = search.done;
        done.part_count = search.known.told.len() as u64;
        done.index_count = search.known.indexes.len() as u64;
        done.closing_count = search.known.closings;
        done.problem_count = search.problem_count;
        search.known.indexes.sort_by_key(|index| index.tape_file);
        Ok(Found {
            header: ScanHeader {
                key: None,
                label: Some(message_of(&label)),
                medium_serial: chip.serial().to_owned(),
            },
            account: search.account.finish().map_err(|e| kept(&e))?,
            trailer: ScanTrailer {
                next_tape_file: end.tape_file,
                next_block: end.block,
                open: end.open,
                problems: search.problems,
                indexes: search.known.indexes,
            },
            done,
        })
    }

    /// A cartridge of somebody else is none of ours to tell of, and the label must be the barcode's.
    fn is_ours(&self, label: &Label) -> Result<(), Fault> {
        let barcode = self.barcode;
        if label.barcode != barcode {
            return Err(fault(
                "WRONG_CARTRIDGE",
                format!(
                    "cartridge {barcode} bears the label of volume {}",
                    label.barcode
                ),
                "look at its barcode; `taf tape inspect` shows what is on it",
            ));
        }
        if label.installation_uuid != self.installation {
            return Err(fault(
                "FOREIGN_INSTALLATION",
                format!(
                    "cartridge {barcode} belongs to installation {}, and this is installation {}",
                    label.installation_uuid, self.installation
                ),
                "if that one was yours and is lost, see docs/disaster.md for how a new installation takes its cartridges over",
            ));
        }
        Ok(())
    }
}

fn no_label(barcode: &str, found: &Beginning) -> Fault {
    let reason = match found {
        Beginning::Blank => "BLANK",
        _ => "FOREIGN_CARTRIDGE",
    };
    fault(
        reason,
        format!(
            "there is nothing of ours on cartridge {barcode}: it holds {}",
            found.words()
        ),
        "nothing comes back from it; `taf tape inspect` shows more",
    )
}

fn recording_of(label: &Label, serial: &str) -> Recording {
    let raw = |uuid: Uuid| uuid.as_bytes().to_vec().into();
    Recording {
        barcode: label.barcode.clone(),
        volume_uuid: raw(label.volume_uuid),
        recording_uuid: raw(label.recording_uuid),
        installation_uuid: raw(label.installation_uuid),
        pool: label.pool.clone(),
        block_size: label.block_size,
        next_tape_file: 1,
        next_block: 0,
        medium_serial: serial.to_owned(),
    }
}

fn message_of(label: &Label) -> tape::Label {
    let raw = |uuid: Uuid| uuid.as_bytes().to_vec().into();
    tape::Label {
        format_version: 1,
        installation_uuid: raw(label.installation_uuid),
        volume_uuid: raw(label.volume_uuid),
        recording_uuid: raw(label.recording_uuid),
        barcode: label.barcode.clone(),
        pool: label.pool.clone(),
        block_size: label.block_size,
        labelled_at_unix_nanos: label.labelled_at_unix_nanos,
        writer: label.writer.clone(),
    }
}

/// Where the data end.
struct End {
    tape_file: u64,
    block: u64,
    open: bool,
}

/// A part that is to be read itself.
struct ToRead {
    tape_file: u64,
    file: TapeFile,
    block0: Box<Block0>,
}

struct Search<'a> {
    scan: &'a Scan<'a>,
    recording: Recording,
    path: PathBuf,
    account: Account,
    /// Logical block behind all data.
    end: u64,
    known: Known,
    parts: Vec<ToRead>,
    problems: Vec<ScanProblem>,
    problem_count: u64,
    done: RescanDone,
}

impl Search<'_> {
    /// Finds every tape file behind the label, which ends at block `begin`, and tells what indexes have.
    fn files(&mut self, drive: &mut dyn Drive, begin: u64) -> Result<End, Fault> {
        let barcode = self.scan.barcode;
        let of = |error: DriveError| said(&error, barcode);
        self.scan.gauge().phase("looking for volume indexes");
        drive.locate_end_of_data().map_err(of)?;
        let end = drive.position().map_err(of)?.block;
        self.end = end;
        let mut tail: Vec<TapeFile> = Vec::new();
        let mut behind = end;
        while behind > begin {
            let file = survey::before(drive, &self.recording, behind).map_err(of)?;
            behind = file.first_block;
            let index = matches!(file.what, What::Index(_));
            tail.push(file);
            if index {
                break;
            }
            self.is_wanted()?;
        }
        let open = tail.first().is_some_and(|last| !last.is_closed());
        for file in tail.iter().rev() {
            if let What::Index(head) = &file.what {
                self.index_chain(drive, file.first_block, head.tape_file)?;
            }
        }
        // What no index tells of, from the beginning on; an index among it may tell of more.
        while let Some((block, number)) = self.known.gap(begin, end) {
            let file = match tail.iter().find(|file| file.first_block == block) {
                Some(file) => file.clone(),
                None => survey::at(drive, &self.recording, block, end).map_err(of)?,
            };
            let number = file.number.unwrap_or(number);
            self.known
                .file(number, block, file.next_block.max(block + 1));
            self.take(drive, file, number)?;
            self.is_wanted()?;
        }
        let last = self.known.numbers.values().copied().max().unwrap_or(0);
        Ok(End {
            tape_file: last + 1,
            block: end,
            open,
        })
    }

    fn is_wanted(&self) -> Result<(), Fault> {
        if self.scan.stop.is_cancelled() {
            return Err(stopped());
        }
        Ok(())
    }

    /// Reads an index, and the ones before it as far as each names the one before. False if the first one can't be read.
    fn index_chain(
        &mut self,
        drive: &mut dyn Drive,
        first_block: u64,
        tape_file: u64,
    ) -> Result<bool, Fault> {
        let (scan, mut any) = (self.scan, false);
        let mut next = Some((tape_file, first_block));
        while let Some((tape_file, block)) = next.take() {
            let read = |index: &ScanIndex| index.first_block == block;
            if self.known.indexes.iter().any(read) {
                return Ok(true);
            }
            let phase = format!("reading the volume index in tape file {tape_file}");
            scan.gauge().phase(&phase);
            let into = (&mut self.account, &mut self.known);
            let (gauge, stop) = (scan.gauge(), scan.stop);
            match told::read(drive, &self.recording, block, into, gauge, stop)? {
                Ok((head, behind)) => {
                    let behind = if let Some(behind) = behind {
                        behind
                    } else {
                        // It could not be read to its end.
                        let file = survey::at(drive, &self.recording, block, self.end);
                        file.map_err(|e| said(&e, scan.barcode))?.next_block
                    };
                    self.known.file(head.tape_file, block, behind);
                    next = head.earlier;
                    any = true;
                }
                Err(why) => {
                    tracing::warn!(
                        volume = scan.barcode,
                        tape_file,
                        why,
                        "a volume index can't be read; what it tells of is looked at itself"
                    );
                }
            }
        }
        Ok(any)
    }

    /// Decides what becomes of a tape file that no index tells of.
    fn take(&mut self, drive: &mut dyn Drive, file: TapeFile, number: u64) -> Result<(), Fault> {
        match &file.what {
            What::Index(head) => {
                if !self.index_chain(drive, file.first_block, head.tape_file)? {
                    let why = "a volume index that can't be read".to_owned();
                    self.problem(number, file.first_block, why);
                }
                Ok(())
            }
            What::Part(block0) => {
                let block0 = block0.clone();
                self.parts.push(ToRead {
                    tape_file: number,
                    file,
                    block0,
                });
                Ok(())
            }
            What::Other(reason) => {
                let orphan = IndexOrphan {
                    tape_file: number,
                    first_block: file.first_block,
                    next_block: file.next_block,
                    reason: reason.clone(),
                };
                let put = self.account.put(Body::Orphan(orphan));
                put.map_err(|e| kept(&e))
            }
            What::Unreadable(reason) => {
                self.problem(number, file.first_block, reason.clone());
                Ok(())
            }
        }
    }

    fn problem(&mut self, tape_file: u64, first_block: u64, reason: String) {
        let volume = self.scan.barcode;
        tracing::warn!(volume, tape_file, reason, "a tape file is not told of");
        self.problem_count += 1;
        if self.problems.len() < NAMED {
            self.problems.push(ScanProblem {
                tape_file,
                first_block,
                reason,
            });
        }
    }

    fn read_parts(&mut self, drive: &mut dyn Drive) -> Result<(), Fault> {
        let mut parts = std::mem::take(&mut self.parts);
        parts.retain(|part| !self.known.told.contains(&part.tape_file));
        parts.sort_by_key(|part| part.file.first_block);
        let (scan, recording) = (self.scan, self.recording.clone());
        let again = |drive: &mut dyn Drive, _: &DriveError| {
            let proved = read::prove(drive, &recording, scan.gauge(), scan.stop);
            proved.map(|_| ()).map_err(|wrong| wrong.fault)
        };
        let mut reader = Reader::new(drive, scan.barcode, recording.block_size, &again);
        let count = parts.len();
        for (at, part) in parts.into_iter().enumerate() {
            let phase = format!("reading part {} of {count} that no index has", at + 1);
            scan.gauge().phase(&phase);
            self.read_part(&mut reader, &part)?;
        }
        Ok(())
    }

    fn read_part(&mut self, reader: &mut Reader<'_>, part: &ToRead) -> Result<(), Fault> {
        let (scan, file, block0) = (self.scan, &part.file, &part.block0);
        let listed = self.known.uncovered.get(&part.tape_file);
        let truncated = listed.is_some_and(|listed| listed.truncated);
        let extent = Extent {
            first_block: file.first_block,
            blocks: file.blocks,
            until: listed
                .filter(|listed| listed.truncated)
                .map(|listed| listed.last_sequence),
        };
        let scratch = self.path.with_extension("part.new");
        let mut taking = Taking {
            records: Account::create(&scratch).map_err(|e| kept(&e))?,
            hash: blake3::Hasher::new(),
            found: IndexPartEnd::default(),
            failed: None,
        };
        let read = readback::part(
            reader,
            scan.gauge(),
            self.recording.block_size,
            (extent, block0),
            scan.stop,
            &mut |payload| taking.take(payload),
        )?;
        if let Some(error) = taking.failed {
            return Err(kept(&error));
        }
        let back = match read {
            Ok(back) => back,
            Err(why) => {
                self.problem(part.tape_file, file.first_block, why);
                return Ok(());
            }
        };
        let table = back.table.encode();
        let digest = taking.hash.update(&table).finalize();
        if listed.is_some_and(|listed| listed.digest[..] != digest.as_bytes()[..]) {
            let why = "it is not the part that a volume index lists here".to_owned();
            self.problem(part.tape_file, file.first_block, why);
            return Ok(());
        }
        let told = IndexPart {
            digest: digest.as_bytes().to_vec().into(),
            truncated: truncated || !file.is_closed(),
            ..part.told(&back)
        };
        let mut found = taking.found;
        found.table_byte_count = table.len() as u64;
        let records = taking.records.finish().map_err(|e| kept(&e))?;
        let mut put = |body| self.account.put(body).map_err(|e| kept(&e));
        put(Body::Part(told))?;
        for piece in table.chunks(TABLE) {
            put(Body::Table(piece.to_vec().into()))?;
        }
        for record in Records::open(&records).map_err(|e| kept(&e))? {
            if let Some(body) = record.map_err(|e| kept(&e))?.record {
                put(body)?;
            }
        }
        put(Body::PartEnd(found))?;
        if let Err(error) = std::fs::remove_file(&records.path) {
            tracing::debug!(%error, "the records of a part stay until the next rescan");
        }
        self.known.told.insert(part.tape_file);
        self.done.read_part_count += 1;
        self.done.byte_count += back.byte_count;
        Ok(())
    }
}

impl ToRead {
    /// What is to be told of it, but for its digest.
    fn told(&self, back: &Back) -> IndexPart {
        let (header, range) = (&back.first, back.table.tar_range());
        let last = back.table.segments().last().map(|last| last.sequence);
        let raw = |uuid: Uuid| uuid.as_bytes().to_vec().into();
        IndexPart {
            archive_uuid: raw(header.archive_uuid),
            line_uuid: raw(header.line_uuid),
            version: header.version,
            archive_ordinal: header.archive_ordinal,
            attempt: header.attempt,
            part_number: self.block0.part,
            tape_file: self.tape_file,
            first_block: self.file.first_block,
            block_count: self.file.blocks,
            byte_count: back.byte_count,
            first_sequence: header.sequence,
            last_sequence: last.unwrap_or(header.sequence),
            first_tar_offset: range.start,
            end_tar_offset: range.end,
            last: back.last,
            next_tape_file: self.tape_file + 1,
            next_block: self.file.next_block,
            plan: self.block0.plan.clone(),
            source: self.block0.source.clone(),
            copy: self.block0.copy,
            ..IndexPart::default()
        }
    }
}

/// The records of a part that is read itself. What it is to be told as is known only behind them.
struct Taking {
    records: Account,
    hash: blake3::Hasher,
    found: IndexPartEnd,
    failed: Option<std::io::Error>,
}

impl Taking {
    fn take(&mut self, payload: &[u8]) -> Result<(), String> {
        self.hash.update(payload);
        for record in record::iter(payload) {
            let record = record.map_err(|error| error.to_string())?;
            let body = match record.record {
                Some(record::Body::Page(page)) => {
                    self.found.page_count += 1;
                    Body::Page(page)
                }
                Some(record::Body::Tombstone(tombstone)) => {
                    self.found.tombstone_count += 1;
                    Body::Tombstone(tombstone)
                }
                Some(record::Body::Dictionary(dictionary)) => {
                    self.found.dictionary_count += 1;
                    Body::Dictionary(dictionary)
                }
                // Pages say the same.
                Some(record::Body::Entry(_)) | None => continue,
            };
            if let Err(error) = self.records.put(body) {
                let why = error.to_string();
                self.failed = Some(error);
                return Err(why);
            }
        }
        Ok(())
    }
}
