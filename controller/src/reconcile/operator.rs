//! What operators' jobs change in the catalog.

use taf_core::attempt::Verdict;
use uuid::Uuid;

use crate::services::names;
use crate::store::attempts::LiveAttempt;
use crate::store::{Error, Transaction, versions, volumes};

/// The drive had begun to erase and did not come to the end.
const ERASE_BEGUN: &str = "ERASE_INCOMPLETE";

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
