//! What a library consists of: `library.toml`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cartridge::{BLOCK_LENGTH_MAX, Behaviour};
use crate::changer::{self, Geometry};
use crate::drive::{Options, Speeds};
use crate::{Clock, Generation};

/// What a library consists of and how it behaves. Sizes in bytes.
#[allow(clippy::struct_excessive_bools)] // independent settings
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
    /// The slowest at which the tape streams; 0: it knows no other speed than `rate`.
    #[serde(default, skip_serializing_if = "zero")]
    pub floor: u64,
    /// Milliseconds to stop, go back and start again.
    #[serde(default, skip_serializing_if = "zero")]
    pub reposition_ms: u64,
    /// Milliseconds to thread a cartridge.
    #[serde(default)]
    pub load_ms: u64,
    /// Milliseconds to unthread it.
    #[serde(default, skip_serializing_if = "zero")]
    pub unload_ms: u64,
    /// Milliseconds for every movement of the tape, besides the way.
    #[serde(default)]
    pub locate_ms: u64,
    /// Milliseconds to wind the tape from one end to the other.
    #[serde(default, skip_serializing_if = "zero")]
    pub wind_ms: u64,
    /// How often the tape runs from one end to the other until its capacity is written.
    #[serde(default, skip_serializing_if = "none")]
    pub wraps: u32,
    /// Milliseconds for an LTO-9 cartridge's first load.
    #[serde(default, skip_serializing_if = "zero")]
    pub initialise_ms: u64,
    /// Milliseconds for cleaning.
    #[serde(default, skip_serializing_if = "zero")]
    pub clean_ms: u64,
    /// Milliseconds for a move by the robot.
    #[serde(default, skip_serializing_if = "zero")]
    pub move_ms: u64,
    /// Time passes only by what each drive does, and by `taf-emulator advance`.
    #[serde(default, skip_serializing_if = "no")]
    pub simulated_time: bool,
    /// A power cut while something is unflushed leaves a tape without an end-of-data mark.
    #[serde(default, skip_serializing_if = "no")]
    pub loses_end: bool,
    /// Percent of the capacity that each drive's worn heads lose, by number; drives without a number lose none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub worn: Vec<u8>,
    /// The robot refuses to tell volume tags and identifiers at once, as some do.
    #[serde(default, skip_serializing_if = "no")]
    pub tags_or_identifiers: bool,
    /// What chance goes by; omitted: another number each time, which is logged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde wants it
fn zero(number: &u64) -> bool {
    *number == 0
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde wants it
fn none(number: &u32) -> bool {
    *number == 0
}

#[allow(clippy::trivially_copy_pass_by_ref)] // as serde wants it
fn no(value: &bool) -> bool {
    !*value
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
            floor: 0,
            reposition_ms: 0,
            load_ms: 0,
            unload_ms: 0,
            locate_ms: 0,
            wind_ms: 0,
            wraps: 0,
            initialise_ms: 0,
            clean_ms: 0,
            move_ms: 0,
            simulated_time: false,
            loses_end: false,
            worn: Vec::new(),
            tags_or_identifiers: false,
            seed: None,
        }
    }

    /// The same with drives as fast and as slow as real ones of its generation.
    #[must_use]
    pub fn with_real_speeds(self) -> Self {
        let real = Speeds::of_generation(self.generation.number());
        let ms = |time: Duration| time.as_millis() as u64;
        Self {
            rate: real.rate,
            floor: real.floor,
            reposition_ms: ms(real.reposition),
            load_ms: ms(real.load),
            unload_ms: ms(real.unload),
            locate_ms: ms(real.locate),
            wind_ms: ms(real.wind),
            wraps: real.wraps,
            initialise_ms: ms(real.initialise),
            clean_ms: ms(real.clean),
            move_ms: 10_000,
            ..self
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

    /// A clock for one unit.
    pub fn clock(&self) -> Clock {
        if self.simulated_time {
            Clock::simulated()
        } else {
            Clock::Real
        }
    }

    /// The robot's serial number.
    pub fn changer_serial(&self) -> String {
        format!("{}L000", self.id)
    }

    /// The robot's options.
    pub fn changer_options(&self) -> changer::Options {
        changer::Options {
            serial: self.changer_serial(),
            geometry: self.geometry(),
            behaviour: self.behaviour(),
            tags_or_identifiers: self.tags_or_identifiers,
            move_time: Duration::from_millis(self.move_ms),
            clock: self.clock(),
        }
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
            loses_end: self.loses_end,
            worn: self.worn.get(usize::from(number)).copied().unwrap_or(0),
            speeds: Speeds {
                rate: self.rate,
                floor: self.floor,
                reposition: Duration::from_millis(self.reposition_ms),
                load: Duration::from_millis(self.load_ms),
                unload: Duration::from_millis(self.unload_ms),
                locate: Duration::from_millis(self.locate_ms),
                wind: Duration::from_millis(self.wind_ms),
                wraps: self.wraps,
                initialise: Duration::from_millis(self.initialise_ms),
                clean: Duration::from_millis(self.clean_ms),
            },
            clock: self.clock(),
        }
    }
}
