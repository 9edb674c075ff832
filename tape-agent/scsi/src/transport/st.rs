//! The kernel's own tape driver, `st`: a drive's `/dev/nstN`, for those who may not send it commands themselves.
//!
//! Owns the words of `linux/mtio.h` and what `st` does behind them. It is not a path for commands: it hides sense data (nearly
//! all errors are `EIO`), counts by itself, and writes a filemark where a file is closed, rewound or sought behind a write. Who
//! uses it (`taf-drive`'s ITDT driver) must know all that; what is measured and said here is `Documentation/scsi/st.rst`
//! and `drivers/scsi/st.c`.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::libc;

use super::ioctl;

/// What `st` can be told (`MTIOCTOP`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Motion {
    /// Over so many filemarks towards the end, and behind the last (`MTFSF`).
    ForwardFiles(u32),
    /// Over so many filemarks towards the beginning, and before the last (`MTBSF`).
    BackwardFiles(u32),
    /// Over so many blocks towards the end; a filemark ends it as an error, and the tape is behind it (`MTFSR`).
    ForwardBlocks(u32),
    /// Over so many blocks towards the beginning (`MTBSR`).
    BackwardBlocks(u32),
    /// Writes filemarks, and brings all on the medium; with 0 it does only that (`MTWEOF`). Whatever comes of it, `st` writes no
    /// filemark of its own afterwards.
    Mark(u32),
    /// Writes filemarks, and lets the drive keep them in its buffer (`MTWEOFI`).
    MarkAtOnce(u32),
    /// Nothing, unless the driver has lost its place, which is then an error (`MTNOP`).
    Nothing,
    /// To the beginning (`MTREW`).
    Rewind,
    /// Behind the last thing recorded (`MTEOM`).
    EndOfData,
    /// To this logical object (`MTSEEK`).
    Seek(u32),
    /// Sets the block length in bytes, 0 for variable (`MTSETBLK`).
    BlockLength(u32),
    /// Has the drive buffer writes (`MTSETDRVBUFFER`).
    Buffered,
    /// Makes the driver's options those that TAF needs (`MTSETDRVBUFFER` with `MT_ST_BOOLEANS`), which only root may.
    Options,
    /// Locks the medium in (`MTLOCK`).
    Lock,
    /// Lets it go (`MTUNLOCK`).
    Unlock,
}

/// `MT_ST_BOOLEANS` with what helps to know what is on the tape: `CAN_BSR` (closing does not cross a filemark), `FAST_MTEOM` (one
/// command to the drive, whose error is told, and no counting before it) and `SCSI2LOGICAL` (logical positions). All others are off, above all buffering and
/// writing behind in the kernel's memory, a second filemark, automatic locking, System V semantics (closing would move over a
/// filemark) and not waiting.
const OPTIONS: i32 = 0x1000_0000 | 0x100 | 0x20 | 0x800;

impl Motion {
    fn request(self) -> (i16, i32) {
        let count = |count: u32| count.min(i32::MAX as u32) as i32;
        match self {
            Self::ForwardFiles(files) => (1, count(files)),
            Self::BackwardFiles(files) => (2, count(files)),
            Self::ForwardBlocks(blocks) => (3, count(blocks)),
            Self::BackwardBlocks(blocks) => (4, count(blocks)),
            Self::Mark(marks) => (5, count(marks)),
            Self::Rewind => (6, 1),
            Self::Nothing => (8, 1),
            Self::EndOfData => (12, 1),
            Self::BlockLength(length) => (20, count(length)),
            // The kernel takes the number's bits as they are.
            Self::Seek(object) => (22, object.cast_signed()),
            Self::Buffered => (24, 1),
            Self::Options => (24, OPTIONS),
            Self::Lock => (28, 1),
            Self::Unlock => (29, 1),
            Self::MarkAtOnce(marks) => (35, count(marks)),
        }
    }
}

/// What `st` remembers (`MTIOCGET`). None of it is asked of the drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(clippy::struct_excessive_bools)] // independent bits of one word
pub struct Status {
    /// A medium is in and was ready when it was asked last.
    pub online: bool,
    /// No medium.
    pub no_medium: bool,
    /// The medium is write protected.
    pub write_protected: bool,
    /// The last thing that was passed is a filemark.
    pub filemark: bool,
    /// At the beginning.
    pub beginning: bool,
    /// Beyond early warning: the next write is refused once (`ENOSPC`), so that nobody runs on by mistake.
    pub end_of_medium: bool,
    /// Nothing is recorded from here on.
    pub end_of_data: bool,
    /// The drive buffers writes.
    pub buffered: bool,
    /// Block length in bytes, 0 for variable.
    pub block_length: u32,
    /// Density code.
    pub density: u8,
    /// Partition.
    pub partition: u32,
    /// Filemarks between where it began to count and here, if it still knows.
    pub file: Option<u64>,
}

