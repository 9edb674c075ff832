//! Volume indexes: which tape files they are, which parts and closing records they have, and which volumes are due for one.

use uuid::Uuid;

use super::orphans::Extent;
use super::{Error, GenericClient, Transaction};

/// A recording that an index tells of.
#[derive(Debug, Clone)]
pub struct Indexed {
    /// Volume.
    pub volume_id: i64,
    /// Its cartridge.
    pub volume_uuid: Uuid,
    /// Recording.
    pub recording: Uuid,
    /// Barcode.
    pub barcode: String,
}

fn indexed(row: &tokio_postgres::Row) -> Indexed {
    Indexed {
        volume_id: row.get(0),
        volume_uuid: row.get(1),
        recording: row.get(2),
        barcode: row.get(3),
    }
}

/// The recording itself, then full ones of its pool whose own end had no room.
pub async fn index_recordings(
    client: &impl GenericClient,
    recording: Uuid,
) -> Result<Vec<Indexed>, Error> {
    let sql = "SELECT v.id, v.volume_uuid, v.recording_uuid, v.barcode FROM volumes AS v JOIN volumes AS own ON own.pool_id = v.pool_id \
               WHERE own.recording_uuid = $1 AND (v.id = own.id OR v.index_omitted) ORDER BY v.id <> own.id, v.barcode";
    let rows = client.query(sql, &[&recording]).await?;
    Ok(rows.iter().map(indexed).collect())
}

/// Where an index is.
#[derive(Debug, Clone, Copy)]
pub struct Pointer {
    /// Tape file.
    pub tape_file: i64,
    /// Its first logical block.
    pub first_block: i64,
}

/// The indexes of a recording, in order.
pub async fn index_list(
    client: &impl GenericClient,
    recording: Uuid,
) -> Result<Vec<Pointer>, Error> {
    let sql = "SELECT tape_file, first_block FROM volume_indexes WHERE recording_uuid = $1 ORDER BY tape_file";
    let rows = client.query(sql, &[&recording]).await?;
    let pointer = |row: &tokio_postgres::Row| Pointer {
        tape_file: row.get(0),
        first_block: row.get(1),
    };
    Ok(rows.iter().map(pointer).collect())
}

/// A committed part that no index covers.
#[derive(Debug, Clone)]
pub struct Uncovered {
    /// Archive.
    pub archive: Uuid,
    /// Line.
    pub line: Uuid,
    /// Version.
    pub version: i64,
    /// Ordinal of the archive.
    pub ordinal: i32,
    /// Attempt that wrote it.
    pub attempt: i64,
    /// From 1.
    pub part_number: i32,
    /// Tape file.
    pub tape_file: i64,
    /// Logical block of block 0.
    pub first_block: i64,
    /// Blocks.
    pub block_count: i64,
    /// Bytes.
    pub byte_count: i64,
    /// Sequences of the first and the last segment.
    pub sequences: (i64, i64),
    /// Tar offsets of the first byte and behind the last.
    pub tar_offsets: (i64, i64),
    /// Whether the archive ends here.
    pub final_part: bool,
    /// Whether an error cut it off.
    pub truncated: bool,
    /// BLAKE3 of records and segment table.
    pub digest: Vec<u8>,
    /// Plan's name.
    pub plan: String,
    /// Source's name.
    pub source: String,
    /// How often it was copied.
    pub copy: i32,
}

