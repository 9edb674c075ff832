//! A catalog in memory: it keeps what runs write, resolves versions by the rules of design.md, and gives bases.
#![allow(dead_code)]

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex};

use taf_format::entry::Time;
use taf_format::key;
use taf_format::page::{self, Dictionaries, Page};
use taf_format::record::{self, Body};
use taf_format::segment::{self, Identity, Sealer};
use taf_proto::agent::BasePage;
use taf_source_agent::backup::ahead;
use taf_source_agent::backup::links::Links;
use taf_source_agent::backup::merge::{Against, Base, Joined, Joiner, Layer, Merger, Row, Rules};
use taf_source_agent::backup::pack::{self, Mode, Outlets, Totals};
use taf_source_agent::backup::step::Step;
use taf_source_agent::fault::Error;
use taf_source_agent::progress::Counters;
use taf_tree::walk::Options;
use taf_tree::{Event, Issue, Walk};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Full,
    Incremental,
    Differential,
}

/// What a run wrote.
#[derive(Debug, Default)]
pub struct Written {
    /// Numbers of the dictionaries, as they came.
    pub dictionaries: Vec<u32>,
    pub pages: Vec<Page>,
    pub tombstones: Vec<Vec<u8>>,
    /// Rows in their order; no page is a tombstone.
    pub rows: Vec<(Vec<u8>, Option<BasePage>)>,
    /// Paths of entries in its tar stream.
    pub stored: Vec<String>,
    pub issues: Vec<Issue>,
    pub totals: Totals,
}

#[derive(Default)]
pub struct Catalog {
    rows: BTreeMap<Vec<u8>, BTreeMap<u64, Option<BasePage>>>,
    floors: HashMap<u64, u64>,
    pub head: u64,
    full: u64,
    /// The tar streams, by ordinal.
    pub archives: HashMap<u32, Vec<u8>>,
    pub rules: Rules,
    /// Whether the version after the head has staged rows.
    resumes: bool,
    pub looked_up: Arc<Mutex<usize>>,
}

type Pages = BTreeMap<Vec<u8>, BasePage>;

impl Catalog {
    /// Runs a backup of all below `top` and publishes it.
    pub fn run(&mut self, kind: Kind, top: &Path) -> Written {
        self.run_with(kind, top, |_| {})
    }

    pub fn run_with(
        &mut self,
        kind: Kind,
        top: &Path,
        change: impl FnOnce(&mut Options),
    ) -> Written {
        let written = self.attempt(kind, top, change);
        self.keep(&written.rows);
        self.publish(kind);
        written
    }

    /// A run that fails when so many of its rows were committed.
    pub fn run_cut(&mut self, kind: Kind, top: &Path, committed: impl FnOnce(usize) -> usize) {
        let written = self.attempt(kind, top, |_| {});
        let count = committed(written.rows.len());
        self.keep(&written.rows[..count]);
        self.resumes |= count > 0;
    }

    fn keep(&mut self, rows: &[(Vec<u8>, Option<BasePage>)]) {
        let version = self.head + 1;
        for (key, page) in rows {
            self.rows
                .entry(key.clone())
                .or_default()
                .insert(version, page.clone());
        }
    }

    fn publish(&mut self, kind: Kind) {
        let version = self.head + 1;
        let floor = if kind == Kind::Full {
            self.full = version;
            version
        } else {
            self.floors[&self.head]
        };
        self.floors.insert(version, floor);
        self.head = version;
        self.resumes = false;
    }

    /// The living pages of a version.
    pub fn resolve(&self, version: u64) -> Pages {
        let floor = self.floors[&version];
        self.resolve_from(floor, version)
    }

    fn resolve_from(&self, floor: u64, version: u64) -> Pages {
        let newest = |versions: &BTreeMap<u64, Option<BasePage>>| {
            let (_, page) = versions.range(floor..=version).next_back()?;
            page.clone()
        };
        let rows = self.rows.iter();
        rows.filter_map(|(key, versions)| Some((key.clone(), newest(versions)?)))
            .collect()
    }

