//! Versions: restorable states of a line, staged until they are published.

use jiff::Timestamp;
use tokio_postgres::Row;

use uuid::Uuid;

use taf_core::catalog::{Opening, Share};

use super::{Error, GenericClient, Transaction, clip};

/// A published version; or, where it is said, one that came back by a rebuild and is not whole.
#[derive(Debug, Clone)]
pub struct Version {
    /// Line.
    pub line_id: i64,
    /// Number within the line.
    pub version: i64,
    /// The version that resolution does not go below.
    pub floor: i64,
    /// How it was made, as stored.
    pub kind: String,
    /// The version that it was compared with, 0 for none.
    pub parent: i64,
    /// Plan's id in the API.
    pub plan: String,
    /// Source's id in the API.
    pub source: String,
    /// Row of the source's agent.
    pub agent_id: i64,
    /// The source's agent in the API.
    pub agent: String,
    /// Job that made it.
    pub job_id: i64,
    /// When the walk began.
    pub started_at: Timestamp,
    /// When it became readable; of one that is not whole, when its walk began.
    pub published_at: Timestamp,
    /// What it lacks; none if it is whole.
    pub incomplete_reason: Option<String>,
    /// When it came back by a rebuild.
    pub rebuilt_at: Option<Timestamp>,
    /// Its rank in a list; 0 out of one. See [`Order`].
    pub rank: i64,
    /// Files, further names included.
    pub file_count: i64,
    /// Directories.
    pub directory_count: i64,
    /// Apparent bytes, each inode once.
    pub byte_count: i64,
    /// Bytes on tape.
    pub stored_byte_count: i64,
    /// Issues of the attempt that made it.
    pub issue_count: i64,
    /// Why it can't be restored any more.
    pub lost_reason: Option<String>,
    /// When the part was verified whose verification is longest ago; none if one never was.
    pub verified_at: Option<Timestamp>,
    /// Parts that were damaged when they were verified last.
    pub damaged_parts: i64,
}

const SELECT: &str = "SELECT v.line_id, v.version, v.floor, p.plan_name, s.source_name, s.agent_id, a.agent_name, v.job_id, \
     v.started_at, COALESCE(v.published_at, v.started_at) AS published_at, v.file_count, v.directory_count, v.byte_count, v.stored_byte_count, v.issue_count, \
     v.lost_reason, \
     (SELECT CASE WHEN count(*) = count(x.verified_at) THEN min(x.verified_at) ELSE NULL END FROM version_parts AS n \
      JOIN parts AS x ON x.id = n.part_id WHERE n.line_id = v.line_id AND n.version = v.version) AS verified_at, \
     (SELECT count(x.damage) FROM version_parts AS n JOIN parts AS x ON x.id = n.part_id \
      WHERE n.line_id = v.line_id AND n.version = v.version) AS damaged_parts, v.kind, v.parent, v.rebuilt_at, v.incomplete_reason \
     FROM versions AS v JOIN lines AS l ON l.id = v.line_id JOIN plans AS p ON p.id = l.plan_id \
     JOIN sources AS s ON s.id = l.source_id JOIN agents AS a ON a.id = s.agent_id \
     WHERE v.version <= l.head AND v.expired_at IS NULL";

fn version(row: &Row) -> Version {
    Version {
        line_id: row.get(0),
        version: row.get(1),
        floor: row.get(2),
        kind: row.get(18),
        parent: row.get(19),
        rebuilt_at: row.get(20),
        incomplete_reason: row.get(21),
        rank: 0,
        plan: row.get(3),
        source: row.get(4),
        agent_id: row.get(5),
        agent: row.get(6),
        job_id: row.get(7),
        started_at: row.get(8),
        published_at: row.get(9),
        file_count: row.get(10),
        directory_count: row.get(11),
        byte_count: row.get(12),
        stored_byte_count: row.get(13),
        issue_count: row.get(14),
        lost_reason: row.get(15),
        verified_at: row.get(16),
        damaged_parts: row.get(17),
    }
}

