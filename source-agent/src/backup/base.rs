//! The base's pages on their way from the controller: fetched ahead of the walk, decoded on a thread of their own, joined to rows.
//!
//! A published version never changes, so a stream that broke goes on behind the last page that came. An end is said, never
//! guessed: a stream that merely stopped would make everything behind it look new, or gone.

use std::time::Duration;

use taf_format::page::{Dictionaries, MAX_BODY};
use taf_peer::backoff::Backoff;
use taf_peer::faults;
use taf_proto::agent::catalog_service_client::CatalogServiceClient;
use taf_proto::agent::{
    self, AssignmentKey, BaseKind, BasePage, FetchBaseRequest, FetchDictionariesRequest,
};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tonic::Status;
use tonic::transport::Channel;

use super::merge::{self, Against, Base, Joined, Joiner, Layer, Row};
use crate::fault::{self, Error, fault};

/// Messages of one stream that wait, each about 1 MiB.
const MESSAGES: usize = 4;
/// Entries of a batch of rows.
const BATCH: usize = 4_096;
/// Batches that wait.
const BATCHES: usize = 4;
/// Largest message: about 1 MiB, or one page.
const MESSAGE_LIMIT: usize = MAX_BODY + (2 << 20);
/// All dictionaries of a line: each is at most 128 KiB, and there are few.
const DICTIONARIES: usize = 64 << 20;
/// Keys of one look-up.
const KEYS: usize = 1_000;
/// Between two questions to a controller that is away.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// What comes, until `None` says that it is all.
type Part<T> = Result<Option<Vec<T>>, Error>;

impl From<merge::Error> for Error {
    fn from(error: merge::Error) -> Self {
        fault(
            "BASE_DAMAGED",
            error.to_string(),
            "back up in full: the next version then needs no base",
        )
    }
}

/// What a backup's base is compared with.
pub fn against(base: &agent::Base) -> Against {
    match (base.head_version, base.full_version) {
        (0, _) => Against::Nothing,
        // A full that is the head itself needs no second look.
        (head, full) if full != 0 && full != head => Against::FullAndHead,
        _ => Against::Head,
    }
}

/// The rows of a base.
pub struct Pages {
    rows: mpsc::Receiver<Part<Row>>,
    batch: std::vec::IntoIter<Row>,
    ended: bool,
    fetch: Fetch,
    layers: Vec<Layer>,
    dictionaries: Dictionaries,
    runtime: Handle,
}

#[derive(Clone)]
struct Fetch {
    client: CatalogServiceClient<Channel>,
    key: AssignmentKey,
}

/// The dictionaries that pages of the backup's line use.
///
/// # Errors
/// `CONTROLLER_LOST`, or a dictionary that can't be used.
pub async fn dictionaries(controller: Channel, key: AssignmentKey) -> Result<Dictionaries, Error> {
    let mut client = CatalogServiceClient::new(controller).max_decoding_message_size(DICTIONARIES);
    let mut patience = Patience::default();
    let answer = loop {
        let request = FetchDictionariesRequest { key: Some(key) };
        match client.fetch_dictionaries(request).await {
            Ok(answer) => break answer.into_inner(),
            Err(status) => {
                if let Some(error) = patience.with(status).await {
                    return Err(error);
                }
            }
        }
    };
    let mut dictionaries = Dictionaries::new();
    for dictionary in answer.dictionaries {
        let added = dictionaries.insert(dictionary.id, &dictionary.body);
        added.map_err(|error| fault::protocol(error.to_string()))?;
    }
    Ok(dictionaries)
}

