//! From a device's name to a path to it.

use std::path::Path;

use super::sg::Sg;
use super::unix::Unix;
use super::{Error, Transport};
use crate::host::{self, Device, Host};

/// A device's name: what stands in configurations and on command lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name<'a> {
    /// `serial:XYZ`: the device of this host with this serial number, whatever node or order it comes up in.
    Serial(&'a str),
    /// `/dev/sgN`: a device of this host by its node, which may be another device's after a restart.
    Node(&'a Path),
    /// `unix:PATH`: the socket of an emulator.
    Unix(&'a Path),
}

impl<'a> Name<'a> {
    /// Reads a name, or says which there are.
    pub fn parse(name: &'a str) -> Result<Self, String> {
        let given = |rest: &'a str| Some(rest).filter(|rest| !rest.is_empty());
        if let Some(path) = name.strip_prefix("unix:").and_then(given) {
            return Ok(Self::Unix(Path::new(path)));
        }
        if let Some(serial) = name.strip_prefix("serial:").map(str::trim).and_then(given) {
            return Ok(Self::Serial(serial));
        }
        if name.starts_with("/dev/") {
            return Ok(Self::Node(Path::new(name)));
        }
        let why = if name.starts_with("iscsi://") {
            "this version has no iscsi initiator; log in to the target with open-iscsi, and"
        } else {
            "it isn't a device's name;"
        };
        Err(format!(
            "{why} use serial:NUMBER, /dev/sgN or unix:PATH (taf drive scan shows what there is)"
        ))
    }
}

/// Opens the path to the logical unit that `name` names (see [`Name`]).
pub fn open(name: &str) -> Result<Box<dyn Transport>, Error> {
    open_as(name, None)
}

/// The same, where a serial number is sought among devices of one kind only: in some libraries the robot bears the
/// number of a drive.
pub fn open_as(name: &str, kind: Option<host::Kind>) -> Result<Box<dyn Transport>, Error> {
    match Name::parse(name) {
        Ok(Name::Unix(path)) => Ok(Box::new(Unix::connect(path)?)),
        Ok(Name::Node(node)) => Ok(Box::new(Sg::open(node, name)?)),
        Ok(Name::Serial(serial)) => Ok(Box::new(by_serial(serial, kind)?)),
        Err(reason) => Err(Error::Lost {
            device: name.to_owned(),
            reason,
        }),
    }
}

/// Looks anew each time: nodes change with every restart and every cable.
fn by_serial(serial: &str, kind: Option<host::Kind>) -> Result<Sg, Error> {
    let lost = |reason: String| Error::Lost {
        device: format!("serial:{serial}"),
        reason,
    };
    let host = Host::this();
    let devices = host.devices().map_err(|error| lost(error.to_string()))?;
    let found: Vec<Device> = devices
        .into_iter()
        .filter(|device| device.serial.as_deref() == Some(serial))
        .filter(|device| kind.is_none_or(|kind| device.kind == kind))
        .collect();
    if found.len() > 1 {
        let nodes: Vec<_> = found.iter().map(|one| one.node.display()).collect();
        tracing::debug!(
            serial,
            ?nodes,
            "several paths to one device; the first that works is taken"
        );
    }
    let mut reason = "no device of this host has this serial number; is it on and connected? taf drive scan shows \
                      what there is"
        .to_owned();
    for device in found {
        let name = format!("serial:{serial} ({})", device.node.display());
        let mut path = match Sg::open(&device.node, name) {
            Ok(path) => path,
            Err(Error::Lost { reason: why, .. }) => {
                reason = why;
                continue;
            }
            Err(error) => return Err(error),
        };
        // What the kernel knows is from when it found the device; another may stand in its place now.
        let now = host::ask_serial(&mut path);
        if now.as_deref() == Some(serial) {
            return Ok(path);
        }
        reason = format!(
            "{} has another device now (serial number {}); have the kernel look again: \
             echo 1 > /sys/class/scsi_generic/{}/device/rescan",
            device.node.display(),
            now.as_deref().unwrap_or("unknown"),
            device.node_name(),
        );
    }
    Err(lost(reason))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_are_of_three_forms() {
        assert_eq!(Name::parse("serial: XYZ "), Ok(Name::Serial("XYZ")));
        assert_eq!(
            Name::parse("/dev/sg3"),
            Ok(Name::Node(Path::new("/dev/sg3")))
        );
        assert_eq!(Name::parse("unix:a/b"), Ok(Name::Unix(Path::new("a/b"))));
        for wrong in [
            "",
            "serial:",
            "serial:  ",
            "unix:",
            "sg3",
            "XYZ",
            "iscsi://host/target/1",
        ] {
            let why = Name::parse(wrong).unwrap_err();
            assert!(why.contains("serial:NUMBER"), "{wrong}: {why}");
        }
        assert!(
            Name::parse("iscsi://h/t/1")
                .unwrap_err()
                .contains("open-iscsi")
        );
    }

    #[test]
    fn a_serial_number_that_nothing_has_is_said_so() {
        let error = open("serial:NO-SUCH-NUMBER").err().unwrap().to_string();
        // Without the kernel's driver that is what is said.
        assert!(
            error.contains("no device of this host") || error.contains("modprobe sg"),
            "{error}"
        );
    }
}
