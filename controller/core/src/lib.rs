//! The controller's decisions, pure: what a waiting job gets, what a running attempt does next, and when it is
//! over.
//!
//! No IO, no clock, no protobuf: facts come in, decisions with their reasons go out. Deciding twice on the
//! same facts gives the same decisions, so a reconciler may run as often as it likes.
#![forbid(unsafe_code)]

pub mod attempt;
pub mod auto_label;
pub mod carry;
pub mod catalog;
pub mod fault;
pub mod generation;
pub mod health;
pub mod index;
pub mod inspection;
pub mod instant;
pub mod mount;
pub mod plan;
pub mod recall;
pub mod retention;
pub mod sampling;
pub mod trust;

pub use fault::Fault;
