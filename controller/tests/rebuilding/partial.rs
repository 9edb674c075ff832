//! What one sees of a version of which a cartridge in the middle is missing.

use taf_controller::catalog::gap::{Gap, Lacking};
use taf_controller::catalog::view::Found;
use taf_controller::catalog::{Selection, View, browse, search};
use taf_controller::store::indexes;
use taf_core::catalog::Kind;
use taf_proto::agent::AssignmentKey;
use uuid::Uuid;

use super::cartridges::{Cartridge, cartridges, empty, scan};
use super::runs::make;
use super::world::{Tree, World};

/// Versions of these trees, full and then incrementals, all on one cartridge but for the second; taken in without that.
async fn without_the_second(trees: &[Tree]) -> World {
    first_alone(trees).await.0
}

/// The same, with what would take in the second cartridge.
async fn first_alone(trees: &[Tree]) -> (World, AssignmentKey, Cartridge) {
    let mut world = World::new().await;
    let (first, second) = (world.recording, Uuid::new_v4());
    let client = world.store.client().await.unwrap();
    let sql = format!(
        "INSERT INTO volumes (barcode, volume_uuid, pool_id, state, recording_uuid, block_size, next_tape_file, next_block, \
         labelled_at, created_at) SELECT 'TAF002L9', '{}', pool_id, state, '{second}', block_size, 1, 4, now(), now() FROM volumes",
        Uuid::new_v4()
    );
    client.batch_execute(&sql).await.unwrap();
    let line = "SELECT line_uuid FROM lines WHERE id = $1";
    let line: Uuid = client.query_one(line, &[&world.line]).await.unwrap().get(0);
    drop(client);
    for (version, tree) in (1..).zip(trees) {
        world = world.on(if version == 2 { second } else { first }).await;
        let kind = match version {
            1 => Kind::Full,
            _ => Kind::Incremental,
        };
        make(&world, &world.attempt_at(kind).await, tree).await;
    }
    let found = cartridges(&world).await;
    let (mut back, key) = empty().await;
    let there = found.iter().find(|c| c.recording == first).unwrap();
    scan(&back, key, there).await.unwrap();
    let client = back.store.client().await.unwrap();
    let sql = "SELECT id FROM lines WHERE line_uuid = $1";
    back.line = client.query_one(sql, &[&line]).await.unwrap().get(0);
    drop(client);
    back.recording = first;
    let missing = found.into_iter().find(|c| c.recording == second);
    (back, key, missing.unwrap())
}

async fn partial(world: &World, version: i64) -> View {
    let view = View::open_restored(&world.store, world.line, version).await;
    view.unwrap().unwrap()
}

async fn names(view: &View, directory: &[u8]) -> Option<(Vec<String>, bool)> {
    let listing = browse::list(view, directory, None, 10_000).await.unwrap()?;
    let names = listing.entries.into_iter();
    let names = names.map(|entry| String::from_utf8(entry.name).unwrap());
    Some((names.collect(), listing.gap))
}

/// Paths that a restore of all would lack, each with why.
async fn lacks(view: &View) -> Vec<(String, String)> {
    let selection = Selection::resolve(view, &[]).await.unwrap();
    let mut lacking = Lacking::of(view, &selection).unwrap();
    let mut found = Vec::new();
    while let Some(some) = lacking.next().await.unwrap() {
        found.extend(some.into_iter().map(|lack| {
            let why = format!("{} {}", lack.what.reason(), lack.message);
            (String::from_utf8(lack.path).unwrap(), why)
        }));
    }
    found.sort();
    found
}

#[tokio::test]
async fn what_is_newer_than_the_missing_cartridge_is_shown_and_the_rest_names_it() {
    let first = [("a/1", 1, 0), ("b/1", 1, 0), ("c/1", 1, 0), ("d/1", 1, 0)];
    // On the missing cartridge b changes, c goes, d gets a file, and so does the root.
    let second = [
        ("a/1", 1, 0),
        ("b/1", 7, 0),
        ("d/1", 1, 0),
        ("d/2", 2, 0),
        ("y", 3, 0),
    ];
    let third = [second.as_slice(), &[("a/2", 2, 0)]].concat();
    let fourth = [third.as_slice(), &[("x", 1, 0)]].concat();
    let trees = [&first[..], &second, &third, &fourth].map(Tree::of);
    let world = without_the_second(&trees).await;
    let unknown = "unknown since version 2 (volume TAF002L9)";

    // The third has a listing of its own of a, and of nothing else.
    let view = partial(&world, 3).await;
    assert_eq!(view.gap().unwrap().unknown().as_deref(), Some(unknown));
    assert_eq!(names(&view, b"").await, Some((vec![], true)));
    assert_eq!(
        names(&view, b"a").await,
        Some((vec!["1".into(), "2".into()], false))
    );
    assert!(matches!(
        view.stat(b"a/2").await.unwrap(),
        Some(Found::Entry(_))
    ));
    assert_eq!(view.stat(b"a/3").await.unwrap(), None);
    // Whether c went, or e came, the missing cartridge would tell.
    for path in [&b""[..], b"b", b"b/1", b"c", b"c/1", b"e", b"y"] {
        let found = view.stat(path).await.unwrap();
        assert_eq!(found, Some(Found::Unknown), "{}", path.escape_ascii());
    }
    let why = format!("UNKNOWN what is in it: {unknown}");
    assert_eq!(lacks(&view).await, [(String::new(), why.clone())]);

    // The fourth knows the root, too: so what is not in it is not there, and what is in it and was not met is named.
    let view = partial(&world, 4).await;
    let root = ["a", "b", "d", "x", "y"].map(str::to_owned).to_vec();
    assert_eq!(names(&view, b"").await, Some((root, false)));
    for path in [&b"c"[..], b"c/1", b"e", b"x/1"] {
        assert_eq!(
            view.stat(path).await.unwrap(),
            None,
            "{}",
            path.escape_ascii()
        );
        assert_eq!(names(&view, path).await, None);
    }
    assert_eq!(view.stat(b"b/1").await.unwrap(), Some(Found::Unknown));
    assert_eq!(names(&view, b"b").await, Some((vec![], true)));
    let not_met = "NOT_MET its bytes were not met since the catalog was rebuilt (volume TAF002L9)";
    assert_eq!(
        lacks(&view).await,
        [
            ("b".to_owned(), why.clone()),
            ("d".to_owned(), why),
            ("y".to_owned(), not_met.to_owned())
        ]
    );
    let client = world.store.client().await.unwrap();
    let gap = Gap::of(&client, world.line, 4).await.unwrap().unwrap();
    assert_eq!((gap.since(), gap.volumes()), (2, vec!["TAF002L9"]));
    assert!(Gap::of(&client, world.line, 1).await.unwrap().is_none());
    drop(client);

    // Only in what is known of both do they differ.
    let before = partial(&world, 1).await;
    let found = futures::TryStreamExt::try_concat(search::diff(&before, &view, b""));
    let found = search::certain(&before, &view, found.await.unwrap())
        .await
        .unwrap();
    let paths = found
        .iter()
        .map(|it| String::from_utf8(it.path.clone()).unwrap());
    assert_eq!(paths.collect::<Vec<_>>(), ["c", "x", "y", "a/2", "c/1"]);
}

