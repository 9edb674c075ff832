//! A month of versions of a file server, through the API of a whole controller: how fast a directory is listed, a name is
//! found and a restore is planned, what memory all of that takes, and how long a run waits to begin while old versions go.
//!
//! A smoke in CI. The measurement:
//! `TAF_SCALE_ENTRIES=10000000 cargo nextest run --release --workspace --test catalog_scale --no-capture`.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "support/generator.rs"]
mod generator;
mod served;
mod support;
#[allow(dead_code)]
#[path = "support/world.rs"]
mod world;

use std::time::{Duration, Instant};

use generator::{DIRECTORIES, FILES, Generator, Parts, directory};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use served::{Served, signed};
use taf_controller::catalog::vacuum::{self, Sweep};
use taf_controller::catalog::{Selection, View, recall};
use taf_controller::store::{Options, Store, expiry, lines, parts};
use taf_core::catalog::Kind;
use taf_format::page::{Page, Place};
use taf_proto::v1::catalog_service_client::CatalogServiceClient;
use taf_proto::v1::version_service_client::VersionServiceClient;
use taf_proto::v1::{FindEntriesRequest, ListEntriesRequest, Path};
use tonic::transport::Channel;
use world::World;

/// Tar bytes between the places of two files next to each other, in archives of what changed.
const STRIDE: u64 = 4_096;
/// Seconds of a day.
const DAY: i64 = 86_400;

/// Two full versions, four differential ones, and an incremental one on each other day.
fn month() -> Vec<Kind> {
    let half = [vec![Kind::Incremental; 6], vec![Kind::Differential]].concat();
    let whole = [vec![Kind::Full], half.clone(), half].concat();
    whole.repeat(2)
}

/// What has changed of a tree since its last full version.
struct Course<'a> {
    world: &'a World,
    directories: u64,
    /// By file: the run that stored it last, 0 for the full one.
    stored: Vec<u8>,
    /// By run, from the full one on: its archive.
    ordinals: Vec<u32>,
}

impl Course<'_> {
    async fn full(&mut self, before: Option<&Generator>) -> Generator {
        let attempt = self.world.attempt_at(Kind::Full).await;
        let ordinal = attempt.opened.ordinal as u32;
        let mut made = before.map_or_else(|| Generator::new(1, ordinal), |g| g.again(ordinal));
        let mut parts = Parts::of(self.world, &attempt);
        let mut records = Vec::new();
        let mut files = 0;
        for nth in 0..self.directories {
            let page = made.page(nth);
            files += page.entries.len() as u64;
            made.record(&page, &mut records);
            let last = nth + 1 == self.directories;
            if last || (nth + 1) % DIRECTORIES == 0 {
                let records = std::mem::take(&mut records);
                parts.commit(records, made.offset, last).await;
            }
        }
        let rate = files as f64 / parts.committing.as_secs_f64();
        eprintln!("full: {files} entries, {rate:.0} entries/s taken in");
        parts.publish(files, self.directories).await;
        self.stored.fill(0);
        self.ordinals = vec![ordinal];
        made
    }

    /// One file of a hundred has changed since yesterday.
    async fn changes(&mut self, kind: Kind, full: &Generator) {
        let attempt = self.world.attempt_at(kind).await;
        let ordinal = attempt.opened.ordinal as u32;
        let run = self.ordinals.len() as u8;
        self.ordinals.push(ordinal);
        let mut change = StdRng::seed_from_u64(u64::from(ordinal));
        for stored in &mut self.stored {
            let again = kind == Kind::Differential && *stored != 0;
            if again || change.random_ratio(1, 100) {
                *stored = run;
            }
        }
        let mut made = full.again(ordinal);
        let mut parts = Parts::of(self.world, &attempt);
        let (mut records, mut pages) = (Vec::new(), 0);
        for nth in 0..self.directories {
            let mut page = made.page(nth);
            if self.apply(&mut page, nth, run) {
                made.record(&page, &mut records);
                pages += 1;
            }
            let last = nth + 1 == self.directories;
            if last || pages == DIRECTORIES {
                pages = 0;
                let end = (nth + 1) * FILES * STRIDE;
                let records = std::mem::take(&mut records);
                parts.commit(records, end, last).await;
            }
        }
        parts.publish(0, self.directories).await;
    }

    /// Makes the page of a directory what it is now. Whether this run has stored any of it.
    fn apply(&self, page: &mut Page, nth: u64, run: u8) -> bool {
        let mut now = false;
        for (at, entry) in page.entries.iter_mut().enumerate() {
            let file = nth * FILES + at as u64;
            let stored = self.stored[file as usize];
            if stored == 0 {
                continue;
            }
            now |= stored == run;
            entry.mtime.seconds += DAY * i64::from(stored);
            entry.ctime = entry.mtime;
            entry.place = Some(Place {
                archive_ordinal: self.ordinals[usize::from(stored)],
                tar_offset: file * STRIDE,
            });
        }
        now
    }
}

