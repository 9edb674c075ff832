//! Verifying: which parts of a volume a job reads, and what came of each.

use jiff::Timestamp;
use uuid::Uuid;

use super::{Error, GenericClient, Transaction, clip};

/// A part that may be verified.
#[derive(Debug, Clone)]
pub struct Verifiable {
    /// Row.
    pub id: i64,
    /// Archive.
    pub archive: Uuid,
    /// Its ordinal.
    pub ordinal: i32,
    /// From 1.
    pub part_number: i32,
    /// Tape file.
    pub tape_file: i64,
    /// Logical block of block 0.
    pub first_block: i64,
    /// Bytes.
    pub byte_count: i64,
    /// Sequences of the first and the last segment.
    pub sequences: (i64, i64),
    /// Tar offsets of the first byte and behind the last.
    pub tar_offsets: (i64, i64),
    /// BLAKE3 of records and segment table.
    pub digest: Vec<u8>,
    /// When it was verified last.
    pub verified_at: Option<Timestamp>,
}

/// The parts of a recording, in the order of the tape.
pub async fn verifiable_list(
    client: &impl GenericClient,
    recording: Uuid,
) -> Result<Vec<Verifiable>, Error> {
    let sql = "SELECT x.id, a.archive_uuid, a.ordinal, x.part_number, x.tape_file, x.first_block, x.byte_count, x.first_sequence, \
               x.last_sequence, x.first_tar_offset, x.end_tar_offset, x.digest, x.verified_at \
               FROM parts AS x JOIN archives AS a ON a.id = x.archive_id WHERE x.recording_uuid = $1 ORDER BY x.tape_file";
    let rows = client.query(sql, &[&recording]).await?;
    Ok(rows.iter().map(verifiable).collect())
}

/// From the first columns of a row, in the order of [`verifiable_list`].
pub(super) fn verifiable(row: &tokio_postgres::Row) -> Verifiable {
    Verifiable {
        id: row.get(0),
        archive: row.get(1),
        ordinal: row.get(2),
        part_number: row.get(3),
        tape_file: row.get(4),
        first_block: row.get(5),
        byte_count: row.get(6),
        sequences: (row.get(7), row.get(8)),
        tar_offsets: (row.get(9), row.get(10)),
        digest: row.get(11),
        verified_at: row.get(12),
    }
}

/// How a verification reads a part of what it could read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleOf {
    /// Seed of the choice, up to `i64::MAX`.
    pub seed: u64,
    /// Share of the bytes in percent.
    pub percent: Option<i32>,
    /// For how many seconds it reads.
    pub seconds: Option<i64>,
}

/// What a verification reads, and why.
#[derive(Debug, Clone, Copy, Default)]
pub struct NewVerification<'a> {
    /// Volume.
    pub volume_id: i64,
    /// Its parts.
    pub parts: &'a [i64],
    /// Bytes in them.
    pub bytes: i64,
    /// The version that they are read for, by line and number.
    pub version: Option<(i64, i64)>,
    /// How.
    pub how: How,
}

/// How parts are verified.
#[derive(Debug, Clone, Copy, Default)]
pub struct How {
    /// The job that begins it by itself.
    pub cause: Option<i64>,
    /// Whether it takes only what nobody else wants.
    pub background: bool,
    /// Set if it reads only a part.
    pub sample: Option<SampleOf>,
}

/// Adds a job that verifies parts of a volume.
pub async fn job_create_verify_on(
    tx: &Transaction<'_>,
    new: &NewVerification<'_>,
    creator: &str,
) -> Result<i64, Error> {
    let (line, version) = new.version.unzip();
    let sample = new.how.sample;
    let seed = sample.map(|sample| sample.seed as i64);
    let percent = sample.and_then(|sample| sample.percent);
    let seconds = sample.and_then(|sample| sample.seconds);
    let row = tx
        .query_one(
            "INSERT INTO jobs (kind, state, creator, volume_id, byte_total, line_id, version, cause_job, sample_seed, sample_percent, \
             time_limit_seconds, background, created_at) VALUES ('verify', 'queued', $1, $2, $3, $4::bigint, $5::bigint, $6::bigint, $7::bigint, \
             $8::integer, $9::bigint, $10::boolean, clock_timestamp()) RETURNING id",
            &[
                &creator,
                &new.volume_id,
                &new.bytes,
                &line,
                &version,
                &new.how.cause,
                &seed,
                &percent,
                &seconds,
                &new.how.background,
            ],
        )
        .await?;
    let job: i64 = row.get(0);
    tx.execute(
        "INSERT INTO job_parts (job_id, part_id) SELECT $1::bigint, unnest($2::bigint[])",
        &[&job, &new.parts],
    )
    .await?;
    Ok(job)
}

