//! Rows as the pure core's facts.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use taf_core::attempt::{self, Outcome};
use taf_core::mount::{Element, ElementKind, Medium};
use taf_core::recall::turn;
use uuid::Uuid;

use super::results::{Side, backup_done, fault_of, outcome};
use super::stage::{
    further_streams, is_at_work, is_joinable, kind, medium, stage, waits_for_volume,
};
use super::{Limits, feeding};
use crate::catalog;
use crate::session::Unit;
use crate::store::attempts::{self, LiveAttempt};
use crate::store::drives::{self, DriveRow};
use crate::store::feeds::{self, Feed};
use crate::store::jobs::{self, QueuedJob};
use crate::store::libraries::{self, ElementRow, LibraryRow};
use crate::store::recalls;
use crate::store::streams::{self, Further};
use crate::store::trust::{Trust, trust_get};
use crate::store::volumes::{self, PlannedVolume};
use crate::store::{Error, Transaction, attempt_volumes, cleaning};

/// More devices than any installation has; the reconciler looks at all of them.
const ALL: i64 = 10_000;

/// Everything that the reconciler looks at.
pub(super) struct State {
    pub queued: Vec<QueuedJob>,
    pub attempts: Vec<LiveAttempt>,
    /// The further streams that their jobs have had, by job.
    pub streams: HashMap<i64, Vec<Further>>,
    /// Attempts whose parts are complete.
    pub complete: Vec<i64>,
    pub drives: HashMap<i64, DriveRow>,
    pub libraries: HashMap<i64, LibraryRow>,
    pub elements: HashMap<i64, Vec<Element>>,
    pub volumes: HashMap<i64, PlannedVolume>,
    /// Barcodes of cartridges that attempts hold.
    pub held: HashSet<String>,
    /// How often cleaning cartridges can still be used.
    pub cleanings_left: HashMap<String, u32>,
    /// Source agents' processes.
    pub sources: Vec<(i64, Uuid)>,
    /// Since when this controller watches.
    pub watching: Duration,
    /// For how long it is known that a side of an attempt has ended.
    pub reported: HashMap<i64, Duration>,
    /// Attempts whose version is being counted: they are not decided yet.
    pub counting: HashSet<i64>,
    /// Waiting backups that have something to compare with, or to copy: they begin without a drive.
    pub comparing: HashSet<i64>,
    /// How far the catalog is trusted.
    pub trust: Trust,
    /// Feeds under way, and those of backups under way, the oldest first.
    pub feeds: Vec<Feed>,
    /// The volumes of restores under way, in their order, by job.
    pub recalls: HashMap<i64, Vec<turn::Volume>>,
}

pub(super) async fn load_on(tx: &Transaction<'_>, watching: Duration) -> Result<State, Error> {
    let queued = jobs::job_list_queued_on(tx).await?;
    let attempts = attempts::attempt_list_live_on(tx).await?;
    let mut complete = Vec::new();
    for attempt in attempts.iter().filter(|a| a.verdict == "none") {
        if let (Some(archive), Some(done)) = (
            &attempt.archive,
            backup_done(attempt.source_result.as_deref()),
        ) && catalog::is_complete_on(tx, archive.id, &done).await?
        {
            complete.push(attempt.id);
        }
    }
    let sources = drives::source_list_on(tx).await?;
    let drives = drives::drive_list(tx, "", ALL).await?;
    let libraries = libraries::library_list(tx, "", ALL).await?;
    // They are many, and only who is about to start or to take a step asks for them.
    let streams = streams::stream_list_live_on(tx).await?;
    let feeds = feeds::feed_list_live_on(tx).await?;
    let mut elements = HashMap::new();
    let between = |a: &LiveAttempt| a.verdict == "none" && a.step_kind == "none";
    let dirty = drives.iter().any(|d| d.clean_due);
    let idle = drives
        .iter()
        .any(|d| d.connected && !d.down && d.job.is_none());
    let mut recalls = HashMap::new();
    if attempts.iter().any(|a| a.kind == "restore") {
        recalls = recalls::recall_list_live_on(tx).await?;
    }
    // What of a restore is open is seen when it is planned.
    let joinable = |a: &LiveAttempt| {
        !further_streams(a, &streams).is_empty() || (a.kind == "restore" && is_joinable(a))
    };
    if !queued.is_empty()
        || attempts.iter().any(between)
        || dirty
        || (idle && attempts.iter().any(joinable))
    {
        for library in &libraries {
            let rows = libraries::library_elements(tx, library.id).await?;
            elements.insert(library.id, rows.iter().map(element).collect());
        }
    }
    let mut volumes = HashMap::new();
    if !queued.is_empty() || !attempts.is_empty() {
        let wanted = volumes::volume_list_planned_on(tx).await?;
        volumes.extend(wanted.into_iter().map(|v| (v.id, v)));
    }
    let mut comparing = HashSet::new();
    for job in &queued {
        if let (Some(line), Some(asked)) = (job.line_id, &job.asked_kind)
            && catalog::foresee(tx, line, catalog::kind(asked)?)
                .await?
                .begins_alone()
        {
            comparing.insert(job.id);
        }
    }
    let mut held = HashSet::new();
    let mut cleanings_left = HashMap::new();
    if !queued.is_empty() || !attempts.is_empty() || dirty {
        held = attempt_volumes::cartridge_list_held_on(tx).await?;
        cleanings_left = cleaning::cleaning_list(tx).await?;
    }
    let trust = trust_get(tx).await?;
    Ok(State {
        trust: trust.ok_or(Error::Corrupt("the installation's row"))?,
        held,
        cleanings_left,
        queued,
        attempts,
        streams,
        complete,
        drives: drives.into_iter().map(|d| (d.id, d)).collect(),
        libraries: libraries.into_iter().map(|l| (l.id, l)).collect(),
        elements,
        volumes,
        sources,
        watching,
        reported: HashMap::new(),
        counting: HashSet::new(),
        comparing,
        feeds,
        recalls,
    })
}

