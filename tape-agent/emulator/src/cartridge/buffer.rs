//! From the buffer to the medium: taking objects, writing them out, overwriting, and what a power cut leaves.

use std::os::unix::fs::FileExt;

use super::layout::{End, Record};
use super::{Cartridge, Cause, Error, Gate, Index, Loss};

impl Cartridge {
    /// Takes a block into the buffer, as object `position`; everything behind is gone. When the buffer is
    /// full, its oldest objects are written first; if that fails the block is not taken and the whole buffer
    /// is lost.
    pub fn write_block(&mut self, position: u64, data: &[u8], gate: Gate<'_>) -> Result<(), Loss> {
        let record = Record::Block {
            length: data.len() as u32,
            checksum: crc32c::crc32c(data),
        };
        self.take(position, record, data, gate)
    }

    /// Takes a filemark into the buffer, as [`Self::write_block`] does.
    pub fn write_filemark(&mut self, position: u64, gate: Gate<'_>) -> Result<(), Loss> {
        self.take(position, Record::Filemark, &[], gate)
    }

    fn take(
        &mut self,
        position: u64,
        record: Record,
        data: &[u8],
        gate: Gate<'_>,
    ) -> Result<(), Loss> {
        if position < self.index.len() {
            self.flush(gate)?;
            self.index.truncate(position);
            self.overwriting = true;
        }
        let footprint = Self::footprint(data.len());
        self.drain(self.behaviour.buffer.saturating_sub(footprint), gate)?;
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        bytes.reserve_exact(footprint as usize);
        bytes.extend_from_slice(&record.encode());
        bytes.extend_from_slice(data);
        self.buffer.push_back(bytes);
        self.buffered_bytes += footprint;
        match record {
            Record::Block { length, .. } => self.index.push_block(length),
            Record::Filemark => self.index.push_filemark(),
        }
        Ok(())
    }

    /// Writes the oldest buffered objects to the medium until at most so many bytes are left in the buffer.
    pub fn drain_to(&mut self, left: u64, gate: Gate<'_>) -> Result<(), Loss> {
        self.drain(left, gate)
    }

    /// Writes everything buffered to the medium. If that fails, what was not written yet is lost.
    pub fn flush(&mut self, gate: Gate<'_>) -> Result<(), Loss> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.drain(0, gate)?;
        if self.behaviour.sync {
            self.file.sync_data().map_err(|source| Loss {
                objects: 0,
                cause: Cause::File(Error::io("flush", &self.path)(source)),
            })?;
        }
        Ok(())
    }

    /// Cuts the recording at `position`, on the medium, at once.
    pub fn erase(&mut self, position: u64, gate: Gate<'_>) -> Result<(), Loss> {
        self.flush(gate)?;
        if position < self.index.len() {
            self.index.truncate(position);
            self.overwriting = true;
        }
        self.cut().map_err(|error| Loss {
            objects: 0,
            cause: Cause::File(error),
        })
    }

    /// Makes one partition of the cartridge, or with `second` bytes for the second one two; what was recorded is
    /// gone.
    pub fn format(&mut self, second: u64, gate: Gate<'_>) -> Result<(), Loss> {
        self.erase(0, gate)?;
        self.meta.second_partition = second;
        self.file
            .write_all_at(&self.meta.encode(), 0)
            .map_err(|source| Loss {
                objects: 0,
                cause: Cause::File(Error::io("write", &self.path)(source)),
            })
    }

    /// The mark at the end of the recording is lost, as when the power goes before it is written. It comes back
    /// with whatever is written next.
    pub fn lose_end(&mut self) -> Result<(), Error> {
        let end = End {
            sequence: self.end.sequence + 1,
            unmarked: true,
            ..self.end
        };
        self.mark_end(end)
    }

    /// What a power cut leaves: the oldest `keep` objects of the buffer had made it to the medium, the others
    /// are gone.
    pub fn power_cut(&mut self, keep: u64) -> Result<(), Error> {
        let medium = self.index.len() - self.buffer.len() as u64;
        while self.buffer.len() as u64 > keep
            && let Some(bytes) = self.buffer.pop_back()
        {
            self.buffered_bytes -= bytes.len() as u64;
        }
        if self.buffer.is_empty() {
            // What was to be overwritten, but was not, is still there.
            self.overwriting = false;
            self.index = Index::scan(&self.file, &self.path, &self.end)?;
            return Ok(());
        }
        self.index.truncate(medium + self.buffer.len() as u64);
        match self.flush(&mut |_| None) {
            Err(Loss {
                cause: Cause::File(error),
                ..
            }) => Err(error),
            _ => Ok(()),
        }
    }

    /// Writes the oldest buffered objects until at most `target` bytes are left, then the marker.
    fn drain(&mut self, target: u64, gate: Gate<'_>) -> Result<(), Loss> {
        if self.buffered_bytes <= target || self.buffer.is_empty() {
            return Ok(());
        }
        let first = self.index.len() - self.buffer.len() as u64;
        let mut written = 0;
        let mut failure = None;
        let mut left = self.buffered_bytes;
        if let Err(error) = self.cut() {
            failure = Some(Cause::File(error));
        }
        while failure.is_none()
            && left > target
            && let Some(bytes) = self.buffer.get(written)
        {
            let object = first + written as u64;
            if let Some(sense) = gate(object) {
                failure = Some(Cause::Ordered(sense));
            } else if let Err(source) = self.file.write_all_at(bytes, self.index.offset(object)) {
                failure = Some(Cause::File(Error::io("write", &self.path)(source)));
            } else {
                written += 1;
                left -= bytes.len() as u64;
            }
        }
        if written > 0
            && let Err(error) = self.publish(first + written as u64)
        {
            // Without its marker nothing of this is recorded.
            written = 0;
            failure = Some(Cause::File(error));
        }
        for bytes in self.buffer.drain(..written) {
            self.spare.push(bytes);
        }
        self.spare.truncate(4);
        self.buffered_bytes = left;
        let Some(cause) = failure else {
            return Ok(());
        };
        let objects = self.buffer.len() as u64;
        self.index.truncate(first + written as u64);
        self.buffer.clear();
        self.buffered_bytes = 0;
        Err(Loss { objects, cause })
    }

    /// Carries out a pending overwrite: the marker first, so that nothing behind it counts any more.
    fn cut(&mut self) -> Result<(), Error> {
        if !self.overwriting {
            return Ok(());
        }
        let objects = self.index.len() - self.buffer.len() as u64;
        self.end.generation += 1;
        self.publish(objects)?;
        self.overwriting = false;
        self.file
            .set_len(self.end.offset)
            .map_err(Error::io("truncate", &self.path))
    }

    /// Writes the marker that says: so many objects are recorded.
    fn publish(&mut self, objects: u64) -> Result<(), Error> {
        let end = End {
            sequence: self.end.sequence + 1,
            generation: self.end.generation,
            offset: self.index.offset(objects),
            objects,
            unmarked: false,
        };
        self.mark_end(end)
    }

    fn mark_end(&mut self, end: End) -> Result<(), Error> {
        self.file
            .write_all_at(&end.encode(), end.place())
            .map_err(Error::io("write", &self.path))?;
        self.end = end;
        Ok(())
    }
}
