//! Reading the metadata of an open entry.
//!
//! Owns the translation from `stat` and extended attributes to [`Metadata`], and the cache of owner names. It
//! never opens anything by name: what is read belongs to the one inode that the descriptor holds.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;
use taf_format::entry::{Kind, Metadata, Time, Xattr};

/// Longest list of attribute names that Linux hands out, in bytes (`XATTR_LIST_MAX`).
const MAX_LIST: usize = 65_536;
/// Longest value of one attribute, in bytes (`XATTR_SIZE_MAX`).
const MAX_VALUE: usize = 65_536;
/// Names kept per cache before it starts anew: a directory service may have millions.
const MAX_OWNERS: usize = 65_536;

/// The kind of an entry from the type in its `stat`; `None` for sockets and what else is not kept.
pub fn kind(file_type: FileType) -> Option<Kind> {
    Some(match file_type {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::Fifo => Kind::Fifo,
        FileType::CharacterDevice => Kind::CharDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        FileType::Socket | FileType::Unknown => return None,
    })
}

/// Modification time in a `stat`.
#[allow(clippy::unnecessary_cast)] // the field's width differs between architectures
pub(crate) fn mtime(stat: &Stat) -> Time {
    Time {
        seconds: stat.st_mtime as i64,
        nanos: stat.st_mtime_nsec as u32,
    }
}

/// Status change time in a `stat`.
#[allow(clippy::unnecessary_cast)] // the field's width differs between architectures
pub(crate) fn ctime(stat: &Stat) -> Time {
    Time {
        seconds: stat.st_ctime as i64,
        nanos: stat.st_ctime_nsec as u32,
    }
}

/// Bytes that the file system holds for the file.
#[allow(clippy::unnecessary_cast)] // the field's width differs between architectures
pub(crate) fn allocated(stat: &Stat) -> u64 {
    (stat.st_blocks as u64).saturating_mul(512)
}

/// Whether the file system keeps inode numbers: FUSE, SMB and FAT may make them up anew. Magic numbers as in
/// `linux/magic.h`, and of SMB 2 and exFAT in their drivers.
#[allow(clippy::unnecessary_cast)] // the field's width differs between architectures
pub(crate) fn has_stable_inodes(fd: BorrowedFd<'_>) -> bool {
    const UNSTABLE: [u32; 6] = [
        0x6573_5546, // FUSE
        0x0000_517b, // SMB
        0xff53_4d42, // CIFS
        0xfe53_4d42, // SMB 2
        0x0000_4d44, // FAT
        0x2011_bab0, // exFAT
    ];
    rustix::fs::fstatfs(fd).map_or(true, |fs| !UNSTABLE.contains(&(fs.f_type as u32)))
}

/// Reads metadata; keeps names of owners and buffers between entries.
#[derive(Debug, Default)]
pub(crate) struct Examiner {
    users: HashMap<u32, Vec<u8>>,
    groups: HashMap<u32, Vec<u8>>,
    list: Vec<u8>,
    value: Vec<u8>,
}

impl Examiner {
    /// All of [`Metadata`] but the extended attributes and the link's target.
    #[allow(clippy::unnecessary_cast)] // the fields' widths differ between architectures
    pub(crate) fn basics(&mut self, kind: Kind, stat: &Stat) -> Metadata {
        let device = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
        Metadata {
            kind,
            size: if kind == Kind::File {
                stat.st_size as u64
            } else {
                0
            },
            mode: stat.st_mode as u32 & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            user: self.user(stat.st_uid),
            group: self.group(stat.st_gid),
            mtime: mtime(stat),
            ctime: ctime(stat),
            inode: stat.st_ino as u64,
            links: stat.st_nlink as u32,
            rdev_major: if device {
                rustix::fs::major(stat.st_rdev as u64)
            } else {
                0
            },
            rdev_minor: if device {
                rustix::fs::minor(stat.st_rdev as u64)
            } else {
                0
            },
            link_target: Vec::new(),
            xattrs: Vec::new(),
        }
    }

    fn user(&mut self, uid: u32) -> Vec<u8> {
        cached(&mut self.users, uid, || {
            nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid))
                .ok()
                .flatten()
                .map(|user| user.name)
        })
    }

    fn group(&mut self, gid: u32) -> Vec<u8> {
        cached(&mut self.groups, gid, || {
            nix::unistd::Group::from_gid(nix::unistd::Gid::from_raw(gid))
                .ok()
                .flatten()
                .map(|group| group.name)
        })
    }

    /// Every extended attribute of the inode, in the byte order of their names. None where the file system has
    /// none.
    pub(crate) fn xattrs(&mut self, of: Handle<'_>) -> Result<Vec<Xattr>, Errno> {
        // Most entries have none, and the kernel allocates what is asked for: ask for little first.
        self.list.resize(1024, 0);
        let length = match of.list(&mut self.list) {
            Err(Errno::RANGE) => {
                self.list.resize(MAX_LIST, 0);
                of.list(&mut self.list)
            }
            other => other,
        };
        let length = match length {
            Ok(length) => length,
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => 0,
            Err(error) => return Err(error),
        };
        let mut found = Vec::new();
        if length == 0 {
            return Ok(found);
        }
        self.value.resize(MAX_VALUE, 0);
        for name in self.list[..length]
            .split(|byte| *byte == 0)
            .filter(|name| !name.is_empty())
        {
            match of.get(name, &mut self.value) {
                Ok(size) => found.push(Xattr {
                    name: name.to_vec(),
                    value: self.value[..size].to_vec(),
                }),
                // Removed since it was listed.
                Err(Errno::NODATA) => {}
                Err(error) => return Err(error),
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }
}

fn cached(
    cache: &mut HashMap<u32, Vec<u8>>,
    id: u32,
    look_up: impl FnOnce() -> Option<String>,
) -> Vec<u8> {
    if let Some(name) = cache.get(&id) {
        return name.clone();
    }
    if cache.len() >= MAX_OWNERS {
        cache.clear();
    }
    let name = look_up().unwrap_or_default().into_bytes();
    cache.insert(id, name.clone());
    name
}

/// An inode that is held open, by a descriptor that can read or by one opened with `O_PATH`.
///
/// Attribute calls refuse `O_PATH` descriptors, but go through their link in `/proc`, which leads to the very
/// inode, also when that is a symbolic link.
#[derive(Clone, Copy)]
pub(crate) enum Handle<'a> {
    /// Opened for reading or writing.
    Open(BorrowedFd<'a>),
    /// Opened with `O_PATH`.
    Located(BorrowedFd<'a>),
}

impl Handle<'_> {
    /// The link in `/proc` that leads to the inode.
    pub(crate) fn proc_path(fd: BorrowedFd<'_>) -> String {
        format!("/proc/self/fd/{}", fd.as_raw_fd())
    }

    fn list(self, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Open(fd) => rustix::fs::flistxattr(fd, &mut *buffer),
            Self::Located(fd) => rustix::fs::listxattr(Self::proc_path(fd), &mut *buffer),
        }
    }

    fn get(self, name: &[u8], buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Open(fd) => rustix::fs::fgetxattr(fd, name, &mut *buffer),
            Self::Located(fd) => rustix::fs::getxattr(Self::proc_path(fd), name, &mut *buffer),
        }
    }
}
