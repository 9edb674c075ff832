//! Attempts: one try at a job, with the drive and the volume that it holds. Its volumes are in `attempt_volumes`.

use taf_core::plan::Grant;
use taf_format::segment::Method;
use taf_proto::agent::Detection;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    Error, GenericClient, Store, Transaction, attempt_volumes, cleaning, clip, drives::Unit,
};

/// An attempt that has not ended, with all that the reconciler asks about it.
pub struct LiveAttempt {
    /// Row.
    pub id: i64,
    /// Job.
    pub job_id: i64,
    /// Stream of a backup, 0 for the first one and for all other jobs.
    pub stream: i32,
    /// Kind of the job.
    pub kind: String,
    /// Whether a person asked to stop the job.
    pub cancel_asked: bool,
    /// Its generation: epoch and counter.
    pub generation: (i64, i64),
    /// Verdict; `none` while it works.
    pub verdict: String,
    /// Encoded fault of a failed verdict.
    pub fault: Option<Vec<u8>>,
    /// Steps so far.
    pub step: i32,
    /// Step under way.
    pub step_kind: String,
    /// Encoded move of a step of the robot.
    pub step_detail: Option<Vec<u8>>,
    /// Drive, if one takes part.
    pub drive_id: Option<i64>,
    /// Process of the drive that was given work.
    pub drive_incarnation: Option<Uuid>,
    /// Encoded result of the drive.
    pub drive_result: Option<Vec<u8>>,
    /// Its seat at the drive.
    pub seat: u32,
    /// Volume of the catalog that it holds.
    pub volume: Option<HeldVolume>,
    /// Barcode of the cartridge that it holds, volume or not.
    pub cartridge: Option<String>,
    /// Library whose robot works for it.
    pub library_id: Option<i64>,
    /// Of a cleaning or a look at the elements: whether that is done.
    pub worked: bool,
    /// What the job asks for, of an operator.
    pub task: Task,
    /// Every volume that it has had, the present one last.
    pub volumes: Vec<i64>,
    /// Volume that a restore needs next; of a reclaiming the volume that it reads, while it waits for that.
    pub wanted_volume_id: Option<i64>,
    /// The volume that is reclaimed.
    pub reclaimed: Option<i64>,
    /// Of a reclaiming, a verification or a rescan: its issues so far.
    pub issue_count: u64,
    /// For how long it has waited for its next volume, seconds; none if it does not wait for one.
    pub waiting_seconds: Option<f64>,
    /// What it is known to wait for.
    pub waiting_for: Option<String>,
    /// Source agent.
    pub source: Option<SourceAgent>,
    /// Process of the source agent that was given work.
    pub source_incarnation: Option<Uuid>,
    /// Encoded result of the source agent.
    pub source_result: Option<Vec<u8>>,
    /// Line of a backup or restore.
    pub line_id: Option<i64>,
    /// Encoded request of a restore.
    pub restore_request: Option<Vec<u8>>,
    /// Of a restore that is a dump: its format. It has one drive, since its stream has one order.
    pub dump_format: Option<String>,
    /// Encoded request of a removal.
    pub removal: Option<Vec<u8>>,
    /// Entries and bytes of a restore.
    pub totals: (i64, i64),
    /// Pool of a backup, or of the volume that is reclaimed: row and name.
    pub pool: Option<(i64, String)>,
    /// How many sources share a drive there.
    pub sources_per_drive: u32,
    /// Archive of a backup.
    pub archive: Option<ArchiveOf>,
}

/// The volume that an attempt holds.
#[derive(Debug, Clone, Copy)]
pub struct HeldVolume {
    /// Row.
    pub id: i64,
    /// The attempt's step when it was reserved.
    pub first_step: i32,
}

/// What an operator asked for besides drive, library and cartridge.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Task {
    /// Element that the cartridge comes from.
    pub from_address: Option<i32>,
    /// Element that it goes to.
    pub to_address: Option<i32>,
    /// Whether to erase the whole tape.
    pub thorough: bool,
    /// Whether to overwrite what would be refused.
    pub forced: bool,
}

