//! A buffer that begins at a page.

/// Bytes that any page size of the machines we run on is a multiple of.
const PAGE: usize = 4096;

/// Whether memory begins at a page.
pub(super) fn is_aligned(bytes: &[u8]) -> bool {
    bytes.as_ptr().align_offset(PAGE) == 0
}

/// See the module; it grows to the largest length that was asked of it.
#[derive(Default)]
pub(super) struct Aligned {
    bytes: Vec<u8>,
}

impl Aligned {
    /// `length` bytes from the beginning of a page; what they hold is of no meaning.
    pub(super) fn slice(&mut self, length: usize) -> &mut [u8] {
        if self.bytes.len() < length + PAGE {
            // A new one, not a longer one: what is in it need not be kept.
            self.bytes = vec![0; length + PAGE];
        }
        let start = self.bytes.as_ptr().align_offset(PAGE);
        &mut self.bytes[start..start + length]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_begins_at_a_page() {
        let mut buffer = Aligned::default();
        for length in [0, 1, 4095, 4096, 4097, 1 << 20, 7] {
            let slice = buffer.slice(length);
            assert_eq!(slice.len(), length);
            assert!(is_aligned(slice));
        }
    }
}
