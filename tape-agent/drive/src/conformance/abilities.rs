//! What a drive can tell and do, asked one by one. Nothing here fails but an answer that makes no sense.

use taf_scsi::page::log;

use super::bench::Bench;
use super::{Check, Outcome, ensure, lacking};
use crate::health::Chip;

pub(super) const STEPS: [(&str, Check); 8] = [
    ("it says who it is", identity),
    ("it tells its position", position),
    ("it counts tape files", files),
    ("it tells what is still in its buffer", buffer),
    ("it has all commands that TAF would use", commands),
    ("it says what the medium is", medium),
    ("it keeps statistics", statistics),
    ("it reads the memory in the cartridge", memory),
];

fn identity(bench: &mut Bench) -> Outcome {
    let identity = bench.drive().identity();
    ensure(
        !identity.vendor.is_empty() && !identity.product.is_empty(),
        || format!("{identity:?}"),
    )?;
    if identity.serial.is_none() {
        return lacking("no serial number");
    }
    Ok(())
}

fn position(bench: &mut Bench) -> Outcome {
    bench.record()?;
    match bench.position()? {
        Some(_) => Ok(()),
        None => lacking("the drive can't tell; it gets no appends, only fresh recordings"),
    }
}

fn files(bench: &mut Bench) -> Outcome {
    match bench.position()?.and_then(|position| position.file) {
        Some(_) => Ok(()),
        None => lacking("the drive doesn't say; they are counted from the medium's beginning"),
    }
}

fn buffer(bench: &mut Bench) -> Outcome {
    match bench.position()?.and_then(|position| position.on_medium()) {
        Some(_) => Ok(()),
        None => lacking("the drive doesn't say; it is flushed at every half ring"),
    }
}

fn commands(bench: &mut Bench) -> Outcome {
    bench.record()?;
    bench.drive().locate(5)?;
    let without = bench.drive().workarounds();
    if without.is_empty() {
        return Ok(());
    }
    lacking(without.join("; "))
}

fn medium(bench: &mut Bench) -> Outcome {
    let medium = bench.drive().prepare()?;
    let mut missing = Vec::new();
    if medium.density == 0 {
        missing.push("density");
    }
    if medium.compression.is_none() {
        missing.push("compression");
    }
    if medium.partitions.is_none() {
        missing.push("partitions");
    }
    if bench.drive().densities()?.is_none() {
        missing.push("what densities it writes");
    }
    if missing.is_empty() {
        return Ok(());
    }
    lacking(format!("it doesn't tell: {}", missing.join(", ")))
}

fn statistics(bench: &mut Bench) -> Outcome {
    // None of these is cleared by reading it.
    for page in [log::VOLUME_STATISTICS, log::TAPE_CAPACITY] {
        if bench.drive().log_page(page)?.is_none() {
            return lacking(format!("no log page {page:02x}h"));
        }
    }
    Ok(())
}

fn memory(bench: &mut Bench) -> Outcome {
    match Chip::read(bench.drive())? {
        Chip::Read(_) => Ok(()),
        Chip::Unknown => lacking("the drive doesn't show it"),
        Chip::Unreadable(why) => lacking(why),
    }
}
