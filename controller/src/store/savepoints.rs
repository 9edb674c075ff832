//! One decision within a transaction of many: it is kept or undone by itself.

use super::{Error, Transaction};

/// From here on it can be undone.
pub async fn savepoint_begin_on(tx: &Transaction<'_>) -> Result<(), Error> {
    Ok(tx.batch_execute("SAVEPOINT decision").await?)
}

/// Keeps what was written since.
pub async fn savepoint_keep_on(tx: &Transaction<'_>) -> Result<(), Error> {
    Ok(tx.batch_execute("RELEASE SAVEPOINT decision").await?)
}

/// Undoes what was written since, also after a statement that failed.
pub async fn savepoint_undo_on(tx: &Transaction<'_>) -> Result<(), Error> {
    tx.batch_execute("ROLLBACK TO SAVEPOINT decision").await?;
    Ok(tx.batch_execute("RELEASE SAVEPOINT decision").await?)
}
