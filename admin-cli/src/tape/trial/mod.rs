//! `taf tape test`: whether a drive, its path and a cartridge do what TAF asks of them.
//!
//! One step after another, each on its own: it begins at the tape's beginning and believes nothing that an earlier one left.
//! A step passes, warns, fails, or says that the device can't do it; nothing is passed over in silence. It writes over the
//! whole tape: who calls has made sure that nothing on it is needed.

mod bench;
mod blocks;
mod data;
mod fill;
mod path;
mod positions;
mod report;
mod shared;
mod speed;
mod state;

use std::time::{Duration, Instant};

use taf_drive::Error as DriveError;

pub use bench::{Bench, Plan};
pub use report::{Outcome, Report, Stepped};
pub use state::generation;

/// What a step came to, if it did not fail.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    outcome: Outcome,
    message: String,
    measured: Vec<(&'static str, serde_json::Value)>,
}

impl Finding {
    fn passed(message: impl Into<String>) -> Self {
        Self {
            outcome: Outcome::Passed,
            message: message.into(),
            measured: Vec::new(),
        }
    }

    fn warned(message: impl Into<String>) -> Self {
        Self {
            outcome: Outcome::Warned,
            ..Self::passed(message)
        }
    }

    fn not_supported(message: impl Into<String>) -> Self {
        Self {
            outcome: Outcome::NotSupported,
            ..Self::passed(message)
        }
    }

    fn skipped(message: impl Into<String>) -> Self {
        Self {
            outcome: Outcome::Skipped,
            ..Self::passed(message)
        }
    }

    fn measuring(mut self, name: &'static str, value: impl Into<serde_json::Value>) -> Self {
        self.measured.push((name, value.into()));
        self
    }
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The device did not do what it was told.
    #[error("{action}: {source}")]
    Drive {
        /// What it was to do.
        action: &'static str,
        /// What it said.
        source: DriveError,
    },
    /// It did something else than it said, or than the standard says.
    #[error("{0}")]
    Wrong(String),
    /// Without this nothing further makes sense.
    #[error("{0}")]
    Stop(String),
}

