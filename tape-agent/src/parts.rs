//! Writing segments as parts: block 0, blocks, filemark, flush. Runs on the drive's thread.
//!
//! Only this sees the medium, so only this ends parts: at the pool's size, at early warning, at the archive's end.
//! A part counts when WRITE FILEMARKS came back from the medium, and not before.

use bytes::Bytes;
use taf_drive::{Drive, Error as DriveError, Sync, Written};
use taf_format::block0::{Block0, Predecessor};
use taf_format::part::Blocker;
use taf_format::segment::{Header, records};
use taf_format::table::SegmentTable;
use taf_proto::agent::{AssignmentKey, PartHeader, Recording, ReportOrphanRequest, WriteWork};
use taf_proto::v1::Fault;
use uuid::Uuid;

use crate::append::End;
use crate::clock;
use crate::fault::{drive_reset, fault, of_drive, protocol};
use crate::journal::{Entry, Journal, Records};

/// What became of a segment.
pub enum Progress {
    /// It is with the drive.
    Buffered,
    /// It ended a part, which is on tape.
    Part(Box<Entry>),
    /// It ended a part, and there is no room for more.
    Full(Box<Entry>),
}

/// Writes one archive.
pub struct Writer<'a> {
    drive: &'a mut dyn Drive,
    journal: &'a Journal,
    work: &'a WriteWork,
    recording: &'a Recording,
    key: AssignmentKey,
    archive_uuid: Uuid,
    end: End,
    number: u32,
    next_sequence: u64,
    next_tar_offset: u64,
    predecessor: Option<Predecessor>,
    open: Option<Part>,
    early_warning: bool,
    /// Bytes of finished parts.
    bytes: u64,
}

struct Part {
    blocker: Blocker,
    table: SegmentTable,
    records: Records,
    first: Header,
    blocks: u64,
    bytes: u64,
}

