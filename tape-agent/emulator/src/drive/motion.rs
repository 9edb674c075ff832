//! Moving along the tape: REWIND, SPACE, LOCATE.

use taf_scsi::cdb::opcode;
use taf_scsi::sense::{Key, Sense, code};

use super::Drive;
use super::data::end_of_data;
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
        let count = if cdb.byte(0) == opcode::SPACE_16 {
            cdb.field::<8>(4) as i64
        } else {
            // Sign extension of 24 bits.
            i64::from(((cdb.field::<3>(2) as i32) << 8) >> 8)
        };
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
                Ok(Vec::new())
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
            None => end_of_data(),
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
        Err(end_of_data().with_information((count - met) as i64).into())
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
        let change_partition = cdb.bit(1, 1);
        if change_partition && partition != 0 {
            return Err(invalid_field());
        }
        self.flush()?;
        self.strike(At::Position)?;
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
            Some(_) => Ok(Vec::new()),
            None => Err(end_of_data().into()),
        }
    }

    fn go(&mut self, position: u64) {
        debug_assert!(
            self.cartridge
                .as_ref()
                .is_some_and(|cartridge| position <= cartridge.objects()),
            "the head stays before end of data"
        );
        if position != self.position {
            std::thread::sleep(self.options.speeds.locate);
        }
        self.position = position;
    }
}

fn beginning() -> Sense {
    Sense::new(Key::NoSense, code::BEGINNING_OF_MEDIUM_DETECTED).with_eom()
}
