//! A block of text in covers of exactly one block: what parts and volume indexes begin with.
//!
//! Owns the title, the lines `Key: value` behind `FIELDS`, and the checksum. Does not know which keys there are.

use std::borrow::Cow;

use crate::segment::Method;
use crate::segment::coding::{self, CODINGS, Coding};
use crate::{limits, text};

/// The lines for TAF stand between this line and the checksum.
const FIELDS: &str = "\nFIELDS\n";
const CHECKSUM: &str = "CRC32C: ";

/// Whether a block begins as one with this title.
pub(crate) fn looks_like(block: &[u8], title: &str) -> bool {
    covered_as(block, title).is_some()
}

/// By which method a block is covered that begins with this title.
fn covered_as(block: &[u8], title: &str) -> Option<&'static dyn Coding> {
    CODINGS
        .into_iter()
        .find(|coding| coding.covers_start(block, title.as_bytes()))
}

/// The block, exactly `block_size` bytes, in covers of `method`; or how many bytes its text takes, if that is more.
pub(crate) fn encode(
    method: Method,
    title: &str,
    prose: &str,
    fields: &[(&'static str, String)],
    block_size: u32,
) -> Result<Vec<u8>, usize> {
    let coding = coding::of(method);
    let block_size = block_size as usize;
    let room = coding.fitting(block_size).unwrap_or_default();
    let mut inside = Vec::with_capacity(room);
    inside.extend_from_slice(title.as_bytes());
    inside.extend_from_slice(prose.as_bytes());
    inside.extend_from_slice(FIELDS.as_bytes());
    for (key, value) in fields {
        inside.extend_from_slice(format!("{key}: {value}\n").as_bytes());
    }
    let crc = crc32c::crc32c_append(coding.checksum_seed(room), &inside);
    inside.extend_from_slice(format!("{CHECKSUM}{crc:08x}\n").as_bytes());
    if inside.len() > room {
        return Err(block_size - room + inside.len());
    }
    inside.resize(room, 0);
    let mut out = Vec::with_capacity(block_size);
    coding.cover_exactly(&inside, block_size, &mut out);
    Ok(out)
}

/// The lines of a block that begins with the title, its checksum proved; or what is wrong with it.
pub(crate) fn decode(block: &[u8], title: &str) -> Result<Fields, &'static str> {
    const LENGTH: &str = "its length differs";
    let length = u32::try_from(block.len()).unwrap_or(u32::MAX);
    if !limits::is_block_size(length) {
        return Err(LENGTH);
    }
    let coding = covered_as(block, title).ok_or(LENGTH)?;
    let inside: Cow<'_, [u8]> = coding.uncover(block).ok_or(LENGTH)?;
    if coding.fitting(block.len()) != Some(inside.len()) {
        return Err(LENGTH);
    }
    let end = inside.iter().position(|&b| b == 0).unwrap_or(inside.len());
    if inside[end..].iter().any(|&b| b != 0) {
        return Err("its padding is not zeros");
    }
    let text = std::str::from_utf8(&inside[..end]).map_err(|_| "its text is not UTF-8")?;
    let (before, checksum) = text
        .rsplit_once(CHECKSUM)
        .ok_or("its checksum is missing")?;
    let seed = coding.checksum_seed(inside.len());
    let crc = crc32c::crc32c_append(seed, before.as_bytes());
    if checksum != format!("{crc:08x}\n") {
        return Err("its checksum differs");
    }
    let (_, fields) = before.split_once(FIELDS).ok_or("its fields are missing")?;
    Ok(Fields {
        method: coding.method(),
        lines: fields.to_owned(),
    })
}

/// A line that is not there, or does not say what it must.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unusable(pub(crate) &'static str);

/// The lines `Key: value`, of which later formats may have more.
pub(crate) struct Fields {
    /// By which method the block is covered.
    pub(crate) method: Method,
    lines: String,
}

impl Fields {
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.lines
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))
    }

    pub(crate) fn need(&self, key: &'static str) -> Result<&str, Unusable> {
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
