//! What jobs are planned on: drives, libraries and cartridges as they are.

use std::collections::HashMap;

use super::Shared;
use crate::generation::Format;

/// A drive.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // independent facts
pub struct Drive {
    /// Row.
    pub id: i64,
    /// Serial number.
    pub serial: String,
    /// Whether its worker is connected.
    pub connected: bool,
    /// It gets no work but what names it: an alert or a person took it down.
    pub down: bool,
    /// Whether it does not answer a command.
    pub hung: bool,
    /// Whether an attempt holds it.
    pub busy: bool,
    /// Whether one of these has a cartridge that it needs the drive for, or is getting one there.
    pub working: bool,
    /// The volume in it that others may write on, too.
    pub shared: Option<Shared>,
    /// LTO generation, if its name says.
    pub generation: Option<u8>,
    /// Library that it is in.
    pub library: Option<i64>,
    /// Whether the library shows something in it.
    pub full: bool,
}

/// A library.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Library {
    /// Row.
    pub id: i64,
    /// Serial number.
    pub serial: String,
    /// Whether its robot's worker is connected.
    pub connected: bool,
    /// Why its robot moves nothing now, for people: an open door.
    pub pause: Option<String>,
    /// Free storage slots.
    pub slots_free: usize,
    /// Free mail slots.
    pub mail_free: usize,
    /// What is in its mail slots, for people.
    pub mail: Vec<String>,
}

/// A cartridge: a volume of the catalog, or one that a library shows.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // facts, each by itself
pub struct Cartridge {
    /// Volume's row, if the catalog knows it.
    pub volume: Option<i64>,
    /// Barcode.
    pub barcode: String,
    /// Pool of a volume.
    pub pool: Option<i64>,
    /// Whether it may be appended to.
    pub appendable: bool,
    /// Whether it could be, but has to be inspected first.
    pub suspect: bool,
    /// Whether an attempt holds it, or a lost drive may still write to it.
    pub reserved: bool,
    /// Bytes on it.
    pub byte_count: u64,
    /// Its format, if it is known.
    pub format: Option<Format>,
    /// Of a cleaning cartridge: how often it can still be used.
    pub cleanings_left: Option<u32>,
    /// Library that shows it.
    pub library: Option<i64>,
    /// Whether libraries show more than one cartridge with this barcode.
    pub twice: bool,
    /// Whether it lies in a mail slot, where people take it out.
    pub in_mail_slot: bool,
    /// Drive that the library shows it in.
    pub in_drive: Option<i64>,
    /// Where it was before it went, for people.
    pub last_place: Option<String>,
}

/// All that jobs are planned on.
#[derive(Debug, Clone, Default)]
pub struct World {
    /// Drives.
    pub drives: Vec<Drive>,
    /// Libraries.
    pub libraries: Vec<Library>,
    /// Cartridges that a job may get.
    pub cartridges: Vec<Cartridge>,
    /// Why nothing begins now that needs a catalog which is trusted.
    pub distrusted: Option<String>,
    /// What whoever has no volume waits for, since one is made: by pool.
    pub coming: HashMap<i64, String>,
    /// What a person can do for a pool without a volume, beside labelling a blank cartridge.
    pub advice: HashMap<i64, String>,
}

impl World {
    pub(super) fn drive(&self, id: i64) -> Option<&Drive> {
        self.drives.iter().find(|d| d.id == id)
    }

    /// A library whose robot can move things now, or why it can't.
    pub(super) fn robot(&self, library: Option<i64>) -> Result<&Library, String> {
        let found = self.libraries.iter().find(|l| Some(l.id) == library);
        let Some(library) = found else {
            return Err("the drive is in no library that is known".to_owned());
        };
        match &library.pause {
            _ if !library.connected => Err(format!("library {} is not connected", library.serial)),
            Some(why) => Err(format!("library {}: {why}", library.serial)),
            None => Ok(library),
        }
    }
}
