//! The walk, and the reading of small files ahead of it, on threads of their own.
//!
//! Opening and reading a small file is mostly waiting. Several threads do it at once, a bounded number of files ahead,
//! and their results come out in the walk's order. Large files and those with several names pass through unread: the
//! packer reads them itself.

use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use taf_format::entry::{Extent, Time};
use taf_format::tar::MAX_EXTENTS;
use taf_tree::content::Fault;
use taf_tree::walk::{Directory, Item};
use taf_tree::{Digest, Event, Issue, OpenFile, Walk};
use tokio_util::sync::CancellationToken;

use crate::ordered::{self, Drain, Feed};

/// Largest file that is read ahead, in bytes.
const SMALL: u64 = 256 << 10;
/// Open files of a batch.
const BATCH_FILES: usize = 32;
/// Steps of a batch.
const BATCH_STEPS: usize = 128;
/// Bytes of content of a batch.
const BATCH_BYTES: u64 = 1 << 20;

/// One step of a walk, its small files read.
#[derive(Debug)]
pub enum Step {
    /// A directory begins.
    Enter(Directory),
    /// Something that is no directory.
    Entry(Found),
    /// A directory ends.
    Leave {
        /// See [`Event::Leave`].
        complete: bool,
    },
    /// Something went wrong with one path.
    Issue(Issue),
    /// The walk is over. Without it something failed, and the archive must not be ended as if it were whole.
    End,
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

/// The steps in order: an iterator that ends after [`Step::End`], or without it if something failed.
#[derive(Debug)]
pub struct Steps {
    drain: Drain<Vec<Step>>,
    batch: std::vec::IntoIter<Step>,
}

impl Iterator for Steps {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        loop {
            if let Some(step) = self.batch.next() {
                return Some(step);
            }
            self.batch = self.drain.next_blocking()?.into_iter();
        }
    }
}

/// Starts the walk and `readers` threads. All of them end when the steps are dropped, or at `stop`.
pub fn start(walk: Walk, readers: usize, stop: CancellationToken) -> io::Result<Steps> {
    let (feed, drain) = ordered::pool(
        "reader",
        readers,
        readers + 1,
        || (),
        |(), batch| read(batch),
    )?;
    std::thread::Builder::new()
        .name("walk".into())
        .spawn(move || run(walk, &feed, &stop))?;
    Ok(Steps {
        drain,
        batch: Vec::new().into_iter(),
    })
}

fn run(mut walk: Walk, feed: &Feed<Vec<Step>, Vec<Step>>, stop: &CancellationToken) {
    let mut batch = Vec::new();
    let (mut files, mut bytes) = (0, 0);
    loop {
        if stop.is_cancelled() {
            return;
        }
        let seen = now();
        let step = match walk.next() {
            Some(Event::Enter(directory)) => Step::Enter(directory),
            Some(Event::Leave { complete, .. }) => Step::Leave { complete },
            Some(Event::Issue(issue)) => Step::Issue(issue),
            Some(Event::Entry(item)) => {
                if let Some(file) = &item.file {
                    files += 1;
                    // A large one ends the batch: what is behind it can be read while it is packed.
                    bytes += if is_small(&item) {
                        file.size()
                    } else {
                        BATCH_BYTES
                    };
                }
                Step::Entry(Found {
                    item,
                    content: None,
                    seen,
                })
            }
            None => Step::End,
        };
        let end = matches!(step, Step::End);
        batch.push(step);
        if end || files >= BATCH_FILES || bytes >= BATCH_BYTES || batch.len() >= BATCH_STEPS {
            if feed.put_blocking(std::mem::take(&mut batch)).is_err() || end {
                return;
            }
            (files, bytes) = (0, 0);
        }
    }
}

/// Only what surely is stored now is read ahead.
fn is_small(item: &Item) -> bool {
    item.meta.links <= 1 && item.file.as_ref().is_some_and(|file| file.size() <= SMALL)
}

fn read(mut batch: Vec<Step>) -> Vec<Step> {
    for step in &mut batch {
        if let Step::Entry(found) = step
            && is_small(&found.item)
        {
            found.content = found.item.file.take().map(whole);
        }
    }
    batch
}

fn whole(file: OpenFile) -> Content {
    let extents = extents(&file);
    let mut digest = Digest::new(file.size(), extents.as_deref());
    let mut reader = file.into_reader(extents.clone());
    let mut bytes = vec![0; reader.remaining() as usize];
    let mut filled = 0;
    while filled < bytes.len() {
        filled += reader.read(&mut bytes[filled..]);
    }
    digest.update(&bytes);
    Content {
        bytes,
        extents,
        hash: digest.finish(),
        fault: reader.finish(),
    }
}

/// The runs of a sparse file; `None` for a dense one, and where the file system can't say.
pub fn extents(file: &OpenFile) -> Option<Vec<Extent>> {
    file.extents(MAX_EXTENTS).unwrap_or(None)
}

fn now() -> Time {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Time {
        seconds: since.as_secs() as i64,
        nanos: since.subsec_nanos(),
    }
}
