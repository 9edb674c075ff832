//! Counters of a drive, out of its log pages.
//!
//! The pages count from different beginnings: since power on, since the mount, over the cartridge's life. So only differences
//! over one mount are compared; a counter that went back began anew in between, and counts from there.

use taf_scsi::page::log::counters::{
    DataCompression, ErrorCounters, SequentialAccess, TapeCapacity, TapeUsage, VolumeStatistics,
};
use taf_scsi::page::log::status::DeviceStatus;
use taf_scsi::page::log::{self, Parameter};

use crate::{Drive, Error};

/// Pages 17h and 32h count megabytes of this.
const MEGABYTE: u64 = 1_000_000;
/// Page 31h counts these.
const MEBIBYTE: u64 = 1 << 20;

/// Errors of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Errors {
    /// Corrected.
    pub corrected: Option<u64>,
    /// Not corrected: lost.
    pub uncorrected: Option<u64>,
}

/// What the cartridge remembers of its whole life, as page 30h has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Times that it was threaded.
    pub threads: u64,
    /// Data sets written.
    pub sets_written: u64,
    /// Writes done again.
    pub write_retries: u64,
    /// Writes lost.
    pub unrecovered_writes: u64,
    /// Writes that stopped and went back.
    pub suspended_writes: u64,
    /// Writes that stopped for good.
    pub fatal_suspended_writes: u64,
    /// Data sets read.
    pub sets_read: u64,
    /// Reads done again.
    pub read_retries: u64,
    /// Reads lost.
    pub unrecovered_reads: u64,
    /// Reads that stopped and went back.
    pub suspended_reads: u64,
    /// Reads that stopped for good.
    pub fatal_suspended_reads: u64,
}

/// All counters at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Writing.
    pub write: Errors,
    /// Reading.
    pub read: Errors,
    /// Bytes from the host, before compression.
    pub host_written: Option<u64>,
    /// Bytes to the host.
    pub host_read: Option<u64>,
    /// Bytes onto the medium, after compression.
    pub medium_written: Option<u64>,
    /// Bytes from the medium.
    pub medium_read: Option<u64>,
    /// The drive would like to be cleaned (pages 11h, 0Ch).
    pub cleaning_requested: Option<bool>,
    /// The drive has to be cleaned (page 11h).
    pub cleaning_required: Option<bool>,
    /// The cartridge's life, if the drive has page 30h.
    pub usage: Option<Usage>,
    /// Mounts of the cartridge (17h).
    pub volume_mounts: Option<u64>,
    /// Passes over the beginning of the tape (17h).
    pub beginning_passes: Option<u64>,
    /// Bytes written over the cartridge's life (17h).
    pub life_written: Option<u64>,
    /// Bytes read over the cartridge's life (17h).
    pub life_read: Option<u64>,
    /// Native capacity (17h, else 31h).
    pub native_capacity: Option<u64>,
    /// Capacity that is left, by the drive's estimate (31h): a hint, never a promise.
    pub remaining: Option<u64>,
}

/// What was counted between two moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Writing.
    pub write: Errors,
    /// Reading.
    pub read: Errors,
    /// Bytes from the host.
    pub host_written: Option<u64>,
    /// Bytes to the host.
    pub host_read: Option<u64>,
    /// Bytes onto the medium.
    pub medium_written: Option<u64>,
    /// Bytes from the medium.
    pub medium_read: Option<u64>,
    /// Writes done again.
    pub write_retries: Option<u64>,
    /// Reads done again.
    pub read_retries: Option<u64>,
    /// Times that the drive stopped and went back.
    pub suspends: Option<u64>,
    /// Times that it stopped for good.
    pub fatal_suspends: Option<u64>,
}

impl Statistics {
    /// Asks for all pages.
    pub fn read(drive: &mut dyn Drive) -> Result<Self, Error> {
        let mut found = Self {
            write: errors(drive, log::WRITE_ERRORS)?,
            read: errors(drive, log::READ_ERRORS)?,
            ..Self::default()
        };
        found.bytes(drive)?;
        found.status(drive)?;
        found.volume(drive)?;
        found.usage = usage(drive)?;
        found.capacity(drive)?;
        Ok(found)
    }

    fn bytes(&mut self, drive: &mut dyn Drive) -> Result<(), Error> {
        let page = SequentialAccess::of(&page(drive, log::SEQUENTIAL_ACCESS)?);
        self.host_written = page.received;
        self.medium_written = page.written;
        self.medium_read = page.read;
        self.host_read = page.sent;
        self.cleaning_requested = page.cleaning_requested.map(|value| value != 0);
        if self.medium_written.is_some() || self.host_written.is_some() {
            return Ok(());
        }
        let page = DataCompression::of(&self::page(drive, log::DATA_COMPRESSION)?);
        // Megabytes, and the bytes beyond them, in parameters of their own.
        let both = |megabytes: Option<u64>, bytes: Option<u64>| {
            Some(
                megabytes?
                    .saturating_mul(MEGABYTE)
                    .saturating_add(bytes.unwrap_or(0)),
            )
        };
        self.host_read = both(page.megabytes_sent, page.bytes_sent);
        self.medium_read = both(page.megabytes_read, page.bytes_read);
        self.host_written = both(page.megabytes_received, page.bytes_received);
        self.medium_written = both(page.megabytes_written, page.bytes_written);
        Ok(())
    }