    fn staged(&self) -> Pages {
        let version = self.head + 1;
        let rows = self.rows.iter();
        rows.filter_map(|(key, versions)| {
            let page = versions.get(&version)?;
            let tombstone = || BasePage {
                chunk: key.clone().into(),
                ..BasePage::default()
            };
            Some((key.clone(), page.clone().unwrap_or_else(tombstone)))
        })
        .collect()
    }

    /// What a run of this kind is compared with.
    pub fn layers(&self, kind: Kind) -> (Against, Vec<(Layer, Pages)>) {
        let mut layers = Vec::new();
        let against = match kind {
            Kind::Full => Against::Nothing,
            Kind::Incremental => Against::Head,
            Kind::Differential => Against::FullAndHead,
        };
        if against != Against::Nothing {
            layers.push((Layer::Head, self.resolve(self.head)));
        }
        if against == Against::FullAndHead {
            layers.push((Layer::Full, self.resolve(self.full)));
        }
        if self.resumes {
            layers.push((Layer::Staged, self.staged()));
        }
        (against, layers)
    }

    fn attempt(&mut self, kind: Kind, top: &Path, change: impl FnOnce(&mut Options)) -> Written {
        let (against, layers) = self.layers(kind);
        let has_base = !layers.is_empty();
        let mut options = Options::new(vec![b"/".to_vec()]);
        // Small enough for names to go to disk now and then.
        options.max_names = 4;
        options.spill = Some(std::env::temp_dir());
        change(&mut options);
        let top = std::fs::File::open(top).unwrap().into();
        let walk = Walk::beneath(top, options).unwrap();
        let stop = CancellationToken::new();
        let base = Memory::new(layers, Arc::clone(&self.looked_up));
        let merger = Merger::new(base, against, self.rules);
        let steps = ahead::start_with(walk, merger, has_base, 2, stop.clone()).unwrap();
        self.pack(steps, against, has_base, &stop)
    }

    /// Runs a backup of all below `top` whose walk gives what `twist` makes of each event, and publishes it.
    pub fn run_twisted(
        &mut self,
        kind: Kind,
        top: &Path,
        mut twist: impl FnMut(Event) -> Vec<Event>,
    ) -> Written {
        let (against, layers) = self.layers(kind);
        let has_base = !layers.is_empty();
        let options = Options::new(vec![b"/".to_vec()]);
        let walk = Walk::beneath(std::fs::File::open(top).unwrap().into(), options).unwrap();
        let base = Memory::new(layers, Arc::clone(&self.looked_up));
        let mut merger = Merger::new(base, against, self.rules);
        let seen = Time {
            seconds: i64::MAX,
            nanos: 0,
        };
        let mut steps = Vec::new();
        for event in walk.flat_map(&mut twist) {
            match event {
                Event::Enter(directory) => merger.enter(directory).unwrap(),
                Event::Entry(item) => merger.entry(item, seen).unwrap(),
                Event::Leave {
                    complete, names, ..
                } => merger.leave(complete, &names).unwrap(),
                Event::Issue(issue) => merger.issue(issue).unwrap(),
            }
            steps.extend(merger.steps());
        }
        merger.end().unwrap();
        steps.extend(merger.steps());
        let stop = CancellationToken::new();
        let written = self.pack(steps.into_iter(), against, has_base, &stop);
        self.keep(&written.rows);
        self.publish(kind);
        written
    }

