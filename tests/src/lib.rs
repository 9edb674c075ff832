//! What whole-system tests share: the trees that they back up, a system of real processes to do it with, and patience.
#![forbid(unsafe_code)]

pub mod again;
pub mod lab;
pub mod nasty;
pub mod patience;
pub mod said;
pub mod system;
pub mod tools;
pub mod trees;
