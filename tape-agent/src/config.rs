//! The tape agent's configuration: which devices this host has, and where its state is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde::Deserialize;
use taf_peer::config::{self, Size, Span};
use taf_peer::secret_file;
use taf_scsi::transport::Name;
use taf_scsi::transport::iscsi::chap::Secrets;
use taf_scsi::transport::iscsi::{self, Settings};

/// Bytes taken from a source and not yet safe on the medium, unless configured: more than a drive buffers itself.
const RING: u64 = 2 << 30;
/// Bytes of the records of parts that no volume index has yet, unless configured: those of some hundred million files.
const INDEX_SPOOL: u64 = 8 << 30;
/// An index spool must hold the records of some parts.
const INDEX_SPOOL_MIN: u64 = 64 << 20;
/// Drives recover by themselves from what takes minutes; the kernel breaks off what takes half an hour, by a reset.
const HUNG_AFTER: Duration = Duration::from_mins(15);
/// A ring must hold several segments.
const RING_MIN: u64 = 32 << 20;
/// A drive that is started for little at least every ten minutes stops 144 times a day for it, which harms neither it nor the tape.
const SPOOL_WAIT: Duration = Duration::from_mins(10);

/// Bytes of the longest file of iSCSI secrets.
const SECRETS_LIMIT: u64 = 64 << 10;

/// Why the configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file.
    #[error(transparent)]
    File(#[from] config::Error),
    /// Values, all that are wrong.
    #[error("{}: {}", .file.display(), .wrong.join("; "))]
    Values {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        wrong: Vec<String>,
    },
}

/// The file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// host:port of the controller.
    pub controller: String,
    /// Folder of the identity and of the journals.
    pub state: PathBuf,
    /// Address on which workers take data.
    #[serde(default = "loopback")]
    pub listen: String,
    /// Port of the first drive's worker, the next one's is one higher, in the order of `drives`; any free port if not given.
    #[serde(default)]
    pub port_base: Option<u16>,
    /// Host names or addresses by which source agents reach this host, best first; `listen` if empty.
    #[serde(default)]
    pub advertise: Vec<String>,
    /// Device names of the drives: `serial:NUMBER` (whatever node it comes up as), `/dev/sgN`,
    /// `iscsi://[USER@]HOST[:PORT]/TARGET/LUN`, or `unix:PATH` (an emulator's).
    /// `taf drive scan` prints these lines for the devices of a host.
    /// `itdt:serial:NUMBER` or `itdt:/PATH/OF/itdt@serial:NUMBER` works with IBM's `itdt` and the kernel's tape driver `st` instead of
    /// SCSI commands; the agent has to run as root for it.
    #[serde(default)]
    pub drives: Vec<String>,
    /// Device names of the media changers, in the same forms, but for `itdt:`.
    #[serde(default)]
    pub libraries: Vec<String>,
    /// Serial number of a drive = its element address, for a library that does not tell which drive is where.
    #[serde(default)]
    pub drive_elements: BTreeMap<String, u16>,
    /// Memory of each drive, at most, for what is on its way from source to medium and may have to be written again. Sources that share
    /// the drive get equal shares of it.
    #[serde(default = "ring")]
    pub ring: Size,
    /// Disk of all drives together for the records of parts that no volume index has yet.
    #[serde(default = "index_spool")]
    pub index_spool: Size,
    /// A drive that has not answered an ordinary command for so long hangs, and its work fails. Loading may take three hours
    /// and erasing a day whatever stands here.
    #[serde(default = "hung_after")]
    pub hung_after: Span,
    /// Folder on a local disk for what finds no room in the ring: there a source that is slower than the drive is collected until a
    /// part is complete. Only memory is used without it. The disk should write and read at the drive's speed at once.
    #[serde(default)]
    pub spool: Option<PathBuf>,
    /// Bytes in that folder that each archive uses which is on its way to a drive, at most: a part (64 GiB of a pool for LTO-7 and
    /// later) or more. Of sources that share a drive each has so many: with less than a part their parts get smaller. They are reserved
    /// when an archive begins; it goes with memory alone, and says so, if they can't be had.
    #[serde(default)]
    pub spool_size: Option<Size>,
    /// The first byte that is collected waits no longer than this for the drive.
    #[serde(default = "spool_wait")]
    pub spool_wait: Span,
    /// Bytes a second below which the drives don't stream but stop and go back; 0 if it does not matter. By the medium's generation
    /// if not given: LTO-9 177MB, LTO-8 112MB, LTO-7 101MB, LTO-6 54MB, LTO-5 47MB, which full-height drives have.
    #[serde(default)]
    pub drive_floor: Option<Size>,
    /// By what this host proves to iSCSI targets who it is: a file that only its owner may read (chmod 600), a line each: `USER
    /// SECRET`, or `USER SECRET TARGET-USER TARGET-SECRET` if the target must prove itself too.
    #[serde(default)]
    pub iscsi_secrets: Option<PathBuf>,
    /// iSCSI portals, `[USER@]HOST[:PORT]`, behind which a `serial:` name is sought that no device of this host has.
    #[serde(default)]
    pub iscsi_portals: Vec<String>,
    /// This host's name as iSCSI initiator, if the one that is made of the machine's id won't do. Reservations are its own by it.
    #[serde(default)]
    pub iscsi_initiator: Option<String>,
    /// Logs as JSON.
    #[serde(default)]
    pub log_json: bool,
}

