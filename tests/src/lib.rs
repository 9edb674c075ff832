//! What whole-system tests share: the trees that they back up.
#![forbid(unsafe_code)]

pub mod nasty;
