//! Becoming ready: threading a cartridge, refusing it, cleaning with it, and what takes its time.

use std::time::Duration;

use taf_scsi::page::log::status::Activity;
use taf_scsi::sense::{Key, Sense, code};

use super::protection::Overwrite;
use super::{Drive, log};
use crate::cartridge::{Cartridge, Kind};
use crate::faults::At;
use crate::generation::Access;
use crate::wire::Check;

/// How often a cleaning cartridge can be used.
pub const CLEANINGS_MAX: u64 = 50;

/// Something that takes its time while the drive is not ready.
#[derive(Debug)]
pub(super) struct Becoming {
    pub activity: Activity,
    since: Duration,
    until: Duration,
    /// What it says meanwhile.
    code: (u8, u8),
    /// The medium may have changed, which is told when it is over.
    attention: bool,
}

impl Drive {
    pub(super) fn thread_by_itself(&mut self, attention: bool) {
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
    pub(super) fn becomes(
        &mut self,
        activity: Activity,
        code: (u8, u8),
        time: Duration,
        attention: bool,
    ) {
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
    pub(super) fn settle_becoming(&mut self) {
        let now = self.options.clock.now();
        let Some(over) = self.becoming.take_if(|becoming| becoming.until <= now) else {
            return;
        };
        if over.activity == Activity::Calibrating {
            self.initialised();
        }
        if over.attention {
            let attentions = &mut self.initiators.attentions;
            attentions.tell_all(code::MEDIUM_MAY_HAVE_CHANGED);
        }
    }

    /// The cartridge has had its first load.
    pub(super) fn initialised(&mut self) {
        if let Some(cartridge) = &mut self.cartridge {
            cartridge.memory_mut().history.initialised = 1;
        }
        self.save_memory();
    }

    /// Whether the cartridge is an LTO-9 one that no drive has optimised yet.
    pub(super) fn first_load(&self) -> bool {
        const LTO_9: u8 = 0x60;
        self.options.generation.number() == 9
            && !self.options.speeds.initialise.is_zero()
            && self.cartridge.as_ref().is_some_and(|cartridge| {
                cartridge.meta().density == LTO_9 && cartridge.memory().history.initialised == 0
            })
    }

    /// Threads the cartridge; how long that takes.
    pub(super) fn thread(&mut self) -> Result<Duration, Sense> {
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
        self.overwrite = Overwrite::None;
        self.warned_early = false;
        self.changed = false;
        if self.ready_end_unmarked() {
            self.alert(log::alert::MEDIA);
        }
        self.save_memory();
        Ok(time)
    }

    pub(super) fn ready_end_unmarked(&self) -> bool {
        self.cartridge
            .as_ref()
            .is_some_and(|cartridge| !cartridge.end_is_marked())
    }

    /// Cleans its heads with the cleaning cartridge, unless that is used up; how long that takes. The drive
    /// stays not ready until the cartridge is taken out.
    pub(super) fn clean(&mut self) -> Duration {
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
    pub(super) fn ready(&self) -> Result<&Cartridge, Check> {
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
}

pub(super) fn not_ready(inserted: bool) -> Check {
    let code = if inserted {
        code::LOAD_REQUIRED
    } else {
        code::MEDIUM_NOT_PRESENT
    };
    Sense::new(Key::NotReady, code).into()
}
