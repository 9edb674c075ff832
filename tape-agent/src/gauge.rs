//! What the worker shows of a drive while it works.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use taf_drive::watch::Command;
use taf_peer::session::Session;
use taf_proto::agent::{
    AssignmentKey, DriveObservation, DriveWriting, Observation, drive_observation::Medium,
    observation::Seen,
};
use taf_proto::v1::DriveFlow;

use crate::ring::Meter;

/// A rate is over so long.
const WINDOW: Duration = Duration::from_secs(3);
/// It is shown at most this often while bytes flow.
const SHOW_EVERY: Duration = Duration::from_millis(250);

/// Of so many attempts it is kept how much they have moved, since they go on counting through their steps.
const COUNTED: usize = 16;

/// The state of a drive as it is shown. Cheap to clone.
#[derive(Clone)]
pub struct Gauge {
    session: Session,
    state: Arc<Mutex<State>>,
    /// The work that is spoken of; the only one if not said.
    of: Option<AssignmentKey>,
}

struct State {
    /// What is true of the drive, whoever works with it.
    drive: DriveObservation,
    /// Who works with it, in the order in which they came.
    works: Vec<Work>,
    /// Bytes received and committed by attempt.
    counted: Vec<(u64, (u64, u64))>,
    last: Instant,
    /// Bytes have flowed that were not shown yet.
    unshown: bool,
}

struct Work {
    key: AssignmentKey,
    phase: String,
    received: u64,
    committed: u64,
    flowed: VecDeque<(Instant, u64)>,
    /// Bytes a second that were shown last.
    rate: u64,
    /// What shows the ring that is being written.
    meter: Option<Meter>,
}

impl Work {
    /// Bytes a second over the window.
    fn rate(&mut self, now: Instant) -> u64 {
        while self
            .flowed
            .front()
            .is_some_and(|(at, _)| now - *at > WINDOW)
        {
            self.flowed.pop_front();
        }
        self.flowed.front().map_or(0, |(at, before)| {
            let seconds = (now - *at).as_secs_f64().max(0.001);
            ((self.received - before) as f64 / seconds) as u64
        })
    }

    /// How full the ring is, and how the drive fares.
    fn flow(&self) -> Option<DriveFlow> {
        let mut flow = self.meter.as_ref()?.read();
        flow.bytes_per_second = self.rate;
        Some(flow)
    }

    fn shown(&self) -> DriveWriting {
        let flow = self.flow();
        // The drive stands ready for what is being collected.
        let collecting = flow.as_ref().is_some_and(|flow| flow.collecting);
        let phase = match self.phase.as_str() {
            "writing" if collecting => "collecting",
            phase => phase,
        };
        DriveWriting {
            key: Some(self.key),
            phase: phase.to_owned(),
            received_byte_count: self.received,
            committed_byte_count: self.committed,
            bytes_per_second: self.rate,
            flow,
        }
    }
}

impl State {
    fn work(&mut self, of: Option<AssignmentKey>) -> Option<&mut Work> {
        self.works
            .iter_mut()
            .find(|work| of.is_none_or(|key| work.key == key))
    }

    fn count(&mut self, of: Option<AssignmentKey>, received: u64, committed: u64) {
        let Some(work) = self.work(of) else { return };
        work.received += received;
        work.committed += committed;
        let (attempt, counts) = (work.key.attempt, (work.received, work.committed));
        self.counted.retain(|(of, _)| *of != attempt);
        if self.counted.len() == COUNTED {
            self.counted.remove(0);
        }
        self.counted.push((attempt, counts));
    }
}

impl Gauge {
    /// Shows nothing yet.
    pub fn new(session: Session) -> Gauge {
        Gauge {
            session,
            state: Arc::new(Mutex::new(State {
                drive: DriveObservation::default(),
                works: Vec::new(),
                counted: Vec::new(),
                last: Instant::now(),
                unshown: false,
            })),
            of: None,
        }
    }

