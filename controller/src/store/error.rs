//! What can go wrong with the database. The only place that reads a SQLSTATE.

use deadpool_postgres::{PoolError, TimeoutType};
use tokio_postgres::error::SqlState;

/// Why the database did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The URL or its files can't be used.
    #[error(
        "the database setting can't be used: {0}; see \"database\" in the controller's configuration"
    )]
    Settings(String),
    /// Nobody answers.
    #[error(
        "the database at {target} can't be reached: {detail}; see that it runs and that \"database\" in the controller's configuration names it"
    )]
    Unreachable {
        /// Host, port and database.
        target: String,
        /// What the system said.
        detail: String,
    },
    /// It answers and does not let us in. Never retried: openGauss locks an account after ten failures.
    #[error(
        "the database at {target} refuses us: {detail}; check user, password and pg_hba.conf there"
    )]
    Refused {
        /// Host, port and database.
        target: String,
        /// What the server said.
        detail: String,
    },
    /// The server can't hold a catalog.
    #[error("the database server can't be used: {0}")]
    Unsupported(String),
    /// The schema can't be brought up to date.
    #[error("the catalog's schema can't be brought up to date: {0}")]
    Migration(String),
    /// A connection was lost, or the server is going down.
    #[error(
        "the connection to the database was lost: {0}; what was under way is undone and can be tried again"
    )]
    Lost(String),
    /// No connection came free in time.
    #[error(
        "no database connection came free in 30 seconds; raise the pool size or see what keeps the database busy"
    )]
    Busy,
    /// A statement took longer than it may.
    #[error("the database took too long and the statement was cancelled; see what keeps it busy")]
    Timeout,
    /// The server has no room, memory or files left.
    #[error("the database server can't go on: {0}; make room for it")]
    Exhausted(String),
    /// Two transactions got into each other's way; trying again helps.
    #[error("another transaction was in the way; try again")]
    Contended,
    /// A row with this key exists.
    #[error("a row with this key exists already ({constraint})")]
    Exists {
        /// Name of the constraint or index.
        constraint: String,
    },
    /// A row that this one refers to does not exist, or is still referred to.
    #[error("a row that another one needs is missing or still in use ({constraint})")]
    Reference {
        /// Name of the constraint.
        constraint: String,
    },
    /// A guarded statement found its row in another state than the caller had seen.
    #[error("the {0} has changed meanwhile; nothing was written, try again")]
    Stale(&'static str),
    /// A value that no row can hold.
    #[error("a value can't be stored: {0}")]
    Invalid(&'static str),
    /// A row holds what the program never wrote.
    #[error("a row of the catalog can't be understood: {0}; restore the catalog from a backup")]
    Corrupt(&'static str),
    /// Anything else that the server said.
    #[error("the database failed: {0}")]
    Failed(String),
}

impl Error {
    /// Whether the same work may be tried again as it is.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Lost(_)
                | Self::Busy
                | Self::Timeout
                | Self::Exhausted(_)
                | Self::Contended
                | Self::Stale(_)
                | Self::Unreachable { .. }
        )
    }

    /// For a guarded statement that must change one row: an error unless it did.
    pub fn expect_one(rows: u64, what: &'static str) -> Result<(), Self> {
        if rows == 1 {
            Ok(())
        } else {
            Err(Self::Stale(what))
        }
    }

    /// Whether a row with this key exists already.
    pub fn is_exists(&self) -> bool {
        matches!(self, Self::Exists { .. })
    }
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(said) = error.as_db_error() else {
            return if error.is_closed() || is_io(&error) {
                Self::Lost(chain(&error))
            } else {
                Self::Failed(chain(&error))
            };
        };
        let constraint = || said.constraint().unwrap_or("unnamed").to_owned();
        let state = said.code();
        if *state == SqlState::UNIQUE_VIOLATION {
            Self::Exists {
                constraint: constraint(),
            }
        } else if *state == SqlState::FOREIGN_KEY_VIOLATION {
            Self::Reference {
                constraint: constraint(),
            }
        } else if *state == SqlState::QUERY_CANCELED {
            Self::Timeout
        } else if [
            SqlState::T_R_SERIALIZATION_FAILURE,
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::LOCK_NOT_AVAILABLE,
        ]
        .contains(state)
        {
            Self::Contended
        } else if state.code().starts_with("08") || state.code().starts_with("57P") {
            Self::Lost(said.message().to_owned())
        } else if state.code().starts_with("53") || state.code().starts_with("58") {
            Self::Exhausted(said.message().to_owned())
        } else {
            Self::Failed(format!("{} ({})", said.message(), state.code()))
        }
    }
}

impl From<PoolError> for Error {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Timeout(TimeoutType::Wait) => Self::Busy,
            PoolError::Timeout(_) => Self::Lost("connecting took longer than 30 seconds".into()),
            PoolError::Backend(error)
            | PoolError::PostCreateHook(deadpool_postgres::HookError::Backend(error)) => {
                match Self::from(error) {
                    // A failed attempt to connect has no closed connection to speak of.
                    Self::Failed(said) => Self::Lost(said),
                    other => other,
                }
            }
            other => Self::Lost(other.to_string()),
        }
    }
}

/// The error of a first connection, told apart by whether the server spoke.
pub(super) fn of_connecting(target: &str, error: &tokio_postgres::Error) -> Error {
    let target = target.to_owned();
    match error.as_db_error() {
        Some(said)
            if said.code().code().starts_with("28")
                || *said.code() == SqlState::INVALID_CATALOG_NAME =>
        {
            Error::Refused {
                target,
                detail: said.message().to_owned(),
            }
        }
        Some(said) => Error::Unreachable {
            target,
            detail: said.message().to_owned(),
        },
        None => {
            let detail = chain(error);
            // openGauss's default authentication looks to us like a broken SASL message.
            if detail.contains("sasl")
                || detail.contains("authentication")
                || detail.contains("password missing")
            {
                Error::Refused {
                    target,
                    detail: format!(
                        "{detail} (openGauss: set password_encryption_type = 1 and set the role's password again)"
                    ),
                }
            } else {
                Error::Unreachable { target, detail }
            }
        }
    }
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        if inner.is::<std::io::Error>() {
            return true;
        }
        cause = inner.source();
    }
    false
}

/// An error with its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = inner.source();
    }
    text
}
