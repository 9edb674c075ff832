//! Following jobs, paging and retrying, against a controller that is a script.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;
#[path = "following/volumes.rs"]
mod volumes;

use std::os::unix::fs::PermissionsExt as _;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use support::{Said, taf};
use taf_peer::authority::Authority;
use taf_peer::identity::{Identity, Role};
use taf_peer::material::certificate_pem;
use taf_peer::serve::{Limits, serve};
use taf_peer::tls::{ClientAuth, server_config};
use taf_proto::v1::job_service_server::{JobService, JobServiceServer};
use taf_proto::v1::plan_service_server::{PlanService, PlanServiceServer};
use taf_proto::v1::volume_service_server::VolumeServiceServer;
use taf_proto::v1::{self as api, Fault, Issue, Job, JobKind, JobState, Progress};
use tempfile::TempDir;
use tokio_stream::{Stream, StreamExt as _};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::service::RoutesBuilder;
use tonic::{Request, Response, Status};
use uuid::Uuid;

/// What the controller does, and what it was told.
#[derive(Default)]
struct Script {
    /// How the job ends; with none it runs for ever.
    end: Option<Job>,
    /// Calls that fail before one works.
    away: AtomicU32,
    /// Idempotency keys of what changes something.
    keys: Mutex<Vec<String>>,
    cancelled: Mutex<Vec<String>>,
}

impl Script {
    fn here(&self) -> Result<(), Status> {
        let left = self
            .away
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(1)
            });
        match left {
            Ok(_) => Err(Status::unavailable("restarting")),
            Err(_) => Ok(()),
        }
    }
}

#[derive(Clone)]
struct Controller(Arc<Script>);

type Answer<T> = Result<Response<T>, Status>;

fn running() -> Job {
    Job {
        name: "jobs/7".into(),
        kind: JobKind::Backup.into(),
        state: JobState::Running.into(),
        plan: "plans/daily".into(),
        version: "lines/1/versions/4".into(),
        progress: Some(Progress {
            phase: "writing".into(),
            file_count: 3,
            byte_count: 1000,
            ..Progress::default()
        }),
        ..Job::default()
    }
}

fn ended(state: JobState) -> Job {
    Job {
        state: state.into(),
        ..running()
    }
}

#[tonic::async_trait]
impl JobService for Controller {
    type WatchJobStream = Pin<Box<dyn Stream<Item = Result<api::WatchJobResponse, Status>> + Send>>;

    async fn watch_job(
        &self,
        request: Request<api::WatchJobRequest>,
    ) -> Answer<Self::WatchJobStream> {
        assert_eq!(request.metadata().get("authorization").unwrap(), "Bearer t");
        assert_eq!(request.into_inner().name, "jobs/7");
        let snapshot = |job: Job| Ok(api::WatchJobResponse { job: Some(job) });
        let stream = tokio_stream::iter([snapshot(running())]);
        if self.0.here().is_err() {
            let broken = tokio_stream::iter([Err(Status::unavailable("restarting"))]);
            return Ok(Response::new(Box::pin(stream.chain(broken))));
        }
        Ok(Response::new(match &self.0.end {
            Some(end) => Box::pin(stream.chain(tokio_stream::iter([snapshot(end.clone())]))),
            None => Box::pin(stream.chain(tokio_stream::pending())),
        }))
    }

    async fn list_issues(
        &self,
        _: Request<api::ListIssuesRequest>,
    ) -> Answer<api::ListIssuesResponse> {
        Ok(Response::new(api::ListIssuesResponse {
            issues: vec![Issue {
                path: Some(taf_proto::path::from_raw(&b"/srv/\x1b[31m"[..])),
                reason: "CHANGED".into(),
                message: "it was modified".into(),
            }],
            next_page_token: String::new(),
        }))
    }

    async fn list_jobs(
        &self,
        request: Request<api::ListJobsRequest>,
    ) -> Answer<api::ListJobsResponse> {
        self.0.here()?;
        let token = request.into_inner().page_token;
        let next = if token.is_empty() { "more" } else { "" };
        Ok(Response::new(api::ListJobsResponse {
            jobs: vec![ended(JobState::Succeeded), running()],
            next_page_token: next.to_owned(),
        }))
    }

