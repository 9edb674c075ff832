//! Carrying a command to a logical unit and its outcome back.

use std::time::Duration;

pub mod in_process;
mod ioctl;
pub mod iscsi;
mod open;
pub mod sg;
pub mod st;
pub mod unix;
mod wire;

pub use open::{Name, open, open_as};

/// The largest data phase in bytes that any of our paths carries; a length beyond it, in either direction, is
/// refused before anything is allocated.
pub const TRANSFER_MAX: usize = 16 << 20;

/// The data phase of one command.
#[derive(Debug)]
pub enum Data<'a> {
    /// No data.
    None,
    /// From the device into this buffer, at most its length.
    In(&'a mut [u8]),
    /// To the device.
    Out(&'a [u8]),
}

impl Data<'_> {
    /// The same, for a command that is given once more.
    pub fn again(&mut self) -> Data<'_> {
        match self {
            Data::None => Data::None,
            Data::In(buffer) => Data::In(buffer),
            Data::Out(bytes) => Data::Out(bytes),
        }
    }

    /// Refuses what is larger than a message to a device holds: data above [`TRANSFER_MAX`], or a command above 16 bytes.
    fn fits(&self, device: &str, cdb: &[u8]) -> Result<(), Error> {
        let length = match self {
            Data::None => 0,
            Data::In(buffer) => buffer.len(),
            Data::Out(bytes) => bytes.len(),
        };
        if length > TRANSFER_MAX || cdb.len() > 16 {
            return Err(Error::TooLarge {
                device: device.to_owned(),
                length: length.max(cdb.len()),
                largest: TRANSFER_MAX,
            });
        }
        Ok(())
    }
}

/// A command that the device finished, in whatever way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// SAM status byte.
    pub status: u8,
    /// Raw sense data, empty if none came.
    pub sense: Vec<u8>,
    /// Bytes moved by the data phase according to the transport. Some adapters and targets are wrong about
    /// it: trust lengths in the sense data first.
    pub transferred: usize,
}

/// The outcome is unknown or the command was never sent; nothing may be retried below the tape layer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer in time. The command may still be running in the device.
    #[error(
        "no answer from {device} within {seconds} s; its state is unknown until it answers again"
    )]
    Timeout {
        /// The device's name.
        device: String,
        /// The limit that passed.
        seconds: u64,
    },
    /// The path to the device broke while or before the command ran.
    #[error("lost the path to {device}: {reason}")]
    Lost {
        /// The device's name.
        device: String,
        /// What the path said.
        reason: String,
    },
    /// The path can't carry a transfer of this size; the command was not sent.
    #[error("{device} can't carry {length} bytes in one transfer (largest {largest})")]
    TooLarge {
        /// The device's name.
        device: String,
        /// What was asked.
        length: usize,
        /// What the path carries.
        largest: usize,
    },
    /// The path refused the command for what it is; it was not sent.
    #[error("{device}: the command was not sent: {reason}")]
    Refused {
        /// The device's name.
        device: String,
        /// What the path said.
        reason: String,
    },
}

/// A path to one logical unit.
pub trait Transport: Send {
    /// Runs one command. `Ok` is any status the device gave, CHECK CONDITION included.
    fn execute(
        &mut self,
        cdb: &[u8],
        data: Data<'_>,
        timeout: Duration,
    ) -> Result<Completion, Error>;

    /// Largest data phase in bytes that this path carries, as far as is known.
    fn max_transfer(&self) -> usize;

    /// Finds out what the path carries, where its word can't be taken for it, and says it. Moves no medium and
    /// takes no unit attention.
    fn measure(&mut self) -> Result<usize, Error> {
        Ok(self.max_transfer())
    }

    /// The device's name, for messages.
    fn name(&self) -> &str;
}
