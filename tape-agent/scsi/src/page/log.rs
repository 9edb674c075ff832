//! Log pages: a list of parameters (SPC-5 7.3), and what those of tape drives mean (SSC-5 8.3).
//!
//! [`parse`] and [`build`] know the list alone. What a page counts is in [`counters`], what a drive is doing in
//! [`status`]; `TapeAlert` has a module of its own, [`super::tape_alert`].

use super::{Error, at_least, number, text};

pub mod counters;
pub mod status;

/// Page 00h: the pages that there are.
pub const SUPPORTED_PAGES: u8 = 0x00;
/// Page 02h: write error counters.
pub const WRITE_ERRORS: u8 = 0x02;
/// Page 03h: read error counters.
pub const READ_ERRORS: u8 = 0x03;
/// Page 0Ch: bytes moved, native capacity, cleaning.
pub const SEQUENTIAL_ACCESS: u8 = 0x0c;
/// Page 11h: what the drive is doing; reading it disturbs nothing.
pub const DEVICE_STATUS: u8 = 0x11;
/// Page 12h: `TapeAlert` flags, which reading does not clear.
pub const TAPE_ALERT_RESPONSE: u8 = 0x12;
/// Page 17h: volume statistics.
pub const VOLUME_STATISTICS: u8 = 0x17;
/// Page 2Eh: `TapeAlert`; reading it clears it.
pub const TAPE_ALERT: u8 = 0x2e;
/// Page 30h: tape usage, the makers' own.
pub const TAPE_USAGE: u8 = 0x30;
/// Page 31h: tape capacity, the makers' own.
pub const TAPE_CAPACITY: u8 = 0x31;
/// Page 32h: data compression, the makers' own.
pub const DATA_COMPRESSION: u8 = 0x32;

/// Control byte of a counter.
pub const CONTROL_COUNTER: u8 = 0x00;
/// Control byte of a list in ASCII.
pub const CONTROL_ASCII: u8 = 0x01;
/// Control byte of a list in binary.
pub const CONTROL_BINARY: u8 = 0x03;

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
    /// A number in `width` bytes (at most 8), the highest that fits if it is beyond them.
    pub fn counter(code: u16, value: u64, width: usize) -> Self {
        let width = width.min(8);
        let highest = u64::MAX.checked_shr(64 - 8 * width as u32).unwrap_or(0);
        Self {
            code,
            control: CONTROL_COUNTER,
            value: value.min(highest).to_be_bytes()[8 - width..].to_vec(),
        }
    }

    /// Text in `width` bytes, padded with spaces.
    pub fn ascii(code: u16, text: &str, width: usize) -> Self {
        let mut value = vec![0; width.min(255)];
        super::put_text(&mut value, text);
        Self {
            code,
            control: CONTROL_ASCII,
            value,
        }
    }

    /// The value as a number, if it takes at most eight bytes.
    pub fn number(&self) -> Option<u64> {
        (self.value.len() <= 8).then(|| number(&self.value))
    }

    /// The value as text, without padding.
    pub fn text(&self) -> String {
        text(&self.value)
    }
}

/// The parameter with this code.
pub fn find(parameters: &[Parameter], code: u16) -> Option<&Parameter> {
    parameters.iter().find(|one| one.code == code)
}

const NAME: &str = "the log page";

/// What comes behind the head of the page with this code, as far as the page says it goes.
fn body(code: u8, bytes: &[u8]) -> Result<&[u8], Error> {
    let bytes = at_least(NAME, bytes, 4)?;
    if bytes[0] & 0x3f != code {
        return Err(Error::Malformed {
            page: NAME,
            reason: "it bears another page's code",
        });
    }
    // Some drives answer as many bytes as were allowed: the page's own length counts.
    let end = bytes.len().min(4 + number(&bytes[2..4]) as usize);
    Ok(&bytes[4..end])
}

/// Reads a page with this code; parameters that the allocation length cut off are missing.
pub fn parse(code: u8, bytes: &[u8]) -> Result<Vec<Parameter>, Error> {
    let mut rest = body(code, bytes)?;
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

/// Reads page 00h: the codes of the pages that the device has.
pub fn supported_pages_parse(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let codes = body(SUPPORTED_PAGES, bytes)?.iter();
    Ok(codes.map(|code| code & 0x3f).collect())
}

/// Builds page 00h.
pub fn supported_pages_build(codes: &[u8]) -> Vec<u8> {
    let mut bytes = vec![SUPPORTED_PAGES, 0];
    bytes.extend((codes.len() as u16).to_be_bytes());
    bytes.extend(codes);
    bytes
}
