//! READ POSITION data, short, long and extended form (SSC-5 7.7).

use super::{Error, at_least, number};

/// Bytes of the short form.
pub const SHORT_LENGTH: usize = 20;
/// Bytes of the long and the extended form.
pub const LONG_LENGTH: usize = 32;

const BEGINNING: u8 = 0x80;
const END: u8 = 0x40;
const COUNT_UNKNOWN: u8 = 0x20;
const BYTES_UNKNOWN: u8 = 0x10;
const MARKS_UNKNOWN: u8 = 0x08;
const LOCATION_UNKNOWN: u8 = 0x04;
const OVERFLOW: u8 = 0x02;
const PROGRAMMABLE_EARLY_WARNING: u8 = 0x01;

/// The short form (service action 00h), and the extended form (08h), which says the same in wider fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(clippy::struct_excessive_bools)] // independent bits of the wire
pub struct Short {
    /// BOP: at the partition's beginning.
    pub beginning: bool,
    /// EOP: between early warning and the partition's end.
    pub end: bool,
    /// BPEW: beyond programmable early warning.
    pub programmable_early_warning: bool,
    /// PERR: a value doesn't fit its field.
    pub overflow: bool,
    /// The partition.
    pub partition: u32,
    /// First and last logical object location; `None` if the drive doesn't know (LOLU, once BPU).
    pub location: Option<Location>,
    /// Objects in the drive's buffer that are not on the medium; `None` if unknown (LOCU).
    pub buffered_objects: Option<u64>,
    /// Bytes in the drive's buffer that are not on the medium; `None` if unknown (BYCU).
    pub buffered_bytes: Option<u64>,
}

/// Where the next object goes on the host's side of the buffer, and on the medium's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Location {
    /// The object that the next command reads or writes.
    pub first: u64,
    /// The next object that goes from the buffer to the medium; equal to `first` if the buffer is empty.
    pub last: u64,
}

impl Short {
    fn from_flags(flags: u8) -> Self {
        Self {
            beginning: flags & BEGINNING != 0,
            end: flags & END != 0,
            programmable_early_warning: flags & PROGRAMMABLE_EARLY_WARNING != 0,
            overflow: flags & OVERFLOW != 0,
            ..Self::default()
        }
    }

    fn flags(&self) -> u8 {
        let mut flags = 0;
        for (set, bit) in [
            (self.beginning, BEGINNING),
            (self.end, END),
            (self.programmable_early_warning, PROGRAMMABLE_EARLY_WARNING),
            (self.overflow, OVERFLOW),
            (self.location.is_none(), LOCATION_UNKNOWN),
            (self.buffered_objects.is_none(), COUNT_UNKNOWN),
            (self.buffered_bytes.is_none(), BYTES_UNKNOWN),
        ] {
            if set {
                flags |= bit;
            }
        }
        flags
    }

