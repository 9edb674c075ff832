//! A drive: one logical unit of type 1 (SSC) that answers commands about the cartridge in it.
//!
//! Owns position, readiness and what is reported when; the bytes lie in [`crate::cartridge`]. It speaks
//! variable blocks only, as LTO drives are used. Reading or moving first empties the buffer to the medium, as
//! real drives do, so the buffer always lies at the end of the recording.

use std::time::{Duration, Instant};

use taf_scsi::cdb::opcode;
use taf_scsi::page::block_limits::BlockLimits;
use taf_scsi::page::inquiry::TYPE_TAPE;
use taf_scsi::page::tape_alert::Flags;
use taf_scsi::sense::{Key, Sense, code};
use taf_scsi::target::{Delivery, Nexus, Response, Target};

use crate::cartridge::{self, Behaviour, Cartridge, Cause, Loss};
use crate::faults::{At, Faults};
use crate::initiators::Initiators;
use crate::wire::{self, Cdb, Check, Identity, Outcome, Reply, illegal, invalid_field};
use crate::{Generation, Shared};

mod data;
mod log;
mod memory;
mod mode;
mod motion;
mod position;

/// How fast the drive is; zero is as fast as possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Speeds {
    /// Bytes a second to and from the medium.
    pub rate: u64,
    /// Time to thread a cartridge.
    pub load: Duration,
    /// Time for any LOCATE, SPACE or REWIND that moves.
    pub locate: Duration,
}

/// What kind of drive it is.
#[derive(Debug, Clone)]
pub struct Options {
    /// Unit serial number, ASCII.
    pub serial: String,
    /// LTO generation.
    pub generation: Generation,
    /// Largest block in bytes, at most [`cartridge::BLOCK_LENGTH_MAX`].
    pub block_max: u32,
    /// Bytes between early warning and the hard end; `None`: a 32nd of the capacity, at most 1 GiB.
    pub early_warning: Option<u64>,
    /// How cartridges behave in it.
    pub behaviour: Behaviour,
    /// How fast it is.
    pub speeds: Speeds,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            serial: "0000000001".to_owned(),
            generation: Generation::LTO8,
            block_max: 8 << 20,
            early_warning: None,
            behaviour: Behaviour::default(),
            speeds: Speeds::default(),
        }
    }
}

/// Why the robot can't have the cartridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Held {
    /// There is none.
    #[error("the drive is empty")]
    Empty,
    /// It is threaded.
    #[error("the drive has not unloaded its cartridge")]
    Threaded,
    /// An initiator prevents it.
    #[error("an initiator prevents the removal of the cartridge")]
    Prevented,
}

/// A drive.
#[derive(Debug)]
pub struct Drive {
    options: Options,
    faults: Shared<Faults>,
    cartridge: Option<Cartridge>,
    /// The cartridge is threaded and ready; else it lies in the mouth of the drive.
    threaded: bool,
    /// While the robot's cartridge is being threaded: when that ends.
    loading: Option<Instant>,
    /// The logical object that comes next.
    position: u64,
    initiators: Initiators,
    deferred: Option<Sense>,
    mode: mode::Mode,
    /// `TapeAlert` flags that page 2Eh has not told yet.
    alerts: Flags,
    /// They changed since somebody looked at them.
    alerts_unread: bool,
    /// Something was written since the last flush, and the volume change reference says so.
    changed: bool,
    /// When the medium will have taken what was given to it, at the drive's rate.
    busy_until: Option<Instant>,
}

impl Drive {
    /// An empty drive that was just switched on.
    pub fn new(options: Options, faults: Shared<Faults>) -> Self {
        Self {
            options,
            faults,
            cartridge: None,
            threaded: false,
            loading: None,
            position: 0,
            initiators: Initiators::new(),
            deferred: None,
            mode: mode::Mode::default(),
            alerts: Flags::NONE,
            alerts_unread: false,
            changed: false,
            busy_until: None,
        }
    }

    /// What kind of drive it is.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The product name it identifies itself by.
    pub fn product(&self) -> String {
        format!("ULTRIUM-EMU{}", self.options.generation.number())
    }

    /// The cartridge in it, threaded or not.
    pub fn cartridge(&self) -> Option<&Cartridge> {
        self.cartridge.as_ref()
    }

    /// Whether a cartridge is threaded.
    pub fn threaded(&self) -> bool {
        self.threaded
    }

    /// The robot puts a cartridge in: the drive threads it and says that the medium may have changed. The
    /// drive must be empty.
    pub fn insert(&mut self, cartridge: Cartridge) {
        self.cartridge = Some(cartridge);
        match self.thread() {
            Ok(()) => self.loading = Some(Instant::now() + self.options.speeds.load),
            Err(sense) => tracing::info!(%sense, "the drive could not thread its cartridge"),
        }
    }

