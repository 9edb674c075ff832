//! The segment header: 120 bytes, fixed, little endian, in the cover of its method.

use uuid::Uuid;

use super::coding::{CODINGS, Coding};
use super::{Error, Method, coding};
use crate::{frame, limits, record};

/// Bytes of a header in its cover.
pub(crate) const BODY: usize = 120;
/// Bytes that are enough to know by which method a segment is covered.
pub(crate) const START: usize = 16;
/// The last four bytes of the body.
const CHECKSUM: usize = BODY - 4;

const VERSION: u16 = 1;
const LAST: u32 = 1;
/// In `next_entry`: not known.
const UNKNOWN: u64 = u64::MAX;
/// In the lengths of a segment that is not yet sealed.
pub(crate) const PENDING: u32 = 0;

/// What stands before a segment's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The line whose version this is.
    pub line_uuid: Uuid,
    /// The version's number on its line.
    pub version: u64,
    /// The archive's ordinal on its line.
    pub archive_ordinal: u32,
    /// The archive: all of its segments have it, no other's.
    pub archive_uuid: Uuid,
    /// The attempt's number, which wrote it.
    pub attempt: u64,
    /// The segment's place among the archive's, from 0, without gaps.
    pub sequence: u64,
    /// Offset in the archive's tar stream of the segment's first byte.
    pub tar_offset: u64,
    /// Offset in the archive's tar stream of the first entry header (or the end of the last entry) that does not
    /// lie before this segment. It may lie far behind the segment, when a large file goes through it; `None`
    /// when no entry was begun before this segment's end.
    pub next_entry: Option<u64>,
    /// Bytes of tar in the segment, at most [`limits::SEGMENT_TAR`].
    pub tar_length: u32,
    /// Bytes of the data frame; 0 until sealed.
    pub stored_length: u32,
    /// Bytes of the whole records frame; 0 until sealed.
    pub records_length: u32,
    /// CRC32C of data frame and records frame as stored; 0 until sealed. It lets a tape agent prove a segment
    /// without decompressing it.
    pub stored_crc32c: u32,
    /// How the tar bytes are stored.
    pub method: Method,
    /// How the part is encrypted; 0 is not at all, others are reserved.
    pub suite: u8,
    /// Set on the archive's last segment, and on it alone.
    pub last: bool,
}

impl Header {
    /// Bytes of the whole segment on tape: header, data frame, records frame.
    pub fn stored_total(&self) -> usize {
        self.length() + self.stored_length as usize + self.records_length as usize
    }

    /// Bytes of the header itself, its cover included.
    pub fn length(&self) -> usize {
        self.method.header_length()
    }

    /// Offset in the archive's tar stream of the byte after this segment's last.
    pub fn tar_end(&self) -> u64 {
        self.tar_offset + u64::from(self.tar_length)
    }

    /// Offset within this segment's tar bytes of the first entry header that begins in it.
    pub fn first_entry(&self) -> Option<u32> {
        self.next_entry
            .filter(|&entry| entry < self.tar_end())
            .map(|entry| (entry - self.tar_offset) as u32)
    }

    /// Bytes of tar from this segment's first to the next entry header: what must be skipped to read on from
    /// here alone ([`crate::block0::Block0::skip`] of a part that begins here).
    pub fn skip(&self) -> Option<u64> {
        self.next_entry.map(|entry| entry - self.tar_offset)
    }

