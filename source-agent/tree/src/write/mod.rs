//! Writing entries below one directory, and nowhere else, whatever an archive or another process tries.
//!
//! Owns the rule: beneath a descriptor, component by component, no link followed; under a temporary name, then
//! renamed; owner, mode and capabilities last; a file's time of modification when its bytes are on the disk. What the
//! target cannot hold is a [`Warning`]; what cannot be written at all is an [`Error`]. It decides nothing about what is restored or where.

mod apply;
pub(crate) mod beneath;
mod collision;
mod deferred;
mod file;
mod unsettled;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, Stat, fchmod, fstat, linkat, makedev, mkdirat,
    mknodat, openat, renameat, renameat_with, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;
use taf_format::entry::{Extent, Kind, Metadata};

use self::beneath::Beneath;
pub use self::collision::{Collision, Facts, Lookout};
pub use self::deferred::Deferred;
use self::deferred::Identity;
pub use self::file::FileWriter;
use self::unsettled::Unsettled;
use crate::issue::words;
use crate::metadata::{self, Handle};
use crate::path;

/// What could not be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WarningKind {
    /// Owner or group.
    OwnerNotPermitted,
    /// Some bit of the mode.
    ModeNotPermitted,
    /// An attribute that this file system doesn't take.
    XattrUnsupported,
    /// An attribute that this user may not set.
    XattrNotPermitted,
    /// A device node, which is left out.
    DeviceNotPermitted,
    /// A time that the file system cannot hold, or not so finely.
    TimeRange,
    /// A time that a file did not get when it was on the disk: it could not be had any more, or is another's by now.
    TimeNotSet,
}

/// Something of an entry that the target could not hold. The entry itself is there, unless it is a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Raw path below the target.
    pub path: Vec<u8>,
    /// Kind.
    pub kind: WarningKind,
    /// For people: lowercase, no full stop, without the path.
    pub reason: String,
}

/// Why an entry was not written. Nothing was changed under its name.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The path could lead elsewhere.
    #[error("the path {path:?} is refused: it {reason}")]
    Path {
        /// As shown to people.
        path: String,
        /// What is wrong with it.
        reason: path::Error,
    },
    /// Something is there, and it was said to stay.
    #[error("{path} exists and was left as it is")]
    Exists {
        /// As shown to people.
        path: String,
    },
    /// Something is there, and the entry is not to take its place, as [`Collision`] says.
    #[error("{path} exists and was kept")]
    Kept {
        /// As shown to people.
        path: String,
    },
    /// A directory is where none should be, or the other way round; a link where a directory should be counts too.
    #[error(
        "{path} is in the way: a directory and something else have the same name; move it away"
    )]
    Conflict {
        /// As shown to people.
        path: String,
    },
    /// Another process put something else in the place of what was just made.
    #[error("{path} was replaced by another process while it was restored")]
    Replaced {
        /// As shown to people.
        path: String,
    },
    /// More bytes came than the entry has.
    #[error("more bytes came for {path} than its header says")]
    Overrun {
        /// As shown to people.
        path: String,
    },
    /// Fewer bytes came than the entry has.
    #[error("{missing} bytes of {path} did not come")]
    Incomplete {
        /// As shown to people.
        path: String,
        /// How many.
        missing: u64,
    },
    /// Runs of data that overlap, are out of order or lie beyond the size.
    #[error("the sparse map or size of {path} is impossible")]
    Extents {
        /// As shown to people.
        path: String,
    },
    /// The system refused.
    #[error("could not {action} {path}: {}", words(*source))]
    Io {
        /// A verb.
        action: &'static str,
        /// As shown to people.
        path: String,
        /// Why.
        source: Errno,
    },
    /// The file system can't write out what was restored, of this entry or of others.
    #[error("the file system could not write out what was restored: {}", words(*source))]
    WriteOut {
        /// Why.
        source: Errno,
    },
    /// The temporary file for directories' metadata.
    #[error(
        "the temporary file for directories' metadata failed; see that the temporary folder has room"
    )]
    Spool(#[source] io::Error),
}

impl Error {
    fn at(action: &'static str, path: &[u8], source: Errno) -> Self {
        let path = if path.is_empty() {
            ".".to_owned()
        } else {
            path::display(path)
        };
        match source {
            Errno::NOTDIR | Errno::LOOP | Errno::ISDIR => Self::Conflict { path },
            source => Self::Io {
                action,
                path,
                source,
            },
        }
    }
}

/// A directory to restore into.
#[derive(Debug)]
pub struct Target {
    beneath: Beneath,
    deferred: Deferred,
    unsettled: Unsettled,
    collision: Collision,
    prefix: String,
    counter: u64,
}

