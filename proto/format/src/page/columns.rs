//! The numbers and texts that columns are made of. Every read is bounded by the bytes that are there.
//!
//! Columns have two halves. What repeats from page to page (texts, flags, how large a number is) are *words*, and zstd finds
//! likeness in them. The low bits of large numbers are as good as random: compressed, they would only spoil the statistics of
//! the rest. They are *bits*, packed one behind the other, and stored as they are.

use super::Error;

/// Numbers below this are a word alone.
const SMALL: u64 = 16;
/// Word of a number of `n` bits, from 5 on: this and `n`.
const LARGE: u8 = 11;
/// Word of a number of 64 bits.
const LARGEST: u8 = LARGE + 64;

/// Writes columns one after another.
#[derive(Default)]
pub(super) struct Writer {
    words: Vec<u8>,
    bits: Vec<u8>,
    /// Bits that do not fill a byte yet, and how many.
    rest: u64,
    pending: u32,
}

impl Writer {
    pub(super) fn byte(&mut self, byte: u8) {
        self.words.push(byte);
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.words.extend_from_slice(bytes);
    }

    /// The low `width` bits of a number, at most 32.
    pub(super) fn bits(&mut self, number: u32, width: u32) {
        self.rest |= u64::from(number) << self.pending;
        self.pending += width;
        while self.pending >= 8 {
            self.bits.push(self.rest as u8);
            self.rest >>= 8;
            self.pending -= 8;
        }
    }

    pub(super) fn number(&mut self, number: u64) {
        if number < SMALL {
            return self.byte(number as u8);
        }
        let length = u64::BITS - number.leading_zeros();
        self.byte(LARGE + length as u8);
        // The highest bit is one: that it is there says the word.
        let below = number & !(1 << (length - 1));
        let low = (length - 1).min(32);
        self.bits((below & mask(low)) as u32, low);
        self.bits((below >> low) as u32, length - 1 - low);
    }

    /// What leads from one number to the next, small in both directions; exact for any two numbers.
    pub(super) fn delta(&mut self, from: u64, to: u64) {
        let delta = to.wrapping_sub(from).cast_signed();
        self.number(((delta << 1) ^ (delta >> 63)).cast_unsigned());
    }

    pub(super) fn text(&mut self, text: &[u8]) {
        self.number(text.len() as u64);
        self.bytes(text);
    }

    /// Words and bits.
    pub(super) fn finish(mut self) -> (Vec<u8>, Vec<u8>) {
        if self.pending > 0 {
            self.bits.push(self.rest as u8);
        }
        (self.words, self.bits)
    }
}

/// The lowest `width` bits.
fn mask(width: u32) -> u64 {
    (1 << width) - 1
}

/// Reads columns one after another.
pub(super) struct Reader<'a> {
    words: &'a [u8],
    bits: &'a [u8],
    rest: u64,
    pending: u32,
}

impl<'a> Reader<'a> {
    pub(super) fn new(words: &'a [u8], bits: &'a [u8]) -> Self {
        Self {
            words,
            bits,
            rest: 0,
            pending: 0,
        }
    }

    pub(super) fn byte(&mut self) -> Result<u8, Error> {
        Ok(self.bytes(1)?[0])
    }

    pub(super) fn bytes(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (bytes, rest) = self
            .words
            .split_at_checked(length)
            .ok_or(Error::Damaged("its columns end too early"))?;
        self.words = rest;
        Ok(bytes)
    }

