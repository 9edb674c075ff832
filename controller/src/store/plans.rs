//! Plans. A removed plan keeps its row and its lines, because its versions stay; making it again takes them up again.

use jiff::Timestamp;
use taf_core::catalog::Kind;
use taf_format::segment::Method;
use tokio_postgres::{GenericClient, Row, Transaction};
use uuid::Uuid;

use super::{Error, Store};

/// A plan.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Key of the row.
    pub id: i64,
    /// Its id in the API.
    pub name: String,
    /// Key of the source's row.
    pub source_id: i64,
    /// The source's id in the API.
    pub source: String,
    /// Key of the pool's row.
    pub pool_id: i64,
    /// The pool's id in the API.
    pub pool: String,
    /// How its archives are stored.
    pub compression_method: Method,
    /// Level of the method, 0 if that has none.
    pub compression_level: i32,
    /// 0 means as many as the host has cores.
    pub compression_threads: i32,
    /// What a run makes if nobody says.
    pub kind: Kind,
    /// Drives that a version may go to at once.
    pub streams: i32,
    /// Percent of what a mirror's archives hold below which the next one is made whole.
    pub mirror_living_percent: i32,
    /// Encoded `taf.v1.Retention`; empty for none.
    pub retention: Vec<u8>,
    /// Changes with every change.
    pub revision: i64,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What a new plan is made of.
#[derive(Debug, Clone)]
pub struct NewPlan {
    /// Its id in the API.
    pub name: String,
    /// Key of the source's row.
    pub source_id: i64,
    /// Key of the pool's row.
    pub pool_id: i64,
    /// How its archives are stored.
    pub compression_method: Method,
    /// One of the method's levels, 0 if it has none.
    pub compression_level: i32,
    /// 0 to 256; 0 means as many as the host has cores.
    pub compression_threads: i32,
    /// What a run makes if nobody says.
    pub kind: Kind,
    /// Drives that a version may go to at once, 1 to 8.
    pub streams: i32,
    /// Percent of what a mirror's archives hold below which the next one is made whole.
    pub mirror_living_percent: i32,
}

const SELECT: &str = "SELECT p.id, p.plan_name, p.source_id, s.source_name, p.pool_id, o.pool_name,
            p.compression_level, p.compression_threads, p.revision, p.created_at, p.version_kind,
            p.streams, p.mirror_living_percent, p.retention, p.compression_method
     FROM plans AS p JOIN sources AS s ON s.id = p.source_id JOIN pools AS o ON o.id = p.pool_id
     WHERE p.deleted_at IS NULL";

fn plan(row: &Row) -> Plan {
    Plan {
        id: row.get(0),
        name: row.get(1),
        source_id: row.get(2),
        source: row.get(3),
        pool_id: row.get(4),
        pool: row.get(5),
        compression_level: row.get(6),
        compression_threads: row.get(7),
        revision: row.get(8),
        created_at: row.get(9),
        // A CHECK holds the column to names of kinds.
        kind: Kind::from_name(row.get(10)).unwrap_or(Kind::Full),
        streams: row.get(11),
        mirror_living_percent: row.get(12),
        retention: row.get(13),
        compression_method: method(row.get(14)),
    }
}

/// A CHECK holds the column to names of methods.
pub(super) fn method(name: &str) -> Method {
    Method::from_name(name).unwrap_or(Method::Zstd)
}

