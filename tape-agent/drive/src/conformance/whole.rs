//! A library with its drives: its own steps, then those of one of its drives, on a cartridge that it brings.

use super::{OpenBay, OpenChanger, Scope, Step, library};
use crate::changer::DriveElement;
use crate::{Drive, Error, changer};

/// A way to a library and its drives, whatever the transport.
pub struct Way<'a> {
    /// To the changer.
    pub changer: Box<OpenChanger<'a>>,
    /// To the drive in one of its bays.
    pub bay: Box<OpenBay<'a>>,
}

impl Way<'static> {
    /// The way by device names: the changer's, and those of its drives in any order, which are told apart by serial
    /// number.
    pub fn by_names(changer: &str, drives: &[&str]) -> Self {
        let changer = changer.to_owned();
        let drives: Vec<String> = drives.iter().map(|&name| name.to_owned()).collect();
        Self {
            changer: Box::new(move || changer::open(&changer)),
            bay: Box::new(move |bay| by_serial(&drives, bay)),
        }
    }
}

fn by_serial(names: &[String], bay: &DriveElement) -> Result<Box<dyn Drive>, Error> {
    if bay.serial.is_some() {
        for name in names {
            let drive = crate::open(name)?;
            if drive.identity().serial == bay.serial {
                return Ok(drive);
            }
        }
    }
    Err(Error::NotTaken(
        "no device name is that of the drive in this bay",
    ))
}

impl Way<'_> {
    /// Runs all steps of the library, then all of one of its drives with the first cartridge of its slots, **whose data
    /// are lost**. `barcode` names another cartridge.
    ///
    /// Fails if library or drive can't be opened, or the cartridge can't be brought.
    pub fn run(&mut self, barcode: Option<&str>, scope: Scope) -> Result<Vec<Step>, Error> {
        let Self { changer, bay } = self;
        let mut report = library::run(changer, bay)?;
        let mut robot = changer()?;
        robot.attentions()?;
        let inventory = robot.inventory()?;
        let home = inventory
            .slots
            .iter()
            .find(|slot| slot.full && (barcode.is_none() || slot.barcode.as_deref() == barcode))
            .ok_or(Error::NotTaken("there is no such cartridge in a slot"))?
            .address;
        let free = inventory
            .drives
            .iter()
            .find(|drive| !drive.full && bay(drive).is_ok());
        let free = free.ok_or(Error::NotTaken("there is no free drive that can be opened"))?;
        robot.move_medium(home, free.address)?;
        let steps = super::run(&mut || bay(free), scope);
        let mut drive = bay(free)?;
        library::let_go(drive.as_mut())?;
        robot.attentions()?;
        robot.move_medium(free.address, home)?;
        report.extend(steps?);
        Ok(report)
    }
}