    /// All up to a zero byte, which is stepped over.
    pub(super) fn terminated(&mut self) -> Result<&'a [u8], Error> {
        let end = self.words.iter().position(|&byte| byte == 0);
        let text = self.bytes(end.ok_or(Error::Damaged("a name has no end"))?)?;
        self.words = &self.words[1..];
        Ok(text)
    }

    /// The next `width` bits, at most 32.
    pub(super) fn bits(&mut self, width: u32) -> Result<u32, Error> {
        while self.pending < width {
            let (&byte, rest) = self
                .bits
                .split_first()
                .ok_or(Error::Damaged("its bits end too early"))?;
            self.bits = rest;
            self.rest |= u64::from(byte) << self.pending;
            self.pending += 8;
        }
        let number = (self.rest & mask(width)) as u32;
        self.rest >>= width;
        self.pending -= width;
        Ok(number)
    }

    pub(super) fn number(&mut self) -> Result<u64, Error> {
        let word = self.byte()?;
        if u64::from(word) < SMALL {
            return Ok(u64::from(word));
        }
        if word > LARGEST {
            return Err(Error::Damaged("a number is above 2^64"));
        }
        let below = u32::from(word - LARGE) - 1;
        let low = below.min(32);
        let number = u64::from(self.bits(low)?);
        Ok(number | u64::from(self.bits(below - low)?) << low | 1 << below)
    }

    pub(super) fn number_u32(&mut self) -> Result<u32, Error> {
        u32::try_from(self.number()?).map_err(|_| Error::Damaged("a number is above 2^32"))
    }

    /// The number that a delta leads to.
    pub(super) fn delta(&mut self, from: u64) -> Result<u64, Error> {
        let folded = self.number()?;
        let delta = (folded >> 1) ^ (folded & 1).wrapping_neg();
        Ok(from.wrapping_add(delta))
    }

    pub(super) fn delta_u32(&mut self, from: u32) -> Result<u32, Error> {
        let value = self.delta(u64::from(from))?;
        u32::try_from(value).map_err(|_| Error::Damaged("a number is above 2^32"))
    }

    /// A length, refused above its limit before anything is allocated.
    pub(super) fn length(&mut self, what: &'static str, limit: usize) -> Result<usize, Error> {
        let length = self.number()?;
        if length > limit as u64 {
            return Err(Error::TooLarge {
                what,
                length,
                limit: limit as u64,
            });
        }
        Ok(length as usize)
    }

    pub(super) fn text(&mut self, what: &'static str, limit: usize) -> Result<&'a [u8], Error> {
        let length = self.length(what, limit)?;
        self.bytes(length)
    }

    /// Nothing may be left over but the zeros that fill the last byte of bits.
    pub(super) fn finish(self) -> Result<(), Error> {
        if !self.words.is_empty() || !self.bits.is_empty() || self.rest != 0 || self.pending > 7 {
            return Err(Error::Damaged("bytes follow its columns"));
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_number_comes_back() {
        let mut numbers: Vec<u64> = (0..70).collect();
        numbers.extend((6..64).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 1]));
        numbers.push(u64::MAX);
        let mut writer = Writer::default();
        for &number in &numbers {
            writer.number(number);
            writer.bits(number as u32 & 0x3FFF_FFFF, 30);
            writer.delta(u64::MAX / 3, number);
        }
        let (words, bits) = writer.finish();
        let mut reader = Reader::new(&words, &bits);
        for &number in &numbers {
            assert_eq!(reader.number().unwrap(), number);
            assert_eq!(reader.bits(30).unwrap(), number as u32 & 0x3FFF_FFFF);
            assert_eq!(reader.delta(u64::MAX / 3).unwrap(), number);
        }
        reader.finish().unwrap();
    }

    #[test]
    fn what_is_cut_or_left_over_is_refused() {
        let mut writer = Writer::default();
        writer.number(1 << 20);
        let (words, bits) = writer.finish();
        assert!(Reader::new(&words, &bits[1..]).number().is_err());
        assert!(Reader::new(&[], &bits).number().is_err());
        assert!(Reader::new(&[LARGEST + 1], &[0xFF; 9]).number().is_err());
        for (words, bits) in [(&[0][..], &[][..]), (&[], &[0]), (&[], &[1])] {
            assert!(Reader::new(words, bits).finish().is_err());
        }
    }
}
