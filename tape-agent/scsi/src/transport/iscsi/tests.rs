#![allow(clippy::unwrap_used)]
//! Our initiator against targets that do what no good target does.

use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Instant;

use super::keys::Keys;
use super::pdu::{Header, NO_TAG, Receiver, Sender, at, flag, op};
use super::*;
use crate::status;

const TARGET: &str = "iqn.2026-11.internal.taf:fake";
const SOON: Duration = Duration::from_secs(20);

/// A target's end of a connection whose login is done.
struct Fake {
    tx: Sender,
    rx: Receiver,
    stat_sn: u32,
}

impl Fake {
    fn send(&mut self, header: Header, data: &[u8]) {
        let header = header
            .with(at::STAT_SN, self.stat_sn)
            .with(at::EXP_CMD_SN, 1)
            .with(at::MAX_CMD_SN, 100);
        self.stat_sn += 1;
        // Whoever breaks the connection is the one that is tested.
        let _ = self.tx.send(header, data);
    }

    fn hear(&mut self) -> Header {
        self.rx.next(SOON).unwrap().expect("something is said")
    }

    /// Hears a command, and the answer to it begins with this.
    fn hear_command(&mut self, operation: u8) -> Header {
        let command = self.hear();
        assert_eq!(command.operation(), op::COMMAND);
        Header::new(operation).with(at::TASK_TAG, command.word(at::TASK_TAG))
    }

    fn log_in(stream: TcpStream, say: Keys) -> Self {
        let mut fake = Self {
            rx: Receiver::new(stream.try_clone().unwrap(), 1 << 20),
            tx: Sender::new(stream).unwrap(),
            stat_sn: 7,
        };
        let mut say = Some(say);
        loop {
            let request = fake.hear();
            let next = request.0[1] & 3;
            let answer = Header::new(op::LOGIN_RESPONSE)
                .flags(request.0[1])
                .bytes(14, &[0, 1])
                .with(at::TASK_TAG, request.word(at::TASK_TAG));
            let text = if next == 3 {
                say.take().unwrap_or_default()
            } else {
                Keys::new()
            };
            fake.send(answer, &text.build());
            if next == 3 {
                return fake;
            }
        }
    }
}

/// A target that says this at its login and then does that, and a path to it.
fn target(say: Keys, then: impl FnOnce(&mut Fake) + Send + 'static) -> (JoinHandle<()>, Iscsi) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = thread::spawn(move || {
        let mut fake = Fake::log_in(listener.accept().unwrap().0, say);
        then(&mut fake);
    });
    (serving, open(port, &Settings::default()).unwrap())
}

fn open(port: u16, settings: &Settings) -> Result<Iscsi, Error> {
    let name = format!("127.0.0.1:{port}/{TARGET}/3");
    Iscsi::open(&Address::parse(&name).unwrap(), settings)
}

