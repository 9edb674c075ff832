//! Whether a path may be read or written: the host's own word, whatever the controller asks.
//!
//! A path is judged as it is given and as it is once links above it are followed, so that a link inside an allowed
//! folder opens no door. Only whole components count: `/srv` does not allow `/srv2`.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use taf_proto::path::display;

use crate::fault::{Error, fault};

/// Which permission is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Reading for a backup.
    Backup,
    /// Writing by a restore.
    Restore,
    /// Removing what is archived.
    Remove,
}

/// Paths below which something is allowed.
#[derive(Debug, Clone)]
pub struct AllowList {
    purpose: Purpose,
    given: Vec<PathBuf>,
}

impl AllowList {
    /// A list for one purpose.
    pub fn new(purpose: Purpose, given: &[PathBuf]) -> Self {
        Self {
            purpose,
            given: given.to_vec(),
        }
    }

    /// Whether nothing is allowed.
    pub fn is_empty(&self) -> bool {
        self.given.is_empty()
    }

    /// Whether the plain absolute path is named, by itself or by what it lies below.
    pub fn names(&self, path: &Path) -> bool {
        self.given.iter().any(|allowed| path.starts_with(allowed))
    }

    /// Whether something below `path` is named.
    pub fn names_below(&self, path: &Path) -> bool {
        self.given.iter().any(|allowed| allowed.starts_with(path))
    }

    /// Whether a path with no links in it lies below what is named, links in the names followed.
    pub fn holds(&self, resolved: &Path) -> bool {
        self.names(resolved)
            || self.given.iter().any(|allowed| {
                std::fs::canonicalize(allowed).is_ok_and(|real| resolved.starts_with(real))
            })
    }

    /// Passes a plain absolute path that is named and, resolved, lies within. The last component is not followed: a
    /// link is read and replaced as a link.
    ///
    /// # Errors
    /// `PATH_NOT_ALLOWED`, which names the path and what is allowed.
    pub fn check(&self, raw: &[u8]) -> Result<(), Error> {
        let path = Path::new(OsStr::from_bytes(raw));
        if !self.names(path) {
            return Err(self.refusal(path, None));
        }
        match resolve_parent(path) {
            Ok(resolved) if self.holds(&resolved) => Ok(()),
            Ok(resolved) => Err(self.refusal(path, Some(&resolved))),
            // What can't be resolved can't be opened either.
            Err(_) => Ok(()),
        }
    }

    /// The refusal of a path.
    pub fn refusal(&self, path: &Path, resolved: Option<&Path>) -> Error {
        let (verb, key) = match self.purpose {
            Purpose::Backup => ("backed up", "backup_allowed"),
            Purpose::Restore => ("written to", "restore_allowed"),
            Purpose::Remove => ("removed from", "remove_allowed"),
        };
        let shown = |path: &Path| display(path.as_os_str().as_bytes());
        let leads = resolved.map_or_else(String::new, |real| {
            format!(", which leads to {},", shown(real))
        });
        let allowed = if self.given.is_empty() {
            "nothing is allowed there".to_owned()
        } else {
            let names: Vec<_> = self.given.iter().map(|path| shown(path)).collect();
            format!("allowed are {}", names.join(", "))
        };
        let host = taf_peer::enrol::host_name();
        fault(
            "PATH_NOT_ALLOWED",
            format!(
                "{}{leads} may not be {verb} on {host}: {allowed}",
                shown(path)
            ),
            format!(
                "add it to {key} in the source agent's configuration on {host} and restart the agent"
            ),
        )
    }
}

/// The path with all links above its last component followed. What does not exist yet has no links.
pub fn resolve_parent(path: &Path) -> io::Result<PathBuf> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(path.to_owned());
    };
    let mut missing = vec![name];
    let mut existing = parent;
    loop {
        match std::fs::canonicalize(existing) {
            Ok(mut real) => {
                real.extend(missing.iter().rev());
                return Ok(real);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // A dangling link is there and leads who knows where.
                if existing.symlink_metadata().is_ok() {
                    return Err(error);
                }
                let (Some(above), Some(name)) = (existing.parent(), existing.file_name()) else {
                    return Err(error);
                };
                missing.push(name);
                existing = above;
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn list(paths: &[&Path]) -> AllowList {
        let paths: Vec<PathBuf> = paths.iter().map(|path| path.to_path_buf()).collect();
        AllowList::new(Purpose::Backup, &paths)
    }

    fn check(list: &AllowList, path: &Path) -> bool {
        list.check(path.as_os_str().as_bytes()).is_ok()
    }

    #[test]
    fn only_whole_components_count() {
        let list = list(&[Path::new("/nowhere/a")]);
        for (path, allowed) in [
            ("/nowhere/a", true),
            ("/nowhere/a/b", true),
            ("/nowhere/ab", false),
            ("/nowhere", false),
            ("/", false),
        ] {
            assert_eq!(check(&list, Path::new(path)), allowed, "{path}");
        }
        assert!(check(
            &AllowList::new(Purpose::Backup, &["/".into()]),
            Path::new("/x")
        ));
        assert!(!check(
            &AllowList::new(Purpose::Backup, &[]),
            Path::new("/x")
        ));
    }

    #[test]
    fn a_link_inside_opens_no_door_and_a_link_in_the_list_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().canonicalize().unwrap();
        for name in ["open/deep", "shut/deep"] {
            std::fs::create_dir_all(top.join(name)).unwrap();
        }
        std::os::unix::fs::symlink(top.join("shut"), top.join("open/door")).unwrap();
        std::os::unix::fs::symlink(top.join("open"), top.join("alias")).unwrap();
        let open = list(&[&top.join("open")]);
        assert!(check(&open, &top.join("open/deep/new/file")));
        assert!(!check(&open, &top.join("open/door/deep")));
        assert!(check(&open, &top.join("open/door")), "the link itself");
        assert!(!check(&open, &top.join("alias/deep")), "not named");
        let alias = list(&[&top.join("alias")]);
        assert!(check(&alias, &top.join("alias/deep")));
        assert!(!check(&alias, &top.join("alias/door/deep")));
    }

    #[test]
    fn a_refusal_says_what_is_allowed_and_where_to_change_it() {
        let error = list(&[Path::new("/srv")])
            .check(b"/etc/shadow")
            .unwrap_err();
        let fault = error.into_fault();
        assert_eq!(fault.reason, "PATH_NOT_ALLOWED");
        assert!(fault.message.contains("/etc/shadow") && fault.message.contains("/srv"));
        assert!(fault.next_step.contains("backup_allowed"));
    }
}
