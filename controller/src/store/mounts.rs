//! Mounts: what was counted while a cartridge was in a drive for one attempt, the alerts that came up, and what follows from
//! them for drive and volume.

use jiff::Timestamp;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{Error, GenericClient, Transaction, clip};

/// Whom a report is about, if its sender may make it.
#[derive(Debug, Clone)]
pub struct Scope {
    /// Attempt.
    pub attempt_id: i64,
    /// Drive.
    pub drive_id: i64,
    /// Volume with this barcode, if the catalog has one, and its recording.
    pub volume: Option<(i64, Uuid)>,
}

/// Finds whom a report is about: the attempt with exactly this generation, and a drive of this tape agent. An attempt that has
/// ended counts: reports come late.
pub async fn mount_scope(
    client: &impl GenericClient,
    (attempt, epoch, counter): (i64, i64, i64),
    tape_agent: &str,
    serial: &str,
    barcode: &str,
) -> Result<Option<Scope>, Error> {
    let row = client
        .query_opt(
            "SELECT t.id, d.id, v.id, v.recording_uuid FROM attempts AS t \
             JOIN drives AS d ON d.serial = $4 JOIN agents AS a ON a.id = d.agent_id AND a.agent_name = $5 \
             LEFT JOIN volumes AS v ON v.barcode = $6 \
             WHERE t.id = $1 AND t.epoch = $2 AND t.generation = $3",
            &[&attempt, &epoch, &counter, &serial, &tape_agent, &barcode],
        )
        .await?;
    Ok(row.map(|row| Scope {
        attempt_id: row.get(0),
        drive_id: row.get(1),
        volume: row.get::<_, Option<i64>>(2).zip(row.get(3)),
    }))
}

/// What was counted. `None` is what the drive did not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Numbers {
    /// Bytes from the host.
    pub written_bytes: Option<i64>,
    /// Bytes to the host.
    pub read_bytes: Option<i64>,
    /// Bytes onto the medium.
    pub medium_written: Option<i64>,
    /// Bytes from the medium.
    pub medium_read: Option<i64>,
    /// Write errors, corrected.
    pub write_corrected: Option<i64>,
    /// Write errors, not corrected.
    pub write_uncorrected: Option<i64>,
    /// Read errors, corrected.
    pub read_corrected: Option<i64>,
    /// Read errors, not corrected.
    pub read_uncorrected: Option<i64>,
    /// Writes done again.
    pub write_retries: Option<i64>,
    /// Reads done again.
    pub read_retries: Option<i64>,
    /// Times that the drive stopped and went back.
    pub suspends: Option<i64>,
    /// Times that it stopped for good.
    pub fatal_suspends: Option<i64>,
    /// Native capacity.
    pub native_bytes: Option<i64>,
    /// What is left, by the drive's estimate.
    pub remaining_bytes: Option<i64>,
    /// Loads over the cartridge's life.
    pub load_count: Option<i64>,
    /// Bytes written over its life.
    pub life_written: Option<i64>,
    /// Bytes read over its life.
    pub life_read: Option<i64>,
}

/// A mount as it is reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reported {
    /// Made by the worker.
    pub mount_uuid: Uuid,
    /// When the cartridge was ready.
    pub began_at: Timestamp,
    /// When the work was over.
    pub ended_at: Option<Timestamp>,
    /// Fault of drive or medium that ended it.
    pub fault_reason: Option<String>,
    /// What was counted.
    pub numbers: Numbers,
    /// The end of the medium was near.
    pub early_warning: bool,
    /// Logical block at which a write ended.
    pub end_block: Option<i64>,
    /// The cartridge's own serial number.
    pub medium_serial: Option<String>,
    /// The predecessor's score.
    pub seed_score: Option<i16>,
}

