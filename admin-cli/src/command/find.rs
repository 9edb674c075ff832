//! `taf find`: where something is, in which versions and on which volumes. No tape is read for it.

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::time::{Duration, SystemTime};

use indicatif::ProgressBar;
use taf_peer::quantity::{Size, Span};
use taf_proto::v1::{EntryKind, FindEntriesRequest, FoundEntry};
use tonic::Request;

use super::ls::{self, WHEN};
use super::missing;
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::human;
use crate::output::{Output, say};
use crate::resource::{absolute, id, name, version};

const PATTERNS: &str =
    "Patterns are as in a .gitignore file; of several the last one that matches counts:
  report.odt        what has this name, wherever it is
  '*.odt'           * and ? stay within a name, ** crosses directories
  '/srv/**/2026/*'  only these
  '!draft*'         not these
  're:[0-9]{4}'     a regular expression that occurs in the absolute path";

/// Find files and directories in versions, with the volumes that they are on
///
/// Without --in all versions of all plans are searched; what is the same in several is shown once. What is found is shown at once;
/// Ctrl-C ends the search. If versions are not whole after a rebuild of the catalog, what is known of them is searched; what is not
/// known or can't be restored is said, and the exit status is 3.
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{PATTERNS}

{WHEN}

Examples:
  taf find report.odt
  taf find '*.odt' --in daily --under /srv/files
  taf find '*.odt' --in daily --all-versions --json
  taf find --in 'daily@yesterday' --min-size 10GiB --newer-than 7d --kind file
  taf find 're:/mail/.*/[0-9]+\\.eml$' --limit 100 --timeout 30s"))]
pub struct Find {
    /// What is looked for; everything if not given
    #[arg(value_name = "PATTERN")]
    patterns: Vec<String>,
    /// Only in this version: PLAN for its newest, PLAN@N, PLAN@WHEN, or lines/L/versions/N
    #[arg(long, value_name = "PLAN[@N]")]
    r#in: Option<String>,
    /// In all versions of the plan of --in
    #[arg(long, requires = "in")]
    all_versions: bool,
    /// Only below this directory
    #[arg(long, value_name = "PATH")]
    under: Option<OsString>,
    /// Only of this kind; can be given again
    #[arg(long, value_name = "KIND", value_enum)]
    kind: Vec<Kind>,
    /// Only files of at least this size
    #[arg(long, value_name = "SIZE")]
    min_size: Option<Size>,
    /// Only files of at most this size
    #[arg(long, value_name = "SIZE")]
    max_size: Option<Size>,
    /// Only what was modified within this span before now, as in 7d
    #[arg(long, value_name = "SPAN")]
    newer_than: Option<Span>,
    /// Only what was modified longer ago
    #[arg(long, value_name = "SPAN")]
    older_than: Option<Span>,
    /// End after so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// End after this long
    #[arg(long, value_name = "SPAN")]
    timeout: Option<Span>,
    /// Show paths alone
    #[arg(long)]
    paths: bool,
}

/// A kind, as people name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// A regular file
    #[value(alias = "f")]
    File,
    /// A directory
    #[value(alias = "d")]
    Directory,
    /// A symbolic link
    #[value(alias = "l")]
    Symlink,
    /// A named pipe
    Fifo,
    /// A character or block device
    Device,
}

impl Kind {
    fn kinds(self) -> &'static [EntryKind] {
        match self {
            Self::File => &[EntryKind::File],
            Self::Directory => &[EntryKind::Directory],
            Self::Symlink => &[EntryKind::Symlink],
            Self::Fifo => &[EntryKind::Fifo],
            Self::Device => &[EntryKind::CharDevice, EntryKind::BlockDevice],
        }
    }
}

/// So long before now.
fn before_now(span: Span) -> prost_types::Timestamp {
    let then = SystemTime::now().checked_sub(span.0);
    then.unwrap_or(SystemTime::UNIX_EPOCH).into()
}

