//! Archives: the bytes of one attempt at a version.

use std::collections::HashSet;

use uuid::Uuid;

use super::{Error, GenericClient, Transaction};

/// An archive.
#[derive(Debug, Clone)]
pub struct Archive {
    /// Row.
    pub id: i64,
    /// Its name on tape.
    pub uuid: Uuid,
    /// Line.
    pub line_id: i64,
    /// Ordinal within the line.
    pub ordinal: i32,
    /// Version.
    pub version: i64,
    /// Attempt.
    pub attempt_id: i64,
    /// `staged`, `closed`, `published`, `abandoned` or `unclaimed`.
    pub state: String,
}

const SELECT: &str = "SELECT a.id, a.archive_uuid, a.line_id, a.ordinal, a.version, a.attempt_id, a.state FROM archives AS a";

fn archive(row: &tokio_postgres::Row) -> Archive {
    Archive {
        id: row.get(0),
        uuid: row.get(1),
        line_id: row.get(2),
        ordinal: row.get(3),
        version: row.get(4),
        attempt_id: row.get(5),
        state: row.get(6),
    }
}

/// Adds a staged archive and gives its row.
pub async fn archive_open_on(
    tx: &Transaction<'_>,
    uuid: Uuid,
    line: i64,
    ordinal: i32,
    version: i64,
    attempt: i64,
) -> Result<i64, Error> {
    let row = tx
        .query_one(
            "INSERT INTO archives (archive_uuid, line_id, ordinal, version, attempt_id, state) \
             VALUES ($1, $2, $3, $4, $5, 'staged') RETURNING id",
            &[&uuid, &line, &ordinal, &version, &attempt],
        )
        .await?;
    Ok(row.get(0))
}

/// Gives up what earlier attempts staged under this number.
pub async fn archive_abandon_on(
    tx: &Transaction<'_>,
    line: i64,
    version: i64,
) -> Result<u64, Error> {
    let sql = "UPDATE archives SET state = 'abandoned' WHERE line_id = $1 AND version = $2 AND state IN ('staged', 'closed')";
    Ok(tx.execute(sql, &[&line, &version]).await?)
}

/// What earlier attempts staged under this number takes no more parts; an archive without any is given up.
pub async fn archive_close_on(tx: &Transaction<'_>, line: i64, version: i64) -> Result<(), Error> {
    let sql = "UPDATE archives SET state = CASE WHEN EXISTS (SELECT 1 FROM parts AS x WHERE x.archive_id = archives.id) \
               THEN 'closed' ELSE 'abandoned' END WHERE line_id = $1 AND version = $2 AND state = 'staged'";
    tx.execute(sql, &[&line, &version]).await?;
    Ok(())
}

/// Gives up an archive into which nothing was written.
pub async fn archive_drop_on(tx: &Transaction<'_>, id: i64) -> Result<(), Error> {
    let rows = tx
        .execute(
            "UPDATE archives SET state = 'abandoned' WHERE id = $1 AND state = 'staged' \
             AND NOT EXISTS (SELECT 1 FROM parts AS x WHERE x.archive_id = archives.id)",
            &[&id],
        )
        .await?;
    Error::expect_one(rows, "archive")
}

/// The ordinals that pages of a version may name: those of archives that count, and of its own.
pub async fn archive_ordinals(
    client: &impl GenericClient,
    line: i64,
    version: i64,
) -> Result<HashSet<u32>, Error> {
    let sql = "SELECT ordinal FROM archives WHERE line_id = $1 \
               AND (state IN ('published', 'closed') OR version = $2 AND state = 'staged')";
    let rows = client.query(sql, &[&line, &version]).await?;
    Ok(rows.iter().map(|row| row.get::<_, i32>(0) as u32).collect())
}

/// Whether a version that is being made has, or had, more streams than one.
pub async fn archive_has_streams(
    client: &impl GenericClient,
    line: i64,
    version: i64,
) -> Result<bool, Error> {
    let sql = "SELECT EXISTS (SELECT 1 FROM archives AS a JOIN attempts AS t ON t.id = a.attempt_id \
               WHERE a.line_id = $1 AND a.version = $2 AND a.state IN ('staged', 'closed') AND t.stream > 0)";
    Ok(client.query_one(sql, &[&line, &version]).await?.get(0))
}

/// Whether earlier archives of the same version count.
pub async fn archive_is_resumed(client: &impl GenericClient, id: i64) -> Result<bool, Error> {
    let sql = "SELECT EXISTS (SELECT 1 FROM archives AS o WHERE o.line_id = a.line_id AND o.version = a.version AND o.id <> a.id \
               AND o.state = 'closed') FROM archives AS a WHERE a.id = $1";
    let row = client.query_opt(sql, &[&id]).await?;
    Ok(row.is_some_and(|row| row.get(0)))
}

/// An archive by its name on tape.
pub async fn archive_get(
    client: &impl GenericClient,
    uuid: Uuid,
) -> Result<Option<Archive>, Error> {
    let sql = format!("{SELECT} WHERE a.archive_uuid = $1");
    Ok(client
        .query_opt(&sql, &[&uuid])
        .await?
        .as_ref()
        .map(archive))
}

/// The archive that an attempt fills.
pub async fn archive_of_attempt_on(
    tx: &Transaction<'_>,
    attempt: i64,
) -> Result<Option<Archive>, Error> {
    let sql = format!("{SELECT} WHERE a.attempt_id = $1 ORDER BY a.id DESC LIMIT 1");
    Ok(tx.query_opt(&sql, &[&attempt]).await?.as_ref().map(archive))
}

/// Makes what was staged under this number part of a published version; gives how many archives that are.
pub async fn archive_publish_on(
    tx: &Transaction<'_>,
    line: i64,
    version: i64,
) -> Result<u64, Error> {
    let sql = "UPDATE archives SET state = 'published' WHERE line_id = $1 AND version = $2 AND state IN ('staged', 'closed')";
    Ok(tx.execute(sql, &[&line, &version]).await?)
}