/// The parts of a recording that no index covers, in order, behind a tape file.
pub async fn index_parts(
    client: &impl GenericClient,
    recording: Uuid,
    behind: i64,
    limit: i64,
) -> Result<Vec<Uncovered>, Error> {
    let sql = "SELECT a.archive_uuid, l.line_uuid, a.version, a.ordinal, a.attempt_id, x.part_number, x.tape_file, x.first_block, \
               x.block_count, x.byte_count, x.first_sequence, x.last_sequence, x.first_tar_offset, x.end_tar_offset, x.final_part, \
               x.truncated, x.digest, p.plan_name, s.source_name, x.copy_number \
               FROM parts AS x JOIN archives AS a ON a.id = x.archive_id JOIN lines AS l ON l.id = a.line_id \
               JOIN plans AS p ON p.id = l.plan_id JOIN sources AS s ON s.id = l.source_id \
               WHERE x.recording_uuid = $1 AND x.covered_by IS NULL AND x.tape_file > $2 ORDER BY x.tape_file LIMIT $3::bigint";
    let rows = client.query(sql, &[&recording, &behind, &limit]).await?;
    let uncovered = |row: &tokio_postgres::Row| Uncovered {
        archive: row.get(0),
        line: row.get(1),
        version: row.get(2),
        ordinal: row.get(3),
        attempt: row.get(4),
        part_number: row.get(5),
        tape_file: row.get(6),
        first_block: row.get(7),
        block_count: row.get(8),
        byte_count: row.get(9),
        sequences: (row.get(10), row.get(11)),
        tar_offsets: (row.get(12), row.get(13)),
        final_part: row.get(14),
        truncated: row.get(15),
        digest: row.get(16),
        plan: row.get(17),
        source: row.get(18),
        copy: row.get(19),
    };
    Ok(rows.iter().map(uncovered).collect())
}

/// A tape file that nobody owns.
#[derive(Debug, Clone)]
pub struct Orphan {
    /// Tape file.
    pub tape_file: i64,
    /// Its first logical block.
    pub first_block: i64,
    /// Logical block behind its filemark.
    pub next_block: i64,
    /// Why nobody owns it.
    pub reason: String,
}

/// The orphans of a recording behind a tape file.
pub async fn index_orphans(
    client: &impl GenericClient,
    recording: Uuid,
    behind: i64,
) -> Result<Vec<Orphan>, Error> {
    let sql = "SELECT tape_file, first_block, next_block, reason FROM orphans WHERE recording_uuid = $1 AND tape_file > $2 \
               ORDER BY tape_file";
    let rows = client.query(sql, &[&recording, &behind]).await?;
    let orphan = |row: &tokio_postgres::Row| Orphan {
        tape_file: row.get(0),
        first_block: row.get(1),
        next_block: row.get(2),
        reason: row.get(3),
    };
    Ok(rows.iter().map(orphan).collect())
}

/// Versions with something on the recording `$1`, or without any part on a line that has, whose closing record is not on it: published
/// ones, and those that came back and are not whole, whose record may be nowhere else.
const PENDING: &str = "FROM versions AS v JOIN lines AS l ON l.id = v.line_id JOIN plans AS p ON p.id = l.plan_id \
     WHERE (v.state = 'published' OR v.incomplete_reason IS NOT NULL) AND v.closing IS NOT NULL \
     AND v.line_id IN (SELECT a.line_id FROM parts AS x JOIN archives AS a ON a.id = x.archive_id WHERE x.recording_uuid = $1) \
     AND NOT EXISTS (SELECT 1 FROM closings AS c WHERE c.line_id = v.line_id AND c.version = v.version AND c.recording_uuid = $1) \
     AND (EXISTS (SELECT 1 FROM archives AS a JOIN parts AS x ON x.archive_id = a.id WHERE a.line_id = v.line_id \
                  AND a.version = v.version AND (a.state = 'published' OR a.state = 'closed' AND v.incomplete_reason IS NOT NULL) \
                  AND x.recording_uuid = $1) \
          OR NOT EXISTS (SELECT 1 FROM archives AS a WHERE a.line_id = v.line_id AND a.version = v.version \
                  AND (a.state = 'published' OR a.state = 'closed' AND v.incomplete_reason IS NOT NULL)))";

