//! Writing a part that is given whole: a copy of one on another volume. Block 0 is new, all behind it the same, byte for byte.
//!
//! Nothing is cut: a part that has no room here is closed with a filemark, is nobody's, and is written again on another volume. It
//! counts when its filemark came back from the medium, as any part does.

use taf_drive::{Drive, Sync, Written};
use taf_format::block0::Block0;
use taf_proto::agent::report_volume_request::Verdict;
use taf_proto::agent::{AssignmentKey, PartPlace, Recording, ReportOrphanRequest};
use taf_proto::v1::Fault;
use tokio_util::sync::CancellationToken;

use super::open::{self, Lying, Part};
use super::{Failure, rescue};
use crate::append::End;
use crate::fault::{drive_reset, fault, of_drive, stopped};
use crate::journal::{Entry, Journal};
use crate::ring::Segment;

/// A part with less than this left is written to its end behind early warning: the room there is larger.
const LAST: u64 = 4 << 20;

/// What is written, and to where.
pub struct Copy<'a> {
    /// The assignment.
    pub key: AssignmentKey,
    /// The volume.
    pub recording: &'a Recording,
    /// Where it ends.
    pub end: End,
    /// What the part says of itself here.
    pub block0: Block0,
    /// Where it was.
    pub from: PartPlace,
    /// Bytes of its segments.
    pub bytes: u64,
}

/// What became of it.
pub enum Copied {
    /// It is on tape, and where the volume ends now.
    Part(Box<Entry>, End),
    /// There is no room for it.
    NoRoom(Left),
    /// It could not be written: what that says of the volume, and why.
    Failed(Left, Option<Verdict>, Fault),
}

/// What a part that was not finished has left.
pub struct Left {
    /// The tape file, which is nobody's.
    pub orphan: Option<ReportOrphanRequest>,
    /// Where the volume ends now; not known if the tape file could not be closed.
    pub end: Option<End>,
}

/// How far it came.
enum Course {
    Finished(u64, bool),
    NoRoom,
}

/// Writes the segments that `next` gives. Whether the end of the medium is near is told with the part.
pub fn copy(
    drive: &mut dyn Drive,
    journal: &Journal,
    copy: &Copy<'_>,
    next: &mut dyn FnMut() -> Result<Option<Segment>, Fault>,
    stop: &CancellationToken,
) -> Result<(Copied, bool), Fault> {
    let barcode = copy.recording.barcode.as_str();
    let position = drive
        .position()
        .map_err(|e| of_drive(&e, "asking the position on", barcode))?;
    if position.block != copy.end.block || position.partition != 0 {
        return Err(drive_reset(format!(
            "volume {barcode} ends at block {}, but the drive stands at block {}",
            copy.end.block, position.block
        )));
    }
    let warned = position.end_of_medium || position.programmable_early_warning;
    // As for any part: on a cartridge that holds nothing yet it is tried all the same.
    if warned && copy.end.tape_file > 1 {
        let left = Left {
            orphan: None,
            end: Some(copy.end),
        };
        return Ok((Copied::NoRoom(left), true));
    }
    let Some(first) = next()? else {
        return Err(fault(
            "INTERNAL",
            "a part without segments",
            "see the tape agent's log",
        ));
    };
    let records = journal
        .begin(copy.block0.archive_uuid, copy.block0.part)
        .map_err(|e| open::no_room_for_records(&e))?;
    let block_size = copy.recording.block_size;
    let mut part = Part::new(copy.block0.part, &first.header, block_size, records);
    let failure = match write(drive, copy, &mut part, first, next, stop) {
        Ok(Course::Finished(next_block, near_end)) => {
            return Ok((commit(copy, part, next_block)?, near_end));
        }
        Ok(Course::NoRoom) => None,
        Err(failure) => Some(failure),
    };
    let blocks = part.blocks;
    if let Err(error) = part.records.discard() {
        tracing::warn!(%error, "the records of a part that was not finished stay until the next start");
    }
    let why = match &failure {
        None => "the end of the medium is near".to_owned(),
        Some(Failure::Fault(fault)) => fault.message.clone(),
        Some(Failure::Drive(error)) => error.to_string(),
    };
    let left = close(drive, copy, blocks, &why);
    Ok(match failure {
        None | Some(Failure::Drive(taf_drive::Error::VolumeOverflow)) => {
            (Copied::NoRoom(left), true)
        }
        Some(Failure::Fault(fault)) => (Copied::Failed(left, None, fault), false),
        Some(Failure::Drive(error)) => {
            let fault = of_drive(&error, "writing to", barcode);
            (Copied::Failed(left, rescue::verdict(&error), fault), false)
        }
    })
}

