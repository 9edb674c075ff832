//! A verify assignment: parts of a volume are read back, and everything in them is proved: each segment's frame and checksum, each
//! file's content against the hash in its record, each part's records and segment table against the catalog.
//!
//! ```text
//! drive's thread: blocks → segments ─► checker's thread: tar members, hashes ─► per part: ReportVerification
//! ```
//! Parts that follow each other in an archive are one run, so that a file that goes on in the next part is proved as well. Nothing
//! is written.

mod check;

use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use taf_drive::{Drive, Error as DriveError};
use taf_format::block0::Block0;
use taf_format::resync::{Event, Expect, PartReader, Point};
use taf_format::segment;
use taf_format::table::SegmentTable;
use taf_proto::agent::{
    AssignmentKey, DamagedFile, FetchVerificationRequest, ReadRange, Recording,
    ReportVerificationRequest, VerifyDone, VerifyPart, VerifyWork, read_response,
};
use taf_proto::v1::Fault;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::check::{Found, Piece};
use crate::commit;
use crate::fault::{fault, stopped};
use crate::gauge::Gauge;
use crate::read;
use crate::reader::Reader;
use crate::worker::drive::Surroundings;

/// Segments that are read ahead of the checker.
const AHEAD: usize = 8;
/// Damaged files that are named in one report; the rest is counted.
const NAMED: usize = 1_000;

/// Verifies what the controller asks for.
pub async fn run(
    around: &Surroundings,
    key: AssignmentKey,
    work: VerifyWork,
    stop: &CancellationToken,
) -> Result<VerifyDone, Fault> {
    let recording = around.begin(key, work.recording)?;
    read::begin(around, key, &recording, stop).await?;
    let (parts, limit) = fetch(around, key, &recording).await?;
    around.gauge.phase("verifying");
    let mut done = VerifyDone::default();
    let begun = Instant::now();
    for run in runs(parts, limit.is_some()) {
        if limit.is_some_and(|limit| begun.elapsed() >= limit) {
            break;
        }
        let (task, parts) = (around.clone(), run.clone());
        let (recording_, stopping) = (recording.clone(), stop.clone());
        let (read, found) = around
            .block(move || {
                let device = task.device.clone();
                let nobody = &mut |_: &[u8]| Ok(());
                device.work(|drive| {
                    verify(drive, &task.gauge, &recording_, &parts, &stopping, nobody)
                })
            })
            .await?;
        for request in reports(&run, &read, &found) {
            done.part_count += 1;
            done.issue_count += request.damaged_count + u64::from(!request.damage.is_empty());
            done.byte_count += request.byte_count;
            let request = ReportVerificationRequest {
                key: Some(key),
                recording_uuid: recording.recording_uuid.clone(),
                ..request
            };
            commit::persist("reporting what was verified", || async {
                let mut catalog = around.link.catalog();
                let told = catalog.report_verification(request.clone()).await;
                told.map(|_| ())
            })
            .await?;
        }
        done.file_count += found.files;
        done.unproved_file_count += found.unproved;
    }
    Ok(done)
}

/// The parts that an assignment is to read, and for how long.
pub(crate) async fn fetch(
    around: &Surroundings,
    key: AssignmentKey,
    recording: &Recording,
) -> Result<(Vec<VerifyPart>, Option<Duration>), Fault> {
    let fetched = std::sync::Mutex::new((Vec::new(), None));
    commit::persist("fetching what is to be verified", || async {
        let request = FetchVerificationRequest {
            key: Some(key),
            recording_uuid: recording.recording_uuid.clone(),
        };
        let mut catalog = around.link.catalog();
        let mut messages = catalog.fetch_verification(request).await?.into_inner();
        let mut parts = (Vec::new(), None);
        while let Some(message) = messages.message().await? {
            let limit = message.time_limit_seconds;
            parts.1 = (limit > 0).then(|| Duration::from_secs(limit));
            parts.0.extend(message.part);
        }
        *fetched
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = parts;
        Ok(())
    })
    .await?;
    Ok(fetched
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner))
}

/// Parts that follow each other, in an archive and on the tape; each `alone` if it may be the last one.
fn runs(parts: Vec<VerifyPart>, alone: bool) -> Vec<Vec<VerifyPart>> {
    let mut runs: Vec<Vec<VerifyPart>> = Vec::new();
    for part in parts {
        match runs.last_mut() {
            Some(run)
                if !alone
                    && run.last().is_some_and(|before| {
                        before.archive_uuid == part.archive_uuid
                            && before.part_number + 1 == part.part_number
                    }) =>
            {
                run.push(part);
            }
            _ => runs.push(vec![part]),
        }
    }
    runs
}

/// What was read of a part.
#[derive(Debug, Default)]
struct Seen {
    segments: u64,
    bytes: u64,
    block0: Option<Block0>,
    table: Option<SegmentTable>,
    /// What is wrong with it beside its files.
    damage: Option<String>,
}

/// Takes the bytes of a part's segments, in order.
type Keep<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(), Fault>;

