//! Checking and repairing the catalog: what comes of it, as it comes.

use std::pin::Pin;

use futures::StreamExt as _;
use taf_proto::v1::check_service_server::CheckService;
use taf_proto::v1::{
    CatalogFinding, CatalogNews, CheckCatalogRequest, CheckCatalogResponse, CheckProgress,
    CheckSummary, FindingCount, RepairCatalogRequest, RepairCatalogResponse, catalog_news,
};
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::order;
use crate::access::Caller;
use crate::app::App;
use crate::catalog::check::{self, Told};
use crate::store;
use crate::store::audit::Entry;

/// What is told before a slow client has taken it.
const AHEAD: usize = 64;

/// `taf.v1.CheckService`.
#[derive(Debug, Clone)]
pub struct Checks(pub App);

type Answers<A> = Pin<Box<dyn Stream<Item = Result<A, Status>> + Send>>;

impl Checks {
    /// Checks, and with an actor repairs, and tells of it.
    fn begin(&self, actor: Option<String>) -> ReceiverStream<Result<CatalogNews, Status>> {
        let store = self.0.store.clone();
        let (sender, mut told) = mpsc::channel(AHEAD);
        let (out, news) = mpsc::channel(AHEAD);
        let failed = out.clone();
        tokio::spawn(async move {
            match check::check(&store, actor.is_some(), &sender).await {
                Ok(summary) => {
                    let Some(actor) = actor else { return };
                    let outcome = format!("done, {} rows changed", summary.repaired);
                    let entry = Entry {
                        actor: &actor,
                        action: "CheckService.RepairCatalog",
                        subject: "catalog",
                        outcome: &outcome,
                    };
                    if let Err(error) = store.audit_add(&entry).await {
                        tracing::error!(%error, outcome, "a repair could not be written to the audit log");
                    }
                }
                Err(error) => {
                    // Nobody to tell if the client has gone.
                    let _ = failed.send(Err(error.into())).await;
                }
            }
        });
        tokio::spawn(async move {
            while let Some(one) = told.recv().await {
                if out.send(Ok(news_of(one))).await.is_err() {
                    return;
                }
            }
        });
        ReceiverStream::new(news)
    }
}

fn news_of(told: Told) -> CatalogNews {
    let told = match told {
        Told::Progress { step, steps, rows } => catalog_news::Told::Progress(CheckProgress {
            step,
            done_step_count: steps.0,
            step_count: steps.1,
            row_count: rows,
        }),
        Told::Finding(found) => catalog_news::Told::Finding(CatalogFinding {
            kind: found.kind.to_owned(),
            subject: found.subject,
            message: found.message,
            repairable: found.repairable,
        }),
        Told::Summary(summary) => {
            let kinds = summary.kinds.into_iter();
            let findings = kinds.map(|(kind, count)| FindingCount {
                kind: kind.to_owned(),
                count,
            });
            catalog_news::Told::Summary(CheckSummary {
                findings: findings.collect(),
                row_count: summary.rows,
                repaired_row_count: summary.repaired,
            })
        }
    };
    CatalogNews { told: Some(told) }
}

#[tonic::async_trait]
impl CheckService for Checks {
    type CheckCatalogStream = Answers<CheckCatalogResponse>;

    async fn check_catalog(
        &self,
        _request: Request<CheckCatalogRequest>,
    ) -> Result<Response<Self::CheckCatalogStream>, Status> {
        let answers = self.begin(None).map(|news| {
            let news = Some(news?);
            Ok(CheckCatalogResponse { news })
        });
        Ok(Response::new(Box::pin(answers)))
    }

    type RepairCatalogStream = Answers<RepairCatalogResponse>;

    async fn repair_catalog(
        &self,
        request: Request<RepairCatalogRequest>,
    ) -> Result<Response<Self::RepairCatalogStream>, Status> {
        let actor = Caller::of(&request)?.actor();
        let mut client = self.0.store.client().await?;
        let tx = client.transaction().await.map_err(store::Error::from)?;
        order::is_catalog_trusted_on(&tx).await?;
        drop(tx);
        drop(client);
        let answers = self.begin(Some(actor)).map(|news| {
            let news = Some(news?);
            Ok(RepairCatalogResponse { news })
        });
        Ok(Response::new(Box::pin(answers)))
    }
}
