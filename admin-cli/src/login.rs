//! The sign-in that the next command finds: whom to ask, whom to believe, and the token. One file, for its owner only.
//!
//! It holds a secret, so it is written whole with mode 600 and refused when others could read it.

use std::path::{Path, PathBuf};

use rustls_pki_types::CertificateDer;
use serde::{Deserialize, Serialize};
use taf_peer::tls::Trust;
use taf_peer::{material, secret_file};

use crate::failure::Failure;

/// Bytes that such a file has at most.
const LIMIT: u64 = 64 << 10;

/// Why there is no usable sign-in.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody has signed in here.
    #[error("nobody is signed in: there is no {}", .0.display())]
    Nobody(PathBuf),
    /// There is no place for the file.
    #[error(
        "there is no place for the sign-in: neither TAF_CONFIG nor XDG_CONFIG_HOME nor HOME is set"
    )]
    NoPlace,
    /// The file can't be read or written.
    #[error(transparent)]
    File(#[from] secret_file::Error),
    /// The file is not one of ours.
    #[error("{} is not a sign-in: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It can't be written down.
    #[error("the sign-in can't be kept: {0}")]
    Encode(#[from] toml::ser::Error),
}

/// A sign-in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// Where the controller is: host:port.
    pub server: String,
    /// The account's name.
    pub user: String,
    /// The API token.
    pub token: String,
    /// When the token ends, RFC 3339, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// Fingerprint (SHA-256, hex) of the authority to believe, if its certificate is not at hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority_sha256: Option<String>,
    /// Certificate of the authority to believe, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
}

/// Where the file is: `TAF_CONFIG`, else below `XDG_CONFIG_HOME`, else below `~/.config`.
pub fn path() -> Result<PathBuf, Error> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(path) = set("TAF_CONFIG") {
        return Ok(path.into());
    }
    set("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| set("HOME").map(|home| Path::new(&home).join(".config")))
        .map(|folder| folder.join("taf/login.toml"))
        .ok_or(Error::NoPlace)
}

impl Login {
    /// Reads the file.
    pub fn load() -> Result<Self, Error> {
        let path = path()?;
        if !path.exists() {
            return Err(Error::Nobody(path));
        }
        let bytes = secret_file::read(&path, LIMIT)?;
        let damaged = |reason: String| Error::Damaged {
            path: path.clone(),
            reason,
        };
        let text = std::str::from_utf8(&bytes).map_err(|error| damaged(error.to_string()))?;
        // The parser's own message would quote the line, and the line may be the token's.
        toml::from_str(text)
            .map_err(|error: toml::de::Error| damaged(error.message().replace('\n', "; ")))
    }

    /// Writes the file.
    pub fn store(&self) -> Result<PathBuf, Error> {
        let path = path()?;
        let text = zeroize::Zeroizing::new(toml::to_string(self)?);
        secret_file::write(&path, text.as_bytes())?;
        Ok(path)
    }

    /// Whom it believes.
    pub fn trust(&self) -> Result<Trust, Failure> {
        match (&self.authority, &self.authority_sha256) {
            (Some(pem), _) => Ok(Trust::Authority(authority(pem.as_bytes())?)),
            (None, Some(hex)) => Ok(Trust::Fingerprint(fingerprint(hex)?)),
            (None, None) => Err(Failure::new(
                "WRONG_AUTHORITY",
                "the sign-in does not say which authority to believe",
                "taf login --server HOST:PORT --authority FILE --user NAME",
            )),
        }
    }
}

/// Removes the file; it is no error if there is none.
pub fn forget() -> Result<(), Failure> {
    let path = path()?;
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Failure::new(
            "LOGIN_FILE",
            format!("{} can't be removed: {error}", path.display()),
            "remove it yourself: it holds the token",
        )),
        _ => Ok(()),
    }
}

/// An authority's certificate from its PEM.
pub fn authority(pem: &[u8]) -> Result<CertificateDer<'static>, Failure> {
    material::certificate_from_pem(pem).map_err(|error| {
        Failure::new(
            "WRONG_AUTHORITY",
            format!("this is not the certificate of an authority: {error}"),
            "take the file authority.pem from the controller's home",
        )
    })
}

/// A fingerprint from its 64 hexadecimal digits, with or without colons.
pub fn fingerprint(text: &str) -> Result<[u8; 32], Failure> {
    let digits: String = text.chars().filter(|c| !matches!(c, ':' | ' ')).collect();
    hex::decode(digits)
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| {
            Failure::usage(
                "the fingerprint is not 64 hexadecimal digits",
                "openssl x509 -in authority.pem -noout -fingerprint -sha256 shows it",
            )
        })
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        let again = "taf login --server HOST:PORT --authority FILE --user NAME";
        match error {
            Error::Nobody(_) => Self::new("SIGN_IN_REQUIRED", message, again),
            Error::NoPlace => Self::new("LOGIN_FILE", message, "set TAF_CONFIG to a file's path"),
            Error::Damaged { .. } | Error::Encode(_) => {
                Self::new("LOGIN_FILE", message, format!("sign in again: {again}"))
            }
            Error::File(_) => Self::new(
                "LOGIN_FILE",
                message,
                "see who owns the file and its folder, then sign in again: taf login",
            ),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_may_have_colons() {
        let digits = "ab".repeat(32);
        assert_eq!(fingerprint(&digits).unwrap(), [0xab; 32]);
        assert_eq!(fingerprint(&vec!["AB"; 32].join(":")).unwrap(), [0xab; 32]);
        assert!(fingerprint("abcd").unwrap_err().usage);
    }
}
