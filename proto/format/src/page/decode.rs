//! Decodes pages. Nothing that the bytes say is believed before it is checked, and no allocation passes the
//! limits of [`page`](super).

use super::columns::Reader;
use super::encode::{
    CHANGED, CTIME_DIFFERS, CTIME_NANOS, HAS_GROUP, HAS_HASH, HAS_LOWER, HAS_PATH, HAS_PLACE,
    HAS_STAT, HAS_UPPER, HAS_XATTRS, KIND_MASK, KINDS, Likely, MTIME_NANOS, NANO_BITS, RACY,
    STORED, VERSION, WITH_DICTIONARY, data_blocks,
};
use super::names::Names;
use super::{
    Dictionaries, DirectoryStat, Entry, Error, HASH, MAX_BODY, MAX_ENTRIES, MAX_NAME, MAX_PATH,
    MAX_RAW, MAX_TARGET, MAX_TEXT, MAX_XATTRS, Page, Place, XATTR_DIGEST, validate,
};
use crate::entry::{Kind, Xattr};
use crate::key;
use crate::tar::BLOCK;
use crate::varint;
use std::collections::HashMap;
use std::fmt;
use zstd::bulk::Decompressor;

/// Decodes pages, one after another.
#[derive(Default)]
pub struct Decoder {
    dictionaries: Dictionaries,
    /// By dictionary, 0 for none.
    decompressors: HashMap<u32, Decompressor<'static>>,
}

impl fmt::Debug for Decoder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = formatter.debug_struct("Decoder");
        debug
            .field("dictionaries", &self.dictionaries)
            .finish_non_exhaustive()
    }
}

impl Decoder {
    /// Decodes with these dictionaries.
    pub fn new(dictionaries: Dictionaries) -> Self {
        Self {
            dictionaries,
            decompressors: HashMap::new(),
        }
    }

    /// Takes in a dictionary that came with the pages. Whether it was not known.
    ///
    /// # Errors
    /// As [`Dictionaries::insert`].
    pub fn learn(&mut self, id: u32, dictionary: &[u8]) -> Result<bool, Error> {
        self.dictionaries.insert(id, dictionary)
    }

    /// Decodes a page from the fields of its record. Without `hashes`, entries have no hash.
    ///
    /// # Errors
    /// Bytes that are no page, break a rule or a limit, or need a dictionary that is missing.
    pub fn decode(
        &mut self,
        chunk: &[u8],
        body: &[u8],
        hashes: Option<&[u8]>,
    ) -> Result<Page, Error> {
        self.columns(chunk, body, |columns| read(chunk, columns, hashes))
    }

    /// Decodes directory, names and kinds of a page, and nothing else.
    ///
    /// # Errors
    /// As [`Decoder::decode`], as far as that is looked at.
    pub fn names(&mut self, chunk: &[u8], body: &[u8], into: &mut Names) -> Result<(), Error> {
        self.columns(chunk, body, |columns| into.read(chunk, columns))
    }

    fn columns<T>(
        &mut self,
        chunk: &[u8],
        body: &[u8],
        read: impl FnOnce(Reader<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        validate::limit("bytes", body.len(), MAX_BODY)?;
        validate::limit("bytes in its key", chunk.len(), key::SHORTENED)?;
        let head = Head::take(body)?;
        let Some(packed) = head.packed else {
            return read(Reader::new(head.words, head.bits));
        };
        let words = self
            .decompressor(head.dictionary)?
            .decompress(head.words, packed)
            .map_err(|error| Error::Zstd(error.to_string()))?;
        if words.len() != packed {
            return Err(Error::Damaged("it has another length than its head says"));
        }
        read(Reader::new(&words, head.bits))
    }

    fn decompressor(&mut self, id: u32) -> Result<&mut Decompressor<'static>, Error> {
        use std::collections::hash_map::Entry::{Occupied, Vacant};
        match self.decompressors.entry(id) {
            Occupied(entry) => Ok(entry.into_mut()),
            Vacant(entry) => {
                let made = if id == 0 {
                    Decompressor::new()
                } else {
                    let dictionary = self.dictionaries.get(id).ok_or(Error::Dictionary(id))?;
                    Decompressor::with_dictionary(dictionary)
                };
                let made = made.map_err(|error| Error::Zstd(error.to_string()))?;
                Ok(entry.insert(made))
            }
        }
    }
}

/// What a body begins with, and what follows it.
struct Head<'a> {
    /// 0 for none.
    dictionary: u32,
    /// Length that the words have when decompressed, if they are compressed.
    packed: Option<usize>,
    words: &'a [u8],
    bits: &'a [u8],
}

