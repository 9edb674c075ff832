//! The configuration of this agent, and with it the consent of its host: what may be read, where may be written, and what may be
//! removed once it is archived.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use taf_peer::config;

/// Threads that read small files ahead, unless configured.
const READERS: usize = 4;
/// Most such threads.
const READERS_MAX: usize = 32;

/// Why the configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file.
    #[error(transparent)]
    File(#[from] config::Error),
    /// A value.
    #[error("{}: {}", file.display(), faults.join("; "))]
    Values {
        /// The file.
        file: PathBuf,
        /// Everything that is wrong.
        faults: Vec<String>,
    },
}

/// The file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// host:port of the controller.
    pub controller: String,
    /// Folder that holds the identity; made by `enrol`.
    pub state: PathBuf,
    /// Absolute paths below which files may be read. `/` is everything. Nothing unless given.
    #[serde(default)]
    pub backup_allowed: Vec<PathBuf>,
    /// Absolute paths below which files may be written. `/` is everything. Nothing unless given.
    #[serde(default)]
    pub restore_allowed: Vec<PathBuf>,
    /// Absolute paths below which files may be removed that are archived and verified, when an operator asks for it. Nothing unless
    /// given.
    #[serde(default)]
    pub remove_allowed: Vec<PathBuf>,
    /// Threads that read small files ahead.
    #[serde(default = "readers")]
    pub readers: usize,
    /// Absolute paths that are always left out, with all below them. `state` is one without being named.
    #[serde(default)]
    pub exclude: Vec<PathBuf>,
    /// Folder for what a synthetic full has to keep meanwhile; `state` unless given.
    pub spool: Option<PathBuf>,
    /// Logs as JSON.
    #[serde(default)]
    pub log_json: bool,
}

fn readers() -> usize {
    READERS
}

impl Config {
    /// Reads and checks the file; every bad value is named.
    pub fn load(file: &Path) -> Result<Self, Error> {
        let config: Self = config::load(file)?;
        let mut faults = Vec::new();
        let lists = [
            ("backup_allowed", &config.backup_allowed),
            ("restore_allowed", &config.restore_allowed),
            ("remove_allowed", &config.remove_allowed),
            ("exclude", &config.exclude),
        ];
        for (name, paths) in lists {
            for path in paths.iter().filter(|path| !is_plain(path)) {
                faults.push(format!(
                    "{name} has {:?}, which is not an absolute path without . and ..",
                    path.display()
                ));
            }
        }
        if !is_plain(&config.state) {
            faults.push("state must be an absolute path without . and ..".into());
        }
        if config.spool.as_ref().is_some_and(|path| !is_plain(path)) {
            faults.push("spool must be an absolute path without . and ..".into());
        }
        if !(1..=READERS_MAX).contains(&config.readers) {
            faults.push(format!("readers must be from 1 to {READERS_MAX}"));
        }
        if faults.is_empty() {
            Ok(config)
        } else {
            Err(Error::Values {
                file: file.to_owned(),
                faults,
            })
        }
    }
}

fn is_plain(path: &Path) -> bool {
    let mut components = path.components();
    components.next() == Some(Component::RootDir)
        && components.all(|component| matches!(component, Component::Normal(_)))
}

/// The bytes of an absolute path without slashes at its end and doubled ones; `None` unless it is plain.
pub fn plain(raw: &[u8]) -> Option<Vec<u8>> {
    let path = Path::new(OsStr::from_bytes(raw));
    if !is_plain(path) || raw.contains(&0) || raw.split(|&byte| byte == b'/').any(|c| c == b".") {
        return None;
    }
    Some(
        path.components()
            .collect::<PathBuf>()
            .into_os_string()
            .into_encoded_bytes(),
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, Error> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("source-agent.toml");
        std::fs::write(&file, text).unwrap();
        Config::load(&file)
    }

    #[test]
    fn nothing_is_allowed_unless_said() {
        let config = load("controller = \"c:1\"\nstate = \"/var/lib/taf\"\n").unwrap();
        assert!(config.backup_allowed.is_empty() && config.restore_allowed.is_empty());
        assert!(config.remove_allowed.is_empty());
        assert_eq!(config.readers, READERS);
    }

    #[test]
    fn every_bad_value_is_named() {
        let text = "controller = \"c:1\"\nstate = \"lib\"\nbackup_allowed = [\"srv\", \"/a/../b\"]\nreaders = 0\n";
        let error = load(text).unwrap_err().to_string();
        for part in ["state", "\"srv\"", "\"/a/../b\"", "readers"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert!(load("controller = \"c:1\"\nstate = \"/s\"\nbackup_alowed = []\n").is_err());
    }

    #[test]
    fn plain_paths_have_one_spelling() {
        assert_eq!(plain(b"/"), Some(b"/".to_vec()));
        assert_eq!(plain(b"/srv//data/"), Some(b"/srv/data".to_vec()));
        for bad in [&b""[..], b"srv", b"/srv/../etc", b"/srv/./a", b"/a\0b"] {
            assert_eq!(plain(bad), None, "{}", bad.escape_ascii());
        }
    }
}
