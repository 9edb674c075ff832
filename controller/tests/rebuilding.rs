//! A catalog that is lost and comes back from its cartridges: in any order, twice, with one of them missing at first, and with what
//! failed attempts left on them.
//!
//! `TAF_REBUILD_SEEDS` random courses are played, four if it is not set.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "support/cartridges.rs"]
mod cartridges;
#[path = "rebuilding/gaps.rs"]
mod gaps;
#[path = "rebuilding/given_up.rs"]
mod given_up;
#[path = "rebuilding/partial.rs"]
mod partial;
#[path = "support/runs.rs"]
mod runs;
mod served;
mod support;
#[path = "rebuilding/sweeping.rs"]
mod sweeping;
#[path = "rebuilding/told.rs"]
mod told;
#[path = "rebuilding/unclaimed.rs"]
mod unclaimed;
#[path = "rebuilding/unread.rs"]
mod unread;
#[allow(dead_code)]
#[path = "support/world.rs"]
mod world;

use std::collections::{BTreeMap, BTreeSet};

use cartridges::{
    Cartridge, as_seen, cartridges, empty, newest, newest_first, one_more, raw, rescanning, scan,
};
use prost::Message as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng, SeedableRng};
use runs::{fail, files, make, sizes};
use taf_core::catalog::Kind;
use taf_format::index::{Body, ClosingRecord};
use taf_proto::agent::AssignmentKey;
use uuid::Uuid;
use world::{Tree, World};

/// Versions that are readable, and what the others lack.
async fn standing(world: &World) -> (BTreeSet<i64>, BTreeMap<i64, String>) {
    let client = world.store.client().await.unwrap();
    let sql = "SELECT version, state, incomplete_reason FROM versions WHERE rebuilt_at IS NOT NULL";
    let (mut whole, mut lacking) = (BTreeSet::new(), BTreeMap::new());
    for row in client.query(sql, &[]).await.unwrap() {
        match row.get::<_, Option<String>>(2) {
            None => whole.insert(row.get(0)),
            Some(why) => lacking.insert(row.get(0), why).is_none(),
        };
    }
    (whole, lacking)
}

/// A tree that is a little other than the one before.
fn edited(random: &mut StdRng, tree: &Tree) -> Tree {
    let mut tree = tree.clone();
    for _ in 0..random.random_range(0..4) {
        let path = format!(
            "{}/{}/f{}",
            random.random_range(0..3),
            random.random_range(0..3),
            random.random_range(0..4)
        );
        if random.random_bool(0.3) {
            tree.files.remove(path.as_bytes());
        } else {
            tree.files
                .insert(path.into_bytes(), (random.random_range(1..9_000), 0));
        }
    }
    if random.random_bool(0.2) {
        let gone = format!("{}/", random.random_range(0..3));
        tree.files
            .retain(|path, _| !path.starts_with(gone.as_bytes()));
    }
    tree.files.insert(b"always".to_vec(), (1, 0));
    tree
}

/// What was backed up: a tree for each version.
struct Lost {
    trees: BTreeMap<i64, Tree>,
    cartridges: Vec<Cartridge>,
    closings: Vec<ClosingRecord>,
    line: Uuid,
}

