//! A tape drive and a media changer as outcomes: the traits, and the drivers behind them: SCSI, and IBM's
//! `itdt` with the kernel's tape driver.
//!
//! Owns the meaning of sense data for a tape: what was written, what was not, what nobody knows. It never
//! retries a command, never moves a medium on its own account, and never decides what an error means for a
//! backup: that is the tape layer's, which alone knows what was flushed and what the catalog expects.
//!
//! Three rules run through all of it. Lengths come from sense data; what the transport says was transferred is
//! a cross-check. A unit attention and a deferred error mean that the command did *not* run. An error of the
//! transport means that nobody knows, and nothing is sent again.
#![forbid(unsafe_code)]

pub mod changer;
pub mod conformance;
mod device;
mod error;
mod files;
pub mod health;
mod itdt;
mod name;
mod outcome;
pub mod reading;
#[cfg(test)]
mod scripted;
mod scsi;
mod timeout;
pub mod watch;

pub use changer::{Changer, ScsiChanger};
pub use error::{Attention, Error};
pub use name::{Name, by_itdt, has_itdt};
pub use outcome::{
    BlockLimits, Identity, MediumState, Position, Read, Readiness, Spaced, Sync, Written,
};
pub use scsi::{OwnKeys, Reserved, ScsiDrive};

/// A tape drive.
///
/// All methods block until the drive answers, which for positioning is minutes and for a long erase hours: one
/// thread per drive. After [`Error::Unknown`] the driver is of no more use: open the device anew and find out
/// where the tape stands.
pub trait Drive: Send {
    /// Who made the drive, and its serial number.
    fn identity(&self) -> &Identity;

    /// Longest block in bytes that drive and path both carry, and the shortest.
    fn block_limits(&mut self) -> Result<BlockLimits, Error>;

    /// Asks for pending unit attentions until there are none, and returns them, oldest first. Their news is the
    /// caller's: a reset has forgotten all settings, a changed medium has to be identified again.
    fn attentions(&mut self) -> Result<Vec<taf_scsi::sense::Sense>, Error>;

    /// Whether a medium is in and ready.
    fn ready(&mut self) -> Result<Readiness, Error>;

    /// How far the drive is with what makes it not ready, in 65,536ths, if it says. Ask directly behind [`Self::ready`].
    fn progress(&mut self) -> Result<Option<u16>, Error>;

    /// Threads the medium; at its beginning when done. A first load may calibrate the medium for hours.
    fn load(&mut self) -> Result<(), Error>;

    /// Rewinds and ejects; everything buffered is on the medium when done.
    fn unload(&mut self) -> Result<(), Error>;

    /// Goes to the medium's beginning; everything buffered is on the medium when done.
    fn rewind(&mut self) -> Result<(), Error>;

    /// Sets variable block length and buffered writes, and says what the medium is. Needed after each load and
    /// each reset. Compression stays as it is.
    fn prepare(&mut self) -> Result<MediumState, Error>;

    /// Has the drive warn so many megabytes before early warning (programmable early warning). `Ok(false)` if it can't; it then
    /// warns at early warning alone. Needed after each reset.
    fn set_early_warning(&mut self, megabytes: u16) -> Result<bool, Error> {
        let _ = megabytes;
        Ok(false)
    }

    /// Puts the drive into append-only mode or out of it: within it a write that is not at the end of data is refused, unless
    /// [`Self::allow_overwrite`] came before. Drives leave it only without a cartridge. `Ok(false)` if the drive can't, or does
    /// not do it now. Needed after each load and each reset.
    fn set_append_only(&mut self, on: bool) -> Result<bool, Error> {
        let _ = on;
        Ok(false)
    }

    /// The densities that the drive knows, and which of them it writes, by its own word; `None` if it does not say.
    fn densities(&mut self) -> Result<Option<Vec<taf_scsi::page::density::Density>>, Error> {
        Ok(None)
    }

    /// Whether the drive checks blocks on their way by a checksum that goes with them (logical block protection), and does so
    /// now; `None` if it can't or does not say.
    fn block_protection(&mut self) -> Result<Option<bool>, Error> {
        Ok(None)
    }

    /// Writes one block. `Ok` means that the drive has it, in its buffer at least; with `EarlyWarning` too.
    fn write_block(&mut self, block: &[u8]) -> Result<Written, Error>;

    /// Writes filemarks. With [`Sync::Synchronous`], `Ok` means that they and all before are on the medium.
    fn write_filemarks(&mut self, count: u32, sync: Sync) -> Result<Written, Error>;

    /// Brings everything buffered onto the medium: no filemarks, synchronously.
    fn flush(&mut self) -> Result<Written, Error> {
        self.write_filemarks(0, Sync::Synchronous)
    }

