//! A write assignment: the volume is proved, the source agent let in, its segments go through the ring to the drive, and each
//! part that is on tape goes to the controller.
//!
//! ```text
//! Transfer.Write → segments → ring → drive's thread → parts → journal → controller
//!       ▲────────────── durable ◄──────────────────────────────────────────┘
//! ```
//! The receiver reads only when the ring has room: that is the backpressure. Nothing is reported before the flush.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use taf_format::segment::{self, Header};
use taf_proto::agent::drive_observation::Medium;
use taf_proto::agent::report_volume_request::Verdict;
use taf_proto::agent::{
    AssignmentKey, ReportOrphanRequest, WriteCommitted, WriteDone, WriteDurable, WriteReady,
    WriteRequest, WriteResponse, WriteWork, write_request, write_response,
};
use taf_proto::v1::Fault;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use crate::append::{self, End, Refused};
use crate::commit;
use crate::door::Visit;
use crate::fault::{drive_reset, fault, peer_lost, protocol, stopped};
use crate::journal::Entry;
use crate::medium;
use crate::parts::{Progress, Writer};
use crate::worker::drive::Surroundings;

/// Ring permits are of so many bytes.
const PERMIT: usize = 4096;
/// Parts on tape that wait behind the one that is being delivered. With the one that the drive's thread then holds in its hand,
/// three at most are on tape and not with the controller.
const WAITING: usize = 1;
/// A source agent that does not listen is not told for longer.
const FAREWELL: Duration = Duration::from_secs(5);
/// The writer's own word for a part that the controller refused; the controller's is better.
const COMMIT_REFUSED: &str = "COMMIT_REFUSED";

type Answers = mpsc::Sender<Result<WriteResponse, Status>>;

/// Does it all. The outcome is for the controller; the source agent is told the same.
pub async fn run(
    around: &Surroundings,
    key: AssignmentKey,
    work: WriteWork,
    stop: &CancellationToken,
) -> Result<WriteDone, Fault> {
    let barcode = work
        .recording
        .as_ref()
        .map_or("", |r| r.barcode.as_str())
        .to_owned();
    around.gauge.begin(key, &barcode, "mounting");
    let proved = prove(around, key, &work, stop).await?;
    around.gauge.phase("waiting");
    let mut open = around.door.expect(key, &work.peer_agent_id, true);
    let visit = tokio::select! {
        () = stop.cancelled() => return Err(stopped()),
        visit = open.visits.recv() => visit,
    };
    let Some(Visit::Write { requests, answers }) = visit else {
        return Err(peer_lost("nobody came"));
    };
    let outcome = transfer(around, key, work, proved, requests, &answers, stop).await;
    let last = match &outcome {
        Ok(done) => write_response::Message::Committed(WriteCommitted {
            part_count: done.part_count,
        }),
        Err(fault) => write_response::Message::Fault(fault.clone()),
    };
    // If the source agent is gone it need not hear it.
    let _ = tokio::time::timeout(FAREWELL, answers.send(Ok(say(last)))).await;
    outcome
}

fn say(message: write_response::Message) -> WriteResponse {
    WriteResponse {
        message: Some(message),
    }
}

/// A volume that is proved.
#[derive(Clone, Copy)]
struct Proved {
    /// Where its next part begins, and the tape stands.
    end: End,
    /// The drive's changes then: after a further one none of it is true any more.
    changes: u64,
}

