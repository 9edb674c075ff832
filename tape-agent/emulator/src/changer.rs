//! The robot of a library: one logical unit of type 8 (SMC) that says what lies where and moves it.
//!
//! Owns the inventory and the moves. It takes no cartridge from a drive that has not let go of it. What a
//! cartridge holds is not its business.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::MutexGuard;
use std::time::Duration;

use taf_scsi::cdb::{ElementType, opcode};
use taf_scsi::page::element_status::{Element, Identifier, Report};
use taf_scsi::page::inquiry::{TYPE_CHANGER, TYPE_TAPE};
use taf_scsi::page::mode::{ALL_PAGES, MEDIUM_CONFIGURATION, Mode};
use taf_scsi::sense::{Key, Sense, code};
use taf_scsi::target::{Delivery, Nexus, Response, Target};

use crate::cartridge::{Behaviour, Cartridge, EXTENSION};
use crate::clock::Clock;
use crate::drive::Held;
use crate::faults::{At, Fault, Faults, Scene};
use crate::initiators::Initiators;
use crate::unit::{Hung, Unit};
use crate::wire::{self, Cdb, Check, Identity, Outcome, Reply, cut, illegal, invalid_field};
use crate::{Drive, Shared};

mod geometry;
mod inventory;
mod operator;

pub use geometry::{DRIVES_AT, Geometry, MAIL_SLOTS_AT, SLOTS_AT, TRANSPORT};
pub(crate) use inventory::names;
pub use inventory::{Error, Inventory, Volume};
pub use operator::Refused;

/// How faults name the robot.
const UNIT: &str = "changer";
/// The library's product name.
const PRODUCT: &str = "EMULATED LIBRARY";

/// A drive, and what the library says of it even while the drive is busy with a command.
#[derive(Debug)]
struct Bay {
    drive: Shared<Drive>,
    identifier: Identifier,
}

impl Bay {
    fn new(drive: Shared<Drive>) -> Self {
        let identifier = {
            let drive = drive.lock();
            Identifier {
                code_set: 2,
                kind: 1,
                bytes: Identity {
                    device_type: TYPE_TAPE,
                    product: &drive.product(),
                    serial: &drive.options().serial,
                }
                .t10_name(),
            }
        };
        Self { drive, identifier }
    }
}

/// What kind of robot it is.
#[derive(Debug, Clone)]
pub struct Options {
    /// Unit serial number, ASCII.
    pub serial: String,
    /// Its elements.
    pub geometry: Geometry,
    /// How cartridges behave in its drives.
    pub behaviour: Behaviour,
    /// It refuses to tell volume tags and identifiers at once.
    pub tags_or_identifiers: bool,
    /// Time that a move takes.
    pub move_time: Duration,
    /// What time it is for it.
    pub clock: Clock,
}

/// The robot.
#[derive(Debug)]
pub struct Changer {
    serial: String,
    geometry: Geometry,
    options: Options,
    inventory: Inventory,
    /// Where the cartridges' files lie.
    cartridges: PathBuf,
    bays: Vec<Bay>,
    faults: Shared<Faults>,
    initiators: Initiators,
    hung: Option<Hung>,
    door_open: bool,
    /// Elements in an abnormal state.
    exceptions: BTreeMap<u16, (u8, u8)>,
    moves: u64,
    /// What the command that runs has to wait for in real time, which it does when the robot is let go of.
    owing: Duration,
    /// Until when a move keeps the robot in real time.
    busy: Duration,
}

impl Changer {
    /// A robot that was just switched on. Cartridges that the inventory has in drives are put there.
    pub fn new(
        options: Options,
        inventory: Inventory,
        cartridges: PathBuf,
        drives: Vec<Shared<Drive>>,
        faults: Shared<Faults>,
    ) -> Result<Self, Error> {
        let mut changer = Self {
            serial: options.serial.clone(),
            geometry: options.geometry,
            options,
            inventory,
            cartridges,
            bays: drives.into_iter().map(Bay::new).collect(),
            faults,
            initiators: Initiators::new(),
            hung: None,
            door_open: false,
            exceptions: BTreeMap::new(),
            moves: 0,
            owing: Duration::ZERO,
            busy: Duration::ZERO,
        };
        let behaviour = changer.options.behaviour;
        changer.take_stock()?;
        for (number, bay) in changer.bays.iter().enumerate() {
            let address = DRIVES_AT + number as u16;
            if let Some(volume) = changer.inventory.get(address) {
                let path = changer.path(&volume.barcode);
                match Cartridge::open(&path, behaviour) {
                    Ok(cartridge) => bay.drive.lock().power_on_with(cartridge),
                    Err(error) => tracing::error!(%error, "a drive can't have its cartridge"),
                }
            }
        }
        Ok(changer)
    }

