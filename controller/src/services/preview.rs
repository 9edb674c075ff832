//! Previews of sources: the public side, and the agent's.

use std::pin::Pin;

use futures::stream;
use taf_proto::agent::preview_service_server::PreviewService as AgentPreviewService;
use taf_proto::agent::{
    FetchPreviewRequest, FetchPreviewResponse, SendPreviewRequest, SendPreviewResponse,
    send_preview_request::Message,
};
use taf_proto::v1::preview_service_server::PreviewService;
use taf_proto::v1::{PreviewSourceRequest, PreviewSourceResponse};
use tokio_stream::Stream;
use tonic::{Code, Request, Response, Status, Streaming};
use uuid::Uuid;

use super::{names, selection, status};
use crate::access::Caller;
use crate::app::App;
use crate::session::{Registry, Unit};

/// Both services.
#[derive(Clone)]
pub struct Previews {
    app: App,
    registry: Registry,
}

impl Previews {
    /// The services over the sessions of this controller.
    pub fn new(app: App, registry: Registry) -> Self {
        Self { app, registry }
    }

    /// The calling agent's unit, and the preview that it means.
    async fn called<T>(&self, request: &Request<T>) -> Result<Unit, Status> {
        let name = &Caller::agent(request)?.id;
        let agent = self.app.store.agent_get(name).await?;
        let agent = agent.ok_or_else(|| status::not_found(&names::agent(name)))?;
        Ok(Unit::Source(agent.id))
    }
}

fn preview_id(bytes: &[u8]) -> Result<Uuid, Status> {
    Uuid::from_slice(bytes).map_err(|_| status::invalid("preview_id", "must be 16 bytes"))
}

fn nobody() -> Status {
    status::fault(
        Code::NotFound,
        "PREVIEW_NOT_AWAITED",
        "nobody waits for this preview any more",
    )
}

#[tonic::async_trait]
impl PreviewService for Previews {
    type PreviewSourceStream =
        Pin<Box<dyn Stream<Item = Result<PreviewSourceResponse, Status>> + Send>>;

    async fn preview_source(
        &self,
        request: Request<PreviewSourceRequest>,
    ) -> Result<Response<Self::PreviewSourceStream>, Status> {
        let request = request.into_inner();
        let id = names::source_id(&request.name).map_err(|e| status::invalid("name", e))?;
        let source = self.app.store.source_get(id).await?;
        let source = source.ok_or_else(|| status::not_found(&request.name))?;
        let pieces = selection::pieces(source.selection).into_iter();
        let mut asked: Vec<_> = pieces
            .map(|piece| FetchPreviewResponse {
                selection: Some(piece),
                ..FetchPreviewResponse::default()
            })
            .collect();
        if let Some(first) = asked.first_mut() {
            first.one_file_system = source.one_file_system;
            first.detail = request.detail;
            first.limit = request.limit;
        }
        let unit = Unit::Source(source.agent_id);
        let awaited = self.registry.preview(unit, asked).ok_or_else(|| {
            status::precondition(
                "AGENT_NOT_CONNECTED",
                format!(
                    "{} is not connected to this controller: start it, or ask the controller that it is connected to",
                    names::agent(&source.agent)
                ),
            )
        })?;
        let found = stream::unfold(awaited, async |mut awaited| {
            let found = awaited.next().await?;
            Some((found, awaited))
        });
        Ok(Response::new(Box::pin(found)))
    }
}

#[tonic::async_trait]
impl AgentPreviewService for Previews {
    type FetchPreviewStream =
        stream::Iter<std::vec::IntoIter<Result<FetchPreviewResponse, Status>>>;

    async fn fetch_preview(
        &self,
        request: Request<FetchPreviewRequest>,
    ) -> Result<Response<Self::FetchPreviewStream>, Status> {
        let unit = self.called(&request).await?;
        let id = preview_id(&request.get_ref().preview_id)?;
        let asked = self.registry.preview_asked(unit, id).ok_or_else(nobody)?;
        let asked: Vec<_> = asked.into_iter().map(Ok).collect();
        Ok(Response::new(stream::iter(asked)))
    }

    async fn send_preview(
        &self,
        request: Request<Streaming<SendPreviewRequest>>,
    ) -> Result<Response<SendPreviewResponse>, Status> {
        let unit = self.called(&request).await?;
        let mut incoming = request.into_inner();
        let mut found = None;
        while let Some(request) = incoming.message().await? {
            let sender = if let Some(sender) = &found {
                sender
            } else {
                let id = preview_id(&request.preview_id)?;
                let sender = self.registry.preview_found(unit, id);
                found.insert(sender.ok_or_else(nobody)?)
            };
            let answer = match request.message {
                Some(Message::Found(some)) => Ok(some),
                Some(Message::Fault(fault)) => Err(status::because(
                    &fault.reason,
                    fault.message,
                    &fault.next_step,
                )),
                None => continue,
            };
            if sender.send(answer).await.is_err() {
                return Err(nobody());
            }
        }
        Ok(Response::new(SendPreviewResponse {}))
    }
}
