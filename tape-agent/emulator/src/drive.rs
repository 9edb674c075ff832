//! A drive: one logical unit of type 1 (SSC) that answers commands about the cartridge in it.
//!
//! Owns position, readiness and what is reported when; the bytes lie in [`crate::cartridge`]. It speaks
//! variable blocks only, as LTO drives are used. Reading or moving first empties the buffer to the medium, as
//! real drives do, so the buffer always lies at the end of the recording.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use taf_scsi::page::log::status::Activity;
use taf_scsi::page::tape_alert::Flags;
use taf_scsi::sense::{Key, Sense, code};

use crate::cartridge::{self, Behaviour, Cartridge, Cause, Kind, Loss};
use crate::clock::Clock;
use crate::faults::{At, Faults};
use crate::generation::Access;
use crate::initiators::Initiators;
use crate::unit::{Hung, Unit};
use crate::wire::Check;
use crate::{Generation, Shared};

mod commands;
mod data;
mod log;
mod memory;
mod mode;
mod motion;
mod motor;
mod position;
mod stats;
mod strike;

pub use motor::Speeds;
use motor::{Direction, Motor};
pub use stats::Stats;

/// How often a cleaning cartridge can be used.
pub const CLEANINGS_MAX: u64 = 50;

/// What kind of drive it is.
#[derive(Debug, Clone)]
pub struct Options {
    /// Its number in the library, from 0, by which faults name it.
    pub number: u16,
    /// Unit serial number, ASCII.
    pub serial: String,
    /// LTO generation.
    pub generation: Generation,
    /// Largest block in bytes, at most [`cartridge::BLOCK_LENGTH_MAX`].
    pub block_max: u32,
    /// Bytes between early warning and the hard end; `None`: a 32nd of the capacity, at most 1 GiB.
    pub early_warning: Option<u64>,
    /// A power cut while something is unflushed leaves a tape without an end-of-data mark.
    pub loses_end: bool,
    /// Percent of a cartridge's capacity that its worn heads lose, to rewriting; the cartridge doesn't know.
    pub worn: u8,
    /// How cartridges behave in it.
    pub behaviour: Behaviour,
    /// How fast it is.
    pub speeds: Speeds,
    /// What time it is for it.
    pub clock: Clock,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            number: 0,
            serial: "0000000001".to_owned(),
            generation: Generation::LTO8,
            block_max: 8 << 20,
            early_warning: None,
            loses_end: false,
            worn: 0,
            behaviour: Behaviour::default(),
            speeds: Speeds::default(),
            clock: Clock::default(),
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

/// Something that takes its time while the drive is not ready.
#[derive(Debug)]
struct Becoming {
    activity: Activity,
    since: Duration,
    until: Duration,
    /// What it says meanwhile.
    code: (u8, u8),
    /// The medium may have changed, which is told when it is over.
    attention: bool,
}

/// A drive.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools)] // independent facts
pub struct Drive {
    options: Options,
    number: String,
    faults: Shared<Faults>,
    cartridge: Option<Cartridge>,
    /// The cartridge is threaded and ready; else it lies in the mouth of the drive.
    threaded: bool,
    /// The drive can't do anything with the cartridge, and says so.
    refused: Option<Sense>,
    /// The drive isn't ready yet.
    becoming: Option<Becoming>,
    hung: Option<Hung>,
    /// The partition in which the head is.
    partition: u8,
    /// The logical object that comes next.
    position: u64,
    initiators: Initiators,
    deferred: Option<Sense>,
    mode: mode::Mode,
    /// What ALLOW OVERWRITE allowed.
    overwrite: data::Overwrite,
    /// Programmable early warning was told and not left since.
    warned_early: bool,
    /// `TapeAlert` flags that page 2Eh has not told yet.
    alerts: Flags,
    /// They changed since somebody looked at them.
    alerts_unread: bool,
    /// There are faults to come, as of the command that runs.
    armed: bool,
    /// The next sense goes out in descriptor format, whatever the mode says.
    describe: bool,
    /// Something was written since the last flush, and the volume change reference says so.
    changed: bool,
    motor: Motor,
    /// What the command that runs has to wait for in real time, which it does when the drive is let go of.
    owing: Duration,
    /// Until when a command keeps the drive in real time, and with what.
    busy: Option<(Duration, Activity)>,
    stats: Stats,
    /// A copy for those who look from outside while the drive is busy with a command.
    seen: Shared<Status>,
}

impl Drive {
    /// An empty drive that was just switched on.
    pub fn new(options: Options, faults: Shared<Faults>) -> Self {
        let mut drive = Self {
            number: options.number.to_string(),
            options,
            faults,
            cartridge: None,
            threaded: false,
            refused: None,
            becoming: None,
            hung: None,
            partition: 0,
            position: 0,
            initiators: Initiators::new(),
            deferred: None,
            mode: mode::Mode::default(),
            overwrite: data::Overwrite::None,
            warned_early: false,
            alerts: Flags::NONE,
            alerts_unread: false,
            armed: false,
            describe: false,
            changed: false,
            motor: Motor::default(),
            owing: Duration::ZERO,
            busy: None,
            stats: Stats::default(),
            seen: Shared::new(Status::default()),
        };
        drive.show();
        drive
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
        self.alerts = Flags::NONE;
        self.thread_by_itself(true);
        self.show();
    }

