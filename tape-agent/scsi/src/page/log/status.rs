//! Page 11h: what the drive is doing (SSC-5 8.3.5). It may be read at any time and disturbs nothing.

use super::{CONTROL_BINARY, Parameter, find};

/// Code of the parameter with the very high frequency data.
pub const VERY_HIGH_FREQUENCY: u16 = 0x0000;
/// Code of the parameter with the polling delay in milliseconds.
pub const POLLING_DELAY: u16 = 0x0001;

/// What a drive does (DT DEVICE ACTIVITY); codes that are not here are kept as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// Nothing.
    Idle,
    /// Cleaning its heads.
    Cleaning,
    /// Loading.
    Loading,
    /// Unloading.
    Unloading,
    /// Other medium activity, or reading what doesn't go to the host.
    Other(u8),
    /// Reading.
    Reading,
    /// Writing.
    Writing,
    /// Locating.
    Locating,
    /// Rewinding.
    Rewinding,
    /// Erasing.
    Erasing,
    /// Formatting.
    Formatting,
    /// Calibrating, as LTO-9 does at a cartridge's first load.
    Calibrating,
}

impl Activity {
    /// The activity with this code.
    pub fn from_code(code: u8) -> Self {
        match code {
            0x00 => Self::Idle,
            0x01 => Self::Cleaning,
            0x02 => Self::Loading,
            0x03 => Self::Unloading,
            0x05 => Self::Reading,
            0x06 => Self::Writing,
            0x07 => Self::Locating,
            0x08 => Self::Rewinding,
            0x09 => Self::Erasing,
            0x0a => Self::Formatting,
            0x0b => Self::Calibrating,
            other => Self::Other(other),
        }
    }

    /// Its code.
    pub fn code(self) -> u8 {
        match self {
            Self::Idle => 0x00,
            Self::Cleaning => 0x01,
            Self::Loading => 0x02,
            Self::Unloading => 0x03,
            Self::Reading => 0x05,
            Self::Writing => 0x06,
            Self::Locating => 0x07,
            Self::Rewinding => 0x08,
            Self::Erasing => 0x09,
            Self::Formatting => 0x0a,
            Self::Calibrating => 0x0b,
            Self::Other(code) => code,
        }
    }
}

/// The very high frequency data: four bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // independent bits of the wire
pub struct DeviceStatus {
    /// Prevented from being unloaded (PAMR).
    pub removal_prevented: bool,
    /// A person must do something (HUI).
    pub human_intervention: bool,
    /// The cartridge memory can be read (MACC).
    pub memory_accessible: bool,
    /// Compression is on (CMPR).
    pub compressing: bool,
    /// The cartridge is write protected (WRTP).
    pub write_protected: bool,
    /// Cleaning is requested (CRQST).
    pub cleaning_requested: bool,
    /// Cleaning is required (CRQRD).
    pub cleaning_required: bool,
    /// The data are valid (DINIT).
    pub valid: bool,
    /// In transition: loading or unloading (INXTN).
    pub in_transition: bool,
    /// A cartridge is there (MPRSNT).
    pub medium_present: bool,
    /// A cartridge is seated (MSTD).
    pub medium_seated: bool,
    /// A cartridge is threaded (MTHRD).
    pub medium_threaded: bool,
    /// A cartridge is mounted: data can be read and written (MOUNTED).
    pub mounted: bool,
    /// What it does.
    pub activity: Activity,
    /// `TapeAlert` flags changed since somebody read them (TAFC).
    pub alerts_changed: bool,
}

impl Default for DeviceStatus {
    /// An empty drive that does nothing.
    fn default() -> Self {
        Self {
            removal_prevented: false,
            human_intervention: false,
            memory_accessible: false,
            compressing: false,
            write_protected: false,
            cleaning_requested: false,
            cleaning_required: false,
            valid: true,
            in_transition: false,
            medium_present: false,
            medium_seated: false,
            medium_threaded: false,
            mounted: false,
            activity: Activity::Idle,
            alerts_changed: false,
        }
    }
}

impl DeviceStatus {
    /// Finds the data among the page's parameters; `None` if they are missing or cut.
    pub fn of(parameters: &[Parameter]) -> Option<Self> {
        let value = find(parameters, VERY_HIGH_FREQUENCY)?.value.get(..4)?;
        let bit = |byte: usize, bit: u8| value[byte] & (1 << bit) != 0;
        Some(Self {
            removal_prevented: bit(0, 7),
            human_intervention: bit(0, 6),
            memory_accessible: bit(0, 5),
            compressing: bit(0, 4),
            write_protected: bit(0, 3),
            cleaning_requested: bit(0, 2),
            cleaning_required: bit(0, 1),
            valid: bit(0, 0),
            in_transition: bit(1, 7),
            medium_present: bit(1, 4),
            medium_seated: bit(1, 2),
            medium_threaded: bit(1, 1),
            mounted: bit(1, 0),
            activity: Activity::from_code(value[2]),
            alerts_changed: bit(3, 0),
        })
    }

    /// The parameter with the data.
    pub fn parameter(&self) -> Parameter {
        let mut value = vec![0; 4];
        for (set, byte, bit) in [
            (self.removal_prevented, 0, 7),
            (self.human_intervention, 0, 6),
            (self.memory_accessible, 0, 5),
            (self.compressing, 0, 4),
            (self.write_protected, 0, 3),
            (self.cleaning_requested, 0, 2),
            (self.cleaning_required, 0, 1),
            (self.valid, 0, 0),
            (self.in_transition, 1, 7),
            (self.medium_present, 1, 4),
            (self.medium_seated, 1, 2),
            (self.medium_threaded, 1, 1),
            (self.mounted, 1, 0),
            (self.alerts_changed, 3, 0),
        ] {
            value[byte] |= u8::from(set) << bit;
        }
        value[2] = self.activity.code();
        Parameter {
            code: VERY_HIGH_FREQUENCY,
            control: CONTROL_BINARY,
            value,
        }
    }
}
