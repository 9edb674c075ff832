//! A media changer: what is where, and moving it.

use crate::error::Error;
use crate::outcome::Identity;

mod scsi;

pub use scsi::ScsiChanger;

/// A media changer. All methods block until the robot is done; nothing is moved but by `move_medium`.
pub trait Changer: Send {
    /// Who made the library, and its serial number.
    fn identity(&self) -> &Identity;

    /// Takes pending unit attentions (door opened, mail slot used, reset) and returns them, oldest first.
    fn attentions(&mut self) -> Result<Vec<taf_scsi::sense::Sense>, Error>;

    /// Whether the robot takes commands.
    fn ready(&mut self) -> Result<(), Error>;

    /// What the library believes to be where.
    fn inventory(&mut self) -> Result<Inventory, Error>;

    /// Has the library look at all its elements anew; minutes to an hour.
    fn scan(&mut self) -> Result<(), Error>;

    /// Moves a cartridge between two element addresses. [`Error::SourceEmpty`] and [`Error::DestinationFull`]
    /// move nothing.
    fn move_medium(&mut self, from: u16, to: u16) -> Result<(), Error>;
}

/// What is where.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inventory {
    /// Drives by address.
    pub drives: Vec<DriveElement>,
    /// Storage slots by address.
    pub slots: Vec<SlotElement>,
    /// Import/export elements by address.
    pub mail_slots: Vec<SlotElement>,
    /// The first picker's address, if the library names one.
    pub picker: Option<u16>,
    /// Additional sense code of an abnormal state of the first picker that has one: a cartridge is stuck in it.
    pub picker_exception: Option<(u8, u8)>,
}

/// A drive as the library sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriveElement {
    /// Element address.
    pub address: u16,
    /// The drive's serial number, if the library knows and tells it whole.
    pub serial: Option<String>,
    /// Whether a cartridge is in it.
    pub full: bool,
    /// Whether the picker can take the cartridge; many libraries say no until it is unloaded.
    pub accessible: bool,
    /// The cartridge's barcode.
    pub barcode: Option<String>,
    /// The slot that the cartridge came from.
    pub source_slot: Option<u16>,
    /// Additional sense code of an abnormal state.
    pub exception: Option<(u8, u8)>,
}

/// A slot, for storage or import/export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotElement {
    /// Element address.
    pub address: u16,
    /// Whether a cartridge is in it.
    pub full: bool,
    /// Whether the picker can reach it.
    pub accessible: bool,
    /// The cartridge's barcode.
    pub barcode: Option<String>,
    /// Additional sense code of an abnormal state.
    pub exception: Option<(u8, u8)>,
}

/// Opens a media changer by its device name (see [`taf_scsi::transport::Name`]).
pub fn open(device: &str) -> Result<Box<dyn Changer>, Error> {
    let transport = taf_scsi::transport::open_as(device, Some(taf_scsi::host::Kind::Changer))?;
    Ok(Box::new(ScsiChanger::new(transport)?))
}
