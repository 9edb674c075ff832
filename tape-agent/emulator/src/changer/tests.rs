#![allow(clippy::unwrap_used, missing_docs)]

use taf_scsi::cdb;
use taf_scsi::status;
use tempfile::TempDir;

use super::*;
use crate::faults::Fault;
use crate::library::{self, Library, NewCartridge, Spec};

struct Bench {
    library: Library,
    dir: TempDir,
}

const SLOT: u16 = SLOTS_AT;
const DRIVE: u16 = DRIVES_AT;

impl Bench {
    /// Two drives, four slots, a mail slot, cartridges A and B.
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let spec = Spec {
            mail_slots: 1,
            ..Spec::new(2, 4, 1 << 20)
        };
        Library::create(dir.path(), &spec).unwrap();
        for barcode in ["A", "B"] {
            library::add(dir.path(), barcode, &NewCartridge::default()).unwrap();
        }
        let library = Library::open(dir.path()).unwrap();
        let mut bench = Self { library, dir };
        bench.refused(
            &cdb::test_unit_ready(),
            Key::UnitAttention,
            code::POWER_ON_OR_RESET,
        );
        bench
    }

    fn restart(self) -> Self {
        let Self { library, dir } = self;
        drop(library);
        let library = Library::open(dir.path()).unwrap();
        Self { library, dir }
    }

    fn run(&mut self, cdb: &[u8]) -> Result<Vec<u8>, Sense> {
        let mut changer = self.library.changer().lock();
        let response = changer.execute(cdb, &[], 1 << 20);
        if response.status == status::GOOD {
            Ok(response.data_in)
        } else {
            Err(Sense::parse(&response.sense).unwrap())
        }
    }

    fn refused(&mut self, cdb: &[u8], key: Key, code: (u8, u8)) {
        let sense = self.run(cdb).unwrap_err();
        assert_eq!((sense.key, sense.code()), (key, code), "{sense}");
    }

    fn carry(&mut self, from: u16, to: u16) {
        self.run(&cdb::move_medium(0, from, to)).unwrap();
    }

    fn elements(&mut self, kind: ElementType) -> Vec<Element> {
        let data = self
            .run(&cdb::read_element_status(kind, 0, 1000, true, true, 65_535))
            .unwrap();
        Report::parse(&data).unwrap().elements
    }

    fn tags(&mut self, kind: ElementType) -> Vec<Option<String>> {
        let elements = self.elements(kind).into_iter();
        elements.map(|element| element.volume_tag).collect()
    }

    fn drive(&mut self, number: usize, cdb: &[u8]) -> Result<Vec<u8>, Sense> {
        let mut drive = self.library.drives()[number].lock();
        let response = drive.execute(cdb, &[], 1 << 20);
        if response.status == status::GOOD {
            Ok(response.data_in)
        } else {
            Err(Sense::parse(&response.sense).unwrap())
        }
    }
}

#[test]
fn it_reports_what_lies_where() {
    let mut bench = Bench::new();
    assert_eq!(
        bench.tags(ElementType::Storage),
        [Some("A".to_owned()), Some("B".to_owned()), None, None]
    );
    let drives = bench.elements(ElementType::DataTransfer);
    let serials: Vec<_> = drives
        .iter()
        .map(|drive| drive.identifier.as_ref().unwrap().serial().unwrap())
        .collect();
    let own: Vec<_> = bench
        .library
        .drives()
        .iter()
        .map(|drive| drive.lock().options().serial.clone())
        .collect();
    assert_eq!(serials, own);
    let all = bench.elements(ElementType::All);
    assert_eq!(all.len(), 1 + 1 + 2 + 4);

    let part = cdb::read_element_status(ElementType::Storage, SLOT + 1, 2, false, false, 4096);
    let part = Report::parse(&bench.run(&part).unwrap()).unwrap();
    let addresses: Vec<_> = part.elements.iter().map(|one| one.address).collect();
    assert_eq!(addresses, [SLOT + 1, SLOT + 2]);

    let head = cdb::read_element_status(ElementType::All, 0, 1000, true, true, 8);
    let head = Report::parse(&bench.run(&head).unwrap()).unwrap();
    assert!(head.needed > 8 && head.elements.is_empty());

    let mode = cdb::mode_sense_6(cdb::PageControl::Current, 0x1d, 0, 255);
    let mode = Mode::parse_6(&bench.run(&mode).unwrap()).unwrap();
    let page = mode.page(0x1d, 0).unwrap();
    assert_eq!(
        page[2..18],
        [0, 1, 0, 1, 4, 0, 0, 4, 0, 16, 0, 1, 1, 0, 0, 2]
    );
}

