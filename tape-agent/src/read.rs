//! A read assignment: the volume is proved, and the source agent gets the ranges that it asks for, forward, until it asks for
//! another volume or the assignment is gone.

use std::time::Duration;

use taf_drive::health::Chip;
use taf_drive::{Drive, Error as DriveError};
use taf_proto::agent::drive_observation::Medium;
use taf_proto::agent::report_volume_request::Verdict;
use taf_proto::agent::{
    AssignmentKey, ReadDone, ReadNextVolume, ReadRange, ReadReady, ReadRequest, ReadResponse,
    ReadWork, Recording, read_request, read_response,
};
use taf_proto::v1::Fault;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use crate::commit;
use crate::door::Visit;
use crate::fault::{fault, peer_lost, stopped};
use crate::gauge::Gauge;
use crate::medium::{self, Proof, Wrong};
use crate::reader::{Reader, say};
use crate::worker::drive::Surroundings;

/// Ranges that wait for the drive.
const RANGES: usize = 64;
/// Messages that are read ahead of a slow caller.
const AHEAD: usize = 8;
/// A caller that does not listen is not told for longer.
const FAREWELL: Duration = Duration::from_secs(5);

type Answers = mpsc::Sender<Result<ReadResponse, Status>>;

/// Gives ranges until the restore goes on with another volume, or the assignment is gone.
pub async fn run(
    around: &Surroundings,
    key: AssignmentKey,
    work: ReadWork,
    stop: &CancellationToken,
) -> Result<ReadDone, Fault> {
    let recording = around.begin(key, work.recording.clone())?;
    let changes = begin(around, key, &recording, stop).await?;
    let mut open = around.door.expect(key, &work.peer_agent_id, false);
    // The source agent may come several times: what could not be had in the first forward pass is fetched in a second.
    loop {
        around.gauge.phase("waiting");
        let visit = tokio::select! {
            () = stop.cancelled() => return Err(stopped()),
            visit = open.visits.recv() => visit,
        };
        let Some(Visit::Read { requests, answers }) = visit else {
            return Err(peer_lost("nobody came"));
        };
        let next = serve(around, key, &recording, changes, requests, answers, stop).await?;
        if let Some(ReadNextVolume { recording_uuid }) = next {
            return Ok(ReadDone {
                next_recording_uuid: recording_uuid,
            });
        }
    }
}

/// A tape that is shorter than the catalog has it is written no more. The restore goes on without what is missing.
async fn report_truncated(
    around: &Surroundings,
    key: AssignmentKey,
    recording: &Recording,
    why: &str,
) {
    let told = commit::volume(
        &around.link,
        key,
        &recording.recording_uuid,
        Verdict::ReadOnly,
        why,
    );
    if let Err(refused) = told.await {
        tracing::warn!(
            reason = refused.reason,
            message = refused.message,
            "the controller does not take a report"
        );
    }
}

/// Mounts the volume and proves it. Gives the drive's changes then: after a further one none of it is true any more.
pub(crate) async fn begin(
    around: &Surroundings,
    key: AssignmentKey,
    recording: &Recording,
    stop: &CancellationToken,
) -> Result<u64, Fault> {
    let (device, wanted) = (around.device.clone(), recording.clone());
    let (gauge, watch) = (around.gauge.clone(), around.watch.clone());
    let stopping = stop.clone();
    let (proved, changes) = around
        .block(move || {
            device.work(|drive| {
                let proved = medium::steadily(
                    |wrong: &Wrong| &wrong.fault,
                    || {
                        let show = |phase: &str| gauge.phase(phase);
                        let state = medium::mount_shown(drive, &wanted.barcode, &stopping, &show)?;
                        gauge.medium(Medium::Loaded);
                        watch.begin(drive, key, &wanted.barcode, false)?;
                        let proof = medium::prove(drive, &wanted)?;
                        watch.proved(state.density);
                        Ok(proof)
                    },
                );
                Ok((proved, device.changes()))
            })
        })
        .await?;
    admit(around, key, recording, proved).await?;
    Ok(changes)
}

/// Tells the controller what the proof says of the volume. One whose memory can't be read is read all the same.
async fn admit(
    around: &Surroundings,
    key: AssignmentKey,
    recording: &Recording,
    proved: Result<Proof, Wrong>,
) -> Result<(), Fault> {
    let uuid = &recording.recording_uuid;
    match proved {
        Ok(proof) => {
            if let Chip::Unreadable(why) = proof.chip {
                let why = medium::bad_memory(&recording.barcode, &why).message;
                commit::volume(&around.link, key, uuid, Verdict::ReadOnly, &why).await?;
            }
            Ok(())
        }
        Err(wrong) => {
            if wrong.contradicts {
                let why = &wrong.fault.message;
                commit::volume(&around.link, key, uuid, Verdict::Quarantined, why).await?;
            }
            Err(wrong.fault)
        }
    }
}

