//! `taf history`: what a path was in the versions of a plan. No tape is read for it.

use std::ffi::OsString;

use taf_proto::v1::{EntryKind, PathState, TracePathRequest};

use super::ls::{Lacking, lacks, letter};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::human;
use crate::output::{Output, Rows, say};
use crate::resource::{absolute, id, name};

/// Show what a path was in the versions of a plan, newest first
///
/// If in one of them it is not known, or can't be restored, since that version is not whole after a rebuild of the catalog, that is said,
/// and the exit status is 3.
#[derive(Debug, clap::Args)]
#[command(after_help = "Versions in a row in which it was the same are one line.

Examples:
  taf history daily /srv/files/report.odt
  taf history daily /srv/files/report.odt --archives
  taf history daily /srv/files/report.odt --json")]
pub struct History {
    /// The plan
    plan: String,
    /// Absolute path
    path: OsString,
    /// In the plan's archives instead of its other versions
    #[arg(long)]
    archives: bool,
}

impl History {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let request = TracePathRequest {
            plan: name("plans", &self.plan),
            path: Some(absolute(&self.path)?),
            archives: self.archives,
        };
        let client = Client::signed_in().await?;
        let mut found = client.catalog().trace_path(request).await?.into_inner();
        if out.json() {
            out.begin("states")?;
        }
        let (mut all, mut lacking) = (Vec::new(), Lacking::default());
        while let Some(some) = found.message().await? {
            for state in &some.states {
                lacking.mark(&state.lacks);
                lacking.mark(state.entry.as_ref().map_or("", |entry| &entry.lacks));
            }
            if !out.json() {
                all.extend(some.states);
                continue;
            }
            for state in &some.states {
                out.item("PathState", state)?;
            }
            out.flush()?;
        }
        if out.json() {
            out.end()?;
        } else if all.iter().all(|s| s.entry.is_none() && s.lacks.is_empty()) {
            say(format!("no version of plan {} has it", id(&self.plan)));
        } else {
            out.table(&self.rows(&all))?;
        }
        Ok(lacking.exit())
    }

    fn rows(&self, states: &[PathState]) -> Rows {
        let mut rows = Rows::new(&[
            "VERSIONS", "SINCE", ">SIZE", "MODIFIED", "MODE", "OWNER", "VOLUMES",
        ]);
        let mark = if self.archives { "a" } else { "" };
        for state in states {
            let plan = id(&self.plan);
            let newest = state.version.rsplit('/').next().unwrap_or_default();
            let versions = if state.version_count > 1 {
                format!("{plan}@{mark}{}-{newest}", state.oldest_number)
            } else {
                format!("{plan}@{mark}{newest}")
            };
            let since = human::time(state.oldest_start_time.as_ref());
            let Some(entry) = &state.entry else {
                let what = match state.lacks.as_str() {
                    "" => "not there".into(),
                    lacks => human::clean(lacks),
                };
                let gone = ["-", &what, "", "", ""].map(str::to_owned);
                let [size, modified, mode, owner, volumes] = gone;
                rows.push([versions, since, size, modified, mode, owner, volumes]);
                continue;
            };
            let size = match entry.kind() {
                EntryKind::File => human::size(entry.size),
                _ => "-".to_owned(),
            };
            let volumes: Vec<_> = state.volumes.iter().map(|volume| id(volume)).collect();
            rows.push([
                versions,
                since,
                size,
                human::time(entry.modify_time.as_ref()),
                human::mode(letter(entry.kind()), entry.mode),
                format!("{}:{}", entry.uid, entry.gid),
                format!("{}{}", volumes.join(" "), lacks(entry)),
            ]);
        }
        rows
    }
}
