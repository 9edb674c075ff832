//! What a closing record is made of, but for the rows that a version resolves to.

use jiff::Timestamp;
use uuid::Uuid;

use super::{Error, GenericClient, Transaction};

/// Where a part lies in its archive.
#[derive(Debug, Clone, Copy)]
pub struct PartSpan {
    /// Ordinal of the archive.
    pub archive_ordinal: i32,
    /// From 1.
    pub part_number: i32,
    /// Version of the archive.
    pub version: i64,
    /// Tar offset of the first byte.
    pub first_tar_offset: i64,
    /// Tar offset behind the last byte.
    pub end_tar_offset: i64,
}

/// The parts of a line's archives that count or may still, by archive and place.
pub async fn closing_spans(client: &impl GenericClient, line: i64) -> Result<Vec<PartSpan>, Error> {
    let sql = "SELECT a.ordinal, x.part_number, a.version, x.first_tar_offset, x.end_tar_offset FROM archives AS a \
               JOIN parts AS x ON x.archive_id = a.id WHERE a.line_id = $1 AND a.state <> 'abandoned' ORDER BY a.ordinal, x.part_number";
    let rows = client.query(sql, &[&line]).await?;
    let span = |row: &tokio_postgres::Row| PartSpan {
        archive_ordinal: row.get(0),
        part_number: row.get(1),
        version: row.get(2),
        first_tar_offset: row.get(3),
        end_tar_offset: row.get(4),
    };
    Ok(rows.iter().map(span).collect())
}

/// Rows that a version wrote, by archive and part.
pub async fn closing_counts(
    client: &impl GenericClient,
    line: i64,
    version: i64,
) -> Result<Vec<(i32, i32, i64)>, Error> {
    let sql = "SELECT archive_ordinal, part_number, count(*) AS n FROM pages WHERE line_id = $1 AND version = $2 \
               GROUP BY archive_ordinal, part_number ORDER BY archive_ordinal, part_number";
    let rows = client.query(sql, &[&line, &version]).await?;
    Ok(rows
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect())
}

/// A staged version that is to be counted.
#[derive(Debug, Clone, Copy)]
pub struct Uncounted {
    /// Line.
    pub line: i64,
    /// Number.
    pub version: i64,
    /// Version that resolution does not go below.
    pub floor: i64,
    job: i64,
    started_at: Timestamp,
}

/// A staged version, if it is not counted yet.
pub async fn closing_uncounted(
    client: &impl GenericClient,
    line: i64,
    version: i64,
) -> Result<Option<Uncounted>, Error> {
    let sql = "SELECT floor, job_id, started_at FROM versions WHERE line_id = $1 AND version = $2 AND state = 'staged' AND needs IS NULL";
    let row = client.query_opt(sql, &[&line, &version]).await?;
    Ok(row.map(|row| Uncounted {
        line,
        version,
        floor: row.get(0),
        job: row.get(1),
        started_at: row.get(2),
    }))
}

/// Keeps what was counted of a staged version, if nobody has begun it anew meanwhile.
pub async fn closing_needs_set(
    client: &impl GenericClient,
    of: Uncounted,
    needs: &[u8],
    living_tar_bytes: i64,
) -> Result<(), Error> {
    let sql = "UPDATE versions SET needs = $3, living_tar_bytes = $4 WHERE line_id = $1 AND version = $2 AND state = 'staged' \
               AND needs IS NULL AND job_id = $5 AND started_at = $6";
    client
        .execute(
            sql,
            &[
                &of.line,
                &of.version,
                &needs,
                &living_tar_bytes,
                &of.job,
                &of.started_at,
            ],
        )
        .await?;
    Ok(())
}

/// Keeps how many bytes of tar belong to a version that is counted as it is published.
pub async fn closing_living_set_on(
    tx: &Transaction<'_>,
    line: i64,
    version: i64,
    living_tar_bytes: i64,
) -> Result<(), Error> {
    let sql = "UPDATE versions SET living_tar_bytes = $3 WHERE line_id = $1 AND version = $2";
    let rows = tx
        .execute(sql, &[&line, &version, &living_tar_bytes])
        .await?;
    Error::expect_one(rows, "version")
}

/// What stands beside a version.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The installation.
    pub installation: Uuid,
    /// Line.
    pub line: Uuid,
    /// Version that resolution does not go below.
    pub floor: i64,
    /// The version that it was compared with, 0 for none.
    pub parent: i64,
    /// How it was made, as stored.
    pub kind: String,
    /// Plan.
    pub plan: String,
    /// Source.
    pub source: String,
    /// Source agent.
    pub agent: String,
    /// Encoded paths of the source.
    pub paths: Vec<u8>,
    /// Whether it stays on one file system.
    pub one_file_system: bool,
    /// When the walk began.
    pub started_at: Timestamp,
    /// When it was published.
    pub published_at: Option<Timestamp>,
    /// Files, directories, apparent bytes, bytes on tape, issues.
    pub counts: [i64; 5],
    /// What was counted before.
    pub needs: Option<Vec<u8>>,
}

