//! What controller and source agent have to agree on about the spool of a synthetic full.

/// Bytes before each member that waits in the spool: its tar offset, its length, what it is.
pub const SPOOL_HEAD: u64 = 24;
