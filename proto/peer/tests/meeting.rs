//! Processes meet over real sockets: the right peer passes, every wrong one is refused and told why.
#![allow(clippy::unwrap_used, missing_docs)]

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use http::{Request, Response};
use hyper::body::Incoming;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use taf_peer::authority::Authority;
use taf_peer::channel::{self, Error};
use taf_peer::identity::{Identity, Role};
use taf_peer::material::{Material, fingerprint};
use taf_peer::serve::{Address, Limits, Peer, bind_unix, serve, serve_unix};
use taf_peer::tls::{ClientAuth, Expect, Refusal, Trust, client_config, server_config};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::service::Routes;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tower::{Service, ServiceExt as _};
use uuid::Uuid;

const DAY: Duration = Duration::from_hours(24);

/// An installation with one server.
struct Site {
    authority: Authority,
    server_leaf: CertificateDer<'static>,
    address: SocketAddr,
    peers: mpsc::UnboundedReceiver<Peer>,
    _running: DropGuard,
}

/// Health, and a note of each peer that asks.
fn health(
    peers: mpsc::UnboundedSender<Peer>,
) -> impl Service<
    Request<Incoming>,
    Response = Response<tonic::body::Body>,
    Error = std::convert::Infallible,
    Future: Send + 'static,
> + Clone
+ Send
+ 'static {
    let (_, service) = tonic_health::server::health_reporter();
    tower::ServiceBuilder::new()
        .map_request(move |request: Request<Incoming>| {
            let peer = request.extensions().get::<Peer>().unwrap().clone();
            peers.send(peer).unwrap();
            request
        })
        .service(Routes::new(service))
}

impl Site {
    async fn with_server(role: Role, id: &str, clients: ClientAuth) -> Self {
        let authority = Authority::create(Uuid::new_v4()).unwrap();
        let identity = Identity::new(authority.installation(), role, id).unwrap();
        let own = authority.issue(&identity, DAY).unwrap();
        Self::start(authority, &own, clients).await
    }

    async fn start(authority: Authority, own: &Material, clients: ClientAuth) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let (sender, peers) = mpsc::unbounded_channel();
        tokio::spawn(serve(
            listener,
            server_config(own, clients).unwrap(),
            health(sender),
            Limits::default(),
            shutdown.clone(),
        ));
        Self {
            authority,
            server_leaf: own.chain()[0].clone(),
            address,
            peers,
            _running: shutdown.drop_guard(),
        }
    }

    async fn controller() -> Self {
        Self::with_server(Role::Controller, "main", ClientAuth::Optional).await
    }

    fn member(&self, role: Role, id: &str) -> Material {
        let identity = Identity::new(self.authority.installation(), role, id).unwrap();
        self.authority.issue(&identity, DAY).unwrap()
    }

    fn trust(&self) -> Trust {
        Trust::Authority(self.authority.certificate().clone())
    }

    /// Connects and asks for health.
    async fn ask(&self, trust: Trust, own: Option<&Material>, expect: Expect) -> Result<(), Error> {
        let tls = client_config(trust, own, expect).unwrap();
        let channel = channel::connect(&self.address.to_string(), tls).await?;
        match HealthClient::new(channel)
            .check(HealthCheckRequest::default())
            .await
        {
            Ok(_) => Ok(()),
            Err(status) => Err(channel::cause(&status).unwrap_or_else(|| panic!("{status:?}"))),
        }
    }
}

fn refusal(result: Result<(), Error>) -> Refusal {
    match result {
        Err(Error::Refused { refusal, .. }) => refusal,
        other => panic!("not refused by us: {other:?}"),
    }
}

fn refused_by_peer(result: Result<(), Error>) -> String {
    match result {
        Err(Error::RefusedByPeer { alert, .. }) => alert,
        other => panic!("not refused by the peer: {other:?}"),
    }
}

#[tokio::test]
async fn the_right_peer_passes_and_is_known() {
    let mut site = Site::controller().await;
    let own = site.member(Role::SourceAgent, "files");
    let expect = Expect::controller(Some(site.authority.installation()));
    site.ask(site.trust(), Some(&own), expect).await.unwrap();
    let peer = site.peers.recv().await.unwrap();
    assert_eq!(peer.identity.as_ref(), Some(own.identity()));
    assert_eq!(peer.unix_uid, None);
    assert!(matches!(peer.address, Address::Tcp(a) if a.ip().is_loopback()));
}

