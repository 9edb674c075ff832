//! BLAKE3 of a file's apparent content, from the bytes that an archive stores.
//!
//! Owns the rule that holes count as zeros, so that a file has the same hash whether it is stored sparse or dense. A
//! file may claim to be exabytes of nothing; hashing that would never end, so such files have no hash.

use taf_format::entry::Extent;

/// Bytes of holes above which a file has no hash: half a minute of hashing zeros.
pub const MAX_HOLES: u64 = 64 << 30;

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Takes a file's stored bytes and gives the hash of its apparent content.
#[derive(Debug)]
pub struct Digest {
    /// `None` if there is too much nothing in the file.
    hasher: Option<blake3::Hasher>,
    extents: Vec<Extent>,
    current: usize,
    /// Offset in the file.
    position: u64,
    size: u64,
}

impl Digest {
    /// Begins a file of `size` apparent bytes whose runs of data are `extents`; `None` for a dense one.
    pub fn new(size: u64, extents: Option<&[Extent]>) -> Self {
        let extents = extents.map_or_else(
            || {
                vec![Extent {
                    offset: 0,
                    length: size,
                }]
            },
            <[Extent]>::to_vec,
        );
        let data: u64 = extents
            .iter()
            .fold(0, |sum, extent| sum.saturating_add(extent.length));
        Self {
            hasher: (size.saturating_sub(data) <= MAX_HOLES).then(blake3::Hasher::new),
            extents,
            current: 0,
            position: 0,
            size,
        }
    }

    /// Takes the next stored bytes. What is beyond the last run counts for nothing.
    pub fn update(&mut self, mut data: &[u8]) {
        while let Some(&Extent { offset, length }) = self.extents.get(self.current) {
            if data.is_empty() {
                return;
            }
            self.zeros_until(offset);
            let end = offset.saturating_add(length);
            let room = (end - self.position).min(data.len() as u64);
            let (now, later) = data.split_at(room as usize);
            if let Some(hasher) = &mut self.hasher {
                hasher.update(now);
            }
            self.position += room;
            data = later;
            if self.position == end {
                self.current += 1;
            }
        }
    }

    /// The hash, when all stored bytes were given; `None` for a file with too large holes.
    pub fn finish(mut self) -> Option<[u8; 32]> {
        self.zeros_until(self.size);
        self.hasher.map(|hasher| *hasher.finalize().as_bytes())
    }

    fn zeros_until(&mut self, offset: u64) {
        let Some(hasher) = &mut self.hasher else {
            self.position = self.position.max(offset);
            return;
        };
        while self.position < offset {
            let run = (offset - self.position).min(ZEROS.len() as u64);
            hasher.update(&ZEROS[..run as usize]);
            self.position += run;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_count_as_zeros_and_endless_ones_not_at_all() {
        let extents = [
            Extent {
                offset: 100_000,
                length: 5,
            },
            Extent {
                offset: 200_000,
                length: 3,
            },
        ];
        let mut dense = vec![0; 300_000];
        dense[100_000..100_005].copy_from_slice(b"hello");
        dense[200_000..200_003].copy_from_slice(b"you");
        let mut digest = Digest::new(300_000, Some(&extents));
        for byte in b"helloyou" {
            digest.update(&[*byte]);
        }
        let expected = *blake3::hash(&dense).as_bytes();
        assert_eq!(digest.finish(), Some(expected));
        let mut digest = Digest::new(300_000, None);
        digest.update(&dense);
        assert_eq!(digest.finish(), Some(expected));
        assert_eq!(
            Digest::new(0, None).finish(),
            Some(*blake3::hash(b"").as_bytes())
        );
        let mut digest = Digest::new(1 << 60, Some(&extents));
        digest.update(b"helloyou");
        assert_eq!(digest.finish(), None);
    }
}
