//! `taf source`: what is backed up, on which host.

use std::time::Duration;

use taf_peer::quantity::{Size, Span};
use taf_proto::selection;
use taf_proto::v1::{DeleteSourceRequest, GetSourceRequest, ListSourcesRequest, Source};

use super::missing;
use crate::client::{Client, all, read, request_id};
use crate::failure::{Exit, Failure};
use crate::human;
use crate::output::{Output, Rows, say};
use crate::resource::{id, name};

mod change;
mod import;
mod preview;

/// What is backed up: paths of a host
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Create(change::Create),
    Update(change::Update),
    List(List),
    Show(Show),
    Preview(preview::Preview),
    Delete(Delete),
    ImportRules(import::Import),
}

impl Command {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        match self {
            Self::Create(command) => command.run(out).await,
            Self::Update(command) => command.run(out).await,
            Self::List(command) => command.run(out).await,
            Self::Show(command) => command.run(out).await,
            Self::Preview(command) => command.run(out).await,
            Self::Delete(command) => command.run(out).await,
            Self::ImportRules(command) => command.run(out),
        }
    }
}

/// List sources
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  taf source list")]
pub struct List {}

impl List {
    async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let sources = all(async |page_token| {
            let request = ListSourcesRequest {
                page_size: 1000,
                page_token,
            };
            let page = read(|| {
                let (mut sources, request) = (client.sources(), request.clone());
                async move { sources.list_sources(request).await }
            })
            .await?;
            Ok((page.sources, page.next_page_token))
        })
        .await?;
        out.list("sources", "Source", &sources, |sources| {
            let mut rows = Rows::new(&["SOURCE", "AGENT", "PATHS"]);
            for source in sources {
                let paths: Vec<_> = source
                    .paths
                    .iter()
                    .map(|path| human::path(Some(path)))
                    .collect();
                rows.push([
                    id(&source.name).to_owned(),
                    id(&source.agent).to_owned(),
                    paths.join(" "),
                ]);
            }
            rows
        })?;
        Ok(Exit::Done)
    }
}

/// Show a source
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  taf source show home")]
pub struct Show {
    /// Its name
    name: String,
}

impl Show {
    async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let request = GetSourceRequest {
            name: name("sources", &self.name),
        };
        let answer = read(|| {
            let (mut sources, request) = (client.sources(), request.clone());
            async move { sources.get_source(request).await }
        })
        .await?;
        let source = answer.source.ok_or_else(|| missing("source"))?;
        if out.json() {
            out.message("Source", &source)?;
            return Ok(Exit::Done);
        }
        out.line(format!("source     {}", id(&source.name)))?;
        out.line(format!("agent      {}", id(&source.agent)))?;
        for line in selection_lines(&source) {
            out.line(line)?;
        }
        out.line(format!(
            "made       {}",
            human::time(source.create_time.as_ref())
        ))?;
        Ok(Exit::Done)
    }
}

/// What a source takes and leaves out, a line for each.
fn selection_lines(source: &Source) -> Vec<String> {
    let mut lines = Vec::new();
    let mut add = |what: &str, text: String| lines.push(format!("{what:<10} {text}"));
    for path in &source.paths {
        add("takes", human::path(Some(path)));
    }
    for path in &source.path_lists {
        add("takes", format!("the paths in {}", human::path(Some(path))));
    }
    for path in &source.excluded_paths {
        add("leaves out", human::path(Some(path)));
    }
    for rule in &source.rules {
        add("rule", human::clean(&selection::show(rule)).into_owned());
    }
    let markers = source.marker_files.iter().map(String::as_str);
    for marker in markers.chain(source.exclude_caches.then_some("a valid CACHEDIR.TAG")) {
        let marker = human::clean(marker);
        add(
            "leaves out",
            format!("directories with {marker}, but this file"),
        );
    }
    if source.max_file_size > 0 {
        add(
            "leaves out",
            format!("files over {}", Size(source.max_file_size)),
        );
    }
    if source.min_file_size > 0 {
        add(
            "leaves out",
            format!("files under {}", Size(source.min_file_size)),
        );
    }
    let span = |age: &prost_types::Duration| {
        Span(Duration::from_secs(u64::try_from(age.seconds).unwrap_or(0)))
    };
    if let Some(age) = &source.max_age {
        add(
            "leaves out",
            format!("what was modified over {} ago", span(age)),
        );
    }
    if let Some(age) = &source.min_age {
        add(
            "leaves out",
            format!("what was modified under {} ago", span(age)),
        );
    }
    if source.one_file_system {
        add("stays", "on the file systems of its paths".into());
    }
    if source.ignore_ctime {
        add("ignores", "the status change time (ctime)".into());
    }
    if source.ignore_inode {
        add("ignores", "inode numbers".into());
    }
    if source.always_compare_content {
        add("compares", "the content of every file".into());
    }
    lines
}

/// Delete a source that no plan names; versions stay
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  taf source delete home")]
pub struct Delete {
    /// Its name
    name: String,
}

impl Delete {
    async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let request = DeleteSourceRequest {
            name: name("sources", &self.name),
            etag: String::new(),
            request_id: request_id(),
        };
        let answer = client.sources().delete_source(request).await?.into_inner();
        if out.json() {
            out.message("DeleteSourceResponse", &answer)?;
        } else {
            say(format!("deleted source {}", id(&self.name)));
        }
        Ok(Exit::Done)
    }
}
