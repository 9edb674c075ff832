//! The iSCSI target: who may log in, several initiators, tasks given up, sessions displaced, and PDUs that are none.
#![allow(clippy::unwrap_used, missing_docs)]

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use taf_emulator::faults::Fault;
use taf_emulator::iscsi::{self, Options, Portal};
use taf_emulator::library::{self, Library, NewCartridge, Spec};
use taf_scsi::cdb::{self, ReserveOut};
use taf_scsi::page::reservation::{Parameters, Type};
use taf_scsi::sense::{Sense, code};
use taf_scsi::status;
use taf_scsi::transport::iscsi::chap::Secrets;
use taf_scsi::transport::iscsi::keys::Keys;
use taf_scsi::transport::iscsi::pdu::{Header, NO_TAG, Receiver, Sender, at, flag, op};
use taf_scsi::transport::iscsi::{Address, Iscsi, Settings, scan};
use taf_scsi::transport::{Completion, Data, Error, Transport};
use tempfile::TempDir;

const TARGET: &str = "iqn.2026-11.internal.taf:library";
const SOON: Duration = Duration::from_secs(30);

struct Bench {
    _dir: TempDir,
    library: Library,
    portal: Portal,
}

impl Bench {
    fn new() -> Self {
        Self::with(Options::new(TARGET))
    }

