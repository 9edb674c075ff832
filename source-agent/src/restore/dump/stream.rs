//! The bytes of a dump: what was read becomes a tar stream, or one file its bytes.
//!
//! A file that is small is proved before anything of it is sent, so that a damaged one is just not there. Of a larger one every
//! segment was proved by its checksums; if it breaks off all the same, or its hash is not that of the catalog, its header is out
//! already: the rest is zeros, so that the stream stays a tar archive, and a link that leads nowhere comes behind it under the same
//! name. Unpacking replaces the one by the other, and nobody takes it for whole.

use std::io::{self, Read};

use taf_format::entry::{Extent, Kind, Metadata, Time};
use taf_format::tar::decode::Member;
use taf_format::tar::{END_OF_ARCHIVE, encode, padding};
use taf_proto::v1::DumpFormat;
use taf_tree::unpack::{self, Outcome};
use taf_tree::write::Deferred;

use super::super::window::Lost;
use super::order::Order;
use super::send::Frames;
use crate::fault::{self, Error, fault};

/// Stored bytes up to which a file is proved first.
const PROVED_FIRST: u64 = 4 << 20;
/// Bytes that are read at a time.
const BUFFER: usize = 256 << 10;
/// What tar fills an archive up to.
const RECORD: u64 = 10 << 10;
/// What the name of a damaged file leads to.
const NOT_WHOLE: &[u8] = b"DAMAGED-ON-TAPE";

/// Why a member is not in the stream, or not whole.
#[derive(Debug)]
pub enum Ended {
    /// Its bytes are not what was backed up.
    Damaged(unpack::Error),
    /// Nobody takes anything any more, or nothing comes.
    Over(Error),
}

impl From<unpack::Error> for Ended {
    fn from(error: unpack::Error) -> Self {
        if let unpack::Error::Read(source) = &error
            && let Some(Lost::Ended) = source.get_ref().and_then(|inner| inner.downcast_ref())
        {
            return Self::Over(Error::Stopped);
        }
        Self::Damaged(error)
    }
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Self::Over(error)
    }
}

impl From<encode::Error> for Ended {
    fn from(error: encode::Error) -> Self {
        Self::Damaged(unpack::Error::Read(io::Error::other(error)))
    }
}

/// See the module.
#[derive(Debug)]
pub struct Stream {
    format: DumpFormat,
    frames: Frames,
    order: Order,
    /// Every directory of the stream, with its number.
    directories: Deferred,
    buffer: Vec<u8>,
    small: Vec<u8>,
    /// Of a single file: what came of it.
    file: Option<Result<(), String>>,
}

impl Stream {
    /// A stream in this format.
    pub fn new(format: DumpFormat, frames: Frames) -> Self {
        Self {
            format,
            frames,
            order: Order::default(),
            directories: Deferred::default(),
            buffer: vec![0; BUFFER],
            small: Vec::new(),
            file: None,
        }
    }

    /// Adds a member under `path`, reading its stored bytes, holes left out, from `data`.
    ///
    /// # Errors
    /// See [`Ended`].
    pub fn member(
        &mut self,
        path: &[u8],
        member: &Member,
        data: &mut impl Read,
        expected: Option<&[u8]>,
    ) -> Result<Outcome, Ended> {
        let meta = &member.meta;
        let extents = member.content.extents();
        match (meta.kind, self.format) {
            (Kind::File, DumpFormat::File) => {
                self.content(path, meta, extents, data, expected)?;
                self.file = Some(Ok(()));
            }
            (Kind::File, _) => self.content(path, meta, extents, data, expected)?,
            (_, DumpFormat::File) => {
                let what = io::Error::other("something else than a file is at its place");
                return Err(unpack::Error::Read(what).into());
            }
            // Where it is unpacked is nobody's directory.
            (Kind::Directory, _) if path.is_empty() => {}
            (Kind::Directory, _) => {
                let number = self.header(path, meta, encode::Content::Data)?;
                self.directories
                    .push(path, (number, 0), meta)
                    .map_err(|error| spool(&error))?;
            }
            _ => {
                self.header(path, meta, encode::Content::Data)?;
            }
        }
        Ok(Outcome::default())
    }

    /// Adds a further name of a file that is in the stream under the path `existing`.
    ///
    /// # Errors
    /// See [`Ended`].
    pub fn hard_link(
        &mut self,
        path: &[u8],
        existing: &[u8],
        meta: &Metadata,
    ) -> Result<(), Ended> {
        self.header(path, meta, encode::Content::HardLink(existing))?;
        Ok(())
    }

    /// Notes that something is not in the stream, or not whole.
    pub fn damaged(&mut self, reason: &str) {
        self.file = Some(Err(reason.to_owned()));
    }

