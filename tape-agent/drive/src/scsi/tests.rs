#![allow(clippy::unwrap_used)]
use taf_scsi::cdb::opcode::*;
use taf_scsi::page::mode::tape::Extension;
use taf_scsi::page::position::{Location, Long, Short};
use taf_scsi::page::reservation;
use taf_scsi::sense::Key;
use taf_scsi::transport;

use super::*;
use crate::error::Attention;
use crate::scripted::{Answer, Scripted, Seen, broken, check, data, good, status};

mod positions;

mod reservations;

fn drive(script: Vec<Answer>) -> ScsiDrive {
    watched(script).0
}

fn watched(script: Vec<Answer>) -> (ScsiDrive, Seen) {
    let (transport, seen) = Scripted::new(inquiry::TYPE_TAPE, script);
    (ScsiDrive::new(transport).unwrap(), seen)
}

fn limits() -> Answer {
    let page = LimitsPage {
        granularity: 0,
        max: 0x80_0000,
        min: 1,
    };
    data(READ_BLOCK_LIMITS, page.build())
}

fn no_sense(code: (u8, u8)) -> Sense {
    Sense::new(Key::NoSense, code)
}

fn unknown_command() -> Sense {
    Sense::new(Key::IllegalRequest, code::INVALID_OPCODE)
}

/// READ POSITION as tgt answers it: the short form unknown, the long form zeros with a reserved bit.
fn tgt_position() -> [Answer; 2] {
    let (mut short, mut long) = (vec![0; 20], vec![0; 32]);
    short[0] = 0x14;
    long[0] = 0x20;
    [data(READ_POSITION, short), data(READ_POSITION, long)]
}

#[test]
fn it_says_who_it_is_and_refuses_to_be_something_else() {
    assert_eq!(drive(vec![]).identity().serial.as_deref(), Some("S1"));
    let changer = Scripted::other_kind(inquiry::TYPE_CHANGER);
    let refused = ScsiDrive::new(Box::new(changer)).err().unwrap();
    assert!(matches!(refused, Error::WrongDevice { found: 8, .. }));
}

#[test]
fn early_warning_means_written() {
    let mut drive = drive(vec![
        limits(),
        check(WRITE_6, no_sense(code::END_OF_MEDIUM_DETECTED).with_eom()),
        // tgt leaves the code out.
        check(WRITE_6, no_sense(code::NONE).with_eom()),
        check(WRITE_6, no_sense(code::PROGRAMMABLE_EARLY_WARNING)),
        check(
            WRITE_FILEMARKS_6,
            no_sense(code::END_OF_MEDIUM_DETECTED).with_eom(),
        ),
    ]);
    for _ in 0..3 {
        assert_eq!(drive.write_block(&[1; 512]).unwrap(), Written::EarlyWarning);
    }
    assert_eq!(drive.flush().unwrap(), Written::EarlyWarning);
}

#[test]
fn what_was_not_taken_near_the_end_is_overflow() {
    let overflow = Sense::new(Key::VolumeOverflow, code::END_OF_MEDIUM_DETECTED).with_eom();
    let left = no_sense(code::END_OF_MEDIUM_DETECTED).with_eom();
    let mut drive = drive(vec![
        limits(),
        check(WRITE_6, overflow.with_information(512)),
        check(WRITE_6, left.with_information(512)),
        check(WRITE_FILEMARKS_6, overflow),
    ]);
    for _ in 0..2 {
        assert!(matches!(
            drive.write_block(&[1; 512]),
            Err(Error::VolumeOverflow)
        ));
    }
    let marked = drive.write_filemarks(1, Sync::Synchronous);
    assert!(matches!(marked, Err(Error::VolumeOverflow)));
}

#[test]
fn a_deferred_error_is_told_apart_whatever_its_key_and_command() {
    let late = Sense::new(Key::MediumError, code::WRITE_ERROR).deferred();
    let late_warning = no_sense(code::END_OF_MEDIUM_DETECTED).with_eom().deferred();
    let mut drive = drive(vec![
        limits(),
        check(WRITE_6, late),
        check(WRITE_6, late_warning),
        check(REWIND, late),
        check(READ_POSITION, late),
        check(
            READ_6,
            no_sense(code::FILEMARK_DETECTED).with_filemark().deferred(),
        ),
    ]);
    assert!(matches!(
        drive.write_block(&[0; 9]),
        Err(Error::Deferred(_))
    ));
    assert!(matches!(
        drive.write_block(&[0; 9]),
        Err(Error::Deferred(_))
    ));
    assert!(matches!(drive.rewind(), Err(Error::Deferred(_))));
    assert!(matches!(drive.position(), Err(Error::Deferred(_))));
    assert!(matches!(
        drive.read_block(&mut [0; 9]),
        Err(Error::Deferred(_))
    ));
}

