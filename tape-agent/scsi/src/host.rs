//! The tape drives and media changers that this host's kernel knows, and who uses them.
//!
//! Read from the kernel's own folders (`/sys`, `/proc`): no device is sent a command, so looking disturbs nobody's
//! work. Nodes are numbered anew with every restart and every cable; what stays is the serial number.

use std::cmp::Ordering;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::stat::makedev;

use crate::cdb;
use crate::page::{inquiry, vpd};
use crate::status;
use crate::transport::sg::Sg;
use crate::transport::{Data, Transport};

mod users;

pub use users::{User, Users};

/// Asking a device for its serial number takes no longer.
const ASKING: Duration = Duration::from_mins(1);

/// Names under which IBM's own tape driver stands in the kernel's folders.
const VENDORS: [&str; 3] = ["lin_tape", "IBMtape", "lin_tape_st"];

/// What a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A tape drive.
    Drive,
    /// A media changer.
    Changer,
}

impl Kind {
    /// The kind that a peripheral device type (INQUIRY) names.
    pub fn from_type(device_type: u8) -> Option<Self> {
        match device_type {
            inquiry::TYPE_TAPE => Some(Self::Drive),
            inquiry::TYPE_CHANGER => Some(Self::Changer),
            _ => None,
        }
    }
}

/// A device as the kernel found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// What it is.
    pub kind: Kind,
    /// Vendor.
    pub vendor: String,
    /// Product.
    pub product: String,
    /// Firmware revision.
    pub revision: String,
    /// Unit serial number, if the kernel or the device tells it.
    pub serial: Option<String>,
    /// The node that TAF uses, `/dev/sgN`.
    pub node: PathBuf,
    /// The node's device number.
    pub number: u64,
    /// The kernel's tape driver's node that doesn't rewind, `/dev/nstN`, if `st` has the drive.
    pub st_node: Option<PathBuf>,
    /// The device numbers of all nodes that `st` has for the drive.
    pub st_numbers: Vec<u64>,
    /// The kernel driver that has the device beside `sg`: `st`, `ch`, or a vendor's.
    pub driver: Option<String>,
    /// Host, channel, target and unit, as `0:0:0:1`.
    pub address: String,
    /// What the kernel thinks of it: `running`, `offline`, …
    pub state: String,
}

impl Device {
    /// The node without its folder: `sg3`.
    pub fn node_name(&self) -> String {
        self.node
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }

    /// Why the kernel's tape driver `st` does not have this drive, and what to do for those who need it; none if it has it, or
    /// this is no drive.
    pub fn why_no_st(&self) -> Option<String> {
        if self.kind != Kind::Drive || self.st_node.is_some() {
            return None;
        }
        Some(match self.driver.as_deref() {
            Some(driver) if VENDORS.contains(&driver) => {
                let address = &self.address;
                format!(
                    "IBM's driver {driver} has this drive, so the kernel's tape driver (st) does not; as root: \
                     echo {address} > /sys/bus/scsi/drivers/{driver}/unbind && modprobe st && \
                     echo {address} > /sys/bus/scsi/drivers/st/bind (for good: a line 'blacklist {driver}' in \
                     /etc/modprobe.d), or name the drive {}, which needs neither",
                    self.name()
                )
            }
            Some(driver) => format!(
                "the driver {driver} has this drive, so the kernel's tape driver (st) does not; unbind it there, or name the drive {}, \
                 which needs no st",
                self.name()
            ),
            None => "the kernel's tape driver (st) does not have this drive; as root: modprobe st"
                .to_owned(),
        })
    }

    /// The name by which to configure it: by serial number, or by node if it tells none.
    pub fn name(&self) -> String {
        match &self.serial {
            Some(serial) => format!("serial:{serial}"),
            None => self.node.display().to_string(),
        }
    }
}

/// Where the kernel shows itself.
#[derive(Debug, Clone)]
pub struct Host {
    sys: PathBuf,
    dev: PathBuf,
    proc: PathBuf,
}

impl Host {
    /// This host.
    pub fn this() -> Self {
        Self::below(Path::new("/"))
    }

    /// A host whose `sys`, `dev` and `proc` are below a folder.
    pub fn below(root: &Path) -> Self {
        Self {
            sys: root.join("sys"),
            dev: root.join("dev"),
            proc: root.join("proc"),
        }
    }