impl Store {
    /// Makes a plan and its line. False if there is a plan of this name.
    pub async fn plan_create_on(tx: &Transaction<'_>, new: &NewPlan) -> Result<bool, Error> {
        let revived = tx
            .query_opt(
                "UPDATE plans
                 SET source_id = $2, pool_id = $3, compression_level = $4, compression_threads = $5,
                     version_kind = $6, streams = $7, mirror_living_percent = $8, compression_method = $9, revision = revision + 1, created_at = clock_timestamp(), deleted_at = NULL
                 WHERE plan_name = $1 AND deleted_at IS NOT NULL
                 RETURNING id",
                &[
                    &new.name,
                    &new.source_id,
                    &new.pool_id,
                    &new.compression_level,
                    &new.compression_threads,
                    &new.kind.name(),
                    &new.streams,
                    &new.mirror_living_percent,
                    &new.compression_method.name(),
                ],
            )
            .await?;
        let made = match revived {
            Some(row) => Some(row),
            None => {
                tx.query_opt(
                    "INSERT INTO plans (plan_name, source_id, pool_id, compression_level, compression_threads,
                         version_kind, streams, mirror_living_percent, compression_method, created_at)
                     SELECT $1::varchar, $2::bigint, $3::bigint, $4::integer, $5::integer, $6::varchar, $7::integer,
                         $8::integer, $9::varchar, clock_timestamp()
                     WHERE NOT EXISTS (SELECT 1 FROM plans WHERE plan_name = $1::varchar)
                     RETURNING id",
                    &[
                        &new.name,
                        &new.source_id,
                        &new.pool_id,
                        &new.compression_level,
                        &new.compression_threads,
                        &new.kind.name(),
                        &new.streams,
                        &new.mirror_living_percent,
                        &new.compression_method.name(),
                    ],
                )
                .await?
            }
        };
        let Some(row) = made else { return Ok(false) };
        let id: i64 = row.get(0);
        tx.execute(
            "INSERT INTO lines (line_uuid, plan_id, source_id)
             SELECT $1::uuid, $2::bigint, $3::bigint
             WHERE NOT EXISTS (SELECT 1 FROM lines WHERE plan_id = $2::bigint AND source_id = $3::bigint AND NOT archives)",
            &[&Uuid::new_v4(), &id, &new.source_id],
        )
        .await?;
        Ok(true)
    }

    /// Sets which versions of a plan are kept, within a change of it: encoded `taf.v1.Retention`, empty for none.
    pub async fn plan_retain_on(
        tx: &Transaction<'_>,
        name: &str,
        retention: &[u8],
    ) -> Result<(), Error> {
        let sql = "UPDATE plans SET retention = $2 WHERE plan_name = $1 AND deleted_at IS NULL";
        let rows = tx.execute(sql, &[&name, &retention]).await?;
        Error::expect_one(rows, "plan")
    }

    /// One plan by name.
    pub async fn plan_get_on<C: GenericClient>(
        client: &C,
        name: &str,
    ) -> Result<Option<Plan>, Error> {
        let row = client
            .query_opt(&format!("{SELECT} AND p.plan_name = $1"), &[&name])
            .await?;
        Ok(row.as_ref().map(plan))
    }

    /// One plan by name.
    pub async fn plan_get(&self, name: &str) -> Result<Option<Plan>, Error> {
        Self::plan_get_on(&**self.client().await?, name).await
    }

    /// One plan by name, held until the transaction ends: who runs it or removes it does so alone.
    pub async fn plan_lock_on(tx: &Transaction<'_>, name: &str) -> Result<Option<Plan>, Error> {
        tx.query_opt(
            "SELECT id FROM plans WHERE plan_name = $1 AND deleted_at IS NULL FOR UPDATE",
            &[&name],
        )
        .await?;
        Self::plan_get_on(tx, name).await
    }

    /// Key of the line of a plan on its present source: of that of its archives, which is made with the first one, or of that of
    /// all other versions.
    pub async fn plan_line_on(
        tx: &Transaction<'_>,
        plan: &Plan,
        archives: bool,
    ) -> Result<i64, Error> {
        if archives {
            tx.execute(
                "INSERT INTO lines (line_uuid, plan_id, source_id, archives)
                 SELECT $1::uuid, $2::bigint, $3::bigint, true
                 WHERE NOT EXISTS (SELECT 1 FROM lines WHERE plan_id = $2::bigint AND source_id = $3::bigint AND archives)",
                &[&Uuid::new_v4(), &plan.id, &plan.source_id],
            )
            .await?;
        }
        let row = tx
            .query_opt(
                "SELECT id FROM lines WHERE plan_id = $1 AND source_id = $2 AND archives = $3",
                &[&plan.id, &plan.source_id, &archives],
            )
            .await?;
        Ok(row.ok_or(Error::Corrupt("a plan has no line"))?.get(0))
    }

    /// Plans behind a name, in order.
    pub async fn plan_list(&self, after: &str, limit: i64) -> Result<Vec<Plan>, Error> {
        let client = self.client().await?;
        let rows = client
            .query(
                &format!("{SELECT} AND p.plan_name > $1 ORDER BY p.plan_name LIMIT $2::bigint"),
                &[&after, &limit],
            )
            .await?;
        Ok(rows.iter().map(plan).collect())
    }

    /// Changes a plan at a revision; its name and source stay. False if it is not there at this revision.
    pub async fn plan_update_on(
        tx: &Transaction<'_>,
        id: i64,
        revision: i64,
        new: &NewPlan,
    ) -> Result<bool, Error> {
        let changed = tx
            .execute(
                "UPDATE plans SET pool_id = $3, compression_level = $4, compression_threads = $5, version_kind = $6,
                     streams = $7, mirror_living_percent = $8, compression_method = $9, revision = revision + 1
                 WHERE id = $1 AND revision = $2 AND deleted_at IS NULL",
                &[
                    &id,
                    &revision,
                    &new.pool_id,
                    &new.compression_level,
                    &new.compression_threads,
                    &new.kind.name(),
                    &new.streams,
                    &new.mirror_living_percent,
                    &new.compression_method.name(),
                ],
            )
            .await?;
        Ok(changed == 1)
    }

    /// Removes a plan at a revision. False if it is not there at this revision.
    pub async fn plan_delete_on(
        tx: &Transaction<'_>,
        id: i64,
        revision: i64,
    ) -> Result<bool, Error> {
        let gone = tx
            .execute(
                "UPDATE plans SET deleted_at = clock_timestamp(), revision = revision + 1
                 WHERE id = $1 AND revision = $2 AND deleted_at IS NULL",
                &[&id, &revision],
            )
            .await?;
        Ok(gone == 1)
    }
}
