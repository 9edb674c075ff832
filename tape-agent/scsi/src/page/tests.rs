#![allow(clippy::unwrap_used)]
use proptest::prelude::*;

use super::element_status::{Element, Identifier, Report};
use super::inquiry::Inquiry;
use super::mode::{BlockDescriptor, Mode};
use super::position::{Location, Long, Short};
use super::*;
use crate::cdb::ElementType;

mod drive;

#[test]
fn inquiry_reads_back_without_its_padding() {
    let inquiry = Inquiry {
        device_type: inquiry::TYPE_TAPE,
        qualifier: 0,
        removable: true,
        vendor: "IBM".into(),
        product: "ULT3580-TD8".into(),
        revision: "K4K1".into(),
    };
    let bytes = inquiry.build();
    assert_eq!(&bytes[8..19], b"IBM     ULT");
    assert_eq!(Inquiry::parse(&bytes), Ok(inquiry));
    assert_eq!(
        Inquiry::parse(&bytes[..35]),
        Err(Error::Short {
            page: "inquiry data",
            length: 35,
            least: 36
        })
    );
}

#[test]
fn control_characters_from_a_device_are_not_passed_on() {
    assert_eq!(text(b"  A\x1b[2J\xff  \0"), "A?[2J?");
}

#[test]
fn vital_product_data_reads_back() {
    let bytes = vpd::serial_build(1, "  10WT012345");
    assert_eq!(bytes[..4], [1, 0x80, 0, 12]);
    assert_eq!(vpd::serial_parse(&bytes).unwrap(), "10WT012345");
    assert!(vpd::serial_parse(&bytes[..10]).is_err());
    let designator = vpd::Designator {
        code_set: 1,
        association: 0,
        kind: 3,
        bytes: vec![0x50; 8],
    };
    let bytes = vpd::identification_build(1, std::slice::from_ref(&designator));
    assert_eq!(vpd::identification_parse(&bytes).unwrap(), [designator]);
    assert!(vpd::serial_parse(&bytes).is_err());
}

#[test]
fn mode_data_of_six_bytes_as_a_drive_sends_them() {
    let bytes = [
        0x13, 0x00, 0x90, 0x08, 0x5e, 0, 0, 0, 0, 0, 2, 0, 0x10, 6, 0, 0, 0, 0, 0, 0x18,
    ];
    let mode = Mode::parse_6(&bytes).unwrap();
    assert!(mode.write_protected);
    assert_eq!(mode.buffered_mode, 1);
    let block = mode.block.unwrap();
    assert_eq!((block.density, block.block_length), (0x5e, 512));
    assert_eq!(mode.page(0x10, 0).unwrap(), &bytes[12..]);
    assert_eq!(mode.page(0x0f, 0), None);
    assert_eq!(mode.build_6(), bytes);
    assert_eq!(Mode::parse_10(&mode.build_10()).unwrap(), mode);
    let select = mode.build_select_6();
    assert_eq!(select[..4], [0, 0, 0x10, 8]);
    assert!(!Mode::parse_select_6(&select).unwrap().write_protected);
}

#[test]
fn a_block_descriptor_beyond_the_data_is_refused() {
    assert!(Mode::parse_6(&[3, 0, 0, 8]).is_err());
    assert!(Mode::parse_10(&[0, 6, 0, 0, 0, 0, 0xff, 0xff]).is_err());
}

#[test]
fn the_flags_that_tgt_sends_mean_position_unknown() {
    let mut bytes = [0; 20];
    bytes[0] = 0x14;
    let short = Short::parse(&bytes).unwrap();
    assert_eq!(short.location, None);
    assert_eq!(short.buffered_bytes, None);
    assert_eq!(short.buffered_objects, Some(0));
}

#[test]
fn positions_read_back_in_every_form() {
    let short = Short {
        partition: 1,
        end: true,
        location: Some(Location {
            first: 700,
            last: 688,
        }),
        buffered_objects: Some(12),
        buffered_bytes: Some(12 << 19),
        ..Short::default()
    };
    assert_eq!(Short::parse(&short.build()), Ok(short));
    assert_eq!(Short::parse_extended(&short.build_extended()), Ok(short));
    let wide = Short {
        location: Some(Location {
            first: 1 << 40,
            last: 0,
        }),
        ..short
    };
    let answer = Short::parse(&wide.build()).unwrap();
    assert!(answer.overflow && answer.location.is_none());
    assert_eq!(Short::parse_extended(&wide.build_extended()), Ok(wide));
    let long = Long {
        object: Some(1 << 40),
        file: Some(9),
        beginning: false,
        ..Long::default()
    };
    assert_eq!(Long::parse(&long.build()), Ok(long));
    let lost = Long::default();
    assert_eq!(Long::parse(&lost.build()).unwrap().object, None);
}

fn library() -> Vec<Element> {
    let mut slot = Element::new(ElementType::Storage, 1000);
    slot.full = true;
    slot.volume_tag = Some("TAF001L8".into());
    let mut drive = Element::new(ElementType::DataTransfer, 256);
    drive.full = true;
    drive.source = Some(1001);
    drive.volume_tag = Some("TAF002L8".into());
    drive.identifier = Some(Identifier {
        code_set: 2,
        kind: 0,
        bytes: b"10WT012345".to_vec(),
    });
    let mut odd = Element::new(ElementType::DataTransfer, 257);
    odd.exception = Some((0x3b, 0x11));
    let mut mail = Element::new(ElementType::ImportExport, 16);
    mail.imported = true;
    mail.full = true;
    vec![
        slot,
        Element::new(ElementType::Storage, 1001),
        drive,
        odd,
        mail,
    ]
}

