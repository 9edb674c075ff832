#![allow(clippy::unwrap_used)]
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;

use super::drive::ItdtDrive;
use super::program::Program;
use crate::conformance::{self, Scope, Verdict};
use crate::health::{Memory, Statistics};
use crate::outcome::{Identity, Read, Readiness, Sync, Written};
use crate::{Drive, Error};

mod kernel;

use kernel::{Kernel, LONGEST};

/// A drive on a kernel that is made up, and an `itdt` that is a script.
struct Bench {
    kernel: Kernel,
    folder: TempDir,
}

const KNOWS: &str = r#"
for word in "$@"; do
    case $word in
        tur) ;;
        qrypart) echo "Additional Partitions defined .... 1" ;;
        qrypos) echo "Block Number ......... 0" ;;
        tapeusage) echo "Thread Count 7"; echo "Unrecovered Write Err. 2"; echo "Suspended Writes 4" ;;
        -a*) id=${word#-a} ;;
        -d*) [ $id = 0401 ] && printf '\004\001\200\000\003XYZ' > "${word#-d}"
             [ $id = 0000 ] && printf '\000\000\200\000\010\000\000\000\000\000\000\000\005' > "${word#-d}"
             [ $id = 0408 ] && printf '\004\010\200\000\001\200' > "${word#-d}" ;;
        erase) echo "Result: FAILED"; echo "Exit with code: 5"; exit 5 ;;
    esac
done
echo "Exit with code: 0"
"#;

impl Bench {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let script = folder.path().join("itdt");
        fs::write(&script, format!("#!/bin/sh\n{KNOWS}")).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        Self {
            kernel: Kernel::default(),
            folder,
        }
    }

    fn drive(&self) -> ItdtDrive {
        // By the shell, since the script may be open for writing in a child of another test.
        let program = Program {
            program: self.folder.path().join("itdt"),
            device: "/dev/sg9".to_owned(),
        };
        let identity = Identity {
            vendor: "IBM".to_owned(),
            product: "ULT3580-TD8".to_owned(),
            revision: "1".to_owned(),
            serial: Some("S".to_owned()),
        };
        let road = Box::new(self.kernel.clone());
        ItdtDrive::new("itdt:serial:S", identity, program, road, None)
    }
}

fn is_news<T: std::fmt::Debug>(outcome: &Result<T, Error>) {
    assert!(
        matches!(outcome, Err(Error::UnitAttention(_))),
        "{outcome:?}"
    );
}

#[test]
fn the_driver_conforms_but_for_what_this_way_lacks() {
    let bench = Bench::new();
    {
        let mut state = bench.kernel.state();
        (state.warns_at, state.ends_at) = (Some(40), Some(45));
    }
    let mut open = || Ok(Box::new(bench.drive()) as Box<dyn Drive>);
    let scope = Scope {
        block: 512,
        fill: 64 << 10,
    };
    let report = conformance::run(&mut open, scope).unwrap();
    let lacking: Vec<&str> = report
        .iter()
        .filter(|step| {
            assert!(!matches!(step.verdict, Verdict::Failed(_)), "{step}");
            matches!(step.verdict, Verdict::Lacking(_))
        })
        .map(|step| step.name)
        .collect();
    assert_eq!(
        lacking,
        [
            "it tells what is still in its buffer",
            "it has all commands that TAF would use",
            "it says what the medium is",
            "it keeps statistics",
            "a flush leaves nothing in the buffer",
            "an erased medium is blank",
            "a medium that is locked in stays in",
            "a medium that was let go is not ready, and loads again",
        ]
    );
}

#[test]
fn early_warning_is_told_and_every_block_behind_it_is_written_once() {
    let bench = Bench::new();
    {
        let mut state = bench.kernel.state();
        (state.warns_at, state.ends_at) = (Some(2), Some(6));
    }
    let mut drive = bench.drive();
    drive.rewind().unwrap();
    let mut written = Vec::new();
    let end = loop {
        let block = [written.len() as u8; 16];
        match drive.write_block(&block) {
            Ok(outcome) => written.push(outcome),
            Err(error) => break error,
        }
    };
    assert!(matches!(end, Error::VolumeOverflow), "{end:?}");
    let warned = written.iter().position(|one| *one == Written::EarlyWarning);
    assert_eq!((warned, written.len()), (Some(2), 6));
    assert!(written[2..].iter().all(|one| *one == Written::EarlyWarning));
    let mark = drive.write_filemarks(1, Sync::Synchronous);
    assert!(matches!(mark, Err(Error::VolumeOverflow)), "{mark:?}");
    drop(drive);
    let state = bench.kernel.state();
    assert_eq!((state.automatic, state.objects.len()), (0, 6));
    let numbers: Vec<u8> = state
        .objects
        .iter()
        .map(|one| one.as_ref().unwrap()[0])
        .collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4, 5]);
}

