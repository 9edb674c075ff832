//! Whether the catalog is trusted, and which volumes have to be inspected before anything is written to them.

use jiff::Timestamp;
use taf_core::trust::{self, Claims, Generation};
use uuid::Uuid;

use super::{Error, GenericClient, Transaction, clip, volumes};

/// How far the catalog is trusted.
#[derive(Debug, Clone)]
pub struct Trust {
    /// What it says of itself.
    pub claims: Claims,
    /// Since when it is not trusted, and why.
    pub distrusted: Option<(Timestamp, String)>,
}

impl Trust {
    /// Why it is not trusted.
    pub fn reason(&self) -> Option<&str> {
        self.distrusted.as_ref().map(|(_, why)| why.as_str())
    }
}

/// How far the catalog is trusted. `None` before the first start.
pub async fn trust_get(client: &impl GenericClient) -> Result<Option<Trust>, Error> {
    // Object ids of tables are given once and never change; a dump that is restored makes new tables.
    let sql = "SELECT epoch, generation_counter, tables_mark, distrusted_at, distrust_reason, \
               'installation'::regclass::oid::bigint AS a, 'volumes'::regclass::oid::bigint AS b, 'pages'::regclass::oid::bigint AS c \
               FROM installation WHERE id = 1";
    let row = client.query_opt(sql, &[]).await?;
    Ok(row.map(|row| Trust {
        claims: Claims {
            generation: (row.get(0), row.get(1)),
            mark: row.get(2),
            tables: [5, 6, 7]
                .map(|column| row.get::<_, i64>(column).to_string())
                .join(" "),
        },
        distrusted: row.get::<_, Option<Timestamp>>(3).zip(row.get(4)),
    }))
}

/// Whether the catalog is not trusted.
pub async fn trust_is_lost(client: &impl GenericClient) -> Result<bool, Error> {
    let sql = "SELECT 1 FROM installation WHERE distrusted_at IS NOT NULL";
    Ok(client.query_opt(sql, &[]).await?.is_some())
}

/// Notes the tables that the catalog lies in.
pub async fn trust_mark_on(tx: &Transaction<'_>, tables: &str) -> Result<(), Error> {
    let sql = "UPDATE installation SET tables_mark = $1 WHERE id = 1";
    tx.execute(sql, &[&tables]).await?;
    Ok(())
}

/// The catalog is not trusted from now on, and every volume has to be inspected. Its generations go above `seen`, so that nothing
/// that was handed out before counts any more. A catalog without volumes has nothing to be wrong about, and only that is done:
/// then false comes back. Who is first says why.
pub async fn trust_lose_on(
    tx: &Transaction<'_>,
    seen: Generation,
    reason: &str,
) -> Result<bool, Error> {
    let sql = "UPDATE installation SET epoch = CASE WHEN epoch < $1 THEN $1 ELSE epoch END + 1, generation_counter = 0 WHERE id = 1";
    tx.execute(sql, &[&seen.0]).await?;
    let sql = "UPDATE volumes SET suspect_since = clock_timestamp()";
    if tx.execute(sql, &[]).await? == 0 {
        return Ok(false);
    }
    let sql = "UPDATE installation SET distrusted_at = clock_timestamp(), distrust_reason = $1 WHERE id = 1 AND distrusted_at IS NULL";
    tx.execute(sql, &[&clip(reason, 400)]).await?;
    Ok(true)
}

/// Whether an agent has seen a generation that is higher than any which this catalog gave out.
pub async fn trust_is_outlived_on(
    tx: &Transaction<'_>,
    (epoch, counter): Generation,
) -> Result<bool, Error> {
    let sql = "SELECT 1 FROM installation WHERE id = 1 \
               AND (epoch < $1 OR (epoch = $1 AND generation_counter < $2)) FOR UPDATE";
    Ok(tx.query_opt(sql, &[&epoch, &counter]).await?.is_some())
}

