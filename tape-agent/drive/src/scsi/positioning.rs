//! Finding places, and telling where the tape stands.
//!
//! A drive's word on its position is taken only if its forms agree and no bit says otherwise: zeros from a
//! drive that doesn't know must never pass for the beginning of a tape.

use taf_scsi::cdb::{PositionForm, SpaceOver};
use taf_scsi::page::position::{self, Long, Short};
use taf_scsi::sense::{Key, Sense, code};

use super::{Drive, Error, LocateTo, Locating, Position, ScsiDrive, Spaced, cdb};
use crate::device::end_of_data;

/// The farthest that SPACE(6) goes in one command.
const SPACE_6_MAX: u64 = 0x7f_ffff;

impl ScsiDrive {
    pub(super) fn tell(&mut self) -> Result<Position, Error> {
        let short = match self.device.fetch(
            &cdb::read_position(PositionForm::Short),
            position::SHORT_LENGTH,
        ) {
            Ok(bytes) => Some(Short::parse(&bytes)?),
            Err(error) if error.unsupported() => None,
            Err(error) => return Err(error),
        };
        let long = self.tell_long()?;
        merge(short, long).ok_or(Error::PositionUnknown)
    }

    fn tell_long(&mut self) -> Result<Option<Long>, Error> {
        if !self.long_position {
            return Ok(None);
        }
        match self.device.fetch(
            &cdb::read_position(PositionForm::Long),
            position::LONG_LENGTH,
        ) {
            Ok(bytes) => Ok(Some(Long::parse(&bytes)?).filter(|long| !long.reserved_bits)),
            Err(error) if error.unsupported() => {
                self.long_position = false;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn seek(&mut self, block: u64) -> Result<(), Error> {
        if block == 0 {
            return self.rewind();
        }
        if self.locating == Locating::Sixteen {
            match self.move_by(&cdb::locate_16(LocateTo::Object(block))) {
                Err(error) if error.unknown_command() => self.locating = Locating::Ten,
                outcome => return arrived(outcome),
            }
        }
        if self.locating == Locating::Ten
            && let Ok(object) = u32::try_from(block)
        {
            match self.move_by(&cdb::locate_10(object)) {
                Err(error) if error.unknown_command() => self.locating = Locating::Spacing,
                outcome => return arrived(outcome),
            }
        }
        self.seek_by_spacing(block)
    }

    /// From the beginning over so many objects. Drives stop at each filemark, and say how many blocks they had
    /// left; others (tgt) count filemarks as blocks and run over them. Either way an object is an object.
    fn seek_by_spacing(&mut self, block: u64) -> Result<(), Error> {
        self.rewind()?;
        let mut left = block;
        while left > 0 {
            // The last object is a step of its own: tgt reports end of data already when it arrives there.
            let step = left.saturating_sub(1).clamp(1, SPACE_6_MAX);
            let sense = self.move_by(&cdb::space_6(SpaceOver::Blocks, step as i32))?;
            left -= match sense {
                None => step,
                Some(sense) if sense.filemark => {
                    let undone = sense
                        .information
                        .and_then(|left| u64::try_from(left).ok())
                        .filter(|undone| (1..=step).contains(undone))
                        .ok_or(Error::PositionUnknown)?;
                    step - undone + 1
                }
                Some(sense) if end_of_data(&sense) => {
                    if left == 1 {
                        1
                    } else {
                        return Err(Error::BlankCheck(sense));
                    }
                }
                Some(sense) if sense.key == Key::RecoveredError => step,
                Some(_) => return Err(Error::PositionUnknown),
            };
        }
        Ok(())
    }

    pub(super) fn seek_end(&mut self) -> Result<(), Error> {
        match self.move_by(&cdb::space_6(SpaceOver::EndOfData, 0)) {
            Ok(_) => Ok(()),
            Err(Error::BlankCheck(sense)) if end_of_data(&sense) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) fn space_marks(&mut self, count: i64) -> Result<Spaced, Error> {
        if count == 0 {
            return Ok(Spaced::All);
        }
        let outcome = match i32::try_from(count) {
            Ok(narrow) if count.unsigned_abs() <= SPACE_6_MAX => {
                self.move_by(&cdb::space_6(SpaceOver::Filemarks, narrow))
            }
            _ => self.move_by(&cdb::space_16(SpaceOver::Filemarks, count)),
        };
        match outcome {
            Err(Error::BlankCheck(sense)) if end_of_data(&sense) => Ok(Spaced::EndOfData),
            Err(error) => Err(error),
            Ok(Some(sense)) if end_of_data(&sense) => Ok(Spaced::EndOfData),
            Ok(Some(sense)) if at_beginning(&sense) => Ok(Spaced::Beginning),
            Ok(_) => Ok(Spaced::All),
        }
    }
}

/// A LOCATE that ended with sense: only a recovered error is an arrival.
fn arrived(outcome: Result<Option<Sense>, Error>) -> Result<(), Error> {
    match outcome? {
        Some(sense) if end_of_data(&sense) => Err(Error::BlankCheck(sense)),
        Some(sense) if at_beginning(&sense) => Err(Error::PositionUnknown),
        // Beyond early warning some drives add EOM to a LOCATE that arrived.
        None | Some(_) => Ok(()),
    }
}

fn at_beginning(sense: &Sense) -> bool {
    sense.code() == code::BEGINNING_OF_MEDIUM_DETECTED
}

/// One position out of both forms, or `None` if it is unknown or they disagree.
fn merge(short: Option<Short>, long: Option<Long>) -> Option<Position> {
    let near = short.and_then(|short| short.location.map(|location| (short, location)));
    let block = match (near, long.and_then(|long| long.object)) {
        (Some((_, location)), Some(object)) if location.first != object => return None,
        (_, Some(object)) => object,
        (Some((_, location)), None) => location.first,
        (None, None) => return None,
    };
    let flag = |short_says: fn(&Short) -> bool, long_says: fn(&Long) -> bool| {
        short.as_ref().is_some_and(short_says) || long.as_ref().is_some_and(long_says)
    };
    let beginning = flag(|short| short.beginning, |long| long.beginning);
    if beginning && block != 0 {
        return None;
    }
    // Both the count and the distance between the two ends of the buffer are given; the larger is the safe one.
    let buffered_blocks = near.and_then(|(short, location)| {
        let distance = location.first.saturating_sub(location.last);
        short.buffered_objects.map(|count| count.max(distance))
    });
    Some(Position {
        partition: match (near, long) {
            (Some((short, _)), _) => short.partition,
            (None, long) => long.map_or(0, |long| long.partition),
        },
        block,
        file: long.and_then(|long| long.file),
        beginning,
        end_of_medium: flag(|short| short.end, |long| long.end),
        programmable_early_warning: flag(
            |short| short.programmable_early_warning,
            |long| long.programmable_early_warning,
        ),
        buffered_blocks,
    })
}
