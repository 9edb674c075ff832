//! What was met on cartridges and no closing record claims: it is shown in no version, and can be given up.

use prost::Message as _;
use taf_controller::catalog::{hold_on, vacuum};
use taf_controller::store::{expiry, lines, unclaimed};
use taf_core::catalog::Kind;
use taf_format::index::{Body, ClosingRecord};
use taf_proto::agent::AssignmentKey;
use uuid::Uuid;

use super::cartridges::{
    Cartridge, as_seen, cartridges, empty, newest, newest_first, one_more, rescanning, scan,
};
use super::runs::{fail, files, make, sizes};
use super::world::{Tree, World};
use super::{rebuilt_line, standing};

/// Three versions and the cartridges that they are on: the first and the third on one, the second on another; and a third one with what
/// a failed attempt at the second left. The third version has anew all that the second one wrote, and so needs nothing of it.
struct Played {
    trees: [Tree; 3],
    first: Cartridge,
    second: Cartridge,
    stray: Cartridge,
    line: Uuid,
}

impl Played {
    async fn new() -> Self {
        let trees = [
            [("a/1", 1, 0), ("b/1", 1, 0)],
            [("a/1", 2, 0), ("b/1", 1, 0)],
            [("a/1", 3, 0), ("b/1", 1, 0)],
        ]
        .map(|files| Tree::of(&files));
        let mut world = World::new().await;
        let first = world.recording;
        let second = one_more(&world, "TAF002L9").await;
        let stray = one_more(&world, "TAF003L9").await;
        let client = world.store.client().await.unwrap();
        let line = "SELECT line_uuid FROM lines WHERE id = $1";
        let line = client.query_one(line, &[&world.line]).await.unwrap().get(0);
        drop(client);
        make(&world, &world.attempt_at(Kind::Full).await, &trees[0]).await;

        // While it ran, b had another file, and the one that it has now was not there.
        world = world.on(stray).await;
        let attempt = world.attempt_at(Kind::Full).await;
        let seen = Tree::of(&[("a/1", 1, 0), ("b/2", 9, 0), ("c/1", 4, 0)]);
        assert!(fail(&world, &attempt, &seen).await);
        let left = newest(&world, stray).await;

        world = world.on(second).await;
        let attempt = world.attempt_at(Kind::Incremental).await;
        assert_eq!(attempt.opened.version, 2);
        make(&world, &attempt, &trees[1]).await;
        world = world.on(first).await;
        make(
            &world,
            &world.attempt_at(Kind::Incremental).await,
            &trees[2],
        )
        .await;
        let found = cartridges(&world).await;
        let of = |recording| {
            let mut found = found
                .iter()
                .find(|c| c.recording == recording)
                .unwrap()
                .clone();
            found.records = as_seen(&found.records, &left);
            found
        };
        Self {
            trees,
            first: of(first),
            second: of(second),
            stray: of(stray),
            line,
        }
    }

    /// An empty catalog that takes in the first cartridge and the one with what was left.
    async fn without_the_second(&self) -> (World, AssignmentKey) {
        let (mut world, key) = empty().await;
        scan(&world, key, &self.first).await.unwrap();
        scan(&world, key, &self.stray).await.unwrap();
        rebuilt_line(&mut world, self.line).await;
        (world, key)
    }

    /// These versions came back whole, and no others.
    async fn are_as_they_were(&self, world: &World, versions: &[i64]) {
        let (whole, _) = standing(world).await;
        assert_eq!(whole.into_iter().collect::<Vec<_>>(), versions);
        self.are_as_they_were_of(world, versions).await;
    }

    async fn are_as_they_were_of(&self, world: &World, versions: &[i64]) {
        for version in versions {
            let was = sizes(&self.trees[*version as usize - 1]);
            assert_eq!(files(world, *version).await, was, "version {version}");
        }
    }
}

/// Gives a number up, of which no record tells; false if there is none.
async fn give_up(world: &World, version: i64) -> bool {
    let mut client = world.store.client().await.unwrap();
    let tx = client.transaction().await.unwrap();
    lines::line_lock_on(&tx, world.line).await.unwrap();
    hold_on(&tx, world.line).await.unwrap();
    let done = unclaimed::version_give_up_untold_on(&tx, world.line, version).await;
    tx.commit().await.unwrap();
    done.unwrap()
}

