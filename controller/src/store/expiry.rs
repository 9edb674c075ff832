//! Versions that are not kept any more, and what of them is still there: their rows, the parts that they need, and the volumes
//! that nobody needs then.

use super::conditions::LIVING;
use super::{Error, GenericClient, Transaction, clip};

/// Marks versions of a line as not kept, and gives those that were and now are not. One that is held or locked stays, and so does
/// one that is not published; and while what an archive of the same source holds is being removed from there, nothing of that source
/// expires, since it may count as a copy. Whoever calls it holds the line ([`super::lines::line_lock_on`]), so that no run is just deciding to
/// build on one of them. Their rows and parts stay while they are the head, a base, or read by a restore.
pub async fn version_expire_on(
    tx: &Transaction<'_>,
    line: i64,
    numbers: &[i64],
    reason: &str,
) -> Result<Vec<i64>, Error> {
    let rows = tx
        .query(
            "UPDATE versions SET expired_at = clock_timestamp(), expired_reason = $3::varchar \
             WHERE line_id = $1 AND version = ANY($2::bigint[]) AND state = 'published' AND expired_at IS NULL \
             AND hold_reason IS NULL AND (locked_until IS NULL OR locked_until <= clock_timestamp()) AND NOT EXISTS \
             (SELECT 1 FROM jobs AS j JOIN lines AS o ON o.id = j.line_id WHERE j.kind = 'remove-sources' AND j.ended_at IS NULL \
              AND o.source_id = (SELECT l.source_id FROM lines AS l WHERE l.id = $1)) RETURNING version",
            &[&line, &numbers, &clip(reason, 400)],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// A kept version, held until the transaction ends: whoever makes a job that reads it does so here first, so that it can't expire
/// before its job is seen. False if it is not kept. One that is not whole is.
pub async fn version_use_on(tx: &Transaction<'_>, line: i64, number: i64) -> Result<bool, Error> {
    let sql = "SELECT 1 FROM versions WHERE line_id = $1 AND version = $2 AND (state = 'published' OR incomplete_reason IS NOT NULL) \
               AND expired_at IS NULL FOR SHARE";
    Ok(tx.query_opt(sql, &[&line, &number]).await?.is_some())
}

/// The same by one who changes what is said of it.
pub async fn version_take_on(tx: &Transaction<'_>, line: i64, number: i64) -> Result<bool, Error> {
    let sql = "SELECT 1 FROM versions WHERE line_id = $1 AND version = $2 AND state = 'published' AND expired_at IS NULL FOR UPDATE";
    Ok(tx.query_opt(sql, &[&line, &number]).await?.is_some())
}

/// A version, as far as it matters to what must stay.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools)] // facts, each by itself
pub struct Standing {
    /// Its number.
    pub version: i64,
    /// The version that it does not resolve below.
    pub floor: i64,
    /// Whether it is being made, by an attempt that runs or can be gone on with. One that came back and is not whole is not: what it needs
    /// stays as if it were.
    pub staged: bool,
    /// Whether it has not expired, or a job under way reads it.
    pub kept: bool,
    /// Whether it came back and is not whole: no run builds on it.
    pub incomplete: bool,
    /// What it is compared with, 0 for nothing.
    pub parent: i64,
    /// Whether it is compared with the version at its floor, too.
    pub differential: bool,
    /// Whether its parts are released and its rows may be gone.
    pub gone: bool,
    /// Whether they are gone.
    pub vacuumed: bool,
    /// How often rows of it came back since they may be gone.
    pub regained: i64,
}

/// All versions of a line, as they were at one moment: one statement, since a run that is opened between two would be missed.
pub async fn version_list_standing(
    client: &impl GenericClient,
    line: i64,
) -> Result<Vec<Standing>, Error> {
    let sql = "SELECT v.version, v.floor, v.state = 'staged' AND v.incomplete_reason IS NULL, v.expired_at IS NULL OR EXISTS (SELECT 1 FROM jobs AS j \
               WHERE j.kind IN ('restore', 'remove-sources', 'remove-extra', 'feed') AND j.ended_at IS NULL AND j.line_id = v.line_id AND j.version = v.version) AS kept, \
               v.parent, v.kind = 'differential', v.pages_gone, v.vacuumed_at IS NOT NULL, v.incomplete_reason IS NOT NULL, v.regained FROM versions AS v \
               WHERE v.line_id = $1 ORDER BY v.version";
    let rows = client.query(sql, &[&line]).await?;
    let standing = |row: &tokio_postgres::Row| Standing {
        version: row.get(0),
        floor: row.get(1),
        staged: row.get(2),
        kept: row.get(3),
        parent: row.get(4),
        differential: row.get(5),
        gone: row.get(6),
        vacuumed: row.get(7),
        incomplete: row.get(8),
        regained: row.get(9),
    };
    Ok(rows.iter().map(standing).collect())
}

/// Lines with versions that have expired and of which something is still there.
pub async fn line_list_going(client: &impl GenericClient) -> Result<Vec<i64>, Error> {
    let sql = "SELECT DISTINCT line_id FROM versions WHERE expired_at IS NOT NULL AND vacuumed_at IS NULL ORDER BY line_id";
    let rows = client.query(sql, &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Nothing needs these expired versions: what they alone need is released, and their rows may go. There is no way back.
pub async fn version_release_on(
    tx: &Transaction<'_>,
    line: i64,
    numbers: &[i64],
) -> Result<u64, Error> {
    let sql = "UPDATE versions SET pages_gone = true WHERE line_id = $1 AND version = ANY($2::bigint[]) \
               AND expired_at IS NOT NULL AND NOT pages_gone";
    let released = tx.execute(sql, &[&line, &numbers]).await?;
    let sql = "DELETE FROM version_parts WHERE line_id = $1 AND version = ANY($2::bigint[])";
    tx.execute(sql, &[&line, &numbers]).await?;
    Ok(released)
}

/// The rows of these released versions that nobody resolves to are gone, but for versions of which rows came back more often than this.
pub async fn version_vacuumed(
    client: &impl GenericClient,
    line: i64,
    versions: &[(i64, i64)],
) -> Result<(), Error> {
    let (numbers, regained): (Vec<i64>, Vec<i64>) = versions.iter().copied().unzip();
    let sql = "UPDATE versions SET vacuumed_at = clock_timestamp() FROM \
               (SELECT unnest($2::bigint[]) AS version, unnest($3::bigint[]) AS regained) AS k WHERE versions.line_id = $1 \
               AND versions.version = k.version AND versions.regained = k.regained AND versions.pages_gone AND versions.vacuumed_at IS NULL";
    client.execute(sql, &[&line, &numbers, &regained]).await?;
    Ok(())
}

/// Rows of a version came back whose others may be gone: once more those go that nobody resolves to. A sweep under way may be past them
/// already, and has to see that they came.
pub async fn version_unvacuum_on(
    tx: &Transaction<'_>,
    line: i64,
    version: i64,
) -> Result<(), Error> {
    let sql = "UPDATE versions SET vacuumed_at = NULL, regained = regained + 1 WHERE line_id = $1 AND version = $2 AND pages_gone";
    tx.execute(sql, &[&line, &version]).await?;
    Ok(())
}

/// Whether rows of a version may have gone that one needs which is not whole.
pub async fn version_is_missed_on(
    tx: &Transaction<'_>,
    line: i64,
    version: i64,
) -> Result<bool, Error> {
    let sql = "SELECT EXISTS (SELECT 1 FROM versions AS v JOIN versions AS w ON w.line_id = v.line_id WHERE v.line_id = $1 \
               AND v.version = $2 AND v.pages_gone AND w.version > v.version AND w.floor <= v.version \
               AND w.incomplete_reason IS NOT NULL AND w.expired_at IS NULL)";
    Ok(tx.query_one(sql, &[&line, &version]).await?.get(0))
}

/// Notes since when nothing that is needed is on volumes that were written, and on which something is needed again after all.
/// Gives the barcodes of those that nobody needs from now on.
pub async fn volume_free_on(tx: &Transaction<'_>) -> Result<Vec<String>, Error> {
    let sql = format!(
        "UPDATE volumes SET freed_at = NULL WHERE freed_at IS NOT NULL AND EXISTS (SELECT 1 FROM parts AS x \
               JOIN archives AS a ON a.id = x.archive_id WHERE x.recording_uuid = volumes.recording_uuid \
               AND {LIVING})"
    );
    tx.execute(&sql, &[]).await?;
    let sql = format!(
        "UPDATE volumes SET freed_at = clock_timestamp() WHERE freed_at IS NULL AND next_tape_file > 1 \
               AND state IN ('appendable', 'full', 'read-only', 'quarantined') AND NOT EXISTS (SELECT 1 FROM parts AS x \
               JOIN archives AS a ON a.id = x.archive_id WHERE x.recording_uuid = volumes.recording_uuid \
               AND {LIVING}) \
               RETURNING barcode"
    );
    let rows = tx.query(&sql, &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Keys of a line behind one, each with the versions that wrote a row of it, both in order; `limit` rows are looked at, and a key
/// is given wholly or not at all.
pub async fn page_list_rows(
    client: &impl GenericClient,
    line: i64,
    behind: Option<&[u8]>,
    limit: i64,
) -> Result<Vec<(Vec<u8>, Vec<i64>)>, Error> {
    let compare = if behind.is_some() { ">" } else { ">=" };
    let from = behind.unwrap_or_default();
    let sql = client
        .prepare_cached(&format!(
            "SELECT chunk, version FROM pages WHERE line_id = $1 AND chunk {compare} $2 \
             ORDER BY chunk, version DESC LIMIT $3::bigint"
        ))
        .await?;
    let mut limit = limit;
    loop {
        let rows = client.query(&sql, &[&line, &from, &limit]).await?;
        let cut = rows.len() as i64 == limit;
        let mut keys = by_key(&rows);
        // The last key may have more rows; one that alone fills the limit is asked for again.
        if cut && keys.pop().is_some() && keys.is_empty() {
            limit *= 2;
            continue;
        }
        return Ok(keys);
    }
}

/// The same of these keys.
pub async fn page_list_of(
    client: &impl GenericClient,
    line: i64,
    chunks: &[&[u8]],
) -> Result<Vec<(Vec<u8>, Vec<i64>)>, Error> {
    let sql = client
        .prepare_cached(
            "SELECT chunk, version FROM pages WHERE line_id = $1 AND chunk = ANY($2::bytea[]) ORDER BY chunk, version DESC",
        )
        .await?;
    Ok(by_key(&client.query(&sql, &[&line, &chunks]).await?))
}

/// Keys with the versions that wrote a row of each, ascending, of rows by key and of each key the newest first.
fn by_key(rows: &[tokio_postgres::Row]) -> Vec<(Vec<u8>, Vec<i64>)> {
    let mut keys: Vec<(Vec<u8>, Vec<i64>)> = Vec::new();
    for row in rows {
        let chunk: Vec<u8> = row.get(0);
        match keys.last_mut() {
            Some((last, versions)) if *last == chunk => versions.insert(0, row.get(1)),
            _ => keys.push((chunk, vec![row.get(1)])),
        }
    }
    keys
}

/// Removes rows by key and version.
pub async fn page_remove(
    client: &impl GenericClient,
    line: i64,
    rows: &[(&[u8], i64)],
) -> Result<u64, Error> {
    let chunks: Vec<&[u8]> = rows.iter().map(|(chunk, _)| *chunk).collect();
    let versions: Vec<i64> = rows.iter().map(|(_, version)| *version).collect();
    let sql = client
        .prepare_cached(
            "DELETE FROM pages USING (SELECT unnest($2::bytea[]) AS chunk, unnest($3::bigint[]) AS version) AS k \
             WHERE pages.line_id = $1 AND pages.chunk = k.chunk AND pages.version = k.version",
        )
        .await?;
    Ok(client.execute(&sql, &[&line, &chunks, &versions]).await?)
}
