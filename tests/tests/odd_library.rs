//! Libraries answer READ ELEMENT STATUS in odd ways, each seen on real ones or on tgt. The suite of the library holds on all.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use taf_drive::changer::DriveElement;
use taf_drive::conformance::{self, Verdict};
use taf_drive::{Changer, Drive, Error, ScsiChanger, ScsiDrive};
use taf_emulator::library::{self, Library, NewCartridge, Spec};
use taf_scsi::cdb::opcode::READ_ELEMENT_STATUS;
use taf_scsi::sense::{Key, Sense, code};
use taf_scsi::transport::in_process::InProcess;
use taf_scsi::transport::{self, Completion, Data, Transport};
use tempfile::TempDir;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Oddity {
    /// The last eight bytes are missing, and the lengths don't say so.
    Short,
    /// The header counts other elements than there are.
    Miscounted(u8),
    /// Whatever start, count and kind are asked for, all comes.
    AlwaysAll,
    /// Behind the answer come zeros, up to the allocation length, which count as bytes of the report.
    Padded,
    /// Only so many bytes come at once.
    Little(usize),
    /// Identifiers of drives are not known.
    NoIdentifiers,
    /// Elements are described with tags whether asked for or not.
    AlwaysTags,
}

/// The robot of the emulator, made odd on the way.
struct Odd {
    robot: Box<dyn Transport>,
    oddity: Oddity,
}

impl Odd {
    fn change(&self, report: &mut Vec<u8>, capacity: usize) {
        match self.oddity {
            Oddity::Short => report.truncate(report.len().saturating_sub(8)),
            Oddity::Miscounted(count) => report[2..4].fill(count),
            Oddity::Padded => {
                report.resize(capacity, 0);
                let length = ((capacity - 8) as u32).to_be_bytes();
                report[5..8].copy_from_slice(&length[1..]);
            }
            Oddity::Little(most) => report.truncate(most),
            Oddity::AlwaysAll | Oddity::NoIdentifiers | Oddity::AlwaysTags => {}
        }
    }
}

impl Transport for Odd {
    fn execute(
        &mut self,
        cdb: &[u8],
        data: Data<'_>,
        timeout: Duration,
    ) -> Result<Completion, transport::Error> {
        let buffer = match data {
            Data::In(buffer) if cdb[0] == READ_ELEMENT_STATUS => buffer,
            data => return self.robot.execute(cdb, data, timeout),
        };
        let mut cdb = cdb.to_vec();
        match self.oddity {
            Oddity::AlwaysAll => {
                cdb[1] &= 0xf0;
                cdb[2..6].copy_from_slice(&[0, 0, 0xff, 0xff]);
            }
            Oddity::AlwaysTags => cdb[1] |= 0x10,
            Oddity::NoIdentifiers if cdb[6] & 1 == 1 => {
                return Ok(Completion {
                    status: 2,
                    sense: Sense::new(Key::IllegalRequest, code::INVALID_FIELD_IN_CDB).to_fixed(),
                    transferred: 0,
                });
            }
            _ => {}
        }
        let mut report = vec![0; buffer.len()];
        let mut done = self.robot.execute(&cdb, Data::In(&mut report), timeout)?;
        report.truncate(done.transferred);
        if report.len() > 8 {
            self.change(&mut report, buffer.len());
        }
        done.transferred = report.len();
        buffer[..report.len()].copy_from_slice(&report);
        Ok(done)
    }

    fn max_transfer(&self) -> usize {
        self.robot.max_transfer()
    }

    fn name(&self) -> &'static str {
        "odd"
    }
}

const PICKER: &str = "it names its picker";
const SERIALS: &str = "drives are named by serial number";
const INTO_A_DRIVE: &str = "a cartridge goes into a drive, which has it, and back";

#[test]
fn a_library_that_tells_less_than_an_element_is_not_taken_for_an_empty_one() {
    let dir = TempDir::new().unwrap();
    Library::create(dir.path(), &Spec::new(1, 2, 1 << 20)).unwrap();
    let library = Library::open(dir.path()).unwrap();
    let odd = Odd {
        robot: Box::new(InProcess::new("robot", library.changer_target())),
        oddity: Oddity::Little(24),
    };
    let mut changer = ScsiChanger::new(Box::new(odd)).unwrap();
    changer.attentions().unwrap();
    let error = changer.inventory().unwrap_err().to_string();
    assert!(error.contains("no element came whole"), "{error}");
}

#[test]
fn odd_answers_about_elements_are_understood() {
    // What may be lacking for it: a serial number that did not come whole names no drive.
    let cases: [(Oddity, &[&str]); 9] = [
        (Oddity::Short, &[PICKER, SERIALS]),
        (Oddity::Miscounted(0), &[]),
        (Oddity::Miscounted(0xff), &[]),
        (Oddity::AlwaysAll, &[]),
        (Oddity::Padded, &[]),
        (Oddity::Little(300), &[]),
        (Oddity::Little(90), &[]),
        (Oddity::NoIdentifiers, &[SERIALS, INTO_A_DRIVE]),
        (Oddity::AlwaysTags, &[]),
    ];
    for (oddity, lacking) in cases {
        let dir = TempDir::new().unwrap();
        let spec = Spec {
            mail_slots: 1,
            ..Spec::new(2, 7, 1 << 20)
        };
        Library::create(dir.path(), &spec).unwrap();
        for barcode in ["A00001L8", "A00002L8", "A00003L8"] {
            library::add(dir.path(), barcode, &NewCartridge::default()).unwrap();
        }
        let library = Library::open(dir.path()).unwrap();
        let mut changer = || {
            let robot = Box::new(InProcess::new("robot", library.changer_target()));
            let odd = Box::new(Odd { robot, oddity });
            Ok(Box::new(ScsiChanger::new(odd)?) as Box<dyn Changer>)
        };
        let mut bay = |bay: &DriveElement| {
            for number in 0..2 {
                let target = library.drive_target(number).unwrap();
                let drive = ScsiDrive::new(Box::new(InProcess::new("drive", target)))?;
                if bay.serial.is_some() && drive.identity().serial == bay.serial {
                    return Ok(Box::new(drive) as Box<dyn Drive>);
                }
            }
            Err(Error::NotTaken("no drive of this serial number"))
        };
        let report = conformance::run_library(&mut changer, &mut bay).unwrap();
        println!("{oddity:?}");
        let mut lacks = Vec::new();
        for step in &report {
            println!("  {step}");
            assert!(
                !matches!(step.verdict, Verdict::Failed(_)),
                "{oddity:?}: {step}"
            );
            if matches!(step.verdict, Verdict::Lacking(_)) {
                lacks.push(step.name);
            }
        }
        assert_eq!(lacks, lacking, "{oddity:?}");
    }
}
