//! The drive in simulated time: streaming, stopping, winding, and what its buffer holds meanwhile.

use taf_scsi::page::log::counters::TapeUsage;
use taf_scsi::page::log::{self};

use super::*;
use crate::clock::Clock;

/// Everything is a hundredth of an LTO-9's but its times: this stands for a megabyte.
const MB: usize = 10_000;

/// A drive like an LTO-9 but for its buffer, and a clock that only it and the test move.
fn lto_9(buffer: u64) -> (Bench, Clock) {
    let clock = Clock::simulated();
    let real = Speeds::of_generation(9);
    let options = Options {
        clock: clock.clone(),
        speeds: Speeds {
            initialise: Duration::ZERO,
            rate: real.rate / 100,
            floor: real.floor / 100,
            ..real
        },
        behaviour: Behaviour {
            buffer,
            sync: false,
        },
        early_warning: Some(0),
        ..Options::default()
    };
    let mut bench = Bench::empty(options);
    let path = bench.blank("A00001L8", 180_000_000, false);
    let cartridge = Cartridge::open(&path, bench.drive.options.behaviour).unwrap();
    bench.drive.insert(cartridge);
    bench.refused(&cdb::test_unit_ready(), Key::NotReady, code::BECOMING_READY);
    clock.advance(Duration::from_secs(15));
    bench.refused(
        &cdb::test_unit_ready(),
        Key::UnitAttention,
        code::MEDIUM_MAY_HAVE_CHANGED,
    );
    (bench, clock)
}

impl Bench {
    fn buffered(&mut self) -> u64 {
        let data = self.ok(&cdb::read_position(PositionForm::Short));
        Short::parse(&data).unwrap().buffered_objects.unwrap()
    }
}

#[test]
fn a_host_that_keeps_up_streams_and_one_that_crawls_does_not() {
    let block = vec![7; MB];
    for (megabytes_a_second, stops) in [(1000, 0), (300, 0), (60, 7)] {
        let (mut bench, clock) = lto_9(100 * MB as u64);
        let start = clock.now();
        for _ in 0..1000 {
            clock.advance(Duration::from_secs_f64(1.0 / f64::from(megabytes_a_second)));
            bench.write(&block);
        }
        let took = clock.now().saturating_sub(start).as_secs_f64();
        let stats = bench.drive.stats();
        let told = format!("{megabytes_a_second} MB/s: {took} s, {stats:?}");
        assert_eq!(stats.repositions, stops, "{told}");
        assert_eq!(
            (stats.blocks_written, stats.bytes_written),
            (1000, 10_000_000)
        );
        let host = 1000.0 / f64::from(megabytes_a_second);
        let tape: f64 = 1000.0 / 408.0;
        if stops == 0 {
            // The slower of both sets the pace, but for what is still in the buffer.
            assert!(took < host.max(tape) + 0.1, "{told}");
            assert!(took > host.max(0.9 * tape) - 0.1, "{told}");
        } else {
            // While the tape goes back the buffer runs full: the host waits, though the tape is far faster.
            assert!(took > 1.5 * host, "{told}");
        }
        bench.ok(&cdb::load_unload(false));
        bench.ok(&cdb::load_unload(true));
        let page = bench.ok(&cdb::log_sense(log::TAPE_USAGE, 0, 1000));
        let usage = TapeUsage::of(&log::parse(log::TAPE_USAGE, &page).unwrap());
        let suspended = usage.suspended_writes.unwrap();
        assert!(suspended <= stats.repositions, "{told}");
        assert_eq!(suspended > 0, stops > 0, "{told}");
    }
}

#[test]
fn what_the_tape_took_is_out_of_the_buffer_and_safe() {
    let (mut bench, clock) = lto_9(100 * MB as u64);
    let block = vec![7; MB];
    for _ in 0..90 {
        bench.write(&block);
    }
    assert!(bench.buffered() >= 80, "it has hardly begun");
    clock.advance(Duration::from_millis(100));
    let left = bench.buffered();
    assert!(
        (40..=60).contains(&left),
        "{left} of 90 after a tenth of a second"
    );
    bench.drive.power_cut(0).unwrap();
    clock.advance(Duration::from_secs(15));
    let _ = bench.run(&cdb::test_unit_ready(), &[]);
    bench.ok(&cdb::space_6(SpaceOver::EndOfData, 0));
    assert_eq!(bench.position().0, 90 - left);
    assert_eq!(bench.drive.stats().objects_lost, left);
}

#[test]
fn an_error_on_the_way_to_the_medium_comes_with_whatever_is_asked_next() {
    let (mut bench, clock) = lto_9(100 * MB as u64);
    let block = vec![7; MB];
    for _ in 0..60 {
        bench.write(&block);
    }
    bench.fault(At::Medium, Some(30));
    clock.advance(Duration::from_secs(1));
    let sense = bench.sense(&cdb::log_sense(log::DEVICE_STATUS, 0, 100));
    assert!(sense.deferred);
    assert_eq!(
        (sense.code(), sense.information),
        (code::WRITE_ERROR, Some(30))
    );
    assert_eq!(bench.position().0, 30);
}

