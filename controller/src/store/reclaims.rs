//! Reclaiming volumes: what still lives on one, and the move of a part from its place to its copy's.

use bytes::Bytes;
use jiff::Timestamp;
use uuid::Uuid;

use super::conditions::{LIVING, put_in};
use super::parts::NewPart;
use super::verifications::{self, PartsOfVolume, Verifiable};
use super::{Error, GenericClient, Transaction, clip};

/// How many parts live on a recording, and the bytes in them.
pub async fn living_sum(client: &impl GenericClient, recording: Uuid) -> Result<(i64, i64), Error> {
    let sql = format!(
        "SELECT count(*), COALESCE(sum(x.byte_count), 0)::bigint AS bytes FROM parts AS x JOIN archives AS a ON a.id = x.archive_id \
         WHERE x.recording_uuid = $1 AND {LIVING}"
    );
    let row = client.query_one(&sql, &[&recording]).await?;
    Ok((row.get(0), row.get(1)))
}

/// A version that needs parts of a recording.
#[derive(Debug, Clone)]
pub struct Needing {
    /// Line.
    pub line_id: i64,
    /// Number.
    pub version: i64,
    /// Plan, if it is known.
    pub plan: Option<String>,
    /// How many parts it needs there.
    pub part_count: i64,
}

/// The versions that need something on a recording, also such as are being made: by line, the newest first.
pub async fn living_versions(
    client: &impl GenericClient,
    recording: Uuid,
    limit: i64,
) -> Result<Vec<Needing>, Error> {
    let sql = "SELECT k.line_id, k.version, p.plan_name, count(*) AS n FROM \
               (SELECT n.line_id, n.version, x.id FROM parts AS x JOIN version_parts AS n ON n.part_id = x.id WHERE x.recording_uuid = $1 \
               UNION SELECT a.line_id, a.version, x.id FROM parts AS x JOIN archives AS a ON a.id = x.archive_id \
               WHERE x.recording_uuid = $1 AND a.state IN ('staged', 'closed', 'unclaimed')) AS k JOIN lines AS l ON l.id = k.line_id \
               LEFT JOIN plans AS p ON p.id = l.plan_id GROUP BY k.line_id, k.version, p.plan_name \
               ORDER BY k.line_id, k.version DESC LIMIT $2::bigint";
    let rows = client.query(sql, &[&recording, &limit]).await?;
    let needing = |row: &tokio_postgres::Row| Needing {
        line_id: row.get(0),
        version: row.get(1),
        plan: row.get(2),
        part_count: row.get(3),
    };
    Ok(rows.iter().map(needing).collect())
}

