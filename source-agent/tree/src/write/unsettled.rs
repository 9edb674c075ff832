//! Files whose bytes may not be on the disk yet.
//!
//! Such a file has its name, owner and mode, but not its time of modification: that it gets when the file system has written it out.
//! So a restore that a loss of power cut short leaves nothing that looks restored and is not: who compares times, as a restore with
//! [`Collision::IfDifferent`](super::Collision) does, writes it again. The file systems are written out now and then on a thread of
//! its own, all files of some seconds at once, and again at the end.

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use taf_format::entry::Time;

use super::deferred::Identity;

/// How long a file waits at least before the file systems are written out.
const REST: Duration = Duration::from_secs(5);
/// Most files that wait.
const MOST: usize = 16_384;

/// A file that was written.
#[derive(Debug)]
pub(super) struct Written {
    /// Below the target.
    pub path: Vec<u8>,
    /// What was written there.
    pub identity: Identity,
    /// Its size.
    pub size: u64,
    /// The time that it is to have.
    pub mtime: Time,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    /// In the order in which they were written.
    files: VecDeque<Written>,
    /// The times of the same.
    times: HashMap<Identity, Time>,
    /// A directory on each file system that was written to.
    systems: Vec<(u64, Arc<OwnedFd>)>,
    /// How many of the files will be on the disk when it ends.
    writing: Option<(usize, JoinHandle<Result<(), Errno>>)>,
    /// When the oldest of the others was written.
    since: Option<Instant>,
    /// Why they can't be written out.
    failed: Option<Errno>,
}

impl Unsettled {
    /// Something was written into this directory, on this file system.
    pub(super) fn on(&mut self, device: u64, directory: &Arc<OwnedFd>) {
        // Nearly always the same as before.
        if !self.systems.iter().any(|(known, _)| *known == device) {
            self.systems.push((device, Arc::clone(directory)));
        }
    }

    /// A file is there that may not be on the disk.
    pub(super) fn push(&mut self, file: Written) {
        self.times.insert(file.identity, file.mtime);
        self.files.push_back(file);
        self.since.get_or_insert_with(Instant::now);
    }

    /// The time that a file is to have, if it does not have it yet.
    pub(super) fn time(&self, identity: Identity) -> Option<Time> {
        self.times.get(&identity).copied()
    }

    /// Files that are on the disk by now, if there are such; begins to write out others if it is time. Waits only if too many wait.
    pub(super) fn some(&mut self) -> Vec<Written> {
        let full = self.files.len() >= MOST;
        let over = |(_, thread): &(usize, JoinHandle<_>)| full || thread.is_finished();
        let mut settled = match self.writing.take_if(|writing| over(writing)) {
            Some((count, thread)) => self.take(count, joined(thread)),
            None => Vec::new(),
        };
        if self.writing.is_none() && self.is_due() {
            self.begin();
            if self.writing.is_none() && full {
                settled.extend(self.all());
            }
        }
        settled
    }

    /// All files, when they are on the disk.
    pub(super) fn all(&mut self) -> Vec<Written> {
        if let Some((_, thread)) = self.writing.take() {
            self.note(joined(thread));
        }
        if self.files.is_empty() {
            return Vec::new();
        }
        let done = write_out(self.systems.iter().map(|(_, directory)| directory));
        self.take(self.files.len(), done)
    }

    /// Waits until all file systems have written everything out; a failure of before counts, too.
    pub(super) fn sync(&self) -> Result<(), Errno> {
        self.failed.map_or(Ok(()), Err)?;
        write_out(self.systems.iter().map(|(_, directory)| directory))
    }

    fn is_due(&self) -> bool {
        let rested = self.since.is_some_and(|since| since.elapsed() >= REST);
        rested || self.files.len() >= MOST / 2
    }

    fn begin(&mut self) {
        let directories = self.systems.iter();
        let directories: Vec<_> = directories.map(|(_, fd)| Arc::clone(fd)).collect();
        let thread = std::thread::Builder::new().name("write-out".into());
        // Where no thread can be had they wait until there are too many.
        if let Ok(thread) = thread.spawn(move || write_out(&directories)) {
            self.writing = Some((self.files.len(), thread));
            self.since = None;
        }
    }

    /// The first so many, if they were written out.
    fn take(&mut self, count: usize, done: Result<(), Errno>) -> Vec<Written> {
        self.note(done);
        let settled: Vec<Written> = self.files.drain(..count).collect();
        for file in &settled {
            self.times.remove(&file.identity);
        }
        if self.failed.is_some() {
            return Vec::new();
        }
        settled
    }

    fn note(&mut self, done: Result<(), Errno>) {
        self.failed = self.failed.or(done.err());
    }
}

fn joined(thread: JoinHandle<Result<(), Errno>>) -> Result<(), Errno> {
    thread.join().unwrap_or(Err(Errno::IO))
}

/// Some file systems report only now that the disk is full.
fn write_out<'a>(directories: impl IntoIterator<Item = &'a Arc<OwnedFd>>) -> Result<(), Errno> {
    let mut directories = directories.into_iter();
    directories.try_for_each(rustix::fs::syncfs)
}
