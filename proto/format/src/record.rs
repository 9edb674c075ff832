//! Records: what the catalog needs to know of the tar bytes, carried on tape beside them.
//!
//! Owns the length-delimited form of one record and the skippable frame that holds a segment's records. Does
//! not know what the records mean, and keeps none that it cannot read back.

use bytes::Bytes;
use prost::Message;
pub use taf_proto::tape::{
    Dictionary, Entry, Kind, Page, Record, Tombstone, record::Record as Body,
};

use crate::{frame, limits, varint};

/// Bytes of a records frame before its first record.
pub const FRAME_HEAD: usize = 32;

/// What can be wrong with records.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A record is larger than the format allows.
    #[error(
        "a record of {length} bytes is over the format's {} bytes; it cannot be kept",
        limits::RECORD
    )]
    TooLarge {
        /// Its encoded length, or what the tape claims.
        length: u64,
    },
    /// The records end inside one.
    #[error(
        "the records end in the middle of one; read the other copy of this segment if there is one"
    )]
    Cut,
    /// A record is not the protobuf message it must be.
    #[error("a record cannot be decoded: {0}")]
    Malformed(String),
    /// The frame around the records is not one.
    #[error("the records frame is damaged: {0}")]
    Frame(&'static str),
}

/// Appends `record`, length first, to `out`.
pub fn encode(record: &Record, out: &mut Vec<u8>) -> Result<(), Error> {
    let length = record.encoded_len();
    if length > limits::RECORD {
        return Err(Error::TooLarge {
            length: length as u64,
        });
    }
    out.reserve(length + 5);
    varint::put(out, length as u64);
    record.encode_raw(out);
    Ok(())
}

/// The records in `bytes`, which [`crate::segment::open`] gave. After an error it ends. A record whose `record`
/// is `None` is of a kind that a later version wrote; step over it.
pub fn iter(bytes: &[u8]) -> Iter<'_> {
    Iter { rest: bytes }
}

/// See [`iter`].
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    rest: &'a [u8],
}

impl Iter<'_> {
    fn take(&mut self) -> Result<Record, Error> {
        let length = varint::take(&mut self.rest).ok_or(Error::Cut)?;
        if length > limits::RECORD as u64 {
            return Err(Error::TooLarge { length });
        }
        let (record, rest) = self
            .rest
            .split_at_checked(length as usize)
            .ok_or(Error::Cut)?;
        self.rest = rest;
        Record::decode(record).map_err(|error| Error::Malformed(error.to_string()))
    }
}

impl Iterator for Iter<'_> {
    type Item = Result<Record, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let record = self.take();
        if record.is_err() {
            self.rest = &[];
        }
        Some(record)
    }
}

impl std::iter::FusedIterator for Iter<'_> {}

/// Appends the frame that holds `records`, the output of `count` calls of [`encode`].
pub(crate) fn frame_into(records: &[u8], count: u32, out: &mut Vec<u8>) {
    debug_assert!(records.len() <= limits::RECORDS);
    let start = out.len();
    out.extend_from_slice(&frame::prefix(
        (FRAME_HEAD - frame::PREFIX + records.len()) as u32,
    ));
    out.extend_from_slice(&frame::RECORDS);
    out.extend_from_slice(&0_u32.to_le_bytes()); // coding: 0 is plain, others are reserved
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(&0_u32.to_le_bytes()); // reserved
    let crc = crc32c::crc32c_append(crc32c::crc32c(&out[start..]), records);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(records);
}

/// The records inside `bytes`, which must be exactly one records frame.
pub(crate) fn unframe(bytes: &[u8]) -> Result<&[u8], Error> {
    if bytes.len() < FRAME_HEAD || bytes.len() > FRAME_HEAD + limits::RECORDS {
        return Err(Error::Frame("its length is impossible"));
    }
    if frame::payload_length(bytes) != Some((bytes.len() - frame::PREFIX) as u32)
        || bytes[8..16] != frame::RECORDS
    {
        return Err(Error::Frame("it does not begin as one"));
    }
    let records = &bytes[FRAME_HEAD..];
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..FRAME_HEAD - 4]), records);
    if crc != frame::u32_at(bytes, FRAME_HEAD - 4) {
        return Err(Error::Frame("its checksum differs"));
    }
    if frame::u32_at(bytes, 16) != 0 {
        return Err(Error::Frame(
            "it is coded in a way this version does not know",
        ));
    }
    Ok(records)
}

/// Wraps one kind of record.
pub fn entry(entry: Entry) -> Record {
    Record {
        record: Some(Body::Entry(entry)),
    }
}

/// Wraps one kind of record.
pub fn page(page: Page) -> Record {
    Record {
        record: Some(Body::Page(page)),
    }
}

/// Wraps one kind of record; `chunk` is the key that is gone.
pub fn tombstone(chunk: impl Into<Bytes>) -> Record {
    Record {
        record: Some(Body::Tombstone(Tombstone {
            chunk: chunk.into(),
        })),
    }
}

/// Wraps one kind of record.
pub fn dictionary(dictionary: Dictionary) -> Record {
    Record {
        record: Some(Body::Dictionary(dictionary)),
    }
}
