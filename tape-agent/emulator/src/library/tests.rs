#![allow(clippy::unwrap_used, missing_docs)]

use tempfile::TempDir;

use super::*;

fn library(slots: u16) -> TempDir {
    let dir = TempDir::new().unwrap();
    Library::create(dir.path(), &Spec::new(1, slots, 1 << 20)).unwrap();
    dir
}

#[test]
fn one_process_at_a_time_has_it() {
    let dir = library(2);
    let first = Library::open(dir.path()).unwrap();
    assert!(matches!(Library::open(dir.path()), Err(Error::InUse(_))));
    drop(first);
    Library::open(dir.path()).unwrap();
}

#[test]
fn it_is_made_once_and_opened_only_where_it_is() {
    let dir = library(2);
    let spec = Spec::new(1, 2, 1 << 20);
    assert!(matches!(
        Library::create(dir.path(), &spec),
        Err(Error::Exists(_))
    ));
    let empty = TempDir::new().unwrap();
    assert!(matches!(
        Library::open(empty.path()),
        Err(Error::Missing(_))
    ));
    let none = Spec { drives: 0, ..spec };
    assert!(matches!(
        Library::create(empty.path(), &none),
        Err(Error::Spec { .. })
    ));
}

#[test]
fn its_description_takes_no_unknown_keys() {
    let dir = library(2);
    let file = dir.path().join("library.toml");
    let mut text = std::fs::read_to_string(&file).unwrap();
    text.push_str("colour = \"beige\"\n");
    std::fs::write(&file, text).unwrap();
    assert!(matches!(Library::open(dir.path()), Err(Error::Spec { .. })));
}

#[test]
fn cartridges_are_added_until_it_is_full() {
    let dir = library(2);
    let new = NewCartridge::default();
    add(dir.path(), "A00001L7", &new).unwrap();
    assert!(matches!(
        add(dir.path(), "A00001L7", &new),
        Err(Error::Duplicate(_))
    ));
    for barcode in ["", "a", "A/B", "..", &"A".repeat(33)] {
        assert!(matches!(
            add(dir.path(), barcode, &new),
            Err(Error::Barcode(_))
        ));
    }
    let _on = Library::open(dir.path()).unwrap();
    add(dir.path(), "A2", &new).unwrap();
    assert!(matches!(add(dir.path(), "A3", &new), Err(Error::Full(2))));
    let shelf = shelf(dir.path()).unwrap();
    assert_eq!(shelf[0].1.meta().density, 0x5c);
    assert_eq!(shelf[1].1.meta().density, 0x5e);
    let left = std::fs::read_dir(cartridges(dir.path())).unwrap().count();
    assert_eq!(left, 2, "nothing but cartridges stays in the folder");
}

#[test]
fn somebody_elses_bytes_can_be_on_a_tape() {
    let dir = library(2);
    let file = dir.path().join("foreign");
    std::fs::write(&file, [5; 25]).unwrap();
    let new = NewCartridge {
        foreign: Some((file, 10)),
        ..NewCartridge::default()
    };
    let path = add(dir.path(), "F", &new).unwrap();
    let reader = Reader::open(&path).unwrap();
    assert_eq!(reader.files(), 1);
    let lengths: Vec<_> = reader
        .blocks(0)
        .unwrap()
        .map(|block| block.unwrap().len())
        .collect();
    assert_eq!(lengths, [10, 10, 5]);
}

#[test]
fn faults_come_from_the_file_when_it_changes() {
    use crate::faults::{At, Scene};
    let dir = library(1);
    let on = Library::open(dir.path()).unwrap();
    let scene = Scene {
        at: At::Read,
        unit: ("0", "S"),
        opcode: 0,
        barcode: "A",
        object: 3,
        now: std::time::Duration::ZERO,
    };
    let strike = || {
        let mut faults = on.faults().lock();
        faults.armed().then(|| faults.within(&scene)).flatten()
    };
    assert!(strike().is_none());
    let file = dir.path().join("faults.toml");
    let script = "[[fault]]\nat = \"read\"\nobject = 3\nkey = 3\nasc = 0x11\nascq = 0\n";
    std::fs::write(&file, script).unwrap();
    assert!(strike().is_some());
    assert!(strike().is_none());
    std::fs::write(&file, format!("{script}colour = 1\n")).unwrap();
    assert!(strike().is_none());
}

#[test]
fn barcodes_say_kinds_and_tapes_are_made_as_wished() {
    let dir = library(9);
    for barcode in ["A00001LY", "CLN001CU", "A00002M8"] {
        add(dir.path(), barcode, &NewCartridge::default()).unwrap();
    }
    let new = NewCartridge {
        write_once: true,
        second_partition: 4096,
        ..NewCartridge::default()
    };
    add(dir.path(), "LTFS", &new).unwrap();
    let shelf = shelf(dir.path()).unwrap();
    let kinds: Vec<_> = shelf
        .iter()
        .map(|(_, reader)| (reader.meta().density, reader.meta().kind))
        .collect();
    assert_eq!(
        kinds,
        [
            (0x5e, Kind::WriteOnce),
            (0x5d, Kind::Data),
            (0, Kind::Cleaning),
            (0x5e, Kind::WriteOnce),
        ]
    );
    assert_eq!(shelf[3].1.meta().second_partition, 4096);
}

#[test]
fn orders_are_obeyed_or_refused_in_words() {
    use crate::control::Order;
    let dir = library(2);
    let on = Library::open(dir.path()).unwrap();
    let control = on.control();
    let report = control.report();
    assert_eq!((report.drives.len(), report.faults), (1, 0));
    let serial = report.drives[0].serial.clone();
    for drive in ["0", &serial] {
        let order = Order::Alert {
            drive: drive.to_owned(),
            flags: vec![20],
        };
        control.obey(order).unwrap();
    }
    let cut = |drive: &str| Order::PowerCut {
        drive: drive.to_owned(),
        keep: None,
    };
    assert!(control.obey(cut("7")).unwrap_err().contains("no drive 7"));
    control.obey(cut("0")).unwrap();
    assert_eq!(control.report().drives[0].counters.resets, 1);
    let advance = Order::Advance { milliseconds: 1 };
    assert!(
        control
            .obey(advance)
            .unwrap_err()
            .contains("simulated_time")
    );
    let fault = crate::faults::Fault {
        chance: 7.0,
        ..crate::faults::Fault::default()
    };
    let add = Order::FaultAdd { fault };
    assert!(control.obey(add).unwrap_err().contains("between 0 and 1"));
}
