//! The cartridge's memory chip: what hosts wrote into it, and what drives noted about the cartridge's life.
//!
//! It lies in the file's head (2560 to 4096), 1,528 bytes behind u32 length and u32 checksum, as a list of
//! attributes in the standard's own layout; a file from before it was there has zeros, which is an empty memory.

use std::collections::BTreeMap;

use taf_scsi::page::attribute::{self, Attribute};
use taf_scsi::page::tape_alert::Flags;

/// Where it lies in the file.
pub(super) const MEMORY_AT: u64 = 2560;
/// Bytes that it takes there.
pub(super) const MEMORY_LENGTH: usize = 1536;
const HEAD: usize = 8;
/// Attribute in the vendors' range that holds [`History`].
const HISTORY: u16 = 0x1000;

/// The chip's content.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Memory {
    /// What hosts wrote, by identifier.
    pub host: BTreeMap<u16, Attribute>,
    /// What drives noted.
    pub history: History,
}

macro_rules! history {
    ($($(#[$doc:meta])* $field:ident,)*) => {
        /// What drives noted about a cartridge, over its life unless a name says *last*.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct History {
            $($(#[$doc])* pub $field: u64,)*
        }

        impl History {
            fn encode(self) -> Vec<u8> {
                [$(self.$field,)*].iter().flat_map(|number: &u64| number.to_be_bytes()).collect()
            }

            /// Numbers that are missing are zero; later versions may add some at the end.
            fn decode(bytes: &[u8]) -> Self {
                let mut numbers = bytes
                    .as_chunks::<8>().0
                    .iter()
                    .map(|field| u64::from_be_bytes(*field));
                Self { $($field: numbers.next().unwrap_or(0),)* }
            }
        }
    };
}

history! {
    /// Bytes written.
    written,
    /// Bytes read.
    read,
    /// Bytes written in the current or last load.
    last_written,
    /// Bytes read in the current or last load.
    last_read,
    /// Volume change reference.
    change_reference,
    /// Write errors that stayed.
    write_errors,
    /// Read errors that stayed.
    read_errors,
    /// Write errors that stayed, in the current or last load.
    last_write_errors,
    /// Read errors that stayed, in the current or last load.
    last_read_errors,
    /// Writes suspended.
    suspended_writes,
    /// `TapeAlert` flags of the current or last load, as [`Flags::bits`].
    alert_bits,
    /// How often the beginning of the medium passed the head.
    beginning_passes,
    /// How often the middle of the medium passed the head.
    middle_passes,
    /// How often a cleaning cartridge was used.
    cleanings,
    /// 1: an LTO-9 cartridge that was loaded and optimised once.
    initialised,
    /// Write retries.
    write_retries,
    /// Read retries.
    read_retries,
    /// Write retries in the current or last load.
    last_write_retries,
    /// Read retries in the current or last load.
    last_read_retries,
}

impl History {
    /// The `TapeAlert` flags of the current or last load.
    pub fn alerts(&self) -> Flags {
        Flags::from_bits(self.alert_bits)
    }

    /// Another number for the volume change reference: something was written.
    pub fn changed(&mut self) {
        self.change_reference = self.change_reference.wrapping_add(1) & 0xffff_ffff;
    }
}

impl Memory {
    /// Bytes for host attributes, each with its five bytes of header.
    pub const CAPACITY: usize = MEMORY_LENGTH - HEAD - 4 - 5 - 256;

    /// Bytes that host attributes take.
    pub fn used(&self) -> usize {
        self.host.values().map(|one| 5 + one.value.len()).sum()
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut list: Vec<Attribute> = self.host.values().cloned().collect();
        list.push(Attribute {
            id: HISTORY,
            read_only: true,
            format: attribute::format::BINARY,
            value: self.history.encode(),
        });
        let body = attribute::build(&list);
        let mut bytes = (body.len() as u32).to_le_bytes().to_vec();
        bytes.extend(crc32c::crc32c(&body).to_le_bytes());
        bytes.extend(body);
        bytes.resize(MEMORY_LENGTH, 0);
        bytes
    }

    /// Reads the area; the reason if it holds neither a memory nor nothing.
    pub(super) fn decode(bytes: &[u8; MEMORY_LENGTH]) -> Result<Self, &'static str> {
        let length = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
        if length == 0 {
            return Ok(Self::default());
        }
        let Some(body) = bytes[HEAD..].get(..length) else {
            return Err("its memory is longer than there is room for");
        };
        if bytes[4..8] != crc32c::crc32c(body).to_le_bytes() {
            return Err("its memory doesn't match its checksum");
        }
        let list = attribute::parse_whole(body).map_err(|_| "its memory is no list")?;
        let mut memory = Self::default();
        for one in list {
            if one.id == HISTORY {
                memory.history = History::decode(&one.value);
            } else {
                memory.host.insert(one.id, one);
            }
        }
        Ok(memory)
    }
}
