//! The tape agent's configuration: which devices this host has, and where its state is.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use taf_peer::config::{self, Size};

/// Bytes taken from a source and not yet given to the drive, unless configured.
const RING: u64 = 256 << 20;
/// A ring must hold several segments.
const RING_MIN: u64 = 32 << 20;

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
    /// Address on which workers take data; each chooses a free port.
    #[serde(default = "loopback")]
    pub listen: String,
    /// Host names or addresses by which source agents reach this host, best first; `listen` if empty.
    #[serde(default)]
    pub advertise: Vec<String>,
    /// Device names of the drives: `unix:PATH`.
    #[serde(default)]
    pub drives: Vec<String>,
    /// Device names of the media changers.
    #[serde(default)]
    pub libraries: Vec<String>,
    /// Memory of each drive for what is on its way from source to drive.
    #[serde(default = "ring")]
    pub ring: Size,
    /// Logs as JSON.
    #[serde(default)]
    pub log_json: bool,
}

fn loopback() -> String {
    "127.0.0.1".to_owned()
}

fn ring() -> Size {
    Size(RING)
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
        let mut devices: Vec<&String> = config.drives.iter().chain(&config.libraries).collect();
        devices.sort();
        let all = devices.len();
        devices.dedup();
        if devices.len() < all {
            wrong.push("a device is named twice".to_owned());
        }
        if wrong.is_empty() {
            Ok(config)
        } else {
            let file = file.to_owned();
            Err(Error::Values { file, wrong })
        }
    }

    /// Hosts that source agents are to dial.
    pub fn advertised(&self) -> Vec<String> {
        if self.advertise.is_empty() {
            vec![self.listen.clone()]
        } else {
            self.advertise.clone()
        }
    }
}
