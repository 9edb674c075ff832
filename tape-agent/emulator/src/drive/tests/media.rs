//! What cartridges and settings forbid or warn of: generations, write once, append-only mode, programmable
//! early warning, partitions, cleaning, first loads.

use taf_scsi::cdb::Format;
use taf_scsi::page::log::status::DeviceStatus;
use taf_scsi::page::mode::tape::{EXTENSION, Extension, Partitions};
use taf_scsi::page::tape_alert::Flags;
use taf_scsi::page::{density, log};

use super::*;
use crate::cartridge::Kind;
use crate::clock::Clock;

impl Bench {
    fn with(options: Options, change: impl FnOnce(&mut Meta)) -> Self {
        let mut bench = Self::empty(options);
        let path = bench.cartridge("A00001L8", change);
        bench.load(&path);
        bench
    }

    fn mode(&mut self) -> Mode {
        let cdb = cdb::mode_sense_10(PageControl::Current, 0x3f, 0xff, 4096);
        Mode::parse_10(&self.ok(&cdb)).unwrap()
    }

    fn select(&mut self, page: Vec<u8>) -> Got {
        let mode = Mode {
            pages: page,
            buffered_mode: 1,
            ..Mode::default()
        };
        let list = mode.build_select_10();
        self.run(&cdb::mode_select_10(list.len() as u16), &list)
    }

    fn extend(&mut self, append_only: bool, megabytes: u16) -> Got {
        let extension = Extension {
            append_only,
            short_erase: 2,
            early_warning_megabytes: megabytes,
        };
        self.select(extension.build())
    }

    fn alerts(&mut self) -> Flags {
        Flags::parse(&self.ok(&cdb::log_sense(log::TAPE_ALERT, 0, 1024))).unwrap()
    }

    fn refused_write(&mut self, key: Key, code: (u8, u8)) {
        let (sense, _) = self.try_write(b"x").unwrap_err();
        assert_eq!((sense.key, sense.code()), (key, code));
    }
}

#[test]
fn programmable_early_warning_is_told_once_when_it_is_crossed() {
    let options = Options {
        early_warning: Some(2_000_000),
        ..Options::default()
    };
    let mut bench = Bench::with(options, |meta| meta.capacity = 10_000_000);
    bench.extend(false, 3).unwrap();
    let page = bench
        .mode()
        .page(EXTENSION.0, EXTENSION.1)
        .unwrap()
        .to_vec();
    assert_eq!(Extension::parse(&page).unwrap().early_warning_megabytes, 3);
    let block = vec![1; 500_000];
    let warned = |bench: &mut Bench| -> Vec<u64> {
        let mut warned = Vec::new();
        for _ in 0..19 {
            let at = bench.position().0;
            if let Err((sense, _)) = bench.try_write(&block) {
                assert!(sense.eom && sense.key == Key::NoSense);
                if sense.code() == code::PROGRAMMABLE_EARLY_WARNING {
                    warned.push(at);
                } else {
                    assert_eq!(sense.code(), code::END_OF_MEDIUM_DETECTED);
                    assert!(at >= 15, "{at}");
                }
            }
        }
        warned
    };
    // 5 MB are reached with the tenth block, 8 MB with the sixteenth.
    assert_eq!(warned(&mut bench), [9]);
    let position = bench.ok(&cdb::read_position(PositionForm::Short));
    let position = Short::parse(&position).unwrap();
    assert!(position.programmable_early_warning && position.end);
    bench.ok(&cdb::rewind());
    let position = bench.ok(&cdb::read_position(PositionForm::Long));
    assert!(!Long::parse(&position).unwrap().programmable_early_warning);
    assert_eq!(warned(&mut bench), [9], "crossed anew");
    bench.ok(&cdb::rewind());
    bench.extend(false, 0).unwrap();
    assert!(warned(&mut bench).is_empty());
}

