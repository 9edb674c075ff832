//! What was met on cartridges and no closing record claims so far: archives whose rows lie aside, where no version resolves to them. A
//! failed attempt may have left them, and then they were never part of anything.
//!
//! Until then such archives hold their volumes as those of a run that can be gone on with do.

use super::pages::{Columns, NewPage};
use super::{Error, GenericClient, Transaction};

/// Archives `a` of numbers `a.version` of which no record tells: neither was such a version made here, nor is it known from cartridges. One
/// that is closed may be of a version that was begun here.
pub(super) const UNTOLD: &str = "a.state IN ('closed', 'unclaimed') AND NOT EXISTS (SELECT 1 FROM versions AS u WHERE u.line_id = a.line_id \
     AND u.version = a.version AND (u.state = 'published' OR u.rebuilt_at IS NOT NULL OR a.state = 'closed'))";

/// Keeps rows of a part aside; those that are there already stay.
pub async fn page_put_aside_on(
    tx: &Transaction<'_>,
    line: i64,
    version: i64,
    (ordinal, part_number): (i32, i32),
    rows: &[NewPage],
) -> Result<(), Error> {
    let Columns {
        chunks,
        bodies,
        hashes,
    } = Columns::of(rows);
    let sql = tx
        .prepare_cached(
            "INSERT INTO pages_unclaimed (line_id, archive_ordinal, part_number, chunk, version, body, hashes) \
             SELECT $1::bigint, $2::integer, $3::integer, u.chunk, $4::bigint, u.body, u.hashes FROM \
             (SELECT unnest($5::bytea[]) AS chunk, unnest($6::bytea[]) AS body, unnest($7::bytea[]) AS hashes) AS u \
             WHERE NOT EXISTS (SELECT 1 FROM pages_unclaimed AS c WHERE c.line_id = $1::bigint AND c.archive_ordinal = $2::integer \
             AND c.part_number = $3::integer AND c.chunk = u.chunk)",
        )
        .await?;
    tx.execute(
        &sql,
        &[
            &line,
            &ordinal,
            &part_number,
            &version,
            &chunks,
            &bodies,
            &hashes,
        ],
    )
    .await?;
    Ok(())
}

/// A closing record names these parts, each by ordinal of its archive and number: their rows count from now on. For one key and version
/// those of the higher ordinal do.
pub async fn part_claim_on(
    tx: &Transaction<'_>,
    line: i64,
    parts: &[(i32, i32)],
) -> Result<(), Error> {
    let (ordinals, numbers): (Vec<i32>, Vec<i32>) = parts.iter().copied().unzip();
    let sql = "UPDATE archives SET state = 'closed' WHERE line_id = $1 AND ordinal = ANY($2::integer[]) AND state = 'unclaimed'";
    tx.execute(sql, &[&line, &ordinals]).await?;
    let sql = "SELECT a.version, k.ordinal, k.part_number FROM \
               (SELECT unnest($2::integer[]) AS ordinal, unnest($3::integer[]) AS part_number) AS k \
               JOIN archives AS a ON a.line_id = $1 AND a.ordinal = k.ordinal \
               WHERE EXISTS (SELECT 1 FROM pages_unclaimed AS c WHERE c.line_id = $1 AND c.archive_ordinal = k.ordinal \
               AND c.part_number = k.part_number) ORDER BY k.ordinal, k.part_number";
    let aside = tx.query(sql, &[&line, &ordinals, &numbers]).await?;
    if !aside.is_empty() {
        take_time(tx).await?;
    }
    // One by one: a part has a limit, a version has none.
    for row in aside {
        let (version, ordinal, number): (i64, i32, i32) = (row.get(0), row.get(1), row.get(2));
        for sql in [
            "DELETE FROM pages USING pages_unclaimed AS c WHERE c.line_id = $1 AND c.archive_ordinal = $2 AND c.part_number = $3 \
             AND pages.line_id = $1 AND pages.chunk = c.chunk AND pages.version = $4 AND pages.archive_ordinal < $2",
            "INSERT INTO pages (line_id, chunk, version, archive_ordinal, part_number, body, hashes) \
             SELECT c.line_id, c.chunk, c.version, c.archive_ordinal, c.part_number, c.body, c.hashes FROM pages_unclaimed AS c \
             WHERE c.line_id = $1 AND c.archive_ordinal = $2 AND c.part_number = $3 AND c.version = $4 AND NOT EXISTS \
             (SELECT 1 FROM pages AS p WHERE p.line_id = $1 AND p.chunk = c.chunk AND p.version = $4)",
            "DELETE FROM pages_unclaimed WHERE line_id = $1 AND archive_ordinal = $2 AND part_number = $3 AND version = $4",
        ] {
            tx.execute(sql, &[&line, &ordinal, &number, &version])
                .await?;
        }
    }
    Ok(())
}