    /// The same, for what this assignment does.
    #[must_use]
    pub fn of(&self, key: AssignmentKey) -> Gauge {
        Gauge {
            of: Some(key),
            ..self.clone()
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Plain values, whole after every statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, state: &mut State) {
        state.last = Instant::now();
        state.unshown = false;
        let mut beside = state.works.iter().map(Work::shown);
        let first = beside.next();
        let mut shown = DriveObservation {
            phase: "idle".to_owned(),
            ..state.drive.clone()
        };
        let key = first.as_ref().and_then(|first| first.key);
        if let Some(first) = first {
            shown.phase = first.phase;
            shown.received_byte_count = first.received_byte_count;
            shown.committed_byte_count = first.committed_byte_count;
            shown.bytes_per_second = first.bytes_per_second;
            shown.flow = first.flow;
        } else if shown.hung_since.is_some() {
            "hung".clone_into(&mut shown.phase);
        }
        shown.beside = beside.collect();
        self.session.observe(Observation {
            key,
            seen: Some(Seen::Drive(shown)),
        });
    }

    /// Work begins.
    pub fn begin(&self, key: AssignmentKey, barcode: &str, phase: &str) {
        let mut state = self.lock();
        let counted = state.counted.iter().find(|(of, _)| *of == key.attempt);
        let (received, committed) = counted.map_or((0, 0), |(_, counts)| *counts);
        state.works.retain(|work| work.key.attempt != key.attempt);
        state.works.push(Work {
            key,
            phase: phase.to_owned(),
            received,
            committed,
            flowed: VecDeque::new(),
            rate: 0,
            meter: None,
        });
        barcode.clone_into(&mut state.drive.barcode);
        state.drive.hung_since = None;
        state.drive.hung_command.clear();
        self.show(&mut state);
    }

    /// It does something else now.
    pub fn phase(&self, phase: &str) {
        let mut state = self.lock();
        if let Some(work) = state.work(self.of)
            && work.phase != phase
        {
            phase.clone_into(&mut work.phase);
            self.show(&mut state);
        }
    }

    /// Bytes went to or came from the drive.
    pub fn flowed(&self, bytes: u64) {
        let mut state = self.lock();
        let now = Instant::now();
        state.count(self.of, bytes, 0);
        let due = now - state.last >= SHOW_EVERY;
        let Some(work) = state.work(self.of) else {
            return;
        };
        work.flowed.push_back((now, work.received));
        if due {
            work.rate = work.rate(now);
            self.show(&mut state);
        } else {
            state.unshown = true;
        }
    }

    /// Call it about each second while there is work: shows the last bytes before a pause, and that none flow in it.
    pub fn refresh(&self) {
        let mut state = self.lock();
        let now = Instant::now();
        let mut news = state.unshown;
        for work in &mut state.works {
            let rate = work.rate(now);
            // A ring fills without a word of ours.
            news |= rate != work.rate || work.meter.is_some();
            work.rate = rate;
        }
        if news && !state.works.is_empty() {
            self.show(&mut state);
        }
    }

    /// Bytes are in committed parts.
    pub fn committed(&self, bytes: u64) {
        let mut state = self.lock();
        state.count(self.of, 0, bytes);
        self.show(&mut state);
    }

    /// From now on the state of this ring is shown, until the work ends.
    pub fn watch(&self, meter: Meter) {
        if let Some(work) = self.lock().work(self.of) {
            work.meter = Some(meter);
        }
    }

    /// Work has ended.
    pub fn end(&self) {
        let mut state = self.lock();
        let unshown = state.unshown;
        if unshown || state.work(self.of).is_some_and(|work| work.meter.is_some()) {
            // What it came to is kept with the attempt.
            self.show(&mut state);
        }
        let of = self.of;
        state
            .works
            .retain(|work| of.is_some_and(|key| work.key != key));
        self.show(&mut state);
    }

    /// Barcode of what is in the drive, as it was shown last.
    pub fn barcode(&self) -> String {
        self.lock().drive.barcode.clone()
    }

    /// A command does not come back, or has come back.
    pub fn hung(&self, command: Option<&Command>) {
        let mut state = self.lock();
        state.works.clear();
        state.drive.hung_since = command.map(|command| command.since.into());
        state.drive.hung_command =
            command.map_or_else(String::new, |command| command.name().to_owned());
        self.show(&mut state);
    }

    /// What is in the drive.
    pub fn medium(&self, medium: Medium) {
        let mut state = self.lock();
        if state.drive.medium() == medium {
            return;
        }
        state.drive.medium = medium.into();
        if medium == Medium::Empty {
            state.drive.barcode.clear();
        }
        self.show(&mut state);
    }
}
