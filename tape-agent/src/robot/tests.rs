#![allow(clippy::unwrap_used)]
use super::*;
use taf_drive::Identity;
use taf_drive::changer::DriveElement;
use taf_scsi::sense::Key;

/// A library that does what a test says.
struct Playing {
    inventory: Inventory,
    closed: bool,
    refuse: Option<Error>,
    lies: bool,
}

fn slot(address: u16, barcode: &str) -> SlotElement {
    SlotElement {
        address,
        full: !barcode.is_empty(),
        accessible: true,
        barcode: Some(barcode.to_owned()).filter(|b| !b.is_empty()),
        exception: None,
    }
}

fn playing() -> Playing {
    Playing {
        inventory: Inventory {
            slots: vec![slot(1000, "A"), slot(1001, ""), slot(1002, "B")],
            ..Inventory::default()
        },
        closed: true,
        refuse: None,
        lies: false,
    }
}

impl Changer for Playing {
    fn identity(&self) -> &Identity {
        unimplemented!("nobody asks for it")
    }
    fn attentions(&mut self) -> Result<Vec<Sense>, Error> {
        Ok(Vec::new())
    }
    fn ready(&mut self) -> Result<(), Error> {
        if self.closed {
            return Ok(());
        }
        Err(Error::NotReady(Sense::new(Key::NotReady, code::DOOR_OPEN)))
    }
    fn inventory(&mut self) -> Result<Inventory, Error> {
        Ok(self.inventory.clone())
    }
    fn scan(&mut self) -> Result<(), Error> {
        Ok(())
    }
    fn move_medium(&mut self, from: u16, to: u16) -> Result<(), Error> {
        if let Some(error) = self.refuse.take() {
            return Err(error);
        }
        if self.lies {
            return Ok(());
        }
        let slots = &mut self.inventory.slots;
        let at = |address| slots.iter().position(|s| s.address == address).unwrap();
        let (from, to) = (at(from), at(to));
        let barcode = slots[from].barcode.take();
        slots[from].full = false;
        slots[to].full = true;
        slots[to].barcode = barcode;
        Ok(())
    }
}

fn work(barcode: &str, from_address: u32, to_address: u32) -> MoveWork {
    MoveWork {
        barcode: barcode.into(),
        from_address,
        to_address,
    }
}

fn refused(library: &mut Playing, work: &MoveWork) -> Fault {
    match carry(library, work).unwrap() {
        Moved::No(fault) => fault,
        other => panic!("must be refused: {other:?}"),
    }
}

#[test]
fn a_move_is_proved_by_the_elements() {
    let mut library = playing();
    let work = work("A", 1000, 1001);
    assert!(matches!(carry(&mut library, &work).unwrap(), Moved::Done));
    // Asked again, by a controller that did not hear the answer.
    assert!(matches!(carry(&mut library, &work).unwrap(), Moved::Done));
    let mut liar = Playing {
        lies: true,
        ..playing()
    };
    let fault = refused(&mut liar, &work);
    assert_eq!(fault.reason, "MOVE_UNPROVED");
    assert!(
        fault.message.contains("element 1000 holds A"),
        "{}",
        fault.message
    );
}

#[test]
fn full_and_empty_elements_are_said() {
    let message = |library: &mut Playing, work: &MoveWork| refused(library, work).message;
    let taken = message(&mut playing(), &work("A", 1000, 1002));
    assert!(taken.ends_with("element 1002 holds B"), "{taken}");
    let gone = message(&mut playing(), &work("C", 1001, 1000));
    assert!(gone.ends_with("element 1001 is empty"), "{gone}");
    let mut stubborn = Playing {
        refuse: Some(Error::DestinationFull),
        ..playing()
    };
    let fault = refused(&mut stubborn, &work("A", 1000, 1001));
    assert_eq!(fault.reason, "CARTRIDGE_MOVED");
    assert!(
        fault.message.contains("destination element is full"),
        "{}",
        fault.message
    );
}

#[test]
fn behind_an_open_door_nothing_is_moved_and_nothing_is_given_up() {
    let mut open = Playing {
        closed: false,
        ..playing()
    };
    let moved = carry(&mut open, &work("A", 1000, 1001)).unwrap();
    assert!(matches!(moved, Moved::Later));
    assert!(open.inventory.slots[0].full);
    assert_eq!(pause(&mut open).unwrap().unwrap(), "its door is open");
}

#[test]
fn a_drive_whose_serial_number_is_not_told_is_known_by_its_seat() {
    let drive = |address, serial: Option<&str>| DriveElement {
        address,
        serial: serial.map(str::to_owned),
        full: false,
        accessible: false,
        barcode: None,
        source_slot: None,
        exception: None,
    };
    let inventory = Inventory {
        drives: vec![drive(256, None), drive(257, Some("TOLD")), drive(258, None)],
        ..Inventory::default()
    };
    let seats = BTreeMap::from([("SEATED".to_owned(), 256), ("OTHER".to_owned(), 257)]);
    let shown = observation(&inventory, &Seat::list(&seats)).elements;
    let serials: Vec<&str> = shown.iter().map(|e| e.drive_serial.as_str()).collect();
    assert_eq!(
        serials,
        ["SEATED", "TOLD", ""],
        "the library's own word goes first"
    );
}

#[test]
fn what_is_abnormal_is_shown_in_words() {
    let mut inventory = playing().inventory;
    inventory.slots[1].exception = Some((0x3b, 0x11));
    inventory.slots[2].accessible = false;
    inventory.picker_exception = Some((0x83, 0x02));
    let shown = observation(&inventory, &[]);
    let said: Vec<&str> = shown
        .elements
        .iter()
        .map(|e| e.exception.as_str())
        .collect();
    assert_eq!(
        said,
        [
            "",
            "the magazine is not accessible (3B/11)",
            "the robot can't reach it"
        ]
    );
    assert_eq!(shown.picker_exception, "an abnormal state (83/02)");
}