async fn played(random: &mut StdRng) -> Lost {
    let mut world = World::new().await;
    let mut recordings = vec![world.recording];
    for barcode in ["TAF002L9", "TAF003L9"] {
        recordings.push(one_more(&world, barcode).await);
    }
    let (mut trees, mut left) = (BTreeMap::new(), Vec::new());
    let mut tree = edited(random, &Tree::default());
    for version in 1..=random.random_range(3..8) {
        let on = recordings[random.random_range(0..recordings.len())];
        let kind = [
            Kind::Full,
            Kind::Incremental,
            Kind::Incremental,
            Kind::Differential,
        ][random.random_range(0..4)];
        // Before it some fail that were to be of another kind, so that nobody goes on with what they left.
        while version > 1 && random.random_bool(0.3) {
            let failed = recordings[random.random_range(0..recordings.len())];
            world = world.on(failed).await;
            let other = match kind {
                Kind::Full => Kind::Incremental,
                _ => Kind::Full,
            };
            let attempt = world.attempt_at(other).await;
            if attempt.opened.opening.kind != kind
                && fail(&world, &attempt, &edited(random, &tree)).await
            {
                left.extend(newest(&world, failed).await);
            }
        }
        world = world.on(on).await;
        let attempt = world.attempt_at(kind).await;
        assert_eq!(attempt.opened.version, version);
        assert!(!attempt.opened.opening.resumes);
        make(&world, &attempt, &tree).await;
        trees.insert(version, tree.clone());
        tree = edited(random, &tree);
    }
    let client = world.store.client().await.unwrap();
    let rows = client
        .query("SELECT closing FROM versions ORDER BY version", &[])
        .await
        .unwrap();
    let closings: Vec<ClosingRecord> = rows
        .iter()
        .map(|row| ClosingRecord::decode(row.get::<_, &[u8]>(0)).unwrap())
        .collect();
    let line = client
        .query_one("SELECT line_uuid FROM lines WHERE id = $1", &[&world.line])
        .await
        .unwrap();
    let mut cartridges = cartridges(&world).await;
    // A run that had nothing of its own has its closing record where the one before it has its parts.
    let mut newest = None;
    for closing in &closings {
        newest = closing.archives.last().or(newest);
        if closing.archives.is_empty() {
            let on = &newest.unwrap().parts[0].recording_uuid;
            let cartridge = cartridges.iter_mut().find(|c| raw(c.recording) == *on);
            let record = Body::Closing(closing.encode_to_vec().into());
            cartridge.unwrap().records.push(record);
        }
    }
    for cartridge in &mut cartridges {
        cartridge.records = as_seen(&cartridge.records, &left);
        // Agents of before tell all in the order of the tape.
        if random.random_bool(0.7) {
            *cartridge = newest_first(cartridge);
        }
    }
    Lost {
        trees,
        cartridges,
        closings,
        line: line.get(0),
    }
}

impl Lost {
    /// Whether an archive is one of a version.
    fn lists(&self, ordinal: u32) -> bool {
        let mut archives = self.closings.iter().flat_map(|c| &c.archives);
        archives.any(|archive| archive.ordinal == ordinal)
    }

    /// The version whose closing record, on one of these cartridges, says what a version needs: its own or, if it had nothing of its own,
    /// that of the one before it.
    fn told(&self, version: i64, cartridges: &[Cartridge]) -> Option<i64> {
        let records = cartridges.iter().flat_map(|cartridge| &cartridge.records);
        let closings = records.filter_map(|record| match record {
            Body::Closing(bytes) => ClosingRecord::decode(bytes.clone()).ok(),
            _ => None,
        });
        let met: BTreeSet<i64> = closings.map(|closing| closing.version as i64).collect();
        let own = |of: i64| self.closings.iter().find(|c| c.version as i64 == of);
        let mut version = version;
        while !met.contains(&version) {
            if !own(version)?.archives.is_empty() {
                return None;
            }
            version -= 1;
        }
        Some(version)
    }

    /// Whether a version needs something of a recording, by its own record.
    fn needs(&self, version: i64, recording: Uuid) -> bool {
        let on = |ordinal: u32, number: u32| {
            let archives = self.closings.iter().flat_map(|c| &c.archives);
            let parts = archives
                .filter(|a| a.ordinal == ordinal)
                .flat_map(|a| &a.parts);
            parts
                .filter(|p| p.part_number == number)
                .any(|p| p.recording_uuid == raw(recording))
        };
        let record = self
            .closings
            .iter()
            .find(|c| c.version as i64 == version)
            .unwrap();
        let own = record
            .archives
            .iter()
            .flat_map(|a| a.parts.iter().map(|p| (a.ordinal, p.part_number)));
        let needed = record
            .needs
            .iter()
            .map(|n| (n.archive_ordinal, n.part_number));
        own.chain(needed)
            .any(|(ordinal, number)| on(ordinal, number))
    }
}

