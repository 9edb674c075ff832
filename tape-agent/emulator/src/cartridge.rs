//! A cartridge in a file, and the drive's buffer in front of it.
//!
//! Owns what is recorded where, and what of it would survive. It never waits, never reports a block as on the
//! medium before the file has it, and never decides what an error means to a host: that is the drive's part.
//!
//! # FORMAT (version 1)
//!
//! One file, named by its barcode with the ending `.tape`; all numbers little endian, checksums CRC32C.
//!
//! | at | what |
//! |---|---|
//! | 0 | `TAFTAPE\0`, u32 version, u32 checksum of bytes 16..512 |
//! | 16 | u64 capacity in bytes, u64 loads, u8 density code, u8 flags (bit 0 write protected, bits 1 and 2: 0 data, 1 write once, 2 cleaning), u8 length and 32 bytes of serial number; at 72 u64 bytes of a second partition |
//! | 1024, 2048 | two end markers of 64 bytes: u64 sequence, u64 generation, u64 end offset, u64 objects, u8 flags (bit 0: the end has no mark), 27 zeros, u32 checksum of the first 60 |
//! | 2560 | the cartridge's memory: u32 length, u32 checksum, a list of attributes (SPC-5 7.4) |
//! | 4096 | records |
//!
//! A record is 16 bytes of header, u8 kind (1 block, 2 filemark), three zeros, u32 length, u32 checksum of the
//! data, u32 checksum of these twelve, then the data. Records follow each other without gaps.
//!
//! The valid marker with the higher sequence is the truth; markers are written in turn, so a torn one never
//! matters. Only what lies before its end offset is recorded, whatever else the file holds. Overwriting first
//! writes a marker that ends at the place of overwriting, with the next generation, then cuts the file, then
//! appends: a reader that started under an older generation finds out and stops.
//!
//! What a marker covers survives the death of any process. It survives the host's crash only with the option
//! `sync`, which waits for the disk at every flush.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use taf_scsi::sense::Sense;

mod buffer;
mod index;
mod layout;
mod memory;
mod reader;

use index::Index;
pub use index::Object;
use layout::End;
pub use layout::{BLOCK_LENGTH_MAX, Kind, Meta};
pub use memory::{History, Memory};
pub use reader::{Blocks, Reader};

/// Ending of a cartridge's file name.
pub const EXTENSION: &str = "tape";

/// What can go wrong with a cartridge's file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused.
    #[error("can't {action} cartridge {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The cartridge's file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is something else, or of a version this program doesn't know.
    #[error("{} is not a cartridge: {reason}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: &'static str,
    },
    /// Something recorded doesn't match its checksum.
    #[error("cartridge {} is damaged at block {object}: {reason}", path.display())]
    Damaged {
        /// The cartridge's file.
        path: PathBuf,
        /// Logical object number.
        object: u64,
        /// What was found.
        reason: &'static str,
    },
    /// Another drive has it.
    #[error("cartridge {} is in another drive or library process; unload it there first", .0.display())]
    InUse(PathBuf),
    /// The cartridge was written from an earlier place on while it was read.
    #[error("cartridge {} was overwritten while it was being read; start again", .0.display())]
    Overwritten(PathBuf),
    /// There is no such tape file.
    #[error("cartridge {} holds {files} tape files, numbered from 0; there is no file {file}", path.display())]
    NoSuchFile {
        /// The cartridge's file.
        path: PathBuf,
        /// What was asked.
        file: u64,
        /// What is there.
        files: u64,
    },
}

impl Error {
    fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }
}

/// Why buffered objects did not reach the medium.
#[derive(Debug)]
pub enum Cause {
    /// The file could not be written.
    File(Error),
    /// A fault was ordered.
    Ordered(Sense),
}

/// Objects that the host was told are buffered, and that are gone now.
#[derive(Debug)]
pub struct Loss {
    /// How many objects.
    pub objects: u64,
    /// Why.
    pub cause: Cause,
}

/// Asked before each object goes to the medium, with its number; sense orders a failure there.
pub type Gate<'a> = &'a mut dyn FnMut(u64) -> Option<Sense>;

/// How a cartridge behaves in this drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behaviour {
    /// Bytes that the drive's buffer holds before the oldest are written to the medium.
    pub buffer: u64,
    /// Whether a flush waits for the disk.
    pub sync: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            buffer: 64 << 20,
            sync: false,
        }
    }
}

/// A cartridge in a drive.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools)] // independent facts
pub struct Cartridge {
    file: File,
    path: PathBuf,
    meta: Meta,
    memory: Memory,
    /// The memory could not be read when the cartridge was loaded.
    memory_damaged: bool,
    /// The memory differs from what the file has.
    memory_changed: bool,
    writable: bool,
    behaviour: Behaviour,
    /// The marker last written.
    end: End,
    /// All objects, the buffered ones included.
    index: Index,
    /// Objects that are not on the medium yet, oldest first, each with its record header.
    buffer: VecDeque<Vec<u8>>,
    buffered_bytes: u64,
    /// The first buffered object overwrites recorded ones, which are still there.
    overwriting: bool,
    /// Emptied records, kept because giving 512 KiB back and taking it again costs page faults.
    spare: Vec<Vec<u8>>,
}

impl Cartridge {
    /// Makes a blank cartridge at `path`, which must not exist.
    pub fn create(path: &Path, meta: &Meta) -> Result<(), Error> {
        let file = File::create_new(path).map_err(Error::io("create", path))?;
        file.write_all_at(&layout::header(meta), 0)
            .and_then(|()| file.sync_all())
            .map_err(Error::io("write", path))
    }

