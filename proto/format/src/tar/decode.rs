//! Reads a tar stream member by member in bounded memory: ours, and what GNU tar and bsdtar write.
//!
//! Paths come as they are stored: refusing `..` and absolute paths is the work of what writes files.

use super::block::{self, Block};
use super::{BLOCK, MAX_PATH, MAX_PAX, padding};
use crate::entry::{Extent, Kind, Metadata};
use fields::Fields;
use std::io::Read;

mod fields;
mod sparse;

/// Why a stream can't be read on. Offsets count from the beginning of the stream.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The source of the bytes failed.
    #[error("reading the tar stream at offset {offset} failed")]
    Io {
        /// Offset of the bytes that were asked for.
        offset: u64,
        /// What the source says.
        source: std::io::Error,
    },
    /// The stream ends within a member.
    #[error("the tar stream ends at offset {offset}, within a member")]
    Truncated {
        /// Where it ends.
        offset: u64,
    },
    /// A block that should be a header is none.
    #[error("no tar header at offset {offset}: the checksum is wrong")]
    Checksum {
        /// Where the block is.
        offset: u64,
    },
    /// A header says something impossible.
    #[error("tar header at offset {offset} is damaged: {reason}")]
    Header {
        /// Where the header is.
        offset: u64,
        /// What is wrong.
        reason: &'static str,
    },
    /// A header or a map is larger than we take in.
    #[error(
        "tar header at offset {offset} wants {length} bytes for {what}, more than the limit of {limit}"
    )]
    TooLarge {
        /// Where the header is.
        offset: u64,
        /// What is too large.
        what: &'static str,
        /// How large it says it is.
        length: u64,
        /// The largest we take.
        limit: u64,
    },
    /// A kind of member that we don't read.
    #[error(
        "tar header at offset {offset} is of {what}, which is not supported; read it with GNU tar"
    )]
    Unsupported {
        /// Where the header is.
        offset: u64,
        /// What it is.
        what: String,
    },
}

/// What a member stores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A file's bytes, or nothing for what is not a file.
    Data {
        /// Number of bytes to read.
        len: u64,
    },
    /// A sparse file's extents; its size is in the metadata.
    Sparse {
        /// The extents in order, none empty.
        extents: Vec<Extent>,
        /// Number of bytes to read: the extents' lengths summed.
        stored_len: u64,
    },
    /// A further name of a file.
    HardLink {
        /// The path of the file.
        target: Vec<u8>,
    },
}

impl Content {
    /// The extents of a sparse file; none of all else.
    pub fn extents(&self) -> Option<&[Extent]> {
        match self {
            Self::Sparse { extents, .. } => Some(extents),
            Self::Data { .. } | Self::HardLink { .. } => None,
        }
    }
}

/// One member of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Path as stored, without the slash at a directory's end; empty for the archive's root (stored as `./`).
    pub path: Vec<u8>,
    /// Metadata; `inode` and `links` are 0. A hard link has the kind of a file.
    pub meta: Metadata,
    /// What is stored.
    pub content: Content,
    /// Offset of the member's first header block.
    pub header_offset: u64,
    /// Keywords of its extended header that were not understood or not taken over: foreign archives only.
    pub unread: Vec<Vec<u8>>,
}

/// Reads members one after another.
#[derive(Debug)]
pub struct Decoder<R> {
    reader: R,
    offset: u64,
    left: u64,
    padding: usize,
    global: Vec<u8>,
    ended: bool,
}

impl<R: Read> Decoder<R> {
    /// Reads a stream from its beginning.
    pub fn new(reader: R) -> Self {
        Self::starting_at(reader, 0)
    }

    /// Reads a stream from this offset, where a member begins; all offsets count from the stream's beginning.
    pub fn starting_at(reader: R, offset: u64) -> Self {
        Self {
            reader,
            offset,
            left: 0,
            padding: 0,
            global: Vec::new(),
            ended: false,
        }
    }

