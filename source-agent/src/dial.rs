//! Calling a drive's worker: tries its addresses until it is ready, for as long as a mount may take.

use std::time::Duration;

use bytes::Bytes;
use taf_peer::backoff::Backoff;
use taf_peer::faults;
use taf_peer::material::Material;
use taf_peer::tls::{Expect, Trust, client_config};
use taf_peer::{DATA_MESSAGE_LIMIT, channel};
use taf_proto::agent::transfer_service_client::TransferServiceClient;
use taf_proto::agent::{
    AssignmentKey, ReadRequest, ReadResponse, TransferOpen, Worker, WriteRequest, WriteResponse,
    read_request, read_response, write_request, write_response,
};
use taf_proto::v1::Fault;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use crate::fault::{self, Error};

/// A worker that can't be reached, or has no assignment for us, is called again for so long.
const PATIENCE: Duration = Duration::from_mins(15);
/// Requests that wait for the connection; of a backup each is at most 1 MiB.
const OUTBOX: usize = 2;

/// What a worker's first answer means.
pub enum Answer {
    /// The volume with this recording is in place; of a writer it is not said.
    Ready(Bytes),
    /// The attempt has failed.
    Fault(Fault),
    /// Something that must not come first.
    Other,
}

/// One of the two calls of the data path.
pub trait Call {
    /// What we send.
    type Request: Send + 'static;
    /// What comes back.
    type Response;
    /// The first request.
    fn open(open: TransferOpen) -> Self::Request;
    /// What the first answer means.
    fn answer(response: Self::Response) -> Answer;
    /// Makes the call.
    fn call(
        client: TransferServiceClient<Channel>,
        requests: ReceiverStream<Self::Request>,
    ) -> impl Future<Output = Result<Streaming<Self::Response>, Status>> + Send;
}

/// `Transfer.Write`.
#[derive(Debug, Clone, Copy)]
pub struct Write;

impl Call for Write {
    type Request = WriteRequest;
    type Response = WriteResponse;

    fn open(open: TransferOpen) -> WriteRequest {
        WriteRequest {
            message: Some(write_request::Message::Open(open)),
        }
    }

    fn answer(response: WriteResponse) -> Answer {
        match response.message {
            Some(write_response::Message::Ready(_)) => Answer::Ready(Bytes::new()),
            Some(write_response::Message::Fault(fault)) => Answer::Fault(fault),
            _ => Answer::Other,
        }
    }

    async fn call(
        mut client: TransferServiceClient<Channel>,
        requests: ReceiverStream<WriteRequest>,
    ) -> Result<Streaming<WriteResponse>, Status> {
        client
            .write(requests)
            .await
            .map(tonic::Response::into_inner)
    }
}

/// `Transfer.Read`.
#[derive(Debug, Clone, Copy)]
pub struct Read;

impl Call for Read {
    type Request = ReadRequest;
    type Response = ReadResponse;

    fn open(open: TransferOpen) -> ReadRequest {
        ReadRequest {
            message: Some(read_request::Message::Open(open)),
        }
    }

    fn answer(response: ReadResponse) -> Answer {
        match response.message {
            Some(read_response::Message::Ready(ready)) => Answer::Ready(ready.recording_uuid),
            Some(read_response::Message::Fault(fault)) => Answer::Fault(fault),
            _ => Answer::Other,
        }
    }

    async fn call(
        mut client: TransferServiceClient<Channel>,
        requests: ReceiverStream<ReadRequest>,
    ) -> Result<Streaming<ReadResponse>, Status> {
        client.read(requests).await.map(tonic::Response::into_inner)
    }
}

/// A call whose worker is ready.
pub struct Opened<C: Call> {
    /// Requests go in here; dropping it half-closes the call.
    pub requests: mpsc::Sender<C::Request>,
    /// What the worker says.
    pub responses: Streaming<C::Response>,
}

