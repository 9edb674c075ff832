//! Jobs: what was asked for and what came of it.

use std::collections::HashMap;

use jiff::Timestamp;
use taf_core::Fault;
use taf_core::catalog::{Kind, Opening};
use tokio_postgres::Row;

use super::attempts::Task;
use super::verifications::SampleOf;
use super::{Error, GenericClient, Transaction, clip};

/// Adds a backup of a plan. The caller has made sure that none is active.
pub async fn job_create_backup_on(
    tx: &Transaction<'_>,
    plan_id: i64,
    line_id: i64,
    agent_id: i64,
    asked: Kind,
    creator: &str,
) -> Result<i64, Error> {
    let row = tx
        .query_one(
            "INSERT INTO jobs (kind, state, creator, plan_id, line_id, agent_id, asked_kind, created_at) \
             VALUES ('backup', 'queued', $1, $2, $3, $4, $5, clock_timestamp()) RETURNING id",
            &[&creator, &plan_id, &line_id, &agent_id, &asked.name()],
        )
        .await?;
    Ok(row.get(0))
}

/// What a restore is made from.
pub struct NewRestore<'a> {
    /// Line of the version.
    pub line_id: i64,
    /// Version.
    pub version: i64,
    /// Source agent that writes.
    pub agent_id: i64,
    /// Volumes that are needed, in order.
    pub volumes: &'a [i64],
    /// The turn that each of them is read in, see [`taf_core::recall::turn`].
    pub turns: &'a [i32],
    /// Encoded `taf.v1.RestoreVersionRequest`, without its paths.
    pub request: &'a [u8],
    /// Chosen paths.
    pub paths: Option<&'a [u8]>,
    /// Entries in all.
    pub entry_count: i64,
    /// Bytes in all.
    pub byte_total: i64,
}

/// Adds a restore.
pub async fn job_create_restore_on(
    tx: &Transaction<'_>,
    new: &NewRestore<'_>,
    creator: &str,
) -> Result<i64, Error> {
    let row = tx
        .query_one(
            "INSERT INTO jobs (kind, state, creator, line_id, version, agent_id, volume_id, restore_request, \
             entry_count, byte_total, restore_paths, created_at) \
             VALUES ('restore', 'queued', $1, $2, $3, $4, $5, $6, $7, $8, $9::bytea, clock_timestamp()) RETURNING id",
            &[
                &creator,
                &new.line_id,
                &new.version,
                &new.agent_id,
                &new.volumes.first(),
                &new.request,
                &new.entry_count,
                &new.byte_total,
                &new.paths,
            ],
        )
        .await?;
    let id: i64 = row.get(0);
    let ordinals: Vec<i32> = (1..).take(new.volumes.len()).collect();
    tx.execute(
        "INSERT INTO job_volumes (job_id, ordinal, volume_id, turn) \
         SELECT $1::bigint, unnest($2::integer[]), unnest($3::bigint[]), unnest($4::integer[])",
        &[&id, &ordinals, &new.volumes, &new.turns],
    )
    .await?;
    Ok(id)
}

/// What an operator's job is made from.
#[derive(Debug, Clone, Default)]
pub struct NewTask<'a> {
    /// Kind as stored.
    pub kind: &'a str,
    /// Volume of the catalog.
    pub volume_id: Option<i64>,
    /// Drive.
    pub drive_id: Option<i64>,
    /// Library.
    pub library_id: Option<i64>,
    /// Barcode of the cartridge.
    pub cartridge: Option<&'a str>,
    /// The rest.
    pub task: Task,
    /// Whether it takes only what nobody else wants.
    pub background: bool,
}

/// Adds an operator's job.
pub async fn job_create_task_on(
    tx: &Transaction<'_>,
    new: &NewTask<'_>,
    creator: &str,
) -> Result<i64, Error> {
    let row = tx
        .query_one(
            "INSERT INTO jobs (kind, state, creator, volume_id, drive_id, library_id, cartridge, from_address, to_address, \
             thorough, forced, background, created_at) \
             VALUES ($1, 'queued', $2, $3::bigint, $4::bigint, $5::bigint, $6::varchar, $7::integer, $8::integer, \
             $9, $10, $11, clock_timestamp()) RETURNING id",
            &[
                &new.kind,
                &creator,
                &new.volume_id,
                &new.drive_id,
                &new.library_id,
                &new.cartridge,
                &new.task.from_address,
                &new.task.to_address,
                &new.task.thorough,
                &new.task.forced,
                &new.background,
            ],
        )
        .await?;
    Ok(row.get(0))
}

