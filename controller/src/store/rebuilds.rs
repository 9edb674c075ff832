//! What comes back into the catalog from cartridges: volumes, lines, archives, rows and versions that it does not have.
//!
//! All of it may come twice, and in any order.

use jiff::Timestamp;
use uuid::Uuid;

use super::archives::{self, Archive};
use super::pages::{self, Columns, NewPage};
use super::{Error, GenericClient, Transaction, partials, reuse};

/// A cartridge as its label tells.
#[derive(Debug, Clone)]
pub struct Labelled<'a> {
    /// Barcode.
    pub barcode: &'a str,
    /// The cartridge.
    pub volume: Uuid,
    /// What is recorded on it.
    pub recording: Uuid,
    /// Name of its pool.
    pub pool: &'a str,
    /// Size of its blocks.
    pub block_size: i32,
    /// When it was labelled.
    pub labelled_at: Timestamp,
    /// The cartridge's own serial number, if it tells.
    pub medium_serial: Option<&'a str>,
}

/// Adds a volume that the catalog does not know, to be inspected before it is written, and its pool if there is none of the name. False
/// if the barcode, the volume or the recording is there already, as whatever.
pub async fn volume_rebuild_on(tx: &Transaction<'_>, label: &Labelled<'_>) -> Result<bool, Error> {
    tx.execute(
        "INSERT INTO pools (pool_name, block_size, part_size, created_at) \
         SELECT $1::varchar, $2::integer, 17179869184, clock_timestamp() \
         WHERE NOT EXISTS (SELECT 1 FROM pools WHERE pool_name = $1::varchar)",
        &[&label.pool, &label.block_size],
    )
    .await?;
    // A cartridge that was about to be labelled, as far as the catalog knows, and has been.
    tx.execute(
        "UPDATE volumes SET state = 'appendable', state_reason = NULL, volume_uuid = $2, recording_uuid = $3, \
         pool_id = (SELECT p.id FROM pools AS p WHERE p.pool_name = $4), block_size = $5, next_tape_file = 1, next_block = 1, \
         labelled_at = $6, suspect_since = clock_timestamp(), former_recording = NULL, former_end = NULL \
         WHERE barcode = $1 AND state IN ('unlabelled', 'labelling') AND NOT EXISTS (SELECT 1 FROM volumes AS o \
         WHERE o.barcode <> $1 AND (o.recording_uuid = $3 OR o.volume_uuid = $2)) AND NOT EXISTS (SELECT 1 FROM jobs AS j \
         WHERE j.ended_at IS NULL AND j.kind IN ('label', 'erase', 'format') AND (j.volume_id = volumes.id OR j.cartridge = $1))",
        &[
            &label.barcode,
            &label.volume,
            &label.recording,
            &label.pool,
            &label.block_size,
            &label.labelled_at,
        ],
    )
    .await?;
    let made = tx
        .execute(
            "INSERT INTO volumes (barcode, volume_uuid, pool_id, state, recording_uuid, block_size, next_tape_file, \
             next_block, labelled_at, medium_serial, created_at, suspect_since) \
             SELECT $1::varchar, $2::uuid, p.id, 'appendable', $3::uuid, $5::integer, 1, 1, $6::timestamptz, $7::varchar, \
             clock_timestamp(), clock_timestamp() FROM pools AS p WHERE p.pool_name = $4::varchar AND NOT EXISTS (SELECT 1 FROM volumes \
             WHERE barcode = $1::varchar OR volume_uuid = $2::uuid OR recording_uuid = $3::uuid)",
            &[
                &label.barcode,
                &label.volume,
                &label.recording,
                &label.pool,
                &label.block_size,
                &label.labelled_at,
                &label.medium_serial,
            ],
        )
        .await?;
    Ok(made == 1)
}

/// Moves the end of a recording to where it is on tape, if the catalog has it before that.
pub async fn recording_reach_on(
    tx: &Transaction<'_>,
    recording: Uuid,
    next_tape_file: i64,
    next_block: i64,
) -> Result<(), Error> {
    tx.execute(
        "UPDATE volumes SET next_tape_file = $2, next_block = $3, index_due = true, index_tries = 0, freed_at = NULL, \
         byte_count = ((SELECT COALESCE(sum(x.byte_count), 0) FROM parts AS x WHERE x.recording_uuid = $1) \
         + (SELECT COALESCE(sum(i.byte_count), 0) FROM volume_indexes AS i WHERE i.recording_uuid = $1))::bigint \
         WHERE recording_uuid = $1 AND next_tape_file < $2",
        &[&recording, &next_tape_file, &next_block],
    )
    .await?;
    Ok(())
}

