//! `taf catalog rebuild`: the catalog out of cartridges.

use std::collections::BTreeSet;

use taf_proto::v1::{IncompleteVersion, Job, RescanVolumeRequest};

use crate::client::{Client, request_id};
use crate::command::library::libraries;
use crate::command::order::Order;
use crate::failure::{Exit, Failure};
use crate::human;
use crate::incomplete::{self, incomplete};
use crate::output::{Output, Rows, say};
use crate::resource::{id, name};

/// Why nothing comes back from a cartridge that holds nothing.
const BLANK: &str = "BLANK";

/// Take what is on cartridges into the catalog
///
/// For the day when the database is lost, or is older than the tapes. Cartridges may come in any order and more than once: what the
/// catalog has stays as it is. Of each one the label and the volume indexes are read, and those parts that no index tells of. A
/// version is whole when all that it needs has been met; --status says which are not, what they lack, and which volumes to bring, and
/// under which numbers something was met that no closing record tells of. Until
/// then they are shown as far as they are known, and taf restore --partial brings back what is known of them. Plans and sources come
/// back as removed ones, with their names: make them again, with the same names, and their next backup goes on where the last one
/// ended. Volumes are read only until they are inspected (taf volume inspect --all).
///
/// A new installation only takes cartridges of its own: make it with the id of the lost one (installation = "UUID" in the controller's
/// configuration, before its first start; `taf tape inspect` shows the id on a label). See docs/disaster.md.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf catalog rebuild --all --dry-run    which cartridges would be read
  taf catalog rebuild --all              every cartridge that is in a library
  taf catalog rebuild TAF001L8 TAF007L8
  taf catalog rebuild --status           versions that are not whole yet")]
pub struct Rebuild {
    /// Barcodes
    #[arg(value_name = "BARCODE", required_unless_present_any = ["all", "status"])]
    barcodes: Vec<String>,
    /// Every cartridge in every library, but for cleaning cartridges; those that are blank are counted
    #[arg(long, conflicts_with = "barcodes")]
    all: bool,
    /// With --all: only those in this library
    #[arg(long, value_name = "SERIAL", requires = "all")]
    library: Option<String>,
    /// Say which versions are not whole yet, and read nothing
    #[arg(long, conflicts_with_all = ["barcodes", "all", "dry_run", "detach"])]
    status: bool,
    #[command(flatten)]
    order: Order,
}

impl Rebuild {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        if self.status {
            return status(&client, out).await;
        }
        let barcodes = if self.all {
            self.inside(&client).await?
        } else {
            self.barcodes.clone()
        };
        if barcodes.is_empty() {
            say(
                "no cartridge is in a library: put them in, and let the library look (taf library inventory)",
            );
        }
        let mut asked = Vec::new();
        for barcode in &barcodes {
            let request = RescanVolumeRequest {
                name: name("volumes", barcode),
                dry_run: self.order.dry_run,
                request_id: request_id(),
            };
            let answer = client.volumes().rescan_volume(request).await?.into_inner();
            asked.push((id(barcode).to_owned(), answer));
        }
        // Of all that are there some may hold nothing. One that was named is thought to hold something.
        let (all, mut blank) = (self.all, 0);
        let mut excuse = |job: &Job| {
            let is_blank = job.error.as_ref().is_some_and(|e| e.reason == BLANK);
            (all && is_blank).then(|| {
                blank += 1;
                format!("{}: blank: nothing on it", id(&job.volume))
            })
        };
        let exit = self
            .order
            .conclude_all(&client, "CARTRIDGE", asked, &mut excuse, out)
            .await;
        if blank > 0 {
            let count = human::counted(blank, "cartridge is", "cartridges are");
            say(format!("{count} blank"));
        }
        let exit = exit?;
        // Following them was left off: what they come to is not known before they have ended.
        if exit == Exit::Failed {
            say("afterwards: taf catalog rebuild --status");
            return Ok(exit);
        }
        if self.order.dry_run || self.order.detach {
            return Ok(exit);
        }
        if !out.json() {
            let lacking = incomplete(&client).await?;
            if !lacking.is_empty() {
                let count = human::counted(lacking.len() as u64, "version is", "versions are");
                say(format!(
                    "{count} not whole yet: taf catalog rebuild --status"
                ));
            }
            say("next: taf volume inspect --all");
        }
        Ok(exit)
    }

    /// Barcodes of the cartridges that are in libraries.
    async fn inside(&self, client: &Client) -> Result<Vec<String>, Failure> {
        let mut libraries = libraries(client).await?;
        if let Some(serial) = &self.library {
            let wanted = name("libraries", serial);
            libraries.retain(|library| library.name == wanted);
            if libraries.is_empty() {
                return Err(Failure::usage(
                    format!("there is no library {serial}"),
                    "see which there are: taf library".to_owned(),
                ));
            }
        }
        let mut barcodes = BTreeSet::new();
        for library in libraries {
            barcodes.extend(library.slots.into_iter().map(|slot| slot.barcode));
            barcodes.extend(library.drive_slots.into_iter().map(|drive| drive.barcode));
        }
        barcodes.retain(|barcode| !barcode.is_empty() && !barcode.starts_with("CLN"));
        Ok(barcodes.into_iter().collect())
    }
}

async fn status(client: &Client, out: &mut Output) -> Result<Exit, Failure> {
    let lacking = incomplete(client).await?;
    if lacking.is_empty() && !out.json() {
        say("every version that was met is whole");
        return Ok(Exit::Done);
    }
    out.list(
        "versions",
        "IncompleteVersion",
        &lacking,
        |lacking: &[IncompleteVersion]| {
            let mut rows = Rows::new(&["PLAN", "NUMBER", "UNKNOWN SINCE", "BRING", "LACKS"]);
            for version in lacking {
                rows.push(row(version));
            }
            rows
        },
    )?;
    Ok(Exit::Done)
}

fn row(version: &IncompleteVersion) -> [String; 5] {
    // One of no plan is named as other commands take it.
    let plan = match id(&version.plan) {
        "" => &version.name,
        plan => plan,
    };
    let bring: Vec<&str> = version.lacking_volumes.iter().map(|it| id(it)).collect();
    [
        human::clean(plan).to_string(),
        incomplete::number(version),
        match version.unknown_since_number {
            _ if version.nothing_known => "all of it".to_owned(),
            0 => "-".to_owned(),
            since => format!("version {since}"),
        },
        bring.join(" "),
        human::clean(&version.reason).to_string(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_no_plan_is_named_as_other_commands_take_it() {
        let mut version = IncompleteVersion {
            name: "lines/7/versions/3".into(),
            number: 3,
            archive: true,
            ..IncompleteVersion::default()
        };
        let shown = |version: &IncompleteVersion| row(version)[..2].join(" ");
        assert_eq!(shown(&version), "lines/7/versions/3 a3");
        version.plan = "plans/films".into();
        assert_eq!(shown(&version), "films a3");
    }
}
