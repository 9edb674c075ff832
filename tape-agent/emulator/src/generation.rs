//! LTO generations as data: what a drive and a cartridge of each say of themselves, and which goes with which.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use taf_scsi::page::density::Density;

use crate::cartridge::Kind;

/// An LTO generation of drives, 5 to 10.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Generation(u8);

/// Not a generation that is emulated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no emulated LTO generation {0}; choose 5 to 10")]
pub struct Unknown(String);

/// What a drive can do with a cartridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Write and read.
    Write,
    /// Read only.
    Read,
    /// Nothing.
    Refused,
}

/// A format that cartridges are of.
struct Format {
    density: u8,
    /// LTO generation of the cartridge.
    generation: u8,
    /// The barcode's last two characters, of the common cartridge and of the write-once one.
    suffixes: [&'static str; 2],
    capacity_megabytes: u32,
    tracks: u16,
    name: &'static str,
    description: &'static str,
}

/// From LTO-3 on, by density code. Type M is an LTO-7 cartridge that an LTO-8 drive initialised.
const FORMATS: [Format; 9] = [
    format(
        0x44,
        3,
        ["L3", "LT"],
        400_000,
        704,
        "U-316",
        "Ultrium 3/16T",
    ),
    format(
        0x46,
        4,
        ["L4", "LU"],
        800_000,
        896,
        "U-416",
        "Ultrium 4/16T",
    ),
    format(
        0x58,
        5,
        ["L5", "LV"],
        1_500_000,
        1280,
        "U-516",
        "Ultrium 5/16T",
    ),
    format(
        0x5a,
        6,
        ["L6", "LW"],
        2_500_000,
        2176,
        "U-616",
        "Ultrium 6/16T",
    ),
    format(
        0x5c,
        7,
        ["L7", "LX"],
        6_000_000,
        3584,
        "U-732",
        "Ultrium 7/32T",
    ),
    format(
        0x5d,
        7,
        ["M8", ""],
        9_000_000,
        5376,
        "U-732M8",
        "Ultrium 7/32T M8",
    ),
    format(
        0x5e,
        8,
        ["L8", "LY"],
        12_000_000,
        6656,
        "U-832",
        "Ultrium 8/32T",
    ),
    format(
        0x60,
        9,
        ["L9", "LZ"],
        18_000_000,
        8960,
        "U-932",
        "Ultrium 9/32T",
    ),
    format(
        0x62,
        10,
        ["LA", ""],
        30_000_000,
        15_104,
        "U-1032",
        "Ultrium 10/32T",
    ),
];

/// Density code of type M.
const TYPE_M: u8 = 0x5d;

const fn format(
    density: u8,
    generation: u8,
    suffixes: [&'static str; 2],
    capacity_megabytes: u32,
    tracks: u16,
    name: &'static str,
    description: &'static str,
) -> Format {
    Format {
        density,
        generation,
        suffixes,
        capacity_megabytes,
        tracks,
        name,
        description,
    }
}

/// LTO-10 cartridges of 40 TB have a suffix of their own and the same density.
const LARGE_LTO_10: &str = "PA";
/// How the barcodes of cleaning cartridges begin.
const CLEANING: &str = "CLN";

fn of_density(density: u8) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.density == density)
}

/// Density code and kind that a barcode tells: eight characters with a known ending, or `CLN…`.
pub fn of_barcode(barcode: &str) -> Option<(u8, Kind)> {
    if barcode.starts_with(CLEANING) {
        return Some((0, Kind::Cleaning));
    }
    let ending = barcode.get(6..).filter(|ending| ending.len() == 2)?;
    if ending == LARGE_LTO_10 {
        return Some((Generation(10).density(), Kind::Data));
    }
    FORMATS.iter().find_map(|format| {
        let kind = match format.suffixes {
            [common, _] if common == ending => Kind::Data,
            [_, once] if once == ending => Kind::WriteOnce,
            _ => return None,
        };
        Some((format.density, kind))
    })
}

/// The medium type in mode parameter headers.
pub fn medium_type(density: u8, kind: Kind) -> u8 {
    let generation = of_density(density).map_or(0, |format| format.generation);
    match kind {
        Kind::Data => (generation << 4) | 0x08,
        Kind::WriteOnce => (generation << 4) | 0x0c,
        Kind::Cleaning => 0x01,
    }
}

impl Generation {
    /// LTO-8, the default.
    pub const LTO8: Self = Self(8);

    /// The number in the name: 8 for LTO-8.
    pub fn number(self) -> u8 {
        self.0
    }

