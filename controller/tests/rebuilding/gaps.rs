//! What a rebuild without one cartridge must show of versions that need it, and what it must not (rule 14), by what the cartridges hold.

use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt as _;
use taf_controller::catalog::gap::{Lacking, What};
use taf_controller::catalog::view::Found;
use taf_controller::catalog::{Selection, View, browse, search};
use taf_format::entry::Kind;
use taf_format::page::Dictionaries;
use taf_format::{index::Body, page};
use uuid::Uuid;

use super::Lost;
use super::runs;
use super::world::{DICTIONARY, World};

/// An archive, by version and ordinal, so that a later one is greater.
type Archive = (i64, u32);

/// All rows on all cartridges: by key, each with its archive, and its page if it is no tombstone.
type Rows = BTreeMap<Vec<u8>, Vec<(Archive, Option<page::Page>)>>;

/// The rows of archives that are of a version, and the recording that each of them is on, which is one here.
fn read(lost: &Lost) -> (Rows, BTreeMap<Archive, Uuid>) {
    let mut known = Dictionaries::new();
    known.insert(DICTIONARY.0, DICTIONARY.1).unwrap();
    let (mut rows, mut places) = (Rows::new(), BTreeMap::new());
    for cartridge in &lost.cartridges {
        let mut archive = (0, 0);
        for record in &cartridge.records {
            let row = match record {
                Body::Part(part) => {
                    archive = (part.version as i64, part.archive_ordinal);
                    if lost.lists(archive.1) {
                        places.insert(archive, cartridge.recording);
                    }
                    continue;
                }
                _ if !lost.lists(archive.1) => continue,
                Body::Page(row) => {
                    let page = page::decode(&row.chunk, &row.body, Some(&row.hashes), &known);
                    (row.chunk.to_vec(), Some(page.unwrap()))
                }
                Body::Tombstone(row) => (row.chunk.to_vec(), None),
                _ => continue,
            };
            rows.entry(row.0).or_default().push((archive, row.1));
        }
    }
    (rows, places)
}

/// What is true of a version, and what can be known of it.
struct Truth {
    /// Directories that it has, each with what is in it.
    directories: BTreeMap<Vec<u8>, page::Page>,
    /// Directories of which it is certain how they are, or that they are not.
    certain: BTreeSet<Vec<u8>>,
    /// Archives whose bytes are there.
    met: BTreeSet<u32>,
}

impl Truth {
    fn is_certain(&self, directory: &[u8]) -> bool {
        self.certain.contains(directory)
    }
}

fn parent(path: &[u8]) -> &[u8] {
    path.iter()
        .rposition(|&byte| byte == b'/')
        .map_or(b"", |at| &path[..at])
}

fn name(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap()
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    match directory {
        [] => name.to_vec(),
        above => [above, b"/", name].concat(),
    }
}

/// The truth of a version without one recording; `told` is whether its needs are known.
fn truth(lost: &Lost, version: i64, withheld: Uuid, told: bool) -> Truth {
    let record = lost.closings.iter().find(|c| c.version as i64 == version);
    let floor = record.unwrap().floor as i64;
    let (rows, places) = read(lost);
    let resolved: BTreeMap<&Vec<u8>, &(Archive, Option<page::Page>)> = rows
        .iter()
        .filter_map(|(key, rows)| {
            let mine = rows
                .iter()
                .filter(|((of, _), _)| (floor..=version).contains(of));
            Some((key, mine.max_by_key(|(archive, _)| *archive)?))
        })
        .collect();
    let lost = |archive: &Archive| places[archive] == withheld;
    let newest = resolved.values().map(|(archive, _)| *archive);
    let newest = newest.filter(|archive| lost(archive)).max();
    let mut truth = Truth {
        directories: BTreeMap::new(),
        certain: BTreeSet::new(),
        met: BTreeSet::new(),
    };
    for (key, (archive, page)) in resolved {
        let (directory, chunk) = taf_format::key::split(key).unwrap();
        assert_eq!(chunk, None, "directories are small here");
        if told && !lost(archive) && newest.is_none_or(|newest| newest <= *archive) {
            truth.certain.insert(directory.clone());
        }
        if let Some(page) = page {
            truth.directories.insert(directory, page.clone());
        }
    }
    let met = places.iter().filter(|(archive, _)| !lost(archive));
    truth.met = met.map(|((_, ordinal), _)| *ordinal).collect();
    truth
}

/// Holds what is shown of a version that is not whole against both bounds. `told` is the version whose closing record says what it
/// needs, if that was met.
pub async fn check(world: &World, lost: &Lost, version: i64, told: Option<i64>, withheld: Uuid) {
    let truth = truth(lost, told.unwrap_or(version), withheld, told.is_some());
    let view = View::open_restored(&world.store, world.line, version).await;
    let view = view.unwrap().unwrap();
    assert!(view.gap().is_some());
    // Whatever was ever there, and a name that never was.
    let mut paths: BTreeSet<Vec<u8>> = BTreeSet::from([Vec::new(), b"never".to_vec()]);
    for tree in lost.trees.values() {
        for path in tree.files.keys() {
            let mut path = path.as_slice();
            while !path.is_empty() {
                paths.insert(path.to_vec());
                path = parent(path);
            }
        }
    }
    for path in &paths {
        looked_at(&view, &truth, path).await;
        listed(&view, &truth, path).await;
    }
    let shown = found(world, &view).await;
    let files = |directory: &Vec<u8>, page: &page::Page| {
        let files = page.entries.iter().filter(|e| e.kind == Kind::File);
        let files = files.map(|entry| (join(directory, &entry.name), entry.place));
        files.collect::<Vec<_>>()
    };
    let certain = truth
        .directories
        .iter()
        .filter(|(path, _)| truth.is_certain(path));
    let certain: BTreeMap<_, _> = certain.flat_map(|(path, page)| files(path, page)).collect();
    assert_eq!(
        shown,
        certain.keys().cloned().collect(),
        "all files of known directories are found, and no others"
    );
    restored(world, &view, &truth, version, &certain).await;
}

