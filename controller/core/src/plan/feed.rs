//! Whether a synthetic full can be made with the drives that there are: one reads for as long as another one writes.

use std::collections::BTreeSet;

use super::{Cartridge, Decision, Drive, World};
use crate::Fault;
use crate::generation::{self, Access};

/// Why a job that reads a version on these volumes, to be copied into a pool, does not begin: the drive that reads would be the only
/// one to write in. A drive that is only not connected is waited for. Volumes that no library shows say nothing. They are waited for by
/// whoever needs them, and so is one to write on in a pool that has none: it may come into any drive.
pub fn without_second_drive(job: i64, reads: &[i64], pool: i64, world: &World) -> Option<Decision> {
    let written = written(reads, pool, world);
    let sound: Vec<&Drive> = world.drives.iter().filter(|d| !d.down && !d.hung).collect();
    let there = sound.iter().copied().filter(|d| d.connected);
    let there: Vec<&Drive> = there.collect();
    for read in shown(world).filter(|c| is_read(c, reads)) {
        let pair = |drives: &[&Drive]| {
            let readers = fit(drives, &[read], Access::Read);
            let writers = match written.as_slice() {
                [] => {
                    let inside = drives.iter().filter(|d| d.library.is_some());
                    inside.map(|d| d.id).collect()
                }
                some => fit(drives, some, Access::Write),
            };
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
            let why = format!(
                "a second drive, to write in while one reads: {} is not connected",
                away.join(", ")
            );
            let stream = 0;
            return Some(Decision::Wait { job, stream, why });
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
        let fault = Fault::new(
            "TWO_DRIVES_NEEDED",
            format!("a synthetic full reads in one drive and writes in another, and {what}"),
            "`taf drive list` says what is wrong with the others; with one drive make a full from the source: `taf run PLAN --type full`",
        );
        let stream = 0;
        return Some(Decision::Fail { job, stream, fault });
    }
    None
}

/// The drive that such a job leaves to the one that copies, as no other one that is there can write on a volume of the pool that can be
/// had now. It keeps what no other one can read.
pub fn only_writer(reads: &[i64], pool: i64, world: &World) -> Option<i64> {
    let there = world.drives.iter();
    let mut there: Vec<&Drive> = there
        .filter(|d| !d.down && !d.hung && d.connected)
        .collect();
    let mut written = written(reads, pool, world);
    written.retain(|c| !c.reserved && !c.twice && !c.in_mail_slot);
    let writers = fit(&there, &written, Access::Write);
    let only = writers.first().copied().filter(|_| writers.len() == 1)?;
    there.retain(|d| d.id != only);
    let mut read = shown(world).filter(|c| is_read(c, reads));
    let elsewhere = read.all(|c| !fit(&there, &[c], Access::Read).is_empty());
    elsewhere.then_some(only)
}

fn shown(world: &World) -> impl Iterator<Item = &Cartridge> {
    world.cartridges.iter().filter(|c| c.library.is_some())
}

fn is_read(cartridge: &Cartridge, reads: &[i64]) -> bool {
    cartridge.volume.is_some_and(|id| reads.contains(&id))
}

/// The volumes that the copy may go to. One with both would stay for as long as the new version is kept, so none is written that is
/// read.
fn written<'a>(reads: &[i64], pool: i64, world: &'a World) -> Vec<&'a Cartridge> {
    let of_pool = shown(world).filter(|c| c.pool == Some(pool) && c.appendable);
    of_pool.filter(|c| !is_read(c, reads)).collect()
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
