//! The meeting of a synthetic full with its feed: two assignments of this agent, one of which lends its drive to the other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use taf_proto::agent::{AssignmentKey, FeedWork, RestoreDone};
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use crate::backup::Context;
use crate::fault::{self, Error};
use crate::progress::Counters;

/// The fault of one of the two that ends because of the other. Controllers wait for what the other says.
const OTHER_STREAM: &str = "OTHER_STREAM";

/// A feed that waits for its backup, or works for it.
#[derive(Debug)]
pub struct Feed {
    /// Its assignment.
    pub key: AssignmentKey,
    /// What it is to read.
    pub work: FeedWork,
    /// Shows how far it is.
    pub counters: Arc<Counters>,
    stop: CancellationToken,
    /// Cancelled when it is not needed any more: then its end says nothing.
    released: CancellationToken,
    told: Option<oneshot::Sender<Result<RestoreDone, Error>>>,
}

impl Feed {
    /// Says how it ended; what is said later counts for nothing.
    pub fn tell(&mut self, outcome: Result<RestoreDone, Error>) {
        self.released.cancel();
        if let Some(told) = self.told.take() {
            // If it was stopped it has no ears.
            drop(told.send(outcome));
        }
    }

    /// Waits until it is taken away while it is needed.
    pub fn lost(&self) -> impl Future<Output = ()> + use<> {
        let (stop, released) = (self.stop.clone(), self.released.clone());
        async move {
            stop.cancelled().await;
            if released.is_cancelled() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Feeds that nobody has taken, by the attempts of their backups.
#[derive(Debug, Default)]
pub struct Feeds {
    offered: Mutex<HashMap<u64, Feed>>,
    news: Notify,
}

impl Feeds {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Feed>> {
        self.offered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the feed of a backup.
    pub async fn take(&self, attempt: u64) -> Feed {
        loop {
            let mut news = std::pin::pin!(self.news.notified());
            news.as_mut().enable();
            if let Some(feed) = self.lock().remove(&attempt) {
                return feed;
            }
            news.await;
        }
    }
}

/// Lends a drive to the backup, until that has read everything.
///
/// # Errors
/// What kept it from reading; that the backup ended before.
pub async fn lend(
    context: &Context<'_>,
    work: &FeedWork,
    feeds: &Feeds,
) -> Result<RestoreDone, Error> {
    context.counters.phase("waiting");
    let (told, heard) = oneshot::channel();
    let feed = Feed {
        key: context.key,
        work: work.clone(),
        counters: Arc::clone(&context.counters),
        stop: context.stop.clone(),
        released: CancellationToken::new(),
        told: Some(told),
    };
    feeds.lock().insert(work.backup_attempt, feed);
    feeds.news.notify_waiters();
    let outcome = tokio::select! {
        outcome = heard => outcome.unwrap_or_else(|_| {
            Err(other("the backup that it reads for has ended"))
        }),
        () = context.stop.cancelled() => Err(Error::Stopped),
    };
    feeds.lock().remove(&work.backup_attempt);
    outcome
}

/// The fault of who ends because of the other.
pub fn other(message: impl Into<String>) -> Error {
    fault::fault(OTHER_STREAM, message, "")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn feed(stop: &CancellationToken) -> (Feed, oneshot::Receiver<Result<RestoreDone, Error>>) {
        let (told, heard) = oneshot::channel();
        let feed = Feed {
            key: AssignmentKey::default(),
            work: FeedWork::default(),
            counters: Arc::default(),
            stop: stop.clone(),
            released: CancellationToken::new(),
            told: Some(told),
        };
        (feed, heard)
    }

    #[tokio::test]
    async fn one_is_found_by_its_backup_whoever_comes_first() {
        let feeds = Feeds::default();
        let stop = CancellationToken::new();
        let mut waiting = Box::pin(feeds.take(7));
        assert!(waiting.as_mut().now_or_never().is_none());
        feeds.lock().insert(8, feed(&stop).0);
        feeds.news.notify_waiters();
        assert!(waiting.as_mut().now_or_never().is_none(), "another one's");
        feeds.lock().insert(7, feed(&stop).0);
        feeds.news.notify_waiters();
        waiting.await;
        feeds.take(8).await;
    }

    #[tokio::test]
    async fn its_end_is_a_loss_until_everything_is_read() {
        let stop = CancellationToken::new();
        let (needed, _heard) = feed(&stop);
        let (mut read, heard) = feed(&stop);
        read.tell(Ok(RestoreDone::default()));
        read.tell(Err(Error::Stopped));
        heard.await.unwrap().unwrap();
        stop.cancel();
        assert!(needed.lost().now_or_never().is_some());
        assert!(read.lost().now_or_never().is_none());
    }
}
