//! Sealing: a cut segment becomes the bytes that go on tape; and the way back.

use std::borrow::Cow;

use bytes::Bytes;

use super::coding::{self, Coding, Compressor};
use super::{Error, Header, Method, RawSegment, peek};
use crate::record;

/// A segment as it goes on tape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Its header, complete.
    pub header: Header,
    /// Header, data and records: [`Header::stored_total`] bytes.
    pub bytes: Bytes,
}

/// A segment read back and proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Its header.
    pub header: Header,
    /// Its tar bytes.
    pub tar: Vec<u8>,
    /// Its records, for [`crate::record::iter`].
    pub records: Vec<u8>,
}

/// A compressor that is kept between segments: one for each worker thread.
pub struct Sealer {
    coding: &'static dyn Coding,
    compressor: Box<dyn Compressor>,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer")
            .field("method", &self.coding.method())
            .finish_non_exhaustive()
    }
}

impl Sealer {
    /// A compressor by zstd.
    pub fn new(level: i32) -> Result<Self, Error> {
        Self::by(Method::Zstd, level)
    }

    /// A compressor of a method, at one of its levels.
    pub fn by(method: Method, level: i32) -> Result<Self, Error> {
        let coding = coding::of(method);
        let compressor = coding.compressor(level).map_err(|source| Error::Compress {
            method: method.name(),
            sequence: 0,
            source,
        })?;
        Ok(Self { coding, compressor })
    }

    /// Compresses a segment and completes its header.
    pub fn seal(&mut self, raw: RawSegment) -> Result<Sealed, Error> {
        let RawSegment {
            mut header,
            tar,
            records,
            record_count,
        } = raw;
        header.method = self.coding.method();
        let head = header.length();
        let mut out = vec![0; head];
        let packed = self.compressor.pack(&tar, &mut out);
        packed.map_err(|source| Error::Compress {
            method: header.method.name(),
            sequence: header.sequence,
            source,
        })?;
        let data_end = out.len();
        record::cover_into(self.coding, &records, record_count, &mut out);
        header.tar_length = tar.len() as u32;
        header.stored_length = (data_end - head) as u32;
        header.records_length = (out.len() - data_end) as u32;
        header.stored_crc32c = crc32c::crc32c(&out[head..]);
        out[..head].copy_from_slice(&header.encode());
        // Sealed segments wait in queues; what compression saved is given back first.
        out.shrink_to_fit();
        Ok(Sealed {
            header,
            bytes: out.into(),
        })
    }
}

impl RawSegment {
    /// Compresses the segment at this zstd level. Pure, so any thread may do it; a thread that does many keeps a
    /// [`Sealer`].
    pub fn seal(self, level: i32) -> Result<Sealed, Error> {
        Sealer::new(level)?.seal(self)
    }
}

/// Proves, without decompressing, that `bytes` are exactly one segment as it was written.
pub fn verify(bytes: &[u8]) -> Result<Header, Error> {
    let header = peek(bytes)?.ok_or(Error::NoHeader)?;
    if bytes.len() != header.stored_total() {
        return Err(Error::Length {
            sequence: header.sequence,
            expected: header.stored_total(),
            found: bytes.len(),
        });
    }
    if crc32c::crc32c(&bytes[header.length()..]) != header.stored_crc32c {
        return Err(Error::Damaged {
            sequence: header.sequence,
            what: "the checksum of its stored bytes differs",
        });
    }
    Ok(header)
}

/// The records of a segment whose header is proved, without decompressing anything: length-delimited messages.
pub fn records(bytes: &[u8]) -> Result<Cow<'_, [u8]>, Error> {
    let header = peek(bytes)?.ok_or(Error::NoHeader)?;
    let at = header.length() + header.stored_length as usize;
    let covered = bytes.get(at..).unwrap_or_default();
    record::uncover(coding::of(header.method), covered).map_err(Error::from)
}

/// Proves and decompresses one segment, which `bytes` must be exactly.
pub fn open(bytes: &[u8]) -> Result<Opened, Error> {
    let header = verify(bytes)?;
    let sequence = header.sequence;
    let coding = coding::of(header.method);
    if header.suite != 0 {
        return Err(Error::Suite {
            sequence,
            suite: header.suite,
        });
    }
    let (data, records) = bytes[header.length()..].split_at(header.stored_length as usize);
    let records = record::uncover(coding, records)?.into_owned();
    let tar = coding
        .unpack(data, header.tar_length as usize)
        .map_err(|what| Error::Damaged { sequence, what })?;
    Ok(Opened {
        header,
        tar,
        records,
    })
}
