//! `taf tape inspect`: everything that a tape, its memory and its drive say, at once.

use std::ffi::OsString;

use serde_json::{Value, json};
use taf_drive::MediumState;
use taf_drive::health::{Alerts, Memory, Statistics};

use super::files;
use crate::failure::{Exit, Failure};
use crate::human;
use crate::output::Output;
use crate::tape::trial::generation;
use crate::tape::{self, Holds, Medium, TapeFile};

/// Show what a tape holds and what state it is in: label, tape files, end of data, memory, capacity, alerts
///
/// Nothing is written, and nothing that others read is cleared.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf tape inspect library/cartridges/TAF001L8.tape
  taf tape inspect unix:library/sockets/drive0.sock --json
  taf tape inspect unix:library/sockets/drive0.sock --no-files")]
pub struct Inspect {
    /// A cartridge's file of the emulator, or a drive's device name
    #[arg(value_name = "CARTRIDGE|DEVICE")]
    tape: OsString,
    /// Do not look at the tape files: a full tape takes minutes to an hour
    #[arg(long)]
    no_files: bool,
}

struct Found {
    holds: Holds,
    files: Option<Vec<TapeFile>>,
    /// First object behind what is recorded.
    end_block: Option<u64>,
    tape: MediumState,
    memory: Option<Memory>,
    statistics: Statistics,
    alerts: Option<Alerts>,
}

impl Inspect {
    /// Runs it.
    pub fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let mut medium = Medium::open(&self.tape)?;
        let found = look(&mut medium, !self.no_files)?;
        if out.json() {
            out.document(&document(medium.name(), &found))?;
        } else {
            show(&found, out)?;
        }
        Ok(Exit::Done)
    }
}

fn look(medium: &mut Medium, with_files: bool) -> Result<Found, tape::Error> {
    let (memory, statistics, alerts) = medium.health()?;
    let holds = Holds::of(medium)?;
    let files = match &holds {
        _ if !with_files => None,
        Holds::Nothing => Some(Vec::new()),
        // The tape stands behind the label.
        Holds::Taf(label) => Some(tape::files(medium, 1, Some(label.block_size))?),
        Holds::DamagedTaf(_) => Some(tape::files(medium, 1, None)?),
        Holds::Foreign(_) | Holds::Unreadable(_) => {
            medium.rewind()?;
            Some(tape::files(medium, 0, None)?)
        }
    };
    Ok(Found {
        end_block: medium.end_of_data()?,
        tape: medium.tape(),
        holds,
        files,
        memory,
        statistics,
        alerts,
    })
}

fn show(found: &Found, out: &mut Output) -> Result<(), Failure> {
    let size = |bytes: Option<u64>| bytes.map(human::size).unwrap_or_default();
    let count = |count: Option<u64>| count.map(human::count).unwrap_or_default();
    let memory = found.memory.clone().unwrap_or_default();
    let density = match (found.tape.density, generation(found.tape.density)) {
        (0, _) => String::new(),
        (code, Some(name)) => format!("{name} (density {code:02x}h)"),
        (code, None) => format!("density {code:02x}h"),
    };
    let may = match (found.tape.worm, found.tape.write_protected) {
        (true, _) => "once",
        (false, true) => "no: it is write-protected",
        (false, false) => "yes",
    };
    let mut lines = vec![
        ("holds", found.holds.to_string()),
        (
            "ends at",
            found
                .end_block
                .map(|block| format!("block {block}"))
                .unwrap_or_default(),
        ),
        ("generation", density),
        ("writable", may.to_owned()),
        (
            "capacity",
            size(found.statistics.native_capacity.or(memory.capacity)),
        ),
        (
            "remaining",
            size(found.statistics.remaining.or(memory.remaining)),
        ),
        ("serial", memory.serial),
        ("maker", memory.manufacturer),
        ("made", memory.made),
        (
            "memory says",
            [memory.barcode, memory.application, memory.text]
                .join(" ")
                .trim()
                .to_owned(),
        ),
        ("loads", count(memory.loads)),
        (
            "written",
            size(memory.life_written.or(found.statistics.life_written)),
        ),
        (
            "read",
            size(memory.life_read.or(found.statistics.life_read)),
        ),
    ];
    if let Holds::Taf(label) = &found.holds {
        lines.insert(1, ("recording", label.recording_uuid.to_string()));
        lines.insert(2, ("block size", human::size(label.block_size.into())));
    }
    match found.alerts {
        None => lines.push((
            "alerts",
            "not shown: the drive would forget them".to_owned(),
        )),
        Some(alerts) if alerts.is_empty() => lines.push(("alerts", "none".to_owned())),
        Some(alerts) => lines.extend(alerts.iter().map(|alert| {
            let text = format!(
                "{:02X}h {} ({}): {}",
                alert.flag,
                alert.name,
                alert.severity.word(),
                alert.action
            );
            ("alert", text)
        })),
    }
    for (key, value) in lines {
        if !value.is_empty() {
            out.line(format!("{key:<13} {}", human::clean(&value)))?;
        }
    }
    let Some(files) = &found.files else {
        return Ok(());
    };
    let label = match &found.holds {
        Holds::Taf(label) => Some(Ok((**label).clone())),
        Holds::DamagedTaf(reason) => Some(Err(reason.clone())),
        _ => None,
    };
    if label.is_some() || !files.is_empty() {
        out.line("")?;
        out.table(&files::rows(label.as_ref(), files))?;
    }
    Ok(())
}

fn document(name: &str, found: &Found) -> Value {
    let statistics = &found.statistics;
    let alerts: Option<Vec<Value>> = found.alerts.map(|alerts| {
        alerts
            .iter()
            .map(|alert| {
                json!({
                    "flag": alert.flag, "name": alert.name, "severity": alert.severity.word(), "meaning": alert.meaning,
                    "action": alert.action,
                })
            })
            .collect()
    });
    let memory = found.memory.as_ref().map(|memory| {
        json!({
            "serial": memory.serial, "manufacturer": memory.manufacturer, "manufacture_date": memory.made,
            "barcode": memory.barcode, "application": memory.application, "text": memory.text, "capacity": memory.capacity,
            "remaining": memory.remaining, "loads": memory.loads, "bytes_written": memory.life_written,
            "bytes_read": memory.life_read,
        })
    });
    let files: Option<Vec<Value>> = found
        .files
        .as_deref()
        .map(|files| files::documents(files).collect());
    json!({
        "device": name, "holds": found.holds.document(), "end_block": found.end_block, "density": found.tape.density,
        "generation": generation(found.tape.density), "worm": found.tape.worm,
        "write_protected": found.tape.write_protected, "native_capacity": statistics.native_capacity,
        "remaining": statistics.remaining, "memory": memory, "alerts": alerts,
        "cleaning_requested": statistics.cleaning_requested, "files": files,
    })
}
