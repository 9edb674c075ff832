//! MODE SENSE and MODE SELECT: header, block descriptor and the pages that the drive has.

use taf_scsi::cdb::opcode;
use taf_scsi::page::mode::tape::{EXTENSION, Extension, Partitions};
use taf_scsi::page::mode::{
    ALL_PAGES, BlockDescriptor, CONTROL, DATA_COMPRESSION, DEVICE_CONFIGURATION,
    MEDIUM_CONFIGURATION, MEDIUM_PARTITION, Mode as Parameters,
};
use taf_scsi::sense::code;

use super::Drive;
use crate::cartridge::{Cartridge, Kind};
use crate::generation;
use crate::wire::{Cdb, Check, Outcome, cut, illegal, invalid_field, invalid_parameter};

/// What an initiator can set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // independent settings
pub(super) struct Mode {
    /// Blocks are answered when they are in the buffer.
    pub buffered: bool,
    /// Kept and reported; data is stored as it comes.
    pub compression: bool,
    /// Sense comes in descriptor format (`D_SENSE`).
    pub descriptors: bool,
    /// Append-only mode.
    pub append_only: bool,
    /// Programmable early warning, in MB before early warning.
    pub early_warning_megabytes: u16,
    /// What the next FORMAT MEDIUM with partitions makes of the second one, in bytes; 0: there is none.
    pub second_partition: Option<u64>,
}

impl Default for Mode {
    fn default() -> Self {
        Self {
            buffered: true,
            compression: true,
            descriptors: false,
            append_only: false,
            early_warning_megabytes: 0,
            second_partition: None,
        }
    }
}

/// Values to report: in use, or a mask of what may be set.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Values {
    Of(Mode),
    Changeable,
}

/// The pages, each with its subpage, in ascending order.
const PAGES: [(u8, u8); 6] = [
    (CONTROL, 0),
    (DATA_COMPRESSION, 0),
    (DEVICE_CONFIGURATION, 0),
    EXTENSION,
    (MEDIUM_PARTITION, 0),
    (MEDIUM_CONFIGURATION, 0),
];
const ALL_SUBPAGES: u8 = 0xff;

impl Drive {
    pub(super) fn mode_sense(&mut self, cdb: &Cdb) -> Outcome {
        let long = cdb.byte(0) == opcode::MODE_SENSE_10;
        let values = match cdb.byte(2) >> 6 {
            0 => Values::Of(self.mode),
            1 => Values::Changeable,
            2 => Values::Of(Mode::default()),
            _ => return Err(illegal((0x39, 0x00))), // saving is not supported
        };
        let (page, subpage) = (cdb.byte(2) & 0x3f, cdb.byte(3));
        let asked: Vec<(u8, u8)> = PAGES
            .into_iter()
            .filter(|(own, sub)| {
                (page == ALL_PAGES || page == *own) && (subpage == ALL_SUBPAGES || subpage == *sub)
            })
            .collect();
        if asked.is_empty() && (page, subpage) != (0, 0) {
            return Err(invalid_field());
        }
        let threaded = self.cartridge.as_ref().filter(|_| self.threaded);
        let descriptor = BlockDescriptor {
            density: self.density(),
            blocks: 0,
            block_length: 0,
        };
        let answer = Parameters {
            medium_type: threaded.map_or(0, |cartridge| {
                generation::medium_type(cartridge.meta().density, cartridge.meta().kind)
            }),
            write_protected: threaded.is_some_and(Cartridge::write_protected),
            buffered_mode: u8::from(self.mode.buffered),
            speed: 0,
            block: (!cdb.bit(1, 3)).then_some(descriptor),
            pages: asked
                .into_iter()
                .flat_map(|page| self.mode_page(page, values))
                .collect(),
        };
        Ok(if long {
            cut(answer.build_10(), cdb.field::<2>(7))
        } else {
            cut(answer.build_6(), cdb.field::<1>(4))
        })
    }

