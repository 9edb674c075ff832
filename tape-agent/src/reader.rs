//! Reading ranges of a volume, and around what can't be read. Runs on the drive's thread.
//!
//! A block that fails is tried again. Then the drive is sent behind it, at distances that grow, to where it can read again,
//! and back to where that begins; what was passed over on the way is tried once, block by block, as long as that has any
//! prospect. Each lost block is told with its reason, and the caller goes on behind it: damage costs what it touches. A filemark or an end of data where
//! the catalog has a block is such a loss too, and no end of anything.
//!
//! News of the drive mean that its command did not run and that it may hold another cartridge, so the volume is proved again
//! before reading goes on. Reading twice does no harm.

use std::collections::BTreeSet;

use bytes::Bytes;
use taf_drive::{Drive, Error as DriveError, Read};
use taf_proto::agent::{ReadChunk, ReadDamaged, ReadRange, ReadResponse, read_response};
use taf_proto::v1::Fault;

use crate::fault::{fault, of_drive, protocol};

/// Bytes of a message.
const PIECE: usize = 1 << 20;
/// A block that can't be read is tried so often in all.
const TRIES: u32 = 3;
/// After so many failures without a success between them, each block is tried once and what lies within damage not at all:
/// a drive takes a minute to give up on one.
const PATIENT: u32 = 32;
/// The largest distance at which the end of damage is sought, in blocks.
const DISTANCE_MAX: u64 = 16;
/// After so many failures without a success between them the volume is given up.
const FAILURES_MAX: u32 = 1_000;
/// Resets and other news of the drive that one reading outlives.
const NEWS_MAX: u32 = 8;

/// See the module.
pub struct Reader<'a> {
    drive: &'a mut dyn Drive,
    barcode: &'a str,
    block_size: u64,
    /// Mounts and proves the volume again.
    prove: &'a dyn Fn(&mut dyn Drive) -> Result<(), Fault>,
    /// Logical block that the tape stands before, if known.
    at: Option<u64>,
    buffer: Vec<u8>,
    damage: Option<Damage>,
    /// Failures since the last success.
    failures: u32,
    news: u32,
    truncated: Option<String>,
}

/// A stretch that begins with a block that can't be read.
struct Damage {
    /// Blocks that were tried in vain.
    bad: BTreeSet<u64>,
    /// The first block behind that could be read, or the end of the range.
    good: u64,
    reason: String,
}

impl<'a> Reader<'a> {
    /// A reader of a volume that is proved.
    pub fn new(
        drive: &'a mut dyn Drive,
        barcode: &'a str,
        block_size: u32,
        prove: &'a dyn Fn(&mut dyn Drive) -> Result<(), Fault>,
    ) -> Reader<'a> {
        Reader {
            drive,
            barcode,
            block_size: u64::from(block_size),
            prove,
            at: None,
            buffer: vec![0; block_size as usize],
            damage: None,
            failures: 0,
            news: 0,
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
        self.damage = None;
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

    /// Reads one block of a range that ends before `end` into the buffer: its length, or why it is lost.
    fn block(&mut self, block: u64, end: u64) -> Result<Result<usize, String>, Fault> {
        let patient = self.failures < PATIENT;
        let within = self.damage.take_if(|damage| block < damage.good);
        let Some(damage) = within else {
            self.damage = None;
            let tries = if patient { TRIES } else { 1 };
            let outcome = self.fetch(block, tries)?;
            if let Err(reason) = &outcome {
                self.damage = Some(self.search(block, end, reason)?);
            }
            return Ok(outcome);
        };
        let outcome = if damage.bad.contains(&block) || !patient {
            Err(damage.reason.clone())
        } else {
            self.fetch(block, 1)?
        };
        self.damage = Some(damage);
        Ok(outcome)
    }

    /// Looks behind a bad block for the first one that can be read.
    fn search(&mut self, bad: u64, end: u64, reason: &str) -> Result<Damage, Fault> {
        let mut damage = Damage {
            bad: BTreeSet::from([bad]),
            good: end,
            reason: reason.to_owned(),
        };
        let (mut last_bad, mut distance) = (bad, 1);
        while last_bad + 1 < end {
            let next = (last_bad + distance).min(end - 1);
            if self.fetch(next, 1)?.is_ok() {
                damage.good = next;
                break;
            }
            damage.bad.insert(next);
            last_bad = next;
            distance = (distance * 2).min(DISTANCE_MAX);
        }
        while damage.good < end && damage.good - last_bad > 1 {
            let middle = last_bad + (damage.good - last_bad) / 2;
            if self.fetch(middle, 1)?.is_ok() {
                damage.good = middle;
            } else {
                damage.bad.insert(middle);
                last_bad = middle;
            }
        }
        Ok(damage)
    }

    /// Reads one block into the buffer, trying so often: its length, or why it can't be read.
    fn fetch(&mut self, block: u64, tries: u32) -> Result<Result<usize, String>, Fault> {
        let mut reason = String::new();
        for _ in 0..tries {
            match self.try_once(block)? {
                Ok(length) => {
                    self.at = Some(block + 1);
                    self.failures = 0;
                    return Ok(Ok(length));
                }
                Err(why) => reason = why,
            }
        }
        self.failures += 1;
        if self.failures >= FAILURES_MAX {
            return Err(fault(
                "VOLUME_UNREADABLE",
                format!(
                    "{FAILURES_MAX} blocks of volume {} could not be read one after another, the last one {block}: {reason}",
                    self.barcode
                ),
                "clean the drive, or read the volume in another drive; what was restored so far is kept",
            ));
        }
        Ok(Err(reason))
    }

    fn try_once(&mut self, block: u64) -> Result<Result<usize, String>, Fault> {
        loop {
            let outcome = self.go(block).and_then(|()| {
                self.at = None;
                self.drive.read_block(&mut self.buffer)
            });
            let error = match outcome {
                Ok(Read::Block(length)) => return Ok(Ok(length)),
                Ok(Read::Filemark) => {
                    return Ok(Err(format!("there is a filemark instead of block {block}")));
                }
                Ok(Read::EndOfData | Read::Blank) => {
                    let what = format!(
                        "volume {} ends before block {block}, which the catalog has on it",
                        self.barcode
                    );
                    self.truncated.get_or_insert(what);
                    return Ok(Err("the tape ends before it".to_owned()));
                }
                Err(error) => error,
            };
            self.at = None;
            match error {
                DriveError::Medium(_)
                | DriveError::BlankCheck(_)
                | DriveError::BlockTooLarge { .. }
                | DriveError::Encrypted(_)
                | DriveError::PositionUnknown
                | DriveError::Other(_) => return Ok(Err(error.to_string())),
                DriveError::UnitAttention(_) if self.news < NEWS_MAX => {
                    self.news += 1;
                    tracing::warn!(volume = self.barcode, %error, "the volume is proved again");
                    (self.prove)(self.drive)?;
                }
                error => return Err(of_drive(&error, "reading", self.barcode)),
            }
        }
    }

    /// Goes to a block. Behind a failure the drive has to say that it is there: some stop elsewhere.
    fn go(&mut self, block: u64) -> Result<(), DriveError> {
        if self.at == Some(block) {
            return Ok(());
        }
        self.at = None;
        self.drive.locate(block)?;
        if self.failures == 0 {
            return Ok(());
        }
        match self.drive.position() {
            Ok(position) if position.block != block => Err(DriveError::PositionUnknown),
            Ok(_) | Err(DriveError::PositionUnknown) => Ok(()),
            Err(error) => Err(error),
        }
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
