//! The private PostgreSQL of `database = "embedded"`: made, started, adopted and stopped here, from the system's own
//! binaries, reachable over one unix socket only.
//!
//! The controller may die at any moment: the postmaster lives on and the next controller adopts it. Only a clean stop
//! stops it. The postmaster may die at any moment too: the controller starts it again. As root it runs under a service user, because PostgreSQL refuses root. Nothing here speaks SQL.

mod account;
mod binaries;
mod cluster;
mod install;
mod limits;
mod watch;

use std::path::{Path, PathBuf};

pub use cluster::Cluster;
pub use limits::{Limits, REQUIRED};
pub use watch::watch;

/// Why the private database does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No PostgreSQL on this system.
    #[error("PostgreSQL is not installed here; run: {install}")]
    Absent {
        /// A shell command.
        install: String,
    },
    /// The data folder was made by another major version.
    #[error("{folder} was made by PostgreSQL {wanted}, and here are: {found}; run: {install}", folder = .folder.display())]
    Version {
        /// The data folder.
        folder: PathBuf,
        /// Major version in its `PG_VERSION`.
        wanted: u32,
        /// Major versions found.
        found: String,
        /// A shell command.
        install: String,
    },
    /// Root can't run PostgreSQL and there is nobody else.
    #[error(
        "as root the database runs under the user \"taf\" or \"postgres\", and there is neither; run: useradd --system taf"
    )]
    NoServiceUser,
    /// The data folder is somebody else's.
    #[error("{folder} belongs to user number {owner}, who is not us; run as that user, or as root", folder = .folder.display())]
    Owner {
        /// The data folder.
        folder: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// The service user can't get to the data folder.
    #[error("user \"{user}\" can't pass through {folder} to its database; run: chmod o+x {folder}", folder = .folder.display())]
    Unreachable {
        /// The folder in the way.
        folder: PathBuf,
        /// The service user.
        user: String,
    },
    /// A file or folder.
    #[error("{path} can't be used for the database: {cause}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// A program of PostgreSQL's failed.
    #[error("{program} failed: {said}; the database's log is {log}", log = .log.display())]
    Program {
        /// Its name.
        program: &'static str,
        /// Its last words.
        said: String,
        /// The server's log.
        log: PathBuf,
    },
    /// The server runs and does not answer.
    #[error("the database in {folder} (process {pid}) does not answer on its socket after 60 seconds; see {log}, and stop it with: kill -INT {pid}",
        folder = .folder.display(), log = .log.display())]
    Silent {
        /// The data folder.
        folder: PathBuf,
        /// The postmaster.
        pid: i32,
        /// The server's log.
        log: PathBuf,
    },
}

impl Error {
    fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |cause| Self::Io {
            path: path.to_path_buf(),
            cause,
        }
    }
}

/// Starts the private database below `home`, or adopts the one that runs there already. Blocks until it answers.
///
/// Uses `home/database`. As root, `home` is made passable (not readable) for the service user.
pub fn start(home: &Path) -> Result<Cluster, Error> {
    limits::check();
    cluster::start(home)
}
