//! Reading a file's content as its header promised it.
//!
//! A tar header states a size before the bytes come. [`Reader`] yields exactly that many, whatever happens to the
//! file meanwhile, and says afterwards what happened. It never fails half way: a broken promise would cost the
//! whole archive, a zero-padded file costs one file and is named.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{SeekFrom, Stat, fstat, seek};
use rustix::io::{Errno, pread};
use taf_format::entry::{Extent, Time};

use crate::Digest;
use crate::issue::{IssueKind, words};
use crate::metadata;

/// Bytes read at a time.
const BUFFER: usize = 256 << 10;
/// More runs of data than this are read as one.
const MAX_RUNS: usize = 65_536;

/// A regular file, opened for reading, and how it was at that moment.
#[derive(Debug)]
pub struct OpenFile {
    fd: OwnedFd,
    size: u64,
    allocated: u64,
    mtime: Time,
    ctime: Time,
}

impl OpenFile {
    #[allow(clippy::unnecessary_cast)] // the field's width differs between architectures
    pub(crate) fn new(fd: OwnedFd, stat: &Stat) -> Self {
        Self {
            fd,
            size: stat.st_size as u64,
            allocated: metadata::allocated(stat),
            mtime: metadata::mtime(stat),
            ctime: metadata::ctime(stat),
        }
    }

    /// The same open file once more, with how it was when it was opened.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            fd: self.fd.try_clone()?,
            ..*self
        })
    }

    /// Apparent size in bytes when it was opened.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes that the file system held for it when it was opened.
    pub fn allocated(&self) -> u64 {
        self.allocated
    }

    /// The runs of data of a sparse file, in order. `None` for a dense file, and for one with more than `max` runs.
    /// A file that is one hole has no runs.
    pub fn extents(&self, max: usize) -> io::Result<Option<Vec<Extent>>> {
        if self.allocated >= self.size {
            return Ok(None);
        }
        let mut extents = Vec::new();
        let mut position = 0;
        while position < self.size {
            let start = match seek(&self.fd, SeekFrom::Data(position)) {
                Ok(start) => start.min(self.size),
                Err(Errno::NXIO) => break,
                // The file system doesn't know holes.
                Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            if start >= self.size {
                break;
            }
            let end = match seek(&self.fd, SeekFrom::Hole(start)) {
                Ok(end) => end.min(self.size),
                // It shrank below `start`; the reader will say so.
                Err(Errno::NXIO) => break,
                Err(error) => return Err(error.into()),
            };
            if extents.len() == max {
                return Ok(None);
            }
            extents.push(Extent {
                offset: start,
                length: end - start,
            });
            position = end;
        }
        // Small or compressed files hold less than their size and yet have no hole.
        let dense = matches!(extents[..], [Extent { offset: 0, length }] if length == self.size);
        Ok(if dense { None } else { Some(extents) })
    }

    /// Reads at `offset`; 0 at the file's end.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match pread(&self.fd, &mut *buffer, offset) {
                Err(Errno::INTR) => {}
                other => return Ok(other?),
            }
        }
    }

    /// Whether its content's BLAKE3 begins with these bytes. What could not be read, or changed meanwhile, does not; nor does anything
    /// once `stopped` says so.
    pub fn has_hash(&self, prefix: &[u8], stopped: &dyn Fn() -> bool) -> io::Result<bool> {
        let extents = self.extents(MAX_RUNS).unwrap_or(None);
        let mut digest = Digest::new(self.size, extents.as_deref());
        let mut reader = self.try_clone()?.into_reader(extents);
        let mut buffer = vec![0; BUFFER];
        while reader.remaining() > 0 {
            if stopped() {
                return Ok(false);
            }
            let read = reader.read(&mut buffer);
            digest.update(&buffer[..read]);
        }
        let same = digest.finish().is_some_and(|hash| hash.starts_with(prefix));
        Ok(same && reader.finish().is_none())
    }

    /// A reader of what the archive stores: the runs of `extents` one after the other, or the whole file.
    /// `extents` is what [`OpenFile::extents`] returned for this file.
    pub fn into_reader(self, extents: Option<Vec<Extent>>) -> Reader {
        let extents = extents.unwrap_or_else(|| {
            if self.size == 0 {
                Vec::new()
            } else {
                vec![Extent {
                    offset: 0,
                    length: self.size,
                }]
            }
        });
        let remaining = extents.iter().map(|extent| extent.length).sum();
        Reader {
            file: self,
            extents,
            current: 0,
            done: 0,
            remaining,
            fault: None,
        }
    }
}

