//! A tape drive that speaks SSC.
//!
//! What the driver remembers is little: which commands the drive turned out not to know, and whether its last
//! command left the tape at the beginning. The latter decides between *end of data* and *blank*, and every
//! command that could move the tape, also one that fails, forgets it.

use taf_scsi::cdb::{self, LocateTo, PageControl};
use taf_scsi::page::attribute::Attribute;
use taf_scsi::page::block_limits::{self, BlockLimits as LimitsPage};
use taf_scsi::page::density::{self, Density};
use taf_scsi::page::mode::tape::Partitions;
use taf_scsi::page::mode::{self, BlockDescriptor, Mode};
use taf_scsi::page::{inquiry, log};
use taf_scsi::sense::{Key, Sense, code};
use taf_scsi::transport::{Data, Transport};

use crate::Drive;
use crate::device::Device;
use crate::error::Error;
use crate::outcome::{
    BlockLimits, Identity, MediumState, Position, Read, Readiness, Spaced, Sync, Written,
};

mod data;
mod extension;
mod logs;
mod positioning;
mod protection;
mod reservation;
#[cfg(test)]
mod tests;

pub use reservation::{OwnKeys, Reserved};

/// How the drive locates; learnt from what it refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Locating {
    Sixteen,
    Ten,
    Spacing,
}

/// A SCSI tape drive behind any transport.
pub struct ScsiDrive {
    device: Device,
    limits: Option<BlockLimits>,
    locating: Locating,
    long_position: bool,
    /// As the last NOT READY had it.
    progress: Option<u16>,
    keys: Option<OwnKeys>,
}

impl ScsiDrive {
    /// Asks who is there; [`Error::WrongDevice`] if it isn't a tape drive. Sends nothing that depends on a
    /// medium and takes no unit attention.
    pub fn new(transport: Box<dyn Transport>) -> Result<Self, Error> {
        Ok(Self {
            device: Device::new(transport, inquiry::TYPE_TAPE, "tape drive")?,
            limits: None,
            locating: Locating::Sixteen,
            long_position: true,
            progress: None,
            keys: None,
        })
    }

    /// Runs a command that may move the tape.
    fn move_by(&mut self, cdb: &[u8]) -> Result<Option<Sense>, Error> {
        self.device.at_beginning = false;
        Ok(self.device.run(cdb, Data::None)?.sense)
    }

    fn sense_mode(&mut self, page: u8) -> Result<Mode, Error> {
        let cdb = cdb::mode_sense_6(PageControl::Current, page, 0, 255);
        Ok(Mode::parse_6(&self.device.fetch(&cdb, 255)?)?)
    }