/// A closing record that is not on a recording.
#[derive(Debug, Clone)]
pub struct Closing {
    /// Line's row.
    pub line_id: i64,
    /// Line.
    pub line: Uuid,
    /// Version.
    pub version: i64,
    /// Encoded.
    pub record: Vec<u8>,
    /// Plan's name.
    pub plan: String,
}

/// Closing records that are not on a recording, behind a line and version.
pub async fn index_closings(
    client: &impl GenericClient,
    recording: Uuid,
    behind: (i64, i64),
    limit: i64,
) -> Result<Vec<Closing>, Error> {
    let sql = format!(
        "SELECT v.line_id, l.line_uuid, v.version, v.closing, p.plan_name {PENDING} \
         AND (v.line_id > $2 OR v.line_id = $2 AND v.version > $3) ORDER BY v.line_id, v.version LIMIT $4::bigint"
    );
    let rows = client
        .query(&sql, &[&recording, &behind.0, &behind.1, &limit])
        .await?;
    let closing = |row: &tokio_postgres::Row| Closing {
        line_id: row.get(0),
        line: row.get(1),
        version: row.get(2),
        record: row.get(3),
        plan: row.get(4),
    };
    Ok(rows.iter().map(closing).collect())
}

/// An index, if it is committed: its recording and tape file.
pub async fn index_get(
    client: &impl GenericClient,
    index: Uuid,
) -> Result<Option<(Uuid, i64)>, Error> {
    let sql = "SELECT recording_uuid, tape_file FROM volume_indexes WHERE index_uuid = $1";
    let row = client.query_opt(sql, &[&index]).await?;
    Ok(row.map(|row| (row.get(0), row.get(1))))
}

/// Row of the newest index on a recording; none if it has none.
pub async fn index_newest_on(tx: &Transaction<'_>, recording: Uuid) -> Result<Option<i64>, Error> {
    let sql =
        "SELECT id FROM volume_indexes WHERE recording_uuid = $1 ORDER BY tape_file DESC LIMIT 1";
    let row = tx.query_opt(sql, &[&recording]).await?;
    Ok(row.map(|row| row.get(0)))
}

/// Adds an index and gives its row. [`Error::Exists`] if its tape file is taken.
pub async fn index_add_on(
    tx: &Transaction<'_>,
    index: Uuid,
    volume: i64,
    extent: &Extent,
    block_count: i64,
) -> Result<i64, Error> {
    let row = tx
        .query_one(
            "INSERT INTO volume_indexes (index_uuid, volume_id, recording_uuid, tape_file, first_block, block_count, byte_count, written_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, clock_timestamp()) RETURNING id",
            &[&index, &volume, &extent.recording, &extent.tape_file, &extent.first_block, &block_count, &extent.byte_count],
        )
        .await?;
    Ok(row.get(0))
}

/// Says which parts of a recording an index covers, and which it only lists.
pub async fn index_parts_mark_on(
    tx: &Transaction<'_>,
    index: i64,
    recording: Uuid,
    tape_files: &[i64],
    covered: bool,
) -> Result<(), Error> {
    let column = if covered { "covered_by" } else { "listed_by" };
    let sql = format!(
        "UPDATE parts SET {column} = $1 WHERE recording_uuid = $2 AND tape_file = ANY($3::bigint[]) AND covered_by IS NULL"
    );
    tx.execute(&sql, &[&index, &recording, &tape_files]).await?;
    Ok(())
}

/// Says that the closing record of a version is on a recording.
pub async fn index_closing_mark_on(
    tx: &Transaction<'_>,
    index: i64,
    recording: Uuid,
    line: Uuid,
    version: i64,
) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO closings (line_id, version, recording_uuid, index_id) \
         SELECT l.id, $3::bigint, $2::uuid, $1::bigint FROM lines AS l WHERE l.line_uuid = $4::uuid \
         AND NOT EXISTS (SELECT 1 FROM closings AS c WHERE c.line_id = l.id AND c.version = $3::bigint AND c.recording_uuid = $2::uuid)",
        &[&index, &recording, &version, &line],
    )
    .await?;
    Ok(())
}

