//! From a command to its answer: what goes before every command, and which command is answered where.

use std::time::Duration;

use taf_scsi::cdb::opcode;
use taf_scsi::page::block_limits::BlockLimits;
use taf_scsi::page::density;
use taf_scsi::page::inquiry::TYPE_TAPE;
use taf_scsi::page::log::status::Activity;
use taf_scsi::sense::{Key, Sense, code};
use taf_scsi::target::{Delivery, Nexus, Response, Target};

use super::readiness::not_ready;
use super::{Drive, log, mode};
use crate::cartridge;
use crate::unit::Unit;
use crate::wire::{self, Cdb, Identity, Outcome, Reply, cut, illegal, invalid_field};

/// The commands, each with the longest that it may take, as makers of LTO drives state it.
const SUPPORTED: [(u8, Option<u16>, u32); 41] = [
    (opcode::TEST_UNIT_READY, None, 60),
    (opcode::REWIND, None, 600),
    (opcode::REQUEST_SENSE, None, 60),
    (opcode::FORMAT_MEDIUM, None, 3 * 3600),
    (opcode::READ_BLOCK_LIMITS, None, 60),
    (opcode::READ_6, None, 1_200),
    (opcode::WRITE_6, None, 1_200),
    (opcode::WRITE_FILEMARKS_6, None, 1_200),
    (opcode::SPACE_6, None, 2_100),
    (opcode::INQUIRY, None, 60),
    (opcode::MODE_SELECT_6, None, 60),
    (opcode::RESERVE_6, None, 60),
    (opcode::RELEASE_6, None, 60),
    (opcode::ERASE_6, None, 16 * 3600),
    (opcode::MODE_SENSE_6, None, 60),
    (opcode::LOAD_UNLOAD, None, 9_000),
    (opcode::SEND_DIAGNOSTIC, None, 2_100),
    (opcode::PREVENT_ALLOW_MEDIUM_REMOVAL, None, 60),
    (opcode::LOCATE_10, None, 2_100),
    (opcode::READ_POSITION, None, 60),
    (opcode::REPORT_DENSITY_SUPPORT, None, 60),
    (opcode::LOG_SENSE, None, 60),
    (opcode::MODE_SELECT_10, None, 60),
    (opcode::MODE_SENSE_10, None, 60),
    (opcode::PERSISTENT_RESERVE_IN, Some(0), 60),
    (opcode::PERSISTENT_RESERVE_IN, Some(1), 60),
    (opcode::PERSISTENT_RESERVE_IN, Some(2), 60),
    (opcode::PERSISTENT_RESERVE_OUT, Some(0), 60),
    (opcode::PERSISTENT_RESERVE_OUT, Some(1), 60),
    (opcode::PERSISTENT_RESERVE_OUT, Some(2), 60),
    (opcode::PERSISTENT_RESERVE_OUT, Some(3), 60),
    (opcode::PERSISTENT_RESERVE_OUT, Some(4), 60),
    (opcode::PERSISTENT_RESERVE_OUT, Some(5), 60),
    (opcode::PERSISTENT_RESERVE_OUT, Some(6), 60),
    (opcode::WRITE_FILEMARKS_16, None, 1_200),
    (opcode::ALLOW_OVERWRITE, None, 60),
    (opcode::READ_ATTRIBUTE, None, 60),
    (opcode::WRITE_ATTRIBUTE, None, 60),
    (opcode::SPACE_16, None, 2_100),
    (opcode::LOCATE_16, None, 2_100),
    (
        opcode::MAINTENANCE_IN,
        Some(opcode::SERVICE_REPORT_SUPPORTED_OPCODES as u16),
        60,
    ),
];

