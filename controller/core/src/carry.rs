//! How a cartridge gets to where an operator wants it outside a drive: into a slot, out of a drive, to a mail slot.
//!
//! As in [`crate::mount`] no sequence is remembered: the next step follows from what the library shows now. A
//! cartridge without a readable barcode is known by the element that it was in when it was asked for.

use crate::Fault;
use crate::mount::{self, Element, ElementKind, Medium, Move, Step};

/// Where a cartridge is to get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// Into this element.
    Element(u32),
    /// Out of the drive or mail slot that it is in, into a storage slot: where it came from, or any.
    Slot,
    /// Into a mail slot.
    MailSlot,
}

/// A cartridge to carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cartridge<'a> {
    /// Its barcode; empty if it has none that can be read.
    pub barcode: &'a str,
    /// The element that it was in when this was asked for.
    pub from: Option<u32>,
    /// Whether a step towards the end has been taken.
    pub moved: bool,
}

/// Decides the next step for a cartridge to get there. `drive` is the drive that may be used for it, with what that one
/// says of its medium; [`Step::Work`] means that it is there.
pub fn next(
    cartridge: &Cartridge<'_>,
    to: To,
    drive: Option<(&str, Medium)>,
    elements: &[Element],
) -> Result<Step, Fault> {
    let Some(place) = find(cartridge, elements)? else {
        return Ok(Step::Work);
    };
    let is_there = match to {
        To::Element(address) => place.address == address,
        To::Slot => place.kind == ElementKind::Slot,
        To::MailSlot => place.kind == ElementKind::MailSlot,
    };
    if is_there {
        return Ok(Step::Work);
    }
    if place.kind == ElementKind::Drive {
        let held = drive.filter(|(serial, _)| place.drive_serial.as_deref() == Some(serial));
        let Some((_, medium)) = held else {
            return Err(Fault::new(
                "VOLUME_IN_OTHER_DRIVE",
                format!(
                    "cartridge {} is in a drive that this job does not hold",
                    named(place)
                ),
                "run again when the drive is free",
            ));
        };
        if medium != Medium::Unloaded {
            return Ok(Step::Unload);
        }
    }
    let target = match to {
        To::Element(address) => elements
            .iter()
            .find(|e| e.address == address)
            .ok_or_else(|| no_element(address))?,
        To::Slot => home(place, elements).ok_or_else(no_slot)?,
        To::MailSlot => free(ElementKind::MailSlot, elements).ok_or_else(|| mail_full(elements))?,
    };
    if target.full {
        return Err(Fault::new(
            "ELEMENT_FULL",
            format!(
                "there is a cartridge in element {} already: {}",
                target.address,
                named(target)
            ),
            "choose an empty one; `taf library` shows what is where",
        ));
    }
    if let Some(what) = &target.exception {
        return Err(Fault::new(
            "ELEMENT_UNUSABLE",
            format!("the library reports of element {}: {what}", target.address),
            "look at the library's own panel, or choose another element",
        ));
    }
    Ok(Step::Carry(Move {
        barcode: place.barcode.clone().unwrap_or_default(),
        from: place.address,
        to: target.address,
    }))
}

/// Where the cartridge is. None for one without a barcode that has left its element by our own move.
fn find<'a>(
    cartridge: &Cartridge<'_>,
    elements: &'a [Element],
) -> Result<Option<&'a Element>, Fault> {
    if cartridge.barcode.is_empty() {
        let from = cartridge.from.unwrap_or_default();
        let place = elements.iter().find(|e| e.address == from);
        return match place.ok_or_else(|| no_element(from))? {
            place if place.full && !cartridge.moved => Ok(Some(place)),
            _ if cartridge.moved => Ok(None),
            _ => Err(Fault::new(
                "ELEMENT_EMPTY",
                format!("there is no cartridge in element {from}"),
                "`taf library` shows what is where",
            )),
        };
    }
    let mut places = elements
        .iter()
        .filter(|e| e.full && e.barcode.as_deref() == Some(cartridge.barcode));
    // Of two with one barcode the one that was asked for by its place is meant.
    let asked = cartridge
        .from
        .filter(|_| !cartridge.moved)
        .and_then(|from| places.clone().find(|e| e.address == from));
    if asked.is_some() {
        return Ok(asked);
    }
    let place = places
        .next()
        .ok_or_else(|| mount::not_there(cartridge.barcode))?;
    if places.next().is_some() {
        // A twin that was asked for by its place has left it by our own move.
        return if cartridge.moved && cartridge.from.is_some() {
            Ok(None)
        } else {
            Err(mount::twice(cartridge.barcode))
        };
    }
    Ok(Some(place))
}

/// The slot for what is in `place`: the one that it came from if that is free, else any.
pub(crate) fn home<'a>(place: &Element, elements: &'a [Element]) -> Option<&'a Element> {
    elements
        .iter()
        .filter(|e| is_free(e, ElementKind::Slot))
        .find(|e| Some(e.address) == place.source_address)
        .or_else(|| free(ElementKind::Slot, elements))
}

/// The first free and sound element of a kind.
pub fn free(kind: ElementKind, elements: &[Element]) -> Option<&Element> {
    elements.iter().find(|e| is_free(e, kind))
}

fn is_free(element: &Element, kind: ElementKind) -> bool {
    element.kind == kind && !element.full && element.exception.is_none()
}

fn named(element: &Element) -> &str {
    match element.barcode.as_deref() {
        Some(barcode) if element.full => barcode,
        _ => "without a readable barcode",
    }
}