/// The source agent of an attempt.
pub struct SourceAgent {
    /// Row.
    pub id: i64,
    /// Name.
    pub name: String,
    /// Process that is or was connected.
    pub incarnation: Option<Uuid>,
    /// Seconds since it was heard of.
    pub silent_seconds: f64,
}

/// The archive of a backup's attempt, with how it is made.
#[allow(clippy::struct_excessive_bools)] // facts, each by itself
pub struct ArchiveOf {
    /// Row.
    pub id: i64,
    /// Archive.
    pub archive_uuid: Uuid,
    /// Line.
    pub line_uuid: Uuid,
    /// Version.
    pub version: i64,
    /// Ordinal within the line.
    pub ordinal: i32,
    /// The version that it is compared with, 0 for none.
    pub parent: i64,
    /// The version that its version does not resolve below.
    pub floor: i64,
    /// Of a differential: it is compared with that one, too.
    pub differential: bool,
    /// Whether it is put together from what its feed reads.
    pub synthetic: bool,
    /// Whether earlier attempts left parts that count.
    pub resumes: bool,
    /// Plan's name.
    pub plan: String,
    /// Source's name.
    pub source: String,
    /// How the archive is stored.
    pub compression_method: Method,
    /// Level of the method.
    pub compression_level: i32,
    /// Threads.
    pub compression_threads: i32,
    /// Whether to stay on one file system.
    pub one_file_system: bool,
    /// How a changed file is told from an unchanged one.
    pub detection: Detection,
    /// Largest part, bytes.
    pub part_size: i64,
    /// Streams that the version may have.
    pub streams: i32,
}

const LIVE_SELECT: &str = "SELECT t.id, t.job_id, j.kind, j.cancel_asked, t.epoch, t.generation, t.verdict, t.fault, \
     t.step, t.step_kind, t.step_detail, t.drive_id, t.drive_incarnation, t.drive_result, v.volume_id, \
     a.id, a.agent_name, a.incarnation, \
     COALESCE(extract(epoch FROM clock_timestamp() - a.last_seen_at)::float8, 1e9::float8), \
     t.source_incarnation, t.source_result, j.line_id, j.restore_request, \
     COALESCE(j.entry_count, 0), COALESCE(j.byte_total, 0), \
     r.id, r.archive_uuid, l.line_uuid, r.version, r.ordinal, p.plan_name, s.source_name, p.compression_level, \
     p.compression_threads, s.one_file_system, po.part_size, v.first_step, t.wanted_volume_id, \
     extract(epoch FROM clock_timestamp() - t.waiting_since)::float8, t.waiting_for, po.id, po.pool_name, \
     v.cartridge, t.library_id, t.worked, j.from_address, j.to_address, j.thorough, j.forced, \
     COALESCE(w.parent, 0), COALESCE(w.floor, 0), COALESCE(w.kind = 'differential', false), \
     EXISTS (SELECT 1 FROM archives o WHERE o.line_id = r.line_id AND o.version = r.version AND o.state = 'closed'), t.stream, \
     CASE WHEN w.kind = 'synthetic-full' THEN 1 ELSE p.streams END AS streams, \
     t.seat, COALESCE(po.sources_per_drive, 1), s.ignore_ctime, s.ignore_inode, s.always_compare_content, j.removal, \
     p.compression_method, COALESCE(w.kind = 'synthetic-full', false) AS synthetic, rv.id AS reclaimed, \
     CASE WHEN j.kind IN ('reclaim', 'verify', 'rescan') THEN (SELECT count(*) FROM issues i WHERE i.attempt_id = t.id) ELSE 0 END AS issue_count, j.dump_format \
     FROM attempts t JOIN jobs j ON j.id = t.job_id \
     LEFT JOIN agents a ON a.id = t.agent_id \
     LEFT JOIN archives r ON r.attempt_id = t.id AND j.kind = 'backup' \
     LEFT JOIN lines l ON l.id = r.line_id \
     LEFT JOIN versions w ON w.line_id = r.line_id AND w.version = r.version \
     LEFT JOIN plans p ON p.id = j.plan_id \
     LEFT JOIN sources s ON s.id = p.source_id \
     LEFT JOIN volumes rv ON rv.id = j.volume_id AND j.kind = 'reclaim' \
     LEFT JOIN pools po ON po.id = COALESCE(p.pool_id, rv.pool_id) \
     LEFT JOIN attempt_volumes v ON v.attempt_id = t.id AND v.held \
     WHERE t.ended_at IS NULL ORDER BY t.id";