    fn mode_page(&self, (page, subpage): (u8, u8), values: Values) -> Vec<u8> {
        let plain = |length: u8| {
            let mut bytes = vec![0; 2 + usize::from(length)];
            bytes[0] = page;
            bytes[1] = length;
            bytes
        };
        match (page, values) {
            (CONTROL, _) => {
                let mut bytes = plain(10);
                let set = match values {
                    Values::Of(mode) => mode.descriptors,
                    Values::Changeable => true,
                };
                bytes[2] = u8::from(set) << 2;
                bytes
            }
            (DATA_COMPRESSION, Values::Of(mode)) => {
                let mut bytes = plain(14);
                bytes[2] = (u8::from(mode.compression) << 7) | 0x40; // DCE, DCC
                bytes[3] = 0x80; // DDE
                bytes[7] = u8::from(mode.compression); // the default algorithm
                bytes
            }
            (DATA_COMPRESSION, Values::Changeable) => {
                let mut bytes = plain(14);
                bytes[2] = 0x80;
                bytes
            }
            (DEVICE_CONFIGURATION, _) if subpage == EXTENSION.1 => match values {
                Values::Of(mode) => Extension {
                    append_only: mode.append_only,
                    short_erase: 2,
                    early_warning_megabytes: mode.early_warning_megabytes,
                },
                Values::Changeable => Extension {
                    append_only: true,
                    short_erase: 0,
                    early_warning_megabytes: u16::MAX,
                },
            }
            .build(),
            (DEVICE_CONFIGURATION, Values::Of(_)) => {
                let mut bytes = plain(14);
                bytes[3] = self.partition; // active partition
                bytes[8] = 0x40; // LOIS: logical objects have identifiers
                bytes[10] = 0x10; // EEG: end of data is written where writing ends
                bytes
            }
            (MEDIUM_PARTITION, Values::Of(_)) => self.partitions().build(),
            (MEDIUM_CONFIGURATION, Values::Of(_)) => {
                let mut bytes = plain(30);
                bytes[2] = u8::from(self.write_once());
                bytes[5] = 0x02; // any filemarks at end of data may be overwritten but the first
                bytes
            }
            (MEDIUM_CONFIGURATION, _) => plain(30),
            (MEDIUM_PARTITION, _) => plain(10),
            _ => plain(14),
        }
    }

    /// What the cartridge says of its partitions, not what the next FORMAT MEDIUM would make.
    fn partitions(&self) -> Partitions {
        let threaded = self.cartridge.as_ref().filter(|_| self.threaded);
        let capacity = threaded.map_or(0, |one| one.meta().capacity);
        let second = threaded.map_or(0, |one| one.meta().second_partition);
        // The largest unit in which the partitions can be told apart: GB on real cartridges, MB on small ones.
        let unit = if capacity < 10_000_000_000 { 6 } else { 9 };
        let size = |bytes: u64| u16::try_from(bytes / 10_u64.pow(unit)).unwrap_or(u16::MAX);
        let mut sizes = vec![size(capacity - second.min(capacity))];
        if second > 0 {
            sizes.push(size(second));
        }
        Partitions {
            additional_possible: if self.options.generation.number() > 5 {
                3
            } else {
                1
            },
            additional: u8::from(second > 0),
            chosen: true,
            unit: unit as u8,
            sizes,
        }
    }