#[test]
fn element_status_reads_back_with_all_kinds_at_once() {
    let bytes = Report::build(&library(), true, true);
    let report = Report::parse(&bytes).unwrap();
    assert_eq!(report.elements, library());
    assert_eq!(report.needed, bytes.len());
    assert_eq!(
        report.elements[2]
            .identifier
            .as_ref()
            .unwrap()
            .serial()
            .unwrap(),
        "10WT012345"
    );
}

#[test]
fn element_status_without_tags_and_identifiers_is_the_short_form() {
    let bytes = Report::build(&library()[..2], false, false);
    assert_eq!(bytes.len(), 8 + 8 + 2 * 12);
    assert_eq!(bytes[8..16], [2, 0, 0, 12, 0, 0, 0, 24]);
}

#[test]
fn an_answer_eight_bytes_short_loses_the_last_serial_and_nothing_else() {
    let mut drives = library()[2..4].to_vec();
    drives[1].identifier = drives[0].identifier.clone();
    let bytes = Report::build(&drives, true, true);
    let report = Report::parse(&bytes[..bytes.len() - 8]).unwrap();
    drives[1].identifier = None;
    assert_eq!(report.elements, drives);
}

#[test]
fn a_descriptor_length_of_zero_is_refused() {
    let mut bytes = Report::build(&library(), false, false);
    bytes[10..12].fill(0);
    assert!(Report::parse(&bytes).is_err());
}

#[test]
fn an_identifier_of_kind_one_holds_vendor_product_and_serial() {
    let bytes = b"IBM     ULT3580-TD8     10WT012345".to_vec();
    let identifier = Identifier {
        code_set: 2,
        kind: 1,
        bytes,
    };
    assert_eq!(identifier.serial().unwrap(), "10WT012345");
    let binary = Identifier {
        code_set: 1,
        ..identifier
    };
    assert_eq!(binary.serial(), None);
}

#[test]
fn lists_read_back() {
    let commands = [
        opcodes::Supported {
            opcode: 0x0a,
            service_action: None,
            length: 6,
            timeout_seconds: Some(1560),
        },
        opcodes::Supported {
            opcode: 0xa3,
            service_action: Some(0x0c),
            length: 12,
            timeout_seconds: None,
        },
    ];
    assert_eq!(
        opcodes::parse(&opcodes::build(&commands, true)).unwrap(),
        commands
    );
    let parameters = [log::Parameter {
        code: 4,
        control: 0,
        value: vec![1],
    }];
    assert_eq!(
        log::parse(0x2e, &log::build(0x2e, &parameters)).unwrap(),
        parameters
    );
    assert_eq!(parameters[0].number(), Some(1));
    let attributes = [attribute::Attribute {
        id: attribute::MEDIUM_SERIAL_NUMBER,
        read_only: true,
        format: 1,
        value: b"ABC   ".to_vec(),
    }];
    assert_eq!(
        attribute::parse(&attribute::build(&attributes)).unwrap(),
        attributes
    );
    assert_eq!(attributes[0].text(), "ABC");
    let limits = block_limits::BlockLimits {
        granularity: 0,
        max: 0x80_0000,
        min: 1,
    };
    assert_eq!(
        block_limits::BlockLimits::parse(&limits.build()),
        Ok(limits)
    );
}

#[test]
fn a_short_block_descriptor_list_has_no_descriptor() {
    let mode = Mode {
        block: None,
        ..Mode::default()
    };
    assert_eq!(Mode::parse_6(&mode.build_6()).unwrap().block, None);
    let with = Mode {
        block: Some(BlockDescriptor::default()),
        ..mode
    };
    assert_eq!(Mode::parse_6(&with.build_6()).unwrap().block, with.block);
}

proptest! {
    #[test]
    fn no_parser_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Inquiry::parse(&bytes);
        let _ = vpd::serial_parse(&bytes);
        let _ = vpd::identification_parse(&bytes);
        let _ = block_limits::BlockLimits::parse(&bytes);
        for mode in [Mode::parse_6(&bytes), Mode::parse_10(&bytes), Mode::parse_select_6(&bytes), Mode::parse_select_10(&bytes)].into_iter().flatten() {
            let _ = mode.page(0x10, 1);
        }
        let _ = Short::parse(&bytes);
        let _ = Short::parse_extended(&bytes);
        let _ = Long::parse(&bytes);
        let _ = Report::parse(&bytes);
        let _ = opcodes::parse(&bytes);
        let _ = log::parse(0x2e, &bytes);
        let _ = attribute::parse(&bytes);
    }

    #[test]
    fn a_damaged_or_cut_element_status_never_panics(at in 0_usize..400, value: u8, cut in 0_usize..400) {
        let mut bytes = Report::build(&library(), true, true);
        let length = bytes.len();
        bytes[at % length] = value;
        if let Ok(report) = Report::parse(&bytes[..cut.min(length)]) {
            for element in report.elements {
                let _ = element.identifier.and_then(|one| one.serial());
            }
        }
    }
}
