//! `taf run`: a backup, now.

use taf_proto::v1::{RunPlanRequest, RunPlanResponse, VersionType};

use super::version_type::{Type, word};
use crate::client::{Client, request_id};
use crate::failure::{Exit, Failure};
use crate::follow::{detached, follow};
use crate::human;
use crate::output::Output;
use crate::resource::{id, name};

/// Run a plan now, and follow it to its end
///
/// An archive is followed to the end of its verification, and of the removal of its sources if that was asked for. Ctrl-C only ends the following; taf job cancel stops the job.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf run daily
  taf run daily --type incremental
  taf run films --type archive  (verified as soon as it is written)
  taf run films --type archive --remove-sources --empty-directories
  taf run daily --type synthetic-full --dry-run  (which volumes it would read, and what room it would need)
  taf run daily --type synthetic-full            (a new full version from the tapes, while the source is at rest)
  taf run daily --detach        (prints the job's name and goes)")]
#[allow(clippy::struct_excessive_bools, clippy::struct_field_names)] // flags, as people write them
pub struct Run {
    /// Name of the plan
    plan: String,
    /// What to make; what the plan says if not given. What has nothing to build on becomes a full version, and says why
    #[arg(long, value_name = "TYPE")]
    r#type: Option<Type>,
    /// Of an archive: remove what it holds from where it came, once that is verified; see taf version remove-sources --help
    #[arg(long)]
    remove_sources: bool,
    /// Of a removal: remove only what is verified on so many copies
    #[arg(long, value_name = "N", requires = "remove_sources", value_parser = clap::value_parser!(u32).range(1..=16))]
    copies: Option<u32>,
    /// Of a removal: remove directories, too, that become empty
    #[arg(long, requires = "remove_sources")]
    empty_directories: bool,
    /// Only check, and say what would be made and what that takes
    #[arg(long, conflicts_with = "detach")]
    dry_run: bool,
    /// Do not wait for the end
    #[arg(long)]
    detach: bool,
}

impl Run {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let request = RunPlanRequest {
            name: name("plans", &self.plan),
            request_id: request_id(),
            r#type: Type::of(self.r#type).into(),
            remove_sources: self.remove_sources,
            copies: self.copies.unwrap_or_default(),
            remove_empty_directories: self.empty_directories,
            validate_only: self.dry_run,
        };
        let answer = client.plans().run_plan(request).await?.into_inner();
        if self.dry_run {
            return foretell(&answer, out);
        }
        let job = answer.job;
        if self.detach {
            return detached(&job, out);
        }
        follow(&client, &job, out).await
    }
}

/// Says what would be done.
fn foretell(answer: &RunPlanResponse, out: &mut Output) -> Result<Exit, Failure> {
    if out.json() {
        out.message("RunPlanResponse", answer)?;
        return Ok(Exit::Done);
    }
    let made = answer.version_type();
    let why = match answer.promotion_reason.as_str() {
        "" => String::new(),
        why => format!(" ({why})"),
    };
    out.line(format!("would make a version of type {}{why}", word(made)))?;
    if made != VersionType::SyntheticFull {
        return Ok(Exit::Done);
    }
    let volumes: Vec<&str> = answer.volumes.iter().map(|name| id(name)).collect();
    out.line(format!(
        "would copy {}, {}, and write them to other volumes of the pool; volumes in order: {}",
        human::counted(answer.entry_count, "entry", "entries"),
        human::size(answer.byte_count),
        volumes.join(" ")
    ))?;
    out.line(format!(
        "would need two drives, and {} of disk on the source agent's host",
        human::size(answer.spool_byte_count)
    ))?;
    Ok(Exit::Done)
}
