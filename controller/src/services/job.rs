//! Jobs: looking at them, watching them, stopping them.

use std::pin::Pin;
use std::time::Duration;

use prost::Message as _;
use taf_proto::v1::job_service_server::JobService;
use taf_proto::v1::{
    self, CancelJobRequest, CancelJobResponse, Fault, GetJobRequest, GetJobResponse, Issue, Job,
    JobKind, JobState, ListIssuesRequest, ListIssuesResponse, ListJobsRequest, ListJobsResponse,
    Progress, VersionType, WatchJobRequest, WatchJobResponse,
};
use taf_proto::{agent, path};
use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

use super::mutation::Mutation;
use super::paging::Page;
use super::{PAGE_DEFAULT, PAGE_MOST, health, names, status, timestamp, version_type};
use crate::access::Caller;
use crate::app::App;
use crate::session::Registry;
use crate::store::{
    self, issues,
    jobs::{self, JobRow},
    streams::{self, StreamRow},
};

mod stream;

/// Issues of a page when the client does not say.
const ISSUES_DEFAULT: usize = 1000;
/// Most issues of a page.
const ISSUES_MOST: usize = 10_000;
/// A watcher looks this often; it sends only what has changed.
const WATCH_EVERY: Duration = Duration::from_millis(250);

/// `taf.v1.JobService`.
#[derive(Clone)]
pub struct Jobs {
    app: App,
    registry: Registry,
}

impl Jobs {
    /// The service.
    pub fn new(app: App, registry: Registry) -> Jobs {
        Jobs { app, registry }
    }

    async fn get(&self, id: i64) -> Result<Job, Status> {
        let client = self.app.store.client().await?;
        let row = jobs::job_get(&client, id)
            .await?
            .ok_or_else(|| status::not_found(&names::job(id)))?;
        let job = messages(&client, vec![row]).await?.pop();
        Ok(Job {
            alerts: health::job_alerts(&client, id).await?,
            ..job.unwrap_or_default()
        })
    }

    async fn cancel(&self, mutation: &Mutation, id: i64) -> Result<CancelJobResponse, Status> {
        let mut client = self.app.store.client().await?;
        let tx = client.transaction().await.map_err(store::Error::from)?;
        if let Some(answer) = mutation.begin_on(&tx).await? {
            return Ok(answer);
        }
        let asked = jobs::job_cancel_on(&tx, id).await?;
        let job = jobs::job_get(&tx, id)
            .await?
            .ok_or_else(|| status::not_found(&names::job(id)))?;
        if !asked {
            return Err(status::precondition(
                "JOB_ENDED",
                format!("{} has ended: there is nothing to cancel", names::job(id)),
            ));
        }
        let answer = CancelJobResponse {
            job: messages(&tx, vec![job]).await?.pop(),
        };
        mutation.finish_on(&tx, &answer).await?;
        tx.commit().await.map_err(store::Error::from)?;
        self.registry.wake();
        Ok(answer)
    }
}

/// Jobs as the API shows them.
pub async fn messages(
    client: &impl store::GenericClient,
    rows: Vec<JobRow>,
) -> Result<Vec<Job>, store::Error> {
    let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
    let streams = streams::stream_list(client, &ids).await?;
    let jobs = rows.into_iter().map(|row| {
        let of_job = streams.iter().filter(|stream| stream.job_id == row.id);
        let of_job: Vec<&StreamRow> = of_job.collect();
        let ended = row.ended_at.is_some();
        let job = message(row);
        if of_job.is_empty() {
            job
        } else {
            stream::with(job, &of_job, ended)
        }
    });
    Ok(jobs.collect())
}

