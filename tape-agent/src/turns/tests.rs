//! Sources, rings, gates and one drive in simulated time.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;
use crate::ring::gate::{Gate, Level, Terms, Word};

const MB: u64 = 1_000_000;
const SEGMENT: u64 = 4 * MB;
const STEP: Duration = Duration::from_millis(20);

/// A source with its ring and gate.
struct Source {
    gate: Gate,
    /// Bytes a second, by the second.
    pace: Box<dyn FnMut(u64) -> u64>,
    capacity: u64,
    coming: u64,
    held: u64,
    crowded: bool,
    /// Bytes that it has yet to give.
    rest: u64,
    /// Bytes of the part that is open.
    open: u64,
    parts: Vec<u64>,
    asked_at: Option<Duration>,
    longest_wait: Duration,
    /// Parts of others since it asked.
    passed: u64,
    most_passed: u64,
}

struct Bench {
    turns: Turns,
    sources: Vec<Source>,
    part: u64,
    rate: u64,
    now: Duration,
    budget: u64,
    /// Steps in which somebody had the turn and nothing to give while another one waited.
    held_up: Duration,
    busy: Duration,
}

impl Bench {
    fn new(part: u64, rate: u64) -> Bench {
        Bench {
            turns: Turns::default(),
            sources: Vec::new(),
            part,
            rate,
            now: Duration::ZERO,
            budget: 0,
            held_up: Duration::ZERO,
            busy: Duration::ZERO,
        }
    }

    fn add(
        &mut self,
        floor: u64,
        capacity: u64,
        total: u64,
        pace: impl FnMut(u64) -> u64 + 'static,
    ) {
        let terms = Terms {
            floor,
            wait: Duration::from_mins(10),
        };
        self.turns.sit(self.sources.len() as u64);
        self.sources.push(Source {
            gate: Gate::new(terms),
            pace: Box::new(pace),
            capacity,
            coming: 0,
            held: 0,
            crowded: false,
            rest: total,
            open: 0,
            parts: Vec::new(),
            asked_at: None,
            longest_wait: Duration::ZERO,
            passed: 0,
            most_passed: 0,
        });
    }

    fn level(&self, seat: usize) -> Level {
        let source = &self.sources[seat];
        Level {
            available: source.held,
            held: source.held,
            capacity: source.capacity,
            crowded: source.crowded,
            ended: source.rest == 0,
            company: self.turns.company(seat as u64),
        }
    }

    fn begin(&mut self) {
        for seat in 0..self.sources.len() {
            let level = self.level(seat);
            self.sources[seat]
                .gate
                .part_begins(self.now, self.part, level);
        }
    }

    /// Until every source is done.
    fn run(&mut self, limit: Duration) {
        self.begin();
        while self
            .sources
            .iter()
            .any(|s| s.rest > 0 || s.held > 0 || s.open > 0)
        {
            self.now += STEP;
            assert!(self.now < limit, "not done after {limit:?}");
            for source in &mut self.sources {
                source.come(self.now);
            }
            self.drive();
        }
    }

    fn drive(&mut self) {
        self.budget = (self.budget + self.rate * STEP.as_millis() as u64 / 1000).min(2 * SEGMENT);
        for seat in 0..self.sources.len() {
            if self.turns.holder != Some(seat as u64) {
                self.wait(seat);
            }
        }
        let Some(holder) = self.turns.holder else {
            return;
        };
        let seat = holder as usize;
        let before = self.budget;
        while self.budget >= SEGMENT && self.turns.holder == Some(holder) {
            let level = self.level(seat);
            match self.sources[seat].gate.word(self.now, level) {
                Word::Take if level.available == 0 => self.end_part(seat),
                Word::Take => {
                    let source = &mut self.sources[seat];
                    let bytes = SEGMENT.min(source.held);
                    source.held -= bytes;
                    source.crowded = false;
                    source.open += bytes;
                    self.budget -= SEGMENT;
                    let ended = source.rest == 0 && source.held == 0;
                    if source.open >= self.part || ended {
                        self.end_part(seat);
                    }
                }
                Word::Yield => self.end_part(seat),
                Word::Starved => {}
                Word::Wait => break,
            }
        }
        if self.budget < before || self.budget < SEGMENT {
            self.busy += STEP;
        } else if self.turns.company(holder) == Company::Awaited {
            self.held_up += STEP;
        }
    }

    /// One that has no turn: asks if its gate lets it, and takes the turn if it is its.
    fn wait(&mut self, seat: usize) {
        let level = self.level(seat);
        let now = self.now;
        if self.sources[seat].asked_at.is_none() {
            if level.available == 0 || self.sources[seat].gate.word(now, level) != Word::Take {
                return;
            }
            self.sources[seat].asked_at = Some(now);
            self.sources[seat].passed = 0;
            self.turns.ask(seat as u64);
        }
        if self.turns.take(seat as u64) {
            let source = &mut self.sources[seat];
            let waited = now.saturating_sub(source.asked_at.take().unwrap());
            source.longest_wait = source.longest_wait.max(waited);
            source.most_passed = source.most_passed.max(source.passed);
        }
    }

