//! Bodies of the fuzz targets: each takes any bytes and must neither panic nor disagree with itself. The fuzzer
//! in `fuzz/` calls them, and so does a test on every run.

use bytes::Bytes;

use crate::block0::Block0;
use crate::resync::{Event, Expect, PartReader};
use crate::table::SegmentTable;
use crate::{index, label, limits, part, record, segment};

/// Length-prefixed blocks (u16, little endian) as a label.
pub fn label(data: &[u8]) {
    let mut blocks = Vec::new();
    let mut rest = data;
    while let Some((length, behind)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_le_bytes(*length)).min(behind.len());
        blocks.push(behind[..length].to_vec());
        rest = &behind[length..];
    }
    let _ = label::identify(data).to_string();
    if let Ok(label) = label::decode(&blocks) {
        let again = label::encode(&label).expect("what was decoded is legal");
        assert_eq!(label::decode(&again), Ok(label));
    }
}

/// One segment, and the records in it.
pub fn segment(data: &[u8]) {
    if let Ok(Some(header)) = segment::peek(data) {
        assert_eq!(header.encode()[..], data[..header.length()]);
    }
    if let Ok(opened) = segment::open(data) {
        assert!(opened.tar.len() <= limits::SEGMENT_TAR);
        records(&opened.records);
    }
    records(data);
}

fn records(data: &[u8]) {
    for record in record::iter(data) {
        let Ok(record) = record else { break };
        // Unknown fields are dropped, so only the meaning must survive.
        let mut again = Vec::new();
        record::encode(&record, &mut again).expect("what was decoded is small enough");
        assert_eq!(record::iter(&again).next(), Some(Ok(record)));
    }
}

/// A block 0.
pub fn block0(data: &[u8]) {
    if let Ok(block0) = Block0::decode(data)
        && let Ok(again) = block0.encode()
    {
        assert_eq!(Block0::decode(&again), Ok(block0));
    }
}

/// A segment table.
pub fn table(data: &[u8]) {
    if let Ok(table) = SegmentTable::decode(data) {
        assert_eq!(SegmentTable::decode(&table.encode()), Ok(table.clone()));
        for segment in table.segments() {
            if segment.tar_length > 0 {
                assert_eq!(table.locate(segment.tar_offset), Some(*segment));
            }
        }
    }
}

/// A part behind its block 0, in blocks of 4 KiB: every byte read is accounted for, once, in order.
pub fn part(data: &[u8]) {
    const BLOCK: usize = 4096;
    let mut reader = PartReader::new(Expect::default(), 0);
    let mut blocker = part::Blocker::new(BLOCK as u32);
    let mut events = Vec::new();
    for block in blocker.push(Bytes::copy_from_slice(data)) {
        reader.push_block(&block);
        events.extend(std::iter::from_fn(|| reader.next_event()));
    }
    if let Some(block) = blocker.finish() {
        reader.push_block(&block);
    }
    reader.finish();
    events.extend(std::iter::from_fn(|| reader.next_event()));
    let mut at = 0;
    for event in events {
        match event {
            Event::Segment(found) => {
                assert_eq!(found.byte_offset, at);
                assert_eq!(found.bytes[..], data[at as usize..][..found.bytes.len()]);
                at += found.bytes.len() as u64;
                let _ = segment::open(&found.bytes);
            }
            Event::Damaged(damage) => {
                assert_eq!(damage.bytes.start, at);
                at = damage.bytes.end;
            }
        }
    }
    assert_eq!(at, data.len() as u64);
}

/// The first block of a volume index.
pub fn index_head(data: &[u8]) {
    if let Ok(head) = index::Head::decode(data) {
        let again = head.encode().expect("what was decoded is legal");
        assert_eq!(index::Head::decode(&again), Ok(head));
    }
}

/// A volume index behind its first block, in blocks of 4 KiB: every byte read is accounted for, once, in order.
pub fn index(data: &[u8]) {
    const BLOCK: usize = 4096;
    let mut reader = index::Reader::new(None, 0);
    let mut summary = index::Summary::default();
    let mut at = 0;
    let mut next = 0;
    let mut take = |reader: &mut index::Reader| {
        while let Some(event) = reader.next_event() {
            summary.take(&event);
            match event {
                index::Event::Piece(piece) => {
                    assert_eq!(piece.byte_offset, at);
                    at += (index::PIECE_HEAD + piece.records.len()) as u64;
                    assert!(piece.number >= next);
                    next = piece.number;
                }
                index::Event::Damaged(damage) => {
                    assert_eq!(damage.bytes.start, at);
                    at = damage.bytes.end;
                }
            }
        }
    };
    for block in data.chunks(BLOCK) {
        reader.push_block(block);
        take(&mut reader);
    }
    reader.finish();
    take(&mut reader);
    assert_eq!(at, data.len() as u64);
    let _ = summary.is_whole();
}
