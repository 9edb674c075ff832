//! The drive that is tested, and what every step needs of it.

use taf_drive::health::{Alerts, Snapshot};
use taf_drive::{Drive, Error as DriveError, MediumState, Read, Readiness, Sync, Written};

use super::super::medium::Opener;
use super::{Doing as _, Problem, data, wrong};

/// What is to be tested how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Bytes of the usual block.
    pub block_size: usize,
    /// Blocks of each of the two files.
    pub blocks: u64,
    /// Bytes of a measurement of speed.
    pub speed_bytes: u64,
    /// Fill the tape to its end.
    pub fill: bool,
    /// Another path to the same drive.
    pub second: Option<String>,
    /// What the data follow from: another each time, so that an earlier test's blocks are no proof.
    pub seed: u64,
}

/// See the module.
pub struct Bench {
    pub(super) plan: Plan,
    /// Nothing while it is closed to be opened anew.
    drive: Option<Box<dyn Drive>>,
    open: Opener,
    pub(super) state: MediumState,
    pub(super) buffer: Vec<u8>,
    pub(super) before: Option<Snapshot>,
    pub(super) alerts_before: Option<Alerts>,
}

impl Bench {
    /// A drive with a cartridge that is ready.
    pub fn new(plan: Plan, drive: Box<dyn Drive>, open: Opener) -> Result<Self, Problem> {
        let mut bench = Self {
            plan,
            drive: Some(drive),
            open,
            state: MediumState {
                write_protected: false,
                worm: false,
                density: 0,
                compression: None,
                partitions: None,
            },
            buffer: Vec::new(),
            before: None,
            alerts_before: None,
        };
        bench.prepare()?;
        let longest = bench
            .drive()?
            .block_limits()
            .doing("asking its block limits")?
            .max;
        if bench.plan.block_size > longest {
            return Err(Problem::Stop(format!(
                "drive and path carry blocks of {longest} bytes at most, not of {}",
                bench.plan.block_size
            )));
        }
        bench.buffer = vec![0; longest];
        Ok(bench)
    }

    /// The drive.
    pub(super) fn drive(&mut self) -> Result<&mut dyn Drive, Problem> {
        opened(&mut self.drive)
    }

    fn prepare(&mut self) -> Result<(), Problem> {
        self.drive()?.attentions().doing("asking for its news")?;
        if self.drive()?.ready().doing("asking whether it is ready")? != Readiness::Ready {
            self.drive()?.load().doing("loading the cartridge")?;
            self.drive()?.attentions().doing("asking for its news")?;
        }
        self.state = self.drive()?.prepare().doing("setting variable blocks")?;
        Ok(())
    }

    /// Closes the device and opens it again, as a program does that starts anew.
    pub(super) fn reopen(&mut self) -> Result<(), Problem> {
        // The old path goes first: some devices take one at a time.
        self.drive = None;
        self.drive = Some((self.open)().doing("opening it again")?);
        self.prepare()
    }

    /// Brings the drive back after a step that failed.
    pub(super) fn recover(&mut self, problem: &Problem) -> Result<(), Problem> {
        if let Problem::Drive {
            source: DriveError::Unknown(_),
            ..
        } = problem
        {
            return self.reopen();
        }
        self.prepare().or_else(|_| self.reopen())
    }

    pub(super) fn must_be_writable(&self) -> Result<(), Problem> {
        if self.state.worm {
            return Err(Problem::Stop(
                "a write-once cartridge can't be tested: what is written stays for ever".to_owned(),
            ));
        }
        if self.state.write_protected {
            return Err(Problem::Stop(
                "the cartridge is write-protected: move its tab".to_owned(),
            ));
        }
        Ok(())
    }

    /// To the beginning, to write over what is there.
    pub(super) fn start_over(&mut self) -> Result<(), Problem> {
        self.drive()?.rewind().doing("rewinding")?;
        self.drive()?
            .allow_overwrite(0)
            .doing("allowing to overwrite")?;
        Ok(())
    }

    /// Writes test blocks `numbers` of a file, each of `size` bytes.
    pub(super) fn write_blocks(
        &mut self,
        file: u64,
        numbers: std::ops::Range<u64>,
        size: usize,
    ) -> Result<(), Problem> {
        let mut block = vec![0; size];
        for number in numbers {
            data::fill(&mut block, self.plan.seed, file, number);
            if self.drive()?.write_block(&block).doing("writing a block")? == Written::EarlyWarning
            {
                return wrong(format!(
                    "early warning came at block {number} of file {file}: the tape is too short for this test"
                ));
            }
        }
        Ok(())
    }

    /// Writes filemarks that are on the medium when done.
    pub(super) fn mark(&mut self, count: u32) -> Result<(), Problem> {
        self.drive()?
            .write_filemarks(count, Sync::Synchronous)
            .doing("writing filemarks")?;
        Ok(())
    }

    /// Reads into the buffer.
    pub(super) fn read(&mut self) -> Result<Read, Problem> {
        opened(&mut self.drive)?
            .read_block(&mut self.buffer)
            .doing("reading")
    }

    /// Reads the next block and compares it.
    pub(super) fn expect_block(
        &mut self,
        file: u64,
        number: u64,
        size: usize,
    ) -> Result<(), Problem> {
        let read = self.read()?;
        let Read::Block(length) = read else {
            return wrong(format!(
                "{} instead of block {number} of file {file}",
                words(read)
            ));
        };
        let mut wanted = vec![0; size];
        data::fill(&mut wanted, self.plan.seed, file, number);
        data::check(&self.buffer[..length], &wanted, file, number)
    }

    /// Reads what must be no block.
    pub(super) fn expect(&mut self, wanted: Read) -> Result<(), Problem> {
        let read = self.read()?;
        if read == wanted {
            return Ok(());
        }
        wrong(format!("{} instead of {}", words(read), words(wanted)))
    }

    /// READ POSITION must say this block, and this file if it says one.
    pub(super) fn expect_at(&mut self, block: u64, file: u64) -> Result<(), Problem> {
        let position = self.drive()?.position().doing("asking its position")?;
        if position.block != block {
            return wrong(format!(
                "the drive says that it stands at block {}, but it is block {block}",
                position.block
            ));
        }
        match position.file {
            Some(found) if found != file => wrong(format!(
                "the drive says that it stands in file {found}, but it is file {file}"
            )),
            _ => Ok(()),
        }
    }

    /// Writes three files of one, two and three blocks from the beginning. Their marks are objects 1, 4 and 8.
    pub(super) fn three_files(&mut self) -> Result<(), Problem> {
        let size = self.plan.block_size;
        self.start_over()?;
        for file in 0..3 {
            self.write_blocks(file, 0..file + 1, size)?;
            self.mark(1)?;
        }
        Ok(())
    }
}

fn opened(drive: &mut Option<Box<dyn Drive>>) -> Result<&mut dyn Drive, Problem> {
    match drive {
        Some(drive) => Ok(drive.as_mut()),
        None => Err(Problem::Stop(
            "the device could not be opened again".to_owned(),
        )),
    }
}

pub(super) fn words(read: Read) -> String {
    match read {
        Read::Block(length) => format!("a block of {length} bytes"),
        Read::Filemark => "a filemark".to_owned(),
        Read::EndOfData => "the end of data".to_owned(),
        Read::Blank => "a blank tape".to_owned(),
    }
}
