//! One run: the agent's merger holds what is seen against what the base has, its packer stores what differs, and rows come of the
//! records.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use taf_format::entry::Kind;
use taf_format::page::{self, Dictionaries, DirectoryStat, Entry, Place};
use taf_format::record::{self, Body};
use taf_format::segment::{Identity, RawSegment};
use taf_format::tar::decode::{Content, Decoder};
use taf_proto::agent::{self, BasePage};
use taf_source_agent::backup::base::against;
use taf_source_agent::backup::links::Links;
use taf_source_agent::backup::merge::{Against, Base, Joined, Joiner, Known, Layer, Row};
use taf_source_agent::backup::pack::{self, Mode, Outlets};
use taf_source_agent::fault::Error;
use taf_source_agent::progress::Counters;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::files::{Listing, Seen, Snapshot};
use super::walk::{self, Obstacle, time};

/// Live pages by key.
pub type Live = BTreeMap<Vec<u8>, Arc<Known>>;
/// Rows by key, none for a tombstone.
pub type Rows = BTreeMap<Vec<u8>, Option<Arc<Known>>>;
/// What was there when a version was made.
pub type Truth = BTreeMap<Vec<u8>, Listing>;

/// A rule that is switched off, to see that the oracle notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Off {
    #[default]
    Nothing,
    /// No row for what has gone.
    Tombstones,
    /// A differential writes what differs from the full, whatever the head has.
    Head,
    /// Nothing is doubtful because the clock is coarse.
    Racy,
    /// What can't be looked at is taken for empty.
    Carry,
    /// Rows of an attempt that is not gone on with stay.
    Purge,
    /// Rows go with the version that wrote them.
    Vacuum,
    /// Parts are given free when no bytes in them are needed.
    Release,
    /// A rebuild does not look at what versions need.
    Needs,
}

/// What a run is compared with.
pub struct Bases {
    pub off: Off,
    /// The version that is made, and those that it is compared with, as the agent is told.
    pub version: u64,
    pub base: agent::Base,
    pub head: Live,
    /// In a differential.
    pub full: Live,
    /// What earlier attempts have committed.
    pub staged: Rows,
    /// What was there when the head was made.
    pub head_truth: Truth,
}

/// What a run makes.
pub struct Made {
    /// In the order of the tape, each with the tar offset behind all that its page names of this archive.
    pub rows: Vec<(Vec<u8>, Option<BasePage>, u64)>,
    /// Bytes by their place: length and content.
    pub contents: BTreeMap<u64, (u64, u64)>,
    /// Tar bytes; none if nothing has changed.
    pub length: u64,
    pub truth: Truth,
}

/// Makes the run.
pub fn run(
    snapshot: &Snapshot,
    obstacle: Option<&Obstacle>,
    bases: &Bases,
    ordinal: u32,
    now: i64,
) -> Made {
    let truth = match obstacle {
        Some(obstacle) => obstacle.expected(snapshot.clone(), &bases.head_truth),
        None => snapshot.clone(),
    };
    let against = against(&bases.base);
    let has_base = bases.base != agent::Base::default();
    let steps = walk::walk(
        snapshot,
        obstacle,
        (InMemory::of(bases), against),
        bases.off,
        now,
    );
    let identity = Identity {
        line_uuid: Uuid::from_u128(1),
        version: bases.version,
        archive_ordinal: ordinal,
        archive_uuid: Uuid::from_u128(u128::from(ordinal)),
        attempt: u64::from(ordinal),
    };
    let mode = Mode {
        against,
        always: !has_base,
    };
    let mut segments = Vec::new();
    let outlets = Outlets {
        begins: &mut || {},
        segments: &mut |segment| {
            segments.push(segment);
            Ok(())
        },
        issues: &mut |_| {},
        counters: &Counters::default(),
        stop: &CancellationToken::new(),
    };
    let links = Links::default();
    let steps = steps.into_iter();
    let totals = pack::pack(steps, identity, mode, &links, Dictionaries::new(), outlets).unwrap();
    let mut made = Made {
        rows: Vec::new(),
        contents: BTreeMap::new(),
        length: totals.tar_bytes,
        truth,
    };
    made.read(&segments);
    if bases.off == Off::Tombstones {
        made.rows.retain(|(_, page, _)| page.is_some());
    }
    made
}

impl Made {
    /// Takes an archive apart, as whoever reads the tape does.
    fn read(&mut self, segments: &[RawSegment]) {
        let tar: Vec<u8> = segments.iter().flat_map(|s| &s.tar).copied().collect();
        assert_eq!(tar.len() as u64, self.length);
        let mut contents = BTreeMap::new();
        let mut decoder = Decoder::new(&tar[..]);
        while let Some(member) = decoder.next().unwrap() {
            let mut content = [0; 8];
            if let Content::Data { len: 1.. } = member.content {
                decoder.read_data(&mut content).unwrap();
            }
            let content = u64::from_le_bytes(content);
            contents.insert(member.header_offset, (member.path, content));
        }
        let mut end = 0;
        let mut keys = BTreeSet::new();
        for record in segments.iter().flat_map(|s| record::iter(&s.records)) {
            let (key, page) = match record.unwrap().record.unwrap() {
                Body::Entry(entry) => {
                    if entry.hard_link_to.is_empty() {
                        let (path, content) = &contents[&entry.tar_offset];
                        assert_eq!(*path, entry.path, "a record names another entry");
                        let at = (entry.tar_length, *content);
                        self.contents.insert(entry.tar_offset, at);
                        end = end.max(entry.tar_offset + entry.tar_length);
                    }
                    continue;
                }
                Body::Page(page) => {
                    let page = BasePage {
                        chunk: page.chunk,
                        body: page.body,
                        hashes: page.hashes,
                    };
                    (page.chunk.to_vec(), Some(page))
                }
                Body::Tombstone(tombstone) => (tombstone.chunk.to_vec(), None),
                Body::Dictionary(_) => panic!("so few pages need no dictionary"),
            };
            let text = key.escape_ascii();
            assert!(keys.insert(key.clone()), "{text}: is written twice");
            self.rows.push((key, page, end));
        }
    }
}

