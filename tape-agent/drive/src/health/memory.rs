//! The memory in a cartridge (MAM): who it is and what it has been through, whatever drive it is in.

use taf_scsi::page::attribute::{self, Attribute};

use crate::{Drive, Error};

const MEBIBYTE: u64 = 1 << 20;

/// What matters of it. Texts are empty, numbers `None` where nothing is stored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Memory {
    /// Medium serial number (0401h): the cartridge's physical identity.
    pub serial: String,
    /// Who made it (0400h).
    pub manufacturer: String,
    /// When it was made (0406h): year, month, day.
    pub made: String,
    /// Barcode that a program stored (0806h).
    pub barcode: String,
    /// Program that wrote it last (0801h).
    pub application: String,
    /// Text that people gave it (0803h).
    pub text: String,
    /// Native capacity of the partition (0001h).
    pub capacity: Option<u64>,
    /// What is left of it, by the drive's estimate (0000h).
    pub remaining: Option<u64>,
    /// Loads over the whole life (0003h).
    pub loads: Option<u64>,
    /// Bytes written over the whole life (0220h).
    pub life_written: Option<u64>,
    /// Bytes read over the whole life (0221h).
    pub life_read: Option<u64>,
}

/// The memory of the cartridge in the drive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Chip {
    /// The drive does not show it, or the cartridge has none.
    Unknown,
    /// There is one, and it can't be read: why.
    Unreadable(String),
    /// What it holds.
    Read(Memory),
}

impl Chip {
    /// Asks the drive.
    pub fn read(drive: &mut dyn Drive) -> Result<Self, Error> {
        match drive.attributes() {
            Ok(Some(attributes)) => Ok(Self::Read(Memory::of(&attributes))),
            Ok(None) => Ok(Self::Unknown),
            Err(error @ Error::CartridgeMemory(_)) => Ok(Self::Unreadable(error.to_string())),
            Err(error) => Err(error),
        }
    }

    /// The cartridge's serial number; empty if it is not known.
    pub fn serial(&self) -> &str {
        match self {
            Self::Read(memory) => &memory.serial,
            Self::Unknown | Self::Unreadable(_) => "",
        }
    }
}

impl Memory {
    /// Asks the drive; `None` if it does not show the memory, the cartridge has none, or it can't be read.
    pub fn read(drive: &mut dyn Drive) -> Result<Option<Self>, Error> {
        Ok(match Chip::read(drive)? {
            Chip::Read(memory) => Some(memory),
            Chip::Unknown | Chip::Unreadable(_) => None,
        })
    }

    /// What attributes say.
    pub fn of(attributes: &[Attribute]) -> Self {
        let find = |id| attribute::find(attributes, id);
        let text = |id| find(id).map(Attribute::text).unwrap_or_default();
        let number = |id| find(id).and_then(Attribute::number);
        let bytes = |id| number(id).map(|mebibytes| mebibytes.saturating_mul(MEBIBYTE));
        Self {
            serial: text(attribute::MEDIUM_SERIAL_NUMBER),
            manufacturer: text(attribute::MEDIUM_MANUFACTURER),
            made: text(attribute::MANUFACTURE_DATE),
            barcode: text(attribute::BARCODE),
            application: text(attribute::APPLICATION_NAME),
            text: text(attribute::USER_TEXT_LABEL),
            capacity: bytes(attribute::MAXIMUM_CAPACITY).filter(|&capacity| capacity > 0),
            remaining: bytes(attribute::REMAINING_CAPACITY),
            loads: number(attribute::LOAD_COUNT),
            life_written: bytes(attribute::WRITTEN_IN_LIFE),
            life_read: bytes(attribute::READ_IN_LIFE),
        }
    }
}
