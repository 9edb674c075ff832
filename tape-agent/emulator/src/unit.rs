//! What drives and robots do alike about faults that strike before a command runs: hanging above all.

use taf_scsi::sense::Sense;
use taf_scsi::status;
use taf_scsi::target::{Delivery, Gate, Nexus, Response, Target};

use crate::clock::Clock;
use crate::faults::{Do, Fault};
use crate::wire::{self, Cdb, Refusal};

/// A command hangs, and the unit with it.
#[derive(Debug)]
pub(crate) struct Hung {
    gate: Gate,
    nexus: Nexus,
    /// Only [`Unit::release`] frees it, not the end of the connection.
    stubborn: bool,
}

/// A logical unit that faults can strike.
pub(crate) trait Unit: Target {
    /// What time it is for it.
    fn clock(&self) -> &Clock;

    /// The command that hangs.
    fn hung(&mut self) -> &mut Option<Hung>;

    /// The fault that strikes before this command.
    fn before(&mut self, cdb: &Cdb) -> Option<Fault>;

    /// Runs a command, whatever faults there are.
    fn answer(&mut self, nexus: Nexus, cdb: &Cdb, data_out: &[u8], capacity: usize) -> Response;

    /// The sense that a fault gives; if it is deferred, what is buffered is lost.
    fn sense(&mut self, fault: &Fault) -> Sense;

    /// Loses power and gets it back, or is reset.
    fn start_again(&mut self, power_cut: bool);

    /// Whether sense goes out in descriptor format.
    fn descriptors(&self) -> bool;

    /// Runs a command for somebody without a connection, who is told BUSY when that would break or hang.
    fn execute_directly(&mut self, cdb: &[u8], data_out: &[u8], capacity_in: usize) -> Response {
        loop {
            match self.deliver(Nexus::DIRECT, cdb, data_out, capacity_in) {
                Delivery::Answer(response) => return response,
                Delivery::After { time, answer } => {
                    self.clock().wait(time);
                    if let Some(response) = answer {
                        return response;
                    }
                }
                Delivery::Disconnect | Delivery::Hang { .. } => {
                    return Response {
                        status: status::BUSY,
                        ..Response::default()
                    };
                }
            }
        }
    }

    /// Runs a command unless the unit hangs or a fault has it otherwise.
    fn meet(&mut self, nexus: Nexus, cdb: &Cdb, data_out: &[u8], capacity: usize) -> Delivery {
        if let Some(hung) = self.hung() {
            return Delivery::Hang {
                gate: hung.gate.clone(),
                answer: None,
            };
        }
        let Some(fault) = self.before(cdb) else {
            return Delivery::Answer(self.answer(nexus, cdb, data_out, capacity));
        };
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
                self.start_again(true);
                Delivery::Disconnect
            }
            Do::Reset => {
                self.start_again(false);
                Delivery::Answer(self.answer(nexus, cdb, data_out, capacity))
            }
            Do::Sense | Do::Flip | Do::Retry => {
                let sense = self.sense(&fault);
                let descriptors = fault.descriptors || self.descriptors();
                let reply = Err(Refusal::Check(sense.into()));
                Delivery::Answer(wire::respond(reply, capacity, descriptors))
            }
        }
    }

    /// The command of this nexus hangs from now on.
    fn hang(&mut self, nexus: Nexus, stubborn: bool, answer: Option<Response>) -> Delivery {
        let gate = Gate::default();
        *self.hung() = Some(Hung {
            gate: gate.clone(),
            nexus,
            stubborn,
        });
        Delivery::Hang { gate, answer }
    }

    /// Lets a command that hangs go on.
    fn release(&mut self) {
        if let Some(hung) = self.hung().take() {
            hung.gate.open();
        }
    }

    /// A connection is gone: if its command hangs, the unit is free again, unless it is stubborn.
    fn abandoned(&mut self, nexus: Nexus) {
        if self
            .hung()
            .as_ref()
            .is_some_and(|hung| hung.nexus == nexus && !hung.stubborn)
        {
            self.release();
        }
    }
}
