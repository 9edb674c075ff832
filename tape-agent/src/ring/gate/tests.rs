#![allow(clippy::unwrap_used)]
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;

const MB: u64 = 1_000_000;
const FLOOR: u64 = 100 * MB;
/// What a drive writes in a second.
const RATE: u64 = 400 * MB;
const SEGMENT: u64 = 4 * MB;

/// A ring as bytes, a source and a drive, in steps of 10 ms.
struct Bench {
    gate: Gate,
    now: Duration,
    capacity: u64,
    held: u64,
    /// Bytes that the source has ready.
    coming: u64,
    crowded: bool,
    ended: bool,
    /// What the drive has time for.
    budget: u64,
    taken: u64,
    starved: Vec<Duration>,
    opened: Vec<(Duration, u64)>,
}

impl Bench {
    fn new(capacity: u64, wait: Duration) -> Bench {
        let mut gate = Gate::new(Terms { floor: FLOOR, wait });
        gate.part_begins(Duration::ZERO, u64::MAX, Level::default());
        Bench {
            gate,
            now: Duration::ZERO,
            capacity,
            held: 0,
            coming: 0,
            crowded: false,
            ended: false,
            budget: 0,
            taken: 0,
            starved: Vec::new(),
            opened: Vec::new(),
        }
    }

    fn level(&self) -> Level {
        Level {
            available: self.held,
            held: self.held,
            capacity: self.capacity,
            crowded: self.crowded,
            ended: self.ended,
            company: Company::Alone,
        }
    }

    /// The source gives so many bytes a second for so long.
    fn source(&mut self, rate: u64, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += Duration::from_millis(10);
            self.coming += rate / 100;
            while self.coming >= SEGMENT {
                self.crowded = self.held > 0 && self.held + SEGMENT > self.capacity;
                if self.crowded {
                    // It waits; what it would have given meanwhile is not there later.
                    self.coming = SEGMENT;
                    break;
                }
                self.coming -= SEGMENT;
                self.held += SEGMENT;
                self.gate.arrived(self.now, SEGMENT);
            }
            self.drive();
        }
    }

    fn drive(&mut self) {
        self.budget = (self.budget + RATE / 100).min(2 * SEGMENT);
        loop {
            let shut = self.gate.is_shut();
            match self.gate.word(self.now, self.level()) {
                Word::Take if self.held == 0 => break,
                Word::Take => {
                    if shut {
                        self.opened.push((self.now, self.held));
                    }
                    if self.budget < SEGMENT {
                        break;
                    }
                    self.budget -= SEGMENT;
                    self.held -= SEGMENT;
                    self.taken += SEGMENT;
                    self.crowded = false;
                }
                Word::Wait => break,
                Word::Starved => self.starved.push(self.now),
                Word::Yield => panic!("nobody waits for the drive"),
            }
        }
    }
}

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);

#[test]
fn a_source_that_outruns_the_floor_starts_the_drive_in_seconds_and_never_stops_it() {
    for rate in [150, 300, 900] {
        let mut bench = Bench::new(2000 * MB, HOUR);
        bench.source(rate * MB, 60 * SECOND);
        assert!(bench.starved.is_empty(), "{rate}: {:?}", bench.starved);
        assert_eq!(bench.opened.len(), 1, "{rate}");
        assert!(bench.opened[0].0 < 4 * SECOND, "{:?}", bench.opened);
        assert!(bench.taken > 50 * rate.min(400) * MB);
    }
}

#[test]
fn a_slow_source_is_collected_until_the_ring_is_full_and_costs_one_stop_for_each() {
    let mut bench = Bench::new(2000 * MB, HOUR);
    bench.source(40 * MB, 600 * SECOND);
    let fills = bench.taken / 1750 / MB;
    assert!(fills >= 10, "{fills}");
    assert!(bench.starved.len() as u64 <= fills, "{:?}", bench.starved);
    assert!(bench.opened.iter().all(|(_, held)| *held >= 1740 * MB));
    let (count, still) = bench.gate.starved(bench.now);
    assert_eq!(count, bench.starved.len() as u64);
    assert!(still > 300 * SECOND && still < 600 * SECOND, "{still:?}");
}

