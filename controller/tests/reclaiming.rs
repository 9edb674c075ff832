//! Parts that were copied to another volume: the copy takes the part's place, a late or false one does not, and a rebuild that meets
//! both, in whichever order, keeps the newest and loses nothing.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "reclaiming/asked.rs"]
mod asked;
#[path = "support/cartridges.rs"]
mod cartridges;
#[path = "reclaiming/going.rs"]
mod going;
#[path = "reclaiming/many.rs"]
mod many;
#[path = "reclaiming/met.rs"]
mod met;
#[path = "reclaiming/noted.rs"]
mod noted;
mod served;
#[path = "units/site.rs"]
mod site;
mod support;
#[path = "reclaiming/twice.rs"]
mod twice;
mod units;
#[allow(dead_code)]
#[path = "support/world.rs"]
mod world;

use cartridges::{Cartridge, cartridges, empty, one_more, raw, scan};
use taf_controller::catalog::{Error, report};
use taf_controller::store::verifications::{self, How};
use taf_controller::store::{expiry, parts, reclaims, reuse, savepoints, versions, volumes};
use taf_format::index::Body;
use taf_format::segment::Header;
use taf_format::table::SegmentTable;
use taf_proto::agent::{AssignmentKey, JudgePartRequest, PartPlace};
use uuid::Uuid;
use world::{BLOCK, Part, TAPE, Tree, World};

/// What was written to the old volume, and a reclaiming that has the new one.
struct Scene {
    world: World,
    old: Uuid,
    /// As they were committed.
    parts: Vec<Part>,
    key: AssignmentKey,
    /// What the old cartridge tells, from before anything was copied.
    before: Cartridge,
}

fn tree() -> Tree {
    Tree::of(&[
        ("a/one", 40_000, 0),
        ("b/two", 50_000, 0),
        ("three", 9_000, 0),
    ])
}

impl Scene {
    async fn set() -> Scene {
        let world = World::new().await;
        let attempt = world.attempt().await;
        let backup = world::Backup::of(&tree(), attempt.opened.ordinal as u32);
        let parts = backup.parts(&world, &attempt, 2).await;
        for part in &parts {
            world.commit(part).await.unwrap();
        }
        world.publish(&attempt, &backup).await.unwrap();
        world.end_attempts().await;
        let before = cartridges(&world).await.remove(0);
        let (old, new) = (world.recording, one_more(&world, "TAF002L9").await);
        let mut client = world.store.client().await.unwrap();
        let tx = client.transaction().await.unwrap();
        let sql = "INSERT INTO jobs (kind, state, creator, volume_id, created_at) VALUES ('reclaim', 'running', 'test', $1, now()) RETURNING id";
        let job: i64 = tx.query_one(sql, &[&world.volume_id]).await.unwrap().get(0);
        let world = world.on(new).await;
        let (_, key) = world.attempt_on(&tx, job).await;
        tx.commit().await.unwrap();
        drop(client);
        Scene {
            world,
            old,
            parts,
            key,
            before,
        }
    }

    /// A copy of a part, at the end of the new volume.
    async fn copy(&self, part: usize) -> Part {
        let (_, tape_file, block) = self.world.volume().await;
        let mut copy = self.parts[part].clone();
        let header = &mut copy.header;
        header.moved_from = Some(PartPlace {
            recording_uuid: raw(self.old),
            tape_file: header.tape_file,
        });
        header.key = Some(self.key);
        header.copy = 1;
        header.recording_uuid = raw(self.world.recording);
        header.tape_file = tape_file as u64;
        header.first_block = block as u64;
        header.next_tape_file = header.tape_file + 1;
        header.next_block = header.first_block + header.block_count + 1;
        copy
    }

    /// Volume, tape file and number of copies of a part.
    async fn place(&self, part: usize) -> (String, i64, i32) {
        place(&self.world, part).await
    }

    async fn bytes(&self, barcode: &str) -> i64 {
        let client = self.world.store.client().await.unwrap();
        let sql = "SELECT byte_count FROM volumes WHERE barcode = $1";
        client.query_one(sql, &[&barcode]).await.unwrap().get(0)
    }

    /// The new volume gets an index with the closing records of all versions.
    async fn told(&self) {
        let client = self.world.store.client().await.unwrap();
        client.batch_execute(&told("TAF002L9")).await.unwrap();
    }

