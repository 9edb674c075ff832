//! What is tidied up in the background while this controller reconciles: versions expire by the rules of their plans, parts of expired versions are released, rows that nobody
//! resolves to go, volumes that nobody needs are noted; and once what versions lack is counted that are not whole, since a cartridge may
//! have been taken in half when a controller ended.
//!
//! It runs beside the passes, in small steps with pauses, so that a job waits milliseconds for it at most. It needs no lease: whoever
//! does it, and however often, the same goes.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use tokio::task::JoinSet;

use crate::catalog::retention;
use crate::catalog::settle_all;
use crate::catalog::vacuum::{self, ROWS, Sweep};
use crate::store::retention::line_list_ruled;
use crate::store::trust::trust_is_lost;
use crate::store::{self, Error, Store};

/// How long it rests when there is nothing to do.
const REST: Duration = Duration::from_secs(2);
/// How often the rules of a line are looked at although neither it nor they have changed.
const RULES: Duration = Duration::from_mins(10);
/// How often volumes are looked at although no version was released: those of runs that were given up.
const VOLUMES: Duration = Duration::from_mins(10);
/// After a step it pauses so many times as long as the step took: most of the database's time is for others.
const PAUSE: u32 = 3;

/// When the rules of each line were looked at last.
type Looked = HashMap<i64, Look>;

/// One look at the rules of a line.
struct Look {
    at: Instant,
    head: i64,
    revision: i64,
    /// When time alone makes a difference.
    next: Option<Timestamp>,
}

/// The task that tidies up, if it runs.
#[derive(Default)]
pub(super) struct Tidying {
    /// At most one; it ends with us.
    task: JoinSet<Known>,
    known: Known,
    again: Option<Instant>,
    volumes: Option<Instant>,
}

/// What it knows from one time to the next.
#[derive(Default)]
struct Known {
    looked: Looked,
    /// Whether it was counted what versions lack.
    counted: bool,
}

impl Tidying {
    /// Has it run, unless it does or rests. Where the catalog is not trusted, nothing goes and nothing expires; what versions lack is
    /// counted then of all times.
    pub(super) fn look(&mut self, store: &Store, trusted: bool) {
        let mut ended = false;
        while let Some(over) = self.task.try_join_next() {
            self.known = over.unwrap_or_default();
            ended = true;
        }
        let now = Instant::now();
        if ended {
            self.again = Some(now + REST);
        }
        if !self.task.is_empty() || self.again.is_some_and(|again| now < again) {
            return;
        }
        let volumes = trusted && self.volumes.is_none_or(|then| now - then >= VOLUMES);
        if volumes {
            self.volumes = Some(now);
        }
        let (store, mut known) = (store.clone(), std::mem::take(&mut self.known));
        self.task.spawn(async move {
            if !known.counted {
                let settled = settle_all(&store).await;
                if let Err(error) = &settled {
                    tracing::warn!(%error, "what versions lack could not be counted; trying again");
                }
                known.counted = settled.is_ok();
            }
            if trusted && let Err(error) = tidy(&store, volumes, &mut known.looked).await {
                tracing::warn!(%error, "could not tidy up; trying again");
            }
            known
        });
    }
}

async fn tidy(store: &Store, volumes: bool, looked: &mut Looked) -> Result<(), Error> {
    expire(store, looked).await?;
    if vacuum::release(store).await? > 0 || volumes {
        vacuum::free_volumes(store).await?;
    }
    while let Some(mut sweep) = Sweep::begin(store).await? {
        loop {
            let begun = Instant::now();
            if trust_is_lost(&store.client().await?).await? {
                return Ok(());
            }
            if sweep.step(store, ROWS).await? {
                break;
            }
            tokio::time::sleep(begun.elapsed() * PAUSE).await;
        }
    }
    Ok(())
}

/// Applies the rules of plans to lines where they may say something new.
async fn expire(store: &Store, looked: &mut Looked) -> Result<(), Error> {
    let client = store.client().await?;
    let lines = line_list_ruled(&client).await?;
    drop(client);
    looked.retain(|id, _| lines.iter().any(|line| line.id == *id));
    for line in lines {
        let now = store::now();
        let known = looked.get(&line.id).is_some_and(|look| {
            (look.head, look.revision) == (line.head, line.revision)
                && look.at.elapsed() < RULES
                && look.next.is_none_or(|next| now < next)
        });
        if known {
            continue;
        }
        let (next, _) = retention::apply(store, &line, now).await?;
        let look = Look {
            at: Instant::now(),
            head: line.head,
            revision: line.revision,
            next,
        };
        looked.insert(line.id, look);
    }
    Ok(())
}
