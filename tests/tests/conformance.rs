//! One suite, every path to a drive: on our emulator in process, over its socket, by our iSCSI initiator and through Linux's
//! own drivers; and on tgt, which is not ours and lacks much. A further transport is one more line below.
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Duration;

use taf_drive::changer::DriveElement;
use taf_drive::conformance::{Scope, Step, Verdict, Way};
use taf_drive::{Changer, Drive, Error, ScsiChanger, ScsiDrive};
use taf_emulator::library::{self, Library, NewCartridge, Spec};
use taf_emulator::{iscsi, server};
use taf_scsi::cdb;
use taf_scsi::host::{Host, Kind};
use taf_scsi::transport::in_process::InProcess;
use taf_scsi::transport::iscsi::chap::Secrets;
use taf_scsi::transport::iscsi::keys::Wishes;
use taf_scsi::transport::iscsi::{Address, Iscsi, Settings, scan};
use taf_scsi::transport::{self, Data};
use taf_tests::lab::{self, Guest, Lab};
use tempfile::TempDir;

macro_rules! conforms {
    ($($name:ident: $run:expr, lacking $lacking:expr, failing $failing:expr;)*) => {$(
        #[test]
        fn $name() {
            check(&$run, &$lacking, &$failing);
        }
    )*};
}

conforms! {
    the_emulator_in_process: in_process(64 << 10), lacking [], failing [];
    the_emulator_in_process_with_large_blocks: in_process(512 << 10), lacking [], failing [];
    the_emulator_over_its_socket: over_the_socket(), lacking [], failing [];
    the_emulators_target_over_iscsi: over_iscsi(Wishes::default()), lacking [], failing [];
    the_emulators_target_over_iscsi_by_request: over_iscsi(ASKED), lacking [], failing [];
}

#[test]
fn tgt_by_our_initiator() {
    // None: this host can't have a guest, which was said.
    if let Some(report) = over_tgt() {
        check(&report, &TGT, &TGT_FAILS);
    }
}

/// By the kernel's `sg`; and by itdt and st, where they are left in the dark, in the long form.
#[test]
fn tgt_through_the_kernels_drivers() {
    let long = std::env::var_os("TAF_TEST_LONG").is_some();
    let ways: &[By] = if long { &[By::Sg, By::Itdt] } else { &[By::Sg] };
    // None: this host can't have a guest, which was said.
    let Some(reports) = in_the_guest(lab::Library::Tgt, ways) else {
        return;
    };
    check(&reports[0], &TGT, &TGT_FAILS);
    for by_itdt in &reports[1..] {
        check(by_itdt, &TGT, &TGT_FAILS_BY_ITDT);
    }
}

#[test]
fn the_emulators_target_through_the_kernels_drivers() {
    let Some(reports) = in_the_guest(lab::Library::Emulator, &[By::Sg, By::Itdt]) else {
        return;
    };
    check(&reports[0], &[], &[]);
    check(&reports[1], &BY_ITDT, &[]);
}

/// What only a kernel with devices can show. Passes at once elsewhere: it is the last command of the tests above.
#[test]
fn inside_the_guest() {
    if std::env::var_os(INSIDE).is_none() {
        return;
    }
    let serial = std::env::var("DRIVE").unwrap();
    let host = Host::this();
    let devices = host.devices().unwrap();
    let mut kinds: Vec<Kind> = devices.iter().map(|device| device.kind).collect();
    kinds.sort();
    assert_eq!(
        kinds,
        [Kind::Drive, Kind::Drive, Kind::Changer],
        "{devices:?}"
    );
    let device = devices
        .iter()
        .find(|one| one.serial.as_ref() == Some(&serial))
        .unwrap();
    let (st, node) = (
        device.st_node.clone().unwrap(),
        device.node.display().to_string(),
    );
    assert_eq!(device.driver.as_deref(), Some("st"));
    // Opening an st device waits two minutes for a cartridge, unless told not to.
    let stray = || {
        let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
        std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(&st)
    };

    // While a path is open, others find the tape busy, and are told by whom.
    let name = format!("serial:{serial}");
    let mut path = transport::open(&name).unwrap();
    assert_eq!(path.name(), format!("{name} ({node})"));
    assert_eq!(stray().unwrap_err().kind(), ErrorKind::ResourceBusy);
    let error = transport::open(&node).err().unwrap().to_string();
    let own = format!("({})", std::process::id());
    assert!(
        error.contains("another program is at its tape") && error.contains(&own),
        "{error}"
    );
    assert!(
        host.users(device)
            .seen
            .iter()
            .any(|user| user.pid == std::process::id())
    );

    // It is measured what the path carries, and a refusal leaves the path as it was.
    let largest = path.max_transfer();
    assert!(
        (512 << 10..=transport::TRANSFER_MAX).contains(&largest),
        "{largest}"
    );
    let block = vec![0; largest + 1];
    let minute = Duration::from_mins(1);
    let refused = path.execute(&cdb::write_6(block.len() as u32), Data::Out(&block), minute);
    assert!(
        matches!(refused, Err(transport::Error::TooLarge { .. })),
        "{refused:?}"
    );
    path.execute(&cdb::test_unit_ready(), Data::None, minute)
        .unwrap();
    drop(path);

    // Without one they don't; and then it is we who find it busy.
    let held = stray().unwrap();
    assert!(transport::open(&node).is_err());
    drop(held);
    transport::open(&node).unwrap();

    // The kernel's tape driver is not what TAF uses; a robot is not a drive, also by its number.
    let error = transport::open(&st.display().to_string())
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains(&format!("use {name} or {node}")), "{error}");
    let robot = std::env::var("CHANGER").unwrap();
    let as_drive = transport::open_as(&format!("serial:{robot}"), Some(Kind::Drive));
    assert!(as_drive.err().unwrap().to_string().contains("no device"));
    transport::open_as(&format!("serial:{robot}"), Some(Kind::Changer)).unwrap();
}