/// Gets the cartridge ready again and proves that it is the one that is meant.
pub(crate) fn prove(
    drive: &mut dyn Drive,
    recording: &Recording,
    gauge: &Gauge,
    stop: &CancellationToken,
) -> Result<Proof, Wrong> {
    medium::steadily(
        |wrong: &Wrong| &wrong.fault,
        || {
            medium::mount_shown(drive, &recording.barcode, stop, &|phase| gauge.phase(phase))?;
            gauge.medium(Medium::Loaded);
            medium::prove(drive, recording)
        },
    )
}

/// Gives one caller its ranges, and says which volume it wants next, if it does. Only a fault of drive or volume is an error: a
/// caller that hangs up may come again.
async fn serve(
    around: &Surroundings,
    key: AssignmentKey,
    recording: &Recording,
    changes: u64,
    mut requests: Streaming<ReadRequest>,
    answers: Answers,
    stop: &CancellationToken,
) -> Result<Option<ReadNextVolume>, Fault> {
    let ready = ReadReady {
        recording_uuid: recording.recording_uuid.clone(),
    };
    let _ = answers
        .send(Ok(say(read_response::Message::Ready(ready))))
        .await;
    around.gauge.phase("reading");
    let (ranges, for_drive) = mpsc::channel(RANGES);
    let (pieces, mut from_drive) = mpsc::channel(AHEAD);
    let reading = spawn_reader(around, recording, changes, for_drive, pieces, stop);
    let (further, mut next) = oneshot::channel();
    let asked = async move {
        while let Some(Ok(request)) = requests.next().await {
            let range = match request.message {
                Some(read_request::Message::Range(range)) => range,
                Some(read_request::Message::NextVolume(next)) => {
                    // Nobody but us takes it.
                    let _ = further.send(next);
                    break;
                }
                _ => break,
            };
            // If the drive's thread has ended, its fault is the cause.
            if ranges.send(range).await.is_err() {
                break;
            }
        }
        drop(ranges);
        std::future::pending::<()>().await;
    };
    let caller = answers.clone();
    let given = async move {
        while let Some(piece) = from_drive.recv().await {
            if caller.send(Ok(piece)).await.is_err() {
                break;
            }
        }
    };
    // When this is over nobody takes what is read, so the drive's thread ends at its next block, however slow the caller is.
    let stopped_early = tokio::select! {
        biased;
        () = stop.cancelled() => true,
        () = given => false,
        () = asked => false,
    };
    let ended = reading.await.unwrap_or_else(|error| {
        Err(fault(
            "INTERNAL",
            format!("the drive's thread died: {error}"),
            "see the tape agent's log",
        ))
    });
    let read = match ended {
        Ok(ended) => {
            if let Some(why) = ended.truncated {
                report_truncated(around, key, recording, &why).await;
            }
            ended.outcome
        }
        Err(fault) => Err(fault),
    };
    if stopped_early {
        return Err(stopped());
    }
    if let Err(fault) = &read {
        let last = say(read_response::Message::Fault(fault.clone()));
        let _ = tokio::time::timeout(FAREWELL, answers.send(Ok(last))).await;
    }
    read.map(|()| next.try_recv().ok())
}

/// What the drive's thread leaves behind.
struct Ended {
    outcome: Result<(), Fault>,
    /// That the tape ends before what the catalog has on it.
    truncated: Option<String>,
}

fn spawn_reader(
    around: &Surroundings,
    recording: &Recording,
    changes: u64,
    mut ranges: mpsc::Receiver<ReadRange>,
    pieces: mpsc::Sender<ReadResponse>,
    stop: &CancellationToken,
) -> tokio::task::JoinHandle<Result<Ended, Fault>> {
    let (device, gauge) = (around.device.clone(), around.gauge.clone());
    let (recording, stop) = (recording.clone(), stop.clone());
    tokio::task::spawn_blocking(move || {
        device.work(|drive| {
            // It may be another cartridge by now.
            if device.changes() != changes {
                prove(drive, &recording, &gauge, &stop).map_err(|wrong| wrong.fault)?;
            }
            let again = |drive: &mut dyn Drive, _: &DriveError| {
                gauge.phase("mounting");
                let proved = prove(drive, &recording, &gauge, &stop);
                let proved = proved.map(|_| ()).map_err(|wrong| wrong.fault);
                gauge.phase("reading");
                proved
            };
            let mut reader = Reader::new(drive, &recording.barcode, recording.block_size, &again);
            let mut give = |piece: ReadResponse| {
                if let Some(read_response::Message::Chunk(chunk)) = &piece.message {
                    gauge.flowed(chunk.data.len() as u64);
                }
                pieces.blocking_send(piece).is_ok()
            };
            let mut outcome = Ok(());
            while let Some(range) = ranges.blocking_recv() {
                match reader.range(&range, &mut give) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(fault) => {
                        outcome = Err(fault);
                        break;
                    }
                }
            }
            Ok(Ended {
                outcome,
                truncated: reader.truncated().map(str::to_owned),
            })
        })
    })
}