    /// As after a start of the whole library: the cartridge was in the drive and is threaded again.
    pub fn power_on_with(&mut self, cartridge: Cartridge) {
        self.cartridge = Some(cartridge);
        if let Err(sense) = self.thread() {
            tracing::info!(%sense, "the drive could not thread its cartridge");
        }
    }

    /// Whether the robot may take the cartridge out.
    pub fn removable(&self) -> Result<(), Held> {
        if self.cartridge.is_none() {
            Err(Held::Empty)
        } else if self.threaded {
            Err(Held::Threaded)
        } else if self.initiators.prevented() {
            Err(Held::Prevented)
        } else {
            Ok(())
        }
    }

    /// The robot takes the cartridge out.
    pub fn remove(&mut self) -> Result<Cartridge, Held> {
        self.removable()?;
        self.save_memory();
        self.cartridge.take().ok_or(Held::Empty)
    }

    /// Empties the buffer to the medium, as before an orderly power-off.
    pub fn settle(&mut self) -> Result<(), Sense> {
        self.save_memory();
        self.flush().map_err(|check| check.sense)
    }

    /// Cuts the power and gives it back: of the buffer, the oldest `keep` objects had reached the medium.
    pub fn power_cut(&mut self, keep: u64) -> Result<(), cartridge::Error> {
        self.position = 0;
        self.loading = None;
        self.deferred = None;
        self.mode = mode::Mode::default();
        self.alerts = Flags::NONE;
        self.initiators.power_cut();
        self.threaded = self.cartridge.is_some();
        match &mut self.cartridge {
            Some(cartridge) => cartridge.power_cut(keep),
            None => Ok(()),
        }
    }

    fn thread(&mut self) -> Result<(), Sense> {
        let Some(cartridge) = &mut self.cartridge else {
            return Err(Sense::new(Key::NotReady, code::MEDIUM_NOT_PRESENT));
        };
        let strike = self.faults.lock().strike(At::Load, &cartridge.barcode(), 0);
        if let Some(sense) = strike {
            self.alert(log::alert::LOADING_FAILURE);
            return Err(sense);
        }
        if let Err(error) = cartridge.count_load() {
            // A worn counter is no reason to refuse a cartridge.
            tracing::warn!(%error, "the load was not counted");
        }
        let damaged = cartridge.memory_damaged();
        let history = &mut cartridge.memory_mut().history;
        history.last_written = 0;
        history.last_read = 0;
        history.last_write_errors = 0;
        history.last_read_errors = 0;
        history.alert_bits = 0;
        history.beginning_passes += 1;
        self.threaded = true;
        self.position = 0;
        self.changed = false;
        if damaged {
            self.alert(log::alert::MEMORY_FAILURE);
        }
        self.save_memory();
        Ok(())
    }

    /// The threaded cartridge, or NOT READY.
    fn ready(&self) -> Result<&Cartridge, Check> {
        match &self.cartridge {
            Some(_) if self.loading.is_some() => {
                Err(Sense::new(Key::NotReady, code::BECOMING_READY).into())
            }
            Some(cartridge) if self.threaded => Ok(cartridge),
            other => Err(not_ready(other.is_some())),
        }
    }

    fn strike(&self, at: At) -> Result<(), Check> {
        self.strike_at(at, self.position)
    }

    fn strike_at(&self, at: At, object: u64) -> Result<(), Check> {
        let barcode = self.cartridge.as_ref().map(Cartridge::barcode);
        let barcode = barcode.unwrap_or_default();
        match self.faults.lock().strike(at, &barcode, object) {
            Some(sense) => Err(sense.into()),
            None => Ok(()),
        }
    }

    /// Empties the buffer to the medium; what can't be written is lost and told as a deferred error.
    fn flush(&mut self) -> Result<(), Check> {
        if self.changed {
            self.changed = false;
            self.save_memory();
        }
        self.with_medium(|cartridge, gate| cartridge.flush(gate))
    }

