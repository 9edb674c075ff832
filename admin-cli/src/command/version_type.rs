//! Types of versions, as people name them.

use taf_proto::v1::{Version, VersionType};

use crate::resource::id;

/// What a run makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Type {
    /// Everything selected
    Full,
    /// What changed since the version before
    Incremental,
    /// What changed since the last full version
    Differential,
    /// What changed since the version before; it takes the place of the mirror before
    Mirror,
    /// Everything selected, on a line of its own that nothing builds on; verified as soon as it is written, kept until told otherwise
    Archive,
    /// Everything that the newest version has, copied from tape to tape without a look at the source; it takes two drives
    SyntheticFull,
}

impl Type {
    /// As the API has it.
    pub fn of(given: Option<Self>) -> VersionType {
        match given {
            None => VersionType::Unspecified,
            Some(Self::Full) => VersionType::Full,
            Some(Self::Incremental) => VersionType::Incremental,
            Some(Self::Differential) => VersionType::Differential,
            Some(Self::Mirror) => VersionType::Mirror,
            Some(Self::Archive) => VersionType::Archive,
            Some(Self::SyntheticFull) => VersionType::SyntheticFull,
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

/// A version as people name it: `daily@3`, of archives `daily@a3`.
pub fn named(version: &Version) -> String {
    let mark = match version.r#type() {
        VersionType::Archive => "a",
        _ => "",
    };
    format!("{}@{mark}{}", id(&version.plan), version.number)
}
