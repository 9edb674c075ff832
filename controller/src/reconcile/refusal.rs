//! Why a waiting job must not begin after all: what it was allowed for has changed since it was asked for.

use taf_core::Fault;
use taf_core::plan::Grant;

use crate::services::{gaps, names, reuse};
use crate::store::jobs::QueuedJob;
use crate::store::{Error, Store, Transaction, feeds, lines, reuse as needed, volumes};

/// Why the job ends instead.
pub(super) async fn refusal_on(
    tx: &Transaction<'_>,
    job: &QueuedJob,
    grant: &Grant,
) -> Result<Option<Fault>, Error> {
    if let Some(fault) = living_on(tx, job, grant).await? {
        return Ok(Some(fault));
    }
    if job.kind == "restore" {
        // By now another process may be there, of another release.
        let agent = Store::agent_of_incomplete_on(&**tx, job.id).await?;
        return Ok(agent.as_ref().and_then(gaps::too_old));
    }
    match job.line_id {
        Some(line) => outdated_on(tx, job.id, line).await,
        None => Ok(None),
    }
}

/// Since it was asked for that a volume is erased, something came to live on it, or what it has went elsewhere, or is about to; or the
/// cartridge was no volume then, and is one now. Only what is asked here, where one transaction follows the other, proves that not both go.
async fn living_on(
    tx: &Transaction<'_>,
    job: &QueuedJob,
    grant: &Grant,
) -> Result<Option<Fault>, Error> {
    let (Some(volume), "erase" | "format", false) = (
        grant.volume.or(job.volume_id),
        job.kind.as_str(),
        job.task.forced,
    ) else {
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

/// Why a synthetic full is not begun: what its feed reads is not the newest version any more, as after a rebuild.
async fn outdated_on(tx: &Transaction<'_>, job: i64, line: i64) -> Result<Option<Fault>, Error> {
    let Some(read) = feeds::feed_version_on(tx, job).await? else {
        return Ok(None);
    };
    let head = lines::line_lock_on(tx, line).await?.map(|line| line.head);
    Ok((head != Some(read)).then(|| Fault {
        reason: "VERSION_CHANGED".into(),
        message: format!(
            "version {read}, which was to be copied, is not the newest of its line any more"
        ),
        next_step: "ask for the synthetic full again".into(),
    }))
}