fn live_attempt(row: &Row) -> LiveAttempt {
    LiveAttempt {
        id: row.get(0),
        job_id: row.get(1),
        stream: row.get(53),
        kind: row.get(2),
        cancel_asked: row.get(3),
        generation: (row.get(4), row.get(5)),
        verdict: row.get(6),
        fault: row.get(7),
        step: row.get(8),
        step_kind: row.get(9),
        step_detail: row.get(10),
        drive_id: row.get(11),
        drive_incarnation: row.get(12),
        drive_result: row.get(13),
        seat: row.get::<_, i32>(55) as u32,
        volume: row.get::<_, Option<i64>>(14).map(|id| HeldVolume {
            id,
            first_step: row.get(36),
        }),
        cartridge: row.get(42),
        library_id: row.get(43),
        worked: row.get(44),
        task: Task {
            from_address: row.get(45),
            to_address: row.get(46),
            thorough: row.get(47),
            forced: row.get(48),
        },
        volumes: Vec::new(),
        wanted_volume_id: row.get(37),
        reclaimed: row.get("reclaimed"),
        issue_count: row.get::<_, i64>("issue_count") as u64,
        waiting_seconds: row.get(38),
        waiting_for: row.get(39),
        source: row.get::<_, Option<i64>>(15).map(|id| SourceAgent {
            id,
            name: row.get(16),
            incarnation: row.get(17),
            silent_seconds: row.get(18),
        }),
        source_incarnation: row.get(19),
        source_result: row.get(20),
        line_id: row.get(21),
        restore_request: row.get(22),
        dump_format: row.get("dump_format"),
        removal: row.get("removal"),
        totals: (row.get(23), row.get(24)),
        pool: row.get::<_, Option<i64>>(40).zip(row.get(41)),
        sources_per_drive: row.get::<_, i32>(56) as u32,
        archive: row.get::<_, Option<i64>>(25).map(|id| ArchiveOf {
            id,
            archive_uuid: row.get(26),
            line_uuid: row.get(27),
            version: row.get(28),
            ordinal: row.get(29),
            parent: row.get(49),
            floor: row.get(50),
            differential: row.get(51),
            synthetic: row.get("synthetic"),
            resumes: row.get(52),
            plan: row.get(30),
            source: row.get(31),
            compression_method: super::plans::method(row.get("compression_method")),
            compression_level: row.get(32),
            compression_threads: row.get(33),
            one_file_system: row.get(34),
            detection: Detection {
                ignore_ctime: row.get(57),
                ignore_inode: row.get(58),
                always_compare_content: row.get(59),
            },
            part_size: row.get(35),
            streams: row.get("streams"),
        }),
    }
}

/// Every attempt that has not ended.
pub async fn attempt_list_live_on(tx: &Transaction<'_>) -> Result<Vec<LiveAttempt>, Error> {
    let rows = tx.query(LIVE_SELECT, &[]).await?;
    let mut live: Vec<LiveAttempt> = rows.iter().map(live_attempt).collect();
    let mut volumes = attempt_volumes::volume_list_live_on(tx).await?;
    for attempt in &mut live {
        attempt.volumes = volumes.remove(&attempt.id).unwrap_or_default();
    }
    Ok(live)
}

impl ArchiveOf {
    /// Whether there is something to compare with: then the source agent began alone, and asks for a drive when it needs one.
    pub fn has_base(&self) -> bool {
        self.parent != 0 || self.resumes
    }
}

