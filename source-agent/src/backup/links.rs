//! Files with several names: in each archive the first one stored carries the bytes.
//!
//! Shared by the streams of a backup, which meet the names of a file at the same time. An archive without the bytes stores them
//! again, so that standard tools read each tape by itself; pages point to the place that was whole first, so that a restore makes
//! one file of all names. Holds one entry for each such file of which names are still to come, and nothing else.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use taf_format::entry::{Kind, Metadata, Time};
use taf_format::page::Place;

/// Where the bytes of a file are, and what is to be said of every name of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carrier {
    /// Path of the name that carries the bytes.
    pub path: Vec<u8>,
    /// Place of its header.
    pub place: Place,
    /// Length in the tar stream from its header to the next.
    pub tar_length: u64,
    /// BLAKE3 of the content, of a file.
    pub hash: Option<[u8; 32]>,
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
    fn is(&self, meta: &Metadata) -> bool {
        (self.kind, self.size, self.mtime) == (meta.kind, meta.size, meta.mtime)
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
        here: Carrier,
        /// What its page is to say.
        listed: Carrier,
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
#[derive(Debug, Default)]
pub struct Links {
    known: Mutex<HashMap<(u64, u64), Known>>,
}

impl Links {
    /// Looks an entry up that is to go into the archive `ordinal`, by device and inode.
    pub fn meet(&self, ordinal: u32, device: u64, meta: &Metadata) -> Met {
        let mut table = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (device, meta.inode);
        let Some(known) = table.get_mut(&key) else {
            return Met::New;
        };
        if !known.is(meta) {
            table.remove(&key);
            return Met::Different;
        }
        let here = known
            .carriers
            .iter()
            .find(|carrier| carrier.place.archive_ordinal == ordinal);
        let (Some(here), Some(listed)) = (here, known.carriers.first()) else {
            return Met::New;
        };
        let met = Met::Again {
            here: here.clone(),
            listed: listed.clone(),
        };
        known.left = known.left.saturating_sub(1);
        if known.left == 0 {
            table.remove(&key);
        }
        met
    }

    /// Remembers a name that was stored with its bytes. Only now is it known what they were, so two archives may have stored
    /// them at the same time: neither waits for the other, and the first one to be done is the one that pages point to.
    pub fn carry(&self, device: u64, meta: &Metadata, carrier: &Carrier) -> Carried {
        let mut table = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (device, meta.inode);
        if let Some(known) = table.get_mut(&key).filter(|known| known.is(meta)) {
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
        let known = Known {
            carriers: vec![carrier.clone()],
            kind: meta.kind,
            size: meta.size,
            mtime: meta.mtime,
            left: meta.links.saturating_sub(1),
        };
        table.insert(key, known);
        Carried::First
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(links: u32) -> Metadata {
        Metadata {
            kind: Kind::File,
            size: 3,
            mode: 0o644,
            uid: 0,
            gid: 0,
            user: Vec::new(),
            group: Vec::new(),
            mtime: Time::default(),
            ctime: Time::default(),
            inode: 7,
            links,
            rdev_major: 0,
            rdev_minor: 0,
            link_target: Vec::new(),
            xattrs: Vec::new(),
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
            hash: Some([hash; 32]),
            changed: false,
        }
    }

    #[test]
    fn each_archive_has_the_bytes_and_pages_point_to_the_first() {
        let links = Links::default();
        let (one, two) = (carrier(1, 512, 9), carrier(2, 1024, 9));
        assert_eq!(links.meet(1, 5, &meta(4)), Met::New);
        assert_eq!(links.carry(5, &meta(4), &one), Carried::First);
        assert_eq!(links.meet(2, 5, &meta(4)), Met::New);
        assert_eq!(links.carry(5, &meta(4), &two), Carried::Again(one.clone()));
        for here in [&two, &one] {
            let met = links.meet(here.place.archive_ordinal, 5, &meta(4));
            let (here, listed) = (here.clone(), one.clone());
            assert_eq!(met, Met::Again { here, listed });
        }
        // All four names are seen: nothing is kept.
        assert_eq!(links.meet(1, 5, &meta(4)), Met::New);
    }

    #[test]
    fn another_content_stands_by_itself() {
        let links = Links::default();
        assert_eq!(
            links.carry(5, &meta(3), &carrier(1, 512, 9)),
            Carried::First
        );
        assert_eq!(
            links.carry(5, &meta(3), &carrier(2, 512, 8)),
            Carried::Different
        );
        let later = Metadata { size: 4, ..meta(3) };
        assert_eq!(links.meet(1, 5, &later), Met::Different);
        assert_eq!(links.meet(1, 5, &later), Met::New);
    }
}
