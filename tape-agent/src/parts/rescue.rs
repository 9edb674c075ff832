//! After a failure in the middle of a part: what of it is on tape, and may be said to be.
//!
//! 1. The torn tail gets a filemark, where the drive stands within the part: it is never overwritten, whatever comes.
//! 2. If the failure was the medium's hard end, which loses nothing, and the filemark is there, it proves all before it. Any other
//!    failure puts in doubt what was not flushed, however well the drive speaks of it afterwards: it is read back, and counts up to
//!    the first segment whose checksums do not hold. So it is when no filemark could be written.
//! 3. The part counts up to its last whole segment that is proved, and the archive goes on with the following one on the
//!    next volume, out of the ring. If the ring has let that one go, because the drive had said that it is on the medium, then it
//!    is lost: the attempt fails and names it. The proved part is committed all the same.
//!
//! A drive that was reset, whose path broke, or that can't tell where it stands is not asked for anything more: nothing of the
//! open part counts, and the next mount finds what it left.

use taf_drive::{Drive, Error as DriveError, Read, Sync};
use taf_format::block0::Block0;
use taf_format::segment;
use taf_format::table::Located;
use taf_proto::agent::ReportOrphanRequest;
use taf_proto::agent::report_volume_request::Verdict;
use taf_proto::v1::Fault;
use uuid::Uuid;

use super::Writer;
use super::open::Part;
use crate::fault::{fault, of_drive};
use crate::journal::Entry;
use crate::ring::Released;

/// An answer may be an earlier failure's, told late: so often the question is asked again.
const TRIES: u32 = 4;

/// What came of a failure.
#[derive(Debug)]
pub struct Rescued {
    /// The part as far as it counts.
    pub entry: Option<Entry>,
    /// The torn tape file of which nothing counts.
    pub orphan: Option<ReportOrphanRequest>,
    /// What the volume is like now.
    pub verdict: Option<(Verdict, String)>,
    /// Why the archive goes on with another volume, or that it is whole, or why it can't go on.
    pub outcome: Result<Option<String>, Fault>,
    /// Whether it was the drive or the medium that failed, and not merely the medium's end.
    pub failed: bool,
}

/// Where a torn part ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Torn {
    /// First object behind its blocks.
    pub end: u64,
    /// A filemark is there, and on the medium.
    pub closed: bool,
    /// The drive told of a failure on the way.
    pub failed: bool,
}

