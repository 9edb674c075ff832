//! Why a command did not do what it should, and what is known about the tape afterwards.

use taf_scsi::page;
use taf_scsi::sense::{Key, Sense, code};
use taf_scsi::transport;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The medium's hard end: this write is not on it, nor will be; what was written before is in the buffer
    /// or on the medium.
    #[error("the medium is full; this write is not on it")]
    VolumeOverflow,
    /// An earlier write, acknowledged then, failed now. The command that brought the news did not run, and
    /// everything since the last flush is in doubt.
    #[error("an earlier write failed in the drive ({0}); all since the last flush is in doubt")]
    Deferred(Sense),
    /// Something happened since the last command; this command did not run. See [`Attention::of`].
    #[error("the device reports a change ({0}); the command did not run")]
    UnitAttention(Sense),
    /// Nothing is recorded where something was sought, or its end is missing.
    #[error("nothing is recorded here ({0})")]
    BlankCheck(Sense),
    /// The medium can't be written: tab, write-once, permanent or append-only protection.
    #[error("the medium is write protected ({0})")]
    WriteProtected(Sense),
    /// What is recorded here is encrypted, and the drive has no key for it.
    #[error("what is recorded here is encrypted, and the drive has no key for it ({0})")]
    Encrypted(Sense),
    /// The device can't take the command now.
    #[error("the device is not ready ({0})")]
    NotReady(Sense),
    /// The medium is bad here.
    #[error("medium error ({0})")]
    Medium(Sense),
    /// The memory in the cartridge can't be read. The tape may be as good as ever.
    #[error("the memory in the cartridge can't be read ({0})")]
    CartridgeMemory(Sense),
    /// The device is bad.
    #[error("hardware error ({0})")]
    Hardware(Sense),
    /// The device doesn't know the command, or refuses it as things are.
    #[error("the device refuses the command ({0})")]
    IllegalRequest(Sense),
    /// A library: nothing is at the source.
    #[error("the source element is empty")]
    SourceEmpty,
    /// A library: something is at the destination.
    #[error("the destination element is full")]
    DestinationFull,
    /// Another host holds the device.
    #[error("another host holds the device by a reservation")]
    ReservationConflict,
    /// Another host holds the device by a persistent reservation.
    #[error("another host holds the device by a reservation with key {key:#018x}")]
    ReservedBy {
        /// Its key, 0 if all who are registered hold it.
        key: u64,
    },
    /// The device is busy with other commands; this one did not run.
    #[error("the device is busy; the command did not run")]
    Busy,
    /// The block on tape is longer than the buffer; the tape is behind it.
    #[error(
        "a block of {length} bytes is longer than the buffer of {buffer}; read with a larger one"
    )]
    BlockTooLarge {
        /// The block's length in bytes.
        length: u64,
        /// The buffer's.
        buffer: usize,
    },
    /// A block or a buffer of no use to the drive or the path; nothing was sent.
    #[error(
        "a transfer of {length} bytes is not within {min} and {max}, which drive and path carry"
    )]
    TransferSize {
        /// What was asked, in bytes.
        length: usize,
        /// Shortest.
        min: usize,
        /// Longest.
        max: usize,
    },
    /// The drive can't tell where the tape stands, or contradicts itself.
    #[error("the drive can't tell where the tape stands; locate to a known place or rewind")]
    PositionUnknown,
    /// The device accepted a setting and did not take it.
    #[error("the drive did not take the setting: {0}")]
    NotTaken(&'static str),
    /// The way to the drive does not carry this, whatever the drive could do; nothing was done.
    #[error("{0}")]
    Unsupported(&'static str),
    /// A program that stands between us and the drive did not do what it was told; what it said is in the log.
    #[error("{command} failed: {reason}; its whole output is in the log")]
    Program {
        /// The program and its orders.
        command: String,
        /// What is known.
        reason: String,
    },
    /// The device is of another kind.
    #[error("{device} is not a {wanted} (device type {found:#04x})")]
    WrongDevice {
        /// The device's name.
        device: String,
        /// What was wanted.
        wanted: &'static str,
        /// Peripheral device type that it is.
        found: u8,
    },
    /// The device answered something that the standards don't have.
    #[error("the device's answer makes no sense: {0}")]
    Answer(#[from] page::Error),
    /// Sense data or a status that means none of the above; whether the command ran is unclear.
    #[error("the command failed ({0})")]
    Other(Sense),
    /// A status without usable sense data; whether the command ran is unclear.
    #[error("the command failed with status {0:#04x} and no sense data")]
    Status(u8),
    /// Nobody knows whether the command ran. Open the device anew.
    #[error(transparent)]
    Unknown(transport::Error),
}

impl From<transport::Error> for Error {
    fn from(error: transport::Error) -> Self {
        match error {
            // Refused before it was sent: the outcome is known.
            transport::Error::TooLarge {
                length, largest, ..
            } => Self::TransferSize {
                length,
                min: 1,
                max: largest,
            },
            other => Self::Unknown(other),
        }
    }
}

impl Error {
    /// The error that sense data mean. Filemarks, early warning and wrong lengths are not errors, and are
    /// taken by the commands that know them before they ask here.
    pub(crate) fn from_sense(sense: Sense) -> Self {
        if sense.deferred {
            return Self::Deferred(sense);
        }
        match sense.key {
            // 74h is of security, with whatever key: no key, another key, or not encrypted where a key is set.
            Key::DataProtect | Key::IllegalRequest | Key::MediumError if sense.asc == 0x74 => {
                Self::Encrypted(sense)
            }
            Key::NotReady => Self::NotReady(sense),
            Key::MediumError => Self::Medium(sense),
            Key::HardwareError => Self::Hardware(sense),
            Key::UnitAttention => Self::UnitAttention(sense),
            Key::DataProtect => Self::WriteProtected(sense),
            Key::BlankCheck => Self::BlankCheck(sense),
            Key::VolumeOverflow => Self::VolumeOverflow,
            Key::IllegalRequest => match sense.code() {
                code::SOURCE_EMPTY => Self::SourceEmpty,
                code::DESTINATION_FULL => Self::DestinationFull,
                // Some drives answer a write to a protected medium with this key.
                (0x27, _) | code::WORM_OVERWRITE => Self::WriteProtected(sense),
                _ => Self::IllegalRequest(sense),
            },
            _ => Self::Other(sense),
        }
    }

    /// Whether the drive, or the way to it, does not do such a thing or not as things are: nothing was done.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::IllegalRequest(_) | Self::Unsupported(_))
    }

    /// Whether the device doesn't know the command or this form of it, so that another way may be tried.
    pub(crate) fn unsupported(&self) -> bool {
        matches!(self, Self::IllegalRequest(sense)
            if matches!(sense.code(), code::INVALID_OPCODE | code::INVALID_FIELD_IN_CDB))
    }

    /// Whether the device doesn't know the command at all, now or ever.
    pub(crate) fn unknown_command(&self) -> bool {
        matches!(self, Self::IllegalRequest(sense) if sense.code() == code::INVALID_OPCODE)
    }
}

/// What a unit attention says, for those who must act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attention {
    /// 28h: the medium may be another one. Prove it again.
    MediumChanged,
    /// 29h: power on or reset. Position, settings, keys and everything unflushed are gone.
    Reset,
    /// 2Ah: settings or reservations were changed by somebody else.
    SettingsChanged,
    /// 3Fh and all others.
    Other,
}

impl Attention {
    /// Classifies the sense data of an [`Error::UnitAttention`].
    pub fn of(sense: &Sense) -> Self {
        match sense.asc {
            0x28 => Self::MediumChanged,
            0x29 => Self::Reset,
            0x2a => Self::SettingsChanged,
            _ => Self::Other,
        }
    }
}