#[tokio::test]
async fn without_a_certificate_one_is_nobody_where_that_is_allowed() {
    let mut site = Site::controller().await;
    site.ask(site.trust(), None, Expect::controller(None))
        .await
        .unwrap();
    assert_eq!(site.peers.recv().await.unwrap().identity, None);
}

#[tokio::test]
async fn without_a_certificate_one_is_refused_elsewhere() {
    let site = Site::with_server(Role::TapeAgent, "tape1", ClientAuth::Required).await;
    let expect = || Expect::tape_agent(site.authority.installation(), "tape1");
    let alert = refused_by_peer(site.ask(site.trust(), None, expect()).await);
    assert_eq!(alert, "none was shown");
    let own = site.member(Role::SourceAgent, "files");
    site.ask(site.trust(), Some(&own), expect()).await.unwrap();
}

#[tokio::test]
async fn a_server_of_another_authority_is_refused() {
    let site = Site::controller().await;
    let other = Authority::create(Uuid::new_v4()).unwrap();
    let trust = Trust::Authority(other.certificate().clone());
    let result = site.ask(trust, None, Expect::controller(None)).await;
    assert_eq!(refusal(result), Refusal::Authority);
}

#[tokio::test]
async fn a_client_of_another_authority_is_refused() {
    let site = Site::controller().await;
    let installation = site.authority.installation();
    // The same installation by name: only the signature differs.
    let impostor = Authority::create(installation).unwrap();
    let identity = Identity::new(installation, Role::TapeAgent, "tape1").unwrap();
    let own = impostor.issue(&identity, DAY).unwrap();
    let result = site
        .ask(site.trust(), Some(&own), Expect::controller(None))
        .await;
    assert_eq!(refused_by_peer(result), "signed by another authority");
}

#[tokio::test]
async fn wrong_role_id_and_installation_are_refused() {
    let site = Site::with_server(Role::TapeAgent, "tape1", ClientAuth::Optional).await;
    let installation = site.authority.installation();
    for expect in [
        Expect::controller(None),
        Expect::tape_agent(installation, "tape2"),
        Expect::tape_agent(Uuid::new_v4(), "tape1"),
    ] {
        let refusal = refusal(site.ask(site.trust(), None, expect.clone()).await);
        assert!(
            matches!(&refusal, Refusal::Unexpected { found, .. } if found.id == "tape1"),
            "{expect}: {refusal}"
        );
    }
    let expect = Expect::tape_agent(installation, "tape1");
    site.ask(site.trust(), None, expect).await.unwrap();
}

#[tokio::test]
async fn a_source_agent_cannot_serve() {
    let site = Site::with_server(Role::SourceAgent, "files", ClientAuth::Optional).await;
    let expect = Expect {
        installation: None,
        role: Role::SourceAgent,
        id: None,
    };
    let result = site.ask(site.trust(), None, expect).await;
    assert_eq!(refusal(result), Refusal::Purpose);
}

/// Material whose time ended an hour ago.
fn expired(authority: &Authority, role: Role, id: &str) -> Material {
    let identity = Identity::new(authority.installation(), role, id).unwrap();
    let signer = rcgen::KeyPair::from_pem(&authority.key_pem()).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_der(authority.certificate(), signer).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    let uri = identity.to_uri().try_into().unwrap();
    params.subject_alt_names = vec![rcgen::SanType::URI(uri)];
    let hour = Duration::from_hours(1);
    params.not_before = (SystemTime::now() - 2 * hour).into();
    params.not_after = (SystemTime::now() - hour).into();
    let leaf = params.signed_by(&key, &issuer).unwrap().der().clone();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    Material::new(key, vec![leaf, authority.certificate().clone()]).unwrap()
}

#[tokio::test]
async fn expired_certificates_are_refused_on_both_sides() {
    let authority = Authority::create(Uuid::new_v4()).unwrap();
    let own = expired(&authority, Role::Controller, "main");
    let site = Site::start(authority, &own, ClientAuth::Optional).await;
    let result = site.ask(site.trust(), None, Expect::controller(None)).await;
    assert_eq!(refusal(result), Refusal::Expired);

    let site = Site::controller().await;
    let own = expired(&site.authority, Role::SourceAgent, "files");
    let result = site
        .ask(site.trust(), Some(&own), Expect::controller(None))
        .await;
    assert_eq!(refused_by_peer(result), "expired");
}

