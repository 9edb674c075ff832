//! Brings the schema up to date: numbered SQL files, compiled in, applied once each under an advisory lock.
//!
//! Safe to run again and by several controllers at once. A file that was applied never changes afterwards; its
//! checksum is kept to prove it.

use std::time::Duration;

use super::{Error, SCHEMA, Store};

/// A numbered file.
struct Migration {
    number: i32,
    name: &'static str,
    sql: &'static str,
}

const MIGRATIONS: &[Migration] = &[
    Migration {
        number: 1,
        name: "first light",
        sql: include_str!("../../migrations/0001_first_light.sql"),
    },
    Migration {
        number: 2,
        name: "volumes of an attempt",
        sql: include_str!("../../migrations/0002_attempt_volumes.sql"),
    },
    Migration {
        number: 3,
        name: "operators' jobs",
        sql: include_str!("../../migrations/0003_operators.sql"),
    },
    Migration {
        number: 4,
        name: "volume index",
        sql: include_str!("../../migrations/0004_volume_index.sql"),
    },
    Migration {
        number: 5,
        name: "health",
        sql: include_str!("../../migrations/0005_health.sql"),
    },
    Migration {
        number: 6,
        name: "parts of attempts",
        sql: include_str!("../../migrations/0006_parts_of_attempts.sql"),
    },
    Migration {
        number: 7,
        name: "hung drives",
        sql: include_str!("../../migrations/0007_hung_drives.sql"),
    },
    Migration {
        number: 8,
        name: "verify",
        sql: include_str!("../../migrations/0008_verify.sql"),
    },
    Migration {
        number: 9,
        name: "medium serial",
        sql: include_str!("../../migrations/0009_medium_serial.sql"),
    },
    Migration {
        number: 10,
        name: "cleaning",
        sql: include_str!("../../migrations/0010_cleaning.sql"),
    },
    Migration {
        number: 11,
        name: "versions that build on others",
        sql: include_str!("../../migrations/0011_versions.sql"),
    },
    Migration {
        number: 12,
        name: "automatic labels",
        sql: include_str!("../../migrations/0012_auto_label.sql"),
    },
    Migration {
        number: 13,
        name: "streams",
        sql: include_str!("../../migrations/0013_streams.sql"),
    },
    Migration {
        number: 14,
        name: "sharing",
        sql: include_str!("../../migrations/0014_sharing.sql"),
    },
    Migration {
        number: 15,
        name: "detection of changes",
        sql: include_str!("../../migrations/0015_detection.sql"),
    },
    Migration {
        number: 16,
        name: "archives",
        sql: include_str!("../../migrations/0016_archives.sql"),
    },
    Migration {
        number: 17,
        name: "expiry",
        sql: include_str!("../../migrations/0017_expiry.sql"),
    },
    Migration {
        number: 18,
        name: "removal of sources",
        sql: include_str!("../../migrations/0018_removal.sql"),
    },
    Migration {
        number: 19,
        name: "mirrors",
        sql: include_str!("../../migrations/0019_mirror.sql"),
    },
    Migration {
        number: 20,
        name: "what is extra at a target",
        sql: include_str!("../../migrations/0020_extra.sql"),
    },
    Migration {
        number: 21,
        name: "retention",
        sql: include_str!("../../migrations/0021_retention.sql"),
    },
    Migration {
        number: 22,
        name: "compression methods",
        sql: include_str!("../../migrations/0022_compression.sql"),
    },
    Migration {
        number: 23,
        name: "dictionaries",
        sql: include_str!("../../migrations/0023_dictionaries.sql"),
    },
    Migration {
        number: 24,
        name: "trust",
        sql: include_str!("../../migrations/0024_trust.sql"),
    },
    Migration {
        number: 25,
        name: "paths of a restore",
        sql: include_str!("../../migrations/0025_restore.sql"),
    },
    Migration {
        number: 26,
        name: "volumes of a job",
        sql: include_str!("../../migrations/0026_job_volumes.sql"),
    },
    Migration {
        number: 27,
        name: "samples",
        sql: include_str!("../../migrations/0027_samples.sql"),
    },
    Migration {
        number: 28,
        name: "feed",
        sql: include_str!("../../migrations/0028_feed.sql"),
    },
    Migration {
        number: 29,
        name: "rebuild",
        sql: include_str!("../../migrations/0029_rebuild.sql"),
    },
    Migration {
        number: 30,
        name: "reclaim",
        sql: include_str!("../../migrations/0030_reclaim.sql"),
    },
    Migration {
        number: 31,
        name: "dump",
        sql: include_str!("../../migrations/0031_dump.sql"),
    },
    Migration {
        number: 32,
        name: "gaps",
        sql: include_str!("../../migrations/0032_gaps.sql"),
    },
    Migration {
        number: 33,
        name: "turns of a restore",
        sql: include_str!("../../migrations/0033_turns.sql"),
    },
    Migration {
        number: 34,
        name: "versions that are given up",
        sql: include_str!("../../migrations/0034_given_up.sql"),
    },
    Migration {
        number: 35,
        name: "what jobs wait for",
        sql: include_str!("../../migrations/0035_waits.sql"),
    },
    Migration {
        number: 36,
        name: "closing records of an index",
        sql: include_str!("../../migrations/0036_closings_of_index.sql"),
    },
    Migration {
        number: 37,
        name: "earlier places of parts",
        sql: include_str!("../../migrations/0037_earlier_places.sql"),
    },
    Migration {
        number: 38,
        name: "what no record claims",
        sql: include_str!("../../migrations/0038_unclaimed.sql"),
    },
    Migration {
        number: 39,
        name: "what source agents can do",
        sql: include_str!("../../migrations/0039_abilities.sql"),
    },
    Migration {
        number: 40,
        name: "what no record claims, of before",
        sql: include_str!("../../migrations/0040_unclaimed_before.sql"),
    },
    Migration {
        number: 41,
        name: "rows that came back behind a sweep",
        sql: include_str!("../../migrations/0041_regained.sql"),
    },
    Migration {
        number: 42,
        name: "parts by index",
        sql: include_str!("../../migrations/0042_indexed_parts.sql"),
    },
];

