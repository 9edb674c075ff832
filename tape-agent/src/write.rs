//! A write assignment: the volume is proved, the source agent let in, its segments go through the ring to the drive, and each
//! part that is on tape goes to the controller.
//!
//! ```text
//! Transfer.Write → segments → ring → drive's thread → parts → journal → ledger → controller
//!       ▲────────────── durable ◄────────────────────────────────────┘
//! ```
//! The receiver reads only when the ring has room: that is the backpressure. Nothing is reported before the flush.
//!
//! Several assignments may write on one volume side by side, each with a [seat](crate::seats) at the drive and a ring of its own: the
//! drive takes a whole part of one, then of another.
//!
//! When the volume is full, or fails, the assignment ends with why, and the [transfer](crate::transfer) is parked: the next
//! assignment of the attempt goes on with it on another volume.

mod thread;

use std::sync::Arc;

use bytes::Bytes;
use taf_drive::health::{Chip, Memory};
use taf_drive::{Drive, Error as DriveError};
use taf_proto::agent::drive_observation::Medium;
use taf_proto::agent::report_volume_request::Verdict;
use taf_proto::agent::{
    AssignmentKey, Recording, WriteCommitted, WriteDone, WriteReady, WriteWork, write_response,
};
use taf_proto::v1::Fault;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::adopt;
use crate::append::{self, End, Refused, Stray};
use crate::commit;
use crate::door::{Open, Visit};
use crate::fault::{fault, is_news, of_drive, peer_lost, protocol, stopped};
use crate::indexing;
use crate::ledger::Book;
use crate::medium;
use crate::ring::Halt;
use crate::seats::Seat;
use crate::transfer::{Transfer, say};
use crate::worker::drive::Surroundings;

/// After so many volumes in a row that failed before they held a part it is the drive, and no further cartridge is tried.
const BARREN_MAX: u32 = 2;
/// News of the drive that the work on what lies behind the known end outlives.
const NEWS_MAX: u32 = 5;
/// A part ends so large a piece of the cartridge before early warning: room for the rest of a segment, a filemark, and an
/// index of the volume.
const WARNING_SHARE: u64 = 128;
/// And never more megabytes than this.
const WARNING_MEGABYTES_MAX: u64 = 1024;
/// Of a cartridge that does not tell its capacity so many.
const WARNING_MEGABYTES: u64 = 32;

/// How the work on a volume ended.
enum Ending {
    /// All of the archive is on tape.
    Whole,
    /// It goes on with another volume; why not with this one.
    NextVolume(String),
}

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
    let recording = work
        .recording
        .as_ref()
        .ok_or_else(|| protocol("an assignment without a recording"))?;
    let parked = around.parking.take(key);
    if work.continues && parked.is_none() {
        return Err(peer_lost("the archive can't go on without it"));
    }
    let seat = Arc::new(around.seats.sit(around, &recording.recording_uuid));
    let proved = seat.prove(around, key, recording, stop).await;
    // The door knows whom it let in for as long as there is work.
    let (mut transfer, _open) = match (parked, &proved) {
        (Some(parked), _) => (parked, None),
        (None, Ok(proved)) => {
            let (transfer, open) = come_in(around, key, &work, proved.floor, stop).await?;
            (transfer, Some(open))
        }
        (None, Err(fault)) => return Err(fault.clone()),
    };
    let ending = match proved {
        Ok(_) => write(around, key, &work, &seat, &mut transfer, stop).await,
        Err(fault) => turned_away(&mut transfer, fault),
    };
    let part_count = transfer
        .load
        .as_ref()
        .map_or(0, |(archive, _)| archive.number());
    match ending {
        Ok(Ending::Whole) => {
            let committed = WriteCommitted { part_count };
            transfer
                .farewell(write_response::Message::Committed(committed))
                .await;
            Ok(WriteDone {
                part_count,
                ..WriteDone::default()
            })
        }
        Ok(Ending::NextVolume(next_volume_reason)) => {
            tracing::info!(
                attempt = key.attempt,
                volume = barcode,
                reason = next_volume_reason,
                "the archive goes on with another volume"
            );
            around.parking.put(transfer);
            Ok(WriteDone {
                part_count,
                next_volume_reason,
            })
        }
        Err(fault) => {
            transfer
                .farewell(write_response::Message::Fault(fault.clone()))
                .await;
            Err(fault)
        }
    }
}

