//! What is noted while a volume is about to go: that its parts are needed, and which closing records are on which cartridge.

use std::time::Duration;

use taf_controller::store::{checks, indexes, rebuilds, reuse, volumes};
use taf_format::index::Body;
use taf_proto::agent::{ScanIndex, ScanTrailer};
use uuid::Uuid;

use super::cartridges::{Cartridge, empty, raw, scan, scan_ended};
use super::{Scene, told};

#[tokio::test(flavor = "multi_thread")]
async fn who_gives_a_volume_up_waits_for_who_is_noting_that_it_is_needed() {
    let scene = Scene::set().await;
    let world = &scene.world;
    let client = world.store.client().await.unwrap();
    let sql = "UPDATE jobs SET ended_at = now(), state = 'cancelled'; UPDATE attempt_volumes SET held = false; \
               DELETE FROM version_parts; UPDATE volumes SET freed_at = now()";
    for sql in [sql, &told("TAF002L9")] {
        client.batch_execute(sql).await.unwrap();
    }
    let sql = "SELECT id FROM volumes WHERE barcode = 'TAF001L9'";
    let old: i64 = client.query_one(sql, &[]).await.unwrap().get(0);
    let mut other = world.store.client().await.unwrap();
    let tx = other.transaction().await.unwrap();
    let fresh = Uuid::new_v4();
    let again = reuse::volume_reuse_on(&tx, old, -1.0, fresh).await;
    assert!(again.unwrap(), "nothing else is in its way");
    tx.rollback().await.unwrap();
    for (rebuilt, erase) in [(true, false), (false, true)] {
        let mut client = world.store.client().await.unwrap();
        let noting = client.transaction().await.unwrap();
        let parts = [(1, 1), (1, 2)];
        if rebuilt {
            let noted = rebuilds::version_parts_hold_on(&noting, world.line, 1, &parts).await;
            noted.unwrap();
        } else {
            for part in parts {
                let noted = checks::version_parts_note_on(&noting, world.line, 1, part).await;
                assert_eq!(noted.unwrap(), 1);
            }
        }
        let tx = other.transaction().await.unwrap();
        // Who only writes on the volume does not wait.
        let writes = "UPDATE volumes SET byte_count = byte_count + 1";
        tx.batch_execute(writes).await.unwrap();
        let mut goes = Box::pin(async {
            if erase {
                let living = volumes::volume_living_on(&tx, old).await;
                return living.unwrap().versions.is_empty();
            }
            let fresh = Uuid::new_v4();
            let again = reuse::volume_reuse_on(&tx, old, -1.0, fresh).await;
            again.unwrap()
        });
        let waits = tokio::time::timeout(Duration::from_millis(300), &mut goes).await;
        assert!(waits.is_err(), "{rebuilt}, {erase}");
        noting.commit().await.unwrap();
        assert!(!goes.await, "{rebuilt}, {erase}");
        tx.rollback().await.unwrap();
        let sql = "DELETE FROM version_parts; UPDATE volumes SET freed_at = now()";
        client.batch_execute(sql).await.unwrap();
    }
}

