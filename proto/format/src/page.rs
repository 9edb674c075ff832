//! Directory pages: a directory's listing as of one version, cut into chunks, each encoded column by column.
//!
//! Owns the page's shape, its encoding and the cutting. It does not know versions, databases or where a base
//! comes from. Pages are the catalog: they must be small (columns, deltas, zstd with dictionaries) and the
//! same listing must always give the same chunks. FORMAT.md, "Directory pages".

mod chunker;
mod columns;
mod decode;
mod dictionary;
mod encode;
mod names;
mod trainer;
mod validate;

pub use chunker::Chunker;
pub use decode::{Decoder, decode, dictionary_of};
pub use dictionary::Dictionaries;
pub use encode::{Encoded, Encoder, encode};
pub use names::Names;

use crate::entry::{Kind, Metadata, Time, Xattr};

/// Most entries of a chunk.
pub const MAX_ENTRIES: usize = 8_192;

/// Bytes of names and link targets at which a chunk takes no further entry.
pub const MAX_TEXT: usize = 256 << 10;

/// Longest name in bytes.
pub const MAX_NAME: usize = 1_024;

/// Longest link target in bytes.
pub const MAX_TARGET: usize = 4_096;

/// Longest path of a directory in bytes.
pub const MAX_PATH: usize = 65_535;

/// Most bytes of names and values of a directory's extended attributes in its page.
pub const MAX_XATTRS: usize = 64 << 10;

/// Most bytes of a page before compression.
pub const MAX_RAW: usize = 2 << 20;

/// Most bytes of an encoded page: those of its columns, stored as they are, and its head.
pub const MAX_BODY: usize = MAX_RAW + 32;

/// Longest dictionary.
pub const MAX_DICTIONARY: usize = 128 << 10;

/// Bytes kept of the BLAKE3 of an entry's content.
pub const HASH: usize = 16;

/// Bytes kept of the BLAKE3 of an entry's extended attributes.
pub const XATTR_DIGEST: usize = 8;

/// Flag of a directory that could not be read and shows what the version before had.
pub const FLAG_CARRIED: u32 = 1;

/// Flag of a directory whose extended attributes are too large for its page; its tar header has them.
pub const FLAG_XATTRS_OMITTED: u32 = 2;

/// Flag of a directory whose listing is not known, or known in part only: what its page lacks was not seen, which
/// is not the same as not being there.
pub const FLAG_LISTING_UNKNOWN: u32 = 4;

/// Flag of a directory that another file system was mounted on: when it is empty and none is, that one is missing.
pub const FLAG_MOUNTED: u32 = 8;

/// Where an entry's header lies: in which archive of the line, and where in its tar stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// Ordinal of the archive in the line.
    pub archive_ordinal: u32,
    /// Offset in bytes of the entry's first header block, a multiple of 512.
    pub tar_offset: u64,
}

/// One chunk of a directory's listing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// The directory's path: components joined by `/`, no slash at either end, empty for the root.
    pub directory: Vec<u8>,
    /// First name of this chunk; `None` in the first one, which begins before every name.
    pub lower: Option<Vec<u8>>,
    /// First name of the next chunk; `None` in the last one.
    pub upper: Option<Vec<u8>>,
    /// The directory's own metadata; in the first chunk only.
    pub header: Option<DirectoryStat>,
    /// The entries in the byte order of their names, of all kinds mixed.
    pub entries: Vec<Entry>,
}

/// A directory's own metadata.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DirectoryStat {
    /// Permission bits, 07777.
    pub mode: u32,
    /// Owner's number.
    pub uid: u32,
    /// Group's number.
    pub gid: u32,
    /// Owner's name, empty if unknown.
    pub user: Vec<u8>,
    /// Group's name, empty if unknown.
    pub group: Vec<u8>,
    /// Modification time.
    pub mtime: Time,
    /// Status change time.
    pub ctime: Time,
    /// Inode number on the source.
    pub inode: u64,
    /// [`FLAG_CARRIED`], [`FLAG_XATTRS_OMITTED`], [`FLAG_LISTING_UNKNOWN`], [`FLAG_MOUNTED`]; others are kept as they are.
    pub flags: u32,
    /// Extended attributes in the byte order of their names, at most [`MAX_XATTRS`].
    pub xattrs: Vec<Xattr>,
    /// Where its tar header is; `None` if it has none.
    pub place: Option<Place>,
    /// Length in bytes of its tar header, a multiple of 512; 0 without a place.
    pub tar_length: u64,
}

/// One entry of a listing. One of kind directory has a name and a kind only: the rest is in its own page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Name: not empty, no slash, no zero byte, not `.` or `..`.
    pub name: Vec<u8>,
    /// Kind.
    pub kind: Kind,
    /// Apparent size in bytes; 0 unless a file.
    pub size: u64,
    /// Modification time.
    pub mtime: Time,
    /// Status change time.
    pub ctime: Time,
    /// Permission bits, 07777.
    pub mode: u32,
    /// Owner's number.
    pub uid: u32,
    /// Group's number.
    pub gid: u32,
    /// Inode number on the source.
    pub inode: u64,
    /// Device number of a device node.
    pub rdev_major: u32,
    /// Device number of a device node.
    pub rdev_minor: u32,
    /// Target of a symbolic link, else empty.
    pub link_target: Vec<u8>,
    /// 0 for a file with one name, else the number, usually the inode, that all its names share.
    pub link_group: u64,
    /// Whether it may have changed unseen: ctime or mtime were too near to the time of reading.
    pub racy: bool,
    /// Whether it changed while it was read.
    pub changed_while_read: bool,
    /// Where its bytes are; `None` if it has none stored.
    pub place: Option<Place>,
    /// Length in bytes in the tar stream from its header to the next one, a multiple of 512; 0 without a place.
    pub tar_length: u64,
    /// First 16 bytes of the BLAKE3 of a file's content.
    pub hash: Option<[u8; HASH]>,
    /// What tells whether its extended attributes, which only its tar header has, are still the same: [`xattr_digest`].
    pub xattrs: Option<[u8; XATTR_DIGEST]>,
}

