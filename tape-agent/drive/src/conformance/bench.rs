//! A drive on the bench: what the steps share.

use std::sync::LazyLock;

use super::{Fault, Open, Outcome, Scope, ensure};
use crate::{Drive, Error, Position, Read, Readiness, Sync, Written};

pub(super) struct Bench<'a> {
    open: &'a mut Open<'a>,
    /// `None` between two paths: a drive that is held against others can't be opened twice.
    drive: Option<Box<dyn Drive>>,
    pub scope: Scope,
}

/// Noise that blocks are cut from; longer than what hardware compression looks back on.
static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = (0..8192).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.collect()
});

/// The bytes of block `number`: its number, then noise from a place of its own.
pub(super) fn content(number: u64, length: usize) -> Vec<u8> {
    let start = (number as usize).wrapping_mul(7919) % NOISE.len();
    let mut bytes = Vec::with_capacity(length + NOISE.len());
    bytes.extend(number.to_be_bytes());
    bytes.extend(&NOISE[start..]);
    while bytes.len() < length {
        bytes.extend(&*NOISE);
    }
    bytes.truncate(length);
    bytes
}

/// Objects of what [`Bench::record`] records; the end of data is this one.
pub(super) const END: u64 = 12;

impl<'a> Bench<'a> {
    pub(super) fn new(open: &'a mut Open<'a>, scope: Scope) -> Result<Self, Error> {
        let mut bench = Self {
            open,
            drive: None,
            scope,
        };
        bench.fresh()?;
        Ok(bench)
    }

    /// Ends the path to the drive.
    pub(super) fn close(&mut self) {
        self.drive = None;
    }

    /// Opens a path if there is none, and makes the drive ready.
    pub(super) fn fresh(&mut self) -> Result<(), Error> {
        if self.drive.is_none() {
            self.drive = Some(self.path()?);
        }
        Ok(())
    }

    fn path(&mut self) -> Result<Box<dyn Drive>, Error> {
        let mut drive = (self.open)()?;
        drive.attentions()?;
        if drive.ready()? == Readiness::LoadRequired {
            drive.load()?;
            drive.attentions()?;
        }
        let medium = drive.prepare()?;
        if medium.write_protected {
            return Err(Error::NotTaken(
                "the scratch medium is write protected; lift its tab",
            ));
        }
        Ok(drive)
    }

    pub(super) fn drive(&mut self) -> &mut dyn Drive {
        self.drive
            .as_deref_mut()
            .expect("a step begins with a path, and makes a new one where it ends the old one")
    }

    pub(super) fn block(&self) -> usize {
        self.scope.block
    }

    pub(super) fn write(&mut self, number: u64, length: usize) -> Outcome {
        let written = self.drive().write_block(&content(number, length))?;
        ensure(written == Written::Ok, || {
            "early warning at the medium's beginning; use a larger medium".into()
        })
    }

    pub(super) fn mark(&mut self) -> Outcome {
        self.drive().write_filemarks(1, Sync::Immediate)?;
        Ok(())
    }

    pub(super) fn read(&mut self) -> Result<(Read, Vec<u8>), Error> {
        let mut buffer = vec![0xee; self.block()];
        let read = self.drive().read_block(&mut buffer)?;
        Ok((read, buffer))
    }

    pub(super) fn expect(&mut self, wanted: Read) -> Outcome {
        let (read, _) = self.read()?;
        ensure(read == wanted, || format!("read {read:?}, not {wanted:?}"))
    }

    pub(super) fn expect_block(&mut self, number: u64, length: usize) -> Outcome {
        self.expect_block_in(number, length, length.max(self.block()))
    }

    /// Reads a block into a buffer of `asked` bytes.
    pub(super) fn expect_block_in(&mut self, number: u64, length: usize, asked: usize) -> Outcome {
        let mut buffer = vec![0xee; asked];
        let read = self.drive().read_block(&mut buffer)?;
        ensure(read == Read::Block(length), || {
            format!("block {number}: read {read:?}, not {length} bytes")
        })?;
        let wanted = content(number, length);
        ensure(buffer[..length] == wanted, || {
            let same = buffer
                .iter()
                .zip(&wanted)
                .take_while(|(a, b)| a == b)
                .count();
            format!(
                "block {number} of {length} bytes came back with other bytes from byte {same} on"
            )
        })
    }

    pub(super) fn position(&mut self) -> Result<Option<Position>, Error> {
        match self.drive().position() {
            Ok(position) => Ok(Some(position)),
            Err(Error::PositionUnknown) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Fails if the drive claims another place; a drive that doesn't know is let pass.
    pub(super) fn expect_position(&mut self, block: u64, file: u64) -> Outcome {
        let Some(position) = self.position()? else {
            return Ok(());
        };
        let there = position.file.unwrap_or(file);
        ensure((position.block, there) == (block, file), || {
            format!(
                "the drive says object {}, file {there}; it is object {block}, file {file}",
                position.block
            )
        })
    }

    /// Three tape files of three blocks each (the last one short); block n is object n, objects 3, 7 and 11 are
    /// filemarks, [`END`] is the end of data.
    pub(super) fn record(&mut self) -> Outcome {
        self.drive().rewind()?;
        for file in 0..3 {
            for step in 0..3 {
                self.write(file * 4 + step, self.length_of(file * 4 + step))?;
            }
            self.mark()?;
        }
        self.drive().flush()?;
        Ok(())
    }

    pub(super) fn length_of(&self, object: u64) -> usize {
        if object % 4 == 2 { 33 } else { self.block() }
    }

    pub(super) fn expect_object(&mut self, object: u64) -> Outcome {
        match object {
            END.. => self.expect(Read::EndOfData),
            3 | 7 | 11 => self.expect(Read::Filemark),
            _ => self.expect_block(object, self.length_of(object)),
        }
    }
}

/// What a drive answers that can't do it.
pub(super) fn refused<T>(outcome: Result<T, Error>, what: &str) -> Result<T, Fault> {
    match outcome {
        Err(error) if error.is_refusal() => Err(Fault::Lacking(format!("{what} ({error})"))),
        outcome => Ok(outcome?),
    }
}
