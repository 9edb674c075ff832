//! Removing what was archived: what is asked for, and what is known of the parts that it depends on. And removing what is extra at the
//! target of a restore.

use super::{Error, GenericClient, Transaction};

/// A part that a version needs, and whether it was proved.
#[derive(Debug, Clone)]
pub struct Proved {
    /// Ordinal of its archive.
    pub archive_ordinal: u32,
    /// Tar offsets of its first byte and behind its last.
    pub tar_offsets: (u64, u64),
    /// Volume.
    pub volume_id: i64,
    /// Its barcode.
    pub barcode: String,
    /// Whether it was read back, as long as its recording is still on the volume.
    pub verified: bool,
    /// Whether it was damaged then.
    pub damaged: bool,
}

/// The parts that a published version needs, by archive and number.
pub async fn version_proofs(
    client: &impl GenericClient,
    line: i64,
    version: i64,
) -> Result<Vec<Proved>, Error> {
    let sql = "SELECT a.ordinal, x.first_tar_offset, x.end_tar_offset, x.volume_id, v.barcode, \
               x.verified_at IS NOT NULL AND v.recording_uuid = x.recording_uuid AND v.state <> 'quarantined', x.damage IS NOT NULL \
               FROM version_parts AS n JOIN parts AS x ON x.id = n.part_id JOIN archives AS a ON a.id = x.archive_id \
               JOIN volumes AS v ON v.id = x.volume_id WHERE n.line_id = $1 AND n.version = $2 ORDER BY a.ordinal, x.part_number";
    let rows = client.query(sql, &[&line, &version]).await?;
    let proved = |row: &tokio_postgres::Row| Proved {
        archive_ordinal: row.get::<_, i32>(0) as u32,
        tar_offsets: (row.get::<_, i64>(1) as u64, row.get::<_, i64>(2) as u64),
        volume_id: row.get(3),
        barcode: row.get(4),
        verified: row.get(5),
        damaged: row.get(6),
    };
    Ok(rows.iter().map(proved).collect())
}

/// Other archives of the same source, the newest first: line and number.
pub async fn archive_list_others(
    client: &impl GenericClient,
    line: i64,
    version: i64,
    limit: i64,
) -> Result<Vec<(i64, i64)>, Error> {
    let sql = "SELECT v.line_id, v.version FROM versions AS v JOIN lines AS l ON l.id = v.line_id \
               WHERE l.archives AND l.source_id = (SELECT o.source_id FROM lines AS o WHERE o.id = $1) AND v.state = 'published' \
               AND v.version <= l.head AND v.expired_at IS NULL AND v.lost_reason IS NULL \
               AND NOT (v.line_id = $1 AND v.version = $2) ORDER BY v.published_at DESC, v.line_id LIMIT $3::bigint";
    let rows = client.query(sql, &[&line, &version, &limit]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Encoded paths of the source of a line.
pub async fn line_selection(client: &impl GenericClient, line: i64) -> Result<Vec<u8>, Error> {
    let sql =
        "SELECT s.paths FROM lines AS l JOIN sources AS s ON s.id = l.source_id WHERE l.id = $1";
    let row = client.query_opt(sql, &[&line]).await?;
    Ok(row.ok_or(Error::Stale("line"))?.get(0))
}

/// What a removal is made from.
#[derive(Debug, Clone, Copy)]
pub struct NewRemoval<'a> {
    /// Line of the archive.
    pub line_id: i64,
    /// Archive.
    pub version: i64,
    /// Source agent whose files they are.
    pub agent_id: i64,
    /// Encoded `taf.v1.RemoveSourcesRequest`.
    pub request: &'a [u8],
    /// The job that begins it by itself.
    pub cause: Option<i64>,
}

/// Adds a removal.
pub async fn job_create_removal_on(
    tx: &Transaction<'_>,
    new: &NewRemoval<'_>,
    creator: &str,
) -> Result<i64, Error> {
    let row = tx
        .query_one(
            "INSERT INTO jobs (kind, state, creator, line_id, version, agent_id, removal, cause_job, created_at) \
             VALUES ('remove-sources', 'queued', $1, $2, $3, $4, $5, $6::bigint, clock_timestamp()) RETURNING id",
            &[
                &creator,
                &new.line_id,
                &new.version,
                &new.agent_id,
                &new.request,
                &new.cause,
            ],
        )
        .await?;
    Ok(row.get(0))
}

/// A backup's job is to be followed by a removal, once what it makes is verified.
pub async fn job_then_removes_on(
    tx: &Transaction<'_>,
    job: i64,
    request: &[u8],
) -> Result<(), Error> {
    let sql = "UPDATE jobs SET removal = $2 WHERE id = $1 AND kind = 'backup'";
    Error::expect_one(tx.execute(sql, &[&job, &request]).await?, "job")
}

/// A job that has not ended and removes what this archive holds.
pub async fn removal_active_on(
    tx: &Transaction<'_>,
    line: i64,
    version: i64,
) -> Result<Option<i64>, Error> {
    let sql = "SELECT min(id) AS id FROM jobs WHERE kind = 'remove-sources' AND line_id = $1 AND version = $2 AND ended_at IS NULL";
    let row = tx.query_one(sql, &[&line, &version]).await?;
    Ok(row.get(0))
}

/// Begins the removal that was to follow a backup, if this verification was the last one of its archive and all have been done: the
/// removal's job.
pub async fn removal_follow_on(
    tx: &Transaction<'_>,
    verification: i64,
) -> Result<Option<i64>, Error> {
    let sql = "SELECT b.line_id, b.version, b.agent_id, b.removal, b.creator FROM jobs AS v JOIN jobs AS b ON b.id = v.cause_job \
               WHERE v.id = $1 AND v.kind = 'verify' AND b.kind = 'backup' AND b.removal IS NOT NULL AND b.agent_id IS NOT NULL \
               AND NOT EXISTS (SELECT 1 FROM jobs AS o WHERE o.cause_job = b.id AND o.kind = 'verify' \
               AND o.state NOT IN ('succeeded', 'succeeded-with-issues'))";
    let Some(row) = tx.query_opt(sql, &[&verification]).await? else {
        return Ok(None);
    };
    let request: Vec<u8> = row.get(3);
    let new = NewRemoval {
        line_id: row.get(0),
        version: row.get(1),
        agent_id: row.get(2),
        request: &request,
        cause: Some(verification),
    };
    let creator: String = row.get(4);
    job_create_removal_on(tx, &new, &creator).await.map(Some)
}

/// What the removal of what is extra is made from.
#[derive(Debug, Clone, Copy)]
pub struct NewExtra<'a> {
    /// Line of the version.
    pub line_id: i64,
    /// Version.
    pub version: i64,
    /// Source agent whose files they are.
    pub agent_id: i64,
    /// Encoded `taf.v1.RestoreVersionRequest`, without its paths.
    pub request: &'a [u8],
    /// Chosen paths.
    pub paths: Option<&'a [u8]>,
    /// The restore that begins it by itself.
    pub cause: Option<i64>,
}

