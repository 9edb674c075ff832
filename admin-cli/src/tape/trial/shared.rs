//! Two paths to one drive, as two hosts on one fabric have them.

use taf_drive::{Drive, Error as DriveError, OwnKeys, Reserved};

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

const UNSUPPORTED: &str =
    "the drive knows no persistent reservations: nothing keeps other hosts off it";

/// Reserves the drive with a key of its own, and gives it back whatever came of it.
pub(super) fn reservation(bench: &mut Bench) -> Result<Finding, Problem> {
    let own = keys(bench, 1);
    bench.drive()?.reserve_with(own);
    let found = reserved(bench);
    let released = bench.drive()?.release();
    let finding = found?;
    released.doing("giving up the reservation")?;
    bench.drive()?.attentions().doing("asking for its news")?;
    Ok(finding)
}

fn reserved(bench: &mut Bench) -> Result<Finding, Problem> {
    match bench.drive()?.reserve() {
        Ok(Reserved::Ours) => {}
        Ok(Reserved::Unsupported | Reserved::NotAsked) => {
            return Ok(Finding::not_supported(UNSUPPORTED));
        }
        Err(DriveError::ReservedBy { key }) => {
            return Err(Problem::Stop(format!(
                "another host holds the drive by a reservation with key {key:#018x}: end its use there first; only if that host is gone for good, take its key away with `sg_persist --out --preempt`"
            )));
        }
        Err(DriveError::ReservationConflict) => {
            return Err(Problem::Stop(
                "another host holds the drive by a reservation: end its use there first".to_owned(),
            ));
        }
        Err(error) => return Err(error).doing("reserving the drive"),
    }
    let Some(name) = bench.plan.second.clone() else {
        return Ok(Finding::passed(format!(
            "reserved with a key of its own, which is gone again; to see whether others are kept off, {NONE}"
        )));
    };
    let mut second = taf_drive::open(&name).doing("opening the second path")?;
    kept_off(second.as_mut())?;
    bench
        .drive()?
        .release()
        .doing("giving up the reservation")?;
    let theirs = keys(bench, 2);
    let key = theirs.current;
    second.reserve_with(theirs);
    second
        .attentions()
        .doing("asking the second path for its news")?;
    let noticed = match second.reserve() {
        Ok(Reserved::Ours) => noticed(bench, key),
        Ok(_) => wrong("the second path can't reserve what the first can"),
        Err(error) => Err(error).doing("reserving by the second path"),
    };
    let released = second.release();
    noticed?;
    released.doing("giving up the second path's reservation")?;
    Ok(Finding::passed(
        "reserved with a key of its own, which is gone again; a second path was kept off, and its own reservation noticed",
    ))
}

/// The second path must get nothing while the first holds the drive.
fn kept_off(second: &mut dyn Drive) -> Result<(), Problem> {
    match second.attentions() {
        Ok(_) | Err(DriveError::ReservationConflict) => {}
        Err(error) => return Err(error).doing("asking the second path for its news"),
    }
    match second.rewind() {
        Err(DriveError::ReservationConflict) => Ok(()),
        Err(error) => Err(error).doing("rewinding by the second path"),
        Ok(()) => wrong("a second path used the drive in spite of the reservation"),
    }
}

/// The first path must find that the second holds the drive, and by which key.
fn noticed(bench: &mut Bench, theirs: u64) -> Result<(), Problem> {
    bench.drive()?.attentions().map(|_| ()).or_else(|error| {
        if matches!(error, DriveError::ReservationConflict) {
            Ok(())
        } else {
            Err(error).doing("asking for its news")
        }
    })?;
    match bench.drive()?.reserve() {
        Err(DriveError::ReservedBy { key }) if key == theirs => Ok(()),
        Err(DriveError::ReservedBy { key }) => wrong(format!(
            "the drive says that key {key:#018x} holds it, but it is {theirs:#018x}"
        )),
        Err(error) => Err(error).doing("reserving what another holds"),
        Ok(_) => wrong("the drive gave to the first path what the second holds"),
    }
}

/// Another key each time, so that an earlier test's is a stranger's.
fn keys(bench: &Bench, path: u64) -> OwnKeys {
    OwnKeys {
        current: bench.plan.seed.rotate_left(7) ^ (0x7461_6600_0000_0000 | path),
        stale: Vec::new(),
    }
}
