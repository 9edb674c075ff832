//! The session RPC: one stream for each unit.

use std::pin::Pin;
use std::time::{Duration, Instant};

use bytes::Bytes;
use taf_peer::identity::Role;
use taf_proto::agent::{
    self, AssignmentSet, OpenRequest, OpenResponse, PreviewSet, ResultAck, Welcome,
    observation::Seen, open_request, open_response, session_service_server::SessionService,
};
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{Code, Request, Response, Status, Streaming};
use uuid::Uuid;

use super::{Registry, Seat, Unit, observe};
use crate::access::Caller;
use crate::services::{names, status};
use crate::store::{Store, drives};

/// Progress becomes a row at most this often; everything else at once.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// Answers that may wait for a slow unit.
const OUTBOX: usize = 16;

/// Serves sessions.
pub struct Service {
    store: Store,
    registry: Registry,
    lease: Duration,
}

impl Service {
    /// A service over the store; `lease` is after how long a silent unit is lost.
    pub fn new(store: Store, registry: Registry, lease: Duration) -> Service {
        Service {
            store,
            registry,
            lease,
        }
    }
}

type Answers = Pin<Box<dyn Stream<Item = Result<OpenResponse, Status>> + Send>>;

#[tonic::async_trait]
impl SessionService for Service {
    type OpenStream = Answers;

    async fn open(
        &self,
        request: Request<Streaming<OpenRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let caller = Caller::agent(&request)?;
        let (name, role) = (caller.id.clone(), caller.role);
        let mut incoming = request.into_inner();
        let hello = match incoming.next().await {
            Some(Ok(OpenRequest {
                message: Some(open_request::Message::Hello(hello)),
            })) => hello,
            Some(Err(status)) => return Err(status),
            _ => return Err(bad_hello("a session begins with hello")),
        };
        let incarnation = Uuid::from_slice(&hello.incarnation)
            .map_err(|_| bad_hello("the incarnation must be 16 bytes"))?;
        let is_of_role = match &hello.unit {
            Some(agent::hello::Unit::Source(_)) => role == Role::SourceAgent,
            Some(agent::hello::Unit::Drive(_) | agent::hello::Unit::Library(_)) => {
                role == Role::TapeAgent
            }
            None => true,
        };
        if !is_of_role {
            return Err(status::fault(
                Code::PermissionDenied,
                "WRONG_ROLE",
                format!("the certificate of agents/{name} does not allow it to be such a unit"),
            ));
        }
        let agent_id = self
            .store
            .agent_get(&name)
            .await?
            .ok_or_else(|| status::not_found(&names::agent(&name)))?
            .id;
        let unit = observe::connect(&self.store, (agent_id, &name), incarnation, &hello)
            .await?
            .ok_or_else(|| bad_hello("hello must name a unit with its serial number"))?;
        tracing::info!(agent = name, ?unit, "unit connected");
        let seat = self.registry.join(unit, incarnation);
        let (outbox, outgoing) = mpsc::channel(OUTBOX);
        let welcome = open_response::Message::Welcome(Welcome {
            lease_millis: self.lease.as_millis() as u32,
            server_time: Some(std::time::SystemTime::now().into()),
        });
        // The channel is new and empty, so this can't fail.
        let _ = outbox.try_send(Ok(answer(welcome)));
        let session = Conversation {
            store: self.store.clone(),
            registry: self.registry.clone(),
            unit,
            incarnation,
            written_at: None,
            held: None,
        };
        tokio::spawn(session.run(incoming, outbox, seat, name));
        Ok(Response::new(Box::pin(ReceiverStream::new(outgoing))))
    }
}

fn bad_hello(what: &str) -> Status {
    status::fault(Code::InvalidArgument, "BAD_HELLO", what)
}

fn answer(message: open_response::Message) -> OpenResponse {
    OpenResponse {
        message: Some(message),
    }
}

struct Conversation {
    store: Store,
    registry: Registry,
    unit: Unit,
    incarnation: Uuid,
    /// When progress became a row last.
    written_at: Option<Instant>,
    /// Progress that came too soon after that; the newest is written when its time comes, or before the result.
    held: Option<agent::Observation>,
}

