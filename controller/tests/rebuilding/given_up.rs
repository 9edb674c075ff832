//! Versions that were given up, or let go, before a cartridge came: what of them others need, and what goes.

use std::collections::BTreeSet;

use prost::Message as _;
use taf_controller::catalog::vacuum::{self, Sweep};
use taf_controller::catalog::{View, check, hold_on};
use taf_controller::store::{expiry, lines, partials};
use taf_core::catalog::Kind;
use taf_format::index::{Body, ClosingRecord};
use tokio::sync::mpsc;

use super::cartridges::{Cartridge, empty, rescanning, scan};
use super::partial::{first_then_second, made_then_second, partial, trees};
use super::runs::{files, make, sizes};
use super::standing;
use super::world::{Tree, World};

/// As `taf version expire --force` does.
pub async fn give_up(world: &World, version: i64) {
    let mut client = world.store.client().await.unwrap();
    let tx = client.transaction().await.unwrap();
    lines::line_lock_on(&tx, world.line).await.unwrap();
    hold_on(&tx, world.line).await.unwrap();
    let done = partials::version_give_up_on(&tx, world.line, version, "test").await;
    assert!(done.unwrap());
    tx.commit().await.unwrap();
}

pub async fn expire(world: &World, versions: &[i64]) {
    let mut client = world.store.client().await.unwrap();
    let tx = client.transaction().await.unwrap();
    lines::line_lock_on(&tx, world.line).await.unwrap();
    let expired = expiry::version_expire_on(&tx, world.line, versions, "test").await;
    assert_eq!(expired.unwrap().len(), versions.len());
    tx.commit().await.unwrap();
}

/// All that the background does, to the end; gives how many rows went.
pub async fn tidy(world: &World) -> u64 {
    vacuum::release(&world.store).await.unwrap();
    vacuum::free_volumes(&world.store).await.unwrap();
    let mut removed = 0;
    while let Some(mut sweep) = Sweep::begin(&world.store).await.unwrap() {
        while !sweep.step(&world.store, 3).await.unwrap() {}
        removed += sweep.removed;
    }
    removed
}

/// What the check of the catalog finds.
pub async fn findings(world: &World) -> Vec<String> {
    let (sender, mut told) = mpsc::channel(4);
    let listening = tokio::spawn(async move { while told.recv().await.is_some() {} });
    let found = check::check(&world.store, false, &sender).await.unwrap();
    drop(sender);
    listening.await.unwrap();
    found.kinds.keys().map(ToString::to_string).collect()
}

