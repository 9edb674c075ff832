//! Listings and recalls of published versions against a real PostgreSQL.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;
#[path = "support/world.rs"]
mod world;

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use taf_controller::access::Caller;
use taf_controller::catalog::view::Found;
use taf_controller::catalog::{Error, Patterns, Selection, View, browse, recall, report};
use taf_controller::services::agent_catalog::AgentCatalog;
use taf_controller::session::Registry;
use taf_controller::store::jobs::{self, NewRestore};
use taf_format::entry::Kind;
use taf_peer::identity::{Identity, Role};
use taf_proto::agent::catalog_service_server::CatalogService;
use taf_proto::agent::fetch_recall_response::Message;
use taf_proto::agent::{FetchRecallRequest, RecallItem, RecallPart, ReportIssuesRequest};
use taf_proto::{path, v1};
use tokio_stream::StreamExt;
use world::{Tree, World};

async fn view(world: &World) -> View {
    View::open(&world.store, world.line, 1)
        .await
        .unwrap()
        .unwrap()
}

async fn recalled(view: &View, paths: &[&str]) -> (Vec<RecallPart>, Vec<RecallItem>) {
    let paths: Vec<Vec<u8>> = paths.iter().map(|path| path.as_bytes().to_vec()).collect();
    let selection = Selection::resolve(view, &paths).await.unwrap();
    let sent = selection.clone();
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    let sending = async move {
        let preference = recall::Preference::default();
        recall::stream(view, 0, &sent, recall::Archives::All, &preference, &sender)
            .await
            .unwrap();
    };
    let receiving = async {
        let (mut parts, mut items) = (Vec::new(), Vec::new());
        while let Some(message) = receiver.recv().await {
            match message.unwrap().message.unwrap() {
                Message::Part(part) => parts.push(part),
                Message::Lacks(_) => panic!("the version is whole"),
                Message::Items(batch) => {
                    assert!(batch.items.len() <= 1_000);
                    items.extend(batch.items);
                }
            }
        }
        (parts, items)
    };
    let (found, ()) = tokio::join!(receiving, sending);
    let (count, _) = recall::count(view, &selection, b"", &[]).await.unwrap();
    let chosen = found
        .1
        .iter()
        .filter(|item| item.ancestor.is_none_or(|directory| !directory.above))
        .count() as u64;
    assert_eq!(count.entries, chosen);
    found
}

fn paths(items: &[RecallItem]) -> Vec<String> {
    items
        .iter()
        .map(|item| String::from_utf8(item.path.to_vec()).unwrap())
        .collect()
}

fn assert_in_tape_order(items: &[RecallItem]) {
    let places: Vec<_> = items
        .iter()
        .filter(|item| item.ancestor.is_none())
        .map(|item| (item.archive_ordinal, item.tar_offset))
        .collect();
    assert!(places.is_sorted(), "{places:?}");
}

#[tokio::test]
async fn a_whole_version_comes_in_the_order_of_the_tape() {
    let world = World::new().await;
    let tree = Tree::of(&[
        ("z", 10, 0),
        ("b/x", 600, 0),
        ("b/sub/q", 5, 0),
        ("a/2", 0, 0),
        ("a!/1", 1, 0),
    ]);
    world.back_up(&tree, 2).await;
    let view = view(&world).await;
    let (parts, items) = recalled(&view, &[]).await;
    assert_eq!(parts.len(), world.count("parts").await as usize);
    assert!(
        parts
            .iter()
            .all(|part| !part.segment_table.is_empty() && part.block_size == 65_536)
    );
    assert_eq!(
        paths(&items),
        [
            "z", "a", "a/2", "a!", "a!/1", "b", "b/x", "b/sub", "b/sub/q"
        ]
    );
    assert_in_tape_order(&items);
    let selection = Selection::resolve(&view, &[]).await.unwrap();
    assert_eq!(
        recall::count(&view, &selection, b"", &[])
            .await
            .unwrap()
            .0
            .bytes,
        616
    );
    assert_eq!(items[2].hash.len(), 16);
}

