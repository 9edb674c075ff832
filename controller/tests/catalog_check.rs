//! The check of the catalog: a catalog that real runs made is whole, and whatever is broken in it is found, named, and put right
//! where that follows from the rest.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "support/runs.rs"]
mod runs;
mod support;
#[allow(dead_code)]
#[path = "support/world.rs"]
mod world;

use prost::Message as _;
use taf_controller::catalog::check::{self, Summary, Told};
use taf_controller::catalog::vacuum::{self, Sweep};
use taf_controller::store::{expiry, lines};
use taf_core::catalog::Kind;
use taf_format::index::ClosingRecord;
use tokio::sync::mpsc;
use world::{Tree, World};

/// Checks, and gives the summary and what was named.
async fn checked(world: &World, repair: bool) -> (Summary, Vec<String>) {
    let (sender, mut told) = mpsc::channel(4);
    let listening = tokio::spawn(async move {
        let mut named = Vec::new();
        let mut steps = (0, 0);
        while let Some(one) = told.recv().await {
            match one {
                Told::Finding(found) => named.push(format!("{} {}", found.kind, found.subject)),
                Told::Progress { steps: now, .. } => {
                    assert!(now.0 >= steps.0 && now.0 <= now.1, "{now:?}");
                    steps = now;
                }
                Told::Summary(_) => {}
            }
        }
        named
    });
    let summary = check::check(&world.store, repair, &sender).await.unwrap();
    drop(sender);
    (summary, listening.await.unwrap())
}

async fn sql(world: &World, text: &str) {
    let client = world.store.client().await.unwrap();
    let done = client.batch_execute(text).await;
    done.unwrap_or_else(|error| panic!("{text}: {error:?}"));
}

/// A full with an incremental, both expired and gone, and another full with one, whose second volume is empty.
async fn made() -> World {
    let world = World::new().await;
    let mut tree = Tree::of(&[
        ("srv/a", 700, 0),
        ("srv/b/c", 20_000, 0),
        ("srv/b/d", 40_000, 1),
        ("srv/e/d", 40_000, 1),
    ]);
    world.back_up(&tree, 2).await;
    tree.files.insert(b"srv/b/new".to_vec(), (300, 0));
    runs::run(&world, Kind::Incremental, &tree).await;
    world.back_up(&tree, 2).await;
    tree.files.remove(b"srv/e/d".as_slice());
    tree.files.insert(b"srv/b/more".to_vec(), (9_000, 0));
    runs::run(&world, Kind::Incremental, &tree).await;
    world.end_attempts().await;
    let mut client = world.store.client().await.unwrap();
    let tx = client.transaction().await.unwrap();
    lines::line_lock_on(&tx, world.line).await.unwrap();
    let expired = expiry::version_expire_on(&tx, world.line, &[1, 2], "a test");
    assert_eq!(expired.await.unwrap().len(), 2);
    tx.commit().await.unwrap();
    vacuum::release(&world.store).await.unwrap();
    while let Some(mut sweep) = Sweep::begin(&world.store).await.unwrap() {
        while !sweep.step(&world.store, 3).await.unwrap() {}
    }
    sql(
        &world,
        "INSERT INTO volumes (barcode, volume_uuid, pool_id, state, recording_uuid, block_size, next_tape_file, next_block, \
         labelled_at, created_at) SELECT 'TAF002L9', '11111111-0000-4000-8000-000000000001', pool_id, 'appendable', \
         '11111111-0000-4000-8000-000000000002', block_size, 1, 4, now(), now() FROM volumes; \
         CREATE TABLE saved_parts AS SELECT * FROM parts; CREATE TABLE saved_pages AS SELECT * FROM pages; \
         CREATE TABLE saved_volumes AS SELECT * FROM volumes; CREATE TABLE saved_versions AS SELECT * FROM versions",
    )
    .await;
    world
}

