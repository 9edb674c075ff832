//! The catalog database: connections, start-up checks, and all SQL of the product, one file an aggregate.
//!
//! Owns every statement that is ever sent. Methods are named resource first (`line_ensure_on`); a name that ends in `_on`
//! works inside the caller's transaction. One SQL text serves PostgreSQL 12 to 18 and openGauss in PG mode; the few
//! places that must know the server ask [`Store::server`]. Decides nothing: what may happen is decided by the callers,
//! and what did happen is read from the row counts of guarded statements.

pub mod accounts;
pub mod agents;
pub mod api_tokens;
pub mod archives;
pub mod assignments;
pub mod attempt_volumes;
pub mod attempts;
pub mod audit;
pub mod checks;
pub mod cleaning;
pub mod closings;
mod conditions;
pub mod dictionaries;
pub mod drives;
pub mod dumps;
pub mod enrolment;
pub mod error;
pub mod expiry;
pub mod feeds;
pub mod indexes;
pub mod installation;
pub mod issues;
pub mod jobs;
pub mod leadership;
pub mod libraries;
pub mod lines;
mod migrate;
pub mod mounts;
pub mod orphans;
pub mod pages;
pub mod partials;
pub mod parts;
pub mod plans;
pub mod pools;
pub mod rebuilds;
pub mod recalls;
pub mod reclaims;
pub mod removals;
pub mod requests;
pub mod retention;
pub mod reuse;
pub mod savepoints;
mod server;
pub mod sources;
pub mod statements;
pub mod streams;
pub mod system;
mod tls;
pub mod trust;
pub mod unclaimed;
pub mod verifications;
pub mod versions;
pub mod volumes;

use std::path::PathBuf;
use std::time::Duration;

pub use deadpool_postgres::{GenericClient, Object as Client, Transaction};
use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
pub use error::Error;
pub use server::Server;

/// Name of the schema that holds every table.
pub const SCHEMA: &str = "taf";

/// How to reach the database.
#[derive(Debug, Clone)]
pub struct Options {
    /// `postgresql://user@host/database`, a unix socket's folder as `?host=/folder`. Of libpq's `sslmode`s: disable, prefer,
    /// require, verify-full; with `sslrootcert=FILE` the server's certificate is verified by that file.
    pub url: String,
    /// Most connections.
    pub pool_size: usize,
    /// Longest that one statement may run.
    pub statement_timeout: Duration,
    /// File with the password, if the URL has none: one line.
    pub password_file: Option<PathBuf>,
}

impl Options {
    /// The defaults for `url`: 16 connections, a minute a statement.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            pool_size: 16,
            statement_timeout: Duration::from_mins(1),
            password_file: None,
        }
    }
}

/// Longest wait for a free or new connection.
const CONNECTION_WAIT: Duration = Duration::from_secs(30);

/// The catalog database. Cheap to clone; all clones share one pool.
#[derive(Clone)]
pub struct Store {
    pool: Pool,
    server: Server,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Connects, checks that the server can hold a catalog, and brings the schema up to date. Safe while other
    /// controllers do the same.
    pub async fn open(options: &Options) -> Result<Self, Error> {
        let target = tls::Target::parse(options)?;
        let server = server::probe(&target).await?;
        let timeout = options.statement_timeout.as_millis().max(1);
        // openGauss ends idle sessions after ten minutes unless told otherwise.
        let idle = match server {
            Server::PostgreSql { .. } => "SET idle_in_transaction_session_timeout = '15min'",
            Server::OpenGauss => "SET session_timeout = 0",
        };
        let setup =
            format!("SET search_path = {SCHEMA}; SET statement_timeout = '{timeout}ms'; {idle}");
        let manager = Manager::from_config(
            target.config.clone(),
            target.tls.clone(),
            // Clean would send DISCARD ALL, which openGauss does not have.
            ManagerConfig {
                recycling_method: RecyclingMethod::Verified,
            },
        );
        let pool = Pool::builder(manager)
            .max_size(options.pool_size.max(2))
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(CONNECTION_WAIT))
            .create_timeout(Some(CONNECTION_WAIT))
            .recycle_timeout(Some(CONNECTION_WAIT))
            .post_create(Hook::async_fn(move |client, _| {
                let setup = setup.clone();
                Box::pin(async move {
                    client
                        .batch_execute(&setup)
                        .await
                        .map_err(HookError::Backend)
                })
            }))
            .build()
            .map_err(|error| Error::Settings(error.to_string()))?;
        let store = Self { pool, server };
        migrate::run(&store).await?;
        Ok(store)
    }

    /// A connection from the pool. Waits at most 30 seconds.
    pub async fn client(&self) -> Result<Client, Error> {
        Ok(self.pool.get().await?)
    }

    /// What kind of server it is.
    pub fn server(&self) -> Server {
        self.server
    }

    /// Closes every connection; later calls of [`Store::client`] fail.
    pub fn close(&self) {
        self.pool.close();
    }
}

/// The current time, cut to microseconds, which is what a row keeps of it.
pub fn now() -> jiff::Timestamp {
    let now = jiff::Timestamp::now();
    jiff::Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now)
}

/// A number that a row or message holds as `bigint`. Only what no tape or tree can reach fails.
pub fn bigint(number: u64) -> Result<i64, Error> {
    i64::try_from(number).map_err(|_| Error::Invalid("a number is beyond 2^63"))
}

/// `text` as a row can hold it: no NUL, at most `limit` characters.
pub fn clip(text: &str, limit: usize) -> String {
    text.chars().filter(|c| *c != '\0').take(limit).collect()
}
