//! A site: a controller, its agents' certificates, and what a person asks of it.
#![allow(dead_code)]

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use taf_peer::material::Material;
use taf_proto::agent::assignment::Work;
use taf_proto::agent::catalog_service_client::CatalogServiceClient;
use taf_proto::agent::result::Done;
use taf_proto::agent::{Archive, AssignmentKey, BackupDone, Recording, WriteDone, WriteWork};
use taf_proto::agent::{ClaimDriveRequest, Worker};
use taf_proto::path;
use taf_proto::v1::device_service_client::DeviceServiceClient;
use taf_proto::v1::job_service_client::JobServiceClient;
use taf_proto::v1::plan_service_client::PlanServiceClient;
use taf_proto::v1::source_service_client::SourceServiceClient;
use taf_proto::v1::version_service_client::VersionServiceClient;
use taf_proto::v1::volume_service_client::VolumeServiceClient;
use taf_proto::v1::{self, AgentRole, JobState};
use tonic::Status;
use tonic::transport::Channel;
use uuid::Uuid;

use super::served::{self, Served, signed};
use super::support;
use super::units::{
    Address, Library, Robot, Unit, drive_element, drive_unit, slot, source_unit, within,
};
use super::world::{Attempt, Backup, Tree};
use taf_controller::catalog::Opened;
use taf_controller::config::Config;

/// The volume that a site begins with.
pub const VOLUME: &str = "TAF001L9";
/// The drive.
pub const DRIVE: &str = "D1";
/// Element address of the drive.
pub const AT_DRIVE: u32 = 256;

pub struct Site {
    pub served: Served,
    pub token: String,
    pub tape: Material,
    pub files: Material,
    pub address: Address,
    channel: Channel,
    lease: Duration,
}

/// All units of a small site, with the volume in the drive.
pub struct Units {
    pub library: Library,
    pub robot: Robot,
    pub drive: Unit,
    pub source: Unit,
}

impl Site {
    /// A controller with a source, a plan and one labelled volume; nobody is connected.
    pub async fn new() -> Self {
        Self::with_lease(Duration::from_secs(15)).await
    }

    /// As [`Site::new`], with another lease.
    pub async fn with_lease(lease: Duration) -> Self {
        Self::with_limits(lease, Duration::from_hours(1)).await
    }

    /// As [`Site::new`], with another lease and another patience for a further volume.
    pub async fn with_limits(lease: Duration, volume_wait: Duration) -> Self {
        Self::configured(lease, |config| config.volume_wait = volume_wait).await
    }

    /// As [`Site::new`], with another lease and whatever else is changed.
    pub async fn configured(lease: Duration, change: impl FnOnce(&mut Config)) -> Self {
        let url = support::empty_database().await;
        let home = tempfile::tempdir().unwrap();
        let served = Served::start_changed(home, url, |config| {
            config.lease = lease;
            change(config);
        })
        .await;
        let token = served.administrator().await;
        let files = served.enrol(&token, "files", AgentRole::Source).await;
        let tape = served.enrol(&token, "tape", AgentRole::Tape).await;
        let site = Self {
            channel: served.channel(None).await,
            address: Arc::new(Mutex::new(served.address.clone())),
            served,
            token,
            tape,
            files,
            lease,
        };
        let source = v1::CreateSourceRequest {
            source_id: "home".into(),
            source: Some(v1::Source {
                agent: "agents/files".into(),
                paths: vec![path::from_raw(&b"/srv"[..])],
                ..Default::default()
            }),
            ..Default::default()
        };
        SourceServiceClient::new(site.channel.clone())
            .create_source(signed(&site.token, source))
            .await
            .unwrap();
        site.plan("daily").await;
        site.volume_row(VOLUME).await;
        site
    }

