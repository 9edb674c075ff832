//! What comes of the commands, in a tape's words.

/// Who a device is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Vendor.
    pub vendor: String,
    /// Product.
    pub product: String,
    /// Firmware revision.
    pub revision: String,
    /// Unit serial number; `None` if the device keeps it for itself.
    pub serial: Option<String>,
}

/// Lengths of blocks, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockLimits {
    /// Shortest.
    pub min: usize,
    /// Longest that the drive, the command and the path to the drive all carry.
    pub max: usize,
}

/// Whether a drive can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// A medium is in and ready.
    Ready,
    /// Threading, rewinding, erasing: will be ready without help.
    BecomingReady,
    /// Calibrating a new medium (LTO-9: 20 minutes to 2 hours), which must not be interrupted.
    Calibrating,
    /// No medium.
    NoMedium,
    /// A medium is in but not threaded: `load` it.
    LoadRequired,
    /// A cleaning cartridge is in.
    Cleaning,
    /// A cleaning cartridge is in that is used up.
    CleaningExpired,
    /// A medium is in that this drive can't use.
    IncompatibleMedium,
}

/// The medium as [`crate::Drive::prepare`] found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MediumState {
    /// Writing is refused.
    pub write_protected: bool,
    /// Write once: what is recorded can't be overwritten.
    pub worm: bool,
    /// Density code of the medium (5Ch LTO-7, 5Eh LTO-8, 60h LTO-9); 0 if the drive doesn't say.
    pub density: u8,
    /// Whether the drive compresses; `None` if it doesn't say.
    pub compression: Option<bool>,
    /// How many partitions the medium has; `None` if the drive doesn't say.
    pub partitions: Option<u8>,
}

/// A write that the drive took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// Taken.
    Ok,
    /// Taken, and the medium's end (or programmable early warning) is near.
    EarlyWarning,
}

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// A block of this many bytes, at the buffer's start.
    Block(usize),
    /// A filemark; the tape is behind it.
    Filemark,
    /// Nothing is recorded from here on.
    EndOfData,
    /// Nothing is recorded, and here is the medium's beginning: it is blank. Said only if the drive itself put
    /// the tape at its beginning by the last command before this.
    Blank,
}

/// When filemarks are on the medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// The drive may keep them, and all before, in its buffer.
    Immediate,
    /// On the medium before the command ends.
    Synchronous,
}

/// How far spacing over filemarks got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spaced {
    /// All the way.
    All,
    /// End of data came first.
    EndOfData,
    /// The medium's beginning came first.
    Beginning,
}

/// Where the tape stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // independent facts of one answer
pub struct Position {
    /// Partition.
    pub partition: u32,
    /// Logical object (block or filemark) that the next command reads or writes.
    pub block: u64,
    /// Filemarks between the partition's beginning and here; `None` if the drive doesn't say.
    pub file: Option<u64>,
    /// At the partition's beginning.
    pub beginning: bool,
    /// Between early warning and the partition's end.
    pub end_of_medium: bool,
    /// Beyond programmable early warning.
    pub programmable_early_warning: bool,
    /// Objects that are in the drive's buffer and not yet on the medium; `None` if the drive doesn't say.
    pub buffered_blocks: Option<u64>,
}

impl Position {
    /// The first object that is not on the medium, if the drive says: all before it survive a loss of power.
    pub fn on_medium(&self) -> Option<u64> {
        self.buffered_blocks
            .map(|buffered| self.block.saturating_sub(buffered))
    }
}
