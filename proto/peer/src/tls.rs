//! TLS between TAF's processes: version 1.3 only, certificates of our authority only, and identities instead of
//! host names. A worker may be reached by any address; what counts is which agent's certificate answers there.
//!
//! Sessions are never resumed: each connection verifies both certificates anew.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, OtherError,
    PeerIncompatible, RootCertStore, ServerConfig, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use uuid::Uuid;

use crate::identity::{self, Identity, Role};
use crate::material::{Material, fingerprint};

/// Whom a client believes.
#[derive(Clone, Debug)]
pub enum Trust {
    /// This authority.
    Authority(CertificateDer<'static>),
    /// The authority with this SHA-256: for the first contact, when nothing but a token is at hand. The server
    /// sends its authority's certificate along.
    Fingerprint([u8; 32]),
}

/// Whom a client means to reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expect {
    /// Its installation; any if none.
    pub installation: Option<Uuid>,
    /// Its role.
    pub role: Role,
    /// Its id; any of the role if none.
    pub id: Option<String>,
}

impl Expect {
    /// Any controller of the installation.
    pub fn controller(installation: Option<Uuid>) -> Self {
        Self {
            installation,
            role: Role::Controller,
            id: None,
        }
    }

    /// The tape agent with this id.
    pub fn tape_agent(installation: Uuid, id: impl Into<String>) -> Self {
        Self {
            installation: Some(installation),
            role: Role::TapeAgent,
            id: Some(id.into()),
        }
    }

    fn met_by(&self, found: &Identity) -> bool {
        self.role == found.role
            && self.installation.is_none_or(|i| i == found.installation)
            && self.id.as_ref().is_none_or(|id| *id == found.id)
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.role)?;
        if let Some(id) = &self.id {
            write!(f, " {id}")?;
        }
        if let Some(installation) = self.installation {
            write!(f, " of installation {installation}")?;
        }
        Ok(())
    }
}

/// Whether clients must show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// Without one they connect as nobody; a bad one is still refused.
    Optional,
    /// Without one they are refused.
    Required,
}

/// Why a certificate was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Signed by somebody else.
    #[error(
        "its certificate is not signed by the authority of this installation: check the address, or enrol again if the authority is new"
    )]
    Authority,
    /// The chain lacks the certificate that the token pins.
    #[error(
        "its authority is not the one that the token names: check the address, and that the token is from this installation"
    )]
    Fingerprint,
    /// Outside its time of validity.
    #[error(
        "its certificate is expired or not valid yet: check the clocks of both hosts, then enrol it again"
    )]
    Expired,
    /// Not usable for this side of a connection, as a source agent's for serving.
    #[error("its certificate does not allow this use")]
    Purpose,
    /// Without a readable identity.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// Somebody else of our installation, or of another.
    #[error("it is {found} of installation {}, not the expected {expected}: check the address", found.installation)]
    Unexpected {
        /// Who was meant.
        expected: String,
        /// Who answered.
        found: Identity,
    },
    /// Any other fault.
    #[error("its certificate is not acceptable ({0})")]
    Other(String),
}

impl Refusal {
    fn from_rustls(error: &rustls::Error) -> Self {
        use CertificateError as E;
        match error {
            rustls::Error::InvalidCertificate(fault) => match fault {
                E::UnknownIssuer | E::BadSignature => Self::Authority,
                E::Expired
                | E::ExpiredContext { .. }
                | E::NotValidYet
                | E::NotValidYetContext { .. } => Self::Expired,
                E::InvalidPurpose | E::InvalidPurposeContext { .. } => Self::Purpose,
                other => Self::Other(other.to_string()),
            },
            other => Self::Other(other.to_string()),
        }
    }

    /// The refusal inside an error of a handshake, if that was the reason.
    pub(crate) fn find(error: &rustls::Error) -> Option<&Self> {
        match error {
            rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(inner))) => {
                inner.downcast_ref()
            }
            _ => None,
        }
    }
}

impl From<Refusal> for rustls::Error {
    fn from(refusal: Refusal) -> Self {
        Self::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refusal))))
    }
}

/// Why there is no usable configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The authority's certificate is no trust anchor.
    #[error("the authority's certificate can't be used: {0}")]
    Authority(String),
    /// Key or chain is not usable.
    #[error("the own certificate can't be used: {0}")]
    Own(#[from] rustls::Error),
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn roots(authority: &CertificateDer<'static>) -> Result<RootCertStore, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone())?;
    Ok(roots)
}

/// For [`crate::serve`]: proves our identity, and lets in who is nobody (if optional) or has an identity of our
/// installation.
pub fn server_config(own: &Material, clients: ClientAuth) -> Result<Arc<ServerConfig>, Error> {
    let provider = provider();
    let roots = roots(own.authority()).map_err(|e| Error::Authority(e.to_string()))?;
    let mut builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    if clients == ClientAuth::Optional {
        builder = builder.allow_unauthenticated();
    }
    let chain = builder
        .build()
        .map_err(|e| Error::Authority(e.to_string()))?;
    let verifier = ClientVerifier {
        chain,
        installation: own.identity().installation,
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_single_cert(own.chain().to_vec(), own.key())?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// For [`crate::channel`]: whom to believe, who we are (nobody if none), whom to expect.
pub fn client_config(
    trust: Trust,
    own: Option<&Material>,
    expect: Expect,
) -> Result<Arc<ClientConfig>, Error> {
    let provider = provider();
    if let Trust::Authority(authority) = &trust {
        roots(authority).map_err(|e| Error::Authority(e.to_string()))?;
    }
    let verifier = ServerVerifier {
        trust,
        expect,
        provider: provider.clone(),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match own {
        Some(own) => builder.with_client_auth_cert(own.chain().to_vec(), own.key())?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// Chain to our authority, then the expected identity. Host names are not looked at.
#[derive(Debug)]
struct ServerVerifier {
    trust: Trust,
    expect: Expect,
    provider: Arc<CryptoProvider>,
}

impl ServerVerifier {
    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Refusal> {
        let authority = match &self.trust {
            Trust::Authority(authority) => authority.clone(),
            Trust::Fingerprint(pinned) => rest
                .iter()
                .find(|certificate| fingerprint(certificate) == *pinned)
                .ok_or(Refusal::Fingerprint)?
                .clone()
                .into_owned(),
        };
        let fault = |e: rustls::Error| Refusal::from_rustls(&e);
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(leaf).map_err(fault)?,
            &roots(&authority).map_err(fault)?,
            rest,
            now,
            self.provider.signature_verification_algorithms.all,
        )
        .map_err(fault)?;
        let found = Identity::from_certificate(leaf)?;
        if !self.expect.met_by(&found) {
            return Err(Refusal::Unexpected {
                expected: self.expect.to_string(),
                found,
            });
        }
        Ok(())
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verify(end_entity, intermediates, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Chain to our authority, then an identity of our installation. Roles are the permission layer's business.
#[derive(Debug)]
struct ClientVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    installation: Uuid,
}

impl ClientCertVerifier for ClientVerifier {
    fn offer_client_auth(&self) -> bool {
        self.chain.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.chain.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self
            .chain
            .verify_client_cert(end_entity, intermediates, now)?;
        let found = Identity::from_certificate(end_entity).map_err(Refusal::from)?;
        if found.installation != self.installation {
            return Err(Refusal::Unexpected {
                expected: format!("member of installation {}", self.installation),
                found,
            }
            .into());
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
