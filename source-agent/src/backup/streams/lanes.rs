//! Lanes: the steps of one walk on their way to several packers.
//!
//! Owns which packer gets what. The order of the walk stays, and a directory's own listing (what is in it and no directory, and
//! with it its page) goes wholly to one lane: the one with most room. A lane that takes nothing (its drive changes the volume) is
//! passed by as long as another one has room; only a listing that is under way waits for its own lane, once that is full.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::backup::step::Step;

/// How much a lane holds.
#[derive(Debug, Clone, Copy, Default)]
struct Held {
    steps: usize,
    /// Open files.
    files: usize,
    /// Bytes of content that was read ahead.
    content: u64,
}

/// A lane that holds so much gets no further directory.
const ENOUGH: Held = Held {
    steps: 256,
    files: 16,
    content: 8 << 20,
};
/// A listing that is under way may fill its lane so far; then the walk waits. Streams times these files are open at most.
const FULL: Held = Held {
    steps: 4096,
    files: 64,
    content: 32 << 20,
};
/// What an entry costs besides its content, bytes.
const ENTRY: u64 = 1024;

impl Held {
    fn is_below(self, bound: Held) -> bool {
        self.steps < bound.steps && self.files < bound.files && self.content < bound.content
    }

    fn half(self) -> Held {
        Held {
            steps: self.steps / 2,
            files: self.files / 2,
            content: self.content / 2,
        }
    }
}

#[derive(Debug, Default)]
struct Lane {
    steps: VecDeque<Step>,
    held: Held,
    /// Bytes to be packed, those being packed included.
    load: u64,
    /// Bytes given so far.
    given: u64,
    /// Whether nobody takes its steps any more.
    closed: bool,
}

#[derive(Debug, Default)]
struct State {
    lanes: Vec<Lane>,
    /// Whether no further step will come.
    over: bool,
    /// Whether the walk waits for room.
    waits: bool,
}

/// The lanes of one walk.
#[derive(Debug, Default)]
pub struct Lanes {
    state: Mutex<State>,
    changed: Condvar,
    over: CancellationToken,
}

/// A lane has closed: its packer has failed, and with it the backup.
#[derive(Debug)]
struct Closed;

/// Where the steps of one lane come out: those of some directories, each from its `Enter` to its `Leave`, then the end.
#[derive(Debug)]
pub struct Taker {
    lanes: Arc<Lanes>,
    index: usize,
    /// Load of the step that is being packed.
    packing: u64,
}

impl Lanes {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a lane, at any time; `None` when the walk is over.
    pub fn add(self: &Arc<Self>) -> Option<Taker> {
        let mut state = self.lock();
        if state.over {
            return None;
        }
        state.lanes.push(Lane::default());
        self.changed.notify_all();
        Some(Taker {
            lanes: Arc::clone(self),
            index: state.lanes.len() - 1,
            packing: 0,
        })
    }

    /// Waits until the walk is over.
    pub async fn over(&self) {
        self.over.cancelled().await;
    }

    /// Gives the steps of a walk to the lanes, of which there must be one. The first directory goes to the first lane.
    pub fn share(&self, steps: impl Iterator<Item = Step>) {
        let ended = self.give(steps).unwrap_or(false);
        let mut state = self.lock();
        state.over = true;
        if ended {
            for lane in state.lanes.iter_mut().filter(|lane| lane.given > 0) {
                lane.steps.push_back(Step::End);
            }
        }
        self.changed.notify_all();
        self.over.cancel();
    }

    /// True if the walk came to its end.
    fn give(&self, steps: impl Iterator<Item = Step>) -> Result<bool, Closed> {
        let mut first = Some(0);
        // The lane of the listing that is under way.
        let mut open = None;
        for step in steps {
            match step {
                Step::End => return Ok(true),
                Step::Enter(_) => {
                    if let Some(lane) = open.take() {
                        self.put(lane, Step::Leave { complete: true })?;
                    }
                    let lane = match first.take() {
                        Some(lane) => lane,
                        None => self.roomiest()?,
                    };
                    self.put(lane, step)?;
                    open = Some(lane);
                }
                // Of a directory whose first subdirectory has ended its listing nothing is left to say.
                Step::Leave { .. } => {
                    if let Some(lane) = open.take() {
                        self.put(lane, step)?;
                    }
                }
                Step::Entry(_)
                | Step::Kept(_)
                | Step::Row(_)
                | Step::Gone(_)
                | Step::Carried(_)
                | Step::CarriedPage(..)
                | Step::Issue(_)
                | Step::Lost(_) => self.put(open.unwrap_or(0), step)?,
            }
        }
        Ok(false)
    }