impl Drive {
    /// Runs a command, whatever faults there are elsewhere.
    pub(super) fn carry_out(
        &mut self,
        nexus: Nexus,
        cdb: &Cdb,
        data_out: &[u8],
        capacity: usize,
    ) -> Response {
        let reply = self.reply(nexus, cdb, data_out);
        if let Err(refusal) = &reply {
            self.stats.errors += u64::from(refusal.is_error());
            tracing::debug!(serial = self.options.serial, ?nexus, ?cdb, ?refusal);
        }
        let descriptors = std::mem::take(&mut self.describe) || self.mode.descriptors;
        wire::respond(reply, capacity, descriptors)
    }

    fn reply(&mut self, nexus: Nexus, cdb: &Cdb, data_out: &[u8]) -> Reply {
        self.settle_becoming();
        self.catch_up();
        self.initiators.admit(nexus, cdb, &mut self.deferred)?;
        match self.initiators.answer(nexus, cdb, data_out) {
            Some(reply) => reply,
            None => Ok(self.run(nexus, cdb, data_out)?),
        }
    }

    fn run(&mut self, nexus: Nexus, cdb: &Cdb, data_out: &[u8]) -> Outcome {
        if self.becoming.is_none()
            && let Some(outcome) = self.in_second_partition(cdb)
        {
            return outcome;
        }
        match cdb.byte(0) {
            opcode::INQUIRY => Identity {
                device_type: TYPE_TAPE,
                product: &self.product(),
                serial: &self.options.serial,
            }
            .inquiry(cdb),
            opcode::REPORT_LUNS => Ok(wire::report_luns(cdb)),
            opcode::REQUEST_SENSE => Ok(self.request_sense(nexus, cdb)),
            opcode::MAINTENANCE_IN => wire::supported_opcodes(cdb, &SUPPORTED),
            opcode::TEST_UNIT_READY => self.ready().map(|_| Vec::new()),
            opcode::READ_BLOCK_LIMITS => Ok(self.block_limits()),
            opcode::REPORT_DENSITY_SUPPORT => self.density_support(cdb),
            opcode::MODE_SENSE_6 | opcode::MODE_SENSE_10 => self.mode_sense(cdb),
            opcode::MODE_SELECT_6 | opcode::MODE_SELECT_10 => {
                self.mode_select(cdb, data_out)?;
                let attentions = &mut self.initiators.attentions;
                attentions.tell_others(nexus, code::MODE_PARAMETERS_CHANGED);
                Ok(Vec::new())
            }
            opcode::LOG_SENSE => self.log_sense(cdb),
            opcode::READ_ATTRIBUTE => self.read_attribute(cdb),
            opcode::WRITE_ATTRIBUTE => self.write_attribute(cdb, data_out),
            opcode::READ_6 => self.read(cdb),
            opcode::WRITE_6 => self.write(cdb, data_out),
            opcode::WRITE_FILEMARKS_6 => self.write_filemarks(cdb.bit(1, 0), cdb.field::<3>(2)),
            opcode::WRITE_FILEMARKS_16 => self.write_filemarks(cdb.bit(1, 0), cdb.field::<3>(12)),
            opcode::SPACE_6 | opcode::SPACE_16 => self.space(cdb),
            opcode::LOCATE_10 | opcode::LOCATE_16 => self.locate(cdb),
            opcode::REWIND => self.rewind(),
            opcode::READ_POSITION => self.read_position(cdb),
            opcode::LOAD_UNLOAD => self.load_unload(cdb),
            opcode::ERASE_6 => self.erase(cdb),
            opcode::FORMAT_MEDIUM => self.format_medium(cdb),
            opcode::ALLOW_OVERWRITE => self.allow_overwrite(cdb),
            opcode::SEND_DIAGNOSTIC => Ok(Vec::new()),
            _ => Err(illegal(code::INVALID_OPCODE)),
        }
    }

    fn request_sense(&mut self, nexus: Nexus, cdb: &Cdb) -> Vec<u8> {
        let sense = if let Some(sense) = self.deferred.take() {
            sense
        } else if let Some(attention) = self.initiators.attentions.take(nexus) {
            Sense::new(Key::UnitAttention, attention)
        } else {
            match self.ready() {
                Ok(_) => Sense::new(Key::NoSense, code::NONE),
                Err(check) => check.sense,
            }
        };
        wire::sense_data(cdb, &sense)
    }

