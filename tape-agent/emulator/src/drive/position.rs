//! READ POSITION: where the head is, and what is still in the buffer.

use taf_scsi::page::position::{Location, Long, Short};

use super::Drive;
use crate::wire::{Cdb, Outcome, cut, invalid_field};

impl Drive {
    /// The first location is the host's; the last is the next object from the buffer to the medium, so all
    /// before it is on the medium.
    pub(super) fn read_position(&mut self, cdb: &Cdb) -> Outcome {
        let cartridge = self.ready()?;
        if self.partition != 0 {
            return self.second_position(cdb);
        }
        let first = self.position;
        let (objects, bytes) = cartridge.buffered();
        let short = Short {
            beginning: first == 0,
            end: self.beyond_early_warning(),
            programmable_early_warning: self.beyond_programmable_warning(),
            location: Some(Location {
                first,
                last: first - objects,
            }),
            buffered_objects: Some(objects),
            buffered_bytes: Some(bytes),
            ..Short::default()
        };
        match cdb.byte(1) & 0x1f {
            0x00 | 0x01 => Ok(short.build()),
            0x06 => Ok(Long {
                beginning: short.beginning,
                end: short.end,
                programmable_early_warning: short.programmable_early_warning,
                object: Some(first),
                file: Some(cartridge.filemarks_before(first)),
                ..Long::default()
            }
            .build()),
            0x08 => Ok(cut(short.build_extended(), cdb.field::<2>(7))),
            _ => Err(invalid_field()),
        }
    }

    /// In the second partition nothing is ever recorded.
    fn second_position(&self, cdb: &Cdb) -> Outcome {
        let partition = u32::from(self.partition);
        let short = Short {
            beginning: true,
            partition,
            location: Some(Location::default()),
            buffered_objects: Some(0),
            buffered_bytes: Some(0),
            ..Short::default()
        };
        match cdb.byte(1) & 0x1f {
            0x00 | 0x01 => Ok(short.build()),
            0x06 => Ok(Long {
                beginning: true,
                partition,
                object: Some(0),
                file: Some(0),
                ..Long::default()
            }
            .build()),
            0x08 => Ok(cut(short.build_extended(), cdb.field::<2>(7))),
            _ => Err(invalid_field()),
        }
    }
}
