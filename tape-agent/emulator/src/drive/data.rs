//! Blocks and filemarks: READ, WRITE, WRITE FILEMARKS, ERASE, FORMAT MEDIUM.

use taf_scsi::sense::{Key, Sense, code};

use super::Drive;
use super::log::alert;
use crate::cartridge::{self, Cartridge, History, Object};
use crate::faults::At;
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
        self.strike(At::Read).inspect_err(|_| self.read_failed())?;
        let cartridge = self.ready()?;
        let information = length as i64;
        match cartridge.object(self.position) {
            None => Err(end_of_data().with_information(information).into()),
            Some(Object::Filemark) => {
                self.position += 1;
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
                self.position += 1;
                self.counted(|history| {
                    history.read += u64::from(recorded);
                    history.last_read += u64::from(recorded);
                });
                self.pace(u64::from(recorded));
                data.truncate(length as usize);
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
        self.strike(At::Write)?;
        self.room(data.len())
            .map_err(|full| full.with_information(length as i64))?;
        let position = self.position;
        self.with_medium(|cartridge, gate| cartridge.write_block(position, data, gate))?;
        self.position += 1;
        self.written(length);
        if let Err(check) = self.strike_at(At::Deferred, position) {
            let lost = self.with_medium(|cartridge, _| {
                cartridge.flush(&mut |object| (object == position).then_some(check.sense))
            });
            self.deferred = lost.err().map(|check| check.sense);
            return Ok(Vec::new());
        }
        if !self.mode.buffered {
            // Nothing was answered before its time, so this is no deferred error.
            self.flush().map_err(current)?;
        }
        self.pace(length);
        self.warned()
    }

    pub(super) fn write_filemarks(&mut self, immediate: bool, count: u64) -> Outcome {
        if count == 0 {
            self.ready()?;
        } else {
            self.writable()?;
        }
        self.strike(At::Filemark)?;
        let before = self.buffered();
        for written in 0..count {
            self.room(0)
                .map_err(|full| full.with_information((count - written) as i64))?;
            let position = self.position;
            self.with_medium(|cartridge, gate| cartridge.write_filemark(position, gate))?;
            self.position += 1;
            self.written(0);
        }
        if !immediate || !self.mode.buffered {
            // With nothing older in the buffer, it is this command that failed.
            self.flush()
                .map_err(|check| if before == 0 { current(check) } else { check })?;
        }
        if count == 0 {
            return Ok(Vec::new());
        }
        self.warned()
    }

    pub(super) fn erase(&mut self) -> Outcome {
        self.writable()?;
        let position = self.position;
        self.with_medium(|cartridge, gate| cartridge.erase(position, gate))?;
        self.written(0);
        self.save_memory();
        Ok(Vec::new())
    }

    pub(super) fn format_medium(&mut self) -> Outcome {
        self.writable()?;
        if self.position != 0 {
            return Err(illegal(code::SEQUENTIAL_POSITIONING_ERROR));
        }
        self.erase()
    }

    /// Notes in the cartridge's memory.
    fn counted(&mut self, note: impl FnOnce(&mut History)) {
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

    fn writable(&mut self) -> Result<(), Check> {
        if self.ready()?.write_protected() {
            self.alert(alert::WRITE_PROTECT);
            return Err(Sense::new(Key::DataProtect, code::WRITE_PROTECTED).into());
        }
        Ok(())
    }

    /// VOLUME OVERFLOW unless `length` bytes fit at the position.
    fn room(&self, length: usize) -> Result<(), Sense> {
        let Some(cartridge) = &self.cartridge else {
            return Ok(());
        };
        let after = cartridge.used_before(self.position) + Cartridge::footprint(length);
        if after > cartridge.capacity() {
            Err(Sense::new(Key::VolumeOverflow, code::END_OF_MEDIUM_DETECTED).with_eom())
        } else {
            Ok(())
        }
    }

    /// What a write that succeeded answers: GOOD, or early warning.
    fn warned(&self) -> Outcome {
        if self.beyond_early_warning() {
            Err(Sense::new(Key::NoSense, code::END_OF_MEDIUM_DETECTED)
                .with_eom()
                .with_information(0)
                .into())
        } else {
            Ok(Vec::new())
        }
    }

    /// Whether the position is in the early warning zone.
    pub(super) fn beyond_early_warning(&self) -> bool {
        self.cartridge.as_ref().is_some_and(|cartridge| {
            let capacity = cartridge.capacity();
            let distance = self.early_warning_distance(capacity);
            cartridge.used_before(self.position) > capacity.saturating_sub(distance)
        })
    }

    /// Bytes between early warning and the hard end.
    pub(super) fn early_warning_distance(&self, capacity: u64) -> u64 {
        self.options
            .early_warning
            .unwrap_or_else(|| (capacity / 32).min(1 << 30))
    }
}

/// The same about this command, not an earlier one.
fn current(mut check: Check) -> Check {
    check.sense.deferred = false;
    check
}

pub(super) fn end_of_data() -> Sense {
    Sense::new(Key::BlankCheck, code::END_OF_DATA_DETECTED)
}

fn unreadable(error: &cartridge::Error) -> Check {
    tracing::error!(%error, "a block can't be read");
    Sense::new(Key::MediumError, code::UNRECOVERED_READ_ERROR).into()
}
