//! What one sees of a version of which a cartridge in the middle is missing.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use taf_controller::access::Caller;
use taf_controller::catalog::gap::{self, Gap, Lacking, Shown, Since};
use taf_controller::catalog::view::Found;
use taf_controller::catalog::{Error, Selection, View, browse, search};
use taf_controller::services::agent_catalog::AgentCatalog;
use taf_controller::session::Registry;
use taf_controller::store::indexes;
use taf_controller::store::jobs::{self, NewRestore};
use taf_controller::store::versions;
use taf_controller::store::volumes::volume_erased_on;
use taf_core::catalog::Kind;
use taf_format::index::Body;
use taf_format::page::Chunker;
use taf_peer::identity::{Identity, Role};
use taf_proto::agent::catalog_service_server::CatalogService as _;
use taf_proto::agent::{AssignmentKey, FetchRecallRequest};
use tonic::{Request, Status};
use uuid::Uuid;

use super::cartridges::{
    Cartridge, cartridges, empty, one_more, raw, rescanning, scan, scan_broken,
};
use super::runs::make;
use super::world::{SOURCE, Tree, World};
use super::{rebuilt_line, standing};

/// Versions of these trees, full and then incrementals, all on one cartridge but for the second; taken in without that.
async fn without_the_second(trees: &[Tree]) -> World {
    first_then_second(trees).await.0
}

/// The same with what takes in cartridges, the one that was taken in, and that of the second.
pub async fn first_then_second(trees: &[Tree]) -> (World, AssignmentKey, [Cartridge; 2]) {
    let kinds = std::iter::once(Kind::Full).chain(std::iter::repeat(Kind::Incremental));
    made_then_second(kinds.zip(trees)).await
}

/// The same of versions of these kinds.
pub async fn made_then_second(
    versions: impl IntoIterator<Item = (Kind, &Tree)>,
) -> (World, AssignmentKey, [Cartridge; 2]) {
    let mut world = World::new().await;
    let (first, second) = (world.recording, one_more(&world, "TAF002L9").await);
    let client = world.store.client().await.unwrap();
    let line = "SELECT line_uuid FROM lines WHERE id = $1";
    let line: Uuid = client.query_one(line, &[&world.line]).await.unwrap().get(0);
    drop(client);
    for (version, (kind, tree)) in (1..).zip(versions) {
        world = world.on(if version == 2 { second } else { first }).await;
        make(&world, &world.attempt_at(kind).await, tree).await;
    }
    let found = cartridges(&world).await;
    let (mut back, key) = empty().await;
    let of = |recording| {
        let found = found.iter().find(|c| c.recording == recording);
        found.unwrap().clone()
    };
    let both = [of(first), of(second)];
    scan(&back, key, &both[0]).await.unwrap();
    rebuilt_line(&mut back, line).await;
    back.recording = first;
    (back, key, both)
}

