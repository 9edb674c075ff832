//! Writing segments as parts: block 0, blocks, filemark, flush. Runs on the drive's thread.
//!
//! Only this sees the medium, so only this ends parts: at the pool's size, at early warning, at the archive's end, and where the
//! medium fails. A part counts when WRITE FILEMARKS came back from the medium, and not before; what counts of one that failed is
//! the matter of [`rescue`].
//!
//! A writer is of one volume, and of one turn at it where several archives share it. What an archive is at, an [`Archive`], goes
//! on with the next writer, and so does the [ring](crate::ring), from which it takes the segments and in which they stay for as
//! long as they may be needed again; where the volume ends is told by [`Writer::stand`].

mod archive;
pub mod copy;
mod open;
mod rescue;

use taf_drive::{Drive, Error as DriveError, Sync, Written};
use taf_format::block0::{Block0, Predecessor};
use taf_proto::agent::{AssignmentKey, Recording, ReportOrphanRequest, WriteWork};
use taf_proto::v1::Fault;
use uuid::Uuid;

pub use self::archive::Archive;
use self::open::{Lying, Part};
pub use self::rescue::Rescued;
use crate::append::End;
use crate::clock;
use crate::fault::{drive_reset, fault, of_drive, protocol};
use crate::journal::{Entry, Journal};
use crate::ring::{Next, Outlet, Segment};
use crate::watch::Watch;

/// What became of a segment.
#[derive(Debug)]
pub enum Progress {
    /// It is with the drive.
    Buffered,
    /// It ended a part, which is on tape.
    Part(Box<Entry>),
    /// It ended a part, and there is no room for more.
    Full(Box<Entry>),
    /// It was not begun, since there is no room for more; it comes again.
    NoRoom,
}

/// Why a segment could not be written.
#[derive(Debug)]
pub enum Failure {
    /// The drive's word. What is on tape of the open part is to be found out: [`Writer::rescue`].
    Drive(DriveError),
    /// All else: there is nothing to be saved.
    Fault(Fault),
}

impl From<DriveError> for Failure {
    fn from(error: DriveError) -> Failure {
        Failure::Drive(error)
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Failure {
        Failure::Fault(fault)
    }
}

/// Where a volume's next part begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stand {
    /// Behind everything that is on it.
    pub end: End,
    /// The medium's end is near: nothing more is to be begun. A drive may say it once, and never again.
    pub near_end: bool,
}

/// Writes an archive on one volume.
pub struct Writer<'a> {
    drive: &'a mut dyn Drive,
    journal: &'a Journal,
    work: &'a WriteWork,
    recording: &'a Recording,
    key: AssignmentKey,
    archive: &'a mut Archive,
    ring: &'a mut Outlet,
    end: End,
    open: Option<Part>,
    early_warning: bool,
    /// Nobody knows any more where the volume ends.
    lost: bool,
    /// How often the drive has stopped and gone back in the cartridge's life.
    repositions: Option<u64>,
}

