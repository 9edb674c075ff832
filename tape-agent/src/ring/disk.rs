//! The part of a ring that lies on a local disk: one file of a fixed size, which is written round and round.
//!
//! Segments come and go in order, so what is used is one stretch, or two when it goes over the file's end. The file's blocks are
//! reserved when it is made: a disk that is full is found out before anything depends on it. It is removed when the transfer ends,
//! and what a killed process left at the worker's next start. Nothing is read from it but what this process wrote into it; it
//! is no journal, and is not synced. What comes back is proved by its owner: disks flip bits and lose writes, too.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, PosixFadviseAdvice, fallocate, posix_fadvise};
use nix::sys::statvfs::statvfs;

/// How much is fetched ahead of what is read.
const AHEAD: i64 = 32 << 20;
/// How files of spools end.
const ENDING: &str = "spool";

/// Where a drive's spool files are made, and how large.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    folder: PathBuf,
    size: u64,
}

/// A stretch of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    at: u64,
    length: u64,
}

impl Stretch {
    /// So many bytes from there.
    pub fn new(at: u64, length: u64) -> Stretch {
        Stretch { at, length }
    }
}

/// The file. Cheap to clone; it is removed with the last one.
#[derive(Debug, Clone)]
pub struct Disk(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    file: fs::File,
    path: PathBuf,
    size: u64,
}

impl Place {
    /// Files of this size in this folder, which is the drive's own. It is made if there is none, and emptied of what an earlier
    /// process left.
    pub fn prepare(folder: PathBuf, size: u64) -> io::Result<Place> {
        fs::create_dir_all(&folder)?;
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == ENDING) {
                fs::remove_file(path)?;
            }
        }
        Ok(Place { folder, size })
    }

    /// Makes a file for one transfer. Takes as long as reserving its blocks takes, which on most file systems is no time.
    pub fn create(&self, name: &str) -> io::Result<Disk> {
        self.create_of(name, self.size)
    }

    /// Bytes that a file may have at most: as many as was said, or half of what is free on the disk now if nothing was.
    pub fn limit(&self) -> io::Result<u64> {
        if self.size > 0 {
            return Ok(self.size);
        }
        let found = statvfs(&self.folder)?;
        Ok(found.blocks_available() as u64 * found.fragment_size() as u64 / 2)
    }

    /// Makes a file of so many bytes.
    pub fn create_of(&self, name: &str, size: u64) -> io::Result<Disk> {
        let path = self.folder.join(format!("{name}.{ENDING}"));
        let mut options = fs::File::options();
        let file = options
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)?;
        // Removed whatever comes.
        let disk = Disk(Arc::new(Inner { file, path, size }));
        disk.reserve()?;
        Ok(disk)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Bytes of a file.
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl Disk {
    /// One that can be read only.
    #[cfg(test)]
    pub fn unwritable(path: &Path, size: u64) -> Disk {
        let file = fs::File::open(path).expect("a test's file");
        Disk(Arc::new(Inner {
            file,
            path: path.to_owned(),
            size,
        }))
    }

    fn reserve(&self) -> io::Result<()> {
        let length = i64::try_from(self.0.size).map_err(|_| ErrorKind::FileTooLarge)?;
        loop {
            return match fallocate(&self.0.file, FallocateFlags::empty(), 0, length) {
                Ok(()) => Ok(()),
                Err(Errno::EINTR) => continue,
                // It can't promise: then a disk that fills up is found out by a write.
                Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => self.0.file.set_len(self.0.size),
                Err(error) => Err(error.into()),
            };
        }
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.0.size
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Writes. Blocks.
    pub fn write(&self, stretch: Stretch, bytes: &[u8]) -> io::Result<()> {
        self.0.file.write_all_at(bytes, stretch.at)
    }

    /// Reads, and has the disk fetch what lies behind. Blocks.
    pub fn read(&self, stretch: Stretch) -> io::Result<Vec<u8>> {
        let behind = stretch.at + stretch.length;
        if let Ok(behind) = i64::try_from(behind) {
            let advice = PosixFadviseAdvice::POSIX_FADV_WILLNEED;
            // A hint; a file system may not take it.
            let _ = posix_fadvise(&self.0.file, behind, AHEAD, advice);
        }
        let length = usize::try_from(stretch.length).map_err(|_| ErrorKind::FileTooLarge)?;
        let mut bytes = vec![0; length];
        self.0.file.read_exact_at(&mut bytes, stretch.at)?;
        Ok(bytes)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // No data are in danger, and what stays goes at the next start.
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(file = %self.path.display(), %error, "a spool file can't be removed");
        }
    }
}

