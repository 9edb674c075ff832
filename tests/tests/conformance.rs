//! One suite, every path to a drive: on our emulator in process and over its socket, and, through Linux's own sg driver,
//! on tgt, which is not ours and lacks much. A further transport is one more line below.
#![allow(clippy::unwrap_used, missing_docs)]

use taf_drive::changer::DriveElement;
use taf_drive::conformance::{Scope, Step, Verdict, Way};
use taf_drive::{Changer, Drive, Error, ScsiChanger, ScsiDrive};
use taf_emulator::library::{self, Library, NewCartridge, Spec};
use taf_emulator::server;
use taf_scsi::transport::in_process::InProcess;
use taf_tests::lab::Lab;
use tempfile::TempDir;

macro_rules! conforms {
    ($($name:ident: $run:expr, lacking $lacking:expr, failing $failing:expr;)*) => {$(
        #[test]
        fn $name() {
            check($run, &$lacking, &$failing);
        }
    )*};
}

conforms! {
    the_emulator_in_process: in_process(64 << 10), lacking [], failing [];
    the_emulator_in_process_with_large_blocks: in_process(512 << 10), lacking [], failing [];
    the_emulator_over_its_socket: over_the_socket(), lacking [], failing [];
    tgt_through_the_kernels_sg_driver: in_the_guest(), lacking TGT, failing TGT_FAILS;
}

/// What tgt can't do, as it was found out. One line less is news, one line more is a loss.
const TGT: [&str; 14] = [
    "every element has an address of its own",
    "drives are named by serial number",
    "it tells its position",
    "it counts tape files",
    "it tells what is still in its buffer",
    "it has all commands that TAF would use",
    "it says what the medium is",
    "it keeps statistics",
    "it reads the memory in the cartridge",
    "a flush leaves nothing in the buffer",
    "the medium's end is announced, and what was taken before it is there",
    "an erased medium is blank",
    "a medium that is locked in stays in",
    "a medium that was let go is not ready, and loads again",
];

/// What tgt does wrong: of a block that is shorter than what was asked for, it sends as many bytes as the difference is, and
/// not the block's. TAF asks for blocks by their length, and each has a checksum.
const TGT_FAILS: [&str; 1] = ["a block shorter than what was asked for comes whole"];

/// A step's name and what came of it, from whatever ran the suite.
type Report = Vec<(String, &'static str)>;

fn check(report: Option<Report>, lacking: &[&str], failing: &[&str]) {
    let Some(report) = report else { return };
    let of = |word| {
        let names = report.iter().filter(move |(_, verdict)| *verdict == word);
        names.map(|(name, _)| name.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(of("FAILED"), failing);
    assert_eq!(of("lacking"), lacking);
    assert!(report.len() >= 40, "{report:?}");
}

fn read(steps: &[Step]) -> Report {
    let of = |step: &Step| {
        println!("{step}");
        let verdict = match step.verdict {
            Verdict::Passed => "passed",
            Verdict::Lacking(_) => "lacking",
            Verdict::Failed(_) => "FAILED",
        };
        (step.name.to_owned(), verdict)
    };
    steps.iter().map(of).collect()
}

const CAPACITY: u64 = 24 << 20;

fn scope(block: usize) -> Scope {
    Scope {
        block,
        fill: 2 * CAPACITY,
    }
}

fn emulated(dir: &TempDir) -> Library {
    let spec = Spec {
        early_warning: Some(4 << 20),
        ..Spec::new(2, 5, CAPACITY)
    };
    Library::create(dir.path(), &spec).unwrap();
    for barcode in ["A00001L8", "A00002L8"] {
        library::add(dir.path(), barcode, &NewCartridge::default()).unwrap();
    }
    Library::open(dir.path()).unwrap()
}

fn in_process(block: usize) -> Option<Report> {
    let dir = TempDir::new().unwrap();
    let library = emulated(&dir);
    let robot = || InProcess::new("robot", library.changer_target());
    let bay = |bay: &DriveElement| {
        for number in 0..2 {
            let target = library.drive_target(number).unwrap();
            let drive = ScsiDrive::new(Box::new(InProcess::new("drive", target)))?;
            if drive.identity().serial == bay.serial {
                return Ok(Box::new(drive) as Box<dyn Drive>);
            }
        }
        Err(Error::NotTaken("no drive of this serial number"))
    };
    let mut way = Way {
        changer: Box::new(
            || Ok(Box::new(ScsiChanger::new(Box::new(robot()))?) as Box<dyn Changer>),
        ),
        bay: Box::new(bay),
    };
    Some(read(&way.run(None, scope(block)).unwrap()))
}

fn over_the_socket() -> Option<Report> {
    let dir = TempDir::new().unwrap();
    let library = emulated(&dir);
    let served = server::serve(&library).unwrap();
    let [changer, drives @ ..] = &served[..] else {
        panic!("a changer first");
    };
    let drives: Vec<&str> = drives.iter().map(|one| one.device.as_str()).collect();
    let mut way = Way::by_names(&changer.device, &drives);
    Some(read(&way.run(Some("A00002L8"), scope(64 << 10)).unwrap()))
}

fn in_the_guest() -> Option<Report> {
    let lab = Lab::open().unwrap()?;
    let program = env!("CARGO_BIN_EXE_taf-conformance");
    let command = format!(
        "RUST_BACKTRACE=0 {program} --scratch --changer serial:$CHANGER --drive serial:$DRIVE --block 262144 --fill 32000000; true"
    );
    let text = lab.run(&command).unwrap();
    println!("{text}");
    let mut report = Vec::new();
    for line in text.lines() {
        for verdict in ["passed", "lacking", "FAILED"] {
            if let Some(rest) = line.strip_prefix(verdict) {
                let name = rest.trim().split(": ").next().unwrap();
                report.push((name.to_owned(), verdict));
            }
        }
    }
    Some(report)
}
