//! Keeping others from a tape while we work: the drive's `st` device, held open and not used.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::libc;

use crate::host::{Host, Kind};

/// The hold on an `st` device; let go when dropped. Closing it sends no command.
#[derive(Debug)]
pub struct Guard {
    _st: Option<File>,
}

impl Guard {
    /// No hold.
    pub(super) fn none() -> Self {
        Self { _st: None }
    }

    /// Holds the `st` device of the drive behind this `sg` node. A changer, and a drive that the kernel's tape
    /// driver does not have, needs none. An error says that somebody else is at the tape; where it can't be held
    /// for another reason, work goes on without, and the log says why.
    pub(super) fn of(node: &Path) -> Result<Self, String> {
        let number = std::fs::metadata(node).map(|metadata| metadata.rdev());
        let host = Host::this();
        let device = number.ok().and_then(|number| {
            let devices = host.devices().ok()?;
            devices.into_iter().find(|device| device.number == number)
        });
        let Some(device) = device.filter(|device| device.kind == Kind::Drive) else {
            return Ok(Self::none());
        };
        let Some(st) = &device.st_node else {
            tracing::info!(
                device = %node.display(),
                driver = device.driver.as_deref().unwrap_or("none"),
                "the kernel's tape driver (st) does not have this drive, so it isn't held against other programs"
            );
            return Ok(Self::none());
        };
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(st);
        match opened {
            Ok(file) => Ok(Self { _st: Some(file) }),
            Err(error) if error.raw_os_error() == Some(Errno::EBUSY as i32) => {
                let users = host.users(&device);
                let who = if users.seen.is_empty() {
                    "a program that we may not see (root may)".to_owned()
                } else {
                    users.to_string()
                };
                Err(format!(
                    "another program is at its tape: {} is in use by {who}; end that first",
                    st.display()
                ))
            }
            Err(error) => {
                tracing::warn!(
                    device = %node.display(), st = %st.display(), %error,
                    "the drive's st device can't be held open; nothing keeps mt or tar from moving its tape"
                );
                Ok(Self::none())
            }
        }
    }
}