/// From now on the world's line is the one of this name that came back.
async fn rebuilt_line(world: &mut World, line: Uuid) {
    let client = world.store.client().await.unwrap();
    let row = client
        .query_one("SELECT id FROM lines WHERE line_uuid = $1", &[&line])
        .await
        .unwrap();
    world.line = row.get(0);
}

async fn course(seed: u64) {
    eprintln!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let lost = played(&mut random).await;
    let (mut world, key) = empty().await;
    let mut order = lost.cartridges.clone();
    order.shuffle(&mut random);
    let withheld = order.pop().unwrap();
    for cartridge in &order {
        scan(&world, key, cartridge).await.unwrap();
        if random.random_bool(0.3) {
            scan(&world, key, cartridge).await.unwrap();
        }
        // Whatever is whole by now is what it was.
        rebuilt_line(&mut world, lost.line).await;
        for version in standing(&world).await.0 {
            let (shown, was) = (files(&world, version).await, sizes(&lost.trees[&version]));
            assert_eq!(shown, was, "version {version}");
        }
    }

    // Without one cartridge: what needs nothing of it is as it was, and nothing else is shown.
    let (whole, lacking) = standing(&world).await;
    if !order.is_empty() {
        rebuilt_line(&mut world, lost.line).await;
    }
    for &version in &whole {
        assert!(
            !lost.needs(version, withheld.recording),
            "version {version} can't be whole"
        );
        assert_eq!(
            files(&world, version).await,
            sizes(&lost.trees[&version]),
            "version {version}"
        );
    }
    for (version, why) in &lacking {
        assert!(
            lost.needs(*version, withheld.recording),
            "version {version} lacks nothing: {why}"
        );
    }
    for &version in lacking.keys() {
        let told = lost.told(version, &order);
        gaps::check(&world, &lost, version, told, withheld.recording).await;
    }
    let highest = whole.iter().chain(lacking.keys()).max().copied();
    if let Some(highest) = highest {
        let client = world.store.client().await.unwrap();
        let row = client
            .query_one("SELECT head FROM lines WHERE id = $1", &[&world.line])
            .await
            .unwrap();
        assert_eq!(row.get::<_, i64>(0), highest, "no number is given again");
    }

    // With it all are there.
    scan(&world, key, &withheld).await.unwrap();
    rebuilt_line(&mut world, lost.line).await;
    let (whole, lacking) = standing(&world).await;
    assert!(lacking.is_empty(), "{lacking:?}");
    let last = *lost.trees.keys().max().unwrap();
    let open = format!("archives WHERE state IN ('closed', 'unclaimed') AND version <= {last}");
    assert_eq!(
        world.count(&open).await,
        0,
        "whose each archive is, is known"
    );
    assert_eq!(whole, (1..=last).collect(), "all versions");
    for &version in &whole {
        assert_eq!(
            files(&world, version).await,
            sizes(&lost.trees[&version]),
            "version {version}"
        );
    }

    // The next run has nothing to store, and goes on with the line.
    world.end_attempts().await;
    let attempt = world.attempt_at(Kind::Incremental).await;
    assert_eq!(
        (attempt.opened.version, attempt.opened.opening.parent),
        (last + 1, last)
    );
    let parts = world.count("parts").await;
    make(&world, &attempt, &lost.trees[&last]).await;
    assert_eq!(world.count("parts").await, parts, "nothing had changed");
    assert_eq!(files(&world, last + 1).await, sizes(&lost.trees[&last]));
    assert_eq!(world.count("pages_unclaimed").await, 0);
}

#[tokio::test]
async fn a_lost_catalog_comes_back_from_its_cartridges() {
    let seeds: u64 = std::env::var("TAF_REBUILD_SEEDS").map_or(4, |seeds| seeds.parse().unwrap());
    for seed in 0..seeds {
        course(seed).await;
    }
}

