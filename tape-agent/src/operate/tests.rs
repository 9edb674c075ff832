#![allow(clippy::unwrap_used)]
use std::cell::Cell;

use super::*;
use crate::rig::{BARCODE, Rig};
use taf_drive::Sync;

fn work(method: EraseMethod) -> EraseWork {
    EraseWork {
        barcode: BARCODE.into(),
        method: method.into(),
        ..EraseWork::default()
    }
}

fn erased(drive: &mut dyn Drive, work: &EraseWork) -> Result<(), Fault> {
    erase(drive, work, &CancellationToken::new(), &|_| {})
}

fn write_something(drive: &mut dyn Drive) {
    drive.rewind().unwrap();
    drive.write_block(&[7; 4096]).unwrap();
    drive.write_filemarks(1, Sync::Synchronous).unwrap();
}

#[test]
fn what_is_foreign_is_erased_by_force_only() {
    for method in [EraseMethod::Quick, EraseMethod::Long, EraseMethod::Format] {
        let rig = Rig::new();
        let mut drive = rig.drive();
        write_something(&mut drive);
        let fault = erased(&mut drive, &work(method)).unwrap_err();
        assert_eq!(fault.reason, "FOREIGN_VOLUME");
        drive.rewind().unwrap();
        let mut block = vec![0; 8192];
        let read = drive.read_block(&mut block).unwrap();
        assert_eq!(read, taf_drive::Read::Block(4096), "{method:?}");
        assert_eq!(block[..4096], [7; 4096]);

        let forced = EraseWork {
            force: true,
            ..work(method)
        };
        erased(&mut drive, &forced).unwrap();
        let found = medium::beginning(&mut drive, BARCODE).unwrap();
        assert!(matches!(found, Beginning::Blank), "{method:?}");
        erased(&mut drive, &work(method)).unwrap();
    }
}

#[test]
fn a_drive_that_is_empty_is_not_waited_for() {
    let rig = Rig::new();
    let mut drive = rig.drive();
    let stop = CancellationToken::new();
    load(&mut drive, "", &stop).unwrap();
    rewind(&mut drive, &stop).unwrap();
    drive.prevent_removal(false).unwrap();
    drive.unload().unwrap();
    load(&mut drive, BARCODE, &stop).unwrap();
    assert!(drive.position().unwrap().beginning);
}

/// A drive that does what a test says, for what the emulator does not show.
struct Playing {
    readiness: Vec<Readiness>,
    at: usize,
    progress: Cell<u16>,
    loads: u32,
}

impl Playing {
    fn new(readiness: &[Readiness]) -> Playing {
        Playing {
            readiness: readiness.to_vec(),
            at: 0,
            progress: Cell::new(0),
            loads: 0,
        }
    }
}

/// What no test asks for.
fn unasked<T>() -> Result<T, Error> {
    Err(Error::NotTaken("nobody asks for this"))
}

impl Drive for Playing {
    fn identity(&self) -> &taf_drive::Identity {
        unimplemented!("nobody asks for it")
    }
    fn block_limits(&mut self) -> Result<taf_drive::BlockLimits, Error> {
        unasked()
    }
    fn attentions(&mut self) -> Result<Vec<taf_scsi::sense::Sense>, Error> {
        Ok(Vec::new())
    }
    fn ready(&mut self) -> Result<Readiness, Error> {
        let now = self.readiness[self.at.min(self.readiness.len() - 1)];
        self.at += 1;
        Ok(now)
    }
    fn load(&mut self) -> Result<(), Error> {
        self.loads += 1;
        Ok(())
    }
    fn unload(&mut self) -> Result<(), Error> {
        unasked()
    }
    fn rewind(&mut self) -> Result<(), Error> {
        unasked()
    }
    fn prepare(&mut self) -> Result<taf_drive::MediumState, Error> {
        unasked()
    }
    fn write_block(&mut self, _: &[u8]) -> Result<taf_drive::Written, Error> {
        unasked()
    }
    fn write_filemarks(&mut self, _: u32, _: Sync) -> Result<taf_drive::Written, Error> {
        unasked()
    }
    fn read_block(&mut self, _: &mut [u8]) -> Result<taf_drive::Read, Error> {
        unasked()
    }
    fn position(&mut self) -> Result<taf_drive::Position, Error> {
        unasked()
    }
    fn locate(&mut self, _: u64) -> Result<(), Error> {
        unasked()
    }
    fn locate_end_of_data(&mut self) -> Result<(), Error> {
        unasked()
    }
    fn space_filemarks(&mut self, _: i64) -> Result<taf_drive::Spaced, Error> {
        unasked()
    }
    fn locate_file(&mut self, _: u64) -> Result<(), Error> {
        unasked()
    }
    fn prevent_removal(&mut self, _: bool) -> Result<(), Error> {
        unasked()
    }
    fn allow_overwrite(&mut self, _: u64) -> Result<bool, Error> {
        unasked()
    }
    fn log_page(&mut self, _: u8) -> Result<Option<Vec<taf_scsi::page::log::Parameter>>, Error> {
        unasked()
    }
    fn attributes(&mut self) -> Result<Option<Vec<taf_scsi::page::attribute::Attribute>>, Error> {
        unasked()
    }
    fn erase(&mut self, _: bool) -> Result<(), Error> {
        unasked()
    }
    fn begin_long_erase(&mut self) -> Result<bool, Error> {
        Ok(true)
    }
    fn format(&mut self) -> Result<(), Error> {
        unasked()
    }
    fn progress(&mut self) -> Result<Option<u16>, Error> {
        self.progress.set(self.progress.get() + 16_384);
        Ok(Some(self.progress.get()))
    }
}

#[test]
fn a_long_erase_shows_how_far_it_is() {
    let mut drive = Playing::new(&[
        Readiness::BecomingReady,
        Readiness::BecomingReady,
        Readiness::Ready,
    ]);
    let shown = std::cell::RefCell::new(Vec::new());
    let show = |percent| shown.borrow_mut().push(percent);
    erase_whole(&mut drive, &CancellationToken::new(), &show).unwrap();
    assert_eq!(*shown.borrow(), [25, 50]);
}

#[test]
fn a_cleaning_ends_when_the_cartridge_is_let_go() {
    use Readiness::{Cleaning, CleaningExpired, IncompatibleMedium, LoadRequired, NoMedium, Ready};
    let cleaned = |readiness: &[Readiness]| {
        let mut drive = Playing::new(readiness);
        let end = clean(&mut drive, "CLN001", &CancellationToken::new());
        (end.map_err(|fault| fault.reason), drive.loads)
    };
    assert_eq!(cleaned(&[Cleaning, Cleaning, NoMedium]), (Ok(()), 0));
    assert_eq!(cleaned(&[NoMedium, Cleaning, LoadRequired]), (Ok(()), 0));
    assert_eq!(cleaned(&[LoadRequired, Cleaning, NoMedium]), (Ok(()), 1));
    assert_eq!(cleaned(&[LoadRequired, LoadRequired]), (Ok(()), 1));
    let reason = |state| cleaned(&[state]).0.unwrap_err();
    assert_eq!(reason(CleaningExpired), "CLEANING_EXPIRED");
    assert_eq!(reason(Ready), "NOT_A_CLEANING_CARTRIDGE");
    assert_eq!(reason(IncompatibleMedium), "CLEANING_FAILED");
}
