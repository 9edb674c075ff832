//! From a device's name to a path to it.

use std::path::Path;

use super::unix::Unix;
use super::{Error, Transport};

/// Opens the path to the logical unit that `name` names: `unix:PATH` is the socket of an emulator.
pub fn open(name: &str) -> Result<Box<dyn Transport>, Error> {
    if let Some(path) = name.strip_prefix("unix:") {
        return Ok(Box::new(Unix::connect(Path::new(path))?));
    }
    let reason = if name.starts_with("iscsi://") {
        "this version has no iscsi initiator yet; use unix:PATH"
    } else if name.starts_with("/dev/") {
        "this version can't drive kernel devices yet; use unix:PATH"
    } else {
        "it isn't a device's name; use unix:PATH"
    };
    Err(Error::Lost {
        device: name.to_owned(),
        reason: reason.to_owned(),
    })
}
