//! A read assignment: the volume is proved, and the source agent gets the ranges that it asks for, forward.

use bytes::Bytes;
use std::time::Duration;

use taf_drive::{Drive, Error as DriveError, Read};
use taf_proto::agent::drive_observation::Medium;
use taf_proto::agent::report_volume_request::Verdict;
use taf_proto::agent::{
    AssignmentKey, ReadChunk, ReadDamaged, ReadRange, ReadReady, ReadRequest, ReadResponse,
    ReadWork, Recording, read_request, read_response,
};
use taf_proto::v1::Fault;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use crate::commit;
use crate::door::Visit;
use crate::fault::{fault, of_drive, peer_lost, protocol, stopped};
use crate::gauge::Gauge;
use crate::medium::{self, Wrong};
use crate::worker::drive::Surroundings;

/// Ranges that wait for the drive.
const RANGES: usize = 64;
/// Bytes of a message.
const PIECE: usize = 1 << 20;
/// Messages that are read ahead of a slow caller.
const AHEAD: usize = 8;
/// A caller that does not listen is not told for longer.
const FAREWELL: Duration = Duration::from_secs(5);
/// A block that can't be read is tried so often in all.
const TRIES: u32 = 3;

type Answers = mpsc::Sender<Result<ReadResponse, Status>>;

/// Gives ranges until the assignment is gone.
pub async fn run(
    around: &Surroundings,
    key: AssignmentKey,
    work: ReadWork,
    stop: &CancellationToken,
) -> Result<(), Fault> {
    let recording = work
        .recording
        .clone()
        .ok_or_else(|| protocol("an assignment without a recording"))?;
    around.gauge.begin(key, &recording.barcode, "mounting");
    let (device, wanted) = (around.device.clone(), recording.clone());
    let (gauge, stopping) = (around.gauge.clone(), stop.clone());
    let (proved, changes) = around
        .block(move || {
            device.work(|drive| {
                let proved = prove(drive, &wanted, &gauge, &stopping);
                Ok((proved, device.changes()))
            })
        })
        .await?;
    if let Err(wrong) = proved {
        if wrong.contradicts {
            let (uuid, why) = (&recording.recording_uuid, &wrong.fault.message);
            commit::volume(&around.link, key, uuid, Verdict::Quarantined, why).await?;
        }
        return Err(wrong.fault);
    }
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
        serve(around, &recording, changes, requests, answers, stop).await?;
    }
}

fn prove(
    drive: &mut dyn Drive,
    recording: &Recording,
    gauge: &Gauge,
    stop: &CancellationToken,
) -> Result<(), Wrong> {
    medium::mount(drive, &recording.barcode, stop)?;
    gauge.medium(Medium::Loaded);
    medium::prove(drive, recording).map(|_| ())
}

