//! The rules of versions, pure: what a run builds on, which rows a version resolves to, what it needs, what may be forgotten.
//!
//! They were found with an executable model (docs/model/catalog.py), which loses something as soon as one of them is
//! switched off; design.md, "The catalog", numbers them.

mod needs;
mod opening;
mod rows;

pub use needs::{Extent, Need, Needs, Part, Span};
pub use opening::{
    Base, Head, Kind, Line, NoSynthesis, Opening, Promotion, Share, Staged, open, synthesis,
};
pub use rows::{Compared, Protected, Published, protected, resolve, stays};
