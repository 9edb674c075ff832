//! A part's bytes, block by block: after block 0 the sealed segments follow each other without gaps, in blocks of
//! exactly the recording's size; the last is short, never padded.

use bytes::{Bytes, BytesMut};

/// Cuts a stream of bytes into blocks of one size.
///
/// A block that lies wholly in one pushed buffer is a slice of it; only blocks that cross buffers are copied.
#[derive(Debug)]
pub struct Blocker {
    block_size: usize,
    open: BytesMut,
}

impl Blocker {
    /// Blocks of `block_size` bytes, which must not be 0.
    pub fn new(block_size: u32) -> Self {
        assert!(block_size > 0, "a block holds at least one byte");
        Self {
            block_size: block_size as usize,
            open: BytesMut::new(),
        }
    }

    /// Adds `bytes` and gives the blocks that they completed, in order.
    #[must_use = "the blocks exist nowhere else"]
    pub fn push(&mut self, mut bytes: Bytes) -> Vec<Bytes> {
        let mut blocks = Vec::with_capacity((self.open.len() + bytes.len()) / self.block_size);
        if !self.open.is_empty() {
            let wanted = self.block_size - self.open.len();
            self.open
                .extend_from_slice(&bytes.split_to(wanted.min(bytes.len())));
            if self.open.len() < self.block_size {
                return blocks;
            }
            blocks.push(self.open.split().freeze());
        }
        while bytes.len() >= self.block_size {
            blocks.push(bytes.split_to(self.block_size));
        }
        if !bytes.is_empty() {
            self.open.reserve(self.block_size);
            self.open.extend_from_slice(&bytes);
        }
        blocks
    }

    /// Bytes that wait for their block to fill.
    pub fn pending(&self) -> usize {
        self.open.len()
    }

    /// Ends the part: the last, short block, if there is one.
    pub fn finish(self) -> Option<Bytes> {
        (!self.open.is_empty()).then(|| self.open.freeze())
    }
}