impl<'a> Writer<'a> {
    /// A writer that begins at `end`, where the tape must stand.
    pub fn new(
        drive: &'a mut dyn Drive,
        journal: &'a Journal,
        key: AssignmentKey,
        work: &'a WriteWork,
        end: End,
    ) -> Result<Writer<'a>, Fault> {
        let (Some(archive), Some(recording)) = (&work.archive, &work.recording) else {
            return Err(protocol("an assignment without archive or recording"));
        };
        Ok(Writer {
            drive,
            journal,
            work,
            recording,
            key,
            archive_uuid: Uuid::from_slice(&archive.archive_uuid).unwrap_or_default(),
            end,
            number: 0,
            next_sequence: 0,
            next_tar_offset: 0,
            predecessor: None,
            open: None,
            early_warning: false,
            bytes: 0,
        })
    }

    /// Whether the medium's end is near: nothing more is to be begun on this volume.
    pub fn near_end(&self) -> bool {
        self.early_warning
    }

    /// Why the archive can't go on here.
    pub fn full(&self) -> Fault {
        let archive = self.work.archive.clone().unwrap_or_default();
        fault(
            "VOLUME_FULL",
            format!(
                "volume {} is full after {} bytes of version {} of {}; the committed parts are kept",
                self.recording.barcode, self.bytes, archive.version, archive.plan
            ),
            format!(
                "label another cartridge for pool {} and run again",
                self.recording.pool
            ),
        )
    }

    /// Takes a whole segment, whose header the caller has proved.
    pub fn segment(&mut self, header: &Header, bytes: Bytes) -> Result<Progress, Fault> {
        if header.sequence != self.next_sequence || header.tar_offset != self.next_tar_offset {
            return Err(protocol(format!(
                "segment {} instead of {}",
                header.sequence, self.next_sequence
            )));
        }
        self.next_sequence += 1;
        self.next_tar_offset = header.tar_end();
        if self.open.is_none() {
            self.begin(header)?;
        }
        let Some(mut part) = self.open.take() else {
            return Err(protocol("a segment without a part"));
        };
        let filled = self.fill(&mut part, header, bytes);
        let large = part.bytes >= self.work.part_size || part.table.is_full();
        // Also after a failure: what is torn is closed later.
        self.open = Some(part);
        filled?;
        if !(header.last || large || self.early_warning) {
            return Ok(Progress::Buffered);
        }
        let entry = Box::new(self.finish(header)?);
        if self.early_warning && !header.last {
            Ok(Progress::Full(entry))
        } else {
            Ok(Progress::Part(entry))
        }
    }

    fn fill(&mut self, part: &mut Part, header: &Header, bytes: Bytes) -> Result<(), Fault> {
        part.table.push(header).map_err(protocol)?;
        let payload = records(&bytes).map_err(protocol)?;
        part.records.add(payload).map_err(|error| {
            fault(
                "SPOOL_FULL",
                format!("the records of a part can't be kept: {error}"),
                "make room in the tape agent's state folder and run again",
            )
        })?;
        part.bytes += bytes.len() as u64;
        for block in part.blocker.push(bytes) {
            part.blocks += 1;
            let written = self.drive.write_block(&block);
            self.early_warning |= self.outcome(written)?;
        }
        Ok(())
    }

    fn begin(&mut self, first: &Header) -> Result<(), Fault> {
        let archive = self
            .work
            .archive
            .as_ref()
            .map_or_else(Default::default, Clone::clone);
        let uuid = |bytes: &[u8]| Uuid::from_slice(bytes).unwrap_or_default();
        self.stand_at_end()?;
        self.number += 1;
        let block0 = Block0 {
            installation_uuid: uuid(&self.recording.installation_uuid),
            recording_uuid: uuid(&self.recording.recording_uuid),
            volume: self.recording.barcode.clone(),
            archive_uuid: self.archive_uuid,
            archive_ordinal: archive.ordinal,
            source: archive.source.clone(),
            plan: archive.plan.clone(),
            line: uuid(&archive.line_uuid).to_string(),
            version: archive.version,
            part: self.number,
            tape_file: self.end.tape_file as u32,
            block_size: self.recording.block_size,
            first_sequence: first.sequence,
            first_tar_offset: first.tar_offset,
            skip: first.skip(),
            method: first.method,
            suite: first.suite,
            predecessor: self.predecessor.take(),
            created_at_unix_nanos: clock::unix_nanos(),
        };
        let encoded = block0.encode().map_err(|e| {
            fault(
                "BAD_BLOCK0",
                e.to_string(),
                "use larger blocks, or shorter names",
            )
        })?;
        let records = self
            .journal
            .begin(self.archive_uuid, self.number)
            .map_err(|e| {
                fault(
                    "SPOOL_FULL",
                    format!("the journal can't be written: {e}"),
                    "make room in the tape agent's state folder and run again",
                )
            })?;
        self.open = Some(Part {
            blocker: Blocker::new(self.recording.block_size),
            table: SegmentTable::new(u64::from(self.recording.block_size)),
            records,
            first: first.clone(),
            blocks: 1,
            bytes: encoded.len() as u64,
        });
        let written = self.drive.write_block(&encoded);
        self.early_warning |= self.outcome(written)?;
        Ok(())
    }

    /// Nothing is written but behind all that is known: a drive that was reset stands at the tape's beginning.
    fn stand_at_end(&mut self) -> Result<(), Fault> {
        let position = self.drive.position();
        let position = position
            .map_err(|e| of_drive(&e, "asking the position on", &self.recording.barcode))?;
        if position.block == self.end.block && position.partition == 0 {
            return Ok(());
        }
        Err(drive_reset(format!(
            "volume {} ends at block {}, but the drive stands at block {}",
            self.recording.barcode, self.end.block, position.block
        )))
    }

    /// Ends the part behind its last segment. Returns when it is on the medium.
    fn finish(&mut self, last: &Header) -> Result<Entry, Fault> {
        let Some(mut part) = self.open.take() else {
            return Err(protocol("an end without a part"));
        };
        if let Some(block) = std::mem::replace(&mut part.blocker, Blocker::new(1)).finish() {
            part.blocks += 1;
            let written = self.drive.write_block(&block);
            match self.outcome(written) {
                Ok(warning) => self.early_warning |= warning,
                Err(fault) => {
                    self.open = Some(part);
                    return Err(fault);
                }
            }
        }
        let flushed = self.drive.write_filemarks(1, Sync::Synchronous);
        match self.outcome(flushed) {
            Ok(warning) => self.early_warning |= warning,
            Err(fault) => {
                self.open = Some(part);
                return Err(fault);
            }
        }
        let position = self.drive.position();
        let next_block = match position {
            Ok(position) => position.block,
            Err(error) => {
                return Err(of_drive(
                    &error,
                    "asking the position on",
                    &self.recording.barcode,
                ));
            }
        };
        let first_block = self.end.block;
        self.bytes += part.bytes;
        if next_block != first_block + part.blocks + 1 {
            return Err(fault(
                "POSITION_UNEXPECTED",
                format!(
                    "{} blocks and a filemark were written from block {first_block}, but the drive stands at {next_block}",
                    part.blocks
                ),
                "nothing of this part counts; look at the drive",
            ));
        }
        let header = PartHeader {
            key: Some(self.key),
            archive_uuid: self.archive_uuid.as_bytes().to_vec().into(),
            part_number: self.number,
            recording_uuid: self.recording.recording_uuid.clone(),
            tape_file: self.end.tape_file,
            first_block,
            block_count: part.blocks,
            byte_count: part.bytes,
            first_sequence: part.first.sequence,
            last_sequence: last.sequence,
            first_tar_offset: part.first.tar_offset,
            end_tar_offset: last.tar_end(),
            last: last.last,
            truncated: false,
            segment_table: part.table.encode().into(),
            next_tape_file: self.end.tape_file + 1,
            next_block,
        };
        self.predecessor = Some(Predecessor {
            volume: self.recording.barcode.clone(),
            tape_file: self.end.tape_file as u32,
            bytes: None,
        });
        self.end = End {
            tape_file: self.end.tape_file + 1,
            block: next_block,
        };
        part.records.finish(header).map_err(|e| {
            fault(
                "SPOOL_FULL",
                format!("the journal can't be written: {e}"),
                "make room in the tape agent's state folder and run again; the part on tape is found as an orphan",
            )
        })
    }

    /// Early warning, or what a failure means.
    fn outcome(&self, written: Result<Written, DriveError>) -> Result<bool, Fault> {
        match written {
            Ok(written) => Ok(written == Written::EarlyWarning),
            Err(error) => Err(of_drive(&error, "writing to", &self.recording.barcode)),
        }
    }

    /// Closes a part that will not be finished: it gets a filemark and is an orphan. Nothing is written unless the drive stands
    /// within this part, and nothing is said of one that can't be closed; the next mount finds it.
    pub fn abandon(mut self, reason: &str) -> Option<ReportOrphanRequest> {
        let part = self.open.take()?;
        if let Err(error) = part.records.discard() {
            tracing::warn!(%error, "the records of an abandoned part stay until the next start");
        }
        // After a reset the drive stands at the tape's beginning, and a filemark there would end everything.
        match self.drive.position() {
            Ok(torn) if torn.block == self.end.block && torn.partition == 0 => return None,
            Ok(torn)
                if torn.partition == 0
                    && (self.end.block..=self.end.block + part.blocks).contains(&torn.block) => {}
            Ok(elsewhere) => {
                tracing::warn!(
                    block = elsewhere.block,
                    "the drive does not stand in the part that was torn; the next mount finds it"
                );
                return None;
            }
            Err(error) => {
                tracing::warn!(%error, "the drive can't tell where the torn part ends; the next mount finds it");
                return None;
            }
        }
        let closed = self.drive.write_filemarks(1, Sync::Synchronous);
        let position = closed.and_then(|_| self.drive.position());
        match position {
            Ok(position) if position.block > self.end.block => Some(ReportOrphanRequest {
                key: None,
                recording_uuid: self.recording.recording_uuid.clone(),
                tape_file: self.end.tape_file,
                first_block: self.end.block,
                next_tape_file: self.end.tape_file + 1,
                next_block: position.block,
                reason: format!("part {} was not finished: {reason}", self.number),
            }),
            Ok(_) => None,
            Err(error) => {
                tracing::warn!(%error, "a torn tape file could not be closed; the next mount finds it");
                None
            }
        }
    }
}
