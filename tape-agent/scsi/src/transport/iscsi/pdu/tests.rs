#![allow(clippy::unwrap_used)]
use std::io::Write as _;
use std::net::TcpListener;
use std::thread;

use super::*;

/// Two ends of one connection.
fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (near, listener.accept().unwrap().0)
}

const SOON: Duration = Duration::from_secs(10);

#[test]
fn pdus_come_back_as_they_went_with_and_without_digests() {
    for digests in [(false, false), (true, false), (false, true), (true, true)] {
        let digests = Digests {
            header: digests.0,
            data: digests.1,
        };
        let (near, far) = pair();
        let mut tx = Sender::new(near).unwrap();
        let mut rx = Receiver::new(far, 1 << 20);
        tx.digests = digests;
        rx.digests = digests;
        let lengths = [0, 1, 2, 3, 4, 5, 511, 512, 70_001];
        let sent = thread::spawn(move || {
            for length in lengths {
                let data: Vec<u8> = (0..length).map(|at| (at * 7) as u8).collect();
                let header = Header::new(op::DATA_OUT).with(at::TASK_TAG, length as u32);
                tx.send(header, &data).unwrap();
            }
        });
        for length in lengths {
            let header = rx.next(SOON).unwrap().unwrap();
            assert_eq!(header.word(at::TASK_TAG), length as u32);
            assert_eq!(header.data_length(), length);
            // Every third is not taken, and is not in the way of the next.
            if length % 3 != 0 {
                let data = rx.data().unwrap();
                assert!(
                    data.iter()
                        .enumerate()
                        .all(|(at, byte)| *byte == (at * 7) as u8)
                );
            }
        }
        sent.join().unwrap();
        assert!(matches!(rx.next(SOON), Err(Fault::Closed)));
    }
}

/// The bytes of one PDU with both digests.
fn bytes_of(header: Header, data: &[u8]) -> Vec<u8> {
    let (near, far) = pair();
    let mut tx = Sender::new(near).unwrap();
    tx.digests = Digests {
        header: true,
        data: true,
    };
    tx.send(header, data).unwrap();
    drop(tx);
    let mut bytes = Vec::new();
    let mut far = far;
    far.read_to_end(&mut bytes).unwrap();
    bytes
}

fn receive(bytes: &[u8]) -> Result<Vec<u8>, Fault> {
    let (mut near, far) = pair();
    near.write_all(bytes).unwrap();
    drop(near);
    let mut rx = Receiver::new(far, 1000);
    rx.digests = Digests {
        header: true,
        data: true,
    };
    rx.next(SOON)?.unwrap();
    rx.data()
}

#[test]
fn every_bit_that_is_turned_over_is_noticed() {
    let bytes = bytes_of(Header::new(op::NOP_IN), b"hello");
    assert_eq!(bytes.len(), 48 + 4 + 8 + 4);
    assert_eq!(receive(&bytes).unwrap(), b"hello");
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 1 << (at % 8);
        assert!(receive(&bad).is_err(), "byte {at}");
    }
    for length in 0..bytes.len() {
        assert!(receive(&bytes[..length]).is_err(), "{length} bytes");
    }
}

#[test]
fn a_length_beyond_what_was_agreed_on_is_refused_before_it_is_read() {
    let (mut near, far) = pair();
    near.write_all(&Header::new(op::NOP_IN).bytes(5, &[0xff; 3]).0)
        .unwrap();
    let mut rx = Receiver::new(far, 4096);
    let refused = rx.next(SOON);
    assert!(
        matches!(
            refused,
            Err(Fault::TooLong {
                length: 0xff_ffff,
                limit: 4096
            })
        ),
        "{refused:?}"
    );
}

#[test]
fn additional_headers_are_passed_over() {
    let header = Header::new(op::COMMAND).byte(4, 2);
    let mut bytes = header.0.to_vec();
    bytes.extend([1; 8]);
    let digest = crc32c::crc32c(&bytes);
    bytes.extend(digest.to_le_bytes());
    assert_eq!(receive(&bytes).unwrap(), b"");
}

#[test]
fn the_digest_is_that_of_the_standard() {
    // RFC 7143 appendix A.4: 32 bytes of zeroes.
    assert_eq!(
        crc32c::crc32c(&[0; 32]).to_le_bytes(),
        [0xaa, 0x36, 0x91, 0x8a]
    );
}

#[test]
fn unit_numbers_have_two_forms() {
    for lun in [0, 1, 255, 256, 16_383] {
        assert_eq!(Header::new(0).lun(lun).to_lun(), Some(lun));
    }
    let flat = Header::new(0).bytes(8, &[0x40, 7]);
    assert_eq!(flat.to_lun(), Some(7));
    for other in [
        [0x01, 0, 0, 0],
        [0x80, 1, 0, 0],
        [0xc1, 1, 0, 0],
        [0, 1, 0, 1],
    ] {
        assert_eq!(Header::new(0).bytes(8, &other).to_lun(), None, "{other:?}");
    }
}