impl Writer<'_> {
    /// Saves of the open part what can be saved after the drive said this.
    pub fn rescue(&mut self, error: &DriveError) -> Rescued {
        let barcode = self.recording.barcode.clone();
        let cause = of_drive(error, "writing to", &barcode);
        let full = matches!(error, DriveError::VolumeOverflow);
        let mut rescued = Rescued {
            entry: None,
            orphan: None,
            verdict: verdict(error).map(|verdict| (verdict, cause.message.clone())),
            outcome: Err(cause.clone()),
            failed: !full,
        };
        if !is_survivable(error) {
            self.lost = true;
            self.forget();
            return rescued;
        }
        let resume = match self.save(&mut rescued, full, &cause) {
            Ok(resume) => resume,
            Err(fault) => {
                rescued.outcome = Err(fault);
                return rescued;
            }
        };
        // Nothing is missing behind the archive's last segment.
        if self.archive.is_whole() {
            rescued.outcome = Ok(None);
            return rescued;
        }
        rescued.outcome = match self.ring.go_back(resume) {
            Ok(()) if full => Ok(Some(format!("volume {barcode} is full"))),
            Ok(()) => Ok(Some(cause.message)),
            Err(Released { first_kept }) => Err(lost(&cause, &barcode, resume, first_kept)),
        };
        rescued
    }

    /// Closes and proves the open part. Gives the sequence that the archive goes on with.
    fn save(&mut self, rescued: &mut Rescued, full: bool, cause: &Fault) -> Result<u64, Fault> {
        let Some(mut part) = self.open.take() else {
            return Ok(self.archive.next_sequence());
        };
        let first = self.end.block;
        let torn = match close(self.drive, first, part.blocks) {
            Ok(torn) => torn,
            Err(error) => {
                tracing::warn!(%error, "a torn tape file could not be closed; the next mount finds it");
                self.lost = true;
                self.open = Some(part);
                self.forget();
                return Err(cause.clone());
            }
        };
        // A short last block was the last, so this is never more than there is.
        let mut whole = part.whole_within(torn.end - first);
        if !(full && torn.closed && !torn.failed) {
            let proved = self.read_back(&part, whole);
            whole = proved
                .map_err(|error| of_drive(&error, "reading back from", &self.recording.barcode))?;
        }
        if !torn.closed {
            // Nothing may be appended behind a tail without a filemark: whoever looks finds the drive elsewhere.
            let _ = self.drive.rewind();
        }
        let number = part.number;
        if whole == 0 {
            let resume = part.first_sequence();
            if let Err(error) = part.records.discard() {
                tracing::warn!(%error, "the records of a torn part stay until the next start");
            }
            rescued.orphan = torn
                .closed
                .then(|| self.orphan(number, torn.end + 1, &cause.message));
            return Ok(resume);
        }
        let complete = whole == part.table.len() && torn.closed;
        part.cut(whole)?;
        part.blocks = torn.end - first;
        let cut = (!complete).then(|| part.table.byte_end());
        let next_block = torn.end + u64::from(torn.closed);
        rescued.entry = Some(self.commit(part, cut, next_block)?);
        Ok(self.archive.next_sequence())
    }

    /// Reads the open part's first `whole` segments from the last flush on; how many hold.
    fn read_back(&mut self, part: &Part, whole: usize) -> Result<usize, DriveError> {
        let flushed = part.whole_within(part.flushed);
        let segments = &part.table.segments()[flushed.min(whole)..whole];
        let place = Place {
            first_block: self.end.block,
            block_size: u64::from(self.recording.block_size),
            archive: self.archive.uuid(),
        };
        tracing::info!(
            volume = self.recording.barcode,
            segments = segments.len(),
            "reading back what is in doubt"
        );
        if part.flushed == 0 && !has_block0(self.drive, place, part.number)? {
            return Ok(0);
        }
        let proved = prove(self.drive, place, segments)?;
        Ok(flushed.min(whole) + proved)
    }

    /// Nothing of the open part counts, and nothing is written any more.
    fn forget(&mut self) {
        if let Some(part) = self.open.take()
            && let Err(error) = part.records.discard()
        {
            tracing::warn!(%error, "the records of a torn part stay until the next start");
        }
    }
}

/// What the drive had said was on the medium is not there.
fn lost(cause: &Fault, barcode: &str, resume: u64, first_kept: u64) -> Fault {
    fault(
        "WRITTEN_DATA_LOST",
        format!(
            "{}; volume {barcode} does not have segments {resume} to {} of the archive, which the drive had said were on it, and they \
             are not in memory any more",
            cause.message,
            first_kept.saturating_sub(1)
        ),
        "run again; have the drive looked at, for it loses what it confirms",
    )
}

/// Whether drive and cartridge are still the ones that were proved, and the drive knows where it stands.
fn is_survivable(error: &DriveError) -> bool {
    matches!(
        error,
        DriveError::VolumeOverflow
            | DriveError::Deferred(_)
            | DriveError::Medium(_)
            | DriveError::Hardware(_)
            | DriveError::WriteProtected(_)
            | DriveError::BlankCheck(_)
            | DriveError::BlockTooLarge { .. }
            | DriveError::Other(_)
    )
}

/// What a failed write says of the volume. A bad drive must not condemn one cartridge after another.
pub(super) fn verdict(error: &DriveError) -> Option<Verdict> {
    use taf_scsi::sense::Key;
    match error {
        DriveError::VolumeOverflow => Some(Verdict::Full),
        DriveError::Deferred(sense) if sense.key == Key::HardwareError => None,
        DriveError::Deferred(_) | DriveError::Medium(_) | DriveError::BlankCheck(_) => {
            Some(Verdict::ReadOnly)
        }
        // A tab is a person's doing, and nothing is wrong with the volume.
        _ => None,
    }
}

