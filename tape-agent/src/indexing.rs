//! Writing a volume index: what the catalog has of the volume and no index tells of, with the records that the spool kept.
//!
//! ```text
//! controller ── FetchIndex ──► file ─┐
//! spool of committed parts ──────────┴─► drive's thread ─► filemark, flush ─► CommitIndex
//! ```
//! All is fetched before the first block is written, so that nobody's silence tears it. An index that is torn gets a filemark and
//! is an orphan; one that is on tape and was never committed is found as an orphan, too. Either way the next index tells of
//! the same: nothing is forgotten before the controller has it.

use std::fs::File;
use std::io::{self, BufReader, Read as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use prost::Message as _;
use taf_drive::{Drive, Error as DriveError, Sync};
use taf_format::index::{Head, IndexPart, Writer};
use taf_format::part::Blocker;
use taf_proto::agent::fetch_index_response::Message;
use taf_proto::agent::report_volume_request::Verdict;
use taf_proto::agent::{
    AssignmentKey, CommitIndexRequest, FetchIndexRequest, FetchIndexResponse, IndexDone, IndexWork,
    IndexedPart, IndexedVersion, Recording, ReportOrphanRequest,
};
use taf_proto::v1::Fault;
use tokio::io::AsyncWriteExt as _;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use uuid::Uuid;

use crate::append::End;
use crate::clock;
use crate::commit;
use crate::fault::{drive_reset, fault, of_drive};
use crate::spool::Spool;
use crate::worker::drive::Surroundings;
use crate::write;

/// Longest message that is taken from the file of what was fetched: a closing record and little else.
const MESSAGE: u64 = 16 << 20;

/// An assignment: the volume is proved, and gets its index.
pub async fn run(
    around: &Surroundings,
    key: AssignmentKey,
    work: IndexWork,
    stop: &CancellationToken,
) -> Result<IndexDone, Fault> {
    let recording = around.begin(key, work.recording)?;
    let proved = write::prove(around, key, &recording, stop).await?;
    append(around, key, &recording, proved.end, proved.changes).await
}

/// Writes the index of a proved volume at its end, where the tape must stand, if there is anything to tell. The drive has had so
/// many changes since.
pub async fn append(
    around: &Surroundings,
    key: AssignmentKey,
    recording: &Recording,
    end: End,
    changes: u64,
) -> Result<IndexDone, Fault> {
    around.gauge.phase("indexing");
    let fetched = around
        .spool
        .fetched(&recording.recording_uuid)
        .map_err(|e| no_spool(&e))?;
    fetch(around, key, recording, &fetched).await?;
    let task = {
        let (around, recording, fetched) = (around.clone(), recording.clone(), fetched.clone());
        move || {
            around.device.work(|drive| {
                if around.device.changes() != changes {
                    return Err(drive_reset(
                        "it was reset, or its cartridge changed, since the volume was proved",
                    ));
                }
                put(drive, &around.spool, &recording, &fetched, end)
            })
        }
    };
    let outcome = around.block(task).await;
    // What is fetched anew next time.
    if let Err(error) = std::fs::remove_file(&fetched) {
        tracing::debug!(%error, "what was fetched for an index stays until the next one");
    }
    match outcome? {
        Put::Nothing => Ok(IndexDone::default()),
        Put::Written(index) => commit_index(around, key, *index).await,
        Put::Torn { orphan, fault } => {
            if let Some(orphan) = orphan {
                commit::orphans(&around.link, key, vec![orphan]).await?;
            }
            if fault.reason != "VOLUME_FULL" {
                return Err(fault);
            }
            let (uuid, why) = (&recording.recording_uuid, NO_ROOM);
            commit::volume(&around.link, key, uuid, Verdict::IndexOmitted, why).await?;
            Ok(IndexDone::default())
        }
    }
}

const NO_ROOM: &str =
    "the end of the medium, before there was room for its index; the next one of the pool has it";

fn no_spool(error: &io::Error) -> Fault {
    fault(
        "SPOOL_FULL",
        format!("the index spool can't be used: {error}"),
        "make room in the tape agent's state folder; the parts are safe, and their index is written later",
    )
}

/// Fetches what the index is to tell of into a file: length-delimited messages.
async fn fetch(
    around: &Surroundings,
    key: AssignmentKey,
    recording: &Recording,
    into: &Path,
) -> Result<(), Fault> {
    let request = FetchIndexRequest {
        key: Some(key),
        recording_uuid: recording.recording_uuid.clone(),
    };
    commit::persist("fetching what an index is to tell of", || async {
        let mut catalog = around.link.catalog();
        let mut messages = catalog.fetch_index(request.clone()).await?.into_inner();
        let kept = |error: io::Error| Status::failed_precondition(error.to_string());
        let file = tokio::fs::File::create(into).await.map_err(kept)?;
        let mut file = tokio::io::BufWriter::new(file);
        while let Some(message) = messages.message().await? {
            let length = message.encoded_len() as u32;
            file.write_all(&length.to_le_bytes()).await.map_err(kept)?;
            file.write_all(&message.encode_to_vec())
                .await
                .map_err(kept)?;
        }
        file.flush().await.map_err(kept)
    })
    .await
}

async fn commit_index(
    around: &Surroundings,
    key: AssignmentKey,
    index: CommitIndexRequest,
) -> Result<IndexDone, Fault> {
    let request = CommitIndexRequest {
        key: Some(key),
        ..index
    };
    commit::persist("committing an index", || async {
        let mut catalog = around.link.catalog();
        catalog.commit_index(request.clone()).await.map(|_| ())
    })
    .await?;
    for part in &request.covered {
        if let Err(error) = around.spool.forget(&part.recording_uuid, part.tape_file) {
            tracing::warn!(%error, "a part that an index has stays in the index spool");
        }
    }
    around.gauge.committed(request.byte_count);
    tracing::info!(
        tape_file = request.tape_file,
        parts = request.covered.len(),
        uncovered = request.uncovered.len(),
        versions = request.versions.len(),
        "wrote a volume index"
    );
    Ok(IndexDone {
        part_count: request.covered.len() as u32,
        closing_count: request.versions.len() as u32,
    })
}

/// What became of an index.
enum Put {
    /// There was nothing to tell.
    Nothing,
    /// It is on tape.
    Written(Box<CommitIndexRequest>),
    /// It is not; what was begun of it is closed.
    Torn {
        orphan: Option<ReportOrphanRequest>,
        fault: Fault,
    },
}

fn put(
    drive: &mut dyn Drive,
    spool: &Spool,
    recording: &Recording,
    fetched: &Path,
    end: End,
) -> Result<Put, Fault> {
    let mut earlier = None;
    let mut anything = false;
    for message in Fetched::open(fetched)? {
        match message? {
            Message::Earlier(pointer) if !anything => {
                earlier = Some((pointer.tape_file, pointer.first_block));
            }
            Message::Volume(_) | Message::Earlier(_) => {}
            Message::Part(_) | Message::Orphan(_) | Message::Closing(_) => anything = true,
        }
    }
    if !anything {
        return Ok(Put::Nothing);
    }
    let position = drive
        .position()
        .map_err(|e| of_drive(&e, "asking the position on", &recording.barcode))?;
    if position.block != end.block || position.partition != 0 {
        return Err(drive_reset(format!(
            "volume {} ends at block {}, but the drive stands at block {}",
            recording.barcode, end.block, position.block
        )));
    }
    let uuid = Uuid::new_v4();
    let mut tape = Tape {
        drive,
        barcode: &recording.barcode,
        blocker: Blocker::new(recording.block_size),
        blocks: 0,
        bytes: 0,
    };
    let told = tape
        .head(uuid, recording, end, earlier)
        .and_then(|()| tell(&mut tape, spool, fetched, uuid))
        .and_then(|told| Ok((told, tape.finish(end)?)));
    match told {
        Ok((told, next_block)) => Ok(Put::Written(Box::new(CommitIndexRequest {
            key: None,
            index_uuid: Bytes::copy_from_slice(uuid.as_bytes()),
            recording_uuid: recording.recording_uuid.clone(),
            tape_file: end.tape_file,
            first_block: end.block,
            block_count: tape.blocks,
            byte_count: tape.bytes,
            next_tape_file: end.tape_file + 1,
            next_block,
            covered: told.covered,
            uncovered: told.uncovered,
            versions: told.versions,
        }))),
        Err(fault) => {
            let blocks = tape.blocks;
            let orphan = close_torn(drive, recording, end, blocks, &fault.reason);
            Ok(Put::Torn { orphan, fault })
        }
    }
}

/// What an index has told of.
#[derive(Default)]
struct Told {
    covered: Vec<IndexedPart>,
    uncovered: Vec<IndexedPart>,
    versions: Vec<IndexedVersion>,
}

fn tell(tape: &mut Tape<'_>, spool: &Spool, fetched: &Path, uuid: Uuid) -> Result<Told, Fault> {
    let mut index = Writer::new(uuid);
    let mut told = Told::default();
    let mut recording = Bytes::new();
    for message in Fetched::open(fetched)? {
        match message? {
            Message::Volume(volume) => {
                recording = volume.recording_uuid.clone();
                let line = format!("of cartridge {}", volume.barcode);
                index.text(&line).map_err(misused)?;
                index.volume(volume).map_err(misused)?;
            }
            Message::Earlier(pointer) => index.earlier(pointer).map_err(misused)?,
            Message::Part(part) => {
                let place = IndexedPart {
                    recording_uuid: recording.clone(),
                    tape_file: part.tape_file,
                };
                if tell_part(tape, &mut index, spool, &recording, part)? {
                    told.covered.push(place);
                } else {
                    told.uncovered.push(place);
                }
            }
            Message::Orphan(orphan) => {
                let line = format!(
                    "tape file {}, block {}: belongs to nothing: {}",
                    orphan.tape_file, orphan.first_block, orphan.reason
                );
                index.text(&line).map_err(misused)?;
                index.orphan(orphan).map_err(misused)?;
            }
            Message::Closing(closing) => {
                let line = format!("version {} of plan {}", closing.version, closing.plan);
                index.text(&line).map_err(misused)?;
                index.closing(closing.record).map_err(misused)?;
                told.versions.push(IndexedVersion {
                    line_uuid: closing.line_uuid,
                    version: closing.version,
                });
            }
        }
        tape.pieces(std::iter::from_fn(|| index.ready()))?;
    }
    let rest = index.finish().map_err(misused)?;
    tape.pieces(rest.into_iter())?;
    Ok(told)
}

/// Tells of a part. False if its records are not here.
fn tell_part(
    tape: &mut Tape<'_>,
    index: &mut Writer,
    spool: &Spool,
    recording: &[u8],
    part: IndexPart,
) -> Result<bool, Fault> {
    let kept = spool
        .part(recording, part.tape_file, &part.digest)
        .unwrap_or_else(|error| {
            tracing::warn!(tape_file = part.tape_file, %error, "a part's records can't be read; the index lists it as uncovered");
            None
        });
    let remark = if kept.is_some() {
        ""
    } else {
        ", not in this index"
    };
    let line = format!(
        "tape file {}, block {}: part {} of version {} of plan {}, source {}{remark}",
        part.tape_file, part.first_block, part.part_number, part.version, part.plan, part.source
    );
    index.text(&line).map_err(misused)?;
    let Some(mut kept) = kept else {
        index.uncovered(part).map_err(misused)?;
        return Ok(false);
    };
    index
        .part(IndexPart {
            next_tape_file: kept.header.next_tape_file,
            next_block: kept.header.next_block,
            ..part
        })
        .map_err(misused)?;
    index.table(&kept.header.segment_table).map_err(misused)?;
    while let Some(record) = kept.next_record().map_err(|e| no_spool(&e))? {
        index.record(record).map_err(misused)?;
        tape.pieces(std::iter::from_fn(|| index.ready()))?;
    }
    index.part_end().map_err(misused)?;
    Ok(true)
}

/// What was fetched makes no index.
fn misused(error: impl std::fmt::Display) -> Fault {
    fault(
        "BAD_INDEX",
        format!("a volume index can't be made: {error}"),
        "see that controller and tape agent have the same version; the parts are safe, and hold the same",
    )
}

/// Writes blocks and counts them.
struct Tape<'a> {
    drive: &'a mut dyn Drive,
    barcode: &'a str,
    blocker: Blocker,
    blocks: u64,
    bytes: u64,
}

