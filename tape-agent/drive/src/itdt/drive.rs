//! The driver: what goes to `itdt`, what to `st`, and the change between them.

use std::io;

use nix::errno::Errno;
use taf_scsi::cdb::opcode;
use taf_scsi::page::attribute::{self, Attribute};
use taf_scsi::page::log::{self, Parameter};
use taf_scsi::sense::{Key, Sense, code};

use super::program::{Effort, Program};
use super::tape::{Motion, Road, Status, Tape};
use super::{answers, lost};
use crate::error::Error;
use crate::outcome::{
    BlockLimits, Identity, MediumState, Position, Read, Readiness, Spaced, Sync, Written,
};
use crate::watch::{Lane, Watch, given_up};
use crate::{Drive, Reserved};

/// What is read of the memory in a cartridge: `readattr` brings one attribute at a time.
const ATTRIBUTES: [u16; 12] = [
    attribute::REMAINING_CAPACITY,
    attribute::MAXIMUM_CAPACITY,
    attribute::LOAD_COUNT,
    attribute::WRITTEN_IN_LIFE,
    attribute::READ_IN_LIFE,
    attribute::MEDIUM_MANUFACTURER,
    attribute::MEDIUM_SERIAL_NUMBER,
    attribute::MANUFACTURE_DATE,
    attribute::MEDIUM_TYPE,
    attribute::APPLICATION_NAME,
    attribute::USER_TEXT_LABEL,
    attribute::BARCODE,
];
/// Medium type: write once.
const WRITE_ONCE: u64 = 0x80;

/// See [`super`].
#[allow(clippy::struct_excessive_bools)] // independent facts
pub(super) struct ItdtDrive {
    pub(super) name: String,
    identity: Identity,
    pub(super) program: Program,
    road: Box<dyn Road>,
    pub(super) lane: Option<Lane>,
    pub(super) tape: Option<Box<dyn Tape>>,
    limits: Option<BlockLimits>,
    /// Where the tape stands, counted on from the drive's last word.
    pub(super) at: Option<u64>,
    /// Where the tape stood, by the drive's word, when `st` was closed.
    pub(super) left_at: Option<u64>,
    /// `st` would write a filemark if it were closed or sent elsewhere now.
    pub(super) unmarked: bool,
    /// The last motion put the tape at its beginning, and nothing happened since.
    pub(super) at_beginning: bool,
    /// `st` was at the beginning since it was opened, so that its count of filemarks holds.
    pub(super) counts: bool,
    /// The drive once told its position.
    pub(super) tells: bool,
    /// The last write found no room, and the tape was not moved since.
    pub(super) full: bool,
    /// The medium was unloaded and not loaded again, as far as we were asked.
    let_go: bool,
    /// MTSEEK is refused.
    pub(super) spaces: bool,
}