/// Whether the catalog knows whose a tape file is.
pub async fn tape_file_is_known_on(
    tx: &Transaction<'_>,
    recording: Uuid,
    tape_file: i64,
) -> Result<bool, Error> {
    let sql = "SELECT EXISTS (SELECT 1 FROM parts WHERE recording_uuid = $1 AND tape_file = $2) \
               OR EXISTS (SELECT 1 FROM orphans WHERE recording_uuid = $1 AND tape_file = $2) \
               OR EXISTS (SELECT 1 FROM volume_indexes WHERE recording_uuid = $1 AND tape_file = $2)";
    Ok(tx.query_one(sql, &[&recording, &tape_file]).await?.get(0))
}

/// The line of this name on tape, held until the transaction ends; it is made if there is none, and belongs to nobody then.
pub async fn line_rebuild_on(tx: &Transaction<'_>, uuid: Uuid) -> Result<i64, Error> {
    tx.execute(
        "INSERT INTO lines (line_uuid, archives) SELECT $1::uuid, NULL::boolean WHERE NOT EXISTS (SELECT 1 FROM lines WHERE line_uuid = $1::uuid)",
        &[&uuid],
    )
    .await?;
    let row = tx
        .query_opt(
            "SELECT id FROM lines WHERE line_uuid = $1 FOR UPDATE",
            &[&uuid],
        )
        .await?;
    Ok(row.ok_or(Error::Stale("line"))?.get(0))
}

/// Whose a line is, as its closing record tells.
#[derive(Debug, Clone)]
pub struct Owner<'a> {
    /// Plan.
    pub plan: &'a str,
    /// Source.
    pub source: &'a str,
    /// Source agent.
    pub agent: &'a str,
    /// Encoded paths of the source.
    pub paths: &'a [u8],
    /// Whether it stays on one file system.
    pub one_file_system: bool,
    /// Whether it is the line of the plan's archives.
    pub archives: bool,
}

/// Gives a line that belongs to nobody to its plan and source, which are made if they are not there: as removed ones, since a closing
/// record does not tell all that they select. Whoever makes them again takes the line up. An empty line that they have already gives
/// way. False if they have another one with versions.
pub async fn line_own_on(
    tx: &Transaction<'_>,
    line: i64,
    owner: &Owner<'_>,
) -> Result<bool, Error> {
    tx.execute(
        "INSERT INTO agents (agent_name, role) SELECT $1::varchar, 'source-agent' \
         WHERE NOT EXISTS (SELECT 1 FROM agents WHERE agent_name = $1::varchar)",
        &[&owner.agent],
    )
    .await?;
    tx.execute(
        "INSERT INTO sources (source_name, agent_id, paths, one_file_system, created_at, deleted_at) \
         SELECT $1::varchar, a.id, $3::bytea, $4::boolean, clock_timestamp(), clock_timestamp() FROM agents AS a \
         WHERE a.agent_name = $2::varchar AND NOT EXISTS (SELECT 1 FROM sources WHERE source_name = $1::varchar)",
        &[&owner.source, &owner.agent, &owner.paths, &owner.one_file_system],
    )
    .await?;
    tx.execute(
        "INSERT INTO plans (plan_name, source_id, pool_id, compression_level, compression_threads, created_at, deleted_at) \
         SELECT $1::varchar, s.id, (SELECT min(o.id) FROM pools AS o), 3, 0, clock_timestamp(), clock_timestamp() FROM sources AS s \
         WHERE s.source_name = $2::varchar AND NOT EXISTS (SELECT 1 FROM plans WHERE plan_name = $1::varchar)",
        &[&owner.plan, &owner.source],
    )
    .await?;
    // One that was made with the plan and never used.
    tx.execute(
        "DELETE FROM lines WHERE head = 0 AND id <> $1 AND archives = $4 AND plan_id = (SELECT id FROM plans WHERE plan_name = $2) \
         AND source_id = (SELECT id FROM sources WHERE source_name = $3) \
         AND NOT EXISTS (SELECT 1 FROM archives AS a WHERE a.line_id = lines.id) \
         AND NOT EXISTS (SELECT 1 FROM versions AS v WHERE v.line_id = lines.id) \
         AND NOT EXISTS (SELECT 1 FROM jobs AS j WHERE j.line_id = lines.id)",
        &[&line, &owner.plan, &owner.source, &owner.archives],
    )
    .await?;
    let owned = tx
        .execute(
            "UPDATE lines SET plan_id = p.id, source_id = s.id, archives = $4::boolean FROM plans AS p, sources AS s \
             WHERE lines.id = $1 AND lines.plan_id IS NULL AND p.plan_name = $2 AND s.source_name = $3 AND NOT EXISTS \
             (SELECT 1 FROM lines AS l WHERE l.plan_id = p.id AND l.source_id = s.id AND l.archives = $4::boolean)",
            &[&line, &owner.plan, &owner.source, &owner.archives],
        )
        .await?;
    if owned == 1 {
        return Ok(true);
    }
    let row = tx
        .query_one(
            "SELECT plan_id IS NOT NULL FROM lines WHERE id = $1",
            &[&line],
        )
        .await?;
    Ok(row.get(0))
}