impl Status {
    fn of(raw: &ioctl::TapeStatus) -> Self {
        let bit = |mask: i64| raw.gstat & mask != 0;
        Self {
            online: bit(0x0100_0000),
            no_medium: bit(0x0004_0000),
            write_protected: bit(0x0400_0000),
            filemark: bit(0x8000_0000),
            beginning: bit(0x4000_0000),
            end_of_medium: bit(0x2000_0000),
            end_of_data: bit(0x0800_0000),
            buffered: bit(0x0001_0000),
            block_length: (raw.dsreg & 0xff_ffff) as u32,
            density: (raw.dsreg >> 24) as u8,
            partition: raw.resid as u32,
            file: u64::try_from(raw.fileno).ok(),
        }
    }
}

/// A drive's `st` device, open. Errors are the kernel's numbers as they are.
#[derive(Debug)]
pub struct St(File);

impl St {
    /// Opens the node that doesn't rewind. It never waits for a medium, and takes what news the drive has.
    pub fn open(node: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(node)?;
        Ok(Self(file))
    }

    /// Moves the tape, or sets something.
    pub fn run(&self, motion: Motion) -> io::Result<()> {
        let (operation, count) = motion.request();
        again(|| ioctl::tape_move(self.0.as_fd(), operation, count))
    }

    /// What the driver remembers. An error says that it has lost the place: the drive was reset.
    pub fn status(&self) -> io::Result<Status> {
        let raw = again(|| ioctl::tape_status(self.0.as_fd()))?;
        let status = Status::of(&raw);
        if status.online {
            // From Linux 6.14 on the question itself is allowed behind a reset.
            self.run(Motion::Nothing)?;
        }
        Ok(status)
    }

    /// Where the drive says that the tape stands: the logical object.
    pub fn tell(&self) -> io::Result<u64> {
        let block = again(|| ioctl::tape_tell(self.0.as_fd()))?;
        u64::try_from(block).map_err(|_| io::Error::from_raw_os_error(libc::EIO))
    }

    /// Reads one block; 0 is a filemark or the end of data. `ENOMEM`: the block is longer, and the tape behind it.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        again(|| nix::unistd::read(&self.0, buffer).map_err(io::Error::from))
    }

    /// Writes one block. `ENOSPC`: it is not written, and the first time it was not even tried.
    pub fn write(&self, block: &[u8]) -> io::Result<usize> {
        again(|| nix::unistd::write(&self.0, block).map_err(io::Error::from))
    }
}

/// A signal ends the waiting for the driver's lock, before anything is done.
fn again<T>(mut run: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match run() {
            Err(error) if error.raw_os_error() == Some(Errno::EINTR as i32) => {}
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_status_is_read_as_the_kernel_means_it() {
        let raw = ioctl::TapeStatus {
            gstat: 0x4501_0000,
            dsreg: 0x5e00_0000,
            fileno: -1,
            ..ioctl::TapeStatus::default()
        };
        let wanted = Status {
            online: true,
            write_protected: true,
            beginning: true,
            buffered: true,
            density: 0x5e,
            ..Status::default()
        };
        assert_eq!(Status::of(&raw), wanted);
        let raw = ioctl::TapeStatus {
            gstat: 0xa804_0000,
            dsreg: 512,
            fileno: 7,
            resid: 1,
            ..ioctl::TapeStatus::default()
        };
        let wanted = Status {
            no_medium: true,
            filemark: true,
            end_of_medium: true,
            end_of_data: true,
            block_length: 512,
            file: Some(7),
            partition: 1,
            ..Status::default()
        };
        assert_eq!(Status::of(&raw), wanted);
    }

    #[test]
    fn objects_beyond_two_billion_keep_their_bits() {
        assert_eq!(Motion::Seek(0xffff_fff0).request(), (22, -16));
        assert_eq!(Motion::ForwardFiles(u32::MAX).request(), (1, i32::MAX));
    }

    #[test]
    fn a_file_that_is_no_tape_is_an_error() {
        let st = St::open(Path::new("/dev/null")).unwrap();
        assert!(st.status().is_err() && st.tell().is_err() && st.run(Motion::Rewind).is_err());
        assert_eq!(st.read(&mut [0; 4]).unwrap(), 0);
        assert_eq!(st.write(&[0; 4]).unwrap(), 4);
    }
}
