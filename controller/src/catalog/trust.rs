//! Losing trust in the catalog, and gaining it again.
//!
//! Whoever sees a sign that the catalog may be older than the tapes says so here, and from then on nothing is written: see
//! [`taf_core::trust`]. The signs are that a database was restored from a dump (its tables are others), that an agent or a
//! controller has seen a higher generation than it ever gave out, that a tape bears an archive of ours that it never had, and that
//! a person says so. It is trusted again when every volume has been inspected, or when a person answers for it.

use std::path::{Path, PathBuf};

use taf_core::trust::{self, Generation};
use taf_peer::secret_file;
use uuid::Uuid;

use crate::store::audit::Entry;
use crate::store::trust::{self as rows, Trust};
use crate::store::{Error, Store, Transaction};

/// Who loses or gains trust without being asked.
const CREATOR: &str = "controller";
/// The highest generation that this controller has seen, in its home folder.
const FILE: &str = "generation";
/// Bytes of that file at most.
const FILE_LIMIT: u64 = 100;

/// What this controller has seen of the catalog, kept outside of it.
#[derive(Debug)]
pub struct Witness {
    file: PathBuf,
    seen: Generation,
}

impl Witness {
    /// With its memory in the controller's home folder.
    pub fn load(home: &Path) -> Witness {
        let file = home.join(FILE);
        let seen = if file.exists() { read(&file) } else { None };
        Witness {
            file,
            seen: seen.unwrap_or_default(),
        }
    }

    /// The catalog gives out this generation now. It is on disk before any agent is told, so that a catalog which lost it is known.
    pub fn saw(&mut self, generation: Generation) {
        if generation <= self.seen {
            return;
        }
        let text = format!("{} {}\n", generation.0, generation.1);
        if let Err(error) = secret_file::write(&self.file, text.as_bytes()) {
            tracing::warn!(%error, "could not keep the highest generation; agents keep it, too");
        }
        self.seen = generation;
    }
}

fn read(file: &Path) -> Option<Generation> {
    let numbers = secret_file::read(file, FILE_LIMIT).ok().and_then(|bytes| {
        let text = std::str::from_utf8(&bytes).ok()?;
        let (epoch, counter) = text.trim().split_once(' ')?;
        Some((epoch.parse().ok()?, counter.parse().ok()?))
    });
    if numbers.is_none() {
        tracing::warn!(file = %file.display(), "the highest generation can't be read; going on without it");
    }
    numbers
}

/// How far the catalog is trusted now, as this controller sees it.
pub async fn look_on(tx: &Transaction<'_>, witness: &Witness) -> Result<Trust, Error> {
    let found = found_on(tx).await?;
    if let Some(sign) = trust::judge(&found.claims, witness.seen) {
        rows::trust_mark_on(tx, &found.claims.tables).await?;
        lose_on(tx, CREATOR, witness.seen, &sign.to_string()).await?;
    } else if found.claims.mark.is_none() {
        rows::trust_mark_on(tx, &found.claims.tables).await?;
    } else if found.distrusted.is_some() && rows::trust_regain_on(tx, false).await? {
        let outcome = "every volume has been inspected";
        audit_on(tx, CREATOR, "TrustService.TrustCatalog", outcome).await?;
        tracing::info!("the catalog is trusted again: {outcome}");
    } else {
        return Ok(found);
    }
    found_on(tx).await
}

async fn found_on(tx: &Transaction<'_>) -> Result<Trust, Error> {
    let found = rows::trust_get(tx).await?;
    found.ok_or(Error::Corrupt("the installation's row"))
}

/// The catalog is not trusted from now on. `seen` is the highest generation that somebody has seen.
pub async fn lose_on(
    tx: &Transaction<'_>,
    actor: &str,
    seen: Generation,
    reason: &str,
) -> Result<(), Error> {
    if !rows::trust_lose_on(tx, seen, reason).await? {
        tracing::warn!(reason, "the catalog may be old, but has no volumes");
        return Ok(());
    }
    tracing::error!(
        reason,
        "the catalog may be older than the tapes: nothing is written until the volumes are inspected"
    );
    audit_on(tx, actor, "TrustService.DistrustCatalog", reason).await
}

async fn audit_on(
    tx: &Transaction<'_>,
    actor: &str,
    action: &str,
    outcome: &str,
) -> Result<(), Error> {
    let entry = Entry {
        actor,
        action,
        subject: "catalog",
        outcome,
    };
    Store::audit_add_on(&**tx, &entry).await
}

/// An agent has seen this generation.
pub async fn heard(store: &Store, agent: &str, seen: Generation) -> Result<(), Error> {
    let mut client = store.client().await?;
    let tx = client.transaction().await?;
    if rows::trust_is_outlived_on(&tx, seen).await? {
        let reason = format!(
            "agent {agent} has seen generation {}.{}, and the database does not know it",
            seen.0, seen.1
        );
        lose_on(&tx, CREATOR, seen, &reason).await?;
    }
    tx.commit().await?;
    Ok(())
}

/// A tape of ours bears an archive that the catalog never had. Says so.
pub async fn bears_unknown(store: &Store, barcode: &str, archive: Uuid) -> Result<String, Error> {
    let mut client = store.client().await?;
    let tx = client.transaction().await?;
    let reason =
        format!("volume {barcode} bears archive {archive}, and the database does not know it");
    // Where that is known, it must not undo what was inspected since.
    if !rows::trust_is_lost(&tx).await? {
        lose_on(&tx, CREATOR, (0, 0), &reason).await?;
    }
    tx.commit().await?;
    Ok(reason)
}