    /// Reads one block of at most the buffer's length. A block that is longer is [`Error::BlockTooLarge`], and
    /// the tape is behind it.
    fn read_block(&mut self, buffer: &mut [u8]) -> Result<Read, Error>;

    /// Where the tape stands, or [`Error::PositionUnknown`] if the drive can't tell.
    fn position(&mut self) -> Result<Position, Error>;

    /// Goes to a logical object (block or filemark) of the current partition.
    fn locate(&mut self, block: u64) -> Result<(), Error>;

    /// Goes behind the last thing recorded.
    fn locate_end_of_data(&mut self) -> Result<(), Error>;

    /// Goes over filemarks: forward to behind the last of them, backward (negative) to before it.
    fn space_filemarks(&mut self, count: i64) -> Result<Spaced, Error>;

    /// Goes to the first block of a tape file, counted from 0: behind the `file`-th filemark.
    /// [`Error::BlankCheck`] if there are fewer.
    fn locate_file(&mut self, file: u64) -> Result<(), Error> {
        files::locate(self, file)
    }

    /// Locks the medium in, or lets it go.
    fn prevent_removal(&mut self, prevent: bool) -> Result<(), Error>;

    /// Allows the next write at `block` to overwrite, on a drive in append-only mode. `Ok(false)` if the drive
    /// knows no such mode.
    fn allow_overwrite(&mut self, block: u64) -> Result<bool, Error>;

    /// The same for [`Self::format`].
    fn allow_format(&mut self) -> Result<bool, Error> {
        Ok(false)
    }

    /// Names the keys by which [`Self::reserve`] keeps other hosts off the drive. Keep them on disk first: a key that is lost
    /// while it holds the drive is a stranger's.
    fn reserve_with(&mut self, keys: OwnKeys) {
        let _ = keys;
    }

    /// Keeps other hosts off the drive, as far as it can, if keys were named. Needed again after each reset; in between it
    /// costs little. [`Error::ReservedBy`] if another host holds the drive.
    fn reserve(&mut self) -> Result<Reserved, Error> {
        Ok(Reserved::Unsupported)
    }

    /// Lets other hosts have the drive.
    fn release(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// The parameters of a log page; `None` if the drive has no such page. Reading some pages clears them: see
    /// [`health::Alerts`].
    fn log_page(&mut self, page: u8) -> Result<Option<Vec<taf_scsi::page::log::Parameter>>, Error>;

    /// All attributes of the memory in the cartridge; `None` if the drive does not show it or there is none.
    /// [`Error::CartridgeMemory`] if there is one and it can't be read.
    fn attributes(&mut self) -> Result<Option<Vec<taf_scsi::page::attribute::Attribute>>, Error>;

    /// What the drive turned out not to know since it was opened, and what is done instead; for reports.
    fn workarounds(&self) -> Vec<&'static str> {
        Vec::new()
    }

    /// Erases from here on: end of data is here afterwards. `long` overwrites the whole rest, which takes hours.
    fn erase(&mut self, long: bool) -> Result<(), Error>;

    /// Begins a long erase from here on and does not wait for its end: the drive is *becoming ready* until then, and
    /// [`Drive::progress`] may say how far it is. `Ok(false)` if the drive can't do it in this way; nothing was begun.
    fn begin_long_erase(&mut self) -> Result<bool, Error>;

    /// Makes one blank partition of whatever the medium had; the tape must be at its beginning.
    fn format(&mut self) -> Result<(), Error>;
}

/// [`open`], so that `watch` sees its commands.
pub fn open_watched(device: &str, watch: &watch::Watch) -> Result<Box<dyn Drive>, Error> {
    match Name::parse(device) {
        Ok(Name::Scsi(_)) => {
            let transport = watch.over(path(device)?);
            Ok(Box::new(ScsiDrive::new(transport)?))
        }
        Ok(Name::Itdt(name)) => itdt::open(device, name, Some(watch)),
        Err(reason) => Err(no_name(device, reason)),
    }
}

/// Opens a tape drive by its device name (see [`Name`]).
pub fn open(device: &str) -> Result<Box<dyn Drive>, Error> {
    match Name::parse(device) {
        Ok(Name::Scsi(_)) => Ok(Box::new(ScsiDrive::new(path(device)?)?)),
        Ok(Name::Itdt(name)) => itdt::open(device, name, None),
        Err(reason) => Err(no_name(device, reason)),
    }
}

fn path(device: &str) -> Result<Box<dyn taf_scsi::transport::Transport>, Error> {
    let kind = Some(taf_scsi::host::Kind::Drive);
    Ok(taf_scsi::transport::open_as(device, kind)?)
}

fn no_name(device: &str, reason: String) -> Error {
    Error::Unknown(taf_scsi::transport::Error::Lost {
        device: device.to_owned(),
        reason,
    })
}
