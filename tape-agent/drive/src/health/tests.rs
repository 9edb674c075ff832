#![allow(clippy::unwrap_used)]

use taf_scsi::cdb::opcode;
use taf_scsi::page::attribute::{self, Attribute};
use taf_scsi::page::log::{self, Parameter};
use taf_scsi::sense::{Key, Sense, code};

use super::{AlertPage, Alerts, Memory, Snapshot, Statistics};
use crate::scripted::{Answer, Scripted, check, data};
use crate::{Drive as _, Error, ScsiDrive};

fn page(code: u8, parameters: &[(u16, u64, usize)]) -> Answer {
    let parameters: Vec<Parameter> = parameters
        .iter()
        .map(|(code, value, length)| Parameter {
            code: *code,
            control: 0,
            value: value.to_be_bytes()[8 - length..].to_vec(),
        })
        .collect();
    data(opcode::LOG_SENSE, log::build(code, &parameters))
}

fn no_page() -> Answer {
    let sense = Sense::new(Key::IllegalRequest, code::INVALID_FIELD_IN_CDB);
    check(opcode::LOG_SENSE, sense)
}

fn drive(script: Vec<Answer>) -> ScsiDrive {
    ScsiDrive::new(Scripted::new(1, script).0).unwrap()
}

#[test]
fn every_page_gives_its_numbers() {
    let mut drive = drive(vec![
        page(0x02, &[(3, 7, 4), (6, 1, 4)]),
        page(0x03, &[(3, 2, 4), (6, 0, 4)]),
        page(
            0x0c,
            &[
                (0, 1000, 8),
                (1, 600, 8),
                (2, 300, 8),
                (3, 500, 8),
                (0x100, 0, 4),
            ],
        ),
        page(0x11, &[(0, 0x0500_0100, 4)]),
        page(
            0x17,
            &[
                (0, 1, 1),
                (1, 42, 4),
                (0x10, 9, 8),
                (0x11, 8, 8),
                (0x16, 12_000_000, 8),
                (0x101, 77, 4),
            ],
        ),
        page(
            0x30,
            &[
                (1, 7, 4),
                (3, 4, 4),
                (4, 1, 4),
                (5, 4, 4),
                (8, 3, 4),
                (0x0b, 2, 4),
            ],
        ),
        page(0x31, &[(1, 5, 4), (3, 100, 4)]),
    ]);
    let found = Statistics::read(&mut drive).unwrap();
    assert_eq!(
        (found.write.corrected, found.write.uncorrected),
        (Some(7), Some(1))
    );
    assert_eq!(
        (found.read.corrected, found.read.uncorrected),
        (Some(2), Some(0))
    );
    assert_eq!(
        (found.host_written, found.medium_written),
        (Some(1000), Some(600))
    );
    assert_eq!((found.medium_read, found.host_read), (Some(300), Some(500)));
    assert_eq!(
        (found.cleaning_requested, found.cleaning_required),
        (Some(true), Some(false))
    );
    assert_eq!(
        (found.volume_mounts, found.beginning_passes),
        (Some(42), Some(77))
    );
    assert_eq!(
        (found.life_written, found.life_read),
        (Some(9_000_000), Some(8_000_000))
    );
    // The page that counts exactly goes before the one that rounds.
    assert_eq!(found.native_capacity, Some(12_000_000_000_000));
    assert_eq!(found.remaining, Some(5 << 20));
    let usage = found.usage.unwrap();
    assert_eq!(
        (usage.threads, usage.write_retries, usage.read_retries),
        (7, 4, 3)
    );
    assert_eq!((usage.unrecovered_writes, usage.suspended_writes), (1, 4));
    assert_eq!(
        (usage.unrecovered_reads, usage.fatal_suspended_reads),
        (0, 2)
    );
}

#[test]
fn a_drive_without_any_page_is_unknown_and_no_failure() {
    // 0Ch is asked for again as 32h.
    let mut drive = drive((0..8).map(|_| no_page()).collect());
    assert_eq!(Statistics::read(&mut drive).unwrap(), Statistics::default());
}

#[test]
fn bytes_come_from_the_compression_page_of_older_drives() {
    let mut drive = drive(vec![
        no_page(),
        no_page(),
        no_page(),
        page(
            0x32,
            &[
                (2, 1, 4),
                (3, 5, 4),
                (6, 3, 4),
                (7, 250, 4),
                (8, 2, 4),
                (9, 0, 4),
            ],
        ),
        no_page(),
        no_page(),
        no_page(),
        no_page(),
    ]);
    let found = Statistics::read(&mut drive).unwrap();
    assert_eq!(
        (found.host_written, found.host_read),
        (Some(3_000_250), Some(1_000_005))
    );
    assert_eq!(
        (found.medium_written, found.medium_read),
        (Some(2_000_000), None)
    );
}

