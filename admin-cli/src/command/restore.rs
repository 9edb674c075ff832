//! `taf restore`: a version, or paths of it, back onto a host.

use std::ffi::OsString;

use taf_proto::v1::{Collision, RestoreVersionRequest};

use super::job::list_issues;
use crate::client::{Client, request_id};
use crate::failure::{Exit, Failure};
use crate::follow::{conclude_quietly, detached, follow, until_ended};
use crate::human;
use crate::output::Output;
use crate::resource::{absolute, absolutes, id, name, version};

/// What to do where something already exists.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum CollisionWord {
    /// Leave what exists, and list it as an issue
    Never,
    /// Replace files; a directory never gives way to a file, nor the other way round
    Always,
}

/// Restore a version, or paths of it, and follow it to its end
///
/// Every entry keeps its full path below DIR; DIR "/" means the places where it came from. Ctrl-C only ends the
/// following; taf job cancel stops the job.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf restore daily --to /srv/restored
  taf restore daily@3 /srv/files/report.odt /srv/files/plans --to /srv/restored
  taf restore daily /srv/files --to / --collision always
  taf restore daily --to /srv/restored --dry-run
  taf restore replica --to /srv/replica --collision always --delete --dry-run
  taf restore replica --to /srv/replica --collision always --delete")]
pub struct Restore {
    /// PLAN for its newest version, PLAN@N, PLAN@aN for an archive, or lines/L/versions/N
    #[arg(value_name = "PLAN[@N]")]
    version: String,
    /// Absolute paths to restore, directories with all below them; everything if none
    #[arg(value_name = "PATH")]
    paths: Vec<OsString>,
    /// Absolute directory on the agent's host to write below
    #[arg(long, value_name = "DIR")]
    to: OsString,
    /// Agent to write on; where it came from if not given
    #[arg(long)]
    agent: Option<String>,
    /// What to do where something already exists
    #[arg(long, value_enum, default_value = "never")]
    collision: CollisionWord,
    /// Make the target equal: once all is restored, remove what is below the restored directories and not in the version. See it first
    /// with --dry-run
    #[arg(long)]
    delete: bool,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Do not wait for the end
    #[arg(long, conflicts_with = "dry_run")]
    detach: bool,
}

impl Restore {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let (paths, target) = (absolutes(&self.paths)?, absolute(&self.to)?);
        let client = Client::signed_in().await?;
        let collision = match self.collision {
            CollisionWord::Never => Collision::Never,
            CollisionWord::Always => Collision::Always,
        };
        let request = RestoreVersionRequest {
            version: version(&client, &self.version).await?,
            paths,
            agent: self
                .agent
                .map_or_else(String::new, |agent| name("agents", &agent)),
            target: Some(target),
            collision: collision.into(),
            dry_run: self.dry_run,
            request_id: request_id(),
            delete_extra: self.delete,
        };
        let answer = client
            .versions()
            .restore_version(request)
            .await?
            .into_inner();
        if !self.dry_run {
            if self.detach {
                return detached(&answer.job, out);
            }
            return follow(&client, &answer.job, out).await;
        }
        if out.json() {
            out.message("RestoreVersionResponse", &answer)?;
        } else {
            let volumes: Vec<_> = answer.volumes.iter().map(|volume| id(volume)).collect();
            out.line(format!(
                "would restore {}, {}; volumes in order: {}",
                human::counted(answer.entry_count, "entry", "entries"),
                human::size(answer.byte_count),
                if volumes.is_empty() {
                    "none".to_owned()
                } else {
                    volumes.join(" ")
                }
            ))?;
        }
        if answer.job.is_empty() {
            return Ok(Exit::Done);
        }
        // What would be removed only the host knows.
        let job = until_ended(&client, &answer.job).await?;
        list_issues(&client, &answer.job, out).await?;
        conclude_quietly(&job)
    }
}
