//! Serving: our own accept loops, over TLS and over a unix socket, HTTP/1.1 and HTTP/2 on one port. Every request
//! carries a [`Peer`] in its extensions. What a peer may do is not decided here.
//!
//! No client can end a loop: a failed handshake, a broken connection or a lack of descriptors costs that one
//! connection. Peers without an identity get small windows and a part of the connections only, so that they
//! can't crowd out the agents.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::{Service, ServiceExt as _};
use tracing::{debug, warn};

use crate::identity::Identity;
use crate::{CONNECTION_WINDOW, FRAME_LIMIT, PING_EVERY, PING_TIMEOUT, STREAM_WINDOW};

/// HTTP/2 window for peers without an identity, in bytes: they send small requests only.
const ANONYMOUS_WINDOW: u32 = 1024 * 1024;
/// A peer without an identity sends its first request within this time.
const FIRST_REQUEST: Duration = Duration::from_secs(30);
/// Pause after a failed accept, so that a lack of descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Any error, as tower and hyper pass it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Address {
    /// Over TLS.
    Tcp(SocketAddr),
    /// Over a unix socket of this host.
    Unix,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix => f.write_str("unix socket"),
        }
    }
}

/// Who sends a request; found in the extensions of every one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Where it comes from.
    pub address: Address,
    /// What its certificate proves; none without a certificate, and over a unix socket.
    pub identity: Option<Identity>,
    /// The user of the process at the other end of a unix socket.
    pub unix_uid: Option<u32>,
}

/// What a listener allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time; further ones wait in the kernel's queue.
    pub connections: usize,
    /// Of these, connections without an identity.
    pub anonymous: usize,
    /// Requests at a time in one HTTP/2 connection.
    pub streams: u32,
    /// A TLS handshake takes at most this long.
    pub handshake: Duration,
    /// At shutdown, requests under way get this long to end.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 2048,
            anonymous: 512,
            streams: 1024,
            handshake: Duration::from_secs(10),
            drain: Duration::from_secs(10),
        }
    }
}

