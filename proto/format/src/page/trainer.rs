//! Makes a dictionary from pages as they go by.
//!
//! Names, owners and the like repeat from directory to directory, but a page is too short for zstd to find that out by itself: a
//! dictionary made of some of a line's pages takes a third off all that follow.

/// Pages that a dictionary is made of, at most.
const SAMPLES: usize = 2_000;
/// Longest page that is a sample, before compression: larger ones do well alone.
const LONGEST: usize = 4 << 10;
/// Size of a dictionary.
const SIZE: usize = 32 << 10;
/// A dictionary is made when so many pages were seen: early, and once more when much of a large tree is known.
const MOMENTS: [u64; 2] = [SAMPLES as u64, 32 * SAMPLES as u64];

/// Collects samples: of all pages seen, each is one with the same chance.
pub(super) struct Trainer {
    samples: Vec<Vec<u8>>,
    seen: u64,
    /// State of a xorshift generator. The same pages give the same dictionary.
    random: u64,
}

impl Trainer {
    pub(super) fn new() -> Self {
        Self {
            samples: Vec::new(),
            seen: 0,
            random: 0x9E37_79B9_7F4A_7C15,
        }
    }

    /// Sees a page's words. Gives a dictionary when it is time for one.
    pub(super) fn see(&mut self, words: &[u8]) -> Option<Vec<u8>> {
        if words.len() > LONGEST {
            return None;
        }
        self.seen += 1;
        if self.samples.len() < SAMPLES {
            self.samples.push(words.to_vec());
        } else {
            let at = self.draw(self.seen) as usize;
            if let Some(sample) = self.samples.get_mut(at) {
                words.clone_into(sample);
            }
        }
        if !MOMENTS.contains(&self.seen) {
            return None;
        }
        // Pages may be too much alike, or too little: then there is none.
        let made = zstd::dict::from_samples(&self.samples, SIZE).ok();
        if self.seen == MOMENTS[MOMENTS.len() - 1] {
            self.samples = Vec::new();
        }
        made
    }

    /// Whether nothing will come of seeing more.
    pub(super) fn is_done(&self) -> bool {
        self.seen >= MOMENTS[MOMENTS.len() - 1]
    }

    /// Any number below `below`.
    fn draw(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }
}