    /// As after a start of the whole library: the cartridge was in the drive and is threaded again.
    pub fn power_on_with(&mut self, cartridge: Cartridge) {
        self.cartridge = Some(cartridge);
        self.thread_by_itself(false);
        self.show();
    }

    fn thread_by_itself(&mut self, attention: bool) {
        self.armed = self.faults.lock().armed();
        match self.thread() {
            Ok(time) => {
                // A cleaning cartridge never makes the drive ready, so no medium has changed.
                let attention = attention && self.refused.is_none();
                self.becomes(Activity::Loading, code::BECOMING_READY, time, attention);
            }
            Err(sense) => tracing::info!(%sense, "the drive could not thread its cartridge"),
        }
    }

    /// The drive is not ready for so long.
    fn becomes(&mut self, activity: Activity, code: (u8, u8), time: Duration, attention: bool) {
        let since = self.now();
        let activity = if self.refused.is_some() {
            Activity::Cleaning
        } else if self.first_load() {
            Activity::Calibrating
        } else {
            activity
        };
        self.becoming = Some(Becoming {
            activity,
            since,
            until: since + time,
            code,
            attention,
        });
    }

    /// Ends what takes its time, if that is over.
    fn settle_becoming(&mut self) {
        let now = self.options.clock.now();
        let Some(over) = self.becoming.take_if(|becoming| becoming.until <= now) else {
            return;
        };
        if over.activity == Activity::Calibrating
            && let Some(cartridge) = &mut self.cartridge
        {
            cartridge.memory_mut().history.initialised = 1;
            self.save_memory();
        }
        if over.attention {
            let attentions = &mut self.initiators.attentions;
            attentions.tell_all(code::MEDIUM_MAY_HAVE_CHANGED);
        }
    }