fn write(
    drive: &mut dyn Drive,
    copy: &Copy<'_>,
    part: &mut Part,
    first: Segment,
    next: &mut dyn FnMut() -> Result<Option<Segment>, Fault>,
    stop: &CancellationToken,
) -> Result<Course, Failure> {
    let block0 = copy.block0.encode().map_err(|e| {
        fault(
            "BAD_BLOCK0",
            e.to_string(),
            "use larger blocks, or shorter names",
        )
    })?;
    let mut near_end = drive.write_block(&block0)? == Written::EarlyWarning;
    part.blocks += 1;
    let mut left = copy.bytes;
    let mut segment = Some(first);
    while let Some(now) = segment {
        left = left.saturating_sub(now.bytes.len() as u64);
        for block in part.push(&now)? {
            near_end |= drive.write_block(&block)? == Written::EarlyWarning;
            part.blocks += 1;
        }
        if near_end && left > LAST && copy.end.tape_file > 1 {
            return Ok(Course::NoRoom);
        }
        if stop.is_cancelled() {
            return Err(stopped().into());
        }
        segment = next()?;
    }
    if let Some(block) = part.rest() {
        near_end |= drive.write_block(&block)? == Written::EarlyWarning;
        part.blocks += 1;
    }
    near_end |= drive.write_filemarks(1, Sync::Synchronous)? == Written::EarlyWarning;
    let position = drive.position()?;
    if position.block != copy.end.block + part.blocks + 1 || position.partition != 0 {
        return Err(Failure::Fault(fault(
            "POSITION_UNEXPECTED",
            format!(
                "{} blocks and a filemark were written from block {}, but the drive stands at {}",
                part.blocks, copy.end.block, position.block
            ),
            "nothing of this part counts; look at the drive",
        )));
    }
    Ok(Course::Finished(position.block, near_end))
}

/// It is on the medium.
fn commit(copy: &Copy<'_>, part: Part, next_block: u64) -> Result<Copied, Fault> {
    let there = Lying {
        key: copy.key,
        archive: copy.block0.archive_uuid,
        recording: copy.recording,
        begin: copy.end,
        next_block,
    };
    let entry = part.finish(false, &there, |header| {
        header.moved_from = Some(copy.from.clone());
        header.copy = copy.block0.copy;
    })?;
    Ok(Copied::Part(Box::new(entry), there.behind()))
}

/// Ends the tape file that was not finished. Nothing is written unless the drive stands within it.
fn close(drive: &mut dyn Drive, copy: &Copy<'_>, blocks: u64, why: &str) -> Left {
    let first = copy.end;
    match rescue::close(drive, first.block, blocks) {
        Ok(torn) if torn.closed => {
            let end = End {
                tape_file: first.tape_file + 1,
                block: torn.end + 1,
            };
            Left {
                orphan: Some(ReportOrphanRequest {
                    key: None,
                    recording_uuid: copy.recording.recording_uuid.clone(),
                    tape_file: first.tape_file,
                    first_block: first.block,
                    next_tape_file: end.tape_file,
                    next_block: end.block,
                    reason: format!(
                        "a copy of part {} was not finished: {why}",
                        copy.block0.part
                    ),
                }),
                end: Some(end),
            }
        }
        Ok(torn) if torn.end == first.block => Left {
            orphan: None,
            end: Some(first),
        },
        unclosed => {
            if let Err(error) = unclosed {
                tracing::warn!(%error, "a torn tape file could not be closed; the next mount finds it");
            }
            Left {
                orphan: None,
                end: None,
            }
        }
    }
}