#[test]
fn unit_attentions_are_classified_and_never_retried() {
    let reset = Sense::new(Key::UnitAttention, code::POWER_ON_OR_RESET);
    let changed = Sense::new(Key::UnitAttention, code::MEDIUM_MAY_HAVE_CHANGED);
    let mut drive = drive(vec![
        limits(),
        check(WRITE_6, reset),
        check(TEST_UNIT_READY, reset),
        check(TEST_UNIT_READY, changed),
        good(TEST_UNIT_READY),
    ]);
    let Err(Error::UnitAttention(sense)) = drive.write_block(&[0; 9]) else {
        panic!("not a unit attention");
    };
    assert_eq!(Attention::of(&sense), Attention::Reset);
    let news = drive.attentions().unwrap();
    assert_eq!(news, [reset, changed]);
    assert_eq!(Attention::of(&news[1]), Attention::MediumChanged);
}

#[test]
fn lengths_come_from_sense_and_not_from_the_residual() {
    let short = no_sense(code::NONE).with_ili();
    let mut drive = drive(vec![
        // tgt: a shorter block, counted as nothing transferred.
        check(READ_6, short.with_information(262_144))
            .with(vec![7; 262_144])
            .claiming(0),
        // tgt: a filemark, counted as a full buffer.
        check(
            READ_6,
            no_sense(code::FILEMARK_DETECTED)
                .with_filemark()
                .with_information(524_288),
        )
        .claiming(524_288),
        data(READ_6, vec![9; 524_288]).claiming(3),
        check(READ_6, short.with_information(-261_144)),
        check(READ_6, short),
        check(READ_6, short.with_information(600_000)),
    ]);
    let mut buffer = vec![0; 524_288];
    assert_eq!(drive.read_block(&mut buffer).unwrap(), Read::Block(262_144));
    assert_eq!(buffer[262_143], 7);
    assert_eq!(drive.read_block(&mut buffer).unwrap(), Read::Filemark);
    assert_eq!(drive.read_block(&mut buffer).unwrap(), Read::Block(524_288));
    assert!(matches!(
        drive.read_block(&mut buffer[..1000]),
        Err(Error::BlockTooLarge {
            length: 262_144,
            buffer: 1000
        })
    ));
    assert!(matches!(
        drive.read_block(&mut buffer),
        Err(Error::Other(_))
    ));
    assert!(matches!(
        drive.read_block(&mut buffer),
        Err(Error::Other(_))
    ));
}

#[test]
fn blank_is_said_only_right_after_the_drive_rewound() {
    let end = check(
        READ_6,
        Sense::new(Key::BlankCheck, code::END_OF_DATA_DETECTED).with_eom(),
    );
    let tgt_end = || check(READ_6, Sense::new(Key::BlankCheck, code::NONE).with_eom());
    let no_end = Sense::new(Key::BlankCheck, code::END_OF_DATA_NOT_FOUND);
    let changed = Sense::new(Key::UnitAttention, code::MEDIUM_MAY_HAVE_CHANGED);
    let mut drive = drive(vec![
        end,
        good(REWIND),
        tgt_end(),
        tgt_end(),
        good(REWIND),
        check(TEST_UNIT_READY, changed),
        tgt_end(),
        good(REWIND),
        check(READ_6, no_end),
        good(REWIND),
        good(LOAD_UNLOAD),
        tgt_end(),
    ]);
    let mut buffer = [0; 512];
    assert_eq!(drive.read_block(&mut buffer).unwrap(), Read::EndOfData);
    drive.rewind().unwrap();
    assert_eq!(drive.read_block(&mut buffer).unwrap(), Read::Blank);
    assert_eq!(drive.read_block(&mut buffer).unwrap(), Read::EndOfData);
    drive.rewind().unwrap();
    assert!(drive.ready().is_err());
    assert_eq!(drive.read_block(&mut buffer).unwrap(), Read::EndOfData);
    drive.rewind().unwrap();
    assert!(matches!(
        drive.read_block(&mut buffer),
        Err(Error::BlankCheck(_))
    ));
    drive.rewind().unwrap();
    drive.load().unwrap();
    assert_eq!(drive.read_block(&mut buffer).unwrap(), Read::EndOfData);
}

#[test]
fn sizes_are_checked_before_anything_is_sent() {
    let mut drive = drive(vec![limits()]);
    let long = vec![0; (1 << 20) + 1];
    assert!(matches!(
        drive.write_block(&long),
        Err(Error::TransferSize { max: 1_048_576, .. })
    ));
    assert!(matches!(
        drive.write_block(&[]),
        Err(Error::TransferSize { .. })
    ));
    assert!(matches!(
        drive.read_block(&mut []),
        Err(Error::TransferSize { .. })
    ));
}

