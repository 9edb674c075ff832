//! How a volume comes into a drive: one move after another, each decided from what the library shows now.
//!
//! No sequence is remembered. Whatever a person or a crash did in between, the next step follows from the
//! newest inventory.

use crate::{Fault, carry};

/// What a library element is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElementKind {
    /// A storage slot.
    Slot,
    /// Where people put cartridges in and take them out.
    MailSlot,
    /// A drive.
    Drive,
}

/// One element of the library, as it was last read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// What it is.
    pub kind: ElementKind,
    /// Element address, unique in the library.
    pub address: u32,
    /// Whether something is in it.
    pub full: bool,
    /// Barcode of what is in it, if it could be read.
    pub barcode: Option<String>,
    /// Serial number of a drive element.
    pub drive_serial: Option<String>,
    /// Where what is in a drive came from.
    pub source_address: Option<u32>,
    /// What the library says is wrong with it, for people.
    pub exception: Option<String>,
}

/// What a drive says of its medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Medium {
    /// Not known.
    Unknown,
    /// Nothing in it.
    Empty,
    /// Threaded: the robot can't take it.
    Loaded,
    /// Unloaded: the robot may take it.
    Unloaded,
}

/// One move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// The cartridge.
    pub barcode: String,
    /// Element address it is at.
    pub from: u32,
    /// Element address it goes to.
    pub to: u32,
}

/// The next step towards having the volume in the drive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The drive is to unload the other cartridge that is in it.
    Unload,
    /// The robot is to take the other cartridge out.
    Clear(Move),
    /// The robot is to bring the volume.
    Mount(Move),
    /// The robot is to carry the cartridge to where it is wanted outside a drive.
    Carry(Move),
    /// The cleaning cartridge is in the drive: it is to clean itself.
    Clean,
    /// The robot is to look at all its elements anew.
    Scan,
    /// The volume is in the drive, or the cartridge where it was to get.
    Work,
}

impl Step {
    /// Whether the robot takes it.
    pub fn is_robots(&self) -> bool {
        matches!(
            self,
            Step::Clear(_) | Step::Mount(_) | Step::Carry(_) | Step::Scan
        )
    }
}

/// Decides the next step for `barcode` to be in the drive `serial`, or says why it can't get there.
pub fn next(
    barcode: &str,
    serial: &str,
    medium: Medium,
    elements: &[Element],
) -> Result<Step, Fault> {
    let drive = elements
        .iter()
        .find(|e| e.kind == ElementKind::Drive && e.drive_serial.as_deref() == Some(serial))
        .ok_or_else(|| not_in_library(serial))?;
    if drive.full && drive.barcode.as_deref() == Some(barcode) {
        return Ok(Step::Work);
    }
    if drive.full {
        return take_out(drive, medium, elements);
    }
    let mut places = elements
        .iter()
        .filter(|e| e.full && e.barcode.as_deref() == Some(barcode));
    let place = places.next().ok_or_else(|| not_there(barcode))?;
    if places.next().is_some() {
        return Err(twice(barcode));
    }
    if place.kind == ElementKind::Drive {
        return Err(Fault::new(
            "VOLUME_IN_OTHER_DRIVE",
            format!("volume {barcode} is in another drive"),
            "run again; the next run uses the drive that it is in",
        ));
    }
    Ok(Step::Mount(Move {
        barcode: barcode.to_owned(),
        from: place.address,
        to: drive.address,
    }))
}

/// The cartridge is gone.
pub(crate) fn not_there(barcode: &str) -> Fault {
    Fault::new(
        "VOLUME_NOT_IN_LIBRARY",
        format!("volume {barcode} is not in the library any more"),
        "put it into a slot of the library and run again",
    )
}

/// Two cartridges can't be told apart.
pub(crate) fn twice(barcode: &str) -> Fault {
    Fault::new(
        "BARCODE_TWICE",
        format!("the library shows two cartridges with barcode {barcode}"),
        "take one of them out and run again",
    )
}

/// No library shows the drive.
pub(crate) fn not_in_library(serial: &str) -> Fault {
    Fault::new(
        "DRIVE_NOT_IN_LIBRARY",
        format!("no library shows a drive with serial number {serial}"),
        "check the library's own panel and that its tape agent drives both; `taf library` shows what it reports",
    )
}

