//! `taf version expire`: a version is not kept any more.

use taf_proto::v1::{ExpireVersionRequest, ExpireVersionResponse};

use crate::client::{Client, request_id};
use crate::failure::{Exit, Failure};
use crate::human;
use crate::incomplete;
use crate::output::{Output, say};
use crate::resource::{id, version};

/// Let a version expire: it can't be restored any more, and what it alone needs is given free
///
/// There is no way back. What other versions need stays, whatever it was written for. The last good version of a plan is refused
/// without --force, and so is one that is not whole after a rebuild of the catalog: given up, it never becomes whole, should what it lacks
/// come after all, and neither may what was built on it and was not met yet. The same goes for a number under which something was met that no
/// closing record tells of (taf catalog rebuild --status). What is held or locked is refused in any case. A volume on which nothing is needed can be written anew after
/// some days: `taf volume list` says when.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf version expire daily@3 --dry-run
  taf version expire daily@3
  taf version expire daily@3 --force     also if it is not whole
  taf version delete films@a1            the same")]
pub struct Expire {
    /// PLAN@N, PLAN@aN for an archive, or lines/L/versions/N
    #[arg(value_name = "PLAN@N")]
    version: String,
    /// Give up even the last good version, or one that is not whole; it is written down who did
    #[arg(long)]
    force: bool,
    /// Only say what would be given free
    #[arg(long)]
    dry_run: bool,
}

impl Expire {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        if !self.version.contains(['@', '/']) {
            return Err(Failure::usage(
                format!("{} does not say which version", self.version),
                format!(
                    "write {}@N; which there are: taf version list --plan {}",
                    self.version, self.version
                ),
            ));
        }
        let client = Client::signed_in().await?;
        let name = match version(&client, &self.version).await {
            // What no closing record tells of is no version that is listed.
            Err(failure) if failure.reason == "RESOURCE_NOT_FOUND" => {
                let found = incomplete::named(&client, &self.version).await?;
                found.ok_or(failure)?
            }
            found => found?,
        };
        let request = ExpireVersionRequest {
            name,
            force: self.force,
            dry_run: self.dry_run,
            request_id: request_id(),
        };
        let answer = client
            .retention()
            .expire_version(request)
            .await?
            .into_inner();
        if out.json() {
            out.message("ExpireVersionResponse", &answer)?;
        } else if self.dry_run {
            out.line(format!("would give {}", freed(&answer)))?;
            if !answer.incomplete_reason.is_empty() {
                out.line(lost(&answer))?;
            }
        } else {
            say(format!(
                "{} is not kept any more; gives {}",
                self.version,
                freed(&answer)
            ));
        }
        Ok(Exit::Done)
    }
}

/// What is lost with a version that is not whole.
fn lost(answer: &ExpireVersionResponse) -> String {
    if answer.lost_unknown {
        let why = human::clean(&answer.incomplete_reason);
        return format!("what would be lost can't be told: {why}");
    }
    format!(
        "would lose {}, {}, but for those that other versions have; it is not whole: {}",
        human::counted(answer.lost_file_count, "file", "files"),
        human::size(answer.lost_byte_count),
        human::clean(&answer.incomplete_reason)
    )
}

fn freed(answer: &ExpireVersionResponse) -> String {
    let mut parts = vec![format!(
        "free {}, {}",
        human::counted(answer.freed_part_count, "part", "parts"),
        human::size(answer.freed_byte_count)
    )];
    if !answer.freed_volumes.is_empty() {
        let volumes = answer.freed_volumes.iter().map(|volume| id(volume));
        let volumes: Vec<&str> = volumes.collect();
        parts.push(format!("nothing is needed then on {}", volumes.join(" ")));
    }
    if !answer.waiting_for.is_empty() {
        parts.push(format!("after {}", answer.waiting_for));
    }
    parts.join("; ")
}
