//! The bytes of a cartridge's file; the table is in the parent module.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::Error;
use super::memory::{MEMORY_AT, MEMORY_LENGTH, Memory};

const MAGIC: [u8; 8] = *b"TAFTAPE\0";
const VERSION: u32 = 1;
const META_LENGTH: usize = 512;
const SERIAL_MAX: usize = 32;
const END_LENGTH: usize = 64;
const ENDS_AT: [u64; 2] = [1024, 2048];

/// Where the records begin.
pub(super) const RECORDS_AT: u64 = 4096;
/// Bytes before each block's data.
pub(super) const RECORD_HEADER: usize = 16;
/// Longest block in bytes: what READ(6) and WRITE(6) can say.
pub const BLOCK_LENGTH_MAX: u32 = 0x00ff_ffff;

/// What a cartridge is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// Data, to be written as often as one likes.
    #[default]
    Data,
    /// Data, to be written once (WORM).
    WriteOnce,
    /// Cleaning a drive's heads.
    Cleaning,
}

/// What a cartridge says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Meta {
    /// Bytes that fit; each block and filemark takes 16 bytes besides its data.
    pub capacity: u64,
    /// How often it was threaded.
    pub loads: u64,
    /// Density code of its format.
    pub density: u8,
    /// Whether its tab forbids writing.
    pub write_protected: bool,
    /// The medium's serial number, at most 32 bytes.
    pub serial: String,
    /// What it is for.
    pub kind: Kind,
    /// Bytes of the capacity that a second partition takes; 0: there is one partition. What would be in the
    /// second is not kept: it is blank and can't be written.
    pub second_partition: u64,
}

impl Meta {
    pub(super) fn encode(&self) -> [u8; META_LENGTH] {
        let mut bytes = [0; META_LENGTH];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.capacity.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.loads.to_le_bytes());
        bytes[32] = self.density;
        let kind = match self.kind {
            Kind::Data => 0,
            Kind::WriteOnce => 1,
            Kind::Cleaning => 2,
        };
        bytes[33] = u8::from(self.write_protected) | (kind << 1);
        bytes[72..80].copy_from_slice(&self.second_partition.to_le_bytes());
        let serial = self.serial.as_bytes();
        let length = serial.len().min(SERIAL_MAX);
        bytes[34] = length as u8;
        bytes[35..35 + length].copy_from_slice(&serial[..length]);
        let checksum = crc32c::crc32c(&bytes[16..]);
        bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; META_LENGTH]) -> Result<Self, &'static str> {
        if bytes[..8] != MAGIC {
            return Err("it doesn't begin with the mark of one");
        }
        if bytes[8..12] != VERSION.to_le_bytes() {
            return Err("it is of a version that this program doesn't know");
        }
        if bytes[12..16] != crc32c::crc32c(&bytes[16..]).to_le_bytes() {
            return Err("its header doesn't match its checksum");
        }
        let length = usize::from(bytes[34]).min(SERIAL_MAX);
        Ok(Self {
            capacity: u64_at(bytes, 16),
            loads: u64_at(bytes, 24),
            density: bytes[32],
            write_protected: bytes[33] & 1 != 0,
            serial: String::from_utf8_lossy(&bytes[35..35 + length]).into_owned(),
            kind: match (bytes[33] >> 1) & 0x03 {
                0 => Kind::Data,
                1 => Kind::WriteOnce,
                2 => Kind::Cleaning,
                _ => return Err("it is of a kind that this program doesn't know"),
            },
            second_partition: u64_at(bytes, 72),
        })
    }
}

/// An end marker: how far the recording goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    pub sequence: u64,
    /// Counts the times that something recorded was overwritten.
    pub generation: u64,
    /// Behind the last record.
    pub offset: u64,
    pub objects: u64,
    /// On the medium no mark says that this is the end: power was lost while it was written.
    pub unmarked: bool,
}

impl End {
    pub fn encode(&self) -> [u8; END_LENGTH] {
        let mut bytes = [0; END_LENGTH];
        bytes[..8].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.generation.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.offset.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.objects.to_le_bytes());
        bytes[32] = u8::from(self.unmarked);
        let checksum = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; END_LENGTH]) -> Option<Self> {
        (bytes[60..] == crc32c::crc32c(&bytes[..60]).to_le_bytes()).then(|| Self {
            sequence: u64_at(bytes, 0),
            generation: u64_at(bytes, 8),
            offset: u64_at(bytes, 16),
            objects: u64_at(bytes, 24),
            unmarked: bytes[32] & 1 != 0,
        })
    }

    /// Where this marker goes: never on top of its predecessor.
    pub fn place(&self) -> u64 {
        ENDS_AT[usize::from(self.sequence % 2 == 1)]
    }

    /// The newest marker in the file.
    pub fn read(file: &File, path: &Path) -> Result<Self, Error> {
        let mut newest: Option<Self> = None;
        for place in ENDS_AT {
            let mut bytes = [0; END_LENGTH];
            file.read_exact_at(&mut bytes, place)
                .map_err(Error::io("read", path))?;
            if let Some(end) = Self::decode(&bytes)
                && newest.is_none_or(|other| other.sequence < end.sequence)
            {
                newest = Some(end);
            }
        }
        newest.ok_or_else(|| Error::Foreign {
            path: path.to_owned(),
            reason: "both its end markers are damaged",
        })
    }
}

