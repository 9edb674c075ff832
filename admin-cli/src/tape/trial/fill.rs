//! The whole tape: early warning must come, and the hard end must be told, and nothing may be lost between them.

use taf_drive::health::Statistics;
use taf_drive::{Error as DriveError, Read, Sync, Written};

use super::{Bench, Doing as _, Finding, Problem, data, wrong};

/// Of the native capacity a good tape takes at least so much before early warning, percent.
const LEAST_PERCENT: u64 = 95;
/// More room behind early warning than any drive has, bytes.
const TAIL_MAX: u64 = 64 << 30;

pub(super) fn fill(bench: &mut Bench) -> Result<Finding, Problem> {
    let size = bench.plan.block_size;
    let native = Statistics::read(bench.drive()?)
        .doing("reading its counters")?
        .native_capacity;
    bench.start_over()?;
    let mut block = vec![0; size];
    let mut written = 0_u64;
    let mut warned_at = None;
    let overflowed = loop {
        data::fill(&mut block, bench.plan.seed, 0, written);
        match bench.drive()?.write_block(&block) {
            Ok(outcome) => {
                written += 1;
                if outcome == Written::EarlyWarning && warned_at.is_none() {
                    warned_at = Some(written);
                }
            }
            Err(DriveError::VolumeOverflow) => break true,
            Err(error) => return Err(error).doing("filling the tape"),
        }
        if warned_at.is_some_and(|at| (written - at) * size as u64 > TAIL_MAX) {
            break false;
        }
    };
    let Some(warned_at) = warned_at else {
        return wrong(format!(
            "the hard end came after {written} blocks without early warning: every volume would lose its last part"
        ));
    };
    // A synchronous flush at the very end: what was taken must be on the medium.
    match bench.drive()?.write_filemarks(1, Sync::Synchronous) {
        Ok(_) | Err(DriveError::VolumeOverflow) => {}
        Err(error) => return Err(error).doing("writing a filemark at the end"),
    }
    for number in [written - 1, warned_at - 1, 0] {
        bench.drive()?.locate(number).doing("going to a block")?;
        bench.expect_block(0, number, size)?;
    }
    bench
        .drive()?
        .locate(written)
        .doing("going behind the last block")?;
    match bench.read()? {
        Read::Filemark | Read::EndOfData => {}
        other => {
            return wrong(format!(
                "{} behind the last block",
                super::bench::words(other)
            ));
        }
    }
    let bytes = warned_at * size as u64;
    let percent = native.map(|native| (u128::from(bytes) * 100 / u128::from(native)) as u64);
    let message = format!(
        "early warning after {bytes} bytes{}, {} more to the end; first and last blocks read back",
        percent.map_or_else(String::new, |percent| format!(
            " ({percent} % of the native capacity)"
        )),
        if overflowed {
            format!("{} bytes", (written - warned_at) * size as u64)
        } else {
            "more than 64 GiB".to_owned()
        },
    );
    let finding = match percent {
        Some(percent) if percent < LEAST_PERCENT => Finding::warned(format!(
            "{message}; a good tape takes {LEAST_PERCENT} %: clean the drive, then try the tape in another"
        )),
        _ => Finding::passed(message),
    };
    Ok(finding
        .measuring("early_warning_byte_count", bytes)
        .measuring("end_byte_count", written * size as u64))
}
