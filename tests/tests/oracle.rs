//! The catalog's rules against an oracle that knows nothing of them: random trees, runs, obstacles, failures, expiries and rebuilds
//! are played with the agent's own merger and packer and the controller's pure rules, in memory, and after each step every kept
//! version must show exactly what was there when it was made (docs/model/catalog.py is where the rules come from).
//!
//! Short in CI. The long form: `TAF_ORACLE_SEEDS=2000 TAF_ORACLE_STEPS=300 cargo nextest run --workspace --test oracle`.
//! A failure names its seed; `TAF_ORACLE_SEED=n` plays that one alone.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "oracle/catalog.rs"]
mod catalog;
#[path = "oracle/check.rs"]
mod check;
#[path = "oracle/files.rs"]
mod files;
#[path = "oracle/rebuild.rs"]
mod rebuild;
#[path = "oracle/run.rs"]
mod run;
#[path = "oracle/walk.rs"]
mod walk;

use catalog::Catalog;
use files::Files;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use run::Off;
use taf_core::catalog::Kind;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

/// What happened, so that a test that exercises nothing is noticed.
#[derive(Debug, Default, Clone, Copy)]
struct Played {
    versions: u64,
    resumed: u64,
    unchanged: u64,
    promoted: u64,
    vacuumed: u64,
    released: u64,
    later_chunks: u64,
    /// By their kinds.
    obstacles: [u64; 5],
}

/// The selection of a plan: the second one leaves out what begins so.
fn selects(plan: usize) -> fn(&[u8]) -> bool {
    if plan == 0 {
        |_| true
    } else {
        |key| !matches!(key.first(), Some(b'a'..=b'c'))
    }
}

fn play(seed: u64, steps: u64, off: Off) -> Result<Played, String> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut files = Files::new();
    for _ in 0..120 {
        files.change(&mut random);
    }
    let mut lines = [Catalog::new(off), Catalog::new(off)];
    for _ in 0..steps {
        match random.random_range(0..100) {
            0..45 => {
                for _ in 0..random.random_range(1..=8) {
                    files.change(&mut random);
                }
            }
            45..65 => {
                let plan = usize::from(random.random_ratio(1, 3));
                let kinds: &[Kind] = match plan {
                    0 => &[
                        Kind::Full,
                        Kind::Incremental,
                        Kind::Incremental,
                        Kind::Incremental,
                        Kind::Incremental,
                        Kind::Differential,
                        Kind::Differential,
                        Kind::Mirror,
                    ],
                    _ => &[
                        Kind::Full,
                        Kind::Incremental,
                        Kind::Incremental,
                        Kind::Differential,
                    ],
                };
                let kind = kinds[random.random_range(0..kinds.len())];
                let snapshot = files.snapshot(selects(plan));
                lines[plan].begin(kind, &snapshot, files.now, &mut random);
                if random.random_ratio(1, 4) {
                    files.rewrite(&mut random);
                }
                // And once more at once: nothing has changed.
                if random.random_ratio(1, 8) {
                    while lines[plan].is_running() {
                        lines[plan].go_on(false, &mut random);
                    }
                    let snapshot = files.snapshot(selects(plan));
                    lines[plan].begin(Kind::Incremental, &snapshot, files.now, &mut random);
                }
            }
            65..90 => {
                let plan = random.random_range(0..2);
                let fails = random.random_ratio(20, 100);
                lines[plan].go_on(fails, &mut random);
            }
            90..96 => {
                let plan = random.random_range(0..2);
                lines[plan].expire(&mut random);
            }
            _ => {
                for line in &mut lines {
                    line.vacuum();
                    line.release();
                }
            }
        }
        for line in &mut lines {
            line.check()?;
        }
    }
    let mut played = Played::default();
    for line in &mut lines {
        while line.is_running() {
            line.go_on(false, &mut random);
            line.check()?;
        }
        line.vacuum();
        line.release();
        line.check()?;
        rebuild::whole(line)?;
        for _ in 0..3 {
            rebuild::with_one_missing(line, &mut random)?;
        }
        line.count(&mut played);
    }
    Ok(played)
}

/// The same; a panic of what is tried is a failure of its seed.
fn played(seed: u64, steps: u64, off: Off) -> Result<Played, String> {
    std::panic::catch_unwind(|| play(seed, steps, off)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!("a panic: {}", text.unwrap_or("without words")))
    })
}

#[test]
fn every_kept_version_is_what_was_there() {
    let steps = number("TAF_ORACLE_STEPS", 120);
    let seeds = match std::env::var("TAF_ORACLE_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..number("TAF_ORACLE_SEEDS", 50)).collect::<Vec<u64>>(),
    };
    let next = std::sync::atomic::AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let work = || {
            let mut done = Vec::new();
            loop {
                let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                let Some(&seed) = seeds.get(at) else {
                    return done;
                };
                done.push((seed, played(seed, steps, Off::Nothing)));
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let joined = workers.into_iter().flat_map(|w| w.join().unwrap());
        joined.collect()
    });
    let mut sum = Played::default();
    let mut failed = Vec::new();
    for (seed, outcome) in outcomes {
        match outcome {
            Ok(played) => {
                sum.versions += played.versions;
                sum.resumed += played.resumed;
                sum.unchanged += played.unchanged;
                sum.promoted += played.promoted;
                sum.vacuumed += played.vacuumed;
                sum.released += played.released;
                sum.later_chunks += played.later_chunks;
                for (sum, played) in sum.obstacles.iter_mut().zip(played.obstacles) {
                    *sum += played;
                }
            }
            Err(what) => failed.push(format!("seed {seed}: {what}")),
        }
    }
    eprintln!("{} seeds of {steps} steps: {sum:?}", seeds.len());
    assert!(
        failed.is_empty(),
        "{} failed:\n{}",
        failed.len(),
        failed.join("\n")
    );
    if seeds.len() > 1 {
        let counts = [
            sum.versions,
            sum.resumed,
            sum.unchanged,
            sum.promoted,
            sum.vacuumed,
            sum.released,
            sum.later_chunks,
        ];
        assert!(
            counts.iter().chain(&sum.obstacles).all(|count| *count > 0),
            "something never happened: {sum:?}"
        );
    }
}

#[test]
fn whatever_rule_is_switched_off_something_is_lost() {
    let mut harmless = Vec::new();
    for off in [
        Off::Tombstones,
        Off::Head,
        Off::Racy,
        Off::Carry,
        Off::Purge,
        Off::Vacuum,
        Off::Release,
        Off::Needs,
    ] {
        let lost = (0..400).find_map(|seed| Some((seed, played(seed, 120, off).err()?)));
        match lost {
            Some((seed, what)) => eprintln!("without {off:?}: seed {seed}: {what}"),
            None => harmless.push(off),
        }
    }
    assert!(harmless.is_empty(), "nothing is lost without {harmless:?}");
}