#[test]
fn statuses_other_than_check_condition() {
    let lost = transport::Error::Timeout {
        device: "script".into(),
        seconds: 1,
    };
    let mut drive = drive(vec![
        status(REWIND, 0x18),
        status(REWIND, 0x08),
        status(REWIND, 0x28),
        good(REWIND),
        status(REWIND, 0x08),
        status(REWIND, 0x08),
        status(REWIND, 0x08),
        status(REWIND, 0x08),
        status(REWIND, 0x08),
        status(REWIND, 0x02),
        broken(REWIND, lost),
    ]);
    assert!(matches!(drive.rewind(), Err(Error::ReservationConflict)));
    // A device is busy for a while, or for good.
    drive.rewind().unwrap();
    assert!(matches!(drive.rewind(), Err(Error::Busy)));
    assert!(matches!(drive.rewind(), Err(Error::Status(2))));
    assert!(matches!(drive.rewind(), Err(Error::Unknown(_))));
}

#[test]
fn readiness_has_words_for_what_is_no_fault() {
    let not_ready = |code| check(TEST_UNIT_READY, Sense::new(Key::NotReady, code));
    let activity = |code| {
        let parameter = log::Parameter {
            code: 0,
            control: 3,
            value: vec![0, 0, code, 0],
        };
        data(LOG_SENSE, log::build(0x11, &[parameter]))
    };
    let mut drive = drive(vec![
        good(TEST_UNIT_READY),
        not_ready(code::BECOMING_READY),
        activity(0x0b),
        not_ready(code::BECOMING_READY),
        check(LOG_SENSE, unknown_command()),
        not_ready(code::MEDIUM_NOT_PRESENT_LOADABLE),
        not_ready(code::LOAD_REQUIRED),
        not_ready(code::CLEANING_CARTRIDGE),
        not_ready(code::MANUAL_INTERVENTION),
    ]);
    assert_eq!(drive.ready().unwrap(), Readiness::Ready);
    assert_eq!(drive.ready().unwrap(), Readiness::Calibrating);
    assert_eq!(drive.ready().unwrap(), Readiness::BecomingReady);
    assert_eq!(drive.ready().unwrap(), Readiness::NoMedium);
    assert_eq!(drive.ready().unwrap(), Readiness::LoadRequired);
    assert_eq!(drive.ready().unwrap(), Readiness::Cleaning);
    assert!(matches!(drive.ready(), Err(Error::NotReady(_))));
}

#[test]
fn a_drive_that_is_getting_ready_says_how_far_it_is() {
    let becoming = |progress| {
        let sense = Sense {
            progress,
            ..Sense::new(Key::NotReady, code::BECOMING_READY)
        };
        check(TEST_UNIT_READY, sense)
    };
    let sense = |sense: Sense| data(REQUEST_SENSE, sense.to_fixed());
    let no_page = || check(LOG_SENSE, unknown_command());
    let mut drive = drive(vec![
        becoming(Some(0x8000)),
        no_page(),
        // Another says so only if it is asked for sense data.
        becoming(None),
        no_page(),
        sense(Sense {
            progress: Some(0x4000),
            ..Sense::new(Key::NotReady, code::BECOMING_READY)
        }),
        becoming(None),
        no_page(),
        sense(Sense::new(Key::NoSense, code::NONE)),
        // News that come this way must not get lost.
        becoming(None),
        no_page(),
        sense(Sense::new(Key::UnitAttention, code::POWER_ON_OR_RESET)),
    ]);
    let mut ask = || {
        assert_eq!(drive.ready().unwrap(), Readiness::BecomingReady);
        drive.progress()
    };
    assert_eq!(ask().unwrap(), Some(0x8000));
    assert_eq!(ask().unwrap(), Some(0x4000));
    assert_eq!(ask().unwrap(), None);
    assert!(matches!(ask(), Err(Error::UnitAttention(_))));
}

fn mode_answer(block_length: u32, buffered_mode: u8) -> Answer {
    let mode = Mode {
        write_protected: true,
        buffered_mode,
        block: Some(BlockDescriptor {
            density: 0x5e,
            blocks: 0,
            block_length,
        }),
        ..Mode::default()
    };
    data(MODE_SENSE_6, mode.build_6())
}

fn mode_page(page: &[u8]) -> Answer {
    let mode = Mode {
        pages: page.to_vec(),
        ..Mode::default()
    };
    data(MODE_SENSE_6, mode.build_6())
}