/// What is put right by the check itself.
const MENDED: &[(&str, &str)] = &[
    (
        "INDEX_OF_OTHER_RECORDING",
        "INSERT INTO volume_indexes (index_uuid, volume_id, recording_uuid, tape_file, first_block, block_count, byte_count, written_at) \
         SELECT '22222222-0000-4000-8000-000000000001', id, '22222222-0000-4000-8000-000000000002', 1, 1, 1, 1, now() FROM volumes \
         WHERE barcode = 'TAF001L9'; UPDATE parts SET covered_by = (SELECT max(id) FROM volume_indexes) WHERE tape_file = 1",
    ),
    (
        "VOLUME_BYTES_DIFFER",
        "UPDATE volumes SET byte_count = byte_count + 1 WHERE barcode = 'TAF001L9'",
    ),
    (
        "FREE_VOLUME_NEEDED",
        "UPDATE volumes SET freed_at = now() WHERE barcode = 'TAF001L9'",
    ),
    (
        "RELEASED_VERSION_NEEDS",
        "INSERT INTO version_parts (line_id, version, part_id) SELECT a.line_id, 1, x.id FROM parts AS x \
         JOIN archives AS a ON a.id = x.archive_id WHERE a.version = 1",
    ),
    (
        "ROW_WITHOUT_VERSION",
        "INSERT INTO pages (line_id, chunk, version, archive_ordinal, part_number) SELECT id, 'zz', 99, 99, 1 FROM lines",
    ),
    (
        "ROW_UNNEEDED",
        "INSERT INTO pages (line_id, chunk, version, archive_ordinal, part_number) SELECT id, 'zz', 2, 2, 1 FROM lines",
    ),
    (
        "NEED_NOT_NOTED",
        "DELETE FROM version_parts WHERE version = 4",
    ),
];

