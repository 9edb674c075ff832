//! Compression methods, as they are said on the command line.

use taf_format::segment::Method;

/// How archives are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Compression {
    /// Fast and small: for everything, unless there is a reason. Read without TAF by `zstd` and `tar`
    Zstd,
    /// Less than half as fast, a tenth larger, read without TAF by what every system has: for cartridges that others are to read
    Gzip,
    /// Not compressed, read without TAF by `tar` alone: for what is compressed already
    Tar,
    /// Smallest and so slow that the drive waits for it: for little data that is kept for long
    #[value(name = "7z")]
    SevenZip,
}

impl Compression {
    /// As the format names it.
    pub fn method(self) -> Method {
        match self {
            Self::Zstd => Method::Zstd,
            Self::Gzip => Method::Gzip,
            Self::Tar => Method::Tar,
            Self::SevenZip => Method::SevenZip,
        }
    }

    /// What who chooses it must know.
    pub fn warning(self) -> Option<&'static str> {
        match self {
            Self::Zstd | Self::Gzip | Self::Tar => None,
            Self::SevenZip => Some(
                "warning: 7z packs 2 MB a second on each core of the source, 13 at level 1: the drive waits for it; zstd at level 9 \
                 stores a sixth more and is twenty times as fast",
            ),
        }
    }
}