/// Begins an attempt, as a stream of its job: from here on it holds what it was granted. [`Error::Exists`] if the drive, the
/// volume or the cartridge is held, unless it is to work beside those who hold them.
pub async fn attempt_start_on(
    tx: &Transaction<'_>,
    job_id: i64,
    stream: i32,
    grant: &Grant,
    agent_id: Option<i64>,
) -> Result<i64, Error> {
    let (epoch, counter) = Store::generation_next_on(tx).await?;
    let (seat, beside) = (grant.beside.unwrap_or(1) as i32, grant.beside.is_some());
    let row = tx
        .query_opt(
            "INSERT INTO attempts (job_id, epoch, generation, drive_id, agent_id, library_id, stream, seat, started_at) \
             SELECT $1::bigint, $2::bigint, $3::bigint, $4::bigint, $5::bigint, $6::bigint, $7::integer, $8::integer, \
             clock_timestamp() \
             WHERE $9::boolean = EXISTS (SELECT 1 FROM attempts o WHERE o.drive_id = $4::bigint AND o.ended_at IS NULL) \
             RETURNING id",
            &[
                &job_id,
                &epoch,
                &counter,
                &grant.drive,
                &agent_id,
                &grant.library,
                &stream,
                &seat,
                &beside,
            ],
        )
        .await?;
    let id = row
        .ok_or_else(|| Error::Exists {
            constraint: "attempts_drive".to_owned(),
        })?
        .get(0);
    if let Some(barcode) = &grant.barcode {
        attempt_volumes::cartridge_hold_on(tx, id, barcode, grant.volume, beside).await?;
    }
    Ok(id)
}

/// The present volume is done with; from now on the attempt waits for another one: for `wanted`, or for any that will do. What the
/// drive reported is used up. One that is not `bound` to its drive's worker may go on with another process.
pub async fn attempt_volume_leave_on(
    tx: &Transaction<'_>,
    id: i64,
    wanted: Option<i64>,
    bound: bool,
) -> Result<(), Error> {
    attempt_volumes::volume_let_go_on(tx, id).await?;
    let rows = tx
        .execute(
            "UPDATE attempts SET step_kind = 'none', step_detail = NULL, drive_result = NULL, wanted_volume_id = $2::bigint, \
             waiting_since = clock_timestamp(), \
             drive_incarnation = CASE WHEN $3::boolean THEN drive_incarnation ELSE NULL END \
             WHERE id = $1 AND ended_at IS NULL AND verdict = 'none' AND step_kind = 'work' AND drive_result IS NOT NULL",
            &[&id, &wanted, &bound],
        )
        .await?;
    Error::expect_one(rows, "attempt")
}

/// A restore that has left its drive to others needs a volume again. False if it has not, or if it has asked before.
pub async fn attempt_want_on(tx: &Transaction<'_>, id: i64, volume: i64) -> Result<bool, Error> {
    let rows = tx
        .execute(
            "UPDATE attempts SET wanted_volume_id = $2, waiting_since = clock_timestamp() WHERE id = $1 AND ended_at IS NULL \
             AND verdict = 'none' AND waiting_since IS NOT NULL AND wanted_volume_id IS NULL AND drive_id IS NULL",
            &[&id, &volume],
        )
        .await?;
    Ok(rows == 1)
}

/// An attempt that waits for its next volume leaves its drive to others.
pub async fn attempt_drive_leave_on(tx: &Transaction<'_>, id: i64) -> Result<(), Error> {
    let rows = tx
        .execute(
            "UPDATE attempts SET drive_id = NULL WHERE id = $1 AND ended_at IS NULL AND verdict = 'none' \
             AND waiting_since IS NOT NULL AND drive_incarnation IS NULL",
            &[&id],
        )
        .await?;
    Error::expect_one(rows, "attempt")
}

/// The attempt goes on with this volume in this drive. [`Error::Exists`] if another attempt holds either; with `beside` one must be at
/// work there.
pub async fn attempt_volume_next_on(
    tx: &Transaction<'_>,
    id: i64,
    drive_id: i64,
    volume_id: i64,
    beside: Option<u32>,
) -> Result<(), Error> {
    let seat = beside.unwrap_or(1) as i32;
    let rows = tx
        .execute(
            "UPDATE attempts SET seat = CASE WHEN drive_id = $2 THEN seat ELSE $3::integer END, drive_id = $2, \
             wanted_volume_id = NULL, waiting_since = NULL, waiting_for = NULL \
             WHERE id = $1 AND ended_at IS NULL AND verdict = 'none' AND waiting_since IS NOT NULL \
             AND (drive_id = $2 OR drive_incarnation IS NULL AND $4::boolean = EXISTS \
             (SELECT 1 FROM attempts o WHERE o.drive_id = $2 AND o.ended_at IS NULL))",
            &[&id, &drive_id, &seat, &beside.is_some()],
        )
        .await?;
    Error::expect_one(rows, "attempt")?;
    attempt_volumes::volume_hold_on(tx, id, volume_id, beside.is_some()).await
}

