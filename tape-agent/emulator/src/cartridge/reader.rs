//! Reading a cartridge's file without a drive, also while one is writing to it: the `dd` of the emulator.
//!
//! It sees what was on the medium when it was opened. It never locks, so it never disturbs a drive.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::index::{Index, Object};
use super::layout::{self, End, Meta};
use super::{Error, barcode_of};

/// What is recorded now, as one moment saw it.
pub(super) fn snapshot(file: &File, path: &Path) -> Result<(Meta, End, Index), Error> {
    loop {
        let (meta, end) = layout::read_header(file, path)?;
        let scanned = Index::scan(file, path, &end);
        // A drive may have begun to overwrite meanwhile; then look again.
        if End::read(file, path)?.generation == end.generation {
            return Ok((meta, end, scanned?));
        }
    }
}

/// A cartridge's file, open for reading.
#[derive(Debug)]
pub struct Reader {
    file: File,
    path: PathBuf,
    meta: Meta,
    end: End,
    index: Index,
}

impl Reader {
    /// Opens the cartridge and takes what is recorded now.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        let (meta, end, index) = snapshot(&file, path)?;
        Ok(Self {
            file,
            path: path.to_owned(),
            meta,
            end,
            index,
        })
    }

    /// What the cartridge says of itself.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The barcode.
    pub fn barcode(&self) -> String {
        barcode_of(&self.path)
    }

    /// Objects (blocks and filemarks) recorded.
    pub fn objects(&self) -> u64 {
        self.end.objects
    }

    /// Bytes of medium used.
    pub fn used(&self) -> u64 {
        self.end.offset - layout::RECORDS_AT
    }

    /// Tape files: what filemarks end, and what may follow the last one.
    pub fn files(&self) -> u64 {
        let objects = self.index.len();
        let marks = self.index.marks_before(objects);
        let open = objects > 0 && self.index.get(objects - 1) != Some(Object::Filemark);
        marks + u64::from(open)
    }

    /// The blocks of tape file `file`, numbered from 0, in order. A file may have none.
    pub fn blocks(&self, file: u64) -> Result<Blocks<'_>, Error> {
        if file >= self.files() {
            return Err(Error::NoSuchFile {
                path: self.path.clone(),
                file,
                files: self.files(),
            });
        }
        let next = match file.checked_sub(1) {
            None => 0,
            // The file exists, so the mark before it does; the end is a safe answer in any case.
            Some(before) => self.index.mark(before).map_or(self.index.len(), |n| n + 1),
        };
        Ok(Blocks { reader: self, next })
    }

    fn block(&self, number: u64, length: u32) -> Result<Vec<u8>, Error> {
        let offset = self.index.offset(number);
        let data = layout::read_block(&self.file, &self.path, number, offset, length);
        // Checked after reading: what was read before the marker changed is what was recorded.
        if End::read(&self.file, &self.path)?.generation != self.end.generation {
            return Err(Error::Overwritten(self.path.clone()));
        }
        data
    }
}

/// The blocks of one tape file.
#[derive(Debug)]
pub struct Blocks<'a> {
    reader: &'a Reader,
    next: u64,
}

impl Iterator for Blocks<'_> {
    type Item = Result<Vec<u8>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let Some(Object::Block(length)) = self.reader.index.get(self.next) else {
            return None;
        };
        let number = self.next;
        self.next += 1;
        Some(self.reader.block(number, length))
    }
}