#[test]
fn worn_heads_find_less_room_than_the_cartridge_promises() {
    let options = Options {
        early_warning: Some(500_000),
        worn: 40,
        ..Options::default()
    };
    let mut bench = Bench::with(options, |meta| meta.capacity = 5_000_000);
    let block = vec![1; 100_000];
    let mut warned = None;
    let full = loop {
        match bench.try_write(&block) {
            Ok(_) => {}
            Err((sense, _)) if sense.key == Key::NoSense => {
                warned = warned.or(Some(bench.position().0));
            }
            Err((sense, _)) => {
                assert_eq!(sense.key, Key::VolumeOverflow);
                break bench.position().0;
            }
        }
    };
    assert_eq!((warned, full), (Some(25), 29));
    let page = bench.ok(&cdb::log_sense(log::TAPE_CAPACITY, 0, 100));
    let page = log::parse(log::TAPE_CAPACITY, &page).unwrap();
    let capacity = log::counters::TapeCapacity::of(&page);
    assert_eq!((capacity.remaining, capacity.maximum), (Some(2), Some(4)));
}

#[test]
fn append_only_mode_keeps_what_is_recorded() {
    let mut bench = Bench::new();
    let refused = |bench: &mut Bench| {
        bench.refused_write(Key::DataProtect, code::WRITE_APPEND_POSITION);
    };
    bench.refused(
        &cdb::allow_overwrite(0),
        Key::IllegalRequest,
        code::NOT_IN_APPEND_ONLY_MODE,
    );
    bench.extend(true, 0).unwrap();
    for _ in 0..3 {
        bench.write(b"kept");
    }
    bench.ok(&cdb::locate_16(LocateTo::Object(1)));
    refused(&mut bench);
    for cdb in [cdb::erase(false, false), cdb::write_filemarks_6(1, false)] {
        bench.refused(&cdb, Key::DataProtect, code::WRITE_APPEND_POSITION);
    }
    bench.ok(&cdb::write_filemarks_6(0, false));
    bench.refused(
        &cdb::allow_overwrite(2),
        Key::IllegalRequest,
        code::SEQUENTIAL_POSITIONING_ERROR,
    );
    // What was allowed is for this place and for once.
    bench.ok(&cdb::allow_overwrite(1));
    bench.ok(&cdb::rewind());
    bench.ok(&cdb::locate_16(LocateTo::Object(1)));
    refused(&mut bench);
    bench.ok(&cdb::allow_overwrite(1));
    bench.write(b"new");
    bench.write(b"new");
    bench.ok(&cdb::locate_16(LocateTo::Object(1)));
    refused(&mut bench);
    bench.ok(&cdb::rewind());
    let format = cdb::format_medium(Format::Single, false);
    bench.refused(&format, Key::DataProtect, code::WRITE_APPEND_POSITION);
    let (sense, _) = bench.extend(false, 0).unwrap_err();
    assert_eq!(sense.code(), code::INVALID_FIELD_IN_PARAMETERS);
    bench.ok(&cdb::allow_format());
    bench.ok(&format);
    assert_eq!(bench.read(10).unwrap_err().0.key, Key::BlankCheck);

    // The next mount begins without it.
    bench.write(b"x");
    bench.ok(&cdb::load_unload(false));
    bench.ok(&cdb::load_unload(true));
    bench.write(b"over");
}

#[test]
fn what_is_written_once_stays() {
    let mut bench = Bench::with(Options::default(), |meta| meta.kind = Kind::WriteOnce);
    let mode = bench.mode();
    assert_eq!(mode.page(0x1d, 0).unwrap()[2] & 1, 1);
    assert_eq!(mode.medium_type, 0x8c);
    bench.write(b"data");
    bench.marks(3);
    bench.write(b"more");
    bench.marks(2);
    // b M M M b M M: a filemark at the end may go, but for the first; nothing else may.
    for (object, allowed) in [(0, false), (2, false), (4, false), (5, false), (6, true)] {
        bench.ok(&cdb::locate_16(LocateTo::Object(object)));
        if allowed {
            bench.write(b"appended");
        } else {
            bench.refused_write(Key::DataProtect, code::WORM_OVERWRITE);
        }
    }
    assert!(bench.alerts().has(0x3c));
    bench.ok(&cdb::rewind());
    for cdb in [
        cdb::erase(false, false),
        cdb::format_medium(Format::Single, false),
    ] {
        bench.refused(&cdb, Key::DataProtect, code::WORM_OVERWRITE);
    }
}

