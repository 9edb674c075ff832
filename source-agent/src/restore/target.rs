//! The directory that a restore writes below: allowed by this host, made if it is missing.

use std::ffi::OsStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::write::{Allowed, Permit};
use crate::allow::{AllowList, Purpose};
use crate::config::{Config, plain};
use crate::fault::{self, Error, fault};
use crate::progress::absolute;
use taf_proto::path::display;

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC);

/// A checked target.
pub(crate) struct Place {
    /// The directory.
    pub(crate) directory: OwnedFd,
    /// What may be written below it.
    pub(crate) permit: Permit,
}

/// Checks and opens the target `raw`. If it lies above what is allowed (the origin, `/`, mostly does), every single
/// path is held against the list.
pub(crate) fn open(config: &Config, raw: &[u8]) -> Result<Place, Error> {
    let path = plain(raw).ok_or_else(|| {
        fault::protocol(format!(
            "the target {} is not an absolute path without . and ..",
            display(raw)
        ))
    })?;
    let target = PathBuf::from(OsStr::from_bytes(&path));
    let allowed = AllowList::new(Purpose::Restore, &config.restore_allowed);
    let whole = allowed.names(&target);
    if !whole && !allowed.names_below(&target) {
        return Err(allowed.refusal(&target, None));
    }
    if whole {
        allowed.check(&path)?;
    }
    let failed = |path: &Path, error: &dyn std::fmt::Display| {
        fault(
            "TARGET_UNUSABLE",
            format!(
                "the target {} can't be used: {error}",
                display(path.as_os_str().as_bytes())
            ),
            "see that it is a directory, or that it can be made",
        )
    };
    // From what exists downwards by descriptors, so that nothing can be put in between.
    let mut existing = target.as_path();
    let mut missing = Vec::new();
    while !existing.exists() {
        let (Some(above), Some(name)) = (existing.parent(), existing.file_name()) else {
            break;
        };
        missing.push(name);
        existing = above;
    }
    let mut directory = rustix::fs::open(existing, DIRECTORY, Mode::empty())
        .map_err(|error| failed(existing, &error))?;
    // Where it really is, however the path looked a moment ago.
    let mut real = std::fs::read_link(format!("/proc/self/fd/{}", directory.as_raw_fd()))
        .map_err(|error| failed(existing, &error))?;
    real.extend(missing.iter().rev());
    if whole && !allowed.holds(&real) {
        return Err(allowed.refusal(&target, Some(&real)));
    }
    if !whole && real != target {
        return Err(allowed.refusal(&target, Some(&real)));
    }
    for name in missing.into_iter().rev() {
        let made = rustix::fs::mkdirat(&directory, name, Mode::from_raw_mode(0o755));
        if let Err(error) = made
            && error != rustix::io::Errno::EXIST
        {
            return Err(failed(&target, &error));
        }
        let flags = DIRECTORY.union(OFlags::NOFOLLOW);
        directory = rustix::fs::openat(&directory, name, flags, Mode::empty())
            .map_err(|error| failed(&target, &error))?;
    }
    let permit: Permit = if whole {
        Box::new(|_| Ok(Allowed::Write))
    } else {
        Box::new(move |relative| {
            let path = absolute(&path, relative);
            let path = Path::new(OsStr::from_bytes(&path));
            if allowed.names(path) {
                Ok(Allowed::Write)
            } else if allowed.names_below(path) && path.is_dir() {
                Ok(Allowed::Keep)
            } else {
                Err(allowed.refusal(path, None))
            }
        })
    };
    Ok(Place { directory, permit })
}