#[test]
fn a_failed_write_puts_all_since_the_flush_in_doubt_and_leaves_no_filemark() {
    let bench = Bench::new();
    let mut drive = bench.drive();
    drive.rewind().unwrap();
    drive.write_block(&[1; 16]).unwrap();
    drive.flush().unwrap();
    for _ in 0..3 {
        drive.write_block(&[2; 16]).unwrap();
    }
    // Two of the three were in the drive's buffer, and are lost.
    bench.kernel.state().breaks = Some((4, 2));
    let error = drive.write_block(&[3; 16]).unwrap_err();
    assert!(
        matches!(error, Error::Deferred(sense) if sense.deferred),
        "{error:?}"
    );
    assert_eq!(drive.position().unwrap().block, 2);
    drop(drive);
    assert_eq!(bench.kernel.state().automatic, 0);
    assert_eq!(bench.kernel.state().objects.len(), 2);

    // A drive that can't say where it stands is of no more use.
    let mut drive = bench.drive();
    bench.kernel.state().mute = true;
    drive.rewind().unwrap();
    bench.kernel.state().breaks = Some((0, 0));
    let error = drive.write_block(&[3; 16]).unwrap_err();
    assert!(matches!(error, Error::Unknown(_)), "{error:?}");
    drop(drive);
    assert_eq!(bench.kernel.state().automatic, 0);
}

#[test]
fn who_forgets_the_drive_behind_a_write_leaves_no_filemark_either() {
    let bench = Bench::new();
    let mut drive = bench.drive();
    drive.rewind().unwrap();
    drive.write_block(&[1; 16]).unwrap();
    drop(drive);
    let mut drive = bench.drive();
    drive.write_block(&[1; 16]).unwrap();
    drive.locate(1).unwrap();
    drive.rewind().unwrap();
    drive.locate_file(0).unwrap();
    assert_eq!(bench.kernel.state().automatic, 0);
    assert_eq!(bench.kernel.state().objects.len(), 2);
}

#[test]
fn itdt_has_the_drive_for_itself_and_the_tape_is_where_it_was() {
    let bench = Bench::new();
    let mut drive = bench.drive();
    drive.rewind().unwrap();
    drive.write_block(&[1; 16]).unwrap();
    bench.kernel.events();
    let statistics = Statistics::read(&mut drive).unwrap();
    let usage = statistics.usage.unwrap();
    assert_eq!(
        (
            usage.threads,
            usage.unrecovered_writes,
            usage.suspended_writes
        ),
        (7, 2, 4)
    );
    assert_eq!(bench.kernel.events(), ["Mark(0)", "tell", "close"]);
    drive.write_block(&[1; 16]).unwrap();
    assert_eq!(bench.kernel.events(), ["open", "Options", "tell"]);
    let memory = Memory::read(&mut drive).unwrap().unwrap();
    assert_eq!(
        (memory.serial.as_str(), memory.remaining),
        ("XYZ", Some(5 << 20))
    );
    let medium = drive.prepare().unwrap();
    assert_eq!(
        (medium.partitions, medium.worm, medium.density),
        (Some(2), true, 0x5e)
    );
    assert_eq!(drive.ready().unwrap(), Readiness::Ready);
    drop(drive);
    assert_eq!(bench.kernel.state().automatic, 0);
}

#[test]
fn whoever_was_at_the_tape_meanwhile_is_news() {
    let bench = Bench::new();
    let mut drive = bench.drive();
    drive.rewind().unwrap();
    drive.write_block(&[1; 16]).unwrap();
    drive.write_filemarks(1, Sync::Synchronous).unwrap();
    drive.log_page(taf_scsi::page::log::TAPE_USAGE).unwrap();
    bench.kernel.state().at = 0;
    is_news(&drive.write_block(&[2; 16]));
    assert_eq!(drive.attentions().unwrap(), []);
    assert_eq!(bench.kernel.state().objects.len(), 2);
    // So is a drive that suddenly can't tell its place.
    bench.kernel.state().mute = true;
    is_news(&drive.log_page(taf_scsi::page::log::TAPE_USAGE));
    bench.kernel.state().mute = false;
    // Told by the question for news as well, and once.
    drive.locate(2).unwrap();
    drive.log_page(taf_scsi::page::log::TAPE_USAGE).unwrap();
    bench.kernel.state().at = 1;
    assert_eq!(drive.attentions().unwrap().len(), 1);
    assert_eq!(drive.attentions().unwrap(), []);
}

