//! Parts and versions against a real PostgreSQL: what counts, what is refused, what becomes an orphan.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;
#[path = "support/world.rs"]
mod world;

use taf_controller::catalog::{Error, View, browse, commit, report};
use taf_controller::store::{assignments, attempt_volumes};
use taf_proto::agent::{AssignmentKey, JudgePartRequest};
use world::{Backup, DICTIONARY, Part, TAPE, Tree, World, dictionary};

fn tree() -> Tree {
    let names: Vec<String> = (0..300)
        .map(|n| format!("d{}/e{}/f{n}", n % 7, n % 3))
        .collect();
    let files: Vec<(&str, u64, u64)> = names.iter().map(|name| (name.as_str(), 3_000, 0)).collect();
    Tree::of(&files)
}

#[tokio::test]
async fn a_part_that_comes_again_gets_the_same_answer_and_counts_once() {
    let world = World::new().await;
    let attempt = world.attempt().await;
    let backup = Backup::of(&tree(), 1);
    let parts = backup.parts(&world, &attempt, 3).await;
    for part in &parts {
        world.commit(part).await.unwrap();
        let after = world.volume().await;
        world.commit(part).await.unwrap();
        assert_eq!(world.volume().await, after);
        assert_eq!(after.1 as u64, part.header.next_tape_file);
        assert_eq!(after.2 as u64, part.header.next_block);
    }
    assert_eq!(world.count("parts").await, 3);
    assert_eq!(world.count("pages").await, backup.pages.len() as i64);
}

#[tokio::test]
async fn the_same_part_with_other_content_is_a_conflict_and_quarantines_the_volume() {
    let world = World::new().await;
    let attempt = world.attempt().await;
    let parts = Backup::of(&tree(), 1).parts(&world, &attempt, 2).await;
    world.commit(&parts[0]).await.unwrap();
    let other = Part {
        records: parts[1].records.clone(),
        ..parts[0].clone()
    };
    let error = world.commit(&other).await.unwrap_err();
    assert!(matches!(error, Error::Conflict(_)), "{error}");
    assert_eq!(world.volume().await.0, "quarantined");
    assert_eq!(world.count("parts").await, 1);
}

#[tokio::test]
async fn another_part_at_the_same_tape_file_is_a_conflict() {
    let world = World::new().await;
    let attempt = world.attempt().await;
    let parts = Backup::of(&tree(), 1).parts(&world, &attempt, 2).await;
    world.commit(&parts[0]).await.unwrap();
    let mut other = parts[1].clone();
    other.header.tape_file = parts[0].header.tape_file;
    let error = world.commit(&other).await.unwrap_err();
    assert!(matches!(error, Error::Conflict(_)), "{error}");
    assert_eq!(world.volume().await.0, "quarantined");
    assert_eq!(world.count("pages WHERE part_number = 2").await, 0);
}

#[tokio::test]
async fn a_part_behind_a_gap_is_refused_and_leaves_nothing() {
    let world = World::new().await;
    let attempt = world.attempt().await;
    let parts = Backup::of(&tree(), 1).parts(&world, &attempt, 2).await;
    let before = world.volume().await;
    let error = world.commit(&parts[1]).await.unwrap_err();
    assert!(matches!(error, Error::Position(_)), "{error}");
    assert_eq!(world.volume().await, before);
    assert_eq!(world.count("pages").await, 0);
    // In order they fit.
    world.commit(&parts[0]).await.unwrap();
    world.commit(&parts[1]).await.unwrap();
}

