//! An LTO-9 in simulated time, and sources that stall and crawl: how often the tape has to stop and go back.
//!
//! Everything is a thousandth of the real thing but the times and the number of segments that make a ring: so the drive's
//! four seconds of going back weigh as much as they do on a real one.

use std::time::Duration;

use taf_emulator::Generation;
use taf_emulator::clock::Clock;
use taf_emulator::drive::Speeds;
use taf_proto::v1::DriveFlow;

use super::*;

/// What everything is divided by.
const SCALE: u64 = 1000;
/// Bytes that stand for a megabyte.
const MB: u64 = 1000;
const SECOND: Duration = Duration::from_secs(1);

/// Megabytes of what lies between source and drive.
#[derive(Clone, Copy)]
struct Means {
    ring: u64,
    spool: u64,
    part: u64,
    /// Whether the drive's floor is minded.
    minded: bool,
}

/// What came of it.
struct Outcome {
    /// As the drive itself counts.
    repositions: u64,
    flow: DriveFlow,
    parts: usize,
    seconds: u64,
}

/// How fast a source is, megabytes a second, from some second on.
type Pace = fn(u64, &mut StdRng) -> u64;

/// Writes all of an archive that comes at such a pace. All of it is then on tape.
fn write(stream: &Stream, means: Means, pace: Pace, seed: u64) -> Outcome {
    let mut dice = StdRng::seed_from_u64(seed);
    let real = Speeds::of_generation(9);
    let rig = Rig::with(
        |spec| {
            spec.generation = "9".parse::<Generation>().unwrap();
            spec.capacity = 1 << 30;
            spec.early_warning = Some(0);
            spec.buffer = 1000 * MB;
            spec.rate = real.rate / SCALE;
            spec.floor = real.floor / SCALE;
            spec.reposition_ms = real.reposition.as_millis() as u64;
            spec.simulated_time = true;
        },
        &NewCartridge {
            capacity: Some(1 << 30),
            ..NewCartridge::default()
        },
    );
    let clock = rig.library.drives()[0].lock().options().clock.clone();
    let mut course = Course {
        rig,
        parts: Vec::new(),
        verdicts: Vec::new(),
        outcome: Ok(()),
    };
    let terms = Terms {
        part_size: means.part * MB,
        ..Terms::default()
    };
    let work = course.next_cartridge(0, terms);
    let before = course.rig.library.drives()[0].lock().stats().repositions;
    let begun = clock.now();
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path().join("spool"), 1 << 30).unwrap();
    let journal = Journal::open(folder.path().join("journal"), spool).unwrap();
    let place = Place::prepare(folder.path().join("ring"), means.spool * MB).unwrap();
    let ring_clock = clock.clone();
    let (inlet, mut outlet) = ring::ring(Plan {
        memory: means.ring * MB,
        disk: (means.spool > 0).then(|| place.create("1").unwrap()),
        terms: gate::Terms {
            floor: if means.minded { real.floor / SCALE } else { 0 },
            wait: Duration::from_hours(10),
        },
        clock: std::sync::Arc::new(move || ring_clock.now()),
    });
    let meter = outlet.meter();
    let mut archive = Archive::new(stream.uuid);
    outlet.part_begins(part_bytes(&work));
    let entries = {
        let mut drive = course.rig.drive();
        let mut writer = Writer::new(
            &mut drive,
            &journal,
            AssignmentKey::default(),
            &work,
            End {
                tape_file: 1,
                block: BEGIN,
            },
            (&mut archive, &mut outlet),
        )
        .unwrap();
        let source = Source::new(stream, inlet, clock.now());
        run(&mut writer, source, &clock, |second| {
            pace(second, &mut dice)
        })
    };
    course
        .parts
        .extend(entries.into_iter().map(|e| (barcode(0), e.header)));
    let repositions = course.rig.library.drives()[0].lock().stats().repositions - before;
    let seconds = clock.now().saturating_sub(begun).as_secs();
    course.rig.drive().unload().unwrap();
    course.is_whole(stream);
    Outcome {
        repositions,
        flow: meter.read(),
        parts: course.parts.len(),
        seconds,
    }
}

