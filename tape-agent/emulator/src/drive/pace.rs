//! From the buffer to the medium, and what of the host's time that takes.

use std::time::Duration;

use taf_scsi::sense::{Key, Sense, code};

use super::motor::Direction;
use super::{Drive, log, strike};
use crate::cartridge::{self, Cartridge, Cause, Loss};
use crate::clock::Clock;
use crate::wire::Check;

impl Drive {
    /// Empties the buffer to the medium; what can't be written is lost and told as a deferred error.
    pub(super) fn flush(&mut self) -> Result<(), Check> {
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
    pub(super) fn with_medium(
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
    pub(super) fn now(&self) -> Duration {
        self.options.clock.now() + self.owing
    }

    /// The host waits for the drive. Simulated time has passed at once; real time passes when the command is
    /// done, so that the drive can be asked meanwhile what it does.
    pub(super) fn wait(&mut self, time: Duration) {
        self.stats.waited_ms += time.as_millis() as u64;
        match &self.options.clock {
            Clock::Real => self.owing += time,
            clock @ Clock::Simulated(_) => clock.advance(time),
        }
    }

    /// How long a command still keeps the drive.
    pub(super) fn busy_for(&mut self) -> Option<Duration> {
        let now = self.options.clock.now();
        self.busy.take_if(|(until, _)| *until <= now);
        self.busy.map(|(until, _)| until.saturating_sub(now))
    }

    /// `bytes` go to or from the buffer, at the speed of the tape behind it.
    pub(super) fn stream(&mut self, direction: Direction, bytes: u64) {
        let (speeds, buffer) = (self.options.speeds, self.options.behaviour.buffer);
        let now = self.now();
        let wait = self.motor.transfer(&speeds, buffer, direction, bytes, now);
        self.wait(wait);
    }

    /// Brings the medium up to now: what the tape took meanwhile is out of the buffer, and what it could not
    /// take is told with the next command.
    pub(super) fn catch_up(&mut self) {
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
