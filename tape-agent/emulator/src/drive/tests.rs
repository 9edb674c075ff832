#![allow(clippy::unwrap_used, missing_docs)]

use std::path::PathBuf;

use taf_scsi::cdb::{self, LocateTo, PageControl, PositionForm, SpaceOver};
use taf_scsi::page::block_limits::BlockLimits;
use taf_scsi::page::mode::Mode;
use taf_scsi::page::position::{Location, Long, Short};
use taf_scsi::page::vpd;
use taf_scsi::sense::Key;
use taf_scsi::status;
use taf_scsi::target::{Delivery, Nexus, Target};
use tempfile::TempDir;

use super::*;
use crate::cartridge::Meta;
use crate::faults::{At, Do, Fault};

mod faults;
mod media;
mod model;
mod records;
mod several;
mod time;

/// An initiator with a drive of its own.
struct Bench {
    dir: TempDir,
    drive: Drive,
}

/// What a command gave: data, or sense and data.
type Got = Result<Vec<u8>, (Sense, Vec<u8>)>;

impl Bench {
    fn empty(options: Options) -> Self {
        let dir = TempDir::new().unwrap();
        let drive = Drive::new(options, Faults::new(None));
        let mut bench = Self { dir, drive };
        bench.refused(
            &cdb::test_unit_ready(),
            Key::UnitAttention,
            code::POWER_ON_OR_RESET,
        );
        bench
    }

    fn with_capacity(capacity: u64, options: Options) -> Self {
        let mut bench = Self::empty(options);
        let path = bench.blank("A00001L8", capacity, false);
        bench.load(&path);
        bench
    }

    fn new() -> Self {
        Self::with_capacity(1 << 30, Options::default())
    }

    /// A cartridge that nobody made before, as `change` has it.
    fn cartridge(&self, barcode: &str, change: impl FnOnce(&mut Meta)) -> PathBuf {
        let path = self.dir.path().join(format!("{barcode}.tape"));
        let mut meta = Meta {
            capacity: 1 << 30,
            density: 0x5e,
            serial: "S".to_owned(),
            ..Meta::default()
        };
        change(&mut meta);
        Cartridge::create(&path, &meta).unwrap();
        path
    }

    fn blank(&self, barcode: &str, capacity: u64, write_protected: bool) -> PathBuf {
        let path = self.dir.path().join(format!("{barcode}.tape"));
        let meta = Meta {
            capacity,
            loads: 0,
            density: 0x5e,
            write_protected,
            serial: "S".to_owned(),
            ..Meta::default()
        };
        Cartridge::create(&path, &meta).unwrap();
        path
    }

    fn load(&mut self, path: &std::path::Path) {
        let cartridge = Cartridge::open(path, self.drive.options.behaviour).unwrap();
        self.drive.insert(cartridge);
        self.refused(
            &cdb::test_unit_ready(),
            Key::UnitAttention,
            code::MEDIUM_MAY_HAVE_CHANGED,
        );
    }

    fn run(&mut self, cdb: &[u8], out: &[u8]) -> Got {
        let response = self.drive.execute(cdb, out, 1 << 24);
        if response.status == status::GOOD {
            Ok(response.data_in)
        } else {
            assert_eq!(response.status, status::CHECK_CONDITION);
            Err((Sense::parse(&response.sense).unwrap(), response.data_in))
        }
    }

    fn ok(&mut self, cdb: &[u8]) -> Vec<u8> {
        self.run(cdb, &[]).unwrap()
    }

    fn sense(&mut self, cdb: &[u8]) -> Sense {
        self.run(cdb, &[]).unwrap_err().0
    }

    fn refused(&mut self, cdb: &[u8], key: Key, code: (u8, u8)) {
        let sense = self.sense(cdb);
        assert_eq!((sense.key, sense.code()), (key, code), "{sense}");
    }

    fn try_write(&mut self, data: &[u8]) -> Got {
        self.run(&cdb::write_6(data.len() as u32), data)
    }

    fn write(&mut self, data: &[u8]) {
        self.try_write(data).unwrap();
    }

    fn marks(&mut self, count: u32) {
        self.ok(&cdb::write_filemarks_6(count, false));
    }

    fn read(&mut self, length: u32) -> Got {
        self.run(&cdb::read_6(length, true), &[])
    }

    fn position(&mut self) -> (u64, u64) {
        let long = Long::parse(&self.ok(&cdb::read_position(PositionForm::Long))).unwrap();
        (long.object.unwrap(), long.file.unwrap())
    }

