//! Every service of the controller, in one place, and what runs beside them.

use futures::FutureExt as _;
use futures::future::BoxFuture;
use taf_peer::MESSAGE_LIMIT;
use taf_proto::agent::catalog_service_server::CatalogServiceServer;
use taf_proto::agent::dump_service_server::DumpServiceServer as AgentDumpServiceServer;
use taf_proto::agent::mount_service_server::MountServiceServer;
use taf_proto::agent::preview_service_server::PreviewServiceServer as AgentPreviewServiceServer;
use taf_proto::agent::session_service_server::SessionServiceServer;
use taf_proto::v1::catalog_service_server::CatalogServiceServer as PublicCatalogServiceServer;
use taf_proto::v1::check_service_server::CheckServiceServer;
use taf_proto::v1::device_service_server::DeviceServiceServer;
use taf_proto::v1::dump_service_server::DumpServiceServer;
use taf_proto::v1::enrolment_service_server::EnrolmentServiceServer;
use taf_proto::v1::health_service_server::HealthServiceServer;
use taf_proto::v1::identity_service_server::IdentityServiceServer;
use taf_proto::v1::job_service_server::JobServiceServer;
use taf_proto::v1::plan_service_server::PlanServiceServer;
use taf_proto::v1::pool_service_server::PoolServiceServer;
use taf_proto::v1::preview_service_server::PreviewServiceServer;
use taf_proto::v1::retention_service_server::RetentionServiceServer;
use taf_proto::v1::source_service_server::SourceServiceServer;
use taf_proto::v1::system_service_server::SystemServiceServer;
use taf_proto::v1::trust_service_server::TrustServiceServer;
use taf_proto::v1::version_service_server::VersionServiceServer;
use taf_proto::v1::volume_service_server::VolumeServiceServer;
use tokio_util::sync::CancellationToken;
use tonic::service::{Routes, RoutesBuilder};

use super::Error;
use crate::app::App;
use crate::catalog::trust::Witness;
use crate::reconcile::{self, Reconciler};
use crate::services::agent_catalog::AgentCatalog;
use crate::services::agent_mounts::AgentMounts;
use crate::services::catalog::Catalogs;
use crate::services::check::Checks;
use crate::services::device::Devices;
use crate::services::dump::DumpServices;
use crate::services::enrolment::Enrolment;
use crate::services::health::Healths;
use crate::services::identity::Identity;
use crate::services::job::Jobs;
use crate::services::plan::Plans;
use crate::services::pool::Pools;
use crate::services::preview::Previews;
use crate::services::retention::Retentions;
use crate::services::source::Sources;
use crate::services::system::System;
use crate::services::trust::Trusts;
use crate::services::version::Versions;
use crate::services::volume::Volumes;
use crate::session::{self, Registry};

/// Largest request about versions, bytes: a restore may name very many paths. Nobody is heard who may not ask for it.
const LISTS_LIMIT: usize = 64 << 20;

/// What is served, and what runs beside it until shutdown.
pub(super) struct Composed {
    pub(super) routes: Routes,
    pub(super) background: BoxFuture<'static, ()>,
}

/// A service with our limits on messages.
macro_rules! limited {
    ($server:ident, $service:expr) => {
        $server::new($service)
            .max_decoding_message_size(MESSAGE_LIMIT)
            .max_encoding_message_size(MESSAGE_LIMIT)
    };
}

