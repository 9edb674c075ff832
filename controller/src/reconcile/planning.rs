//! Rows as the planner's facts: who waits, drives, libraries, and cartridges.

use std::collections::{HashMap, HashSet};

use taf_core::mount::ElementKind;
use taf_core::{generation, plan, trust};

use super::facts::State;
use super::needs;
use super::stage::{further_streams, is_at_work, is_bound, waits_for_volume};
use crate::store::attempts::LiveAttempt;
use crate::store::cleaning;
use crate::store::jobs::QueuedJob;
use crate::store::libraries::LibraryRow;
use crate::store::volumes::PlannedVolume;

/// Where a cartridge is, as libraries show it.
#[derive(Clone, Copy)]
struct Place<'a> {
    library: i64,
    connected: bool,
    kind: ElementKind,
    drive_serial: Option<&'a str>,
}

impl State {
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
}
