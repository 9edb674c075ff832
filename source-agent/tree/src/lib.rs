//! Walking a tree, reading its metadata, and writing safely below a directory.
//!
//! Paths in this crate are raw bytes: components joined by `/`, no leading slash, empty for the top. Everything
//! goes by directory descriptors, one component at a time, and no symbolic link is ever followed: neither a path
//! longer than `PATH_MAX` nor a directory swapped for a link under our feet makes a difference.
//!
//! - [`walk`] yields a tree in catalog order with bounded memory and descriptors.
//! - [`content`] reads a file as its header promised, whatever happens to it meanwhile.
//! - [`mod@write`] puts entries below one directory and nowhere else.
//! - [`unpack`] puts a tar member there, and only if its content is what it should be.
//! - [`remove`] removes what still is what was recorded of it, and nothing else.
//! - [`compare`] tells in what two trees differ.
#![forbid(unsafe_code)]

pub mod compare;
pub mod content;
pub mod digest;
pub mod issue;
pub mod metadata;
pub mod path;
pub mod remove;
pub mod unpack;
pub mod walk;
pub mod write;

pub use content::{OpenFile, Reader};
pub use digest::Digest;
pub use issue::{Issue, IssueKind};
pub use remove::Remover;
pub use unpack::Unpacker;
pub use walk::{Event, Walk};
pub use write::{Collision, Facts, FileWriter, Lookout, Target, Warning, WarningKind};
