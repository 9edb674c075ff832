//! Blocks that say which they are, so that one in another's place is found, and not only one that is damaged.

use super::Problem;

const MAGIC: &[u8; 8] = b"TAFTEST1";

/// Fills a block: who it is, then noise that follows from it. A block shorter than the head has the noise alone.
pub fn fill(block: &mut [u8], seed: u64, file: u64, number: u64) {
    let mut state = seed ^ file.rotate_left(40) ^ number.rotate_left(8);
    let (words, tail) = block.as_chunks_mut::<8>();
    for word in words {
        *word = next(&mut state).to_le_bytes();
    }
    let last = next(&mut state).to_le_bytes();
    tail.copy_from_slice(&last[..tail.len()]);
    if block.len() >= 24 {
        block[0..8].copy_from_slice(MAGIC);
        block[8..16].copy_from_slice(&file.to_le_bytes());
        block[16..24].copy_from_slice(&number.to_le_bytes());
    }
}

/// splitmix64: fast, and no compressor makes anything of it.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Whether a block is what was written, and if not, what it is.
pub fn check(read: &[u8], wanted: &[u8], file: u64, number: u64) -> Result<(), Problem> {
    if read == wanted {
        return Ok(());
    }
    let what = if read.len() != wanted.len() {
        format!("has {} bytes instead of {}", read.len(), wanted.len())
    } else if read.starts_with(MAGIC) && read.len() >= 24 && read[8..24] != wanted[8..24] {
        let number = |at: usize| {
            let bytes: [u8; 8] = std::array::from_fn(|i| read[at + i]);
            u64::from_le_bytes(bytes)
        };
        format!("is block {} of file {}", number(16), number(8))
    } else {
        let at = read.iter().zip(wanted).position(|(a, b)| a != b);
        format!("differs from its byte {} on", at.unwrap_or_default())
    };
    Err(Problem::Wrong(format!(
        "block {number} of file {file} {what}"
    )))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn block(seed: u64, file: u64, number: u64) -> Vec<u8> {
        let mut block = vec![0; 100];
        fill(&mut block, seed, file, number);
        block
    }

    #[test]
    fn a_block_in_anothers_place_is_named() {
        let (mine, other) = (block(1, 0, 7), block(1, 1, 3));
        assert!(check(&mine, &mine, 0, 7).is_ok());
        let said = |read: &[u8]| check(read, &mine, 0, 7).unwrap_err().to_string();
        assert!(said(&other).contains("block 7 of file 0 is block 3 of file 1"));
        assert!(said(&mine[..50]).contains("50 bytes instead of 100"));
        let mut flipped = mine.clone();
        flipped[60] ^= 1;
        assert!(said(&flipped).contains("byte 60"));
        // An earlier test's block of the same number is not taken for this one's.
        assert!(check(&block(2, 0, 7), &mine, 0, 7).is_err());
    }
}
