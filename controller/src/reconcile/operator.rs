//! What operators' jobs change in the catalog.

use taf_core::Fault;
use taf_core::attempt::Verdict;
use uuid::Uuid;

use crate::services::{names, reuse};
use crate::store::attempts::LiveAttempt;
use crate::store::jobs::QueuedJob;
use crate::store::{Error, Transaction, reuse as needed, versions, volumes};

/// The drive had begun to erase and did not come to the end.
const ERASE_BEGUN: &str = "ERASE_INCOMPLETE";

/// Why a waiting job must not begin after all: since it was asked for, something came to live on its volume, or what it has went
/// elsewhere, or is about to. Only what is asked here, where one transaction follows the other, proves that not both go.
pub(super) async fn refusal_on(
    tx: &Transaction<'_>,
    job: &QueuedJob,
) -> Result<Option<Fault>, Error> {
    let (Some(volume), "erase" | "format", false) =
        (job.volume_id, job.kind.as_str(), job.task.forced)
    else {
        return Ok(None);
    };
    let living = volumes::volume_living_on(tx, volume).await?;
    let Some((line, version)) = living.versions.first() else {
        let held = needed::recordings_held(tx, &[living.recording]).await?;
        let barcode = job.cartridge.as_deref().unwrap_or_default();
        let held = held.get(&living.recording);
        let kept = held.and_then(|held| reuse::kept(barcode, held));
        return Ok(kept.map(|kept| {
            let what = format!("nothing was erased: {}", kept.what);
            Fault::new(kept.reason, what, kept.next)
        }));
    };
    Ok(Some(Fault::new(
        "VOLUME_HAS_PARTS",
        format!(
            "since this was asked for, data of {} versions came to live on the volume, {} among them; nothing was erased",
            living.versions.len(),
            names::version(*line, *version)
        ),
        "choose another volume, or give up the versions with `--force`",
    )))
}

/// An erase of a volume of the catalog has come to a verdict.
pub(super) async fn erase_decided_on(
    tx: &Transaction<'_>,
    live: &LiveAttempt,
    volume: i64,
    verdict: &Verdict,
) -> Result<(), Error> {
    match verdict {
        Verdict::Succeeded { .. } => {
            let living = volumes::volume_living_on(tx, volume).await?;
            let reason = format!("erased by {}", names::job(live.job_id));
            let barcode = live.cartridge.as_deref().unwrap_or_default();
            let lost = format!("volume {barcode} was erased by {}", names::job(live.job_id));
            versions::version_lost_on(tx, living.recording, &lost).await?;
            volumes::volume_erased_on(tx, volume, Uuid::new_v4(), &reason).await
        }
        Verdict::Failed(fault) if fault.reason == ERASE_BEGUN || fault.reason == "DRIVE_LOST" => {
            let reason = format!("an erase of it did not come to its end: {}", fault.message);
            volumes::volume_quarantine_on(tx, volume, &reason).await
        }
        // The drive may have begun; what it says to its being stopped comes too late.
        Verdict::Cancelled if live.step_kind == "work" => {
            let reason = "an erase of it was cancelled while it ran";
            volumes::volume_quarantine_on(tx, volume, reason).await
        }
        Verdict::Failed(_) | Verdict::Cancelled | Verdict::Dropped => Ok(()),
    }
}

/// The catalog does not take what came of an erase: the volume may hold nothing by now, and counts for nothing.
pub(super) async fn erase_untold_on(
    tx: &Transaction<'_>,
    volume: i64,
    why: &str,
) -> Result<(), Error> {
    let reason = format!("an erase of it may have begun, and what came of it is not known: {why}");
    volumes::volume_quarantine_on(tx, volume, &reason).await
}
