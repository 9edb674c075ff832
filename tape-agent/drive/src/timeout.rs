//! How long a command may take.
//!
//! When a limit passes, the kernel resets the drive and everything in its buffer is lost, so the limits are the
//! longest that the makers name, not what a job would like to wait. A drive that states its own (REPORT
//! SUPPORTED OPERATION CODES) is believed, but for values under a minute.

use std::collections::HashMap;
use std::time::Duration;

use taf_scsi::cdb::opcode;
use taf_scsi::page::opcodes::Supported;

const LEAST: Duration = Duration::from_mins(1);
const MOST: Duration = Duration::from_hours(72);

/// Limits per operation code.
#[derive(Debug, Clone, Default)]
pub(crate) struct Timeouts {
    stated: HashMap<u8, Duration>,
}

impl Timeouts {
    /// Takes over what the device states.
    pub(crate) fn learn(&mut self, commands: &[Supported]) {
        for command in commands {
            if let Some(seconds) = command.timeout_seconds {
                let limit = Duration::from_secs(u64::from(seconds)).clamp(LEAST, MOST);
                // An operation code with several service actions takes the longest.
                let entry = self.stated.entry(command.opcode).or_insert(limit);
                *entry = limit.max(*entry);
            }
        }
    }

    /// The limit for a command.
    pub(crate) fn of(&self, operation: u8) -> Duration {
        self.stated
            .get(&operation)
            .copied()
            .unwrap_or_else(|| generous(operation))
    }
}

fn generous(operation: u8) -> Duration {
    Duration::from_secs(match operation {
        // A first load of LTO-9 media calibrates for up to two hours.
        opcode::LOAD_UNLOAD => 9_000,
        opcode::READ_6
        | opcode::WRITE_6
        | opcode::WRITE_FILEMARKS_6
        | opcode::WRITE_FILEMARKS_16
        | opcode::REWIND
        | opcode::READ_ELEMENT_STATUS
        | opcode::MOVE_MEDIUM => 1_800,
        opcode::SPACE_6
        | opcode::SPACE_16
        | opcode::LOCATE_10
        | opcode::LOCATE_16
        | opcode::INITIALIZE_ELEMENT_STATUS => 3_600,
        // A long erase writes the whole tape; LTO-9 takes over twelve hours.
        opcode::ERASE_6 | opcode::FORMAT_MEDIUM => 86_400,
        _ => 120,
    })
}
