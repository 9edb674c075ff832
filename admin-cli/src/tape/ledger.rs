//! What the records of an archive say about its members: the hash that each file must have, and the names of what lies
//! where bytes are lost.
//!
//! An entry's record comes with the segment that holds its last byte, so a hash may be known before the file is read or
//! only afterwards. A page comes when its directory is complete; its entries say where they lie, so that files which are
//! lost together with their records still have a name.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use taf_format::page::{Decoder, Place};
use taf_format::record::{self, Body, Entry};
use taf_format::segment::Opened;

use super::Selection;

/// See the module.
#[derive(Debug, Default)]
pub struct Ledger {
    ordinal: u32,
    selection: Selection,
    /// By tar offset: hashes of members that were not reached yet.
    hashes: HashMap<u64, Vec<u8>>,
    /// By tar offset: path and hash of files that wait for their record.
    pending: HashMap<u64, (Vec<u8>, [u8; 32])>,
    losses: Vec<(Range<u64>, String)>,
    /// Ranges of the stream that have a name.
    named: Vec<Range<u64>>,
    pages: Decoder,
    /// Why the names of some pages can't be told.
    unread_pages: Option<String>,
    damaged: BTreeMap<Vec<u8>, String>,
}

impl Ledger {
    /// For the archive with this ordinal; only what is selected is named.
    pub fn new(ordinal: u32, selection: Selection) -> Self {
        Self {
            ordinal,
            selection,
            ..Self::default()
        }
    }

    /// Notes that bytes of the tar stream are lost.
    pub fn lose(&mut self, range: Range<u64>, reason: &str) {
        self.hashes.retain(|offset, _| !range.contains(offset));
        self.losses.push((range, reason.to_owned()));
    }

    /// Notes that a file is damaged.
    pub fn damage(&mut self, path: &[u8], reason: impl Into<String>) {
        self.damaged
            .entry(path.to_vec())
            .or_insert_with(|| reason.into());
    }

    /// Takes the records of a segment.
    pub fn segment(&mut self, opened: &Opened) {
        for record in record::iter(&opened.records) {
            match record.map(|record| record.record) {
                Ok(Some(Body::Entry(entry))) => self.entry(&entry),
                Ok(Some(Body::Page(page))) => self.page(&page),
                Ok(Some(Body::Dictionary(dictionary))) => {
                    if let Err(error) = self.pages.learn(dictionary.id, &dictionary.body) {
                        self.unread_pages = Some(error.to_string());
                    }
                }
                Ok(Some(Body::Tombstone(_)) | None) => {}
                Err(error) => self.unread_pages = Some(error.to_string()),
            }
        }
    }

    fn entry(&mut self, entry: &Entry) {
        let range = entry.tar_offset..entry.tar_offset.saturating_add(entry.tar_length);
        self.name_if_lost(&range, |_| entry.path.to_vec());
        // A further name has the hash of the name that carries the bytes.
        if entry.blake3.is_empty() || !entry.hard_link_to.is_empty() {
            return;
        }
        match self.pending.remove(&entry.tar_offset) {
            Some((path, found)) => self.compare(&path, &found, &entry.blake3),
            None => {
                self.hashes.insert(entry.tar_offset, entry.blake3.to_vec());
            }
        }
    }

    fn page(&mut self, record: &taf_format::record::Page) {
        // Reading pages costs, and without a loss there is nothing to name.
        if self.losses.is_empty() {
            return;
        }
        let page = match self.pages.decode(&record.chunk, &record.body, None) {
            Ok(page) => page,
            Err(error) => {
                self.unread_pages = Some(error.to_string());
                return;
            }
        };
        let ours = |place: Option<Place>, length: u64| {
            let place = place.filter(|place| place.archive_ordinal == self.ordinal)?;
            Some(place.tar_offset..place.tar_offset.saturating_add(length))
        };
        let mut ranges = Vec::new();
        if let Some(header) = &page.header
            && let Some(range) = ours(header.place, header.tar_length)
        {
            ranges.push((range, page.directory.clone()));
        }
        for entry in &page.entries {
            if let Some(range) = ours(entry.place, entry.tar_length) {
                ranges.push((range, taf_tree::path::join(&page.directory, &entry.name)));
            }
        }
        for (range, path) in ranges {
            self.name_if_lost(&range, |_| path);
        }
    }

