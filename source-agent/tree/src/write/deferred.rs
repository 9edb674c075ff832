//! Directories' metadata, kept until everything below them is written.
//!
//! A directory's time changes with each entry made in it, and its mode may forbid making any. So its metadata waits,
//! in memory up to a bound and beyond it in an unlinked temporary file, and is handed back last first: children
//! before their parents.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use taf_format::entry::{Kind, Metadata, Time, Xattr};

/// Bytes kept in memory before they go to the file.
const IN_MEMORY: usize = 1 << 20;

/// What a directory is known by to who pushes it: to a target its device and inode.
pub type Identity = (u64, u64);

/// A stack of (path, identity, metadata). Each record is followed by its length, so that it can be read from behind.
#[derive(Debug, Default)]
pub struct Deferred {
    memory: Vec<u8>,
    file: Option<File>,
    in_file: u64,
}

impl Deferred {
    /// Adds a directory.
    ///
    /// # Errors
    /// Those of the temporary file.
    pub fn push(&mut self, path: &[u8], identity: Identity, meta: &Metadata) -> io::Result<()> {
        let start = self.memory.len();
        encode(&mut self.memory, path, identity, meta);
        let length = self.memory.len() - start;
        let length = u32::try_from(length)
            .map_err(|_| io::Error::other("a directory's metadata is above 4 GiB"))?;
        self.memory.extend(length.to_le_bytes());
        if self.memory.len() > IN_MEMORY {
            let file = match &mut self.file {
                Some(file) => file,
                None => self.file.insert(tempfile::tempfile()?),
            };
            file.write_all_at(&self.memory, self.in_file)?;
            self.in_file += self.memory.len() as u64;
            self.memory.clear();
        }
        Ok(())
    }

    /// The one pushed last of those still here. Of its metadata it has what a directory is given: no ctime, inode, links.
    ///
    /// # Errors
    /// Those of the temporary file.
    pub fn pop(&mut self) -> io::Result<Option<(Vec<u8>, Identity, Metadata)>> {
        if self.memory.is_empty() {
            let Some(file) = self.file.as_ref().filter(|_| self.in_file > 0) else {
                return Ok(None);
            };
            // A file's worth of memory at a time would cut a record; one record at a time never does.
            let mut length = [0; 4];
            file.read_exact_at(&mut length, self.in_file - 4)?;
            let length = u64::from(u32::from_le_bytes(length));
            let start = self.in_file.checked_sub(4 + length).ok_or_else(damaged)?;
            self.memory.resize(4 + length as usize, 0);
            file.read_exact_at(&mut self.memory, start)?;
            self.in_file = start;
        }
        let end = self.memory.len().checked_sub(4).ok_or_else(damaged)?;
        let (records, length) = self.memory.split_at(end);
        let length = u32::from_le_bytes(length.try_into().map_err(|_| damaged())?) as usize;
        let start = records.len().checked_sub(length).ok_or_else(damaged)?;
        let decoded = decode(&records[start..]).ok_or_else(damaged)?;
        self.memory.truncate(start);
        Ok(Some(decoded))
    }
}

fn damaged() -> io::Error {
    io::Error::other("the temporary file with directories' metadata is damaged")
}

fn encode(out: &mut Vec<u8>, path: &[u8], identity: Identity, meta: &Metadata) {
    let mut bytes = |bytes: &[u8]| {
        out.extend((bytes.len() as u32).to_le_bytes());
        out.extend(bytes);
    };
    bytes(path);
    bytes(&meta.user);
    bytes(&meta.group);
    for xattr in &meta.xattrs {
        bytes(&xattr.name);
        bytes(&xattr.value);
    }
    out.extend((meta.xattrs.len() as u32).to_le_bytes());
    out.extend(meta.mtime.seconds.to_le_bytes());
    for number in [meta.mtime.nanos, meta.mode, meta.uid, meta.gid] {
        out.extend(number.to_le_bytes());
    }
    out.extend(identity.0.to_le_bytes());
    out.extend(identity.1.to_le_bytes());
}

/// Bytes of what follows the variable part of a record.
const FIXED: usize = 4 + 8 + 4 * 4 + 2 * 8;

fn decode(record: &[u8]) -> Option<(Vec<u8>, Identity, Metadata)> {
    let (mut rest, fixed) = record.split_at_checked(record.len().checked_sub(FIXED)?)?;
    let number = |at: usize| {
        fixed
            .get(at..at + 4)?
            .try_into()
            .ok()
            .map(u32::from_le_bytes)
    };
    let mut bytes = || {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (value, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        rest = after;
        Some(value.to_vec())
    };
    let (path, user, group) = (bytes()?, bytes()?, bytes()?);
    let mut xattrs = Vec::new();
    for _ in 0..number(0)? {
        xattrs.push(Xattr {
            name: bytes()?,
            value: bytes()?,
        });
    }
    let meta = Metadata {
        kind: Kind::Directory,
        size: 0,
        mode: number(16)?,
        uid: number(20)?,
        gid: number(24)?,
        user,
        group,
        mtime: Time {
            seconds: i64::from_le_bytes(fixed.get(4..12)?.try_into().ok()?),
            nanos: number(12)?,
        },
        ctime: Time::default(),
        inode: 0,
        links: 0,
        rdev_major: 0,
        rdev_minor: 0,
        link_target: Vec::new(),
        xattrs,
    };
    let wide = |at: usize| {
        fixed
            .get(at..at + 8)?
            .try_into()
            .ok()
            .map(u64::from_le_bytes)
    };
    Some((path, (wide(28)?, wide(36)?), meta))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_was_pushed_comes_back_last_first_from_file_and_memory() {
        let mut deferred = Deferred::default();
        let meta = |n: u32| Metadata {
            mode: n & 0o7777,
            uid: n,
            gid: n + 1,
            user: b"alice".to_vec(),
            mtime: Time {
                seconds: -i64::from(n),
                nanos: n,
            },
            xattrs: vec![Xattr {
                name: b"user.a".to_vec(),
                value: vec![n as u8; 100],
            }],
            ..decode(&{
                let mut record = vec![0; 3 * 4];
                record.extend([0; FIXED]);
                record
            })
            .unwrap()
            .2
        };
        for n in 0..20_000 {
            deferred
                .push(n.to_string().as_bytes(), (n.into(), 7), &meta(n))
                .unwrap();
        }
        assert!(deferred.file.is_some());
        for n in (0..20_000).rev() {
            assert_eq!(
                deferred.pop().unwrap(),
                Some((n.to_string().into_bytes(), (n.into(), 7), meta(n)))
            );
        }
        assert_eq!(deferred.pop().unwrap(), None);
    }
}
