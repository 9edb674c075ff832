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
    /// Changes with every change.
    pub revision: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// Volumes in it.
    pub volume_count: i64,
}

const SELECT: &str =
    "SELECT p.id, p.pool_name, p.block_size, p.part_size, p.revision, p.created_at,
            (SELECT count(*) FROM volumes AS v WHERE v.pool_id = p.id)
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
    }
}

impl Store {
    /// Makes a pool. False if there is one of this name.
    pub async fn pool_create_on(
        tx: &Transaction<'_>,
        name: &str,
        block_size: i32,
        part_size: i64,
    ) -> Result<bool, Error> {
        let made = tx
            .execute(
                "INSERT INTO pools (pool_name, block_size, part_size, created_at)
                 SELECT $1::varchar, $2::integer, $3::bigint, clock_timestamp()
                 WHERE NOT EXISTS (SELECT 1 FROM pools WHERE pool_name = $1::varchar)",
                &[&name, &block_size, &part_size],
            )
            .await?;
        Ok(made == 1)
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
