//! Pools.

use jiff::Timestamp;
use tokio_postgres::{GenericClient, Row, Transaction};

use super::{Error, Store};

/// A pool.
#[derive(Debug, Clone)]
pub struct Pool {
    /// Key of the row.
    pub id: i64,
    /// Its id in the API.
    pub name: String,
    /// Block size in bytes of volumes labelled from now on.
    pub block_size: i32,
    /// Largest part, in bytes.
    pub part_size: i64,
    /// Pattern of barcodes of blank cartridges that are labelled when a backup needs a volume.
    pub auto_label: Option<String>,
    /// So many sources share a drive at most.
    pub sources_per_drive: i32,
    /// Changes with every change.
    pub revision: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// Volumes in it.
    pub volume_count: i64,
}

/// What a pool is like that is made or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewPool<'a> {
    /// Block size in bytes.
    pub block_size: i32,
    /// Largest part, in bytes.
    pub part_size: i64,
    /// Pattern of barcodes of blank cartridges that are labelled when a backup needs a volume.
    pub auto_label: Option<&'a str>,
    /// So many sources share a drive at most.
    pub sources_per_drive: i32,
}

/// A pool that labels blank cartridges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AutoPool {
    /// Row.
    pub id: i64,
    /// Name.
    pub name: String,
    /// Which ones, by barcode.
    pub pattern: String,
    /// Block size in bytes of their labels.
    pub block_size: i32,
}

/// Those pools.
pub async fn pool_list_auto_on(tx: &Transaction<'_>) -> Result<Vec<AutoPool>, Error> {
    let sql = "SELECT id, pool_name, auto_label, block_size FROM pools WHERE auto_label IS NOT NULL ORDER BY id";
    let rows = tx.query(sql, &[]).await?;
    let auto = |row: &Row| AutoPool {
        id: row.get(0),
        name: row.get(1),
        pattern: row.get(2),
        block_size: row.get(3),
    };
    Ok(rows.iter().map(auto).collect())
}

const SELECT: &str =
    "SELECT p.id, p.pool_name, p.block_size, p.part_size, p.revision, p.created_at,
            (SELECT count(*) FROM volumes AS v WHERE v.pool_id = p.id), p.auto_label, p.sources_per_drive
     FROM pools AS p";

fn pool(row: &Row) -> Pool {
    Pool {
        id: row.get(0),
        name: row.get(1),
        block_size: row.get(2),
        part_size: row.get(3),
        revision: row.get(4),
        created_at: row.get(5),
        volume_count: row.get(6),
        auto_label: row.get(7),
        sources_per_drive: row.get(8),
    }
}

impl Store {
    /// Makes a pool. False if there is one of this name.
    pub async fn pool_create_on(
        tx: &Transaction<'_>,
        name: &str,
        new: &NewPool<'_>,
    ) -> Result<bool, Error> {
        let made = tx
            .execute(
                "INSERT INTO pools (pool_name, block_size, part_size, auto_label, sources_per_drive, created_at)
                 SELECT $1::varchar, $2::integer, $3::bigint, $4::varchar, $5::integer, clock_timestamp()
                 WHERE NOT EXISTS (SELECT 1 FROM pools WHERE pool_name = $1::varchar)",
                &[
                    &name,
                    &new.block_size,
                    &new.part_size,
                    &new.auto_label,
                    &new.sources_per_drive,
                ],
            )
            .await?;
        Ok(made == 1)
    }

    /// Changes a pool that is still as it was read. False if it is not.
    pub async fn pool_update_on(
        tx: &Transaction<'_>,
        known: &Pool,
        new: &NewPool<'_>,
    ) -> Result<bool, Error> {
        let changed = tx
            .execute(
                "UPDATE pools SET block_size = $3, part_size = $4, auto_label = $5::varchar,
                 sources_per_drive = $6, revision = revision + 1
                 WHERE id = $1 AND revision = $2",
                &[
                    &known.id,
                    &known.revision,
                    &new.block_size,
                    &new.part_size,
                    &new.auto_label,
                    &new.sources_per_drive,
                ],
            )
            .await?;
        Ok(changed == 1)
    }

    /// One pool by name.
    pub async fn pool_get_on<C: GenericClient>(
        client: &C,
        name: &str,
    ) -> Result<Option<Pool>, Error> {
        let row = client
            .query_opt(&format!("{SELECT} WHERE p.pool_name = $1"), &[&name])
            .await?;
        Ok(row.as_ref().map(pool))
    }

    /// Pools behind a name, in order.
    pub async fn pool_list(&self, after: &str, limit: i64) -> Result<Vec<Pool>, Error> {
        let client = self.client().await?;
        let rows = client
            .query(
                &format!("{SELECT} WHERE p.pool_name > $1 ORDER BY p.pool_name LIMIT $2::bigint"),
                &[&after, &limit],
            )
            .await?;
        Ok(rows.iter().map(pool).collect())
    }
}
