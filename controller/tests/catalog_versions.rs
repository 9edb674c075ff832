//! Versions that build on others, against a real PostgreSQL: what a run is compared with, and what a version then needs.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "support/runs.rs"]
mod runs;
mod support;
#[path = "support/world.rs"]
mod world;

use runs::{ask, closing, compared, fetch, files, recalled, run, sizes, stream};
use taf_controller::store::{parts, versions};
use taf_core::catalog::{Kind, Promotion};
use taf_format::index::VersionType;
use taf_format::record;
use taf_proto::agent::{BackupDone, BaseKind, FetchBaseRequest};
use world::{Backup, Tree, World};

#[tokio::test]
async fn versions_that_build_on_others_show_and_need_all_of_what_they_hold() {
    let world = World::new().await;
    let first = Tree::of(&[
        ("a/1", 700, 0),
        ("a/2", 70, 0),
        ("b/c/1", 1_000, 0),
        ("z", 5, 0),
    ]);
    let mut second = first.clone();
    second.files.insert(b"a/3".to_vec(), (9_000, 0));
    second.files.remove(&b"b/c/1"[..]);
    let mut third = second.clone();
    third.files.insert(b"z".to_vec(), (6, 0));
    third.files.insert(b"b/d/1".to_vec(), (10, 0));
    let mut fourth = third.clone();
    fourth.files.remove(&b"a/3"[..]);

    world.back_up(&first, 2).await;
    run(&world, Kind::Incremental, &second).await;
    run(&world, Kind::Incremental, &third).await;
    run(&world, Kind::Differential, &fourth).await;
    run(&world, Kind::Incremental, &fourth).await;
    let trees = [&first, &second, &third, &fourth, &fourth];
    let kinds = [
        (VersionType::Full, 0, 1),
        (VersionType::Incremental, 1, 1),
        (VersionType::Incremental, 2, 1),
        (VersionType::Differential, 3, 1),
        (VersionType::Incremental, 4, 1),
    ];
    for (number, (tree, (kind, parent, floor))) in (1..).zip(trees.into_iter().zip(kinds)) {
        assert_eq!(files(&world, number).await, sizes(tree), "version {number}");
        let closing = closing(&world, number).await;
        assert_eq!(
            (closing.r#type(), closing.parent, closing.floor),
            (kind, parent, floor)
        );
        // Every item lies in a part that the restore is told of, and comes when that is read.
        let (archives, items) = recalled(&world, number).await;
        let places: Vec<(u32, u64)> = items
            .iter()
            .filter(|item| item.ancestor.is_none())
            .map(|item| (item.archive_ordinal, item.tar_offset))
            .collect();
        assert!(places.is_sorted(), "version {number}: {places:?}");
        assert!(places.iter().all(|(ordinal, _)| archives.contains(ordinal)));
    }
    // The last one wrote nothing, so it has no archive, but needs those of the others.
    assert_eq!(
        world
            .count("archives WHERE version = 5 AND state = 'abandoned'")
            .await,
        1
    );
    assert_eq!(world.count("pages WHERE version = 5").await, 0);
    let needed = async |version: i64| {
        let client = world.store.client().await.unwrap();
        let parts = parts::part_list_of_version(&client, world.line, version).await;
        let parts = parts.unwrap();
        parts
            .iter()
            .map(|p| (p.archive_ordinal, p.part_number))
            .collect::<Vec<_>>()
    };
    assert_eq!(needed(5).await, needed(4).await);
    assert!(needed(4).await.iter().any(|(ordinal, _)| *ordinal == 1));
    // The differential takes what is in the full from there, and all else it has itself.
    assert!(
        needed(4)
            .await
            .iter()
            .all(|(ordinal, _)| [1, 4].contains(ordinal))
    );
    assert!(closing(&world, 5).await.archives.is_empty());
}

#[tokio::test]
async fn a_lost_volume_takes_the_versions_with_it_that_need_it_and_the_next_run_says_why_it_is_full()
 {
    let world = World::new().await;
    let tree = Tree::of(&[("a", 700, 0)]);
    world.back_up(&tree, 1).await;
    let mut more = tree.clone();
    more.files.insert(b"b".to_vec(), (1, 0));
    run(&world, Kind::Incremental, &more).await;

    let mut client = world.store.client().await.unwrap();
    let tx = client.transaction().await.unwrap();
    versions::version_lost_on(&tx, world.recording, "volume TAF001L9 was erased")
        .await
        .unwrap();
    tx.commit().await.unwrap();
    for version in [1, 2] {
        let found = versions::version_get(&client, world.line, version).await;
        assert!(found.unwrap().unwrap().lost_reason.is_some());
    }
    let opened = world.attempt_at(Kind::Incremental).await.opened.opening;
    assert_eq!(
        (opened.kind, opened.parent, opened.floor, opened.promotion),
        (Kind::Full, 0, 3, Some(Promotion::BaseLost))
    );
}

#[tokio::test]
async fn a_base_is_served_to_its_own_backup_only() {
    let world = World::new().await;
    world.back_up(&Tree::of(&[("a", 700, 0)]), 1).await;
    let full = world.attempt_at(Kind::Full).await;
    let refused = stream(&world, full.key, BaseKind::Head, Vec::new()).await;
    assert_eq!(refused.unwrap_err().code(), tonic::Code::InvalidArgument);

    let attempt = world.attempt_at(Kind::Incremental).await;
    // The one before is over.
    let refused = stream(&world, full.key, BaseKind::Staged, Vec::new()).await;
    assert!(refused.is_err());
    let pages = stream(&world, attempt.key, BaseKind::Head, Vec::new()).await;
    let pages = pages.unwrap();
    assert_eq!(pages.len(), 1);
    let none = stream(&world, attempt.key, BaseKind::Staged, Vec::new()).await;
    assert_eq!(none.unwrap(), []);
    let asked = FetchBaseRequest {
        key: Some(attempt.key),
        kind: BaseKind::Head.into(),
        chunks: vec![b"nothing".to_vec().into(), pages[0].chunk.clone()],
        ..FetchBaseRequest::default()
    };
    assert_eq!(ask(&world, asked).await.unwrap(), pages);
}

#[tokio::test]
async fn a_page_may_name_archives_of_its_line_and_no_others() {
    let world = World::new().await;
    let tree = Tree::of(&[("a", 700, 0)]);
    let (abandoned, _) = {
        let attempt = world.attempt().await;
        (attempt.opened.ordinal as u32, attempt)
    };
    world.back_up(&tree, 1).await;
    let attempt = world.attempt_at(Kind::Incremental).await;
    let mut made = Backup::of(&tree, attempt.opened.ordinal as u32);
    for page in &mut made.pages {
        for entry in &mut page.entries {
            entry.place.as_mut().unwrap().archive_ordinal = abandoned;
        }
    }
    let part = made.parts(&world, &attempt, 1).await.remove(0);
    let refused = world.commit(&part).await.unwrap_err();
    assert!(
        refused.to_string().contains("which the line does not have"),
        "{refused}"
    );
}

#[tokio::test]
async fn nothing_is_published_of_a_version_without_a_base_that_has_nothing() {
    let world = World::new().await;
    let attempt = world.attempt().await;
    let done = BackupDone {
        unchanged: true,
        ..BackupDone::default()
    };
    assert!(world.publish_done(&attempt, &done).await.is_err());
}

/// The first of two parts of a backup is committed; then its attempt dies.
async fn dies_halfway(world: &World, kind: Kind, tree: &Tree) -> Backup {
    let attempt = world.attempt_at(kind).await;
    let made = Backup::of(tree, attempt.opened.ordinal as u32);
    let part = made.parts(world, &attempt, 2).await.remove(0);
    world.commit(&part).await.unwrap();
    made
}

fn large() -> Tree {
    Tree::of(&[
        ("a/1", 20_000, 0),
        ("b/1", 20_000, 0),
        ("c/1", 20_000, 0),
        ("d/1", 20_000, 0),
    ])
}

#[tokio::test]
async fn what_an_attempt_left_is_gone_on_with_and_counts() {
    let world = World::new().await;
    dies_halfway(&world, Kind::Full, &large()).await;
    let staged_before = world.count("pages").await;
    assert!(staged_before > 0);

    // What was committed of "a" is not any more what is there.
    let mut tree = large();
    tree.files.insert(b"a/2".to_vec(), (7, 0));
    let attempt = world.attempt_at(Kind::Full).await;
    let opening = attempt.opened.opening;
    assert!(opening.resumes && opening.begins_alone());
    assert_eq!((opening.version, opening.parent, opening.floor), (1, 0, 1));
    let staged = fetch(&world, attempt.key, BaseKind::Staged).await.unwrap();
    assert_eq!(staged.len() as i64, staged_before);
    let (made, gone) = compared(&tree, &attempt, &[&staged]);
    assert_eq!(gone, Vec::<Vec<u8>>::new());
    assert!(
        made.pages.len() < Backup::of(&tree, 2).pages.len(),
        "not all is sent again"
    );
    let part = made.parts(&world, &attempt, 1).await.remove(0);
    world.commit(&part).await.unwrap();
    world.publish(&attempt, &made).await.unwrap();

    assert_eq!(files(&world, 1).await, sizes(&tree));
    let closing = closing(&world, 1).await;
    let archives: Vec<u32> = closing.archives.iter().map(|a| a.ordinal).collect();
    assert_eq!(archives, [1, 2]);
    // A row that came twice counts for the later archive alone.
    let rows: u64 = closing
        .archives
        .iter()
        .flat_map(|a| &a.parts)
        .map(|p| p.row_count)
        .sum();
    assert_eq!(rows as i64, world.count("pages").await);
    let (archives, items) = recalled(&world, 1).await;
    assert_eq!(archives, [1, 2]);
    assert!(items.iter().any(|item| item.archive_ordinal == 1));
    assert_eq!(world.count("version_parts").await, 2);
}

#[tokio::test]
async fn an_attempt_with_nothing_left_to_do_publishes_what_others_left() {
    let world = World::new().await;
    world.back_up(&Tree::of(&[("z", 1, 0)]), 1).await;
    // All pages are committed, but the source agent dies before it says so.
    let first = world.attempt_at(Kind::Incremental).await;
    let head = fetch(&world, first.key, BaseKind::Head).await.unwrap();
    let (made, _) = compared(&large(), &first, &[&head]);
    let mut part = made.parts(&world, &first, 1).await.remove(0);
    record::encode(&record::tombstone(b"gone".to_vec()), &mut part.records).unwrap();
    world.commit(&part).await.unwrap();

    let second = world.attempt_at(Kind::Incremental).await;
    assert!(second.opened.opening.resumes);
    let staged = fetch(&world, second.key, BaseKind::Staged).await.unwrap();
    assert_eq!(
        staged.get(&b"gone"[..]),
        Some(&None),
        "tombstones are told of"
    );
    let done = BackupDone {
        unchanged: true,
        ..BackupDone::default()
    };
    world.publish_done(&second, &done).await.unwrap();
    assert_eq!(files(&world, 2).await, sizes(&large()));
    let archives: Vec<u32> = closing(&world, 2)
        .await
        .archives
        .iter()
        .map(|a| a.ordinal)
        .collect();
    assert_eq!(archives, [first.opened.ordinal as u32]);
}

#[tokio::test]
async fn what_was_made_for_something_else_goes_before_its_number_is_used_again() {
    let world = World::new().await;
    world.back_up(&large(), 1).await;
    dies_halfway(&world, Kind::Incremental, &large()).await;
    assert!(world.count("pages WHERE version = 2").await > 0);
    let full = world.attempt_at(Kind::Full).await;
    assert!(!full.opened.opening.resumes);
    assert_eq!(world.count("pages WHERE version = 2").await, 0);
    assert_eq!(world.count("archives WHERE state = 'abandoned'").await, 1);
    // Of what is on a cartridge that was erased nothing can be gone on with.
    dies_halfway(&world, Kind::Full, &large()).await;
    let client = world.store.client().await.unwrap();
    client
        .execute("UPDATE volumes SET recording_uuid = volume_uuid", &[])
        .await
        .unwrap();
    let again = world.attempt_at(Kind::Full).await;
    assert!(!again.opened.opening.resumes);
}
