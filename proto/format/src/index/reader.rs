//! Reads the blocks of an index back into pieces, and finds its way again after damage, as [`crate::resync`] does for
//! parts. Holds at most one piece and one block.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};
use uuid::Uuid;

use super::piece::{PIECE_HEAD, PieceHead};
use crate::frame;

/// What the reader found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A whole piece.
    Piece(Piece),
    /// Something is wrong between the pieces before and after.
    Damaged(Damage),
}

/// A whole piece, its bytes proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The index.
    pub index_uuid: Uuid,
    /// Its number in the index, from 0.
    pub number: u32,
    /// Whether the index ends with it.
    pub last: bool,
    /// Its records, for [`super::items`].
    pub records: Bytes,
    /// Bytes from the index's first byte to its head, as read.
    pub byte_offset: u64,
}

/// A place where the index is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The bytes of the index, as read, that belong to no whole piece; empty where something was left out.
    pub bytes: Range<u64>,
    /// What showed it first.
    pub reason: Reason,
    /// The pieces that are missing here. The end is `u32::MAX` where the index's end is damaged.
    pub pieces: Range<u32>,
}

/// What showed a damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// A block could not be read.
    Unreadable,
    /// There is no piece where one must be.
    Head,
    /// A piece's bytes differ from what was written.
    Checksum,
    /// A piece of another index: an old or foreign block.
    Foreign(Uuid),
    /// A piece that was there before, or one behind the last.
    Repeated,
    /// Whole pieces are left out.
    Missing,
    /// The index ends within a piece, or before its last.
    Cut,
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "a block could not be read",
            Self::Head => "no piece where one must be",
            Self::Checksum => "the checksum of a piece differs",
            Self::Foreign(index) => return write!(f, "a block of another index ({index})"),
            Self::Repeated => "a piece appears again",
            Self::Missing => "pieces are left out",
            Self::Cut => "the index ends before its last piece",
        })
    }
}

/// See the module.
#[derive(Debug)]
pub struct Reader {
    index: Option<Uuid>,
    next: u32,
    ended: bool,
    buffer: BytesMut,
    /// Byte offset in the index of the buffer's first byte.
    at: u64,
    damage: Option<(u64, Reason)>,
    events: VecDeque<Event>,
}

enum Step {
    Wait,
    Whole(PieceHead),
    Bad(Reason),
}

impl Reader {
    /// A reader of an index whose first piece begins `first_byte` bytes from its first byte: the block size. Without the
    /// uuid, of its first block, the first whole piece decides.
    pub fn new(index_uuid: Option<Uuid>, first_byte: u64) -> Self {
        Self {
            index: index_uuid,
            next: 0,
            ended: false,
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
        self.advance(Some(Reason::Unreadable));
        self.begin_damage(Reason::Unreadable);
        self.at += u64::from(length);
    }

    /// Says that the tape file has ended. Take the remaining events afterwards.
    pub fn finish(&mut self) {
        self.advance(Some(Reason::Cut));
        if !self.ended {
            self.begin_damage(Reason::Cut);
        }
        let until = if self.ended { self.next } else { u32::MAX };
        self.end_damage(until);
    }

    /// The next event, in the order of the index. Take them all after each call of the others.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Works off the buffer. `run_end` says why no byte will follow the buffer's last directly.
    fn advance(&mut self, run_end: Option<Reason>) {
        while !self.buffer.is_empty() {
            match self.step(run_end) {
                Step::Wait => return,
                Step::Whole(head) => self.accept(&head),
                Step::Bad(reason) => {
                    self.begin_damage(reason);
                    self.skip_to_head(run_end.is_some());
                }
            }
        }
    }

    fn step(&self, run_end: Option<Reason>) -> Step {
        let wait = || run_end.map_or(Step::Wait, Step::Bad);
        let Some(bytes) = self.buffer.first_chunk::<PIECE_HEAD>() else {
            return wait();
        };
        let Ok(head) = PieceHead::decode(bytes) else {
            return Step::Bad(Reason::Head);
        };
        if self.index.is_some_and(|ours| ours != head.index_uuid) {
            return Step::Bad(Reason::Foreign(head.index_uuid));
        }
        if head.number < self.next || self.ended {
            return Step::Bad(Reason::Repeated);
        }
        match self.buffer.get(PIECE_HEAD..head.total()) {
            None => wait(),
            Some(records) if crc32c::crc32c(records) == head.crc => Step::Whole(head),
            Some(_) => Step::Bad(Reason::Checksum),
        }
    }

    fn accept(&mut self, head: &PieceHead) {
        if head.number > self.next {
            self.begin_damage(Reason::Missing);
        }
        self.end_damage(head.number);
        self.index = Some(head.index_uuid);
        self.next = head.number.saturating_add(1);
        self.ended = head.last;
        let byte_offset = self.at;
        let bytes = self.buffer.split_to(head.total()).freeze();
        self.at += bytes.len() as u64;
        self.events.push_back(Event::Piece(Piece {
            index_uuid: head.index_uuid,
            number: head.number,
            last: head.last,
            records: bytes.slice(PIECE_HEAD..),
            byte_offset,
        }));
    }

    fn begin_damage(&mut self, reason: Reason) {
        self.damage.get_or_insert((self.at, reason));
    }

    /// Reports a damage under way: the index goes on with piece `until`.
    fn end_damage(&mut self, until: u32) {
        if let Some((start, reason)) = self.damage.take() {
            self.events.push_back(Event::Damaged(Damage {
                bytes: start..self.at,
                reason,
                pieces: self.next..until.max(self.next),
            }));
        }
    }

    /// Drops at least one byte, up to the next thing that begins like a piece.
    fn skip_to_head(&mut self, run_ends: bool) {
        let magic = frame::SKIPPABLE.to_le_bytes();
        let begins = |window: &[u8]| window[..4] == magic && window[8..] == frame::INDEX;
        let found = self.buffer[1..].windows(16).position(begins);
        let skip = match found {
            Some(position) => 1 + position,
            None if run_ends => self.buffer.len(),
            // The end may be a head's beginning.
            None => (self.buffer.len() + 1).saturating_sub(16).max(1),
        };
        self.buffer.advance(skip);
        self.at += skip as u64;
    }
}
