//! Where source agents come in: the transfer service, and the guests that are expected, one for each attempt.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use taf_peer::faults;
use taf_peer::identity::Role;
use taf_peer::serve::Peer;
use taf_proto::agent::transfer_service_server::TransferService;
use taf_proto::agent::{
    AssignmentKey, ReadRequest, ReadResponse, TransferOpen, WriteRequest, WriteResponse,
    read_request, write_request,
};
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::{Code, Request, Response, Status, Streaming};

/// Answers that wait for a slow connection.
const OUTBOX: usize = 8;

/// A source agent that has come in.
pub enum Visit {
    /// It brings segments.
    Write {
        /// What it sends, behind the opening message.
        requests: Streaming<WriteRequest>,
        /// What we say.
        answers: mpsc::Sender<Result<WriteResponse, Status>>,
    },
    /// It wants ranges.
    Read {
        /// What it sends, behind the opening message.
        requests: Streaming<ReadRequest>,
        /// What we say.
        answers: mpsc::Sender<Result<ReadResponse, Status>>,
    },
}

struct Guest {
    key: AssignmentKey,
    agent_id: String,
    write: bool,
    visits: mpsc::Sender<Visit>,
}

/// The door of a drive. Cheap to clone.
#[derive(Clone, Default)]
pub struct Door {
    guests: Arc<Mutex<Vec<Guest>>>,
}

/// Keeps the door open for a guest; closes it when dropped.
pub struct Open {
    door: Door,
    key: AssignmentKey,
    /// The guest's visits.
    pub visits: mpsc::Receiver<Visit>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.door.lock().retain(|guest| guest.key != self.key);
    }
}

impl Door {
    fn lock(&self) -> MutexGuard<'_, Vec<Guest>> {
        // Whole after every statement.
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Expects one agent for one attempt.
    pub fn expect(&self, key: AssignmentKey, agent_id: &str, write: bool) -> Open {
        let (sender, visits) = mpsc::channel(1);
        let mut guests = self.lock();
        guests.retain(|guest| guest.key.attempt != key.attempt);
        guests.push(Guest {
            key,
            agent_id: agent_id.to_owned(),
            write,
            visits: sender,
        });
        drop(guests);
        Open {
            door: self.clone(),
            key,
            visits,
        }
    }

    fn admit(
        &self,
        peer: &str,
        open: Option<TransferOpen>,
        write: bool,
    ) -> Result<mpsc::Sender<Visit>, Status> {
        let key = open
            .and_then(|open| open.key)
            .ok_or_else(|| Status::invalid_argument("a transfer begins with its assignment"))?;
        let guests = self.lock();
        let not_ready = || {
            faults::status(
                Code::Unavailable,
                "NOT_READY",
                "the drive does not have this assignment yet",
                [],
            )
        };
        let is_of = |guest: &&Guest| {
            guest.key.attempt == key.attempt && guest.key.generation == key.generation
        };
        let guest = guests.iter().find(is_of).ok_or_else(not_ready)?;
        if guest.agent_id != peer || guest.write != write {
            return Err(faults::status(
                Code::PermissionDenied,
                "NOT_EXPECTED",
                format!("agent {peer} is not the one that this drive works with"),
                [],
            ));
        }
        Ok(guest.visits.clone())
    }
}

/// The id of the source agent that calls.
fn source_agent<T>(request: &Request<T>) -> Result<String, Status> {
    let identity = request
        .extensions()
        .get::<Peer>()
        .and_then(|peer| peer.identity.as_ref());
    match identity {
        Some(identity) if identity.role == Role::SourceAgent => Ok(identity.id.clone()),
        _ => Err(faults::status(
            Code::PermissionDenied,
            "AGENT_CERTIFICATE_REQUIRED",
            "only source agents transfer data",
            [],
        )),
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn taken<T>(_: mpsc::error::SendError<T>) -> Status {
    Status::unavailable("the work has ended")
}

#[tonic::async_trait]
impl TransferService for Door {
    type WriteStream = Answers<WriteResponse>;

    async fn write(
        &self,
        request: Request<Streaming<WriteRequest>>,
    ) -> Result<Response<Self::WriteStream>, Status> {
        let peer = source_agent(&request)?;
        let mut requests = request.into_inner();
        let open = match requests.next().await.transpose()?.and_then(|r| r.message) {
            Some(write_request::Message::Open(open)) => Some(open),
            _ => None,
        };
        let visits = self.admit(&peer, open, true)?;
        let (answers, outgoing) = mpsc::channel(OUTBOX);
        visits
            .send(Visit::Write { requests, answers })
            .await
            .map_err(taken)?;
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }

    type ReadStream = Answers<ReadResponse>;

    async fn read(
        &self,
        request: Request<Streaming<ReadRequest>>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let peer = source_agent(&request)?;
        let mut requests = request.into_inner();
        let open = match requests.next().await.transpose()?.and_then(|r| r.message) {
            Some(read_request::Message::Open(open)) => Some(open),
            _ => None,
        };
        let visits = self.admit(&peer, open, false)?;
        let (answers, outgoing) = mpsc::channel(OUTBOX);
        visits
            .send(Visit::Read { requests, answers })
            .await
            .map_err(taken)?;
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }
}
