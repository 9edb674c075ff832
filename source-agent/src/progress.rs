//! How far a job is: counters that its threads add to, and the observations made from them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use taf_peer::session::Session;
use taf_proto::agent::{AssignmentKey, Observation, observation::Seen};
use taf_proto::{path, v1};

/// Observations are made this often.
const EVERY: Duration = Duration::from_millis(250);
/// The speed is that of this many observations.
const SAMPLES: usize = 12;

/// Counters of one job. Numbers only grow.
#[derive(Debug, Default)]
pub struct Counters {
    /// Files, further names included.
    pub files: AtomicU64,
    /// Directories.
    pub directories: AtomicU64,
    /// Apparent bytes read or written.
    pub bytes: AtomicU64,
    /// Bytes of segments sent or taken.
    pub stored: AtomicU64,
    /// Entries that were there and were kept, as the collision says.
    pub kept: AtomicU64,
    /// Issues.
    pub issues: AtomicU64,
    /// Issues by reason, also those that are only summed up.
    reasons: Mutex<BTreeMap<String, u64>>,
    now: Mutex<Now>,
}

#[derive(Debug, Default, Clone)]
struct Now {
    phase: &'static str,
    path: Vec<u8>,
}

impl Counters {
    /// Adds to one of the counters.
    pub fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Relaxed);
    }

    /// Reads one of the counters.
    pub fn get(counter: &AtomicU64) -> u64 {
        counter.load(Relaxed)
    }

    /// Counts issues of a reason.
    pub fn reason(&self, reason: &str, count: u64) {
        let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        *reasons.entry(reason.to_owned()).or_default() += count;
    }

    /// Issues by reason.
    pub fn reasons(&self) -> Vec<v1::IssueCount> {
        let reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |(reason, count): (&String, &u64)| v1::IssueCount {
            reason: reason.clone(),
            count: *count,
        };
        reasons.iter().map(count).collect()
    }

    /// What the job does now.
    pub fn phase(&self, phase: &'static str) {
        self.now
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .phase = phase;
    }

    /// What is being read or written: a raw path, relative to the root or to a restore's target.
    pub fn path(&self, path: &[u8]) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        now.path.clear();
        now.path.extend_from_slice(path);
    }

    /// Everything, as the API has it. `above` is what the paths are relative to.
    pub fn snapshot(&self, above: &[u8]) -> v1::Progress {
        let now = self
            .now
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        v1::Progress {
            phase: now.phase.to_owned(),
            file_count: Self::get(&self.files),
            directory_count: Self::get(&self.directories),
            byte_count: Self::get(&self.bytes),
            stored_byte_count: Self::get(&self.stored),
            issue_count: Self::get(&self.issues),
            kept_count: Self::get(&self.kept),
            current_path: (!now.path.is_empty())
                .then(|| path::from_raw(absolute(above, &now.path))),
            ..v1::Progress::default()
        }
    }
}

/// A raw relative path below an absolute one.
pub fn absolute(above: &[u8], path: &[u8]) -> Vec<u8> {
    let mut whole = above.to_vec();
    while whole.last() == Some(&b'/') {
        whole.pop();
    }
    whole.push(b'/');
    whole.extend_from_slice(path);
    whole
}

/// Tells the controller how far the job is, until it is dropped. `known` are the numbers that do not change.
pub async fn observe(
    session: &Session,
    key: AssignmentKey,
    counters: &Counters,
    above: &[u8],
    known: v1::Progress,
) {
    let mut samples: VecDeque<(Instant, u64)> = VecDeque::with_capacity(SAMPLES + 1);
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut said = v1::Progress::default();
    loop {
        tick.tick().await;
        let mut progress = counters.snapshot(above);
        progress.estimated_file_count = known.estimated_file_count;
        progress.estimated_byte_count = known.estimated_byte_count;
        samples.push_back((Instant::now(), progress.byte_count));
        if samples.len() > SAMPLES {
            samples.pop_front();
        }
        progress.bytes_per_second = speed(&samples);
        if progress != said {
            said = progress.clone();
            session.observe(Observation {
                key: Some(key),
                seen: Some(Seen::Progress(progress)),
            });
        }
    }
}

fn speed(samples: &VecDeque<(Instant, u64)>) -> u64 {
    match (samples.front(), samples.back()) {
        (Some((begin, first)), Some((end, last))) if end > begin => {
            ((last - first) as f64 / (*end - *begin).as_secs_f64()) as u64
        }
        _ => 0,
    }
}