fn sorted(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

/// The most memory that this process has had, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: u64 = line
        .unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap();
    kib * 1_024
}

/// Who asks.
struct Caller<'a> {
    token: &'a str,
    channel: Channel,
    /// "lines/{line}".
    line: String,
}

impl Caller<'_> {
    /// Lists directories picked at random, half of them of the newest version.
    async fn lists(&self, times: u32, directories: u64, versions: u64) -> (Duration, Duration) {
        let mut client = VersionServiceClient::new(self.channel.clone());
        let mut pick = StdRng::seed_from_u64(3);
        let mut taken = Vec::new();
        for nth in 0..times {
            let version = if nth % 2 == 0 {
                versions
            } else {
                pick.random_range(1..=versions)
            };
            let path = directory(pick.random_range(0..directories));
            let request = ListEntriesRequest {
                version: format!("{}/versions/{version}", self.line),
                directory: Some(Path {
                    raw: [&b"/"[..], &path[..]].concat().into(),
                    ..Path::default()
                }),
                ..ListEntriesRequest::default()
            };
            let begun = Instant::now();
            let listed = client.list_entries(signed(self.token, request)).await;
            taken.push(begun.elapsed());
            assert!(listed.unwrap().into_inner().entries.len() > 10);
        }
        sorted(taken)
    }

    /// Searches by name: when the first hit came, when it was over, hits, and entries looked at.
    async fn finds(
        &self,
        pattern: &str,
        wanted: FindEntriesRequest,
    ) -> (Duration, Duration, u64, u64) {
        let mut client = CatalogServiceClient::new(self.channel.clone());
        let request = FindEntriesRequest {
            patterns: vec![pattern.into()],
            ..wanted
        };
        let begun = Instant::now();
        let mut first = Duration::ZERO;
        let (mut hits, mut scanned) = (0, 0);
        let answers = client.find_entries(signed(self.token, request)).await;
        let mut answers = answers.unwrap().into_inner();
        while let Some(answer) = answers.message().await.unwrap() {
            if hits == 0 && !answer.entries.is_empty() {
                first = begun.elapsed();
            }
            hits += answer.entries.len() as u64;
            scanned = answer.scanned_count;
        }
        (first, begun.elapsed(), hits, scanned)
    }
}

/// Begins so many runs of the line, one after another: the middle time that took, and the longest.
async fn begins(world: &World, times: u32) -> (Duration, Duration) {
    let mut taken = Vec::new();
    for _ in 0..times {
        let begun = Instant::now();
        world.attempt_at(Kind::Incremental).await;
        taken.push(begun.elapsed());
    }
    taken.sort_unstable();
    (taken[taken.len() / 2], taken[taken.len() - 1])
}

