//! Two paths to one drive, as two hosts on one fabric have them.

use taf_drive::Error as DriveError;

use super::{Bench, Doing as _, Finding, Problem, wrong};

const NONE: &str = "name a second path to the same drive by --second";

pub(super) fn second_path(bench: &mut Bench) -> Result<Finding, Problem> {
    let Some(name) = bench.plan.second.clone() else {
        return Ok(Finding::skipped(NONE));
    };
    let mut second = taf_drive::open(&name).doing("opening the second path")?;
    let (one, other) = (bench.drive()?.identity().clone(), second.identity().clone());
    if one.serial != other.serial || one.serial.is_none() {
        return Err(Problem::Stop(format!(
            "{name} is another drive: serial number {}, not {}",
            other.serial.unwrap_or_else(|| "unknown".to_owned()),
            one.serial.unwrap_or_else(|| "unknown".to_owned()),
        )));
    }
    bench.three_files()?;
    second
        .attentions()
        .doing("asking the second path for its news")?;
    second
        .position()
        .doing("asking for the position by the second path")?;
    bench.expect_at(9, 3)?;
    Ok(Finding::passed(
        "both paths lead to one drive, and the second disturbs nothing by asking",
    ))
}

pub(super) fn reservation(bench: &mut Bench) -> Result<Finding, Problem> {
    let Some(name) = bench.plan.second.clone() else {
        return Ok(Finding::skipped(NONE));
    };
    let mut second = taf_drive::open(&name).doing("opening the second path")?;
    second
        .attentions()
        .doing("asking the second path for its news")?;
    match second.rewind() {
        Err(DriveError::ReservationConflict) => wrong("somebody else holds a reservation"),
        Err(error) => Err(error).doing("rewinding by the second path"),
        Ok(()) => Ok(Finding::skipped("this version reserves no drives")),
    }
}