/// What stands beside a version.
pub async fn closing_facts_on(
    tx: &Transaction<'_>,
    line: i64,
    version: i64,
) -> Result<Option<Facts>, Error> {
    let sql = "SELECT i.installation_uuid, l.line_uuid, v.floor, v.kind, p.plan_name, s.source_name, g.agent_name, s.paths, \
               s.one_file_system, v.started_at, v.published_at, v.file_count, v.directory_count, v.byte_count, v.stored_byte_count, \
               v.issue_count, v.needs, v.parent \
               FROM versions AS v JOIN lines AS l ON l.id = v.line_id JOIN plans AS p ON p.id = l.plan_id \
               JOIN sources AS s ON s.id = l.source_id JOIN agents AS g ON g.id = s.agent_id CROSS JOIN installation AS i \
               WHERE v.line_id = $1 AND v.version = $2";
    let row = tx.query_opt(sql, &[&line, &version]).await?;
    Ok(row.map(|row| Facts {
        installation: row.get(0),
        line: row.get(1),
        floor: row.get(2),
        parent: row.get(17),
        kind: row.get(3),
        plan: row.get(4),
        source: row.get(5),
        agent: row.get(6),
        paths: row.get(7),
        one_file_system: row.get(8),
        started_at: row.get(9),
        published_at: row.get(10),
        counts: [
            row.get(11),
            row.get(12),
            row.get(13),
            row.get(14),
            row.get(15),
        ],
        needs: row.get(16),
    }))
}

/// A part of a published version.
#[derive(Debug, Clone)]
pub struct ClosedPart {
    /// Ordinal of the archive.
    pub archive_ordinal: i32,
    /// Archive.
    pub archive: Uuid,
    /// From 1.
    pub part_number: i32,
    /// Recording.
    pub recording: Uuid,
    /// Tape file.
    pub tape_file: i64,
    /// Sequence of its last segment.
    pub last_sequence: i64,
}

/// The parts of a published version, by archive and number.
pub async fn closing_parts_on(
    tx: &Transaction<'_>,
    line: i64,
    version: i64,
) -> Result<Vec<ClosedPart>, Error> {
    let sql = "SELECT a.ordinal, a.archive_uuid, x.part_number, x.recording_uuid, x.tape_file, x.last_sequence FROM archives AS a \
               JOIN parts AS x ON x.archive_id = a.id WHERE a.line_id = $1 AND a.version = $2 AND a.state = 'published' \
               ORDER BY a.ordinal, x.part_number";
    let rows = tx.query(sql, &[&line, &version]).await?;
    let part = |row: &tokio_postgres::Row| ClosedPart {
        archive_ordinal: row.get(0),
        archive: row.get(1),
        part_number: row.get(2),
        recording: row.get(3),
        tape_file: row.get(4),
        last_sequence: row.get(5),
    };
    Ok(rows.iter().map(part).collect())
}

/// Barcodes of the volumes that a line's parts were written on, by ordinal of the archive and number.
pub async fn closing_barcodes_on(
    tx: &Transaction<'_>,
    line: i64,
) -> Result<std::collections::HashMap<(i32, i32), String>, Error> {
    let sql = "SELECT a.ordinal, x.part_number, v.barcode FROM archives AS a JOIN parts AS x ON x.archive_id = a.id \
               JOIN volumes AS v ON v.id = x.volume_id WHERE a.line_id = $1";
    let rows = tx.query(sql, &[&line]).await?;
    let barcode = |row: &tokio_postgres::Row| ((row.get(0), row.get(1)), row.get(2));
    Ok(rows.iter().map(barcode).collect())
}

/// The versions right below `version` that have no part: number, when begun, when published.
pub async fn closing_unchanged_on(
    tx: &Transaction<'_>,
    line: i64,
    version: i64,
) -> Result<Vec<(i64, Timestamp, Timestamp)>, Error> {
    let sql = "SELECT v.version, v.started_at, v.published_at FROM versions AS v WHERE v.line_id = $1 AND v.version < $2 \
               AND v.state = 'published' AND v.version > COALESCE((SELECT max(a.version) FROM archives AS a \
               WHERE a.line_id = $1 AND a.version < $2 AND a.state = 'published'), 0) ORDER BY v.version";
    let rows = tx.query(sql, &[&line, &version]).await?;
    Ok(rows
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect())
}

/// Keeps the closing record of a version that is published in this transaction.
pub async fn closing_set_on(
    tx: &Transaction<'_>,
    line: i64,
    version: i64,
    closing: &[u8],
) -> Result<(), Error> {
    let rows = tx
        .execute(
            "UPDATE versions SET closing = $3, needs = NULL WHERE line_id = $1 AND version = $2 AND state = 'published'",
            &[&line, &version, &closing],
        )
        .await?;
    Error::expect_one(rows, "version")
}
