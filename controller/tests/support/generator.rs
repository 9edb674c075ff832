//! A made-up file server of any size, with names as file servers have them: its pages in the order of the tape, and its parts.
#![allow(dead_code)]

use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use taf_format::entry::{Kind, Time};
use taf_format::page::{Chunker, Dictionaries, DirectoryStat, Encoder, Entry, Page, Place};
use taf_format::segment::{Header, Method};
use taf_format::table::SegmentTable;
use taf_format::{limits, record};
use taf_proto::agent::{BackupDone, PartHeader};
use taf_proto::tape::Dictionary;

use super::world::{Attempt, BLOCK, Part, World};

/// Entries of a directory.
pub const FILES: u64 = 20;
/// Directories of one level that share a parent.
const SPREAD: u64 = 25;
/// Directories of a part.
pub const DIRECTORIES: u64 = 20_000;
/// Seconds of a month.
const MONTH: i64 = 30 * 86_400;
const WORDS: [&str; 40] = [
    "annual", "archive", "backup", "board", "budget", "calls", "camera", "client", "contract",
    "daily", "design", "draft", "export", "field", "final", "finance", "images", "import",
    "intern", "invoice", "legal", "letters", "logs", "market", "meeting", "notes", "orders",
    "output", "photos", "planning", "project", "quality", "raw", "reports", "samples", "scans",
    "sensor", "slides", "source", "travel",
];
const ENDINGS: [&str; 10] = [
    "pdf", "docx", "jpg", "xlsx", "txt", "tif", "csv", "pptx", "mp4", "zip",
];

/// The nth directory's path: three levels below the departments.
pub fn directory(nth: u64) -> Vec<u8> {
    let word = |n: u64| WORDS[(n % 40) as usize];
    let (top, middle) = (nth / (SPREAD * SPREAD), nth / SPREAD);
    format!(
        "srv/{:04}-{}/{:02}_{}/{:02}{}",
        top,
        word(top * 7),
        middle % SPREAD,
        word(middle * 11 + 3),
        nth % SPREAD,
        word(nth * 13 + 5)
    )
    .into_bytes()
}

/// What the sizes of files are like: many small ones, few large ones.
fn size(random: &mut StdRng) -> u64 {
    let magnitude = random.random_range(6.0..22.0_f64);
    magnitude.exp2() as u64
}

/// A made-up tree, generated in the order of the tape.
pub struct Generator {
    random: StdRng,
    encoder: Encoder,
    known: Dictionaries,
    inode: u64,
    /// Behind the last byte of tar.
    pub offset: u64,
    ordinal: u32,
    pub path_bytes: u64,
}

impl Generator {
    pub fn new(seed: u64, ordinal: u32) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            encoder: Encoder::learning().unwrap(),
            known: Dictionaries::new(),
            inode: 1 << 20,
            offset: 0,
            ordinal,
            path_bytes: 0,
        }
    }

    pub fn place(&mut self, length: u64) -> Place {
        let place = Place {
            archive_ordinal: self.ordinal,
            tar_offset: self.offset,
        };
        self.offset += length;
        place
    }

    /// A time within some seconds behind another one; nanoseconds are anything.
    fn time(&mut self, from: i64, within: i64) -> Time {
        Time {
            seconds: from + self.random.random_range(0..within),
            nanos: self.random.random_range(0..1_000_000_000),
        }
    }

    /// The page of the nth directory.
    pub fn page(&mut self, nth: u64) -> Page {
        let path = directory(nth);
        let begun = self.random.random_range(1_500_000_000..1_780_000_000);
        let mtime = self.time(begun, MONTH);
        let ctime = mtime;
        self.inode += self.random.random_range(1..4);
        let header = DirectoryStat {
            mode: 0o755,
            uid: 1_000 + nth as u32 % 7,
            gid: 100,
            mtime,
            ctime,
            inode: self.inode,
            place: Some(self.place(512)),
            tar_length: 512,
            ..DirectoryStat::default()
        };
        // A name that begins a chunk would make two pages of a directory as small as these; few names do.
        let mut names: Vec<Vec<u8>> = (0..FILES).map(|_| self.name()).collect();
        names.retain(|name| !Chunker::begins_at(name));
        names.sort();
        names.dedup();
        let mut chunker = Chunker::new(path.clone(), Some(header));
        for name in names {
            self.path_bytes += (path.len() + 1 + name.len()) as u64;
            let entry = self.file(name, nth, begun);
            assert!(chunker.push(entry).unwrap().is_none());
        }
        chunker.finish()
    }

    fn name(&mut self) -> Vec<u8> {
        let word = |random: &mut StdRng| WORDS[random.random_range(0..40)];
        let (first, second) = (word(&mut self.random), word(&mut self.random));
        let ending = ENDINGS[self.random.random_range(0..10)];
        let number: u32 = self.random.random_range(0..10_000);
        match self.random.random_range(0..3) {
            0 => format!("{first}_{second}-{number}.{ending}"),
            1 => format!("IMG_20{:02}{number:04}.{ending}", number % 26),
            _ => format!("{first} {number} {second}.{ending}"),
        }
        .into_bytes()
    }

    fn file(&mut self, name: Vec<u8>, nth: u64, begun: i64) -> Entry {
        self.inode += self.random.random_range(1..4);
        let size = size(&mut self.random);
        let tar_length = 1_536 + size.div_ceil(512) * 512;
        // What is in a directory was mostly made in the same weeks; one in five was moved, or its mode was changed, later.
        let mtime = self.time(begun, MONTH);
        let ctime = if self.random.random_bool(0.8) {
            mtime
        } else {
            self.time(mtime.seconds, MONTH)
        };
        Entry {
            size,
            mtime,
            ctime,
            mode: 0o644,
            uid: 1_000 + nth as u32 % 7,
            gid: 100,
            inode: self.inode,
            place: Some(self.place(tar_length)),
            tar_length,
            hash: Some(self.random.random()),
            ..Entry::bare(name, Kind::File)
        }
    }

    pub fn record(&mut self, page: &Page, records: &mut Vec<u8>) {
        let encoded = self.encoder.encode(page).unwrap();
        let page = record::Page {
            chunk: encoded.chunk.into(),
            body: encoded.body.into(),
            hashes: encoded.hashes.into(),
        };
        record::encode(&record::page(page), records).unwrap();
        if let Some(learned) = self.encoder.learned() {
            let number = self.ordinal * 16 + u32::from(self.known.newest().is_some());
            self.known.insert(number, &learned).unwrap();
            self.encoder.follow(number, &learned).unwrap();
            let dictionary = Dictionary {
                id: number,
                body: learned.into(),
            };
            record::encode(&record::dictionary(dictionary), records).unwrap();
        }
    }

    /// A generator of the same tree, whose pages use what this one has learned.
    pub fn again(&self, ordinal: u32) -> Self {
        Self {
            encoder: Encoder::new(self.known.newest()).unwrap(),
            known: self.known.clone(),
            ..Self::new(1, ordinal)
        }
    }
}

