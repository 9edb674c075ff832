//! The predecessor's score, from the same values by the same rule, so that numbers that people wrote down stay comparable.
//!
//! One thing is not kept: it gave 100 to a drive that told nothing.

/// Page 30h, tape usage: what the cartridge remembers of its whole life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Reads that were done again.
    pub read_retries: u64,
    /// Writes that were done again.
    pub write_retries: u64,
    /// Reads that were lost.
    pub unrecovered_reads: u64,
    /// Writes that were lost.
    pub unrecovered_writes: u64,
    /// Reads that stopped and went back.
    pub suspended_reads: u64,
    /// Writes that stopped and went back.
    pub suspended_writes: u64,
    /// Reads that stopped for good.
    pub fatal_suspended_reads: u64,
    /// Writes that stopped for good.
    pub fatal_suspended_writes: u64,
}

/// 100 − 10 × fatal suspends − 5 × unrecovered errors − 2 × suspends − retries (at most 10), within 0 and 100.
pub fn score(usage: &Usage) -> u8 {
    let both = |one: u64, other: u64, weight: u64| one.saturating_add(other).saturating_mul(weight);
    let lost = both(
        usage.fatal_suspended_reads,
        usage.fatal_suspended_writes,
        10,
    )
    .saturating_add(both(usage.unrecovered_reads, usage.unrecovered_writes, 5))
    .saturating_add(both(usage.suspended_reads, usage.suspended_writes, 2))
    .saturating_add(both(usage.read_retries, usage.write_retries, 1).min(10));
    100 - lost.min(100) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_manual_scores_as_it_did() {
        // 4 write retries and 4 suspended writes.
        let usage = Usage {
            write_retries: 4,
            suspended_writes: 4,
            ..Usage::default()
        };
        assert_eq!(score(&usage), 88);
        assert_eq!(score(&Usage::default()), 100);
    }

    #[test]
    fn each_kind_has_its_weight_and_nothing_passes_the_limits() {
        let worst = Usage {
            read_retries: u64::MAX,
            write_retries: u64::MAX,
            unrecovered_reads: u64::MAX,
            ..Usage::default()
        };
        assert_eq!(score(&worst), 0);
        let retries = Usage {
            read_retries: 1_000,
            ..Usage::default()
        };
        assert_eq!(score(&retries), 90);
        let one = Usage {
            fatal_suspended_reads: 1,
            unrecovered_writes: 1,
            suspended_reads: 1,
            ..Usage::default()
        };
        assert_eq!(score(&one), 83);
    }
}
