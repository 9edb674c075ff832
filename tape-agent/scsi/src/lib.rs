//! SCSI for tape drives (SSC) and media changers (SMC): commands, sense data, pages, and the
//! transports that carry them.
//!
//! Owns the bytes of the standards and nothing else: no retry, no policy, no knowledge of TAF. A CHECK
//! CONDITION is a value here; an error means that the outcome of the command is unknown.
#![deny(unsafe_code)]

pub mod target;
pub mod transport;
