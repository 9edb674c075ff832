//! Which drive can do what with which cartridge, as data: LTO generations 3 to 10 and M8.
//!
//! Everything is known by three signs: a drive's product name, a barcode's last two characters, a medium's density code. A sign
//! that is not in these tables says nothing, and nothing is refused for it: makers bring out new ones before we do.

use std::fmt;

/// The format of a cartridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// LTO of this generation.
    Lto(u8),
    /// An LTO-7 cartridge that an LTO-8 drive made into one of 9 TB (Type M8).
    M8,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Format::Lto(generation) => write!(f, "LTO-{generation}"),
            Format::M8 => f.write_str("LTO-7 Type M8"),
        }
    }
}

/// What a drive can do with a cartridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Nothing.
    None,
    /// Read it.
    Read,
    /// Read and write it.
    Write,
}

/// The generations of drives, with what each writes and what it only reads.
const DRIVES: [(u8, &[Format], &[Format]); 6] = [
    (5, &[Format::Lto(5), Format::Lto(4)], &[Format::Lto(3)]),
    (6, &[Format::Lto(6), Format::Lto(5)], &[Format::Lto(4)]),
    (7, &[Format::Lto(7), Format::Lto(6)], &[Format::Lto(5)]),
    (8, &[Format::Lto(8), Format::Lto(7), Format::M8], &[]),
    (9, &[Format::Lto(9), Format::Lto(8)], &[]),
    (10, &[Format::Lto(10)], &[]),
];

/// Last two characters of a barcode, and whether the cartridge can be written only once.
const SUFFIXES: [(&str, Format, bool); 18] = [
    ("L3", Format::Lto(3), false),
    ("L4", Format::Lto(4), false),
    ("L5", Format::Lto(5), false),
    ("L6", Format::Lto(6), false),
    ("L7", Format::Lto(7), false),
    ("L8", Format::Lto(8), false),
    ("L9", Format::Lto(9), false),
    ("LA", Format::Lto(10), false),
    ("PA", Format::Lto(10), false),
    ("M8", Format::M8, false),
    ("LT", Format::Lto(3), true),
    ("LU", Format::Lto(4), true),
    ("LV", Format::Lto(5), true),
    ("LW", Format::Lto(6), true),
    ("LX", Format::Lto(7), true),
    ("LY", Format::Lto(8), true),
    ("LZ", Format::Lto(9), true),
    ("MZ", Format::M8, true),
];

/// Density codes.
const DENSITIES: [(u8, Format); 8] = [
    (0x44, Format::Lto(3)),
    (0x46, Format::Lto(4)),
    (0x58, Format::Lto(5)),
    (0x5a, Format::Lto(6)),
    (0x5c, Format::Lto(7)),
    (0x5d, Format::M8),
    (0x5e, Format::Lto(8)),
    (0x60, Format::Lto(9)),
];

/// Characters of a barcode with a suffix: six of the volume, two of the format.
const BARCODE: usize = 8;

/// The format that a barcode claims, and whether it claims write-once.
pub fn of_barcode(barcode: &str) -> Option<(Format, bool)> {
    let suffix = barcode
        .get(BARCODE - 2..)
        .filter(|suffix| suffix.len() == 2)?;
    SUFFIXES
        .iter()
        .find(|(known, ..)| *known == suffix)
        .map(|(_, format, worm)| (*format, *worm))
}

/// The format of a density code.
pub fn of_density(density: u8) -> Option<Format> {
    DENSITIES
        .iter()
        .find(|(known, _)| *known == density)
        .map(|(_, format)| *format)
}

/// The generation of a drive by its product name: `ULT3580-TD8`, `ULTRIUM-HH9`, `Ultrium 6-SCSI`.
pub fn of_product(product: &str) -> Option<u8> {
    let product = product.to_ascii_uppercase();
    let behind = |word: &str| product.split_once(word).map(|(_, rest)| rest);
    let rest = behind("ULTRIUM ").or_else(|| {
        let model = product.starts_with("ULT").then(|| product.rsplit_once('-'));
        model.flatten().map(|(_, model)| model)
    })?;
    let number = rest.trim_start_matches(|c: char| c.is_ascii_alphabetic());
    let digits = number
        .find(|c: char| !c.is_ascii_digit())
        .map_or(number, |end| &number[..end]);
    let generation = digits.parse().ok()?;
    DRIVES
        .iter()
        .any(|(known, ..)| *known == generation)
        .then_some(generation)
}

