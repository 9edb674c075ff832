//! Reading and writing blocks and filemarks.

use taf_scsi::cdb;
use taf_scsi::sense::Sense;
use taf_scsi::transport::Data;

use super::ScsiDrive;
use crate::Drive;
use crate::device::{Done, end_of_data};
use crate::error::Error;
use crate::outcome::{Read, Sync, Written};

impl ScsiDrive {
    pub(super) fn write(&mut self, block: &[u8]) -> Result<Written, Error> {
        let limits = self.block_limits()?;
        // A write of no bytes would be no block at all, and the drive would say GOOD to it.
        if block.len() < limits.min || block.len() > limits.max {
            return Err(Error::TransferSize {
                length: block.len(),
                min: limits.min,
                max: limits.max,
            });
        }
        self.device.at_beginning = false;
        let done = self
            .device
            .run(&cdb::write_6(block.len() as u32), Data::Out(block))?;
        written(done.sense)
    }

    pub(super) fn mark(&mut self, count: u32, sync: Sync) -> Result<Written, Error> {
        if count as usize > cdb::TRANSFER_LENGTH_MAX {
            return Err(Error::TransferSize {
                length: count as usize,
                min: 0,
                max: cdb::TRANSFER_LENGTH_MAX,
            });
        }
        // A flush writes nothing, but it may have moved the tape to bring out what was buffered.
        self.device.at_beginning = false;
        let cdb = cdb::write_filemarks_6(count, sync == Sync::Immediate);
        written(self.device.run(&cdb, Data::None)?.sense)
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<Read, Error> {
        let limit = self
            .device
            .transport
            .max_transfer()
            .min(cdb::TRANSFER_LENGTH_MAX);
        let requested = buffer.len().min(limit);
        if requested == 0 {
            return Err(Error::TransferSize {
                length: 0,
                min: 1,
                max: limit,
            });
        }
        let was_at_beginning = std::mem::take(&mut self.device.at_beginning);
        let nothing = if was_at_beginning {
            Read::Blank
        } else {
            Read::EndOfData
        };
        // SILI stays off: the drive then says how long a block is that has another length.
        let cdb = cdb::read_6(requested as u32, false);
        let outcome = self.device.run(&cdb, Data::In(&mut buffer[..requested]));
        let done = match outcome {
            Ok(done) => done,
            Err(Error::BlankCheck(sense)) if end_of_data(&sense) => return Ok(nothing),
            Err(error) => return Err(error),
        };
        let read = match done.sense {
            Some(sense) if sense.filemark => return Ok(Read::Filemark),
            Some(sense) if sense.ili => Read::Block(block_length(&sense, requested)?),
            Some(sense) if end_of_data(&sense) => return Ok(nothing),
            None | Some(_) => Read::Block(requested),
        };
        self.cross_check(read, done);
        Ok(read)
    }

    /// The transport's count is only compared, since adapters and targets get it wrong where sense is right.
    fn cross_check(&self, read: Read, done: Done) {
        if let Read::Block(length) = read
            && done.transferred != length
        {
            tracing::debug!(
                device = self.device.transport.name(),
                length,
                transferred = done.transferred,
                "the transport counts other bytes than the drive; the drive is believed"
            );
        }
    }
}

/// The length of a block that isn't the one asked for.
fn block_length(sense: &Sense, requested: usize) -> Result<usize, Error> {
    let Some(information) = sense.information else {
        // Without it the block's length is anybody's guess.
        return Err(Error::Other(*sense));
    };
    match usize::try_from(information) {
        Ok(missing) if missing <= requested => Ok(requested - missing),
        Ok(_) => Err(Error::Other(*sense)),
        Err(_) => Err(Error::BlockTooLarge {
            length: requested as u64 + information.unsigned_abs(),
            buffer: requested,
        }),
    }
}

/// What a write's sense means that is no error.
fn written(sense: Option<Sense>) -> Result<Written, Error> {
    match sense {
        // Near the end, and something of this command was not taken: the same as overflow.
        Some(sense) if sense.eom && sense.information.is_some_and(|left| left > 0) => {
            Err(Error::VolumeOverflow)
        }
        Some(sense) if sense.eom || programmable(&sense) => Ok(Written::EarlyWarning),
        _ => Ok(Written::Ok),
    }
}

fn programmable(sense: &Sense) -> bool {
    sense.code() == taf_scsi::sense::code::PROGRAMMABLE_EARLY_WARNING
}