/// Adds to a drive's error what the drive was to do.
trait Doing<T> {
    fn doing(self, action: &'static str) -> Result<T, Problem>;
}

impl<T> Doing<T> for Result<T, DriveError> {
    fn doing(self, action: &'static str) -> Result<T, Problem> {
        self.map_err(|source| Problem::Drive { action, source })
    }
}

fn wrong<T>(what: impl Into<String>) -> Result<T, Problem> {
    Err(Problem::Wrong(what.into()))
}

enum Run {
    /// Does it.
    Step(fn(&mut Bench) -> Result<Finding, Problem>),
    /// Is not to be had, and says so.
    No(Outcome, &'static str),
}

/// A step.
pub struct Step {
    /// Its name, for people and programs.
    pub name: &'static str,
    /// What it does, in a line.
    pub about: &'static str,
    run: Run,
}

/// All steps, in order.
pub const STEPS: &[Step] = &[
    step("identity", "asks who the drive is", state::identity),
    step(
        "reservation",
        "reserves the drive and gives it back, and tries to use it by a second path",
        shared::reservation,
    ),
    step(
        "medium",
        "asks generation, density and write-once",
        state::medium,
    ),
    step(
        "write protection",
        "asks whether the cartridge may be written",
        state::write_protection,
    ),
    step(
        "compression",
        "asks whether the drive compresses",
        state::compression,
    ),
    step(
        "block protection",
        "asks whether the drive checks blocks on their way",
        state::block_protection,
    ),
    step(
        "cartridge memory",
        "reads the memory in the cartridge",
        state::memory,
    ),
    step(
        "log pages",
        "reads counters, to compare at the end",
        state::counters_before,
    ),
    step(
        "alerts",
        "reads the TapeAlert flags, to compare at the end",
        state::alerts_before,
    ),
    step(
        "block sizes",
        "writes and reads blocks from the shortest to the longest",
        path::sizes,
    ),
    step(
        "wrong block sizes",
        "tries blocks beyond the limits, and a buffer that is too short",
        path::beyond,
    ),
    step(
        "write, read, verify",
        "writes two files and reads every block back",
        blocks::write_read,
    ),
    step(
        "reposition",
        "goes to blocks of both files and reads them",
        blocks::reposition,
    ),
    step(
        "read position",
        "compares READ POSITION with what was written",
        positions::tell,
    ),
    step(
        "flush",
        "has everything buffered brought onto the medium",
        positions::flush,
    ),
    step(
        "append after reopening",
        "closes and opens the device, finds the end, appends",
        positions::append,
    ),
    step(
        "backspace",
        "goes back over a filemark and a block, and reads it again",
        positions::backspace,
    ),
    step(
        "file spacing",
        "goes over filemarks, forward and back, and beyond both ends",
        positions::spacing,
    ),
    step(
        "overwrite ends data",
        "writes in the middle: what was behind must be gone",
        positions::overwrite,
    ),
    step(
        "erase",
        "erases from the beginning: the tape must be blank",
        state::erase,
    ),
    step(
        "removal lock",
        "locks the cartridge in, and tries to unload it",
        state::removal,
    ),
    step(
        "unload and load",
        "unloads and loads, and takes the news of it",
        state::reload,
    ),
    no(
        "reset",
        "has the drive reset, and takes the news of it",
        Outcome::NotSupported,
        "no path of this version can reset a drive",
    ),
    step(
        "second path",
        "reads by a second path while the first works",
        shared::second_path,
    ),
    step("speed, zeros", "writes zeros", speed::zeros),
    step(
        "speed, random data",
        "writes data that do not compress",
        speed::random,
    ),
    step("speed, reading", "reads them back", speed::reading),
    step(
        "fill",
        "writes to early warning and to the hard end, and reads the last block",
        fill::fill,
    ),
    no(
        "encryption",
        "loads and clears a key",
        Outcome::Skipped,
        "this version of TAF loads no keys into drives",
    ),
    no(
        "set capacity",
        "makes the tape shorter",
        Outcome::Skipped,
        "this version of TAF never shortens a tape",
    ),
    step(
        "error counters",
        "compares counters with those before",
        state::counters_after,
    ),
    step(
        "alerts after",
        "compares the TapeAlert flags with those before",
        state::alerts_after,
    ),
    step("clean up", "leaves the cartridge blank", state::clean_up),
];

const fn step(
    name: &'static str,
    about: &'static str,
    run: fn(&mut Bench) -> Result<Finding, Problem>,
) -> Step {
    let run = Run::Step(run);
    Step { name, about, run }
}

const fn no(name: &'static str, about: &'static str, outcome: Outcome, why: &'static str) -> Step {
    let run = Run::No(outcome, why);
    Step { name, about, run }
}

/// Runs the steps; `told` hears of each as it ends.
pub fn run(
    bench: &mut Bench,
    mut told: impl FnMut(&Stepped) -> Result<(), crate::failure::Failure>,
) -> Result<Report, crate::failure::Failure> {
    let mut report = Report::default();
    let mut stopped: Option<String> = None;
    for step in STEPS {
        let stepped = if let Some(why) = &stopped {
            Stepped::not_run(step, why)
        } else {
            let (stepped, stop) = run_one(bench, step);
            stopped = stop;
            stepped
        };
        told(&stepped)?;
        report.steps.push(stepped);
    }
    Ok(report)
}

/// Runs a step. The second is set if nothing further makes sense.
fn run_one(bench: &mut Bench, step: &Step) -> (Stepped, Option<String>) {
    if !bench.plan.fill && step.name == "fill" {
        let skipped =
            Finding::skipped("ask for it by --fill; it takes as long as the whole tape does");
        return (Stepped::found(step, Duration::ZERO, skipped), None);
    }
    let run = match &step.run {
        Run::Step(run) => run,
        Run::No(outcome, why) => return (Stepped::without(step, *outcome, why), None),
    };
    let begun = Instant::now();
    let outcome = run(bench);
    let took = begun.elapsed();
    let problem = match outcome {
        Ok(finding) => return (Stepped::found(step, took, finding), None),
        Err(problem) => problem,
    };
    let mut stop = matches!(problem, Problem::Stop(_)).then(|| problem.to_string());
    if stop.is_none()
        && let Err(error) = bench.recover(&problem)
    {
        stop = Some(format!("the drive is not to be had any more: {error}"));
    }
    (Stepped::failed(step, took, &problem), stop)
}