/// Barcodes of the volumes that nobody needs.
async fn free(world: &World) -> Vec<String> {
    let client = world.store.client().await.unwrap();
    let sql = "SELECT barcode FROM volumes WHERE freed_at IS NOT NULL AND state <> 'unlabelled' ORDER BY barcode";
    let rows = client.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Closing records alone, as if no part could be read before the scan broke off.
pub fn records_of(cartridge: &Cartridge) -> Cartridge {
    let mut told = cartridge.clone();
    told.end = (1, 4);
    told.records.retain(|body| matches!(body, Body::Closing(_)));
    told
}

/// What is on a cartridge before the first part of a version.
pub fn before(cartridge: &Cartridge, version: u64) -> Cartridge {
    let mut told = cartridge.clone();
    let mut of = 0;
    told.records.retain(|body| {
        match body {
            Body::Part(part) => of = part.version,
            Body::Closing(bytes) => of = ClosingRecord::decode(bytes.clone()).unwrap().version,
            _ => {}
        }
        of < version
    });
    told
}

#[tokio::test]
async fn what_was_given_up_stays_so_and_what_comes_of_it_serves_others() {
    let (world, key, [_, second]) = first_then_second(&trees()).await;
    scan(&world, key, &records_of(&second)).await.unwrap();
    let (whole, lacking) = standing(&world).await;
    assert_eq!(whole, BTreeSet::from([1]));
    assert_eq!(lacking.into_keys().collect::<Vec<_>>(), [2, 3]);

    // As if a controller had ended before it counted what the third one needs.
    let needed = "version_parts WHERE version = 3";
    let held = world.count(needed).await;
    assert!(held > 0);
    let mut client = world.store.client().await.unwrap();
    client
        .batch_execute("DELETE FROM version_parts WHERE version = 3")
        .await
        .unwrap();
    let tx = client.transaction().await.unwrap();
    lines::line_lock_on(&tx, world.line).await.unwrap();
    hold_on(&tx, world.line).await.unwrap();
    for given_up in [true, false] {
        let done = partials::version_give_up_on(&tx, world.line, 2, "test").await;
        assert_eq!(done.unwrap(), given_up);
    }
    tx.commit().await.unwrap();
    drop(client);
    assert_eq!(vacuum::release(&world.store).await.unwrap(), 1);
    assert_eq!(world.count(needed).await, held);
    let view = View::open_restored(&world.store, world.line, 2).await;
    assert!(view.unwrap().is_none());

    scan(&world, key, &second).await.unwrap();
    let (whole, lacking) = standing(&world).await;
    assert_eq!(whole, BTreeSet::from([1, 3]));
    assert_eq!(lacking.into_keys().collect::<Vec<_>>(), [2]);
    let third = trees().pop().unwrap();
    assert_eq!(files(&world, 3).await, sizes(&third));
    // What only it would need holds no volume.
    assert_eq!(world.count("archives WHERE state = 'closed'").await, 0);
    let held = "version_parts WHERE version = 2";
    assert_eq!(world.count(held).await, 0);
}

#[tokio::test]
async fn what_was_given_up_and_swept_gives_others_what_they_need_when_its_cartridge_comes() {
    let first = [("a/1", 1, 0), ("b/1", 1, 0), ("e/1", 1, 0)];
    // Of the second the third needs b, and has nothing of c, d and e any more.
    let second = [("a/1", 1, 0), ("b/1", 7, 0), ("c/1", 2, 0), ("d/1", 3, 0)];
    let third = [("a/1", 1, 0), ("b/1", 7, 0), ("c/2", 2, 0), ("f/1", 1, 0)];
    let trees = [&first[..], &second, &third].map(Tree::of);
    let (world, key, [on_first, on_second]) = first_then_second(&trees).await;
    scan(&world, key, &records_of(&on_second)).await.unwrap();
    give_up(&world, 2).await;
    let shown = partial(&world, 3).await.revision();
    tidy(&world).await;
    assert_eq!(world.count("versions WHERE vacuumed_at IS NULL").await, 2);
    assert_eq!(partial(&world, 3).await.revision(), shown);
    assert_eq!(files(&world, 1).await, sizes(&trees[0]));
    assert_eq!(free(&world).await, Vec::<String>::new());
    assert_eq!(findings(&world).await, Vec::<String>::new());

    scan(&world, key, &on_second).await.unwrap();
    for twice in [false, true] {
        let (whole, lacking) = standing(&world).await;
        assert_eq!(whole, BTreeSet::from([1, 3]));
        assert_eq!(lacking.into_keys().collect::<Vec<_>>(), [2]);
        assert_eq!(files(&world, 1).await, sizes(&trees[0]));
        assert_eq!(files(&world, 3).await, sizes(&trees[2]));
        let view = View::open_restored(&world.store, world.line, 2).await;
        assert!(view.unwrap().is_none(), "it stays given up");
        // What came with it and nobody needs goes again.
        assert_eq!(tidy(&world).await > 0, !twice);
        assert_eq!(free(&world).await, Vec::<String>::new());
        assert_eq!(findings(&world).await, Vec::<String>::new());
    }

    // When the third goes as well, nothing holds the second volume, nor any row.
    world.end_attempts().await;
    let world = world.on(on_first.recording).await;
    make(&world, &world.attempt_at(Kind::Full).await, &trees[2]).await;
    world.end_attempts().await;
    expire(&world, &[1, 3]).await;
    tidy(&world).await;
    assert_eq!(free(&world).await, ["TAF002L9"]);
    assert_eq!(world.count("pages WHERE version < 4").await, 0);
    assert_eq!(files(&world, 4).await, sizes(&trees[2]));
    assert_eq!(findings(&world).await, Vec::<String>::new());
    // It may come once more.
    scan_again(&world, &on_first, &on_second).await;
    tidy(&world).await;
    assert_eq!(free(&world).await, ["TAF002L9"]);
    assert_eq!(findings(&world).await, Vec::<String>::new());
}

/// Both cartridges, by a new job.
async fn scan_again(world: &World, first: &Cartridge, second: &Cartridge) {
    let key = rescanning(world).await;
    for cartridge in [first, second] {
        scan(world, key, cartridge).await.unwrap();
    }
    world.end_attempts().await;
}

#[tokio::test]
async fn listings_that_went_before_somebody_was_known_to_need_them_come_back_with_their_cartridge()
{
    let first = [("a/1", 1, 0), ("b/1", 1, 0), ("c/1", 1, 0)];
    let second = [("a/1", 1, 0), ("b/1", 7, 0), ("c/1", 1, 0)];
    let trees = [&first[..], &second, &[("x", 1, 0)]].map(Tree::of);
    let kinds = [Kind::Full, Kind::Incremental, Kind::Full];
    let (world, key, [on_first, on_second]) = made_then_second(kinds.into_iter().zip(&trees)).await;
    // Nobody knows of the second.
    assert_eq!(standing(&world).await.0, BTreeSet::from([1, 3]));
    expire(&world, &[1]).await;
    assert!(tidy(&world).await > 0);
    assert_eq!(world.count("pages WHERE version = 1").await, 0);

    scan(&world, key, &on_second).await.unwrap();
    let (whole, lacking) = standing(&world).await;
    assert_eq!(whole, BTreeSet::from([1, 3]));
    let why = &lacking[&2];
    assert!(why.ends_with("taf catalog rebuild TAF001L9"), "{why}");
    let view = partial(&world, 2).await;
    let unknown = view.gap().unwrap().unknown().unwrap();
    assert!(
        unknown.contains("taf catalog rebuild --status"),
        "{unknown}"
    );

    scan(&world, key, &on_first).await.unwrap();
    assert!(standing(&world).await.1.is_empty());
    assert_eq!(files(&world, 2).await, sizes(&trees[1]));
    let view = View::open_restored(&world.store, world.line, 1).await;
    assert!(view.unwrap().is_none(), "it has expired");
    // Only what the second needs stays.
    assert_eq!(tidy(&world).await, 1, "the first one's b");
    assert_eq!(files(&world, 2).await, sizes(&trees[1]));
    assert_eq!(findings(&world).await, Vec::<String>::new());
    scan(&world, key, &on_first).await.unwrap();
    assert_eq!(tidy(&world).await, 0, "nobody misses anything");
}

#[tokio::test]
async fn what_is_as_one_that_was_given_up_says_so() {
    let trees = trees();
    let same = [&trees[0], &trees[1], &trees[1], &trees[2]].map(Clone::clone);
    let (lost, _, [on_first, on_second]) = first_then_second(&same).await;
    drop(lost);
    let (mut world, key) = empty().await;
    scan(&world, key, &before(&on_first, 2)).await.unwrap();
    scan(&world, key, &records_of(&on_second)).await.unwrap();
    let client = world.store.client().await.unwrap();
    let row = client
        .query_one("SELECT id FROM lines WHERE head = 2", &[])
        .await;
    world.line = row.unwrap().get(0);
    drop(client);
    give_up(&world, 2).await;
    scan(&world, key, &on_first).await.unwrap();
    let given_up = "nothing had changed since version 2, which was given up";
    assert_eq!(standing(&world).await.1[&3], given_up);
    vacuum::release(&world.store).await.unwrap();
    let view = partial(&world, 3).await;
    let unknown = view.gap().unwrap().unknown().unwrap();
    assert_eq!(unknown, format!("unknown ({given_up})"));

    // It stays so, and can be given up itself.
    scan(&world, key, &on_second).await.unwrap();
    let (whole, lacking) = standing(&world).await;
    assert_eq!(whole, BTreeSet::from([1, 4]));
    assert_eq!(lacking[&3], given_up);
    assert_eq!(files(&world, 4).await, sizes(&trees[2]));
    give_up(&world, 3).await;
}