/// A source agent: a segment is ready at its time, and is put when there is room.
struct Source<'a> {
    runtime: tokio::runtime::Runtime,
    inlet: Option<ring::Inlet>,
    rest: std::slice::Iter<'a, Segment>,
    ready: Duration,
    begun: Duration,
}

impl Source<'_> {
    fn new(stream: &Stream, inlet: ring::Inlet, now: Duration) -> Source<'_> {
        Source {
            runtime: tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap(),
            inlet: Some(inlet),
            rest: stream.segments.iter(),
            ready: now,
            begun: now,
        }
    }

    /// Puts what is ready, as far as there is room.
    fn put(&mut self, now: Duration, mut pace: impl FnMut(u64) -> u64) {
        while let Some(inlet) = &self.inlet
            && self.ready <= now
        {
            let Some(segment) = self.rest.as_slice().first() else {
                self.inlet = None;
                return;
            };
            let length = segment.bytes.len() as u64;
            if !inlet.has_room(length) {
                // It is held up, and does not work ahead meanwhile.
                self.ready = now;
                return;
            }
            self.rest.next();
            self.runtime.block_on(inlet.put(segment.clone())).unwrap();
            let mut left = length as f64;
            // It may stand still for seconds.
            loop {
                let second = self.ready.saturating_sub(self.begun).as_secs();
                let rate = (pace(second) * MB) as f64;
                if left <= rate {
                    self.ready += Duration::from_secs_f64(left / rate);
                    break;
                }
                left -= rate;
                self.ready += SECOND;
            }
        }
    }
}

/// Source and drive by turns, in the drive's time.
fn run(
    writer: &mut Writer<'_>,
    mut source: Source<'_>,
    clock: &Clock,
    mut pace: impl FnMut(u64) -> u64,
) -> Vec<Entry> {
    let mut entries = Vec::new();
    loop {
        source.put(clock.now(), &mut pace);
        match writer.next_now().unwrap() {
            None => {
                let next = source.ready.saturating_sub(clock.now());
                clock.advance(next.clamp(Duration::from_millis(1), SECOND / 4));
            }
            Some(None) => return entries,
            Some(Some(segment)) => match writer.segment(&segment).unwrap() {
                Progress::Part(entry) => entries.push(*entry),
                Progress::Buffered => {}
                progress => panic!("{progress:?}"),
            },
        }
    }
}

/// 100 MB/s for twenty seconds, then nothing for ten: below the floor, on the average and ever.
fn crawls_and_stalls(second: u64, _: &mut StdRng) -> u64 {
    if second % 30 < 20 { 100 } else { 0 }
}

/// Anything, from nothing to what a fast network brings, for some seconds each.
fn wild(second: u64, dice: &mut StdRng) -> u64 {
    let kind = second / 7;
    *[0, 20, 60, 100, 150, 600]
        .get(((kind * 7 + kind / 3) % 6) as usize)
        .unwrap()
        + dice.random_range(0..10)
}

fn long() -> bool {
    std::env::var_os("TAF_TEST_LONG").is_some()
}

/// An archive of so many megabytes, ten times as many in the long form.
fn archive(seed: u64, megabytes: u64) -> Stream {
    let megabytes = if long() { 10 * megabytes } else { megabytes };
    Stream::new(seed, (megabytes * MB) as usize / SEGMENT)
}

