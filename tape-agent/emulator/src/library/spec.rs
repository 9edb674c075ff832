//! What a library consists of: `library.toml`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Generation;
use crate::cartridge::{BLOCK_LENGTH_MAX, Behaviour};
use crate::changer::Geometry;
use crate::drive::{Options, Speeds};

/// What a library consists of and how it behaves. Sizes in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Six characters that make the serial numbers of its devices.
    pub id: String,
    /// Of its drives, and of cartridges whose barcode doesn't say.
    #[serde(default)]
    pub generation: Generation,
    /// Drives.
    pub drives: u16,
    /// Slots.
    pub slots: u16,
    /// Mail slots.
    #[serde(default)]
    pub mail_slots: u16,
    /// Capacity of new cartridges.
    pub capacity: u64,
    /// Buffer of each drive.
    #[serde(default = "buffer")]
    pub buffer: u64,
    /// Largest block.
    #[serde(default = "block_max")]
    pub block_max: u32,
    /// From early warning to the hard end; omitted: a 32nd of the capacity, at most 1 GiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub early_warning: Option<u64>,
    /// Whether a flush waits for the disk. Without, what is flushed survives the death of every process, but
    /// not a crash of the host.
    #[serde(default)]
    pub sync: bool,
    /// Bytes a second to and from the medium; 0: as fast as can be.
    #[serde(default)]
    pub rate: u64,
    /// Milliseconds to thread a cartridge.
    #[serde(default)]
    pub load_ms: u64,
    /// Milliseconds for every movement of the tape.
    #[serde(default)]
    pub locate_ms: u64,
}

fn buffer() -> u64 {
    Behaviour::default().buffer
}

fn block_max() -> u32 {
    Options::default().block_max
}

impl Spec {
    /// A library with a new id and these elements; the rest as by default.
    pub fn new(drives: u16, slots: u16, capacity: u64) -> Self {
        Self {
            id: format!("{:06X}", rand::random::<u32>() & 0xff_ffff),
            generation: Generation::default(),
            drives,
            slots,
            mail_slots: 0,
            capacity,
            buffer: buffer(),
            block_max: block_max(),
            early_warning: None,
            sync: false,
            rate: 0,
            load_ms: 0,
            locate_ms: 0,
        }
    }

    pub(super) fn from_toml(text: &str) -> Result<Self, String> {
        let spec: Self = toml::from_str(text).map_err(|error| error.to_string())?;
        spec.check()?;
        Ok(spec)
    }

    pub(super) fn to_toml(&self) -> Result<String, String> {
        self.check()?;
        toml::to_string(self).map_err(|error| error.to_string())
    }

    fn check(&self) -> Result<(), String> {
        if !self.geometry().valid() {
            return Err(
                "a library has 1 to 64 drives, 1 to 10000 slots and 0 to 64 mail slots".to_owned(),
            );
        }
        if self.id.len() != 6 || !self.id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err("`id` must be six letters or digits".to_owned());
        }
        if !(1..=BLOCK_LENGTH_MAX).contains(&self.block_max) {
            return Err(format!("`block_max` must be 1 to {BLOCK_LENGTH_MAX}"));
        }
        Ok(())
    }

    /// Its elements.
    pub fn geometry(&self) -> Geometry {
        Geometry {
            drives: self.drives,
            slots: self.slots,
            mail_slots: self.mail_slots,
        }
    }

    /// How cartridges behave in its drives.
    pub fn behaviour(&self) -> Behaviour {
        Behaviour {
            buffer: self.buffer,
            sync: self.sync,
        }
    }

    /// The robot's serial number.
    pub fn changer_serial(&self) -> String {
        format!("{}L000", self.id)
    }

    /// Drive `number`'s options; its serial number has ten characters.
    pub fn drive_options(&self, number: u16) -> Options {
        Options {
            number,
            serial: format!("{}D{number:03}", self.id),
            generation: self.generation,
            block_max: self.block_max,
            early_warning: self.early_warning,
            behaviour: self.behaviour(),
            speeds: Speeds {
                rate: self.rate,
                load: Duration::from_millis(self.load_ms),
                locate: Duration::from_millis(self.locate_ms),
                ..Speeds::default()
            },
            ..Options::default()
        }
    }
}
