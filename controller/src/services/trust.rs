//! Saying that the catalog is, or is not, to be trusted.

use taf_proto::v1::trust_service_server::TrustService;
use taf_proto::v1::{
    DistrustCatalogRequest, DistrustCatalogResponse, TrustCatalogRequest, TrustCatalogResponse,
};
use tonic::{Request, Response, Status};

use super::mutation::Mutation;
use super::{names, status};
use crate::access::Caller;
use crate::app::App;
use crate::catalog::trust;
use crate::session::Registry;
use crate::store::trust::{self as rows, trust_get, volume_list_suspect};
use crate::store::{self, Transaction};

/// What the audit log calls it.
const SUBJECT: &str = "catalog";
/// Longest reason, characters.
const REASON_MOST: usize = 300;

/// `taf.v1.TrustService`.
#[derive(Clone)]
pub struct Trusts {
    app: App,
    registry: Registry,
}

impl Trusts {
    /// The service.
    pub fn new(app: App, registry: Registry) -> Trusts {
        Trusts { app, registry }
    }

    async fn distrust(
        &self,
        mutation: &Mutation,
        request: &DistrustCatalogRequest,
    ) -> Result<DistrustCatalogResponse, Status> {
        let reason = request.reason.trim();
        if reason.chars().count() > REASON_MOST {
            let why = format!("must have at most {REASON_MOST} characters");
            return Err(status::invalid("reason", why));
        }
        let reason = match reason {
            "" => format!("{} said so", mutation.actor()),
            reason => format!("{} said so: {reason}", mutation.actor()),
        };
        let mut client = self.app.store.client().await?;
        let tx = client.transaction().await.map_err(store::Error::from)?;
        if !request.dry_run
            && let Some(answer) = mutation.begin_on(&tx).await?
        {
            return Ok(answer);
        }
        let ended = rows::job_list_resting(&tx).await?;
        trust::lose_on(&tx, mutation.actor(), (0, 0), &reason).await?;
        let answer = DistrustCatalogResponse {
            suspect_volume_count: volume_list_suspect(&tx).await?.len() as u32,
            ended_jobs: ended.into_iter().map(names::job).collect(),
        };
        self.conclude(mutation, tx, request.dry_run, &answer)
            .await?;
        Ok(answer)
    }

    async fn trust(
        &self,
        mutation: &Mutation,
        request: &TrustCatalogRequest,
    ) -> Result<TrustCatalogResponse, Status> {
        let mut client = self.app.store.client().await?;
        let tx = client.transaction().await.map_err(store::Error::from)?;
        if !request.dry_run
            && let Some(answer) = mutation.begin_on(&tx).await?
        {
            return Ok(answer);
        }
        let suspects = volume_list_suspect(&tx).await?;
        let known = trust_get(&tx).await?;
        let trusted = known.is_none_or(|trust| trust.distrusted.is_none());
        if trusted && (suspects.is_empty() || !request.volumes) {
            let advice = if suspects.is_empty() {
                "there is nothing to answer for"
            } else {
                "inspect the volumes that are still read only with `taf volume inspect`, or answer for them with --volumes"
            };
            let message = format!("the catalog is trusted: {advice}");
            return Err(status::precondition("CATALOG_TRUSTED", message));
        }
        rows::trust_regain_on(&tx, true).await?;
        if request.volumes {
            rows::volume_trust_on(&tx).await?;
        }
        let answer = TrustCatalogResponse {
            suspect_volumes: suspects.iter().map(|one| names::volume(one)).collect(),
        };
        self.conclude(mutation, tx, request.dry_run, &answer)
            .await?;
        Ok(answer)
    }

    /// Keeps what was done, or drops it if it was only asked for.
    async fn conclude<A: prost::Message>(
        &self,
        mutation: &Mutation,
        tx: Transaction<'_>,
        dry_run: bool,
        answer: &A,
    ) -> Result<(), Status> {
        if dry_run {
            return Ok(());
        }
        mutation.finish_on(&tx, answer).await?;
        tx.commit().await.map_err(store::Error::from)?;
        self.registry.wake();
        Ok(())
    }
}

#[tonic::async_trait]
impl TrustService for Trusts {
    async fn distrust_catalog(
        &self,
        request: Request<DistrustCatalogRequest>,
    ) -> Result<Response<DistrustCatalogResponse>, Status> {
        let caller = Caller::of(&request)?.clone();
        let request = request.into_inner();
        let (action, id) = ("TrustService.DistrustCatalog", &request.request_id);
        let mutation = Mutation::new(&caller, action, SUBJECT, id, &request)?;
        let outcome = self.distrust(&mutation, &request).await;
        if request.dry_run {
            return outcome.map(Response::new);
        }
        mutation.concluded(&self.app.store, outcome).await
    }

    async fn trust_catalog(
        &self,
        request: Request<TrustCatalogRequest>,
    ) -> Result<Response<TrustCatalogResponse>, Status> {
        let caller = Caller::of(&request)?.clone();
        let request = request.into_inner();
        let subject = if request.volumes {
            "catalog and all volumes"
        } else {
            SUBJECT
        };
        let (action, id) = ("TrustService.TrustCatalog", &request.request_id);
        let mutation = Mutation::new(&caller, action, subject, id, &request)?;
        let outcome = self.trust(&mutation, &request).await;
        if request.dry_run {
            return outcome.map(Response::new);
        }
        mutation.concluded(&self.app.store, outcome).await
    }
}
