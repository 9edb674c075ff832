//! Removing entries below one directory that are proved to be elsewhere, each only if it still is what was recorded of it; and whole
//! trees that somebody wants gone.
//!
//! Owns the order of the steps. Where an entry stands is reached component by component, no link followed. It is compared, renamed
//! aside, compared once more under the name that nobody else uses, and only then unlinked; if it differs it gets its name back. The
//! name aside follows from the entry's own: who is cut off between two steps finds at the next try what he had renamed, and
//! finishes it. Whether something may be removed at all is not decided here.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RawDir, RenameFlags, ResolveFlags, Stat, Timespec, Timestamps,
    UTIME_OMIT, fstat, futimens, linkat, major, minor, openat, openat2, readlinkat, renameat,
    renameat_with, statat, unlinkat,
};
use rustix::io::Errno;
use taf_format::entry::{Kind, Metadata};

use crate::content::OpenFile;
use crate::issue::words;
use crate::metadata;
use crate::path;
use crate::write::beneath::{self, Beneath};

/// What names aside begin with.
pub const ASIDE: &str = ".taf-removing-";
/// Directories below each other that are kept open at a time.
const DEEPEST: usize = 400;

/// What was recorded of an entry that is no directory.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Its metadata; names of owners, number of names and extended attributes say nothing here.
    pub meta: Metadata,
    /// The first bytes of the BLAKE3 of a file's content.
    pub hash: Option<[u8; 16]>,
    /// Whether its times prove nothing, so that its content must be compared.
    pub doubtful: bool,
    /// Whether it has further names: removing one of them changes the status change time of all.
    pub has_names: bool,
}

/// What came of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is removed.
    Removed,
    /// It was not there any more.
    Gone,
}

/// Why an entry stays.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The path could lead elsewhere.
    #[error("the path is refused: it {0}")]
    Path(path::Error),
    /// It is not what was recorded.
    #[error("it stays: {0} differs from what the version has")]
    Differs(&'static str),
    /// It differs, and something has its name meanwhile.
    #[error(
        "it differs from what the version has ({what}), and its name is taken meanwhile: it is kept as {aside}"
    )]
    Aside {
        /// What differs.
        what: &'static str,
        /// The name that it has now.
        aside: String,
    },
    /// A directory that another file system is mounted on.
    #[error("it stays: it is on another file system")]
    OtherFileSystem,
    /// More directories below each other than anybody has.
    #[error("it stays: it lies more than {DEEPEST} directories deep")]
    TooDeep,
    /// The system refused.
    #[error("could not {action}: {}", words(*source))]
    Io {
        /// A verb.
        action: &'static str,
        /// Why.
        source: Errno,
    },
}

impl Error {
    fn io(action: &'static str) -> impl FnOnce(Errno) -> Self {
        move |source| Self::Io { action, source }
    }
}

/// How much something comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sum {
    /// Entries that are no directories.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Apparent bytes of files.
    pub bytes: u64,
}

/// How a whole tree is removed.
pub struct Sweep<'a> {
    /// Whether it is, or only counted.
    pub really: bool,
    /// Told of what stays, by its path.
    pub stays: &'a mut dyn FnMut(&[u8], Error),
    /// Ends it early.
    pub stopped: &'a dyn Fn() -> bool,
}

/// How much is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    /// All that `stat` says but the status change time, which renaming changes.
    Stat,
    /// And the content.
    Content,
}

/// A directory and a name in it.
type Place<'p> = (Arc<OwnedFd>, &'p [u8]);

/// Removes entries below a directory.
#[derive(Debug)]
pub struct Remover {
    beneath: Beneath,
}

impl Remover {
    /// Removes below an open directory.
    pub fn new(directory: OwnedFd) -> Self {
        Self {
            beneath: Beneath::new(directory),
        }
    }

