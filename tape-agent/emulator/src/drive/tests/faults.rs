//! Faults by command, place and time, and what they do.

use super::*;
use crate::clock::Clock;

impl Bench {
    fn order(&mut self, text: &str) {
        let fault = Fault::parse(text).unwrap();
        self.drive.faults.lock().add(fault);
    }

    fn deliver(&mut self, nexus: Nexus, cdb: &[u8], out: &[u8]) -> Delivery {
        self.drive.deliver(nexus, cdb, out, 1 << 20)
    }
}

#[test]
fn the_nth_command_of_a_kind_fails() {
    let mut bench = Bench::new();
    bench.order("opcode = 0x0a\nnth = 3\nkey = 4\nasc = 0x44");
    bench.write(b"1");
    bench.ok(&cdb::test_unit_ready());
    bench.write(b"2");
    let (sense, _) = bench.try_write(b"3").unwrap_err();
    assert_eq!(
        (sense.key, sense.code()),
        (Key::HardwareError, code::INTERNAL_FAILURE)
    );
    bench.write(b"3");
    assert_eq!(bench.position().0, 3);
}

#[test]
fn a_fault_may_wait_for_its_time_its_drive_and_its_chance() {
    let clock = Clock::simulated();
    let mut bench = Bench::with_capacity(
        1 << 20,
        Options {
            clock: clock.clone(),
            ..Options::default()
        },
    );
    bench.order("opcode = 0\nafter_ms = 1000\ndo = 'busy'");
    bench.order("opcode = 0\ndrive = '7'\ndo = 'busy'");
    bench.order("opcode = 0\nchance = 0.0\ndo = 'busy'\ntimes = 0");
    bench.ok(&cdb::test_unit_ready());
    clock.advance(Duration::from_millis(999));
    bench.ok(&cdb::test_unit_ready());
    clock.advance(Duration::from_millis(1));
    let busy = bench.drive.execute(&cdb::test_unit_ready(), &[], 0);
    assert_eq!(busy.status, status::BUSY);
    bench.ok(&cdb::test_unit_ready());
    bench.order("opcode = 0\ndrive = '0'\ndo = 'reservation-conflict'");
    let conflict = bench.drive.execute(&cdb::test_unit_ready(), &[], 0);
    assert_eq!(conflict.status, status::RESERVATION_CONFLICT);
    bench.order("opcode = 0\ndrive = '0000000001'\ndo = 'task-set-full'");
    let full = bench.drive.execute(&cdb::test_unit_ready(), &[], 0);
    assert_eq!(full.status, status::TASK_SET_FULL);
}

#[test]
fn a_region_of_the_medium_can_be_bad_for_good() {
    let mut bench = Bench::new();
    for number in 0..10 {
        bench.write(&[number; 100]);
    }
    bench.order("at = 'read'\nobject = 3\nobjects = 4\ntimes = 0\nasc = 0x11\nalerts = [4]");
    let mut bad = Vec::new();
    for number in 0..10 {
        bench.ok(&cdb::locate_16(LocateTo::Object(number)));
        if let Err((sense, _)) = bench.read(100) {
            assert_eq!(sense.code(), code::UNRECOVERED_READ_ERROR);
            bad.push(number);
        }
    }
    assert_eq!(bad, [3, 4, 5, 6]);
    let alerts = bench.ok(&cdb::log_sense(0x12, 0, 100));
    let alerts = taf_scsi::page::tape_alert::Flags::parse_response(&alerts).unwrap();
    assert!(alerts.has(4) && alerts.has(5));
}

#[test]
fn a_deferred_error_by_command_loses_what_was_buffered() {
    let mut bench = Bench::new();
    bench.write(b"0");
    bench.marks(1);
    bench.write(b"1");
    bench.write(b"2");
    bench.order("opcode = 0x34\ndeferred = true\nasc = 0x0c\ndescriptors = true");
    let response = bench
        .drive
        .execute(&cdb::read_position(PositionForm::Short), &[], 100);
    assert_eq!((response.status, response.sense[0]), (2, 0x73));
    let sense = Sense::parse(&response.sense).unwrap();
    assert_eq!(
        (sense.code(), sense.information),
        (code::WRITE_ERROR, Some(2))
    );
    assert!(response.data_in.is_empty(), "that command did not run");
    assert_eq!(bench.position().0, 2);
}

#[test]
fn bits_are_turned_over_without_a_word() {
    let mut bench = Bench::new();
    bench.write(&[0; 1000]);
    bench.order("at = 'read'\ndo = 'flip'\nbits = 3");
    bench.ok(&cdb::rewind());
    let data = bench.read(1000).unwrap();
    let ones: u32 = data.iter().map(|byte| byte.count_ones()).sum();
    assert!(ones == 3 || ones == 1, "three bits, or one thrice: {ones}");
    bench.ok(&cdb::rewind());
    assert_eq!(bench.read(1000).unwrap(), [0; 1000], "the medium is sound");
}

