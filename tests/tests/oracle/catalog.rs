//! A line of versions in memory: rows by key and version, archives in parts, attempts that die and are gone on with.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use rand::Rng;
use rand::rngs::StdRng;
use taf_core::catalog::{
    self, Base, Compared, Extent, Head, Kind, Line, Needs, Part, Protected, Published, Share, Span,
    Staged,
};
use taf_format::page::{Page, Place};
use taf_proto::agent::{self, BasePage};
use taf_source_agent::backup::merge::Known;

use super::Played;
use super::check;
use super::files::Snapshot;
use super::run::{self, Bases, Live, Made, Off, Rows, Truth, decode};
use super::walk::Obstacle;

/// A row of the catalog.
pub struct Row {
    pub part: Part,
    pub page: Option<Arc<Known>>,
}

/// A row as it is on tape.
pub struct OnTape {
    pub key: Vec<u8>,
    pub page: Option<BasePage>,
}

/// A part of an archive.
pub struct Committed {
    pub span: Span,
    pub rows: Vec<OnTape>,
    /// Until it is given free.
    pub there: bool,
}

/// The bytes of one attempt.
pub struct Archive {
    pub version: i64,
    pub parts: Vec<Committed>,
    /// By offset: length and content.
    contents: BTreeMap<u64, (u64, u64)>,
    /// Its version is published.
    pub counts: bool,
}

/// A published version.
pub struct Version {
    pub of: Protected,
    kind: Kind,
    pub kept: bool,
    gone: bool,
    pub truth: Truth,
    /// Whether all could be looked at.
    pub saw_all: bool,
    pub needs: Needs,
    /// Its archives.
    pub archives: Vec<u32>,
}

/// A part that is to come: its rows, and the tar offset at which it ends.
type Cut = (Vec<(Vec<u8>, Option<BasePage>)>, u64);

/// An attempt, running or dead.
struct Attempt {
    version: i64,
    kind: Kind,
    parent: i64,
    floor: i64,
    ordinal: u32,
    earlier: Vec<u32>,
    truth: Truth,
    /// Whether all could be looked at.
    saw_all: bool,
    length: u64,
    /// Rows of each part that is to come, and the tar offset at which it ends.
    parts: VecDeque<Cut>,
}

#[derive(Default)]
pub struct Catalog {
    /// The rule that is off.
    pub off: Off,
    pub rows: BTreeMap<Vec<u8>, BTreeMap<i64, Row>>,
    pub versions: BTreeMap<i64, Version>,
    pub archives: BTreeMap<u32, Archive>,
    running: Option<Attempt>,
    dead: Option<Attempt>,
    ordinal: u32,
    changed: bool,
    /// What was wrong with a version when it was published.
    wrong: Option<String>,
    played: Played,
}

impl Catalog {
    pub fn new(off: Off) -> Self {
        Self {
            off,
            ..Self::default()
        }
    }

    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    pub fn count(&self, into: &mut Played) {
        let own = self.played;
        into.versions += own.versions;
        into.resumed += own.resumed;
        into.unchanged += own.unchanged;
        into.promoted += own.promoted;
        into.vacuumed += own.vacuumed;
        into.released += own.released;
        into.later_chunks += own.later_chunks;
        for (into, own) in into.obstacles.iter_mut().zip(own.obstacles) {
            *into += own;
        }
    }

    /// The rows that a version resolves to.
    pub fn resolve(&self, of: Protected) -> impl Iterator<Item = (&Vec<u8>, &Row)> {
        self.rows.iter().filter_map(move |(key, rows)| {
            let numbers: Vec<i64> = rows.keys().copied().collect();
            let row = catalog::resolve(&numbers, of)?;
            Some((key, &rows[&row]))
        })
    }

    pub fn live(&self, of: Protected) -> Live {
        let rows = self.resolve(of);
        rows.filter_map(|(key, row)| Some((key.clone(), Arc::clone(row.page.as_ref()?))))
            .collect()
    }

    fn staged(&self, version: i64) -> Rows {
        let of = Protected {
            version,
            floor: version,
        };
        self.resolve(of)
            .map(|(key, row)| (key.clone(), row.page.clone()))
            .collect()
    }

