//! What a robot does for an operator, as jobs.

use taf_proto::v1::{
    Carriage, ExportCartridgesRequest, ImportCartridgesRequest, InventoryLibraryRequest,
    MoveCartridgeRequest,
};

use super::libraries;
use crate::client::{Client, request_id};
use crate::command::order::Order;
use crate::failure::{Exit, Failure};
use crate::follow::{detached_all, follow_all};
use crate::output::Output;
use crate::preview;
use crate::resource::{id, name};

/// The library that is named, or the only one.
async fn chosen(client: &Client, library: Option<&String>) -> Result<String, Failure> {
    if let Some(serial) = library {
        return Ok(name("libraries", id(serial)));
    }
    match &libraries(client).await?[..] {
        [one] => Ok(one.name.clone()),
        [] => Err(Failure::new(
            "NO_LIBRARY",
            "no library was ever connected",
            "start the tape agent of the host that drives it",
        )),
        several => {
            let serials: Vec<&str> = several.iter().map(|l| id(&l.name)).collect();
            Err(Failure::new(
                "SEVERAL_LIBRARIES",
                "there are several libraries",
                format!("name one with --library: {}", serials.join(", ")),
            ))
        }
    }
}

/// Have a library look at all its elements anew
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  taf library inventory")]
pub struct Inventory {
    /// The library's serial number, if there are several
    #[arg(long, value_name = "SERIAL")]
    library: Option<String>,
    #[command(flatten)]
    order: Order,
}

impl Inventory {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let request = InventoryLibraryRequest {
            name: chosen(&client, self.library.as_ref()).await?,
            dry_run: self.order.dry_run,
            request_id: request_id(),
        };
        let answer = client.devices().inventory_library(request).await?;
        let answer = answer.into_inner();
        self.order.conclude(&client, &answer, out).await
    }
}

/// Carry a cartridge from one element of a library to an empty slot or mail slot
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf library move 1001 1005
  taf library move 1001 1005 --library TAFL1 --dry-run")]
pub struct Move {
    /// Element address that it is at
    from: u32,
    /// Element address of an empty slot or mail slot
    to: u32,
    /// The library's serial number, if there are several
    #[arg(long, value_name = "SERIAL")]
    library: Option<String>,
    #[command(flatten)]
    order: Order,
}

impl Move {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let request = MoveCartridgeRequest {
            name: chosen(&client, self.library.as_ref()).await?,
            from_address: self.from,
            to_address: self.to,
            dry_run: self.order.dry_run,
            request_id: request_id(),
        };
        let answer = client.devices().move_cartridge(request).await?.into_inner();
        self.order.conclude(&client, &answer, out).await
    }
}

/// Bring cartridges from mail slots into slots
///
/// What the catalog does not know stays unknown: nothing is written to it before `taf volume label`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf library import --all
  taf library import --slot 10 --slot 11")]
pub struct Import {
    /// Element address of a mail slot
    #[arg(
        long,
        value_name = "ADDRESS",
        required_unless_present = "all",
        conflicts_with = "all"
    )]
    slot: Vec<u32>,
    /// Everything that is in the mail slots
    #[arg(long)]
    all: bool,
    /// The library's serial number, if there are several
    #[arg(long, value_name = "SERIAL")]
    library: Option<String>,
    #[command(flatten)]
    order: Order,
}

impl Import {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let request = ImportCartridgesRequest {
            name: chosen(&client, self.library.as_ref()).await?,
            addresses: self.slot.clone(),
            dry_run: self.order.dry_run,
            request_id: request_id(),
        };
        let answer = client.devices().import_cartridges(request).await?;
        conclude(&client, self.order, &answer.into_inner().carriages, out).await
    }
}

/// Bring cartridges into mail slots, for people to take out
///
/// While the mail slots are full the jobs wait, and say what is to be taken out. A volume that was taken out is outside: `taf
/// volume list` shows where it was last.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf library export TAF001L8
  taf library export TAF001L8 TAF002L8 --detach")]
pub struct Export {
    /// Their barcodes
    #[arg(required = true)]
    barcodes: Vec<String>,
    #[command(flatten)]
    order: Order,
}

impl Export {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let request = ExportCartridgesRequest {
            barcodes: self.barcodes.iter().map(|b| id(b).to_owned()).collect(),
            dry_run: self.order.dry_run,
            request_id: request_id(),
        };
        let answer = client.devices().export_cartridges(request).await?;
        conclude(&client, self.order, &answer.into_inner().carriages, out).await
    }
}

async fn conclude(
    client: &Client,
    order: Order,
    carriages: &[Carriage],
    out: &mut Output,
) -> Result<Exit, Failure> {
    if order.dry_run && out.json() {
        out.list("carriages", "Carriage", carriages, |_| {
            crate::output::Rows::new(&[])
        })?;
        return Ok(Exit::Done);
    }
    if order.dry_run {
        for carriage in carriages {
            let what = match carriage.barcode.as_str() {
                "" => carriage.location.as_str(),
                barcode => barcode,
            };
            preview::show(&format!("for {what} it"), carriage.preview.as_ref(), out)?;
        }
        return Ok(Exit::Done);
    }
    let jobs: Vec<String> = carriages.iter().map(|c| c.job.clone()).collect();
    if order.detach {
        return detached_all(&jobs, out);
    }
    follow_all(client, &jobs, out).await
}
