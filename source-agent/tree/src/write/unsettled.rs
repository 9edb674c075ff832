//! Files whose bytes may not be on the disk yet.
//!
//! Such a file has its name, owner and mode, but not its time of modification: that it gets when the file system has written it out.
//! So a restore that a loss of power cut short leaves nothing that looks restored and is not: who compares times, as a restore with
//! [`Collision::IfDifferent`](super::Collision) does, writes it again. The file systems are written out now and then on a thread of
//! its own, all files of some seconds at once, however long whoever writes waits for more, and again at the end. A file that does not
//! get its time is told, unless its name is gone or is of something else by now.

mod time;

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::Warning;
use super::beneath::Beneath;
use crate::metadata;

pub(super) use self::time::Written;

/// How long a file waits at least before the file systems are written out.
const REST: Duration = Duration::from_secs(5);
/// Most files that wait.
const MOST: usize = 16_384;

/// How the file systems of some directories are written out.
type WriteOut = fn(&[Arc<OwnedFd>]) -> Result<(), Errno>;

/// See the module.
#[derive(Debug)]
pub(super) struct Unsettled {
    shared: Arc<Shared>,
    is_started: bool,
}

#[derive(Debug)]
struct Shared {
    root: Arc<OwnedFd>,
    rest: Duration,
    write_out: WriteOut,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// In the order in which they were written.
    files: VecDeque<Arc<Written>>,
    /// The same by their paths, as far as nothing else was written there after them.
    latest: HashMap<Vec<u8>, Arc<Written>>,
    /// Those that were written to.
    systems: Vec<System>,
    /// When the oldest was written that nobody deals with.
    since: Option<Instant>,
    /// Whether somebody deals with the first of them.
    is_busy: bool,
    /// Whether nobody writes any more.
    is_over: bool,
    warnings: Vec<Warning>,
    /// Why they can't be written out.
    failed: Option<Errno>,
}

/// A file system.
#[derive(Debug)]
struct System {
    device: u64,
    /// Some directory on it.
    directory: Arc<OwnedFd>,
    keeps_inodes: bool,
}

impl Unsettled {
    /// None yet, below this directory.
    pub(super) fn new(root: &Arc<OwnedFd>) -> Self {
        Self::with(root, REST, |directories| {
            // Some file systems report only now that the disk is full.
            directories.iter().try_for_each(rustix::fs::syncfs)
        })
    }

    fn with(root: &Arc<OwnedFd>, rest: Duration, write_out: WriteOut) -> Self {
        let shared = Shared {
            root: Arc::clone(root),
            rest,
            write_out,
            state: Mutex::default(),
            changed: Condvar::new(),
        };
        Self {
            shared: Arc::new(shared),
            is_started: false,
        }
    }

    /// Something was written into this directory, on this file system.
    pub(super) fn on(&self, device: u64, directory: &Arc<OwnedFd>) {
        let mut state = self.shared.lock();
        // Nearly always the same as before.
        if !state.systems.iter().any(|known| known.device == device) {
            state.systems.push(System {
                device,
                directory: Arc::clone(directory),
                keeps_inodes: metadata::has_stable_inodes(directory.as_fd()),
            });
        }
    }

    /// A file is there that may not be on the disk. Waits if too many do.
    pub(super) fn push(&mut self, file: Written) {
        let file = Arc::new(file);
        let mut state = self.shared.lock();
        state.latest.insert(file.path.clone(), Arc::clone(&file));
        state.files.push_back(file);
        let is_first = state.since.is_none();
        state.since.get_or_insert_with(Instant::now);
        if !self.is_started {
            let thread = std::thread::Builder::new().name("write-out".into());
            let shared = Arc::clone(&self.shared);
            self.is_started = thread.spawn(move || shared.serve()).is_ok();
        }
        if is_first || state.files.len() == MOST / 2 {
            self.shared.changed.notify_all();
        }
        let is_full = state.files.len() >= MOST;
        drop(state);
        if is_full {
            self.shared.round();
        }
    }

    /// What is at this path by now is not what was written there.
    pub(super) fn supersede(&self, path: &[u8]) {
        self.shared.lock().latest.remove(path);
    }

    /// What was written at this path, if it may not have its time yet.
    pub(super) fn latest(&self, path: &[u8]) -> Option<Arc<Written>> {
        self.shared.lock().latest.get(path).map(Arc::clone)
    }