impl ItdtDrive {
    pub(super) fn new(
        name: &str,
        identity: Identity,
        program: Program,
        road: Box<dyn Road>,
        watch: Option<&Watch>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            identity,
            program,
            road,
            lane: watch.map(Watch::lane),
            tape: None,
            limits: None,
            at: None,
            left_at: None,
            unmarked: false,
            at_beginning: false,
            counts: false,
            tells: false,
            spaces: false,
            full: false,
            let_go: false,
        }
    }

    /// Does one thing with `st`, which is opened if need be.
    pub(super) fn on_tape<T>(
        &mut self,
        opcode: u8,
        act: impl FnOnce(&dyn Tape) -> io::Result<T>,
    ) -> Result<io::Result<T>, Error> {
        self.open_tape()?;
        let Some(tape) = self.tape.as_deref() else {
            return Err(self.gone());
        };
        match &self.lane {
            Some(lane) => lane
                .run(opcode, || act(tape))
                .ok_or_else(|| Error::Unknown(given_up(&self.name))),
            None => Ok(act(tape)),
        }
    }

    pub(super) fn status(&mut self) -> Result<io::Result<Status>, Error> {
        self.on_tape(opcode::TEST_UNIT_READY, |tape| tape.status())
    }

    pub(super) fn run(&mut self, opcode: u8, motion: Motion) -> Result<io::Result<()>, Error> {
        self.on_tape(opcode, |tape| tape.run(motion))
    }

    /// The drive's word on where the tape stands, if it gives one.
    pub(super) fn tell(&mut self) -> Result<Option<u64>, Error> {
        match self.on_tape(opcode::READ_POSITION, |tape| tape.tell())? {
            Ok(block) => {
                self.tells = true;
                self.at = Some(block);
                Ok(Some(block))
            }
            Err(error) if is(&error, Errno::EIO) => match self.status()? {
                Ok(_) => Ok(None),
                Err(_) => Err(self.news()),
            },
            Err(error) => Err(self.fault(&error)?),
        }
    }

    /// Opens `st`, sets it up, and sees that the tape is where it was left.
    fn open_tape(&mut self) -> Result<(), Error> {
        if self.tape.is_some() {
            return Ok(());
        }
        let tape = self.road.open()?;
        match tape.run(Motion::Options) {
            Ok(()) => {}
            Err(error) if is(&error, Errno::EPERM) => {
                return Err(Error::NotTaken(
                    "options of the kernel's tape driver, which only root may set; run as root, which itdt needs as well",
                ));
            }
            Err(error) => return Err(lost(&self.name, error.to_string())),
        }
        self.tape = Some(tape);
        self.unmarked = false;
        self.counts = false;
        let Some(left_at) = self.left_at.take() else {
            return Ok(());
        };
        match self.tell()? {
            Some(now) if now == left_at => Ok(()),
            now => {
                tracing::warn!(
                    device = self.name,
                    left_at,
                    now,
                    "the tape is not where it was left: another program was at it, or the drive was reset"
                );
                Err(self.news())
            }
        }
    }

    /// Something happened to the drive behind our back. It is told as the drive itself would tell a reset: `st` has taken its
    /// own words for it.
    pub(super) fn news(&mut self) -> Error {
        // Whatever `st` still believes is wrong. It writes no filemark once it has lost its place.
        self.tape = None;
        self.unmarked = false;
        self.forget();
        Error::UnitAttention(Sense::new(Key::UnitAttention, RESET))
    }

    /// What an error of the kernel means that says it by its number; for [`Errno::EIO`], which says nothing, whether the drive was
    /// reset is found out here, and all else by who asked.
    pub(super) fn fault(&mut self, error: &io::Error) -> Result<Error, Error> {
        let sense = |key, code| Sense::new(key, code);
        Ok(match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOMEDIUM) => {
                Error::NotReady(sense(Key::NotReady, code::MEDIUM_NOT_PRESENT))
            }
            Some(Errno::EACCES | Errno::EROFS) => {
                Error::WriteProtected(sense(Key::DataProtect, (0x27, 0x00)))
            }
            Some(Errno::EIO) => match self.status()? {
                Err(_) => self.news(),
                Ok(status) if status.online => Error::Medium(sense(Key::MediumError, code::NONE)),
                Ok(_) => Error::NotReady(sense(Key::NotReady, code::NONE)),
            },
            Some(Errno::ENODEV | Errno::ENXIO) => {
                self.tape = None;
                lost(
                    &self.name,
                    "the device is gone, or the kernel has given it up (see dmesg)".to_owned(),
                )
            }
            _ => lost(&self.name, error.to_string()),
        })
    }

    fn gone(&self) -> Error {
        lost(&self.name, "its st device is not open".to_owned())
    }
}

/// Position, settings and everything unflushed are gone.
const RESET: (u8, u8) = (0x29, 0x00);

pub(super) fn is(error: &io::Error, number: Errno) -> bool {
    error.raw_os_error() == Some(number as i32)
}

impl Drive for ItdtDrive {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn block_limits(&mut self) -> Result<BlockLimits, Error> {
        if let Some(limits) = self.limits {
            return Ok(limits);
        }
        match self.road.measure() {
            Ok(limits) => Ok(*self.limits.insert(limits)),
            // It was meant for `st`, which now knows nothing of it.
            Err(Error::UnitAttention(_)) => Err(self.news()),
            Err(error) => Err(error),
        }
    }

