//! Who we are: one row, made at the first start, and the generation that fences agents.

use tokio_postgres::Transaction;
use uuid::Uuid;

use super::{Error, Store};

/// The installation's row.
#[derive(Debug, Clone)]
pub struct Installation {
    /// Its id.
    pub uuid: Uuid,
    /// Certificate of the authority, DER.
    pub authority_der: Vec<u8>,
    /// Key of the authority, wrapped by the cluster key.
    pub authority_key: Vec<u8>,
}

impl Store {
    /// The installation, if there has been a first start.
    pub async fn installation_get(&self) -> Result<Option<Installation>, Error> {
        let client = self.client().await?;
        let row = client
            .query_opt(
                "SELECT installation_uuid, authority_der, authority_key FROM installation WHERE id = 1",
                &[],
            )
            .await?;
        Ok(row.map(|row| Installation {
            uuid: row.get(0),
            authority_der: row.get(1),
            authority_key: row.get(2),
        }))
    }

    /// Makes the installation, with epoch 1. False if another controller was first: read its row then.
    pub async fn installation_create_on(
        tx: &Transaction<'_>,
        new: &Installation,
    ) -> Result<bool, Error> {
        let made = tx
            .execute(
                "INSERT INTO installation (id, installation_uuid, epoch, generation_counter, authority_der,
                                           authority_key, created_at)
                 SELECT 1, $1::uuid, 1, 0, $2::bytea, $3::bytea, clock_timestamp()
                 WHERE NOT EXISTS (SELECT 1 FROM installation WHERE id = 1)",
                &[&new.uuid, &new.authority_der, &new.authority_key],
            )
            .await?;
        Ok(made == 1)
    }

    /// Holds the installation's row until the transaction ends: for what may happen only once at a time.
    pub async fn installation_lock_on(tx: &Transaction<'_>) -> Result<(), Error> {
        tx.query_opt("SELECT id FROM installation WHERE id = 1 FOR UPDATE", &[])
            .await?;
        Ok(())
    }

    /// The next generation: epoch and counter.
    pub async fn generation_next_on(tx: &Transaction<'_>) -> Result<(i64, i64), Error> {
        let row = tx
            .query_one(
                "UPDATE installation SET generation_counter = generation_counter + 1 WHERE id = 1
                 RETURNING epoch, generation_counter",
                &[],
            )
            .await?;
        Ok((row.get(0), row.get(1)))
    }
}

/// Its id.
pub async fn installation_uuid_on(tx: &Transaction<'_>) -> Result<Uuid, Error> {
    let sql = "SELECT installation_uuid FROM installation WHERE id = 1";
    Ok(tx.query_one(sql, &[]).await?.get(0))
}
