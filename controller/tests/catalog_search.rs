//! Finding, comparing, measuring and a path's past, held against trees that are known: in random courses of versions, and in a
//! directory that is cut into many chunks.
//!
//! `TAF_SEARCH_SEEDS` random courses are played, three if it is not set.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "support/runs.rs"]
mod runs;
mod support;
#[path = "support/world.rs"]
mod world;

use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt as _;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use runs::run;
use taf_controller::catalog::search::{self, Differs, Measure, Versions, Wanted};
use taf_controller::catalog::{View, view::Found};
use taf_controller::store::versions::{self, Filter, Version};
use taf_core::catalog::Kind as Made;
use taf_format::entry::Kind;
use world::{Tree, World};

/// Path and what tells one state of it from another: its size, none for a directory.
type State = (Vec<u8>, Option<u64>);

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    match directory {
        [] => name.to_vec(),
        directory => [directory, b"/", name].concat(),
    }
}

/// All that is in a tree, without its root.
fn states(tree: &Tree) -> BTreeSet<State> {
    let mut all = BTreeSet::new();
    for (path, (size, _)) in &tree.files {
        all.insert((path.clone(), Some(*size)));
        for (at, byte) in path.iter().enumerate() {
            if *byte == b'/' {
                all.insert((path[..at].to_vec(), None));
            }
        }
    }
    all
}

fn below(path: &[u8], directory: &[u8]) -> bool {
    directory.is_empty()
        || path
            .strip_prefix(directory)
            .is_some_and(|rest| rest.first() == Some(&b'/'))
}

/// A world with a version of each tree, and its versions, oldest first.
async fn played(trees: &[Tree], kinds: &[Made]) -> (World, Vec<Version>) {
    let world = World::new().await;
    for (tree, kind) in trees.iter().zip(kinds) {
        match kind {
            Made::Full => {
                world.back_up(tree, 2).await;
            }
            kind => {
                run(&world, *kind, tree).await;
            }
        }
    }
    let client = world.store.client().await.unwrap();
    let all = versions::version_list(&client, None, Filter::default(), 1_000).await;
    let mut all = all.unwrap();
    all.reverse();
    assert_eq!(all.len(), trees.len());
    (world, all)
}

async fn of(world: &World, versions: &[Version]) -> Versions {
    let numbers = versions.iter().map(|v| (v.version, v.floor)).collect();
    let made = Versions::new(&world.store, versions[0].line_id, numbers).await;
    made.unwrap()
}

/// How many versions have each state that is found, and how many entries were looked at.
async fn found(world: &World, versions: &[Version], wanted: Wanted) -> (BTreeMap<State, u64>, u64) {
    let stream = search::find(&world.store, of(world, versions).await, wanted).unwrap();
    let batches: Vec<_> = stream.try_collect().await.unwrap();
    let mut counts = BTreeMap::new();
    for hit in batches.iter().flat_map(|batch| &batch.hits) {
        let size = (hit.entry.kind != Kind::Directory).then_some(hit.entry.size);
        let path = join(&hit.directory, &hit.entry.name);
        *counts.entry((path, size)).or_default() += hit.count;
        assert!(hit.oldest <= hit.newest && hit.count > 0);
    }
    (counts, batches.iter().map(|batch| batch.scanned).sum())
}

