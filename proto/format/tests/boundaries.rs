//! The edges: where segments are cut, what identifies a first block, what tables and labels refuse.
#![allow(clippy::unwrap_used, missing_docs)]

mod synthetic;

use bytes::Bytes;
use proptest::prelude::*;
use synthetic::{ARCHIVE, Random, archive, identity, seal};
use taf_format::label::{self, Kind, identify};
use taf_format::part::Blocker;
use taf_format::record::{self, Page};
use taf_format::segment::{self, Cutter, Error, SEGMENT_RECORDS, SEGMENT_TAR};
use taf_format::table::SegmentTable;
use taf_format::{block0, limits};

#[test]
fn an_entry_that_ends_with_the_segment_keeps_its_record_there() {
    let mut cutter = Cutter::with_segment_size(identity(ARCHIVE), 1000);
    cutter.entry_starts(1000).unwrap();
    cutter.push_tar(&[1; 1000]);
    assert!(cutter.ready().is_none());
    cutter.push_record(&record::tombstone(&b"a"[..])).unwrap();
    cutter.entry_starts(2500).unwrap();
    cutter.push_tar(&[2; 2500]);
    cutter.push_tar(&[0; 700]);
    let segments = cutter.finish();
    assert_eq!(segments.len(), 5);
    assert_eq!(segments[0].record_count, 1);
    let next: Vec<_> = segments.iter().map(|s| s.header.next_entry).collect();
    assert_eq!(next, [Some(0), Some(1000), Some(3500), Some(3500), None]);
    let first: Vec<_> = segments.iter().map(|s| s.header.first_entry()).collect();
    assert_eq!(first, [Some(0), Some(0), None, Some(500), None]);
    assert_eq!(segments[2].header.skip(), Some(1500));
    let last: Vec<_> = segments.iter().map(|s| s.header.last).collect();
    assert_eq!(last, [false, false, false, false, true]);
}

#[test]
fn an_entry_that_begins_at_a_wrong_place_is_refused() {
    let mut cutter = Cutter::new(identity(ARCHIVE));
    cutter.entry_starts(1024).unwrap();
    cutter.push_tar(&[0; 512]);
    assert!(matches!(
        cutter.entry_starts(512),
        Err(Error::EntryStart {
            expected: 1024,
            found: 512
        })
    ));
}

#[test]
fn full_records_end_a_segment_and_a_segment_may_have_no_tar() {
    let page = record::page(Page {
        chunk: Bytes::from_static(b"d"),
        body: vec![7; 700_000].into(),
        hashes: Bytes::new(),
    });
    let mut cutter = Cutter::new(identity(ARCHIVE));
    cutter.push_tar(&[1; 10]);
    for _ in 0..5 {
        cutter.push_record(&page).unwrap();
    }
    let segments = cutter.finish();
    let counts: Vec<_> = segments
        .iter()
        .map(|s| (s.tar.len(), s.record_count))
        .collect();
    assert_eq!(counts, [(10, 2), (0, 2), (0, 1)]);
    assert!(segments[0].records.len() > SEGMENT_RECORDS);
    let mut table = SegmentTable::new(4096);
    for sealed in seal(segments) {
        let opened = segment::open(&sealed.bytes).unwrap();
        assert_eq!(opened.header, sealed.header);
        table.push(&sealed.header).unwrap();
    }
    assert_eq!(table.locate(9).unwrap().sequence, 0);
    assert_eq!(table.locate(10), None);
}

#[test]
fn the_largest_record_is_kept_and_a_larger_one_refused() {
    let page = |length| {
        record::page(Page {
            chunk: Bytes::new(),
            body: vec![7; length].into(),
            hashes: Bytes::new(),
        })
    };
    let mut cutter = Cutter::new(identity(ARCHIVE));
    cutter
        .push_record(&record::tombstone(vec![1; SEGMENT_RECORDS - 20]))
        .unwrap();
    cutter.push_record(&page(limits::RECORD - 10)).unwrap();
    assert!(matches!(
        cutter.push_record(&page(limits::RECORD)),
        Err(Error::Record(record::Error::TooLarge { .. }))
    ));
    let sealed = seal(cutter.finish());
    assert_eq!(sealed.len(), 1);
    let opened = segment::open(&sealed[0].bytes).unwrap();
    assert_eq!(record::iter(&opened.records).flatten().count(), 2);
}