/// Keeps a report; a later one of the same mount replaces the numbers. Returns the mount's row.
pub async fn mount_put_on(
    tx: &Transaction<'_>,
    scope: &Scope,
    reported: &Reported,
) -> Result<i64, Error> {
    let reason = reported.fault_reason.as_deref().map(|r| clip(r, 64));
    let serial = reported.medium_serial.as_deref().map(|s| clip(s, 64));
    let n = &reported.numbers;
    let known = tx
        .query_opt(
            "UPDATE mounts SET ended_at = $2::timestamptz, fault_reason = $3::varchar, early_warning = $4, end_block = $5::bigint, \
             medium_serial = $6::varchar, seed_score = $7::smallint, written_bytes = $8::bigint, read_bytes = $9::bigint, \
             medium_written = $10::bigint, medium_read = $11::bigint, write_corrected = $12::bigint, \
             write_uncorrected = $13::bigint, read_corrected = $14::bigint, read_uncorrected = $15::bigint, \
             write_retries = $16::bigint, read_retries = $17::bigint, suspends = $18::bigint, fatal_suspends = $19::bigint, \
             native_bytes = $20::bigint, remaining_bytes = $21::bigint, load_count = $22::bigint, life_written = $23::bigint, \
             life_read = $24::bigint WHERE mount_uuid = $1 AND drive_id = $25 RETURNING id",
            &[
                &reported.mount_uuid, &reported.ended_at, &reason, &reported.early_warning, &reported.end_block, &serial,
                &reported.seed_score, &n.written_bytes, &n.read_bytes, &n.medium_written, &n.medium_read, &n.write_corrected,
                &n.write_uncorrected, &n.read_corrected, &n.read_uncorrected, &n.write_retries, &n.read_retries, &n.suspends,
                &n.fatal_suspends, &n.native_bytes, &n.remaining_bytes, &n.load_count, &n.life_written, &n.life_read,
                &scope.drive_id,
            ],
        )
        .await?;
    if let Some(row) = known {
        return Ok(row.get(0));
    }
    let (volume, recording) = scope.volume.unzip();
    let row = tx
        .query_one(
            "INSERT INTO mounts (mount_uuid, ended_at, fault_reason, early_warning, end_block, medium_serial, seed_score, \
             written_bytes, read_bytes, medium_written, medium_read, write_corrected, write_uncorrected, read_corrected, \
             read_uncorrected, write_retries, read_retries, suspends, fatal_suspends, native_bytes, remaining_bytes, load_count, \
             life_written, life_read, drive_id, attempt_id, volume_id, recording_uuid, began_at) \
             VALUES ($1, $2::timestamptz, $3::varchar, $4, $5::bigint, $6::varchar, $7::smallint, $8::bigint, $9::bigint, \
             $10::bigint, $11::bigint, $12::bigint, $13::bigint, $14::bigint, $15::bigint, $16::bigint, $17::bigint, $18::bigint, \
             $19::bigint, $20::bigint, $21::bigint, $22::bigint, $23::bigint, $24::bigint, $25, $26, $27::bigint, $28::uuid, $29) \
             RETURNING id",
            &[
                &reported.mount_uuid, &reported.ended_at, &reason, &reported.early_warning, &reported.end_block, &serial,
                &reported.seed_score, &n.written_bytes, &n.read_bytes, &n.medium_written, &n.medium_read, &n.write_corrected,
                &n.write_uncorrected, &n.read_corrected, &n.read_uncorrected, &n.write_retries, &n.read_retries, &n.suspends,
                &n.fatal_suspends, &n.native_bytes, &n.remaining_bytes, &n.load_count, &n.life_written, &n.life_read,
                &scope.drive_id, &scope.attempt_id, &volume, &recording, &reported.began_at,
            ],
        )
        .await?;
    Ok(row.get(0))
}

/// An alert of a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertRow {
    /// Mount.
    pub mount_id: i64,
    /// Flag, 1 to 64.
    pub flag: i16,
    /// Its name.
    pub title: String,
    /// `information`, `warning` or `critical`.
    pub severity: String,
    /// What follows, as stored.
    pub measure: String,
    /// What it means.
    pub meaning: String,
    /// What to do.
    pub advice: String,
}

