//! `taf tape test`: whether a drive does what TAF asks of it, tried on a scratch cartridge.

use std::ffi::OsString;
use std::hash::{BuildHasher as _, RandomState};

use serde_json::{Value, json};
use taf_peer::quantity::Size;

use crate::failure::{Exit, Failure};
use crate::human;
use crate::output::{Output, say};
use crate::tape::trial::{self, Bench, Outcome, Plan, Report, STEPS, Stepped};
use crate::tape::{Holds, Medium};

/// Try a drive and its path on a scratch cartridge, step by step; everything on the cartridge is lost
///
/// A cartridge that holds anything is refused, and what it holds is said; --force gives it up. What a device can't do is
/// reported as not supported. Exit status: 0 all passed, 1 something failed, 2 refused or asked wrongly, 3 passed with warnings.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf tape test unix:library/sockets/drive0.sock --dry-run
  taf tape test unix:library/sockets/drive0.sock
  taf tape test /dev/sg3 --second /dev/sg7 --fill --force --json")]
pub struct Test {
    /// A drive's device name, or a cartridge's file of the emulator
    #[arg(value_name = "DEVICE")]
    device: OsString,
    /// Say what is on the cartridge and what would be done; write nothing
    #[arg(long)]
    dry_run: bool,
    /// Give up what the cartridge holds
    #[arg(long)]
    force: bool,
    /// Also fill the whole tape, to find early warning and the end: hours
    #[arg(long)]
    fill: bool,
    /// Another path to the same drive, to try reservations
    #[arg(long, value_name = "DEVICE")]
    second: Option<String>,
    /// Block size of the larger tests
    #[arg(long, value_name = "SIZE", default_value = "512KiB")]
    block_size: Size,
    /// Blocks of each file of the larger tests
    #[arg(long, value_name = "COUNT", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    blocks: u64,
    /// Bytes of each measurement of speed
    #[arg(long, value_name = "SIZE", default_value = "4GiB")]
    speed_size: Size,
}

impl Test {
    /// Runs it.
    pub fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let mut medium = Medium::open(&self.device)?;
        let holds = Holds::of(&mut medium)?;
        let refused = !matches!(holds, Holds::Nothing) && !self.force;
        if self.dry_run {
            return self.describe(&medium, &holds, refused, out);
        }
        if refused {
            return Err(Failure {
                usage: true,
                ..Failure::new(
                    "TAPE_HOLDS_DATA",
                    format!(
                        "the cartridge in {} is not blank: it holds {holds}; nothing was written",
                        medium.name()
                    ),
                    "put in a scratch cartridge; or give up what this one holds: --force",
                )
            });
        }
        let medium = medium.into_writable()?;
        let name = medium.name().to_owned();
        let block_size = usize::try_from(self.block_size.0).unwrap_or(usize::MAX);
        let plan = Plan {
            block_size: block_size.max(1),
            blocks: self.blocks,
            speed_bytes: self.speed_size.0,
            fill: self.fill,
            second: self.second,
            seed: RandomState::new().hash_one(std::process::id()),
        };
        let json = out.json();
        if !json {
            say(format!(
                "testing {name} with seed {:#x}; the cartridge held {holds}",
                plan.seed
            ));
        }
        let seed = plan.seed;
        let (drive, open) = medium.into_parts();
        let mut bench = Bench::new(plan, drive, open).map_err(|problem| {
            Failure::new(
                "DRIVE_FAILED",
                format!("{name} can't be tested: {problem}"),
                "see that the drive holds a scratch cartridge and is used by nobody else",
            )
        })?;
        let report = trial::run(
            &mut bench,
            |step| if json { Ok(()) } else { show(step, out) },
        )?;
        conclude(&name, seed, &holds, &report, out)
    }

    fn describe(
        &self,
        medium: &Medium,
        holds: &Holds,
        refused: bool,
        out: &mut Output,
    ) -> Result<Exit, Failure> {
        let steps = || STEPS.iter().filter(|step| self.fill || step.name != "fill");
        if out.json() {
            let steps: Vec<Value> = steps()
                .map(|step| json!({"step": step.name, "about": step.about}))
                .collect();
            out.document(&json!({
                "device": medium.name(), "holds": holds.document(), "refused": refused, "steps": steps,
            }))?;
        } else {
            out.line(format!(
                "the cartridge in {} holds {}",
                medium.name(),
                human::clean(&holds.to_string())
            ))?;
            out.line(if refused {
                "it would be refused without --force"
            } else {
                "all of it would be lost"
            })?;
            for step in steps() {
                out.line(format!("{:<24} {}", step.name, step.about))?;
            }
        }
        Ok(Exit::Done)
    }
}

fn show(step: &Stepped, out: &mut Output) -> Result<(), Failure> {
    out.line(format!(
        "{:<14} {:<24} {:>8}  {}",
        step.outcome.word(),
        step.name,
        human::duration(step.took),
        human::clean(&step.message)
    ))?;
    // People watch: a step may take hours.
    out.flush()
}

fn conclude(
    name: &str,
    seed: u64,
    holds: &Holds,
    report: &Report,
    out: &mut Output,
) -> Result<Exit, Failure> {
    let [failed, warned, passed, lacking] = [
        Outcome::Failed,
        Outcome::Warned,
        Outcome::Passed,
        Outcome::NotSupported,
    ]
    .map(|outcome| report.count(outcome));
    if out.json() {
        let steps: Vec<Value> = report.steps.iter().map(Stepped::document).collect();
        out.document(&json!({
            "device": name, "held": holds.document(), "seed": format!("{seed:#x}"), "steps": steps,
            "passed": passed, "warned": warned, "failed": failed, "not_supported": lacking,
        }))?;
    } else {
        out.line(format!(
            "{passed} passed, {warned} with a warning, {failed} failed, {lacking} not supported"
        ))?;
    }
    Ok(match (failed, warned) {
        (1.., _) => Exit::Failed,
        (0, 1..) => Exit::Issues,
        (0, 0) => Exit::Done,
    })
}