#[tokio::test]
async fn a_cartridge_of_another_installation_or_another_recording_is_not_taken_in() {
    let mut random = StdRng::seed_from_u64(7);
    let lost = played(&mut random).await;
    let (world, key) = empty().await;
    let mut foreign = lost.cartridges[0].clone();
    foreign.label.installation_uuid = raw(Uuid::new_v4());
    let error = scan(&world, key, &foreign).await.unwrap_err();
    assert!(error.to_string().contains("installation = "), "{error}");
    let mut other = lost.cartridges[0].clone();
    other.label.barcode = "OTHER".into();
    let error = scan(&world, key, &other).await.unwrap_err();
    assert!(error.to_string().contains("another recording"), "{error}");
    let stranger = AssignmentKey {
        attempt: key.attempt,
        ..AssignmentKey::default()
    };
    scan(&world, stranger, &lost.cartridges[0])
        .await
        .unwrap_err();
    assert_eq!(world.count("parts").await, 0);
    // A part of which something is missing is not taken in, and what came before it stays.
    let mut torn = lost.cartridges[0].clone();
    let at = torn
        .records
        .iter()
        .rposition(|r| matches!(r, Body::Page(_)))
        .unwrap();
    torn.records.remove(at);
    let error = scan(&world, key, &torn).await.unwrap_err();
    assert!(error.to_string().contains("are missing"), "{error}");
    let parts = torn
        .records
        .iter()
        .filter(|r| matches!(r, Body::Part(_)))
        .count() as i64;
    assert!(world.count("parts").await < parts);
}

#[tokio::test]
async fn a_backup_goes_on_above_what_is_not_whole() {
    // A course whose newest version needs a cartridge that is missing at first.
    for seed in 100.. {
        let mut random = StdRng::seed_from_u64(seed);
        let lost = played(&mut random).await;
        let last = *lost.trees.keys().max().unwrap();
        let needed: Vec<Cartridge> = lost
            .cartridges
            .iter()
            .filter(|c| lost.needs(last, c.recording))
            .cloned()
            .collect();
        let recorded = lost
            .closings
            .iter()
            .any(|c| c.version as i64 == last && !c.archives.is_empty());
        if needed.len() < 2 || !recorded {
            continue;
        }
        eprintln!("seed {seed}");
        let (mut world, key) = empty().await;
        let holds = |c: &Cartridge| {
            let closings = c.records.iter().filter_map(|r| match r {
                Body::Closing(bytes) => ClosingRecord::decode(bytes.clone()).ok(),
                _ => None,
            });
            closings.into_iter().any(|c| c.version as i64 == last)
        };
        let withheld = needed.iter().find(|c| !holds(c)).unwrap();
        for cartridge in lost
            .cartridges
            .iter()
            .filter(|c| c.recording != withheld.recording)
        {
            scan(&world, key, cartridge).await.unwrap();
        }
        rebuilt_line(&mut world, lost.line).await;
        let (_, lacking) = standing(&world).await;
        assert!(lacking.contains_key(&last), "{lacking:?}");

        world.end_attempts().await;
        let attempt = world.attempt_at(Kind::Incremental).await;
        let opening = attempt.opened.opening;
        assert_eq!(
            (attempt.opened.version, opening.kind, opening.parent),
            (last + 1, Kind::Full, 0)
        );
        let ordinals = lost
            .closings
            .iter()
            .flat_map(|c| &c.archives)
            .map(|a| a.ordinal as i32);
        assert!(
            attempt.opened.ordinal > ordinals.max().unwrap(),
            "no ordinal is given again"
        );
        let tree = Tree::of(&[("new", 5, 0)]);
        make(&world, &attempt, &tree).await;

        // The missing one comes later, and all is as it was.
        let key = rescanning(&world).await;
        scan(&world, key, withheld).await.unwrap();
        let (_, lacking) = standing(&world).await;
        assert!(lacking.is_empty(), "{lacking:?}");
        for (&version, tree) in &lost.trees {
            assert_eq!(
                files(&world, version).await,
                sizes(tree),
                "version {version}"
            );
        }
        assert_eq!(files(&world, last + 1).await, sizes(&tree));
        return;
    }
}