    fn with(options: Options) -> Self {
        let dir = TempDir::new().unwrap();
        Library::create(dir.path(), &Spec::new(2, 4, 64 << 20)).unwrap();
        library::add(dir.path(), "A00001L8", &NewCartridge::default()).unwrap();
        let library = Library::open(dir.path()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let portal = iscsi::serve(listener, &library, options).unwrap();
        Self {
            _dir: dir,
            library,
            portal,
        }
    }

    fn open(&self, user: &str, lun: u16, settings: &Settings) -> Result<Iscsi, Error> {
        let name = format!("{user}{}/{TARGET}/{lun}", self.portal.address());
        Iscsi::open(&Address::parse(&name).unwrap(), settings)
    }

    /// A path of a host of this name.
    fn host(&self, name: &str, lun: u16) -> Iscsi {
        let settings = Settings {
            initiator: format!("iqn.2026-11.internal.taf:{name}"),
            ..Settings::default()
        };
        self.open("", lun, &settings).unwrap()
    }

    fn wait_for_sessions(&self, count: usize) {
        let limit = Instant::now() + SOON;
        while self.portal.sessions() != count {
            assert!(
                Instant::now() < limit,
                "{} sessions",
                self.portal.sessions()
            );
            std::thread::yield_now();
        }
    }
}

fn run(path: &mut Iscsi, cdb: &[u8], data: Data<'_>) -> Completion {
    path.execute(cdb, data, SOON).unwrap()
}

/// The additional sense code of what a command was answered.
fn code_of(done: &Completion) -> (u8, u8) {
    Sense::parse(&done.sense).map_or(code::NONE, |sense| sense.code())
}

fn ready(path: &mut Iscsi) -> (u8, u8) {
    code_of(&run(path, &cdb::test_unit_ready(), Data::None))
}

/// Takes what the initiator has yet to be told.
fn news(path: &mut Iscsi) -> Vec<(u8, u8)> {
    let mut found = Vec::new();
    loop {
        let done = run(path, &cdb::test_unit_ready(), Data::None);
        match Sense::parse(&done.sense) {
            Some(sense) if sense.key == taf_scsi::sense::Key::UnitAttention => {
                found.push(sense.code());
            }
            _ => return found,
        }
    }
}

/// Brings the cartridge into the first drive.
fn load(bench: &Bench) {
    let mut robot = bench.host("robot", 0);
    news(&mut robot);
    let done = run(&mut robot, &cdb::move_medium(0, 1024, 256), Data::None);
    assert_eq!(done.status, status::GOOD, "{done:?}");
}

#[test]
fn only_who_knows_the_secret_logs_in() {
    let mut options = Options::new(TARGET);
    options.secrets = Secrets::parse("ann right\nbob two library three").unwrap();
    let bench = Bench::with(options);
    let knowing = |text: &str| Settings {
        secrets: Secrets::parse(text).unwrap(),
        ..Settings::default()
    };
    let mut path = bench.open("ann@", 1, &knowing("ann right")).unwrap();
    run(&mut path, &cdb::inquiry(36), Data::In(&mut [0; 36]));
    drop(path);
    // The target proves itself, too.
    bench
        .open("bob@", 1, &knowing("bob two library three"))
        .unwrap();
    for (user, secrets, part) in [
        ("ann@", "ann wrong", "0201"),
        ("bob@", "bob right", "0201"),
        ("eve@", "eve right", "0201"),
        ("", "ann right", "proof of who we are"),
        ("bob@", "bob two library four", "did not prove"),
        ("bob@", "bob two other three", "did not prove"),
        // The target has no proof for her.
        ("ann@", "ann right library three", "0201"),
    ] {
        let why = bench
            .open(user, 1, &knowing(secrets))
            .err()
            .unwrap()
            .to_string();
        assert!(why.contains(part), "{user} {secrets}: {why}");
        assert!(!why.contains("right") && !why.contains("wrong"), "{why}");
    }
    let why = scan(&bench.portal.address().to_string(), &Settings::default()).unwrap_err();
    assert!(why.contains("proof of who we are"), "{why}");
    let found = scan(
        &format!("ann@{}", bench.portal.address()),
        &knowing("ann right"),
    )
    .unwrap();
    assert_eq!(found.len(), 3);
    bench.wait_for_sessions(0);

    // And where nobody has to, who wants to is told so.
    let open = Bench::new();
    let why = open
        .open("ann@", 1, &knowing("ann right"))
        .err()
        .unwrap()
        .to_string();
    assert!(why.contains("0201") || why.contains("no CHAP"), "{why}");
}

#[test]
fn an_initiator_is_sent_on() {
    let there = Bench::new();
    let mut options = Options::new(TARGET);
    options.redirect = Some(there.portal.address().to_string());
    let here = Bench::with(options);
    let mut path = here.open("", 1, &Settings::default()).unwrap();
    news(&mut path);
    assert_eq!((here.portal.sessions(), there.portal.sessions()), (0, 1));
    let elsewhere = format!(
        "{}/iqn.2026-11.internal.taf:another/1",
        there.portal.address()
    );
    let why = Iscsi::open(&Address::parse(&elsewhere).unwrap(), &Settings::default());
    assert!(why.err().unwrap().to_string().contains("no such target"));
}

#[test]
fn each_initiator_is_told_what_happens() {
    let bench = Bench::new();
    let (mut a, mut b) = (bench.host("a", 1), bench.host("b", 1));
    assert_eq!(news(&mut a), [code::POWER_ON_OR_RESET]);
    assert_eq!(news(&mut b), [code::POWER_ON_OR_RESET]);
    load(&bench);
    assert_eq!(news(&mut a), [code::MEDIUM_MAY_HAVE_CHANGED]);
    assert_eq!(news(&mut b), [code::MEDIUM_MAY_HAVE_CHANGED]);
    // Who goes and comes again has missed something, whatever it was.
    drop(a);
    bench.wait_for_sessions(1);
    let mut a = bench.host("a", 1);
    assert_eq!(news(&mut a), [code::NEXUS_LOSS]);
    assert_eq!(news(&mut b), []);
}

#[test]
fn reservations_are_those_of_a_host_also_when_it_comes_again() {
    let bench = Bench::new();
    let (mut a, mut b) = (bench.host("a", 1), bench.host("b", 1));
    news(&mut a);
    news(&mut b);
    let order = |action, key, service_key| {
        let parameters = Parameters {
            key,
            service_key,
            ..Parameters::default()
        };
        (
            cdb::persistent_reserve_out(action, Type::ExclusiveAccess),
            parameters.build(),
        )
    };
    let (register, list) = order(ReserveOut::Register, 0, 0xaa);
    assert_eq!(
        run(&mut a, &register, Data::Out(&list)).status,
        status::GOOD
    );
    let (reserve, list) = order(ReserveOut::Reserve, 0xaa, 0);
    assert_eq!(run(&mut a, &reserve, Data::Out(&list)).status, status::GOOD);
    let rewind = cdb::rewind();
    assert_eq!(
        run(&mut b, &rewind, Data::None).status,
        status::RESERVATION_CONFLICT
    );
    drop(a);
    bench.wait_for_sessions(1);
    let mut a = bench.host("a", 1);
    news(&mut a);
    assert_ne!(
        run(&mut a, &rewind, Data::None).status,
        status::RESERVATION_CONFLICT
    );
    assert_eq!(
        run(&mut b, &rewind, Data::None).status,
        status::RESERVATION_CONFLICT
    );
}

#[test]
fn a_command_that_hangs_is_given_up_and_the_drive_is_free() {
    let bench = Bench::new();
    let mut a = bench.host("a", 1);
    news(&mut a);
    let fault = Fault::from_words(["drive=0", "opcode=0x12", "do=hang"]).unwrap();
    bench.library.faults().lock().add(fault);
    let mut inquiry = [0; 36];
    let limit = Duration::from_millis(200);
    let timeout = a.execute(&cdb::inquiry(36), Data::In(&mut inquiry), limit);
    assert!(matches!(timeout, Err(Error::Timeout { .. })), "{timeout:?}");
    let lost = a.execute(&cdb::inquiry(36), Data::In(&mut inquiry), SOON);
    assert!(matches!(lost, Err(Error::Lost { .. })), "{lost:?}");
    drop(a);
    let mut a = bench.host("a", 1);
    let done = run(&mut a, &cdb::inquiry(36), Data::In(&mut inquiry));
    assert_eq!(done.status, status::GOOD);
    assert!(!bench.library.drives()[0].lock().hangs());
}

#[test]
fn a_connection_that_the_drive_breaks_is_no_good_any_more() {
    let bench = Bench::new();
    let mut a = bench.host("a", 1);
    news(&mut a);
    let fault = Fault::from_words(["drive=0", "opcode=0x00", "do=drop-after"]).unwrap();
    bench.library.faults().lock().add(fault);
    for _ in 0..2 {
        let lost = a.execute(&cdb::test_unit_ready(), Data::None, SOON);
        assert!(matches!(lost, Err(Error::Lost { .. })), "{lost:?}");
    }
}

#[test]
fn a_target_that_is_switched_off_says_so() {
    let bench = Bench::new();
    let mut a = bench.host("a", 1);
    news(&mut a);
    bench.portal.close();
    let lost = a.execute(&cdb::test_unit_ready(), Data::None, SOON);
    assert!(matches!(lost, Err(Error::Lost { .. })), "{lost:?}");
    bench.wait_for_sessions(0);
}

#[test]
fn what_is_written_comes_back_in_whatever_pieces() {
    let bench = Bench::new();
    load(&bench);
    let mut a = bench.host("a", 1);
    news(&mut a);
    for length in [1_usize, 8191, 262_144, 262_145, 1_500_000, 8 << 20] {
        let data: Vec<u8> = (0..length).map(|at| (at * 11 % 253) as u8).collect();
        run(&mut a, &cdb::rewind(), Data::None);
        let done = run(&mut a, &cdb::write_6(length as u32), Data::Out(&data));
        assert_eq!((done.status, done.transferred), (status::GOOD, length));
        run(&mut a, &cdb::rewind(), Data::None);
        let mut back = vec![0; length + 1000];
        let done = run(
            &mut a,
            &cdb::read_6(length as u32 + 1000, false),
            Data::In(&mut back),
        );
        // Shorter than asked for: sense says so, and the transfer is as long as the block.
        assert_eq!(
            (done.status, done.transferred),
            (status::CHECK_CONDITION, length)
        );
        assert_eq!(back[..length], data);
    }
}

/// An initiator by hand, for what ours never does.
struct Raw {
    tx: Sender,
    rx: Receiver,
    cmd_sn: u32,
    exp_stat_sn: u32,
    tag: u32,
}

impl Raw {
    fn log_in(bench: &Bench, name: &str) -> Self {
        let stream = TcpStream::connect(bench.portal.address()).unwrap();
        let mut raw = Self {
            rx: Receiver::new(stream.try_clone().unwrap(), 1 << 20),
            tx: Sender::new(stream).unwrap(),
            cmd_sn: 1,
            exp_stat_sn: 0,
            tag: 0,
        };
        let keys = Keys::new()
            .and("InitiatorName", format!("iqn.2026-11.internal.taf:{name}"))
            .and("TargetName", TARGET);
        // Straight to the operational stage, as one may who has nothing to prove.
        let login = Header::new(op::LOGIN_REQUEST)
            .immediate()
            .flags(0x80 | 1 << 2 | 3)
            .bytes(8, &[0x80, 1, 2, 3, 0, 0])
            .with(at::CMD_SN, 1);
        raw.tx.send(login, &keys.build()).unwrap();
        let answer = raw.hear();
        assert_eq!((answer.operation(), answer.0[36]), (op::LOGIN_RESPONSE, 0));
        assert!(answer.has(flag::FINAL) && answer.0[14..16] != [0, 0]);
        raw
    }