    /// Reads the 20 bytes of the short form.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let bytes = at_least("the short position", bytes, SHORT_LENGTH)?;
        let flags = bytes[0];
        Ok(Self {
            partition: u32::from(bytes[1]),
            location: (flags & LOCATION_UNKNOWN == 0).then(|| Location {
                first: number(&bytes[4..8]),
                last: number(&bytes[8..12]),
            }),
            buffered_objects: (flags & COUNT_UNKNOWN == 0).then(|| number(&bytes[13..16])),
            buffered_bytes: (flags & BYTES_UNKNOWN == 0).then(|| number(&bytes[16..20])),
            ..Self::from_flags(flags)
        })
    }

    /// Builds the 20 bytes of the short form. A location beyond 32 bits is reported as unknown with PERR.
    pub fn build(&self) -> Vec<u8> {
        let mut bytes = vec![0; SHORT_LENGTH];
        bytes[0] = self.flags();
        bytes[1] = self.partition as u8;
        if let Some(Location { first, last }) = self.location {
            match (u32::try_from(first), u32::try_from(last)) {
                (Ok(first), Ok(last)) => {
                    bytes[4..8].copy_from_slice(&first.to_be_bytes());
                    bytes[8..12].copy_from_slice(&last.to_be_bytes());
                }
                _ => bytes[0] |= LOCATION_UNKNOWN | OVERFLOW,
            }
        }
        let objects = self.buffered_objects.unwrap_or(0).min(0x00ff_ffff) as u32;
        bytes[13..16].copy_from_slice(&objects.to_be_bytes()[1..]);
        let buffered = self.buffered_bytes.unwrap_or(0).min(u64::from(u32::MAX)) as u32;
        bytes[16..20].copy_from_slice(&buffered.to_be_bytes());
        bytes
    }

    /// Reads the 32 bytes of the extended form.
    pub fn parse_extended(bytes: &[u8]) -> Result<Self, Error> {
        let bytes = at_least("the extended position", bytes, LONG_LENGTH)?;
        let flags = bytes[0];
        Ok(Self {
            partition: u32::from(bytes[1]),
            location: (flags & LOCATION_UNKNOWN == 0).then(|| Location {
                first: number(&bytes[8..16]),
                last: number(&bytes[16..24]),
            }),
            buffered_objects: (flags & COUNT_UNKNOWN == 0).then(|| number(&bytes[5..8])),
            buffered_bytes: (flags & BYTES_UNKNOWN == 0).then(|| number(&bytes[24..32])),
            ..Self::from_flags(flags)
        })
    }

    /// Builds the 32 bytes of the extended form.
    pub fn build_extended(&self) -> Vec<u8> {
        let mut bytes = vec![0; LONG_LENGTH];
        bytes[0] = self.flags();
        bytes[1] = self.partition as u8;
        bytes[3] = (LONG_LENGTH - 4) as u8;
        let objects = self.buffered_objects.unwrap_or(0).min(0x00ff_ffff) as u32;
        bytes[5..8].copy_from_slice(&objects.to_be_bytes()[1..]);
        if let Some(Location { first, last }) = self.location {
            bytes[8..16].copy_from_slice(&first.to_be_bytes());
            bytes[16..24].copy_from_slice(&last.to_be_bytes());
        }
        bytes[24..32].copy_from_slice(&self.buffered_bytes.unwrap_or(0).to_be_bytes());
        bytes
    }
}

/// The long form (service action 06h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(clippy::struct_excessive_bools)] // independent bits of the wire
pub struct Long {
    /// BOP: at the partition's beginning.
    pub beginning: bool,
    /// EOP: between early warning and the partition's end.
    pub end: bool,
    /// BPEW: beyond programmable early warning.
    pub programmable_early_warning: bool,
    /// A bit is set that the standard keeps zero: the answer is another form's, or made up, and its numbers
    /// are not to be believed.
    pub reserved_bits: bool,
    /// The partition.
    pub partition: u32,
    /// Logical object number; `None` if unknown (LONU).
    pub object: Option<u64>,
    /// Logical file identifier: filemarks between the partition's beginning and here; `None` if unknown (MPU).
    pub file: Option<u64>,
}

impl Long {
    /// Reads 32 bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let bytes = at_least("the long position", bytes, LONG_LENGTH)?;
        let flags = bytes[0];
        Ok(Self {
            beginning: flags & BEGINNING != 0,
            end: flags & END != 0,
            programmable_early_warning: flags & PROGRAMMABLE_EARLY_WARNING != 0,
            reserved_bits: flags & (COUNT_UNKNOWN | BYTES_UNKNOWN | OVERFLOW) != 0,
            partition: number(&bytes[4..8]) as u32,
            object: (flags & LOCATION_UNKNOWN == 0).then(|| number(&bytes[8..16])),
            file: (flags & MARKS_UNKNOWN == 0).then(|| number(&bytes[16..24])),
        })
    }

    /// Builds 32 bytes.
    pub fn build(&self) -> Vec<u8> {
        let mut bytes = vec![0; LONG_LENGTH];
        for (set, bit) in [
            (self.beginning, BEGINNING),
            (self.end, END),
            (self.programmable_early_warning, PROGRAMMABLE_EARLY_WARNING),
            (self.object.is_none(), LOCATION_UNKNOWN),
            (self.file.is_none(), MARKS_UNKNOWN),
        ] {
            if set {
                bytes[0] |= bit;
            }
        }
        bytes[4..8].copy_from_slice(&self.partition.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.object.unwrap_or(0).to_be_bytes());
        bytes[16..24].copy_from_slice(&self.file.unwrap_or(0).to_be_bytes());
        bytes
    }
}
