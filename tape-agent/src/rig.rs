//! A drive with a blank cartridge in it, in process, for tests of what runs on the drive's thread.
#![allow(clippy::unwrap_used)]

use taf_drive::{Changer as _, Drive as _, ScsiChanger, ScsiDrive};
use taf_emulator::faults::{At, Fault};
use taf_emulator::library::{self, Library, NewCartridge, Spec};
use taf_scsi::transport::in_process::InProcess;
use tempfile::TempDir;

/// The cartridge.
pub const BARCODE: &str = "TAF001L8";

/// See the module.
pub struct Rig {
    pub library: Library,
    _folder: TempDir,
}

impl Rig {
    pub fn new() -> Rig {
        Rig::with(|_| {}, &NewCartridge::default())
    }

    pub fn with(change: impl FnOnce(&mut Spec), cartridge: &NewCartridge) -> Rig {
        let folder = tempfile::tempdir().unwrap();
        let shelf = folder.path().join("library");
        let mut spec = Spec::new(1, 4, 256 << 20);
        change(&mut spec);
        Library::create(&shelf, &spec).unwrap();
        library::add(&shelf, BARCODE, cartridge).unwrap();
        let library = Library::open(&shelf).unwrap();
        let rig = Rig {
            library,
            _folder: folder,
        };
        let transport = InProcess::new("robot", rig.library.changer_target());
        let mut robot = ScsiChanger::new(Box::new(transport)).unwrap();
        robot.attentions().unwrap();
        let inventory = robot.inventory().unwrap();
        let (slot, drive) = (inventory.slots[0].address, inventory.drives[0].address);
        robot.move_medium(slot, drive).unwrap();
        rig
    }

    /// Takes out what is in the drive and puts another cartridge in.
    pub fn replace(&self, barcode: &str, cartridge: &NewCartridge) {
        self.drive().unload().unwrap();
        library::add(self.library.dir(), barcode, cartridge).unwrap();
        let transport = InProcess::new("robot", self.library.changer_target());
        let mut robot = ScsiChanger::new(Box::new(transport)).unwrap();
        robot.attentions().unwrap();
        let inventory = robot.inventory().unwrap();
        let drive = inventory.drives[0].address;
        let empty = inventory.slots.iter().find(|slot| !slot.full).unwrap();
        robot.move_medium(drive, empty.address).unwrap();
        let mut slots = inventory.slots.iter();
        let slot = slots
            .find(|slot| slot.barcode.as_deref() == Some(barcode))
            .unwrap();
        robot.move_medium(slot.address, drive).unwrap();
    }

    /// A way to the drive; its news are taken and it is set up.
    pub fn drive(&self) -> ScsiDrive {
        let mut drive = self.raw();
        drive.attentions().unwrap();
        drive.prepare().unwrap();
        drive
    }

    /// A way to the drive, and nothing more.
    pub fn raw(&self) -> ScsiDrive {
        let target = self.library.drive_target(0).unwrap();
        ScsiDrive::new(Box::new(InProcess::new("drive", target))).unwrap()
    }

    /// Strikes so often (0: for ever) at this object, or at any.
    pub fn strike(&self, at: At, object: Option<u64>, times: u32, sense: (u8, u8, u8)) {
        self.library.faults().lock().add(Fault {
            at,
            barcode: None,
            object,
            times,
            key: sense.0,
            asc: sense.1,
            ascq: sense.2,
            ..Fault::default()
        });
    }
}
