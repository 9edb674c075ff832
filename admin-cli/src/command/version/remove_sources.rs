//! `taf version remove-sources`: what is archived and verified goes from where it came.

use taf_proto::v1::{PreviewRemovalRequest, RemovableEntry, RemoveSourcesRequest};

use crate::client::{Client, request_id};
use crate::failure::{Exit, Failure};
use crate::follow::{detached, follow};
use crate::human;
use crate::output::{Output, say};
use crate::resource::version;

/// Remove what an archive holds from where it came, and follow the job to its end
///
/// An entry goes only if its bytes were read back and verified on as many copies as you ask for, and only if it still is what was
/// archived: kind, size, times, inode, owner and mode, and by content where times prove nothing. All else stays and is named as an
/// issue. The source agent of the host must allow it: `remove_allowed` in its configuration; nothing is unless it says so.
///
/// A copy is an archive that has the entry by path, kind, size and hash on volumes of its own: this one, and others of the same
/// source. A run that was cut off is gone on with by the next one.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf version remove-sources films@a1 --dry-run
  taf version remove-sources films@a1 --copies 2 --empty-directories
  taf run films --type archive --remove-sources       (archive, verify, then remove)")]
pub struct RemoveSources {
    /// PLAN@aN, PLAN@a for the newest archive, or lines/L/versions/N
    #[arg(value_name = "PLAN@aN")]
    version: String,
    /// Remove only what is verified on so many copies
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=16))]
    copies: u32,
    /// Remove directories, too, that become empty; never those that the source or the host's configuration names
    #[arg(long)]
    empty_directories: bool,
    /// Only list what would go and what would stay, as far as the catalog knows
    #[arg(long)]
    dry_run: bool,
    /// Do not wait for the end
    #[arg(long, conflicts_with = "dry_run")]
    detach: bool,
}

impl RemoveSources {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let version = version(&client, &self.version).await?;
        if self.dry_run {
            return self.preview(&client, version, out).await;
        }
        let request = RemoveSourcesRequest {
            version,
            copies: self.copies,
            empty_directories: self.empty_directories,
            request_id: request_id(),
        };
        let answer = client
            .versions()
            .remove_sources(request)
            .await?
            .into_inner();
        if self.detach {
            return detached(&answer.job, out);
        }
        follow(&client, &answer.job, out).await
    }

    async fn preview(
        &self,
        client: &Client,
        version: String,
        out: &mut Output,
    ) -> Result<Exit, Failure> {
        let request = PreviewRemovalRequest {
            version,
            copies: self.copies,
        };
        let mut stream = client
            .versions()
            .preview_removal(request)
            .await?
            .into_inner();
        if out.json() {
            out.begin("entries")?;
        }
        let (mut goes, mut stays) = ((0, 0), (0, 0));
        while let Some(message) = stream.message().await? {
            for entry in &message.entries {
                let sum = if entry.obstacle.is_empty() {
                    &mut goes
                } else {
                    &mut stays
                };
                *sum = (sum.0 + 1, sum.1 + entry.size);
                if out.json() {
                    out.item("RemovableEntry", entry)?;
                } else {
                    out.line(line(entry))?;
                }
            }
        }
        if out.json() {
            out.end()?;
            return Ok(Exit::Done);
        }
        let told = |(count, bytes)| {
            let entries = human::counted(count, "entry", "entries");
            format!("{entries}, {}", human::size(bytes))
        };
        say(format!(
            "would remove {} if it still is what was archived and the host allows it; {} would stay",
            told(goes),
            told(stays)
        ));
        if self.empty_directories {
            say("directories below the source's paths that become empty would go, too");
        }
        Ok(Exit::Done)
    }
}

fn line(entry: &RemovableEntry) -> String {
    let path = human::path(entry.path.as_ref());
    if entry.obstacle.is_empty() {
        return format!("remove {path}");
    }
    format!("keep   {path}: {}", human::clean(&entry.obstacle))
}
