#![allow(clippy::unwrap_used)]
use super::*;
use proptest::prelude::*;

#[test]
fn a_filemark_in_fixed_format_as_tgt_sends_it() {
    // READ(6) of 262,144 bytes at a filemark.
    let bytes = [
        0xf0, 0, 0x80, 0, 4, 0, 0, 0x0a, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0,
    ];
    let sense = Sense::parse(&bytes).unwrap();
    assert_eq!(
        sense,
        Sense::new(Key::NoSense, code::FILEMARK_DETECTED)
            .with_filemark()
            .with_information(262_144)
    );
    assert_eq!(sense.to_fixed(), bytes);
}

#[test]
fn a_block_longer_than_asked_for_gives_negative_information() {
    let sense = Sense::new(Key::NoSense, code::NONE)
        .with_ili()
        .with_information(-261_144);
    assert_eq!(sense.to_fixed()[3..7], [0xff, 0xfc, 0x03, 0xe8]);
    assert_eq!(Sense::parse(&sense.to_fixed()), Some(sense));
    assert_eq!(Sense::parse(&sense.to_descriptors()), Some(sense));
}

#[test]
fn deferred_sense_is_told_apart_in_both_formats() {
    let sense = Sense::new(Key::MediumError, code::WRITE_ERROR).deferred();
    assert_eq!(sense.to_fixed()[0], 0x71);
    assert_eq!(sense.to_descriptors()[0], 0x73);
    assert_eq!(Sense::parse(&sense.to_fixed()), Some(sense));
    assert_eq!(Sense::parse(&sense.to_descriptors()), Some(sense));
}

#[test]
fn early_warning_in_descriptor_format() {
    let bytes = [0x72, 0, 0, 2, 0, 0, 0, 4, 4, 2, 0, 0x40];
    let sense = Sense::parse(&bytes).unwrap();
    assert!(sense.eom && !sense.filemark && sense.information.is_none());
    assert_eq!(sense.code(), code::END_OF_MEDIUM_DETECTED);
}

#[test]
fn a_short_answer_has_a_key_and_no_code() {
    let sense = Sense::parse(&[0x70, 0, 0x05]).unwrap();
    assert_eq!((sense.key, sense.code()), (Key::IllegalRequest, (0, 0)));
    assert_eq!(Sense::parse(&[]), None);
    assert_eq!(Sense::parse(&[0x70, 0]), None);
    assert_eq!(Sense::parse(&[0x7f; 18]), None);
}

#[test]
fn a_long_operation_says_how_far_it_is() {
    let sense = Sense::new(Key::NotReady, code::BECOMING_READY).with_progress(0x8000);
    assert_eq!(sense.to_fixed()[15..], [0x80, 0x80, 0x00]);
    assert_eq!(Sense::parse(&sense.to_fixed()), Some(sense));
    assert_eq!(Sense::parse(&sense.to_descriptors()), Some(sense));
    assert!(sense.to_string().ends_with("50 % done"));
    // With other keys these bytes say other things: here, which field of the command was wrong.
    let mut bytes = Sense::new(Key::IllegalRequest, code::INVALID_FIELD_IN_CDB).to_fixed();
    bytes[15..].copy_from_slice(&[0xc0, 0, 2]);
    assert_eq!(Sense::parse(&bytes).unwrap().progress, None);
}

#[test]
fn it_reads_as_a_sentence() {
    let sense = Sense::new(Key::NotReady, code::MEDIUM_NOT_PRESENT);
    assert_eq!(sense.to_string(), "not ready 3a/00 (no medium)");
}

proptest! {
    #[test]
    fn parsing_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Sense::parse(&bytes);
    }

    #[test]
    fn near_misses_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 1..64), code in 0x70_u8..0x74) {
        bytes[0] = code | (bytes[0] & 0x80);
        let _ = Sense::parse(&bytes);
    }

    #[test]
    fn both_formats_read_back(
        key in 0_u8..16, asc: u8, ascq: u8, filemark: bool, eom: bool, ili: bool, deferred: bool,
        information in proptest::option::of(any::<i32>().prop_map(i64::from)),
        progress: Option<u16>,
    ) {
        let progress = progress.filter(|_| matches!(key, 0 | 2));
        let sense = Sense { deferred, key: Key::from_code(key), asc, ascq, filemark, eom, ili, information, progress };
        prop_assert_eq!(Sense::parse(&sense.to_fixed()), Some(sense));
        prop_assert_eq!(Sense::parse(&sense.to_descriptors()), Some(sense));
    }
}
