//! Dumps: restores whose bytes go through a controller to somebody who waits there. The row says until when that is known; what
//! nobody waits for any more ends, whichever controller it was.

use super::{Error, GenericClient, Transaction};

/// Makes a restore that was just added a dump.
pub async fn dump_create_on(tx: &Transaction<'_>, job: i64, format: &str) -> Result<(), Error> {
    let rows = tx
        .execute(
            "UPDATE jobs SET dump_format = $2, awaited_until = clock_timestamp() + interval '1 minute' \
             WHERE id = $1 AND kind = 'restore' AND dump_format IS NULL",
            &[&job, &format],
        )
        .await?;
    Error::expect_one(rows, "job")
}

/// Says that somebody still waits. False if the job has ended.
pub async fn dump_keep(client: &impl GenericClient, job: i64) -> Result<bool, Error> {
    let rows = client
        .execute(
            "UPDATE jobs SET awaited_until = clock_timestamp() + interval '1 minute' \
             WHERE id = $1 AND dump_format IS NOT NULL AND ended_at IS NULL",
            &[&job],
        )
        .await?;
    Ok(rows == 1)
}

/// Stops those that nobody waits for any more. Gives how many.
pub async fn dump_lapse_on(tx: &Transaction<'_>) -> Result<u64, Error> {
    let sql = "UPDATE jobs SET cancel_asked = true WHERE awaited_until < clock_timestamp() AND ended_at IS NULL \
               AND dump_format IS NOT NULL AND NOT cancel_asked";
    Ok(tx.execute(sql, &[]).await?)
}
