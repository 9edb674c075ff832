//! The installation's certificate authority. It gives identities and never takes one from a request: of a
//! certificate request only the proved public key is used. Only the controller holds it.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use rand::RngCore as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData,
    SanType, SerialNumber,
};
use rustls_pki_types::{
    CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer,
};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::identity::{self, Identity, Role};
use crate::material::{self, Material};
use crate::secret_file;

/// The DNS name that every controller's certificate bears, for clients that can only verify a host's name: other people's programs.
/// Ours go by the identity alone.
pub const CONTROLLER_NAME: &str = "taf-controller";
/// The authority's certificate, PEM, for everybody.
pub const CERTIFICATE_FILE: &str = "authority.pem";
/// The authority's key, wrapped by the cluster key.
pub const KEY_FILE: &str = "authority.key";

/// How long an authority lives: ten years.
const AUTHORITY_VALIDITY: Duration = Duration::from_hours(3653 * 24);
/// Clocks of hosts differ: certificates begin this much earlier.
const CLOCK_SKEW: Duration = Duration::from_mins(5);
/// Largest certificate request, in bytes.
const REQUEST_LIMIT: usize = 16 * 1024;
/// Largest key or certificate file, in bytes.
const FILE_LIMIT: u64 = 64 * 1024;
/// Begins every wrapped key, and is authenticated with it.
const WRAPPED: &[u8; 8] = b"TAFKEY1\0";
const NONCE: usize = 12;

/// Why the authority can't do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file can't be read or written.
    #[error(transparent)]
    File(#[from] secret_file::Error),
    /// The cluster key file has another content.
    #[error("{} does not hold a cluster key: 64 hexadecimal digits", .0.display())]
    ClusterKey(PathBuf),
    /// The wrapped key is damaged, or was wrapped by another cluster key.
    #[error(
        "the authority's key can't be unwrapped: this is not the cluster key that wrapped it, or the file is damaged"
    )]
    Unwrap,
    /// Key and certificate do not belong together, or the certificate is not an authority's.
    #[error("the authority's files can't be used: {0}")]
    Files(String),
    /// The request is malformed, or its signature does not prove that the sender has the key.
    #[error("the certificate request is refused: {0}")]
    Request(String),
    /// The identity is of another installation.
    #[error("identity {identity} is of another installation than this authority's, {installation}")]
    Installation {
        /// What was to be signed.
        identity: String,
        /// What the authority serves.
        installation: Uuid,
    },
    /// Making the certificate failed.
    #[error("signing failed: {0}")]
    Sign(#[from] rcgen::Error),
    /// What was signed can't be used.
    #[error(transparent)]
    Material(#[from] material::Error),
    /// The identity is not one.
    #[error(transparent)]
    Identity(#[from] identity::Error),
}

/// 32 bytes that wrap the authority's key at rest. Kept in a file of its own, outside the database.
pub struct ClusterKey(Zeroizing<[u8; 32]>);

impl ClusterKey {
    /// A fresh one.
    pub fn generate() -> Self {
        let mut key = Zeroizing::new([0; 32]);
        rand::rng().fill_bytes(key.as_mut_slice());
        Self(key)
    }

    /// Reads 64 hexadecimal digits from a file that only its owner may read.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let bytes = secret_file::read(path, 128)?;
        let mut key = Zeroizing::new([0; 32]);
        hex::decode_to_slice(bytes.trim_ascii(), key.as_mut_slice())
            .map_err(|_| Error::ClusterKey(path.to_owned()))?;
        Ok(Self(key))
    }

    /// Writes it with mode 600.
    pub fn store(&self, path: &Path) -> Result<(), Error> {
        let mut text = Zeroizing::new(hex::encode(self.0.as_slice()));
        text.push('\n');
        Ok(secret_file::write(path, text.as_bytes())?)
    }
}

/// Encrypts a key for rest: magic, nonce, AES-256-GCM.
pub fn wrap(key_pem: &[u8], cluster_key: &ClusterKey) -> Vec<u8> {
    let mut sealed = key_pem.to_vec();
    let nonce = aead(cluster_key)
        .seal_in_place_append_tag(Aad::from(WRAPPED), &mut sealed)
        .expect("AES-GCM seals anything under 64 GiB");
    [WRAPPED.as_slice(), nonce.as_ref(), &sealed].concat()
}

/// Gives back what [`wrap`] was given.
pub fn unwrap(wrapped: &[u8], cluster_key: &ClusterKey) -> Result<Zeroizing<Vec<u8>>, Error> {
    let rest = wrapped.strip_prefix(WRAPPED).ok_or(Error::Unwrap)?;
    let (nonce, sealed) = rest.split_at_checked(NONCE).ok_or(Error::Unwrap)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| Error::Unwrap)?;
    let mut buffer = Zeroizing::new(sealed.to_vec());
    let length = aead(cluster_key)
        .open_in_place(nonce, Aad::from(WRAPPED), &mut buffer)
        .map_err(|_| Error::Unwrap)?
        .len();
    buffer.truncate(length);
    Ok(buffer)
}