/// What of a file is used.
#[derive(Debug, Default)]
pub struct Used {
    size: u64,
    /// In order.
    stretches: VecDeque<Stretch>,
    bytes: u64,
}

impl Used {
    /// Nothing of so many bytes.
    pub fn new(size: u64) -> Used {
        Used {
            size,
            ..Used::default()
        }
    }

    /// Bytes that are used.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Takes the next stretch, if there is room for it in one piece.
    pub fn take(&mut self, length: u64) -> Option<Stretch> {
        let end = |stretch: &Stretch| stretch.at + stretch.length;
        let at = match (self.stretches.front(), self.stretches.back().map(end)) {
            (Some(first), Some(next)) if next > first.at => {
                if self.size - next >= length {
                    next
                } else if first.at >= length {
                    0
                } else {
                    return None;
                }
            }
            // It went over the end already.
            (Some(first), Some(next)) if first.at - next >= length => next,
            (None, _) if self.size >= length => 0,
            _ => return None,
        };
        let stretch = Stretch { at, length };
        self.stretches.push_back(stretch);
        self.bytes += length;
        Some(stretch)
    }

    /// Gives the oldest stretch back.
    pub fn give_back_oldest(&mut self) {
        let oldest = self.stretches.pop_front();
        self.bytes -= oldest.map_or(0, |stretch| stretch.length);
    }

    /// Gives the newest one back.
    pub fn give_back_newest(&mut self) {
        let newest = self.stretches.pop_back();
        self.bytes -= newest.map_or(0, |stretch| stretch.length);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn without_a_size_a_file_may_have_half_of_what_is_free() {
        let (_folder, sized) = place(1 << 20);
        assert_eq!(sized.limit().unwrap(), 1 << 20);
        let (_folder, free) = place(0);
        let limit = free.limit().unwrap();
        assert!(limit > 0);
        let disk = free.create_of("8", 4096).unwrap();
        assert_eq!(fs::metadata(disk.path()).unwrap().len(), 4096);
    }

    fn place(size: u64) -> (tempfile::TempDir, Place) {
        let folder = tempfile::tempdir().unwrap();
        let place = Place::prepare(folder.path().join("drive"), size).unwrap();
        (folder, place)
    }

    #[test]
    fn it_goes_round_and_never_over_what_is_kept() {
        let mut used = Used::new(100);
        let at = |stretch: Option<Stretch>| stretch.map(|stretch| stretch.at);
        assert_eq!(at(used.take(101)), None);
        assert_eq!([at(used.take(40)), at(used.take(40))], [Some(0), Some(40)]);
        assert_eq!(at(used.take(40)), None);
        used.give_back_oldest();
        assert_eq!(at(used.take(41)), None);
        assert_eq!(at(used.take(40)), Some(0), "in one piece");
        assert_eq!(at(used.take(1)), None);
        used.give_back_newest();
        assert_eq!(at(used.take(20)), Some(80));
        assert_eq!(at(used.take(40)), Some(0));
        used.give_back_oldest();
        assert_eq!((at(used.take(30)), used.bytes()), (Some(40), 90));
        for _ in 0..3 {
            used.give_back_oldest();
        }
        assert_eq!((at(used.take(100)), used.bytes()), (Some(0), 100));
    }

    #[test]
    fn what_is_written_comes_back_and_the_file_goes_with_its_user() {
        let (_folder, place) = place(1 << 20);
        let disk = place.create("7").unwrap();
        let path = disk.path().to_owned();
        assert_eq!(fs::metadata(&path).unwrap().len(), 1 << 20);
        let stretch = Stretch {
            at: 1000,
            length: 5,
        };
        disk.write(stretch, b"hello").unwrap();
        assert_eq!(disk.read(stretch).unwrap(), b"hello");
        let again = disk.clone();
        drop(disk);
        assert!(path.exists());
        drop(again);
        assert!(!path.exists());
    }

    #[test]
    fn what_was_left_goes_and_what_there_is_no_room_for_leaves_nothing() {
        let (folder, place) = place(1 << 62);
        assert!(place.create("8").is_err());
        assert_eq!(fs::read_dir(place.folder()).unwrap().count(), 0);
        let drive = place.folder().to_owned();
        fs::write(drive.join("9.spool"), "left").unwrap();
        fs::write(drive.join("readme"), "somebody's").unwrap();
        Place::prepare(drive.clone(), 1).unwrap();
        assert!(!drive.join("9.spool").exists() && drive.join("readme").exists());
        drop(folder);
    }
}
