//! A drive: one logical unit of type 1 (SSC) that answers commands about the cartridge in it.
//!
//! Owns position, readiness and what is reported when; the bytes lie in [`crate::cartridge`]. It speaks
//! variable blocks only, as LTO drives are used. Reading or moving first empties the buffer to the medium, as
//! real drives do, so the buffer always lies at the end of the recording.

use std::time::Duration;

use taf_scsi::page::log::status::Activity;
use taf_scsi::page::tape_alert::Flags;
use taf_scsi::sense::{Sense, code};

use crate::cartridge::{self, Behaviour, Cartridge};
use crate::clock::Clock;
use crate::faults::Faults;
use crate::initiators::Initiators;
use crate::unit::{Hung, Unit};
use crate::{Generation, Shared};

mod commands;
mod data;
mod log;
mod memory;
mod mode;
mod motion;
mod motor;
mod pace;
mod position;
mod protection;
mod readiness;
mod stats;
mod strike;

use motor::Motor;
pub use motor::Speeds;
use protection::Overwrite;
use readiness::Becoming;
pub use readiness::CLEANINGS_MAX;
pub use stats::{Stats, Status};

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
    overwrite: Overwrite,
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
            overwrite: Overwrite::None,
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
        self.overwrite = Overwrite::None;
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
}

#[cfg(test)]
mod tests;