/// Which versions are listed; nothing of it, all.
#[derive(Debug, Clone, Copy, Default)]
pub struct Filter<'a> {
    /// Of this plan.
    pub plan: Option<&'a str>,
    /// Of this type, as stored.
    pub kind: Option<&'a str>,
    /// Archives, or all others.
    pub archives: Option<bool>,
    /// With this tag.
    pub tag: Option<&'a str>,
    /// Begun then or later.
    pub since: Option<Timestamp>,
    /// Begun then or earlier.
    pub until: Option<Timestamp>,
    /// Also those that are not whole.
    pub incomplete: bool,
}

/// What orders versions in lists: rank, line and number. The rank is the newest job that made it, or one before it on its line: a version
/// that came back by a rebuild is no newer than one with a greater number, whichever job came first.
pub type Order = (i64, i64, i64);

const RANKED: &str = "SELECT line_id, version, max(job_id) OVER (PARTITION BY line_id ORDER BY version) AS newest_job FROM versions \
     WHERE state = 'published' OR incomplete_reason IS NOT NULL";

/// Versions below `before`, newest first.
pub async fn version_list(
    client: &impl GenericClient,
    before: Option<Order>,
    filter: Filter<'_>,
    limit: i64,
) -> Result<Vec<Version>, Error> {
    let sql = format!(
        "SELECT q.*, o.newest_job FROM ({SELECT} AND (v.state = 'published' OR $11::boolean AND v.incomplete_reason IS NOT NULL) AND ($2::varchar IS NULL OR p.plan_name = $2::varchar) \
         AND ($4::varchar IS NULL OR v.kind = $4::varchar) AND ($5::boolean IS NULL OR l.archives = $5::boolean) \
         AND ($6::timestamptz IS NULL OR v.started_at >= $6::timestamptz) \
         AND ($7::timestamptz IS NULL OR v.started_at <= $7::timestamptz) \
         AND ($8::varchar IS NULL OR EXISTS (SELECT 1 FROM version_tags AS g \
              WHERE g.line_id = v.line_id AND g.version = v.version AND g.tag = $8::varchar))) AS q \
         JOIN ({RANKED}) AS o ON o.line_id = q.line_id AND o.version = q.version \
         WHERE $1::bigint IS NULL OR o.newest_job < $1::bigint OR o.newest_job = $1::bigint AND (q.line_id < $9::bigint \
         OR q.line_id = $9::bigint AND q.version < $10::bigint) \
         ORDER BY o.newest_job DESC, q.line_id DESC, q.version DESC LIMIT $3::bigint"
    );
    let Filter {
        plan,
        kind,
        archives,
        tag,
        since,
        until,
        incomplete,
    } = filter;
    let rank = before.map(|(rank, _, _)| rank);
    let (_, line, number) = before.unwrap_or_default();
    Ok(client
        .query(
            &sql,
            &[
                &rank,
                &plan,
                &limit,
                &kind,
                &archives,
                &since,
                &until,
                &tag,
                &line,
                &number,
                &incomplete,
            ],
        )
        .await?
        .iter()
        .map(|row| Version {
            rank: row.get(22),
            ..version(row)
        })
        .collect())
}

/// One published version.
pub async fn version_get(
    client: &impl GenericClient,
    line: i64,
    number: i64,
) -> Result<Option<Version>, Error> {
    get(client, line, number, false).await
}

/// One version that is published, or not whole.
pub async fn version_look(
    client: &impl GenericClient,
    line: i64,
    number: i64,
) -> Result<Option<Version>, Error> {
    get(client, line, number, true).await
}

async fn get(
    client: &impl GenericClient,
    line: i64,
    number: i64,
    incomplete: bool,
) -> Result<Option<Version>, Error> {
    // Asked for with nearly every look into the catalog, and slower to plan than to answer.
    let sql = client
        .prepare_cached(&format!(
            "{SELECT} AND (v.state = 'published' OR $3::boolean AND v.incomplete_reason IS NOT NULL) AND v.line_id = $1 AND v.version = $2"
        ))
        .await?;
    Ok(client
        .query_opt(&sql, &[&line, &number, &incomplete])
        .await?
        .as_ref()
        .map(version))
}

