//! `taf tape test`: a good drive passes, a tape that holds something is refused, what is broken is found.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::path::{Path, PathBuf};

use support::{Said, archive, run};
use taf_drive::{Changer as _, Drive as _, OwnKeys, ScsiChanger, ScsiDrive, Sync};
use taf_emulator::cartridge::{Cartridge, Meta};
use taf_emulator::library::{self, Library, NewCartridge, Spec};
use taf_scsi::transport::in_process::InProcess;
use tempfile::TempDir;

/// A quick form of everything.
const SMALL: [&str; 6] = [
    "--block-size",
    "64KiB",
    "--blocks",
    "40",
    "--speed-size",
    "2MiB",
];

struct Scene {
    dir: TempDir,
    cartridge: PathBuf,
}

impl Scene {
    fn new(capacity: u64) -> Self {
        let dir = TempDir::new().unwrap();
        let cartridge = dir.path().join("SCR001L8.tape");
        let meta = Meta {
            capacity,
            loads: 0,
            density: 0x5e,
            write_protected: false,
            serial: "S".to_owned(),
            kind: taf_emulator::cartridge::Kind::Data,
            second_partition: 0,
        };
        Cartridge::create(&cartridge, &meta).unwrap();
        Self { dir, cartridge }
    }

    fn test(&self, further: &[&str]) -> Said {
        let tape = self.cartridge.to_str().unwrap();
        run(
            self.dir.path(),
            &[&["tape", "test", tape], &SMALL[..], further].concat(),
        )
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.cartridge).unwrap()
    }
}

fn outcome<'a>(report: &'a serde_json::Value, step: &str) -> (&'a str, &'a str) {
    let steps = report["steps"].as_array().unwrap();
    let found = steps.iter().find(|one| one["step"] == step);
    let found = found.unwrap_or_else(|| panic!("no step {step}: {report:#}"));
    (
        found["outcome"].as_str().unwrap(),
        found["message"].as_str().unwrap(),
    )
}

#[test]
fn a_good_drive_passes_every_step_and_the_cartridge_is_blank_again() {
    let scene = Scene::new(256 << 20);
    let said = scene.test(&["--json"]);
    let report = said.json();
    assert_eq!(report["failed"], 0, "{report:#}");
    assert_eq!(report["held"]["kind"], "blank");
    for step in [
        "identity",
        "medium",
        "write protection",
        "block sizes",
        "wrong block sizes",
        "write, read, verify",
        "reposition",
        "read position",
        "append after reopening",
        "backspace",
        "file spacing",
        "overwrite ends data",
        "erase",
        "unload and load",
        "speed, zeros",
        "speed, random data",
        "speed, reading",
        "clean up",
    ] {
        assert_eq!(outcome(&report, step).0, "passed", "{step}: {report:#}");
    }
    assert_eq!(outcome(&report, "fill").0, "skipped");
    assert_eq!(outcome(&report, "reset").0, "not_supported");
    // Nothing is left, so nothing is refused.
    scene.test(&["--dry-run"]).expect(0);
    let report = scene.test(&["--dry-run", "--json"]).expect(0).json();
    assert_eq!(report["holds"]["kind"], "blank");
    assert_eq!(report["refused"], false);
}

#[test]
fn the_end_of_the_tape_is_found_and_what_is_before_it_is_read_back() {
    let scene = Scene::new(16 << 20);
    let report = scene.test(&["--fill", "--json"]).json();
    let (word, message) = outcome(&report, "fill");
    assert!(word == "passed" || word == "warned", "{report:#}");
    assert!(message.contains("early warning after"), "{message}");
}

/// Puts blocks at the beginning of the cartridge.
fn write(cartridge: &Path, blocks: &[&[u8]]) {
    std::fs::remove_file(cartridge).unwrap();
    let mut drive = archive::blank(cartridge);
    for block in blocks {
        drive.write_block(block).unwrap();
    }
    drive.write_filemarks(1, Sync::Synchronous).unwrap();
}

