#![doc = include_str!("../README.md")]
//!
//! # For those who work on it
//!
//! The crate owns the device's side of tape: what a drive and a library do when told so by bytes, faults included.
//! It knows nothing of TAF and nothing of who asks; whatever drives a real device drives this one, over the unix
//! socket, an iSCSI target or in process. That is the point: there is no other way to "a drive" in the product.
#![forbid(unsafe_code)]

mod attentions;
pub mod cartridge;
pub mod changer;
pub mod clock;
pub mod control;
pub mod drive;
pub mod faults;
pub mod generation;
mod initiators;
pub mod iscsi;
pub mod library;
mod reservations;
pub mod server;
mod shared;
pub mod single;
mod unit;
mod wire;

pub use cartridge::Cartridge;
pub use changer::Changer;
pub use clock::Clock;
pub use drive::Drive;
pub use generation::Generation;
pub use library::Library;
pub use shared::Shared;