#[test]
fn another_makers_page_is_not_taken_for_one_of_ours() {
    // Page 30h without the counters, and a drive that answers with another page's code.
    let mut drive = drive(vec![
        no_page(),
        page(0x02, &[(3, 1, 4)]),
        no_page(),
        no_page(),
        no_page(),
        no_page(),
        page(0x30, &[(0x8001, 7, 4)]),
        no_page(),
    ]);
    assert_eq!(Statistics::read(&mut drive).unwrap(), Statistics::default());
}

#[test]
fn a_drive_in_trouble_is_an_error_and_not_an_empty_page() {
    let sense = Sense::new(Key::HardwareError, (0x44, 0));
    let mut drive = drive(vec![check(opcode::LOG_SENSE, sense)]);
    assert!(matches!(
        Statistics::read(&mut drive),
        Err(Error::Hardware(_))
    ));
}

#[test]
fn differences_count_and_a_counter_that_went_back_began_anew() {
    let at = |corrected, written, retries| Statistics {
        write: super::Errors {
            corrected,
            uncorrected: Some(0),
        },
        host_written: written,
        usage: Some(super::Usage {
            write_retries: retries,
            ..super::Usage::default()
        }),
        ..Statistics::default()
    };
    let counts = at(Some(15), Some(900), 7).since(&at(Some(5), Some(1000), 4));
    assert_eq!(counts.write.corrected, Some(10));
    assert_eq!(counts.host_written, Some(900));
    assert_eq!((counts.write_retries, counts.suspends), (Some(3), Some(0)));
    assert_eq!(counts.read.corrected, None);
    // What was not known then is not known of the time since.
    assert_eq!(
        at(Some(15), None, 0)
            .since(&at(None, None, 0))
            .write
            .corrected,
        None
    );
}

#[test]
fn alerts_come_from_the_page_that_keeps_them() {
    // Flags 1 and 20: the first byte's highest bit, the third's fifth.
    let bits = 1_u64 << 63 | 1 << (63 - 19);
    let mut keeps = drive(vec![page(0x12, &[(0, bits, 8)])]);
    let (found, from) = Alerts::read(&mut keeps).unwrap().unwrap();
    let flags: Vec<u8> = found.iter().map(|alert| alert.flag).collect();
    assert_eq!(
        (flags.as_slice(), from),
        (&[1, 20][..], AlertPage::Response)
    );
}

#[test]
fn alerts_come_from_the_page_that_forgets_them_if_there_is_no_other() {
    let mut forgets = drive(vec![
        no_page(),
        page(0x2e, &[(1, 0, 1), (4, 1, 1), (0x26, 1, 1), (65, 1, 1)]),
    ]);
    let (found, from) = Alerts::read(&mut forgets).unwrap().unwrap();
    let flags: Vec<u8> = found.iter().map(|alert| alert.flag).collect();
    assert_eq!(
        (flags.as_slice(), from),
        (&[4, 0x26][..], AlertPage::ClearedOnRead)
    );
    let mut neither = drive(vec![no_page(), no_page()]);
    assert_eq!(Alerts::read(&mut neither).unwrap(), None);
}

#[test]
fn the_cartridge_says_who_it_is() {
    let attribute = |id, value: &[u8]| Attribute {
        id,
        read_only: true,
        format: 0,
        value: value.to_vec(),
    };
    let list = [
        attribute(0x0000, &5_u64.to_be_bytes()),
        attribute(0x0001, &11_444_091_u64.to_be_bytes()),
        attribute(0x0003, &9_u64.to_be_bytes()),
        attribute(0x0220, &4_u64.to_be_bytes()),
        attribute(0x0401, b"HA12345678                      "),
        attribute(0x0806, b"TAF001L8"),
    ];
    let found = Memory::of(&list);
    assert_eq!(
        (found.serial.as_str(), found.barcode.as_str()),
        ("HA12345678", "TAF001L8")
    );
    assert_eq!((found.remaining, found.loads), (Some(5 << 20), Some(9)));
    assert_eq!((found.life_written, found.life_read), (Some(4 << 20), None));
    assert_eq!(found.capacity, Some(11_444_091 << 20));
    let sense = Sense::new(Key::MediumError, (0x11, 0x12));
    let script = (0..8)
        .map(|_| no_page())
        .chain([check(opcode::READ_ATTRIBUTE, sense)]);
    let mut unreadable = drive(script.collect());
    assert_eq!(Snapshot::take(&mut unreadable).unwrap().memory, None);
    let mut whole = drive(vec![data(opcode::READ_ATTRIBUTE, attribute::build(&list))]);
    assert_eq!(whole.attributes().unwrap().unwrap(), list);
}
