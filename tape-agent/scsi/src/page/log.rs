//! Log pages: a list of parameters (SPC-5 7.3).

use super::{Error, at_least, number};

/// Page 2Eh: `TapeAlert`; reading it clears it.
pub const TAPE_ALERT: u8 = 0x2e;
/// Page 17h: volume statistics.
pub const VOLUME_STATISTICS: u8 = 0x17;
/// Page 31h: tape capacity.
pub const TAPE_CAPACITY: u8 = 0x31;

/// One parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Parameter code.
    pub code: u16,
    /// Control byte.
    pub control: u8,
    /// Value, at most 255 bytes.
    pub value: Vec<u8>,
}

impl Parameter {
    /// The value as a number, if it takes at most eight bytes.
    pub fn number(&self) -> Option<u64> {
        (self.value.len() <= 8).then(|| number(&self.value))
    }
}

const NAME: &str = "the log page";

/// Reads a page with this code; parameters that the allocation length cut off are missing.
pub fn parse(code: u8, bytes: &[u8]) -> Result<Vec<Parameter>, Error> {
    let bytes = at_least(NAME, bytes, 4)?;
    if bytes[0] & 0x3f != code {
        return Err(Error::Malformed {
            page: NAME,
            reason: "it bears another page's code",
        });
    }
    let end = bytes.len().min(4 + number(&bytes[2..4]) as usize);
    let mut rest = &bytes[4..end];
    let mut found = Vec::new();
    while rest.len() >= 4 {
        let length = 4 + usize::from(rest[3]);
        let Some(one) = rest.get(..length) else {
            break;
        };
        found.push(Parameter {
            code: number(&one[0..2]) as u16,
            control: one[2],
            value: one[4..].to_vec(),
        });
        rest = &rest[length..];
    }
    Ok(found)
}

/// Builds a page; values over 255 bytes are cut, as are parameters beyond 65,535 bytes.
pub fn build(code: u8, parameters: &[Parameter]) -> Vec<u8> {
    let mut bytes = vec![code & 0x3f, 0, 0, 0];
    for one in parameters {
        let value = &one.value[..one.value.len().min(255)];
        if bytes.len() + value.len() > usize::from(u16::MAX) {
            break;
        }
        bytes.extend(one.code.to_be_bytes());
        bytes.extend([one.control, value.len() as u8]);
        bytes.extend(value);
    }
    let length = ((bytes.len() - 4) as u16).to_be_bytes();
    bytes[2..4].copy_from_slice(&length);
    bytes
}