#[test]
fn what_a_drive_gets_over_by_itself_is_done_and_counted() {
    use taf_scsi::page::log::counters::{ErrorCounters, TapeUsage};
    let mut bench = Bench::new();
    let counters = |bench: &mut Bench, page: u8| {
        let bytes = bench.ok(&cdb::log_sense(page, 0, 1000));
        ErrorCounters::of(&taf_scsi::page::log::parse(page, &bytes).unwrap())
    };
    bench.order("at = 'write'\nkey = 1\nasc = 0x0c\nretries = 4");
    let (sense, _) = bench.try_write(b"told").unwrap_err();
    assert_eq!(sense.key, Key::RecoveredError);
    bench.order("at = 'write'\ndo = 'retry'\nretries = 3");
    bench.write(b"not told");
    let written = counters(&mut bench, 0x02);
    assert_eq!((written.retries, written.uncorrected), (Some(7), Some(0)));
    bench.ok(&cdb::rewind());
    bench.order("at = 'read'\nkey = 1\nasc = 0x17\nascq = 1");
    bench.order("at = 'read'\ndo = 'retry'\nobject = 1");
    let (sense, data) = bench.read(4).unwrap_err();
    assert_eq!((sense.key, data), (Key::RecoveredError, b"told".to_vec()));
    assert_eq!(bench.read(8).unwrap(), b"not told");
    assert_eq!(counters(&mut bench, 0x03).corrected, Some(2));
    bench.ok(&cdb::load_unload(false));
    bench.ok(&cdb::load_unload(true));
    assert_eq!(counters(&mut bench, 0x03).corrected, Some(0), "a new load");
    let usage = bench.ok(&cdb::log_sense(0x30, 0, 1000));
    let usage = TapeUsage::of(&taf_scsi::page::log::parse(0x30, &usage).unwrap());
    assert_eq!(
        (usage.write_retries, usage.read_retries),
        (Some(7), Some(2))
    );
}

#[test]
fn a_hanging_command_hangs_the_drive_until_it_is_released_or_its_initiator_goes() {
    let mut bench = Bench::new();
    let (a, b) = (Nexus::new(), Nexus::new());
    for (action, frees_itself) in [("hang", true), ("hang-until-released", false)] {
        bench.order(&format!("at = 'write'\ndo = '{action}'"));
        let Delivery::Hang { gate, answer: None } = bench.deliver(a, &cdb::write_6(1), b"x") else {
            panic!("it hangs");
        };
        assert!(!gate.wait(Duration::ZERO) && bench.drive.hangs());
        let others = bench.deliver(b, &cdb::inquiry(36), &[]);
        assert!(matches!(others, Delivery::Hang { .. }));
        bench.drive.disconnected(b);
        assert!(bench.drive.hangs(), "it was not theirs");
        bench.drive.disconnected(a);
        assert_eq!(bench.drive.hangs(), !frees_itself);
        bench.drive.let_go();
        assert!(gate.wait(Duration::ZERO) && !bench.drive.hangs());
    }
    assert_eq!(bench.position().0, 0, "nothing ran");
    bench.order("at = 'write'\ndo = 'hang-after'");
    let Delivery::Hang { answer, .. } = bench.deliver(a, &cdb::write_6(1), b"x") else {
        panic!("it hangs");
    };
    assert_eq!(answer.unwrap().status, status::GOOD);
    bench.drive.let_go();
    assert_eq!(bench.position().0, 1, "it had run");
}

#[test]
fn a_dropped_connection_leaves_it_open_whether_the_command_ran() {
    let mut bench = Bench::new();
    for (action, ran) in [("drop-before", 0), ("drop-after", 1)] {
        bench.order(&format!("at = 'write'\ndo = '{action}'"));
        let lost = bench.deliver(Nexus::DIRECT, &cdb::write_6(1), b"x");
        assert!(matches!(lost, Delivery::Disconnect));
        assert_eq!(bench.position().0, ran);
    }
}

