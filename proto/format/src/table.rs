//! The segment table of a part: where in the part each of its segments lies.
//!
//! The worker builds it while it writes; it stands beside the part's row and in volume indexes, and can always
//! be rebuilt from the segment headers. It turns a tar offset into a byte offset of the part, and so into a
//! block: first logical block + byte offset ÷ block size.

use std::ops::Range;

use crate::segment::Header;
use crate::{limits, varint};

const VERSION: u64 = 1;
/// Bytes of the smallest segment of any method: a header and nothing.
const SMALLEST: u64 = 128;

/// What can be wrong with a table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The part has as many segments as the format allows.
    #[error(
        "a part holds at most {} segments; end the part before this one",
        limits::PART_SEGMENTS
    )]
    Full,
    /// A segment was added out of order.
    #[error("segment {sequence} does not follow the one before it in the part's segment table")]
    Order {
        /// Its sequence.
        sequence: u64,
    },
    /// The encoded table is not one.
    #[error("a segment table is damaged: {0}; rebuild it from the part's segment headers")]
    Malformed(&'static str),
    /// The encoded table is of a later format.
    #[error("a segment table has version {0}, which this version does not know; use a newer TAF")]
    Version(u64),
}

/// A segment's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Located {
    /// Its sequence in the archive.
    pub sequence: u64,
    /// Bytes from the part's first byte (block 0 counts) to its header.
    pub byte_offset: u64,
    /// Bytes of header, data and records.
    pub stored_length: u32,
    /// Offset in the archive's tar stream of its first tar byte.
    pub tar_offset: u64,
    /// Its bytes of tar.
    pub tar_length: u32,
}

impl Located {
    /// The byte offset in the part of what follows it.
    pub fn byte_end(&self) -> u64 {
        self.byte_offset + u64::from(self.stored_length)
    }

    /// The offset in the archive's tar stream of what follows it.
    pub fn tar_end(&self) -> u64 {
        self.tar_offset + u64::from(self.tar_length)
    }
}

/// The table. Sequences, tar offsets and byte offsets only grow; a table rebuilt from a damaged part has gaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentTable {
    /// Where the next segment begins if nothing is missing.
    next: Located,
    segments: Vec<Located>,
}

impl SegmentTable {
    /// An empty table of a part whose first segment begins `first_byte` bytes from its first byte: the block size,
    /// for block 0 takes one block.
    pub fn new(first_byte: u64) -> Self {
        Self {
            next: Located {
                sequence: 0,
                byte_offset: first_byte,
                stored_length: 0,
                tar_offset: 0,
                tar_length: 0,
            },
            segments: Vec::new(),
        }
    }

    /// Adds the segment that follows the last one in the part.
    pub fn push(&mut self, header: &Header) -> Result<(), Error> {
        self.push_at(header, self.next.byte_offset)
    }

    /// Adds a segment that begins at `byte_offset`; there may be a gap before it.
    pub fn push_at(&mut self, header: &Header, byte_offset: u64) -> Result<(), Error> {
        self.add(Located {
            sequence: header.sequence,
            byte_offset,
            stored_length: header.stored_total() as u32,
            tar_offset: header.tar_offset,
            tar_length: header.tar_length,
        })
    }

    fn add(&mut self, segment: Located) -> Result<(), Error> {
        if self.segments.len() >= limits::PART_SEGMENTS {
            return Err(Error::Full);
        }
        let order = Error::Order {
            sequence: segment.sequence,
        };
        if segment.sequence < self.next.sequence
            || segment.byte_offset < self.next.byte_offset
            || segment.tar_offset < self.next.tar_offset
        {
            return Err(order);
        }
        let next = Located {
            sequence: segment.sequence.checked_add(1).ok_or(order.clone())?,
            byte_offset: segment
                .byte_offset
                .checked_add(u64::from(segment.stored_length))
                .ok_or(order.clone())?,
            tar_offset: segment
                .tar_offset
                .checked_add(u64::from(segment.tar_length))
                .ok_or(order)?,
            ..self.next
        };
        self.next = next;
        self.segments.push(segment);
        Ok(())
    }

    /// Leaves the first `count` segments, at least one, as if the others had never been added.
    pub fn truncate(&mut self, count: usize) {
        let kept = count.max(1);
        if let Some(last) = self.segments.get(kept - 1) {
            self.next = Located {
                sequence: last.sequence + 1,
                byte_offset: last.byte_end(),
                tar_offset: last.tar_end(),
                ..self.next
            };
            self.segments.truncate(kept);
        }
    }

    /// The segments in order.
    pub fn segments(&self) -> &[Located] {
        &self.segments
    }

    /// The number of segments.
    pub fn len(&self) -> usize {
        self.segments.len()
    }

