//! The controller's configuration: a TOML file, every key optional. Every bad value is named before the start fails.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use taf_peer::config::Span;
use uuid::Uuid;

use crate::reconcile::INDEX_AFTER;

/// Where the API is served if nobody says.
const LISTEN: &str = "127.0.0.1:8710";
/// The word for a private database.
const EMBEDDED: &str = "embedded";
/// Silence after which a unit is lost, if nobody says.
const LEASE: Duration = Duration::from_secs(15);

/// How long a volume rests on which nothing is needed any more, if nobody says: time to find out that it was a mistake.
const REUSE_AFTER: Duration = Duration::from_hours(7 * 24);

/// How long a running job waits for its next volume, if nobody says: a working day's night.
const VOLUME_WAIT: Duration = Duration::from_hours(12);

/// Where the catalog is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Database {
    /// In a private PostgreSQL below the home folder.
    Embedded,
    /// On a server. `password_file` holds the password, on one line.
    Url {
        /// `postgresql://…`, without a password.
        url: String,
        /// A file that only we may read.
        password_file: Option<PathBuf>,
    },
    /// On a server whose URL, with its password, is in a file that only we may read.
    UrlFile(PathBuf),
}

/// The configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where the API is served.
    pub listen: SocketAddr,
    /// State of this controller: keys, socket, the private database.
    pub home: PathBuf,
    /// Where the catalog is.
    pub database: Database,
    /// Most connections to the database.
    pub database_connections: usize,
    /// 64 hexadecimal digits that wrap the secrets in the database. Controllers of one database share it.
    pub cluster_key_file: PathBuf,
    /// After this long without a message a unit is lost.
    pub lease: Duration,
    /// After this long a running job that waits for its next volume fails.
    pub volume_wait: Duration,
    /// A volume gets its index when its drive was idle for so long.
    pub index_after: Duration,
    /// Whether drives that ask for it are cleaned without being told.
    pub auto_clean: bool,
    /// A volume on which nothing is needed any more rests for so long before it is written anew.
    pub reuse_after: Duration,
    /// The installation that an empty database is made for, if it is not to be a new one: that of cartridges to rebuild it from.
    pub installation: Option<Uuid>,
    /// Whether the log is JSON.
    pub log_json: bool,
}

/// Why the configuration can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be read, is not TOML, or has an unknown key.
    #[error(transparent)]
    File(#[from] taf_peer::config::Error),
    /// These values can't be used.
    #[error("the configuration can't be used: {}", .0.join("; "))]
    Values(Vec<String>),
}

/// The file as it is written. Values are texts here, so that all of them can be complained about at once.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    listen: Option<String>,
    home: Option<PathBuf>,
    database: Option<String>,
    database_url_file: Option<PathBuf>,
    database_password_file: Option<PathBuf>,
    database_connections: Option<i64>,
    cluster_key_file: Option<PathBuf>,
    lease: Option<String>,
    volume_wait: Option<String>,
    index_after: Option<String>,
    auto_clean: Option<bool>,
    reuse_after: Option<String>,
    installation: Option<String>,
    log_json: Option<bool>,
}

impl Config {
    /// Reads the file, if there is one. `home` goes before what the file says, and both before the usual place.
    pub fn load(file: Option<&Path>, home: Option<PathBuf>) -> Result<Self, Error> {
        let raw = match file {
            Some(file) => taf_peer::config::load(file)?,
            None => Raw::default(),
        };
        read(raw, home)
    }
}

