//! Files with several names: in each archive the first one stored carries the bytes.
//!
//! Shared by the streams of a backup, which meet the names of a file at the same time. An archive without the bytes stores them
//! again, so that standard tools read each tape by itself; pages point to the place that was whole first, so that a restore makes
//! one file of all names. Where the base has that place, it is the first. Holds one entry for each such file of which names are
//! still to come, and nothing else; those that are too many for memory are on disk.

mod spill;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use taf_format::entry::{Kind, Time};
use taf_format::page::{HASH, Place};

use self::spill::{Key, Run};
use super::step::Link;

/// Files that are held in memory, each at about 300 bytes.
const LIMIT: usize = 100_000;

/// Where the bytes of a file are, and what is to be said of every name of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carrier {
    /// Path of the name that carries the bytes.
    pub path: Vec<u8>,
    /// Place of its header.
    pub place: Place,
    /// Length in the tar stream from its header to the next.
    pub tar_length: u64,
    /// BLAKE3 of the content, of a file; of one whose bytes are in an earlier archive it is not known whole.
    pub blake3: Option<[u8; 32]>,
    /// As much of it as pages have.
    pub hash: Option<[u8; HASH]>,
    /// Whether it changed while it was read.
    pub changed: bool,
}

#[derive(Debug)]
struct Known {
    /// One for each archive that has the bytes; pages point to the first one.
    carriers: Vec<Carrier>,
    kind: Kind,
    size: u64,
    mtime: Time,
    /// Names still expected.
    left: u32,
}

impl Known {
    fn new(link: &Link, carrier: &Carrier) -> Self {
        Self {
            carriers: vec![carrier.clone()],
            kind: link.kind,
            size: link.size,
            mtime: link.mtime,
            left: link.names.saturating_sub(1),
        }
    }

    fn is(&self, link: &Link) -> bool {
        (self.kind, self.size, self.mtime) == (link.kind, link.size, link.mtime)
    }

    fn in_archive(&self, ordinal: u32) -> Option<&Carrier> {
        self.carriers
            .iter()
            .find(|carrier| carrier.place.archive_ordinal == ordinal)
    }
}

/// What is known of an inode that comes under a further name.
#[derive(Debug, PartialEq, Eq)]
pub enum Met {
    /// The archive does not have its bytes.
    New,
    /// Its bytes are there.
    Again {
        /// The name that carries them in this archive.
        here: Box<Carrier>,
        /// What its page is to say.
        listed: Box<Carrier>,
    },
    /// It was modified since its first name was stored, or the number was given to another file.
    Different,
}

/// What became of a name that was stored with its bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Carried {
    /// It is the first one: pages point to it.
    First,
    /// Another archive was first: pages point there.
    Again(Carrier),
    /// Another archive was first, with another content.
    Different,
}

/// The table.
#[derive(Debug)]
pub struct Links {
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    near: HashMap<Key, Known>,
    runs: Vec<Run>,
    limit: usize,
    folder: PathBuf,
}

impl Default for Links {
    fn default() -> Self {
        let folder = std::env::var_os("TMPDIR").map(PathBuf::from);
        // Large, and on a disk where /tmp may be in memory.
        Self::with(LIMIT, &folder.unwrap_or_else(|| "/var/tmp".into()))
    }
}

impl Table {
    fn get_mut(&mut self, key: &Key) -> Option<&mut Known> {
        if !self.near.contains_key(key) {
            let known = self.runs.iter().find_map(|run| match run.take(*key) {
                Ok(known) => known,
                Err(error) => {
                    tracing::error!(%error, "a table of files with several names can't be read; names of one file may be restored as several");
                    None
                }
            });
            self.insert(*key, known?);
        }
        self.near.get_mut(key)
    }

    fn remove(&mut self, key: &Key) -> Option<Known> {
        self.near.remove(key)
    }

    fn insert(&mut self, key: Key, known: Known) {
        if self.near.len() >= self.limit {
            match Run::write(&self.folder, self.near.iter()) {
                Ok(run) => {
                    self.runs.push(run);
                    self.near.clear();
                }
                Err(error) => {
                    tracing::warn!(%error, folder = %self.folder.display(), "files with several names stay in memory; make room there or set TMPDIR");
                    self.limit *= 2;
                }
            }
        }
        self.near.insert(key, known);
    }
}