impl<'a> Head<'a> {
    fn take(body: &'a [u8]) -> Result<Self, Error> {
        let (&[version, flags], mut rest) = body
            .split_first_chunk::<2>()
            .ok_or(Error::Damaged("it has no head"))?;
        if version != VERSION {
            return Err(Error::Version(version));
        }
        let mut number =
            || varint::take(&mut rest).ok_or(Error::Damaged("a number is cut or too large"));
        let dictionary = match flags {
            0 | STORED => 0,
            WITH_DICTIONARY => match number()? {
                0 => return Err(Error::Damaged("it uses dictionary 0")),
                id => u32::try_from(id).map_err(|_| Error::Damaged("a number is above 2^32"))?,
            },
            _ => return Err(Error::Damaged("it has unknown flags")),
        };
        let length = number()?;
        if length > MAX_RAW as u64 {
            return Err(Error::TooLarge {
                what: "bytes before compression",
                length,
                limit: MAX_RAW as u64,
            });
        }
        let (packed, stored) = match flags {
            STORED => (None, length),
            _ => (Some(length as usize), number()?),
        };
        let stored = usize::try_from(stored).ok();
        let (words, bits) = stored
            .and_then(|stored| rest.split_at_checked(stored))
            .ok_or(Error::Damaged("its columns end too early"))?;
        Ok(Self {
            dictionary,
            packed,
            words,
            bits,
        })
    }
}

/// The number of the dictionary that a page's body needs, none if it needs none.
///
/// # Errors
/// A body that has no head.
pub fn dictionary_of(body: &[u8]) -> Result<Option<u32>, Error> {
    let head = Head::take(body)?;
    Ok((head.dictionary != 0).then_some(head.dictionary))
}

/// Decodes one page; many are cheaper with a [`Decoder`].
///
/// # Errors
/// As [`Decoder::decode`].
pub fn decode(
    chunk: &[u8],
    body: &[u8],
    hashes: Option<&[u8]>,
    dictionaries: &Dictionaries,
) -> Result<Page, Error> {
    Decoder::new(dictionaries.clone()).decode(chunk, body, hashes)
}

fn read(chunk: &[u8], mut columns: Reader<'_>, hashes: Option<&[u8]>) -> Result<Page, Error> {
    let mut page = read_bounds(chunk, &mut columns)?;
    page.entries = read_names(&mut columns)?;
    let flags = columns.bytes(page.entries.len())?;
    let mut plain = Vec::with_capacity(page.entries.len());
    for (entry, &flags) in page.entries.iter_mut().zip(flags) {
        let kind = KINDS.get(usize::from(flags & KIND_MASK));
        entry.kind = *kind.ok_or(Error::Damaged("an entry is of an unknown kind"))?;
        if entry.kind != Kind::Directory {
            entry.racy = flags & RACY != 0;
            entry.changed_while_read = flags & CHANGED != 0;
            plain.push((entry, flags));
        } else if flags & !KIND_MASK != 0 {
            return Err(Error::Damaged("a directory's entry has flags"));
        }
    }
    read_owners(&mut columns, &mut plain, page.header.as_ref())?;
    read_times(&mut columns, &mut plain, page.header.as_ref())?;
    read_content(&mut columns, &mut plain)?;
    read_places(&mut columns, &mut plain, page.header.as_ref())?;
    columns.finish()?;
    read_hashes(hashes, &mut plain)?;
    validate::page(&page)?;
    Ok(page)
}

pub(super) fn read_bounds(chunk: &[u8], columns: &mut Reader<'_>) -> Result<Page, Error> {
    let flags = columns.byte()?;
    let has = |flag| flags & flag != 0;
    if flags & !(HAS_STAT | HAS_UPPER | HAS_PATH | HAS_LOWER) != 0 {
        return Err(Error::Damaged("it has unknown flags"));
    }
    if has(HAS_PATH) != key::is_shortened(chunk) || has(HAS_LOWER) && !has(HAS_PATH) {
        return Err(Error::Damaged("its path is missing, or stated twice"));
    }
    let mut page = Page::default();
    if let Some((directory, lower)) = key::split(chunk) {
        page.directory = directory;
        page.lower = lower;
    } else {
        page.directory = columns.text("a path", MAX_PATH)?.to_vec();
        if has(HAS_LOWER) {
            page.lower = Some(columns.text("a name", MAX_NAME)?.to_vec());
        }
    }
    if page.chunk() != chunk {
        return Err(Error::Damaged("its key is not that of its directory"));
    }
    if has(HAS_UPPER) {
        page.upper = Some(columns.text("a name", MAX_NAME)?.to_vec());
    }
    if has(HAS_STAT) {
        page.header = Some(read_stat(columns)?);
    }
    Ok(page)
}

fn bytes_of(blocks: u64) -> Result<u64, Error> {
    blocks
        .checked_mul(BLOCK as u64)
        .ok_or(Error::Damaged("a place is beyond 2^64"))
}