#[test]
fn preparing_sets_variable_blocks_and_says_what_the_medium_is() {
    let refused = || {
        check(
            MODE_SENSE_6,
            Sense::new(Key::IllegalRequest, code::INVALID_FIELD_IN_CDB),
        )
    };
    let mut drive = drive(vec![
        check(MAINTENANCE_IN, unknown_command()),
        mode_answer(512, 0),
        good(MODE_SELECT_6),
        mode_answer(0, 1),
        mode_page(&[0x1d, 2, 0x01, 0]),
        refused(),
        refused(),
        check(MAINTENANCE_IN, unknown_command()),
        mode_answer(0, 1),
        refused(),
        mode_page(&[0x0f, 2, 0xc0, 0]),
        mode_page(&[0x11, 6, 3, 1, 0x38, 3, 9, 0]),
        check(MAINTENANCE_IN, unknown_command()),
        mode_answer(512, 1),
        good(MODE_SELECT_6),
        mode_answer(512, 1),
    ]);
    let state = drive.prepare().unwrap();
    assert_eq!(
        state,
        MediumState {
            write_protected: true,
            worm: true,
            density: 0x5e,
            compression: None,
            partitions: None,
        }
    );
    let state = drive.prepare().unwrap();
    assert_eq!((state.worm, state.compression), (false, Some(true)));
    assert_eq!(state.partitions, Some(2));
    assert!(matches!(drive.prepare(), Err(Error::NotTaken(_))));
}

#[test]
fn protection_has_many_keys_and_allowing_overwrite_is_optional() {
    let mut drive = drive(vec![
        limits(),
        check(WRITE_6, Sense::new(Key::DataProtect, code::WRITE_PROTECTED)),
        check(
            WRITE_6,
            Sense::new(Key::IllegalRequest, code::WORM_OVERWRITE),
        ),
        check(ALLOW_OVERWRITE, unknown_command()),
        good(ALLOW_OVERWRITE),
    ]);
    assert!(matches!(
        drive.write_block(&[0; 9]),
        Err(Error::WriteProtected(_))
    ));
    assert!(matches!(
        drive.write_block(&[0; 9]),
        Err(Error::WriteProtected(_))
    ));
    assert!(!drive.allow_overwrite(0).unwrap());
    assert!(drive.allow_overwrite(0).unwrap());
}

#[test]
fn append_only_mode_is_set_once_and_only_where_the_drive_takes_it() {
    let page = |append_only, early_warning_megabytes| {
        let extension = Extension {
            append_only,
            short_erase: 2,
            early_warning_megabytes,
        };
        let mut page = extension.build();
        page[0] |= 0x80; // saveable, which MODE SELECT must not say
        mode_page(&page)
    };
    let refusal = Sense::new(Key::IllegalRequest, code::INVALID_FIELD_IN_CDB);
    let (mut drive, seen) = watched(vec![
        page(false, 7),
        good(MODE_SELECT_6),
        page(true, 7),
        // It is so already.
        page(true, 7),
        // Taken and forgotten; refused; not known.
        page(false, 0),
        good(MODE_SELECT_6),
        page(false, 0),
        page(false, 0),
        check(MODE_SELECT_6, refusal),
        check(MODE_SENSE_6, refusal),
    ]);
    let taken: Vec<bool> = (0..5)
        .map(|_| drive.set_append_only(true).unwrap())
        .collect();
    assert_eq!(taken, [true, true, false, false, false]);
    let seen = seen.lock().unwrap();
    let selected = seen.iter().filter(|cdb| cdb[0] == MODE_SELECT_6).count();
    assert_eq!(selected, 3);
}

#[test]
fn block_protection_is_asked_for_and_left_as_it_is() {
    let page = |method, flags| mode_page(&[0x4a, 0xf0, 0, 4, method, 4, flags, 0]);
    let refusal = Sense::new(Key::IllegalRequest, code::INVALID_FIELD_IN_CDB);
    let (mut drive, seen) = watched(vec![
        page(0, 0),
        page(1, 0xc0),
        check(MODE_SENSE_6, refusal),
        mode_page(&[0x0f, 2, 0xc0, 0]),
    ]);
    let said: Vec<Option<bool>> = (0..4).map(|_| drive.block_protection().unwrap()).collect();
    assert_eq!(said, [Some(false), Some(true), None, None]);
    let seen = seen.lock().unwrap();
    assert!(seen.iter().all(|cdb| cdb[0] != MODE_SELECT_6));
}

#[test]
fn a_memory_that_can_not_be_read_is_not_one_that_is_not_there() {
    use crate::health::Chip;
    let mut drive = drive(vec![
        check(READ_ATTRIBUTE, unknown_command()),
        check(READ_ATTRIBUTE, Sense::new(Key::MediumError, (0x11, 0x12))),
        check(READ_ATTRIBUTE, Sense::new(Key::HardwareError, (0x44, 0))),
    ]);
    assert_eq!(Chip::read(&mut drive).unwrap(), Chip::Unknown);
    let found = Chip::read(&mut drive).unwrap();
    assert!(matches!(found, Chip::Unreadable(_)), "{found:?}");
    // That one may be the drive's fault.
    assert_eq!(Chip::read(&mut drive).unwrap(), Chip::Unknown);
}