#[tokio::test]
async fn a_directory_that_could_not_be_read_is_not_shown_as_an_empty_one() {
    let world = World::new().await;
    let mut tree = Tree::of(&[("a/1", 1, 0), ("b/1", 1, 0)]);
    tree.shut = Some(b"b".to_vec());
    world.back_up(&tree, 1).await;
    let view = view(&world).await;
    for (directory, unknown) in [(&b"a"[..], false), (b"b", true), (b"", false)] {
        let listing = browse::list(&view, directory, None, 10).await.unwrap();
        assert_eq!(listing.unwrap().unknown, unknown, "{directory:?}");
    }
}

#[tokio::test]
async fn chosen_paths_come_with_their_ancestors_first_and_nothing_twice() {
    let world = World::new().await;
    world
        .back_up(
            &Tree::of(&[
                ("a/b/c/f", 1, 0),
                ("a/b/g", 1, 0),
                ("a/h", 1, 0),
                ("q/r", 1, 0),
            ]),
            1,
        )
        .await;
    let view = view(&world).await;
    let (_, items) = recalled(&view, &["/a/b/g", "a/b/c/f", "/a/b/c", "q/r"]).await;
    assert_eq!(
        paths(&items),
        ["a", "a/b", "q", "a/b/g", "a/b/c", "a/b/c/f", "q/r"]
    );
    let above = items[0].ancestor.as_ref().unwrap();
    assert_eq!(
        (
            above.mode,
            above.uid,
            above.mtime_seconds,
            above.mtime_nanos
        ),
        (0o755, 3, -5, 7)
    );
    assert!(items[3..].iter().all(|item| item.ancestor.is_none()));
    let error = Selection::resolve(
        &view,
        &[b"/a".to_vec(), b"/a/nope".to_vec(), b"/other".to_vec()],
    )
    .await
    .unwrap_err();
    assert!(
        matches!(&error, Error::NotFound(path) if path == b"/a/nope"),
        "{error}"
    );
}

#[tokio::test]
async fn hard_links_come_where_their_bytes_are_whichever_names_were_chosen() {
    let world = World::new().await;
    let tree = Tree::of(&[
        ("a/first", 100, 7),
        ("b/plain", 10, 0),
        ("c/second", 100, 7),
        ("d/third", 100, 7),
        ("b/own", 5, 8),
        ("e/own", 5, 8),
    ]);
    world.back_up(&tree, 1).await;
    let view = view(&world).await;
    let (_, items) = recalled(&view, &[]).await;
    assert_in_tape_order(&items);
    let names = paths(&items);
    let at = |name: &str| names.iter().position(|path| path == name).unwrap();
    assert_eq!(
        (at("c/second"), at("d/third")),
        (at("a/first") + 1, at("a/first") + 2)
    );
    assert_eq!(
        items[at("d/third")].tar_offset,
        items[at("a/first")].tar_offset
    );
    assert_eq!(items[at("d/third")].link_group, 7);

    // The carrier is not chosen: the first chosen name takes its bytes, at their place, before what lies behind.
    let (_, items) = recalled(&view, &["/b/plain", "/d/third", "/c/second"]).await;
    let chosen: Vec<RecallItem> = items
        .into_iter()
        .filter(|item| item.ancestor.is_none())
        .collect();
    assert_eq!(paths(&chosen), ["c/second", "d/third", "b/plain"]);
    assert_in_tape_order(&chosen);
    let selection = Selection::resolve(&view, &[b"/d".to_vec(), b"/c".to_vec()])
        .await
        .unwrap();
    assert_eq!(
        recall::count(&view, &selection, b"", &[])
            .await
            .unwrap()
            .0
            .bytes,
        100,
        "each inode once"
    );
}

