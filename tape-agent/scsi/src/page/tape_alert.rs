//! `TapeAlert` flags (SSC-5 4.2.20 and annex A): 64 of them, in the three places where a device shows them.
//!
//! Page 2Eh has a parameter a flag, and reading it clears them. Page 12h and attribute 0002h have all in eight
//! bytes, flag 1 in the highest bit, and clear nothing. What a flag means is not decided here.

use super::{Error, log, number};

/// The set flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Flags(u64);

impl Flags {
    /// None set.
    pub const NONE: Self = Self(0);

    /// These flags, each 1 to 64; other numbers are no flags.
    pub fn of(flags: &[u8]) -> Self {
        let mut found = Self::NONE;
        for flag in flags {
            found.set(*flag);
        }
        found
    }

    /// Whether flag 1 to 64 is set.
    pub fn has(self, flag: u8) -> bool {
        (1..=64).contains(&flag) && self.0 & (1 << (flag - 1)) != 0
    }

    /// Sets flag 1 to 64.
    pub fn set(&mut self, flag: u8) {
        if (1..=64).contains(&flag) {
            self.0 |= 1 << (flag - 1);
        }
    }

    /// Clears flag 1 to 64.
    pub fn clear(&mut self, flag: u8) {
        if (1..=64).contains(&flag) {
            self.0 &= !(1 << (flag - 1));
        }
    }

    /// Those set here, there, or in both.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether none is set.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The set flags, ascending.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (1..=64).filter(move |&flag| self.has(flag))
    }

    /// As a number with flag n in bit n − 1, to be stored.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// From such a number.
    pub fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Eight bytes with flag 1 in the highest bit: page 12h's parameter 0000h, attribute 0002h.
    pub fn to_bytes(self) -> [u8; 8] {
        self.0.reverse_bits().to_be_bytes()
    }

    /// Reads these eight bytes.
    pub fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(u64::from_be_bytes(bytes).reverse_bits())
    }

    /// Reads page 2Eh; parameters that are missing are not set.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut found = Self::NONE;
        for one in log::parse(log::TAPE_ALERT, bytes)? {
            if one.number().is_some_and(|value| value & 1 != 0)
                && let Ok(flag) = u8::try_from(one.code)
            {
                found.set(flag);
            }
        }
        Ok(found)
    }

    /// Builds page 2Eh with all 64 parameters.
    pub fn build(self) -> Vec<u8> {
        let parameters: Vec<_> = (1..=64)
            .map(|flag| log::Parameter::counter(u16::from(flag), self.has(flag).into(), 1))
            .collect();
        log::build(log::TAPE_ALERT, &parameters)
    }

    /// Reads page 12h.
    pub fn parse_response(bytes: &[u8]) -> Result<Self, Error> {
        let parameters = log::parse(log::TAPE_ALERT_RESPONSE, bytes)?;
        log::find(&parameters, 0)
            .filter(|one| one.value.len() == 8)
            .map(|one| Self(number(&one.value).reverse_bits()))
            .ok_or(Error::Malformed {
                page: "the TapeAlert response page",
                reason: "it has no flags",
            })
    }

    /// Builds page 12h.
    pub fn build_response(self) -> Vec<u8> {
        let parameter = log::Parameter {
            code: 0,
            control: log::CONTROL_BINARY,
            value: self.to_bytes().to_vec(),
        };
        log::build(log::TAPE_ALERT_RESPONSE, &[parameter])
    }
}
