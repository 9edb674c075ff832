//! What a job needs.

use crate::carry;

/// What a job needs before it can start. Each of the three stands by itself: a job may need only a robot, only a drive, or
/// both with a cartridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needs {
    /// The cartridge.
    pub cartridge: Wanted,
    /// The drive.
    pub drive: DriveNeed,
    /// The robot.
    pub robot: RobotNeed,
    /// Where the robot is to carry the cartridge outside a drive: there must be room.
    pub to: Option<carry::To>,
    /// Whether it rests while the catalog is not trusted.
    pub trust: bool,
    /// A drive that it leaves to another job, whatever is in it.
    pub leaves: Option<i64>,
    /// Set if another job writes at the same time what it reads, and has no drive for that yet.
    pub copy: Option<Copy>,
}

/// Where another job writes what is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// Volumes that are read. None of them is written: one with both would stay for as long as the copy is kept.
    pub reads: Vec<i64>,
    /// Pool that is written.
    pub pool: i64,
    /// Its name, for people.
    pub pool_name: String,
}

/// The cartridge that a job needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// None, or whatever is in its drive.
    Whatever,
    /// Any volume of the pool that can be appended to.
    Append {
        /// Pool's row.
        pool: i64,
        /// Pool's name, for people.
        pool_name: String,
    },
    /// This very volume.
    Volume(i64),
    /// One of these volumes, the earlier the better: all will be needed, one after the other.
    AnyOf(Vec<i64>),
    /// The cartridge with this barcode; the catalog need not know it.
    Barcode(String),
    /// Any cleaning cartridge that is not used up.
    Cleaning,
}

/// The drive that a job needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriveNeed {
    /// None.
    None,
    /// The one that the cartridge is in, if it is in one: it has to unload it.
    Holder,
    /// Any of the cartridge's library.
    Any,
    /// This one.
    This(i64),
}

/// The robot that a job needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RobotNeed {
    /// None.
    None,
    /// That of the library which shows the cartridge, or the drive.
    OfCartridge,
    /// That of this library.
    This(i64),
}

impl Needs {
    fn new(cartridge: Wanted, drive: DriveNeed, robot: RobotNeed) -> Needs {
        Needs {
            cartridge,
            drive,
            robot,
            to: None,
            trust: false,
            leaves: None,
            copy: None,
        }
    }

    /// Nothing but its agent.
    pub fn nothing() -> Needs {
        Needs::new(Wanted::Whatever, DriveNeed::None, RobotNeed::None)
    }

    /// To append to a pool: any drive, any volume of the pool that is not full.
    pub fn append(pool: i64, pool_name: &str) -> Needs {
        let pool_name = pool_name.to_owned();
        let wanted = Wanted::Append { pool, pool_name };
        Needs::new(wanted, DriveNeed::Any, RobotNeed::OfCartridge)
    }

    /// To read or write this volume, in any drive.
    pub fn volume(id: i64) -> Needs {
        let wanted = Wanted::Volume(id);
        Needs::new(wanted, DriveNeed::Any, RobotNeed::OfCartridge)
    }

    /// To read these volumes one after the other, in any drive, beginning with one that can be had.
    pub fn any_of(ids: Vec<i64>) -> Needs {
        Needs::new(Wanted::AnyOf(ids), DriveNeed::Any, RobotNeed::OfCartridge)
    }

    /// To write a cartridge that the catalog need not know, in any drive.
    pub fn cartridge(barcode: &str) -> Needs {
        let wanted = Wanted::Barcode(barcode.to_owned());
        Needs::new(wanted, DriveNeed::Any, RobotNeed::OfCartridge)
    }

    /// To have a cartridge in this drive.
    pub fn load(drive: i64, barcode: &str) -> Needs {
        let wanted = Wanted::Barcode(barcode.to_owned());
        Needs::new(wanted, DriveNeed::This(drive), RobotNeed::OfCartridge)
    }

    /// To clean this drive.
    pub fn clean(drive: i64) -> Needs {
        let drive = DriveNeed::This(drive);
        Needs::new(Wanted::Cleaning, drive, RobotNeed::OfCartridge)
    }

    /// Only a drive, with what is in it.
    pub fn drive(drive: i64) -> Needs {
        let drive = DriveNeed::This(drive);
        Needs::new(Wanted::Whatever, drive, RobotNeed::None)
    }

    /// To take out what is in this drive.
    pub fn clear(drive: i64) -> Needs {
        Needs {
            to: Some(carry::To::Slot),
            robot: RobotNeed::OfCartridge,
            ..Needs::drive(drive)
        }
    }

    /// To carry a cartridge somewhere; the drive that it may be in unloads it.
    pub fn carry(barcode: &str, to: carry::To) -> Needs {
        let wanted = Wanted::Barcode(barcode.to_owned());
        Needs {
            to: Some(to),
            ..Needs::new(wanted, DriveNeed::Holder, RobotNeed::OfCartridge)
        }
    }

    /// To carry a cartridge whose barcode can't be read from one element of this library to another.
    pub fn carry_unnamed(library: i64, to: carry::To) -> Needs {
        Needs {
            to: Some(to),
            ..Needs::robot(library)
        }
    }

    /// Only a robot.
    pub fn robot(library: i64) -> Needs {
        let robot = RobotNeed::This(library);
        Needs::new(Wanted::Whatever, DriveNeed::None, robot)
    }
}