/// A backup that began with its source agent only asks for a drive and a volume. False if it has asked before, or holds a drive.
pub async fn attempt_claim_on(tx: &Transaction<'_>, id: i64) -> Result<bool, Error> {
    let rows = tx
        .execute(
            "UPDATE attempts SET waiting_since = clock_timestamp() WHERE id = $1 AND ended_at IS NULL AND verdict = 'none' \
             AND drive_id IS NULL AND waiting_since IS NULL AND source_result IS NULL",
            &[&id],
        )
        .await?;
    Ok(rows == 1)
}

/// The worker that an attempt's bytes go to while it works: tape agent and addresses.
pub async fn attempt_worker(
    client: &impl GenericClient,
    id: i64,
) -> Result<Option<(String, String)>, Error> {
    let sql = "SELECT g.agent_name, d.addresses FROM attempts AS t JOIN drives AS d ON d.id = t.drive_id \
               JOIN agents AS g ON g.id = d.agent_id WHERE t.id = $1 AND t.step_kind = 'work' AND t.drive_result IS NULL \
               AND t.verdict = 'none' AND t.ended_at IS NULL";
    let row = client.query_opt(sql, &[&id]).await?;
    Ok(row.map(|row| (row.get(0), row.get(1))))
}

/// Says what an attempt waits for, for people, or that it does not wait any more.
pub async fn attempt_wait_on(
    tx: &Transaction<'_>,
    id: i64,
    why: Option<&str>,
) -> Result<(), Error> {
    tx.execute(
        "UPDATE attempts SET waiting_for = $2::varchar WHERE id = $1 AND ended_at IS NULL",
        &[&id, &why.map(|why| clip(why, 2000))],
    )
    .await?;
    Ok(())
}

/// A step begins; `detail` is the encoded move of a step of the robot, and `library` the robot's.
/// [`Error::Exists`] if that robot does something else.
pub async fn attempt_step_on(
    tx: &Transaction<'_>,
    id: i64,
    kind: &str,
    detail: Option<&[u8]>,
    library: Option<i64>,
) -> Result<(), Error> {
    let rows = tx
        .execute(
            "UPDATE attempts SET step = step + 1, step_kind = $2, step_detail = $3::bytea, \
             library_id = COALESCE($4::bigint, library_id) WHERE id = $1 \
             AND ended_at IS NULL AND verdict = 'none' AND step_kind = 'none' AND waiting_since IS NULL",
            &[&id, &kind, &detail, &library],
        )
        .await?;
    Error::expect_one(rows, "attempt")
}

/// The work is given to these processes: to the source agent alone as long as there is no drive.
pub async fn attempt_bind_on(
    tx: &Transaction<'_>,
    id: i64,
    drive: Option<Uuid>,
    source: Option<Uuid>,
) -> Result<(), Error> {
    tx.execute(
        "UPDATE attempts SET drive_incarnation = COALESCE($2::uuid, drive_incarnation), source_incarnation = COALESCE(source_incarnation, $3::uuid) \
         WHERE id = $1 AND ended_at IS NULL",
        &[&id, &drive, &source],
    )
    .await?;
    Ok(())
}

/// The verdict is reached.
pub async fn attempt_verdict_on(
    tx: &Transaction<'_>,
    id: i64,
    verdict: &str,
    fault: Option<&[u8]>,
) -> Result<(), Error> {
    let rows = tx
        .execute(
            "UPDATE attempts SET verdict = $2, fault = $3::bytea WHERE id = $1 AND ended_at IS NULL AND verdict = 'none'",
            &[&id, &verdict, &fault],
        )
        .await?;
    Error::expect_one(rows, "attempt")
}