#[test]
fn the_tape_stops_once_for_each_full_spool() {
    let stream = archive(1, 15_000);
    let bytes = stream.tar.len() as u64;
    let means = Means {
        ring: 1000,
        spool: 6000,
        part: 64 << 10,
        minded: true,
    };
    let collected = write(&stream, means, crawls_and_stalls, 0);
    // The gate opens at seven eighths.
    let fulls = bytes.div_ceil((means.ring + means.spool) * MB * 7 / 8);
    let most = fulls + collected.parts as u64;
    let told = format!(
        "{} repositions for {fulls} full spools in {} s, {:?}",
        collected.repositions, collected.seconds, collected.flow
    );
    println!("{told}");
    assert!(collected.repositions <= most, "{told}");
    // The gauge shows it. The drive itself does not count stops for a flush.
    assert_eq!(collected.flow.reposition_count, Some(0));
    assert!(collected.flow.starved_count <= fulls && collected.flow.starved_count >= fulls / 2);
    let still = collected.flow.starved_duration.unwrap().seconds as u64;
    assert!(
        still > collected.seconds / 4 && still < collected.seconds,
        "{told}"
    );

    // With memory alone it is once for each full ring.
    let memory = Means {
        ring: 2000,
        spool: 0,
        ..means
    };
    let alone = write(&stream, memory, crawls_and_stalls, 0);
    let fulls = bytes.div_ceil(memory.ring * MB * 7 / 8);
    println!("{} repositions for {fulls} full rings", alone.repositions);
    assert!(alone.repositions <= fulls + alone.parts as u64);
    assert!(alone.repositions > collected.repositions);

    // And without collecting far more often, each second or two of writing.
    let unminded = Means {
        minded: false,
        ..means
    };
    let hitched = write(&stream, unminded, crawls_and_stalls, 0);
    println!(
        "{} repositions in {} s without collecting",
        hitched.repositions, hitched.seconds
    );
    assert!(hitched.repositions > 3 * most, "{}", hitched.repositions);
    assert!(hitched.flow.reposition_count.unwrap() > 3 * most);
    assert!(collected.seconds <= hitched.seconds + hitched.seconds / 4);
}

#[test]
fn whole_parts_are_collected_where_they_find_room() {
    let stream = archive(2, 10_000);
    let means = Means {
        ring: 500,
        spool: 2500,
        part: 2000,
        minded: true,
    };
    let collected = write(&stream, means, crawls_and_stalls, 0);
    assert!(collected.parts >= 5);
    assert_eq!(collected.flow.starved_count, 0, "{:?}", collected.flow);
    assert_eq!(
        collected.repositions, collected.parts as u64,
        "one at the end of each"
    );
}

#[test]
fn a_source_that_keeps_up_never_stops_the_tape() {
    let stream = archive(3, 6_000);
    // Above the drive's own buffer: a smaller one is flushed for room.
    let means = Means {
        ring: 2000,
        spool: 0,
        part: 64 << 10,
        minded: true,
    };
    for pace in [(|_, _| 220) as Pace, |_, _| 1000] {
        let streamed = write(&stream, means, pace, 0);
        assert_eq!((streamed.flow.starved_count, streamed.repositions), (0, 1));
    }
}

#[test]
fn whatever_a_source_does_the_spool_bounds_the_stops() {
    let seed: u64 = rand::random();
    let rounds = if long() { 20 } else { 2 };
    let mut dice = StdRng::seed_from_u64(seed);
    for round in 0..rounds {
        let means = Means {
            ring: dice.random_range(200..2000),
            spool: *[0, 100, 2000].get(dice.random_range(0..3)).unwrap(),
            part: dice.random_range(1000..20_000),
            minded: true,
        };
        let told = format!(
            "seed {seed}, round {round}: ring {}, spool {}, part {}",
            means.ring, means.spool, means.part
        );
        println!("{told}; TAF_TEST_LONG=1 runs more");
        let stream = archive(seed.wrapping_add(round), 5000);
        let outcome = write(&stream, means, wild, seed);
        let bytes = stream.tar.len() as u64;
        // A part that ends gives up what is left of a full one.
        let fulls = bytes.div_ceil((means.ring + means.spool) * MB * 7 / 8 - SEGMENT as u64);
        // A source that outruns the floor for a while is believed, each time for four times as long.
        let believed = 1 + u64::from(outcome.seconds.ilog(4));
        let most = fulls + 2 * outcome.parts as u64 + believed;
        assert!(
            outcome.repositions <= most,
            "{told}: {} > {most}",
            outcome.repositions
        );
    }
}