#[tokio::test]
async fn a_fingerprint_is_enough_for_the_first_contact() {
    let site = Site::controller().await;
    let pinned = site.authority.fingerprint();
    let expect = || Expect::controller(None);
    site.ask(Trust::Fingerprint(pinned), None, expect())
        .await
        .unwrap();

    let other = Authority::create(Uuid::new_v4()).unwrap().fingerprint();
    let result = site.ask(Trust::Fingerprint(other), None, expect()).await;
    assert_eq!(refusal(result), Refusal::Fingerprint);

    // The pin names an authority: a server's own certificate does not count as one.
    let leaf = fingerprint(&site.server_leaf);
    let result = site.ask(Trust::Fingerprint(leaf), None, expect()).await;
    assert_eq!(refusal(result), Refusal::Fingerprint);
}

#[tokio::test]
async fn an_appended_authority_does_not_help_a_forged_leaf() {
    // The impostor sends the true authority's certificate, which is public, behind its own leaf.
    let authority = Authority::create(Uuid::new_v4()).unwrap();
    let impostor = Authority::create(authority.installation()).unwrap();
    let identity = Identity::new(authority.installation(), Role::Controller, "main").unwrap();
    let forged = impostor.issue(&identity, DAY).unwrap();
    let chain = vec![
        forged.chain()[0].clone(),
        forged.authority().clone(),
        authority.certificate().clone(),
    ];
    let forged = Material::new(forged.key(), chain).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let shutdown = CancellationToken::new();
    let _running = shutdown.clone().drop_guard();
    let (sender, _peers) = mpsc::unbounded_channel();
    let tls = server_config(&forged, ClientAuth::Optional).unwrap();
    tokio::spawn(serve(
        listener,
        tls,
        health(sender),
        Limits::default(),
        shutdown,
    ));
    for trust in [
        Trust::Fingerprint(authority.fingerprint()),
        Trust::Authority(authority.certificate().clone()),
    ] {
        let tls = client_config(trust, None, Expect::controller(None)).unwrap();
        let result = channel::connect(&address, tls).await.map(drop);
        assert_eq!(refusal(result), Refusal::Authority);
    }
}

#[tokio::test]
async fn bad_handshakes_do_not_end_the_loop() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let site = Site::controller().await;
    for garbage in [b"GET / HTTP/1.1\r\n\r\n".as_slice(), b"", &[0xff; 300]] {
        let mut stream = tokio::net::TcpStream::connect(site.address).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        stream.shutdown().await.unwrap();
        // Until the server has closed it.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    site.ask(site.trust(), None, Expect::controller(None))
        .await
        .unwrap();
}

