//! Segments: 4 MiB of the tar stream, compressed on their own, with a header before and their records behind.
//!
//! Owns the methods ([`Method`]) and all that differs between them, the header ([`Header`]), the cutting of a stream
//! ([`Cutter`]), the sealing of a cut piece ([`Sealer`]: pure, for worker threads) and the opening of a stored one
//! ([`open`]). Knows nothing of blocks, parts or what the tar bytes mean.

pub(crate) mod coding;
mod cutter;
mod header;
mod method;
mod seal;
mod stream;

pub use cutter::{Cutter, Identity, RawSegment};
pub use header::{Header, peek};
pub(crate) use header::{PENDING, START, starts};
pub use method::Method;
pub use seal::{Opened, Sealed, Sealer, open, records, verify};
pub use stream::{Stream, Supply};

/// Bytes of tar at which a segment ends.
pub const SEGMENT_TAR: usize = crate::limits::SEGMENT_TAR;
/// Bytes of records at which a segment ends.
pub const SEGMENT_RECORDS: usize = crate::limits::SEGMENT_RECORDS;

/// What can be wrong with a segment.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no segment header where one must be.
    #[error("there is no segment header here; look for the next one")]
    NoHeader,
    /// The header is one, but damaged.
    #[error("a segment header is damaged: {0}; look for the next one")]
    Header(&'static str),
    /// The header is of a later format.
    #[error("a segment header has version {0}, which this version does not know; use a newer TAF")]
    Version(u16),
    /// The method is not one that this version reads.
    #[error(
        "segment {sequence} is stored by method {method}, which this version does not read; use a newer TAF"
    )]
    Method {
        /// The segment's sequence.
        sequence: u64,
        /// The id in its header.
        method: u8,
    },
    /// The segment is encrypted in a way that this version does not read.
    #[error(
        "segment {sequence} is encrypted by suite {suite}, which this version does not read; use a newer TAF"
    )]
    Suite {
        /// The segment's sequence.
        sequence: u64,
        /// The id in its header.
        suite: u8,
    },
    /// The bytes given are not exactly one segment.
    #[error("segment {sequence} has {expected} bytes on tape but {found} were read")]
    Length {
        /// The segment's sequence.
        sequence: u64,
        /// What the header says.
        expected: usize,
        /// What was given.
        found: usize,
    },
    /// The stored bytes differ from what was written.
    #[error("segment {sequence} is damaged: {what}; what lies in it must come from another copy")]
    Damaged {
        /// The segment's sequence.
        sequence: u64,
        /// What showed it.
        what: &'static str,
    },
    /// The records differ from what was written, or one is too large.
    #[error(transparent)]
    Record(#[from] crate::record::Error),
    /// The compressor failed.
    #[error("{method} could not compress segment {sequence}: {source}")]
    Compress {
        /// The method's name.
        method: &'static str,
        /// The segment's sequence.
        sequence: u64,
        /// What the compressor said.
        source: std::io::Error,
    },
    /// An entry began elsewhere than its predecessor's length said.
    #[error(
        "an entry begins at tar offset {found} but the one before it ends at {expected}; the archive would be wrong"
    )]
    EntryStart {
        /// Where the entry before it ends.
        expected: u64,
        /// Where it was said to begin.
        found: u64,
    },
}
