//! Putting right what follows from the rest. Each repair says itself where it applies, so that what changed since it was found is
//! left alone.

use crate::store::{Error, Transaction, checks, expiry};

/// One repair.
#[derive(Debug, Clone)]
pub(super) enum Repair {
    /// Of what a check of tables finds.
    Table(&'static str),
    /// A row that nobody resolves to goes.
    Row {
        line: i64,
        chunk: Vec<u8>,
        version: i64,
    },
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
pub(super) async fn all_on(tx: &Transaction<'_>, repairs: &[Repair]) -> Result<u64, Error> {
    let mut changed = 0;
    for repair in repairs {
        changed += match repair {
            Repair::Table(sql) => checks::check_repair_on(tx, sql).await?,
            Repair::Row {
                line,
                chunk,
                version,
            } => expiry::page_remove(tx, *line, &[(chunk.as_slice(), *version)]).await?,
            Repair::Need {
                line,
                version,
                part,
            } => checks::version_parts_note_on(tx, *line, *version, *part).await?,
            Repair::Closing {
                line,
                version,
                before,
                closing,
            } => checks::closing_replace_on(tx, (*line, *version), before, closing).await?,
        };
    }
    Ok(changed)
}