#[test]
fn a_tape_that_holds_anything_is_refused_untouched_and_said_whose_it_is() {
    let mut tar = vec![b'x'; 512];
    tar[257..262].copy_from_slice(b"ustar");
    let mut ltfs = vec![b' '; 80];
    ltfs[..4].copy_from_slice(b"VOL1");
    ltfs[24..28].copy_from_slice(b"LTFS");
    let mut bareos = vec![1; 64_512];
    bareos[12..16].copy_from_slice(b"BB02");
    let random = archive::noise(9, 5_000);
    let scene = Scene::new(64 << 20);
    for (block, words) in [
        (tar.as_slice(), "a tar archive"),
        (ltfs.as_slice(), "an LTFS volume"),
        (bareos.as_slice(), "Bareos"),
        (&[0; 1024], "zeros"),
        (random.as_slice(), "unknown data"),
    ] {
        write(&scene.cartridge, &[block]);
        let before = scene.bytes();
        for further in [&["--json"][..], &["--fill"], &["--dry-run"]] {
            let dry = further == ["--dry-run"];
            let said = scene.test(further).expect(if dry { 0 } else { 2 });
            let text = format!("{said}");
            assert!(text.contains(words), "{words}: {text}");
            assert!(dry || text.contains("TAPE_HOLDS_DATA"), "{text}");
        }
        assert!(scene.bytes() == before, "{words}");
    }
    archive_of_another_installation(&scene);
}

fn archive_of_another_installation(scene: &Scene) {
    std::fs::remove_file(&scene.cartridge).unwrap();
    archive::write(&scene.cartridge, &[]);
    let before = scene.bytes();
    let said = scene.test(&[]).expect(2);
    let said = said.says(&[
        "TEST01L8",
        "pool default",
        "00000000-0000-0000-0000-00000000000b",
        "--force",
    ]);
    assert!(scene.bytes() == before, "{said}");
    // Given up, it is tested.
    assert_eq!(scene.test(&["--force", "--json"]).json()["failed"], 0);
}

#[test]
fn a_protected_cartridge_stops_the_test_before_anything_is_written() {
    let scene = Scene::new(64 << 20);
    let meta = Meta {
        capacity: 64 << 20,
        loads: 0,
        density: 0x5e,
        write_protected: true,
        serial: "S".to_owned(),
        kind: taf_emulator::cartridge::Kind::Data,
        second_partition: 0,
    };
    std::fs::remove_file(&scene.cartridge).unwrap();
    Cartridge::create(&scene.cartridge, &meta).unwrap();
    let said = scene.test(&["--json"]).expect(1);
    let report = said.json();
    assert_eq!(outcome(&report, "write protection").0, "failed");
    assert_eq!(outcome(&report, "block sizes").0, "not_run");
    assert!(
        outcome(&report, "clean up").1.contains("write-protected"),
        "{report:#}"
    );
}

#[test]
fn people_see_each_step_with_its_time() {
    let scene = Scene::new(64 << 20);
    let said = scene.test(&[]);
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    for words in [
        "write, read, verify",
        "not supported",
        "passed",
        " 0 failed",
        "2 files of 40 blocks",
    ] {
        assert!(text.contains(words), "{words}: {said}");
    }
    assert!(said.stderr.contains("seed 0x"), "{said}");
}

fn inspect(scene: &Scene, further: &[&str]) -> Said {
    let tape = scene.cartridge.to_str().unwrap();
    run(
        scene.dir.path(),
        &[&["tape", "inspect", tape], further].concat(),
    )
}