impl AsFd for OpenFile {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// What happened to a file while it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// `Shrunk`, `Grown`, `Changed` or `ReadError`.
    pub kind: IssueKind,
    /// For people: lowercase, no full stop, without the path.
    pub reason: String,
}

/// Yields exactly the bytes that were promised.
#[derive(Debug)]
pub struct Reader {
    file: OpenFile,
    extents: Vec<Extent>,
    current: usize,
    done: u64,
    remaining: u64,
    fault: Option<Fault>,
}

impl Reader {
    /// Bytes still to come.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Fills `buffer` as far as there is more to come and returns how much; 0 at the end. Where the file doesn't
    /// give what was promised, zeros come instead and [`Reader::finish`] says so.
    pub fn read(&mut self, buffer: &mut [u8]) -> usize {
        let mut filled = 0;
        while filled < buffer.len() && self.remaining > 0 {
            let extent = self.extents[self.current];
            let want = (extent.length - self.done).min((buffer.len() - filled) as u64) as usize;
            let part = &mut buffer[filled..filled + want];
            let got = self.read_part(part, extent.offset + self.done);
            filled += got;
            self.done += got as u64;
            self.remaining -= got as u64;
            if self.done == extent.length {
                self.current += 1;
                self.done = 0;
            }
        }
        filled
    }

    /// At least one byte of `part`, which isn't empty.
    fn read_part(&mut self, part: &mut [u8], offset: u64) -> usize {
        if self.fault.is_none() {
            match self.file.read_at(part, offset) {
                Ok(0) => {
                    let reason = format!(
                        "became shorter than its {} bytes; zeros from byte {offset} on",
                        self.file.size
                    );
                    self.fault = Some(Fault {
                        kind: IssueKind::Shrunk,
                        reason,
                    });
                }
                Ok(got) => return got,
                Err(error) => {
                    let reason = format!("read error, zeros from byte {offset} on: {error}");
                    self.fault = Some(Fault {
                        kind: IssueKind::ReadError,
                        reason,
                    });
                }
            }
        }
        part.fill(0);
        part.len()
    }

    /// Compares the file with how it was when it was opened. Call it when all is read. `None`: what was read is
    /// what the file was, as far as its times tell.
    pub fn finish(self) -> Option<Fault> {
        if self.fault.is_some() {
            return self.fault;
        }
        let stat = match fstat(&self.file.fd) {
            Ok(stat) => stat,
            Err(error) => {
                let reason = format!("could not be examined after reading: {}", words(error));
                return Some(Fault {
                    kind: IssueKind::Changed,
                    reason,
                });
            }
        };
        let now = OpenFile::size_of(&stat);
        let was = self.file.size;
        if now < was {
            Some(Fault {
                kind: IssueKind::Shrunk,
                reason: format!("became shorter while it was read: {was} to {now} bytes"),
            })
        } else if now > was {
            let reason = format!(
                "became longer while it was read: {was} to {now} bytes; only the first {was} are kept"
            );
            Some(Fault {
                kind: IssueKind::Grown,
                reason,
            })
        } else if metadata::mtime(&stat) != self.file.mtime
            || metadata::ctime(&stat) != self.file.ctime
        {
            Some(Fault {
                kind: IssueKind::Changed,
                reason: "was changed while it was read".into(),
            })
        } else {
            None
        }
    }
}

impl OpenFile {
    #[allow(clippy::unnecessary_cast)] // the field's width differs between architectures
    fn size_of(stat: &Stat) -> u64 {
        stat.st_size as u64
    }
}

impl io::Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(Reader::read(self, buffer))
    }
}
