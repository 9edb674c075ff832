//! Recognises what a cartridge's first block looks like, so that a refusal can say whose data it protects.

/// What a first block looks like. Only [`Kind::Taf`] is ours to judge further; none of them means *blank*: that
/// a cartridge is blank is said by the drive, when there is no block at all.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A TAF label begins.
    Taf,
    /// A part of a TAF archive where a label should be.
    TafPart,
    /// A TAF volume index where a label should be.
    TafIndex,
    /// An LTFS volume.
    Ltfs,
    /// A volume label after ANSI X3.27 of another program.
    Ansi {
        /// Its volume identifier, printable ASCII.
        volume: String,
    },
    /// A tar archive.
    Tar,
    /// A volume of Bareos or Bacula.
    Bareos,
    /// A volume of Amanda.
    Amanda,
    /// A zstd stream.
    Zstd,
    /// A gzip stream.
    Gzip,
    /// Nothing but zero bytes.
    Zeros,
    /// An empty block.
    Empty,
    /// Something else.
    Unknown,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Taf => f.write_str("a TAF label"),
            Self::TafPart => f.write_str("a part of a TAF archive"),
            Self::TafIndex => f.write_str("a TAF volume index"),
            Self::Ltfs => f.write_str("an LTFS volume"),
            Self::Ansi { volume } => write!(f, "the ANSI volume label '{volume}'"),
            Self::Tar => f.write_str("a tar archive"),
            Self::Bareos => f.write_str("a Bareos or Bacula volume"),
            Self::Amanda => f.write_str("an Amanda volume"),
            Self::Zstd => f.write_str("a zstd stream"),
            Self::Gzip => f.write_str("a gzip stream"),
            Self::Zeros => f.write_str("zeros"),
            Self::Empty => f.write_str("an empty block"),
            Self::Unknown => f.write_str("unknown data"),
        }
    }
}

/// Says what the first block of a cartridge looks like.
pub fn identify(first_block: &[u8]) -> Kind {
    let at = |from: usize, what: &[u8]| first_block.get(from..from + what.len()) == Some(what);
    if first_block.is_empty() {
        Kind::Empty
    } else if first_block.iter().all(|&b| b == 0) {
        Kind::Zeros
    } else if at(0, b"VOL1") && first_block.len() >= 80 {
        if at(24, b"TAF ") {
            Kind::Taf
        } else if at(24, b"LTFS") {
            Kind::Ltfs
        } else {
            let volume = first_block[4..10]
                .iter()
                .map(|&b| {
                    if b.is_ascii_graphic() {
                        char::from(b)
                    } else {
                        ' '
                    }
                })
                .collect::<String>();
            Kind::Ansi {
                volume: volume.trim().to_owned(),
            }
        }
    } else if crate::block0::looks_like(first_block) {
        Kind::TafPart
    } else if crate::index::looks_like(first_block) {
        Kind::TafIndex
    } else if at(257, b"ustar") {
        Kind::Tar
    } else if at(12, b"BB02") || at(12, b"BB01") {
        Kind::Bareos
    } else if at(0, b"AMANDA: ") {
        Kind::Amanda
    } else if at(0, &0xFD2F_B528_u32.to_le_bytes()) {
        Kind::Zstd
    } else if at(0, &[0x1f, 0x8b, 8]) {
        Kind::Gzip
    } else {
        Kind::Unknown
    }
}
