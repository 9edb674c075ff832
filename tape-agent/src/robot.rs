//! One robot: what its elements are in the controller's words, whether it moves, and one move with what must be true before and
//! after it.

use std::collections::BTreeMap;

use taf_drive::Error;
use taf_drive::changer::{Changer, Inventory, SlotElement};
use taf_proto::agent::{Element, LibraryObservation, MoveWork, element};
use taf_proto::v1::Fault;
use taf_scsi::sense::{self, Sense, code};

use crate::fault::fault;

/// Where a drive is, as the configuration says.
#[derive(Debug, Clone, Copy)]
pub struct Seat<'a> {
    serial: &'a str,
    address: u16,
}

impl<'a> Seat<'a> {
    /// All that are configured.
    pub fn list(seats: &'a BTreeMap<String, u16>) -> Vec<Seat<'a>> {
        seats
            .iter()
            .map(|(serial, &address)| Seat { serial, address })
            .collect()
    }
}

/// What is where, in the controller's words. A drive whose serial number the library does not tell is known by its seat.
pub fn observation(inventory: &Inventory, seats: &[Seat<'_>]) -> LibraryObservation {
    let mut elements = Vec::new();
    let kinds = [
        (element::Type::Slot, &inventory.slots),
        (element::Type::MailSlot, &inventory.mail_slots),
    ];
    for (kind, list) in kinds {
        elements.extend(list.iter().map(|slot| place(kind, slot)));
    }
    elements.extend(inventory.drives.iter().map(|drive| {
        let told = drive.serial.as_deref();
        let seat = seats.iter().find(|s| s.address == drive.address);
        Element {
            r#type: element::Type::Drive.into(),
            address: u32::from(drive.address),
            full: drive.full,
            barcode: drive.barcode.clone().unwrap_or_default(),
            drive_serial: told
                .or(seat.map(|s| s.serial))
                .unwrap_or_default()
                .to_owned(),
            source_address: drive.source_slot.map_or(0, u32::from),
            exception: exception(drive.exception),
        }
    }));
    LibraryObservation {
        elements,
        pause: String::new(),
        picker_exception: exception(inventory.picker_exception),
    }
}

fn place(kind: element::Type, slot: &SlotElement) -> Element {
    let mut exception = exception(slot.exception);
    // A slot in a magazine that was pulled out.
    if exception.is_empty() && kind == element::Type::Slot && !slot.accessible {
        "the robot can't reach it".clone_into(&mut exception);
    }
    Element {
        r#type: kind.into(),
        address: u32::from(slot.address),
        full: slot.full,
        barcode: slot.barcode.clone().unwrap_or_default(),
        exception,
        ..Element::default()
    }
}

fn exception(code: Option<(u8, u8)>) -> String {
    match code {
        None => String::new(),
        Some((asc, ascq)) => match sense::code::words((asc, ascq)) {
            Some(words) => format!("{words} ({asc:02X}/{ascq:02X})"),
            None => format!("an abnormal state ({asc:02X}/{ascq:02X})"),
        },
    }
}

/// Why the robot takes no commands now, for people; none if it does.
pub fn pause(changer: &mut dyn Changer) -> Result<Option<String>, Error> {
    match changer.ready() {
        Ok(()) => Ok(None),
        Err(Error::NotReady(sense)) => Ok(Some(why(&sense))),
        Err(error) => Err(error),
    }
}

fn why(sense: &Sense) -> String {
    match sense.code() {
        code::DOOR_OPEN => "its door is open".to_owned(),
        code::BECOMING_READY => "it is looking at its elements".to_owned(),
        code::MANUAL_INTERVENTION => {
            "it waits for a person: see its own panel, and close its door".to_owned()
        }
        (0x3b, 0x11 | 0x12) => "a magazine is out".to_owned(),
        _ => format!("it is not ready: {sense}"),
    }
}

/// What became of a move.
#[derive(Debug)]
pub enum Moved {
    /// The cartridge is where it was to get.
    Done,
    /// The robot takes no commands now; nothing was moved.
    Later,
    /// It was not moved.
    No(Fault),
}

/// Moves a cartridge. The elements are read before, and again after: the robot's word alone is not enough.
pub fn carry(changer: &mut dyn Changer, work: &MoveWork) -> Result<Moved, Error> {
    let (Ok(from), Ok(to)) = (
        u16::try_from(work.from_address),
        u16::try_from(work.to_address),
    ) else {
        return Ok(Moved::No(elsewhere(work, "there is no such element")));
    };
    if pause(changer)?.is_some() {
        return Ok(Moved::Later);
    }
    let before = Places::read(changer)?;
    // A move that was done by a process that died before it could say so.
    if before.holds(to, &work.barcode) && !before.holds(from, &work.barcode) {
        return Ok(Moved::Done);
    }
    if !before.holds(from, &work.barcode) {
        return Ok(Moved::No(elsewhere(work, &before.words(from))));
    }
    if before.is_full(to) {
        return Ok(Moved::No(elsewhere(work, &before.words(to))));
    }
    match changer.move_medium(from, to) {
        Ok(()) => {}
        Err(error @ (Error::SourceEmpty | Error::DestinationFull)) => {
            let now = Places::read(changer)?;
            let what = format!("{error}: {}, {}", now.words(from), now.words(to));
            return Ok(Moved::No(elsewhere(work, &what)));
        }
        Err(error) => return Err(error),
    }
    let after = Places::read(changer)?;
    if after.holds(to, &work.barcode) && !after.is_full(from) {
        return Ok(Moved::Done);
    }
    Ok(Moved::No(fault(
        "MOVE_UNPROVED",
        format!(
            "the robot says that it moved cartridge {}, but {} and {}",
            work.barcode,
            after.words(from),
            after.words(to)
        ),
        "look into the library; `taf library inventory` has it look at its elements anew",
    )))
}

fn elsewhere(work: &MoveWork, what: &str) -> Fault {
    fault(
        "CARTRIDGE_MOVED",
        format!("cartridge {} is not where it was: {what}", work.barcode),
        "run again; `taf library` shows where everything is",
    )
}

/// Elements as they are now.
struct Places(Vec<Element>);

impl Places {
    fn read(changer: &mut dyn Changer) -> Result<Places, Error> {
        Ok(Places(observation(&changer.inventory()?, &[]).elements))
    }

    fn at(&self, address: u16) -> Option<&Element> {
        self.0.iter().find(|e| e.address == u32::from(address))
    }

    fn is_full(&self, address: u16) -> bool {
        self.at(address).is_some_and(|e| e.full)
    }

    /// Whether this cartridge is there; any, if it has no barcode.
    fn holds(&self, address: u16, barcode: &str) -> bool {
        self.at(address)
            .is_some_and(|e| e.full && (barcode.is_empty() || e.barcode == barcode))
    }

    fn words(&self, address: u16) -> String {
        match self.at(address) {
            None => format!("there is no element {address}"),
            Some(e) if !e.full => format!("element {address} is empty"),
            Some(e) if e.barcode.is_empty() => {
                format!("element {address} holds a cartridge without a readable barcode")
            }
            Some(e) => format!("element {address} holds {}", e.barcode),
        }
    }
}

#[cfg(test)]
#[path = "robot/tests.rs"]
mod tests;
