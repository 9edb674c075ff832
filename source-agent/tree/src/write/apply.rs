//! Giving an entry its metadata, in the order in which one thing does not undo another.
//!
//! Owner first, because a change of owner clears set-id bits and capabilities. Then the user's own attributes,
//! because they need write permission, which the mode may take away. Then the access list before the mode, so that
//! at no moment more people have access than at the end. Then mode, the remaining attributes, and times last.
//! What the target cannot hold, or this user may not set, is a warning.

use std::os::fd::BorrowedFd;

use rustix::fs::{
    AtFlags, CWD, Gid, Mode, Stat, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags,
};
use rustix::io::Errno;
use taf_format::entry::{Kind, Metadata, Time, Xattr};

use super::{Error, Warning, WarningKind};
use crate::issue::words;
use crate::metadata::{self, Handle};
use crate::path;

const ACCESS_LIST: &[u8] = b"system.posix_acl_access";
const DEFAULT_LIST: &[u8] = b"system.posix_acl_default";

/// Sets everything that `meta` says on the inode. `path` is for messages.
pub(super) fn apply(
    handle: Handle<'_>,
    path: &[u8],
    meta: &Metadata,
) -> Result<Vec<Warning>, Error> {
    let mut warnings = all_but_time(handle, path, meta)?;
    warnings.extend(time(handle, path, meta.mtime)?);
    Ok(warnings)
}

/// Sets the time of modification alone, after everything else.
pub(super) fn time(handle: Handle<'_>, path: &[u8], mtime: Time) -> Result<Vec<Warning>, Error> {
    let mut job = Application {
        handle,
        path,
        warnings: Vec::new(),
    };
    job.times(mtime)?;
    Ok(job.warnings)
}

/// Sets everything but the time of modification.
pub(super) fn all_but_time(
    handle: Handle<'_>,
    path: &[u8],
    meta: &Metadata,
) -> Result<Vec<Warning>, Error> {
    let mut job = Application {
        handle,
        path,
        warnings: Vec::new(),
    };
    let mut mode = meta.mode & 0o7777;
    mode &= !job.owner(meta)?;
    if meta.kind != Kind::Symlink {
        job.shed_inherited(meta)?;
    }
    for xattr in meta
        .xattrs
        .iter()
        .filter(|xattr| xattr.name.starts_with(b"user."))
    {
        job.xattr(xattr)?;
    }
    if let Some(list) = meta.xattrs.iter().find(|xattr| xattr.name == ACCESS_LIST)
        && !job.xattr(list)?
        && let Some(group) = group_without_list(&list.value)
    {
        mode = mode & !0o070 | group << 3;
    }
    if meta.kind != Kind::Symlink {
        job.mode(mode)?;
    }
    let rest = |xattr: &&Xattr| !xattr.name.starts_with(b"user.") && xattr.name != ACCESS_LIST;
    for xattr in meta.xattrs.iter().filter(rest) {
        job.xattr(xattr)?;
    }
    Ok(job.warnings)
}

/// The group's own bits from a POSIX access list as Linux stores it: a version of four bytes, then entries of tag,
/// permissions (two bytes each) and id (four), little endian (`linux/posix_acl_xattr.h`). Where the list itself
/// cannot be kept, the mode's group bits, which are its mask, would give the group too much.
fn group_without_list(list: &[u8]) -> Option<u32> {
    const GROUP_OBJ: u16 = 0x04;
    const MASK: u16 = 0x10;
    let permissions = |wanted: u16| {
        list.get(4..)?.chunks_exact(8).find_map(|entry| {
            let tag = u16::from_le_bytes([entry[0], entry[1]]);
            (tag == wanted).then(|| u32::from(u16::from_le_bytes([entry[2], entry[3]]) & 7))
        })
    };
    Some(permissions(GROUP_OBJ)? & permissions(MASK).unwrap_or(7))
}

struct Application<'a> {
    handle: Handle<'a>,
    path: &'a [u8],
    warnings: Vec<Warning>,
}

