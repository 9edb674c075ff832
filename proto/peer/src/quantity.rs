//! Sizes and times as people write them: `64GiB`, `1h30m`. For configuration and command lines alike.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Error as _, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number of bytes. Written as a number with B, KiB, MiB, GiB, TiB, PiB (powers of 1,024) or kB, MB, GB, TB, PB
/// (powers of 1,000); without a unit it is bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Size(pub u64);

/// A length of time. Written as numbers with ms, s, m, h, d, largest first: `1h30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(pub Duration);

/// Not a size or time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not a size.
    #[error("\"{0}\" is not a size: write a number and a unit, as in 64GiB, 500MB or 512KiB")]
    Size(String),
    /// Not a time.
    #[error("\"{0}\" is not a length of time: write numbers and units, as in 90s, 1h30m or 7d")]
    Span(String),
}

const SIZES: [(&str, u64); 11] = [
    ("PiB", 1 << 50),
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("PB", 1_000_000_000_000_000),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1000),
    ("B", 1),
];

const SPANS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// Digits with at most nine decimals, as billionths; exact where a float would not be.
fn billionths(text: &str) -> Option<u128> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 9 || whole.len() > 20 {
        return None;
    }
    let part: u128 = format!("{part:0<9}").parse().ok()?;
    Some(whole.parse::<u128>().ok()? * 1_000_000_000 + part)
}

impl FromStr for Size {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Size(text.chars().take(40).collect());
        let trimmed = text.trim();
        let at = trimmed
            .find(|c: char| c.is_ascii_alphabetic())
            .unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(at);
        let factor = if unit.is_empty() {
            1
        } else {
            SIZES
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(unit))
                .ok_or_else(wrong)?
                .1
        };
        let scaled = billionths(number.trim_end()).ok_or_else(wrong)? * u128::from(factor);
        if scaled % 1_000_000_000 != 0 {
            return Err(wrong()); // half a byte
        }
        u64::try_from(scaled / 1_000_000_000)
            .map(Self)
            .map_err(|_| wrong())
    }
}

impl fmt::Display for Size {
    /// The largest unit that divides it; powers of 1,024 first.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, factor) = SIZES
            .iter()
            .find(|(_, factor)| self.0 != 0 && self.0.is_multiple_of(*factor))
            .unwrap_or(&SIZES[10]);
        write!(f, "{}{name}", self.0 / factor)
    }
}

impl FromStr for Span {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::Span(text.chars().take(40).collect());
        let mut rest = text.trim();
        let mut total: u128 = 0;
        let mut last = u64::MAX;
        loop {
            let unit_at = rest
                .find(|c: char| c.is_ascii_alphabetic())
                .ok_or_else(wrong)?;
            let (number, after) = rest.split_at(unit_at);
            let end = after
                .find(|c: char| !c.is_ascii_alphabetic())
                .unwrap_or(after.len());
            let (unit, after) = after.split_at(end);
            let factor = SPANS
                .iter()
                .find(|(name, _)| *name == unit)
                .ok_or_else(wrong)?
                .1;
            if factor >= last {
                return Err(wrong());
            }
            last = factor;
            total += billionths(number.trim()).ok_or_else(wrong)? * u128::from(factor);
            rest = after.trim_start();
            if rest.is_empty() {
                break;
            }
        }
        u64::try_from(total / 1_000_000_000)
            .map(|ms| Self(Duration::from_millis(ms)))
            .map_err(|_| wrong())
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_millis();
        if rest == 0 {
            return f.write_str("0s");
        }
        for (name, factor) in SPANS {
            let count = rest / u128::from(factor);
            rest %= u128::from(factor);
            if count > 0 {
                write!(f, "{count}{name}")?;
            }
        }
        Ok(())
    }
}

struct TextOrNumber;

/// Either form of a size in a file.
impl Visitor<'_> for TextOrNumber {
    type Value = Size;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size such as \"64GiB\", or a number of bytes")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Size, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Size, E> {
        Ok(Size(number))
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Size, E> {
        let refused = |_| E::invalid_value(Unexpected::Signed(number), &self);
        u64::try_from(number).map(Size).map_err(refused)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextOrNumber)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, missing_docs)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes, shown) in [
            ("64GiB", 64 << 30, "64GiB"),
            ("500 MB", 500_000_000, "500MB"),
            ("1.5TiB", 3 << 39, "1536GiB"),
            ("512kib", 512 << 10, "512KiB"),
            ("4096", 4096, "4KiB"),
            ("0", 0, "0B"),
            ("7B", 7, "7B"),
            ("18446744073709551615", u64::MAX, "18446744073709551615B"),
        ] {
            let size: Size = text.parse().unwrap();
            assert_eq!(size, Size(bytes), "{text}");
            assert_eq!(size.to_string(), shown);
            assert_eq!(shown.parse::<Size>().unwrap(), size);
        }
        for wrong in [
            "", "GiB", "-1", "1.B", "0.5B", "1 EB", "1GiB2", "1e3", "16384PiB",
        ] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, ms, shown) in [
            ("90s", 90_000, "1m30s"),
            ("1h30m", 5_400_000, "1h30m"),
            ("1d 2h", 93_600_000, "1d2h"),
            ("1.5s", 1500, "1s500ms"),
            ("250ms", 250, "250ms"),
            ("0s", 0, "0s"),
        ] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span, Span(Duration::from_millis(ms)), "{text}");
            assert_eq!(span.to_string(), shown);
        }
        for wrong in ["", "5", "1m1h", "1h1h", "-1s", "1 year", "s", "1s1"] {
            assert!(wrong.parse::<Span>().is_err(), "{wrong}");
        }
    }
}