fn loopback() -> String {
    "127.0.0.1".to_owned()
}

fn hung_after() -> Span {
    Span(HUNG_AFTER)
}

fn ring() -> Size {
    Size(RING)
}

fn index_spool() -> Size {
    Size(INDEX_SPOOL)
}

fn spool_wait() -> Span {
    Span(SPOOL_WAIT)
}

impl Config {
    /// Reads and checks the file; every bad value is named.
    pub fn load(file: &Path) -> Result<Config, Error> {
        let config: Config = config::load(file)?;
        let mut wrong = Vec::new();
        if config.drives.is_empty() && config.libraries.is_empty() {
            wrong.push(
                "there are neither drives nor libraries: name at least one device".to_owned(),
            );
        }
        if !config.state.is_absolute() {
            wrong.push("state must be an absolute path".to_owned());
        }
        if config.ring.0 < RING_MIN {
            wrong.push(format!("ring must be at least {}", Size(RING_MIN)));
        }
        if config.index_spool.0 < INDEX_SPOOL_MIN {
            wrong.push(format!(
                "index_spool must be at least {}",
                Size(INDEX_SPOOL_MIN)
            ));
        }
        if config.hung_after.0.is_zero() {
            wrong.push("hung_after must be longer than nothing, such as 15m".to_owned());
        }
        config.check_spool(&mut wrong);
        for portal in &config.iscsi_portals {
            if let Err(reason) = iscsi::Portal::parse(portal) {
                wrong.push(format!("iscsi_portals: {portal:?}: {reason}"));
            }
        }
        if let Some(Err(reason)) = config.iscsi_initiator.as_deref().map(Settings::check_name) {
            wrong.push(format!("iscsi_initiator: {reason}"));
        }
        let last = last_port(config.port_base, config.drives.len());
        if config.port_base == Some(0) || last.is_none() {
            wrong.push("port_base must be from 1, and leave a port for each drive".to_owned());
        }
        let anywhere = config
            .listen
            .parse()
            .is_ok_and(|a: IpAddr| a.is_unspecified());
        if anywhere && config.advertise.is_empty() {
            wrong.push(format!(
                "listen is {}, which nobody can dial: name this host's addresses in advertise",
                config.listen
            ));
        }
        config.check_devices(&mut wrong);
        let places: BTreeSet<u16> = config.drive_elements.values().copied().collect();
        if places.len() < config.drive_elements.len() {
            wrong.push("drive_elements gives one element to two drives".to_owned());
        }
        if wrong.is_empty() {
            Ok(config)
        } else {
            let file = file.to_owned();
            Err(Error::Values { file, wrong })
        }
    }

