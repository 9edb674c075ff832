//! Copying: a version's pages and members become an archive of their own, without a look at the files.
//!
//! Pages come in catalog order and keep all that they say but the places. Members are read where the pages say; what a header
//! says of owner, mode and times gives way to the page, which may be newer. Content counts only if its hash is the page's. The first
//! entry that can't be had ends the writing, for a full version without it must not be; the rest is still read, so that all of
//! them are named.

use std::io::Read;

use taf_format::entry::{Kind, Metadata, Time};
use taf_format::page::{self, Dictionaries, DirectoryStat, FLAG_XATTRS_OMITTED, HASH, Page, Place};
use taf_format::segment::Identity;
use taf_format::tar::decode::{Content, Decoder, Member};
use taf_format::tar::{self, encode};
use taf_tree::{Digest, path};

use super::{BUFFER, Error, Mode, Outlets, Packer, Totals, entry_record};
use crate::backup::links::{Carried, Carrier, Links, Met};
use crate::backup::step::Link;
use crate::fault;
use crate::progress::Counters;

/// Where pages and members come from.
pub trait Copies {
    /// The next page, in catalog order; `None` when all have come.
    ///
    /// # Errors
    /// Why it can't come.
    fn page(&mut self) -> Result<Option<Page>, fault::Error>;

    /// The tar bytes of the entry at `place`, `length` bytes from its header on. Of each archive places are asked for in the order
    /// of its tape, but for those of entries with several names.
    ///
    /// # Errors
    /// Why there are none.
    fn member(&mut self, place: Place, length: u64) -> Result<Box<dyn Read + '_>, Missing>;

    /// Whether nothing comes any more, whatever is asked for: what was read last ended for that reason.
    fn ended(&self) -> bool;

    /// Takes what could not be copied, and why.
    fn damaged(&mut self, path: &[u8], why: String);
}

/// Why the bytes of an entry don't come.
#[derive(Debug)]
pub enum Missing {
    /// They are damaged.
    Damaged(String),
    /// Nothing else will come either.
    Failed(fault::Error),
}

/// What keeps an entry from being copied.
enum Flaw {
    /// It is damaged, and others may be had.
    Damaged(String),
    /// It is over.
    Over(Error),
}

impl From<Error> for Flaw {
    fn from(error: Error) -> Self {
        Self::Over(error)
    }
}

impl From<Missing> for Flaw {
    fn from(missing: Missing) -> Self {
        match missing {
            Missing::Damaged(why) => Self::Damaged(why),
            Missing::Failed(error) => Self::Over(Error::Base(error)),
        }
    }
}

/// Copies everything into the archive `identity`.
///
/// # Errors
/// [`Error::Damaged`] if something can't be had; each of it is an issue then, and no archive has come to its end.
pub fn copy(
    copies: &mut impl Copies,
    identity: Identity,
    links: &Links,
    dictionaries: Dictionaries,
    outlets: Outlets<'_>,
) -> Result<Totals, Error> {
    let mut packer = Packer::new(identity, Mode::FULL, links, dictionaries, outlets)?;
    while let Some(page) = copies.page().map_err(Error::Base)? {
        packer.copy_page(page, copies)?;
    }
    packer.finish()
}

impl Packer<'_, '_> {
    fn copy_page(&mut self, mut page: Page, copies: &mut impl Copies) -> Result<(), Error> {
        if let Some(header) = page.header.as_mut().filter(|_| !page.directory.is_empty()) {
            self.out.counters.path(&page.directory);
            self.totals.directories += 1;
            Counters::add(&self.out.counters.directories, 1);
            let copied = self.copy_directory(&page.directory, header, copies);
            self.note(&page.directory, copied, copies)?;
        }
        let entries = page.entries.iter_mut();
        for entry in entries.filter(|entry| entry.kind != Kind::Directory) {
            if self.out.stop.is_cancelled() {
                return Err(Error::Stopped);
            }
            let path = path::join(&page.directory, &entry.name);
            let copied = self.copy_entry(&path, entry, copies);
            self.note(&path, copied, copies)?;
        }
        self.write_page(&page)
    }

