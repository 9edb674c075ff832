//! Volumes on which nothing is needed any more are labelled anew when a backup has no volume of its pool: a job of the controller's
//! own, before a blank cartridge is taken.
//!
//! Nothing living is overwritten: that nothing on it is needed is asked in the transaction that gives it up, and the worker takes
//! only the recording that was given up, with its end where the catalog has it.

use std::collections::HashMap;
use std::time::Duration;

use taf_core::auto_label::{self, Stranger};
use taf_core::mount::ElementKind;
use taf_core::plan;
use uuid::Uuid;

use super::auto_label::Waits;
use super::facts::State;
use super::indexing::CREATOR;
use crate::services::{names, reuse as said};
use crate::store::audit::Entry;
use crate::store::jobs::NewTask;
use crate::store::reuse::{self, Held, Rested};
use crate::store::{Error, Store, Transaction, jobs, savepoints};

/// What came of looking for volumes to use again.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// What jobs of a pool wait for instead of failing.
    pub waits: Waits,
    /// What a person can do for a pool of which a volume is free, and is kept since what was on it may be needed all the same.
    pub advice: HashMap<i64, String>,
    /// Whether anything was begun.
    pub begun: bool,
}

/// Begins what is needed.
pub(super) async fn begin_on(
    tx: &Transaction<'_>,
    state: &State,
    jobs: &[plan::Job],
    world: &plan::World,
    after: Duration,
) -> Result<Found, Error> {
    let mut found = Found::default();
    let Found {
        waits,
        advice,
        begun,
    } = &mut found;
    for pool in auto_label::wanting(jobs, world) {
        let labelling = |v: &&crate::store::volumes::PlannedVolume| {
            v.pool_id == pool && v.state == "labelling" && v.former.is_some()
        };
        if let Some(volume) = state.volumes.values().find(labelling) {
            waits.insert(pool, labelled_first(&volume.barcode));
            continue;
        }
        let mut rested = reuse::volume_list_rested(tx, Some(pool), after.as_secs_f64()).await?;
        let shown = inside(state, &rested);
        rested.retain(|one| shown.iter().any(|s| s.barcode == one.barcode));
        if rested.is_empty() {
            continue;
        }
        let recordings: Vec<Uuid> = rested.iter().map(|one| one.recording).collect();
        let held = reuse::recordings_held(tx, &recordings).await?;
        let (kept, reusable): (Vec<Rested>, Vec<Rested>) = rested
            .into_iter()
            .partition(|one| held.contains_key(&one.recording));
        let inside = inside(state, &reusable);
        let choice = auto_label::choose("*", &inside, jobs, world);
        if choice.drives_busy {
            let why = "a free drive, to label a volume anew on which nothing is needed any more";
            waits.insert(pool, why.to_owned());
        }
        let free = |one: &&Rested| choice.cartridges.iter().any(|c| c.barcode == one.barcode);
        for one in reusable.iter().filter(free) {
            savepoints::savepoint_begin_on(tx).await?;
            match job_on(tx, one, after).await {
                Ok(true) => {
                    savepoints::savepoint_keep_on(tx).await?;
                    waits.insert(pool, labelled_first(&one.barcode));
                    *begun = true;
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
        if waits.contains_key(&pool) {
            continue;
        }
        let shown = self::inside(state, &kept);
        let choice = auto_label::choose("*", &shown, jobs, world);
        let fit = |one: &&Rested| {
            let known = choice.cartridges.iter().any(|c| c.barcode == one.barcode);
            known || choice.drives_busy
        };
        let kept: Vec<&Rested> = kept.iter().filter(fit).collect();
        match awaited_on(tx, &kept, &held).await? {
            Some(Awaited::Job(why)) => _ = waits.insert(pool, why),
            Some(Awaited::Person(what)) => _ = advice.insert(pool, what),
            None => {}
        }
    }
    Ok(found)
}

/// What a free volume waits for that is kept.
enum Awaited {
    /// Jobs that read copies back.
    Job(String),
    /// Somebody who does what is said.
    Person(String),
}

/// What the first of these volumes waits for that waits for jobs, else the first of all.
async fn awaited_on(
    tx: &Transaction<'_>,
    kept: &[&Rested],
    held: &HashMap<Uuid, Held>,
) -> Result<Option<Awaited>, Error> {
    let mut first = None;
    for one in kept {
        let barcode = &one.barcode;
        let Some(held) = held.get(&one.recording) else {
            continue;
        };
        if let Some(job) = reuse::copies_are_read_on(tx, one.recording).await? {
            let why = format!(
                "volume {barcode}, on which nothing is needed any more, is labelled anew when what was copied from it was read back: {}",
                names::job(job)
            );
            return Ok(Some(Awaited::Job(why)));
        }
        let kept = said::kept(barcode, held);
        first = first.or(kept.map(|kept| {
            format!(
                "or have volume {barcode} labelled anew, on which nothing is needed any more, but {}: {}",
                kept.what, kept.next
            )
        }));
    }
    Ok(first.map(Awaited::Person))
}

fn labelled_first(barcode: &str) -> String {
    format!("volume {barcode}, on which nothing is needed any more, is labelled anew first")
}

/// Those that a connected library shows, as if each lay in a slot: one that rests in a drive is as good.
fn inside(state: &State, rested: &[Rested]) -> Vec<Stranger> {
    let mut found = super::auto_label::strangers(state);
    found.retain(|one| {
        one.kind != ElementKind::MailSlot && rested.iter().any(|r| r.barcode == one.barcode)
    });
    for one in &mut found {
        one.kind = ElementKind::Slot;
    }
    found
}

async fn job_on(tx: &Transaction<'_>, one: &Rested, after: Duration) -> Result<bool, Error> {
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
