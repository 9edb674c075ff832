//! `taf compare`: in what two trees of this host differ. What a restore must leave equal is what it looks at.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use serde_json::json;
use taf_tree::compare::{Difference, Options, compare};
use taf_tree::walk::{Candidate, Exclude};

use crate::failure::{Exit, Failure};
use crate::human;
use crate::output::{Output, say};

/// Compare two trees on this host: content, metadata, links, holes
///
/// Exit status 0 means equal, 1 different. Owners, and attributes that only root can set, are compared by root only.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf compare /srv/files /srv/restored/srv/files
  taf compare /srv/files /srv/restored/srv/files --exclude /srv/files/tmp --json")]
pub struct Compare {
    /// The first tree
    a: PathBuf,
    /// The second
    b: PathBuf,
    /// Leave this out of both, with all below it: a path in the first tree, or relative to both; can be given again
    #[arg(long, value_name = "PATH")]
    exclude: Vec<OsString>,
}

impl Compare {
    /// Runs it.
    pub fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let excluded = self
            .exclude
            .iter()
            .map(|path| below(&self.a, Path::new(path)))
            .collect::<Result<Vec<_>, _>>()?;
        let (a, b) = (open(&self.a)?, open(&self.b)?);
        let root = nix::unistd::geteuid().is_root();
        let mut options = Options {
            owners: root,
            exclude_a: Some(exclude(excluded.clone())),
            exclude_b: Some(exclude(excluded)),
            ..Options::default()
        };
        if !root {
            options.xattrs = vec![b"user.".to_vec(), b"system.posix_acl".to_vec()];
            say(
                "owners, and attributes that only root can set, are not compared: you are not root",
            );
        }
        let differences = compare(a, b, options).map_err(|error| {
            Failure::new("COMPARE_FAILED", error.to_string(), "name two directories")
        })?;
        let mut count = 0;
        if out.json() {
            out.begin("differences")?;
        }
        for difference in differences {
            count += 1;
            if out.json() {
                out.item_document(&document(&difference))?;
            } else {
                out.line(difference.to_string())?;
            }
        }
        if out.json() {
            out.end()?;
        }
        if count == 0 {
            say("equal");
            return Ok(Exit::Done);
        }
        out.flush()?;
        say(human::counted(count, "difference", "differences"));
        Ok(Exit::Failed)
    }
}

fn document(difference: &Difference) -> serde_json::Value {
    let line = difference.to_string();
    let path = taf_proto::path::display(&difference.path);
    let what = line.split_once(": ").map_or("", |(_, what)| what);
    json!({ "path": path, "difference": what })
}

fn open(path: &Path) -> Result<OwnedFd, Failure> {
    let opened = File::open(path).and_then(|file| {
        if file.metadata()?.is_dir() {
            Ok(file)
        } else {
            Err(std::io::ErrorKind::NotADirectory.into())
        }
    });
    opened.map(OwnedFd::from).map_err(|error| {
        Failure::new(
            "COMPARE_FAILED",
            format!("{} can't be compared: {error}", path.display()),
            "name two directories that you can read",
        )
    })
}

/// The path as raw bytes below the top.
fn below(top: &Path, path: &Path) -> Result<Vec<u8>, Failure> {
    let relative = if path.is_absolute() {
        let top = std::path::absolute(top).unwrap_or_else(|_| top.to_owned());
        path.strip_prefix(&top).ok().map(Path::to_owned)
    } else {
        Some(path.to_owned())
    };
    // Without a slash at the end.
    let relative = relative.map(|path| path.components().collect::<PathBuf>());
    relative
        .map(|path| path.as_os_str().as_bytes().to_vec())
        .filter(|raw| !raw.is_empty())
        .ok_or_else(|| {
            Failure::usage(
                format!("{} is not below {}", path.display(), top.display()),
                "give --exclude a path in the first tree",
            )
        })
}

fn exclude(excluded: Vec<Vec<u8>>) -> Box<dyn Exclude> {
    Box::new(move |candidate: &Candidate<'_>| excluded.iter().any(|path| path == candidate.path))
}
