//! Finding directories below the target's descriptor, and nowhere else.
//!
//! Each component is opened relative to its parent's descriptor, as a directory, following no link. A link put in
//! the place of a directory therefore ends in an error, never outside. Recently used directories stay open.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, mkdirat, openat};
use rustix::io::Errno;

use super::Error;
use crate::path;

/// Directories kept open at a time.
const MAX_OPEN: usize = 64;

/// How a directory is opened: for reading, because only then can its own metadata be set through it.
pub(crate) const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// The directories below a target.
#[derive(Debug)]
pub(crate) struct Beneath {
    root: Arc<OwnedFd>,
    /// Most recently used last.
    recent: VecDeque<(Vec<u8>, Arc<OwnedFd>)>,
}

impl Beneath {
    pub(crate) fn new(root: OwnedFd) -> Self {
        Self::at(Arc::new(root))
    }

    /// Those below what another one is below, too.
    pub(crate) fn at(root: Arc<OwnedFd>) -> Self {
        Self {
            root,
            recent: VecDeque::new(),
        }
    }

    pub(crate) fn root(&self) -> &Arc<OwnedFd> {
        &self.root
    }

    /// Checks `path`, opens its directory (making what is missing of it) and returns it with the last name.
    pub(crate) fn parent<'p>(&mut self, path: &'p [u8]) -> Result<(Arc<OwnedFd>, &'p [u8]), Error> {
        check(path)?;
        let (directory, name) = path::split(path).ok_or_else(|| Error::Path {
            path: path::display(path),
            reason: path::Error::Empty,
        })?;
        Ok((self.directory(directory)?, name))
    }

    /// Opens the directory at the checked `path`, making what is missing of it.
    pub(crate) fn directory(&mut self, path: &[u8]) -> Result<Arc<OwnedFd>, Error> {
        self.reach(path, true)
            .map_err(|(error, end)| Error::at("open the directory", &path[..end], error))
    }

    /// Opens the directory at the checked `path`, if it is there.
    pub(crate) fn existing(&mut self, path: &[u8]) -> Result<Arc<OwnedFd>, Errno> {
        self.reach(path, false).map_err(|(error, _)| error)
    }

    /// Opens a directory; a failure comes with the length of the path that it concerns.
    fn reach(&mut self, path: &[u8], make: bool) -> Result<Arc<OwnedFd>, (Errno, usize)> {
        if path.is_empty() {
            return Ok(self.root.clone());
        }
        if let Some(index) = self.recent.iter().rposition(|(known, _)| known == path) {
            // Nearly always the last already.
            if index + 1 < self.recent.len()
                && let Some(entry) = self.recent.remove(index)
            {
                self.recent.push_back(entry);
            }
            if let Some((_, fd)) = self.recent.back() {
                return Ok(fd.clone());
            }
        }
        let nearest = self
            .recent
            .iter()
            .filter(|(known, _)| is_above(known, path))
            .max_by_key(|(known, _)| known.len());
        let (mut at, mut fd) = nearest.map_or_else(
            || (0, self.root.clone()),
            |(known, fd)| (known.len() + 1, fd.clone()),
        );
        while at < path.len() {
            let end = path[at..]
                .iter()
                .position(|byte| *byte == b'/')
                .map_or(path.len(), |slash| at + slash);
            let entered = enter(&fd, &path[at..end], make);
            fd = Arc::new(entered.map_err(|error| (error, end))?);
            at = end + 1;
        }
        self.remember(path, &fd);
        Ok(fd)
    }

    /// Keeps a directory open that was just opened.
    pub(crate) fn remember(&mut self, path: &[u8], fd: &Arc<OwnedFd>) {
        self.recent.retain(|(known, _)| known != path);
        if self.recent.len() == MAX_OPEN {
            self.recent.pop_front();
        }
        self.recent.push_back((path.to_vec(), fd.clone()));
    }

    /// Forgets a directory that is about to go.
    pub(crate) fn forget_at(&mut self, path: &[u8]) {
        self.recent.retain(|(known, _)| known != path);
    }

    /// Forgets all open directories but the root.
    pub(crate) fn forget(&mut self) {
        self.recent.clear();
    }
}

pub(crate) fn check(path: &[u8]) -> Result<(), Error> {
    path::check(path).map_err(|reason| Error::Path {
        path: path::display(path),
        reason,
    })
}

fn is_above(directory: &[u8], path: &[u8]) -> bool {
    path.len() > directory.len() && path.starts_with(directory) && path[directory.len()] == b'/'
}

fn enter(parent: &OwnedFd, name: &[u8], make: bool) -> Result<OwnedFd, Errno> {
    // Twice, because another may have made it between our two steps.
    for _ in 0..2 {
        match openat(parent.as_fd(), name, DIRECTORY, Mode::empty()) {
            Err(Errno::NOENT) if make => {}
            other => return other,
        }
        match mkdirat(parent.as_fd(), name, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
    }
    Err(Errno::NOENT)
}