#[tokio::test]
async fn damaged_streams_leave_nothing() {
    let world = World::new().await;
    let attempt = world.attempt().await;
    let part = Backup::of(&tree(), 1)
        .parts(&world, &attempt, 1)
        .await
        .remove(0);
    let send = async |messages: Vec<_>| {
        commit::commit(
            &world.store,
            TAPE,
            futures::stream::iter(messages.into_iter().map(Ok)),
        )
        .await
    };

    let mut cut = part.messages();
    cut.pop();
    assert!(matches!(send(cut).await.unwrap_err(), Error::Stream(_)));
    let mut without_some = part.messages();
    without_some.remove(1);
    assert!(matches!(
        send(without_some).await.unwrap_err(),
        Error::Invalid(_)
    ));
    let torn = Part {
        records: part.records[..part.records.len() - 1].to_vec(),
        ..part.clone()
    };
    assert!(matches!(
        world.commit(&torn).await.unwrap_err(),
        Error::Invalid(_)
    ));
    let mut flipped = part.clone();
    let at = flipped.records.len() / 2;
    flipped.records[at] ^= 0xFF;
    assert!(
        world.commit(&flipped).await.is_err(),
        "a page that is none became a row"
    );
    let twice = Part {
        records: [&part.records[..], &part.records].concat(),
        ..part.clone()
    };
    assert!(
        matches!(world.commit(&twice).await.unwrap_err(), Error::Invalid(said) if said.contains("twice"))
    );
    let mut wrong = part.clone();
    wrong.header.end_tar_offset += 512;
    assert!(matches!(
        world.commit(&wrong).await.unwrap_err(),
        Error::Invalid(_)
    ));

    assert_eq!(
        (world.count("pages").await, world.count("parts").await),
        (0, 0)
    );
    world.commit(&part).await.unwrap();
}

#[tokio::test]
async fn only_the_agent_of_the_drive_with_the_current_generation_commits() {
    let world = World::new().await;
    let attempt = world.attempt().await;
    let part = Backup::of(&tree(), 1)
        .parts(&world, &attempt, 1)
        .await
        .remove(0);
    let as_agent = async |agent: &str, part: &Part| {
        commit::commit(
            &world.store,
            agent,
            futures::stream::iter(part.messages().into_iter().map(Ok)),
        )
        .await
    };
    assert!(matches!(
        as_agent("tape-2", &part).await.unwrap_err(),
        Error::Foreign(_)
    ));
    assert!(matches!(
        as_agent(world::SOURCE, &part).await.unwrap_err(),
        Error::Foreign(_)
    ));
    let mut stale = part.clone();
    stale
        .header
        .key
        .as_mut()
        .unwrap()
        .generation
        .as_mut()
        .unwrap()
        .counter -= 1;
    assert!(matches!(
        as_agent(TAPE, &stale).await.unwrap_err(),
        Error::UnknownAssignment(_)
    ));
    let mut other = part.clone();
    other.header.recording_uuid = bytes::Bytes::copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    assert!(matches!(
        as_agent(TAPE, &other).await.unwrap_err(),
        Error::Invalid(_)
    ));
    let client = world.store.client().await.unwrap();
    let found = assignments::assignment_get(&client, attempt.id, 1, attempt.job + 100)
        .await
        .unwrap()
        .unwrap();
    assert!(found.live);
    let given = |recording| attempt_volumes::volume_is_given(&client, found.attempt_id, recording);
    assert!(given(world.recording).await.unwrap());
    assert!(!given(uuid::Uuid::new_v4()).await.unwrap());
}

#[tokio::test]
async fn a_late_part_counts_until_a_newer_attempt_opens_the_version_and_is_an_orphan_then() {
    let world = World::new().await;
    let first = world.attempt().await;
    let parts = Backup::of(&tree(), 1).parts(&world, &first, 2).await;
    world.end_attempts().await;
    world.commit(&parts[0]).await.unwrap();
    assert_eq!(world.count("parts").await, 1);

    let second = world.attempt().await;
    assert_eq!((second.opened.version, second.opened.ordinal), (1, 2));
    assert!(second.opened.opening.resumes);
    let staged = world.count("pages").await;
    assert_eq!(world.count("archives WHERE state = 'closed'").await, 1);
    for _ in 0..2 {
        let error = world.commit(&parts[1]).await.unwrap_err();
        assert!(matches!(error, Error::Closed(_)), "{error}");
        let (state, next_tape_file, next_block) = world.volume().await;
        assert_eq!(state, "appendable");
        assert_eq!(
            (next_tape_file as u64, next_block as u64),
            (parts[1].header.next_tape_file, parts[1].header.next_block)
        );
    }
    assert_eq!(world.count("orphans").await, 1);
    assert_eq!(world.count("pages").await, staged);
}

