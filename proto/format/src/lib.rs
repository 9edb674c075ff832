//! What TAF writes on tape: labels, parts, segments, records, the tar stream and directory pages.
//!
//! Bytes in, bytes out: no IO, no clock, no async. `FORMAT.md` beside this crate is the specification; where
//! the two differ, one of them has a bug.
#![forbid(unsafe_code)]

pub mod block0;
pub mod entry;
mod frame;
#[doc(hidden)]
pub mod fuzz;
pub mod index;
pub mod key;
pub mod label;
pub mod limits;
pub mod page;
pub mod part;
pub mod record;
pub mod resync;
pub mod segment;
pub mod table;
pub mod tar;
mod text;
mod text_block;
mod varint;