    /// The lane that is to take the next directory, when there is one.
    fn roomiest(&self) -> Result<usize, Closed> {
        let mut state = self.lock();
        let mut bound = ENOUGH;
        loop {
            if state.lanes.iter().any(|lane| lane.closed) {
                return Err(Closed);
            }
            let lanes = state.lanes.iter().enumerate();
            let open = lanes.filter(|(_, lane)| lane.held.is_below(bound));
            // Of lanes that are all idle the one that has had least: so tapes fill evenly.
            let best = open.min_by_key(|(_, lane)| (lane.load, lane.given));
            if let Some((index, _)) = best {
                state.waits = false;
                return Ok(index);
            }
            // Not woken for each step.
            bound = ENOUGH.half();
            state.waits = true;
            state = self.wait(state);
        }
    }

    fn put(&self, index: usize, step: Step) -> Result<(), Closed> {
        let cost = cost(&step);
        let load = load(&step);
        let mut state = self.lock();
        let mut bound = FULL;
        loop {
            if state.lanes.iter().any(|lane| lane.closed) {
                return Err(Closed);
            }
            if state.lanes[index].held.is_below(bound) {
                break;
            }
            bound = FULL.half();
            state.waits = true;
            state = self.wait(state);
        }
        state.waits = false;
        let lane = &mut state.lanes[index];
        lane.steps.push_back(step);
        lane.held.steps += cost.steps;
        lane.held.files += cost.files;
        lane.held.content += cost.content;
        lane.load += load;
        lane.given += load;
        if lane.steps.len() == 1 {
            self.changed.notify_all();
        }
        Ok(())
    }
}

fn cost(step: &Step) -> Held {
    let found = match step {
        Step::Entry(found) => Some(found),
        _ => None,
    };
    Held {
        steps: 1,
        files: found.map_or(0, |found| usize::from(found.item.file.is_some())),
        content: found
            .and_then(|found| found.content.as_ref())
            .map_or(0, |content| content.bytes.len() as u64),
    }
}

fn load(step: &Step) -> u64 {
    match step {
        Step::Entry(found) => ENTRY + found.item.meta.size,
        _ => ENTRY,
    }
}

impl Taker {
    /// Waits for the first step; false if the walk is over and there is none.
    pub fn begins(&self) -> bool {
        let mut state = self.lanes.lock();
        while state.lanes[self.index].steps.is_empty() && !state.over {
            state = self.lanes.wait(state);
        }
        !state.lanes[self.index].steps.is_empty()
    }
}

impl Iterator for Taker {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let mut state = self.lanes.lock();
        let packed = std::mem::take(&mut self.packing);
        state.lanes[self.index].load -= packed;
        loop {
            let waits = state.waits;
            let lane = &mut state.lanes[self.index];
            if let Some(step) = lane.steps.pop_front() {
                let cost = cost(&step);
                lane.held.steps = lane.held.steps.saturating_sub(cost.steps);
                lane.held.files -= cost.files;
                lane.held.content -= cost.content;
                if !matches!(step, Step::End) {
                    self.packing = load(&step);
                }
                if waits && lane.held.is_below(FULL.half()) {
                    self.lanes.changed.notify_all();
                }
                return Some(step);
            }
            if state.over {
                return None;
            }
            state = self.lanes.wait(state);
        }
    }
}

impl Drop for Taker {
    fn drop(&mut self) {
        let mut state = self.lanes.lock();
        let over = state.over;
        let lane = &mut state.lanes[self.index];
        lane.closed = !over;
        lane.steps.clear();
        self.lanes.changed.notify_all();
    }
}
