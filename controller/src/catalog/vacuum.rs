//! What nobody needs any more goes (design.md, "The catalog", rules 12 and 13): first the parts of versions that have expired
//! and that nothing builds on, then rows that nobody resolves to.
//!
//! What may go is looked for without holding anything. It goes with the line held, for so few keys at a time that a run waits
//! milliseconds for it, and only if it may go by what is true then: an expired version is never kept again, but a cartridge that is taken in may bring a
//! version that resolves to rows of one, or rows that somebody lacks.

use std::collections::BTreeMap;

use taf_core::catalog::{Compared, Protected, Published, protected, stays};

use crate::store::expiry::{self, Standing};
use crate::store::{Client, Error, GenericClient, Store, lines};

/// Rows looked at in a step, usually.
pub const ROWS: i64 = 4_000;
/// Keys that are judged while the line is held: some milliseconds.
const HELD: usize = 500;

/// Releases what expired versions alone need, and notes which volumes nobody needs then. Gives how many versions that were.
pub async fn release(store: &Store) -> Result<u64, Error> {
    let mut client = store.client().await?;
    let mut released = 0;
    for line in expiry::line_list_going(&client).await? {
        if unneeded(&expiry::version_list_standing(&client, line).await?).is_empty() {
            continue;
        }
        let tx = client.transaction().await?;
        // One that came back may just become what one of them is.
        lines::line_lock_on(&tx, line).await?;
        let going = unneeded(&expiry::version_list_standing(&tx, line).await?);
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

/// Which rows of a line must stay, by what is true at one moment.
pub(super) struct Judge {
    protected: Vec<Protected>,
    /// Floors of published versions, and of those that are not whole.
    floors: BTreeMap<i64, i64>,
}

impl Judge {
    async fn of(client: &impl GenericClient, line: i64) -> Result<Self, Error> {
        let standing = expiry::version_list_standing(client, line).await?;
        Ok(Self::by(&standing))
    }

    pub(super) fn by(standing: &[Standing]) -> Self {
        let published = standing.iter().filter(|v| !v.staged);
        Self {
            protected: stay(standing),
            floors: published.map(|v| (v.version, v.floor)).collect(),
        }
    }

    /// Whether nobody resolves to the row that a version wrote; `next` is that of the next row of its key. What is being made is not judged.
    pub(super) fn goes(&self, row: i64, next: Option<i64>) -> bool {
        let floor = self.floors.get(&row);
        floor.is_some_and(|&floor| !stays(row, floor, next, &self.protected))
    }

    /// Those that nobody resolves to, of keys with all the versions that wrote a row of each.
    fn going<'a>(&self, keys: &'a [(Vec<u8>, Vec<i64>)]) -> Vec<(&'a [u8], i64)> {
        let mut going = Vec::new();
        for (chunk, versions) in keys {
            for (at, &row) in versions.iter().enumerate() {
                if self.goes(row, versions.get(at + 1).copied()) {
                    going.push((chunk.as_slice(), row));
                }
            }
        }
        going
    }
}

/// The versions whose rows must stay.
fn stay(standing: &[Standing]) -> Vec<Protected> {
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

/// Removes those rows of these keys that nobody resolves to; gives how many went.
pub(super) async fn remove(client: &mut Client, line: i64, keys: &[&[u8]]) -> Result<u64, Error> {
    let mut removed = 0;
    for keys in keys.chunks(HELD) {
        let tx = client.transaction().await?;
        // Who counts what a version resolves to, or brings rows, holds it as well.
        lines::line_lock_on(&tx, line).await?;
        let judge = Judge::of(&tx, line).await?;
        let rows = expiry::page_list_of(&tx, line, keys).await?;
        let going = judge.going(&rows);
        if !going.is_empty() {
            removed += expiry::page_remove(&tx, line, &going).await?;
        }
        tx.commit().await?;
    }
    Ok(removed)
}

/// One going over the rows of a line.
#[derive(Debug)]
pub struct Sweep {
    line: i64,
    behind: Option<Vec<u8>>,
    /// The versions whose rows are gone when it is over, each with how often rows of it had come back when it began.
    released: Vec<(i64, i64)>,
    /// Rows that went.
    pub removed: u64,
}

impl Sweep {
    /// Begins one for a line that has released versions with rows, if there is one.
    pub async fn begin(store: &Store) -> Result<Option<Self>, Error> {
        let client = store.client().await?;
        for line in expiry::line_list_going(&client).await? {
            let standing = expiry::version_list_standing(&client, line).await?;
            let released: Vec<(i64, i64)> = standing
                .iter()
                .filter(|v| v.gone && !v.vacuumed)
                .map(|v| (v.version, v.regained))
                .collect();
            if released.is_empty() {
                continue;
            }
            return Ok(Some(Self {
                line,
                behind: None,
                released,
                removed: 0,
            }));
        }
        Ok(None)
    }

    /// Looks at about so many rows and removes those that nobody resolves to. True when all were looked at.
    pub async fn step(&mut self, store: &Store, rows: i64) -> Result<bool, Error> {
        let mut client = store.client().await?;
        let behind = self.behind.as_deref();
        let keys = expiry::page_list_rows(&client, self.line, behind, rows).await?;
        let Some((last, _)) = keys.last() else {
            // Where rows came back meanwhile, another one goes over them.
            expiry::version_vacuumed(&client, self.line, &self.released).await?;
            tracing::info!(line = self.line, rows = self.removed, "vacuumed");
            return Ok(true);
        };
        let judge = Judge::of(&client, self.line).await?;
        let mut chunks: Vec<&[u8]> = judge.going(&keys).iter().map(|(chunk, _)| *chunk).collect();
        chunks.dedup();
        self.removed += remove(&mut client, self.line, &chunks).await?;
        self.behind = Some(last.clone());
        Ok(false)
    }
}