/// A cartridge with an index at its end, and how the reading of it ends.
fn indexed(cartridge: &Cartridge) -> (Cartridge, ScanTrailer) {
    let mut indexed = cartridge.clone();
    let index = ScanIndex {
        index_uuid: raw(Uuid::new_v4()),
        tape_file: indexed.end.0,
        first_block: indexed.end.1,
        block_count: 1,
        byte_count: 65_536,
    };
    indexed.end = (indexed.end.0 + 1, indexed.end.1 + 2);
    let end = ScanTrailer {
        indexes: vec![index],
        ..ScanTrailer::default()
    };
    (indexed, end)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_notes_which_cartridge_has_which_closing_record() {
    let [old, new] = Scene::set().await.copied().await;
    let ((old, old_end), (new, new_end)) = (indexed(&old), indexed(&new));
    // Its index was written before the version was there.
    let mut untold = new.clone();
    untold.records.retain(|r| !matches!(r, Body::Closing(_)));
    let (world, key) = empty().await;
    let on = async |recording: Uuid| {
        let on = format!("closings WHERE recording_uuid = '{recording}' AND version = 1");
        world.count(&on).await
    };
    let held = async || {
        let client = world.store.client().await.unwrap();
        let sql = "UPDATE parts SET verified_at = now(); UPDATE volumes SET suspect_since = NULL";
        client.batch_execute(sql).await.unwrap();
        let held = reuse::recordings_held(&client, &[old.recording]).await;
        let untold = held.unwrap().remove(&old.recording).unwrap_or_default();
        assert!(untold.copies.is_empty());
        untold.untold.map_or(0, |untold| untold.versions)
    };
    scan(&world, key, &untold).await.unwrap();
    for _ in 0..2 {
        let scanned = scan_ended(&world, key, &old, old_end.clone()).await;
        scanned.unwrap();
        assert_eq!((on(old.recording).await, on(new.recording).await), (1, 0));
    }
    assert_eq!(held().await, 1);
    // Nor that it is there, if it is that of another version of the number.
    let client = world.store.client().await.unwrap();
    let sql = "UPDATE versions SET closing = closing || decode('f80701', 'hex')";
    client.batch_execute(sql).await.unwrap();
    let scanned = scan_ended(&world, key, &new, new_end.clone()).await;
    scanned.unwrap();
    assert_eq!((on(old.recording).await, on(new.recording).await), (1, 0));
    let sql = "UPDATE versions SET closing = substr(closing, 1, length(closing) - 3)";
    client.batch_execute(sql).await.unwrap();
    let scanned = scan_ended(&world, key, &new, new_end).await;
    scanned.unwrap();
    assert_eq!((on(old.recording).await, on(new.recording).await), (1, 1));
    assert_eq!(held().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_given_up_index_told_of_is_told_again() {
    let scene = Scene::set().await;
    let world = &scene.world;
    let mut client = world.store.client().await.unwrap();
    let [old, new] = ["TAF001L9", "TAF002L9"]
        .map(|barcode| format!("(SELECT recording_uuid FROM volumes WHERE barcode = '{barcode}')"));
    let index = format!("(SELECT id FROM volume_indexes WHERE recording_uuid = {new})");
    let told_elsewhere = format!(
        "UPDATE jobs SET ended_at = now(), state = 'cancelled'; UPDATE attempt_volumes SET held = false; \
         UPDATE volumes SET state = 'full', index_due = false, freed_at = now(); \
         UPDATE parts SET covered_by = {index} WHERE part_number = 1; UPDATE parts SET listed_by = {index} WHERE part_number = 2; \
         INSERT INTO closings (line_id, version, recording_uuid, index_id) SELECT line_id, version, {old}, {index} FROM versions"
    );
    for sql in [told("TAF002L9"), told_elsewhere] {
        client.batch_execute(&sql).await.unwrap();
    }
    let sql = "SELECT id FROM volumes WHERE barcode = 'TAF002L9'";
    let gone: i64 = client.query_one(sql, &[]).await.unwrap().get(0);
    for erased in [true, false] {
        let tx = client.transaction().await.unwrap();
        if erased {
            let fresh = Uuid::new_v4();
            let gone = volumes::volume_erased_on(&tx, gone, fresh, "test").await;
            gone.unwrap();
        } else {
            // Another one still has the closing record of what is kept.
            let told = told("TAF003L9");
            let third = "INSERT INTO volumes (barcode, volume_uuid, pool_id, state, recording_uuid, block_size, next_tape_file, next_block, \
                         labelled_at, created_at) SELECT 'TAF003L9', md5('v')::uuid, pool_id, 'full', md5('r')::uuid, block_size, 1, 4, now(), \
                         now() FROM volumes WHERE barcode = 'TAF002L9'";
            for sql in [third, &told] {
                tx.batch_execute(sql).await.unwrap();
            }
            let fresh = Uuid::new_v4();
            let again = reuse::volume_reuse_on(&tx, gone, -1.0, fresh).await;
            assert!(again.unwrap());
        }
        let count = async |of: &str| {
            let sql = format!("SELECT count(*) FROM {of}");
            let count: i64 = tx.query_one(&sql, &[]).await.unwrap().get(0);
            count
        };
        let named = "parts WHERE covered_by IS NOT NULL OR listed_by IS NOT NULL";
        assert_eq!(count(named).await, 0);
        let omitted = "volumes WHERE index_omitted AND barcode = 'TAF001L9'";
        assert_eq!(count(omitted).await, 1);
        let told = indexes::index_parts(&tx, scene.old, 0, 10).await.unwrap();
        assert_eq!(told.len(), 2);
        let told = indexes::index_closings(&tx, scene.old, (0, 0), 10).await;
        assert_eq!(told.unwrap().len(), 1);
        for check in checks::CHECKS {
            let (found, places) = checks::check_run(&tx, check).await.unwrap();
            let other = check.kind == "INDEX_OF_OTHER_RECORDING";
            assert!(!other || found == 0, "{places:?}");
        }
        tx.rollback().await.unwrap();
    }
}