    /// A bit of a page's third byte; `None` if the drive has no such page.
    fn mode_flag(&mut self, page: u8, bit: u8) -> Result<Option<bool>, Error> {
        match self.sense_mode(page) {
            Ok(mode) => Ok(mode
                .page(page, 0)
                .and_then(|page| page.get(2))
                .map(|flags| flags & bit != 0)),
            Err(Error::IllegalRequest(_) | Error::Answer(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// How many partitions the medium has, if the drive says (page 11h).
    fn partitions(&mut self) -> Result<Option<u8>, Error> {
        match self.sense_mode(mode::MEDIUM_PARTITION) {
            Ok(mode) => Ok(mode
                .page(mode::MEDIUM_PARTITION, 0)
                .and_then(|page| Partitions::parse(page).ok())
                .map(|partitions| partitions.additional.saturating_add(1))),
            Err(Error::IllegalRequest(_) | Error::Answer(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn allow(&mut self, allow_overwrite: &[u8]) -> Result<bool, Error> {
        match self.device.order(allow_overwrite) {
            Ok(()) => Ok(true),
            Err(error) if error.unsupported() => Ok(false),
            Err(Error::IllegalRequest(sense))
                if matches!(
                    sense.code(),
                    code::NOT_IN_APPEND_ONLY_MODE | code::COMMAND_SEQUENCE_ERROR
                ) =>
            {
                // The drive knows append-only mode but isn't in it: everything may be overwritten anyway.
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether a drive that is becoming ready says that it calibrates (log page 11h, activity 0Bh).
    fn calibrates(&mut self) -> bool {
        const STATUS_PAGE: u8 = 0x11;
        const CALIBRATING: u8 = 0x0b;
        self.device
            .fetch(&cdb::log_sense(STATUS_PAGE, 0, 512), 512)
            .ok()
            .and_then(|bytes| log::parse(STATUS_PAGE, &bytes).ok())
            .and_then(|parameters| parameters.into_iter().find(|one| one.code == 0))
            .is_some_and(|status| status.value.get(2) == Some(&CALIBRATING))
    }
}

impl Drive for ScsiDrive {
    fn identity(&self) -> &Identity {
        &self.device.identity
    }

    fn block_limits(&mut self) -> Result<BlockLimits, Error> {
        if let Some(limits) = self.limits {
            return Ok(limits);
        }
        let bytes = self
            .device
            .fetch(&cdb::read_block_limits(), block_limits::LENGTH)?;
        let page = LimitsPage::parse(&bytes)?;
        let path = self
            .device
            .transport
            .max_transfer()
            .min(cdb::TRANSFER_LENGTH_MAX);
        let limits = BlockLimits {
            min: usize::from(page.min).max(1),
            max: match page.max {
                0 => path,
                max => path.min(max as usize),
            },
        };
        self.limits = Some(limits);
        Ok(limits)
    }

    fn attentions(&mut self) -> Result<Vec<Sense>, Error> {
        self.device.attentions()
    }

    fn ready(&mut self) -> Result<Readiness, Error> {
        let sense = match self.device.order(&cdb::test_unit_ready()) {
            Ok(()) => return Ok(Readiness::Ready),
            Err(Error::NotReady(sense)) => sense,
            Err(error) => return Err(error),
        };
        self.progress = sense.progress;
        match sense.code() {
            code::BECOMING_READY | code::OPERATION_IN_PROGRESS | code::FORMAT_IN_PROGRESS => {
                Ok(if self.calibrates() {
                    Readiness::Calibrating
                } else {
                    Readiness::BecomingReady
                })
            }
            code::LOAD_REQUIRED | code::MEDIUM_NOT_PRESENT_MAM => Ok(Readiness::LoadRequired),
            code::CLEANING_CARTRIDGE => Ok(Readiness::Cleaning),
            code::CLEANING_EXPIRED => Ok(Readiness::CleaningExpired),
            (0x3a, _) => Ok(Readiness::NoMedium),
            (0x30, _) => Ok(Readiness::IncompatibleMedium),
            _ => Err(Error::NotReady(sense)),
        }
    }

    fn progress(&mut self) -> Result<Option<u16>, Error> {
        const LENGTH: u8 = 252;
        let mut progress = self.progress;
        if progress.is_none() {
            let cdb = cdb::request_sense(LENGTH);
            let bytes = self.device.fetch(&cdb, usize::from(LENGTH))?;
            match Sense::parse(&bytes) {
                // Asking takes the news away, so they must not be kept back.
                Some(sense) if sense.deferred || sense.key == Key::UnitAttention => {
                    return Err(Error::from_sense(sense));
                }
                sense => progress = sense.and_then(|sense| sense.progress),
            }
        }
        Ok(progress)
    }

    fn load(&mut self) -> Result<(), Error> {
        // Whether the tape is at its beginning afterwards is up to the drive: one that was loaded may stay.
        self.move_by(&cdb::load_unload(true)).map(|_| ())
    }

    fn unload(&mut self) -> Result<(), Error> {
        self.move_by(&cdb::load_unload(false)).map(|_| ())
    }

    fn rewind(&mut self) -> Result<(), Error> {
        self.move_by(&cdb::rewind())?;
        self.device.at_beginning = true;
        Ok(())
    }

    fn prepare(&mut self) -> Result<MediumState, Error> {
        self.device.learn_timeouts()?;
        // What the path carries may have changed since the last medium; a volume with larger blocks is then refused.
        self.limits = None;
        self.device.transport.measure()?;
        let mut mode = self.sense_mode(0)?;
        let ours = |mode: &Mode| {
            mode.buffered_mode == 1 && mode.block.is_none_or(|block| block.block_length == 0)
        };
        if !ours(&mode) {
            let wanted = Mode {
                buffered_mode: 1,
                block: Some(BlockDescriptor {
                    density: mode.block.map_or(0, |block| block.density),
                    blocks: 0,
                    block_length: 0,
                }),
                pages: Vec::new(),
                ..mode.clone()
            };
            let list = wanted.build_select_6();
            self.device
                .run(&cdb::mode_select_6(list.len() as u8), Data::Out(&list))?;
            mode = self.sense_mode(0)?;
            if mode.block.is_some_and(|block| block.block_length != 0) {
                return Err(Error::NotTaken("variable block length"));
            }
            if !ours(&mode) {
                tracing::warn!(
                    device = self.device.transport.name(),
                    mode = mode.buffered_mode,
                    "the drive keeps its own buffered mode; writing may be slow"
                );
            }
        }
        Ok(MediumState {
            write_protected: mode.write_protected,
            worm: self
                .mode_flag(mode::MEDIUM_CONFIGURATION, 0x01)?
                .unwrap_or(false),
            density: mode.block.map_or(0, |block| block.density),
            compression: self.mode_flag(mode::DATA_COMPRESSION, 0x80)?,
            partitions: self.partitions()?,
        })
    }

    fn set_early_warning(&mut self, megabytes: u16) -> Result<bool, Error> {
        self.program_early_warning(megabytes)
    }

    fn set_append_only(&mut self, on: bool) -> Result<bool, Error> {
        self.program_append_only(on)
    }

    fn densities(&mut self) -> Result<Option<Vec<Density>>, Error> {
        const CAPACITY: u16 = 4 << 10;
        let cdb = cdb::report_density_support(false, CAPACITY);
        match self.device.fetch(&cdb, usize::from(CAPACITY)) {
            Ok(bytes) => Ok(density::parse(&bytes).ok().filter(|list| !list.is_empty())),
            Err(Error::IllegalRequest(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn block_protection(&mut self) -> Result<Option<bool>, Error> {
        self.asks_block_protection()
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
        self.tell()
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
        self.device
            .order(&cdb::prevent_allow_medium_removal(prevent))
    }

    fn allow_overwrite(&mut self, block: u64) -> Result<bool, Error> {
        self.allow(&cdb::allow_overwrite(block))
    }

    fn allow_format(&mut self) -> Result<bool, Error> {
        self.allow(&cdb::allow_format())
    }

    fn reserve_with(&mut self, keys: OwnKeys) {
        self.keys = Some(keys);
    }

    fn reserve(&mut self) -> Result<Reserved, Error> {
        match self.keys.clone() {
            Some(keys) => self.hold(&keys),
            None => Ok(Reserved::NotAsked),
        }
    }

    fn release(&mut self) -> Result<(), Error> {
        match self.keys.clone() {
            Some(keys) => self.let_go(&keys),
            None => Ok(()),
        }
    }

    fn log_page(&mut self, page: u8) -> Result<Option<Vec<log::Parameter>>, Error> {
        self.fetch_log(page)
    }

    fn attributes(&mut self) -> Result<Option<Vec<Attribute>>, Error> {
        self.fetch_attributes()
    }

    fn workarounds(&self) -> Vec<&'static str> {
        let mut found = Vec::new();
        match self.locating {
            Locating::Sixteen => {}
            Locating::Ten => {
                found.push("no LOCATE(16): the one of 10 bytes reaches 4 billion objects");
            }
            Locating::Spacing => found.push("no LOCATE: it goes to the beginning and spaces"),
        }
        if !self.long_position {
            found.push("no long READ POSITION: it doesn't count tape files");
        }
        found
    }

    fn erase(&mut self, long: bool) -> Result<(), Error> {
        self.move_by(&cdb::erase(long, false)).map(|_| ())
    }

    fn begin_long_erase(&mut self) -> Result<bool, Error> {
        match self.move_by(&cdb::erase(true, true)) {
            Ok(_) => Ok(true),
            Err(error) if error.unsupported() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn format(&mut self) -> Result<(), Error> {
        self.move_by(&cdb::format_medium(cdb::Format::Single, false))
            .map(|_| ())
    }
}