/// What is only told, and how the test puts it right.
const TOLD: &[(&str, &str, &str)] = &[
    (
        "HEAD_DIFFERS",
        "UPDATE lines SET head = 3",
        "UPDATE lines SET head = 4",
    ),
    (
        "ARCHIVE_NOT_PUBLISHED",
        "UPDATE archives SET state = 'closed' WHERE ordinal = 3",
        "UPDATE archives SET state = 'published' WHERE ordinal = 3",
    ),
    (
        "PART_MISSING",
        "UPDATE parts SET part_number = 9 WHERE part_number = 2",
        "UPDATE parts SET part_number = 2 WHERE part_number = 9",
    ),
    (
        "ROW_WITHOUT_PART",
        "UPDATE pages SET part_number = 9 WHERE version = 4",
        "UPDATE pages SET part_number = 1 WHERE version = 4",
    ),
    (
        "PARTS_NOT_CONTIGUOUS",
        "UPDATE parts SET first_sequence = first_sequence + 1 WHERE part_number = 2",
        "UPDATE parts SET first_sequence = first_sequence - 1 WHERE part_number = 2",
    ),
    (
        "PART_ON_OTHER_VOLUME",
        "UPDATE parts SET volume_id = (SELECT id FROM volumes WHERE barcode = 'TAF002L9') WHERE tape_file = 2",
        "UPDATE parts SET volume_id = (SELECT id FROM volumes WHERE barcode = 'TAF001L9') WHERE tape_file = 2",
    ),
    (
        "PART_BEYOND_END",
        "UPDATE volumes SET next_block = 5 WHERE barcode = 'TAF001L9'",
        "UPDATE volumes SET next_block = s.next_block FROM saved_volumes AS s WHERE s.id = volumes.id",
    ),
    (
        "TAPE_FILE_TWICE",
        "INSERT INTO orphans (recording_uuid, tape_file, volume_id, first_block, next_block, reason, found_at) \
         SELECT recording_uuid, 1, id, 4, 9, 'a test', now() FROM volumes WHERE barcode = 'TAF001L9'",
        "DELETE FROM orphans",
    ),
    (
        "PART_GONE",
        "UPDATE volumes SET recording_uuid = '33333333-0000-4000-8000-000000000001', byte_count = 0 WHERE barcode = 'TAF001L9'",
        "UPDATE volumes SET recording_uuid = s.recording_uuid, byte_count = s.byte_count FROM saved_volumes AS s WHERE s.id = volumes.id",
    ),
    (
        "LISTING_DAMAGED",
        "UPDATE pages SET body = '\\x00' WHERE version = 3",
        "UPDATE pages SET body = s.body FROM saved_pages AS s WHERE s.line_id = pages.line_id AND s.chunk = pages.chunk \
         AND s.version = pages.version",
    ),
    (
        "DICTIONARY_MISSING",
        "UPDATE dictionaries SET number = 17",
        "UPDATE dictionaries SET number = 16",
    ),
    (
        "PLACE_IN_NO_PART",
        "UPDATE parts SET end_tar_offset = first_tar_offset + 1 WHERE tape_file = (SELECT max(tape_file) FROM parts)",
        "UPDATE parts SET end_tar_offset = s.end_tar_offset FROM saved_parts AS s WHERE s.id = parts.id",
    ),
    (
        "NEED_TOO_MUCH",
        "INSERT INTO version_parts (line_id, version, part_id) SELECT line_id, 3, max(part_id) FROM version_parts GROUP BY line_id",
        "DELETE FROM version_parts WHERE version = 3 AND part_id = (SELECT max(part_id) FROM version_parts)",
    ),
    (
        "CLOSING_MISSING",
        "UPDATE versions SET closing = NULL WHERE version = 4",
        "UPDATE versions SET closing = s.closing FROM saved_versions AS s WHERE s.line_id = versions.line_id AND s.version = versions.version",
    ),
    (
        "CLOSING_DAMAGED",
        "UPDATE versions SET closing = '\\xff' WHERE version = 4",
        "UPDATE versions SET closing = s.closing FROM saved_versions AS s WHERE s.line_id = versions.line_id AND s.version = versions.version",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_broken_is_found_and_what_follows_from_the_rest_is_put_right() {
    let world = made().await;
    let (whole, named) = checked(&world, false).await;
    assert_eq!(named, Vec::<String>::new());
    assert!(whole.rows > 4, "{whole:?}");

    for (kind, broken) in MENDED {
        sql(&world, broken).await;
        let (found, named) = checked(&world, false).await;
        assert!(found.kinds.contains_key(kind), "{kind}: {named:?}");
        assert_eq!(found.repaired, 0);
        assert!(named.iter().any(|line| line.starts_with(kind)), "{named:?}");
        let (found, _) = checked(&world, true).await;
        assert!(found.repaired > 0, "{kind}: {found:?}");
        let (after, named) = checked(&world, false).await;
        assert_eq!(named, Vec::<String>::new(), "{kind}");
        assert_eq!(after.rows, whole.rows, "{kind}: no row that is needed went");
    }
    for (kind, broken, back) in TOLD {
        sql(&world, broken).await;
        let (found, named) = checked(&world, false).await;
        assert!(found.kinds.contains_key(kind), "{kind}: {named:?}");
        sql(&world, back).await;
        let (_, named) = checked(&world, false).await;
        assert_eq!(named, Vec::<String>::new(), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_version_needs_is_counted_anew() {
    let world = made().await;
    let client = world.store.client().await.unwrap();
    let read = "SELECT closing FROM versions WHERE version = 4";
    let good: Vec<u8> = client.query_one(read, &[]).await.unwrap().get(0);
    let mut record = ClosingRecord::decode(good.as_slice()).unwrap();
    record.needs[0].entry_count += 1;
    let write = "UPDATE versions SET closing = $1 WHERE version = 4";
    client
        .execute(write, &[&record.encode_to_vec()])
        .await
        .unwrap();
    // Where less is there than was, the record is the only one that knows.
    let (found, named) = checked(&world, true).await;
    assert!(named[0].starts_with("LISTINGS_MISSING"), "{named:?}");
    assert_eq!(found.repaired, 0);
    record.needs[0].entry_count -= 2;
    client
        .execute(write, &[&record.encode_to_vec()])
        .await
        .unwrap();
    let (found, named) = checked(&world, true).await;
    assert_eq!(named.len(), 1, "{named:?}");
    assert!(
        named[0].starts_with("NEEDS_DIFFER") && named[0].ends_with("/versions/4"),
        "{named:?}"
    );
    assert_eq!(found.repaired, 1);
    let mended: Vec<u8> = client.query_one(read, &[]).await.unwrap().get(0);
    assert_eq!(mended, good);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_are_counted_and_ten_of_a_kind_are_named() {
    let world = made().await;
    sql(
        &world,
        "INSERT INTO pages (line_id, chunk, version, archive_ordinal, part_number) \
         SELECT l.id, convert_to('z' || n::text, 'UTF8'), 2, 2, 1 FROM lines AS l, generate_series(1, 600) AS n",
    )
    .await;
    let (found, named) = checked(&world, true).await;
    assert_eq!(found.kinds["ROW_UNNEEDED"], 600);
    assert_eq!(named.len(), 10, "{named:?}");
    assert_eq!(found.repaired, 600);
    let (_, named) = checked(&world, false).await;
    assert_eq!(named, Vec::<String>::new());
}
