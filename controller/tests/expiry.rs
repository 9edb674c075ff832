//! What is kept no longer goes, and nothing else, whatever runs meanwhile: against a real PostgreSQL.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "support/runs.rs"]
mod runs;
mod support;
#[path = "support/world.rs"]
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use runs::{compared, fetch, files, make, recalled, run, sizes};
use taf_controller::catalog::vacuum::{self, Sweep};
use taf_controller::store::{expiry, lines, parts, reuse};
use taf_core::catalog::{Kind, Protected, resolve};
use taf_proto::agent::BaseKind;
use world::{Attempt, Tree, World};

/// These versions expire; gives those that did.
async fn expire(world: &World, versions: &[i64]) -> Vec<i64> {
    let mut client = world.store.client().await.unwrap();
    let tx = client.transaction().await.unwrap();
    lines::line_lock_on(&tx, world.line).await.unwrap();
    let expired = expiry::version_expire_on(&tx, world.line, versions, "a test");
    let mut expired = expired.await.unwrap();
    tx.commit().await.unwrap();
    expired.sort_unstable();
    expired
}

/// All that the background does, to the end.
async fn tidy(world: &World) {
    vacuum::release(&world.store).await.unwrap();
    vacuum::free_volumes(&world.store).await.unwrap();
    while let Some(mut sweep) = Sweep::begin(&world.store).await.unwrap() {
        while !sweep.step(&world.store, 3).await.unwrap() {}
    }
}

/// Rows by key: the versions that wrote one.
async fn rows(world: &World) -> BTreeMap<Vec<u8>, Vec<i64>> {
    let client = world.store.client().await.unwrap();
    let all = expiry::page_list_rows(&client, world.line, None, 1_000_000).await;
    all.unwrap().into_iter().collect()
}

/// The versions whose rows must stay, by another way than the one that is tested.
async fn protected(world: &World) -> Vec<Protected> {
    let client = world.store.client().await.unwrap();
    let sql = "SELECT version, floor FROM versions AS v WHERE state = 'published' AND (expired_at IS NULL \
               OR version = (SELECT head FROM lines) OR EXISTS (SELECT 1 FROM versions AS s WHERE s.state = 'staged' \
               AND (s.parent = v.version OR s.kind = 'differential' AND s.floor = v.version)))";
    let found = client.query(sql, &[]).await.unwrap();
    let of = |row: &tokio_postgres::Row| Protected {
        version: row.get(0),
        floor: row.get(1),
    };
    found.iter().map(of).collect()
}

fn change(tree: &mut Tree, random: &mut StdRng) {
    for _ in 0..random.random_range(0..4) {
        let path = format!(
            "d{}/e{}/f{}",
            random.random_range(0..4),
            random.random_range(0..2),
            random.random_range(0..3)
        );
        if random.random_bool(0.4) {
            tree.files.remove(path.as_bytes());
        } else {
            tree.files
                .insert(path.into_bytes(), (random.random_range(1..5_000), 0));
        }
    }
}

/// An attempt that commits the first part of two and dies; the next one may go on with it.
async fn die(world: &World, attempt: &Attempt, tree: &Tree) {
    let mut made = world::Backup::of(tree, attempt.opened.ordinal as u32);
    if attempt.opened.opening.parent != 0 {
        let head = fetch(world, attempt.key, BaseKind::Head).await.unwrap();
        made = compared(tree, attempt, &[&head]).0;
    }
    let part = made.parts(world, attempt, 2).await.remove(0);
    world.commit(&part).await.unwrap();
    world.end_attempts().await;
}

