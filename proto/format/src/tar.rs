//! The tar stream of an archive: POSIX pax, made and read by us, readable by GNU tar (1.27 and later) and
//! bsdtar.
//!
//! Owns headers, extended headers, the sparse map and padding. It never touches the content of files, and it
//! never judges whether a path is safe to write: that is the writer's work. FORMAT.md, "Tar stream".

mod acl;
mod block;
pub mod decode;
pub mod encode;
mod pax;

/// Size in bytes of a tar block: headers are multiples of it and data is padded to it.
pub const BLOCK: usize = 512;

/// What ends an archive: two blocks of zeros.
pub const END_OF_ARCHIVE: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// Most extents of a sparse file; a file with more is stored dense.
pub const MAX_EXTENTS: usize = 100_000;

/// Most bytes of one entry's extended header, and of all global ones together.
pub const MAX_PAX: u64 = 8 << 20;

/// Longest path or link target in bytes.
pub const MAX_PATH: usize = 65_535;

/// Bytes of zeros that follow stored data of this length.
pub fn padding(length: u64) -> usize {
    (length.wrapping_neg() % BLOCK as u64) as usize
}