/// What came of a part that is read to be stored elsewhere.
pub(crate) enum Checked {
    /// It is whole: its first block, and where its segments lie in it.
    Whole(Box<Block0>, SegmentTable),
    /// It is damaged.
    Damaged(Box<ReportVerificationRequest>),
}

/// Reads one part and proves it; its segments go to `keep` as well, whole or not.
pub(crate) fn check_part(
    drive: &mut dyn Drive,
    gauge: &Gauge,
    recording: &Recording,
    part: &VerifyPart,
    stop: &CancellationToken,
    keep: Keep<'_>,
) -> Result<Checked, Fault> {
    let run = std::slice::from_ref(part);
    let (mut seen, found) = verify(drive, gauge, recording, run, stop, keep)?;
    let whole = reports(run, &seen, &found);
    let report = whole.into_iter().next().unwrap_or_default();
    let seen = seen.pop().unwrap_or_default();
    Ok(match (seen.block0, seen.table) {
        (Some(block0), Some(table)) if report.damage.is_empty() => {
            Checked::Whole(Box::new(block0), table)
        }
        _ => Checked::Damaged(Box::new(report)),
    })
}

/// Reads a run and checks it beside.
fn verify(
    drive: &mut dyn Drive,
    gauge: &Gauge,
    recording: &Recording,
    parts: &[VerifyPart],
    stop: &CancellationToken,
    keep: Keep<'_>,
) -> Result<(Vec<Seen>, Found), Fault> {
    let (sender, receiver) = mpsc::sync_channel(AHEAD);
    let Some(first) = parts.first() else {
        return Ok((Vec::new(), Found::default()));
    };
    let (ordinal, begin) = (first.archive_ordinal, first.first_tar_offset);
    std::thread::scope(|scope| {
        let checker = std::thread::Builder::new().name("verify".into());
        let checker = checker
            .spawn_scoped(scope, move || check::check(ordinal, begin, receiver))
            .map_err(|error| {
                fault(
                    "INTERNAL",
                    format!("a thread can't be started: {error}"),
                    "see the limits on processes (ulimit -u)",
                )
            })?;
        let again = |drive: &mut dyn Drive, _: &DriveError| {
            let proved = read::prove(drive, recording, gauge, stop);
            proved.map(|_| ()).map_err(|wrong| wrong.fault)
        };
        let mut reader = Reader::new(drive, &recording.barcode, recording.block_size, &again);
        let mut seen = Vec::new();
        let mut outcome = Ok(());
        for part in parts {
            match read_part(
                &mut reader,
                gauge,
                recording,
                part,
                &sender,
                (stop, &mut *keep),
            ) {
                Ok(part) => seen.push(part),
                Err(fault) => {
                    outcome = Err(fault);
                    break;
                }
            }
        }
        drop(sender);
        let found = checker.join().map_err(|_| {
            fault(
                "INTERNAL",
                "the thread that checks files died",
                "see the tape agent's log",
            )
        });
        outcome?;
        Ok((seen, found?))
    })
}

/// Reads a part; its segments go to the checker.
fn read_part(
    reader: &mut Reader<'_>,
    gauge: &Gauge,
    recording: &Recording,
    part: &VerifyPart,
    pieces: &mpsc::SyncSender<Piece>,
    (stop, keep): (&CancellationToken, Keep<'_>),
) -> Result<Seen, Fault> {
    let block_size = u64::from(recording.block_size);
    let mut reading = Reading {
        seen: Seen::default(),
        reader: PartReader::new(expect(part), block_size),
        table: SegmentTable::new(block_size),
        hash: blake3::Hasher::new(),
        pieces,
        end: part.end_tar_offset,
    };
    let mut block0 = Vec::new();
    let head = ReadRange {
        id: 0,
        tape_file: part.tape_file,
        first_block: part.first_block,
        byte_offset: 0,
        length: block_size.min(part.byte_count),
    };
    reader.range(&head, &mut |answer| {
        match answer.message {
            Some(read_response::Message::Chunk(chunk)) => {
                gauge.flowed(chunk.data.len() as u64);
                block0.extend_from_slice(&chunk.data);
            }
            Some(read_response::Message::Damaged(damaged)) => reading.damage(damaged.reason),
            _ => {}
        }
        true
    })?;
    reading.block0(&block0, part);
    let rest = ReadRange {
        byte_offset: head.length,
        length: part.byte_count - head.length,
        ..head
    };
    let mut kept = Ok(());
    let taken = reader.range(&rest, &mut |answer| {
        match answer.message {
            Some(read_response::Message::Chunk(chunk)) => {
                gauge.flowed(chunk.data.len() as u64);
                reading.seen.bytes += chunk.data.len() as u64;
                if kept.is_ok() {
                    kept = keep(&chunk.data);
                }
                reading.reader.push_block(&chunk.data);
            }
            Some(read_response::Message::Damaged(damaged)) => {
                reading.damage(damaged.reason);
                reading.reader.lost_block(damaged.length as u32);
            }
            _ => {}
        }
        reading.events();
        kept.is_ok() && !stop.is_cancelled()
    })?;
    kept?;
    if !taken {
        return Err(stopped());
    }
    reading.reader.finish();
    reading.events();
    Ok(reading.finish(part))
}

fn expect(part: &VerifyPart) -> Expect {
    Expect {
        archive_uuid: Uuid::from_slice(&part.archive_uuid).ok(),
        first: Some(Point {
            sequence: part.first_sequence,
            tar_offset: part.first_tar_offset,
        }),
        end: Some(Point {
            sequence: part.last_sequence + 1,
            tar_offset: part.end_tar_offset,
        }),
    }
}

/// A part under way.
struct Reading<'a> {
    seen: Seen,
    reader: PartReader,
    table: SegmentTable,
    hash: blake3::Hasher,
    pieces: &'a mpsc::SyncSender<Piece>,
    /// Tar offset behind the part.
    end: u64,
}

