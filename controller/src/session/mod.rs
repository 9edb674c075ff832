//! Sessions of agents: who is connected here, and what each unit is to do.
//!
//! The registry holds the newest set of assignments for every connected unit. It is filled by the reconciler from
//! the database and read by the sessions; it decides nothing and remembers nothing that the database does not know.

pub mod dump;
mod observe;
pub mod preview;
mod service;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use taf_proto::agent::Assignment;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use service::Service;

pub use crate::store::drives::Unit;

/// The units connected to this controller. Cheap to clone.
#[derive(Clone, Default)]
pub struct Registry {
    units: Arc<Mutex<HashMap<Unit, Entry>>>,
    wake: Arc<Notify>,
}

struct Entry {
    seat: Uuid,
    incarnation: Uuid,
    /// `None` until the reconciler has looked at this process for the first time.
    assignments: watch::Sender<Option<Vec<Assignment>>>,
    /// Previews that somebody waits for.
    previews: preview::Waiting,
    replaced: CancellationToken,
}

/// A session's place in the registry.
pub struct Seat {
    /// Tells the sessions of one process apart.
    number: Uuid,
    /// What the unit is to do.
    pub assignments: watch::Receiver<Option<Vec<Assignment>>>,
    /// Ids of the previews that somebody waits for.
    pub previews: watch::Receiver<Vec<Uuid>>,
    /// Cancelled when a newer session of the same unit has come.
    pub replaced: CancellationToken,
}

impl Registry {
    /// Takes the place of a unit; an older session of it ends.
    fn join(&self, unit: Unit, incarnation: Uuid) -> Seat {
        let (sender, assignments) = watch::channel(None);
        let (waiting, previews) = preview::Waiting::new();
        let replaced = CancellationToken::new();
        let number = Uuid::new_v4();
        let entry = Entry {
            seat: number,
            incarnation,
            assignments: sender,
            previews: waiting,
            replaced: replaced.clone(),
        };
        if let Some(older) = self.lock().insert(unit, entry) {
            older.replaced.cancel();
        }
        self.wake();
        Seat {
            number,
            assignments,
            previews,
            replaced,
        }
    }

    /// Leaves it, unless a newer session has it. Says whether it was still ours.
    fn leave(&self, unit: Unit, seat: &Seat) -> bool {
        {
            let mut units = self.lock();
            // Looked at under the lock: a newer session cancels ours only when it has our place.
            let ours = units.get(&unit).is_some_and(|e| e.seat == seat.number);
            if !ours {
                return false;
            }
            units.remove(&unit);
        }
        self.wake();
        true
    }

    /// Whether a unit is connected here.
    pub fn is_connected(&self, unit: Unit) -> bool {
        self.lock().contains_key(&unit)
    }

    /// Whether nobody is connected here.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Gives every connected unit its complete set. `sets` says for which process each is meant; a unit without one
    /// has nothing to do.
    pub fn publish(
        &self,
        sets: &HashMap<Unit, (Uuid, Vec<Assignment>)>,
        known: &HashMap<Unit, Uuid>,
    ) {
        for (unit, entry) in self.lock().iter() {
            // The reconciler has not seen this process yet: the next pass will.
            if known.get(unit) != Some(&entry.incarnation) {
                continue;
            }
            let set = match sets.get(unit) {
                Some((incarnation, set)) if *incarnation == entry.incarnation => set.clone(),
                _ => Vec::new(),
            };
            entry.assignments.send_if_modified(|now| {
                let differs = now.as_ref() != Some(&set);
                *now = Some(set);
                differs
            });
        }
    }

    /// Hints that something has changed. The reconciler works from state, so hints may come late or double.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Waits for a hint.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Unit, Entry>> {
        // A map of plain values; whole after every statement.
        self.units.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
