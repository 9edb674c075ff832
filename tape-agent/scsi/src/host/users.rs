//! Which processes have a device open.

use std::fmt;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// One process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct User {
    /// Its id.
    pub pid: u32,
    /// Its program, as the kernel shortens it.
    pub program: String,
}

/// The processes that have a device open, as far as we may see.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Users {
    /// Those that were seen, by id.
    pub seen: Vec<User>,
    /// Whether all processes could be looked at; only root may look at those of others.
    pub complete: bool,
}

impl Users {
    /// Looks through all processes for these device numbers.
    pub(super) fn find(proc: &Path, numbers: &[u64]) -> Self {
        let mut users = Self {
            seen: Vec::new(),
            complete: true,
        };
        for entry in fs::read_dir(proc).into_iter().flatten().flatten() {
            let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            else {
                continue;
            };
            let files = match fs::read_dir(entry.path().join("fd")) {
                Ok(files) => files,
                Err(error) => {
                    // One that has ended meanwhile uses nothing.
                    users.complete &= error.kind() == std::io::ErrorKind::NotFound;
                    continue;
                }
            };
            let uses = files.flatten().any(|file| {
                fs::metadata(file.path()).is_ok_and(|metadata| {
                    metadata.file_type().is_char_device() && numbers.contains(&metadata.rdev())
                })
            });
            if uses {
                users.seen.push(User {
                    pid,
                    program: super::line(&entry.path().join("comm")).unwrap_or_default(),
                });
            }
        }
        users.seen.sort();
        users
    }
}

/// As `taf-tape-agent (4711)`; several with commas; in words if there is none.
impl fmt::Display for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.seen.is_empty() {
            return f.write_str(if self.complete {
                "nobody"
            } else {
                "nobody that we may see (root sees all)"
            });
        }
        for (index, user) in self.seen.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{} ({})", user.program, user.pid)?;
        }
        Ok(())
    }
}
