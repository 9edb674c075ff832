//! `taf volume verify`: read parts back and prove them.

use taf_proto::v1::{
    ListVolumesRequest, VerifyVolumeRequest, VerifyVolumeResponse, Volume, VolumeState,
};

use crate::client::{Client, all, read, request_id};
use crate::command::sample::Sample;
use crate::failure::{Exit, Failure};
use crate::follow::{detached, follow_each};
use crate::human;
use crate::output::{Output, Rows};
use crate::resource::{id, name};

/// Read volumes back and prove every segment and every file on them; damaged files are named
///
/// Nothing is written. Each part that was read is dated in the catalog: `taf volume show` shows when each was proved last, and a
/// version counts as verified only since all its parts are, so a sample never looks like more than it is, and samples add up.
/// Which parts a sample has is chosen at random by a seed, which is said and kept with the job. Exit status 3 says that something
/// is damaged.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf volume verify TAF001L8
  taf volume verify TAF001L8 TAF002L8 --dry-run
  taf volume verify --all --sample 5%          some parts of each, chosen at random
  taf volume verify TAF001L8 --for 30m         as much as can be read in half an hour
  taf volume verify TAF001L8 --sample 5% --seed 40417    the same parts again")]
pub struct Verify {
    /// Barcodes
    #[arg(value_name = "BARCODE", required_unless_present = "all")]
    barcodes: Vec<String>,
    /// Every volume that holds parts
    #[arg(long, conflicts_with = "barcodes")]
    all: bool,
    #[command(flatten)]
    sample: Sample,
    /// Only say what would be read
    #[arg(long)]
    dry_run: bool,
    /// Do not wait for the end
    #[arg(long)]
    detach: bool,
}

impl Verify {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let barcodes = if self.all {
            every(&client).await?
        } else {
            self.barcodes.clone()
        };
        let mut asked = Vec::new();
        for barcode in &barcodes {
            let request = VerifyVolumeRequest {
                name: name("volumes", barcode),
                sample_percent: self.sample.percent(),
                time_limit: self.sample.time_limit(),
                seed: self.sample.seed(),
                validate_only: self.dry_run,
                request_id: request_id(),
            };
            let answer = client.volumes().verify_volume(request).await?.into_inner();
            let (chosen, all) = (answer.part_count, answer.total_part_count);
            self.sample.tell(id(barcode), chosen, all, answer.seed);
            asked.push((id(barcode).to_owned(), answer));
        }
        if self.dry_run {
            return planned(&asked, out);
        }
        let jobs: Vec<String> = asked.into_iter().map(|(_, answer)| answer.job).collect();
        if self.detach {
            for job in &jobs {
                detached(job, out)?;
            }
            return Ok(Exit::Done);
        }
        follow_each(&client, &jobs, out).await
    }
}

/// Barcodes of all volumes with parts.
async fn every(client: &Client) -> Result<Vec<String>, Failure> {
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
    let readable = |volume: &Volume| {
        volume.part_count > 0
            && !matches!(
                volume.state(),
                VolumeState::Labelling | VolumeState::Unlabelled
            )
    };
    Ok(volumes
        .into_iter()
        .filter(readable)
        .map(|volume| volume.barcode)
        .collect())
}

fn planned(asked: &[(String, VerifyVolumeResponse)], out: &mut Output) -> Result<Exit, Failure> {
    if out.json() {
        out.begin("volumes")?;
        for (barcode, answer) in asked {
            out.item_document(&serde_json::json!({
                "barcode": barcode, "part_count": answer.part_count, "byte_count": answer.byte_count,
                "total_part_count": answer.total_part_count, "seed": answer.seed,
            }))?;
        }
        out.end()?;
        return Ok(Exit::Done);
    }
    let mut rows = Rows::new(&["VOLUME", ">PARTS", ">OF", ">BYTES"]);
    for (barcode, answer) in asked {
        rows.push([
            barcode.clone(),
            human::count(answer.part_count),
            human::count(answer.total_part_count),
            human::size(answer.byte_count),
        ]);
    }
    out.table(&rows)?;
    Ok(Exit::Done)
}