/// A recording is given up, and its indexes with it: what only they told of other recordings the next index of the pool tells again.
pub async fn index_forget_on(tx: &Transaction<'_>, recording: Uuid) -> Result<(), Error> {
    for sql in [
        "UPDATE volumes SET index_omitted = true WHERE recording_uuid <> $1 AND recording_uuid IN (SELECT x.recording_uuid FROM parts AS x \
         JOIN volume_indexes AS i ON i.id = x.covered_by WHERE i.recording_uuid = $1 UNION SELECT x.recording_uuid FROM parts AS x \
         JOIN volume_indexes AS i ON i.id = x.listed_by WHERE i.recording_uuid = $1 UNION SELECT c.recording_uuid FROM closings AS c \
         JOIN volume_indexes AS i ON i.id = c.index_id WHERE i.recording_uuid = $1)",
        "UPDATE parts SET covered_by = NULL WHERE recording_uuid <> $1 \
         AND covered_by IN (SELECT i.id FROM volume_indexes AS i WHERE i.recording_uuid = $1)",
        "UPDATE parts SET listed_by = NULL WHERE recording_uuid <> $1 \
         AND listed_by IN (SELECT i.id FROM volume_indexes AS i WHERE i.recording_uuid = $1)",
        "DELETE FROM closings WHERE index_id IN (SELECT i.id FROM volume_indexes AS i WHERE i.recording_uuid = $1)",
    ] {
        tx.execute(sql, &[&recording]).await?;
    }
    Ok(())
}

/// Something came that no index tells of: the recording is due, however often it was tried before.
pub async fn index_due_on(tx: &Transaction<'_>, recording: Uuid) -> Result<(), Error> {
    tx.execute(
        "UPDATE volumes SET index_due = true, index_tries = 0 WHERE recording_uuid = $1",
        &[&recording],
    )
    .await?;
    Ok(())
}

/// A version was published: the recordings of the line's newest parts are due.
pub async fn index_due_of_version_on(
    tx: &Transaction<'_>,
    line: i64,
    version: i64,
) -> Result<(), Error> {
    tx.execute(
        "UPDATE volumes SET index_due = true, index_tries = 0 WHERE recording_uuid IN \
         (SELECT x.recording_uuid FROM archives AS a JOIN parts AS x ON x.archive_id = a.id \
          WHERE a.line_id = $1 AND a.state = 'published' AND a.version = \
          (SELECT max(n.version) FROM archives AS n WHERE n.line_id = $1 AND n.state = 'published' AND n.version <= $2))",
        &[&line, &version],
    )
    .await?;
    Ok(())
}

/// More is known of a version that came back: the recordings with parts of it are due, as far as its closing record is not on them.
pub async fn index_due_of_rebuilt_on(
    tx: &Transaction<'_>,
    line: i64,
    version: i64,
) -> Result<(), Error> {
    tx.execute(
        "UPDATE volumes SET index_due = true, index_tries = 0 WHERE NOT index_due AND recording_uuid IN \
         (SELECT x.recording_uuid FROM archives AS a JOIN parts AS x ON x.archive_id = a.id \
          WHERE a.line_id = $1 AND a.version = $2 AND a.state IN ('published', 'closed')) \
         AND NOT EXISTS (SELECT 1 FROM closings AS c WHERE c.line_id = $1 AND c.version = $2 AND c.recording_uuid = volumes.recording_uuid)",
        &[&line, &version],
    )
    .await?;
    Ok(())
}