    async fn cancel_job(
        &self,
        request: Request<api::CancelJobRequest>,
    ) -> Answer<api::CancelJobResponse> {
        let request = request.into_inner();
        self.0.cancelled.lock().unwrap().push(request.name);
        Ok(Response::new(api::CancelJobResponse {
            job: Some(running()),
        }))
    }

    async fn get_job(&self, _: Request<api::GetJobRequest>) -> Answer<api::GetJobResponse> {
        Ok(Response::new(api::GetJobResponse {
            job: Some(running()),
        }))
    }
}

#[tonic::async_trait]
impl PlanService for Controller {
    async fn run_plan(
        &self,
        request: Request<api::RunPlanRequest>,
    ) -> Answer<api::RunPlanResponse> {
        let request = request.into_inner();
        assert_eq!(request.name, "plans/daily");
        self.0.keys.lock().unwrap().push(request.request_id);
        self.0.here()?;
        Ok(Response::new(api::RunPlanResponse {
            job: "jobs/7".into(),
            ..api::RunPlanResponse::default()
        }))
    }

    async fn create_plan(
        &self,
        _: Request<api::CreatePlanRequest>,
    ) -> Answer<api::CreatePlanResponse> {
        Err(Status::unimplemented(""))
    }

    async fn get_plan(&self, _: Request<api::GetPlanRequest>) -> Answer<api::GetPlanResponse> {
        Err(Status::unimplemented(""))
    }

    async fn list_plans(
        &self,
        _: Request<api::ListPlansRequest>,
    ) -> Answer<api::ListPlansResponse> {
        Err(Status::unimplemented(""))
    }

    async fn update_plan(
        &self,
        _: Request<api::UpdatePlanRequest>,
    ) -> Answer<api::UpdatePlanResponse> {
        Err(Status::unimplemented(""))
    }

    async fn delete_plan(
        &self,
        _: Request<api::DeletePlanRequest>,
    ) -> Answer<api::DeletePlanResponse> {
        Err(Status::unimplemented(""))
    }
}

/// A controller under way, and somebody who is signed in there.
struct Scene {
    home: TempDir,
    script: Arc<Script>,
    _running: DropGuard,
}

impl Scene {
    async fn start(script: Script) -> Self {
        let script = Arc::new(script);
        let installation = Uuid::new_v4();
        let authority = Authority::create(installation).unwrap();
        let identity = Identity::new(installation, Role::Controller, "controller").unwrap();
        let own = authority.issue(&identity, Duration::from_hours(1)).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = listener.local_addr().unwrap();
        let mut routes = RoutesBuilder::default();
        routes.add_service(JobServiceServer::new(Controller(script.clone())));
        routes.add_service(PlanServiceServer::new(Controller(script.clone())));
        routes.add_service(VolumeServiceServer::new(Controller(script.clone())));
        let shutdown = CancellationToken::new();
        let tls = server_config(&own, ClientAuth::Optional).unwrap();
        let limits = Limits::default();
        tokio::spawn(serve(
            listener,
            tls,
            routes.routes(),
            limits,
            shutdown.clone(),
        ));
        let home = TempDir::new().unwrap();
        let pem = certificate_pem(authority.certificate());
        let text = format!(
            "server = \"{server}\"\nuser = \"admin\"\ntoken = \"t\"\nauthority = '''\n{pem}'''\n"
        );
        let path = home.path().join("login.toml");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        Self {
            home,
            script,
            _running: shutdown.drop_guard(),
        }
    }

    async fn ending(end: Job) -> Self {
        Self::start(Script {
            end: Some(end),
            ..Script::default()
        })
        .await
    }

    async fn run(&self, words: &[&str]) -> Said {
        let mut command = taf(self.home.path());
        command.args(words);
        let output = tokio::task::spawn_blocking(move || command.output());
        output.await.unwrap().unwrap().into()
    }
}