    /// Names what could not be copied.
    fn note(
        &mut self,
        path: &[u8],
        copied: Result<(), Flaw>,
        copies: &mut impl Copies,
    ) -> Result<(), Error> {
        match copied {
            Ok(()) => Ok(()),
            Err(Flaw::Over(error)) => Err(error),
            // That is no damage of this entry.
            Err(Flaw::Damaged(_)) if copies.ended() => Err(Error::Stopped),
            Err(Flaw::Damaged(why)) => {
                self.damaged += 1;
                copies.damaged(path, why);
                Ok(())
            }
        }
    }

    fn copy_directory(
        &mut self,
        path: &[u8],
        stat: &mut DirectoryStat,
        copies: &mut impl Copies,
    ) -> Result<(), Flaw> {
        let Some(place) = stat.place else {
            return Ok(());
        };
        let mut meta = of_directory(stat);
        if stat.flags & FLAG_XATTRS_OMITTED != 0 {
            let bytes = copies.member(place, stat.tar_length)?;
            let member = first(&mut Decoder::starting_at(bytes, place.tar_offset))?;
            if member.meta.kind != Kind::Directory || member.path != path {
                return Err(other(&member));
            }
            meta.xattrs = member.meta.xattrs;
        }
        let header = header(path, &meta, encode::Content::Data)?;
        let length = header.len() as u64;
        let place = self.begin(length)?;
        self.push(&header)?;
        self.record(entry_record(path, &meta, place, length, None))?;
        stat.place = Some(place);
        stat.tar_length = length;
        Ok(())
    }

    fn copy_entry(
        &mut self,
        path: &[u8],
        entry: &mut page::Entry,
        copies: &mut impl Copies,
    ) -> Result<(), Flaw> {
        // Nothing of it was ever stored, and its page says so.
        let Some(place) = entry.place else {
            return Ok(());
        };
        self.out.counters.path(path);
        self.count_file();
        let link = (entry.link_group != 0).then(|| one_file(place, entry.kind));
        if let Some(link) = &link
            && let Met::Again { here, .. } = self.links.meet(self.ordinal, link)
        {
            let mut meta = of_entry(entry);
            if !self.link_member(path, &mut meta, &here)? {
                return Err(Flaw::Damaged("no header can be made for it".into()));
            }
            point(entry, &here);
            return Ok(());
        }
        let bytes = copies.member(place, entry.tar_length)?;
        let mut decoder = Decoder::starting_at(bytes, place.tar_offset);
        let mut member = first(&mut decoder)?;
        // Of several names another one may have carried the bytes.
        let is_it = entry.link_group != 0 || member.path == path;
        let size = if entry.kind == Kind::File {
            entry.size
        } else {
            0
        };
        if !is_it || (member.meta.kind, member.meta.size) != (entry.kind, size) {
            return Err(other(&member));
        }
        overrule(&mut member.meta, entry);
        let extents = match &member.content {
            Content::HardLink { .. } => return Err(other(&member)),
            Content::Sparse { extents, .. } => Some(extents.as_slice()),
            Content::Data { .. } => None,
        };
        let what = extents.map_or(encode::Content::Data, encode::Content::Sparse);
        let header = header(path, &member.meta, what)?;
        let data = encode::data_length(&member.meta, what);
        let padding = tar::padding(data);
        let tar_length = header.len() as u64 + data + padding as u64;
        let place = self.begin(tar_length)?;
        self.push(&header)?;
        let digest = (entry.kind == Kind::File).then(|| Digest::new(entry.size, extents));
        let hash = self.copy_data(&mut decoder, data, digest)?;
        let found: Option<[u8; HASH]> = hash.and_then(|hash| hash.first_chunk().copied());
        if entry.hash.is_some() && found != entry.hash {
            return Err(Flaw::Damaged(
                "its content differs from what was backed up: the hash does not match".into(),
            ));
        }
        self.push(&[0; tar::BLOCK][..padding])?;
        self.record(entry_record(path, &member.meta, place, tar_length, hash))?;
        self.totals.bytes += entry.size;
        let carrier = Carrier {
            path: path.to_vec(),
            place,
            tar_length,
            blake3: hash,
            hash: entry.hash,
            changed: entry.changed_while_read,
        };
        if let Some(link) = &link
            && self.links.carry(link, &carrier) != Carried::First
        {
            return Err(Flaw::Damaged("its names can't be told apart".into()));
        }
        point(entry, &carrier);
        Ok(())
    }