    /// Whether there is no segment.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Whether the part must end: there is no room for another segment.
    pub fn is_full(&self) -> bool {
        self.segments.len() >= limits::PART_SEGMENTS
    }

    /// Bytes from the part's first byte to the end of its last segment: the part's length, or what counts of a
    /// truncated one.
    pub fn byte_end(&self) -> u64 {
        self.next.byte_offset
    }

    /// The range of the archive's tar stream from the first segment to the last.
    pub fn tar_range(&self) -> Range<u64> {
        self.segments
            .first()
            .map_or(0..0, |first| first.tar_offset..self.next.tar_offset)
    }

    /// The segment that holds the byte at `tar_offset`; `None` if the part has none.
    pub fn locate(&self, tar_offset: u64) -> Option<Located> {
        let after = self
            .segments
            .partition_point(|segment| segment.tar_offset <= tar_offset);
        let found = self.segments[..after].last()?;
        (tar_offset < found.tar_end()).then_some(*found)
    }

    /// The segments that hold any byte of `tar`, in order.
    pub fn covering(&self, tar: Range<u64>) -> &[Located] {
        if tar.is_empty() {
            return &[];
        }
        let first = self
            .segments
            .partition_point(|segment| segment.tar_end() <= tar.start);
        let after = self
            .segments
            .partition_point(|segment| segment.tar_offset < tar.end);
        self.segments.get(first..after).unwrap_or(&[])
    }

    /// The table as it is stored.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + 8 * self.segments.len());
        varint::put(&mut out, VERSION);
        varint::put(&mut out, self.segments.len() as u64);
        let mut next = Self::new(0).next;
        for (index, segment) in self.segments.iter().enumerate() {
            let gap = index == 0
                || segment.sequence != next.sequence
                || segment.byte_offset != next.byte_offset
                || segment.tar_offset != next.tar_offset;
            varint::put(
                &mut out,
                u64::from(segment.tar_length) << 1 | u64::from(gap),
            );
            if gap {
                varint::put(&mut out, segment.sequence - next.sequence);
                varint::put(&mut out, segment.tar_offset - next.tar_offset);
                varint::put(&mut out, segment.byte_offset - next.byte_offset);
            }
            varint::put(&mut out, u64::from(segment.stored_length));
            next = Located {
                sequence: segment.sequence + 1,
                byte_offset: segment.byte_end(),
                tar_offset: segment.tar_end(),
                ..next
            };
        }
        out
    }

    /// Reads a stored table. Every offset in it is possible afterwards, and grows.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, Error> {
        const CUT: Error = Error::Malformed("it is cut short");
        if bytes.len() > limits::TABLE {
            return Err(Error::Malformed("it is too long"));
        }
        let version = varint::take(&mut bytes).ok_or(CUT)?;
        if version != VERSION {
            return Err(Error::Version(version));
        }
        let count = varint::take(&mut bytes).ok_or(CUT)?;
        // A segment takes at least two bytes: the count cannot claim more memory than the input is worth.
        if count > limits::PART_SEGMENTS as u64 || count > bytes.len() as u64 / 2 {
            return Err(Error::Malformed("it claims more segments than it has"));
        }
        let mut table = Self::new(0);
        table.segments.reserve_exact(count as usize);
        for index in 0..count {
            let mut segment = table.next;
            let lengths = varint::take(&mut bytes).ok_or(CUT)?;
            if lengths & 1 == 1 {
                let mut gap = |from: u64| -> Result<u64, Error> {
                    from.checked_add(varint::take(&mut bytes).ok_or(CUT)?)
                        .ok_or(Error::Malformed("an offset is impossible"))
                };
                segment.sequence = gap(segment.sequence)?;
                segment.tar_offset = gap(segment.tar_offset)?;
                segment.byte_offset = gap(segment.byte_offset)?;
                if segment == table.next && index > 0 {
                    return Err(Error::Malformed("an empty gap is stated"));
                }
            } else if index == 0 {
                return Err(Error::Malformed("its first segment has no place"));
            }
            let stored = varint::take(&mut bytes).ok_or(CUT)?;
            if lengths >> 1 > limits::SEGMENT_TAR as u64
                || stored < SMALLEST
                || stored > limits::SEGMENT_STORED as u64
            {
                return Err(Error::Malformed("a length is impossible"));
            }
            segment.tar_length = (lengths >> 1) as u32;
            segment.stored_length = stored as u32;
            table
                .add(segment)
                .map_err(|_| Error::Malformed("an offset is impossible"))?;
        }
        if !bytes.is_empty() {
            return Err(Error::Malformed("bytes follow its end"));
        }
        Ok(table)
    }

    /// BLAKE3 of the stored form: two tables of one part agree exactly when this does.
    pub fn digest(&self) -> [u8; 32] {
        *blake3::hash(&self.encode()).as_bytes()
    }
}
