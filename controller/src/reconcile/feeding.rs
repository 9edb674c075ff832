//! Feeds, as their backups and the planner see them: one holds a drive at a time, and none holds the only one.

use taf_core::Fault;
use taf_core::plan::{self, World};

use super::facts::State;
use super::stage::waits_for_volume;
use crate::store::attempts::LiveAttempt;
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

    /// Has feeds take heed of where their backups could write, for as long as these have no drive: afterwards the feed would only give up
    /// its own one.
    pub(super) fn spare_writers(&self, jobs: &mut [plan::Job], world: &World) {
        for job in jobs {
            let feed = self.feed(job.id).filter(|feed| !self.writes(feed));
            let Some(copy) = feed.and_then(|feed| self.copy(feed)) else {
                continue;
            };
            job.needs.leaves = plan::only_writer(&copy, world);
            job.needs.copy = Some(copy);
        }
    }

    /// Why a feed ends that is under way: its drive has become the only one that its backup, which waits for one, could write in. Between
    /// two volumes it leaves that drive, if it can read in another one.
    pub(super) fn cornered(&self, live: &LiveAttempt) -> Option<Fault> {
        let feed = self.feed(live.job_id)?;
        let drive = live.drive_id?;
        let waits = self.first_of(feed.backup).is_some_and(waits_for_volume);
        let reads = live.source_result.is_none();
        if !waits || !reads || self.writes(feed) {
            return None;
        }
        let (copy, (_, world)) = (self.copy(feed)?, self.planning());
        if waits_for_volume(live) && plan::only_writer(&copy, &world) == Some(drive) {
            return None;
        }
        plan::cornered(&copy, drive, &world)
    }

    /// Whether the backup of a feed has its drive.
    fn writes(&self, feed: &Feed) -> bool {
        let backup = self.first_of(feed.backup);
        backup.is_some_and(|live| live.drive_id.is_some())
    }

    /// What a feed reads, and where its backup writes it.
    fn copy(&self, feed: &Feed) -> Option<plan::Copy> {
        let waiting = self.queued_job(feed.backup);
        let waiting = waiting.and_then(|job| job.pool.as_ref());
        let running = || {
            let live = self.first_of(feed.backup);
            live.and_then(|live| live.pool.as_ref())
        };
        let (pool, name) = waiting.or_else(running)?;
        Some(plan::Copy {
            reads: feed.volumes.clone(),
            pool: *pool,
            pool_name: name.clone(),
        })
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
