//! Sealing: a cut segment becomes the bytes that go on tape; and the way back.

use std::io::Cursor;

use bytes::Bytes;
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::{self, CParameter};

use super::{Error, HEADER_LEN, Header, Method, RawSegment, peek};
use crate::record;

/// A segment as it goes on tape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Its header, complete.
    pub header: Header,
    /// Header, data frame and records frame: [`Header::stored_total`] bytes.
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
    zstd: Compressor<'static>,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").finish_non_exhaustive()
    }
}

impl Sealer {
    /// A compressor of this zstd level.
    pub fn new(level: i32) -> Result<Self, Error> {
        let make = || {
            let mut zstd = Compressor::new(level)?;
            zstd.set_parameter(CParameter::ChecksumFlag(true))?;
            zstd.set_parameter(CParameter::ContentSizeFlag(true))?;
            Ok(Self { zstd })
        };
        make().map_err(|source| Error::Compress {
            sequence: 0,
            source,
        })
    }

    /// Compresses a segment and completes its header.
    pub fn seal(&mut self, raw: RawSegment) -> Result<Sealed, Error> {
        let RawSegment {
            mut header,
            tar,
            records,
            record_count,
        } = raw;
        let records_length = record::FRAME_HEAD + records.len();
        let room = HEADER_LEN + zstd_safe::compress_bound(tar.len()) + records_length;
        let mut out = Vec::with_capacity(room);
        out.resize(HEADER_LEN, 0);
        let mut cursor = Cursor::new(out);
        cursor.set_position(HEADER_LEN as u64);
        let stored = self
            .zstd
            .compress_to_buffer(&tar, &mut cursor)
            .map_err(|source| Error::Compress {
                sequence: header.sequence,
                source,
            })?;
        let mut out = cursor.into_inner();
        out.truncate(HEADER_LEN + stored);
        record::frame_into(&records, record_count, &mut out);
        header.tar_length = tar.len() as u32;
        header.stored_length = stored as u32;
        header.records_length = records_length as u32;
        header.stored_crc32c = crc32c::crc32c(&out[HEADER_LEN..]);
        out[..HEADER_LEN].copy_from_slice(&header.encode());
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
    if crc32c::crc32c(&bytes[HEADER_LEN..]) != header.stored_crc32c {
        return Err(Error::Damaged {
            sequence: header.sequence,
            what: "the checksum of its stored bytes differs",
        });
    }
    Ok(header)
}

/// The records of a segment whose header is proved, without decompressing anything: length-delimited messages.
pub fn records(bytes: &[u8]) -> Result<&[u8], Error> {
    let header = peek(bytes)?.ok_or(Error::NoHeader)?;
    let at = HEADER_LEN + header.stored_length as usize;
    let frame = bytes.get(at..).unwrap_or_default();
    record::unframe(frame).map_err(Error::from)
}

/// Proves and decompresses one segment, which `bytes` must be exactly.
pub fn open(bytes: &[u8]) -> Result<Opened, Error> {
    let header = verify(bytes)?;
    let sequence = header.sequence;
    if header.method != Method::Zstd {
        return Err(Error::Method {
            sequence,
            method: header.method.id(),
        });
    }
    if header.suite != 0 {
        return Err(Error::Suite {
            sequence,
            suite: header.suite,
        });
    }
    let damaged = |what| Error::Damaged { sequence, what };
    let (data, records) = bytes[HEADER_LEN..].split_at(header.stored_length as usize);
    let records = record::unframe(records)?.to_vec();
    // zstd would go on through further frames; the format has exactly one.
    if zstd_safe::find_frame_compressed_size(data) != Ok(data.len())
        || data.first_chunk() != Some(&0xFD2F_B528_u32.to_le_bytes())
    {
        return Err(damaged("its data is not one zstd frame"));
    }
    let expected = header.tar_length as usize;
    if !matches!(zstd_safe::get_frame_content_size(data), Ok(Some(size)) if size == expected as u64)
    {
        return Err(damaged("its zstd frame states another size"));
    }
    let mut tar = Vec::with_capacity(expected);
    let found = Decompressor::new()
        .and_then(|mut zstd| zstd.decompress_to_buffer(data, &mut tar))
        .map_err(|_| damaged("zstd cannot decompress it"))?;
    if found != expected {
        return Err(damaged("its zstd frame gives another size"));
    }
    Ok(Opened {
        header,
        tar,
        records,
    })
}
