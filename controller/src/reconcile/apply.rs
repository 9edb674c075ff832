//! Decisions of the pure core, as rows.
//!
//! Each attempt and each job is decided within a savepoint of its own: a row that the catalog does not take must not hold up the
//! others, and one that it never takes fails, since nobody would ever end it else.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use prost::Message as _;
use taf_core::attempt::{Next, Verdict};
use taf_core::mount::{Move, Step};
use taf_core::plan::{Decision, Grant};
use taf_core::{Fault, attempt, plan};
use taf_proto::agent::{self, result::Done};
use uuid::Uuid;

use super::facts::State;
use super::indexing::CREATOR;
use super::results::to_proto;
use super::stage::{is_bound, stage};
use super::verdict::{end_on, pronounce_on};
use super::{
    Limits, auto_label, cleaning, distrust, indexing, inspection, operator, refusal, reuse, turns,
};
use crate::catalog;
use crate::services::names;
use crate::store::attempts::{self, LiveAttempt};
use crate::store::jobs::NewTask;
use crate::store::volumes;
use crate::store::{Error, Transaction, attempt_volumes, jobs, savepoints, streams};

/// After the catalog refused a decision for so long, what it was about fails. A refusal may be a change that came between.
const REFUSED_FOR: Duration = Duration::from_secs(5);

/// What a decision is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    Attempt(i64),
    Job(i64),
}

/// Since when the catalog has refused each decision on a subject.
pub(super) type Refused = HashMap<Subject, Instant>;

/// Decides on everything once. Says whether anything was written that changes what units are to do.
pub(super) async fn decide_on(
    tx: &Transaction<'_>,
    state: &State,
    limits: Limits,
    refused: &mut Refused,
) -> Result<bool, Error> {
    let before = std::mem::take(refused);
    let mut changed = false;
    let moves = |a: &&LiveAttempt| stage(a) == attempt::Stage::Moving;
    let mut robots: HashSet<i64> = state
        .attempts
        .iter()
        .filter(moves)
        .filter_map(|a| a.library_id)
        .collect();
    for live in &state.attempts {
        if live.verdict == "none" && state.counting.contains(&live.id) {
            continue;
        }
        savepoints::savepoint_begin_on(tx).await?;
        let outcome = attempt_on(tx, state, live, limits, &mut robots).await;
        let Some(error) = settle_on(tx, outcome, &mut changed).await? else {
            continue;
        };
        let subject = Subject::Attempt(live.id);
        if is_refused_for_good(&before, refused, subject, &error) && live.verdict == "none" {
            savepoints::savepoint_begin_on(tx).await?;
            let outcome = condemn_on(tx, live, &error).await;
            settle_on(tx, outcome, &mut changed).await?;
        }
    }
    for job in &state.queued {
        if let Some(before) = state.feed_before(job.id) {
            let why = format!(
                "another synthetic full to end, whose feed is {}",
                names::job(before.job_id)
            );
            if job.waiting_for.as_deref() != Some(why.as_str()) {
                jobs::job_wait_on(tx, job.id, &why).await?;
            }
        }
    }
    let (mut jobs, mut world) = state.planning();
    state.spare_writers(&mut jobs, &world);
    let trusted = state.trust.distrusted.is_none();
    if trusted {
        for begun in indexing::begin_on(tx, state, &jobs, limits.index_after).await? {
            changed = true;
            let taken = world.drives.iter_mut().filter(|d| d.id == begun.drive);
            taken.for_each(|drive| (drive.busy, drive.working) = (true, true));
            let taken = world.cartridges.iter_mut();
            let taken = taken.filter(|cartridge| cartridge.volume == Some(begun.volume));
            taken.for_each(|cartridge| cartridge.reserved = true);
        }
    }
    let mut begins = false;
    let ending = distrust::forsaken(state);
    for decision in ending {
        let (job, _) = decision.subject();
        jobs.retain(|other| other.id != job);
        savepoints::savepoint_begin_on(tx).await?;
        let outcome = decided_on(tx, state, decision).await;
        settle_on(tx, outcome, &mut changed).await?;
    }
    if limits.auto_clean {
        let begun = cleaning::begin_on(tx, state, &jobs, &mut world).await?;
        (changed, begins) = (changed | begun, begins | begun);
    }
    if jobs.is_empty() {
        return Ok(changed);
    }
    if trusted {
        let mut found = reuse::begin_on(tx, state, &jobs, &world, limits.reuse_after).await?;
        let waits = &mut found.waits;
        let begun = auto_label::begin_on(tx, state, &jobs, &world, waits).await?;
        let begun = begun | found.begun;
        (changed, begins) = (changed | begun, begins | begun);
        (world.coming, world.advice) = (found.waits, found.advice);
    }
    if begins {
        // It may be for a drive that such a one has idle: who gets it is for the next look, which sees what was begun.
        jobs.retain(|job| !job.is_idle());
    }
    let decisions = plan::plan(&jobs, &world);
    for drive in plan::to_clear(&jobs, &world, &decisions) {
        savepoints::savepoint_begin_on(tx).await?;
        let outcome = clear_on(tx, state, drive).await;
        settle_on(tx, outcome, &mut changed).await?;
    }
    let mut feed_begins = false;
    for decision in decisions {
        let (job, stream) = decision.subject();
        // Of several that could begin now one does; the others see it, and say so, when they are looked at again.
        if matches!(decision, Decision::Start { .. }) && state.feed(job).is_some() {
            if feed_begins {
                continue;
            }
            feed_begins = true;
        }
        if let Decision::Wait { why, .. } = &decision
            && state.known_wait(job, stream) == Some(why.as_str())
        {
            continue;
        }
        // A further stream begins or it doesn't: nobody waits for it.
        let further = stream > 0 && state.waiting_attempt(job, stream).is_none();
        if further && !matches!(decision, Decision::Start { .. }) {
            continue;
        }
        savepoints::savepoint_begin_on(tx).await?;
        let outcome = decided_on(tx, state, decision).await;
        let Some(error) = settle_on(tx, outcome, &mut changed).await? else {
            continue;
        };
        if further {
            tracing::warn!(job, stream, %error, "a further stream could not be begun");
            continue;
        }
        if is_refused_for_good(&before, refused, Subject::Job(job), &error) {
            savepoints::savepoint_begin_on(tx).await?;
            let outcome = jobs::job_end_on(tx, job, "failed", Some(&refusal(&error))).await;
            settle_on(tx, outcome, &mut changed).await?;
        }
    }
    Ok(changed)
}