    /// What lies at a place.
    pub fn content(&self, place: Place) -> Option<u64> {
        let archive = self.archives.get(&place.archive_ordinal)?;
        archive
            .contents
            .get(&place.tar_offset)
            .map(|(_, content)| *content)
    }

    /// A run begins, unless one is under way.
    pub fn begin(&mut self, kind: Kind, snapshot: &Snapshot, now: i64, random: &mut StdRng) {
        if self.running.is_some() {
            return;
        }
        let base = |v: &Version| Base {
            version: v.of.version,
            kept: v.kept,
            lost: false,
        };
        let head = self.versions.values().next_back();
        let full = head
            .and_then(|head| self.versions.get(&head.of.floor))
            .map(base);
        let dead = self.dead.take();
        let line = Line {
            last: head.map_or(0, |head| head.of.version),
            head: head.map(|head| Head {
                base: base(head),
                floor: head.of.floor,
                pages_gone: head.gone,
            }),
            full,
            staged: dead.as_ref().map(|dead| Staged {
                kind: dead.kind,
                parent: dead.parent,
                floor: dead.floor,
                whole: !dead.earlier.is_empty() || !self.archives[&dead.ordinal].parts.is_empty(),
            }),
            // When most of its archives is dead is chance here.
            share: random.random_ratio(1, 5).then_some(Share {
                living: 1,
                held: 3,
                least_percent: 50,
            }),
        };
        let opening = catalog::open(kind, &line);
        self.played.promoted += u64::from(opening.promotion.is_some());
        self.played.resumed += u64::from(opening.resumes);
        let mut earlier = Vec::new();
        if let Some(dead) = dead {
            let all = dead.earlier.iter().chain([&dead.ordinal]).copied();
            if opening.resumes {
                earlier.extend(all.filter(|ordinal| !self.archives[ordinal].parts.is_empty()));
            } else {
                if self.off != Off::Purge {
                    self.purge(dead.version);
                }
                all.for_each(|ordinal| drop(self.archives.remove(&ordinal)));
            }
        }
        let of = |version, floor| Protected { version, floor };
        let parent = self.versions.get(&opening.parent);
        let differential = opening.kind == Kind::Differential && opening.parent != 0;
        let base = agent::Base {
            head_version: opening.parent as u64,
            full_version: if differential {
                opening.floor as u64
            } else {
                0
            },
            resumes: opening.resumes,
        };
        let bases = Bases {
            off: self.off,
            version: opening.version as u64,
            base,
            head: parent.map(|head| self.live(head.of)).unwrap_or_default(),
            full: if differential {
                self.live(of(opening.floor, opening.floor))
            } else {
                Live::new()
            },
            staged: if opening.resumes {
                self.staged(opening.version)
            } else {
                Rows::new()
            },
            head_truth: parent.map(|head| head.truth.clone()).unwrap_or_default(),
        };
        let obstacle = random
            .random_ratio(1, 4)
            .then(|| Obstacle::any(snapshot, random))
            .flatten();
        if let Some(obstacle) = &obstacle {
            self.played.obstacles[obstacle.number()] += 1;
        }
        self.ordinal += 1;
        let ordinal = self.ordinal;
        let made = run::run(snapshot, obstacle.as_ref(), &bases, ordinal, now);
        let parts = cut(&made, random);
        self.archives.insert(
            ordinal,
            Archive {
                version: opening.version,
                parts: Vec::new(),
                contents: made.contents,
                counts: false,
            },
        );
        self.running = Some(Attempt {
            version: opening.version,
            kind: opening.kind,
            parent: opening.parent,
            floor: opening.floor,
            ordinal,
            earlier,
            truth: made.truth,
            saw_all: obstacle.is_none(),
            length: made.length,
            parts,
        });
    }

    fn purge(&mut self, version: i64) {
        for rows in self.rows.values_mut() {
            rows.remove(&version);
        }
        self.rows.retain(|_, rows| !rows.is_empty());
    }

