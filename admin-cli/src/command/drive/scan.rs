//! `taf drive scan`: what this host has to be configured with.

use serde_json::{Value, json};
use taf_drive::Identity;
use taf_scsi::host::{Device, Host, Kind, Users};
use taf_scsi::transport::iscsi;

use crate::failure::{Exit, Failure};
use crate::output::{Output, Rows, say};

/// Show the tape drives and media changers of this host, and how to name them
///
/// Needs no server, and disturbs nobody: no command is sent to a device that the kernel knows. Prints the lines for the
/// tape agent's configuration. A name by serial number stays the same whatever node or order the device comes up in; there
/// are other forms: /dev/sgN, `iscsi://[USER@]HOST[:PORT]/TARGET/LUN`, unix:PATH for an emulator, and itdt:serial:NUMBER for a drive
/// that is to be worked with by IBM's itdt and the kernel's tape driver st. Where st does not have a drive, it is said why.
///
/// With --iscsi the targets behind a portal are looked at, too: each unit is asked who it is. The secret of USER is sought in the
/// file that `TAF_ISCSI_SECRETS` names, which only its owner may read: lines USER SECRET, or USER SECRET TARGET-USER
/// TARGET-SECRET where the target must prove itself as well. `TAF_ISCSI_INITIATOR` replaces this host's name.
///
/// As root it sees every program that has a device open.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf drive scan
  taf drive scan unix:library/sockets/drive0.sock unix:library/sockets/changer.sock
  taf drive scan --iscsi library.example.org
  TAF_ISCSI_SECRETS=/etc/taf/iscsi.secrets taf drive scan --iscsi taf@library.example.org:3260
  taf drive scan --json")]
pub struct Scan {
    /// Sockets of emulators to ask as well: unix:PATH, or PATH
    #[arg(value_name = "SOCKET")]
    sockets: Vec<String>,
    /// Portals whose iSCSI targets are looked at as well: `[USER@]HOST[:PORT]`
    #[arg(long, value_name = "PORTAL")]
    iscsi: Vec<String>,
}

/// One device, of the kernel's or at a socket.
struct Found {
    kind: Kind,
    identity: Identity,
    /// How to name it in a configuration.
    name: String,
    /// What only a device of the kernel's has.
    kernel: Option<(Device, Users)>,
}

impl Scan {
    /// Runs it.
    pub fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let mut found = match Host::this().devices() {
            Ok(devices) => devices.into_iter().map(of_kernel).collect(),
            Err(error) if self.sockets.is_empty() && self.iscsi.is_empty() => {
                return Err(Failure::new(
                    "NO_SCSI_DRIVER",
                    error.to_string(),
                    "load the driver, or name an iSCSI portal (--iscsi HOST) or the sockets of an emulator: taf drive scan unix:PATH",
                ));
            }
            Err(error) => {
                say(error.to_string());
                Vec::new()
            }
        };
        for socket in &self.sockets {
            found.push(at_socket(socket)?);
        }
        for portal in &self.iscsi {
            found.extend(behind(portal)?);
        }
        if out.json() {
            out.begin("devices")?;
            for one in &found {
                out.item_document(&document(one))?;
            }
            out.end()?;
            return Ok(Exit::Done);
        }
        if found.is_empty() {
            say(
                "the kernel knows no tape drive and no media changer; see that they are on, connected, and in dmesg",
            );
            return Ok(Exit::Done);
        }
        out.table(&rows(&found))?;
        out.line("\nfor tape-agent.toml of this host:")?;
        for (key, kind) in [("drives", Kind::Drive), ("libraries", Kind::Changer)] {
            let names = names(&found, kind);
            if !names.is_empty() {
                out.line(format!("{key} = [{}]", names.join(", ")))?;
            }
        }
        let by_itdt = by_itdt(&found);
        if taf_drive::has_itdt() && !by_itdt.is_empty() {
            out.line("\nor, by itdt and the kernel's st, which can do less:")?;
            out.line(format!("drives = [{}]", by_itdt.join(", ")))?;
        }
        for one in &found {
            if let Some((device, _)) = &one.kernel
                && let Some(reason) = device.why_no_st()
            {
                say(format!("{}: {reason}", one.name));
            }
        }
        Ok(Exit::Done)
    }
}

fn of_kernel(device: Device) -> Found {
    let users = Host::this().users(&device);
    Found {
        kind: device.kind,
        identity: Identity {
            vendor: device.vendor.clone(),
            product: device.product.clone(),
            revision: device.revision.clone(),
            serial: device.serial.clone(),
        },
        name: device.name(),
        kernel: Some((device, users)),
    }
}

