#![allow(clippy::unwrap_used)]
use super::*;

#[test]
fn lengths_follow_the_group_code() {
    assert_eq!(length(opcode::WRITE_6), Some(6));
    assert_eq!(length(opcode::READ_POSITION), Some(10));
    assert_eq!(length(opcode::LOCATE_16), Some(16));
    assert_eq!(length(opcode::MOVE_MEDIUM), Some(12));
    assert_eq!(length(0xc0), None);
}

#[test]
fn the_bytes_are_those_of_the_standards() {
    assert_eq!(read_6(0x08_0000, false), [0x08, 0, 0x08, 0, 0, 0]);
    assert_eq!(read_6(1, true), [0x08, 2, 0, 0, 1, 0]);
    assert_eq!(write_6(0x04_0201), [0x0a, 0, 4, 2, 1, 0]);
    assert_eq!(write_filemarks_6(1, true), [0x10, 1, 0, 0, 1, 0]);
    assert_eq!(
        space_6(SpaceOver::Filemarks, -1),
        [0x11, 1, 0xff, 0xff, 0xff, 0]
    );
    assert_eq!(
        space_16(SpaceOver::Blocks, -2)[4..12],
        [255, 255, 255, 255, 255, 255, 255, 254]
    );
    assert_eq!(
        locate_16(LocateTo::File(3))[..12],
        [0x92, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3]
    );
    assert_eq!(locate_16(LocateTo::EndOfData)[1], 0x18);
    assert_eq!(read_position(PositionForm::Long)[..2], [0x34, 6]);
    assert_eq!(
        read_element_status(ElementType::DataTransfer, 256, 4, true, true, 0x01_0000),
        [0xb8, 0x14, 1, 0, 0, 4, 1, 1, 0, 0, 0, 0]
    );
    assert_eq!(
        move_medium(0, 1000, 256),
        [0xa5, 0, 0, 0, 3, 0xe8, 1, 0, 0, 0, 0, 0]
    );
    assert_eq!(
        mode_sense_10(PageControl::Current, 0x10, 1, 512)[..9],
        [0x5a, 0, 0x10, 1, 0, 0, 0, 2, 0]
    );
    assert_eq!(log_sense(0x2e, 0, 4)[..3], [0x4d, 0, 0x6e]);
}
