//! `taf tape cat`: the `dd` of the emulator's cartridges.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::tape;

/// Write the blocks of one tape file to standard output
///
/// For cartridges of the emulator, also while it runs: what was flushed. The first block of a part says how to unpack
/// it with zstd and tar alone, and up to which byte the part before it counts if an error cut that off.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf tape cat library/cartridges/TAF001L8.tape 1 | head -c 4096 | strings
  taf tape cat library/cartridges/TAF001L8.tape 1 | zstd -dc | tar -tf -
  (taf tape cat TAF001L8.tape 3 | head -c 104857600; taf tape cat TAF002L8.tape 1) | zstd -dc | tar -tf -")]
pub struct Cat {
    /// The cartridge's file
    cartridge: PathBuf,
    /// Number of the tape file; 0 is the label
    file: u64,
    /// Write to a terminal as well
    #[arg(long)]
    to_stdout: bool,
}

impl Cat {
    /// Runs it.
    pub fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        if std::io::stdout().is_terminal() && !self.to_stdout {
            return Err(Failure::usage(
                "these bytes are not for a terminal",
                "send them on, as in taf tape cat CARTRIDGE N | zstd -dc | tar -tf -, or add --to-stdout",
            ));
        }
        tape::read_cartridge::<Failure>(&self.cartridge, self.file, |block| out.bytes(block))?;
        Ok(Exit::Done)
    }
}
