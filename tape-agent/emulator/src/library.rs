//! A whole library in a folder: robot, drives, slots and cartridges.
//!
//! | in the folder | what |
//! |---|---|
//! | `library.toml` | what the library consists of; may be edited while it is switched off |
//! | `inventory.json` | which cartridge is in which element |
//! | `cartridges/BARCODE.tape` | the cartridges; copy one here and it appears in a free slot |
//! | `outside/NAME.tape` | cartridges that were taken out by a mail slot |
//! | `faults.toml` | the script of faults, if there is one |
//! | `sockets/` | one unix socket a logical unit, and one for orders, while it is served |
//! | `lock` | held by the one process that has the library switched on |

use std::fs::{File, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use taf_scsi::cdb::ElementType;
use taf_scsi::sense::Sense;

use crate::cartridge::{self, Behaviour, Cartridge, EXTENSION, Kind, Meta, Reader};
use crate::changer::{self, Changer, Inventory};
use crate::control::Control;
use crate::drive::Drive;
use crate::faults::Faults;
use crate::{Shared, generation};

mod spec;

pub use spec::Spec;

/// What can go wrong with a library as a whole.
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
    /// There is no library in the folder.
    #[error("there is no library in {}; make one with: taf-emulator create --dir {}", .0.display(), .0.display())]
    Missing(PathBuf),
    /// There is one already.
    #[error("there is a library in {} already", .0.display())]
    Exists(PathBuf),
    /// Another process has it.
    #[error("the library in {} is switched on by another process; stop that first", .0.display())]
    InUse(PathBuf),
    /// `library.toml` is not valid.
    #[error("{} is not valid: {reason}", path.display())]
    Spec {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A cartridge's file.
    #[error(transparent)]
    Cartridge(#[from] cartridge::Error),
    /// The inventory.
    #[error(transparent)]
    Inventory(#[from] changer::Error),
    /// A barcode that is no barcode.
    #[error("{0:?} can't be a barcode; use 1 to 32 letters A to Z, digits, - and _")]
    Barcode(String),
    /// A barcode that exists.
    #[error("there is a cartridge {0} in this library already")]
    Duplicate(String),
    /// No room.
    #[error(
        "all {0} slots of this library are taken; raise `slots` in its library.toml while it is off"
    )]
    Full(u16),
    /// What was buffered when the library was switched off is lost.
    #[error("drive {drive} could not write its buffer to the medium: {sense}")]
    Unsettled {
        /// The drive's serial number.
        drive: String,
        /// Why.
        sense: Sense,
    },
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

/// A library that is switched on.
#[derive(Debug)]
pub struct Library {
    dir: PathBuf,
    spec: Spec,
    control: Control,
    /// Held as long as the library is on.
    _lock: File,
}

impl Library {
    /// Makes a library without cartridges in `dir`, which is made if need be.
    pub fn create(dir: &Path, spec: &Spec) -> Result<(), Error> {
        let file = spec_file(dir);
        let text = spec.to_toml().map_err(|reason| Error::Spec {
            path: file.clone(),
            reason,
        })?;
        let cartridges = cartridges(dir);
        std::fs::create_dir_all(&cartridges).map_err(failed("make", &cartridges))?;
        let mut options = File::options();
        match options.write(true).create_new(true).open(&file) {
            Ok(mut out) => {
                io::Write::write_all(&mut out, text.as_bytes()).map_err(failed("write", &file))
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(Error::Exists(dir.to_owned()))
            }
            Err(error) => Err(failed("make", &file)(error)),
        }
    }

    /// Whether there is a library in `dir`.
    pub fn exists(dir: &Path) -> bool {
        spec_file(dir).exists()
    }

    /// Switches on the library in `dir`.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let spec = read_spec(dir)?;
        let path = dir.join("lock");
        let lock = File::create(&path).map_err(failed("make", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::InUse(dir.to_owned())),
            Err(TryLockError::Error(error)) => return Err(failed("lock", &path)(error)),
        }
        let seed = spec.seed.unwrap_or_else(rand::random);
        let faults = Faults::seeded(Some(&dir.join("faults.toml")), seed);
        let drives: Vec<_> = (0..spec.geometry().drives)
            .map(|number| Shared::new(Drive::new(spec.drive_options(number), faults.clone())))
            .collect();
        let changer = Changer::new(
            spec.changer_options(),
            Inventory::open(&inventory_file(dir))?,
            cartridges(dir),
            drives.clone(),
            faults.clone(),
        )?;
        let clocks = drives
            .iter()
            .map(|drive| drive.lock().options().clock.clone())
            .chain([changer.options().clock.clone()])
            .collect();
        let control = Control {
            seen: drives.iter().map(|drive| drive.lock().seen()).collect(),
            drives: drives.clone(),
            changer: Shared::new(changer),
            faults: faults.clone(),
            clocks,
        };
        Ok(Self {
            dir: dir.to_owned(),
            spec,
            control,
            _lock: lock,
        })
    }

    /// The library's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What it consists of.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Its drives, in the order of their element addresses.
    pub fn drives(&self) -> &[Shared<Drive>] {
        &self.control.drives
    }

    /// Its robot.
    pub fn changer(&self) -> &Shared<Changer> {
        &self.control.changer
    }

    /// Drive `number` for a transport.
    pub fn drive_target(&self, number: usize) -> Option<Arc<Mutex<Drive>>> {
        self.control.drives.get(number).map(Shared::target)
    }

    /// The robot for a transport.
    pub fn changer_target(&self) -> Arc<Mutex<Changer>> {
        self.control.changer.target()
    }

    /// For orders to it beside its SCSI.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// The script of faults, to add to.
    pub fn faults(&self) -> &Shared<Faults> {
        &self.control.faults
    }

    /// Brings what is buffered to the media, as before switching off in good order.
    pub fn settle(&self) -> Result<(), Error> {
        let mut outcome = Ok(());
        for drive in self.drives() {
            let mut drive = drive.lock();
            if let Err(sense) = drive.settle() {
                outcome = Err(Error::Unsettled {
                    drive: drive.options().serial.clone(),
                    sense,
                });
            }
        }
        outcome
    }
}

/// A cartridge to be made.
#[derive(Debug, Clone, Default)]
#[allow(clippy::struct_excessive_bools)] // independent wishes
pub struct NewCartridge {
    /// Bytes that fit; `None`: as the library says.
    pub capacity: Option<u64>,
    /// Its tab forbids writing.
    pub write_protected: bool,
    /// Recorded on it as the first tape file: somebody else's bytes, and the length of their blocks.
    pub foreign: Option<(PathBuf, u32)>,
    /// To be written once, whatever its barcode says.
    pub write_once: bool,
    /// Bytes of the capacity that a second partition takes, as on a tape that LTFS used.
    pub second_partition: u64,
    /// Another one with a barcode that there is already.
    pub another: bool,
    /// Without a label: the barcode only names its file.
    pub unlabelled: bool,
    /// Outside, to be put into a mail slot.
    pub outside: bool,
}

/// Puts a new cartridge into a free slot of the library in `dir`, switched on or off. A library that is on
/// sees it when it is asked for its element status next. Returns the cartridge's file.
pub fn add(dir: &Path, barcode: &str, new: &NewCartridge) -> Result<PathBuf, Error> {
    let spec = read_spec(dir)?;
    let fitting = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || "-_".contains(c);
    if !(1..=32).contains(&barcode.len()) || !barcode.chars().all(fitting) {
        return Err(Error::Barcode(barcode.to_owned()));
    }
    let inside = cartridges(dir);
    let present = changer::names(&inside)?;
    let folder = if new.outside {
        dir.join("outside")
    } else {
        inside
    };
    std::fs::create_dir_all(&folder).map_err(failed("make", &folder))?;
    let taken =
        |name: &str| present.contains(name) || folder.join(format!("{name}.{EXTENSION}")).exists();
    let mut name = if new.unlabelled {
        format!("+{barcode}")
    } else {
        barcode.to_owned()
    };
    if new.another {
        let free = (2..).map(|number| format!("{name}+{number}"));
        name = free
            .into_iter()
            .find(|name| !taken(name))
            .unwrap_or(name.clone());
    }
    if taken(&name) {
        return Err(Error::Duplicate(barcode.to_owned()));
    }
    if !new.outside {
        let slots = spec.geometry().range(ElementType::Storage);
        let elsewhere = Inventory::open(&inventory_file(dir))?
            .iter()
            .filter(|(address, volume)| {
                !slots.contains(address) && present.contains(&volume.barcode)
            })
            .count();
        if present.len() - elsewhere >= slots.len() {
            return Err(Error::Full(spec.geometry().slots));
        }
    }
    let (density, kind) =
        generation::of_barcode(barcode).unwrap_or((spec.generation.density(), Kind::Data));
    let meta = Meta {
        capacity: new.capacity.unwrap_or(spec.capacity),
        loads: 0,
        density,
        kind: if new.write_once {
            Kind::WriteOnce
        } else {
            kind
        },
        second_partition: new.second_partition,
        write_protected: new.write_protected,
        serial: format!("{:010X}", rand::random::<u64>() & 0xff_ffff_ffff),
    };
    let path = folder.join(format!("{name}.{EXTENSION}"));
    let staging = folder.join(format!("{name}.{}.new", std::process::id()));
    let made = Cartridge::create(&staging, &meta)
        .map_err(Error::from)
        .and_then(|()| match &new.foreign {
            Some((file, length)) => record(&staging, file, *length),
            None => Ok(()),
        })
        // A link, not a rename: a cartridge that appeared meanwhile must not be replaced.
        .and_then(|()| std::fs::hard_link(&staging, &path).map_err(failed("make", &path)));
    // The staging name is of no more use, whatever came before.
    let removed = std::fs::remove_file(&staging).map_err(failed("remove", &staging));
    made.and(removed).map(|()| path)
}

/// The cartridges of the library in `dir`, by barcode, as they are on the medium now.
pub fn shelf(dir: &Path) -> Result<Vec<(String, Reader)>, Error> {
    read_spec(dir)?;
    let folder = cartridges(dir);
    let mut shelf = Vec::new();
    for barcode in changer::names(&folder)? {
        let reader = Reader::open(&folder.join(format!("{barcode}.{EXTENSION}")))?;
        shelf.push((barcode, reader));
    }
    Ok(shelf)
}

/// Records the bytes of `file` as one tape file.
fn record(path: &Path, file: &Path, length: u32) -> Result<(), Error> {
    let mut source = File::open(file).map_err(failed("open", file))?;
    let mut cartridge = Cartridge::open(path, Behaviour::default())?;
    let written = |outcome: Result<(), cartridge::Loss>| match outcome {
        Err(cartridge::Loss {
            cause: cartridge::Cause::File(error),
            ..
        }) => Err(Error::Cartridge(error)),
        // No fault was ordered here.
        _ => Ok(()),
    };
    let length = length.clamp(1, cartridge::BLOCK_LENGTH_MAX);
    loop {
        let mut block = Vec::new();
        let read = source
            .by_ref()
            .take(u64::from(length))
            .read_to_end(&mut block)
            .map_err(failed("read", file))?;
        if read == 0 {
            break;
        }
        let at = cartridge.objects();
        written(cartridge.write_block(at, &block, &mut |_| None))?;
    }
    let at = cartridge.objects();
    written(cartridge.write_filemark(at, &mut |_| None))?;
    written(cartridge.flush(&mut |_| None))
}

fn spec_file(dir: &Path) -> PathBuf {
    dir.join("library.toml")
}

fn inventory_file(dir: &Path) -> PathBuf {
    dir.join("inventory.json")
}

/// Where the cartridges of the library in `dir` lie.
pub fn cartridges(dir: &Path) -> PathBuf {
    dir.join("cartridges")
}

fn read_spec(dir: &Path) -> Result<Spec, Error> {
    let path = spec_file(dir);
    match std::fs::read_to_string(&path) {
        Ok(text) => Spec::from_toml(&text).map_err(|reason| Error::Spec { path, reason }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Error::Missing(dir.to_owned()))
        }
        Err(error) => Err(failed("read", &path)(error)),
    }
}

#[cfg(test)]
mod tests;
