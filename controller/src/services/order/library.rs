//! Orders about a library: what is carried from one of its elements to another.

use tonic::Status;

use super::{ALL, Made, is_inside_on, one_on, refused};
use crate::services::{names, status};
use crate::store::Transaction;
use crate::store::attempts::Task;
use crate::store::jobs::{self, NewTask};
use crate::store::libraries::{self, ElementRow, LibraryRow};

pub(super) async fn library_on(
    tx: &Transaction<'_>,
    serial: &str,
) -> Result<(LibraryRow, Vec<ElementRow>), Status> {
    let libraries = libraries::library_list(tx, "", ALL).await?;
    let library = libraries
        .into_iter()
        .find(|l| l.serial == serial)
        .ok_or_else(|| status::not_found(&names::library(serial)))?;
    let elements = libraries::library_elements(tx, library.id).await?;
    Ok((library, elements))
}

fn element(elements: &[ElementRow], address: u32) -> Result<&ElementRow, Status> {
    elements
        .iter()
        .find(|e| i64::from(e.address) == i64::from(address))
        .ok_or_else(|| refused(&taf_core::carry::no_element(address)))
}

fn location(library: &LibraryRow, element: &ElementRow) -> String {
    match &element.drive_serial {
        Some(serial) if element.kind == "drive" => names::drive(serial),
        _ => names::slot(&library.serial, element.address as u32),
    }
}

pub(super) async fn move_on(
    tx: &Transaction<'_>,
    library: &str,
    (from, to): (u32, u32),
    actor: &str,
) -> Result<Vec<Made>, Status> {
    let (library, elements) = library_on(tx, library).await?;
    let (source, target) = (element(&elements, from)?, element(&elements, to)?);
    if !source.occupied {
        return Err(status::precondition(
            "ELEMENT_EMPTY",
            format!("there is no cartridge in element {from}: `taf library` shows what is where"),
        ));
    }
    if target.kind == "drive" {
        return Err(status::precondition(
            "ELEMENT_IS_DRIVE",
            format!("element {to} is a drive: bring a cartridge into it with `taf drive load`"),
        ));
    }
    if target.occupied {
        return Err(status::precondition(
            "ELEMENT_FULL",
            format!("there is a cartridge in element {to} already: choose an empty one"),
        ));
    }
    let mut new = carrying(&library, source, "move");
    new.task.to_address = Some(target.address);
    if source.kind == "drive" && source.barcode.is_none() {
        return Err(status::precondition(
            "NO_BARCODE",
            format!(
                "what is in element {from} has no readable barcode: take it out with `taf drive unload`"
            ),
        ));
    }
    one_on(tx, &new, carried(&library, source), actor).await
}

fn carrying<'a>(library: &LibraryRow, source: &'a ElementRow, kind: &'a str) -> NewTask<'a> {
    NewTask {
        kind,
        library_id: Some(library.id),
        cartridge: source.barcode.as_deref(),
        task: Task {
            from_address: Some(source.address),
            ..Task::default()
        },
        ..NewTask::default()
    }
}

fn carried(library: &LibraryRow, source: &ElementRow) -> Made {
    Made {
        barcode: source.barcode.clone().unwrap_or_default(),
        location: location(library, source),
        ..Made::default()
    }
}

pub(super) async fn import_on(
    tx: &Transaction<'_>,
    library: &str,
    addresses: &[u32],
    actor: &str,
) -> Result<Vec<Made>, Status> {
    let (library, elements) = library_on(tx, library).await?;
    let mut wanted = Vec::new();
    for &address in addresses {
        let place = element(&elements, address)?;
        if place.kind != "mail-slot" || !place.occupied {
            return Err(status::precondition(
                "NOTHING_TO_IMPORT",
                format!(
                    "element {address} is not a mail slot with a cartridge in it: `taf library` shows the mail slots"
                ),
            ));
        }
        wanted.push(place);
    }
    if addresses.is_empty() {
        wanted.extend(
            elements
                .iter()
                .filter(|e| e.kind == "mail-slot" && e.occupied),
        );
    }
    if wanted.is_empty() {
        return Err(status::precondition(
            "NOTHING_TO_IMPORT",
            format!(
                "the mail slots of library {} are empty: put a cartridge into one and ask again",
                library.serial
            ),
        ));
    }
    let mut made = Vec::new();
    for place in wanted {
        let new = carrying(&library, place, "import");
        let job = jobs::job_create_task_on(tx, &new, actor).await?;
        made.push(Made {
            job: Some(job),
            ..carried(&library, place)
        });
    }
    Ok(made)
}

pub(super) async fn export_on(
    tx: &Transaction<'_>,
    barcodes: &[String],
    actor: &str,
) -> Result<Vec<Made>, Status> {
    let mut made = Vec::new();
    let libraries = libraries::library_list(tx, "", ALL).await?;
    let mut shown = Vec::new();
    for library in &libraries {
        let elements = libraries::library_elements(tx, library.id).await?;
        shown.extend(
            elements
                .into_iter()
                .filter(|e| e.occupied)
                .map(|e| (library, e)),
        );
    }
    // A library that is connected knows better what is in it.
    shown.sort_by_key(|(library, _)| !library.connected);
    for barcode in barcodes {
        let found = shown
            .iter()
            .find(|(_, e)| e.barcode.as_deref() == Some(barcode.as_str()));
        let Some((library, place)) = found else {
            is_inside_on(tx, barcode).await?;
            continue;
        };
        if place.kind == "mail-slot" {
            return Err(status::precondition(
                "ALREADY_EXPORTED",
                format!(
                    "{barcode} is in mail slot {} already: take it out",
                    place.address
                ),
            ));
        }
        let new = carrying(library, place, "export");
        let job = jobs::job_create_task_on(tx, &new, actor).await?;
        made.push(Made {
            job: Some(job),
            ..carried(library, place)
        });
    }
    Ok(made)
}