    fn copy_data(
        &mut self,
        decoder: &mut Decoder<Box<dyn Read + '_>>,
        length: u64,
        mut digest: Option<Digest>,
    ) -> Result<Option<[u8; 32]>, Flaw> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(BUFFER, 0);
        let mut left = length;
        while left > 0 {
            if self.out.stop.is_cancelled() {
                return Err(Flaw::Over(Error::Stopped));
            }
            let read = decoder.read_data(&mut buffer).map_err(damaged)?;
            if read == 0 || read as u64 > left {
                return Err(Flaw::Damaged(
                    "its length is not what its header says".into(),
                ));
            }
            if let Some(digest) = &mut digest {
                digest.update(&buffer[..read]);
            }
            self.push(&buffer[..read])?;
            Counters::add(&self.out.counters.bytes, read as u64);
            left -= read as u64;
        }
        self.buffer = buffer;
        Ok(digest.and_then(Digest::finish))
    }
}

/// The member that the bytes begin with.
fn first(decoder: &mut Decoder<Box<dyn Read + '_>>) -> Result<Member, Flaw> {
    match decoder.next() {
        Ok(Some(member)) => Ok(member),
        Ok(None) => Err(Flaw::Damaged("the archive ends at its place".into())),
        Err(error) => Err(damaged(error)),
    }
}

fn damaged(error: tar::decode::Error) -> Flaw {
    Flaw::Damaged(match error {
        tar::decode::Error::Io { source, .. } => source.to_string(),
        other => other.to_string(),
    })
}

fn other(member: &Member) -> Flaw {
    let shown = path::display(&member.path);
    Flaw::Damaged(format!("another entry is at its place: {shown}"))
}

fn header(path: &[u8], meta: &Metadata, what: encode::Content<'_>) -> Result<Vec<u8>, Flaw> {
    encode::header(path, meta, what).map_err(|error| Flaw::Damaged(error.to_string()))
}

/// What all names of one file have in common here: where its bytes were. How many names are still to come nobody knows.
fn one_file(place: Place, kind: Kind) -> Link {
    Link {
        device: u64::from(place.archive_ordinal),
        inode: place.tar_offset,
        names: u32::MAX,
        kind,
        size: 0,
        mtime: Time::default(),
    }
}

fn point(entry: &mut page::Entry, carrier: &Carrier) {
    entry.place = Some(carrier.place);
    entry.tar_length = carrier.tar_length;
}

/// The header may be of an earlier version than the page.
fn overrule(meta: &mut Metadata, entry: &page::Entry) {
    if (meta.uid, meta.gid) != (entry.uid, entry.gid) {
        meta.user.clear();
        meta.group.clear();
    }
    meta.mode = entry.mode;
    meta.uid = entry.uid;
    meta.gid = entry.gid;
    meta.mtime = entry.mtime;
    meta.ctime = entry.ctime;
    meta.inode = entry.inode;
}

fn of_entry(entry: &page::Entry) -> Metadata {
    Metadata {
        kind: entry.kind,
        size: entry.size,
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        user: Vec::new(),
        group: Vec::new(),
        mtime: entry.mtime,
        ctime: entry.ctime,
        inode: entry.inode,
        links: 2,
        rdev_major: entry.rdev_major,
        rdev_minor: entry.rdev_minor,
        link_target: entry.link_target.clone(),
        xattrs: Vec::new(),
    }
}

fn of_directory(stat: &DirectoryStat) -> Metadata {
    Metadata {
        kind: Kind::Directory,
        size: 0,
        mode: stat.mode,
        uid: stat.uid,
        gid: stat.gid,
        user: stat.user.clone(),
        group: stat.group.clone(),
        mtime: stat.mtime,
        ctime: stat.ctime,
        inode: stat.inode,
        links: 1,
        rdev_major: 0,
        rdev_minor: 0,
        link_target: Vec::new(),
        xattrs: stat.xattrs.clone(),
    }
}
