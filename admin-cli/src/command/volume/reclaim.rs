//! `taf volume reclaim`: copy what is still needed of volumes elsewhere, so that they become free.

use taf_proto::v1::{ReclaimVolumesRequest, Reclamation};

use crate::client::{Client, request_id};
use crate::command::sample::Percent;
use crate::failure::{Exit, Failure};
use crate::follow::{detached_all, follow, follow_all};
use crate::human;
use crate::output::{Output, Rows, say};
use crate::resource::{id, name, optional_name};

/// Copy what is still needed of mostly dead volumes to other volumes of their pool, and free them
///
/// Parts that no version needs any more stay behind. Each part that is needed is read, every segment and file in it is proved, and it
/// is written whole and unchanged to another volume of the pool; from then on versions are restored from there. The old cartridge is
/// not touched: when nothing on it is needed it rests as any free volume does, a week unless configured, and is then written anew, but not
/// before the copies were read back. Versions, retention and what can be restored are the same before, meanwhile and afterwards.
///
/// One drive is enough. The parts wait on the disk of the drive's tape agent until the other volume is in the drive: in its `spool`, else
/// beside its state, where they may use half of what is free. It may be cancelled, or die, at any moment; run again, it goes on with what
/// is not copied yet. A part that is damaged stays where it is and is named, and so is the volume: exit status 3. However
/// it ends, jobs begin that read the copies back when no other job wants a drive.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf volume reclaim TAF001L8 --dry-run        what is needed of it, by which versions
  taf volume reclaim TAF001L8
  taf volume reclaim TAF001L8 TAF007L8 --detach
  taf volume reclaim --pool offsite --below 20%    its full volumes of whose bytes less than a fifth is needed")]
pub struct Reclaim {
    /// Barcodes
    #[arg(value_name = "BARCODE", required_unless_present = "pool")]
    barcodes: Vec<String>,
    /// The volumes of this pool that take no more, and of which little is needed
    #[arg(long, conflicts_with = "barcodes", requires = "below")]
    pool: Option<String>,
    /// With --pool: those of whose bytes less than this share is needed
    #[arg(long, value_name = "PERCENT", requires = "pool")]
    below: Option<Percent>,
    /// Only say what would be copied
    #[arg(long)]
    dry_run: bool,
    /// Do not wait for the end
    #[arg(long)]
    detach: bool,
}

impl Reclaim {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let request = ReclaimVolumesRequest {
            names: self.barcodes.iter().map(|b| name("volumes", b)).collect(),
            pool: optional_name("pools", self.pool.as_deref()),
            below_percent: self.below.map_or(0, Percent::number),
            validate_only: self.dry_run,
            request_id: request_id(),
        };
        let answer = client
            .volumes()
            .reclaim_volumes(request)
            .await?
            .into_inner();
        if answer.volumes.is_empty() && self.pool.is_some() {
            say("no volume of the pool takes no more and has so little that is needed");
        }
        if self.dry_run {
            return planned(&answer.volumes, out);
        }
        let mut jobs = Vec::new();
        for volume in &answer.volumes {
            if volume.job.is_empty() {
                say(format!("{}: {}", id(&volume.volume), volume.refusal));
            } else {
                jobs.push(volume.job.clone());
            }
        }
        match jobs.as_slice() {
            _ if self.detach => detached_all(&jobs, out),
            [job] => follow(&client, job, out).await,
            jobs => follow_all(&client, jobs, out).await,
        }
    }
}

fn planned(volumes: &[Reclamation], out: &mut Output) -> Result<Exit, Failure> {
    out.list("volumes", "Reclamation", volumes, |volumes| {
        let mut rows = Rows::new(&[
            "VOLUME",
            ">NEEDED",
            ">OF",
            ">SHARE",
            ">PARTS",
            ">VERSIONS",
            "NEEDED BY",
            "THEN",
        ]);
        for volume in volumes {
            let then = if volume.refusal.is_empty() {
                &volume.outcome
            } else {
                &volume.refusal
            };
            rows.push([
                id(&volume.volume).to_owned(),
                human::size(volume.byte_count),
                human::size(volume.volume_byte_count),
                share(volume.byte_count, volume.volume_byte_count),
                human::count(volume.part_count),
                human::count(volume.version_count),
                needed_by(volume),
                human::clean(then).into_owned(),
            ]);
        }
        rows
    })?;
    Ok(Exit::Done)
}

fn share(part: u64, of: u64) -> String {
    match of {
        0 => String::new(),
        of => format!("{:.0} %", part as f64 * 100.0 / of as f64),
    }
}

/// Plans with the versions that need something: `daily 7, 6; weekly 2`.
fn needed_by(volume: &Reclamation) -> String {
    let mut plans: Vec<(String, Vec<&str>)> = Vec::new();
    for of in &volume.versions {
        let (line, number) = of
            .version
            .rsplit_once("/versions/")
            .unwrap_or(("", &of.version));
        let plan = match of.plan.as_str() {
            "" => line,
            plan => id(plan),
        };
        match plans.last_mut() {
            Some((last, numbers)) if last == plan => numbers.push(number),
            _ => plans.push((plan.to_owned(), vec![number])),
        }
    }
    let named: Vec<String> = plans
        .iter()
        .map(|(plan, numbers)| format!("{} {}", human::clean(plan), numbers.join(", ")))
        .collect();
    let more = volume
        .version_count
        .saturating_sub(volume.versions.len() as u64);
    match more {
        0 => named.join("; "),
        more => format!("{}; and {more} more", named.join("; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use taf_proto::v1::NeedingVersion;

    #[test]
    fn versions_are_named_by_plan() {
        let version = |plan: &str, line: u64, number: u64| NeedingVersion {
            version: format!("lines/{line}/versions/{number}"),
            plan: plan.to_owned(),
            part_count: 1,
        };
        let volume = Reclamation {
            version_count: 5,
            versions: vec![
                version("plans/daily", 1, 7),
                version("plans/daily", 1, 6),
                version("", 3, 2),
            ],
            ..Reclamation::default()
        };
        assert_eq!(needed_by(&volume), "daily 7, 6; lines/3 2; and 2 more");
        assert_eq!(share(1, 8), "12 %");
        assert_eq!(share(1, 0), "");
    }
}