#[tokio::test]
async fn very_long_paths_come_in_the_order_of_the_tape_and_are_found() {
    let world = World::new().await;
    let mut tree = Tree::default();
    let deep = [
        "n".repeat(250),
        "m".repeat(250),
        "k".repeat(250),
        "j".repeat(220),
    ]
    .join("/");
    for n in 0..40 {
        tree.files.insert(
            format!("{deep}/d{n}/{}/f{n}", "x".repeat(n))
                .replace("//", "/")
                .into_bytes(),
            (1, 0),
        );
        tree.files
            .insert(format!("{deep}/g{n}").into_bytes(), (1, 0));
    }
    tree.files.insert(b"z/after".to_vec(), (1, 0));
    let (_, backup) = world.back_up(&tree, 2).await;
    assert!(backup.pages.iter().any(|page| page.chunk().len() == 1_000));
    let view = view(&world).await;
    let (_, items) = recalled(&view, &[]).await;
    assert_in_tape_order(&items);
    assert_eq!(items.len() as u64, backup.files + backup.directories - 1);
    let inside = format!("{deep}/d33");
    let (_, items) = recalled(&view, &[&inside]).await;
    let chosen: Vec<RecallItem> = items
        .into_iter()
        .filter(|item| item.ancestor.is_none())
        .collect();
    assert!(paths(&chosen).iter().all(|path| path.starts_with(&inside)));
    assert_eq!(chosen.len(), 3);
    for path in tree.files.keys() {
        assert!(matches!(
            view.stat(path).await.unwrap(),
            Some(Found::Entry(_))
        ));
    }
}

#[tokio::test]
async fn a_large_directory_is_listed_page_by_page() {
    let world = World::new().await;
    let mut tree = Tree::default();
    for n in 0..12_000 {
        tree.files.insert(
            format!("big/{:06}", n * 7919 % 1_000_003).into_bytes(),
            (n, 0),
        );
    }
    tree.files.insert(b"big/sub/x".to_vec(), (1, 0));
    let (_, backup) = world.back_up(&tree, 3).await;
    assert!(
        backup
            .pages
            .iter()
            .filter(|page| page.directory == b"big")
            .count()
            > 3
    );
    let view = view(&world).await;
    let mut names = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = browse::list(&view, b"big", after.as_deref(), 777)
            .await
            .unwrap()
            .unwrap()
            .entries;
        let Some(last) = page.last() else { break };
        after = Some(last.name.clone());
        names.extend(page.into_iter().map(|entry| entry.name));
    }
    let mut expected: Vec<Vec<u8>> = tree
        .files
        .keys()
        .filter(|path| !path.starts_with(b"big/sub"))
        .map(|path| path[4..].to_vec())
        .collect();
    expected.push(b"sub".to_vec());
    expected.sort();
    assert_eq!(names, expected);
    let middle = browse::list(&view, b"big", Some(b"500000x"), 1)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        Some(&middle.entries[0].name),
        expected
            .iter()
            .find(|name| name.as_slice() > &b"500000x"[..])
    );
    assert!(
        browse::list(&view, b"nope", None, 1)
            .await
            .unwrap()
            .is_none()
    );
    assert!(
        browse::list(&view, b"big/sub/x", None, 1)
            .await
            .unwrap()
            .is_none()
    );
    let (_, items) = recalled(&view, &["/big"]).await;
    assert_in_tape_order(&items);
    assert_eq!(items.len(), 12_000 + 3);
}