/// Mounts and proves the volume, and finds its end.
async fn prove(
    around: &Surroundings,
    key: AssignmentKey,
    work: &WriteWork,
    stop: &CancellationToken,
) -> Result<Proved, Fault> {
    let recording = work
        .recording
        .clone()
        .ok_or_else(|| protocol("an assignment without a recording"))?;
    let device = around.device.clone();
    let wanted = recording.clone();
    let gauge = around.gauge.clone();
    let stopping = stop.clone();
    let (proved, changes) = around
        .block(move || {
            device.work(|drive| {
                let proved = (|| {
                    let state =
                        medium::mount(drive, &wanted.barcode, &stopping).map_err(Problem::Fault)?;
                    gauge.medium(Medium::Loaded);
                    if state.write_protected {
                        return Err(Problem::Fault(medium::write_protected(&wanted.barcode)));
                    }
                    medium::prove(drive, &wanted).map_err(|wrong| {
                        if wrong.contradicts {
                            Problem::Volume(Verdict::Quarantined, wrong.fault)
                        } else {
                            Problem::Fault(wrong.fault)
                        }
                    })?;
                    gauge.phase("positioning");
                    append::find_end(drive, &wanted).map_err(|refused| match refused {
                        Refused::Fault(fault) => Problem::Fault(fault),
                        Refused::Truncated(fault) => Problem::Volume(Verdict::ReadOnly, fault),
                    })
                })();
                Ok((proved, device.changes()))
            })
        })
        .await?;
    match proved {
        Ok((end, orphans)) => {
            stop.run_until_cancelled(commit::orphans(&around.link, key, orphans))
                .await
                .ok_or_else(stopped)??;
            Ok(Proved { end, changes })
        }
        Err(Problem::Fault(fault)) => Err(fault),
        Err(Problem::Volume(verdict, fault)) => {
            let (uuid, why) = (&recording.recording_uuid, &fault.message);
            let told = commit::volume(&around.link, key, uuid, verdict, why).await;
            if let Err(refused) = told {
                tracing::warn!(
                    reason = refused.reason,
                    message = refused.message,
                    "the controller does not take a report"
                );
            }
            Err(fault)
        }
    }
}

enum Problem {
    Fault(Fault),
    Volume(Verdict, Fault),
}