/// An ordinal that is on a cartridge is never given again.
pub async fn line_ordinal_on(tx: &Transaction<'_>, line: i64, ordinal: i32) -> Result<(), Error> {
    let sql = "UPDATE lines SET next_ordinal = $2::integer + 1 WHERE id = $1 AND next_ordinal <= $2::integer";
    tx.execute(sql, &[&line, &ordinal]).await?;
    Ok(())
}

/// What is known of a version: its closing record, none in it if it has none.
pub async fn version_closing_on(
    tx: &Transaction<'_>,
    line: i64,
    version: i64,
) -> Result<Option<Option<Vec<u8>>>, Error> {
    let sql = "SELECT closing FROM versions WHERE line_id = $1 AND version = $2 AND (state = 'published' OR rebuilt_at IS NOT NULL)";
    let row = tx.query_opt(sql, &[&line, &version]).await?;
    Ok(row.map(|row| row.get(0)))
}

/// Whether a version has this closing record, and not one of another version that was given its number.
pub async fn version_is_closed_by(
    client: &impl GenericClient,
    line: i64,
    version: i64,
    closing: &[u8],
) -> Result<bool, Error> {
    let sql = "SELECT EXISTS (SELECT 1 FROM versions WHERE line_id = $1 AND version = $2 AND closing = $3)";
    let row = client.query_one(sql, &[&line, &version, &closing]).await?;
    Ok(row.get(0))
}

/// Whether a version is readable.
pub async fn version_is_published_on(
    tx: &Transaction<'_>,
    line: i64,
    version: i64,
) -> Result<bool, Error> {
    let sql = "SELECT EXISTS (SELECT 1 FROM versions WHERE line_id = $1 AND version = $2 AND state = 'published')";
    Ok(tx.query_one(sql, &[&line, &version]).await?.get(0))
}

/// Whether a version was begun here that can be gone on with: the next one of its line.
pub async fn version_is_begun_on(
    tx: &Transaction<'_>,
    line: i64,
    version: i64,
) -> Result<bool, Error> {
    let sql = "SELECT EXISTS (SELECT 1 FROM versions AS v JOIN lines AS l ON l.id = v.line_id WHERE v.line_id = $1 AND v.version = $2 \
               AND v.state = 'staged' AND v.rebuilt_at IS NULL AND v.version > l.head)";
    Ok(tx.query_one(sql, &[&line, &version]).await?.get(0))
}

/// The version that an attempt at work fills, if its number is this one or lower: it could not be published any more once this one is known.
pub async fn version_filled_upto_on(
    tx: &Transaction<'_>,
    line: i64,
    version: i64,
) -> Result<Option<i64>, Error> {
    let sql = "SELECT min(a.version) AS filled FROM archives AS a JOIN attempts AS t ON t.id = a.attempt_id JOIN jobs AS j ON j.id = t.job_id \
               WHERE a.line_id = $1 AND a.version <= $2 AND a.state = 'staged' AND t.ended_at IS NULL AND j.kind = 'backup'";
    Ok(tx.query_one(sql, &[&line, &version]).await?.get(0))
}

