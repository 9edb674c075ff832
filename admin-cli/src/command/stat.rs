//! `taf stat`: all that is known of one entry of a version.

use std::ffi::OsString;

use taf_proto::v1::{EntryKind, GetEntryRequest};

use super::ls::{Lacking, WHEN, letter};
use super::missing;
use crate::client::{Client, read};
use crate::failure::{Exit, Failure};
use crate::human;
use crate::output::Output;
use crate::resource::{absolute, id, version};

/// Show one file or directory of a version, and the volumes that it is on
///
/// If the version is not whole after a rebuild of the catalog, and it can't be restored, that is said, and the exit status is 3.
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{WHEN}

Examples:
  taf stat daily /srv/files/report.odt
  taf stat 'daily@a week ago' /srv/files/report.odt --json"))]
pub struct Stat {
    /// PLAN for its newest version, PLAN@N, PLAN@WHEN, or lines/L/versions/N
    #[arg(value_name = "PLAN[@N]")]
    version: String,
    /// Absolute path
    path: OsString,
}

impl Stat {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let path = absolute(&self.path)?;
        let client = Client::signed_in().await?;
        let request = GetEntryRequest {
            version: version(&client, &self.version).await?,
            path: Some(path.clone()),
        };
        let answer = read(|| {
            let (mut versions, request) = (client.versions(), request.clone());
            async move { versions.get_entry(request).await }
        })
        .await?;
        let mut lacking = Lacking::default();
        lacking.mark(answer.entry.as_ref().map_or("", |entry| &entry.lacks));
        if out.json() {
            out.message("GetEntryResponse", &answer)?;
            return Ok(lacking.exit());
        }
        let entry = answer.entry.ok_or_else(|| missing("entry"))?;
        let mut line = |what: &str, text: String| out.line(format!("{what:<9} {text}"));
        line("path", human::path(Some(&path)))?;
        let version = if self.version == request.version {
            request.version
        } else {
            format!("{} ({})", human::clean(&self.version), request.version)
        };
        line("version", version)?;
        line("mode", human::mode(letter(entry.kind()), entry.mode))?;
        line("owner", format!("{}:{}", entry.uid, entry.gid))?;
        if entry.kind() == EntryKind::File {
            let exact = human::counted(entry.size, "byte", "bytes");
            line("size", format!("{} ({exact})", human::size(entry.size)))?;
        }
        line("modified", human::time(entry.modify_time.as_ref()))?;
        if entry.kind() == EntryKind::Symlink {
            line("leads to", human::path(entry.link_target.as_ref()))?;
        }
        if !entry.blake3_prefix.is_empty() {
            let digits: Vec<_> = entry
                .blake3_prefix
                .iter()
                .map(|b| format!("{b:02x}"))
                .collect();
            line("blake3", format!("{}…", digits.concat()))?;
        }
        if entry.link_group != 0 {
            line("names", format!("several, of group {}", entry.link_group))?;
        }
        if entry.changed_while_read {
            line("doubt", "it changed while it was read".to_owned())?;
        }
        if entry.listing_unknown {
            line(
                "doubt",
                "what was in it is not known: it could not be read".to_owned(),
            )?;
        }
        if !entry.lacks.is_empty() {
            line("lacks", human::clean(&entry.lacks).into_owned())?;
        }
        let volumes: Vec<_> = answer.volumes.iter().map(|volume| id(volume)).collect();
        line("volumes", volumes.join(" "))?;
        Ok(lacking.exit())
    }
}