/// Has a drive unload what a job needs in another one, unless it does or just could not.
async fn clear_on(tx: &Transaction<'_>, state: &State, drive: i64) -> Result<bool, Error> {
    if jobs::job_unload_tried_on(tx, drive).await? {
        return Ok(false);
    }
    let new = NewTask {
        kind: "drive-unload",
        drive_id: Some(drive),
        ..NewTask::default()
    };
    let job = jobs::job_create_task_on(tx, &new, CREATOR).await?;
    let serial = state.drives.get(&drive).map(|drive| &drive.serial);
    tracing::info!(
        job,
        drive = serial,
        "unloads a volume that a job needs in another drive"
    );
    Ok(true)
}

/// Keeps what one decision wrote, or undoes it and gives the error, if it is one of this row and not of the database.
async fn settle_on(
    tx: &Transaction<'_>,
    outcome: Result<bool, Error>,
    changed: &mut bool,
) -> Result<Option<Error>, Error> {
    match outcome {
        Ok(wrote) => {
            *changed |= wrote;
            savepoints::savepoint_keep_on(tx).await?;
            Ok(None)
        }
        Err(error)
            if matches!(error, Error::Stale(_) | Error::Timeout) || !error.is_transient() =>
        {
            savepoints::savepoint_undo_on(tx).await?;
            Ok(Some(error))
        }
        Err(error) => Err(error),
    }
}

/// Notes a refusal; true if it is time to give up.
fn is_refused_for_good(
    before: &Refused,
    refused: &mut Refused,
    subject: Subject,
    error: &Error,
) -> bool {
    let known = before.get(&subject).copied();
    let since = known.unwrap_or_else(Instant::now);
    let for_good = since.elapsed() >= REFUSED_FOR;
    if known.is_none() || for_good {
        tracing::warn!(?subject, %error, for_good, "the catalog does not take a decision");
    }
    refused.insert(subject, since);
    for_good
}

fn refusal(error: &Error) -> Fault {
    Fault::new(
        "CATALOG_REFUSED",
        format!("the catalog does not take what follows: {error}"),
        "see the controller's log, and run again",
    )
}

/// Fails an attempt whose decision the catalog does not take.
async fn condemn_on(
    tx: &Transaction<'_>,
    live: &LiveAttempt,
    error: &Error,
) -> Result<bool, Error> {
    let fault = refusal(error);
    if let (Some(volume), "label") = (live.volume, live.kind.as_str()) {
        match volumes::volume_unlabelled_on(tx, volume.id, &fault.message).await {
            // The volume's own state may be what is odd.
            Ok(()) | Err(Error::Stale(_)) => {}
            Err(error) => return Err(error),
        }
    }
    if let (Some(volume), "erase" | "format", "work") =
        (live.volume, live.kind.as_str(), live.step_kind.as_str())
    {
        operator::erase_untold_on(tx, volume.id, &fault.message).await?;
    }
    let encoded = to_proto(&fault).encode_to_vec();
    attempts::attempt_verdict_on(tx, live.id, "failed", Some(&encoded)).await?;
    Ok(true)
}

