//! Makes the headers of entries. The caller writes the content behind them, and [`padding`]
//! behind that.

use super::block::{self, Block};
use super::{BLOCK, MAX_EXTENTS, MAX_PATH, MAX_PAX, acl, padding, pax};
use crate::entry::{Extent, Kind, Metadata};

/// What an entry stores.
#[derive(Debug, Clone, Copy)]
pub enum Content<'a> {
    /// All of a file's bytes, as many as its metadata says; nothing for what is not a file.
    Data,
    /// The extents of a sparse file, in order, at most [`MAX_EXTENTS`]; none for a file that is one hole.
    Sparse(&'a [Extent]),
    /// Nothing: this is a further name of the file stored under this path.
    HardLink(&'a [u8]),
}

/// Why an entry has no header.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// A path or link target that tar can't hold.
    #[error("cannot store {path:?}: {reason}")]
    Path {
        /// The path, escaped.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Extents that are out of order, overlap, are empty or pass the file's end.
    #[error("cannot store {path:?} as a sparse file: {reason}; store it dense")]
    Extents {
        /// The path, escaped.
        path: String,
        /// What is wrong with the extents.
        reason: &'static str,
    },
    /// The extended header would pass [`MAX_PAX`].
    #[error(
        "cannot store {path:?}: its extended attributes need {length} bytes, more than {MAX_PAX}; leave some out"
    )]
    TooLarge {
        /// The path, escaped.
        path: String,
        /// Length of the extended header.
        length: usize,
    },
    /// A device number above 2,097,151.
    #[error("cannot store device {path:?}: number {major}:{minor} is too large for tar")]
    Device {
        /// The path, escaped.
        path: String,
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
}

/// Length in bytes of what the caller writes behind the header: file content without holes.
pub fn data_length(meta: &Metadata, what: Content<'_>) -> u64 {
    match what {
        Content::Data if meta.kind == Kind::File => meta.size,
        Content::Sparse(extents) => extents.iter().map(|extent| extent.length).sum(),
        Content::Data | Content::HardLink(_) => 0,
    }
}

/// The bytes of an entry up to its content: extended header, header, and a sparse file's map.
///
/// `path` has its components joined by `/` with no slash at either end; empty stands for the root directory
/// of the archive. The length is a multiple of [`BLOCK`].
///
/// # Errors
/// What tar can't hold; see [`Error`].
pub fn header(path: &[u8], meta: &Metadata, what: Content<'_>) -> Result<Vec<u8>, Error> {
    check_path(path, path)?;
    if path.is_empty() && (meta.kind != Kind::Directory || matches!(what, Content::HardLink(_))) {
        return Err(Error::Path {
            path: String::new(),
            reason: "only a directory can have the empty path",
        });
    }
    let mut extended = Vec::new();
    let mut block = Block::new(type_flag(meta.kind, what));
    let map = match what {
        Content::Sparse(extents) => {
            let map = sparse_map(path, meta, extents)?;
            put_sparse_name(&mut block, &mut extended, path, meta);
            map
        }
        Content::Data | Content::HardLink(_) => {
            put_path(&mut block, &mut extended, path, meta, what);
            Vec::new()
        }
    };
    put_link(&mut block, &mut extended, path, meta, what)?;
    put_owner(&mut block, &mut extended, meta);
    put_times(&mut block, &mut extended, meta);
    let stored = data_length(meta, what) + map.len() as u64;
    if !block.put_number(block::SIZE, stored) {
        pax::push(&mut extended, b"size", stored.to_string().as_bytes());
    }
    if matches!(meta.kind, Kind::CharDevice | Kind::BlockDevice) {
        let fits = block.put_number(block::MAJOR, u64::from(meta.rdev_major))
            && block.put_number(block::MINOR, u64::from(meta.rdev_minor));
        if !fits {
            return Err(Error::Device {
                path: escaped(path),
                major: meta.rdev_major,
                minor: meta.rdev_minor,
            });
        }
    }
    // A further name has the attributes of its file.
    if !matches!(what, Content::HardLink(_)) {
        put_attributes(&mut extended, meta);
    }
    if extended.len() as u64 > MAX_PAX {
        return Err(Error::TooLarge {
            path: escaped(path),
            length: extended.len(),
        });
    }
    let mut bytes = Vec::with_capacity(BLOCK * 3 + extended.len() + map.len());
    if !extended.is_empty() {
        let mut before = Block::new(b'x');
        before.put(block::NAME, b"././@PaxHeader");
        before.put_number(block::MODE, 0o644);
        before.put_number(block::SIZE, extended.len() as u64);
        bytes.extend_from_slice(&before.seal());
        bytes.extend_from_slice(&extended);
        pad(&mut bytes);
    }
    bytes.extend_from_slice(&block.seal());
    bytes.extend_from_slice(&map);
    Ok(bytes)
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len() + padding(bytes.len() as u64), 0);
}

