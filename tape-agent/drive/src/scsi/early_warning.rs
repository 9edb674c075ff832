//! Programmable early warning: mode page 10h, subpage 01h (SSC-5, device configuration extension).

use taf_scsi::cdb::{self, PageControl};
use taf_scsi::page::mode::Mode;
use taf_scsi::page::mode::tape::EXTENSION;
use taf_scsi::transport::Data;

use super::ScsiDrive;
use crate::error::Error;

/// Where the page has PEWS: megabytes between programmable early warning and early warning, big endian.
const PEWS: std::ops::Range<usize> = 6..8;
/// PS of a page's first byte, which is reserved in MODE SELECT.
const SAVEABLE: u8 = 0x80;

impl ScsiDrive {
    pub(super) fn program_early_warning(&mut self, megabytes: u16) -> Result<bool, Error> {
        let Some(mode) = self.extension()? else {
            return Ok(false);
        };
        let Some(page) = mode.page(EXTENSION.0, EXTENSION.1) else {
            return Ok(false);
        };
        let wanted = megabytes.to_be_bytes();
        match page.get(PEWS) {
            Some(now) if *now == wanted => return Ok(true),
            Some(_) => {}
            None => return Ok(false),
        }
        let mut page = page.to_vec();
        page[0] &= !SAVEABLE;
        page[PEWS].copy_from_slice(&wanted);
        let select = Mode {
            pages: page,
            ..mode.clone()
        };
        let list = select.build_select_6();
        let selected = self
            .device
            .run(&cdb::mode_select_6(list.len() as u8), Data::Out(&list));
        match selected {
            Ok(_) => {}
            Err(Error::IllegalRequest(_)) => return Ok(false),
            Err(error) => return Err(error),
        }
        // A drive may round it, or take it and forget it.
        let taken = self.extension()?.is_some_and(|mode| {
            mode.page(EXTENSION.0, EXTENSION.1)
                .and_then(|page| page.get(PEWS))
                .is_some_and(|now| now != [0, 0])
        });
        Ok(taken)
    }

    fn extension(&mut self) -> Result<Option<Mode>, Error> {
        let cdb = cdb::mode_sense_6(PageControl::Current, EXTENSION.0, EXTENSION.1, 255);
        match self.device.fetch(&cdb, 255) {
            Ok(bytes) => Ok(Mode::parse_6(&bytes).ok()),
            Err(Error::IllegalRequest(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
