//! `taf catalog distrust` and `taf catalog trust`: whether the catalog may be older than the tapes.

use taf_proto::v1::{DistrustCatalogRequest, TrustCatalogRequest};

use crate::client::{Client, request_id};
use crate::failure::{Exit, Failure};
use crate::human;
use crate::output::{Output, say};
use crate::resource::id;

/// Say that the catalog may be older than the tapes, as after the restore of a dump
///
/// From then on nothing is written to any tape unless it is forced, what is being written ends, nothing expires and nothing is
/// removed, until every volume has been inspected (taf volume inspect --all). TAF notices most restores by itself; say it when
/// you have restored a database and want to be sure.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf catalog distrust --dry-run
  taf catalog distrust --reason 'dump of Sunday restored'")]
pub struct Distrust {
    /// Why, for others
    #[arg(long, default_value = "", hide_default_value = true)]
    reason: String,
    /// Only say what would come of it
    #[arg(long)]
    dry_run: bool,
}

impl Distrust {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let request = DistrustCatalogRequest {
            reason: self.reason,
            dry_run: self.dry_run,
            request_id: request_id(),
        };
        let answer = client.trust().distrust_catalog(request).await?.into_inner();
        if out.json() {
            out.message("DistrustCatalogResponse", &answer)?;
            return Ok(Exit::Done);
        }
        let jobs = answer.ended_jobs.iter().map(|job| id(job));
        let jobs: Vec<&str> = jobs.collect();
        let mut lines = vec![match answer.suspect_volume_count {
            0 => "the catalog has no volumes: there is nothing to be wrong about".to_owned(),
            count => format!(
                "to inspect before anything is written again: {}",
                human::counted(count.into(), "volume", "volumes")
            ),
        }];
        if !jobs.is_empty() {
            lines.push(format!("jobs that end because of it: {}", jobs.join(" ")));
        }
        tell(self.dry_run, &lines, out)?;
        if !self.dry_run && answer.suspect_volume_count > 0 {
            say("next: taf volume inspect --all");
        }
        Ok(Exit::Done)
    }
}

/// Answer for a catalog that is not trusted, without having every volume inspected
///
/// Backups go on, on volumes that were inspected. Those that were not stay read only until they are; if the catalog is as new as
/// the tapes for sure (nothing was written since the dump was made), --volumes answers for them, too. What was written after a
/// dump to a volume that is never inspected is not in the catalog, and versions made from now on may bear the numbers of those.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf catalog trust --dry-run            which volumes were not inspected
  taf catalog trust
  taf catalog trust --volumes            the database was moved, and nothing was written meanwhile")]
pub struct Trust {
    /// Answer for the volumes, too
    #[arg(long)]
    volumes: bool,
    /// Only say what would come of it
    #[arg(long)]
    dry_run: bool,
}

impl Trust {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let request = TrustCatalogRequest {
            volumes: self.volumes,
            dry_run: self.dry_run,
            request_id: request_id(),
        };
        let answer = client.trust().trust_catalog(request).await?.into_inner();
        if out.json() {
            out.message("TrustCatalogResponse", &answer)?;
            return Ok(Exit::Done);
        }
        let volumes = answer.suspect_volumes.iter().map(|volume| id(volume));
        let volumes: Vec<&str> = volumes.collect();
        let line = match (volumes.is_empty(), self.volumes) {
            (true, _) => "every volume was inspected".to_owned(),
            (false, true) => format!(
                "not inspected, and trusted all the same: {}",
                volumes.join(" ")
            ),
            (false, false) => format!("read only until they are inspected: {}", volumes.join(" ")),
        };
        tell(self.dry_run, &[line], out)?;
        Ok(Exit::Done)
    }
}

/// What would come of it is what was asked for; what came of it is only said.
fn tell(dry_run: bool, lines: &[String], out: &mut Output) -> Result<(), Failure> {
    for line in lines {
        let line = human::clean(line);
        if dry_run {
            out.line(line)?;
        } else {
            say(line);
        }
    }
    Ok(())
}
