//! The steps of a library. Every cartridge is brought back to where it was, also when a step fails.

use std::collections::HashSet;

use super::{Fault, OpenBay, OpenChanger, Outcome, Step, ensure, lacking};
use crate::changer::{Changer, DriveElement, Inventory};
use crate::{Drive, Error, Readiness};

type Check = fn(&mut Floor) -> Outcome;

const STEPS: [(&str, Check); 13] = [
    ("the library says who it is", identity),
    ("its news are told once", news),
    ("every element has an address of its own", addresses),
    ("it names its picker", picker),
    ("every cartridge has a barcode of its own", barcodes),
    ("drives are named by serial number", serials),
    ("what did not move is where it was", steady),
    ("a cartridge goes to a free slot and back", slots),
    ("a full element takes nothing more", full),
    ("an empty element gives nothing", empty),
    ("an address that isn't there is refused", nowhere),
    (
        "a cartridge goes into a drive, which has it, and back",
        into_a_drive,
    ),
    ("looking at all elements anew finds the same", scan),
];

/// The library on the floor.
struct Floor<'a, 'b> {
    changer: Box<dyn Changer>,
    bay: &'a mut OpenBay<'b>,
}

pub(super) fn run(open: &mut OpenChanger, bay: &mut OpenBay) -> Result<Vec<Step>, Error> {
    let mut floor = Floor {
        changer: open()?,
        bay,
    };
    let report = STEPS
        .into_iter()
        .map(|(name, check)| Step::new(name, check(&mut floor)))
        .collect();
    Ok(report)
}

/// Makes a drive let go of its cartridge, so that a robot may take it.
pub(super) fn let_go(drive: &mut dyn Drive) -> Result<(), Error> {
    drive.attentions()?;
    match drive.ready()? {
        Readiness::NoMedium => Ok(()),
        _ => drive.unload(),
    }
}

impl Floor<'_, '_> {
    fn inventory(&mut self) -> Result<Inventory, Error> {
        self.changer.inventory()
    }

    /// The address of a slot with a cartridge, and its barcode.
    fn cartridge(&mut self) -> Result<(u16, Option<String>), Fault> {
        let slots = self.inventory()?.slots;
        match slots.into_iter().find(|slot| slot.full) {
            Some(slot) => Ok((slot.address, slot.barcode)),
            None => lacking("no slot holds a cartridge"),
        }
    }

    fn free_slot(&mut self) -> Result<u16, Fault> {
        let slots = self.inventory()?.slots;
        match slots.into_iter().find(|slot| !slot.full) {
            Some(slot) => Ok(slot.address),
            None => lacking("no slot is free"),
        }
    }

    /// A move that must be refused, by this error, and change nothing.
    fn expect_refusal(&mut self, from: u16, to: u16, by: fn(&Error) -> bool) -> Outcome {
        let before = self.inventory()?;
        let outcome = self.changer.move_medium(from, to);
        ensure(self.inventory()? == before, || {
            format!("moving from {from} to {to} ended with {outcome:?} and changed something")
        })?;
        match outcome {
            Err(error) if by(&error) => Ok(()),
            Err(Error::IllegalRequest(sense)) => lacking(format!("it only says: {sense}")),
            other => Err(Fault::Failed(format!(
                "moving from {from} to {to}: {other:?}"
            ))),
        }
    }
}

fn identity(floor: &mut Floor) -> Outcome {
    let identity = floor.changer.identity();
    ensure(
        !identity.vendor.is_empty() && !identity.product.is_empty(),
        || format!("{identity:?}"),
    )?;
    if identity.serial.is_none() {
        return lacking("no serial number");
    }
    Ok(())
}

fn news(floor: &mut Floor) -> Outcome {
    floor.changer.attentions()?;
    let again = floor.changer.attentions()?;
    ensure(again.is_empty(), || {
        format!("twice the same news: {again:?}")
    })?;
    Ok(floor.changer.ready()?)
}

fn addresses(floor: &mut Floor) -> Outcome {
    let inventory = floor.inventory()?;
    ensure(
        !inventory.drives.is_empty() && !inventory.slots.is_empty(),
        || format!("no drives or no slots: {inventory:?}"),
    )?;
    let slots = inventory.slots.iter().chain(&inventory.mail_slots);
    let mut all = HashSet::new();
    for address in slots
        .map(|slot| slot.address)
        .chain(inventory.drives.iter().map(|drive| drive.address))
    {
        ensure(all.insert(address), || {
            format!("element {address} is there twice")
        })?;
    }
    Ok(())
}

fn picker(floor: &mut Floor) -> Outcome {
    if floor.inventory()?.picker.is_none() {
        return lacking("its default one is used");
    }
    Ok(())
}

