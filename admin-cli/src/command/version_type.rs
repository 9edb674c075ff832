//! Types of versions, as people name them.

use taf_proto::v1::VersionType;

/// What a run makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Type {
    /// Everything selected
    Full,
    /// What changed since the version before
    Incremental,
    /// What changed since the last full version
    Differential,
}

impl Type {
    /// As the API has it.
    pub fn of(given: Option<Self>) -> VersionType {
        match given {
            None => VersionType::Unspecified,
            Some(Self::Full) => VersionType::Full,
            Some(Self::Incremental) => VersionType::Incremental,
            Some(Self::Differential) => VersionType::Differential,
        }
    }
}

/// A type in a word.
pub fn word(of: VersionType) -> &'static str {
    match of {
        VersionType::Unspecified => "-",
        VersionType::Full => "full",
        VersionType::Incremental => "incremental",
        VersionType::Differential => "differential",
        VersionType::SyntheticFull => "synthetic full",
        VersionType::Mirror => "mirror",
        VersionType::Archive => "archive",
    }
}