    /// The next member, past what is left of the one before. `None` at the archive's end, and where the
    /// bytes end between two members: [`ended`](Self::ended) tells the two apart.
    ///
    /// # Errors
    /// What is wrong and where. The stream can't be read on.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Member>, Error> {
        self.skip_data()?;
        if self.ended {
            return Ok(None);
        }
        let header_offset = self.offset;
        let mut extended: Option<Vec<u8>> = None;
        let mut long_path = None;
        let mut long_link = None;
        loop {
            let at = self.offset;
            let Some(block) = self.read_block()? else {
                return if at == header_offset {
                    Ok(None)
                } else {
                    Err(Error::Truncated { offset: at })
                };
            };
            if block.is_zero() {
                return self.finish(at, header_offset);
            }
            if !block.checksum_holds() {
                return Err(Error::Checksum { offset: at });
            }
            let (slot, what, limit) = match block.kind() {
                b'x' => (&mut extended, "an extended header", MAX_PAX),
                b'L' => (&mut long_path, "a path", MAX_PATH as u64 + 1),
                b'K' => (&mut long_link, "a link target", MAX_PATH as u64 + 1),
                b'g' => {
                    let free = MAX_PAX - self.global.len() as u64;
                    let records = self.read_payload(&block, at, "global headers", free)?;
                    self.global.extend_from_slice(&records);
                    continue;
                }
                _ => {
                    let mut fields = Fields::default();
                    fields.take(&self.global, header_offset)?;
                    fields.take(&extended.unwrap_or_default(), header_offset)?;
                    fields.set_long(long_path, long_link);
                    return self.member(&block, at, header_offset, fields).map(Some);
                }
            };
            if slot.is_some() {
                return Err(header_error(
                    at,
                    "a member has two headers of the same kind",
                ));
            }
            *slot = Some(self.read_payload(&block, at, what, limit)?);
        }
    }

    /// Reads stored bytes of the member that [`next`](Self::next) gave, holes left out; 0 at their end.
    ///
    /// # Errors
    /// A failing source, or a stream that ends too early.
    pub fn read_data(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let wanted = buffer
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let read = self.read_some(&mut buffer[..wanted])?;
        if read == 0 {
            return Err(Error::Truncated {
                offset: self.offset,
            });
        }
        self.left -= read as u64;
        Ok(read)
    }

    /// Whether the blocks that end an archive were read.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Offset in the stream of the next byte that will be read.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Gives the reader back.
    pub fn into_inner(self) -> R {
        self.reader
    }

    fn finish(&mut self, at: u64, header_offset: u64) -> Result<Option<Member>, Error> {
        if at != header_offset {
            return Err(header_error(at, "an extended header is followed by zeros"));
        }
        if self.read_block()?.is_some_and(|block| !block.is_zero()) {
            return Err(header_error(
                at,
                "a block of zeros is not followed by another",
            ));
        }
        self.ended = true;
        Ok(None)
    }

    fn member(
        &mut self,
        block: &Block,
        at: u64,
        header_offset: u64,
        fields: Fields,
    ) -> Result<Member, Error> {
        let mut path = match &fields.path {
            Some(path) => path.clone(),
            None => header_path(block),
        };
        let mut hard_link = false;
        let kind = match block.kind() {
            // Before POSIX a directory was a file with a slash at its end.
            b'0' | 0 | b'7' if path.ends_with(b"/") && fields.sparse.is_empty() => Kind::Directory,
            b'0' | 0 | b'7' => Kind::File,
            b'1' => {
                hard_link = true;
                Kind::File
            }
            b'2' => Kind::Symlink,
            b'3' => Kind::CharDevice,
            b'4' => Kind::BlockDevice,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => {
                let what = format!("type '{}'", other.escape_ascii());
                return Err(Error::Unsupported { offset: at, what });
            }
        };
        if kind == Kind::Directory {
            while path.ends_with(b"/") && path.len() > 1 {
                path.pop();
            }
            if path == b"." {
                path.clear();
            }
        }
        let has_data = kind == Kind::File && !hard_link;
        let size = if has_data { fields.size(block, at)? } else { 0 };
        let mut meta = fields.metadata(block, kind, at)?;
        self.left = size;
        self.padding = padding(size);
        let content = if hard_link {
            let target = std::mem::take(&mut meta.link_target);
            if target.is_empty() {
                return Err(header_error(at, "a hard link has no target"));
            }
            Content::HardLink { target }
        } else if has_data && !fields.sparse.is_empty() {
            let (name, real_size) = fields.sparse_1_0(at)?;
            path = name.unwrap_or(path);
            meta.size = real_size;
            let extents = self.sparse_map(at, real_size)?;
            Content::Sparse {
                extents,
                stored_len: self.left,
            }
        } else {
            meta.size = size;
            Content::Data { len: size }
        };
        if path.len() > MAX_PATH {
            return Err(Error::TooLarge {
                offset: at,
                what: "a path",
                length: path.len() as u64,
                limit: MAX_PATH as u64,
            });
        }
        if path.is_empty() && kind != Kind::Directory {
            return Err(header_error(at, "a member has no name"));
        }
        Ok(Member {
            path,
            meta,
            content,
            header_offset,
            unread: fields.unread,
        })
    }

    fn skip_data(&mut self) -> Result<(), Error> {
        let mut rest = self.left + self.padding as u64;
        let mut buffer = [0; 16 << 10];
        while rest > 0 {
            let wanted = buffer
                .len()
                .min(usize::try_from(rest).unwrap_or(usize::MAX));
            let read = self.read_some(&mut buffer[..wanted])?;
            if read == 0 {
                return Err(Error::Truncated {
                    offset: self.offset,
                });
            }
            rest -= read as u64;
        }
        self.left = 0;
        self.padding = 0;
        Ok(())
    }

    fn read_payload(
        &mut self,
        block: &Block,
        at: u64,
        what: &'static str,
        limit: u64,
    ) -> Result<Vec<u8>, Error> {
        let length = block
            .number(block::SIZE)
            .and_then(|size| u64::try_from(size).ok())
            .ok_or(header_error(at, "its size is not a number"))?;
        if length > limit {
            return Err(Error::TooLarge {
                offset: at,
                what,
                length,
                limit,
            });
        }
        let mut payload = vec![0; length as usize + padding(length)];
        if self.fill(&mut payload)? < payload.len() {
            return Err(Error::Truncated {
                offset: self.offset,
            });
        }
        payload.truncate(length as usize);
        Ok(payload)
    }

    /// A whole block, or `None` where the stream ends before it.
    fn read_block(&mut self) -> Result<Option<Block>, Error> {
        let mut block = Block([0; BLOCK]);
        match self.fill(&mut block.0)? {
            0 => Ok(None),
            BLOCK => Ok(Some(block)),
            _ => Err(Error::Truncated {
                offset: self.offset,
            }),
        }
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read_some(&mut buffer[filled..])? {
                0 => break,
                read => filled += read,
            }
        }
        Ok(filled)
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize, Error> {
        loop {
            match self.reader.read(buffer) {
                Ok(read) => {
                    self.offset = self.offset.checked_add(read as u64).ok_or(header_error(
                        self.offset,
                        "the stream is longer than 2^64 bytes",
                    ))?;
                    return Ok(read);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(source) => {
                    let offset = self.offset;
                    return Err(Error::Io { offset, source });
                }
            }
        }
    }
}

fn header_path(block: &Block) -> Vec<u8> {
    let name = block.text(block::NAME);
    let prefix = block.text(block::PREFIX);
    if block.is_posix() && !prefix.is_empty() {
        return [prefix, b"/", name].concat();
    }
    name.to_vec()
}

fn header_error(offset: u64, reason: &'static str) -> Error {
    Error::Header { offset, reason }
}
