//! Blocks and filemarks: READ, WRITE, WRITE FILEMARKS, ERASE, FORMAT MEDIUM.

use std::time::Duration;

use taf_scsi::page::log::status::Activity;
use taf_scsi::sense::{Key, Sense, code};

use super::Drive;
use super::log::alert;
use super::motor::Direction;
use super::protection::{Overwrite, append_only};
use crate::cartridge::{self, Cartridge, History, Object};
use crate::faults::{At, Do, Fault};
use crate::wire::{Cdb, Check, Outcome, illegal, invalid_field};

impl Drive {
    pub(super) fn read(&mut self, cdb: &Cdb) -> Outcome {
        self.ready()?;
        let length = cdb.field::<3>(2);
        let suppress = cdb.bit(1, 1);
        if cdb.bit(1, 0) {
            return Err(invalid_field()); // fixed blocks
        }
        self.flush()?;
        if length == 0 {
            return Ok(Vec::new());
        }
        let struck = self.strike_read()?;
        let cartridge = self.ready()?;
        let information = length as i64;
        match cartridge.object(self.position) {
            None => Err(self.end().with_information(information).into()),
            Some(Object::Filemark) => {
                self.moved(self.position + 1);
                Err(Sense::new(Key::NoSense, code::FILEMARK_DETECTED)
                    .with_filemark()
                    .with_information(information)
                    .into())
            }
            Some(Object::Block(recorded)) => {
                let mut data = match cartridge.read(self.position, recorded) {
                    Ok(data) => data,
                    Err(error) => {
                        self.read_failed();
                        return Err(unreadable(&error));
                    }
                };
                self.moved(self.position + 1);
                if let Some(fault) = &struck
                    && fault.action == Do::Flip
                {
                    self.flip(&mut data, fault.bits);
                }
                self.counted(|history| {
                    history.read += u64::from(recorded);
                    history.last_read += u64::from(recorded);
                });
                self.stats.blocks_read += 1;
                self.stats.bytes_read += u64::from(recorded);
                self.stream(Direction::Reading, Cartridge::footprint(recorded as usize));
                data.truncate(length as usize);
                if let Some(sense) = recovered(struck.as_ref()) {
                    return Err(Check { sense, data });
                }
                // With SILI and variable blocks neither a shorter nor a longer block is told (SSC-5 READ(6)).
                if suppress || u64::from(recorded) == length {
                    return Ok(data);
                }
                let sense = Sense::new(Key::NoSense, code::NONE)
                    .with_ili()
                    .with_information(information - i64::from(recorded));
                Err(Check { sense, data })
            }
        }
    }

    pub(super) fn write(&mut self, cdb: &Cdb, data_out: &[u8]) -> Outcome {
        self.writable()?;
        let length = cdb.field::<3>(2);
        if cdb.bit(1, 0) || length > u64::from(self.options.block_max) {
            return Err(invalid_field());
        }
        if length == 0 {
            return Ok(Vec::new());
        }
        let Some(data) = data_out.get(..length as usize) else {
            return Err(Sense::new(Key::AbortedCommand, code::DATA_PHASE_ERROR).into());
        };
        self.overwrites()?;
        let struck = self.strike_write()?;
        self.room(data.len())
            .map_err(|full| full.with_information(length as i64))?;
        self.stream(Direction::Writing, Cartridge::footprint(data.len()));
        let position = self.position;
        self.with_medium(|cartridge, gate| cartridge.write_block(position, data, gate))?;
        self.stats.blocks_written += 1;
        self.stats.bytes_written += length;
        self.position += 1;
        self.written(length);
        if let Err(check) = self.strike_at(At::Deferred, position) {
            let sense = check.sense;
            let lost = self.with_medium(|cartridge, _| {
                cartridge.flush(&mut |object| (object == position).then_some(sense))
            });
            self.deferred = lost.err().map(|check| check.sense);
            return Ok(Vec::new());
        }
        if !self.mode.buffered {
            // Nothing was answered before its time, so this is no deferred error.
            self.flush().map_err(current)?;
        }
        match recovered(struck.as_ref()) {
            Some(sense) => Err(sense.into()),
            None => self.warned(),
        }
    }

