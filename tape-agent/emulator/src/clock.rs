//! What time it is for a drive: the host's, or one that passes only by what the drive does.
//!
//! With simulated time a drive of 400 MB/s that takes four seconds to stop and go back is exercised in
//! milliseconds: waiting adds to the clock and returns at once. What happens outside the drive, such as a source
//! that stalls, is told with [`Clock::advance`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// A clock; clones are the same one.
#[derive(Debug, Clone, Default)]
pub enum Clock {
    /// The host's.
    #[default]
    Real,
    /// Nanoseconds that have passed.
    Simulated(Arc<AtomicU64>),
}

impl Clock {
    /// Time that passes only by waiting and by [`Self::advance`].
    pub fn simulated() -> Self {
        Self::Simulated(Arc::default())
    }

    /// Time since some moment that stays the same.
    pub fn now(&self) -> Duration {
        static START: OnceLock<Instant> = OnceLock::new();
        match self {
            Self::Real => START.get_or_init(Instant::now).elapsed(),
            Self::Simulated(passed) => Duration::from_nanos(passed.load(Ordering::SeqCst)),
        }
    }

    /// Lets so much time pass.
    pub fn wait(&self, time: Duration) {
        match self {
            Self::Real => std::thread::sleep(time),
            Self::Simulated(_) => self.advance(time),
        }
    }

    /// Says that so much simulated time has passed; real time passes by itself.
    pub fn advance(&self, time: Duration) {
        if let Self::Simulated(passed) = self {
            let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            passed.fetch_add(nanos, Ordering::SeqCst);
        }
    }
}
