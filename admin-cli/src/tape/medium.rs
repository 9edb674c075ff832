//! A tape that can be read, whatever is behind it, and where it stands.
//!
//! Turns what the driver says into four things: a block, a filemark, the end, or something that can't be read and is
//! behind us. All else is an error.

use std::ffi::OsStr;
use std::path::Path;

use taf_drive::health::{Alerts, Memory, Statistics};
use taf_drive::reading::{Course, Found, Sought, Stop};
use taf_drive::{
    Attention, Drive, Error as DriveError, MediumState, Position, Read, Readiness, ScsiDrive,
    Spaced,
};
use taf_emulator::{Shared, cartridge, single};
use taf_format::limits;
use taf_scsi::transport::in_process::InProcess;

use super::Error;

/// See the module.
pub struct Medium {
    drive: Box<dyn Drive>,
    tape: MediumState,
    name: String,
    buffer: Vec<u8>,
    /// The object (block or filemark) that is read next.
    at: u64,
    course: Course<'static, DriveError>,
}

/// Opens a device anew.
pub type Opener = Box<dyn Fn() -> Result<Box<dyn Drive>, DriveError>>;

fn is_device(path: &Path, shown: &str) -> bool {
    !path.is_file()
        && ["serial:", "unix:", "iscsi://", "itdt:", "/dev/"]
            .iter()
            .any(|start| shown.starts_with(start))
}

/// A drive of the emulator, in this process, with the cartridge of a file in it.
fn emulated(
    path: &Path,
    shown: &str,
    read_only: bool,
) -> Result<Result<Box<dyn Drive>, DriveError>, cartridge::Error> {
    let emulated = Shared::new(single::drive(path, read_only)?);
    let transport = InProcess::new(shown.to_owned(), emulated.target());
    Ok(ScsiDrive::new(Box::new(transport)).map(|drive| Box::new(drive) as Box<dyn Drive>))
}

/// What comes next on the tape.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<'a> {
    /// A block.
    Block(&'a [u8]),
    /// A filemark.
    Filemark,
    /// Nothing is recorded from here on.
    End,
    /// A block that can't be read; the tape is behind it.
    Unreadable,
}

impl Medium {
    /// Opens a cartridge's file, or a drive by its device name with the tape that is in it. Nothing is locked and
    /// nothing is written.
    pub fn open(name: &OsStr) -> Result<Self, Error> {
        Self::connect(name, false)
    }

    /// The same to write. A drive is it already; a cartridge's file is opened anew, and locked.
    pub fn into_writable(self) -> Result<Self, Error> {
        let path = Path::new(&self.name);
        if is_device(path, &self.name) {
            return Ok(self);
        }
        let Self { drive, name, .. } = self;
        drop(drive);
        Self::connect(OsStr::new(&name), true)
    }

    fn connect(name: &OsStr, writable: bool) -> Result<Self, Error> {
        let path = Path::new(name);
        let shown = path.display().to_string();
        let failed = |action| {
            let device = shown.clone();
            move |source| Error::Drive {
                device,
                action,
                source,
            }
        };
        let mut drive = if is_device(path, &shown) {
            taf_drive::open(&shown).map_err(failed("be opened"))?
        } else {
            emulated(path, &shown, !writable)?.map_err(failed("be opened"))?
        };
        drive.attentions().map_err(failed("report its state"))?;
        let mut readiness = drive.ready().map_err(failed("report its state"))?;
        if readiness == Readiness::LoadRequired {
            drive.load().map_err(failed("load the tape"))?;
            readiness = drive.ready().map_err(failed("report its state"))?;
        }
        let state = match readiness {
            Readiness::Ready => "",
            Readiness::BecomingReady => "it is not ready yet",
            Readiness::Calibrating => "it calibrates a new tape, which takes up to two hours",
            Readiness::NoMedium => "it is empty",
            Readiness::LoadRequired => "the tape is not loaded",
            Readiness::Cleaning => "a cleaning cartridge is in it",
            Readiness::CleaningExpired => "a cleaning cartridge that is used up is in it",
            Readiness::IncompatibleMedium => "it can't use the tape that is in it",
        };
        if !state.is_empty() {
            return Err(Error::NotReady {
                device: shown,
                state,
            });
        }
        let tape = drive.prepare().map_err(failed("set variable blocks"))?;
        let longest = drive
            .block_limits()
            .map_err(failed("tell its block limits"))?
            .max;
        let mut medium = Self {
            drive,
            tape,
            name: shown,
            buffer: vec![0; longest.min(limits::BLOCK_SIZE_MAX as usize)],
            at: 0,
            course: Course::new(Sought::Objects, &again),
        };
        medium.rewind()?;
        Ok(medium)
    }

    /// The drive, and how to open it anew.
    pub fn into_parts(self) -> (Box<dyn Drive>, Opener) {
        let name = self.name;
        let opener: Opener = Box::new(move || {
            let path = Path::new(&name);
            if is_device(path, &name) {
                return taf_drive::open(&name);
            }
            emulated(path, &name, false).unwrap_or_else(|error| {
                let device = name.clone();
                let reason = error.to_string();
                Err(DriveError::Unknown(taf_scsi::transport::Error::Lost {
                    device,
                    reason,
                }))
            })
        });
        (self.drive, opener)
    }

