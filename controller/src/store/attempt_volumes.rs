//! The volumes of attempts: which one an attempt holds, and which ones it has had before.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::{Error, GenericClient, Transaction};

/// Reserves a volume for an attempt as its next one, before anything moves. [`Error::Exists`] if it is held, unless `beside`: then
/// it must be held by attempts in the same drive, and by nobody else.
pub async fn volume_hold_on(
    tx: &Transaction<'_>,
    attempt: i64,
    volume: i64,
    beside: bool,
) -> Result<(), Error> {
    let row = tx
        .query_opt("SELECT barcode FROM volumes WHERE id = $1", &[&volume])
        .await?
        .ok_or(Error::Stale("volume"))?;
    cartridge_hold_on(tx, attempt, row.get(0), Some(volume), beside).await
}

/// Reserves a cartridge for an attempt, before anything moves; `volume` if it is one of the catalog. As [`volume_hold_on`].
pub async fn cartridge_hold_on(
    tx: &Transaction<'_>,
    attempt: i64,
    barcode: &str,
    volume: Option<i64>,
    beside: bool,
) -> Result<(), Error> {
    let rows = tx
        .execute(
            "INSERT INTO attempt_volumes (attempt_id, ordinal, volume_id, cartridge, held, first_step, seat, reserved_at) \
             SELECT t.id, 1 + (SELECT count(*) FROM attempt_volumes x WHERE x.attempt_id = t.id)::integer, $2::bigint, $3::varchar, \
             true, t.step, t.seat, clock_timestamp() FROM attempts t WHERE t.id = $1 \
             AND $4::boolean = EXISTS (SELECT 1 FROM attempt_volumes h WHERE h.held AND h.cartridge = $3::varchar) \
             AND NOT EXISTS (SELECT 1 FROM attempt_volumes h JOIN attempts o ON o.id = h.attempt_id \
             WHERE h.held AND h.cartridge = $3::varchar \
             AND (o.ended_at IS NOT NULL OR o.drive_id IS NULL OR o.drive_id <> t.drive_id))",
            &[&attempt, &volume, &barcode, &beside],
        )
        .await?;
    if rows == 1 {
        return Ok(());
    }
    Err(Error::Exists {
        constraint: "attempt_volumes_cartridge".to_owned(),
    })
}

/// Barcodes of the cartridges that attempts hold, or that a lost drive may still write to.
pub async fn cartridge_list_held_on(tx: &Transaction<'_>) -> Result<HashSet<String>, Error> {
    let rows = tx
        .query("SELECT cartridge FROM attempt_volumes WHERE held", &[])
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// The attempt has done with the volume that it holds.
pub async fn volume_let_go_on(tx: &Transaction<'_>, attempt: i64) -> Result<(), Error> {
    tx.execute(
        "UPDATE attempt_volumes SET held = false WHERE attempt_id = $1 AND held",
        &[&attempt],
    )
    .await?;
    Ok(())
}

/// The volumes of every attempt that has not ended, in the order in which it had them.
pub async fn volume_list_live_on(tx: &Transaction<'_>) -> Result<HashMap<i64, Vec<i64>>, Error> {
    let rows = tx
        .query(
            "SELECT v.attempt_id, v.volume_id FROM attempt_volumes v JOIN attempts t ON t.id = v.attempt_id \
             WHERE t.ended_at IS NULL AND v.volume_id IS NOT NULL ORDER BY v.attempt_id, v.ordinal",
            &[],
        )
        .await?;
    let mut volumes: HashMap<i64, Vec<i64>> = HashMap::new();
    for row in &rows {
        volumes.entry(row.get(0)).or_default().push(row.get(1));
    }
    Ok(volumes)
}

/// Whether an attempt was ever given the volume of this recording.
pub async fn volume_is_given(
    client: &impl GenericClient,
    attempt: i64,
    recording: Uuid,
) -> Result<bool, Error> {
    let sql = "SELECT 1 FROM attempt_volumes a JOIN volumes v ON v.id = a.volume_id \
               WHERE a.attempt_id = $1 AND v.recording_uuid = $2 LIMIT 1";
    Ok(client
        .query_opt(sql, &[&attempt, &recording])
        .await?
        .is_some())
}

/// The drive of a restore, as it is for a volume that the restore asks for.
#[derive(Debug)]
pub struct ReadingDrive {
    /// Tape agent.
    pub agent: String,
    /// Addresses of the worker.
    pub addresses: String,
    /// Serial number.
    pub serial: String,
    /// Whether the volume is in place, and the worker there is to read it.
    pub in_place: bool,
    /// Whether the worker that was given the work is no more: the one that is there knows nothing of it.
    pub replaced: bool,
    /// Encoded `taf.agent.v1.Result` with which the drive has ended the work.
    pub result: Option<Vec<u8>>,
}

/// The drive of a restore under way; none while it has none.
pub async fn volume_locate(
    client: &impl GenericClient,
    attempt: i64,
    recording: Uuid,
) -> Result<Option<ReadingDrive>, Error> {
    let sql = "SELECT g.agent_name, d.addresses, d.serial, t.step_kind = 'work' AND t.drive_result IS NULL AND EXISTS \
               (SELECT 1 FROM attempt_volumes AS a JOIN volumes AS v ON v.id = a.volume_id WHERE a.attempt_id = t.id AND a.held \
               AND v.recording_uuid = $2) AS there, COALESCE(t.drive_incarnation <> d.incarnation, false) AS other, t.drive_result \
               FROM attempts AS t JOIN drives AS d ON d.id = t.drive_id JOIN agents AS g ON g.id = d.agent_id \
               WHERE t.id = $1 AND t.verdict = 'none' AND t.ended_at IS NULL";
    let row = client.query_opt(sql, &[&attempt, &recording]).await?;
    Ok(row.map(|row| ReadingDrive {
        agent: row.get(0),
        addresses: row.get(1),
        serial: row.get(2),
        in_place: row.get(3),
        replaced: row.get(4),
        result: row.get(5),
    }))
}

/// The volume that an attempt holds.
pub async fn volume_held(client: &impl GenericClient, attempt: i64) -> Result<Option<i64>, Error> {
    let sql = "SELECT min(volume_id) AS id FROM attempt_volumes WHERE attempt_id = $1 AND held";
    Ok(client.query_one(sql, &[&attempt]).await?.get(0))
}

/// The volume of a recording that holds parts which the version that a job restores needs, or needed when it was asked for: they may
/// have been copied since, and are still there.
pub async fn volume_of_version_on(
    tx: &Transaction<'_>,
    job: i64,
    recording: Uuid,
) -> Result<Option<i64>, Error> {
    let sql = "SELECT COALESCE((SELECT min(x.volume_id) FROM jobs j \
               JOIN version_parts n ON n.line_id = j.line_id AND n.version = j.version \
               JOIN parts x ON x.id = n.part_id WHERE j.id = $1 AND x.recording_uuid = $2), \
               (SELECT min(v.id) FROM job_volumes k JOIN volumes v ON v.id = k.volume_id WHERE k.job_id = $1 \
               AND v.recording_uuid = $2)) AS id";
    let row = tx.query_one(sql, &[&job, &recording]).await?;
    Ok(row.get(0))
}
