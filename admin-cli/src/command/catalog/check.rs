//! `taf catalog check`: does the catalog hold together.

use std::time::{Duration, Instant};

use taf_proto::v1::{
    CatalogFinding, CatalogNews, CheckCatalogRequest, CheckSummary, RepairCatalogRequest,
    catalog_news::Told,
};
use tonic::Streaming;

use crate::client::Client;
use crate::command::missing;
use crate::failure::{Exit, Failure};
use crate::human;
use crate::output::{Output, say};

/// Progress is said so often at most.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// Prove that the catalog holds together: listings, parts, volumes, what versions need
///
/// Reads the whole catalog as of one moment, while all else goes on; no tape is touched. Findings are named as they come, at most 10
/// of each kind, and counted at the end. Exit status 3 says that there are any. With --repair, what follows from other rows is put
/// right afterwards; what does not is only told. Without it nothing is changed: that is the dry run.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf catalog check
  taf catalog check --repair
  taf catalog check --json | jq '.findings[].kind'")]
pub struct Check {
    /// Put right what follows from other rows; it is written down who did
    #[arg(long)]
    repair: bool,
}

impl Check {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let summary = if self.repair {
            let answers = client
                .check()
                .repair_catalog(RepairCatalogRequest {})
                .await?;
            told(answers.into_inner(), |answer| answer.news, out).await?
        } else {
            let answers = client.check().check_catalog(CheckCatalogRequest {}).await?;
            told(answers.into_inner(), |answer| answer.news, out).await?
        };
        let rows = human::counted(summary.row_count, "listing was", "listings were");
        if summary.findings.is_empty() {
            say(format!("{rows} read: the catalog holds together"));
            return Ok(Exit::Done);
        }
        say(format!("{rows} read"));
        for found in &summary.findings {
            say(format!("{:>8}  {}", found.count, found.kind));
        }
        if self.repair {
            say(format!(
                "{} changed; what is left is found by another check",
                human::counted(summary.repaired_row_count, "row was", "rows were")
            ));
        }
        Ok(Exit::Issues)
    }
}

/// Shows what comes, and gives the summary.
async fn told<A>(
    mut answers: Streaming<A>,
    news: impl Fn(A) -> Option<CatalogNews>,
    out: &mut Output,
) -> Result<CheckSummary, Failure> {
    let mut said = Instant::now();
    let mut summary = None;
    if out.json() {
        out.begin("findings")?;
    }
    while let Some(answer) = answers.message().await? {
        match news(answer).and_then(|news| news.told) {
            Some(Told::Finding(found)) => show(&found, out)?,
            Some(Told::Progress(progress)) if said.elapsed() >= SAY_EVERY => {
                said = Instant::now();
                say(format!(
                    "step {} of {}, {}, {} read",
                    progress.done_step_count + 1,
                    progress.step_count,
                    progress.step,
                    human::counted(progress.row_count, "listing", "listings")
                ));
            }
            Some(Told::Summary(last)) => summary = Some(last),
            Some(Told::Progress(_)) | None => {}
        }
    }
    if out.json() {
        out.end()?;
    }
    summary.ok_or_else(|| missing("summary"))
}

fn show(found: &CatalogFinding, out: &mut Output) -> Result<(), Failure> {
    if out.json() {
        return out.item("CatalogFinding", found);
    }
    let repair = if found.repairable {
        ", which --repair puts right"
    } else {
        ""
    };
    let line = format!(
        "{}: {} ({}{repair})",
        found.subject, found.message, found.kind
    );
    out.line(human::clean(&line))
}
