//! Logical block protection: mode page 0Ah, subpage F0h (SSC-4, control data protection). It is asked for and never switched on:
//! see docs/design.md.

use taf_scsi::cdb::{self, PageControl};
use taf_scsi::page::mode::{CONTROL, Mode};

use super::ScsiDrive;
use crate::error::Error;

const SUBPAGE: u8 = 0xf0;
/// Where the page has its method (0: none), and the bits for writing and reading.
const METHOD: usize = 4;
const IN_USE: (usize, u8) = (6, 0xc0);

impl ScsiDrive {
    pub(super) fn asks_block_protection(&mut self) -> Result<Option<bool>, Error> {
        let cdb = cdb::mode_sense_6(PageControl::Current, CONTROL, SUBPAGE, 255);
        let mode = match self.device.fetch(&cdb, 255) {
            Ok(bytes) => Mode::parse_6(&bytes).ok(),
            Err(Error::IllegalRequest(_)) => None,
            Err(error) => return Err(error),
        };
        let page = mode
            .as_ref()
            .and_then(|mode| mode.page(CONTROL, SUBPAGE))
            .filter(|page| page.len() > IN_USE.0);
        Ok(page.map(|page| page[METHOD] != 0 && page[IN_USE.0] & IN_USE.1 != 0))
    }
}