    /// `st` and `itdt` take the drive's news themselves. What can be seen of them is that the tape has lost its place.
    fn attentions(&mut self) -> Result<Vec<Sense>, Error> {
        let seen = match self.status() {
            Ok(Ok(_)) => return Ok(Vec::new()),
            Ok(Err(error)) => self.fault(&error)?,
            Err(error) => error,
        };
        match seen {
            Error::UnitAttention(sense) => Ok(vec![sense]),
            error => Err(error),
        }
    }

    fn ready(&mut self) -> Result<Readiness, Error> {
        // Only a command finds out whether it still is.
        if let Ok(status) = self.status()?
            && status.online
            && (!self.tells || self.tell()?.is_some())
        {
            return Ok(Readiness::Ready);
        }
        let asked = self.by_itdt(opcode::TEST_UNIT_READY, Program::ready)?;
        // Opened again, `st` asks the drive itself, and says if there is no medium.
        self.left_at = None;
        self.tape = None;
        let status = self.status()?.unwrap_or_default();
        Ok(match asked {
            Ok(()) if status.online => Readiness::Ready,
            _ if status.no_medium => Readiness::NoMedium,
            // Whether it is threading or waits to be told to, `st` does not say.
            Err(_) if self.let_go => Readiness::LoadRequired,
            Err(output) if answers::wants_load(&output) => Readiness::LoadRequired,
            _ => Readiness::BecomingReady,
        })
    }

    fn progress(&mut self) -> Result<Option<u16>, Error> {
        Ok(None)
    }

    fn load(&mut self) -> Result<(), Error> {
        let loaded = self.moved_by_itdt(Effort::Load, opcode::LOAD_UNLOAD, &["load"]);
        self.let_go = false;
        loaded
    }

    fn unload(&mut self) -> Result<(), Error> {
        self.moved_by_itdt(Effort::Motion, opcode::LOAD_UNLOAD, &["unload"])?;
        self.let_go = true;
        Ok(())
    }

    fn rewind(&mut self) -> Result<(), Error> {
        self.go_to_beginning()
    }

    fn prepare(&mut self) -> Result<MediumState, Error> {
        let status = match self.status()? {
            Ok(status) => status,
            Err(error) => return Err(self.fault(&error)?),
        };
        if status.block_length != 0 {
            self.set(Motion::BlockLength(0), "variable block length")?;
        }
        if !status.buffered {
            self.set(Motion::Buffered, "buffered writes")?;
        }
        let partitions = self.ask(&["qrypart"])?;
        let medium_type = self.read_attributes(&[attribute::MEDIUM_TYPE])?;
        Ok(MediumState {
            write_protected: status.write_protected,
            worm: medium_type.first().and_then(Attribute::number) == Some(WRITE_ONCE),
            density: status.density,
            compression: None,
            partitions: partitions.as_deref().and_then(answers::partitions),
        })
    }

    fn write_block(&mut self, block: &[u8]) -> Result<Written, Error> {
        self.write(block)
    }

    fn write_filemarks(&mut self, count: u32, sync: Sync) -> Result<Written, Error> {
        self.mark(count, sync)
    }

    fn read_block(&mut self, buffer: &mut [u8]) -> Result<Read, Error> {
        self.read(buffer)
    }

    fn position(&mut self) -> Result<Position, Error> {
        let block = self.tell()?.ok_or(Error::PositionUnknown)?;
        let status = match self.status()? {
            Ok(status) => status,
            Err(error) => return Err(self.fault(&error)?),
        };
        Ok(Position {
            partition: status.partition,
            block,
            file: status.file.filter(|_| self.counts),
            beginning: block == 0,
            end_of_medium: status.end_of_medium,
            programmable_early_warning: false,
            buffered_blocks: None,
        })
    }

    fn locate(&mut self, block: u64) -> Result<(), Error> {
        self.seek(block)
    }

    fn locate_end_of_data(&mut self) -> Result<(), Error> {
        self.seek_end()
    }

