//! The reconciler: looks at the whole state, lets the pure core decide, writes the decisions in one transaction, and
//! shows every connected unit what it is to do.
//!
//! It takes no input. Hints wake it, a tick each second is the fallback, and it works from rows alone; so a controller that was
//! killed anywhere goes on where it was. One controller at a time reconciles, under a lease that each of its transactions renews.

mod apply;
mod assign;
mod auto_label;
mod cleaning;
mod distrust;
mod facts;
mod feeding;
mod indexing;
mod inspection;
mod needs;
mod operator;
mod outlook;
mod planning;
mod refusal;
mod results;
mod reuse;
mod stage;
mod tidy;
mod turns;
mod verdict;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use outlook::{Outlook, outlook_on};

use crate::catalog::trust::{self, Witness};
use crate::session::Registry;
use crate::store::{Error, Store, attempts, drives, dumps, leadership};

/// Without hints it looks this often.
const TICK: Duration = Duration::from_secs(1);
/// A volume gets its index when its drive was idle for so long, unless configured.
pub const INDEX_AFTER: Duration = Duration::from_mins(1);

/// Nobody is said to have gone before a controller could have said otherwise for so long; less than a minute.
const DUMP_AWAITED: Duration = Duration::from_secs(10);

/// How long it is patient.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// After this long without a word a unit is lost.
    pub lease: Duration,
    /// After this long without a further volume a running job fails.
    pub volume_wait: Duration,
    /// A volume gets its index when its drive was idle for so long.
    pub index_after: Duration,
    /// Whether drives that ask for it are cleaned without being told.
    pub auto_clean: bool,
    /// A volume on which nothing is needed rests for so long before it is written anew.
    pub reuse_after: Duration,
}

/// Reconciles until it is stopped.
pub struct Reconciler {
    store: Store,
    registry: Registry,
    limits: Limits,
    installation: Uuid,
    holder: Uuid,
    term: Option<Term>,
    refused: apply::Refused,
    /// When it was seen first that a side of an attempt has ended. A controller that starts anew waits anew.
    reported: HashMap<i64, Instant>,
    counting: indexing::Counting,
    tidying: tidy::Tidying,
    witness: Witness,
    settling: Settling,
}

/// Since when this controller listens, until it has heard every drive that the catalog knows.
struct Settling {
    since: Instant,
    done: bool,
}

#[derive(Clone, Copy)]
struct Term {
    number: i64,
    /// Since when we reconcile: nobody is lost for a silence that began before.
    since: Instant,
}

impl Reconciler {
    /// A reconciler over the store.
    pub fn new(
        store: Store,
        registry: Registry,
        limits: Limits,
        installation: Uuid,
        witness: Witness,
    ) -> Reconciler {
        Reconciler {
            store,
            registry,
            limits,
            installation,
            holder: Uuid::new_v4(),
            term: None,
            refused: apply::Refused::new(),
            reported: HashMap::new(),
            counting: indexing::Counting::default(),
            tidying: tidy::Tidying::default(),
            witness,
            settling: Settling {
                since: Instant::now(),
                done: false,
            },
        }
    }

