//! What decides how long versions are kept: rules of plans, tags, holds and locks.

use jiff::Timestamp;

use super::{Error, GenericClient, Transaction, clip};

/// A kept version, as far as its retention goes.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Number.
    pub version: i64,
    /// How it was made, as stored.
    pub kind: String,
    /// When it was begun.
    pub started_at: Timestamp,
    /// Whether a volume that it needs was erased.
    pub lost: bool,
    /// Whether a part that it needs was damaged when it was verified last, or is on a volume that can't be trusted to be there.
    pub damaged: bool,
    /// Why it is held.
    pub hold_reason: Option<String>,
    /// Nobody may let it expire before.
    pub locked_until: Option<Timestamp>,
    /// Until when it is kept at the least, as of the last look.
    pub keep_until: Option<Timestamp>,
    /// Its tags, in order.
    pub tags: Vec<String>,
}

/// The kept versions of a line, in order.
pub async fn version_list_kept(client: &impl GenericClient, line: i64) -> Result<Vec<Kept>, Error> {
    let sql = "SELECT v.version, v.kind, v.started_at, v.lost_reason IS NOT NULL AS lost, EXISTS (SELECT 1 FROM version_parts AS n \
               JOIN parts AS x ON x.id = n.part_id JOIN volumes AS w ON w.id = x.volume_id WHERE n.line_id = v.line_id \
               AND n.version = v.version AND (x.damage IS NOT NULL OR w.state = 'quarantined' \
               OR w.recording_uuid <> x.recording_uuid)) AS damaged, v.hold_reason, v.locked_until, v.keep_until \
               FROM versions AS v WHERE v.line_id = $1 AND v.state = 'published' AND v.expired_at IS NULL ORDER BY v.version";
    let rows = client.query(sql, &[&line]).await?;
    let sql = "SELECT version, tag FROM version_tags WHERE line_id = $1 ORDER BY version, tag";
    let tags = client.query(sql, &[&line]).await?;
    let kept = |row: &tokio_postgres::Row| {
        let version: i64 = row.get(0);
        let own = tags.iter().filter(|tag| tag.get::<_, i64>(0) == version);
        Kept {
            version,
            kind: row.get(1),
            started_at: row.get(2),
            lost: row.get(3),
            damaged: row.get(4),
            hold_reason: row.get(5),
            locked_until: row.get(6),
            keep_until: row.get(7),
            tags: own.map(|tag| tag.get(1)).collect(),
        }
    };
    Ok(rows.iter().map(kept).collect())
}

/// A line with the rules of its plan.
#[derive(Debug, Clone)]
pub struct RuledLine {
    /// Line.
    pub id: i64,
    /// Its newest version.
    pub head: i64,
    /// Encoded `taf.v1.Retention`; empty for none.
    pub retention: Vec<u8>,
    /// The plan's, which changes with every change of it.
    pub revision: i64,
}

fn ruled(row: &tokio_postgres::Row) -> RuledLine {
    RuledLine {
        id: row.get(0),
        head: row.get(1),
        retention: row.get(2),
        revision: row.get(3),
    }
}

/// The lines of plans that are there and have rules.
pub async fn line_list_ruled(client: &impl GenericClient) -> Result<Vec<RuledLine>, Error> {
    let sql = "SELECT l.id, l.head, p.retention, p.revision FROM lines AS l JOIN plans AS p ON p.id = l.plan_id \
               WHERE p.deleted_at IS NULL AND octet_length(p.retention) > 0 AND l.head > 0 ORDER BY l.id";
    let rows = client.query(sql, &[]).await?;
    Ok(rows.iter().map(ruled).collect())
}

/// Which revision the plan of a line has, none if it is gone. It stays as it is until the transaction ends.
pub async fn line_revision_on(tx: &Transaction<'_>, line: i64) -> Result<Option<i64>, Error> {
    let sql = "SELECT revision FROM plans WHERE deleted_at IS NULL AND id = (SELECT plan_id FROM lines WHERE id = $1) FOR SHARE";
    let row = tx.query_opt(sql, &[&line]).await?;
    Ok(row.map(|row| row.get(0)))
}