impl Application<'_> {
    fn fd(&self) -> BorrowedFd<'_> {
        match self.handle {
            Handle::Open(fd) | Handle::Located(fd) => fd,
        }
    }

    fn warn(&mut self, kind: WarningKind, reason: String) {
        self.warnings.push(Warning {
            path: self.path.to_vec(),
            kind,
            reason,
        });
    }

    fn error(&self, action: &'static str, error: Errno) -> Error {
        Error::at(action, self.path, error)
    }

    fn stat(&self) -> Result<Stat, Error> {
        rustix::fs::fstat(self.fd()).map_err(|error| self.error("examine", error))
    }

    /// Sets owner and group. Returns the mode bits that must not be set because they would lend the wrong owner's
    /// rights.
    fn owner(&mut self, meta: &Metadata) -> Result<u32, Error> {
        let stat = self.stat()?;
        if (stat.st_uid, stat.st_gid) == (meta.uid, meta.gid) {
            return Ok(0);
        }
        let mut refused = 0;
        // Together first; alone, so that an ordinary user's own groups are kept.
        if self.chown(Some(meta.uid), Some(meta.gid)).is_ok() {
            return Ok(0);
        }
        let mut failures = Vec::new();
        if stat.st_uid != meta.uid
            && let Err(error) = self.chown(Some(meta.uid), None)
        {
            failures.push(error);
            refused |= 0o4000;
        }
        if stat.st_gid != meta.gid
            && let Err(error) = self.chown(None, Some(meta.gid))
        {
            failures.push(error);
            refused |= 0o2000;
        }
        for error in &failures {
            if !is_refusal(*error) && *error != Errno::DQUOT {
                return Err(self.error("set the owner of", *error));
            }
        }
        if let Some(error) = failures.first() {
            let reason = format!(
                "owner {}:{} cannot be set: {}",
                meta.uid,
                meta.gid,
                words(*error)
            );
            self.warn(WarningKind::OwnerNotPermitted, reason);
        }
        // On a directory the group bit lends no rights.
        if meta.kind == Kind::Directory {
            refused = 0;
        }
        if meta.mode & refused != 0 {
            let reason = "set-id bits are left out because the owner is another".to_owned();
            self.warn(WarningKind::ModeNotPermitted, reason);
        }
        Ok(refused)
    }

    fn chown(&self, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
        // All ones means "leave it" to the kernel.
        if uid == Some(u32::MAX) || gid == Some(u32::MAX) {
            return Err(Errno::INVAL);
        }
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        rustix::fs::chownat(self.fd(), "", uid, gid, AtFlags::EMPTY_PATH)
    }

    /// Takes off access lists that were inherited from the parent's default and that the entry must not have.
    fn shed_inherited(&mut self, meta: &Metadata) -> Result<(), Error> {
        for name in [ACCESS_LIST, DEFAULT_LIST] {
            if (name == DEFAULT_LIST && meta.kind != Kind::Directory)
                || meta.xattrs.iter().any(|xattr| xattr.name == name)
            {
                continue;
            }
            let removed = match self.handle {
                Handle::Open(fd) => rustix::fs::fremovexattr(fd, name),
                Handle::Located(fd) => rustix::fs::removexattr(Handle::proc_path(fd), name),
            };
            match removed {
                Ok(())
                | Err(
                    Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::NOENT,
                ) => {}
                Err(error) if is_refusal(error) => {}
                Err(error) => return Err(self.error("remove the inherited access list of", error)),
            }
        }
        Ok(())
    }

    /// Sets one attribute; false if it could not be.
    fn xattr(&mut self, xattr: &Xattr) -> Result<bool, Error> {
        // No name that the kernel takes is longer, and NUL ends one.
        if xattr.name.len() > 255 || xattr.name.contains(&0) {
            let reason = format!("{} is no name of an attribute", path::display(&xattr.name));
            self.warn(WarningKind::XattrUnsupported, reason);
            return Ok(false);
        }
        let set = match self.handle {
            Handle::Open(fd) => {
                rustix::fs::fsetxattr(fd, &xattr.name[..], &xattr.value, XattrFlags::empty())
            }
            Handle::Located(fd) => rustix::fs::setxattr(
                Handle::proc_path(fd),
                &xattr.name[..],
                &xattr.value,
                XattrFlags::empty(),
            ),
        };
        let Err(error) = set else { return Ok(true) };
        let kind = match error {
            Errno::PERM | Errno::ACCESS => WarningKind::XattrNotPermitted,
            Errno::OPNOTSUPP
            | Errno::NOSYS
            | Errno::NOSPC
            | Errno::TOOBIG
            | Errno::RANGE
            | Errno::INVAL
            | Errno::DQUOT
            | Errno::NOENT => WarningKind::XattrUnsupported,
            error => return Err(self.error("set an attribute of", error)),
        };
        let reason = format!(
            "attribute {} cannot be set: {}",
            path::display(&xattr.name),
            words(error)
        );
        self.warn(kind, reason);
        Ok(false)
    }

    fn mode(&mut self, mode: u32) -> Result<(), Error> {
        let bits = Mode::from_raw_mode(mode);
        let set = match self.handle {
            Handle::Open(fd) => rustix::fs::fchmod(fd, bits),
            Handle::Located(fd) => rustix::fs::chmod(Handle::proc_path(fd), bits),
        };
        match set {
            Err(error) if !is_refusal(error) => return Err(self.error("set the mode of", error)),
            Err(error) => {
                self.warn(
                    WarningKind::ModeNotPermitted,
                    format!("mode {mode:04o} cannot be set: {}", words(error)),
                );
            }
            Ok(()) => {
                // The kernel drops set-group-id in silence where the group isn't ours.
                let now = self.stat()?.st_mode & 0o7777;
                if now != mode {
                    self.warn(
                        WarningKind::ModeNotPermitted,
                        format!("mode {mode:04o} became {now:04o}"),
                    );
                }
            }
        }
        Ok(())
    }

    fn times(&mut self, wanted: Time) -> Result<(), Error> {
        let times = modified(wanted);
        let set = match self.handle {
            Handle::Open(fd) => rustix::fs::futimens(fd, &times),
            Handle::Located(fd) => {
                rustix::fs::utimensat(CWD, Handle::proc_path(fd), &times, AtFlags::empty())
            }
        };
        match set {
            Err(error) if is_refusal(error) || error == Errno::OVERFLOW => {
                self.warn(
                    WarningKind::TimeRange,
                    format!("modification time cannot be set: {}", words(error)),
                );
            }
            Err(error) => return Err(self.error("set the times of", error)),
            Ok(()) => {
                let now = metadata::mtime(&self.stat()?);
                if now != wanted {
                    let reason = format!(
                        "modification time {}.{:09} became {}.{:09}, which is what the file system can hold",
                        wanted.seconds, wanted.nanos, now.seconds, now.nanos
                    );
                    self.warn(WarningKind::TimeRange, reason);
                }
            }
        }
        Ok(())
    }
}

