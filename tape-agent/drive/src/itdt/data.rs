//! Reading and writing blocks and filemarks through `st`.
//!
//! Behind a write `st` waits to write a filemark: at closing, at rewinding, at seeking. A mark of any count, 0 too, takes that
//! intent away, whether it succeeds or not ([`ItdtDrive::settle`]); it is given before everything that moves, and behind
//! everything that fails.

use nix::errno::Errno;
use taf_scsi::cdb::{self, opcode};
use taf_scsi::sense::{Key, Sense, code};

use super::drive::{ItdtDrive, is};
use super::tape::{Motion, Status};
use crate::Drive as _;
use crate::error::Error;
use crate::outcome::{Read, Sync, Written};

impl ItdtDrive {
    /// Brings everything onto the medium, if something was written, and takes the filemark back that `st` intends.
    pub(super) fn settle(&mut self) -> Result<(), Error> {
        if self.unmarked {
            self.mark(0, Sync::Synchronous)?;
        }
        Ok(())
    }

    pub(super) fn write(&mut self, block: &[u8]) -> Result<Written, Error> {
        let limits = self.block_limits()?;
        let too_large = Error::TransferSize {
            length: block.len(),
            min: limits.min,
            max: limits.max,
        };
        if block.len() < limits.min || block.len() > limits.max {
            return Err(too_large);
        }
        self.at_beginning = false;
        let mut outcome = self.on_tape(opcode::WRITE_6, |tape| tape.write(block))?;
        let mut warned = false;
        if matches!(&outcome, Err(error) if is(error, Errno::ENOSPC)) {
            // Beyond early warning every other write is refused before it is sent; the same again is sent.
            warned = true;
            outcome = self.on_tape(opcode::WRITE_6, |tape| tape.write(block))?;
        }
        match outcome {
            Ok(length) if length == block.len() => {
                self.unmarked = true;
                self.passed(1);
                // A reset that is seen only here is told by the next command: this one was taken before it.
                let near = self.status()?.is_ok_and(|status| status.end_of_medium);
                Ok(if warned || near {
                    Written::EarlyWarning
                } else {
                    Written::Ok
                })
            }
            // Not even a whole block fits.
            Ok(_) => Err(self.overflow()),
            Err(error) if is(&error, Errno::ENOSPC) => Err(self.overflow()),
            // The kernel can't make such a transfer, and sent nothing.
            Err(error)
                if [Errno::EINVAL, Errno::EBUSY, Errno::ENOMEM, Errno::EOVERFLOW]
                    .into_iter()
                    .any(|number| is(&error, number)) =>
            {
                Err(too_large)
            }
            Err(error) => {
                self.at = None;
                self.disarm()?;
                Err(match self.fault(&error)? {
                    // Which of the blocks since the last flush it is about, nobody knows. If the drive can tell where it stands,
                    // the caller finds out by reading.
                    Error::Medium(sense) if self.tell()?.is_some() => {
                        Error::Deferred(sense.deferred())
                    }
                    Error::Medium(_) => self.blind(),
                    other => other,
                })
            }
        }
    }

    fn overflow(&mut self) -> Error {
        self.unmarked = true;
        self.full = true;
        Error::VolumeOverflow
    }

    /// A write failed, and the drive can't say where.
    fn blind(&self) -> Error {
        super::lost(
            &self.identity().product,
            "a write failed, and the drive can't tell where the tape stands".to_owned(),
        )
    }

    /// Behind a failure: whatever it brings, no filemark is written by `st` alone.
    fn disarm(&mut self) -> Result<(), Error> {
        self.unmarked = false;
        let flushed = self.run(opcode::WRITE_FILEMARKS_6, Motion::Mark(0))?;
        tracing::debug!(
            ?flushed,
            "a write failed; what the drive still has, it was told to write"
        );
        Ok(())
    }

