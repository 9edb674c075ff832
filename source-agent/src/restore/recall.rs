//! What is to be restored: the parts, then the items, as the controller streams them, or those put off from the pass
//! before.
//!
//! A published version never changes, so the stream is the same each time: when the controller goes away in the middle, it is
//! asked again, and what came already is passed over. What is known of a version that is not whole may change: its messages bear a
//! revision, and the controller refuses to go on with another one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use taf_peer::backoff::Backoff;
use taf_peer::faults;
use taf_proto::agent::catalog_service_client::CatalogServiceClient;
use taf_proto::agent::{
    FetchRecallRequest, FetchRecallResponse, RecallItem, fetch_recall_response::Message,
};
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::parts::Parts;
use super::sieve::Sieve;
use crate::fault::{self, Error};
use crate::issues::Issues;
use crate::progress::Counters;

/// Largest message: one segment table, and room.
const MESSAGE_LIMIT: usize = taf_format::limits::TABLE + (1 << 20);
/// Between two questions to a controller that is away.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// What is known of the version has changed since the stream began.
const CHANGED: &str = "VERSION_CHANGED";

/// Items in their order.
#[derive(Debug)]
pub struct Items {
    waiting: VecDeque<RecallItem>,
    recall: Option<Recall>,
    sieve: Option<Sieve>,
    counts: Counts,
    strip: Bytes,
}

/// What came, of what was counted when the restore was asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Entries with a place on tape, whether or not they were left out.
    pub entries: u64,
    /// Directories without one, which come with each turn.
    pub beside: u64,
}

/// The stream, taken up again where it broke. Whoever waits for it too long stops waiting: it never gives up by itself.
#[derive(Debug)]
struct Recall {
    client: CatalogServiceClient<Channel>,
    request: FetchRecallRequest,
    stream: Option<Streaming<FetchRecallResponse>>,
    /// Messages that were taken, in all.
    taken: u64,
    /// Those of them that the stream of now has given again.
    repeated: u64,
    backoff: Backoff,
    said: bool,
}

/// Fetches the parts, and the items as far as they are asked for. What can't be restored becomes issues; who has
/// none for it takes a whole version or nothing. `strip` is what is left out of every path.
pub async fn fetch(
    controller: Channel,
    request: FetchRecallRequest,
    strip: &Bytes,
    mut sieve: Option<Sieve>,
    issues: Option<&Issues>,
) -> Result<(Parts, Items), Error> {
    let mut recall = Recall {
        client: CatalogServiceClient::new(controller).max_decoding_message_size(MESSAGE_LIMIT),
        request,
        stream: None,
        taken: 0,
        repeated: 0,
        backoff: Backoff::new(RETRY.0, RETRY.1),
        said: false,
    };
    let mut parts = Parts::default();
    while let Some(message) = recall.next().await? {
        match message {
            Message::Part(part) => {
                let told = &mut recall.request.volume_order;
                if !told.contains(&part.recording_uuid) {
                    told.push(part.recording_uuid.clone());
                }
                parts.add(&part)?;
            }
            Message::Lacks(some) => {
                let issues = issues.ok_or_else(|| fault::protocol("the version is not whole"))?;
                for lack in some.lacks {
                    issues.put(&lack.path, &lack.reason, lack.message).await;
                }
            }
            Message::Items(some) => {
                let mut counts = Counts::default();
                counts.add(&some.items, strip);
                let items = Items {
                    waiting: sift(&mut sieve, some.items).await?.into(),
                    recall: Some(recall),
                    sieve,
                    counts,
                    strip: strip.clone(),
                };
                return Ok((parts, items));
            }
        }
    }
    let nothing = Items {
        sieve,
        ..Items::given(Vec::new())
    };
    Ok((parts, nothing))
}

impl Counts {
    /// These came, too. What lies above what was asked for was not counted, nor was the directory that becomes the target itself.
    fn add(&mut self, items: &[RecallItem], strip: &[u8]) {
        for item in items.iter().filter(|item| !is_above(&item.path, strip)) {
            match &item.ancestor {
                None => self.entries += 1,
                Some(directory) => self.beside += u64::from(!directory.above),
            }
        }
    }
}