async fn attempt_on(
    tx: &Transaction<'_>,
    state: &State,
    live: &LiveAttempt,
    limits: Limits,
    robots: &mut HashSet<i64>,
) -> Result<bool, Error> {
    if live.verdict != "none" {
        return end_on(tx, state, live, limits.lease).await;
    }
    if let Some(verdict) = distrust::verdict(state, live) {
        pronounce_on(tx, live, &verdict).await?;
        return Ok(true);
    }
    let Some(facts) = state.about(live, limits, robots) else {
        return Err(Error::Stale("attempt's drive or volume"));
    };
    let next = attempt::next(&facts);
    // What an attempt without a volume waits for is the planner's to say.
    let without_volume = matches!(facts.stage, attempt::Stage::WithoutVolume { .. });
    let why = match &next {
        Next::Pause(why) => Some(why.as_str()),
        _ => None,
    };
    if !without_volume && live.waiting_for.as_deref() != why {
        attempts::attempt_wait_on(tx, live.id, why).await?;
    }
    match next {
        Next::Stay | Next::Pause(_) => return Ok(false),
        Next::Step(step) => {
            let library = state
                .library_of(live)
                .map(|l| l.id)
                .filter(|_| step.is_robots());
            begin_step_on(tx, live, &step, library).await?;
            robots.extend(library);
        }
        Next::ChangeVolume => leave_volume_on(tx, live).await?,
        Next::Verdict(Verdict::Succeeded { .. }) if live.kind == "inspect" => {
            let verdict = inspection::verdict_on(tx, state, live).await?;
            pronounce_on(tx, live, &verdict).await?;
        }
        Next::Verdict(verdict) => pronounce_on(tx, live, &verdict).await?,
    }
    Ok(true)
}

async fn decided_on(
    tx: &Transaction<'_>,
    state: &State,
    decision: Decision,
) -> Result<bool, Error> {
    match decision {
        Decision::Wait { job, stream, why } => {
            match state.waiting_attempt(job, stream) {
                Some(live) => {
                    attempts::attempt_wait_on(tx, live.id, Some(&why)).await?;
                    // Who has nothing in memory there holds no drive while it waits: others may need it, or what is in it.
                    if live.drive_id.is_some() && !is_bound(live) {
                        attempts::attempt_drive_leave_on(tx, live.id).await?;
                        return Ok(true);
                    }
                }
                None => jobs::job_wait_on(tx, job, &why).await?,
            }
            return Ok(false);
        }
        Decision::Start { job, stream, grant } => start_on(tx, state, job, stream, &grant).await?,
        Decision::Fail { job, fault, .. } => {
            tracing::warn!(
                job,
                reason = fault.reason,
                message = fault.message,
                "job failed"
            );
            forget_label_on(tx, state, job, &fault.message).await?;
            jobs::job_end_on(tx, job, "failed", Some(&fault)).await?;
        }
        Decision::Cancel { job } => {
            forget_label_on(tx, state, job, "the labelling was cancelled").await?;
            jobs::job_end_on(tx, job, "cancelled", None).await?;
        }
    }
    Ok(true)
}

/// A label job that ends before it began leaves its volume without a label.
async fn forget_label_on(
    tx: &Transaction<'_>,
    state: &State,
    job: i64,
    why: &str,
) -> Result<(), Error> {
    if let Some(volume) = state
        .queued_job(job)
        .filter(|j| j.kind == "label")
        .and_then(|j| j.volume_id)
    {
        volumes::volume_unlabelled_on(tx, volume, why).await?;
    }
    Ok(())
}

async fn start_on(
    tx: &Transaction<'_>,
    state: &State,
    job: i64,
    stream: i32,
    grant: &Grant,
) -> Result<(), Error> {
    if let Some(live) = state.waiting_attempt(job, stream) {
        let (Some(drive), Some(volume)) = (grant.drive, grant.volume) else {
            return Err(Error::Stale("attempt's drive or volume"));
        };
        attempts::attempt_volume_next_on(tx, live.id, drive, volume, grant.beside).await?;
        tracing::info!(
            job,
            attempt = live.id,
            drive,
            volume,
            "goes on with a further volume"
        );
        return Ok(());
    }
    if stream > 0 {
        return join_on(tx, state, job, stream, grant).await;
    }
    let Some(queued) = state.queued_job(job) else {
        return Ok(());
    };
    if let Some(fault) = refusal::refusal_on(tx, queued, grant).await? {
        tracing::warn!(
            job,
            reason = fault.reason,
            message = fault.message,
            "job failed"
        );
        jobs::job_end_on(tx, job, "failed", Some(&fault)).await?;
        return Ok(());
    }
    let agent = queued.agent.as_ref().map(|(id, _, _)| *id);
    let attempt = attempts::attempt_start_on(tx, job, 0, grant, agent).await?;
    if let (Some(line), Some(asked)) = (queued.line_id, &queued.asked_kind) {
        let asked = catalog::kind(asked)?;
        let opened = catalog::open_version_on(tx, line, attempt, job, asked).await?;
        if grant.drive.is_none() && !opened.opening.begins_alone() {
            // What it was to be compared with has gone since it was planned; it is planned again.
            return Err(Error::Stale("base"));
        }
        jobs::job_opens_on(tx, job, &opened.opening).await?;
    }
    jobs::job_start_on(tx, job).await?;
    tracing::info!(job, attempt, ?grant, "job started");
    Ok(())
}

