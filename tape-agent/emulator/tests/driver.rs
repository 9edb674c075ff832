//! TAF's own driver against the emulator: the conformance suite on every path to it, and the robot.
#![allow(clippy::unwrap_used, missing_docs)]

use std::path::Path;

use taf_drive::conformance::{self, Scope, Verdict};
use taf_drive::{Drive, ScsiChanger, ScsiDrive};
use taf_emulator::cartridge::{Cartridge, Meta};
use taf_emulator::drive::{Drive as Emulated, Options};
use taf_emulator::faults::Faults;
use taf_emulator::library::{self, Library, NewCartridge, Spec};
use taf_emulator::{Shared, server, single};
use taf_scsi::transport::in_process::InProcess;
use tempfile::TempDir;

fn cartridge(path: &Path) {
    let meta = Meta {
        capacity: 1 << 30,
        loads: 0,
        density: 0x5e,
        write_protected: false,
        serial: "S".to_owned(),
        ..Meta::default()
    };
    Cartridge::create(path, &meta).unwrap();
}

fn all_pass(report: &[conformance::Step]) {
    for step in report {
        println!("{step}");
    }
    assert!(
        report.iter().all(|step| step.verdict == Verdict::Passed),
        "{report:#?}"
    );
}

#[test]
fn the_driver_conforms_in_process() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("SCRATCH.tape");
    cartridge(&path);
    for block in [64, 65_536, 524_288] {
        let drive = Shared::new(single::drive(&path, false).unwrap());
        let mut open = || {
            let transport = InProcess::new("emulated", drive.target());
            Ok(Box::new(ScsiDrive::new(Box::new(transport))?) as Box<dyn Drive>)
        };
        all_pass(&conformance::run(&mut open, Scope { block, fill: 0 }).unwrap());
    }
}

#[test]
fn the_driver_conforms_over_the_socket_after_the_robot_loaded_the_cartridge() {
    let dir = TempDir::new().unwrap();
    Library::create(dir.path(), &Spec::new(2, 3, 1 << 30)).unwrap();
    for barcode in ["A00001L8", "A00002L8"] {
        library::add(dir.path(), barcode, &NewCartridge::default()).unwrap();
    }
    let library = Library::open(dir.path()).unwrap();
    let served = server::serve(&library).unwrap();

    let mut changer = taf_drive::changer::open(&served[0].device).unwrap();
    changer.attentions().unwrap();
    changer.ready().unwrap();
    let inventory = changer.inventory().unwrap();
    assert_eq!(inventory.slots[1].barcode.as_deref(), Some("A00002L8"));
    let bay = &inventory.drives[1];
    assert_eq!(bay.serial.as_deref(), Some(served[2].serial.as_str()));
    let slot = inventory.slots[1].address;
    changer.move_medium(slot, bay.address).unwrap();
    assert!(changer.move_medium(slot, bay.address).is_err());

    let device = &served[2].device;
    let mut open = || taf_drive::open(device);
    all_pass(
        &conformance::run(
            &mut open,
            Scope {
                block: 65_536,
                fill: 0,
            },
        )
        .unwrap(),
    );

    let mut drive = taf_drive::open(device).unwrap();
    assert_eq!(
        drive.identity().serial.as_deref(),
        Some(served[2].serial.as_str())
    );
    assert!(changer.move_medium(bay.address, slot).is_err());
    drive.unload().unwrap();
    changer.move_medium(bay.address, slot).unwrap();
    let after = changer.inventory().unwrap();
    assert!(!after.drives[1].full && after.slots[1].full);
}

#[test]
fn a_robot_in_process_is_a_changer_too() {
    let dir = TempDir::new().unwrap();
    Library::create(dir.path(), &Spec::new(1, 2, 1 << 20)).unwrap();
    let library = Library::open(dir.path()).unwrap();
    let transport = InProcess::new("robot", library.changer_target());
    let mut changer = ScsiChanger::new(Box::new(transport)).unwrap();
    let changer: &mut dyn taf_drive::Changer = &mut changer;
    changer.attentions().unwrap();
    let inventory = changer.inventory().unwrap();
    assert_eq!((inventory.slots.len(), inventory.drives.len()), (2, 1));
}

#[test]
fn an_empty_drive_says_so() {
    let drive = Shared::new(Emulated::new(Options::default(), Faults::new(None)));
    let transport = InProcess::new("empty", drive.target());
    let mut drive = ScsiDrive::new(Box::new(transport)).unwrap();
    drive.attentions().unwrap();
    assert_eq!(drive.ready().unwrap(), taf_drive::Readiness::NoMedium);
}
