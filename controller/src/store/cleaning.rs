//! Cleaning cartridges: how often each was used. It has only so many uses, and is never taken for data.

use std::collections::HashMap;

use super::{Error, GenericClient, Transaction};

/// Uses of a cleaning cartridge, where nobody says otherwise.
pub const USES: u32 = 50;

/// Whether a barcode is that of a cleaning cartridge by the makers' custom.
pub fn is_cleaning(barcode: &str) -> bool {
    barcode.starts_with("CLN")
}

/// How often each known cleaning cartridge can still be used.
pub async fn cleaning_list(client: &impl GenericClient) -> Result<HashMap<String, u32>, Error> {
    let rows = client
        .query(
            "SELECT barcode, use_count, used_up FROM cleaning_cartridges ORDER BY barcode",
            &[],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| {
            let left = USES.saturating_sub(row.get::<_, i32>(1) as u32);
            (row.get(0), if row.get(2) { 0 } else { left })
        })
        .collect())
}

/// It was used. `used_up` if the drive would not take it any more.
pub async fn cleaning_use_on(
    tx: &Transaction<'_>,
    barcode: &str,
    used_up: bool,
) -> Result<(), Error> {
    let rows = tx
        .execute(
            "UPDATE cleaning_cartridges SET use_count = use_count + 1, used_up = used_up OR $2::boolean, \
             last_used_at = clock_timestamp() WHERE barcode = $1",
            &[&barcode, &used_up],
        )
        .await?;
    if rows == 0 {
        tx.execute(
            "INSERT INTO cleaning_cartridges (barcode, use_count, used_up, last_used_at) \
             VALUES ($1, 1, $2, clock_timestamp())",
            &[&barcode, &used_up],
        )
        .await?;
    }
    Ok(())
}

/// A person says that it is one.
pub async fn cleaning_name_on(tx: &Transaction<'_>, barcode: &str) -> Result<(), Error> {
    tx.execute(
        "INSERT INTO cleaning_cartridges (barcode) SELECT $1::varchar \
         WHERE NOT EXISTS (SELECT 1 FROM cleaning_cartridges WHERE barcode = $1::varchar)",
        &[&barcode],
    )
    .await?;
    Ok(())
}
