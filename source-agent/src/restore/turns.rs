//! Asking the controller for the volumes that a stream reads next.

use std::time::Duration;

use bytes::Bytes;
use taf_peer::backoff::Backoff;
use taf_peer::faults;
use taf_proto::agent::TakeVolumesRequest;
use taf_proto::agent::catalog_service_client::CatalogServiceClient;

use crate::backup::Context;
use crate::fault::{self, Error};

/// Between two questions to a controller that is away.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// What there is for a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// These recordings.
    Read(Vec<Bytes>),
    /// Nothing as long as other streams are at work.
    Wait,
    /// Nothing: everything has been read.
    Complete,
}

/// Asks until the controller answers. `read` are the recordings that the stream has read.
pub(super) async fn next(context: &Context<'_>, read: &[Bytes]) -> Result<Next, Error> {
    let mut client = CatalogServiceClient::new(context.controller.clone());
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    let request = TakeVolumesRequest {
        key: Some(context.key),
        read_recording_uuids: read.to_vec(),
    };
    loop {
        let status = match client.take_volumes(request.clone()).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                return Ok(match answer.recording_uuids {
                    some if !some.is_empty() => Next::Read(some),
                    _ if answer.complete => Next::Complete,
                    _ => Next::Wait,
                });
            }
            Err(status) => status,
        };
        if !faults::is_passing(&status) {
            return Err(fault::from_status(
                &status,
                "CONTROLLER_LOST",
                "the controller did not say what to read next",
            ));
        }
        tokio::time::sleep(backoff.next()).await;
    }
}
