//! What a drive does for an operator, as jobs.

use taf_proto::v1::{
    CleanDriveRequest, GetDriveRequest, LoadDriveRequest, RewindDriveRequest, UnloadDriveRequest,
};

use super::show::show;
use crate::client::{Client, read, request_id};
use crate::command::missing;
use crate::command::order::Order;
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::resource::{id, name};

/// What all of them take.
#[derive(Debug, clap::Args)]
struct Common {
    /// The drive's serial number
    drive: String,
    #[command(flatten)]
    order: Order,
}

impl Common {
    fn name(&self) -> String {
        name("drives", id(&self.drive))
    }
}

/// Show a drive: what is in it, what it does, and how data flow to it
///
/// While it writes: how full the memory and the spool in front of it are, what comes from the source, from which speed on
/// the drive streams, how often and how long it had to stop for want of data, and how often it went back by its own count.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf drive status 1013000001
  taf drive status 1013000001 --json")]
pub struct Status {
    /// The drive's serial number
    drive: String,
}

impl Status {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let request = GetDriveRequest {
            name: name("drives", id(&self.drive)),
        };
        let answer = read(|| {
            let (mut devices, request) = (client.devices(), request.clone());
            async move { devices.get_drive(request).await }
        })
        .await?;
        let drive = answer.drive.ok_or_else(|| missing("drive"))?;
        if out.json() {
            out.message("Drive", &drive)?;
        } else {
            show(&drive, out)?;
        }
        Ok(Exit::Done)
    }
}

/// Bring a cartridge into a drive, and have the drive thread it
///
/// A cartridge that is in the drive is unloaded and brought home first.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf drive load 1013000001 TAF001L8
  taf drive load 1013000001 TAF001L8 --dry-run")]
pub struct Load {
    #[command(flatten)]
    common: Common,
    /// Barcode of a cartridge in its library; without one, what is in the drive is threaded
    barcode: Option<String>,
}

impl Load {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let request = LoadDriveRequest {
            name: self.common.name(),
            barcode: self.barcode.clone().unwrap_or_default(),
            dry_run: self.common.order.dry_run,
            request_id: request_id(),
        };
        let answer = client.devices().load_drive(request).await?.into_inner();
        self.common.order.conclude(&client, &answer, out).await
    }
}

/// Take out what is in a drive, and bring it home to its slot
///
/// A drive that is in no library only unloads it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  taf drive unload 1013000001")]
pub struct Unload {
    #[command(flatten)]
    common: Common,
}

impl Unload {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let request = UnloadDriveRequest {
            name: self.common.name(),
            dry_run: self.common.order.dry_run,
            request_id: request_id(),
        };
        let answer = client.devices().unload_drive(request).await?.into_inner();
        self.common.order.conclude(&client, &answer, out).await
    }
}

/// Rewind what is in a drive
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  taf drive rewind 1013000001")]
pub struct Rewind {
    #[command(flatten)]
    common: Common,
}

impl Rewind {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let request = RewindDriveRequest {
            name: self.common.name(),
            dry_run: self.common.order.dry_run,
            request_id: request_id(),
        };
        let answer = client.devices().rewind_drive(request).await?.into_inner();
        self.common.order.conclude(&client, &answer, out).await
    }
}

/// Clean a drive with a cleaning cartridge of its library
///
/// Cleaning cartridges have a barcode that begins with CLN, or were named here once; how often each was used is counted, and one that is
/// used up is refused.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf drive clean 1013000001
  taf drive clean 1013000001 --cartridge CLN001L1")]
pub struct Clean {
    #[command(flatten)]
    common: Common,
    /// Barcode of the cleaning cartridge; any that is not used up if it is not named
    #[arg(long, value_name = "BARCODE")]
    cartridge: Option<String>,
}

impl Clean {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let request = CleanDriveRequest {
            name: self.common.name(),
            barcode: self.cartridge.clone().unwrap_or_default(),
            dry_run: self.common.order.dry_run,
            request_id: request_id(),
        };
        let answer = client.devices().clean_drive(request).await?.into_inner();
        self.common.order.conclude(&client, &answer, out).await
    }
}
