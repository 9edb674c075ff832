//! Whether a synthetic full can be made with the drives that there are: one reads for as long as another one writes.

use std::collections::BTreeSet;

use super::World;
use crate::Fault;

/// Why a version on these volumes can't be copied into a pool: the drive that reads would be the only one to write in. `works` says of
/// a drive whether it can be used. Volumes that no library shows say nothing; they are waited for.
pub fn lacks_second_drive(
    reads: &[i64],
    pool: i64,
    world: &World,
    works: impl Fn(i64) -> bool,
) -> Option<Fault> {
    let read = |volume: Option<i64>| volume.is_some_and(|id| reads.contains(&id));
    let shown = world.cartridges.iter().filter(|c| c.library.is_some());
    let reading: BTreeSet<_> = shown
        .clone()
        .filter(|c| read(c.volume))
        .map(|c| c.library)
        .collect();
    if reading.is_empty() {
        return None;
    }
    // A volume with both would stay for as long as the new version is kept, so none is written that is read.
    let writing = shown.filter(|c| c.pool == Some(pool) && c.appendable && !read(c.volume));
    let libraries: BTreeSet<_> = writing.map(|c| c.library).chain(reading).collect();
    let drives = world.drives.iter();
    let mut usable = drives.filter(|d| libraries.contains(&d.library) && works(d.id));
    match (usable.next(), usable.next()) {
        (Some(_), Some(_)) => None,
        (only, _) => Some(Fault::new(
            "TWO_DRIVES_NEEDED",
            format!(
                "a synthetic full reads in one drive and writes in another, and {} can be used where its volumes are",
                match only {
                    Some(drive) => format!("only drive {}", drive.serial),
                    None => "no drive".to_owned(),
                }
            ),
            "`taf drive list` says what is wrong with the others; with one drive make a full from the source: `taf run PLAN --type full`",
        )),
    }
}