impl Tape<'_> {
    fn head(
        &mut self,
        index_uuid: Uuid,
        recording: &Recording,
        end: End,
        earlier: Option<(u64, u64)>,
    ) -> Result<(), Fault> {
        let uuid = |bytes: &[u8]| Uuid::from_slice(bytes).unwrap_or_default();
        let head = Head {
            index_uuid,
            installation_uuid: uuid(&recording.installation_uuid),
            recording_uuid: uuid(&recording.recording_uuid),
            volume: recording.barcode.clone(),
            tape_file: end.tape_file,
            block_size: recording.block_size,
            suite: 0,
            earlier,
            created_at_unix_nanos: clock::unix_nanos(),
        };
        self.block(&head.encode().map_err(misused)?)
    }

    fn pieces(&mut self, pieces: impl Iterator<Item = Bytes>) -> Result<(), Fault> {
        for piece in pieces {
            for block in self.blocker.push(piece) {
                self.block(&block)?;
            }
        }
        Ok(())
    }

    /// The room behind early warning is for this, so the warning says nothing here.
    fn block(&mut self, block: &[u8]) -> Result<(), Fault> {
        self.blocks += 1;
        self.bytes += block.len() as u64;
        let written = self.drive.write_block(block);
        written.map_err(|e| self.said(&e))?;
        Ok(())
    }

    /// Ends the tape file. Returns the block behind its filemark when it is on the medium.
    fn finish(&mut self, end: End) -> Result<u64, Fault> {
        if let Some(block) = std::mem::replace(&mut self.blocker, Blocker::new(1)).finish() {
            self.block(&block)?;
        }
        let flushed = self.drive.write_filemarks(1, Sync::Synchronous);
        flushed.map_err(|e| self.said(&e))?;
        let position = self.drive.position();
        let next_block = position
            .map_err(|e| of_drive(&e, "asking the position on", self.barcode))?
            .block;
        if next_block != end.block + self.blocks + 1 {
            return Err(fault(
                "POSITION_UNEXPECTED",
                format!(
                    "{} blocks and a filemark were written from block {}, but the drive stands at {next_block}",
                    self.blocks, end.block
                ),
                "this index does not count; look at the drive",
            ));
        }
        Ok(next_block)
    }

    fn said(&self, error: &DriveError) -> Fault {
        of_drive(error, "writing the index of", self.barcode)
    }
}

