//! What a drive's log, memory and reservations say.

use proptest::prelude::*;

use crate::cdb::{self, Format, ReserveIn, ReserveOut};
use crate::page::attribute::{self, Attribute};
use crate::page::density::{self, Density};
use crate::page::log::counters::{ErrorCounters, TapeUsage, VolumeStatistics};
use crate::page::log::status::{Activity, DeviceStatus};
use crate::page::log::{self, Parameter};
use crate::page::mode::Mode;
use crate::page::mode::tape::{self, Extension, Partitions};
use crate::page::reservation::{Capabilities, Holder, Keys, Parameters, Reservation, Type};
use crate::page::tape_alert::Flags;

#[test]
fn the_alert_pages_have_opposite_orders_of_bits() {
    let flags = Flags::of(&[1, 10, 64]);
    let clearing = flags.build();
    assert_eq!(clearing[..9], [0x2e, 0, 1, 64, 0, 1, 0, 1, 1]);
    assert_eq!(clearing.len(), 4 + 64 * 5);
    assert_eq!(Flags::parse(&clearing), Ok(flags));
    let kept = flags.build_response();
    assert_eq!(
        kept,
        [0x12, 0, 0, 12, 0, 0, 3, 8, 0x80, 0x40, 0, 0, 0, 0, 0, 0x01]
    );
    assert_eq!(Flags::parse_response(&kept), Ok(flags));
    assert!(Flags::parse_response(&kept[..15]).is_err());
    // As a drive of which only the memory was read said it: removal prevented.
    let memory = [0x00, 0x40, 0, 0, 0, 0, 0, 0];
    assert_eq!(Flags::from_bytes(memory), Flags::of(&[10]));
    assert!(flags.iter().eq([1, 10, 64]));
    assert_eq!(Flags::of(&[0, 65]), Flags::NONE);
    assert_eq!(Flags::from_bits(flags.bits()), flags);
}

#[test]
fn counters_are_numbers_of_fixed_widths() {
    let usage = TapeUsage {
        thread_count: Some(7),
        data_sets_read: Some(294),
        suspended_writes: Some(70_000),
        ..TapeUsage::default()
    };
    let bytes = log::build(log::TAPE_USAGE, &usage.parameters());
    assert_eq!(
        bytes,
        [
            0x30, 0, 0, 26, //
            0, 1, 0, 4, 0, 0, 0, 7, //
            0, 5, 0, 2, 0xff, 0xff, //
            0, 7, 0, 8, 0, 0, 0, 0, 0, 0, 1, 0x26,
        ]
    );
    let read = TapeUsage::of(&log::parse(log::TAPE_USAGE, &bytes).unwrap());
    assert_eq!(read.thread_count, Some(7));
    assert_eq!(read.data_sets_written, None);
    assert_eq!(read.suspended_writes, Some(65_535), "the field is full");
}

#[test]
fn a_page_in_a_buffer_that_is_filled_up_ends_where_it_says() {
    let counters = ErrorCounters {
        uncorrected: Some(3),
        ..ErrorCounters::default()
    };
    let mut bytes = log::build(log::READ_ERRORS, &counters.parameters());
    bytes.resize(200, 0);
    let parameters = log::parse(log::READ_ERRORS, &bytes).unwrap();
    assert_eq!(ErrorCounters::of(&parameters), counters);
    assert!(log::parse(log::WRITE_ERRORS, &bytes).is_err());
}

#[test]
fn volume_statistics_have_texts_beside_their_numbers() {
    let numbers = VolumeStatistics {
        mounts: Some(12),
        worm: Some(1),
        ..VolumeStatistics::default()
    };
    let mut parameters = numbers.parameters();
    parameters.push(Parameter::ascii(log::counters::VOLUME_SERIAL, "AB12", 32));
    let bytes = log::build(log::VOLUME_STATISTICS, &parameters);
    let read = log::parse(log::VOLUME_STATISTICS, &bytes).unwrap();
    assert_eq!(VolumeStatistics::of(&read), numbers);
    let serial = log::find(&read, log::counters::VOLUME_SERIAL).unwrap();
    assert_eq!(serial.text(), "AB12");
}

