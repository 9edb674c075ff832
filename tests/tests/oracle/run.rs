//! One run: what is seen is compared with what the base has, what differs is stored, and rows are made of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use taf_format::entry::{Kind, Time};
use taf_format::page::{Chunker, DirectoryStat, Entry, Page, Place};

use super::files::{Inode, Listing, Seen, Snapshot};

/// Live pages by key.
pub type Live = BTreeMap<Vec<u8>, Arc<Page>>;
/// Rows by key, none for a tombstone.
pub type Rows = BTreeMap<Vec<u8>, Option<Arc<Page>>>;
/// What was there when a version was made.
pub type Truth = BTreeMap<Vec<u8>, Listing>;

/// Tar bytes of a directory's header, and of a further name.
const HEADER: u64 = 512;
/// Tar bytes of a file.
const FILE: u64 = 1_024;

/// A rule that is switched off, to see that the oracle notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Off {
    #[default]
    Nothing,
    /// No row for what has gone.
    Tombstones,
    /// A differential writes what differs from the full, whatever the head has.
    Head,
    /// Nothing is doubtful because the clock is coarse.
    Racy,
    /// What can't be looked at is taken for empty.
    Carry,
    /// Rows of an attempt that is not gone on with stay.
    Purge,
    /// Rows go with the version that wrote them.
    Vacuum,
    /// Parts are given free when no bytes in them are needed.
    Release,
    /// A rebuild does not look at what versions need.
    Needs,
}

/// What a run is compared with.
pub struct Bases {
    pub off: Off,
    /// Whether it is compared with the head at all.
    pub builds: bool,
    pub head: Live,
    /// In a differential.
    pub full: Option<Live>,
    /// What earlier attempts have committed.
    pub staged: Rows,
    /// What was there when the head was made.
    pub head_truth: Truth,
}

/// What a run makes.
pub struct Made {
    /// In the order of the tape, each with the tar offset behind all that its page names of this archive.
    pub rows: Vec<(Vec<u8>, Option<Page>, u64)>,
    /// Bytes by their place: length and content.
    pub contents: BTreeMap<u64, (u64, u64)>,
    /// Tar bytes.
    pub length: u64,
    pub truth: Truth,
}

fn hash(content: u64) -> [u8; 16] {
    let hash = blake3::hash(&content.to_le_bytes());
    let mut first = [0; 16];
    first.copy_from_slice(&hash.as_bytes()[..16]);
    first
}

fn time(seconds: i64) -> Time {
    Time { seconds, nanos: 0 }
}

/// The directory's path of a full key.
fn path(key: &[u8]) -> Vec<u8> {
    let slash = |&byte: &u8| if byte == 0 { b'/' } else { byte };
    key.iter().map(slash).collect()
}

fn is_below(key: &[u8], top: &[u8]) -> bool {
    key.strip_prefix(top)
        .is_some_and(|rest| rest.first().is_none_or(|byte| *byte == 0))
}

/// Makes the run. `unreadable` is the full key of a directory that can't be looked at.
pub fn run(
    snapshot: &Snapshot,
    unreadable: Option<&[u8]>,
    bases: &Bases,
    ordinal: u32,
    now: i64,
) -> Made {
    let mut against = match (&bases.full, bases.builds) {
        (Some(full), _) => full.clone(),
        (None, true) => bases.head.clone(),
        (None, false) => Live::new(),
    };
    for (key, row) in &bases.staged {
        match row {
            Some(page) => against.insert(key.clone(), Arc::clone(page)),
            None => against.remove(key),
        };
    }
    let mut archive = Archive {
        ordinal,
        now: if bases.off == Off::Racy {
            i64::MAX
        } else {
            now
        },
        length: 0,
        contents: BTreeMap::new(),
        carriers: HashMap::new(),
    };
    let known = Known::of(&against);
    let mut truth = snapshot.clone();
    let mut new: BTreeMap<Vec<u8>, (Page, u64)> = BTreeMap::new();
    if let Some(top) = unreadable {
        carry(top, bases, &mut truth, &mut new);
    }
    for (key, listing) in &truth {
        if unreadable.is_some_and(|top| is_below(key, top)) {
            if bases.off == Off::Carry {
                new.retain(|_, (page, _)| page.directory != path(key));
            }
            continue;
        }
        for page in archive.directory(key, listing, &known) {
            new.insert(page.chunk(), (page, archive.length));
        }
    }
    let mut keys: BTreeSet<&Vec<u8>> = new.keys().collect();
    if bases.builds {
        keys.extend(bases.head.keys());
    }
    keys.extend(bases.full.iter().flat_map(BTreeMap::keys));
    keys.extend(bases.staged.keys());
    let mut rows = Vec::new();
    let mut end = 0;
    for key in keys {
        let page = new.get(key);
        end = end.max(page.map_or(0, |(_, end)| *end));
        let page = page.map(|(page, _)| page);
        if page.is_none() && bases.off == Off::Tombstones {
            continue;
        }
        if is_written(key, page, bases) {
            rows.push((key.clone(), page.cloned(), end));
        }
    }
    Made {
        rows,
        contents: archive.contents,
        length: archive.length,
        truth,
    }
}

