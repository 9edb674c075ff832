//! Reading a directory's names and opening what is in it.
//!
//! Every open here is relative to a directory's descriptor, of one name, and follows no link. Nothing but regular
//! files and directories is ever opened for reading: opening a device can move a tape.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, Stat, fstat, openat, statat};
use rustix::io::Errno;
use taf_format::entry::Kind;

use super::names::{Gathering, Names};
use super::{Candidate, Exclude, marker};
use crate::issue::{Issue, IssueKind, words};
use crate::{metadata, path};

/// What reading a directory gave.
pub(super) struct Listed {
    pub(super) names: Names,
    /// False if there may be more names than these.
    pub(super) complete: bool,
    pub(super) issues: Vec<Issue>,
}

/// Device and inode, the identity of a directory while we walk.
#[allow(clippy::unnecessary_cast)] // the fields' widths differ between architectures
pub(super) fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev as u64, stat.st_ino as u64)
}

/// Opens with the access time left alone where we may.
fn open_quietly(directory: BorrowedFd<'_>, name: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags
        | OFlags::RDONLY
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::NOCTTY
        | OFlags::CLOEXEC;
    loop {
        match openat(directory, name, flags | OFlags::NOATIME, Mode::empty()) {
            // Only the owner and root may leave the access time alone.
            Err(Errno::PERM) => return openat(directory, name, flags, Mode::empty()),
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

/// A file for reading.
pub(super) fn open_file(directory: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    open_quietly(directory, name, OFlags::empty())
}

/// A directory for listing; `name` may be `.` or `..`.
pub(super) fn open_directory(directory: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    open_quietly(directory, name, OFlags::DIRECTORY)
}

/// Anything, without opening it.
pub(super) fn locate(directory: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    openat(
        directory,
        name,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )
}

/// Reads the whole listing, sorted in catalog order, without what is excluded or of a kind that isn't kept.
pub(super) fn read(
    directory: &OwnedFd,
    at: &[u8],
    exclude: Option<&dyn Exclude>,
    mut names: Gathering,
) -> Listed {
    let mut listed = Listed {
        names: Names::default(),
        complete: true,
        issues: Vec::new(),
    };
    if let Err(reason) = gather(directory, at, exclude, &mut names, &mut listed) {
        listed.incomplete(at, reason);
    }
    let count = names.len();
    match names.finish() {
        Ok(names) => listed.names = names,
        Err(error) => listed.incomplete(
            at,
            format!("has {count} names, which can't be kept on disk: {error}; they are left out"),
        ),
    }
    if let Some(exclude) = exclude {
        marker::apply(&mut listed, directory.as_fd(), at, exclude);
    }
    listed
}

impl Listed {
    /// There may be more names than these.
    fn incomplete(&mut self, at: &[u8], reason: String) {
        self.issues
            .push(Issue::new(at, IssueKind::UnreadableDirectory, reason));
        self.complete = false;
    }
}

/// Gathers names in any order. The error: why it ended too early.
fn gather(
    directory: &OwnedFd,
    at: &[u8],
    exclude: Option<&dyn Exclude>,
    names: &mut Gathering,
    listed: &mut Listed,
) -> Result<(), String> {
    let unreadable = |error| format!("cannot be listed: {}", words(error));
    let device = identity(&fstat(directory).map_err(unreadable)?).0;
    let mut buffer = Vec::with_capacity(32 * 1024);
    let mut entries = RawDir::new(directory, buffer.spare_capacity_mut());
    loop {
        let entry = match entries.next() {
            None => return Ok(()),
            Some(Err(Errno::INTR)) => continue,
            // Not the end: a directory that was removed, or a file server that lost it.
            Some(Err(error)) => return Err(unreadable(error)),
            Some(Ok(entry)) => entry,
        };
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        match judge(
            directory.as_fd(),
            at,
            name,
            (device, entry.ino()),
            entry.file_type(),
            exclude,
        ) {
            Ok(Some(kind)) => {
                let why = match names.push(name, kind) {
                    Ok(true) => continue,
                    Ok(false) => String::new(),
                    Err(error) => format!(", which can't be kept on disk: {error}"),
                };
                let count = names.len();
                return Err(format!(
                    "has more than {count} names{why}; the others are left out"
                ));
            }
            Ok(None) => {}
            Err(issue) => {
                // There is something, and nobody knows what.
                listed.complete &= issue.kind != IssueKind::Unreadable;
                listed.issues.push(issue);
            }
        }
    }
}

/// The kind under which a name is kept, `None` if it is excluded.
pub(super) fn judge(
    directory: BorrowedFd<'_>,
    at: &[u8],
    name: &[u8],
    mut known_as: (u64, u64),
    mut file_type: FileType,
    exclude: Option<&dyn Exclude>,
) -> Result<Option<Kind>, Issue> {
    // A directory may be another file system's, whose device and inode only stat tells.
    if file_type == FileType::Unknown || (file_type == FileType::Directory && exclude.is_some()) {
        match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => {
                known_as = identity(&stat);
                file_type = FileType::from_raw_mode(stat.st_mode);
            }
            // Entering it will say why.
            Err(_) if file_type == FileType::Directory => return Ok(Some(Kind::Directory)),
            Err(error) => return Err(gone_or_unreadable(&path::join(at, name), error)),
        }
    }
    let kind = metadata::kind(file_type);
    if let Some(exclude) = exclude {
        let path = path::join(at, name);
        let candidate = Candidate {
            path: &path,
            kind,
            device: known_as.0,
            inode: known_as.1,
        };
        if exclude.name(&candidate) {
            return Ok(None);
        }
    }
    if kind.is_none() {
        let what = if file_type == FileType::Socket {
            "a socket, which is not kept"
        } else {
            "of an unknown kind"
        };
        return Err(Issue::new(
            &path::join(at, name),
            IssueKind::Unsupported,
            format!("is {what}"),
        ));
    }
    Ok(kind)
}

/// The issue for an entry that could not be opened or examined.
pub(super) fn gone_or_unreadable(path: &[u8], error: Errno) -> Issue {
    match error {
        Errno::NOENT => Issue::new(
            path,
            IssueKind::Vanished,
            "vanished before it could be read",
        ),
        Errno::LOOP | Errno::NOTDIR | Errno::NXIO => Issue::new(
            path,
            IssueKind::Changed,
            "became something else before it could be read",
        ),
        error => Issue::new(
            path,
            IssueKind::Unreadable,
            format!("cannot be opened: {}", words(error)),
        ),
    }
}
