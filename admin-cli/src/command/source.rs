//! `taf source`: what is backed up, on which host.

use std::ffi::OsString;

use taf_proto::v1::{
    CreateSourceRequest, DeleteSourceRequest, GetSourceRequest, ListSourcesRequest, Source,
};

use super::missing;
use crate::client::{Client, all, read, request_id};
use crate::failure::{Exit, Failure};
use crate::human;
use crate::output::{Output, Rows, say};
use crate::resource::{absolutes, id, name};

/// What is backed up: paths of a host
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    Create(Create),
    List(List),
    Show(Show),
    Delete(Delete),
}

impl Command {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        match self {
            Self::Create(command) => command.run(out).await,
            Self::List(command) => command.run(out).await,
            Self::Show(command) => command.run(out).await,
            Self::Delete(command) => command.run(out).await,
        }
    }
}

/// Make a source
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf source create home --agent files1 /home
  taf source create system --agent files1 / --exclude /proc --exclude /sys --one-file-system")]
pub struct Create {
    /// Name: 1 to 64 of a-z, 0-9, '.', '_', '-'
    name: String,
    /// Agent on the host
    #[arg(long, value_name = "AGENT")]
    agent: String,
    /// Absolute paths to take, with all below them
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<OsString>,
    /// Leave this out, with all below it; can be given again
    #[arg(long, value_name = "PATH")]
    exclude: Vec<OsString>,
    /// Stay on the file systems of the paths
    #[arg(long)]
    one_file_system: bool,
}

impl Create {
    async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let source = Source {
            agent: name("agents", &self.agent),
            paths: absolutes(&self.paths)?,
            excluded_paths: absolutes(&self.exclude)?,
            one_file_system: self.one_file_system,
            ..Source::default()
        };
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
        for path in &source.paths {
            out.line(format!("takes      {}", human::path(Some(path))))?;
        }
        for path in &source.excluded_paths {
            out.line(format!("leaves out {}", human::path(Some(path))))?;
        }
        if source.one_file_system {
            out.line("stays on the file systems of its paths")?;
        }
        out.line(format!(
            "made       {}",
            human::time(source.create_time.as_ref())
        ))?;
        Ok(Exit::Done)
    }
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