/// A line with all that happens to one, by chance: what is kept stays whole, and what stays is needed.
async fn course(seed: u64) {
    eprintln!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let world = World::new().await;
    let mut tree = Tree::of(&[("d0/e0/f0", 700, 0), ("d1/e1/f1", 70, 0)]);
    let mut kept: BTreeMap<i64, Tree> = BTreeMap::new();
    let mut sweep: Option<Sweep> = None;
    let (mut removed, mut head) = (0, 0);
    for _ in 0..30 {
        match random.random_range(0..10) {
            0..4 => {
                change(&mut tree, &mut random);
                let kind = [
                    Kind::Full,
                    Kind::Incremental,
                    Kind::Incremental,
                    Kind::Differential,
                ][random.random_range(0..4)];
                let attempt = world.attempt_at(kind).await;
                // What it would go on with is not merged here; a full one makes an end of it.
                if attempt.opened.opening.resumes {
                    world.end_attempts().await;
                } else if kind == Kind::Incremental
                    && attempt.opened.opening.parent != 0
                    && random.random_bool(0.3)
                {
                    die(&world, &attempt, &tree).await;
                } else {
                    make(&world, &attempt, &tree).await;
                    head = attempt.opened.version;
                    kept.insert(head, tree.clone());
                }
            }
            4..7 if !kept.is_empty() => {
                let at = random.random_range(0..kept.len());
                let version = *kept.keys().nth(at).unwrap();
                assert_eq!(expire(&world, &[version]).await, [version]);
                kept.remove(&version);
            }
            7 => drop(vacuum::release(&world.store).await.unwrap()),
            // A sweep goes on whatever happened since it began.
            _ => match &mut sweep {
                Some(now) => {
                    if now.step(&world.store, 2).await.unwrap() {
                        removed += now.removed;
                        sweep = None;
                    }
                }
                None => sweep = Sweep::begin(&world.store).await.unwrap(),
            },
        }
        for (version, tree) in &kept {
            assert_eq!(
                files(&world, *version).await,
                sizes(tree),
                "version {version}"
            );
        }
    }
    let before = world.count("pages").await;
    tidy(&world).await;
    removed += before as u64 - world.count("pages").await as u64;
    eprintln!(
        "{head} versions, {} kept, {removed} rows removed",
        kept.len()
    );
    let stay = protected(&world).await;
    for (key, versions) in rows(&world).await {
        for &version in versions.iter().filter(|version| **version <= head) {
            let needed = stay
                .iter()
                .any(|of| resolve(&versions, *of) == Some(version));
            assert!(needed, "nobody resolves to {key:?} of version {version}");
        }
    }
    let client = world.store.client().await.unwrap();
    for (version, tree) in &kept {
        assert_eq!(
            files(&world, *version).await,
            sizes(tree),
            "version {version}"
        );
        let (archives, items) = recalled(&world, *version).await;
        let lies = |ordinal: &u32| archives.contains(ordinal);
        let own = items.iter().filter(|item| item.ancestor.is_none());
        assert!(own.map(|item| &item.archive_ordinal).all(lies));
    }
    let all: BTreeSet<i64> = stay.iter().map(|of| of.version).collect();
    for version in 1..=head {
        let has = parts::part_list_of_version(&client, world.line, version)
            .await
            .unwrap();
        assert_eq!(all.contains(&version), !has.is_empty(), "version {version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_needs_goes_and_all_else_stays_in_any_course_of_events() {
    let rounds = match std::env::var("TAF_EXPIRY_ROUNDS") {
        Ok(rounds) => rounds.parse().unwrap(),
        Err(_) => 3,
    };
    for seed in 1..=rounds {
        course(seed).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_restore_reads_stays_until_it_has_ended() {
    let world = World::new().await;
    let mut tree = Tree::of(&[("a", 700, 0)]);
    world.back_up(&tree, 1).await;
    tree.files.insert(b"b".to_vec(), (9, 0));
    world.back_up(&tree, 1).await;
    let client = world.store.client().await.unwrap();
    let sql = "INSERT INTO jobs (kind, state, creator, line_id, version, agent_id, restore_request, created_at) \
               VALUES ('restore', 'queued', 'test', $1, 1, $2, '', now())";
    client
        .execute(sql, &[&world.line, &world.agent_id])
        .await
        .unwrap();
    assert_eq!(expire(&world, &[1]).await, [1]);
    tidy(&world).await;
    assert_eq!(world.count("versions WHERE pages_gone").await, 0);
    assert_eq!(world.count("pages WHERE version = 1").await, 1);
    client
        .batch_execute(
            "UPDATE jobs SET state = 'cancelled', ended_at = now() WHERE kind = 'restore'",
        )
        .await
        .unwrap();
    tidy(&world).await;
    assert_eq!(
        world
            .count("versions WHERE pages_gone AND vacuumed_at IS NOT NULL")
            .await,
        1
    );
    assert_eq!(world.count("pages WHERE version = 1").await, 0);
    assert_eq!(world.count("version_parts WHERE version = 1").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_can_begin_to_read_a_version_or_the_version_expires_but_not_both() {
    let world = World::new().await;
    world.back_up(&Tree::of(&[("a", 700, 0)]), 1).await;
    let mut client = world.store.client().await.unwrap();
    let tx = client.transaction().await.unwrap();
    assert!(expiry::version_use_on(&tx, world.line, 1).await.unwrap());
    let waits = tokio::time::timeout(Duration::from_millis(300), expire(&world, &[1])).await;
    assert!(waits.is_err(), "it expired under the hands of a job");
    tx.commit().await.unwrap();
    // What waited was given up with its transaction.
    assert_eq!(expire(&world, &[1]).await, [1]);
    let tx = client.transaction().await.unwrap();
    assert!(!expiry::version_use_on(&tx, world.line, 1).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_or_locked_does_not_expire() {
    let world = World::new().await;
    let tree = Tree::of(&[("a", 700, 0)]);
    for _ in 0..3 {
        world.back_up(&tree, 1).await;
    }
    let client = world.store.client().await.unwrap();
    client
        .batch_execute(
            "UPDATE versions SET hold_reason = 'court' WHERE version = 1; \
        UPDATE versions SET locked_until = now() + interval '1 day' WHERE version = 2",
        )
        .await
        .unwrap();
    assert_eq!(expire(&world, &[1, 2, 3]).await, [3]);
    assert_eq!(
        expire(&world, &[3]).await,
        Vec::<i64>::new(),
        "once is enough"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_is_free_when_nothing_on_it_is_needed_and_not_before() {
    let world = World::new().await;
    let freed = "volumes WHERE freed_at IS NOT NULL";
    let mut tree = Tree::of(&[("a", 700, 0)]);
    tidy(&world).await;
    assert_eq!(
        world.count(freed).await,
        0,
        "one that was never written is fresh, not free"
    );
    world.back_up(&tree, 1).await;
    let other = uuid::Uuid::new_v4();
    let client = world.store.client().await.unwrap();
    let sql = "INSERT INTO volumes (barcode, volume_uuid, pool_id, state, recording_uuid, block_size, next_tape_file, next_block, \
               labelled_at, created_at) SELECT 'TAF002L9', $2, pool_id, 'appendable', $1, block_size, 1, 4, now(), now() FROM volumes";
    client
        .execute(sql, &[&other, &uuid::Uuid::new_v4()])
        .await
        .unwrap();
    drop(client);
    let world = world.on(other).await;
    tree.files.insert(b"b".to_vec(), (9, 0));
    run(&world, Kind::Incremental, &tree).await;
    // The head's own full has expired: what the head takes from it stays.
    expire(&world, &[1]).await;
    tidy(&world).await;
    assert_eq!(
        world
            .count("versions WHERE version = 1 AND pages_gone")
            .await,
        1
    );
    assert_eq!(world.count(freed).await, 0);
    // A new full needs nothing of either.
    world.back_up(&tree, 1).await;
    expire(&world, &[2]).await;
    tidy(&world).await;
    assert_eq!(
        world
            .count(&format!("{freed} AND barcode = 'TAF001L9'"))
            .await,
        1
    );
    assert_eq!(
        world.count(freed).await,
        1,
        "the new full is on the other one"
    );
    // An attempt that can be gone on with lives.
    let client = world.store.client().await.unwrap();
    let first = client
        .query_one(
            "SELECT recording_uuid FROM volumes WHERE barcode = 'TAF001L9'",
            &[],
        )
        .await
        .unwrap()
        .get(0);
    drop(client);
    let world = world.on(first).await;
    let attempt = world.attempt_at(Kind::Full).await;
    die(
        &world,
        &attempt,
        &Tree::of(&[("a", 700, 0), ("b/c", 30_000, 0)]),
    )
    .await;
    assert_eq!(world.count(freed).await, 0, "its time begins anew");
    tidy(&world).await;
    assert_eq!(world.count(freed).await, 0);
}

/// How long it takes to open runs on a line, in order.
async fn openings(world: &World, until: impl Fn() -> bool) -> Vec<Duration> {
    let mut took = Vec::new();
    while !until() {
        let begun = Instant::now();
        world.attempt_at(Kind::Full).await;
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    took
}

#[tokio::test(flavor = "multi_thread")]
async fn no_job_waits_while_the_rows_of_a_version_go() {
    let rows: i64 = match std::env::var("TAF_EXPIRY_ROWS") {
        Ok(rows) => rows.parse().unwrap(),
        Err(_) => 40_000,
    };
    let world = World::new().await;
    let tree = Tree::of(&[("a", 700, 0)]);
    world.back_up(&tree, 1).await;
    world.back_up(&tree, 1).await;
    let client = world.store.client().await.unwrap();
    let sql = "INSERT INTO pages (line_id, chunk, version, archive_ordinal, part_number, body, hashes) \
               SELECT $1, decode(lpad(to_hex(n), 16, '0'), 'hex'), 1 + n % 2, 1, 1, decode(repeat('5a', 600), 'hex'), \
               decode(repeat('a5', 300), 'hex') FROM generate_series(1::bigint, $2) AS n";
    client.execute(sql, &[&world.line, &rows]).await.unwrap();
    // What the server does by itself before long.
    client.batch_execute("ANALYZE pages").await.unwrap();
    let p99 = |took: &[Duration]| took[(took.len() * 99).div_ceil(100) - 1];
    let begun = Instant::now();
    let quiet = openings(&world, || begun.elapsed() > Duration::from_secs(1)).await;
    expire(&world, &[1]).await;
    vacuum::release(&world.store).await.unwrap();
    let sweeping = async {
        let mut sweep = Sweep::begin(&world.store).await.unwrap().unwrap();
        let begun = Instant::now();
        while !sweep.step(&world.store, vacuum::ROWS).await.unwrap() {}
        (begun.elapsed(), sweep.removed)
    };
    let over = std::cell::Cell::new(false);
    let sweeping = async {
        let swept = sweeping.await;
        over.set(true);
        swept
    };
    let (busy, (took, removed)) = tokio::join!(openings(&world, || over.get()), sweeping);
    eprintln!(
        "{removed} of {rows} rows gone in {took:?} without a pause; a run begins in {:?} (median), {:?} (p99) without, in {:?}, {:?} meanwhile, {:?} at most ({} runs)",
        quiet[quiet.len() / 2],
        p99(&quiet),
        busy[busy.len() / 2],
        p99(&busy),
        busy[busy.len() - 1],
        busy.len()
    );
    assert_eq!(removed as i64, rows / 2 + 1);
    assert!(p99(&busy) < p99(&quiet) * 5 + Duration::from_millis(500));
}

/// Whether the world's volume can be given up to be labelled anew, if nothing has been needed for so long. Nothing is done.
async fn reusable(world: &World, seconds: f64) -> bool {
    let mut client = world.store.client().await.unwrap();
    let tx = client.transaction().await.unwrap();
    let fresh = uuid::Uuid::new_v4();
    let taken = reuse::volume_reuse_on(&tx, world.volume_id, seconds, fresh).await;
    taken.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_lives_in_any_way_is_ever_given_up() {
    let world = World::new().await;
    let sql = async |text: &str| {
        let client = world.store.client().await.unwrap();
        client.batch_execute(text).await.unwrap();
    };
    let tree = Tree::of(&[("a", 700, 0), ("b/c", 30_000, 0)]);
    assert!(!reusable(&world, 0.0).await, "a fresh one needs no label");
    world.back_up(&tree, 1).await;
    world.end_attempts().await;
    assert!(!reusable(&world, 0.0).await, "a version lives on it");
    expire(&world, &[1]).await;
    tidy(&world).await;
    assert!(!reusable(&world, 0.0).await, "the next run may build on it");
    // As if the next version were on another volume: of this one nothing is needed.
    let forget = "UPDATE versions SET pages_gone = true; DELETE FROM version_parts";
    sql(forget).await;
    tidy(&world).await;
    assert!(reusable(&world, 0.0).await);
    assert!(!reusable(&world, 3_600.0).await, "it has not rested");
    for state in ["read-only", "quarantined"] {
        sql(&format!("UPDATE volumes SET state = '{state}'")).await;
        assert!(!reusable(&world, 0.0).await, "{state}");
    }
    sql("UPDATE volumes SET state = 'full'").await;
    assert!(reusable(&world, 0.0).await);

    let job = "INSERT INTO jobs (kind, state, creator, volume_id, created_at) SELECT 'verify', 'queued', 'test', id, now() FROM volumes";
    sql(job).await;
    assert!(!reusable(&world, 0.0).await, "a job waits for it");
    sql("UPDATE jobs SET state = 'cancelled', ended_at = now() WHERE kind = 'verify'").await;
    let attempt = world.attempt_at(Kind::Full).await;
    assert!(!reusable(&world, 0.0).await, "an attempt holds it");
    die(&world, &attempt, &tree).await;
    assert!(
        !reusable(&world, 0.0).await,
        "what died can be gone on with"
    );
    // Even if nobody had noticed that something came.
    sql("UPDATE volumes SET freed_at = now() - interval '1 day'").await;
    assert!(!reusable(&world, 0.0).await);
    tidy(&world).await;
    assert_eq!(world.count("volumes WHERE freed_at IS NOT NULL").await, 0);
    sql("UPDATE archives SET state = 'abandoned' WHERE state IN ('staged', 'closed')").await;
    tidy(&world).await;

    // What a worker still had in its journal comes too late.
    let late = world.attempt_at(Kind::Full).await;
    let made = world::Backup::of(&tree, late.opened.ordinal as u32);
    let part = made.parts(&world, &late, 1).await.remove(0);
    world.end_attempts().await;
    let mut client = world.store.client().await.unwrap();
    let tx = client.transaction().await.unwrap();
    let fresh = uuid::Uuid::new_v4();
    assert!(
        reuse::volume_reuse_on(&tx, world.volume_id, 0.0, fresh)
            .await
            .unwrap()
    );
    let commits = tokio::time::timeout(Duration::from_millis(300), world.commit(&part)).await;
    assert!(
        commits.is_err(),
        "a part came to a volume that is being given up"
    );
    tx.commit().await.unwrap();
    assert!(world.commit(&part).await.is_err());
    assert_eq!(
        world
            .count("volumes WHERE state = 'labelling' AND former_end > 4 AND freed_at IS NULL")
            .await,
        1
    );
    let owned = "parts AS x JOIN volumes AS v ON v.recording_uuid = x.recording_uuid";
    assert_eq!(world.count(owned).await, 0);
}