    pub(super) fn write_filemarks(&mut self, immediate: bool, count: u64) -> Outcome {
        if count == 0 {
            self.ready()?;
        } else {
            self.writable()?;
            self.overwrites()?;
        }
        self.strike(At::Filemark)?;
        let before = self.buffered();
        for written in 0..count {
            self.room(0)
                .map_err(|full| full.with_information((count - written) as i64))?;
            self.stream(Direction::Writing, Cartridge::footprint(0));
            let position = self.position;
            self.with_medium(|cartridge, gate| cartridge.write_filemark(position, gate))?;
            self.stats.filemarks_written += 1;
            self.position += 1;
            self.written(0);
        }
        if !immediate || !self.mode.buffered {
            self.stats.flushes += 1;
            // With nothing older in the buffer, it is this command that failed.
            self.flush()
                .map_err(|check| if before == 0 { current(check) } else { check })?;
        }
        if count == 0 {
            return Ok(Vec::new());
        }
        self.warned()
    }

    /// ERASE: short, it ends the recording here; long, it runs over the rest of the tape besides.
    pub(super) fn erase(&mut self, cdb: &Cdb) -> Outcome {
        let (long, immediate) = (cdb.bit(1, 0), cdb.bit(1, 1));
        self.writable()?;
        self.overwrites()?;
        let position = self.position;
        self.flush()?;
        self.with_medium(|cartridge, gate| cartridge.erase(position, gate))?;
        self.written(0);
        self.save_memory();
        let rate = self.options.speeds.rate;
        if long && rate > 0 {
            let rest = self.ready()?.remaining();
            let time = Duration::from_secs_f64(rest as f64 / rate as f64);
            self.takes(
                Activity::Erasing,
                code::OPERATION_IN_PROGRESS,
                time,
                immediate,
            );
        }
        Ok(Vec::new())
    }

    /// Something takes its time: the host waits, or the drive is not ready meanwhile.
    fn takes(&mut self, activity: Activity, code: (u8, u8), time: Duration, immediate: bool) {
        if immediate {
            self.becomes(activity, code, time, false);
        } else {
            self.wait(time);
        }
    }

    /// FORMAT MEDIUM: everything is gone, and the partitions are those that were asked for.
    pub(super) fn format_medium(&mut self, cdb: &Cdb) -> Outcome {
        self.writable()?;
        if self.position != 0 || self.partition != 0 {
            return Err(illegal(code::POSITION_PAST_BEGINNING));
        }
        let second = match cdb.byte(2) & 0x0f {
            0 => 0,
            1 | 2 => self.mode.second_partition.unwrap_or(0),
            _ => return Err(invalid_field()),
        };
        let recorded = self.ready()?.objects() > 0;
        if recorded && self.write_once() {
            return Err(self.write_once_refusal());
        }
        if recorded && self.mode.append_only && self.overwrite != Overwrite::Format {
            return Err(append_only());
        }
        self.overwrite = Overwrite::None;
        self.with_medium(|cartridge, gate| cartridge.format(second, gate))?;
        self.written(0);
        self.save_memory();
        // LTO-9 cartridges are optimised again.
        let time = if self.options.generation.number() == 9 {
            self.options.speeds.initialise
        } else {
            self.options.speeds.wind
        };
        let immediate = cdb.bit(1, 0);
        self.takes(
            Activity::Formatting,
            code::FORMAT_IN_PROGRESS,
            time,
            immediate,
        );
        Ok(Vec::new())
    }

    /// What stops a READ; a fault that does not stop it otherwise.
    fn strike_read(&mut self) -> Result<Option<Fault>, Check> {
        let Some(fault) = self.struck(At::Read, self.position) else {
            return Ok(None);
        };
        if fault.stops() {
            let sense = fault.to_sense();
            if sense.key == Key::MediumError {
                self.read_failed();
            }
            return Err(sense.into());
        }
        if fault.action != Do::Flip {
            self.counted(|history| {
                history.read_retries += fault.retries;
                history.last_read_retries += fault.retries;
            });
        }
        Ok(Some(fault))
    }

    /// The same of a WRITE.
    fn strike_write(&mut self) -> Result<Option<Fault>, Check> {
        let Some(fault) = self.struck(At::Write, self.position) else {
            return Ok(None);
        };
        if fault.stops() {
            return Err(fault.to_sense().into());
        }
        self.counted(|history| {
            history.write_retries += fault.retries;
            history.last_write_retries += fault.retries;
        });
        Ok(Some(fault))
    }

    fn flip(&mut self, data: &mut [u8], bits: u32) {
        let mut faults = self.faults.lock();
        for _ in 0..bits {
            let at = faults.below(data.len() as u64 * 8) as usize;
            tracing::info!(object = self.position - 1, bit = at, "a bit is turned over");
            data[at / 8] ^= 1 << (at % 8);
        }
    }

