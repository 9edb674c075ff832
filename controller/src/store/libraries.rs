//! Libraries and their elements, as their workers report them.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use uuid::Uuid;

use super::{Error, GenericClient, Transaction, cleaning};

/// Who a worker says it is.
pub struct UnitIdentity<'a> {
    /// Serial number.
    pub serial: &'a str,
    /// Vendor.
    pub vendor: &'a str,
    /// Product.
    pub product: &'a str,
    /// Agent's row.
    pub agent_id: i64,
    /// Its process.
    pub incarnation: Uuid,
}

/// A worker of a robot has connected. Returns the library's row.
pub async fn library_connect_on(
    tx: &Transaction<'_>,
    unit: &UnitIdentity<'_>,
) -> Result<i64, Error> {
    let known = tx
        .query_opt(
            "UPDATE libraries SET vendor = $2, product = $3, agent_id = $4, incarnation = $5, connected = true, \
             last_heard_at = clock_timestamp() WHERE serial = $1 RETURNING id",
            &[&unit.serial, &unit.vendor, &unit.product, &unit.agent_id, &unit.incarnation],
        )
        .await?;
    if let Some(row) = known {
        return Ok(row.get(0));
    }
    let row = tx
        .query_one(
            "INSERT INTO libraries (serial, vendor, product, agent_id, incarnation, connected, last_heard_at) \
             VALUES ($1, $2, $3, $4, $5, true, clock_timestamp()) RETURNING id",
            &[
                &unit.serial,
                &unit.vendor,
                &unit.product,
                &unit.agent_id,
                &unit.incarnation,
            ],
        )
        .await?;
    Ok(row.get(0))
}

/// An element, as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ElementRow {
    /// Address.
    pub address: i32,
    /// `slot`, `mail-slot` or `drive`.
    pub kind: String,
    /// Whether something is in it.
    pub occupied: bool,
    /// Barcode.
    pub barcode: Option<String>,
    /// Serial number of a drive.
    pub drive_serial: Option<String>,
    /// Where what is in a drive came from.
    pub source_address: Option<i32>,
    /// What the library says is wrong with it.
    pub exception: Option<String>,
}

/// What a robot's worker says of the library besides its elements.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Condition {
    /// Why the robot moves nothing now.
    pub pause: Option<String>,
    /// What the library says is wrong with its picker.
    pub picker_exception: Option<String>,
}

/// How the library is. False if another process of its worker has followed: what this one saw is out of date.
pub async fn library_condition_on(
    tx: &Transaction<'_>,
    library_id: i64,
    incarnation: Uuid,
    condition: &Condition,
) -> Result<bool, Error> {
    let rows = tx
        .execute(
            "UPDATE libraries SET pause = $3::varchar, picker_exception = $4::varchar WHERE id = $1 AND incarnation = $2",
            &[
                &library_id,
                &incarnation,
                &condition.pause,
                &condition.picker_exception,
            ],
        )
        .await?;
    Ok(rows == 1)
}

/// Replaces what is known of a library's elements; rows that did not change are not written. Addresses must differ. A volume
/// that leaves an element was seen there last.
pub async fn library_inventory_on(
    tx: &Transaction<'_>,
    library_id: i64,
    elements: &[ElementRow],
) -> Result<(), Error> {
    tx.execute(
        "UPDATE libraries SET inventory_at = clock_timestamp() WHERE id = $1",
        &[&library_id],
    )
    .await?;
    let mut known: HashMap<i32, ElementRow> = library_elements(tx, library_id)
        .await?
        .into_iter()
        .map(|e| (e.address, e))
        .collect();
    for element in elements {
        let before = known.remove(&element.address);
        if before.as_ref() == Some(element) {
            continue;
        }
        if let Some(left) = &before
            && left.barcode != element.barcode
        {
            seen_last_on(tx, library_id, left).await?;
        }
        if before.is_some() {
            tx.execute(
                "DELETE FROM elements WHERE library_id = $1 AND address = $2",
                &[&library_id, &element.address],
            )
            .await?;
        }
        tx.execute(
            "INSERT INTO elements (library_id, address, kind, occupied, barcode, drive_serial, source_address, exception) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            &[
                &library_id,
                &element.address,
                &element.kind,
                &element.occupied,
                &element.barcode,
                &element.drive_serial,
                &element.source_address,
                &element.exception,
            ],
        )
        .await?;
    }
    for left in known.values() {
        seen_last_on(tx, library_id, left).await?;
    }
    let gone: Vec<i32> = known.into_keys().collect();
    tx.execute(
        "DELETE FROM elements WHERE library_id = $1 AND address = ANY($2::integer[])",
        &[&library_id, &gone],
    )
    .await?;
    Ok(())
}

