//! Further streams of restores: when they may join, and which volumes they may begin with.

use prost::Message as _;
use taf_core::plan::{self, Grant};
use taf_core::recall::turn;
use taf_proto::v1;

use super::facts::State;
use super::stage::is_joinable;
use crate::store::attempts::LiveAttempt;
use crate::store::{Error, Transaction, attempts, recalls, streams};

/// After so many streams that could not go on, a restore gets no more of them: it is the drives, or the volumes.
const DROPPED_MOST: usize = 2;

impl State {
    /// Further streams that restores could have, as jobs that take what nobody else wants.
    pub(super) fn further_restores(&self) -> impl Iterator<Item = plan::Job> + '_ {
        self.attempts.iter().flat_map(|live| {
            let open = self.open_turns(live);
            open.into_iter().flat_map(move |(streams, volumes)| {
                streams.map(move |stream| {
                    let needs = plan::Needs::any_of(volumes.clone());
                    plan::Job::further(live.job_id, stream, needs)
                })
            })
        })
    }

    /// The numbers of the streams that could join a restore, and the volumes that they could begin with.
    fn open_turns(&self, live: &LiveAttempt) -> Option<(std::ops::Range<i32>, Vec<i64>)> {
        if live.kind != "restore" || live.dump_format.is_some() || !is_joinable(live) {
            return None;
        }
        let volumes = self.recalls.get(&live.job_id)?;
        // The first stream chooses first; and one that does not choose reads everything by itself.
        let begun = |v: &turn::Volume| v.taken.is_some_and(|taken| taken.attempt == live.id);
        if !volumes.iter().any(begun) {
            return None;
        }
        let had = self.streams.get(&live.job_id);
        let had = had.map_or(&[][..], Vec::as_slice);
        let with = |verdict: &str| had.iter().filter(|one| one.verdict == verdict).count();
        if with("cancelled") > DROPPED_MOST {
            return None;
        }
        let request = live.restore_request.as_deref();
        let request = v1::RestoreVersionRequest::decode(request?).ok()?;
        let most = match request.drives {
            0 => usize::MAX,
            most => most as usize,
        };
        let open = turn::open(volumes);
        let room = most.saturating_sub(1 + with("none")).min(open.len()) as i32;
        let next = 1 + had.len() as i32;
        (room > 0).then_some((next..next + room, open))
    }
}

/// A further stream of a restore that is under way begins, with the volumes that are read together with the one it got.
pub(super) async fn join_on(
    tx: &Transaction<'_>,
    state: &State,
    first: &LiveAttempt,
    stream: i32,
    grant: &Grant,
) -> Result<i64, Error> {
    let job = first.job_id;
    recalls::recall_lock_on(tx, job, first.id).await?;
    // It may have been decided since the state was loaded.
    if !streams::stream_may_join_on(tx, job).await? {
        return Err(Error::Stale("attempt"));
    }
    let volume = grant.volume.ok_or(Error::Stale("volume"))?;
    let agent = first.source.as_ref().map(|source| source.id);
    let attempt = attempts::attempt_start_on(tx, job, stream, grant, agent).await?;
    let volumes = state.recalls.get(&job).map_or(&[][..], Vec::as_slice);
    let turn = volumes.iter().find(|v| v.id == volume).map(|v| v.turn);
    let together = volumes.iter().filter(|v| Some(v.turn) == turn);
    let together: Vec<i64> = together.map(|v| v.id).collect();
    if together.is_empty() {
        return Err(Error::Stale("volume of a restore"));
    }
    recalls::recall_take_on(tx, job, attempt, &together).await?;
    Ok(attempt)
}