    /// What lies where.
    pub fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    /// What kind of robot it is.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// How often it moved a cartridge since it was switched on.
    pub fn moves(&self) -> u64 {
        self.moves
    }

    /// Lets a command that hangs go on.
    pub fn let_go(&mut self) {
        self.release();
    }

    /// Whether a command hangs.
    pub fn hangs(&self) -> bool {
        self.hung.is_some()
    }

    /// Looks for cartridges that were put into the folder or taken from it.
    pub fn take_stock(&mut self) -> Result<(), Error> {
        self.inventory.take_stock(self.geometry, &self.cartridges)
    }

    fn path(&self, barcode: &str) -> PathBuf {
        self.cartridges.join(format!("{barcode}.{EXTENSION}"))
    }

    fn bay(&self, address: u16) -> Option<&Bay> {
        self.bays.get(usize::from(address.checked_sub(DRIVES_AT)?))
    }

    fn reply(&mut self, nexus: Nexus, cdb: &Cdb, data_out: &[u8]) -> Reply {
        self.initiators.admit(nexus, cdb, &mut None)?;
        match self.initiators.answer(nexus, cdb, data_out) {
            Some(reply) => reply,
            None => Ok(self.run(nexus, cdb)?),
        }
    }

    fn run(&mut self, nexus: Nexus, cdb: &Cdb) -> Outcome {
        if self.door_open
            && matches!(
                cdb.byte(0),
                opcode::TEST_UNIT_READY
                    | opcode::INITIALIZE_ELEMENT_STATUS
                    | opcode::INITIALIZE_ELEMENT_STATUS_WITH_RANGE
                    | opcode::READ_ELEMENT_STATUS
                    | opcode::MOVE_MEDIUM
            )
        {
            return Err(Sense::new(Key::NotReady, code::DOOR_OPEN).into());
        }
        match cdb.byte(0) {
            opcode::INQUIRY => Identity {
                device_type: TYPE_CHANGER,
                product: PRODUCT,
                serial: &self.serial,
            }
            .inquiry(cdb),
            opcode::REPORT_LUNS => Ok(wire::report_luns(cdb)),
            opcode::REQUEST_SENSE => {
                let sense = match self.initiators.attentions.take(nexus) {
                    Some(attention) => Sense::new(Key::UnitAttention, attention),
                    None => Sense::new(Key::NoSense, code::NONE),
                };
                Ok(wire::sense_data(cdb, &sense))
            }
            opcode::INITIALIZE_ELEMENT_STATUS | opcode::INITIALIZE_ELEMENT_STATUS_WITH_RANGE => {
                self.take_stock_now()?;
                Ok(Vec::new())
            }
            opcode::MODE_SENSE_6 | opcode::MODE_SENSE_10 => self.mode_sense(cdb),
            opcode::READ_ELEMENT_STATUS => self.element_status(cdb),
            opcode::MOVE_MEDIUM => self.move_medium(
                cdb.field::<2>(2) as u16,
                cdb.field::<2>(4) as u16,
                cdb.field::<2>(6) as u16,
            ),
            opcode::TEST_UNIT_READY | opcode::SEND_DIAGNOSTIC => Ok(Vec::new()),
            _ => Err(illegal(code::INVALID_OPCODE)),
        }
    }

    fn take_stock_now(&mut self) -> Result<(), Check> {
        self.take_stock().map_err(|error| {
            tracing::error!(%error, "taking stock failed");
            Sense::new(Key::HardwareError, code::INTERNAL_FAILURE).into()
        })
    }

