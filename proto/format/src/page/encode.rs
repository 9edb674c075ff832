//! Encodes pages: head, then columns, compressed.
//!
//! Each value is written as its difference from what is likely: the entry before, the directory itself, the
//! end of the entry before on tape. Likely values become zeros, and zeros compress.

use super::columns::{put_delta, put_number, put_text};
use super::{DirectoryStat, Entry, Error, MAX_RAW, Page, Place, validate};
use crate::entry::{Kind, Time};
use crate::key;
use crate::tar::BLOCK;
use std::collections::BTreeMap;
use std::fmt;
use zstd::bulk::Compressor;
use zstd::zstd_safe::CParameter;

/// Version of the encoding.
pub(super) const VERSION: u8 = 1;

// Flags of the head.
pub(super) const WITH_DICTIONARY: u8 = 1;
pub(super) const STORED: u8 = 2;

// Flags of the page.
pub(super) const HAS_STAT: u8 = 1;
pub(super) const HAS_UPPER: u8 = 2;
pub(super) const HAS_PATH: u8 = 4;
pub(super) const HAS_LOWER: u8 = 8;

// Flags of an entry, above its kind in the low three bits.
pub(super) const KIND_MASK: u8 = 7;
pub(super) const RACY: u8 = 8;
pub(super) const CHANGED: u8 = 16;
pub(super) const HAS_PLACE: u8 = 32;
pub(super) const HAS_HASH: u8 = 64;
pub(super) const HAS_GROUP: u8 = 128;

// Tags of an entry's times.
pub(super) const MTIME_NANOS: u8 = 1;
pub(super) const CTIME_DIFFERS: u8 = 2;
pub(super) const CTIME_NANOS: u8 = 4;
/// Not of its times: it has extended attributes.
pub(super) const HAS_XATTRS: u8 = 8;

const LEVEL: i32 = 3;

/// The kinds by their number in pages.
pub(super) const KINDS: [Kind; 6] = [
    Kind::File,
    Kind::Directory,
    Kind::Symlink,
    Kind::Fifo,
    Kind::CharDevice,
    Kind::BlockDevice,
];

/// An encoded page: the three fields of a page record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// The chunk's key.
    pub chunk: Vec<u8>,
    /// Head and compressed columns.
    pub body: Vec<u8>,
    /// The hashes of the entries that have one, in their order.
    pub hashes: Vec<u8>,
}

/// Encodes pages, one after another, with the same dictionary.
pub struct Encoder {
    compressor: Compressor<'static>,
    dictionary: Option<u32>,
}

impl fmt::Debug for Encoder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = formatter.debug_struct("Encoder");
        debug
            .field("dictionary", &self.dictionary)
            .finish_non_exhaustive()
    }
}

impl Encoder {
    /// Encodes with this dictionary: its number, from 1, and its bytes.
    ///
    /// # Errors
    /// A dictionary that zstd refuses, or the number 0.
    pub fn new(dictionary: Option<(u32, &[u8])>) -> Result<Self, Error> {
        let zstd = |error: std::io::Error| Error::Zstd(error.to_string());
        let (id, bytes) = match dictionary {
            Some((0, _)) => return Err(Error::Dictionary(0)),
            Some((id, bytes)) => (Some(id), bytes),
            None => (None, &[][..]),
        };
        let mut compressor = Compressor::with_dictionary(LEVEL, bytes).map_err(zstd)?;
        // The head says all that these would: they are a fifth of a small page.
        for parameter in [
            CParameter::ContentSizeFlag(false),
            CParameter::ChecksumFlag(false),
            CParameter::DictIdFlag(false),
        ] {
            compressor.set_parameter(parameter).map_err(zstd)?;
        }
        Ok(Self {
            compressor,
            dictionary: id,
        })
    }

    /// Encodes a page.
    ///
    /// # Errors
    /// A page that breaks the rules or passes a limit.
    pub fn encode(&mut self, page: &Page) -> Result<Encoded, Error> {
        validate::page(page)?;
        let chunk = page.chunk();
        let raw = columns(page, key::is_shortened(&chunk));
        validate::limit("bytes before compression", raw.len(), MAX_RAW)?;
        let packed = self
            .compressor
            .compress(&raw)
            .map_err(|error| Error::Zstd(error.to_string()))?;
        let mut body = vec![VERSION];
        if packed.len() < raw.len() {
            body.push(if self.dictionary.is_some() {
                WITH_DICTIONARY
            } else {
                0
            });
            if let Some(id) = self.dictionary {
                put_number(&mut body, u64::from(id));
            }
            put_number(&mut body, raw.len() as u64);
            body.extend_from_slice(&packed);
        } else {
            body.push(STORED);
            put_number(&mut body, raw.len() as u64);
            body.extend_from_slice(&raw);
        }
        let hashes = page.entries.iter().filter_map(|entry| entry.hash);
        Ok(Encoded {
            chunk,
            body,
            hashes: hashes.flatten().collect(),
        })
    }
}

