//! Reads the blocks of a part back into segments, and finds its way again after damage.
//!
//! [`PartReader`] is given a part's blocks behind block 0, in order, with word of those that could not be read.
//! It gives each segment that is whole, proved by its checksums, and for all else the byte range, the reason and
//! what is missing. A damaged, dropped, doubled or foreign block costs the segments it touches and no other. It
//! holds at most one segment and one block. It does not decompress: [`crate::segment::open`] does, in parallel.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};
use uuid::Uuid;

use crate::segment::{self, Header, START};

/// What is known of the part beforehand, from block 0, the catalog, or nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Expect {
    /// The archive. Without it the first whole segment decides.
    pub archive_uuid: Option<Uuid>,
    /// Sequence and tar offset of the part's first segment. Without it, what is missing before the first whole
    /// segment cannot be said.
    pub first: Option<Point>,
    /// Sequence and tar offset of what follows the part's last segment. Without it, segments that are missing
    /// behind the last whole one are reported without end, and only if there is other evidence of damage.
    pub end: Option<Point>,
}

/// A boundary between segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// Sequence of the segment that begins here.
    pub sequence: u64,
    /// Offset in the archive's tar stream.
    pub tar_offset: u64,
}

/// What the reader found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A whole segment.
    Segment(Found),
    /// Something is wrong between the segments before and after.
    Damaged(Damage),
}

/// A whole segment, its stored bytes proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its header.
    pub header: Header,
    /// All its bytes, for [`crate::segment::open`].
    pub bytes: Bytes,
    /// Bytes from the part's first byte, block 0 included, to its header, as read.
    pub byte_offset: u64,
}

/// A place where the part is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The bytes of the part, as read, that belong to no whole segment; empty where something was left out.
    pub bytes: Range<u64>,
    /// What showed it first.
    pub reason: Reason,
    /// The segments that are missing here; empty when only too much was read. The end is `u64::MAX` where the
    /// part's end is damaged and not known beforehand.
    pub sequences: Range<u64>,
    /// The part of the archive's tar stream that is missing here, with the same remark.
    pub tar: Range<u64>,
}

/// What showed a damage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// A block could not be read.
    Unreadable,
    /// There is no segment header where one must be.
    Header,
    /// A segment's stored bytes differ from what was written.
    Checksum,
    /// A segment of another archive: an old or foreign block.
    Foreign(Uuid),
    /// A segment that was there before: a doubled block.
    Repeated(u64),
    /// A segment's offset contradicts its sequence.
    Inconsistent,
    /// Whole segments are left out.
    Missing,
    /// The part ends within a segment.
    Cut,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreadable => f.write_str("a block could not be read"),
            Self::Header => f.write_str("no segment header where one must be"),
            Self::Checksum => f.write_str("the checksum of a segment differs"),
            Self::Foreign(archive) => write!(f, "a block of another archive ({archive})"),
            Self::Repeated(sequence) => write!(f, "segment {sequence} appears again"),
            Self::Inconsistent => f.write_str("a segment's offset contradicts its number"),
            Self::Missing => f.write_str("segments are left out"),
            Self::Cut => f.write_str("the part ends within a segment"),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct PartReader {
    archive: Option<Uuid>,
    next: Option<Point>,
    end: Option<Point>,
    buffer: BytesMut,
    /// Byte offset in the part of the buffer's first byte.
    at: u64,
    damage: Option<(u64, Reason)>,
    events: VecDeque<Event>,
}

enum Step {
    Wait,
    Whole(Header),
    Bad(Reason),
}

impl PartReader {
    /// A reader of a part whose first segment begins `first_byte` bytes from its first byte: the block size.
    pub fn new(expect: Expect, first_byte: u64) -> Self {
        Self {
            archive: expect.archive_uuid,
            next: expect.first,
            end: expect.end,
            buffer: BytesMut::new(),
            at: first_byte,
            damage: None,
            events: VecDeque::new(),
        }
    }

    /// Gives the next block.
    pub fn push_block(&mut self, block: &[u8]) {
        self.buffer.extend_from_slice(block);
        self.advance(None);
    }

    /// Says that the next block, of `length` bytes (the block size), could not be read.
    pub fn lost_block(&mut self, length: u32) {
        self.advance(Some(&Reason::Unreadable));
        self.begin_damage(Reason::Unreadable);
        self.at += u64::from(length);
    }