    fn hear(&mut self) -> Header {
        let header = self.rx.next(SOON).unwrap().expect("an answer");
        self.exp_stat_sn = header.word(at::STAT_SN).wrapping_add(1);
        header
    }

    /// Sends a command that reads at most so many bytes; its tag.
    fn command(&mut self, lun: u16, cdb: &[u8], capacity: u32) -> u32 {
        self.tag += 1;
        let header = Header::new(op::COMMAND)
            .flags(flag::FINAL | if capacity > 0 { flag::READ } else { 0 } | 1)
            .lun(lun)
            .with(at::TASK_TAG, self.tag)
            .with(at::EXPECTED_LENGTH, capacity)
            .with(at::CMD_SN, self.cmd_sn)
            .with(at::EXP_STAT_SN, self.exp_stat_sn)
            .bytes(32, cdb);
        self.cmd_sn += 1;
        self.tx.send(header, &[]).unwrap();
        self.tag
    }

    fn task(&mut self, function: u8, lun: u16, task: u32) -> u8 {
        let header = Header::new(op::TASK_REQUEST)
            .immediate()
            .flags(flag::FINAL | function)
            .lun(lun)
            .with(at::TASK_TAG, 0x7000)
            .with(at::REFERENCED_TASK, task)
            .with(at::CMD_SN, self.cmd_sn);
        self.tx.send(header, &[]).unwrap();
        let answer = self.hear();
        assert_eq!(answer.operation(), op::TASK_RESPONSE);
        answer.0[2]
    }