/// Whether a recording is still due, after an index of it.
pub async fn index_settle_on(tx: &Transaction<'_>, recording: Uuid) -> Result<(), Error> {
    let sql = format!(
        "UPDATE volumes SET index_omitted = index_omitted AND EXISTS (SELECT 1 FROM parts AS x \
         WHERE x.recording_uuid = $1 AND x.covered_by IS NULL AND x.listed_by IS NULL), index_due = \
         (EXISTS (SELECT 1 FROM parts AS x WHERE x.recording_uuid = $1 AND x.covered_by IS NULL AND x.listed_by IS NULL) \
          OR EXISTS (SELECT 1 {PENDING})) WHERE recording_uuid = $1"
    );
    tx.execute(&sql, &[&recording]).await?;
    Ok(())
}

/// The job of an index has ended. One that leaves the volume due, for whatever reason, is tried again, but not for ever.
pub async fn index_tried_on(tx: &Transaction<'_>, volume: i64) -> Result<(), Error> {
    let sql = "SELECT recording_uuid FROM volumes WHERE id = $1";
    if let Some(row) = tx.query_opt(sql, &[&volume]).await? {
        index_settle_on(tx, row.get(0)).await?;
    }
    let sql = "UPDATE volumes SET index_tries = index_tries + 1 WHERE id = $1 AND index_due";
    tx.execute(sql, &[&volume]).await?;
    Ok(())
}

/// Nothing more can be written on a recording, not even its index: another volume of the pool is to tell of it.
pub async fn index_omit_on(tx: &Transaction<'_>, recording: Uuid) -> Result<(), Error> {
    tx.execute(
        "UPDATE volumes SET index_due = false, index_tries = 0, index_omitted = true WHERE recording_uuid = $1",
        &[&recording],
    )
    .await?;
    Ok(())
}

/// A volume in a free drive that is due for an index.
#[derive(Debug, Clone)]
pub struct Due {
    /// Volume.
    pub volume_id: i64,
    /// Its barcode.
    pub barcode: String,
    /// Its pool.
    pub pool_id: i64,
    /// Whether it may be appended to.
    pub appendable: bool,
    /// Drive.
    pub drive_id: i64,
    /// Seconds since the drive last worked.
    pub idle_seconds: f64,
}

/// After so many failures an index waits until there is more to tell.
const TRIES_MAX: i32 = 3;

/// Volumes that are due for an index, in drives that are free and whose library is connected.
pub async fn index_list_due_on(tx: &Transaction<'_>) -> Result<Vec<Due>, Error> {
    let rows = tx
        .query(
            "SELECT v.id, v.barcode, v.pool_id, v.state = 'appendable', d.id, \
             COALESCE(extract(epoch FROM clock_timestamp() - \
               (SELECT max(t.ended_at) FROM attempts AS t WHERE t.drive_id = d.id))::float8, 1e9::float8) \
             FROM volumes AS v JOIN elements AS e ON e.barcode = v.barcode AND e.occupied AND e.kind = 'drive' \
             JOIN libraries AS l ON l.id = e.library_id JOIN drives AS d ON d.serial = e.drive_serial \
             WHERE v.index_due AND v.index_tries < $1 AND v.state IN ('appendable', 'full') AND v.suspect_since IS NULL AND l.connected AND d.connected \
             AND NOT EXISTS (SELECT 1 FROM attempt_volumes AS a WHERE a.cartridge = v.barcode AND a.held) \
             AND NOT EXISTS (SELECT 1 FROM attempts AS t WHERE t.drive_id = d.id AND t.ended_at IS NULL) \
             AND NOT EXISTS (SELECT 1 FROM jobs AS j WHERE j.volume_id = v.id AND j.kind = 'index' AND j.ended_at IS NULL) \
             ORDER BY v.id",
            &[&TRIES_MAX],
        )
        .await?;
    let due = |row: &tokio_postgres::Row| Due {
        volume_id: row.get(0),
        barcode: row.get(1),
        pool_id: row.get(2),
        appendable: row.get(3),
        drive_id: row.get(4),
        idle_seconds: row.get(5),
    };
    Ok(rows.iter().map(due).collect())
}
