//! Lines: the versions of one plan on one source, of which one at a time is written.

use uuid::Uuid;

use super::{Error, Transaction};

/// A line.
#[derive(Debug, Clone)]
pub struct Line {
    /// Row.
    pub id: i64,
    /// Its name on tape.
    pub uuid: Uuid,
    /// Newest published version, 0 for none.
    pub head: i64,
}

/// A line, held until the transaction ends: who opens, commits to or publishes a version holds its line first.
pub async fn line_lock_on(tx: &Transaction<'_>, id: i64) -> Result<Option<Line>, Error> {
    let row = tx
        .query_opt(
            "SELECT id, line_uuid, head FROM lines WHERE id = $1 FOR UPDATE",
            &[&id],
        )
        .await?;
    Ok(row.map(|row| Line {
        id: row.get(0),
        uuid: row.get(1),
        head: row.get(2),
    }))
}

/// Takes the ordinal of the next archive.
pub async fn line_take_ordinal_on(tx: &Transaction<'_>, id: i64) -> Result<i32, Error> {
    let row = tx
        .query_opt("UPDATE lines SET next_ordinal = next_ordinal + 1 WHERE id = $1 RETURNING next_ordinal - 1", &[&id])
        .await?;
    Ok(row.ok_or(Error::Stale("line"))?.get(0))
}

/// Makes `version` the head; it must be the next one.
pub async fn line_publish_on(tx: &Transaction<'_>, id: i64, version: i64) -> Result<(), Error> {
    let rows = tx
        .execute(
            "UPDATE lines SET head = $2::bigint WHERE id = $1 AND head = $2::bigint - 1",
            &[&id, &version],
        )
        .await?;
    Error::expect_one(rows, "line")
}