/// The parts that a version needs of one volume.
#[derive(Debug, Clone)]
pub struct PartsOfVolume {
    /// Volume.
    pub volume_id: i64,
    /// Its barcode.
    pub barcode: String,
    /// Row and bytes of each part.
    pub parts: Vec<(i64, i64)>,
}

impl PartsOfVolume {
    /// Bytes in all of them.
    pub fn bytes(&self) -> i64 {
        self.parts.iter().map(|(_, bytes)| bytes).sum()
    }
}

/// The parts that a published version needs, by volume, in the order in which its archives come to them.
pub async fn version_verifiable(
    client: &impl GenericClient,
    line: i64,
    version: i64,
) -> Result<Vec<PartsOfVolume>, Error> {
    let sql = "SELECT x.id, x.volume_id, v.barcode, x.byte_count FROM version_parts AS n JOIN parts AS x ON x.id = n.part_id \
               JOIN archives AS a ON a.id = x.archive_id JOIN volumes AS v ON v.id = x.volume_id \
               WHERE n.line_id = $1 AND n.version = $2 ORDER BY a.ordinal, x.part_number";
    Ok(by_volume(&client.query(sql, &[&line, &version]).await?))
}

/// Of rows of parts with their volumes and bytes: those of each volume, the volumes as they are met.
pub(super) fn by_volume(rows: &[tokio_postgres::Row]) -> Vec<PartsOfVolume> {
    let mut volumes: Vec<PartsOfVolume> = Vec::new();
    for row in rows {
        let volume_id: i64 = row.get(1);
        let at = volumes.iter().position(|v| v.volume_id == volume_id);
        let at = at.unwrap_or_else(|| {
            volumes.push(PartsOfVolume {
                volume_id,
                barcode: row.get(2),
                parts: Vec::new(),
            });
            volumes.len() - 1
        });
        volumes[at].parts.push((row.get(0), row.get(3)));
    }
    volumes
}

/// Adds the jobs that verify these parts, one for each volume: of a published version, if one is named.
pub async fn parts_verify_on(
    tx: &Transaction<'_>,
    version: Option<(i64, i64)>,
    volumes: &[PartsOfVolume],
    how: How,
    creator: &str,
) -> Result<Vec<i64>, Error> {
    let mut jobs = Vec::new();
    for volume in volumes {
        let parts: Vec<i64> = volume.parts.iter().map(|(id, _)| *id).collect();
        let new = NewVerification {
            volume_id: volume.volume_id,
            parts: &parts,
            bytes: volume.bytes(),
            version,
            how,
        };
        jobs.push(job_create_verify_on(tx, &new, creator).await?);
    }
    Ok(jobs)
}

/// How a job reads a part of what it could read, if it does.
pub async fn job_sample(client: &impl GenericClient, job: i64) -> Result<Option<SampleOf>, Error> {
    let sql = "SELECT sample_seed, sample_percent, time_limit_seconds FROM jobs WHERE id = $1 AND sample_seed IS NOT NULL";
    let row = client.query_opt(sql, &[&job]).await?;
    Ok(row.map(|row| SampleOf {
        seed: row.get::<_, i64>(0) as u64,
        percent: row.get(1),
        seconds: row.get(2),
    }))
}

/// The parts that a job verifies.
pub async fn job_part_ids(client: &impl GenericClient, job: i64) -> Result<Vec<i64>, Error> {
    let sql = "SELECT part_id FROM job_parts WHERE job_id = $1 ORDER BY part_id";
    let rows = client.query(sql, &[&job]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Dates what was found of a part. False if there is no such part.
pub async fn part_verified_on(
    tx: &Transaction<'_>,
    recording: Uuid,
    tape_file: i64,
    damage: Option<&str>,
) -> Result<bool, Error> {
    let rows = tx
        .execute(
            "UPDATE parts SET verified_at = clock_timestamp(), damage = $3::varchar WHERE recording_uuid = $1 AND tape_file = $2",
            &[&recording, &tape_file, &damage.map(|text| clip(text, 400))],
        )
        .await?;
    Ok(rows == 1)
}
