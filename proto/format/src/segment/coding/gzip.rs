//! gzip (RFC 1952): the data is one member with nothing in its header; covers are empty members whose extra field holds
//! what is covered, at most [`PIECE`] bytes each.
//!
//! Every reader of gzip goes through members one after the other and skips extra fields. Comments would be nicer to look at, but
//! several readers hold only short ones.

use std::borrow::Cow;
use std::io;

use flate2::{Compress, Compression, Crc, Decompress, FlushCompress, FlushDecompress, Status};

use super::{Coding, Compressor};
use crate::segment::Method;
use crate::segment::header::BODY;

/// See the module.
pub(super) struct Gzip;

/// Magic, deflate, flags, no time, no hint, unknown system.
const fn fixed(flags: u8) -> [u8; FIXED] {
    [0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 0xff]
}
const FIXED: usize = 10;
/// There is an extra field.
const EXTRA: u8 = 4;
/// Of ours in the extra field.
const SUBFIELD: [u8; 2] = *b"TA";
/// Before the covered bytes: fixed header, length of the extra field, our subfield's name and length.
const PREFIX: usize = FIXED + 2 + 4;
/// Behind them: an empty last block of fixed codes, checksum and length of nothing.
const SUFFIX: [u8; 10] = [3, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// Most covered bytes of one member: the extra field's length has 16 bits.
const PIECE: usize = 0xffff - 4;
/// What a cover adds to each piece.
const AROUND: usize = PREFIX + SUFFIX.len();
/// Checksum and length behind a member's data.
const TRAILER: usize = 8;
/// Most bytes of a stored block, and what is before them.
const STORED: usize = 0xffff;
const STORED_HEAD: usize = 5;

const HEADER_PREFIX: [u8; PREFIX] = prefix(BODY);

const fn prefix(length: usize) -> [u8; PREFIX] {
    let head = fixed(EXTRA);
    let mut out = [0; PREFIX];
    let mut at = 0;
    while at < FIXED {
        out[at] = head[at];
        at += 1;
    }
    let (extra, length) = (
        (length as u16 + 4).to_le_bytes(),
        (length as u16).to_le_bytes(),
    );
    out[10] = extra[0];
    out[11] = extra[1];
    out[12] = SUBFIELD[0];
    out[13] = SUBFIELD[1];
    out[14] = length[0];
    out[15] = length[1];
    out
}

/// The covered bytes of the member at the front of `bytes`, and what is behind it.
fn piece(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<PREFIX>()?;
    let length = usize::from(u16::from_le_bytes([head[14], head[15]]));
    if length > PIECE || *head != prefix(length) {
        return None;
    }
    let (covered, rest) = rest.split_at_checked(length)?;
    Some((covered, rest.strip_prefix(&SUFFIX)?))
}

fn put_piece(covered: &[&[u8]], out: &mut Vec<u8>) {
    out.extend_from_slice(&prefix(covered.iter().map(|part| part.len()).sum()));
    for part in covered {
        out.extend_from_slice(part);
    }
    out.extend_from_slice(&SUFFIX);
}

impl Coding for Gzip {
    fn method(&self) -> Method {
        Method::Gzip
    }

    fn header_cover(&self) -> (&'static [u8], &'static [u8]) {
        (&HEADER_PREFIX, &SUFFIX)
    }

    fn checksum_seed(&self, _length: usize) -> u32 {
        0
    }

    fn covered_length(&self, length: usize) -> usize {
        length + length.div_ceil(PIECE).max(1) * AROUND
    }

    fn cover(&self, head: &[u8], rest: &[u8], out: &mut Vec<u8>) {
        debug_assert!(head.len() <= PIECE);
        let (first, mut rest) = rest.split_at(rest.len().min(PIECE - head.len()));
        put_piece(&[head, first], out);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(PIECE));
            put_piece(&[now], out);
            rest = later;
        }
    }

    fn fitting(&self, total: usize) -> Option<usize> {
        total.checked_sub(total.div_ceil(PIECE + AROUND) * AROUND)
    }

    fn cover_exactly(&self, mut bytes: &[u8], total: usize, out: &mut Vec<u8>) {
        debug_assert_eq!(self.fitting(total), Some(bytes.len()));
        // The last may be empty: with one member less it might be too short, with this one full too long.
        for _ in 0..total.div_ceil(PIECE + AROUND) {
            let (now, later) = bytes.split_at(bytes.len().min(PIECE));
            put_piece(&[now], out);
            bytes = later;
        }
    }

    fn uncover<'a>(&self, bytes: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        let (first, mut rest) = piece(bytes)?;
        let mut out = Cow::Borrowed(first);
        while !rest.is_empty() {
            let (next, behind) = piece(rest)?;
            out.to_mut().extend_from_slice(next);
            rest = behind;
        }
        Some(out)
    }

    fn covers_start(&self, bytes: &[u8], start: &[u8]) -> bool {
        bytes.starts_with(&fixed(EXTRA))
            && bytes.get(12..14) == Some(&SUBFIELD)
            && bytes[PREFIX.min(bytes.len())..].starts_with(start)
    }

    fn compressor(&self, level: i32) -> io::Result<Box<dyn Compressor>> {
        let level = Compression::new(level.clamp(1, 9) as u32);
        Ok(Box::new(Packer {
            deflate: Compress::new(level, false),
            room: Vec::new(),
        }))
    }

    fn unpack(&self, data: &[u8], length: usize) -> Result<Vec<u8>, &'static str> {
        const WRONG: &str = "its data is not one gzip member";
        let rest = data.strip_prefix(&fixed(0)).ok_or(WRONG)?;
        let (deflated, trailer) = rest.split_last_chunk::<TRAILER>().ok_or(WRONG)?;
        // The codec needs to see that there is nothing more; what is more is refused.
        let mut tar = Vec::with_capacity(length + 1);
        let mut deflate = Decompress::new(false);
        let status = deflate
            .decompress_vec(deflated, &mut tar, FlushDecompress::Finish)
            .map_err(|_| "deflate cannot decompress it")?;
        if status != Status::StreamEnd || deflate.total_in() != deflated.len() as u64 {
            return Err(WRONG);
        }
        if tar.len() != length {
            return Err("its gzip member gives another size");
        }
        if *trailer != trailer_of(&tar) {
            return Err("the checksum of its gzip member differs");
        }
        Ok(tar)
    }
}

