//! LTO generations as data: what a drive and a cartridge of each say of themselves.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An LTO generation, 5 to 9.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Generation(u8);

/// Not a generation that is emulated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no emulated LTO generation {0}; choose 5 to 9")]
pub struct Unknown(String);

impl Generation {
    /// LTO-8, the default.
    pub const LTO8: Self = Self(8);

    /// The number in the name: 8 for LTO-8.
    pub fn number(self) -> u8 {
        self.0
    }

    /// The primary density code (SSC-5; vendors' manuals).
    pub fn density(self) -> u8 {
        match self.0 {
            5 => 0x58,
            6 => 0x5a,
            7 => 0x5c,
            8 => 0x5e,
            _ => 0x60,
        }
    }

    /// The medium type in mode parameter headers.
    pub fn medium_type(self) -> u8 {
        (self.0 << 4) | 0x08
    }

    /// The generation with this density code.
    pub fn of_density(density: u8) -> Option<Self> {
        (5..=9).map(Self).find(|known| known.density() == density)
    }

    /// What the barcode's last two characters say, such as `L8`.
    pub fn of_barcode(barcode: &str) -> Option<Self> {
        let digit = barcode.strip_suffix(|c: char| c.is_ascii_digit())?;
        let number = barcode.as_bytes().last()? - b'0';
        (digit.ends_with('L') && barcode.len() == 8)
            .then(|| Self::try_from(number).ok())
            .flatten()
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
        if (5..=9).contains(&number) {
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
