//! Looking for things in the catalog: finding, comparing, measuring, a path's past.
//!
//! Owns the reading of many pages: the keys come from the database in large batches, one ahead, the pages of some batches are read at a
//! time, each batch is decoded and judged on a thread for blocking work, a bounded number at a time, and results keep the order of the
//! keys. Whoever does not read what is found, or goes
//! away, stops it all. Nothing here holds a connection between two batches, or more than some batches in memory.

mod diff;
mod find;
mod keys;
mod measure;
mod places;
mod scan;
mod states;

use std::future::Future;

use futures::{Stream, TryStreamExt as _, stream};
use tokio::sync::mpsc;

pub use diff::{Difference, Differs, certain, diff};
pub use find::{Batch, Hit, Wanted, find};
pub use measure::{Measure, measure};
pub use places::Places;
pub use scan::Versions;
pub use states::{State, states};

use self::scan::{Group, Scan, Stretch};
use super::Error;

/// Batches that one search reads at a time, each by a connection of its own.
const READERS: usize = 2;
/// Most batches that one search works on at a time.
const THREADS: usize = 4;

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |count| count.get().min(THREADS))
}

/// What `work` makes of each batch of a scan, in order, on threads for blocking work.
fn spread<T: Send + 'static>(
    scan: Scan,
    work: impl Fn(Vec<Group>) -> Result<T, Error> + Clone + Send + 'static,
) -> impl Stream<Item = Result<T, Error>> {
    ahead(scan)
        .map_ok(Stretch::read)
        .try_buffered(READERS)
        .map_ok(move |groups| {
            let work = work.clone();
            blocking(move || work(groups))
        })
        .try_buffered(threads())
}

/// The batches of a scan, made one ahead by a task of its own: the database, which has most to do, never waits for who works on them.
fn ahead(mut scan: Scan) -> impl Stream<Item = Result<Stretch, Error>> {
    let (ready, batches) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            let next = tokio::select! {
                next = scan.next() => next,
                () = ready.closed() => return,
            };
            let more = matches!(next, Ok(Some(_)));
            if ready.send(next).await.is_err() || !more {
                return;
            }
        }
    });
    stream::try_unfold(batches, async |mut batches| match batches.recv().await {
        Some(next) => Ok(next?.map(|batch| (batch, batches))),
        // Without having said that it was all.
        None => Err(stopping()),
    })
}

fn stopping() -> Error {
    Error::Invalid("the controller is stopping".to_owned())
}

/// Runs it on a thread for blocking work.
fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> impl Future<Output = Result<T, Error>> {
    // Spawned at once, not when it is polled: that is what keeps several threads busy.
    let task = tokio::task::spawn_blocking(work);
    async move {
        match task.await {
            Ok(outcome) => outcome,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Err(stopping()),
        }
    }
}
