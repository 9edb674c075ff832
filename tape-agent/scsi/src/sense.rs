//! Sense data: what a device says beside its status.
//!
//! Owns fixed (70h, 71h) and descriptor (72h, 73h) format, both ways. Reading never fails on strange bytes:
//! what isn't there is `None` or zero, and a response code that isn't one of the four is `None` as a whole.
//! Deciding what a code means for a tape is the driver's work.

use std::fmt;

pub mod code;

/// The most sense data that SPC allows, in bytes.
pub const LENGTH_MAX: usize = 252;

/// The sense key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Key {
    /// Nothing wrong; filemark, early warning and wrong length come under it.
    NoSense = 0x0,
    /// Done, with the device's own recovery.
    RecoveredError = 0x1,
    /// Not ready.
    NotReady = 0x2,
    /// The medium is bad at this place.
    MediumError = 0x3,
    /// The device is bad.
    HardwareError = 0x4,
    /// The command or a parameter is wrong.
    IllegalRequest = 0x5,
    /// Something changed since the last command, which did not run.
    UnitAttention = 0x6,
    /// Write protected, or otherwise forbidden.
    DataProtect = 0x7,
    /// Nothing recorded here.
    BlankCheck = 0x8,
    /// The vendor's own.
    VendorSpecific = 0x9,
    /// A copy failed.
    CopyAborted = 0xa,
    /// The device gave up on the command.
    AbortedCommand = 0xb,
    /// Reserved since SPC-4.
    Reserved = 0xc,
    /// The end of the medium was reached with data unwritten.
    VolumeOverflow = 0xd,
    /// A comparison failed.
    Miscompare = 0xe,
    /// Nothing is wrong and the command is done.
    Completed = 0xf,
}

impl Key {
    /// The key in the low four bits of `code`.
    pub fn from_code(code: u8) -> Self {
        match code & 0x0f {
            0x0 => Self::NoSense,
            0x1 => Self::RecoveredError,
            0x2 => Self::NotReady,
            0x3 => Self::MediumError,
            0x4 => Self::HardwareError,
            0x5 => Self::IllegalRequest,
            0x6 => Self::UnitAttention,
            0x7 => Self::DataProtect,
            0x8 => Self::BlankCheck,
            0x9 => Self::VendorSpecific,
            0xa => Self::CopyAborted,
            0xb => Self::AbortedCommand,
            0xc => Self::Reserved,
            0xd => Self::VolumeOverflow,
            0xe => Self::Miscompare,
            _ => Self::Completed,
        }
    }

    /// The key in words.
    pub fn words(self) -> &'static str {
        match self {
            Self::NoSense => "no sense",
            Self::RecoveredError => "recovered error",
            Self::NotReady => "not ready",
            Self::MediumError => "medium error",
            Self::HardwareError => "hardware error",
            Self::IllegalRequest => "illegal request",
            Self::UnitAttention => "unit attention",
            Self::DataProtect => "data protect",
            Self::BlankCheck => "blank check",
            Self::VendorSpecific => "vendor specific",
            Self::CopyAborted => "copy aborted",
            Self::AbortedCommand => "aborted command",
            Self::Reserved => "reserved",
            Self::VolumeOverflow => "volume overflow",
            Self::Miscompare => "miscompare",
            Self::Completed => "completed",
        }
    }
}

/// Sense data, decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // they are four independent bits of the wire
pub struct Sense {
    /// It speaks of an earlier command (71h, 73h); the command that brought it did not run.
    pub deferred: bool,
    /// The sense key.
    pub key: Key,
    /// Additional sense code.
    pub asc: u8,
    /// Additional sense code qualifier.
    pub ascq: u8,
    /// A filemark was met.
    pub filemark: bool,
    /// End of medium: beyond early warning, at the end, or (backwards) at the beginning.
    pub eom: bool,
    /// Incorrect length: the block is not as long as was asked for.
    pub ili: bool,
    /// The INFORMATION field if valid. For READ: length asked for minus the block's length, negative when
    /// the block is longer. For WRITE FILEMARKS and SPACE: what was not done.
    pub information: Option<i64>,
    /// With NOT READY or NO SENSE: how far a long operation is, in 65,536ths of the whole.
    pub progress: Option<u16>,
}

impl Sense {
    /// Current sense with a key and an additional code (see [`code`]), no flags.
    pub fn new(key: Key, (asc, ascq): (u8, u8)) -> Self {
        Self {
            deferred: false,
            key,
            asc,
            ascq,
            filemark: false,
            eom: false,
            ili: false,
            information: None,
            progress: None,
        }
    }

    /// The same as deferred sense: about an earlier command.
    #[must_use]
    pub fn deferred(self) -> Self {
        Self {
            deferred: true,
            ..self
        }
    }

    /// The same with the FILEMARK bit.
    #[must_use]
    pub fn with_filemark(self) -> Self {
        Self {
            filemark: true,
            ..self
        }
    }

    /// The same with the EOM bit.
    #[must_use]
    pub fn with_eom(self) -> Self {
        Self { eom: true, ..self }
    }

    /// The same with the ILI bit.
    #[must_use]
    pub fn with_ili(self) -> Self {
        Self { ili: true, ..self }
    }

    /// The same with a valid INFORMATION field.
    #[must_use]
    pub fn with_information(self, information: i64) -> Self {
        Self {
            information: Some(information),
            ..self
        }
    }

    /// The same with a progress indication, in 65,536ths.
    #[must_use]
    pub fn with_progress(self, progress: u16) -> Self {
        Self {
            progress: Some(progress),
            ..self
        }
    }

    /// Both bytes of the additional code.
    pub fn code(&self) -> (u8, u8) {
        (self.asc, self.ascq)
    }