fn read(raw: Raw, home: Option<PathBuf>) -> Result<Config, Error> {
    let mut bad = Vec::new();
    let text = raw.listen.as_deref().unwrap_or(LISTEN);
    let listen = text.parse::<SocketAddr>().unwrap_or_else(|_| {
        bad.push(format!(
            "listen = \"{text}\" is not an address and port: write it as in {LISTEN} or [::]:8710"
        ));
        SocketAddr::from(([127, 0, 0, 1], 0))
    });
    let home = home
        .or(raw.home)
        .unwrap_or_else(|| taf_peer::config::home().join("controller"));
    let home = std::path::absolute(&home).unwrap_or_else(|e| {
        bad.push(format!(
            "home = \"{}\" is not a folder's name: {e}",
            home.display()
        ));
        home
    });
    let database = database(
        raw.database.as_deref(),
        raw.database_url_file,
        raw.database_password_file,
        &mut bad,
    );
    let connections = raw.database_connections.unwrap_or(16);
    if !(4..=1000).contains(&connections) {
        bad.push(format!(
            "database_connections = {connections} must be from 4 to 1000"
        ));
    }
    let mut span = |key: &str, given: Option<&str>, usual, least, most, range: &str| match given
        .map(str::parse::<Span>)
    {
        None => usual,
        Some(Ok(Span(span))) => {
            if !(least..=most).contains(&span) {
                bad.push(format!("{key} must be from {range}"));
            }
            span
        }
        Some(Err(error)) => {
            bad.push(format!("{key}: {error}"));
            usual
        }
    };
    let lease = span(
        "lease",
        raw.lease.as_deref(),
        LEASE,
        Duration::from_secs(5),
        Duration::from_mins(10),
        "5s to 10m",
    );
    let volume_wait = span(
        "volume_wait",
        raw.volume_wait.as_deref(),
        VOLUME_WAIT,
        Duration::from_secs(1),
        Duration::from_hours(30 * 24),
        "1s to 720h",
    );
    let index_after = span(
        "index_after",
        raw.index_after.as_deref(),
        INDEX_AFTER,
        Duration::ZERO,
        Duration::from_hours(24),
        "0s to 24h",
    );
    let reuse_after = span(
        "reuse_after",
        raw.reuse_after.as_deref(),
        REUSE_AFTER,
        Duration::ZERO,
        Duration::from_hours(3_650 * 24),
        "0s to 3650d",
    );
    let installation = raw.installation.as_deref().and_then(|text| {
        let parsed = text.parse::<Uuid>();
        if parsed.is_err() {
            bad.push(format!(
                "installation = \"{text}\" is no installation's id: `taf tape inspect` shows the one on a cartridge's label"
            ));
        }
        parsed.ok()
    });
    if !bad.is_empty() {
        return Err(Error::Values(bad));
    }
    Ok(Config {
        listen,
        database,
        database_connections: connections as usize,
        cluster_key_file: raw
            .cluster_key_file
            .unwrap_or_else(|| home.join("cluster.key")),
        home,
        lease,
        volume_wait,
        index_after,
        auto_clean: raw.auto_clean.unwrap_or(true),
        reuse_after,
        installation,
        log_json: raw.log_json.unwrap_or(false),
    })
}

fn database(
    text: Option<&str>,
    url_file: Option<PathBuf>,
    password_file: Option<PathBuf>,
    bad: &mut Vec<String>,
) -> Database {
    match (text, url_file, password_file) {
        (None, Some(file), None) => Database::UrlFile(file),
        (None | Some(EMBEDDED), None, None) => Database::Embedded,
        (Some(url), None, password_file) if is_url(url) => {
            if has_password(url) {
                bad.push("database has a password in it: put the password into a file of mode 600 and name it in database_password_file".to_owned());
            }
            Database::Url {
                url: url.to_owned(),
                password_file,
            }
        }
        (Some(other), None, None) => {
            bad.push(format!(
                "database = \"{other}\" is neither \"{EMBEDDED}\" nor a URL as in postgresql://taf@db.example/taf"
            ));
            Database::Embedded
        }
        _ => {
            bad.push(format!(
                "the database is named twice or in half: give database = \"{EMBEDDED}\", or database = \"postgresql://…\" with or without database_password_file, or database_url_file alone"
            ));
            Database::Embedded
        }
    }
}

fn is_url(text: &str) -> bool {
    text.starts_with("postgresql://") || text.starts_with("postgres://")
}

fn has_password(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let user = authority.rsplit_once('@').map(|(user, _)| user);
    user.is_some_and(|user| user.contains(':')) || rest.contains("password=")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, missing_docs)]
mod tests {
    use super::*;

    fn config(text: &str) -> Result<Config, Error> {
        read(toml::from_str(text).unwrap(), Some("/h".into()))
    }

    #[test]
    fn nothing_said_is_a_private_installation() {
        let config = config("").unwrap();
        assert_eq!(config.listen.to_string(), LISTEN);
        assert_eq!(config.database, Database::Embedded);
        assert_eq!(config.cluster_key_file, Path::new("/h/cluster.key"));
    }

    #[test]
    fn every_bad_value_is_named_at_once() {
        let text =
            "listen = \"here\"\ndatabase = \"mysql\"\nlease = \"soon\"\ndatabase_connections = 1\n";
        let said = config(text).unwrap_err().to_string();
        for key in ["listen", "database =", "lease", "database_connections"] {
            assert!(said.contains(key), "{said}");
        }
        assert!(toml::from_str::<Raw>("listne = \"x\"").is_err());
    }

    #[test]
    fn a_password_does_not_belong_into_the_configuration() {
        let said = |text| config(text).unwrap_err().to_string();
        assert!(said("database = \"postgresql://taf:secret@db/taf\"").contains("password_file"));
        assert!(!said("database = \"postgresql://taf:secret@db/taf\"").contains("secret"));
        assert!(said("database = \"embedded\"\ndatabase_url_file = \"/x\"").contains("twice"));
        let url = "database = \"postgresql://taf@db/taf\"\ndatabase_password_file = \"/p\"";
        assert!(matches!(
            config(url).unwrap().database,
            Database::Url {
                password_file: Some(_),
                ..
            }
        ));
    }
}