    /// The attempt under way commits a part, publishes, or dies.
    pub fn go_on(&mut self, fails: bool, random: &mut StdRng) {
        let Some(mut attempt) = self.running.take() else {
            return;
        };
        self.changed = true;
        if fails && (attempt.parts.is_empty() || random.random_bool(0.5)) {
            // What is not in a committed part was never on tape.
            let archive = self.archives.get_mut(&attempt.ordinal).unwrap();
            let end = archive
                .parts
                .last()
                .map_or(0, |part| part.span.end_tar_offset);
            archive
                .contents
                .retain(|offset, (length, _)| *offset + *length <= end);
            self.dead = Some(attempt);
            return;
        }
        match attempt.parts.pop_front() {
            Some((rows, end)) => {
                self.commit(&attempt, rows, end);
                self.running = Some(attempt);
            }
            None => self.publish(attempt),
        }
    }

    fn commit(&mut self, attempt: &Attempt, rows: Vec<(Vec<u8>, Option<BasePage>)>, end: u64) {
        let archive = self.archives.get_mut(&attempt.ordinal).unwrap();
        let last = archive.parts.last();
        let part = Part {
            version: attempt.version,
            archive_ordinal: attempt.ordinal,
            part_number: archive.parts.len() as u32 + 1,
        };
        let span = Span {
            part,
            first_tar_offset: last.map_or(0, |last| last.span.end_tar_offset),
            end_tar_offset: end,
        };
        let mut on_tape = Vec::new();
        for (key, page) in rows {
            let known = page.as_ref().map(decode);
            if let Some(known) = &known {
                assert_eq!(known.page.chunk(), key);
                self.played.later_chunks += u64::from(known.page.lower.is_some());
            }
            let row = Row { part, page: known };
            // The higher ordinal wins.
            self.rows
                .entry(key.clone())
                .or_default()
                .insert(attempt.version, row);
            on_tape.push(OnTape { key, page });
        }
        archive.parts.push(Committed {
            span,
            rows: on_tape,
            there: true,
        });
    }

    fn publish(&mut self, attempt: Attempt) {
        let own = &self.archives[&attempt.ordinal];
        let mut archives = attempt.earlier;
        if own.parts.is_empty() {
            self.archives.remove(&attempt.ordinal);
            self.played.unchanged += 1;
        } else {
            assert_eq!(
                own.parts.last().unwrap().span.end_tar_offset,
                attempt.length,
                "an archive is committed to its end"
            );
            archives.push(attempt.ordinal);
        }
        for ordinal in &archives {
            self.archives.get_mut(ordinal).unwrap().counts = true;
        }
        let of = Protected {
            version: attempt.version,
            floor: attempt.floor,
        };
        if attempt.kind == Kind::Mirror {
            // One current version: it takes the place of the one before.
            let before = self
                .versions
                .values_mut()
                .filter(|v| v.kind == Kind::Mirror);
            before.for_each(|version| version.kept = false);
        }
        if attempt.kind == Kind::Differential && self.wrong.is_none() {
            self.wrong = check::leans(self, of, attempt.saw_all).err();
        }
        let needs = self.needs(of);
        let version = Version {
            of,
            kind: attempt.kind,
            kept: true,
            gone: false,
            truth: attempt.truth,
            saw_all: attempt.saw_all,
            needs,
            archives,
        };
        self.versions.insert(attempt.version, version);
        self.played.versions += 1;
    }

    /// What a version needs, as things are.
    fn needs(&self, of: Protected) -> Needs {
        let spans: Vec<Span> = self
            .archives
            .values()
            .flat_map(|archive| archive.parts.iter().map(|part| part.span))
            .collect();
        let mut needs = Needs::default();
        for (_, row) in self.resolve(of) {
            needs.row(row.part);
            if let Some(known) = &row.page {
                add(&mut needs, &spans, &known.page);
            }
        }
        needs
    }

    /// A kept version expires.
    pub fn expire(&mut self, random: &mut StdRng) {
        let mut kept: Vec<&mut Version> = self.versions.values_mut().filter(|v| v.kept).collect();
        if !kept.is_empty() {
            let at = random.random_range(0..kept.len());
            kept[at].kept = false;
            self.changed = true;
        }
    }

    fn protected(&self) -> Vec<Protected> {
        let versions: Vec<Published> = self
            .versions
            .values()
            .map(|v| Published {
                of: v.of,
                kept: v.kept,
            })
            .collect();
        let attempts = self.running.iter().chain(&self.dead);
        let compared: Vec<Compared> = attempts
            .map(|attempt| Compared {
                parent: attempt.parent,
                full: (attempt.kind == Kind::Differential).then_some(attempt.floor),
            })
            .collect();
        catalog::protected(&versions, &compared)
    }