/// Waits for the source agent.
async fn come_in(
    around: &Surroundings,
    key: AssignmentKey,
    work: &WriteWork,
    floor: u64,
    stop: &CancellationToken,
) -> Result<(Transfer, Open), Fault> {
    around.gauge.phase("waiting");
    let archive = work.archive.as_ref();
    let archive = archive.and_then(|archive| Uuid::from_slice(&archive.archive_uuid).ok());
    let archive = archive.ok_or_else(|| protocol("an assignment without an archive"))?;
    let mut open = around.door.expect(key, &work.peer_agent_id, true);
    let visit = tokio::select! {
        () = stop.cancelled() => return Err(stopped()),
        visit = open.visits.recv() => visit,
    };
    let Some(Visit::Write { requests, answers }) = visit else {
        return Err(peer_lost("nobody came"));
    };
    let _ = answers
        .send(Ok(say(write_response::Message::Ready(WriteReady {}))))
        .await;
    let name = format!("{}-{archive}", key.attempt);
    let plan = around.buffering.plan(name, floor).await;
    let transfer = Transfer::begin(key, archive, &around.buffering, plan, requests, answers);
    Ok((transfer, open))
}

/// A further volume that can't be written is no reason to give up an archive: there may be others.
fn turned_away(transfer: &mut Transfer, fault: Fault) -> Result<Ending, Fault> {
    let of_volume = matches!(
        fault.reason.as_str(),
        "WRITE_PROTECTED"
            | "WRONG_VOLUME"
            | "VOLUME_TRUNCATED"
            | "POSITION_UNEXPECTED"
            | "LABEL_UNREADABLE"
            | "MEDIUM_ERROR"
            | "INCOMPATIBLE_MEDIUM"
            | "BLOCK_TOO_LARGE"
            | "CARTRIDGE_MEMORY_BAD"
            | "PARTITIONED_MEDIUM"
    );
    transfer.barren += 1;
    if of_volume && transfer.barren < BARREN_MAX {
        return Ok(Ending::NextVolume(fault.message));
    }
    Err(fault)
}

/// A volume that is proved.
#[derive(Clone, Copy)]
pub struct Proved {
    /// Where its next part begins, and the tape stands.
    pub end: End,
    /// The drive's changes then: after a further one none of it is true any more.
    pub changes: u64,
    /// From so many bytes a second on the drive streams on it.
    pub floor: u64,
}

/// Mounts and proves the volume, and finds its end. What lies behind the end that the catalog knows is made known to it first.
pub(crate) async fn prove(
    around: &Surroundings,
    key: AssignmentKey,
    recording: &Recording,
    stop: &CancellationToken,
) -> Result<Proved, Fault> {
    let mut known = recording.clone();
    let (mut first, mut news) = (true, 0);
    loop {
        let (proved, strays) = look(around, key, &known, first, stop).await?;
        if strays.is_empty() {
            return Ok(proved);
        }
        first = false;
        for stray in strays {
            match adopt::settle(around, key, &known, &stray, stop).await {
                Ok(()) => {}
                // What is settled is settled; the rest is looked for again.
                Err(fault) if is_news(&fault) && news < NEWS_MAX => {
                    news += 1;
                    break;
                }
                Err(fault) => return Err(fault),
            }
            known.next_tape_file = stray.orphan.next_tape_file;
            known.next_block = stray.orphan.next_block;
        }
    }
}

