//! What TAF writes on tape: labels, parts, segments, records, the tar stream and directory pages.
//!
//! Bytes in, bytes out: no IO, no clock, no async. `FORMAT.md` beside this crate is the specification; where
//! the two differ, one of them has a bug.
#![forbid(unsafe_code)]

pub mod entry;