impl Find {
    async fn request(&self, client: &Client) -> Result<FindEntriesRequest, Failure> {
        let (mut one, mut plan) = (String::new(), String::new());
        match (&self.r#in, self.all_versions) {
            (Some(text), true) if text.contains('@') => {
                return Err(Failure::usage(
                    format!("{text} is one version, and --all-versions means all of them"),
                    "name the plan alone, or leave --all-versions out",
                ));
            }
            (Some(text), true) => plan = name("plans", text),
            (Some(text), false) => one = version(client, text).await?,
            (None, _) => {}
        }
        let kinds = self.kind.iter().flat_map(|kind| kind.kinds());
        Ok(FindEntriesRequest {
            version: one,
            plan,
            directory: self.under.as_deref().map(absolute).transpose()?,
            patterns: self.patterns.clone(),
            kinds: kinds.map(|kind| (*kind).into()).collect(),
            min_size: self.min_size.unwrap_or_default().0,
            max_size: self.max_size.map(|Size(bytes)| bytes),
            modified_since: self.newer_than.map(before_now),
            modified_before: self.older_than.map(before_now),
            limit: self.limit.unwrap_or_default(),
        })
    }

    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let mut request = Request::new(self.request(&client).await?);
        let deadline = self.timeout.map_or(Duration::MAX, |Span(span)| span);
        if self.timeout.is_some() {
            request.set_timeout(deadline);
        }
        let mut found = client.catalog().find_entries(request).await?.into_inner();
        if out.json() {
            out.begin("entries")?;
        }
        let bar = std::io::stderr()
            .is_terminal()
            .then(ProgressBar::new_spinner);
        let ended = tokio::time::sleep(deadline);
        tokio::pin!(ended);
        let (mut scanned, mut complete, mut any) = (0, false, false);
        let mut lacking = ls::Lacking::default();
        let timed_out = loop {
            let some = tokio::select! {
                some = found.message() => some?,
                () = &mut ended => break true,
            };
            let Some(some) = some else { break false };
            if let Some(bar) = &bar {
                bar.set_message(format!(
                    "{} entries looked at",
                    human::count(some.scanned_count)
                ));
                bar.tick();
            }
            (scanned, complete) = (some.scanned_count, some.complete);
            lacking.say(some.lacks);
            if some.entries.is_empty() {
                continue;
            }
            any = true;
            let mut show = || {
                for entry in &some.entries {
                    lacking.mark(entry.entry.as_ref().map_or("", |entry| &entry.lacks));
                    self.entry(entry, out)?;
                }
                out.flush()
            };
            match &bar {
                Some(bar) => bar.suspend(show)?,
                None => show()?,
            }
        };
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
        if out.json() {
            out.end()?;
        }
        if timed_out {
            return Err(Failure::new(
                "DEADLINE_EXCEEDED",
                format!(
                    "the search took too long; {} entries were looked at",
                    human::count(scanned)
                ),
                "give --timeout more, or narrow the search with --in and --under",
            ));
        }
        if !complete {
            if self.limit.is_none() {
                return Err(missing("end"));
            }
            say("there may be more: --limit ended the search");
        }
        if !any {
            let looked = human::counted(scanned, "entry", "entries");
            say(format!("nothing was found; {looked} looked at"));
        }
        Ok(lacking.exit())
    }

    fn entry(&self, found: &FoundEntry, out: &mut Output) -> Result<(), Failure> {
        if out.json() {
            return out.item("FoundEntry", found);
        }
        let entry = found.entry.clone().unwrap_or_default();
        let mut path = human::path(found.path.as_ref());
        if entry.kind() == EntryKind::Directory {
            path.push('/');
        }
        if self.paths {
            return out.line(path);
        }
        let size = match entry.kind() {
            EntryKind::File => human::size(entry.size),
            _ => "-".to_owned(),
        };
        let volumes: Vec<_> = found.volumes.iter().map(|volume| id(volume)).collect();
        let volumes = if volumes.is_empty() {
            "-".to_owned()
        } else {
            volumes.join(",")
        };
        out.line(format!(
            "{:<14}  {size:>9}  {:<19}  {volumes:<9}  {path}{}",
            versions(found),
            human::time(entry.modify_time.as_ref()),
            ls::lacks(&entry),
        ))
    }
}

/// The versions that have it so: `daily@7`, `daily@3-7`.
fn versions(found: &FoundEntry) -> String {
    let mark = if found.archive { "a" } else { "" };
    let plan = id(&found.plan);
    let newest = found.version.rsplit('/').next().unwrap_or_default();
    if found.version_count > 1 {
        format!("{plan}@{mark}{}-{newest}", found.oldest_number)
    } else {
        format!("{plan}@{mark}{newest}")
    }
}