/// Whether an attempt that is at work was given a cartridge to take in.
pub async fn cartridge_is_given(
    client: &impl GenericClient,
    attempt: i64,
    cartridge: &str,
) -> Result<bool, Error> {
    let sql = "SELECT EXISTS (SELECT 1 FROM attempt_volumes AS v JOIN attempts AS t ON t.id = v.attempt_id \
               JOIN jobs AS j ON j.id = t.job_id WHERE t.id = $1 AND t.ended_at IS NULL AND j.kind = 'rescan' AND v.held \
               AND v.cartridge = $2)";
    Ok(client.query_one(sql, &[&attempt, &cartridge]).await?.get(0))
}

/// An archive that was met on a cartridge; one that the catalog does not have is made, in this state, and takes no parts but such. None
/// if the line has another one under its ordinal.
pub async fn archive_rebuild_on(
    tx: &Transaction<'_>,
    uuid: Uuid,
    line: i64,
    ordinal: i32,
    version: i64,
    attempt: i64,
    state: &str,
) -> Result<Option<Archive>, Error> {
    tx.execute(
        "INSERT INTO archives (archive_uuid, line_id, ordinal, version, attempt_id, state) \
         SELECT $1::uuid, $2::bigint, $3::integer, $4::bigint, $5::bigint, $6::varchar \
         WHERE NOT EXISTS (SELECT 1 FROM archives WHERE archive_uuid = $1::uuid OR (line_id = $2::bigint AND ordinal = $3::integer))",
        &[&uuid, &line, &ordinal, &version, &attempt, &state],
    )
    .await?;
    line_ordinal_on(tx, line, ordinal).await?;
    let found = archives::archive_get(tx, uuid).await?;
    Ok(found.filter(|a| (a.line_id, a.ordinal, a.version) == (line, ordinal, version)))
}

/// Adds rows of a part, in whichever order parts come: for one key and version the higher ordinal counts.
pub async fn page_rebuild_on(
    tx: &Transaction<'_>,
    line: i64,
    version: i64,
    (archive_ordinal, part_number): (i32, i32),
    rows: &[NewPage],
) -> Result<(), Error> {
    let Columns {
        chunks,
        bodies,
        hashes,
    } = Columns::of(rows);
    pages::page_supersede_on(tx, line, version, archive_ordinal, rows).await?;
    let sql = tx
        .prepare_cached(
            "INSERT INTO pages (line_id, chunk, version, archive_ordinal, part_number, body, hashes) \
             SELECT $1::bigint, u.chunk, $3::bigint, $4::integer, $5::integer, u.body, u.hashes FROM \
             (SELECT unnest($2::bytea[]) AS chunk, unnest($6::bytea[]) AS body, unnest($7::bytea[]) AS hashes) AS u \
             WHERE NOT EXISTS (SELECT 1 FROM pages AS p WHERE p.line_id = $1::bigint AND p.chunk = u.chunk AND p.version = $3::bigint)",
        )
        .await?;
    tx.execute(
        &sql,
        &[
            &line,
            &chunks,
            &version,
            &archive_ordinal,
            &part_number,
            &bodies,
            &hashes,
        ],
    )
    .await?;
    Ok(())
}

