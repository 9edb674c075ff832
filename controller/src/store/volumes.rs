//! Volumes: cartridges, their present recording, and where they are.

use std::collections::HashSet;

use jiff::Timestamp;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{Error, GenericClient, Transaction, clip, indexes};

/// A volume with the names of what it refers to.
pub struct VolumeRow {
    /// Row.
    pub id: i64,
    /// Barcode.
    pub barcode: String,
    /// The cartridge.
    pub volume_uuid: Uuid,
    /// Pool's row.
    pub pool_id: i64,
    /// Pool's name.
    pub pool: String,
    /// State as stored.
    pub state: String,
    /// Why.
    pub state_reason: Option<String>,
    /// The recording.
    pub recording_uuid: Uuid,
    /// Block size of the recording.
    pub block_size: i32,
    /// Tape file that an append makes.
    pub next_tape_file: i64,
    /// Logical block that an append begins at.
    pub next_block: i64,
    /// Bytes committed.
    pub byte_count: i64,
    /// When it was labelled.
    pub labelled_at: Option<Timestamp>,
    /// When a part was last committed.
    pub written_at: Option<Timestamp>,
    /// Committed parts.
    pub part_count: i64,
    /// Published versions that need parts on it.
    pub version_count: i64,
    /// Job of the attempt that holds it.
    pub reserved_by: Option<i64>,
    /// Library that shows it.
    pub library_id: Option<i64>,
    /// Serial number of that library.
    pub library: Option<String>,
    /// Element that it is in.
    pub address: Option<i32>,
    /// Drive that it is in: row and serial number.
    pub drive: Option<(i64, String)>,
    /// How many elements of connected libraries show its barcode.
    pub seen_count: i64,
    /// Library where it was seen last.
    pub seen_library: Option<String>,
    /// Element in which it was seen last.
    pub seen_address: Option<i32>,
    /// When.
    pub seen_at: Option<Timestamp>,
    /// The cartridge's own serial number.
    pub medium_serial: Option<String>,
    /// Since when nothing that is needed is on it, although it was written.
    pub freed_at: Option<Timestamp>,
    /// Since when it may hold something else than the catalog says, and has to be inspected.
    pub suspect_since: Option<Timestamp>,
    /// When it was inspected last.
    pub inspected_at: Option<Timestamp>,
}

const VOLUME_SELECT: &str = "SELECT DISTINCT ON (v.barcode) v.id, v.barcode, v.volume_uuid, v.pool_id, p.pool_name, v.state, v.state_reason, \
     v.recording_uuid, v.block_size, v.next_tape_file, v.next_block, v.byte_count, v.labelled_at, v.written_at, \
     (SELECT count(*) FROM parts x WHERE x.recording_uuid = v.recording_uuid) AS part_count, \
     (SELECT count(DISTINCT n.line_id::varchar || ':' || n.version::varchar) FROM parts x \
       JOIN version_parts n ON n.part_id = x.id WHERE x.recording_uuid = v.recording_uuid) AS version_count, \
     t.job_id, e.library_id, l.serial, e.address, d.id, d.serial, \
     (SELECT count(*) FROM elements x JOIN libraries y ON y.id = x.library_id \
       WHERE x.occupied AND x.barcode = v.barcode AND y.connected) AS seen_count, \
     v.seen_library, v.seen_address, v.seen_at, v.medium_serial, v.freed_at, v.suspect_since, v.inspected_at FROM ";

const VOLUME_JOINS: &str = " v JOIN pools p ON p.id = v.pool_id \
     LEFT JOIN attempt_volumes h ON h.cartridge = v.barcode AND h.held LEFT JOIN attempts t ON t.id = h.attempt_id \
     LEFT JOIN elements e ON e.occupied AND e.barcode = v.barcode \
     LEFT JOIN libraries l ON l.id = e.library_id \
     LEFT JOIN drives d ON d.serial = e.drive_serial ";

