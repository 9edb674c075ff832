//! What the drive says of itself and of the cartridge, and what it does with the cartridge as a whole.

use taf_drive::health::{Alerts, Snapshot};
use taf_drive::{Error as DriveError, Read};

use super::{Bench, Doing as _, Finding, Problem, wrong};

pub(super) fn identity(bench: &mut Bench) -> Result<Finding, Problem> {
    let identity = bench.drive()?.identity().clone();
    let shown = format!(
        "{} {} {}",
        identity.vendor, identity.product, identity.revision
    );
    let Some(serial) = identity.serial else {
        return Ok(Finding::warned(format!(
            "{shown}, without a serial number: TAF knows drives by it and can't use this one"
        )));
    };
    Ok(Finding::passed(format!("{shown}, serial number {serial}"))
        .measuring("vendor", identity.vendor)
        .measuring("product", identity.product)
        .measuring("revision", identity.revision)
        .measuring("serial", serial))
}

/// What a density code is called.
pub fn generation(density: u8) -> Option<&'static str> {
    Some(match density {
        0x40 => "LTO-1",
        0x42 => "LTO-2",
        0x44 => "LTO-3",
        0x46 => "LTO-4",
        0x58 => "LTO-5",
        0x5a => "LTO-6",
        0x5c => "LTO-7",
        0x5d => "LTO-7 type M",
        0x5e => "LTO-8",
        0x60 => "LTO-9",
        0x62 => "LTO-10",
        _ => return None,
    })
}

pub(super) fn medium(bench: &mut Bench) -> Result<Finding, Problem> {
    let state = bench.state;
    let finding = match (state.density, generation(state.density)) {
        (0, _) => Finding::not_supported("the drive does not say what density the cartridge has"),
        (_, Some(name)) => Finding::passed(format!("{name}, density {:02x}h", state.density)),
        (density, None) => Finding::warned(format!(
            "density {density:02x}h, which this version does not know"
        )),
    };
    let finding = finding
        .measuring("density", state.density)
        .measuring("worm", state.worm);
    if state.worm {
        return Err(Problem::Stop(
            "a write-once cartridge can't be tested: what is written stays for ever".to_owned(),
        ));
    }
    Ok(finding)
}

pub(super) fn write_protection(bench: &mut Bench) -> Result<Finding, Problem> {
    bench.must_be_writable()?;
    Ok(Finding::passed("it may be written"))
}

pub(super) fn compression(bench: &mut Bench) -> Result<Finding, Problem> {
    let state = bench.drive()?.prepare().doing("asking its settings")?;
    Ok(match state.compression {
        None => Finding::not_supported("the drive does not say whether it compresses"),
        Some(true) => {
            Finding::passed("on; TAF's data are compressed already, so it neither helps nor harms")
        }
        Some(false) => Finding::passed("off"),
    })
}

pub(super) fn block_protection(bench: &mut Bench) -> Result<Finding, Problem> {
    let said = bench
        .drive()?
        .block_protection()
        .doing("asking for logical block protection")?;
    Ok(match said {
        None => Finding::not_supported("the drive has none, or does not say"),
        Some(false) => Finding::passed(
            "the drive has it, switched off: TAF's segments carry checksums of their own",
        ),
        // Every block would be four bytes too short or too long.
        Some(true) => Finding::warned(
            "somebody has switched it on, so blocks come with four bytes more; switch it off",
        ),
    })
}

pub(super) fn memory(bench: &mut Bench) -> Result<Finding, Problem> {
    let snapshot = Snapshot::take(bench.drive()?).doing("reading the cartridge's memory")?;
    let Some(memory) = snapshot.memory else {
        return Ok(Finding::not_supported(
            "the drive does not show it, or the cartridge has none",
        ));
    };
    let number =
        |value: Option<u64>| value.map_or_else(|| "?".to_owned(), |value| value.to_string());
    let finding = Finding::passed(format!(
        "serial number {}, {} loads, capacity {} bytes",
        if memory.serial.is_empty() {
            "unknown"
        } else {
            &memory.serial
        },
        number(memory.loads),
        number(memory.capacity),
    ));
    Ok(finding
        .measuring("serial", memory.serial)
        .measuring("loads", memory.loads)
        .measuring("capacity", memory.capacity))
}

pub(super) fn counters_before(bench: &mut Bench) -> Result<Finding, Problem> {
    let snapshot = Snapshot::take(bench.drive()?).doing("reading its counters")?;
    let statistics = snapshot.statistics;
    bench.before = Some(snapshot);
    let pages = [
        ("write errors", statistics.write.corrected.is_some()),
        ("read errors", statistics.read.corrected.is_some()),
        ("bytes", statistics.medium_written.is_some()),
        ("usage", statistics.usage.is_some()),
        ("capacity", statistics.native_capacity.is_some()),
        ("cleaning", statistics.cleaning_requested.is_some()),
    ];
    let list = |has: bool| -> Vec<&str> {
        pages
            .iter()
            .filter(|(_, there)| *there == has)
            .map(|(name, _)| *name)
            .collect()
    };
    let (has, lacks) = (list(true), list(false));
    if has.is_empty() {
        return Ok(Finding::not_supported(
            "the drive counts nothing: its health is not to be judged",
        ));
    }
    let mut message = has.join(", ");
    if !lacks.is_empty() {
        message = format!("{message}; not: {}", lacks.join(", "));
    }
    if statistics.cleaning_required == Some(true) || statistics.cleaning_requested == Some(true) {
        return Ok(Finding::warned(format!(
            "{message}; the drive wants to be cleaned"
        )));
    }
    Ok(Finding::passed(message))
}

