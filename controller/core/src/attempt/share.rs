//! The attempts of a job that has several streams: each has a drive of its own; of a backup also an archive, and all archives belong to
//! one version.
//!
//! ```text
//!   a further stream: its parts are in ─► succeeded      the first stream: all others succeeded or were dropped,
//!                     it has nothing  ──► dropped                          and its own parts are in ─► succeeded: published
//!   one fails, is cancelled or lost ────► all the others end in the same way
//! ```

use super::Verdict;
use crate::Fault;

/// The fault with which a source agent ends a stream because another one failed.
pub(super) const OTHER_STREAM: &str = "OTHER_STREAM";

/// How an attempt stands to other attempts of its job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Share {
    /// It is the first stream, mostly the only one. Its verdict is that of the job.
    First {
        /// Others without a verdict.
        open: usize,
        /// Whether files of others are listed as issues.
        with_issues: bool,
        /// Why one of the others failed.
        fault: Option<Fault>,
    },
    /// It is a further stream.
    Further {
        /// How the first one, or another, ended if that was not well.
        ended: Option<Verdict>,
    },
}

impl Share {
    /// Without others.
    pub const ALONE: Share = Share::First {
        open: 0,
        with_issues: false,
        fault: None,
    };

    pub(super) fn is_further(&self) -> bool {
        matches!(self, Share::Further { .. })
    }

    /// What the others have decided.
    pub(super) fn verdict(&self) -> Option<Verdict> {
        match self {
            Share::First { fault, .. } => fault.clone().map(Verdict::Failed),
            Share::Further { ended } => ended.clone(),
        }
    }

    /// Whether the others have issues; `None` while not all of them are done.
    pub(super) fn with_issues(&self) -> Option<bool> {
        match self {
            Share::First { open: 1.., .. } => None,
            Share::First { with_issues, .. } => Some(*with_issues),
            Share::Further { .. } => Some(false),
        }
    }
}