/// Cuts an archive into parts, and commits them.
pub struct Parts<'a> {
    world: &'a World,
    attempt: &'a Attempt,
    number: u32,
    /// Segments of the parts so far.
    segments: u64,
    tar_offset: u64,
    /// What the controller took to take them in.
    pub committing: Duration,
}

impl<'a> Parts<'a> {
    pub fn of(world: &'a World, attempt: &'a Attempt) -> Self {
        Self {
            world,
            attempt,
            number: 0,
            segments: 0,
            tar_offset: 0,
            committing: Duration::ZERO,
        }
    }

    /// Commits a part with these records and the tar bytes up to `end`.
    pub async fn commit(&mut self, records: Vec<u8>, end: u64, last: bool) {
        let (first_sequence, mut table) = (self.segments, SegmentTable::new(BLOCK));
        while self.tar_offset < end || table.is_empty() {
            let tar_length = (end - self.tar_offset).clamp(512, limits::SEGMENT_TAR as u64) as u32;
            table.push(&self.segment(tar_length)).unwrap();
            self.segments += 1;
            self.tar_offset += u64::from(tar_length);
        }
        self.number += 1;
        let (_, tape_file, block) = self.world.volume().await;
        let block_count = table.byte_end().div_ceil(BLOCK);
        let header = PartHeader {
            key: Some(self.attempt.key),
            archive_uuid: Bytes::copy_from_slice(self.attempt.opened.archive_uuid.as_bytes()),
            part_number: self.number,
            recording_uuid: Bytes::copy_from_slice(self.world.recording.as_bytes()),
            tape_file: tape_file as u64,
            first_block: block as u64,
            block_count,
            byte_count: table.byte_end(),
            first_sequence,
            last_sequence: self.segments - 1,
            first_tar_offset: table.tar_range().start,
            end_tar_offset: table.tar_range().end,
            last,
            truncated: false,
            segment_table: table.encode().into(),
            next_tape_file: tape_file as u64 + 1,
            next_block: block as u64 + block_count + 1,
            ..PartHeader::default()
        };
        let part = Part { header, records };
        let begun = Instant::now();
        self.world.commit(&part).await.unwrap();
        self.committing += begun.elapsed();
    }

    /// Publishes the version that the parts make.
    pub async fn publish(self, file_count: u64, directory_count: u64) {
        let done = BackupDone {
            last_sequence: self.segments - 1,
            file_count,
            directory_count,
            tar_byte_count: self.tar_offset,
            ..BackupDone::default()
        };
        self.world.publish_done(self.attempt, &done).await.unwrap();
    }

    fn segment(&self, tar_length: u32) -> Header {
        Header {
            line_uuid: self.attempt.opened.line_uuid,
            version: self.attempt.opened.version as u64,
            archive_ordinal: self.attempt.opened.ordinal as u32,
            archive_uuid: self.attempt.opened.archive_uuid,
            attempt: self.attempt.id as u64,
            sequence: self.segments,
            tar_offset: self.tar_offset,
            next_entry: None,
            tar_length,
            stored_length: tar_length / 2 + 1_024,
            records_length: 512,
            stored_crc32c: 0,
            method: Method::Zstd,
            suite: 0,
            last: false,
        }
    }
}
