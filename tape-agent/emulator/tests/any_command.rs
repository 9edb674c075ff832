//! Whatever bytes come as commands: drive and robot answer, in the form of the standards, and go on.
#![allow(clippy::unwrap_used, missing_docs)]

use proptest::prelude::*;
use taf_emulator::cartridge::{Cartridge, Meta};
use taf_emulator::library::{self, Library, NewCartridge, Spec};
use taf_emulator::single;
use taf_scsi::cdb::{self, opcode};
use taf_scsi::sense::Sense;
use taf_scsi::status;
use taf_scsi::target::Target;
use tempfile::TempDir;

/// Any operation code, but those that units know more often.
fn command() -> impl Strategy<Value = Vec<u8>> {
    let known = prop::sample::select(vec![
        opcode::REWIND,
        opcode::REQUEST_SENSE,
        opcode::FORMAT_MEDIUM,
        opcode::INITIALIZE_ELEMENT_STATUS,
        opcode::READ_6,
        opcode::WRITE_6,
        opcode::WRITE_FILEMARKS_6,
        opcode::SPACE_6,
        opcode::INQUIRY,
        opcode::MODE_SELECT_6,
        opcode::ERASE_6,
        opcode::MODE_SENSE_6,
        opcode::LOAD_UNLOAD,
        opcode::LOCATE_10,
        opcode::READ_POSITION,
        opcode::REPORT_DENSITY_SUPPORT,
        opcode::LOG_SENSE,
        opcode::MODE_SELECT_10,
        opcode::MODE_SENSE_10,
        opcode::PERSISTENT_RESERVE_IN,
        opcode::PERSISTENT_RESERVE_OUT,
        opcode::ALLOW_OVERWRITE,
        opcode::READ_ATTRIBUTE,
        opcode::WRITE_ATTRIBUTE,
        opcode::SPACE_16,
        opcode::LOCATE_16,
        opcode::MAINTENANCE_IN,
        opcode::MOVE_MEDIUM,
        opcode::READ_ELEMENT_STATUS,
    ]);
    let first = prop_oneof![4 => known, 1 => any::<u8>()];
    // Small numbers hit more than random ones.
    let byte = prop_oneof![3 => Just(0_u8), 2 => 0..8_u8, 1 => any::<u8>()];
    (first, prop::collection::vec(byte, 15)).prop_map(|(first, rest)| {
        let mut cdb = vec![first];
        cdb.extend(rest);
        cdb.truncate(cdb::length(first).unwrap_or(16));
        // A count of millions of filemarks is allowed, and takes its time.
        if matches!(
            first,
            opcode::WRITE_FILEMARKS_6 | opcode::WRITE_FILEMARKS_16
        ) {
            cdb[2] = 0;
            cdb[3] = 0;
        }
        cdb
    })
}

fn answers(target: &mut dyn Target, cdb: &[u8], out: &[u8]) {
    const CAPACITY: usize = 5000;
    let response = target.execute(cdb, out, CAPACITY);
    assert!(response.data_in.len() <= CAPACITY, "{cdb:02x?}");
    match response.status {
        status::GOOD | status::RESERVATION_CONFLICT => assert!(response.sense.is_empty()),
        status::CHECK_CONDITION => {
            Sense::parse(&response.sense).unwrap();
        }
        other => panic!("status {other:#04x} for {cdb:02x?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_drive_survives_it(
        commands in prop::collection::vec((command(), prop::collection::vec(any::<u8>(), 0..300)), 1..60),
    ) {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("A.tape");
        let meta = Meta {
            capacity: 100_000,
            density: 0x5e,
            ..Meta::default()
        };
        Cartridge::create(&path, &meta).unwrap();
        let mut drive = single::drive(&path, false).unwrap();
        for (cdb, out) in &commands {
            answers(&mut drive, cdb, out);
        }
    }

    #[test]
    fn a_robot_survives_it(
        commands in prop::collection::vec((command(), prop::collection::vec(any::<u8>(), 0..40)), 1..40),
    ) {
        let dir = TempDir::new().unwrap();
        let spec = Spec { mail_slots: 1, ..Spec::new(2, 3, 100_000) };
        Library::create(dir.path(), &spec).unwrap();
        library::add(dir.path(), "A", &NewCartridge::default()).unwrap();
        let library = Library::open(dir.path()).unwrap();
        let mut changer = library.changer().lock();
        for (cdb, out) in &commands {
            answers(&mut *changer, cdb, out);
        }
    }
}