fn read_stat(columns: &mut Reader<'_>) -> Result<DirectoryStat, Error> {
    let mut stat = DirectoryStat {
        mode: columns.number_u32()?,
        uid: columns.number_u32()?,
        gid: columns.number_u32()?,
        user: columns.text("an owner's name", MAX_NAME)?.to_vec(),
        group: columns.text("a group's name", MAX_NAME)?.to_vec(),
        ..DirectoryStat::default()
    };
    stat.mtime.seconds = columns.delta(0)?.cast_signed();
    stat.mtime.nanos = columns.number_u32()?;
    stat.ctime.seconds = columns
        .delta(stat.mtime.seconds.cast_unsigned())?
        .cast_signed();
    stat.ctime.nanos = columns.number_u32()?;
    stat.inode = columns.number()?;
    stat.flags = columns.number_u32()?;
    match columns.byte()? {
        0 => {}
        1 => {
            stat.place = Some(Place {
                archive_ordinal: columns.number_u32()?,
                tar_offset: bytes_of(columns.number()?)?,
            });
            stat.tar_length = bytes_of(columns.number()?)?;
        }
        _ => {
            return Err(Error::Damaged(
                "a directory's place is neither there nor missing",
            ));
        }
    }
    let count = columns.length("extended attributes", MAX_XATTRS)?;
    let mut left = MAX_XATTRS;
    for _ in 0..count {
        let name = columns.text("bytes of extended attributes", left)?.to_vec();
        left -= name.len();
        let value = columns.text("bytes of extended attributes", left)?.to_vec();
        left -= value.len();
        // Each costs bytes of the page, so a long list of empty ones can't be written.
        if name.is_empty() {
            return Err(Error::Damaged("an extended attribute has no name"));
        }
        stat.xattrs.push(Xattr { name, value });
    }
    Ok(stat)
}

/// Reads the names, and makes an entry of each.
fn read_names(columns: &mut Reader<'_>) -> Result<Vec<Entry>, Error> {
    let count = columns.length("entries", MAX_ENTRIES)?;
    let mut text = 0;
    let mut entries: Vec<Entry> = Vec::with_capacity(count);
    for _ in 0..count {
        let before: &[u8] = entries.last().map_or(&[], |entry| &entry.name);
        let shared = columns.length("bytes in a name", MAX_NAME)?;
        let shared = before
            .get(..shared)
            .ok_or(Error::Damaged("a name shares more than the one before has"))?;
        let name = [shared, columns.terminated()?].concat();
        // Sharing would let a small page grow into a large one.
        text += name.len();
        validate::limit("bytes of names", text, MAX_TEXT)?;
        entries.push(Entry::bare(name, Kind::File));
    }
    Ok(entries)
}

type Plain<'a> = [(&'a mut Entry, u8)];

fn read_owners(
    columns: &mut Reader<'_>,
    entries: &mut Plain<'_>,
    stat: Option<&DirectoryStat>,
) -> Result<(), Error> {
    let mut likely = Likely::new(stat);
    for (entry, _) in entries.iter_mut() {
        entry.mode = columns.number_u32()? ^ likely.mode;
        likely.mode = entry.mode;
    }
    for (entry, _) in entries.iter_mut() {
        entry.uid = columns.delta_u32(likely.uid)?;
        likely.uid = entry.uid;
    }
    for (entry, _) in entries.iter_mut() {
        entry.gid = columns.delta_u32(likely.gid)?;
        likely.gid = entry.gid;
    }
    for (entry, _) in entries.iter_mut() {
        entry.inode = columns.delta(likely.inode)?;
        likely.inode = entry.inode;
    }
    Ok(())
}

fn read_times(
    columns: &mut Reader<'_>,
    entries: &mut Plain<'_>,
    stat: Option<&DirectoryStat>,
) -> Result<(), Error> {
    let mut likely = Likely::new(stat);
    let tags = columns.bytes(entries.len())?;
    for &tag in tags {
        let known = tag & !(MTIME_NANOS | CTIME_DIFFERS | CTIME_NANOS | HAS_XATTRS) == 0;
        if !known || tag & CTIME_NANOS != 0 && tag & CTIME_DIFFERS == 0 {
            return Err(Error::Damaged("an entry's times are of an unknown form"));
        }
    }
    for (entry, _) in entries.iter_mut() {
        entry.mtime.seconds = columns.delta(likely.mtime.cast_unsigned())?.cast_signed();
        likely.mtime = entry.mtime.seconds;
    }
    for ((entry, _), &tag) in entries.iter_mut().zip(tags) {
        entry.ctime.seconds = if tag & CTIME_DIFFERS == 0 {
            entry.mtime.seconds
        } else {
            columns.delta(likely.ctime.cast_unsigned())?.cast_signed()
        };
        likely.ctime = entry.ctime.seconds;
    }
    read_nanos(columns, entries, tags)?;
    for ((entry, _), &tag) in entries.iter_mut().zip(tags) {
        if tag & HAS_XATTRS != 0 {
            let mut digest = [0; XATTR_DIGEST];
            for half in digest.as_chunks_mut::<4>().0 {
                *half = columns.bits(32)?.to_le_bytes();
            }
            entry.xattrs = Some(digest);
        }
    }
    Ok(())
}

