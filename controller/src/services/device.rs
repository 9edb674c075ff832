//! Drives and libraries, as their workers report them.

use prost::Message as _;
use taf_proto::agent::DriveObservation;
use taf_proto::v1::device_service_server::DeviceService;
use taf_proto::v1::{
    Carriage, CleanDriveRequest, CleanDriveResponse, Cleaning, Drive, DriveFlow, DriveSlot,
    DriveSource, DriveState, ExportCartridgesRequest, ExportCartridgesResponse, GetDriveRequest,
    GetDriveResponse, ImportCartridgesRequest, ImportCartridgesResponse, InventoryLibraryRequest,
    InventoryLibraryResponse, Library, ListDrivesRequest, ListDrivesResponse, ListLibrariesRequest,
    ListLibrariesResponse, LoadDriveRequest, LoadDriveResponse, MoveCartridgeRequest,
    MoveCartridgeResponse, RewindDriveRequest, RewindDriveResponse, Slot, UnloadDriveRequest,
    UnloadDriveResponse,
};
use tonic::{Request, Response, Status};

use super::health::Ledger;
use super::mutation::Mutation;
use super::order::{self, Made, Order};
use super::paging::Page;
use super::{PAGE_DEFAULT, PAGE_MOST, names, status, timestamp, volume};
use crate::access::Caller;
use crate::app::App;
use crate::session::Registry;
use crate::store::drives::{self, DriveRow, SharerRow};
use crate::store::libraries::{self, Contents, ElementRow, LibraryRow};

/// `taf.v1.DeviceService`.
#[derive(Clone)]
pub struct Devices {
    app: App,
    registry: Registry,
}

impl Devices {
    /// The service. New jobs wake the reconciler.
    pub fn new(app: App, registry: Registry) -> Devices {
        Devices { app, registry }
    }
}

fn drive(row: DriveRow, ledger: &Ledger, sharers: &[SharerRow]) -> Drive {
    let sharers = sharers.iter().filter(|sharer| sharer.drive_id == row.id);
    let sources: Vec<DriveSource> = sharers.map(source).collect();
    let (cleaning, down_reason) = ledger.drive_state(&row.serial);
    let seen = row.progress.as_deref();
    let seen = seen.and_then(|bytes| DriveObservation::decode(bytes).ok());
    // What a worker that is gone said last is not so now.
    let seen = seen.filter(|_| row.connected).unwrap_or_default();
    let state = match (row.connected, row.job, row.medium.as_str()) {
        // Also of a worker that was lost with it: it can't end before the command has.
        _ if row.hung.is_some() => DriveState::Hung,
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
        cleaning_waits_for: cleaning_waits_for(&row, cleaning),
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
        hung_since: row.hung.as_ref().map(|hung| timestamp(hung.since)),
        state_reason: match (row.hung, row.state_reason, row.connected) {
            (Some(hung), ..) => format!(
                "it has not answered {} since {:.0}: look at its panel, and switch it off and on if it does not recover",
                hung.command, hung.since
            ),
            (None, Some(reason), _) => reason,
            (None, None, false) => "its worker is not connected".to_owned(),
            (None, None, true) => String::new(),
        },
        down_reason,
        phase: match sources.iter().find(|source| source.phase == "writing") {
            Some(writing) => writing.phase.clone(),
            None => seen.phase,
        },
        flow: together(&sources).or(seen.flow),
        sources,
    }
}

/// A job that shares a drive.
fn source(row: &SharerRow) -> DriveSource {
    let seen = row.progress.as_deref();
    let seen = seen.and_then(|bytes| DriveObservation::decode(bytes).ok());
    let seen = seen.unwrap_or_default();
    DriveSource {
        job: names::job(row.job),
        phase: seen.phase,
        flow: seen.flow,
    }
}

/// How data of all sources flow to a drive; none if there are none.
fn together(sources: &[DriveSource]) -> Option<DriveFlow> {
    let mut flows = sources.iter().filter_map(|source| source.flow.as_ref());
    let mut all = *flows.next()?;
    let nanos = |flow: &DriveFlow| {
        let duration = flow.starved_duration.unwrap_or_default();
        i128::from(duration.seconds) * 1_000_000_000 + i128::from(duration.nanos)
    };
    let mut starved = nanos(&all);
    for flow in flows {
        all.bytes_per_second += flow.bytes_per_second;
        all.source_bytes_per_second += flow.source_bytes_per_second;
        all.ring_byte_count += flow.ring_byte_count;
        all.ring_size += flow.ring_size;
        all.spool_byte_count += flow.spool_byte_count;
        all.spool_size += flow.spool_size;
        // The drive waits only if nobody has anything for it.
        all.collecting &= flow.collecting;
        all.starved_count += flow.starved_count;
        starved += nanos(flow);
        all.reposition_count = match (all.reposition_count, flow.reposition_count) {
            (None, count) | (count, None) => count,
            (Some(one), Some(other)) => Some(one + other),
        };
    }
    all.starved_duration = Some(prost_types::Duration {
        seconds: (starved / 1_000_000_000) as i64,
        nanos: (starved % 1_000_000_000) as i32,
    });
    Some(all)
}