/// Calls the worker and waits until the volume is in place, for as long as its host can be reached. Gives the call, and the
/// recording that is there.
///
/// # Errors
/// The worker's own fault; `WORKER_UNREACHABLE` when it could not be reached for a quarter of an hour; what it
/// refuses with.
pub async fn open<C: Call>(
    own: &Material,
    worker: &Worker,
    key: AssignmentKey,
) -> Result<(Opened<C>, Bytes), Error> {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(3));
    let mut deadline = Instant::now() + PATIENCE;
    let mut said = String::new();
    loop {
        let reason = match attempt::<C>(own, worker, key).await {
            Ok(opened) => return Ok(opened),
            Err(Attempt::Final(error)) => return Err(error),
            // Whether a volume takes too long to come is the controller's to say.
            Err(Attempt::NotReady(reason)) => {
                deadline = Instant::now() + PATIENCE;
                reason
            }
            Err(Attempt::Again(reason)) => reason,
        };
        if Instant::now() >= deadline {
            return Err(fault::fault(
                "WORKER_UNREACHABLE",
                format!(
                    "the drive's host {} could not be reached for {} minutes: {reason}",
                    worker.agent_id,
                    PATIENCE.as_secs() / 60
                ),
                "see that the tape agent runs there, and that this host reaches the addresses it advertises",
            ));
        }
        if reason != said {
            tracing::info!(worker = %worker.agent_id, %reason, "the drive is not ready yet; trying again");
            said = reason;
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

enum Attempt {
    /// It can't be reached.
    Again(String),
    /// It is there, and has nothing for us yet.
    NotReady(String),
    Final(Error),
}

async fn attempt<C: Call>(
    own: &Material,
    worker: &Worker,
    key: AssignmentKey,
) -> Result<(Opened<C>, Bytes), Attempt> {
    let channel = connect(own, worker).await.map_err(Attempt::Again)?;
    let client = TransferServiceClient::new(channel)
        .max_decoding_message_size(DATA_MESSAGE_LIMIT)
        .max_encoding_message_size(DATA_MESSAGE_LIMIT);
    let (requests, outgoing) = mpsc::channel(OUTBOX);
    requests
        .try_send(C::open(TransferOpen { key: Some(key) }))
        .map_err(|_| Attempt::Again("the outbox is full".into()))?;
    let mut responses = C::call(client, ReceiverStream::new(outgoing))
        .await
        .map_err(|status| refused(worker, &status))?;
    match responses.message().await {
        Ok(Some(response)) => match C::answer(response) {
            Answer::Ready(recording) => Ok((
                Opened {
                    requests,
                    responses,
                },
                recording,
            )),
            Answer::Fault(fault) => Err(Attempt::Final(Error::Fault(fault))),
            Answer::Other => Err(Attempt::Final(fault::protocol(
                "the tape agent did not say first that it is ready",
            ))),
        },
        Ok(None) => Err(Attempt::Again(
            "it ended the call before it was ready".into(),
        )),
        Err(status) => Err(refused(worker, &status)),
    }
}

fn refused(worker: &Worker, status: &Status) -> Attempt {
    if faults::reason_of(status).is_some_and(|(reason, _)| reason == "NOT_READY") {
        return Attempt::NotReady(fault::words(status));
    }
    // What the transport says by itself when a connection breaks is Unknown or Internal or Cancelled.
    let passing = matches!(
        status.code(),
        Code::Unavailable
            | Code::Unknown
            | Code::Internal
            | Code::Cancelled
            | Code::DeadlineExceeded
    );
    if passing {
        return Attempt::Again(fault::words(status));
    }
    Attempt::Final(fault::from_status(
        status,
        "WORKER_REFUSED",
        &format!("the drive's host {} refused the transfer", worker.agent_id),
    ))
}

/// A channel to the first address that answers as it should.
async fn connect(own: &Material, worker: &Worker) -> Result<Channel, String> {
    let mut reason = "it advertises no address".to_owned();
    for address in &worker.addresses {
        let trust = Trust::Authority(own.authority().clone());
        let expect = Expect::tape_agent(own.identity().installation, &worker.agent_id);
        let tls = client_config(trust, Some(own), expect).map_err(|error| error.to_string())?;
        match channel::connect(address, tls).await {
            Ok(channel) => return Ok(channel),
            Err(error) => reason = error.to_string(),
        }
    }
    Err(reason)
}
