//! Blank cartridges labelled without being told, for pools that say so: a job of the controller's own when a backup has no volume.
//!
//! The worker takes only what it has proved to be blank. A cartridge that holds anything is known from then on, as one without a
//! label and why, and is not tried again.

use std::collections::{HashMap, HashSet};

use taf_core::auto_label::{self, Stranger};
use taf_core::plan;
use uuid::Uuid;

use super::facts::State;
use crate::services::names;
use crate::store::audit::Entry;
use crate::store::jobs::NewTask;
use crate::store::pools::AutoPool;
use crate::store::volumes::{self, PlannedVolume};
use crate::store::{Error, Store, Transaction, jobs, pools, savepoints};

/// Who asks for it.
const CREATOR: &str = "controller";

/// What jobs wait for whose pool gets a volume in this way, instead of failing, by the pool's row.
pub(super) type Waits = HashMap<i64, String>;

/// Begins what is needed, but for pools that wait for something already. Says what jobs of a pool wait for instead of failing, and
/// whether anything was begun.
pub(super) async fn begin_on(
    tx: &Transaction<'_>,
    state: &State,
    jobs: &[plan::Job],
    world: &plan::World,
    waits: &mut Waits,
) -> Result<bool, Error> {
    let mut begun = false;
    let mut wanting = auto_label::wanting(jobs, world);
    wanting.retain(|pool| !waits.contains_key(pool));
    if wanting.is_empty() {
        return Ok(begun);
    }
    let mut strangers = strangers(state);
    let barcodes: Vec<&str> = strangers.iter().map(|one| one.barcode.as_str()).collect();
    let known = volumes::barcode_list_known_on(tx, &barcodes).await?;
    strangers.retain(|one| !known.contains(&one.barcode));
    for pool in pools::pool_list_auto_on(tx).await? {
        if !wanting.contains(&pool.id) {
            continue;
        }
        // As it was when this pass began: what was decided since is for the next one.
        let labelling = |v: &&PlannedVolume| v.pool_id == pool.id && v.state == "labelling";
        if let Some(volume) = state.volumes.values().find(labelling) {
            waits.insert(pool.id, labelled_first(&volume.barcode, &pool.name));
            continue;
        }
        let choice = auto_label::choose(&pool.pattern, &strangers, jobs, world);
        if choice.drives_busy {
            let why = format!("a free drive, to label a cartridge for pool {}", pool.name);
            waits.insert(pool.id, why);
        }
        for one in choice.cartridges {
            savepoints::savepoint_begin_on(tx).await?;
            match job_on(tx, &pool, &one.barcode).await {
                Ok(true) => {
                    savepoints::savepoint_keep_on(tx).await?;
                    waits.insert(pool.id, labelled_first(&one.barcode, &pool.name));
                    begun = true;
                    break;
                }
                // By now the catalog knows it.
                Ok(false) => savepoints::savepoint_keep_on(tx).await?,
                Err(error) if !error.is_transient() => {
                    tracing::warn!(barcode = one.barcode, %error, "a cartridge could not be labelled by itself");
                    savepoints::savepoint_undo_on(tx).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(begun)
}

fn labelled_first(barcode: &str, pool: &str) -> String {
    format!("cartridge {barcode} is labelled for pool {pool} first, if it is blank")
}

/// All cartridges with a barcode that connected libraries show.
pub(super) fn strangers(state: &State) -> Vec<Stranger> {
    let mut found: Vec<Stranger> = Vec::new();
    let (mut seen, mut twice) = (HashSet::new(), HashSet::new());
    for (library, elements) in &state.elements {
        if !state.libraries.get(library).is_some_and(|l| l.connected) {
            continue;
        }
        for element in elements.iter().filter(|e| e.full) {
            let Some(barcode) = &element.barcode else {
                continue;
            };
            if !seen.insert(barcode.as_str()) {
                twice.insert(barcode.as_str());
            }
            found.push(Stranger {
                barcode: barcode.clone(),
                library: *library,
                kind: element.kind,
                twice: false,
                cleaning: state.cleanings_left(barcode).is_some(),
            });
        }
    }
    for one in &mut found {
        one.twice = twice.contains(one.barcode.as_str());
    }
    found
}

/// Makes the job, unless the catalog knows the cartridge.
async fn job_on(tx: &Transaction<'_>, pool: &AutoPool, barcode: &str) -> Result<bool, Error> {
    let fresh = (Uuid::new_v4(), Uuid::new_v4());
    let opened =
        volumes::volume_open_unknown_on(tx, barcode, pool.id, pool.block_size, fresh).await?;
    let Some(volume) = opened else {
        return Ok(false);
    };
    let new = NewTask {
        kind: "label",
        volume_id: Some(volume),
        ..NewTask::default()
    };
    let job = jobs::job_create_task_on(tx, &new, CREATOR).await?;
    let entry = Entry {
        actor: CREATOR,
        action: "VolumeService.LabelVolume",
        subject: &names::volume(barcode),
        outcome: &format!(
            "a backup needs a volume of {}, which labels blank cartridges: {}",
            names::pool(&pool.name),
            names::job(job)
        ),
    };
    Store::audit_add_on(&**tx, &entry).await?;
    tracing::info!(
        job,
        barcode,
        pool = pool.name,
        "labels a cartridge by itself, if it is blank"
    );
    Ok(true)
}