#[test]
fn a_drive_says_what_it_does() {
    let status = DeviceStatus {
        medium_present: true,
        medium_threaded: true,
        in_transition: true,
        activity: Activity::Calibrating,
        ..DeviceStatus::default()
    };
    let parameter = status.parameter();
    assert_eq!(parameter.value, [0x01, 0x92, 0x0b, 0]);
    assert_eq!(DeviceStatus::of(&[parameter]), Some(status));
    assert_eq!(DeviceStatus::of(&[]), None);
    for code in 0..=255 {
        assert_eq!(Activity::from_code(code).code(), code);
    }
    let pages = [log::SUPPORTED_PAGES, log::TAPE_ALERT];
    let bytes = log::supported_pages_build(&pages);
    assert_eq!(bytes, [0, 0, 0, 2, 0, 0x2e]);
    assert_eq!(log::supported_pages_parse(&bytes).unwrap(), pages);
}

#[test]
fn attributes_are_listed_read_and_written() {
    assert_eq!(cdb::read_attribute_list(0x400, 8)[1], 1);
    assert_eq!(
        cdb::write_attribute(0x0102)[..],
        [0x8d, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0]
    );
    let barcode = Attribute::host_text(attribute::BARCODE, "TAF001L8");
    assert_eq!((barcode.format, barcode.value.len()), (1, 32));
    assert_eq!(barcode.text(), "TAF001L8");
    let label = Attribute::host_text(attribute::USER_TEXT_LABEL, &"ü".repeat(100));
    assert_eq!(label.value.len(), 160);
    let odd = Attribute::host_text(attribute::APPLICATION_VENDOR, "1234567ü");
    assert_eq!(odd.value, b"1234567 ", "no half character");
    let list = attribute::build(std::slice::from_ref(&barcode));
    assert_eq!(list[..9], [0, 0, 0, 37, 0x08, 0x06, 1, 0, 32]);
    assert_eq!(attribute::parse_whole(&list).unwrap(), [barcode]);
    assert!(attribute::parse_whole(&list[..40]).is_err());
    let serial = Attribute::fixed_text(attribute::MEDIUM_SERIAL_NUMBER, "AB", 32);
    assert!(serial.read_only);
    assert_eq!(
        Attribute::fixed_number(attribute::LOAD_COUNT, 0x0102, 8).value,
        [0, 0, 0, 0, 0, 0, 1, 2]
    );
    let ids = [attribute::LOAD_COUNT, attribute::BARCODE];
    let bytes = attribute::list_build(&ids);
    assert_eq!(bytes, [0, 0, 0, 4, 0, 3, 8, 6]);
    assert_eq!(attribute::list_parse(&bytes).unwrap(), ids);
}

#[test]
fn reservations_are_bytes_of_the_standard() {
    assert_eq!(
        cdb::persistent_reserve_in(ReserveIn::Reservation, 0x0118),
        [0x5e, 1, 0, 0, 0, 0, 0, 1, 0x18, 0]
    );
    assert_eq!(
        cdb::persistent_reserve_out(ReserveOut::PreemptAndAbort, Type::ExclusiveAccess),
        [0x5f, 5, 3, 0, 0, 0, 0, 0, 24, 0]
    );
    let keys = Keys {
        generation: 9,
        keys: vec![1, u64::MAX],
    };
    let bytes = keys.build();
    assert_eq!(
        bytes[..16],
        [0, 0, 0, 9, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 1]
    );
    assert_eq!(Keys::parse(&bytes).unwrap(), keys);
    let free = Reservation {
        generation: 3,
        holder: None,
    };
    assert_eq!(free.build().len(), 8);
    assert_eq!(Reservation::parse(&free.build()), Ok(free));
    let held = Reservation {
        generation: 4,
        holder: Some(Holder {
            key: 0x0102,
            kind: Type::ExclusiveAccessRegistrants,
        }),
    };
    let bytes = held.build();
    assert_eq!((bytes.len(), bytes[7], bytes[21]), (24, 16, 6));
    assert_eq!(Reservation::parse(&bytes), Ok(held));
    let parameters = Parameters {
        key: 1,
        service_key: 2,
        persist: true,
        ..Parameters::default()
    };
    let bytes = parameters.build();
    assert_eq!((bytes[7], bytes[15], bytes[20]), (1, 2, 1));
    assert_eq!(Parameters::parse(&bytes), Ok(parameters));
    let capabilities = Capabilities {
        persist_possible: true,
        types: Some(vec![Type::WriteExclusive, Type::ExclusiveAccessAll]),
        ..Capabilities::default()
    };
    let bytes = capabilities.build();
    assert_eq!(bytes, [0, 8, 1, 0x80, 0x02, 0x01, 0, 0]);
    assert_eq!(Capabilities::parse(&bytes), Ok(capabilities));
}

