//! What lies where, kept over restarts in `inventory.json`.
//!
//! The folder of cartridges says which exist; this says in which element each is. A cartridge that appears in
//! the folder is put into the lowest free slot, one that vanished leaves its element empty.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use taf_scsi::cdb::ElementType;

use super::Geometry;
use crate::cartridge::{EXTENSION, label_of, name_of};

/// The inventory could not be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
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
    /// The file is not an inventory.
    #[error("{} is not an inventory: {source}; delete it, and every cartridge goes to a free slot", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: serde_json::Error,
    },
}

/// A cartridge in an element.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Volume {
    /// The name of its file without the ending: what its label says, and behind a `+` what tells several of
    /// one barcode apart.
    pub barcode: String,
    /// The slot it was taken from last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<u16>,
    /// A person put it into the mail slot in which it is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub imported: bool,
}

impl Volume {
    /// What a reader makes of its label; `None` if there is none.
    pub fn tag(&self) -> Option<&str> {
        Some(label_of(&self.barcode)).filter(|label| !label.is_empty())
    }
}

/// What lies where.
#[derive(Debug, Clone)]
pub struct Inventory {
    file: PathBuf,
    volumes: BTreeMap<u16, Volume>,
}

impl Inventory {
    /// Reads the inventory in `file`; if there is none, it is empty.
    pub fn open(file: &Path) -> Result<Self, Error> {
        let volumes = match std::fs::read(file) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|source| Error::Malformed {
                path: file.to_owned(),
                source,
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(source) => {
                return Err(Error::Io {
                    action: "read",
                    path: file.to_owned(),
                    source,
                });
            }
        };
        Ok(Self {
            file: file.to_owned(),
            volumes,
        })
    }

    /// The cartridge in an element.
    pub fn get(&self, address: u16) -> Option<&Volume> {
        self.volumes.get(&address)
    }

    /// All full elements, by address.
    pub fn iter(&self) -> impl Iterator<Item = (u16, &Volume)> {
        self.volumes
            .iter()
            .map(|(address, volume)| (*address, volume))
    }

    /// Moves what is at `source` to `destination`, which is empty.
    pub(super) fn relocate(&mut self, source: u16, destination: u16, geometry: Geometry) {
        let Some(mut volume) = self.volumes.remove(&source) else {
            return;
        };
        volume.imported = false;
        if geometry.kind(source) == Some(ElementType::Storage) {
            volume.source = Some(source);
        }
        self.volumes.insert(destination, volume);
    }

    /// Something is in an element that was empty.
    pub(super) fn put(&mut self, address: u16, volume: Volume) {
        self.volumes.insert(address, volume);
    }

    /// An element is empty.
    pub(super) fn take(&mut self, address: u16) {
        self.volumes.remove(&address);
    }

    /// Writes the file anew, whole or not at all.
    pub(super) fn save(&self) -> Result<(), Error> {
        let io = |action| {
            move |source| Error::Io {
                action,
                path: self.file.clone(),
                source,
            }
        };
        let mut text = serde_json::to_vec_pretty(&self.volumes)
            .map_err(io::Error::from)
            .map_err(io("encode"))?;
        text.push(b'\n');
        let staging = self.file.with_extension("new");
        std::fs::write(&staging, text).map_err(io("write"))?;
        std::fs::rename(&staging, &self.file).map_err(io("replace"))
    }

    /// Compares with the folder of cartridges, and keeps what changed.
    pub(super) fn take_stock(&mut self, geometry: Geometry, folder: &Path) -> Result<(), Error> {
        let mut present = names(folder)?;
        let before = self.volumes.len();
        self.volumes.retain(|&address, volume| {
            // A drive holds its cartridge's file open; it stays even if its name is gone.
            geometry.kind(address).is_some()
                && (present.remove(&volume.barcode)
                    || geometry.kind(address) == Some(ElementType::DataTransfer))
        });
        let mut changed = self.volumes.len() != before;
        let free: Vec<u16> = geometry
            .range(ElementType::Storage)
            .filter(|address| !self.volumes.contains_key(address))
            .collect();
        if free.len() < present.len() {
            tracing::warn!(
                cartridges = present.len() - free.len(),
                "there is no free slot for some cartridges"
            );
        }
        for (address, barcode) in free.into_iter().zip(present) {
            let volume = Volume {
                barcode,
                source: None,
                imported: false,
            };
            self.volumes.insert(address, volume);
            changed = true;
        }
        if changed { self.save() } else { Ok(()) }
    }
}

/// The names of the cartridges' files in `folder`, without their ending.
pub(crate) fn names(folder: &Path) -> Result<BTreeSet<String>, Error> {
    let io = |source| Error::Io {
        action: "list",
        path: folder.to_owned(),
        source,
    };
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.extension().is_some_and(|ending| ending == EXTENSION) {
            found.insert(name_of(&path));
        }
    }
    Ok(found)
}