    /// Runs until `stop`; then gives the lease back.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut said = String::new();
        while !stop.is_cancelled() {
            match self.pass().await {
                Ok(()) => said.clear(),
                Err(error) => {
                    let text = error.to_string();
                    if text != said {
                        tracing::warn!(%error, "could not reconcile; trying again each second");
                        said = text;
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.registry.woken() => {}
                () = tokio::time::sleep(TICK) => {}
            }
        }
        if let Err(error) = self.release().await {
            tracing::warn!(%error, "could not give back the lease; it runs out by itself");
        }
    }

    /// One look at everything.
    async fn pass(&mut self) -> Result<(), Error> {
        let mut client = self.store.client().await?;
        let tx = client.transaction().await?;
        let Some(term) = self.lead_on(&tx).await? else {
            let trust = trust::look_on(&tx, &self.witness).await?;
            // Another one decides; who is connected here is shown what it decided.
            if self.registry.is_empty() {
                tx.commit().await?;
                self.witness.saw(trust.claims.generation);
                return Ok(());
            }
            let state = facts::load_on(&tx, Duration::ZERO).await?;
            tx.commit().await?;
            self.witness.saw(trust.claims.generation);
            if !self.is_settled(&state) {
                return Ok(());
            }
            let (sets, _) = assign::sets(&state, self.installation);
            self.registry.publish(&sets, &state.incarnations());
            return Ok(());
        };
        trust::look_on(&tx, &self.witness).await?;
        drives::unit_expire_on(&tx, self.limits.lease.as_secs_f64()).await?;
        // Who waits may be another controller's, which may have to come back: as with units, a silence counts from our own beginning.
        if term.since.elapsed() >= DUMP_AWAITED && dumps::dump_lapse_on(&tx).await? > 0 {
            tracing::info!("dumps that nobody waits for any more are cancelled");
        }
        let mut state = facts::load_on(&tx, term.since.elapsed()).await?;
        if !self.is_settled(&state) {
            tx.commit().await?;
            self.witness.saw(state.trust.claims.generation);
            return Ok(());
        }
        state.reported = self.note_reported(&state);
        state.counting = self.counting.look(&state, &self.store, &self.registry);
        let changed = apply::decide_on(&tx, &state, self.limits, &mut self.refused).await?;
        if changed {
            // What was decided is shown from the rows, as any other controller would show it.
            state = facts::load_on(&tx, term.since.elapsed()).await?;
        }
        let (sets, bindings) = assign::sets(&state, self.installation);
        for binding in bindings {
            attempts::attempt_bind_on(&tx, binding.attempt, binding.drive, binding.source).await?;
        }
        tx.commit().await?;
        self.witness.saw(state.trust.claims.generation);
        let trusted = state.trust.distrusted.is_none();
        self.tidying.look(&self.store, trusted);
        self.registry.publish(&sets, &state.incarnations());
        if changed {
            self.registry.wake();
        }
        Ok(())
    }

    /// Whether every drive that the catalog knows has spoken since this controller listens, or has had the time to. Before that
    /// nothing is decided and nobody is told to do anything: of two drives the one that comes second may have seen that the
    /// catalog is old. Who works goes on meanwhile, as while no controller is there.
    fn is_settled(&mut self, state: &facts::State) -> bool {
        let since = self.settling.since.elapsed();
        let heard = |drive: &drives::DriveRow| {
            drive.connected && drive.silent_seconds < since.as_secs_f64()
        };
        self.settling.done |= since >= self.limits.lease || state.drives.values().all(heard);
        self.settling.done
    }

    /// For how long it is known that a side of each attempt has ended, by its word or as another process is in its place.
    fn note_reported(&mut self, state: &facts::State) -> HashMap<i64, Duration> {
        let now = Instant::now();
        let spoken = state.attempts.iter().filter(|a| {
            a.drive_result.is_some() || a.source_result.is_some() || state.is_drive_replaced(a)
        });
        self.reported = spoken
            .map(|a| (a.id, self.reported.get(&a.id).copied().unwrap_or(now)))
            .collect();
        let known = self.reported.iter();
        known
            .map(|(id, at)| (*id, now.duration_since(*at)))
            .collect()
    }

    async fn lead_on(&mut self, tx: &crate::store::Transaction<'_>) -> Result<Option<Term>, Error> {
        if let Some(term) = self.term {
            if leadership::leadership_renew_on(tx, self.holder, term.number).await? {
                return Ok(Some(term));
            }
            tracing::warn!("another controller reconciles now");
            self.term = None;
        }
        if let Some(number) = leadership::leadership_acquire_on(tx, self.holder).await? {
            tracing::info!(term = number, "this controller reconciles");
            self.settling = Settling {
                since: Instant::now(),
                done: false,
            };
            self.term = Some(Term {
                number,
                since: Instant::now(),
            });
        }
        Ok(self.term)
    }

    async fn release(&mut self) -> Result<(), Error> {
        let Some(term) = self.term.take() else {
            return Ok(());
        };
        let mut client = self.store.client().await?;
        let tx = client.transaction().await?;
        leadership::leadership_release_on(&tx, self.holder, term.number).await?;
        Ok(tx.commit().await?)
    }
}
