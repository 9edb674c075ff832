//! Reports of agents: who may make one, how they are streamed, and the small ones: issues, orphans, volumes that are not as the catalog
//! has them.

use std::time::Duration;

use futures::{Stream, StreamExt as _};
use taf_proto::agent::{
    AssignmentKey, JudgePartRequest, JudgePartResponse, ReportIssuesRequest, ReportOrphanRequest,
    ReportVolumeRequest, report_volume_request::Verdict,
};
use taf_proto::path;
use tonic::Status;
use uuid::Uuid;

use super::commit::{PUBLISHED, SUPERSEDED};
use super::{Error, trust};
use crate::store::archives;
use crate::store::assignments::{self, Assignment};
use crate::store::attempt_volumes;
use crate::store::issues::{self, Issue};
use crate::store::orphans::{self, Extent};
use crate::store::{Client, Store, bigint, indexes, parts};

/// Most issues of a report.
const ISSUES: usize = 1_000;

/// Longest silence within what an agent streams.
const SILENCE: Duration = Duration::from_mins(2);

/// The next message of what an agent streams, which ends with a trailer.
pub(super) async fn next<S, M>(messages: &mut S) -> Result<M, Error>
where
    S: Stream<Item = Result<M, Status>> + Unpin,
{
    let waited = tokio::time::timeout(SILENCE, messages.next()).await;
    let message = waited
        .map_err(|_| Error::Stream(Status::deadline_exceeded("nothing came for two minutes")))?;
    let message =
        message.ok_or_else(|| Error::Stream(Status::cancelled("it ended before the trailer")))?;
    message.map_err(Error::Stream)
}

/// Which kind of agent must hold the assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The source agent.
    Source,
    /// The tape agent of the drive.
    Tape,
}

/// The assignment that a key names, if it is this agent's.
pub async fn assignment(
    client: &Client,
    key: Option<&AssignmentKey>,
    agent: &str,
    side: Side,
) -> Result<Assignment, Error> {
    let key = key.ok_or_else(|| Error::Invalid("it names no assignment".into()))?;
    let generation = key.generation.unwrap_or_default();
    let unknown = Error::UnknownAssignment(key.attempt);
    let (Ok(attempt), Ok(epoch), Ok(counter)) = (
        bigint(key.attempt),
        bigint(generation.epoch),
        bigint(generation.counter),
    ) else {
        return Err(unknown);
    };
    let found = assignments::assignment_get(client, attempt, epoch, counter)
        .await?
        .ok_or(unknown)?;
    let holder = match side {
        Side::Source => found.source_agent.as_deref(),
        Side::Tape => found.tape_agent.as_deref(),
    };
    if holder == Some(agent) {
        Ok(found)
    } else {
        Err(Error::Foreign(key.attempt))
    }
}

/// Sixteen bytes of a message as a UUID.
pub(crate) fn uuid(bytes: &[u8], what: &str) -> Result<Uuid, Error> {
    Uuid::from_slice(bytes).map_err(|_| Error::Invalid(format!("{what} is not 16 bytes")))
}

/// An agent speaks of the volumes that it was given for the attempt, of no other.
pub(super) async fn is_reserved(
    client: &Client,
    assignment: &Assignment,
    recording: Uuid,
) -> Result<(), Error> {
    if attempt_volumes::volume_is_given(client, assignment.attempt_id, recording).await? {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "recording {recording} is none that attempt {} was given",
        assignment.attempt_id
    )))
}

/// Keeps issues of an attempt, once however often they come.
pub async fn report_issues(
    store: &Store,
    agent: &str,
    request: &ReportIssuesRequest,
) -> Result<(), Error> {
    if request.issues.len() > ISSUES {
        return Err(Error::Invalid(format!("it has more than {ISSUES} issues")));
    }
    let mut client = store.client().await?;
    let assignment = assignment(&client, request.key.as_ref(), agent, Side::Source).await?;
    let first = bigint(request.first_number)?;
    if first < 1 {
        return Err(Error::Invalid("issues are numbered from 1".into()));
    }
    let mut rows = Vec::with_capacity(request.issues.len());
    for (number, issue) in (first..).zip(&request.issues) {
        let path = path::to_raw(&issue.path.clone().unwrap_or_default())
            .map_err(|error| Error::Invalid(error.to_string()))?;
        rows.push(Issue {
            attempt_id: assignment.attempt_id,
            number,
            path: path.to_vec(),
            reason: issue.reason.clone(),
            message: issue.message.clone(),
        });
    }
    let tx = client.transaction().await?;
    issues::issue_add_on(&tx, assignment.attempt_id, &rows).await?;
    tx.commit().await?;
    Ok(())
}

