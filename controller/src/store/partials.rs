//! Versions that came back and are not whole: what they lack, and from where on they are known all the same.

use jiff::Timestamp;
use uuid::Uuid;

use super::unclaimed::{self, UNTOLD};
use super::{Error, GenericClient, Transaction, clip};

/// Says why a version is not whole, and from which archive on its rows are certain, if any are; and what it counts, by its record.
pub async fn version_incomplete_on(
    tx: &Transaction<'_>,
    line: i64,
    version: i64,
    why: &str,
    certain_from: Option<(i64, i32)>,
    counts: [i64; 5],
) -> Result<(), Error> {
    let [files, directories, bytes, stored, issues] = counts;
    let (from_version, from_ordinal) = certain_from.unzip();
    tx.execute(
        "UPDATE versions SET incomplete_reason = $3, certain_version = $4, certain_ordinal = $5, file_count = $6, directory_count = $7, \
         byte_count = $8, stored_byte_count = $9, issue_count = $10 \
         WHERE line_id = $1 AND version = $2 AND incomplete_reason IS NOT NULL",
        &[
            &line,
            &version,
            &clip(why, 400),
            &from_version,
            &from_ordinal,
            &files,
            &directories,
            &bytes,
            &stored,
            &issues,
        ],
    )
    .await?;
    Ok(())
}

/// The same of a version that had nothing of its own: it counts and needs what the one before it does.
pub async fn version_incomplete_as_on(
    tx: &Transaction<'_>,
    line: i64,
    version: i64,
    before: i64,
    why: &str,
) -> Result<(), Error> {
    tx.execute(
        "UPDATE versions SET incomplete_reason = $4, file_count = b.file_count, directory_count = b.directory_count, \
         byte_count = b.byte_count FROM versions AS b WHERE versions.line_id = $1 AND versions.version = $2 \
         AND versions.incomplete_reason IS NOT NULL AND b.line_id = $1 AND b.version = $3",
        &[&line, &version, &before, &clip(why, 400)],
    )
    .await?;
    version_parts_hold_as_on(tx, line, version, before).await
}

/// A version that had nothing of its own needs what the one before it does, as far as that is there.
pub async fn version_parts_hold_as_on(
    tx: &Transaction<'_>,
    line: i64,
    version: i64,
    before: i64,
) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO version_parts (line_id, version, part_id) SELECT n.line_id, $2::bigint, n.part_id FROM version_parts AS n \
         WHERE n.line_id = $1 AND n.version = $3 AND NOT EXISTS (SELECT 1 FROM version_parts AS o WHERE o.line_id = n.line_id \
         AND o.version = $2 AND o.part_id = n.part_id)",
        &[&line, &version, &before],
    )
    .await?;
    Ok(())
}

/// What an incomplete version is made of, as far as it is known.
#[derive(Debug, Clone)]
pub struct Partial {
    /// What it is like: of one that had nothing of its own, the one before.
    pub parent: i64,
    /// The version that it does not resolve below.
    pub floor: i64,
    /// Encoded closing record; none if it had nothing of its own.
    pub closing: Option<Vec<u8>>,
    /// The archive from which on its rows are certain.
    pub certain_from: Option<(i64, i32)>,
}

/// A version that is not whole.
pub async fn version_partial(
    client: &impl GenericClient,
    line: i64,
    version: i64,
) -> Result<Option<Partial>, Error> {
    let sql = "SELECT parent, floor, closing, certain_version, certain_ordinal FROM versions WHERE line_id = $1 AND version = $2 \
               AND incomplete_reason IS NOT NULL AND NOT pages_gone";
    let row = client.query_opt(sql, &[&line, &version]).await?;
    Ok(row.map(|row| Partial {
        parent: row.get(0),
        floor: row.get(1),
        closing: row.get(2),
        certain_from: row
            .get::<_, Option<i64>>(3)
            .zip(row.get::<_, Option<i32>>(4)),
    }))
}

