//! The volume index: one tape file that says what the parts before it hold, so that a catalog is rebuilt without reading
//! them, and what only the controller knows of versions.
//!
//! Owns its first block ([`Head`]), its pieces ([`Writer`] makes them, [`Reader`] finds them again after damage) and
//! what the records in them mean together ([`items`], [`Summary`]). Everything is in skippable frames: an index among the
//! tape files of an archive changes nothing for `zstd -dc`. Each piece says what it is about and is understood alone, so
//! that a bad block costs what it held and no more.

mod head;
mod piece;
mod reader;
mod summary;
mod writer;

pub use head::Head;
pub(crate) use head::looks_like;
pub use piece::PIECE_HEAD;
pub use reader::{Damage, Event, Piece, Reader, Reason};
pub use summary::{CoveredPart, Item, Items, RecordingSummary, Summary, items};
pub use writer::Writer;

pub use taf_proto::tape::index_record::Record as Body;
pub use taf_proto::tape::{
    ClosedArchive, ClosedPart, ClosingRecord, IndexEnd, IndexOrphan, IndexPart, IndexPartEnd,
    IndexPointer, IndexRecord, IndexVolume, Need, UnchangedVersion, VersionType,
};

/// The version of [`ClosingRecord`] that is written.
pub const CLOSING_VERSION: u32 = 1;

/// What can be wrong with a volume index.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The block is not an index's first.
    #[error("this is not the first block of a volume index")]
    NotIndex,
    /// The first block differs from what was written.
    #[error("the first block of a volume index is damaged: {0}; its pieces can be read without")]
    Damaged(&'static str),
    /// A line is missing.
    #[error(
        "the first block of a volume index has no usable line '{0}'; its pieces can be read without"
    )]
    Line(&'static str),
    /// A field that the format does not allow.
    #[error("the first block of a volume index cannot have this {0}")]
    Field(&'static str),
    /// The text does not fit.
    #[error(
        "the text of a volume index's first block takes {needed} bytes, but a block has {block_size}; use larger blocks"
    )]
    TooLarge {
        /// Bytes it takes.
        needed: usize,
        /// Bytes there are.
        block_size: u32,
    },
    /// There is no piece where one must be.
    #[error("there is no piece of a volume index here; look for the next one")]
    NoPiece,
    /// The head of a piece is damaged.
    #[error("the head of a volume index's piece is damaged: {0}; look for the next one")]
    Head(&'static str),
    /// A piece is of a later format.
    #[error(
        "a volume index has version {0}, which this version does not know; use a newer TAF, or read the parts"
    )]
    Version(u16),
    /// A piece is coded or encrypted in a way that this version does not read.
    #[error(
        "a volume index is stored in a way that this version does not know; use a newer TAF, or read the parts"
    )]
    Stored,
    /// A record is larger than the format allows.
    #[error(
        "a record of {length} bytes is over the format's {} bytes; it cannot be in a volume index",
        crate::limits::RECORD
    )]
    Record {
        /// Its encoded length, or what the tape claims.
        length: u64,
    },
    /// A record is not the message it must be.
    #[error("a record of a volume index can't be decoded: {0}; the parts hold the same")]
    Malformed(String),
    /// A record is written without what it is about.
    #[error("a volume index cannot hold {0}")]
    Order(&'static str),
}