/// What a drive of a generation can do with a cartridge of a format. Of one that is not known everything is hoped.
pub fn access(drive: Option<u8>, medium: Option<Format>) -> Access {
    let (Some(drive), Some(medium)) = (drive, medium) else {
        return Access::Write;
    };
    match DRIVES.iter().find(|(known, ..)| *known == drive) {
        Some((_, writes, _)) if writes.contains(&medium) => Access::Write,
        Some((_, _, reads)) if reads.contains(&medium) => Access::Read,
        Some(_) => Access::None,
        None => Access::Write,
    }
}

/// What a drive can't do that is wanted of it, in words; `None` if it can.
pub fn unfit(drive: Option<u8>, medium: Option<Format>, wanted: Access) -> Option<String> {
    let can = access(drive, medium);
    let (drive, medium) = (drive?, medium?);
    match can {
        can if can >= wanted => None,
        Access::Read => Some(format!(
            "an LTO-{drive} drive reads {medium} cartridges and can't write them"
        )),
        _ => Some(format!(
            "an LTO-{drive} drive can't use {medium} cartridges"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_matrix_is_that_of_the_makers() {
        use Access::{None, Read, Write};
        let formats = [3, 4, 5, 6, 7, 8, 9, 10].map(Format::Lto);
        let rows = [
            (5, [Read, Write, Write, None, None, None, None, None], None),
            (6, [None, Read, Write, Write, None, None, None, None], None),
            (7, [None, None, Read, Write, Write, None, None, None], None),
            (8, [None, None, None, None, Write, Write, None, None], Write),
            (9, [None, None, None, None, None, Write, Write, None], None),
            (10, [None, None, None, None, None, None, None, Write], None),
        ];
        for (drive, row, m8) in rows {
            for (format, expected) in formats.iter().zip(row) {
                assert_eq!(
                    access(Some(drive), Some(*format)),
                    expected,
                    "LTO-{drive} with {format}"
                );
            }
            assert_eq!(access(Some(drive), Some(Format::M8)), m8, "LTO-{drive}");
        }
    }

    #[test]
    fn what_is_not_known_is_hoped() {
        assert_eq!(access(None, Some(Format::Lto(3))), Access::Write);
        assert_eq!(access(Some(5), None), Access::Write);
        assert_eq!(of_density(0), None);
        assert_eq!(of_density(0x7e), None);
        assert_eq!(unfit(None, Some(Format::M8), Access::Write), None);
    }

    #[test]
    fn barcodes_say_their_format() {
        for (barcode, expected) in [
            ("TAF001L8", Some((Format::Lto(8), false))),
            ("TAF001M8", Some((Format::M8, false))),
            ("TAF001LW", Some((Format::Lto(6), true))),
            ("TAF001PA", Some((Format::Lto(10), false))),
            ("TAF001ZZ", None),
            ("TAF0L8", None),
            ("CLNU01L1", None),
            ("TAF00001L8", None),
            ("ÄÖ", None),
            ("", None),
        ] {
            assert_eq!(of_barcode(barcode), expected, "{barcode}");
        }
    }

    #[test]
    fn products_say_their_generation() {
        for (product, expected) in [
            ("ULT3580-TD8", Some(8)),
            ("ULT3580-HH5", Some(5)),
            ("ULTRIUM-HH9", Some(9)),
            ("Ultrium 6-SCSI", Some(6)),
            ("ULTRIUM-EMU7", Some(7)),
            ("ULTRIUM-HH10", Some(10)),
            ("ULT3580-TD2", None),
            ("VIRTUAL TAPE", None),
            ("", None),
        ] {
            assert_eq!(of_product(product), expected, "{product}");
        }
    }

    #[test]
    fn what_can_not_be_done_is_said() {
        let words = unfit(Some(6), Some(Format::Lto(4)), Access::Write);
        assert_eq!(
            words.as_deref(),
            Some("an LTO-6 drive reads LTO-4 cartridges and can't write them")
        );
        assert_eq!(unfit(Some(6), Some(Format::Lto(4)), Access::Read), None);
        let words = unfit(Some(9), Some(Format::M8), Access::Read).unwrap_or_default();
        assert!(words.contains("M8"), "{words}");
    }
}
