//! A drive by IBM's `itdt` for control and the kernel's tape driver `st` for data: for hosts where nobody may send SCSI commands.
//!
//! Owns what the two do to each other. `itdt` wants the drive for itself, and `st` writes a filemark where its file is closed behind
//! a write. So before each call the drive's buffer is brought onto the medium (a mark of count 0, after which `st` adds none), the
//! place is asked for, and `st` is closed; after it `st` is opened again and must say the same place. Whoever was in between is
//! news, like a reset: the caller proves the volume again.
//!
//! `st` keeps sense data to itself. What its errors mean is therefore found out, never guessed (see [`data`]), and where it can't
//! be, the answer is the one that makes the caller prove more: a failed write puts all since the last flush in doubt, and a tape is
//! blank only if the drive also finds its end of data at its beginning.
//!
//! What this way can't do is said as the SCSI driver says what a drive lacks: no reservations, alerts, log pages but 30h, programmable
//! early warning, append-only mode, densities, formatting, and nothing of what is in the drive's buffer.
//!
//! Assumed of `itdt`, of which no transcript is public: facts/itdt-and-mam.md, and the head of the tests' double.

use std::path::{Path, PathBuf};

use nix::errno::Errno;
use taf_scsi::host::{Device, Host, Kind};
use taf_scsi::transport::sg::Sg;
use taf_scsi::transport::st::St;
use taf_scsi::transport::{self, Error as PathError, Transport as _};

use crate::error::Error;
use crate::outcome::{BlockLimits, Identity};
use crate::watch::Watch;
use crate::{Drive, ScsiDrive};

mod answers;
mod calls;
mod data;
mod drive;
mod name;
mod positioning;
mod program;
mod tape;
#[cfg(test)]
mod tests;

pub use name::Name;
pub(crate) use name::{PREFIX, PROGRAM, parse};
pub(crate) use program::is_there;

use drive::ItdtDrive;
use program::{Effort, Program};
use tape::{Road, Tape};

/// Opens the drive: finds it on this host, and by its serial number in what `itdt` sees.
pub(crate) fn open(
    name: &str,
    parts: Name<'_>,
    watch: Option<&Watch>,
) -> Result<Box<dyn Drive>, Error> {
    let lost = |reason| lost(name, reason);
    let device = find(&Host::this(), parts.device).map_err(lost)?;
    if let Some(reason) = device.why_no_st() {
        return Err(lost(reason));
    }
    let Some(node) = device.st_node.clone() else {
        return Err(lost("it is no tape drive".to_owned()));
    };
    let mut program = Program {
        program: parts.program.to_owned(),
        device: device.node.display().to_string(),
    };
    program.device = listed(&program, device.serial.as_deref())?.unwrap_or(program.device);
    let road = Kernel {
        name: name.to_owned(),
        node,
        device: device.clone(),
    };
    let identity = Identity {
        vendor: device.vendor,
        product: device.product,
        revision: device.revision,
        serial: device.serial,
    };
    Ok(Box::new(ItdtDrive::new(
        name,
        identity,
        program,
        Box::new(road),
        watch,
    )))
}

/// How `itdt` names the drive of this serial number.
fn listed(program: &Program, serial: Option<&str>) -> Result<Option<String>, Error> {
    let seen = match program.scan() {
        Ok(output) => answers::scan(&output),
        // It is there, and says something else than is known: its name for a device of the kernel's is documented.
        Err(Error::Program { reason, .. }) => {
            tracing::warn!(reason, "itdt can't scan");
            Vec::new()
        }
        Err(error) => return Err(error),
    };
    let found = seen
        .into_iter()
        .find(|one| serial.is_some_and(|serial| one.serial == serial));
    let Some(one) = found else {
        tracing::warn!(
            device = program.device,
            serial,
            "itdt's scan does not list the drive; it is given the kernel's node"
        );
        // Not all that it reaches it lists; what it doesn't reach it can't drive.
        program.run(Effort::Ask, &["inq"])?;
        return Ok(None);
    };
    tracing::info!(
        device = one.device,
        product = one.product,
        revision = one.revision,
        serial = one.serial,
        "itdt sees the drive"
    );
    Ok(Some(one.device))
}

/// The drive on this host, by serial number or by any of its nodes.
fn find(host: &Host, name: transport::Name<'_>) -> Result<Device, String> {
    const SCAN: &str = "taf drive scan shows what there is";
    let devices = host.devices().map_err(|error| error.to_string())?;
    let mut drives = devices.into_iter().filter(|one| one.kind == Kind::Drive);
    match name {
        transport::Name::Serial(serial) => drives
            .find(|one| one.serial.as_deref() == Some(serial))
            .ok_or_else(|| format!("no drive of this host has this serial number; {SCAN}")),
        transport::Name::Node(node) => {
            let number = std::os::unix::fs::MetadataExt::rdev(
                &std::fs::metadata(node)
                    .map_err(|error| format!("{}: {error}; {SCAN}", node.display()))?,
            );
            drives
                .find(|one| one.number == number || one.st_numbers.contains(&number))
                .ok_or_else(|| no_drive(node))
        }
        _ => Err("only a drive of this host has an st device".to_owned()),
    }
}

fn no_drive(node: &Path) -> String {
    let node = node.display();
    if node.to_string().starts_with("/dev/IBMtape") {
        format!(
            "{node} is a node of IBM's driver lin_tape, which TAF does not use; name the drive itdt:serial:NUMBER, and give it back to \
             the kernel's st: taf drive scan says how"
        )
    } else {
        format!("{node} is no tape drive; taf drive scan shows what there is")
    }
}

fn lost(name: &str, reason: String) -> Error {
    Error::Unknown(PathError::Lost {
        device: name.to_owned(),
        reason,
    })
}

/// The road to the kernel's device.
struct Kernel {
    name: String,
    node: PathBuf,
    device: Device,
}

impl Road for Kernel {
    fn open(&mut self) -> Result<Box<dyn Tape>, Error> {
        let error = match St::open(&self.node) {
            Ok(st) => return Ok(Box::new(st)),
            Err(error) => error,
        };
        let node = self.node.display();
        let reason = match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EBUSY) => format!(
                "another program is at its tape: {node} is in use by {}; end that first",
                Host::this().users(&self.device)
            ),
            Some(Errno::EACCES | Errno::EPERM) => {
                format!("no permission to open {node}; run as root, which itdt needs as well")
            }
            _ => format!("{node} can't be opened: {error}"),
        };
        Err(lost(&self.name, reason))
    }

    /// By asking the drive through `sg` who it is, in ever longer transfers, and for its limits: `st` says nothing of either but by
    /// a write that fails, and both send what they send through the same adapter.
    fn measure(&mut self) -> Result<BlockLimits, Error> {
        let mut path = Sg::open_to_ask(&self.device.node)?;
        path.measure()?;
        ScsiDrive::new(Box::new(path))?.block_limits()
    }
}
