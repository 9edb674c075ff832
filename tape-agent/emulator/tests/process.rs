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

/// Runs the program with `--dir` and these words; what it wrote, or its complaint.
fn order(dir: &Path, words: &[&str]) -> Result<String, String> {
    let (command, rest) = words.split_at(words.len().min(2));
    let out = program()
        .args(command)
        .arg("--dir")
        .arg(dir)
        .args(rest)
        .output()
        .unwrap();
    if out.status.success() {
        Ok(String::from_utf8(out.stdout).unwrap())
    } else {
        Err(String::from_utf8(out.stderr).unwrap())
    }
}

#[test]
fn orders_reach_a_library_that_is_on() {
    let dir = TempDir::new().unwrap();
    assert!(
        order(dir.path(), &["stat"])
            .unwrap_err()
            .contains("taf-emulator serve")
    );
    let options = ["--cartridges", "1", "--mail-slots", "1", "--seed", "42"];
    let running = serve(dir.path(), &options);
    let mut changer = Unit::new(&running.devices[0]);
    changer.ready();
    changer.ok(&cdb::move_medium(0, 1024, 256));
    let mut drive = Unit::new(&running.devices[1]);
    drive.ready();
    drive.write(&[1; 1000]);

    let stat: serde_json::Value =
        serde_json::from_str(&order(dir.path(), &["stat", "--json"]).unwrap()).unwrap();
    assert_eq!(stat["seed"], 42);
    assert_eq!(stat["changer"]["moves"], 1);
    assert_eq!(stat["drives"][0]["barcode"], "TAF001L8");
    assert_eq!(stat["drives"][0]["counters"]["bytes_written"], 1000);
    let text = order(dir.path(), &["stat"]).unwrap();
    assert!(text.contains("drive0\tblocks_written\t1\n"), "{text}");

    // A command hangs, others see it, and it goes on when it is released.
    order(
        dir.path(),
        &["fault", "add", "drive=0", "opcode=0x0a", "do=hang"],
    )
    .unwrap();
    let listed = order(dir.path(), &["fault", "list"]).unwrap();
    assert!(listed.contains("do = \"hang\""), "{listed}");
    let writing = std::thread::spawn(move || {
        drive.write(&[2; 500]);
        drive
    });
    while !order(dir.path(), &["stat"])
        .unwrap()
        .contains("drive0\thangs\tyes")
    {}
    order(dir.path(), &["fault", "release"]).unwrap();
    let mut drive = writing.join().unwrap();
    assert_eq!(drive.object(), 2);
    let wrong = order(dir.path(), &["fault", "add", "do=dance"]).unwrap_err();
    assert!(
        wrong.contains("dance") && wrong.contains("--help"),
        "{wrong}"
    );

    order(dir.path(), &["drive", "power-cut", "0", "--keep", "1"]).unwrap();
    drive.ready();
    drive.ok(&cdb::space_6(cdb::SpaceOver::EndOfData, 0));
    assert_eq!(drive.object(), 1);
    let door = |action: &str| {
        program()
            .args(["door", "--dir"])
            .arg(dir.path())
            .arg(action)
            .status()
            .unwrap()
    };
    assert!(door("open").success());
    let sense = changer
        .run(&cdb::test_unit_ready(), Data::None)
        .unwrap_err();
    assert_eq!(sense.code(), taf_scsi::sense::code::DOOR_OPEN);
    assert!(door("close").success());
    changer.ready();
    order(dir.path(), &["add", "--outside", "NEW001L8"]).unwrap();
    assert_eq!(
        order(dir.path(), &["mail", "put", "NEW001L8"]).unwrap(),
        "16\n"
    );
    let again = order(dir.path(), &["mail", "put", "NEW001L8"]).unwrap_err();
    assert!(again.contains("outside"), "{again}");
    order(dir.path(), &["mail", "take", "NEW001L8"]).unwrap();
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