    /// Page 1Dh, element address assignment (SMC-3 7.3.4).
    fn mode_sense(&self, cdb: &Cdb) -> Outcome {
        let long = cdb.byte(0) == opcode::MODE_SENSE_10;
        let pages = match cdb.byte(2) & 0x3f {
            0 => Vec::new(),
            MEDIUM_CONFIGURATION | ALL_PAGES => {
                let mut page = vec![MEDIUM_CONFIGURATION, 18];
                for kind in [
                    ElementType::Transport,
                    ElementType::Storage,
                    ElementType::ImportExport,
                    ElementType::DataTransfer,
                ] {
                    let range = self.geometry.range(kind);
                    page.extend(range.start.to_be_bytes());
                    page.extend((range.end - range.start).to_be_bytes());
                }
                page.extend([0, 0]);
                page
            }
            _ => return Err(invalid_field()),
        };
        let answer = Mode {
            pages,
            ..Mode::default()
        };
        Ok(if long {
            cut(answer.build_10(), cdb.field::<2>(7))
        } else {
            cut(answer.build_6(), cdb.field::<1>(4))
        })
    }

    fn element_status(&mut self, cdb: &Cdb) -> Outcome {
        self.take_stock_now()?;
        let kind = ElementType::from_code(cdb.byte(1) & 0x0f).ok_or_else(invalid_field)?;
        let tags = cdb.bit(1, 4);
        let start = cdb.field::<2>(2) as u16;
        let count = cdb.field::<2>(4) as usize;
        let identify = cdb.bit(6, 0);
        if tags && identify && self.options.tags_or_identifiers {
            return Err(invalid_field());
        }
        let elements: Vec<_> = self
            .geometry
            .addresses()
            .filter(|&(address, own)| address >= start && (kind == ElementType::All || kind == own))
            .take(count)
            .map(|(address, own)| self.element(address, own))
            .collect();
        let data = Report::build(&elements, tags, identify);
        Ok(cut(data, cdb.field::<3>(7)))
    }

    fn element(&self, address: u16, kind: ElementType) -> Element {
        let mut element = Element::new(kind, address);
        if let Some(volume) = self.inventory.get(address) {
            element.full = true;
            element.volume_tag = volume.tag().map(str::to_owned);
            element.source = volume.source;
            element.imported = volume.imported;
        }
        element.exception = self.exceptions.get(&address).copied();
        if let Some(bay) = self.bay(address) {
            // A drive that is busy with a command has its cartridge threaded.
            element.accessible = bay
                .drive
                .try_lock()
                .is_some_and(|drive| matches!(drive.removable(), Ok(()) | Err(Held::Empty)));
            element.identifier = Some(bay.identifier.clone());
        }
        element
    }

    fn move_medium(&mut self, transport: u16, source: u16, destination: u16) -> Outcome {
        let known = |address| {
            self.geometry
                .kind(address)
                .is_some_and(|kind| kind != ElementType::Transport)
        };
        if ![0, TRANSPORT].contains(&transport) || !known(source) || !known(destination) {
            return Err(illegal(code::INVALID_ELEMENT_ADDRESS));
        }
        let Some(volume) = self.inventory.get(source).cloned() else {
            return Err(illegal(code::SOURCE_EMPTY));
        };
        if source == destination {
            return Ok(Vec::new());
        }
        if self.inventory.get(destination).is_some() {
            return Err(illegal(code::DESTINATION_FULL));
        }
        let label = volume.tag().unwrap_or_default();
        let scene = self.scene(At::Move, opcode::MOVE_MEDIUM, label);
        if let Some(fault) = self.faults.lock().within(&scene) {
            return Err(fault.to_sense().into());
        }
        // Nobody else takes two drives at once, so the order does not matter.
        let mut from = self.bay(source).map(|bay| bay.drive.lock());
        let mut to = self.bay(destination).map(|bay| bay.drive.lock());
        if let Some(drive) = &from
            && matches!(drive.removable(), Err(Held::Threaded | Held::Prevented))
        {
            return Err(illegal(code::MEDIUM_REMOVAL_PREVENTED));
        }
        // All that can fail comes before anything changes: opening the file, then keeping the new inventory.
        let opened = match (&from, &to) {
            (None, Some(_)) => Some(self.load(&volume.barcode)?),
            _ => None,
        };
        let mut moved = self.inventory.clone();
        moved.relocate(source, destination, self.geometry);
        moved.save().map_err(|error| {
            tracing::error!(%error, "nothing was moved");
            Sense::new(Key::HardwareError, code::INTERNAL_FAILURE)
        })?;
        let taken = from.as_mut().and_then(take);
        if let (Some(drive), Some(cartridge)) = (&mut to, opened.or(taken)) {
            drive.insert(cartridge);
        }
        drop((from, to));
        self.inventory = moved;
        self.moves += 1;
        match &self.options.clock {
            Clock::Real => self.owing = self.options.move_time,
            clock @ Clock::Simulated(_) => clock.advance(self.options.move_time),
        }
        tracing::info!(barcode = volume.barcode, source, destination, "moved");
        Ok(Vec::new())
    }

