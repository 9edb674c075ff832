//! What a version has in each of its archives, and what of that a synthetic full spools.

use std::collections::{BTreeMap, HashSet};

use taf_proto::feed::SPOOL_HEAD;

use super::recall::is_item;
use super::walk::Walk;
use super::{Error, View};

/// What a version has in one archive: each inode once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Share {
    /// Bytes of tar.
    pub bytes: u64,
    /// Members.
    members: u64,
    /// Bytes of tar of members with several names.
    linked_bytes: u64,
    /// Members with several names.
    linked_members: u64,
}

impl Share {
    fn add(&mut self, length: u64, linked: bool) {
        self.bytes = self.bytes.saturating_add(length);
        self.members += 1;
        if linked {
            self.linked_bytes = self.linked_bytes.saturating_add(length);
            self.linked_members += 1;
        }
    }

    /// Bytes that it takes in a spool, with the head of each member.
    pub fn spooled(&self) -> u64 {
        let heads = self.members.saturating_mul(SPOOL_HEAD);
        self.bytes.saturating_add(heads)
    }

    /// Bytes that it may take there if it is streamed: members with several names may be passed by, and asked for later.
    pub fn passed_by(&self) -> u64 {
        let heads = self.linked_members.saturating_mul(SPOOL_HEAD);
        self.linked_bytes.saturating_add(heads)
    }
}

/// What a version has in each archive, by ordinal.
pub async fn of(view: &View) -> Result<BTreeMap<u32, Share>, Error> {
    let mut shares: BTreeMap<u32, Share> = BTreeMap::new();
    let mut linked = HashSet::new();
    let mut pages = Walk::below(view, b"");
    while let Some(page) = pages.next().await? {
        let header = page
            .header
            .iter()
            .map(|header| (header.place, header.tar_length, false));
        let entries = page.entries.iter().filter(|entry| {
            is_item(entry) && (entry.link_group == 0 || linked.insert(entry.place))
        });
        let entries = entries.map(|entry| (entry.place, entry.tar_length, entry.link_group != 0));
        for (place, length, linked) in header.chain(entries) {
            if let Some(place) = place {
                let share = shares.entry(place.archive_ordinal).or_default();
                share.add(length, linked);
            }
        }
    }
    Ok(shares)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spool_takes_heads_and_what_may_be_passed_by_too() {
        let mut share = Share::default();
        share.add(512, false);
        share.add(2048, true);
        share.add(1024, false);
        assert_eq!(share.bytes, 3584);
        assert_eq!(share.spooled(), 3584 + 3 * SPOOL_HEAD);
        assert_eq!(share.passed_by(), 2048 + SPOOL_HEAD);
        assert_eq!(Share::default().passed_by(), 0);
    }
}
