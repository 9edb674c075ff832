//! Moving along the tape: REWIND, SPACE, LOCATE.

use taf_scsi::cdb::opcode;
use taf_scsi::sense::{Key, Sense, code};

use super::Drive;
use super::protection::Overwrite;
use crate::faults::At;
use crate::wire::{Cdb, Outcome, invalid_field};

impl Drive {
    pub(super) fn rewind(&mut self) -> Outcome {
        self.ready()?;
        self.flush()?;
        self.strike(At::Position)?;
        self.go(0);
        Ok(Vec::new())
    }

    /// SPACE(6) and SPACE(16). What was not spaced over comes in INFORMATION, as a magnitude.
    pub(super) fn space(&mut self, cdb: &Cdb) -> Outcome {
        self.ready()?;
        let count = count(cdb);
        let over = cdb.byte(1) & 0x0f;
        self.flush()?;
        self.strike(At::Position)?;
        match (over, count) {
            (0, 0..) => self.forward_blocks(count.unsigned_abs()),
            (0, _) => self.backward_blocks(count.unsigned_abs()),
            (1, 0..) => self.forward_filemarks(count.unsigned_abs()),
            (1, _) => self.backward_filemarks(count.unsigned_abs()),
            (3, _) => {
                let end = self.ready()?.objects();
                self.go(end);
                self.marked_end()
            }
            _ => Err(invalid_field()),
        }
    }

    fn forward_blocks(&mut self, count: u64) -> Outcome {
        let cartridge = self.ready()?;
        let mark = cartridge.filemark(cartridge.filemarks_before(self.position));
        let stop = mark.unwrap_or(cartridge.objects());
        let moved = count.min(stop - self.position);
        let left = count - moved;
        let end = self.position + moved;
        if left == 0 {
            self.go(end);
            return Ok(Vec::new());
        }
        // Behind the filemark, or at end of data.
        self.go(end + u64::from(mark.is_some()));
        let sense = match mark {
            Some(_) => Sense::new(Key::NoSense, code::FILEMARK_DETECTED).with_filemark(),
            None => self.end(),
        };
        Err(sense.with_information(left as i64).into())
    }

    fn backward_blocks(&mut self, count: u64) -> Outcome {
        let cartridge = self.ready()?;
        let mark = cartridge
            .filemarks_before(self.position)
            .checked_sub(1)
            .and_then(|last| cartridge.filemark(last));
        let stop = mark.map_or(0, |mark| mark + 1);
        let moved = count.min(self.position - stop);
        let left = count - moved;
        let end = self.position - moved;
        if left == 0 {
            self.go(end);
            return Ok(Vec::new());
        }
        // Before the filemark, or at the beginning.
        self.go(end - u64::from(mark.is_some()));
        let sense = match mark {
            Some(_) => Sense::new(Key::NoSense, code::FILEMARK_DETECTED).with_filemark(),
            None => beginning(),
        };
        Err(sense.with_information(left as i64).into())
    }

    fn forward_filemarks(&mut self, count: u64) -> Outcome {
        if count == 0 {
            return Ok(Vec::new());
        }
        let cartridge = self.ready()?;
        let before = cartridge.filemarks_before(self.position);
        if let Some(mark) = cartridge.filemark(before.saturating_add(count - 1)) {
            self.go(mark + 1);
            return Ok(Vec::new());
        }
        let end = cartridge.objects();
        let met = cartridge.filemarks_before(end) - before;
        self.go(end);
        Err(self.end().with_information((count - met) as i64).into())
    }

    fn backward_filemarks(&mut self, count: u64) -> Outcome {
        let cartridge = self.ready()?;
        let before = cartridge.filemarks_before(self.position);
        let mark = before
            .checked_sub(count)
            .and_then(|number| cartridge.filemark(number));
        self.go(mark.unwrap_or(0));
        if mark.is_some() {
            Ok(Vec::new())
        } else {
            Err(beginning().with_information((count - before) as i64).into())
        }
    }

