//! `taf volume erase` and `taf volume format`.

use taf_proto::v1::{EraseMethod, EraseVolumeRequest};

use crate::client::{Client, request_id};
use crate::command::order::Order;
use crate::failure::{Exit, Failure};
use crate::human;
use crate::output::Output;
use crate::resource::{id, name};

/// What both take.
#[derive(Debug, clap::Args)]
struct Common {
    /// Barcode of a cartridge in a library, or of a volume that is lost
    barcode: String,
    /// Give up whatever is on the cartridge, versions that live on it too; it is written down who asked for it
    #[arg(long)]
    force: bool,
    /// Only say what would be done, and what would be lost
    #[arg(long)]
    dry_run: bool,
    /// Do not wait for the end
    #[arg(long)]
    detach: bool,
}

/// Make a cartridge blank
///
/// A cartridge with versions that live on it, or with anything that the catalog does not expect, is refused without --force.
/// Afterwards it has no label: `taf volume label` puts it to use again. A volume that no library shows is not erased: with --force it
/// counts as lost from then on, and what was on it too.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf volume erase TAF001L8 --dry-run
  taf volume erase TAF001L8
  taf volume erase TAF001L8 --long --detach
  taf volume erase TAF001L8 --force --dry-run    # of one that is in no library: what is lost with it")]
pub struct Erase {
    #[command(flatten)]
    common: Common,
    /// Overwrite the whole tape, which takes hours and can't be stopped
    #[arg(long)]
    long: bool,
}

/// Format a cartridge: one partition, blank
///
/// Needed for cartridges that came with two partitions (LTFS). The rules are those of `taf volume erase`. Some drives calibrate
/// the cartridge anew, which takes up to two hours.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  taf volume format TAF001L8 --force")]
pub struct Format {
    #[command(flatten)]
    common: Common,
}

impl Erase {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let method = if self.long {
            EraseMethod::Long
        } else {
            EraseMethod::Quick
        };
        run(&self.common, method, out).await
    }
}

impl Format {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        run(&self.common, EraseMethod::Format, out).await
    }
}

async fn run(common: &Common, method: EraseMethod, out: &mut Output) -> Result<Exit, Failure> {
    let client = Client::signed_in().await?;
    let request = EraseVolumeRequest {
        name: name("volumes", id(&common.barcode)),
        method: method.into(),
        force: common.force,
        dry_run: common.dry_run,
        request_id: request_id(),
    };
    let answer = client.volumes().erase_volume(request).await?.into_inner();
    if answer.job.is_empty() && !common.dry_run {
        if out.json() {
            out.message("EraseVolumeResponse", &answer)?;
        } else {
            let lost = answer.preview.map_or(0, |p| p.lost_versions.len());
            out.line(format!(
                "volume {} counts as lost, and {} with it",
                common.barcode,
                human::counted(lost as u64, "version", "versions")
            ))?;
        }
        return Ok(Exit::Done);
    }
    let order = Order {
        dry_run: common.dry_run,
        detach: common.detach,
    };
    order.conclude(&client, &answer, out).await
}
