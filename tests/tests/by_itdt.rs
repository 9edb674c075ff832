//! The whole system in the guest, with drives by IBM's `itdt` (its double) and the kernel's `st`. Takes minutes of processor time,
//! so it is a long form; what the way can and can't do is shown in short by the conformance suite.
#![allow(clippy::unwrap_used, missing_docs)]

use taf_scsi::host::{Host, Kind};
use taf_tests::lab::{self, Guest, Lab};
use taf_tests::system::{Devices, Options, System};
use taf_tests::trees::{build_mixed, build_random, ensure_equal};

/// Set in the guest.
const INSIDE: &str = "TAF_INSIDE_THE_GUEST";

#[test]
fn the_whole_system_runs_by_itdt_and_st() {
    if std::env::var_os("TAF_TEST_LONG").is_none() {
        return;
    }
    let Some(lab) = Lab::open().unwrap() else {
        return;
    };
    let own = std::env::current_exe().unwrap();
    let double = env!("CARGO_BIN_EXE_taf-itdt-double");
    let command = format!(
        "cp {double} /tmp/itdt && {INSIDE}=1 RUST_BACKTRACE=0 {} --exact inside_the_guest --nocapture",
        own.display()
    );
    let guest = Guest {
        tape_mb: 200,
        memory_mb: 768,
        ..Guest::of(lab::Library::Emulator)
    };
    let text = lab.run(guest, &command).unwrap();
    println!("{text}");
    assert!(text.contains("1 passed"));
}

/// What the guest does. Passes at once elsewhere.
#[test]
fn inside_the_guest() {
    if std::env::var_os(INSIDE).is_none() {
        return;
    }
    let mut devices = Host::this().devices().unwrap();
    devices.sort_by_key(|device| device.serial.clone());
    let of = |kind| devices.iter().filter(move |device| device.kind == kind);
    let drives = of(Kind::Drive).map(|drive| format!("itdt:/tmp/itdt@{}", drive.name()));
    let system = System::start(Options {
        devices: Devices::Named {
            drives: drives.collect(),
            library: of(Kind::Changer).next().unwrap().name(),
        },
        ..Options::default()
    })
    .unwrap();
    system.label("TAF001L8", "default").unwrap();
    let (one, other) = (system.data().join("one"), system.data().join("other"));
    build_mixed(&one, 7, 8_000_000).unwrap();
    build_random(&other, 8, 5, 1_000_000).unwrap();
    // The second is appended to the first, which is found by MTTELL; the third changes nothing but one file.
    for (plan, tree) in [("one", &one), ("other", &other)] {
        system.plan(plan, tree, "default").unwrap();
        system.taf(&["run", plan]).unwrap().expect(0).unwrap();
    }
    std::fs::write(one.join("added"), "later").unwrap();
    system.taf(&["run", "one"]).unwrap().expect(0).unwrap();
    for (plan, tree) in [("one", &one), ("other", &other)] {
        let restored = system.restore(plan, &[], plan, tree).unwrap();
        ensure_equal(tree, &restored).unwrap();
    }
    let verify = ["volume", "verify", "TAF001L8"];
    system.taf(&verify).unwrap().expect(0).unwrap();
}