/// Serves over TLS until `shutdown`, then until requests under way have ended or the drain time is over.
pub async fn serve<S, B>(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    service: S,
    limits: Limits,
    shutdown: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let acceptor = TlsAcceptor::from(tls);
    let slots = Arc::new(Semaphore::new(limits.connections));
    let anonymous = Arc::new(Semaphore::new(limits.anonymous));
    let tasks = TaskTracker::new();
    while let Some(slot) = free_slot(&slots, &shutdown).await {
        let Some((stream, address)) = accepted(listener.accept(), &shutdown).await else {
            continue;
        };
        let (acceptor, anonymous) = (acceptor.clone(), anonymous.clone());
        let (service, shutdown) = (service.clone(), shutdown.clone());
        tasks.spawn(async move {
            let _slot = slot;
            let Some(Ok(stream)) = shutdown
                .run_until_cancelled(secure(&acceptor, stream, address, limits.handshake))
                .await
            else {
                return;
            };
            let leaf = stream
                .get_ref()
                .1
                .peer_certificates()
                .and_then(<[_]>::first);
            // The verifier has read the same identity before; this can't fail after it.
            let identity = leaf.and_then(|leaf| Identity::from_certificate(leaf).ok());
            let _anonymous = if identity.is_some() {
                None
            } else if let Ok(permit) = anonymous.try_acquire_owned() {
                Some(permit)
            } else {
                warn!(%address, "too many connections without an identity, this one is closed");
                return;
            };
            let peer = Peer {
                address: Address::Tcp(address),
                identity,
                unix_uid: None,
            };
            connection(stream, peer, service, limits, shutdown).await;
        });
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
}

/// Serves over a unix socket; like [`serve`] otherwise. The peer's user comes from the kernel.
pub async fn serve_unix<S, B>(
    listener: UnixListener,
    service: S,
    limits: Limits,
    shutdown: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let slots = Arc::new(Semaphore::new(limits.connections));
    let tasks = TaskTracker::new();
    while let Some(slot) = free_slot(&slots, &shutdown).await {
        let Some((stream, _)) = accepted(listener.accept(), &shutdown).await else {
            continue;
        };
        let unix_uid = match stream.peer_cred() {
            Ok(credentials) => credentials.uid(),
            Err(error) => {
                debug!(%error, "the peer of a unix socket went before it was known");
                continue;
            }
        };
        let peer = Peer {
            address: Address::Unix,
            identity: None,
            unix_uid: Some(unix_uid),
        };
        let (service, shutdown) = (service.clone(), shutdown.clone());
        tasks.spawn(async move {
            let _slot = slot;
            connection(stream, peer, service, limits, shutdown).await;
        });
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
}

/// Listens on a unix socket with mode 600, in place of a socket that nobody serves any more.
pub fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt as _;
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)?,
        Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// A free slot, or none at shutdown.
async fn free_slot(
    slots: &Arc<Semaphore>,
    shutdown: &CancellationToken,
) -> Option<OwnedSemaphorePermit> {
    let slot = shutdown.run_until_cancelled(slots.clone().acquire_owned());
    Some(slot.await?.expect("the semaphore is never closed"))
}

/// The next connection, or none at shutdown and after a failure, which is logged and paused for.
async fn accepted<T>(
    accept: impl Future<Output = io::Result<T>>,
    shutdown: &CancellationToken,
) -> Option<T> {
    match shutdown.run_until_cancelled(accept).await? {
        Ok(accepted) => Some(accepted),
        Err(error) => {
            warn!(%error, "a connection could not be accepted");
            shutdown.run_until_cancelled(sleep(ACCEPT_PAUSE)).await;
            None
        }
    }
}

async fn secure(
    acceptor: &TlsAcceptor,
    stream: TcpStream,
    address: SocketAddr,
    limit: Duration,
) -> Result<tokio_rustls::server::TlsStream<TcpStream>, ()> {
    // Fails only on a socket that is gone, which the handshake then notices.
    let _ = stream.set_nodelay(true);
    match timeout(limit, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => {
            // Probes of load balancers connect and leave.
            if error.kind() == io::ErrorKind::UnexpectedEof {
                debug!(%address, %error, "the peer left during the handshake");
            } else {
                warn!(%address, %error, "a peer failed the handshake");
            }
            Err(())
        }
        Err(_) => {
            debug!(%address, "the handshake took too long");
            Err(())
        }
    }
}

/// Serves one connection to its end, or to the end of the drain time after `shutdown`.
async fn connection<I, S, B>(
    io: I,
    peer: Peer,
    service: S,
    limits: Limits,
    shutdown: CancellationToken,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let known = peer.identity.is_some() || peer.unix_uid.is_some();
    let address = peer.address;
    let begun = Arc::new(AtomicBool::new(known));
    let seen = begun.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        seen.store(true, Ordering::Relaxed);
        request.extensions_mut().insert(peer.clone());
        service.clone().oneshot(request)
    });
    let builder = http_builder(known, limits.streams);
    let connection = builder.serve_connection(TokioIo::new(io), service);
    tokio::pin!(connection);
    let idle = async {
        sleep(FIRST_REQUEST).await;
        if begun.load(Ordering::Relaxed) {
            std::future::pending::<Infallible>().await;
        }
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = idle => {
            debug!(%address, "no request came, the connection is closed");
            return;
        }
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            match timeout(limits.drain, connection).await {
                Ok(ended) => ended,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = ended {
        debug!(%address, %error, "a connection ended");
    }
}

fn http_builder(known: bool, streams: u32) -> auto::Builder<TokioExecutor> {
    let (stream, connection) = if known {
        (STREAM_WINDOW, CONNECTION_WINDOW)
    } else {
        (ANONYMOUS_WINDOW, ANONYMOUS_WINDOW)
    };
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(stream)
        .initial_connection_window_size(connection)
        .max_frame_size(FRAME_LIMIT)
        .max_concurrent_streams(streams)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(FIRST_REQUEST);
    builder
}