impl Conversation {
    async fn run(
        mut self,
        mut incoming: Streaming<OpenRequest>,
        outbox: mpsc::Sender<Result<OpenResponse, Status>>,
        mut seat: Seat,
        name: String,
    ) {
        let ended = loop {
            let due = self.written_at.map(|at| at + PROGRESS_EVERY);
            let due = tokio::time::Instant::from_std(due.unwrap_or_else(Instant::now));
            tokio::select! {
                // Who is replaced is told so before anything else: the end of the assignments says less.
                biased;
                () = seat.replaced.cancelled() => {
                    // A unit that does not even take this will see its connection end.
                    let _ = outbox.try_send(Err(status::fault(
                        Code::Aborted, "SESSION_REPLACED", "a newer session of this unit has begun",
                    )));
                    break "replaced by a newer one".to_owned();
                }
                changed = seat.assignments.changed() => {
                    if changed.is_err() {
                        break "replaced by a newer one".to_owned();
                    }
                    let set = seat.assignments.borrow_and_update().clone();
                    if let Some(assignments) = set {
                        let message = open_response::Message::Assignments(AssignmentSet { assignments });
                        if outbox.send(Ok(answer(message))).await.is_err() {
                            break "the unit is gone".to_owned();
                        }
                    }
                }
                Ok(()) = seat.previews.changed() => {
                    let ids = seat.previews.borrow_and_update().clone();
                    let preview_ids = ids.iter().map(|id| Bytes::copy_from_slice(id.as_bytes())).collect();
                    let message = open_response::Message::Previews(PreviewSet { preview_ids });
                    if outbox.send(Ok(answer(message))).await.is_err() {
                        break "the unit is gone".to_owned();
                    }
                }
                message = incoming.next() => match message {
                    Some(Ok(OpenRequest { message: Some(message) })) => match self.take(message).await {
                        Ok(None) => {}
                        Ok(Some(said)) => if outbox.send(Ok(answer(said))).await.is_err() {
                            break "the unit is gone".to_owned();
                        },
                        // The unit connects again and says everything anew.
                        Err(error) => {
                            let text = error.to_string();
                            let _ = outbox.try_send(Err(error.into()));
                            break text;
                        }
                    },
                    Some(Ok(_)) => {}
                    Some(Err(status)) => break status.message().to_owned(),
                    None => break "the unit closed it".to_owned(),
                },
                () = tokio::time::sleep_until(due), if self.held.is_some() => {
                    if let Err(error) = self.write_held().await {
                        let text = error.to_string();
                        let _ = outbox.try_send(Err(error.into()));
                        break text;
                    }
                }
            }
        };
        tracing::info!(agent = name, unit = ?self.unit, reason = ended, "session ended");
        if self.registry.leave(self.unit, &seat)
            && let Ok(client) = self.store.client().await
        {
            // If this fails, the lease runs out instead.
            let _ = drives::unit_heard(&client, self.unit, self.incarnation, false).await;
        }
    }

    /// Writes the progress that was held back.
    async fn write_held(&mut self) -> Result<(), crate::store::Error> {
        if let Some(observation) = self.held.take() {
            observe::observe(&self.store, self.unit, self.incarnation, &observation).await?;
            self.written_at = Some(Instant::now());
        }
        Ok(())
    }

    async fn take(
        &mut self,
        message: open_request::Message,
    ) -> Result<Option<open_response::Message>, crate::store::Error> {
        match message {
            open_request::Message::Hello(_) => Ok(None),
            open_request::Message::Observation(observation) => {
                let throttled = matches!(observation.seen, Some(Seen::Progress(_)))
                    || matches!(&observation.seen, Some(Seen::Drive(_)) if observation.key.is_some());
                let recent = self
                    .written_at
                    .is_some_and(|at| at.elapsed() < PROGRESS_EVERY);
                // A change of the medium is never held back: the reconciler waits for it.
                let waits = matches!(&observation.seen, Some(Seen::Drive(d)) if d.phase != "writing" && d.phase != "reading");
                if throttled && recent && !waits {
                    self.held = Some(observation);
                    return Ok(None);
                }
                if observation.seen.is_some() {
                    self.held = None;
                }
                observe::observe(&self.store, self.unit, self.incarnation, &observation).await?;
                if throttled {
                    self.written_at = Some(Instant::now());
                }
                if observation.seen.is_some() && !throttled {
                    self.registry.wake();
                }
                Ok(None)
            }
            open_request::Message::Result(result) => {
                self.write_held().await?;
                observe::finish(&self.store, self.unit, &result).await?;
                self.registry.wake();
                let key = result.key;
                log_result(self.unit, &result);
                Ok(Some(open_response::Message::ResultAck(ResultAck { key })))
            }
        }
    }
}

fn log_result(unit: Unit, result: &agent::Result) {
    let attempt = result.key.as_ref().map_or(0, |k| k.attempt);
    if let Some(fault) = &result.fault {
        tracing::warn!(
            ?unit,
            attempt,
            reason = fault.reason,
            message = fault.message,
            "assignment failed"
        );
    } else {
        tracing::info!(?unit, attempt, "assignment done");
    }
}