    /// Whether the robot may take the cartridge out.
    pub fn removable(&self) -> Result<(), Held> {
        if self.cartridge.is_none() {
            Err(Held::Empty)
        } else if self.threaded || self.busy.is_some_and(|(until, _)| until > self.now()) {
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
        self.refused = None;
        self.becoming = None;
        let taken = self.cartridge.take().ok_or(Held::Empty);
        self.show();
        taken
    }

    /// Empties the buffer to the medium, as before an orderly power-off.
    pub fn settle(&mut self) -> Result<(), Sense> {
        self.armed = self.faults.lock().armed();
        self.save_memory();
        self.flush().map_err(|check| check.sense)
    }

    /// Cuts the power and gives it back: of the buffer, the oldest `keep` objects had reached the medium.
    pub fn power_cut(&mut self, keep: u64) -> Result<(), cartridge::Error> {
        self.start_anew(code::POWER_ON_OR_RESET, keep)
    }

    /// The same with a part of the buffer that chance chooses, by the seed of the library.
    pub fn power_cut_somewhere(&mut self) -> Result<(), cartridge::Error> {
        let keep = self.somewhere();
        self.power_cut(keep)
    }

    /// A reset, as a host gives one when a command took too long: nothing unflushed survives it.
    pub fn reset(&mut self) -> Result<(), cartridge::Error> {
        let keep = self.somewhere();
        self.start_anew(code::DEVICE_RESET, keep)
    }

    fn somewhere(&mut self) -> u64 {
        let buffered = self.cartridge.as_ref().map_or(0, |one| one.buffered().0);
        self.faults.lock().below(buffered + 1)
    }

    fn start_anew(&mut self, attention: (u8, u8), keep: u64) -> Result<(), cartridge::Error> {
        self.release();
        self.stats.resets += 1;
        self.owing = Duration::ZERO;
        self.busy = None;
        self.motor.rest(self.options.clock.now());
        self.position = 0;
        self.partition = 0;
        self.becoming = None;
        self.deferred = None;
        self.mode = mode::Mode::default();
        self.overwrite = data::Overwrite::None;
        self.warned_early = false;
        self.alerts = Flags::NONE;
        self.changed = false;
        self.initiators.power_cut(attention);
        let mut outcome = Ok(());
        if let Some(cartridge) = &mut self.cartridge {
            let unflushed = cartridge.buffered().0 > 0;
            self.stats.objects_lost += cartridge.buffered().0.saturating_sub(keep);
            outcome = cartridge.power_cut(keep);
            if unflushed && self.options.loses_end && outcome.is_ok() {
                outcome = cartridge.lose_end();
            }
        }
        if self.cartridge.is_some() {
            self.threaded = false;
            self.thread_by_itself(false);
        }
        self.show();
        outcome
    }

    /// Lets a command that hangs go on.
    pub fn let_go(&mut self) {
        self.release();
        self.show();
    }

    /// Whether a command hangs.
    pub fn hangs(&self) -> bool {
        self.hung.is_some()
    }

    /// Raises `TapeAlert` flags, 1 to 64.
    pub fn raise_alerts(&mut self, flags: &[u8]) {
        self.raise(flags);
    }

    /// What it counted since it was switched on.
    pub fn stats(&self) -> Stats {
        Stats {
            repositions: self.motor.repositions,
            time_ms: self.options.clock.now().as_millis() as u64,
            ..self.stats
        }
    }

    /// What it is and counts, readable also while a command keeps the drive.
    pub fn seen(&self) -> Shared<Status> {
        self.seen.clone()
    }

    /// Shows those who look from outside how things are.
    fn show(&mut self) {
        let status = Status {
            number: self.options.number,
            serial: self.options.serial.clone(),
            barcode: self.cartridge.as_ref().map(Cartridge::barcode),
            threaded: self.threaded,
            hangs: self.hung.is_some(),
            counters: self.stats(),
        };
        *self.seen.lock() = status;
    }

    /// Whether the cartridge is an LTO-9 one that no drive has optimised yet.
    fn first_load(&self) -> bool {
        const LTO_9: u8 = 0x60;
        self.options.generation.number() == 9
            && !self.options.speeds.initialise.is_zero()
            && self.cartridge.as_ref().is_some_and(|cartridge| {
                cartridge.meta().density == LTO_9 && cartridge.memory().history.initialised == 0
            })
    }

    /// Threads the cartridge; how long that takes.
    fn thread(&mut self) -> Result<Duration, Sense> {
        self.refused = None;
        let speeds = self.options.speeds;
        let Some(cartridge) = &mut self.cartridge else {
            return Err(Sense::new(Key::NotReady, code::MEDIUM_NOT_PRESENT));
        };
        let (kind, density) = (cartridge.meta().kind, cartridge.meta().density);
        let damaged = cartridge.memory_damaged();
        let history = &mut cartridge.memory_mut().history;
        history.last_written = 0;
        history.last_read = 0;
        history.last_write_errors = 0;
        history.last_read_errors = 0;
        history.last_write_retries = 0;
        history.last_read_retries = 0;
        history.alert_bits = 0;
        if damaged {
            self.alert(log::alert::MEMORY_FAILURE);
        }
        if let Some(fault) = self.struck(At::Load, 0) {
            self.alert(log::alert::LOADING_FAILURE);
            return Err(fault.to_sense());
        }
        if kind == Kind::Cleaning {
            return Ok(self.clean());
        }
        if self.options.generation.access(density) == Access::Refused {
            self.alert(log::alert::UNSUPPORTED_FORMAT);
            let sense = Sense::new(Key::NotReady, code::INCOMPATIBLE_MEDIUM);
            self.refused = Some(sense);
            return Err(sense);
        }
        let time = if self.first_load() {
            speeds.load + speeds.initialise
        } else {
            speeds.load
        };
        if let Some(cartridge) = &mut self.cartridge {
            cartridge.memory_mut().history.beginning_passes += 1;
            if let Err(error) = cartridge.count_load() {
                // A worn counter is no reason to refuse a cartridge.
                tracing::warn!(%error, "the load was not counted");
            }
        }
        self.stats.mounts += 1;
        self.motor.rest(self.now());
        self.threaded = true;
        self.partition = 0;
        self.position = 0;
        self.overwrite = data::Overwrite::None;
        self.warned_early = false;
        self.changed = false;
        if self.ready_end_unmarked() {
            self.alert(log::alert::MEDIA);
        }
        self.save_memory();
        Ok(time)
    }

    fn ready_end_unmarked(&self) -> bool {
        self.cartridge
            .as_ref()
            .is_some_and(|cartridge| !cartridge.end_is_marked())
    }

    /// Cleans its heads with the cleaning cartridge, unless that is used up; how long that takes. The drive
    /// stays not ready until the cartridge is taken out.
    fn clean(&mut self) -> Duration {
        let used = self
            .cartridge
            .as_ref()
            .map_or(0, |one| one.memory().history.cleanings);
        if used >= CLEANINGS_MAX {
            self.alert(log::alert::EXPIRED_CLEANING);
            self.refused = Some(Sense::new(Key::NotReady, code::CLEANING_EXPIRED));
            return Duration::ZERO;
        }
        if let Some(cartridge) = &mut self.cartridge {
            cartridge.memory_mut().history.cleanings += 1;
            if let Err(error) = cartridge.count_load() {
                tracing::warn!(%error, "the load was not counted");
            }
        }
        self.alerts.clear(log::alert::CLEAN_NOW);
        self.alerts.clear(log::alert::CLEAN_PERIODIC);
        self.alert(log::alert::CLEANING_CARTRIDGE);
        self.save_memory();
        self.refused = Some(Sense::new(Key::NotReady, code::CLEANING_CARTRIDGE));
        self.options.speeds.clean
    }

    /// The threaded cartridge, or NOT READY.
    fn ready(&self) -> Result<&Cartridge, Check> {
        if let Some(becoming) = &self.becoming
            && self.cartridge.is_some()
        {
            let whole = becoming.until.saturating_sub(becoming.since);
            let whole = whole.as_nanos().max(1);
            let done = self.options.clock.now().saturating_sub(becoming.since);
            let progress = (done.as_nanos() * 65_536 / whole).min(65_535) as u16;
            let code = match self.refused {
                Some(refused) => refused.code(),
                None => becoming.code,
            };
            return Err(Sense::new(Key::NotReady, code)
                .with_progress(progress)
                .into());
        }
        match &self.cartridge {
            Some(cartridge) if self.threaded => Ok(cartridge),
            Some(_) => Err(match self.refused {
                Some(sense) => sense.into(),
                None => not_ready(true),
            }),
            None => Err(not_ready(false)),
        }
    }

    /// Empties the buffer to the medium; what can't be written is lost and told as a deferred error.
    fn flush(&mut self) -> Result<(), Check> {
        if self.changed {
            self.changed = false;
            self.save_memory();
        }
        if self.motor.unwritten() > 0 {
            let buffer = self.options.behaviour.buffer;
            let now = self.now();
            let wait = self.motor.settle(&self.options.speeds, buffer, now);
            self.wait(wait);
        }
        self.with_medium(|cartridge, gate| cartridge.flush(gate))
    }

    /// Does something that may write buffered objects to the medium. After a loss the position is where the
    /// medium's recording ends now.
    fn with_medium(
        &mut self,
        work: impl FnOnce(&mut Cartridge, cartridge::Gate<'_>) -> Result<(), Loss>,
    ) -> Result<(), Check> {
        let now = self.now();
        let Some(cartridge) = &mut self.cartridge else {
            return Ok(());
        };
        let barcode = cartridge.barcode();
        let faults = &self.faults;
        let unit = (self.number.as_str(), self.options.serial.as_str());
        let mut struck = None;
        let armed = self.armed;
        let mut gate = |object| {
            if !armed {
                return None;
            }
            let scene = strike::on_medium(unit, &barcode, object, now);
            struck = faults.lock().within(&scene);
            struck.as_ref().map(crate::faults::Fault::to_sense)
        };
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
        self.stats.objects_lost += loss.objects;
        self.motor.rest(now);
        let history = &mut cartridge.memory_mut().history;
        history.write_errors += 1;
        history.last_write_errors += 1;
        self.alert(log::alert::HARD_ERROR);
        self.alert(log::alert::WRITE_FAILURE);
        if let Some(fault) = struck {
            self.raise(&fault.alerts);
        }
        Err(sense
            .deferred()
            .with_information(loss.objects as i64)
            .into())
    }

    /// What time it is for the command that runs.
    fn now(&self) -> Duration {
        self.options.clock.now() + self.owing
    }

    /// The host waits for the drive. Simulated time has passed at once; real time passes when the command is
    /// done, so that the drive can be asked meanwhile what it does.
    fn wait(&mut self, time: Duration) {
        self.stats.waited_ms += time.as_millis() as u64;
        match &self.options.clock {
            Clock::Real => self.owing += time,
            clock @ Clock::Simulated(_) => clock.advance(time),
        }
    }

    /// How long a command still keeps the drive.
    fn busy_for(&mut self) -> Option<Duration> {
        let now = self.options.clock.now();
        self.busy.take_if(|(until, _)| *until <= now);
        self.busy.map(|(until, _)| until.saturating_sub(now))
    }

    /// `bytes` go to or from the buffer, at the speed of the tape behind it.
    fn stream(&mut self, direction: Direction, bytes: u64) {
        let (speeds, buffer) = (self.options.speeds, self.options.behaviour.buffer);
        let now = self.now();
        let wait = self.motor.transfer(&speeds, buffer, direction, bytes, now);
        self.wait(wait);
    }

    /// Brings the medium up to now: what the tape took meanwhile is out of the buffer, and what it could not
    /// take is told with the next command.
    fn catch_up(&mut self) {
        let (speeds, buffer) = (self.options.speeds, self.options.behaviour.buffer);
        if speeds.rate == 0 {
            return;
        }
        let before = self.motor.repositions;
        self.motor
            .advance(&speeds, buffer, self.options.clock.now());
        let stops = self.motor.repositions - before;
        let left = self.motor.unwritten();
        if let Some(cartridge) = &mut self.cartridge {
            if stops > 0 {
                cartridge.memory_mut().history.suspended_writes += stops;
            }
            if let Err(check) = self.with_medium(|cartridge, gate| cartridge.drain_to(left, gate)) {
                self.deferred.get_or_insert(check.sense);
            }
        }
    }
}

/// A drive as one sees it from outside.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Status {
    /// Its number in the library.
    pub number: u16,
    /// Its serial number.
    pub serial: String,
    /// The cartridge in it.
    pub barcode: Option<String>,
    /// Whether that is threaded.
    pub threaded: bool,
    /// Whether a command hangs.
    pub hangs: bool,
    /// What it counted since it was switched on.
    pub counters: Stats,
}

fn not_ready(inserted: bool) -> Check {
    let code = if inserted {
        code::LOAD_REQUIRED
    } else {
        code::MEDIUM_NOT_PRESENT
    };
    Sense::new(Key::NotReady, code).into()
}

#[cfg(test)]
mod tests;