/// All versions below this one expire and go: how many rows went, the time, and the longest that a run waited to begin meanwhile.
async fn vacuums(world: &World, below: i64) -> (u64, Duration, Duration) {
    let going: Vec<i64> = (1..below).collect();
    let mut client = world.store.client().await.unwrap();
    let tx = client.transaction().await.unwrap();
    lines::line_lock_on(&tx, world.line).await.unwrap();
    let expired = expiry::version_expire_on(&tx, world.line, &going, "a test");
    assert_eq!(expired.await.unwrap().len(), going.len());
    tx.commit().await.unwrap();
    drop(client);
    let store = world.store.clone();
    let begun = Instant::now();
    let sweeping = tokio::spawn(async move {
        vacuum::release(&store).await.unwrap();
        let mut removed = 0;
        while let Some(mut sweep) = Sweep::begin(&store).await.unwrap() {
            while !sweep.step(&store, vacuum::ROWS).await.unwrap() {}
            removed += sweep.removed;
        }
        (removed, begun.elapsed())
    });
    let mut longest = Duration::ZERO;
    while !sweeping.is_finished() {
        longest = longest.max(begins(world, 1).await.1);
    }
    let (removed, taken) = sweeping.await.unwrap();
    (removed, taken, longest)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_month_of_versions_is_looked_through_fast() {
    let entries: u64 = std::env::var("TAF_SCALE_ENTRIES").map_or(20_000, |n| n.parse().unwrap());
    // A small one, among other tests and without optimisation, only shows that all of it works.
    let measured = entries >= 1_000_000 && !cfg!(debug_assertions);
    let directories = entries / FILES;
    let served = Served::start().await;
    let token = served.administrator().await;
    let (home, url) = served.stop().await;

    // Nothing but the catalog is played here: a controller would wonder about these runs.
    let mut options = Options::new(&url);
    options.pool_size = 6;
    let world = World::within(Store::open(&options).await.unwrap()).await;
    let mut course = Course {
        world: &world,
        directories,
        stored: vec![0; (directories * FILES) as usize],
        ordinals: Vec::new(),
    };
    let mut full = None;
    for kind in month() {
        match (kind, &full) {
            (Kind::Full, before) => full = Some(course.full(before.as_ref()).await),
            (kind, Some(full)) => course.changes(kind, full).await,
            (_, None) => unreachable!("it begins with a full one"),
        }
    }
    let versions = month().len() as u64;
    let size = world.count("pages").await;
    world.end_attempts().await;
    let client = world.store.client().await.unwrap();
    client
        .batch_execute("UPDATE jobs SET state = 'succeeded', ended_at = now(); UPDATE drives SET connected = false")
        .await
        .unwrap();
    // What the server does by itself in the course of a month.
    client.batch_execute("VACUUM (ANALYZE)").await.unwrap();
    drop(client);
    eprintln!("{versions} versions, {size} rows of pages");

    let served = Served::start_in(home, url).await;
    let caller = Caller {
        token: &token,
        channel: served.channel(None).await,
        line: format!("lines/{}", world.line),
    };
    let times = if measured { 2_000 } else { 200 };
    let (middle, late) = caller.lists(times, directories, versions).await;
    eprintln!("a directory is listed in {middle:?}, 99 of 100 in {late:?}");

    let newest = FindEntriesRequest {
        version: format!("{}/versions/{versions}", caller.line),
        ..FindEntriesRequest::default()
    };
    let (first, _, hits, _) = caller.finds("*.pdf", newest.clone()).await;
    assert!(hits > 0);
    eprintln!("the first of {hits} hits came after {first:?}");
    let mut rates = Vec::new();
    for _ in 0..7 {
        let (_, whole, hits, scanned) = caller.finds("no such name", newest.clone()).await;
        assert!(hits == 0 && scanned > directories * (FILES - 1));
        rates.push(scanned as f64 / whole.as_secs_f64());
    }
    rates.sort_by(f64::total_cmp);
    let rate = rates[rates.len() / 2];
    eprintln!(
        "one version: {rate:.0} entries a second (of {} times the middle one, {:.0} to {:.0})",
        rates.len(),
        rates[0],
        rates[rates.len() - 1]
    );
    let everywhere = FindEntriesRequest::default();
    let (_, whole, hits, scanned) = caller.finds("no such name", everywhere).await;
    assert_eq!(hits, 0);
    let rate_of_all = scanned as f64 / whole.as_secs_f64();
    eprintln!("all versions: {scanned} entries looked at in {whole:?}, {rate_of_all:.0} a second");

    // Files all over the tree.
    let chosen = (entries / 10).min(100_000);
    let mut tree = Generator::new(1, 1);
    let step = (directories * (FILES - 2) / chosen).max(1);
    let (mut paths, mut seen) = (Vec::new(), 0);
    for nth in 0..directories {
        for entry in tree.page(nth).entries {
            if seen % step == 0 && (paths.len() as u64) < chosen {
                paths.push([&directory(nth), &b"/"[..], &entry.name].concat());
            }
            seen += 1;
        }
    }
    let begun = Instant::now();
    let view = View::open(&world.store, world.line, versions as i64);
    let view = view.await.unwrap().unwrap();
    let client = world.store.client().await.unwrap();
    let located = parts::part_list_of_version(&client, world.line, versions as i64);
    let located = located.await.unwrap();
    drop(client);
    let selection = Selection::resolve(&view, &paths).await.unwrap();
    let (count, needed) = recall::count(&view, &selection, b"", &located)
        .await
        .unwrap();
    let planned = begun.elapsed();
    assert_eq!(count.entries, paths.len() as u64);
    let needed = needed.parts().count();
    eprintln!(
        "a restore of {} files from {needed} parts is planned in {planned:?}",
        paths.len()
    );

    let peak = peak();
    eprintln!(
        "{} MiB of memory, what made the versions included",
        peak >> 20
    );
    served.stop().await;

    let (middle, _) = begins(&world, 20).await;
    let (removed, taken, longest) = vacuums(&world, versions as i64 / 2 + 1).await;
    let kept = world.count("pages").await;
    assert!(removed > 0 && kept + removed as i64 == size);
    eprintln!(
        "{removed} rows vacuumed in {taken:?}; a run began in {middle:?} before, in {longest:?} at most meanwhile"
    );
    if measured {
        assert!(longest < Duration::from_secs(1), "{longest:?}");
        assert!(late < Duration::from_millis(20), "{late:?}");
        assert!(first < Duration::from_secs(1), "{first:?}");
        assert!(rate >= 3e6, "{rate:.0} entries/s");
        assert!(planned < Duration::from_secs(5), "{planned:?}");
        assert!(peak <= 250_000_000, "{peak} bytes");
    }
}