/// An attempt of another job, which is given the same volume.
async fn another_job(world: &World) -> AssignmentKey {
    world.end_attempts().await;
    let mut client = world.store.client().await.unwrap();
    let tx = client.transaction().await.unwrap();
    let sql = "INSERT INTO jobs (kind, state, creator, volume_id, created_at) \
               VALUES ('index', 'running', 'test', $1, now()) RETURNING id";
    let job: i64 = tx.query_one(sql, &[&world.volume_id]).await.unwrap().get(0);
    let (_, key) = world.attempt_on(&tx, job).await;
    tx.commit().await.unwrap();
    key
}

#[tokio::test]
async fn a_part_that_another_job_finds_on_tape_is_adopted_while_its_archive_is_open() {
    let world = World::new().await;
    let attempt = world.attempt().await;
    let parts = Backup::of(&tree(), 1).parts(&world, &attempt, 2).await;
    let key = another_job(&world).await;
    let judge = async |part: &Part| {
        let request = JudgePartRequest {
            key: Some(key),
            recording_uuid: part.header.recording_uuid.clone(),
            archive_uuid: part.header.archive_uuid.clone(),
            part_number: part.header.part_number,
            tape_file: part.header.tape_file,
        };
        report::judge_part(&world.store, TAPE, &request)
            .await
            .unwrap()
    };
    assert!(judge(&parts[0]).await.current);
    let mut found = parts[0].clone();
    found.header.key = Some(key);
    // It is not its own, and does not say that it was found.
    let error = world.commit(&found).await.unwrap_err();
    assert!(matches!(error, Error::Invalid(_)), "{error}");
    found.header.adopted = true;
    world.commit(&found).await.unwrap();
    assert_eq!(world.count("parts").await, 1);
    // The journal turns up after all: it says the same.
    world.commit(&parts[0]).await.unwrap();
    assert_eq!(world.count("parts").await, 1);

    // A newer attempt opens the version: what is found now is an orphan, also for who has read it already.
    world.attempt().await;
    let key = another_job(&world).await;
    let judged = report::judge_part(
        &world.store,
        TAPE,
        &JudgePartRequest {
            key: Some(key),
            recording_uuid: parts[1].header.recording_uuid.clone(),
            archive_uuid: parts[1].header.archive_uuid.clone(),
            ..JudgePartRequest::default()
        },
    )
    .await
    .unwrap();
    assert!(!judged.current);
    assert!(judged.reason.contains("newer attempt"), "{}", judged.reason);
    let mut late = parts[1].clone();
    late.header.key = Some(key);
    late.header.adopted = true;
    let error = world.commit(&late).await.unwrap_err();
    assert!(matches!(error, Error::Closed(_)), "{error}");
    assert_eq!(world.count("orphans").await, 1);
}

#[tokio::test]
async fn a_late_part_with_rows_that_the_newer_attempt_has_too_is_an_orphan() {
    let world = World::new().await;
    let first = world.attempt().await;
    let late = Backup::of(&tree(), 1)
        .parts(&world, &first, 1)
        .await
        .remove(0);
    let second = world.attempt().await;
    let backup = Backup::of(&tree(), 2);
    assert!(matches!(
        world.commit(&late).await.unwrap_err(),
        Error::Closed(_)
    ));
    for part in backup.parts(&world, &second, 2).await {
        world.commit(&part).await.unwrap();
    }
    world.publish(&second, &backup).await.unwrap();
    assert!(matches!(
        world.commit(&late).await.unwrap_err(),
        Error::Closed(_)
    ));
}

#[tokio::test]
async fn only_a_whole_archive_is_published_and_once() {
    let world = World::new().await;
    let attempt = world.attempt().await;
    let backup = Backup::of(&tree(), 1);
    let parts = backup.parts(&world, &attempt, 3).await;
    assert!(world.publish(&attempt, &backup).await.is_err());
    for part in &parts {
        assert!(
            View::open(&world.store, world.line, 1)
                .await
                .unwrap()
                .is_none()
        );
        assert!(world.publish(&attempt, &backup).await.is_err());
        world.commit(part).await.unwrap();
    }
    world.publish(&attempt, &backup).await.unwrap();
    assert!(world.publish(&attempt, &backup).await.is_err());
    let client = world.store.client().await.unwrap();
    let row = client.query_one("SELECT l.head, v.state, v.file_count, v.stored_byte_count, a.state FROM lines AS l, versions AS v, archives AS a", &[]).await.unwrap();
    assert_eq!(
        (
            row.get::<_, i64>(0),
            row.get::<_, &str>(1),
            row.get::<_, i64>(2)
        ),
        (1, "published", 300)
    );
    let bytes: u64 = parts.iter().map(|part| part.header.byte_count).sum();
    assert_eq!(
        (row.get::<_, i64>(3) as u64, row.get::<_, &str>(4)),
        (bytes, "published")
    );
}