fn message(row: JobRow) -> Job {
    let kind = match row.kind.as_str() {
        "backup" => JobKind::Backup,
        "restore" => JobKind::Restore,
        "erase" => JobKind::Erase,
        "format" => JobKind::Format,
        "drive-load" => JobKind::Load,
        "drive-unload" => JobKind::Unload,
        "drive-rewind" => JobKind::Rewind,
        "drive-clean" => JobKind::Clean,
        "inventory" => JobKind::Inventory,
        "move" => JobKind::Move,
        "import" => JobKind::Import,
        "export" => JobKind::Export,
        "index" => JobKind::Index,
        "verify" => JobKind::Verify,
        "inspect" => JobKind::Inspect,
        "rescan" => JobKind::Rescan,
        "reclaim" => JobKind::Reclaim,
        "remove-sources" => JobKind::RemoveSources,
        "remove-extra" => JobKind::RemoveExtra,
        "feed" => JobKind::Feed,
        "dump" => JobKind::Dump,
        _ => JobKind::Label,
    };
    let state = match row.state.as_str() {
        "queued" => JobState::Queued,
        "running" => JobState::Running,
        "succeeded" => JobState::Succeeded,
        "succeeded-with-issues" => JobState::SucceededWithIssues,
        "failed" => JobState::Failed,
        _ => JobState::Cancelled,
    };
    let target = row
        .restore_request
        .as_deref()
        .and_then(|bytes| v1::RestoreVersionRequest::decode(bytes).ok())
        .and_then(|request| request.target);
    let (asked, made, promotion) = &row.kinds;
    let shown = |kind: &Option<String>| match kind {
        Some(kind) => version_type::stored(kind).into(),
        None => VersionType::Unspecified.into(),
    };
    let (asked_type, version_type) = (shown(asked), shown(made));
    let promotion_reason = promotion.clone().unwrap_or_default();
    // The number of a version that was not made goes to the next run.
    let is_made = row.kind != "backup" || !matches!(state, JobState::Failed | JobState::Cancelled);
    Job {
        name: names::job(row.id),
        kind: kind.into(),
        state: state.into(),
        plan: row.plan.as_deref().map(names::plan).unwrap_or_default(),
        version: row
            .line_id
            .zip(row.version)
            .filter(|_| is_made)
            .map(|(line, version)| names::version(line, version))
            .unwrap_or_default(),
        version_title: row.title.clone().filter(|_| is_made).unwrap_or_default(),
        agent: row.agent.as_deref().map(names::agent).unwrap_or_default(),
        volume: row.volume.as_deref().map(names::volume).unwrap_or_default(),
        volumes: row.volumes.iter().map(|v| names::volume(v)).collect(),
        drive: row.drive.as_deref().map(names::drive).unwrap_or_default(),
        target,
        waiting_for: row.waiting_for.clone().unwrap_or_default(),
        progress: Some(progress(&row)),
        error: row.fault.map(|fault| Fault {
            reason: fault.reason,
            message: fault.message,
            next_step: fault.next_step,
        }),
        creator: row.creator,
        create_time: Some(timestamp(row.created_at)),
        start_time: row.started_at.map(timestamp),
        end_time: row.ended_at.map(timestamp),
        library: row
            .library
            .as_deref()
            .map(names::library)
            .unwrap_or_default(),
        from_address: row.addresses.0.unwrap_or_default() as u32,
        to_address: row.addresses.1.unwrap_or_default() as u32,
        asked_type,
        version_type,
        promotion_reason,
        alerts: Vec::new(),
        streams: Vec::new(),
        cause_job: row.cause.map(names::job).unwrap_or_default(),
        sample: row.sample.map(|sample| v1::JobSample {
            seed: sample.seed,
            percent: sample.percent.unwrap_or(0) as u32,
            time_limit: sample
                .seconds
                .map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
        }),
        follow_up_jobs: row.follow_ups.iter().map(|id| names::job(*id)).collect(),
    }
}

