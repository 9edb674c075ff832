//! Checks the members of an archive's segments, one run of parts at a time: every file's content against the hash in its record,
//! and names what lies where bytes are lost.
//!
//! Pure: segments come in, what is wrong comes out. A file that begins before the run or ends behind it can't be hashed here;
//! its bytes are proved by its segments' checksums, and it is counted apart.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::rc::Rc;
use std::sync::mpsc::Receiver;

use taf_format::entry::Kind;
use taf_format::page;
use taf_format::record::{self, Body};
use taf_format::segment::{Opened, Stream, Supply};
use taf_format::tar::decode::{Content, Decoder};
use taf_tree::digest::Digest;

/// Bytes of content hashed at once.
const BUFFER: usize = 256 << 10;

/// What is read of a run, in order.
pub enum Piece {
    /// A whole segment.
    Segment(Box<Opened>),
    /// Bytes of the tar stream that are lost, and why.
    Lost(Range<u64>, String),
}

/// A file or directory that is damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// Where it lies in the tar stream.
    pub tar: Range<u64>,
    /// Why, for people.
    pub reason: String,
}

/// What came of a run.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Files whose content is what was backed up.
    pub files: u64,
    /// Files that lie here in part only, or whose record is lost: their bytes are proved by checksums alone.
    pub unproved: u64,
    /// What is damaged, by path.
    pub damaged: BTreeMap<Vec<u8>, Damaged>,
    /// Lost bytes that have no name.
    pub unnamed: Vec<(Range<u64>, String)>,
}

/// Checks a run of the archive with this ordinal that begins at `begin` of its tar stream.
pub fn check(ordinal: u32, begin: u64, pieces: Receiver<Piece>) -> Found {
    let ledger = Rc::new(RefCell::new(Ledger {
        ordinal,
        begin,
        ..Ledger::default()
    }));
    let supply = Pieces {
        coming: pieces,
        ledger: Rc::clone(&ledger),
    };
    members(Stream::new(supply));
    ledger.take().finish()
}

/// Reads all members; what they are is in the ledger then.
fn members(mut stream: Stream<Pieces>) {
    let Some(first) = stream.resume() else {
        return;
    };
    let ledger = Rc::clone(&stream.supply().ledger);
    let mut decoder = Decoder::starting_at(stream, first);
    let mut buffer = vec![0; BUFFER];
    loop {
        match decoder.next() {
            Ok(Some(member)) => {
                let at = member.header_offset;
                let extents = match &member.content {
                    Content::Data { .. } => None,
                    Content::Sparse { extents, .. } => Some(extents.as_slice()),
                    Content::HardLink { .. } => continue,
                };
                if member.meta.kind != Kind::File {
                    continue;
                }
                let mut digest = Digest::new(member.meta.size, extents);
                let whole = loop {
                    match decoder.read_data(&mut buffer) {
                        Ok(0) => break true,
                        Ok(length) => digest.update(&buffer[..length]),
                        Err(_) => break false,
                    }
                };
                if whole {
                    ledger.borrow_mut().read(at, digest.finish());
                }
            }
            Ok(None) if decoder.ended() => {
                decoder.into_inner().drain();
                return;
            }
            Ok(None) | Err(_) => {
                let mut stream = decoder.into_inner();
                let Some(offset) = stream.resume() else {
                    return;
                };
                decoder = Decoder::starting_at(stream, offset);
            }
        }
    }
}

/// The segments of a run: their records go to the ledger, and what is lost between them too.
struct Pieces {
    coming: Receiver<Piece>,
    ledger: Rc<RefCell<Ledger>>,
}

impl Supply for Pieces {
    fn next(&mut self) -> Option<Box<Opened>> {
        loop {
            match self.coming.recv().ok()? {
                Piece::Segment(segment) => {
                    self.ledger.borrow_mut().segment(&segment);
                    return Some(segment);
                }
                Piece::Lost(range, reason) => self.ledger.borrow_mut().lost.push((range, reason)),
            }
        }
    }
}

/// What records say, and what was read.
#[derive(Default)]
struct Ledger {
    ordinal: u32,
    /// Where the run begins in the tar stream.
    begin: u64,
    /// By tar offset: hashes of files that were read, whose record has not come.
    read: HashMap<u64, Option<[u8; 32]>>,
    /// By tar offset: files whose record has come and that were not read.
    expected: HashMap<u64, record::Entry>,
    lost: Vec<(Range<u64>, String)>,
    /// Ranges that have a name.
    named: Vec<Range<u64>>,
    pages: page::Decoder,
    found: Found,
}

