//! A synthetic archive: entries are spans of bytes with known content, so that what survives a damage can be
//! told without a tar reader.

// Each test binary uses what it needs of this.
#![allow(dead_code)]

use bytes::Bytes;
use taf_format::block0::Block0;
use taf_format::index::{self, Summary, Writer};
use taf_format::part::Blocker;
use taf_format::record::{self, Entry};
use taf_format::segment::{Cutter, Identity, Method, RawSegment, Sealed, Sealer};
use uuid::Uuid;

pub const ARCHIVE: Uuid = Uuid::from_u128(0xa1);
pub const INDEX: Uuid = Uuid::from_u128(0xb1);

pub fn identity(archive_uuid: Uuid) -> Identity {
    Identity {
        line_uuid: Uuid::from_u128(0x11),
        version: 7,
        archive_ordinal: 3,
        archive_uuid,
        attempt: 9,
    }
}

pub fn block0(block_size: u32) -> Block0 {
    Block0 {
        installation_uuid: Uuid::from_u128(0x1),
        recording_uuid: Uuid::from_u128(0x2),
        volume: "TAF001L9".to_owned(),
        archive_uuid: ARCHIVE,
        archive_ordinal: 3,
        source: "files".to_owned(),
        plan: "nightly".to_owned(),
        line: "nightly on files".to_owned(),
        version: 7,
        part: 1,
        tape_file: 1,
        block_size,
        first_sequence: 0,
        first_tar_offset: 0,
        skip: Some(0),
        method: Method::Zstd,
        suite: 0,
        predecessor: None,
        copy: 0,
        created_at_unix_nanos: 1_767_225_600_000_000_000,
    }
}

/// A generator that needs no crate: the same seed gives the same bytes for ever.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut out = vec![0; length];
        for chunk in out.chunks_mut(8) {
            let word = self.next().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        out
    }
}

pub struct Span {
    pub tar_offset: u64,
    pub content: Vec<u8>,
}

/// Entries of the given lengths, alternately random and uniform, cut into segments of `segment_size` bytes of tar.
pub fn archive(
    archive_uuid: Uuid,
    lengths: &[usize],
    segment_size: usize,
    seed: u64,
) -> (Vec<Span>, Vec<RawSegment>) {
    let mut random = Random(seed);
    let mut cutter = Cutter::with_segment_size(identity(archive_uuid), segment_size);
    let mut spans = Vec::new();
    let mut segments = Vec::new();
    for (index, &length) in lengths.iter().enumerate() {
        let content = if index % 3 == 2 {
            vec![index as u8; length]
        } else {
            random.bytes(length)
        };
        let tar_offset = cutter.tar_offset();
        cutter.entry_starts(length as u64).unwrap();
        for piece in content.chunks(1 + random.below(5000)) {
            cutter.push_tar(piece);
            segments.extend(std::iter::from_fn(|| cutter.ready()));
        }
        cutter
            .push_record(&record::entry(Entry {
                path: format!("entry-{index}").into_bytes().into(),
                size: length as u64,
                blake3: blake3::hash(&content).as_bytes().to_vec().into(),
                tar_offset,
                tar_length: length as u64,
                ..Entry::default()
            }))
            .unwrap();
        spans.push(Span {
            tar_offset,
            content,
        });
    }
    segments.extend(cutter.finish());
    (spans, segments)
}

pub fn seal(segments: Vec<RawSegment>) -> Vec<Sealed> {
    seal_by(Method::Zstd, segments)
}

pub fn seal_by(method: Method, segments: Vec<RawSegment>) -> Vec<Sealed> {
    let level = method.level(0).unwrap().min(1);
    let mut sealer = Sealer::by(method, level).unwrap();
    segments
        .into_iter()
        .map(|raw| sealer.seal(raw).unwrap())
        .collect()
}

/// The blocks of a part behind its block 0.
pub fn blocks(sealed: &[Sealed], block_size: u32) -> Vec<Bytes> {
    let mut blocker = Blocker::new(block_size);
    let mut blocks = Vec::new();
    for segment in sealed {
        blocks.extend(blocker.push(segment.bytes.clone()));
    }
    blocks.extend(blocker.finish());
    blocks
}

pub fn index_head(block_size: u32) -> index::Head {
    index::Head {
        index_uuid: INDEX,
        installation_uuid: Uuid::from_u128(0x1),
        recording_uuid: Uuid::from_u128(0x2),
        volume: "TAF001L9".to_owned(),
        tape_file: 7,
        block_size,
        suite: 0,
        earlier: Some((3, 1234)),
        created_at_unix_nanos: 1_767_225_600_000_000_000,
    }
}

fn bytes(uuid: u128) -> Bytes {
    Bytes::copy_from_slice(Uuid::from_u128(uuid).as_bytes())
}

pub fn index_volume(number: u64) -> index::IndexVolume {
    index::IndexVolume {
        recording_uuid: bytes(0x2 + u128::from(number)),
        volume_uuid: bytes(0x3),
        barcode: format!("TAF00{number}L9"),
    }
}

