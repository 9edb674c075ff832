//! Promise 4: damage stays small. Any one damaged, dropped, doubled, foreign or unreadable block is found, said
//! where it is, and costs nothing but the segments that it touches.
#![allow(clippy::unwrap_used, missing_docs)]

mod synthetic;

use std::collections::BTreeMap;
use std::ops::Range;

use bytes::Bytes;
use proptest::prelude::*;
use synthetic::{ARCHIVE, Span, archive, blocks, seal, seal_by};
use taf_format::record::{self, Body};
use taf_format::resync::{Damage, Event, Expect, Found, PartReader, Point, Reason};
use taf_format::segment::{self, Method, Sealed};
use uuid::Uuid;

#[derive(Debug, Clone, Copy)]
enum Fault {
    Flip { byte: usize, mask: u8 },
    Drop,
    Double,
    ForeignInstead,
    ForeignBetween,
    Unreadable,
    Swap,
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        (any::<usize>(), 1..=255_u8).prop_map(|(byte, mask)| Fault::Flip { byte, mask }),
        Just(Fault::Drop),
        Just(Fault::Double),
        Just(Fault::ForeignInstead),
        Just(Fault::ForeignBetween),
        Just(Fault::Unreadable),
        Just(Fault::Swap),
    ]
}

fn method() -> impl Strategy<Value = Method> {
    // 7z has the covers of tar, and is too slow for hundreds of archives.
    prop::sample::select(vec![Method::Zstd, Method::Gzip, Method::Tar])
}

/// The faulty block, or blocks, and the stream with the fault in it; `None` is a block that can't be read.
fn spoil(good: &[Bytes], foreign: &[Bytes], at: usize, fault: Fault) -> Vec<Option<Bytes>> {
    let mut out: Vec<Option<Bytes>> = good.iter().cloned().map(Some).collect();
    match fault {
        Fault::Flip { byte, mask } => {
            let mut block = good[at].to_vec();
            let byte = byte % block.len();
            block[byte] ^= mask;
            out[at] = Some(block.into());
        }
        Fault::Drop => {
            out.remove(at);
        }
        Fault::Double => out.insert(at, Some(good[at].clone())),
        Fault::ForeignInstead => out[at] = Some(foreign[at % foreign.len()].clone()),
        Fault::ForeignBetween => out.insert(at, Some(foreign[at % foreign.len()].clone())),
        Fault::Unreadable => out[at] = None,
        Fault::Swap => out.swap(at, (at + 1).min(good.len() - 1)),
    }
    out
}

/// How many bytes are the same in both.
fn alike(good: &[Bytes], stream: &[Option<Bytes>]) -> u64 {
    let read = stream.iter().flatten().flatten();
    let same = good.iter().flatten().zip(read).take_while(|(a, b)| a == b);
    same.count() as u64
}

fn read(stream: &[Option<Bytes>], expect: Expect, block_size: u32) -> (Vec<Found>, Vec<Damage>) {
    let mut reader = PartReader::new(expect, u64::from(block_size));
    let mut events = Vec::new();
    for block in stream {
        match block {
            Some(block) => reader.push_block(block),
            None => reader.lost_block(block_size),
        }
        events.extend(std::iter::from_fn(|| reader.next_event()));
    }
    reader.finish();
    events.extend(std::iter::from_fn(|| reader.next_event()));
    let (mut found, mut damage) = (Vec::new(), Vec::new());
    for event in events {
        match event {
            Event::Segment(segment) => found.push(segment),
            Event::Damaged(place) => damage.push(place),
        }
    }
    (found, damage)
}

