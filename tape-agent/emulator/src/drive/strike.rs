//! Where faults meet the drive: before a command, within it, on the way to the medium.

use std::time::Duration;

use taf_scsi::cdb::opcode;
use taf_scsi::sense::Sense;
use taf_scsi::target::{Nexus, Response};

use super::Drive;
use crate::cartridge::Cartridge;
use crate::clock::Clock;
use crate::faults::{At, Fault, Scene};
use crate::unit::{Hung, Unit};
use crate::wire::{Cdb, Check};

/// The scene of an object on its way to the medium.
pub(super) fn on_medium<'a>(
    unit: (&'a str, &'a str),
    barcode: &'a str,
    object: u64,
    now: Duration,
) -> Scene<'a> {
    Scene {
        at: At::Medium,
        unit,
        opcode: opcode::WRITE_6,
        barcode,
        object,
        now,
    }
}

/// The moment that a command is.
fn moment(operation: u8) -> At {
    match operation {
        opcode::WRITE_6 => At::Write,
        opcode::READ_6 => At::Read,
        opcode::WRITE_FILEMARKS_6 | opcode::WRITE_FILEMARKS_16 => At::Filemark,
        opcode::LOCATE_10
        | opcode::LOCATE_16
        | opcode::SPACE_6
        | opcode::SPACE_16
        | opcode::REWIND => At::Position,
        opcode::LOAD_UNLOAD => At::Load,
        _ => At::Command,
    }
}

impl Unit for Drive {
    fn clock(&self) -> &Clock {
        &self.options.clock
    }

    fn hung(&mut self) -> &mut Option<Hung> {
        &mut self.hung
    }

    fn before(&mut self, cdb: &Cdb) -> Option<Fault> {
        self.armed = self.faults.lock().armed();
        if !self.armed {
            return None;
        }
        let barcode = self.barcode();
        let scene = Scene {
            at: moment(cdb.byte(0)),
            unit: (&self.number, &self.options.serial),
            opcode: cdb.byte(0),
            barcode: &barcode,
            object: self.position,
            now: self.options.clock.now(),
        };
        let fault = self.faults.lock().before(&scene)?;
        self.raise(&fault.alerts);
        Some(fault)
    }

    fn answer(&mut self, nexus: Nexus, cdb: &Cdb, data_out: &[u8], capacity: usize) -> Response {
        self.carry_out(nexus, cdb, data_out, capacity)
    }

    fn sense(&mut self, fault: &Fault) -> Sense {
        if fault.deferred {
            self.lose_buffered(fault)
        } else {
            fault.to_sense()
        }
    }

    fn start_again(&mut self, power_cut: bool) {
        let outcome = if power_cut {
            self.power_cut_somewhere()
        } else {
            self.reset()
        };
        if let Err(error) = outcome {
            tracing::error!(%error, "the cartridge did not survive it");
        }
    }

    fn descriptors(&self) -> bool {
        self.mode.descriptors
    }
}

impl Drive {
    fn barcode(&self) -> String {
        let barcode = self.cartridge.as_ref().map(Cartridge::barcode);
        barcode.unwrap_or_default()
    }

    /// A fault that strikes within a command.
    pub(super) fn struck(&mut self, at: At, object: u64) -> Option<Fault> {
        if !self.armed {
            return None;
        }
        let barcode = self.barcode();
        let scene = Scene {
            at,
            unit: (&self.number, &self.options.serial),
            opcode: 0,
            barcode: &barcode,
            object,
            now: self.options.clock.now(),
        };
        let fault = self.faults.lock().within(&scene)?;
        self.raise(&fault.alerts);
        self.describe |= fault.descriptors;
        Some(fault)
    }

    pub(super) fn strike(&mut self, at: At) -> Result<(), Check> {
        self.strike_at(at, self.position)
    }

    pub(super) fn strike_at(&mut self, at: At, object: u64) -> Result<(), Check> {
        match self.struck(at, object) {
            Some(fault) => Err(fault.to_sense().into()),
            None => Ok(()),
        }
    }

    pub(super) fn raise(&mut self, alerts: &[u8]) {
        for flag in alerts {
            self.alert(*flag);
        }
    }

    /// Everything in the buffer fails on its way to the medium, for this fault's reason. Without anything in
    /// it the sense still comes: about what, only the drive knows.
    fn lose_buffered(&mut self, fault: &Fault) -> Sense {
        let sense = fault.to_sense();
        let lost = self.with_medium(|cartridge, _| cartridge.flush(&mut |_| Some(sense)));
        match lost {
            Err(check) => Sense {
                information: fault.information.or(check.sense.information),
                ..check.sense
            },
            Ok(()) => sense.deferred(),
        }
    }
}
