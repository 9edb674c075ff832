//! Where the database is and how the connection to it is protected, read from its URL.
//!
//! tokio-postgres knows sslmode disable, prefer and require; libpq's `verify-full` and `sslrootcert` are read here.
//! As with libpq, `require` alone encrypts and verifies nobody.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_postgres::config::Host;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{Error, Options};

/// A parsed URL.
pub(super) struct Target {
    /// For tokio-postgres.
    pub config: tokio_postgres::Config,
    /// For tokio-postgres.
    pub tls: MakeRustlsConnect,
    /// For people: hosts, ports and database; no password.
    pub name: String,
}

/// Files with the system's certificate authorities, by distribution.
const SYSTEM_ROOTS: [&str; 3] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
];

impl Target {
    /// Reads the URL and the files that it names.
    pub(super) fn parse(options: &Options) -> Result<Self, Error> {
        let (url, verify, roots) = split(&options.url)?;
        let mut config: tokio_postgres::Config =
            url.parse().map_err(|error: tokio_postgres::Error| {
                let cause = std::error::Error::source(&error)
                    .map_or_else(|| error.to_string(), ToString::to_string);
                Error::Settings(format!("the URL is malformed: {cause}"))
            })?;
        if let Some(file) = &options.password_file {
            let text = std::fs::read_to_string(file).map_err(|error| {
                Error::Settings(format!("{} can't be read: {error}", file.display()))
            })?;
            config.password(text.trim_end_matches(['\r', '\n']));
        }
        config.application_name("taf-controller");
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(std::time::Duration::from_secs(10));
        }
        let tls = MakeRustlsConnect::new(client_config(verify, roots.as_deref())?);
        let name = describe(&config);
        Ok(Self { config, tls, name })
    }
}

/// The URL as tokio-postgres takes it, whether to verify, and by which file.
fn split(url: &str) -> Result<(String, bool, Option<PathBuf>), Error> {
    if !url.starts_with("postgresql://") && !url.starts_with("postgres://") {
        return Err(Error::Settings(
            "it is neither \"embedded\" nor a postgresql:// URL".into(),
        ));
    }
    let Some((address, query)) = url.split_once('?') else {
        return Ok((url.to_owned(), false, None));
    };
    let mut verify = false;
    let mut roots = None;
    let mut kept = Vec::new();
    for pair in query.split('&') {
        match pair.split_once('=') {
            Some(("sslmode", "verify-full")) => {
                verify = true;
                kept.push("sslmode=require");
            }
            Some(("sslmode", "verify-ca" | "allow")) => {
                return Err(Error::Settings(
                    "sslmode is one of disable, prefer, require, verify-full".into(),
                ));
            }
            Some(("sslrootcert", file)) => {
                verify = true;
                roots = Some(PathBuf::from(file.replace("%2F", "/").replace("%2f", "/")));
            }
            _ => kept.push(pair),
        }
    }
    Ok((format!("{address}?{}", kept.join("&")), verify, roots))
}

fn client_config(verify: bool, roots: Option<&Path>) -> Result<ClientConfig, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Settings(error.to_string()))?;
    if !verify {
        let verifier = Arc::new(Encrypting(provider));
        return Ok(builder
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth());
    }
    let file = roots.map(Path::to_path_buf).or_else(|| {
        SYSTEM_ROOTS
            .iter()
            .map(PathBuf::from)
            .find(|file| file.exists())
    });
    let file = file.ok_or_else(|| {
        Error::Settings(
            "this system has no certificate authorities; name a file with sslrootcert=".into(),
        )
    })?;
    let unreadable = |error: &dyn std::fmt::Display| {
        Error::Settings(format!("{} can't be read: {error}", file.display()))
    };
    let mut store = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(&file).map_err(|error| unreadable(&error))?;
    for certificate in certificates {
        store.add_parsable_certificates([certificate.map_err(|error| unreadable(&error))?]);
    }
    if store.is_empty() {
        return Err(unreadable(&"it holds no certificate"));
    }
    Ok(builder.with_root_certificates(store).with_no_client_auth())
}

fn describe(config: &tokio_postgres::Config) -> String {
    let ports = config.get_ports();
    let hosts: Vec<String> = config
        .get_hosts()
        .iter()
        .enumerate()
        .map(|(at, host)| {
            let port = ports
                .get(at)
                .or_else(|| ports.first())
                .copied()
                .unwrap_or(5432);
            match host {
                Host::Tcp(name) => format!("{name}:{port}"),
                Host::Unix(folder) => format!("{}/.s.PGSQL.{port}", folder.display()),
            }
        })
        .collect();
    let database = config.get_dbname().or(config.get_user()).unwrap_or("?");
    format!("{} (database {database})", hosts.join(", "))
}

/// Encryption without knowing whom we talk to: libpq's `require`.
#[derive(Debug)]
struct Encrypting(Arc<CryptoProvider>);

impl ServerCertVerifier for Encrypting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn libpqs_verification_settings_are_taken_out_of_the_url() {
        let (url, verify, roots) =
            split("postgresql://taf@db/taf?sslmode=verify-full&port=5433").unwrap();
        assert_eq!(
            (url.as_str(), verify, roots),
            (
                "postgresql://taf@db/taf?sslmode=require&port=5433",
                true,
                None
            )
        );
        let (url, verify, roots) =
            split("postgresql://taf@db/taf?sslrootcert=/etc/ca.pem&sslmode=require").unwrap();
        assert_eq!(url, "postgresql://taf@db/taf?sslmode=require");
        assert!(verify && roots.is_some_and(|file| file == Path::new("/etc/ca.pem")));
    }

    #[test]
    fn a_password_is_never_part_of_the_name_or_of_an_error() {
        let target = Target::parse(&Options::new("postgresql://taf:secret@db:5433/catalog"))
            .unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(target.name, "db:5433 (database catalog)");
        let Err(error) = Target::parse(&Options::new("postgresql://taf:secret@db:port/catalog"))
        else {
            panic!("accepted")
        };
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
