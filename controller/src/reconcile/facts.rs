//! Rows as the pure core's facts.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use prost::Message as _;
use taf_core::attempt::{self, Outcome};
use taf_core::mount::{Element, ElementKind, Medium};
use taf_core::recall::turn;
use taf_core::{Fault, carry, generation, plan, trust};
use taf_proto::{agent, v1};
use uuid::Uuid;

use super::apply::fault_of;
use super::{Limits, feeding, needs};
use crate::catalog;
use crate::session::Unit;
use crate::store::attempts::{self, LiveAttempt, Task};
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

/// What the source agent of a backup reported, if it did its part.
pub(super) fn backup_done(source_result: Option<&[u8]>) -> Option<agent::BackupDone> {
    let result = agent::Result::decode(source_result?).ok()?;
    match result.done? {
        agent::result::Done::Backup(done) if result.fault.is_none() => Some(done),
        _ => None,
    }
}

/// What a side reported, from its row. What does not fit the work is a fault: it must not be taken for a success, and must not
/// be waited for.
fn outcome(encoded: Option<&[u8]>, kind: attempt::Kind, side: Side) -> Option<Outcome> {
    use agent::result::Done;
    let unfit = || {
        Some(Outcome::Fault(Fault::new(
            "BAD_RESULT",
            format!(
                "the {} reported an end that does not fit its work",
                side.name()
            ),
            "see that controller and agents have the same version",
        )))
    };
    let Ok(result) = agent::Result::decode(encoded?) else {
        return unfit();
    };
    if let Some(fault) = result.fault {
        return Some(Outcome::Fault(from_proto(fault)));
    }
    let number = |n: u64| i64::try_from(n).is_ok();
    if let (attempt::Kind::Backup, Side::Source, Some(Done::Backup(done))) =
        (kind, side, &result.done)
        && done.dropped
    {
        return Some(Outcome::Dropped);
    }
    let issues = match (kind, side, result.done) {
        (attempt::Kind::Backup, Side::Source, Some(Done::Backup(done)))
            if [
                done.last_sequence,
                done.file_count,
                done.directory_count,
                done.byte_count,
            ]
            .into_iter()
            .all(number) =>
        {
            done.issue_count
        }
        (attempt::Kind::Restore, Side::Source, Some(Done::Restore(done))) if done.dropped => {
            return Some(Outcome::Dropped);
        }
        (attempt::Kind::Restore, Side::Source, Some(Done::Restore(done))) => done.issue_count,
        (attempt::Kind::Label, Side::Drive, Some(Done::Label(done)))
            if done.next_block > 0 && number(done.next_block) =>
        {
            0
        }
        (attempt::Kind::Backup, Side::Drive, Some(Done::Write(done)))
            if !done.next_volume_reason.is_empty() =>
        {
            return Some(Outcome::NextVolume);
        }
        (attempt::Kind::Restore, Side::Drive, Some(Done::Read(_))) => {
            return Some(Outcome::NextVolume);
        }
        (attempt::Kind::Reclaim, Side::Drive, Some(Done::Reclaim(done)))
            if !done.next_volume_reason.is_empty() =>
        {
            return Some(Outcome::NextVolume);
        }
        (attempt::Kind::Backup | attempt::Kind::Restore | attempt::Kind::Drive, Side::Drive, _)
        | (attempt::Kind::Index, Side::Drive, Some(Done::Index(_)))
        // Its issues are in the catalog: not all need be of the worker that ends it.
        | (attempt::Kind::Reclaim, Side::Drive, Some(Done::Reclaim(_))) => 0,
        (attempt::Kind::Verify, Side::Drive, Some(Done::Verify(done))) => done.issue_count,
        (attempt::Kind::Verify, Side::Drive, Some(Done::Rescan(done))) => done.problem_count,
        (attempt::Kind::Remove, Side::Source, Some(Done::Remove(done))) => done.issue_count,
        _ => return unfit(),
    };
    Some(Outcome::Done { issues })
}

