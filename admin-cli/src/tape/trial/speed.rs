//! How fast it is. Only sequential writing and reading, flushed at the end: what a backup gets at best.

use std::time::Instant;

use taf_drive::health::Statistics;
use taf_drive::{Read, Written};

use super::{Bench, Doing as _, Finding, Problem, data, wrong};

/// Blocks that are made before the clock runs, and written round and round: making them must not be what is measured.
const POOL: usize = 64 << 20;
/// Slower than the slowest LTO-5 may go with less data.
const SLOW: f64 = 40.0;

pub(super) fn zeros(bench: &mut Bench) -> Result<Finding, Problem> {
    write(bench, &[vec![0; bench.plan.block_size]])
}

pub(super) fn random(bench: &mut Bench) -> Result<Finding, Problem> {
    let size = bench.plan.block_size;
    let count = (POOL / size).clamp(1, 1 + (bench.plan.speed_bytes / size as u64) as usize);
    let pool: Vec<Vec<u8>> = (0..count as u64)
        .map(|number| {
            let mut block = vec![0; size];
            data::fill(&mut block, bench.plan.seed, 99, number);
            block
        })
        .collect();
    write(bench, &pool)
}

fn write(bench: &mut Bench, pool: &[Vec<u8>]) -> Result<Finding, Problem> {
    let wanted = bench.plan.speed_bytes;
    bench.start_over()?;
    let before = Statistics::read(bench.drive()?).doing("reading its counters")?;
    let begun = Instant::now();
    let mut bytes = 0;
    for block in pool.iter().cycle() {
        if bytes >= wanted {
            break;
        }
        if bench.drive()?.write_block(block).doing("writing")? == Written::EarlyWarning {
            return wrong(format!(
                "the tape was full after {bytes} bytes: ask for less by --speed-size"
            ));
        }
        bytes += block.len() as u64;
    }
    bench.mark(1)?;
    let seconds = begun.elapsed().as_secs_f64().max(1e-9);
    let rate = bytes as f64 / seconds / 1e6;
    let counts = Statistics::read(bench.drive()?)
        .doing("reading its counters")?
        .since(&before);
    let mut message = format!("{rate:.0} MB/s over {} MB", bytes / 1_000_000);
    let ratio = counts
        .medium_written
        .filter(|&written| written > 0)
        .map(|written| bytes as f64 / written as f64);
    if let Some(ratio) = ratio.filter(|&ratio| ratio > 1.2) {
        message = format!("{message}, the drive compresses {ratio:.1} to 1");
    }
    // A few seconds' worth says something; less may be the start alone.
    let finding = if rate < SLOW && seconds > 5.0 {
        Finding::warned(format!(
            "{message}: slower than the slowest drive should be"
        ))
    } else {
        Finding::passed(message)
    };
    let finding = finding
        .measuring("byte_count", bytes)
        .measuring("megabytes_per_second", rate);
    Ok(match ratio {
        Some(ratio) => finding.measuring("compression_ratio", ratio),
        None => finding,
    })
}

pub(super) fn reading(bench: &mut Bench) -> Result<Finding, Problem> {
    bench.drive()?.rewind().doing("rewinding")?;
    let begun = Instant::now();
    let mut bytes = 0;
    loop {
        match bench.read()? {
            Read::Block(length) => bytes += length as u64,
            Read::Filemark => break,
            Read::EndOfData | Read::Blank => {
                return Ok(Finding::skipped("there is nothing from before to read"));
            }
        }
    }
    let rate = bytes as f64 / begun.elapsed().as_secs_f64().max(1e-9) / 1e6;
    Ok(
        Finding::passed(format!("{rate:.0} MB/s over {} MB", bytes / 1_000_000))
            .measuring("byte_count", bytes)
            .measuring("megabytes_per_second", rate),
    )
}
