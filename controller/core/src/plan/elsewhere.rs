//! What a job needs and can't get by itself: a volume that rests in another drive. What a running job has under way may be in the
//! memory of its own drive's worker, and a job may leave a drive to another one; so the volume has to come out there.

use super::{Cartridge, Decision, Drive, Job, World, candidates};

/// Drives that are to let go of what is in them, each at most once. Only such as nobody has and nobody gets.
pub fn to_clear(jobs: &[Job], world: &World, decisions: &[Decision]) -> Vec<i64> {
    let waits = |job: &&Job| {
        let decided = |decision: &Decision| {
            matches!(decision, Decision::Wait { .. }) && decision.subject() == (job.id, job.stream)
        };
        decisions.iter().any(decided)
    };
    let mut drives: Vec<i64> = jobs
        .iter()
        .filter(waits)
        .filter_map(|job| holder(job, world, decisions))
        .collect();
    drives.sort_unstable();
    drives.dedup();
    drives
}

/// The idle drive that has what the job waits for.
fn holder(job: &Job, world: &World, decisions: &[Decision]) -> Option<i64> {
    let running = job.running.as_ref();
    let bound = running.filter(|running| running.bound);
    let own = bound.and_then(|running| running.drive);
    let library = world.drive(own.or(job.needs.leaves)?)?.library?;
    world.robot(Some(library)).ok()?;
    let granted = |cartridge: &Cartridge, drive: &Drive| {
        decisions.iter().any(|decision| match decision {
            Decision::Start { grant, .. } => {
                grant.drive == Some(drive.id) || grant.barcode.as_ref() == Some(&cartridge.barcode)
            }
            _ => false,
        })
    };
    candidates(&job.needs, running, world)
        .into_iter()
        .filter(|cartridge| !cartridge.reserved && !cartridge.twice)
        .find_map(|cartridge| {
            let drive = world.drive(cartridge.in_drive?)?;
            let idle = drive.connected && !drive.hung && !drive.busy && !drive.down;
            let other = match own {
                Some(own) => drive.id != own && drive.library == Some(library),
                None => job.needs.leaves == Some(drive.id),
            };
            (idle && other && !granted(cartridge, drive)).then_some(drive.id)
        })
}