fn escaped(path: &[u8]) -> String {
    path.escape_ascii().to_string()
}

fn check_path(path: &[u8], checked: &[u8]) -> Result<(), Error> {
    let reason = if checked.len() > MAX_PATH {
        "a path in it is too long"
    } else if checked.contains(&0) {
        "a path in it contains a zero byte"
    } else if checked.starts_with(b"/") || checked.ends_with(b"/") {
        "a path in it begins or ends with a slash"
    } else if !checked.is_empty()
        && checked
            .split(|&byte| byte == b'/')
            .any(|name| matches!(name, b"" | b"." | b".."))
    {
        "a path in it has an empty, '.' or '..' component"
    } else {
        return Ok(());
    };
    Err(Error::Path {
        path: escaped(path),
        reason,
    })
}

fn type_flag(kind: Kind, what: Content<'_>) -> u8 {
    match (what, kind) {
        (Content::HardLink(_), _) => b'1',
        (_, Kind::File) => b'0',
        (_, Kind::Symlink) => b'2',
        (_, Kind::CharDevice) => b'3',
        (_, Kind::BlockDevice) => b'4',
        (_, Kind::Directory) => b'5',
        (_, Kind::Fifo) => b'6',
    }
}

/// Writes the name where it fits. The extended header comes last: bsdtar complains about bytes there that
/// are not UTF-8, and takes any bytes in the old fields.
fn put_path(
    block: &mut Block,
    extended: &mut Vec<u8>,
    path: &[u8],
    meta: &Metadata,
    what: Content<'_>,
) {
    let mut name = path.to_vec();
    if meta.kind == Kind::Directory && !matches!(what, Content::HardLink(_)) {
        if name.is_empty() {
            name.push(b'.');
        }
        name.push(b'/');
    }
    if name.len() <= block::NAME.len() {
        block.put(block::NAME, &name);
    } else if let Some(at) = prefix_end(&name) {
        block.put(block::PREFIX, &name[..at]);
        block.put(block::NAME, &name[at + 1..]);
    } else {
        block.put(block::NAME, &name[..block::NAME.len()]);
        pax::push(extended, b"path", &name);
    }
}

/// Where a long name can be cut in two at a slash, so that both halves fit and none is empty.
fn prefix_end(name: &[u8]) -> Option<usize> {
    let first = name.len().checked_sub(block::NAME.len() + 1)?.max(1);
    let last = block::PREFIX.len().min(name.len().checked_sub(2)?);
    (first..=last).find(|&at| name[at] == b'/')
}

fn put_sparse_name(block: &mut Block, extended: &mut Vec<u8>, path: &[u8], meta: &Metadata) {
    let base = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
    let mut name = b"GNUSparseFile.0/".to_vec();
    name.extend_from_slice(base);
    name.truncate(block::NAME.len());
    block.put(block::NAME, &name);
    pax::push(extended, b"GNU.sparse.major", b"1");
    pax::push(extended, b"GNU.sparse.minor", b"0");
    pax::push(extended, b"GNU.sparse.name", path);
    pax::push(
        extended,
        b"GNU.sparse.realsize",
        meta.size.to_string().as_bytes(),
    );
}

