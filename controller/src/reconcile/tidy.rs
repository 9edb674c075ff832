//! What is tidied up in the background while this controller reconciles: parts of expired versions are released, rows that nobody
//! resolves to go, volumes that nobody needs are noted.
//!
//! It runs beside the passes, in small steps with pauses, so that no job waits for it. It needs no lease: whoever does it, and
//! however often, the same goes.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::catalog::vacuum::{self, ROWS, Sweep};
use crate::store::{Error, Store};

/// How long it rests when there is nothing to do.
const REST: Duration = Duration::from_secs(5);
/// How often volumes are looked at although no version was released: those of runs that were given up.
const VOLUMES: Duration = Duration::from_mins(10);
/// After a step it pauses so many times as long as the step took: most of the database's time is for others.
const PAUSE: u32 = 3;

/// The task that tidies up, if it runs.
#[derive(Default)]
pub(super) struct Tidying {
    /// At most one; it ends with us.
    task: JoinSet<()>,
    again: Option<Instant>,
    volumes: Option<Instant>,
}

impl Tidying {
    /// Has it run, unless it does or rests.
    pub(super) fn look(&mut self, store: &Store) {
        let mut ended = false;
        while self.task.try_join_next().is_some() {
            ended = true;
        }
        let now = Instant::now();
        if ended {
            self.again = Some(now + REST);
        }
        if !self.task.is_empty() || self.again.is_some_and(|again| now < again) {
            return;
        }
        let volumes = self.volumes.is_none_or(|then| now - then >= VOLUMES);
        if volumes {
            self.volumes = Some(now);
        }
        let store = store.clone();
        self.task.spawn(async move {
            if let Err(error) = tidy(&store, volumes).await {
                tracing::warn!(%error, "could not tidy up; trying again");
            }
        });
    }
}

async fn tidy(store: &Store, volumes: bool) -> Result<(), Error> {
    if vacuum::release(store).await? > 0 || volumes {
        vacuum::free_volumes(store).await?;
    }
    while let Some(mut sweep) = Sweep::begin(store).await? {
        loop {
            let begun = Instant::now();
            if sweep.step(store, ROWS).await? {
                break;
            }
            tokio::time::sleep(begun.elapsed() * PAUSE).await;
        }
    }
    Ok(())
}
