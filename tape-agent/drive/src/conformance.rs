//! What every drive and every library must do, whatever the maker and the transport: named steps on scratch media.
//!
//! **Everything on the medium is lost.** The steps are independent of each other: each records what it needs. What a
//! device can't do is asked, never assumed: it passes without, and the report lists it, so that a silent loss of an
//! ability is seen. Used on the emulator by every path to it, on devices that are not ours, and on each real drive.
//!
//! A further transport is one line: whatever [`crate::open`] opens by name, [`Way::by_names`] makes a way of.

use std::fmt;

use crate::changer::{Changer, DriveElement};
use crate::{Drive, Error};

mod abilities;
mod bench;
mod library;
mod medium;
mod recording;
mod whole;

pub use whole::Way;

use bench::Bench;

/// What came of one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// As it must be.
    Passed,
    /// The device lacks the ability, and says so as it must.
    Lacking(String),
    /// Not as it must be.
    Failed(String),
}

/// One step of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What was tried.
    pub name: &'static str,
    /// What came of it.
    pub verdict: Verdict,
}

impl Step {
    fn new(name: &'static str, outcome: Outcome) -> Self {
        let verdict = match outcome {
            Ok(()) => Verdict::Passed,
            Err(Fault::Lacking(what)) => Verdict::Lacking(what),
            Err(Fault::Failed(why)) => Verdict::Failed(why),
        };
        Self { name, verdict }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.verdict {
            Verdict::Passed => write!(f, "passed   {}", self.name),
            Verdict::Lacking(what) => write!(f, "lacking  {}: {what}", self.name),
            Verdict::Failed(why) => write!(f, "FAILED   {}: {why}", self.name),
        }
    }
}

/// How much is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope {
    /// Bytes of most blocks: at least 64, within the drive's limits.
    pub block: usize,
    /// The medium is written full if it holds no more bytes than this. 0 leaves that step out: a real cartridge takes
    /// hours.
    pub fill: u64,
}

/// Opens the drive anew, as after a crash.
pub type Open<'a> = dyn FnMut() -> Result<Box<dyn Drive>, Error> + 'a;
/// Opens the changer anew.
pub type OpenChanger<'a> = dyn FnMut() -> Result<Box<dyn Changer>, Error> + 'a;
/// Opens the drive in this bay of the library.
pub type OpenBay<'a> = dyn FnMut(&DriveElement) -> Result<Box<dyn Drive>, Error> + 'a;

/// Why a step did not pass.
enum Fault {
    Lacking(String),
    Failed(String),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Failed(error.to_string())
    }
}

type Outcome = Result<(), Fault>;
type Check = fn(&mut Bench) -> Outcome;

/// Runs all steps of a drive. `open` is called again where a step needs a new path; a scratch medium must be in it.
///
/// Fails only if the drive can't be opened and made ready at all.
pub fn run<'a>(open: &'a mut Open<'a>, scope: Scope) -> Result<Vec<Step>, Error> {
    let mut bench = Bench::new(open, scope)?;
    let mut report = Vec::new();
    for (name, check) in [
        abilities::STEPS.as_slice(),
        &recording::STEPS,
        &medium::STEPS,
    ]
    .concat()
    {
        if name == medium::FILLED && scope.fill == 0 {
            continue;
        }
        let outcome = bench.fresh().map_err(Fault::from);
        let step = Step::new(name, outcome.and_then(|()| check(&mut bench)));
        if matches!(step.verdict, Verdict::Failed(_)) {
            bench.close();
        }
        report.push(step);
    }
    Ok(report)
}

/// Runs all steps of a library, and brings every cartridge back to where it was. `bay` opens its drives, to have them
/// let go of a cartridge.
///
/// Fails only if the changer can't be opened.
pub fn run_library(open: &mut OpenChanger, bay: &mut OpenBay) -> Result<Vec<Step>, Error> {
    library::run(open, bay)
}

fn ensure(holds: bool, why: impl FnOnce() -> String) -> Outcome {
    if holds {
        Ok(())
    } else {
        Err(Fault::Failed(why()))
    }
}

fn lacking<T>(what: impl Into<String>) -> Result<T, Fault> {
    Err(Fault::Lacking(what.into()))
}
