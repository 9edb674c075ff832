//! Drives and libraries, as their workers report them.

use taf_proto::v1::device_service_server::DeviceService;
use taf_proto::v1::{
    Drive, DriveState, Library, ListDrivesRequest, ListDrivesResponse, ListLibrariesRequest,
    ListLibrariesResponse, Slot,
};
use tonic::{Request, Response, Status};

use super::health::Ledger;
use super::paging::Page;
use super::{PAGE_DEFAULT, PAGE_MOST, names, timestamp};
use crate::app::App;
use crate::store::drives::{self, DriveRow};
use crate::store::libraries::{self, ElementRow, LibraryRow};

/// `taf.v1.DeviceService`.
#[derive(Clone)]
pub struct Devices(pub App);

fn drive(row: DriveRow, ledger: &Ledger) -> Drive {
    let (cleaning, down_reason) = ledger.drive_state(&row.serial);
    let state = match (row.connected, row.job, row.medium.as_str()) {
        (false, ..) => DriveState::Unknown,
        (true, Some(_), _) => DriveState::Busy,
        (true, None, _) if !down_reason.is_empty() => DriveState::Down,
        (true, None, "loaded" | "unloaded") => DriveState::Loaded,
        (true, None, _) if row.full => DriveState::Loaded,
        _ => DriveState::Empty,
    };
    Drive {
        name: names::drive(&row.serial),
        health: ledger.drive(&row.serial),
        cleaning: cleaning.into(),
        vendor: row.vendor,
        product: row.product,
        revision: row.firmware,
        agent: names::agent(&row.agent),
        state: state.into(),
        barcode: row.barcode.unwrap_or_default(),
        job: row.job.map(names::job).unwrap_or_default(),
        library: row
            .library
            .map(|(_, serial, _)| names::library(&serial))
            .unwrap_or_default(),
        state_reason: match (row.state_reason, row.connected) {
            (Some(reason), _) => reason,
            (None, false) => "its worker is not connected".to_owned(),
            (None, true) => String::new(),
        },
        down_reason,
    }
}

fn library(row: LibraryRow, elements: &[ElementRow]) -> Library {
    let slots = elements.iter().filter(|e| e.kind != "drive").map(|e| Slot {
        address: e.address as u32,
        mail_slot: e.kind == "mail-slot",
        full: e.occupied,
        barcode: e.barcode.clone().unwrap_or_default(),
    });
    let drives = elements
        .iter()
        .filter_map(|e| e.drive_serial.as_deref())
        .map(names::drive);
    Library {
        name: names::library(&row.serial),
        vendor: row.vendor,
        product: row.product,
        agent: names::agent(&row.agent),
        connected: row.connected,
        inventory_time: row.inventory_at.map(timestamp),
        slots: slots.collect(),
        drives: drives.collect(),
    }
}

#[tonic::async_trait]
impl DeviceService for Devices {
    async fn list_drives(
        &self,
        request: Request<ListDrivesRequest>,
    ) -> Result<Response<ListDrivesResponse>, Status> {
        let request = request.into_inner();
        let page = Page::read(
            "drives",
            request.page_size,
            &request.page_token,
            PAGE_DEFAULT,
            PAGE_MOST,
        )?;
        let client = self.0.store.client().await?;
        let mut rows = drives::drive_list(&client, page.after_text()?, page.limit()).await?;
        let next_page_token = page.cut(&mut rows, |row| row.serial.clone());
        let serials: Vec<&str> = rows.iter().map(|row| row.serial.as_str()).collect();
        let ledger = Ledger::load(&client, &serials, &[]).await?;
        Ok(Response::new(ListDrivesResponse {
            drives: rows.into_iter().map(|row| drive(row, &ledger)).collect(),
            next_page_token,
        }))
    }

    async fn list_libraries(
        &self,
        request: Request<ListLibrariesRequest>,
    ) -> Result<Response<ListLibrariesResponse>, Status> {
        let request = request.into_inner();
        let page = Page::read(
            "libraries",
            request.page_size,
            &request.page_token,
            PAGE_DEFAULT,
            PAGE_MOST,
        )?;
        let client = self.0.store.client().await?;
        let mut rows = libraries::library_list(&client, page.after_text()?, page.limit()).await?;
        let next_page_token = page.cut(&mut rows, |row| row.serial.clone());
        let mut found = Vec::new();
        for row in rows {
            let elements = libraries::library_elements(&client, row.id).await?;
            found.push(library(row, &elements));
        }
        Ok(Response::new(ListLibrariesResponse {
            libraries: found,
            next_page_token,
        }))
    }
}
