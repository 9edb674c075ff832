//! The volumes that restores read, and which of their streams has taken which.

use std::collections::HashMap;

use taf_core::recall::turn::{Taken, Volume};
use uuid::Uuid;

use super::{Error, GenericClient, Transaction};

/// A volume that a restore reads, with the recording that is meant.
#[derive(Debug, Clone, Copy)]
pub struct RecallVolume {
    /// Who reads it.
    pub volume: Volume,
    /// What is on it.
    pub recording: Uuid,
}

/// The stream that an attempt is, of a restore's job which others can't change until the transaction ends.
pub async fn recall_lock_on(
    tx: &Transaction<'_>,
    job: i64,
    attempt: i64,
) -> Result<Option<i32>, Error> {
    let locked = tx
        .query_opt("SELECT id FROM jobs WHERE id = $1 FOR UPDATE", &[&job])
        .await?;
    if locked.is_none() {
        return Ok(None);
    }
    let sql = "SELECT stream FROM attempts WHERE id = $1 AND job_id = $2 AND verdict = 'none' AND ended_at IS NULL";
    let row = tx.query_opt(sql, &[&attempt, &job]).await?;
    Ok(row.map(|row| row.get(0)))
}

/// The volumes of a restore, in their order, as things are for an attempt of it.
pub async fn recall_list(
    client: &impl GenericClient,
    job: i64,
    attempt: i64,
) -> Result<Vec<RecallVolume>, Error> {
    let sql = "SELECT x.volume_id, x.turn, t.id AS taker, t.verdict, v.recording_uuid, NOT EXISTS \
               (SELECT 1 FROM elements AS e JOIN libraries AS y ON y.id = e.library_id \
               WHERE e.occupied AND e.barcode = v.barcode AND y.connected AND e.kind <> 'mail-slot') AS away, EXISTS \
               (SELECT 1 FROM attempt_volumes AS h WHERE h.held AND h.volume_id = x.volume_id AND h.attempt_id <> $2) AS busy \
               FROM job_volumes AS x JOIN volumes AS v ON v.id = x.volume_id \
               LEFT JOIN attempts AS t ON t.id = x.attempt_id AND t.verdict NOT IN ('cancelled', 'failed') \
               WHERE x.job_id = $1 ORDER BY x.ordinal";
    let rows = client.query(sql, &[&job, &attempt]).await?;
    let volume = |row: &tokio_postgres::Row| RecallVolume {
        volume: Volume {
            id: row.get(0),
            turn: row.get(1),
            taken: taken(row.get(2), row.get(3)),
            away: row.get(5),
            busy: row.get(6),
        },
        recording: row.get(4),
    };
    Ok(rows.iter().map(volume).collect())
}

/// The recordings that the restore of an attempt reads, in its order.
pub async fn recall_recordings(
    client: &impl GenericClient,
    attempt: i64,
) -> Result<Vec<Uuid>, Error> {
    let sql = "SELECT v.recording_uuid FROM attempts AS t JOIN job_volumes AS x ON x.job_id = t.job_id \
               JOIN volumes AS v ON v.id = x.volume_id WHERE t.id = $1 ORDER BY x.ordinal";
    let rows = client.query(sql, &[&attempt]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The volumes of the restores under way, in their order, by job. Where they are is not looked at.
pub async fn recall_list_live_on(tx: &Transaction<'_>) -> Result<HashMap<i64, Vec<Volume>>, Error> {
    let sql = "SELECT x.job_id, x.volume_id, x.turn, t.id AS taker, t.verdict FROM job_volumes AS x \
               JOIN jobs AS j ON j.id = x.job_id \
               LEFT JOIN attempts AS t ON t.id = x.attempt_id AND t.verdict NOT IN ('cancelled', 'failed') \
               WHERE j.state = 'running' AND j.ended_at IS NULL ORDER BY x.job_id, x.ordinal";
    let mut volumes: HashMap<i64, Vec<Volume>> = HashMap::new();
    for row in &tx.query(sql, &[]).await? {
        volumes.entry(row.get(0)).or_default().push(Volume {
            id: row.get(1),
            turn: row.get(2),
            taken: taken(row.get(3), row.get(4)),
            away: false,
            busy: false,
        });
    }
    Ok(volumes)
}

fn taken(attempt: Option<i64>, verdict: Option<String>) -> Option<Taken> {
    Some(Taken {
        attempt: attempt?,
        done: verdict.is_some_and(|verdict| verdict.starts_with("succeeded")),
    })
}

/// An attempt takes volumes of its restore, all that it asks for or [`Error::Stale`]: one may have been taken meanwhile.
pub async fn recall_take_on(
    tx: &Transaction<'_>,
    job: i64,
    attempt: i64,
    volumes: &[i64],
) -> Result<(), Error> {
    let rows = tx
        .execute(
            "UPDATE job_volumes SET attempt_id = $2 WHERE job_id = $1 AND volume_id = ANY($3::bigint[]) \
             AND NOT EXISTS (SELECT 1 FROM attempts AS t WHERE t.id = job_volumes.attempt_id AND t.id <> $2 \
             AND t.verdict NOT IN ('cancelled', 'failed'))",
            &[&job, &attempt, &volumes],
        )
        .await?;
    if rows == volumes.len() as u64 {
        return Ok(());
    }
    Err(Error::Stale("volume of a restore"))
}

/// How many drives could read any of these volumes: those that work, of the libraries that show them.
pub async fn drive_count_reading(
    client: &impl GenericClient,
    volumes: &[i64],
) -> Result<i64, Error> {
    let sql = "SELECT count(DISTINCT d.id) AS usable FROM drives AS d JOIN elements AS p ON p.drive_serial = d.serial \
               JOIN libraries AS y ON y.id = p.library_id WHERE y.connected AND d.connected AND d.down_reason IS NULL \
               AND d.hung_since IS NULL AND EXISTS (SELECT 1 FROM elements AS e JOIN volumes AS v ON v.barcode = e.barcode \
               WHERE e.library_id = y.id AND e.occupied AND v.id = ANY($1::bigint[]))";
    Ok(client.query_one(sql, &[&volumes]).await?.get(0))
}
