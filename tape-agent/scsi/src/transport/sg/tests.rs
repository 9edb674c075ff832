#![allow(clippy::unwrap_used)]
use std::fs;
use std::sync::{Arc, Mutex};

use super::*;

/// What the path was asked to carry, and whether it was.
type Seen = Arc<Mutex<Vec<usize>>>;

/// A kernel that carries so many bytes in one transfer, whatever it says, and otherwise echoes.
struct Fake {
    carries: usize,
    errno: Errno,
    answer: Answer,
    seen: Seen,
}

impl Kernel for Fake {
    fn run(&mut self, cdb: &[u8], data: Data<'_>, _: u32) -> io::Result<Answer> {
        let length = match &data {
            Data::None => 0,
            Data::In(buffer) => buffer.len(),
            Data::Out(bytes) => bytes.len(),
        };
        self.seen.lock().unwrap().push(length);
        if length > self.carries {
            return Err(self.errno.into());
        }
        match data {
            Data::None => {}
            Data::In(buffer) => {
                assert!(aligned::is_aligned(buffer));
                buffer.fill(cdb[0]);
            }
            Data::Out(bytes) => assert!(aligned::is_aligned(bytes)),
        }
        Ok(self.answer.clone())
    }

    fn reserve(&mut self, bytes: usize) {
        assert!(bytes <= self.carries);
    }
}

fn path(carries: usize, errno: Errno, answer: Answer) -> (Sg, Seen) {
    let seen = Seen::default();
    let kernel = Fake {
        carries,
        errno,
        answer,
        seen: Arc::clone(&seen),
    };
    (
        Sg::with("/dev/sg7".into(), Box::new(kernel), Guard::none()),
        seen,
    )
}

const LIMIT: Duration = Duration::from_secs(5);

#[test]
fn the_largest_transfer_is_measured_to_the_step_whatever_the_kernel_calls_its_refusal() {
    for errno in [Errno::EINVAL, Errno::ENOMEM] {
        for (carries, wanted) in [
            (TRANSFER_MAX, TRANSFER_MAX),
            (512 << 10, 512 << 10),
            ((1 << 20) - 1, (1 << 20) - STEP),
            (STEP, STEP),
        ] {
            let (mut path, seen) = path(carries, errno, Answer::default());
            assert_eq!(path.measure().unwrap(), wanted);
            assert_eq!(path.max_transfer(), wanted);
            assert!(seen.lock().unwrap().len() < 12);
        }
    }
}

#[test]
fn a_path_that_carries_less_than_the_least_says_what_is_wrong() {
    let (mut path, _) = path(4096, Errno::EINVAL, Answer::default());
    let error = path.measure().unwrap_err().to_string();
    assert!(error.contains("not sent"), "{error}");
}

#[test]
fn a_refusal_at_work_is_too_large_and_the_next_such_transfer_is_not_tried() {
    let (mut path, seen) = path(512 << 10, Errno::EINVAL, Answer::default());
    let mut block = vec![0; 1 << 20];
    for data in [Data::Out(&block.clone()), Data::In(&mut block)] {
        let error = path.execute(&[0; 6], data, LIMIT).unwrap_err();
        let largest = (1 << 20) - STEP;
        assert!(
            matches!(error, Error::TooLarge { length: 0x10_0000, largest: l, .. } if l == largest),
            "{error}"
        );
    }
    assert_eq!(*seen.lock().unwrap(), [1 << 20]);
    // It was not sent, so the path is as good as before; and measuring finds the truth.
    path.execute(&[0; 6], Data::None, LIMIT).unwrap();
    assert_eq!(path.measure().unwrap(), 512 << 10);
}

#[test]
fn what_the_kernel_does_not_take_is_refused_and_what_it_loses_is_lost() {
    for (errno, refused) in [
        (Errno::EPERM, true),
        (Errno::ENOMEM, true),
        (Errno::EINVAL, true),
        (Errno::EINTR, false),
        (Errno::EIO, false),
        (Errno::ENODEV, false),
        (Errno::ENXIO, false),
    ] {
        let (mut path, seen) = path(0, errno, Answer::default());
        let error = path
            .execute(&[0; 6], Data::In(&mut [0; 8]), LIMIT)
            .unwrap_err();
        assert_eq!(matches!(error, Error::Refused { .. }), refused, "{error}");
        assert_eq!(matches!(error, Error::Lost { .. }), !refused, "{error}");
        let again = path.execute(&[0; 6], Data::None, LIMIT);
        assert_eq!(again.is_ok(), refused);
        // A path that was lost sends nothing more.
        assert_eq!(seen.lock().unwrap().len(), 1 + usize::from(refused));
    }
}

#[test]
fn after_a_timeout_the_path_stays_lost() {
    let answer = Answer {
        host: 3,
        ..Answer::default()
    };
    let (mut path, seen) = path(STEP, Errno::EINVAL, answer);
    let error = path.execute(&[0; 6], Data::None, LIMIT).unwrap_err();
    assert!(
        matches!(error, Error::Timeout { seconds: 5, .. }),
        "{error}"
    );
    let error = path.execute(&[0; 6], Data::None, LIMIT).unwrap_err();
    assert!(
        error.to_string().contains("open the device again"),
        "{error}"
    );
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[test]
fn bytes_come_back_from_an_aligned_buffer_into_any() {
    let (mut path, _) = path(STEP, Errno::EINVAL, Answer::default());
    let mut bytes = [0_u8; 5000];
    for start in 0..3 {
        let slice = &mut bytes[start..];
        let length = slice.len();
        let done = path.execute(&[0xab; 6], Data::In(slice), LIMIT).unwrap();
        assert_eq!(done.transferred, length);
        assert!(slice.iter().all(|&byte| byte == 0xab));
        slice.fill(0);
    }
    path.execute(&[0; 6], Data::Out(&bytes[1..]), LIMIT)
        .unwrap();
}

#[test]
fn what_is_no_sg_device_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    for (node, part) in [
        (Path::new("/dev/no-such-node"), "there is no"),
        (&file, "is not a device"),
        (folder.path(), "is not a device"),
        (Path::new("/dev/null"), "another kind (major 1)"),
    ] {
        let error = Sg::open(node, "x").err().unwrap().to_string();
        assert!(
            error.contains(part) && error.contains("taf drive scan"),
            "{error}"
        );
    }
}