/// Encodes one page; many are cheaper with an [`Encoder`].
///
/// # Errors
/// As [`Encoder::new`] and [`Encoder::encode`].
pub fn encode(page: &Page, dictionary: Option<(u32, &[u8])>) -> Result<Encoded, Error> {
    Encoder::new(dictionary)?.encode(page)
}

/// What the next value is likely to be; made the same way by encoder and decoder.
pub(super) struct Likely {
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: i64,
    pub(super) ctime: i64,
    pub(super) inode: u64,
    pub(super) ordinal: u32,
    ends: BTreeMap<u32, u64>,
}

impl Likely {
    /// Before the first entry: what the directory itself has.
    pub(super) fn new(stat: Option<&DirectoryStat>) -> Self {
        let mut likely = Self {
            // Files' usual mode: a directory's own is no guide.
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 0,
            ctime: 0,
            inode: 0,
            ordinal: 0,
            ends: BTreeMap::new(),
        };
        if let Some(stat) = stat {
            likely.uid = stat.uid;
            likely.gid = stat.gid;
            likely.mtime = stat.mtime.seconds;
            likely.ctime = stat.ctime.seconds;
            likely.inode = stat.inode;
            if let Some(place) = stat.place {
                likely.passed(place, stat.tar_length);
            }
        }
        likely
    }

    /// The tar block where the next entry of this archive begins if nothing lies between.
    pub(super) fn block(&self, ordinal: u32) -> u64 {
        self.ends.get(&ordinal).copied().unwrap_or(0)
    }

    pub(super) fn passed(&mut self, place: Place, length: u64) {
        let end = place.tar_offset.wrapping_add(length) / BLOCK as u64;
        self.ends.insert(place.archive_ordinal, end);
        self.ordinal = place.archive_ordinal;
    }
}

/// The tar blocks that a file of this size takes without headers.
pub(super) fn data_blocks(size: u64) -> u64 {
    size.div_ceil(BLOCK as u64)
}

/// Everything of a page that is compressed.
fn columns(page: &Page, with_path: bool) -> Vec<u8> {
    let mut raw = Vec::with_capacity(64 + page.entries.len() * 48);
    let mut flags = 0;
    let mut set = |flag, on| flags |= if on { flag } else { 0 };
    set(HAS_STAT, page.header.is_some());
    set(HAS_UPPER, page.upper.is_some());
    set(HAS_PATH, with_path);
    set(HAS_LOWER, with_path && page.lower.is_some());
    raw.push(flags);
    if with_path {
        put_text(&mut raw, &page.directory);
        if let Some(lower) = &page.lower {
            put_text(&mut raw, lower);
        }
    }
    if let Some(upper) = &page.upper {
        put_text(&mut raw, upper);
    }
    if let Some(stat) = &page.header {
        put_stat(&mut raw, stat);
    }
    put_number(&mut raw, page.entries.len() as u64);
    put_names(&mut raw, &page.entries);
    raw.extend(page.entries.iter().map(entry_flags));
    let plain: Vec<&Entry> = page
        .entries
        .iter()
        .filter(|entry| entry.kind != Kind::Directory)
        .collect();
    put_owners(&mut raw, &plain, page.header.as_ref());
    put_times(&mut raw, &plain, page.header.as_ref());
    put_content(&mut raw, &plain);
    put_places(&mut raw, &plain, page.header.as_ref());
    raw
}

fn put_stat(raw: &mut Vec<u8>, stat: &DirectoryStat) {
    for number in [stat.mode, stat.uid, stat.gid] {
        put_number(raw, u64::from(number));
    }
    put_text(raw, &stat.user);
    put_text(raw, &stat.group);
    put_delta(raw, 0, stat.mtime.seconds.cast_unsigned());
    put_number(raw, u64::from(stat.mtime.nanos));
    put_delta(
        raw,
        stat.mtime.seconds.cast_unsigned(),
        stat.ctime.seconds.cast_unsigned(),
    );
    put_number(raw, u64::from(stat.ctime.nanos));
    put_number(raw, stat.inode);
    put_number(raw, u64::from(stat.flags));
    raw.push(u8::from(stat.place.is_some()));
    if let Some(place) = stat.place {
        put_number(raw, u64::from(place.archive_ordinal));
        put_number(raw, place.tar_offset / BLOCK as u64);
        put_number(raw, stat.tar_length / BLOCK as u64);
    }
    put_number(raw, stat.xattrs.len() as u64);
    for xattr in &stat.xattrs {
        put_text(raw, &xattr.name);
        put_text(raw, &xattr.value);
    }
}

fn put_names(raw: &mut Vec<u8>, entries: &[Entry]) {
    let mut before: &[u8] = &[];
    let mut shared_lengths = Vec::new();
    let mut rest_lengths = Vec::new();
    let mut rests = Vec::new();
    for entry in entries {
        let pairs = before.iter().zip(&entry.name);
        let shared = pairs.take_while(|(a, b)| a == b).count();
        put_number(&mut shared_lengths, shared as u64);
        put_number(&mut rest_lengths, (entry.name.len() - shared) as u64);
        rests.extend_from_slice(&entry.name[shared..]);
        before = &entry.name;
    }
    raw.extend_from_slice(&shared_lengths);
    raw.extend_from_slice(&rest_lengths);
    raw.extend_from_slice(&rests);
}