/// Who reports on the work.
#[derive(Clone, Copy)]
enum Side {
    Drive,
    Source,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Side::Drive => "drive's worker",
            Side::Source => "source agent",
        }
    }
}

/// Where a cartridge is, as libraries show it.
#[derive(Clone, Copy)]
struct Place<'a> {
    library: i64,
    connected: bool,
    kind: ElementKind,
    drive_serial: Option<&'a str>,
}

/// A fault of the wire as one of the core.
pub(super) fn from_proto(fault: v1::Fault) -> Fault {
    let reason = match fault.reason {
        unnamed if unnamed.is_empty() => "UNKNOWN".to_owned(),
        named => named,
    };
    Fault {
        reason,
        message: fault.message,
        next_step: fault.next_step,
    }
}

/// A fault of the core as one of the wire.
pub(super) fn to_proto(fault: &Fault) -> v1::Fault {
    v1::Fault {
        reason: fault.reason.clone(),
        message: fault.message.clone(),
        next_step: fault.next_step.clone(),
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

    /// Facts for the planner.
    pub(super) fn planning(&self) -> (Vec<plan::Job>, plan::World) {
        let running = self.attempts.iter().filter(|live| waits_for_volume(live));
        let running = running.map(|live| plan::Job {
            id: live.job_id,
            stream: live.stream,
            needs: match (live.wanted_volume_id, &live.pool) {
                (None, Some((pool, name))) => plan::Needs {
                    trust: true,
                    ..plan::Needs::append(*pool, name)
                },
                (wanted, _) => plan::Needs::volume(wanted.unwrap_or_default()),
            },
            agent: None,
            cancel_asked: false,
            // What is on its way to tape gets there first, and then the drive is free for others.
            background: live.reclaimed.is_some() && !is_bound(live),
            running: Some(plan::Running {
                drive: live.drive_id,
                seat: live.seat,
                bound: is_bound(live),
                used: self.not_to_write(live),
            }),
        });
        let cancelled = |job: i64| self.feed(job).is_some_and(|feed| self.is_cancelled(feed));
        let ready = |job: &&QueuedJob| self.feed_before(job.id).is_none() || cancelled(job.id);
        let queued = self.queued.iter().filter(ready).map(|job| plan::Job {
            id: job.id,
            stream: 0,
            needs: needs::of(job, self),
            agent: job.agent.as_ref().map(|(_, name, connected)| plan::Agent {
                name: name.clone(),
                connected: *connected,
            }),
            cancel_asked: job.cancel_asked || cancelled(job.id),
            background: job.background,
            running: None,
        });
        let further = self.attempts.iter().flat_map(|live| {
            let streams = further_streams(live, &self.streams);
            streams.filter_map(|stream| {
                let (pool, name) = live.pool.as_ref()?;
                let needs = plan::Needs::append(*pool, name);
                Some(plan::Job::further(live.job_id, stream, needs))
            })
        });
        let further = further.chain(self.further_restores());
        let jobs = running.chain(queued).chain(further).collect();
        let drives = self.drives.values().map(|d| plan::Drive {
            id: d.id,
            serial: d.serial.clone(),
            connected: d.connected,
            down: d.down,
            hung: d.hung.is_some(),
            busy: d.job.is_some(),
            working: self.at(d.id).any(|live| !waits_for_volume(live)),
            shared: self.shared(d.id),
            generation: generation::of_product(&d.product),
            library: d.library.as_ref().map(|(id, _, _)| *id),
            full: d.full,
        });
        let world = plan::World {
            drives: drives.collect(),
            libraries: self.libraries.values().map(|l| self.library(l)).collect(),
            cartridges: self.cartridges(),
            distrusted: self.trust.reason().map(trust::wait),
            ..plan::World::default()
        };
        (jobs, world)
    }

    /// Volumes that an attempt gets no more: those that it has had, and those that it copies from. The one would wait for the other
    /// else, and a volume with both would stay for as long as the new version is kept.
    fn not_to_write(&self, live: &LiveAttempt) -> Vec<i64> {
        if live.reclaimed.is_some() {
            // It comes back to the volume that it wrote; the one that it reads is written by nobody.
            return Vec::new();
        }
        let mut volumes = live.volumes.clone();
        if let Some(feed) = self.feed_of(live.job_id) {
            volumes.extend(&feed.volumes);
        }
        volumes
    }

    /// The attempts at a drive.
    fn at(&self, drive: i64) -> impl Iterator<Item = &LiveAttempt> {
        let there = move |live: &&LiveAttempt| live.drive_id == Some(drive);
        self.attempts.iter().filter(there)
    }

    /// The volume at a drive on which other backups of its pool may write, too. All that are there write on it, or wait for one.
    fn shared(&self, drive: i64) -> Option<plan::Shared> {
        let lead = self.at(drive).find(|live| is_at_work(live))?;
        let (volume, (pool, _)) = (lead.volume?.id, lead.pool.as_ref()?);
        let fits = |live: &LiveAttempt| {
            live.kind == "backup"
                && live.pool.as_ref().is_some_and(|(id, _)| id == pool)
                && live.volume.is_none_or(|held| held.id == volume)
        };
        self.at(drive).all(fits).then(|| plan::Shared {
            pool: *pool,
            volume,
            seats: self.at(drive).map(|live| live.seat).collect(),
            limit: lead.sources_per_drive,
        })
    }

    /// Attempts that share a drive with this one.
    pub(super) fn sharers(&self, attempt: &LiveAttempt) -> impl Iterator<Item = &LiveAttempt> {
        let (id, drive) = (attempt.id, attempt.drive_id);
        let shares = move |other: &&LiveAttempt| other.id != id && other.drive_id == drive;
        self.attempts
            .iter()
            .filter(shares)
            .filter(move |_| drive.is_some())
    }

    fn library(&self, library: &LibraryRow) -> plan::Library {
        let elements = self.elements.get(&library.id);
        let of = |kind| {
            elements
                .into_iter()
                .flatten()
                .filter(move |e| e.kind == kind)
        };
        let free = |kind| {
            of(kind)
                .filter(|e| !e.full && e.exception.is_none())
                .count()
        };
        let inside = of(ElementKind::MailSlot).filter(|e| e.full);
        plan::Library {
            id: library.id,
            serial: library.serial.clone(),
            connected: library.connected,
            pause: library.pause.clone(),
            slots_free: free(ElementKind::Slot),
            mail_free: free(ElementKind::MailSlot),
            mail: inside
                .map(|e| match &e.barcode {
                    Some(barcode) => barcode.clone(),
                    None => format!("what is in element {}", e.address),
                })
                .collect(),
        }
    }

    /// Cartridges that a waiting job could get: volumes, what else jobs name, cleaning cartridges, and what is in drives.
    fn cartridges(&self) -> Vec<plan::Cartridge> {
        let places = self.places();
        let rows: HashMap<&str, i64> = self
            .drives
            .values()
            .map(|d| (d.serial.as_str(), d.id))
            .collect();
        let cartridge = |barcode: &str, volume: Option<&PlannedVolume>| {
            let found = places.get(barcode).map_or(&[][..], Vec::as_slice);
            let place = found.first();
            plan::Cartridge {
                volume: volume.map(|v| v.id),
                barcode: barcode.to_owned(),
                pool: volume.map(|v| v.pool_id),
                appendable: volume
                    .is_some_and(|v| v.state == "appendable" && !v.condemned && !v.suspect),
                suspect: volume.is_some_and(|v| v.state == "appendable" && v.suspect),
                reserved: self.held.contains(barcode),
                byte_count: volume.map_or(0, |v| v.byte_count as u64),
                // What a drive has read of the medium is truer than what is printed on it.
                format: volume
                    .and_then(|v| generation::of_density(v.density?))
                    .or_else(|| generation::of_barcode(barcode).map(|(format, _)| format)),
                cleanings_left: match volume {
                    None => self.cleanings_left(barcode),
                    Some(_) => None,
                },
                library: place.map(|p| p.library),
                twice: found.len() > 1,
                in_mail_slot: place.is_some_and(|p| p.kind == ElementKind::MailSlot),
                in_drive: place
                    .and_then(|p| p.drive_serial)
                    .and_then(|serial| rows.get(serial).copied()),
                last_place: volume.and_then(PlannedVolume::last_place),
            }
        };
        let volumes: HashMap<&str, &PlannedVolume> = self
            .volumes
            .values()
            .map(|v| (v.barcode.as_str(), v))
            .collect();
        let mut all: Vec<plan::Cartridge> = volumes
            .iter()
            .map(|(barcode, volume)| cartridge(barcode, Some(volume)))
            .collect();
        let others = places
            .keys()
            .filter(|barcode| !volumes.contains_key(*barcode));
        all.extend(others.map(|barcode| cartridge(barcode, None)));
        all
    }

    /// How often a cartridge can still clean a drive; `None` if it is for data.
    pub(super) fn cleanings_left(&self, barcode: &str) -> Option<u32> {
        let known = self.cleanings_left.get(barcode).copied();
        known.or_else(|| cleaning::is_cleaning(barcode).then_some(cleaning::USES))
    }

    /// Where cartridges are. What a library shows that is not connected counts only if no other one shows it: it may have been
    /// taken away long ago.
    fn places(&self) -> HashMap<&str, Vec<Place<'_>>> {
        let volumes = self.volumes.values().map(|v| v.barcode.as_str());
        let named = self.queued.iter().filter_map(|j| j.cartridge.as_deref());
        let wanted: HashSet<&str> = volumes.chain(named).collect();
        let mut places: HashMap<&str, Vec<Place<'_>>> = HashMap::new();
        for (library, elements) in &self.elements {
            let connected = self.libraries.get(library).is_some_and(|l| l.connected);
            for element in elements.iter().filter(|e| e.full) {
                if let Some(barcode) = element.barcode.as_deref()
                    && (wanted.contains(barcode)
                        || element.kind == ElementKind::Drive
                        || self.cleanings_left(barcode).is_some())
                {
                    places.entry(barcode).or_default().push(Place {
                        library: *library,
                        connected,
                        kind: element.kind,
                        drive_serial: element.drive_serial.as_deref(),
                    });
                }
            }
        }
        for found in places.values_mut() {
            if found.iter().any(|p| p.connected) {
                found.retain(|p| p.connected);
            }
        }
        places
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

/// The step that is under way.
pub(super) fn stage(attempt: &LiveAttempt) -> attempt::Stage {
    match attempt.step_kind.as_str() {
        "unload" | "clean" => attempt::Stage::Unloading,
        "clear" | "mount" | "carry" | "scan" => attempt::Stage::Moving,
        "work" => attempt::Stage::Working,
        // Whoever waits for other streams wants nothing until it is asked for.
        _ if is_resting(attempt) => attempt::Stage::SourceAlone,
        _ => match attempt.waiting_seconds {
            Some(seconds) => attempt::Stage::WithoutVolume {
                millis: (seconds.max(0.0) * 1000.0) as u64,
            },
            None if is_alone(attempt) => attempt::Stage::SourceAlone,
            None => attempt::Stage::Between,
        },
    }
}

/// Whether the source agent works without a drive. That it is to do so is decided when the attempt begins.
pub(super) fn is_alone(attempt: &LiveAttempt) -> bool {
    let alone = ["backup", "remove-sources", "remove-extra"];
    alone.contains(&attempt.kind.as_str()) && attempt.drive_id.is_none()
}

/// Whether it is a restore that has left its drive to others.
fn is_resting(attempt: &LiveAttempt) -> bool {
    attempt.kind == "restore"
        && attempt.waiting_seconds.is_some()
        && attempt.drive_id.is_none()
        && attempt.wanted_volume_id.is_none()
}

/// Whether the planner is to give it a volume.
pub(super) fn waits_for_volume(attempt: &LiveAttempt) -> bool {
    attempt.verdict == "none" && matches!(stage(attempt), attempt::Stage::WithoutVolume { .. })
}

/// The streams that may still join a backup: none if `live` is no first stream at work.
fn further_streams(live: &LiveAttempt, had: &HashMap<i64, Vec<Further>>) -> std::ops::Range<i32> {
    let walks = is_joinable(live) && live.step_kind == "work" && live.drive_id.is_some();
    match &live.archive {
        Some(archive) if walks => {
            let begun = had.get(&live.job_id).map_or(0, Vec::len) as i32;
            1 + begun..archive.streams
        }
        _ => 0..0,
    }
}

/// Whether the source agent is at work for the first stream of a job.
pub(super) fn is_joinable(live: &LiveAttempt) -> bool {
    live.stream == 0
        && live.verdict == "none"
        && !live.cancel_asked
        && live.source_incarnation.is_some()
        && live.source_result.is_none()
}

/// Whether the drive works on the volume for it, as far as is known.
fn is_at_work(attempt: &LiveAttempt) -> bool {
    attempt.verdict == "none" && attempt.step_kind == "work" && attempt.drive_result.is_none()
}

/// Whether an attempt can't leave its drive's worker: of a backup that holds what is not on tape yet, and so does that of a reclaiming
/// but while it waits for the volume that it reads.
pub(super) fn is_bound(attempt: &LiveAttempt) -> bool {
    let reads = match kind(attempt) {
        attempt::Kind::Restore => true,
        attempt::Kind::Reclaim => attempt.wanted_volume_id.is_some(),
        _ => false,
    };
    !reads && attempt.drive_id.is_some()
}

/// What a drive says of its medium.
pub(super) fn medium(drive: &DriveRow) -> Medium {
    match drive.medium.as_str() {
        "empty" => Medium::Empty,
        "loaded" => Medium::Loaded,
        "unloaded" => Medium::Unloaded,
        _ => Medium::Unknown,
    }
}

/// What an attempt is for.
pub(super) fn kind(attempt: &LiveAttempt) -> attempt::Kind {
    kind_of(&attempt.kind, &attempt.task, attempt.library_id.is_some())
}

/// What a job is for. `has_robot` says whether a robot works for it.
pub(super) fn kind_of(kind: &str, task: &Task, has_robot: bool) -> attempt::Kind {
    match kind {
        "backup" => attempt::Kind::Backup,
        "restore" | "feed" => attempt::Kind::Restore,
        "label" => attempt::Kind::Label,
        "index" => attempt::Kind::Index,
        // Both read a cartridge through, and what they can't read is counted.
        "verify" | "rescan" => attempt::Kind::Verify,
        "reclaim" => attempt::Kind::Reclaim,
        "remove-sources" | "remove-extra" => attempt::Kind::Remove,
        "drive-clean" => attempt::Kind::Clean,
        "inventory" => attempt::Kind::Scan,
        "export" => attempt::Kind::Carry(carry::To::MailSlot),
        "import" => attempt::Kind::Carry(carry::To::Slot),
        "move" => {
            let to = task.to_address.unwrap_or_default();
            attempt::Kind::Carry(carry::To::Element(to as u32))
        }
        // A drive in no library has nobody to take the cartridge home.
        "drive-unload" if has_robot => attempt::Kind::Carry(carry::To::Slot),
        _ => attempt::Kind::Drive,
    }
}
