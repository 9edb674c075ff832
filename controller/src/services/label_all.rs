//! Labelling all cartridges that the catalog does not know: which ones, and why the others are not.
//!
//! Nothing is remembered between two calls but what the catalog knows anyway, so a call goes on where the one before stopped.

use std::collections::HashMap;

use taf_proto::v1::{LabelCandidate, LabelVolumesRequest, LabelVolumesResponse, Refusal};
use tonic::Status;
use uuid::Uuid;

use super::mutation::Mutation;
use super::status::{self, Violations};
use super::{names, order, volume};
use crate::store::jobs::{self, NewTask};
use crate::store::libraries::{self, Contents, ElementRow, LibraryRow};
use crate::store::volumes::{self, VolumeRow};
use crate::store::{Store, Transaction};

/// More libraries than any installation has.
const ALL: i64 = 10_000;

/// Makes the jobs. The caller commits, or for a dry run does not.
pub async fn label_all_on(
    tx: &Transaction<'_>,
    mutation: &Mutation,
    request: &LabelVolumesRequest,
) -> Result<LabelVolumesResponse, Status> {
    let mut bad = Violations::new();
    let pool_name = bad.read("pool", names::pool_id(&request.pool));
    let only = match request.library.as_str() {
        "" => None,
        name => bad.read("library", names::library_serial(name)),
    };
    bad.check()?;
    order::is_catalog_trusted_on(tx).await?;
    let pool = Store::pool_get_on(&**tx, pool_name.unwrap_or_default())
        .await?
        .ok_or_else(|| status::not_found(&request.pool))?;
    let contents = libraries::library_contents(tx).await?;
    let failed = jobs::job_label_faults_on(tx).await?;
    let mut cartridges = Vec::new();
    for library in libraries::library_list(tx, "", ALL).await? {
        if only.is_some_and(|serial| serial != library.serial) || !library.connected {
            continue;
        }
        for element in libraries::library_elements(tx, library.id).await? {
            if !element.occupied || element.kind == "mail-slot" {
                continue;
            }
            let mut candidate = LabelCandidate {
                barcode: element.barcode.clone().unwrap_or_default(),
                location: location(&library, &element),
                ..LabelCandidate::default()
            };
            candidate.refusal = refusal_on(tx, &element, &contents, &failed).await?;
            if candidate.refusal.is_none() {
                let fresh = (Uuid::new_v4(), Uuid::new_v4());
                let opened = volumes::volume_open_label_on(
                    tx,
                    &candidate.barcode,
                    pool.id,
                    pool.block_size,
                    fresh,
                )
                .await?;
                let new = NewTask {
                    kind: "label",
                    volume_id: opened,
                    background: true,
                    ..NewTask::default()
                };
                let job = jobs::job_create_task_on(tx, &new, mutation.actor()).await?;
                if !request.dry_run {
                    candidate.job = names::job(job);
                }
            }
            cartridges.push(candidate);
        }
    }
    Ok(LabelVolumesResponse { cartridges })
}

fn location(library: &LibraryRow, element: &ElementRow) -> String {
    match &element.drive_serial {
        Some(serial) => names::drive(serial),
        None => names::slot(&library.serial, element.address as u32),
    }
}

async fn refusal_on(
    tx: &Transaction<'_>,
    element: &ElementRow,
    contents: &Contents,
    failed: &HashMap<String, (String, String)>,
) -> Result<Option<Refusal>, Status> {
    let refuse = |reason: &str, message: String| {
        Ok(Some(Refusal {
            reason: reason.to_owned(),
            message,
        }))
    };
    let Some(barcode) = &element.barcode else {
        return refuse("NO_BARCODE", "it has no readable barcode".to_owned());
    };
    if contents.twice.contains(barcode) {
        return refuse(
            "BARCODE_TWICE",
            "the libraries show two cartridges with this barcode".to_owned(),
        );
    }
    if contents.cleanings_left(barcode).is_some() {
        return refuse(
            "CLEANING_CARTRIDGE",
            "it is a cleaning cartridge".to_owned(),
        );
    }
    if let Err(busy) = order::is_kept_on(tx, barcode, &["erase", "format"]).await {
        return match taf_peer::faults::reason_of(&busy) {
            Some((reason, _)) => refuse(&reason, busy.message().to_owned()),
            None => Err(busy),
        };
    }
    let volume: Option<VolumeRow> = volumes::volume_get(tx, barcode).await?;
    match volume {
        Some(v) if v.suspect_since.is_some() => refuse(
            "VOLUME_SUSPECT",
            "it may hold something else than the catalog says: inspect it first".to_owned(),
        ),
        Some(v) if v.state != "unlabelled" => {
            let status = volume::living(Some(v), barcode);
            let (reason, _) = taf_peer::faults::reason_of(&status).unwrap_or_default();
            refuse(&reason, status.message().to_owned())
        }
        // What was found on it stays on it until somebody erases it.
        Some(_) => match failed.get(barcode) {
            Some((reason, message)) if is_content(reason) => refuse(reason, message.clone()),
            _ => Ok(None),
        },
        None => Ok(None),
    }
}

/// Whether a fault says that there is something on the cartridge, or that it can't be written: trying again would end alike.
fn is_content(reason: &str) -> bool {
    matches!(
        reason,
        "FOREIGN_VOLUME"
            | "LABEL_UNREADABLE"
            | "WORM_VOLUME"
            | "WRITE_PROTECTED"
            | "INCOMPATIBLE_MEDIUM"
    )
}