    fn pack(
        &mut self,
        steps: impl Iterator<Item = Step>,
        against: Against,
        has_base: bool,
        stop: &CancellationToken,
    ) -> Written {
        let ordinal = self.archives.len() as u32 + 1;
        let identity = Identity {
            line_uuid: Uuid::from_u128(1),
            version: self.head + 1,
            archive_ordinal: ordinal,
            archive_uuid: Uuid::from_u128(u128::from(ordinal)),
            attempt: u64::from(ordinal),
        };
        let mode = Mode {
            against,
            always: !has_base,
        };
        let mut written = Written::default();
        let (mut segments, mut begun) = (Vec::new(), 0);
        let counters = Counters::default();
        let outlets = Outlets {
            begins: &mut || begun += 1,
            segments: &mut |segment| {
                segments.push(segment);
                Ok(())
            },
            issues: &mut |issue| written.issues.push(issue),
            counters: &counters,
            stop,
        };
        written.totals = pack::pack(
            steps,
            identity,
            mode,
            &Links::default(),
            dictionaries(),
            outlets,
        )
        .unwrap();
        assert_eq!(begun, usize::from(!written.totals.unchanged));
        assert_eq!(segments.is_empty(), written.totals.unchanged);
        let mut tar = Vec::new();
        let mut sealer = Sealer::new(1).unwrap();
        for segment in segments {
            let sealed = sealer.seal(segment).unwrap();
            let opened = segment::open(&sealed.bytes).unwrap();
            tar.extend_from_slice(&opened.tar);
            for record in record::iter(&opened.records) {
                written.add(record.unwrap().record.unwrap());
            }
        }
        self.archives.insert(ordinal, tar);
        written
    }
}

impl Written {
    fn add(&mut self, body: Body) {
        match body {
            Body::Entry(entry) => {
                let path = String::from_utf8_lossy(&entry.path).into_owned();
                self.stored.push(path);
            }
            Body::Page(page) => {
                let needed = page::dictionary_of(&page.body).unwrap();
                assert!(needed.is_none_or(|id| self.dictionaries.contains(&id)));
                let page = BasePage {
                    chunk: page.chunk,
                    body: page.body,
                    hashes: page.hashes,
                };
                self.pages.push(decode(&page));
                self.rows.push((page.chunk.to_vec(), Some(page)));
            }
            Body::Tombstone(tombstone) => {
                self.tombstones.push(tombstone.chunk.to_vec());
                self.rows.push((tombstone.chunk.to_vec(), None));
            }
            Body::Dictionary(dictionary) => self.dictionaries.push(dictionary.id),
        }
    }

    pub fn is_nothing(&self) -> bool {
        self.totals.unchanged && self.rows.is_empty() && self.stored.is_empty()
    }
}

pub fn decode(page: &BasePage) -> Page {
    page::decode(&page.chunk, &page.body, Some(&page.hashes), &dictionaries()).unwrap()
}

/// What the line has from an archive before the first.
fn dictionaries() -> Dictionaries {
    let mut dictionaries = Dictionaries::new();
    let text = b"names, owners and likely numbers \0\0\0\x60\x60\x60\x06\x06\x06".repeat(10);
    dictionaries.insert(7, &text).unwrap();
    dictionaries
}

type Stream = std::vec::IntoIter<Result<BasePage, Error>>;

/// A base held in memory.
pub struct Memory {
    joined: Joined<Stream>,
    layers: Vec<(Layer, Pages)>,
    looked_up: Arc<Mutex<usize>>,
}

impl Memory {
    pub fn new(layers: Vec<(Layer, Pages)>, looked_up: Arc<Mutex<usize>>) -> Self {
        let streams = layers.iter().map(|(layer, pages)| {
            let whole = pages.iter().filter(|(key, _)| !key::is_shortened(key));
            let pages: Vec<_> = whole.map(|(_, page)| Ok(page.clone())).collect();
            (*layer, pages.into_iter())
        });
        Self {
            joined: Joined::new(streams.collect(), dictionaries()),
            layers,
            looked_up,
        }
    }
}

impl Base for Memory {
    fn next(&mut self) -> Result<Option<Row>, Error> {
        self.joined.next()
    }

    fn look_up(&mut self, keys: Vec<Vec<u8>>) -> Result<Vec<Row>, Error> {
        *self.looked_up.lock().unwrap() += keys.len();
        let mut joiner = Joiner::new(dictionaries());
        let mut rows = Vec::new();
        for key in keys {
            let mut row = Row {
                key: key.clone(),
                ..Row::default()
            };
            for (layer, pages) in &self.layers {
                if let Some(page) = pages.get(&key) {
                    joiner.add(&mut row, *layer, page.clone())?;
                }
            }
            if row.head.is_some() || row.full.is_some() || row.staged.is_some() {
                rows.push(row);
            }
        }
        Ok(rows)
    }
}
