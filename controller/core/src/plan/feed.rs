//! Whether a synthetic full can be made with the drives that there are: one reads for as long as another one writes.

use std::collections::BTreeSet;

use super::{Cartridge, Copy, Drive, Needs, Obstacle, World, home, lacking};
use crate::Fault;
use crate::generation::{self, Access};

/// Why a job that reads what another one copies does not begin: there is nothing to write on, or the drive that reads would be the
/// only one to write in. A drive that is only not connected is waited for, and so is a volume that somebody has to put where a robot
/// takes it from; one that another job has comes free, or is shared, by itself. Volumes to read that no library shows say nothing: they are
/// waited for by whoever needs them.
pub(super) fn begins(copy: &Copy, world: &World) -> Result<(), Obstacle> {
    let written = written(copy, world);
    if written
        .iter()
        .all(|cartridge| home(cartridge, None).is_err())
    {
        return Err(nothing_to_write(copy, world));
    }
    let sound: Vec<&Drive> = world.drives.iter().filter(|d| !d.down && !d.hung).collect();
    let there = sound.iter().copied().filter(|d| d.connected);
    let there: Vec<&Drive> = there.collect();
    for read in shown(world).filter(|c| is_read(c, copy)) {
        let pair = |drives: &[&Drive]| {
            let readers = fit(drives, &[read], Access::Read);
            let writers = fit(drives, &written, Access::Write);
            let mut both = readers.iter();
            let is_pair = both.any(|reader| writers.iter().any(|writer| writer != reader));
            (is_pair, readers, writers)
        };
        if pair(&there).0 {
            continue;
        }
        let (is_pair, readers, writers) = pair(&sound);
        let away: Vec<&str> = sound
            .iter()
            .filter(|d| !d.connected && (readers.contains(&d.id) || writers.contains(&d.id)))
            .map(|d| d.serial.as_str())
            .collect();
        if is_pair {
            return Err(Obstacle::Wait(format!(
                "a second drive, to write in while one reads: {} is not connected",
                away.join(", ")
            )));
        }
        let any: BTreeSet<i64> = readers.union(&writers).copied().collect();
        let any: Vec<&Drive> = any.iter().filter_map(|id| world.drive(*id)).collect();
        let what = match any.as_slice() {
            [] => "no drive can be used where its volumes are".to_owned(),
            [only] => format!(
                "only drive {} can be used where its volumes are",
                only.serial
            ),
            _ if readers.is_empty() => {
                format!("no drive that can be used can read volume {}", read.barcode)
            }
            _ => format!(
                "no drive that can be used can write on volume {} or any other of the pool",
                written.first().map_or("", |first| first.barcode.as_str())
            ),
        };
        return Err(Obstacle::Never(two_needed(
            &what,
            "`taf drive list` says what is wrong with the others; with one drive make a full from the source: `taf run PLAN --type full`",
        )));
    }
    Ok(())
}

/// Why such a job ends that is under way in this drive, of which it gives nothing back before its end: another job waits for a drive to
/// write in, and none but this one is left. One that does not answer, or is not connected, may come back.
pub fn cornered(copy: &Copy, drive: i64, world: &World) -> Option<Fault> {
    let written = written(copy, world);
    let sound: Vec<&Drive> = world.drives.iter().filter(|d| !d.down).collect();
    let writers = fit(&sound, &written, Access::Write);
    if writers.iter().copied().ne([drive]) {
        return None;
    }
    let serial = world.drive(drive).map_or("", |d| d.serial.as_str());
    let what = format!(
        "drive {serial}, which reads, has become the only one that can write on a volume of pool {}",
        copy.pool_name
    );
    let next = match begins(copy, world) {
        Ok(()) => {
            "ask for the synthetic full again: what it is put together from is read in another drive then"
        }
        Err(_) => {
            "`taf drive list` says what is wrong with the others; ask for the synthetic full again when one can be used, or make a full \
             from the source: `taf run PLAN --type full`"
        }
    };
    Some(two_needed(&what, next))
}

fn two_needed(what: &str, next: &str) -> Fault {
    Fault::new(
        "TWO_DRIVES_NEEDED",
        format!("a synthetic full reads in one drive and writes in another, and {what}"),
        next,
    )
}

/// What a job would be told that were to write the copy now.
fn nothing_to_write(copy: &Copy, world: &World) -> Obstacle {
    // Who has it in a library has less to do.
    let away = world.cartridges.iter().filter(|c| is_written(c, copy));
    let away = away.min_by_key(|c| (c.library.is_none(), &c.barcode));
    match away.map(|cartridge| home(cartridge, None)) {
        Some(Err(obstacle)) => obstacle,
        _ => lacking(
            &Needs::append(copy.pool, &copy.pool_name).cartridge,
            None,
            world,
        ),
    }
}

/// The drive that such a job leaves to the one that copies, as no other one that is there can write on a volume of the pool that can be
/// had now, or, if none can, on any. It keeps what no other one can read.
pub fn only_writer(copy: &Copy, world: &World) -> Option<i64> {
    let there = world.drives.iter();
    let mut there: Vec<&Drive> = there
        .filter(|d| !d.down && !d.hung && d.connected)
        .collect();
    let all = written(copy, world);
    let mut now = all.clone();
    now.retain(|c| !c.reserved && !c.twice && !c.in_mail_slot);
    let written = if now.is_empty() { all } else { now };
    let writers = fit(&there, &written, Access::Write);
    let only = writers.first().copied().filter(|_| writers.len() == 1)?;
    there.retain(|d| d.id != only);
    let mut read = shown(world).filter(|c| is_read(c, copy));
    let elsewhere = read.all(|c| !fit(&there, &[c], Access::Read).is_empty());
    elsewhere.then_some(only)
}

fn shown(world: &World) -> impl Iterator<Item = &Cartridge> {
    world.cartridges.iter().filter(|c| c.library.is_some())
}

fn is_read(cartridge: &Cartridge, copy: &Copy) -> bool {
    cartridge.volume.is_some_and(|id| copy.reads.contains(&id))
}

fn is_written(cartridge: &Cartridge, copy: &Copy) -> bool {
    cartridge.pool == Some(copy.pool) && cartridge.appendable && !is_read(cartridge, copy)
}

/// The volumes that the copy may go to, now or when somebody has put them right.
fn written<'a>(copy: &Copy, world: &'a World) -> Vec<&'a Cartridge> {
    shown(world).filter(|c| is_written(c, copy)).collect()
}

/// Those of the drives that can do this with one of the cartridges, each in its library.
fn fit(drives: &[&Drive], cartridges: &[&Cartridge], wanted: Access) -> BTreeSet<i64> {
    let can = |d: &&&Drive| {
        let here = cartridges.iter().filter(|c| c.library == d.library);
        let mut access = here.map(|c| generation::access(d.generation, c.format));
        access.any(|access| access >= wanted)
    };
    drives.iter().filter(can).map(|d| d.id).collect()
}
