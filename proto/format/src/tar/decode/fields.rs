//! What the extended headers of one member say, and how it joins with the header block.

use super::{Error, header_error};
use crate::entry::{Kind, Metadata, Time, Xattr};
use crate::tar::block::{self, Block};
use crate::tar::{acl, pax};
use std::collections::BTreeMap;
use std::ops::Range;

/// The values of a member's extended headers, later ones over earlier ones.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub(super) path: Option<Vec<u8>>,
    /// The keywords `GNU.sparse.*` without that prefix.
    pub(super) sparse: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) unread: Vec<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    user: Option<Vec<u8>>,
    group: Option<Vec<u8>>,
    mtime: Option<Time>,
    ctime: Option<Time>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// ACLs given as text, by the name of their attribute.
    acls: BTreeMap<&'static [u8], Vec<u8>>,
}

impl Fields {
    /// Takes in the records of an extended header.
    pub(super) fn take(&mut self, mut records: &[u8], at: u64) -> Result<(), Error> {
        while !records.is_empty() {
            let (key, value, rest) =
                pax::pop(records).map_err(|reason| header_error(at, reason))?;
            self.set(key, value, at)?;
            records = rest;
        }
        Ok(())
    }

    /// Takes in GNU's long names, which the extended header outranks.
    pub(super) fn set_long(&mut self, path: Option<Vec<u8>>, link: Option<Vec<u8>>) {
        let text = |mut bytes: Vec<u8>| {
            if let Some(end) = bytes.iter().position(|&byte| byte == 0) {
                bytes.truncate(end);
            }
            bytes
        };
        self.path = self.path.take().or(path.map(text));
        self.link = self.link.take().or(link.map(text));
    }