    /// The header as it stands on tape.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = [0; BODY];
        let mut put = |at: usize, bytes: &[u8]| body[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &frame::SEGMENT);
        put(8, &VERSION.to_le_bytes());
        put(10, &[self.method.id(), self.suite]);
        put(12, &if self.last { LAST } else { 0 }.to_le_bytes());
        put(16, self.line_uuid.as_bytes());
        put(32, self.archive_uuid.as_bytes());
        put(48, &self.version.to_le_bytes());
        put(56, &self.attempt.to_le_bytes());
        put(64, &self.sequence.to_le_bytes());
        put(72, &self.tar_offset.to_le_bytes());
        put(80, &self.next_entry.unwrap_or(UNKNOWN).to_le_bytes());
        put(88, &self.archive_ordinal.to_le_bytes());
        put(92, &self.tar_length.to_le_bytes());
        put(96, &self.stored_length.to_le_bytes());
        put(100, &self.records_length.to_le_bytes());
        put(104, &self.stored_crc32c.to_le_bytes());
        let coding = coding::of(self.method);
        let crc = checksum(coding, &body);
        body[CHECKSUM..].copy_from_slice(&crc.to_le_bytes());
        let (before, behind) = coding.header_cover();
        [before, &body, behind].concat()
    }

    /// Reads the header of a sealed segment at the front of `bytes`. All lengths are within the format's limits afterwards.
    /// `None` if it goes on behind their end.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, Error> {
        let Some(begin) = bytes.first_chunk::<START>() else {
            return Ok(None);
        };
        let coding = CODINGS
            .into_iter()
            .find(|coding| start(*coding) == *begin)
            .ok_or(Error::NoHeader)?;
        let (before, behind) = coding.header_cover();
        let Some(bytes) = bytes.get(..before.len() + BODY + behind.len()) else {
            return Ok(None);
        };
        let (cover_begins, covered) = bytes.split_at(before.len());
        let (covered, cover_ends) = covered.split_at(BODY);
        let Some(body) = covered.first_chunk::<BODY>() else {
            return Ok(None);
        };
        if body[..8] != frame::SEGMENT {
            return Err(Error::NoHeader);
        }
        if frame::u32_at(body, CHECKSUM) != checksum(coding, body)
            || (cover_begins, cover_ends) != (before, behind)
        {
            return Err(Error::Header("its checksum differs"));
        }
        Self::from_body(body, coding.method()).map(Some)
    }

    fn from_body(body: &[u8; BODY], covered_by: Method) -> Result<Self, Error> {
        let version = u16::from_le_bytes([body[8], body[9]]);
        if version != VERSION {
            return Err(Error::Version(version));
        }
        let sequence = frame::u64_at(body, 64);
        let flags = frame::u32_at(body, 12);
        if flags & !LAST != 0 || body[108..CHECKSUM].iter().any(|&b| b != 0) {
            return Err(Error::Header("a reserved field is set"));
        }
        let method = Method::from_id(body[10]).ok_or(Error::Method {
            sequence,
            method: body[10],
        })?;
        if method != covered_by {
            return Err(Error::Header("it is covered as by another method"));
        }
        let next_entry = frame::u64_at(body, 80);
        let header = Self {
            line_uuid: uuid_at(body, 16),
            version: frame::u64_at(body, 48),
            archive_ordinal: frame::u32_at(body, 88),
            archive_uuid: uuid_at(body, 32),
            attempt: frame::u64_at(body, 56),
            sequence,
            tar_offset: frame::u64_at(body, 72),
            next_entry: (next_entry != UNKNOWN).then_some(next_entry),
            tar_length: frame::u32_at(body, 92),
            stored_length: frame::u32_at(body, 96),
            records_length: frame::u32_at(body, 100),
            stored_crc32c: frame::u32_at(body, 104),
            method,
            suite: body[11],
            last: flags & LAST != 0,
        };
        header.check()?;
        Ok(header)
    }

    fn check(&self) -> Result<(), Error> {
        let records = self.records_length as usize;
        let covered = coding::of(self.method).covered_length(record::HEAD + limits::RECORDS);
        if self.sequence == u64::MAX {
            return Err(Error::Header("its sequence is impossible"));
        }
        if self.tar_length as usize > limits::SEGMENT_TAR
            || self
                .tar_offset
                .checked_add(u64::from(self.tar_length))
                .is_none()
        {
            return Err(Error::Header("its tar length is impossible"));
        }
        if self.stored_length as usize > limits::SEGMENT_DATA {
            return Err(Error::Header("its stored length is impossible"));
        }
        if !(record::HEAD..=covered).contains(&records) {
            return Err(Error::Header("its records' length is impossible"));
        }
        if self.next_entry.is_some_and(|entry| entry < self.tar_offset) {
            return Err(Error::Header("its next entry lies before it"));
        }
        Ok(())
    }
}

impl Method {
    /// Bytes of a segment's header, its cover included.
    pub fn header_length(self) -> usize {
        let (before, behind) = coding::of(self).header_cover();
        before.len() + BODY + behind.len()
    }
}

/// The header at the front of `bytes`; `None` if it goes on behind their end.
pub fn peek(bytes: &[u8]) -> Result<Option<Header>, Error> {
    Header::decode(bytes)
}

/// What headers begin with, one of each method.
pub(crate) fn starts() -> [[u8; START]; CODINGS.len()] {
    CODINGS.map(start)
}

/// The first bytes of a header are its cover's, and the first of the body as far as they reach.
fn start(coding: &dyn Coding) -> [u8; START] {
    let (before, _) = coding.header_cover();
    let mut out = [0; START];
    for (to, from) in out.iter_mut().zip(before.iter().chain(&frame::SEGMENT)) {
        *to = *from;
    }
    out
}

fn checksum(coding: &dyn Coding, body: &[u8; BODY]) -> u32 {
    crc32c::crc32c_append(coding.checksum_seed(BODY), &body[..CHECKSUM])
}

fn uuid_at(body: &[u8; BODY], at: usize) -> Uuid {
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&body[at..at + 16]);
    Uuid::from_bytes(uuid)
}
