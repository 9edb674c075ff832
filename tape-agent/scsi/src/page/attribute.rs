//! Medium auxiliary memory: attributes as READ and WRITE ATTRIBUTE carry them (SPC-5 7.4).

use super::{Error, at_least, number, put_text, text};

/// Remaining capacity in the partition, in MiB; a hint, never a promise.
pub const REMAINING_CAPACITY: u16 = 0x0000;
/// Maximum capacity of the partition, in MiB.
pub const MAXIMUM_CAPACITY: u16 = 0x0001;
/// `TapeAlert` flags, flag 1 in the highest bit (see [`super::tape_alert`]).
pub const TAPE_ALERT_FLAGS: u16 = 0x0002;
/// How often the cartridge was loaded.
pub const LOAD_COUNT: u16 = 0x0003;
/// MAM space remaining, in bytes.
pub const MAM_SPACE_REMAINING: u16 = 0x0004;
/// Volume change reference: another number after whatever was written.
pub const VOLUME_CHANGE_REFERENCE: u16 = 0x0009;
/// MiB written over the medium's life.
pub const WRITTEN_IN_LIFE: u16 = 0x0220;
/// MiB read over the medium's life.
pub const READ_IN_LIFE: u16 = 0x0221;
/// MiB written in the current or last load.
pub const WRITTEN_IN_LOAD: u16 = 0x0222;
/// MiB read in the current or last load.
pub const READ_IN_LOAD: u16 = 0x0223;
/// Medium manufacturer.
pub const MEDIUM_MANUFACTURER: u16 = 0x0400;
/// Medium serial number: the cartridge's physical identity.
pub const MEDIUM_SERIAL_NUMBER: u16 = 0x0401;
/// Medium density code.
pub const MEDIUM_DENSITY: u16 = 0x0405;
/// Medium manufacture date, YYYYMMDD.
pub const MANUFACTURE_DATE: u16 = 0x0406;
/// MAM capacity in bytes.
pub const MAM_CAPACITY: u16 = 0x0407;
/// Medium type: 00h data, 01h cleaning, 80h write once.
pub const MEDIUM_TYPE: u16 = 0x0408;
/// What the medium type needs besides: uses of a cleaning cartridge.
pub const MEDIUM_TYPE_INFORMATION: u16 = 0x0409;
/// Application vendor, 8 bytes.
pub const APPLICATION_VENDOR: u16 = 0x0800;
/// Application name, 32 bytes.
pub const APPLICATION_NAME: u16 = 0x0801;
/// Application version, 8 bytes.
pub const APPLICATION_VERSION: u16 = 0x0802;
/// User medium text label, 160 bytes.
pub const USER_TEXT_LABEL: u16 = 0x0803;
/// Date and time last written, `YYYYMMDDHHMM`.
pub const LAST_WRITTEN: u16 = 0x0804;
/// Text localization identifier: 81h UTF-8.
pub const TEXT_LOCALIZATION: u16 = 0x0805;
/// Barcode, 32 bytes.
pub const BARCODE: u16 = 0x0806;
/// Owning host textual name, 80 bytes.
pub const OWNING_HOST: u16 = 0x0807;
/// Media pool, 160 bytes.
pub const MEDIA_POOL: u16 = 0x0808;
/// Application format version, 16 bytes.
pub const APPLICATION_FORMAT_VERSION: u16 = 0x080b;
/// Volume coherency information.
pub const VOLUME_COHERENCY: u16 = 0x080c;

/// How a value is to be read (FORMAT).
pub mod format {
    /// A number or bytes.
    pub const BINARY: u8 = 0;
    /// ASCII, padded with spaces.
    pub const ASCII: u8 = 1;
    /// Text, as attribute 0805h says.
    pub const TEXT: u8 = 2;
}

