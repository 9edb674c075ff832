//! Files with several names, and those whose bytes the base has: what the tar stream gets of them, and what their pages say.

use bytes::Bytes;
use taf_format::entry::Metadata;
use taf_format::page;
use taf_format::tar::encode;
use taf_tree::{IssueKind, path};

use super::{Error, Packer, entry_record};
use crate::backup::links::Carrier;
use crate::backup::listing::OpenListing;
use crate::backup::step::{Found, Kept};

impl Packer<'_, '_> {
    /// An entry whose bytes are where the base has them.
    pub(super) fn kept(&mut self, kept: Kept) -> Result<(), Error> {
        let Kept { mut entry, link } = kept;
        self.count_file();
        let mut first = true;
        if let (Some(link), Some(place)) = (link, entry.place) {
            let path = self.path_of(&entry.name);
            let carrier = Carrier {
                path: path.clone(),
                place,
                tar_length: entry.tar_length,
                blake3: None,
                hash: entry.hash,
                changed: entry.changed_while_read,
            };
            first = self.links.place(&link).is_none();
            let (listed, here) = self.links.keep(self.ordinal, &link, carrier);
            if listed.place != place {
                entry.place = Some(listed.place);
                entry.tar_length = listed.tar_length;
                entry.hash = listed.hash;
                entry.changed_while_read = listed.changed;
            }
            if let Some(here) = here {
                self.link_to(&path, &entry, &here)?;
            }
        }
        if first {
            self.totals.bytes += entry.size;
        }
        self.push_entry(entry)
    }

    /// A name of what the archive has, though the base has it too: who unpacks this archive over the one before needs it.
    fn link_to(&mut self, path: &[u8], entry: &page::Entry, here: &Carrier) -> Result<(), Error> {
        let mut meta = Metadata {
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
        };
        self.link_member(path, &mut meta, here).map(drop)
    }

    pub(super) fn path_of(&self, name: &[u8]) -> Vec<u8> {
        let directory = self.open.last().and_then(Option::as_ref);
        path::join(directory.map_or(&[][..], OpenListing::path), name)
    }

    /// A name of what this archive has already: `here` in the tar stream, `listed` in the page.
    pub(super) fn further_name(
        &mut self,
        found: &Found,
        here: &Carrier,
        listed: &Carrier,
    ) -> Result<(), Error> {
        let mut meta = found.item.meta.clone();
        if !self.link_member(&found.item.path, &mut meta, here)? {
            return self.list(found, None);
        }
        self.count_file();
        self.list(found, Some(listed))
    }

    /// A hard link; false, with an issue, if there can be none.
    pub(super) fn link_member(
        &mut self,
        path: &[u8],
        meta: &mut Metadata,
        here: &Carrier,
    ) -> Result<bool, Error> {
        let what = encode::Content::HardLink(&here.path);
        let Some(header) = self.header(path, meta, what) else {
            return Ok(false);
        };
        self.begin(header.len() as u64)?;
        self.push(&header)?;
        let mut entry = entry_record(path, meta, here.place, here.tar_length, here.blake3);
        entry.hard_link_to = Bytes::copy_from_slice(&here.path);
        self.record(entry)?;
        Ok(true)
    }

    pub(super) fn is_different(&mut self, path: &[u8]) {
        self.issue(
            path,
            IssueKind::Changed,
            "was changed between two of its names, and is stored again",
        );
    }
}
