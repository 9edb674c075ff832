//! Reading a part back whole: every segment proved, its records and its segment table taken. Runs on the drive's thread.
//!
//! This is how a part comes into the catalog that only the tape knows of: one that a killed worker left ([`crate::adopt`]), and one
//! that no volume index has ([`crate::rescan`]).

use taf_format::block0::Block0;
use taf_format::resync::{Event, Expect, PartReader, Point};
use taf_format::segment::{self, Header};
use taf_format::table::SegmentTable;
use taf_proto::v1::Fault;
use tokio_util::sync::CancellationToken;

use crate::fault::stopped;
use crate::gauge::Gauge;
use crate::reader::Reader;

/// Where a part lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Logical block of its block 0.
    pub first_block: u64,
    /// Blocks, block 0 included, the filemark not.
    pub blocks: u64,
    /// Sequence of the last segment that counts, of a part that an error cut off; `None` if all of it counts.
    pub until: Option<u64>,
}

/// What was read.
#[derive(Debug)]
pub struct Back {
    /// Its segments.
    pub table: SegmentTable,
    /// Bytes that count, block 0 included.
    pub byte_count: u64,
    /// Header of its first segment.
    pub first: Header,
    /// Whether the archive's last segment is in it.
    pub last: bool,
}

/// Reads a part of a volume with blocks of `block_size`. The records of its segments, as they lie on tape, go to `take`, which may
/// refuse them. Gives what was read, or why it is not whole.
pub fn part(
    reader: &mut Reader<'_>,
    gauge: &Gauge,
    block_size: u32,
    (extent, block0): (Extent, &Block0),
    stop: &CancellationToken,
    take: &mut dyn FnMut(&[u8]) -> Result<(), String>,
) -> Result<Result<Back, String>, Fault> {
    let block_size = u64::from(block_size);
    let expect = Expect {
        archive_uuid: Some(block0.archive_uuid),
        first: Some(Point {
            sequence: block0.first_sequence,
            tar_offset: block0.first_tar_offset,
        }),
        end: None,
    };
    let mut parts = PartReader::new(expect, block_size);
    let mut table = SegmentTable::new(block_size);
    let (mut byte_count, mut first, mut last) = (block_size, None, false);
    let is_all = |table: &SegmentTable| {
        let end = table.segments().last().map(|end| end.sequence);
        extent.until.is_some_and(|until| end == Some(until))
    };
    for block in 1..=extent.blocks {
        if block < extent.blocks {
            let at = extent.first_block + block;
            let length = match reader.block(at, extent.first_block + extent.blocks)? {
                Ok(length) => length,
                Err(reason) => return Ok(Err(format!("block {at} can't be read: {reason}"))),
            };
            let bytes = reader.bytes(length);
            byte_count += bytes.len() as u64;
            gauge.flowed(bytes.len() as u64);
            parts.push_block(bytes);
        } else {
            parts.finish();
        }
        while let Some(event) = parts.next_event() {
            let found = match event {
                Event::Segment(found) => found,
                Event::Damaged(damage) => return Ok(Err(damage.reason.to_string())),
            };
            if let Err(why) = segment::records(&found.bytes)
                .map_err(|error| error.to_string())
                .and_then(|records| take(&records))
                .and_then(|()| {
                    let pushed = table.push_at(&found.header, found.byte_offset);
                    pushed.map_err(|error| error.to_string())
                })
            {
                return Ok(Err(why));
            }
            last = found.header.last;
            first.get_or_insert(found.header);
            if is_all(&table) {
                break;
            }
        }
        if is_all(&table) {
            byte_count = table.byte_end();
            break;
        }
        if stop.is_cancelled() {
            return Err(stopped());
        }
    }
    let Some(first) = first else {
        return Ok(Err("it holds no segment".to_owned()));
    };
    if extent.until.is_some() && !is_all(&table) {
        return Ok(Err("segments that count are missing at its end".to_owned()));
    }
    Ok(Ok(Back {
        table,
        byte_count,
        first,
        last,
    }))
}