/// The lines that have versions which are not whole.
pub async fn line_list_incomplete(client: &impl GenericClient) -> Result<Vec<i64>, Error> {
    let sql = "SELECT DISTINCT line_id FROM versions WHERE incomplete_reason IS NOT NULL AND expired_at IS NULL ORDER BY line_id";
    let rows = client.query(sql, &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Gives up a version that is not whole: it has expired, and what is met of it from now on makes it whole no more. Its archives are
/// those of an expired version, so that they hold their volumes only for others. False if it is no such version. Whoever calls it holds
/// the line.
pub async fn version_give_up_on(
    tx: &Transaction<'_>,
    line: i64,
    version: i64,
    reason: &str,
) -> Result<bool, Error> {
    let sql = "UPDATE versions SET expired_at = clock_timestamp(), expired_reason = $3::varchar WHERE line_id = $1 AND version = $2 \
               AND state = 'staged' AND incomplete_reason IS NOT NULL AND expired_at IS NULL";
    let given_up = tx
        .execute(sql, &[&line, &version, &clip(reason, 400)])
        .await?;
    if given_up == 0 {
        return Ok(false);
    }
    // One that an attempt had begun, as far as an older catalog knew, is among them.
    let sql = "UPDATE archives SET state = 'published' WHERE line_id = $1 AND version = $2 AND state IN ('staged', 'closed')";
    tx.execute(sql, &[&line, &version]).await?;
    unclaimed::version_disown_on(tx, line, version).await?;
    Ok(true)
}

/// Whether what a version lacks was counted, if anything tells what it is made of.
pub async fn version_is_counted_on(
    tx: &Transaction<'_>,
    line: i64,
    version: i64,
) -> Result<bool, Error> {
    let sql = "SELECT EXISTS (SELECT 1 FROM versions WHERE line_id = $1 AND version = $2 AND closing IS NOT NULL \
               AND certain_version IS NULL)";
    let uncounted: bool = tx.query_one(sql, &[&line, &version]).await?.get(0);
    Ok(!uncounted)
}

/// Whether a version was given up that is not whole.
pub async fn version_is_given_up_on(
    tx: &Transaction<'_>,
    line: i64,
    version: i64,
) -> Result<bool, Error> {
    let sql = "SELECT EXISTS (SELECT 1 FROM versions WHERE line_id = $1 AND version = $2 AND incomplete_reason IS NOT NULL \
               AND expired_at IS NOT NULL)";
    Ok(tx.query_one(sql, &[&line, &version]).await?.get(0))
}

/// Why a version is kept no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was given up before it was whole.
    GivenUp,
    /// It has expired.
    Expired,
}

/// Why a version is kept no more; none if it is.
pub async fn version_end(
    client: &impl GenericClient,
    line: i64,
    version: i64,
) -> Result<Option<End>, Error> {
    let sql = "SELECT incomplete_reason IS NOT NULL FROM versions WHERE line_id = $1 AND version = $2 AND expired_at IS NOT NULL";
    let row = client.query_opt(sql, &[&line, &version]).await?;
    Ok(row.map(|row| {
        if row.get(0) {
            End::GivenUp
        } else {
            End::Expired
        }
    }))
}

/// The first version that had nothing of its own and is what this one is, but for such as were given up and nobody reads.
pub async fn version_same_on(
    tx: &Transaction<'_>,
    line: i64,
    version: i64,
) -> Result<Option<i64>, Error> {
    let sql = "SELECT v.version FROM versions AS v WHERE v.line_id = $1 AND v.parent = $2 AND v.incomplete_reason IS NOT NULL \
               AND v.closing IS NULL AND (v.expired_at IS NULL OR EXISTS (SELECT 1 FROM jobs AS j WHERE j.line_id = v.line_id \
               AND j.version = v.version AND j.ended_at IS NULL)) ORDER BY v.version LIMIT 1";
    let row = tx.query_opt(sql, &[&line, &version]).await?;
    Ok(row.map(|row| row.get(0)))
}

/// The barcode of a recording that is known.
pub async fn recording_barcode(
    client: &impl GenericClient,
    recording: Uuid,
) -> Result<Option<String>, Error> {
    let sql = "SELECT barcode FROM volumes WHERE recording_uuid = $1";
    let row = client.query_opt(sql, &[&recording]).await?;
    Ok(row.map(|row| row.get(0)))
}

/// A part that can't be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmet {
    /// Ordinal of its archive.
    pub ordinal: i32,
    /// Number.
    pub number: i32,
    /// Barcode of the volume that it was on, if the catalog has it and its recording is no more; none if it does not have it.
    pub erased_from: Option<String>,
}