    /// What lies at end of data: its mark, or none.
    pub(super) fn end(&self) -> Sense {
        let found = self.cartridge.as_ref().is_none_or(Cartridge::end_is_marked);
        if found {
            Sense::new(Key::BlankCheck, code::END_OF_DATA_DETECTED)
        } else {
            Sense::new(Key::MediumError, code::END_OF_DATA_NOT_FOUND)
        }
    }

    /// Notes in the cartridge's memory.
    pub(super) fn counted(&mut self, note: impl FnOnce(&mut History)) {
        if let Some(cartridge) = &mut self.cartridge {
            note(&mut cartridge.memory_mut().history);
        }
    }

    fn written(&mut self, bytes: u64) {
        let first = !std::mem::replace(&mut self.changed, true);
        self.counted(|history| {
            history.written += bytes;
            history.last_written += bytes;
            if first {
                history.changed();
            }
        });
    }

    fn read_failed(&mut self) {
        self.counted(|history| {
            history.read_errors += 1;
            history.last_read_errors += 1;
        });
        self.alert(alert::HARD_ERROR);
        self.alert(alert::READ_FAILURE);
    }

    fn buffered(&self) -> u64 {
        self.cartridge
            .as_ref()
            .map_or(0, |cartridge| cartridge.buffered().0)
    }

    /// VOLUME OVERFLOW unless `length` bytes fit at the position.
    fn room(&self, length: usize) -> Result<(), Sense> {
        let Some(cartridge) = &self.cartridge else {
            return Ok(());
        };
        let after = cartridge.used_before(self.position) + Cartridge::footprint(length);
        if after > self.holds(cartridge) {
            Err(Sense::new(Key::VolumeOverflow, code::END_OF_MEDIUM_DETECTED).with_eom())
        } else {
            Ok(())
        }
    }

    /// What a write that succeeded answers: GOOD, or early warning; the programmable one once when it is crossed.
    fn warned(&mut self) -> Outcome {
        let code = if self.beyond_early_warning() {
            code::END_OF_MEDIUM_DETECTED
        } else if self.beyond_programmable_warning() && !self.warned_early {
            code::PROGRAMMABLE_EARLY_WARNING
        } else {
            return Ok(Vec::new());
        };
        self.warned_early = true;
        Err(Sense::new(Key::NoSense, code)
            .with_eom()
            .with_information(0)
            .into())
    }

    /// Whether the position is beyond programmable early warning.
    pub(super) fn beyond_programmable_warning(&self) -> bool {
        let before = u64::from(self.mode.early_warning_megabytes) * 1_000_000;
        before > 0 && self.beyond(before)
    }

    /// Whether the position is in the early warning zone.
    pub(super) fn beyond_early_warning(&self) -> bool {
        self.beyond(0)
    }

    /// Whether the position is beyond the place that lies so many bytes before early warning.
    fn beyond(&self, before: u64) -> bool {
        self.cartridge.as_ref().is_some_and(|cartridge| {
            let capacity = self.holds(cartridge);
            let distance = self.early_warning_distance(capacity).saturating_add(before);
            self.partition == 0
                && cartridge.used_before(self.position) > capacity.saturating_sub(distance)
        })
    }

    /// Bytes that this drive brings onto the cartridge, which its own heads may have made less than it says.
    fn holds(&self, cartridge: &Cartridge) -> u64 {
        let capacity = cartridge.capacity();
        capacity - capacity / 100 * u64::from(self.options.worn.min(100))
    }

    /// Bytes between early warning and the hard end.
    pub(super) fn early_warning_distance(&self, capacity: u64) -> u64 {
        self.options
            .early_warning
            .unwrap_or_else(|| (capacity / 32).min(1 << 30))
    }
}

/// The sense of a fault that the drive itself got over, if it tells of it.
fn recovered(fault: Option<&Fault>) -> Option<Sense> {
    fault
        .filter(|fault| fault.action == Do::Sense)
        .map(Fault::to_sense)
}

/// The same about this command, not an earlier one.
fn current(mut check: Check) -> Check {
    check.sense.deferred = false;
    check
}

fn unreadable(error: &cartridge::Error) -> Check {
    tracing::error!(%error, "a block can't be read");
    Sense::new(Key::MediumError, code::UNRECOVERED_READ_ERROR).into()
}
