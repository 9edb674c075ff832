//! Parts: what of an archive is proved to be on tape, and where.

use bytes::Bytes;
use uuid::Uuid;

use super::conditions::put_in;
use super::{Error, GenericClient, Transaction};

/// What makes two reports of a part the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// Recording.
    pub recording: Uuid,
    /// Tape file.
    pub tape_file: i64,
    /// BLAKE3 of records and segment table.
    pub digest: Vec<u8>,
}

/// A part to add.
#[derive(Debug, Clone)]
pub struct NewPart {
    /// Archive.
    pub archive_id: i64,
    /// From 1.
    pub part_number: i32,
    /// Volume.
    pub volume_id: i64,
    /// Where, and its digest.
    pub proof: Proof,
    /// Logical block of block 0.
    pub first_block: i64,
    /// Blocks.
    pub block_count: i64,
    /// Bytes.
    pub byte_count: i64,
    /// Sequence of the first segment.
    pub first_sequence: i64,
    /// Sequence of the last segment.
    pub last_sequence: i64,
    /// Tar offset of the first byte.
    pub first_tar_offset: i64,
    /// Tar offset behind the last byte.
    pub end_tar_offset: i64,
    /// Whether the archive ends here.
    pub final_part: bool,
    /// Whether an error cut it off.
    pub truncated: bool,
    /// How often it was copied from volume to volume.
    pub copy: i32,
    /// Encoded.
    pub segment_table: Bytes,
}

/// The proof of a committed part.
pub async fn part_get(
    client: &impl GenericClient,
    archive: i64,
    number: i32,
) -> Result<Option<Proof>, Error> {
    let sql = "SELECT recording_uuid, tape_file, digest FROM parts WHERE archive_id = $1 AND part_number = $2";
    let row = client.query_opt(sql, &[&archive, &number]).await?;
    Ok(row.map(|row| Proof {
        recording: row.get(0),
        tape_file: row.get(1),
        digest: row.get(2),
    }))
}

/// Adds a part. [`Error::Exists`] if its number or its tape file is taken.
pub async fn part_add_on(tx: &Transaction<'_>, part: &NewPart) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO parts (archive_id, part_number, volume_id, recording_uuid, tape_file, first_block, block_count, byte_count, \
         first_sequence, last_sequence, first_tar_offset, end_tar_offset, final_part, truncated, digest, segment_table, \
         copy_number, committed_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, clock_timestamp())",
        &[
            &part.archive_id,
            &part.part_number,
            &part.volume_id,
            &part.proof.recording,
            &part.proof.tape_file,
            &part.first_block,
            &part.block_count,
            &part.byte_count,
            &part.first_sequence,
            &part.last_sequence,
            &part.first_tar_offset,
            &part.end_tar_offset,
            &part.final_part,
            &part.truncated,
            &part.proof.digest,
            &part.segment_table.as_ref(),
            &part.copy,
        ],
    )
    .await?;
    Ok(())
}

/// What publishing must know of a part.
#[derive(Debug, Clone)]
pub struct Span {
    /// From 1.
    pub part_number: i32,
    /// Sequence of the first segment.
    pub first_sequence: i64,
    /// Sequence of the last segment.
    pub last_sequence: i64,
    /// Tar offset of the first byte.
    pub first_tar_offset: i64,
    /// Tar offset behind the last byte.
    pub end_tar_offset: i64,
    /// Whether the archive ends here.
    pub final_part: bool,
    /// Bytes on tape.
    pub byte_count: i64,
}

/// How many parts a job has on tape, in all its streams, and their bytes.
pub async fn part_sum_of_job_on(tx: &Transaction<'_>, job: i64) -> Result<(i64, i64), Error> {
    let sql = "SELECT count(*), COALESCE(sum(x.byte_count), 0)::bigint AS bytes FROM attempts t JOIN archives a ON a.attempt_id = t.id \
               JOIN parts x ON x.archive_id = a.id WHERE t.job_id = $1";
    let row = tx.query_one(sql, &[&job]).await?;
    Ok((row.get(0), row.get(1)))
}