    fn end_part(&mut self, seat: usize) {
        let bytes = std::mem::take(&mut self.sources[seat].open);
        if bytes > 0 {
            self.sources[seat].parts.push(bytes);
        }
        self.turns.done(seat as u64);
        for (other, source) in self.sources.iter_mut().enumerate() {
            source.passed += u64::from(other != seat);
        }
        let level = self.level(seat);
        self.sources[seat]
            .gate
            .part_begins(self.now, self.part, level);
    }
}

impl Source {
    fn come(&mut self, now: Duration) {
        let rate = (self.pace)(now.as_secs());
        self.coming = (self.coming + rate * STEP.as_millis() as u64 / 1000).min(8 * SEGMENT);
        loop {
            let next = SEGMENT.min(self.rest);
            if next == 0 || self.coming < next {
                return;
            }
            self.crowded = self.held + next > self.capacity;
            if self.crowded {
                return;
            }
            self.coming -= next;
            self.rest -= next;
            self.held += next;
            self.gate.arrived(now, next);
        }
    }
}

#[test]
fn who_asked_first_is_next_and_a_turn_is_one_part() {
    let mut turns = Turns::default();
    for seat in [1, 2, 3] {
        turns.sit(seat);
    }
    assert_eq!(turns.company(1), Company::Others);
    turns.ask(2);
    turns.ask(1);
    turns.ask(2);
    assert!(!turns.take(1) && turns.take(2));
    assert_eq!(turns.company(2), Company::Awaited);
    assert_eq!(turns.company(3), Company::Others);
    turns.ask(3);
    turns.done(2);
    turns.ask(2);
    assert!(!turns.take(2) && !turns.take(3) && turns.take(1));
    // Who leaves gives up both.
    turns.rise(3);
    turns.rise(1);
    assert!(turns.take(2));
    assert_eq!(turns.company(2), Company::Alone);
    // Not one that has no seat.
    turns.ask(9);
    turns.done(2);
    assert!(!turns.take(9));
}

#[test]
fn a_crawling_source_never_holds_up_a_fast_one() {
    for floor in [0, 100 * MB] {
        // The one has a spool as large as a part, the other only a ring; the third is fast.
        let mut bench = Bench::new(800 * MB, 400 * MB);
        bench.add(floor, 1000 * MB, 4_000 * MB, |_| 10 * MB);
        bench.add(floor, 200 * MB, 4_000 * MB, |_| 10 * MB);
        bench.add(floor, 200 * MB, 100_000 * MB, |_| 390 * MB);
        bench.run(Duration::from_hours(2));
        let [spooled, small, fast] = &bench.sources[..] else {
            panic!()
        };
        // Whole parts come out of the spool, ringfuls of the small ring.
        assert!(spooled.parts.len() <= 6, "{floor}: {:?}", spooled.parts);
        assert!(small.parts.len() <= 30, "{floor}: {:?}", small.parts);
        assert!(fast.parts.len() <= 160, "{floor}: {}", fast.parts.len());
        let total: u64 = bench.sources.iter().flat_map(|s| &s.parts).sum();
        assert_eq!(total, 108_000 * MB);
        assert!(
            bench.held_up < Duration::from_secs(20),
            "{floor}: {:?}",
            bench.held_up
        );
        assert!(
            fast.longest_wait < Duration::from_secs(6),
            "{floor}: {:?}",
            fast.longest_wait
        );
    }
}

#[test]
fn a_drive_that_is_faster_than_all_sources_together_slows_none_down() {
    let mut bench = Bench::new(400 * MB, 300 * MB);
    for _ in 0..3 {
        bench.add(0, 300 * MB, 6_000 * MB, |_| 80 * MB);
    }
    bench.run(Duration::from_mins(10));
    // 240 MB/s come: the drive is the faster one, and nobody is slowed down.
    assert!(bench.now < Duration::from_secs(85), "{:?}", bench.now);
}

#[test]
fn whatever_the_sources_do_each_ready_one_has_its_turn_and_all_come_to_their_end() {
    let rounds = std::env::var("TAF_TURNS_ROUNDS").ok();
    let rounds: u64 = rounds.and_then(|n| n.parse().ok()).unwrap_or(20);
    for seed in 0..rounds {
        println!("seed {seed}");
        let mut dice = StdRng::seed_from_u64(seed);
        let floor = *[0, 50 * MB, 150 * MB].get(dice.random_range(0..3)).unwrap();
        let part = dice.random_range(20..800) * MB;
        let mut bench = Bench::new(part, 400 * MB);
        let count = dice.random_range(2..6);
        for _ in 0..count {
            let capacity = dice.random_range(10..1000) * MB;
            let total = dice.random_range(1..3_000) * MB;
            let mut own = StdRng::seed_from_u64(dice.random());
            let mut pace = (0, 0);
            bench.add(floor, capacity, total, move |second| {
                if second / 5 != pace.0 || pace.1 == 0 && second == 0 {
                    let rates = [0, 1, 20, 100, 500];
                    pace = (second / 5, rates[own.random_range(0..rates.len())] * MB);
                }
                pace.1
            });
        }
        bench.run(Duration::from_hours(12));
        let others = count as u64 - 1;
        for source in &bench.sources {
            // Each other one at most once before it, and the one that was writing.
            assert!(source.most_passed <= others, "{}", source.most_passed);
        }
    }
}
