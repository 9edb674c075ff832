//! A part that is being written: what the drive has of it, and what must be known to end it anywhere.

use bytes::Bytes;
use taf_format::part::Blocker;
use taf_format::segment::{Header, records};
use taf_format::table::SegmentTable;
use taf_proto::agent::{AssignmentKey, PartHeader, Recording};
use taf_proto::v1::Fault;
use uuid::Uuid;

use crate::append::End;
use crate::fault::{fault, protocol};
use crate::journal::{Entry, Records};
use crate::ring::Segment;

pub(super) struct Part {
    /// Its number in the archive.
    pub number: u32,
    pub table: SegmentTable,
    pub records: Records,
    /// Blocks that the drive has taken, block 0 included.
    pub blocks: u64,
    /// Of these so many are flushed.
    pub flushed: u64,
    /// Bytes, block 0 included, also of what waits for its block to fill.
    pub bytes: u64,
    block_size: u64,
    blocker: Option<Blocker>,
    first: Header,
    /// Header of the last segment.
    last: Option<Header>,
    /// For each segment, the bytes of records up to its end.
    records_ends: Vec<u64>,
}

impl Part {
    pub fn new(number: u32, first: &Header, block_size: u32, records: Records) -> Part {
        Part {
            number,
            table: SegmentTable::new(u64::from(block_size)),
            records,
            blocks: 0,
            flushed: 0,
            bytes: u64::from(block_size),
            block_size: u64::from(block_size),
            blocker: Some(Blocker::new(block_size)),
            first: first.clone(),
            last: None,
            records_ends: Vec::new(),
        }
    }

    /// Adds a segment. Gives the blocks that it fills.
    pub fn push(&mut self, segment: &Segment) -> Result<Vec<Bytes>, Fault> {
        let payload = records(&segment.bytes).map_err(protocol)?;
        self.table.push(&segment.header).map_err(protocol)?;
        let added = self.records.add(&payload);
        added.map_err(|e| no_room_for_records(&e))?;
        self.records_ends.push(self.records.length());
        self.bytes += segment.bytes.len() as u64;
        self.last = Some(segment.header.clone());
        Ok(self
            .blocker
            .as_mut()
            .map_or_else(Vec::new, |blocker| blocker.push(segment.bytes.clone())))
    }

    /// The last, short block, once.
    pub fn rest(&mut self) -> Option<Bytes> {
        self.blocker.take().and_then(Blocker::finish)
    }

    /// Sequence and tar offset of what follows its last segment.
    pub fn behind(&self) -> Option<(u64, u64)> {
        let last = self.last.as_ref()?;
        Some((last.sequence + 1, last.tar_end()))
    }

    /// Sequence of its first segment.
    pub fn first_sequence(&self) -> u64 {
        self.first.sequence
    }

    /// How many of its segments end within its first `blocks` blocks.
    pub fn whole_within(&self, blocks: u64) -> usize {
        let bytes = blocks.saturating_mul(self.block_size);
        let segments = self.table.segments();
        segments.partition_point(|segment| segment.byte_end() <= bytes)
    }

    /// Sequence of the last segment that ends within its first `blocks` blocks.
    pub fn ended_before(&self, blocks: u64) -> Option<u64> {
        let whole = self.whole_within(blocks).checked_sub(1)?;
        Some(self.table.segments()[whole].sequence)
    }

    /// Leaves the first `count` segments, at least one, as if the others had never come.
    pub fn cut(&mut self, count: usize) -> Result<(), Fault> {
        if count == self.table.len() {
            return Ok(());
        }
        let ends = self.records_ends.get(count.wrapping_sub(1));
        let end = *ends.ok_or_else(|| protocol("a part without segments"))?;
        self.table.truncate(count);
        let cut = self.records.cut(end);
        cut.map_err(|e| no_room_for_records(&e))?;
        self.records_ends.truncate(count);
        // The archive's last segment is only ever the last of a part.
        if let Some(last) = &mut self.last {
            last.last = false;
        }
        Ok(())
    }

    /// What the controller is to know of it, as far as the part itself knows. Of one that was torn counts what its table has.
    pub fn header(&self, truncated: bool) -> PartHeader {
        let segments = self.table.segments();
        let range = self.table.tar_range();
        PartHeader {
            part_number: self.number,
            block_count: self.blocks,
            byte_count: self.table.byte_end(),
            first_sequence: self.first.sequence,
            last_sequence: segments.last().map_or(0, |last| last.sequence),
            first_tar_offset: range.start,
            end_tar_offset: range.end,
            last: self.last.as_ref().is_some_and(|last| last.last),
            truncated,
            segment_table: self.table.encode().into(),
            ..PartHeader::default()
        }
    }

    /// It is on the medium, there. What the controller is to know of it is kept until that does; `tell` says what else.
    pub fn finish(
        self,
        truncated: bool,
        there: &Lying<'_>,
        tell: impl FnOnce(&mut PartHeader),
    ) -> Result<Entry, Fault> {
        let end = there.behind();
        let mut header = PartHeader {
            key: Some(there.key),
            archive_uuid: there.archive.as_bytes().to_vec().into(),
            recording_uuid: there.recording.recording_uuid.clone(),
            tape_file: there.begin.tape_file,
            first_block: there.begin.block,
            next_tape_file: end.tape_file,
            next_block: end.block,
            ..self.header(truncated)
        };
        tell(&mut header);
        self.records.finish(header).map_err(|e| {
            fault(
                "SPOOL_FULL",
                format!("the journal can't be written: {e}"),
                "make room in the tape agent's state folder and run again; the part on tape is found as an orphan",
            )
        })
    }
}

/// Where a part lies, and whose it is.
pub(super) struct Lying<'a> {
    pub key: AssignmentKey,
    pub archive: Uuid,
    pub recording: &'a Recording,
    /// Its first block.
    pub begin: End,
    /// The block behind its filemark.
    pub next_block: u64,
}

impl Lying<'_> {
    /// Where the volume goes on.
    pub fn behind(&self) -> End {
        End {
            tape_file: self.begin.tape_file + 1,
            block: self.next_block,
        }
    }
}

pub(super) fn no_room_for_records(error: &std::io::Error) -> Fault {
    fault(
        "SPOOL_FULL",
        format!("the records of a part can't be kept: {error}"),
        "make room in the tape agent's state folder and run again",
    )
}