/// The version that a published one does not resolve below, whether it has expired or not, as long as its rows are there.
pub async fn version_floor(
    client: &impl GenericClient,
    line: i64,
    number: i64,
) -> Result<Option<i64>, Error> {
    let sql = "SELECT floor FROM versions WHERE line_id = $1 AND version = $2 AND state = 'published' AND NOT pages_gone";
    let row = client.query_opt(sql, &[&line, &number]).await?;
    Ok(row.map(|row| row.get(0)))
}

/// Stages a version.
pub async fn version_open_on(
    tx: &Transaction<'_>,
    line: i64,
    opening: &Opening,
    job: i64,
) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO versions (line_id, version, state, kind, parent, floor, job_id, started_at) \
         VALUES ($1, $2, 'staged', $3, $4, $5, $6, clock_timestamp())",
        &[
            &line,
            &opening.version,
            &opening.kind.name(),
            &opening.parent,
            &opening.floor,
            &job,
        ],
    )
    .await?;
    Ok(())
}

/// A staged version goes on with another job.
pub async fn version_resume_on(
    tx: &Transaction<'_>,
    line: i64,
    number: i64,
    job: i64,
) -> Result<(), Error> {
    let rows = tx
        .execute(
            "UPDATE versions SET job_id = $3, started_at = clock_timestamp(), needs = NULL \
             WHERE line_id = $1 AND version = $2 AND state = 'staged'",
            &[&line, &number, &job],
        )
        .await?;
    Error::expect_one(rows, "version")
}

/// How a staged version is made.
#[derive(Debug, Clone)]
pub struct StagedRow {
    /// As stored.
    pub kind: String,
    /// The version that it is compared with, 0 for none.
    pub parent: i64,
    /// The version that resolution does not go below.
    pub floor: i64,
}

/// A staged version.
pub async fn version_staged(
    client: &impl GenericClient,
    line: i64,
    number: i64,
) -> Result<Option<StagedRow>, Error> {
    let sql = "SELECT kind, parent, floor FROM versions WHERE line_id = $1 AND version = $2 AND state = 'staged'";
    let row = client.query_opt(sql, &[&line, &number]).await?;
    Ok(row.map(|row| StagedRow {
        kind: row.get(0),
        parent: row.get(1),
        floor: row.get(2),
    }))
}

/// Removes the staged version that a failed attempt left under this number, with its pages.
pub async fn version_clear_on(tx: &Transaction<'_>, line: i64, number: i64) -> Result<(), Error> {
    tx.execute(
        "DELETE FROM pages WHERE line_id = $1 AND version = $2 \
         AND version > (SELECT l.head FROM lines AS l WHERE l.id = $1)",
        &[&line, &number],
    )
    .await?;
    tx.execute(
        "DELETE FROM versions WHERE line_id = $1 AND version = $2 AND state = 'staged'",
        &[&line, &number],
    )
    .await?;
    Ok(())
}

/// What a published version counts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Files.
    pub files: i64,
    /// Directories.
    pub directories: i64,
    /// Apparent bytes.
    pub bytes: i64,
    /// Bytes on tape.
    pub stored_bytes: i64,
}

/// Makes a staged version readable.
pub async fn version_publish_on(
    tx: &Transaction<'_>,
    line: i64,
    number: i64,
    counts: &Counts,
) -> Result<(), Error> {
    let rows = tx
        .execute(
            "UPDATE versions SET state = 'published', published_at = clock_timestamp(), file_count = $3, directory_count = $4, \
             byte_count = $5, stored_byte_count = $6, issue_count = (SELECT count(*) FROM issues AS i JOIN attempts AS t \
             ON t.id = i.attempt_id WHERE t.job_id = versions.job_id) \
             WHERE line_id = $1 AND version = $2 AND state = 'staged'",
            &[&line, &number, &counts.files, &counts.directories, &counts.bytes, &counts.stored_bytes],
        )
        .await?;
    Error::expect_one(rows, "version")
}

