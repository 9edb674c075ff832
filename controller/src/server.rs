//! Starting and serving: home folder, keys, database, authority, listeners. Everything that can fail fails before the
//! ready line; afterwards only a signal ends it.

mod routes;

use std::fs::DirBuilder;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use taf_peer::authority::{self, Authority, ClusterKey};
use taf_peer::identity::{Identity, Role};
use taf_peer::material;
use taf_peer::secret_file;
use taf_peer::serve::{self, Limits};
use taf_peer::tls::{self, ClientAuth};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;
use tower::Layer as _;
use uuid::Uuid;

use crate::access::{AccessLayer, Gate, Permissions, permissions};
use crate::app::App;
use crate::config::{Config, Database};
use crate::embedded::{self, Cluster};
use crate::services::pool::{DEFAULT_BLOCK_SIZE, DEFAULT_PART_SIZE, DEFAULT_POOL};
use crate::store::audit::Entry;
use crate::store::installation::Installation;
use crate::store::pools::NewPool;
use crate::store::{self, Options, Store};

/// The unix socket in the home folder, for calls from this host.
pub const SOCKET: &str = "controller.sock";
/// The id in our own certificate.
const OWN_ID: &str = "controller";
/// How long our own certificate is valid. Its key lives in memory and is made anew at each start.
const OWN_VALIDITY: Duration = Duration::from_hours(5 * 365 * 24);
/// Largest file with a database URL, in bytes.
const URL_LIMIT: u64 = 16 * 1024;
/// At shutdown, calls under way get this long.
const DRAIN: Duration = Duration::from_secs(5);

/// Why the controller does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A folder or key file can't be used.
    #[error(transparent)]
    File(#[from] secret_file::Error),
    /// The authority or the cluster key can't be used.
    #[error(transparent)]
    Authority(#[from] authority::Error),
    /// The cluster key is missing although the catalog needs it.
    #[error(
        "{} is missing, and without it the secrets of installation {installation} in the database can't be read: put the file back from its copy",
        path.display()
    )]
    ClusterKeyMissing {
        /// Where it should be.
        path: PathBuf,
        /// Whose it is.
        installation: Uuid,
    },
    /// The private database does not start.
    #[error(transparent)]
    Embedded(#[from] embedded::Error),
    /// The database can't be used.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// An RPC has no permission.
    #[error(transparent)]
    Permissions(#[from] permissions::Error),
    /// Our own identity can't be made.
    #[error(transparent)]
    Identity(#[from] taf_peer::identity::Error),
    /// TLS can't be configured.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// The descriptors are damaged.
    #[error("reflection can't be served: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// An address or socket can't be listened on.
    #[error("can't listen on {what}: {source}{}", advice(source))]
    Listen {
        /// The address or path.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// A file can't be written.
    #[error("writing {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A task of ours ended before its time.
    #[error("an internal task failed: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// A controller that is ready to serve.
#[derive(Debug)]
pub struct Server {
    /// What the services share.
    pub app: App,
    listener: TcpListener,
    unix: UnixListener,
    tls: Arc<rustls::ServerConfig>,
    gate: Arc<Gate>,
    cluster: Option<Cluster>,
    address: SocketAddr,
}

impl Server {
    /// Does everything that can fail. Afterwards connections are accepted by the system, and served by
    /// [`Server::run`].
    pub async fn start(config: Config) -> Result<Self, Error> {
        make_home(&config.home)?;
        let permissions = Permissions::read(taf_proto::DESCRIPTOR_SET)?;
        let socket = config.home.join(SOCKET);
        // First: of two controllers with one home the second must not touch anything.
        let unix = serve::bind_unix(&socket).map_err(|source| Error::Listen {
            what: socket.display().to_string(),
            source,
        })?;
        let (store, cluster) = open_store(&config).await?;
        let started = Self::with_store(config, permissions, unix, store, cluster.clone()).await;
        if started.is_err() {
            stop_database(cluster).await;
        }
        started
    }

    async fn with_store(
        config: Config,
        permissions: Permissions,
        unix: UnixListener,
        store: Store,
        cluster: Option<Cluster>,
    ) -> Result<Self, Error> {
        let (authority, cluster_key) = open_authority(&config, &store).await?;
        let installation = authority.installation();
        publish(&config.home, &authority)?;

        let identity = Identity::new(installation, Role::Controller, OWN_ID)?;
        let own = authority.issue(&identity, OWN_VALIDITY)?;
        let tls = tls::server_config(&own, ClientAuth::Optional)?;
        let listen = |source| Error::Listen {
            what: config.listen.to_string(),
            source,
        };
        let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let gate = Arc::new(Gate::new(permissions, store.clone(), installation));
        let app = App {
            store,
            installation,
            authority: Arc::new(authority),
            cluster_key: Arc::new(cluster_key),
            config: Arc::new(config),
        };
        Ok(Self {
            app,
            listener,
            unix,
            tls,
            gate,
            cluster,
            address,
        })
    }

    /// Where the API is served; the port is the real one if 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`, lets calls under way end for a few seconds, and stops the private database.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let routes = routes::compose(&self.app, &shutdown).await?;
        let service = AccessLayer::new(self.gate).layer(routes.routes);
        let limits = Limits {
            drain: DRAIN,
            ..Limits::default()
        };
        tokio::join!(
            serve::serve(
                self.listener,
                self.tls,
                service.clone(),
                limits,
                shutdown.clone()
            ),
            serve::serve_unix(self.unix, service, limits, shutdown.clone()),
            routes.background,
            watch_database(self.cluster.clone(), shutdown.clone()),
        );
        let socket = self.app.config.home.join(SOCKET);
        if let Err(error) = std::fs::remove_file(&socket) {
            tracing::debug!(%error, "{} could not be removed", socket.display());
        }
        self.app.store.close();
        stop_database(self.cluster).await;
        Ok(())
    }
}

/// What helps when an address or socket can't be listened on.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; another controller runs there: stop it, or choose another",
        io::ErrorKind::InvalidInput => {
            "; a socket's path has at most 107 bytes: choose a shorter home"
        }
        _ => "",
    }
}

/// Makes the home folder for us alone. As root the folders above it that are missing are made passable, because the
/// private database runs as another user.
fn make_home(home: &Path) -> Result<(), Error> {
    let above = if nix::unistd::geteuid().is_root() {
        0o711
    } else {
        0o700
    };
    if let Some(parent) = home.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(above)
            .create(parent)
            .map_err(|source| Error::Write {
                path: parent.to_owned(),
                source,
            })?;
    }
    Ok(secret_file::prepare_folder(home)?)
}

