//! Streams: one version over several drives at once.
//!
//! The first stream's assignment walks the tree; further streams join it when their drives are ready, whenever that is, and get
//! what is still to come. Each stream has an archive, a connection and threads of its own. They stand and fall together: when
//! one fails they all end, each saying that it was not the cause. A stream that comes when there is nothing left to do is dropped.

mod lanes;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::watch;

pub use self::lanes::{Lanes, Taker};
use super::links::Links;
use super::merge::Against;
use crate::fault::{self, Error};

/// The fault of a stream that ends because another one failed.
const OTHER_STREAM: &str = "OTHER_STREAM";

/// The streams of one backup.
#[derive(Debug)]
pub struct Group {
    /// Where the walk's steps go.
    pub lanes: Arc<Lanes>,
    /// Files with several names.
    pub links: Arc<Links>,
    against: OnceLock<Against>,
    failed: watch::Sender<Option<Error>>,
}

/// A stream's part in its group; when it goes without having said how it ended, the others end too.
#[derive(Debug)]
pub struct Member {
    group: Arc<Group>,
    settled: bool,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            lanes: Arc::default(),
            links: Arc::default(),
            against: OnceLock::new(),
            failed: watch::Sender::new(None),
        }
    }
}

impl Group {
    /// The first stream says what its walk is compared with, before it gives any step.
    pub fn compares(&self, against: Against) {
        // Said once; a group has one walk.
        let _ = self.against.set(against);
    }

    /// What the walk is compared with.
    pub fn against(&self) -> Against {
        self.against.get().copied().unwrap_or(Against::Nothing)
    }

    /// From now on the group stands and falls with this stream.
    pub fn member(self: &Arc<Self>) -> Member {
        Member {
            group: Arc::clone(self),
            settled: false,
        }
    }

    /// Waits until a stream fails. Gives what the others end with.
    pub async fn failed(&self) -> Error {
        let mut failed = self.failed.subscribe();
        let why = match failed.wait_for(Option::is_some).await {
            Ok(error) => error.clone(),
            Err(_) => None,
        };
        let why = why.map_or_else(String::new, |error| format!(": {error}"));
        fault::fault(
            OTHER_STREAM,
            format!("another stream of this backup failed{why}"),
            "",
        )
    }

    fn fail(&self, error: &Error) {
        self.failed.send_if_modified(|known| {
            let first = known.is_none();
            if first {
                *known = Some(error.clone());
            }
            first
        });
    }
}

impl Member {
    /// The stream has ended so.
    pub fn settle<T>(mut self, outcome: Result<T, Error>) -> Result<T, Error> {
        self.settled = true;
        if let Err(error) = &outcome {
            self.group.fail(error);
        }
        outcome
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if !self.settled {
            self.group.fail(&Error::Stopped);
        }
    }
}

/// The backups under way that others may join, by the attempt of their first stream.
#[derive(Debug, Default)]
pub struct Groups {
    groups: Mutex<HashMap<u64, Arc<Group>>>,
}

impl Groups {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Group>>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A backup begins. It must be known before any other stream of it looks.
    pub fn open(&self, attempt: u64) {
        self.lock().entry(attempt).or_default();
    }

    /// A backup that may be joined.
    pub fn get(&self, attempt: u64) -> Option<Arc<Group>> {
        self.lock().get(&attempt).map(Arc::clone)
    }

    /// The first stream has ended.
    pub fn close(&self, attempt: u64) {
        self.lock().remove(&attempt);
    }
}
