//! LOG SENSE: what the drive counts, what it is doing, and its alerts.

use taf_scsi::page::log::counters::{
    DataCompression, ErrorCounters, SequentialAccess, TapeCapacity, TapeUsage, VOLUME_BARCODE,
    VOLUME_SERIAL, VolumeStatistics,
};
use taf_scsi::page::log::status::{Activity, DeviceStatus, POLLING_DELAY};
use taf_scsi::page::log::{self, Parameter};
use taf_scsi::page::tape_alert::Flags;

use super::Drive;
use crate::cartridge::{Cartridge, History, Kind};
use crate::wire::{Cdb, Outcome, cut, invalid_field};

/// Bytes of a data set, the unit in which LTO writes; between those of LTO-5 and LTO-9.
const DATA_SET: u64 = 5_000_000;
const MB: u64 = 1_000_000;
const MIB: u64 = 1 << 20;

/// Pages in the order of their codes.
const PAGES: [u8; 11] = [
    log::SUPPORTED_PAGES,
    log::WRITE_ERRORS,
    log::READ_ERRORS,
    log::SEQUENTIAL_ACCESS,
    log::DEVICE_STATUS,
    log::TAPE_ALERT_RESPONSE,
    log::VOLUME_STATISTICS,
    log::TAPE_ALERT,
    log::TAPE_USAGE,
    log::TAPE_CAPACITY,
    log::DATA_COMPRESSION,
];

impl Drive {
    pub(super) fn log_sense(&mut self, cdb: &Cdb) -> Outcome {
        let (page, subpage) = (cdb.byte(2) & 0x3f, cdb.byte(3));
        if subpage != 0 || cdb.bit(1, 0) {
            return Err(invalid_field()); // no subpages, and no saving
        }
        let data = match page {
            log::SUPPORTED_PAGES => log::supported_pages_build(&PAGES),
            log::TAPE_ALERT => {
                self.alerts_unread = false;
                std::mem::take(&mut self.alerts).build()
            }
            log::TAPE_ALERT_RESPONSE => {
                self.alerts_unread = false;
                self.alerts.build_response()
            }
            _ => {
                let pointer = cdb.field::<2>(5) as u16;
                let mut parameters = self.log_parameters(page).ok_or_else(invalid_field)?;
                if pointer > parameters.last().map_or(0, |last| last.code) {
                    return Err(invalid_field());
                }
                parameters.retain(|one| one.code >= pointer);
                log::build(page, &parameters)
            }
        };
        Ok(cut(data, cdb.field::<2>(7)))
    }

    fn log_parameters(&self, page: u8) -> Option<Vec<Parameter>> {
        let threaded = self.cartridge.as_ref().filter(|_| self.threaded);
        let history = threaded.map_or_else(History::default, |one| one.memory().history);
        Some(match page {
            log::WRITE_ERRORS => errors(
                history.last_written,
                history.last_write_errors,
                history.last_write_retries,
            ),
            log::READ_ERRORS => errors(
                history.last_read,
                history.last_read_errors,
                history.last_read_retries,
            ),
            log::SEQUENTIAL_ACCESS => self.sequential_access(threaded, &history),
            log::DEVICE_STATUS => {
                let mut parameters = vec![self.device_status().parameter()];
                parameters.push(Parameter::counter(POLLING_DELAY, 100, 2));
                parameters
            }
            log::VOLUME_STATISTICS => volume_statistics(threaded, &history),
            log::TAPE_USAGE => TapeUsage {
                thread_count: Some(threaded.map_or(0, |one| one.meta().loads)),
                data_sets_written: Some(history.written.div_ceil(DATA_SET)),
                write_retries: Some(history.write_retries),
                unrecovered_write_errors: Some(history.write_errors),
                suspended_writes: Some(history.suspended_writes),
                fatal_suspended_writes: Some(history.write_errors),
                data_sets_read: Some(history.read.div_ceil(DATA_SET)),
                read_retries: Some(history.read_retries),
                unrecovered_read_errors: Some(history.read_errors),
                suspended_reads: Some(0),
                fatal_suspended_reads: Some(history.read_errors),
            }
            .parameters(),
            log::TAPE_CAPACITY => {
                let maximum = threaded.map_or(0, Cartridge::capacity);
                TapeCapacity {
                    remaining: Some(threaded.map_or(0, Cartridge::remaining) / MIB),
                    remaining_1: Some(threaded.map_or(0, |one| one.meta().second_partition) / MIB),
                    maximum: Some(maximum / MIB),
                    maximum_1: Some(threaded.map_or(0, |one| one.meta().second_partition) / MIB),
                }
                .parameters()
            }
            log::DATA_COMPRESSION => {
                let (read, written) = (history.last_read, history.last_written);
                DataCompression {
                    read_ratio: Some(100),
                    write_ratio: Some(100),
                    megabytes_sent: Some(read / MB),
                    bytes_sent: Some(read % MB),
                    megabytes_read: Some(read / MB),
                    bytes_read: Some(read % MB),
                    megabytes_received: Some(written / MB),
                    bytes_received: Some(written % MB),
                    megabytes_written: Some(written / MB),
                    bytes_written: Some(written % MB),
                }
                .parameters()
            }
            _ => return None,
        })
    }