    fn check_devices(&self, wrong: &mut Vec<String>) {
        let drives = self.drives.iter().map(|name| {
            let device = taf_drive::Name::parse(name).map(taf_drive::Name::device);
            (name, device)
        });
        let libraries = self.libraries.iter().map(|name| (name, Name::parse(name)));
        let mut devices = Vec::new();
        for (name, device) in drives.chain(libraries) {
            match device {
                // One drive, two ways to it: they would find each other busy.
                Ok(device) if devices.contains(&device) => {
                    wrong.push(format!("{name:?}: the device is named twice"));
                }
                Ok(device) => devices.push(device),
                Err(reason) => wrong.push(format!("{name:?}: {reason}")),
            }
        }
    }

    fn check_spool(&self, wrong: &mut Vec<String>) {
        match (&self.spool, self.spool_size) {
            (None, None) => {}
            (Some(folder), Some(size)) => {
                if !folder.is_absolute() {
                    wrong.push("spool must be an absolute path".to_owned());
                }
                if size.0 < RING_MIN {
                    wrong.push(format!("spool_size must be at least {}", Size(RING_MIN)));
                }
            }
            (Some(_), None) => wrong.push(
                "spool_size is missing: how many bytes of the spool each archive on its way may use".to_owned(),
            ),
            (None, Some(_)) => wrong.push("spool is missing: the folder of the spool".to_owned()),
        }
        if self.spool_wait.0.is_zero() {
            wrong.push("spool_wait must be longer than nothing, such as 10m".to_owned());
        }
    }

    /// What this host is to iSCSI targets and knows of them; the secrets are read.
    pub fn iscsi(&self) -> anyhow::Result<Settings> {
        let mut settings = Settings {
            portals: self.iscsi_portals.clone(),
            ..Settings::default()
        };
        if let Some(name) = &self.iscsi_initiator {
            settings.initiator.clone_from(name);
        }
        if let Some(file) = &self.iscsi_secrets {
            let bytes = secret_file::read(file, SECRETS_LIMIT)?;
            let text = std::str::from_utf8(&bytes)
                .with_context(|| format!("{} holds no text", file.display()))?;
            settings.secrets = Secrets::parse(text)
                .map_err(anyhow::Error::msg)
                .with_context(|| file.display().to_string())?;
        }
        Ok(settings)
    }

    /// host:port that source agents are to dial.
    pub fn advertised(&self, port: u16) -> Vec<String> {
        let listen = std::slice::from_ref(&self.listen);
        let hosts = if self.advertise.is_empty() {
            listen
        } else {
            &self.advertise
        };
        hosts
            .iter()
            .map(|host| match host.parse::<Ipv6Addr>() {
                Ok(bare) => format!("[{bare}]:{port}"),
                Err(_) => format!("{host}:{port}"),
            })
            .collect()
    }

    /// Port on which this drive's worker takes data; 0 is any.
    pub fn port(&self, device: &str) -> u16 {
        let index = self.drives.iter().position(|drive| drive == device);
        let number = index.map_or(1, |index| index + 1);
        last_port(self.port_base, number).unwrap_or(0)
    }
}