/// Checksum and length behind the data of a member that holds `tar`.
fn trailer_of(tar: &[u8]) -> [u8; TRAILER] {
    let mut crc = Crc::new();
    crc.update(tar);
    let mut out = [0; TRAILER];
    out[..4].copy_from_slice(&crc.sum().to_le_bytes());
    out[4..].copy_from_slice(&crc.amount().to_le_bytes());
    out
}

struct Packer {
    deflate: Compress,
    /// zlib-rs panics at level 1 if what it makes does not fit, so it gets room for the worst.
    room: Vec<u8>,
}

impl Compressor for Packer {
    fn pack(&mut self, tar: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        // Fixed codes take at most nine bits a byte.
        let worst = tar.len() + tar.len() / 8 + 1024;
        if self.room.len() < worst {
            self.room.resize(worst, 0);
        }
        self.deflate.reset();
        let status = self
            .deflate
            .compress(tar, &mut self.room, FlushCompress::Finish)
            .map_err(io::Error::other)?;
        let stored = tar.len() + tar.len().div_ceil(STORED).max(1) * STORED_HEAD;
        let deflated = self.deflate.total_out() as usize;
        out.reserve(FIXED + deflated.min(stored) + TRAILER);
        out.extend_from_slice(&fixed(0));
        if status == Status::StreamEnd && deflated <= stored {
            out.extend_from_slice(&self.room[..deflated]);
        } else {
            store(tar, out);
        }
        out.extend_from_slice(&trailer_of(tar));
        Ok(())
    }
}

/// Appends `tar` in stored blocks.
fn store(tar: &[u8], out: &mut Vec<u8>) {
    let count = tar.len().div_ceil(STORED).max(1);
    for number in 0..count {
        let block = &tar[number * STORED..tar.len().min((number + 1) * STORED)];
        let length = block.len() as u16;
        out.push(u8::from(number + 1 == count));
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(block);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::limits;

    #[test]
    fn what_is_covered_comes_out_again_whatever_its_length() {
        for length in [0, 1, 119, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE, 200_000] {
            let bytes: Vec<u8> = (0..length).map(|n| (n * 7 % 251) as u8).collect();
            let (head, rest) = bytes.split_at(length.min(24));
            let mut out = Vec::new();
            Gzip.cover(head, rest, &mut out);
            assert_eq!(out.len(), Gzip.covered_length(length));
            assert_eq!(Gzip.uncover(&out).as_deref(), Some(&bytes[..]));
            assert!(Gzip.covers_start(&out, head));
            let last = out.len() - 1;
            for at in [0, 3, 11, 13, 15, last] {
                out[at] ^= 0x40;
                assert_eq!(Gzip.uncover(&out), None, "byte {at} of {length}");
                out[at] ^= 0x40;
            }
            assert_eq!(Gzip.uncover(&out[..last]), None);
        }
    }

    #[test]
    fn every_block_size_can_be_filled_exactly() {
        for size in (limits::BLOCK_SIZE_MIN..=limits::BLOCK_SIZE_MAX)
            .step_by(limits::BLOCK_SIZE_STEP as usize)
        {
            let size = size as usize;
            let members = size.div_ceil(PIECE + AROUND);
            let fitting = Gzip.fitting(size).unwrap();
            assert!(fitting <= members * PIECE, "{size}");
            assert_eq!(fitting + members * AROUND, size);
        }
        let size = 48 * 65_557 + 15; // its last member is empty
        let bytes = vec![1; Gzip.fitting(size).unwrap()];
        let mut out = Vec::new();
        Gzip.cover_exactly(&bytes, size, &mut out);
        assert_eq!(out.len(), size);
        assert_eq!(Gzip.uncover(&out).as_deref(), Some(&bytes[..]));
    }

    #[test]
    fn what_does_not_compress_is_stored() {
        let mut state = 1_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        })
        .take(300_000)
        .collect();
        let zeros = vec![0; 70_000];
        for level in 1..=9 {
            for tar in [&noise[..], &noise[..1], &[], &zeros[..]] {
                let mut out = Vec::new();
                let mut packer = Gzip.compressor(level).unwrap();
                packer.pack(tar, &mut out).unwrap();
                assert!(
                    out.len()
                        <= tar.len() + (tar.len() / STORED + 1) * STORED_HEAD + FIXED + TRAILER
                );
                assert_eq!(Gzip.unpack(&out, tar.len()).as_deref(), Ok(tar));
                assert!(Gzip.unpack(&out, tar.len() + 1).is_err());
                assert!(tar.is_empty() || Gzip.unpack(&out, tar.len() - 1).is_err());
                out.push(0);
                assert!(Gzip.unpack(&out, tar.len()).is_err());
            }
        }
        let mut stored = fixed(0).to_vec();
        store(&noise, &mut stored);
        stored.extend_from_slice(&trailer_of(&noise));
        assert_eq!(Gzip.unpack(&stored, noise.len()).as_deref(), Ok(&noise[..]));
    }
}