    fn fault(&mut self, at: At, object: Option<u64>) {
        self.drive.faults.lock().add(Fault {
            at,
            barcode: None,
            object,
            times: 1,
            key: Key::MediumError as u8,
            asc: 0x0c,
            ascq: 0,
            ..Fault::default()
        });
    }
}

#[test]
fn it_says_who_it_is_even_with_an_attention_pending() {
    let mut bench = Bench::empty(Options::default());
    bench.drive.power_cut(0).unwrap();
    let inquiry = bench.ok(&cdb::inquiry(36));
    let inquiry = taf_scsi::page::inquiry::Inquiry::parse(&inquiry).unwrap();
    assert_eq!((inquiry.device_type, inquiry.vendor.as_str()), (1, "TAF"));
    let serial = bench.ok(&cdb::inquiry_vpd(0x80, 255));
    assert_eq!(vpd::serial_parse(&serial).unwrap(), "0000000001");
    let names = vpd::identification_parse(&bench.ok(&cdb::inquiry_vpd(0x83, 255))).unwrap();
    assert!(names[0].bytes.ends_with(b"0000000001"));
    let sense = Sense::parse(&bench.ok(&cdb::request_sense(252))).unwrap();
    assert_eq!(sense.code(), code::POWER_ON_OR_RESET);
    let sense = Sense::parse(&bench.ok(&cdb::request_sense(252))).unwrap();
    assert_eq!(sense.code(), code::MEDIUM_NOT_PRESENT);
}

#[test]
fn it_knows_every_command_that_it_says_it_knows() {
    let mut bench = Bench::new();
    let list = bench.ok(&cdb::report_supported_opcodes(true, 8192));
    let commands = taf_scsi::page::opcodes::parse(&list).unwrap();
    assert!(commands.len() > 30);
    for command in commands {
        assert!(command.timeout_seconds.unwrap() >= 60);
        let mut cdb = vec![0; usize::from(command.length)];
        cdb[0] = command.opcode;
        cdb[1] = command.service_action.unwrap_or(0) as u8;
        if let Err((sense, _)) = bench.run(&cdb, &[]) {
            assert_ne!(
                sense.code(),
                code::INVALID_OPCODE,
                "{:#04x}",
                command.opcode
            );
        }
    }
    let plain = bench.ok(&cdb::report_supported_opcodes(false, 8192));
    let plain = taf_scsi::page::opcodes::parse(&plain).unwrap();
    assert_eq!(plain[0].timeout_seconds, None);
}

#[test]
fn without_a_cartridge_it_is_not_ready() {
    let mut bench = Bench::empty(Options::default());
    for cdb in [
        cdb::test_unit_ready(),
        cdb::rewind(),
        cdb::read_6(10, true),
        cdb::load_unload(true),
    ] {
        bench.refused(&cdb, Key::NotReady, code::MEDIUM_NOT_PRESENT);
    }
    let limits = BlockLimits::parse(&bench.ok(&cdb::read_block_limits())).unwrap();
    assert_eq!((limits.min, limits.max), (1, 8 << 20));
    bench.refused(&[0xc5], Key::IllegalRequest, code::INVALID_OPCODE);
}

#[test]
fn blocks_of_all_lengths_come_back() {
    let mut bench = Bench::new();
    let blocks: Vec<Vec<u8>> = [1, 1000, 65_536, 524_288, 8 << 20]
        .iter()
        .enumerate()
        .map(|(number, &length)| vec![number as u8 + 1; length])
        .collect();
    for block in &blocks {
        bench.write(block);
    }
    bench.marks(1);
    bench.ok(&cdb::rewind());
    for block in &blocks {
        assert_eq!(&bench.read(8 << 20).unwrap(), block);
    }
    assert_eq!(bench.position(), (5, 0));
    let (sense, _) = bench.read(8 << 20).unwrap_err();
    assert!(sense.filemark);
    assert_eq!(sense.information, Some(8 << 20));
    assert_eq!(bench.position(), (6, 1));
    let (sense, _) = bench.read(100).unwrap_err();
    assert_eq!(sense.key, Key::BlankCheck);
    assert_eq!(sense.code(), code::END_OF_DATA_DETECTED);
    let too_long = vec![0; (8 << 20) + 1];
    let (sense, _) = bench.try_write(&too_long).unwrap_err();
    assert_eq!(sense.code(), code::INVALID_FIELD_IN_CDB);
}