#[tokio::test]
async fn nobody_there_is_said_so() {
    let authority = Authority::create(Uuid::new_v4()).unwrap();
    let tls = || {
        let trust = Trust::Authority(authority.certificate().clone());
        client_config(trust, None, Expect::controller(None)).unwrap()
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = channel::connect(&address, tls()).await.unwrap_err();
    assert!(matches!(error, Error::NobodyThere { .. }), "{error:?}");

    let lazy = channel::connect_lazy(&address, tls()).unwrap();
    let status = HealthClient::new(lazy)
        .check(HealthCheckRequest::default())
        .await
        .unwrap_err();
    let cause = channel::cause(&status);
    assert!(
        matches!(cause, Some(Error::NobodyThere { .. })),
        "{status:?}"
    );

    for wrong in [
        "",
        "host",
        "host:port",
        "http://host:1",
        "u@host:1",
        "host:1/x",
        "a b:1",
    ] {
        let error = channel::connect(wrong, tls()).await.unwrap_err();
        assert!(matches!(error, Error::Address { .. }), "{wrong}: {error:?}");
    }
}

#[tokio::test]
async fn a_lazy_channel_finds_a_server_that_comes_back() {
    let authority = Authority::create(Uuid::new_v4()).unwrap();
    let identity = Identity::new(authority.installation(), Role::Controller, "main").unwrap();
    let own = authority.issue(&identity, DAY).unwrap();
    let tls = server_config(&own, ClientAuth::Optional).unwrap();
    let trust = Trust::Authority(authority.certificate().clone());
    let client = client_config(trust, None, Expect::controller(None)).unwrap();

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let channel = channel::connect_lazy(&address.to_string(), client).unwrap();
    let mut client = HealthClient::new(channel);
    let mut listener = Some(listener);
    for _ in 0..2 {
        let listener = match listener.take() {
            Some(listener) => listener,
            None => TcpListener::bind(address).await.unwrap(),
        };
        let shutdown = CancellationToken::new();
        let (sender, _peers) = mpsc::unbounded_channel();
        let server = tokio::spawn(serve(
            listener,
            tls.clone(),
            health(sender),
            Limits::default(),
            shutdown.clone(),
        ));
        client.check(HealthCheckRequest::default()).await.unwrap();
        shutdown.cancel();
        // Ends well before the drain time, since no request is under way.
        tokio::time::timeout(Duration::from_secs(5), server)
            .await
            .unwrap()
            .unwrap();
    }
}

#[tokio::test]
async fn connections_without_identity_cannot_crowd_out_members() {
    let authority = Authority::create(Uuid::new_v4()).unwrap();
    let identity = Identity::new(authority.installation(), Role::Controller, "main").unwrap();
    let own = authority.issue(&identity, DAY).unwrap();
    let agent = Identity::new(authority.installation(), Role::TapeAgent, "tape1").unwrap();
    let agent = authority.issue(&agent, DAY).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let shutdown = CancellationToken::new();
    let _running = shutdown.clone().drop_guard();
    let limits = Limits {
        anonymous: 1,
        ..Limits::default()
    };
    let (sender, _peers) = mpsc::unbounded_channel();
    let tls = server_config(&own, ClientAuth::Optional).unwrap();
    tokio::spawn(serve(listener, tls, health(sender), limits, shutdown));
    let connect = async |own: Option<&Material>| {
        let trust = Trust::Authority(authority.certificate().clone());
        let tls = client_config(trust, own, Expect::controller(None)).unwrap();
        let channel = channel::connect(&address, tls).await.unwrap();
        let mut client = HealthClient::new(channel);
        let answer = client.check(HealthCheckRequest::default()).await;
        answer.map(|_| client)
    };
    let _first = connect(None).await.unwrap();
    assert!(connect(None).await.is_err());
    connect(Some(&agent)).await.unwrap();
}

#[tokio::test]
async fn a_unix_socket_tells_the_user() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let shutdown = CancellationToken::new();
    let _running = shutdown.clone().drop_guard();
    let (sender, mut peers) = mpsc::unbounded_channel();
    let listener = bind_unix(&path).unwrap();
    let server = tokio::spawn(serve_unix(
        listener,
        health(sender),
        Limits::default(),
        shutdown.clone(),
    ));
    let channel = channel::connect_unix(&path).await.unwrap();
    HealthClient::new(channel)
        .check(HealthCheckRequest::default())
        .await
        .unwrap();
    let peer = peers.recv().await.unwrap();
    assert_eq!(peer.unix_uid, Some(nix::unistd::geteuid().as_raw()));
    assert_eq!((peer.address, peer.identity), (Address::Unix, None));

    // A live socket is not taken over, a dead one is.
    assert!(bind_unix(&path).is_err());
    shutdown.cancel();
    server.await.unwrap();
    let error = channel::connect_unix(&path).await.unwrap_err();
    assert!(matches!(error, Error::Unix { .. }), "{error:?}");
    bind_unix(&path).unwrap();
}

#[tokio::test]
async fn http_1_is_served_on_the_same_port() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let shutdown = CancellationToken::new();
    let _running = shutdown.clone().drop_guard();
    let plain = tower::service_fn(async |_: Request<Incoming>| {
        Ok::<_, std::convert::Infallible>(Response::new("hello".to_owned()))
    });
    let listener = bind_unix(&path).unwrap();
    tokio::spawn(serve_unix(
        listener,
        plain.boxed_clone(),
        Limits::default(),
        shutdown,
    ));
    let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.ends_with("hello"), "{answer}");
}