/// Which of these parts of a line, each by ordinal of its archive and number, the catalog does not have, or has nowhere. It does not have
/// what was given up before a record told that it is needed.
pub async fn part_list_unmet(
    client: &impl GenericClient,
    line: i64,
    needed: &[(i32, i32)],
) -> Result<Vec<Unmet>, Error> {
    let ordinals: Vec<i32> = needed.iter().map(|(ordinal, _)| *ordinal).collect();
    let numbers: Vec<i32> = needed.iter().map(|(_, number)| *number).collect();
    let sql = "SELECT k.ordinal, k.part_number, h.barcode FROM \
               (SELECT unnest($2::integer[]) AS ordinal, unnest($3::integer[]) AS part_number) AS k LEFT JOIN \
               (SELECT a.ordinal, x.part_number, x.recording_uuid, v.barcode FROM archives AS a JOIN parts AS x ON x.archive_id = a.id \
                JOIN volumes AS v ON v.id = x.volume_id WHERE a.line_id = $1 AND NOT x.rows_given_up) AS h ON h.ordinal = k.ordinal AND h.part_number = k.part_number \
               WHERE NOT EXISTS (SELECT 1 FROM volumes AS w WHERE w.recording_uuid = h.recording_uuid AND w.state <> 'unlabelled') \
               ORDER BY k.ordinal, k.part_number";
    let rows = client.query(sql, &[&line, &ordinals, &numbers]).await?;
    let unmet = |row: &tokio_postgres::Row| Unmet {
        ordinal: row.get(0),
        number: row.get(1),
        erased_from: row.get(2),
    };
    Ok(rows.iter().map(unmet).collect())
}

/// A version that is not readable, for people.
#[derive(Debug, Clone)]
pub struct Incomplete {
    /// Plan.
    pub plan: Option<String>,
    /// Line.
    pub line_id: i64,
    /// Number.
    pub version: i64,
    /// Whether its line is that of the plan's archives.
    pub archive: bool,
    /// When its walk began, and why it is not whole; none if no record tells of it ([`unclaimed`]).
    pub known: Option<(Timestamp, String)>,
}

/// Versions that came back and are not readable, behind a line and number, and numbers of which something came back and no record tells.
pub async fn version_list_incomplete(
    client: &impl GenericClient,
    (line, number): (i64, i64),
    limit: i64,
) -> Result<Vec<Incomplete>, Error> {
    let sql = format!(
        "SELECT p.plan_name, q.line_id, q.version, q.started_at, q.reason, COALESCE(l.archives, false) AS archives FROM (SELECT v.line_id, v.version, v.started_at, \
         v.incomplete_reason AS reason FROM versions AS v WHERE v.incomplete_reason IS NOT NULL AND v.expired_at IS NULL \
         UNION SELECT a.line_id, a.version, NULL::timestamptz AS started_at, NULL::varchar AS reason FROM archives AS a WHERE {UNTOLD}) AS q \
         JOIN lines AS l ON l.id = q.line_id LEFT JOIN plans AS p ON p.id = l.plan_id \
         WHERE q.line_id > $2::bigint OR q.line_id = $2::bigint AND q.version > $3::bigint \
         ORDER BY q.line_id, q.version LIMIT $1::bigint"
    );
    let rows = client.query(&sql, &[&limit, &line, &number]).await?;
    let incomplete = |row: &tokio_postgres::Row| Incomplete {
        plan: row.get(0),
        line_id: row.get(1),
        version: row.get(2),
        archive: row.get(5),
        known: row
            .get::<_, Option<Timestamp>>(3)
            .zip(row.get::<_, Option<String>>(4)),
    };
    Ok(rows.iter().map(incomplete).collect())
}