fn put_link(
    block: &mut Block,
    extended: &mut Vec<u8>,
    path: &[u8],
    meta: &Metadata,
    what: Content<'_>,
) -> Result<(), Error> {
    let target: &[u8] = match (what, meta.kind) {
        (Content::HardLink(target), _) => {
            check_path(path, target)?;
            target
        }
        (_, Kind::Symlink) => &meta.link_target,
        _ => return Ok(()),
    };
    if target.is_empty() || target.contains(&0) || target.len() > MAX_PATH {
        return Err(Error::Path {
            path: escaped(path),
            reason: "its link target is empty, too long or contains a zero byte",
        });
    }
    if target.len() <= block::LINK.len() {
        block.put(block::LINK, target);
    } else {
        block.put(block::LINK, &target[..block::LINK.len()]);
        pax::push(extended, b"linkpath", target);
    }
    Ok(())
}

fn put_owner(block: &mut Block, extended: &mut Vec<u8>, meta: &Metadata) {
    block.put_number(block::MODE, u64::from(meta.mode & 0o7777));
    for (field, key, number) in [
        (block::UID, &b"uid"[..], meta.uid),
        (block::GID, b"gid", meta.gid),
    ] {
        if !block.put_number(field, u64::from(number)) {
            pax::push(extended, key, number.to_string().as_bytes());
        }
    }
    for (field, key, name) in [
        (block::USER, &b"uname"[..], &meta.user),
        (block::GROUP, b"gname", &meta.group),
    ] {
        // One byte stays free: these two fields end with a NUL.
        if name.len() < field.len() && !name.contains(&0) {
            block.put(field, name);
        } else {
            pax::push(extended, key, name);
        }
    }
}

fn put_times(block: &mut Block, extended: &mut Vec<u8>, meta: &Metadata) {
    let whole = u64::try_from(meta.mtime.seconds)
        .is_ok_and(|seconds| block.put_number(block::MTIME, seconds));
    if !whole || meta.mtime.nanos != 0 {
        pax::push(extended, b"mtime", pax::time(meta.mtime).as_bytes());
    }
    if meta.ctime != crate::entry::Time::default() {
        pax::push(extended, b"ctime", pax::time(meta.ctime).as_bytes());
    }
}

fn put_attributes(extended: &mut Vec<u8>, meta: &Metadata) {
    for xattr in &meta.xattrs {
        let text = acl::NAMES
            .iter()
            .find(|names| names.0 == xattr.name)
            .and_then(|names| Some((names.1, acl::to_text(&xattr.value)?)));
        if let Some((key, text)) = text {
            pax::push(extended, key, text.as_bytes());
        }
        let mut key = b"SCHILY.xattr.".to_vec();
        for &byte in &xattr.name {
            // GNU tar's escapes: a key ends at its first '='.
            match byte {
                b'%' => key.extend_from_slice(b"%25"),
                b'=' => key.extend_from_slice(b"%3D"),
                _ => key.push(byte),
            }
        }
        pax::push(extended, &key, &xattr.value);
    }
}

/// The map of GNU's sparse format 1.0: number of extents, then offset and length of each, a line each.
fn sparse_map(path: &[u8], meta: &Metadata, extents: &[Extent]) -> Result<Vec<u8>, Error> {
    let wrong = |reason| {
        Err(Error::Extents {
            path: escaped(path),
            reason,
        })
    };
    if meta.kind != Kind::File {
        return wrong("it is not a file");
    }
    if extents.len() > MAX_EXTENTS {
        return wrong("it has too many extents");
    }
    let mut end = 0;
    let mut lines = String::new();
    for extent in extents {
        let next = extent.offset.checked_add(extent.length);
        match next {
            Some(next) if extent.offset >= end && extent.length > 0 && next <= meta.size => {
                end = next;
            }
            _ => return wrong("its extents are empty, out of order or pass its end"),
        }
        push_line(&mut lines, extent.offset);
        push_line(&mut lines, extent.length);
    }
    // Without an empty extent at the end GNU tar would not restore a hole there.
    let count = extents.len() + usize::from(end < meta.size || extents.is_empty());
    if count > extents.len() {
        push_line(&mut lines, meta.size);
        push_line(&mut lines, 0);
    }
    let mut map = format!("{count}\n{lines}").into_bytes();
    pad(&mut map);
    Ok(map)
}

fn push_line(lines: &mut String, number: u64) {
    lines.push_str(&number.to_string());
    lines.push('\n');
}
