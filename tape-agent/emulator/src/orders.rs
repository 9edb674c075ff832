//! The commands that give orders to a library that is switched on.

use std::io::{self, Write};
use std::path::Path;

use anyhow::Context;
use serde_json::Value;
use taf_emulator::control::{self, Order, Report};
use taf_emulator::faults::Fault;

use crate::arguments::{DriveCommand, FaultCommand, MailCommand};

/// Gives an order of which nothing is to be told but failure.
pub fn give(dir: &Path, order: &Order) -> anyhow::Result<()> {
    control::send(dir, order)?;
    Ok(())
}

pub fn stat(dir: &Path, json: bool) -> anyhow::Result<()> {
    let report = control::send(dir, &Order::Stat)?;
    let mut out = io::stdout().lock();
    if json {
        return writeln!(out, "{report}").context("can't write to stdout");
    }
    let report: Report =
        serde_json::from_value(report).context("the library is of another version")?;
    let yes = |set: bool| if set { "yes" } else { "no" };
    for drive in &report.drives {
        let name = format!("drive{}", drive.number);
        writeln!(out, "{name}\tserial\t{}", drive.serial)?;
        let barcode = drive.barcode.as_deref().unwrap_or("-");
        writeln!(out, "{name}\tbarcode\t{barcode}")?;
        writeln!(out, "{name}\tthreaded\t{}", yes(drive.threaded))?;
        writeln!(out, "{name}\thangs\t{}", yes(drive.hangs))?;
        // The counters name themselves.
        if let Value::Object(counters) = serde_json::to_value(drive.counters)? {
            for (counter, value) in counters {
                writeln!(out, "{name}\t{counter}\t{value}")?;
            }
        }
    }
    writeln!(out, "changer\tmoves\t{}", report.changer.moves)?;
    writeln!(out, "changer\tdoor_open\t{}", yes(report.changer.door_open))?;
    writeln!(out, "changer\thangs\t{}", yes(report.changer.hangs))?;
    writeln!(out, "library\tseed\t{}", report.seed)?;
    writeln!(out, "library\tfaults\t{}", report.faults)?;
    Ok(())
}

pub fn fault(command: FaultCommand) -> anyhow::Result<()> {
    match command {
        FaultCommand::Add { at, words } => {
            let fault = Fault::from_words(words.iter().map(String::as_str))
                .map_err(anyhow::Error::msg)
                .context("that is no fault; see taf-emulator fault add --help")?;
            give(&at.dir, &Order::FaultAdd { fault })
        }
        FaultCommand::List(at) => {
            let pending = control::send(&at.dir, &Order::FaultList)?;
            let pending: Vec<Fault> =
                serde_json::from_value(pending).context("the library is of another version")?;
            let mut out = io::stdout().lock();
            for fault in &pending {
                writeln!(out, "[[fault]]\n{}", fault.to_text())?;
            }
            Ok(())
        }
        FaultCommand::Clear(at) => give(&at.dir, &Order::FaultClear),
        FaultCommand::Release { at, unit } => give(&at.dir, &Order::Release { unit }),
    }
}

pub fn drive(command: DriveCommand) -> anyhow::Result<()> {
    match command {
        DriveCommand::PowerCut { at, drive, keep } => {
            give(&at.dir, &Order::PowerCut { drive, keep })
        }
        DriveCommand::Reset { at, drive } => give(&at.dir, &Order::Reset { drive }),
        DriveCommand::Alert { at, drive, flags } => give(&at.dir, &Order::Alert { drive, flags }),
    }
}

pub fn mail(command: MailCommand) -> anyhow::Result<()> {
    match command {
        MailCommand::Put { at, name } => {
            let address = control::send(&at.dir, &Order::MailPut { name })?;
            writeln!(io::stdout(), "{address}").context("can't write to stdout")
        }
        MailCommand::Take { at, name } => give(&at.dir, &Order::MailTake { name }),
    }
}
