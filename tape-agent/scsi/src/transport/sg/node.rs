//! The device file of a SCSI device.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::libc;
use nix::sys::stat::major;

use crate::host::{Host, Kind};
use crate::transport::ioctl;

/// The kernel's number of the `sg` driver.
const SG: u64 = 21;
/// And of `st`.
const ST: u64 = 9;
/// The oldest driver with the interface that we use.
const VERSION_LEAST: i32 = 30_000;

/// Opens it, or says why it is of no use.
pub(super) fn open(node: &Path) -> Result<File, String> {
    // Before it is opened: opening an `st` device moves the tape, and closing some rewinds it.
    let metadata = std::fs::metadata(node).map_err(|error| match error.kind() {
        ErrorKind::NotFound => format!("there is no {}; {SCAN}", node.display()),
        _ => format!("can't look at {}: {error}", node.display()),
    })?;
    if !metadata.file_type().is_char_device() {
        return Err(format!("{} is not a device; {SCAN}", node.display()));
    }
    match major(metadata.rdev()) {
        SG => {}
        ST => return Err(st(node, metadata.rdev())),
        other => {
            return Err(format!(
                "{} is a device of another kind (major {other}); {SCAN}",
                node.display()
            ));
        }
    }
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(node)
        .map_err(|error| match error.kind() {
            ErrorKind::PermissionDenied => format!(
                "no permission to open {} for reading and writing; run as root, or as a member of its group (tape)",
                node.display()
            ),
            _ => format!("can't open {}: {error}", node.display()),
        })?;
    match ioctl::version(file.as_fd()) {
        Ok(version) if version >= VERSION_LEAST => Ok(file),
        Ok(version) => Err(format!(
            "the kernel's sg driver is too old (version {version}, {VERSION_LEAST} is needed)"
        )),
        Err(error) => Err(format!(
            "{} does not answer as the kernel's sg driver: {error}",
            node.display()
        )),
    }
}

const SCAN: &str = "see which devices this host has: taf drive scan";

/// What to use instead of an `st` device: the same drive, by its other name.
fn st(node: &Path, number: u64) -> String {
    let instead = Host::this()
        .devices()
        .ok()
        .and_then(|devices| {
            devices
                .into_iter()
                .find(|device| device.kind == Kind::Drive && device.st_numbers.contains(&number))
        })
        .map_or_else(
            || SCAN.to_owned(),
            |device| match device.serial {
                Some(serial) => format!(
                    "use serial:{serial} or {}, the same drive",
                    device.node.display()
                ),
                None => format!("use {}, the same drive", device.node.display()),
            },
        );
    format!(
        "{} is the kernel's tape driver (st), which TAF does not use; {instead}",
        node.display()
    )
}
