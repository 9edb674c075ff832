//! Which controller reconciles. The lease is a row; every reconciling transaction begins by renewing it, so
//! that one who lost it writes nothing.

use uuid::Uuid;

use super::{Error, Transaction};

/// How long the lease holds without being renewed, seconds.
const LEASE_SECONDS: f64 = 10.0;

/// Renews the lease of `holder`'s `term`; false if it has lost it.
pub async fn leadership_renew_on(
    tx: &Transaction<'_>,
    holder: Uuid,
    term: i64,
) -> Result<bool, Error> {
    let rows = tx
        .execute(
            "UPDATE leadership SET expires_at = clock_timestamp() + $3::float8 * interval '1 second' \
             WHERE id = 1 AND holder = $1 AND term = $2 AND expires_at > clock_timestamp()",
            &[&holder, &term, &LEASE_SECONDS],
        )
        .await?;
    Ok(rows == 1)
}

/// Takes the lease if nobody holds it. Returns the new term.
pub async fn leadership_acquire_on(
    tx: &Transaction<'_>,
    holder: Uuid,
) -> Result<Option<i64>, Error> {
    tx.execute(
        "INSERT INTO leadership (id, holder, term, expires_at) \
         SELECT 1, $1::uuid, 1, clock_timestamp() - interval '1 second' \
         WHERE NOT EXISTS (SELECT 1 FROM leadership)",
        &[&holder],
    )
    .await?;
    let row = tx
        .query_opt(
            "UPDATE leadership SET holder = $1, term = term + 1, \
             expires_at = clock_timestamp() + $2::float8 * interval '1 second' \
             WHERE id = 1 AND expires_at <= clock_timestamp() RETURNING term",
            &[&holder, &LEASE_SECONDS],
        )
        .await?;
    Ok(row.map(|row| row.get(0)))
}

/// Gives the lease back at a clean end, so that the next controller need not wait.
pub async fn leadership_release_on(
    tx: &Transaction<'_>,
    holder: Uuid,
    term: i64,
) -> Result<(), Error> {
    tx.execute(
        "UPDATE leadership SET expires_at = clock_timestamp() WHERE id = 1 AND holder = $1 AND term = $2",
        &[&holder, &term],
    )
    .await?;
    Ok(())
}