#[tokio::test]
async fn what_a_failed_attempt_left_is_in_no_version() {
    let mut random = StdRng::seed_from_u64(3);
    let lost = played(&mut random).await;
    let (mut world, key) = empty().await;
    for cartridge in &lost.cartridges {
        scan(&world, key, cartridge).await.unwrap();
    }
    rebuilt_line(&mut world, lost.line).await;
    let rows = world.count("pages").await;

    // A part under the number of a version that is readable by now, which does not list its archive.
    let mut other = lost.cartridges[0].clone();
    let begin = other
        .records
        .iter()
        .position(|r| matches!(r, Body::Part(_)))
        .unwrap();
    let end = other
        .records
        .iter()
        .position(|r| matches!(r, Body::PartEnd(_)))
        .unwrap();
    let mut left = other.records[begin..=end].to_vec();
    if let Body::Part(part) = &mut left[0] {
        part.archive_uuid = raw(Uuid::new_v4());
        part.archive_ordinal = 77;
        (part.tape_file, part.first_block) = (other.end.0, other.end.1);
    }
    for record in &mut left {
        if let Body::Page(page) = record {
            page.chunk = [&page.chunk[..], b"\0ghost"].concat().into();
        }
    }
    other.records.extend(left);
    other.end = (other.end.0 + 1, other.end.1 + 100);
    scan(&world, key, &other).await.unwrap();
    assert_eq!(
        world
            .count("archives WHERE ordinal = 77 AND state = 'abandoned'")
            .await,
        1
    );
    assert_eq!(world.count("pages").await, rows, "none of its rows counts");
    for (&version, tree) in &lost.trees {
        assert_eq!(
            files(&world, version).await,
            sizes(tree),
            "version {version}"
        );
    }
}

#[tokio::test]
async fn a_part_comes_back_although_a_later_version_is_whole_without_it() {
    // An archive of two parts on two cartridges: the second version has anew what the second part holds.
    let world = World::new().await;
    let second = one_more(&world, "TAF002L9").await;
    let tree = Tree::of(&[("a/1", 16_000, 0), ("b/2", 16_000, 0)]);
    let attempt = world.attempt_at(Kind::Full).await;
    let backup = world::Backup::of(&tree, attempt.opened.ordinal as u32);
    let mut parts = backup.parts_at(world.recording, (1, 4), &attempt, 2);
    let on_second = backup.parts_at(second, (1, 4), &attempt, 2);
    let mut moved = on_second[1].clone();
    (moved.header.tape_file, moved.header.first_block) = (1, 4);
    moved.header.next_tape_file = 2;
    moved.header.next_block = 4 + moved.header.block_count + 1;
    parts.truncate(1);
    let client = world.store.client().await.unwrap();
    let sql = "INSERT INTO attempt_volumes (attempt_id, ordinal, volume_id, held, first_step, reserved_at, cartridge) \
               SELECT $1, 2, id, false, 1, now(), barcode FROM volumes WHERE recording_uuid = $2";
    client.execute(sql, &[&attempt.id, &second]).await.unwrap();
    drop(client);
    world.commit(&parts[0]).await.unwrap();
    world.commit(&moved).await.unwrap();
    world.publish(&attempt, &backup).await.unwrap();
    let attempt = world.attempt_at(Kind::Incremental).await;
    let later = Tree::of(&[("a/1", 16_000, 0)]);
    make(&world, &attempt, &later).await;
    let found = cartridges(&world).await;
    assert_eq!(found.len(), 2);

    let (mut back, key) = empty().await;
    scan(&back, key, &found[0]).await.unwrap();
    let (whole, lacking) = standing(&back).await;
    assert!(lacking.contains_key(&1), "{whole:?} {lacking:?}");
    scan(&back, key, &found[1]).await.unwrap();
    let (whole, lacking) = standing(&back).await;
    assert!(
        lacking.is_empty() && whole == BTreeSet::from([1, 2]),
        "{lacking:?}"
    );
    let client = back.store.client().await.unwrap();
    let row = client
        .query_one("SELECT id FROM lines WHERE head = 2", &[])
        .await
        .unwrap();
    back.line = row.get(0);
    drop(client);
    assert_eq!(files(&back, 1).await, sizes(&tree));
    assert_eq!(files(&back, 2).await, sizes(&later));
}