    /// Both cartridges, once both parts were copied.
    async fn copied(&self) -> [Cartridge; 2] {
        for part in 0..2 {
            let copy = self.copy(part).await;
            self.world.commit(&copy).await.unwrap();
        }
        let mut now = cartridges(&self.world).await;
        let new = now.pop().unwrap();
        assert_eq!(new.label.barcode, "TAF002L9");
        [self.before.clone(), new]
    }
}

/// As if a volume had an index with the closing records of all versions.
fn told(barcode: &str) -> String {
    format!(
        "INSERT INTO volume_indexes (index_uuid, volume_id, recording_uuid, tape_file, first_block, block_count, byte_count, written_at) \
         SELECT '{}', id, recording_uuid, 9000, 9000, 1, 1, now() FROM volumes WHERE barcode = '{barcode}'; \
         INSERT INTO closings (line_id, version, recording_uuid, index_id) SELECT v.line_id, v.version, i.recording_uuid, i.id \
         FROM versions AS v CROSS JOIN volume_indexes AS i JOIN volumes AS w ON w.id = i.volume_id \
         WHERE i.tape_file = 9000 AND w.barcode = '{barcode}'",
        Uuid::new_v4()
    )
}

async fn place(world: &World, part: usize) -> (String, i64, i32) {
    let client = world.store.client().await.unwrap();
    let sql = "SELECT v.barcode, x.tape_file, x.copy_number FROM parts x JOIN volumes v ON v.id = x.volume_id \
               WHERE x.part_number = $1 AND v.recording_uuid = x.recording_uuid";
    let row = client.query_one(sql, &[&(part as i32 + 1)]).await.unwrap();
    (row.get(0), row.get(1), row.get(2))
}

