//! The pages of the version that is copied, as the controller streams them, for a thread outside the runtime.
//!
//! A published version never changes, so the stream is the same each time: when the controller goes away in the middle, it is asked
//! again, and what came already is passed over.

use std::time::Duration;

use taf_format::page::{Decoder, Dictionaries, MAX_BODY, Page};
use taf_peer::backoff::Backoff;
use taf_peer::faults;
use taf_proto::agent::catalog_service_client::CatalogServiceClient;
use taf_proto::agent::{AssignmentKey, BasePage, FetchPagesRequest};
use tokio::sync::mpsc;
use tonic::Status;
use tonic::transport::Channel;

use crate::fault::{self, Error, fault};

/// Messages that wait, each about 1 MiB.
const MESSAGES: usize = 4;
/// Largest message: about 1 MiB, or one page.
const MESSAGE_LIMIT: usize = MAX_BODY + (2 << 20);
/// Between two questions to a controller that is away.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// What comes, until `None` says that it is all.
type Part = Result<Option<Vec<BasePage>>, Error>;

/// Pages in catalog order.
pub struct Pages {
    receiver: mpsc::Receiver<Part>,
    waiting: std::vec::IntoIter<BasePage>,
    decoder: Decoder,
    ended: bool,
}

impl Pages {
    /// Begins to fetch. To be called within the runtime; what is asked of it must come from outside.
    pub fn start(controller: Channel, key: AssignmentKey, dictionaries: Dictionaries) -> Self {
        let (sender, receiver) = mpsc::channel(MESSAGES);
        let client = CatalogServiceClient::new(controller).max_decoding_message_size(MESSAGE_LIMIT);
        tokio::spawn(fetch(client, key, sender));
        Self {
            receiver,
            waiting: Vec::new().into_iter(),
            decoder: Decoder::new(dictionaries),
            ended: false,
        }
    }

    /// There are none.
    #[cfg(test)]
    pub fn none() -> Self {
        Self {
            receiver: mpsc::channel(1).1,
            waiting: Vec::new().into_iter(),
            decoder: Decoder::new(Dictionaries::new()),
            ended: true,
        }
    }

    /// The next page.
    ///
    /// # Errors
    /// A controller that does not give it; a page that can't be read.
    pub fn next(&mut self) -> Result<Option<Page>, Error> {
        loop {
            if let Some(page) = self.waiting.next() {
                let decoded = self
                    .decoder
                    .decode(&page.chunk, &page.body, Some(&page.hashes));
                return decoded.map(Some).map_err(|error| {
                    fault(
                        "BASE_DAMAGED",
                        error.to_string(),
                        "back up in full from the source: that needs no earlier version",
                    )
                });
            }
            if self.ended {
                return Ok(None);
            }
            match self.receiver.blocking_recv() {
                Some(Ok(Some(pages))) => self.waiting = pages.into_iter(),
                Some(Ok(None)) => self.ended = true,
                Some(Err(error)) => return Err(error),
                None => return Err(fault::internal("the version's pages stopped coming")),
            }
        }
    }
}

async fn fetch(client: CatalogServiceClient<Channel>, key: AssignmentKey, out: mpsc::Sender<Part>) {
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    let (mut taken, mut said) = (0_usize, false);
    loop {
        let status = match pages(&client, key, &mut taken, &out).await {
            Ok(()) => {
                // Without a taker nobody asks any more.
                drop(out.send(Ok(None)).await);
                return;
            }
            Err(status) => status,
        };
        if out.is_closed() {
            return;
        }
        if !faults::is_passing(&status) {
            let what = "the controller did not give the pages of the version that is copied";
            let error = fault::from_status(&status, "CONTROLLER_LOST", what);
            drop(out.send(Err(error)).await);
            return;
        }
        if !said {
            let reason = fault::words(&status);
            tracing::warn!(%reason, "the copy waits for the controller");
            said = true;
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

/// One call: hands on what is behind the pages that were taken before.
async fn pages(
    client: &CatalogServiceClient<Channel>,
    key: AssignmentKey,
    taken: &mut usize,
    out: &mpsc::Sender<Part>,
) -> Result<(), Status> {
    let request = FetchPagesRequest { key: Some(key) };
    let mut stream = client.clone().fetch_pages(request).await?.into_inner();
    let mut before = *taken;
    while let Some(message) = stream.message().await? {
        let mut pages = message.pages;
        let known = before.min(pages.len());
        before -= known;
        pages.drain(..known);
        *taken += pages.len();
        if !pages.is_empty() && out.send(Ok(Some(pages))).await.is_err() {
            return Ok(());
        }
    }
    if before > 0 {
        return Err(Status::data_loss("the version's pages became fewer"));
    }
    Ok(())
}
