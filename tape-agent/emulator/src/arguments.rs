//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};
use taf_emulator::Generation;
use taf_emulator::library::Spec;

/// A virtual tape library: robot, drives and cartridges in a folder, served over unix sockets and as an iSCSI target.
///
/// Whatever drives a real library drives this one: device names are `unix:DIR/sockets/changer.sock`,
/// `unix:DIR/sockets/drive0.sock` and so on, or with `--iscsi` those that `serve` prints. While it is on, `stat` tells what it counts, `fault` has things go
/// wrong, and `drive`, `door`, `mail` and `exception` do what a person or bad luck does to a real one.
#[derive(Debug, Parser)]
#[command(version, about, after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "Examples:
  taf-emulator serve --dir lib --create --drives 2 --slots 8 --cartridges 4 --capacity 4GB
  taf-emulator serve --dir lib9 --create --generation 9 --capacity 18TB --real-speeds
  taf-emulator serve --dir lib --iscsi 0.0.0.0:3260 --iscsi-secrets secrets
  taf-emulator stat --dir lib --json
  taf-emulator fault add --dir lib at=medium barcode=TAF001L8 object=100 asc=0x0c
  taf-emulator fault add --dir lib drive=1 opcode=0x0a nth=20 do=hang
  taf-emulator drive power-cut --dir lib 0
  taf-emulator add --dir lib --outside NEW001L8 && taf-emulator mail put --dir lib NEW001L8";

const FAULTS: &str = "A fault is written as KEY=VALUE, with the keys of `faults.toml` in the library's folder:
  at=WHERE       command (default), write, medium, deferred, read, filemark, position, load, move
  drive=NAME     only at this drive (number or serial number) or at the changer
  barcode=LABEL  only with this cartridge
  object=N       only at this logical object (block or filemark); objects=M: and at so many from it on
  opcode=0xNN    only with commands of this operation code
  nth=N          only from the n-th time on that all else fits
  after_ms=N     not before so many milliseconds have passed
  chance=P       strikes with this probability, by the library's seed
  times=N        how often it strikes (default 1); 0 for ever
  do=WHAT        sense (default), hang, hang-after, hang-until-released, drop-before, drop-after, busy,
                 task-set-full, reservation-conflict, flip, retry, power-cut, reset
  key= asc= ascq=  the sense (default 3, 0, 0); deferred=true, descriptors=true, eom=true, information=N;
                 with key=1 (recovered) READ and WRITE are carried out besides
  bits=N         how many bits flip turns over
  retries=N      how many retries are counted by retry, or with key=1
  alerts=[N,…]   TapeAlert flags that are raised besides
`medium`: the object is lost on its way from the buffer to the medium, and all behind it; a deferred error tells.
`deferred`: the same for the block just written, told with whatever command comes next.

Examples:
  taf-emulator fault add --dir lib at=read barcode=TAF001L8 object=700 objects=40 times=0 asc=0x11
  taf-emulator fault add --dir lib opcode=0x34 deferred=true asc=0x0c
  taf-emulator fault add --dir lib drive=0 at=write nth=50 do=drop-after
  taf-emulator fault add --dir lib drive=changer at=move key=4 asc=0x15 ascq=1";

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
        iscsi: Iscsi,
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
    /// Tell what drives and robot are and count since the library was switched on
    Stat {
        /// The library's folder
        #[arg(long)]
        dir: PathBuf,
        /// As one JSON object: `drives` (number, serial, barcode, threaded, hangs, counters), `changer`, `seed`,
        /// `faults`
        #[arg(long)]
        json: bool,
    },
    /// Have things go wrong in a library that is on
    #[command(subcommand, after_help = FAULTS)]
    Fault(FaultCommand),
    /// What happens to a drive: power, reset, alerts
    #[command(subcommand)]
    Drive(DriveCommand),
    /// Open or close the library's door
    Door {
        /// The library's folder
        #[arg(long)]
        dir: PathBuf,
        /// What to do
        action: DoorAction,
    },
    /// Put cartridges into mail slots, and take them out
    #[command(subcommand)]
    Mail(MailCommand),
    /// Have an element of the library in an abnormal state
    Exception {
        /// The library's folder
        #[arg(long)]
        dir: PathBuf,
        /// The element's address
        element: u16,
        /// Additional sense code and qualifier in hexadecimal, such as 30/00; omitted: no more
        code: Option<SenseCode>,
    },
    /// Let simulated time pass
    Advance {
        /// The library's folder
        #[arg(long)]
        dir: PathBuf,
        /// Milliseconds
        milliseconds: u64,
    },
    /// Write one tape file of a cartridge to stdout, also while the library is on
    Cat {
        /// The cartridge's file
        cartridge: PathBuf,
        /// Number of the tape file, from 0
        file: u64,
    },
}

/// An iSCSI target in front of the library.
#[derive(Debug, Args)]
pub struct Iscsi {
    /// Be an iSCSI target there, too: unit 0 is the robot, 1, 2, … the drives. Port 3260 is the usual one, 0 any
    #[arg(long = "iscsi", value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// The target's name [default: made of the robot's serial number]
    #[arg(long = "iscsi-name", value_name = "IQN", requires = "listen")]
    pub name: Option<String>,
    /// Who may log in, by CHAP: a file that only you may read, with lines `USER SECRET`, or `USER SECRET TARGET-USER
    /// TARGET-SECRET` for initiators that want proof of the target. Anybody may who reaches the port without it
    #[arg(long = "iscsi-secrets", value_name = "FILE", requires = "listen")]
    pub secrets: Option<PathBuf>,
    /// Send whoever logs in on to another place
    #[arg(long = "iscsi-redirect", value_name = "HOST:PORT", requires = "listen")]
    pub redirect: Option<String>,
}

