//! `taf ls`: what a version holds. No tape is read for it.

use std::cmp::Reverse;
use std::ffi::OsString;

use taf_proto::v1::{Entry, EntryKind, GetEntryRequest, ListEntriesRequest};
use tonic::Code;

use super::missing;
use crate::client::{Client, read};
use crate::failure::{Exit, Failure};
use crate::human;
use crate::output::{Output, say};
use crate::resource::{absolute, version};

/// What is said of a directory that could not be listed.
const UNKNOWN: &str = "the directory could not be read when it was backed up: what was in it is not known; \
                       `taf job show` of the version's job names the reason";

/// What is not known of what a command shows, or can't be restored, since a version is not whole.
#[derive(Debug, Default)]
pub struct Lacking {
    sentences: Vec<String>,
    /// Something that was shown lacks something, and says so itself.
    marked: bool,
}

impl Lacking {
    /// Takes up what is to be said at the end.
    pub fn say(&mut self, sentences: impl IntoIterator<Item = String>) {
        self.sentences.extend(sentences);
    }

    /// The same, unless there is something already.
    pub fn say_once(&mut self, sentence: impl FnOnce() -> String) {
        if self.sentences.is_empty() {
            self.sentences.push(sentence());
        }
    }

    /// Takes up what is said of something that is shown; empty if all is well.
    pub fn mark(&mut self, lacks: &str) {
        self.marked |= !lacks.is_empty();
    }

    /// Says it; how the command ended then.
    pub fn exit(self) -> Exit {
        for sentence in &self.sentences {
            say(format!(
                "{}; bring it, and take it in: taf catalog rebuild BARCODE",
                human::clean(sentence)
            ));
        }
        if self.marked || !self.sentences.is_empty() {
            Exit::Issues
        } else {
            Exit::Done
        }
    }
}

/// List a directory of a version
///
/// Of a version that is not whole after a rebuild of the catalog only what is certain is listed; what is not known or can't be restored,
/// and which volume would help, is said, and the exit status is 3.
///
/// Bytes of names that are not text are shown as \xNN, a backslash as \\, which a shell reads back as $'…'.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf ls daily                         (the newest version's root)
  taf ls -l daily /srv/files
  taf ls daily@3 /srv/files --json")]
pub struct Ls {
    /// PLAN for its newest version, PLAN@N, PLAN@aN for an archive, or lines/L/versions/N
    #[arg(value_name = "PLAN[@N]")]
    version: String,
    /// Absolute path of a directory, or of one entry
    #[arg(default_value = "/")]
    path: OsString,
    /// With mode, owner, size and time
    #[arg(long, short)]
    long: bool,
    /// Largest or newest first instead of by name; directories, of which neither is known here, last
    #[arg(long, value_name = "BY", value_enum, default_value_t = Sort::Name)]
    sort: Sort,
    /// The other way round
    #[arg(long)]
    reverse: bool,
    /// Show only the first so many
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

/// How versions are named by moments, for the help of every command that takes one.
pub const WHEN: &str = "A version may be named by a moment: it is the one that was the newest then. 'daily@yesterday', 'daily@3 days ago',
'daily@2026-11-20' (the end of that day), 'daily@2026-11-20 14:00' (in this host's time zone).";

/// What a listing is in the order of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Sort {
    /// Name
    Name,
    /// Size, largest first
    Size,
    /// Time of modification, newest first
    Time,
}

/// Entries from which on it is said that a whole directory is read.
const MANY: usize = 100_000;

impl Ls {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let path = absolute(&self.path)?;
        let client = Client::signed_in().await?;
        let mut request = ListEntriesRequest {
            version: version(&client, &self.version).await?,
            directory: Some(path),
            page_size: 10_000,
            page_token: String::new(),
        };
        let mut begun = false;
        let mut lacking = Lacking::default();
        let whole = self.sort != Sort::Name || self.reverse;
        let (mut kept, mut left) = (Vec::new(), self.limit.unwrap_or(usize::MAX));
        loop {
            let page = read(|| {
                let (mut versions, request) = (client.versions(), request.clone());
                async move {
                    match versions.list_entries(request).await {
                        // Not a directory: perhaps an entry.
                        Err(status) if status.code() == Code::NotFound => {
                            Ok(tonic::Response::new(Err(status)))
                        }
                        other => other.map(|response| response.map(Ok)),
                    }
                }
            })
            .await?;
            let page = match page {
                Ok(page) => page,
                Err(status) => return self.one(&client, request, status.into(), out).await,
            };
            if out.json() && !begun {
                out.begin("entries")?;
                begun = true;
            }
            if whole {
                let few = kept.len() < MANY;
                kept.extend(page.entries);
                if few && kept.len() >= MANY {
                    say("the directory is large, and read whole before it is sorted");
                }
            } else {
                for entry in page.entries.iter().take(left) {
                    lacking.mark(&entry.lacks);
                    self.entry(entry, out)?;
                }
                left = left.saturating_sub(page.entries.len());
            }
            if page.listing_unknown {
                say(UNKNOWN);
            }
            if !page.lacks.is_empty() {
                lacking.say_once(|| format!("not all of this directory is known: {}", page.lacks));
            }
            if page.next_page_token.is_empty() || left == 0 {
                break;
            }
            // What is there is shown while the rest is fetched.
            out.flush()?;
            request.page_token = page.next_page_token;
        }
        self.arrange(&mut kept);
        for entry in kept.iter().take(left) {
            lacking.mark(&entry.lacks);
            self.entry(entry, out)?;
        }
        if out.json() {
            out.end()?;
        }
        Ok(lacking.exit())
    }