/// A time of modification, as the kernel takes it.
pub(super) fn modified(mtime: Time) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: mtime.seconds,
            tv_nsec: mtime.nanos.min(999_999_999).into(),
        },
    }
}

/// Errors that mean "not here" or "not you", as against a failing disk.
fn is_refusal(error: Errno) -> bool {
    matches!(
        error,
        Errno::PERM
            | Errno::ACCESS
            | Errno::INVAL
            | Errno::OPNOTSUPP
            | Errno::NOSYS
            | Errno::NOENT
            | Errno::ROFS
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(u16, u16)]) -> Vec<u8> {
        let mut bytes = 2u32.to_le_bytes().to_vec();
        for (tag, permissions) in entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(permissions.to_le_bytes());
            bytes.extend(u32::MAX.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn a_lost_access_list_never_widens_the_groups_rights() {
        assert_eq!(
            group_without_list(&list(&[(1, 6), (4, 4), (0x10, 7), (0x20, 0)])),
            Some(4)
        );
        assert_eq!(
            group_without_list(&list(&[(1, 6), (4, 7), (0x10, 5), (0x20, 0)])),
            Some(5)
        );
        assert_eq!(group_without_list(&list(&[(1, 6)])), None);
        assert_eq!(group_without_list(b"x"), None);
    }
}
