//! What must hold between the catalog's tables, as statements that find what does not; and the repair of what follows from the rest.

use futures::TryStreamExt as _;

use super::conditions::put_in;
use super::{Error, GenericClient, Transaction, reuse};

/// Something that must never be found.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// What it is called.
    pub kind: &'static str,
    /// What is wrong, for people.
    pub says: &'static str,
    /// Gives a name for each place where it is so. May name conditions that statements share.
    pub sql: &'static str,
    /// Puts it right everywhere, if what is right follows from other rows.
    pub repair: Option<&'static str>,
}

/// All of them, cheap ones first.
pub const CHECKS: &[Check] = &[
    Check {
        kind: "HEAD_DIFFERS",
        says: "the newest published version is not the line's head",
        sql: "SELECT 'lines/' || l.id::varchar AS subject FROM lines AS l WHERE l.head <> COALESCE((SELECT max(v.version) \
              FROM versions AS v WHERE v.line_id = l.id AND v.state = 'published'), 0) AND NOT EXISTS (SELECT 1 FROM versions AS w \
              WHERE w.line_id = l.id AND w.version = l.head AND w.incomplete_reason IS NOT NULL)",
        repair: None,
    },
    Check {
        kind: "ARCHIVE_NOT_PUBLISHED",
        says: "the version is published, and an archive of it is not",
        sql: "SELECT 'lines/' || v.line_id::varchar || '/versions/' || v.version::varchar || ', archive ' || a.ordinal::varchar AS subject \
              FROM versions AS v JOIN archives AS a ON a.line_id = v.line_id AND a.version = v.version \
              WHERE v.state = 'published' AND a.state IN ('staged', 'closed')",
        repair: Some(
            "UPDATE archives SET state = CASE WHEN EXISTS (SELECT 1 FROM parts AS x JOIN version_parts AS n ON n.part_id = x.id \
             WHERE x.archive_id = archives.id) THEN 'published' ELSE 'abandoned' END WHERE state IN ('staged', 'closed') \
             AND EXISTS (SELECT 1 FROM versions AS v WHERE v.line_id = archives.line_id AND v.version = archives.version \
             AND v.state = 'published')",
        ),
    },
    Check {
        kind: "PART_MISSING",
        says: "parts of the archive are missing in between",
        sql: "SELECT 'lines/' || a.line_id::varchar || ', archive ' || a.ordinal::varchar || ', before part ' || x.part_number::varchar \
              AS subject FROM parts AS x JOIN archives AS a ON a.id = x.archive_id WHERE a.state = 'published' AND x.part_number > 1 \
              AND NOT EXISTS (SELECT 1 FROM parts AS y WHERE y.archive_id = x.archive_id AND y.part_number = x.part_number - 1) \
              AND NOT EXISTS (SELECT 1 FROM versions AS w WHERE w.line_id = a.line_id AND w.version = a.version \
              AND w.incomplete_reason IS NOT NULL)",
        repair: None,
    },
    Check {
        kind: "PARTS_NOT_CONTIGUOUS",
        says: "the part does not begin where the one before it ends",
        sql: "SELECT 'lines/' || a.line_id::varchar || ', archive ' || a.ordinal::varchar || ', part ' || y.part_number::varchar AS subject \
              FROM parts AS x JOIN parts AS y ON y.archive_id = x.archive_id AND y.part_number = x.part_number + 1 \
              JOIN archives AS a ON a.id = x.archive_id WHERE a.state = 'published' \
              AND (y.first_sequence <> x.last_sequence + 1 OR y.first_tar_offset <> x.end_tar_offset)",
        repair: None,
    },
    Check {
        kind: "PART_ON_OTHER_VOLUME",
        says: "the part names one volume, and its recording is that of another",
        sql: "SELECT 'volumes/' || v.barcode || ', tape file ' || x.tape_file::varchar AS subject FROM parts AS x \
              JOIN volumes AS v ON v.recording_uuid = x.recording_uuid WHERE x.volume_id <> v.id",
        repair: None,
    },
    Check {
        kind: "PART_BEYOND_END",
        says: "the part lies behind what the catalog takes for the volume's end: the next append would be refused",
        sql: "SELECT 'volumes/' || v.barcode || ', tape file ' || x.tape_file::varchar AS subject FROM parts AS x \
              JOIN volumes AS v ON v.recording_uuid = x.recording_uuid \
              WHERE x.tape_file >= v.next_tape_file OR x.first_block + x.block_count > v.next_block",
        repair: None,
    },
    Check {
        kind: "TAPE_FILE_TWICE",
        says: "the tape file is a part or an index, and something else as well",
        sql: "SELECT 'volumes/' || v.barcode || ', tape file ' || f.tape_file::varchar AS subject FROM \
              (SELECT recording_uuid, tape_file FROM parts UNION ALL SELECT recording_uuid, tape_file FROM orphans \
               UNION ALL SELECT recording_uuid, tape_file FROM volume_indexes) AS f \
              JOIN volumes AS v ON v.recording_uuid = f.recording_uuid GROUP BY v.barcode, f.tape_file HAVING count(*) > 1",
        repair: None,
    },
    Check {
        kind: "INDEX_OF_OTHER_RECORDING",
        says: "the volume index that is to have the part's records does not exist on a recording of the catalog",
        sql: "SELECT 'volumes/' || v.barcode || ', tape file ' || x.tape_file::varchar AS subject FROM parts AS x \
              JOIN volumes AS v ON v.recording_uuid = x.recording_uuid JOIN volume_indexes AS i ON i.id = x.covered_by \
              WHERE NOT EXISTS (SELECT 1 FROM volumes AS w WHERE w.recording_uuid = i.recording_uuid)",
        repair: Some(
            "UPDATE parts SET covered_by = NULL WHERE covered_by IS NOT NULL AND NOT EXISTS (SELECT 1 FROM volume_indexes AS i \
             JOIN volumes AS w ON w.recording_uuid = i.recording_uuid WHERE i.id = parts.covered_by)",
        ),
    },
    Check {
        kind: "VOLUME_BYTES_DIFFER",
        says: "the volume's bytes are not those of the parts and indexes on it",
        sql: "SELECT 'volumes/' || v.barcode AS subject FROM volumes AS v WHERE v.state NOT IN ('labelling', 'unlabelled') \
              AND v.byte_count <> COALESCE((SELECT sum(x.byte_count) FROM parts AS x WHERE x.recording_uuid = v.recording_uuid), 0) \
              + COALESCE((SELECT sum(i.byte_count) FROM volume_indexes AS i WHERE i.recording_uuid = v.recording_uuid), 0)",
        repair: Some(
            "UPDATE volumes SET byte_count = (COALESCE((SELECT sum(x.byte_count) FROM parts AS x \
             WHERE x.recording_uuid = volumes.recording_uuid), 0) + COALESCE((SELECT sum(i.byte_count) FROM volume_indexes AS i \
             WHERE i.recording_uuid = volumes.recording_uuid), 0))::bigint WHERE state NOT IN ('labelling', 'unlabelled')",
        ),
    },
    Check {
        kind: "FREE_VOLUME_NEEDED",
        says: "the volume is taken for one on which nothing is needed, and something is",
        sql: "SELECT 'volumes/' || v.barcode AS subject FROM volumes AS v WHERE v.freed_at IS NOT NULL AND EXISTS \
              (SELECT 1 FROM parts AS x JOIN archives AS a ON a.id = x.archive_id WHERE x.recording_uuid = v.recording_uuid \
               AND {LIVING})",
        repair: Some(
            "UPDATE volumes SET freed_at = NULL WHERE freed_at IS NOT NULL AND EXISTS \
             (SELECT 1 FROM parts AS x JOIN archives AS a ON a.id = x.archive_id WHERE x.recording_uuid = volumes.recording_uuid \
              AND {LIVING})",
        ),
    },
    Check {
        kind: "PART_GONE",
        says: "a kept version needs a part whose recording is on no volume any more, and is not known to be lost",
        sql: "SELECT 'lines/' || v.line_id::varchar || '/versions/' || v.version::varchar AS subject FROM versions AS v \
              WHERE v.state = 'published' AND v.expired_at IS NULL AND v.lost_reason IS NULL AND EXISTS (SELECT 1 FROM version_parts AS n \
              JOIN parts AS x ON x.id = n.part_id WHERE n.line_id = v.line_id AND n.version = v.version AND NOT EXISTS \
              (SELECT 1 FROM volumes AS w WHERE w.recording_uuid = x.recording_uuid AND w.state <> 'unlabelled'))",
        repair: Some(
            "UPDATE versions SET lost_reason = 'the catalog was checked, and a recording that it needs is on no volume any more' \
             WHERE state = 'published' AND expired_at IS NULL AND lost_reason IS NULL AND EXISTS (SELECT 1 FROM version_parts AS n \
             JOIN parts AS x ON x.id = n.part_id WHERE n.line_id = versions.line_id AND n.version = versions.version AND NOT EXISTS \
             (SELECT 1 FROM volumes AS w WHERE w.recording_uuid = x.recording_uuid AND w.state <> 'unlabelled'))",
        ),
    },
    Check {
        kind: "RELEASED_VERSION_NEEDS",
        says: "the version's parts are released, and it still holds some",
        sql: "SELECT DISTINCT 'lines/' || n.line_id::varchar || '/versions/' || n.version::varchar AS subject FROM version_parts AS n \
              JOIN versions AS v ON v.line_id = n.line_id AND v.version = n.version WHERE v.pages_gone",
        repair: Some(
            "DELETE FROM version_parts WHERE EXISTS (SELECT 1 FROM versions AS v WHERE v.line_id = version_parts.line_id \
             AND v.version = version_parts.version AND v.pages_gone)",
        ),
    },
    Check {
        kind: "ROW_WITHOUT_VERSION",
        says: "there are listings of a version that does not exist",
        sql: "SELECT 'lines/' || p.line_id::varchar || '/versions/' || p.version::varchar AS subject FROM \
              (SELECT DISTINCT line_id, version, archive_ordinal FROM pages) AS p WHERE NOT EXISTS \
              (SELECT 1 FROM versions AS v WHERE v.line_id = p.line_id AND v.version = p.version) AND NOT EXISTS \
              (SELECT 1 FROM archives AS a WHERE a.line_id = p.line_id AND a.ordinal = p.archive_ordinal AND a.state <> 'abandoned')",
        repair: Some(
            "DELETE FROM pages WHERE NOT EXISTS (SELECT 1 FROM versions AS v WHERE v.line_id = pages.line_id \
             AND v.version = pages.version) AND NOT EXISTS (SELECT 1 FROM archives AS a WHERE a.line_id = pages.line_id \
             AND a.ordinal = pages.archive_ordinal AND a.state <> 'abandoned')",
        ),
    },
    Check {
        kind: "ROW_WITHOUT_PART",
        says: "there are listings that came with a part which the catalog does not have",
        sql: "SELECT 'lines/' || p.line_id::varchar || '/versions/' || p.version::varchar || ', archive ' || p.archive_ordinal::varchar \
              || ', part ' || p.part_number::varchar AS subject FROM \
              (SELECT DISTINCT line_id, version, archive_ordinal, part_number FROM pages) AS p WHERE NOT EXISTS \
              (SELECT 1 FROM archives AS a JOIN parts AS x ON x.archive_id = a.id WHERE a.line_id = p.line_id \
               AND a.ordinal = p.archive_ordinal AND x.part_number = p.part_number)",
        repair: None,
    },
    Check {
        kind: "ROW_ASIDE_WITHOUT_PART",
        says: "there are listings that no closing record claims, and the part that they came with is not in the catalog, or is known to be of no version",
        sql: "SELECT 'lines/' || p.line_id::varchar || ', archive ' || p.archive_ordinal::varchar || ', part ' || p.part_number::varchar \
              AS subject FROM (SELECT DISTINCT line_id, archive_ordinal, part_number FROM pages_unclaimed) AS p WHERE NOT EXISTS \
              (SELECT 1 FROM archives AS a JOIN parts AS x ON x.archive_id = a.id WHERE a.line_id = p.line_id \
               AND a.ordinal = p.archive_ordinal AND x.part_number = p.part_number AND a.state <> 'abandoned')",
        repair: Some(
            "DELETE FROM pages_unclaimed WHERE NOT EXISTS (SELECT 1 FROM archives AS a JOIN parts AS x ON x.archive_id = a.id \
             WHERE a.line_id = pages_unclaimed.line_id AND a.ordinal = pages_unclaimed.archive_ordinal \
             AND x.part_number = pages_unclaimed.part_number AND a.state <> 'abandoned')",
        ),
    },
];

