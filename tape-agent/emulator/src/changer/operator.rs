//! What a person does to a library: opens its door, uses its mail slots, and what elements suffer.
//!
//! A cartridge that is taken out lies in the folder `outside`, from where it can be put into a mail slot again.

use std::io;
use std::path::{Path, PathBuf};

use taf_scsi::cdb::ElementType;
use taf_scsi::sense::code;

use super::{Changer, Error, Volume};
use crate::cartridge::EXTENSION;

/// Why a person could not do what was wanted.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// An initiator prevents it.
    #[error("an initiator has locked the mail slots; have it allow medium removal first")]
    Prevented,
    /// No room.
    #[error(
        "there is no empty mail slot; have a mail slot emptied, or raise `mail_slots` in library.toml"
    )]
    NoMailSlot,
    /// Not there.
    #[error("cartridge {0} is in no mail slot; have the robot move it to one first")]
    NotInMailSlot(String),
    /// Not outside.
    #[error(
        "there is no cartridge {0} outside; see the folder `outside`, or make one with: taf-emulator add --outside"
    )]
    NotOutside(String),
    /// One of that name is inside.
    #[error("a cartridge {0} is in the library already")]
    Inside(String),
    /// No such element.
    #[error("there is no element {0} in this library")]
    NoElement(u16),
    /// The inventory.
    #[error(transparent)]
    Inventory(#[from] Error),
    /// The system refused.
    #[error("can't {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Changer {
    /// Opens or closes the door. While it is open nothing moves; when it is closed the library looks at its
    /// slots anew and says that media may have changed.
    pub fn door(&mut self, open: bool) -> Result<(), Error> {
        if self.door_open && !open {
            self.take_stock()?;
            let attentions = &mut self.initiators.attentions;
            attentions.tell_all(code::MEDIUM_MAY_HAVE_CHANGED);
        }
        self.door_open = open;
        tracing::info!(open, "the door");
        Ok(())
    }

    /// Whether the door is open.
    pub fn door_is_open(&self) -> bool {
        self.door_open
    }

    /// Puts a cartridge from outside into an empty mail slot; its address.
    pub fn mail_put(&mut self, name: &str) -> Result<u16, Refused> {
        self.mail_unlocked()?;
        let (outside, inside) = (self.outside(name), self.path(name));
        if !outside.exists() {
            return Err(Refused::NotOutside(name.to_owned()));
        }
        if inside.exists() {
            return Err(Refused::Inside(name.to_owned()));
        }
        let address = self
            .geometry
            .range(ElementType::ImportExport)
            .find(|address| self.inventory.get(*address).is_none())
            .ok_or(Refused::NoMailSlot)?;
        carry(&outside, &inside)?;
        let volume = Volume {
            barcode: name.to_owned(),
            source: None,
            imported: true,
        };
        self.inventory.put(address, volume);
        self.inventory.save()?;
        self.mail_used();
        Ok(address)
    }

    /// Takes a cartridge out of a mail slot.
    pub fn mail_take(&mut self, name: &str) -> Result<(), Refused> {
        self.mail_unlocked()?;
        let slots = self.geometry.range(ElementType::ImportExport);
        let address = self
            .inventory
            .iter()
            .find(|(address, volume)| slots.contains(address) && volume.barcode == name)
            .map(|(address, _)| address)
            .ok_or_else(|| Refused::NotInMailSlot(name.to_owned()))?;
        let outside = self.outside(name);
        if let Some(folder) = outside.parent() {
            std::fs::create_dir_all(folder).map_err(|source| Refused::Io {
                action: "make",
                path: folder.to_owned(),
                source,
            })?;
        }
        carry(&self.path(name), &outside)?;
        self.inventory.take(address);
        self.inventory.save()?;
        self.mail_used();
        Ok(())
    }

    fn mail_unlocked(&self) -> Result<(), Refused> {
        if self.initiators.prevented() {
            return Err(Refused::Prevented);
        }
        Ok(())
    }

    fn mail_used(&mut self) {
        let attentions = &mut self.initiators.attentions;
        attentions.tell_all(code::IMPORT_EXPORT_ACCESSED);
    }

    /// An element is in an abnormal state from now on (EXCEPT with this code), or no more.
    pub fn exception(&mut self, element: u16, code: Option<(u8, u8)>) -> Result<(), Refused> {
        if self.geometry.kind(element).is_none() {
            return Err(Refused::NoElement(element));
        }
        match code {
            Some(code) => self.exceptions.insert(element, code),
            None => self.exceptions.remove(&element),
        };
        Ok(())
    }

    fn outside(&self, name: &str) -> PathBuf {
        let folder = self.cartridges.with_file_name("outside");
        folder.join(format!("{name}.{EXTENSION}"))
    }
}

fn carry(from: &Path, to: &Path) -> Result<(), Refused> {
    std::fs::rename(from, to).map_err(|source| Refused::Io {
        action: "move",
        path: from.to_owned(),
        source,
    })
}
