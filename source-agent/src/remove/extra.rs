//! What is extra at the target of a restore: listed, or removed.
//!
//! The controller says what each restored directory holds; whatever else is there is extra, with all below it. Only where a restore
//! may write, nothing on another file system, never what the agent itself needs, and never at the origin: there is more than the version
//! was asked to hold. The controller knows the origin by its path; here it is known by which directory it is, whatever path leads there.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use taf_proto::agent::{Listing, RemoveDone, RemoveExtraWork};
use taf_proto::path::display;
use taf_tree::Remover;
use taf_tree::remove::{Error as Refusal, Sweep};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{AHEAD, Told, fetch, reason};
use crate::backup::Context;
use crate::fault::{self, Error, fault};
use crate::progress::{Counters, absolute};
use crate::restore::mapping::Mapping;
use crate::restore::target;
use crate::restore::target_path;
use crate::restore::write::{Allowed, Permit};

/// Does the work.
///
/// # Errors
/// The fault that ends it: the target's, or the controller's.
pub async fn run(context: Context<'_>, work: &RemoveExtraWork) -> Result<RemoveDone, Error> {
    let raw = target_path(work.target.as_ref())?;
    let done = |counters: &Counters| RemoveDone {
        file_count: Counters::get(&counters.files),
        directory_count: Counters::get(&counters.directories),
        byte_count: Counters::get(&counters.bytes),
        issue_count: Counters::get(&counters.issues),
    };
    // Opening it would make it.
    if !Path::new(OsStr::from_bytes(&raw)).exists() {
        return Ok(done(&context.counters));
    }
    let mapping = Mapping::new(&work.strip_prefix, &work.prefix)?;
    let config = context.config.clone();
    let mut own = config.exclude.clone();
    own.push(config.state.clone());
    let place = tokio::task::spawn_blocking({
        let raw = raw.clone();
        move || target::open(&config, &raw)
    });
    let place = place
        .await
        .map_err(|error| fault::internal(error.to_string()))??;
    context.counters.phase(if work.list_only {
        "listing"
    } else {
        "removing"
    });
    let (sender, listings) = mpsc::channel(AHEAD);
    let removing = tokio::task::spawn_blocking({
        let mut extra = Extra {
            remover: Remover::new(place.directory),
            permit: place.permit,
            mapping,
            target: raw,
            own,
            really: !work.list_only,
            told: Told {
                issues: context.issues.clone(),
                counts: HashMap::new(),
            },
            counters: Arc::clone(&context.counters),
            stop: context.stop.clone(),
        };
        move || extra.all(listings)
    });
    let fetching = fetch::fetch::<Listing>(context.controller.clone(), context.key, sender);
    let fetched = context.stop.run_until_cancelled(fetching).await;
    let removed = removing
        .await
        .map_err(|error| fault::internal(error.to_string()))?;
    removed?;
    fetched.unwrap_or(Err(Error::Stopped))?;
    Ok(done(&context.counters))
}

struct Extra {
    remover: Remover,
    permit: Permit,
    mapping: Mapping,
    /// Absolute.
    target: Vec<u8>,
    /// What stays whatever is asked: the agent's own.
    own: Vec<PathBuf>,
    really: bool,
    told: Told,
    counters: Arc<Counters>,
    stop: CancellationToken,
}

impl Extra {
    fn all(&mut self, mut listings: mpsc::Receiver<Listing>) -> Result<(), Error> {
        while let Some(listing) = listings.blocking_recv() {
            if self.stop.is_cancelled() {
                return Err(Error::Stopped);
            }
            let Some(place) = self.mapping.directory(&listing.path) else {
                continue;
            };
            let there = absolute(&self.target, &place);
            if is_same(&there, &absolute(b"/", &listing.path)) {
                return Err(at_origin(&there));
            }
            let names = match self.remover.names(&place) {
                Ok(Some(names)) => names,
                // It could not be restored, which the restore has said.
                Ok(None) => continue,
                Err(error) => {
                    self.told.stays(&place, reason(&error), error.to_string());
                    continue;
                }
            };
            for name in names.iter().filter(|name| is_extra(name, &listing)) {
                self.one(&taf_tree::path::join(&place, name))?;
            }
        }
        if self.stop.is_cancelled() {
            return Err(Error::Stopped);
        }
        self.told.sum_up();
        Ok(())
    }