#[test]
fn a_wrong_length_is_told_unless_suppressed() {
    let mut bench = Bench::new();
    bench.write(&[9; 1000]);
    for (length, information) in [(1500, 500), (300, -700)] {
        bench.ok(&cdb::rewind());
        let (sense, data) = bench.run(&cdb::read_6(length, false), &[]).unwrap_err();
        assert!(sense.ili && sense.key == Key::NoSense);
        assert_eq!(sense.information, Some(information));
        assert_eq!(data.len(), length.min(1000) as usize);
        assert_eq!(bench.position().0, 1);
        bench.ok(&cdb::rewind());
        assert_eq!(bench.read(length).unwrap().len(), length.min(1000) as usize);
    }
    bench.refused(
        &[0x08, 1, 0, 0, 1, 0],
        Key::IllegalRequest,
        code::INVALID_FIELD_IN_CDB,
    );
}

#[test]
fn a_blank_cartridge_is_a_blank_check() {
    let mut bench = Bench::new();
    let (sense, _) = bench.read(80).unwrap_err();
    assert_eq!(sense.key, Key::BlankCheck);
    assert_eq!(bench.position(), (0, 0));
}

#[test]
fn the_position_tells_what_is_still_in_the_buffer() {
    let behaviour = Behaviour {
        buffer: 3000,
        sync: false,
    };
    let mut bench = Bench::with_capacity(
        1 << 20,
        Options {
            behaviour,
            ..Options::default()
        },
    );
    for _ in 0..5 {
        bench.write(&[1; 900]);
    }
    for form in [PositionForm::Short, PositionForm::Extended] {
        let data = bench.ok(&cdb::read_position(form));
        let position = if form == PositionForm::Short {
            Short::parse(&data).unwrap()
        } else {
            Short::parse_extended(&data).unwrap()
        };
        assert_eq!(position.location, Some(Location { first: 5, last: 2 }));
        assert_eq!(position.buffered_objects, Some(3));
        assert_eq!(position.buffered_bytes, Some(2700));
    }
    bench.ok(&cdb::write_filemarks_6(0, false));
    let data = bench.ok(&cdb::read_position(PositionForm::Short));
    let position = Short::parse(&data).unwrap();
    assert_eq!(position.location, Some(Location { first: 5, last: 5 }));
    assert_eq!(position.buffered_objects, Some(0));
    bench.ok(&cdb::write_filemarks_6(2, true));
    let data = bench.ok(&cdb::read_position(PositionForm::Short));
    assert_eq!(Short::parse(&data).unwrap().buffered_objects, Some(2));
}

#[test]
fn killing_it_loses_exactly_what_was_not_flushed() {
    let mut bench = Bench::new();
    bench.write(b"kept");
    bench.marks(1);
    bench.write(b"lost");
    let path = bench.drive.cartridge().unwrap().path().to_owned();
    bench.drive = Drive::new(Options::default(), Faults::new(None));
    let cartridge = Cartridge::open(&path, Behaviour::default()).unwrap();
    bench.drive.power_on_with(cartridge);
    bench.refused(
        &cdb::test_unit_ready(),
        Key::UnitAttention,
        code::POWER_ON_OR_RESET,
    );
    assert_eq!(bench.read(10).unwrap(), b"kept");
    bench.ok(&cdb::space_6(SpaceOver::EndOfData, 0));
    assert_eq!(bench.position(), (2, 1));
}

#[test]
fn spacing_stops_at_marks_and_ends() {
    // b b M b M M, end of data at 6
    let mut bench = Bench::new();
    bench.write(b"0");
    bench.write(b"1");
    bench.marks(1);
    bench.write(b"3");
    bench.marks(2);
    bench.ok(&cdb::rewind());

    let sense = bench.sense(&cdb::space_6(SpaceOver::Blocks, 5));
    assert!(sense.filemark);
    assert_eq!(sense.information, Some(3));
    assert_eq!(bench.position(), (3, 1));
    let sense = bench.sense(&cdb::space_16(SpaceOver::Blocks, -1));
    assert!(sense.filemark);
    assert_eq!((sense.information, bench.position()), (Some(1), (2, 0)));
    let sense = bench.sense(&cdb::space_6(SpaceOver::Blocks, -3));
    assert_eq!(sense.code(), code::BEGINNING_OF_MEDIUM_DETECTED);
    assert!(sense.eom);
    assert_eq!((sense.information, bench.position()), (Some(1), (0, 0)));
    bench.ok(&cdb::space_6(SpaceOver::Filemarks, 2));
    assert_eq!(bench.position(), (5, 2));
    let sense = bench.sense(&cdb::space_16(SpaceOver::Filemarks, 3));
    assert_eq!(sense.key, Key::BlankCheck);
    assert_eq!((sense.information, bench.position()), (Some(2), (6, 3)));
    bench.ok(&cdb::space_6(SpaceOver::Filemarks, -2));
    assert_eq!(bench.position(), (4, 1));
    let sense = bench.sense(&cdb::space_6(SpaceOver::Filemarks, -2));
    assert_eq!((sense.information, bench.position()), (Some(1), (0, 0)));
    bench.refused(
        &[0x11, 2, 0, 0, 1, 0],
        Key::IllegalRequest,
        code::INVALID_FIELD_IN_CDB,
    );
}

