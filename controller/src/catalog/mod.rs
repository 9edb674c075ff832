//! The catalog: what versions hold and where it is on tape. Takes parts in, publishes versions, shows listings, resolves
//! recalls.
//!
//! It works on directory pages; no file has a row. It decides nothing about jobs or drives, and believes an agent only as
//! far as the agent's certificate, its attempt and the generation go.

pub mod base;
pub mod browse;
pub mod check;
pub mod closing;
pub mod commit;
pub mod extra;
pub mod feed;
pub mod gap;
pub mod index;
pub mod lifecycle;
mod matching;
mod rebuild;
pub mod recall;
mod records;
mod relocation;
pub mod removal;
pub mod report;
pub mod rescan;
pub mod retention;
pub mod search;
mod select;
pub mod shares;
pub mod trust;
pub mod turns;
pub mod vacuum;
pub mod verify;
pub mod view;
mod walk;

pub use lifecycle::{
    Opened, foresee, is_complete_on, kind, line_of, open_stream_on, open_version_on, publish_on,
};
pub use matching::Patterns;
pub use rebuild::{hold_on, settle_all};
pub use select::Selection;
pub use view::View;

use taf_format::page;

use crate::store;

/// Why the catalog did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The version has nothing at this path.
    #[error("the version has no {}", taf_proto::path::display(.0))]
    NotFound(Vec<u8>),
    /// The version has nothing that this pattern matches.
    #[error("nothing in the version matches {0}: `taf find` shows what there is")]
    NoMatch(String),
    /// The version is not whole, and what else is in a directory is not known.
    #[error(
        "what else is in {} is {why}: bring it, and take it in with `taf catalog rebuild BARCODE`; or choose paths below it, or name what \
         is to be left out of them",
        taf_proto::path::display(.directory)
    )]
    Unknown {
        /// Its absolute path.
        directory: Vec<u8>,
        /// Why, and which volume would tell.
        why: String,
    },
    /// A page in the catalog can't be read.
    #[error("the listing of {} in the catalog is damaged: {cause}; read it again from tape", taf_proto::path::display(.directory))]
    Damaged {
        /// Absolute path of the directory, as far as the key tells.
        directory: Vec<u8>,
        /// What is wrong.
        cause: page::Error,
    },
    /// A message breaks a rule of the protocol.
    #[error("the message can't be taken: {0}")]
    Invalid(String),
    /// The attempt or its generation is not one that was handed out.
    #[error(
        "attempt {0} with this generation is not known; connect again for the current assignments"
    )]
    UnknownAssignment(u64),
    /// The assignment is another agent's.
    #[error("attempt {0} is not this agent's work")]
    Foreign(u64),
    /// The part contradicts what is committed.
    #[error("{0}; the volume is quarantined")]
    Conflict(String),
    /// A newer attempt has opened the version; the part is an orphan now.
    #[error("the archive takes no more parts: {0}; the tape file is recorded as an orphan")]
    Closed(&'static str),
    /// The tape file does not begin where the recording ends.
    #[error("{0}")]
    Position(String),
    /// The catalog may be older than the tapes.
    #[error("the catalog may be older than the tapes: {0}")]
    Distrusted(String),
    /// The stream of messages ended with an error, or too early.
    #[error("the stream ended: {0}")]
    Stream(tonic::Status),
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Store(error.into())
    }
}
