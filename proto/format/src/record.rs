//! Records: what the catalog needs to know of the tar bytes, carried on tape beside them.
//!
//! Owns the length-delimited form of one record and what is before a segment's records in their cover. Does
//! not know what the records mean, and keeps none that it cannot read back.

use std::borrow::Cow;

use bytes::Bytes;
use prost::Message;
pub use taf_proto::tape::{
    Dictionary, Entry, Kind, Page, Record, Tombstone, record::Record as Body,
};

use crate::segment::coding::Coding;
use crate::{frame, limits, varint};

/// Bytes before the first record of a segment, their cover's not counted.
pub(crate) const HEAD: usize = 24;
/// Of these the last four.
const CHECKSUM: usize = HEAD - 4;

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
    /// What is around the records is not as it must be.
    #[error("the frame of a segment's records is damaged: {0}")]
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

/// Appends `records`, the output of `count` calls of [`encode`], with their head, in covers.
pub(crate) fn cover_into(coding: &dyn Coding, records: &[u8], count: u32, out: &mut Vec<u8>) {
    debug_assert!(records.len() <= limits::RECORDS);
    let mut head = [0; HEAD];
    head[..8].copy_from_slice(&frame::RECORDS);
    // 8: coding; 0 is plain, others are reserved. 16: reserved.
    head[12..16].copy_from_slice(&count.to_le_bytes());
    let crc = checksum(coding, &head, records);
    head[CHECKSUM..].copy_from_slice(&crc.to_le_bytes());
    out.reserve_exact(coding.covered_length(HEAD + records.len()));
    coding.cover(&head, records, out);
}

/// The records inside `bytes`, which must be exactly their covers.
pub(crate) fn uncover<'a>(coding: &dyn Coding, bytes: &'a [u8]) -> Result<Cow<'a, [u8]>, Error> {
    if bytes.len() > coding.covered_length(HEAD + limits::RECORDS) {
        return Err(Error::Frame("its length is impossible"));
    }
    let covered = coding
        .uncover(bytes)
        .ok_or(Error::Frame("it does not begin and end as one"))?;
    let (head, records) = covered
        .split_first_chunk::<HEAD>()
        .ok_or(Error::Frame("its length is impossible"))?;
    if head[..8] != frame::RECORDS {
        return Err(Error::Frame("it does not begin as one"));
    }
    if frame::u32_at(head, CHECKSUM) != checksum(coding, head, records) {
        return Err(Error::Frame("its checksum differs"));
    }
    if frame::u32_at(head, 8) != 0 {
        return Err(Error::Frame(
            "it is coded in a way this version does not know",
        ));
    }
    Ok(match covered {
        Cow::Borrowed(covered) => Cow::Borrowed(&covered[HEAD..]),
        Cow::Owned(mut covered) => {
            covered.drain(..HEAD);
            Cow::Owned(covered)
        }
    })
}

fn checksum(coding: &dyn Coding, head: &[u8; HEAD], records: &[u8]) -> u32 {
    let seed = coding.checksum_seed(HEAD + records.len());
    crc32c::crc32c_append(crc32c::crc32c_append(seed, &head[..CHECKSUM]), records)
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
