//! A source agent's transfer, and where it waits between two volumes.
//!
//! A transfer outlives the work on one volume: while the controller has the full cartridge taken out and the next one brought,
//! the connection, the ring and the state of the archive are *parked* in the worker. They end with the connection, with
//! work for another attempt, or with the process; the controller then hears of it from the source agent or by the worker's new
//! incarnation, and the attempt fails. What is committed stays.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use taf_format::limits::SEGMENT_STORED;
use taf_format::segment::{self, Header};
use taf_proto::agent::{AssignmentKey, WriteRequest, WriteResponse, write_request, write_response};
use taf_proto::v1::Fault;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::AbortOnDropHandle;
use tonic::{Status, Streaming};
use uuid::Uuid;

use crate::buffering::{Buffering, Share};
use crate::fault::{fault, peer_lost, protocol};
use crate::parts::Archive;
use crate::ring::{self, Inlet, Outlet, Segment};

/// A source agent that does not listen is not told for longer.
const FAREWELL: Duration = Duration::from_secs(5);

/// Where answers go.
pub type Answers = mpsc::Sender<Result<WriteResponse, Status>>;

/// An archive on its way.
pub struct Transfer {
    /// Attempt and generation.
    pub key: AssignmentKey,
    /// What is on tape, and what has come and is not safe; the drive's thread has it while it writes.
    pub load: Option<(Archive, Outlet)>,
    /// Where answers go.
    pub answers: Answers,
    /// Volumes in a row that failed before a part was on them.
    pub barren: u32,
    receiving: Option<AbortOnDropHandle<Result<(), Fault>>>,
    received: Result<(), Fault>,
    /// Its part of the memory for rings.
    _share: Share,
    /// Cancelled when the source agent was lost, or the transfer is dropped.
    over: CancellationToken,
    _over: DropGuard,
}

/// An answer.
pub fn say(message: write_response::Message) -> WriteResponse {
    WriteResponse {
        message: Some(message),
    }
}

impl Transfer {
    /// Begins to receive.
    pub fn begin(
        key: AssignmentKey,
        archive_uuid: Uuid,
        buffering: &Buffering,
        plan: ring::Plan,
        requests: Streaming<WriteRequest>,
        answers: Answers,
    ) -> Transfer {
        let (inlet, outlet) = ring::ring(plan);
        let share = buffering.share(outlet.limit());
        let receiver = Receiver {
            archive_uuid,
            inlet,
            answers: answers.clone(),
        };
        let over = CancellationToken::new();
        let lost = over.clone();
        let receiving = AbortOnDropHandle::new(tokio::spawn(async move {
            let received = receiver.run(requests).await;
            if received.is_err() {
                lost.cancel();
            }
            received
        }));
        Transfer {
            key,
            load: Some((Archive::new(archive_uuid), outlet)),
            answers,
            barren: 0,
            receiving: Some(receiving),
            received: Ok(()),
            _share: share,
            _over: over.clone().drop_guard(),
            over,
        }
    }

    /// Waits until the source agent has sent everything, or failed to.
    pub async fn received(&mut self) -> Result<(), Fault> {
        if let Some(receiving) = &mut self.receiving {
            self.received = receiving.await.unwrap_or_else(|error| {
                Err(fault(
                    "INTERNAL",
                    format!("receiving died: {error}"),
                    "see the tape agent's log",
                ))
            });
            self.receiving = None;
        }
        self.received.clone()
    }

    /// Waits until receiving has failed, which it may never do.
    pub async fn receiving_failed(&mut self) -> Fault {
        match self.received().await {
            Err(fault) => fault,
            Ok(()) => std::future::pending().await,
        }
    }

    /// Its last word.
    pub async fn farewell(self, last: write_response::Message) {
        // If the source agent is gone it need not hear it.
        let _ = tokio::time::timeout(FAREWELL, self.answers.send(Ok(say(last)))).await;
    }
}

/// Where transfers wait for their next volume, one of each attempt. Cheap to clone.
#[derive(Clone, Default)]
pub struct Parking(Arc<Mutex<Vec<Transfer>>>);

impl Parking {
    fn lock(&self) -> MutexGuard<'_, Vec<Transfer>> {
        // Values that are put and taken whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Parks a transfer, for as long as its source agent stays.
    pub fn put(&self, transfer: Transfer) {
        let (over, key) = (transfer.over.clone(), transfer.key);
        let displaced = self.remove(|parked| parked.key.attempt == key.attempt);
        self.lock().push(transfer);
        drop(displaced);
        let parking = self.clone();
        tokio::spawn(async move {
            over.cancelled().await;
            let lost = parking.remove(|parked| is_of(parked, key) && parked.over.is_cancelled());
            if !lost.is_empty() {
                tracing::warn!(
                    attempt = key.attempt,
                    "the source agent left while its archive waited for a volume"
                );
            }
        });
    }

    /// Takes the transfer of this attempt, if it is there.
    pub fn take(&self, key: AssignmentKey) -> Option<Transfer> {
        self.remove(|parked| is_of(parked, key)).pop()
    }

    /// Work begins for this attempt: what is parked will not go on, but for its own and that of attempts that share the drive
    /// with it.
    pub fn leave_to(&self, key: AssignmentKey, beside: &[u64]) {
        self.remove(|parked| !is_of(parked, key) && !beside.contains(&parked.key.attempt));
    }

    /// Takes out those that are such. They are dropped without the lock.
    fn remove(&self, such: impl Fn(&Transfer) -> bool) -> Vec<Transfer> {
        let mut parked = self.lock();
        let (out, stay) = parked.drain(..).partition(such);
        *parked = stay;
        out
    }
}

fn is_of(parked: &Transfer, key: AssignmentKey) -> bool {
    (parked.key.attempt, parked.key.generation) == (key.attempt, key.generation)
}

/// Takes the source agent's messages apart into segments.
struct Receiver {
    archive_uuid: Uuid,
    inlet: Inlet,
    /// Closed when the source agent is gone, which is not seen while nothing is read.
    answers: Answers,
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
                    if building.len() + chunk.data.len() > SEGMENT_STORED {
                        return Err(protocol("a segment is larger than the format allows"));
                    }
                    building.extend_from_slice(&chunk.data);
                    if chunk.end {
                        let segment = self.segment(building.split().freeze())?;
                        last = Some(segment.header.clone());
                        tokio::select! {
                            put = self.inlet.put(segment) => {
                                // The drive's side has ended: its fault is the cause.
                                if put.is_err() {
                                    return Ok(());
                                }
                            }
                            () = self.answers.closed() => {
                                return Err(peer_lost("it went away"));
                            }
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

    fn segment(&self, bytes: Bytes) -> Result<Segment, Fault> {
        let header = segment::verify(&bytes).map_err(protocol)?;
        if header.archive_uuid != self.archive_uuid {
            return Err(protocol("a segment of another archive"));
        }
        Ok(Segment { header, bytes })
    }
}