/// What tgt can't do, as it was found out. One line less is news, one line more is a loss.
const TGT: [&str; 14] = [
    "it names its picker",
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

/// By itdt and st more fails on it. A drive that doesn't tell its position leaves open what `st` does not say either: whether
/// nothing is recorded, nothing was there to go to, or something can't be read; TAF then takes it for the last. And where its
/// data end, behind a block, it has `st` give out a block that isn't there.
const TGT_FAILS_BY_ITDT: [&str; 6] = [
    TGT_FAILS[0],
    "filemarks in a row are as many as were written",
    "locate finds every object",
    "tape files are found forward and backward",
    "spacing stops at either end",
    "a write ends the recording behind it",
];

/// What any drive lacks by itdt and st.
const BY_ITDT: [&str; 5] = [
    "it tells what is still in its buffer",
    "it has all commands that TAF would use",
    "it says what the medium is",
    "it keeps statistics",
    "a flush leaves nothing in the buffer",
];

/// A step's name and what came of it, from whatever ran the suite.
type Report = Vec<(String, &'static str)>;

fn check(report: &Report, lacking: &[&str], failing: &[&str]) {
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

fn in_process(block: usize) -> Report {
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
    read(&way.run(None, scope(block)).unwrap())
}

fn over_the_socket() -> Report {
    let dir = TempDir::new().unwrap();
    let library = emulated(&dir);
    let served = server::serve(&library).unwrap();
    let [changer, drives @ ..] = &served[..] else {
        panic!("a changer first");
    };
    let drives: Vec<&str> = drives.iter().map(|one| one.device.as_str()).collect();
    let mut way = Way::by_names(&changer.device, &drives);
    read(&way.run(Some("A00002L8"), scope(64 << 10)).unwrap())
}

/// Without digests, all data asked for, in small pieces.
const ASKED: Wishes = Wishes {
    digests: false,
    initial_r2t: true,
    immediate_data: false,
    first_burst: 4096,
    max_burst: 8192,
    segment: 4096,
};

fn over_iscsi(wishes: Wishes) -> Report {
    let dir = TempDir::new().unwrap();
    let library = emulated(&dir);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let options = iscsi::Options::new("iqn.2026-11.internal.taf:library");
    let portal = iscsi::serve(listener, &library, options).unwrap();
    let settings = Settings {
        wishes,
        ..Settings::default()
    };
    let report = by_initiator(&portal.address().to_string(), &settings, 64 << 10);
    assert!(report.len() >= 40);
    report
}

/// The suite on the first robot and the drives behind a portal.
fn by_initiator(portal: &str, settings: &Settings, block: usize) -> Report {
    let mut found = scan(portal, settings).unwrap();
    found.sort_by_key(|one| one.kind != Kind::Changer);
    let kinds: Vec<Kind> = found.iter().map(|one| one.kind).collect();
    assert_eq!(kinds, [Kind::Changer, Kind::Drive, Kind::Drive]);
    let open = |name: &str| {
        let address = Address::parse(name.strip_prefix("iscsi://").unwrap()).unwrap();
        Iscsi::open(&address, settings).map(Box::new)
    };
    // tgt cuts the last drive's number off; then it is not the first.
    let bay = |bay: &DriveElement| {
        let one = found.iter().find(|one| one.serial == bay.serial);
        let one = one.unwrap_or(&found[1]);
        Ok(Box::new(ScsiDrive::new(open(&one.name)?)?) as Box<dyn Drive>)
    };
    let mut way = Way {
        changer: Box::new(|| {
            Ok(Box::new(ScsiChanger::new(open(&found[0].name)?)?) as Box<dyn Changer>)
        }),
        bay: Box::new(bay),
    };
    read(&way.run(None, scope(block)).unwrap())
}

/// Without root, by CHAP. tgt means SHA-1 where it says SHA-256, so that MD5 is what is agreed on.
fn over_tgt() -> Option<Report> {
    let lab = Lab::open().unwrap()?;
    let tgt = lab.tgt("ann", "a-secret-of-hers").unwrap();
    let knowing = |secret: &str| Settings {
        secrets: Secrets::parse(&format!("ann {secret}")).unwrap(),
        ..Settings::default()
    };
    let portal = format!("ann@{}", tgt.portal);
    let name = format!("{portal}/{}/1", tgt.target);
    let wrong = Iscsi::open(&Address::parse(&name).unwrap(), &knowing("another"));
    let why = wrong.err().unwrap().to_string();
    assert!(why.contains("0201"), "{why}");
    Some(by_initiator(
        &portal,
        &knowing("a-secret-of-hers"),
        256 << 10,
    ))
}

/// libiscsi's tools, with and without the secret.
#[test]
fn the_usual_iscsi_tools_see_our_target() {
    let Some(lab) = Lab::open().unwrap() else {
        return;
    };
    let dir = TempDir::new().unwrap();
    let library = emulated(&dir);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut options = iscsi::Options::new("iqn.2026-11.internal.taf:library");
    options.secrets = Secrets::parse("ann right").unwrap();
    let portal = iscsi::serve(listener, &library, options).unwrap();
    let run = |tool: &str, arguments: &[&str]| {
        let output = lab.tool(tool).args(arguments).output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    };
    let place = |secret: &str| format!("iscsi://ann%{secret}@{}/", portal.address());
    let (done, text) = run("iscsi-ls", &["-s", &place("right")]);
    assert!(done, "{text}");
    assert!(
        text.contains("MEDIA_CHANGER") && text.matches("SEQUENTIAL_ACCESS").count() == 2,
        "{text}"
    );
    let unit = format!("{}iqn.2026-11.internal.taf:library/1", place("right"));
    let (done, text) = run("iscsi-inq", &[&unit]);
    assert!(
        done && text.contains("SEQUENTIAL_ACCESS") && text.contains("ULTRIUM-EMU8"),
        "{text}"
    );
    let (_, text) = run("iscsi-ls", &["-s", &place("wrong")]);
    assert!(text.contains("Authentication failure"), "{text}");
}

/// Set in the guest.
const INSIDE: &str = "TAF_INSIDE_THE_GUEST";

/// A way to a drive in the guest.
#[derive(Debug, Clone, Copy)]
enum By {
    /// SCSI commands by the kernel's `sg`.
    Sg,
    /// IBM's `itdt`, or its double, and the kernel's `st`.
    Itdt,
}

/// Stands between the reports.
const NEXT: &str = "=== the next way";

/// The suite by each of the ways, in one guest: it takes longer to start than most.
fn in_the_guest(library: lab::Library, ways: &[By]) -> Option<Vec<Report>> {
    let lab = Lab::open().unwrap()?;
    let program = env!("CARGO_BIN_EXE_taf-conformance");
    let double = env!("CARGO_BIN_EXE_taf-itdt-double");
    let own = std::env::current_exe().unwrap();
    let runs = ways.iter().map(|way| {
        let drive = match way {
            By::Sg => "serial:$DRIVE".to_owned(),
            By::Itdt => "itdt:/tmp/itdt@serial:$DRIVE".to_owned(),
        };
        format!(
            "RUST_BACKTRACE=0 {program} --scratch --changer serial:$CHANGER --drive {drive} --block 262144 --fill 40000000; echo '{NEXT}'; "
        )
    });
    // The guest starts it dozens of times, which takes thrice as long from this machine's disk.
    let command = format!(
        "cp {double} /tmp/itdt; {}{INSIDE}=1 {} --exact inside_the_guest",
        runs.collect::<String>(),
        own.display()
    );
    let text = lab.run(Guest::of(library), &command).unwrap();
    println!("{text}");
    Some(text.split(NEXT).take(ways.len()).map(printed).collect())
}

/// A report as it was printed.
fn printed(text: &str) -> Report {
    let mut report = Vec::new();
    for line in text.lines() {
        for verdict in ["passed", "lacking", "FAILED"] {
            if let Some(rest) = line.strip_prefix(verdict) {
                let name = rest.trim().split(": ").next().unwrap();
                report.push((name.to_owned(), verdict));
            }
        }
    }
    report
}