#[tokio::test]
async fn a_job_is_followed_to_its_end_through_an_interruption() {
    let scene = Scene::ending(ended(JobState::Succeeded)).await;
    let said = scene.run(&["run", "daily"]).await.expect(0);
    let said = said.says(&[
        "job 7: running, writing\n",
        "job 7: backup of daily succeeded: 3 files",
    ]);
    assert!(said.stdout.is_empty());
    let key = scene.script.keys.lock().unwrap()[0].clone();
    assert_eq!(Uuid::parse_str(&key).unwrap().get_version_num(), 4);

    scene.script.away.store(1, Ordering::Relaxed);
    let said = scene.run(&["job", "watch", "7", "--json"]).await.expect(0);
    let said = said.says(&["the controller is away"]);
    assert_eq!(said.json()["state"], "JOB_STATE_SUCCEEDED");
    assert_eq!(said.json()["progress"]["byte_count"], "1000");
}

#[tokio::test]
async fn how_a_job_ends_is_the_exit_status() {
    let mut issues = ended(JobState::SucceededWithIssues);
    issues.progress.as_mut().unwrap().issue_count = 1;
    let scene = Scene::ending(issues).await;
    let said = scene.run(&["run", "daily"]).await.expect(3);
    said.says(&[
        "succeeded with issues",
        "/srv/\\x1b[31m: it was modified (CHANGED)",
    ]);

    let mut failed = ended(JobState::Failed);
    failed.error = Some(Fault {
        reason: "VOLUME_FULL".into(),
        message: "volume TAF001L8 is full".into(),
        next_step: "label another".into(),
    });
    let scene = Scene::ending(failed).await;
    let said = scene.run(&["run", "daily"]).await.expect(1);
    said.says(&["error: volume TAF001L8 is full (VOLUME_FULL)\nnext: label another\n"]);

    let scene = Scene::ending(ended(JobState::Cancelled)).await;
    let said = scene.run(&["job", "watch", "7"]).await.expect(1);
    said.says(&["JOB_CANCELLED", "next: "]);
}

/// What the words say after Ctrl-C, which comes while a job runs that never ends.
async fn interrupted(scene: &Scene, words: &[&str]) -> String {
    use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _};
    let mut command = tokio::process::Command::from(taf(scene.home.path()));
    command
        .args(words)
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let mut talk = tokio::io::BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while line != "job 7: running, writing\n" {
        line.clear();
        let length = talk.read_line(&mut line).await.unwrap();
        assert!(length > 0, "it ended before it followed the job");
    }
    let pid = nix::unistd::Pid::from_raw(child.id().unwrap() as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let mut rest = String::new();
    let ending = talk.read_to_string(&mut rest);
    let ended = tokio::time::timeout(Duration::from_mins(1), ending).await;
    ended.expect("it goes on").unwrap();
    assert_eq!(child.wait().await.unwrap().code(), Some(1), "{rest}");
    rest
}

#[tokio::test]
async fn ctrl_c_leaves_the_job_alone() {
    let scene = Scene::start(Script::default()).await;
    let rest = interrupted(&scene, &["run", "daily"]).await;
    assert!(rest.contains("taf job cancel 7"), "{rest}");
    assert!(scene.script.cancelled.lock().unwrap().is_empty());
    scene
        .run(&["job", "cancel", "7"])
        .await
        .expect(0)
        .says(&["is stopping"]);
    assert_eq!(*scene.script.cancelled.lock().unwrap(), ["jobs/7"]);
}

#[tokio::test]
async fn reads_are_tried_again_and_changes_are_not() {
    let scene = Scene::ending(ended(JobState::Succeeded)).await;
    scene.script.away.store(2, Ordering::Relaxed);
    let said = scene.run(&["job", "list", "--json"]).await.expect(0);
    assert_eq!(said.json()["jobs"].as_array().unwrap().len(), 4);
    scene.script.away.store(1, Ordering::Relaxed);
    scene
        .run(&["run", "daily"])
        .await
        .expect(1)
        .says(&["UNAVAILABLE", "next: "]);
    assert_eq!(scene.script.keys.lock().unwrap().len(), 1);
    let said = scene.run(&["run", "daily", "--detach"]).await.expect(0);
    assert_eq!(said.stdout, b"jobs/7\n");
}