/// No such element.
pub fn no_element(address: u32) -> Fault {
    Fault::new(
        "NO_SUCH_ELEMENT",
        format!("the library has no element {address}"),
        "`taf library` shows the addresses of slots, mail slots and drives",
    )
}

/// All storage slots are taken.
pub(crate) fn no_slot() -> Fault {
    Fault::new(
        "NO_EMPTY_SLOT",
        "the library has no empty slot for the cartridge",
        "export a cartridge with `taf library export` and run again",
    )
}

/// Mail slots are missing or taken; the texts name what is in them.
pub(crate) fn mail_full(elements: &[Element]) -> Fault {
    let inside: Vec<&str> = elements
        .iter()
        .filter(|e| e.kind == ElementKind::MailSlot && e.full)
        .map(named)
        .collect();
    if inside.is_empty() {
        return Fault::new(
            "NO_MAIL_SLOT",
            "the library has no mail slot that can be used",
            "take the cartridge out by the library's door",
        );
    }
    Fault::new(
        "MAIL_SLOTS_FULL",
        format!("the mail slots are full: {}", inside.join(", ")),
        "take the cartridges out of the mail slots",
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn element(kind: ElementKind, address: u32, barcode: Option<&str>) -> Element {
        Element {
            kind,
            address,
            full: barcode.is_some(),
            barcode: barcode.filter(|b| !b.is_empty()).map(str::to_owned),
            drive_serial: (kind == ElementKind::Drive).then(|| "D1".to_owned()),
            source_address: None,
            exception: None,
        }
    }

    fn site() -> Vec<Element> {
        vec![
            Element {
                source_address: Some(1001),
                ..element(ElementKind::Drive, 256, Some("B"))
            },
            element(ElementKind::Slot, 1000, Some("A")),
            element(ElementKind::Slot, 1001, None),
            element(ElementKind::Slot, 1002, None),
            element(ElementKind::MailSlot, 10, None),
        ]
    }

    fn cartridge(barcode: &str) -> Cartridge<'_> {
        Cartridge {
            barcode,
            from: None,
            moved: false,
        }
    }

    fn carried(step: Step) -> (u32, u32) {
        match step {
            Step::Carry(m) => (m.from, m.to),
            other => panic!("no move: {other:?}"),
        }
    }

    #[test]
    fn an_export_goes_to_a_free_mail_slot() {
        let step = next(&cartridge("A"), To::MailSlot, None, &site()).unwrap();
        assert_eq!(carried(step), (1000, 10));
        let mut full = site();
        full[4] = element(ElementKind::MailSlot, 10, Some("X"));
        let fault = next(&cartridge("A"), To::MailSlot, None, &full).unwrap_err();
        assert_eq!(fault.reason, "MAIL_SLOTS_FULL");
        assert!(fault.message.contains('X'), "{}", fault.message);
        assert_eq!(
            next(&cartridge("X"), To::MailSlot, None, &full).unwrap(),
            Step::Work
        );
    }

    #[test]
    fn what_is_in_a_drive_is_unloaded_first_and_goes_home() {
        let in_drive = |medium| next(&cartridge("B"), To::Slot, Some(("D1", medium)), &site());
        assert_eq!(in_drive(Medium::Loaded).unwrap(), Step::Unload);
        assert_eq!(carried(in_drive(Medium::Unloaded).unwrap()), (256, 1001));
        let fault = next(&cartridge("B"), To::Slot, None, &site()).unwrap_err();
        assert_eq!(fault.reason, "VOLUME_IN_OTHER_DRIVE");
    }

    #[test]
    fn a_cartridge_without_a_barcode_is_known_by_its_element() {
        let mut elements = site();
        elements[4] = element(ElementKind::MailSlot, 10, Some(""));
        let asked = Cartridge {
            from: Some(10),
            ..cartridge("")
        };
        let step = next(&asked, To::Slot, None, &elements).unwrap();
        assert_eq!(carried(step), (10, 1001));
        let moved = Cartridge {
            moved: true,
            ..asked
        };
        assert_eq!(next(&moved, To::Slot, None, &site()).unwrap(), Step::Work);
        let fault = next(&asked, To::Slot, None, &site()).unwrap_err();
        assert_eq!(fault.reason, "ELEMENT_EMPTY");
    }

    #[test]
    fn of_two_with_one_barcode_the_one_at_the_place_asked_for_is_moved() {
        let mut elements = site();
        elements[2] = element(ElementKind::Slot, 1001, Some("A"));
        assert_eq!(
            next(&cartridge("A"), To::MailSlot, None, &elements)
                .unwrap_err()
                .reason,
            "BARCODE_TWICE"
        );
        let asked = Cartridge {
            from: Some(1001),
            ..cartridge("A")
        };
        let step = next(&asked, To::MailSlot, None, &elements).unwrap();
        assert_eq!(carried(step), (1001, 10));
    }

    #[test]
    fn what_is_full_or_broken_is_refused() {
        let fault = |to, elements: &[Element]| {
            next(&cartridge("A"), To::Element(to), None, elements)
                .unwrap_err()
                .reason
        };
        assert_eq!(fault(256, &site()), "ELEMENT_FULL");
        assert_eq!(fault(77, &site()), "NO_SUCH_ELEMENT");
        let mut broken = site();
        broken[2].exception = Some("a cartridge is stuck".into());
        assert_eq!(fault(1001, &broken), "ELEMENT_UNUSABLE");
        let home = home(&broken[0], &broken).unwrap();
        assert_eq!(home.address, 1002, "a broken home is not used");
    }
}