impl Pages {
    /// Begins to fetch. To be called within the runtime; what is asked of the rows must come from outside of it.
    ///
    /// # Errors
    /// A thread that can't be started.
    pub fn start(
        controller: Channel,
        key: AssignmentKey,
        base: &agent::Base,
        dictionaries: Dictionaries,
    ) -> std::io::Result<Self> {
        let fetch = Fetch {
            client: CatalogServiceClient::new(controller).max_decoding_message_size(MESSAGE_LIMIT),
            key,
        };
        let mut layers = Vec::new();
        match against(base) {
            Against::Nothing => {}
            Against::Head => layers.push(Layer::Head),
            Against::FullAndHead => layers.extend([Layer::Head, Layer::Full]),
        }
        if base.resumes {
            layers.push(Layer::Staged);
        }
        let mut streams = Vec::new();
        for &layer in &layers {
            let (sender, receiver) = mpsc::channel(MESSAGES);
            tokio::spawn(fetch.clone().stream(layer, sender));
            streams.push((layer, Waiting::new(receiver)));
        }
        let joined = Joined::new(streams, dictionaries.clone());
        let (sender, rows) = mpsc::channel(BATCHES);
        std::thread::Builder::new()
            .name("base".into())
            .spawn(move || join(joined, &sender))?;
        Ok(Self {
            rows,
            batch: Vec::new().into_iter(),
            ended: false,
            fetch,
            layers,
            dictionaries,
            runtime: Handle::current(),
        })
    }
}

impl Base for Pages {
    fn next(&mut self) -> Result<Option<Row>, Error> {
        loop {
            if let Some(row) = self.batch.next() {
                return Ok(Some(row));
            }
            if self.ended {
                return Ok(None);
            }
            match self.rows.blocking_recv().unwrap_or_else(|| Err(died()))? {
                Some(batch) => self.batch = batch.into_iter(),
                None => self.ended = true,
            }
        }
    }

    fn look_up(&mut self, keys: Vec<Vec<u8>>) -> Result<Vec<Row>, Error> {
        let mut joiner = Joiner::new(self.dictionaries.clone());
        let mut rows: Vec<Row> = Vec::new();
        for keys in keys.chunks(KEYS) {
            for &layer in &self.layers {
                let pages = self.runtime.block_on(self.fetch.look_up(layer, keys))?;
                for page in pages {
                    let known = rows.iter().position(|row| row.key == page.chunk);
                    let index = known.unwrap_or_else(|| {
                        rows.push(Row {
                            key: page.chunk.to_vec(),
                            ..Row::default()
                        });
                        rows.len() - 1
                    });
                    joiner.add(&mut rows[index], layer, page)?;
                }
            }
        }
        Ok(rows)
    }
}

fn died() -> Error {
    fault::internal("the base's pages stopped coming")
}

fn join(mut joined: Joined<Waiting>, out: &mpsc::Sender<Part<Row>>) {
    let (mut batch, mut entries) = (Vec::new(), 0);
    loop {
        let step = match joined.next() {
            Ok(Some(row)) => {
                entries += 1 + row.pages().map(|page| page.entries.len()).sum::<usize>();
                batch.push(row);
                if entries < BATCH {
                    continue;
                }
                entries = 0;
                Ok(Some(std::mem::take(&mut batch)))
            }
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        };
        let last = !matches!(step, Ok(Some(_)));
        let rest = std::mem::take(&mut batch);
        if last && step.is_ok() && !rest.is_empty() && out.blocking_send(Ok(Some(rest))).is_err() {
            return;
        }
        if out.blocking_send(step).is_err() || last {
            return;
        }
    }
}

/// The pages of one stream, for a thread outside the runtime.
struct Waiting {
    receiver: mpsc::Receiver<Part<BasePage>>,
    pages: std::vec::IntoIter<BasePage>,
    ended: bool,
}

impl Waiting {
    fn new(receiver: mpsc::Receiver<Part<BasePage>>) -> Self {
        Self {
            receiver,
            pages: Vec::new().into_iter(),
            ended: false,
        }
    }
}

