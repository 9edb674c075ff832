//! Verdicts on attempts, and ends of jobs, with all that follows from them in the catalog.

use std::time::Duration;

use prost::Message as _;
use taf_core::attempt::{self, Verdict};
use taf_core::catalog::Kind;
use taf_proto::{agent, v1};

use super::facts::State;
use super::indexing::CREATOR;
use super::operator;
use super::results::{backup_done, fault_of, to_proto};
use super::stage::stage;
use crate::catalog;
use crate::services::names;
use crate::store::attempts::{self, LiveAttempt};
use crate::store::verifications::How;
use crate::store::volumes::{self, Cartridge};
use crate::store::{
    Error, Transaction, archives, indexes, jobs, parts, reclaims, removals, streams, verifications,
};

/// Writes a verdict with all that follows from it in the catalog.
pub(super) async fn pronounce_on(
    tx: &Transaction<'_>,
    live: &LiveAttempt,
    verdict: &Verdict,
) -> Result<(), Error> {
    let (name, fault) = match verdict {
        Verdict::Succeeded { with_issues: false } => ("succeeded", None),
        Verdict::Succeeded { with_issues: true } => ("succeeded-with-issues", None),
        Verdict::Failed(fault) => ("failed", Some(fault)),
        Verdict::Cancelled | Verdict::Dropped => ("cancelled", None),
    };
    match (live.kind.as_str(), verdict, live.volume) {
        ("backup", Verdict::Succeeded { .. }, _) if live.stream == 0 => {
            let mut done = vec![(live.id, live.source_result.clone().unwrap_or_default())];
            done.extend(streams::stream_list_done_on(tx, live.job_id).await?);
            let done: Option<Vec<_>> = done
                .into_iter()
                .map(|(id, result)| Some((id, backup_done(Some(&result))?)))
                .collect();
            let done = done.ok_or(Error::Corrupt("a backup's result"))?;
            let (line, version, kind) = catalog::publish_on(tx, &done).await?;
            if kind == Kind::Archive {
                let volumes = verifications::version_verifiable(tx, line, version).await?;
                let of = Some((line, version));
                let how = How {
                    cause: Some(live.job_id),
                    ..How::default()
                };
                let jobs = verifications::parts_verify_on(tx, of, &volumes, how, CREATOR).await?;
                tracing::info!(job = live.job_id, ?jobs, "verifies the archive");
            }
        }
        ("backup", Verdict::Dropped, _) => {
            let archive = live.archive.as_ref().ok_or(Error::Stale("archive"))?;
            archives::archive_drop_on(tx, archive.id).await?;
        }
        ("label", Verdict::Succeeded { .. }, Some(volume)) => {
            let done = label_done(live).ok_or(Error::Corrupt("a label's result"))?;
            labelled_on(tx, live, volume.id, &done).await?;
        }
        ("label", Verdict::Failed(fault), Some(volume)) => {
            volumes::volume_unlabelled_on(tx, volume.id, &fault.message).await?;
        }
        ("label", Verdict::Cancelled, Some(volume)) => {
            volumes::volume_unlabelled_on(tx, volume.id, "the labelling was cancelled").await?;
        }
        ("erase" | "format", verdict, Some(volume)) => {
            operator::erase_decided_on(tx, live, volume.id, verdict).await?;
        }
        ("index", _, Some(volume)) => indexes::index_tried_on(tx, volume.id).await?,
        ("reclaim", Verdict::Succeeded { .. }, _) => reclaimed_on(tx, live).await?,
        _ => {}
    }
    tracing::info!(
        job = live.job_id,
        attempt = live.id,
        verdict = name,
        "attempt decided"
    );
    let encoded = fault.map(|f| to_proto(f).encode_to_vec());
    attempts::attempt_verdict_on(tx, live.id, name, encoded.as_deref()).await
}

/// A volume was reclaimed: if nothing lives on it, it is free.
async fn reclaimed_on(tx: &Transaction<'_>, live: &LiveAttempt) -> Result<(), Error> {
    let volume = live.reclaimed.ok_or(Error::Stale("volume"))?;
    let reason = format!(
        "reclaimed by {}: what lived on it was copied to other volumes",
        names::job(live.job_id)
    );
    reclaims::volume_reclaimed_on(tx, volume, &reason).await
}

/// However a reclaiming ended, what was copied is read back: the volume is not written anew before. Until its end more may come, also
/// behind its verdict.
async fn verify_copies_on(tx: &Transaction<'_>, live: &LiveAttempt) -> Result<(), Error> {
    let Some(volume) = live.reclaimed else {
        return Ok(());
    };
    let volumes = reclaims::copies_unread_on(tx, volume).await?;
    let how = How {
        cause: Some(live.job_id),
        background: true,
        ..How::default()
    };
    let jobs = verifications::parts_verify_on(tx, None, &volumes, how, CREATOR).await?;
    tracing::info!(job = live.job_id, ?jobs, "verifies copies of parts");
    Ok(())
}