async fn open_store(config: &Config) -> Result<(Store, Option<Cluster>), Error> {
    let mut cluster = None;
    let mut options = match &config.database {
        Database::Embedded => {
            let home = config.home.clone();
            let started = tokio::task::spawn_blocking(move || embedded::start(&home)).await??;
            let options = Options::new(started.url());
            cluster = Some(started);
            options
        }
        Database::Url { url, password_file } => {
            let mut options = Options::new(url);
            options.password_file.clone_from(password_file);
            options
        }
        Database::UrlFile(path) => {
            let text = secret_file::read(path, URL_LIMIT)?;
            Options::new(String::from_utf8_lossy(text.trim_ascii()))
        }
    };
    options.pool_size = config.database_connections;
    match Store::open(&options).await {
        Ok(store) => Ok((store, cluster)),
        Err(error) => {
            stop_database(cluster).await;
            Err(error.into())
        }
    }
}

/// Keeps the private database running, if there is one.
async fn watch_database(cluster: Option<Cluster>, shutdown: CancellationToken) {
    if let Some(cluster) = cluster {
        embedded::watch(cluster, shutdown).await;
    }
}

/// Stops the private database, if there is one.
async fn stop_database(cluster: Option<Cluster>) {
    let Some(cluster) = cluster else { return };
    match tokio::task::spawn_blocking(move || cluster.stop()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!("the private database did not stop: {error}"),
        Err(error) => tracing::warn!("the private database did not stop: {error}"),
    }
}

/// The installation's authority, made at the first start.
async fn open_authority(config: &Config, store: &Store) -> Result<(Authority, ClusterKey), Error> {
    let path = &config.cluster_key_file;
    let known = store.installation_get().await?;
    let cluster_key = if path.exists() {
        ClusterKey::load(path)?
    } else if let Some(known) = known {
        return Err(Error::ClusterKeyMissing {
            path: path.clone(),
            installation: known.uuid,
        });
    } else {
        let key = ClusterKey::generate();
        key.store(path)?;
        key
    };
    let known = match known {
        Some(known) => known,
        None => create_installation(store, &cluster_key, config.installation).await?,
    };
    let key = authority::unwrap(&known.authority_key, &cluster_key)?;
    let key = std::str::from_utf8(&key).map_err(|_| authority::Error::Unwrap)?;
    let authority = Authority::from_parts(CertificateDer::from(known.authority_der), key)?;
    Ok((authority, cluster_key))
}

/// Makes the installation, or gives the one that another controller made at the same moment.
async fn create_installation(
    store: &Store,
    cluster_key: &ClusterKey,
    wanted: Option<Uuid>,
) -> Result<Installation, Error> {
    let authority = Authority::create(wanted.unwrap_or_else(Uuid::new_v4))?;
    let new = Installation {
        uuid: authority.installation(),
        authority_der: authority.certificate().to_vec(),
        authority_key: authority::wrap(authority.key_pem().as_bytes(), cluster_key),
    };
    match first_rows(store, &new).await {
        Ok(true) => {
            tracing::info!(installation = %new.uuid, "made a new installation");
            Ok(new)
        }
        Ok(false) => Ok(store.installation_get().await?.unwrap_or(new)),
        Err(error) if error.is_exists() => Ok(store.installation_get().await?.ok_or(error)?),
        Err(error) => Err(error.into()),
    }
}

/// What an installation begins with: its row, a pool, a line in the audit log. False if it was there.
async fn first_rows(store: &Store, new: &Installation) -> Result<bool, store::Error> {
    let mut client = store.client().await?;
    let tx = client.transaction().await?;
    if !Store::installation_create_on(&tx, new).await? {
        return Ok(false);
    }
    let (block, part) = (DEFAULT_BLOCK_SIZE as i32, DEFAULT_PART_SIZE as i64);
    let pool = NewPool {
        block_size: block,
        part_size: part,
        auto_label: None,
        sources_per_drive: 1,
    };
    Store::pool_create_on(&tx, DEFAULT_POOL, &pool).await?;
    let subject = format!("installations/{}", new.uuid);
    let entry = Entry {
        actor: "local",
        action: "first start",
        subject: &subject,
        outcome: "done",
    };
    Store::audit_add_on(&*tx, &entry).await?;
    tx.commit().await?;
    Ok(true)
}

/// Writes the authority's certificate for everybody to read: people pin it when they sign in.
fn publish(home: &Path, authority: &Authority) -> Result<(), Error> {
    let path = home.join(authority::CERTIFICATE_FILE);
    let pem = material::certificate_pem(authority.certificate());
    secret_file::write(&path, pem.as_bytes())?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644))
        .map_err(|source| Error::Write { path, source })
}
