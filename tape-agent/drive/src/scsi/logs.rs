//! Log pages, and the memory in the cartridge.

use taf_scsi::cdb;
use taf_scsi::page::attribute::{self, Attribute};
use taf_scsi::page::log::{self, Parameter};

use super::ScsiDrive;
use crate::error::Error;

/// Bytes that a log page is asked for: more than any drive's largest.
const LOG: u16 = 16 << 10;
/// Bytes that the attributes are asked for; a cartridge's memory holds 16 KiB at most.
const ATTRIBUTES: u32 = 32 << 10;

impl ScsiDrive {
    pub(super) fn fetch_log(&mut self, page: u8) -> Result<Option<Vec<Parameter>>, Error> {
        let outcome = self
            .device
            .fetch(&cdb::log_sense(page, 0, LOG), usize::from(LOG));
        match outcome {
            // Some drives answer another page, or none at all, for one that they do not have.
            Ok(bytes) => Ok(log::parse(page, &bytes).ok()),
            Err(Error::IllegalRequest(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn fetch_attributes(&mut self) -> Result<Option<Vec<Attribute>>, Error> {
        let outcome = self
            .device
            .fetch(&cdb::read_attribute(0, ATTRIBUTES), ATTRIBUTES as usize);
        match outcome {
            Ok(bytes) => Ok(attribute::parse(&bytes).ok()),
            Err(Error::Medium(sense)) => Err(Error::CartridgeMemory(sense)),
            // A drive that can't read any must not condemn one cartridge after another.
            Err(Error::IllegalRequest(_) | Error::Hardware(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
