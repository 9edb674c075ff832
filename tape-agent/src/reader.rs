//! Reading ranges of a volume, and around what can't be read (see [`taf_drive::reading`]). Runs on the drive's thread.
//!
//! Each lost block is told with its reason, and the caller goes on behind it: damage costs what it touches. A filemark or an end
//! of data where the catalog has a block is such a loss too, and no end of anything.

use bytes::Bytes;
use taf_drive::reading::{Course, Found, Prove, Sought, Stop};
use taf_drive::{Drive, Read};
use taf_proto::agent::{ReadChunk, ReadDamaged, ReadRange, ReadResponse, read_response};
use taf_proto::v1::Fault;

use crate::fault::{fault, of_drive, protocol};

/// Bytes of a message.
const PIECE: usize = 1 << 20;

/// See the module.
pub struct Reader<'a> {
    drive: &'a mut dyn Drive,
    barcode: &'a str,
    block_size: u64,
    buffer: Vec<u8>,
    /// The block that is in the buffer, and its length.
    held: Option<(u64, usize)>,
    course: Course<'a, Fault>,
    truncated: Option<String>,
}

impl<'a> Reader<'a> {
    /// A reader of a volume that is proved. `prove` mounts and proves it again.
    pub fn new(
        drive: &'a mut dyn Drive,
        barcode: &'a str,
        block_size: u32,
        prove: Prove<'a, Fault>,
    ) -> Reader<'a> {
        Reader {
            drive,
            barcode,
            block_size: u64::from(block_size),
            buffer: vec![0; block_size as usize],
            held: None,
            course: Course::new(Sought::Blocks, prove),
            truncated: None,
        }
    }

    /// That the tape ends before what the catalog has on it, if that was seen.
    pub fn truncated(&self) -> Option<&str> {
        self.truncated.as_deref()
    }

    /// Gives a range, piece by piece. False if nobody takes it any more.
    pub fn range(
        &mut self,
        range: &ReadRange,
        give: &mut dyn FnMut(ReadResponse) -> bool,
    ) -> Result<bool, Fault> {
        let beyond = || protocol("a range beyond any tape");
        let mut offset = range.byte_offset;
        let end = offset.checked_add(range.length).ok_or_else(beyond)?;
        if range.length == 0 {
            return Ok(chunks(range.id, Bytes::new(), true, give));
        }
        let of = |offset: u64| range.first_block.checked_add(offset / self.block_size);
        let last = of(end - 1).ok_or_else(beyond)?;
        // What is known of damage is known within one range: the next may lie anywhere.
        self.course.forget_damage();
        while offset < end {
            let block = range.first_block + offset / self.block_size;
            let skip = (offset % self.block_size) as usize;
            let wanted = (self.block_size - skip as u64).min(end - offset);
            let ends = offset + wanted == end;
            offset += wanted;
            let reason = match self.block(block, last + 1)? {
                Ok(length) if length >= skip + wanted as usize => {
                    let data = Bytes::copy_from_slice(&self.buffer[skip..skip + wanted as usize]);
                    if !chunks(range.id, data, ends, give) {
                        return Ok(false);
                    }
                    continue;
                }
                Ok(length) => format!("block {block} has {length} bytes, fewer than it must"),
                Err(reason) => reason,
            };
            tracing::warn!(volume = self.barcode, block, reason, "a block is lost");
            let damaged = read_response::Message::Damaged(ReadDamaged {
                id: range.id,
                length: wanted,
                reason: format!("block {block} of volume {}: {reason}", self.barcode),
                end: ends,
            });
            if !give(say(damaged)) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads one block into the buffer, on the way to `end`: its length, or why it is lost.
    pub fn block(&mut self, block: u64, end: u64) -> Result<Result<usize, String>, Fault> {
        // A range mostly ends in the middle of a block, in which the next one begins: no drive goes back for that.
        if let Some((held, length)) = self.held
            && held == block
        {
            return Ok(Ok(length));
        }
        self.held = None;
        let found = self.course.read(self.drive, &mut self.buffer, block, end);
        if let (None, Some(first)) = (&self.truncated, self.course.ended()) {
            self.truncated = Some(format!(
                "volume {} ends before block {first}, which the catalog has on it",
                self.barcode
            ));
        }
        match found {
            Ok(Found::Read(Read::Block(length))) => {
                self.held = Some((block, length));
                Ok(Ok(length))
            }
            Ok(Found::Read(_) | Found::Longer(_)) => {
                Ok(Err(format!("there is no such block {block}")))
            }
            Ok(Found::Lost(reason)) => Ok(Err(reason)),
            Err(Stop::Drive(error)) => Err(of_drive(&error, "reading", self.barcode)),
            Err(Stop::Prove(fault)) => Err(fault),
            Err(Stop::Hopeless {
                failures,
                block,
                reason,
            }) => Err(fault(
                "VOLUME_UNREADABLE",
                format!(
                    "{failures} blocks of volume {} could not be read one after another, the last one {block}: {reason}",
                    self.barcode
                ),
                "clean the drive, or read the volume in another drive; what was restored so far is kept",
            )),
        }
    }

    /// What [`Reader::block`] read last.
    pub fn bytes(&self, length: usize) -> &[u8] {
        &self.buffer[..length.min(self.buffer.len())]
    }
}

/// A message of the worker.
pub fn say(message: read_response::Message) -> ReadResponse {
    ReadResponse {
        message: Some(message),
    }
}

fn chunks(id: u32, mut data: Bytes, end: bool, give: &mut dyn FnMut(ReadResponse) -> bool) -> bool {
    loop {
        let piece = data.split_to(data.len().min(PIECE));
        let last = data.is_empty();
        let chunk = read_response::Message::Chunk(ReadChunk {
            id,
            data: piece,
            end: end && last,
        });
        if !give(say(chunk)) {
            return false;
        }
        if last {
            return true;
        }
    }
}

#[cfg(test)]
mod tests;