#[test]
fn a_cartridge_goes_to_a_drive_and_back() {
    let mut bench = Bench::new();
    bench.carry(SLOT, DRIVE + 1);
    let drive = &bench.elements(ElementType::DataTransfer)[1];
    assert!(drive.full && !drive.accessible);
    assert_eq!(drive.source, Some(SLOT));
    let sense = bench.drive(1, &cdb::test_unit_ready()).unwrap_err();
    assert_eq!(sense.code(), code::POWER_ON_OR_RESET);
    let sense = bench.drive(1, &cdb::test_unit_ready()).unwrap_err();
    assert_eq!(sense.code(), code::MEDIUM_MAY_HAVE_CHANGED);
    bench.drive(1, &cdb::test_unit_ready()).unwrap();

    bench.refused(
        &cdb::move_medium(TRANSPORT, DRIVE + 1, SLOT),
        Key::IllegalRequest,
        code::MEDIUM_REMOVAL_PREVENTED,
    );
    bench.drive(1, &cdb::load_unload(false)).unwrap();
    bench
        .drive(1, &cdb::prevent_allow_medium_removal(true))
        .unwrap();
    bench.refused(
        &cdb::move_medium(TRANSPORT, DRIVE + 1, SLOT),
        Key::IllegalRequest,
        code::MEDIUM_REMOVAL_PREVENTED,
    );
    bench
        .drive(1, &cdb::prevent_allow_medium_removal(false))
        .unwrap();
    // From drive to drive, then home.
    bench.carry(DRIVE + 1, DRIVE);
    let _ = bench.drive(0, &cdb::test_unit_ready());
    let _ = bench.drive(0, &cdb::test_unit_ready());
    bench.drive(0, &cdb::load_unload(false)).unwrap();
    assert!(bench.elements(ElementType::DataTransfer)[0].accessible);
    bench.carry(DRIVE, SLOT + 3);
    assert_eq!(
        bench.tags(ElementType::Storage),
        [None, Some("B".to_owned()), None, Some("A".to_owned())]
    );
}

#[test]
fn impossible_moves_are_refused() {
    let mut bench = Bench::new();
    for (from, to, code) in [
        (SLOT + 2, DRIVE, code::SOURCE_EMPTY),
        (SLOT, SLOT + 1, code::DESTINATION_FULL),
        (SLOT, SLOT + 4, code::INVALID_ELEMENT_ADDRESS),
        (7, SLOT, code::INVALID_ELEMENT_ADDRESS),
        (SLOT, TRANSPORT, code::INVALID_ELEMENT_ADDRESS),
    ] {
        bench.refused(&cdb::move_medium(0, from, to), Key::IllegalRequest, code);
    }
    bench.refused(
        &cdb::move_medium(9, SLOT, DRIVE),
        Key::IllegalRequest,
        code::INVALID_ELEMENT_ADDRESS,
    );
    bench.library.faults().lock().add(Fault {
        at: At::Move,
        barcode: Some("A".to_owned()),
        object: None,
        times: 1,
        key: Key::HardwareError as u8,
        asc: 0x15,
        ascq: 1,
        ..Fault::default()
    });
    bench.refused(
        &cdb::move_medium(0, SLOT, DRIVE),
        Key::HardwareError,
        code::POSITIONING_ERROR,
    );
    bench.carry(SLOT, MAIL_SLOTS_AT);
    assert_eq!(
        bench.tags(ElementType::ImportExport),
        [Some("A".to_owned())]
    );
}

#[test]
fn a_file_that_is_no_cartridge_stays_in_its_slot() {
    let mut bench = Bench::new();
    let folder = library::cartridges(bench.dir.path());
    std::fs::write(folder.join("BAD.tape"), "rubbish").unwrap();
    assert_eq!(bench.tags(ElementType::Storage)[2], Some("BAD".to_owned()));
    bench.refused(
        &cdb::move_medium(0, SLOT + 2, DRIVE),
        Key::HardwareError,
        code::MEDIA_LOAD_FAILED,
    );
    assert!(!bench.elements(ElementType::DataTransfer)[0].full);
    std::fs::remove_file(folder.join("BAD.tape")).unwrap();
    assert_eq!(bench.tags(ElementType::Storage)[2], None);
}

#[test]
fn an_open_door_stops_everything_until_it_is_closed() {
    let mut bench = Bench::new();
    bench.library.changer().lock().door(true).unwrap();
    for cdb in [
        &cdb::test_unit_ready()[..],
        &cdb::move_medium(0, SLOT, DRIVE),
        &cdb::read_element_status(ElementType::Storage, 0, 10, true, false, 1000),
        &cdb::initialize_element_status(),
    ] {
        bench.refused(cdb, Key::NotReady, code::DOOR_OPEN);
    }
    // Somebody exchanges what is in a slot meanwhile.
    let folder = library::cartridges(bench.dir.path());
    std::fs::rename(folder.join("A.tape"), folder.join("C.tape")).unwrap();
    bench.library.changer().lock().door(false).unwrap();
    bench.refused(
        &cdb::test_unit_ready(),
        Key::UnitAttention,
        code::MEDIUM_MAY_HAVE_CHANGED,
    );
    assert_eq!(bench.tags(ElementType::Storage)[0].as_deref(), Some("C"));
}