impl Reading<'_> {
    fn damage(&mut self, reason: String) {
        self.seen.damage.get_or_insert(reason);
    }

    fn block0(&mut self, block: &[u8], part: &VerifyPart) {
        if block.is_empty() {
            return;
        }
        self.seen.bytes += block.len() as u64;
        match Block0::decode(block) {
            Ok(found)
                if found.archive_uuid.as_bytes()[..] == part.archive_uuid[..]
                    && found.part == part.part_number =>
            {
                self.seen.block0 = Some(found);
            }
            Ok(_) => self.damage("its first block is that of another part".to_owned()),
            Err(error) => self.damage(error.to_string()),
        }
    }

    fn events(&mut self) {
        while let Some(event) = self.reader.next_event() {
            match event {
                Event::Segment(found) => self.segment(&found.bytes, found.byte_offset),
                Event::Damaged(damage) => {
                    let reason = damage.reason.to_string();
                    self.damage(reason.clone());
                    let tar = damage.tar.start..damage.tar.end.min(self.end);
                    self.give(Piece::Lost(tar, reason));
                }
            }
        }
    }

    fn segment(&mut self, bytes: &[u8], byte_offset: u64) {
        match segment::open(bytes) {
            Ok(opened) => {
                self.seen.segments += 1;
                self.hash.update(&opened.records);
                if let Err(error) = self.table.push_at(&opened.header, byte_offset) {
                    self.damage(error.to_string());
                }
                self.give(Piece::Segment(Box::new(opened)));
            }
            Err(error) => {
                let reason = error.to_string();
                self.damage(reason.clone());
                if let Ok(Some(header)) = segment::peek(bytes) {
                    self.give(Piece::Lost(header.tar_offset..header.tar_end(), reason));
                }
            }
        }
    }

    fn give(&self, piece: Piece) {
        // The checker ends last; if it died, joining it says so.
        let _ = self.pieces.send(piece);
    }

    fn finish(mut self, part: &VerifyPart) -> Seen {
        if self.seen.damage.is_none() {
            self.hash.update(&self.table.encode());
            if self.hash.finalize().as_bytes()[..] != part.digest[..] {
                self.damage(
                    "its records or its segment table are not those that were committed".into(),
                );
            }
        }
        self.seen.table = Some(self.table);
        self.seen
    }
}

/// What is reported of each part: its own damage, and the damaged files that lie in it.
fn reports(parts: &[VerifyPart], seen: &[Seen], found: &Found) -> Vec<ReportVerificationRequest> {
    let mut reports = Vec::new();
    for (index, (part, seen)) in parts.iter().zip(seen).enumerate() {
        let own = part.first_tar_offset..part.end_tar_offset;
        let within = |tar: &std::ops::Range<u64>| tar.start < own.end && own.start < tar.end;
        // A file that goes through several parts is named once, with the first of them that has it.
        let before = |tar: &std::ops::Range<u64>| {
            parts[..index]
                .iter()
                .any(|p| tar.start < p.end_tar_offset && p.first_tar_offset < tar.end)
        };
        let touched = found.damaged.values().any(|damaged| within(&damaged.tar));
        let named = found
            .damaged
            .iter()
            .filter(|(_, damaged)| within(&damaged.tar) && !before(&damaged.tar));
        let mut damage = seen.damage.clone();
        if damage.is_none() && touched {
            damage = Some("files in it are damaged".to_owned());
        }
        let unnamed = found.unnamed.iter().filter(|(tar, _)| within(tar)).count();
        reports.push(ReportVerificationRequest {
            key: None,
            recording_uuid: Bytes::new(),
            tape_file: part.tape_file,
            segment_count: seen.segments,
            byte_count: seen.bytes,
            damage: damage.unwrap_or_default(),
            damaged_count: named.clone().count() as u64,
            damaged: named
                .take(NAMED)
                .map(|(path, damaged)| DamagedFile {
                    path: path.clone().into(),
                    reason: damaged.reason.clone(),
                })
                .collect(),
            unnamed_count: unnamed as u64,
        });
    }
    reports
}
