//! Volume indexes and closing records against a real PostgreSQL: what an index is to tell of, and what a version needs.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;
#[allow(dead_code)]
#[path = "support/world.rs"]
mod world;

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message as _;
use taf_controller::catalog::{Error, closing, index};
use taf_controller::store::volumes;
use taf_format::entry::Kind;
use taf_format::index::{ClosingRecord, IndexPart, Need, VersionType};
use taf_format::page::{self, Entry, Page, Place};
use taf_format::record::Body;
use taf_proto::agent::fetch_index_response::Message;
use taf_proto::agent::{
    AssignmentKey, CommitIndexRequest, FetchIndexRequest, IndexClosing, IndexedPart, IndexedVersion,
};
use tokio::sync::mpsc;
use uuid::Uuid;
use world::{Backup, Part, TAPE, Tree, World};

fn tree() -> Tree {
    let names: Vec<String> = (0..200)
        .map(|n| format!("d{}/e{}/f{n}", n % 7, n % 3))
        .collect();
    let files: Vec<(&str, u64, u64)> = names
        .iter()
        .enumerate()
        .map(|(n, name)| (name.as_str(), 3_000, if n % 10 == 0 { 5 } else { 0 }))
        .collect();
    Tree::of(&files)
}

fn raw(uuid: Uuid) -> Bytes {
    Bytes::copy_from_slice(uuid.as_bytes())
}

/// What the next index on the recording is to tell of.
async fn fetched(world: &World, key: AssignmentKey) -> Vec<Message> {
    let (sender, mut receiver) = mpsc::channel(1000);
    let request = FetchIndexRequest {
        key: Some(key),
        recording_uuid: raw(world.recording),
    };
    index::stream(&world.store, TAPE, &request, &sender)
        .await
        .unwrap();
    drop(sender);
    let mut messages = Vec::new();
    while let Some(message) = receiver.recv().await {
        messages.push(message.unwrap().message.unwrap());
    }
    messages
}

fn parts_in(messages: &[Message]) -> Vec<&IndexPart> {
    let parts = messages.iter().filter_map(|message| match message {
        Message::Part(part) => Some(part),
        _ => None,
    });
    parts.collect()
}

fn closings_in(messages: &[Message]) -> Vec<&IndexClosing> {
    let closings = messages.iter().filter_map(|message| match message {
        Message::Closing(closing) => Some(closing),
        _ => None,
    });
    closings.collect()
}

/// An index of these parts and closing records, where the volume ends.
async fn an_index(
    world: &World,
    key: AssignmentKey,
    parts: &[&IndexPart],
    closings: &[&IndexClosing],
) -> CommitIndexRequest {
    let (_, tape_file, block) = world.volume().await;
    CommitIndexRequest {
        key: Some(key),
        index_uuid: raw(Uuid::new_v4()),
        recording_uuid: raw(world.recording),
        tape_file: tape_file as u64,
        first_block: block as u64,
        block_count: 3,
        byte_count: 150_000,
        next_tape_file: tape_file as u64 + 1,
        next_block: block as u64 + 4,
        covered: parts
            .iter()
            .map(|part| IndexedPart {
                recording_uuid: raw(world.recording),
                tape_file: part.tape_file,
            })
            .collect(),
        uncovered: Vec::new(),
        versions: closings
            .iter()
            .map(|closing| IndexedVersion {
                line_uuid: closing.line_uuid.clone(),
                version: closing.version,
            })
            .collect(),
    }
}

async fn commit(world: &World, request: &CommitIndexRequest) -> Result<(), Error> {
    index::commit(&world.store, TAPE, request).await
}

async fn due(world: &World) -> bool {
    world.count("volumes WHERE index_due").await == 1
}

async fn closing_of(world: &World, version: i64) -> ClosingRecord {
    let client = world.store.client().await.unwrap();
    let sql = "SELECT closing FROM versions WHERE version = $1";
    let row = client.query_one(sql, &[&version]).await.unwrap();
    ClosingRecord::decode(row.get::<_, Vec<u8>>(0).as_slice()).unwrap()
}