impl Ledger {
    fn segment(&mut self, opened: &Opened) {
        for record in record::iter(&opened.records) {
            match record.map(|record| record.record) {
                Ok(Some(Body::Entry(entry))) => self.entry(entry),
                Ok(Some(Body::Page(page))) if !self.lost.is_empty() => self.page(&page),
                Ok(Some(Body::Dictionary(dictionary))) => {
                    // A page without its dictionary names nothing, and what is lost stays a range.
                    let _ = self.pages.learn(dictionary.id, &dictionary.body);
                }
                _ => {}
            }
        }
    }

    fn entry(&mut self, entry: record::Entry) {
        let range = entry.tar_offset..entry.tar_offset.saturating_add(entry.tar_length);
        if self.name(&range, &entry.path) || entry.blake3.is_empty() {
            return;
        }
        // A further name has the hash of the name that carries the bytes.
        if !entry.hard_link_to.is_empty() {
            return;
        }
        match self.read.remove(&entry.tar_offset) {
            Some(found) => self.compare(&entry, found),
            None => {
                self.expected.insert(entry.tar_offset, entry);
            }
        }
    }

    fn page(&mut self, record: &record::Page) {
        let Ok(page) = self.pages.decode(&record.chunk, &record.body, None) else {
            return;
        };
        for entry in &page.entries {
            let Some(place) = entry.place else { continue };
            if place.archive_ordinal == self.ordinal {
                let range = place.tar_offset..place.tar_offset.saturating_add(entry.tar_length);
                let path = taf_tree::path::join(&page.directory, &entry.name);
                self.name(&range, &path);
            }
        }
    }

    /// Gives lost bytes a name. Whether the range has any.
    fn name(&mut self, range: &Range<u64>, path: &[u8]) -> bool {
        let hit = self
            .lost
            .iter()
            .find(|(lost, _)| lost.start < range.end && range.start < lost.end);
        let Some((_, reason)) = hit else {
            return false;
        };
        let damaged = Damaged {
            tar: range.clone(),
            reason: reason.clone(),
        };
        self.named.push(range.clone());
        self.found.damaged.entry(path.to_vec()).or_insert(damaged);
        true
    }

    fn read(&mut self, tar_offset: u64, found: Option<[u8; 32]>) {
        match self.expected.remove(&tar_offset) {
            Some(entry) => self.compare(&entry, found),
            None => {
                self.read.insert(tar_offset, found);
            }
        }
    }

    fn compare(&mut self, entry: &record::Entry, found: Option<[u8; 32]>) {
        match found {
            None => self.found.unproved += 1,
            Some(found) if found[..] == entry.blake3[..] => self.found.files += 1,
            Some(_) => {
                let tar = entry.tar_offset..entry.tar_offset.saturating_add(entry.tar_length);
                let reason = "its content differs from what was backed up".to_owned();
                self.found
                    .damaged
                    .insert(entry.path.to_vec(), Damaged { tar, reason });
            }
        }
    }

