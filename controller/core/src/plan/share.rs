//! Several sources on one drive and one volume.

use super::{Drive, DriveNeed, Grant, Job, Taken, Wanted, World};

/// A volume at a drive that is being written for backups of a pool, and on which others of that pool may write beside them: the
/// drive takes a whole part of one, then of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    /// Pool.
    pub pool: i64,
    /// Volume.
    pub volume: i64,
    /// Seats that are taken, also by those that wait for their next volume.
    pub seats: Vec<u32>,
    /// So many sources share a drive at most.
    pub limit: u32,
}

/// A place for a backup on a volume that is written already, on the drive with the fewest sources.
pub(super) fn beside(job: &Job, world: &World, taken: &Taken) -> Option<Grant> {
    let places = world.drives.iter().filter_map(|drive| {
        let (others, grant) = place(drive, job, world, taken)?;
        Some((others, drive.serial.as_str(), grant))
    });
    places
        .min_by_key(|(others, serial, _)| (*others, *serial))
        .map(|(_, _, grant)| grant)
}

/// A place at this drive, and how many have one there.
fn place(drive: &Drive, job: &Job, world: &World, taken: &Taken) -> Option<(usize, Grant)> {
    let (Wanted::Append { pool, .. }, DriveNeed::Any) = (&job.needs.cartridge, job.needs.drive)
    else {
        return None;
    };
    let shared = drive.shared.as_ref().filter(|s| s.pool == *pool)?;
    let is_it = |c: &&super::Cartridge| c.volume == Some(shared.volume) && c.appendable;
    let volume = world.cartridges.iter().find(is_it)?;
    if !drive.connected || drive.hung || taken.drives.contains(&drive.id) {
        return None;
    }
    let newly = taken.seats.iter().filter(|(id, _)| *id == drive.id).count();
    let others = shared.seats.len() + newly;
    let used = |running: &super::Running| running.used.contains(&shared.volume);
    if job.running.as_ref().is_some_and(used) {
        return None;
    }
    let seat = match job.running.as_ref().and_then(|r| Some((r.drive?, r.seat))) {
        // Its archive is in the memory of its drive's worker, and it has a seat there.
        Some((own, seat)) => (own == drive.id).then_some(seat)?,
        // A further stream is there for the speed of a further drive.
        None if job.stream > 0 => return None,
        None if drive.down || others >= shared.limit as usize => return None,
        None => (1..=shared.limit).find(|seat| {
            !shared.seats.contains(seat) && !taken.seats.contains(&(drive.id, *seat))
        })?,
    };
    let grant = Grant {
        drive: Some(drive.id),
        volume: Some(shared.volume),
        barcode: Some(volume.barcode.clone()),
        library: drive.library,
        beside: Some(seat),
    };
    Some((others, grant))
}