/// The last port of so many drives; 0 without a base, none if there are not so many ports.
fn last_port(base: Option<u16>, drives: usize) -> Option<u16> {
    let further = u16::try_from(drives.max(1) - 1).ok()?;
    match base {
        None => Some(0),
        Some(base) => base.checked_add(further),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn load(further: &str) -> Result<Config, Error> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("tape-agent.toml");
        let text = format!("controller = \"c:1\"\nstate = \"/s\"\n{further}\n");
        std::fs::write(&file, text).unwrap();
        Config::load(&file)
    }

    #[test]
    fn a_short_file_is_enough() {
        let config = load("drives = [\"unix:/a\"]").unwrap();
        assert_eq!(config.ring, Size(RING));
        assert_eq!(
            (config.port("unix:/a"), config.advertised(7)),
            (0, vec!["127.0.0.1:7".into()])
        );
    }

    #[test]
    fn every_drive_has_a_port_of_its_own() {
        let config = load("drives = [\"unix:/a\", \"unix:/b\"]\nport_base = 7000").unwrap();
        assert_eq!(
            (config.port("unix:/a"), config.port("unix:/b")),
            (7000, 7001)
        );
        let config =
            load("drives = [\"unix:/a\"]\nlisten = \"::1\"\nadvertise = [\"h\", \"fe80::1\"]");
        assert_eq!(config.unwrap().advertised(9), ["h:9", "[fe80::1]:9"]);
    }

    #[test]
    fn iscsi_devices_come_with_secrets_and_portals() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secrets");
        std::fs::write(&file, "taf right\n").unwrap();
        let text = format!(
            "drives = [\"iscsi://taf@h/iqn.x/1\", \"serial:A\"]\niscsi_secrets = {file:?}\niscsi_portals = [\"taf@h\"]\niscsi_initiator = \"iqn.own\""
        );
        let config = load(&text).unwrap();
        let mode =
            |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        mode(0o644);
        assert!(
            config
                .iscsi()
                .unwrap_err()
                .to_string()
                .contains("chmod 600")
        );
        mode(0o600);
        let settings = config.iscsi().unwrap();
        assert_eq!(settings.secrets.of("taf").unwrap().secret, "right");
        assert_eq!(
            (settings.initiator.as_str(), settings.portals.len()),
            ("iqn.own", 1)
        );
        std::fs::write(&file, "taf\n").unwrap();
        assert!(format!("{:#}", config.iscsi().unwrap_err()).contains("line 1"));
        let error = load(
            "drives = [\"iscsi://h/x/1\"]\niscsi_portals = [\"u:s@h\"]\niscsi_initiator = \"Own\"",
        );
        let error = error.unwrap_err().to_string();
        for part in ["iqn., eui. or naa.", "iscsi_portals", "iscsi_initiator"] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }

    #[test]
    fn every_bad_value_is_named() {
        let text = "drives = [\"unix:/a\", \"unix:/a\"]\nport_base = 65535\nring = \"1MiB\"\nlisten = \"0.0.0.0\"";
        let error = load(text).unwrap_err().to_string();
        for part in ["twice", "port_base", "ring", "advertise"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        let error = load("drives = [\"sg0\", \"serial:A\", \"/dev/sg1\"]\nlibraries = [\"unix:\"]");
        let error = error.unwrap_err().to_string();
        assert_eq!(error.matches("use serial:NUMBER").count(), 2, "{error}");
        let spool = |further: &str| {
            let error = load(&format!("drives = [\"unix:/a\"]\n{further}")).unwrap_err();
            error.to_string()
        };
        let error = spool("spool = \"s\"\nspool_size = \"1MiB\"\nspool_wait = \"0s\"");
        for part in ["spool must be", "spool_size must", "spool_wait must"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert!(spool("spool = \"/s\"").contains("spool_size is missing"));
        assert!(spool("spool_size = \"1GiB\"").contains("spool is missing"));
        let error = load(
            "drives = [\"serial:A\", \"itdt:/opt/itdt@serial:A\"]\nlibraries = [\"itdt:serial:B\"]",
        );
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("itdt@serial:A\": the device is named twice"),
            "{error}"
        );
        assert!(error.contains("itdt:serial:B\": it isn't"), "{error}");
        assert!(load("").unwrap_err().to_string().contains("neither"));
        assert!(load("drives = [\"unix:/a\"]\ndrive = 1").is_err());
    }
}
