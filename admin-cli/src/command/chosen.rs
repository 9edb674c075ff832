//! Which version, and what of it: what every command takes that brings something back.

use std::ffi::{OsStr, OsString};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use taf_proto::v1;

use crate::failure::Failure;
use crate::resource::absolute;

/// Bytes of paths that the controller takes at once.
const PATHS_MOST: usize = 63 << 20;
/// Bytes that a path takes beside its own, at most.
const PER_PATH: usize = 16;

/// See the module.
#[derive(Debug, clap::Args)]
pub struct Chosen {
    /// PLAN for its newest version, PLAN@N, PLAN@aN for an archive, \"PLAN@3 days ago\", or lines/L/versions/N
    #[arg(value_name = "PLAN[@N]")]
    version: String,
    /// Absolute paths, directories with all below them, or patterns; everything if none
    #[arg(value_name = "PATH")]
    paths: Vec<OsString>,
    /// The version that was the newest at a moment, as in \"3 days ago\" or \"2026-11-20 14:00\"
    #[arg(long, value_name = "MOMENT")]
    at: Option<String>,
    /// Further paths from a file (- is standard input), one a line, never patterns
    #[arg(long, value_name = "FILE")]
    files_from: Option<PathBuf>,
    /// Paths of --files-from end with a zero byte, not with a line
    #[arg(long, requires = "files_from")]
    null: bool,
}

impl Chosen {
    /// The version's text, with its moment.
    pub fn version(&self) -> Result<String, Failure> {
        at_moment(&self.version, self.at.as_deref())
    }

    /// Paths and patterns; neither means everything.
    pub fn paths(&self) -> Result<(Vec<v1::Path>, Vec<String>), Failure> {
        let (mut paths, patterns) = told_apart(&self.paths)?;
        if let Some(file) = &self.files_from {
            paths.extend(listed(&read(file)?, self.null)?);
            if paths.is_empty() && patterns.is_empty() {
                return Err(Failure::usage(
                    format!("{} names no path", file.display()),
                    "leave --files-from out to take everything",
                ));
            }
        }
        let bytes: usize = paths.iter().map(|path| path.raw.len() + PER_PATH).sum();
        if bytes > PATHS_MOST {
            return Err(Failure::usage(
                format!("{} paths are more than fit into one request", paths.len()),
                "name the directories that they are in, or patterns, or take them in several turns",
            ));
        }
        Ok((paths, patterns))
    }
}

/// The version's text with the moment that was given apart from it.
fn at_moment(text: &str, at: Option<&str>) -> Result<String, Failure> {
    match at {
        None => Ok(text.to_owned()),
        Some(_) if text.contains(['@', '/']) && !text.starts_with("plans/") => Err(Failure::usage(
            format!("{text} says which version, and so does --at"),
            "write the plan's name alone before --at",
        )),
        Some(at) => Ok(format!("{text}@{at}")),
    }
}

/// Paths, and what is a pattern.
fn told_apart(given: &[OsString]) -> Result<(Vec<v1::Path>, Vec<String>), Failure> {
    let (mut paths, mut patterns) = (Vec::new(), Vec::new());
    for text in given {
        let raw = text.as_bytes();
        let pattern = raw.starts_with(b"re:") || raw.iter().any(|byte| b"*?[{\\".contains(byte));
        match text.to_str() {
            Some(text) if pattern => patterns.push(text.to_owned()),
            // What is no text can be no pattern.
            _ => paths.push(bare(absolute(text)?)),
        }
    }
    Ok((paths, patterns))
}

/// The paths that a file has, one a line or with zero bytes behind them.
fn listed(bytes: &[u8], null: bool) -> Result<Vec<v1::Path>, Failure> {
    let end = if null { 0 } else { b'\n' };
    let lines = bytes.split(|&byte| byte == end);
    lines
        .filter(|line| !line.is_empty())
        .map(|line| absolute(OsStr::from_bytes(line)).map(bare))
        .collect()
}

/// Once is enough: lists of paths are long.
fn bare(path: v1::Path) -> v1::Path {
    v1::Path {
        display: String::new(),
        ..path
    }
}

/// What is in a file, or comes from standard input.
pub fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let read = if file.as_os_str() == "-" {
        let mut bytes = Vec::new();
        std::io::stdin().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        std::fs::read(file)
    };
    read.map_err(|error| {
        Failure::usage(
            format!("{} can't be read: {error}", file.display()),
            "name a file that this user can read",
        )
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_told_from_paths() {
        let given: Vec<OsString> = ["/srv/a b", "/srv/*.pdf", "re:x$", "*.c", "/srv//x/"]
            .map(OsString::from)
            .into();
        let (paths, patterns) = told_apart(&given).unwrap();
        let paths: Vec<_> = paths.iter().map(|path| path.raw.clone()).collect();
        assert_eq!(paths, [&b"/srv/a b"[..], b"/srv/x"]);
        assert_eq!(patterns, ["/srv/*.pdf", "re:x$", "*.c"]);
        assert!(told_apart(&["srv/a".into()]).unwrap_err().usage);
    }

    #[test]
    fn lists_have_any_bytes_and_no_patterns() {
        let raw = |bytes: &[u8], null| {
            let paths = listed(bytes, null).unwrap();
            paths
                .iter()
                .map(|path| path.raw.to_vec())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            raw(b"/a*\n\n/b\xff\n", false),
            [b"/a*".to_vec(), b"/b\xff".to_vec()]
        );
        assert_eq!(raw(b"/a\nb\0/c", true), [b"/a\nb".to_vec(), b"/c".to_vec()]);
        assert!(listed(b"a\n", false).unwrap_err().usage);
    }

    #[test]
    fn a_moment_is_said_once() {
        assert_eq!(at_moment("daily", None).unwrap(), "daily");
        let at = Some("3 days ago");
        assert_eq!(at_moment("daily", at).unwrap(), "daily@3 days ago");
        assert_eq!(
            at_moment("plans/daily", at).unwrap(),
            "plans/daily@3 days ago"
        );
        assert!(at_moment("daily@3", at).unwrap_err().usage);
        assert!(at_moment("lines/1/versions/2", at).unwrap_err().usage);
    }
}