/// Adds the alerts that the mount has not yet, and says which those are.
pub async fn alert_add_on(
    tx: &Transaction<'_>,
    mount: i64,
    alerts: &[AlertRow],
) -> Result<Vec<i16>, Error> {
    let texts = |text: fn(&AlertRow) -> &str, limit| -> Vec<String> {
        alerts
            .iter()
            .map(|alert| clip(text(alert), limit))
            .collect()
    };
    let flags: Vec<i16> = alerts.iter().map(|alert| alert.flag).collect();
    let rows = tx
        .query(
            "INSERT INTO mount_alerts (mount_id, flag, title, severity, measure, meaning, advice) \
             SELECT $1::bigint, fresh.f, fresh.t, fresh.s, fresh.m, fresh.w, fresh.a FROM ( \
                 SELECT unnest($2::smallint[]) AS f, unnest($3::varchar[]) AS t, unnest($4::varchar[]) AS s, \
                 unnest($5::varchar[]) AS m, unnest($6::varchar[]) AS w, unnest($7::varchar[]) AS a \
             ) AS fresh WHERE NOT EXISTS ( \
                 SELECT 1 FROM mount_alerts AS o WHERE o.mount_id = $1::bigint AND o.flag = fresh.f) \
             RETURNING flag",
            &[
                &mount,
                &flags,
                &texts(|a| &a.title, 64),
                &texts(|a| &a.severity, 16),
                &texts(|a| &a.measure, 24),
                &texts(|a| &a.meaning, 400),
                &texts(|a| &a.advice, 400),
            ],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Alerts of mounts, by mount and flag.
pub async fn alert_list(
    client: &impl GenericClient,
    mounts: &[i64],
) -> Result<Vec<AlertRow>, Error> {
    let rows = client
        .query(
            "SELECT mount_id, flag, title, severity, measure, meaning, advice FROM mount_alerts \
             WHERE mount_id = ANY($1::bigint[]) ORDER BY mount_id, flag",
            &[&mounts],
        )
        .await?;
    Ok(rows.iter().map(alert_row).collect())
}

/// Alerts of the mounts of a job, the newest mount first, with when that began.
pub async fn alert_list_of_job(
    client: &impl GenericClient,
    job: i64,
) -> Result<Vec<(AlertRow, Timestamp)>, Error> {
    let rows = client
        .query(
            "SELECT a.mount_id, a.flag, a.title, a.severity, a.measure, a.meaning, a.advice, m.began_at \
             FROM mount_alerts AS a JOIN mounts AS m ON m.id = a.mount_id JOIN attempts AS t ON t.id = m.attempt_id \
             WHERE t.job_id = $1 ORDER BY a.mount_id DESC, a.flag",
            &[&job],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| (alert_row(row), row.get(7)))
        .collect())
}

fn alert_row(row: &Row) -> AlertRow {
    AlertRow {
        mount_id: row.get(0),
        flag: row.get(1),
        title: row.get(2),
        severity: row.get(3),
        measure: row.get(4),
        meaning: row.get(5),
        advice: row.get(6),
    }
}

/// A mount with the names of what it refers to.
#[derive(Debug, Clone)]
pub struct MountRow {
    /// Row.
    pub id: i64,
    /// Serial number of the drive.
    pub drive: String,
    /// Barcode of the volume.
    pub volume: Option<String>,
    /// Job.
    pub job: i64,
    /// Recording that the volume had.
    pub recording: Option<Uuid>,
    /// When the cartridge was ready.
    pub began_at: Timestamp,
    /// When the work was over.
    pub ended_at: Option<Timestamp>,
    /// Fault of drive or medium.
    pub fault_reason: Option<String>,
    /// What was counted.
    pub numbers: Numbers,
    /// The end of the medium was near.
    pub early_warning: bool,
    /// Logical block at which a write ended.
    pub end_block: Option<i64>,
    /// The cartridge's own serial number.
    pub medium_serial: Option<String>,
    /// The predecessor's score.
    pub seed_score: Option<i16>,
}

const MOUNT_COLUMNS: &str = "m.id, d.serial, v.barcode, t.job_id, m.recording_uuid, m.began_at, m.ended_at, m.fault_reason, \
     m.early_warning, m.end_block, m.medium_serial, m.seed_score, m.written_bytes, m.read_bytes, m.medium_written, m.medium_read, \
     m.write_corrected, m.write_uncorrected, m.read_corrected, m.read_uncorrected, m.write_retries, m.read_retries, m.suspends, \
     m.fatal_suspends, m.native_bytes, m.remaining_bytes, m.load_count, m.life_written, m.life_read";

const MOUNT_JOINS: &str = "JOIN drives AS d ON d.id = m.drive_id JOIN attempts AS t ON t.id = m.attempt_id \
     LEFT JOIN volumes AS v ON v.id = m.volume_id";

fn mount_row(row: &Row) -> MountRow {
    MountRow {
        id: row.get(0),
        drive: row.get(1),
        volume: row.get(2),
        job: row.get(3),
        recording: row.get(4),
        began_at: row.get(5),
        ended_at: row.get(6),
        fault_reason: row.get(7),
        early_warning: row.get(8),
        end_block: row.get(9),
        medium_serial: row.get(10),
        seed_score: row.get(11),
        numbers: Numbers {
            written_bytes: row.get(12),
            read_bytes: row.get(13),
            medium_written: row.get(14),
            medium_read: row.get(15),
            write_corrected: row.get(16),
            write_uncorrected: row.get(17),
            read_corrected: row.get(18),
            read_uncorrected: row.get(19),
            write_retries: row.get(20),
            read_retries: row.get(21),
            suspends: row.get(22),
            fatal_suspends: row.get(23),
            native_bytes: row.get(24),
            remaining_bytes: row.get(25),
            load_count: row.get(26),
            life_written: row.get(27),
            life_read: row.get(28),
        },
    }
}

/// Which mounts are wanted; all that are not `None` must hold.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// Serial number of the drive.
    pub drive: Option<&'a str>,
    /// Barcode of the volume.
    pub volume: Option<&'a str>,
    /// Job.
    pub job: Option<i64>,
}