/// A barcode that libraries show twice is one volume; a library that is connected knows better where it is.
const VOLUME_ORDER: &str =
    "ORDER BY v.barcode, COALESCE(l.connected, false) DESC, e.library_id, e.address, t.id";

fn volume_row(row: &Row) -> VolumeRow {
    VolumeRow {
        id: row.get(0),
        barcode: row.get(1),
        volume_uuid: row.get(2),
        pool_id: row.get(3),
        pool: row.get(4),
        state: row.get(5),
        state_reason: row.get(6),
        recording_uuid: row.get(7),
        block_size: row.get(8),
        next_tape_file: row.get(9),
        next_block: row.get(10),
        byte_count: row.get(11),
        labelled_at: row.get(12),
        written_at: row.get(13),
        part_count: row.get(14),
        version_count: row.get(15),
        reserved_by: row.get(16),
        library_id: row.get(17),
        library: row.get(18),
        address: row.get(19),
        drive: row.get::<_, Option<i64>>(20).zip(row.get(21)),
        seen_count: row.get(22),
        seen_library: row.get(23),
        seen_address: row.get(24),
        seen_at: row.get(25),
        medium_serial: row.get(26),
        freed_at: row.get(27),
        suspect_since: row.get(28),
        inspected_at: row.get(29),
    }
}

/// Volumes behind `after` by barcode, of one pool if it is named.
pub async fn volume_list(
    client: &impl GenericClient,
    after: &str,
    pool: Option<&str>,
    limit: i64,
) -> Result<Vec<VolumeRow>, Error> {
    // The page first: what is counted of a volume is counted for that page alone.
    let sql = format!(
        "{VOLUME_SELECT} (SELECT x.* FROM volumes x JOIN pools y ON y.id = x.pool_id WHERE x.barcode > $1 \
         AND ($2::varchar IS NULL OR y.pool_name = $2::varchar) ORDER BY x.barcode LIMIT $3::bigint) \
         {VOLUME_JOINS} {VOLUME_ORDER}"
    );
    let rows = client.query(&sql, &[&after, &pool, &limit]).await?;
    Ok(rows.iter().map(volume_row).collect())
}

/// One volume by barcode.
pub async fn volume_get(
    client: &impl GenericClient,
    barcode: &str,
) -> Result<Option<VolumeRow>, Error> {
    let sql = format!("{VOLUME_SELECT} volumes {VOLUME_JOINS} WHERE v.barcode = $1 {VOLUME_ORDER}");
    let rows = client.query(&sql, &[&barcode]).await?;
    Ok(rows.first().map(volume_row))
}

/// A volume, as the reconciler needs it.
pub struct PlannedVolume {
    /// Row.
    pub id: i64,
    /// Barcode.
    pub barcode: String,
    /// The cartridge.
    pub volume_uuid: Uuid,
    /// The recording.
    pub recording_uuid: Uuid,
    /// Pool's row.
    pub pool_id: i64,
    /// Pool's name.
    pub pool: String,
    /// State as stored.
    pub state: String,
    /// Block size of the recording.
    pub block_size: i32,
    /// Tape file that an append makes.
    pub next_tape_file: i64,
    /// Logical block that an append begins at.
    pub next_block: i64,
    /// Bytes committed.
    pub byte_count: i64,
    /// Whether a job is to erase it or to copy what lives on it: nothing is to be written to it any more.
    pub condemned: bool,
    /// The cartridge's own serial number.
    pub medium_serial: Option<String>,
    /// Density code of the medium.
    pub density: Option<u8>,
    /// The recording that may still be on a cartridge which is to be labelled anew, and where it ended: nothing of it is needed.
    pub former: Option<(Uuid, i64)>,
    /// Whether it has to be inspected before anything is written to it.
    pub suspect: bool,
    /// Library and element where it was before it went, and when that was seen.
    pub seen: (Option<String>, Option<i32>, Option<Timestamp>),
}

