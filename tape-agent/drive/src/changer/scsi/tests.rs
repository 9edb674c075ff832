#![allow(clippy::unwrap_used)]
use taf_scsi::cdb::opcode::{MOVE_MEDIUM, READ_ELEMENT_STATUS};
use taf_scsi::page::element_status::Identifier;
use taf_scsi::sense::{Key, code};

use super::*;
use crate::scripted::{Answer, Scripted, check, data, good};

fn changer(script: Vec<Answer>) -> ScsiChanger {
    ScsiChanger::new(Scripted::new(inquiry::TYPE_CHANGER, script).0).unwrap()
}

fn refused(opcode: u8, code: (u8, u8)) -> Answer {
    check(opcode, Sense::new(Key::IllegalRequest, code))
}

fn answer(elements: &[Element], tags: bool, identify: bool) -> Answer {
    data(READ_ELEMENT_STATUS, Report::build(elements, tags, identify))
}

fn full(kind: ElementType, address: u16, tag: &str) -> Element {
    Element {
        full: true,
        volume_tag: Some(tag.into()),
        ..Element::new(kind, address)
    }
}

#[test]
fn the_inventory_joins_tags_and_serial_numbers() {
    let mut drives = [
        full(ElementType::DataTransfer, 256, "TAF001L8"),
        Element::new(ElementType::DataTransfer, 257),
    ];
    drives[0].source = Some(1000);
    let mut named = drives.clone();
    named[1].identifier = Some(Identifier {
        code_set: 2,
        kind: 0,
        bytes: b"SN257".to_vec(),
    });
    let mut changer = changer(vec![
        answer(&[Element::new(ElementType::Transport, 1)], false, false),
        answer(
            &[
                Element::new(ElementType::Storage, 1000),
                full(ElementType::Storage, 1001, "TAF002L8"),
            ],
            true,
            false,
        ),
        refused(READ_ELEMENT_STATUS, code::INVALID_FIELD_IN_CDB),
        answer(&drives, true, false),
        answer(&named, false, true),
    ]);
    let inventory = changer.inventory().unwrap();
    assert_eq!(inventory.picker, Some(1));
    assert_eq!(inventory.slots[1].barcode.as_deref(), Some("TAF002L8"));
    assert!(inventory.mail_slots.is_empty());
    assert_eq!(inventory.drives[0].source_slot, Some(1000));
    assert_eq!(inventory.drives[0].serial, None);
    assert_eq!(inventory.drives[1].serial.as_deref(), Some("SN257"));
}

#[test]
fn a_large_library_is_read_in_pages() {
    let slots: Vec<Element> = (1000..3500)
        .map(|address| Element::new(ElementType::Storage, address))
        .collect();
    let mut changer = changer(vec![
        answer(&slots[..1000], true, false),
        answer(&slots[1000..2000], true, false),
        answer(&slots[2000..], true, false),
    ]);
    assert_eq!(
        changer.elements(ElementType::Storage, true, false).unwrap(),
        slots
    );
}

#[test]
fn a_library_that_repeats_itself_does_not_hold_us_for_ever() {
    let slots: Vec<Element> = (0..1000)
        .map(|address| Element::new(ElementType::Storage, address))
        .collect();
    let mut changer = changer(vec![
        answer(&slots, true, false),
        answer(&slots, true, false),
    ]);
    assert_eq!(
        changer.elements(ElementType::Storage, true, false).unwrap(),
        slots
    );
}

#[test]
fn moves_say_what_stood_in_the_way() {
    let mut changer = changer(vec![
        good(MOVE_MEDIUM),
        refused(MOVE_MEDIUM, code::SOURCE_EMPTY),
        refused(MOVE_MEDIUM, code::DESTINATION_FULL),
        refused(MOVE_MEDIUM, code::INVALID_ELEMENT_ADDRESS),
    ]);
    changer.move_medium(1000, 256).unwrap();
    assert!(matches!(changer.move_medium(1, 2), Err(Error::SourceEmpty)));
    assert!(matches!(
        changer.move_medium(1, 2),
        Err(Error::DestinationFull)
    ));
    assert!(matches!(
        changer.move_medium(1, 2),
        Err(Error::IllegalRequest(_))
    ));
}
