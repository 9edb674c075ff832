//! From a device's name to a path to it.

use std::path::Path;

use super::iscsi::{self, Address, Iscsi};
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
    /// `iscsi://[USER@]HOST[:PORT]/TARGET/LUN`: a logical unit of an iSCSI target.
    Iscsi(Address<'a>),
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
        if let Some(address) = name.strip_prefix("iscsi://") {
            return Address::parse(address).map(Self::Iscsi).map_err(|why| {
                format!("{why}; the form is iscsi://[USER@]HOST[:PORT]/TARGET/LUN (taf drive scan --iscsi HOST shows them)")
            });
        }
        Err(
            "it isn't a device's name; use serial:NUMBER, /dev/sgN, iscsi://HOST/TARGET/LUN or unix:PATH (taf drive scan \
             shows what there is)"
                .to_owned(),
        )
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
        Ok(Name::Iscsi(address)) => Ok(Box::new(Iscsi::open(&address, iscsi::configured())?)),
        Ok(Name::Serial(serial)) => by_serial(serial, kind),
        Err(reason) => Err(Error::Lost {
            device: name.to_owned(),
            reason,
        }),
    }
}

/// Looks anew each time: nodes change with every restart and every cable. This host's own devices go before those behind
/// iSCSI portals, which are asked only if they are configured.
fn by_serial(serial: &str, kind: Option<host::Kind>) -> Result<Box<dyn Transport>, Error> {
    let settings = iscsi::configured();
    let own = of_this_host(serial, kind);
    if own.is_ok() || settings.portals.is_empty() {
        return Ok(Box::new(own?));
    }
    let lost = |reason: String| Error::Lost {
        device: format!("serial:{serial}"),
        reason,
    };
    match iscsi::find_serial(serial, kind, settings).map_err(lost)? {
        Some(found) => open(&found.name),
        None => Err(lost(
            "neither a device of this host nor one behind its iSCSI portals has this serial number; is it on? taf drive \
             scan shows what there is"
                .to_owned(),
        )),
    }
}

fn of_this_host(serial: &str, kind: Option<host::Kind>) -> Result<Sg, Error> {
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
    fn names_are_of_four_forms() {
        assert_eq!(Name::parse("serial: XYZ "), Ok(Name::Serial("XYZ")));
        assert_eq!(
            Name::parse("/dev/sg3"),
            Ok(Name::Node(Path::new("/dev/sg3")))
        );
        assert_eq!(Name::parse("unix:a/b"), Ok(Name::Unix(Path::new("a/b"))));
        for wrong in ["", "serial:", "serial:  ", "unix:", "sg3", "XYZ"] {
            let why = Name::parse(wrong).unwrap_err();
            assert!(why.contains("serial:NUMBER"), "{wrong}: {why}");
        }
        assert!(matches!(
            Name::parse("iscsi://h/iqn.x/1"),
            Ok(Name::Iscsi(_))
        ));
        let why = Name::parse("iscsi://h/t/1").unwrap_err();
        assert!(why.contains("iscsi://[USER@]HOST"), "{why}");
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
