//! `taf drive scan`: which devices there are and how to name them, without a server.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::fs;

use serde_json::Value;
use support::run;
use taf_emulator::library::{Library, Spec};
use taf_emulator::server;
use tempfile::TempDir;

#[test]
fn an_emulators_devices_are_shown_with_the_lines_to_paste() {
    let dir = TempDir::new().unwrap();
    Library::create(dir.path(), &Spec::new(2, 2, 1 << 20)).unwrap();
    let library = Library::open(dir.path()).unwrap();
    let served = server::serve(&library).unwrap();
    let names: Vec<&str> = served.iter().map(|one| one.device.as_str()).collect();
    // A path alone will do as well, and twice the same is one device.
    let bare = names[1].strip_prefix("unix:").unwrap();
    let words = ["drive", "scan", names[0], bare, names[2], names[2]];
    let said = run(dir.path(), &words).expect(0);
    let text = String::from_utf8(said.stdout).unwrap();
    let (_, tail) = text
        .split_once("for tape-agent.toml of this host:\n")
        .unwrap();
    let drives = format!("\"{}\", \"{}\"]\n", names[1], names[2]);
    let libraries = format!("\"{}\"]\n", names[0]);
    let lines: Vec<&str> = tail.split_inclusive('\n').collect();
    assert!(
        lines[0].starts_with("drives = [") && lines[0].ends_with(&drives),
        "{text}"
    );
    assert!(
        lines[1].starts_with("libraries = [") && lines[1].ends_with(&libraries),
        "{text}"
    );

    let document = run(dir.path(), &["--json", "drive", "scan", names[0], names[2]]).json();
    let devices: Vec<&Value> = document["devices"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|device| device.get("node").is_none())
        .collect();
    assert_eq!(devices.len(), 2, "{document}");
    assert_eq!(devices[0]["kind"], "changer");
    assert_eq!(devices[1]["kind"], "drive");
    assert_eq!(devices[1]["serial"], served[2].serial.as_str());
    assert_eq!(devices[1]["name"], names[2]);
}

#[test]
fn a_socket_that_nobody_serves_and_a_host_without_the_driver_say_what_to_do() {
    let dir = TempDir::new().unwrap();
    run(dir.path(), &["drive", "scan", "unix:no/such.sock"])
        .expect(1)
        .says(&["no/such.sock", "emulator"]);
    let said = run(dir.path(), &["drive", "scan"]);
    if fs::exists("/sys/class/scsi_generic").unwrap() {
        said.expect(0);
    } else {
        said.expect(1)
            .says(&["modprobe sg", "taf drive scan unix:PATH"]);
    }
}