#[test]
fn incompressible_bytes_fit_a_full_segment() {
    let mut cutter = Cutter::new(identity(ARCHIVE));
    let tar = Random(5).bytes(SEGMENT_TAR + 1);
    cutter.push_tar(&tar);
    let full = cutter.ready().unwrap().seal(1).unwrap();
    assert!(full.header.stored_length as usize > SEGMENT_TAR);
    assert_eq!(
        segment::open(&full.bytes).unwrap().tar[..],
        tar[..SEGMENT_TAR]
    );
    assert_eq!(cutter.finish().len(), 1);
}

#[test]
fn an_empty_archive_is_one_empty_last_segment() {
    let sealed = seal(Cutter::new(identity(ARCHIVE)).finish());
    assert_eq!(sealed.len(), 1);
    let opened = segment::open(&sealed[0].bytes).unwrap();
    assert!(opened.header.last && opened.tar.is_empty() && opened.records.is_empty());
}

#[test]
fn every_flipped_byte_of_a_segment_is_noticed() {
    let sealed = seal(archive(ARCHIVE, &[300], 1000, 1).1).remove(0);
    for at in 0..sealed.bytes.len() {
        let mut bytes = sealed.bytes.to_vec();
        bytes[at] ^= 1;
        assert!(segment::open(&bytes).is_err(), "byte {at}");
    }
    assert!(segment::open(&sealed.bytes[..sealed.bytes.len() - 1]).is_err());
}

#[test]
fn first_blocks_are_told_apart() {
    let ansi = |implementation: &[u8]| {
        let mut block = vec![b' '; 80];
        block[..10].copy_from_slice(b"VOL1V12345");
        block[24..24 + implementation.len()].copy_from_slice(implementation);
        block
    };
    let mut tar = vec![0; 10_240];
    tar[0] = b'x';
    tar[257..262].copy_from_slice(b"ustar");
    let mut bareos = vec![1; 64];
    bareos[12..16].copy_from_slice(b"BB02");
    let cases = [
        (vec![], Kind::Empty),
        (vec![0; 80], Kind::Zeros),
        (ansi(b"TAF"), Kind::Taf),
        (ansi(b"LTFS"), Kind::Ltfs),
        (
            ansi(b"CASTOR"),
            Kind::Ansi {
                volume: "V12345".to_owned(),
            },
        ),
        (tar, Kind::Tar),
        (bareos, Kind::Bareos),
        (b"AMANDA: TAPESTART DATE".to_vec(), Kind::Amanda),
        (synthetic::block0(16_384).encode().unwrap(), Kind::TafPart),
        (b"whatever".to_vec(), Kind::Unknown),
    ];
    for (block, kind) in cases {
        assert_eq!(identify(&block), kind);
        if kind != Kind::Taf {
            assert_eq!(label::decode(&[block]), Err(label::Error::NotTaf(kind)));
        }
    }
}