/// Mounts and proves the volume, and finds its end and the strays before it.
async fn look(
    around: &Surroundings,
    key: AssignmentKey,
    recording: &Recording,
    first: bool,
    stop: &CancellationToken,
) -> Result<(Proved, Vec<Stray>), Fault> {
    let device = around.device.clone();
    let wanted = recording.clone();
    let gauge = around.gauge.clone();
    let watch = around.watch.clone();
    let stopping = stop.clone();
    let (proved, changes) = around
        .block(move || {
            device.work(|drive| {
                let proved = medium::steadily(Problem::fault, || {
                    let show = |phase: &str| gauge.phase(phase);
                    let state = medium::mount_shown(drive, &wanted.barcode, &stopping, &show)
                        .map_err(Problem::Fault)?;
                    gauge.medium(Medium::Loaded);
                    if first {
                        watch
                            .begin(drive, key, &wanted.barcode, true)
                            .map_err(Problem::Fault)?;
                    }
                    warn_early(drive).map_err(|error| {
                        Problem::Fault(of_drive(&error, "setting up", &wanted.barcode))
                    })?;
                    medium::writable(drive, &state, &wanted.barcode).map_err(Problem::Fault)?;
                    if let Some(fault) = medium::partitioned(&state, &wanted.barcode) {
                        return Err(Problem::Volume(Verdict::ReadOnly, fault));
                    }
                    let proof = medium::prove(drive, &wanted).map_err(|wrong| {
                        if wrong.contradicts {
                            Problem::Volume(Verdict::Quarantined, wrong.fault)
                        } else {
                            Problem::Fault(wrong.fault)
                        }
                    })?;
                    if let Chip::Unreadable(why) = &proof.chip {
                        let fault = medium::bad_memory(&wanted.barcode, why);
                        return Err(Problem::Volume(Verdict::ReadOnly, fault));
                    }
                    watch.proved(state.density);
                    gauge.phase("positioning");
                    let found =
                        append::find_end(drive, &wanted).map_err(|refused| match refused {
                            Refused::Fault(fault) => Problem::Fault(fault),
                            Refused::Truncated(fault) => Problem::Volume(Verdict::ReadOnly, fault),
                        })?;
                    // What came up on the way says nothing of the writing.
                    watch.admit(drive).map_err(Problem::Fault)?;
                    Ok((found, state.density))
                });
                Ok((proved, device.changes()))
            })
        })
        .await?;
    match proved {
        Ok(((end, strays), density)) => {
            let floor = around.buffering.floor(density);
            let proved = Proved {
                end,
                changes,
                floor,
            };
            Ok((proved, strays))
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

/// Has the drive warn before its own early warning, if it can.
fn warn_early(drive: &mut dyn Drive) -> Result<(), DriveError> {
    let capacity = Memory::read(drive)?.and_then(|memory| memory.capacity);
    let megabytes = capacity
        .map_or(WARNING_MEGABYTES, |bytes| (bytes >> 20) / WARNING_SHARE)
        .min(WARNING_MEGABYTES_MAX);
    drive.set_early_warning(megabytes as u16).map(|_| ())
}

enum Problem {
    Fault(Fault),
    Volume(Verdict, Fault),
}

impl Problem {
    fn fault(&self) -> &Fault {
        match self {
            Problem::Fault(fault) | Problem::Volume(_, fault) => fault,
        }
    }
}

/// Ends the taking from a ring if the work is dropped in the middle: its thread waits for what nobody will bring.
struct HaltWhenDropped(Option<Halt>);

impl Drop for HaltWhenDropped {
    fn drop(&mut self) {
        if let Some(halt) = &self.0 {
            halt.now();
        }
    }
}

/// Writes on one volume.
async fn write(
    around: &Surroundings,
    key: AssignmentKey,
    work: &WriteWork,
    seat: &Arc<Seat>,
    transfer: &mut Transfer,
    stop: &CancellationToken,
) -> Result<Ending, Fault> {
    let Some(load) = transfer.load.take() else {
        return Err(protocol("a transfer without its ring"));
    };
    around.gauge.phase("writing");
    let parts_before = load.0.number();
    let mut halt = HaltWhenDropped(Some(load.1.halt()));
    around.gauge.watch(load.1.meter());
    let book = Book::new(key, transfer.answers.clone(), around.gauge.clone());
    let (ended, drive_ended) = oneshot::channel::<()>();
    let hand = thread::Hand {
        around: around.clone(),
        key,
        work: work.clone(),
        seat: Arc::clone(seat),
        book: Arc::clone(&book),
        stop: stop.clone(),
    };
    let writing = thread::spawn(hand, load, ended);
    let cause = tokio::select! {
        () = stop.cancelled() => Some(stopped()),
        // Its own fault comes with its thread's end.
        _ = drive_ended => None,
        // So does that of the commits. Nothing more of this archive is worth its tape.
        () = book.refused().cancelled() => None,
        failed = transfer.receiving_failed() => Some(failed),
    };
    if (cause.is_some() || book.refused().is_cancelled())
        && let Some(halt) = &halt.0
    {
        halt.now();
    }
    let written = writing.await.map_err(|error| {
        fault(
            "INTERNAL",
            format!("the drive's thread died: {error}"),
            "see the tape agent's log",
        )
    })?;
    halt.0 = None;
    around.gauge.phase("committing");
    seat.ledger().settle().await;
    let refused = book.fault();
    let reported = report(around, key, work, &written).await;
    if reported.is_ok()
        && refused.is_none()
        && let (Some((Verdict::Full, _)), Some(proved)) = (&written.verdict, seat.proved())
    {
        index(around, key, work, proved).await;
    }
    let fruitless = written.load.0.number() == parts_before;
    transfer.barren = if written.failed && fruitless {
        transfer.barren + 1
    } else {
        0
    };
    transfer.load = Some(written.load);
    // The cause before the consequence: what the drive says, then the controller, then the peer.
    let outcome = match (written.outcome, refused) {
        (Err(fault), _) | (Ok(_), Some(fault)) => Err(fault),
        (Ok(ending), None) => match (ending, cause) {
            (_, Some(fault)) => Err(fault),
            (Some(Ending::Whole), None) => all_received(transfer, stop).await,
            (Some(Ending::NextVolume(why)), None) if transfer.barren >= BARREN_MAX => Err(fault(
                "DRIVE_FAILED",
                format!(
                    "no part could be written on {BARREN_MAX} volumes one after the other: {why}"
                ),
                "look at the drive's panel, clean it, or use another drive",
            )),
            (Some(next), None) => Ok(next),
            (None, None) => Err(transfer
                .received()
                .await
                .err()
                .unwrap_or_else(|| protocol("it ended before its last segment"))),
        },
    };
    match (outcome, reported) {
        (Ok(_), Err(fault)) => Err(fault),
        (Err(fault), Err(refused)) => {
            tracing::warn!(
                reason = refused.reason,
                message = refused.message,
                "the controller does not take a report"
            );
            Err(fault)
        }
        (outcome, Ok(())) => outcome,
    }
}

/// Everything is on tape; the source agent still has to say that it was everything.
async fn all_received(transfer: &mut Transfer, stop: &CancellationToken) -> Result<Ending, Fault> {
    tokio::select! {
        () = stop.cancelled() => Err(stopped()),
        received = transfer.received() => received.map(|()| Ending::Whole),
    }
}

/// Writes the index of a volume that is full: the room behind early warning is for it. Without, the volume stays due, and the
/// parts say all that it would.
async fn index(around: &Surroundings, key: AssignmentKey, work: &WriteWork, proved: Proved) {
    let Some(recording) = &work.recording else {
        return;
    };
    let written = indexing::append(around, key, recording, proved.end, proved.changes).await;
    if let Err(fault) = written {
        tracing::warn!(
            reason = fault.reason,
            message = fault.message,
            "the full volume has no index yet"
        );
    }
}

/// Tells the controller what the volume is like now.
async fn report(
    around: &Surroundings,
    key: AssignmentKey,
    work: &WriteWork,
    written: &thread::Written,
) -> Result<(), Fault> {
    let uuid = work
        .recording
        .as_ref()
        .map_or_else(Bytes::new, |r| r.recording_uuid.clone());
    match (&written.verdict, &written.outcome) {
        (Some((verdict, why)), _) => commit::volume(&around.link, key, &uuid, *verdict, why).await,
        (None, Err(fault)) if fault.reason == "POSITION_UNEXPECTED" => {
            commit::volume(&around.link, key, &uuid, Verdict::ReadOnly, &fault.message).await
        }
        _ => Ok(()),
    }
}
