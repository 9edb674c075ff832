//! Parts that were copied twice: until the last copy was read back, all that it was made of is kept.

use taf_controller::store::reuse;
use taf_format::index::Body;
use taf_proto::agent::PartPlace;
use uuid::Uuid;

use super::cartridges::{Cartridge, empty, raw, scan};
use super::world::World;
use super::{Scene, place};

const NEWEST: &str = "TAF003L9";

/// How many parts hold each of some recordings.
async fn holds<const N: usize>(world: &World, recordings: [Uuid; N]) -> [i64; N] {
    let client = world.store.client().await.unwrap();
    let held = reuse::copies_unproved(&client, &recordings).await.unwrap();
    let unread = |of: &Uuid| {
        let copies = held.get(of).into_iter().flatten();
        copies.map(|copies| copies.unread).sum()
    };
    recordings.each_ref().map(unread)
}

/// What the cartridge tells to which the parts of this one were copied.
fn copied_on(from: &Cartridge) -> Cartridge {
    let mut newest = from.clone();
    newest.recording = Uuid::new_v4();
    newest.label.recording_uuid = raw(newest.recording);
    newest.label.volume_uuid = raw(Uuid::new_v4());
    newest.label.barcode = NEWEST.into();
    for record in &mut newest.records {
        if let Body::Part(part) = record {
            part.copy += 1;
        }
    }
    newest
}

#[tokio::test(flavor = "multi_thread")]
async fn in_whichever_order_a_rescan_meets_three_copies_the_older_ones_are_kept() {
    let [old, new] = Scene::set().await.copied().await;
    let newest = copied_on(&new);
    let three = [&old, &new, &newest];
    for order in [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ] {
        let (world, key) = empty().await;
        for one in order {
            scan(&world, key, three[one]).await.unwrap();
        }
        assert_eq!(place(&world, 0).await.0, NEWEST, "{order:?}");
        let recordings = three.map(|cartridge| cartridge.recording);
        assert_eq!(holds(&world, recordings).await, [2, 2, 0], "{order:?}");
        // Twice is as once.
        scan(&world, key, &old).await.unwrap();
        assert_eq!(holds(&world, recordings).await, [2, 2, 0], "{order:?}");
        let client = world.store.client().await.unwrap();
        let read = "UPDATE parts SET verified_at = now()";
        client.batch_execute(read).await.unwrap();
        let trusted = "UPDATE volumes SET suspect_since = NULL";
        client.batch_execute(trusted).await.unwrap();
        assert_eq!(holds(&world, recordings).await, [0, 0, 0], "{order:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_copied_on_before_it_was_read_back_keeps_both_places() {
    let scene = Scene::set().await;
    for part in 0..2 {
        let copy = scene.copy(part).await;
        scene.world.commit(&copy).await.unwrap();
    }
    let (old, new) = (scene.old, scene.world.recording);
    scene.world.end_attempts().await;
    let mut client = scene.world.store.client().await.unwrap();
    let (volume, newest) = (Uuid::new_v4(), Uuid::new_v4());
    // The second part was read back before.
    let sql = format!(
        "UPDATE jobs SET state = 'cancelled', ended_at = now() WHERE ended_at IS NULL; \
         UPDATE parts SET verified_at = now() WHERE part_number = 2; \
         INSERT INTO volumes (barcode, volume_uuid, pool_id, state, recording_uuid, block_size, next_tape_file, next_block, \
         labelled_at, created_at) SELECT '{NEWEST}', '{volume}', pool_id, 'appendable', '{newest}', block_size, 1, 4, now(), now() \
         FROM volumes WHERE barcode = 'TAF002L9'"
    );
    client.batch_execute(&sql).await.unwrap();
    assert_eq!(holds(&scene.world, [old, new]).await, [1, 0]);
    let tx = client.transaction().await.unwrap();
    let sql = "INSERT INTO jobs (kind, state, creator, volume_id, created_at) VALUES ('reclaim', 'running', 'test', $1, now()) RETURNING id";
    let job = tx.query_one(sql, &[&scene.world.volume_id]).await.unwrap();
    let from = scene.world;
    let files = [1, 2];
    let world = from.on(newest).await;
    let (_, key) = world.attempt_on(&tx, job.get(0)).await;
    tx.commit().await.unwrap();
    for (part, file) in scene.parts.iter().zip(files) {
        let (_, tape_file, block) = world.volume().await;
        let mut copy = part.clone();
        let header = &mut copy.header;
        header.moved_from = Some(PartPlace {
            recording_uuid: raw(new),
            tape_file: file,
        });
        header.key = Some(key);
        header.copy = 2;
        header.recording_uuid = raw(newest);
        header.tape_file = tape_file as u64;
        header.first_block = block as u64;
        header.next_tape_file = header.tape_file + 1;
        header.next_block = header.first_block + header.block_count + 1;
        world.commit(&copy).await.unwrap();
    }
    assert_eq!(place(&world, 0).await, (NEWEST.into(), 1, 2));
    assert_eq!(holds(&world, [old, new, newest]).await, [1, 2, 0]);
    let read = "UPDATE parts SET verified_at = now()";
    client.batch_execute(read).await.unwrap();
    assert_eq!(holds(&world, [old, new, newest]).await, [0, 0, 0]);
    // What becomes damaged there is looked for at both.
    let damaged = "UPDATE volumes SET suspect_since = now() WHERE barcode = 'TAF003L9'";
    client.batch_execute(damaged).await.unwrap();
    assert_eq!(holds(&world, [old, new, newest]).await, [1, 2, 0]);
}