    /// Opens a cartridge for a drive, which nobody else may then have. A file that may not be written opens
    /// write protected.
    pub fn open(path: &Path, behaviour: Behaviour) -> Result<Self, Error> {
        match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => {
                match file.try_lock() {
                    Ok(()) => {}
                    Err(TryLockError::WouldBlock) => return Err(Error::InUse(path.to_owned())),
                    Err(TryLockError::Error(source)) => {
                        return Err(Error::io("lock", path)(source));
                    }
                }
                Self::load(file, path, behaviour, true)
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
                ) =>
            {
                Self::open_read_only(path, behaviour)
            }
            Err(error) => Err(Error::io("open", path)(error)),
        }
    }

    /// Opens what is on the medium now, write protected, even while a drive has it.
    pub fn open_read_only(path: &Path, behaviour: Behaviour) -> Result<Self, Error> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        Self::load(file, path, behaviour, false)
    }

    fn load(file: File, path: &Path, behaviour: Behaviour, writable: bool) -> Result<Self, Error> {
        let (meta, end, index) = reader::snapshot(&file, path)?;
        let memory = layout::read_memory(&file, path)?;
        if let Err(reason) = &memory {
            tracing::warn!(cartridge = %path.display(), reason, "the cartridge's memory is lost");
        }
        Ok(Self {
            file,
            path: path.to_owned(),
            meta,
            memory_damaged: memory.is_err(),
            memory: memory.unwrap_or_default(),
            memory_changed: false,
            writable,
            behaviour,
            end,
            index,
            buffer: VecDeque::new(),
            buffered_bytes: 0,
            overwriting: false,
            spare: Vec::new(),
        })
    }

    /// The cartridge's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The barcode: the file's name without its ending, up to a `+`.
    pub fn barcode(&self) -> String {
        barcode_of(&self.path)
    }

    /// What the cartridge says of itself.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Whether writing is refused: by the cartridge's tab, or because the file may not be written.
    pub fn write_protected(&self) -> bool {
        self.meta.write_protected || !self.writable
    }

    /// The cartridge's memory chip.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The memory, to change; [`Self::save_memory`] brings it to the file.
    pub fn memory_mut(&mut self) -> &mut Memory {
        self.memory_changed = true;
        &mut self.memory
    }

    /// Whether the memory was not readable when the cartridge was loaded.
    pub fn memory_damaged(&self) -> bool {
        self.memory_damaged
    }

    /// Writes the memory to the file if it changed and the file may be written.
    pub fn save_memory(&mut self) -> Result<(), Error> {
        if self.memory_changed && self.writable {
            self.file
                .write_all_at(&self.memory.encode(), memory::MEMORY_AT)
                .map_err(Error::io("write", &self.path))?;
            self.memory_changed = false;
        }
        Ok(())
    }

    /// Counts one more load, if the file may be written.
    pub fn count_load(&mut self) -> Result<(), Error> {
        if !self.writable {
            return Ok(());
        }
        self.meta.loads += 1;
        self.file
            .write_all_at(&self.meta.encode(), 0)
            .map_err(Error::io("write", &self.path))
    }

    /// Objects up to end of data, the buffered ones included.
    pub fn objects(&self) -> u64 {
        self.index.len()
    }

    /// What object `number` is; `None` at end of data.
    pub fn object(&self, number: u64) -> Option<Object> {
        self.index.get(number)
    }

    /// Filemarks before object `number`.
    pub fn filemarks_before(&self, number: u64) -> u64 {
        self.index.marks_before(number)
    }

    /// The object number of the n-th filemark, from 0.
    pub fn filemark(&self, n: u64) -> Option<u64> {
        self.index.mark(n)
    }

    /// Bytes that the (first) partition holds.
    pub fn capacity(&self) -> u64 {
        self.meta
            .capacity
            .saturating_sub(self.meta.second_partition)
    }

    /// Bytes that still fit behind end of data.
    pub fn remaining(&self) -> u64 {
        self.capacity().saturating_sub(self.used_before(u64::MAX))
    }

    /// Bytes of medium used before object `number`.
    pub fn used_before(&self, number: u64) -> u64 {
        self.index.offset(number) - layout::RECORDS_AT
    }

    /// Bytes of medium that a block of `length` bytes takes; a filemark takes as much as an empty block.
    pub fn footprint(length: usize) -> u64 {
        (layout::RECORD_HEADER + length) as u64
    }

    /// Objects in the buffer, and their bytes of data.
    pub fn buffered(&self) -> (u64, u64) {
        let headers = self.buffer.len() * layout::RECORD_HEADER;
        (
            self.buffer.len() as u64,
            self.buffered_bytes - headers as u64,
        )
    }

    /// Whether the medium has a mark where the recording ends.
    pub fn end_is_marked(&self) -> bool {
        !self.end.unmarked
    }

    /// Reads block `number` whole and checks it. The block must exist.
    pub fn read(&self, number: u64, length: u32) -> Result<Vec<u8>, Error> {
        layout::read_block(
            &self.file,
            &self.path,
            number,
            self.index.offset(number),
            length,
        )
    }
}

/// The barcode of the cartridge in the file `path`.
pub fn barcode_of(path: &Path) -> String {
    label_of(&name_of(path)).to_owned()
}

/// The name of a cartridge's file, without its ending.
pub fn name_of(path: &Path) -> String {
    path.file_stem()
        .map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// What the label of a cartridge says whose file has this name: what is before the `+`. Several cartridges may
/// bear one label, and one may have none.
pub fn label_of(name: &str) -> &str {
    name.split('+').next().unwrap_or(name)
}

#[cfg(test)]
mod tests;