impl Target {
    /// Restores below the existing directory `directory`, which is trusted: links in its own path are followed.
    pub fn open(directory: &Path, collision: Collision) -> Result<Self, Error> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(directory, flags, Mode::empty())
            .map_err(|error| Error::at("open", directory.as_os_str().as_encoded_bytes(), error))?;
        Ok(Self::new(fd, collision))
    }

    /// Restores below an open directory.
    pub fn new(directory: OwnedFd, collision: Collision) -> Self {
        let now = std::time::SystemTime::UNIX_EPOCH
            .elapsed()
            .map_or(0, |since| since.as_nanos() as u64);
        let prefix = format!(".taf-restore-{}-{now:x}-", std::process::id());
        let beneath = Beneath::new(directory);
        let unsettled = Unsettled::new(beneath.root());
        if let Ok((device, _)) = identity(beneath.root().as_fd()) {
            unsettled.on(device, beneath.root());
        }
        Self {
            beneath,
            deferred: Deferred::default(),
            unsettled,
            collision,
            prefix,
            counter: 0,
        }
    }

    fn temporary(&mut self) -> Vec<u8> {
        self.counter += 1;
        format!("{}{:x}", self.prefix, self.counter).into_bytes()
    }

    /// Makes a directory, or takes the one that is there; the empty path is the target itself. Its metadata waits for
    /// [`Target::finish_directories`]; until then only its owner can use it. Call it before what is in it: missing
    /// directories are made on the way, but with nobody's metadata.
    pub fn directory(&mut self, path: &[u8], meta: &Metadata) -> Result<Vec<Warning>, Error> {
        beneath::check(path)?;
        let fd = if let Some((parent, name)) = path::split(path) {
            let parent = self.beneath.directory(parent)?;
            match mkdirat(parent.as_fd(), name, Mode::from_raw_mode(0o700)) {
                Ok(()) => {}
                Err(Errno::EXIST) => make_usable(parent.as_fd(), name),
                Err(error) => return Err(Error::at("make the directory", path, error)),
            }
            let fd = openat(parent.as_fd(), name, beneath::DIRECTORY, Mode::empty())
                .map_err(|error| Error::at("open the directory", path, error))?;
            let fd = Arc::new(fd);
            self.beneath.remember(path, &fd);
            fd
        } else {
            self.beneath.directory(path)?
        };
        let identity = identity(fd.as_fd()).map_err(|error| Error::at("examine", path, error))?;
        self.unsettled.on(identity.0, &fd);
        self.deferred
            .push(path, identity, meta)
            .map_err(Error::Spool)?;
        Ok(Vec::new())
    }

    /// Makes a directory only where none is; one that is there keeps its metadata. For what lies above the entries that
    /// were asked for.
    pub fn missing_directory(&mut self, path: &[u8], meta: &Metadata) -> Result<(), Error> {
        beneath::check(path)?;
        let Some((parent, name)) = path::split(path) else {
            return Ok(());
        };
        let directory = self.beneath.directory(parent)?;
        match statat(directory.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => self.directory(path, meta).map(drop),
            Err(error) => Err(Error::at("examine", path, error)),
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => Ok(()),
            Ok(_) => Err(Error::Conflict {
                path: path::display(path),
            }),
        }
    }

    /// Begins a file. `extents` are the runs of data of a sparse file, in order; `None` for a dense one. The size is
    /// `meta.size`.
    pub fn file(
        &mut self,
        path: &[u8],
        meta: &Metadata,
        extents: Option<&[Extent]>,
    ) -> Result<FileWriter, Error> {
        self.check()?;
        let place = self.vacant(path, meta.into())?;
        let temporary = self.temporary();
        let manner = (place.replace, self.collision.meanwhile(meta.mtime));
        FileWriter::new(place.directory, temporary, path, meta, extents, manner)
    }

    /// Makes a symbolic link to `meta.link_target`, which may be anything.
    pub fn symlink(&mut self, path: &[u8], meta: &Metadata) -> Result<Vec<Warning>, Error> {
        self.node(path, meta, |directory, temporary| {
            symlinkat(&meta.link_target[..], directory, temporary)
        })
    }

    /// Makes a named pipe.
    pub fn fifo(&mut self, path: &[u8], meta: &Metadata) -> Result<Vec<Warning>, Error> {
        self.node(path, meta, |directory, temporary| {
            mknodat(
                directory,
                temporary,
                FileType::Fifo,
                Mode::from_raw_mode(0o600),
                0,
            )
        })
    }

    /// Makes a device node of `meta.kind`. Who may not gets a warning, and no node.
    pub fn device(&mut self, path: &[u8], meta: &Metadata) -> Result<Vec<Warning>, Error> {
        let file_type = if meta.kind == Kind::BlockDevice {
            FileType::BlockDevice
        } else {
            FileType::CharacterDevice
        };
        let number = makedev(meta.rdev_major, meta.rdev_minor);
        let made = self.node(path, meta, |directory, temporary| {
            mknodat(
                directory,
                temporary,
                file_type,
                Mode::from_raw_mode(0o600),
                number,
            )
        });
        match made {
            Err(Error::Io {
                action: "create",
                source: source @ (Errno::PERM | Errno::INVAL | Errno::OPNOTSUPP),
                ..
            }) => {
                let reason = format!("the device node is left out: {}", words(source));
                Ok(vec![Warning {
                    path: path.to_vec(),
                    kind: WarningKind::DeviceNotPermitted,
                    reason,
                }])
            }
            other => other,
        }
    }

    /// Makes `path` another name of `existing`, which was restored below this target before.
    pub fn hard_link(&mut self, path: &[u8], existing: &[u8]) -> Result<(), Error> {
        beneath::check(path)?;
        let (from, old) = self.beneath.parent(existing)?;
        let stat = statat(from.as_fd(), old, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| Error::at("examine", existing, error))?;
        let mut facts = Facts::of(&stat).ok_or_else(|| Error::Replaced {
            path: path::display(existing),
        })?;
        // It may not have its time yet.
        let keeps_inodes = self.unsettled.keeps_inodes(identity_of(&stat).0);
        if let Some(written) = self.unsettled.latest(existing)
            && written.is(&stat, keeps_inodes)
        {
            facts.mtime = written.mtime;
        }
        let Place {
            directory,
            name,
            replace,
        } = self.vacant(path, facts)?;
        let temporary = self.temporary();
        linkat(
            from.as_fd(),
            old,
            directory.as_fd(),
            &temporary[..],
            AtFlags::empty(),
        )
        .map_err(|error| Error::at("link", path, error))?;
        let placed = place(directory.as_fd(), &temporary, name, path, replace);
        // Also when it was placed: renaming onto another name of the same inode leaves both.
        let _ = unlinkat(directory.as_fd(), &temporary[..], AtFlags::empty());
        if placed.is_ok() && path != existing {
            self.unsettled.supersede(path);
        }
        placed
    }

    /// Gives the files that wait for it their time when they are on the disk. Where several targets share directories this comes
    /// for all of them before the directories of any: those may let nobody in any more.
    pub fn finish_files(&mut self) -> Vec<Warning> {
        self.unsettled.all()
    }

    /// As [`Target::finish_files`], and then gives all directories their metadata, children before
    /// parents. Each warning goes to `warn`; so does, as an error, each directory that could not be finished.
    pub fn finish_directories(
        &mut self,
        mut warn: impl FnMut(Result<Warning, Error>),
    ) -> Result<(), Error> {
        for warning in self.finish_files() {
            warn(Ok(warning));
        }
        // A directory that was moved meanwhile must not get the metadata of the one now there from the cache.
        self.beneath.forget();
        while let Some((path, made, meta)) = self.deferred.pop().map_err(Error::Spool)? {
            let applied = self
                .existing(&path, made)
                .and_then(|fd| apply::apply(Handle::Open(fd.as_fd()), &path, &meta));
            match applied {
                Ok(warnings) => warnings.into_iter().for_each(|warning| warn(Ok(warning))),
                Err(error) => warn(Err(error)),
            }
        }
        Ok(())
    }

    /// Closes the directories that it keeps open; they are opened again when they are needed.
    pub fn close_directories(&mut self) {
        self.beneath.forget();
    }

    /// Waits until the file systems have written everything out. Some report only now that the disk was full.
    pub fn sync(&self) -> Result<(), Error> {
        let written = self.unsettled.sync();
        written.map_err(|source| Error::WriteOut { source })
    }

    /// Whether what was written so far can be written out.
    fn check(&self) -> Result<(), Error> {
        let written = self.unsettled.check();
        written.map_err(|source| Error::WriteOut { source })
    }

    /// The directory at `path`, if it still is the one that was made or found there.
    fn existing(&mut self, path: &[u8], made: Identity) -> Result<Arc<OwnedFd>, Error> {
        let Some((parent, name)) = path::split(path) else {
            return self.beneath.directory(path);
        };
        let parent = self.beneath.directory(parent)?;
        let fd = openat(parent.as_fd(), name, beneath::DIRECTORY, Mode::empty())
            .map_err(|error| Error::at("open the directory", path, error))?;
        if identity(fd.as_fd()) == Ok(made) {
            Ok(Arc::new(fd))
        } else {
            Err(Error::Replaced {
                path: path::display(path),
            })
        }
    }

    /// The place for a new entry, refused if something is there that stays.
    fn vacant<'p>(&mut self, path: &'p [u8], entry: Facts) -> Result<Place<'p>, Error> {
        let (directory, name) = self.beneath.parent(path)?;
        let shown = || path::display(path);
        let replace = match statat(directory.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW) {
            // Whatever comes there meanwhile was not judged.
            Err(Errno::NOENT) => self.collision == Collision::Always,
            Err(error) => return Err(Error::at("examine", path, error)),
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                return Err(Error::Conflict { path: shown() });
            }
            Ok(_) if self.collision == Collision::Never => {
                return Err(Error::Exists { path: shown() });
            }
            Ok(stat) if !self.collision.replaces(&stat, entry) => {
                return Err(Error::Kept { path: shown() });
            }
            Ok(_) => true,
        };
        Ok(Place {
            directory,
            name,
            replace,
        })
    }

    /// Makes what is neither file nor directory with `make`, gives it its metadata and then its name.
    fn node(
        &mut self,
        path: &[u8],
        meta: &Metadata,
        make: impl FnOnce(BorrowedFd<'_>, &[u8]) -> Result<(), Errno>,
    ) -> Result<Vec<Warning>, Error> {
        let Place {
            directory,
            name,
            replace,
        } = self.vacant(path, meta.into())?;
        let temporary = self.temporary();
        make(directory.as_fd(), &temporary).map_err(|error| Error::at("create", path, error))?;
        let located = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let finished = openat(directory.as_fd(), &temporary[..], located, Mode::empty())
            .map_err(|error| Error::at("examine", path, error))
            .and_then(|fd| apply::apply(own(fd.as_fd(), path, meta.kind)?, path, meta))
            .and_then(|warnings| {
                place(directory.as_fd(), &temporary, name, path, replace).map(|()| warnings)
            });
        if finished.is_err() {
            let _ = unlinkat(directory.as_fd(), &temporary[..], AtFlags::empty());
        }
        finished
    }
}