#[test]
fn a_drive_takes_cartridges_of_its_neighbours() {
    let options = Options {
        generation: 7.try_into().unwrap(),
        ..Options::default()
    };
    let mut bench = Bench::with(options, |meta| meta.density = 0x58);
    bench.refused_write(Key::DataProtect, code::CANNOT_WRITE_MEDIUM);
    assert!(bench.alerts().has(0x11));
    assert_eq!(bench.read(10).unwrap_err().0.key, Key::BlankCheck);
    let cdb = cdb::report_density_support(true, 1000);
    let medium = density::parse(&bench.ok(&cdb)).unwrap();
    assert_eq!((medium.len(), medium[0].code), (1, 0x58));
    assert!(!medium[0].writable);
    let cdb = cdb::report_density_support(false, 1000);
    let all = density::parse(&bench.ok(&cdb)).unwrap();
    let codes: Vec<_> = all.iter().map(|one| (one.code, one.writable)).collect();
    assert_eq!(codes, [(0x58, false), (0x5a, true), (0x5c, true)]);
    let own = all.iter().find(|one| one.default).unwrap();
    assert_eq!((own.code, own.capacity_megabytes), (0x5c, 6_000_000));
    bench.ok(&cdb::load_unload(false));
    bench.drive.remove().unwrap();

    let path = bench.cartridge("NEW001L8", |meta| meta.density = 0x5e);
    let cartridge = Cartridge::open(&path, Behaviour::default()).unwrap();
    bench.drive.insert(cartridge);
    for cdb in [
        &cdb::test_unit_ready()[..],
        &cdb::load_unload(true),
        &cdb::rewind(),
    ] {
        bench.refused(cdb, Key::NotReady, code::INCOMPATIBLE_MEDIUM);
    }
    assert!(bench.alerts().has(0x0c));
    assert_eq!(bench.drive.removable(), Ok(()));
    bench.drive.remove().unwrap();
    bench.refused(
        &cdb::test_unit_ready(),
        Key::NotReady,
        code::MEDIUM_NOT_PRESENT,
    );
}

#[test]
fn a_recycled_tape_of_two_partitions_shows_it_until_it_is_formatted() {
    let mut bench = Bench::with(Options::default(), |meta| {
        meta.capacity = 100_000_000;
        meta.second_partition = 90_000_000;
    });
    let partitions = |bench: &mut Bench| {
        let mode = bench.mode();
        Partitions::parse(mode.page(0x11, 0).unwrap()).unwrap()
    };
    let found = partitions(&mut bench);
    assert_eq!((found.additional, found.unit), (1, 6));
    assert_eq!(found.sizes, [10, 90]);
    let block = vec![1; 1_000_000];
    for _ in 0..9 {
        let _ = bench.try_write(&block);
    }
    assert_eq!(
        bench.try_write(&block).unwrap_err().0.key,
        Key::VolumeOverflow
    );

    bench.ok(&cdb::locate_partition(1, 0));
    let long = Long::parse(&bench.ok(&cdb::read_position(PositionForm::Long))).unwrap();
    assert_eq!((long.partition, long.object), (1, Some(0)));
    assert_eq!(bench.read(10).unwrap_err().0.key, Key::BlankCheck);
    bench.refused_write(Key::DataProtect, code::WRITE_PROTECTED);
    bench.ok(&cdb::space_6(SpaceOver::EndOfData, 0));
    let sense = bench.sense(&cdb::space_6(SpaceOver::Blocks, -2));
    assert_eq!(sense.information, Some(2));
    bench.refused(
        &cdb::locate_partition(2, 0),
        Key::IllegalRequest,
        code::INVALID_FIELD_IN_CDB,
    );
    bench.ok(&cdb::locate_partition(0, 5));
    assert_eq!(bench.position().0, 5);
    let format = cdb::format_medium(Format::Single, false);
    bench.refused(&format, Key::IllegalRequest, code::POSITION_PAST_BEGINNING);
    bench.ok(&cdb::rewind());
    bench.ok(&format);
    assert_eq!(partitions(&mut bench).additional, 0);
    for _ in 0..20 {
        bench.write(&block);
    }

    // And back to two, as an LTFS format does.
    bench.ok(&cdb::rewind());
    let wanted = Partitions {
        additional_possible: 3,
        additional: 1,
        chosen: true,
        unit: 6,
        sizes: vec![40, u16::MAX],
    };
    bench.select(wanted.build()).unwrap();
    assert_eq!(
        partitions(&mut bench).additional,
        0,
        "not before it is formatted"
    );
    bench.ok(&cdb::format_medium(Format::Partitioned, false));
    assert_eq!(partitions(&mut bench).sizes, [40, 60]);
    bench.ok(&cdb::load_unload(false));
    let path = bench.drive.cartridge().unwrap().path().to_owned();
    bench.drive.remove().unwrap();
    bench.load(&path);
    assert_eq!(partitions(&mut bench).sizes, [40, 60]);
    bench.refused(
        &cdb::locate_16(LocateTo::Object(1)),
        Key::BlankCheck,
        code::END_OF_DATA_DETECTED,
    );
}