#[test]
fn early_warning_append_only_and_partitions_are_mode_pages() {
    let extension = Extension {
        append_only: true,
        short_erase: 2,
        early_warning_megabytes: 0x0102,
    };
    let page = extension.build();
    assert_eq!(page[..8], [0x50, 1, 0, 28, 0, 0x12, 1, 2]);
    assert_eq!(page.len(), 32);
    assert_eq!(Extension::parse(&page), Ok(extension));
    let mode = Mode {
        pages: page,
        ..Mode::default()
    };
    assert!(mode.page(tape::EXTENSION.0, tape::EXTENSION.1).is_some());
    let mut given = vec![0xff; 32];
    extension.put(&mut given);
    assert_eq!(given[4..9], [0xff, 0x12, 1, 2, 0xff]);
    extension.put(&mut given[..6]);

    let partitions = Partitions {
        additional_possible: 3,
        additional: 1,
        chosen: true,
        unit: 9,
        sizes: vec![38, 0xffff],
    };
    let page = partitions.build();
    assert_eq!(page, [0x11, 10, 3, 1, 0x38, 3, 9, 0, 0, 38, 0xff, 0xff]);
    assert_eq!(Partitions::parse(&page), Ok(partitions));
    assert!(Partitions::parse(&page[..7]).is_err());
}

#[test]
fn densities_read_back() {
    let densities = [
        Density {
            code: 0x5c,
            writable: true,
            default: false,
            capacity_megabytes: 6_000_000,
            tracks: 3584,
            name: "U-716".to_owned(),
            description: "Ultrium 7/16T".to_owned(),
        },
        Density {
            code: 0x5e,
            writable: true,
            default: true,
            capacity_megabytes: 12_000_000,
            tracks: 6656,
            name: "U-816".to_owned(),
            description: "Ultrium 8/16T".to_owned(),
        },
    ];
    let bytes = density::build(&densities);
    assert_eq!(bytes[..7], [0, 106, 0, 0, 0x5c, 0x5c, 0x80]);
    assert_eq!(density::parse(&bytes).unwrap(), densities);
    assert_eq!(density::parse(&bytes[..100]).unwrap().len(), 1);
    assert!(density::parse(&[0, 0, 0, 0]).unwrap().is_empty());
    assert_eq!(
        cdb::report_density_support(true, 0x0102),
        [0x44, 1, 0, 0, 0, 0, 0, 1, 2, 0]
    );
    assert_eq!(cdb::allow_format()[..4], [0x82, 0, 2, 0]);
    let format = cdb::format_medium(Format::Partitioned, true);
    assert_eq!(format, [0x04, 1, 1, 0, 0, 0]);
    assert_eq!(cdb::locate_partition(1, 2)[..4], [0x92, 2, 0, 1]);
}

proptest! {
    #[test]
    fn no_parser_panics_here_either(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        for page in [0x02, 0x0c, 0x11, 0x17, 0x30] {
            let mut bytes = bytes.clone();
            if let Some(first) = bytes.first_mut() {
                *first = page;
            }
            if let Ok(parameters) = log::parse(page, &bytes) {
                let _ = VolumeStatistics::of(&parameters);
                let _ = DeviceStatus::of(&parameters);
            }
        }
        let _ = Flags::parse(&bytes);
        let _ = Flags::parse_response(&bytes);
        let _ = log::supported_pages_parse(&bytes);
        let _ = attribute::parse_whole(&bytes);
        let _ = attribute::list_parse(&bytes);
        let _ = Keys::parse(&bytes);
        let _ = Reservation::parse(&bytes);
        let _ = Capabilities::parse(&bytes);
        let _ = Parameters::parse(&bytes);
        let _ = density::parse(&bytes);
        let _ = Extension::parse(&bytes);
        let _ = Partitions::parse(&bytes);
    }

    #[test]
    fn flags_read_back(bits: u64) {
        let flags = Flags::from_bits(bits);
        prop_assert_eq!(Flags::parse(&flags.build()), Ok(flags));
        prop_assert_eq!(Flags::parse_response(&flags.build_response()), Ok(flags));
        prop_assert_eq!(Flags::from_bytes(flags.to_bytes()), flags);
    }
}