/// Most places that are named of one check.
const NAMED: usize = 10;

/// How often a check finds something, and some of the places.
pub async fn check_run(
    client: &impl GenericClient,
    check: &Check,
) -> Result<(u64, Vec<String>), Error> {
    let none: [&str; 0] = [];
    let mut rows = std::pin::pin!(client.query_raw(&put_in(check.sql), none).await?);
    let (mut count, mut named) = (0, Vec::new());
    while let Some(row) = rows.try_next().await? {
        count += 1;
        if named.len() < NAMED {
            named.push(row.get(0));
        }
    }
    Ok((count, named))
}

/// Puts right what a check finds. Gives how many rows that changed.
pub async fn check_repair_on(tx: &Transaction<'_>, repair: &str) -> Result<u64, Error> {
    Ok(tx.execute(&put_in(repair), &[]).await?)
}

/// A line to check.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    /// Row.
    pub id: i64,
    /// Whether rows of it are on their way out.
    pub going: bool,
}

/// All lines.
pub async fn line_list_checked(client: &impl GenericClient) -> Result<Vec<Line>, Error> {
    let sql = "SELECT l.id, EXISTS (SELECT 1 FROM versions AS v WHERE v.line_id = l.id AND v.expired_at IS NOT NULL \
               AND v.vacuumed_at IS NULL) FROM lines AS l ORDER BY l.id";
    let rows = client.query(sql, &[]).await?;
    let line = |row: &tokio_postgres::Row| Line {
        id: row.get(0),
        going: row.get(1),
    };
    Ok(rows.iter().map(line).collect())
}