/// Gives one caller its ranges. Only a fault of drive or volume is an error: a caller that hangs up may come again.
async fn serve(
    around: &Surroundings,
    recording: &Recording,
    changes: u64,
    mut requests: Streaming<ReadRequest>,
    answers: Answers,
    stop: &CancellationToken,
) -> Result<(), Fault> {
    let _ = answers
        .send(Ok(say(read_response::Message::Ready(ReadReady {}))))
        .await;
    around.gauge.phase("reading");
    let (ranges, for_drive) = mpsc::channel(RANGES);
    let (pieces, mut from_drive) = mpsc::channel(AHEAD);
    let reading = spawn_reader(around, recording, changes, for_drive, pieces, stop);
    let asked = async move {
        while let Some(Ok(request)) = requests.next().await {
            let Some(read_request::Message::Range(range)) = request.message else {
                break;
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
    let read = reading.await.unwrap_or_else(|error| {
        Err(fault(
            "INTERNAL",
            format!("the drive's thread died: {error}"),
            "see the tape agent's log",
        ))
    });
    if stopped_early {
        return Err(stopped());
    }
    if let Err(fault) = &read {
        let last = say(read_response::Message::Fault(fault.clone()));
        let _ = tokio::time::timeout(FAREWELL, answers.send(Ok(last))).await;
    }
    read
}

fn say(message: read_response::Message) -> ReadResponse {
    ReadResponse {
        message: Some(message),
    }
}

fn spawn_reader(
    around: &Surroundings,
    recording: &Recording,
    changes: u64,
    mut ranges: mpsc::Receiver<ReadRange>,
    pieces: mpsc::Sender<ReadResponse>,
    stop: &CancellationToken,
) -> tokio::task::JoinHandle<Result<(), Fault>> {
    let (device, gauge) = (around.device.clone(), around.gauge.clone());
    let (recording, stop) = (recording.clone(), stop.clone());
    tokio::task::spawn_blocking(move || {
        device.work(|drive| {
            // It may be another cartridge by now.
            if device.changes() != changes {
                prove(drive, &recording, &gauge, &stop).map_err(|wrong| wrong.fault)?;
            }
            let mut reader = Reader {
                drive,
                barcode: recording.barcode.clone(),
                block_size: u64::from(recording.block_size),
                at: None,
                buffer: vec![0; recording.block_size as usize],
                pieces,
                gauge: gauge.clone(),
            };
            while let Some(range) = ranges.blocking_recv() {
                if !reader.range(&range)? {
                    break;
                }
            }
            Ok(())
        })
    })
}

struct Reader<'a> {
    drive: &'a mut dyn Drive,
    barcode: String,
    block_size: u64,
    /// Logical block that the tape stands before, if known.
    at: Option<u64>,
    buffer: Vec<u8>,
    pieces: mpsc::Sender<ReadResponse>,
    gauge: Gauge,
}

impl Reader<'_> {
    /// Gives a range. False if nobody takes it any more.
    fn range(&mut self, range: &ReadRange) -> Result<bool, Fault> {
        let mut offset = range.byte_offset;
        let end = range
            .byte_offset
            .checked_add(range.length)
            .ok_or_else(|| protocol("a range without end"))?;
        if range.length == 0 {
            return Ok(self.send(range.id, Bytes::new(), true));
        }
        while offset < end {
            let block = range
                .first_block
                .checked_add(offset / self.block_size)
                .ok_or_else(|| protocol("a range beyond any tape"))?;
            let skip = (offset % self.block_size) as usize;
            let wanted = (self.block_size - skip as u64).min(end - offset);
            let message = match self.block(block)? {
                Ok(length) if length >= skip + wanted as usize => {
                    let data = Bytes::copy_from_slice(&self.buffer[skip..skip + wanted as usize]);
                    self.gauge.flowed(wanted);
                    if !self.send(range.id, data, offset + wanted == end) {
                        return Ok(false);
                    }
                    offset += wanted;
                    continue;
                }
                Ok(length) => format!("block {block} has {length} bytes, fewer than it must"),
                Err(reason) => reason,
            };
            tracing::warn!(
                volume = self.barcode,
                block,
                reason = message,
                "a block is lost"
            );
            let damaged = read_response::Message::Damaged(ReadDamaged {
                id: range.id,
                length: wanted,
                reason: message,
                end: offset + wanted == end,
            });
            if self.pieces.blocking_send(say(damaged)).is_err() {
                return Ok(false);
            }
            offset += wanted;
        }
        Ok(true)
    }

    fn send(&self, id: u32, mut data: Bytes, end: bool) -> bool {
        loop {
            let piece = data.split_to(data.len().min(PIECE));
            let last = data.is_empty();
            let chunk = read_response::Message::Chunk(ReadChunk {
                id,
                data: piece,
                end: end && last,
            });
            if self.pieces.blocking_send(say(chunk)).is_err() {
                return false;
            }
            if last {
                return true;
            }
        }
    }

    /// Reads one block into the buffer: its length, or why it is lost.
    fn block(&mut self, block: u64) -> Result<Result<usize, String>, Fault> {
        let mut reason = String::new();
        for _ in 0..TRIES {
            if self.at != Some(block) {
                self.at = None;
                match self.drive.locate(block) {
                    Ok(()) => {}
                    Err(error @ (DriveError::Medium(_) | DriveError::BlankCheck(_))) => {
                        reason = error.to_string();
                        continue;
                    }
                    Err(error) => return Err(of_drive(&error, "positioning on", &self.barcode)),
                }
            }
            self.at = None;
            match self.drive.read_block(&mut self.buffer) {
                Ok(Read::Block(length)) => {
                    self.at = Some(block + 1);
                    return Ok(Ok(length));
                }
                Ok(other) => return Ok(Err(format!("there is no block {block}: {other:?}"))),
                Err(
                    error @ (DriveError::Medium(_)
                    | DriveError::BlankCheck(_)
                    | DriveError::BlockTooLarge { .. }
                    | DriveError::Other(_)),
                ) => reason = error.to_string(),
                Err(error) => return Err(of_drive(&error, "reading", &self.barcode)),
            }
        }
        Ok(Err(reason))
    }
}