#[test]
fn it_locates_blocks_files_and_the_end() {
    let mut bench = Bench::new();
    for file in 0..3 {
        bench.write(&[file; 10]);
        bench.write(&[file; 20]);
        bench.marks(1);
    }
    bench.ok(&cdb::locate_10(4));
    assert_eq!(bench.read(20).unwrap(), [1; 20]);
    for (to, position) in [
        (LocateTo::File(0), (0, 0)),
        (LocateTo::File(2), (6, 2)),
        (LocateTo::File(3), (9, 3)),
        (LocateTo::Object(7), (7, 2)),
        (LocateTo::EndOfData, (9, 3)),
    ] {
        bench.ok(&cdb::locate_16(to));
        assert_eq!(bench.position(), position, "{to:?}");
    }
    for to in [
        LocateTo::Object(10),
        LocateTo::File(4),
        LocateTo::Object(u64::MAX),
        LocateTo::File(u64::MAX),
    ] {
        bench.ok(&cdb::rewind());
        let sense = bench.sense(&cdb::locate_16(to));
        assert_eq!(sense.key, Key::BlankCheck);
        assert_eq!(bench.position(), (9, 3));
    }
}

#[test]
fn overwriting_and_erasing_cut_what_lies_behind() {
    let mut bench = Bench::new();
    for number in 0..5 {
        bench.write(&[number; 10]);
    }
    bench.ok(&cdb::locate_16(LocateTo::Object(2)));
    bench.write(b"new");
    bench.ok(&cdb::space_6(SpaceOver::EndOfData, 0));
    assert_eq!(bench.position().0, 3);
    bench.ok(&cdb::rewind());
    bench.ok(&cdb::erase(false, false));
    let (sense, _) = bench.read(10).unwrap_err();
    assert_eq!(sense.key, Key::BlankCheck);
}

#[test]
fn early_warning_comes_before_the_hard_end() {
    // 20 blocks of 1000 + 16 bytes fit; the last three and a bit are behind early warning.
    let mut bench = Bench::with_capacity(
        20 * 1016,
        Options {
            early_warning: Some(3 * 1016 + 500),
            ..Options::default()
        },
    );
    for _ in 0..16 {
        bench.write(&[1; 1000]);
    }
    for number in 16..20 {
        let (sense, _) = bench.try_write(&[2; 1000]).unwrap_err();
        assert_eq!(sense.key, Key::NoSense);
        assert_eq!(sense.code(), code::END_OF_MEDIUM_DETECTED);
        assert!(sense.eom && sense.information == Some(0));
        assert_eq!(bench.position().0, number + 1);
    }
    let data = bench.ok(&cdb::read_position(PositionForm::Short));
    assert!(Short::parse(&data).unwrap().end);
    let (sense, _) = bench.try_write(&[3; 1000]).unwrap_err();
    assert_eq!(sense.key, Key::VolumeOverflow);
    assert!(sense.eom && sense.information == Some(1000));
    let sense = bench.sense(&cdb::write_filemarks_6(1, false));
    assert_eq!(sense.key, Key::VolumeOverflow);
    bench.ok(&cdb::write_filemarks_6(0, false));
    assert_eq!(bench.position().0, 20);
}

#[test]
fn a_write_protected_cartridge_is_not_written() {
    let mut bench = Bench::empty(Options::default());
    let path = bench.blank("W", 1 << 20, true);
    bench.load(&path);
    let data = bench.ok(&cdb::mode_sense_6(PageControl::Current, 0, 0, 255));
    assert!(Mode::parse_6(&data).unwrap().write_protected);
    let (sense, _) = bench.try_write(b"no").unwrap_err();
    assert_eq!(sense.key, Key::DataProtect);
    for cdb in [cdb::write_filemarks_6(1, false), cdb::erase(false, false)] {
        bench.refused(&cdb, Key::DataProtect, code::WRITE_PROTECTED);
    }
    bench.ok(&cdb::write_filemarks_6(0, false));
}

