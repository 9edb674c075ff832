//! Drives, as their workers report them, and the sign of life of every kind of unit.

use jiff::Timestamp;
use uuid::Uuid;

use super::{Error, GenericClient, Transaction, libraries::UnitIdentity};

/// A worker of a drive has connected. Returns the drive's row.
///
/// The worker delivers what its journal holds before it connects. So a new process has nothing more to say of earlier
/// attempts, and the volumes that they held are free.
pub async fn drive_connect_on(
    tx: &Transaction<'_>,
    unit: &UnitIdentity<'_>,
    firmware: &str,
    addresses: &str,
) -> Result<i64, Error> {
    let known = tx
        .query_opt(
            "UPDATE drives SET vendor = $2, product = $3, agent_id = $4, incarnation = $5, firmware = $6, \
             addresses = $7, connected = true, state_reason = NULL, hung_since = NULL, hung_command = NULL, \
             medium = CASE WHEN incarnation = $5 THEN medium ELSE 'unknown' END, \
             last_heard_at = clock_timestamp() WHERE serial = $1 RETURNING id",
            &[
                &unit.serial,
                &unit.vendor,
                &unit.product,
                &unit.agent_id,
                &unit.incarnation,
                &firmware,
                &addresses,
            ],
        )
        .await?;
    let Some(row) = known else {
        let row = tx
            .query_one(
                "INSERT INTO drives (serial, vendor, product, firmware, agent_id, addresses, incarnation, connected, \
                 last_heard_at) VALUES ($1, $2, $3, $4, $5, $6, $7, true, clock_timestamp()) RETURNING id",
                &[
                    &unit.serial,
                    &unit.vendor,
                    &unit.product,
                    &firmware,
                    &unit.agent_id,
                    &addresses,
                    &unit.incarnation,
                ],
            )
            .await?;
        return Ok(row.get(0));
    };
    let id: i64 = row.get(0);
    tx.execute(
        "UPDATE attempt_volumes SET held = false WHERE held AND attempt_id IN (SELECT t.id FROM attempts t \
         WHERE t.drive_id = $1 AND t.ended_at IS NOT NULL AND (t.drive_incarnation IS NULL OR t.drive_incarnation <> $2))",
        &[&id, &unit.incarnation],
    )
    .await?;
    Ok(id)
}

/// A command that does not come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hung {
    /// When it was sent.
    pub since: Timestamp,
    /// Its name.
    pub command: String,
}

/// What a drive says of its medium, and of a command that hangs. False if another process of it has come since.
pub async fn drive_observe_on(
    tx: &Transaction<'_>,
    id: i64,
    incarnation: Uuid,
    medium: &str,
    barcode: Option<&str>,
    hung: Option<&Hung>,
) -> Result<bool, Error> {
    let (since, command) = hung.map(|hung| (hung.since, hung.command.as_str())).unzip();
    let rows = tx
        .execute(
            "UPDATE drives SET medium = $3, barcode = $4::varchar, hung_since = $5::timestamptz, \
             hung_command = $6::varchar, last_heard_at = clock_timestamp() WHERE id = $1 AND incarnation = $2",
            &[&id, &incarnation, &medium, &barcode, &since, &command],
        )
        .await?;
    Ok(rows == 1)
}

/// A kind of unit, for what is alike in all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unit {
    /// A source agent.
    Source(i64),
    /// A drive's worker.
    Drive(i64),
    /// A robot's worker.
    Library(i64),
}

/// A unit was heard of. A process that is not the newest one changes nothing.
pub async fn unit_heard(
    client: &impl GenericClient,
    unit: Unit,
    incarnation: Uuid,
    connected: bool,
) -> Result<(), Error> {
    let (sql, id) = match unit {
        Unit::Source(id) => (
            "UPDATE agents SET last_seen_at = clock_timestamp(), connected = $3 WHERE id = $1 AND incarnation = $2",
            id,
        ),
        Unit::Drive(id) => (
            "UPDATE drives SET last_heard_at = clock_timestamp(), connected = $3 WHERE id = $1 AND incarnation = $2",
            id,
        ),
        Unit::Library(id) => (
            "UPDATE libraries SET last_heard_at = clock_timestamp(), connected = $3 WHERE id = $1 AND incarnation = $2",
            id,
        ),
    };
    client
        .execute(sql, &[&id, &incarnation, &connected])
        .await?;
    Ok(())
}