/// Needs by brute force: rows by the part that brought them, entries and bytes by the part that they begin in.
fn needs(backup: &Backup, parts: &[Part]) -> BTreeMap<u32, Need> {
    let mut needs: BTreeMap<u32, Need> = BTreeMap::new();
    for part in parts {
        let is_row = |body: &Body| matches!(body, Body::Page(_) | Body::Tombstone(_));
        let records = taf_format::record::iter(&part.records);
        let rows =
            records.filter(|record| record.as_ref().unwrap().record.as_ref().is_some_and(is_row));
        let rows = rows.count() as u64;
        let number = part.header.part_number;
        let need = needs.entry(number).or_default();
        (need.version, need.archive_ordinal, need.part_number) = (1, 1, number);
        need.row_count = rows;
        need.barcode = "TAF001L9".into();
    }
    for entry in backup.pages.iter().flat_map(|page| &page.entries) {
        let Some(place) = entry.place else { continue };
        let part = parts
            .iter()
            .find(|part| place.tar_offset < part.header.end_tar_offset)
            .unwrap();
        let need = needs.get_mut(&part.header.part_number).unwrap();
        need.entry_count += 1;
        need.byte_count += entry.size;
    }
    needs
}

#[tokio::test]
async fn a_closing_record_says_what_the_version_is_and_needs() {
    let world = World::new().await;
    let attempt = world.attempt().await;
    let backup = Backup::of(&tree(), 1);
    let parts = backup.parts(&world, &attempt, 3).await;
    for part in &parts {
        world.commit(part).await.unwrap();
    }
    world.publish(&attempt, &backup).await.unwrap();
    let closing = closing_of(&world, 1).await;
    assert_eq!(closing.format_version, 1);
    assert_eq!((closing.version, closing.parent, closing.floor), (1, 0, 1));
    assert_eq!(closing.r#type(), VersionType::Full);
    assert_eq!(closing.line_uuid, raw(attempt.opened.line_uuid));
    let names = (
        closing.plan.as_str(),
        closing.source.as_str(),
        closing.agent.as_str(),
    );
    assert_eq!(names, ("daily", "home", world::SOURCE));
    assert_eq!(
        (closing.file_count, closing.directory_count),
        (backup.files, backup.directories)
    );
    assert!(closing.published_at_unix_nanos >= closing.started_at_unix_nanos);
    let expected = needs(&backup, &parts);
    assert_eq!(
        closing.needs,
        expected.values().cloned().collect::<Vec<_>>()
    );
    let rows: u64 = closing.needs.iter().map(|need| need.row_count).sum();
    assert_eq!(rows, backup.pages.len() as u64);
    let [archive] = &closing.archives[..] else {
        panic!("{:?}", closing.archives)
    };
    assert_eq!(
        (archive.ordinal, &archive.archive_uuid),
        (1, &parts[0].header.archive_uuid)
    );
    assert_eq!(archive.last_sequence, parts[2].header.last_sequence);
    for (part, sent) in archive.parts.iter().zip(&parts) {
        assert_eq!(
            (part.part_number, part.tape_file),
            (sent.header.part_number, sent.header.tape_file)
        );
        assert_eq!(part.row_count, expected[&part.part_number].row_count);
    }
}

/// A page of one directory with these files, wherever they lie.
fn a_page(directory: &str, files: &[(&str, u64, Place)]) -> Page {
    Page {
        directory: directory.as_bytes().to_vec(),
        header: Some(page::DirectoryStat::default()),
        entries: files
            .iter()
            .map(|(name, size, place)| Entry {
                size: *size,
                place: Some(*place),
                tar_length: 1024,
                hash: Some([1; 16]),
                ..Entry::bare(name.as_bytes().to_vec(), Kind::File)
            })
            .collect(),
        ..Page::default()
    }
}

/// What later versions resolve to is counted by the general rule, whoever writes them: newest row of each key, tombstones too.
#[tokio::test]
async fn needs_of_a_version_that_changed_little_name_the_parts_of_the_one_below() {
    let world = World::new().await;
    let (first, whole) = world.back_up(&tree(), 2).await;
    let before = closing_of(&world, 1).await;
    let attempt = world.attempt_at(taf_core::catalog::Kind::Incremental).await;
    // One new file and one that stayed where it was; one directory is gone.
    let tree = Tree::of(&[("x", 3_000, 0)]);
    let made = Backup::of(&tree, attempt.opened.ordinal as u32);
    let mut part = made.parts(&world, &attempt, 1).await.remove(0);
    let stays = Place {
        archive_ordinal: 1,
        tar_offset: 512,
    };
    let new = Place {
        archive_ordinal: attempt.opened.ordinal as u32,
        tar_offset: 512,
    };
    let page = a_page("d1/e1", &[("new", 700, new), ("stays", 30, stays)]);
    let encoded = page::encode(&page, None).unwrap();
    part.records.clear();
    let record = taf_format::record::Page {
        chunk: encoded.chunk.into(),
        body: encoded.body.into(),
        hashes: encoded.hashes.into(),
    };
    taf_format::record::encode(&taf_format::record::page(record), &mut part.records).unwrap();
    let gone = taf_format::key::of_path(b"d2/e2");
    taf_format::record::encode(&taf_format::record::tombstone(gone), &mut part.records).unwrap();
    world.commit(&part).await.unwrap();

    closing::count(&world.store, world.line, 2).await.unwrap();
    assert_eq!(
        world
            .count("versions WHERE version = 2 AND needs IS NOT NULL")
            .await,
        1
    );
    world.publish(&attempt, &made).await.unwrap();
    let closing = closing_of(&world, 2).await;
    assert_eq!((closing.parent, closing.floor), (1, 1));
    let own: Vec<&Need> = closing.needs.iter().filter(|n| n.version == 2).collect();
    assert_eq!(own.len(), 1);
    assert_eq!(
        (own[0].row_count, own[0].entry_count, own[0].byte_count),
        (2, 1, 700)
    );
    let sum = |closing: &ClosingRecord, of: fn(&Need) -> u64| -> u64 {
        let first = closing.needs.iter().filter(|n| n.version == 1);
        first.map(of).sum()
    };
    assert_eq!(
        sum(&closing, |n| n.row_count),
        sum(&before, |n| n.row_count) - 2
    );
    // What stood in the pages that are covered now, and the one file that stays.
    let covered = |page: &&Page| {
        let directory = page.directory.as_slice();
        page.lower.is_none() && (directory == b"d1/e1" || directory == b"d2/e2")
    };
    let covered: usize = whole
        .pages
        .iter()
        .filter(covered)
        .map(|page| page.entries.len())
        .sum();
    let entries = sum(&before, |n| n.entry_count) - sum(&closing, |n| n.entry_count);
    assert_eq!(entries, covered as u64 - 1);
    assert_eq!(closing.archives[0].parts[0].row_count, 2);
    assert_ne!(
        closing.archives[0].archive_uuid,
        raw(first.opened.archive_uuid)
    );
}

#[tokio::test]
async fn an_index_is_told_of_what_no_index_has_and_then_of_nothing() {
    let world = World::new().await;
    assert!(!due(&world).await);
    let attempt = world.attempt().await;
    let backup = Backup::of(&tree(), 1);
    let parts = backup.parts(&world, &attempt, 3).await;
    world.commit(&parts[0]).await.unwrap();
    assert!(due(&world).await, "a part is on it");
    let messages = fetched(&world, attempt.key).await;
    assert!(matches!(&messages[0], Message::Volume(v) if v.recording_uuid == raw(world.recording)));
    assert_eq!(parts_in(&messages).len(), 1);
    assert!(closings_in(&messages).is_empty());
    let told = parts_in(&messages)[0];
    let digest = blake3::Hasher::new()
        .update(&parts[0].records)
        .update(&parts[0].header.segment_table)
        .finalize();
    assert_eq!(told.digest, digest.as_bytes().as_slice());
    assert_eq!(
        (told.plan.as_str(), told.version, told.archive_ordinal),
        ("daily", 1, 1)
    );
    assert_eq!(told.line_uuid, raw(attempt.opened.line_uuid));

    let first = an_index(&world, attempt.key, &parts_in(&messages), &[]).await;
    commit(&world, &first).await.unwrap();
    assert!(!due(&world).await);
    let end = world.volume().await;
    assert_eq!(
        (end.1 as u64, end.2 as u64),
        (first.next_tape_file, first.next_block)
    );
    commit(&world, &first).await.unwrap();
    assert_eq!(world.volume().await, end, "again changes nothing");
    let misplaced = CommitIndexRequest {
        index_uuid: raw(Uuid::new_v4()),
        ..first.clone()
    };
    assert!(matches!(
        commit(&world, &misplaced).await.unwrap_err(),
        Error::Position(_)
    ));
    assert_eq!(world.volume().await, end);

    for part in backup.parts(&world, &attempt, 3).await.iter().skip(1) {
        let mut part = part.clone();
        let (_, tape_file, block) = world.volume().await;
        part.header.tape_file = tape_file as u64;
        part.header.first_block = block as u64;
        part.header.next_tape_file = tape_file as u64 + 1;
        part.header.next_block = block as u64 + part.header.block_count + 1;
        world.commit(&part).await.unwrap();
    }
    world.publish(&attempt, &backup).await.unwrap();
    let messages = fetched(&world, attempt.key).await;
    let earlier = messages
        .iter()
        .filter(|m| matches!(m, Message::Earlier(e) if e.tape_file == first.tape_file));
    assert_eq!(earlier.count(), 1);
    assert_eq!(parts_in(&messages).len(), 2);
    let closings = closings_in(&messages);
    assert_eq!(closings.len(), 1);
    assert_eq!(
        ClosingRecord::decode(closings[0].record.clone()).unwrap(),
        closing_of(&world, 1).await
    );

    // One part's records are lost: it is listed, and not asked for again, but told of again.
    let mut second = an_index(&world, attempt.key, &parts_in(&messages)[..1], &closings).await;
    second.uncovered = vec![IndexedPart {
        recording_uuid: raw(world.recording),
        tape_file: parts_in(&messages)[1].tape_file,
    }];
    commit(&world, &second).await.unwrap();
    assert!(!due(&world).await);
    let messages = fetched(&world, attempt.key).await;
    assert_eq!(
        (parts_in(&messages).len(), closings_in(&messages).len()),
        (1, 0)
    );

    let client = world.store.client().await.unwrap();
    let files = volumes::volume_files(&client, world.recording)
        .await
        .unwrap();
    let shown: Vec<(Option<i64>, bool)> = files.iter().map(|f| (f.covered, f.indexed)).collect();
    assert_eq!(
        shown,
        [
            (None, true),
            (Some(1), false),
            (None, true),
            (None, false),
            (Some(1), false)
        ]
    );
}

#[tokio::test]
async fn a_full_volume_without_room_is_told_of_by_the_next_of_its_pool() {
    let world = World::new().await;
    let (_, backup) = world.back_up(&tree(), 2).await;
    let client = world.store.client().await.unwrap();
    let old = world.recording;
    client
        .execute(
            "UPDATE volumes SET state = 'full', index_due = false, index_omitted = true",
            &[],
        )
        .await
        .unwrap();
    let fresh = Uuid::new_v4();
    client
        .execute(
            "INSERT INTO volumes (barcode, volume_uuid, pool_id, state, recording_uuid, block_size, next_tape_file, next_block, labelled_at, created_at) \
             SELECT 'TAF002L9', $1::uuid, pool_id, 'appendable', $2::uuid, block_size, 1, 4, now(), now() FROM volumes",
            &[&Uuid::new_v4(), &fresh],
        )
        .await
        .unwrap();
    let world = world.on(fresh).await;
    let attempt = world.attempt().await;
    let messages = fetched(&world, attempt.key).await;
    let volumes: Vec<&Bytes> = messages
        .iter()
        .filter_map(|m| match m {
            Message::Volume(volume) => Some(&volume.recording_uuid),
            _ => None,
        })
        .collect();
    assert_eq!(volumes, [&raw(fresh), &raw(old)], "its own first");
    assert_eq!(parts_in(&messages).len(), 2);
    assert_eq!(closings_in(&messages).len(), 1);
    assert_eq!(backup.files, 200);
    let mut request = an_index(
        &world,
        attempt.key,
        &parts_in(&messages),
        &closings_in(&messages),
    )
    .await;
    request.tape_file = 1;
    request.first_block = 4;
    request.next_tape_file = 2;
    request.next_block = 8;
    for part in &mut request.covered {
        part.recording_uuid = raw(old);
    }
    commit(&world, &request).await.unwrap();
    assert_eq!(world.count("parts WHERE covered_by IS NULL").await, 0);
    assert_eq!(
        world
            .count("volumes WHERE index_omitted OR index_due")
            .await,
        0
    );
    let messages = fetched(&world, attempt.key).await;
    assert_eq!(parts_in(&messages).len() + closings_in(&messages).len(), 0);
}