#[test]
fn bursts_are_seen_through() {
    // Twice the floor on the average, but never for longer than it takes to start the drive.
    let mut bench = Bench::new(60_000 * MB, HOUR);
    for _ in 0..120 {
        bench.source(600 * MB, 4 * SECOND);
        bench.source(0, 8 * SECOND);
    }
    assert!(bench.starved.len() <= 6, "{:?}", bench.starved);
    assert!(bench.taken > 100_000 * MB, "and what came was written");
}

#[test]
fn the_first_byte_waits_no_longer_than_it_may() {
    let wait = Duration::from_mins(5);
    let mut bench = Bench::new(2000 * MB, wait);
    bench.source(0, 1000 * SECOND);
    bench.source(MB, 1000 * SECOND);
    let first = bench.opened[0].0;
    // Its first segment has come after four seconds.
    assert!(first >= 1004 * SECOND + wait && first < 1005 * SECOND + wait);
    assert_eq!(bench.starved.len(), 3);
}

#[test]
fn a_complete_part_and_the_end_of_the_archive_start_the_drive() {
    let mut bench = Bench::new(20_000 * MB, HOUR);
    bench.gate.part_needs(1000 * MB);
    bench.source(50 * MB, 21 * SECOND);
    assert_eq!(bench.opened.len(), 1);
    assert!(bench.opened[0].1 >= 1000 * MB && bench.opened[0].1 < 1010 * MB);
    // The part ends, and the source is as slow as it was.
    let level = bench.level();
    bench.gate.part_begins(bench.now, 1000 * MB, level);
    bench.source(50 * MB, 10 * SECOND);
    assert!(bench.gate.is_shut());
    bench.ended = true;
    bench.source(0, 5 * SECOND);
    assert_eq!(bench.held, 0);
    // An archive without anything ends all the same.
    let mut bench = Bench::new(20_000 * MB, HOUR);
    bench.ended = true;
    assert_eq!(bench.gate.word(SECOND, bench.level()), Word::Take);
}

#[test]
fn a_source_that_keeps_up_is_not_held_up_between_parts() {
    let mut bench = Bench::new(2000 * MB, HOUR);
    bench.source(200 * MB, 10 * SECOND);
    let level = bench.level();
    bench.gate.part_begins(bench.now, 64_000 * MB, level);
    assert!(!bench.gate.is_shut());
}

#[test]
fn a_drive_without_a_floor_never_waits_and_has_starved_after_seconds() {
    let mut bench = Bench::new(2000 * MB, HOUR);
    bench.gate.set_floor(0);
    bench
        .gate
        .part_begins(Duration::ZERO, u64::MAX, Level::default());
    bench.source(MB, 20 * SECOND);
    assert_eq!((bench.starved.len(), bench.held), (0, 0));
    bench.source(0, 20 * SECOND);
    assert_eq!(bench.starved.len(), 1);
    bench.source(MB, 20 * SECOND);
    assert_eq!((bench.starved.len(), bench.held), (1, 0));
}

/// Whatever the sizes and whatever the source does, all of it is taken when it has ended, and a full ring never waits.
#[test]
fn nobody_waits_for_ever() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut dice = StdRng::seed_from_u64(seed);
    for _ in 0..30 {
        // Also less than a segment.
        let capacity = dice.random_range(1..=300) * MB;
        let mut bench = Bench::new(capacity, HOUR);
        for _ in 0..20 {
            if dice.random_ratio(1, 3) {
                let (need, level) = (dice.random_range(1..=1000) * MB, bench.level());
                bench.gate.part_begins(bench.now, need, level);
            }
            let rate = *[0, 1, 50, 110, 500, 2000]
                .get(dice.random_range(0..6))
                .unwrap()
                * MB;
            bench.source(rate, SECOND * dice.random_range(1..10));
            assert!(
                !(bench.crowded && bench.gate.is_shut()),
                "a full ring waits"
            );
        }
        bench.ended = true;
        bench.source(0, 10 * SECOND);
        assert_eq!(bench.held, 0);
    }
}
