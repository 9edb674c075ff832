//! The bytes on the unix socket between a driver and an emulator's process.
//!
//! Little endian. Request: the CDB padded to 16 bytes, u32 length out, u32 capacity in, the bytes out. Answer:
//! u8 status, u8 sense length, u16 zero, u32 length in, the sense, the bytes in. One command at a time.

use super::TRANSFER_MAX;
use crate::sense::LENGTH_MAX;

/// Bytes of a request's head.
pub(super) const REQUEST: usize = 24;
/// Bytes of an answer's head.
pub(super) const ANSWER: usize = 8;

/// The head of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Request {
    pub cdb: [u8; 16],
    pub out: usize,
    pub capacity: usize,
}

/// The head of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    pub status: u8,
    pub sense: usize,
    pub data: usize,
}

fn length(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .rev()
        .fold(0, |value, &byte| (value << 8) | usize::from(byte))
}

impl Request {
    pub(super) fn encode(self) -> [u8; REQUEST] {
        let mut head = [0; REQUEST];
        head[..16].copy_from_slice(&self.cdb);
        head[16..20].copy_from_slice(&(self.out as u32).to_le_bytes());
        head[20..24].copy_from_slice(&(self.capacity as u32).to_le_bytes());
        head
    }

    /// Reads a head; the reason if a length is beyond what the wire carries.
    pub(super) fn decode(head: [u8; REQUEST]) -> Result<Self, &'static str> {
        let mut cdb = [0; 16];
        cdb.copy_from_slice(&head[..16]);
        let (out, capacity) = (length(&head[16..20]), length(&head[20..24]));
        if out > TRANSFER_MAX || capacity > TRANSFER_MAX {
            return Err("a request's length is beyond the wire's maximum");
        }
        Ok(Self { cdb, out, capacity })
    }
}

impl Answer {
    pub(super) fn encode(self) -> [u8; ANSWER] {
        let mut head = [0; ANSWER];
        head[0] = self.status;
        head[1] = self.sense as u8;
        head[4..8].copy_from_slice(&(self.data as u32).to_le_bytes());
        head
    }

    /// Reads a head; the reason if it breaks the protocol or exceeds what the request allowed.
    pub(super) fn decode(head: [u8; ANSWER], capacity: usize) -> Result<Self, &'static str> {
        let answer = Self {
            status: head[0],
            sense: usize::from(head[1]),
            data: length(&head[4..8]),
        };
        if head[2..4] != [0, 0] {
            return Err("the answer isn't one of this protocol");
        }
        if answer.sense > LENGTH_MAX {
            return Err("the answer's sense data is too long");
        }
        if answer.data > capacity {
            return Err("the answer is longer than the buffer");
        }
        Ok(answer)
    }
}
