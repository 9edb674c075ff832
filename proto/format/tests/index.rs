//! Volume indexes: what is written comes back, a bad block costs what it held, and stock tools step over all of it.
#![allow(clippy::unwrap_used, missing_docs)]

mod synthetic;

use std::io::Write as _;
use std::process::{Command, Stdio};

use bytes::Bytes;
use proptest::prelude::*;
use synthetic::INDEX;
use taf_format::index::{self, Event, Reader, Reason, Summary, Writer};
use taf_format::label::{Kind, identify};
use taf_format::part::Blocker;
use taf_format::{limits, record};

const BLOCK: u32 = 16 << 10;

fn blocks(pieces: &[Bytes]) -> Vec<Bytes> {
    let mut blocker = Blocker::new(BLOCK);
    let mut blocks = Vec::new();
    for piece in pieces {
        blocks.extend(blocker.push(piece.clone()));
    }
    blocks.extend(blocker.finish());
    blocks
}

/// What is read of blocks, of which some are lost.
fn read(blocks: &[Bytes], lost: impl Fn(usize) -> bool) -> (Summary, Vec<Event>) {
    let mut reader = Reader::new(Some(INDEX), u64::from(BLOCK));
    let (mut summary, mut events) = (Summary::default(), Vec::new());
    for (number, block) in blocks.iter().enumerate() {
        if lost(number) {
            reader.lost_block(block.len() as u32);
        } else {
            reader.push_block(block);
        }
        events.extend(std::iter::from_fn(|| reader.next_event()));
    }
    reader.finish();
    events.extend(std::iter::from_fn(|| reader.next_event()));
    for event in &events {
        summary.take(event);
    }
    (summary, events)
}

#[test]
fn an_index_comes_back_whole_and_each_piece_is_within_its_limit() {
    for pages in [0, 1, 400] {
        let pieces = synthetic::index(pages);
        assert_eq!(pieces.len() > 5, pages == 400, "{} pieces", pieces.len());
        assert!(
            pieces
                .iter()
                .all(|p| p.len() <= index::PIECE_HEAD + limits::INDEX_PIECE_MAX)
        );
        let (summary, _) = read(&blocks(&pieces), |_| false);
        assert!(summary.is_whole(), "{:?}", summary.damages);
        assert_eq!(summary, synthetic::index_summary(pages));
    }
}

#[test]
fn a_lost_block_costs_its_pieces_and_the_parts_in_them_and_is_said() {
    let pieces = synthetic::index(250);
    let blocks = blocks(&pieces);
    let whole = synthetic::index_summary(250);
    for lost in (0..blocks.len()).step_by(17).chain([blocks.len() - 1]) {
        let (summary, events) = read(&blocks, |number| number == lost);
        assert!(!summary.is_whole());
        assert_eq!(summary.damages.len(), 1, "block {lost}");
        let damage = &summary.damages[0];
        assert_eq!(damage.reason, Reason::Unreadable);
        let missing = pieces.len() - events.len() + 1;
        let last = damage.pieces.end == u32::MAX;
        assert!(
            last || damage.pieces.len() == missing,
            "block {lost}: {damage:?}"
        );
        assert!(missing <= 2, "a block of 16 KiB touches two pieces at most");
        for (uuid, recording) in &summary.recordings {
            for (tape_file, part) in &recording.parts {
                let expected = &whole.recordings[uuid].parts[tape_file];
                assert_eq!(part.part, expected.part);
                // Never more than there was, and whole only if all is there.
                assert_eq!(part.is_whole(), part == expected);
            }
        }
    }
}

