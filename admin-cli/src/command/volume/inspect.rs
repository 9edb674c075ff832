//! `taf volume inspect`: compare what is on cartridges with the catalog.

use std::collections::HashSet;

use taf_proto::v1::{InspectVolumeRequest, ListVolumesRequest, Volume};

use crate::client::{Client, all, read, request_id};
use crate::command::library::libraries;
use crate::command::order::Order;
use crate::failure::{Exit, Failure};
use crate::output::{Output, say};
use crate::resource::{id, name};

/// Compare label and end of data of volumes with the catalog, so that they may be written again
///
/// Nothing is written. A volume is read only until it is inspected when the catalog may be older than the tapes: after the restore
/// of a dump, for instance. A volume that is what the catalog says is written again; one that is not stays read only, and how it
/// differs is said. When every volume has been inspected, the catalog is trusted again.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf volume inspect TAF001L8
  taf volume inspect --all --dry-run
  taf volume inspect --all               every volume that has to be inspected and is in a library
  taf volume inspect --all --library ADIC203102344_LLA")]
pub struct Inspect {
    /// Barcodes
    #[arg(value_name = "BARCODE", required_unless_present = "all")]
    barcodes: Vec<String>,
    /// Every volume that has to be inspected
    #[arg(long, conflicts_with = "barcodes")]
    all: bool,
    /// With --all: only in this library
    #[arg(long, value_name = "SERIAL", requires = "all")]
    library: Option<String>,
    #[command(flatten)]
    order: Order,
}

impl Inspect {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let barcodes = if self.all {
            self.suspects(&client).await?
        } else {
            self.barcodes.clone()
        };
        if barcodes.is_empty() {
            say("no volume has to be inspected");
        }
        let mut asked = Vec::new();
        for barcode in &barcodes {
            let request = InspectVolumeRequest {
                name: name("volumes", barcode),
                dry_run: self.order.dry_run,
                request_id: request_id(),
            };
            let answer = client.volumes().inspect_volume(request).await?.into_inner();
            asked.push((id(barcode).to_owned(), answer));
        }
        if let [(_, answer)] = asked.as_slice() {
            return self.order.conclude(&client, answer, out).await;
        }
        self.order
            .conclude_all(&client, "VOLUME", asked, &mut |_| None, out)
            .await
    }

    /// Barcodes of the volumes to inspect that are in a library; says of the others that they are not.
    async fn suspects(&self, client: &Client) -> Result<Vec<String>, Failure> {
        let volumes: Vec<Volume> = all(async |page_token| {
            let request = ListVolumesRequest {
                page_size: 1000,
                page_token,
                pool: String::new(),
            };
            let page = read(|| {
                let (mut volumes, request) = (client.volumes(), request.clone());
                async move { volumes.list_volumes(request).await }
            })
            .await?;
            Ok((page.volumes, page.next_page_token))
        })
        .await?;
        let (inside, outside): (Vec<Volume>, Vec<Volume>) = volumes
            .into_iter()
            .filter(|volume| volume.suspect_time.is_some())
            .partition(|volume| !volume.location.is_empty());
        if !outside.is_empty() && self.library.is_none() {
            let barcodes: Vec<&str> = outside.iter().map(|v| v.barcode.as_str()).collect();
            say(format!(
                "in no library, and not inspected: {}",
                barcodes.join(" ")
            ));
        }
        let mut barcodes: Vec<String> = inside.into_iter().map(|v| v.barcode).collect();
        if let Some(serial) = &self.library {
            let wanted = name("libraries", serial);
            let libraries = libraries(client).await?;
            let library = libraries.into_iter().find(|library| library.name == wanted);
            let library = library.ok_or_else(|| {
                Failure::usage(
                    format!("there is no library {serial}"),
                    "see which there are: taf library".to_owned(),
                )
            })?;
            let slots = library.slots.into_iter().map(|slot| slot.barcode);
            let drives = library.drive_slots.into_iter().map(|drive| drive.barcode);
            let there: HashSet<String> = slots.chain(drives).collect();
            barcodes.retain(|barcode| there.contains(barcode));
        }
        Ok(barcodes)
    }
}
