//! Lines: the versions of one plan on one source, of which one at a time is written.

use uuid::Uuid;

use taf_core::catalog::{Base, Head};

use super::{Error, GenericClient, Transaction};

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

/// The newest number that a line has given; the version that has it, if it is published; and the one at that one's floor.
pub async fn line_heads(
    client: &impl GenericClient,
    id: i64,
) -> Result<(i64, Option<Head>, Option<Base>), Error> {
    let sql = "SELECT v.version, v.floor, v.expired_at IS NULL, v.lost_reason IS NOT NULL, v.pages_gone, \
               f.version, f.expired_at IS NULL, f.lost_reason IS NOT NULL, l.head \
               FROM lines AS l LEFT JOIN versions AS v ON v.line_id = l.id AND v.version = l.head AND v.state = 'published' \
               LEFT JOIN versions AS f ON f.line_id = l.id AND f.version = v.floor AND f.state = 'published' WHERE l.id = $1";
    let Some(row) = client.query_opt(sql, &[&id]).await? else {
        return Ok((0, None, None));
    };
    let last = row.get(8);
    let Some(version) = row.get(0) else {
        return Ok((last, None, None));
    };
    let head = Head {
        base: Base {
            version,
            kept: row.get(2),
            lost: row.get(3),
        },
        floor: row.get(1),
        pages_gone: row.get(4),
    };
    let full = row.get::<_, Option<i64>>(5).map(|version| Base {
        version,
        kept: row.get(6),
        lost: row.get(7),
    });
    Ok((last, Some(head), full))
}

/// The line of a plan on a source; archives have another one.
pub async fn line_of_plan(
    client: &impl GenericClient,
    plan_id: i64,
    source_id: i64,
) -> Result<i64, Error> {
    let sql = "SELECT id FROM lines WHERE plan_id = $1 AND source_id = $2 AND NOT archives";
    let row = client.query_opt(sql, &[&plan_id, &source_id]).await?;
    Ok(row.ok_or(Error::Corrupt("a plan has no line"))?.get(0))
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