/// The lines of one plan, or the one with this number, whether or not there are rules and the plan is still there.
pub async fn line_list_of(
    client: &impl GenericClient,
    plan: Option<&str>,
    line: Option<i64>,
) -> Result<Vec<RuledLine>, Error> {
    let sql = "SELECT l.id, l.head, CASE WHEN p.deleted_at IS NULL THEN p.retention ELSE ''::bytea END, p.revision \
               FROM lines AS l JOIN plans AS p ON p.id = l.plan_id WHERE ($1::varchar IS NULL OR p.plan_name = $1::varchar) \
               AND ($2::bigint IS NULL OR l.id = $2::bigint) ORDER BY l.id";
    let rows = client.query(sql, &[&plan, &line]).await?;
    Ok(rows.iter().map(ruled).collect())
}

/// Until when versions of a line are kept at the least.
pub async fn version_keep_until_on(
    tx: &Transaction<'_>,
    line: i64,
    version: i64,
    until: Option<Timestamp>,
) -> Result<(), Error> {
    let sql =
        "UPDATE versions SET keep_until = $3::timestamptz WHERE line_id = $1 AND version = $2";
    tx.execute(sql, &[&line, &version, &until]).await?;
    Ok(())
}

/// Locks a kept version until a time. False if it is locked for as long or longer, or is not kept.
pub async fn version_lock_on(
    tx: &Transaction<'_>,
    line: i64,
    version: i64,
    until: Timestamp,
) -> Result<bool, Error> {
    let sql = "UPDATE versions SET locked_until = $3::timestamptz WHERE line_id = $1 AND version = $2 AND state = 'published' \
               AND expired_at IS NULL AND (locked_until IS NULL OR locked_until < $3::timestamptz)";
    Ok(tx.execute(sql, &[&line, &version, &until]).await? == 1)
}

/// Holds a kept version, or with no reason ends that. False if it is not kept.
pub async fn version_hold_on(
    tx: &Transaction<'_>,
    line: i64,
    version: i64,
    reason: Option<&str>,
) -> Result<bool, Error> {
    let reason = reason.map(|reason| clip(reason, 400));
    let sql = "UPDATE versions SET hold_reason = $3::varchar WHERE line_id = $1 AND version = $2 AND state = 'published' \
               AND expired_at IS NULL";
    Ok(tx.execute(sql, &[&line, &version, &reason]).await? == 1)
}