fn element(row: &ElementRow) -> Element {
    Element {
        kind: match row.kind.as_str() {
            "drive" => ElementKind::Drive,
            "mail-slot" => ElementKind::MailSlot,
            _ => ElementKind::Slot,
        },
        address: row.address as u32,
        full: row.occupied,
        barcode: row.barcode.clone(),
        drive_serial: row.drive_serial.clone(),
        source_address: row.source_address.map(|a| a as u32),
        exception: row.exception.clone(),
    }
}

impl State {
    /// A job that waits.
    pub(super) fn queued_job(&self, id: i64) -> Option<&QueuedJob> {
        self.queued.iter().find(|job| job.id == id)
    }

    /// The process of each unit that rows know of.
    pub(super) fn incarnations(&self) -> HashMap<Unit, Uuid> {
        let drives = self
            .drives
            .values()
            .map(|d| (Unit::Drive(d.id), d.incarnation));
        let libraries = self
            .libraries
            .values()
            .map(|l| (Unit::Library(l.id), l.incarnation));
        let sources = self.sources.iter().map(|(id, i)| (Unit::Source(*id), *i));
        drives.chain(libraries).chain(sources).collect()
    }

    /// What the catalog says that a job, or a stream of it, waits for.
    pub(super) fn known_wait(&self, job: i64, stream: i32) -> Option<&str> {
        let queued = self.queued_job(job).map(|q| q.waiting_for.as_deref());
        let running = || {
            let waiting = self.waiting_attempt(job, stream);
            waiting.map(|a| a.waiting_for.as_deref())
        };
        queued.or_else(running).flatten()
    }

    /// The attempt of a job's stream that waits for its next volume.
    pub(super) fn waiting_attempt(&self, job: i64, stream: i32) -> Option<&LiveAttempt> {
        self.attempts
            .iter()
            .find(|live| (live.job_id, live.stream) == (job, stream) && waits_for_volume(live))
    }

    /// The attempt of a job's first stream, while it has not ended.
    pub(super) fn first_of(&self, job: i64) -> Option<&LiveAttempt> {
        self.attempts
            .iter()
            .find(|live| live.job_id == job && live.stream == 0)
    }

    /// Whether everything of a version is committed; `live` is the attempt of its first stream.
    pub(super) fn is_whole(&self, live: &LiveAttempt) -> bool {
        let others = self.streams.get(&live.job_id).into_iter().flatten();
        let mut decided = others.map(|other| !["none", "failed"].contains(&other.verdict.as_str()));
        live.stream == 0 && self.complete.contains(&live.id) && decided.all(|decided| decided)
    }

    /// How an attempt stands to others of its job.
    fn share(&self, live: &LiveAttempt) -> attempt::Share {
        if live.stream > 0 {
            let ended = match self.first_of(live.job_id) {
                Some(first) if first.verdict == "failed" => {
                    Some(attempt::Verdict::Failed(fault_of(first.fault.as_deref())))
                }
                Some(first) if first.verdict == "none" => None,
                _ => Some(attempt::Verdict::Cancelled),
            };
            return attempt::Share::Further { ended };
        }
        let others = self
            .streams
            .get(&live.job_id)
            .map_or(&[][..], Vec::as_slice);
        let with = |verdict: &'static str| others.iter().filter(move |o| o.verdict == verdict);
        let failed = with("failed").next();
        attempt::Share::First {
            open: with("none").count(),
            // One that lost its drive told of damage before, too.
            with_issues: with("succeeded-with-issues").next().is_some()
                || with("cancelled").any(|other| other.has_issues),
            fault: failed
                .map(|other| fault_of(other.fault.as_deref()))
                .or_else(|| self.feed_of(live.job_id).and_then(feeding::without))
                .or_else(|| self.cornered(live)),
        }
    }

    /// The library whose robot works for an attempt: that of its drive as things are now, else the one it was given.
    pub(super) fn library_of(&self, attempt: &LiveAttempt) -> Option<&LibraryRow> {
        let drive = attempt.drive_id.and_then(|id| self.drives.get(&id));
        let id = match drive {
            Some(drive) => drive.library.as_ref().map(|(id, _, _)| *id),
            None => attempt.library_id,
        };
        self.libraries.get(&id?)
    }