    /// Ends the stream, if everything was read.
    ///
    /// # Errors
    /// `FILE_DAMAGED` of a single file; [`Error::Stopped`] when nobody takes it any more.
    pub fn finish(mut self) -> Result<(), Error> {
        if self.format == DumpFormat::File {
            return match self.file {
                Some(Ok(())) => self.frames.flush(),
                Some(Err(reason)) => Err(fault(
                    "FILE_DAMAGED",
                    format!("the file can't be read whole: {reason}"),
                    "dump it from another version: taf history shows which have it",
                )),
                None => Err(fault::protocol("the recall had no file")),
            };
        }
        while let Some((path, (number, _), meta)) = self.directories.pop().map_err(|e| spool(&e))? {
            if self.order.came_later(&path, number) {
                let header = encode::header(&path, &meta, encode::Content::Data);
                let header = header.map_err(|error| fault::internal(error.to_string()))?;
                self.frames.write(&header)?;
            }
        }
        self.frames.write(&END_OF_ARCHIVE)?;
        let over = self.frames.count() % RECORD;
        self.frames.zeros((RECORD - over) % RECORD)?;
        self.frames.flush()
    }

    /// Adds a header. Gives the member's number.
    fn header(
        &mut self,
        path: &[u8],
        meta: &Metadata,
        what: encode::Content<'_>,
    ) -> Result<u64, Ended> {
        // When it was changed last is not to be restored.
        let meta = Metadata {
            ctime: Time::default(),
            ..meta.clone()
        };
        let header = encode::header(path, &meta, what)?;
        self.frames.write(&header)?;
        Ok(self.order.next(path))
    }

    fn content(
        &mut self,
        path: &[u8],
        meta: &Metadata,
        extents: Option<&[Extent]>,
        data: &mut impl Read,
        expected: Option<&[u8]>,
    ) -> Result<(), Ended> {
        let is_tar = self.format != DumpFormat::File;
        let what = extents.map_or(encode::Content::Data, encode::Content::Sparse);
        let stored = encode::data_length(meta, what);
        let mut shape = Shape::new(meta.size, extents.filter(|_| !is_tar));
        if stored <= PROVED_FIRST {
            let mut small = std::mem::take(&mut self.small);
            small.clear();
            let read = |piece: &[u8]| {
                small.extend_from_slice(piece);
                Ok(())
            };
            unpack::content::<Ended>(&mut self.buffer, meta.size, extents, data, expected, read)?;
            if is_tar {
                self.header(path, meta, what)?;
            }
            shape.put(&small, &mut self.frames)?;
            self.small = small;
        } else {
            if is_tar {
                self.header(path, meta, what)?;
            }
            let (frames, mut left) = (&mut self.frames, stored);
            let read = |piece: &[u8]| {
                left -= piece.len() as u64;
                shape.put(piece, frames).map_err(Ended::Over)
            };
            let read = unpack::content(&mut self.buffer, meta.size, extents, data, expected, read);
            if let Err(Ended::Damaged(error)) = read {
                if is_tar {
                    self.frames.zeros(left + padding(stored) as u64)?;
                    self.hide(path, meta)?;
                }
                return Err(Ended::Damaged(error));
            }
            read?;
        }
        if is_tar {
            self.frames.zeros(padding(stored) as u64)?;
        } else {
            shape.end(&mut self.frames)?;
        }
        Ok(())
    }

    /// Puts something in the place of a file that is not whole.
    fn hide(&mut self, path: &[u8], meta: &Metadata) -> Result<(), Ended> {
        let link = Metadata {
            kind: Kind::Symlink,
            size: 0,
            mode: 0o777,
            link_target: NOT_WHOLE.to_vec(),
            xattrs: Vec::new(),
            ..meta.clone()
        };
        self.header(path, &link, encode::Content::Data)?;
        Ok(())
    }
}

/// How stored bytes are sent: as they are, or with their holes as zeros.
struct Shape<'a> {
    /// None if they are sent as they are.
    extents: Option<&'a [Extent]>,
    current: usize,
    position: u64,
    size: u64,
}

impl<'a> Shape<'a> {
    fn new(size: u64, extents: Option<&'a [Extent]>) -> Self {
        Self {
            extents,
            current: 0,
            position: 0,
            size,
        }
    }

    fn put(&mut self, mut bytes: &[u8], frames: &mut Frames) -> Result<(), Error> {
        let Some(extents) = self.extents else {
            return frames.write(bytes);
        };
        while let Some(extent) = extents.get(self.current)
            && !bytes.is_empty()
        {
            frames.zeros(extent.offset.saturating_sub(self.position))?;
            self.position = self.position.max(extent.offset);
            let end = extent.offset.saturating_add(extent.length);
            let room = (end - self.position).min(bytes.len() as u64) as usize;
            let (now, later) = bytes.split_at(room);
            frames.write(now)?;
            self.position += room as u64;
            bytes = later;
            if self.position == end {
                self.current += 1;
            }
        }
        Ok(())
    }

    /// The hole at the end.
    fn end(&mut self, frames: &mut Frames) -> Result<(), Error> {
        if self.extents.is_some() {
            frames.zeros(self.size.saturating_sub(self.position))?;
        }
        Ok(())
    }
}

fn spool(error: &io::Error) -> Error {
    fault::internal(format!(
        "directories can't be kept in a temporary file: {error}"
    ))
}