/// The parts of an archive by number.
pub async fn part_list_on(tx: &Transaction<'_>, archive: i64) -> Result<Vec<Span>, Error> {
    let sql = "SELECT part_number, first_sequence, last_sequence, first_tar_offset, end_tar_offset, final_part, byte_count \
               FROM parts WHERE archive_id = $1 ORDER BY part_number";
    let rows = tx.query(sql, &[&archive]).await?;
    Ok(rows.iter().map(span).collect())
}

/// A part that an earlier attempt at a version has left.
#[derive(Debug, Clone)]
pub struct Left {
    /// Ordinal of its archive.
    pub ordinal: i32,
    /// What it holds.
    pub span: Span,
    /// Whether its recording still is on the cartridge.
    pub in_place: bool,
}

/// The parts that attempts at a version which is not published have left, by archive and number.
pub async fn part_list_left(
    client: &impl GenericClient,
    line: i64,
    version: i64,
) -> Result<Vec<Left>, Error> {
    let sql = "SELECT x.part_number, x.first_sequence, x.last_sequence, x.first_tar_offset, x.end_tar_offset, x.final_part, \
               x.byte_count, a.ordinal, EXISTS (SELECT 1 FROM volumes AS v WHERE v.recording_uuid = x.recording_uuid) \
               FROM archives AS a JOIN parts AS x ON x.archive_id = a.id \
               WHERE a.line_id = $1 AND a.version = $2 AND a.state IN ('staged', 'closed') ORDER BY a.ordinal, x.part_number";
    let rows = client.query(sql, &[&line, &version]).await?;
    Ok(rows
        .iter()
        .map(|row| Left {
            ordinal: row.get(7),
            span: span(row),
            in_place: row.get(8),
        })
        .collect())
}

fn span(row: &tokio_postgres::Row) -> Span {
    Span {
        part_number: row.get(0),
        first_sequence: row.get(1),
        last_sequence: row.get(2),
        first_tar_offset: row.get(3),
        end_tar_offset: row.get(4),
        final_part: row.get(5),
        byte_count: row.get(6),
    }
}

/// A part that a published version needs, for reading it.
#[derive(Debug, Clone)]
pub struct Located {
    /// Ordinal of its archive.
    pub archive_ordinal: i32,
    /// Archive.
    pub archive_uuid: Uuid,
    /// From 1.
    pub part_number: i32,
    /// Volume.
    pub volume_id: i64,
    /// Barcode of the volume.
    pub barcode: String,
    /// Recording.
    pub recording: Uuid,
    /// Block size of the recording.
    pub block_size: i32,
    /// Tape file.
    pub tape_file: i64,
    /// Logical block of block 0.
    pub first_block: i64,
    /// Bytes.
    pub byte_count: i64,
    /// Tar offset of the first byte.
    pub first_tar_offset: i64,
    /// Tar offset behind the last byte.
    pub end_tar_offset: i64,
    /// Whether a volume still bears the recording.
    pub in_place: bool,
}

/// The parts that a published version needs, by archive and number; those of earlier versions too.
pub async fn part_list_of_version(
    client: &impl GenericClient,
    line: i64,
    version: i64,
) -> Result<Vec<Located>, Error> {
    let sql = "SELECT a.ordinal, a.archive_uuid, x.part_number, x.volume_id, v.barcode, v.block_size, x.tape_file, x.first_block, \
               x.byte_count, x.first_tar_offset, x.end_tar_offset, x.recording_uuid, \
               EXISTS (SELECT 1 FROM volumes AS w WHERE w.recording_uuid = x.recording_uuid AND w.state <> 'unlabelled') \
               FROM version_parts AS n JOIN parts AS x ON x.id = n.part_id JOIN archives AS a ON a.id = x.archive_id \
               JOIN volumes AS v ON v.id = x.volume_id WHERE n.line_id = $1 AND n.version = $2 ORDER BY a.ordinal, x.part_number";
    let rows = client.query(sql, &[&line, &version]).await?;
    Ok(rows.iter().map(located).collect())
}

