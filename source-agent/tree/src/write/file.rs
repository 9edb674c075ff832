//! Writing one file: under a temporary name, complete or not at all.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, Mode, OFlags, fstat, ftruncate, openat, unlinkat};
use rustix::io::{Errno, pwrite};
use taf_format::entry::{Extent, Metadata, Time};

use super::unsettled::Written;
use super::{Error, Target, Warning, apply, identity_of, place};
use crate::metadata::{self, Handle};
use crate::path;

/// A file being written. Give it the stored bytes with [`FileWriter::write`], then [`FileWriter::finish`] it. Until
/// then nothing is there under its name; dropped unfinished, nothing remains.
#[derive(Debug)]
pub struct FileWriter {
    fd: OwnedFd,
    directory: Arc<OwnedFd>,
    /// Empty once the file has its own name.
    temporary: Vec<u8>,
    path: Vec<u8>,
    meta: Metadata,
    extents: Vec<Extent>,
    current: usize,
    done: u64,
    /// Whether what is there gives way.
    replace: bool,
    /// Its time of modification until it is on the disk, if not that of writing.
    meanwhile: Option<Time>,
}

impl FileWriter {
    pub(super) fn new(
        directory: Arc<OwnedFd>,
        temporary: Vec<u8>,
        path: &[u8],
        meta: &Metadata,
        extents: Option<&[Extent]>,
        (replace, meanwhile): (bool, Option<Time>),
    ) -> Result<Self, Error> {
        let whole = [Extent {
            offset: 0,
            length: meta.size,
        }];
        let extents = extents.unwrap_or(if meta.size == 0 { &[] } else { &whole });
        check(extents, meta.size, path)?;
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = openat(
            directory.as_fd(),
            &temporary[..],
            flags,
            Mode::from_raw_mode(0o600),
        )
        .map_err(|error| Error::at("create", path, error))?;
        Ok(Self {
            fd,
            directory,
            temporary,
            path: path.to_vec(),
            meta: meta.clone(),
            extents: extents.to_vec(),
            current: 0,
            done: 0,
            replace,
            meanwhile,
        })
    }

    /// Stored bytes still to come.
    pub fn remaining(&self) -> u64 {
        self.extents[self.current..]
            .iter()
            .map(|extent| extent.length)
            .sum::<u64>()
            - self.done
    }

    /// Writes the next stored bytes: of a sparse file its runs of data one after the other.
    pub fn write(&mut self, mut data: &[u8]) -> Result<(), Error> {
        while !data.is_empty() {
            let Some(extent) = self.extents.get(self.current) else {
                return Err(Error::Overrun {
                    path: path::display(&self.path),
                });
            };
            let room = (extent.length - self.done).min(data.len() as u64) as usize;
            let written = match pwrite(&self.fd, &data[..room], extent.offset + self.done) {
                Ok(0) => return Err(Error::at("write", &self.path, Errno::IO)),
                Ok(written) => written,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(Error::at("write", &self.path, error)),
            };
            data = &data[written..];
            self.done += written as u64;
            if self.done == extent.length {
                self.current += 1;
                self.done = 0;
            }
        }
        Ok(())
    }

    /// Gives the file its metadata and then its name; its time of modification follows when it is on the disk, at the latest with
    /// [`Target::finish_files`]. Fails if less was written than the extents say, or if something written before can't be written out.
    /// `target` is the one that it is of; warnings of other files may come with its own.
    pub fn finish(mut self, target: &mut Target) -> Result<Vec<Warning>, Error> {
        let missing = self.remaining();
        if missing > 0 {
            return Err(Error::Incomplete {
                path: path::display(&self.path),
                missing,
            });
        }
        // A hole at the end, or a file that is one.
        if self
            .extents
            .last()
            .is_none_or(|last| last.offset + last.length < self.meta.size)
        {
            ftruncate(&self.fd, self.meta.size)
                .map_err(|error| Error::at("set the size of", &self.path, error))?;
        }
        let handle = Handle::Open(self.fd.as_fd());
        let mut warnings = if self.meta.size == 0 {
            apply::apply(handle, &self.path, &self.meta)?
        } else {
            apply::all_but_time(handle, &self.path, &self.meta)?
        };
        if let Some(meanwhile) = self.meanwhile.filter(|_| self.meta.size > 0) {
            let _ = rustix::fs::futimens(&self.fd, &apply::modified(meanwhile));
        }
        let stat = fstat(&self.fd).map_err(|error| Error::at("examine", &self.path, error))?;
        let identity = identity_of(&stat);
        target.check()?;
        let name = path::split(&self.path).map_or(&b""[..], |(_, name)| name);
        place(
            self.directory.as_fd(),
            &self.temporary,
            name,
            &self.path,
            self.replace,
        )?;
        self.temporary.clear();
        target.unsettled.on(identity.0, &self.directory);
        if self.meta.size > 0 {
            target.unsettled.push(Written {
                path: std::mem::take(&mut self.path),
                identity,
                size: self.meta.size,
                meanwhile: metadata::mtime(&stat),
                mtime: self.meta.mtime,
            });
        }
        warnings.extend(target.unsettled.warnings());
        Ok(warnings)
    }
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        if !self.temporary.is_empty() {
            // Nobody is left to hear of a failure; the temporary name tells what it is.
            let _ = unlinkat(
                self.directory.as_fd(),
                &self.temporary[..],
                AtFlags::empty(),
            );
        }
    }
}

fn check(extents: &[Extent], size: u64, path: &[u8]) -> Result<(), Error> {
    let mut end = 0;
    for extent in extents {
        let next = extent.offset.checked_add(extent.length);
        match next {
            Some(next) if extent.length > 0 && extent.offset >= end && next <= size => end = next,
            _ => {
                return Err(Error::Extents {
                    path: path::display(path),
                });
            }
        }
    }
    if i64::try_from(size).is_err() {
        return Err(Error::Extents {
            path: path::display(path),
        });
    }
    Ok(())
}
