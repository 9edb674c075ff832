//! What the packer is told, step by step, in catalog order: what the walk found, and what the base has there.

use std::sync::Arc;

use taf_format::entry::{Extent, Kind, Metadata, Time};
use taf_format::page::{self, DirectoryStat, Page};
use taf_tree::Issue;
use taf_tree::content::Fault;
use taf_tree::walk::{Directory, Item};

use super::merge::{Row, Rules};
use crate::fault;

/// One step.
#[derive(Debug)]
pub enum Step {
    /// A directory begins.
    Enter(Box<Entered>),
    /// Something that is no directory, to be stored or compared.
    Entry(Box<Found>),
    /// Something that is no directory, and is as the base has it.
    Kept(Box<Kept>),
    /// A directory ends.
    Leave {
        /// See [`taf_tree::Event::Leave`].
        complete: bool,
    },
    /// What the base has of a chunk of the directory entered last. It comes before the entries that its page holds, and before
    /// the directory's end.
    Row(Arc<Row>),
    /// What the base has where nothing is any more.
    Gone(Arc<Row>),
    /// What the base has where nobody could look: it stays.
    Carried(Arc<Row>),
    /// The same for a directory's own first chunk, with the page that says so.
    CarriedPage(Box<Page>, Arc<Row>),
    /// Something went wrong with one path.
    Issue(Issue),
    /// The base can't be had; the archive can't go on.
    Lost(fault::Error),
    /// The walk is over. Without it something failed, and the archive must not be ended as if it were whole.
    End,
}

/// A directory as the walk found it.
#[derive(Debug)]
pub struct Entered {
    /// It.
    pub directory: Directory,
    /// Its own page header; with its place, if its tar header need not be stored.
    pub stat: DirectoryStat,
    /// Whether it need not.
    pub kept: bool,
}

/// An entry as the walk found it.
#[derive(Debug)]
pub struct Found {
    /// The entry; of a file that was read, the file is taken.
    pub item: Item,
    /// What was read ahead.
    pub content: Option<Content>,
    /// A time before its metadata was taken.
    pub seen: Time,
    /// What its content is to be compared with.
    pub old: Option<page::Entry>,
    /// What came of that, if it was done ahead without keeping the content: whether it is the same.
    pub compared: Option<bool>,
    /// What counts as a difference.
    pub rules: Rules,
}

/// An entry whose bytes are where the base has them.
#[derive(Debug)]
pub struct Kept {
    /// As the page is to have it.
    pub entry: page::Entry,
    /// Set if it has several names.
    pub link: Option<Link>,
}

/// What tells a file with several names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Device of its file system.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Names it has.
    pub names: u32,
    /// Kind.
    pub kind: Kind,
    /// Apparent size in bytes.
    pub size: u64,
    /// Modification time.
    pub mtime: Time,
}

impl Link {
    /// That of an entry with several names.
    pub fn of(device: u64, meta: &Metadata) -> Option<Self> {
        (meta.links > 1).then_some(Self {
            device,
            inode: meta.inode,
            names: meta.links,
            kind: meta.kind,
            size: meta.size,
            mtime: meta.mtime,
        })
    }
}

/// A file's content, read whole.
#[derive(Debug)]
pub struct Content {
    /// What the archive stores: the runs of data.
    pub bytes: Vec<u8>,
    /// The runs of a sparse file.
    pub extents: Option<Vec<Extent>>,
    /// BLAKE3 of the apparent content.
    pub hash: Option<[u8; 32]>,
    /// What happened meanwhile.
    pub fault: Option<Fault>,
}
