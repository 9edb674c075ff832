//! Directories that say themselves that they are not worth keeping: by a file of an agreed name, or by a cache's tag.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, fstat};

use super::listing::{self, Listed};
use super::{Exclude, Names};

/// Name of a cache's tag, and how it must begin (bford.info/cachedir).
const TAG: &[u8] = b"CACHEDIR.TAG";
const SIGNATURE: &[u8; 43] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// A directory that was listed, when it is decided whether something in it marks it.
#[derive(Debug)]
pub struct Marked<'a> {
    /// Its raw path below the top of the walk.
    pub path: &'a [u8],
    /// Its names, in order.
    pub names: &'a Names,
    directory: BorrowedFd<'a>,
}

impl Marked<'_> {
    /// Index of a valid CACHEDIR.TAG.
    pub fn cache_tag(&self) -> Option<usize> {
        // What can't be read again is taken for no marker: taking too much is the smaller fault.
        let index = self.names.find_file(TAG).ok().flatten()?;
        let fd = listing::open_file(self.directory, TAG).ok()?;
        // What could block, or answer for ever, is no tag.
        if FileType::from_raw_mode(fstat(&fd).ok()?.st_mode) != FileType::RegularFile {
            return None;
        }
        let mut begin = [0; SIGNATURE.len()];
        File::from(fd).read_exact(&mut begin).ok()?;
        (begin == *SIGNATURE).then_some(index)
    }
}

/// Cuts a listing down to what marks it, if something does.
pub(super) fn apply(
    listed: &mut Listed,
    directory: BorrowedFd<'_>,
    path: &[u8],
    exclude: &dyn Exclude,
) {
    let marked = Marked {
        path,
        names: &listed.names,
        directory,
    };
    if let Some(index) = exclude.marker(&marked)
        && let Ok(names) = listed.names.only(index)
    {
        listed.names = names;
        // What was wrong with names that are not taken is nobody's matter.
        listed.issues.clear();
        listed.complete = true;
    }
}
