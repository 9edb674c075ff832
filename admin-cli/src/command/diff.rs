//! `taf diff`: in what two versions differ. No tape is read for it.

use std::ffi::OsString;

use taf_proto::v1::{DiffVersionsRequest, DifferenceKind, Entry, EntryDifference, EntryKind};

use super::ls::{Lacking, WHEN, lacks, letter};
use super::missing;
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::human;
use crate::output::Output;
use crate::resource::{absolute, version};

/// Show what differs between two versions
///
/// The sign before a path says how: + only the second has it, - only the first has it, M its content differs, m only mode, owner, time
/// or link target differ, T it is of another kind. Exit status 0 means equal, 1 different, 3 equal as far as both are known (a version
/// that is not whole after a rebuild of the catalog).
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{WHEN}

Examples:
  taf diff daily@3 daily@5
  taf diff 'daily@a week ago' daily /srv/files
  taf diff daily@1 weekly@1 --json"))]
pub struct Diff {
    /// PLAN for its newest version, PLAN@N, PLAN@WHEN, or lines/L/versions/N
    #[arg(value_name = "PLAN[@N]")]
    before: String,
    /// The other version
    #[arg(value_name = "PLAN[@N]")]
    after: String,
    /// Only in and below this directory
    #[arg(default_value = "/")]
    path: OsString,
}

impl Diff {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let directory = absolute(&self.path)?;
        let client = Client::signed_in().await?;
        let request = DiffVersionsRequest {
            version: version(&client, &self.before).await?,
            other_version: version(&client, &self.after).await?,
            directory: Some(directory),
        };
        let mut found = client.catalog().diff_versions(request).await?.into_inner();
        if out.json() {
            out.begin("differences")?;
        }
        let (mut equal, mut complete) = (true, false);
        let mut lacking = Lacking::default();
        while let Some(some) = found.message().await? {
            complete |= some.complete;
            lacking.say(some.lacks);
            for difference in &some.differences {
                equal = false;
                if out.json() {
                    out.item("EntryDifference", difference)?;
                } else {
                    out.line(line(difference))?;
                }
            }
            out.flush()?;
        }
        if out.json() {
            out.end()?;
        }
        if !complete {
            return Err(missing("end"));
        }
        let known = lacking.exit();
        Ok(if equal { known } else { Exit::Failed })
    }
}

fn line(difference: &EntryDifference) -> String {
    let sign = match difference.kind() {
        DifferenceKind::Unspecified => '?',
        DifferenceKind::Added => '+',
        DifferenceKind::Removed => '-',
        DifferenceKind::Type => 'T',
        DifferenceKind::Content => 'M',
        DifferenceKind::Metadata => 'm',
    };
    let mut path = human::path(difference.path.as_ref());
    let (before, after) = (difference.before.as_ref(), difference.after.as_ref());
    let is_directory = |entry: &Entry| entry.kind() == EntryKind::Directory;
    if after.or(before).is_some_and(is_directory) && !path.ends_with('/') {
        path.push('/');
    }
    let lacks = after.or(before).map(lacks).unwrap_or_default();
    match (before, after) {
        (Some(before), Some(after)) => {
            let changes = changes(before, after);
            format!("{sign} {path}  ({changes}){lacks}")
        }
        _ => format!("{sign} {path}{lacks}"),
    }
}

/// What became what.
fn changes(before: &Entry, after: &Entry) -> String {
    let mut changes = Vec::new();
    let mut note = |what: &str, before: String, after: String| {
        if before != after {
            changes.push(format!("{what} {before} → {after}"));
        }
    };
    note("size", human::size(before.size), human::size(after.size));
    let mode = |entry: &Entry| human::mode(letter(entry.kind()), entry.mode);
    note("mode", mode(before), mode(after));
    let owner = |entry: &Entry| format!("{}:{}", entry.uid, entry.gid);
    note("owner", owner(before), owner(after));
    let target = |entry: &Entry| human::path(entry.link_target.as_ref());
    note("target", target(before), target(after));
    let time = |entry: &Entry| human::time(entry.modify_time.as_ref());
    if after.kind() != EntryKind::Directory {
        note("modified", time(before), time(after));
    }
    if changes.is_empty() {
        return "in what is not shown: attributes, or less than a second".to_owned();
    }
    changes.join(", ")
}