    /// Says that the part has ended. Take the remaining events afterwards.
    pub fn finish(&mut self) {
        self.advance(Some(&Reason::Cut));
        let known = self.next.zip(self.end);
        if let Some((next, end)) = known
            && next.sequence < end.sequence
        {
            self.begin_damage(Reason::Missing);
        }
        self.end_damage(self.end, u64::MAX);
    }

    /// The next event, in the order of the part. Take them all after each call of the others.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Works off the buffer. `run_end` says why no byte will follow the buffer's last directly.
    fn advance(&mut self, run_end: Option<&Reason>) {
        while !self.buffer.is_empty() {
            match self.step(run_end) {
                Step::Wait => return,
                Step::Whole(header) => self.accept(header),
                Step::Bad(reason) => {
                    self.begin_damage(reason);
                    self.skip_to_header(run_end.is_some());
                }
            }
        }
    }

    fn step(&self, run_end: Option<&Reason>) -> Step {
        let wait = || run_end.map_or(Step::Wait, |reason| Step::Bad(reason.clone()));
        let header = match segment::peek(&self.buffer) {
            Ok(Some(header)) => header,
            Ok(None) => return wait(),
            Err(_) => return Step::Bad(Reason::Header),
        };
        if let Some(reason) = self.out_of_place(&header) {
            return Step::Bad(reason);
        }
        match self.buffer.get(..header.stored_total()) {
            None => wait(),
            Some(bytes) if segment::verify(bytes).is_ok() => Step::Whole(header),
            Some(_) => Step::Bad(Reason::Checksum),
        }
    }

    fn out_of_place(&self, header: &Header) -> Option<Reason> {
        if self.archive.is_some_and(|ours| ours != header.archive_uuid) {
            return Some(Reason::Foreign(header.archive_uuid));
        }
        if let Some(next) = self.next {
            if header.sequence < next.sequence {
                return Some(Reason::Repeated(header.sequence));
            }
            let consistent = if header.sequence == next.sequence {
                header.tar_offset == next.tar_offset
            } else {
                header.tar_offset >= next.tar_offset
            };
            if !consistent {
                return Some(Reason::Inconsistent);
            }
        }
        let beyond = self.end.is_some_and(|end| {
            header.sequence >= end.sequence || header.tar_end() > end.tar_offset
        });
        beyond.then_some(Reason::Inconsistent)
    }

    fn accept(&mut self, header: Header) {
        let here = Point {
            sequence: header.sequence,
            tar_offset: header.tar_offset,
        };
        if self.next.is_some_and(|next| next.sequence < here.sequence) {
            self.begin_damage(Reason::Missing);
        }
        self.end_damage(Some(here), here.sequence);
        self.archive = Some(header.archive_uuid);
        self.next = Some(Point {
            sequence: header.sequence + 1,
            tar_offset: header.tar_end(),
        });
        if header.last {
            // Nothing can be missing behind the archive's last segment.
            self.end = self.end.or(self.next);
        }
        let byte_offset = self.at;
        let bytes = self.buffer.split_to(header.stored_total()).freeze();
        self.at += bytes.len() as u64;
        self.events.push_back(Event::Segment(Found {
            header,
            bytes,
            byte_offset,
        }));
    }

    fn begin_damage(&mut self, reason: Reason) {
        self.damage.get_or_insert((self.at, reason));
    }

    /// Reports a damage under way: it ends here, and the archive goes on at `until`.
    fn end_damage(&mut self, until: Option<Point>, unknown: u64) {
        let Some((start, reason)) = self.damage.take() else {
            return;
        };
        let until = until.unwrap_or(Point {
            sequence: unknown,
            tar_offset: unknown,
        });
        let from = self.next.unwrap_or(until);
        self.events.push_back(Event::Damaged(Damage {
            bytes: start..self.at,
            reason,
            sequences: from.sequence..until.sequence,
            tar: from.tar_offset..until.tar_offset,
        }));
    }

    /// Drops at least one byte, up to the next thing that begins like a header.
    fn skip_to_header(&mut self, run_ends: bool) {
        let starts = segment::starts();
        let found = self.buffer[1..]
            .windows(START)
            .position(|window| starts.iter().any(|start| start == window));
        let skip = match found {
            Some(position) => 1 + position,
            None if run_ends => self.buffer.len(),
            // The end may be a header's beginning.
            None => (self.buffer.len() + 1).saturating_sub(START).max(1),
        };
        self.buffer.advance(skip);
        self.at += skip as u64;
    }
}
