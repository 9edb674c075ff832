//! `taf source preview`: what a backup would take, and what leaves out the rest.

use std::io::IsTerminal as _;

use indicatif::ProgressBar;
use serde_json::json;
use taf_proto::v1::{
    EntryKind, LeftOutReason, PreviewDetail, PreviewItem, PreviewSourceRequest, PreviewSummary,
};

use crate::client::Client;
use crate::command::missing;
use crate::failure::{Exit, Failure};
use crate::human;
use crate::output::{Output, document, say};
use crate::resource::name;

/// Show what a backup would take, and which rule leaves out what
///
/// The host walks the source as a full backup does, by the same code, and reads no content. Things are shown as they are found;
/// Ctrl-C ends the walk. Without an option it lists what is left out, then sums up what is taken and what is left out.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "With --json each thing is an object on a line of its own, and the last line is {\"summary\": …}.

Examples:
  taf source preview home
  taf source preview home --summary
  taf source preview home --all --json | jq -r 'select(.size) | .size + \" \" + .path.display'
  taf source preview home --left-out --limit 100"
)]
pub struct Preview {
    /// Its name
    name: String,
    /// List what is left out, without the summary
    #[arg(long, conflicts_with_all = ["all", "summary"])]
    left_out: bool,
    /// List what is taken, too
    #[arg(long, conflicts_with = "summary")]
    all: bool,
    /// Only the summary
    #[arg(long)]
    summary: bool,
    /// List at most so many things; all are counted
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
}

impl Preview {
    pub(super) async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let detail = if self.all {
            PreviewDetail::All
        } else if self.summary {
            PreviewDetail::Summary
        } else {
            PreviewDetail::LeftOut
        };
        let request = PreviewSourceRequest {
            name: name("sources", &self.name),
            detail: detail.into(),
            limit: self.limit.unwrap_or_default(),
        };
        let client = Client::signed_in().await?;
        let mut found = client
            .previews()
            .preview_source(request)
            .await?
            .into_inner();
        // A list on the terminal is progress enough.
        let quiet = std::io::stdout().is_terminal() && detail != PreviewDetail::Summary;
        let bar = (std::io::stderr().is_terminal() && !quiet).then(ProgressBar::new_spinner);
        let mut last = None;
        while let Some(some) = found.message().await? {
            for item in &some.items {
                self.item(item, out)?;
            }
            // What was found is seen while the walk goes on.
            out.flush()?;
            if let (Some(bar), Some(sum)) = (&bar, &some.summary) {
                bar.set_message(taken(sum));
                bar.tick();
            }
            last = some.summary.or(last);
        }
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
        let summary = last
            .filter(|sum| sum.complete)
            .ok_or_else(|| missing("complete summary"))?;
        if summary.unlisted_count > 0 {
            let more = human::counted(summary.unlisted_count, "thing is", "things are");
            say(format!("{more} not listed, because of --limit"));
        }
        if !self.left_out {
            self.sum(&summary, out)?;
        }
        Ok(Exit::Done)
    }

    fn item(&self, item: &PreviewItem, out: &mut Output) -> Result<(), Failure> {
        if out.json() {
            return out.document(&document("PreviewItem", item)?);
        }
        let mut line = human::path(item.path.as_ref());
        if item.kind() == EntryKind::Directory && !line.ends_with('/') {
            line.push('/');
        }
        if item.left_out() != LeftOutReason::Unspecified {
            line = format!("{line}  ({})", why(item.left_out(), &item.word));
        }
        // Signs only where both kinds occur.
        let sign = match (self.all, item.left_out()) {
            (false, _) => "",
            (true, LeftOutReason::Unspecified) => "+ ",
            (true, _) => "- ",
        };
        out.line(format!("{sign}{line}"))
    }

    fn sum(&self, sum: &PreviewSummary, out: &mut Output) -> Result<(), Failure> {
        if out.json() {
            return out.document(&json!({"summary": document("PreviewSummary", sum)?}));
        }
        if !self.summary {
            out.line("")?;
        }
        out.line(format!("taken     {}", taken(sum)))?;
        if sum.left_out.is_empty() {
            return out.line("left out  nothing");
        }
        for (index, part) in sum.left_out.iter().enumerate() {
            let head = if index == 0 { "left out" } else { "" };
            let bytes = match part.byte_count {
                0 => String::new(),
                bytes => format!(", files of {}", human::size(bytes)),
            };
            out.line(format!(
                "{head:<8}  {}{bytes}: {}",
                human::count(part.count),
                why(part.reason(), &part.word)
            ))?;
        }
        Ok(())
    }
}

fn taken(sum: &PreviewSummary) -> String {
    format!(
        "{} and {}, {}",
        human::counted(sum.file_count, "file", "files"),
        human::counted(sum.directory_count, "directory", "directories"),
        human::size(sum.byte_count)
    )
}

/// Why something is left out, in words.
fn why(reason: LeftOutReason, word: &str) -> String {
    let word = human::clean(word);
    let words = match reason {
        LeftOutReason::Unspecified => "a reason that this program does not know",
        LeftOutReason::ExcludedPath => "excluded path",
        LeftOutReason::AgentExcludes => "excluded by the agent's configuration",
        LeftOutReason::Rule => return format!("rule {word}"),
        LeftOutReason::Marker => return format!("what is in it, for its {word}"),
        LeftOutReason::CacheTag => "what is in it, for its CACHEDIR.TAG",
        LeftOutReason::TooLarge => return format!("larger than {word}"),
        LeftOutReason::TooSmall => return format!("smaller than {word}"),
        LeftOutReason::TooOld => "modified too long ago",
        LeftOutReason::TooNew => "modified too short a time ago",
        LeftOutReason::OtherFileSystem => "what is in it: another file system",
        LeftOutReason::Unsupported if word.is_empty() => "a socket, or of an unknown kind",
        LeftOutReason::Unreadable if word.is_empty() => "can't be read",
        LeftOutReason::Missing if word.is_empty() => "is not there",
        LeftOutReason::Unsupported | LeftOutReason::Unreadable | LeftOutReason::Missing => {
            return word.into_owned();
        }
    };
    words.to_owned()
}