    /// LOCATE(10) and LOCATE(16). A file is located just behind the filemark before it.
    pub(super) fn locate(&mut self, cdb: &Cdb) -> Outcome {
        self.ready()?;
        let long = cdb.byte(0) == opcode::LOCATE_16;
        let (kind, number, partition) = if long {
            ((cdb.byte(1) >> 3) & 0x07, cdb.field::<8>(4), cdb.byte(3))
        } else {
            (0, cdb.field::<4>(3), cdb.byte(8))
        };
        let wanted = if cdb.bit(1, 1) {
            partition
        } else {
            self.partition
        };
        if wanted > u8::from(self.ready()?.meta().second_partition > 0) {
            return Err(invalid_field());
        }
        self.flush()?;
        self.strike(At::Position)?;
        self.partition = wanted;
        if wanted != 0 {
            self.go(0);
            return match (kind, number) {
                (0 | 1, 0) | (3, _) => Ok(Vec::new()),
                (0 | 1, _) => Err(self.end().into()),
                _ => Err(invalid_field()),
            };
        }
        let cartridge = self.ready()?;
        let end = cartridge.objects();
        let target = match kind {
            0 => Some(number).filter(|&number| number <= end),
            1 if number == 0 => Some(0),
            1 => cartridge.filemark(number - 1).map(|mark| mark + 1),
            3 => Some(end),
            _ => return Err(invalid_field()),
        };
        self.go(target.unwrap_or(end));
        match target {
            Some(_) if kind == 3 => self.marked_end(),
            Some(_) => Ok(Vec::new()),
            None => Err(self.end().into()),
        }
    }

    /// The end of data was sought: whether it is marked.
    fn marked_end(&self) -> Outcome {
        match self.end() {
            sense if sense.code() == code::END_OF_DATA_NOT_FOUND => Err(sense.into()),
            _ => Ok(Vec::new()),
        }
    }

    /// What a command does to a head in the second partition, in which nothing is ever recorded; `None` for
    /// commands to which that makes no difference.
    pub(super) fn in_second_partition(&mut self, cdb: &Cdb) -> Option<Outcome> {
        if self.partition == 0 || !self.threaded {
            return None;
        }
        let blank = |left: i64| {
            let sense = Sense::new(Key::BlankCheck, code::END_OF_DATA_DETECTED);
            Err(sense.with_information(left).into())
        };
        Some(match cdb.byte(0) {
            opcode::READ_6 => blank(cdb.field::<3>(2) as i64),
            opcode::SPACE_6 | opcode::SPACE_16 => {
                let count = count(cdb);
                match cdb.byte(1) & 0x0f {
                    3 => Ok(Vec::new()),
                    0 | 1 if count == 0 => Ok(Vec::new()),
                    0 | 1 if count > 0 => blank(count),
                    0 | 1 => Err(beginning().with_information(-count).into()),
                    _ => Err(invalid_field()),
                }
            }
            opcode::WRITE_6
            | opcode::WRITE_FILEMARKS_6
            | opcode::WRITE_FILEMARKS_16
            | opcode::ERASE_6 => Err(Sense::new(Key::DataProtect, code::WRITE_PROTECTED).into()),
            _ => return None,
        })
    }

    /// The head moves along the tape, which takes its time.
    fn go(&mut self, position: u64) {
        debug_assert!(
            self.cartridge
                .as_ref()
                .is_some_and(|cartridge| position <= cartridge.objects()),
            "the head stays before end of data"
        );
        if let Some(cartridge) = &self.cartridge
            && position != self.position
        {
            let (from, to) = (
                cartridge.used_before(self.position),
                cartridge.used_before(position),
            );
            let way = self.options.speeds.way(from, to, cartridge.capacity());
            let middle = cartridge.capacity() / 2;
            if (from < middle) != (to < middle) {
                self.counted(|history| history.middle_passes += 1);
            }
            self.travelled(position);
            self.wait(way);
        }
        self.motor.rest(self.now());
        self.moved(position);
    }

    fn travelled(&mut self, position: u64) {
        let stats = &mut self.stats;
        if position > self.position {
            stats.locates_forward += 1;
            stats.objects_forward += position - self.position;
        } else {
            stats.locates_backward += 1;
            stats.objects_backward += self.position - position;
        }
        if position == 0 {
            stats.rewinds += 1;
            self.counted(|history| history.beginning_passes += 1);
        }
    }

    /// The head stands elsewhere: what was allowed to be overwritten is not any more, and early warning can be
    /// crossed anew.
    pub(super) fn moved(&mut self, position: u64) {
        if position != self.position {
            self.overwrite = Overwrite::None;
        }
        self.position = position;
        if !self.beyond_programmable_warning() {
            self.warned_early = false;
        }
    }
}

/// The count of SPACE(6) and SPACE(16).
fn count(cdb: &Cdb) -> i64 {
    if cdb.byte(0) == opcode::SPACE_16 {
        cdb.field::<8>(4) as i64
    } else {
        // Sign extension of 24 bits.
        i64::from(((cdb.field::<3>(2) as i32) << 8) >> 8)
    }
}

fn beginning() -> Sense {
    Sense::new(Key::NoSense, code::BEGINNING_OF_MEDIUM_DETECTED).with_eom()
}