    /// Rows that nobody resolves to go.
    pub fn vacuum(&mut self) {
        let protected = self.protected();
        for version in self.versions.values_mut() {
            version.gone |= !version.kept && !protected.contains(&version.of);
        }
        let floors: BTreeMap<i64, i64> = self
            .versions
            .values()
            .map(|v| (v.of.version, v.of.floor))
            .collect();
        for rows in self.rows.values_mut() {
            let numbers: Vec<i64> = rows.keys().copied().collect();
            for (at, row) in numbers.iter().enumerate() {
                // What is not published yet is nobody's to judge.
                let Some(&floor) = floors.get(row) else {
                    continue;
                };
                let next = numbers.get(at + 1).copied();
                let stays = match self.off {
                    Off::Vacuum => self.versions[row].kept,
                    _ => catalog::stays(*row, floor, next, &protected),
                };
                if !stays {
                    rows.remove(row);
                    self.played.vacuumed += 1;
                }
            }
        }
        self.rows.retain(|_, rows| !rows.is_empty());
        self.changed = true;
    }

    /// Parts that nobody needs are given free.
    pub fn release(&mut self) {
        let protected = self.protected();
        let versions = self.versions.values();
        let needed: BTreeSet<Part> = versions
            .filter(|version| protected.contains(&version.of))
            .flat_map(|version| version.needs.iter())
            .filter(|(_, need)| self.off != Off::Release || need.entries > 0)
            .map(|(part, _)| part)
            .collect();
        for archive in self.archives.values_mut().filter(|archive| archive.counts) {
            for part in archive.parts.iter_mut().filter(|part| part.there) {
                if needed.contains(&part.span.part) {
                    continue;
                }
                part.there = false;
                self.played.released += 1;
                let (first, end) = (part.span.first_tar_offset, part.span.end_tar_offset);
                archive
                    .contents
                    .retain(|offset, (length, _)| *offset >= end || *offset + *length <= first);
            }
        }
        self.changed = true;
    }

    /// Every kept version shows what was there, and nothing else.
    pub fn check(&mut self) -> Result<(), String> {
        if !std::mem::take(&mut self.changed) {
            return Ok(());
        }
        if let Some(wrong) = self.wrong.take() {
            return Err(wrong);
        }
        for version in self.versions.values().filter(|version| version.kept) {
            let live = self.live(version.of);
            let told = |what: String| format!("version {}: {what}", version.of.version);
            check::same(version, &live, &|place| self.content(place)).map_err(told)?;
        }
        Ok(())
    }
}

/// Adds what a page names.
pub fn add(needs: &mut Needs, spans: &[Span], page: &Page) {
    let extent = |place: Place, tar_length| Extent {
        archive_ordinal: place.archive_ordinal,
        tar_offset: place.tar_offset,
        tar_length,
    };
    for entry in &page.entries {
        if let Some(place) = entry.place {
            needs.entry(spans, extent(place, entry.tar_length), entry.size);
        }
    }
    if let Some(header) = &page.header
        && let Some(place) = header.place
    {
        needs.header(spans, extent(place, header.tar_length));
    }
}

/// Cuts what a run makes into up to three parts, each ending anywhere behind what its pages name.
fn cut(made: &Made, random: &mut StdRng) -> VecDeque<Cut> {
    let mut parts = VecDeque::new();
    if made.length == 0 {
        return parts;
    }
    let count = random.random_range(1..=3);
    let mut cuts: Vec<usize> = (1..count)
        .map(|_| random.random_range(0..=made.rows.len()))
        .collect();
    cuts.extend([0, made.rows.len()]);
    cuts.sort_unstable();
    let mut at = 0;
    for range in cuts.windows(2) {
        let rows = &made.rows[range[0]..range[1]];
        let end = rows.last().map_or(at, |(_, _, end)| *end).max(at);
        let next = made
            .rows
            .get(range[1])
            .map_or(made.length, |(_, _, end)| *end);
        at = if range[1] == made.rows.len() {
            made.length
        } else {
            random.random_range(end..=next.max(end))
        };
        let rows = rows
            .iter()
            .map(|(key, page, _)| (key.clone(), page.clone()));
        parts.push_back((rows.collect(), at));
    }
    parts
}
