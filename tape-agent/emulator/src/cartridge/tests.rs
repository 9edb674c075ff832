#![allow(clippy::unwrap_used, missing_docs)]

use taf_scsi::sense::{Key, code};
use tempfile::TempDir;

use super::*;

const SMALL: Behaviour = Behaviour {
    buffer: 1000,
    sync: false,
};

fn blank() -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("A00001L8.tape");
    let meta = Meta {
        capacity: 1_000_000,
        loads: 0,
        density: 0x5e,
        write_protected: false,
        serial: "0123456789".to_owned(),
        ..Meta::default()
    };
    Cartridge::create(&path, &meta).unwrap();
    (dir, path)
}

fn write(cartridge: &mut Cartridge, data: &[u8]) {
    let at = cartridge.objects();
    cartridge.write_block(at, data, &mut |_| None).unwrap();
}

fn mark(cartridge: &mut Cartridge) {
    let at = cartridge.objects();
    cartridge.write_filemark(at, &mut |_| None).unwrap();
}

fn flush(cartridge: &mut Cartridge) {
    cartridge.flush(&mut |_| None).unwrap();
}

fn file(reader: &Reader, file: u64) -> Vec<Vec<u8>> {
    reader.blocks(file).unwrap().map(Result::unwrap).collect()
}

#[test]
fn what_was_flushed_survives_and_what_was_not_is_gone() {
    let (_dir, path) = blank();
    let mut cartridge = Cartridge::open(&path, Behaviour::default()).unwrap();
    write(&mut cartridge, b"one");
    mark(&mut cartridge);
    flush(&mut cartridge);
    write(&mut cartridge, b"two");
    assert_eq!(cartridge.objects(), 3);
    assert_eq!(cartridge.buffered(), (1, 3));
    drop(cartridge);

    let cartridge = Cartridge::open(&path, Behaviour::default()).unwrap();
    assert_eq!(cartridge.objects(), 2);
    assert_eq!(cartridge.object(0), Some(Object::Block(3)));
    assert_eq!(cartridge.object(1), Some(Object::Filemark));
    assert_eq!(cartridge.read(0, 3).unwrap(), b"one");
}

#[test]
fn a_full_buffer_gives_its_oldest_blocks_to_the_medium() {
    let (_dir, path) = blank();
    let mut cartridge = Cartridge::open(&path, SMALL).unwrap();
    for number in 0..10 {
        write(&mut cartridge, &[number; 300]);
    }
    let (objects, bytes) = cartridge.buffered();
    assert_eq!((objects, bytes), (3, 900));
    drop(cartridge);
    let cartridge = Cartridge::open(&path, SMALL).unwrap();
    assert_eq!(cartridge.objects(), 7);
}

#[test]
fn a_power_cut_leaves_a_prefix() {
    for keep in 0..=4 {
        let (_dir, path) = blank();
        let mut cartridge = Cartridge::open(&path, Behaviour::default()).unwrap();
        write(&mut cartridge, b"flushed");
        flush(&mut cartridge);
        for number in 0..3 {
            write(&mut cartridge, &[number; 10]);
        }
        cartridge.power_cut(keep).unwrap();
        assert_eq!(cartridge.objects(), 1 + keep.min(3));
        assert_eq!(cartridge.buffered(), (0, 0));
        drop(cartridge);
        let cartridge = Cartridge::open(&path, Behaviour::default()).unwrap();
        assert_eq!(cartridge.objects(), 1 + keep.min(3));
    }
}

#[test]
fn what_was_to_be_overwritten_stays_until_the_buffer_reaches_the_medium() {
    let (_dir, path) = blank();
    let mut cartridge = Cartridge::open(&path, Behaviour::default()).unwrap();
    for number in 0..5 {
        write(&mut cartridge, &[number; 10]);
    }
    flush(&mut cartridge);
    cartridge.write_block(1, b"new", &mut |_| None).unwrap();
    assert_eq!(cartridge.objects(), 2);
    cartridge.power_cut(0).unwrap();
    assert_eq!(cartridge.objects(), 5);
    assert_eq!(cartridge.read(1, 10).unwrap(), [1; 10]);

    cartridge.write_block(1, b"new", &mut |_| None).unwrap();
    flush(&mut cartridge);
    drop(cartridge);
    let cartridge = Cartridge::open(&path, Behaviour::default()).unwrap();
    assert_eq!(cartridge.objects(), 2);
    assert_eq!(cartridge.read(1, 3).unwrap(), b"new");
}