struct Segment {
    header: Header,
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

/// What the drive's thread leaves behind.
struct Written {
    outcome: Result<(), Fault>,
    orphan: Option<ReportOrphanRequest>,
    /// The medium's end is near.
    full: bool,
    /// A part that is on tape, for which the way to the controller was closed already.
    left: Option<Entry>,
}

async fn transfer(
    around: &Surroundings,
    key: AssignmentKey,
    work: WriteWork,
    proved: Proved,
    requests: Streaming<WriteRequest>,
    answers: &Answers,
    stop: &CancellationToken,
) -> Result<WriteDone, Fault> {
    let _ = answers
        .send(Ok(say(write_response::Message::Ready(WriteReady {}))))
        .await;
    around.gauge.phase("writing");
    let archive = work.archive.clone().unwrap_or_default();
    let recording = work.recording.clone().unwrap_or_default();
    let (segments, for_drive) = mpsc::channel::<Segment>(64);
    let (parts, for_controller) = mpsc::channel::<Entry>(WAITING);
    let (failed, drive_failed) = oneshot::channel::<()>();
    let writing = spawn_writer(around, key, work, proved, for_drive, parts, failed);
    let refused = CancellationToken::new();
    let committing = tokio::spawn(commit_all(
        around.clone(),
        for_controller,
        answers.clone(),
        refused.clone(),
    ));

    let receiver = Receiver {
        archive_uuid: archive.archive_uuid.clone(),
        ring: Arc::new(Semaphore::new((around.ring / PERMIT as u64) as usize)),
        ring_permits: (around.ring / PERMIT as u64) as u32,
        segments,
    };
    // Dropping the receiver closes the ring: the drive's thread then ends what it has.
    let received = tokio::select! {
        () = stop.cancelled() => Err(stopped()),
        // Its own fault comes with its thread's end.
        _ = drive_failed => Ok(()),
        // So does that of the commits. Nothing more of this archive is worth its tape.
        () = refused.cancelled() => Ok(()),
        received = receiver.run(requests) => received,
    };
    let written = writing.await.map_err(|e| {
        fault(
            "INTERNAL",
            format!("the drive's thread died: {e}"),
            "see the tape agent's log",
        )
    })?;
    around.gauge.phase("committing");
    let committed = committing.await.map_err(|e| {
        fault(
            "INTERNAL",
            format!("the committing task died: {e}"),
            "see the tape agent's log",
        )
    })?;
    if let Some(left) = &written.left
        && let Err(refused) = commit::deliver(&around.link, left).await
    {
        tracing::warn!(
            reason = refused.reason,
            message = refused.message,
            "a further part is refused"
        );
    }
    let reported = report(around, key, &recording.recording_uuid, &written).await;
    // The cause before the consequence: what the drive says, then the controller, then the peer.
    let outcome = match (written.outcome, committed) {
        (Err(fault), Err(cause)) if fault.reason == COMMIT_REFUSED => Err(cause),
        (Err(fault), _) | (Ok(()), Err(fault)) => Err(fault),
        (Ok(()), Ok(part_count)) => received.map(|()| part_count),
    };
    match (outcome, reported) {
        (Ok(part_count), Ok(())) => Ok(WriteDone {
            part_count,
            ..WriteDone::default()
        }),
        (Ok(_), Err(fault)) => Err(fault),
        (Err(fault), reported) => {
            if let Err(refused) = reported {
                tracing::warn!(
                    reason = refused.reason,
                    message = refused.message,
                    "the controller does not take a report"
                );
            }
            Err(fault)
        }
    }
}

/// Tells the controller what the volume is like now.
async fn report(
    around: &Surroundings,
    key: AssignmentKey,
    recording_uuid: &Bytes,
    written: &Written,
) -> Result<(), Fault> {
    if let Some(orphan) = &written.orphan {
        commit::orphans(&around.link, key, vec![orphan.clone()]).await?;
    }
    let near_end = "early warning: the end of the medium is near";
    let verdict = match &written.outcome {
        Err(fault) => match fault.reason.as_str() {
            "VOLUME_FULL" => Some((Verdict::Full, fault.message.as_str())),
            "MEDIUM_ERROR" | "POSITION_UNEXPECTED" => {
                Some((Verdict::ReadOnly, fault.message.as_str()))
            }
            _ => None,
        },
        Ok(()) => None,
    };
    let verdict = verdict.or(written.full.then_some((Verdict::Full, near_end)));
    match verdict {
        Some((verdict, why)) => {
            commit::volume(&around.link, key, recording_uuid, verdict, why).await
        }
        None => Ok(()),
    }
}

/// Commits parts in order. Returns how many. After a refusal the writing is stopped, but those that are on tape are offered all
/// the same: otherwise they would come from the journal one day, long after the next mount called them orphans.
async fn commit_all(
    around: Surroundings,
    mut parts: mpsc::Receiver<Entry>,
    answers: Answers,
    stop: CancellationToken,
) -> Result<u32, Fault> {
    let mut count = 0;
    let mut refused = None;
    while let Some(entry) = parts.recv().await {
        if let Err(fault) = commit::deliver(&around.link, &entry).await {
            parts.close();
            stop.cancel();
            refused.get_or_insert(fault);
            continue;
        }
        count += 1;
        around.gauge.committed(entry.header.byte_count);
        let durable = write_response::Message::Durable(WriteDurable {
            sequence: entry.header.last_sequence,
        });
        // The next one says more; the last word is not sent this way.
        let _ = answers.try_send(Ok(say(durable)));
    }
    refused.map_or(Ok(count), Err)
}

fn spawn_writer(
    around: &Surroundings,
    key: AssignmentKey,
    work: WriteWork,
    proved: Proved,
    mut segments: mpsc::Receiver<Segment>,
    parts: mpsc::Sender<Entry>,
    failed: oneshot::Sender<()>,
) -> tokio::task::JoinHandle<Written> {
    let around = around.clone();
    tokio::task::spawn_blocking(move || {
        let mut written = Written {
            outcome: Ok(()),
            orphan: None,
            full: false,
            left: None,
        };
        let outcome = around.device.work(|drive| {
            // Whoever took the drive's news before us has also taken the only warning.
            if around.device.changes() != proved.changes {
                return Err(drive_reset(
                    "it was reset, or its cartridge changed, since the volume was proved",
                ));
            }
            let mut writer = Writer::new(drive, &around.journal, key, &work, proved.end)?;
            let outcome = take_all(
                &around,
                &mut writer,
                &mut segments,
                &parts,
                &mut written.left,
            );
            written.full = writer.near_end();
            let why = outcome
                .as_ref()
                .err()
                .map_or("the source agent stopped", |f| f.reason.as_str());
            written.orphan = writer.abandon(why);
            outcome
        });
        written.outcome = outcome;
        // Whoever waits for room in the ring is told first.
        segments.close();
        let _ = failed.send(());
        written
    })
}

fn take_all(
    around: &Surroundings,
    writer: &mut Writer<'_>,
    segments: &mut mpsc::Receiver<Segment>,
    parts: &mpsc::Sender<Entry>,
    left: &mut Option<Entry>,
) -> Result<(), Fault> {
    let mut hand_over = |entry: Entry| {
        parts.blocking_send(entry).map_err(|unsent| {
            *left = Some(unsent.0);
            fault(
                COMMIT_REFUSED,
                "the controller refused a part of this archive",
                "the controller's log says why",
            )
        })
    };
    while let Some(segment) = segments.blocking_recv() {
        let length = segment.bytes.len() as u64;
        let progress = writer.segment(&segment.header, segment.bytes)?;
        around.gauge.flowed(length);
        match progress {
            Progress::Buffered => {}
            Progress::Part(entry) => hand_over(*entry)?,
            Progress::Full(entry) => {
                hand_over(*entry)?;
                return Err(writer.full());
            }
        }
    }
    Ok(())
}

/// Takes the source agent's messages apart into segments.
struct Receiver {
    archive_uuid: Bytes,
    ring: Arc<Semaphore>,
    ring_permits: u32,
    segments: mpsc::Sender<Segment>,
}

impl Receiver {
    async fn run(self, mut requests: Streaming<WriteRequest>) -> Result<(), Fault> {
        let mut building = BytesMut::new();
        let mut last: Option<Header> = None;
        loop {
            let message = match requests.next().await {
                Some(Ok(request)) => request.message,
                Some(Err(status)) => return Err(peer_lost(status.message())),
                None => return Err(peer_lost("it closed the stream before its end")),
            };
            match message {
                Some(write_request::Message::Chunk(chunk)) => {
                    if last.as_ref().is_some_and(|h| h.last) {
                        return Err(protocol("more behind the last segment"));
                    }
                    if building.len() + chunk.data.len() > segment_limit() {
                        return Err(protocol("a segment is larger than the format allows"));
                    }
                    building.extend_from_slice(&chunk.data);
                    if chunk.end {
                        let segment = self.segment(building.split().freeze()).await?;
                        last = Some(segment.header.clone());
                        // The drive's thread has ended: its fault is the cause.
                        if self.segments.send(segment).await.is_err() {
                            return Ok(());
                        }
                    }
                }
                Some(write_request::Message::Finish(finish)) => {
                    let whole = last
                        .as_ref()
                        .is_some_and(|h| h.last && h.sequence == finish.last_sequence);
                    if !whole || !building.is_empty() {
                        return Err(protocol("it ended before its last segment"));
                    }
                    return Ok(());
                }
                _ => return Err(protocol("an unexpected message")),
            }
        }
    }

    async fn segment(&self, bytes: Bytes) -> Result<Segment, Fault> {
        let header = segment::verify(&bytes).map_err(protocol)?;
        if header.archive_uuid.as_bytes()[..] != self.archive_uuid[..] {
            return Err(protocol("a segment of another archive"));
        }
        let permits = (bytes.len().div_ceil(PERMIT) as u32).min(self.ring_permits);
        let room = Arc::clone(&self.ring)
            .acquire_many_owned(permits)
            .await
            .map_err(|_| protocol("the ring is closed"))?;
        Ok(Segment {
            header,
            bytes,
            _room: room,
        })
    }
}

/// Bytes of the largest segment.
fn segment_limit() -> usize {
    use taf_format::limits::{RECORDS, SEGMENT_DATA};
    segment::HEADER_LEN + SEGMENT_DATA + RECORDS + 1024
}
