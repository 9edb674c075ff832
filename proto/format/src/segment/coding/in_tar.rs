//! tar and 7z: the data is a member of a ustar archive, and covers are its other members. So the tape files of an archive are
//! one plain tar archive, which needs nothing but `tar` to be taken apart, although no file's content could be interrupted.
//!
//! By method tar the members `tar` hold the archive's tar stream, a segment each. By method 7z the members `7z` are 7z archives,
//! each of one file `tar` that is the segment: 7z can neither be written nor read as a stream, but a piece of 4 MiB need not be.

use std::borrow::Cow;
use std::io;
use std::sync::LazyLock;

use super::{Coding, Compressor, seven_zip};
use crate::segment::Method;
use crate::segment::header::BODY;

/// By method tar, and how its covers are named.
pub(super) static TAR: InTar = InTar {
    method: Method::Tar,
    data: "tar",
    information: "taf-information.tar",
    header: &TAR_HEADER,
};
/// By method 7z.
pub(super) static SEVEN_ZIP: InTar = InTar {
    method: Method::SevenZip,
    data: "7z",
    information: "taf-information.7z",
    header: &SEVEN_ZIP_HEADER,
};

/// See the module.
pub(super) struct InTar {
    method: Method,
    /// Name of the members that are data.
    data: &'static str,
    /// Name of the members that are covers, but those of headers.
    information: &'static str,
    /// What is before a segment's header: its first 16 bytes are of one method alone.
    header: &'static LazyLock<[u8; BLOCK]>,
}

static TAR_HEADER: LazyLock<[u8; BLOCK]> = LazyLock::new(|| member("taf-segment.tar", BODY));
static SEVEN_ZIP_HEADER: LazyLock<[u8; BLOCK]> = LazyLock::new(|| member("taf-segment.7z", BODY));

const BLOCK: usize = 512;
/// Behind a segment's header, up to a whole block.
const HEADER_SUFFIX: [u8; BLOCK - BODY] = [0; BLOCK - BODY];
/// Where a ustar header has the length.
const SIZE: std::ops::Range<usize> = 124..135;

/// The ustar header of a member of this length: a file of nobody, of no time.
fn member(name: &str, length: usize) -> [u8; BLOCK] {
    let mut out = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(SIZE.start, format!("{length:011o}\0").as_bytes());
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = out.iter().map(|&byte| u32::from(byte)).sum();
    out[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    out
}

/// Bytes of a whole member that holds so many.
fn member_length(length: usize) -> usize {
    BLOCK + length.next_multiple_of(BLOCK)
}

/// What `bytes` hold if they are exactly one member of this name.
fn inside<'a>(bytes: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_first_chunk::<BLOCK>()?;
    let size = std::str::from_utf8(&head[SIZE]).ok()?;
    let length = usize::from_str_radix(size, 8).ok()?;
    if *head != member(name, length) || rest.len() != length.next_multiple_of(BLOCK) {
        return None;
    }
    let (inside, padding) = rest.split_at(length);
    padding.iter().all(|&byte| byte == 0).then_some(inside)
}

/// Fills up to a whole block what has `length` bytes.
fn pad(length: usize, out: &mut Vec<u8>) {
    out.resize(out.len() + length.next_multiple_of(BLOCK) - length, 0);
}

impl Coding for InTar {
    fn method(&self) -> Method {
        self.method
    }

    fn header_cover(&self) -> (&'static [u8], &'static [u8]) {
        (&self.header[..], &HEADER_SUFFIX)
    }

    fn checksum_seed(&self, _length: usize) -> u32 {
        0
    }

    fn covered_length(&self, length: usize) -> usize {
        member_length(length)
    }

    fn cover(&self, head: &[u8], rest: &[u8], out: &mut Vec<u8>) {
        let length = head.len() + rest.len();
        out.extend_from_slice(&member(self.information, length));
        out.extend_from_slice(head);
        out.extend_from_slice(rest);
        pad(length, out);
    }

    fn fitting(&self, total: usize) -> Option<usize> {
        total
            .checked_sub(BLOCK)
            .filter(|_| total.is_multiple_of(BLOCK))
    }

    fn cover_exactly(&self, bytes: &[u8], total: usize, out: &mut Vec<u8>) {
        debug_assert_eq!(self.fitting(total), Some(bytes.len()));
        self.cover(bytes, &[], out);
    }

