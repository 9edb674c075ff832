//! Who this host is to iSCSI targets, and what it knows of them.

use std::fs;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::OnceLock;

use sha2::{Digest as _, Sha256};

use super::chap::{Secrets, hex};
use super::keys::Wishes;

/// What this host says of itself and knows of targets.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its name as initiator.
    pub initiator: String,
    /// By what it proves itself, and targets to it.
    pub secrets: Secrets,
    /// Portals where `serial:` names are sought too: `[USER@]HOST[:PORT]`.
    pub portals: Vec<String>,
    /// What is asked for at logins.
    pub wishes: Wishes,
}

impl Default for Settings {
    /// A name that is made of the machine's id, no secrets, no portals.
    fn default() -> Self {
        Self {
            initiator: own_name(),
            secrets: Secrets::default(),
            portals: Vec::new(),
            wishes: Wishes::default(),
        }
    }
}

/// Stable as long as the host's installation lives. The id itself is not for the network (machine-id(5)).
fn own_name() -> String {
    let id = ["/etc/machine-id", "/etc/hostname"]
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok())
        .find(|text| !text.trim().is_empty())
        .unwrap_or_default();
    let digest = Sha256::digest(format!("TAF iSCSI initiator {}", id.trim()));
    let hex = hex(&digest[..6]);
    format!("iqn.2026-11.internal.taf:host.{hex}")
}

impl Settings {
    /// Whether the name can be one (RFC 7143 4.2.7).
    pub fn check_name(name: &str) -> Result<(), String> {
        let formed = ["iqn.", "eui.", "naa."]
            .iter()
            .any(|form| name.starts_with(form));
        let fits = name.len() <= 223
            && name
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-:".contains(c));
        if formed && fits {
            Ok(())
        } else {
            Err(format!(
                "{name:?} is no iSCSI name: such as iqn.2026-11.com.example:host1, in lower case"
            ))
        }
    }

    /// The id of this host's sessions (RFC 7143 11.12.5: type *random*, 24 bits by the name) of this qualifier. One unit
    /// of a target has one qualifier, so its sessions follow each other and those of other units stay.
    pub(super) fn isid(&self, qualifier: u16) -> [u8; 6] {
        let digest = Sha256::digest(&self.initiator);
        let [high, low] = qualifier.to_be_bytes();
        [0x80, digest[0], digest[1], digest[2], high, low]
    }
}

static SETTINGS: OnceLock<Settings> = OnceLock::new();

/// Sets what this process knows of iSCSI, once, before it opens a device by name.
pub fn configure(settings: Settings) {
    if SETTINGS.set(settings).is_err() {
        tracing::error!("iSCSI was configured a second time in one process; the first stays");
    }
}

/// What this process knows of iSCSI.
pub fn configured() -> &'static Settings {
    SETTINGS.get_or_init(Settings::default)
}

/// That this process alone of its host has a session to a logical unit. Gone with the process, however that ends.
pub(super) struct Claim(#[allow(dead_code)] UnixListener);

impl Claim {
    /// Makes the claim for this initiator, or says that another process has it.
    pub(super) fn of(initiator: &str, device: &str) -> Result<Self, String> {
        let digest = Sha256::digest(format!("{initiator} {device}"));
        let hex = hex(&digest[..12]);
        // An abstract socket: a name in the kernel and no file that could be left behind.
        SocketAddr::from_abstract_name(format!("taf-iscsi-{hex}"))
            .and_then(|address| UnixListener::bind_addr(&address))
            .map(Self)
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::AddrInUse => {
                    "this program or another one of this host has the device open".to_owned()
                }
                _ => format!("can't claim the device: {error}"),
            })
    }
}
