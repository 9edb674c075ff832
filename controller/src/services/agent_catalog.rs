//! `taf.agent.v1.CatalogService`: what agents give to and take from the catalog. Every call is fenced by the certificate's
//! agent, the attempt and its generation.

use bytes::Bytes;
use prost::Message as _;
use taf_proto::agent::catalog_service_server::CatalogService;
use taf_proto::agent::{
    ClaimDriveRequest, ClaimDriveResponse, CommitIndexRequest, CommitIndexResponse,
    CommitPartRequest, CommitPartResponse, FetchBaseRequest, FetchBaseResponse,
    FetchDictionariesRequest, FetchDictionariesResponse, FetchIndexRequest, FetchIndexResponse,
    FetchListingsRequest, FetchListingsResponse, FetchPagesRequest, FetchPagesResponse,
    FetchRecallRequest, FetchRecallResponse, FetchRemovalsRequest, FetchRemovalsResponse,
    FetchSelectionRequest, FetchSelectionResponse, FetchVerificationRequest,
    FetchVerificationResponse, JudgePartRequest, JudgePartResponse, LocateVolumeRequest,
    LocateVolumeResponse, ReportIssuesRequest, ReportIssuesResponse, ReportOrphanRequest,
    ReportOrphanResponse, ReportScanRequest, ReportScanResponse, ReportVerificationRequest,
    ReportVerificationResponse, ReportVolumeRequest, ReportVolumeResponse, TakeVolumesRequest,
    TakeVolumesResponse, Worker,
};
use taf_proto::{path, v1};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};

use super::{gaps, order, selection, status};
use crate::access::Caller;
use crate::catalog::recall::Archives;
use crate::catalog::report::{self, Side};
use crate::catalog::{
    self, Error, Selection, View, base, commit, extra, feed, index, recall, removal, rescan, turns,
    verify,
};
use crate::session::Registry;
use crate::store::assignments::Assignment;
use crate::store::{Store, assignments, attempt_volumes, recalls, versions, volumes};

/// Messages of a recall that wait for a slow agent: a few megabytes at most.
const AHEAD: usize = 4;

/// The service.
#[derive(Clone)]
pub struct AgentCatalog {
    store: Store,
    registry: Registry,
}

impl AgentCatalog {
    /// The service. Committed parts wake the reconciler.
    pub fn new(store: Store, registry: Registry) -> Self {
        Self { store, registry }
    }

    async fn recall(
        &self,
        agent: &str,
        request: &FetchRecallRequest,
    ) -> Result<(View, Selection, i64), Status> {
        let client = self.store.client().await?;
        let assignment =
            report::assignment(&client, request.key.as_ref(), agent, Side::Source).await?;
        drop(client);
        if assignment.kind == "feed" {
            let view = self.fed(&assignment).await?;
            let selection = Selection::resolve(&view, &[]).await?;
            return Ok((view, selection, assignment.attempt_id));
        }
        let (Some(line), Some(version), Some(wanted)) = (
            assignment.line_id,
            assignment.version,
            &assignment.restore_request,
        ) else {
            return Err(Error::Invalid("the assignment is no restore".into()).into());
        };
        let wanted = v1::RestoreVersionRequest::decode(wanted.as_slice())
            .map_err(|e| status::internal("a restore can't be read", &e))?;
        let view = View::open_restored(&self.store, line, version).await?;
        let view = view.ok_or_else(|| status::not_found(&super::names::version(line, version)))?;
        if !request.revision.is_empty() && request.revision != view.revision() {
            return Err(status::precondition(
                "VERSION_CHANGED",
                "the version is not whole, and what is known of it has changed since its restore began: a cartridge was taken in or \
                 erased; restore it again, what is there already may stay",
            ));
        }
        if view.gap().is_some() {
            self.knows_gaps(agent).await?;
        }
        let client = self.store.client().await?;
        let chosen = assignments::assignment_paths(&client, assignment.job_id).await?;
        drop(client);
        let paths = if let Some(chosen) = chosen {
            super::restore::chosen_paths(&chosen)
        } else {
            // A job of before paths were kept by themselves.
            let raw = |chosen: &v1::Path| path::to_raw(chosen).map(|raw| raw.to_vec());
            let paths: Result<Vec<Vec<u8>>, _> = wanted.paths.iter().map(raw).collect();
            paths.map_err(|e| status::internal("a restore's paths can't be read", &e))?
        };
        let selection = Selection::resolve(&view, &paths).await?;
        Ok((view, selection, assignment.attempt_id))
    }