    /// Whether the file system of what was written there keeps inode numbers.
    pub(super) fn keeps_inodes(&self, device: u64) -> bool {
        self.shared.lock().keeps_inodes(device)
    }

    /// Whether what was written can't be written out.
    pub(super) fn check(&self) -> Result<(), Errno> {
        self.shared.lock().failed.map_or(Ok(()), Err)
    }

    /// What was met since it was last asked.
    pub(super) fn warnings(&self) -> Vec<Warning> {
        std::mem::take(&mut self.shared.lock().warnings)
    }

    /// Waits until all files have their time, or can't be written out.
    pub(super) fn all(&self) -> Vec<Warning> {
        while self.shared.round() {}
        self.warnings()
    }

    /// Waits until all file systems have written everything out; a failure of before counts, too.
    pub(super) fn sync(&self) -> Result<(), Errno> {
        self.check()?;
        let directories = self.shared.lock().directories();
        (self.shared.write_out)(&directories)
    }
}

impl Drop for Unsettled {
    fn drop(&mut self) {
        self.shared.lock().is_over = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Deals with files when it is time, until nobody writes any more.
    fn serve(&self) {
        loop {
            let mut state = self.lock();
            while !state.is_over
                && let Some(left) = state.until_due(self.rest)
            {
                let waited = self.changed.wait_timeout(state, left);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            if state.is_over {
                return;
            }
            drop(state);
            self.round();
        }
    }

    /// Waits until what waits now is on the disk, and gives it its time. False if nothing waits.
    fn round(&self) -> bool {
        let mut state = self.lock();
        while state.is_busy {
            let waited = self.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        if state.files.is_empty() {
            return false;
        }
        state.is_busy = true;
        state.since = None;
        let files: Vec<_> = state.files.iter().map(Arc::clone).collect();
        let directories = state.directories();
        let before = state.failed;
        drop(state);
        let busy = Busy(self);
        // What once failed to be written out, a second call might not report.
        let done = before.map_or_else(|| (self.write_out)(&directories), Err);
        let warnings = match done {
            Ok(()) => self.settle(&files),
            Err(_) => Vec::new(),
        };
        let mut state = self.lock();
        state.failed = done.err();
        state.warnings.extend(warnings);
        state.files.drain(..files.len());
        for file in &files {
            if state.is_latest(file) {
                state.latest.remove(&file.path);
            }
        }
        drop(state);
        drop(busy);
        true
    }

    fn settle(&self, files: &[Arc<Written>]) -> Vec<Warning> {
        let mut beneath = Beneath::at(Arc::clone(&self.root));
        let mut warnings = Vec::new();
        for file in files {
            let state = self.lock();
            let keeps_inodes = state.keeps_inodes(file.identity.0);
            // Else the one that took its place has its own.
            let is_latest = state.is_latest(file);
            drop(state);
            if is_latest {
                warnings.extend(file.settle(&mut beneath, keeps_inodes));
            }
        }
        warnings
    }
}

/// Somebody deals with files until it goes, even by a panic: nobody waits for him for ever.
struct Busy<'a>(&'a Shared);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.lock().is_busy = false;
        self.0.changed.notify_all();
    }
}

impl State {
    /// How long to wait if nothing changes; none if it is time.
    fn until_due(&self, rest: Duration) -> Option<Duration> {
        match self.since {
            Some(since) if !self.is_busy => {
                let left = rest.saturating_sub(since.elapsed());
                (!left.is_zero() && self.files.len() < MOST / 2).then_some(left)
            }
            _ => Some(Duration::MAX),
        }
    }

    fn is_latest(&self, file: &Arc<Written>) -> bool {
        let latest = self.latest.get(&file.path);
        latest.is_some_and(|latest| Arc::ptr_eq(latest, file))
    }

    fn keeps_inodes(&self, device: u64) -> bool {
        let mut systems = self.systems.iter();
        systems.all(|system| system.device != device || system.keeps_inodes)
    }

    fn directories(&self) -> Vec<Arc<OwnedFd>> {
        let directories = self.systems.iter();
        directories.map(|one| Arc::clone(&one.directory)).collect()
    }
}

#[cfg(test)]
mod tests;