/// What can't be looked at stays as the head has it; what the head does not have either is left out.
fn carry(top: &[u8], bases: &Bases, truth: &mut Truth, new: &mut BTreeMap<Vec<u8>, (Page, u64)>) {
    truth.retain(|key, _| !is_below(key, top));
    let mut found = false;
    for (key, listing) in &bases.head_truth {
        if is_below(key, top) {
            truth.insert(key.clone(), listing.clone());
            found = true;
        }
    }
    for (key, page) in &bases.head {
        if is_below(&taf_format::key::of_path(&page.directory), top) {
            new.insert(key.clone(), (Page::clone(page), 0));
        }
    }
    if !found {
        let at = top.iter().rposition(|byte| *byte == 0);
        let (parent, name) = at.map_or((&[][..], top), |at| (&top[..at], &top[at + 1..]));
        if let Some(listing) = truth.get_mut(parent) {
            listing.entries.remove(name);
        }
    }
}

/// Rule 6, and what is staged already.
fn is_written(key: &[u8], new: Option<&Page>, bases: &Bases) -> bool {
    if let Some(staged) = bases.staged.get(key) {
        return differs(new, staged.as_deref());
    }
    if !bases.builds {
        return new.is_some();
    }
    let differs = |from: &Live| differs(new, from.get(key).map(Arc::as_ref));
    let full = bases.full.as_ref();
    (differs(&bases.head) && !(full.is_some() && bases.off == Off::Head))
        || full.is_some_and(differs)
}

/// Whether a page says something new. That it only clears a mark of doubt does not count.
fn differs(new: Option<&Page>, old: Option<&Page>) -> bool {
    let (Some(new), Some(old)) = (new, old) else {
        return new.is_some() != old.is_some();
    };
    let bare = Page {
        entries: Vec::new(),
        ..new.clone()
    };
    let old_bare = Page {
        entries: Vec::new(),
        ..old.clone()
    };
    bare != old_bare
        || new.entries.len() != old.entries.len()
        || new.entries.iter().zip(&old.entries).any(|(new, old)| {
            let doubtful = Entry {
                racy: new.racy || old.racy,
                ..new.clone()
            };
            doubtful != *old
        })
}

/// What a run is compared with, by directory and name.
struct Known {
    directories: BTreeMap<Vec<u8>, DirectoryStat>,
    entries: BTreeMap<(Vec<u8>, Vec<u8>), Entry>,
}

impl Known {
    fn of(live: &Live) -> Self {
        let mut known = Self {
            directories: BTreeMap::new(),
            entries: BTreeMap::new(),
        };
        for page in live.values() {
            if let Some(header) = &page.header {
                known
                    .directories
                    .insert(page.directory.clone(), header.clone());
            }
            for entry in &page.entries {
                let key = (page.directory.clone(), entry.name.clone());
                known.entries.insert(key, entry.clone());
            }
        }
        known
    }
}

/// The archive under construction.
struct Archive {
    ordinal: u32,
    now: i64,
    length: u64,
    contents: BTreeMap<u64, (u64, u64)>,
    /// Places of files with several names that this archive carries.
    carriers: HashMap<u64, Place>,
}

impl Archive {
    fn put(&mut self, length: u64, content: u64) -> Place {
        let place = Place {
            archive_ordinal: self.ordinal,
            tar_offset: self.length,
        };
        self.contents.insert(self.length, (length, content));
        self.length += length;
        place
    }

