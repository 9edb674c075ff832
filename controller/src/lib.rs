//! The controller: serves the API, keeps the catalog, decides what runs where. Agents and people come to it; it dials
//! nobody. Work of devices and files is done by the agents, decisions by the pure crate `taf-core`.
#![forbid(unsafe_code)]

pub mod access;
pub mod app;
pub mod catalog;
pub mod config;
pub mod embedded;
pub mod reconcile;
pub mod server;
pub mod services;
pub mod session;
pub mod store;
