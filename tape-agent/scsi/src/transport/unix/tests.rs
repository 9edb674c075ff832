#![allow(clippy::unwrap_used)]
use std::sync::mpsc;

use super::*;
use crate::target::{Delivery, Gate, Nexus, Response};
use crate::transport::in_process::InProcess;
use crate::transport::open;

/// Answers WRITE with what it got, reversed, on the next READ.
#[derive(Default)]
struct Echo {
    kept: Vec<u8>,
    seen: Vec<Vec<u8>>,
}

impl Target for Echo {
    fn execute(&mut self, cdb: &[u8], data_out: &[u8], capacity_in: usize) -> Response {
        self.seen.push(cdb.to_vec());
        match cdb[0] {
            cdb::opcode::WRITE_6 => {
                self.kept = data_out.iter().rev().copied().collect();
                Response::default()
            }
            cdb::opcode::READ_6 => Response {
                data_in: self.kept[..self.kept.len().min(capacity_in)].to_vec(),
                ..Response::default()
            },
            _ => Response {
                status: 2,
                sense: vec![0x70, 0, 5],
                data_in: Vec::new(),
            },
        }
    }
}

const SOON: Duration = Duration::from_secs(20);

fn served() -> (tempfile::TempDir, Unix, Arc<Mutex<Echo>>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("drive");
    let listener = UnixListener::bind(&path).unwrap();
    let target = Arc::new(Mutex::new(Echo::default()));
    let theirs = Arc::clone(&target);
    thread::spawn(move || serve(&listener, &theirs));
    let unix = Unix::connect(&path).unwrap();
    (folder, unix, target)
}

fn speaks(transport: &mut dyn Transport) {
    let block: Vec<u8> = (0..1_000_000_u32).map(|n| n as u8).collect();
    let done = transport
        .execute(&cdb::write_6(1_000_000), Data::Out(&block), SOON)
        .unwrap();
    assert_eq!((done.status, done.transferred), (0, 1_000_000));
    let mut buffer = vec![0; 2_000_000];
    let done = transport
        .execute(&cdb::read_6(2_000_000, false), Data::In(&mut buffer), SOON)
        .unwrap();
    assert_eq!(done.transferred, 1_000_000);
    assert!(buffer[..1_000_000].iter().rev().eq(block.iter()));
    let done = transport.execute(&cdb::rewind(), Data::None, SOON).unwrap();
    assert_eq!((done.status, done.sense), (2, vec![0x70, 0, 5]));
    let long = vec![0; TRANSFER_MAX + 1];
    assert!(matches!(
        transport.execute(&cdb::write_6(0), Data::Out(&long), SOON),
        Err(Error::TooLarge { .. })
    ));
}

#[test]
fn commands_data_and_sense_cross_the_socket() {
    let (_folder, mut unix, target) = served();
    speaks(&mut unix);
    assert_eq!(target.lock().unwrap().seen[2], cdb::rewind());
}

#[test]
fn in_process_says_the_same() {
    let target = Arc::new(Mutex::new(Echo::default()));
    speaks(&mut InProcess::new("echo", Arc::clone(&target)));
    let dynamic: Arc<Mutex<dyn Target>> = target;
    let small = InProcess::new("echo", dynamic).with_max_transfer(512);
    assert_eq!(small.max_transfer(), 512);
}

#[test]
fn after_a_timeout_the_path_stays_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hung");
    let listener = UnixListener::bind(&path).unwrap();
    let mut unix = Unix::connect(&path).unwrap();
    let limit = Duration::from_millis(30);
    assert!(matches!(
        unix.execute(&cdb::rewind(), Data::None, limit),
        Err(Error::Timeout { .. })
    ));
    assert!(matches!(
        unix.execute(&cdb::test_unit_ready(), Data::None, SOON),
        Err(Error::Lost { .. })
    ));
    drop(listener);
}

#[test]
fn an_answer_longer_than_asked_for_is_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("liar");
    let listener = UnixListener::bind(&path).unwrap();
    let (done, wait) = mpsc::channel::<()>();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream
            .write_all(&[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff])
            .unwrap();
        wait.recv().ok();
    });
    let mut unix = Unix::connect(&path).unwrap();
    let outcome = unix.execute(&cdb::inquiry(36), Data::In(&mut [0; 36]), SOON);
    assert!(matches!(outcome, Err(Error::Lost { .. })));
    drop(done);
}

#[test]
fn a_closed_connection_is_lost_and_a_request_beyond_the_maximum_ends_it() {
    let (_folder, mut unix, _target) = served();
    let stream = unix.stream.as_mut().unwrap();
    let request = Request {
        cdb: [0; 16],
        out: TRANSFER_MAX + 1,
        capacity: 0,
    };
    stream.write_all(&request.encode()).unwrap();
    assert!(matches!(
        unix.execute(&cdb::rewind(), Data::None, SOON),
        Err(Error::Lost { .. })
    ));
}

#[test]
fn names_of_nothing_say_so() {
    for name in [
        "/dev/sg-none",
        "iscsi://host/iqn/0",
        "tape",
        "unix:/nowhere/at/all",
    ] {
        let error = open(name).err().unwrap().to_string();
        assert!(error.contains(name), "{error}");
    }
}

