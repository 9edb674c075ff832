//! The tape agent: mounts, labels, writes and reads volumes, and drives the robot.
//!
//! Owns what only it can know: the place on tape, part boundaries, the flush. It never decides what is written where, and never
//! says that something is on tape before the drive has said so.
#![forbid(unsafe_code)]

mod adopt;
pub mod append;
pub mod buffering;
mod clock;
pub mod commit;
pub mod config;
pub mod controller;
pub mod device;
pub mod door;
pub mod fault;
pub mod gauge;
pub mod indexing;
pub mod inspect;
pub mod journal;
pub mod keys;
pub mod labelling;
mod ledger;
pub mod medium;
pub mod mounts;
pub mod operate;
pub mod overwrite;
pub mod parts;
mod read;
mod readback;
pub mod reader;
mod reclaim;
mod rescan;
#[cfg(test)]
mod rig;
pub mod ring;
pub mod robot;
mod seats;
pub mod spool;
pub mod supervisor;
pub mod transfer;
mod turns;
mod verify;
pub mod watch;
pub mod worker;
mod write;
