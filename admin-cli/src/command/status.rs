//! `taf status`: how things are, on one screen.

use taf_proto::v1::{GetStatusRequest, GetStatusResponse};

use super::job;
use crate::client::{Client, read};
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::resource::id;
use crate::{human, progress};

/// Show how things are: what runs, what is missing, what failed
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf status
  taf status --json")]
pub struct Status {}

impl Status {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let status = read(|| {
            let mut system = client.system();
            async move { system.get_status(GetStatusRequest {}).await }
        })
        .await?;
        if out.json() {
            out.message("GetStatusResponse", &status)?;
        } else {
            show(&status, out)?;
        }
        Ok(Exit::Done)
    }
}

fn show(status: &GetStatusResponse, out: &mut Output) -> Result<(), Failure> {
    let last = match &status.last_publish_time {
        Some(_) => format!(
            ", the last of {}",
            human::time(status.last_publish_time.as_ref())
        ),
        None => String::new(),
    };
    for (key, value) in [
        (
            "controller",
            format!(
                "{} of installation {}",
                status.program_version, status.installation_uuid
            ),
        ),
        ("database", status.database.clone()),
        (
            "agents",
            format!(
                "{} of {} connected",
                status.connected_agent_count, status.agent_count
            ),
        ),
        (
            "drives",
            format!(
                "{} of {} usable",
                status.usable_drive_count, status.drive_count
            ),
        ),
        (
            "volumes",
            format!(
                "{} of {} appendable",
                status.appendable_volume_count, status.volume_count
            ),
        ),
        (
            "versions",
            format!("{}{last}", human::count(status.version_count)),
        ),
    ] {
        out.line(format!("{key:<11} {}", human::clean(&value)))?;
    }
    if status.active_jobs.is_empty() {
        out.line("\nno job runs")?;
    } else {
        out.line("\nactive jobs")?;
        for job in &status.active_jobs {
            let (line, path) = progress::lines(job);
            out.line(format!("  {}", human::clean(&line)))?;
            if !path.is_empty() {
                out.line(format!("      {path}"))?;
            }
        }
    }
    if !status.failed_jobs.is_empty() {
        out.line("\nfailed within the last day")?;
        out.table(&job::rows(&status.failed_jobs))?;
        for failed in &status.failed_jobs {
            if let Some(error) = &failed.error {
                let line = format!(
                    "job {}: {} ({})",
                    id(&failed.name),
                    error.message,
                    error.reason
                );
                out.line(format!("  {}", human::clean(&line)))?;
                if !error.next_step.is_empty() {
                    out.line(format!("      next: {}", human::clean(&error.next_step)))?;
                }
            }
        }
    }
    if !status.warnings.is_empty() {
        out.line("\nneeds a person")?;
        for warning in &status.warnings {
            out.line(format!("  {}", human::clean(warning)))?;
        }
    }
    Ok(())
}