impl PlannedVolume {
    /// Where it was before it went, for people.
    pub fn last_place(&self) -> Option<String> {
        let (library, address, at) = &self.seen;
        let (address, library) = ((*address)?, library.as_ref()?);
        let place = format!("it was in element {address} of library {library}");
        Some(match at {
            Some(at) => format!("{place} until {}", at.strftime("%Y-%m-%d %H:%M UTC")),
            None => place,
        })
    }
}

/// Every volume that a waiting job could get or that an attempt or job names. Full ones, which are most, are not read.
pub async fn volume_list_planned_on(tx: &Transaction<'_>) -> Result<Vec<PlannedVolume>, Error> {
    let rows = tx
        .query(
            "SELECT v.id, v.barcode, v.volume_uuid, v.recording_uuid, v.pool_id, p.pool_name, v.state, v.block_size, \
             v.next_tape_file, v.next_block, v.byte_count, \
             EXISTS (SELECT 1 FROM jobs j WHERE j.volume_id = v.id AND j.ended_at IS NULL AND j.kind IN ('erase', 'format', 'reclaim')) \
             AS condemned, v.medium_serial, v.density, v.former_recording, v.former_end, v.suspect_since IS NOT NULL, \
             v.seen_library, v.seen_address, v.seen_at \
             FROM volumes v JOIN pools p ON p.id = v.pool_id \
             WHERE v.state = 'appendable' \
             OR v.id IN (SELECT h.volume_id FROM attempt_volumes h WHERE h.held AND h.volume_id IS NOT NULL) \
             OR v.id IN (SELECT t.wanted_volume_id FROM attempts t WHERE t.ended_at IS NULL AND t.wanted_volume_id IS NOT NULL) \
             OR v.id IN (SELECT j.volume_id FROM jobs j WHERE j.ended_at IS NULL AND j.volume_id IS NOT NULL) \
             OR v.id IN (SELECT x.volume_id FROM job_volumes x JOIN jobs j ON j.id = x.job_id WHERE j.ended_at IS NULL) \
             ORDER BY v.id",
            &[],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| PlannedVolume {
            id: row.get(0),
            barcode: row.get(1),
            volume_uuid: row.get(2),
            recording_uuid: row.get(3),
            pool_id: row.get(4),
            pool: row.get(5),
            state: row.get(6),
            block_size: row.get(7),
            next_tape_file: row.get(8),
            next_block: row.get(9),
            byte_count: row.get(10),
            condemned: row.get(11),
            medium_serial: row.get(12),
            density: row
                .get::<_, Option<i16>>(13)
                .and_then(|code| u8::try_from(code).ok()),
            former: row.get::<_, Option<Uuid>>(14).zip(row.get(15)),
            suspect: row.get(16),
            seen: (row.get(17), row.get(18), row.get(19)),
        })
        .collect())
}

