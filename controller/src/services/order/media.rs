//! Orders about what is on a cartridge: it is made blank, looked at, or taken into the catalog.

use tonic::Status;
use uuid::Uuid;

use super::{Made, for_data_on, is_inside_on, is_kept_on, is_trusted_on, one_on};
use crate::reconcile::Outlook;
use crate::services::{names, reuse, status};
use crate::store::attempts::Task;
use crate::store::jobs::{self, NewTask};
use crate::store::reuse::{self as needed, Held};
use crate::store::volumes::{self, VolumeRow};
use crate::store::{Transaction, versions};

pub(super) async fn erase_on(
    tx: &Transaction<'_>,
    barcode: &str,
    (format, thorough, force): (bool, bool, bool),
    actor: &str,
) -> Result<Vec<Made>, Status> {
    let volume = volumes::volume_get(tx, barcode).await?;
    match &volume {
        Some(volume) if !format && is_gone(volume) => return give_up_on(tx, volume, force).await,
        _ => is_inside_on(tx, barcode).await?,
    }
    for_data_on(tx, barcode).await?;
    if !force {
        is_trusted_on(tx, barcode).await?;
    }
    is_kept_on(tx, barcode, &["erase", "format", "label"]).await?;
    let mut lost = Vec::new();
    if let Some(volume) = &volume {
        lost = volumes::volume_living_on(tx, volume.id).await?.versions;
        if !force {
            let recording = volume.recording_uuid;
            let held = needed::recordings_held(tx, &[recording]).await?;
            if let Some(why) = keeps(volume, &lost, held.get(&recording)) {
                return Err(why);
            }
        }
    }
    let new = NewTask {
        kind: if format { "format" } else { "erase" },
        volume_id: volume.map(|v| v.id),
        cartridge: Some(barcode),
        task: Task {
            thorough,
            forced: force,
            ..Task::default()
        },
        ..NewTask::default()
    };
    let made = Made {
        barcode: barcode.to_owned(),
        lost,
        ..Made::default()
    };
    one_on(tx, &new, made, actor).await
}

/// Whether a living volume is nowhere, as far as is known.
fn is_gone(volume: &VolumeRow) -> bool {
    volume.library_id.is_none()
        && volume.reserved_by.is_none()
        && !matches!(volume.state.as_str(), "labelling" | "unlabelled")
}

/// A volume is lost, or was destroyed: what the catalog has of it is not there any more. If it turns up all the same, it is taken in
/// like a cartridge that the catalog does not know.
async fn give_up_on(
    tx: &Transaction<'_>,
    volume: &VolumeRow,
    force: bool,
) -> Result<Vec<Made>, Status> {
    let barcode = &volume.barcode;
    if !force {
        return Err(status::precondition(
            "CARTRIDGE_NOT_IN_LIBRARY",
            format!(
                "no library shows volume {barcode}: put it into a slot; if it is lost, `taf volume erase {barcode} --force` gives up what is on it"
            ),
        ));
    }
    let living = volumes::volume_living_on(tx, volume.id).await?;
    let gone = format!("volume {barcode} was given up as lost");
    versions::version_lost_on(tx, living.recording, &gone).await?;
    let reason = "given up as lost, while no library showed it";
    volumes::volume_erased_on(tx, volume.id, Uuid::new_v4(), reason).await?;
    jobs::job_cancel_of_volume_on(tx, volume.id).await?;
    let step = format!("give up volume {barcode}, which no library shows, and all that is on it");
    Ok(vec![Made {
        job: None,
        barcode: barcode.clone(),
        lost: living.versions,
        outlook: Some(Outlook {
            steps: vec![step],
            ..Outlook::default()
        }),
        ..Made::default()
    }])
}

pub(super) async fn inspect_on(
    tx: &Transaction<'_>,
    barcode: &str,
    actor: &str,
) -> Result<Vec<Made>, Status> {
    let volume = volumes::volume_get(tx, barcode).await?;
    let volume = volume.ok_or_else(|| status::not_found(&names::volume(barcode)))?;
    let kinds = ["inspect", "erase", "format", "label"];
    if let Some(job) = jobs::job_active_about_on(tx, &kinds, Some(barcode), None).await? {
        return Err(status::precondition(
            "VOLUME_BUSY",
            format!(
                "{} inspects or writes {barcode} already: wait for it",
                names::job(job)
            ),
        ));
    }
    let new = NewTask {
        kind: "inspect",
        volume_id: Some(volume.id),
        ..NewTask::default()
    };
    let made = Made {
        barcode: barcode.to_owned(),
        ..Made::default()
    };
    one_on(tx, &new, made, actor).await
}

pub(super) async fn rescan_on(
    tx: &Transaction<'_>,
    barcode: &str,
    actor: &str,
) -> Result<Vec<Made>, Status> {
    is_inside_on(tx, barcode).await?;
    for_data_on(tx, barcode).await?;
    let kinds = ["rescan", "erase", "format", "label"];
    if let Some(job) = jobs::job_active_about_on(tx, &kinds, Some(barcode), None).await? {
        return Err(status::precondition(
            "VOLUME_BUSY",
            format!(
                "{} reads or writes all of {barcode} already: wait for it",
                names::job(job)
            ),
        ));
    }
    let volume = volumes::volume_get(tx, barcode).await?;
    let new = NewTask {
        kind: "rescan",
        volume_id: volume.map(|volume| volume.id),
        cartridge: Some(barcode),
        ..NewTask::default()
    };
    let made = Made {
        barcode: barcode.to_owned(),
        ..Made::default()
    };
    one_on(tx, &new, made, actor).await
}

/// Why a volume is not erased without force.
fn keeps(volume: &VolumeRow, living: &[(i64, i64)], held: Option<&Held>) -> Option<Status> {
    let barcode = &volume.barcode;
    if let Some((line, version)) = living.first() {
        return Some(status::precondition(
            "VOLUME_HAS_PARTS",
            format!(
                "volume {barcode} holds parts of {} versions, {} among them: choose another, or give them up with --force",
                living.len(),
                names::version(*line, *version)
            ),
        ));
    }
    if let Some(kept) = held.and_then(|held| reuse::kept(barcode, held)) {
        let reuse::Kept { reason, what, next } = kept;
        let message = format!("volume {barcode} is not erased: {what}: {next}");
        return Some(status::precondition(reason, message));
    }
    (volume.state == "quarantined").then(|| {
        status::precondition(
            "VOLUME_QUARANTINED",
            format!(
                "volume {barcode} is quarantined ({}): look at it with `taf volume show {barcode}`; only --force erases it",
                volume.state_reason.as_deref().unwrap_or("no reason is known")
            ),
        )
    })
}