pub fn index_part(tape_file: u64) -> index::IndexPart {
    index::IndexPart {
        archive_uuid: bytes(0xa1),
        line_uuid: bytes(0x11),
        version: 7,
        archive_ordinal: 3,
        attempt: 9,
        part_number: tape_file as u32,
        tape_file,
        first_block: tape_file * 100,
        block_count: 99,
        byte_count: 99 * 16_384 - 5,
        first_sequence: tape_file * 10,
        last_sequence: tape_file * 10 + 9,
        first_tar_offset: tape_file << 22,
        end_tar_offset: (tape_file + 10) << 22,
        last: false,
        truncated: tape_file == 2,
        digest: vec![7; 32].into(),
        next_tape_file: tape_file + 1,
        next_block: tape_file * 100 + 100,
        plan: "nightly".to_owned(),
        source: "files".to_owned(),
        copy: 0,
    }
}

pub fn closing() -> index::ClosingRecord {
    index::ClosingRecord {
        format_version: index::CLOSING_VERSION,
        installation_uuid: bytes(1),
        line_uuid: bytes(0x11),
        version: 7,
        parent: 6,
        floor: 5,
        r#type: index::VersionType::Incremental.into(),
        plan: "nightly".to_owned(),
        source: "files".to_owned(),
        agent: "host".to_owned(),
        paths: vec![b"/srv".to_vec().into()],
        tags: vec!["before-upgrade".to_owned()],
        archives: vec![index::ClosedArchive {
            ordinal: 3,
            archive_uuid: bytes(0xa1),
            last_sequence: 39,
            parts: vec![index::ClosedPart {
                part_number: 1,
                recording_uuid: bytes(2),
                tape_file: 1,
                row_count: 12,
                ..index::ClosedPart::default()
            }],
        }],
        needs: vec![index::Need {
            version: 5,
            archive_ordinal: 1,
            part_number: 1,
            row_count: 100,
            entry_count: 2000,
            byte_count: 1 << 40,
            ..index::Need::default()
        }],
        ..index::ClosingRecord::default()
    }
}

/// The pieces of an index: two recordings, three parts of which one has no records, an orphan and a closing record; as many
/// pages as are asked for in each part.
pub fn index(pages: usize) -> Vec<Bytes> {
    let mut writer = Writer::new(INDEX);
    let mut pieces = Vec::new();
    writer.text("tape file 1: part 1 of version 7").unwrap();
    for number in 0..2 {
        writer.volume(index_volume(number)).unwrap();
        writer
            .earlier(index::IndexPointer {
                tape_file: 3,
                first_block: 1234,
            })
            .unwrap();
        for tape_file in [1, 2] {
            writer.part(index_part(tape_file)).unwrap();
            writer.table(b"a table").unwrap();
            for page in 0..pages {
                let page = record::Page {
                    chunk: format!("directory {page}").into_bytes().into(),
                    body: Random(page as u64).bytes(1 + page * 37 % 9000).into(),
                    hashes: vec![page as u8; 16 * (page % 20)].into(),
                };
                writer.record(record::Body::Page(page)).unwrap();
                pieces.extend(std::iter::from_fn(|| writer.ready()));
            }
            let entry = record::Body::Entry(Entry::default());
            writer.record(entry).unwrap();
            let gone = record::Tombstone {
                chunk: b"gone".to_vec().into(),
            };
            writer.record(record::Body::Tombstone(gone)).unwrap();
            writer.part_end().unwrap();
        }
        writer.uncovered(index_part(4)).unwrap();
        writer.orphan(index_orphan()).unwrap();
    }
    writer
        .closing(prost::Message::encode_to_vec(&closing()).into())
        .unwrap();
    pieces.extend(writer.finish().unwrap());
    pieces
}

fn index_orphan() -> index::IndexOrphan {
    index::IndexOrphan {
        tape_file: 5,
        first_block: 500,
        next_block: 510,
        reason: "a torn part".to_owned(),
    }
}

/// What [`index`] holds.
pub fn index_summary(pages: usize) -> Summary {
    let mut summary = Summary {
        closings: vec![closing()],
        end: Some(index::IndexEnd {
            part_count: 4,
            uncovered_count: 2,
            closing_count: 1,
        }),
        ..Summary::default()
    };
    for number in 0..2 {
        let volume = index_volume(number);
        let found = index::IndexPartEnd {
            table_byte_count: 7,
            page_count: pages as u64,
            tombstone_count: 1,
            dictionary_count: 0,
        };
        let part = |tape_file| index::CoveredPart {
            part: index_part(tape_file),
            found,
            expected: Some(found),
        };
        let recording = index::RecordingSummary {
            volume: volume.clone(),
            parts: [(1, part(1)), (2, part(2))].into(),
            uncovered: vec![index_part(4)],
            orphans: vec![index_orphan()],
            earlier: vec![index::IndexPointer {
                tape_file: 3,
                first_block: 1234,
            }],
        };
        summary.recordings.insert(volume.recording_uuid, recording);
    }
    summary
}
