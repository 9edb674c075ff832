//! Medium auxiliary memory: attributes as READ and WRITE ATTRIBUTE carry them (SPC-5 7.4).

use super::{Error, at_least, number, text};

/// Remaining capacity in the partition, in MiB; a hint, never a promise.
pub const REMAINING_CAPACITY: u16 = 0x0000;
/// Medium manufacturer.
pub const MEDIUM_MANUFACTURER: u16 = 0x0400;
/// Medium serial number: the cartridge's physical identity.
pub const MEDIUM_SERIAL_NUMBER: u16 = 0x0401;
/// Barcode, 32 bytes.
pub const BARCODE: u16 = 0x0806;

/// One attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// Identifier.
    pub id: u16,
    /// Can't be written.
    pub read_only: bool,
    /// 0 binary, 1 ASCII, 2 text.
    pub format: u8,
    /// The value.
    pub value: Vec<u8>,
}

impl Attribute {
    /// The value as text, without padding.
    pub fn text(&self) -> String {
        text(&self.value)
    }

    /// The value as a number, if it takes at most eight bytes.
    pub fn number(&self) -> Option<u64> {
        (self.value.len() <= 8).then(|| number(&self.value))
    }
}

/// Reads a list of values; attributes that the allocation length cut off are missing.
pub fn parse(bytes: &[u8]) -> Result<Vec<Attribute>, Error> {
    let bytes = at_least("the attribute list", bytes, 4)?;
    let end = bytes
        .len()
        .min((number(&bytes[0..4]) as usize).saturating_add(4));
    let mut rest = &bytes[4..end];
    let mut found = Vec::new();
    while rest.len() >= 5 {
        let length = 5 + number(&rest[3..5]) as usize;
        let Some(one) = rest.get(..length) else {
            break;
        };
        found.push(Attribute {
            id: number(&one[0..2]) as u16,
            read_only: one[2] & 0x80 != 0,
            format: one[2] & 0x03,
            value: one[5..].to_vec(),
        });
        rest = &rest[length..];
    }
    Ok(found)
}

/// Builds a list of values; a value over 65,535 bytes is cut.
pub fn build(attributes: &[Attribute]) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    for one in attributes {
        let value = &one.value[..one.value.len().min(usize::from(u16::MAX))];
        bytes.extend(one.id.to_be_bytes());
        bytes.push((u8::from(one.read_only) << 7) | (one.format & 0x03));
        bytes.extend((value.len() as u16).to_be_bytes());
        bytes.extend(value);
    }
    let length = ((bytes.len() - 4) as u32).to_be_bytes();
    bytes[0..4].copy_from_slice(&length);
    bytes
}
