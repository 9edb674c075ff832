//! Giving a file its time, if it still is what was written.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, openat};
use rustix::io::Errno;
use taf_format::entry::Time;

use super::super::beneath::Beneath;
use super::super::deferred::Identity;
use super::super::{Warning, WarningKind, apply, identity_of};
use crate::issue::words;
use crate::metadata::{self, Handle};
use crate::path;

/// How far the time of a file that nobody has touched may go from what was seen: FAT holds every other second, and a file system of
/// another host may say more exactly later.
const COARSE_SECONDS: u64 = 2;

/// A file that was written.
#[derive(Debug)]
pub(in super::super) struct Written {
    /// Below the target.
    pub path: Vec<u8>,
    /// What was written there.
    pub identity: Identity,
    /// Its size.
    pub size: u64,
    /// The time that it had when it was written.
    pub meanwhile: Time,
    /// The time that it is to have.
    pub mtime: Time,
}

impl Written {
    /// Gives it its time. Whoever took it away, or put something of another kind there, has it; all else that keeps it from getting it
    /// is told.
    pub(super) fn settle(&self, beneath: &mut Beneath, keeps_inodes: bool) -> Vec<Warning> {
        let set = match self.locate(beneath, keeps_inodes) {
            Ok(None) => return Vec::new(),
            Ok(Some(fd)) => apply::time(Handle::Located(fd.as_fd()), &self.path, self.mtime)
                .map_err(|error| error.to_string()),
            Err(reason) => Err(reason),
        };
        set.unwrap_or_else(|reason| {
            vec![Warning {
                path: self.path.clone(),
                kind: WarningKind::TimeNotSet,
                reason: format!("it does not have its modification time: {reason}"),
            }]
        })
    }

    /// The file, if something is there of its kind; why it is not to be had, for people.
    fn locate(&self, beneath: &mut Beneath, keeps_inodes: bool) -> Result<Option<OwnedFd>, String> {
        let Some((parent, name)) = path::split(&self.path) else {
            return Ok(None);
        };
        let located = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = beneath
            .existing(parent)
            .and_then(|parent| openat(parent.as_fd(), name, located, Mode::empty()));
        let fd = match opened {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(error) => return Err(words(error)),
        };
        let stat = fstat(&fd).map_err(words)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        if self.is(&stat, keeps_inodes) {
            Ok(Some(fd))
        } else {
            Err("another process replaced or changed it".to_owned())
        }
    }

    /// Whether this is what was written, and as it was. The inode of a file that is gone may be another's already; and some file systems
    /// make inodes up anew.
    pub(in super::super) fn is(&self, stat: &Stat, keeps_inodes: bool) -> bool {
        let identity = identity_of(stat);
        let is_it = if keeps_inodes {
            identity == self.identity
        } else {
            identity.0 == self.identity.0
        };
        let seconds = metadata::mtime(stat).seconds;
        is_it
            && u64::try_from(stat.st_size) == Ok(self.size)
            && seconds.abs_diff(self.meanwhile.seconds) <= COARSE_SECONDS
    }
}
