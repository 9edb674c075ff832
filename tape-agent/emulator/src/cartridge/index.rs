//! Where each object lies: 8 bytes an object, built from the record headers when a cartridge is loaded.

use std::fs::File;
use std::path::Path;

use super::Error;
use super::layout::{self, End, RECORD_HEADER, RECORDS_AT, Record};

/// One logical object on a tape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object {
    /// A block of so many bytes.
    Block(u32),
    /// A filemark.
    Filemark,
}

/// Marks an entry as a filemark; offsets stay below it.
const FILEMARK: u64 = 1 << 63;

#[derive(Debug)]
pub(super) struct Index {
    /// File offset of each object's record, with [`FILEMARK`].
    objects: Vec<u64>,
    /// Object numbers of the filemarks.
    filemarks: Vec<u64>,
    /// Offset behind the last record.
    end: u64,
}

impl Index {
    /// Reads the header of every record up to the marker.
    pub fn scan(file: &File, path: &Path, end: &End) -> Result<Self, Error> {
        let mut index = Self {
            objects: Vec::new(),
            filemarks: Vec::new(),
            end: RECORDS_AT,
        };
        while index.end < end.offset {
            match layout::read_record(file, path, index.len(), index.end)? {
                Record::Block { length, .. } => index.push_block(length),
                Record::Filemark => index.push_filemark(),
            }
        }
        if index.end != end.offset || index.len() != end.objects {
            return Err(Error::Damaged {
                path: path.to_owned(),
                object: index.len(),
                reason: "the records don't end where the end marker says",
            });
        }
        Ok(index)
    }

    pub fn len(&self) -> u64 {
        self.objects.len() as u64
    }

    pub fn get(&self, number: u64) -> Option<Object> {
        let entry = *self.objects.get(usize::try_from(number).ok()?)?;
        Some(if entry & FILEMARK != 0 {
            Object::Filemark
        } else {
            let next = self.offset(number + 1);
            Object::Block((next - entry - RECORD_HEADER as u64) as u32)
        })
    }

    /// Where the record of object `number` begins; at or behind end of data, where the next would.
    pub fn offset(&self, number: u64) -> u64 {
        usize::try_from(number)
            .ok()
            .and_then(|number| self.objects.get(number))
            .map_or(self.end, |entry| entry & !FILEMARK)
    }

    pub fn marks_before(&self, number: u64) -> u64 {
        self.filemarks.partition_point(|&mark| mark < number) as u64
    }

    pub fn mark(&self, n: u64) -> Option<u64> {
        self.filemarks.get(usize::try_from(n).ok()?).copied()
    }

    pub fn push_block(&mut self, length: u32) {
        self.objects.push(self.end);
        self.end += RECORD_HEADER as u64 + u64::from(length);
    }

    pub fn push_filemark(&mut self) {
        self.filemarks.push(self.len());
        self.objects.push(self.end | FILEMARK);
        self.end += RECORD_HEADER as u64;
    }

    pub fn truncate(&mut self, number: u64) {
        self.end = self.offset(number);
        self.filemarks
            .truncate(self.filemarks.partition_point(|&mark| mark < number));
        self.objects
            .truncate(usize::try_from(number).unwrap_or(usize::MAX));
    }
}