fn entry_flags(entry: &Entry) -> u8 {
    let kind = KINDS.iter().position(|&kind| kind == entry.kind);
    let mut flags = kind.expect("all kinds are listed") as u8;
    for (flag, on) in [
        (RACY, entry.racy),
        (CHANGED, entry.changed_while_read),
        (HAS_PLACE, entry.place.is_some()),
        (HAS_HASH, entry.hash.is_some()),
        (HAS_GROUP, entry.link_group != 0),
    ] {
        if on {
            flags |= flag;
        }
    }
    flags
}

fn put_owners(raw: &mut Vec<u8>, entries: &[&Entry], stat: Option<&DirectoryStat>) {
    let mut likely = Likely::new(stat);
    for entry in entries {
        put_number(raw, u64::from(entry.mode ^ likely.mode));
        likely.mode = entry.mode;
    }
    for entry in entries {
        put_delta(raw, u64::from(likely.uid), u64::from(entry.uid));
        likely.uid = entry.uid;
    }
    for entry in entries {
        put_delta(raw, u64::from(likely.gid), u64::from(entry.gid));
        likely.gid = entry.gid;
    }
    for entry in entries {
        put_delta(raw, likely.inode, entry.inode);
        likely.inode = entry.inode;
    }
}

fn time_tag(entry: &Entry) -> u8 {
    let mut tag = 0;
    if entry.mtime.nanos != 0 {
        tag |= MTIME_NANOS;
    }
    if entry.ctime != entry.mtime {
        tag |= CTIME_DIFFERS;
        if entry.ctime.nanos != 0 {
            tag |= CTIME_NANOS;
        }
    }
    if entry.xattrs.is_some() {
        tag |= HAS_XATTRS;
    }
    tag
}

fn put_times(raw: &mut Vec<u8>, entries: &[&Entry], stat: Option<&DirectoryStat>) {
    let mut likely = Likely::new(stat);
    raw.extend(entries.iter().map(|entry| time_tag(entry)));
    for entry in entries {
        put_delta(
            raw,
            likely.mtime.cast_unsigned(),
            entry.mtime.seconds.cast_unsigned(),
        );
        likely.mtime = entry.mtime.seconds;
    }
    for entry in entries {
        if entry.ctime != entry.mtime {
            put_delta(
                raw,
                likely.ctime.cast_unsigned(),
                entry.ctime.seconds.cast_unsigned(),
            );
        }
        likely.ctime = entry.ctime.seconds;
    }
    let nanos = |raw: &mut Vec<u8>, time: Time| raw.extend_from_slice(&time.nanos.to_le_bytes());
    for entry in entries.iter().filter(|entry| entry.mtime.nanos != 0) {
        nanos(raw, entry.mtime);
    }
    for entry in entries {
        if entry.ctime != entry.mtime && entry.ctime.nanos != 0 {
            nanos(raw, entry.ctime);
        }
    }
    for digest in entries.iter().filter_map(|entry| entry.xattrs) {
        raw.extend_from_slice(&digest);
    }
}

fn put_content(raw: &mut Vec<u8>, entries: &[&Entry]) {
    for entry in entries.iter().filter(|entry| entry.kind == Kind::File) {
        put_number(raw, entry.size);
    }
    for entry in entries.iter().filter(|entry| entry.kind == Kind::Symlink) {
        put_text(raw, &entry.link_target);
    }
    for entry in entries {
        if matches!(entry.kind, Kind::CharDevice | Kind::BlockDevice) {
            put_number(raw, u64::from(entry.rdev_major));
            put_number(raw, u64::from(entry.rdev_minor));
        }
    }
    for entry in entries.iter().filter(|entry| entry.link_group != 0) {
        put_delta(raw, entry.inode, entry.link_group);
    }
}

fn put_places(raw: &mut Vec<u8>, entries: &[&Entry], stat: Option<&DirectoryStat>) {
    let placed = || {
        entries
            .iter()
            .filter_map(|entry| Some((entry, entry.place?)))
    };
    let mut likely = Likely::new(stat);
    for (_, place) in placed() {
        put_delta(
            raw,
            u64::from(likely.ordinal),
            u64::from(place.archive_ordinal),
        );
        likely.ordinal = place.archive_ordinal;
    }
    for (entry, _) in placed() {
        put_delta(
            raw,
            data_blocks(entry.size),
            entry.tar_length / BLOCK as u64,
        );
    }
    for (entry, place) in placed() {
        let block = place.tar_offset / BLOCK as u64;
        put_delta(raw, likely.block(place.archive_ordinal), block);
        likely.passed(place, entry.tar_length);
    }
}