/// A job that has not ended and is about this cartridge, volume or drive, of one of these kinds.
pub async fn job_active_about_on(
    tx: &Transaction<'_>,
    kinds: &[&str],
    barcode: Option<&str>,
    drive_id: Option<i64>,
) -> Result<Option<i64>, Error> {
    let row = tx
        .query_opt(
            "SELECT min(j.id) AS id FROM jobs j LEFT JOIN volumes v ON v.id = j.volume_id \
             WHERE j.ended_at IS NULL AND j.kind = ANY($1::varchar[]) \
             AND ($2::varchar IS NULL OR COALESCE(j.cartridge, v.barcode) = $2::varchar) \
             AND ($3::bigint IS NULL OR j.drive_id = $3::bigint)",
            &[&kinds, &barcode, &drive_id],
        )
        .await?;
    Ok(row.and_then(|row| row.get(0)))
}

/// Whether a drive need not be asked to unload: it is being done, or was tried in vain within the last minute.
pub async fn job_unload_tried_on(tx: &Transaction<'_>, drive_id: i64) -> Result<bool, Error> {
    let row = tx
        .query_one(
            "SELECT count(*) > 0 AS tried FROM jobs WHERE kind = 'drive-unload' AND drive_id = $1 \
             AND (ended_at IS NULL OR state <> 'succeeded' AND ended_at > clock_timestamp() - interval '1 minute')",
            &[&drive_id],
        )
        .await?;
    Ok(row.get(0))
}

/// Adds the index of a volume.
pub async fn job_create_index_on(
    tx: &Transaction<'_>,
    volume_id: i64,
    creator: &str,
) -> Result<i64, Error> {
    let row = tx
        .query_one(
            "INSERT INTO jobs (kind, state, creator, volume_id, created_at) \
             VALUES ('index', 'queued', $1, $2, clock_timestamp()) RETURNING id",
            &[&creator, &volume_id],
        )
        .await?;
    Ok(row.get(0))
}

/// How the newest job about each volume without a label failed: reason and message by barcode.
pub async fn job_label_faults_on(
    tx: &Transaction<'_>,
) -> Result<HashMap<String, (String, String)>, Error> {
    let rows = tx
        .query(
            "SELECT v.barcode, j.fault_reason, j.fault_message FROM volumes v JOIN jobs j ON j.id = \
             (SELECT max(x.id) FROM jobs x WHERE x.volume_id = v.id) \
             WHERE v.state = 'unlabelled' AND j.fault_reason IS NOT NULL",
            &[],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| (row.get(0), (row.get(1), row.get(2))))
        .collect())
}

/// The job of a plan that has not ended, if there is one.
pub async fn job_active_of_plan_on(
    tx: &Transaction<'_>,
    plan_id: i64,
) -> Result<Option<i64>, Error> {
    let row = tx
        .query_opt(
            "SELECT min(id) AS id FROM jobs WHERE plan_id = $1 AND ended_at IS NULL",
            &[&plan_id],
        )
        .await?;
    Ok(row.and_then(|row| row.get(0)))
}

/// Asks a job to stop. False if it has ended or does not exist.
pub async fn job_cancel_on(tx: &Transaction<'_>, id: i64) -> Result<bool, Error> {
    let rows = tx
        .execute(
            "UPDATE jobs SET cancel_asked = true WHERE id = $1 AND ended_at IS NULL",
            &[&id],
        )
        .await?;
    Ok(rows == 1)
}

/// Asks all jobs to stop that wait for one volume and nothing else.
pub async fn job_cancel_of_volume_on(tx: &Transaction<'_>, volume: i64) -> Result<(), Error> {
    let sql = "UPDATE jobs SET cancel_asked = true WHERE volume_id = $1 AND ended_at IS NULL \
               AND kind IN ('verify', 'inspect', 'index', 'reclaim')";
    tx.execute(sql, &[&volume]).await?;
    Ok(())
}

/// Says what a queued job waits for.
pub async fn job_wait_on(tx: &Transaction<'_>, id: i64, why: &str) -> Result<(), Error> {
    tx.execute(
        "UPDATE jobs SET waiting_for = $2 WHERE id = $1 AND state = 'queued' \
         AND (waiting_for IS NULL OR waiting_for <> $2)",
        &[&id, &clip(why, 2000)],
    )
    .await?;
    Ok(())
}

