//! A volume at the drive and who writes on it: it is mounted and proved once, and what is known of its end is shared.
//!
//! Each write assignment has a seat. A part is written in a [turn](crate::turns); behind it the next one begins, whose ever it is.
//! After a reset, or when a torn tail could not be closed, the volume is *unproved*, and whoever has the turn proves it anew before it
//! writes. A volume that is full, or that failed, is *closed*: each one comes to its turn, finds it so and goes on elsewhere. What is on
//! tape goes to the controller by one [ledger](crate::ledger), in the tape's order.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use taf_proto::agent::{AssignmentKey, Recording};
use taf_proto::v1::Fault;
use tokio_util::sync::CancellationToken;

use crate::ledger::Ledger;
use crate::parts::Stand;
use crate::ring::Around;
use crate::turns::Turns;
use crate::worker::drive::Surroundings;
use crate::write::{self, Proved};

/// Who waits for a turn looks so often whether it is still wanted.
const LOOK: Duration = Duration::from_millis(100);

/// The volume at the drive, if anybody writes on one. Cheap to clone.
#[derive(Clone, Default)]
pub struct Seats(Arc<Mutex<Option<Arc<Mounted>>>>);

/// Why nothing more is written on a volume in this mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Closed {
    /// Archives go on with another volume: why.
    NextVolume(String),
    /// Neither on another one.
    Fault(Fault),
}

enum Ground {
    /// What is known of it counts no more, or nothing is known yet.
    Unproved,
    Proved,
    Closed(Closed),
}

struct Mounted {
    recording: Bytes,
    ledger: Ledger,
    /// One proves, and the others wait.
    proving: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    ground: Ground,
    /// What was proved last; its end moves with each part.
    proved: Option<Proved>,
    near_end: bool,
    turns: Turns,
    next_seat: u64,
    seats: usize,
}

impl Mounted {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Whole after every statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What comes of waiting for a turn.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is ours, until it is given back.
    Ours,
    /// Nothing more is written here.
    Closed(Closed),
    /// It is not waited for any longer.
    GivenUp,
}

/// A place at the drive. It ends when it is dropped.
pub struct Seat {
    number: u64,
    mounted: Arc<Mounted>,
    seats: Seats,
}

impl Seats {
    fn lock(&self) -> MutexGuard<'_, Option<Arc<Mounted>>> {
        // A value that is put and taken whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a seat at the volume of this recording, beside those that are there. The worker sees to it that no other volume is at
    /// the drive.
    pub fn sit(&self, around: &Surroundings, recording: &Bytes) -> Seat {
        let mut here = self.lock();
        let mounted = match here.as_ref() {
            Some(mounted) if mounted.recording == *recording => Arc::clone(mounted),
            _ => here
                .insert(Arc::new(Mounted {
                    recording: recording.clone(),
                    ledger: Ledger::open(around.link.clone()),
                    proving: tokio::sync::Mutex::default(),
                    state: Mutex::new(State {
                        ground: Ground::Unproved,
                        proved: None,
                        near_end: false,
                        turns: Turns::default(),
                        next_seat: 0,
                        seats: 0,
                    }),
                    changed: Condvar::new(),
                }))
                .clone(),
        };
        let number = {
            let mut state = mounted.lock();
            state.seats += 1;
            state.next_seat += 1;
            state.next_seat
        };
        Seat {
            number,
            mounted,
            seats: self.clone(),
        }
    }

    /// The drive hangs: whoever still has a seat keeps it for himself.
    pub fn clear(&self) {
        *self.lock() = None;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.stand_up();
        let mut here = self.seats.lock();
        let mut state = self.mounted.lock();
        state.seats -= 1;
        if state.seats == 0 && here.as_ref().is_some_and(|m| Arc::ptr_eq(m, &self.mounted)) {
            *here = None;
        }
    }
}

impl Seat {
    /// Where what is on tape goes to the controller.
    pub fn ledger(&self) -> &Ledger {
        &self.mounted.ledger
    }

