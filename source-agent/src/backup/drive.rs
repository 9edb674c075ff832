//! A drive for a backup: given with the work, or asked for when there is something to store.

use std::time::Duration;

use taf_peer::backoff::Backoff;
use taf_peer::faults;
use taf_proto::agent::catalog_service_client::CatalogServiceClient;
use taf_proto::agent::{BackupWork, ClaimDriveRequest, Worker};

use super::Context;
use crate::dial::{self, Opened};
use crate::fault::{self, Error};

/// Between two questions for a drive.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Opens the transfer to the drive that the work names; `None` if it is to be asked for later.
pub(super) async fn given(
    context: &Context<'_>,
    work: &BackupWork,
) -> Result<Option<Opened<dial::Write>>, Error> {
    match &work.worker {
        Some(worker) => open(context, worker).await.map(Some),
        None if work.base.is_some() => Ok(None),
        None => Err(fault::protocol("the backup names no drive")),
    }
}

/// Asks for a drive until there is one, and opens the transfer. How long a drive may take is the controller's to say.
pub(super) async fn claimed(context: &Context<'_>) -> Result<Opened<dial::Write>, Error> {
    let mut client = CatalogServiceClient::new(context.controller.clone());
    let request = ClaimDriveRequest {
        key: Some(context.key),
    };
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    let mut said = String::new();
    loop {
        let reason = match client.claim_drive(request).await {
            Ok(answer) => {
                let worker = answer.into_inner().worker;
                let worker =
                    worker.ok_or_else(|| fault::protocol("the claimed drive has no worker"))?;
                return open(context, &worker).await;
            }
            Err(status) if is_early(&status) || faults::is_passing(&status) => {
                fault::words(&status)
            }
            Err(status) => {
                let what = "the controller gave no drive";
                return Err(fault::from_status(&status, "CONTROLLER_LOST", what));
            }
        };
        if reason != said {
            tracing::info!(%reason, "waiting for a drive");
            said = reason;
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

fn is_early(status: &tonic::Status) -> bool {
    faults::reason_of(status).is_some_and(|(reason, _)| reason == "NOT_READY")
}

async fn open(context: &Context<'_>, worker: &Worker) -> Result<Opened<dial::Write>, Error> {
    context.counters.phase("mounting");
    let (opened, _) = dial::open::<dial::Write>(context.own, worker, context.key).await?;
    context.counters.phase("writing");
    Ok(opened)
}
