//! Vital product data pages 00h, 80h and 83h (SPC-5 7.7).

use super::{Error, at_least, number, text};

/// Page 00h: supported pages.
pub const SUPPORTED_PAGES: u8 = 0x00;
/// Page 80h: unit serial number.
pub const SERIAL_NUMBER: u8 = 0x80;
/// Page 83h: device identification.
pub const IDENTIFICATION: u8 = 0x83;

/// The body of a page, after checking its code and stated length.
fn body<'a>(name: &'static str, code: u8, bytes: &'a [u8]) -> Result<&'a [u8], Error> {
    let bytes = at_least(name, bytes, 4)?;
    if bytes[1] != code {
        return Err(Error::Malformed {
            page: name,
            reason: "it bears another page's code",
        });
    }
    let end = 4 + number(&bytes[2..4]) as usize;
    Ok(&at_least(name, bytes, end)?[4..end])
}

fn build(device_type: u8, code: u8, body: &[u8]) -> Vec<u8> {
    let body = &body[..body.len().min(usize::from(u16::MAX))];
    let [high, low] = (body.len() as u16).to_be_bytes();
    let mut bytes = vec![device_type & 0x1f, code, high, low];
    bytes.extend_from_slice(body);
    bytes
}

/// Builds page 00h: the codes of the pages that exist, in ascending order.
pub fn supported_pages_build(device_type: u8, codes: &[u8]) -> Vec<u8> {
    build(device_type, SUPPORTED_PAGES, codes)
}

/// Reads page 80h: the unit's serial number without padding.
pub fn serial_parse(bytes: &[u8]) -> Result<String, Error> {
    Ok(text(body("the serial number page", SERIAL_NUMBER, bytes)?))
}

/// Builds page 80h.
pub fn serial_build(device_type: u8, serial: &str) -> Vec<u8> {
    build(device_type, SERIAL_NUMBER, serial.as_bytes())
}

/// One designator of page 83h.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Designator {
    /// 1 binary, 2 ASCII, 3 UTF-8.
    pub code_set: u8,
    /// What is named: 0 the logical unit, 1 the port, 2 the target.
    pub association: u8,
    /// 1 vendor, product and serial as text; 3 NAA; …
    pub kind: u8,
    /// The designator itself.
    pub bytes: Vec<u8>,
}

/// Reads page 83h: all designators.
pub fn identification_parse(bytes: &[u8]) -> Result<Vec<Designator>, Error> {
    const NAME: &str = "the device identification page";
    let mut rest = body(NAME, IDENTIFICATION, bytes)?;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let head = at_least(NAME, rest, 4)?;
        let end = 4 + usize::from(head[3]);
        let one = &at_least(NAME, rest, end)?[..end];
        found.push(Designator {
            code_set: one[0] & 0x0f,
            association: (one[1] >> 4) & 0x03,
            kind: one[1] & 0x0f,
            bytes: one[4..].to_vec(),
        });
        rest = &rest[end..];
    }
    Ok(found)
}

/// Builds page 83h; designators over 255 bytes are cut.
pub fn identification_build(device_type: u8, designators: &[Designator]) -> Vec<u8> {
    let mut body = Vec::new();
    for one in designators {
        let bytes = &one.bytes[..one.bytes.len().min(255)];
        body.extend([
            one.code_set & 0x0f,
            ((one.association & 0x03) << 4) | (one.kind & 0x0f),
            0,
            bytes.len() as u8,
        ]);
        body.extend_from_slice(bytes);
    }
    build(device_type, IDENTIFICATION, &body)
}
