//! The segments of an archive in order, part by part, with word of what is missing between them. Runs beside the
//! unpacking, a few segments ahead.

use std::ops::Range;

use taf_format::resync::{Event, Expect, PartReader, Point};
use taf_format::segment::{self, Opened};
use uuid::Uuid;

use super::Error;
use super::medium::{Medium, Next};
use super::shelf::{Archive, Shelf};

/// What comes next of an archive.
#[derive(Debug)]
pub enum Piece {
    /// A segment, whole and unpacked.
    Segment(Box<Opened>),
    /// Bytes of the tar stream that are lost; the end is `u64::MAX` if nothing comes behind.
    Lost(Range<u64>, String),
    /// Nothing more can be read at all.
    Failed(Error),
}

/// What is needed to read a part.
#[derive(Debug, Clone)]
pub struct Plan {
    archive: Uuid,
    parts: Vec<PartPlan>,
}

#[derive(Debug, Clone)]
struct PartPlan {
    /// The cartridge that it is on.
    tape: usize,
    first_block: u64,
    block_size: u32,
    /// Where it begins, if its first block says so.
    first: Option<Point>,
}

impl Plan {
    /// For an archive on these cartridges.
    pub fn new(shelf: &Shelf, archive: &Archive) -> Self {
        let parts = archive
            .parts
            .iter()
            .filter_map(|&place| {
                let part = shelf.part(place)?;
                Some(PartPlan {
                    tape: place.tape,
                    first_block: shelf.file(place).first_block,
                    block_size: part.block_size,
                    first: part.block0.as_ref().map(|_| part.first),
                })
            })
            .collect();
        Self {
            archive: archive.uuid,
            parts,
        }
    }
}

/// Reads all of it. `give` says false when nobody wants more.
pub fn read(media: &mut [Medium], plan: &Plan, give: &mut dyn FnMut(Piece) -> bool) {
    let mut reading = Reading {
        next: Point {
            sequence: 0,
            tar_offset: 0,
        },
        ended: false,
        reason: None,
        wanted: true,
        give,
    };
    for (index, part) in plan.parts.iter().enumerate() {
        // A part that an error cut off counts up to where the next one begins.
        let end = plan.parts.get(index + 1).and_then(|next| next.first);
        if let Err(error) = reading.part(&mut media[part.tape], plan.archive, part, end) {
            (reading.give)(Piece::Failed(error));
            return;
        }
        if !reading.wanted {
            return;
        }
    }
    if !reading.ended {
        let reason = reading
            .reason
            .unwrap_or_else(|| "the archive has no end on this tape; name the cartridges that it goes on with: --next".to_owned());
        (reading.give)(Piece::Lost(reading.next.tar_offset..u64::MAX, reason));
    }
}

struct Reading<'a> {
    /// Where the next segment must begin.
    next: Point,
    /// The archive's last segment was there.
    ended: bool,
    /// What was found wrong since the last whole segment.
    reason: Option<String>,
    wanted: bool,
    give: &'a mut dyn FnMut(Piece) -> bool,
}

impl Reading<'_> {
    fn part(
        &mut self,
        medium: &mut Medium,
        archive: Uuid,
        part: &PartPlan,
        end: Option<Point>,
    ) -> Result<(), Error> {
        let expect = Expect {
            archive_uuid: Some(archive),
            first: part.first,
            end,
        };
        let mut reader = PartReader::new(expect, u64::from(part.block_size));
        // Block 0 was read before; behind it the segments begin.
        if !medium.locate(part.first_block + 1)? {
            return Ok(());
        }
        loop {
            let more = match medium.read()? {
                Next::Block(block) => {
                    reader.push_block(block);
                    true
                }
                Next::Unreadable => {
                    reader.lost_block(part.block_size);
                    true
                }
                Next::Filemark | Next::End => {
                    reader.finish();
                    false
                }
            };
            while let Some(event) = reader.next_event() {
                self.event(event);
            }
            if !more || !self.wanted {
                return Ok(());
            }
        }
    }

    fn event(&mut self, event: Event) {
        let found = match event {
            Event::Segment(found) => found,
            Event::Damaged(damage) => {
                self.reason.get_or_insert_with(|| damage.reason.to_string());
                return;
            }
        };
        let opened = match segment::open(&found.bytes) {
            Ok(opened) => opened,
            Err(error) => {
                self.reason.get_or_insert_with(|| error.to_string());
                return;
            }
        };
        let header = &opened.header;
        if header.sequence < self.next.sequence || header.tar_offset < self.next.tar_offset {
            return;
        }
        if header.tar_offset > self.next.tar_offset {
            let reason = self
                .reason
                .take()
                .unwrap_or_else(|| "a part of the archive is not here".to_owned());
            self.give(Piece::Lost(self.next.tar_offset..header.tar_offset, reason));
        }
        self.reason = None;
        self.next = Point {
            sequence: header.sequence + 1,
            tar_offset: header.tar_end(),
        };
        self.ended = header.last;
        self.give(Piece::Segment(Box::new(opened)));
    }

    fn give(&mut self, piece: Piece) {
        self.wanted = self.wanted && (self.give)(piece);
    }
}
