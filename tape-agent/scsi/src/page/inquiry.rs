//! Standard INQUIRY data (SPC-5 6.7.2): what kind of device this is and who made it.

use super::{Error, at_least, put_text, text};

/// Peripheral device type: sequential access.
pub const TYPE_TAPE: u8 = 0x01;
/// Peripheral device type: media changer.
pub const TYPE_CHANGER: u8 = 0x08;

/// What INQUIRY says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inquiry {
    /// Peripheral device type: 01h tape, 08h changer.
    pub device_type: u8,
    /// Peripheral qualifier: 0 if a device is connected at this unit.
    pub qualifier: u8,
    /// Whether the medium can be removed.
    pub removable: bool,
    /// Vendor, at most 8 characters.
    pub vendor: String,
    /// Product, at most 16 characters.
    pub product: String,
    /// Revision, at most 4 characters.
    pub revision: String,
}

/// Bytes that INQUIRY is asked for.
pub const LENGTH: usize = 36;

impl Inquiry {
    /// Reads the first 36 bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let bytes = at_least("inquiry data", bytes, LENGTH)?;
        Ok(Self {
            device_type: bytes[0] & 0x1f,
            qualifier: bytes[0] >> 5,
            removable: bytes[1] & 0x80 != 0,
            vendor: text(&bytes[8..16]),
            product: text(&bytes[16..32]),
            revision: text(&bytes[32..36]),
        })
    }

    /// Builds 36 bytes; claims SPC-4.
    pub fn build(&self) -> Vec<u8> {
        let mut bytes = vec![0; LENGTH];
        bytes[0] = (self.qualifier << 5) | (self.device_type & 0x1f);
        bytes[1] = u8::from(self.removable) << 7;
        bytes[2] = 0x06;
        bytes[3] = 0x02;
        bytes[4] = (LENGTH - 5) as u8;
        put_text(&mut bytes[8..16], &self.vendor);
        put_text(&mut bytes[16..32], &self.product);
        put_text(&mut bytes[32..36], &self.revision);
        bytes
    }
}
