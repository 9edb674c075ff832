//! What is asked of each free volume while a pool wants one is looked for by index, however much the catalog has. A measurement:
//! `TAF_REUSE_PARTS=400000 cargo nextest run -p taf-controller --test reclaiming many --no-capture`.

use std::time::Instant;

use taf_controller::store::statements::sent;
use taf_controller::store::{expiry, reuse};
use uuid::Uuid;

use super::{Scene, told};

/// Parts of the catalog, if nothing else is said.
const PARTS: i64 = 10_000;
/// The large tables.
const TABLES: [&str; 2] = ["parts", "closings"];

/// A catalog with so many parts on 280 volumes, each copied from another one or from one of 20 that are free, and with the closing records
/// of 500 versions on every tenth volume.
fn many(parts: i64) -> String {
    format!(
        "INSERT INTO volumes (barcode, volume_uuid, pool_id, state, recording_uuid, block_size, next_tape_file, next_block, labelled_at, \
         created_at) SELECT 'M' || g, md5('v' || g)::uuid, 1, 'full', md5('r' || g)::uuid, 65536, 100000, 100000, now(), now() \
         FROM generate_series(0, 299) AS g; \
         INSERT INTO versions (line_id, version, state, kind, parent, floor, job_id, started_at, published_at, closing) \
         SELECT line_id, 100 + g, 'published', 'full', 0, 100 + g, job_id, now(), now(), 'x' FROM versions \
         CROSS JOIN generate_series(0, 499) AS g WHERE version = 1; \
         INSERT INTO archives (archive_uuid, line_id, ordinal, version, attempt_id, state) \
         SELECT md5('a' || g)::uuid, line_id, 100 + g, 100 + g, attempt_id, 'published' FROM archives \
         CROSS JOIN generate_series(0, 499) AS g WHERE version = 1; \
         INSERT INTO parts (archive_id, part_number, volume_id, recording_uuid, tape_file, first_block, block_count, byte_count, \
         first_sequence, last_sequence, first_tar_offset, end_tar_offset, final_part, truncated, digest, segment_table, committed_at, \
         verified_at, copy_number, moved_at, former_recording, former_tape_file, former_first_block, former_byte_count) \
         SELECT a.id, 1 + div(g, 500)::integer, v.id, v.recording_uuid, 1 + div(g, 280), 1, 1, 1, 0, 0, 0, 1, true, false, '', '', \
         now(), now(), 1, now(), md5('r' || (g + 7) % 300)::uuid, 1, 1, 1 FROM generate_series(0::bigint, {parts} - 1) AS g \
         JOIN volumes AS v ON v.barcode = 'M' || g % 280 JOIN archives AS a ON a.ordinal = 100 + g % 500; \
         INSERT INTO version_parts (line_id, version, part_id) SELECT a.line_id, a.version, x.id FROM parts AS x \
         JOIN archives AS a ON a.id = x.archive_id WHERE a.ordinal >= 100; \
         INSERT INTO volume_indexes (index_uuid, volume_id, recording_uuid, tape_file, first_block, block_count, byte_count, written_at) \
         SELECT md5('i' || v.id || ',' || g)::uuid, v.id, v.recording_uuid, 50000 + g, 1, 1, 1, now() FROM volumes AS v \
         CROSS JOIN generate_series(0, 9) AS g WHERE v.barcode LIKE 'M%'; \
         INSERT INTO closings (line_id, version, recording_uuid, index_id) SELECT u.line_id, u.version, i.recording_uuid, i.id \
         FROM versions AS u CROSS JOIN volume_indexes AS i WHERE i.tape_file = 50000 AND i.volume_id % 10 = 0; ANALYZE"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_of_a_free_volume_is_looked_for_by_index() {
    let parts = std::env::var("TAF_REUSE_PARTS").map_or(PARTS, |parts| parts.parse().unwrap());
    let scene = Scene::set().await;
    scene.copied().await;
    scene.told().await;
    let mut client = scene.world.store.client().await.unwrap();
    let quiet = "UPDATE jobs SET ended_at = now(), state = 'cancelled' WHERE ended_at IS NULL; \
                 UPDATE parts SET verified_at = now(), damage = NULL; UPDATE attempt_volumes SET held = false";
    for sql in [quiet, &told("TAF001L9"), &many(parts)] {
        client.batch_execute(sql).await.unwrap();
    }
    let tx = client.transaction().await.unwrap();
    expiry::volume_free_on(&tx).await.unwrap();
    let statements = sent();
    for (of, values) in [
        ("former_end = next_block", "1, 0, '$', '$'"),
        ("AS home FROM (SELECT i.recording_uuid", "ARRAY['$'::uuid]"),
        ("count(q.damage) AS damaged FROM", "ARRAY['$'::uuid]"),
        ("count(q.job) AS read", "'$'"),
    ] {
        let statement = statements.iter().find(|sql| sql.contains(of)).unwrap();
        let prepare = format!("DEALLOCATE ALL; PREPARE asked AS {statement}");
        tx.batch_execute(&prepare).await.unwrap();
        let values = values.replace('$', &scene.old.to_string());
        let sql = format!("EXPLAIN EXECUTE asked ({values})");
        let plan = tx.query(&sql, &[]).await.unwrap();
        let plan: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
        for table in TABLES {
            let whole = format!("Seq Scan on {table} ");
            let whole = plan.iter().any(|line| line.contains(&whole));
            assert!(!whole, "{of}:\n{}", plan.join("\n"));
        }
    }
    let begun = Instant::now();
    let rested = reuse::volume_list_rested(&tx, Some(1), -1.0).await.unwrap();
    let recordings: Vec<Uuid> = rested.iter().map(|one| one.recording).collect();
    let held = reuse::recordings_held(&tx, &recordings).await.unwrap();
    let asked = begun.elapsed();
    assert!(
        recordings.contains(&scene.old) && held.is_empty(),
        "{held:?}"
    );
    assert_eq!(recordings.len(), 21);
    let one = rested
        .iter()
        .find(|one| one.recording == scene.old)
        .unwrap();
    let begun = Instant::now();
    let fresh = Uuid::new_v4();
    assert!(
        reuse::volume_reuse_on(&tx, one.id, -1.0, fresh)
            .await
            .unwrap()
    );
    eprintln!(
        "{parts} parts, {} free volumes: asked in {asked:?}, given up in {:?}",
        rested.len(),
        begun.elapsed()
    );
}
