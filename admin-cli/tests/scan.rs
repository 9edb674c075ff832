//! `taf drive scan`: which devices there are and how to name them, without a server.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;
use support::{run, run_with};
use taf_emulator::library::{Library, Spec};
use taf_emulator::{iscsi, server};
use taf_scsi::transport::iscsi::chap::Secrets;
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

#[test]
fn what_is_behind_an_iscsi_portal_is_shown_and_named() {
    let dir = TempDir::new().unwrap();
    Library::create(&dir.path().join("library"), &Spec::new(1, 2, 1 << 20)).unwrap();
    let library = Library::open(&dir.path().join("library")).unwrap();
    let mut options = iscsi::Options::new("iqn.2026-11.internal.taf:library");
    options.secrets = Secrets::parse("taf right").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let portal = iscsi::serve(listener, &library, options).unwrap();
    let secrets = dir.path().join("secrets");
    fs::write(&secrets, "taf right\n").unwrap();
    let place = format!("taf@{}", portal.address());
    let scan = |json: &[&str]| {
        let words = [json, &["drive", "scan", "--iscsi", &place]].concat();
        run_with(
            dir.path(),
            &words,
            &[("TAF_ISCSI_SECRETS", secrets.to_str().unwrap())],
        )
    };
    // Others could read it.
    fs::set_permissions(&secrets, fs::Permissions::from_mode(0o644)).unwrap();
    scan(&[])
        .expect(1)
        .says(&["TAF_ISCSI_SECRETS", "chmod 600"]);
    fs::set_permissions(&secrets, fs::Permissions::from_mode(0o600)).unwrap();
    let document = scan(&["--json"]).json();
    let devices = document["devices"].as_array().unwrap();
    let named = |kind: &str| {
        devices
            .iter()
            .find(|one| one["kind"] == kind && one.get("node").is_none())
            .unwrap()
    };
    let name = format!("iscsi://{place}/iqn.2026-11.internal.taf:library");
    assert_eq!(named("changer")["name"], format!("{name}/0"));
    assert_eq!(named("drive")["name"], format!("{name}/1"));
    assert_eq!(
        named("drive")["serial"],
        library.spec().drive_options(0).serial
    );
    run(
        dir.path(),
        &["drive", "scan", "--iscsi", &portal.address().to_string()],
    )
    .expect(1)
    .says(&["proof of who we are"]);
}
