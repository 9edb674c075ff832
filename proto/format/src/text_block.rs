//! A block of text in a skippable frame of exactly one block: what parts and volume indexes begin with.
//!
//! Owns the title, the lines `Key: value` behind `FIELDS`, and the checksum. Does not know which keys there are.

use crate::{frame, limits, text};

/// The lines for TAF stand between this line and the checksum.
const FIELDS: &str = "\nFIELDS\n";
const CHECKSUM: &str = "CRC32C: ";

/// Whether a block begins as one with this title.
pub(crate) fn looks_like(block: &[u8], title: &str) -> bool {
    frame::payload_length(block).is_some() && block[frame::PREFIX..].starts_with(title.as_bytes())
}

/// The block, exactly `block_size` bytes; or how many bytes its text takes, if that is more.
pub(crate) fn encode(
    title: &str,
    prose: &str,
    fields: &[(&'static str, String)],
    block_size: u32,
) -> Result<Vec<u8>, usize> {
    let mut out = Vec::with_capacity(block_size as usize);
    out.extend_from_slice(&frame::prefix(block_size - frame::PREFIX as u32));
    out.extend_from_slice(title.as_bytes());
    out.extend_from_slice(prose.as_bytes());
    out.extend_from_slice(FIELDS.as_bytes());
    for (key, value) in fields {
        out.extend_from_slice(format!("{key}: {value}\n").as_bytes());
    }
    let crc = crc32c::crc32c(&out);
    out.extend_from_slice(format!("{CHECKSUM}{crc:08x}\n").as_bytes());
    if out.len() > block_size as usize {
        return Err(out.len());
    }
    out.resize(block_size as usize, 0);
    Ok(out)
}

/// The lines of a block that begins with the title, its checksum proved; or what is wrong with it.
pub(crate) fn decode(block: &[u8]) -> Result<Fields<'_>, &'static str> {
    let length = u32::try_from(block.len()).unwrap_or(u32::MAX);
    if !limits::is_block_size(length)
        || frame::payload_length(block) != Some(length - frame::PREFIX as u32)
    {
        return Err("its length differs");
    }
    let end = block[frame::PREFIX..]
        .iter()
        .position(|&b| b == 0)
        .map_or(block.len(), |at| frame::PREFIX + at);
    if block[end..].iter().any(|&b| b != 0) {
        return Err("its padding is not zeros");
    }
    let text =
        std::str::from_utf8(&block[frame::PREFIX..end]).map_err(|_| "its text is not UTF-8")?;
    let (before, checksum) = text
        .rsplit_once(CHECKSUM)
        .ok_or("its checksum is missing")?;
    let crc = crc32c::crc32c(&block[..frame::PREFIX + before.len()]);
    if checksum != format!("{crc:08x}\n") {
        return Err("its checksum differs");
    }
    let (_, fields) = before.split_once(FIELDS).ok_or("its fields are missing")?;
    Ok(Fields(fields))
}

/// A line that is not there, or does not say what it must.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unusable(pub(crate) &'static str);

/// The lines `Key: value`, of which later formats may have more.
pub(crate) struct Fields<'a>(&'a str);

impl<'a> Fields<'a> {
    pub(crate) fn get(&self, key: &str) -> Option<&'a str> {
        self.0
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))
    }

    pub(crate) fn need(&self, key: &'static str) -> Result<&'a str, Unusable> {
        self.get(key).ok_or(Unusable(key))
    }

    pub(crate) fn number<T: std::str::FromStr>(&self, key: &'static str) -> Result<T, Unusable> {
        self.need(key)?.parse().map_err(|_| Unusable(key))
    }

    pub(crate) fn optional<T: std::str::FromStr>(
        &self,
        key: &'static str,
    ) -> Result<Option<T>, Unusable> {
        self.get(key)
            .map(|value| value.parse().map_err(|_| Unusable(key)))
            .transpose()
    }

    pub(crate) fn name(&self, key: &'static str) -> Result<String, Unusable> {
        text::unescape(self.need(key)?).ok_or(Unusable(key))
    }

    pub(crate) fn time(&self, key: &'static str) -> Result<i64, Unusable> {
        text::parse_time(self.need(key)?).ok_or(Unusable(key))
    }
}