    /// Removes the entry at `path`, which is no directory, if it is as recorded. Comparing content ends early, and in a refusal,
    /// once `stopped` says so.
    ///
    /// # Errors
    /// Why it stays, under its own name unless the error says otherwise.
    pub fn entry(
        &mut self,
        path: &[u8],
        recorded: &Recorded,
        stopped: &dyn Fn() -> bool,
    ) -> Result<Outcome, Error> {
        let Some((directory, name)) = self.place(path)? else {
            return Ok(Outcome::Gone);
        };
        let directory = directory.as_fd();
        let aside = aside(name);
        if there(directory, &aside)?.is_some() {
            // An earlier try was cut off. What has the name now was made since.
            settle(directory, name, &aside, recorded, Proof::Content, stopped)?;
            return match there(directory, name)? {
                None => Ok(Outcome::Removed),
                Some(_) => Err(Error::Differs("that it was made anew")),
            };
        }
        let Some(stat) = there(directory, name)? else {
            return Ok(Outcome::Gone);
        };
        is_as_recorded(&stat, &recorded.meta).map_err(Error::Differs)?;
        let mut proof = if recorded.doubtful {
            Proof::Content
        } else {
            Proof::Stat
        };
        if metadata::ctime(&stat) != recorded.meta.ctime {
            if !recorded.has_names {
                return Err(Error::Differs("its status change time"));
            }
            proof = Proof::Content;
        }
        match move_to(directory, name, &aside) {
            Ok(()) => {}
            Err(Errno::NOENT) => return Ok(Outcome::Gone),
            Err(error) => return Err(Error::io("rename it aside")(error)),
        }
        settle(directory, name, &aside, recorded, proof, stopped)?;
        Ok(Outcome::Removed)
    }

    /// Removes the directory at `path` if nothing is in it; false if it stays.
    ///
    /// # Errors
    /// A path that is refused, or one on the way that can't be opened.
    pub fn empty_directory(&mut self, path: &[u8]) -> Result<bool, Error> {
        let Some((parent, name)) = self.place(path)? else {
            return Ok(false);
        };
        self.beneath.forget_at(path);
        match unlinkat(parent.as_fd(), name, AtFlags::REMOVEDIR) {
            Ok(()) => Ok(true),
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT | Errno::BUSY | Errno::NOTDIR) => {
                Ok(false)
            }
            Err(error) => Err(Error::io("remove the directory")(error)),
        }
    }

    /// The names in the directory at `path`, in the order of their bytes; none if it is not there.
    ///
    /// # Errors
    /// A path that is refused, or a directory that can't be listed: then nothing is known of it.
    pub fn names(&mut self, path: &[u8]) -> Result<Option<Vec<Vec<u8>>>, Error> {
        path::check(path).map_err(Error::Path)?;
        match self.beneath.existing(path) {
            Ok(directory) => {
                // The end of the listing belongs to the descriptor, and that one may be in use again.
                let own = openat(&directory, ".", beneath::DIRECTORY, Mode::empty());
                let own = own.map_err(Error::io("open the directory"))?;
                names(&own).map(Some)
            }
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(Error::io("open the directory")(error)),
        }
    }

    /// Removes the entry at `path` whatever it is, directories with all below them, or only counts it. What is on another file
    /// system than the directory that it is in stays, and all that leads to it. The directory that it is in keeps its modification
    /// time.
    ///
    /// # Errors
    /// Why nothing of it could be done; what stays of a directory is told on the way.
    pub fn sweep(&mut self, path: &[u8], how: &mut Sweep<'_>) -> Result<Sum, Error> {
        let mut sum = Sum::default();
        let Some((directory, name)) = self.place(path)? else {
            return Ok(sum);
        };
        let before = fstat(&directory).map_err(Error::io("examine its directory"))?;
        self.beneath.forget();
        let swept = sweep(&directory, name, path, before.st_dev, 0, how, &mut sum);
        if how.really {
            // Who may not set it has no directory with times of its own.
            let _ = futimens(&directory, &times(&before));
        }
        swept.map(|()| sum)
    }

    /// The directory and the name of a path; none if the directory is not there.
    fn place<'p>(&mut self, path: &'p [u8]) -> Result<Option<Place<'p>>, Error> {
        path::check(path).map_err(Error::Path)?;
        let (directory, name) = path::split(path).ok_or(Error::Path(path::Error::Empty))?;
        match self.beneath.existing(directory) {
            Ok(directory) => Ok(Some((directory, name))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(Error::io("open its directory")(error)),
        }
    }
}