/// The catalog is trusted again, if no volume has to be inspected any more, and no cartridge is in a library that it does not know and
/// that was not looked at since: what was labelled after the dump may bear the numbers that would be given next; with `anyway` if there are some. Says whether it is
/// from now on.
pub async fn trust_regain_on(tx: &Transaction<'_>, anyway: bool) -> Result<bool, Error> {
    let sql = "UPDATE installation SET distrusted_at = NULL, distrust_reason = NULL WHERE id = 1 AND distrusted_at IS NOT NULL \
               AND ($1::boolean OR NOT EXISTS (SELECT 1 FROM volumes AS v WHERE v.suspect_since IS NOT NULL) AND NOT EXISTS \
               (SELECT 1 FROM elements AS e WHERE e.occupied AND e.barcode IS NOT NULL AND e.barcode NOT LIKE 'CLN%' \
                AND NOT EXISTS (SELECT 1 FROM volumes AS w WHERE w.barcode = e.barcode) \
                AND NOT EXISTS (SELECT 1 FROM cleaning_cartridges AS c WHERE c.barcode = e.barcode) \
                AND NOT EXISTS (SELECT 1 FROM jobs AS j WHERE j.kind = 'rescan' AND j.cartridge = e.barcode \
                 AND j.ended_at > installation.distrusted_at)))";
    Ok(tx.execute(sql, &[&anyway]).await? == 1)
}

/// A person answers for the volumes that were not inspected. Gives how many they are.
pub async fn volume_trust_on(tx: &Transaction<'_>) -> Result<u64, Error> {
    let sql = "UPDATE volumes SET suspect_since = NULL WHERE suspect_since IS NOT NULL";
    Ok(tx.execute(sql, &[]).await?)
}

/// Barcodes of the volumes that have to be inspected.
pub async fn volume_list_suspect(client: &impl GenericClient) -> Result<Vec<String>, Error> {
    let sql = "SELECT barcode FROM volumes WHERE suspect_since IS NOT NULL ORDER BY barcode";
    let rows = client.query(sql, &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Jobs that end when trust is lost: all that have begun, and those that wait but backups.
pub async fn job_list_resting(client: &impl GenericClient) -> Result<Vec<i64>, Error> {
    let sql = "SELECT id, kind, state FROM jobs WHERE ended_at IS NULL ORDER BY id";
    let rows = client.query(sql, &[]).await?;
    let ends = |row: &&tokio_postgres::Row| {
        let (kind, state): (&str, &str) = (row.get(1), row.get(2));
        trust::rests(kind) && !(kind == "backup" && state == "queued")
    };
    Ok(rows.iter().filter(ends).map(|row| row.get(0)).collect())
}

/// Another recording is on a suspect volume than the catalog has, and nothing of it is known but where its label ends.
pub async fn volume_replaced_on(
    tx: &Transaction<'_>,
    id: i64,
    recording: Uuid,
    block_size: i32,
    next_block: i64,
) -> Result<(), Error> {
    volumes::volume_indexes_forget_on(tx, id).await?;
    let sql = "UPDATE volumes SET state = 'appendable', state_reason = NULL, recording_uuid = $2, block_size = $4, next_tape_file = 1, next_block = $3, \
               byte_count = 0, labelled_at = clock_timestamp(), written_at = NULL, former_recording = NULL, former_end = NULL, \
               freed_at = NULL, index_due = false, index_tries = 0, index_omitted = false \
               WHERE id = $1 AND suspect_since IS NOT NULL AND state NOT IN ('labelling', 'unlabelled')";
    let rows = tx
        .execute(sql, &[&id, &recording, &next_block, &block_size])
        .await?;
    Error::expect_one(rows, "volume")
}

/// What is on a volume is what the catalog says.
pub async fn volume_inspected_on(tx: &Transaction<'_>, id: i64) -> Result<(), Error> {
    let sql =
        "UPDATE volumes SET suspect_since = NULL, inspected_at = clock_timestamp() WHERE id = $1";
    Error::expect_one(tx.execute(sql, &[&id]).await?, "volume")
}