/// Whether a path is this directory, or lies above it.
fn is_above(path: &[u8], directory: &[u8]) -> bool {
    let rest = directory.strip_prefix(path);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// What was taken and what would follow are not of one state of the version.
fn changed(message: &str) -> Error {
    fault::fault(
        CHANGED,
        format!("the connection to the controller broke, and the restore can't go on: {message}"),
        "repeat the restore; with `--collision if-different` it writes only what is not there yet",
    )
}

impl Items {
    /// These items and no more.
    pub fn given(items: Vec<RecallItem>) -> Self {
        Self {
            waiting: items.into(),
            recall: None,
            sieve: None,
            counts: Counts::default(),
            strip: Bytes::new(),
        }
    }

    /// Those that were given and not taken.
    pub fn take_waiting(&mut self) -> Vec<RecallItem> {
        self.waiting.drain(..).collect()
    }

    /// How much has come.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Who looked at what is there.
    pub fn into_sieve(self) -> Option<Sieve> {
        self.sieve
    }

    /// What is left out from now on is told there.
    pub fn speak_as(&mut self, issues: &Issues, counters: &Arc<Counters>) {
        if let Some(sieve) = &mut self.sieve {
            sieve.issues = issues.clone();
            sieve.counters = Arc::clone(counters);
        }
    }

    /// The next one.
    pub async fn next(&mut self) -> Result<Option<RecallItem>, Error> {
        loop {
            if let Some(item) = self.waiting.pop_front() {
                return Ok(Some(item));
            }
            let Some(recall) = &mut self.recall else {
                return Ok(None);
            };
            match recall.next().await? {
                None => self.recall = None,
                Some(Message::Items(some)) => {
                    self.counts.add(&some.items, &self.strip);
                    self.waiting
                        .extend(sift(&mut self.sieve, some.items).await?);
                }
                Some(Message::Part(_) | Message::Lacks(_)) => {
                    return Err(fault::protocol("a part came behind the first item"));
                }
            }
        }
    }
}

/// Leaves out what need not be read, on a thread that may wait for the disk.
async fn sift(sieve: &mut Option<Sieve>, items: Vec<RecallItem>) -> Result<Vec<RecallItem>, Error> {
    let Some(mut taken) = sieve.take() else {
        return Ok(items);
    };
    let sifting = tokio::task::spawn_blocking(move || {
        let left = taken.sift(items);
        (taken, left)
    });
    let (taken, left) = sifting
        .await
        .map_err(|error| fault::internal(error.to_string()))?;
    *sieve = Some(taken);
    Ok(left)
}

impl Recall {
    /// The next message that was not taken yet.
    async fn next(&mut self) -> Result<Option<Message>, Error> {
        loop {
            let status = match self.message().await {
                Ok(None) if self.repeated < self.taken => {
                    return Err(fault::protocol("what is to be restored became less"));
                }
                Ok(None) => return Ok(None),
                Ok(Some(FetchRecallResponse { message: None, .. })) => continue,
                Ok(Some(FetchRecallResponse {
                    message: Some(message),
                    revision,
                })) => {
                    if self.taken == 0 {
                        self.request.revision = revision;
                    } else if !self.request.revision.is_empty() && self.request.revision != revision
                    {
                        return Err(changed("what came of it now is of another state"));
                    }
                    self.repeated += 1;
                    if self.repeated > self.taken {
                        self.taken = self.repeated;
                        self.backoff.reset();
                        self.said = false;
                        return Ok(Some(message));
                    }
                    continue;
                }
                Err(status) => status,
            };
            if faults::reason_of(&status).is_some_and(|(reason, _)| reason == CHANGED) {
                return Err(changed(&fault::words(&status)));
            }
            if !faults::is_passing(&status) {
                return Err(fault::from_status(
                    &status,
                    "CONTROLLER_LOST",
                    "the controller did not say what to restore",
                ));
            }
            if !self.said {
                let reason = fault::words(&status);
                tracing::warn!(%reason, "the restore waits for the controller");
                self.said = true;
            }
            self.stream = None;
            tokio::time::sleep(self.backoff.next()).await;
        }
    }

    async fn message(&mut self) -> Result<Option<FetchRecallResponse>, Status> {
        if let Some(stream) = &mut self.stream {
            return stream.message().await;
        }
        let stream = self
            .client
            .fetch_recall(self.request.clone())
            .await?
            .into_inner();
        self.repeated = 0;
        self.stream.insert(stream).message().await
    }
}