/// The names in a directory.
fn names(directory: &OwnedFd) -> Result<Vec<Vec<u8>>, Error> {
    let mut names = Vec::new();
    let mut buffer = Vec::with_capacity(32 << 10);
    let mut entries = RawDir::new(directory, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = match entry {
            Err(Errno::INTR) => continue,
            entry => entry.map_err(Error::io("list the directory"))?,
        };
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// A directory's times as they were.
#[allow(clippy::unnecessary_cast)] // the fields' widths differ between architectures
fn times(stat: &Stat) -> Timestamps {
    let mtime = metadata::mtime(stat);
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: mtime.seconds,
            tv_nsec: mtime.nanos.into(),
        },
    }
}

/// Removes an entry with all below it; what stays below it keeps it, too.
fn sweep(
    parent: &OwnedFd,
    name: &[u8],
    path: &[u8],
    device: u64,
    depth: usize,
    how: &mut Sweep<'_>,
    sum: &mut Sum,
) -> Result<(), Error> {
    let Some(stat) = there(parent.as_fd(), name)? else {
        return Ok(());
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        if how.really {
            unlinkat(parent, name, AtFlags::empty()).map_err(Error::io("unlink it"))?;
        }
        sum.files += 1;
        if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
            sum.bytes += stat.st_size as u64;
        }
        return Ok(());
    }
    if stat.st_dev != device {
        return Err(Error::OtherFileSystem);
    }
    if depth == DEEPEST {
        return Err(Error::TooDeep);
    }
    let directory = within(parent, name)?;
    let opened = fstat(&directory).map_err(Error::io("examine it"))?;
    if (opened.st_dev, opened.st_ino) != (stat.st_dev, stat.st_ino) {
        return Err(Error::OtherFileSystem);
    }
    let mut whole = true;
    for below in names(&directory)? {
        if (how.stopped)() {
            return Ok(());
        }
        let path = path::join(path, &below);
        if let Err(error) = sweep(&directory, &below, &path, device, depth + 1, how, sum) {
            (how.stays)(&path, error);
            whole = false;
        }
    }
    if !whole {
        return Ok(());
    }
    if how.really {
        match unlinkat(parent, name, AtFlags::REMOVEDIR) {
            // What stays in it was told, or came meanwhile.
            Err(Errno::NOTEMPTY | Errno::EXIST) => return Ok(()),
            other => other.map_err(Error::io("remove the directory"))?,
        }
    }
    sum.directories += 1;
    Ok(())
}