#[tokio::test]
async fn random_trees_are_listed_found_and_recalled_as_they_were() {
    let seed: u64 = std::env::var("TAF_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| rand::rng().random());
    println!("TAF_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let world = World::new().await;
    let mut version = 0;
    for _ in 0..4 {
        let mut tree = Tree::default();
        for _ in 0..random.random_range(1..400) {
            let depth = random.random_range(1..5);
            let component = |random: &mut StdRng| {
                let alphabet = b"ab!-\x01\xff~Z";
                let length = if random.random_bool(0.05) {
                    250
                } else {
                    random.random_range(1..4)
                };
                (0..length)
                    .map(|_| alphabet[random.random_range(0..alphabet.len())])
                    .collect::<Vec<u8>>()
            };
            let path = (0..depth)
                .map(|_| component(&mut random))
                .collect::<Vec<_>>()
                .join(&b'/');
            // A file is never above another.
            let clashes = tree.files.keys().any(|other| {
                let below = |a: &[u8], b: &[u8]| {
                    b.strip_prefix(a)
                        .is_some_and(|rest| rest.first() == Some(&b'/'))
                };
                below(other, &path) || below(&path, other)
            });
            if !clashes {
                let group = if random.random_bool(0.1) {
                    random.random_range(1..6)
                } else {
                    0
                };
                tree.files.insert(
                    path,
                    (
                        if group == 0 {
                            random.random_range(0..5_000)
                        } else {
                            group * 100
                        },
                        group,
                    ),
                );
            }
        }
        let parts = random.random_range(1..4);
        let (_, backup) = world.back_up(&tree, parts).await;
        version += 1;
        let view = View::open(&world.store, world.line, version)
            .await
            .unwrap()
            .unwrap();

        let mut listed = BTreeMap::new();
        let mut open = vec![Vec::new()];
        while let Some(directory) = open.pop() {
            for entry in browse::list(&view, &directory, None, 100_000)
                .await
                .unwrap()
                .unwrap()
                .entries
            {
                let path = if directory.is_empty() {
                    entry.name.clone()
                } else {
                    [&directory[..], b"/", &entry.name].concat()
                };
                if entry.kind == Kind::Directory {
                    open.push(path);
                } else {
                    listed.insert(path, (entry.size, entry.link_group));
                }
            }
        }
        assert_eq!(listed, tree.files);
        let (_, items) = recalled(&view, &[]).await;
        assert_in_tape_order(&items);
        let recalled: BTreeSet<Vec<u8>> = items.iter().map(|item| item.path.to_vec()).collect();
        assert_eq!(recalled.len(), items.len());
        assert_eq!(recalled.len() as u64, backup.files + backup.directories - 1);
        for path in tree.files.keys() {
            let Some(Found::Entry(entry)) = view.stat(path).await.unwrap() else {
                panic!("{path:?}")
            };
            assert_eq!((entry.size, entry.link_group), tree.files[path]);
            assert!(
                view.stat(&[path, &b"x"[..]].concat())
                    .await
                    .unwrap()
                    .is_none_or(|_| tree
                        .files
                        .keys()
                        .any(|other| other.starts_with(&[path, &b"x"[..]].concat())))
            );
        }
    }
}

fn as_agent<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    let identity = Identity::new(uuid::Uuid::nil(), Role::SourceAgent, world::SOURCE).unwrap();
    request.extensions_mut().insert(Caller::Agent(identity));
    request
}

#[tokio::test]
async fn an_agent_fetches_its_recall_and_reports_issues_once() {
    let world = World::new().await;
    world
        .back_up(&Tree::of(&[("a/b", 1, 0), ("a/c", 1, 0)]), 1)
        .await;
    world.end_attempts().await;
    let wanted = v1::RestoreVersionRequest {
        paths: vec![path::from_raw(&b"/a/c"[..])],
        ..Default::default()
    };
    let mut client = world.store.client().await.unwrap();
    let tx = client.transaction().await.unwrap();
    let new = NewRestore {
        line_id: world.line,
        version: 1,
        agent_id: world.agent_id,
        volumes: &[world.volume_id],
        turns: &[1],
        request: &wanted.encode_to_vec(),
        paths: None,
        entry_count: 1,
        byte_total: 1,
    };
    let job = jobs::job_create_restore_on(&tx, &new, "test")
        .await
        .unwrap();
    let (_, key) = world.attempt_on(&tx, job).await;
    tx.commit().await.unwrap();

    let service = AgentCatalog::new(world.store.clone(), Registry::default());
    let mut stream = service
        .fetch_recall(as_agent(FetchRecallRequest {
            key: Some(key),
            ..FetchRecallRequest::default()
        }))
        .await
        .unwrap()
        .into_inner();
    let mut items = Vec::new();
    while let Some(message) = stream.next().await {
        if let Some(Message::Items(batch)) = message.unwrap().message {
            items.extend(batch.items);
        }
    }
    assert_eq!(paths(&items), ["a", "a/c"]);

    let issue = |name: &str| v1::Issue {
        path: Some(path::from_raw(name.as_bytes().to_vec())),
        reason: "UNREADABLE".into(),
        message: "denied\0".into(),
    };
    let report = ReportIssuesRequest {
        key: Some(key),
        first_number: 1,
        issues: vec![issue("/a"), issue("/b")],
    };
    for _ in 0..2 {
        service
            .report_issues(as_agent(report.clone()))
            .await
            .unwrap();
    }
    let more = ReportIssuesRequest {
        key: Some(key),
        first_number: 2,
        issues: vec![issue("/b"), issue("/c")],
    };
    report::report_issues(&world.store, world::SOURCE, &more)
        .await
        .unwrap();
    let client = world.store.client().await.unwrap();
    let listed = taf_controller::store::issues::issue_list(&client, job, 0, 10)
        .await
        .unwrap();
    let numbers: Vec<(i64, &[u8])> = listed
        .iter()
        .map(|issue| (issue.number, issue.path.as_slice()))
        .collect();
    assert_eq!(numbers, [(1, &b"/a"[..]), (2, b"/b"), (3, b"/c")]);
    let foreign = report::report_issues(&world.store, "files-2", &report)
        .await
        .unwrap_err();
    assert!(matches!(foreign, Error::Foreign(_)), "{foreign}");
}

#[tokio::test]
async fn many_paths_are_looked_up_as_each_of_them_is() {
    let world = World::new().await;
    let mut tree = Tree::default();
    // Large enough for several chunks.
    for n in 0..6_000 {
        tree.files
            .insert(format!("big/{n:05}").into_bytes(), (n, 0));
    }
    let deep = [
        "n".repeat(250),
        "m".repeat(250),
        "k".repeat(250),
        "j".repeat(249),
    ]
    .join("/");
    for n in 0..5 {
        tree.files
            .insert(format!("{deep}/{n}").into_bytes(), (n, 0));
        tree.files.insert(format!("few/{n}/f").into_bytes(), (n, 0));
    }
    let (_, backup) = world.back_up(&tree, 1).await;
    let chunks = backup.pages.iter().filter(|page| page.directory == b"big");
    assert!(chunks.count() > 2);
    let view = view(&world).await;
    let mut paths: Vec<Vec<u8>> = tree.files.keys().step_by(29).cloned().collect();
    paths.extend(tree.files.keys().rev().take(20).cloned());
    for odd in [
        "",
        "few",
        "few/3",
        "few/3/f/x",
        "few/9",
        "big/",
        "big/05999x",
        "no/where",
        "few/3",
    ] {
        paths.push(odd.trim_end_matches('/').as_bytes().to_vec());
    }
    let slices: Vec<&[u8]> = paths.iter().map(Vec::as_slice).collect();
    let found = view.stat_all(&slices).await.unwrap();
    for (path, found) in paths.iter().zip(found) {
        let alone = view.stat(path).await.unwrap();
        assert_eq!(found, alone, "{}", path.escape_ascii());
    }

    // Files of one directory come as one page, in order, whichever order they were chosen in.
    let chosen = ["/big/00007", "/few/2/f", "/big/05001", "/big/00003"];
    let (_, items) = recalled(&view, &chosen).await;
    let items: Vec<_> = items.into_iter().filter(|i| i.ancestor.is_none()).collect();
    assert_in_tape_order(&items);
    assert_eq!(
        self::paths(&items),
        ["big/00003", "big/00007", "big/05001", "few/2/f"]
    );
}

#[tokio::test]
async fn a_name_that_looks_like_a_pattern_does_not_hide_what_the_pattern_matches() {
    let world = World::new().await;
    let names = ["srv/*", "srv/a", "srv/[ab]", "srv/b"];
    let files: Vec<_> = names.iter().map(|name| (*name, 1, 0)).collect();
    world.back_up(&Tree::of(&files), 1).await;
    let view = view(&world).await;
    let resolved = async |pattern: &str| {
        let patterns = Patterns::read(&[pattern.to_owned()]).unwrap();
        let found = patterns.resolve(&view).await;
        found.map(|paths| paths.into_iter().collect::<BTreeSet<_>>())
    };
    let set = |names: &[&str]| names.iter().map(|name| name.as_bytes().to_vec()).collect();
    assert_eq!(resolved("/srv/*").await.unwrap(), set(&names));
    assert_eq!(
        resolved("/srv/[ab]").await.unwrap(),
        set(&["srv/[ab]", "srv/a", "srv/b"])
    );
    assert_eq!(resolved("/srv/a").await.unwrap(), set(&["srv/a"]));
    assert!(resolved("/srv/x*").await.is_err());
}
