//! The drive of a worker: one blocking thread at a time has it, and it is opened anew after its path broke.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use taf_drive::watch::{Command, Watch};
use taf_drive::{Drive, Error, Identity};
use taf_proto::agent::drive_observation::Medium;
use taf_proto::v1::Fault;

use crate::fault::fault;
use crate::keys::KeyFile;

/// Work waits so long for a device that does not answer: an emulator or a path may be restarting.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two attempts to open it.
const RETRY: Duration = Duration::from_millis(200);

/// A drive by its device name. Cheap to clone.
#[derive(Clone)]
pub struct Device {
    name: String,
    drive: Arc<Mutex<Option<Box<dyn Drive>>>>,
    changes: Arc<AtomicU64>,
    watch: Watch,
    keys: KeyFile,
}

impl Device {
    /// Names the device; it is opened when it is used.
    pub fn new(name: &str, keys: KeyFile) -> Device {
        Device {
            name: name.to_owned(),
            drive: Arc::default(),
            changes: Arc::default(),
            watch: Watch::default(),
            keys,
        }
    }

    /// Grows whenever the drive was opened anew or had news: a reset, another cartridge. What was proved or where the tape stood
    /// when it was less counts no more; after a reset the tape stands at its beginning.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    fn changed(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
    }

    fn open(&self) -> Result<Box<dyn Drive>, Error> {
        self.changed();
        let mut drive = taf_drive::open_watched(&self.name, &self.watch)?;
        match self.keys.next() {
            Ok(keys) => drive.reserve_with(keys),
            Err(error) => {
                tracing::error!(device = self.name, %error, "the keys of reservations can't be kept: other hosts are not kept off the drive");
            }
        }
        Ok(drive)
    }

    /// The command that does not come back, if ordinary ones are given so long.
    pub fn hung(&self, after: Duration) -> Option<Command> {
        self.watch.running().filter(|command| command.hangs(after))
    }

    /// Sends nothing more for the work that is under way; the drive is opened anew for the next.
    pub fn give_up(&self) {
        self.watch.give_up();
    }

    /// Takes the drive's news. They are noted here, since the command that brings them is the last to tell.
    fn news(&self, drive: &mut dyn Drive) -> Result<(), Error> {
        let news = drive.attentions();
        // An error may have swallowed some.
        if !matches!(&news, Ok(list) if list.is_empty()) {
            self.changed();
        }
        news.map(|_| ())
    }

    /// Takes over what a process of ours that died has left reserved; it also left its cartridge locked in.
    fn hold(&self, drive: &mut dyn Drive) -> Result<(), Error> {
        loop {
            match drive.reserve() {
                Ok(_) => return Ok(()),
                Err(Error::UnitAttention(_)) => self.changed(),
                Err(error) => return Err(error),
            }
        }
    }

    /// Who the drive is. Opens it; does not wait.
    pub fn identity(&self) -> Result<Identity, Error> {
        let mut drive = self.drive.lock().unwrap_or_else(PoisonError::into_inner);
        if drive.is_none() {
            *drive = Some(self.open()?);
        }
        match drive.as_ref() {
            Some(drive) => Ok(drive.identity().clone()),
            None => Err(Error::NotTaken("the drive is not open")),
        }
    }

    /// Works with the drive. Call it on a thread that may block. A drive whose path broke in the course of it is opened anew
    /// the next time: where its tape stands is then proved again, as at every beginning of work.
    pub fn work<T>(
        &self,
        work: impl FnOnce(&mut dyn Drive) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let mut slot = self.drive.lock().unwrap_or_else(PoisonError::into_inner);
        let begun = Instant::now();
        loop {
            let opened = match slot.take() {
                Some(drive) => Ok(drive),
                None => self.open(),
            };
            let error = match opened {
                // Finds out whether a path that was open still is.
                Ok(mut drive) => {
                    if let Err(error @ Error::Unknown(_)) = self.news(drive.as_mut()) {
                        error
                    } else {
                        let outcome = work(drive.as_mut());
                        let alive = !matches!(&outcome, Err(f) if f.reason == "DRIVE_UNREACHABLE");
                        *slot = alive.then_some(drive);
                        return outcome;
                    }
                }
                Err(error) => error,
            };
            if begun.elapsed() > PATIENCE {
                return Err(fault(
                    "DRIVE_UNREACHABLE",
                    format!("the device {} does not answer: {error}", self.name),
                    "see that the device is there and that this host may use it",
                ));
            }
            std::thread::sleep(RETRY);
        }
    }

    /// Looks at the drive if it is open and free. Never waits for it, and never opens it: what is asked here is of no use after
    /// a reset. News that the look met count as changes.
    pub fn look<T>(&self, look: impl FnOnce(&mut dyn Drive) -> Result<T, Error>) -> Option<T> {
        let mut slot = match self.drive.try_lock() {
            Ok(slot) => slot,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let drive = slot.as_mut()?;
        let outcome = self
            .news(drive.as_mut())
            .and_then(|()| look(drive.as_mut()));
        match outcome {
            Ok(seen) => Some(seen),
            Err(error) => {
                tracing::debug!(device = self.name, %error, "the drive does not say what it was asked");
                self.changed();
                if matches!(error, Error::Unknown(_)) {
                    *slot = None;
                }
                None
            }
        }
    }

    /// Lets go of the cartridge that work has locked in. Never waits for the drive: one that is gone has let go, too.
    pub fn release(&self) {
        let mut slot = match self.drive.try_lock() {
            Ok(slot) => slot,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let Some(drive) = slot.as_mut() else { return };
        let released = self
            .hold(drive.as_mut())
            .and_then(|()| self.news(drive.as_mut()))
            .and_then(|()| drive.prevent_removal(false))
            .and_then(|()| drive.release());
        if let Err(error) = released {
            tracing::debug!(device = self.name, %error, "the drive does not let go of its cartridge");
        }
    }

    /// What is in the drive. Never waits for it: unknown if it is busy or gone.
    pub fn medium(&self) -> Medium {
        let mut slot = match self.drive.try_lock() {
            Ok(slot) => slot,
            // Whoever died took the drive out first, so it is opened anew.
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Medium::Unspecified,
        };
        let opened = match slot.take() {
            Some(drive) => Ok(drive),
            None => self.open(),
        };
        let Ok(mut drive) = opened else {
            return Medium::Unspecified;
        };
        let looked = self.news(drive.as_mut()).and_then(|()| drive.ready());
        let medium = match looked {
            Ok(taf_drive::Readiness::NoMedium) => Medium::Empty,
            Ok(taf_drive::Readiness::LoadRequired) => Medium::Unloaded,
            Ok(_) => Medium::Loaded,
            Err(Error::Unknown(_)) => return Medium::Unspecified,
            Err(_) => Medium::Unspecified,
        };
        *slot = Some(drive);
        medium
    }
}