    /// What the drive says of itself and of the cartridge. Alerts only by the page that keeps them.
    pub fn health(&mut self) -> Result<(Option<Memory>, Statistics, Option<Alerts>), Error> {
        let memory = Memory::read(self.drive.as_mut());
        let statistics = Statistics::read(self.drive.as_mut());
        let alerts = Alerts::peek(self.drive.as_mut());
        Ok((
            self.checked("show the cartridge's memory", memory)?,
            self.checked("show its counters", statistics)?,
            self.checked("show its alerts", alerts)?,
        ))
    }

    /// The object behind the last thing recorded; none if the drive does not find it.
    pub fn end_of_data(&mut self) -> Result<Option<u64>, Error> {
        match self.drive.locate_end_of_data() {
            Err(DriveError::Medium(_) | DriveError::BlankCheck(_)) => return Ok(None),
            outcome => self.checked("go to the end of data", outcome)?,
        }
        let position = self.drive.position();
        self.stands_at(position)?;
        Ok(Some(self.at))
    }

    /// What the drive said of the tape.
    pub fn tape(&self) -> MediumState {
        self.tape
    }

    /// Whether nothing was ever written: said by the drive, which put the tape at its beginning just before.
    pub fn is_blank(&mut self) -> Result<bool, Error> {
        self.rewind()?;
        let outcome = self.drive.read_block(&mut self.buffer);
        self.course.stands_at(None);
        match outcome {
            Ok(Read::Blank) => Ok(true),
            Ok(_) | Err(DriveError::BlockTooLarge { .. }) => Ok(false),
            outcome => self.checked("read", outcome).map(|_| false),
        }
    }

    /// What it is called in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The object that is read next.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// To the beginning.
    pub fn rewind(&mut self) -> Result<(), Error> {
        let outcome = self.drive.rewind();
        self.checked("rewind", outcome)?;
        self.at = 0;
        self.course.stands_at(Some(0));
        Ok(())
    }

    /// To an object. False if nothing is recorded there.
    pub fn locate(&mut self, object: u64) -> Result<bool, Error> {
        match self.drive.locate(object) {
            Err(DriveError::BlankCheck(_)) => Ok(false),
            outcome => {
                self.checked("go to a block", outcome)?;
                self.at = object;
                self.course.stands_at(Some(object));
                Ok(true)
            }
        }
    }

    /// To behind the next filemark; false if the recording ends before one.
    pub fn next_file(&mut self) -> Result<bool, Error> {
        let outcome = self.drive.space_filemarks(1);
        let spaced = self.checked("go over a filemark", outcome)?;
        let position = self.drive.position();
        self.stands_at(position)?;
        Ok(spaced == Spaced::All)
    }

    fn stands_at(&mut self, position: Result<Position, DriveError>) -> Result<(), Error> {
        self.at = self.checked("tell where the tape stands", position)?.block;
        self.course.stands_at(Some(self.at));
        Ok(())
    }

    /// Reads what comes next; around damage as the tape agent does.
    pub fn read(&mut self) -> Result<Next<'_>, Error> {
        let drive = self.drive.as_mut();
        let found = self.course.read(drive, &mut self.buffer, self.at, u64::MAX);
        let next = match found {
            Ok(Found::Read(Read::Block(length))) => Next::Block(&self.buffer[..length]),
            Ok(Found::Read(Read::Filemark)) => Next::Filemark,
            Ok(Found::Read(Read::EndOfData | Read::Blank)) => return Ok(Next::End),
            // A block longer than any of ours is none of ours.
            Ok(Found::Longer(_) | Found::Lost(_)) => Next::Unreadable,
            Err(Stop::Drive(source) | Stop::Prove(source)) => {
                return Err(Error::Drive {
                    device: self.name.clone(),
                    action: "read",
                    source,
                });
            }
            Err(Stop::Hopeless {
                failures,
                block,
                reason,
            }) => {
                return Err(Error::Unreadable {
                    device: self.name.clone(),
                    failures,
                    block,
                    reason,
                });
            }
        };
        self.at += 1;
        Ok(next)
    }

    fn checked<T>(&self, action: &'static str, outcome: Result<T, DriveError>) -> Result<T, Error> {
        outcome.map_err(|source| Error::Drive {
            device: self.name.clone(),
            action,
            source,
        })
    }
}

/// Sets the drive up again after news of it. Another cartridge is not what was to be read.
fn again(drive: &mut dyn Drive, news: &DriveError) -> Result<(), DriveError> {
    let further = drive.attentions()?;
    let first = match news {
        DriveError::UnitAttention(sense) => Some(*sense),
        _ => None,
    };
    let changed = |sense: &_| Attention::of(sense) == Attention::MediumChanged;
    match first.into_iter().chain(further).find(changed) {
        Some(sense) => Err(DriveError::UnitAttention(sense)),
        None => drive.prepare().map(|_| ()),
    }
}

/// Gives the blocks of a tape file of a cartridge's file to `out`, one after another, also while a drive has it: what
/// was flushed.
pub fn read_cartridge<E: From<Error>>(
    path: &Path,
    file: u64,
    mut out: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let reader = cartridge::Reader::open(path).map_err(Error::from)?;
    for block in reader.blocks(file).map_err(Error::from)? {
        out(&block.map_err(Error::from)?)?;
    }
    Ok(())
}
