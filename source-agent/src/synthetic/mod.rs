//! Synthetic fulls: the newest version, copied from tape to tape. No file of the source is looked at.
//!
//! Owns the order of the two passes and the bounds between them. The members of all archives but the largest are spooled first; then
//! the largest is read, and everything is packed in catalog order as if it had been walked. Another job, the feed, has the drive
//! that is read; the backup asks for its own when it has the first bytes. Nothing is held in memory but for each file with several
//! names that is asked for out of order. One fails with the other, and says which it was.

mod feeds;
mod merge;
mod pages;
mod spool;

use std::collections::HashSet;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use taf_proto::agent::{BackupDone, BackupWork, FetchRecallRequest, RecallItem, RestoreDone};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use self::feeds::{Feed, Feeds, lend};
use self::merge::{Merge, Tape};
use self::pages::Pages;
use self::spool::Spool;
use crate::backup::{self, Context, base, links::Links, pack};
use crate::fault::{self, Error, fault};
use crate::progress::Counters;
use crate::restore::plan::{Needs, Order};
use crate::restore::window::Window;
use crate::restore::{pass, recall, tape};

/// Room that is left on the spool's disk for others, in bytes.
const SPARE: u64 = 64 << 20;

/// Does the work.
///
/// # Errors
/// What kept it from being read, packed or written. Nothing is published then.
pub async fn run(
    mut context: Context<'_>,
    work: &BackupWork,
    feeds: &Feeds,
) -> Result<BackupDone, Error> {
    context.counters.phase("waiting");
    let mut feed = feeds.take(context.key.attempt).await;
    context.dictionaries = base::dictionaries(context.controller.clone(), context.key).await?;
    let lost = feed.lost();
    let done = tokio::select! {
        done = Box::pin(copy(&context, work, &mut feed)) => done,
        () = lost => Err(feeds::other("the job that reads was stopped")),
    };
    if done.is_ok() {
        feed.tell(Ok(read_done(&feed.counters)));
    }
    done
}