impl Links {
    /// A table that holds so many files in memory, and the others in `folder`.
    fn with(limit: usize, folder: &Path) -> Self {
        Self {
            table: Mutex::new(Table {
                near: HashMap::new(),
                runs: Vec::new(),
                limit,
                folder: folder.to_owned(),
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks an entry up that is to go into the archive `ordinal`.
    pub fn meet(&self, ordinal: u32, link: &Link) -> Met {
        let mut table = self.lock();
        let key = (link.device, link.inode);
        let Some(known) = table.get_mut(&key) else {
            return Met::New;
        };
        if !known.is(link) {
            table.remove(&key);
            return Met::Different;
        }
        let (Some(here), Some(listed)) = (known.in_archive(ordinal), known.carriers.first()) else {
            return Met::New;
        };
        let met = Met::Again {
            here: Box::new(here.clone()),
            listed: Box::new(listed.clone()),
        };
        known.left = known.left.saturating_sub(1);
        if known.left == 0 {
            table.remove(&key);
        }
        met
    }

    /// Remembers a name that was stored with its bytes. Only now is it known what they were, so two archives may have stored
    /// them at the same time: neither waits for the other, and the first one to be done is the one that pages point to.
    pub fn carry(&self, link: &Link, carrier: &Carrier) -> Carried {
        let mut table = self.lock();
        let key = (link.device, link.inode);
        if let Some(known) = table.get_mut(&key).filter(|known| known.is(link)) {
            let first = &known.carriers[0];
            let same = !first.changed && !carrier.changed && first.hash == carrier.hash;
            let carried = if same {
                Carried::Again(first.clone())
            } else {
                Carried::Different
            };
            if same {
                known.carriers.push(carrier.clone());
            }
            known.left = known.left.saturating_sub(1);
            if known.left == 0 {
                table.remove(&key);
            }
            return carried;
        }
        table.insert(key, Known::new(link, carrier));
        Carried::First
    }

    /// Where pages say that the bytes of a file are, one of whose names was met already.
    pub fn place(&self, link: &Link) -> Option<Place> {
        let mut table = self.lock();
        let known = table.get_mut(&(link.device, link.inode));
        let known = known.filter(|known| known.is(link))?;
        known.carriers.first().map(|carrier| carrier.place)
    }

    /// Remembers a name whose bytes are where the base has them, and says what its page is to say; and the name that carries the
    /// bytes in the archive `ordinal`, if there is one.
    pub fn keep(&self, ordinal: u32, link: &Link, carrier: Carrier) -> (Carrier, Option<Carrier>) {
        let mut table = self.lock();
        let key = (link.device, link.inode);
        let Some(known) = table.get_mut(&key).filter(|known| known.is(link)) else {
            table.insert(key, Known::new(link, &carrier));
            return (carrier, None);
        };
        let listed = known.carriers.first().cloned().unwrap_or(carrier);
        let here = known.in_archive(ordinal).cloned();
        known.left = known.left.saturating_sub(1);
        if known.left == 0 {
            table.remove(&key);
        }
        (listed, here)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn link(names: u32) -> Link {
        Link {
            device: 5,
            inode: 7,
            names,
            kind: Kind::File,
            size: 3,
            mtime: Time::default(),
        }
    }

    fn carrier(archive_ordinal: u32, tar_offset: u64, hash: u8) -> Carrier {
        Carrier {
            path: format!("{archive_ordinal}/{tar_offset}").into_bytes(),
            place: Place {
                archive_ordinal,
                tar_offset,
            },
            tar_length: 1024,
            blake3: Some([hash; 32]),
            hash: Some([hash; 16]),
            changed: false,
        }
    }

    #[test]
    fn each_archive_has_the_bytes_and_pages_point_to_the_first() {
        let links = Links::default();
        let (one, two) = (carrier(1, 512, 9), carrier(2, 1024, 9));
        assert_eq!(links.meet(1, &link(4)), Met::New);
        assert_eq!(links.carry(&link(4), &one), Carried::First);
        assert_eq!(links.meet(2, &link(4)), Met::New);
        assert_eq!(links.carry(&link(4), &two), Carried::Again(one.clone()));
        for here in [&two, &one] {
            let met = links.meet(here.place.archive_ordinal, &link(4));
            let (here, listed) = (Box::new(here.clone()), Box::new(one.clone()));
            assert_eq!(met, Met::Again { here, listed });
        }
        // All four names are seen: nothing is kept.
        assert_eq!(links.meet(1, &link(4)), Met::New);
    }

    #[test]
    fn another_content_stands_by_itself() {
        let links = Links::default();
        assert_eq!(links.carry(&link(3), &carrier(1, 512, 9)), Carried::First);
        let other = carrier(2, 512, 8);
        assert_eq!(links.carry(&link(3), &other), Carried::Different);
        let later = Link { size: 4, ..link(3) };
        assert_eq!(links.meet(1, &later), Met::Different);
        assert_eq!(links.meet(1, &later), Met::New);
    }

    #[test]
    fn a_name_that_the_base_has_leads_the_others_to_its_place() {
        let links = Links::default();
        let old = carrier(1, 512, 9);
        let kept = links.keep(2, &link(3), old.clone());
        assert_eq!(kept, (old.clone(), None));
        assert_eq!(links.place(&link(3)), Some(old.place));
        // A new name is stored, since this archive has no bytes, but its page points to the old ones.
        assert_eq!(links.meet(2, &link(3)), Met::New);
        let new = carrier(2, 0, 9);
        assert_eq!(links.carry(&link(3), &new), Carried::Again(old.clone()));
        assert_eq!(links.keep(2, &link(3), old.clone()), (old, Some(new)));
        assert_eq!(links.place(&link(3)), None);
    }
    #[test]
    fn files_beyond_the_limit_are_found_on_disk_and_forgotten_when_all_names_are_seen() {
        let folder = tempfile::tempdir().unwrap();
        let links = Links::with(10, folder.path());
        let nth = |inode| Link { inode, ..link(3) };
        let carriers: Vec<_> = (0..500)
            .map(|n| Carrier {
                path: vec![b'x'; n as usize],
                blake3: (n % 2 == 0).then_some([7; 32]),
                ..carrier(1, n * 512, 9)
            })
            .collect();
        let inodes = |n: usize| (n as u64 * 7_919) % 10_007;
        for (n, carrier) in carriers.iter().enumerate() {
            assert_eq!(links.meet(1, &nth(inodes(n))), Met::New);
            assert_eq!(links.carry(&nth(inodes(n)), carrier), Carried::First);
        }
        assert!(links.lock().near.len() <= 10 && !links.lock().runs.is_empty());
        for _ in 0..2 {
            for (n, carrier) in carriers.iter().enumerate() {
                let (here, listed) = (Box::new(carrier.clone()), Box::new(carrier.clone()));
                let again = Met::Again { here, listed };
                assert_eq!(links.meet(1, &nth(inodes(n))), again);
            }
        }
        for n in 0..carriers.len() {
            assert_eq!(links.meet(1, &nth(inodes(n))), Met::New);
        }
    }
}
