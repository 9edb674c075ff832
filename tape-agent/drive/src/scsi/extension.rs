//! Mode page 10h, subpage 01h (SSC-5, device configuration extension): programmable early warning and append-only mode.

use taf_scsi::cdb::{self, PageControl};
use taf_scsi::page::mode::Mode;
use taf_scsi::page::mode::tape::{EXTENSION, Extension};
use taf_scsi::transport::Data;

use super::ScsiDrive;
use crate::error::Error;

/// PS of a page's first byte, which is reserved in MODE SELECT.
const SAVEABLE: u8 = 0x80;

impl ScsiDrive {
    pub(super) fn program_early_warning(&mut self, megabytes: u16) -> Result<bool, Error> {
        let now = self.change_extension(|page| page.early_warning_megabytes = megabytes)?;
        // A drive may round it, or take it and forget it.
        Ok(now.is_some_and(|page| page.early_warning_megabytes != 0))
    }

    pub(super) fn program_append_only(&mut self, on: bool) -> Result<bool, Error> {
        let now = self.change_extension(|page| page.append_only = on)?;
        Ok(now.is_some_and(|page| page.append_only == on))
    }

    /// Changes the page, unless it is so already, and says how it is afterwards. `None` if the drive has no such page or does
    /// not let it be changed.
    fn change_extension(
        &mut self,
        change: impl FnOnce(&mut Extension),
    ) -> Result<Option<Extension>, Error> {
        let Some((mode, now)) = self.extension()? else {
            return Ok(None);
        };
        let mut wanted = now;
        change(&mut wanted);
        if wanted == now {
            return Ok(Some(now));
        }
        let Some(page) = mode.page(EXTENSION.0, EXTENSION.1) else {
            return Ok(None);
        };
        let mut page = page.to_vec();
        page[0] &= !SAVEABLE;
        wanted.put(&mut page);
        let select = Mode {
            pages: page,
            ..mode.clone()
        };
        let list = select.build_select_6();
        let selected = self
            .device
            .run(&cdb::mode_select_6(list.len() as u8), Data::Out(&list));
        match selected {
            Ok(_) => Ok(self.extension()?.map(|(_, page)| page)),
            Err(Error::IllegalRequest(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn extension(&mut self) -> Result<Option<(Mode, Extension)>, Error> {
        let cdb = cdb::mode_sense_6(PageControl::Current, EXTENSION.0, EXTENSION.1, 255);
        let mode = match self.device.fetch(&cdb, 255) {
            Ok(bytes) => Mode::parse_6(&bytes).ok(),
            Err(Error::IllegalRequest(_)) => None,
            Err(error) => return Err(error),
        };
        Ok(mode.and_then(|mode| {
            let page = mode.page(EXTENSION.0, EXTENSION.1)?;
            let page = Extension::parse(page).ok()?;
            Some((mode, page))
        }))
    }
}
