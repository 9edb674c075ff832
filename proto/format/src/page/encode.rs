//! Encodes pages: head, then columns, compressed as far as that is of use.
//!
//! Each value is written as its difference from what is likely: the entry before, the directory itself, the
//! end of the entry before on tape. Likely values become zeros, and zeros compress.

use super::columns::Writer;
use super::trainer::Trainer;
use super::{DirectoryStat, Entry, Error, MAX_RAW, Page, Place, validate};
use crate::entry::Kind;
use crate::key;
use crate::tar::BLOCK;
use crate::varint;
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

/// Bits of a count below a second, by the trailing decimal zeros that the nanoseconds of a page have in common.
pub(super) const NANO_BITS: [u32; 9] = [30, 27, 24, 20, 17, 14, 10, 7, 4];

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
    trainer: Option<Trainer>,
    learned: Option<Vec<u8>>,
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
            trainer: None,
            learned: None,
        })
    }

    /// Encodes without a dictionary, and learns one: ask [`Encoder::learned`] after each page.
    ///
    /// # Errors
    /// As [`Encoder::new`].
    pub fn learning() -> Result<Self, Error> {
        Ok(Self {
            trainer: Some(Trainer::new()),
            ..Self::new(None)?
        })
    }

    /// A dictionary that was learned from the pages so far, at most 32 KiB; from time to time there is one. The one to use for
    /// what follows is [`Encoder::follow`]'s.
    pub fn learned(&mut self) -> Option<Vec<u8>> {
        self.learned.take()
    }

    /// Uses this dictionary from now on, and goes on learning.
    ///
    /// # Errors
    /// As [`Encoder::new`].
    pub fn follow(&mut self, id: u32, dictionary: &[u8]) -> Result<(), Error> {
        let trainer = self.trainer.take();
        *self = Self {
            trainer,
            ..Self::new(Some((id, dictionary)))?
        };
        Ok(())
    }

    /// Encodes a page.
    ///
    /// # Errors
    /// A page that breaks the rules or passes a limit.
    pub fn encode(&mut self, page: &Page) -> Result<Encoded, Error> {
        validate::page(page)?;
        let chunk = page.chunk();
        let (words, bits) = columns(page, key::is_shortened(&chunk));
        let length = words.len() + bits.len();
        validate::limit("bytes before compression", length, MAX_RAW)?;
        if let Some(trainer) = &mut self.trainer {
            self.learned = trainer.see(&words).or(self.learned.take());
        }
        self.trainer.take_if(|trainer| trainer.is_done());
        let packed = self
            .compressor
            .compress(&words)
            .map_err(|error| Error::Zstd(error.to_string()))?;
        let mut body = vec![VERSION];
        if packed.len() < words.len() {
            body.push(if self.dictionary.is_some() {
                WITH_DICTIONARY
            } else {
                0
            });
            if let Some(id) = self.dictionary {
                varint::put(&mut body, u64::from(id));
            }
            varint::put(&mut body, words.len() as u64);
            varint::put(&mut body, packed.len() as u64);
            body.extend_from_slice(&packed);
        } else {
            body.push(STORED);
            varint::put(&mut body, words.len() as u64);
            body.extend_from_slice(&words);
        }
        body.extend_from_slice(&bits);
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

/// Everything of a page but its hashes: words and bits.
fn columns(page: &Page, with_path: bool) -> (Vec<u8>, Vec<u8>) {
    let mut raw = Writer::default();
    let mut flags = 0;
    let mut set = |flag, on| flags |= if on { flag } else { 0 };
    set(HAS_STAT, page.header.is_some());
    set(HAS_UPPER, page.upper.is_some());
    set(HAS_PATH, with_path);
    set(HAS_LOWER, with_path && page.lower.is_some());
    raw.byte(flags);
    if with_path {
        raw.text(&page.directory);
        if let Some(lower) = &page.lower {
            raw.text(lower);
        }
    }
    if let Some(upper) = &page.upper {
        raw.text(upper);
    }
    if let Some(stat) = &page.header {
        put_stat(&mut raw, stat);
    }
    raw.number(page.entries.len() as u64);
    put_names(&mut raw, &page.entries);
    for entry in &page.entries {
        raw.byte(entry_flags(entry));
    }
    let plain: Vec<&Entry> = page
        .entries
        .iter()
        .filter(|entry| entry.kind != Kind::Directory)
        .collect();
    put_owners(&mut raw, &plain, page.header.as_ref());
    put_times(&mut raw, &plain, page.header.as_ref());
    put_content(&mut raw, &plain);
    put_places(&mut raw, &plain, page.header.as_ref());
    raw.finish()
}

fn put_stat(raw: &mut Writer, stat: &DirectoryStat) {
    for number in [stat.mode, stat.uid, stat.gid] {
        raw.number(u64::from(number));
    }
    raw.text(&stat.user);
    raw.text(&stat.group);
    raw.delta(0, stat.mtime.seconds.cast_unsigned());
    raw.number(u64::from(stat.mtime.nanos));
    raw.delta(
        stat.mtime.seconds.cast_unsigned(),
        stat.ctime.seconds.cast_unsigned(),
    );
    raw.number(u64::from(stat.ctime.nanos));
    raw.number(stat.inode);
    raw.number(u64::from(stat.flags));
    raw.byte(u8::from(stat.place.is_some()));
    if let Some(place) = stat.place {
        raw.number(u64::from(place.archive_ordinal));
        raw.number(place.tar_offset / BLOCK as u64);
        raw.number(stat.tar_length / BLOCK as u64);
    }
    raw.number(stat.xattrs.len() as u64);
    for xattr in &stat.xattrs {
        raw.text(&xattr.name);
        raw.text(&xattr.value);
    }
}

fn put_names(raw: &mut Writer, entries: &[Entry]) {
    let mut before: &[u8] = &[];
    for entry in entries {
        let pairs = before.iter().zip(&entry.name);
        let shared = pairs.take_while(|(a, b)| a == b).count();
        raw.number(shared as u64);
        raw.bytes(&entry.name[shared..]);
        raw.byte(0);
        before = &entry.name;
    }
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

fn put_owners(raw: &mut Writer, entries: &[&Entry], stat: Option<&DirectoryStat>) {
    let mut likely = Likely::new(stat);
    for entry in entries {
        raw.number(u64::from(entry.mode ^ likely.mode));
        likely.mode = entry.mode;
    }
    for entry in entries {
        raw.delta(u64::from(likely.uid), u64::from(entry.uid));
        likely.uid = entry.uid;
    }
    for entry in entries {
        raw.delta(u64::from(likely.gid), u64::from(entry.gid));
        likely.gid = entry.gid;
    }
    for entry in entries {
        raw.delta(likely.inode, entry.inode);
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

fn put_times(raw: &mut Writer, entries: &[&Entry], stat: Option<&DirectoryStat>) {
    let mut likely = Likely::new(stat);
    for entry in entries {
        raw.byte(time_tag(entry));
    }
    for entry in entries {
        raw.delta(
            likely.mtime.cast_unsigned(),
            entry.mtime.seconds.cast_unsigned(),
        );
        likely.mtime = entry.mtime.seconds;
    }
    for entry in entries {
        if entry.ctime != entry.mtime {
            raw.delta(
                likely.ctime.cast_unsigned(),
                entry.ctime.seconds.cast_unsigned(),
            );
        }
        likely.ctime = entry.ctime.seconds;
    }
    put_nanos(raw, entries);
    for digest in entries.iter().filter_map(|entry| entry.xattrs) {
        for half in digest.as_chunks::<4>().0 {
            raw.bits(u32::from_le_bytes(*half), 32);
        }
    }
}

/// The nanoseconds, in the largest decimal unit that all of them are multiples of: many file systems count more coarsely.
fn put_nanos(raw: &mut Writer, entries: &[&Entry]) {
    let mtimes = entries.iter().map(|entry| entry.mtime.nanos);
    let own = entries.iter().filter(|entry| entry.ctime != entry.mtime);
    let ctimes = own.map(|entry| entry.ctime.nanos);
    let nanos: Vec<u32> = mtimes.chain(ctimes).filter(|&nanos| nanos != 0).collect();
    if nanos.is_empty() {
        return;
    }
    let (mut unit, mut zeros) = (1, 0);
    while nanos.iter().all(|nanos| nanos.is_multiple_of(unit * 10)) {
        unit *= 10;
        zeros += 1;
    }
    raw.byte(zeros);
    for nanos in nanos {
        raw.bits(nanos / unit, NANO_BITS[usize::from(zeros)]);
    }
}

fn put_content(raw: &mut Writer, entries: &[&Entry]) {
    for entry in entries.iter().filter(|entry| entry.kind == Kind::File) {
        raw.number(entry.size);
    }
    for entry in entries.iter().filter(|entry| entry.kind == Kind::Symlink) {
        raw.text(&entry.link_target);
    }
    for entry in entries {
        if matches!(entry.kind, Kind::CharDevice | Kind::BlockDevice) {
            raw.number(u64::from(entry.rdev_major));
            raw.number(u64::from(entry.rdev_minor));
        }
    }
    for entry in entries.iter().filter(|entry| entry.link_group != 0) {
        raw.delta(entry.inode, entry.link_group);
    }
}

fn put_places(raw: &mut Writer, entries: &[&Entry], stat: Option<&DirectoryStat>) {
    let placed = || {
        entries
            .iter()
            .filter_map(|entry| Some((entry, entry.place?)))
    };
    let mut likely = Likely::new(stat);
    for (_, place) in placed() {
        raw.delta(u64::from(likely.ordinal), u64::from(place.archive_ordinal));
        likely.ordinal = place.archive_ordinal;
    }
    for (entry, _) in placed() {
        raw.delta(data_blocks(entry.size), entry.tar_length / BLOCK as u64);
    }
    for (entry, place) in placed() {
        let block = place.tar_offset / BLOCK as u64;
        raw.delta(likely.block(place.archive_ordinal), block);
        likely.passed(place, entry.tar_length);
    }
}
