//! The program as its users meet it: sockets, signals, kill -9, adding cartridges while it runs.
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use taf_scsi::cdb::{self, ElementType, PositionForm};
use taf_scsi::page::element_status::Report;
use taf_scsi::page::position::Long;
use taf_scsi::sense::Sense;
use taf_scsi::transport::{Data, Transport, open};
use tempfile::TempDir;

const LONG: Duration = Duration::from_mins(1);

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_taf-emulator"))
}

struct Running {
    child: Child,
    devices: Vec<String>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(dir: &Path, options: &[&str]) -> Running {
    let mut child = program()
        .args(["serve", "--create", "--dir"])
        .arg(dir)
        .args(options)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // A changer and two drives; each line appears when the device can be reached.
    let devices = lines
        .take(3)
        .map(|line| line.unwrap().split('\t').nth(1).unwrap().to_owned())
        .collect();
    Running { child, devices }
}

struct Unit(Box<dyn Transport>);

impl Unit {
    fn new(device: &str) -> Self {
        Self(open(device).unwrap())
    }

    fn run(&mut self, cdb: &[u8], data: Data<'_>) -> Result<usize, Sense> {
        let done = self.0.execute(cdb, data, LONG).unwrap();
        match Sense::parse(&done.sense) {
            None => Ok(done.transferred),
            Some(sense) => Err(sense),
        }
    }

    fn ok(&mut self, cdb: &[u8]) {
        self.run(cdb, Data::None).unwrap();
    }

    fn ready(&mut self) {
        while self.run(&cdb::test_unit_ready(), Data::None).is_err() {}
    }

    fn write(&mut self, data: &[u8]) {
        self.run(&cdb::write_6(data.len() as u32), Data::Out(data))
            .unwrap();
    }

    fn object(&mut self) -> u64 {
        let mut data = [0; 32];
        self.run(&cdb::read_position(PositionForm::Long), Data::In(&mut data))
            .unwrap();
        Long::parse(&data).unwrap().object.unwrap()
    }
}

#[test]
fn a_killed_library_comes_back_with_what_was_flushed() {
    let dir = TempDir::new().unwrap();
    let mut running = serve(dir.path(), &["--capacity", "64MB", "--cartridges", "1"]);
    let mut changer = Unit::new(&running.devices[0]);
    changer.ready();
    changer.ok(&cdb::move_medium(0, 1024, 256));
    let mut drive = Unit::new(&running.devices[1]);
    drive.ready();
    drive.write(&vec![1; 100_000]);
    drive.ok(&cdb::write_filemarks_6(1, false));
    drive.write(&vec![2; 100_000]);
    // A client that goes takes nothing with it.
    drop(drive);
    let mut drive = Unit::new(&running.devices[1]);
    assert_eq!(drive.object(), 3);

    running.child.kill().unwrap();
    running.child.wait().unwrap();
    let mut running = serve(dir.path(), &[]);
    let mut drive = Unit::new(&running.devices[1]);
    drive.ready();
    drive.ok(&cdb::space_6(cdb::SpaceOver::EndOfData, 0));
    assert_eq!(drive.object(), 2);

    drive.write(&vec![3; 50_000]);
    let pid = Pid::from_raw(running.child.id() as i32);
    kill(pid, Signal::SIGTERM).unwrap();
    assert!(running.child.wait().unwrap().success());
    let out = program()
        .arg("cat")
        .arg(dir.path().join("cartridges/TAF001L8.tape"))
        .arg("1")
        .output()
        .unwrap();
    assert_eq!(out.stdout, vec![3; 50_000]);
}

#[test]
fn a_cartridge_that_is_added_appears_while_it_runs() {
    let dir = TempDir::new().unwrap();
    let running = serve(dir.path(), &["--cartridges", "1"]);
    let status = program()
        .args(["add", "NEW001L8", "--write-protected", "--dir"])
        .arg(dir.path())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let mut changer = Unit::new(&running.devices[0]);
    changer.ready();
    let mut data = vec![0; 65_535];
    let cdb = cdb::read_element_status(ElementType::Storage, 0, 100, true, false, 65_535);
    let length = changer.run(&cdb, Data::In(&mut data)).unwrap();
    let report = Report::parse(&data[..length]).unwrap();
    assert_eq!(report.elements[1].volume_tag.as_deref(), Some("NEW001L8"));
}

#[test]
fn mistakes_have_a_reason_and_a_next_step() {
    let dir = TempDir::new().unwrap();
    let deep = dir.path().join("x".repeat(100));
    let cases: [(&[&str], &Path, &str); 3] = [
        (&["serve", "--dir"], dir.path(), "taf-emulator create"),
        (&["serve", "--create", "--dir"], &deep, "shorter folder"),
        (
            &["create", "--slots", "1", "--dir"],
            dir.path(),
            "more --slots",
        ),
    ];
    for (arguments, dir, expected) in cases {
        let out = program().args(arguments).arg(dir).output().unwrap();
        assert_eq!(out.status.code(), Some(1));
        let error = String::from_utf8(out.stderr).unwrap();
        assert!(error.contains(expected), "{error}");
        assert!(out.stdout.is_empty());
    }
}
