//! Counters of a drive, out of its log pages.
//!
//! The pages count from different beginnings: since power on, since the mount, over the cartridge's life. So only differences
//! over one mount are compared; a counter that went back began anew in between, and counts from there.

use taf_scsi::page::log::Parameter;

use super::number;
use crate::{Drive, Error};

/// Page 02h: write errors.
const WRITE_ERRORS: u8 = 0x02;
/// Page 03h: read errors.
const READ_ERRORS: u8 = 0x03;
/// Page 0Ch: bytes through a sequential-access device.
const SEQUENTIAL_ACCESS: u8 = 0x0c;
/// Page 11h: the drive's status bits.
const DRIVE_STATUS: u8 = 0x11;
/// Page 17h: the volume's statistics.
const VOLUME_STATISTICS: u8 = 0x17;
/// Page 30h: what the cartridge remembers of its use (IBM, HPE).
const TAPE_USAGE: u8 = 0x30;
/// Page 31h: capacity (IBM, HPE).
const TAPE_CAPACITY: u8 = 0x31;
/// Page 32h: compression (IBM).
const COMPRESSION: u8 = 0x32;

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
    /// The drive would like to be cleaned (page 11h).
    pub cleaning_requested: Option<bool>,
    /// The drive has to be cleaned (pages 11h, 0Ch).
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
            write: errors(drive, WRITE_ERRORS)?,
            read: errors(drive, READ_ERRORS)?,
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
        let page = drive.log_page(SEQUENTIAL_ACCESS)?;
        let page = page.as_deref();
        self.host_written = number(page, 0x0000);
        self.medium_written = number(page, 0x0001);
        self.medium_read = number(page, 0x0002);
        self.host_read = number(page, 0x0003);
        self.cleaning_required = number(page, 0x0100).map(|value| value != 0);
        if self.medium_written.is_some() || self.host_written.is_some() {
            return Ok(());
        }
        // Megabytes, and the bytes beyond them, in parameters of their own.
        let page = drive.log_page(COMPRESSION)?;
        let page = page.as_deref();
        let both = |megabytes, bytes| {
            Some(
                number(page, megabytes)?.saturating_mul(MEGABYTE)
                    + number(page, bytes).unwrap_or(0),
            )
        };
        self.host_read = both(0x0002, 0x0003);
        self.medium_read = both(0x0004, 0x0005);
        self.host_written = both(0x0006, 0x0007);
        self.medium_written = both(0x0008, 0x0009);
        Ok(())
    }

    fn status(&mut self, drive: &mut dyn Drive) -> Result<(), Error> {
        const REQUESTED: u8 = 0x04;
        const REQUIRED: u8 = 0x02;
        let page = drive.log_page(DRIVE_STATUS)?.unwrap_or_default();
        let status = page.iter().find(|one| one.code == 0);
        if let Some(&bits) = status.and_then(|status| status.value.first()) {
            self.cleaning_requested = Some(bits & REQUESTED != 0);
            let required = bits & REQUIRED != 0;
            self.cleaning_required = Some(required || self.cleaning_required == Some(true));
        }
        Ok(())
    }

    fn volume(&mut self, drive: &mut dyn Drive) -> Result<(), Error> {
        let page = drive.log_page(VOLUME_STATISTICS)?;
        let page = page.as_deref();
        // A page that says of itself that it does not hold is not read.
        if number(page, 0x0000) == Some(0) {
            return Ok(());
        }
        let bytes = |code| number(page, code).map(|megabytes| megabytes.saturating_mul(MEGABYTE));
        self.volume_mounts = number(page, 0x0001);
        self.life_written = bytes(0x0010);
        self.life_read = bytes(0x0011);
        self.native_capacity = bytes(0x0016).filter(|&capacity| capacity > 0);
        self.beginning_passes = number(page, 0x0101);
        Ok(())
    }

    fn capacity(&mut self, drive: &mut dyn Drive) -> Result<(), Error> {
        let page = drive.log_page(TAPE_CAPACITY)?;
        let page = page.as_deref();
        let bytes = |code| number(page, code).map(|mebibytes| mebibytes.saturating_mul(MEBIBYTE));
        self.remaining = bytes(0x0001);
        self.native_capacity = self
            .native_capacity
            .or_else(|| bytes(0x0003).filter(|&capacity| capacity > 0));
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

fn errors(drive: &mut dyn Drive, page: u8) -> Result<Errors, Error> {
    let page = drive.log_page(page)?;
    Ok(Errors {
        corrected: number(page.as_deref(), 0x0003),
        uncorrected: number(page.as_deref(), 0x0006),
    })
}

fn usage(drive: &mut dyn Drive) -> Result<Option<Usage>, Error> {
    let page: Option<Vec<Parameter>> = drive.log_page(TAPE_USAGE)?;
    let value = |code| number(page.as_deref(), code);
    // Other makers have other things on this page: only one that has the counters is believed.
    let (Some(threads), Some(_)) = (value(0x0001), value(0x0004)) else {
        return Ok(None);
    };
    let value = |code| value(code).unwrap_or(0);
    Ok(Some(Usage {
        threads,
        sets_written: value(0x0002),
        write_retries: value(0x0003),
        unrecovered_writes: value(0x0004),
        suspended_writes: value(0x0005),
        fatal_suspended_writes: value(0x0006),
        sets_read: value(0x0007),
        read_retries: value(0x0008),
        unrecovered_reads: value(0x0009),
        suspended_reads: value(0x000a),
        fatal_suspended_reads: value(0x000b),
    }))
}