/// Keeps a closing record that the catalog does not have, as a version that is not readable yet. `closing` is none for a version that
/// had nothing of its own. False if the version is there already, made here or taken in before.
pub async fn version_rebuild_on(
    tx: &Transaction<'_>,
    line: i64,
    new: &Rebuilt<'_>,
    job: i64,
) -> Result<bool, Error> {
    let made = tx
        .execute(
            "INSERT INTO versions (line_id, version, state, kind, parent, floor, job_id, started_at, closing, rebuilt_at, \
             incomplete_reason) SELECT $1::bigint, $2::bigint, 'staged', $3::varchar, $4::bigint, $5::bigint, $6::bigint, \
             $7::timestamptz, $8::bytea, clock_timestamp(), 'it was not looked at yet' \
             WHERE NOT EXISTS (SELECT 1 FROM versions WHERE line_id = $1::bigint AND version = $2::bigint)",
            &[
                &line,
                &new.version,
                &new.kind,
                &new.parent,
                &new.floor,
                &job,
                &new.started_at,
                &new.closing,
            ],
        )
        .await?;
    // What a run had begun under the number, when the catalog was older, or has left.
    tx.execute(
        "UPDATE versions SET kind = $3, parent = $4, floor = $5, job_id = $6, started_at = $7, closing = $8, needs = NULL, \
         rebuilt_at = clock_timestamp(), incomplete_reason = 'it was not looked at yet' \
         WHERE line_id = $1 AND version = $2 AND state = 'staged' AND rebuilt_at IS NULL",
        &[
            &line,
            &new.version,
            &new.kind,
            &new.parent,
            &new.floor,
            &job,
            &new.started_at,
            &new.closing,
        ],
    )
    .await?;
    // One that was known only from a later record, which does not tell all that its own does.
    tx.execute(
        "UPDATE versions SET kind = $3, parent = $4, floor = $5, started_at = $6, closing = COALESCE(closing, $7::bytea) \
         WHERE line_id = $1 AND version = $2 AND rebuilt_at IS NOT NULL AND $7::bytea IS NOT NULL AND (closing IS NULL OR incomplete_reason IS NOT NULL)",
        &[
            &line,
            &new.version,
            &new.kind,
            &new.parent,
            &new.floor,
            &new.started_at,
            &new.closing,
        ],
    )
    .await?;
    // Its number is never given again.
    tx.execute(
        "UPDATE lines SET head = $2 WHERE id = $1 AND head < $2",
        &[&line, &new.version],
    )
    .await?;
    Ok(made == 1)
}

/// See [`version_rebuild_on`].
#[derive(Debug, Clone)]
pub struct Rebuilt<'a> {
    /// Number.
    pub version: i64,
    /// Kind, as stored.
    pub kind: &'a str,
    /// The version that it was compared with, 0 for none.
    pub parent: i64,
    /// The version that it does not resolve below.
    pub floor: i64,
    /// When its walk began.
    pub started_at: Timestamp,
    /// Encoded record.
    pub closing: Option<&'a [u8]>,
}

/// A version that came back and is not readable yet.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// Number.
    pub version: i64,
    /// The version that it was compared with.
    pub parent: i64,
    /// The version that it does not resolve below.
    pub floor: i64,
    /// Encoded closing record; none if it had nothing of its own.
    pub closing: Option<Vec<u8>>,
}

