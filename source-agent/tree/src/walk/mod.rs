//! Walking a tree in catalog order: a directory's non-directories by name, then each of its directories, depth first.
//!
//! Owns the order, the bounds (descriptors, names in memory) and the promise that a listing which is not known is
//! never taken for empty. It goes by descriptors, so a path may be longer than `PATH_MAX` and nothing can be swapped
//! for a link under it. It never reads content and never follows a link.

mod listing;
mod marker;
mod names;
mod selection;
mod visit;

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use taf_format::entry::{Kind, Metadata};

pub use self::marker::Marked;
pub use self::names::Names;
use self::selection::Selection;
use crate::content::OpenFile;
use crate::issue::Issue;
use crate::metadata::Examiner;
use crate::path;

/// Directories kept open at a time; those further up are opened anew when the walk returns to them.
const MAX_OPEN: usize = 64;

/// What is known of an entry when it is decided whether to leave it out.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Raw path below the top of the walk.
    pub path: &'a [u8],
    /// Kind; `None` for sockets and the like.
    pub kind: Option<Kind>,
    /// Device of the file system it is on; for what is no directory, that of the directory that holds it.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
}

/// Says what is left out of a walk. Every question is asked once, so that whoever answers may take notes.
pub trait Exclude: Send {
    /// Whether a name is left out. A directory takes everything below with it.
    fn name(&self, candidate: &Candidate<'_>) -> bool;

    /// Whether something that is no directory is left out for what its metadata says.
    fn entry(&self, path: &[u8], meta: &Metadata) -> bool {
        let _ = (path, meta);
        false
    }

    /// The one of its names, none a directory's, for which all others of a directory are left out.
    fn marker(&self, listed: &Marked<'_>) -> Option<usize> {
        let _ = listed;
        None
    }
}

impl<F: Fn(&Candidate<'_>) -> bool + Send> Exclude for F {
    fn name(&self, candidate: &Candidate<'_>) -> bool {
        self(candidate)
    }
}

/// What to walk.
pub struct Options {
    /// Absolute raw paths, at least one. Directories above them are entered for their chosen children only. What
    /// lies below another of them adds nothing.
    pub roots: Vec<Vec<u8>>,
    /// Stay on the file system of each root. What is mounted below is entered but not listed.
    pub one_file_system: bool,
    /// What is left out.
    pub exclude: Option<Box<dyn Exclude>>,
    /// Names of one directory held in memory, each at about 40 bytes.
    pub max_names: usize,
    /// Folder for the names of directories with more; files there have no name and go with the walk. Without one such a directory is
    /// cut, flagged as incomplete, and an issue.
    pub spill: Option<PathBuf>,
}

impl Options {
    /// All below `roots`, every file system, nothing left out.
    pub fn new(roots: Vec<Vec<u8>>) -> Self {
        Self {
            roots,
            one_file_system: false,
            exclude: None,
            max_names: 4_000_000,
            spill: None,
        }
    }
}

/// Why a walk cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing chosen.
    #[error("no path was chosen; name at least one")]
    NoRoots,
    /// A root that isn't an absolute, plain path.
    #[error("the path {path} cannot be walked: it must be absolute and without `.` and `..`")]
    Root {
        /// As shown to people.
        path: String,
    },
    /// The top cannot be opened.
    #[error("the top of the walk cannot be opened")]
    Top(#[source] std::io::Error),
}

/// How much of a directory its names are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listing {
    /// All that it has, without what is excluded or not kept.
    Complete,
    /// Only what leads to chosen paths.
    Chosen,
    /// Another file system begins here and is not walked.
    MountPoint,
    /// There may be more: reading failed, and an issue says why. Unknown is not empty.
    Incomplete,
}

/// A directory, before what it holds.
#[derive(Debug)]
pub struct Directory {
    /// Raw path below the top of the walk, empty for the top.
    pub path: Vec<u8>,
    /// Its own metadata, taken before its names.
    pub meta: Metadata,
    /// Device of its file system.
    pub device: u64,
    /// Whether its file system's inode numbers stay as they are: those of FUSE, SMB and FAT may not.
    pub stable_inodes: bool,
    /// What the names are.
    pub listing: Listing,
    /// Names and kinds as listed. Entries may vanish afterwards; then an issue comes instead of them.
    pub names: Arc<Names>,
    /// Names of chosen paths that are not in `names` because they could not be looked at; an issue comes for each.
    pub unseen: Vec<Vec<u8>>,
}