#[test]
fn a_reset_is_news_whatever_was_asked_and_nothing_is_written_behind_it() {
    type Ask = fn(&mut ItdtDrive) -> Result<(), Error>;
    let bench = Bench::new();
    let ask: [Ask; 8] = [
        |drive| drive.write_block(&[2; 16]).map(|_| ()),
        |drive| drive.write_filemarks(1, Sync::Synchronous).map(|_| ()),
        |drive| drive.flush().map(|_| ()),
        |drive| drive.read_block(&mut [0; 64]).map(|_| ()),
        |drive| drive.position().map(|_| ()),
        |drive| drive.space_filemarks(1).map(|_| ()),
        |drive| drive.prevent_removal(true),
        |drive| drive.prepare().map(|_| ()),
    ];
    for ask in ask {
        let mut drive = bench.drive();
        drive.rewind().unwrap();
        drive.write_block(&[1; 16]).unwrap();
        {
            let mut state = bench.kernel.state();
            (state.lost, state.at) = (true, 0);
        }
        is_news(&ask(&mut drive));
        drop(drive);
        let state = bench.kernel.state();
        assert_eq!((state.automatic, state.objects.len()), (0, 1));
    }
}

#[test]
fn a_tape_is_blank_only_if_its_end_is_found_at_its_beginning() {
    let bench = Bench::new();
    let mut drive = bench.drive();
    let buffer = &mut [0; 64];
    drive.rewind().unwrap();
    assert_eq!(drive.read_block(buffer).unwrap(), Read::Blank);
    assert_eq!(drive.read_block(buffer).unwrap(), Read::EndOfData);
    // Its end is lost: that looks the same to the kernel.
    bench.kernel.state().endless = true;
    drive.rewind().unwrap();
    let error = drive.read_block(buffer).unwrap_err();
    assert!(matches!(error, Error::BlankCheck(_)), "{error:?}");
    bench.kernel.state().endless = false;
    // A block that can't be read is not nothing.
    drive.rewind().unwrap();
    drive.write_block(&[1; 16]).unwrap();
    drive.rewind().unwrap();
    bench.kernel.state().bad = Some(0);
    let error = drive.read_block(buffer).unwrap_err();
    assert!(matches!(error, Error::Medium(_)), "{error:?}");
    // Nor is a drive that is empty.
    bench.kernel.state().empty = true;
    let error = drive.read_block(buffer).unwrap_err();
    assert!(matches!(error, Error::NotReady(_)), "{error:?}");
    assert_eq!(drive.ready().unwrap(), Readiness::NoMedium);
}

#[test]
fn what_is_protected_or_too_long_is_refused_in_its_own_words() {
    let bench = Bench::new();
    let mut drive = bench.drive();
    drive.rewind().unwrap();
    bench.kernel.state().protected = true;
    let error = drive.write_block(&[1; 16]).unwrap_err();
    assert!(matches!(error, Error::WriteProtected(_)), "{error:?}");
    assert!(drive.prepare().unwrap().write_protected);
    let error = drive.write_block(&vec![0; LONGEST + 1]).unwrap_err();
    assert!(matches!(error, Error::TransferSize { .. }), "{error:?}");
    for outcome in [drive.format(), drive.locate(1 << 32)] {
        assert!(matches!(outcome, Err(Error::Unsupported(_))), "{outcome:?}");
    }
    assert!(!drive.begin_long_erase().unwrap());
}

#[test]
fn who_erases_must_see_the_tape_where_it_is() {
    let bench = Bench::new();
    let mut drive = bench.drive();
    drive.rewind().unwrap();
    drive.write_block(&[1; 16]).unwrap();
    // The script's itdt sees it at its beginning.
    let error = drive.erase(false).unwrap_err();
    assert!(matches!(error, Error::PositionUnknown), "{error:?}");
    drive.rewind().unwrap();
    let error = drive.erase(false).unwrap_err();
    let Error::Program { command, reason } = error else {
        panic!("{error:?}");
    };
    assert!(command.ends_with("rewind erase -short"), "{command}");
    assert!(reason.starts_with("exit status: 5"), "{reason}");
}
