//! What every drive must do, whatever its maker and its transport: named steps against a scratch medium.
//!
//! **Everything on the medium is lost.** The steps are independent of each other: each records what it needs.
//! A drive that can't tell its position passes without it; what it can't do is listed in the report, so that a
//! silent loss of an ability is seen. Used by the emulator's tests and for each real drive.

use std::fmt;

use crate::{Drive, Error, Position, Read, Readiness, Spaced, Sync, Written};

/// What came of one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// As it must be.
    Passed,
    /// The drive lacks the ability, and says so as it must.
    Lacking(String),
    /// Not as it must be.
    Failed(String),
}

/// One step of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What was tried.
    pub name: &'static str,
    /// What came of it.
    pub verdict: Verdict,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.verdict {
            Verdict::Passed => write!(f, "passed   {}", self.name),
            Verdict::Lacking(what) => write!(f, "lacking  {}: {what}", self.name),
            Verdict::Failed(why) => write!(f, "FAILED   {}: {why}", self.name),
        }
    }
}

/// Why a step did not pass.
enum Fault {
    Lacking(String),
    Failed(String),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Failed(error.to_string())
    }
}

type Outcome = Result<(), Fault>;
type Check = fn(&mut Bench) -> Outcome;

/// Opens the drive anew, as after a crash.
pub type Open<'a> = dyn FnMut() -> Result<Box<dyn Drive>, Error> + 'a;

struct Bench<'a> {
    open: &'a mut Open<'a>,
    drive: Box<dyn Drive>,
    block: usize,
}

const STEPS: [(&str, Check); 12] = [
    ("it says who it is", identity),
    (
        "its limits carry the block size, and others are refused",
        sizes,
    ),
    ("what is written is read back, block by block", read_back),
    ("a flush leaves nothing in the buffer", flush),
    (
        "a block longer than the buffer is told, and passed",
        too_long,
    ),
    ("locate finds every object", locate),
    ("tape files are found forward and backward", files),
    ("spacing stops at either end", spacing),
    ("appending goes on behind the end of data", append),
    ("a write ends the recording behind it", overwrite),
    ("what was flushed is there for the next who opens", reopen),
    ("an erased medium is blank", erase),
];

/// Runs all steps with blocks of `block` bytes (at least 64, within the drive's limits). `open` is called again
/// where a step needs a new path; a scratch medium must be in the drive.
///
/// Fails only if the drive can't be opened and made ready at all.
pub fn run<'a>(open: &'a mut Open<'a>, block: usize) -> Result<Vec<Step>, Error> {
    let drive = ready(open)?;
    let mut bench = Bench { open, drive, block };
    let mut report = Vec::with_capacity(STEPS.len());
    for (name, check) in STEPS {
        let verdict = match check(&mut bench) {
            Ok(()) => Verdict::Passed,
            Err(Fault::Lacking(what)) => Verdict::Lacking(what),
            Err(Fault::Failed(why)) => Verdict::Failed(why),
        };
        report.push(Step { name, verdict });
    }
    Ok(report)
}