/// An entry that is no directory.
#[derive(Debug)]
pub struct Item {
    /// Raw path below the top of the walk.
    pub path: Vec<u8>,
    /// Metadata, of a file by fstat of `file`; without extended attributes of what is [known](Walk::next_unless).
    pub meta: Metadata,
    /// Device of its file system: with the inode, the group of a hard link.
    pub device: u64,
    /// A regular file, open; `None` for all else, and for a known one.
    pub file: Option<OpenFile>,
}

impl Item {
    /// The last component of the path.
    pub fn name(&self) -> &[u8] {
        path::split(&self.path).map_or(&[], |(_, name)| name)
    }
}

/// One step of a walk.
#[derive(Debug)]
pub enum Event {
    /// A directory begins; what it holds follows, until its `Leave`.
    Enter(Directory),
    /// An entry of the directory entered last and not yet left.
    Entry(Item),
    /// A directory ends.
    Leave {
        /// Its path.
        path: Vec<u8>,
        /// False if its listing was incomplete, or if it was moved away while it was walked and not all of its names
        /// could be visited.
        complete: bool,
        /// Its names, of which at least those of directories are there.
        names: Arc<Names>,
    },
    /// Something is missing or doubtful.
    Issue(Issue),
}

type Known<'a> = &'a mut dyn FnMut(&[u8], &Metadata) -> bool;

struct Frame {
    /// `None` while too many others are open, and for good if it cannot be opened.
    fd: Option<Arc<OwnedFd>>,
    identity: (u64, u64),
    path_length: usize,
    names: Arc<Names>,
    next: usize,
    /// The node of a directory above a chosen path, `None` where everything is chosen.
    chosen: Option<usize>,
    /// The device to stay on.
    device: Option<u64>,
    complete: bool,
}

/// A walk under way. Pull it with [`Walk::next`].
pub struct Walk {
    options: Options,
    selection: Selection,
    top: Option<OwnedFd>,
    stack: Vec<Frame>,
    path: Vec<u8>,
    pending: VecDeque<Event>,
    examiner: Examiner,
    /// Whether inode numbers are stable, by device.
    stable: HashMap<u64, bool>,
}

impl Walk {
    /// A walk of chosen paths below `/`.
    pub fn new(options: Options) -> Result<Self, Error> {
        let top = rustix::fs::open(
            "/",
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        );
        Self::beneath(top.map_err(|error| Error::Top(error.into()))?, options)
    }

    /// A walk that takes the directory `top` for `/`: the root `/` chooses all of it.
    pub fn beneath(top: OwnedFd, options: Options) -> Result<Self, Error> {
        if options.roots.is_empty() {
            return Err(Error::NoRoots);
        }
        let selection = Selection::new(&options.roots).map_err(|(path, _)| Error::Root {
            path: path::display(&path),
        })?;
        Ok(Self {
            options,
            selection,
            top: Some(top),
            stack: Vec::new(),
            path: Vec::new(),
            pending: VecDeque::new(),
            examiner: Examiner::default(),
            stable: HashMap::new(),
        })
    }

    /// The next step, `None` when all is done.
    #[allow(clippy::should_implement_trait)] // `Iterator` is implemented by this
    pub fn next(&mut self) -> Option<Event> {
        self.step(None)
    }

    /// The next step. An entry of which `known` is true, told its name in the directory entered last and its metadata without
    /// extended attributes, is given without being opened.
    pub fn next_unless(
        &mut self,
        known: &mut dyn FnMut(&[u8], &Metadata) -> bool,
    ) -> Option<Event> {
        self.step(Some(known))
    }

    fn step(&mut self, mut known: Option<Known<'_>>) -> Option<Event> {
        if let Some(top) = self.top.take() {
            self.enter(top.as_fd(), None);
        }
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some(event);
            }
            let frame = self.stack.last_mut()?;
            self.path.truncate(frame.path_length);
            let found = frame.names.get(frame.next);
            let found = found.map(|found| found.map(|(name, kind)| (name.into_owned(), kind)));
            let (name, kind) = match found {
                Ok(Some(found)) => found,
                Ok(None) => return Some(self.leave()),
                Err(error) => {
                    self.abandon(&format!(
                        "has names that were kept on disk and can't be read again: {error}; the rest of it is left out"
                    ));
                    continue;
                }
            };
            frame.next += 1;
            let Some(directory) = self.directory() else {
                continue;
            };
            if kind == Kind::Directory {
                self.enter(directory.as_fd(), Some(&name));
            } else {
                self.entry(directory.as_fd(), &name, kind, known.as_mut());
            }
        }
    }
}

impl Iterator for Walk {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        Walk::next(self)
    }
}
