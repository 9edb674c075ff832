//! Drives that ask to be cleaned get it, as jobs of the controller's own: one each time that a drive begins to ask, when it works
//! for nobody and its library has a cleaning cartridge with uses left. Else the drive shows what it waits for.

use taf_core::plan::{self, Decision, Grant, Needs};

use super::facts::State;
use crate::services::names;
use crate::store::audit::Entry;
use crate::store::jobs::NewTask;
use crate::store::{Error, Store, Transaction, attempts, cleaning, jobs, savepoints};

/// Who asks for it.
const CREATOR: &str = "controller";

/// Begins what is due, and takes for it from `world` what others can't have then. Says whether anything was begun.
pub(super) async fn begin_on(
    tx: &Transaction<'_>,
    state: &State,
    planned: &[plan::Job],
    world: &mut plan::World,
) -> Result<bool, Error> {
    let mut begun = false;
    for drive in state.drives.values().filter(|d| d.clean_due) {
        // Who works in the background leaves it, if he has nothing under way there.
        let left = plan::without_idle(planned, world);
        let left = left.as_ref().unwrap_or(world);
        let is_free = |world: &plan::World| {
            let mut drives = world.drives.iter();
            drives.any(|d| d.id == drive.id && d.connected && !d.busy && !d.down && !d.hung)
        };
        let (free, now) = (is_free(left), is_free(world));
        // A person was quicker.
        let asked = jobs::job_active_about_on(tx, &["drive-clean"], None, Some(drive.id)).await?;
        if !free || asked.is_some() {
            continue;
        }
        let job = plan::Job {
            id: 0,
            stream: 0,
            needs: Needs::clean(drive.id),
            agent: None,
            cancel_asked: false,
            background: false,
            running: None,
        };
        let waits_for = match plan::plan(&[job], left).pop() {
            Some(Decision::Start { grant, .. }) => {
                savepoints::savepoint_begin_on(tx).await?;
                match job_on(tx, drive.id, &drive.serial, &grant, now).await {
                    Ok(()) => savepoints::savepoint_keep_on(tx).await?,
                    // Something has taken drive or cartridge; it is looked at again.
                    Err(error) if matches!(error, Error::Stale(_)) || !error.is_transient() => {
                        tracing::warn!(drive = drive.serial, %error, "a cleaning could not be begun");
                        savepoints::savepoint_undo_on(tx).await?;
                        continue;
                    }
                    Err(error) => return Err(error),
                }
                take(world, drive.id, &grant);
                begun = true;
                continue;
            }
            Some(Decision::Wait { why, .. }) => why,
            Some(Decision::Fail { fault, .. }) => format!("{}: {}", fault.message, fault.next_step),
            Some(Decision::Cancel { .. }) | None => continue,
        };
        if drive.clean_waits_for.as_deref() != Some(waits_for.as_str()) {
            tracing::warn!(
                drive = drive.serial,
                waits_for,
                "the drive asks to be cleaned"
            );
            cleaning::cleaning_waits_on(tx, drive.id, &waits_for).await?;
        }
    }
    Ok(begun)
}

/// Makes the job, and begins it if it gets all that `now`; else it waits like any other.
async fn job_on(
    tx: &Transaction<'_>,
    drive: i64,
    serial: &str,
    grant: &Grant,
    now: bool,
) -> Result<(), Error> {
    let new = NewTask {
        kind: "drive-clean",
        drive_id: Some(drive),
        ..NewTask::default()
    };
    let job = jobs::job_create_task_on(tx, &new, CREATOR).await?;
    if now {
        attempts::attempt_start_on(tx, job, 0, grant, None).await?;
        jobs::job_start_on(tx, job).await?;
    }
    cleaning::cleaning_begun_on(tx, drive).await?;
    let entry = Entry {
        actor: CREATOR,
        action: "DeviceService.CleanDrive",
        subject: &names::drive(serial),
        outcome: &format!("the drive asked for it: {}", names::job(job)),
    };
    Store::audit_add_on(&**tx, &entry).await?;
    tracing::info!(
        job,
        drive = serial,
        cartridge = grant.barcode,
        "cleans a drive that asked for it"
    );
    Ok(())
}

fn take(world: &mut plan::World, drive: i64, grant: &Grant) {
    let drives = world.drives.iter_mut().filter(|d| d.id == drive);
    drives.for_each(|d| d.busy = true);
    let cartridges = world.cartridges.iter_mut();
    let taken = cartridges.filter(|c| Some(&c.barcode) == grant.barcode.as_ref());
    taken.for_each(|c| c.reserved = true);
}
