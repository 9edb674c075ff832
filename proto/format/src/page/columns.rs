//! The numbers and texts that columns are made of. Every read is bounded by the bytes that are there.

use super::Error;

pub(super) use crate::varint::put as put_number;

/// Writes what leads from one number to the next, small in both directions; exact for any two numbers.
pub(super) fn put_delta(column: &mut Vec<u8>, from: u64, to: u64) {
    let delta = to.wrapping_sub(from).cast_signed();
    put_number(column, ((delta << 1) ^ (delta >> 63)).cast_unsigned());
}

pub(super) fn put_text(column: &mut Vec<u8>, text: &[u8]) {
    put_number(column, text.len() as u64);
    column.extend_from_slice(text);
}

/// Reads columns one after another.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn byte(&mut self) -> Result<u8, Error> {
        Ok(self.bytes(1)?[0])
    }

    pub(super) fn bytes(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let (bytes, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(Error::Damaged("its columns end too early"))?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(super) fn number(&mut self) -> Result<u64, Error> {
        crate::varint::take(&mut self.0).ok_or(Error::Damaged("a number is cut or too large"))
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
}