fn reason(outcome: Result<Completion, Error>) -> String {
    match outcome {
        Err(Error::Lost { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

const TUR: [u8; 6] = [0; 6];

#[test]
fn data_go_in_the_pieces_that_the_target_takes() {
    // 1000 with the command, 2000 unasked, the rest when asked for, in any order of bursts.
    let say = Keys::new()
        .and("MaxRecvDataSegmentLength", "1000")
        .and("FirstBurstLength", "3000")
        .and("MaxBurstLength", "4000")
        .and("InitialR2T", "No")
        .and("ImmediateData", "Yes");
    let data: Vec<u8> = (0..9000_u32).map(|at| (at * 13) as u8).collect();
    let wanted = data.clone();
    let (serving, mut path) = target(say, move |fake| {
        let command = fake.hear();
        assert!(command.has(flag::WRITE) && !command.has(flag::FINAL | flag::READ));
        assert_eq!(command.to_lun(), Some(3));
        assert_eq!(command.word(at::EXPECTED_LENGTH), 9000);
        let mut got = vec![0; 9000];
        got[..1000].copy_from_slice(&fake.rx.data().unwrap());
        let tag = command.word(at::TASK_TAG);
        let mut take = |fake: &mut Fake, transfer, range: std::ops::Range<usize>| {
            let mut offset = range.start;
            for number in 0.. {
                let header = fake.hear();
                assert_eq!(header.operation(), op::DATA_OUT);
                assert_eq!(header.word(at::TRANSFER_TAG), transfer);
                assert_eq!(header.word(at::DATA_SN), number);
                assert_eq!(header.word(at::BUFFER_OFFSET) as usize, offset);
                let piece = fake.rx.data().unwrap();
                assert!(piece.len() <= 1000);
                got[offset..offset + piece.len()].copy_from_slice(&piece);
                offset += piece.len();
                assert_eq!(header.has(flag::FINAL), offset == range.end);
                if offset == range.end {
                    break;
                }
            }
        };
        take(fake, NO_TAG, 1000..3000);
        for (transfer, range) in [(8, 7000..9000), (9, 3000..7000)] {
            let ask = Header::new(op::R2T)
                .with(at::TASK_TAG, tag)
                .with(at::TRANSFER_TAG, transfer)
                .with(at::BUFFER_OFFSET, range.start as u32)
                .with(at::DESIRED_LENGTH, range.len() as u32);
            fake.send(ask, &[]);
            take(fake, transfer, range);
        }
        assert_eq!(got, wanted);
        fake.send(Header::new(op::RESPONSE).with(at::TASK_TAG, tag), &[]);
    });
    let done = path.execute(&[0x0a, 0, 0, 0x23, 0x28, 0], Data::Out(&data), SOON);
    let done = done.unwrap();
    assert_eq!((done.status, done.transferred), (status::GOOD, 9000));
    serving.join().unwrap();
}

#[test]
fn what_comes_besides_is_dealt_with_and_what_was_asked_comes_too() {
    let (serving, mut path) = target(Keys::new(), |fake| {
        let answer = fake.hear_command(op::DATA_IN);
        // An event, a ping, and only then two pieces of data, the second with the status.
        fake.send(Header::new(op::ASYNC).with(at::TASK_TAG, NO_TAG), &[0, 0]);
        let ping = Header::new(op::NOP_IN).with(at::TASK_TAG, NO_TAG);
        fake.send(ping.with(at::TRANSFER_TAG, 77), b"echo");
        let echo = fake.hear();
        assert_eq!(
            (echo.operation(), echo.word(at::TRANSFER_TAG)),
            (op::NOP_OUT, 77)
        );
        assert_eq!(fake.rx.data().unwrap(), b"echo");
        fake.send(answer.flags(0), &[1; 300]);
        let last = answer
            .flags(flag::FINAL | flag::STATUS | flag::UNDERFLOW)
            .with(at::BUFFER_OFFSET, 300)
            .with(at::RESIDUAL, 500);
        fake.send(last, &[2; 200]);
    });
    let mut buffer = [0; 1000];
    let done = path.execute(&TUR, Data::In(&mut buffer), SOON).unwrap();
    assert_eq!((done.status, done.transferred), (status::GOOD, 500));
    assert!(buffer[..300] == [1; 300] && buffer[300..500] == [2; 200]);
    serving.join().unwrap();
}

#[test]
fn sense_comes_with_its_length_before_it() {
    let (serving, mut path) = target(Keys::new(), |fake| {
        let answer = fake.hear_command(op::RESPONSE);
        fake.send(answer.byte(3, 2), &[0, 3, 0x70, 0, 6, 9, 9]);
    });
    let done = path.execute(&TUR, Data::None, SOON).unwrap();
    assert_eq!((done.status, done.sense), (2, vec![0x70, 0, 6]));
    serving.join().unwrap();
}

#[test]
fn a_path_that_is_idle_answers_pings() {
    let (serving, path) = target(Keys::new(), |fake| {
        let ping = Header::new(op::NOP_IN).with(at::TASK_TAG, NO_TAG);
        fake.send(ping.with(at::TRANSFER_TAG, 5), &[]);
        let echo = fake.hear();
        assert_eq!(
            (echo.operation(), echo.word(at::TRANSFER_TAG)),
            (op::NOP_OUT, 5)
        );
        assert_eq!(echo.word(at::TASK_TAG), NO_TAG);
    });
    serving.join().unwrap();
    drop(path);
}

#[test]
fn a_target_that_asks_for_it_is_left_and_the_path_stays_lost() {
    let (serving, mut path) = target(Keys::new(), |fake| {
        let event = Header::new(op::ASYNC)
            .with(at::TASK_TAG, NO_TAG)
            .byte(36, 1);
        let answer = fake.hear_command(op::RESPONSE);
        fake.send(event, &[]);
        fake.send(answer, &[]);
        let logout = fake.hear();
        assert_eq!(logout.operation(), op::LOGOUT_REQUEST);
        let answer = Header::new(op::LOGOUT_RESPONSE);
        fake.send(answer.with(at::TASK_TAG, logout.word(at::TASK_TAG)), &[]);
        assert!(matches!(fake.rx.next(SOON), Err(pdu::Fault::Closed)));
    });
    // The command that was under way is answered; no further one is sent.
    path.execute(&TUR, Data::None, SOON).unwrap();
    let why = reason(path.execute(&TUR, Data::None, SOON));
    assert!(why.contains("log out"), "{why}");
    reason(path.execute(&TUR, Data::None, SOON));
    serving.join().unwrap();
}

#[test]
fn a_command_without_an_answer_is_aborted_and_the_path_stays_lost() {
    let (serving, mut path) = target(Keys::new(), |fake| {
        let answer = fake.hear_command(op::TASK_RESPONSE);
        let abort = fake.hear();
        assert_eq!(abort.operation(), op::TASK_REQUEST);
        assert_eq!((abort.0[1] & 0x7f, abort.to_lun()), (1, Some(3)));
        assert_eq!(abort.word(at::REFERENCED_TASK), answer.word(at::TASK_TAG));
        fake.send(answer.with(at::TASK_TAG, abort.word(at::TASK_TAG)), &[]);
        assert!(matches!(fake.rx.next(SOON), Err(pdu::Fault::Closed)));
    });
    let timeout = path.execute(&TUR, Data::None, Duration::from_millis(50));
    assert!(matches!(timeout, Err(Error::Timeout { .. })), "{timeout:?}");
    let why = reason(path.execute(&TUR, Data::None, SOON));
    assert!(why.contains("open the device again"), "{why}");
    serving.join().unwrap();
}

#[test]
fn whatever_breaks_the_protocol_breaks_the_path() {
    type Wrong = fn(&mut Fake, Header);
    let wrong: [(&str, Wrong); 9] = [
        ("rejects", |fake, _| {
            fake.send(Header::new(op::REJECT).byte(2, 4), &[0; 48]);
        }),
        ("nobody asked", |fake, one| {
            fake.send(one.with(at::TASK_TAG, 99), &[]);
        }),
        ("fit", |fake, one| {
            fake.send(one.byte(0, op::DATA_IN), &[0; 101]);
        }),
        ("fit", |fake, one| {
            fake.send(one.byte(0, op::DATA_IN).with(at::BUFFER_OFFSET, 1), &[0; 9]);
        }),
        ("something else", |fake, one| {
            fake.send(one.byte(0, op::R2T).with(at::DESIRED_LENGTH, 10), &[]);
        }),
        ("response 01h", |fake, one| fake.send(one.byte(2, 1), &[])),
        ("something else", |fake, one| {
            fake.send(one.byte(0, op::LOGIN_RESPONSE), &[]);
        }),
        ("closed", |_, _| {}),
        ("agreed on", |fake, one| {
            use std::io::Write as _;
            let header = one.bytes(5, &[0xff; 3]).0;
            fake.tx.stream().write_all(&header).unwrap();
        }),
    ];
    for (part, then) in wrong {
        let (serving, mut path) = target(Keys::new(), move |fake| {
            let answer = fake.hear_command(op::RESPONSE);
            then(fake, answer);
        });
        let mut buffer = [0; 100];
        let why = reason(path.execute(&TUR, Data::In(&mut buffer), SOON));
        assert!(why.contains(part), "{part}: {why}");
        reason(path.execute(&TUR, Data::None, SOON));
        serving.join().unwrap();
    }
}

#[test]
fn a_command_waits_until_the_target_takes_one() {
    let (serving, mut path) = target(Keys::new(), |fake| {
        let answer = fake.hear_command(op::RESPONSE).with(at::STAT_SN, 1);
        // The window is shut behind this command.
        let shut = answer.with(at::EXP_CMD_SN, 2).with(at::MAX_CMD_SN, 1);
        fake.tx.send(shut, &[]).unwrap();
        let nothing = fake.rx.next(Duration::from_millis(50)).unwrap();
        assert!(nothing.is_none(), "{nothing:?}");
        let ping = Header::new(op::NOP_IN)
            .with(at::TASK_TAG, NO_TAG)
            .with(at::TRANSFER_TAG, NO_TAG)
            .with(at::EXP_CMD_SN, 2)
            .with(at::MAX_CMD_SN, 2);
        fake.tx.send(ping, &[]).unwrap();
        let answer = fake.hear_command(op::RESPONSE);
        fake.send(answer, &[]);
    });
    path.execute(&TUR, Data::None, SOON).unwrap();
    path.execute(&TUR, Data::None, SOON).unwrap();
    serving.join().unwrap();
}

#[test]
fn one_program_of_a_host_has_a_device() {
    let (serving, path) = target(Keys::new(), |_| {});
    let again = Iscsi::open(
        &Address::parse(path.name().strip_prefix("iscsi://").unwrap()).unwrap(),
        &Settings::default(),
    );
    let why = again.err().unwrap().to_string();
    assert!(why.contains("has the device open"), "{why}");
    serving.join().unwrap();
}

#[test]
fn a_host_is_the_same_to_targets_for_ever() {
    let (one, other) = (Settings::default(), Settings::default());
    assert_eq!(one.initiator, other.initiator);
    Settings::check_name(&one.initiator).unwrap();
    assert_eq!(one.isid(3), other.isid(3));
    assert_ne!(one.isid(3), one.isid(4));
    let other = Settings {
        initiator: "iqn.2026-11.internal.taf:another".to_owned(),
        ..other
    };
    assert_ne!(one.isid(3), other.isid(3));
    assert!(Settings::check_name("iqn.2026-11.com.Example").is_err());
    assert!(Settings::check_name("host1").is_err());
}

#[test]
fn what_a_target_says_to_a_login_is_said_to_people() {
    for (status, part) in [
        ([2, 1], "does not believe"),
        ([2, 3], "no such target"),
        ([3, 1], "not in service"),
        ([9, 9], "status 0909"),
        ([1, 1], "does not say where"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = thread::spawn(move || {
            let stream = listener.accept().unwrap().0;
            let mut rx = Receiver::new(stream.try_clone().unwrap(), 1 << 16);
            let request = rx.next(SOON).unwrap().unwrap();
            let answer = Header::new(op::LOGIN_RESPONSE)
                .flags(0)
                .bytes(36, &status)
                .with(at::TASK_TAG, request.word(at::TASK_TAG));
            Sender::new(stream).unwrap().send(answer, &[]).unwrap();
        });
        let why = open(port, &Settings::default()).err().unwrap().to_string();
        assert!(why.contains(part), "{why}");
        serving.join().unwrap();
    }
    let name = Address::parse("nobody@127.0.0.1:1/iqn.x/0").unwrap();
    let why = Iscsi::open(&name, &Settings::default())
        .err()
        .unwrap()
        .to_string();
    assert!(why.contains("no secret of nobody"), "{why}");
}

/// A generator whose every number follows from the seed (xorshift).
struct Chance(u64);

impl Chance {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

#[test]
fn a_thousand_malformed_answers_do_no_harm() {
    let seed = std::env::var("TAF_SEED").map_or_else(
        |_| u64::from_le_bytes(random().unwrap()) | 1,
        |text| text.parse().unwrap(),
    );
    println!("TAF_SEED={seed}");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let rounds = 1000;
    let serving = thread::spawn(move || {
        let mut chance = Chance(seed);
        for _ in 0..rounds {
            use std::io::Write as _;
            let mut fake = Fake::log_in(listener.accept().unwrap().0, Keys::new());
            let answer = fake.hear_command(op::RESPONSE);
            let operations = [
                op::RESPONSE,
                op::DATA_IN,
                op::R2T,
                op::NOP_IN,
                op::ASYNC,
                op::REJECT,
            ];
            let mut bytes = answer
                .byte(0, operations[chance.next(6) as usize])
                .0
                .to_vec();
            bytes.extend((0..chance.next(200)).map(|_| 0x5a));
            bytes[7] = chance.next(220) as u8;
            for _ in 0..chance.next(6) {
                let at = chance.next(bytes.len() as u64) as usize;
                bytes[at] = chance.next(256) as u8;
            }
            // The initiator may be gone already.
            let _ = fake.tx.stream().write_all(&bytes);
        }
    });
    let begun = Instant::now();
    for round in 0..rounds {
        let mut path = open(port, &Settings::default()).unwrap();
        let mut buffer = [0x33; 128];
        let outcome = match round % 3 {
            0 => path.execute(&TUR, Data::In(&mut buffer[..64]), SOON),
            1 => path.execute(&TUR, Data::Out(&[7; 64]), SOON),
            _ => path.execute(&TUR, Data::None, SOON),
        };
        if let Ok(done) = outcome {
            assert!(done.transferred <= 64 && done.sense.len() <= crate::sense::LENGTH_MAX);
        }
        assert_eq!(buffer[64..], [0x33; 64]);
    }
    serving.join().unwrap();
    assert!(
        begun.elapsed() < 3 * SOON,
        "something waited: {:?}",
        begun.elapsed()
    );
}