async fn whole(world: &World) -> i64 {
    let is = "state = 'published' AND lost_reason IS NULL";
    world.count(&format!("versions WHERE {is}")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_takes_the_parts_place_once() {
    let scene = Scene::set().await;
    let bytes = scene.bytes("TAF001L9").await;
    let copy = scene.copy(0).await;
    for _ in 0..2 {
        scene.world.commit(&copy).await.unwrap();
    }
    assert_eq!(scene.place(0).await, ("TAF002L9".into(), 1, 1));
    assert_eq!(scene.place(1).await, ("TAF001L9".into(), 2, 0));
    // The copy is to be read back, by one job.
    let mut client = scene.world.store.client().await.unwrap();
    let tx = client.transaction().await.unwrap();
    let sql = "SELECT id FROM volumes WHERE barcode = 'TAF001L9'";
    let old: i64 = tx.query_one(sql, &[]).await.unwrap().get(0);
    for unread in [1, 0] {
        let found = reclaims::copies_unread_on(&tx, old).await.unwrap();
        let parts = found.iter().map(|volume| volume.parts.len());
        assert_eq!(parts.sum::<usize>(), unread);
        let how = How::default();
        let jobs = verifications::parts_verify_on(&tx, None, &found, how, "test").await;
        assert_eq!(jobs.unwrap().len(), unread);
    }
    drop(tx);
    drop(client);
    let part = copy.header.byte_count as i64;
    assert_eq!(scene.bytes("TAF001L9").await, bytes - part);
    assert_eq!(scene.bytes("TAF002L9").await, part);
    let due = "volumes WHERE barcode = 'TAF002L9' AND index_due";
    assert_eq!(scene.world.count(due).await, 1);
    // The next one comes from where the part is not any more, as from a worker that was thought dead.
    let late = scene.copy(0).await;
    let error = scene.world.commit(&late).await.unwrap_err();
    assert!(matches!(error, Error::Closed(_)), "{error}");
    assert_eq!(scene.place(0).await, ("TAF002L9".into(), 1, 1));
    assert_eq!(scene.world.count("orphans WHERE tape_file = 2").await, 1);
    assert_eq!(
        scene.world.volume().await.1,
        3,
        "what comes next lies behind it"
    );
    assert_eq!(whole(&scene.world).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_began_to_read_before_is_told_the_same_for_as_long_as_he_reads() {
    let scene = Scene::set().await;
    let world = &scene.world;
    let mut client = world.store.client().await.unwrap();
    let tx = client.transaction().await.unwrap();
    let mut attempts = Vec::new();
    let sql = "INSERT INTO jobs (kind, state, creator, line_id, version, agent_id, restore_request, created_at) \
               VALUES ('restore', 'running', 'test', $1, 1, $2, '', clock_timestamp()) RETURNING id";
    let restore = async |tx: &taf_controller::store::Transaction<'_>| -> i64 {
        let job = tx.query_one(sql, &[&world.line, &world.agent_id]).await;
        let job: i64 = job.unwrap().get(0);
        let sql = "INSERT INTO attempts (job_id, epoch, generation, agent_id, started_at) VALUES ($1::bigint, 1, $1::bigint + 100, $2, now()) RETURNING id";
        let attempt = tx.query_one(sql, &[&job, &world.agent_id]).await;
        attempt.unwrap().get(0)
    };
    attempts.push(restore(&tx).await);
    tx.commit().await.unwrap();
    let copy = scene.copy(0).await;
    world.commit(&copy).await.unwrap();
    let tx = client.transaction().await.unwrap();
    attempts.push(restore(&tx).await);
    for (attempt, volume) in attempts.iter().zip(["TAF001L9", "TAF002L9"]) {
        let told = parts::part_list_of_reader(&tx, world.line, 1, *attempt).await;
        let told = told.unwrap();
        let barcodes: Vec<&str> = told.iter().map(|part| part.barcode.as_str()).collect();
        assert_eq!(barcodes, [volume, "TAF001L9"]);
        let recordings = told.iter().map(|part| part.recording);
        assert!(recordings.eq([
            if volume == "TAF001L9" {
                scene.old
            } else {
                world.recording
            },
            scene.old
        ]));
        let header = &scene.parts[0].header;
        assert_eq!(told[0].byte_count, header.byte_count as i64);
    }
    tx.commit().await.unwrap();
    // The volume is not given up before the first one has ended, and the part is not copied once more.
    scene.told().await;
    let tx = client.transaction().await.unwrap();
    let sql = "SELECT id FROM volumes WHERE barcode = 'TAF001L9'";
    let old: i64 = tx.query_one(sql, &[]).await.unwrap().get(0);
    let sql =
        "DELETE FROM version_parts WHERE part_id <> (SELECT id FROM parts WHERE part_number = 1)";
    tx.execute(sql, &[]).await.unwrap();
    let sql = "UPDATE jobs SET ended_at = now(), state = 'cancelled' WHERE kind = 'reclaim'";
    tx.execute(sql, &[]).await.unwrap();
    expiry::volume_free_on(&tx).await.unwrap();
    let living = volumes::volume_living_on(&tx, old).await.unwrap();
    assert_eq!(living.versions, [(world.line, 1)]);
    let again = async |tx| {
        reuse::volume_reuse_on(tx, old, -1.0, Uuid::new_v4())
            .await
            .unwrap()
    };
    // Only the reader holds it.
    tx.execute("UPDATE parts SET verified_at = now()", &[])
        .await
        .unwrap();
    assert!(!again(&tx).await);
    let part: i64 = tx
        .query_one("SELECT id FROM parts WHERE part_number = 1", &[])
        .await
        .unwrap()
        .get(0);
    assert!(reclaims::part_is_read_on(&tx, part).await.unwrap());
    let sql = "UPDATE jobs SET ended_at = now(), state = 'cancelled' WHERE kind = 'restore'";
    tx.execute(sql, &[]).await.unwrap();
    assert!(!reclaims::part_is_read_on(&tx, part).await.unwrap());
    // Nor before its copy was read back, and is whole and there.
    let sound = "verified_at = now(), damage = NULL";
    for (parts, volumes) in [
        ("verified_at = NULL", "state = 'full'"),
        ("verified_at = now(), damage = 'test'", "state = 'full'"),
        (sound, "state = 'quarantined', state_reason = 'test'"),
        (sound, "state = 'full', suspect_since = now()"),
    ] {
        let sql = format!(
            "UPDATE parts SET {parts} WHERE part_number = 1; \
             UPDATE volumes SET {volumes} WHERE barcode = 'TAF002L9'"
        );
        tx.batch_execute(&sql).await.unwrap();
        assert!(!again(&tx).await, "{parts}, {volumes}");
        let copies = reuse::copies_unproved(&tx, &[scene.old]).await.unwrap();
        assert_eq!(copies[&scene.old].len(), 1, "{parts}, {volumes}");
    }
    let sql = "UPDATE volumes SET state = 'full', state_reason = NULL, suspect_since = NULL WHERE barcode = 'TAF002L9'";
    tx.batch_execute(sql).await.unwrap();
    assert!(again(&tx).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_with_the_last_closing_record_of_a_kept_version_is_not_given_up() {
    let scene = Scene::set().await;
    scene.copied().await;
    let mut client = scene.world.store.client().await.unwrap();
    let quiet = "UPDATE jobs SET ended_at = now(), state = 'cancelled' WHERE ended_at IS NULL; \
                 UPDATE parts SET verified_at = now(), damage = NULL; UPDATE attempt_volumes SET held = false";
    client.batch_execute(quiet).await.unwrap();
    let tx = client.transaction().await.unwrap();
    expiry::volume_free_on(&tx).await.unwrap();
    let sql = "SELECT id FROM volumes WHERE barcode = 'TAF001L9'";
    let old: i64 = tx.query_one(sql, &[]).await.unwrap().get(0);
    let again = async |tx| {
        let rested = reuse::volume_list_rested(tx, Some(1), -1.0).await.unwrap();
        assert!(rested.iter().map(|one| one.id).eq([old]));
        savepoints::savepoint_begin_on(tx).await.unwrap();
        let fresh = Uuid::new_v4();
        let again = reuse::volume_reuse_on(tx, old, -1.0, fresh).await.unwrap();
        savepoints::savepoint_undo_on(tx).await.unwrap();
        let held = reuse::recordings_held(tx, &[scene.old]).await.unwrap();
        assert_eq!(held.is_empty(), again, "{held:?}");
        again
    };
    // Nobody knows of one anywhere, as after a rebuild; then the old volume has it, and then the new one too.
    assert!(!again(&tx).await);
    tx.batch_execute(&told("TAF001L9")).await.unwrap();
    assert!(!again(&tx).await);
    tx.batch_execute(&told("TAF002L9")).await.unwrap();
    assert!(again(&tx).await);
    let erase = "INSERT INTO jobs (kind, state, creator, volume_id, cartridge, created_at) \
                 SELECT 'erase', 'queued', 'test', id, barcode, now() FROM volumes WHERE barcode = 'TAF002L9'";
    let ended = "UPDATE jobs SET state = 'cancelled', ended_at = now() WHERE kind = 'erase'";
    for (lost, found) in [
        (
            "UPDATE volumes SET suspect_since = now() WHERE barcode = 'TAF002L9'",
            "UPDATE volumes SET suspect_since = NULL",
        ),
        (erase, ended),
        (
            &format!(
                "UPDATE parts SET former_recording = NULL, moved_at = NULL, former_tape_file = NULL, former_first_block = NULL, \
                 former_byte_count = NULL, former_table = NULL; {erase}"
            ),
            ended,
        ),
        (
            "DELETE FROM closings WHERE recording_uuid <> (SELECT recording_uuid FROM volumes WHERE barcode = 'TAF001L9')",
            "UPDATE versions SET expired_at = now()",
        ),
    ] {
        tx.batch_execute(lost).await.unwrap();
        assert!(!again(&tx).await, "{lost}");
        tx.batch_execute(found).await.unwrap();
        assert!(again(&tx).await, "{found}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_the_part_takes_no_place() {
    let scene = Scene::set().await;
    let copy = scene.copy(0).await;
    let mut other = copy.clone();
    *other.records.last_mut().unwrap() ^= 1;
    let mut cut = copy.clone();
    let mut table = SegmentTable::decode(&cut.header.segment_table).unwrap();
    table.truncate(table.len() - 1);
    cut.header.segment_table = table.encode().into();
    cut.header.last_sequence -= 1;
    cut.header.end_tar_offset = table.tar_range().end;
    let mut old = copy.clone();
    old.header.copy = 0;
    let mut stranger = copy.clone();
    stranger.header.moved_from = None;
    for wrong in [other, cut, old, stranger] {
        let error = scene.world.commit(&wrong).await.unwrap_err();
        assert!(matches!(error, Error::Invalid(_)), "{error}");
    }
    assert_eq!(scene.place(0).await, ("TAF001L9".into(), 1, 0));
    assert_eq!(scene.world.volume().await, ("appendable".into(), 1, 4));
    // A catalog that may be old lets nothing go.
    let client = scene.world.store.client().await.unwrap();
    let sql = "UPDATE installation SET distrusted_at = now(), distrust_reason = 'test'";
    client.batch_execute(sql).await.unwrap();
    let error = scene.world.commit(&copy).await.unwrap_err();
    assert!(matches!(error, Error::Closed(_)), "{error}");
    assert_eq!(scene.place(0).await, ("TAF001L9".into(), 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_with_other_blocks_takes_the_copy_too() {
    let scene = Scene::set().await;
    let mut copy = scene.copy(1).await;
    let old = SegmentTable::decode(&copy.header.segment_table).unwrap();
    let mut table = SegmentTable::new(2 * BLOCK);
    for segment in old.segments() {
        let header = Header {
            sequence: segment.sequence,
            tar_offset: segment.tar_offset,
            tar_length: segment.tar_length,
            ..header(segment.stored_length)
        };
        table.push(&header).unwrap();
    }
    copy.header.byte_count = table.byte_end();
    copy.header.block_count = table.byte_end().div_ceil(2 * BLOCK);
    copy.header.next_block = copy.header.first_block + copy.header.block_count + 1;
    copy.header.segment_table = table.encode().into();
    scene.world.commit(&copy).await.unwrap();
    assert_eq!(scene.place(1).await, ("TAF002L9".into(), 1, 1));
}

/// One that takes so many bytes.
fn header(stored: u32) -> Header {
    let mut header = Header {
        line_uuid: Uuid::nil(),
        version: 1,
        archive_ordinal: 1,
        archive_uuid: Uuid::nil(),
        attempt: 1,
        sequence: 0,
        tar_offset: 0,
        next_entry: None,
        tar_length: 0,
        stored_length: 0,
        records_length: 0,
        stored_crc32c: 0,
        method: taf_format::segment::Method::Zstd,
        suite: 0,
        last: false,
    };
    header.stored_length = stored - header.stored_total() as u32;
    header
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_a_dead_worker_left_is_no_part() {
    let scene = Scene::set().await;
    let archive = scene.parts[0].header.archive_uuid.clone();
    for state in ["published", "staged"] {
        let client = scene.world.store.client().await.unwrap();
        let sql = "UPDATE archives SET state = $1, attempt_id = $2";
        let attempt = scene.key.attempt as i64;
        client.execute(sql, &[&state, &attempt]).await.unwrap();
        drop(client);
        let request = JudgePartRequest {
            key: Some(scene.key),
            recording_uuid: raw(scene.world.recording),
            archive_uuid: archive.clone(),
            part_number: 1,
            tape_file: 1,
        };
        let judged = report::judge_part(&scene.world.store, TAPE, &request);
        assert!(!judged.await.unwrap().current, "{state}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_keeps_the_newest_copy_in_whichever_order_the_cartridges_come() {
    let [old, new] = Scene::set().await.copied().await;
    let both = [("TAF002L9".to_owned(), 1), ("TAF002L9".to_owned(), 2)];
    let alone = [("TAF001L9".to_owned(), 1), ("TAF001L9".to_owned(), 2)];
    for (order, places) in [
        (vec![&new, &old], &both),
        (vec![&old, &new, &old, &new], &both),
        (vec![&new], &both),
        (vec![&old], &alone),
    ] {
        let (world, key) = empty().await;
        for cartridge in &order {
            scan(&world, key, cartridge).await.unwrap();
        }
        let named: Vec<&str> = order.iter().map(|c| c.label.barcode.as_str()).collect();
        for (part, (volume, file)) in places.iter().enumerate() {
            let found = place(&world, part).await;
            assert_eq!((&found.0, found.1), (volume, *file), "{named:?}");
        }
        assert_eq!(whole(&world).await, 1, "{named:?}");
        // Nobody has read the copies: what they were made of is kept.
        let client = world.store.client().await.unwrap();
        let held = reuse::copies_unproved(&client, &[old.recording]).await;
        let held = held.unwrap().remove(&old.recording).unwrap_or_default();
        let held: i64 = held.iter().map(|copies| copies.unread).sum();
        assert_eq!(held, if named.len() > 1 { 2 } else { 0 }, "{named:?}");
        drop(client);
        let bad = "volumes WHERE state IN ('quarantined', 'read-only')";
        assert_eq!(world.count(bad).await, 0, "{named:?}");
        for check in taf_controller::store::checks::CHECKS {
            let client = world.store.client().await.unwrap();
            let (found, places) = taf_controller::store::checks::check_run(&client, check)
                .await
                .unwrap();
            assert_eq!(found, 0, "{named:?}: {} at {places:?}", check.kind);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalog_from_before_finds_the_copies_also_when_the_old_volume_is_gone() {
    let [old, new] = Scene::set().await.copied().await;
    // Before the catalog was known to be old, a mount had found the copies and taken them for nobody's.
    for (orphaned, gone_first) in [(false, true), (true, false)] {
        let (world, key) = empty().await;
        scan(&world, key, &old).await.unwrap();
        let gone = async || {
            let mut client = world.store.client().await.unwrap();
            let tx = client.transaction().await.unwrap();
            let reason = "an inspection found another recording";
            versions::version_lost_on(&tx, old.recording, reason)
                .await
                .unwrap();
            let sql = "UPDATE volumes SET recording_uuid = $2 WHERE recording_uuid = $1";
            tx.execute(sql, &[&old.recording, &Uuid::new_v4()])
                .await
                .unwrap();
            tx.commit().await.unwrap();
        };
        if orphaned {
            let mut empty = new.clone();
            empty.records.clear();
            scan(&world, key, &empty).await.unwrap();
            let client = world.store.client().await.unwrap();
            for part in new.records.iter().filter_map(|record| match record {
                Body::Part(part) => Some(part),
                _ => None,
            }) {
                let sql = "INSERT INTO orphans (recording_uuid, tape_file, volume_id, first_block, next_block, reason, found_at) \
                           SELECT recording_uuid, $2, id, $3, $4, 'test', now() FROM volumes WHERE recording_uuid = $1";
                let numbers = [part.tape_file, part.first_block, part.next_block];
                let [file, first, next] = numbers.map(|n| n as i64);
                client
                    .execute(sql, &[&new.recording, &file, &first, &next])
                    .await
                    .unwrap();
            }
        }
        if gone_first {
            gone().await;
            assert_eq!(whole(&world).await, 0);
        }
        scan(&world, key, &new).await.unwrap();
        if !gone_first {
            gone().await;
        }
        for part in 0..2 {
            assert_eq!(place(&world, part).await.0, "TAF002L9");
        }
        assert_eq!(whole(&world).await, 1, "{orphaned} {gone_first}");
        assert_eq!(world.count("orphans").await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_on_the_old_volume_is_found_again_when_the_new_one_is_lost() {
    let [old, new] = Scene::set().await.copied().await;
    let (world, key) = empty().await;
    for cartridge in [&old, &new] {
        scan(&world, key, cartridge).await.unwrap();
    }
    let mut client = world.store.client().await.unwrap();
    // What was verified and is damaged gives way to what is left.
    let sql = "UPDATE parts SET damage = 'test', verified_at = now() WHERE part_number = 2";
    client.batch_execute(sql).await.unwrap();
    scan(&world, key, &old).await.unwrap();
    // The copy that was left is not newer for that.
    for cartridge in [&new, &old] {
        assert_eq!(place(&world, 0).await, ("TAF002L9".into(), 1, 1));
        assert_eq!(place(&world, 1).await, ("TAF001L9".into(), 2, 1));
        scan(&world, key, cartridge).await.unwrap();
    }
    let tx = client.transaction().await.unwrap();
    versions::version_lost_on(&tx, new.recording, "erased")
        .await
        .unwrap();
    let sql = "UPDATE volumes SET recording_uuid = $2 WHERE recording_uuid = $1";
    tx.execute(sql, &[&new.recording, &Uuid::new_v4()])
        .await
        .unwrap();
    tx.commit().await.unwrap();
    drop(client);
    assert_eq!(whole(&world).await, 0);
    scan(&world, key, &old).await.unwrap();
    assert_eq!(place(&world, 0).await, ("TAF001L9".into(), 1, 1));
    assert_eq!(whole(&world).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_on_a_quarantined_volume_gives_way_to_what_is_left() {
    let [old, new] = Scene::set().await.copied().await;
    let (world, key) = empty().await;
    for cartridge in [&old, &new, &old] {
        scan(&world, key, cartridge).await.unwrap();
    }
    assert_eq!(place(&world, 0).await, ("TAF002L9".into(), 1, 1));
    let client = world.store.client().await.unwrap();
    let sql = "UPDATE volumes SET state = 'quarantined', state_reason = 'test' WHERE barcode = 'TAF002L9'";
    client.batch_execute(sql).await.unwrap();
    scan(&world, key, &old).await.unwrap();
    for (part, file) in [(0, 1), (1, 2)] {
        assert_eq!(place(&world, part).await, ("TAF001L9".into(), file, 1));
    }
    assert_eq!(whole(&world).await, 1);
}
