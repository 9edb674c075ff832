//! How much of its life a cartridge has behind it.
//!
//! Three clocks run: full passes of the whole tape (260 by a maker's manual), loads (20,000), and mounts for work (a large
//! archive copies its tapes at 2,000). The one that is furthest counts; from 80 % on it is said.

/// Passes of the whole tape that a cartridge is good for.
pub const FULL_PASSES: u64 = 260;
/// Loads that a cartridge is good for.
pub const LOADS: u64 = 20_000;
/// Mounts after which data should move.
pub const MOUNTS: u64 = 2_000;
/// From this share of a limit on it is said.
pub const WARN_PERCENT: u64 = 80;

/// What the cartridge's memory says of its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Life {
    /// Bytes written and read over the whole life.
    pub moved_bytes: Option<u64>,
    /// Native capacity.
    pub native_bytes: Option<u64>,
    /// Loads.
    pub loads: Option<u64>,
    /// Mounts that drives counted.
    pub mounts: Option<u64>,
}

/// The clock that is furthest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wear {
    /// Share of the limit, percent; over 100 it is beyond.
    pub percent: u64,
    /// Which clock, in words.
    pub of: String,
}

impl Wear {
    /// Whether it is to be said.
    pub fn worth_saying(&self) -> bool {
        self.percent >= WARN_PERCENT
    }
}

/// The clock that is furthest; `None` if nothing is known.
pub fn wear(life: &Life) -> Option<Wear> {
    let passes = match (life.moved_bytes, life.native_bytes) {
        (Some(moved), Some(native)) if native > 0 => Some(moved / native),
        _ => None,
    };
    [
        (passes, FULL_PASSES, "full passes"),
        (life.loads, LOADS, "loads"),
        (life.mounts, MOUNTS, "mounts"),
    ]
    .into_iter()
    .filter_map(|(count, limit, what)| {
        let count = count?;
        Some(Wear {
            percent: count.saturating_mul(100) / limit,
            of: format!("{count} of {limit} {what}"),
        })
    })
    .max_by_key(|wear| wear.percent)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_furthest_clock_counts() {
        let life = Life {
            moved_bytes: Some(130 * 12_000_000_000_000),
            native_bytes: Some(12_000_000_000_000),
            loads: Some(100),
            mounts: Some(1_600),
        };
        let found = wear(&life).unwrap();
        assert_eq!(
            (found.percent, found.of.as_str()),
            (80, "1600 of 2000 mounts")
        );
        assert!(found.worth_saying());
        let passes = wear(&Life {
            mounts: None,
            ..life
        })
        .unwrap();
        assert_eq!(passes.of, "130 of 260 full passes");
        assert!(!passes.worth_saying());
    }

    #[test]
    fn what_is_unknown_is_not_zero() {
        assert_eq!(wear(&Life::default()), None);
        let blank = Life {
            moved_bytes: Some(1),
            native_bytes: Some(0),
            ..Life::default()
        };
        assert_eq!(wear(&blank), None);
    }
}
