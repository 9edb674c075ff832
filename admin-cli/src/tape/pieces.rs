//! The segments of an archive in order, part by part, with word of what is missing between them. Runs beside the
//! unpacking, a few segments ahead.

use std::ops::Range;

use taf_format::resync::{Event, Expect, PartReader, Point};
use taf_format::segment::{self, Opened};
use uuid::Uuid;

use super::Error;
use super::medium::{Medium, Next};
use super::shelf::{Archive, Place, Shelf};

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
    /// The same part elsewhere.
    copies: Vec<PartPlan>,
}

impl Plan {
    /// For an archive on these cartridges.
    pub fn new(shelf: &Shelf, archive: &Archive) -> Self {
        let planned = |place: Place| {
            let part = shelf.part(place)?;
            Some(PartPlan {
                tape: place.tape,
                first_block: shelf.file(place).first_block,
                block_size: part.block_size,
                first: part.block0.as_ref().map(|_| part.first),
                copies: Vec::new(),
            })
        };
        let parts = archive.parts.iter().zip(&archive.copies);
        let parts = parts.filter_map(|(&place, copies)| {
            Some(PartPlan {
                copies: copies.iter().filter_map(|&copy| planned(copy)).collect(),
                ..planned(place)?
            })
        });
        Self {
            archive: archive.uuid,
            parts: parts.collect(),
        }
    }
}

/// Reads all of it. `give` says false when nobody wants more.
pub fn read(media: &mut [Medium], plan: &Plan, give: &mut dyn FnMut(Piece) -> bool) {
    let mut reading = Reading {
        media,
        archive: plan.archive,
        next: Point {
            sequence: 0,
            tar_offset: 0,
        },
        ended: false,
        reason: None,
        wanted: true,
        give,
    };
    if let Err(error) = reading.all(&plan.parts) {
        (reading.give)(Piece::Failed(error));
        return;
    }
    if reading.wanted && !reading.ended {
        let reason = reading
            .reason
            .unwrap_or_else(|| "the archive has no end on this tape; name the cartridges that it goes on with: --next".to_owned());
        (reading.give)(Piece::Lost(reading.next.tar_offset..u64::MAX, reason));
    }
}

struct Reading<'a> {
    media: &'a mut [Medium],
    archive: Uuid,
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
    fn all(&mut self, parts: &[PartPlan]) -> Result<(), Error> {
        for (index, part) in parts.iter().enumerate() {
            // A part that an error cut off counts up to where the next one begins.
            let end = parts.get(index + 1).and_then(|next| next.first);
            let before = index.checked_sub(1).and_then(|before| parts.get(before));
            let before = before.map_or(&[][..], |before| before.copies.as_slice());
            let copies: Vec<&PartPlan> = before.iter().chain(&part.copies).collect();
            self.part(part, &copies, end)?;
            if !self.wanted {
                return Ok(());
            }
        }
        if let Some(last) = parts.last()
            && !self.ended
            && self.reason.is_some()
        {
            let copies: Vec<&PartPlan> = last.copies.iter().collect();
            self.fill(&copies, u64::MAX)?;
        }
        Ok(())
    }

    fn reader(&mut self, part: &PartPlan, end: Option<Point>) -> Result<Option<PartReader>, Error> {
        let expect = Expect {
            archive_uuid: Some(self.archive),
            first: part.first,
            end,
        };
        // Block 0 was read before; behind it the segments begin.
        let there = self.media[part.tape].locate(part.first_block + 1)?;
        Ok(there.then(|| PartReader::new(expect, u64::from(part.block_size))))
    }

    /// Gives the reader of a part its next block; false if there is none.
    fn push(&mut self, part: &PartPlan, reader: &mut PartReader) -> Result<bool, Error> {
        match self.media[part.tape].read()? {
            Next::Block(block) => reader.push_block(block),
            Next::Unreadable => reader.lost_block(part.block_size),
            Next::Filemark | Next::End => {
                reader.finish();
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn part(
        &mut self,
        part: &PartPlan,
        copies: &[&PartPlan],
        end: Option<Point>,
    ) -> Result<(), Error> {
        let Some(mut reader) = self.reader(part, end)? else {
            let why = || "a part of the archive can't be reached".to_owned();
            self.reason.get_or_insert_with(why);
            return Ok(());
        };
        loop {
            let more = self.push(part, &mut reader)?;
            while let Some(event) = reader.next_event() {
                let Some(opened) = self.event(event) else {
                    continue;
                };
                if opened.header.sequence > self.next.sequence && !copies.is_empty() {
                    let at = self.media[part.tape].at();
                    self.fill(copies, opened.header.sequence)?;
                    if more && !self.media[part.tape].locate(at)? {
                        return Ok(());
                    }
                }
                self.take(opened);
            }
            if !more || !self.wanted {
                return Ok(());
            }
        }
    }

    /// Takes what is missing before a segment from other copies of the part, as far as they have it.
    fn fill(&mut self, copies: &[&PartPlan], before: u64) -> Result<(), Error> {
        for (number, copy) in (1..).zip(copies) {
            if self.next.sequence >= before || self.ended || !self.wanted {
                return Ok(());
            }
            // What this one lacks, too, may be on the next one.
            let patient = number < copies.len();
            self.fill_from(copy, before, patient)?;
        }
        Ok(())
    }

    fn fill_from(&mut self, copy: &PartPlan, before: u64, patient: bool) -> Result<(), Error> {
        let reason = self.reason.clone();
        let Some(mut reader) = self.reader(copy, None)? else {
            return Ok(());
        };
        let mut more = true;
        while more {
            more = self.push(copy, &mut reader)?;
            while let Some(event) = reader.next_event() {
                let Some(opened) = self.event(event) else {
                    continue;
                };
                let header = &opened.header;
                if header.sequence >= before || (patient && header.sequence > self.next.sequence) {
                    self.reason = self.reason.take().or(reason);
                    return Ok(());
                }
                self.take(opened);
                if !self.wanted || self.ended {
                    return Ok(());
                }
            }
        }
        self.reason = self.reason.take().or(reason);
        Ok(())
    }

    /// A whole segment that was not met yet. What is wrong is remembered.
    fn event(&mut self, event: Event) -> Option<Box<Opened>> {
        let found = match event {
            Event::Segment(found) => found,
            Event::Damaged(damage) => {
                self.reason.get_or_insert_with(|| damage.reason.to_string());
                return None;
            }
        };
        let opened = match segment::open(&found.bytes) {
            Ok(opened) => opened,
            Err(error) => {
                self.reason.get_or_insert_with(|| error.to_string());
                return None;
            }
        };
        let header = &opened.header;
        let met = header.sequence < self.next.sequence || header.tar_offset < self.next.tar_offset;
        (!met).then(|| Box::new(opened))
    }

    /// Gives a segment, and says what is missing before it.
    fn take(&mut self, opened: Box<Opened>) {
        let header = &opened.header;
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
        self.give(Piece::Segment(opened));
    }

    fn give(&mut self, piece: Piece) {
        self.wanted = self.wanted && (self.give)(piece);
    }
}