/// A queued job begins.
pub async fn job_start_on(tx: &Transaction<'_>, id: i64) -> Result<(), Error> {
    let rows = tx
        .execute(
            "UPDATE jobs SET state = 'running', waiting_for = NULL, started_at = clock_timestamp() \
             WHERE id = $1 AND state = 'queued'",
            &[&id],
        )
        .await?;
    Error::expect_one(rows, "job")
}

/// What a backup that begins makes, and why that is not what was asked for.
pub async fn job_opens_on(tx: &Transaction<'_>, id: i64, opening: &Opening) -> Result<(), Error> {
    let why = opening.promotion.map(|why| why.to_string());
    let rows = tx
        .execute(
            "UPDATE jobs SET version = $2, version_kind = $3, promotion = $4::varchar WHERE id = $1 AND kind = 'backup'",
            &[&id, &opening.version, &opening.kind.name(), &why],
        )
        .await?;
    Error::expect_one(rows, "job")
}

/// A job ends in `state`, with its fault if that is `failed`. False if it had ended before.
pub async fn job_end_on(
    tx: &Transaction<'_>,
    id: i64,
    state: &str,
    fault: Option<&Fault>,
) -> Result<bool, Error> {
    let rows = tx
        .execute(
            "UPDATE jobs SET state = $2, waiting_for = NULL, fault_reason = $3::varchar, \
             fault_message = $4::varchar, fault_next_step = $5::varchar, ended_at = clock_timestamp() \
             WHERE id = $1 AND ended_at IS NULL",
            &[
                &id,
                &state,
                &fault.map(|f| clip(&f.reason, 64)),
                &fault.map(|f| clip(&f.message, 2000)),
                &fault.map(|f| clip(&f.next_step, 2000)),
            ],
        )
        .await?;
    Ok(rows == 1)
}

/// A job with the names of what it refers to and the newest attempt's state.
pub struct JobRow {
    /// Row.
    pub id: i64,
    /// Kind as stored; `dump` of a restore that is one.
    pub kind: String,
    /// State as stored.
    pub state: String,
    /// Plan.
    pub plan: Option<String>,
    /// Line.
    pub line_id: Option<i64>,
    /// Version made or restored.
    pub version: Option<i64>,
    /// The same as people name it.
    pub title: Option<String>,
    /// Source agent.
    pub agent: Option<String>,
    /// Volume or other cartridge in use, or used last, or needed first.
    pub volume: Option<String>,
    /// Volumes that the newest attempt has used, in order.
    pub volumes: Vec<String>,
    /// Library in use.
    pub library: Option<String>,
    /// Addresses that a cartridge is carried from and to.
    pub addresses: (Option<i32>, Option<i32>),
    /// Drive in use.
    pub drive: Option<String>,
    /// Encoded request of a restore.
    pub restore_request: Option<Vec<u8>>,
    /// Of a backup: what it was asked to make, what it makes, and why that is not the same.
    pub kinds: (Option<String>, Option<String>, Option<String>),
    /// What it waits for.
    pub waiting_for: Option<String>,
    /// The job that began it by itself.
    pub cause: Option<i64>,
    /// The jobs that it began by itself.
    pub follow_ups: Vec<i64>,
    /// Why it failed.
    pub fault: Option<Fault>,
    /// Who asked.
    pub creator: String,
    /// Step of the newest attempt.
    pub step_kind: Option<String>,
    /// Encoded `taf.v1.Progress`.
    pub progress: Option<Vec<u8>>,
    /// Encoded `taf.agent.v1.DriveObservation`.
    pub drive_progress: Option<Vec<u8>>,
    /// Encoded `taf.agent.v1.Result` of the source agent, once it has one.
    pub source_result: Option<Vec<u8>>,
    /// That of the drive's worker.
    pub drive_result: Option<Vec<u8>>,
    /// Files expected.
    pub estimated_files: Option<i64>,
    /// Bytes expected.
    pub estimated_bytes: Option<i64>,
    /// Bytes in parts of the newest attempt, if it has any.
    pub committed_bytes: Option<i64>,
    /// Issues of the newest attempt.
    pub issue_count: i64,
    /// Of a verification that reads a sample only.
    pub sample: Option<SampleOf>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
}

