//! `taf retention`: how long versions are kept.

use taf_proto::v1::{
    GetPlanRequest, PreviewRetentionRequest, PreviewRetentionResponse, RetentionDecision,
};

use super::keep::{Rules, words};
use crate::client::{Client, read};
use crate::failure::{Exit, Failure};
use crate::human;
use crate::output::{Output, Rows, say};
use crate::resource::{id, name};

/// How long versions are kept: preview
///
/// The rules belong to a plan: `taf plan create` and `taf plan update` set them, `taf plan show` shows them.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Preview(Preview),
}

impl Command {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        match self {
            Self::Preview(command) => command.run(out).await,
        }
    }
}

/// Say which versions of a plan are kept and why, and which would expire; nothing is done
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf retention preview daily
  taf retention preview daily --keep-weekly 8              (as if this were changed)
  taf retention preview daily --keep-anew --keep-last 3    (as if these were the only rules)")]
pub struct Preview {
    /// The plan
    plan: String,
    #[command(flatten)]
    keep: Rules,
}

impl Preview {
    async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let plan = name("plans", &self.plan);
        let request = GetPlanRequest { name: plan.clone() };
        let answer = read(|| {
            let (mut plans, request) = (client.plans(), request.clone());
            async move { plans.get_plan(request).await }
        })
        .await?;
        let known = answer.plan.unwrap_or_default().retention;
        let mut rules = known.clone().unwrap_or_default();
        let changed = self.keep.put(&mut rules);
        let request = PreviewRetentionRequest {
            plan,
            retention: changed.then(|| rules.clone()),
        };
        let answer = read(|| {
            let (mut retention, request) = (client.retention(), request.clone());
            async move { retention.preview_retention(request).await }
        })
        .await?;
        if out.json() {
            out.message("PreviewRetentionResponse", &answer)?;
            return Ok(Exit::Done);
        }
        out.table(&rows(&self.plan, &answer))?;
        let going = answer.decisions.iter().filter(|d| !d.kept).count();
        say(format!(
            "rules: {}; {} kept, {} would expire",
            words(&rules),
            answer.decisions.len() - going,
            going
        ));
        Ok(Exit::Done)
    }
}

fn rows(plan: &str, answer: &PreviewRetentionResponse) -> Rows {
    let mut rows = Rows::new(&["VERSION", "BEGUN", "KEPT", "UNTIL", "WHY"]);
    for decision in &answer.decisions {
        rows.push([
            format!(
                "{}@{}{}",
                id(plan),
                if decision.archive { "a" } else { "" },
                decision.number
            ),
            human::time(decision.start_time.as_ref()),
            if decision.kept { "yes" } else { "expires" }.to_owned(),
            human::time(decision.until.as_ref()),
            why(decision),
        ]);
    }
    rows
}

fn why(decision: &RetentionDecision) -> String {
    human::clean(&decision.reasons.join("; ")).into_owned()
}