#[test]
fn mail_slots_let_cartridges_in_and_out() {
    let mut bench = Bench::new();
    let new = NewCartridge {
        outside: true,
        ..NewCartridge::default()
    };
    for name in ["IN1", "IN2"] {
        library::add(bench.dir.path(), name, &new).unwrap();
    }
    assert!(
        !bench
            .tags(ElementType::Storage)
            .contains(&Some("IN1".to_owned()))
    );
    let put = |bench: &Bench, name: &str| bench.library.changer().lock().mail_put(name);
    let take = |bench: &Bench, name: &str| bench.library.changer().lock().mail_take(name);
    assert!(matches!(put(&bench, "NONE"), Err(Refused::NotOutside(_))));
    assert_eq!(put(&bench, "IN1").unwrap(), MAIL_SLOTS_AT);
    bench.refused(
        &cdb::test_unit_ready(),
        Key::UnitAttention,
        code::IMPORT_EXPORT_ACCESSED,
    );
    assert!(matches!(put(&bench, "IN2"), Err(Refused::NoMailSlot)));
    let mail = &bench.elements(ElementType::ImportExport)[0];
    assert!(mail.imported && mail.full);
    bench.carry(MAIL_SLOTS_AT, SLOT + 2);
    assert!(!bench.elements(ElementType::Storage)[2].imported);

    assert!(matches!(take(&bench, "A"), Err(Refused::NotInMailSlot(_))));
    bench.carry(SLOT, MAIL_SLOTS_AT);
    assert!(!bench.elements(ElementType::ImportExport)[0].imported);
    bench.run(&cdb::prevent_allow_medium_removal(true)).unwrap();
    assert!(matches!(take(&bench, "A"), Err(Refused::Prevented)));
    bench
        .run(&cdb::prevent_allow_medium_removal(false))
        .unwrap();
    take(&bench, "A").unwrap();
    bench.refused(
        &cdb::test_unit_ready(),
        Key::UnitAttention,
        code::IMPORT_EXPORT_ACCESSED,
    );
    assert_eq!(bench.tags(ElementType::ImportExport), [None]);
    // What is outside is not looked for in the slots, also after a restart, and can come back.
    let mut bench = bench.restart();
    let _ = bench.run(&cdb::test_unit_ready());
    assert!(!bench.tags(ElementType::All).contains(&Some("A".to_owned())));
    put(&bench, "A").unwrap();
    let _ = bench.run(&cdb::test_unit_ready());
    assert_eq!(
        bench.tags(ElementType::ImportExport),
        [Some("A".to_owned())]
    );
}

#[test]
fn labels_may_be_double_or_missing_and_elements_out_of_order() {
    let mut bench = Bench::new();
    let another = NewCartridge {
        another: true,
        ..NewCartridge::default()
    };
    let path = library::add(bench.dir.path(), "A", &another).unwrap();
    assert_eq!(crate::cartridge::barcode_of(&path), "A");
    let unlabelled = NewCartridge {
        unlabelled: true,
        ..NewCartridge::default()
    };
    library::add(bench.dir.path(), "B", &unlabelled).unwrap();
    let mut tags = bench.tags(ElementType::Storage);
    tags.sort();
    assert_eq!(
        tags,
        [
            None,
            Some("A".to_owned()),
            Some("A".to_owned()),
            Some("B".to_owned())
        ]
    );
    assert!(
        bench
            .elements(ElementType::Storage)
            .iter()
            .all(|slot| slot.full)
    );
    // They are two: each goes its way, and each is known by its serial number.
    let twins: Vec<u16> = bench
        .elements(ElementType::Storage)
        .iter()
        .filter(|slot| slot.volume_tag.as_deref() == Some("A"))
        .map(|slot| slot.address)
        .collect();
    bench.carry(twins[0], DRIVE);
    bench.carry(twins[1], DRIVE + 1);
    let serial = |drive: usize| {
        let drive = bench.library.drives()[drive].lock();
        drive.cartridge().unwrap().meta().serial.clone()
    };
    assert_ne!(serial(0), serial(1));

    let exception = |element, code| {
        let mut changer = bench.library.changer().lock();
        changer.exception(element, code)
    };
    assert!(matches!(exception(9, None), Err(Refused::NoElement(9))));
    exception(SLOT, Some((0x30, 0x00))).unwrap();
    exception(DRIVE, Some((0x3b, 0x11))).unwrap();
    exception(SLOT, None).unwrap();
    assert_eq!(bench.elements(ElementType::Storage)[0].exception, None);
    let drive = &bench.elements(ElementType::DataTransfer)[0];
    assert_eq!(drive.exception, Some((0x3b, 0x11)));
}

