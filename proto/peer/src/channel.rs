//! Connecting: a gRPC channel over TLS to whom we expect, or over a unix socket. A lazy channel reconnects by
//! itself at the next call; how often to call again is the caller's, see [`crate::backoff`].

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::{AlertDescription, ClientConfig};
use rustls_pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::tls::Refusal;
use crate::{CONNECTION_WINDOW, FRAME_LIMIT, PING_EVERY, PING_TIMEOUT, STREAM_WINDOW};

/// Name, connection and handshake together take at most this long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no connection.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Not an address.
    #[error("\"{address}\" is not an address: give host:port, or [IPv6]:port")]
    Address {
        /// What was given.
        address: String,
    },
    /// The host is there, but nobody listens.
    #[error(
        "nothing listens at {address}: is the controller or agent running there, and is this its port?"
    )]
    NobodyThere {
        /// Where.
        address: String,
    },
    /// The host does not answer or is not found.
    #[error("{address} can't be reached: {source}; check name, network and firewall")]
    Unreachable {
        /// Where.
        address: String,
        /// Why.
        source: Arc<io::Error>,
    },
    /// No answer in time.
    #[error("{address} did not answer within {} s: check name, network and firewall", CONNECT_TIMEOUT.as_secs())]
    Timeout {
        /// Where.
        address: String,
    },
    /// We refuse who answered.
    #[error("who answers at {address} is refused: {refusal}")]
    Refused {
        /// Where.
        address: String,
        /// Why.
        refusal: Refusal,
    },
    /// They refuse us.
    #[error(
        "{address} refuses our certificate ({alert}): is this host enrolled there? enrol it again"
    )]
    RefusedByPeer {
        /// Where.
        address: String,
        /// What it said.
        alert: String,
    },
    /// Something else speaks there.
    #[error("no TLS connection with {address}: {source}; is this the port of a TAF process?")]
    Handshake {
        /// Where.
        address: String,
        /// Why.
        source: Arc<io::Error>,
    },
    /// The unix socket is not there or nobody serves it.
    #[error("nothing answers at {}: {source}; is the process running, and may you use its socket?", path.display())]
    Unix {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: Arc<io::Error>,
    },
    /// HTTP/2 did not come about.
    #[error("no HTTP/2 connection with {address}: {reason}")]
    Http {
        /// Where.
        address: String,
        /// Why.
        reason: String,
    },
}

/// Connects now. The channel reconnects at the next call if the connection breaks.
pub async fn connect(address: &str, tls: Arc<ClientConfig>) -> Result<Channel, Error> {
    let target = Target::new(address, tls)?;
    let connector = service_fn({
        let target = target.clone();
        move |_: Uri| target.clone().dial()
    });
    target
        .endpoint()
        .connect_with_connector(connector)
        .await
        .map_err(|error| cause(&error).unwrap_or_else(|| target.http(&error)))
}

/// Connects at the first call. See [`cause`] for what a failed call then tells.
pub fn connect_lazy(address: &str, tls: Arc<ClientConfig>) -> Result<Channel, Error> {
    let target = Target::new(address, tls)?;
    let endpoint = target.endpoint();
    Ok(endpoint.connect_with_connector_lazy(service_fn(move |_: Uri| target.clone().dial())))
}

/// Connects to a unix socket.
pub async fn connect_unix(path: &Path) -> Result<Channel, Error> {
    let dial = {
        let path = path.to_owned();
        move |_: Uri| {
            let path = path.clone();
            async move {
                match timeout(CONNECT_TIMEOUT, UnixStream::connect(&path)).await {
                    Ok(Ok(stream)) => Ok(TokioIo::new(stream)),
                    Ok(Err(source)) => Err(source),
                    Err(_) => Err(io::ErrorKind::TimedOut.into()),
                }
                .map_err(|source| Error::Unix {
                    path,
                    source: Arc::new(source),
                })
            }
        }
    };
    tuned(Endpoint::from_static("http://localhost"))
        .connect_with_connector(service_fn(dial))
        .await
        .map_err(|error| {
            cause(&error).unwrap_or_else(|| Error::Http {
                address: path.display().to_string(),
                reason: chain_text(&error),
            })
        })
}

