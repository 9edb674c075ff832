//! READ BLOCK LIMITS data (SSC-5 7.5).

use super::{Error, at_least, number};

/// How short and how long a block may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockLimits {
    /// Block lengths are multiples of 2 to this power.
    pub granularity: u8,
    /// Longest block in bytes (24 bits); 0 means that the device states no limit.
    pub max: u32,
    /// Shortest block in bytes.
    pub min: u16,
}

/// Bytes of the answer.
pub const LENGTH: usize = 6;

impl BlockLimits {
    /// Reads 6 bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let bytes = at_least("block limits", bytes, LENGTH)?;
        Ok(Self {
            granularity: bytes[0] & 0x1f,
            max: number(&bytes[1..4]) as u32,
            min: number(&bytes[4..6]) as u16,
        })
    }

    /// Builds 6 bytes.
    pub fn build(&self) -> Vec<u8> {
        let mut bytes = vec![self.granularity & 0x1f];
        bytes.extend(&self.max.to_be_bytes()[1..]);
        bytes.extend(self.min.to_be_bytes());
        bytes
    }
}
