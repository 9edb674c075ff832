//! Volumes on which nothing is needed any more: which may be written from their beginning again, and their way back to a label.

use std::collections::HashMap;

use jiff::Timestamp;
use uuid::Uuid;

use super::{Error, GenericClient, Transaction};

/// What keeps a volume from being written anew, beside the time. Who began to read before it was free may have been told to read it.
const AT_WORK: &str = "EXISTS (SELECT 1 FROM attempt_volumes AS h WHERE h.held AND h.cartridge = volumes.barcode) \
     OR EXISTS (SELECT 1 FROM jobs AS j WHERE j.ended_at IS NULL AND (j.volume_id = volumes.id OR j.cartridge = volumes.barcode \
     OR j.kind IN ('restore', 'feed') AND j.created_at < volumes.freed_at))";

/// A needed part `x` that was copied from a volume, and whose copy nobody has read back, is damaged, may have been written over, or is
/// not there any more: what the volume still has may be all that is left.
const UNPROVED: &str = "(x.damage IS NOT NULL OR x.verified_at IS NULL OR NOT EXISTS (SELECT 1 FROM volumes AS w \
     WHERE w.recording_uuid = x.recording_uuid AND w.state NOT IN ('unlabelled', 'quarantined') AND w.suspect_since IS NULL)) \
     AND EXISTS (SELECT 1 FROM archives AS a WHERE a.id = x.archive_id AND (a.state IN ('staged', 'closed') \
     OR EXISTS (SELECT 1 FROM version_parts AS n WHERE n.part_id = x.id)))";

/// A volume that may be written from its beginning again.
#[derive(Debug, Clone)]
pub struct Reusable {
    /// Row.
    pub id: i64,
    /// Barcode.
    pub barcode: String,
    /// Since when nothing on it is needed.
    pub freed_at: Timestamp,
}

/// The volumes of a pool on which nothing has been needed for so many seconds and with which nobody works, the longest first.
pub async fn volume_list_reusable(
    client: &impl GenericClient,
    pool: i64,
    seconds: f64,
) -> Result<Vec<Reusable>, Error> {
    let sql = format!(
        "SELECT id, barcode, freed_at FROM volumes WHERE pool_id = $1 AND state IN ('appendable', 'full') \
         AND suspect_since IS NULL AND freed_at <= clock_timestamp() - $2::float8 * interval '1 second' AND NOT ({AT_WORK}) \
         AND NOT EXISTS (SELECT 1 FROM parts AS x WHERE x.former_recording = volumes.recording_uuid AND {UNPROVED}) ORDER BY freed_at, barcode"
    );
    let rows = client.query(&sql, &[&pool, &seconds]).await?;
    let reusable = |row: &tokio_postgres::Row| Reusable {
        id: row.get(0),
        barcode: row.get(1),
        freed_at: row.get(2),
    };
    Ok(rows.iter().map(reusable).collect())
}

/// Gives up what is on such a volume and makes it one that is to be labelled anew, with another recording; what may still be on the
/// cartridge is remembered until the label is there. False, and nothing is done, if by now something on it is needed, somebody works
/// with it, or what was copied from it is not proved where it is now: all that is asked here, of one moment, with the row held.
pub async fn volume_reuse_on(
    tx: &Transaction<'_>,
    id: i64,
    seconds: f64,
    fresh: Uuid,
) -> Result<bool, Error> {
    let locked = "SELECT id FROM volumes WHERE id = $1 FOR UPDATE";
    if tx.query_opt(locked, &[&id]).await?.is_none() {
        return Ok(false);
    }
    let sql = format!(
        "UPDATE volumes SET state = 'labelling', state_reason = NULL, former_recording = recording_uuid, former_end = next_block, \
         recording_uuid = $3, block_size = (SELECT p.block_size FROM pools AS p WHERE p.id = volumes.pool_id), freed_at = NULL, \
         next_tape_file = 0, next_block = 0, byte_count = 0, labelled_at = NULL, written_at = NULL, index_due = false, \
         index_tries = 0, index_omitted = false WHERE id = $1 AND state IN ('appendable', 'full') AND suspect_since IS NULL \
         AND freed_at <= clock_timestamp() - $2::float8 * interval '1 second' AND NOT ({AT_WORK}) \
         AND NOT EXISTS (SELECT 1 FROM parts AS x WHERE x.former_recording = volumes.recording_uuid AND {UNPROVED}) \
         AND NOT EXISTS (SELECT 1 FROM parts AS x JOIN archives AS a ON a.id = x.archive_id \
         WHERE x.recording_uuid = volumes.recording_uuid AND (a.state IN ('staged', 'closed') \
         OR EXISTS (SELECT 1 FROM version_parts AS n WHERE n.part_id = x.id)))"
    );
    Ok(tx.execute(&sql, &[&id, &seconds, &fresh]).await? == 1)
}