#[test]
fn inspecting_shows_label_files_end_and_state_and_changes_nothing() {
    let scene = Scene::new(64 << 20);
    std::fs::remove_file(&scene.cartridge).unwrap();
    let sealed = archive::segments(
        uuid::Uuid::from_u128(0xa1),
        &[archive::file("a", b"first".to_vec())],
    );
    let part = archive::part(
        &archive::block0(uuid::Uuid::from_u128(0xa1), 1, 1, &sealed[0]),
        &sealed,
    );
    let blocks = part.len() as u64;
    archive::write(&scene.cartridge, &[part]);
    let before = scene.bytes();
    let found = inspect(&scene, &["--json"]).expect(0).json();
    assert_eq!(found["holds"]["barcode"], "TEST01L8");
    assert_eq!(
        (&found["density"], &found["generation"]),
        (&0x5e.into(), &"LTO-8".into())
    );
    let files = found["files"].as_array().unwrap();
    assert_eq!(files.len(), 1, "{found:#}");
    assert_eq!(
        (files[0]["kind"].as_str(), files[0]["plan"].as_str()),
        (Some("part"), Some("daily"))
    );
    // Behind the part's filemark.
    let first = files[0]["first_block"].as_u64().unwrap();
    assert_eq!(found["end_block"], first + blocks + 1);
    let text = inspect(&scene, &[]).expect(0);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    for words in [
        "label of TEST01L8",
        "daily@7",
        "LTO-8",
        "installation 00000000",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let without = inspect(&scene, &["--no-files", "--json"]).expect(0).json();
    assert!(without["files"].is_null(), "{without:#}");
    assert!(scene.bytes() == before);
}

#[test]
fn inspecting_names_what_is_somebody_elses() {
    let scene = Scene::new(64 << 20);
    let found = inspect(&scene, &["--json"]).expect(0).json();
    assert_eq!(
        (&found["holds"]["kind"], &found["end_block"]),
        (&"blank".into(), &0.into())
    );
    let mut tar = vec![b'x'; 10_240];
    tar[257..262].copy_from_slice(b"ustar");
    write(&scene.cartridge, &[&tar, &tar]);
    let found = inspect(&scene, &["--json"]).expect(0).json();
    assert_eq!(found["holds"]["kind"], "a tar archive");
    assert_eq!(found["files"][0]["byte_count_at_most"], 20_480, "{found:#}");
    assert_eq!(found["end_block"], 3);
}

/// A drive of a library that is served here, with a blank cartridge in it; and a way to it that is another host's.
fn served(dir: &Path) -> (String, ScsiDrive) {
    let shelf = dir.join("library");
    Library::create(&shelf, &Spec::new(1, 2, 256 << 20)).unwrap();
    library::add(&shelf, "SCR001L8", &NewCartridge::default()).unwrap();
    let library = Library::open(&shelf).unwrap();
    let devices = taf_emulator::server::serve(&library).unwrap();
    let robot = InProcess::new("robot", library.changer_target());
    let mut robot = ScsiChanger::new(Box::new(robot)).unwrap();
    robot.attentions().unwrap();
    let inventory = robot.inventory().unwrap();
    let (slot, drive) = (inventory.slots[0].address, inventory.drives[0].address);
    robot.move_medium(slot, drive).unwrap();
    let theirs = taf_drive::open(&devices[1].device).unwrap();
    drop(theirs);
    let theirs = InProcess::new("theirs", library.drive_target(0).unwrap());
    let mut theirs = ScsiDrive::new(Box::new(theirs)).unwrap();
    theirs.attentions().unwrap();
    // The library is on as long as the test.
    let device = devices[1].device.clone();
    std::mem::forget(library);
    (device, theirs)
}

#[test]
fn who_holds_the_drive_is_noticed_and_kept_off() {
    let dir = TempDir::new().unwrap();
    let (device, mut theirs) = served(dir.path());
    let test = |further: &[&str]| {
        let arguments = [&["tape", "test", &device, "--json"], &SMALL[..], further].concat();
        run(dir.path(), &arguments)
    };
    let report = test(&["--second", &device]).json();
    let (found, message) = outcome(&report, "reservation");
    assert_eq!(found, "passed", "{message}");
    assert!(message.contains("a second path was kept off"), "{message}");
    assert_eq!(report["failed"], 0, "{report:#}");
    let report = test(&[]).json();
    let (found, message) = outcome(&report, "reservation");
    assert_eq!(found, "passed", "{message}");
    assert!(message.contains("--second"), "{message}");

    // Another host holds it: nothing is written, and whose it is is said.
    theirs.attentions().unwrap();
    theirs.reserve_with(OwnKeys {
        current: 0x1234,
        stale: Vec::new(),
    });
    theirs.reserve().unwrap();
    let said = test(&[]);
    said.expect(1).says(&["another host holds the device"]);
    theirs.release().unwrap();
}
