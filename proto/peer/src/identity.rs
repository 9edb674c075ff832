//! Who a process is. The identity is a URI in the certificate and nowhere else: never in a request, never a
//! host name, so that only the authority can give one.

use std::fmt;
use std::str::FromStr;

use rustls_pki_types::CertificateDer;
use uuid::Uuid;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Longest id, in bytes.
pub const ID_LIMIT: usize = 128;

/// What kind of process it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Serves the API and keeps the catalog.
    Controller,
    /// Reads and restores files. A client only: its certificate can't be used to serve.
    SourceAgent,
    /// Drives tape drives and robots.
    TapeAgent,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Controller => "controller",
            Self::SourceAgent => "source-agent",
            Self::TapeAgent => "tape-agent",
        })
    }
}

impl FromStr for Role {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "controller" => Ok(Self::Controller),
            "source-agent" => Ok(Self::SourceAgent),
            "tape-agent" => Ok(Self::TapeAgent),
            _ => Err(Error::Role(text.chars().take(40).collect())),
        }
    }
}

/// The identity of a process: `taf://<installation>/<role>/<id>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The installation that it belongs to.
    pub installation: Uuid,
    /// What it is.
    pub role: Role,
    /// Which one it is: 1 to 128 of `A-Z a-z 0-9 . _ -`.
    pub id: String,
}

/// Why something is not an identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No such role.
    #[error("\"{0}\" is not a role: controller, source-agent or tape-agent")]
    Role(String),
    /// The id is empty, too long or has other characters.
    #[error("an id has 1 to {ID_LIMIT} letters, digits, '.', '_' or '-'")]
    Id,
    /// The URI has another form.
    #[error("the certificate's name is not of the form taf://installation/role/id")]
    Uri,
    /// Not X.509.
    #[error("the certificate can't be read")]
    Certificate,
    /// No name, or several: which one counts would be a guess.
    #[error("the certificate must carry exactly one TAF identity, and carries {0}")]
    Names(usize),
}

impl Identity {
    /// Checks the id.
    pub fn new(installation: Uuid, role: Role, id: impl Into<String>) -> Result<Self, Error> {
        let id = id.into();
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if id.is_empty() || id.len() > ID_LIMIT || !id.bytes().all(plain) {
            return Err(Error::Id);
        }
        Ok(Self {
            installation,
            role,
            id,
        })
    }

    /// Reads the one URI name of a certificate. Says nothing about whether the certificate is to be trusted.
    pub fn from_certificate(certificate: &CertificateDer<'_>) -> Result<Self, Error> {
        let uris = uri_names(certificate)?;
        match uris.as_slice() {
            [one] => one.parse(),
            several => Err(Error::Names(several.len())),
        }
    }

    /// `taf://<installation>/<role>/<id>`.
    pub fn to_uri(&self) -> String {
        format!("taf://{}/{}/{}", self.installation, self.role, self.id)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.role, self.id)
    }
}

impl FromStr for Identity {
    type Err = Error;

    fn from_str(uri: &str) -> Result<Self, Error> {
        let mut parts = uri.strip_prefix("taf://").ok_or(Error::Uri)?.split('/');
        let (Some(installation), Some(role), Some(id), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Error::Uri);
        };
        let parsed = Uuid::try_parse(installation).map_err(|_| Error::Uri)?;
        // One spelling only, so that names can be compared as text elsewhere.
        if parsed.to_string() != installation {
            return Err(Error::Uri);
        }
        Self::new(parsed, role.parse()?, id)
    }
}

/// Every URI among the certificate's alternative names.
pub(crate) fn uri_names(certificate: &CertificateDer<'_>) -> Result<Vec<String>, Error> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| Error::Certificate)?;
    let names = parsed
        .subject_alternative_name()
        .map_err(|_| Error::Certificate)?;
    Ok(names.map_or_else(Vec::new, |san| {
        san.value
            .general_names
            .iter()
            .filter_map(|name| match name {
                GeneralName::URI(uri) => Some((*uri).to_owned()),
                _ => None,
            })
            .collect()
    }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, missing_docs)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_its_uri() {
        for role in [Role::Controller, Role::SourceAgent, Role::TapeAgent] {
            let identity = Identity::new(Uuid::new_v4(), role, "files-01.example").unwrap();
            assert_eq!(identity.to_uri().parse::<Identity>().unwrap(), identity);
        }
    }

    #[test]
    fn other_uris_are_refused() {
        let uuid = Uuid::nil();
        for wrong in [
            String::new(),
            format!("taf://{uuid}/controller"),
            format!("taf://{uuid}/controller/"),
            format!("taf://{uuid}/controller/a/b"),
            format!("taf://{uuid}/king/a"),
            format!("taf://{uuid}/controller/a b"),
            format!("taf://{}/controller/a", uuid.simple()),
            format!("https://{uuid}/controller/a"),
        ] {
            assert!(wrong.parse::<Identity>().is_err(), "{wrong}");
        }
    }
}