const JOB_SELECT: &str = "SELECT j.id, CASE WHEN j.dump_format IS NULL THEN j.kind ELSE 'dump' END AS kind, j.state, p.plan_name, j.line_id, j.version, a.agent_name, \
     COALESCE(v.barcode, j.cartridge), d.serial, j.restore_request, \
     COALESCE(j.waiting_for, t.waiting_for, (SELECT min(x.waiting_for) FROM attempts x WHERE x.job_id = j.id), \
     (SELECT min(COALESCE(f.waiting_for, x.waiting_for)) FROM jobs f LEFT JOIN attempts x ON x.job_id = f.id AND x.ended_at IS NULL \
     WHERE f.cause_job = j.id AND f.kind = 'feed' AND f.ended_at IS NULL)) AS waits, j.fault_reason, j.fault_message, j.fault_next_step, \
     j.creator, t.step_kind, t.progress, t.drive_progress, \
     COALESCE(j.entry_count, e.file_count) AS estimated_files, COALESCE(j.byte_total, e.byte_count) AS estimated_bytes, \
     (SELECT count(*) FROM issues i WHERE i.attempt_id = t.id) AS issue_count, \
     j.created_at, j.started_at, j.ended_at, t.source_result, \
     (SELECT array_agg(x.cartridge ORDER BY x.ordinal) FROM attempt_volumes x WHERE x.attempt_id = t.id) AS used, \
     l.serial, j.from_address, j.to_address, \
     (SELECT sum(x.byte_count) FROM archives r JOIN parts x ON x.archive_id = r.id WHERE r.attempt_id = t.id)::bigint AS committed_bytes, \
     t.drive_result, j.asked_kind, j.version_kind, j.promotion, j.cause_job, \
     (SELECT array_agg(x.id ORDER BY x.id) FROM jobs x WHERE x.cause_job = j.id) AS follow_ups, \
     j.sample_seed, j.sample_percent, j.time_limit_seconds, \
     (SELECT n.plan_name || CASE WHEN o.archives THEN '@a' ELSE '@' END || j.version::varchar FROM lines o JOIN plans n ON n.id = o.plan_id \
     WHERE o.id = j.line_id) AS title \
     FROM jobs j \
     LEFT JOIN attempts t ON t.id = (SELECT max(x.id) FROM attempts x WHERE x.job_id = j.id AND x.stream = 0) \
     LEFT JOIN plans p ON p.id = j.plan_id \
     LEFT JOIN agents a ON a.id = j.agent_id \
     LEFT JOIN volumes v ON v.id = j.volume_id \
     LEFT JOIN drives d ON d.id = COALESCE(t.drive_id, j.drive_id) \
     LEFT JOIN libraries l ON l.id = COALESCE(j.library_id, t.library_id) \
     LEFT JOIN versions e ON j.kind = 'backup' AND e.line_id = j.line_id AND e.version = j.version - 1 ";

fn job_row(row: &Row) -> JobRow {
    let fault = row.get::<_, Option<String>>(11).map(|reason| Fault {
        reason,
        message: row.get::<_, Option<String>>(12).unwrap_or_default(),
        next_step: row.get::<_, Option<String>>(13).unwrap_or_default(),
    });
    let volumes: Vec<String> = row.get::<_, Option<Vec<String>>>(25).unwrap_or_default();
    JobRow {
        id: row.get(0),
        kind: row.get(1),
        state: row.get(2),
        plan: row.get(3),
        line_id: row.get(4),
        version: row.get(5),
        title: row.get(39),
        agent: row.get(6),
        // A reclaiming is about one volume, whichever it writes.
        volume: match row.get::<_, &str>(1) {
            "reclaim" => row.get(7),
            _ => volumes.last().cloned().or(row.get(7)),
        },
        volumes,
        library: row.get(26),
        addresses: (row.get(27), row.get(28)),
        committed_bytes: row.get(29),
        drive: row.get(8),
        restore_request: row.get(9),
        kinds: (row.get(31), row.get(32), row.get(33)),
        waiting_for: row.get(10),
        cause: row.get(34),
        follow_ups: row.get::<_, Option<Vec<i64>>>(35).unwrap_or_default(),
        fault,
        creator: row.get(14),
        step_kind: row.get(15),
        progress: row.get(16),
        drive_progress: row.get(17),
        source_result: row.get(24),
        drive_result: row.get(30),
        estimated_files: row.get(18),
        estimated_bytes: row.get(19),
        issue_count: row.get(20),
        sample: row.get::<_, Option<i64>>(36).map(|seed| SampleOf {
            seed: seed as u64,
            percent: row.get(37),
            seconds: row.get(38),
        }),
        created_at: row.get(21),
        started_at: row.get(22),
        ended_at: row.get(23),
    }
}

/// One job.
pub async fn job_get(client: &impl GenericClient, id: i64) -> Result<Option<JobRow>, Error> {
    let sql = format!("{JOB_SELECT} WHERE j.id = $1");
    Ok(client.query_opt(&sql, &[&id]).await?.as_ref().map(job_row))
}