#[test]
fn power_cuts_and_resets_lose_a_random_rest_of_the_buffer_by_seed() {
    let survivors = |seed: u64, action: &str| {
        let dir = TempDir::new().unwrap();
        let mut bench = Bench {
            dir,
            drive: Drive::new(Options::default(), Faults::seeded(None, seed)),
        };
        bench.refused(
            &cdb::test_unit_ready(),
            Key::UnitAttention,
            code::POWER_ON_OR_RESET,
        );
        let path = bench.blank("A", 1 << 20, false);
        bench.load(&path);
        bench.write(b"flushed");
        bench.marks(1);
        for _ in 0..100 {
            bench.write(b"buffered");
        }
        bench.order(&format!("opcode = 0x34\ndo = '{action}'"));
        let cdb = cdb::read_position(PositionForm::Long);
        match bench.deliver(Nexus::DIRECT, &cdb, &[]) {
            Delivery::Disconnect => assert_eq!(action, "power-cut"),
            Delivery::Answer(response) => {
                let sense = Sense::parse(&response.sense).unwrap();
                assert_eq!((action, sense.code()), ("reset", code::DEVICE_RESET));
            }
            Delivery::Hang { .. } | Delivery::After { .. } => panic!("it answers at once"),
        }
        if action == "power-cut" {
            bench.refused(
                &cdb::test_unit_ready(),
                Key::UnitAttention,
                code::POWER_ON_OR_RESET,
            );
        }
        assert_eq!(bench.position().0, 0, "it stands at the beginning");
        bench.ok(&cdb::space_6(SpaceOver::EndOfData, 0));
        bench.position().0
    };
    for action in ["power-cut", "reset"] {
        let found: Vec<u64> = (0..4).map(|seed| survivors(seed, action)).collect();
        assert!(found.iter().all(|end| (2..=102).contains(end)), "{found:?}");
        assert!(found.iter().any(|end| *end != found[0]), "{found:?}");
        assert_eq!(
            survivors(0, action),
            found[0],
            "the same seed, the same rest"
        );
    }
}

#[test]
fn nonsense_is_refused_in_words() {
    for (text, words) in [
        ("at = 'never'", "never"),
        ("colour = 1", "colour"),
        ("at = 'write'\ndo = 'flip'", "`flip` is for `read`"),
        ("at = 'medium'\ndo = 'hang'", "can only give sense"),
        (
            "at = 'read'\ndeferred = true",
            "`deferred` is for `command`",
        ),
        ("do = 'retry'", "`retry` is for"),
        ("chance = 2.0", "between 0 and 1"),
        ("key = 16", "at most 15"),
    ] {
        let error = Fault::parse(text).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
    let words = ["at=read", "object=0x10", "do=flip", "drive=1", "barcode=12"];
    let fault = Fault::from_words(words).unwrap();
    assert_eq!(
        (fault.at, fault.object, fault.action),
        (At::Read, Some(16), Do::Flip)
    );
    assert_eq!(fault.drive.as_deref(), Some("1"));
    assert_eq!(fault.barcode.as_deref(), Some("12"));
    assert!(
        Fault::from_words(["read"])
            .unwrap_err()
            .contains("KEY=VALUE")
    );
    // What is told of the script can be read again.
    let text = fault.to_text();
    assert_eq!(Fault::parse(&text).unwrap(), fault);
    assert!(!text.contains("times"), "{text}");
    let fault = Fault::sense(At::Write, Key::HardwareError, code::INTERNAL_FAILURE);
    assert_eq!(fault.to_sense().code(), code::INTERNAL_FAILURE);
}

#[test]
fn a_failed_medium_tells_the_flush_what_was_lost() {
    let mut bench = Bench::new();
    for number in 0..4 {
        bench.write(&[number; 10]);
    }
    bench.fault(At::Medium, Some(2));
    let sense = bench.sense(&cdb::write_filemarks_6(1, false));
    assert!(sense.deferred);
    assert_eq!(
        (sense.key, sense.code()),
        (Key::MediumError, code::WRITE_ERROR)
    );
    assert_eq!(sense.information, Some(3));
    assert_eq!(bench.position(), (2, 0));
    bench.marks(1);
    assert_eq!(bench.position(), (3, 1));
}

#[test]
fn a_deferred_error_takes_the_place_of_any_next_command() {
    let mut bench = Bench::new();
    bench.write(b"0");
    bench.fault(At::Deferred, Some(1));
    bench.write(b"1");
    let sense = bench.sense(&cdb::write_6(1));
    assert!(sense.deferred && sense.information == Some(1));
    assert_eq!(bench.position().0, 1);
    bench.write(b"again");
    bench.marks(1);
    bench.ok(&cdb::rewind());
    assert_eq!(bench.read(9).unwrap(), b"0");
    assert_eq!(bench.read(9).unwrap(), b"again");
}

#[test]
fn unbuffered_writes_fail_themselves() {
    let mut bench = Bench::new();
    let mode = Mode {
        buffered_mode: 0,
        ..Mode::default()
    };
    let list = mode.build_select_6();
    bench
        .run(&cdb::mode_select_6(list.len() as u8), &list)
        .unwrap();
    bench.fault(At::Medium, None);
    let (sense, _) = bench.try_write(b"x").unwrap_err();
    assert!(!sense.deferred);
    assert_eq!(bench.position().0, 0);
    bench.fault(At::Write, Some(1));
    bench.write(b"x");
    assert!(bench.try_write(b"y").is_err());
    assert_eq!(bench.drive.cartridge().unwrap().buffered().0, 0);
}