/// A further stream of a job that is under way begins.
async fn join_on(
    tx: &Transaction<'_>,
    state: &State,
    job: i64,
    stream: i32,
    grant: &Grant,
) -> Result<(), Error> {
    let first = state.first_of(job).ok_or(Error::Stale("attempt"))?;
    if first.kind == "restore" {
        let attempt = turns::join_on(tx, state, first, stream, grant).await?;
        tracing::info!(job, attempt, stream, ?grant, "a further stream begins");
        return Ok(());
    }
    let (Some(line), Some(archive)) = (first.line_id, &first.archive) else {
        return Err(Error::Stale("archive"));
    };
    // It may have been decided since the state was loaded.
    if !streams::stream_may_join_on(tx, job).await? {
        return Err(Error::Stale("attempt"));
    }
    let agent = first.source.as_ref().map(|source| source.id);
    let attempt = attempts::attempt_start_on(tx, job, stream, grant, agent).await?;
    catalog::open_stream_on(tx, line, archive.version, attempt).await?;
    tracing::info!(job, attempt, stream, ?grant, "a further stream begins");
    Ok(())
}

/// The volume at hand is done with; another one is needed.
async fn leave_volume_on(tx: &Transaction<'_>, live: &LiveAttempt) -> Result<(), Error> {
    let done = live
        .drive_result
        .as_deref()
        .and_then(|encoded| agent::Result::decode(encoded).ok())
        .and_then(|result| result.done);
    let mut bound = is_bound(live);
    let (wanted, why) = match done {
        Some(Done::Reclaim(done)) => {
            // What waits in the worker's spool is lost with it.
            bound = done.collected;
            let reads = live.reclaimed.filter(|_| !done.collected);
            (reads, done.next_volume_reason)
        }
        Some(Done::Read(read)) if read.next_recording_uuid.is_empty() => {
            let why = "other streams of the restore are at work".to_owned();
            tracing::info!(
                job = live.job_id,
                attempt = live.id,
                why,
                "leaves its drive"
            );
            attempts::attempt_volume_leave_on(tx, live.id, None, false).await?;
            return attempts::attempt_drive_leave_on(tx, live.id).await;
        }
        Some(Done::Read(read)) => {
            let recording = Uuid::from_slice(&read.next_recording_uuid)
                .map_err(|_| Error::Corrupt("the recording that a restore asks for"))?;
            let wanted = attempt_volumes::volume_of_version_on(tx, live.job_id, recording).await?;
            let wanted = wanted.ok_or(Error::Corrupt("the volume that a restore asks for"))?;
            (Some(wanted), "the restore needs another volume".to_owned())
        }
        Some(Done::Write(written)) => (None, written.next_volume_reason),
        _ => return Err(Error::Corrupt("a drive's result")),
    };
    tracing::info!(
        job = live.job_id,
        attempt = live.id,
        why,
        "has done with its volume"
    );
    attempts::attempt_volume_leave_on(tx, live.id, wanted, bound).await
}

async fn begin_step_on(
    tx: &Transaction<'_>,
    live: &LiveAttempt,
    step: &Step,
    library: Option<i64>,
) -> Result<(), Error> {
    let encode = |m: &Move| {
        agent::MoveWork {
            barcode: m.barcode.clone(),
            from_address: m.from,
            to_address: m.to,
        }
        .encode_to_vec()
    };
    let (kind, detail) = match step {
        Step::Unload => ("unload", None),
        Step::Clear(m) => ("clear", Some(encode(m))),
        Step::Mount(m) => ("mount", Some(encode(m))),
        Step::Carry(m) => ("carry", Some(encode(m))),
        Step::Clean => ("clean", None),
        Step::Scan => ("scan", None),
        Step::Work => ("work", None),
    };
    attempts::attempt_step_on(tx, live.id, kind, detail.as_deref(), library).await
}