    /// Refuses an agent that would leave out without a word what a version lacks.
    async fn knows_gaps(&self, agent: &str) -> Result<(), Status> {
        let agent = self.store.agent_get(agent).await?;
        if let Some(fault) = agent.as_ref().and_then(gaps::too_old) {
            return Err(order::refused(&fault));
        }
        if agent.and_then(|agent| agent.reads_incomplete) != Some(true) {
            // Its session begins anew after the controller was upgraded.
            return Err(status::fault(
                Code::Unavailable,
                "NOT_READY",
                "what the source agent can do is not known before its session has begun; ask again",
            ));
        }
        Ok(())
    }

    /// In which order a restore reads its volumes, and which: as it was told before, beginning with what is in place, and last what
    /// can't be had.
    async fn preference(
        &self,
        view: &View,
        attempt: i64,
        request: &FetchRecallRequest,
    ) -> Result<recall::Preference, Status> {
        let client = self.store.client().await?;
        let uuids = |told: &[Bytes]| -> Result<Vec<_>, Error> {
            let told = told.iter();
            told.map(|it| report::uuid(it, "a recording")).collect()
        };
        let volumes = view.volumes(&client).await?;
        let only = uuids(&request.recording_uuids)?;
        let all = recalls::recall_recordings(&client, attempt).await?;
        Ok(recall::Preference {
            given: uuids(&request.volume_order)?,
            first: attempt_volumes::volume_held(&client, attempt).await?,
            away: volumes::volume_list_away(&client, &volumes).await?,
            share: recall::Share::of(&only, &all),
        })
    }

    /// The version that a feed reads.
    async fn fed(&self, assignment: &Assignment) -> Result<View, Status> {
        let (true, Some(line), Some(version)) = (
            assignment.kind == "feed" && assignment.live,
            assignment.line_id,
            assignment.version,
        ) else {
            return Err(Error::Invalid("the assignment is no feed under way".into()).into());
        };
        let view = View::open_restored(&self.store, line, version).await?;
        view.ok_or_else(|| status::not_found(&super::names::version(line, version)))
    }

    async fn removal(
        &self,
        agent: &str,
        request: &FetchRemovalsRequest,
    ) -> Result<removal::Judge, Status> {
        let client = self.store.client().await?;
        let assignment =
            report::assignment(&client, request.key.as_ref(), agent, Side::Source).await?;
        let (true, Some(line), Some(number), Some(wanted)) = (
            assignment.kind == "remove-sources" && assignment.live,
            assignment.line_id,
            assignment.version,
            &assignment.removal,
        ) else {
            return Err(Error::Invalid("the assignment is no removal under way".into()).into());
        };
        let wanted = v1::RemoveSourcesRequest::decode(wanted.as_slice())
            .map_err(|e| status::internal("a removal can't be read", &e))?;
        let version = versions::version_get(&client, line, number).await?;
        let version =
            version.ok_or_else(|| status::not_found(&super::names::version(line, number)))?;
        drop(client);
        Ok(removal::Judge::new(&self.store, &version, wanted.copies).await?)
    }
}

#[tonic::async_trait]
impl CatalogService for AgentCatalog {
    async fn commit_part(
        &self,
        request: Request<Streaming<CommitPartRequest>>,
    ) -> Result<Response<CommitPartResponse>, Status> {
        let agent = Caller::agent(&request)?.id.clone();
        let committed = commit::commit(&self.store, &agent, request.into_inner()).await;
        self.registry.wake();
        committed?;
        Ok(Response::new(CommitPartResponse {}))
    }

    async fn report_scan(
        &self,
        request: Request<Streaming<ReportScanRequest>>,
    ) -> Result<Response<ReportScanResponse>, Status> {
        let agent = Caller::agent(&request)?.id.clone();
        let store = self.store.clone();
        // On a task of its own: it says what the versions lack also when the agent has gone in the middle.
        let taking =
            tokio::spawn(async move { rescan::take(&store, &agent, request.into_inner()).await });
        let taken = taking.await;
        self.registry.wake();
        taken.map_err(|e| status::internal("taking in a cartridge has failed", &e))??;
        Ok(Response::new(ReportScanResponse {}))
    }

