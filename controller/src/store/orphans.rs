//! The tape files of a recording as a whole: where the next one begins, what nobody owns, and verdicts on the volume.
//!
//! Append positions are true only if every tape file moves them, owned or not.

use uuid::Uuid;

use super::{Error, GenericClient, Transaction, clip};

/// Where a tape file lies and what follows it.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// Recording.
    pub recording: Uuid,
    /// Its number.
    pub tape_file: i64,
    /// Its first logical block.
    pub first_block: i64,
    /// Number of what follows.
    pub next_tape_file: i64,
    /// Logical block behind its filemark.
    pub next_block: i64,
    /// Bytes in it.
    pub byte_count: i64,
}

/// The volume of a recording, and where its next tape file begins.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// Volume.
    pub volume_id: i64,
    /// Barcode.
    pub barcode: String,
    /// Number of the next tape file.
    pub next_tape_file: i64,
    /// Logical block at which it begins.
    pub next_block: i64,
}

/// The volume of a recording.
pub async fn recording_get(
    client: &impl GenericClient,
    recording: Uuid,
) -> Result<Option<Recorded>, Error> {
    let sql =
        "SELECT id, barcode, next_tape_file, next_block FROM volumes WHERE recording_uuid = $1";
    let row = client.query_opt(sql, &[&recording]).await?;
    Ok(row.map(|row| Recorded {
        volume_id: row.get(0),
        barcode: row.get(1),
        next_tape_file: row.get(2),
        next_block: row.get(3),
    }))
}

/// Moves the end of a recording behind a tape file that begins where the recording ended. False if it does not.
pub async fn recording_append_on(tx: &Transaction<'_>, extent: &Extent) -> Result<bool, Error> {
    let rows = tx
        .execute(
            "UPDATE volumes SET next_tape_file = $4, next_block = $5, byte_count = byte_count + $6, written_at = clock_timestamp(), \
             freed_at = NULL \
             WHERE recording_uuid = $1 AND next_tape_file = $2 AND next_block = $3",
            &[
                &extent.recording,
                &extent.tape_file,
                &extent.first_block,
                &extent.next_tape_file,
                &extent.next_block,
                &extent.byte_count,
            ],
        )
        .await?;
    Ok(rows == 1)
}

/// Whether a tape file is a known orphan.
pub async fn orphan_exists(
    client: &impl GenericClient,
    recording: Uuid,
    tape_file: i64,
) -> Result<bool, Error> {
    let sql = "SELECT 1 FROM orphans WHERE recording_uuid = $1 AND tape_file = $2";
    Ok(client
        .query_opt(sql, &[&recording, &tape_file])
        .await?
        .is_some())
}

/// Adds a tape file that nobody owns. [`Error::Exists`] if it is known.
pub async fn orphan_add_on(
    tx: &Transaction<'_>,
    volume: i64,
    extent: &Extent,
    reason: &str,
) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO orphans (recording_uuid, tape_file, volume_id, first_block, next_block, reason, found_at) \
         VALUES ($1, $2, $3, $4, $5, $6, clock_timestamp())",
        &[&extent.recording, &extent.tape_file, &volume, &extent.first_block, &extent.next_block, &clip(reason, 400)],
    )
    .await?;
    Ok(())
}

/// Why a volume is read only of which a rescan could not read everything: one that took more until then, and one that was full.
const UNREAD: [&str; 2] = [
    "tape files of it could not be taken in by a rebuild",
    "it was full, and tape files of it could not be taken in by a rebuild",
];

/// A rescan could not read everything on a recording: it is read only until one can.
pub async fn recording_unread_on(tx: &Transaction<'_>, recording: Uuid) -> Result<(), Error> {
    let [open, full] = UNREAD;
    let sql = "UPDATE volumes SET state = 'read-only', state_reason = CASE WHEN state = 'full' THEN $3::varchar ELSE $2::varchar END \
               WHERE recording_uuid = $1 AND state IN ('appendable', 'full')";
    tx.execute(sql, &[&recording, &open, &full]).await?;
    Ok(())
}

/// A rescan has read everything on a recording, up to this tape file, at which an append would begin: if it is read only since an earlier
/// one could not, and for no other reason, it is what it was before. Not if the catalog knows of more.
pub async fn recording_read_on(
    tx: &Transaction<'_>,
    recording: Uuid,
    next_tape_file: i64,
) -> Result<(), Error> {
    let [open, full] = UNREAD;
    let sql = "UPDATE volumes SET state = CASE WHEN state_reason = $3 THEN 'full' ELSE 'appendable' END, state_reason = NULL \
               WHERE recording_uuid = $1 AND state = 'read-only' AND state_reason IN ($2, $3) AND next_tape_file <= $4";
    tx.execute(sql, &[&recording, &open, &full, &next_tape_file])
        .await?;
    Ok(())
}

/// A recording has the bytes of the parts and indexes on it.
pub async fn recording_weigh_on(tx: &Transaction<'_>, recording: Uuid) -> Result<(), Error> {
    // Held first, so that what others took from it meanwhile is seen.
    let sql = "SELECT id FROM volumes WHERE recording_uuid = $1 FOR UPDATE";
    tx.query_opt(sql, &[&recording]).await?;
    let sql = "UPDATE volumes SET byte_count = ((SELECT COALESCE(sum(x.byte_count), 0) FROM parts AS x WHERE x.recording_uuid = $1) \
               + (SELECT COALESCE(sum(i.byte_count), 0) FROM volume_indexes AS i WHERE i.recording_uuid = $1))::bigint \
               WHERE recording_uuid = $1 AND state NOT IN ('labelling', 'unlabelled')";
    tx.execute(sql, &[&recording]).await?;
    Ok(())
}

/// Takes a recording out of use: `full`, `read-only` or `quarantined`. A worse state is never made better. False if there is
/// no such recording.
pub async fn recording_verdict_on(
    tx: &Transaction<'_>,
    recording: Uuid,
    state: &str,
    reason: &str,
) -> Result<bool, Error> {
    let better: &[&str] = match state {
        "full" => &["appendable"],
        "read-only" => &["appendable", "full"],
        _ => &["appendable", "full", "read-only"],
    };
    let rows = tx
        .execute(
            // What a rescan can take back gives way to what it can't.
            "UPDATE volumes SET state = $2, state_reason = $3 WHERE recording_uuid = $1 AND (state = ANY($4::varchar[]) \
             OR state = 'read-only' AND $2 = 'read-only' AND state_reason = ANY($5::varchar[]))",
            &[&recording, &state, &clip(reason, 400), &better, &UNREAD.as_slice()],
        )
        .await?;
    Ok(rows == 1 || recording_get(tx, recording).await?.is_some())
}