    fn is_ready(&mut self, lun: u16) -> u32 {
        let tag = self.command(lun, &cdb::test_unit_ready(), 0);
        let answer = self.hear();
        assert_eq!(
            (answer.operation(), answer.word(at::TASK_TAG)),
            (op::RESPONSE, tag)
        );
        tag
    }
}

#[test]
fn a_unit_that_hangs_holds_up_no_other() {
    let bench = Bench::new();
    let mut raw = Raw::log_in(&bench, "a");
    for _ in 0..2 {
        (0..3).for_each(|lun| {
            raw.is_ready(lun);
        });
    }
    let fault = Fault::from_words(["drive=0", "opcode=0x00", "do=hang"]).unwrap();
    bench.library.faults().lock().add(fault);
    let hanging = raw.command(1, &cdb::test_unit_ready(), 0);
    let behind = raw.command(1, &cdb::inquiry(36), 36);
    raw.is_ready(2);
    raw.is_ready(0);
    // Given up, the one that hangs and the one behind it are not answered, and the drive goes on.
    assert_eq!(raw.task(1, 1, behind), 0);
    assert_eq!(raw.task(1, 1, hanging), 0);
    assert_eq!(raw.task(1, 1, hanging), 1, "it is gone");
    assert_eq!(raw.task(1, 9, hanging), 2, "no such unit");
    assert_eq!(raw.task(8, 1, hanging), 5, "not supported");
    raw.is_ready(1);
}

#[test]
fn a_unit_is_reset_and_everybody_is_told() {
    let bench = Bench::new();
    load(&bench);
    let mut other = bench.host("b", 1);
    news(&mut other);
    run(&mut other, &cdb::write_6(1000), Data::Out(&[1; 1000]));
    let mut raw = Raw::log_in(&bench, "a");
    let fault = Fault::from_words(["drive=0", "opcode=0x12", "do=hang-until-released"]).unwrap();
    bench.library.faults().lock().add(fault);
    raw.command(1, &cdb::inquiry(36), 36);
    while !bench.library.drives()[0].lock().hangs() {
        std::thread::yield_now();
    }
    assert_eq!(raw.task(5, 1, NO_TAG), 0);
    assert!(news(&mut other).contains(&code::DEVICE_RESET));
    assert_eq!(
        bench.library.drives()[0]
            .lock()
            .cartridge()
            .unwrap()
            .buffered()
            .0,
        0
    );
    raw.is_ready(1);
}

#[test]
fn a_second_login_of_the_same_port_ends_the_first_session() {
    let bench = Bench::new();
    let mut first = Raw::log_in(&bench, "a");
    first.is_ready(1);
    let mut second = Raw::log_in(&bench, "a");
    assert!(first.rx.next(SOON).is_err());
    second.is_ready(1);
    assert_eq!(bench.portal.sessions(), 1);
}

#[test]
fn units_are_listed_and_others_are_not_there() {
    let bench = Bench::new();
    let mut raw = Raw::log_in(&bench, "a");
    raw.command(7, &cdb::report_luns(64), 64);
    let answer = raw.hear();
    assert!(answer.has(flag::STATUS) && answer.has(flag::UNDERFLOW));
    let list = raw.rx.data().unwrap();
    assert_eq!(
        (list.len(), list[3], list[9], list[17], list[25]),
        (32, 24, 0, 1, 2)
    );
    raw.command(3, &cdb::inquiry(36), 36);
    raw.hear();
    assert_eq!(raw.rx.data().unwrap()[0], 0x7f);
    raw.command(3, &cdb::test_unit_ready(), 0);
    assert_eq!(raw.hear().0[3], status::CHECK_CONDITION);
    let sense = Sense::parse(&raw.rx.data().unwrap()[2..]).unwrap();
    assert_eq!(sense.code(), code::LOGICAL_UNIT_NOT_SUPPORTED);
    // An echo comes back as it went.
    let ping = Header::new(op::NOP_OUT).immediate().with(at::TASK_TAG, 99);
    raw.tx
        .send(ping.with(at::TRANSFER_TAG, NO_TAG), b"hello")
        .unwrap();
    assert_eq!(raw.hear().word(at::TASK_TAG), 99);
    assert_eq!(raw.rx.data().unwrap(), b"hello");
}

#[test]
fn a_silent_initiator_is_asked_and_then_given_up() {
    let mut options = Options::new(TARGET);
    options.ping = Duration::from_millis(20);
    let bench = Bench::with(options);
    let mut raw = Raw::log_in(&bench, "a");
    let ping = raw.rx.next(SOON).unwrap().unwrap();
    assert_eq!(
        (ping.operation(), ping.word(at::TASK_TAG)),
        (op::NOP_IN, NO_TAG)
    );
    while raw.rx.next(SOON).is_ok() {}
    bench.wait_for_sessions(0);
}

/// A generator whose every number follows from the seed (xorshift).
struct Chance(u64);

impl Chance {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below as u64) as usize
    }
}