/// The same for an attempt that reads them. What was copied to another volume since its job was asked for it reads where it was, so
/// that all that it is ever told has one order.
pub async fn part_list_of_reader(
    client: &impl GenericClient,
    line: i64,
    version: i64,
    attempt: i64,
) -> Result<Vec<Located>, Error> {
    let sql = "SELECT a.ordinal, a.archive_uuid, x.part_number, COALESCE(f.id, x.volume_id), COALESCE(f.barcode, v.barcode), \
               COALESCE(f.block_size, v.block_size), CASE WHEN f.id IS NULL THEN x.tape_file ELSE x.former_tape_file END, \
               CASE WHEN f.id IS NULL THEN x.first_block ELSE x.former_first_block END, \
               CASE WHEN f.id IS NULL THEN x.byte_count ELSE x.former_byte_count END, x.first_tar_offset, x.end_tar_offset, \
               COALESCE(f.recording_uuid, x.recording_uuid), \
               f.id IS NOT NULL OR EXISTS (SELECT 1 FROM volumes AS w WHERE w.recording_uuid = x.recording_uuid AND w.state <> 'unlabelled') \
               FROM version_parts AS n JOIN parts AS x ON x.id = n.part_id JOIN archives AS a ON a.id = x.archive_id \
               JOIN volumes AS v ON v.id = x.volume_id LEFT JOIN attempts AS t ON t.id = $3 LEFT JOIN jobs AS j ON j.id = t.job_id {FORMER} \
               WHERE n.line_id = $1 AND n.version = $2 ORDER BY a.ordinal, x.part_number";
    let rows = client
        .query(&put_in(sql), &[&line, &version, &attempt])
        .await?;
    Ok(rows.iter().map(located).collect())
}

fn located(row: &tokio_postgres::Row) -> Located {
    Located {
        archive_ordinal: row.get(0),
        archive_uuid: row.get(1),
        part_number: row.get(2),
        volume_id: row.get(3),
        barcode: row.get(4),
        block_size: row.get(5),
        tape_file: row.get(6),
        first_block: row.get(7),
        byte_count: row.get(8),
        first_tar_offset: row.get(9),
        end_tar_offset: row.get(10),
        recording: row.get(11),
        in_place: row.get(12),
    }
}

/// What of a line's bytes a part holds, and on which volume.
#[derive(Debug, Clone)]
pub struct PlacedPart {
    /// Ordinal of its archive.
    pub archive_ordinal: i32,
    /// Tar offset of the first byte.
    pub first_tar_offset: i64,
    /// Tar offset behind the last byte.
    pub end_tar_offset: i64,
    /// Barcode of the volume.
    pub barcode: String,
}

/// The parts of a line, by archive and number.
pub async fn part_list_of_line(
    client: &impl GenericClient,
    line: i64,
) -> Result<Vec<PlacedPart>, Error> {
    let sql = "SELECT a.ordinal, x.first_tar_offset, x.end_tar_offset, v.barcode FROM parts AS x \
               JOIN archives AS a ON a.id = x.archive_id JOIN volumes AS v ON v.id = x.volume_id \
               WHERE a.line_id = $1 ORDER BY a.ordinal, x.part_number";
    let rows = client.query(sql, &[&line]).await?;
    let placed = |row: &tokio_postgres::Row| PlacedPart {
        archive_ordinal: row.get(0),
        first_tar_offset: row.get(1),
        end_tar_offset: row.get(2),
        barcode: row.get(3),
    };
    Ok(rows.iter().map(placed).collect())
}

/// The segment table of a part, as it lies on a recording.
pub async fn part_table(
    client: &impl GenericClient,
    archive: Uuid,
    number: i32,
    recording: Uuid,
) -> Result<Option<Bytes>, Error> {
    let sql = "SELECT CASE WHEN x.former_recording = $3 THEN COALESCE(x.former_table, x.segment_table) ELSE x.segment_table END \
               FROM parts AS x JOIN archives AS a ON a.id = x.archive_id WHERE a.archive_uuid = $1 AND x.part_number = $2";
    let row = client
        .query_opt(sql, &[&archive, &number, &recording])
        .await?;
    Ok(row.map(|row| Bytes::from(row.get::<_, Vec<u8>>(0))))
}