    fn status(&mut self, drive: &mut dyn Drive) -> Result<(), Error> {
        let page = page(drive, log::DEVICE_STATUS)?;
        if let Some(status) = DeviceStatus::of(&page).filter(|status| status.valid) {
            let requested = status.cleaning_requested || self.cleaning_requested == Some(true);
            self.cleaning_requested = Some(requested);
            self.cleaning_required = Some(status.cleaning_required);
        }
        Ok(())
    }

    fn volume(&mut self, drive: &mut dyn Drive) -> Result<(), Error> {
        let page = VolumeStatistics::of(&page(drive, log::VOLUME_STATISTICS)?);
        // A page that says of itself that it does not hold is not read.
        if page.valid == Some(0) {
            return Ok(());
        }
        let bytes = |megabytes: Option<u64>| megabytes.map(|count| count.saturating_mul(MEGABYTE));
        self.volume_mounts = page.mounts;
        self.life_written = bytes(page.megabytes_written);
        self.life_read = bytes(page.megabytes_read);
        self.native_capacity = bytes(page.capacity_megabytes).filter(|&capacity| capacity > 0);
        self.beginning_passes = page.beginning_passes;
        Ok(())
    }

    fn capacity(&mut self, drive: &mut dyn Drive) -> Result<(), Error> {
        let page = TapeCapacity::of(&page(drive, log::TAPE_CAPACITY)?);
        let bytes = |mebibytes: Option<u64>| mebibytes.map(|count| count.saturating_mul(MEBIBYTE));
        self.remaining = bytes(page.remaining);
        self.native_capacity = self
            .native_capacity
            .or_else(|| bytes(page.maximum).filter(|&capacity| capacity > 0));
        Ok(())
    }

    /// What was counted since an earlier moment.
    pub fn since(&self, earlier: &Self) -> Counts {
        let usage = |value: fn(&Usage) -> u64| {
            grown(
                self.usage.as_ref().map(value),
                earlier.usage.as_ref().map(value),
            )
        };
        let add = |one: Option<u64>, other: Option<u64>| Some(one?.saturating_add(other?));
        Counts {
            write: self.write.since(earlier.write),
            read: self.read.since(earlier.read),
            host_written: grown(self.host_written, earlier.host_written),
            host_read: grown(self.host_read, earlier.host_read),
            medium_written: grown(self.medium_written, earlier.medium_written),
            medium_read: grown(self.medium_read, earlier.medium_read),
            write_retries: usage(|u| u.write_retries),
            read_retries: usage(|u| u.read_retries),
            suspends: add(usage(|u| u.suspended_writes), usage(|u| u.suspended_reads)),
            fatal_suspends: add(
                usage(|u| u.fatal_suspended_writes),
                usage(|u| u.fatal_suspended_reads),
            ),
        }
    }
}

impl Errors {
    fn since(self, earlier: Self) -> Self {
        Self {
            corrected: grown(self.corrected, earlier.corrected),
            uncorrected: grown(self.uncorrected, earlier.uncorrected),
        }
    }
}

/// A counter that went back began anew.
fn grown(now: Option<u64>, before: Option<u64>) -> Option<u64> {
    let (now, before) = (now?, before?);
    Some(now.checked_sub(before).unwrap_or(now))
}

/// A page that the drive does not have is one without parameters.
fn page(drive: &mut dyn Drive, code: u8) -> Result<Vec<Parameter>, Error> {
    Ok(drive.log_page(code)?.unwrap_or_default())
}

fn errors(drive: &mut dyn Drive, code: u8) -> Result<Errors, Error> {
    let page = ErrorCounters::of(&page(drive, code)?);
    Ok(Errors {
        corrected: page.corrected,
        uncorrected: page.uncorrected,
    })
}

fn usage(drive: &mut dyn Drive) -> Result<Option<Usage>, Error> {
    let page = TapeUsage::of(&page(drive, log::TAPE_USAGE)?);
    // Other makers have other things on this page: only one that has the counters is believed.
    let (Some(threads), Some(unrecovered_writes)) =
        (page.thread_count, page.unrecovered_write_errors)
    else {
        return Ok(None);
    };
    let known = |count: Option<u64>| count.unwrap_or(0);
    Ok(Some(Usage {
        threads,
        sets_written: known(page.data_sets_written),
        write_retries: known(page.write_retries),
        unrecovered_writes,
        suspended_writes: known(page.suspended_writes),
        fatal_suspended_writes: known(page.fatal_suspended_writes),
        sets_read: known(page.data_sets_read),
        read_retries: known(page.read_retries),
        unrecovered_reads: known(page.unrecovered_read_errors),
        suspended_reads: known(page.suspended_reads),
        fatal_suspended_reads: known(page.fatal_suspended_reads),
    }))
}

/// How often, over the cartridge's life, writing stopped and the tape went back, because data did not come in time or for
/// a flush; `None` if the drive does not count that.
pub fn suspended_writes(drive: &mut dyn Drive) -> Result<Option<u64>, Error> {
    let volume = VolumeStatistics::of(&page(drive, log::VOLUME_STATISTICS)?);
    if volume.suspended_writes.is_some() {
        return Ok(volume.suspended_writes);
    }
    Ok(usage(drive)?.map(|usage| usage.suspended_writes))
}
