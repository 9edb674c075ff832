//! The way to the controller: a channel, and the token with every call. Reads are tried again when the controller is
//! away for a moment; what changes something never is, since nobody knows whether it was done.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use taf_peer::tls::{Expect, Trust, client_config};
use taf_peer::{MESSAGE_LIMIT, channel};
use taf_proto::v1::{
    catalog_service_client::CatalogServiceClient, check_service_client::CheckServiceClient,
    device_service_client::DeviceServiceClient, dump_service_client::DumpServiceClient,
    enrolment_service_client::EnrolmentServiceClient, health_service_client::HealthServiceClient,
    identity_service_client::IdentityServiceClient, job_service_client::JobServiceClient,
    plan_service_client::PlanServiceClient, pool_service_client::PoolServiceClient,
    preview_service_client::PreviewServiceClient, retention_service_client::RetentionServiceClient,
    source_service_client::SourceServiceClient, system_service_client::SystemServiceClient,
    trust_service_client::TrustServiceClient, version_service_client::VersionServiceClient,
    volume_service_client::VolumeServiceClient,
};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use crate::failure::Failure;
use crate::login::Login;

/// Waits between the tries of a read.
const PAUSES: [Duration; 3] = [
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
];

/// What carries the calls.
pub type Wire = InterceptedService<Channel, Bearer>;

/// Adds the token to every call.
#[derive(Clone)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request
                .metadata_mut()
                .insert("authorization", token.clone());
        }
        Ok(request)
    }
}

/// A connection with the controller, as somebody or as nobody.
#[derive(Clone)]
pub struct Client {
    channel: Channel,
    bearer: Bearer,
}

macro_rules! services {
    ($($(#[$doc:meta])* $method:ident: $service:ident,)*) => {
        impl Client {
            $($(#[$doc])*
            pub fn $method(&self) -> $service<Wire> {
                $service::with_interceptor(self.channel.clone(), self.bearer.clone())
                    .max_decoding_message_size(MESSAGE_LIMIT)
            })*
        }
    };
}

services! {
    /// People.
    identity: IdentityServiceClient,
    /// Agents and their enrolment.
    enrolment: EnrolmentServiceClient,
    /// Sources.
    sources: SourceServiceClient,
    /// Looking around in the catalog.
    catalog: CatalogServiceClient,
    /// Previews of sources.
    previews: PreviewServiceClient,
    /// Plans.
    plans: PlanServiceClient,
    /// How long versions are kept.
    retention: RetentionServiceClient,
    /// Versions and restores.
    versions: VersionServiceClient,
    /// Dumps.
    dumps: DumpServiceClient,
    /// Jobs.
    jobs: JobServiceClient,
    /// Pools.
    pools: PoolServiceClient,
    /// Volumes.
    volumes: VolumeServiceClient,
    /// Drives and libraries.
    devices: DeviceServiceClient,
    /// What drives and volumes are worth.
    health: HealthServiceClient,
    /// Whether the catalog holds together.
    check: CheckServiceClient,
    /// Whether the catalog is trusted.
    trust: TrustServiceClient,
    /// The whole.
    system: SystemServiceClient,
}

impl Client {
    /// As who signed in last.
    pub async fn signed_in() -> Result<Self, Failure> {
        let login = Login::load()?;
        let damaged = |_| {
            Failure::new(
                "LOGIN_FILE",
                "the token of the sign-in is damaged",
                "sign in again: taf login --user NAME",
            )
        };
        let mut token: MetadataValue<Ascii> =
            format!("Bearer {}", login.token).parse().map_err(damaged)?;
        token.set_sensitive(true);
        let channel = dial(&login.server, login.trust()?).await?;
        Ok(Self {
            channel,
            bearer: Bearer(Some(token)),
        })
    }

    /// As nobody.
    pub async fn anonymous(server: &str, trust: Trust) -> Result<Self, Failure> {
        Ok(Self {
            channel: dial(server, trust).await?,
            bearer: Bearer(None),
        })
    }

    /// Over the controller's socket on this host.
    pub async fn local(socket: &Path) -> Result<Self, Failure> {
        Ok(Self {
            channel: channel::connect_unix(socket).await?,
            bearer: Bearer(None),
        })
    }
}

async fn dial(server: &str, trust: Trust) -> Result<Channel, Failure> {
    let tls = client_config(trust, None, Expect::controller(None)).map_err(|error| {
        Failure::new(
            "WRONG_AUTHORITY",
            error.to_string(),
            "sign in again: taf login --server HOST:PORT --authority FILE --user NAME",
        )
    })?;
    Ok(channel::connect(server, tls).await?)
}

/// A read: the same call again when the controller is not available for a moment.
pub async fn read<T, F: Future<Output = Result<Response<T>, Status>>>(
    mut call: impl FnMut() -> F,
) -> Result<T, Failure> {
    let mut pauses = PAUSES.iter();
    loop {
        match call().await {
            Ok(response) => return Ok(response.into_inner()),
            Err(status) if status.code() == Code::Unavailable => match pauses.next() {
                Some(pause) => tokio::time::sleep(*pause).await,
                None => return Err(status.into()),
            },
            Err(status) => return Err(status.into()),
        }
    }
}

/// All rows of a list, page by page.
pub async fn all<T>(
    mut page: impl AsyncFnMut(String) -> Result<(Vec<T>, String), Failure>,
) -> Result<Vec<T>, Failure> {
    let mut rows = Vec::new();
    let mut token = String::new();
    loop {
        let (more, next) = page(token).await?;
        rows.extend(more);
        if next.is_empty() {
            return Ok(rows);
        }
        token = next;
    }
}

/// A fresh idempotency key.
pub fn request_id() -> String {
    uuid::Uuid::new_v4().to_string()
}