    fn scene<'a>(&'a self, at: At, opcode: u8, barcode: &'a str) -> Scene<'a> {
        Scene {
            at,
            unit: (UNIT, &self.serial),
            opcode,
            barcode,
            object: 0,
            now: self.options.clock.now(),
        }
    }

    fn load(&self, barcode: &str) -> Result<Cartridge, Check> {
        Cartridge::open(&self.path(barcode), self.options.behaviour).map_err(|error| {
            tracing::error!(%error, "the cartridge can't be loaded");
            Sense::new(Key::HardwareError, code::MEDIA_LOAD_FAILED).into()
        })
    }
}

/// The drive's cartridge; none if its file was lost at start.
fn take(drive: &mut MutexGuard<'_, Drive>) -> Option<Cartridge> {
    drive.remove().ok()
}

impl Unit for Changer {
    fn clock(&self) -> &Clock {
        &self.options.clock
    }

    fn hung(&mut self) -> &mut Option<Hung> {
        &mut self.hung
    }

    fn before(&mut self, cdb: &Cdb) -> Option<Fault> {
        if !self.faults.lock().armed() {
            return None;
        }
        let (at, barcode) = if cdb.byte(0) == opcode::MOVE_MEDIUM {
            let source = cdb.field::<2>(4) as u16;
            let volume = self.inventory.get(source);
            (At::Move, volume.and_then(Volume::tag).unwrap_or_default())
        } else {
            (At::Command, "")
        };
        let scene = self.scene(at, cdb.byte(0), barcode);
        self.faults.lock().before(&scene)
    }

    fn answer(&mut self, nexus: Nexus, cdb: &Cdb, data_out: &[u8], capacity: usize) -> Response {
        wire::respond(self.reply(nexus, cdb, data_out), capacity, false)
    }

    fn sense(&mut self, fault: &Fault) -> Sense {
        fault.to_sense()
    }

    fn start_again(&mut self, power_cut: bool) {
        self.release();
        self.initiators.power_cut(if power_cut {
            code::POWER_ON_OR_RESET
        } else {
            code::DEVICE_RESET
        });
    }

    fn descriptors(&self) -> bool {
        false
    }
}

impl Target for Changer {
    fn execute(&mut self, cdb: &[u8], data_out: &[u8], capacity_in: usize) -> Response {
        self.execute_directly(cdb, data_out, capacity_in)
    }

    fn deliver(
        &mut self,
        nexus: Nexus,
        cdb: &[u8],
        data_out: &[u8],
        capacity_in: usize,
    ) -> Delivery {
        let cdb = Cdb::new(cdb);
        let left = self.busy.saturating_sub(self.options.clock.now());
        if !left.is_zero() && cdb.byte(0) != opcode::INQUIRY {
            return Delivery::After {
                time: left,
                answer: None,
            };
        }
        let delivered = self.meet(nexus, &cdb, data_out, capacity_in);
        let time = std::mem::take(&mut self.owing);
        match delivered {
            Delivery::Answer(response) if !time.is_zero() => {
                self.busy = self.options.clock.now() + time;
                Delivery::After {
                    time,
                    answer: Some(response),
                }
            }
            other => other,
        }
    }

    fn connected(&mut self, nexus: Nexus, again: bool) {
        self.initiators.connected(nexus, again);
    }

    fn aborted(&mut self, nexus: Nexus) {
        self.abandoned(nexus);
    }

    fn reset(&mut self) {
        self.start_again(false);
    }

    fn disconnected(&mut self, nexus: Nexus) {
        self.abandoned(nexus);
        self.initiators.disconnected(nexus);
    }
}

#[cfg(test)]
mod tests;