#[test]
fn a_cleaning_cartridge_cleans_until_it_is_used_up() {
    let clock = Clock::simulated();
    let mut bench = Bench::empty(Options {
        clock: clock.clone(),
        speeds: Speeds {
            clean: Duration::from_mins(2),
            ..Speeds::default()
        },
        ..Options::default()
    });
    bench.drive.alert(0x14);
    let path = bench.cartridge("CLN001CU", |meta| meta.kind = Kind::Cleaning);
    for use_number in 0..=CLEANINGS_MAX {
        let mut cartridge = Cartridge::open(&path, Behaviour::default()).unwrap();
        if use_number == 1 {
            // The other uses go by in the file.
            cartridge.memory_mut().history.cleanings = CLEANINGS_MAX - 1;
        }
        bench.drive.insert(cartridge);
        if use_number == 2 {
            bench.refused(
                &cdb::test_unit_ready(),
                Key::NotReady,
                code::CLEANING_EXPIRED,
            );
            assert!(bench.alerts().has(0x16));
            return;
        }
        let sense = bench.sense(&cdb::test_unit_ready());
        assert_eq!(
            (sense.key, sense.code()),
            (Key::NotReady, code::CLEANING_CARTRIDGE)
        );
        clock.advance(Duration::from_mins(1));
        let sense = bench.sense(&cdb::test_unit_ready());
        assert_eq!(sense.progress, Some(0x8000));
        clock.advance(Duration::from_mins(1));
        // Done; it says so until somebody takes the cartridge out.
        bench.refused(
            &cdb::test_unit_ready(),
            Key::NotReady,
            code::CLEANING_CARTRIDGE,
        );
        let alerts = bench.alerts();
        assert!(alerts.has(0x0b) && !alerts.has(0x14));
        bench.drive.remove().unwrap();
    }
    panic!("it was never used up");
}

#[test]
fn an_lto_9_cartridge_is_optimised_at_its_first_load_only() {
    let clock = Clock::simulated();
    let mut bench = Bench::empty(Options {
        clock: clock.clone(),
        generation: 9.try_into().unwrap(),
        speeds: Speeds {
            initialise: Duration::from_mins(40),
            ..Speeds::default()
        },
        ..Options::default()
    });
    let path = bench.cartridge("A00001L9", |meta| meta.density = 0x60);
    let cartridge = Cartridge::open(&path, Behaviour::default()).unwrap();
    bench.drive.insert(cartridge);
    bench.refused(&cdb::test_unit_ready(), Key::NotReady, code::BECOMING_READY);
    clock.advance(Duration::from_mins(10));
    let sense = Sense::parse(&bench.ok(&cdb::request_sense(252))).unwrap();
    assert_eq!(sense.code(), code::BECOMING_READY);
    assert_eq!(sense.progress, Some(0x4000));
    let page = bench.ok(&cdb::log_sense(log::DEVICE_STATUS, 0, 255));
    let status = DeviceStatus::of(&log::parse(log::DEVICE_STATUS, &page).unwrap()).unwrap();
    assert_eq!(status.activity, Activity::Calibrating);
    // Interrupted, it begins again.
    bench.drive.power_cut(0).unwrap();
    bench.refused(
        &cdb::test_unit_ready(),
        Key::UnitAttention,
        code::POWER_ON_OR_RESET,
    );
    clock.advance(Duration::from_mins(39));
    bench.refused(&cdb::test_unit_ready(), Key::NotReady, code::BECOMING_READY);
    clock.advance(Duration::from_mins(1));
    bench.ok(&cdb::test_unit_ready());
    bench.write(b"x");
    bench.ok(&cdb::load_unload(false));
    bench.ok(&cdb::load_unload(true));
    bench.ok(&cdb::test_unit_ready());
    bench.ok(&cdb::load_unload(false));
    bench.drive.remove().unwrap();
    bench.load(&path);
    bench.ok(&cdb::test_unit_ready());
}

