//! SCSI for tape drives (SSC) and media changers (SMC): commands, sense data, pages, and the
//! transports that carry them.
//!
//! Owns the bytes of the standards, and what this host has of devices, and nothing else: no retry, no policy, no
//! knowledge of TAF. A CHECK CONDITION is a value here; an error means that the outcome of the command is unknown.
//!
//! Unsafe code is in one file, `transport/ioctl.rs`, and denied everywhere else.
#![deny(unsafe_code)]

pub mod cdb;
pub mod host;
pub mod page;
pub mod sense;
pub mod target;
pub mod transport;

/// SAM-5 status bytes.
pub mod status {
    /// The command is done.
    pub const GOOD: u8 = 0x00;
    /// Sense data says what happened; the command may well have succeeded (early warning, filemark).
    pub const CHECK_CONDITION: u8 = 0x02;
    /// The device can't take the command now; it did not run.
    pub const BUSY: u8 = 0x08;
    /// Another initiator holds the device; the command did not run.
    pub const RESERVATION_CONFLICT: u8 = 0x18;
    /// The device's queue is full; the command did not run.
    pub const TASK_SET_FULL: u8 = 0x28;
}