/// Ends the torn tape file that begins at `first` and of which the drive has taken `blocks`, wherever in it the drive stands, with
/// a filemark if it can. An error means that nobody knows where it stands.
pub(super) fn close(drive: &mut dyn Drive, first: u64, blocks: u64) -> Result<Torn, DriveError> {
    let mut failed = false;
    for _ in 0..TRIES {
        let position = match drive.position() {
            Ok(position) => position,
            // What failed earlier is told now; this did not run.
            Err(DriveError::Deferred(_)) => {
                failed = true;
                continue;
            }
            Err(error) => return Err(error),
        };
        // After a reset it stands at the tape's beginning, and a filemark there would end everything.
        if position.partition != 0 || !(first..=first + blocks).contains(&position.block) {
            return Err(DriveError::PositionUnknown);
        }
        let end = position.block;
        let torn = |closed, failed| Torn {
            end,
            closed,
            failed,
        };
        if end == first {
            return Ok(torn(false, failed));
        }
        match drive.write_filemarks(1, Sync::Synchronous) {
            Ok(_) => {
                let behind = drive.position()?;
                return if behind.block == end + 1 && behind.partition == 0 {
                    Ok(torn(true, failed))
                } else {
                    Err(DriveError::PositionUnknown)
                };
            }
            Err(DriveError::Deferred(_)) => failed = true,
            // No room even for the mark: what is in the buffer may still get onto the medium.
            Err(DriveError::VolumeOverflow) => {
                failed |= drive.flush().is_err();
                return Ok(torn(false, failed));
            }
            Err(error) if is_survivable(&error) => return Ok(torn(false, true)),
            Err(error) => return Err(error),
        }
    }
    Err(DriveError::PositionUnknown)
}

/// Where a part lies.
#[derive(Debug, Clone, Copy)]
struct Place {
    first_block: u64,
    block_size: u64,
    archive: Uuid,
}

/// Goes to an object. False if it can't be had.
fn go_to(drive: &mut dyn Drive, block: u64) -> Result<bool, DriveError> {
    let mut located = drive.locate(block);
    for _ in 1..TRIES {
        // What failed earlier is told now; this did not run.
        if !matches!(located, Err(DriveError::Deferred(_))) {
            break;
        }
        located = drive.locate(block);
    }
    match located {
        Ok(()) => Ok(true),
        Err(error) if is_survivable(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a part has its first block, without which stock tools can't read it.
fn has_block0(drive: &mut dyn Drive, place: Place, number: u32) -> Result<bool, DriveError> {
    if !go_to(drive, place.first_block)? {
        return Ok(false);
    }
    let mut buffer = vec![0; place.block_size as usize];
    match drive.read_block(&mut buffer) {
        Ok(Read::Block(got)) => Ok(Block0::decode(&buffer[..got])
            .is_ok_and(|found| found.archive_uuid == place.archive && found.part == number)),
        Ok(_) => Ok(false),
        Err(error) if is_survivable(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Reads segments that lie one behind the other; how many of the first are there, whole and as they were written. An error means
/// that nobody knows.
fn prove(drive: &mut dyn Drive, place: Place, segments: &[Located]) -> Result<usize, DriveError> {
    let Some(first) = segments.first() else {
        return Ok(0);
    };
    let block = place.first_block + first.byte_offset / place.block_size;
    let mut skip = (first.byte_offset % place.block_size) as usize;
    if !go_to(drive, block)? {
        return Ok(0);
    }
    let mut buffer = vec![0; place.block_size as usize];
    let mut bytes: Vec<u8> = Vec::new();
    for (proved, wanted) in segments.iter().enumerate() {
        let length = wanted.stored_length as usize;
        while bytes.len() < length {
            match drive.read_block(&mut buffer) {
                Ok(Read::Block(got)) if got > skip => {
                    bytes.extend_from_slice(&buffer[skip..got]);
                    skip = 0;
                }
                Err(error) if !is_survivable(&error) => return Err(error),
                // Not there, or not as it was written.
                _ => return Ok(proved),
            }
        }
        let header = segment::verify(&bytes[..length]);
        let same = header.is_ok_and(|header| {
            header.archive_uuid == place.archive
                && (header.sequence, header.tar_offset) == (wanted.sequence, wanted.tar_offset)
        });
        if !same {
            return Ok(proved);
        }
        bytes.drain(..length);
    }
    Ok(segments.len())
}