#[test]
fn doubled_dropped_foreign_and_cut_blocks_are_told_apart_from_good_ones() {
    let pieces = synthetic::index(250);
    let good = blocks(&pieces);
    let at = good.len() / 2;
    let mut doubled = good.clone();
    doubled.insert(at, good[at].clone());
    let mut dropped = good.clone();
    dropped.remove(at);
    let mut foreign = good.clone();
    foreign[at] = vec![0x55; BLOCK as usize].into();
    for (what, blocks) in [
        ("doubled", doubled),
        ("dropped", dropped),
        ("foreign", foreign),
    ] {
        let (summary, events) = read(&blocks, |_| false);
        assert_eq!(summary.damages.len(), 1, "{what}");
        assert!(
            events.len() + 2 > pieces.len(),
            "{what}: {} of {}",
            events.len(),
            pieces.len()
        );
        assert!(summary.end.is_some(), "{what}: what follows is found");
    }
    let (summary, _) = read(&good[..at], |_| false);
    assert_eq!(summary.damages.last().unwrap().reason, Reason::Cut);
    assert_eq!(summary.end, None);
    // Of another index nothing is taken.
    let mut reader = Reader::new(Some(uuid::Uuid::from_u128(1)), 0);
    reader.push_block(&pieces.concat());
    reader.finish();
    let events: Vec<_> = std::iter::from_fn(|| reader.next_event()).collect();
    assert!(matches!(&events[..], [Event::Damaged(d)] if d.reason == Reason::Foreign(INDEX)));
}

#[test]
fn stock_tools_step_over_an_index_and_people_read_what_it_tells_of() {
    let head = synthetic::index_head(BLOCK).encode().unwrap();
    assert_eq!(identify(&head), Kind::TafIndex);
    let text = String::from_utf8_lossy(&head).into_owned();
    assert!(text.contains("index of cartridge TAF001L9") && text.contains("grep -o 'INDEX: .*'"));
    let pieces = synthetic::index(3).concat();
    assert!(String::from_utf8_lossy(&pieces).contains("INDEX: tape file 1: part 1 of version 7\n"));

    let data = zstd::bulk::compress(b"what is in a part", 1).unwrap();
    let mut child = Command::new("zstd")
        .args(["-dc", "-q"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin
        .write_all(&[&data[..], &head, &pieces, &data].concat())
        .unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(output.stdout, b"what is in a partwhat is in a part");
}

#[test]
fn what_has_no_place_is_refused() {
    let part = synthetic::index_part(1);
    let mut writer = Writer::new(INDEX);
    assert!(writer.part(part.clone()).is_err(), "no recording");
    assert!(writer.table(b"x").is_err(), "no part");
    assert!(writer.part_end().is_err(), "no part");
    writer.volume(synthetic::index_volume(1)).unwrap();
    writer.part(part.clone()).unwrap();
    assert!(writer.part(part.clone()).is_err(), "a part within a part");
    assert!(writer.closing(Bytes::new()).is_err(), "within a part");
    let large = record::Dictionary {
        id: 1,
        body: vec![0; limits::RECORD].into(),
    };
    let refused = writer.record(record::Body::Dictionary(large));
    assert!(matches!(refused, Err(index::Error::Record { .. })));
    assert!(writer.finish().is_err(), "an open part");
    let head = index::Head {
        earlier: Some((7, 1)),
        ..synthetic::index_head(BLOCK)
    };
    assert_eq!(head.encode(), Err(index::Error::Field("earlier index")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn any_damage_is_found_and_nothing_wrong_is_read(
        pages in 0..100_usize,
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 1..4),
    ) {
        let mut bytes = synthetic::index(pages).concat();
        for (at, bits) in &flips {
            let at = at.index(bytes.len());
            bytes[at] ^= bits;
        }
        let mut reader = Reader::new(Some(INDEX), 0);
        let mut summary = Summary::default();
        for block in bytes.chunks(BLOCK as usize) {
            reader.push_block(block);
            while let Some(event) = reader.next_event() {
                summary.take(&event);
            }
        }
        reader.finish();
        while let Some(event) = reader.next_event() {
            summary.take(&event);
        }
        let whole = synthetic::index_summary(pages);
        let untouched = bytes == synthetic::index(pages).concat();
        prop_assert_eq!(summary.is_whole(), untouched);
        for (uuid, recording) in &summary.recordings {
            for (tape_file, part) in &recording.parts {
                prop_assert_eq!(part.is_whole(), *part == whole.recordings[uuid].parts[tape_file]);
            }
        }
    }
}