/// Why a drive that wants to be cleaned is not.
fn cleaning_waits_for(row: &DriveRow, cleaning: Cleaning) -> String {
    match (&row.clean_waits_for, row.cleaned_at) {
        _ if !matches!(cleaning, Cleaning::Requested | Cleaning::Required) => String::new(),
        (Some(why), _) => why.clone(),
        (None, Some(at)) if !row.clean_due && row.job.is_none() => format!(
            "it was cleaned {at:.0} and asks again: try another cleaning cartridge with `taf drive clean {} --cartridge BARCODE`, or have the drive looked at",
            row.serial
        ),
        _ => String::new(),
    }
}

fn library(row: LibraryRow, elements: &[ElementRow], contents: &Contents) -> Library {
    let state = |e: &ElementRow| {
        let state = e.barcode.as_ref().and_then(|b| contents.states.get(b));
        state.map_or(0, |state| volume::state(state).into())
    };
    let slots = elements.iter().filter(|e| e.kind != "drive").map(|e| {
        let left = e
            .barcode
            .as_deref()
            .and_then(|b| contents.cleanings_left(b));
        Slot {
            address: e.address as u32,
            mail_slot: e.kind == "mail-slot",
            full: e.occupied,
            barcode: e.barcode.clone().unwrap_or_default(),
            exception: e.exception.clone().unwrap_or_default(),
            volume_state: state(e),
            cleaning: left.is_some(),
            cleanings_left: left.unwrap_or_default(),
            barcode_twice: e
                .barcode
                .as_ref()
                .is_some_and(|b| contents.twice.contains(b)),
        }
    });
    let seats = elements.iter().filter(|e| e.kind == "drive");
    let drive_slots = seats.map(|e| DriveSlot {
        address: e.address as u32,
        drive: e
            .drive_serial
            .as_deref()
            .map(names::drive)
            .unwrap_or_default(),
        full: e.occupied,
        barcode: e.barcode.clone().unwrap_or_default(),
        source_address: e.source_address.unwrap_or_default() as u32,
        exception: e.exception.clone().unwrap_or_default(),
        volume_state: state(e),
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
        pause: row.pause.unwrap_or_default(),
        picker_exception: row.picker_exception.unwrap_or_default(),
        drive_slots: drive_slots.collect(),
    }
}

fn carriages(made: &[Made]) -> Vec<Carriage> {
    made.iter()
        .map(|one| Carriage {
            barcode: one.barcode.clone(),
            location: one.location.clone(),
            job: one.job(),
            preview: one.preview(),
        })
        .collect()
}

fn given(barcode: &str) -> Result<Option<&str>, Status> {
    match barcode {
        "" => Ok(None),
        barcode if names::is_serial(barcode) => Ok(Some(barcode)),
        _ => Err(status::invalid("barcode", names::SERIAL_RULE)),
    }
}

fn drive_of(name: &str) -> Result<&str, Status> {
    names::drive_serial(name).map_err(|e| status::invalid("name", e))
}

fn library_of(name: &str) -> Result<&str, Status> {
    names::library_serial(name).map_err(|e| status::invalid("name", e))
}

/// An RPC that is an order about one thing, and whose answer is one job.
macro_rules! ordered {
    ($self:ident, $request:ident, $action:literal, $subject:expr, $order:expr, $answer:expr) => {{
        let caller = Caller::of(&$request)?.clone();
        let $request = $request.into_inner();
        let subject: String = $subject;
        let mutation = Mutation::new(&caller, $action, subject, &$request.request_id, &$request)?;
        let order: Order<'_> = $order;
        let outcome = order::carry_out(
            &$self.app,
            &$self.registry,
            &mutation,
            &order,
            $request.dry_run,
            $answer,
        )
        .await;
        if $request.dry_run {
            return outcome.map(Response::new);
        }
        mutation.concluded(&$self.app.store, outcome).await
    }};
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
        let client = self.app.store.client().await?;
        let mut rows = drives::drive_list(&client, page.after_text()?, page.limit()).await?;
        let next_page_token = page.cut(&mut rows, |row| row.serial.clone());
        let serials: Vec<&str> = rows.iter().map(|row| row.serial.as_str()).collect();
        let ledger = Ledger::load(&client, &serials, &[]).await?;
        let sharers = drives::drive_sharers(&client).await?;
        Ok(Response::new(ListDrivesResponse {
            drives: rows
                .into_iter()
                .map(|row| drive(row, &ledger, &sharers))
                .collect(),
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
        let client = self.app.store.client().await?;
        let mut rows = libraries::library_list(&client, page.after_text()?, page.limit()).await?;
        let next_page_token = page.cut(&mut rows, |row| row.serial.clone());
        let contents = libraries::library_contents(&client).await?;
        let mut found = Vec::new();
        for row in rows {
            let elements = libraries::library_elements(&client, row.id).await?;
            found.push(library(row, &elements, &contents));
        }
        Ok(Response::new(ListLibrariesResponse {
            libraries: found,
            next_page_token,
        }))
    }

    async fn get_drive(
        &self,
        request: Request<GetDriveRequest>,
    ) -> Result<Response<GetDriveResponse>, Status> {
        let name = request.into_inner().name;
        let serial = drive_of(&name)?;
        let client = self.app.store.client().await?;
        let found = drives::drive_get(&client, serial).await?;
        let found = found.ok_or_else(|| status::not_found(&name))?;
        let ledger = Ledger::load(&client, &[serial], &[]).await?;
        let sharers = drives::drive_sharers(&client).await?;
        Ok(Response::new(GetDriveResponse {
            drive: Some(drive(found, &ledger, &sharers)),
        }))
    }

    async fn load_drive(
        &self,
        request: Request<LoadDriveRequest>,
    ) -> Result<Response<LoadDriveResponse>, Status> {
        ordered!(
            self,
            request,
            "DeviceService.LoadDrive",
            request.name.clone(),
            Order::Load {
                drive: drive_of(&request.name)?,
                barcode: given(&request.barcode)?,
            },
            |made| LoadDriveResponse {
                job: made[0].job(),
                preview: made[0].preview(),
            }
        )
    }

    async fn unload_drive(
        &self,
        request: Request<UnloadDriveRequest>,
    ) -> Result<Response<UnloadDriveResponse>, Status> {
        ordered!(
            self,
            request,
            "DeviceService.UnloadDrive",
            request.name.clone(),
            Order::Unload {
                drive: drive_of(&request.name)?,
            },
            |made| UnloadDriveResponse {
                job: made[0].job(),
                preview: made[0].preview(),
            }
        )
    }

    async fn rewind_drive(
        &self,
        request: Request<RewindDriveRequest>,
    ) -> Result<Response<RewindDriveResponse>, Status> {
        ordered!(
            self,
            request,
            "DeviceService.RewindDrive",
            request.name.clone(),
            Order::Rewind {
                drive: drive_of(&request.name)?,
            },
            |made| RewindDriveResponse {
                job: made[0].job(),
                preview: made[0].preview(),
            }
        )
    }

    async fn clean_drive(
        &self,
        request: Request<CleanDriveRequest>,
    ) -> Result<Response<CleanDriveResponse>, Status> {
        ordered!(
            self,
            request,
            "DeviceService.CleanDrive",
            request.name.clone(),
            Order::Clean {
                drive: drive_of(&request.name)?,
                barcode: given(&request.barcode)?,
            },
            |made| CleanDriveResponse {
                job: made[0].job(),
                preview: made[0].preview(),
            }
        )
    }

    async fn inventory_library(
        &self,
        request: Request<InventoryLibraryRequest>,
    ) -> Result<Response<InventoryLibraryResponse>, Status> {
        ordered!(
            self,
            request,
            "DeviceService.InventoryLibrary",
            request.name.clone(),
            Order::Inventory {
                library: library_of(&request.name)?,
            },
            |made| InventoryLibraryResponse {
                job: made[0].job(),
                preview: made[0].preview(),
            }
        )
    }

    async fn move_cartridge(
        &self,
        request: Request<MoveCartridgeRequest>,
    ) -> Result<Response<MoveCartridgeResponse>, Status> {
        ordered!(
            self,
            request,
            "DeviceService.MoveCartridge",
            format!(
                "{} from {} to {}",
                request.name, request.from_address, request.to_address
            ),
            Order::Move {
                library: library_of(&request.name)?,
                from: request.from_address,
                to: request.to_address,
            },
            |made| MoveCartridgeResponse {
                job: made[0].job(),
                preview: made[0].preview(),
            }
        )
    }

    async fn import_cartridges(
        &self,
        request: Request<ImportCartridgesRequest>,
    ) -> Result<Response<ImportCartridgesResponse>, Status> {
        ordered!(
            self,
            request,
            "DeviceService.ImportCartridges",
            request.name.clone(),
            Order::Import {
                library: library_of(&request.name)?,
                addresses: &request.addresses,
            },
            |made| ImportCartridgesResponse {
                carriages: carriages(made)
            }
        )
    }

    async fn export_cartridges(
        &self,
        request: Request<ExportCartridgesRequest>,
    ) -> Result<Response<ExportCartridgesResponse>, Status> {
        let barcodes = &request.get_ref().barcodes;
        if barcodes.is_empty() || !barcodes.iter().all(|b| names::is_serial(b)) {
            return Err(status::invalid(
                "barcodes",
                format!("must be at least one, each {}", names::SERIAL_RULE),
            ));
        }
        ordered!(
            self,
            request,
            "DeviceService.ExportCartridges",
            request.barcodes.join(" "),
            Order::Export {
                barcodes: &request.barcodes,
            },
            |made| ExportCartridgesResponse {
                carriages: carriages(made)
            }
        )
    }
}