/// Opens a directory of the same mount: one that is mounted there from elsewhere on the same file system has the same device.
fn within(parent: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Error> {
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    match openat2(parent, name, beneath::DIRECTORY, Mode::empty(), resolve) {
        Err(Errno::XDEV) => Err(Error::OtherFileSystem),
        opened => opened.map_err(Error::io("open the directory")),
    }
}

/// The name under which an entry is compared before it goes.
pub fn aside(name: &[u8]) -> Vec<u8> {
    let digest = blake3::hash(name).to_hex();
    [ASIDE.as_bytes(), &digest.as_bytes()[..32]].concat()
}

fn there(directory: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Stat>, Error> {
    match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(Error::io("examine it")(error)),
    }
}

/// Unlinks what was renamed aside if it is as recorded, else gives it its name back.
fn settle(
    directory: BorrowedFd<'_>,
    name: &[u8],
    aside: &[u8],
    recorded: &Recorded,
    proof: Proof,
    stopped: &dyn Fn() -> bool,
) -> Result<(), Error> {
    let proved = prove(directory, aside, recorded, proof, stopped);
    let refused = match proved {
        Ok(()) => match unlinkat(directory, aside, AtFlags::empty()) {
            Ok(()) => return Ok(()),
            Err(error) => Error::io("unlink it")(error),
        },
        Err(error) => error,
    };
    match move_to(directory, aside, name) {
        Ok(()) => Err(refused),
        Err(Errno::EXIST) => Err(Error::Aside {
            what: match refused {
                Error::Differs(what) => what,
                _ => "it could not be unlinked",
            },
            aside: path::display(aside),
        }),
        Err(error) => Err(Error::io("give it its name back")(error)),
    }
}

/// Renames within a directory, never onto something.
fn move_to(directory: BorrowedFd<'_>, from: &[u8], to: &[u8]) -> Result<(), Errno> {
    match renameat_with(directory, from, directory, to, RenameFlags::NOREPLACE) {
        // The file system doesn't know how; a link never replaces either.
        Err(Errno::INVAL | Errno::NOSYS) => {
            // Nobody else makes names like these; and whatever has the name now is what is compared under the other one.
            if to.starts_with(ASIDE.as_bytes()) {
                return renameat(directory, from, directory, to);
            }
            match linkat(directory, from, directory, to, AtFlags::empty()) {
                Ok(()) => unlinkat(directory, from, AtFlags::empty()),
                // Nor has it links, or it is a directory that has the name aside.
                Err(Errno::PERM | Errno::OPNOTSUPP) if matches!(there(directory, to), Ok(None)) => {
                    renameat(directory, from, directory, to)
                }
                Err(error) => Err(error),
            }
        }
        other => other,
    }
}

fn prove(
    directory: BorrowedFd<'_>,
    aside: &[u8],
    recorded: &Recorded,
    proof: Proof,
    stopped: &dyn Fn() -> bool,
) -> Result<(), Error> {
    let located = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let at = openat(directory, aside, located, Mode::empty()).map_err(Error::io("open it"))?;
    let stat = fstat(&at).map_err(Error::io("examine it"))?;
    is_as_recorded(&stat, &recorded.meta).map_err(Error::Differs)?;
    if recorded.meta.kind == Kind::Symlink {
        let target = readlinkat(&at, "", Vec::new()).map_err(Error::io("read the link"))?;
        if target.as_bytes() != recorded.meta.link_target {
            return Err(Error::Differs("where the link leads"));
        }
    }
    if recorded.meta.kind != Kind::File || proof == Proof::Stat {
        return Ok(());
    }
    let Some(hash) = recorded.hash else {
        return Err(Error::Differs(
            "its content, as far as can be told without a hash,",
        ));
    };
    let reading = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = openat(directory, aside, reading, Mode::empty()).map_err(Error::io("read it"))?;
    let opened = fstat(&fd).map_err(Error::io("examine it"))?;
    if (opened.st_dev, opened.st_ino) != (stat.st_dev, stat.st_ino) {
        return Err(Error::Differs("its inode"));
    }
    let same = OpenFile::new(fd, &opened)
        .has_hash(&hash, stopped)
        .map_err(|_| Error::Differs("its content, which could not be read,"))?;
    if same {
        Ok(())
    } else {
        Err(Error::Differs("its content"))
    }
}

/// What differs between an entry and its record, the status change time not compared.
#[allow(clippy::unnecessary_cast)] // the fields' widths differ between architectures
fn is_as_recorded(stat: &Stat, meta: &Metadata) -> Result<(), &'static str> {
    let file_type = FileType::from_raw_mode(stat.st_mode);
    if metadata::kind(file_type) != Some(meta.kind) {
        return Err("its kind");
    }
    if meta.kind == Kind::File && stat.st_size as u64 != meta.size {
        return Err("its size");
    }
    if metadata::mtime(stat) != meta.mtime {
        return Err("its modification time");
    }
    if stat.st_ino as u64 != meta.inode {
        return Err("its inode");
    }
    if (
        stat.st_mode as u32 & 0o7777,
        stat.st_uid as u32,
        stat.st_gid as u32,
    ) != (meta.mode, meta.uid, meta.gid)
    {
        return Err("its owner or mode");
    }
    let device = matches!(meta.kind, Kind::CharDevice | Kind::BlockDevice);
    if device && (major(stat.st_rdev), minor(stat.st_rdev)) != (meta.rdev_major, meta.rdev_minor) {
        return Err("its device number");
    }
    Ok(())
}