fn aead(key: &ClusterKey) -> RandomizedNonceKey {
    RandomizedNonceKey::new(&AES_256_GCM, key.0.as_slice()).expect("a cluster key has 32 bytes")
}

/// Certificate and key of the authority.
pub struct Authority {
    certificate: CertificateDer<'static>,
    key: KeyPair,
    installation: Uuid,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("installation", &self.installation)
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// A new authority for an installation, valid for ten years.
    pub fn create(installation: Uuid) -> Result<Self, Error> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut params = parameters(
            &format!("TAF authority {installation}"),
            &format!("taf://{installation}"),
            AUTHORITY_VALIDITY,
        )?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?.der().clone();
        Ok(Self {
            certificate,
            key,
            installation,
        })
    }

    /// From the certificate and the key in PEM, as [`Authority::key_pem`] gives it.
    pub fn from_parts(certificate: CertificateDer<'static>, key_pem: &str) -> Result<Self, Error> {
        let key = KeyPair::from_pem(key_pem)
            .map_err(|_| Error::Files("the key is not a private key".into()))?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate)
            .map_err(|_| Error::Files("the certificate can't be read".into()))?;
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err(Error::Files(
                "the key does not belong to the certificate".into(),
            ));
        }
        if !parsed.is_ca() {
            return Err(Error::Files("the certificate is not an authority's".into()));
        }
        let installation = identity::uri_names(&certificate)?
            .iter()
            .find_map(|uri| Uuid::try_parse(uri.strip_prefix("taf://")?).ok())
            .ok_or_else(|| Error::Files("the certificate names no installation".into()))?;
        Ok(Self {
            certificate,
            key,
            installation,
        })
    }

    /// Reads what [`Authority::store`] wrote.
    pub fn load(folder: &Path, cluster_key: &ClusterKey) -> Result<Self, Error> {
        // Public, so its mode does not matter; a foreign one does not fit the key.
        let path = folder.join(CERTIFICATE_FILE);
        let mut pem = Vec::new();
        File::open(&path)
            .and_then(|file| file.take(FILE_LIMIT).read_to_end(&mut pem))
            .map_err(|e| Error::Files(format!("{}: {e}", path.display())))?;
        let certificate = material::certificate_from_pem(&pem)?;
        let wrapped = secret_file::read(&folder.join(KEY_FILE), FILE_LIMIT)?;
        let key = unwrap(&wrapped, cluster_key)?;
        let key = std::str::from_utf8(&key).map_err(|_| Error::Unwrap)?;
        Self::from_parts(certificate, key)
    }

    /// Writes [`KEY_FILE`], then [`CERTIFICATE_FILE`]: while the certificate is missing there is no authority.
    pub fn store(&self, folder: &Path, cluster_key: &ClusterKey) -> Result<(), Error> {
        let wrapped = wrap(self.key_pem().as_bytes(), cluster_key);
        secret_file::write(&folder.join(KEY_FILE), &wrapped)?;
        let pem = material::certificate_pem(&self.certificate);
        Ok(secret_file::write(
            &folder.join(CERTIFICATE_FILE),
            pem.as_bytes(),
        )?)
    }

    /// The private key, PKCS#8 in PEM: to be wrapped, never to be stored as it is.
    pub fn key_pem(&self) -> Zeroizing<String> {
        Zeroizing::new(self.key.serialize_pem())
    }

    /// The authority's certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The installation whose identities it gives.
    pub fn installation(&self) -> Uuid {
        self.installation
    }

    /// SHA-256 of the certificate, as tokens carry it.
    pub fn fingerprint(&self) -> [u8; 32] {
        material::fingerprint(&self.certificate)
    }

    /// Signs the public key of a request for `identity`, once the request's signature has proved that its
    /// sender has the key. Names and extensions in the request are ignored. The chain goes from the leaf to
    /// the authority.
    pub fn sign_csr(
        &self,
        csr_der: &[u8],
        identity: &Identity,
        validity: Duration,
    ) -> Result<Vec<CertificateDer<'static>>, Error> {
        if csr_der.len() > REQUEST_LIMIT {
            return Err(Error::Request(format!("it is over {REQUEST_LIMIT} bytes")));
        }
        // rcgen verifies the signature of the request while it parses it.
        let request =
            CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr_der))
                .map_err(|e| Error::Request(e.to_string()))?;
        let algorithm = request.public_key.algorithm();
        if algorithm != &rcgen::PKCS_ECDSA_P256_SHA256 && algorithm != &rcgen::PKCS_ED25519 {
            return Err(Error::Request(
                "its key is neither P-256 nor Ed25519".into(),
            ));
        }
        self.sign(&request.public_key, identity, validity)
    }

    /// Makes key and certificate on the spot: for the controller's own identity, and for tests.
    pub fn issue(&self, identity: &Identity, validity: Duration) -> Result<Material, Error> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let chain = self.sign(&key, identity, validity)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Ok(Material::new(key, chain)?)
    }

    fn sign(
        &self,
        key: &impl PublicKeyData,
        identity: &Identity,
        validity: Duration,
    ) -> Result<Vec<CertificateDer<'static>>, Error> {
        if identity.installation != self.installation {
            return Err(Error::Installation {
                identity: identity.to_string(),
                installation: self.installation,
            });
        }
        // The limit on a common name is 64 characters, that on an id is 128.
        let name: String = identity.to_string().chars().take(64).collect();
        let mut params = parameters(&name, &identity.to_uri(), validity)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = match identity.role {
            // A stolen source agent can't pose as anything that others dial.
            Role::SourceAgent => vec![ExtendedKeyUsagePurpose::ClientAuth],
            Role::Controller | Role::TapeAgent => vec![
                ExtendedKeyUsagePurpose::ClientAuth,
                ExtendedKeyUsagePurpose::ServerAuth,
            ],
        };
        if identity.role == Role::Controller {
            let name = CONTROLLER_NAME.try_into()?;
            params.subject_alt_names.push(SanType::DnsName(name));
        }
        params.use_authority_key_identifier_extension = true;
        let issuer = Issuer::from_ca_cert_der(&self.certificate, &self.key)?;
        let leaf = params.signed_by(key, &issuer)?;
        Ok(vec![leaf.der().clone(), self.certificate.clone()])
    }
}