impl Iterator for Waiting {
    type Item = Result<BasePage, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(page) = self.pages.next() {
                return Some(Ok(page));
            }
            if self.ended {
                return None;
            }
            match self.receiver.blocking_recv() {
                Some(Ok(Some(pages))) => self.pages = pages.into_iter(),
                Some(Ok(None)) => self.ended = true,
                Some(Err(error)) => return Some(Err(error)),
                None => return Some(Err(died())),
            }
        }
    }
}

impl Fetch {
    /// Hands on the pages of a layer, for as long as somebody takes them.
    async fn stream(self, layer: Layer, out: mpsc::Sender<Part<BasePage>>) {
        let mut last: Option<bytes::Bytes> = None;
        let mut patience = Patience::default();
        loop {
            let request = FetchBaseRequest {
                key: Some(self.key),
                kind: kind(layer).into(),
                after_chunk: last.clone().unwrap_or_default(),
                chunks: Vec::new(),
                without_shortened: true,
            };
            let status = match self.pages(request, &mut last, &mut patience, &out).await {
                Ok(true) => Ok(None),
                Ok(false) => return,
                Err(status) => match patience.with(status).await {
                    None => continue,
                    Some(error) => Err(error),
                },
            };
            // Without a taker nobody asks any more.
            drop(out.send(status).await);
            return;
        }
    }

    /// One call; false if nobody takes its pages.
    async fn pages(
        &self,
        request: FetchBaseRequest,
        last: &mut Option<bytes::Bytes>,
        patience: &mut Patience,
        out: &mpsc::Sender<Part<BasePage>>,
    ) -> Result<bool, Status> {
        let mut stream = self.client.clone().fetch_base(request).await?.into_inner();
        while let Some(message) = stream.message().await? {
            patience.reset();
            let mut pages = message.pages;
            // Behind the root, whose key is empty, is the same as from the beginning.
            pages.retain(|page| last.as_ref().is_none_or(|last| page.chunk > *last));
            let Some(page) = pages.last() else { continue };
            *last = Some(page.chunk.clone());
            if out.send(Ok(Some(pages))).await.is_err() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Those of the keys that the layer has.
    async fn look_up(&self, layer: Layer, keys: &[Vec<u8>]) -> Result<Vec<BasePage>, Error> {
        let request = FetchBaseRequest {
            key: Some(self.key),
            kind: kind(layer).into(),
            chunks: keys.iter().map(|key| key.clone().into()).collect(),
            ..FetchBaseRequest::default()
        };
        let mut patience = Patience::default();
        loop {
            let answer = async {
                let mut pages = Vec::new();
                let call = self.client.clone().fetch_base(request.clone()).await;
                let mut stream = call?.into_inner();
                while let Some(message) = stream.message().await? {
                    pages.extend(message.pages);
                }
                Ok::<_, Status>(pages)
            };
            match answer.await {
                Ok(pages) => return Ok(pages),
                Err(status) => {
                    if let Some(error) = patience.with(status).await {
                        return Err(error);
                    }
                }
            }
        }
    }
}

fn kind(layer: Layer) -> BaseKind {
    match layer {
        Layer::Head => BaseKind::Head,
        Layer::Full => BaseKind::Full,
        Layer::Staged => BaseKind::Staged,
    }
}

/// Waiting for a controller that is away; whoever waits for the backup too long ends it.
struct Patience {
    backoff: Backoff,
    said: bool,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            backoff: Backoff::new(RETRY.0, RETRY.1),
            said: false,
        }
    }
}

impl Patience {
    fn reset(&mut self) {
        self.backoff.reset();
        self.said = false;
    }

    /// Waits, or says why that is of no use.
    async fn with(&mut self, status: Status) -> Option<Error> {
        if !faults::is_passing(&status) {
            return Some(fault::from_status(
                &status,
                "CONTROLLER_LOST",
                "the controller did not give the base's pages",
            ));
        }
        if !self.said {
            let reason = fault::words(&status);
            tracing::warn!(%reason, "the backup waits for the controller and its base's pages");
            self.said = true;
        }
        tokio::time::sleep(self.backoff.next()).await;
        None
    }
}