fn take_out(drive: &Element, medium: Medium, elements: &[Element]) -> Result<Step, Fault> {
    if medium != Medium::Unloaded {
        return Ok(Step::Unload);
    }
    let home = carry::home(drive, elements).ok_or_else(carry::no_slot)?;
    Ok(Step::Clear(Move {
        barcode: drive.barcode.clone().unwrap_or_default(),
        from: drive.address,
        to: home.address,
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn slot(address: u32, barcode: Option<&str>) -> Element {
        Element {
            kind: ElementKind::Slot,
            address,
            full: barcode.is_some(),
            barcode: barcode.map(str::to_owned),
            drive_serial: None,
            source_address: None,
            exception: None,
        }
    }

    fn drive(barcode: Option<&str>, from: Option<u32>) -> Element {
        Element {
            kind: ElementKind::Drive,
            drive_serial: Some("D1".into()),
            source_address: from,
            ..slot(256, barcode)
        }
    }

    #[test]
    fn an_empty_drive_gets_the_volume() {
        let elements = [drive(None, None), slot(1000, Some("A")), slot(1001, None)];
        let step = next("A", "D1", Medium::Empty, &elements).unwrap();
        assert_eq!(
            step,
            Step::Mount(Move {
                barcode: "A".into(),
                from: 1000,
                to: 256
            })
        );
    }

    #[test]
    fn another_cartridge_is_unloaded_then_taken_home() {
        let elements = [
            drive(Some("B"), Some(1001)),
            slot(1000, Some("A")),
            slot(1001, None),
        ];
        assert_eq!(
            next("A", "D1", Medium::Loaded, &elements).unwrap(),
            Step::Unload
        );
        let step = next("A", "D1", Medium::Unloaded, &elements).unwrap();
        assert_eq!(
            step,
            Step::Clear(Move {
                barcode: "B".into(),
                from: 256,
                to: 1001
            })
        );
    }

    #[test]
    fn a_cartridge_whose_slot_was_taken_goes_to_any_empty_one() {
        let elements = [
            drive(Some("B"), Some(1000)),
            slot(1000, Some("A")),
            slot(1002, None),
        ];
        let step = next("A", "D1", Medium::Unloaded, &elements).unwrap();
        assert!(matches!(step, Step::Clear(Move { to: 1002, .. })));
    }

    #[test]
    fn what_can_not_be_done_says_why() {
        let full = [
            drive(Some("B"), None),
            slot(1000, Some("A")),
            slot(1001, Some("C")),
        ];
        let fault = next("A", "D1", Medium::Unloaded, &full).unwrap_err();
        assert_eq!(fault.reason, "NO_EMPTY_SLOT");
        let fault = next("Z", "D1", Medium::Empty, &[drive(None, None)]).unwrap_err();
        assert_eq!(fault.reason, "VOLUME_NOT_IN_LIBRARY");
        let twice = [drive(None, None), slot(1, Some("A")), slot(2, Some("A"))];
        let fault = next("A", "D1", Medium::Empty, &twice).unwrap_err();
        assert_eq!(fault.reason, "BARCODE_TWICE");
        let fault = next("A", "D2", Medium::Empty, &full).unwrap_err();
        assert_eq!(fault.reason, "DRIVE_NOT_IN_LIBRARY");
    }

    #[test]
    fn steps_lead_to_work_from_any_start() {
        // Plays the steps against a model of the robot; every start must end in Work within four steps.
        for start in 0..8_u32 {
            let mut elements = vec![
                drive((start & 1 == 1).then_some("B"), Some(1001)),
                slot(1000, Some("A")),
                slot(1001, (start & 2 == 2).then_some("C")),
                slot(1002, None),
            ];
            let mut medium = if start & 4 == 4 {
                Medium::Unloaded
            } else {
                Medium::Unknown
            };
            let mut done = false;
            for _ in 0..4 {
                match next("A", "D1", medium, &elements).unwrap() {
                    Step::Work => {
                        done = true;
                        break;
                    }
                    Step::Unload => medium = Medium::Unloaded,
                    Step::Carry(_) | Step::Clean | Step::Scan => {
                        panic!("a mount needs none of these")
                    }
                    Step::Clear(m) | Step::Mount(m) => {
                        for e in &mut elements {
                            if e.address == m.from {
                                e.full = false;
                                e.barcode = None;
                            }
                            if e.address == m.to {
                                assert!(!e.full);
                                e.full = true;
                                e.barcode = Some(m.barcode.clone());
                            }
                        }
                    }
                }
            }
            assert!(done, "start {start}");
        }
    }
}
