//! Cleaning cartridges: how often each was used. It has only so many uses, and is never taken for data.

use std::collections::HashMap;

use super::{Error, GenericClient, Transaction, clip};

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

/// Whether the drive wants to be cleaned. What is `unknown` changes nothing. It is due when the drive begins to ask, or begins to
/// insist; not for every mount that it goes on, and not within a day of the last time, which has not helped then.
/// Says whether something is due.
pub async fn cleaning_asked_on(
    tx: &Transaction<'_>,
    drive: i64,
    cleaning: &str,
) -> Result<bool, Error> {
    let row = tx
        .query_opt(
        "UPDATE drives SET cleaning = $2, clean_due = $2::varchar IN ('requested', 'required') AND (clean_due \
         OR ((cleaning NOT IN ('requested', 'required') OR (cleaning = 'requested' AND $2::varchar = 'required')) \
         AND (cleaned_at IS NULL OR cleaned_at < clock_timestamp() - interval '1 day'))), \
         clean_waits_for = CASE WHEN $2::varchar IN ('requested', 'required') THEN clean_waits_for END \
         WHERE id = $1 AND $2::varchar <> 'unknown' RETURNING clean_due",
            &[&drive, &cleaning],
        )
        .await?;
    Ok(row.is_some_and(|row| row.get(0)))
}

/// The drive has cleaned itself.
pub async fn cleaning_done_on(tx: &Transaction<'_>, drive: i64) -> Result<(), Error> {
    tx.execute(
        "UPDATE drives SET cleaning = 'not-wanted', clean_due = false, clean_waits_for = NULL, \
         cleaned_at = clock_timestamp() WHERE id = $1",
        &[&drive],
    )
    .await?;
    Ok(())
}

/// What it asked for is being done. Whatever comes of it, it is done once.
pub async fn cleaning_begun_on(tx: &Transaction<'_>, drive: i64) -> Result<(), Error> {
    let rows = tx
        .execute(
            "UPDATE drives SET clean_due = false, clean_waits_for = NULL WHERE id = $1 AND clean_due",
            &[&drive],
        )
        .await?;
    Error::expect_one(rows, "drive")
}

/// Why it is not done, for people.
pub async fn cleaning_waits_on(
    tx: &Transaction<'_>,
    drive: i64,
    waits_for: &str,
) -> Result<(), Error> {
    tx.execute(
        "UPDATE drives SET clean_waits_for = $2 WHERE id = $1 AND clean_due",
        &[&drive, &clip(waits_for, 400)],
    )
    .await?;
    Ok(())
}