    async fn report_orphan(
        &self,
        request: Request<ReportOrphanRequest>,
    ) -> Result<Response<ReportOrphanResponse>, Status> {
        let agent = Caller::agent(&request)?.id.clone();
        report::report_orphan(&self.store, &agent, request.get_ref()).await?;
        Ok(Response::new(ReportOrphanResponse {}))
    }

    async fn judge_part(
        &self,
        request: Request<JudgePartRequest>,
    ) -> Result<Response<JudgePartResponse>, Status> {
        let agent = Caller::agent(&request)?.id.clone();
        let judged = report::judge_part(&self.store, &agent, request.get_ref()).await?;
        Ok(Response::new(judged))
    }

    async fn report_volume(
        &self,
        request: Request<ReportVolumeRequest>,
    ) -> Result<Response<ReportVolumeResponse>, Status> {
        let agent = Caller::agent(&request)?.id.clone();
        report::report_volume(&self.store, &agent, request.get_ref()).await?;
        self.registry.wake();
        Ok(Response::new(ReportVolumeResponse {}))
    }

    type FetchIndexStream = ReceiverStream<Result<FetchIndexResponse, Status>>;

    async fn fetch_index(
        &self,
        request: Request<FetchIndexRequest>,
    ) -> Result<Response<Self::FetchIndexStream>, Status> {
        let agent = Caller::agent(&request)?.id.clone();
        let request = request.into_inner();
        let (sender, receiver) = mpsc::channel(AHEAD);
        let store = self.store.clone();
        tokio::spawn(async move {
            if let Err(error) = index::stream(&store, &agent, &request, &sender).await {
                // Nobody to tell if the agent has gone.
                let _ = sender.send(Err(error.into())).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn commit_index(
        &self,
        request: Request<CommitIndexRequest>,
    ) -> Result<Response<CommitIndexResponse>, Status> {
        let agent = Caller::agent(&request)?.id.clone();
        index::commit(&self.store, &agent, request.get_ref()).await?;
        self.registry.wake();
        Ok(Response::new(CommitIndexResponse {}))
    }

    type FetchVerificationStream =
        futures::stream::Iter<std::vec::IntoIter<Result<FetchVerificationResponse, Status>>>;

    async fn fetch_verification(
        &self,
        request: Request<FetchVerificationRequest>,
    ) -> Result<Response<Self::FetchVerificationStream>, Status> {
        let agent = Caller::agent(&request)?.id.clone();
        let (parts, time_limit_seconds) =
            verify::parts(&self.store, &agent, request.get_ref()).await?;
        let messages: Vec<_> = parts
            .into_iter()
            .map(|part| {
                Ok(FetchVerificationResponse {
                    part: Some(part),
                    time_limit_seconds,
                })
            })
            .collect();
        Ok(Response::new(futures::stream::iter(messages)))
    }

    async fn report_verification(
        &self,
        request: Request<ReportVerificationRequest>,
    ) -> Result<Response<ReportVerificationResponse>, Status> {
        let agent = Caller::agent(&request)?.id.clone();
        verify::report(&self.store, &agent, request.get_ref()).await?;
        Ok(Response::new(ReportVerificationResponse {}))
    }

    type FetchSelectionStream =
        futures::stream::Iter<std::vec::IntoIter<Result<FetchSelectionResponse, Status>>>;

    async fn fetch_selection(
        &self,
        request: Request<FetchSelectionRequest>,
    ) -> Result<Response<Self::FetchSelectionStream>, Status> {
        let agent = Caller::agent(&request)?.id.clone();
        let client = self.store.client().await?;
        let assignment = report::assignment(
            &client,
            request.get_ref().key.as_ref(),
            &agent,
            Side::Source,
        )
        .await?;
        let paths = assignments::assignment_selection(&client, assignment.job_id).await?;
        let paths = paths.ok_or_else(|| Error::Invalid("the assignment is no backup".into()))?;
        let whole = FetchSelectionResponse::decode(paths.as_slice())
            .map_err(|e| status::internal("a source's paths can't be read", &e))?;
        let messages: Vec<_> = selection::pieces(whole).into_iter().map(Ok).collect();
        Ok(Response::new(futures::stream::iter(messages)))
    }

    type FetchBaseStream = ReceiverStream<Result<FetchBaseResponse, Status>>;

    async fn fetch_base(
        &self,
        request: Request<FetchBaseRequest>,
    ) -> Result<Response<Self::FetchBaseStream>, Status> {
        let agent = Caller::agent(&request)?.id.clone();
        let wanted = base::Wanted::check(&self.store, &agent, request.get_ref()).await?;
        let (sender, receiver) = mpsc::channel(AHEAD);
        let store = self.store.clone();
        tokio::spawn(async move {
            if let Err(error) = base::stream(&store, &wanted, &sender).await {
                // Nobody to tell if the agent has gone.
                let _ = sender.send(Err(error.into())).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn fetch_dictionaries(
        &self,
        request: Request<FetchDictionariesRequest>,
    ) -> Result<Response<FetchDictionariesResponse>, Status> {
        let agent = Caller::agent(&request)?.id.clone();
        let dictionaries = base::dictionaries(&self.store, &agent, request.get_ref()).await?;
        Ok(Response::new(FetchDictionariesResponse { dictionaries }))
    }

    async fn claim_drive(
        &self,
        request: Request<ClaimDriveRequest>,
    ) -> Result<Response<ClaimDriveResponse>, Status> {
        let agent = Caller::agent(&request)?.id.clone();
        let (worker, asked) = base::claim(&self.store, &agent, request.get_ref()).await?;
        if asked {
            self.registry.wake();
        }
        if worker.is_none() {
            return Err(status::fault(
                Code::Unavailable,
                "NOT_READY",
                "no drive is ready for the backup yet; ask again",
            ));
        }
        Ok(Response::new(ClaimDriveResponse { worker }))
    }

    type FetchRecallStream = ReceiverStream<Result<FetchRecallResponse, Status>>;

    async fn fetch_recall(
        &self,
        request: Request<FetchRecallRequest>,
    ) -> Result<Response<Self::FetchRecallStream>, Status> {
        let agent = Caller::agent(&request)?.id.clone();
        let request = request.into_inner();
        let (view, selection, attempt) = self.recall(&agent, &request).await?;
        let archives = match &request {
            FetchRecallRequest {
                archive_ordinal: 0, ..
            } => Archives::All,
            FetchRecallRequest {
                archive_ordinal,
                without_archive: true,
                ..
            } => Archives::Without(*archive_ordinal),
            FetchRecallRequest {
                archive_ordinal, ..
            } => Archives::Only(*archive_ordinal),
        };
        let preference = match archives {
            // It is copied in the order of its bytes, wherever they are.
            Archives::Only(_) => recall::Preference::default(),
            _ => self.preference(&view, attempt, &request).await?,
        };
        let (sender, receiver) = mpsc::channel(AHEAD);
        tokio::spawn(async move {
            let streamed =
                recall::stream(&view, attempt, &selection, archives, &preference, &sender);
            if let Err(error) = streamed.await {
                // Nobody to tell if the agent has gone.
                let _ = sender.send(Err(error.into())).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    type FetchPagesStream = ReceiverStream<Result<FetchPagesResponse, Status>>;

    async fn fetch_pages(
        &self,
        request: Request<FetchPagesRequest>,
    ) -> Result<Response<Self::FetchPagesStream>, Status> {
        let agent = Caller::agent(&request)?.id.clone();
        let client = self.store.client().await?;
        let key = request.get_ref().key.as_ref();
        let assignment = report::assignment(&client, key, &agent, Side::Source).await?;
        drop(client);
        let view = self.fed(&assignment).await?;
        let (sender, receiver) = mpsc::channel(AHEAD);
        tokio::spawn(async move {
            if let Err(error) = feed::stream(&view, &sender).await {
                // Nobody to tell if the agent has gone.
                let _ = sender.send(Err(error.into())).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    type FetchListingsStream = ReceiverStream<Result<FetchListingsResponse, Status>>;

    async fn fetch_listings(
        &self,
        request: Request<FetchListingsRequest>,
    ) -> Result<Response<Self::FetchListingsStream>, Status> {
        let agent = Caller::agent(&request)?.id.clone();
        let (view, selection, _) = self
            .recall(
                &agent,
                &FetchRecallRequest {
                    key: request.get_ref().key,
                    ..FetchRecallRequest::default()
                },
            )
            .await?;
        let (sender, receiver) = mpsc::channel(AHEAD);
        tokio::spawn(async move {
            if let Err(error) = extra::stream(&view, &selection, &sender).await {
                // Nobody to tell if the agent has gone.
                let _ = sender.send(Err(error.into())).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    type FetchRemovalsStream = ReceiverStream<Result<FetchRemovalsResponse, Status>>;

    async fn fetch_removals(
        &self,
        request: Request<FetchRemovalsRequest>,
    ) -> Result<Response<Self::FetchRemovalsStream>, Status> {
        let agent = Caller::agent(&request)?.id.clone();
        let judge = self.removal(&agent, request.get_ref()).await?;
        let (sender, receiver) = mpsc::channel(AHEAD);
        tokio::spawn(async move {
            if let Err(error) = removal::stream(judge, &sender).await {
                // Nobody to tell if the agent has gone.
                let _ = sender.send(Err(error.into())).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn locate_volume(
        &self,
        request: Request<LocateVolumeRequest>,
    ) -> Result<Response<LocateVolumeResponse>, Status> {
        let agent = Caller::agent(&request)?.id.clone();
        let request = request.into_inner();
        let mut client = self.store.client().await?;
        let assignment =
            report::assignment(&client, request.key.as_ref(), &agent, Side::Source).await?;
        let recording = report::uuid(&request.recording_uuid, "the recording")?;
        let drive =
            attempt_volumes::volume_locate(&client, assignment.attempt_id, recording).await?;
        if let Some(fault) = drive.as_ref().and_then(turns::lost) {
            return Err(status::because(
                &fault.reason,
                fault.message,
                &fault.next_step,
            ));
        }
        let found = drive.filter(|drive| drive.in_place);
        if found.is_none() && turns::want(&mut client, &assignment, recording).await? {
            self.registry.wake();
        }
        let found = found.ok_or_else(|| {
            status::fault(
                Code::Unavailable,
                "NOT_READY",
                "the volume is not in a drive yet",
            )
        })?;
        let addresses = found.addresses.split_whitespace().map(str::to_owned);
        Ok(Response::new(LocateVolumeResponse {
            worker: Some(Worker {
                agent_id: found.agent,
                addresses: addresses.collect(),
            }),
        }))
    }

    async fn take_volumes(
        &self,
        request: Request<TakeVolumesRequest>,
    ) -> Result<Response<TakeVolumesResponse>, Status> {
        let agent = Caller::agent(&request)?.id.clone();
        let answer = turns::take(&self.store, &agent, request.get_ref()).await?;
        // What it left others may take, and it may have asked for more than it holds.
        self.registry.wake();
        Ok(Response::new(answer))
    }

    async fn report_issues(
        &self,
        request: Request<ReportIssuesRequest>,
    ) -> Result<Response<ReportIssuesResponse>, Status> {
        let agent = Caller::agent(&request)?.id.clone();
        report::report_issues(&self.store, &agent, request.get_ref()).await?;
        Ok(Response::new(ReportIssuesResponse {}))
    }
}

impl From<catalog::Error> for Status {
    fn from(error: catalog::Error) -> Self {
        let said = error.to_string();
        match error {
            Error::Store(error) => error.into(),
            Error::NotFound(path) => status::fault_with(
                Code::NotFound,
                "PATH_NOT_FOUND",
                said,
                &[("path", &path::display(&path))],
            ),
            Error::NoMatch(pattern) => status::fault_with(
                Code::NotFound,
                "PATTERN_NOT_FOUND",
                said,
                &[("pattern", &pattern)],
            ),
            Error::Unknown { .. } => {
                status::fault(Code::FailedPrecondition, "UNKNOWN_UNTIL_MET", said)
            }
            Error::Damaged { .. } => status::fault(Code::DataLoss, "LISTING_DAMAGED", said),
            Error::Invalid(_) => status::fault(Code::InvalidArgument, "INVALID_MESSAGE", said),
            Error::UnknownAssignment(_) => {
                status::fault(Code::FailedPrecondition, "STALE_ASSIGNMENT", said)
            }
            Error::Foreign(_) => status::fault(Code::PermissionDenied, "NOT_YOUR_ASSIGNMENT", said),
            Error::Conflict(_) => status::fault(Code::Aborted, "PART_CONFLICT", said),
            Error::Closed(_) => status::fault(Code::FailedPrecondition, "ARCHIVE_CLOSED", said),
            Error::Position(_) => status::fault(Code::FailedPrecondition, "VOLUME_POSITION", said),
            Error::Distrusted(_) => {
                status::fault(Code::FailedPrecondition, "CATALOG_DISTRUSTED", said)
            }
            Error::Stream(status) => status,
        }
    }
}
