//! Putting one tar member in its place, and only if its content is what it should be.
//!
//! Owns the way from a decoded member to an entry below a [`Target`]. It chooses neither what is restored nor where
//! the bytes come from: a restore goes by the catalog, an extraction by the tape alone, and both end here.

use std::io::{self, Read};

use taf_format::entry::{Extent, Kind};
use taf_format::tar::decode::{Content, Decoder, Member};

use crate::digest::Digest;
use crate::write::{self, Target, Warning};

/// Bytes moved at a time.
const BUFFER: usize = 256 << 10;

/// Why a member was not put in its place. Nothing was changed under its name.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The target refused.
    #[error(transparent)]
    Write(#[from] write::Error),
    /// The bytes of the member did not come.
    #[error("its bytes can't be read: {0}")]
    Read(#[source] io::Error),
    /// The content is not what it was when it was stored.
    #[error("its content differs from what was backed up: the hash does not match")]
    Content,
}

/// What came of a member.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// What the target could not hold.
    pub warnings: Vec<Warning>,
    /// BLAKE3 of a file's apparent content; `None` for what is no file, for a further name, and for a file with
    /// holes beyond [`crate::digest::MAX_HOLES`].
    pub digest: Option<[u8; 32]>,
}

/// Puts members below a target.
#[derive(Debug)]
pub struct Unpacker {
    target: Target,
    buffer: Vec<u8>,
}

impl Unpacker {
    /// Unpacks below `target`.
    pub fn new(target: Target) -> Self {
        Self {
            target,
            buffer: vec![0; BUFFER],
        }
    }

    /// The target, for what comes from elsewhere than a member.
    pub fn target(&mut self) -> &mut Target {
        &mut self.target
    }

    /// Puts `member` at `path` (raw, below the target), reading its stored bytes, holes left out, from `data`:
    /// [`MemberData`] for a decoder's current one. The content must have the BLAKE3 that begins with `expected`, if
    /// that is given; else nothing is put in place. A hard link's target is taken for a path below the target.
    pub fn member(
        &mut self,
        path: &[u8],
        member: &Member,
        data: &mut impl Read,
        expected: Option<&[u8]>,
    ) -> Result<Outcome, Error> {
        if let Content::HardLink { target } = &member.content {
            self.target.hard_link(path, target)?;
            return Ok(Outcome::default());
        }
        let extents = member.content.extents();
        let meta = &member.meta;
        let warnings = match meta.kind {
            Kind::File => {
                let mut file = self.target.file(path, meta, extents)?;
                let mut digest = Digest::new(meta.size, extents);
                while file.remaining() > 0 {
                    let read = match data.read(&mut self.buffer) {
                        Ok(0) => return Err(Error::Read(io::ErrorKind::UnexpectedEof.into())),
                        Ok(read) => read,
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                        Err(error) => return Err(Error::Read(error)),
                    };
                    digest.update(&self.buffer[..read]);
                    file.write(&self.buffer[..read])?;
                }
                let digest = digest.finish();
                check(expected, digest.as_ref())?;
                let warnings = file.finish(&mut self.target)?;
                return Ok(Outcome { warnings, digest });
            }
            Kind::Directory => self.target.directory(path, meta)?,
            Kind::Symlink => self.target.symlink(path, meta)?,
            Kind::Fifo => self.target.fifo(path, meta)?,
            Kind::CharDevice | Kind::BlockDevice => self.target.device(path, meta)?,
        };
        Ok(Outcome {
            warnings,
            digest: None,
        })
    }

    /// Reads a member as [`Unpacker::member`] does, and puts it nowhere.
    ///
    /// # Errors
    /// Those of its bytes.
    pub fn prove(
        buffer: &mut [u8],
        member: &Member,
        data: &mut impl Read,
        expected: Option<&[u8]>,
    ) -> Result<Outcome, Error> {
        let is_link = matches!(member.content, Content::HardLink { .. });
        if is_link || member.meta.kind != Kind::File {
            return Ok(Outcome::default());
        }
        let extents = member.content.extents();
        let digest =
            content::<Error>(
                buffer,
                member.meta.size,
                extents,
                data,
                expected,
                |_| Ok(()),
            )?;
        Ok(Outcome {
            warnings: Vec::new(),
            digest,
        })
    }

    /// Gives files the time that they wait for. See [`Target::finish_files`].
    pub fn finish_files(&mut self) -> Vec<Warning> {
        self.target.finish_files()
    }

    /// Gives the directories their metadata; to be called once, after everything else. See
    /// [`Target::finish_directories`].
    pub fn finish(
        &mut self,
        warn: impl FnMut(Result<Warning, write::Error>),
    ) -> Result<(), write::Error> {
        self.target.finish_directories(warn)
    }
}

/// Reads a file's stored bytes, gives them to `take` as they come, and proves them behind the last one: only then is known whether
/// what was taken is what was backed up. `size` and `extents` are as of [`Digest::new`]. Gives the BLAKE3, if there is one.
///
/// # Errors
/// Those of the bytes, or what `take` ends with.
pub fn content<E: From<Error>>(
    buffer: &mut [u8],
    size: u64,
    extents: Option<&[Extent]>,
    data: &mut impl Read,
    expected: Option<&[u8]>,
    mut take: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<Option<[u8; 32]>, E> {
    let mut digest = Digest::new(size, extents);
    let mut left = extents.map_or(size, |extents| {
        extents.iter().map(|extent| extent.length).sum()
    });
    while left > 0 {
        match data.read(buffer) {
            Ok(0) => return Err(Error::Read(io::ErrorKind::UnexpectedEof.into()).into()),
            Ok(read) => {
                digest.update(&buffer[..read]);
                left = left.saturating_sub(read as u64);
                take(&buffer[..read])?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::Read(error).into()),
        }
    }
    let digest = digest.finish();
    check(expected, digest.as_ref())?;
    Ok(digest)
}

/// Whether the content is what it should be, as far as both are known.
fn check(expected: Option<&[u8]>, found: Option<&[u8; 32]>) -> Result<(), Error> {
    match (expected, found) {
        (Some(expected), Some(found)) if !found.starts_with(expected) => Err(Error::Content),
        _ => Ok(()),
    }
}

/// The stored bytes of a decoder's current member.
#[derive(Debug)]
pub struct MemberData<'a, R>(pub &'a mut Decoder<R>);

impl<R: Read> Read for MemberData<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read_data(buffer).map_err(|error| match error {
            taf_format::tar::decode::Error::Io { source, .. } => source,
            other => io::Error::other(other),
        })
    }
}
