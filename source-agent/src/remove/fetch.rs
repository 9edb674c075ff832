//! Directories of a version, as the controller streams them. Taken up again where a stream broke: a version never changes, so they
//! come in the same order each time, and those that came are passed over.

use std::time::Duration;

use taf_peer::backoff::Backoff;
use taf_peer::faults;
use taf_proto::agent::catalog_service_client::CatalogServiceClient;
use taf_proto::agent::{
    AssignmentKey, FetchListingsRequest, FetchListingsResponse, FetchRemovalsRequest,
    FetchRemovalsResponse, Listing, RemovalDirectory,
};
use tokio::sync::mpsc;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use crate::fault::{self, Error};

/// Largest message: 1,000 entries with link targets, and the names of one page.
const MESSAGE_LIMIT: usize = 16 << 20;
/// Between two questions to a controller that is away.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

type Client = CatalogServiceClient<Channel>;

/// A kind of directories that can be streamed.
pub(super) trait Streamed: Sized + Send {
    /// What they come in.
    type Message: Send;
    /// Begins a stream.
    fn ask(
        client: &mut Client,
        key: AssignmentKey,
    ) -> impl Future<Output = Result<Streaming<Self::Message>, Status>> + Send;
    /// The directories of a message.
    fn of(message: Self::Message) -> Vec<Self>;
}

impl Streamed for RemovalDirectory {
    type Message = FetchRemovalsResponse;

    async fn ask(
        client: &mut Client,
        key: AssignmentKey,
    ) -> Result<Streaming<Self::Message>, Status> {
        let request = FetchRemovalsRequest { key: Some(key) };
        Ok(client.fetch_removals(request).await?.into_inner())
    }

    fn of(message: Self::Message) -> Vec<Self> {
        message.directories
    }
}

impl Streamed for Listing {
    type Message = FetchListingsResponse;

    async fn ask(
        client: &mut Client,
        key: AssignmentKey,
    ) -> Result<Streaming<Self::Message>, Status> {
        let request = FetchListingsRequest { key: Some(key) };
        Ok(client.fetch_listings(request).await?.into_inner())
    }

    fn of(message: Self::Message) -> Vec<Self> {
        message.listings
    }
}

/// Hands on all directories. Without a taker it ends: that one knows why.
pub(super) async fn fetch<T: Streamed>(
    controller: Channel,
    key: AssignmentKey,
    out: mpsc::Sender<T>,
) -> Result<(), Error> {
    let mut client = CatalogServiceClient::new(controller).max_decoding_message_size(MESSAGE_LIMIT);
    let (mut taken, mut said) = (0_u64, false);
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    loop {
        let before = taken;
        let status = match once(&mut client, key, &mut taken, &out).await {
            Ok(()) => return Ok(()),
            Err(status) => status,
        };
        if !faults::is_passing(&status) {
            return Err(fault::from_status(
                &status,
                "CONTROLLER_LOST",
                "the controller did not say what may be removed",
            ));
        }
        if taken > before {
            backoff.reset();
            said = false;
        }
        if !said {
            let reason = fault::words(&status);
            tracing::warn!(%reason, "the removal waits for the controller");
            said = true;
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

async fn once<T: Streamed>(
    client: &mut Client,
    key: AssignmentKey,
    taken: &mut u64,
    out: &mpsc::Sender<T>,
) -> Result<(), Status> {
    let mut stream = T::ask(client, key).await?;
    let mut seen = 0_u64;
    while let Some(message) = stream.message().await? {
        for directory in T::of(message) {
            seen += 1;
            if seen <= *taken {
                continue;
            }
            if out.send(directory).await.is_err() {
                return Ok(());
            }
            *taken = seen;
        }
    }
    Ok(())
}