impl<'a> Writer<'a> {
    /// A writer that begins at `end`, where the tape must stand. The ring was told that a part [begins](part_bytes).
    pub fn new(
        drive: &'a mut dyn Drive,
        journal: &'a Journal,
        key: AssignmentKey,
        work: &'a WriteWork,
        end: End,
        (archive, ring): (&'a mut Archive, &'a mut Outlet),
    ) -> Result<Writer<'a>, Fault> {
        let Some(recording) = &work.recording else {
            return Err(protocol("an assignment without a recording"));
        };
        let repositions = repositions(drive);
        Ok(Writer {
            drive,
            journal,
            work,
            recording,
            key,
            archive,
            ring,
            end,
            open: None,
            early_warning: false,
            lost: false,
            repositions,
        })
    }

    /// The drive has said before that the medium's end is near.
    #[must_use]
    pub fn warned(mut self, near_end: bool) -> Writer<'a> {
        self.early_warning |= near_end;
        self
    }

    /// The next segment of the ring, when the drive may have it, or why there is none. It is never [`Next::Starved`].
    pub fn next_blocking(&mut self) -> Result<Next, Failure> {
        loop {
            match self.ring.next_blocking()? {
                Next::Starved => self.pause()?,
                next => return Ok(next),
            }
        }
    }

    /// The same without waiting; none if the drive may not have it now.
    #[cfg(test)]
    pub fn next_now(&mut self) -> Result<Option<Option<Segment>>, Failure> {
        match self.ring.next_now()? {
            None => Ok(None),
            Some(Next::Segment(segment)) => Ok(Some(Some(segment))),
            Some(Next::Ended | Next::Yield) => Ok(Some(None)),
            Some(Next::Starved) => self.pause().map(|()| None),
        }
    }

    /// There will be nothing for a while. The tape has to stop, so what the drive has goes to the medium now: the ring is empty
    /// for what is collected, and a drive that loses its buffer meanwhile loses nothing.
    fn pause(&mut self) -> Result<(), Failure> {
        if self.open.is_some() {
            self.flush()?;
        }
        if let Some(part) = &self.open {
            let rest = self.work.part_size.saturating_sub(part.bytes);
            self.ring.part_needs(rest);
        }
        Ok(())
    }

    /// The volume.
    pub fn barcode(&self) -> &str {
        &self.recording.barcode
    }

    /// Whether all of the archive is on tape.
    pub fn is_whole(&self) -> bool {
        self.archive.is_whole()
    }

    /// Whether the medium's end is near: nothing more is to be begun on this volume.
    pub fn near_end(&self) -> bool {
        self.early_warning
    }

    /// Whether a part has begun and not ended.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Where the next part begins, or none if that has to be found out anew. No part is open.
    pub fn stand(&self) -> Option<Stand> {
        (!self.lost && self.open.is_none()).then_some(Stand {
            end: self.end,
            near_end: self.early_warning,
        })
    }

    /// Looks for alerts of the drive; call it between parts.
    pub fn check(&mut self, watch: &Watch) -> Result<(), Fault> {
        watch.check(self.drive)
    }

    /// Takes a whole segment, whose header the caller has proved.
    pub fn segment(&mut self, segment: &Segment) -> Result<Progress, Failure> {
        let header = &segment.header;
        self.archive.expect(self.open.as_ref(), header)?;
        if self.open.is_none() && !self.begin(segment)? {
            // Nobody has released it.
            let _ = self.ring.go_back(header.sequence);
            return Ok(Progress::NoRoom);
        }
        let Some(part) = self.open.as_mut() else {
            return Err(protocol("a segment without a part").into());
        };
        for block in part.push(segment)? {
            let written = self.drive.write_block(&block)?;
            part.blocks += 1;
            self.early_warning |= written == Written::EarlyWarning;
        }
        let large = part.bytes >= self.work.part_size || part.table.is_full();
        if !(header.last || large || self.early_warning) {
            self.ease()?;
            return Ok(Progress::Buffered);
        }
        self.end_part()
    }

    /// Ends the part that is open behind its last segment.
    pub fn end_part(&mut self) -> Result<Progress, Failure> {
        let entry = Box::new(self.finish()?);
        Ok(if self.early_warning && !self.archive.is_whole() {
            Progress::Full(entry)
        } else {
            Progress::Part(entry)
        })
    }

    /// Begins a part, unless the medium's end is near.
    fn begin(&mut self, segment: &Segment) -> Result<bool, Failure> {
        self.stand_at_end()?;
        // A drive may warn once, and never again. On a cartridge that holds nothing yet a segment is tried all the same: one
        // that warns from its beginning would otherwise never take anything.
        if self.early_warning && self.end.tape_file > 1 {
            return Ok(false);
        }
        let first = &segment.header;
        let uuid = |bytes: &[u8]| Uuid::from_slice(bytes).unwrap_or_default();
        let archive = self.work.archive.clone().unwrap_or_default();
        let number = self.archive.number() + 1;
        let block0 = Block0 {
            installation_uuid: uuid(&self.recording.installation_uuid),
            recording_uuid: uuid(&self.recording.recording_uuid),
            volume: self.recording.barcode.clone(),
            archive_uuid: self.archive.uuid(),
            archive_ordinal: archive.ordinal,
            source: archive.source,
            plan: archive.plan,
            line: uuid(&archive.line_uuid).to_string(),
            version: archive.version,
            part: number,
            tape_file: self.end.tape_file as u32,
            block_size: self.recording.block_size,
            first_sequence: first.sequence,
            first_tar_offset: first.tar_offset,
            skip: first.skip(),
            method: first.method,
            suite: first.suite,
            predecessor: self.archive.predecessor(),
            copy: 0,
            created_at_unix_nanos: clock::unix_nanos(),
        };
        let encoded = block0.encode().map_err(|e| {
            fault(
                "BAD_BLOCK0",
                e.to_string(),
                "use larger blocks, or shorter names",
            )
        })?;
        let records = self.journal.begin(self.archive.uuid(), number);
        let records = records.map_err(|e| open::no_room_for_records(&e))?;
        let part = Part::new(number, first, self.recording.block_size, records);
        let part = self.open.insert(part);
        let written = self.drive.write_block(&encoded)?;
        part.blocks += 1;
        self.early_warning |= written == Written::EarlyWarning;
        Ok(true)
    }

    /// Nothing is written but behind all that is known: a drive that was reset stands at the tape's beginning.
    fn stand_at_end(&mut self) -> Result<(), Failure> {
        let position = self.drive.position();
        let position = position
            .map_err(|e| of_drive(&e, "asking the position on", &self.recording.barcode))?;
        if position.block != self.end.block || position.partition != 0 {
            return Err(Failure::Fault(drive_reset(format!(
                "volume {} ends at block {}, but the drive stands at block {}",
                self.recording.barcode, self.end.block, position.block
            ))));
        }
        self.early_warning |= position.end_of_medium || position.programmable_early_warning;
        Ok(())
    }

    /// Makes room in the ring when half of it waits for the medium: see [`crate::ring`].
    fn ease(&mut self) -> Result<(), Failure> {
        let Some(part) = self.open.as_mut() else {
            return Ok(());
        };
        // What lies on a disk is not in the way of what comes; memory is to be free early.
        if self.ring.unreleased() < self.ring.memory() / 2 {
            return Ok(());
        }
        let half = self.ring.capacity() / 2;
        let stands = self.end.block + part.blocks;
        let buffered = match self.drive.position() {
            Ok(position) if position.block != stands || position.partition != 0 => {
                return Err(Failure::Drive(DriveError::PositionUnknown));
            }
            Ok(position) => position.on_medium(),
            Err(DriveError::PositionUnknown) => None,
            Err(error) => return Err(error.into()),
        };
        let most = if let Some(on_medium) = buffered {
            if let Some(sequence) = part.ended_before(on_medium.saturating_sub(self.end.block)) {
                self.ring.release(sequence);
            }
            // A drive that reports is flushed only if its buffer is too large for the ring.
            half + half / 2
        } else {
            half
        };
        if self.ring.unreleased() >= most {
            self.flush()?;
        }
        Ok(())
    }

    /// Brings everything that the drive has taken to the medium. The ring lets it go.
    fn flush(&mut self) -> Result<(), Failure> {
        let flushed = self.drive.flush()?;
        self.early_warning |= flushed == Written::EarlyWarning;
        let Some(part) = self.open.as_mut() else {
            return Ok(());
        };
        part.flushed = part.blocks;
        if let Some(sequence) = part.ended_before(part.blocks) {
            self.ring.release(sequence);
        }
        Ok(())
    }

    /// Ends the part behind its last segment. Returns when it is on the medium.
    fn finish(&mut self) -> Result<Entry, Failure> {
        let Some(part) = self.open.as_mut() else {
            return Err(protocol("an end without a part").into());
        };
        if let Some(block) = part.rest() {
            let written = self.drive.write_block(&block)?;
            part.blocks += 1;
            self.early_warning |= written == Written::EarlyWarning;
        }
        let marked = self.drive.write_filemarks(1, Sync::Synchronous)?;
        self.early_warning |= marked == Written::EarlyWarning;
        // From here on its blocks are on the medium. What comes now can only keep us from saying so; then it is an orphan.
        self.lost = true;
        let position = self.drive.position();
        let Some(part) = self.open.take() else {
            return Err(protocol("an end without a part").into());
        };
        let position = position
            .map_err(|e| of_drive(&e, "asking the position on", &self.recording.barcode))?;
        let next_block = position.block;
        if next_block != self.end.block + part.blocks + 1 || position.partition != 0 {
            return Err(Failure::Fault(fault(
                "POSITION_UNEXPECTED",
                format!(
                    "{} blocks and a filemark were written from block {}, but the drive stands at {next_block}",
                    part.blocks, self.end.block
                ),
                "nothing of this part counts; look at the drive",
            )));
        }
        let entry = self.commit(part, None, next_block)?;
        self.lost = false;
        self.count_repositions();
        self.ring.part_begins(part_bytes(self.work));
        Ok(entry)
    }

    /// The drive stands still now, so that asking costs nothing.
    fn count_repositions(&mut self) {
        let now = repositions(self.drive);
        if let (Some(before), Some(now)) = (self.repositions, now) {
            self.ring.repositioned(now.saturating_sub(before));
        }
        self.repositions = now;
    }

    /// Makes a part that is proved to be on tape count, up to `cut` bytes if it was torn. The ring lets it go.
    fn commit(&mut self, part: Part, cut: Option<u64>, next_block: u64) -> Result<Entry, Fault> {
        let there = Lying {
            key: self.key,
            archive: self.archive.uuid(),
            recording: self.recording,
            begin: self.end,
            next_block,
        };
        let predecessor = Predecessor {
            volume: self.recording.barcode.clone(),
            tape_file: self.end.tape_file as u32,
            bytes: cut,
        };
        self.end = there.behind();
        let entry = part.finish(cut.is_some(), &there, |_| {})?;
        self.archive.part_is_on_tape(&entry.header, predecessor);
        self.ring.release(entry.header.last_sequence);
        Ok(entry)
    }

    /// Closes a part that will not be finished: it gets a filemark and is an orphan. Nothing is written unless the drive stands
    /// within this part, and nothing is said of one that can't be closed; the next mount finds it.
    pub fn abandon(&mut self, reason: &str) -> Option<ReportOrphanRequest> {
        let part = self.open.take()?;
        let (first, blocks, number) = (self.end.block, part.blocks, part.number);
        if let Err(error) = part.records.discard() {
            tracing::warn!(%error, "the records of an abandoned part stay until the next start");
        }
        match rescue::close(self.drive, first, blocks) {
            Ok(torn) if torn.closed => Some(self.orphan(number, torn.end + 1, reason)),
            Ok(torn) if torn.end == first => None,
            Ok(_) => {
                tracing::warn!("a torn tape file could not be closed; the next mount finds it");
                self.lost = true;
                None
            }
            Err(error) => {
                tracing::warn!(%error, "a torn tape file could not be closed; the next mount finds it");
                self.lost = true;
                None
            }
        }
    }

    /// The torn tape file that begins at the end. What is written next begins behind it.
    fn orphan(&mut self, number: u32, next_block: u64, reason: &str) -> ReportOrphanRequest {
        let behind = End {
            tape_file: self.end.tape_file + 1,
            block: next_block,
        };
        let begin = std::mem::replace(&mut self.end, behind);
        ReportOrphanRequest {
            key: None,
            recording_uuid: self.recording.recording_uuid.clone(),
            tape_file: begin.tape_file,
            first_block: begin.block,
            next_tape_file: behind.tape_file,
            next_block,
            reason: format!("part {number} was not finished: {reason}"),
        }
    }
}

/// Bytes of segments that complete a part.
pub fn part_bytes(work: &WriteWork) -> u64 {
    let recording = work.recording.as_ref();
    let block0 = recording.map_or(0, |recording| u64::from(recording.block_size));
    work.part_size.saturating_sub(block0)
}

/// What the drive counts, if it does. An error is told again where it matters: no part begins before the position was asked.
fn repositions(drive: &mut dyn Drive) -> Option<u64> {
    taf_drive::health::suspended_writes(drive).unwrap_or_else(|error| {
        tracing::debug!(%error, "the drive does not tell how often it stopped");
        None
    })
}

#[cfg(test)]
mod tests;