#[test]
fn a_flush_costs_a_stop_and_the_next_one_waits_for_it() {
    let (mut bench, clock) = lto_9(100 * MB as u64);
    bench.marks(0);
    assert_eq!(
        bench.drive.stats().repositions,
        0,
        "there was nothing to flush"
    );
    let mut times = Vec::new();
    for _ in 0..3 {
        bench.write(&vec![7; MB]);
        let before = clock.now();
        bench.marks(1);
        times.push(clock.now().saturating_sub(before).as_secs());
    }
    assert_eq!(times, [0, 4, 4]);
    let stats = bench.drive.stats();
    assert_eq!((stats.flushes, stats.repositions), (4, 3));
    assert_eq!(stats.filemarks_written, 3);
}

#[test]
fn winding_takes_time_by_the_way_and_is_counted() {
    let (mut bench, clock) = lto_9(MB as u64);
    for _ in 0..200 {
        bench.write(&vec![7; MB]);
    }
    bench.marks(1);
    let timed = |cdb: &[u8], bench: &mut Bench| {
        let before = clock.now();
        bench.ok(cdb);
        clock.now().saturating_sub(before).as_millis()
    };
    // 280 wraps: 64 blocks a wrap, so object 64 is at the far end and 128 near the beginning again.
    let rewind = timed(&cdb::rewind(), &mut bench);
    assert!(rewind > 3000);
    let far = timed(&cdb::locate_16(LocateTo::Object(64)), &mut bench);
    assert!((90_000..=98_000).contains(&far), "{far}");
    let side = timed(&cdb::locate_16(LocateTo::Object(65)), &mut bench);
    assert!(side < 6000, "{side}");
    let back = timed(&cdb::locate_16(LocateTo::Object(128)), &mut bench);
    assert!((88_000..=98_000).contains(&back), "{back}");
    let none = timed(&cdb::locate_16(LocateTo::Object(128)), &mut bench);
    assert_eq!(none, 0);
    timed(&cdb::rewind(), &mut bench);
    let stats = bench.drive.stats();
    assert_eq!((stats.locates_forward, stats.locates_backward), (3, 2));
    assert_eq!(
        (stats.objects_forward, stats.objects_backward),
        (128, 201 + 128)
    );
    assert_eq!(stats.rewinds, 2);
    assert!(stats.waited_ms > 200_000);
}

#[test]
fn long_erases_and_formats_go_on_while_the_drive_can_be_asked() {
    let (mut bench, clock) = lto_9(MB as u64);
    bench.write(b"x");
    bench.ok(&cdb::rewind());
    bench.ok(&cdb::erase(true, true));
    bench.refused(
        &cdb::test_unit_ready(),
        Key::NotReady,
        code::OPERATION_IN_PROGRESS,
    );
    clock.advance(Duration::from_secs(22));
    let sense = Sense::parse(&bench.ok(&cdb::request_sense(252))).unwrap();
    assert!(sense.progress.unwrap().abs_diff(0x8000) < 0x400, "{sense}");
    clock.advance(Duration::from_secs(23));
    bench.ok(&cdb::test_unit_ready());
    bench.ok(&cdb::format_medium(cdb::Format::Single, true));
    bench.refused(
        &cdb::test_unit_ready(),
        Key::NotReady,
        code::FORMAT_IN_PROGRESS,
    );
    clock.advance(Duration::from_mins(2));
    bench.ok(&cdb::test_unit_ready());
    let before = clock.now();
    bench.ok(&cdb::erase(true, false));
    assert_eq!(clock.now().saturating_sub(before).as_secs(), 44);
}

#[test]
fn in_real_time_it_can_be_asked_what_it_does_while_a_command_keeps_it() {
    use taf_scsi::page::log::status::DeviceStatus;
    let mut bench = Bench::with_capacity(
        1 << 20,
        Options {
            speeds: Speeds {
                locate: Duration::from_millis(200),
                ..Speeds::default()
            },
            ..Options::default()
        },
    );
    bench.write(b"x");
    let (a, b) = (Nexus::new(), Nexus::new());
    let deliver = |bench: &mut Bench, nexus, cdb: &[u8]| bench.drive.deliver(nexus, cdb, &[], 1000);
    let before = std::time::Instant::now();
    let Delivery::After { time, answer } = deliver(&mut bench, a, &cdb::rewind()) else {
        panic!("it takes its time");
    };
    assert_eq!(time, Duration::from_millis(200));
    assert_eq!(answer.unwrap().status, status::GOOD);
    let page = cdb::log_sense(log::DEVICE_STATUS, 0, 255);
    let Delivery::Answer(response) = deliver(&mut bench, b, &page) else {
        panic!("it can be asked");
    };
    let page = log::parse(log::DEVICE_STATUS, &response.data_in).unwrap();
    let status = DeviceStatus::of(&page).unwrap();
    assert_eq!(status.activity, Activity::Rewinding);
    let Delivery::After { time, answer: None } = deliver(&mut bench, b, &cdb::test_unit_ready())
    else {
        panic!("others wait");
    };
    assert!(time <= Duration::from_millis(200));
    bench.ok(&cdb::test_unit_ready());
    assert!(before.elapsed() >= Duration::from_millis(199));
    assert_eq!(bench.position().0, 0);
}