/// One path by itself.
async fn looked_at(view: &View, truth: &Truth, path: &[u8]) {
    let at = path.escape_ascii();
    let here = truth
        .directories
        .get(parent(path))
        .filter(|_| !path.is_empty());
    let entry = here.and_then(|page| page.entries.iter().find(|entry| entry.name == name(path)));
    let directory = truth.directories.contains_key(path);
    match view.stat(path).await.unwrap() {
        Some(Found::Entry(shown)) => {
            assert_eq!(Some(&*shown), entry, "{at}");
            assert!(truth.is_certain(parent(path)), "{at}");
        }
        Some(Found::Directory(_)) => assert!(directory && truth.is_certain(path), "{at}"),
        None => assert!(entry.is_none() && !directory, "{at} is there"),
        Some(Found::Unknown) => {
            assert!(!(directory && truth.is_certain(path)), "{at} is known");
            let above = truth.is_certain(parent(path)) && !path.is_empty();
            assert!(
                !above || directory,
                "the listing above {at} tells what is there"
            );
        }
    }
}

/// One path as a directory.
async fn listed(view: &View, truth: &Truth, path: &[u8]) {
    let at = path.escape_ascii();
    let is = truth.directories.get(path);
    let Some(shown) = browse::list(view, path, None, 10_000).await.unwrap() else {
        assert!(is.is_none(), "{at} is there");
        return;
    };
    if truth.is_certain(path) {
        assert_eq!(
            (&shown.entries, shown.gap),
            (&is.unwrap().entries, false),
            "{at}"
        );
        return;
    }
    assert!(shown.entries.is_empty() && shown.gap, "{at} is not known");
    let above = truth.is_certain(parent(path)) && !path.is_empty();
    assert!(
        !above || is.is_some(),
        "the listing above {at} tells that it is not there"
    );
}

async fn found(world: &World, view: &View) -> BTreeSet<Vec<u8>> {
    let versions = search::Versions::of(view).await.unwrap();
    let wanted = search::Wanted {
        kinds: vec![Kind::File],
        ..search::Wanted::default()
    };
    let found = search::find(&world.store, versions, wanted).unwrap();
    let batches: Vec<_> = found.try_collect().await.unwrap();
    let hits = batches.into_iter().flat_map(|batch| batch.hits);
    hits.map(|hit| join(&hit.directory, &hit.entry.name))
        .collect()
}

/// A restore of everything brings what can be read, and names the rest.
async fn restored(
    world: &World,
    view: &View,
    truth: &Truth,
    version: i64,
    certain: &BTreeMap<Vec<u8>, Option<page::Place>>,
) {
    let (_, items, told) = runs::recalled_partly(world, version).await;
    let items: BTreeSet<Vec<u8>> = items
        .into_iter()
        .filter(|item| item.stat.is_some())
        .map(|item| item.path.to_vec())
        .collect();
    let is_met = |place: &Option<page::Place>| truth.met.contains(&place.unwrap().archive_ordinal);
    let readable = certain.iter().filter(|(_, place)| is_met(place));
    let readable: BTreeSet<Vec<u8>> = readable.map(|(path, _)| path.clone()).collect();
    assert_eq!(
        items, readable,
        "what can be read is restored, and nothing else"
    );
    let selection = Selection::resolve(view, &[]).await.unwrap();
    let mut lacking = Lacking::of(view, &selection).unwrap();
    let (mut unknown, mut unmet) = (BTreeSet::new(), BTreeSet::new());
    while let Some(some) = lacking.next().await.unwrap() {
        for lack in some {
            let lacks = match lack.what {
                What::Unknown => &mut unknown,
                What::NotMet => &mut unmet,
            };
            assert!(lacks.insert(lack.path), "each is told once");
        }
    }
    assert_eq!(
        told,
        unknown.len() + unmet.len(),
        "and told to who restores"
    );
    for directory in &unknown {
        assert!(!truth.is_certain(directory));
        assert!(directory.is_empty() || truth.directories.contains_key(directory));
    }
    // Nothing is left out in silence.
    for (directory, page) in &truth.directories {
        for entry in page.entries.iter().filter(|e| e.kind == Kind::File) {
            let path = join(directory, &entry.name);
            let covered = unknown
                .iter()
                .any(|above| above.is_empty() || path.starts_with(&join(above, b"")));
            assert!(
                items.contains(&path) || unmet.contains(&path) || covered,
                "{} is left out in silence",
                path.escape_ascii()
            );
        }
    }
}
