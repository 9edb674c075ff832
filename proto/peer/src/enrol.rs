//! Enrolment: how a host gets its identity. The key is made here and never leaves; the token says which
//! authority to believe before anything is sent; the controller says who this host then is.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use taf_proto::v1::EnrolRequest;
use taf_proto::v1::enrolment_service_client::EnrolmentServiceClient;
use tonic::{Code, Request, Status};

use crate::identity::Role;
use crate::material::{self, Material, fingerprint};
use crate::tls::{Expect, Trust, client_config};
use crate::token::EnrolmentToken;
use crate::{MESSAGE_LIMIT, channel, faults, secret_file, tls};

/// The call takes at most this long.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Why this host was not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is an identity already; it is not thrown away unasked.
    #[error("{} holds an identity already: give another folder, or remove {} there to enrol anew", .0.display(), material::FILE)]
    AlreadyEnrolled(PathBuf),
    /// The controller does not know the token.
    #[error(
        "the controller does not know this token: copy it again in full, or make one with taf agent enrol"
    )]
    TokenUnknown,
    /// The token's time is over.
    #[error("this token has expired: make a new one with taf agent enrol")]
    TokenExpired,
    /// Somebody enrolled with it before.
    #[error(
        "this token was used before: make a new one with taf agent enrol; if nobody here used it, see the audit log"
    )]
    TokenUsed,
    /// The answer is not from the authority that the token pins.
    #[error(
        "the controller's authority is not the one that the token names: check the address, and that the token is from this installation"
    )]
    WrongAuthority,
    /// No connection.
    #[error(transparent)]
    Connect(#[from] channel::Error),
    /// The controller refused for another reason.
    #[error("the controller refused the enrolment: {message}")]
    Refused {
        /// The gRPC status.
        code: Code,
        /// What it said.
        message: String,
    },
    /// The controller's answer makes no sense.
    #[error("the controller's answer can't be used: {0}")]
    Answer(String),
    /// The key can't be made.
    #[error("making a key failed: {0}")]
    Key(#[from] rcgen::Error),
    /// The folder can't be used.
    #[error(transparent)]
    Folder(#[from] secret_file::Error),
    /// The identity can't be used or kept.
    #[error(transparent)]
    Material(#[from] material::Error),
    /// The TLS configuration is not usable.
    #[error(transparent)]
    Tls(#[from] tls::Error),
}

/// Gets an identity from the controller at `address` (host:port) and keeps it in `folder`.
pub async fn enrol(
    address: &str,
    token: &EnrolmentToken,
    folder: &Path,
) -> Result<Material, Error> {
    if Material::exists(folder) {
        return Err(Error::AlreadyEnrolled(folder.to_owned()));
    }
    // Before the token is spent: a folder that can't be written would cost it.
    secret_file::prepare_folder(folder)?;
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let request = EnrolRequest {
        token_secret: token.secret.to_vec().into(),
        certificate_request_der: params.serialize_request(&key)?.der().to_vec().into(),
        host_name: host_name(),
    };

    let trust = Trust::Fingerprint(token.authority_sha256);
    let tls = client_config(trust, None, Expect::controller(None))?;
    let channel = channel::connect(address, tls).await.map_err(pinned)?;
    let mut request = Request::new(request);
    request.set_timeout(CALL_TIMEOUT);
    let answer = EnrolmentServiceClient::new(channel)
        .max_decoding_message_size(MESSAGE_LIMIT)
        .enrol(request)
        .await
        .map_err(|status| refused(&status))?
        .into_inner();

    let chain: Vec<CertificateDer<'static>> = answer
        .certificate_chain_der
        .iter()
        .map(|der| CertificateDer::from(der.to_vec()))
        .collect();
    if chain.last().map(fingerprint) != Some(token.authority_sha256) {
        return Err(Error::WrongAuthority);
    }
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let material = Material::new(key, chain)?;
    let identity = material.identity();
    if identity.role == Role::Controller || identity.id != answer.agent_id {
        return Err(Error::Answer(format!("it names this host {identity}")));
    }
    if identity.installation.as_bytes() != answer.installation_uuid.as_ref() {
        return Err(Error::Answer("it names two installations".into()));
    }
    material.store(folder)?;
    Ok(material)
}

fn pinned(error: channel::Error) -> Error {
    match error {
        channel::Error::Refused {
            refusal: tls::Refusal::Fingerprint | tls::Refusal::Authority,
            ..
        } => Error::WrongAuthority,
        other => Error::Connect(other),
    }
}

fn refused(status: &Status) -> Error {
    if let Some(error) = channel::cause(status) {
        return Error::Connect(error);
    }
    let reason = faults::reason_of(status).map(|(reason, _)| reason);
    match reason.as_deref() {
        Some("TOKEN_UNKNOWN") => Error::TokenUnknown,
        Some("TOKEN_EXPIRED") => Error::TokenExpired,
        Some("TOKEN_USED") => Error::TokenUsed,
        _ => Error::Refused {
            code: status.code(),
            message: status.message().to_owned(),
        },
    }
}

/// The host's name, for people only.
pub fn host_name() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| "unknown".into())
}