    fn uncover<'a>(&self, bytes: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        inside(bytes, self.information).map(Cow::Borrowed)
    }

    fn covers_start(&self, bytes: &[u8], start: &[u8]) -> bool {
        let name = self.information.as_bytes();
        bytes.starts_with(name)
            && bytes.get(name.len()) == Some(&0)
            && bytes.get(257..265) == Some(b"ustar\x0000")
            && bytes
                .get(BLOCK..)
                .is_some_and(|inside| inside.starts_with(start))
    }

    fn compressor(&self, level: i32) -> io::Result<Box<dyn Compressor>> {
        Ok(match self.method {
            Method::SevenZip => Box::new(Packer {
                name: self.data,
                pack: Pack::SevenZip(seven_zip::Packer::new(level)),
            }),
            _ => Box::new(Packer {
                name: self.data,
                pack: Pack::AsItIs,
            }),
        })
    }

    fn unpack(&self, data: &[u8], length: usize) -> Result<Vec<u8>, &'static str> {
        // No bytes are no member, since 7z knows no stream without bytes.
        if data.is_empty() && length == 0 {
            return Ok(Vec::new());
        }
        let inside =
            inside(data, self.data).ok_or("its data is not one member of a tar archive")?;
        if self.method == Method::SevenZip {
            return seven_zip::unpack(inside, length);
        }
        if inside.len() != length {
            return Err("its data has another size");
        }
        Ok(inside.to_vec())
    }
}

struct Packer {
    name: &'static str,
    pack: Pack,
}

enum Pack {
    AsItIs,
    SevenZip(seven_zip::Packer),
}

impl Compressor for Packer {
    fn pack(&mut self, tar: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        if tar.is_empty() {
            return Ok(());
        }
        let packed = match &self.pack {
            Pack::AsItIs => Cow::Borrowed(tar),
            Pack::SevenZip(packer) => Cow::Owned(packer.pack(tar)?),
        };
        out.reserve(member_length(packed.len()));
        out.extend_from_slice(&member(self.name, packed.len()));
        out.extend_from_slice(&packed);
        pad(packed.len(), out);
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_covered_comes_out_again_whatever_its_length() {
        for coding in [&TAR, &SEVEN_ZIP] {
            for length in [0, 1, 511, 512, 513, 100_000] {
                let bytes: Vec<u8> = (0..length).map(|n| (n * 7 % 251) as u8).collect();
                let (head, rest) = bytes.split_at(length.min(24));
                let mut out = Vec::new();
                coding.cover(head, rest, &mut out);
                assert_eq!(out.len(), coding.covered_length(length));
                assert_eq!(coding.uncover(&out).as_deref(), Some(&bytes[..]));
                assert!(coding.covers_start(&out, head));
                for at in [0, 124, 134, 150, 300] {
                    out[at] ^= 1;
                    assert_eq!(coding.uncover(&out), None, "byte {at} of {length}");
                    out[at] ^= 1;
                }
                assert_eq!(coding.uncover(&out[..out.len() - 1]), None);
            }
        }
    }

    #[test]
    fn data_comes_out_again_and_nothing_else_does() {
        let tar: Vec<u8> = (0..300_000_u32)
            .flat_map(|n| (n / 7).to_le_bytes())
            .collect();
        for coding in [&TAR, &SEVEN_ZIP] {
            for tar in [&tar[..], &tar[..1], &tar[..512], &[]] {
                let mut out = Vec::new();
                let level = coding.method().default_level().min(1);
                coding
                    .compressor(level)
                    .unwrap()
                    .pack(tar, &mut out)
                    .unwrap();
                assert!(out.len() <= tar.len() + 2048);
                assert_eq!(coding.unpack(&out, tar.len()).as_deref(), Ok(tar));
                assert!(coding.unpack(&out, tar.len() + 1).is_err());
                assert!(tar.is_empty() || coding.unpack(&out, tar.len() - 1).is_err());
                out.push(0);
                assert!(coding.unpack(&out, tar.len()).is_err());
            }
        }
    }

    #[test]
    fn headers_of_the_two_begin_differently() {
        let start = |coding: &InTar| coding.header_cover().0[..16].to_vec();
        assert_ne!(start(&TAR), start(&SEVEN_ZIP));
    }
}