/// Adds a job that removes what is extra at the target of a restore, or lists it if the request is a dry run.
pub async fn job_create_extra_on(
    tx: &Transaction<'_>,
    new: &NewExtra<'_>,
    creator: &str,
) -> Result<i64, Error> {
    let row = tx
        .query_one(
            "INSERT INTO jobs (kind, state, creator, line_id, version, agent_id, restore_request, cause_job, restore_paths, created_at) \
             VALUES ('remove-extra', 'queued', $1, $2, $3, $4, $5, $6::bigint, $7::bytea, clock_timestamp()) RETURNING id",
            &[
                &creator,
                &new.line_id,
                &new.version,
                &new.agent_id,
                &new.request,
                &new.cause,
                &new.paths,
            ],
        )
        .await?;
    Ok(row.get(0))
}

/// Begins the removal of what is extra that was to follow a restore, if it has done what it was for.
pub async fn extra_follow_on(tx: &Transaction<'_>, restore: i64) -> Result<Option<i64>, Error> {
    let sql = "SELECT line_id, version, agent_id, restore_request, creator, restore_paths FROM jobs WHERE id = $1 AND kind = 'restore' \
               AND state IN ('succeeded', 'succeeded-with-issues')";
    let Some(row) = tx.query_opt(sql, &[&restore]).await? else {
        return Ok(None);
    };
    let request: Vec<u8> = row.get(3);
    let paths: Option<Vec<u8>> = row.get(5);
    let new = NewExtra {
        line_id: row.get(0),
        version: row.get(1),
        agent_id: row.get(2),
        request: &request,
        paths: paths.as_deref(),
        cause: Some(restore),
    };
    let creator: String = row.get(4);
    job_create_extra_on(tx, &new, &creator).await.map(Some)
}

/// The encoded closing record of a published version.
pub async fn version_closing(
    client: &impl GenericClient,
    line: i64,
    version: i64,
) -> Result<Option<Vec<u8>>, Error> {
    let sql =
        "SELECT closing FROM versions WHERE line_id = $1 AND version = $2 AND state = 'published'";
    let row = client.query_opt(sql, &[&line, &version]).await?;
    Ok(row.and_then(|row| row.get(0)))
}