/// Puts it all together. Nothing is served that is not named here.
pub(super) async fn compose(app: &App, shutdown: &CancellationToken) -> Result<Composed, Error> {
    let registry = Registry::default();
    // Both sides of it meet in its memory.
    let dumps = DumpServices::new(app.clone(), registry.clone());
    let mut routes = RoutesBuilder::default();
    routes
        .add_service(limited!(IdentityServiceServer, Identity(app.clone())))
        .add_service(limited!(EnrolmentServiceServer, Enrolment(app.clone())))
        .add_service(limited!(SourceServiceServer, Sources(app.clone())))
        .add_service(limited!(
            PlanServiceServer,
            Plans::new(app.clone(), registry.clone())
        ))
        .add_service(limited!(PoolServiceServer, Pools(app.clone())))
        .add_service(limited!(SystemServiceServer, System(app.clone())))
        .add_service(limited!(
            JobServiceServer,
            Jobs::new(app.clone(), registry.clone())
        ))
        .add_service(limited!(
            VolumeServiceServer,
            Volumes::new(app.clone(), registry.clone())
        ))
        .add_service(
            limited!(
                VersionServiceServer,
                Versions::new(app.clone(), registry.clone())
            )
            .max_decoding_message_size(LISTS_LIMIT),
        )
        .add_service(limited!(
            PublicCatalogServiceServer,
            Catalogs::new(app.clone())
        ))
        .add_service(limited!(
            PreviewServiceServer,
            Previews::new(app.clone(), registry.clone())
        ))
        .add_service(limited!(
            AgentPreviewServiceServer,
            Previews::new(app.clone(), registry.clone())
        ))
        .add_service(
            limited!(DumpServiceServer, dumps.clone()).max_decoding_message_size(LISTS_LIMIT),
        )
        .add_service(limited!(AgentDumpServiceServer, dumps))
        .add_service(limited!(
            RetentionServiceServer,
            Retentions::new(app.clone(), registry.clone())
        ))
        .add_service(limited!(CheckServiceServer, Checks(app.clone())))
        .add_service(limited!(
            TrustServiceServer,
            Trusts::new(app.clone(), registry.clone())
        ))
        .add_service(limited!(
            CatalogServiceServer,
            AgentCatalog::new(app.store.clone(), registry.clone())
        ))
        .add_service(limited!(
            MountServiceServer,
            AgentMounts::new(app.store.clone(), registry.clone())
        ))
        .add_service(limited!(
            HealthServiceServer,
            Healths::new(app.clone(), registry.clone())
        ))
        .add_service(limited!(
            DeviceServiceServer,
            Devices::new(app.clone(), registry.clone())
        ))
        .add_service(limited!(
            SessionServiceServer,
            session::Service::new(app.store.clone(), registry.clone(), app.config.lease)
        ));

    let (health, health_service) = tonic_health::server::health_reporter();
    health
        .set_service_status("", tonic_health::ServingStatus::Serving)
        .await;
    routes.add_service(health_service);
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(taf_proto::DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    routes.add_service(reflection);

    let reconciler = Reconciler::new(
        app.store.clone(),
        registry,
        reconcile::Limits {
            lease: app.config.lease,
            volume_wait: app.config.volume_wait,
            index_after: app.config.index_after,
            auto_clean: app.config.auto_clean,
            reuse_after: app.config.reuse_after,
        },
        app.installation,
        Witness::load(&app.config.home),
    )
    .run(shutdown.clone());
    let housekeeping = housekeeping(app.clone(), shutdown.clone());
    let leaving = {
        let shutdown = shutdown.clone();
        async move {
            shutdown.cancelled().await;
            // Load balancers look here.
            health
                .set_service_status("", tonic_health::ServingStatus::NotServing)
                .await;
        }
    };
    let background = async move {
        tokio::join!(reconciler, housekeeping, leaving);
    };
    Ok(Composed {
        routes: routes.routes().prepare(),
        background: background.boxed(),
    })
}

/// Forgets answers to requests that nobody will repeat any more, once an hour.
async fn housekeeping(app: App, shutdown: CancellationToken) {
    let mut hourly = tokio::time::interval(std::time::Duration::from_hours(1));
    while shutdown.run_until_cancelled(hourly.tick()).await.is_some() {
        loop {
            match app.store.request_forget().await {
                Ok(1000) => {}
                Ok(_) => break,
                Err(error) => {
                    tracing::warn!("old requests could not be forgotten: {error}");
                    break;
                }
            }
        }
    }
}
