//! The conformance suite on the devices that are named: what a drive and a library must do for TAF, step by step.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use taf_drive::conformance::{self, Scope, Step, Verdict, Way};

/// Try a drive, or a library with a drive, and say what they can't do. ALL DATA ON THE CARTRIDGE ARE LOST
///
/// Exit status: 0 all passed (what a device lacks is listed), 1 something failed.
#[derive(Debug, Parser)]
#[command(name = "taf-conformance")]
#[command(after_help = "Examples:
  taf-conformance --scratch --drive serial:10WT012345
  taf-conformance --scratch --changer serial:00X4U78A0001 --drive serial:10WT012345 --cartridge SCR001L8")]
struct Arguments {
    /// The changer's device name; without, the cartridge must be in the drive
    #[arg(long, value_name = "DEVICE")]
    changer: Option<String>,
    /// A drive's device name; of several, one that the library has a cartridge brought to is tried
    #[arg(long, value_name = "DEVICE", required = true)]
    drive: Vec<String>,
    /// Which cartridge the changer brings; the first in its slots if none is named
    #[arg(long, value_name = "BARCODE")]
    cartridge: Option<String>,
    /// Bytes of most blocks
    #[arg(long, default_value_t = 65_536)]
    block: usize,
    /// Write the cartridge full if it holds no more bytes than this
    #[arg(long, default_value_t = 0, value_name = "BYTES")]
    fill: u64,
    /// Yes, the cartridge is a scratch one
    #[arg(long, required = true)]
    scratch: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let scope = Scope {
        block: arguments.block,
        fill: arguments.fill,
    };
    let report = match &arguments.changer {
        Some(changer) => {
            let drives: Vec<&str> = arguments.drive.iter().map(String::as_str).collect();
            Way::by_names(changer, &drives).run(arguments.cartridge.as_deref(), scope)?
        }
        None => conformance::run(&mut || taf_drive::open(&arguments.drive[0]), scope)?,
    };
    for step in &report {
        println!("{step}");
    }
    let failed = |step: &Step| matches!(step.verdict, Verdict::Failed(_));
    Ok(if report.iter().any(failed) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