    /// Its tape drives and media changers, in the order of their addresses. An error says that the kernel's `sg`
    /// driver is not there.
    pub fn devices(&self) -> io::Result<Vec<Device>> {
        let class = self.sys.join("class/scsi_generic");
        let entries = match fs::read_dir(&class) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(io::Error::new(
                    error.kind(),
                    "the kernel's sg driver is not loaded, so this host shows no SCSI devices; as root: modprobe sg",
                ));
            }
            Err(error) => return Err(error),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry?;
            // A device may go while we look.
            if let Some(device) = self.device(&entry.path()) {
                found.push(device);
            }
        }
        found.sort_by(|a, b| {
            by_number(&a.address, &b.address).then(by_number(&a.node_name(), &b.node_name()))
        });
        Ok(found)
    }

    fn device(&self, generic: &Path) -> Option<Device> {
        let below = generic.join("device");
        let kind = Kind::from_type(line(&below.join("type"))?.parse().ok()?)?;
        let node = self.dev.join(generic.file_name()?);
        let said = |file: &str| line(&below.join(file)).unwrap_or_default();
        let link = |path: PathBuf| {
            let target = fs::canonicalize(path).ok()?;
            Some(target.file_name()?.to_string_lossy().into_owned())
        };
        let (st_node, st_numbers) = self.st(&below);
        let serial = fs::read(below.join("vpd_pg80"))
            .ok()
            .and_then(|page| vpd::serial_parse(&page).ok())
            .filter(|serial| !serial.is_empty())
            // Old kernels don't keep the page.
            .or_else(|| ask_serial(&mut Sg::open_to_ask(&node).ok()?));
        Some(Device {
            kind,
            vendor: said("vendor"),
            product: said("model"),
            revision: said("rev"),
            serial,
            number: number(&generic.join("dev"))?,
            node,
            st_node,
            st_numbers,
            driver: link(below.join("driver")),
            address: link(below.clone()).unwrap_or_default(),
            state: said("state"),
        })
    }

    /// The `st` nodes of a device: the one that doesn't rewind, and the numbers of all.
    fn st(&self, device: &Path) -> (Option<PathBuf>, Vec<u64>) {
        let mut node = None;
        let mut numbers = Vec::new();
        for entry in fs::read_dir(device.join("scsi_tape"))
            .into_iter()
            .flatten()
            .flatten()
        {
            numbers.extend(number(&entry.path().join("dev")));
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_plain = name.strip_prefix("nst").is_some_and(|digits| {
                !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
            });
            if is_plain {
                node = Some(self.dev.join(name));
            }
        }
        (node, numbers)
    }

    /// Who has a device open.
    pub fn users(&self, device: &Device) -> Users {
        let numbers: Vec<u64> = device
            .st_numbers
            .iter()
            .copied()
            .chain([device.number])
            .collect();
        Users::find(&self.proc, &numbers)
    }
}

/// Asks a device for its unit serial number. It may be busy: the command waits for nobody and takes no news.
pub(crate) fn ask_serial(path: &mut dyn Transport) -> Option<String> {
    const CAPACITY: usize = 252;
    let mut page = [0; CAPACITY];
    let cdb = cdb::inquiry_vpd(vpd::SERIAL_NUMBER, CAPACITY as u16);
    let done = path.execute(&cdb, Data::In(&mut page), ASKING).ok()?;
    if done.status != status::GOOD {
        return None;
    }
    vpd::serial_parse(&page[..done.transferred])
        .ok()
        .filter(|serial| !serial.is_empty())
}

/// The first line of a file of the kernel's, without blanks around.
fn line(file: &Path) -> Option<String> {
    let text = fs::read(file).ok()?;
    let text = String::from_utf8_lossy(&text);
    Some(text.lines().next().unwrap_or_default().trim().to_owned())
}

/// A device number as the kernel writes it, `21:3`.
fn number(file: &Path) -> Option<u64> {
    let text = line(file)?;
    let (major, minor) = text.split_once(':')?;
    Some(makedev(major.parse().ok()?, minor.parse().ok()?))
}

/// Text in the order of the numbers in it: `sg2` before `sg10`.
fn by_number(a: &str, b: &str) -> Ordering {
    fn pieces(text: &str) -> Vec<(&str, u64)> {
        let mut found = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let start = rest
                .find(|c: char| c.is_ascii_digit())
                .unwrap_or(rest.len());
            let (word, behind) = rest.split_at(start);
            let end = behind
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(behind.len());
            let (digits, behind) = behind.split_at(end);
            found.push((word, digits.parse().unwrap_or(u64::MAX)));
            rest = behind;
        }
        found
    }
    pieces(a).cmp(&pieces(b))
}

#[cfg(test)]
mod tests;