    fn sequential_access(&self, threaded: Option<&Cartridge>, history: &History) -> Vec<Parameter> {
        let capacity = threaded.map_or(0, Cartridge::capacity);
        let behind = self.early_warning_distance(capacity);
        let used = |number| threaded.map_or(0, |one| one.used_before(number));
        SequentialAccess {
            received: Some(history.last_written),
            written: Some(history.last_written),
            read: Some(history.last_read),
            sent: Some(history.last_read),
            to_end_of_data: Some(used(u64::MAX) / MB),
            to_early_warning: Some(capacity.saturating_sub(behind) / MB),
            behind_early_warning: Some(behind / MB),
            to_position: Some(used(self.position) / MB),
            buffer: Some(self.options.behaviour.buffer / MB),
            cleaning_requested: Some(self.wants_cleaning().into()),
        }
        .parameters()
    }

    fn device_status(&self) -> DeviceStatus {
        let present = self.cartridge.is_some();
        let mounted = self.threaded && self.becoming.is_none();
        let protected = self
            .cartridge
            .as_ref()
            .is_some_and(|cartridge| self.threaded && cartridge.write_protected());
        DeviceStatus {
            removal_prevented: self.initiators.prevented(),
            memory_accessible: present,
            compressing: self.mode.compression,
            write_protected: protected,
            cleaning_requested: self.wants_cleaning(),
            in_transition: self.becoming.is_some(),
            medium_present: present,
            medium_seated: present,
            medium_threaded: self.threaded,
            mounted,
            activity: match (&self.becoming, self.busy) {
                (Some(becoming), _) => becoming.activity,
                (None, Some((_, activity))) => activity,
                (None, None) => Activity::Idle,
            },
            alerts_changed: self.alerts_unread,
            ..DeviceStatus::default()
        }
    }

    fn wants_cleaning(&self) -> bool {
        self.alerts.has(alert::CLEAN_NOW) || self.alerts.has(alert::CLEAN_PERIODIC)
    }

    /// Raises a flag: here until page 2Eh is read, in the cartridge's memory until its next load.
    pub(super) fn alert(&mut self, flag: u8) {
        self.alerts.set(flag);
        self.alerts_unread = true;
        if let Some(cartridge) = &mut self.cartridge {
            let history = &mut cartridge.memory_mut().history;
            history.alert_bits = history.alerts().union(Flags::of(&[flag])).bits();
        }
    }
}

/// The flags that the drive raises by itself (SSC-5 annex A).
pub(super) mod alert {
    pub const HARD_ERROR: u8 = 0x03;
    pub const MEDIA: u8 = 0x04;
    pub const READ_FAILURE: u8 = 0x05;
    pub const WRITE_FAILURE: u8 = 0x06;
    pub const WRITE_PROTECT: u8 = 0x09;
    pub const NO_REMOVAL: u8 = 0x0a;
    pub const CLEANING_CARTRIDGE: u8 = 0x0b;
    pub const UNSUPPORTED_FORMAT: u8 = 0x0c;
    pub const MEMORY_FAILURE: u8 = 0x0f;
    pub const READ_ONLY_FORMAT: u8 = 0x11;
    pub const CLEAN_NOW: u8 = 0x14;
    pub const CLEAN_PERIODIC: u8 = 0x15;
    pub const EXPIRED_CLEANING: u8 = 0x16;
    pub const LOADING_FAILURE: u8 = 0x37;
    pub const WORM_OVERWRITE: u8 = 0x3c;
}

fn errors(bytes: u64, uncorrected: u64, retries: u64) -> Vec<Parameter> {
    ErrorCounters {
        corrected_without_delay: Some(0),
        corrected_with_delay: Some(retries),
        retries: Some(retries),
        corrected: Some(retries),
        algorithm_runs: Some(0),
        bytes: Some(bytes),
        uncorrected: Some(uncorrected),
    }
    .parameters()
}

fn volume_statistics(threaded: Option<&Cartridge>, history: &History) -> Vec<Parameter> {
    let Some(cartridge) = threaded else {
        return VolumeStatistics {
            valid: Some(0),
            ..VolumeStatistics::default()
        }
        .parameters();
    };
    let mut parameters = VolumeStatistics {
        valid: Some(1),
        mounts: Some(cartridge.meta().loads),
        data_sets_written: Some(history.written.div_ceil(DATA_SET)),
        write_retries: Some(history.write_retries),
        unrecovered_write_errors: Some(history.write_errors),
        suspended_writes: Some(history.suspended_writes),
        fatal_suspended_writes: Some(history.write_errors),
        data_sets_read: Some(history.read.div_ceil(DATA_SET)),
        read_retries: Some(history.read_retries),
        unrecovered_read_errors: Some(history.read_errors),
        suspended_reads: Some(0),
        fatal_suspended_reads: Some(history.read_errors),
        last_unrecovered_write_errors: Some(history.last_write_errors),
        last_unrecovered_read_errors: Some(history.last_read_errors),
        last_megabytes_written: Some(history.last_written / MB),
        last_megabytes_read: Some(history.last_read / MB),
        megabytes_written: Some(history.written / MB),
        megabytes_read: Some(history.read / MB),
        last_write_ratio: Some(100),
        last_read_ratio: Some(100),
        capacity_megabytes: Some(cartridge.meta().capacity / MB),
        used_megabytes: Some(cartridge.used_before(u64::MAX) / MB),
        write_protected: Some(cartridge.write_protected().into()),
        worm: Some((cartridge.meta().kind == Kind::WriteOnce).into()),
        beginning_passes: Some(history.beginning_passes),
        middle_passes: Some(history.middle_passes),
    }
    .parameters();
    let serial = cartridge.meta().serial.as_str();
    parameters.push(Parameter::ascii(VOLUME_SERIAL, serial, 32));
    parameters.push(Parameter::ascii(VOLUME_BARCODE, &cartridge.barcode(), 32));
    parameters.sort_by_key(|one| one.code);
    parameters
}
