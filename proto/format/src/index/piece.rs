//! A piece: a skippable frame of records, with a head of 64 bytes that is proved before the rest is waited for.

use uuid::Uuid;

use super::Error;
use crate::{frame, limits};

/// Bytes of a piece before its records.
pub const PIECE_HEAD: usize = 64;

const VERSION: u16 = 1;
const LAST: u32 = 1;

/// The head of a piece.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PieceHead {
    pub(super) index_uuid: Uuid,
    pub(super) number: u32,
    pub(super) last: bool,
    pub(super) record_count: u32,
    pub(super) length: u32,
    pub(super) crc: u32,
}

impl PieceHead {
    pub(super) fn encode(&self) -> [u8; PIECE_HEAD] {
        let mut out = [0; PIECE_HEAD];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        let rest = (PIECE_HEAD - frame::PREFIX) as u32 + self.length;
        put(0, &frame::prefix(rest));
        put(8, &frame::INDEX);
        put(16, &VERSION.to_le_bytes());
        // 18: coding, 19: suite; others than 0 are reserved.
        put(20, &if self.last { LAST } else { 0 }.to_le_bytes());
        put(24, self.index_uuid.as_bytes());
        put(40, &self.number.to_le_bytes());
        put(44, &self.record_count.to_le_bytes());
        put(48, &self.crc.to_le_bytes());
        // 52: reserved.
        let crc = crc32c::crc32c(&out[..PIECE_HEAD - 4]);
        out[PIECE_HEAD - 4..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8; PIECE_HEAD]) -> Result<Self, Error> {
        let Some(rest) = frame::payload_length(bytes) else {
            return Err(Error::NoPiece);
        };
        if bytes[8..16] != frame::INDEX {
            return Err(Error::NoPiece);
        }
        if frame::u32_at(bytes, PIECE_HEAD - 4) != crc32c::crc32c(&bytes[..PIECE_HEAD - 4]) {
            return Err(Error::Head("its checksum differs"));
        }
        let version = u16::from_le_bytes([bytes[16], bytes[17]]);
        if version != VERSION {
            return Err(Error::Version(version));
        }
        if bytes[18] != 0 || bytes[19] != 0 {
            return Err(Error::Stored);
        }
        let flags = frame::u32_at(bytes, 20);
        if flags & !LAST != 0 || frame::u64_at(bytes, 52) != 0 {
            return Err(Error::Head("a reserved field is set"));
        }
        let length = rest
            .checked_sub((PIECE_HEAD - frame::PREFIX) as u32)
            .filter(|&length| length as usize <= limits::INDEX_PIECE_MAX)
            .ok_or(Error::Head("its length is impossible"))?;
        let mut index_uuid = [0; 16];
        index_uuid.copy_from_slice(&bytes[24..40]);
        Ok(Self {
            index_uuid: Uuid::from_bytes(index_uuid),
            number: frame::u32_at(bytes, 40),
            last: flags & LAST != 0,
            record_count: frame::u32_at(bytes, 44),
            length,
            crc: frame::u32_at(bytes, 48),
        })
    }

    pub(super) fn total(&self) -> usize {
        PIECE_HEAD + self.length as usize
    }
}
