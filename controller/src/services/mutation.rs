//! What every mutation does besides its work: it is answered once for a request id, and it is in the audit log,
//! whatever comes of it.
//!
//! A handler reads the request, makes a [`Mutation`], and in one transaction calls [`Mutation::begin_on`] (an answer
//! that comes back from there is given again), does its work, and calls [`Mutation::finish_on`]. Around all of it
//! stands [`Mutation::concluded`], which writes down what was refused.

use prost::Message;
use sha2::{Digest as _, Sha256};
use taf_peer::authority::{self, ClusterKey};
use tokio_postgres::Transaction;
use tonic::{Code, Status};
use uuid::Uuid;

use super::status;
use crate::access::Caller;
use crate::store::Store;
use crate::store::audit::Entry;
use crate::store::requests::Seen;

/// A mutation on its way.
#[derive(Debug)]
pub struct Mutation {
    actor: String,
    action: &'static str,
    subject: String,
    request: Option<Uuid>,
    sha256: [u8; 32],
}

impl Mutation {
    /// `action` is `Service.Method`. `content` is what must be the same when the request id comes again: the request,
    /// without secrets, because a hash of it is kept. An empty `request_id` means none.
    pub fn new<M: Message>(
        caller: &Caller,
        action: &'static str,
        subject: impl Into<String>,
        request_id: &str,
        content: &M,
    ) -> Result<Self, Status> {
        let request = match request_id {
            "" => None,
            text => match Uuid::try_parse(text) {
                Ok(uuid) if !uuid.is_nil() => Some(uuid),
                _ => {
                    return Err(status::invalid(
                        "request_id",
                        "must be a UUID that is not nil",
                    ));
                }
            },
        };
        let mut hash = Sha256::new();
        // Another person's request is another request.
        hash.update(caller.actor());
        hash.update([0]);
        hash.update(content.encode_to_vec());
        Ok(Self {
            actor: caller.actor(),
            action,
            subject: subject.into(),
            request,
            sha256: hash.finalize().into(),
        })
    }

    /// Who asked for it.
    pub fn actor(&self) -> &str {
        &self.actor
    }

    /// Says what it is about, where that is known only on the way.
    pub fn concerns(&mut self, subject: String) {
        self.subject = subject;
    }

    /// Begins, or gives the answer that the same request got before.
    pub async fn begin_on<A: Message + Default>(
        &self,
        tx: &Transaction<'_>,
    ) -> Result<Option<A>, Status> {
        match self.answered_on(tx).await? {
            None => Ok(None),
            Some(bytes) => decode(&bytes).map(Some),
        }
    }

    /// As [`Mutation::begin_on`] for an answer that [`Mutation::finish_sealed_on`] kept.
    pub async fn begin_sealed_on<A: Message + Default>(
        &self,
        tx: &Transaction<'_>,
        key: &ClusterKey,
    ) -> Result<Option<A>, Status> {
        match self.answered_on(tx).await? {
            None => Ok(None),
            Some(bytes) => {
                let bytes = authority::unwrap(&bytes, key)
                    .map_err(|e| status::internal("an earlier answer can't be opened", &e))?;
                decode(&bytes).map(Some)
            }
        }
    }

    async fn answered_on(&self, tx: &Transaction<'_>) -> Result<Option<Vec<u8>>, Status> {
        let Some(request) = self.request else {
            return Ok(None);
        };
        match Store::request_begin_on(tx, request, self.action, &self.sha256).await {
            Ok(Seen::New) => Ok(None),
            Ok(Seen::Answered(bytes)) => Ok(Some(bytes)),
            Ok(Seen::Different) => Err(status::fault(
                Code::InvalidArgument,
                "REQUEST_ID_REUSED",
                "this request_id was used for another request: make a new UUID for each request, and repeat it only with the same content",
            )),
            Err(error) if error.is_exists() => Err(status::fault(
                Code::Aborted,
                "REQUEST_IN_PROGRESS",
                "the same request was being handled at this moment: repeat it to get its answer",
            )),
            Err(error) => Err(error.into()),
        }
    }

    /// Keeps the answer and the line in the audit log. The caller commits.
    pub async fn finish_on<A: Message>(
        &self,
        tx: &Transaction<'_>,
        answer: &A,
    ) -> Result<(), Status> {
        self.keep_on(tx, answer.encode_to_vec()).await
    }

    /// As [`Mutation::finish_on`] for an answer with a secret in it: it is kept encrypted by the cluster key.
    pub async fn finish_sealed_on<A: Message>(
        &self,
        tx: &Transaction<'_>,
        answer: &A,
        key: &ClusterKey,
    ) -> Result<(), Status> {
        self.keep_on(tx, authority::wrap(&answer.encode_to_vec(), key))
            .await
    }

    async fn keep_on(&self, tx: &Transaction<'_>, answer: Vec<u8>) -> Result<(), Status> {
        if let Some(request) = self.request {
            Store::request_answer_on(tx, request, &answer).await?;
        }
        Ok(Store::audit_add_on(tx, &self.entry("done")).await?)
    }

    /// Passes the outcome on, and writes it down if it was a refusal.
    pub async fn concluded<A>(
        &self,
        store: &Store,
        outcome: Result<A, Status>,
    ) -> Result<tonic::Response<A>, Status> {
        match outcome {
            Ok(answer) => Ok(tonic::Response::new(answer)),
            Err(status) => {
                let reason = taf_peer::faults::reason_of(&status)
                    .map_or_else(|| format!("{:?}", status.code()), |(reason, _)| reason);
                if let Err(error) = store.audit_add(&self.entry(&reason)).await {
                    tracing::error!(
                        actor = self.actor,
                        action = self.action,
                        subject = self.subject,
                        reason,
                        "a refusal could not be written to the audit log: {error}"
                    );
                }
                Err(status)
            }
        }
    }

    fn entry<'a>(&'a self, outcome: &'a str) -> Entry<'a> {
        Entry {
            actor: &self.actor,
            action: self.action,
            subject: &self.subject,
            outcome,
        }
    }
}

fn decode<A: Message + Default>(bytes: &[u8]) -> Result<A, Status> {
    A::decode(bytes).map_err(|e| status::internal("an earlier answer can't be read", &e))
}