/// Closes a torn index with a filemark, if the drive stands within it. What can't be closed the next mount finds.
fn close_torn(
    drive: &mut dyn Drive,
    recording: &Recording,
    end: End,
    blocks: u64,
    reason: &str,
) -> Option<ReportOrphanRequest> {
    let within = drive.position().ok().filter(|torn| {
        torn.partition == 0 && (end.block + 1..=end.block + blocks).contains(&torn.block)
    })?;
    let closed = drive
        .write_filemarks(1, Sync::Synchronous)
        .and_then(|_| drive.position());
    match closed {
        Ok(position) if position.block > within.block => Some(ReportOrphanRequest {
            key: None,
            recording_uuid: recording.recording_uuid.clone(),
            tape_file: end.tape_file,
            first_block: end.block,
            next_tape_file: end.tape_file + 1,
            next_block: position.block,
            reason: format!("an index that was not finished: {reason}"),
        }),
        Ok(_) => None,
        Err(error) => {
            tracing::warn!(%error, "a torn index could not be closed; the next mount finds it");
            None
        }
    }
}

/// The messages of a file that [`fetch`] wrote.
struct Fetched {
    file: BufReader<File>,
    path: PathBuf,
}

impl Fetched {
    fn open(path: &Path) -> Result<Fetched, Fault> {
        let file = File::open(path).map_err(|e| no_spool(&e))?;
        Ok(Fetched {
            file: BufReader::new(file),
            path: path.to_owned(),
        })
    }

    fn read(&mut self) -> io::Result<Option<Message>> {
        let mut length = [0; 4];
        match self.file.read_exact(&mut length) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        }
        let length = u64::from(u32::from_le_bytes(length));
        let bad = || {
            let what = format!("{} is not what was fetched", self.path.display());
            io::Error::new(io::ErrorKind::InvalidData, what)
        };
        if length > MESSAGE {
            return Err(bad());
        }
        let mut bytes = vec![0; length as usize];
        self.file.read_exact(&mut bytes)?;
        let response = FetchIndexResponse::decode(Bytes::from(bytes)).map_err(|_| bad())?;
        response.message.map(Some).ok_or_else(bad)
    }
}

impl Iterator for Fetched {
    type Item = Result<Message, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read().map_err(|e| no_spool(&e)).transpose()
    }
}