/// First 8 bytes of the BLAKE3 of extended attributes: for each, in the byte order of names, the lengths of name and value as
/// 4 bytes little endian each, then both. `None` if there are none.
pub fn xattr_digest(xattrs: &[Xattr]) -> Option<[u8; XATTR_DIGEST]> {
    if xattrs.is_empty() {
        return None;
    }
    let mut hasher = blake3::Hasher::new();
    for xattr in xattrs {
        for length in [xattr.name.len(), xattr.value.len()] {
            hasher.update(&(length as u32).to_le_bytes());
        }
        hasher.update(&xattr.name);
        hasher.update(&xattr.value);
    }
    hasher.finalize().as_bytes().first_chunk().copied()
}

impl DirectoryStat {
    /// What the page keeps of a directory's metadata; place and other flags are the caller's to add.
    ///
    /// Extended attributes above [`MAX_XATTRS`] are left out, and [`FLAG_XATTRS_OMITTED`] says so.
    pub fn new(meta: &Metadata) -> Self {
        let bytes = meta
            .xattrs
            .iter()
            .map(|xattr| xattr.name.len() + xattr.value.len());
        let omitted = bytes.sum::<usize>() > MAX_XATTRS;
        Self {
            mode: meta.mode,
            uid: meta.uid,
            gid: meta.gid,
            user: meta.user.clone(),
            group: meta.group.clone(),
            mtime: meta.mtime,
            ctime: meta.ctime,
            inode: meta.inode,
            flags: if omitted { FLAG_XATTRS_OMITTED } else { 0 },
            xattrs: if omitted {
                Vec::new()
            } else {
                meta.xattrs.clone()
            },
            place: None,
            tar_length: 0,
        }
    }
}

impl Entry {
    /// What the page keeps of an entry; place, hash and marks are the caller's to add.
    ///
    /// The link group is the inode if it has several names, else 0.
    pub fn new(name: Vec<u8>, meta: &Metadata) -> Self {
        let bare = Self::bare(name, meta.kind);
        if meta.kind == Kind::Directory {
            return bare;
        }
        Self {
            size: meta.size,
            mtime: meta.mtime,
            ctime: meta.ctime,
            mode: meta.mode,
            uid: meta.uid,
            gid: meta.gid,
            inode: meta.inode,
            rdev_major: meta.rdev_major,
            rdev_minor: meta.rdev_minor,
            link_target: meta.link_target.clone(),
            link_group: if meta.links > 1 { meta.inode } else { 0 },
            xattrs: xattr_digest(&meta.xattrs),
            ..bare
        }
    }

    /// An entry with nothing but name and kind: what a directory is in its parent's page.
    pub fn bare(name: Vec<u8>, kind: Kind) -> Self {
        Self {
            name,
            kind,
            size: 0,
            mtime: Time::default(),
            ctime: Time::default(),
            mode: 0,
            uid: 0,
            gid: 0,
            inode: 0,
            rdev_major: 0,
            rdev_minor: 0,
            link_target: Vec::new(),
            link_group: 0,
            racy: false,
            changed_while_read: false,
            place: None,
            tar_length: 0,
            hash: None,
            xattrs: None,
        }
    }
}

impl Page {
    /// The chunk's key.
    pub fn chunk(&self) -> Vec<u8> {
        crate::key::chunk(&crate::key::of_path(&self.directory), self.lower.as_deref())
    }
}

/// Why a page can't be encoded or decoded.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// The page or listing breaks a rule of FORMAT.md.
    #[error("page of {directory:?} is not valid: {reason}")]
    Invalid {
        /// The directory, escaped.
        directory: String,
        /// The rule.
        reason: &'static str,
    },
    /// A length is above its limit.
    #[error("page has {what} of {length}, more than the limit of {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// How large.
        length: u64,
        /// The limit.
        limit: u64,
    },
    /// The page's encoding is of a version that we don't know.
    #[error("page has version {0}, and only version 1 is known; use a newer program")]
    Version(u8),
    /// The page needs a dictionary that was not given.
    #[error(
        "page needs dictionary {0}, which is missing; read the dictionaries of its archive first"
    )]
    Dictionary(u32),
    /// Two dictionaries claim one number.
    #[error("page dictionary {0} is not the one that is known under this number")]
    OtherDictionary(u32),
    /// The bytes are no page.
    #[error("page is damaged: {0}")]
    Damaged(&'static str),
    /// zstd refused.
    #[error("page can't be compressed or decompressed: {0}")]
    Zstd(String),
}