fn barcodes(floor: &mut Floor) -> Outcome {
    let inventory = floor.inventory()?;
    let mut seen = HashSet::new();
    for slot in inventory.slots.iter().filter(|slot| slot.full) {
        match &slot.barcode {
            None => return lacking(format!("the cartridge in slot {} has none", slot.address)),
            Some(barcode) if !seen.insert(barcode) => {
                return lacking(format!("{barcode} is there twice"));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn serials(floor: &mut Floor) -> Outcome {
    let inventory = floor.inventory()?;
    let nameless: Vec<String> = inventory
        .drives
        .iter()
        .filter(|drive| drive.serial.is_none())
        .map(|drive| drive.address.to_string())
        .collect();
    if nameless.is_empty() {
        return Ok(());
    }
    lacking(format!(
        "not told for the drives at {}",
        nameless.join(", ")
    ))
}

fn steady(floor: &mut Floor) -> Outcome {
    let before = floor.inventory()?;
    let after = floor.inventory()?;
    ensure(before == after, || format!("{before:?}, then {after:?}"))
}

fn slots(floor: &mut Floor) -> Outcome {
    let before = floor.inventory()?;
    let (home, barcode) = floor.cartridge()?;
    let free = floor.free_slot()?;
    floor.changer.move_medium(home, free)?;
    let between = floor.inventory()?;
    floor.changer.move_medium(free, home)?;
    let there = between.slots.iter().find(|slot| slot.address == free);
    ensure(
        there.is_some_and(|slot| slot.full && slot.barcode == barcode),
        || format!("moved to {free}, but there is {there:?}"),
    )?;
    let left = between.slots.iter().find(|slot| slot.address == home);
    ensure(
        left.is_some_and(|slot| !slot.full && slot.barcode.is_none()),
        || format!("moved from {home}, but there is {left:?}"),
    )?;
    let after = floor.inventory()?;
    ensure(after == before, || format!("{before:?}, then {after:?}"))
}

fn full(floor: &mut Floor) -> Outcome {
    let full: Vec<u16> = floor
        .inventory()?
        .slots
        .iter()
        .filter(|slot| slot.full)
        .map(|slot| slot.address)
        .collect();
    let [one, other, ..] = full[..] else {
        return lacking("there are no two cartridges");
    };
    floor.expect_refusal(one, other, |error| matches!(error, Error::DestinationFull))
}

fn empty(floor: &mut Floor) -> Outcome {
    let free = floor.free_slot()?;
    let slots = floor.inventory()?.slots;
    let other = slots.iter().find(|slot| !slot.full && slot.address != free);
    let Some(other) = other else {
        return lacking("no two slots are free");
    };
    floor.expect_refusal(free, other.address, |error| {
        matches!(error, Error::SourceEmpty)
    })
}

fn nowhere(floor: &mut Floor) -> Outcome {
    let (home, _) = floor.cartridge()?;
    let inventory = floor.inventory()?;
    let used: HashSet<u16> = inventory
        .slots
        .iter()
        .chain(&inventory.mail_slots)
        .map(|slot| slot.address)
        .chain(inventory.drives.iter().map(|drive| drive.address))
        .collect();
    let Some(nowhere) = (1..u16::MAX).rev().find(|address| !used.contains(address)) else {
        return lacking("every address is an element's");
    };
    floor.expect_refusal(home, nowhere, |error| {
        matches!(
            error,
            Error::IllegalRequest(_) | Error::SourceEmpty | Error::DestinationFull
        )
    })
}

fn into_a_drive(floor: &mut Floor) -> Outcome {
    let before = floor.inventory()?;
    let (home, barcode) = floor.cartridge()?;
    let mut last = None;
    for bay in before.drives.iter().filter(|drive| !drive.full) {
        let mut drive = match (floor.bay)(bay) {
            Ok(drive) => drive,
            Err(error) => {
                last = Some(error);
                continue;
            }
        };
        let outcome = there_and_back(floor, drive.as_mut(), bay, home, barcode.as_deref());
        drop(drive);
        let after = floor.inventory()?;
        ensure(after == before, || format!("{before:?}, then {after:?}"))?;
        return outcome;
    }
    match last {
        Some(error) => lacking(format!(
            "none of its drives can be opened from here ({error})"
        )),
        None => lacking("no drive is free"),
    }
}

fn there_and_back(
    floor: &mut Floor,
    drive: &mut dyn Drive,
    bay: &DriveElement,
    home: u16,
    barcode: Option<&str>,
) -> Outcome {
    drive.attentions()?;
    let empty = drive.ready()?;
    floor.changer.move_medium(home, bay.address)?;
    let between = floor.inventory();
    // A drive may say that it has another medium now.
    let seen = drive.attentions().and_then(|_| drive.ready());
    let let_go = let_go(drive);
    floor.changer.move_medium(bay.address, home)?;
    let_go?;
    ensure(empty == Readiness::NoMedium, || {
        format!("the library calls the drive empty, which itself is {empty:?}")
    })?;
    let seen = seen?;
    ensure(seen != Readiness::NoMedium, || {
        "the cartridge is in the drive, which says that it has none".into()
    })?;
    let between = between?;
    let there = between
        .drives
        .iter()
        .find(|drive| drive.address == bay.address);
    ensure(
        there.is_some_and(|there| there.full && there.barcode.as_deref() == barcode),
        || format!("moved to {}, but there is {there:?}", bay.address),
    )?;
    match there.and_then(|there| there.source_slot) {
        Some(source) if source == home => Ok(()),
        Some(source) => Err(Fault::Failed(format!(
            "it came from slot {home}, not from {source}"
        ))),
        None => lacking("the library doesn't say which slot the cartridge came from"),
    }
}

fn scan(floor: &mut Floor) -> Outcome {
    let before = floor.inventory()?;
    match floor.changer.scan() {
        Ok(()) => {}
        Err(Error::IllegalRequest(sense)) => return lacking(sense.to_string()),
        Err(error) => return Err(error.into()),
    }
    let after = floor.inventory()?;
    ensure(before == after, || format!("{before:?}, then {after:?}"))
}
