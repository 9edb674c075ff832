//! What the catalog costs: bytes an entry, entries a second, and the time of a look-up, with names as file servers have them.
//!
//! A smoke of a million entries in CI. The measurement:
//! `TAF_SIZE_ENTRIES=10000000 cargo nextest run --release --workspace --test catalog_size --no-capture`.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "support/generator.rs"]
mod generator;
mod support;
#[allow(dead_code)]
#[path = "support/world.rs"]
mod world;

use std::time::{Duration, Instant};

use generator::{DIRECTORIES, FILES, Generator, Parts, directory};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use taf_controller::catalog::{View, browse};
use taf_core::catalog::Kind as Made;
use taf_format::page::Place;
use world::World;

/// Most bytes an entry may cost in PostgreSQL, hashes and indexes included.
const BYTES_AN_ENTRY: f64 = 56.0;

/// Bytes of the pages' table with its indexes.
async fn bytes(world: &World) -> f64 {
    let client = world.store.client().await.unwrap();
    let sql = "SELECT pg_total_relation_size('pages')";
    let row = client.query_one(sql, &[]).await.unwrap();
    row.get::<_, i64>(0) as f64
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_costs_few_bytes_and_is_found_fast() {
    let entries: u64 = std::env::var("TAF_SIZE_ENTRIES").map_or(1_000_000, |n| n.parse().unwrap());
    // Among other tests and without optimisation a time says nothing.
    let measured = !cfg!(debug_assertions);
    let world = World::new().await;
    let directories = entries / FILES;

    // A full.
    let attempt = world.attempt_at(Made::Full).await;
    let mut made = Generator::new(1, attempt.opened.ordinal as u32);
    let mut parts = Parts::of(&world, &attempt);
    let (mut count, mut nth) = (0_u64, 0);
    while nth < directories {
        let mut records = Vec::new();
        let end = (nth + DIRECTORIES).min(directories);
        for nth in nth..end {
            let page = made.page(nth);
            count += page.entries.len() as u64;
            made.record(&page, &mut records);
        }
        nth = end;
        parts.commit(records, made.offset, nth == directories).await;
    }
    let committing = parts.committing;
    parts.publish(count, directories).await;
    let full = bytes(&world).await;
    let each = full / count as f64;
    let rate = count as f64 / committing.as_secs_f64();
    eprintln!(
        "{count} entries, mean path {:.1} bytes: {each:.1} bytes an entry, {rate:.0} entries/s taken in",
        made.path_bytes as f64 / count as f64
    );
    assert!(each <= BYTES_AN_ENTRY, "{each:.1} bytes an entry");

    // One file of a hundred has changed, spread evenly.
    let attempt = world.attempt_at(Made::Incremental).await;
    let mut again = made.again(attempt.opened.ordinal as u32);
    let mut change = StdRng::seed_from_u64(2);
    let mut records = Vec::new();
    for nth in 0..directories {
        let mut page = again.page(nth);
        let mut changed = false;
        for entry in &mut page.entries {
            if change.random_ratio(1, 100) {
                changed = true;
                entry.mtime.seconds += 86_400;
                entry.ctime = entry.mtime;
                entry.place = Some(Place {
                    archive_ordinal: attempt.opened.ordinal as u32,
                    tar_offset: change.random_range(0..1 << 20) * 512,
                });
            }
        }
        if changed {
            again.record(&page, &mut records);
        }
    }
    let mut parts = Parts::of(&world, &attempt);
    parts.commit(records, again.offset, true).await;
    parts.publish(count, directories).await;
    let more = (bytes(&world).await - full) / full;
    eprintln!("1 % changed adds {:.1} %", more * 100.0);
    assert!(more <= 0.25, "1 % changed adds {:.1} %", more * 100.0);

    // Any directory.
    let view = View::open(&world.store, world.line, 2)
        .await
        .unwrap()
        .unwrap();
    let mut pick = StdRng::seed_from_u64(3);
    let mut times: Vec<Duration> = Vec::new();
    for _ in 0..2_000 {
        let path = directory(pick.random_range(0..directories));
        let begun = Instant::now();
        let found = browse::list(&view, &path, None, 1_000)
            .await
            .unwrap()
            .unwrap();
        times.push(begun.elapsed());
        assert!(!found.entries.is_empty());
    }
    times.sort_unstable();
    let (middle, late) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    eprintln!("a directory is found in {middle:?}, 99 of 100 in {late:?}");
    if measured {
        assert!(late < Duration::from_millis(20), "{late:?}");
    }
}