    pub async fn plan(&self, id: &str) {
        let plan = v1::CreatePlanRequest {
            plan_id: id.into(),
            plan: Some(v1::Plan {
                source: "sources/home".into(),
                pool: "pools/default".into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        PlanServiceClient::new(self.channel.clone())
            .create_plan(signed(&self.token, plan))
            .await
            .unwrap();
    }

    /// A labelled volume that no label job made.
    pub async fn volume_row(&self, barcode: &str) {
        self.served
            .sql(&format!(
                "INSERT INTO volumes (barcode, volume_uuid, pool_id, state, recording_uuid, block_size, next_tape_file, \
                 next_block, labelled_at, created_at) SELECT '{barcode}', '{}', min(id), 'appendable', '{}', 65536, 1, 4, \
                 now(), now() FROM pools",
                Uuid::new_v4(),
                Uuid::new_v4(),
            ))
            .await;
    }

    /// Stops the controller and starts it anew, at another address; units find it there.
    pub async fn restarted(self) -> Self {
        self.restarted_after("SELECT 1", |_| ()).await
    }

    /// The same, with a change to the database and to the controller's home while it is away.
    pub async fn restarted_after(self, sql: &str, change: impl FnOnce(&Path)) -> Self {
        let (home, url) = self.served.stop().await;
        served::sql(&url, sql).await;
        change(home.path());
        let lease = self.lease;
        let served = Served::start_changed(home, url, |config| config.lease = lease).await;
        self.address.lock().unwrap().clone_from(&served.address);
        Self {
            channel: served.channel(None).await,
            served,
            ..self
        }
    }

    pub fn drive(&self) -> Unit {
        self.drive_as(Uuid::new_v4())
    }

    pub fn drive_as(&self, incarnation: Uuid) -> Unit {
        Unit::start(&self.address, &self.tape, incarnation, drive_unit(DRIVE))
    }

    pub fn source(&self) -> Unit {
        Unit::start(&self.address, &self.files, Uuid::new_v4(), source_unit())
    }

    /// Every unit connects; the volume is in the drive.
    pub async fn units(&self) -> Units {
        let library = Library::new(vec![
            drive_element(AT_DRIVE, DRIVE, VOLUME, 1000),
            slot(1000, ""),
            slot(1001, "BLANK1L9"),
        ]);
        let units = Units {
            robot: library.worker(&self.address, &self.tape),
            library,
            drive: self.drive(),
            source: self.source(),
        };
        units.robot.unit.connected().await;
        units.drive.connected().await;
        units.source.connected().await;
        units
    }

    pub async fn run(&self, plan: &str) -> String {
        self.run_as(plan, v1::VersionType::Unspecified).await
    }

    /// The same that is to make this.
    pub async fn run_as(&self, plan: &str, kind: v1::VersionType) -> String {
        let request = v1::RunPlanRequest {
            name: format!("plans/{plan}"),
            r#type: kind.into(),
            ..Default::default()
        };
        PlanServiceClient::new(self.channel.clone())
            .run_plan(signed(&self.token, request))
            .await
            .unwrap()
            .into_inner()
            .job
    }

    /// Waits until the library has shown the cartridge.
    pub async fn label(&self, barcode: &str) -> String {
        let request = v1::LabelVolumeRequest {
            barcode: barcode.into(),
            pool: "pools/default".into(),
            ..Default::default()
        };
        within("the cartridge", async {
            loop {
                let asked = VolumeServiceClient::new(self.channel.clone())
                    .label_volume(signed(&self.token, request.clone()))
                    .await;
                match asked {
                    Ok(answer) => return answer.into_inner().job,
                    Err(status) => {
                        let (reason, _) = taf_peer::faults::reason_of(&status).unwrap();
                        assert_eq!(reason, "CARTRIDGE_NOT_IN_LIBRARY", "{status}");
                    }
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
    }

    pub async fn restore(&self, version: &str) -> String {
        let request = v1::RestoreVersionRequest {
            version: version.into(),
            target: Some(path::from_raw(&b"/restored"[..])),
            ..Default::default()
        };
        VersionServiceClient::new(self.channel.clone())
            .restore_version(signed(&self.token, request))
            .await
            .unwrap()
            .into_inner()
            .job
    }

    pub async fn cancel(&self, job: &str) -> Result<(), Status> {
        let request = v1::CancelJobRequest {
            name: job.into(),
            ..Default::default()
        };
        JobServiceClient::new(self.channel.clone())
            .cancel_job(signed(&self.token, request))
            .await
            .map(drop)
    }

    pub async fn job(&self, name: &str) -> v1::Job {
        let request = v1::GetJobRequest { name: name.into() };
        let answer = JobServiceClient::new(self.channel.clone())
            .get_job(signed(&self.token, request))
            .await;
        answer.unwrap().into_inner().job.unwrap()
    }

    /// Waits until the job is as wanted.
    pub async fn until(&self, name: &str, wanted: impl Fn(&v1::Job) -> bool) -> v1::Job {
        let mut last = None;
        let waiting = async {
            loop {
                let job = self.job(name).await;
                if wanted(&job) {
                    return job;
                }
                last = Some(job);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let Ok(job) = tokio::time::timeout(super::units::PATIENCE, waiting).await else {
            panic!("the job does not become what is wanted: {last:#?}");
        };
        job
    }

    pub async fn waits_for(&self, name: &str, text: &str) {
        let job = self.until(name, |job| job.waiting_for.contains(text)).await;
        assert_eq!(job.state(), JobState::Queued);
    }

    pub async fn ended(&self, name: &str) -> v1::Job {
        self.until(name, |job| job.end_time.is_some()).await
    }

    pub async fn succeeded(&self, name: &str) -> v1::Job {
        let job = self.ended(name).await;
        assert_eq!(job.state(), JobState::Succeeded, "{job:#?}");
        job
    }

    /// Waits until it failed; gives the fault.
    pub async fn failed(&self, name: &str) -> v1::Fault {
        let job = self.ended(name).await;
        assert_eq!(job.state(), JobState::Failed, "{job:#?}");
        let fault = job.error.unwrap();
        assert!(!fault.message.is_empty() && !fault.next_step.is_empty());
        fault
    }

    pub async fn volume(&self, barcode: &str) -> v1::Volume {
        let request = v1::GetVolumeRequest {
            name: format!("volumes/{barcode}"),
        };
        VolumeServiceClient::new(self.channel.clone())
            .get_volume(signed(&self.token, request))
            .await
            .unwrap()
            .into_inner()
            .volume
            .unwrap()
    }

    /// Asks for a verification.
    pub async fn verify(
        &self,
        barcode: &str,
        validate_only: bool,
    ) -> Result<v1::VerifyVolumeResponse, Status> {
        let request = v1::VerifyVolumeRequest {
            name: format!("volumes/{barcode}"),
            validate_only,
            ..Default::default()
        };
        let answer = VolumeServiceClient::new(self.channel.clone())
            .verify_volume(signed(&self.token, request))
            .await?;
        Ok(answer.into_inner())
    }

    /// The tape files of a volume.
    pub async fn files(&self, barcode: &str) -> Vec<v1::TapeFile> {
        let request = v1::GetVolumeRequest {
            name: format!("volumes/{barcode}"),
        };
        VolumeServiceClient::new(self.channel.clone())
            .get_volume(signed(&self.token, request))
            .await
            .unwrap()
            .into_inner()
            .files
    }

    /// Waits until the drive is as wanted.
    pub async fn drive_until(&self, wanted: impl Fn(&v1::Drive) -> bool) -> v1::Drive {
        within("the drive", async {
            loop {
                let drives = DeviceServiceClient::new(self.channel.clone())
                    .list_drives(signed(&self.token, v1::ListDrivesRequest::default()))
                    .await
                    .unwrap()
                    .into_inner()
                    .drives;
                if let Some(drive) = drives.into_iter().find(|d| wanted(d)) {
                    return drive;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
    }

    /// As a source agent, asks for the drive of a backup: its worker, or why there is none yet.
    pub async fn claim(&self, key: AssignmentKey) -> Result<Worker, tonic::Status> {
        let channel = self.served.channel(Some(&self.files)).await;
        let request = ClaimDriveRequest { key: Some(key) };
        let answer = CatalogServiceClient::new(channel)
            .claim_drive(request)
            .await?;
        Ok(answer.into_inner().worker.unwrap())
    }

    /// Published versions.
    pub async fn versions(&self) -> Vec<v1::Version> {
        VersionServiceClient::new(self.channel.clone())
            .list_versions(signed(&self.token, v1::ListVersionsRequest::default()))
            .await
            .unwrap()
            .into_inner()
            .versions
    }

    /// Commits a small tree in one part, as the drive's worker does, and gives what the source agent says of it.
    pub async fn commit(&self, key: AssignmentKey, work: &WriteWork) -> BackupDone {
        self.commit_some(key, work, 1, 0..1).await
    }

    /// Commits these parts of `count`, counted from 0.
    pub async fn commit_some(
        &self,
        key: AssignmentKey,
        work: &WriteWork,
        count: usize,
        which: std::ops::Range<usize>,
    ) -> BackupDone {
        let archive = work.archive.as_ref().unwrap();
        let recording = work.recording.as_ref().unwrap();
        let tree = Tree::of(&[("srv/a", 700, 0), ("srv/b/c", 20_000, 0)]);
        let backup = Backup::of(&tree, archive.ordinal);
        let end = (recording.next_tape_file, recording.next_block);
        let mut parts = backup.parts_at(
            Uuid::from_slice(&recording.recording_uuid).unwrap(),
            end,
            &attempt(key, archive),
            count,
        );
        let skipped = (
            parts[which.start].header.tape_file - end.0,
            parts[which.start].header.first_block - end.1,
        );
        for part in &mut parts {
            part.header.tape_file = part.header.tape_file.saturating_sub(skipped.0);
            part.header.next_tape_file = part.header.next_tape_file.saturating_sub(skipped.0);
            part.header.first_block = part.header.first_block.saturating_sub(skipped.1);
            part.header.next_block = part.header.next_block.saturating_sub(skipped.1);
        }
        let channel = self.served.channel(Some(&self.tape)).await;
        for part in parts.drain(which) {
            CatalogServiceClient::new(channel.clone())
                .commit_part(futures::stream::iter(part.messages()))
                .await
                .unwrap();
        }
        backup.done()
    }

    /// A whole backup whose volume is in the drive already; gives the version's name.
    pub async fn backed_up(&self, units: &Units, plan: &str) -> String {
        let job = self.run(plan).await;
        let (key, work) = units.drive.given_write().await;
        let (source_key, _) = units.source.given().await;
        let done = self.commit(key, &work).await;
        units.source.finish(source_key, Some(Done::Backup(done)));
        units.drive.finish(key, Some(Done::Write(written(1))));
        self.succeeded(&job).await.version
    }
}

/// What a drive says of a whole archive.
pub fn written(part_count: u32) -> WriteDone {
    WriteDone {
        part_count,
        ..WriteDone::default()
    }
}

/// An attempt, as far as parts name it.
pub fn attempt(key: AssignmentKey, archive: &Archive) -> Attempt {
    Attempt {
        key,
        id: key.attempt as i64,
        job: 0,
        opened: Opened {
            line_id: 0,
            line_uuid: Uuid::from_slice(&archive.line_uuid).unwrap(),
            version: archive.version as i64,
            opening: taf_core::catalog::open(
                taf_core::catalog::Kind::Full,
                &taf_core::catalog::Line::default(),
            ),
            archive_id: 0,
            archive_uuid: Uuid::from_slice(&archive.archive_uuid).unwrap(),
            ordinal: archive.ordinal as i32,
        },
    }
}

impl Unit {
    /// The next work, which is to take parts.
    pub async fn given_write(&self) -> (AssignmentKey, WriteWork) {
        match self.given().await {
            (key, Work::Write(work)) => (key, work),
            other => panic!("no parts: {other:?}"),
        }
    }

    /// The next work, which is to write a label.
    pub async fn given_label(&self) -> (AssignmentKey, Recording) {
        match self.given().await {
            (key, Work::Label(work)) => (key, work.recording.unwrap()),
            other => panic!("no label: {other:?}"),
        }
    }
}
