//! `taf tree`: what a version holds, drawn as a tree.

use std::ffi::OsString;

use serde_json::json;
use taf_proto::path;
use taf_proto::v1::{self, Entry, EntryKind, ListEntriesRequest};

use super::ls::{Lacking, WHEN, lacks, named};
use crate::client::{Client, all, read};
use crate::failure::{Exit, Failure};
use crate::human;
use crate::output::{Output, document};
use crate::resource::{absolute, version};

/// Show a directory of a version as a tree
///
/// Of a version that is not whole after a rebuild of the catalog only what is certain is drawn; what is not known or can't be restored
/// says so, and the exit status is 3.
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{WHEN}

Examples:
  taf tree daily /srv/files
  taf tree daily / --depth 2 --directories
  taf tree daily@3 /srv --depth 0 --json       (everything)"))]
pub struct Tree {
    /// PLAN for its newest version, PLAN@N, PLAN@WHEN, or lines/L/versions/N
    #[arg(value_name = "PLAN[@N]")]
    version: String,
    /// Absolute path of a directory
    #[arg(default_value = "/")]
    path: OsString,
    /// Go so far down; 0 means all the way
    #[arg(long, value_name = "N", default_value_t = 3)]
    depth: usize,
    /// Only directories
    #[arg(long)]
    directories: bool,
}

impl Tree {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let top = absolute(&self.path)?;
        let client = Client::signed_in().await?;
        let mut drawing = Drawing {
            version: version(&client, &self.version).await?,
            client,
            depth: match self.depth {
                0 => usize::MAX,
                depth => depth,
            },
            directories: self.directories,
            lacking: Lacking::default(),
        };
        if out.json() {
            out.begin("entries")?;
        }
        drawing.draw(top, out).await?;
        if out.json() {
            out.end()?;
        }
        Ok(drawing.lacking.exit())
    }
}

struct Drawing {
    client: Client,
    version: String,
    depth: usize,
    directories: bool,
    /// What is not known of it.
    lacking: Lacking,
}

/// A directory that is being drawn.
struct Level {
    path: v1::Path,
    entries: std::vec::IntoIter<Entry>,
    /// What stands before its lines.
    stem: String,
}

impl Drawing {
    async fn level(&mut self, path: v1::Path, stem: String) -> Result<Level, Failure> {
        let mut unknown = String::new();
        let mut entries = all(async |page_token| {
            let request = ListEntriesRequest {
                version: self.version.clone(),
                directory: Some(path.clone()),
                page_size: 10_000,
                page_token,
            };
            let page = read(|| {
                let (mut versions, request) = (self.client.versions(), request.clone());
                async move { versions.list_entries(request).await }
            })
            .await?;
            if !page.lacks.is_empty() {
                unknown = page.lacks;
            }
            Ok((page.entries, page.next_page_token))
        })
        .await?;
        if !unknown.is_empty() {
            self.lacking
                .say_once(|| format!("not all of this is known: {unknown}"));
        }
        if self.directories {
            entries.retain(|entry| entry.kind() == EntryKind::Directory);
        }
        Ok(Level {
            path,
            entries: entries.into_iter(),
            stem,
        })
    }

    async fn draw(&mut self, top: v1::Path, out: &mut Output) -> Result<(), Failure> {
        let root = human::path(Some(&top));
        let mut open = vec![self.level(top, String::new()).await?];
        if !out.json() {
            out.line(root)?;
        }
        while let Some(level) = open.last_mut() {
            let Some(entry) = level.entries.next() else {
                open.pop();
                continue;
            };
            let last = level.entries.as_slice().is_empty();
            let path = below(&level.path, &entry);
            self.lacking.mark(&entry.lacks);
            if out.json() {
                let item =
                    json!({"path": document("Path", &path)?, "entry": document("Entry", &entry)?});
                out.item_document(&item)?;
            } else {
                let branch = if last { "└── " } else { "├── " };
                let lacks = lacks(&entry);
                out.line(format!("{}{branch}{}{lacks}", level.stem, named(&entry)))?;
            }
            if entry.kind() == EntryKind::Directory && open.len() < self.depth {
                let stem = open.last().map_or("", |level| level.stem.as_str());
                let stem = format!("{stem}{}", if last { "    " } else { "│   " });
                // What is known is seen while more is fetched.
                out.flush()?;
                open.push(self.level(path, stem).await?);
            }
        }
        Ok(())
    }
}

/// The path of an entry of a directory.
fn below(directory: &v1::Path, entry: &Entry) -> v1::Path {
    let mut raw = directory.raw.to_vec();
    if raw.last() != Some(&b'/') {
        raw.push(b'/');
    }
    if let Some(name) = &entry.file_name {
        raw.extend_from_slice(&name.raw);
    }
    path::from_raw(raw)
}
