//! A tape in a drive that does not read everything at the first try: `taf tape extract` reads as the tape agent does.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use support::archive::{self, block0, file, noise, part, segments};
use support::run;
use taf_drive::{Changer as _, Drive as _, ScsiChanger, ScsiDrive};
use taf_emulator::faults::{At, Fault};
use taf_emulator::library::{self, Library, NewCartridge, Spec};
use taf_emulator::server;
use taf_scsi::transport::in_process::InProcess;
use tempfile::TempDir;
use uuid::Uuid;

const ARCHIVE: Uuid = Uuid::from_u128(0xa1);

fn unreadable(object: u64, objects: u64, times: u32) -> Fault {
    Fault {
        at: At::Read,
        object: Some(object),
        objects,
        times,
        key: 3,
        asc: 0x11,
        ..Fault::default()
    }
}

#[test]
fn what_a_drive_reads_at_the_third_try_is_not_lost() {
    let dir = TempDir::new().unwrap();
    let shelf = dir.path().join("library");
    Library::create(&shelf, &Spec::new(1, 2, 256 << 20)).unwrap();
    library::add(&shelf, "TEST01L8", &NewCartridge::default()).unwrap();
    let library = Library::open(&shelf).unwrap();
    let device = server::serve(&library).unwrap()[1].device.clone();
    let robot = InProcess::new("robot", library.changer_target());
    let mut robot = ScsiChanger::new(Box::new(robot)).unwrap();
    robot.attentions().unwrap();
    let inventory = robot.inventory().unwrap();
    let (slot, bay) = (inventory.slots[0].address, inventory.drives[0].address);
    robot.move_medium(slot, bay).unwrap();

    let files = [file("a", noise(1, 200_000)), file("b", noise(2, 200_000))];
    let sealed = segments(ARCHIVE, &files);
    let blocks = part(&block0(ARCHIVE, 1, 1, &sealed[0]), &sealed);
    let count = blocks.len() as u64;
    let drive = InProcess::new("drive", library.drive_target(0).unwrap());
    let mut drive = ScsiDrive::new(Box::new(drive)).unwrap();
    drive.attentions().unwrap();
    drive.prepare().unwrap();
    archive::record(&mut drive, &[blocks]);
    let end = drive.position().unwrap().block;
    let first = end - 1 - count;

    // A block of data, twice; the label's first block and the part's, once.
    for (object, times) in [(first + 3, 2), (0, 1), (first, 1)] {
        library.faults().lock().add(unreadable(object, 1, times));
    }
    let extract = |to: &str| {
        let to = dir.path().join(to);
        let words = ["tape", "extract", &device, "--to", to.to_str().unwrap()];
        (run(dir.path(), &words), to.join("srv"))
    };
    let (said, to) = extract("whole");
    said.expect(0);
    for file in &files {
        assert!(std::fs::read(to.join(file.path)).unwrap() == file.content);
    }
    // What was extracted before the drive fails gets the time that it waits for. Whether the archive is whole was read before.
    let whole = std::fs::metadata(to.join("a")).unwrap();
    library.faults().lock().add(Fault {
        key: 4,
        asc: 0x44,
        nth: 2,
        ..unreadable(first + 20, 1, 1)
    });
    let (said, to) = extract("broken");
    said.expect(1).says(&["DRIVE_FAILED"]);
    let there = std::fs::metadata(to.join("a")).unwrap();
    assert_eq!(there.modified().unwrap(), whole.modified().unwrap());
    assert!(!to.join("b").exists());
    // What stays unreadable costs what lies there: the other file comes back.
    library.faults().lock().add(unreadable(first + 2, 1, 0));
    let (said, to) = extract("damaged");
    assert_ne!(said.status, 0, "{said}");
    assert!(std::fs::read(to.join("b")).unwrap() == files[1].content);
}