/// What all our certificates have in common.
fn parameters(name: &str, uri: &str, validity: Duration) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
    let mut serial = [0_u8; 16];
    rand::rng().fill_bytes(&mut serial);
    // Positive, and of full length: RFC 5280, 4.1.2.2.
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    let now = SystemTime::now();
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = (now + validity).into();
    Ok(params)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, missing_docs)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    fn agent(installation: Uuid) -> Identity {
        Identity::new(installation, Role::SourceAgent, "files").unwrap()
    }

    #[test]
    fn an_authority_survives_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        let cluster = ClusterKey::generate();
        cluster.store(&dir.path().join("cluster.key")).unwrap();
        let cluster = ClusterKey::load(&dir.path().join("cluster.key")).unwrap();
        let authority = Authority::create(Uuid::new_v4()).unwrap();
        authority.store(dir.path(), &cluster).unwrap();
        let again = Authority::load(dir.path(), &cluster).unwrap();
        assert_eq!(again.fingerprint(), authority.fingerprint());
        assert_eq!(again.installation(), authority.installation());
        let material = again.issue(&agent(again.installation()), DAY).unwrap();
        assert_eq!(material.authority(), authority.certificate());

        let wrong = Authority::load(dir.path(), &ClusterKey::generate());
        assert!(matches!(wrong, Err(Error::Unwrap)));
    }

    #[test]
    fn every_damaged_byte_of_a_wrapped_key_is_noticed() {
        let cluster = ClusterKey::generate();
        let wrapped = wrap(b"secret", &cluster);
        assert_eq!(unwrap(&wrapped, &cluster).unwrap().as_slice(), b"secret");
        for at in 0..wrapped.len() {
            let mut damaged = wrapped.clone();
            damaged[at] ^= 1;
            assert!(unwrap(&damaged, &cluster).is_err(), "byte {at}");
            assert!(unwrap(&wrapped[..at], &cluster).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_request_gives_its_key_and_nothing_else() {
        let authority = Authority::create(Uuid::new_v4()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["controller.example".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.subject_alt_names.push(SanType::URI(
            format!("taf://{}/controller/main", authority.installation())
                .try_into()
                .unwrap(),
        ));
        let csr = params.serialize_request(&key).unwrap();
        let identity = agent(authority.installation());
        let chain = authority.sign_csr(csr.der(), &identity, DAY).unwrap();
        assert_eq!(Identity::from_certificate(&chain[0]).unwrap(), identity);
        let (_, leaf) = x509_parser::parse_x509_certificate(&chain[0]).unwrap();
        assert!(!leaf.is_ca());
        assert_eq!(leaf.public_key().raw, key.subject_public_key_info());
    }

    #[test]
    fn a_request_that_does_not_prove_its_key_is_refused() {
        let authority = Authority::create(Uuid::new_v4()).unwrap();
        let csr = CertificateParams::default()
            .serialize_request(&KeyPair::generate().unwrap())
            .unwrap();
        let mut forged = csr.der().to_vec();
        *forged.last_mut().unwrap() ^= 1;
        let identity = agent(authority.installation());
        assert!(matches!(
            authority.sign_csr(&forged, &identity, DAY),
            Err(Error::Request(_))
        ));
        assert!(matches!(
            authority.sign_csr(csr.der(), &agent(Uuid::new_v4()), DAY),
            Err(Error::Installation { .. })
        ));
    }

    #[test]
    fn material_survives_its_folder_and_keys_stay_with_their_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create(Uuid::new_v4()).unwrap();
        let identity = agent(authority.installation());
        let one = authority.issue(&identity, DAY).unwrap();
        assert!(!Material::exists(dir.path()));
        one.store(dir.path()).unwrap();
        let again = Material::load(dir.path()).unwrap();
        assert_eq!(again.chain(), one.chain());
        assert_eq!(again.identity(), &identity);
        let other = authority.issue(&identity, DAY).unwrap();
        assert!(Material::new(other.key(), one.chain().to_vec()).is_err());
    }
}