    pub(super) fn mark(&mut self, count: u32, sync: Sync) -> Result<Written, Error> {
        if count as usize > cdb::TRANSFER_LENGTH_MAX {
            return Err(Error::TransferSize {
                length: count as usize,
                min: 0,
                max: cdb::TRANSFER_LENGTH_MAX,
            });
        }
        self.at_beginning = false;
        let motion = match sync {
            Sync::Synchronous => Motion::Mark(count),
            Sync::Immediate => Motion::MarkAtOnce(count),
        };
        self.unmarked = false;
        match self.run(opcode::WRITE_FILEMARKS_6, motion)? {
            Ok(()) => {
                self.passed(u64::from(count));
                Ok(Written::Ok)
            }
            Err(error) => Err(match self.fault(&error)? {
                // Where a block found no room, a mark may find none either.
                Error::Medium(_) if self.full => Error::VolumeOverflow,
                // If no block was refused before, `st` leaves open whether it is that, so all is to be proved.
                other => other,
            }),
        }
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<Read, Error> {
        let limits = self.block_limits()?;
        let requested = buffer.len().min(limits.max);
        if requested == 0 {
            return Err(Error::TransferSize {
                length: 0,
                min: 1,
                max: limits.max,
            });
        }
        self.settle()?;
        let was_at_beginning = std::mem::take(&mut self.at_beginning);
        if self.at.is_none() && self.tells {
            self.tell()?;
        }
        let buffer = &mut buffer[..requested];
        let length = match self.on_tape(opcode::READ_6, |tape| tape.read(buffer))? {
            Ok(length) => length,
            Err(error) if is(&error, Errno::ENOMEM) => {
                return Err(self.longer(requested, limits.max)?);
            }
            Err(error) if is(&error, Errno::EIO) => return self.nothing(was_at_beginning),
            Err(error) => return Err(self.fault(&error)?),
        };
        let Ok(status) = self.status()? else {
            return Err(self.news());
        };
        match length {
            0 if status.end_of_data => Ok(Read::EndOfData),
            0 if status.filemark => {
                self.passed(1);
                Ok(Read::Filemark)
            }
            0 => self.nothing(was_at_beginning),
            _ if self.is_bogus(status)? => self.nothing(was_at_beginning),
            _ => {
                self.passed(1);
                Ok(Read::Block(length))
            }
        }
    }

    /// Whether what was read is no block: where a drive reports the medium's end beside the end of data, `st` gives out what was
    /// in its buffer. A block that was passed over moves the tape.
    fn is_bogus(&mut self, status: Status) -> Result<bool, Error> {
        if !(status.end_of_data || status.end_of_medium) {
            return Ok(false);
        }
        let before = self.at;
        let now = self.tell()?;
        self.at = before;
        Ok(match (before, now) {
            (Some(before), Some(now)) => now == before,
            _ => status.end_of_data,
        })
    }

    fn passed(&mut self, objects: u64) {
        self.full &= objects == 0;
        self.at = self.at.map(|at| at + objects);
    }

    /// A block that is longer than was asked for: it is read again to know how long.
    fn longer(&mut self, buffer: usize, max: usize) -> Result<Error, Error> {
        self.at = None;
        let mut length = buffer as u64 + 1;
        if self
            .run(opcode::SPACE_6, Motion::BackwardBlocks(1))?
            .is_ok()
        {
            let mut whole = vec![0; max];
            match self.on_tape(opcode::READ_6, |tape| tape.read(&mut whole))? {
                Ok(read) => length = read as u64,
                Err(error) if is(&error, Errno::ENOMEM) => length = max as u64 + 1,
                Err(error) => return self.fault(&error),
            }
        }
        Ok(Error::BlockTooLarge { length, buffer })
    }

    /// A read that failed: nothing is recorded here, or what is can't be read. `st` does not say which, but it does of a block that
    /// is passed over.
    fn nothing(&mut self, was_at_beginning: bool) -> Result<Read, Error> {
        self.at = None;
        let Ok(status) = self.status()? else {
            return Err(self.news());
        };
        if !status.online {
            return Err(Error::NotReady(Sense::new(Key::NotReady, code::NONE)));
        }
        let mut ends = status.end_of_data;
        if !ends {
            let passed = self.run(opcode::SPACE_6, Motion::ForwardBlocks(1))?;
            match self.status()? {
                Ok(status) => ends = passed.is_err() && status.end_of_data,
                Err(_) => return Err(self.news()),
            }
        }
        if !ends {
            return Err(Error::Medium(Sense::new(Key::MediumError, code::NONE)));
        }
        if !was_at_beginning {
            return Ok(Read::EndOfData);
        }
        // A tape whose end of data is lost looks the same up to here, and is anything but blank.
        let found = self.run(opcode::SPACE_6, Motion::EndOfData)?.is_ok();
        match self.tell()? {
            Some(0) if found => Ok(Read::Blank),
            None if found && !self.tells => Ok(Read::Blank),
            _ => Err(Error::BlankCheck(Sense::new(Key::BlankCheck, code::NONE))),
        }
    }
}