#[tokio::test]
async fn a_large_directory_is_known_chunk_by_chunk() {
    let names: Vec<String> = (0..4_000).map(|n| format!("big/{n:04}")).collect();
    let cut = |name: &String| {
        let hash = blake3::hash(&name.as_bytes()[4..]);
        u16::from_le_bytes([hash.as_bytes()[0], hash.as_bytes()[1]]).trailing_zeros() >= 10
    };
    let cuts: Vec<usize> = (1..names.len()).filter(|&n| cut(&names[n])).collect();
    assert!(cuts.len() >= 3, "{cuts:?}");
    let tree = |changed: &[usize]| {
        let files = names.iter().enumerate();
        let files = files.map(|(n, name)| (name.as_str(), 1 + u64::from(changed.contains(&n)), 0));
        Tree::of(&files.collect::<Vec<_>>())
    };
    // The second version changes the second chunk, the third one the third.
    let trees = [tree(&[]), tree(&[cuts[0]]), tree(&[cuts[0], cuts[1]])];
    let world = without_the_second(&trees).await;
    let view = partial(&world, 3).await;
    let known = &names[cuts[1]..cuts[2]];
    let known: Vec<&str> = known.iter().map(|name| &name[4..]).collect();
    let list = async |after: Option<&[u8]>, limit| {
        let listing = browse::list(&view, b"big", after, limit)
            .await
            .unwrap()
            .unwrap();
        let names = listing.entries.into_iter();
        let names = names.map(|entry| String::from_utf8(entry.name).unwrap());
        (names.collect::<Vec<_>>(), listing.gap)
    };
    assert_eq!(
        list(None, 10_000).await,
        (known.iter().map(|n| (*n).to_owned()).collect(), true)
    );
    assert_eq!(
        list(Some(b"0000"), 1).await,
        (vec![known[0].to_owned()], true)
    );
    assert_eq!(
        list(Some(known[0].as_bytes()), 1).await,
        (vec![known[1].to_owned()], false)
    );
    let last = known[known.len() - 1];
    assert_eq!(list(Some(last.as_bytes()), 5).await, (vec![], true));
    for (n, is_known) in [
        (0, false),
        (cuts[0], false),
        (cuts[1], true),
        (cuts[2], false),
    ] {
        let found = view.stat(names[n].as_bytes()).await.unwrap();
        assert_eq!(
            matches!(found, Some(Found::Entry(_))),
            is_known,
            "{n} {found:?}"
        );
        assert_eq!(found == Some(Found::Unknown), !is_known, "{n}");
    }
    assert_eq!(
        view.stat(format!("big/{last}x").as_bytes()).await.unwrap(),
        None
    );
    // The one that follows the known chunk, and the directory's beginning, are told to be unknown.
    let told = lacks(&view).await;
    assert!(
        told.iter().any(|(path, why)| path == "big"
            && why.contains(&format!("from {} on", &names[cuts[2]][4..])))
    );
}

#[tokio::test]
async fn closing_records_of_what_is_not_whole_are_kept_where_its_parts_are() {
    let trees = [(1, 1), (2, 2), (3, 2)].map(|(a, b)| Tree::of(&[("a/1", a, 0), ("b/1", b, 0)]));
    let (world, key, missing) = first_alone(&trees).await;
    let client = world.store.client().await.unwrap();
    let told = async || {
        let closings = indexes::index_closings(&client, world.recording, (0, 0), 100).await;
        let closings = closings.unwrap().into_iter();
        closings.map(|c| c.version).collect::<Vec<i64>>()
    };
    assert_eq!(
        world
            .count("versions WHERE incomplete_reason IS NOT NULL")
            .await,
        1
    );
    // Those of the third are nowhere else, and go wherever its parts go.
    assert_eq!(told().await, [1, 3]);
    let sql = "UPDATE volumes SET index_due = false";
    client.batch_execute(sql).await.unwrap();
    scan(&world, key, &missing).await.unwrap();
    assert_eq!(world.count("versions WHERE state = 'published'").await, 3);
    assert_eq!(told().await, [1, 3]);
    let due = format!(
        "volumes WHERE index_due AND recording_uuid = '{}'",
        world.recording
    );
    assert_eq!(world.count(&due).await, 1);
}