/// The file of a blank cartridge.
pub(super) fn header(meta: &Meta) -> Vec<u8> {
    let mut bytes = vec![0; RECORDS_AT as usize];
    bytes[..META_LENGTH].copy_from_slice(&meta.encode());
    let end = End {
        sequence: 1,
        generation: 1,
        offset: RECORDS_AT,
        objects: 0,
        unmarked: false,
    };
    let place = end.place() as usize;
    bytes[place..place + END_LENGTH].copy_from_slice(&end.encode());
    bytes
}

pub(super) fn read_header(file: &File, path: &Path) -> Result<(Meta, End), Error> {
    let foreign = |reason| Error::Foreign {
        path: path.to_owned(),
        reason,
    };
    let mut bytes = [0; META_LENGTH];
    match file.read_exact_at(&mut bytes, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(foreign("it is too short"));
        }
        other => other.map_err(Error::io("read", path))?,
    }
    let meta = Meta::decode(&bytes).map_err(foreign)?;
    Ok((meta, End::read(file, path)?))
}

/// Reads the cartridge's memory; the inner error is the reason why it is no good.
pub(super) fn read_memory(file: &File, path: &Path) -> Result<Result<Memory, &'static str>, Error> {
    let mut bytes = [0; MEMORY_LENGTH];
    file.read_exact_at(&mut bytes, MEMORY_AT)
        .map_err(Error::io("read", path))?;
    Ok(Memory::decode(&bytes))
}

/// A record without its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Record {
    Block { length: u32, checksum: u32 },
    Filemark,
}

impl Record {
    pub fn encode(self) -> [u8; RECORD_HEADER] {
        let (kind, length, checksum): (u8, u32, u32) = match self {
            Self::Block { length, checksum } => (1, length, checksum),
            Self::Filemark => (2, 0, 0),
        };
        let mut bytes = [0; RECORD_HEADER];
        bytes[0] = kind;
        bytes[4..8].copy_from_slice(&length.to_le_bytes());
        bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
        let own = crc32c::crc32c(&bytes[..12]);
        bytes[12..].copy_from_slice(&own.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; RECORD_HEADER]) -> Option<Self> {
        if bytes[12..] != crc32c::crc32c(&bytes[..12]).to_le_bytes() {
            return None;
        }
        let length = u32_at(bytes, 4);
        match bytes[0] {
            1 if length <= BLOCK_LENGTH_MAX => Some(Self::Block {
                length,
                checksum: u32_at(bytes, 8),
            }),
            2 if length == 0 => Some(Self::Filemark),
            _ => None,
        }
    }
}

pub(super) fn read_record(
    file: &File,
    path: &Path,
    object: u64,
    offset: u64,
) -> Result<Record, Error> {
    let mut bytes = [0; RECORD_HEADER];
    file.read_exact_at(&mut bytes, offset)
        .map_err(Error::io("read", path))?;
    Record::decode(&bytes).ok_or_else(|| Error::Damaged {
        path: path.to_owned(),
        object,
        reason: "its record header doesn't match its checksum",
    })
}

/// Reads a block of which the index knows place and length.
pub(super) fn read_block(
    file: &File,
    path: &Path,
    object: u64,
    offset: u64,
    length: u32,
) -> Result<Vec<u8>, Error> {
    let damaged = |reason| Error::Damaged {
        path: path.to_owned(),
        object,
        reason,
    };
    let Record::Block {
        length: recorded,
        checksum,
    } = read_record(file, path, object, offset)?
    else {
        return Err(damaged("a filemark is where a block was"));
    };
    if recorded != length {
        return Err(damaged("it has another length than before"));
    }
    let mut data = vec![0; length as usize];
    file.read_exact_at(&mut data, offset + RECORD_HEADER as u64)
        .map_err(Error::io("read", path))?;
    if crc32c::crc32c(&data) != checksum {
        return Err(damaged("its data doesn't match its checksum"));
    }
    Ok(data)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(field)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut field = [0; 4];
    field.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(field)
}
