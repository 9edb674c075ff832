//! The walk beside its base, and the reading of small files ahead of the packer, on threads of their own.
//!
//! Opening and reading a small file is mostly waiting. Several threads do it at once, a bounded number of files ahead,
//! and their results come out in the walk's order. Large files and those with several names pass through unread: the
//! packer reads them itself. Large files of which only the content tells whether they changed are hashed here.

use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use taf_format::entry::{Extent, Metadata, Time};
use taf_format::tar::MAX_EXTENTS;
use taf_tree::walk::Item;
use taf_tree::{Digest, Event, OpenFile, Walk};
use tokio_util::sync::CancellationToken;

use super::merge::{Against, Base, Merger, NoBase, Rules};
use super::step::{Content, Found, Step};
use crate::fault::Error;
use crate::ordered::{self, Drain, Feed};

/// Largest file that is read ahead, in bytes.
const SMALL: u64 = 256 << 10;
/// Open files of a batch.
const BATCH_FILES: usize = 32;
/// Steps of a batch.
const BATCH_STEPS: usize = 256;
/// Bytes of content of a batch.
const BATCH_BYTES: u64 = 1 << 20;

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

/// Starts the walk and `readers` threads, for a run without a base. All of them end when the steps are dropped, or at `stop`.
pub fn start(walk: Walk, readers: usize, stop: CancellationToken) -> io::Result<Steps> {
    let merger = Merger::new(NoBase, Against::Nothing, Rules::default());
    start_with(walk, merger, false, readers, stop)
}

/// The same for a run with a base. Only of what `has_base` can know there is the look before the opening.
pub fn start_with<B: Base + Send + 'static>(
    walk: Walk,
    merger: Merger<B>,
    has_base: bool,
    readers: usize,
    stop: CancellationToken,
) -> io::Result<Steps> {
    let reading = stop.clone();
    let (feed, drain) = ordered::pool(
        "reader",
        readers,
        readers + 1,
        || (),
        move |(), batch| read(batch, &reading),
    )?;
    std::thread::Builder::new()
        .name("walk".into())
        .spawn(move || {
            let mut walker = Walker {
                walk,
                merger,
                has_base,
                batch: Batch::default(),
                feed,
            };
            match walker.run(&stop) {
                Ok(()) | Err(Ended::Closed) => {}
                Err(Ended::Lost(error)) => {
                    walker.batch.steps.push(Step::Lost(error));
                    // If nobody listens nobody needs to know.
                    drop(walker.flush());
                }
            }
        })?;
    Ok(Steps {
        drain,
        batch: Vec::new().into_iter(),
    })
}

/// Why a walk ends before its end.
enum Ended {
    /// Nobody takes the steps, or it was asked to stop.
    Closed,
    /// The base can't be had.
    Lost(Error),
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Self::Lost(error)
    }
}

struct Walker<B> {
    walk: Walk,
    merger: Merger<B>,
    has_base: bool,
    batch: Batch,
    feed: Feed<Vec<Step>, Vec<Step>>,
}

#[derive(Default)]
struct Batch {
    steps: Vec<Step>,
    files: usize,
    bytes: u64,
}

impl<B: Base> Walker<B> {
    fn run(&mut self, stop: &CancellationToken) -> Result<(), Ended> {
        loop {
            if stop.is_cancelled() {
                return Err(Ended::Closed);
            }
            let seen = now();
            let event = if self.has_base {
                let (merger, mut lost) = (&mut self.merger, None);
                let mut known = |name: &[u8], meta: &Metadata| {
                    merger.known(name, meta, seen).unwrap_or_else(|error| {
                        lost = Some(error);
                        true
                    })
                };
                let event = self.walk.next_unless(&mut known);
                if let Some(error) = lost {
                    return Err(error.into());
                }
                event
            } else {
                self.walk.next()
            };
            let end = event.is_none();
            match event {
                Some(Event::Enter(directory)) => self.merger.enter(directory)?,
                Some(Event::Entry(item)) => self.merger.entry(item, seen)?,
                Some(Event::Leave {
                    complete, names, ..
                }) => self.merger.leave(complete, &names)?,
                Some(Event::Issue(issue)) => self.merger.issue(issue)?,
                None => self.merger.end()?,
            }
            for step in self.merger.steps() {
                if let Step::Entry(found) = &step
                    && let Some(file) = &found.item.file
                {
                    self.batch.files += 1;
                    // A large one ends the batch: what is behind it can be read while it is packed.
                    self.batch.bytes += if is_small(&found.item) {
                        file.size()
                    } else {
                        BATCH_BYTES
                    };
                }
                self.batch.steps.push(step);
            }
            if end || self.batch.is_full() {
                self.flush()?;
            }
            if end {
                return Ok(());
            }
        }
    }

    fn flush(&mut self) -> Result<(), Ended> {
        let batch = std::mem::take(&mut self.batch);
        self.feed
            .put_blocking(batch.steps)
            .map_err(|_| Ended::Closed)
    }
}

impl Batch {
    fn is_full(&self) -> bool {
        self.files >= BATCH_FILES || self.bytes >= BATCH_BYTES || self.steps.len() >= BATCH_STEPS
    }
}

/// Only what surely is stored now is read ahead.
fn is_small(item: &Item) -> bool {
    item.meta.links <= 1 && item.file.as_ref().is_some_and(|file| file.size() <= SMALL)
}

fn read(mut batch: Vec<Step>, stop: &CancellationToken) -> Vec<Step> {
    for step in &mut batch {
        let Step::Entry(found) = step else { continue };
        if is_small(&found.item) {
            found.content = found.item.file.take().map(whole);
        } else if found.item.meta.links <= 1 {
            compare(found, stop);
        }
    }
    batch
}

/// Reads a file and holds its content against the base's hash, if there is one.
pub fn compare(found: &mut Found, stop: &CancellationToken) {
    let old = found.old.as_ref().and_then(|old| old.hash);
    if let (Some(old), Some(file)) = (old, &found.item.file) {
        found.compared = Some(
            file.has_hash(&old, &|| stop.is_cancelled())
                .unwrap_or(false),
        );
    }
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
