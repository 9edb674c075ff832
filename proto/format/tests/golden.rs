//! Golden bytes: what is on tapes today must be read for ever, and what is written must not change unnoticed.
//!
//! `BLESS=1 cargo test -p taf-format --test golden` writes the files anew; a file of a released version is never
//! blessed again: a changed encoding gets a new version and a new file.
#![allow(clippy::unwrap_used, missing_docs)]

mod synthetic;

use std::path::PathBuf;

use synthetic::{ARCHIVE, Random};
use taf_format::block0::{Block0, Predecessor};
use taf_format::index;
use taf_format::label::{self, Label};
use taf_format::record::{self, Dictionary, Entry, Page};
use taf_format::segment::{self, Header, Method};
use taf_format::table::SegmentTable;
use uuid::Uuid;

fn golden(name: &str, written: Option<&[u8]>) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("golden")
        .join(name);
    if let Some(written) = written
        && std::env::var_os("BLESS").is_some()
    {
        std::fs::write(&path, written).unwrap();
    }
    let golden = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    if let Some(written) = written {
        assert!(
            golden == written,
            "{name} is no longer what is written:\n{}\n{}",
            String::from_utf8_lossy(&golden),
            String::from_utf8_lossy(written)
        );
    }
    golden
}

fn a_label() -> Label {
    Label {
        installation_uuid: Uuid::from_u128(0x0102_0304),
        volume_uuid: Uuid::from_u128(0x0506_0708),
        recording_uuid: Uuid::from_u128(0x090a_0b0c),
        barcode: "TAF001L9".to_owned(),
        pool: "nightly".to_owned(),
        block_size: 524_288,
        labelled_at_unix_nanos: 1_767_225_600_000_000_000,
        writer: "taf 0.1.0".to_owned(),
    }
}

fn a_header() -> Header {
    Header {
        line_uuid: Uuid::from_u128(0x11),
        version: 2,
        archive_ordinal: 3,
        archive_uuid: ARCHIVE,
        attempt: 4,
        sequence: 5,
        tar_offset: 5 * 4_194_304,
        next_entry: Some(5 * 4_194_304 + 1536),
        tar_length: 4_194_304,
        stored_length: 1_234_567,
        records_length: 89_012,
        stored_crc32c: 0xdead_beef,
        method: Method::Zstd,
        suite: 0,
        last: true,
    }
}

fn a_second_part() -> Block0 {
    Block0 {
        source: "datei\u{202e}server\n".to_owned(),
        part: 3,
        tape_file: 1,
        volume: "TAF002L9".to_owned(),
        first_sequence: 16_000,
        first_tar_offset: 16_000 * 4_194_304,
        skip: Some(77_312),
        predecessor: Some(Predecessor {
            volume: "TAF001L9".to_owned(),
            tape_file: 12,
            bytes: Some(987_654_321),
        }),
        ..synthetic::block0(16_384)
    }
}

#[test]
fn the_label() {
    let blocks = label::encode(&a_label()).unwrap();
    assert_eq!(blocks[0].len(), 80);
    let stored = ["label-v1-0.bin", "label-v1-1.bin", "label-v1-2.bin"]
        .iter()
        .zip(&blocks)
        .map(|(name, block)| golden(name, Some(block)))
        .collect::<Vec<_>>();
    assert_eq!(label::decode(&stored), Ok(a_label()));
    // A person's text may be lost.
    assert_eq!(
        label::decode(&[stored[0].clone(), stored[2].clone()]),
        Ok(a_label())
    );
}

/// Of zstd the names are as they were when there was nothing else.
fn infix(method: Method) -> String {
    match method {
        Method::Zstd => String::new(),
        other => format!("-{}", other.name()),
    }
}

#[test]
fn the_segment_header() {
    for method in Method::ALL {
        let header = Header {
            method,
            ..a_header()
        };
        let name = format!("segment-header{}-v1.bin", infix(method));
        let stored = golden(&name, Some(&header.encode()));
        assert_eq!(stored.len(), method.header_length());
        assert_eq!(segment::peek(&stored).unwrap(), Some(header));
    }
}