/// The reason of ours behind an error of a channel or a status of a call, if it is about the connection.
pub fn cause(error: &(dyn std::error::Error + 'static)) -> Option<Error> {
    let mut next = Some(error);
    while let Some(current) = next {
        if let Some(ours) = current.downcast_ref::<Error>() {
            return Some(ours.clone());
        }
        if let Some(alert) = current.downcast_ref::<io::Error>().and_then(alert_in) {
            return Some(Error::RefusedByPeer {
                address: "the peer".into(),
                alert,
            });
        }
        next = current.source();
    }
    None
}

/// The peer's reason, if it ended the connection because of our certificate. With TLS 1.3 this comes only after
/// our own handshake is done, through HTTP/2, which keeps the kind and the text of an error and drops the rest.
fn alert_in(error: &io::Error) -> Option<String> {
    const REASONS: [(AlertDescription, &str); 9] = [
        (AlertDescription::UnknownCA, "signed by another authority"),
        (
            AlertDescription::DecryptError,
            "signed by another authority",
        ),
        (AlertDescription::CertificateExpired, "expired"),
        (AlertDescription::CertificateRequired, "none was shown"),
        (AlertDescription::BadCertificate, "not accepted"),
        (AlertDescription::UnsupportedCertificate, "not accepted"),
        (AlertDescription::CertificateRevoked, "revoked"),
        (AlertDescription::CertificateUnknown, "not accepted"),
        (AlertDescription::AccessDenied, "not accepted"),
    ];
    let text = error.get_ref()?.to_string();
    REASONS
        .iter()
        .find(|(alert, _)| text == rustls::Error::AlertReceived(*alert).to_string())
        .map(|(_, reason)| (*reason).to_owned())
}

fn chain_text(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(current) = next {
        text = format!("{text}: {current}");
        next = current.source();
    }
    text
}

fn tuned(endpoint: Endpoint) -> Endpoint {
    endpoint
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_LIMIT)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
}

#[derive(Clone)]
struct Target {
    address: String,
    name: ServerName<'static>,
    uri: Uri,
    tls: Arc<ClientConfig>,
}

impl Target {
    fn new(address: &str, tls: Arc<ClientConfig>) -> Result<Self, Error> {
        let wrong = || Error::Address {
            address: address.to_owned(),
        };
        // The scheme says http because TLS is ours, below what tonic sees.
        let uri: Uri = format!("http://{address}").parse().map_err(|_| wrong())?;
        let authority = uri.authority().ok_or_else(wrong)?;
        if authority.as_str() != address || uri.port_u16().is_none() || address.contains('@') {
            return Err(wrong());
        }
        let host = authority.host();
        let bare = host
            .strip_prefix('[')
            .and_then(|h| h.strip_suffix(']'))
            .unwrap_or(host);
        // Only proxies look at it; who answers is verified by identity.
        let name = ServerName::try_from(bare.to_owned()).map_err(|_| wrong())?;
        Ok(Self {
            address: address.to_owned(),
            name,
            uri,
            tls,
        })
    }

    fn endpoint(&self) -> Endpoint {
        tuned(Endpoint::from(self.uri.clone()))
    }

    fn http(&self, error: &tonic::transport::Error) -> Error {
        Error::Http {
            address: self.address.clone(),
            reason: chain_text(error),
        }
    }

    async fn dial(self) -> Result<TokioIo<TlsStream<TcpStream>>, Error> {
        let address = self.address.clone();
        timeout(CONNECT_TIMEOUT, self.dial_unlimited())
            .await
            .unwrap_or(Err(Error::Timeout { address }))
    }

    async fn dial_unlimited(self) -> Result<TokioIo<TlsStream<TcpStream>>, Error> {
        let address = self.address;
        let stream = match TcpStream::connect(&address).await {
            Ok(stream) => stream,
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
                return Err(Error::NobodyThere { address });
            }
            Err(e) => {
                return Err(Error::Unreachable {
                    address,
                    source: Arc::new(e),
                });
            }
        };
        // Fails only on a socket that is gone, which the handshake then notices.
        let _ = stream.set_nodelay(true);
        match TlsConnector::from(self.tls)
            .connect(self.name, stream)
            .await
        {
            Ok(stream) => Ok(TokioIo::new(stream)),
            Err(e) => Err(handshake_error(address, e)),
        }
    }
}

fn handshake_error(address: String, error: io::Error) -> Error {
    if let Some(alert) = alert_in(&error) {
        return Error::RefusedByPeer { address, alert };
    }
    let tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls.and_then(Refusal::find) {
        Some(refusal) => Error::Refused {
            address,
            refusal: refusal.clone(),
        },
        None => Error::Handshake {
            address,
            source: Arc::new(error),
        },
    }
}