fn ready(open: &mut Open<'_>) -> Result<Box<dyn Drive>, Error> {
    let mut drive = open()?;
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

fn ensure(holds: bool, why: impl FnOnce() -> String) -> Outcome {
    if holds {
        Ok(())
    } else {
        Err(Fault::Failed(why()))
    }
}

/// The bytes of block `number`: its number, then a pattern that hardware compression can't fold to nothing.
fn content(number: u64, length: usize) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = number.to_be_bytes().to_vec();
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

impl Bench<'_> {
    fn write(&mut self, number: u64, length: usize) -> Outcome {
        let written = self.drive.write_block(&content(number, length))?;
        ensure(written == Written::Ok, || {
            "early warning at the medium's beginning; use a larger medium".into()
        })
    }

    fn mark(&mut self) -> Outcome {
        self.drive.write_filemarks(1, Sync::Immediate)?;
        Ok(())
    }

    fn read(&mut self) -> Result<(Read, Vec<u8>), Error> {
        let mut buffer = vec![0xee; self.block];
        let read = self.drive.read_block(&mut buffer)?;
        Ok((read, buffer))
    }

    fn expect(&mut self, wanted: Read) -> Outcome {
        let (read, _) = self.read()?;
        ensure(read == wanted, || format!("read {read:?}, not {wanted:?}"))
    }

    fn expect_block(&mut self, number: u64, length: usize) -> Outcome {
        let (read, buffer) = self.read()?;
        ensure(read == Read::Block(length), || {
            format!("block {number}: read {read:?}, not {length} bytes")
        })?;
        ensure(buffer[..length] == content(number, length), || {
            format!("block {number} came back with other bytes")
        })
    }

    fn position(&mut self) -> Result<Option<Position>, Error> {
        match self.drive.position() {
            Ok(position) => Ok(Some(position)),
            Err(Error::PositionUnknown) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Fails if the drive claims another place; a drive that doesn't know is let pass.
    fn expect_position(&mut self, block: u64, file: u64) -> Outcome {
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
    /// filemarks, 12 is the end of data.
    fn record(&mut self) -> Outcome {
        self.drive.rewind()?;
        for file in 0..3 {
            for step in 0..3 {
                self.write(file * 4 + step, self.length_of(file * 4 + step))?;
            }
            self.mark()?;
        }
        self.drive.flush()?;
        Ok(())
    }

    fn length_of(&self, object: u64) -> usize {
        if object % 4 == 2 { 33 } else { self.block }
    }

    fn expect_object(&mut self, object: u64) -> Outcome {
        match object {
            12.. => self.expect(Read::EndOfData),
            3 | 7 | 11 => self.expect(Read::Filemark),
            _ => self.expect_block(object, self.length_of(object)),
        }
    }
}

fn identity(bench: &mut Bench) -> Outcome {
    let identity = bench.drive.identity();
    ensure(
        !identity.vendor.is_empty() && !identity.product.is_empty(),
        || format!("{identity:?}"),
    )?;
    if identity.serial.is_none() {
        return Err(Fault::Lacking("no serial number".into()));
    }
    Ok(())
}

fn sizes(bench: &mut Bench) -> Outcome {
    let limits = bench.drive.block_limits()?;
    ensure(limits.min <= 33 && bench.block <= limits.max, || {
        format!("{limits:?} don't carry {} bytes", bench.block)
    })?;
    bench.drive.rewind()?;
    for length in [0, limits.max + 1] {
        let refused = bench.drive.write_block(&vec![0; length]);
        ensure(matches!(refused, Err(Error::TransferSize { .. })), || {
            format!("{length} bytes: {refused:?}")
        })?;
    }
    bench.expect_position(0, 0)
}

fn read_back(bench: &mut Bench) -> Outcome {
    bench.record()?;
    bench.expect_position(12, 3)?;
    bench.drive.rewind()?;
    for object in 0..=12 {
        bench.expect_object(object)?;
    }
    bench.expect(Read::EndOfData)?;
    let Some(position) = bench.position()? else {
        return Err(Fault::Lacking("the drive can't tell its position".into()));
    };
    ensure(position.block == 12, || format!("{position:?}"))
}

fn flush(bench: &mut Bench) -> Outcome {
    bench.drive.rewind()?;
    bench.write(0, bench.block)?;
    bench.write(1, bench.block)?;
    bench.drive.flush()?;
    match bench.position()?.and_then(|position| position.on_medium()) {
        Some(on_medium) => ensure(on_medium == 2, || {
            format!("object {on_medium} is still in the buffer after a flush")
        }),
        None => Err(Fault::Lacking(
            "the drive doesn't say what is in its buffer".into(),
        )),
    }
}

fn too_long(bench: &mut Bench) -> Outcome {
    bench.record()?;
    bench.drive.rewind()?;
    let outcome = bench.drive.read_block(&mut [0; 40]);
    ensure(
        matches!(outcome, Err(Error::BlockTooLarge { length, buffer: 40 }) if length == bench.block as u64),
        || format!("{outcome:?}"),
    )?;
    bench.expect_object(1)
}

fn locate(bench: &mut Bench) -> Outcome {
    bench.record()?;
    for object in [5, 0, 12, 1, 11, 3, 4, 8] {
        bench.drive.locate(object)?;
        bench.expect_position(object, object / 4)?;
        // At the beginning of a tape that isn't blank, end of data is never what comes.
        bench.expect_object(object)?;
    }
    let beyond = bench.drive.locate(500);
    ensure(beyond.is_err(), || "located beyond end of data".into())
}

fn files(bench: &mut Bench) -> Outcome {
    bench.record()?;
    for file in [2, 0, 1, 1, 2, 0] {
        bench.drive.locate_file(file)?;
        bench.expect_position(file * 4, file)?;
        bench.expect_object(file * 4)?;
    }
    let beyond = bench.drive.locate_file(4);
    ensure(matches!(beyond, Err(Error::BlankCheck(_))), || {
        format!("a file that isn't there: {beyond:?}")
    })
}

fn spacing(bench: &mut Bench) -> Outcome {
    bench.record()?;
    bench.drive.rewind()?;
    let steps = [
        (1, Spaced::All),
        (5, Spaced::EndOfData),
        (-2, Spaced::All),
        (-9, Spaced::Beginning),
        (0, Spaced::All),
    ];
    for (count, wanted) in steps {
        let spaced = bench.drive.space_filemarks(count)?;
        ensure(spaced == wanted, || {
            format!("over {count} filemarks: {spaced:?}, not {wanted:?}")
        })?;
    }
    bench.expect_object(0)
}

fn append(bench: &mut Bench) -> Outcome {
    bench.record()?;
    bench.drive.rewind()?;
    bench.drive.locate_end_of_data()?;
    bench.expect_position(12, 3)?;
    bench.write(12, bench.block)?;
    bench.drive.write_filemarks(1, Sync::Synchronous)?;
    bench.drive.locate_file(3)?;
    bench.expect_block(12, bench.block)?;
    bench.expect(Read::Filemark)?;
    bench.expect(Read::EndOfData)
}

fn overwrite(bench: &mut Bench) -> Outcome {
    bench.record()?;
    bench.drive.locate(4)?;
    bench.write(100, bench.block)?;
    bench.drive.flush()?;
    bench.drive.locate(3)?;
    bench.expect(Read::Filemark)?;
    bench.expect_block(100, bench.block)?;
    bench.expect(Read::EndOfData)
}

fn reopen(bench: &mut Bench) -> Outcome {
    bench.record()?;
    bench.drive = ready(bench.open)?;
    bench.drive.rewind()?;
    for object in 0..=12 {
        bench.expect_object(object)?;
    }
    Ok(())
}

fn erase(bench: &mut Bench) -> Outcome {
    bench.record()?;
    bench.drive.rewind()?;
    match bench.drive.erase(false) {
        Ok(()) => {}
        Err(Error::IllegalRequest(_)) => {
            return Err(Fault::Lacking("the drive can't erase".into()));
        }
        Err(error) => return Err(error.into()),
    }
    bench.drive.rewind()?;
    bench.expect(Read::Blank)?;
    bench.expect(Read::EndOfData)
}