/// The library that an order is for.
#[derive(Debug, Args)]
pub struct At {
    /// The library's folder
    #[arg(long)]
    pub dir: PathBuf,
}

#[derive(Debug, Subcommand)]
pub enum FaultCommand {
    /// Add a fault to the script
    #[command(after_help = FAULTS)]
    Add {
        #[command(flatten)]
        at: At,
        /// `KEY=VALUE` words
        #[arg(required = true)]
        words: Vec<String>,
    },
    /// List the faults still to come, as TOML
    List(At),
    /// Take back all faults
    Clear(At),
    /// Let commands go on that hang
    Release {
        #[command(flatten)]
        at: At,
        /// Only at this drive (number or serial number), or at the `changer`
        unit: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub enum DriveCommand {
    /// Cut its power and give it back; of its buffer, a part by chance has reached the medium
    PowerCut {
        #[command(flatten)]
        at: At,
        /// Number or serial number
        drive: String,
        /// Exactly so many objects of its buffer have reached the medium
        #[arg(long)]
        keep: Option<u64>,
    },
    /// Reset it, as a host does when a command took too long
    Reset {
        #[command(flatten)]
        at: At,
        /// Number or serial number
        drive: String,
    },
    /// Raise `TapeAlert` flags, such as 20: clean now
    Alert {
        #[command(flatten)]
        at: At,
        /// Number or serial number
        drive: String,
        /// 1 to 64
        #[arg(required = true, value_parser = clap::value_parser!(u8).range(1..=64))]
        flags: Vec<u8>,
    },
}

#[derive(Debug, Subcommand)]
pub enum MailCommand {
    /// Put a cartridge from the folder `outside` into an empty mail slot; prints the slot's address
    Put {
        #[command(flatten)]
        at: At,
        /// Name of the cartridge's file, without its ending
        name: String,
    },
    /// Take a cartridge out of a mail slot, into the folder `outside`
    Take {
        #[command(flatten)]
        at: At,
        /// Name of the cartridge's file, without its ending
        name: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum DoorAction {
    /// Open it: nothing moves
    Open,
    /// Close it: the library looks at its slots anew
    Close,
}

/// Additional sense code and qualifier: `ASC/ASCQ` in hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenseCode(pub (u8, u8));

impl FromStr for SenseCode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let byte = |text: &str| u8::from_str_radix(text, 16).ok();
        text.split_once('/')
            .and_then(|(asc, ascq)| Some(Self((byte(asc)?, byte(ascq)?))))
            .ok_or_else(|| "it must be two hexadecimal bytes, such as 30/00".to_owned())
    }
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
#[allow(clippy::struct_excessive_bools)] // flags of the command line
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
    /// Drives and robot as fast and as slow as real ones of their generation: streaming, stopping, winding,
    /// loading; each speed can be changed in library.toml
    #[arg(long, conflicts_with_all = ["rate", "load_ms", "locate_ms"])]
    pub real_speeds: bool,
    /// Time passes only by what each drive does, and by `taf-emulator advance`
    #[arg(long)]
    pub simulated_time: bool,
    /// A power cut while something is unflushed leaves a tape without an end-of-data mark
    #[arg(long)]
    pub loses_end: bool,
    /// The robot refuses to tell volume tags and identifiers at once, as some do
    #[arg(long)]
    pub tags_or_identifiers: bool,
    /// What chance goes by [default: another number each time, which is logged]
    #[arg(long)]
    pub seed: Option<u64>,
}

impl Layout {
    pub fn spec(&self) -> Spec {
        let spec = Spec {
            generation: self.generation,
            mail_slots: self.mail_slots,
            buffer: self.buffer.0,
            block_max: u32::try_from(self.block_max.0).unwrap_or(u32::MAX),
            early_warning: self.early_warning.map(|size| size.0),
            sync: self.sync,
            rate: self.rate.0,
            load_ms: self.load_ms,
            locate_ms: self.locate_ms,
            simulated_time: self.simulated_time,
            loses_end: self.loses_end,
            tags_or_identifiers: self.tags_or_identifiers,
            seed: self.seed,
            ..Spec::new(self.drives, self.slots, self.capacity.0)
        };
        if self.real_speeds {
            spec.with_real_speeds()
        } else {
            spec
        }
    }
}

#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools)] // flags of the command line
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
    /// To be written once, also if the barcode doesn't say so (endings LV, LW, LX, LY, LZ do)
    #[arg(long)]
    pub write_once: bool,
    /// Of two partitions, as a tape that LTFS used: so many bytes of the capacity are the second one's
    #[arg(long)]
    pub second_partition: Option<Size>,
    /// Another one with a barcode that there is already
    #[arg(long)]
    pub another: bool,
    /// Without a label: the barcode only names its file
    #[arg(long)]
    pub unlabelled: bool,
    /// Outside the library, to be put into a mail slot
    #[arg(long)]
    pub outside: bool,
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
