//! `taf volume label`.

use taf_proto::v1::{
    LabelCandidate, LabelVolumeRequest, LabelVolumesRequest, LabelVolumesResponse,
};

use super::place_words;
use crate::client::{Client, request_id};
use crate::command::order::Order;
use crate::failure::{Exit, Failure};
use crate::follow::{detached_all, follow_all};
use crate::human;
use crate::output::{Output, Rows, say};
use crate::resource::{id, name, optional_name};

/// Write our label at the beginning of a blank cartridge, and follow it to its end
///
/// Anything but a blank cartridge is refused, and what is on it is said. With --all, every cartridge of the libraries that the
/// catalog does not know is labelled, in drives that nobody else wants; asked again, it goes on with what is left.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf volume label TAF001L8 --pool default
  taf volume label TAF002L8 --pool offsite --detach
  taf volume label --all --pool default --dry-run
  taf volume label --all --pool default")]
#[allow(clippy::struct_excessive_bools)] // switches of a command line
pub struct Label {
    /// Barcode of a cartridge in a library or drive
    #[arg(required_unless_present = "all")]
    barcode: Option<String>,
    /// Label every cartridge that the catalog does not know
    #[arg(long, conflicts_with_all = ["barcode", "force"])]
    all: bool,
    /// With --all: only in this library
    #[arg(long, value_name = "SERIAL", requires = "all")]
    library: Option<String>,
    /// The pool that it is for
    #[arg(long)]
    pool: String,
    /// Give up whatever is on the cartridge; it is written down who asked for it
    #[arg(long)]
    force: bool,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Do not wait for the end
    #[arg(long)]
    detach: bool,
}

impl Label {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let Some(barcode) = &self.barcode else {
            return self.all(&client, out).await;
        };
        let request = LabelVolumeRequest {
            barcode: id(barcode).to_owned(),
            pool: name("pools", &self.pool),
            request_id: request_id(),
            force: self.force,
            dry_run: self.dry_run,
        };
        let answer = client.volumes().label_volume(request).await?.into_inner();
        let order = Order {
            dry_run: self.dry_run,
            detach: self.detach,
        };
        order.conclude(&client, &answer, out).await
    }

    async fn all(&self, client: &Client, out: &mut Output) -> Result<Exit, Failure> {
        let library = self.library.as_deref();
        let request = LabelVolumesRequest {
            pool: name("pools", &self.pool),
            library: optional_name("libraries", library),
            dry_run: self.dry_run,
            request_id: request_id(),
        };
        let answer = client.volumes().label_volumes(request).await?.into_inner();
        if self.dry_run {
            return list(&answer, out);
        }
        let (chosen, refused): (Vec<_>, Vec<_>) =
            answer.cartridges.iter().partition(|c| c.refusal.is_none());
        for candidate in &refused {
            say(format!("not {}: {}", named(candidate), why(candidate)));
        }
        let jobs: Vec<String> = chosen.iter().map(|c| c.job.clone()).collect();
        if jobs.is_empty() {
            say("there is nothing to label");
        }
        if self.detach {
            return detached_all(&jobs, out);
        }
        follow_all(client, &jobs, out).await
    }
}

fn list(answer: &LabelVolumesResponse, out: &mut Output) -> Result<Exit, Failure> {
    out.list(
        "cartridges",
        "LabelCandidate",
        &answer.cartridges,
        |cartridges| {
            let mut rows = Rows::new(&["CARTRIDGE", "WHERE", "WOULD BE"]);
            for candidate in cartridges {
                let what = match &candidate.refusal {
                    None => "labelled, if it is blank".to_owned(),
                    Some(_) => format!("left: {}", why(candidate)),
                };
                rows.push([
                    named(candidate),
                    place_words(&candidate.location),
                    human::clean(&what).into_owned(),
                ]);
            }
            rows
        },
    )?;
    Ok(Exit::Done)
}

fn named(candidate: &LabelCandidate) -> String {
    match candidate.barcode.as_str() {
        "" => "what has no readable barcode".to_owned(),
        barcode => barcode.to_owned(),
    }
}

fn why(candidate: &LabelCandidate) -> String {
    let refusal = candidate.refusal.as_ref();
    refusal.map_or_else(String::new, |r| format!("{} ({})", r.message, r.reason))
}