async fn copy(
    context: &Context<'_>,
    work: &BackupWork,
    feed: &mut Feed,
) -> Result<BackupDone, Error> {
    // Ends the threads however this function is left.
    let stop = context.stop.child_token();
    let _ended = stop.clone().drop_guard();
    let folder = context.config.spool.as_ref();
    let folder = folder.unwrap_or(&context.config.state).clone();
    has_room(&folder, feed.work.spool_byte_count)?;
    let spool = Spool::new(&folder).map_err(|error| no_spool(&folder, &error))?;

    let ordinal = feed.work.streamed_archive;
    let part = |without_archive| FetchRecallRequest {
        key: Some(feed.key),
        archive_ordinal: ordinal,
        without_archive,
        ..FetchRecallRequest::default()
    };
    let worker = feed.work.worker.clone();
    let worker = worker.ok_or_else(|| fault::protocol("the feed names no drive"))?;
    let controller = &context.controller;
    let mut tape = tape::Tape::new(context.own, controller.clone(), feed.key, worker, &[]);
    let counters = Arc::clone(&feed.counters);

    let spool = if feed.work.spool_byte_count == 0 {
        spool
    } else {
        context.counters.phase("spooling");
        let (parts, items) =
            recall::fetch(controller.clone(), part(true), &Bytes::new(), None, None).await?;
        tape.turn_to(parts.volumes());
        let mut from = pass::From {
            tape: &mut tape,
            parts: &parts,
            counters: &counters,
            stop: &stop,
        };
        match Box::pin(spool_all(spool, &mut from, items)).await {
            Ok(spool) => spool,
            Err(error) => return Err(told(feed, error)),
        }
    };

    let (parts, mut items) =
        recall::fetch(controller.clone(), part(false), &Bytes::new(), None, None).await?;
    tape.turn_to(parts.volumes());
    let (inlets, orders, window) = pass::open()?;
    let streamed = Tape {
        ordinal,
        orders,
        window,
        counters: Arc::clone(&counters),
    };
    let pages = Pages::start(controller.clone(), feed.key, context.dictionaries.clone());
    let mut merge = Merge::new(pages, streamed, spool, context.issues.clone());
    let (identity, dictionaries) = (backup::identity(work)?, context.dictionaries.clone());
    let packing = move |outlets: pack::Outlets<'_>| {
        pack::copy(
            &mut merge,
            identity,
            &Links::default(),
            dictionaries,
            outlets,
        )
    };
    context.counters.phase("copying");
    let from = pass::From {
        tape: &mut tape,
        parts: &parts,
        counters: &counters,
        stop: &stop,
    };
    let mut linked = HashSet::new();
    let reading = async {
        let (planned, received) = pass::read(inlets, from, &mut items, &mut linked).await;
        match (received, planned) {
            (Ok(()), Ok(left)) => {
                // The drive is not needed any more, whatever is still to be written.
                if left.exhausted && left.late.is_empty() {
                    feed.tell(Ok(read_done(&counters)));
                }
                Ok(())
            }
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    };
    let sending = backup::stream(context, work, None, packing, stop.clone());
    let both = async {
        let (mut reading, mut sending) = (std::pin::pin!(reading), Box::pin(sending));
        let mut read = None;
        let sent = loop {
            tokio::select! {
                outcome = &mut reading, if read.is_none() => read = Some(outcome),
                sent = &mut sending => break sent,
            }
        };
        match (sent, read) {
            // It only saw that nothing came any more: the other side knows why.
            (Err(Error::Stopped), None) => (Err(Error::Stopped), reading.await),
            (sent, read) => (sent, read.unwrap_or(Ok(()))),
        }
    };
    match Box::pin(both).await {
        (Err(Error::Stopped), Err(error)) => Err(told(feed, error)),
        (sent, _) => sent,
    }
}

/// What was wrong with reading is the feed's fault; the backup ends because of it.
fn told(feed: &mut Feed, error: Error) -> Error {
    match error {
        // What is wrong with this host's disk is no fault of the drive.
        Error::Fault(fault) if fault.reason.starts_with("SPOOL_") => Error::Fault(fault),
        Error::Stopped => Error::Stopped,
        error @ Error::Fault(_) => {
            let other = feeds::other(format!(
                "reading what it is put together from failed: {error}"
            ));
            feed.tell(Err(error));
            other
        }
    }
}

fn read_done(counters: &Counters) -> RestoreDone {
    RestoreDone {
        file_count: Counters::get(&counters.files),
        directory_count: Counters::get(&counters.directories),
        byte_count: Counters::get(&counters.bytes),
        ..RestoreDone::default()
    }
}

/// Reads all that there is into the spool.
async fn spool_all(
    mut spool: Spool,
    from: &mut pass::From<'_, '_>,
    mut items: recall::Items,
) -> Result<Spool, Error> {
    let mut linked = HashSet::new();
    let mut late: Vec<RecallItem> = Vec::new();
    let mut exhausted = false;
    loop {
        let mut again;
        let given = if late.is_empty() {
            if exhausted {
                return Ok(spool);
            }
            &mut items
        } else {
            late.sort_by_key(|item| (item.archive_ordinal, item.tar_offset));
            again = recall::Items::given(std::mem::take(&mut late));
            &mut again
        };
        let (inlets, orders, window) = pass::open()?;
        let (counters, stop) = (from.counters.clone(), from.stop.clone());
        let filling =
            tokio::task::spawn_blocking(move || fill(spool, orders, window, &counters, &stop));
        let now = pass::From {
            tape: from.tape,
            parts: from.parts,
            counters: from.counters,
            stop: from.stop,
        };
        let ((planned, received), filled) =
            tokio::join!(pass::read(inlets, now, given, &mut linked), filling);
        from.tape.close();
        let filled = filled.map_err(|error| fault::internal(error.to_string()))?;
        // What the filling met is the cause, unless it only saw that nothing came any more.
        let (filled, left) = match (filled, received) {
            (Err(error @ Error::Fault(_)), _) | (_, Err(error)) => return Err(error),
            (filled, Ok(())) => (filled?, planned?),
        };
        spool = filled;
        exhausted |= left.exhausted;
        late = left.late;
    }
}

