//! `taf version verify`: read the parts of a version back and prove them.

use taf_proto::v1::VerifyVersionRequest;

use crate::client::{Client, request_id};
use crate::command::sample::Sample;
use crate::failure::{Exit, Failure};
use crate::follow::{detached, detached_all, follow_each};
use crate::human;
use crate::output::Output;
use crate::resource::{id, version};

/// Read what a version needs back from tape and prove every segment and every file; damaged files are named
///
/// Nothing is written. One job for each volume. Each part that was read is dated in the catalog: `taf versions` shows since when all
/// parts of a version are proved, and after a sample still shows nothing if some never were. Exit status 3 says that something is damaged. An archive is verified by itself when it has been written.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf version verify daily
  taf version verify daily@3 --dry-run
  taf version verify daily --sample 5%  some of its parts, chosen at random
  taf version verify daily --for 30m    on each of its volumes as much as can be read in half an hour
  taf version verify films@a1           the first archive of plan films")]
pub struct Verify {
    /// PLAN for its newest version, PLAN@N, PLAN@aN for an archive, or lines/L/versions/N
    #[arg(value_name = "PLAN[@N]")]
    version: String,
    #[command(flatten)]
    sample: Sample,
    /// Only say what would be read
    #[arg(long)]
    dry_run: bool,
    /// Do not wait for the end
    #[arg(long, conflicts_with = "dry_run")]
    detach: bool,
}

impl Verify {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let request = VerifyVersionRequest {
            name: version(&client, &self.version).await?,
            sample_percent: self.sample.percent(),
            time_limit: self.sample.time_limit(),
            seed: self.sample.seed(),
            validate_only: self.dry_run,
            request_id: request_id(),
        };
        let answer = client
            .versions()
            .verify_version(request)
            .await?
            .into_inner();
        let (chosen, all) = (answer.part_count, answer.total_part_count);
        self.sample.tell(&self.version, chosen, all, answer.seed);
        if self.dry_run {
            if out.json() {
                out.message("VerifyVersionResponse", &answer)?;
            } else {
                let volumes: Vec<_> = answer.volumes.iter().map(|volume| id(volume)).collect();
                out.line(format!(
                    "would read {}, {}; volumes in order: {}",
                    human::counted(answer.part_count, "part", "parts"),
                    human::size(answer.byte_count),
                    volumes.join(" ")
                ))?;
            }
            return Ok(Exit::Done);
        }
        if self.detach {
            return match &answer.jobs[..] {
                [job] => detached(job, out),
                jobs => detached_all(jobs, out),
            };
        }
        follow_each(&client, &answer.jobs, out).await
    }
}