/// The numbers of those of a line, in order.
pub async fn version_list_waiting_on(tx: &Transaction<'_>, line: i64) -> Result<Vec<i64>, Error> {
    let sql = "SELECT version FROM versions WHERE line_id = $1 AND incomplete_reason IS NOT NULL AND expired_at IS NULL \
               ORDER BY version";
    let rows = tx.query(sql, &[&line]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// One of them; none if it is not any more.
pub async fn version_waiting_on(
    tx: &Transaction<'_>,
    line: i64,
    version: i64,
) -> Result<Option<Waiting>, Error> {
    let sql = "SELECT parent, floor, closing FROM versions WHERE line_id = $1 AND version = $2 AND incomplete_reason IS NOT NULL \
               AND expired_at IS NULL";
    let row = tx.query_opt(sql, &[&line, &version]).await?;
    Ok(row.map(|row| Waiting {
        version,
        parent: row.get(0),
        floor: row.get(1),
        closing: row.get(2),
    }))
}

/// Archives of a version count whose parts its closing record lists, each by ordinal and number; what else was met under its number holds
/// room on tape and nothing else.
pub async fn archive_list_on(
    tx: &Transaction<'_>,
    line: i64,
    version: i64,
    listed: &[(i32, i32)],
) -> Result<(), Error> {
    let (ordinals, numbers): (Vec<i32>, Vec<i32>) = listed.iter().copied().unzip();
    let sql = "DELETE FROM pages WHERE line_id = $1 AND version = $2 AND NOT EXISTS \
               (SELECT 1 FROM (SELECT unnest($3::integer[]) AS ordinal, unnest($4::integer[]) AS part_number) AS k \
               WHERE k.ordinal = pages.archive_ordinal AND k.part_number = pages.part_number)";
    tx.execute(sql, &[&line, &version, &ordinals, &numbers])
        .await?;
    // One that an attempt had begun, as far as an older catalog knew, is among those that are listed.
    let sql = "UPDATE archives SET state = CASE WHEN ordinal = ANY($3::integer[]) THEN 'closed' ELSE 'abandoned' END \
               WHERE line_id = $1 AND version = $2 AND state IN ('staged', 'closed')";
    tx.execute(sql, &[&line, &version, &ordinals]).await?;
    Ok(())
}

/// Says which of the parts that a version needs are there, so that they stay, whether it is whole or not.
pub async fn version_parts_hold_on(
    tx: &Transaction<'_>,
    line: i64,
    version: i64,
    needed: &[(i32, i32)],
) -> Result<(), Error> {
    reuse::part_volumes_stay_on(tx, line, needed).await?;
    let ordinals: Vec<i32> = needed.iter().map(|(ordinal, _)| *ordinal).collect();
    let numbers: Vec<i32> = needed.iter().map(|(_, number)| *number).collect();
    tx.execute(
        "INSERT INTO version_parts (line_id, version, part_id) SELECT $1::bigint, $2::bigint, x.id FROM \
         (SELECT unnest($3::integer[]) AS ordinal, unnest($4::integer[]) AS part_number) AS k \
         JOIN archives AS a ON a.line_id = $1::bigint AND a.ordinal = k.ordinal \
         JOIN parts AS x ON x.archive_id = a.id AND x.part_number = k.part_number WHERE NOT EXISTS \
         (SELECT 1 FROM version_parts AS n WHERE n.line_id = $1::bigint AND n.version = $2::bigint AND n.part_id = x.id)",
        &[&line, &version, &ordinals, &numbers],
    )
    .await?;
    Ok(())
}

/// The archives of what a version needs are of versions that are read: but for those of a version of which no record tells yet, which hold
/// all that was met of it, since that may be needed.
pub async fn archive_need_on(
    tx: &Transaction<'_>,
    line: i64,
    ordinals: &[i32],
) -> Result<(), Error> {
    tx.execute(
        "UPDATE archives SET state = 'published' WHERE line_id = $1 AND ordinal = ANY($2::integer[]) AND state = 'closed' \
         AND EXISTS (SELECT 1 FROM versions AS v WHERE v.line_id = archives.line_id AND v.version = archives.version)",
        &[&line, &ordinals],
    )
    .await?;
    Ok(())
}

/// What a version is that is readable from now on.
#[derive(Debug, Clone, Copy)]
pub struct Published {
    /// When it became readable the first time.
    pub published_at: Timestamp,
    /// Files, directories, apparent bytes, bytes on tape, issues.
    pub counts: [i64; 5],
    /// Bytes of tar that belong to it.
    pub living_tar_bytes: Option<i64>,
}

/// Makes a version readable that is whole.
pub async fn version_complete_on(
    tx: &Transaction<'_>,
    line: i64,
    version: i64,
    of: &Published,
) -> Result<(), Error> {
    let [files, directories, bytes, stored, issues] = of.counts;
    let rows = tx
        .execute(
            "UPDATE versions SET state = 'published', published_at = $3, file_count = $4, directory_count = $5, byte_count = $6, \
             stored_byte_count = $7, issue_count = $8, living_tar_bytes = $9, incomplete_reason = NULL, certain_version = NULL, \
             certain_ordinal = NULL \
             WHERE line_id = $1 AND version = $2 AND incomplete_reason IS NOT NULL",
            &[
                &line,
                &version,
                &of.published_at,
                &files,
                &directories,
                &bytes,
                &stored,
                &issues,
                &of.living_tar_bytes,
            ],
        )
        .await?;
    Error::expect_one(rows, "version")
}

/// A version that had nothing of its own is what the one before it is. False if that is not readable.
pub async fn version_complete_as_on(
    tx: &Transaction<'_>,
    line: i64,
    version: i64,
    before: i64,
) -> Result<bool, Error> {
    let rows = tx
        .execute(
            "UPDATE versions SET state = 'published', published_at = versions.started_at, floor = b.floor, file_count = b.file_count, \
             directory_count = b.directory_count, byte_count = b.byte_count, living_tar_bytes = b.living_tar_bytes, \
             lost_reason = b.lost_reason, incomplete_reason = NULL, certain_version = NULL, certain_ordinal = NULL FROM versions AS b WHERE versions.line_id = $1 AND versions.version = $2 \
             AND versions.incomplete_reason IS NOT NULL AND b.line_id = $1 AND b.version = $3 AND b.state = 'published' AND NOT b.pages_gone",
            &[&line, &version, &before],
        )
        .await?;
    if rows == 0 {
        return Ok(false);
    }
    partials::version_parts_hold_as_on(tx, line, version, before).await?;
    Ok(true)
}
