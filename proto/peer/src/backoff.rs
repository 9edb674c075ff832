//! How long to wait before the next try: doubling, with jitter, so that agents which lost the same controller do
//! not come back in one wave.

use std::time::Duration;

use rand::Rng as _;

/// Waiting times between two bounds.
#[derive(Debug, Clone)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    current: Duration,
}

impl Backoff {
    /// The first wait is around `min`, none is longer than `max`.
    pub fn new(min: Duration, max: Duration) -> Self {
        Self {
            min,
            max: max.max(min),
            current: min,
        }
    }

    /// How long to wait now: between half and all of a time that doubles with each call.
    #[allow(clippy::should_implement_trait)] // an endless iterator would hand out options
    pub fn next(&mut self) -> Duration {
        let wait = self.current.mul_f64(rand::rng().random_range(0.5..=1.0));
        self.current = self.current.saturating_mul(2).min(self.max);
        wait
    }

    /// After a success: begin with the shortest wait again.
    pub fn reset(&mut self) {
        self.current = self.min;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, missing_docs)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_within_their_bounds() {
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(5));
        let mut backoff = Backoff::new(min, max);
        for round in 0..100_u32 {
            let top = max.min(min * 2_u32.pow(round.min(10)));
            let wait = backoff.next();
            assert!(wait >= top / 2 && wait <= top, "{round}: {wait:?}");
        }
        backoff.reset();
        assert!(backoff.next() <= min);
    }
}