pub async fn partial(world: &World, version: i64) -> View {
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
    assert_eq!(
        (gap.since(), gap.volumes()),
        (Some(Since::Version(2)), vec!["TAF002L9"])
    );
    assert!(Gap::of(&client, world.line, 1).await.unwrap().is_none());
    drop(client);

    // Only in what is known of both do they differ.
    let before = partial(&world, 1).await;
    let found = search::diff(&before, &view, b"").try_concat();
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
    let (world, key, [_, missing]) = first_then_second(&trees).await;
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

/// What the messages of a restore of the third version bear that goes on with this revision, or why there are none.
async fn fetched(world: &World, revision: &[u8]) -> Result<Vec<u8>, String> {
    fetched_of(world, 3, revision).await
}

/// The same of any version.
async fn fetched_of(world: &World, version: i64, revision: &[u8]) -> Result<Vec<u8>, String> {
    world.end_attempts().await;
    let mut client = world.store.client().await.unwrap();
    let tx = client.transaction().await.unwrap();
    let new = NewRestore {
        line_id: world.line,
        version,
        agent_id: world.agent_id,
        volumes: &[world.volume_id],
        turns: &[1],
        request: &[],
        paths: None,
        entry_count: 1,
        byte_total: 1,
    };
    let job = jobs::job_create_restore_on(&tx, &new, "test")
        .await
        .unwrap();
    let (_, key) = world.attempt_on(&tx, job).await;
    tx.commit().await.unwrap();
    let mut request = Request::new(FetchRecallRequest {
        key: Some(key),
        revision: Bytes::copy_from_slice(revision),
        ..FetchRecallRequest::default()
    });
    let agent = Identity::new(Uuid::nil(), Role::SourceAgent, SOURCE).unwrap();
    request.extensions_mut().insert(Caller::Agent(agent));
    let service = AgentCatalog::new(world.store.clone(), Registry::default());
    let refused = |status: Status| taf_peer::faults::reason_of(&status).unwrap().0;
    let mut messages = service
        .fetch_recall(request)
        .await
        .map_err(refused)?
        .into_inner();
    let mut revisions = BTreeSet::new();
    while let Some(message) = messages.next().await {
        revisions.insert(message.unwrap().revision.to_vec());
    }
    assert_eq!(revisions.len(), 1, "all of them bear the same");
    Ok(revisions.pop_first().unwrap())
}

/// A version with a file on each cartridge, and one behind it that needs both.
pub fn trees() -> Vec<Tree> {
    let second = [("a/1", 1, 0), ("b/1", 7, 0)];
    let third = [("a/1", 1, 0), ("b/1", 7, 0), ("c/1", 1, 0)];
    vec![
        Tree::of(&[("a/1", 1, 0)]),
        Tree::of(&second),
        Tree::of(&third),
    ]
}

#[tokio::test]
async fn what_was_erased_since_is_not_met_and_no_cartridge_brings_it() {
    let (world, _, [first, second]) = first_then_second(&trees()).await;
    let view = partial(&world, 3).await;
    let before = view.revision();
    assert_eq!(
        view.parts(&world.store.client().await.unwrap())
            .await
            .unwrap()
            .len(),
        2
    );
    let unknown = "UNKNOWN what is in it: unknown since version 2 (volume TAF002L9)";
    let unknown = ["a", "b"].map(|path| (path.to_owned(), unknown.to_owned()));
    assert_eq!(lacks(&view).await, unknown);
    // Asked again, it is the same.
    assert_eq!(partial(&world, 3).await.revision(), before);

    let mut client = world.store.client().await.unwrap();
    let tx = client.transaction().await.unwrap();
    let sql = "SELECT id FROM volumes WHERE recording_uuid = $1";
    let volume = tx.query_one(sql, &[&first.recording]).await.unwrap().get(0);
    volume_erased_on(&tx, volume, Uuid::new_v4(), "test")
        .await
        .unwrap();
    tx.commit().await.unwrap();
    let view = partial(&world, 3).await;
    assert_ne!(view.revision(), before);
    let (went_on, begun) = (fetched(&world, &before).await, fetched(&world, b"").await);
    assert_eq!(went_on.unwrap_err(), "VERSION_CHANGED");
    assert_eq!(begun.unwrap(), view.revision());
    assert!(view.parts(&client).await.unwrap().is_empty());
    let gap = view.gap().unwrap();
    assert_eq!(gap.volumes(), ["TAF002L9"], "the erased one would not help");
    let erased = "NOT_MET its bytes were erased, or written over (volume TAF001L9)";
    let told = lacks(&view).await;
    assert!(
        told.contains(&("c/1".to_owned(), erased.to_owned())),
        "{told:?}"
    );
    let (archives, items, lacking) = super::runs::recalled_partly(&world, 3).await;
    assert!(archives.is_empty(), "nobody waits for what is no more");
    assert!(
        items.iter().all(|item| item.ancestor.is_some()),
        "{items:?}"
    );
    assert_eq!(lacking, told.len());
    drop(client);

    // Its listings stay: with the other cartridge it is whole, and lost. What came before a rescan broke off counts.
    let key = rescanning(&world).await;
    scan_broken(&world, key, &second, async {}).await;
    assert!(standing(&world).await.1.is_empty());
    let lost = "versions WHERE version = 3 AND lost_reason IS NOT NULL";
    assert_eq!(world.count(lost).await, 1);
}

#[tokio::test]
async fn an_agent_that_would_leave_out_without_a_word_what_a_version_lacks_gets_nothing_of_it() {
    let (world, ..) = first_then_second(&trees()).await;
    let said = async |word: &str| {
        let sql = format!("UPDATE agents SET reads_incomplete = {word}");
        let client = world.store.client().await.unwrap();
        client.batch_execute(&sql).await.unwrap();
        (
            fetched_of(&world, 1, b"").await,
            fetched_of(&world, 3, b"").await,
        )
    };
    let (whole, partly) = said("true").await;
    assert_eq!(whole.unwrap(), b"");
    assert!(!partly.unwrap().is_empty());
    let (whole, partly) = said("false").await;
    assert_eq!(whole.unwrap(), b"");
    assert_eq!(partly.unwrap_err(), "AGENT_TOO_OLD");
    // It has not said anything since the controller was upgraded: it asks again.
    let (whole, partly) = said("NULL").await;
    assert_eq!(whole.unwrap(), b"");
    assert_eq!(partly.unwrap_err(), "NOT_READY");
}

#[tokio::test]
async fn what_no_record_claims_is_neither_shown_nor_makes_anything_uncertain() {
    let (world, key, [first, _]) = first_then_second(&trees()).await;
    let root = ["a", "b", "c"].map(str::to_owned).to_vec();
    let third = partial(&world, 3).await;
    assert_eq!(names(&third, b"").await, Some((root, false)));
    assert_eq!(names(&third, b"b").await, Some((vec![], true)));
    let unmoved = third.revision();

    // What a failed attempt at the second version left, newer than what is missing: listings of what never was.
    let mut left = first.clone();
    let begin = |body: &Body| matches!(body, Body::Part(_));
    let at = left.records.iter().position(begin).unwrap();
    let end = left
        .records
        .iter()
        .position(|body| matches!(body, Body::PartEnd(_)));
    left.records = left.records[at..=end.unwrap()].to_vec();
    if let Body::Part(part) = &mut left.records[0] {
        part.archive_uuid = raw(Uuid::new_v4());
        (part.version, part.archive_ordinal) = (2, 77);
        (part.tape_file, part.first_block) = (first.end.0, first.end.1);
    }
    for record in &mut left.records {
        // The directory that only the missing cartridge tells of.
        if let Body::Page(page) = record
            && taf_format::key::split(&page.chunk).unwrap().0 == b"a"
        {
            page.chunk = taf_format::key::chunk(&taf_format::key::of_path(b"b"), None).into();
        }
    }
    // Nobody knows whose it is, so it changes nothing: neither while it comes, nor when that broke off.
    let is_as_it_was = async || {
        let view = partial(&world, 3).await;
        assert_eq!(names(&view, b"b").await, Some((vec![], true)));
        assert_eq!(view.revision(), unmoved);
    };
    Box::pin(scan_broken(&world, key, &left, is_as_it_was())).await;
    is_as_it_was().await;
    let unclaimed = "archives WHERE ordinal = 77 AND state = 'unclaimed'";
    assert_eq!(world.count(unclaimed).await, 1);
    for revision in [&unmoved[..], b""] {
        assert_eq!(fetched(&world, revision).await.unwrap(), unmoved);
    }
}

#[tokio::test]
async fn what_had_nothing_of_its_own_is_shown_as_itself_and_says_what_it_lacks() {
    let first = [("a/1", 1, 0)];
    let second = [("a/1", 1, 0), ("b/1", 1, 0), ("y", 3, 0)];
    let third = [second.as_slice(), &[("c/1", 1, 0)]].concat();
    let fifth = [second.as_slice(), &[("c/2", 1, 0)]].concat();
    let trees = [&first[..], &second, &third, &third, &fifth].map(Tree::of);
    let world = without_the_second(&trees).await;
    let not_met = "its bytes were not met since the catalog was rebuilt (volume TAF002L9)";
    let unknown = "unknown since version 2 (volume TAF002L9)";

    let fourth = partial(&world, 4).await;
    let versions = search::Versions::of(&fourth).await.unwrap();
    let found = search::find(&world.store, versions, search::Wanted::default()).unwrap();
    let batches: Vec<_> = found.try_collect().await.unwrap();
    let hits: Vec<_> = batches.into_iter().flat_map(|batch| batch.hits).collect();
    let numbers = hits.iter().map(|hit| (hit.oldest, hit.newest, hit.count));
    assert_eq!(
        numbers.collect::<BTreeSet<_>>(),
        BTreeSet::from([(4, 4, 1)])
    );
    let shown = hits.iter().map(|hit| {
        let path = [&hit.directory[..], b"/", &hit.entry.name].concat();
        let path = path.strip_prefix(b"/").unwrap_or(&path).to_vec();
        (path, Shown::Entry(&hit.entry))
    });
    let shown: Vec<(Vec<u8>, Shown)> = shown.collect();
    let lacking = gap::lacks(&fourth, &shown).await.unwrap();
    let names = hits.iter().map(|hit| hit.entry.name.as_slice());
    let found: Vec<_> = names.zip(lacking.iter().map(Option::as_deref)).collect();
    let expected = [
        (&b"a"[..], Some(unknown)),
        (b"b", Some(unknown)),
        (b"c", None),
        (b"y", Some(not_met)),
        (b"1", None),
    ];
    assert_eq!(found, expected);

    // In the first version, which is whole, it was not there; in the second, of which nothing came back, it can't be told.
    let client = world.store.client().await.unwrap();
    let mut versions = Vec::new();
    for number in [5, 4, 3, 1] {
        let version = versions::version_look(&client, world.line, number).await;
        versions.push(version.unwrap().unwrap());
    }
    let past = async |path: &str| {
        let states = search::states(&world.store, versions.clone(), path.into());
        let states: Vec<_> = states.try_collect().await.unwrap();
        let told = states
            .into_iter()
            .map(|it| (it.newest.version, it.count, it.lacks));
        told.collect::<Vec<_>>()
    };
    assert_eq!(
        past("y").await,
        [(5, 3, Some(not_met.to_owned())), (1, 1, None)]
    );
    assert_eq!(
        past("a/1").await,
        [(5, 3, Some(unknown.to_owned())), (1, 1, None)]
    );
    assert_eq!(
        past("c/1").await,
        [(5, 1, None), (4, 2, None), (1, 1, None)]
    );
}

#[tokio::test]
async fn what_leads_to_all_that_is_chosen_is_not_told_from_half_a_listing() {
    // The root in three chunks: the one in the middle begins with a directory.
    let cuts = (0..).map(|n| format!("m{n}"));
    let mut cuts = cuts.filter(|name| Chunker::begins_at(name.as_bytes()));
    let (middle, end) = (cuts.next().unwrap(), cuts.next().unwrap());
    let (middle, end) = if middle < end {
        (middle, end)
    } else {
        (end, middle)
    };
    let (file, gone) = (format!("{middle}/1"), format!("{middle}-"));
    let tree = |size, extra: bool| {
        let mut files = vec![
            ("a", size, 0),
            (file.as_str(), 1, 0),
            (end.as_str(), size, 0),
        ];
        if extra {
            files.push((gone.as_str(), 1, 0));
        }
        Tree::of(&files)
    };
    let world = without_the_second(&[tree(1, true), tree(2, true), tree(2, false)]).await;
    let view = partial(&world, 3).await;
    assert_eq!(names(&view, b"").await, Some((vec![middle.clone()], true)));
    let selection = Selection::resolve(&view, &[]).await.unwrap();
    let told = selection.leading(&view, 1).await;
    assert!(matches!(told, Err(Error::Unknown { .. })), "{told:?}");
    let below = Selection::resolve(&view, &[middle.clone().into_bytes()]).await;
    let told = below.unwrap().leading(&view, 1).await.unwrap();
    assert_eq!(told, Some(middle.into_bytes()));
}