fn label_done(live: &LiveAttempt) -> Option<agent::LabelDone> {
    let result = agent::Result::decode(live.drive_result.as_deref()?).ok()?;
    match result.done? {
        agent::result::Done::Label(done) => Some(done),
        _ => None,
    }
}

/// A label is on a cartridge, which may have been another volume before somebody gave it another barcode.
async fn labelled_on(
    tx: &Transaction<'_>,
    live: &LiveAttempt,
    volume: i64,
    done: &agent::LabelDone,
) -> Result<(), Error> {
    let block = i64::try_from(done.next_block).map_err(|_| Error::Corrupt("a label's result"))?;
    let cartridge = Cartridge::reported(&done.medium_serial, done.density);
    volumes::volume_labelled_on(tx, volume, block, &cartridge).await?;
    let Some(serial) = &cartridge.medium_serial else {
        return Ok(());
    };
    let barcode = live.cartridge.as_deref().unwrap_or_default();
    let reason = format!(
        "its cartridge, with serial number {serial}, bears barcode {barcode} now and was labelled as that volume"
    );
    for lost in volumes::volume_superseded_on(tx, volume, serial, &reason).await? {
        tracing::warn!(volume = lost, reason, "a volume is gone");
    }
    Ok(())
}

/// Ends an attempt with a verdict when its drive is free or lost, and with the last one of a job the job: as the first stream was
/// decided.
pub(super) async fn end_on(
    tx: &Transaction<'_>,
    state: &State,
    live: &LiveAttempt,
    lease: Duration,
) -> Result<bool, Error> {
    let drive = match live.drive_id {
        Some(id) => match state.drives.get(&id) {
            Some(drive) => Some(drive),
            None => return Ok(false),
        },
        None => None,
    };
    let lease = lease.as_millis() as u64;
    let unit = drive.map(|drive| state.drive_unit(live, drive));
    let working = live.step_kind == "work";
    let reported = live.drive_result.is_some();
    if !attempt::is_over(&stage(live), reported, unit, state.robot_unit(live), lease) {
        return Ok(false);
    }
    // A worker that was restarted delivered its journal before it connected; one that is silent may still write.
    let lost = working && !reported && unit.is_some_and(|unit| unit.same_incarnation);
    attempts::attempt_end_on(tx, live.id, lost).await?;
    if let Some(drive) = live.drive_id.filter(|_| lost) {
        attempts::attempt_drive_lost_on(tx, drive).await?;
    }
    let Some((verdict, fault)) = streams::stream_verdict_on(tx, live.job_id).await? else {
        return Ok(true);
    };
    let mut fault = (verdict == "failed").then(|| fault_of(fault.as_deref()));
    if let Some(fault) = fault.as_mut().filter(|_| live.kind == "backup") {
        let on_tape = parts::part_sum_of_job_on(tx, live.job_id).await?;
        fault.message = format!("{}; {}", fault.message, told(on_tape));
    }
    if live.kind == "reclaim" {
        verify_copies_on(tx, live).await?;
    }
    if !jobs::job_end_on(tx, live.job_id, &verdict, fault.as_ref()).await? {
        tracing::warn!(
            job = live.job_id,
            attempt = live.id,
            "the job of an attempt had ended before it"
        );
    } else if let Some(removal) = removals::removal_follow_on(tx, live.job_id).await? {
        tracing::info!(job = removal, "removes what is archived and verified");
    } else if deletes_extra(live)
        && let Some(removal) = removals::extra_follow_on(tx, live.job_id).await?
    {
        tracing::info!(job = removal, "removes what is extra at the target");
    }
    Ok(true)
}

/// Whether what is extra at the target is to be removed behind it.
fn deletes_extra(live: &LiveAttempt) -> bool {
    live.kind == "restore"
        && live
            .restore_request
            .as_deref()
            .and_then(|request| v1::RestoreVersionRequest::decode(request).ok())
            .is_some_and(|request| request.delete_extra)
}

/// What of a run that failed is on tape, for people.
fn told((parts, bytes): (i64, i64)) -> String {
    match parts {
        0 => "nothing of this run is on tape".to_owned(),
        1 => {
            format!("of this run one part with {bytes} bytes is on tape, and nothing that follows")
        }
        _ => format!(
            "of this run {parts} parts with {bytes} bytes are on tape, and nothing that follows"
        ),
    }
}