/// It is over. A volume whose drive is lost stays held.
pub async fn attempt_end_on(
    tx: &Transaction<'_>,
    id: i64,
    holds_volume: bool,
) -> Result<(), Error> {
    let rows = tx
        .execute(
            "UPDATE attempts SET ended_at = clock_timestamp(), step_kind = 'none', step_detail = NULL, \
             wanted_volume_id = NULL, waiting_since = NULL, waiting_for = NULL \
             WHERE id = $1 AND ended_at IS NULL AND verdict <> 'none'",
            &[&id],
        )
        .await?;
    Error::expect_one(rows, "attempt")?;
    if !holds_volume {
        attempt_volumes::volume_let_go_on(tx, id).await?;
    }
    Ok(())
}

/// Says why a drive is not usable.
pub async fn attempt_drive_lost_on(tx: &Transaction<'_>, drive_id: i64) -> Result<(), Error> {
    tx.execute(
        "UPDATE drives SET state_reason = 'its worker was lost while it worked; the volume stays reserved until it is heard again' \
         WHERE id = $1 AND NOT connected",
        &[&drive_id],
    )
    .await?;
    Ok(())
}

/// The outcome of an assignment, as a unit reports it.
pub struct Report<'a> {
    /// Attempt.
    pub attempt: i64,
    /// Its generation.
    pub generation: (i64, i64),
    /// Step.
    pub step: i32,
    /// Who reports.
    pub unit: Unit,
    /// Encoded `taf.agent.v1.Result`.
    pub result: &'a [u8],
    /// Reason of its fault, if it is one.
    pub fault: Option<&'a str>,
}

impl Report<'_> {
    fn failed(&self) -> bool {
        self.fault.is_some()
    }
}

/// Stores a result. What is no longer asked for is dropped: the attempt has gone on without it.
pub async fn attempt_result_on(tx: &Transaction<'_>, report: &Report<'_>) -> Result<(), Error> {
    let (epoch, counter) = report.generation;
    match report.unit {
        Unit::Source(agent) => {
            tx.execute(
                "UPDATE attempts SET source_result = $4 WHERE id = $1 AND epoch = $2 AND generation = $3 \
                 AND agent_id = $5 AND ended_at IS NULL AND source_result IS NULL \
                 AND (step_kind = 'work' OR source_incarnation IS NOT NULL)",
                &[&report.attempt, &epoch, &counter, &report.result, &agent],
            )
            .await?;
        }
        Unit::Drive(drive) => {
            attempt_clean_count_on(tx, report, drive).await?;
            // The outcome of the work, or a fault on the way to it, is kept; a step that went well only ends.
            tx.execute(
                "UPDATE attempts SET drive_result = $4 WHERE id = $1 AND epoch = $2 AND generation = $3 AND drive_id = $7 \
                 AND step = $5 AND ended_at IS NULL AND drive_result IS NULL \
                 AND (step_kind = 'work' OR step_kind IN ('unload', 'clean') AND $6::boolean)",
                &[
                    &report.attempt,
                    &epoch,
                    &counter,
                    &report.result,
                    &report.step,
                    &report.failed(),
                    &drive,
                ],
            )
            .await?;
            tx.execute(
                "UPDATE attempts SET worked = worked OR step_kind = 'clean', step_kind = 'none', step_detail = NULL \
                 WHERE id = $1 AND epoch = $2 AND generation = $3 AND drive_id = $6 AND step = $4 AND ended_at IS NULL \
                 AND step_kind IN ('unload', 'clean') AND NOT $5::boolean",
                &[&report.attempt, &epoch, &counter, &report.step, &report.failed(), &drive],
            )
            .await?;
            // A drive that was given up has come back and says that it is done with this.
            tx.execute(
                "UPDATE attempt_volumes SET held = false WHERE held AND attempt_id IN (SELECT t.id FROM attempts t \
                 WHERE t.id = $1 AND t.epoch = $2 AND t.generation = $3 AND t.drive_id = $4 AND t.ended_at IS NOT NULL)",
                &[&report.attempt, &epoch, &counter, &drive],
            )
            .await?;
        }
        Unit::Library(library) => {
            // Only the library that was asked for the step has a say.
            tx.execute(
                "UPDATE attempts SET drive_result = CASE WHEN $5::boolean THEN $4::bytea ELSE drive_result END, \
                 step_kind = CASE WHEN $5::boolean THEN step_kind ELSE 'none' END, \
                 step_detail = CASE WHEN $5::boolean THEN step_detail ELSE NULL END, \
                 worked = worked OR (step_kind = 'scan' AND NOT $5::boolean) \
                 WHERE id = $1 AND epoch = $2 AND generation = $3 AND step = $6 AND ended_at IS NULL AND drive_result IS NULL \
                 AND step_kind IN ('clear', 'mount', 'carry', 'scan') AND library_id = $7",
                &[
                    &report.attempt,
                    &epoch,
                    &counter,
                    &report.result,
                    &report.failed(),
                    &report.step,
                    &library,
                ],
            )
            .await?;
        }
    }
    Ok(())
}

