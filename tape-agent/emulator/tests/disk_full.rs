//! The emulator's own disk is full: the host hears of it, and nothing is claimed that is not so.
//!
//! A limit on file size stands for the full disk. It holds for the whole process, so this is a test alone.
#![allow(clippy::unwrap_used, missing_docs)]

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use taf_emulator::cartridge::{Cartridge, Meta, Reader};
use taf_emulator::single;
use taf_scsi::cdb;
use taf_scsi::sense::{Key, Sense, code};
use taf_scsi::status;
use taf_scsi::target::Target;
use tempfile::TempDir;

#[test]
fn a_full_disk_is_a_write_error_and_a_flush_never_succeeds() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("A.tape");
    let meta = Meta {
        capacity: 1 << 30,
        loads: 0,
        density: 0x5e,
        write_protected: false,
        serial: "S".to_owned(),
        ..Meta::default()
    };
    Cartridge::create(&path, &meta).unwrap();
    let mut drive = single::drive(&path, false).unwrap();
    drive.execute(&cdb::test_unit_ready(), &[], 0);

    let mut no_signal = SigSet::empty();
    no_signal.add(Signal::SIGXFSZ);
    no_signal.thread_block().unwrap();
    setrlimit(Resource::RLIMIT_FSIZE, 1_000_000, 1_000_000).unwrap();

    let block = vec![1; 300_000];
    for _ in 0..5 {
        let done = drive.execute(&cdb::write_6(300_000), &block, 0);
        assert_eq!(done.status, status::GOOD, "the buffer takes it");
    }
    let done = drive.execute(&cdb::write_filemarks_6(1, false), &[], 0);
    let sense = Sense::parse(&done.sense).unwrap();
    assert!(sense.deferred);
    assert_eq!(
        (sense.key, sense.code()),
        (Key::MediumError, code::WRITE_ERROR)
    );
    // Three blocks fit; two more and the filemark did not.
    assert_eq!(sense.information, Some(3));
    assert_eq!(Reader::open(&path).unwrap().objects(), 3);

    let done = drive.execute(&cdb::write_6(300_000), &block, 0);
    assert_eq!(done.status, status::GOOD);
    let done = drive.execute(&cdb::write_filemarks_6(0, false), &[], 0);
    assert_eq!(done.status, status::CHECK_CONDITION);
    let done = drive.execute(&cdb::write_filemarks_6(1, false), &[], 0);
    assert_eq!(done.status, status::GOOD, "sixteen bytes still fit");
    assert_eq!(Reader::open(&path).unwrap().objects(), 4);
}