#[test]
fn a_loss_keeps_what_came_before_it() {
    let (_dir, path) = blank();
    let mut cartridge = Cartridge::open(&path, Behaviour::default()).unwrap();
    for number in 0..5 {
        write(&mut cartridge, &[number; 10]);
    }
    let ordered = Sense::new(Key::MediumError, code::WRITE_ERROR);
    let loss = cartridge
        .flush(&mut |object| (object == 3).then_some(ordered))
        .unwrap_err();
    assert_eq!(loss.objects, 2);
    assert_eq!(cartridge.objects(), 3);
    write(&mut cartridge, b"again");
    flush(&mut cartridge);
    assert_eq!(cartridge.read(3, 5).unwrap(), b"again");
}

#[test]
fn a_reader_sees_the_tape_files_that_were_flushed_while_a_drive_writes() {
    let (_dir, path) = blank();
    let mut cartridge = Cartridge::open(&path, Behaviour::default()).unwrap();
    assert_eq!(Reader::open(&path).unwrap().files(), 0);
    write(&mut cartridge, b"a");
    write(&mut cartridge, b"bb");
    mark(&mut cartridge);
    mark(&mut cartridge);
    write(&mut cartridge, b"ccc");
    flush(&mut cartridge);
    write(&mut cartridge, b"unflushed");

    let reader = Reader::open(&path).unwrap();
    assert_eq!(reader.files(), 3);
    assert_eq!(file(&reader, 0), [b"a".to_vec(), b"bb".to_vec()]);
    assert!(file(&reader, 1).is_empty());
    assert_eq!(file(&reader, 2), [b"ccc".to_vec()]);
    assert!(matches!(
        reader.blocks(3),
        Err(Error::NoSuchFile { files: 3, .. })
    ));
}

#[test]
fn a_reader_notices_that_the_tape_was_overwritten() {
    let (_dir, path) = blank();
    let mut cartridge = Cartridge::open(&path, Behaviour::default()).unwrap();
    for _ in 0..3 {
        write(&mut cartridge, &[1; 10]);
    }
    flush(&mut cartridge);
    let reader = Reader::open(&path).unwrap();
    let mut blocks = reader.blocks(0).unwrap();
    assert!(blocks.next().unwrap().is_ok());
    cartridge.write_block(0, &[2; 10], &mut |_| None).unwrap();
    flush(&mut cartridge);
    assert!(matches!(blocks.next().unwrap(), Err(Error::Overwritten(_))));
}

#[test]
fn damage_is_found_and_what_lies_behind_the_marker_is_ignored() {
    let (_dir, path) = blank();
    let mut cartridge = Cartridge::open(&path, Behaviour::default()).unwrap();
    write(&mut cartridge, &[7; 100]);
    write(&mut cartridge, &[8; 100]);
    flush(&mut cartridge);
    let raw = File::options().write(true).open(&path).unwrap();
    let end = raw.metadata().unwrap().len();
    raw.write_all_at(b"half a record", end).unwrap();
    raw.write_all_at(b"x", layout::RECORDS_AT + 50).unwrap();
    drop(cartridge);
    let cartridge = Cartridge::open(&path, Behaviour::default()).unwrap();
    assert_eq!(cartridge.objects(), 2);
    assert!(matches!(
        cartridge.read(0, 100),
        Err(Error::Damaged { object: 0, .. })
    ));
    assert_eq!(cartridge.read(1, 100).unwrap(), [8; 100]);
}

#[test]
fn a_torn_marker_leaves_the_one_before_it() {
    let (_dir, path) = blank();
    let mut cartridge = Cartridge::open(&path, Behaviour::default()).unwrap();
    write(&mut cartridge, b"one");
    flush(&mut cartridge);
    write(&mut cartridge, b"two");
    flush(&mut cartridge);
    let place = cartridge.end.place();
    drop(cartridge);
    let raw = File::options().write(true).open(&path).unwrap();
    raw.write_all_at(b"torn", place).unwrap();
    let cartridge = Cartridge::open(&path, Behaviour::default()).unwrap();
    assert_eq!(cartridge.objects(), 1);
}

#[test]
fn one_drive_at_a_time_has_a_cartridge_and_readers_do_not_mind() {
    let (_dir, path) = blank();
    let first = Cartridge::open(&path, Behaviour::default()).unwrap();
    assert!(matches!(
        Cartridge::open(&path, Behaviour::default()),
        Err(Error::InUse(_))
    ));
    let reading = Cartridge::open_read_only(&path, Behaviour::default()).unwrap();
    assert!(reading.write_protected());
    drop(first);
    Cartridge::open(&path, Behaviour::default()).unwrap();
}

#[test]
fn other_files_are_no_cartridges() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("B.tape");
    for content in [Vec::new(), vec![0; 5000], b"TAFTAPE\0\x02".repeat(1000)] {
        std::fs::write(&path, content).unwrap();
        assert!(matches!(
            Cartridge::open(&path, Behaviour::default()),
            Err(Error::Foreign { .. })
        ));
    }
}