#[test]
fn a_robot_may_refuse_tags_and_identifiers_at_once() {
    let dir = TempDir::new().unwrap();
    let spec = Spec {
        tags_or_identifiers: true,
        ..Spec::new(1, 1, 1 << 20)
    };
    Library::create(dir.path(), &spec).unwrap();
    let library = Library::open(dir.path()).unwrap();
    let mut bench = Bench { library, dir };
    let _ = bench.run(&cdb::test_unit_ready());
    let ask = |tags, identify| {
        cdb::read_element_status(ElementType::DataTransfer, 0, 10, tags, identify, 1000)
    };
    bench.refused(
        &ask(true, true),
        Key::IllegalRequest,
        code::INVALID_FIELD_IN_CDB,
    );
    bench.run(&ask(true, false)).unwrap();
    bench.run(&ask(false, true)).unwrap();
}

#[test]
fn a_move_takes_its_time_and_the_next_one_waits() {
    let dir = TempDir::new().unwrap();
    let spec = Spec {
        move_ms: 100,
        ..Spec::new(1, 2, 1 << 20)
    };
    Library::create(dir.path(), &spec).unwrap();
    library::add(dir.path(), "A", &NewCartridge::default()).unwrap();
    let library = Library::open(dir.path()).unwrap();
    let mut bench = Bench { library, dir };
    let _ = bench.run(&cdb::test_unit_ready());
    let nexus = Nexus::new();
    let deliver = |cdb: &[u8]| {
        let mut changer = bench.library.changer().lock();
        changer.deliver(nexus, cdb, &[], 1000)
    };
    let moved = deliver(&cdb::move_medium(0, SLOT, SLOT + 1));
    assert!(matches!(
        moved,
        Delivery::After {
            answer: Some(_),
            ..
        }
    ));
    assert!(matches!(deliver(&cdb::inquiry(36)), Delivery::Answer(_)));
    let waits = deliver(&cdb::test_unit_ready());
    assert!(matches!(waits, Delivery::After { answer: None, .. }));
    assert_eq!(bench.tags(ElementType::Storage)[1].as_deref(), Some("A"));
}

#[test]
fn the_robot_can_hang_and_be_reset_too() {
    let mut bench = Bench::new();
    let fault = |text: &str| Fault::parse(text).unwrap();
    let faults = bench.library.faults().clone();
    faults.lock().add(fault(
        "drive = 'changer'\nopcode = 0xa5\nbarcode = 'A'\ndo = 'hang'",
    ));
    let nexus = Nexus::new();
    let deliver = |cdb: &[u8]| {
        let mut changer = bench.library.changer().lock();
        changer.deliver(nexus, cdb, &[], 1000)
    };
    let answered = deliver(&cdb::move_medium(0, SLOT + 1, SLOT + 2));
    assert!(
        matches!(answered, Delivery::Answer(_)),
        "it is B that moves"
    );
    let hangs = deliver(&cdb::move_medium(0, SLOT, DRIVE));
    assert!(matches!(hangs, Delivery::Hang { answer: None, .. }));
    assert!(bench.library.changer().lock().hangs());
    bench.library.changer().lock().disconnected(nexus);
    assert!(!bench.library.changer().lock().hangs());
    assert!(!bench.elements(ElementType::DataTransfer)[0].full);
    faults.lock().add(fault("drive = 'changer'\ndo = 'reset'"));
    bench.refused(
        &cdb::test_unit_ready(),
        Key::UnitAttention,
        code::DEVICE_RESET,
    );
}

#[test]
fn places_survive_a_restart() {
    let mut bench = Bench::new();
    bench.carry(SLOT, DRIVE);
    bench.carry(SLOT + 1, SLOT + 2);
    let mut bench = bench.restart();
    let _ = bench.run(&cdb::test_unit_ready());
    assert_eq!(
        bench.tags(ElementType::Storage),
        [None, None, Some("B".to_owned()), None]
    );
    assert_eq!(
        bench.tags(ElementType::DataTransfer),
        [Some("A".to_owned()), None]
    );
    let sense = bench.drive(0, &cdb::test_unit_ready()).unwrap_err();
    assert_eq!(sense.code(), code::POWER_ON_OR_RESET);
    bench.drive(0, &cdb::test_unit_ready()).unwrap();
}
