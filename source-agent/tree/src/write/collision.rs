//! What becomes of an entry that is in the way of one to be written: decided from what `lstat` says of it, entry by entry. A link is
//! judged by itself, never by what it points to.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Stat, statat};
use taf_format::entry::{Kind, Metadata, Time};

use super::beneath::{self, Beneath};
use crate::metadata;
use crate::path;

/// What happens where an entry of that name is already there. Directories are always shared: they take what is
/// restored into them, and the metadata that goes with them; nothing else ever takes their place, nor they its.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collision {
    /// What is there stays: [`super::Error::Exists`].
    Never,
    /// What was modified earlier than the entry is replaced; else it stays: [`super::Error::Kept`].
    IfNewer,
    /// What was modified later than the entry is replaced; else it stays.
    IfOlder,
    /// What differs in kind, size or time of modification is replaced; else it stays.
    IfDifferent,
    /// What is there is replaced in one step.
    Always,
}

/// What an entry is judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Kind.
    pub kind: Kind,
    /// Apparent size of a file.
    pub size: u64,
    /// Time of modification.
    pub mtime: Time,
}

impl From<&Metadata> for Facts {
    fn from(meta: &Metadata) -> Self {
        Self {
            kind: meta.kind,
            size: meta.size,
            mtime: meta.mtime,
        }
    }
}

impl Facts {
    /// Of what is there; `None` for sockets and what else is never restored.
    #[allow(clippy::unnecessary_cast)] // the field's width differs between architectures
    pub(super) fn of(stat: &Stat) -> Option<Self> {
        Some(Self {
            kind: metadata::kind(FileType::from_raw_mode(stat.st_mode))?,
            size: u64::try_from(stat.st_size as i64).unwrap_or_default(),
            mtime: metadata::mtime(stat),
        })
    }
}

impl Collision {
    /// Whether what is there, no directory, gives way to an entry.
    pub(super) fn replaces(self, there: &Stat, entry: Facts) -> bool {
        let moment = metadata::mtime(there);
        match self {
            Self::Never => false,
            Self::Always => true,
            Self::IfNewer => entry.mtime > moment,
            Self::IfOlder => entry.mtime < moment,
            Self::IfDifferent => Facts::of(there).is_none_or(|there| {
                there.kind != entry.kind
                    || there.mtime != entry.mtime
                    || (entry.kind == Kind::File && there.size != entry.size)
            }),
        }
    }
}

impl Collision {
    /// The time that an entry has until it is on the disk, so that it would give way to itself: none if any but its own will do.
    pub(super) fn meanwhile(self, mtime: Time) -> Option<Time> {
        let at = |seconds| Some(Time { seconds, nanos: 0 });
        match self {
            Self::IfNewer => at(mtime.seconds.saturating_sub(1).min(0)),
            Self::IfOlder => at(mtime.seconds.saturating_add(1).max(now())),
            Self::Never | Self::IfDifferent | Self::Always => None,
        }
    }
}

/// Seconds since 1970.
fn now() -> i64 {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed();
    since.map_or(0, |since| since.as_secs() as i64)
}

/// Looks at what is below a directory, so that nothing is read for an entry that would not be written. What it says is only ever
/// used to leave work out: whoever writes looks again.
#[derive(Debug)]
pub struct Lookout {
    beneath: Beneath,
    collision: Collision,
}

impl Lookout {
    /// Looks below an open directory.
    pub fn new(directory: OwnedFd, collision: Collision) -> Self {
        Self {
            beneath: Beneath::new(directory),
            collision,
        }
    }

    /// Whether something at `path` would stay as it is if the entry came. False where that can't be told.
    pub fn stays(&mut self, path: &[u8], entry: Facts) -> bool {
        if self.collision == Collision::Always || beneath::check(path).is_err() {
            return false;
        }
        let Some((parent, name)) = path::split(path) else {
            return false;
        };
        let Ok(parent) = self.beneath.existing(parent) else {
            return false;
        };
        statat(parent.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|there| {
            FileType::from_raw_mode(there.st_mode) != FileType::Directory
                && !self.collision.replaces(&there, entry)
        })
    }
}
