//! Makes an index, piece by piece; holds one piece and no more.

use std::collections::VecDeque;

use bytes::Bytes;
use prost::Message as _;
use uuid::Uuid;

use super::piece::{PIECE_HEAD, PieceHead};
use super::{
    Body, Error, IndexEnd, IndexOrphan, IndexPart, IndexPartEnd, IndexPointer, IndexRecord,
    IndexVolume,
};
use crate::{limits, record, varint};

/// Bytes of a segment table in one record.
const TABLE_PIECE: usize = 256 << 10;

/// See the module. After each call take what is [`ready`](Self::ready).
#[derive(Debug)]
pub struct Writer {
    index_uuid: Uuid,
    number: u32,
    /// The open piece: room for its head, then its records.
    open: Vec<u8>,
    record_count: u32,
    volume: Option<IndexVolume>,
    part: Option<(IndexPart, IndexPartEnd)>,
    end: IndexEnd,
    ready: VecDeque<Bytes>,
}

impl Writer {
    /// An index without records.
    pub fn new(index_uuid: Uuid) -> Self {
        Self {
            index_uuid,
            number: 0,
            open: vec![0; PIECE_HEAD],
            record_count: 0,
            volume: None,
            part: None,
            end: IndexEnd::default(),
            ready: VecDeque::new(),
        }
    }

    /// What follows is about this recording.
    pub fn volume(&mut self, volume: IndexVolume) -> Result<(), Error> {
        if self.part.is_some() {
            return Err(Error::Order("a recording within a part"));
        }
        // So that a new piece does not begin with the one before.
        self.volume = None;
        self.put(Body::Volume(volume.clone()))?;
        self.volume = Some(volume);
        Ok(())
    }

    /// What follows is of this part.
    pub fn part(&mut self, part: IndexPart) -> Result<(), Error> {
        self.of_a_recording(true)?;
        self.put(Body::Part(part.clone()))?;
        self.part = Some((part, IndexPartEnd::default()));
        Ok(())
    }

    /// The part's segment table.
    pub fn table(&mut self, table: &[u8]) -> Result<(), Error> {
        for piece in table.chunks(TABLE_PIECE) {
            self.counted(|end| end.table_byte_count += piece.len() as u64)?;
            self.put(Body::Table(Bytes::copy_from_slice(piece)))?;
        }
        Ok(())
    }

    /// A record of the part. Entries are left out: pages say the same.
    pub fn record(&mut self, body: record::Body) -> Result<(), Error> {
        let body = match body {
            record::Body::Page(page) => {
                self.counted(|end| end.page_count += 1)?;
                Body::Page(page)
            }
            record::Body::Tombstone(tombstone) => {
                self.counted(|end| end.tombstone_count += 1)?;
                Body::Tombstone(tombstone)
            }
            record::Body::Dictionary(dictionary) => {
                self.counted(|end| end.dictionary_count += 1)?;
                Body::Dictionary(dictionary)
            }
            record::Body::Entry(_) => return Ok(()),
        };
        self.put(body)
    }

    /// The part has no more records.
    pub fn part_end(&mut self) -> Result<(), Error> {
        let end = match &self.part {
            Some((_, end)) => *end,
            None => return Err(Error::Order("the end of a part without its beginning")),
        };
        self.put(Body::PartEnd(end))?;
        self.part = None;
        self.end.part_count += 1;
        Ok(())
    }

    /// A part whose records are not there.
    pub fn uncovered(&mut self, part: IndexPart) -> Result<(), Error> {
        self.of_a_recording(true)?;
        self.end.uncovered_count += 1;
        self.put(Body::Uncovered(part))
    }

    /// A tape file that nobody owns.
    pub fn orphan(&mut self, orphan: IndexOrphan) -> Result<(), Error> {
        self.of_a_recording(true)?;
        self.put(Body::Orphan(orphan))
    }

    /// An earlier index of the recording.
    pub fn earlier(&mut self, pointer: IndexPointer) -> Result<(), Error> {
        self.of_a_recording(true)?;
        self.put(Body::Earlier(pointer))
    }

    /// An encoded closing record.
    pub fn closing(&mut self, closing: Bytes) -> Result<(), Error> {
        self.of_a_recording(false)?;
        self.end.closing_count += 1;
        self.put(Body::Closing(closing))
    }

    /// A line for people; "INDEX: " comes before it.
    pub fn text(&mut self, line: &str) -> Result<(), Error> {
        let line = crate::text::escape(line);
        self.put(Body::Text(format!("INDEX: {line}\n")))
    }

    /// The next finished piece.
    pub fn ready(&mut self) -> Option<Bytes> {
        self.ready.pop_front()
    }

    /// What the index holds so far.
    pub fn counts(&self) -> IndexEnd {
        self.end
    }

    /// Ends the index and gives the pieces that were not taken yet.
    pub fn finish(mut self) -> Result<Vec<Bytes>, Error> {
        self.of_a_recording(false)?;
        self.put(Body::End(self.end))?;
        self.seal(true);
        Ok(self.ready.into())
    }

    fn of_a_recording(&self, needed: bool) -> Result<(), Error> {
        if self.part.is_some() {
            return Err(Error::Order("this within a part"));
        }
        if needed && self.volume.is_none() {
            return Err(Error::Order("this without a recording"));
        }
        Ok(())
    }

    fn counted(&mut self, count: impl FnOnce(&mut IndexPartEnd)) -> Result<(), Error> {
        match &mut self.part {
            Some((_, end)) => {
                count(end);
                Ok(())
            }
            None => Err(Error::Order("a record without its part")),
        }
    }

    fn put(&mut self, body: Body) -> Result<(), Error> {
        if self.open.len() >= PIECE_HEAD + limits::INDEX_PIECE {
            self.seal(false);
            // A piece is understood alone.
            if let Some(volume) = self.volume.clone() {
                self.append(Body::Volume(volume))?;
            }
            if let Some((part, _)) = self.part.clone() {
                self.append(Body::Part(part))?;
            }
        }
        self.append(body)
    }

    fn append(&mut self, body: Body) -> Result<(), Error> {
        let record = IndexRecord { record: Some(body) };
        let length = record.encoded_len();
        if length > limits::RECORD {
            return Err(Error::Record {
                length: length as u64,
            });
        }
        varint::put(&mut self.open, length as u64);
        record.encode_raw(&mut self.open);
        self.record_count += 1;
        Ok(())
    }

    fn seal(&mut self, last: bool) {
        let mut piece = std::mem::replace(&mut self.open, vec![0; PIECE_HEAD]);
        let head = PieceHead {
            index_uuid: self.index_uuid,
            number: self.number,
            last,
            record_count: self.record_count,
            length: (piece.len() - PIECE_HEAD) as u32,
            crc: crc32c::crc32c(&piece[PIECE_HEAD..]),
        };
        piece[..PIECE_HEAD].copy_from_slice(&head.encode());
        self.number += 1;
        self.record_count = 0;
        self.ready.push_back(piece.into());
    }
}