/// Mounts before `before` by row, the newest first.
pub async fn mount_list(
    client: &impl GenericClient,
    wanted: Wanted<'_>,
    before: i64,
    limit: i64,
) -> Result<Vec<MountRow>, Error> {
    let sql = format!(
        "SELECT {MOUNT_COLUMNS} FROM mounts AS m {MOUNT_JOINS} WHERE m.id < $1 \
         AND ($2::varchar IS NULL OR d.serial = $2::varchar) AND ($3::varchar IS NULL OR v.barcode = $3::varchar) \
         AND ($4::bigint IS NULL OR t.job_id = $4::bigint) ORDER BY m.id DESC LIMIT $5::bigint"
    );
    let rows = client
        .query(
            &sql,
            &[&before, &wanted.drive, &wanted.volume, &wanted.job, &limit],
        )
        .await?;
    Ok(rows.iter().map(mount_row).collect())
}

/// The newest mounts of each of these drives (by serial number) and volumes (by barcode).
pub async fn mount_list_newest(
    client: &impl GenericClient,
    drives: &[&str],
    volumes: &[&str],
    each: i64,
) -> Result<Vec<MountRow>, Error> {
    let sql = format!(
        "SELECT {MOUNT_COLUMNS} FROM mounts AS m {MOUNT_JOINS} WHERE m.id IN ( \
             SELECT x.id FROM (SELECT o.id, row_number() OVER (PARTITION BY o.drive_id ORDER BY o.id DESC) AS nth \
                 FROM mounts AS o JOIN drives AS y ON y.id = o.drive_id WHERE y.serial = ANY($1::varchar[])) AS x WHERE x.nth <= $3 \
             UNION ALL \
             SELECT x.id FROM (SELECT o.id, row_number() OVER (PARTITION BY o.volume_id ORDER BY o.id DESC) AS nth \
                 FROM mounts AS o JOIN volumes AS y ON y.id = o.volume_id WHERE y.barcode = ANY($2::varchar[])) AS x WHERE x.nth <= $3) \
         ORDER BY m.id"
    );
    let rows = client.query(&sql, &[&drives, &volumes, &each]).await?;
    Ok(rows.iter().map(mount_row).collect())
}