/// Keeps a tape file that nobody owns, and moves the end of its recording behind it.
pub async fn report_orphan(
    store: &Store,
    agent: &str,
    request: &ReportOrphanRequest,
) -> Result<(), Error> {
    let mut client = store.client().await?;
    let assignment = assignment(&client, request.key.as_ref(), agent, Side::Tape).await?;
    let recording = uuid(&request.recording_uuid, "the recording")?;
    is_reserved(&client, &assignment, recording).await?;
    let extent = Extent {
        recording,
        tape_file: bigint(request.tape_file)?,
        first_block: bigint(request.first_block)?,
        next_tape_file: bigint(request.next_tape_file)?,
        next_block: bigint(request.next_block)?,
        byte_count: 0,
    };
    add_orphan(&mut client, &extent, &request.reason).await
}

/// Whether a part that was found on tape is current.
pub async fn judge_part(
    store: &Store,
    agent: &str,
    request: &JudgePartRequest,
) -> Result<JudgePartResponse, Error> {
    let client = store.client().await?;
    let assignment = assignment(&client, request.key.as_ref(), agent, Side::Tape).await?;
    let recording = uuid(&request.recording_uuid, "the recording")?;
    is_reserved(&client, &assignment, recording).await?;
    let named = uuid(&request.archive_uuid, "the archive")?;
    let archive = archives::archive_get(&client, named).await?;
    let Some(archive) = archive else {
        let recorded = orphans::recording_get(&client, recording).await?;
        let barcode = recorded.map_or_else(String::new, |recorded| recorded.barcode);
        drop(client);
        // No archive is ever forgotten, so the catalog is not the one that it was written under.
        let sign = trust::bears_unknown(store, &barcode, named).await?;
        return Err(Error::Distrusted(sign));
    };
    let reason = match archive.state.as_str() {
        "published" => PUBLISHED,
        "staged"
            if attempt_volumes::volume_is_given(&client, archive.attempt_id, recording).await? =>
        {
            ""
        }
        "staged" => "its attempt was never given this volume",
        _ => SUPERSEDED,
    };
    let number = i32::try_from(request.part_number).unwrap_or_default();
    let known = parts::part_get(&client, archive.id, number).await?;
    // As of a copy whose place was not moved here when its worker was killed.
    let reason = match known {
        Some(_) if reason.is_empty() => "the catalog has the part in another place",
        _ => reason,
    };
    Ok(JudgePartResponse {
        current: reason.is_empty(),
        reason: reason.to_owned(),
    })
}

pub(super) async fn add_orphan(
    client: &mut Client,
    extent: &Extent,
    reason: &str,
) -> Result<(), Error> {
    if extent.next_tape_file <= extent.tape_file
        || extent.next_block <= extent.first_block
        || extent.tape_file < 1
    {
        return Err(Error::Invalid("the tape file ends before it begins".into()));
    }
    let tx = client.transaction().await?;
    let recorded = orphans::recording_get(&tx, extent.recording).await?;
    let recorded = recorded.ok_or_else(|| {
        Error::Position(format!(
            "recording {} is not in the catalog; label the cartridge",
            extent.recording
        ))
    })?;
    if orphans::orphan_exists(&tx, extent.recording, extent.tape_file).await? {
        return Ok(());
    }
    orphans::orphan_add_on(&tx, recorded.volume_id, extent, reason).await?;
    if !orphans::recording_append_on(&tx, extent).await? {
        return Err(misplaced(&recorded, extent));
    }
    tx.commit().await?;
    tracing::warn!(
        barcode = recorded.barcode,
        tape_file = extent.tape_file,
        reason,
        "recorded an orphan"
    );
    Ok(())
}

pub(super) fn misplaced(recorded: &orphans::Recorded, extent: &Extent) -> Error {
    Error::Position(format!(
        "tape file {} at block {} does not follow what the catalog knows of volume {}, which ends before tape file {} at block {}; \
         report what lies between first",
        extent.tape_file,
        extent.first_block,
        recorded.barcode,
        recorded.next_tape_file,
        recorded.next_block
    ))
}

/// Takes a volume out of use as a drive's worker found it. Only the volume of the assignment.
pub async fn report_volume(
    store: &Store,
    agent: &str,
    request: &ReportVolumeRequest,
) -> Result<(), Error> {
    let mut client = store.client().await?;
    let assignment = assignment(&client, request.key.as_ref(), agent, Side::Tape).await?;
    let recording = uuid(&request.recording_uuid, "the recording")?;
    is_reserved(&client, &assignment, recording).await?;
    let state = match request.verdict() {
        Verdict::Full | Verdict::IndexOmitted => "full",
        Verdict::ReadOnly => "read-only",
        Verdict::Quarantined => "quarantined",
        Verdict::Unspecified => return Err(Error::Invalid("it has no verdict".into())),
    };
    let tx = client.transaction().await?;
    orphans::recording_verdict_on(&tx, recording, state, &request.reason).await?;
    if request.verdict() == Verdict::IndexOmitted {
        indexes::index_omit_on(&tx, recording).await?;
    }
    tx.commit().await?;
    tracing::warn!(%recording, state, reason = request.reason, "a volume was taken out of use");
    Ok(())
}