    fn space_filemarks(&mut self, count: i64) -> Result<Spaced, Error> {
        self.space_marks(count)
    }

    fn prevent_removal(&mut self, prevent: bool) -> Result<(), Error> {
        self.settle()?;
        let motion = if prevent {
            Motion::Lock
        } else {
            Motion::Unlock
        };
        match self.run(opcode::PREVENT_ALLOW_MEDIUM_REMOVAL, motion)? {
            Ok(()) => Ok(()),
            Err(error) if is(&error, Errno::EIO) && self.status()?.is_ok() => Err(
                Error::Unsupported("the drive does not lock its medium in through the kernel's st"),
            ),
            Err(error) => Err(self.fault(&error)?),
        }
    }

    fn allow_overwrite(&mut self, _: u64) -> Result<bool, Error> {
        Ok(false)
    }

    fn reserve(&mut self) -> Result<Reserved, Error> {
        Ok(Reserved::Unsupported)
    }

    fn log_page(&mut self, page: u8) -> Result<Option<Vec<Parameter>>, Error> {
        if page != log::TAPE_USAGE {
            return Ok(None);
        }
        let output = self.ask(&["tapeusage"])?;
        let found = output.map(|output| answers::usage(&output).parameters());
        Ok(found.filter(|found| !found.is_empty()))
    }

    fn attributes(&mut self) -> Result<Option<Vec<Attribute>>, Error> {
        let found = self.read_attributes(&ATTRIBUTES)?;
        Ok(Some(found).filter(|found| !found.is_empty()))
    }

    fn workarounds(&self) -> Vec<&'static str> {
        let mut found = vec![
            "by itdt and st: no reservations, no alerts, no log pages but tape usage, no early warning of its own, no append-only mode, \
             no formatting",
        ];
        if self.spaces {
            found.push("no LOCATE: it goes to the beginning and spaces");
        }
        found
    }

    fn erase(&mut self, long: bool) -> Result<(), Error> {
        self.settle()?;
        let here = self.tell()?;
        // What it erases begins where the tape stands: at the beginning that is made sure of once more.
        let orders: &[&str] = match (self.at_beginning || here == Some(0), long) {
            (true, true) => &["rewind", "erase"],
            (true, false) => &["rewind", "erase", "-short"],
            (false, true) => &["erase"],
            (false, false) => &["erase", "-short"],
        };
        let effort = if long { Effort::Whole } else { Effort::Motion };
        // The one that erases must see the tape where we do, if it says.
        let seen = self.ask(&["qrypos"])?;
        let seen = seen.as_deref().and_then(answers::position);
        if seen.is_some() && here.is_some() && seen != here {
            return Err(Error::PositionUnknown);
        }
        self.moved_by_itdt(effort, opcode::ERASE_6, orders)?;
        // What `st` remembers of what was here is wrong now, and it forgets by being sent somewhere.
        match here {
            Some(block) if block > 0 => self.seek(block),
            _ => self.go_to_beginning(),
        }
    }

    fn begin_long_erase(&mut self) -> Result<bool, Error> {
        Ok(false)
    }

    fn format(&mut self) -> Result<(), Error> {
        Err(Error::Unsupported(
            "by itdt and st nothing is formatted; name the drive serial:NUMBER for it, which needs neither",
        ))
    }
}

impl ItdtDrive {
    fn set(&mut self, motion: Motion, what: &'static str) -> Result<(), Error> {
        match self.run(opcode::MODE_SELECT_6, motion)? {
            Ok(()) => Ok(()),
            Err(error) if is(&error, Errno::EIO) && self.status()?.is_ok() => {
                Err(Error::NotTaken(what))
            }
            Err(error) => Err(self.fault(&error)?),
        }
    }
}

/// Whoever forgets the drive behind a write does not want the filemark that `st` would write now.
impl Drop for ItdtDrive {
    fn drop(&mut self) {
        if self.unmarked
            && let Some(tape) = &self.tape
        {
            let _ = tape.run(Motion::Mark(0));
        }
    }
}