async fn differences(
    world: &World,
    before: &Version,
    after: &Version,
    directory: &[u8],
) -> Vec<(Vec<u8>, Differs)> {
    let before = View::of(&world.store, before).await.unwrap();
    let after = View::of(&world.store, after).await.unwrap();
    let stream = search::diff(&before, &after, directory);
    let all: Vec<Vec<_>> = stream.try_collect().await.unwrap();
    let mut all: Vec<_> = all
        .into_iter()
        .flatten()
        .map(|difference| (difference.path, difference.differs))
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// What differs between two trees, by path.
fn expected(before: &Tree, after: &Tree, directory: &[u8]) -> Vec<(Vec<u8>, Differs)> {
    let of = |tree| states(tree).into_iter().collect::<BTreeMap<_, _>>();
    let (before, after) = (of(before), of(after));
    let paths: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let differs = |path: &&Vec<u8>| match (before.get(*path), after.get(*path)) {
        (Some(a), Some(b)) if a == b => None,
        (Some(Some(_)), Some(Some(_))) => Some(Differs::Content),
        (Some(_), Some(_)) => Some(Differs::Kind),
        (None, _) => Some(Differs::Added),
        (_, None) => Some(Differs::Removed),
    };
    paths
        .iter()
        .filter(|path| below(path, directory))
        .filter_map(|path| differs(path).map(|differs| ((**path).clone(), differs)))
        .collect()
}

fn edit(tree: &mut Tree, random: &mut StdRng) {
    let top = ["a", "ab", "b", "b!"][random.random_range(0..4)];
    let middle = ["", "/x", "/x/y", "/z"][random.random_range(0..4)];
    let path = format!("{top}{middle}/f{}", random.random_range(0..8));
    match random.random_range(0..4) {
        0 => {
            tree.files.remove(path.as_bytes());
        }
        1 => {
            let directory = format!("{top}{middle}/");
            tree.files
                .retain(|path, _| !path.starts_with(directory.as_bytes()));
        }
        _ => {
            let size = random.random_range(1..3) * 100;
            tree.files.insert(path.into_bytes(), (size, 0));
        }
    }
}

async fn course(seed: u64) {
    println!("seed {seed}");
    let random = &mut StdRng::seed_from_u64(seed);
    let kinds = [
        Made::Full,
        Made::Incremental,
        Made::Incremental,
        Made::Differential,
        Made::Full,
        Made::Incremental,
    ];
    // One is below a path whose keys are shortened.
    let deep = format!("{}deep", "long/".repeat(260));
    let mut trees = vec![Tree::of(&[("top", 1, 0), (&deep, 5, 0)])];
    (0..60).for_each(|_| edit(&mut trees[0], random));
    while trees.len() < kinds.len() {
        let mut next = trees.last().unwrap().clone();
        (0..random.random_range(1..9)).for_each(|_| edit(&mut next, random));
        trees.push(next);
    }
    let (world, versions) = played(&trees, &kinds).await;

    for (tree, version) in trees.iter().zip(&versions) {
        let one = std::slice::from_ref(version);
        let (all, scanned) = found(&world, one, Wanted::default()).await;
        let known: BTreeMap<State, u64> = states(tree).into_iter().map(|s| (s, 1)).collect();
        assert_eq!(all, known, "seed {seed}, version {}", version.version);
        assert_eq!(scanned, known.len() as u64);
        assert_eq!(measured(&world, version).await, sums(tree), "seed {seed}");
    }
    let mut counts: BTreeMap<State, u64> = BTreeMap::new();
    for state in trees.iter().flat_map(states) {
        *counts.entry(state).or_default() += 1;
    }
    let (all, _) = found(&world, &versions, Wanted::default()).await;
    assert_eq!(all, counts, "seed {seed}");
    let wanted = Wanted {
        directory: b"b/x".to_vec(),
        rules: ["f?", "!f1"].map(taf_proto::selection::parse).to_vec(),
        size: (150, Some(200)),
        ..Wanted::default()
    };
    let (some, _) = found(&world, &versions, wanted).await;
    counts.retain(|(path, size), _| {
        *size == Some(200) && below(path, b"b/x") && !path.ends_with(b"/f1")
    });
    assert_eq!(some, counts, "seed {seed}");

    for (from, before) in versions.iter().enumerate() {
        for (to, after) in versions.iter().enumerate() {
            for directory in [&b""[..], b"b"] {
                let found = differences(&world, before, after, directory).await;
                let known = expected(&trees[from], &trees[to], directory);
                assert_eq!(found, known, "seed {seed}, {from} and {to}");
            }
        }
    }
    let path = b"b/x/f2";
    let newest_first = versions.iter().rev().cloned().collect();
    let past = search::states(&world.store, newest_first, path.to_vec());
    let past: Vec<_> = past.try_collect().await.unwrap();
    let told = past.iter().flat_map(|state| {
        let size = match &state.found {
            Some(Found::Entry(entry)) => Some(entry.size),
            _ => None,
        };
        std::iter::repeat_n(size, state.count as usize)
    });
    let known = trees
        .iter()
        .rev()
        .map(|tree| Some(tree.files.get(&path[..])?.0));
    assert!(told.eq(known), "seed {seed}: {past:?}");
    let neighbours = past
        .windows(2)
        .all(|two| two[0].oldest.version == two[1].newest.version + 1);
    assert!(neighbours, "seed {seed}: {past:?}");
}

async fn measured(world: &World, version: &Version) -> BTreeMap<Vec<u8>, Measure> {
    let versions = of(world, std::slice::from_ref(version)).await;
    let all = search::measure(&world.store, versions, b"", 100);
    let all: Vec<Vec<_>> = all.try_collect().await.unwrap();
    let all = all.into_iter().flatten();
    // Paths that are too long for keys of their own count above.
    all.filter(|measure| !measure.directory.starts_with(b"long"))
        .map(|measure| (measure.directory.clone(), measure))
        .collect()
}

fn sums(tree: &Tree) -> BTreeMap<Vec<u8>, Measure> {
    let states = states(tree);
    let directories = states.iter().filter(|(_, size)| size.is_none());
    let directories = directories
        .map(|(path, _)| path.clone())
        .chain([Vec::new()]);
    let measure = |directory: Vec<u8>| {
        let mut measure = Measure {
            directory: directory.clone(),
            ..Measure::default()
        };
        for (_, size) in states.iter().filter(|(path, _)| below(path, &directory)) {
            match size {
                None => measure.directories += 1,
                Some(size) => {
                    measure.files += 1;
                    measure.bytes += size;
                }
            }
        }
        (directory, measure)
    };
    directories
        .filter(|path| !path.starts_with(b"long"))
        .map(measure)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_is_what_was_there() {
    let seeds = std::env::var("TAF_SEARCH_SEEDS").ok();
    for seed in 0..seeds.map_or(3, |seeds| seeds.parse().unwrap()) {
        course(seed).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_in_many_chunks_is_compared_entry_by_entry() {
    let mut first = Tree::default();
    for number in 0..9_000_u64 {
        let path = format!("big/{number:05}.dat");
        first.files.insert(path.into_bytes(), (number % 7, 0));
    }
    let mut second = first.clone();
    let changed = |number: u64| format!("big/{number:05}.dat").into_bytes();
    // Enough to take away cuts between chunks and to make new ones.
    for number in (0..9_000).step_by(3) {
        second.files.remove(&changed(number));
    }
    for number in 0..3_000_u64 {
        let path = format!("big/{number:05}.new");
        second.files.insert(path.into_bytes(), (1, 0));
    }
    let trees = [first, second];
    let (world, versions) = played(&trees, &[Made::Full, Made::Incremental]).await;
    assert!(world.count("pages WHERE version = 1").await > 4);
    let [old, new] = versions.as_slice() else {
        panic!("two versions")
    };
    for (a, b, before, after) in [(old, new, 0, 1), (new, old, 1, 0)] {
        let found = differences(&world, a, b, b"").await;
        assert_eq!(found, expected(&trees[before], &trees[after], b""));
    }
    let wanted = Wanted {
        rules: vec![taf_proto::selection::parse("*.new")],
        ..Wanted::default()
    };
    let (hits, scanned) = found(&world, std::slice::from_ref(new), wanted).await;
    assert_eq!((hits.len(), scanned), (3_000, 9_001));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_several_names_is_measured_once() {
    let tree = Tree::of(&[
        ("a/1", 700, 4),
        ("a/2", 700, 4),
        ("b/3", 700, 4),
        ("b/4", 10, 0),
    ]);
    let (world, versions) = played(&[tree], &[Made::Full]).await;
    let measured = measured(&world, &versions[0]).await;
    assert_eq!(
        (measured[&b""[..]].files, measured[&b""[..]].bytes),
        (4, 710)
    );
}
