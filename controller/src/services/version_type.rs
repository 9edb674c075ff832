//! Types of versions, as the API names them.

use taf_core::catalog::Kind;
use taf_proto::v1::VersionType;

/// A kind as the API shows it.
pub fn message(kind: Kind) -> VersionType {
    match kind {
        Kind::Full => VersionType::Full,
        Kind::Incremental => VersionType::Incremental,
        Kind::Differential => VersionType::Differential,
        Kind::Mirror => VersionType::Mirror,
        Kind::Archive => VersionType::Archive,
        Kind::SyntheticFull => VersionType::SyntheticFull,
    }
}

/// A stored kind as the API shows it.
pub fn stored(name: &str) -> VersionType {
    Kind::from_name(name).map_or(VersionType::Unspecified, message)
}

/// What a client asks to be made, none if it does not say.
pub fn asked(value: i32) -> Result<Option<Kind>, String> {
    match VersionType::try_from(value) {
        Ok(VersionType::Unspecified) => Ok(None),
        Ok(VersionType::Full) => Ok(Some(Kind::Full)),
        Ok(VersionType::Incremental) => Ok(Some(Kind::Incremental)),
        Ok(VersionType::Differential) => Ok(Some(Kind::Differential)),
        Ok(VersionType::Mirror) => Ok(Some(Kind::Mirror)),
        Ok(VersionType::Archive) => Ok(Some(Kind::Archive)),
        Ok(VersionType::SyntheticFull) => Ok(Some(Kind::SyntheticFull)),
        Err(_) => Err(
            "must be full, incremental, differential, mirror, archive or synthetic full".to_owned(),
        ),
    }
}
