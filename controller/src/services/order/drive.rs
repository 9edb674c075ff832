//! Orders about a drive, and what is in it.

use tonic::Status;

use super::{Made, cleanings_left_on, for_data_on, is_inside_on, one_on};
use crate::services::{names, status};
use crate::store::drives::{self, DriveRow};
use crate::store::jobs::{self, NewTask};
use crate::store::{Transaction, cleaning, libraries, volumes};

/// Adds the one job of an order about a drive and, if one is named, a cartridge.
async fn with_cartridge_on(
    tx: &Transaction<'_>,
    kind: &'static str,
    drive: i64,
    barcode: Option<&str>,
    actor: &str,
) -> Result<Vec<Made>, Status> {
    let new = NewTask {
        kind,
        drive_id: Some(drive),
        cartridge: barcode,
        ..NewTask::default()
    };
    let made = Made {
        barcode: barcode.unwrap_or_default().to_owned(),
        ..Made::default()
    };
    one_on(tx, &new, made, actor).await
}

pub(super) async fn drive_on(tx: &Transaction<'_>, serial: &str) -> Result<DriveRow, Status> {
    let drive = drives::drive_get(tx, serial).await?;
    drive.ok_or_else(|| status::not_found(&names::drive(serial)))
}

pub(super) async fn load_on(
    tx: &Transaction<'_>,
    drive: &str,
    barcode: Option<&str>,
    actor: &str,
) -> Result<Vec<Made>, Status> {
    let drive = drive_on(tx, drive).await?;
    if let Some(barcode) = barcode {
        is_inside_on(tx, barcode).await?;
        for_data_on(tx, barcode).await?;
    } else if drive.library.is_some() && !drive.full {
        return Err(empty(&drive));
    }
    with_cartridge_on(tx, "drive-load", drive.id, barcode, actor).await
}

fn empty(drive: &DriveRow) -> Status {
    status::precondition(
        "DRIVE_EMPTY",
        format!(
            "there is no cartridge in drive {}: load one with `taf drive load {} BARCODE`",
            drive.serial, drive.serial
        ),
    )
}

pub(super) async fn unload_on(
    tx: &Transaction<'_>,
    drive: &str,
    actor: &str,
) -> Result<Vec<Made>, Status> {
    let drive = drive_on(tx, drive).await?;
    let mut new = NewTask {
        kind: "drive-unload",
        drive_id: Some(drive.id),
        ..NewTask::default()
    };
    let mut made = Made::default();
    if let Some((id, ..)) = &drive.library {
        if !drive.full {
            return Err(empty(&drive));
        }
        let elements = libraries::library_elements(tx, *id).await?;
        let inside = elements
            .iter()
            .find(|e| e.drive_serial.as_deref() == Some(drive.serial.as_str()));
        new.task.from_address = inside.map(|e| e.address);
        made.barcode = inside.and_then(|e| e.barcode.clone()).unwrap_or_default();
    }
    one_on(tx, &new, made, actor).await
}

pub(super) async fn clean_on(
    tx: &Transaction<'_>,
    drive: &str,
    barcode: Option<&str>,
    actor: &str,
) -> Result<Vec<Made>, Status> {
    let drive = drive_on(tx, drive).await?;
    if let Some(job) = jobs::job_active_about_on(tx, &["drive-clean"], None, Some(drive.id)).await?
    {
        return Err(status::precondition(
            "DRIVE_CLEANING",
            format!(
                "{} cleans drive {} already: wait for it",
                names::job(job),
                drive.serial
            ),
        ));
    }
    if let Some(barcode) = barcode {
        is_inside_on(tx, barcode).await?;
        if volumes::volume_get(tx, barcode).await?.is_some() {
            return Err(status::precondition(
                "NOT_A_CLEANING_CARTRIDGE",
                format!("{barcode} is a volume for data: name a cleaning cartridge"),
            ));
        }
        match cleanings_left_on(tx, barcode).await? {
            Some(0) => {
                return Err(status::precondition(
                    "CLEANING_EXPIRED",
                    format!(
                        "cleaning cartridge {barcode} is used up: export it with `taf library export {barcode}`, and import a new one"
                    ),
                ));
            }
            Some(_) => {}
            // From now on it is never taken for data.
            None => cleaning::cleaning_name_on(tx, barcode).await?,
        }
    }
    with_cartridge_on(tx, "drive-clean", drive.id, barcode, actor).await
}