    fn directory(&mut self, key: &[u8], listing: &Listing, known: &Known) -> Vec<Page> {
        let path = path(key);
        let stat = DirectoryStat {
            mode: listing.mode,
            inode: listing.inode,
            ..DirectoryStat::default()
        };
        let old = known.directories.get(&path);
        let same = |old: &&DirectoryStat| (old.mode, old.inode) == (stat.mode, stat.inode);
        let place = match old.filter(same).and_then(|old| old.place) {
            Some(place) => place,
            None => self.put(HEADER, 0),
        };
        let header = DirectoryStat {
            place: Some(place),
            tar_length: HEADER,
            ..stat
        };
        let mut chunker = Chunker::new(path.clone(), Some(header));
        let mut pages = Vec::new();
        for (name, seen) in &listing.entries {
            let entry = match seen {
                Seen::Directory => Entry::bare(name.clone(), Kind::Directory),
                Seen::File(inode) => {
                    let old = known.entries.get(&(path.clone(), name.clone()));
                    self.file(name, inode, old)
                }
            };
            pages.extend(chunker.push(entry).unwrap());
        }
        pages.push(chunker.finish());
        pages
    }

    fn file(&mut self, name: &[u8], inode: &Inode, old: Option<&Entry>) -> Entry {
        let seen = Entry {
            size: inode.size(),
            mtime: time(inode.mtime),
            ctime: time(inode.ctime),
            mode: inode.mode,
            inode: inode.number,
            link_group: if inode.links > 1 { inode.number } else { 0 },
            racy: inode.ctime >= self.now || inode.mtime >= self.now,
            hash: Some(hash(inode.content)),
            ..Entry::bare(name.to_vec(), Kind::File)
        };
        if let Some(old) = old.filter(|old| old.kind == Kind::File) {
            let metadata = |e: &Entry| (e.size, e.mtime, e.ctime, e.mode, e.inode, e.link_group);
            let same = metadata(old) == metadata(&seen);
            if same && !old.racy {
                // Not read: whatever is there is taken for what the base has.
                return Entry {
                    racy: false,
                    ..old.clone()
                };
            }
            let unchanged = (old.size, old.mtime, old.hash) == (seen.size, seen.mtime, seen.hash);
            if unchanged {
                return Entry {
                    place: old.place,
                    tar_length: old.tar_length,
                    ..seen
                };
            }
        }
        let carrier = self.carriers.get(&inode.number).copied();
        let place = match carrier {
            Some(place) => {
                self.put(HEADER, 0);
                place
            }
            None => self.put(FILE, inode.content),
        };
        if inode.links > 1 {
            self.carriers.insert(inode.number, place);
        }
        Entry {
            place: Some(place),
            tar_length: FILE,
            ..seen
        }
    }
}

/// What pages show: directories by their full keys, each with its own metadata and its entries with their content.
pub type Shown = BTreeMap<Vec<u8>, (Option<DirectoryStat>, Entries)>;
/// Entries by name, each with its content if that is there.
pub type Entries = BTreeMap<Vec<u8>, (Entry, Option<u64>)>;

/// Reads pages back into what was there, each file's content from its place; none if that is not there any more.
pub fn shown(live: &Live, content: &dyn Fn(Place) -> Option<u64>) -> Shown {
    let mut directories = Shown::new();
    for page in live.values() {
        let key = taf_format::key::of_path(&page.directory);
        let directory = directories.entry(key).or_default();
        if let Some(header) = &page.header {
            directory.0 = Some(header.clone());
        }
        for entry in &page.entries {
            let bytes = entry.place.and_then(content);
            directory
                .1
                .insert(entry.name.clone(), (entry.clone(), bytes));
        }
    }
    directories
}

/// What differs between an entry that is shown and what was there; bytes that are known to be lost are left out of it.
pub fn wrong(seen: Seen, entry: &Entry, bytes: Option<u64>, lost: bool) -> Option<&'static str> {
    match seen {
        Seen::Directory => (entry.kind != Kind::Directory).then_some("a directory is none"),
        Seen::File(inode) => {
            let metadata = (entry.inode, entry.mode, entry.mtime, entry.ctime);
            let there = (
                inode.number,
                inode.mode,
                time(inode.mtime),
                time(inode.ctime),
            );
            if entry.kind != Kind::File || metadata != there {
                return Some("metadata");
            }
            match bytes {
                Some(bytes) => (bytes != inode.content).then_some("content"),
                None => (!lost).then_some("bytes are gone"),
            }
        }
    }
}
