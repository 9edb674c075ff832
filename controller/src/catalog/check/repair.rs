//! Putting right what follows from the rest. Each repair says itself where it applies, so that what changed since it was found is
//! left alone.

use std::collections::{BTreeMap, BTreeSet};

use crate::catalog::vacuum;
use crate::store::{Client, Error, checks};

/// One repair.
#[derive(Debug, Clone)]
pub(super) enum Repair {
    /// Of what a check of tables finds.
    Table(&'static str),
    /// Rows of a key that nobody resolves to go.
    Row { line: i64, chunk: Vec<u8> },
    /// A version needs a part.
    Need {
        line: i64,
        version: i64,
        part: (i32, i32),
    },
    /// What a version needs is counted anew in its closing record.
    Closing {
        line: i64,
        version: i64,
        before: Vec<u8>,
        closing: Vec<u8>,
    },
}

/// Does them all. Gives how many rows they changed.
pub(super) async fn all(client: &mut Client, repairs: &[Repair]) -> Result<u64, Error> {
    let mut changed = 0;
    let mut unneeded: BTreeMap<i64, BTreeSet<&[u8]>> = BTreeMap::new();
    let tx = client.transaction().await?;
    for repair in repairs {
        changed += match repair {
            Repair::Table(sql) => checks::check_repair_on(&tx, sql).await?,
            Repair::Row { line, chunk } => {
                unneeded.entry(*line).or_default().insert(chunk);
                0
            }
            Repair::Need {
                line,
                version,
                part,
            } => checks::version_parts_note_on(&tx, *line, *version, *part).await?,
            Repair::Closing {
                line,
                version,
                before,
                closing,
            } => checks::closing_replace_on(&tx, (*line, *version), before, closing).await?,
        };
    }
    tx.commit().await?;
    // What was found is of a while ago, and somebody may need it since.
    for (line, keys) in unneeded {
        let keys: Vec<&[u8]> = keys.into_iter().collect();
        changed += vacuum::remove(client, line, &keys).await?;
    }
    Ok(changed)
}