/// Those of some volumes that no connected library shows where a robot takes them from.
pub async fn volume_list_away(
    client: &impl GenericClient,
    volumes: &[i64],
) -> Result<HashSet<i64>, Error> {
    let sql = "SELECT v.id FROM volumes AS v WHERE v.id = ANY($1::bigint[]) AND NOT EXISTS \
               (SELECT 1 FROM elements AS x JOIN libraries AS y ON y.id = x.library_id \
               WHERE x.occupied AND x.barcode = v.barcode AND y.connected AND x.kind <> 'mail-slot')";
    let rows = client.query(sql, &[&volumes]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// A tape file of a volume, as the catalog knows it.
pub struct TapeFileRow {
    /// Number.
    pub number: i64,
    /// Whether nothing owns it.
    pub orphan: bool,
    /// Bytes, 0 if unknown.
    pub byte_count: i64,
    /// First logical block.
    pub first_block: i64,
    /// Line and version.
    pub version: Option<(i64, i64)>,
    /// Part number.
    pub part_number: i32,
    /// Whether the version is published.
    pub published: bool,
    /// Of a part: whether an index has its records.
    pub indexed: bool,
    /// Of an index: how many parts it covers.
    pub covered: Option<i64>,
    /// Of a part: when it was verified last.
    pub verified_at: Option<Timestamp>,
    /// Of a part: what was wrong with it then.
    pub damage: Option<String>,
}

/// Most tape files that are shown of a volume; one with parts of the usual size has hundreds.
const FILES_MAX: i64 = 20_000;

/// The tape files behind the label.
pub async fn volume_files(
    client: &impl GenericClient,
    recording: Uuid,
) -> Result<Vec<TapeFileRow>, Error> {
    let rows = client
        .query(
            "SELECT x.tape_file, false AS orphan, x.byte_count, x.first_block, a.line_id, a.version, x.part_number, \
             a.state = 'published' AS published, x.covered_by IS NOT NULL AS indexed, NULL::bigint AS covered, \
             x.verified_at, x.damage \
             FROM parts x JOIN archives a ON a.id = x.archive_id WHERE x.recording_uuid = $1 \
             UNION ALL \
             SELECT o.tape_file, true, 0::bigint, o.first_block, NULL::bigint, NULL::bigint, 0, false, false, NULL::bigint, \
             NULL::timestamptz, NULL::varchar FROM orphans o WHERE o.recording_uuid = $1 \
             UNION ALL \
             SELECT i.tape_file, false, i.byte_count, i.first_block, NULL::bigint, NULL::bigint, 0, false, false, \
             (SELECT count(*) FROM parts c WHERE c.covered_by = i.id), NULL::timestamptz, NULL::varchar \
             FROM volume_indexes i WHERE i.recording_uuid = $1 \
             ORDER BY 1 LIMIT $2::bigint",
            &[&recording, &FILES_MAX],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| TapeFileRow {
            number: row.get(0),
            orphan: row.get(1),
            byte_count: row.get(2),
            first_block: row.get(3),
            version: row.get::<_, Option<i64>>(4).zip(row.get(5)),
            part_number: row.get(6),
            published: row.get(7),
            indexed: row.get(8),
            covered: row.get(9),
            verified_at: row.get(10),
            damage: row.get(11),
        })
        .collect())
}

/// Makes the row of a cartridge that is to be labelled, or takes one over whose labelling failed. The recording is new
/// each time; the cartridge keeps its id, by which a half-written label of ours is recognised. `None` if the barcode
/// is a living volume.
pub async fn volume_open_label_on(
    tx: &Transaction<'_>,
    barcode: &str,
    pool_id: i64,
    block_size: i32,
    fresh: (Uuid, Uuid),
) -> Result<Option<i64>, Error> {
    let (_, recording_uuid) = fresh;
    let taken_over = tx
        .query_opt(
            "UPDATE volumes SET state = 'labelling', state_reason = NULL, pool_id = $2, block_size = $3, \
             recording_uuid = $4 WHERE barcode = $1 AND state = 'unlabelled' RETURNING id",
            &[&barcode, &pool_id, &block_size, &recording_uuid],
        )
        .await?;
    if let Some(row) = taken_over {
        return Ok(Some(row.get(0)));
    }
    volume_open_unknown_on(tx, barcode, pool_id, block_size, fresh).await
}

/// Which of these barcodes the catalog has volumes of, in whatever state, or jobs that are to write them from their beginning.
pub async fn barcode_list_known_on(
    tx: &Transaction<'_>,
    barcodes: &[&str],
) -> Result<HashSet<String>, Error> {
    let sql = "SELECT barcode FROM volumes WHERE barcode = ANY($1::varchar[]) UNION ALL SELECT j.cartridge FROM jobs AS j \
               WHERE j.ended_at IS NULL AND j.kind IN ('erase', 'format') AND j.cartridge = ANY($1::varchar[])";
    let rows = tx.query(sql, &[&barcodes]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Makes the row of a cartridge that is to be labelled and that the catalog does not know; `None` if it does.
pub async fn volume_open_unknown_on(
    tx: &Transaction<'_>,
    barcode: &str,
    pool_id: i64,
    block_size: i32,
    fresh: (Uuid, Uuid),
) -> Result<Option<i64>, Error> {
    let (volume_uuid, recording_uuid) = fresh;
    let made = tx
        .query_opt(
            "INSERT INTO volumes (barcode, volume_uuid, pool_id, state, recording_uuid, block_size, created_at) \
             SELECT $1::varchar, $2::uuid, $3::bigint, 'labelling', $4::uuid, $5::integer, clock_timestamp() \
             WHERE NOT EXISTS (SELECT 1 FROM volumes WHERE barcode = $1::varchar) RETURNING id",
            &[
                &barcode,
                &volume_uuid,
                &pool_id,
                &recording_uuid,
                &block_size,
            ],
        )
        .await?;
    Ok(made.map(|row| row.get(0)))
}

/// What the drive says of a cartridge itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cartridge {
    /// Its own serial number.
    pub medium_serial: Option<String>,
    /// Density code of its medium.
    pub density: Option<u8>,
}

impl Cartridge {
    /// From what a worker reports: empty and 0 are what the drive does not tell.
    pub fn reported(medium_serial: &str, density: u32) -> Cartridge {
        Cartridge {
            medium_serial: (!medium_serial.is_empty()).then(|| clip(medium_serial, 64)),
            density: u8::try_from(density).ok().filter(|&code| code > 0),
        }
    }
}

/// The label is on the medium.
pub async fn volume_labelled_on(
    tx: &Transaction<'_>,
    id: i64,
    next_block: i64,
    cartridge: &Cartridge,
) -> Result<(), Error> {
    let density = cartridge.density.map(i16::from);
    let rows = tx
        .execute(
            "UPDATE volumes SET state = 'appendable', state_reason = NULL, next_tape_file = 1, next_block = $2, \
             byte_count = 0, labelled_at = clock_timestamp(), medium_serial = $3::varchar, density = $4::smallint, \
             former_recording = NULL, former_end = NULL, freed_at = NULL, suspect_since = NULL \
             WHERE id = $1 AND state = 'labelling'",
            &[&id, &next_block, &cartridge.medium_serial, &density],
        )
        .await?;
    Error::expect_one(rows, "volume")
}

/// Other volumes that were this very cartridge under another barcode, which now is volume `id`: what the catalog has of them is
/// not there any more. One that a library shows elsewhere is none of them: then the serial number tells nothing apart. Returns
/// the barcodes of those that lived.
pub async fn volume_superseded_on(
    tx: &Transaction<'_>,
    id: i64,
    medium_serial: &str,
    reason: &str,
) -> Result<Vec<String>, Error> {
    tx.execute(
        "UPDATE volumes SET medium_serial = NULL WHERE medium_serial = $2 AND id <> $1 AND state = 'unlabelled'",
        &[&id, &medium_serial],
    )
    .await?;
    let rows = tx
        .query(
            "UPDATE volumes SET state = 'quarantined', state_reason = $3 WHERE medium_serial = $2 AND id <> $1 \
             AND state NOT IN ('labelling', 'unlabelled') AND NOT EXISTS (SELECT 1 FROM elements AS e \
             JOIN libraries AS l ON l.id = e.library_id \
             WHERE e.occupied AND l.connected AND e.barcode = volumes.barcode) RETURNING barcode",
            &[&id, &medium_serial, &clip(reason, 400)],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// A drive has proved a volume, and says what cartridge it is. A serial number that is known stays: a differing one is refused
/// when the volume is proved.
pub async fn volume_proved_on(
    tx: &Transaction<'_>,
    id: i64,
    cartridge: &Cartridge,
) -> Result<(), Error> {
    let density = cartridge.density.map(i16::from);
    tx.execute(
        "UPDATE volumes SET medium_serial = COALESCE(medium_serial, $2::varchar), density = COALESCE($3::smallint, density) \
         WHERE id = $1 AND state NOT IN ('labelling', 'unlabelled')",
        &[&id, &cartridge.medium_serial, &density],
    )
    .await?;
    Ok(())
}

/// A living volume of a barcode, locked: whether it holds parts that published versions need, and its recording.
pub async fn volume_living_on(tx: &Transaction<'_>, id: i64) -> Result<Living, Error> {
    let row = tx
        .query_opt(
            "SELECT recording_uuid FROM volumes WHERE id = $1 FOR UPDATE",
            &[&id],
        )
        .await?
        .ok_or(Error::Stale("volume"))?;
    let recording: Uuid = row.get(0);
    let rows = tx
        .query(
            "SELECT n.line_id, n.version FROM parts x JOIN version_parts n ON n.part_id = x.id WHERE x.recording_uuid = $1 \
             UNION SELECT a.line_id, a.version FROM parts x JOIN archives a ON a.id = x.archive_id \
             WHERE x.recording_uuid = $1 AND a.state IN ('staged', 'closed', 'unclaimed') \
             UNION SELECT j.line_id, j.version FROM parts x JOIN version_parts n ON n.part_id = x.id \
             JOIN jobs j ON j.line_id = n.line_id AND j.version = n.version WHERE x.former_recording = $1 AND j.ended_at IS NULL \
             AND j.kind IN ('restore', 'feed') AND j.created_at < x.moved_at ORDER BY 1, 2",
            &[&recording],
        )
        .await?;
    Ok(Living {
        recording,
        versions: rows.iter().map(|row| (row.get(0), row.get(1))).collect(),
    })
}

/// What lives on a volume.
pub struct Living {
    /// The recording.
    pub recording: Uuid,
    /// Line and number of each version, published or being made, that needs parts on it, or is being read from it.
    pub versions: Vec<(i64, i64)>,
}

/// What is on a volume is not there any more, nor are its indexes.
pub(super) async fn volume_indexes_forget_on(tx: &Transaction<'_>, id: i64) -> Result<(), Error> {
    let sql = "SELECT recording_uuid FROM volumes WHERE id = $1 FOR UPDATE";
    let row = tx.query_opt(sql, &[&id]).await?;
    let row = row.ok_or(Error::Stale("volume"))?;
    indexes::index_forget_on(tx, row.get(0)).await
}

/// The medium is blank: the volume has no label and no recording any more.
pub async fn volume_erased_on(
    tx: &Transaction<'_>,
    id: i64,
    fresh: Uuid,
    reason: &str,
) -> Result<(), Error> {
    volume_indexes_forget_on(tx, id).await?;
    let rows = tx
        .execute(
            "UPDATE volumes SET state = 'unlabelled', state_reason = $2, recording_uuid = $3, next_tape_file = 0, \
             next_block = 0, byte_count = 0, labelled_at = NULL, written_at = NULL, former_recording = NULL, former_end = NULL, \
             freed_at = NULL, suspect_since = NULL WHERE id = $1 AND state <> 'labelling'",
            &[&id, &clip(reason, 400), &fresh],
        )
        .await?;
    Error::expect_one(rows, "volume")
}

/// A volume contradicts the catalog, or may.
pub async fn volume_quarantine_on(
    tx: &Transaction<'_>,
    id: i64,
    reason: &str,
) -> Result<(), Error> {
    tx.execute(
        "UPDATE volumes SET state = 'quarantined', state_reason = $2 WHERE id = $1 \
         AND state NOT IN ('labelling', 'unlabelled')",
        &[&id, &clip(reason, 400)],
    )
    .await?;
    Ok(())
}

/// Labelling did not happen.
pub async fn volume_unlabelled_on(
    tx: &Transaction<'_>,
    id: i64,
    reason: &str,
) -> Result<(), Error> {
    let rows = tx
        .execute(
            "UPDATE volumes SET state = 'unlabelled', state_reason = $2 WHERE id = $1 AND state = 'labelling'",
            &[&id, &clip(reason, 400)],
        )
        .await?;
    Error::expect_one(rows, "volume")
}