/// What is needed on a recording: versions that are kept, or protected though they expired, how many of them have expired, and
/// until when they all are kept if that is a matter of time alone.
#[derive(Debug, Clone, Default)]
pub struct Needed {
    /// Versions, also such as are being made.
    pub versions: i64,
    /// Of these, versions that have expired and are still built on or read.
    pub expired: i64,
    /// Until when those that are kept are, as far as that is known of all.
    pub until: Option<Timestamp>,
}

/// See [`Needed`].
pub async fn volume_needed(client: &impl GenericClient, recording: Uuid) -> Result<Needed, Error> {
    let sql = "SELECT count(*), count(v.expired_at), CASE WHEN count(*) = count(v.keep_until) THEN max(v.keep_until) ELSE NULL END \
               FROM versions AS v WHERE EXISTS (SELECT 1 FROM version_parts AS n JOIN parts AS x ON x.id = n.part_id \
               WHERE n.line_id = v.line_id AND n.version = v.version AND x.recording_uuid = $1) \
               OR EXISTS (SELECT 1 FROM archives AS a JOIN parts AS y ON y.archive_id = a.id WHERE a.line_id = v.line_id \
               AND a.version = v.version AND a.state IN ('staged', 'closed') AND y.recording_uuid = $1)";
    let row = client.query_one(sql, &[&recording]).await?;
    Ok(Needed {
        versions: row.get(0),
        expired: row.get(1),
        until: row.get(2),
    })
}

/// Needed parts that were copied from a recording to one volume and are not proved there.
#[derive(Debug, Clone)]
pub struct Unproved {
    /// Barcode of that volume; none if it is gone, or not to be trusted.
    pub barcode: Option<String>,
    /// Whether that has to be inspected before anybody can say what is on it.
    pub suspect: bool,
    /// How many nobody has read there, or not since it is suspect.
    pub unread: i64,
    /// How many are damaged there.
    pub damaged: i64,
}

/// See [`Unproved`]; by the recording that the parts were copied from.
pub async fn copies_unproved(
    client: &impl GenericClient,
    recordings: &[Uuid],
) -> Result<HashMap<Uuid, Vec<Unproved>>, Error> {
    let sql = format!(
        "SELECT x.former_recording, v.barcode, v.suspect_since IS NOT NULL AS suspect, count(*) - count(x.damage) AS unread, \
         count(x.damage) AS damaged FROM parts AS x \
         LEFT JOIN volumes AS v ON v.recording_uuid = x.recording_uuid AND v.state NOT IN ('unlabelled', 'quarantined') \
         WHERE x.former_recording = ANY($1::uuid[]) AND {UNPROVED} GROUP BY x.former_recording, v.barcode, v.suspect_since \
         ORDER BY x.former_recording, v.barcode"
    );
    let mut found: HashMap<Uuid, Vec<Unproved>> = HashMap::new();
    for row in client.query(&sql, &[&recordings]).await? {
        found.entry(row.get(0)).or_default().push(Unproved {
            barcode: row.get(1),
            suspect: row.get(2),
            unread: row.get(3),
            damaged: row.get(4),
        });
    }
    Ok(found)
}
