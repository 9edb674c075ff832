//! What the records of an index say together.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;

use super::{
    Body, ClosingRecord, Damage, Error, Event, IndexEnd, IndexOrphan, IndexPart, IndexPartEnd,
    IndexPointer, IndexRecord, IndexVolume,
};
use crate::{limits, varint};

/// A record of an index, with what it is about.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// The recording.
    pub volume: Option<Arc<IndexVolume>>,
    /// The part, within one.
    pub part: Option<Arc<IndexPart>>,
    /// The record. [`Body::Volume`] and [`Body::Part`] come again in each piece that goes on with them.
    pub body: Body,
}

/// The records of one piece. After an error it ends.
pub fn items(records: &Bytes) -> Items {
    Items {
        rest: records.clone(),
        volume: None,
        part: None,
    }
}

/// See [`items`].
#[derive(Debug, Clone)]
pub struct Items {
    rest: Bytes,
    volume: Option<Arc<IndexVolume>>,
    part: Option<Arc<IndexPart>>,
}

impl Items {
    fn take(&mut self) -> Result<Option<Item>, Error> {
        let mut bytes = &self.rest[..];
        let length = varint::take(&mut bytes)
            .ok_or_else(|| Error::Malformed("it has no length".to_owned()))?;
        if length > limits::RECORD as u64 {
            return Err(Error::Record { length });
        }
        let head = self.rest.len() - bytes.len();
        if bytes.len() < length as usize {
            return Err(Error::Malformed("it is cut short".to_owned()));
        }
        let record = self.rest.slice(head..head + length as usize);
        self.rest = self.rest.slice(head + length as usize..);
        let record =
            IndexRecord::decode(record).map_err(|error| Error::Malformed(error.to_string()))?;
        // Of a kind that a later version wrote.
        let Some(body) = record.record else {
            return Ok(None);
        };
        match &body {
            Body::Volume(volume) => {
                self.volume = Some(Arc::new(volume.clone()));
                self.part = None;
            }
            Body::Part(part) => self.part = Some(Arc::new(part.clone())),
            _ => {}
        }
        let item = Item {
            volume: self.volume.clone(),
            part: self.part.clone(),
            body,
        };
        if matches!(item.body, Body::PartEnd(_)) {
            self.part = None;
        }
        Ok(Some(item))
    }
}

impl Iterator for Items {
    type Item = Result<Item, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            match self.take() {
                Ok(None) => {}
                Ok(Some(item)) => return Some(Ok(item)),
                Err(error) => {
                    self.rest = Bytes::new();
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

impl std::iter::FusedIterator for Items {}

/// What an index holds: everything but the pages. Give it all events of a [`super::Reader`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Summary {
    /// By uuid.
    pub recordings: BTreeMap<Bytes, RecordingSummary>,
    /// Closing records.
    pub closings: Vec<ClosingRecord>,
    /// What it says that it holds; none if its end is missing.
    pub end: Option<IndexEnd>,
    /// Where it is damaged.
    pub damages: Vec<Damage>,
    /// Why records of it can't be decoded although their checksum holds.
    pub undecodable: Vec<Error>,
}

/// What an index holds about one recording.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RecordingSummary {
    /// The recording.
    pub volume: IndexVolume,
    /// By tape file.
    pub parts: BTreeMap<u64, CoveredPart>,
    /// Parts whose records no index has.
    pub uncovered: Vec<IndexPart>,
    /// Tape files that nobody owns.
    pub orphans: Vec<IndexOrphan>,
    /// Earlier indexes.
    pub earlier: Vec<IndexPointer>,
}

/// A part whose records are in the index.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CoveredPart {
    /// The part.
    pub part: IndexPart,
    /// What was found.
    pub found: IndexPartEnd,
    /// What there must be; none if the end of its records is missing.
    pub expected: Option<IndexPartEnd>,
}

impl CoveredPart {
    /// Whether all its records are there. If not, only the part itself says all.
    pub fn is_whole(&self) -> bool {
        self.expected == Some(self.found)
    }
}

impl Summary {
    /// Takes what was found.
    pub fn take(&mut self, event: &Event) {
        match event {
            Event::Damaged(damage) => self.damages.push(damage.clone()),
            Event::Piece(piece) => {
                for item in items(&piece.records) {
                    match item {
                        Ok(item) => self.item(item),
                        Err(error) => self.undecodable.push(error),
                    }
                }
            }
        }
    }

    /// Whether nothing is missing: it has its end, no damage, and all that its parts and its end say.
    pub fn is_whole(&self) -> bool {
        let parts = || self.recordings.values().flat_map(|r| r.parts.values());
        let uncovered: usize = self.recordings.values().map(|r| r.uncovered.len()).sum();
        self.damages.is_empty()
            && self.undecodable.is_empty()
            && parts().all(CoveredPart::is_whole)
            && self.end
                == Some(IndexEnd {
                    part_count: parts().count() as u64,
                    uncovered_count: uncovered as u64,
                    closing_count: self.closings.len() as u64,
                })
    }

    fn item(&mut self, item: Item) {
        match item.body {
            Body::Closing(bytes) => match ClosingRecord::decode(bytes) {
                Ok(closing) => self.closings.push(closing),
                Err(error) => self.undecodable.push(Error::Malformed(error.to_string())),
            },
            Body::End(end) => self.end = Some(end),
            Body::Text(_) => {}
            body => {
                let Some(volume) = item.volume else {
                    let why = "it does not say what it is about".to_owned();
                    self.undecodable.push(Error::Malformed(why));
                    return;
                };
                let recording = self
                    .recordings
                    .entry(volume.recording_uuid.clone())
                    .or_default();
                recording.volume = (*volume).clone();
                recording.item(body, item.part.as_deref());
            }
        }
    }
}

impl RecordingSummary {
    fn item(&mut self, body: Body, part: Option<&IndexPart>) {
        let body = match body {
            Body::Uncovered(part) => return self.uncovered.push(part),
            Body::Orphan(orphan) => return self.orphans.push(orphan),
            Body::Earlier(pointer) => return self.earlier.push(pointer),
            other => other,
        };
        let Some(part) = part else { return };
        let covered = self.parts.entry(part.tape_file).or_default();
        if covered.part != *part {
            covered.part = part.clone();
        }
        match body {
            Body::Table(bytes) => covered.found.table_byte_count += bytes.len() as u64,
            Body::Page(_) => covered.found.page_count += 1,
            Body::Tombstone(_) => covered.found.tombstone_count += 1,
            Body::Dictionary(_) => covered.found.dictionary_count += 1,
            Body::PartEnd(end) => covered.expected = Some(end),
            _ => {}
        }
    }
}