    fn finish(mut self) -> Found {
        self.found.unproved += self.read.len() as u64;
        for entry in std::mem::take(&mut self.expected).into_values() {
            let range = entry.tar_offset..entry.tar_offset.saturating_add(entry.tar_length);
            if self.name(&range, &entry.path) {
                continue;
            }
            if entry.tar_offset < self.begin {
                self.found.unproved += 1;
                continue;
            }
            let reason = "it could not be found in the archive".to_owned();
            self.found
                .damaged
                .insert(entry.path.to_vec(), Damaged { tar: range, reason });
        }
        for (range, reason) in &self.lost {
            let named = self
                .named
                .iter()
                .any(|named| named.start < range.end && range.start < named.end);
            if !named {
                self.found.unnamed.push((range.clone(), reason.clone()));
            }
        }
        self.found
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::mpsc;
    use taf_format::entry::{Metadata, Time};
    use taf_format::segment::{self, Cutter, Identity};
    use taf_format::tar::encode;
    use uuid::Uuid;

    /// Segments of an archive of files, file n of n × 700 bytes, 2 KiB of tar in each segment.
    fn segments(wrong: Option<usize>) -> Vec<Opened> {
        let identity = Identity {
            line_uuid: Uuid::from_u128(1),
            version: 1,
            archive_ordinal: 1,
            archive_uuid: Uuid::from_u128(2),
            attempt: 1,
        };
        let mut cutter = Cutter::with_segment_size(identity, 2048);
        for number in 0..10_usize {
            let content = vec![number as u8; number * 700];
            let meta = Metadata {
                kind: Kind::File,
                size: content.len() as u64,
                mode: 0o644,
                uid: 1,
                gid: 1,
                user: Vec::new(),
                group: Vec::new(),
                mtime: Time::default(),
                ctime: Time::default(),
                inode: 0,
                links: 1,
                rdev_major: 0,
                rdev_minor: 0,
                link_target: Vec::new(),
                xattrs: Vec::new(),
            };
            let path = format!("file {number}").into_bytes();
            let header = encode::header(&path, &meta, encode::Content::Data).unwrap();
            let padding = taf_format::tar::padding(meta.size);
            let length = (header.len() + content.len() + padding) as u64;
            let tar_offset = cutter.tar_offset();
            cutter.entry_starts(length).unwrap();
            cutter.push_tar(&header);
            cutter.push_tar(&content);
            cutter.push_tar(&vec![0; padding]);
            let mut hash = *blake3::hash(&content).as_bytes();
            hash[0] ^= u8::from(wrong == Some(number));
            let entry = record::Entry {
                path: path.into(),
                size: meta.size,
                blake3: hash.to_vec().into(),
                tar_offset,
                tar_length: length,
                ..record::Entry::default()
            };
            cutter.push_record(&record::entry(entry)).unwrap();
        }
        cutter.push_tar(&taf_format::tar::END_OF_ARCHIVE);
        let open = |raw: segment::RawSegment| segment::open(&raw.seal(1).unwrap().bytes).unwrap();
        cutter.finish().into_iter().map(open).collect()
    }

    fn checked(begin: u64, pieces: Vec<Piece>) -> Found {
        let (sender, receiver) = mpsc::sync_channel(pieces.len());
        for piece in pieces {
            sender.send(piece).unwrap();
        }
        drop(sender);
        check(1, begin, receiver)
    }

    fn whole(segments: &[Opened]) -> Vec<Piece> {
        let piece = |opened: &Opened| Piece::Segment(Box::new(opened.clone()));
        segments.iter().map(piece).collect()
    }

    #[test]
    fn every_file_is_proved_and_another_content_is_named() {
        let found = checked(0, whole(&segments(None)));
        assert_eq!((found.files, found.unproved), (10, 0), "{found:?}");
        assert!(found.damaged.is_empty() && found.unnamed.is_empty());
        let found = checked(0, whole(&segments(Some(4))));
        assert_eq!(found.files, 9);
        let names: Vec<&[u8]> = found.damaged.keys().map(Vec::as_slice).collect();
        assert_eq!(names, [b"file 4"]);
    }

    #[test]
    fn a_lost_segment_costs_the_files_in_it_and_no_other() {
        let segments = segments(None);
        for lost in 0..segments.len() {
            let header = &segments[lost].header;
            let range = header.tar_offset..header.tar_end();
            let mut pieces = whole(&segments);
            pieces[lost] = Piece::Lost(range.clone(), "a block could not be read".into());
            let found = checked(0, pieces);
            let all = found.files + found.damaged.len() as u64 + found.unproved;
            assert!(
                all <= 10 && found.files + 4 >= 10,
                "segment {lost}: {found:?}"
            );
            for damaged in found.damaged.values() {
                assert!(damaged.tar.start < range.end && range.start < damaged.tar.end);
            }
            // Files whose very record is lost have no name here: that is said.
            assert!(!found.damaged.is_empty() || !found.unnamed.is_empty());
        }
    }

    #[test]
    fn what_begins_before_the_run_or_ends_behind_it_is_counted_apart() {
        let segments = segments(None);
        let run = &segments[4..9];
        let begin = run[0].header.tar_offset;
        let found = checked(begin, whole(run));
        assert!(
            found.damaged.is_empty() && found.unnamed.is_empty(),
            "{found:?}"
        );
        assert!(found.files >= 1 && found.unproved <= 2, "{found:?}");
    }
}