fn read_nanos(columns: &mut Reader<'_>, entries: &mut Plain<'_>, tags: &[u8]) -> Result<(), Error> {
    let any = tags
        .iter()
        .any(|tag| tag & (MTIME_NANOS | CTIME_NANOS) != 0);
    let zeros = if any { columns.byte()? } else { 0 };
    let width = NANO_BITS.get(usize::from(zeros));
    let &width = width.ok_or(Error::Damaged("its nanoseconds have no unit"))?;
    let unit = 10_u32.pow(u32::from(zeros));
    let mut nanos = || -> Result<u32, Error> {
        let count = columns.bits(width)?;
        let nanos = count.checked_mul(unit);
        nanos.ok_or(Error::Damaged("a time has too many nanoseconds"))
    };
    for ((entry, _), &tag) in entries.iter_mut().zip(tags) {
        if tag & MTIME_NANOS != 0 {
            entry.mtime.nanos = nanos()?;
        }
    }
    for ((entry, _), &tag) in entries.iter_mut().zip(tags) {
        if tag & CTIME_NANOS != 0 {
            entry.ctime.nanos = nanos()?;
        } else if tag & CTIME_DIFFERS == 0 {
            entry.ctime.nanos = entry.mtime.nanos;
        }
    }
    Ok(())
}

fn read_content(columns: &mut Reader<'_>, entries: &mut Plain<'_>) -> Result<(), Error> {
    for (entry, _) in entries
        .iter_mut()
        .filter(|(entry, _)| entry.kind == Kind::File)
    {
        entry.size = columns.number()?;
    }
    for (entry, _) in entries
        .iter_mut()
        .filter(|(entry, _)| entry.kind == Kind::Symlink)
    {
        entry.link_target = columns.text("bytes in a link target", MAX_TARGET)?.to_vec();
    }
    for (entry, _) in entries.iter_mut() {
        if matches!(entry.kind, Kind::CharDevice | Kind::BlockDevice) {
            entry.rdev_major = columns.number_u32()?;
            entry.rdev_minor = columns.number_u32()?;
        }
    }
    for (entry, _) in entries
        .iter_mut()
        .filter(|(_, flags)| flags & HAS_GROUP != 0)
    {
        entry.link_group = columns.delta(entry.inode)?;
        if entry.link_group == 0 {
            return Err(Error::Damaged("an entry has link group 0"));
        }
    }
    Ok(())
}

fn read_places(
    columns: &mut Reader<'_>,
    entries: &mut Plain<'_>,
    stat: Option<&DirectoryStat>,
) -> Result<(), Error> {
    let mut likely = Likely::new(stat);
    let placed = |entry: &&mut (&mut Entry, u8)| entry.1 & HAS_PLACE != 0;
    for (entry, _) in entries.iter_mut().filter(placed) {
        likely.ordinal = columns.delta_u32(likely.ordinal)?;
        entry.place = Some(Place {
            archive_ordinal: likely.ordinal,
            tar_offset: 0,
        });
    }
    for (entry, _) in entries.iter_mut().filter(placed) {
        entry.tar_length = bytes_of(columns.delta(data_blocks(entry.size))?)?;
    }
    for (entry, _) in entries.iter_mut() {
        if let Some(place) = &mut entry.place {
            place.tar_offset = bytes_of(columns.delta(likely.block(place.archive_ordinal))?)?;
            likely.passed(*place, entry.tar_length);
        }
    }
    Ok(())
}

fn read_hashes(hashes: Option<&[u8]>, entries: &mut Plain<'_>) -> Result<(), Error> {
    let Some(hashes) = hashes else { return Ok(()) };
    let mut hashed = hashes.chunks_exact(HASH);
    for (entry, _) in entries
        .iter_mut()
        .filter(|(_, flags)| flags & HAS_HASH != 0)
    {
        let bytes = hashed.next().ok_or(Error::Damaged("hashes are missing"))?;
        let mut hash = [0; HASH];
        hash.copy_from_slice(bytes);
        entry.hash = Some(hash);
    }
    if hashed.next().is_some() || !hashed.remainder().is_empty() {
        return Err(Error::Damaged(
            "it has more hashes than entries with content",
        ));
    }
    Ok(())
}