/// Hangs at REWIND until the gate opens, and hangs up at TEST UNIT READY.
#[derive(Default)]
struct Stubborn {
    gate: Gate,
    rewound: bool,
    gone: Vec<Nexus>,
    seen: Vec<Nexus>,
}

impl Target for Stubborn {
    fn execute(&mut self, _: &[u8], _: &[u8], _: usize) -> Response {
        Response::default()
    }

    fn deliver(&mut self, nexus: Nexus, cdb: &[u8], _: &[u8], _: usize) -> Delivery {
        self.seen.push(nexus);
        match cdb[0] {
            cdb::opcode::REWIND if !self.rewound => {
                self.rewound = true;
                Delivery::Hang {
                    gate: self.gate.clone(),
                    answer: None,
                }
            }
            cdb::opcode::READ_POSITION => {
                let again = self.seen.len() > 1;
                Delivery::After {
                    time: Duration::from_millis(if again { 30 } else { 1 }),
                    answer: again.then(Response::default),
                }
            }
            cdb::opcode::TEST_UNIT_READY => Delivery::Disconnect,
            _ => Delivery::Answer(Response::default()),
        }
    }

    fn disconnected(&mut self, nexus: Nexus) {
        self.gone.push(nexus);
    }
}

#[test]
fn a_target_may_hang_and_hang_up_on_both_paths() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("drive");
    let listener = UnixListener::bind(&path).unwrap();
    let target = Arc::new(Mutex::new(Stubborn::default()));
    let theirs = Arc::clone(&target);
    thread::spawn(move || serve(&listener, &theirs));
    let open: [&dyn Fn() -> Box<dyn Transport>; 2] =
        [&|| Box::new(Unix::connect(&path).unwrap()), &|| {
            Box::new(InProcess::new("stubborn", Arc::clone(&target)))
        }];
    for open in open {
        *target.lock().unwrap() = Stubborn::default();
        let gate = target.lock().unwrap().gate.clone();
        let mut first = open();
        let hanging = thread::spawn(move || {
            let done = first.execute(&cdb::rewind(), Data::None, SOON);
            (first, done)
        });
        while target.lock().unwrap().seen.is_empty() {
            thread::yield_now();
        }
        // Others are served meanwhile, and are others.
        let mut second = open();
        second.execute(&cdb::rewind(), Data::None, SOON).unwrap();
        let seen = target.lock().unwrap().seen.clone();
        assert_ne!(seen[0], seen[1]);
        gate.open();
        let (mut first, done) = hanging.join().unwrap();
        assert_eq!(done.unwrap().status, 0);
        let seen = target.lock().unwrap().seen.clone();
        assert_eq!(seen[2], seen[0], "the same command came again");

        let lost = first.execute(&cdb::test_unit_ready(), Data::None, SOON);
        assert!(matches!(lost, Err(Error::Lost { .. })));
        let lost = first.execute(&cdb::rewind(), Data::None, SOON);
        assert!(matches!(lost, Err(Error::Lost { .. })));
        while !target.lock().unwrap().gone.contains(&seen[0]) {
            thread::yield_now();
        }
    }
}

#[test]
fn an_initiator_that_goes_takes_its_hanging_command_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("drive");
    let listener = UnixListener::bind(&path).unwrap();
    let target = Arc::new(Mutex::new(Stubborn::default()));
    let theirs = Arc::clone(&target);
    thread::spawn(move || serve(&listener, &theirs));
    let mut unix = Unix::connect(&path).unwrap();
    let limit = Duration::from_millis(50);
    let late = unix.execute(&cdb::rewind(), Data::None, limit);
    assert!(matches!(late, Err(Error::Timeout { .. })));
    while target.lock().unwrap().gone.is_empty() {
        thread::yield_now();
    }
    let mut inside = InProcess::new("stubborn", Arc::clone(&target));
    target.lock().unwrap().rewound = false;
    let late = inside.execute(&cdb::rewind(), Data::None, limit);
    assert!(matches!(late, Err(Error::Timeout { .. })));
    assert_eq!(target.lock().unwrap().gone.len(), 2);
}

#[test]
fn an_answer_may_take_its_time_and_come_at_the_second_try() {
    let tell = cdb::read_position(cdb::PositionForm::Long);
    for limit in [SOON, Duration::from_millis(5)] {
        for socket in [true, false] {
            let target = Arc::new(Mutex::new(Stubborn::default()));
            let folder = tempfile::tempdir().unwrap();
            let place = folder.path().join("drive");
            let listener = UnixListener::bind(&place).unwrap();
            let theirs = Arc::clone(&target);
            thread::spawn(move || serve(&listener, &theirs));
            let mut path: Box<dyn Transport> = if socket {
                Box::new(Unix::connect(&place).unwrap())
            } else {
                Box::new(InProcess::new("stubborn", Arc::clone(&target)))
            };
            let before = Instant::now();
            let done = path.execute(&tell, Data::In(&mut [0; 32]), limit);
            if limit == SOON {
                assert_eq!(done.unwrap().status, 0);
                assert!(before.elapsed() >= Duration::from_millis(31));
                assert_eq!(target.lock().unwrap().seen.len(), 2);
            } else {
                assert!(matches!(done, Err(Error::Timeout { .. })));
            }
        }
    }
}
