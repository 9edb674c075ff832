//! Cartridges that are taken in while rows go, and bring versions that need some of these, or bring rows back; and while a backup runs.

use std::collections::BTreeSet;

use taf_controller::catalog::check::{self, Told};
use taf_controller::catalog::vacuum::{self, Sweep};
use taf_controller::store::retention::version_protected_by;
use taf_core::catalog::Kind;
use taf_proto::agent::AssignmentKey;
use tokio::sync::mpsc;

use super::cartridges::{Cartridge, empty, rescanning, scan};
use super::given_up::{before, expire, findings, tidy};
use super::partial::made_then_second;
use super::runs::{files, sizes};
use super::standing;
use super::world::{Tree, World};

/// A full that has expired and is released, its incremental of which nobody knows yet, and another full; with the cartridges, the incremental
/// on the second. Rows of the full are there.
struct Late {
    world: World,
    key: AssignmentKey,
    cartridges: [Cartridge; 2],
    incremental: Tree,
}

impl Late {
    async fn new() -> Self {
        let full = [("a/1", 1, 0), ("b/1", 1, 0), ("c/1", 1, 0)];
        let incremental = [("a/1", 1, 0), ("b/1", 7, 0), ("c/1", 1, 0)];
        let trees = [&full[..], &incremental, &[("x", 1, 0)]].map(Tree::of);
        let kinds = [Kind::Full, Kind::Incremental, Kind::Full];
        let (world, key, cartridges) = made_then_second(kinds.into_iter().zip(&trees)).await;
        assert_eq!(standing(&world).await.0, BTreeSet::from([1, 3]));
        expire(&world, &[1]).await;
        assert_eq!(vacuum::release(&world.store).await.unwrap(), 1);
        let [_, incremental, _] = trees;
        Self {
            world,
            key,
            cartridges,
            incremental,
        }
    }

    async fn scan(&self, cartridge: usize) {
        let cartridge = &self.cartridges[cartridge];
        scan(&self.world, self.key, cartridge).await.unwrap();
    }

    /// The incremental is what it was, and nothing is left that nobody needs.
    async fn is_as_it_was(&self) {
        let world = &self.world;
        assert!(standing(world).await.1.is_empty());
        assert_eq!(files(world, 2).await, sizes(&self.incremental));
        assert_eq!(tidy(world).await, 0);
        assert_eq!(findings(world).await, Vec::<String>::new());
        assert_eq!(files(world, 2).await, sizes(&self.incremental));
    }
}

/// Goes on with a sweep to its end.
async fn end(world: &World, sweep: &mut Sweep) {
    while !sweep.step(&world.store, 2).await.unwrap() {}
}

#[tokio::test]
async fn a_sweep_takes_nothing_that_a_version_needs_which_came_since_it_began() {
    let late = Late::new().await;
    let mut sweep = Sweep::begin(&late.world.store).await.unwrap().unwrap();
    late.scan(1).await;
    assert!(standing(&late.world).await.1.is_empty(), "all is there");
    end(&late.world, &mut sweep).await;
    assert_eq!(sweep.removed, 1, "the full's b");
    late.is_as_it_was().await;
}

#[tokio::test]
async fn what_comes_back_behind_a_sweep_stays_as_far_as_it_is_needed_and_goes_with_the_next() {
    let late = Late::new().await;
    let world = &late.world;
    let rows = world.count("pages WHERE version = 1").await;
    let mut sweep = Sweep::begin(&world.store).await.unwrap().unwrap();
    while world.count("pages WHERE version = 1").await > 1 {
        assert!(!sweep.step(&world.store, 2).await.unwrap());
    }
    assert_eq!(sweep.removed as i64, rows - 1);
    late.scan(1).await;
    let (_, lacking) = standing(world).await;
    assert!(lacking.contains_key(&2), "{lacking:?}");
    // It is no run that builds on the full.
    let client = world.store.client().await.unwrap();
    let protector = version_protected_by(&client, world.line, 1).await.unwrap();
    assert_eq!(protector, None);
    late.scan(0).await;
    assert_eq!(world.count("pages WHERE version = 1").await, rows);
    end(world, &mut sweep).await;
    assert_eq!(
        world.count("versions WHERE vacuumed_at IS NOT NULL").await,
        0,
        "rows came behind it"
    );
    assert_eq!(tidy(world).await, 1, "the full's b");
    assert_eq!(
        world.count("versions WHERE vacuumed_at IS NOT NULL").await,
        1
    );
    late.is_as_it_was().await;
}

#[tokio::test]
async fn a_repair_takes_nothing_that_a_version_needs_which_came_since_it_was_found() {
    let late = Late::new().await;
    let client = late.world.store.client().await.unwrap();
    // A sweep has left them.
    let sql = "UPDATE versions SET vacuumed_at = now() WHERE pages_gone";
    client.batch_execute(sql).await.unwrap();
    drop(client);
    let (sender, mut told) = mpsc::channel(1);
    let store = late.world.store.clone();
    let checking = tokio::spawn(async move { check::check(&store, true, &sender).await });
    let mut found = false;
    while let Some(one) = told.recv().await {
        if let Told::Finding(finding) = one
            && finding.kind == "ROW_UNNEEDED"
            && !found
        {
            found = true;
            // Nobody listens to it meanwhile, so it is not at its repairs yet, before which it tells more than there is room for.
            late.scan(1).await;
        }
    }
    assert!(found);
    let summary = checking.await.unwrap().unwrap();
    assert_eq!(summary.repaired, 1, "the full's b");
    late.is_as_it_was().await;
}

#[tokio::test]
async fn a_record_of_a_later_number_waits_for_the_run_that_makes_one_below_it() {
    let trees = [1, 2, 3].map(|n| Tree::of(&[("a", n, 0)]));
    let kinds = [Kind::Full; 3];
    let (lost, _, [on_first, _]) = made_then_second(kinds.into_iter().zip(&trees)).await;
    drop(lost);
    let (mut world, key) = empty().await;
    scan(&world, key, &before(&on_first, 2)).await.unwrap();
    let client = world.store.client().await.unwrap();
    let row = client.query_one("SELECT id FROM lines WHERE head = 1", &[]);
    world.line = row.await.unwrap().get(0);
    let attempt = world.attempt_at(Kind::Full).await;
    assert_eq!(attempt.opened.version, 2);
    let key = rescanning(&world).await;
    let sql =
        "UPDATE attempts SET ended_at = NULL, verdict = 'none', seat = seat + 1 WHERE id = $1";
    client.execute(sql, &[&attempt.id]).await.unwrap();

    let error = scan(&world, key, &on_first).await.unwrap_err().to_string();
    let wanted =
        "makes version 2 of plan daily, and version 3 is on this cartridge already; cancel it";
    assert!(error.contains(wanted), "{error}");
    assert_eq!(world.count("lines WHERE head > 1").await, 0);
    world.end_attempts().await;
    scan(&world, rescanning(&world).await, &on_first)
        .await
        .unwrap();
    assert!(standing(&world).await.0.contains(&3));
}
