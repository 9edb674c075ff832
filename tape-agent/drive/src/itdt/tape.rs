//! The kernel's side of a drive: what the driver asks of `st`. A trait, so that tests can be a kernel that fails where they want.

use std::io;

pub(super) use taf_scsi::transport::st::{Motion, Status};

use taf_scsi::transport::st::St;

use crate::outcome::BlockLimits;

/// See [`St`].
pub(super) trait Tape: Send {
    fn run(&self, motion: Motion) -> io::Result<()>;
    fn status(&self) -> io::Result<Status>;
    fn tell(&self) -> io::Result<u64>;
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize>;
    fn write(&self, block: &[u8]) -> io::Result<usize>;
}

impl Tape for St {
    fn run(&self, motion: Motion) -> io::Result<()> {
        self.run(motion)
    }

    fn status(&self) -> io::Result<Status> {
        self.status()
    }

    fn tell(&self) -> io::Result<u64> {
        self.tell()
    }

    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read(buffer)
    }

    fn write(&self, block: &[u8]) -> io::Result<usize> {
        self.write(block)
    }
}

/// The way to a drive's `st` device: opened anew again and again.
pub(super) trait Road: Send {
    /// Opens it. An error says who has it, or what to do.
    fn open(&mut self) -> Result<Box<dyn Tape>, crate::Error>;
    /// The blocks that drive and path carry.
    fn measure(&mut self) -> Result<BlockLimits, crate::Error>;
}