    /// Facts about a live attempt, for the core. `None` while a row that it needs is missing. `robots` are those that work for
    /// somebody.
    pub(super) fn about<'a>(
        &'a self,
        attempt: &'a LiveAttempt,
        limits: Limits,
        robots: &HashSet<i64>,
    ) -> Option<attempt::Facts<'a>> {
        let drive = match attempt.drive_id {
            Some(id) => Some(self.drives.get(&id)?),
            None => None,
        };
        let barcode = attempt.cartridge.as_deref().unwrap_or_default();
        let first_step = match attempt.volume {
            Some(held) => {
                self.volumes.get(&held.id)?;
                held.first_step
            }
            None if attempt.waiting_seconds.is_some() => attempt.step,
            None => 1,
        };
        let library = self.library_of(attempt);
        let elements = library
            .and_then(|l| self.elements.get(&l.id))
            .map_or(&[][..], Vec::as_slice);
        let kind = kind(attempt);
        Some(attempt::Facts {
            kind,
            stage: stage(attempt),
            steps: (attempt.step - first_step + 1) as u32,
            beside: attempt.volume.is_some_and(|held| {
                let same = |other: &LiveAttempt| other.volume.is_some_and(|v| v.id == held.id);
                self.sharers(attempt)
                    .any(|other| is_at_work(other) && same(other))
            }),
            cancel_asked: attempt.cancel_asked
                || self
                    .feed(attempt.job_id)
                    .is_some_and(|feed| self.is_in_vain(feed)),
            barcode,
            waiting_for: attempt.waiting_for.as_deref().unwrap_or_default(),
            volume_wait_millis: limits.volume_wait.as_millis() as u64,
            from: attempt.task.from_address.map(|a| a as u32),
            worked: attempt.worked,
            drive_serial: drive.map_or("", |d| d.serial.as_str()),
            medium: drive.map_or(Medium::Unknown, medium),
            drive: drive.map(|drive| self.drive_unit(attempt, drive)),
            source: attempt.source.as_ref().map(|source| attempt::Unit {
                same_incarnation: attempt.source_incarnation.is_none()
                    || attempt.source_incarnation == source.incarnation,
                silent_millis: self.silence(source.silent_seconds),
            }),
            source_name: attempt.source.as_ref().map_or("", |s| s.name.as_str()),
            robot: self.robot_unit(attempt),
            robot_busy: library.is_some_and(|l| robots.contains(&l.id)),
            robot_pause: library.and_then(|l| l.pause.as_deref()),
            library_serial: library.map_or("", |l| l.serial.as_str()),
            elements,
            drive_outcome: match outcome(attempt.drive_result.as_deref(), kind, Side::Drive) {
                Some(Outcome::Done { issues }) => Some(Outcome::Done {
                    // Not all that is in the catalog need be of the worker that ends it.
                    issues: issues.max(attempt.issue_count),
                }),
                outcome => outcome,
            },
            source_outcome: outcome(attempt.source_result.as_deref(), kind, Side::Source),
            reported_millis: self
                .reported
                .get(&attempt.id)
                .map_or(0, |known| known.as_millis() as u64),
            parts_complete: self.complete.contains(&attempt.id),
            unchanged: backup_done(attempt.source_result.as_deref())
                .is_some_and(|done| done.unchanged),
            source_bound: attempt.source_incarnation.is_some(),
            share: self.share(attempt),
            lease_millis: limits.lease.as_millis() as u64,
        })
    }

    /// How the drive of an attempt is.
    pub(super) fn drive_unit(&self, attempt: &LiveAttempt, drive: &DriveRow) -> attempt::Unit {
        attempt::Unit {
            same_incarnation: attempt
                .drive_incarnation
                .is_none_or(|given| given == drive.incarnation),
            silent_millis: self.silence(drive.silent_seconds),
        }
    }

    /// Whether the process that an attempt gave work to in its drive is no more.
    pub(super) fn is_drive_replaced(&self, attempt: &LiveAttempt) -> bool {
        let drive = attempt.drive_id.and_then(|id| self.drives.get(&id));
        drive.is_some_and(|drive| !self.drive_unit(attempt, drive).same_incarnation)
    }

    /// How the robot of an attempt is; it works for whoever asks, so any process of it will do.
    pub(super) fn robot_unit(&self, attempt: &LiveAttempt) -> Option<attempt::Unit> {
        let library = self.library_of(attempt)?;
        Some(attempt::Unit {
            same_incarnation: true,
            silent_millis: self.silence(library.silent_seconds),
        })
    }

    /// Silence that began before we watched is not held against anybody.
    pub(super) fn silence(&self, seconds: f64) -> u64 {
        let watched = self.watching.as_millis() as u64;
        ((seconds.max(0.0) * 1000.0) as u64).min(watched)
    }
}