#[test]
fn a_thousand_malformed_requests_do_no_harm() {
    let seed = std::env::var("TAF_SEED")
        .map_or_else(|_| rand::random::<u64>() | 1, |text| text.parse().unwrap());
    println!("TAF_SEED={seed}");
    let mut chance = Chance(seed);
    let bench = Bench::new();
    let mut bystander = bench.host("bystander", 0);
    let operations = [
        op::COMMAND,
        op::DATA_OUT,
        op::TASK_REQUEST,
        op::TEXT_REQUEST,
        op::NOP_OUT,
        op::LOGOUT_REQUEST,
        op::LOGIN_REQUEST,
        op::SNACK,
        0x3c,
    ];
    for round in 0..1000 {
        let (mut stream, cmd_sn) = if round % 2 == 0 {
            let raw = Raw::log_in(&bench, "stranger");
            (raw.tx.stream().try_clone().unwrap(), raw.cmd_sn)
        } else {
            (TcpStream::connect(bench.portal.address()).unwrap(), 1)
        };
        let operation = if round % 2 == 0 {
            operations[chance.next(9)]
        } else {
            op::LOGIN_REQUEST
        };
        let mut bytes = Header::new(operation)
            .byte(1, [0x80, 0xc1, 0xa1, 0x85, 0x01][chance.next(5)])
            .byte(7, chance.next(250) as u8)
            .lun(chance.next(4) as u16)
            .with(at::TASK_TAG, round)
            .with(
                at::EXPECTED_LENGTH,
                [0, 100, 1 << 20, 1 << 30][chance.next(4)],
            )
            .with(at::CMD_SN, cmd_sn)
            .byte(32, [0x0a, 0x08, 0x12, 0x5f, 0xa3][chance.next(5)])
            .0
            .to_vec();
        bytes.extend(
            b"InitiatorName=iqn.a\0SessionType=Discovery\0AuthMethod=CHAP,None\0CHAP_A=5\0=\0x",
        );
        bytes.resize(48 + chance.next(300), 0x5a);
        for _ in 0..chance.next(6) {
            let at = chance.next(bytes.len());
            bytes[at] = chance.next(256) as u8;
        }
        // A cold reset of the whole target ends everybody's session, and is no harm.
        if bytes[0] & 0x3f == op::TASK_REQUEST && bytes[1] & 0x7f == 7 {
            bytes[1] = 0x85;
        }
        // The target may have closed the connection before all is written, or read.
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(Shutdown::Write);
        stream.set_read_timeout(Some(SOON)).unwrap();
        let mut answer = vec![0; 1 << 16];
        loop {
            match stream.read(&mut answer) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    panic!("round {round}: no end")
                }
                Err(_) => break,
            }
        }
        if round % 50 == 0 {
            run(&mut bystander, &cdb::test_unit_ready(), Data::None);
        }
    }
    bench.wait_for_sessions(1);
    load(&bench);
    let mut drive = bench.host("a", 1);
    news(&mut drive);
    assert_eq!(ready(&mut drive), code::NONE);
    let done = run(
        &mut drive,
        &cdb::write_6(70_000),
        Data::Out(&vec![3; 70_000]),
    );
    assert_eq!(done.status, status::GOOD);
}
