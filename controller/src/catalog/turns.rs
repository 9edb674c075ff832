//! Which volumes a stream of a restore reads next: decided by the core, and written in the transaction that looked, so that no two
//! streams get the same.

use bytes::Bytes;
use prost::Message as _;
use taf_core::recall::turn::{self, Asker, Next};
use taf_proto::agent::{self, TakeVolumesRequest, TakeVolumesResponse};
use taf_proto::v1;
use uuid::Uuid;

use super::Error;
use super::report::{self, Side};
use crate::store::assignments::Assignment;
use crate::store::attempt_volumes::ReadingDrive;
use crate::store::{Client, Store, attempt_volumes, attempts, feeds, recalls};

/// Why a drive will never give what a restore asks it for: whoever calls its worker can't tell that from a volume that is still on its
/// way.
pub fn lost(drive: &ReadingDrive) -> Option<v1::Fault> {
    let result = drive.result.as_deref();
    let result = result.and_then(|encoded| agent::Result::decode(encoded).ok());
    if let Some(result) = result {
        return result.fault;
    }
    drive.replaced.then(|| v1::Fault {
        reason: "DRIVE_LOST".into(),
        message: format!(
            "the worker of drive {} was restarted while it worked",
            drive.serial
        ),
        next_step: "run again when `taf drive` shows the drive ready".into(),
    })
}

/// A stream that has left its drive to others needs a volume again. Says whether that is news.
pub async fn want(
    client: &mut Client,
    assignment: &Assignment,
    recording: Uuid,
) -> Result<bool, Error> {
    if assignment.kind != "restore" {
        return Ok(false);
    }
    let tx = client.transaction().await?;
    let volume = attempt_volumes::volume_of_version_on(&tx, assignment.job_id, recording).await?;
    let asked = match volume {
        Some(volume) => attempts::attempt_want_on(&tx, assignment.attempt_id, volume).await?,
        None => false,
    };
    tx.commit().await?;
    Ok(asked)
}

/// Gives a stream its next volumes.
pub async fn take(
    store: &Store,
    agent: &str,
    request: &TakeVolumesRequest,
) -> Result<TakeVolumesResponse, Error> {
    let mut client = store.client().await?;
    let assignment = report::assignment(&client, request.key.as_ref(), agent, Side::Source).await?;
    let (true, Some(wanted)) = (assignment.live, &assignment.restore_request) else {
        return Err(Error::Invalid(
            "the assignment is no restore under way".into(),
        ));
    };
    let wanted = v1::RestoreVersionRequest::decode(wanted.as_slice())
        .map_err(|_| Error::Invalid("the restore can't be read".into()))?;
    let (job, attempt) = (assignment.job_id, assignment.attempt_id);
    let read: Result<Vec<Uuid>, Error> = request
        .read_recording_uuids
        .iter()
        .map(|uuid| report::uuid(uuid, "a recording"))
        .collect();
    let read = read?;
    let tx = client.transaction().await?;
    let stream = recalls::recall_lock_on(&tx, job, attempt).await?;
    let stream = stream.ok_or(Error::UnknownAssignment(attempt as u64))?;
    let all = recalls::recall_list(&tx, job, attempt).await?;
    if all.is_empty() {
        return Err(Error::Invalid(
            "it is not known what the restore reads: ask for it again".into(),
        ));
    }
    let volumes: Vec<turn::Volume> = all.iter().map(|known| known.volume).collect();
    let known = all.iter().filter(|known| read.contains(&known.recording));
    let read: Vec<i64> = known.map(|known| known.volume.id).collect();
    let drives = feeds::drive_count_usable(&tx).await?;
    let asker = Asker {
        attempt,
        further: stream > 0,
        in_place: attempt_volumes::volume_held(&tx, attempt).await?,
        read: &read,
        alone: wanted.drives == 1 || drives.usable <= 1,
    };
    let answer = match turn::next(&volumes, &asker) {
        Next::Read(ids) => {
            recalls::recall_take_on(&tx, job, attempt, &ids).await?;
            let taken = all.iter().filter(|known| ids.contains(&known.volume.id));
            TakeVolumesResponse {
                recording_uuids: taken
                    .map(|known| Bytes::copy_from_slice(known.recording.as_bytes()))
                    .collect(),
                complete: false,
            }
        }
        Next::Wait => TakeVolumesResponse::default(),
        Next::Complete => TakeVolumesResponse {
            recording_uuids: Vec::new(),
            complete: true,
        },
    };
    tx.commit().await?;
    Ok(answer)
}