#[test]
fn unloading_lets_go_of_the_cartridge_unless_prevented() {
    let mut bench = Bench::new();
    bench.write(b"buffered");
    assert_eq!(bench.drive.removable(), Err(Held::Threaded));
    bench.ok(&cdb::prevent_allow_medium_removal(true));
    bench.refused(
        &cdb::load_unload(false),
        Key::IllegalRequest,
        code::MEDIUM_REMOVAL_PREVENTED,
    );
    bench.ok(&cdb::prevent_allow_medium_removal(false));
    bench.ok(&cdb::load_unload(false));
    bench.refused(&cdb::test_unit_ready(), Key::NotReady, code::LOAD_REQUIRED);
    bench.ok(&cdb::load_unload(true));
    assert_eq!(bench.read(100).unwrap(), b"buffered");
    bench.ok(&cdb::load_unload(false));
    let cartridge = bench.drive.remove().unwrap();
    assert_eq!(cartridge.meta().loads, 2);
    bench.refused(
        &cdb::test_unit_ready(),
        Key::NotReady,
        code::MEDIUM_NOT_PRESENT,
    );
}

#[test]
fn threading_takes_its_time() {
    let mut bench = Bench::empty(Options {
        speeds: Speeds {
            load: Duration::from_millis(200),
            ..Speeds::default()
        },
        ..Options::default()
    });
    let path = bench.blank("SLOW", 1 << 20, false);
    let cartridge = Cartridge::open(&path, Behaviour::default()).unwrap();
    bench.drive.insert(cartridge);
    bench.refused(&cdb::test_unit_ready(), Key::NotReady, code::BECOMING_READY);
    let ready = loop {
        let sense = bench.sense(&cdb::test_unit_ready());
        if sense.code() != code::BECOMING_READY {
            break sense;
        }
    };
    assert_eq!(ready.code(), code::MEDIUM_MAY_HAVE_CHANGED);
    bench.ok(&cdb::test_unit_ready());
}

#[test]
fn modes_are_set_and_fixed_blocks_are_refused() {
    let mut bench = Bench::new();
    let data = bench.ok(&cdb::mode_sense_10(PageControl::Current, 0x3f, 0, 4096));
    let mut mode = Mode::parse_10(&data).unwrap();
    assert_eq!(mode.block.unwrap().density, 0x5e);
    assert_eq!(mode.buffered_mode, 1);
    assert!(mode.page(0x10, 0).is_some() && mode.page(0x1d, 0).is_some());
    assert_eq!(mode.page(0x0f, 0).unwrap()[2] & 0x80, 0x80);

    mode.pages = mode.page(0x0f, 0).unwrap().to_vec();
    mode.pages[2] &= 0x7f;
    let list = mode.build_select_10();
    bench
        .run(&cdb::mode_select_10(list.len() as u16), &list)
        .unwrap();
    let data = bench.ok(&cdb::mode_sense_6(PageControl::Current, 0x0f, 0, 255));
    let read = Mode::parse_6(&data).unwrap();
    assert_eq!(read.page(0x0f, 0).unwrap()[2] & 0x80, 0);

    mode.block.as_mut().unwrap().block_length = 512;
    let list = mode.build_select_10();
    let (sense, _) = bench
        .run(&cdb::mode_select_10(list.len() as u16), &list)
        .unwrap_err();
    assert_eq!(sense.code(), code::INVALID_FIELD_IN_PARAMETERS);
    bench.refused(
        &cdb::mode_sense_6(PageControl::Current, 0x2a, 0, 255),
        Key::IllegalRequest,
        code::INVALID_FIELD_IN_CDB,
    );
}

#[test]
fn a_read_only_drive_shows_a_cartridge_as_it_was_flushed() {
    let mut bench = Bench::new();
    bench.write(b"flushed");
    bench.marks(1);
    bench.write(b"buffered");
    let path = bench.drive.cartridge().unwrap().path().to_owned();
    let mut other = Bench {
        dir: TempDir::new().unwrap(),
        drive: crate::single::drive(&path, true).unwrap(),
    };
    other.refused(
        &cdb::test_unit_ready(),
        Key::UnitAttention,
        code::POWER_ON_OR_RESET,
    );
    assert_eq!(other.read(100).unwrap(), b"flushed");
    assert!(other.read(100).unwrap_err().0.filemark);
    assert_eq!(other.read(100).unwrap_err().0.key, Key::BlankCheck);
    assert!(other.try_write(b"no").is_err());
}
