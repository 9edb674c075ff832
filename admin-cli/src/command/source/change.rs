//! `taf source create` and `taf source update`: what a source takes and what it leaves out.

use std::ffi::OsString;
use std::path::PathBuf;

use prost_types::Duration;
use taf_peer::quantity::{Size, Span};
use taf_proto::selection;
use taf_proto::v1::{
    CreateSourceRequest, GetSourceRequest, SelectionRule, Source, UpdateSourceRequest,
};

use crate::client::{Client, read, request_id};
use crate::command::missing;
use crate::failure::{Exit, Failure};
use crate::output::{Output, say};
use crate::resource::{absolutes, id, name};

const RULES: &str = "Rules are as in a .gitignore file, and the last one that matches counts:
  *.tmp            leaves out every file and directory with such a name
  !keep.tmp        takes it all the same
  cache/           leaves out directories of this name, with all below them
  /srv/db/*.lock   only these; * and ? stay within a name, ** crosses directories
  re:\\.bak[0-9]*$  a regular expression that occurs in the absolute path";

/// What is left out, and where more is named.
#[derive(Debug, clap::Args)]
struct Selecting {
    /// Leave this path out, with all below it; can be given again
    #[arg(long, value_name = "PATH")]
    exclude: Vec<OsString>,
    /// Leave out, or with ! take, what this rule matches; can be given again
    #[arg(long, value_name = "RULE")]
    rule: Vec<String>,
    /// Read rules from a file here, one a line, before those of --rule
    #[arg(long, value_name = "FILE")]
    rules_from: Vec<PathBuf>,
    /// Take nothing but the marker of a directory that holds a file of this name, as .nobackup; can be given again
    #[arg(long, value_name = "NAME")]
    marker: Vec<String>,
    /// Take nothing but the tag of a directory with a valid CACHEDIR.TAG
    #[arg(long)]
    exclude_caches: bool,
    /// Leave out larger files
    #[arg(long, value_name = "SIZE")]
    max_size: Option<Size>,
    /// Leave out smaller files
    #[arg(long, value_name = "SIZE")]
    min_size: Option<Size>,
    /// Leave out what was modified longer ago, as in 365d
    #[arg(long, value_name = "SPAN")]
    newer_than: Option<Span>,
    /// Leave out what was modified less long ago
    #[arg(long, value_name = "SPAN")]
    older_than: Option<Span>,
    /// Take the paths, too, that this file on the host names, one a line or ended by NUL bytes; can be given again
    #[arg(long, value_name = "PATH")]
    paths_from: Vec<OsString>,
    /// Stay on the file systems of the paths
    #[arg(long)]
    one_file_system: bool,
    #[command(flatten)]
    detecting: Detecting,
}

/// How a changed file is told from an unchanged one.
#[derive(Debug, Clone, Copy, clap::Args)]
#[command(next_help_heading = "How a changed file is told from an unchanged one")]
struct Detecting {
    /// Don't take a different status change time (ctime) for a change: for file servers that set it without one
    #[arg(long)]
    ignore_ctime: bool,
    /// Don't take a different inode number for a change: for file systems that number anew at each mount. On FUSE, SMB and FAT
    /// it never counts
    #[arg(long)]
    ignore_inode: bool,
    /// Read every file and compare its content, also where nothing else differs
    #[arg(long)]
    always_compare: bool,
}

impl Detecting {
    fn put(self, source: &mut Source) {
        source.ignore_ctime |= self.ignore_ctime;
        source.ignore_inode |= self.ignore_inode;
        source.always_compare_content |= self.always_compare;
    }
}

impl Selecting {
    /// Puts into the source what was given; the rest stays.
    fn put(&self, source: &mut Source) -> Result<(), Failure> {
        let age = |span: Span| Duration {
            seconds: i64::try_from(span.0.as_secs()).unwrap_or(i64::MAX),
            nanos: span.0.subsec_nanos() as i32,
        };
        let rules = self.rules()?;
        if !rules.is_empty() {
            source.rules = rules;
        }
        if !self.exclude.is_empty() {
            source.excluded_paths = absolutes(&self.exclude)?;
        }
        if !self.marker.is_empty() {
            source.marker_files.clone_from(&self.marker);
        }
        if !self.paths_from.is_empty() {
            source.path_lists = absolutes(&self.paths_from)?;
        }
        source.exclude_caches |= self.exclude_caches;
        source.one_file_system |= self.one_file_system;
        self.detecting.put(source);
        if let Some(Size(bytes)) = self.max_size {
            source.max_file_size = bytes;
        }
        if let Some(Size(bytes)) = self.min_size {
            source.min_file_size = bytes;
        }
        source.max_age = self.newer_than.map(age).or(source.max_age);
        source.min_age = self.older_than.map(age).or(source.min_age);
        Ok(())
    }

    /// The rules of files, then those of the command line.
    fn rules(&self) -> Result<Vec<SelectionRule>, Failure> {
        let mut rules = Vec::new();
        for file in &self.rules_from {
            let text = std::fs::read_to_string(file).map_err(|error| {
                Failure::usage(
                    format!("the rules in {} can't be read: {error}", file.display()),
                    "name a file of text with a rule on each line",
                )
            })?;
            rules.extend(selection::parse_file(&text));
        }
        rules.extend(self.rule.iter().map(|text| selection::parse(text)));
        selection::Rules::new(&rules).map_err(|error| {
            let rule = rules.get(error.rule).map(selection::show);
            Failure::usage(
                format!("the rule {} {}", rule.unwrap_or_default(), error.why),
                "correct it; how rules are written: taf source create --help",
            )
        })?;
        Ok(rules)
    }
}

/// Make a source
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{RULES}

Examples:
  taf source create home --agent files1 /home
  taf source create system --agent files1 / --exclude /proc --exclude /sys --one-file-system
  taf source create work --agent files1 /work --rule '*.o' --rule 'build/' --marker .nobackup --exclude-caches
  taf source create recent --agent files1 /srv --newer-than 365d --max-size 50GiB
  taf source create nas --agent files1 /mnt/nas --ignore-ctime --ignore-inode"))]
pub struct Create {
    /// Name: 1 to 64 of a-z, 0-9, '.', '_', '-'
    name: String,
    /// Agent on the host
    #[arg(long, value_name = "AGENT")]
    agent: String,
    /// Absolute paths to take, with all below them
    #[arg(required_unless_present = "paths_from", value_name = "PATH")]
    paths: Vec<OsString>,
    #[command(flatten)]
    selecting: Selecting,
}

impl Create {
    pub(super) async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let mut source = Source {
            agent: name("agents", &self.agent),
            paths: absolutes(&self.paths)?,
            ..Source::default()
        };
        self.selecting.put(&mut source)?;
        let request = CreateSourceRequest {
            source_id: id(&self.name).to_owned(),
            source: Some(source),
            request_id: request_id(),
        };
        let client = Client::signed_in().await?;
        let answer = client.sources().create_source(request).await?.into_inner();
        let source = answer.source.ok_or_else(|| missing("source"))?;
        if out.json() {
            out.message("Source", &source)?;
        } else {
            let made = id(&source.name);
            say(format!(
                "made source {made}; next: taf plan create NAME --source {made} --pool POOL"
            ));
        }
        Ok(Exit::Done)
    }
}

/// Change what a source takes: what is given replaces what it had, all else stays
#[derive(Debug, clap::Args)]
#[command(after_help = format!("What the source no longer takes is gone from its next version; earlier versions keep it.

{RULES}

Examples:
  taf source update work --rule '*.o' --rule '*.tmp'
  taf source update work --drop rules
  taf source update nas --drop detection --always-compare
  taf source update home /home /srv/mail"))]
pub struct Update {
    /// Its name
    name: String,
    /// Absolute paths to take, instead of those it had
    #[arg(value_name = "PATH")]
    paths: Vec<OsString>,
    #[command(flatten)]
    selecting: Selecting,
    /// Drop this first; can be given again
    #[arg(long, value_name = "WHAT", value_enum)]
    drop: Vec<Part>,
}

/// Part of a selection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// All rules
    Rules,
    /// Excluded paths, markers and caches
    Excludes,
    /// Limits of size and age
    Limits,
    /// Lists of paths
    PathLists,
    /// Staying on one file system
    OneFileSystem,
    /// Ignoring ctime or inode, and comparing all content
    Detection,
}

impl Part {
    fn drop_from(self, source: &mut Source) {
        match self {
            Self::Rules => source.rules.clear(),
            Self::Excludes => {
                source.excluded_paths.clear();
                source.marker_files.clear();
                source.exclude_caches = false;
            }
            Self::Limits => {
                (source.max_file_size, source.min_file_size) = (0, 0);
                (source.max_age, source.min_age) = (None, None);
            }
            Self::PathLists => source.path_lists.clear(),
            Self::OneFileSystem => source.one_file_system = false,
            Self::Detection => {
                (source.ignore_ctime, source.ignore_inode) = (false, false);
                source.always_compare_content = false;
            }
        }
    }
}

impl Update {
    pub(super) async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let request = GetSourceRequest {
            name: name("sources", &self.name),
        };
        let answer = read(|| {
            let (mut sources, request) = (client.sources(), request.clone());
            async move { sources.get_source(request).await }
        })
        .await?;
        // Its etag goes back with it: what somebody else changes meanwhile is not undone.
        let mut source = answer.source.ok_or_else(|| missing("source"))?;
        for part in &self.drop {
            part.drop_from(&mut source);
        }
        if !self.paths.is_empty() {
            source.paths = absolutes(&self.paths)?;
        }
        self.selecting.put(&mut source)?;
        let request = UpdateSourceRequest {
            source: Some(source),
            request_id: request_id(),
        };
        let answer = client.sources().update_source(request).await?.into_inner();
        let source = answer.source.ok_or_else(|| missing("source"))?;
        if out.json() {
            out.message("Source", &source)?;
        } else {
            let changed = id(&source.name);
            say(format!(
                "changed source {changed}; see what it takes: taf source show {changed}"
            ));
        }
        Ok(Exit::Done)
    }
}
