//! Where faults meet the drive: before a command, within it, on the way to the medium.

use std::time::Duration;

use taf_scsi::cdb::opcode;
use taf_scsi::sense::Sense;
use taf_scsi::status;
use taf_scsi::target::{Delivery, Gate, Nexus, Response};

use super::{Drive, Hung};
use crate::cartridge::Cartridge;
use crate::faults::{At, Do, Fault, Scene};
use crate::wire::{self, Cdb, Check, Refusal};

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

impl Drive {
    /// Runs a command unless the drive hangs or a fault has it otherwise.
    pub(super) fn meet(
        &mut self,
        nexus: Nexus,
        cdb: &Cdb,
        data_out: &[u8],
        capacity: usize,
    ) -> Delivery {
        if let Some(hung) = &self.hung {
            return Delivery::Hang {
                gate: hung.gate.clone(),
                answer: None,
            };
        }
        let Some(fault) = self.before(cdb) else {
            return Delivery::Answer(self.answer(nexus, cdb, data_out, capacity));
        };
        self.raise(&fault.alerts);
        let status = |status| {
            Delivery::Answer(Response {
                status,
                ..Response::default()
            })
        };
        match fault.action {
            Do::Busy => status(status::BUSY),
            Do::TaskSetFull => status(status::TASK_SET_FULL),
            Do::ReservationConflict => status(status::RESERVATION_CONFLICT),
            Do::DropBefore => Delivery::Disconnect,
            Do::DropAfter => {
                self.answer(nexus, cdb, data_out, capacity);
                Delivery::Disconnect
            }
            Do::Hang | Do::HangUntilReleased => {
                self.hang(nexus, fault.action == Do::HangUntilReleased, None)
            }
            Do::HangAfter => {
                let answer = self.answer(nexus, cdb, data_out, capacity);
                self.hang(nexus, false, Some(answer))
            }
            Do::PowerCut => {
                if let Err(error) = self.power_cut_somewhere() {
                    tracing::error!(%error, "the cartridge did not survive the power cut");
                }
                Delivery::Disconnect
            }
            Do::Reset => {
                if let Err(error) = self.reset() {
                    tracing::error!(%error, "the cartridge did not survive the reset");
                }
                Delivery::Answer(self.answer(nexus, cdb, data_out, capacity))
            }
            Do::Sense | Do::Flip => {
                let sense = if fault.deferred {
                    self.lose_buffered(&fault)
                } else {
                    fault.to_sense()
                };
                let reply = Err(Refusal::Check(sense.into()));
                let descriptors = fault.descriptors || self.mode.descriptors;
                Delivery::Answer(wire::respond(reply, capacity, descriptors))
            }
        }
    }

    fn hang(&mut self, nexus: Nexus, stubborn: bool, answer: Option<Response>) -> Delivery {
        let gate = Gate::default();
        self.hung = Some(Hung {
            gate: gate.clone(),
            nexus,
            stubborn,
        });
        Delivery::Hang { gate, answer }
    }

    /// The connection of a command that hangs is gone: the drive is free again, unless it is stubborn.
    pub(super) fn abandoned(&mut self, nexus: Nexus) {
        if self
            .hung
            .as_ref()
            .is_some_and(|hung| hung.nexus == nexus && !hung.stubborn)
        {
            self.release();
        }
    }

    fn before(&mut self, cdb: &Cdb) -> Option<Fault> {
        let barcode = self.barcode();
        let scene = Scene {
            at: moment(cdb.byte(0)),
            unit: (&self.number, &self.options.serial),
            opcode: cdb.byte(0),
            barcode: &barcode,
            object: self.position,
            now: self.options.clock.now(),
        };
        self.faults.lock().before(&scene)
    }

    fn barcode(&self) -> String {
        let barcode = self.cartridge.as_ref().map(Cartridge::barcode);
        barcode.unwrap_or_default()
    }

    /// A fault that strikes within a command.
    pub(super) fn struck(&mut self, at: At, object: u64) -> Option<Fault> {
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