/// Byte ranges of the segments behind block 0, as written.
fn places(sealed: &[Sealed], block_size: u32) -> Vec<Range<u64>> {
    let mut at = u64::from(block_size);
    sealed
        .iter()
        .map(|segment| {
            let start = at;
            at += segment.bytes.len() as u64;
            start..at
        })
        .collect()
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

fn expect_all(sealed: &[Sealed]) -> Expect {
    let last = &sealed.last().unwrap().header;
    Expect {
        archive_uuid: Some(ARCHIVE),
        first: Some(Point {
            sequence: 0,
            tar_offset: 0,
        }),
        end: Some(Point {
            sequence: last.sequence + 1,
            tar_offset: last.tar_end(),
        }),
    }
}

/// Every entry whose bytes lie in found segments alone has its bytes and, if its last segment is there, its record.
fn check_entries(spans: &[Span], sealed: &[Sealed], found: &[Found]) {
    let opened: BTreeMap<u64, segment::Opened> = found
        .iter()
        .map(|f| (f.header.sequence, segment::open(&f.bytes).unwrap()))
        .collect();
    let mut records = BTreeMap::new();
    for segment in opened.values() {
        for record in record::iter(&segment.records) {
            let Some(Body::Entry(entry)) = record.unwrap().record else {
                panic!("only entries were written")
            };
            records.insert(entry.tar_offset, entry);
        }
    }
    for span in spans {
        let end = span.tar_offset + span.content.len() as u64;
        let range = span.tar_offset..end;
        let mut bytes = Vec::new();
        for header in sealed.iter().map(|s| &s.header) {
            let tar = header.tar_offset..header.tar_end();
            if overlap(&tar, &range)
                && let Some(segment) = opened.get(&header.sequence)
            {
                let from = range.start.max(tar.start) - tar.start;
                let to = range.end.min(tar.end) - tar.start;
                bytes.extend_from_slice(&segment.tar[from as usize..to as usize]);
            }
        }
        let whole = sealed
            .iter()
            .map(|s| &s.header)
            .filter(|h| overlap(&(h.tar_offset..h.tar_end()), &range))
            .all(|h| opened.contains_key(&h.sequence));
        if whole {
            assert!(bytes == span.content);
            let entry = &records[&span.tar_offset];
            assert_eq!(entry.blake3[..], blake3::hash(&span.content).as_bytes()[..]);
            assert_eq!(entry.tar_length, span.content.len() as u64);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_sound_part_comes_back_whole(
        lengths in prop::collection::vec(1..60_000_usize, 1..30),
        segment_size in 1_000..40_000_usize,
        block_size in 512..20_000_u32,
        seed in any::<u64>(),
        blind in any::<bool>(),
        method in method(),
    ) {
        let (spans, raw) = archive(ARCHIVE, &lengths, segment_size, seed);
        let sealed = seal_by(method, raw);
        let blocks = blocks(&sealed, block_size);
        prop_assert!(blocks[..blocks.len() - 1].iter().all(|b| b.len() == block_size as usize));
        let stream: Vec<_> = blocks.into_iter().map(Some).collect();
        let expect = if blind { Expect::default() } else { expect_all(&sealed) };
        let (found, damage) = read(&stream, expect, block_size);
        prop_assert_eq!(damage, vec![]);
        prop_assert_eq!(found.len(), sealed.len());
        for ((found, sealed), place) in found.iter().zip(&sealed).zip(places(&sealed, block_size)) {
            prop_assert_eq!(&found.bytes, &sealed.bytes);
            prop_assert_eq!(found.byte_offset, place.start);
        }
        check_entries(&spans, &sealed, &found);
    }

    #[test]
    fn one_bad_block_costs_only_the_segments_it_touches(
        lengths in prop::collection::vec(1..60_000_usize, 1..30),
        segment_size in 1_000..40_000_usize,
        block_size in 512..20_000_u32,
        seed in any::<u64>(),
        at in any::<usize>(),
        fault in fault(),
        method in method(),
    ) {
        let (spans, raw) = archive(ARCHIVE, &lengths, segment_size, seed);
        let sealed = seal_by(method, raw);
        let good = blocks(&sealed, block_size);
        let foreign = blocks(&seal_by(method, archive(Uuid::from_u128(0xbad), &lengths, segment_size, !seed).1), block_size);
        let at = at % good.len();
        let stream = spoil(&good, &foreign, at, fault);
        prop_assume!(stream.iter().flatten().ne(good.iter()));
        let (found, damage) = read(&stream, expect_all(&sealed), block_size);

        // Found and located: a damage is reported, and where the fault is.
        let start = u64::from(block_size) * (at as u64 + 1);
        let fault_range = match fault {
            // What follows may begin as the dropped block did, with a filling's zeros, say.
            Fault::Drop => start..start + alike(&good[at..], &stream[at..]),
            // Either of two equal blocks may be called the second.
            Fault::Swap | Fault::Double => start..start + 2 * u64::from(block_size),
            _ => start..start + u64::from(block_size),
        };
        prop_assert!(!damage.is_empty());
        prop_assert!(
            damage.iter().any(|d| d.bytes.start <= fault_range.end && fault_range.start <= d.bytes.end),
            "{damage:?} {fault_range:?}"
        );

        // What is missing is exactly what is said to be.
        let mut missing: Vec<u64> = (0..sealed.len() as u64).collect();
        for segment in &found {
            let original = &sealed[segment.header.sequence as usize];
            prop_assert_eq!(&segment.bytes, &original.bytes);
            missing.retain(|&sequence| sequence != segment.header.sequence);
        }
        let said: Vec<u64> = damage.iter().flat_map(|d| d.sequences.clone()).collect();
        prop_assert_eq!(&said, &missing);
        for d in &damage {
            if let Some(first) = d.sequences.clone().next() {
                let last = &sealed[d.sequences.end as usize - 1].header;
                prop_assert_eq!(d.tar.clone(), sealed[first as usize].header.tar_offset..last.tar_end());
            }
        }

        // It costs no segment that the fault does not touch.
        let block = |index: usize| {
            let start = u64::from(block_size) * (index as u64 + 1);
            start..start + good[index].len() as u64
        };
        for (sequence, place) in places(&sealed, block_size).iter().enumerate() {
            let touched = match fault {
                Fault::ForeignBetween => place.start < start && start < place.end,
                Fault::Swap => overlap(place, &block(at)) || overlap(place, &block((at + 1).min(good.len() - 1))),
                _ => overlap(place, &block(at)),
            };
            prop_assert!(touched || !missing.contains(&(sequence as u64)), "segment {sequence} was lost needlessly");
        }
        check_entries(&spans, &sealed, &found);
    }
}

#[test]
fn of_7z_too_a_bad_block_costs_only_the_segments_it_touches() {
    let (spans, raw) = archive(ARCHIVE, &[30_000, 100, 70_000, 9_000], 20_000, 5);
    let sealed = seal_by(Method::SevenZip, raw);
    let good = blocks(&sealed, 4096);
    for at in 0..good.len() {
        let stream = spoil(
            &good,
            &good,
            at,
            Fault::Flip {
                byte: at * 7,
                mask: 1,
            },
        );
        let (found, damage) = read(&stream, expect_all(&sealed), 4096);
        assert!(!damage.is_empty(), "block {at}");
        let start = 4096 * (at as u64 + 1);
        let touched = places(&sealed, 4096)
            .into_iter()
            .filter(|place| overlap(place, &(start..start + 4096)));
        assert!(found.len() >= sealed.len() - touched.count(), "block {at}");
        check_entries(&spans, &sealed, &found);
    }
}

#[test]
fn a_part_inside_a_file_does_not_lead_the_search_astray() {
    // A file that holds a part of another archive, stored as it is, in a segment that is then damaged before it.
    let inner = seal(archive(Uuid::from_u128(0xbad), &[3000], 1000, 1).1);
    let image: Vec<u8> = inner.iter().flat_map(|s| s.bytes.to_vec()).collect();
    let mut cutter = segment::Cutter::with_segment_size(synthetic::identity(ARCHIVE), 64 << 10);
    let mut random = synthetic::Random(2);
    cutter.push_tar(&random.bytes(64 << 10));
    cutter.push_tar(&random.bytes(30_000));
    cutter.push_tar(&image);
    cutter.push_tar(&random.bytes(64 << 10));
    let sealed = seal(cutter.finish());
    let mut stream: Vec<_> = blocks(&sealed, 16 << 10).into_iter().map(Some).collect();
    stream[4] = None;
    let (found, damage) = read(&stream, expect_all(&sealed), 16 << 10);
    let sequences: Vec<u64> = found.iter().map(|f| f.header.sequence).collect();
    assert_eq!(damage.len(), 1, "{damage:?}");
    assert_eq!(damage[0].reason, Reason::Unreadable);
    assert_eq!(damage[0].sequences, 0..2);
    assert_eq!(sequences, [2]);
}

#[test]
fn a_lost_tail_is_named_from_what_is_known_beforehand() {
    let sealed = seal(archive(ARCHIVE, &[50_000], 10_000, 3).1);
    let mut stream: Vec<_> = sealed.iter().map(|s| Some(s.bytes.clone())).collect();
    stream.truncate(3);
    let (found, damage) = read(&stream, expect_all(&sealed), 4096);
    assert_eq!(found.len(), 3);
    assert_eq!(damage[0].reason, Reason::Missing);
    assert_eq!(damage[0].sequences, 3..sealed.len() as u64);
    let (_, damage) = read(&stream, Expect::default(), 4096);
    assert_eq!(damage, []);
}

#[test]
fn bytes_behind_the_archives_end_are_reported_but_nothing_is_missing() {
    let sealed = seal(archive(ARCHIVE, &[5_000], 10_000, 3).1);
    let mut stream: Vec<_> = sealed.iter().map(|s| Some(s.bytes.clone())).collect();
    stream.push(Some(Bytes::from_static(b"something else")));
    let (found, damage) = read(&stream, Expect::default(), 4096);
    assert_eq!(found.len(), 1);
    assert_eq!(damage.len(), 1);
    assert!(damage[0].sequences.is_empty() && damage[0].tar.is_empty());
}
