//! A synthetic archive: entries are spans of bytes with known content, so that what survives a damage can be
//! told without a tar reader.

// Each test binary uses what it needs of this.
#![allow(dead_code)]

use bytes::Bytes;
use taf_format::block0::Block0;
use taf_format::part::Blocker;
use taf_format::record::{self, Entry};
use taf_format::segment::{Cutter, Identity, Method, RawSegment, Sealed, Sealer};
use uuid::Uuid;

pub const ARCHIVE: Uuid = Uuid::from_u128(0xa1);

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
    let mut sealer = Sealer::new(1).unwrap();
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
