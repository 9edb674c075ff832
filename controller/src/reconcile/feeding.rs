//! Feeds, as their backups and the planner see them: one holds a drive at a time, and none holds the only one.

use taf_core::Fault;
use taf_core::plan::{self, Decision, World};

use super::facts::State;
use crate::store::feeds::Feed;

impl State {
    /// The feed of a synthetic full.
    pub(super) fn feed_of(&self, backup: i64) -> Option<&Feed> {
        self.feeds.iter().find(|feed| feed.backup == backup)
    }

    /// A feed under way, by its own job.
    pub(super) fn feed(&self, job: i64) -> Option<&Feed> {
        self.feeds.iter().find(|feed| feed.job_id == job)
    }

    /// Whether nobody needs a feed any more: its backup has ended, and not well.
    pub(super) fn is_in_vain(&self, feed: &Feed) -> bool {
        let decided = self.first_of(feed.backup);
        ["failed", "cancelled"].contains(&feed.backup_state.as_str())
            || decided.is_some_and(|live| ["failed", "cancelled"].contains(&live.verdict.as_str()))
    }

    /// Whether a waiting feed is not to begin, as a person asked or as nobody needs it.
    pub(super) fn is_cancelled(&self, feed: &Feed) -> bool {
        let asked = self
            .queued_job(feed.job_id)
            .is_some_and(|job| job.cancel_asked);
        asked || self.is_in_vain(feed)
    }

    /// The feed that keeps another one from beginning: each holds a drive for as long as its backup waits for another one. One that
    /// waits itself, perhaps for a volume that somebody has to bring, keeps nobody.
    pub(super) fn feed_before(&self, job: i64) -> Option<&Feed> {
        let under_way = self.feeds.iter().find(|feed| feed.state == "running")?;
        let waits = self.feed(job).is_some() && under_way.job_id != job;
        waits.then_some(under_way)
    }

    /// What becomes of the waiting feeds that would hold the only drive that their backups could write in. Those that are cancelled
    /// anyway are the planner's.
    pub(super) fn feeds_in_the_way(&self, world: &World) -> Vec<Decision> {
        let mut decisions = Vec::new();
        let waiting = self.feeds.iter().filter(|feed| feed.state == "queued");
        for feed in waiting.filter(|feed| !self.is_cancelled(feed)) {
            let Some(pool) = self.copied_into(feed) else {
                continue;
            };
            let decision = plan::without_second_drive(feed.job_id, &feed.volumes, pool, world);
            // Who waits for another feed waits for nothing else yet.
            let waits = |decision: &Decision| matches!(decision, Decision::Wait { .. });
            let behind = self.feed_before(feed.job_id).is_some();
            decisions.extend(decision.filter(|decision| !(behind && waits(decision))));
        }
        decisions
    }

    /// Has feeds leave the only drives that their backups could write in. A backup that has its drive needs no other: the feed would
    /// give up its own one.
    pub(super) fn spare_writers(&self, jobs: &mut [plan::Job], world: &World) {
        for job in jobs {
            let copies = |feed: &&Feed| {
                let backup = self.first_of(feed.backup);
                backup.is_some_and(|live| live.drive_id.is_some())
            };
            let feed = self.feed(job.id).filter(|feed| !copies(feed));
            let pool = feed.and_then(|feed| self.copied_into(feed));
            if let (Some(feed), Some(pool)) = (feed, pool) {
                job.needs.leaves = plan::only_writer(&feed.volumes, pool, world);
            }
        }
    }

    /// The pool that the backup of a feed writes into.
    fn copied_into(&self, feed: &Feed) -> Option<i64> {
        let waiting = self.queued_job(feed.backup);
        let waiting = waiting.and_then(|job| job.pool.as_ref());
        let running = || {
            let live = self.first_of(feed.backup);
            live.and_then(|live| live.pool.as_ref())
        };
        waiting.or_else(running).map(|(pool, _)| *pool)
    }
}

/// Why a backup can't have what its feed was to read.
pub(super) fn without(feed: &Feed) -> Option<Fault> {
    match (feed.state.as_str(), &feed.fault) {
        ("failed", Some(fault)) => Some(Fault {
            message: format!(
                "reading what it is put together from failed: {}",
                fault.message
            ),
            ..fault.clone()
        }),
        ("cancelled", _) => Some(Fault::new(
            "FEED_CANCELLED",
            "the job that reads what it is put together from was cancelled",
            "run it again; the older versions are as they were",
        )),
        _ => None,
    }
}