/// Large listings take a while to move, or to go.
async fn take_time(tx: &Transaction<'_>) -> Result<(), Error> {
    let sql = "SET LOCAL statement_timeout = '600s'";
    Ok(tx.batch_execute(sql).await?)
}

/// Puts aside what runs had begun on a line under numbers that are not its next one any more: later versions are known, so nobody goes
/// on with them, and only their own record tells whether they ended well.
pub async fn version_list_unbegin_on(tx: &Transaction<'_>, line: i64) -> Result<(), Error> {
    let sql = "SELECT v.version FROM versions AS v JOIN lines AS l ON l.id = v.line_id WHERE v.line_id = $1 AND v.state = 'staged' \
               AND v.rebuilt_at IS NULL AND v.version <= l.head";
    let begun = tx.query(sql, &[&line]).await?;
    if !begun.is_empty() {
        take_time(tx).await?;
    }
    for row in begun {
        let version: i64 = row.get(0);
        for sql in [
            "INSERT INTO pages_unclaimed (line_id, archive_ordinal, part_number, chunk, version, body, hashes) \
             SELECT p.line_id, p.archive_ordinal, p.part_number, p.chunk, p.version, p.body, p.hashes FROM pages AS p \
             JOIN archives AS a ON a.line_id = p.line_id AND a.ordinal = p.archive_ordinal WHERE p.line_id = $1 AND p.version = $2 \
             AND a.state IN ('staged', 'closed')",
            "DELETE FROM pages USING archives AS a WHERE pages.line_id = $1 AND pages.version = $2 AND a.line_id = pages.line_id \
             AND a.ordinal = pages.archive_ordinal AND a.state IN ('staged', 'closed')",
            "UPDATE archives SET state = 'unclaimed' WHERE line_id = $1 AND version = $2 AND state IN ('staged', 'closed')",
            "DELETE FROM versions WHERE line_id = $1 AND version = $2 AND state = 'staged'",
        ] {
            tx.execute(sql, &[&line, &version]).await?;
        }
    }
    Ok(())
}

/// What a version is made of is known and claimed: all else that was met under its number is no part of it.
pub async fn version_disown_on(tx: &Transaction<'_>, line: i64, version: i64) -> Result<(), Error> {
    let sql = "SELECT EXISTS (SELECT 1 FROM archives AS a WHERE a.line_id = $1 AND a.version = $2 AND (a.state = 'unclaimed' \
               OR EXISTS (SELECT 1 FROM pages_unclaimed AS c WHERE c.line_id = a.line_id AND c.archive_ordinal = a.ordinal)))";
    if !tx
        .query_one(sql, &[&line, &version])
        .await?
        .get::<_, bool>(0)
    {
        return Ok(());
    }
    take_time(tx).await?;
    for sql in [
        "DELETE FROM pages_unclaimed WHERE line_id = $1 AND archive_ordinal IN \
         (SELECT ordinal FROM archives WHERE line_id = $1 AND version = $2)",
        "UPDATE archives SET state = 'abandoned' WHERE line_id = $1 AND version = $2 AND state = 'unclaimed'",
    ] {
        tx.execute(sql, &[&line, &version]).await?;
    }
    Ok(())
}