/// Notes where a volume was, now that it is not there any more.
async fn seen_last_on(
    tx: &Transaction<'_>,
    library_id: i64,
    left: &ElementRow,
) -> Result<(), Error> {
    let Some(barcode) = left.barcode.as_ref().filter(|_| left.occupied) else {
        return Ok(());
    };
    tx.execute(
        "UPDATE volumes SET seen_library = (SELECT l.serial FROM libraries l WHERE l.id = $2), seen_address = $3, \
         seen_at = clock_timestamp() WHERE barcode = $1",
        &[barcode, &library_id, &left.address],
    )
    .await?;
    Ok(())
}

/// The elements of a library by address.
pub async fn library_elements(
    client: &impl GenericClient,
    library_id: i64,
) -> Result<Vec<ElementRow>, Error> {
    let rows = client
        .query(
            "SELECT address, kind, occupied, barcode, drive_serial, source_address, exception FROM elements \
             WHERE library_id = $1 ORDER BY address",
            &[&library_id],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| ElementRow {
            address: row.get(0),
            kind: row.get(1),
            occupied: row.get(2),
            barcode: row.get(3),
            drive_serial: row.get(4),
            source_address: row.get(5),
            exception: row.get(6),
        })
        .collect())
}

/// What libraries hold, as the catalog knows it.
#[derive(Debug, Default)]
pub struct Contents {
    /// State of each volume, by barcode.
    pub states: HashMap<String, String>,
    /// Barcodes that libraries show more than once.
    pub twice: HashSet<String>,
    /// How often known cleaning cartridges can still be used.
    pub cleaning: HashMap<String, u32>,
}

impl Contents {
    /// How often a cartridge can still clean a drive; `None` if it is for data.
    pub fn cleanings_left(&self, barcode: &str) -> Option<u32> {
        let known = self.cleaning.get(barcode).copied();
        known.or_else(|| cleaning::is_cleaning(barcode).then_some(cleaning::USES))
    }
}

/// What is known of all cartridges in libraries.
pub async fn library_contents(client: &impl GenericClient) -> Result<Contents, Error> {
    let states = client
        .query(
            "SELECT DISTINCT v.barcode, v.state FROM volumes v JOIN elements e ON e.barcode = v.barcode AND e.occupied",
            &[],
        )
        .await?;
    let twice = client
        .query(
            "SELECT e.barcode FROM elements e JOIN libraries l ON l.id = e.library_id \
             WHERE e.occupied AND e.barcode IS NOT NULL AND l.connected GROUP BY e.barcode HAVING count(*) > 1",
            &[],
        )
        .await?;
    Ok(Contents {
        states: states.iter().map(|row| (row.get(0), row.get(1))).collect(),
        twice: twice.iter().map(|row| row.get(0)).collect(),
        cleaning: cleaning::cleaning_list(client).await?,
    })
}

/// Whether a cartridge with this barcode is in a library.
pub async fn library_holds(client: &impl GenericClient, barcode: &str) -> Result<bool, Error> {
    let row = client
        .query_one(
            "SELECT count(*) FROM elements WHERE occupied AND barcode = $1",
            &[&barcode],
        )
        .await?;
    Ok(row.get::<_, i64>(0) > 0)
}

/// A library.
pub struct LibraryRow {
    /// Row.
    pub id: i64,
    /// Serial number.
    pub serial: String,
    /// Vendor.
    pub vendor: String,
    /// Product.
    pub product: String,
    /// Agent's name.
    pub agent: String,
    /// Whether its worker is connected.
    pub connected: bool,
    /// Process of its worker.
    pub incarnation: Uuid,
    /// When its elements were read.
    pub inventory_at: Option<Timestamp>,
    /// Why its robot moves nothing now.
    pub pause: Option<String>,
    /// What the library says is wrong with its picker.
    pub picker_exception: Option<String>,
    /// Seconds since it was heard of.
    pub silent_seconds: f64,
}

/// Libraries behind `after` by serial number.
pub async fn library_list(
    client: &impl GenericClient,
    after: &str,
    limit: i64,
) -> Result<Vec<LibraryRow>, Error> {
    let rows = client
        .query(
            "SELECT l.id, l.serial, l.vendor, l.product, a.agent_name, l.connected, l.incarnation, l.inventory_at, \
             extract(epoch FROM clock_timestamp() - l.last_heard_at)::float8, l.pause, l.picker_exception \
             FROM libraries l JOIN agents a ON a.id = l.agent_id WHERE l.serial > $1 ORDER BY l.serial LIMIT $2::bigint",
            &[&after, &limit],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| LibraryRow {
            id: row.get(0),
            serial: row.get(1),
            vendor: row.get(2),
            product: row.get(3),
            agent: row.get(4),
            connected: row.get(5),
            incarnation: row.get(6),
            inventory_at: row.get(7),
            silent_seconds: row.get(8),
            pause: row.get(9),
            picker_exception: row.get(10),
        })
        .collect())
}