/// Puts tags on a version and takes others off; gives what it has then.
pub async fn version_tag_on(
    tx: &Transaction<'_>,
    line: i64,
    version: i64,
    add: &[String],
    remove: &[String],
) -> Result<Vec<String>, Error> {
    let sql =
        "DELETE FROM version_tags WHERE line_id = $1 AND version = $2 AND tag = ANY($3::varchar[])";
    tx.execute(sql, &[&line, &version, &remove]).await?;
    let sql = "INSERT INTO version_tags (line_id, version, tag) SELECT $1::bigint, $2::bigint, k.tag \
               FROM (SELECT DISTINCT unnest($3::varchar[]) AS tag) AS k WHERE NOT EXISTS (SELECT 1 FROM version_tags AS t \
               WHERE t.line_id = $1::bigint AND t.version = $2::bigint AND t.tag = k.tag)";
    tx.execute(sql, &[&line, &version, &add]).await?;
    let sql = "SELECT tag FROM version_tags WHERE line_id = $1 AND version = $2 ORDER BY tag";
    let rows = tx.query(sql, &[&line, &version]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Parts that a version `$2` of a line `$1` holds: what it needs, or, if no record tells what that is, what was met of it.
const HELD: &str = "(SELECT part_id FROM version_parts WHERE line_id = $1 AND version = $2 UNION SELECT y.id FROM archives AS a \
     JOIN parts AS y ON y.archive_id = a.id WHERE a.line_id = $1 AND a.version = $2 AND a.state IN ('closed', 'unclaimed'))";

/// What would be given free with some versions of a line.
#[derive(Debug, Clone, Default)]
pub struct Freed {
    /// Parts that no other version needs.
    pub parts: i64,
    /// Their bytes.
    pub bytes: i64,
    /// Barcodes of volumes on which nothing is needed then.
    pub volumes: Vec<String>,
}

/// What a version alone needs.
pub async fn version_frees(
    client: &impl GenericClient,
    line: i64,
    version: i64,
) -> Result<Freed, Error> {
    let row = client
        .query_one(
            &format!(
                "SELECT count(*), COALESCE(sum(x.byte_count), 0)::bigint AS bytes FROM {HELD} AS n JOIN parts AS x ON x.id = n.part_id \
                 WHERE NOT EXISTS (SELECT 1 FROM version_parts AS o WHERE o.part_id = n.part_id \
                 AND NOT (o.line_id = $1 AND o.version = $2))"
            ),
            &[&line, &version],
        )
        .await?;
    let sql = format!(
        "SELECT DISTINCT v.barcode FROM {HELD} AS n JOIN parts AS x ON x.id = n.part_id \
         JOIN volumes AS v ON v.recording_uuid = x.recording_uuid WHERE NOT EXISTS \
         (SELECT 1 FROM parts AS y JOIN archives AS a ON a.id = y.archive_id WHERE y.recording_uuid = v.recording_uuid \
         AND (a.state IN ('staged', 'closed', 'unclaimed') AND NOT (a.line_id = $1 AND a.version = $2) OR EXISTS \
         (SELECT 1 FROM version_parts AS o WHERE o.part_id = y.id AND NOT (o.line_id = $1 AND o.version = $2)))) ORDER BY v.barcode"
    );
    let volumes = client.query(&sql, &[&line, &version]).await?;
    Ok(Freed {
        parts: row.get(0),
        bytes: row.get(1),
        volumes: volumes.iter().map(|row| row.get(0)).collect(),
    })
}

/// A job that has not ended and removes from the source of a line what an archive of it holds.
pub async fn removal_of_source(
    client: &impl GenericClient,
    line: i64,
) -> Result<Option<i64>, Error> {
    let sql = "SELECT min(j.id) AS job FROM jobs AS j JOIN lines AS o ON o.id = j.line_id WHERE j.kind = 'remove-sources' \
               AND j.ended_at IS NULL AND o.source_id = (SELECT l.source_id FROM lines AS l WHERE l.id = $1)";
    Ok(client.query_one(sql, &[&line]).await?.get(0))
}

/// Whether what a version holds was removed from where it came, or some of it may have been.
pub async fn version_is_sole(
    client: &impl GenericClient,
    line: i64,
    version: i64,
) -> Result<bool, Error> {
    let sql = "SELECT EXISTS (SELECT 1 FROM jobs WHERE kind = 'remove-sources' AND line_id = $1 AND version = $2 \
               AND started_at IS NOT NULL)";
    Ok(client.query_one(sql, &[&line, &version]).await?.get(0))
}

/// Why an expired version still protects what it needs: a job that reads it, or that it is the newest, or that an attempt
/// that can be gone on with builds on it.
pub async fn version_protected_by(
    client: &impl GenericClient,
    line: i64,
    version: i64,
) -> Result<Option<Protector>, Error> {
    let sql = "SELECT (SELECT min(j.id) FROM jobs AS j WHERE j.kind IN ('restore', 'remove-sources', 'remove-extra', 'feed') AND j.ended_at IS NULL AND j.line_id = l.id \
               AND j.version = $2::bigint) AS job, l.head = $2::bigint, EXISTS (SELECT 1 FROM versions AS s WHERE s.line_id = l.id \
               AND s.state = 'staged' AND s.incomplete_reason IS NULL AND (s.parent = $2::bigint OR s.kind = 'differential' AND s.floor = $2::bigint)) AS base \
               FROM lines AS l WHERE l.id = $1";
    let row = client.query_opt(sql, &[&line, &version]).await?;
    Ok(row.and_then(|row| match row.get::<_, Option<i64>>(0) {
        Some(job) => Some(Protector::Job(job)),
        None if row.get(1) => Some(Protector::Newest),
        None if row.get(2) => Some(Protector::Base),
        None => None,
    }))
}

/// See [`version_protected_by`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protector {
    /// This job reads it.
    Job(i64),
    /// It is the newest of its line.
    Newest,
    /// What is being made builds on it.
    Base,
}