/// A source agent has connected.
pub async fn source_connect_on(
    tx: &Transaction<'_>,
    agent_id: i64,
    incarnation: Uuid,
    host_name: &str,
    reads_incomplete: bool,
) -> Result<(), Error> {
    let rows = tx
        .execute(
            "UPDATE agents SET incarnation = $2, connected = true, host_name = $3, reads_incomplete = $4, \
             last_seen_at = clock_timestamp() WHERE id = $1",
            &[&agent_id, &incarnation, &host_name, &reads_incomplete],
        )
        .await?;
    Error::expect_one(rows, "agent")
}

/// Every source agent that was ever connected: row and process.
pub async fn source_list_on(tx: &Transaction<'_>) -> Result<Vec<(i64, Uuid)>, Error> {
    let rows = tx
        .query(
            "SELECT id, incarnation FROM agents WHERE incarnation IS NOT NULL",
            &[],
        )
        .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Notes the program version of an agent, and that it is alive.
pub async fn agent_seen_on(
    tx: &Transaction<'_>,
    agent_id: i64,
    program_version: &str,
) -> Result<(), Error> {
    tx.execute(
        "UPDATE agents SET program_version = $2, last_seen_at = clock_timestamp() WHERE id = $1",
        &[&agent_id, &program_version],
    )
    .await?;
    Ok(())
}

/// Whoever was not heard for `lease_seconds` is not connected, whatever its last session said: the controller that held the
/// session may have died.
pub async fn unit_expire_on(tx: &Transaction<'_>, lease_seconds: f64) -> Result<(), Error> {
    for sql in [
        "UPDATE agents SET connected = false WHERE connected \
         AND last_seen_at < clock_timestamp() - $1::float8 * interval '1 second'",
        "UPDATE drives SET connected = false WHERE connected \
         AND last_heard_at < clock_timestamp() - $1::float8 * interval '1 second'",
        "UPDATE libraries SET connected = false WHERE connected \
         AND last_heard_at < clock_timestamp() - $1::float8 * interval '1 second'",
    ] {
        tx.execute(sql, &[&lease_seconds]).await?;
    }
    Ok(())
}

/// A drive with what the library shows of it.
#[allow(clippy::struct_excessive_bools)] // facts, each by itself
pub struct DriveRow {
    /// Row.
    pub id: i64,
    /// Serial number.
    pub serial: String,
    /// Vendor.
    pub vendor: String,
    /// Product.
    pub product: String,
    /// Firmware.
    pub firmware: String,
    /// Agent's name.
    pub agent: String,
    /// host:port, separated by spaces.
    pub addresses: String,
    /// Process of its worker.
    pub incarnation: Uuid,
    /// Seconds since it was heard of.
    pub silent_seconds: f64,
    /// Whether its worker is connected.
    pub connected: bool,
    /// `unknown`, `empty`, `loaded` or `unloaded`.
    pub medium: String,
    /// Barcode of what is in it, by the library if there is one, else by its label.
    pub barcode: Option<String>,
    /// Why it is as it is.
    pub state_reason: Option<String>,
    /// The command that does not come back.
    pub hung: Option<Hung>,
    /// Library: row, serial number, whether that one's worker is connected.
    pub library: Option<(i64, String, bool)>,
    /// Whether the library shows something in it.
    pub full: bool,
    /// Job that it works for; the first one if several share it.
    pub job: Option<i64>,
    /// It gets no more work.
    pub down: bool,
    /// Encoded `taf.agent.v1.DriveObservation` of that.
    pub progress: Option<Vec<u8>>,
    /// It asks to be cleaned, and nothing was done for it yet.
    pub clean_due: bool,
    /// Why not.
    pub clean_waits_for: Option<String>,
    /// When it was cleaned last.
    pub cleaned_at: Option<Timestamp>,
}

/// One drive by serial number.
pub async fn drive_get(
    client: &impl GenericClient,
    serial: &str,
) -> Result<Option<DriveRow>, Error> {
    // They are few.
    let drives = drive_list(client, "", 10_000).await?;
    Ok(drives.into_iter().find(|drive| drive.serial == serial))
}

/// Drives behind `after` by serial number. One that two libraries show is in the one that is connected.
pub async fn drive_list(
    client: &impl GenericClient,
    after: &str,
    limit: i64,
) -> Result<Vec<DriveRow>, Error> {
    let rows = client
        .query(
            "SELECT DISTINCT ON (d.serial) d.id, d.serial, d.vendor, d.product, d.firmware, a.agent_name, d.addresses, d.incarnation, \
             extract(epoch FROM clock_timestamp() - d.last_heard_at)::float8, d.connected, d.medium, \
             COALESCE(e.barcode, d.barcode), d.state_reason, l.id, l.serial, l.connected, \
             COALESCE(e.occupied, false), t.job_id, d.hung_since, d.hung_command, d.down_reason IS NOT NULL, t.drive_progress, \
             d.clean_due, d.clean_waits_for, d.cleaned_at \
             FROM drives d JOIN agents a ON a.id = d.agent_id \
             LEFT JOIN elements e ON e.drive_serial = d.serial AND e.kind = 'drive' \
             LEFT JOIN libraries l ON l.id = e.library_id \
             LEFT JOIN attempts t ON t.drive_id = d.id AND t.ended_at IS NULL \
             WHERE d.serial > $1 ORDER BY d.serial, COALESCE(l.connected, false) DESC, l.id, t.id LIMIT $2::bigint",
            &[&after, &limit],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| DriveRow {
            id: row.get(0),
            serial: row.get(1),
            vendor: row.get(2),
            product: row.get(3),
            firmware: row.get(4),
            agent: row.get(5),
            addresses: row.get(6),
            incarnation: row.get(7),
            silent_seconds: row.get(8),
            connected: row.get(9),
            medium: row.get(10),
            barcode: row.get(11),
            state_reason: row.get(12),
            library: row
                .get::<_, Option<i64>>(13)
                .map(|id| (id, row.get(14), row.get(15))),
            full: row.get(16),
            job: row.get(17),
            hung: row
                .get::<_, Option<Timestamp>>(18)
                .zip(row.get(19))
                .map(|(since, command)| Hung { since, command }),
            down: row.get(20),
            progress: row.get(21),
            clean_due: row.get(22),
            clean_waits_for: row.get(23),
            cleaned_at: row.get(24),
        })
        .collect())
}

/// A job of those that share a drive.
pub struct SharerRow {
    /// Drive's row.
    pub drive_id: i64,
    /// Job.
    pub job: i64,
    /// Encoded `taf.agent.v1.DriveObservation` of its attempt.
    pub progress: Option<Vec<u8>>,
}

/// Who works with the drives that several work with, as they came.
pub async fn drive_sharers(client: &impl GenericClient) -> Result<Vec<SharerRow>, Error> {
    let rows = client
        .query(
            "SELECT t.drive_id, t.job_id, t.drive_progress FROM attempts t WHERE t.ended_at IS NULL AND EXISTS \
             (SELECT 1 FROM attempts o WHERE o.drive_id = t.drive_id AND o.ended_at IS NULL AND o.id <> t.id) ORDER BY t.id",
            &[],
        )
        .await?;
    let sharer = |row: &tokio_postgres::Row| SharerRow {
        drive_id: row.get(0),
        job: row.get(1),
        progress: row.get(2),
    };
    Ok(rows.iter().map(sharer).collect())
}
