//! What the worker shows of a drive while it works.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use taf_drive::watch::Command;
use taf_peer::session::Session;
use taf_proto::agent::{
    AssignmentKey, DriveObservation, Observation, drive_observation::Medium, observation::Seen,
};
use taf_proto::v1::DriveFlow;

use crate::ring::Meter;

/// A rate is over so long.
const WINDOW: Duration = Duration::from_secs(3);
/// It is shown at most this often while bytes flow.
const SHOW_EVERY: Duration = Duration::from_millis(250);

/// The state of a drive as it is shown. Cheap to clone.
#[derive(Clone)]
pub struct Gauge {
    session: Session,
    state: Arc<Mutex<State>>,
}

struct State {
    key: Option<AssignmentKey>,
    shown: DriveObservation,
    flowed: VecDeque<(Instant, u64)>,
    last: Instant,
    /// What shows the ring that is being written.
    meter: Option<Meter>,
    /// Bytes have flowed that were not shown yet.
    unshown: bool,
    /// The attempt that the bytes are of: they go on counting through its steps.
    attempt: u64,
    /// Bytes received and committed in it.
    counted: (u64, u64),
}

impl State {
    /// Bytes a second over the window.
    fn rate(&mut self, now: Instant) -> u64 {
        while self
            .flowed
            .front()
            .is_some_and(|(at, _)| now - *at > WINDOW)
        {
            self.flowed.pop_front();
        }
        let total = self.shown.received_byte_count;
        self.flowed.front().map_or(0, |(at, before)| {
            let seconds = (now - *at).as_secs_f64().max(0.001);
            ((total - before) as f64 / seconds) as u64
        })
    }

    /// How full the ring is, and how the drive fares.
    fn flow(&self) -> Option<DriveFlow> {
        let mut flow = self.meter.as_ref()?.read();
        flow.bytes_per_second = self.shown.bytes_per_second;
        Some(flow)
    }
}

impl Gauge {
    /// Shows nothing yet.
    pub fn new(session: Session) -> Gauge {
        Gauge {
            session,
            state: Arc::new(Mutex::new(State {
                key: None,
                shown: DriveObservation {
                    phase: "idle".to_owned(),
                    ..DriveObservation::default()
                },
                flowed: VecDeque::new(),
                last: Instant::now(),
                meter: None,
                unshown: false,
                attempt: 0,
                counted: (0, 0),
            })),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Plain values, whole after every statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, state: &mut State) {
        state.last = Instant::now();
        state.unshown = false;
        state.shown.flow = state.flow();
        let mut shown = state.shown.clone();
        // The drive stands ready for what is being collected.
        if shown.phase == "writing" && shown.flow.as_ref().is_some_and(|flow| flow.collecting) {
            "collecting".clone_into(&mut shown.phase);
        }
        self.session.observe(Observation {
            key: state.key,
            seen: Some(Seen::Drive(shown)),
        });
    }

    /// Work begins.
    pub fn begin(&self, key: AssignmentKey, barcode: &str, phase: &str) {
        let mut state = self.lock();
        state.key = Some(key);
        state.flowed.clear();
        if state.attempt != key.attempt {
            state.attempt = key.attempt;
            state.counted = (0, 0);
        }
        state.shown = DriveObservation {
            medium: state.shown.medium,
            barcode: barcode.to_owned(),
            phase: phase.to_owned(),
            received_byte_count: state.counted.0,
            committed_byte_count: state.counted.1,
            ..DriveObservation::default()
        };
        self.show(&mut state);
    }

    /// It does something else now.
    pub fn phase(&self, phase: &str) {
        let mut state = self.lock();
        if state.shown.phase != phase {
            phase.clone_into(&mut state.shown.phase);
            self.show(&mut state);
        }
    }

    /// Bytes went to or came from the drive.
    pub fn flowed(&self, bytes: u64) {
        let mut state = self.lock();
        let now = Instant::now();
        state.shown.received_byte_count += bytes;
        state.counted.0 += bytes;
        let total = state.shown.received_byte_count;
        state.flowed.push_back((now, total));
        state.unshown = true;
        if now - state.last < SHOW_EVERY {
            return;
        }
        state.shown.bytes_per_second = state.rate(now);
        self.show(&mut state);
    }

    /// Call it about each second while there is work: shows the last bytes before a pause, and that none flow in it.
    pub fn refresh(&self) {
        let mut state = self.lock();
        let rate = state.rate(Instant::now());
        let differs = rate != state.shown.bytes_per_second || state.flow() != state.shown.flow;
        if state.key.is_some() && (state.unshown || differs) {
            state.shown.bytes_per_second = rate;
            self.show(&mut state);
        }
    }

    /// Bytes are in committed parts.
    pub fn committed(&self, bytes: u64) {
        let mut state = self.lock();
        state.shown.committed_byte_count += bytes;
        state.counted.1 += bytes;
        self.show(&mut state);
    }

    /// From now on the state of this ring is shown, until the work ends.
    pub fn watch(&self, meter: Meter) {
        self.lock().meter = Some(meter);
    }

    /// Work has ended.
    pub fn end(&self) {
        let mut state = self.lock();
        if state.meter.is_some() || state.unshown {
            // What it came to is kept with the attempt.
            self.show(&mut state);
        }
        state.meter = None;
        state.key = None;
        state.flowed.clear();
        state.shown = DriveObservation {
            medium: state.shown.medium,
            barcode: state.shown.barcode.clone(),
            phase: "idle".to_owned(),
            ..DriveObservation::default()
        };
        self.show(&mut state);
    }

    /// Barcode of what is in the drive, as it was shown last.
    pub fn barcode(&self) -> String {
        self.lock().shown.barcode.clone()
    }

    /// A command does not come back, or has come back.
    pub fn hung(&self, command: Option<&Command>) {
        let mut state = self.lock();
        state.key = None;
        state.flowed.clear();
        state.meter = None;
        state.shown = DriveObservation {
            medium: state.shown.medium,
            barcode: state.shown.barcode.clone(),
            phase: if command.is_some() { "hung" } else { "idle" }.to_owned(),
            hung_since: command.map(|command| command.since.into()),
            hung_command: command.map_or_else(String::new, |command| command.name().to_owned()),
            ..DriveObservation::default()
        };
        self.show(&mut state);
    }

    /// What is in the drive.
    pub fn medium(&self, medium: Medium) {
        let mut state = self.lock();
        if state.shown.medium() == medium {
            return;
        }
        state.shown.medium = medium.into();
        if medium == Medium::Empty {
            state.shown.barcode.clear();
        }
        self.show(&mut state);
    }
}
