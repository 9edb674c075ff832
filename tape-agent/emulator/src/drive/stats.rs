//! What a drive counts since it was switched on, for whoever looks from outside: no initiator sees it.

use serde::{Deserialize, Serialize};

use super::Drive;
use crate::Shared;
use crate::cartridge::Cartridge;

/// Counters of one drive since the library was switched on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// Commands that came, faults included.
    pub commands: u64,
    /// Commands that ended with an error (no filemark, early warning or wrong length).
    pub errors: u64,
    /// Cartridges threaded.
    pub mounts: u64,
    /// Cartridges unthreaded.
    pub unmounts: u64,
    /// Blocks that WRITE brought.
    pub blocks_written: u64,
    /// Their bytes.
    pub bytes_written: u64,
    /// Filemarks that WRITE FILEMARKS brought.
    pub filemarks_written: u64,
    /// WRITE FILEMARKS that waited for the medium.
    pub flushes: u64,
    /// Blocks that READ took.
    pub blocks_read: u64,
    /// Their bytes.
    pub bytes_read: u64,
    /// Movements by LOCATE, SPACE and REWIND towards the end.
    pub locates_forward: u64,
    /// Objects that they passed.
    pub objects_forward: u64,
    /// Movements towards the beginning.
    pub locates_backward: u64,
    /// Objects that they passed.
    pub objects_backward: u64,
    /// Movements to the very beginning, which are counted above too.
    pub rewinds: u64,
    /// How often the tape had to stop and go back because data did not come or go fast enough, or for a flush.
    pub repositions: u64,
    /// Buffered objects that were lost, by whatever.
    pub objects_lost: u64,
    /// Power cuts and resets.
    pub resets: u64,
    /// Milliseconds that hosts waited for the drive, in its own time.
    pub waited_ms: u64,
    /// Milliseconds of the drive's own time since it was switched on.
    pub time_ms: u64,
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

impl Drive {
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
    pub(super) fn show(&mut self) {
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
}
