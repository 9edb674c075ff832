//! REPORT SUPPORTED OPERATION CODES data (SPC-5 6.33): which commands a device knows and how long each may take.

use super::{Error, at_least, number};

/// One command that the device knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Supported {
    /// Operation code.
    pub opcode: u8,
    /// Service action, if the command has them.
    pub service_action: Option<u16>,
    /// Length of the command in bytes.
    pub length: u16,
    /// Recommended timeout in seconds, if the device gives one other than zero.
    pub timeout_seconds: Option<u32>,
}

const NAME: &str = "the list of supported commands";

/// Reads the answer; entries that the allocation length cut off are missing.
pub fn parse(bytes: &[u8]) -> Result<Vec<Supported>, Error> {
    let bytes = at_least(NAME, bytes, 4)?;
    let end = bytes
        .len()
        .min((number(&bytes[0..4]) as usize).saturating_add(4));
    let mut rest = &bytes[4..end];
    let mut found = Vec::new();
    while rest.len() >= 8 {
        let (one, behind) = rest.split_at(8);
        rest = behind;
        let mut timeout_seconds = None;
        if one[5] & 0x02 != 0 {
            if rest.len() < 2 {
                break;
            }
            let length = 2 + number(&rest[0..2]) as usize;
            let Some(timeouts) = rest.get(..length) else {
                break;
            };
            timeout_seconds = timeouts
                .get(8..12)
                .map(|field| number(field) as u32)
                .filter(|&seconds| seconds != 0);
            rest = &rest[length..];
        }
        found.push(Supported {
            opcode: one[0],
            service_action: (one[5] & 0x01 != 0).then(|| number(&one[2..4]) as u16),
            length: number(&one[6..8]) as u16,
            timeout_seconds,
        });
    }
    Ok(found)
}

/// Builds the answer; with `timeouts` every entry has a timeouts descriptor.
pub fn build(commands: &[Supported], timeouts: bool) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    for one in commands {
        let flags = (u8::from(timeouts) << 1) | u8::from(one.service_action.is_some());
        bytes.extend([one.opcode, 0]);
        bytes.extend(one.service_action.unwrap_or(0).to_be_bytes());
        bytes.extend([0, flags]);
        bytes.extend(one.length.to_be_bytes());
        if timeouts {
            bytes.extend([0, 0x0a, 0, 0, 0, 0, 0, 0]);
            bytes.extend(one.timeout_seconds.unwrap_or(0).to_be_bytes());
        }
    }
    let length = ((bytes.len() - 4) as u32).to_be_bytes();
    bytes[0..4].copy_from_slice(&length);
    bytes
}