/// Where a new entry goes.
struct Place<'p> {
    directory: Arc<OwnedFd>,
    name: &'p [u8],
    /// Whether what is there gives way.
    replace: bool,
}

/// Device and inode.
fn identity(fd: BorrowedFd<'_>) -> Result<Identity, Errno> {
    fstat(fd).map(|stat| identity_of(&stat))
}

/// The same.
#[allow(clippy::unnecessary_cast)] // the fields' widths differ between architectures
fn identity_of(stat: &Stat) -> Identity {
    (stat.st_dev as u64, stat.st_ino as u64)
}

/// A handle on the node just made. Who can write to its directory could have put another name of someone's file in
/// its place, for us to change owner and mode of.
fn own<'a>(fd: BorrowedFd<'a>, path: &[u8], kind: Kind) -> Result<Handle<'a>, Error> {
    let stat = fstat(fd).map_err(|error| Error::at("examine", path, error))?;
    if metadata::kind(FileType::from_raw_mode(stat.st_mode)) != Some(kind) || stat.st_nlink != 1 {
        return Err(Error::Replaced {
            path: path::display(path),
        });
    }
    Ok(Handle::Located(fd))
}

/// Gives what is under a temporary name its own.
fn place(
    directory: BorrowedFd<'_>,
    temporary: &[u8],
    name: &[u8],
    path: &[u8],
    replace: bool,
) -> Result<(), Error> {
    let placed = if replace {
        renameat(directory, temporary, directory, name)
    } else {
        match renameat_with(
            directory,
            temporary,
            directory,
            name,
            RenameFlags::NOREPLACE,
        ) {
            // The file system doesn't know how; a link never replaces either.
            Err(Errno::INVAL | Errno::NOSYS) => {
                linkat(directory, temporary, directory, name, AtFlags::empty())
                    .and_then(|()| unlinkat(directory, temporary, AtFlags::empty()))
            }
            other => other,
        }
    };
    placed.map_err(|error| match error {
        Errno::EXIST if !replace => Error::Exists {
            path: path::display(path),
        },
        Errno::EXIST | Errno::NOTEMPTY => Error::Conflict {
            path: path::display(path),
        },
        error => Error::at("name", path, error),
    })
}

/// Lets the owner list, enter and change a directory that is there; its mode is set anew at the end. If we are not
/// its owner nothing happens, and what then fails says so itself.
fn make_usable(parent: BorrowedFd<'_>, name: &[u8]) {
    let Ok(stat) = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) else {
        return;
    };
    let wanted = Mode::from_raw_mode(stat.st_mode & 0o7777 | 0o700);
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory || stat.st_mode & 0o700 == 0o700
    {
        return;
    }
    if let Ok(fd) = openat(parent, name, beneath::DIRECTORY, Mode::empty()) {
        let _ = fchmod(&fd, wanted);
    } else {
        // Not even for listing: by way of a descriptor that only locates it, so that no link is followed.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if let Ok(fd) = openat(parent, name, flags, Mode::empty())
            && fstat(&fd).is_ok()
        {
            let _ = rustix::fs::chmod(Handle::proc_path(fd.as_fd()), wanted);
        }
    }
}