#[test]
fn a_label_without_its_data_is_incomplete_not_foreign() {
    let label = label::Label {
        installation_uuid: uuid::Uuid::from_u128(1),
        volume_uuid: uuid::Uuid::from_u128(2),
        recording_uuid: uuid::Uuid::from_u128(3),
        barcode: "A".to_owned(),
        pool: String::new(),
        block_size: limits::BLOCK_SIZE_MIN,
        labelled_at_unix_nanos: 0,
        writer: String::new(),
    };
    let blocks = label::encode(&label).unwrap();
    assert!(blocks.iter().all(|b| b.len() <= limits::LABEL_BLOCK));
    assert!(matches!(
        label::decode(&blocks[..2]),
        Err(label::Error::Incomplete(_))
    ));
    for (at, _) in blocks[2].iter().enumerate() {
        let mut spoilt = blocks.clone();
        spoilt[2][at] ^= 1;
        assert!(label::decode(&spoilt).is_err(), "byte {at}");
    }
    for bad in [
        label::Label {
            barcode: "a b".to_owned(),
            ..label.clone()
        },
        label::Label {
            barcode: "'; rm".to_owned(),
            ..label.clone()
        },
        label::Label {
            pool: "a\nb".to_owned(),
            ..label.clone()
        },
        label::Label {
            block_size: 1000,
            ..label.clone()
        },
        label::Label {
            volume_uuid: uuid::Uuid::nil(),
            ..label.clone()
        },
    ] {
        assert!(matches!(label::encode(&bad), Err(label::Error::Field(_))));
    }
}

#[test]
fn every_flipped_byte_of_block_0_is_noticed() {
    let good = synthetic::block0(16_384).encode().unwrap();
    for at in 0..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        assert!(block0::Block0::decode(&bytes).is_err(), "byte {at}");
    }
}

#[test]
fn the_longest_names_fit_the_smallest_block() {
    let long = "\n".repeat(limits::NAME);
    let mut block0 = synthetic::block0(limits::BLOCK_SIZE_MIN);
    block0.source.clone_from(&long);
    block0.plan.clone_from(&long);
    block0.line = long;
    let bytes = block0.encode().unwrap();
    assert_eq!(block0::Block0::decode(&bytes), Ok(block0));
}

proptest! {
    #[test]
    fn blocks_are_full_but_the_last_and_lose_nothing(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..5000), 0..20),
        block_size in 1..3000_u32,
    ) {
        let mut blocker = Blocker::new(block_size);
        let mut blocks = Vec::new();
        for piece in &pieces {
            blocks.extend(blocker.push(piece.clone().into()));
        }
        prop_assert!(blocks.iter().all(|b| b.len() == block_size as usize));
        let last = blocker.finish();
        prop_assert!(last.as_ref().is_none_or(|b| !b.is_empty() && b.len() < block_size as usize));
        blocks.extend(last);
        prop_assert_eq!(blocks.concat(), pieces.concat());
    }

    #[test]
    fn a_table_finds_every_byte(
        lengths in prop::collection::vec(1..30_000_usize, 1..20),
        segment_size in 500..9_000_usize,
        skip in any::<prop::sample::Index>(),
        seed in any::<u64>(),
    ) {
        let sealed = seal(archive(ARCHIVE, &lengths, segment_size, seed).1);
        let mut table = SegmentTable::new(4096);
        let mut at = 4096;
        let skip = skip.index(sealed.len());
        for (index, segment) in sealed.iter().enumerate() {
            if index != skip || sealed.len() == 1 {
                table.push_at(&segment.header, at).unwrap();
            }
            at += segment.bytes.len() as u64;
        }
        let back = SegmentTable::decode(&table.encode()).unwrap();
        prop_assert_eq!(back.digest(), table.digest());
        prop_assert_eq!(&back, &table);
        for (index, segment) in sealed.iter().enumerate() {
            let header = &segment.header;
            for offset in [header.tar_offset, header.tar_end() - 1] {
                let found = table.locate(offset);
                if index == skip && sealed.len() > 1 {
                    prop_assert_eq!(found, None);
                } else {
                    let found = found.unwrap();
                    prop_assert_eq!(found.sequence, header.sequence);
                    prop_assert_eq!(found.stored_length as usize, segment.bytes.len());
                    let covering = table.covering(offset..offset + 1);
                    prop_assert_eq!(covering, &[found][..]);
                }
            }
        }
        let all = table.covering(0..u64::MAX);
        prop_assert_eq!(all, table.segments());
    }
}
