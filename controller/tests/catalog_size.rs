//! What the catalog costs: bytes an entry, entries a second, and the time of a look-up, with names as file servers have them.
//!
//! A smoke of some hundred thousand entries in CI. The measurement:
//! `TAF_SIZE_ENTRIES=10000000 cargo nextest run --release --workspace --test catalog_size --no-capture`.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;
#[allow(dead_code)]
#[path = "support/world.rs"]
mod world;

use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use taf_controller::catalog::{View, browse};
use taf_core::catalog::Kind as Made;
use taf_format::entry::{Kind, Time};
use taf_format::page::{Chunker, Dictionaries, DirectoryStat, Encoder, Entry, Page, Place};
use taf_format::record;
use taf_format::segment::{Header, Method};
use taf_format::table::SegmentTable;
use taf_proto::agent::{BackupDone, PartHeader};
use taf_proto::tape::Dictionary;
use world::{Attempt, BLOCK, Part, World};

/// Entries of a directory.
const FILES: u64 = 20;
/// Directories of one level that share a parent.
const SPREAD: u64 = 25;
/// Directories of a part.
const DIRECTORIES: u64 = 20_000;
/// Seconds of a month.
const MONTH: i64 = 30 * 86_400;
/// Most bytes an entry may cost in PostgreSQL, hashes and indexes included.
const BYTES_AN_ENTRY: f64 = 56.0;

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
fn directory(nth: u64) -> Vec<u8> {
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
struct Generator {
    random: StdRng,
    encoder: Encoder,
    known: Dictionaries,
    inode: u64,
    offset: u64,
    ordinal: u32,
    path_bytes: u64,
}

impl Generator {
    fn new(seed: u64, ordinal: u32) -> Self {
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

    fn place(&mut self, length: u64) -> Place {
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
    fn page(&mut self, nth: u64) -> Page {
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

    fn record(&mut self, page: &Page, records: &mut Vec<u8>) {
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
    fn again(&self) -> Self {
        Self {
            encoder: Encoder::new(self.known.newest()).unwrap(),
            ..Self::new(1, 1)
        }
    }
}

/// One segment stands for all of a part's.
async fn part(world: &World, attempt: &Attempt, number: u64, last: bool, records: Vec<u8>) -> Part {
    let mut table = SegmentTable::new(BLOCK);
    let header = Header {
        line_uuid: attempt.opened.line_uuid,
        version: attempt.opened.version as u64,
        archive_ordinal: attempt.opened.ordinal as u32,
        archive_uuid: attempt.opened.archive_uuid,
        attempt: attempt.id as u64,
        sequence: number,
        tar_offset: number * 512,
        next_entry: None,
        tar_length: 512,
        stored_length: 5_000,
        records_length: 100,
        stored_crc32c: 0,
        method: Method::Zstd,
        suite: 0,
        last: false,
    };
    table.push(&header).unwrap();
    let (_, tape_file, block) = world.volume().await;
    let block_count = table.byte_end().div_ceil(BLOCK);
    let header = PartHeader {
        key: Some(attempt.key),
        archive_uuid: Bytes::copy_from_slice(attempt.opened.archive_uuid.as_bytes()),
        part_number: number as u32 + 1,
        recording_uuid: Bytes::copy_from_slice(world.recording.as_bytes()),
        tape_file: tape_file as u64,
        first_block: block as u64,
        block_count,
        byte_count: table.byte_end(),
        first_sequence: number,
        last_sequence: number,
        first_tar_offset: table.tar_range().start,
        end_tar_offset: table.tar_range().end,
        last,
        truncated: false,
        segment_table: table.encode().into(),
        next_tape_file: tape_file as u64 + 1,
        next_block: block as u64 + block_count + 1,
        adopted: false,
    };
    Part { header, records }
}

/// Bytes of the pages' table with its indexes.
async fn bytes(world: &World) -> f64 {
    let client = world.store.client().await.unwrap();
    let sql = "SELECT pg_total_relation_size('pages')";
    let row = client.query_one(sql, &[]).await.unwrap();
    row.get::<_, i64>(0) as f64
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_costs_few_bytes_and_is_found_fast() {
    let entries: u64 = std::env::var("TAF_SIZE_ENTRIES").map_or(200_000, |n| n.parse().unwrap());
    let measured = entries >= 1_000_000;
    let world = World::new().await;
    let directories = entries / FILES;

    // A full.
    let attempt = world.attempt_at(Made::Full).await;
    let mut made = Generator::new(1, attempt.opened.ordinal as u32);
    let (mut count, mut number) = (0_u64, 0);
    let mut committing = Duration::ZERO;
    let mut nth = 0;
    while nth < directories {
        let mut records = Vec::new();
        let end = (nth + DIRECTORIES).min(directories);
        for nth in nth..end {
            let page = made.page(nth);
            count += page.entries.len() as u64;
            made.record(&page, &mut records);
        }
        nth = end;
        let part = part(&world, &attempt, number, nth == directories, records).await;
        number += 1;
        let begun = Instant::now();
        world.commit(&part).await.unwrap();
        committing += begun.elapsed();
    }
    let done = BackupDone {
        last_sequence: number - 1,
        file_count: count,
        directory_count: directories,
        ..BackupDone::default()
    };
    world.publish_done(&attempt, &done).await.unwrap();
    let full = bytes(&world).await;
    let each = full / count as f64;
    let rate = count as f64 / committing.as_secs_f64();
    eprintln!(
        "{count} entries, mean path {:.1} bytes: {each:.1} bytes an entry, {rate:.0} entries/s taken in",
        made.path_bytes as f64 / count as f64
    );
    assert!(each <= BYTES_AN_ENTRY, "{each:.1} bytes an entry");

    // One file of a hundred has changed, spread evenly.
    let attempt = world.attempt_at(Made::Incremental).await;
    let mut again = made.again();
    let mut change = StdRng::seed_from_u64(2);
    let mut records = Vec::new();
    for nth in 0..directories {
        let mut page = again.page(nth);
        let mut changed = false;
        for entry in &mut page.entries {
            if change.random_ratio(1, 100) {
                changed = true;
                entry.mtime.seconds += 86_400;
                entry.ctime = entry.mtime;
                entry.place = Some(Place {
                    archive_ordinal: attempt.opened.ordinal as u32,
                    tar_offset: change.random_range(0..1 << 20) * 512,
                });
            }
        }
        if changed {
            again.record(&page, &mut records);
        }
    }
    let part = part(&world, &attempt, 0, true, records).await;
    world.commit(&part).await.unwrap();
    let done = BackupDone {
        file_count: count,
        ..BackupDone::default()
    };
    world.publish_done(&attempt, &done).await.unwrap();
    let more = (bytes(&world).await - full) / full;
    eprintln!("1 % changed adds {:.1} %", more * 100.0);
    assert!(more <= 0.25, "1 % changed adds {:.1} %", more * 100.0);

    // Any directory.
    let view = View::open(&world.store, world.line, 2)
        .await
        .unwrap()
        .unwrap();
    let mut pick = StdRng::seed_from_u64(3);
    let mut times: Vec<Duration> = Vec::new();
    for _ in 0..2_000 {
        let path = directory(pick.random_range(0..directories));
        let begun = Instant::now();
        let found = browse::list(&view, &path, None, 1_000)
            .await
            .unwrap()
            .unwrap();
        times.push(begun.elapsed());
        assert!(!found.entries.is_empty());
    }
    times.sort_unstable();
    let (middle, late) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    eprintln!("a directory is found in {middle:?}, 99 of 100 in {late:?}");
    if measured {
        assert!(late < Duration::from_millis(20), "{late:?}");
    }
}
