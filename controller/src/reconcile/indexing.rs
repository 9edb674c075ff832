//! Volume indexes: begun when they are due, as jobs of the controller's own; and the counting of versions that are about to be
//! published, whose needs go into them.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use taf_core::{index, plan};
use tokio::task::JoinHandle;

use super::facts::State;
use crate::catalog;
use crate::session::Registry;
use crate::store::{Error, Store, Transaction, attempts, indexes, jobs, savepoints};

/// Who asks for what nobody asked for.
pub(super) const CREATOR: &str = "controller";

/// Begins the indexes that are due.
pub(super) async fn begin_on(
    tx: &Transaction<'_>,
    state: &State,
    jobs: &[plan::Job],
    index_after: Duration,
) -> Result<Vec<index::Index>, Error> {
    let due: Vec<index::Due> = indexes::index_list_due_on(tx)
        .await?
        .into_iter()
        .map(|due| index::Due {
            volume: due.volume_id,
            barcode: due.barcode,
            pool: due.pool_id,
            appendable: due.appendable,
            drive: due.drive_id,
            idle_millis: (due.idle_seconds.max(0.0) * 1000.0) as u64,
        })
        .collect();
    let mut begun = Vec::new();
    for index in index::due(&due, jobs, index_after.as_millis() as u64) {
        savepoints::savepoint_begin_on(tx).await?;
        match job_on(tx, state, index.clone()).await {
            Ok(()) => {
                savepoints::savepoint_keep_on(tx).await?;
                begun.push(index);
            }
            // Something has taken drive or volume; it is looked at again.
            Err(error) if matches!(error, Error::Stale(_)) || !error.is_transient() => {
                tracing::warn!(volume = index.volume, %error, "an index could not be begun");
                savepoints::savepoint_undo_on(tx).await?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(begun)
}

async fn job_on(tx: &Transaction<'_>, state: &State, index: index::Index) -> Result<(), Error> {
    let library = state
        .drives
        .get(&index.drive)
        .and_then(|d| d.library.as_ref());
    let grant = plan::Grant {
        drive: Some(index.drive),
        volume: Some(index.volume),
        barcode: Some(index.barcode.clone()),
        library: library.map(|(id, _, _)| *id),
        beside: None,
    };
    let job = jobs::job_create_index_on(tx, index.volume, CREATOR).await?;
    attempts::attempt_start_on(tx, job, 0, &grant, None).await?;
    jobs::job_start_on(tx, job).await?;
    tracing::info!(
        job,
        drive = index.drive,
        volume = index.volume,
        "writes a volume index"
    );
    Ok(())
}

/// Counts what versions resolve to, beside the reconciler.
#[derive(Default)]
pub(super) struct Counting {
    tasks: HashMap<i64, JoinHandle<()>>,
}

impl Counting {
    /// Begins to count the versions whose parts are complete, and gives the first streams of those that are not counted yet. What could
    /// not be counted is counted when it is published, which says why it can't.
    pub(super) fn look(
        &mut self,
        state: &State,
        store: &Store,
        registry: &Registry,
    ) -> HashSet<i64> {
        self.tasks
            .retain(|attempt, _| state.complete.contains(attempt));
        for live in &state.attempts {
            let (true, Some(line), Some(archive)) =
                (state.is_whole(live), live.line_id, &live.archive)
            else {
                continue;
            };
            let (version, store, registry) = (archive.version, store.clone(), registry.clone());
            self.tasks.entry(live.id).or_insert_with(|| {
                tokio::spawn(async move {
                    if let Err(error) = catalog::closing::count(&store, line, version).await {
                        tracing::warn!(line, version, %error, "a version could not be counted");
                    }
                    registry.wake();
                })
            });
        }
        let unfinished = self.tasks.iter().filter(|(_, task)| !task.is_finished());
        unfinished.map(|(attempt, _)| *attempt).collect()
    }
}