/// One progress from what both sides said last and what is expected.
fn progress(row: &JobRow) -> Progress {
    let mut progress = said(
        &row.kind,
        row.progress.as_deref(),
        row.drive_progress.as_deref(),
    );
    // The catalog knows what is on tape; a drive's last word may have been overtaken by its next one.
    progress.committed_byte_count = row.committed_bytes.unwrap_or_default() as u64;
    counted(
        &mut progress,
        row.source_result.as_deref(),
        row.drive_result.as_deref(),
    );
    if row.ended_at.is_some() {
        is_over(&mut progress);
    } else if let Some(step) = step(row.step_kind.as_deref(), &row.kind) {
        step.clone_into(&mut progress.phase);
    }
    progress.estimated_file_count = row.estimated_files.unwrap_or_default() as u64;
    progress.estimated_byte_count = row.estimated_bytes.unwrap_or_default() as u64;
    progress.issue_count = row.issue_count as u64;
    progress
}

/// What both sides said last.
fn said(kind: &str, source: Option<&[u8]>, drive: Option<&[u8]>) -> Progress {
    let mut progress = source
        .and_then(|bytes| Progress::decode(bytes).ok())
        .unwrap_or_default();
    if let Some(drive) = drive.and_then(|bytes| agent::DriveObservation::decode(bytes).ok()) {
        progress.drive_bytes_per_second = drive.bytes_per_second;
        progress.drive_flow = drive.flow;
        // The source agent does not see that the drive is not taking anything yet.
        if drive.phase == "collecting" {
            progress.phase.clone_from(&drive.phase);
        }
        if progress.phase.is_empty() {
            progress.phase = drive.phase;
        }
        // Nobody but the drive is at work.
        if kind == "verify" {
            progress.byte_count = drive.received_byte_count;
            progress.bytes_per_second = drive.bytes_per_second;
        }
    }
    progress
}

/// What a side counted in the end goes before what it saw on the way.
fn counted(progress: &mut Progress, source: Option<&[u8]>, drive: Option<&[u8]>) {
    let done = |result: Option<&[u8]>| agent::Result::decode(result?).ok()?.done;
    match done(source).or_else(|| done(drive)) {
        Some(agent::result::Done::Backup(done)) => {
            progress.file_count = done.file_count;
            progress.directory_count = done.directory_count;
            progress.byte_count = done.byte_count;
            progress.stored_byte_count = done.stored_byte_count;
        }
        Some(agent::result::Done::Restore(done)) => {
            progress.file_count = done.file_count;
            progress.directory_count = done.directory_count;
            progress.byte_count = done.byte_count;
            progress.kept_count = done.kept_count;
            progress.issue_counts = done.issue_counts;
        }
        Some(agent::result::Done::Remove(done)) => {
            progress.file_count = done.file_count;
            progress.directory_count = done.directory_count;
            progress.byte_count = done.byte_count;
        }
        Some(agent::result::Done::Verify(done)) => {
            progress.file_count = done.file_count;
            progress.byte_count = done.byte_count;
        }
        _ => {}
    }
}

/// Nothing is under way any more.
fn is_over(progress: &mut Progress) {
    progress.phase = String::new();
    progress.bytes_per_second = 0;
    progress.drive_bytes_per_second = 0;
    if let Some(flow) = &mut progress.drive_flow {
        // What it came to stays.
        flow.bytes_per_second = 0;
        flow.source_bytes_per_second = 0;
        flow.ring_byte_count = 0;
        flow.spool_byte_count = 0;
        flow.collecting = false;
    }
    progress.current_path = None;
}

/// What a step of an attempt is called, if it is not the work.
fn step(step: Option<&str>, kind: &str) -> Option<&'static str> {
    match (step, kind) {
        (Some("unload"), "drive-unload" | "export" | "import" | "move") => Some("unloading"),
        (Some("unload" | "clear" | "mount"), _) => Some("mounting"),
        (Some("carry"), _) => Some("moving"),
        (Some("clean"), _) => Some("cleaning"),
        (Some("scan"), _) => Some("reading the elements"),
        _ => None,
    }
}

