//! The command line.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};
use taf_emulator::Generation;
use taf_emulator::library::Spec;

/// A virtual tape library: robot, drives and cartridges in a folder, served over unix sockets.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a library
    Create(Create),
    /// Switch a library on, and serve it until SIGTERM or SIGINT
    ///
    /// Prints one line for each logical unit when it can be reached: its name, the device name for TAF, its
    /// serial number, separated by tabs.
    Serve {
        /// The library's folder
        #[arg(long)]
        dir: PathBuf,
        /// Make the library if there is none, with the options below
        #[arg(long)]
        create: bool,
        #[command(flatten)]
        layout: Box<Layout>,
    },
    /// Put new cartridges into free slots, also while the library is on
    Add(Add),
    /// List the cartridges: barcode, bytes used, capacity, tape files, loads
    List {
        /// The library's folder
        #[arg(long)]
        dir: PathBuf,
    },
    /// Write one tape file of a cartridge to stdout, also while the library is on
    Cat {
        /// The cartridge's file
        cartridge: PathBuf,
        /// Number of the tape file, from 0
        file: u64,
    },
}

#[derive(Debug, Args)]
pub struct Create {
    /// The library's folder
    #[arg(long)]
    pub dir: PathBuf,
    #[command(flatten)]
    pub layout: Layout,
}

#[derive(Debug, Args)]
pub struct Layout {
    /// Drives
    #[arg(long, default_value_t = 2)]
    pub drives: u16,
    /// Slots
    #[arg(long, default_value_t = 10)]
    pub slots: u16,
    /// Mail slots
    #[arg(long, default_value_t = 0)]
    pub mail_slots: u16,
    /// Blank cartridges to begin with, named PREFIX001L8 and so on
    #[arg(long, default_value_t = 4)]
    pub cartridges: u16,
    /// How their barcodes begin
    #[arg(long, default_value = "TAF")]
    pub prefix: String,
    /// Capacity of a cartridge, such as 4GB or 512MiB
    #[arg(long, default_value = "4GB")]
    pub capacity: Size,
    /// LTO generation, 5 to 10
    #[arg(long, default_value = "8")]
    pub generation: Generation,
    /// Buffer of each drive: what is in it is lost when the emulator is killed
    #[arg(long, default_value = "64MiB")]
    pub buffer: Size,
    /// Largest block
    #[arg(long, default_value = "8MiB")]
    pub block_max: Size,
    /// Distance from early warning to the hard end [default: a 32nd of the capacity, at most 1GiB]
    #[arg(long)]
    pub early_warning: Option<Size>,
    /// Wait for the disk at each flush, so that data survive a crash of this host too
    #[arg(long)]
    pub sync: bool,
    /// Bytes a second to and from a medium; 0: as fast as can be
    #[arg(long, default_value = "0")]
    pub rate: Size,
    /// Milliseconds to thread a cartridge
    #[arg(long, default_value_t = 0)]
    pub load_ms: u64,
    /// Milliseconds for every movement of a tape
    #[arg(long, default_value_t = 0)]
    pub locate_ms: u64,
}

impl Layout {
    pub fn spec(&self) -> Spec {
        Spec {
            generation: self.generation,
            mail_slots: self.mail_slots,
            buffer: self.buffer.0,
            block_max: u32::try_from(self.block_max.0).unwrap_or(u32::MAX),
            early_warning: self.early_warning.map(|size| size.0),
            sync: self.sync,
            rate: self.rate.0,
            load_ms: self.load_ms,
            locate_ms: self.locate_ms,
            ..Spec::new(self.drives, self.slots, self.capacity.0)
        }
    }
}

#[derive(Debug, Args)]
pub struct Add {
    /// The library's folder
    #[arg(long)]
    pub dir: PathBuf,
    /// Barcodes, such as TAF005L8
    #[arg(required = true)]
    pub barcodes: Vec<String>,
    /// Capacity [default: the library's]
    #[arg(long)]
    pub capacity: Option<Size>,
    /// Break out the tab that allows writing
    #[arg(long)]
    pub write_protected: bool,
    /// Record the bytes of this file as the first tape file, as somebody else's tape
    #[arg(long)]
    pub foreign: Option<PathBuf>,
    /// Length of the foreign blocks
    #[arg(long, default_value = "10KiB")]
    pub foreign_block: Size,
}

/// A size in bytes: a number, with KB, MB, GB, TB or KiB, MiB, GiB, TiB behind it if so wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit: u64 = match &text[digits.len()..] {
            "" | "B" => 1,
            "KB" | "kB" => 1000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "TB" => 1_000_000_000_000,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            "TiB" => 1 << 40,
            _ => return Err("the unit must be KB, MB, GB, TB, KiB, MiB, GiB or TiB".to_owned()),
        };
        digits
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(unit))
            .map(Self)
            .ok_or_else(|| "it must be a whole number and a unit, such as 4GB".to_owned())
    }
}