    /// Puts entries, which come by name, into the order that is asked for.
    fn arrange(&self, entries: &mut [Entry]) {
        let is_directory = |entry: &Entry| entry.kind() == EntryKind::Directory;
        let modified = |entry: &Entry| {
            let time = entry.modify_time.unwrap_or_default();
            (time.seconds, time.nanos)
        };
        if self.sort == Sort::Size {
            entries.sort_by_key(|entry| (is_directory(entry), Reverse(entry.size)));
        } else if self.sort == Sort::Time {
            entries.sort_by_key(|entry| (is_directory(entry), Reverse(modified(entry))));
        }
        if self.reverse {
            entries.reverse();
        }
    }

    /// The path may name what is no directory.
    async fn one(
        &self,
        client: &Client,
        asked: ListEntriesRequest,
        refusal: Failure,
        out: &mut Output,
    ) -> Result<Exit, Failure> {
        let request = GetEntryRequest {
            version: asked.version,
            path: asked.directory,
        };
        let found = read(|| {
            let (mut versions, request) = (client.versions(), request.clone());
            async move { versions.get_entry(request).await }
        })
        .await;
        let entry = match found {
            Ok(answer) => answer.entry.ok_or_else(|| missing("entry"))?,
            // That something is not known says more than that it is no directory.
            Err(failure) if failure.reason == "UNKNOWN_UNTIL_MET" => return Err(failure),
            Err(_) => return Err(refusal),
        };
        if out.json() {
            out.begin("entries")?;
        }
        let mut lacking = Lacking::default();
        lacking.mark(&entry.lacks);
        self.entry(&entry, out)?;
        if out.json() {
            out.end()?;
        }
        Ok(lacking.exit())
    }

    fn entry(&self, entry: &Entry, out: &mut Output) -> Result<(), Failure> {
        if out.json() {
            return out.item("Entry", entry);
        }
        if !self.long {
            return out.line(format!("{}{}", named(entry), lacks(entry)));
        }
        let mut name = named(entry);
        if entry.kind() == EntryKind::Symlink {
            name = format!("{name} -> {}", human::path(entry.link_target.as_ref()));
        }
        let marks = if entry.changed_while_read {
            "  (changed while it was read)"
        } else {
            ""
        };
        // Of a directory within a listing only name and kind are known.
        let (mode, owner, size) =
            if entry.kind() == EntryKind::Directory && entry.modify_time.is_none() {
                (
                    "d---------".replace('-', "·"),
                    "-".to_owned(),
                    "-".to_owned(),
                )
            } else {
                (
                    human::mode(letter(entry.kind()), entry.mode),
                    format!("{}:{}", entry.uid, entry.gid),
                    human::size(entry.size),
                )
            };
        out.line(format!(
            "{mode}  {owner:>11}  {size:>9}  {:<19}  {name}{marks}{}",
            human::time(entry.modify_time.as_ref()),
            lacks(entry)
        ))
    }
}

/// What is not known of an entry, or why it can't be restored, behind its name.
pub fn lacks(entry: &Entry) -> String {
    match entry.lacks.as_str() {
        "" => String::new(),
        lacks => format!("  ({})", human::clean(lacks)),
    }
}

/// The name as a listing shows it.
pub fn named(entry: &Entry) -> String {
    let mut name = human::path(entry.file_name.as_ref());
    if entry.kind() == EntryKind::Directory {
        name.push('/');
    }
    name
}

/// The letter of a kind, as `ls` has it.
pub fn letter(kind: EntryKind) -> char {
    match kind {
        EntryKind::Unspecified => '?',
        EntryKind::File => '-',
        EntryKind::Directory => 'd',
        EntryKind::Symlink => 'l',
        EntryKind::Fifo => 'p',
        EntryKind::CharDevice => 'c',
        EntryKind::BlockDevice => 'b',
    }
}