/// Barcodes of the volumes of a pool that take no more and of whose bytes less than so many percent live, but something does.
pub async fn volume_list_dying(
    client: &impl GenericClient,
    pool: i64,
    percent: i64,
) -> Result<Vec<String>, Error> {
    let sql = format!(
        "SELECT v.barcode FROM volumes AS v JOIN (SELECT x.recording_uuid, sum(x.byte_count)::bigint AS bytes FROM parts AS x \
         JOIN archives AS a ON a.id = x.archive_id WHERE {LIVING} GROUP BY x.recording_uuid) AS s ON s.recording_uuid = v.recording_uuid \
         WHERE v.pool_id = $1 AND v.state IN ('full', 'read-only') AND s.bytes * 100 < $2::bigint * v.byte_count ORDER BY v.barcode"
    );
    let rows = client.query(&sql, &[&pool, &percent]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Whether what lives on some volumes of a pool could go to another one of it now. One that has to be labelled first takes a drive of
/// its own for that, and there may be no other.
pub async fn pool_takes(
    client: &impl GenericClient,
    pool: i64,
    but: &[i64],
) -> Result<bool, Error> {
    let sql = "SELECT EXISTS (SELECT 1 FROM volumes AS v WHERE v.pool_id = $1 AND NOT v.id = ANY($2::bigint[]) \
               AND v.state = 'appendable' AND v.suspect_since IS NULL \
               AND NOT EXISTS (SELECT 1 FROM jobs AS j WHERE j.volume_id = v.id AND j.ended_at IS NULL \
               AND j.kind IN ('erase', 'format', 'reclaim')))";
    Ok(client.query_one(sql, &[&pool, &but]).await?.get(0))
}

/// Adds a job that reclaims a volume, with so many bytes living on it.
pub async fn job_create_reclaim_on(
    tx: &Transaction<'_>,
    volume: i64,
    bytes: i64,
    creator: &str,
) -> Result<i64, Error> {
    let sql = "INSERT INTO jobs (kind, state, creator, volume_id, byte_total, background, created_at) \
               VALUES ('reclaim', 'queued', $1, $2, $3, true, clock_timestamp()) RETURNING id";
    let row = tx.query_one(sql, &[&creator, &volume, &bytes]).await?;
    Ok(row.get(0))
}

/// A part that is to be copied.
#[derive(Debug, Clone)]
pub struct Living {
    /// What it is.
    pub part: Verifiable,
    /// How often it was copied.
    pub copy: i32,
    /// The part before it: barcode, tape file, and its bytes if an error cut it off.
    pub predecessor: Option<(String, i64, Option<i64>)>,
}

/// The parts that live on a recording, in the order of the tape, without those that the attempt has found damaged.
pub async fn living_list(
    client: &impl GenericClient,
    recording: Uuid,
    attempt: i64,
) -> Result<Vec<Living>, Error> {
    let sql = format!(
        "SELECT x.id, a.archive_uuid, a.ordinal, x.part_number, x.tape_file, x.first_block, x.byte_count, x.first_sequence, \
         x.last_sequence, x.first_tar_offset, x.end_tar_offset, x.digest, x.verified_at, x.copy_number, v.barcode, b.tape_file, \
         CASE WHEN b.truncated THEN b.byte_count ELSE NULL END AS cut \
         FROM parts AS x JOIN archives AS a ON a.id = x.archive_id \
         LEFT JOIN parts AS b ON b.archive_id = x.archive_id AND b.part_number = x.part_number - 1 \
         LEFT JOIN volumes AS v ON v.id = b.volume_id \
         WHERE x.recording_uuid = $1 AND {LIVING} AND NOT (x.damage IS NOT NULL AND x.verified_at >= \
         (SELECT t.started_at FROM attempts AS t WHERE t.id = $2)) ORDER BY x.tape_file"
    );
    let rows = client.query(&sql, &[&recording, &attempt]).await?;
    let living = |row: &tokio_postgres::Row| Living {
        part: verifications::verifiable(row),
        copy: row.get(13),
        predecessor: row
            .get::<_, Option<String>>(14)
            .zip(row.get(15))
            .map(|(barcode, file)| (barcode, file, row.get(16))),
    };
    Ok(rows.iter().map(living).collect())
}

/// A part where the catalog has it.
#[derive(Debug, Clone)]
pub struct Placed {
    /// Row.
    pub id: i64,
    /// Recording.
    pub recording: Uuid,
    /// Whether a volume still bears it that is known to hold what the catalog says, and no damage of it is known.
    pub in_place: bool,
    /// Tape file.
    pub tape_file: i64,
    /// BLAKE3 of records and segment table.
    pub digest: Vec<u8>,
    /// Encoded.
    pub segment_table: Bytes,
    /// How often it was copied.
    pub copy: i32,
    /// Whether it was read back there and was sound.
    pub read: bool,
    /// The last segment of a copy that ends without a filemark or was cut off: the part itself may have more.
    pub torn_at: Option<i64>,
}

/// A part by its archive and number, held until the transaction ends.
pub async fn part_place_on(
    tx: &Transaction<'_>,
    archive: i64,
    number: i32,
) -> Result<Option<Placed>, Error> {
    let sql = "SELECT x.id, x.recording_uuid, x.damage IS NULL AND EXISTS (SELECT 1 FROM volumes AS v WHERE v.recording_uuid = x.recording_uuid \
               AND v.state NOT IN ('unlabelled', 'quarantined')), x.tape_file, x.digest, x.segment_table, x.copy_number, \
               CASE WHEN x.truncated AND x.copy_number > 0 THEN x.last_sequence ELSE NULL END AS torn_at, \
               x.verified_at IS NOT NULL AND x.damage IS NULL AS sound FROM parts AS x WHERE x.archive_id = $1 AND x.part_number = $2 FOR UPDATE OF x";
    let row = tx.query_opt(sql, &[&archive, &number]).await?;
    Ok(row.map(|row| Placed {
        id: row.get(0),
        recording: row.get(1),
        in_place: row.get(2),
        tape_file: row.get(3),
        digest: row.get(4),
        segment_table: Bytes::from(row.get::<_, Vec<u8>>(5)),
        copy: row.get(6),
        torn_at: row.get(7),
        read: row.get(8),
    }))
}

/// From now on the part lies where `to` says. Nobody has read it there. Its number of copies never falls: where it was is not newer for
/// having been left, also when it goes back to where it was before. [`Error::Stale`] if it is not where it was; [`Error::Exists`] if
/// the tape file is another part's.
pub async fn part_move_on(tx: &Transaction<'_>, from: &Placed, to: &NewPart) -> Result<(), Error> {
    earlier_keep_on(tx, from, to).await?;
    // What the old place's volume is said to hold.
    tx.execute(
        "UPDATE volumes SET byte_count = GREATEST(byte_count - (SELECT x.byte_count FROM parts AS x WHERE x.id = $1), 0) \
         WHERE recording_uuid = $2",
        &[&from.id, &from.recording],
    )
    .await?;
    let rows = tx
        .execute(
            "UPDATE parts SET moved_at = clock_timestamp(), former_recording = recording_uuid, former_tape_file = tape_file, \
             former_first_block = first_block, former_byte_count = byte_count, \
             former_table = CASE WHEN segment_table = $12 THEN NULL ELSE segment_table END, volume_id = $4, recording_uuid = $5, tape_file = $6, first_block = $7, block_count = $8, byte_count = $9, \
             truncated = $10, digest = $11, segment_table = $12, copy_number = GREATEST(copy_number, $13::integer), covered_by = NULL, listed_by = NULL, \
             verified_at = NULL, damage = NULL WHERE id = $1 AND recording_uuid = $2 AND tape_file = $3",
            &[
                &from.id,
                &from.recording,
                &from.tape_file,
                &to.volume_id,
                &to.proof.recording,
                &to.proof.tape_file,
                &to.first_block,
                &to.block_count,
                &to.byte_count,
                &to.truncated,
                &to.proof.digest,
                &to.segment_table.as_ref(),
                &to.copy,
            ],
        )
        .await?;
    Error::expect_one(rows, "part")
}

/// The part is about to go on from a place where it may not have been proved: then where it was before may have all that is left of it.
async fn earlier_keep_on(tx: &Transaction<'_>, from: &Placed, to: &NewPart) -> Result<(), Error> {
    let proved = put_in(
        "DELETE FROM earlier_places WHERE part_id = $1 AND (recording_uuid = $2 \
         OR EXISTS (SELECT 1 FROM parts AS x WHERE x.id = $1 AND {PROVED}))",
    );
    tx.execute(&proved, &[&from.id, &to.proof.recording])
        .await?;
    let unproved = put_in(
        "INSERT INTO earlier_places (part_id, recording_uuid) SELECT x.id, x.former_recording FROM parts AS x \
         WHERE x.id = $1 AND x.former_recording <> $2 AND NOT {PROVED} AND NOT EXISTS (SELECT 1 FROM earlier_places AS e \
         WHERE e.part_id = x.id AND e.recording_uuid = x.former_recording)",
    );
    tx.execute(&unproved, &[&from.id, &to.proof.recording])
        .await?;
    Ok(())
}

/// A rescan has met what the part is a copy of, at once or by other copies. Nobody was told to read it there.
pub async fn part_former_on(tx: &Transaction<'_>, part: i64, at: &NewPart) -> Result<(), Error> {
    let sql = "UPDATE parts SET moved_at = $2, former_recording = $3, former_tape_file = $4, former_first_block = $5, former_byte_count = $6, \
               former_table = CASE WHEN segment_table = $7::bytea THEN NULL ELSE $7::bytea END WHERE id = $1 AND former_recording IS NULL";
    let rows = tx
        .execute(
            sql,
            &[
                &part,
                &Timestamp::UNIX_EPOCH,
                &at.proof.recording,
                &at.proof.tape_file,
                &at.first_block,
                &at.byte_count,
                &at.segment_table.as_ref(),
            ],
        )
        .await?;
    if rows == 0 {
        let sql = "INSERT INTO earlier_places (part_id, recording_uuid) SELECT x.id, $2::uuid FROM parts AS x WHERE x.id = $1 \
                   AND x.former_recording <> $2::uuid AND x.recording_uuid <> $2::uuid AND NOT EXISTS (SELECT 1 FROM earlier_places AS e \
                   WHERE e.part_id = x.id AND e.recording_uuid = $2::uuid)";
        tx.execute(sql, &[&part, &at.proof.recording]).await?;
    }
    Ok(())
}

/// A part has more segments than the torn copy of it that was met first.
pub async fn part_extend_on(tx: &Transaction<'_>, part: i64, to: &NewPart) -> Result<(), Error> {
    let sql =
        "UPDATE parts SET last_sequence = $2, end_tar_offset = $3, final_part = $4 WHERE id = $1";
    let rows = tx
        .execute(
            sql,
            &[&part, &to.last_sequence, &to.end_tar_offset, &to.final_part],
        )
        .await?;
    Error::expect_one(rows, "part")
}

/// Whether somebody who reads a part does so where it was before it was copied last: then it must not be copied once more.
pub async fn part_is_read_on(tx: &Transaction<'_>, part: i64) -> Result<bool, Error> {
    let sql = "SELECT EXISTS (SELECT 1 FROM parts AS x JOIN version_parts AS n ON n.part_id = x.id JOIN jobs AS j \
               ON j.line_id = n.line_id AND j.version = n.version WHERE x.id = $1 AND j.ended_at IS NULL \
               AND j.kind IN ('restore', 'feed') AND j.created_at < x.moved_at)";
    Ok(tx.query_one(sql, &[&part]).await?.get(0))
}

/// Forgets that nobody owns a tape file.
pub async fn orphan_forget_on(
    tx: &Transaction<'_>,
    recording: Uuid,
    tape_file: i64,
) -> Result<(), Error> {
    let sql = "DELETE FROM orphans WHERE recording_uuid = $1 AND tape_file = $2";
    tx.execute(sql, &[&recording, &tape_file]).await?;
    Ok(())
}

/// A recording holds so many bytes more.
pub async fn recording_grow_on(
    tx: &Transaction<'_>,
    recording: Uuid,
    bytes: i64,
) -> Result<(), Error> {
    let sql = "UPDATE volumes SET byte_count = byte_count + $2, freed_at = NULL, index_due = true, index_tries = 0 WHERE recording_uuid = $1";
    tx.execute(sql, &[&recording, &bytes]).await?;
    Ok(())
}

/// A recording was read again up to a tape file: versions that need something on it are not lost any more, if all that they need is on
/// a volume.
pub async fn version_found_again_on(
    tx: &Transaction<'_>,
    recording: Uuid,
    end: i64,
) -> Result<(), Error> {
    let sql = "UPDATE versions SET lost_reason = NULL WHERE lost_reason IS NOT NULL AND EXISTS (SELECT 1 FROM version_parts AS n \
               JOIN parts AS x ON x.id = n.part_id WHERE n.line_id = versions.line_id AND n.version = versions.version \
               AND x.recording_uuid = $1) AND NOT EXISTS (SELECT 1 FROM version_parts AS n JOIN parts AS x ON x.id = n.part_id \
               WHERE n.line_id = versions.line_id AND n.version = versions.version \
               AND (x.recording_uuid = $1 AND x.tape_file >= $2 OR NOT EXISTS \
               (SELECT 1 FROM volumes AS w WHERE w.recording_uuid = x.recording_uuid AND w.state <> 'unlabelled')))";
    tx.execute(sql, &[&recording, &end]).await?;
    Ok(())
}

/// The volumes of recordings: recording, barcode, and whether a connected library shows it where a robot takes it from.
pub async fn recording_places(
    client: &impl GenericClient,
    recordings: &[Uuid],
) -> Result<Vec<(Uuid, String, bool)>, Error> {
    let sql = "SELECT v.recording_uuid, v.barcode, EXISTS (SELECT 1 FROM elements AS e JOIN libraries AS l ON l.id = e.library_id \
               WHERE e.occupied AND e.barcode = v.barcode AND l.connected AND e.kind <> 'mail-slot') AS inside \
               FROM volumes AS v WHERE v.recording_uuid = ANY($1::uuid[]) ORDER BY v.barcode";
    let rows = client.query(sql, &[&recordings]).await?;
    Ok(rows
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect())
}

/// A part was found again: versions that need it are not lost any more, if all that they need is on a volume.
pub async fn version_found_on(tx: &Transaction<'_>, part: i64) -> Result<(), Error> {
    let sql = "UPDATE versions SET lost_reason = NULL WHERE lost_reason IS NOT NULL AND EXISTS (SELECT 1 FROM version_parts AS n \
               WHERE n.line_id = versions.line_id AND n.version = versions.version AND n.part_id = $1) \
               AND NOT EXISTS (SELECT 1 FROM version_parts AS n JOIN parts AS x ON x.id = n.part_id \
               WHERE n.line_id = versions.line_id AND n.version = versions.version AND NOT EXISTS \
               (SELECT 1 FROM volumes AS w WHERE w.recording_uuid = x.recording_uuid AND w.state <> 'unlabelled'))";
    tx.execute(sql, &[&part]).await?;
    Ok(())
}

/// A volume that was reclaimed is free from now on, and takes no more, so that nothing comes to live on it before it is written anew.
/// Nothing is done if something still lives on it.
pub async fn volume_reclaimed_on(
    tx: &Transaction<'_>,
    volume: i64,
    reason: &str,
) -> Result<(), Error> {
    let sql = format!(
        "UPDATE volumes SET state = CASE WHEN state = 'appendable' THEN 'full' ELSE state END, \
         state_reason = CASE WHEN state = 'appendable' THEN $2::varchar ELSE state_reason END, \
         freed_at = COALESCE(freed_at, clock_timestamp()) WHERE id = $1 \
         AND state IN ('appendable', 'full', 'read-only', 'quarantined') AND NOT EXISTS (SELECT 1 FROM parts AS x JOIN archives AS a ON a.id = x.archive_id WHERE x.recording_uuid = volumes.recording_uuid AND {LIVING})"
    );
    tx.execute(&sql, &[&volume, &clip(reason, 400)]).await?;
    Ok(())
}

/// The parts that were copied from a volume, are needed, and that nobody has read where they are now nor is about to, by volume.
pub async fn copies_unread_on(
    tx: &Transaction<'_>,
    volume: i64,
) -> Result<Vec<PartsOfVolume>, Error> {
    let sql = format!(
        "SELECT x.id, x.volume_id, v.barcode, x.byte_count FROM parts AS x JOIN archives AS a ON a.id = x.archive_id \
         JOIN volumes AS v ON v.id = x.volume_id JOIN volumes AS f ON f.recording_uuid = x.former_recording \
         WHERE f.id = $1 AND {LIVING} AND x.verified_at IS NULL AND v.recording_uuid = x.recording_uuid \
         AND NOT EXISTS (SELECT 1 FROM job_parts AS k JOIN jobs AS j ON j.id = k.job_id WHERE k.part_id = x.id \
         AND j.volume_id = x.volume_id AND j.ended_at IS NULL AND j.sample_seed IS NULL) ORDER BY x.volume_id, x.tape_file"
    );
    let rows = tx.query(&sql, &[&volume]).await?;
    Ok(verifications::by_volume(&rows))
}

/// The parts that a job is to verify and that are not on this recording any more: how many are on which volume, none if they are on none.
pub async fn job_parts_elsewhere(
    client: &impl GenericClient,
    job: i64,
    recording: Uuid,
) -> Result<Vec<(Option<String>, i64)>, Error> {
    let sql = "SELECT v.barcode, count(*) FROM job_parts AS k JOIN parts AS x ON x.id = k.part_id \
               LEFT JOIN volumes AS v ON v.recording_uuid = x.recording_uuid WHERE k.job_id = $1 AND x.recording_uuid <> $2 \
               GROUP BY v.barcode ORDER BY v.barcode";
    let rows = client.query(sql, &[&job, &recording]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}