    /// Who else writes here, for the ring's gate.
    pub fn company(&self) -> Around {
        let (mounted, number) = (Arc::clone(&self.mounted), self.number);
        Arc::new(move || mounted.lock().turns.company(number))
    }

    /// The volume as it was proved, with its end as it is now; proves it if that is to be done. A closed one is as it was.
    pub async fn prove(
        &self,
        around: &Surroundings,
        key: AssignmentKey,
        recording: &Recording,
        stop: &CancellationToken,
    ) -> Result<Proved, Fault> {
        let _one = self.mounted.proving.lock().await;
        let known = {
            let state = self.mounted.lock();
            match (&state.ground, state.proved) {
                (Ground::Proved | Ground::Closed(_), Some(proved)) => return Ok(proved),
                (_, known) => known.map(|known| known.end),
            }
        };
        let mut recording = recording.clone();
        if let Some(end) = known {
            // The controller is to know all that was put there before it is told of what is found.
            self.ledger().settle().await;
            (recording.next_tape_file, recording.next_block) = (end.tape_file, end.block);
        }
        let proved = write::prove(around, key, &recording, stop).await?;
        let mut state = self.mounted.lock();
        state.ground = Ground::Proved;
        state.proved = Some(proved);
        Ok(proved)
    }

    /// From now on it counts among those that write.
    pub fn sit_down(&self) {
        self.mounted.lock().turns.sit(self.number);
    }

    /// It has done with this volume.
    pub fn stand_up(&self) {
        self.mounted.lock().turns.rise(self.number);
        self.mounted.changed.notify_all();
    }

    /// Why nothing more is written here, if that is so.
    pub fn closed(&self) -> Option<Closed> {
        match &self.mounted.lock().ground {
            Ground::Closed(why) => Some(why.clone()),
            _ => None,
        }
    }

    /// Waits for the turn. `waits` is told once if it is not had at once, and `give_up` is asked now and then.
    pub fn turn_blocking(&self, waits: impl FnOnce(), give_up: impl Fn() -> bool) -> Turn {
        let mut waits = Some(waits);
        let mut state = self.mounted.lock();
        state.turns.ask(self.number);
        loop {
            if let Ground::Closed(why) = &state.ground {
                return Turn::Closed(why.clone());
            }
            if state.turns.take(self.number) {
                return Turn::Ours;
            }
            if let Some(waits) = waits.take() {
                drop(state);
                waits();
                state = self.mounted.lock();
                continue;
            }
            let waited = self.mounted.changed.wait_timeout(state, LOOK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            // Whoever is asked may have a lock of its own.
            drop(state);
            if give_up() {
                return Turn::GivenUp;
            }
            state = self.mounted.lock();
        }
    }

    /// What is proved, and whether the medium's end is near; none if it is to be proved. For who has the turn.
    pub fn ground(&self) -> Option<(Proved, bool)> {
        let state = self.mounted.lock();
        match state.ground {
            Ground::Proved => state.proved.map(|proved| (proved, state.near_end)),
            _ => None,
        }
    }

    /// Where the volume ends now; not known any more if none. For who has the turn.
    pub fn stands(&self, stand: Option<Stand>) {
        let mut state = self.mounted.lock();
        match (stand, &mut state.proved) {
            (Some(stand), Some(proved)) => {
                proved.end = stand.end;
                state.near_end |= stand.near_end;
            }
            _ => state.ground = Ground::Unproved,
        }
    }

    /// Nothing more is written on it. For who has the turn.
    pub fn close(&self, why: Closed) {
        let mut state = self.mounted.lock();
        if !matches!(state.ground, Ground::Closed(_)) {
            state.ground = Ground::Closed(why);
        }
        drop(state);
        self.mounted.changed.notify_all();
    }

    /// The volume as it was proved last, with its end as far as it is known.
    pub fn proved(&self) -> Option<Proved> {
        self.mounted.lock().proved
    }

    /// Gives the turn back.
    pub fn done(&self) {
        self.mounted.lock().turns.done(self.number);
        self.mounted.changed.notify_all();
    }
}
