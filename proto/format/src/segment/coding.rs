//! What differs between methods: how tar bytes become data, and how what is no tar is hidden from stock tools.
//!
//! A *cover* is what stock tools of a method step over: a zstd skippable frame, an empty gzip member, a member of a tar archive
//! that is not asked for. Header, records and block 0 lie in covers; what is in them is the same for every method.

mod gzip;
mod in_tar;
mod seven_zip;
mod zstd;

use std::borrow::Cow;
use std::io;

use super::Method;

/// See the module.
pub(crate) trait Coding: Sync {
    /// Which one it is.
    fn method(&self) -> Method;

    /// What stands before and behind the [`BODY`](super::header::BODY) bytes of a segment's header. Nothing else begins as they
    /// do, so that it is found by its first 16 bytes.
    fn header_cover(&self) -> (&'static [u8], &'static [u8]);

    /// Where the checksum of covered bytes begins: the CRC32C of what is before them and counts as well.
    fn checksum_seed(&self, length: usize) -> u32;

    /// How many bytes `length` bytes become when they are covered.
    fn covered_length(&self, length: usize) -> usize;

    /// Appends `head` and `rest` in covers.
    fn cover(&self, head: &[u8], rest: &[u8], out: &mut Vec<u8>);

    /// Bytes that can be covered so that exactly `total` come out; `None` if that is less than none.
    fn fitting(&self, total: usize) -> Option<usize>;

    /// Appends exactly `total` bytes that cover `bytes`, which are as many as [fit](Self::fitting).
    fn cover_exactly(&self, bytes: &[u8], total: usize, out: &mut Vec<u8>);

    /// What is in the covers that `bytes` are exactly; `None` if they are none.
    fn uncover<'a>(&self, bytes: &'a [u8]) -> Option<Cow<'a, [u8]>>;

    /// Whether `bytes` begin with a cover in which the first bytes are `start`.
    fn covers_start(&self, bytes: &[u8], start: &[u8]) -> bool;

    /// A compressor of this level.
    fn compressor(&self, level: i32) -> io::Result<Box<dyn Compressor>>;

    /// Unpacks data that must give exactly `length` bytes, at most [`crate::limits::SEGMENT_TAR`]; or what is wrong with it.
    fn unpack(&self, data: &[u8], length: usize) -> Result<Vec<u8>, &'static str>;
}

/// Kept between segments: one for each worker thread.
pub(crate) trait Compressor: Send {
    /// Appends the data that `tar` becomes, at most [`crate::limits::SEGMENT_DATA`] bytes.
    fn pack(&mut self, tar: &[u8], out: &mut Vec<u8>) -> io::Result<()>;
}

/// Those of all methods.
pub(crate) static CODINGS: [&dyn Coding; Method::ALL.len()] =
    [&zstd::Zstd, &gzip::Gzip, &in_tar::TAR, &in_tar::SEVEN_ZIP];

/// Of a method.
pub(crate) fn of(method: Method) -> &'static dyn Coding {
    match method {
        Method::Zstd => CODINGS[0],
        Method::Gzip => CODINGS[1],
        Method::Tar => CODINGS[2],
        Method::SevenZip => CODINGS[3],
    }
}
