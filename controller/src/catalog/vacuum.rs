//! What nobody needs any more goes (design.md, "The catalog", rules 12 and 13): first the parts of versions that have expired
//! and that nothing builds on, then rows that nobody resolves to.
//!
//! It holds no line and takes nothing that a run could wait for. It may work from what was true a while ago, because what may go
//! stays so: an expired version is never kept again, only a kept one or the head becomes a base, and who opens a run, makes a
//! restore or lets a version expire locks the same row first. What is published meanwhile has rows above all that are judged here,
//! and resolves below them to what the head before it did, which is protected.

use std::collections::BTreeMap;

use taf_core::catalog::{Compared, Protected, Published, protected, stays};

use crate::store::expiry::{self, Standing};
use crate::store::{Error, Store};

/// Rows looked at in a step, usually.
pub const ROWS: i64 = 4_000;

/// Releases what expired versions alone need, and notes which volumes nobody needs then. Gives how many versions that were.
pub async fn release(store: &Store) -> Result<u64, Error> {
    let mut client = store.client().await?;
    let mut released = 0;
    for line in expiry::line_list_going(&client).await? {
        let standing = expiry::version_list_standing(&client, line).await?;
        let going = unneeded(&standing);
        if going.is_empty() {
            continue;
        }
        let tx = client.transaction().await?;
        released += expiry::version_release_on(&tx, line, &going).await?;
        tx.commit().await?;
        tracing::info!(line, versions = ?going, "the parts of expired versions are released");
    }
    Ok(released)
}

/// Notes which written volumes nobody needs, and since when.
pub async fn free_volumes(store: &Store) -> Result<(), Error> {
    let mut client = store.client().await?;
    let tx = client.transaction().await?;
    let freed = expiry::volume_free_on(&tx).await?;
    tx.commit().await?;
    if !freed.is_empty() {
        tracing::info!(volumes = ?freed, "nothing that is needed is on these volumes any more");
    }
    Ok(())
}

/// Expired versions that nothing protects and that are not released yet.
fn unneeded(standing: &[Standing]) -> Vec<i64> {
    let stay = stay(standing);
    let going = |v: &&Standing| {
        !v.staged && !v.kept && !v.gone && !stay.iter().any(|p| p.version == v.version)
    };
    standing.iter().filter(going).map(|v| v.version).collect()
}

/// The versions whose rows must stay.
pub(super) fn stay(standing: &[Standing]) -> Vec<Protected> {
    // The newest is kept for the run that may build on it; on one that is not whole none does.
    let published = standing
        .iter()
        .filter(|v| !v.staged && (v.kept || !v.incomplete));
    let published: Vec<Published> = published
        .map(|v| Published {
            of: Protected {
                version: v.version,
                floor: v.floor,
            },
            kept: v.kept,
        })
        .collect();
    let attempts = standing.iter().filter(|v| v.staged);
    let attempts: Vec<Compared> = attempts
        .map(|v| Compared {
            parent: v.parent,
            full: v.differential.then_some(v.floor),
        })
        .collect();
    protected(&published, &attempts)
}

/// One going over the rows of a line.
#[derive(Debug)]
pub struct Sweep {
    line: i64,
    behind: Option<Vec<u8>>,
    protected: Vec<Protected>,
    /// Floors of published versions.
    floors: BTreeMap<i64, i64>,
    /// The versions whose rows are gone when it is over.
    released: Vec<i64>,
    /// Rows that went.
    pub removed: u64,
}

impl Sweep {
    /// Begins one for a line that has released versions with rows, if there is one.
    pub async fn begin(store: &Store) -> Result<Option<Self>, Error> {
        let client = store.client().await?;
        for line in expiry::line_list_going(&client).await? {
            let standing = expiry::version_list_standing(&client, line).await?;
            let released: Vec<i64> = standing
                .iter()
                .filter(|v| v.gone && !v.vacuumed)
                .map(|v| v.version)
                .collect();
            if released.is_empty() {
                continue;
            }
            let published = standing.iter().filter(|v| !v.staged);
            return Ok(Some(Self {
                line,
                behind: None,
                protected: stay(&standing),
                floors: published.map(|v| (v.version, v.floor)).collect(),
                released,
                removed: 0,
            }));
        }
        Ok(None)
    }

    /// Looks at about so many rows and removes those that nobody resolves to. True when all were looked at.
    pub async fn step(&mut self, store: &Store, rows: i64) -> Result<bool, Error> {
        let client = store.client().await?;
        let behind = self.behind.as_deref();
        let keys = expiry::page_list_rows(&client, self.line, behind, rows).await?;
        let Some((last, _)) = keys.last() else {
            expiry::version_vacuumed(&client, self.line, &self.released).await?;
            tracing::info!(line = self.line, rows = self.removed, "vacuumed");
            return Ok(true);
        };
        let mut going: Vec<(&[u8], i64)> = Vec::new();
        for (chunk, versions) in &keys {
            for (at, &row) in versions.iter().enumerate() {
                // What is not published, or was not when this began, is not judged.
                let Some(&floor) = self.floors.get(&row) else {
                    continue;
                };
                let next = versions.get(at + 1).copied();
                if !stays(row, floor, next, &self.protected) {
                    going.push((chunk, row));
                }
            }
        }
        if !going.is_empty() {
            self.removed += expiry::page_remove(&client, self.line, &going).await?;
        }
        self.behind = Some(last.clone());
        Ok(false)
    }
}
