//! The map of a sparse file in GNU's format 1.0, at the start of its data.

use super::{Decoder, Error, header_error};
use crate::entry::Extent;
use crate::tar::{BLOCK, MAX_EXTENTS, pax};
use std::io::Read;

impl<R: Read> Decoder<R> {
    /// Reads the map at the start of a sparse file's data and proves it against the file's size.
    pub(super) fn sparse_map(&mut self, at: u64, real_size: u64) -> Result<Vec<Extent>, Error> {
        let mut lines = MapLines {
            decoder: self,
            at,
            block: [0; BLOCK],
            next: BLOCK,
        };
        let count = lines.number()?;
        // One more for the empty extent at a file's end.
        let limit = MAX_EXTENTS as u64 + 1;
        if count > limit {
            return Err(Error::TooLarge {
                offset: at,
                what: "extents of a sparse file",
                length: count,
                limit,
            });
        }
        let mut extents = Vec::new();
        let mut end = 0;
        let mut stored = 0;
        for _ in 0..count {
            let offset = lines.number()?;
            let length = lines.number()?;
            let next = offset
                .checked_add(length)
                .filter(|&next| offset >= end && next <= real_size);
            end = next.ok_or(header_error(
                at,
                "extents are out of order or pass the file's end",
            ))?;
            stored += length;
            if length > 0 {
                extents.push(Extent { offset, length });
            }
        }
        if stored != self.left {
            return Err(header_error(
                at,
                "the extents' lengths are not the stored length",
            ));
        }
        Ok(extents)
    }
}

/// The numbers of a sparse map, which runs over as many blocks as it needs.
struct MapLines<'a, R> {
    decoder: &'a mut Decoder<R>,
    at: u64,
    block: [u8; BLOCK],
    next: usize,
}

impl<R: Read> MapLines<'_, R> {
    fn number(&mut self) -> Result<u64, Error> {
        let mut digits = Vec::with_capacity(20);
        loop {
            if self.next == BLOCK {
                if self.decoder.left < BLOCK as u64 {
                    return Err(header_error(
                        self.at,
                        "the sparse map passes the data's end",
                    ));
                }
                if self.decoder.fill(&mut self.block)? < BLOCK {
                    let offset = self.decoder.offset;
                    return Err(Error::Truncated { offset });
                }
                self.decoder.left -= BLOCK as u64;
                self.next = 0;
            }
            let byte = self.block[self.next];
            self.next += 1;
            if byte == b'\n' {
                break;
            }
            digits.push(byte);
            if digits.len() > 20 {
                break;
            }
        }
        pax::number(&digits).ok_or(header_error(
            self.at,
            "the sparse map holds what is not a number",
        ))
    }
}