/// Takes members from the tape into the spool.
fn fill(
    mut spool: Spool,
    mut orders: mpsc::Receiver<Order>,
    mut window: Window,
    counters: &Counters,
    stop: &CancellationToken,
) -> Result<Spool, Error> {
    while let Some(Order { item, needs }) = orders.blocking_recv() {
        if stop.is_cancelled() {
            return Err(Error::Stopped);
        }
        let (ordinal, offset) = (item.archive_ordinal, item.tar_offset);
        let (length, is_linked) = (item.tar_length, item.link_group != 0);
        let added = match needs {
            // A further name of what came before.
            Needs::Nothing => continue,
            Needs::Missing(why) => {
                let mut source = Nothing(why);
                spool.add(ordinal, offset, is_linked, length, &mut source)
            }
            Needs::Segments { first, last } => {
                noted(counters, &item);
                let mut bytes = window.item(first, last, offset).take(length);
                let added = spool.add(ordinal, offset, is_linked, length, &mut bytes);
                window.pass(last);
                if window.ended() {
                    return Err(Error::Stopped);
                }
                added
            }
        };
        added.map_err(|error| full(&error))?;
    }
    Ok(spool)
}

/// A source that has nothing to give, and says why.
struct Nothing(String);

impl io::Read for Nothing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other(self.0.clone()))
    }
}

/// Shows that an item is being read.
fn noted(counters: &Counters, item: &RecallItem) {
    counters.path(&item.path);
    Counters::add(&counters.files, 1);
    Counters::add(&counters.bytes, item.tar_length);
}

/// Refuses a disk that is too small, before a tape is moved.
fn has_room(folder: &Path, bytes: u64) -> Result<(), Error> {
    let disk = rustix::fs::statvfs(folder).map_err(|error| no_spool(folder, &error.into()))?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if bytes == 0 || free >= bytes.saturating_add(SPARE) {
        return Ok(());
    }
    Err(fault(
        "SPOOL_TOO_SMALL",
        format!(
            "what has to wait on disk takes {bytes} bytes, and {} has {free} free",
            folder.display()
        ),
        "make room there, or name another folder as spool in source-agent.toml of this host, and run again",
    ))
}

fn no_spool(folder: &Path, error: &io::Error) -> Error {
    fault(
        "SPOOL_UNUSABLE",
        format!(
            "{} can't hold what has to wait on disk: {error}",
            folder.display()
        ),
        "name another folder as spool in source-agent.toml of this host, and run again",
    )
}

/// Why the spool takes or gives no more.
fn full(error: &io::Error) -> Error {
    fault(
        "SPOOL_FAILED",
        format!("what has to wait on disk can't be kept: {error}"),
        "make room on the disk of the source agent's spool, or name another folder as spool in source-agent.toml, and run again; \
         the older versions are as they were",
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn reason(error: Error) -> String {
        error.into_fault().reason
    }

    #[test]
    fn a_disk_that_is_too_small_is_told_before_a_tape_is_moved() {
        let folder = tempfile::tempdir().unwrap();
        has_room(folder.path(), 0).unwrap();
        has_room(folder.path(), 1).unwrap();
        let small = has_room(folder.path(), u64::MAX / 2).unwrap_err();
        assert_eq!(reason(small), "SPOOL_TOO_SMALL");
        let gone = has_room(&folder.path().join("gone"), 1).unwrap_err();
        assert_eq!(reason(gone), "SPOOL_UNUSABLE");
    }
}