pub(super) fn alerts_before(bench: &mut Bench) -> Result<Finding, Problem> {
    let Some((alerts, _)) = Alerts::read(bench.drive()?).doing("reading its alerts")? else {
        return Ok(Finding::not_supported("the drive has no TapeAlert"));
    };
    bench.alerts_before = Some(alerts);
    Ok(told(alerts, "none"))
}

fn told(alerts: Alerts, none: &str) -> Finding {
    if alerts.is_empty() {
        return Finding::passed(none);
    }
    let flags: Vec<u8> = alerts.iter().map(|alert| alert.flag).collect();
    let words: Vec<String> = alerts
        .iter()
        .map(|alert| {
            format!(
                "{:02X}h {} ({}): {}",
                alert.flag,
                alert.name,
                alert.severity.word(),
                alert.action
            )
        })
        .collect();
    Finding::warned(words.join("; ")).measuring("flags", flags)
}

pub(super) fn alerts_after(bench: &mut Bench) -> Result<Finding, Problem> {
    let Some((alerts, _)) = Alerts::read(bench.drive()?).doing("reading its alerts")? else {
        return Ok(Finding::not_supported("the drive has no TapeAlert"));
    };
    let before = bench.alerts_before.unwrap_or_default();
    Ok(told(alerts.since(before), "none that was not there before"))
}

pub(super) fn counters_after(bench: &mut Bench) -> Result<Finding, Problem> {
    let Some(before) = bench.before.clone() else {
        return Ok(Finding::not_supported("there is nothing to compare with"));
    };
    let now = Snapshot::take(bench.drive()?).doing("reading its counters")?;
    let counts = now.statistics.since(&before.statistics);
    let known = [
        counts.write.corrected,
        counts.write.uncorrected,
        counts.read.corrected,
        counts.read.uncorrected,
    ];
    if known.iter().all(Option::is_none) {
        return Ok(Finding::not_supported("the drive does not count errors"));
    }
    let [wc, wu, rc, ru] = known.map(|count| count.unwrap_or(0));
    let message = format!(
        "writing: {wc} corrected, {wu} not; reading: {rc} corrected, {ru} not; went back {} times",
        counts
            .suspends
            .map_or_else(|| "?".to_owned(), |count| count.to_string()),
    );
    let finding = if wu + ru > 0 {
        Finding::warned(format!(
            "{message}: data were lost; clean the drive, and try another cartridge"
        ))
    } else {
        Finding::passed(message)
    };
    Ok(finding
        .measuring("write_corrected", counts.write.corrected)
        .measuring("write_uncorrected", counts.write.uncorrected)
        .measuring("read_corrected", counts.read.corrected)
        .measuring("read_uncorrected", counts.read.uncorrected)
        .measuring("suspends", counts.suspends))
}

pub(super) fn erase(bench: &mut Bench) -> Result<Finding, Problem> {
    bench.three_files()?;
    bench.start_over()?;
    match bench.drive()?.erase(false) {
        Ok(()) => {}
        Err(DriveError::IllegalRequest(_)) => {
            return Ok(Finding::not_supported("the drive has no ERASE"));
        }
        Err(error) => return Err(error).doing("erasing"),
    }
    bench.drive()?.rewind().doing("rewinding")?;
    bench.expect(Read::Blank)?;
    Ok(Finding::passed("the tape is blank, and the drive says so"))
}

pub(super) fn removal(bench: &mut Bench) -> Result<Finding, Problem> {
    match bench.drive()?.prevent_removal(true) {
        Ok(()) => {}
        Err(error) if error.is_refusal() => {
            return Ok(Finding::not_supported(
                "the drive does not lock its cartridge in",
            ));
        }
        Err(error) => return Err(error).doing("locking the cartridge in"),
    }
    let unloaded = bench.drive()?.unload();
    bench
        .drive()?
        .prevent_removal(false)
        .doing("letting go of the cartridge")?;
    match unloaded {
        Err(
            DriveError::IllegalRequest(_) | DriveError::NotReady(_) | DriveError::Program { .. },
        ) => Ok(Finding::passed(
            "unloading was refused while it was locked in",
        )),
        Err(error) => Err(error).doing("unloading"),
        Ok(()) => {
            bench.drive()?.load().doing("loading again")?;
            wrong("the drive unloaded a cartridge that was locked in")
        }
    }
}

pub(super) fn reload(bench: &mut Bench) -> Result<Finding, Problem> {
    let size = bench.plan.block_size;
    bench.three_files()?;
    bench.drive()?.unload().doing("unloading")?;
    if bench.drive()?.position().is_ok() {
        return wrong("the drive tells a position although the cartridge is unloaded");
    }
    bench.drive()?.load().doing("loading")?;
    let news = bench.drive()?.attentions().doing("asking for its news")?;
    bench.reopen()?;
    bench.drive()?.rewind().doing("rewinding")?;
    bench.expect_block(0, 0, size)?;
    Ok(Finding::passed(format!(
        "what was written is there again; the drive had {} to tell",
        match news.len() {
            0 => "nothing".to_owned(),
            _ => news
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", "),
        }
    )))
}

pub(super) fn clean_up(bench: &mut Bench) -> Result<Finding, Problem> {
    bench.start_over()?;
    match bench.drive()?.erase(false) {
        Ok(()) => Ok(Finding::passed("the cartridge is blank")),
        Err(DriveError::IllegalRequest(_)) => Ok(Finding::warned(
            "the drive can't erase: the cartridge still holds the test's data, and is labelled only with --force",
        )),
        Err(error) => Err(error).doing("erasing"),
    }
}