/// Mirrors of a line before this version that have not expired.
pub async fn version_list_mirrors_on(
    tx: &Transaction<'_>,
    line: i64,
    before: i64,
) -> Result<Vec<i64>, Error> {
    let sql = "SELECT version FROM versions WHERE line_id = $1 AND version < $2 AND kind = 'mirror' AND state = 'published' \
               AND expired_at IS NULL ORDER BY version";
    let rows = tx.query(sql, &[&line, &before]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// How much of what a published version's archives hold still belongs to it, and how much its plan demands; none if that was not
/// counted.
pub async fn version_share(
    client: &impl GenericClient,
    line: i64,
    number: i64,
) -> Result<Option<Share>, Error> {
    let sql = "SELECT v.living_tar_bytes, (SELECT COALESCE(sum(x.end_tar_offset - x.first_tar_offset), 0)::bigint \
               FROM version_parts AS n JOIN parts AS x ON x.id = n.part_id WHERE n.line_id = v.line_id AND n.version = v.version) \
               AS held, p.mirror_living_percent FROM versions AS v JOIN lines AS l ON l.id = v.line_id JOIN plans AS p ON p.id = l.plan_id \
               WHERE v.line_id = $1 AND v.version = $2 AND v.state = 'published'";
    let row = client.query_opt(sql, &[&line, &number]).await?;
    Ok(row.and_then(|row| {
        let living: Option<i64> = row.get(0);
        living.map(|living| Share {
            living: living as u64,
            held: row.get::<_, i64>(1) as u64,
            least_percent: row.get::<_, i32>(2) as u32,
        })
    }))
}

/// Says which parts a version needs that is published in this transaction: all of its own, and these of earlier ones, each by
/// ordinal of the archive and number.
pub async fn version_parts_add_on(
    tx: &Transaction<'_>,
    line: i64,
    number: i64,
    needed: &[(i32, i32)],
) -> Result<(), Error> {
    let ordinals: Vec<i32> = needed.iter().map(|(ordinal, _)| *ordinal).collect();
    let numbers: Vec<i32> = needed.iter().map(|(_, number)| *number).collect();
    tx.execute(
        "INSERT INTO version_parts (line_id, version, part_id) SELECT $1::bigint, $2::bigint, x.id \
         FROM archives AS a JOIN parts AS x ON x.archive_id = a.id WHERE a.line_id = $1 AND a.state IN ('published', 'closed') \
         AND (a.version = $2 OR EXISTS (SELECT 1 FROM \
              (SELECT unnest($3::integer[]) AS ordinal, unnest($4::integer[]) AS part_number) AS k \
              WHERE k.ordinal = a.ordinal AND k.part_number = x.part_number))",
        &[&line, &number, &ordinals, &numbers],
    )
    .await?;
    Ok(())
}

/// Versions that need parts of this recording can't be restored any more.
pub async fn version_lost_on(
    tx: &Transaction<'_>,
    recording: Uuid,
    reason: &str,
) -> Result<(), Error> {
    tx.execute(
        "UPDATE versions SET lost_reason = $2 WHERE state = 'published' AND lost_reason IS NULL AND EXISTS \
         (SELECT 1 FROM parts x JOIN version_parts n ON n.part_id = x.id \
          WHERE x.recording_uuid = $1 AND n.line_id = versions.line_id AND n.version = versions.version)",
        &[&recording, &clip(reason, 400)],
    )
    .await?;
    Ok(())
}

/// Marks a version of which a part's recording is no more. Whether it is so.
pub async fn version_lost_meanwhile_on(
    tx: &Transaction<'_>,
    line: i64,
    version: i64,
    reason: &str,
) -> Result<bool, Error> {
    let rows = tx
        .execute(
            "UPDATE versions SET lost_reason = $3 WHERE line_id = $1 AND version = $2 AND lost_reason IS NULL AND EXISTS \
             (SELECT 1 FROM version_parts n JOIN parts x ON x.id = n.part_id WHERE n.line_id = $1 AND n.version = $2 AND NOT EXISTS \
              (SELECT 1 FROM volumes w WHERE w.recording_uuid = x.recording_uuid AND w.state <> 'unlabelled'))",
            &[&line, &version, &clip(reason, 400)],
        )
        .await?;
    Ok(rows > 0)
}