fn at_socket(socket: &str) -> Result<Found, Failure> {
    let name = if socket.starts_with("unix:") {
        socket.to_owned()
    } else {
        format!("unix:{socket}")
    };
    let asked = match taf_drive::open(&name) {
        Ok(drive) => Ok((Kind::Drive, drive.identity().clone())),
        Err(taf_drive::Error::WrongDevice { .. }) => taf_drive::changer::open(&name)
            .map(|changer| (Kind::Changer, changer.identity().clone())),
        Err(error) => Err(error),
    };
    let (kind, identity) = asked.map_err(|error| {
        Failure::new(
            "DRIVE_FAILED",
            format!("{name} can't be asked who it is: {error}"),
            "name the socket of a running emulator; it prints its devices when it starts",
        )
    })?;
    Ok(Found {
        kind,
        identity,
        name,
        kernel: None,
    })
}

fn behind(portal: &str) -> Result<Vec<Found>, Failure> {
    let found = iscsi::scan(portal, iscsi::configured()).map_err(|reason| {
        Failure::new(
            "DRIVE_FAILED",
            format!("the iSCSI portal {portal} can't be looked at: {reason}"),
            "see that the target is on and lets this host in, and name it as [USER@]HOST[:PORT]",
        )
    })?;
    let found = found.into_iter().map(|one| Found {
        kind: one.kind,
        identity: Identity {
            vendor: one.inquiry.vendor,
            product: one.inquiry.product,
            revision: one.inquiry.revision,
            serial: one.serial,
        },
        name: one.name,
        kernel: None,
    });
    Ok(found.collect())
}

fn kind_word(kind: Kind) -> &'static str {
    match kind {
        Kind::Drive => "drive",
        Kind::Changer => "changer",
    }
}

/// The names of one kind as TOML text, each once: a device may be reached by several paths.
fn names(found: &[Found], kind: Kind) -> Vec<String> {
    let mut names = Vec::new();
    for one in found.iter().filter(|one| one.kind == kind) {
        let quoted = Value::from(one.name.as_str()).to_string();
        if !names.contains(&quoted) {
            names.push(quoted);
        }
    }
    names
}

/// How to name the drives for `itdt`, as TOML text.
fn by_itdt(found: &[Found]) -> Vec<String> {
    let of_kernel = found.iter().filter_map(|one| one.kernel.as_ref());
    let mut names: Vec<String> = of_kernel
        .filter_map(|(device, _)| taf_drive::by_itdt(device))
        .map(|name| Value::from(name).to_string())
        .collect();
    names.dedup();
    names
}

fn rows(found: &[Found]) -> Rows {
    let mut rows = Rows::new(&[
        "KIND",
        "NAME",
        "MODEL",
        "FIRMWARE",
        "NODE",
        "ST NODE",
        "DRIVER",
        "STATE",
        "IN USE BY",
    ]);
    for one in found {
        let path = |path: &std::path::Path| path.display().to_string();
        let [node, st_node, driver, state, users] = match &one.kernel {
            Some((device, users)) => [
                path(&device.node),
                device.st_node.as_deref().map(path).unwrap_or_default(),
                device.driver.clone().unwrap_or_default(),
                device.state.clone(),
                users.to_string(),
            ],
            None => Default::default(),
        };
        rows.push([
            kind_word(one.kind).to_owned(),
            one.name.clone(),
            format!("{} {}", one.identity.vendor, one.identity.product),
            one.identity.revision.clone(),
            node,
            st_node,
            driver,
            state,
            users,
        ]);
    }
    rows
}

fn document(one: &Found) -> Value {
    let mut document = json!({
        "kind": kind_word(one.kind),
        "name": one.name,
        "vendor": one.identity.vendor,
        "product": one.identity.product,
        "revision": one.identity.revision,
        "serial": one.identity.serial,
    });
    if let Some((device, users)) = &one.kernel {
        document["node"] = json!(device.node.display().to_string());
        document["st_node"] = json!(
            device
                .st_node
                .as_ref()
                .map(|node| node.display().to_string())
        );
        document["itdt_name"] = json!(taf_drive::by_itdt(device));
        document["why_no_st"] = json!(device.why_no_st());
        document["driver"] = json!(device.driver);
        document["address"] = json!(device.address);
        document["state"] = json!(device.state);
        document["users"] = users
            .seen
            .iter()
            .map(|user| json!({"pid": user.pid, "program": user.program}))
            .collect();
        document["all_users_seen"] = json!(users.complete);
    }
    document
}
