//! What had begun, or was asked for, under a catalog that is not trusted any more.
//!
//! It was decided by what may be old: a volume that was free then may hold the newest backup now. So it ends. What waits to be
//! backed up only waits longer.

use taf_core::attempt::Verdict;
use taf_core::plan::Decision;
use taf_core::trust;

use super::facts::State;
use crate::store::attempts::LiveAttempt;

/// How an attempt ends that began before trust was lost.
pub(super) fn verdict(state: &State, live: &LiveAttempt) -> Option<Verdict> {
    let reason = state.trust.reason()?;
    // Each loss of trust begins a new epoch.
    let before = live.generation.0 < state.trust.claims.generation.0;
    (before && trust::rests(&live.kind)).then(|| Verdict::Failed(trust::fault(reason)))
}

/// The waiting jobs that end: all that rest but backups, if they were asked for before trust was lost.
pub(super) fn forsaken(state: &State) -> Vec<Decision> {
    let Some((since, reason)) = &state.trust.distrusted else {
        return Vec::new();
    };
    let ends = state
        .queued
        .iter()
        .filter(|job| job.kind != "backup" && trust::rests(&job.kind) && job.created_at < *since);
    ends.map(|job| Decision::Fail {
        job: job.id,
        stream: 0,
        fault: trust::fault(reason),
    })
    .collect()
}