/// Barcodes of the volumes on which nothing is needed.
async fn free(world: &World) -> Vec<String> {
    let mut client = world.store.client().await.unwrap();
    let tx = client.transaction().await.unwrap();
    expiry::volume_free_on(&tx).await.unwrap();
    tx.commit().await.unwrap();
    let sql = "SELECT barcode FROM volumes WHERE freed_at IS NOT NULL ORDER BY barcode";
    let rows = client.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn what_a_failed_attempt_left_is_in_no_version_before_its_record_comes_either() {
    let played = Played::new().await;
    let (world, key) = played.without_the_second().await;
    // The record of the second version is on the missing cartridge, and the third one needs nothing of that.
    played.are_as_they_were(&world, &[1, 3]).await;
    assert!(world.count("pages_unclaimed").await > 0);
    assert!(
        free(&world).await.is_empty(),
        "it may be part of the second"
    );

    scan(&world, key, &played.second).await.unwrap();
    played.are_as_they_were(&world, &[1, 2, 3]).await;
    assert_eq!(world.count("pages_unclaimed").await, 0);
    assert_eq!(world.count("archives WHERE state = 'abandoned'").await, 1);
    assert_eq!(free(&world).await, ["TAF003L9"]);
}

#[tokio::test]
async fn in_whichever_order_cartridges_come() {
    let played = Played::new().await;
    let all = [&played.first, &played.second, &played.stray];
    for order in [[0, 1, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let (mut world, key) = empty().await;
        for at in order {
            scan(&world, key, all[at]).await.unwrap();
            scan(&world, key, all[at]).await.unwrap();
        }
        rebuilt_line(&mut world, played.line).await;
        played.are_as_they_were(&world, &[1, 2, 3]).await;
        assert_eq!(world.count("pages_unclaimed").await, 0);
        assert_eq!(free(&world).await, ["TAF003L9"], "{order:?}");
    }
}

#[tokio::test]
async fn a_number_of_which_no_record_tells_can_be_given_up() {
    let played = Played::new().await;
    let (world, key) = played.without_the_second().await;
    let client = world.store.client().await.unwrap();
    let met = unclaimed::version_untold(&client, world.line, 2).await;
    let met = met.unwrap().unwrap();
    assert_eq!(
        (met.parts, &met.volumes[..]),
        (1, &["TAF003L9".to_owned()][..])
    );
    for whole in [1, 3] {
        let none = unclaimed::version_untold(&client, world.line, whole).await;
        assert!(none.unwrap().is_none(), "version {whole}");
        assert!(!give_up(&world, whole).await);
    }
    drop(client);
    assert!(give_up(&world, 2).await);
    assert!(!give_up(&world, 2).await);
    assert_eq!(world.count("pages_unclaimed").await, 0);
    assert_eq!(free(&world).await, ["TAF003L9"]);
    // Met again, it is what was given up.
    scan(&world, key, &played.stray).await.unwrap();
    assert_eq!(world.count("pages_unclaimed").await, 0);
    played.are_as_they_were(&world, &[1, 3]).await;
    scan(&world, key, &played.second).await.unwrap();
    played.are_as_they_were(&world, &[1, 2, 3]).await;
}

#[tokio::test]
async fn what_was_given_up_comes_back_when_its_record_does() {
    // Of the second version the part comes without its record, as if a volume index had not been written.
    let played = Played::new().await;
    let mut untold = played.second.clone();
    let closings = untold.records.len();
    untold
        .records
        .retain(|body| !matches!(body, Body::Closing(_)));
    assert!(untold.records.len() < closings);
    let (world, key) = played.without_the_second().await;
    scan(&world, key, &untold).await.unwrap();
    played.are_as_they_were(&world, &[1, 3]).await;
    assert!(give_up(&world, 2).await);
    assert_eq!(free(&world).await, ["TAF002L9", "TAF003L9"]);
    vacuum::release(&world.store).await.unwrap();

    // The record alone, and then the part again.
    let mut record = played.second.clone();
    record
        .records
        .retain(|body| matches!(body, Body::Closing(_)));
    scan(&world, key, &record).await.unwrap();
    let (_, lacking) = standing(&world).await;
    let why = lacking.get(&2).unwrap();
    assert!(
        why.contains("not met on any cartridge yet: part 1"),
        "{why}"
    );
    assert_eq!(free(&world).await, ["TAF003L9"], "it is needed again");
    scan(&world, key, &untold).await.unwrap();
    played.are_as_they_were(&world, &[1, 2, 3]).await;
}

#[tokio::test]
async fn a_run_takes_nothing_of_what_was_met_under_its_number() {
    let played = Played::new().await;
    let (mut world, key) = empty().await;
    // All that is there is a full backup, and what an attempt at the next one left.
    let mut first = played.first.clone();
    let end = |body: &Body| matches!(body, Body::PartEnd(_));
    let one = first.records.iter().position(end).unwrap() + 1;
    let record = first.records.iter().find(|body| {
        matches!(body, Body::Closing(bytes)
            if ClosingRecord::decode(bytes.clone()).unwrap().version == 1)
    });
    let record = record.unwrap().clone();
    first.records.truncate(one);
    first.records.push(record);
    scan(&world, key, &first).await.unwrap();
    rebuilt_line(&mut world, played.line).await;
    let client = world.store.client().await.unwrap();
    // Later ordinals were met, of an attempt that failed at another time.
    let sql = "UPDATE lines SET next_ordinal = 10 WHERE id = $1";
    client.execute(sql, &[&world.line]).await.unwrap();
    drop(client);
    let attempt = world.attempt_at(Kind::Incremental).await;
    assert_eq!(attempt.opened.version, 2);

    // It comes while the run is at work.
    let key = rescanning(&world).await;
    scan(&world, key, &played.stray).await.unwrap();
    assert!(world.count("pages_unclaimed").await > 0);
    world.end_attempts().await;
    let client = world.store.client().await.unwrap();
    let sql = "UPDATE attempts SET ended_at = NULL, verdict = 'none' WHERE id = $1";
    client.execute(sql, &[&attempt.id]).await.unwrap();
    let sql = "UPDATE attempt_volumes SET held = true, cartridge = 'OTHER' WHERE attempt_id = $1";
    client.execute(sql, &[&attempt.id]).await.unwrap();
    drop(client);
    make(&world, &attempt, &played.trees[1]).await;
    assert_eq!(files(&world, 2).await, sizes(&played.trees[1]));
    assert_eq!(world.count("pages_unclaimed").await, 0);
    assert_eq!(world.count("archives WHERE state = 'abandoned'").await, 1);
}

/// The catalog as it was when a run was making the second version, whose part was on tape already; nobody has gone on with it since.
async fn yesterday(played: &Played) -> (World, AssignmentKey) {
    let (mut world, key) = empty().await;
    for cartridge in [&played.first, &played.second] {
        scan(&world, key, cartridge).await.unwrap();
    }
    rebuilt_line(&mut world, played.line).await;
    let client = world.store.client().await.unwrap();
    for sql in [
        "DELETE FROM version_parts WHERE version > 1",
        "DELETE FROM versions WHERE version = 3",
        "DELETE FROM pages WHERE version = 3",
        "DELETE FROM parts WHERE archive_id IN (SELECT id FROM archives WHERE version = 3)",
        "DELETE FROM archives WHERE version = 3",
        "UPDATE versions SET state = 'staged', published_at = NULL, rebuilt_at = NULL, closing = NULL WHERE version = 2",
        "UPDATE archives SET state = 'staged' WHERE version = 2",
        "UPDATE lines SET head = 1 WHERE head = 3",
    ] {
        client.batch_execute(sql).await.unwrap();
    }
    drop(client);
    (world, key)
}

#[tokio::test]
async fn a_run_that_an_older_catalog_knew_of_and_that_ended_well_is_built_on() {
    let played = Played::new().await;
    let (world, key) = yesterday(&played).await;
    let mut second = played.second.clone();
    second
        .records
        .retain(|body| matches!(body, Body::Closing(_)));
    scan(&world, key, &second).await.unwrap();
    played.are_as_they_were_of(&world, &[2]).await;
    assert_eq!(world.count("archives WHERE state <> 'published'").await, 0);

    // The next version needs what that one wrote.
    world.end_attempts().await;
    let attempt = world.attempt_at(Kind::Incremental).await;
    assert_eq!(attempt.opened.version, 3);
    let tree = Tree::of(&[("a/1", 2, 0), ("b/1", 5, 0)]);
    make(&world, &attempt, &tree).await;
    assert_eq!(files(&world, 3).await, sizes(&tree));
    let needed = "version_parts n JOIN parts x ON x.id = n.part_id JOIN archives a ON a.id = x.archive_id WHERE n.version = 3";
    assert_eq!(world.count(&format!("{needed} AND a.version = 2")).await, 1);
}

#[tokio::test]
async fn a_run_that_an_older_catalog_knew_of_is_put_aside_when_later_versions_are_known() {
    let played = Played::new().await;
    let (world, key) = yesterday(&played).await;
    // The third version is on the first cartridge; that with the second one's record is missing.
    scan(&world, key, &played.first).await.unwrap();
    played.are_as_they_were_of(&world, &[3]).await;
    assert!(world.count("pages_unclaimed").await > 0);
    assert_eq!(world.count("versions WHERE version = 2").await, 0);
    assert_eq!(world.count("archives WHERE state = 'unclaimed'").await, 1);
    let client = world.store.client().await.unwrap();
    let met = unclaimed::version_untold(&client, world.line, 2).await;
    assert_eq!(met.unwrap().unwrap().parts, 1);
    drop(client);
    assert!(!free(&world).await.contains(&"TAF002L9".to_owned()));

    scan(&world, key, &played.second).await.unwrap();
    played.are_as_they_were_of(&world, &[2, 3]).await;
    assert_eq!(world.count("pages_unclaimed").await, 0);
}

#[tokio::test]
async fn rows_that_were_given_up_come_back_from_what_was_copied_too() {
    // The second version's part was copied; the copy is met first, and given up, since its record is missing.
    let played = Played::new().await;
    let mut copy = played.second.clone();
    copy.records
        .retain(|body| !matches!(body, Body::Closing(_)));
    copy.label.barcode = "TAF004L9".into();
    copy.label.volume_uuid = super::raw(Uuid::new_v4());
    copy.recording = Uuid::new_v4();
    copy.label.recording_uuid = super::raw(copy.recording);
    for body in &mut copy.records {
        if let Body::Part(part) = body {
            part.copy = 1;
        }
    }
    let (world, key) = played.without_the_second().await;
    scan(&world, key, &copy).await.unwrap();
    assert!(give_up(&world, 2).await);
    scan(&world, key, &newest_first(&played.second))
        .await
        .unwrap();
    played.are_as_they_were(&world, &[1, 2, 3]).await;
}

#[tokio::test]
async fn catalogs_of_before_are_brought_to_the_same() {
    let migration = include_str!("../../migrations/0040_unclaimed_before.sql");
    let played = Played::new().await;
    for needed in [true, false] {
        let (mut world, key) = empty().await;
        for cartridge in [&played.first, &played.second] {
            scan(&world, key, cartridge).await.unwrap();
        }
        rebuilt_line(&mut world, played.line).await;
        let client = world.store.client().await.unwrap();
        // A run that an older catalog knew of, and that a later version passed: as if that needed what it wrote, or did not.
        for sql in [
            "UPDATE version_parts SET version = 3 WHERE version = 2 AND part_id IN (SELECT x.id FROM parts AS x \
             JOIN archives AS a ON a.id = x.archive_id WHERE a.version = 2)",
            "DELETE FROM version_parts WHERE version = 2",
            "UPDATE versions SET state = 'staged', published_at = NULL, rebuilt_at = NULL, closing = NULL WHERE version = 2",
            "UPDATE archives SET state = 'staged' WHERE version = 2",
        ] {
            client.batch_execute(sql).await.unwrap();
        }
        if !needed {
            let sql = "DELETE FROM version_parts WHERE part_id IN (SELECT x.id FROM parts AS x \
                       JOIN archives AS a ON a.id = x.archive_id WHERE a.version = 2)";
            client.batch_execute(sql).await.unwrap();
        }
        client.batch_execute(migration).await.unwrap();
        client.batch_execute(migration).await.unwrap();
        assert_eq!(world.count("versions WHERE version = 2").await, 0);
        let (state, rows) = if needed {
            ("closed", 0)
        } else {
            ("unclaimed", 1)
        };
        let archives = format!("archives WHERE version = 2 AND state = '{state}'");
        assert_eq!(world.count(&archives).await, 1);
        let aside = "(SELECT DISTINCT archive_ordinal FROM pages_unclaimed) AS c";
        assert_eq!(world.count(aside).await, rows);
        drop(client);
        played.are_as_they_were_of(&world, &[3]).await;
        let client = world.store.client().await.unwrap();
        let met = unclaimed::version_untold(&client, world.line, 2).await;
        assert_eq!(met.unwrap().unwrap().parts, 1);
        drop(client);
        scan(&world, key, &played.second).await.unwrap();
        played.are_as_they_were_of(&world, &[1, 2, 3]).await;
    }
}
