//! What a run writes, given what it finds and what its base has (design.md, "The catalog", rules 5 to 9 and 11).
//!
//! Pure: no IO, no clock, no async. Pages of the base come in as [`Joined`] streams of [`Row`]s in the order of keys. [`judge()`]
//! says of one entry whether it is unchanged; [`kept`] makes its new entry then; the new chunks are held against their
//! rows, which say what to write ([`Row::takes`]), what to bury ([`Row::buries`]) and what to carry ([`Row::carry`]).

mod deep;
mod joined;
mod judge;
mod merger;
mod row;

pub use self::joined::{Error, Joined, Joiner, Layer};
pub use self::judge::{Rules, Verdict, is_racy, judge, kept, kept_directory};
pub use self::merger::{Base, Merger, NoBase};
pub use self::row::{Against, Carry, Known, Row, Staged};
