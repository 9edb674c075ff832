//! What a drive and a cartridge say of themselves: alerts, counters, the cartridge's memory.
//!
//! Owns what the numbers of log pages and attributes mean. It judges nothing: what a counter or an alert means for a drive's
//! or a cartridge's future is for who sees many mounts. A page that a drive does not have is skipped, a number that it does
//! not give is `None`, never zero.

mod alert;
mod flags;
mod memory;
mod statistics;
#[cfg(test)]
mod tests;

pub use alert::{Alert, AlertPage, Alerts, Measure, Severity};
pub use memory::{Chip, Memory};
pub use statistics::{Counts, Errors, Statistics, Usage, suspended_writes};

use crate::{Drive, Error};

/// Everything at once, as it is at a mount or an unmount.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// Counters.
    pub statistics: Statistics,
    /// The cartridge's memory; `None` if the drive does not show it.
    pub memory: Option<Memory>,
}

impl Snapshot {
    /// Asks the drive. What it does not know or will not say is left out; an error means that the drive is in trouble.
    pub fn take(drive: &mut dyn Drive) -> Result<Self, Error> {
        Ok(Self {
            statistics: Statistics::read(drive)?,
            memory: Memory::read(drive)?,
        })
    }
}