/// Jobs below `before`, newest first.
pub async fn job_list(
    client: &impl GenericClient,
    before: i64,
    active_only: bool,
    limit: i64,
) -> Result<Vec<JobRow>, Error> {
    let sql = format!(
        "{JOB_SELECT} WHERE j.id < $1 AND (NOT $2::boolean OR j.ended_at IS NULL) ORDER BY j.id DESC LIMIT $3::bigint"
    );
    let rows = client.query(&sql, &[&before, &active_only, &limit]).await?;
    Ok(rows.iter().map(job_row).collect())
}

/// Jobs that failed within the last day, newest first.
pub async fn job_list_failed(
    client: &impl GenericClient,
    limit: i64,
) -> Result<Vec<JobRow>, Error> {
    let sql = format!(
        "{JOB_SELECT} WHERE j.state = 'failed' AND j.ended_at > clock_timestamp() - interval '1 day' \
         ORDER BY j.id DESC LIMIT $1::bigint"
    );
    let rows = client.query(&sql, &[&limit]).await?;
    Ok(rows.iter().map(job_row).collect())
}

/// A queued job, as the planner needs it.
pub struct QueuedJob {
    /// Row.
    pub id: i64,
    /// Kind.
    pub kind: String,
    /// Whether a person asked to stop it.
    pub cancel_asked: bool,
    /// Pool of a backup.
    pub pool: Option<(i64, String)>,
    /// Volume of a restore or label.
    pub volume_id: Option<i64>,
    /// Drive of an operator's job.
    pub drive_id: Option<i64>,
    /// Library of an operator's job.
    pub library_id: Option<i64>,
    /// Barcode of a cartridge that the catalog need not know.
    pub cartridge: Option<String>,
    /// What else an operator asked for.
    pub task: Task,
    /// Whether it takes only what nobody else wants.
    pub background: bool,
    /// Who asked.
    pub creator: String,
    /// Line of a backup or restore.
    pub line_id: Option<i64>,
    /// Source agent: row, name, connected.
    pub agent: Option<(i64, String, bool)>,
    /// What it is known to wait for.
    pub waiting_for: Option<String>,
    /// What a backup was asked to make.
    pub asked_kind: Option<String>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// Volumes that a restore needs, in order.
    pub volumes: Vec<i64>,
}

/// More waiting jobs than any installation has; later ones are looked at when earlier ones have gone.
const QUEUED_MAX: i64 = 10_000;

/// Queued jobs in the order they were asked for.
pub async fn job_list_queued_on(tx: &Transaction<'_>) -> Result<Vec<QueuedJob>, Error> {
    let rows = tx
        .query(
            "SELECT j.id, j.kind, j.cancel_asked, p.pool_id, po.pool_name, j.volume_id, j.line_id, \
             a.id, a.agent_name, a.connected, j.waiting_for, j.drive_id, j.library_id, j.cartridge, \
             j.from_address, j.to_address, j.thorough, j.forced, j.background, j.creator, j.asked_kind, j.created_at, \
             (SELECT array_agg(x.volume_id ORDER BY x.ordinal) FROM job_volumes x WHERE x.job_id = j.id) AS needed FROM jobs j \
             LEFT JOIN plans p ON p.id = j.plan_id LEFT JOIN pools po ON po.id = p.pool_id \
             LEFT JOIN agents a ON a.id = j.agent_id \
             WHERE j.state = 'queued' AND j.ended_at IS NULL ORDER BY j.id LIMIT $1::bigint",
            &[&QUEUED_MAX],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| QueuedJob {
            id: row.get(0),
            kind: row.get(1),
            cancel_asked: row.get(2),
            pool: row.get::<_, Option<i64>>(3).zip(row.get(4)),
            volume_id: row.get(5),
            line_id: row.get(6),
            agent: row
                .get::<_, Option<i64>>(7)
                .map(|id| (id, row.get(8), row.get(9))),
            waiting_for: row.get(10),
            drive_id: row.get(11),
            library_id: row.get(12),
            cartridge: row.get(13),
            task: Task {
                from_address: row.get(14),
                to_address: row.get(15),
                thorough: row.get(16),
                forced: row.get(17),
            },
            background: row.get(18),
            creator: row.get(19),
            asked_kind: row.get(20),
            created_at: row.get(21),
            volumes: row.get::<_, Option<Vec<i64>>>(22).unwrap_or_default(),
        })
        .collect())
}