    /// Does something that may write buffered objects to the medium. After a loss the position is where the
    /// medium's recording ends now.
    fn with_medium(
        &mut self,
        work: impl FnOnce(&mut Cartridge, cartridge::Gate<'_>) -> Result<(), Loss>,
    ) -> Result<(), Check> {
        let Some(cartridge) = &mut self.cartridge else {
            return Ok(());
        };
        let barcode = cartridge.barcode();
        let faults = &self.faults;
        let mut gate = |object| faults.lock().strike(At::Medium, &barcode, object);
        let Err(loss) = work(cartridge, &mut gate) else {
            return Ok(());
        };
        let sense = match loss.cause {
            Cause::Ordered(sense) => sense,
            Cause::File(error) => {
                tracing::error!(%error, lost = loss.objects, "buffered blocks are lost");
                Sense::new(Key::MediumError, code::WRITE_ERROR)
            }
        };
        self.position = cartridge.objects();
        let history = &mut cartridge.memory_mut().history;
        history.write_errors += 1;
        history.last_write_errors += 1;
        self.alert(log::alert::HARD_ERROR);
        self.alert(log::alert::WRITE_FAILURE);
        Err(sense
            .deferred()
            .with_information(loss.objects as i64)
            .into())
    }

    /// Waits as long as a real drive would to have `bytes` more on or from the medium, beyond what its buffer
    /// hides.
    fn pace(&mut self, bytes: u64) {
        let rate = self.options.speeds.rate;
        if rate == 0 {
            return;
        }
        let time = |bytes: u64| Duration::from_secs_f64(bytes as f64 / rate as f64);
        let now = Instant::now();
        let until = self.busy_until.map_or(now, |until| until.max(now)) + time(bytes);
        self.busy_until = Some(until);
        let ahead = until.saturating_duration_since(now);
        std::thread::sleep(ahead.saturating_sub(time(self.options.behaviour.buffer)));
    }

    fn reply(&mut self, nexus: Nexus, cdb: &Cdb, data_out: &[u8]) -> Reply {
        if self.loading.is_some_and(|until| until <= Instant::now()) {
            self.loading = None;
            let attentions = &mut self.initiators.attentions;
            attentions.tell_all(code::MEDIUM_MAY_HAVE_CHANGED);
        }
        self.initiators.admit(nexus, cdb, &mut self.deferred)?;
        match self.initiators.answer(nexus, cdb, data_out) {
            Some(reply) => reply,
            None => Ok(self.run(nexus, cdb, data_out)?),
        }
    }

    fn run(&mut self, nexus: Nexus, cdb: &Cdb, data_out: &[u8]) -> Outcome {
        match cdb.byte(0) {
            opcode::INQUIRY => Identity {
                device_type: TYPE_TAPE,
                product: &self.product(),
                serial: &self.options.serial,
            }
            .inquiry(cdb),
            opcode::REPORT_LUNS => Ok(wire::report_luns(cdb)),
            opcode::REQUEST_SENSE => Ok(self.request_sense(nexus, cdb)),
            opcode::TEST_UNIT_READY => self.ready().map(|_| Vec::new()),
            opcode::READ_BLOCK_LIMITS => Ok(self.block_limits()),
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
            opcode::ERASE_6 => self.erase(),
            opcode::FORMAT_MEDIUM => self.format_medium(),
            // Append-only mode is off, so every overwrite is allowed already.
            opcode::ALLOW_OVERWRITE => self.ready().map(|_| Vec::new()),
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

    fn load_unload(&mut self, cdb: &Cdb) -> Outcome {
        let load = cdb.bit(4, 0);
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
                std::thread::sleep(self.options.speeds.load);
                self.thread()?;
            }
        } else if self.threaded {
            if self.initiators.prevented() {
                self.alert(log::alert::NO_REMOVAL);
                return Err(illegal(code::MEDIUM_REMOVAL_PREVENTED));
            }
            self.rewind()?;
            self.save_memory();
            self.threaded = false;
        }
        Ok(Vec::new())
    }
}

fn not_ready(inserted: bool) -> Check {
    let code = if inserted {
        code::LOAD_REQUIRED
    } else {
        code::MEDIUM_NOT_PRESENT
    };
    Sense::new(Key::NotReady, code).into()
}

impl Target for Drive {
    fn execute(&mut self, cdb: &[u8], data_out: &[u8], capacity_in: usize) -> Response {
        let reply = self.reply(Nexus::DIRECT, &Cdb::new(cdb), data_out);
        wire::respond(reply, capacity_in)
    }

    fn deliver(
        &mut self,
        nexus: Nexus,
        cdb: &[u8],
        data_out: &[u8],
        capacity_in: usize,
    ) -> Delivery {
        let reply = self.reply(nexus, &Cdb::new(cdb), data_out);
        if let Err(refusal) = &reply {
            tracing::debug!(serial = self.options.serial, ?nexus, ?cdb, ?refusal);
        }
        Delivery::Answer(wire::respond(reply, capacity_in))
    }

    fn disconnected(&mut self, nexus: Nexus) {
        self.initiators.disconnected(nexus);
    }
}

#[cfg(test)]
mod tests;