/// A row of a listing, with its body.
#[derive(Debug, Clone)]
pub struct Row {
    /// Key.
    pub chunk: Vec<u8>,
    /// Version that wrote it.
    pub version: i64,
    /// Archive and part that it came with.
    pub part: (i32, i32),
    /// Page and hashes; none for a tombstone.
    pub body: Option<(Vec<u8>, Vec<u8>)>,
}

/// Rows of a line behind one, by key, of each key the newest first.
pub async fn page_list_checked(
    client: &impl GenericClient,
    line: i64,
    behind: Option<(&[u8], i64)>,
    limit: i64,
) -> Result<Vec<Row>, Error> {
    let sql = client
        .prepare_cached(
            "SELECT chunk, version, archive_ordinal, part_number, body, hashes FROM pages WHERE line_id = $1 AND chunk >= $2 \
             AND NOT (chunk = $2 AND version >= $3) ORDER BY chunk, version DESC LIMIT $4::bigint",
        )
        .await?;
    let (chunk, version) = behind.unwrap_or((&[], i64::MAX));
    let rows = client
        .query(&sql, &[&line, &chunk, &version, &limit])
        .await?;
    let row = |row: &tokio_postgres::Row| Row {
        chunk: row.get(0),
        version: row.get(1),
        part: (row.get(2), row.get(3)),
        body: row
            .get::<_, Option<Vec<u8>>>(4)
            .map(|body| (body, row.get::<_, Option<Vec<u8>>>(5).unwrap_or_default())),
    };
    Ok(rows.iter().map(row).collect())
}