#[test]
fn a_first_load_by_command_is_waited_for_unless_the_host_does_not_want_to() {
    let clock = Clock::simulated();
    for immediate in [false, true] {
        let mut bench = Bench::empty(Options {
            clock: clock.clone(),
            generation: 9.try_into().unwrap(),
            speeds: Speeds {
                initialise: Duration::from_mins(40),
                ..Speeds::default()
            },
            ..Options::default()
        });
        let path = bench.cartridge("A00001L9", |meta| meta.density = 0x60);
        let cartridge = Cartridge::open(&path, Behaviour::default()).unwrap();
        // The robot's own load fails, so the cartridge waits in the drive's mouth.
        let fault = Fault::sense(At::Load, Key::HardwareError, code::MEDIA_LOAD_FAILED);
        bench.drive.faults.lock().add(fault);
        bench.drive.insert(cartridge);
        bench.refused(&cdb::test_unit_ready(), Key::NotReady, code::LOAD_REQUIRED);
        let before = clock.now();
        let mut load = cdb::load_unload(true);
        load[1] = u8::from(immediate);
        bench.ok(&load);
        let took = clock.now().saturating_sub(before);
        if immediate {
            assert_eq!(took, Duration::ZERO);
            bench.refused(&cdb::test_unit_ready(), Key::NotReady, code::BECOMING_READY);
            clock.advance(Duration::from_mins(40));
        } else {
            assert_eq!(took, Duration::from_mins(40));
        }
        bench.ok(&cdb::test_unit_ready());
        bench.ok(&cdb::load_unload(false));
        let before = clock.now();
        bench.ok(&cdb::load_unload(true));
        assert_eq!(clock.now(), before, "that was the first");
    }
}

#[test]
fn power_lost_while_writing_may_leave_no_end_of_data() {
    let options = Options {
        loses_end: true,
        ..Options::default()
    };
    let mut bench = Bench::with(options, |_| {});
    bench.write(b"flushed");
    bench.marks(1);
    bench.drive.power_cut(9).unwrap();
    bench.refused(
        &cdb::test_unit_ready(),
        Key::UnitAttention,
        code::POWER_ON_OR_RESET,
    );
    bench.ok(&cdb::space_6(SpaceOver::EndOfData, 0));

    bench.write(b"on its way");
    bench.drive.power_cut(0).unwrap();
    bench.refused(
        &cdb::test_unit_ready(),
        Key::UnitAttention,
        code::POWER_ON_OR_RESET,
    );
    assert!(bench.alerts().has(0x04));
    let lost = |bench: &mut Bench, cdb: &[u8]| {
        bench.refused(cdb, Key::MediumError, code::END_OF_DATA_NOT_FOUND);
    };
    lost(&mut bench, &cdb::space_6(SpaceOver::EndOfData, 0));
    lost(&mut bench, &cdb::locate_16(LocateTo::EndOfData));
    lost(&mut bench, &cdb::locate_16(LocateTo::Object(7)));
    bench.ok(&cdb::rewind());
    assert_eq!(bench.read(10).unwrap(), b"flushed");
    assert!(bench.read(10).unwrap_err().0.filemark);
    lost(&mut bench, &cdb::read_6(10, true));
    // It stays so over a reload, and what is written next ends it.
    let path = bench.drive.cartridge().unwrap().path().to_owned();
    bench.ok(&cdb::load_unload(false));
    bench.drive.remove().unwrap();
    bench.load(&path);
    bench.ok(&cdb::locate_16(LocateTo::Object(2)));
    lost(&mut bench, &cdb::read_6(10, true));
    bench.write(b"repaired");
    bench.marks(1);
    bench.ok(&cdb::space_6(SpaceOver::EndOfData, 0));
    assert_eq!(bench.position().0, 4);
}

#[test]
fn sense_comes_in_descriptors_if_the_control_page_says_so() {
    let mut bench = Bench::new();
    let mode = bench.mode();
    let mut page = mode.page(0x0a, 0).unwrap().to_vec();
    assert_eq!(page[2] & 0x04, 0);
    page[2] |= 0x04;
    bench.select(page).unwrap();
    let response = bench.drive.execute(&cdb::read_6(10, true), &[], 100);
    assert_eq!(response.sense[0], 0x72);
    let sense = Sense::parse(&response.sense).unwrap();
    assert_eq!((sense.key, sense.information), (Key::BlankCheck, Some(10)));
}
