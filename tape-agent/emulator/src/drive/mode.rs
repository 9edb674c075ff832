//! MODE SENSE and MODE SELECT: header, block descriptor, compression, configuration, medium configuration.

use taf_scsi::cdb::opcode;
use taf_scsi::page::mode::{
    ALL_PAGES, BlockDescriptor, DATA_COMPRESSION, DEVICE_CONFIGURATION, MEDIUM_CONFIGURATION,
    Mode as Parameters,
};
use taf_scsi::sense::code;

use super::Drive;
use crate::cartridge::Cartridge;
use crate::wire::{Cdb, Outcome, cut, illegal, invalid_field, invalid_parameter};

/// What an initiator can set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mode {
    /// Blocks are answered when they are in the buffer.
    pub buffered: bool,
    /// Kept and reported; data is stored as it comes.
    pub compression: bool,
}

impl Default for Mode {
    fn default() -> Self {
        Self {
            buffered: true,
            compression: true,
        }
    }
}

/// Values to report: in use, or a mask of what may be set.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Values {
    Of(Mode),
    Changeable,
}

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
        if subpage != 0 && !(page == ALL_PAGES && subpage == 0xff) {
            return Err(invalid_field());
        }
        let pages: &[u8] = match page {
            0 => &[],
            ALL_PAGES => &[DATA_COMPRESSION, DEVICE_CONFIGURATION, MEDIUM_CONFIGURATION],
            DATA_COMPRESSION => &[DATA_COMPRESSION],
            DEVICE_CONFIGURATION => &[DEVICE_CONFIGURATION],
            MEDIUM_CONFIGURATION => &[MEDIUM_CONFIGURATION],
            _ => return Err(invalid_field()),
        };
        let threaded = self.cartridge.as_ref().filter(|_| self.threaded);
        let descriptor = BlockDescriptor {
            density: self.density(),
            blocks: 0,
            block_length: 0,
        };
        let answer = Parameters {
            medium_type: threaded
                .and_then(|cartridge| crate::Generation::of_density(cartridge.meta().density))
                .map_or(0, crate::Generation::medium_type),
            write_protected: threaded.is_some_and(Cartridge::write_protected),
            buffered_mode: u8::from(self.mode.buffered),
            speed: 0,
            block: (!cdb.bit(1, 3)).then_some(descriptor),
            pages: pages
                .iter()
                .flat_map(|page| mode_page(*page, values))
                .collect(),
        };
        Ok(if long {
            cut(answer.build_10(), cdb.field::<2>(7))
        } else {
            cut(answer.build_6(), cdb.field::<1>(4))
        })
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
        let too_short = || illegal(code::INVALID_PARAMETER_LENGTH);
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
        while let [page, more, ..] = *rest {
            let length = 2 + usize::from(more);
            let body = rest.get(2..length).ok_or_else(too_short)?;
            match (page & 0x7f, body) {
                (DATA_COMPRESSION, [flags, ..]) if body.len() == 14 => {
                    mode.compression = flags & 0x80 != 0;
                }
                (DEVICE_CONFIGURATION, _) if body.len() == 14 => {}
                _ => return Err(invalid_parameter()),
            }
            rest = &rest[length..];
        }
        if !rest.is_empty() {
            return Err(too_short());
        }
        if !mode.buffered {
            self.flush()?;
        }
        self.mode = mode;
        Ok(Vec::new())
    }

    fn density(&self) -> u8 {
        match &self.cartridge {
            Some(cartridge) if self.threaded => cartridge.meta().density,
            _ => 0,
        }
    }
}

fn mode_page(page: u8, values: Values) -> Vec<u8> {
    let length = if page == MEDIUM_CONFIGURATION { 30 } else { 14 };
    let mut bytes = vec![0; 2 + length];
    bytes[0] = page;
    bytes[1] = length as u8;
    match (page, values) {
        (DATA_COMPRESSION, Values::Of(mode)) => {
            bytes[2] = (u8::from(mode.compression) << 7) | 0x40; // DCE, DCC
            bytes[3] = 0x80; // DDE
            bytes[7] = u8::from(mode.compression); // the default algorithm
        }
        (DATA_COMPRESSION, Values::Changeable) => bytes[2] = 0x80,
        (DEVICE_CONFIGURATION, Values::Of(_)) => {
            bytes[8] = 0x40; // BIS: block identifiers are supported
            bytes[10] = 0x10; // EEG: end of data is written where writing ends
        }
        _ => {}
    }
    bytes
}
