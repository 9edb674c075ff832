//! Volumes on which nothing is needed any more are labelled anew when a backup has no volume of its pool: a job of the controller's
//! own, before a blank cartridge is taken.
//!
//! Nothing living is overwritten: that nothing on it is needed is asked in the transaction that gives it up, and the worker takes
//! only the recording that was given up, with its end where the catalog has it.

use std::time::Duration;

use taf_core::auto_label::{self, Stranger};
use taf_core::mount::ElementKind;
use taf_core::plan;
use uuid::Uuid;

use super::auto_label::Waits;
use super::facts::State;
use super::indexing::CREATOR;
use crate::services::names;
use crate::store::audit::Entry;
use crate::store::jobs::NewTask;
use crate::store::reuse::{self, Reusable};
use crate::store::{Error, Store, Transaction, jobs, savepoints};

/// Begins what is needed. Says what jobs of a pool wait for instead of failing, and whether anything was begun.
pub(super) async fn begin_on(
    tx: &Transaction<'_>,
    state: &State,
    jobs: &[plan::Job],
    world: &plan::World,
    after: Duration,
) -> Result<(Waits, bool), Error> {
    let (mut waits, mut begun) = (Waits::new(), false);
    for pool in auto_label::wanting(jobs, world) {
        let labelling = |v: &&crate::store::volumes::PlannedVolume| {
            v.pool_id == pool && v.state == "labelling" && v.former.is_some()
        };
        if let Some(volume) = state.volumes.values().find(labelling) {
            waits.insert(pool, labelled_first(&volume.barcode));
            continue;
        }
        let reusable = reuse::volume_list_reusable(tx, pool, after.as_secs_f64()).await?;
        let inside = inside(state, &reusable);
        let choice = auto_label::choose("*", &inside, &world.drives);
        if choice.drives_busy {
            let why = "a free drive, to label a volume anew on which nothing is needed any more";
            waits.insert(pool, why.to_owned());
        }
        let free = |one: &&Reusable| choice.cartridges.iter().any(|c| c.barcode == one.barcode);
        for one in reusable.iter().filter(free) {
            savepoints::savepoint_begin_on(tx).await?;
            match job_on(tx, one, after).await {
                Ok(true) => {
                    savepoints::savepoint_keep_on(tx).await?;
                    waits.insert(pool, labelled_first(&one.barcode));
                    begun = true;
                    break;
                }
                // By now something on it is needed.
                Ok(false) => savepoints::savepoint_keep_on(tx).await?,
                Err(error) if !error.is_transient() => {
                    tracing::warn!(volume = one.barcode, %error, "a volume could not be labelled anew");
                    savepoints::savepoint_undo_on(tx).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok((waits, begun))
}

fn labelled_first(barcode: &str) -> String {
    format!("volume {barcode}, on which nothing is needed any more, is labelled anew first")
}

/// Those that a connected library shows, as if each lay in a slot: one that rests in a drive is as good.
fn inside(state: &State, reusable: &[Reusable]) -> Vec<Stranger> {
    let mut found = super::auto_label::strangers(state);
    found.retain(|one| {
        one.kind != ElementKind::MailSlot && reusable.iter().any(|r| r.barcode == one.barcode)
    });
    for one in &mut found {
        one.kind = ElementKind::Slot;
    }
    found
}

async fn job_on(tx: &Transaction<'_>, one: &Reusable, after: Duration) -> Result<bool, Error> {
    if !reuse::volume_reuse_on(tx, one.id, after.as_secs_f64(), Uuid::new_v4()).await? {
        return Ok(false);
    }
    let new = NewTask {
        kind: "label",
        volume_id: Some(one.id),
        ..NewTask::default()
    };
    let job = jobs::job_create_task_on(tx, &new, CREATOR).await?;
    let barcode = &one.barcode;
    let entry = Entry {
        actor: CREATOR,
        action: "VolumeService.LabelVolume",
        subject: &names::volume(barcode),
        outcome: &format!(
            "nothing on it has been needed since {}, and a backup needs a volume: {}",
            one.freed_at,
            names::job(job)
        ),
    };
    Store::audit_add_on(&**tx, &entry).await?;
    tracing::info!(
        job,
        barcode,
        "labels a volume anew on which nothing is needed"
    );
    Ok(true)
}
