//! Files with several names: the first one stored carries the bytes.
//!
//! Holds one entry for each such file of which names are still to come, and nothing else.

use std::collections::HashMap;

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
    carrier: Carrier,
    kind: Kind,
    size: u64,
    mtime: Time,
    /// Names still expected.
    left: u32,
}

/// What is known of an inode that comes under a further name.
#[derive(Debug, PartialEq, Eq)]
pub enum Met {
    /// Nothing: it is the first name.
    New,
    /// Its bytes are there.
    Again(Carrier),
    /// It was modified since its first name was stored, or the number was given to another file.
    Different,
}

/// The table.
#[derive(Debug, Default)]
pub struct Links {
    known: HashMap<(u64, u64), Known>,
}

impl Links {
    /// Looks an entry up, by device and inode.
    pub fn meet(&mut self, device: u64, meta: &Metadata) -> Met {
        let key = (device, meta.inode);
        let Some(known) = self.known.get_mut(&key) else {
            return Met::New;
        };
        if (known.kind, known.size, known.mtime) != (meta.kind, meta.size, meta.mtime) {
            self.known.remove(&key);
            return Met::Different;
        }
        known.left = known.left.saturating_sub(1);
        if known.left > 0 {
            return Met::Again(known.carrier.clone());
        }
        self.known
            .remove(&key)
            .map_or(Met::New, |known| Met::Again(known.carrier))
    }

    /// Remembers the first name.
    pub fn carry(&mut self, device: u64, meta: &Metadata, carrier: Carrier) {
        let known = Known {
            carrier,
            kind: meta.kind,
            size: meta.size,
            mtime: meta.mtime,
            left: meta.links.saturating_sub(1),
        };
        self.known.insert((device, meta.inode), known);
    }
}
