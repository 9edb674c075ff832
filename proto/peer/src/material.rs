//! What a process proves its identity with: private key, certificate, authority. Kept in one file, so that no
//! crash can leave a key beside the certificate of another.

use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest as _, Sha256};
use zeroize::{Zeroize as _, Zeroizing};

use crate::identity::{self, Identity, Role};
use crate::secret_file;

/// Name of the file, mode 600: the key, then the chain from the leaf to the authority, all PEM.
pub const FILE: &str = "identity.pem";

/// Largest such file, in bytes.
const LIMIT: u64 = 64 * 1024;
/// Longest chain.
const CHAIN_LIMIT: usize = 8;

/// Key, chain and the identity that the leaf carries.
pub struct Material {
    key: PrivateKeyDer<'static>,
    chain: Vec<CertificateDer<'static>>,
    identity: Identity,
}

/// Why there is no usable material.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be read or written, or is open to others.
    #[error(transparent)]
    File(#[from] secret_file::Error),
    /// The file does not hold a key and certificates.
    #[error("{what}; enrol this host again")]
    Content {
        /// What is wrong.
        what: String,
    },
    /// The leaf has no TAF identity.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// The token was for another program.
    #[error(
        "{} holds the identity of {identity}, and this program is a {wanted}: enrol it in a folder of its own, with a token for this role",
        folder.display()
    )]
    Role {
        /// The folder.
        folder: PathBuf,
        /// Who it is.
        identity: Identity,
        /// What it should be.
        wanted: Role,
    },
}

fn content(what: impl Into<String>) -> Error {
    Error::Content { what: what.into() }
}

impl Material {
    /// `chain` goes from the leaf to the authority. Checks that the key belongs to the leaf.
    pub fn new(
        key: PrivateKeyDer<'static>,
        chain: Vec<CertificateDer<'static>>,
    ) -> Result<Self, Error> {
        if chain.len() < 2 || chain.len() > CHAIN_LIMIT {
            return Err(content(
                "the certificate chain has no authority or is too long",
            ));
        }
        let identity = Identity::from_certificate(&chain[0])?;
        let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)
            .map_err(|e| content(format!("the private key can't be used ({e})")))?;
        CertifiedKey::new(chain.clone(), signing)
            .keys_match()
            .map_err(|_| content("the private key does not belong to the certificate"))?;
        Ok(Self {
            key,
            chain,
            identity,
        })
    }

    /// True if the folder holds material, be it good or bad.
    pub fn exists(folder: &Path) -> bool {
        folder.join(FILE).symlink_metadata().is_ok()
    }

    /// Reads what [`Material::store`] wrote.
    pub fn load(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(FILE);
        let text = secret_file::read(&path, LIMIT)?;
        let bad = |what: &str| content(format!("{} {what}", path.display()));
        let key = PrivateKeyDer::from_pem_slice(&text).map_err(|_| bad("holds no private key"))?;
        let chain = CertificateDer::pem_slice_iter(&text)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| bad("holds a damaged certificate"))?;
        Self::new(key, chain)
    }

    /// Reads what [`Material::store`] wrote, for a program of this role. With the identity of another it would only be
    /// refused by everybody, for ever.
    pub fn load_as(folder: &Path, wanted: Role) -> Result<Self, Error> {
        let own = Self::load(folder)?;
        if own.identity.role != wanted {
            return Err(Error::Role {
                folder: folder.to_owned(),
                identity: own.identity.clone(),
                wanted,
            });
        }
        Ok(own)
    }

    /// Writes [`FILE`] in the folder, which is made if it is missing.
    pub fn store(&self, folder: &Path) -> Result<(), Error> {
        let mut text = Zeroizing::new(String::with_capacity(LIMIT as usize));
        let label = match &self.key {
            PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
            PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
            _ => "PRIVATE KEY",
        };
        push_pem(&mut text, label, self.key.secret_der());
        for certificate in &self.chain {
            push_pem(&mut text, "CERTIFICATE", certificate);
        }
        Ok(secret_file::write(&folder.join(FILE), text.as_bytes())?)
    }

    /// Who this is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// From the leaf to the authority.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The authority's certificate.
    pub fn authority(&self) -> &CertificateDer<'static> {
        self.chain.last().expect("new refuses chains under two")
    }

    /// The private key.
    pub fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }
}

impl Clone for Material {
    fn clone(&self) -> Self {
        Self {
            key: self.key.clone_key(),
            chain: self.chain.clone(),
            identity: self.identity.clone(),
        }
    }
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Material")
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

impl Drop for Material {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

/// SHA-256 of a certificate in DER.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> [u8; 32] {
    Sha256::digest(certificate).into()
}

/// One certificate as PEM, as other tools want it.
pub fn certificate_pem(certificate: &CertificateDer<'_>) -> String {
    let mut text = String::new();
    push_pem(&mut text, "CERTIFICATE", certificate);
    text
}

/// The first certificate of a PEM text.
pub fn certificate_from_pem(pem: &[u8]) -> Result<CertificateDer<'static>, Error> {
    CertificateDer::from_pem_slice(pem).map_err(|_| content("there is no PEM certificate in it"))
}

/// Appends one PEM section. The encoded body is wiped: it may be a key.
fn push_pem(text: &mut String, label: &str, der: &[u8]) {
    let body = Zeroizing::new(STANDARD.encode(der));
    text.push_str("-----BEGIN ");
    text.push_str(label);
    text.push_str("-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
}
