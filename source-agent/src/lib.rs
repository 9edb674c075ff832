//! The agent of one file server: packs its files into archives and sends them to a tape agent, and brings them back.
//!
//! Owns what is read and written on its host, and whether that is allowed: its own configuration decides, whoever
//! asks. It never drives tapes and keeps no catalog. [`backup::pack`] and [`restore`]'s parts know no network, so that
//! they can be tested, and trusted, alone.
#![forbid(unsafe_code)]

pub mod agent;
pub mod allow;
pub mod backup;
pub mod config;
pub mod dial;
pub mod fault;
pub mod issues;
pub mod ordered;
pub mod progress;
mod remove;
pub mod restore;
mod synthetic;
