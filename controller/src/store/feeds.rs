//! Feeds: jobs that read what a synthetic full is put together from. Each is begun with its backup, and ends with it.

use taf_core::Fault;

use super::conditions::put_in;
use super::{Error, GenericClient, Transaction};

/// What a feed is made from.
#[derive(Debug, Clone, Copy)]
pub struct NewFeed {
    /// Line of the version that is read.
    pub line_id: i64,
    /// The version.
    pub version: i64,
    /// Source agent that puts the new version together.
    pub agent_id: i64,
    /// Volume that is needed first.
    pub volume_id: i64,
    /// Ordinal of the archive that is not spooled.
    pub streamed_archive: i32,
    /// Bytes that are spooled.
    pub spool_bytes: i64,
    /// Entries in all.
    pub entry_count: i64,
    /// Bytes in all.
    pub byte_total: i64,
    /// The backup.
    pub backup: i64,
}

/// Adds a feed.
pub async fn job_create_feed_on(
    tx: &Transaction<'_>,
    new: &NewFeed,
    creator: &str,
) -> Result<i64, Error> {
    let row = tx
        .query_one(
            "INSERT INTO jobs (kind, state, creator, line_id, version, agent_id, volume_id, streamed_archive, spool_bytes, \
             entry_count, byte_total, cause_job, created_at) \
             VALUES ('feed', 'queued', $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, clock_timestamp()) RETURNING id",
            &[
                &creator,
                &new.line_id,
                &new.version,
                &new.agent_id,
                &new.volume_id,
                &new.streamed_archive,
                &new.spool_bytes,
                &new.entry_count,
                &new.byte_total,
                &new.backup,
            ],
        )
        .await?;
    let id: i64 = row.get(0);
    // What it is told to read it may ask for, wherever the parts lie by then.
    tx.execute(
        "INSERT INTO job_volumes (job_id, ordinal, volume_id) SELECT $1::bigint, (row_number() OVER (ORDER BY k.volume_id))::integer, \
         k.volume_id FROM (SELECT DISTINCT x.volume_id FROM version_parts AS n JOIN parts AS x ON x.id = n.part_id \
         WHERE n.line_id = $2 AND n.version = $3) AS k",
        &[&id, &new.line_id, &new.version],
    )
    .await?;
    Ok(id)
}

/// The version that the feed of a backup reads; none if it has no feed.
pub async fn feed_version_on(tx: &Transaction<'_>, backup: i64) -> Result<Option<i64>, Error> {
    let sql =
        "SELECT version FROM jobs WHERE kind = 'feed' AND cause_job = $1 ORDER BY id DESC LIMIT 1";
    let row = tx.query_opt(sql, &[&backup]).await?;
    Ok(row.map(|row| row.get(0)))
}

/// A feed of which, or of whose backup, the end has not come.
#[derive(Debug, Clone)]
pub struct Feed {
    /// Its job.
    pub job_id: i64,
    /// The backup's job.
    pub backup: i64,
    /// State of its job.
    pub state: String,
    /// Why it failed.
    pub fault: Option<Fault>,
    /// State of the backup's job.
    pub backup_state: String,
    /// Ordinal of the archive that is not spooled.
    pub streamed_archive: i32,
    /// Bytes that are spooled.
    pub spool_bytes: i64,
    /// Volumes that it reads, and the one that it begins with.
    pub volumes: Vec<i64>,
}

/// Feeds that concern anybody, the oldest first.
pub async fn feed_list_live_on(tx: &Transaction<'_>) -> Result<Vec<Feed>, Error> {
    // What was copied since it was asked for it reads where it was, as it is told (`parts::part_list_of_reader`).
    let sql = "SELECT j.id, j.cause_job, j.state, j.fault_reason, j.fault_message, j.fault_next_step, b.state AS backup_state, \
               j.streamed_archive, j.spool_bytes, \
               (SELECT array_agg(DISTINCT COALESCE(f.id, x.volume_id)) FROM version_parts AS n JOIN parts AS x ON x.id = n.part_id {FORMER} \
               WHERE n.line_id = j.line_id AND n.version = j.version) AS volumes, j.volume_id \
               FROM jobs AS j JOIN jobs AS b ON b.id = j.cause_job WHERE j.kind = 'feed' \
               AND (j.ended_at IS NULL OR b.ended_at IS NULL) ORDER BY j.id";
    let rows = tx.query(&put_in(sql), &[]).await?;
    let volumes = |row: &tokio_postgres::Row| {
        let mut volumes = row.get::<_, Option<Vec<i64>>>(9).unwrap_or_default();
        // It was chosen before the job was there; what lay on it may have been copied between the two.
        let first: Option<i64> = row.get(10);
        volumes.extend(first.filter(|first| !volumes.contains(first)));
        volumes
    };
    let feed = |row: &tokio_postgres::Row| Feed {
        job_id: row.get(0),
        backup: row.get(1),
        state: row.get(2),
        fault: row.get::<_, Option<String>>(3).map(|reason| Fault {
            reason,
            message: row.get::<_, Option<String>>(4).unwrap_or_default(),
            next_step: row.get::<_, Option<String>>(5).unwrap_or_default(),
        }),
        backup_state: row.get(6),
        streamed_archive: row.get(7),
        spool_bytes: row.get(8),
        volumes: volumes(row),
    };
    Ok(rows.iter().map(feed).collect())
}

/// How many drives could do any work, and how many there are.
pub async fn drive_count_usable(client: &impl GenericClient) -> Result<DriveCount, Error> {
    let sql = "SELECT count(CASE WHEN connected AND down_reason IS NULL AND hung_since IS NULL THEN 1 ELSE NULL END) AS usable, \
               count(CASE WHEN down_reason IS NULL AND hung_since IS NULL THEN 1 ELSE NULL END) AS sound, count(*) AS known FROM drives";
    let row = client.query_one(sql, &[]).await?;
    Ok(DriveCount {
        usable: row.get(0),
        sound: row.get(1),
        known: row.get(2),
    })
}

/// How many drives there are.
#[derive(Debug, Clone, Copy)]
pub struct DriveCount {
    /// That could do any work now.
    pub usable: i64,
    /// The same, with those that are only not connected.
    pub sound: i64,
    /// In all.
    pub known: i64,
}
