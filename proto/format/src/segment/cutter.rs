//! Cuts a tar stream and its records into segments, in order, holding one.

use std::collections::VecDeque;

use uuid::Uuid;

use super::{Error, Header, Method, PENDING};
use crate::{limits, record};

/// What all segments of one archive have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The line.
    pub line_uuid: Uuid,
    /// The version's number on its line.
    pub version: u64,
    /// The archive's ordinal on its line.
    pub archive_ordinal: u32,
    /// The archive.
    pub archive_uuid: Uuid,
    /// The attempt's number.
    pub attempt: u64,
}

/// A segment that is cut but not yet compressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawSegment {
    /// Its header; the stored lengths and checksum are still 0.
    pub header: Header,
    /// Its tar bytes.
    pub tar: Vec<u8>,
    /// Its records, each length first.
    pub records: Vec<u8>,
    /// How many records there are.
    pub record_count: u32,
}

/// Takes tar bytes and records as they come and gives segments.
///
/// A full segment is held until the next tar byte comes, so that an entry's record stays in the segment in
/// which the entry ends. The order of calls per entry is: [`entry_starts`](Self::entry_starts),
/// [`push_tar`](Self::push_tar) of header and content, [`push_record`](Self::push_record). Take what
/// [`ready`](Self::ready) gives after each push; with pushes of at most 1 MiB that is never more than one.
#[derive(Debug)]
pub struct Cutter {
    identity: Identity,
    tar_limit: usize,
    open: RawSegment,
    /// Where in the tar stream the last entry that was announced begins and ends.
    entry: Option<(u64, u64)>,
    ready: VecDeque<RawSegment>,
}

impl Cutter {
    /// Begins an archive: sequence 0, tar offset 0.
    pub fn new(identity: Identity) -> Self {
        Self::with_segment_size(identity, limits::SEGMENT_TAR)
    }

    /// As [`new`](Self::new), with segments of `tar_limit` bytes of tar, which is held between 1 and
    /// [`limits::SEGMENT_TAR`]. Readers take any size; the product writes full ones.
    pub fn with_segment_size(identity: Identity, tar_limit: usize) -> Self {
        let tar_limit = tar_limit.clamp(1, limits::SEGMENT_TAR);
        let open = raw(&identity, 0, 0, None);
        Self {
            identity,
            tar_limit,
            open,
            entry: None,
            ready: VecDeque::new(),
        }
    }

    /// Offset in the tar stream of the next byte that is pushed.
    pub fn tar_offset(&self) -> u64 {
        self.open.header.tar_offset + self.open.tar.len() as u64
    }

    /// Says that the next tar byte is the first of an entry's headers, and that the entry takes `tar_length` bytes
    /// of the stream, from that byte to the next entry's first.
    pub fn entry_starts(&mut self, tar_length: u64) -> Result<(), Error> {
        let found = self.tar_offset();
        if let Some((_, expected)) = self.entry
            && expected != found
        {
            return Err(Error::EntryStart { expected, found });
        }
        self.entry = Some((found, found.saturating_add(tar_length)));
        if self.open.header.next_entry.is_none() {
            self.open.header.next_entry = Some(found);
        }
        Ok(())
    }

    /// Adds tar bytes.
    pub fn push_tar(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.is_full() {
                self.cut();
            }
            let room = self.tar_limit - self.open.tar.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            if self.open.tar.is_empty() {
                self.open.tar.reserve_exact(self.tar_limit);
            }
            self.open.tar.extend_from_slice(now);
            bytes = later;
        }
    }

    /// Adds a record to the segment that holds the last tar byte pushed, or, when its records are full, to the next.
    pub fn push_record(&mut self, record: &record::Record) -> Result<(), Error> {
        if self.open.records.len() >= limits::SEGMENT_RECORDS {
            // A record that is refused must leave no trace, not even a cut.
            let mut records = Vec::new();
            record::encode(record, &mut records)?;
            self.cut();
            self.open.records = records;
        } else {
            record::encode(record, &mut self.open.records)?;
        }
        self.open.record_count += 1;
        Ok(())
    }

    /// The next finished segment, if there is one.
    pub fn ready(&mut self) -> Option<RawSegment> {
        self.ready.pop_front()
    }

    /// Ends the archive. The segments that were not yet taken come with it, the archive's last one last.
    pub fn finish(mut self) -> Vec<RawSegment> {
        self.open.header.last = true;
        self.cut();
        self.ready.into()
    }

    fn is_full(&self) -> bool {
        self.open.tar.len() >= self.tar_limit || self.open.records.len() >= limits::SEGMENT_RECORDS
    }

    fn cut(&mut self) {
        let end = self.tar_offset();
        // An entry that was announced but has no byte yet begins exactly here; one under way ends here or behind.
        let next_entry = match self.entry {
            Some((begin, _)) if begin == end => Some(end),
            Some((_, entry_end)) if entry_end >= end => Some(entry_end),
            _ => None,
        };
        let next = raw(
            &self.identity,
            self.open.header.sequence + 1,
            end,
            next_entry,
        );
        let mut done = std::mem::replace(&mut self.open, next);
        done.header.tar_length = done.tar.len() as u32;
        self.ready.push_back(done);
    }
}

fn raw(identity: &Identity, sequence: u64, tar_offset: u64, next_entry: Option<u64>) -> RawSegment {
    RawSegment {
        header: Header {
            line_uuid: identity.line_uuid,
            version: identity.version,
            archive_ordinal: identity.archive_ordinal,
            archive_uuid: identity.archive_uuid,
            attempt: identity.attempt,
            sequence,
            tar_offset,
            next_entry,
            tar_length: 0,
            stored_length: PENDING,
            records_length: PENDING,
            stored_crc32c: 0,
            method: Method::Zstd,
            suite: 0,
            last: false,
        },
        tar: Vec::new(),
        records: Vec::new(),
        record_count: 0,
    }
}