    fn block_limits(&self) -> Vec<u8> {
        BlockLimits {
            granularity: 0,
            max: self.options.block_max.min(cartridge::BLOCK_LENGTH_MAX),
            min: 1,
        }
        .build()
    }

    fn density_support(&self, cdb: &Cdb) -> Outcome {
        if cdb.bit(1, 1) {
            return Err(invalid_field()); // medium types
        }
        let mut densities = self.options.generation.densities();
        if cdb.bit(1, 0) {
            self.ready()?;
            let own = self.density();
            densities.retain(|density| density.code == own);
        }
        Ok(cut(density::build(&densities), cdb.field::<2>(7)))
    }

    fn load_unload(&mut self, cdb: &Cdb) -> Outcome {
        let (load, immediate) = (cdb.bit(4, 0), cdb.bit(1, 0));
        if cdb.byte(4) & !0x01 != 0 {
            return Err(invalid_field());
        }
        if self.cartridge.is_none() {
            return Err(not_ready(false));
        }
        if load {
            if self.threaded {
                self.rewind()?;
            } else {
                let time = self.thread()?;
                let first = self.first_load();
                if immediate || self.refused.is_some() {
                    self.becomes(Activity::Loading, code::BECOMING_READY, time, false);
                } else {
                    self.wait(time);
                    if first {
                        self.initialised();
                    }
                }
                if let Some(sense) = self.refused {
                    return Err(sense.into());
                }
            }
        } else if self.threaded {
            if self.initiators.prevented() {
                self.alert(log::alert::NO_REMOVAL);
                return Err(illegal(code::MEDIUM_REMOVAL_PREVENTED));
            }
            self.partition = 0;
            self.rewind()?;
            self.save_memory();
            self.wait(self.options.speeds.unload);
            self.stats.unmounts += 1;
            self.threaded = false;
            // What is set for a cartridge goes with it.
            self.mode = mode::Mode {
                append_only: false,
                second_partition: None,
                ..self.mode
            };
        }
        Ok(Vec::new())
    }
}

/// What log page 11h says that the drive does while a command keeps it.
fn activity(operation: u8) -> Activity {
    match operation {
        opcode::READ_6 => Activity::Reading,
        opcode::WRITE_6 | opcode::WRITE_FILEMARKS_6 | opcode::WRITE_FILEMARKS_16 => {
            Activity::Writing
        }
        opcode::REWIND => Activity::Rewinding,
        opcode::SPACE_6 | opcode::SPACE_16 | opcode::LOCATE_10 | opcode::LOCATE_16 => {
            Activity::Locating
        }
        opcode::ERASE_6 => Activity::Erasing,
        opcode::FORMAT_MEDIUM => Activity::Formatting,
        opcode::LOAD_UNLOAD => Activity::Loading,
        _ => Activity::Idle,
    }
}

/// Whether a command is answered even while another keeps the drive.
fn meanwhile(operation: u8) -> bool {
    matches!(
        operation,
        opcode::INQUIRY | opcode::REPORT_LUNS | opcode::LOG_SENSE
    )
}

impl Target for Drive {
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
        if let Some(time) = self.busy_for()
            && !meanwhile(cdb.byte(0))
        {
            return Delivery::After { time, answer: None };
        }
        self.stats.commands += 1;
        let delivered = self.meet(nexus, &cdb, data_out, capacity_in);
        self.show();
        let time = std::mem::take(&mut self.owing);
        if time.is_zero() {
            return delivered;
        }
        let until = self.options.clock.now() + time;
        let kept = self.busy.map_or(Duration::ZERO, |(until, _)| until);
        self.busy = Some((until.max(kept), activity(cdb.byte(0))));
        match delivered {
            Delivery::Answer(response) => Delivery::After {
                time,
                answer: Some(response),
            },
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
        self.show();
    }
}
