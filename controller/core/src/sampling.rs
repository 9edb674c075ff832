//! A random choice of parts to verify, the same for the same seed.
//!
//! Parts are chosen, not places in them: a part that is read is proved wholly, its files and its records, and can be dated as that.
//! So a sample never looks like more than it is, and samples add up to a whole proof.

/// What is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sample {
    /// Seed of the choice.
    pub seed: u64,
    /// About so much of the bytes, 1 to 100.
    pub percent: u32,
}

/// Numbers that look random (`SplitMix64`, Steele and others 2014).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One below `limit`, which is not 0.
    fn below(&mut self, limit: usize) -> usize {
        ((u128::from(self.next()) * limit as u128) >> 64) as usize
    }
}

/// Indexes of the parts that make up this share of the bytes, at least one, in their order. `sizes` are the bytes of each.
pub fn choose(sizes: &[u64], sample: Sample) -> Vec<usize> {
    let total: u128 = sizes.iter().map(|size| u128::from(*size)).sum();
    let wanted = total * u128::from(sample.percent.min(100)) / 100;
    let mut numbers = Numbers(sample.seed);
    let mut left: Vec<usize> = (0..sizes.len()).collect();
    let (mut chosen, mut taken) = (Vec::new(), 0);
    while !left.is_empty() && (chosen.is_empty() || taken < wanted) {
        let at = left.swap_remove(numbers.below(left.len()));
        taken += u128::from(sizes[at]);
        chosen.push(at);
    }
    chosen.sort_unstable();
    chosen
}

/// The part at which a verification of limited time begins, of so many: from there it reads on, and behind the last one from the
/// first, so that the drive streams and each part has the same chance.
pub fn first(count: usize, seed: u64) -> usize {
    match count {
        0 => 0,
        count => Numbers(seed).below(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_sample_is_the_same_for_its_seed_and_large_enough() {
        let sizes: Vec<u64> = (1..=200).map(|n| n * 10).collect();
        let total: u64 = sizes.iter().sum();
        let mut choices = HashSet::new();
        for seed in 0..50 {
            for percent in [1, 5, 50, 100] {
                let sample = Sample { seed, percent };
                let chosen = choose(&sizes, sample);
                assert_eq!(chosen, choose(&sizes, sample));
                assert!(chosen.is_sorted());
                let bytes: u64 = chosen.iter().map(|at| sizes[*at]).sum();
                let wanted = total * u64::from(percent) / 100;
                assert!(
                    bytes >= wanted && bytes <= wanted + 2_000,
                    "{percent}: {bytes}"
                );
                if percent == 5 {
                    choices.insert(chosen);
                }
            }
        }
        assert_eq!(choices.len(), 50, "each seed chooses otherwise");
    }

    #[test]
    fn every_part_has_its_chance() {
        let sizes = [7_u64; 20];
        let mut seen = HashSet::new();
        let mut begun = HashSet::new();
        for seed in 0..400 {
            seen.extend(choose(&sizes, Sample { seed, percent: 5 }));
            begun.insert(first(sizes.len(), seed));
        }
        assert_eq!((seen.len(), begun.len()), (20, 20));
        assert_eq!(choose(&[], Sample::default()), Vec::<usize>::new());
        assert_eq!(
            choose(
                &[9],
                Sample {
                    seed: 1,
                    percent: 1
                }
            ),
            [0]
        );
    }
}