#[tokio::test]
async fn a_new_attempt_replaces_what_a_failed_one_staged_and_versions_stay_apart() {
    let world = World::new().await;
    world.back_up(&Tree::of(&[("first", 1, 0)]), 1).await;
    let failed = world.attempt_at(taf_core::catalog::Kind::Incremental).await;
    let old = Tree::of(&[("gone/a", 1, 0), ("kept/b", 1, 0)]);
    let parts = Backup::of(&old, 2).parts(&world, &failed, 1).await;
    world.commit(&parts[0]).await.unwrap();

    // A full can't go on with what an incremental left.
    world.back_up(&Tree::of(&[("kept/c", 1, 0)]), 2).await;
    world
        .back_up(&Tree::of(&[("kept/d", 1, 0), ("new/e", 1, 0)]), 1)
        .await;
    let names = async |version: i64, directory: &str| {
        let view = View::open(&world.store, world.line, version)
            .await
            .unwrap()
            .unwrap();
        let found = browse::list(&view, directory.as_bytes(), None, 100)
            .await
            .unwrap();
        found.map(|listing| {
            listing
                .entries
                .iter()
                .map(|entry| String::from_utf8(entry.name.clone()).unwrap())
                .collect::<Vec<_>>()
        })
    };
    assert_eq!(names(1, "").await.unwrap(), ["first"]);
    assert_eq!(names(2, "").await.unwrap(), ["kept"]);
    assert_eq!(names(2, "kept").await.unwrap(), ["c"]);
    assert_eq!(names(2, "gone").await, None);
    assert_eq!(names(2, "new").await, None);
    assert_eq!(names(3, "").await.unwrap(), ["kept", "new"]);
    assert_eq!(names(3, "kept").await.unwrap(), ["d"]);
    assert_eq!(world.count("archives WHERE state = 'abandoned'").await, 1);
}

#[tokio::test]
async fn a_lines_dictionaries_serve_all_its_pages_and_are_never_replaced() {
    let world = World::new().await;
    let attempt = world.attempt().await;
    let mut parts = Backup::of(&tree(), 1).parts(&world, &attempt, 3).await;
    let own = dictionary(DICTIONARY.0, DICTIONARY.1);
    let without = |part: &Part| part.records[own.len()..].to_vec();

    // Pages whose dictionary nobody knows.
    let whole = parts[0].clone();
    parts[0].records = without(&whole);
    let error = world.commit(&parts[0]).await.unwrap_err();
    assert!(error.to_string().contains("dictionary 16"), "{error}");
    assert_eq!(world.count("dictionaries").await, 0);

    world.commit(&whole).await.unwrap();
    assert_eq!(world.count("dictionaries").await, 1);
    parts[1].records = without(&parts[1]);
    world.commit(&parts[1]).await.unwrap();

    // Another one under its number.
    let good = parts[2].clone();
    parts[2].records = [dictionary(DICTIONARY.0, b"something else"), without(&good)].concat();
    let error = world.commit(&parts[2]).await.unwrap_err();
    assert!(
        error.to_string().contains("not the one that is known"),
        "{error}"
    );
    world.commit(&good).await.unwrap();
    assert_eq!(world.count("dictionaries").await, 1);
    world
        .publish(&attempt, &Backup::of(&tree(), 1))
        .await
        .unwrap();
    let view = View::open(&world.store, world.line, 1)
        .await
        .unwrap()
        .unwrap();
    let root = browse::list(&view, b"", None, 100).await.unwrap().unwrap();
    assert_eq!(root.entries.len(), 7);
}
