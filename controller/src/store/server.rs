//! What kind of server we talk to, and whether it can hold a catalog. Looks once, on a connection of its own.

use std::time::Duration;

use super::error::{self, Error};
use super::tls::Target;

/// The kind of server; the only thing that server-specific statements may branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// PostgreSQL.
    PostgreSql {
        /// `server_version_num`: 150008 is 15.8.
        version: i32,
    },
    /// openGauss in PG mode.
    OpenGauss,
}

/// Connects once and asks. Errors say what to change.
pub(super) async fn probe(target: &Target) -> Result<Server, Error> {
    let connecting = target.config.connect(target.tls.clone());
    let (client, connection) = tokio::time::timeout(Duration::from_secs(30), connecting)
        .await
        .map_err(|_| Error::Unreachable {
            target: target.name.clone(),
            detail: "no answer in 30 seconds".into(),
        })?
        .map_err(|error| error::of_connecting(&target.name, &error))?;
    let driver = tokio::spawn(connection);
    let found = examine(&client).await;
    drop(client);
    driver.abort();
    found
}

async fn examine(client: &tokio_postgres::Client) -> Result<Server, Error> {
    let gauss: i64 = client
        .query_one(
            "SELECT count(*) FROM pg_catalog.pg_proc WHERE proname = 'opengauss_version'",
            &[],
        )
        .await?
        .get(0);
    let encoding = setting(client, "server_encoding").await?;
    if encoding != "UTF8" {
        return Err(Error::Unsupported(format!(
            "its encoding is {encoding}; create the database with ENCODING 'UTF8' TEMPLATE template0"
        )));
    }
    if gauss == 0 {
        let version = setting(client, "server_version_num").await?;
        let version: i32 = version.parse().unwrap_or(0);
        if version < 120_000 {
            return Err(Error::Unsupported(format!(
                "PostgreSQL {} is too old; use 12 or later",
                version / 10_000
            )));
        }
        return Ok(Server::PostgreSql { version });
    }
    let mode = setting(client, "sql_compatibility").await?;
    if mode != "PG" {
        return Err(Error::Unsupported(format!(
            "the openGauss database is in mode {mode}; create it with DBCOMPATIBILITY 'PG' ENCODING 'UTF8' TEMPLATE template0"
        )));
    }
    if setting(client, "enable_default_ustore_table").await? == "on" {
        return Err(Error::Unsupported(
            "openGauss makes Ustore tables by default; set enable_default_ustore_table = off"
                .into(),
        ));
    }
    Ok(Server::OpenGauss)
}

async fn setting(client: &tokio_postgres::Client, name: &str) -> Result<String, Error> {
    let rows = client
        .query(
            "SELECT setting FROM pg_catalog.pg_settings WHERE name = $1::text",
            &[&name],
        )
        .await?;
    Ok(rows.first().map(|row| row.get(0)).unwrap_or_default())
}