/// Counts the use of a cleaning cartridge, once: only while its step is under way.
async fn attempt_clean_count_on(
    tx: &Transaction<'_>,
    report: &Report<'_>,
    drive: i64,
) -> Result<(), Error> {
    let is_use = matches!(
        report.fault,
        None | Some("CLEANING_EXPIRED" | "CLEANING_FAILED")
    );
    if !is_use {
        return Ok(());
    }
    let (epoch, counter) = report.generation;
    let row = tx
        .query_opt(
            "SELECT v.cartridge FROM attempts t JOIN attempt_volumes v ON v.attempt_id = t.id AND v.held \
             WHERE t.id = $1 AND t.epoch = $2 AND t.generation = $3 AND t.drive_id = $4 AND t.step = $5 \
             AND t.ended_at IS NULL AND t.drive_result IS NULL AND t.step_kind = 'clean' FOR UPDATE OF t",
            &[&report.attempt, &epoch, &counter, &drive, &report.step],
        )
        .await?;
    if let Some(row) = row {
        let used_up = report.fault == Some("CLEANING_EXPIRED");
        cleaning::cleaning_use_on(tx, row.get(0), used_up).await?;
        if report.fault.is_none() {
            cleaning::cleaning_done_on(tx, drive).await?;
        }
    }
    Ok(())
}

/// A drive works for nobody: the volumes of attempts that were given up when it was silent are free. They would stay held if the
/// work had never reached it.
pub async fn attempt_drive_idle_on(tx: &Transaction<'_>, drive_id: i64) -> Result<(), Error> {
    tx.execute(
        "UPDATE attempt_volumes SET held = false WHERE held AND attempt_id IN \
         (SELECT t.id FROM attempts t WHERE t.drive_id = $1 AND t.ended_at IS NOT NULL)",
        &[&drive_id],
    )
    .await?;
    tx.execute(
        "UPDATE drives SET state_reason = NULL WHERE id = $1 AND state_reason IS NOT NULL",
        &[&drive_id],
    )
    .await?;
    Ok(())
}

/// Keeps the newest progress of a side.
pub async fn attempt_progress_on(
    tx: &Transaction<'_>,
    attempt: i64,
    generation: (i64, i64),
    unit: Unit,
    progress: &[u8],
) -> Result<(), Error> {
    let (sql, id) = match unit {
        Unit::Source(id) => (
            "UPDATE attempts SET progress = $4 WHERE id = $1 AND epoch = $2 AND generation = $3 AND agent_id = $5 \
             AND ended_at IS NULL",
            id,
        ),
        Unit::Drive(id) => (
            "UPDATE attempts SET drive_progress = $4 WHERE id = $1 AND epoch = $2 AND generation = $3 AND drive_id = $5 \
             AND ended_at IS NULL",
            id,
        ),
        // A robot has none.
        Unit::Library(_) => return Ok(()),
    };
    tx.execute(
        sql,
        &[&attempt, &generation.0, &generation.1, &progress, &id],
    )
    .await?;
    Ok(())
}