#[test]
fn block_0() {
    let mut blocks = Vec::new();
    for method in Method::ALL {
        let (first, further) = (synthetic::block0(16_384), a_second_part());
        for (which, block0) in [("first", first), ("further", further)] {
            let name = format!("block0{}-v1-{which}.bin", infix(method));
            blocks.push((name, Block0 { method, ..block0 }));
        }
    }
    let copy = Block0 {
        copy: 2,
        ..a_second_part()
    };
    blocks.push(("block0-v1-copy.bin".to_owned(), copy));
    for (name, block0) in blocks {
        let name = name.as_str();
        let stored = golden(name, Some(&block0.encode().unwrap()));
        assert_eq!(Block0::decode(&stored), Ok(block0));
    }
}

#[test]
fn the_table() {
    let mut table = SegmentTable::new(524_288);
    for sequence in [100, 101, 102, 110] {
        let header = Header {
            sequence,
            tar_offset: sequence * 4_194_304,
            ..a_header()
        };
        if sequence == 110 {
            table.push_at(&header, 20_000_000).unwrap();
        } else {
            table.push(&header).unwrap();
        }
    }
    let stored = golden("table-v1.bin", Some(&table.encode()));
    assert_eq!(SegmentTable::decode(&stored), Ok(table));
}

fn records() -> Vec<record::Record> {
    vec![
        record::dictionary(Dictionary {
            id: 1,
            body: b"dictionary".to_vec().into(),
        }),
        record::entry(Entry {
            path: b"home/\xff\n".to_vec().into(),
            kind: record::Kind::File.into(),
            size: 5,
            mtime_seconds: -1,
            mtime_nanos: 999_999_999,
            ctime_seconds: 1_767_225_600,
            ctime_nanos: 1,
            mode: 0o6755,
            uid: 1000,
            gid: 100,
            blake3: vec![7; 32].into(),
            tar_offset: 1536,
            tar_length: 1024,
            hard_link_to: Vec::new().into(),
        }),
        record::page(Page {
            chunk: b"home".to_vec().into(),
            body: b"body".to_vec().into(),
            hashes: vec![7; 16].into(),
        }),
        record::tombstone(b"gone".to_vec()),
    ]
}

#[test]
fn the_records() {
    let mut encoded = Vec::new();
    for record in records() {
        record::encode(&record, &mut encoded).unwrap();
    }
    let stored = golden("records-v1.bin", Some(&encoded));
    let back: Result<Vec<_>, _> = record::iter(&stored).collect();
    assert_eq!(back, Ok(records()));
}

#[test]
fn a_whole_segment_is_still_read() {
    for method in Method::ALL {
        // It may compress differently tomorrow, so only reading is held fast.
        let mut cutter = segment::Cutter::new(synthetic::identity(ARCHIVE));
        let tar = [Random(1).bytes(600), vec![0; 5000]].concat();
        cutter.entry_starts(tar.len() as u64).unwrap();
        cutter.push_tar(&tar);
        for record in records() {
            cutter.push_record(&record).unwrap();
        }
        let mut sealer = segment::Sealer::by(method, method.default_level()).unwrap();
        let sealed = sealer.seal(cutter.finish().remove(0)).unwrap();
        let name = format!("segment{}-v1.bin", infix(method));
        let stored = if std::env::var_os("BLESS").is_some() {
            golden(&name, Some(&sealed.bytes))
        } else {
            golden(&name, None)
        };
        let opened = segment::open(&stored).unwrap();
        assert_eq!(opened.header.method, method);
        assert_eq!(opened.tar, tar);
        let back: Result<Vec<_>, _> = record::iter(&opened.records).collect();
        assert_eq!(back, Ok(records()));
        assert!(opened.header.last);
    }
}

#[test]
fn the_volume_index() {
    let head = synthetic::index_head(16_384);
    let stored = golden("index-v1-head.bin", Some(&head.encode().unwrap()));
    assert_eq!(index::Head::decode(&stored), Ok(head));
    let stored = golden("index-v1-pieces.bin", Some(&synthetic::index(1).concat()));
    let mut reader = index::Reader::new(Some(synthetic::INDEX), 0);
    reader.push_block(&stored);
    reader.finish();
    let mut summary = index::Summary::default();
    while let Some(event) = reader.next_event() {
        summary.take(&event);
    }
    assert!(summary.is_whole(), "{summary:?}");
    assert_eq!(summary, synthetic::index_summary(1));
}