/// A published version whose rows are there, as the catalog has it.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// Its number.
    pub version: i64,
    /// The version that it does not resolve below.
    pub floor: i64,
    /// Its closing record.
    pub closing: Option<Vec<u8>>,
    /// Whether it came back by a rebuild: then it may have none, if it had nothing of its own.
    pub rebuilt: bool,
}

/// The published versions of a line whose rows and parts must be there.
pub async fn version_list_claimed(
    client: &impl GenericClient,
    line: i64,
) -> Result<Vec<Claimed>, Error> {
    let sql = "SELECT version, floor, closing, rebuilt_at IS NOT NULL FROM versions WHERE line_id = $1 AND state = 'published' AND NOT pages_gone \
               ORDER BY version";
    let rows = client.query(sql, &[&line]).await?;
    let claimed = |row: &tokio_postgres::Row| Claimed {
        version: row.get(0),
        floor: row.get(1),
        closing: row.get(2),
        rebuilt: row.get(3),
    };
    Ok(rows.iter().map(claimed).collect())
}

/// The parts that a version is noted to need: version, archive and part of each.
pub async fn version_parts_noted(
    client: &impl GenericClient,
    line: i64,
    version: i64,
) -> Result<Vec<(i64, i32, i32)>, Error> {
    let sql = "SELECT a.version, a.ordinal, x.part_number FROM version_parts AS n JOIN parts AS x ON x.id = n.part_id \
               JOIN archives AS a ON a.id = x.archive_id WHERE n.line_id = $1 AND n.version = $2 ORDER BY a.version, a.ordinal, x.part_number";
    let rows = client.query(sql, &[&line, &version]).await?;
    Ok(rows
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect())
}

/// Notes that a published version needs a part, if its parts are not released.
pub async fn version_parts_note_on(
    tx: &Transaction<'_>,
    line: i64,
    version: i64,
    part: (i32, i32),
) -> Result<u64, Error> {
    reuse::part_volumes_stay_on(tx, line, &[part]).await?;
    let sql = "INSERT INTO version_parts (line_id, version, part_id) SELECT v.line_id, v.version, x.id FROM versions AS v \
               JOIN archives AS a ON a.line_id = v.line_id JOIN parts AS x ON x.archive_id = a.id \
               WHERE v.line_id = $1 AND v.version = $2 AND v.state = 'published' AND NOT v.pages_gone AND a.ordinal = $3 \
               AND x.part_number = $4 AND NOT EXISTS (SELECT 1 FROM version_parts AS n WHERE n.line_id = v.line_id \
               AND n.version = v.version AND n.part_id = x.id)";
    let rows = tx
        .execute(sql, &[&line, &version, &part.0, &part.1])
        .await?;
    Ok(rows)
}

/// Keeps another closing record of a published version, if it still has the one that was read.
pub async fn closing_replace_on(
    tx: &Transaction<'_>,
    (line, version): (i64, i64),
    before: &[u8],
    closing: &[u8],
) -> Result<u64, Error> {
    let sql = "UPDATE versions SET closing = $4 WHERE line_id = $1 AND version = $2 AND state = 'published' AND NOT pages_gone \
               AND closing = $3";
    Ok(tx
        .execute(sql, &[&line, &version, &before, &closing])
        .await?)
}