fn number(field: &str, name: &str) -> Result<i64, Status> {
    names::job_number(name).map_err(|e| status::invalid(field, e))
}

type Snapshots = Pin<Box<dyn Stream<Item = Result<WatchJobResponse, Status>> + Send>>;

#[tonic::async_trait]
impl JobService for Jobs {
    async fn get_job(
        &self,
        request: Request<GetJobRequest>,
    ) -> Result<Response<GetJobResponse>, Status> {
        let id = number("name", &request.get_ref().name)?;
        let job = Some(self.get(id).await?);
        Ok(Response::new(GetJobResponse { job }))
    }

    async fn list_jobs(
        &self,
        request: Request<ListJobsRequest>,
    ) -> Result<Response<ListJobsResponse>, Status> {
        let request = request.into_inner();
        let scope = format!("jobs active={}", request.active_only);
        let page = Page::read(
            &scope,
            request.page_size,
            &request.page_token,
            PAGE_DEFAULT,
            PAGE_MOST,
        )?;
        let before = page.after_number()?.unwrap_or(i64::MAX);
        let client = self.app.store.client().await?;
        let mut rows = jobs::job_list(&client, before, request.active_only, page.limit()).await?;
        let next_page_token = page.cut(&mut rows, |row| row.id.to_string());
        Ok(Response::new(ListJobsResponse {
            jobs: messages(&client, rows).await?,
            next_page_token,
        }))
    }

    type WatchJobStream = Snapshots;

    async fn watch_job(
        &self,
        request: Request<WatchJobRequest>,
    ) -> Result<Response<Snapshots>, Status> {
        let id = number("name", &request.get_ref().name)?;
        let mut last = self.get(id).await?;
        let (sender, receiver) = mpsc::channel(4);
        let jobs = self.clone();
        tokio::spawn(async move {
            let mut news = Some(last.clone());
            loop {
                if let Some(job) = news.take()
                    && sender
                        .send(Ok(WatchJobResponse { job: Some(job) }))
                        .await
                        .is_err()
                {
                    return;
                }
                if last.end_time.is_some() {
                    return;
                }
                tokio::time::sleep(WATCH_EVERY).await;
                match jobs.get(id).await {
                    Ok(job) if job != last => {
                        last = job.clone();
                        news = Some(job);
                    }
                    Ok(_) if sender.is_closed() => return,
                    Ok(_) => {}
                    Err(status) => {
                        let _ = sender.send(Err(status)).await;
                        return;
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn cancel_job(
        &self,
        request: Request<CancelJobRequest>,
    ) -> Result<Response<CancelJobResponse>, Status> {
        let caller = Caller::of(&request)?.clone();
        let request = request.into_inner();
        let id = number("name", &request.name)?;
        let mutation = Mutation::new(
            &caller,
            "JobService.CancelJob",
            request.name.as_str(),
            &request.request_id,
            &request,
        )?;
        let outcome = self.cancel(&mutation, id).await;
        mutation.concluded(&self.app.store, outcome).await
    }

    async fn list_issues(
        &self,
        request: Request<ListIssuesRequest>,
    ) -> Result<Response<ListIssuesResponse>, Status> {
        let request = request.into_inner();
        let id = number("job", &request.job)?;
        let page = Page::read(
            &format!("issues {id}"),
            request.page_size,
            &request.page_token,
            ISSUES_DEFAULT,
            ISSUES_MOST,
        )?;
        let after = page.after_number()?.unwrap_or(0);
        let client = self.app.store.client().await?;
        let mut rows = issues::issue_list(&client, id, after, page.limit()).await?;
        let next_page_token = page.cut(&mut rows, |row| row.number.to_string());
        let issues = rows.into_iter().map(|row| Issue {
            path: Some(path::from_raw(row.path)),
            reason: row.reason,
            message: row.message,
        });
        Ok(Response::new(ListIssuesResponse {
            issues: issues.collect(),
            next_page_token,
        }))
    }
}