    fn set(&mut self, key: &[u8], value: &[u8], at: u64) -> Result<(), Error> {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            self.xattrs.insert(unescape(name), value.to_vec());
            return Ok(());
        }
        if let Some(name) = key.strip_prefix(b"GNU.sparse.") {
            self.sparse.insert(name.to_vec(), value.to_vec());
            return Ok(());
        }
        if let Some(names) = acl::NAMES.iter().find(|names| names.1 == key) {
            if let Some(attribute) = acl::from_text(value) {
                self.acls.insert(names.0, attribute);
            } else {
                self.unread.push(key.to_vec());
            }
            return Ok(());
        }
        // An empty value takes back what a global header said.
        let some = (!value.is_empty()).then(|| value.to_vec());
        match key {
            b"path" => self.path = checked_text(some, at)?,
            b"linkpath" => self.link = checked_text(some, at)?,
            b"uname" => self.user = some,
            b"gname" => self.group = some,
            b"size" => self.size = number(some, at)?,
            b"uid" => self.uid = number(some, at)?,
            b"gid" => self.gid = number(some, at)?,
            b"mtime" => self.mtime = time(some, at)?,
            b"ctime" => self.ctime = time(some, at)?,
            b"atime" | b"comment" | b"hdrcharset" => {}
            _ => self.unread.push(key.to_vec()),
        }
        Ok(())
    }

    /// Length in bytes of the stored data.
    pub(super) fn size(&self, block: &Block, at: u64) -> Result<u64, Error> {
        let size = match self.size {
            Some(size) => size,
            None => unsigned(block, block::SIZE, at)?,
        };
        // Room for sums of offsets and lengths without overflow.
        if size > i64::MAX as u64 {
            return Err(header_error(at, "its size is above 2^63"));
        }
        Ok(size)
    }

    /// A sparse file's name and real size.
    pub(super) fn sparse_1_0(&self, at: u64) -> Result<(Option<Vec<u8>>, u64), Error> {
        let value = |key: &[u8]| self.sparse.get(key).map(Vec::as_slice);
        if value(b"major") != Some(b"1") || value(b"minor") != Some(b"0") {
            let what = "a sparse file of a format other than 1.0".to_owned();
            return Err(Error::Unsupported { offset: at, what });
        }
        let size = value(b"realsize")
            .and_then(pax::number)
            .ok_or(header_error(at, "a sparse file has no size"))?;
        let name = checked_text(value(b"name").map(<[u8]>::to_vec), at)?;
        Ok((name, size))
    }

    /// The member's metadata but its size.
    pub(super) fn metadata(&self, block: &Block, kind: Kind, at: u64) -> Result<Metadata, Error> {
        let mtime = match self.mtime {
            Some(mtime) => mtime,
            None => Time {
                seconds: block
                    .number(block::MTIME)
                    .and_then(|seconds| i64::try_from(seconds).ok())
                    .ok_or(header_error(at, "its time is not a number"))?,
                nanos: 0,
            },
        };
        let (rdev_major, rdev_minor) = match kind {
            Kind::CharDevice | Kind::BlockDevice => (
                id(unsigned(block, block::MAJOR, at)?, at)?,
                id(unsigned(block, block::MINOR, at)?, at)?,
            ),
            _ => (0, 0),
        };
        let text = |known: &Option<Vec<u8>>, field: Range<usize>| match known {
            Some(text) => text.clone(),
            None => block.text(field).to_vec(),
        };
        let mut xattrs = self.xattrs.clone();
        for (&name, attribute) in &self.acls {
            // The kernel's own form, where there is one, is exact.
            xattrs
                .entry(name.to_vec())
                .or_insert_with(|| attribute.clone());
        }
        let linked = matches!(kind, Kind::Symlink) || block.kind() == b'1';
        Ok(Metadata {
            kind,
            size: 0,
            mode: (unsigned(block, block::MODE, at)? & 0o7777) as u32,
            uid: match self.uid {
                Some(uid) => id(uid, at)?,
                None => id(unsigned(block, block::UID, at)?, at)?,
            },
            gid: match self.gid {
                Some(gid) => id(gid, at)?,
                None => id(unsigned(block, block::GID, at)?, at)?,
            },
            user: text(&self.user, block::USER),
            group: text(&self.group, block::GROUP),
            mtime,
            ctime: self.ctime.unwrap_or_default(),
            inode: 0,
            links: 0,
            rdev_major,
            rdev_minor,
            link_target: if linked {
                text(&self.link, block::LINK)
            } else {
                Vec::new()
            },
            xattrs: xattrs
                .into_iter()
                .map(|(name, value)| Xattr { name, value })
                .collect(),
        })
    }
}

/// GNU tar's escapes in attribute names, and no others.
fn unescape(name: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%' && after.starts_with(b"25") {
            plain.push(b'%');
            rest = &after[2..];
        } else if byte == b'%' && after.starts_with(b"3D") {
            plain.push(b'=');
            rest = &after[2..];
        } else {
            plain.push(byte);
        }
    }
    plain
}

fn checked_text(value: Option<Vec<u8>>, at: u64) -> Result<Option<Vec<u8>>, Error> {
    if value.as_ref().is_some_and(|text| text.contains(&0)) {
        return Err(header_error(at, "a path contains a zero byte"));
    }
    Ok(value)
}

fn number(value: Option<Vec<u8>>, at: u64) -> Result<Option<u64>, Error> {
    let Some(value) = value else { return Ok(None) };
    let number = pax::number(&value).ok_or(header_error(at, "an extended number is not one"))?;
    Ok(Some(number))
}

fn time(value: Option<Vec<u8>>, at: u64) -> Result<Option<Time>, Error> {
    let Some(value) = value else { return Ok(None) };
    let time = pax::parse_time(&value).ok_or(header_error(at, "an extended time is not one"))?;
    Ok(Some(time))
}

fn unsigned(block: &Block, field: Range<usize>, at: u64) -> Result<u64, Error> {
    block
        .number(field)
        .and_then(|number| u64::try_from(number).ok())
        .ok_or(header_error(at, "a number in it is not one"))
}

fn id(number: u64, at: u64) -> Result<u32, Error> {
    u32::try_from(number).map_err(|_| header_error(at, "an owner or device number is too large"))
}
