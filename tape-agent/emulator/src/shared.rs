//! A logical unit that several owners hold: connections, the robot, the library.
//!
//! Locks are taken robot before drive, never the other way, so that none can wait for the other for ever.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

/// A handle to one logical unit; clones name the same one. Commands through any of them come one at a time.
#[derive(Debug, Default)]
pub struct Shared<T>(Arc<Mutex<T>>);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Shared<T> {
    /// Shares `unit`.
    pub fn new(unit: T) -> Self {
        Self(Arc::new(Mutex::new(unit)))
    }

    /// The unit itself, once no command runs. A command that panicked leaves the state it had reached, as a
    /// device whose firmware died would.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The unit itself, unless a command runs.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        match self.0.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// As transports want it.
    pub fn target(&self) -> Arc<Mutex<T>> {
        Arc::clone(&self.0)
    }
}
