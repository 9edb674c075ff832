//! zstd: the data is one frame with content size and checksum; covers are skippable frames.

use std::borrow::Cow;
use std::io::{self, Cursor};

use zstd::bulk;
use zstd::zstd_safe::{self, CParameter};

use super::{Coding, Compressor};
use crate::frame;
use crate::segment::Method;
use crate::segment::header::BODY;

/// See the module.
pub(super) struct Zstd;

const HEADER_PREFIX: [u8; frame::PREFIX] = frame::prefix(BODY as u32);
const FRAME: u32 = 0xFD2F_B528;

impl Coding for Zstd {
    fn method(&self) -> Method {
        Method::Zstd
    }

    fn header_cover(&self) -> (&'static [u8], &'static [u8]) {
        (&HEADER_PREFIX, &[])
    }

    fn checksum_seed(&self, length: usize) -> u32 {
        crc32c::crc32c(&frame::prefix(length as u32))
    }

    fn covered_length(&self, length: usize) -> usize {
        frame::PREFIX + length
    }

    fn cover(&self, head: &[u8], rest: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&frame::prefix((head.len() + rest.len()) as u32));
        out.extend_from_slice(head);
        out.extend_from_slice(rest);
    }

    fn fitting(&self, total: usize) -> Option<usize> {
        total.checked_sub(frame::PREFIX)
    }

    fn cover_exactly(&self, bytes: &[u8], total: usize, out: &mut Vec<u8>) {
        debug_assert_eq!(self.fitting(total), Some(bytes.len()));
        self.cover(bytes, &[], out);
    }

    fn uncover<'a>(&self, bytes: &'a [u8]) -> Option<Cow<'a, [u8]>> {
        let inside = bytes.get(frame::PREFIX..)?;
        (frame::payload_length(bytes) == Some(inside.len() as u32)).then_some(Cow::Borrowed(inside))
    }

    fn covers_start(&self, bytes: &[u8], start: &[u8]) -> bool {
        frame::payload_length(bytes).is_some() && bytes[frame::PREFIX..].starts_with(start)
    }

    fn compressor(&self, level: i32) -> io::Result<Box<dyn Compressor>> {
        let mut zstd = bulk::Compressor::new(level)?;
        zstd.set_parameter(CParameter::ChecksumFlag(true))?;
        zstd.set_parameter(CParameter::ContentSizeFlag(true))?;
        Ok(Box::new(zstd))
    }

    fn unpack(&self, data: &[u8], length: usize) -> Result<Vec<u8>, &'static str> {
        // zstd would go on through further frames; the format has exactly one.
        if zstd_safe::find_frame_compressed_size(data) != Ok(data.len())
            || data.first_chunk() != Some(&FRAME.to_le_bytes())
        {
            return Err("its data is not one zstd frame");
        }
        if !matches!(zstd_safe::get_frame_content_size(data), Ok(Some(size)) if size == length as u64)
        {
            return Err("its zstd frame states another size");
        }
        let mut tar = Vec::with_capacity(length);
        let found = bulk::Decompressor::new()
            .and_then(|mut zstd| zstd.decompress_to_buffer(data, &mut tar))
            .map_err(|_| "zstd cannot decompress it")?;
        if found != length {
            return Err("its zstd frame gives another size");
        }
        Ok(tar)
    }
}

impl Compressor for bulk::Compressor<'static> {
    fn pack(&mut self, tar: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        let begin = out.len();
        out.reserve(zstd_safe::compress_bound(tar.len()));
        let mut cursor = Cursor::new(std::mem::take(out));
        cursor.set_position(begin as u64);
        let packed = self.compress_to_buffer(tar, &mut cursor);
        *out = cursor.into_inner();
        out.truncate(begin + packed?);
        Ok(())
    }
}