/// What the standard fixes for an attribute that a host may write: format and length in bytes; `None` if any
/// length will do. No answer if it isn't one of them.
pub fn host_attribute(id: u16) -> Option<(u8, Option<u16>)> {
    Some(match id {
        APPLICATION_VENDOR | APPLICATION_VERSION => (format::ASCII, Some(8)),
        APPLICATION_NAME | BARCODE => (format::ASCII, Some(32)),
        USER_TEXT_LABEL | MEDIA_POOL => (format::TEXT, Some(160)),
        LAST_WRITTEN => (format::ASCII, Some(12)),
        TEXT_LOCALIZATION => (format::BINARY, Some(1)),
        OWNING_HOST => (format::TEXT, Some(80)),
        APPLICATION_FORMAT_VERSION => (format::ASCII, Some(16)),
        VOLUME_COHERENCY => (format::BINARY, None),
        _ => return None,
    })
}

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
    /// A number in `width` bytes (at most 8), which a host can't write.
    pub fn fixed_number(id: u16, value: u64, width: usize) -> Self {
        Self {
            id,
            read_only: true,
            format: format::BINARY,
            value: value.to_be_bytes()[8 - width.min(8)..].to_vec(),
        }
    }

    /// ASCII in `width` bytes, padded with spaces, which a host can't write.
    pub fn fixed_text(id: u16, text: &str, width: usize) -> Self {
        let mut value = vec![0; width];
        put_text(&mut value, text);
        Self {
            id,
            read_only: true,
            format: format::ASCII,
            value,
        }
    }

    /// Text for a host attribute, in the format and length that the standard fixes (see [`host_attribute`]),
    /// cut or padded with spaces. UTF-8 is kept as it is, but never cut within a character.
    pub fn host_text(id: u16, text: &str) -> Self {
        let (format, length) = host_attribute(id).unwrap_or((format::TEXT, None));
        let length = length.map_or(text.len(), usize::from);
        let mut end = text.len().min(length);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let mut value = text.as_bytes()[..end].to_vec();
        value.resize(length, b' ');
        Self {
            id,
            read_only: false,
            format,
            value,
        }
    }

    /// The value as ASCII text, without padding.
    pub fn text(&self) -> String {
        text(&self.value)
    }

    /// The value as a number, if it takes at most eight bytes.
    pub fn number(&self) -> Option<u64> {
        (self.value.len() <= 8).then(|| number(&self.value))
    }
}

/// The attribute with this identifier.
pub fn find(attributes: &[Attribute], id: u16) -> Option<&Attribute> {
    attributes.iter().find(|one| one.id == id)
}

/// Reads a list of values; attributes that the allocation length cut off are missing.
pub fn parse(bytes: &[u8]) -> Result<Vec<Attribute>, Error> {
    Ok(parse_some(bytes)?.0)
}

/// Reads a parameter list of WRITE ATTRIBUTE, which must be whole.
pub fn parse_whole(bytes: &[u8]) -> Result<Vec<Attribute>, Error> {
    match parse_some(bytes)? {
        (found, true) => Ok(found),
        _ => Err(Error::Malformed {
            page: NAME,
            reason: "its length and its attributes don't agree",
        }),
    }
}

const NAME: &str = "the attribute list";

/// The attributes, and whether they fill exactly what the list says.
fn parse_some(bytes: &[u8]) -> Result<(Vec<Attribute>, bool), Error> {
    let bytes = at_least(NAME, bytes, 4)?;
    let stated = (number(&bytes[0..4]) as usize).saturating_add(4);
    let end = bytes.len().min(stated);
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
    Ok((found, rest.is_empty() && end == stated))
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

/// Reads the answer to service action ATTRIBUTE LIST: the identifiers that there are.
pub fn list_parse(bytes: &[u8]) -> Result<Vec<u16>, Error> {
    let bytes = at_least(NAME, bytes, 4)?;
    let end = bytes
        .len()
        .min((number(&bytes[0..4]) as usize).saturating_add(4));
    let pairs = bytes[4..end].chunks_exact(2);
    Ok(pairs.map(|pair| number(pair) as u16).collect())
}

/// Builds the answer to service action ATTRIBUTE LIST.
pub fn list_build(ids: &[u16]) -> Vec<u8> {
    let mut bytes = ((ids.len() * 2) as u32).to_be_bytes().to_vec();
    bytes.extend(ids.iter().flat_map(|id| id.to_be_bytes()));
    bytes
}