/// A page as it came, decoded, as whoever fetches the row does.
pub fn decode(page: &BasePage) -> Arc<Known> {
    let none = Dictionaries::new();
    let decoded = page::decode(&page.chunk, &page.body, Some(&page.hashes), &none).unwrap();
    assert_eq!(decoded.chunk(), page.chunk);
    Arc::new(Known {
        page: decoded,
        body: page.body.clone(),
        hashes: page.hashes.clone(),
    })
}

/// A base held in memory, streamed as the controller does.
struct InMemory {
    joined: Joined<std::vec::IntoIter<Result<BasePage, Error>>>,
    layers: Vec<(Layer, BTreeMap<Vec<u8>, BasePage>)>,
}

impl InMemory {
    fn of(bases: &Bases) -> Self {
        let page = |key: &[u8], known: Option<&Arc<Known>>| BasePage {
            chunk: key.to_vec().into(),
            body: known.map(|known| known.body.clone()).unwrap_or_default(),
            hashes: known.map(|known| known.hashes.clone()).unwrap_or_default(),
        };
        let living = |live: &Live| {
            let pages = live
                .iter()
                .map(|(key, known)| (key.clone(), page(key, Some(known))));
            pages.collect::<BTreeMap<_, _>>()
        };
        let mut layers = match against(&bases.base) {
            Against::Nothing => Vec::new(),
            Against::Head => vec![(Layer::Head, living(&bases.head))],
            Against::FullAndHead => {
                let is_off = bases.off == Off::Head;
                let head = if is_off { &bases.full } else { &bases.head };
                vec![
                    (Layer::Head, living(head)),
                    (Layer::Full, living(&bases.full)),
                ]
            }
        };
        if bases.base.resumes {
            let staged = bases.staged.iter();
            let staged = staged.map(|(key, row)| (key.clone(), page(key, row.as_ref())));
            layers.push((Layer::Staged, staged.collect()));
        }
        let streams = layers.iter().map(|(layer, pages)| {
            let pages: Vec<_> = pages.values().cloned().map(Ok).collect();
            (*layer, pages.into_iter())
        });
        Self {
            joined: Joined::new(streams.collect(), Dictionaries::new()),
            layers,
        }
    }
}

impl Base for InMemory {
    fn next(&mut self) -> Result<Option<Row>, Error> {
        self.joined.next()
    }

    fn look_up(&mut self, keys: Vec<Vec<u8>>) -> Result<Vec<Row>, Error> {
        let mut joiner = Joiner::new(Dictionaries::new());
        let mut rows = Vec::new();
        for key in keys {
            let mut row = Row::default();
            for (layer, pages) in &self.layers {
                if let Some(page) = pages.get(&key) {
                    joiner.add(&mut row, *layer, page.clone())?;
                    row.key.clone_from(&key);
                    rows.retain(|known: &Row| known.key != key);
                    rows.push(row.clone());
                }
            }
        }
        Ok(rows)
    }
}

/// What pages show: directories by their full keys, each with its own metadata and its entries with their content.
pub type Shown = BTreeMap<Vec<u8>, (Option<DirectoryStat>, Entries)>;
/// Entries by name, each with its content if that is there.
pub type Entries = BTreeMap<Vec<u8>, (Entry, Option<u64>)>;

/// Reads pages back into what was there, each file's content from its place; none if that is not there any more.
pub fn shown(live: &Live, content: &dyn Fn(Place) -> Option<u64>) -> Shown {
    let mut directories = Shown::new();
    for known in live.values() {
        let page = &known.page;
        let key = taf_format::key::of_path(&page.directory);
        let directory = directories.entry(key).or_default();
        if let Some(header) = &page.header {
            directory.0 = Some(header.clone());
        }
        for entry in &page.entries {
            let bytes = entry.place.and_then(content);
            directory
                .1
                .insert(entry.name.clone(), (entry.clone(), bytes));
        }
    }
    directories
}

/// What differs between an entry that is shown and what was there; bytes that are known to be lost are left out of it.
pub fn wrong(seen: Seen, entry: &Entry, bytes: Option<u64>, lost: bool) -> Option<&'static str> {
    match seen {
        Seen::Directory => (entry.kind != Kind::Directory).then_some("a directory is none"),
        Seen::File(inode) => {
            let metadata = (entry.inode, entry.mode, entry.mtime, entry.ctime);
            let there = (
                inode.number,
                inode.mode,
                time(inode.mtime),
                time(inode.ctime),
            );
            if entry.kind != Kind::File || metadata != there || entry.size != inode.size() {
                return Some("metadata");
            }
            match bytes {
                Some(bytes) => (bytes != inode.content).then_some("content"),
                None => (!lost).then_some("bytes are gone"),
            }
        }
    }
}
