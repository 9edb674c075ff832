//! One ustar header block: where its fields lie and how their values are written and read.

use super::BLOCK;
use std::ops::Range;

pub(super) const NAME: Range<usize> = 0..100;
pub(super) const MODE: Range<usize> = 100..108;
pub(super) const UID: Range<usize> = 108..116;
pub(super) const GID: Range<usize> = 116..124;
pub(super) const SIZE: Range<usize> = 124..136;
pub(super) const MTIME: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
const TYPE: usize = 156;
pub(super) const LINK: Range<usize> = 157..257;
const MAGIC: Range<usize> = 257..265;
pub(super) const USER: Range<usize> = 265..297;
pub(super) const GROUP: Range<usize> = 297..329;
pub(super) const MAJOR: Range<usize> = 329..337;
pub(super) const MINOR: Range<usize> = 337..345;
pub(super) const PREFIX: Range<usize> = 345..500;

/// A header block being made or read.
#[derive(Clone)]
pub(super) struct Block(pub(super) [u8; BLOCK]);

impl Block {
    /// An empty POSIX header of this type, its numbers zero.
    pub(super) fn new(kind: u8) -> Self {
        let mut block = Self([0; BLOCK]);
        block.0[TYPE] = kind;
        block.0[MAGIC].copy_from_slice(b"ustar\x0000");
        for field in [MODE, UID, GID, SIZE, MTIME] {
            block.put_number(field, 0);
        }
        block
    }

    /// Writes bytes, which fit, at the start of a field.
    pub(super) fn put(&mut self, field: Range<usize>, value: &[u8]) {
        self.0[field][..value.len()].copy_from_slice(value);
    }

    /// Writes an octal number and its NUL; returns whether it fits and leaves the field alone if not.
    pub(super) fn put_number(&mut self, field: Range<usize>, value: u64) -> bool {
        let digits = format!("{value:0width$o}", width = field.len() - 1);
        let fits = digits.len() < field.len();
        if fits {
            self.put(field, digits.as_bytes());
        }
        fits
    }

    /// Sets the checksum, last of all.
    pub(super) fn seal(mut self) -> [u8; BLOCK] {
        self.0[CHECKSUM].fill(b' ');
        let digits = format!("{:06o}\0", self.sums().0);
        self.put(CHECKSUM, digits.as_bytes());
        self.0
    }

    /// The sum of all bytes with the checksum as spaces; the second is of signed bytes, as some old tars did.
    fn sums(&self) -> (u32, i32) {
        let mut sums = (0, 0);
        for (at, &byte) in self.0.iter().enumerate() {
            let byte = if CHECKSUM.contains(&at) { b' ' } else { byte };
            sums.0 += u32::from(byte);
            sums.1 += i32::from(byte.cast_signed());
        }
        sums
    }

    pub(super) fn checksum_holds(&self) -> bool {
        let (unsigned, signed) = self.sums();
        let stored = self.number(CHECKSUM);
        stored == Some(i128::from(unsigned)) || stored == Some(i128::from(signed))
    }

    pub(super) fn is_zero(&self) -> bool {
        self.0.iter().all(|&byte| byte == 0)
    }

    pub(super) fn kind(&self) -> u8 {
        self.0[TYPE]
    }

    /// Whether it is a POSIX header: the others use the prefix field for something else.
    pub(super) fn is_posix(&self) -> bool {
        self.0[MAGIC].starts_with(b"ustar\0")
    }

    /// A field's text up to its NUL.
    pub(super) fn text(&self, field: Range<usize>) -> &[u8] {
        let field = &self.0[field];
        let end = field.iter().position(|&byte| byte == 0);
        &field[..end.unwrap_or(field.len())]
    }

    /// A field's number: octal digits, or GNU's base 256 with the top bit set. `None` if it is neither.
    pub(super) fn number(&self, field: Range<usize>) -> Option<i128> {
        let field = &self.0[field];
        if field[0] & 0x80 != 0 {
            // Two's complement without its top bit, which marks the encoding; the next one is the sign.
            let negative = field[0] & 0x40 != 0;
            let first = i128::from(field[0] & 0x3f) - if negative { 0x40 } else { 0 };
            return Some(
                field[1..]
                    .iter()
                    .fold(first, |number, &byte| number * 256 + i128::from(byte)),
            );
        }
        let digits = field.trim_ascii_start();
        let end = digits
            .iter()
            .position(|byte| matches!(byte, 0 | b' '))
            .unwrap_or(digits.len());
        let (digits, rest) = digits.split_at(end);
        if rest.iter().any(|byte| !matches!(byte, 0 | b' ')) {
            return None;
        }
        digits.iter().try_fold(0_i128, |number, &digit| {
            matches!(digit, b'0'..=b'7').then(|| number * 8 + i128::from(digit - b'0'))
        })
    }
}