/// What the catalog itself knows of a volume's health.
pub struct VolumeFacts {
    /// Barcode.
    pub barcode: String,
    /// Its recording.
    pub recording: Uuid,
    /// Block size of that.
    pub block_size: i32,
    /// Why its data should move.
    pub retire_reason: Option<String>,
    /// Mounts in all.
    pub mount_count: i64,
}

/// What the catalog itself knows of these volumes' health.
pub async fn volume_facts(
    client: &impl GenericClient,
    barcodes: &[&str],
) -> Result<Vec<VolumeFacts>, Error> {
    let rows = client
        .query(
            "SELECT v.barcode, v.recording_uuid, v.block_size, v.retire_reason, \
             (SELECT count(*) FROM mounts AS m WHERE m.volume_id = v.id) FROM volumes AS v WHERE v.barcode = ANY($1::varchar[])",
            &[&barcodes],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| VolumeFacts {
            barcode: row.get(0),
            recording: row.get(1),
            block_size: row.get(2),
            retire_reason: row.get(3),
            mount_count: row.get(4),
        })
        .collect())
}

/// What a drive says of itself, and what was decided on it.
pub struct DriveFacts {
    /// Serial number.
    pub serial: String,
    /// `unknown`, `not-wanted`, `requested` or `required`.
    pub cleaning: String,
    /// Why it gets no work.
    pub down_reason: Option<String>,
    /// Mounts in all.
    pub mount_count: i64,
}

/// What is known of these drives' health besides their mounts.
pub async fn drive_facts(
    client: &impl GenericClient,
    serials: &[&str],
) -> Result<Vec<DriveFacts>, Error> {
    let rows = client
        .query(
            "SELECT d.serial, d.cleaning, d.down_reason, (SELECT count(*) FROM mounts AS m WHERE m.drive_id = d.id) \
             FROM drives AS d WHERE d.serial = ANY($1::varchar[])",
            &[&serials],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| DriveFacts {
            serial: row.get(0),
            cleaning: row.get(1),
            down_reason: row.get(2),
            mount_count: row.get(3),
        })
        .collect())
}

/// The drive gets no more work. False if it is down already, whose reason stays.
pub async fn drive_down_on(tx: &Transaction<'_>, drive: i64, reason: &str) -> Result<bool, Error> {
    let rows = tx
        .execute(
            "UPDATE drives SET down_reason = $2, down_at = clock_timestamp() WHERE id = $1 AND down_reason IS NULL",
            &[&drive, &clip(reason, 400)],
        )
        .await?;
    Ok(rows == 1)
}

/// The drive gets work again. False if it did.
pub async fn drive_up_on(tx: &Transaction<'_>, drive: i64) -> Result<bool, Error> {
    let rows = tx
        .execute(
            "UPDATE drives SET down_reason = NULL, down_at = NULL WHERE id = $1 AND down_reason IS NOT NULL",
            &[&drive],
        )
        .await?;
    Ok(rows == 1)
}

/// The row of a drive.
pub async fn drive_id(client: &impl GenericClient, serial: &str) -> Result<Option<i64>, Error> {
    let sql = "SELECT id FROM drives WHERE serial = $1";
    Ok(client
        .query_opt(sql, &[&serial])
        .await?
        .map(|row| row.get(0)))
}

/// The volume's data should move. The first reason stays.
pub async fn volume_retire_on(
    tx: &Transaction<'_>,
    volume: i64,
    reason: &str,
) -> Result<(), Error> {
    tx.execute(
        "UPDATE volumes SET retire_reason = $2 WHERE id = $1 AND retire_reason IS NULL",
        &[&volume, &clip(reason, 400)],
    )
    .await?;
    Ok(())
}