    /// The barcode suffix of its cartridges, such as `L8`.
    pub fn suffix(self) -> &'static str {
        self.format().suffixes[0]
    }

    /// The primary density code (SSC-5; vendors' manuals).
    pub fn density(self) -> u8 {
        self.format().density
    }

    fn format(self) -> &'static Format {
        of_density(match self.0 {
            5 => 0x58,
            6 => 0x5a,
            7 => 0x5c,
            8 => 0x5e,
            9 => 0x60,
            _ => 0x62,
        })
        .expect("each of these densities is in the table")
    }

    /// The generation of drives that a cartridge of this density was made for.
    pub fn of_density(density: u8) -> Option<Self> {
        if density == TYPE_M {
            return Some(Self::LTO8);
        }
        of_density(density).and_then(|format| Self::try_from(format.generation).ok())
    }

    /// What a drive of this generation can do with a cartridge of that density: own and previous generation are
    /// written, the one before read up to LTO-7; LTO-8 takes type M too, LTO-10 nothing but its own.
    pub fn access(self, density: u8) -> Access {
        let own = self.0;
        match of_density(density) {
            Some(_) if density == TYPE_M && own == 8 => Access::Write,
            Some(_) if density == TYPE_M => Access::Refused,
            Some(format) if format.generation == own => Access::Write,
            Some(format) if format.generation + 1 == own && own <= 9 => Access::Write,
            Some(format) if format.generation + 2 == own && own <= 7 => Access::Read,
            _ => Access::Refused,
        }
    }

    /// The densities that a drive of this generation knows.
    pub fn densities(self) -> Vec<Density> {
        let known = FORMATS.iter().filter_map(|format| {
            let access = self.access(format.density);
            (access != Access::Refused).then(|| Density {
                code: format.density,
                writable: access == Access::Write,
                default: format.density == self.density(),
                capacity_megabytes: format.capacity_megabytes,
                tracks: format.tracks,
                name: format.name.to_owned(),
                description: format.description.to_owned(),
            })
        });
        known.collect()
    }
}

impl Default for Generation {
    fn default() -> Self {
        Self::LTO8
    }
}

impl TryFrom<u8> for Generation {
    type Error = Unknown;

    fn try_from(number: u8) -> Result<Self, Unknown> {
        if (5..=10).contains(&number) {
            Ok(Self(number))
        } else {
            Err(Unknown(number.to_string()))
        }
    }
}

impl From<Generation> for u8 {
    fn from(generation: Generation) -> Self {
        generation.0
    }
}

impl FromStr for Generation {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Self, Unknown> {
        let number: u8 = text.parse().map_err(|_| Unknown(text.to_owned()))?;
        Self::try_from(number)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LTO-{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn which_cartridges_go_with_which_drives() {
        // Rows: LTO-3, 4, 5, 6, 7, M8, 8, 9, 10; W writes, r reads, - refuses.
        for (drive, row) in [
            (5, "rWW------"),
            (6, "-rWW-----"),
            (7, "--rWW----"),
            (8, "----WWW--"),
            (9, "------WW-"),
            (10, "--------W"),
        ] {
            let drive = Generation::try_from(drive).unwrap();
            let found: String = FORMATS
                .iter()
                .map(|format| match drive.access(format.density) {
                    Access::Write => 'W',
                    Access::Read => 'r',
                    Access::Refused => '-',
                })
                .collect();
            assert_eq!(found, row, "{drive}");
            assert_eq!(drive.access(0x99), Access::Refused);
            assert_eq!(Generation::of_density(drive.density()), Some(drive));
            let known = drive.densities();
            assert_eq!(known.iter().filter(|density| density.default).count(), 1);
        }
    }

    #[test]
    fn a_barcode_tells_the_format() {
        for (barcode, want) in [
            ("TAF001L8", Some((0x5e, Kind::Data))),
            ("TAF001M8", Some((0x5d, Kind::Data))),
            ("TAF001LY", Some((0x5e, Kind::WriteOnce))),
            ("TAF001LA", Some((0x62, Kind::Data))),
            ("TAF001PA", Some((0x62, Kind::Data))),
            ("CLN001CU", Some((0, Kind::Cleaning))),
            ("TAF001XX", None),
            ("TAFL8", None),
            ("TAFTAF001L8", None),
        ] {
            assert_eq!(of_barcode(barcode), want, "{barcode}");
        }
        assert_eq!(medium_type(0x5e, Kind::Data), 0x88);
        assert_eq!(medium_type(0x5e, Kind::WriteOnce), 0x8c);
    }
}