    pub(super) fn mode_select(&mut self, cdb: &Cdb, data_out: &[u8]) -> Outcome {
        let long = cdb.byte(0) == opcode::MODE_SELECT_10;
        if cdb.bit(1, 0) {
            return Err(invalid_field()); // saving pages
        }
        let length = if long {
            cdb.field::<2>(7)
        } else {
            cdb.field::<1>(4)
        };
        if length == 0 {
            return Ok(Vec::new());
        }
        let list = data_out.get(..length as usize).ok_or_else(too_short)?;
        let wanted = if long {
            Parameters::parse_select_10(list)
        } else {
            Parameters::parse_select_6(list)
        }
        .map_err(|_| too_short())?;
        let mut mode = self.mode;
        mode.buffered = match wanted.buffered_mode {
            0 => false,
            1 => true,
            _ => return Err(invalid_parameter()),
        };
        // Density 0 and 7Fh mean: as it is. Fixed blocks are not for LTO as TAF uses it.
        if let Some(block) = wanted.block
            && (block.block_length != 0 || ![0, 0x7f, self.density()].contains(&block.density))
        {
            return Err(invalid_parameter());
        }
        let mut rest = wanted.pages.as_slice();
        while !rest.is_empty() {
            let (code, subpage, header, body) = match *rest {
                [code, sub, high, low, ..] if code & 0x40 != 0 => {
                    (code, sub, 4, usize::from(u16::from_be_bytes([high, low])))
                }
                [code, more, ..] if code & 0x40 == 0 => (code, 0, 2, usize::from(more)),
                _ => return Err(too_short()),
            };
            let page = rest.get(..header + body).ok_or_else(too_short)?;
            self.select_page(&mut mode, (code & 0x3f, subpage), page)?;
            rest = &rest[header + body..];
        }
        if !mode.buffered {
            self.flush()?;
        }
        self.mode = mode;
        self.warned_early = false;
        Ok(Vec::new())
    }

    fn select_page(&self, mode: &mut Mode, name: (u8, u8), page: &[u8]) -> Result<(), Check> {
        match (name, page.len()) {
            ((CONTROL, 0), 12) => mode.descriptors = page[2] & 0x04 != 0,
            ((DATA_COMPRESSION, 0), 16) => mode.compression = page[2] & 0x80 != 0,
            ((DEVICE_CONFIGURATION, 0), 16) => {}
            (EXTENSION, 32) => {
                let wanted = Extension::parse(page).map_err(|_| invalid_parameter())?;
                if page[5] >> 4 > 1 {
                    return Err(invalid_parameter());
                }
                // Once append-only, a cartridge stays so until it is unloaded.
                if mode.append_only && !wanted.append_only && self.threaded {
                    return Err(invalid_parameter());
                }
                mode.append_only = wanted.append_only;
                mode.early_warning_megabytes = wanted.early_warning_megabytes;
            }
            ((MEDIUM_PARTITION, 0), 8..) => {
                let wanted = Partitions::parse(page).map_err(|_| invalid_parameter())?;
                mode.second_partition = Some(self.second_partition(&wanted)?);
            }
            _ => return Err(invalid_parameter()),
        }
        Ok(())
    }

    /// Bytes of the second partition that is asked for; without a size it takes half.
    fn second_partition(&self, wanted: &Partitions) -> Result<u64, Check> {
        let capacity = self.ready()?.meta().capacity;
        if wanted.additional == 0 {
            return Ok(0);
        }
        if wanted.additional > 1 || self.write_once() {
            return Err(invalid_parameter());
        }
        let bytes = |size: u16| u64::from(size).saturating_mul(10_u64.pow(wanted.unit.into()));
        let second = match wanted.sizes[..] {
            [_, second, ..] if second != u16::MAX => bytes(second),
            [first, ..] if first != u16::MAX => capacity.saturating_sub(bytes(first)),
            _ => capacity / 2,
        };
        if second == 0 || second >= capacity {
            return Err(invalid_parameter());
        }
        Ok(second)
    }

    pub(super) fn write_once(&self) -> bool {
        self.cartridge
            .as_ref()
            .is_some_and(|cartridge| self.threaded && cartridge.meta().kind == Kind::WriteOnce)
    }

    pub(super) fn density(&self) -> u8 {
        match &self.cartridge {
            Some(cartridge) if self.threaded => cartridge.meta().density,
            _ => 0,
        }
    }
}

fn too_short() -> Check {
    illegal(code::INVALID_PARAMETER_LENGTH)
}