    fn name_if_lost(&mut self, range: &Range<u64>, path: impl FnOnce(&Range<u64>) -> Vec<u8>) {
        let hit = self
            .losses
            .iter()
            .find(|(loss, _)| loss.start < range.end && range.start < loss.end);
        let Some((_, reason)) = hit else { return };
        let reason = reason.clone();
        self.named.push(range.clone());
        let path = path(range);
        if self.selection.holds(&path) {
            self.damaged.entry(path).or_insert(reason);
        }
    }

    /// The hash that the member at this offset must have, if its record was there already.
    pub fn expected(&mut self, tar_offset: u64) -> Option<Vec<u8>> {
        self.hashes.remove(&tar_offset)
    }

    /// A file was read before its record came: it is compared when it comes.
    pub fn verify(&mut self, tar_offset: u64, path: &[u8], found: [u8; 32]) {
        match self.hashes.remove(&tar_offset) {
            Some(expected) => self.compare(path, &found, &expected),
            None => {
                self.pending.insert(tar_offset, (path.to_vec(), found));
            }
        }
    }

    fn compare(&mut self, path: &[u8], found: &[u8; 32], expected: &[u8]) {
        if found.as_slice() != expected {
            self.damage(
                path,
                "its content differs from what was backed up; what was written is not to be trusted",
            );
        }
    }

    /// What is damaged, by path, with the reason.
    pub fn damaged(&self) -> &BTreeMap<Vec<u8>, String> {
        &self.damaged
    }

    /// What is lost of the tar stream, with the reason.
    pub fn losses(&self) -> &[(Range<u64>, String)] {
        &self.losses
    }

    /// Files whose record never came, so that their content could not be checked.
    pub fn unverified(&self) -> usize {
        self.pending.len()
    }

    /// Bytes of lost tar that belong to nothing that has a name.
    pub fn unnamed(&self) -> u64 {
        let named = merged(self.named.iter());
        let mut bytes = 0_u64;
        for loss in merged(self.losses.iter().map(|(range, _)| range)) {
            let mut at = loss.start;
            for range in named.iter().filter(|range| range.start < loss.end) {
                bytes = bytes.saturating_add(range.start.saturating_sub(at));
                at = at.max(range.end);
            }
            bytes = bytes.saturating_add(loss.end.saturating_sub(at));
        }
        bytes
    }
}

/// The same bytes as ranges in order that do not touch.
fn merged<'a>(ranges: impl Iterator<Item = &'a Range<u64>>) -> Vec<Range<u64>> {
    let mut sorted: Vec<Range<u64>> = ranges.cloned().collect();
    sorted.sort_by_key(|range| range.start);
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in sorted {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lost_bytes_without_a_name_are_counted_once() {
        let mut ledger = Ledger::default();
        ledger.lose(100..200, "a");
        ledger.lose(150..300, "b");
        ledger.lose(500..600, "c");
        assert_eq!(ledger.unnamed(), 300);
        let entry = |tar_offset, tar_length| Entry {
            path: b"srv/x".to_vec().into(),
            tar_offset,
            tar_length,
            ..Entry::default()
        };
        ledger.entry(&entry(50, 100));
        ledger.entry(&entry(250, 300));
        assert_eq!(ledger.unnamed(), 100 + 50);
        assert_eq!(ledger.damaged().len(), 1);
        ledger.entry(&entry(300, 100));
        assert_eq!(ledger.damaged().len(), 1);
    }
}
