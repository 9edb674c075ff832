//! Finding places through `st`.

use nix::errno::Errno;
use taf_scsi::cdb::opcode;
use taf_scsi::sense::{Key, Sense, code};

use super::drive::{ItdtDrive, is};
use super::tape::Motion;
use crate::error::Error;
use crate::outcome::Spaced;

/// The farthest that one command spaces.
const SPACE_MAX: u64 = 0x7f_ffff;

impl ItdtDrive {
    /// Whatever comes of it, the tape is somewhere else.
    fn go(&mut self, opcode: u8, motion: Motion) -> Result<std::io::Result<()>, Error> {
        self.settle()?;
        self.at_beginning = false;
        self.full = false;
        self.at = None;
        self.run(opcode, motion)
    }

    pub(super) fn go_to_beginning(&mut self) -> Result<(), Error> {
        match self.go(opcode::REWIND, Motion::Rewind)? {
            Ok(()) => {
                self.at = Some(0);
                self.at_beginning = true;
                self.counts = true;
                Ok(())
            }
            Err(error) => Err(self.fault(&error)?),
        }
    }

    pub(super) fn seek(&mut self, block: u64) -> Result<(), Error> {
        if block == 0 {
            return self.go_to_beginning();
        }
        let Ok(object) = u32::try_from(block) else {
            return Err(Error::Unsupported(
                "the kernel's st finds no object behind the 4,294,967,295th",
            ));
        };
        if self.spaces {
            return self.seek_by_spacing(block);
        }
        match self.go(opcode::LOCATE_10, Motion::Seek(object))? {
            Ok(()) => match self.tell()? {
                Some(there) if there != block => Err(Error::PositionUnknown),
                Some(_) | None => Ok(()),
            },
            Err(error) if !is(&error, Errno::EIO) => Err(self.fault(&error)?),
            Err(error) => {
                let fault = self.fault(&error)?;
                if !matches!(fault, Error::Medium(_)) {
                    return Err(fault);
                }
                if self.tell()?.is_none() {
                    // A drive without READ POSITION has no LOCATE either.
                    self.spaces = true;
                    return self.seek_by_spacing(block);
                }
                // There may be no such object, or it can't be reached: the end of data tells.
                self.seek_end()?;
                match self.tell()? {
                    Some(end) if block > end => Err(ended()),
                    _ => Err(fault),
                }
            }
        }
    }

    /// From the beginning over one object after another: `st` says of each whether it was a filemark.
    fn seek_by_spacing(&mut self, block: u64) -> Result<(), Error> {
        self.go_to_beginning()?;
        for _ in 0..block {
            match self.go(opcode::SPACE_6, Motion::ForwardBlocks(1))? {
                Ok(()) => {}
                Err(error) => match self.status()? {
                    Ok(status) if status.end_of_data => return Err(ended()),
                    Ok(status) if status.filemark => {}
                    _ => return Err(self.fault(&error)?),
                },
            }
        }
        Ok(())
    }

    pub(super) fn seek_end(&mut self) -> Result<(), Error> {
        match self.go(opcode::SPACE_6, Motion::EndOfData)? {
            Ok(()) => Ok(()),
            Err(error) => Err(self.fault(&error)?),
        }
    }

    pub(super) fn space_marks(&mut self, count: i64) -> Result<Spaced, Error> {
        let mut left = count.unsigned_abs();
        while left > 0 {
            let step = left.min(SPACE_MAX);
            left -= step;
            let motion = if count > 0 {
                Motion::ForwardFiles(step as u32)
            } else {
                Motion::BackwardFiles(step as u32)
            };
            let Err(error) = self.go(opcode::SPACE_6, motion)? else {
                continue;
            };
            let fault = self.fault(&error)?;
            if !matches!(fault, Error::Medium(_)) {
                return Err(fault);
            }
            let status = self.status()?.unwrap_or_default();
            return match self.tell()? {
                _ if count > 0 && status.end_of_data => Ok(Spaced::EndOfData),
                Some(0) if count < 0 => Ok(Spaced::Beginning),
                None if count < 0 && status.beginning => Ok(Spaced::Beginning),
                _ => Err(fault),
            };
        }
        Ok(Spaced::All)
    }
}

fn ended() -> Error {
    Error::BlankCheck(Sense::new(Key::BlankCheck, code::END_OF_DATA_DETECTED))
}