/// An archive that was given up is met again, and needed now.
pub async fn archive_want_on(tx: &Transaction<'_>, archive: i64) -> Result<(), Error> {
    let sql = "UPDATE archives SET state = 'unclaimed' WHERE id = $1 AND state = 'abandoned'";
    let rows = tx.execute(sql, &[&archive]).await?;
    Error::expect_one(rows, "archive")
}

/// Whether the rows of a part were given up.
pub async fn part_rows_are_given_up_on(
    tx: &Transaction<'_>,
    archive: i64,
    number: i32,
) -> Result<bool, Error> {
    let sql = "SELECT EXISTS (SELECT 1 FROM parts WHERE archive_id = $1 AND part_number = $2 AND rows_given_up)";
    Ok(tx.query_one(sql, &[&archive, &number]).await?.get(0))
}

/// Says whether the rows of a part were given up.
pub async fn part_rows_give_up_on(
    tx: &Transaction<'_>,
    archive: i64,
    number: i32,
    given_up: bool,
) -> Result<(), Error> {
    let sql = "UPDATE parts SET rows_given_up = $3 WHERE archive_id = $1 AND part_number = $2";
    let rows = tx.execute(sql, &[&archive, &number, &given_up]).await?;
    Error::expect_one(rows, "part")
}

/// What was met under a number of which no record tells.
#[derive(Debug, Clone, Default)]
pub struct Met {
    /// Parts.
    pub parts: i64,
    /// Barcodes of the volumes that they are on.
    pub volumes: Vec<String>,
}

/// See [`Met`]; none if nothing was, or a record tells.
pub async fn version_untold(
    client: &impl GenericClient,
    line: i64,
    version: i64,
) -> Result<Option<Met>, Error> {
    let sql = format!(
        "SELECT v.barcode, count(x.id) AS n FROM archives AS a LEFT JOIN parts AS x ON x.archive_id = a.id \
         LEFT JOIN volumes AS v ON v.recording_uuid = x.recording_uuid WHERE a.line_id = $1 AND a.version = $2 AND {UNTOLD} \
         GROUP BY v.barcode ORDER BY v.barcode"
    );
    let rows = client.query(&sql, &[&line, &version]).await?;
    let mut met = None;
    for row in rows {
        let met: &mut Met = met.get_or_insert_default();
        met.parts += row.get::<_, i64>(1);
        met.volumes.extend(row.get::<_, Option<String>>(0));
    }
    Ok(met)
}

/// Gives up what was met under a number of which no record tells: it holds volumes only for versions that name it, and rows that none
/// claims go. False if there is nothing of that kind. Whoever calls it holds the line.
pub async fn version_give_up_untold_on(
    tx: &Transaction<'_>,
    line: i64,
    version: i64,
) -> Result<bool, Error> {
    take_time(tx).await?;
    for sql in [
        format!(
            "UPDATE parts SET rows_given_up = true WHERE archive_id IN (SELECT a.id FROM archives AS a WHERE a.line_id = $1 \
             AND a.version = $2 AND {UNTOLD} AND (a.state = 'unclaimed' OR EXISTS (SELECT 1 FROM pages_unclaimed AS c \
             WHERE c.line_id = a.line_id AND c.archive_ordinal = a.ordinal AND c.part_number = parts.part_number)))"
        ),
        format!(
            "DELETE FROM pages_unclaimed WHERE line_id = $1 AND archive_ordinal IN (SELECT a.ordinal FROM archives AS a \
             WHERE a.line_id = $1 AND a.version = $2 AND {UNTOLD})"
        ),
    ] {
        tx.execute(&sql, &[&line, &version]).await?;
    }
    // What other versions name was part of a version, and what they need of it counts.
    let sql = format!(
        "UPDATE archives SET state = CASE WHEN state = 'unclaimed' THEN 'abandoned' ELSE 'published' END WHERE id IN \
         (SELECT a.id FROM archives AS a WHERE a.line_id = $1 AND a.version = $2 AND {UNTOLD})"
    );
    Ok(tx.execute(&sql, &[&line, &version]).await? > 0)
}