/// The texts of all migrations, in order.
pub(super) fn texts() -> impl Iterator<Item = &'static str> {
    MIGRATIONS.iter().map(|migration| migration.sql)
}

/// The advisory lock that migrating takes: "taf" and a version of this procedure.
const LOCK: i64 = 0x7461_6600_0000_0001;
/// Longest wait for another controller that migrates.
const PATIENCE: Duration = Duration::from_mins(2);

/// Applies what is missing, in one transaction.
pub(super) async fn run(store: &Store) -> Result<(), Error> {
    let mut client = store.client().await?;
    let begun = tokio::time::Instant::now();
    loop {
        let tx = client.transaction().await?;
        if tx
            .query_one("SELECT pg_try_advisory_xact_lock($1::bigint)", &[&LOCK])
            .await?
            .get(0)
        {
            tx.batch_execute("SET LOCAL statement_timeout = '600s'")
                .await?;
            apply(&tx).await?;
            return Ok(tx.commit().await?);
        }
        tx.rollback().await?;
        if begun.elapsed() > PATIENCE {
            return Err(Error::Migration(
                "another controller has been at it for two minutes; see what it waits for".into(),
            ));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn apply(tx: &deadpool_postgres::Transaction<'_>) -> Result<(), Error> {
    let schema = tx
        .query_opt(
            "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = $1::text",
            &[&SCHEMA],
        )
        .await?;
    if schema.is_none() {
        tx.batch_execute(&format!("CREATE SCHEMA {SCHEMA}")).await.map_err(|error| {
            Error::Migration(format!(
                "the schema \"{SCHEMA}\" can't be created: {}; let the database's owner run CREATE SCHEMA {SCHEMA} AUTHORIZATION our role",
                Error::from(error)
            ))
        })?;
    }
    tx.batch_execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations (
            migration integer PRIMARY KEY, title varchar(200) NOT NULL, checksum bytea NOT NULL, applied_at timestamptz NOT NULL)",
    )
    .await?;
    let applied = tx
        .query(
            "SELECT migration, checksum FROM schema_migrations ORDER BY migration",
            &[],
        )
        .await?;
    if let Some(newest) = applied.last().map(|row| row.get::<_, i32>(0))
        && MIGRATIONS.last().is_none_or(|last| newest > last.number)
    {
        return Err(Error::Migration(format!(
            "it is at step {newest}, which a newer version of TAF made; use that version or restore an older catalog"
        )));
    }
    for migration in MIGRATIONS {
        let checksum = blake3::hash(migration.sql.as_bytes());
        let checksum = checksum.as_bytes().as_slice();
        if let Some(row) = applied
            .iter()
            .find(|row| row.get::<_, i32>(0) == migration.number)
        {
            if row.get::<_, &[u8]>(1) != checksum {
                return Err(Error::Migration(format!(
                    "step {} ({}) was applied from another text, by an unreleased version; start with an empty database",
                    migration.number, migration.name
                )));
            }
            continue;
        }
        tx.batch_execute(migration.sql).await.map_err(|error| {
            Error::Migration(format!(
                "step {} ({}) failed: {}",
                migration.number,
                migration.name,
                Error::from(error)
            ))
        })?;
        tx.execute(
            "INSERT INTO schema_migrations (migration, title, checksum, applied_at) VALUES ($1, $2, $3, $4)",
            &[&migration.number, &migration.name, &checksum, &super::now()],
        )
        .await?;
        tracing::info!(
            step = migration.number,
            name = migration.name,
            "brought the catalog's schema up to date"
        );
    }
    Ok(())
}