    /// Reads sense data of any of the four response codes; `None` if it is none of them or too short to
    /// hold a key.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        match bytes.first()? & 0x7f {
            0x70 => Self::parse_fixed(bytes, false),
            0x71 => Self::parse_fixed(bytes, true),
            0x72 => Self::parse_descriptors(bytes, false),
            0x73 => Self::parse_descriptors(bytes, true),
            _ => None,
        }
    }

    fn parse_fixed(bytes: &[u8], deferred: bool) -> Option<Self> {
        let flags = *bytes.get(2)?;
        // The additional length bounds what the device meant; the rest of the buffer may be anything.
        let end = bytes
            .get(7)
            .map_or(bytes.len(), |&more| bytes.len().min(8 + usize::from(more)));
        let at = |index: usize| if index < end { bytes[index] } else { 0 };
        let information = (bytes[0] & 0x80 != 0 && bytes.len() >= 7).then(|| {
            let field = [bytes[3], bytes[4], bytes[5], bytes[6]];
            i64::from(i32::from_be_bytes(field))
        });
        Some(Self {
            deferred,
            key: Key::from_code(flags),
            asc: at(12),
            ascq: at(13),
            filemark: flags & 0x80 != 0,
            eom: flags & 0x40 != 0,
            ili: flags & 0x20 != 0,
            information,
            progress: progress(Key::from_code(flags), [at(15), at(16), at(17)]),
        })
    }

    fn parse_descriptors(bytes: &[u8], deferred: bool) -> Option<Self> {
        let key = Key::from_code(*bytes.get(1)?);
        let at = |index: usize| bytes.get(index).copied().unwrap_or(0);
        let mut sense = Self {
            deferred,
            ..Self::new(key, (at(2), at(3)))
        };
        let end = bytes.len().min(8 + usize::from(at(7)));
        let mut rest = bytes.get(8..end).unwrap_or(&[]);
        while let [kind, more, ..] = *rest {
            let length = 2 + usize::from(more);
            let Some(descriptor) = rest.get(..length) else {
                break;
            };
            match (kind, descriptor) {
                (0x00, [_, _, flags, _, field @ ..]) if flags & 0x80 != 0 => {
                    if let Some(field) = field.first_chunk::<8>() {
                        sense.information = Some(i64::from_be_bytes(*field));
                    }
                }
                (0x02, [_, _, _, _, a, b, c, ..]) => sense.progress = progress(key, [*a, *b, *c]),
                (0x04, [_, _, _, flags, ..]) => {
                    sense.filemark = flags & 0x80 != 0;
                    sense.eom = flags & 0x40 != 0;
                    sense.ili = flags & 0x20 != 0;
                }
                _ => {}
            }
            rest = &rest[length..];
        }
        Some(sense)
    }

    /// Fixed format, 18 bytes. Information that needs more than 32 bits is left out, as SPC says.
    pub fn to_fixed(&self) -> Vec<u8> {
        let mut bytes = vec![0; 18];
        bytes[0] = if self.deferred { 0x71 } else { 0x70 };
        if let Some(information) = self.information.and_then(|wide| i32::try_from(wide).ok()) {
            bytes[0] |= 0x80;
            bytes[3..7].copy_from_slice(&information.to_be_bytes());
        }
        bytes[2] = self.key as u8 | self.flags();
        bytes[7] = 10;
        bytes[12] = self.asc;
        bytes[13] = self.ascq;
        if let Some(progress) = self.progress {
            bytes[15] = 0x80;
            bytes[16..18].copy_from_slice(&progress.to_be_bytes());
        }
        bytes
    }

    /// Descriptor format: header, information (if any), stream commands.
    pub fn to_descriptors(&self) -> Vec<u8> {
        let mut bytes = vec![0; 8];
        bytes[0] = if self.deferred { 0x73 } else { 0x72 };
        bytes[1] = self.key as u8;
        bytes[2] = self.asc;
        bytes[3] = self.ascq;
        if let Some(information) = self.information {
            bytes.extend([0x00, 0x0a, 0x80, 0]);
            bytes.extend(information.to_be_bytes());
        }
        if let Some(progress) = self.progress {
            let [high, low] = progress.to_be_bytes();
            bytes.extend([0x02, 0x06, 0, 0, 0x80, high, low, 0]);
        }
        bytes.extend([0x04, 0x02, 0, self.flags()]);
        bytes[7] = (bytes.len() - 8) as u8;
        bytes
    }

    fn flags(&self) -> u8 {
        (u8::from(self.filemark) << 7) | (u8::from(self.eom) << 6) | (u8::from(self.ili) << 5)
    }
}

/// The progress indication in the sense-key specific bytes, if they are valid and the key is one that has it.
fn progress(key: Key, [flags, high, low]: [u8; 3]) -> Option<u16> {
    (flags & 0x80 != 0 && matches!(key, Key::NoSense | Key::NotReady))
        .then(|| u16::from_be_bytes([high, low]))
}

impl fmt::Display for Sense {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.deferred {
            f.write_str("deferred ")?;
        }
        write!(f, "{} {:02x}/{:02x}", self.key.words(), self.asc, self.ascq)?;
        if let Some(words) = code::words(self.code()) {
            write!(f, " ({words})")?;
        }
        for (set, word) in [
            (self.filemark, "filemark"),
            (self.eom, "end of medium"),
            (self.ili, "incorrect length"),
        ] {
            if set {
                write!(f, ", {word}")?;
            }
        }
        if let Some(information) = self.information {
            write!(f, ", information {information}")?;
        }
        if let Some(progress) = self.progress {
            write!(f, ", {} % done", u32::from(progress) * 100 / 65_536)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