    fn one(&mut self, path: &[u8]) -> Result<(), Error> {
        self.counters.path(path);
        match (self.permit)(path) {
            Ok(Allowed::Write) => {}
            Ok(Allowed::Keep) => {
                let why = "something below it is allowed to be written to, but not it itself";
                self.told.stays(path, "NOT_ALLOWED", why.to_owned());
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        let whole = absolute(&self.target, path);
        let whole = Path::new(OsStr::from_bytes(&whole));
        if self
            .own
            .iter()
            .any(|own| own.starts_with(whole) || whole.starts_with(own))
        {
            let why = "the source agent keeps its state there, or its configuration excludes it";
            self.told.stays(path, "NOT_ALLOWED", why.to_owned());
            return Ok(());
        }
        let stop = self.stop.clone();
        let told = &mut self.told;
        let mut how = Sweep {
            really: self.really,
            stays: &mut |path, error| told.stays(path, reason(&error), error.to_string()),
            stopped: &|| stop.is_cancelled(),
        };
        let swept = self.remover.sweep(path, &mut how);
        match swept {
            Ok(sum) => {
                Counters::add(&self.counters.files, sum.files);
                Counters::add(&self.counters.directories, sum.directories);
                Counters::add(&self.counters.bytes, sum.bytes);
                if !self.really {
                    let what = match (sum.files, sum.directories) {
                        (_, 0) => "it is not in the version".to_owned(),
                        (files, directories) => format!(
                            "it is not in the version (directories: {directories}, files: {files})"
                        ),
                    };
                    self.told.stays(path, "EXTRA", what);
                }
            }
            Err(error @ Refusal::OtherFileSystem) => {
                self.told
                    .stays(path, "OTHER_FILE_SYSTEM", error.to_string());
            }
            Err(error) => self.told.stays(path, reason(&error), error.to_string()),
        }
        Ok(())
    }
}

/// Whether two absolute paths lead to the same directory.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    let identity = |path: &[u8]| {
        let found = std::fs::metadata(Path::new(OsStr::from_bytes(path)));
        found.map(|stat| (stat.dev(), stat.ino()))
    };
    matches!((identity(one), identity(other)), (Ok(one), Ok(other)) if one == other)
}

fn at_origin(path: &[u8]) -> Error {
    fault(
        "DELETE_AT_ORIGIN",
        format!(
            "{} is the origin itself: what the version does not have would be removed there, also what was never to be in it or could not be read",
            display(path)
        ),
        "restore below another directory, or without --delete; what was restored is there, and nothing more is removed",
    )
}

/// Whether a name is within the bounds of a listing and not in it.
fn is_extra(name: &[u8], listing: &Listing) -> bool {
    let within =
        name >= &listing.lower[..] && (listing.upper.is_empty() || name < &listing.upper[..]);
    within
        && listing
            .names
            .binary_search_by(|held| held[..].cmp(name))
            .is_err()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_the_same_by_whatever_path() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| {
            folder
                .path()
                .join(path)
                .into_os_string()
                .into_encoded_bytes()
        };
        std::fs::create_dir_all(folder.path().join("real/below")).unwrap();
        std::os::unix::fs::symlink("real", folder.path().join("link")).unwrap();
        assert!(is_same(&at("link/below"), &at("real/below")));
        assert!(!is_same(&at("link"), &at("real/below")));
        assert!(!is_same(&at("gone"), &at("gone")));
    }

    #[test]
    fn a_listing_speaks_of_the_names_between_its_bounds_only() {
        let listing = |lower: &'static [u8], upper: &'static [u8]| Listing {
            lower: lower.into(),
            upper: upper.into(),
            names: vec![b"b"[..].into(), b"d"[..].into()],
            ..Listing::default()
        };
        let whole = listing(b"", b"");
        let extra = |name: &[u8], listing: &Listing| is_extra(name, listing);
        assert!(extra(b"a", &whole) && extra(b"c", &whole) && extra(b"z", &whole));
        assert!(!extra(b"b", &whole) && !extra(b"d", &whole));
        let middle = listing(b"b", b"e");
        assert!(extra(b"c", &middle));
        assert!(!extra(b"a", &middle) && !extra(b"e", &middle) && !extra(b"z", &middle));
    }
}
