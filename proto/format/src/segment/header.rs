//! The segment header: 128 bytes, fixed, little endian, in a skippable frame.

use uuid::Uuid;

use super::Error;
use crate::{frame, limits, record};

/// Bytes of an encoded header, its frame's prefix included.
pub const HEADER_LEN: usize = 128;

/// The first 16 bytes of every header: what a search for the next segment looks for.
pub(crate) const MAGIC: [u8; 16] = {
    let mut magic = [0; 16];
    let prefix = frame::SKIPPABLE.to_le_bytes();
    let mut at = 0;
    while at < 4 {
        magic[at] = prefix[at];
        at += 1;
    }
    magic[4] = (HEADER_LEN - frame::PREFIX) as u8;
    while at < 12 {
        magic[at + 4] = frame::SEGMENT[at - 4];
        at += 1;
    }
    magic
};

const VERSION: u16 = 1;
const LAST: u32 = 1;
/// In `next_entry`: not known.
const UNKNOWN: u64 = u64::MAX;
/// In the lengths of a segment that is not yet sealed.
pub(crate) const PENDING: u32 = 0;

/// How a segment's tar bytes are stored. The ids are fixed for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// One zstd frame a segment.
    Zstd,
    /// Reserved: one gzip member a segment.
    Gzip,
    /// Reserved: the plain stream.
    Tar,
    /// Reserved: one 7z archive holding one tar.
    SevenZip,
}

impl Method {
    /// The id on tape.
    pub fn id(self) -> u8 {
        match self {
            Self::Zstd => 1,
            Self::Gzip => 2,
            Self::Tar => 3,
            Self::SevenZip => 4,
        }
    }

    /// The method of an id, if this version knows it.
    pub fn from_id(id: u8) -> Option<Self> {
        [Self::Zstd, Self::Gzip, Self::Tar, Self::SevenZip]
            .into_iter()
            .find(|method| method.id() == id)
    }

    /// Its name in block 0.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
            Self::Tar => "tar",
            Self::SevenZip => "7z",
        }
    }

    /// The method of a name in block 0.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Zstd, Self::Gzip, Self::Tar, Self::SevenZip]
            .into_iter()
            .find(|method| method.name() == name)
    }
}

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
        HEADER_LEN + self.stored_length as usize + self.records_length as usize
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
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC);
        put(16, &VERSION.to_le_bytes());
        put(18, &[self.method.id(), self.suite]);
        put(20, &if self.last { LAST } else { 0 }.to_le_bytes());
        put(24, self.line_uuid.as_bytes());
        put(40, self.archive_uuid.as_bytes());
        put(56, &self.version.to_le_bytes());
        put(64, &self.attempt.to_le_bytes());
        put(72, &self.sequence.to_le_bytes());
        put(80, &self.tar_offset.to_le_bytes());
        put(88, &self.next_entry.unwrap_or(UNKNOWN).to_le_bytes());
        put(96, &self.archive_ordinal.to_le_bytes());
        put(100, &self.tar_length.to_le_bytes());
        put(104, &self.stored_length.to_le_bytes());
        put(108, &self.records_length.to_le_bytes());
        put(112, &self.stored_crc32c.to_le_bytes());
        let crc = crc32c::crc32c(&out[..HEADER_LEN - 4]);
        out[HEADER_LEN - 4..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a sealed segment's header from its bytes. All lengths are within the format's limits afterwards.
    pub fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Self, Error> {
        if bytes[..16] != MAGIC {
            return Err(Error::NoHeader);
        }
        if frame::u32_at(bytes, HEADER_LEN - 4) != crc32c::crc32c(&bytes[..HEADER_LEN - 4]) {
            return Err(Error::Header("its checksum differs"));
        }
        let version = u16::from_le_bytes([bytes[16], bytes[17]]);
        if version != VERSION {
            return Err(Error::Version(version));
        }
        let sequence = frame::u64_at(bytes, 72);
        let flags = frame::u32_at(bytes, 20);
        if flags & !LAST != 0 || bytes[116..HEADER_LEN - 4].iter().any(|&b| b != 0) {
            return Err(Error::Header("a reserved field is set"));
        }
        let method = Method::from_id(bytes[18]).ok_or(Error::Method {
            sequence,
            method: bytes[18],
        })?;
        let next_entry = frame::u64_at(bytes, 88);
        let header = Self {
            line_uuid: uuid_at(bytes, 24),
            version: frame::u64_at(bytes, 56),
            archive_ordinal: frame::u32_at(bytes, 96),
            archive_uuid: uuid_at(bytes, 40),
            attempt: frame::u64_at(bytes, 64),
            sequence,
            tar_offset: frame::u64_at(bytes, 80),
            next_entry: (next_entry != UNKNOWN).then_some(next_entry),
            tar_length: frame::u32_at(bytes, 100),
            stored_length: frame::u32_at(bytes, 104),
            records_length: frame::u32_at(bytes, 108),
            stored_crc32c: frame::u32_at(bytes, 112),
            method,
            suite: bytes[19],
            last: flags & LAST != 0,
        };
        header.check()?;
        Ok(header)
    }

    fn check(&self) -> Result<(), Error> {
        let records = self.records_length as usize;
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
        if !(record::FRAME_HEAD..=record::FRAME_HEAD + limits::RECORDS).contains(&records) {
            return Err(Error::Header("its records' length is impossible"));
        }
        if self.next_entry.is_some_and(|entry| entry < self.tar_offset) {
            return Err(Error::Header("its next entry lies before it"));
        }
        Ok(())
    }
}

/// The header at the front of `bytes`; `None` if there are fewer than [`HEADER_LEN`].
pub fn peek(bytes: &[u8]) -> Result<Option<Header>, Error> {
    bytes
        .first_chunk::<HEADER_LEN>()
        .map(Header::decode)
        .transpose()
}

fn uuid_at(bytes: &[u8; HEADER_LEN], at: usize) -> Uuid {
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&bytes[at..at + 16]);
    Uuid::from_bytes(uuid)
}
