//! Restores over several drives at once: who gets which volumes, and what becomes of a stream that can't go on.

use bytes::Bytes;
use taf_peer::faults;
use taf_proto::agent::assignment::Work;
use taf_proto::agent::catalog_service_client::CatalogServiceClient;
use taf_proto::agent::drive_observation::Medium;
use taf_proto::agent::fetch_recall_response::Message;
use taf_proto::agent::result::Done;
use taf_proto::agent::{
    AssignmentKey, FetchRecallRequest, LocateVolumeRequest, ReadDone, ReportIssuesRequest,
    RestoreDone, RestoreWork, TakeVolumesRequest, TakeVolumesResponse,
};
use taf_proto::path;
use taf_proto::v1::dump_service_client::DumpServiceClient;
use taf_proto::v1::dump_version_response::Message as Dumped;
use taf_proto::v1::version_service_client::VersionServiceClient;
use taf_proto::v1::{self, JobState};
use tonic::transport::Channel;
use tonic::{Code, Streaming};
use uuid::Uuid;

use super::served::signed;
use super::site::VOLUME;
use super::units::{Unit, drive_unit, within};
use super::{OTHER_DRIVE, SECOND, Scene, scene};

/// A stream that reads: what the drive and the source agent were given.
struct Reading {
    read: AssignmentKey,
    key: AssignmentKey,
    work: RestoreWork,
}

fn restored(files: u64, dropped: bool) -> Done {
    Done::Restore(RestoreDone {
        file_count: files,
        dropped,
        ..RestoreDone::default()
    })
}

impl Scene {
    /// A version on two volumes, each in a drive.
    async fn version(&self) -> String {
        let (job, first, second) = self.begun().await;
        let done = self.commit(&first, &["", "srv"]).await;
        self.finish(0, &first, done);
        let done = self.commit(&second, &["srv/b"]).await;
        self.finish(1, &second, done);
        self.site.succeeded(&job).await;
        // Indexes have tests of their own.
        let sql = "UPDATE volumes SET index_due = false";
        self.site.served.sql(sql).await;
        for drive in &self.drives {
            drive.show_drive(None, Medium::Loaded, "idle");
        }
        self.site.versions().await.pop().unwrap().name
    }

    async fn restore(&self, version: &str, drives: u32) -> String {
        self.restoring(version, drives, false).await.job
    }

    async fn restoring(
        &self,
        version: &str,
        drives: u32,
        dry_run: bool,
    ) -> v1::RestoreVersionResponse {
        let request = v1::RestoreVersionRequest {
            version: version.into(),
            target: Some(path::from_raw(&b"/restored"[..])),
            drives,
            dry_run,
            ..Default::default()
        };
        VersionServiceClient::new(self.site.served.channel(None).await)
            .restore_version(signed(&self.site.token, request))
            .await
            .unwrap()
            .into_inner()
    }

    /// What a dump begins with, and what comes of it.
    async fn dump(
        &self,
        version: &str,
        dry_run: bool,
    ) -> (
        v1::RestoreVersionResponse,
        Streaming<v1::DumpVersionResponse>,
    ) {
        let request = v1::DumpVersionRequest {
            version: version.into(),
            dry_run,
            ..Default::default()
        };
        let answer = DumpServiceClient::new(self.site.served.channel(None).await)
            .dump_version(signed(&self.site.token, request))
            .await;
        let mut pieces = answer.unwrap().into_inner();
        match pieces.message().await.unwrap().unwrap().message {
            Some(Dumped::Begun(begun)) => (begun.plan.unwrap(), pieces),
            other => panic!("it begins with {other:?}"),
        }
    }

    async fn reading(&self, drive: usize) -> Reading {
        let (read, Work::Read(_)) = self.drives[drive].given().await else {
            panic!("nothing is read")
        };
        self.drives[drive].show_drive(None, Medium::Loaded, "reading");
        let (key, Work::Restore(work)) = self.source.given().await else {
            panic!("no restore")
        };
        Reading { read, key, work }
    }

    async fn catalog(&self) -> CatalogServiceClient<Channel> {
        CatalogServiceClient::new(self.site.served.channel(Some(&self.site.files)).await)
    }

    async fn recording(&self, volume: &str) -> Bytes {
        let uuid: Uuid = self
            .site
            .volume(volume)
            .await
            .recording_uuid
            .parse()
            .unwrap();
        Bytes::copy_from_slice(uuid.as_bytes())
    }

    async fn take(&self, key: AssignmentKey, read: &[&str]) -> TakeVolumesResponse {
        let mut read_recording_uuids = Vec::new();
        for volume in read {
            read_recording_uuids.push(self.recording(volume).await);
        }
        let request = TakeVolumesRequest {
            key: Some(key),
            read_recording_uuids,
        };
        let answer = self.catalog().await.take_volumes(request).await;
        answer.unwrap().into_inner()
    }

    async fn gets(&self, key: AssignmentKey, read: &[&str], volumes: &[&str]) {
        let mut wanted = Vec::new();
        for volume in volumes {
            wanted.push(self.recording(volume).await);
        }
        let answer = self.take(key, read).await;
        assert_eq!((answer.recording_uuids, answer.complete), (wanted, false));
    }

    async fn until_complete(&self, key: AssignmentKey, read: &[&str]) {
        within("the end of all turns", async {
            while !self.take(key, read).await.complete {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    /// Paths that are listed for some volumes, those that have bytes on tape.
    async fn listed(&self, key: AssignmentKey, volumes: &[&str]) -> Vec<String> {
        let mut recording_uuids = Vec::new();
        for volume in volumes {
            recording_uuids.push(self.recording(volume).await);
        }
        let request = FetchRecallRequest {
            key: Some(key),
            recording_uuids,
            ..FetchRecallRequest::default()
        };
        let stream = self.catalog().await.fetch_recall(request).await;
        let mut stream = stream.unwrap().into_inner();
        let mut paths = Vec::new();
        while let Some(message) = stream.message().await.unwrap() {
            if let Some(Message::Items(some)) = message.message {
                let items = some.items.into_iter().filter(|i| i.ancestor.is_none());
                paths.extend(items.map(|i| String::from_utf8(i.path.to_vec()).unwrap()));
            }
        }
        paths
    }

    /// Why the drive of a stream will not give a volume. It may be told later than others see it.
    async fn lost(&self, key: AssignmentKey, volume: &str) -> String {
        let wanted = LocateVolumeRequest {
            key: Some(key),
            recording_uuid: self.recording(volume).await,
        };
        within("a lost drive", async {
            loop {
                let answer = self.catalog().await.locate_volume(wanted.clone()).await;
                match answer {
                    Err(status) if status.code() == Code::FailedPrecondition => {
                        return faults::reason_of(&status).unwrap().0;
                    }
                    _ => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
                }
            }
        })
        .await
    }

    /// A stream meets a file that it can't restore.
    async fn meets_damage(&self, stream: &Reading) {
        let issue = v1::Issue {
            path: Some(path::from_raw(&b"/srv/b/c"[..])),
            reason: "DAMAGED".into(),
            message: "it can't be read".into(),
        };
        let request = ReportIssuesRequest {
            key: Some(stream.key),
            first_number: 1,
            issues: vec![issue],
        };
        self.catalog().await.report_issues(request).await.unwrap();
    }

    /// Source agent and drive have done all of a stream.
    async fn ends(&self, drive: usize, stream: &Reading, done: Done) {
        self.source.finish(stream.key, Some(done));
        self.drives[drive].withdrawn(&stream.read).await;
        self.drives[drive].show_drive(None, Medium::Loaded, "idle");
        self.drives[drive].fail(stream.read, "STOPPED");
    }

    /// A stream leaves its drive to others.
    async fn rests(&self, drive: usize, stream: &Reading) {
        self.drives[drive].show_drive(None, Medium::Loaded, "idle");
        let left = Done::Read(ReadDone::default());
        self.drives[drive].finish(stream.read, Some(left));
        let sql = "SELECT count(*) FROM attempts WHERE stream = 0 AND ended_at IS NULL AND drive_id IS NULL";
        within("a free drive", async {
            while self.site.served.count(sql).await == 0 {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_volume_goes_to_one_stream_and_the_first_one_ends_all() {
    let scene = scene().await;
    let version = scene.version().await;
    let job = scene.restore(&version, 0).await;
    let first = scene.reading(0).await;
    assert_eq!(first.work.leader_attempt, 0);
    // Until it has chosen nobody joins it: one that does not choose reads everything.
    assert_eq!(scene.site.job(&job).await.streams.len(), 0);
    scene.gets(first.key, &[], &[VOLUME]).await;
    let second = scene.reading(1).await;
    assert_eq!(second.work.leader_attempt, first.key.attempt);
    scene.gets(second.key, &[], &[SECOND]).await;
    // Asked again they get the same.
    scene.gets(first.key, &[], &[VOLUME]).await;
    assert!(scene.take(second.key, &[SECOND]).await.complete);
    let mut both = scene.listed(first.key, &[VOLUME]).await;
    both.extend(scene.listed(second.key, &[SECOND]).await);
    both.sort();
    assert_eq!(both, ["srv", "srv/a", "srv/b", "srv/b/c"]);
    let mut all = scene.listed(first.key, &[]).await;
    all.sort();
    assert_eq!(all, both);

    // The other one may still fail, so it waits; but not with a drive.
    scene.gets(first.key, &[VOLUME], &[]).await;
    scene.rests(0, &first).await;
    let free = scene.site.drive_until(|d| d.name == "drives/D1").await;
    assert_eq!(free.job, "");
    scene.ends(1, &second, restored(1, false)).await;
    scene.until_complete(first.key, &[VOLUME]).await;
    scene.source.finish(first.key, Some(restored(1, false)));
    let ended = scene.site.succeeded(&job).await;
    assert_eq!(ended.progress.unwrap().file_count, 2);
    let volumes: Vec<_> = ended.streams.iter().map(|s| s.volumes.clone()).collect();
    let named = [VOLUME, SECOND].map(|volume| vec![format!("volumes/{volume}")]);
    assert_eq!(volumes, named);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_dropped_streams_have_left_others_do_and_in_the_end_the_first_one() {
    let scene = scene().await;
    let version = scene.version().await;
    let job = scene.restore(&version, 2).await;
    let first = scene.reading(0).await;
    scene.gets(first.key, &[], &[VOLUME]).await;
    for _ in 0..3 {
        let further = scene.reading(1).await;
        scene.gets(further.key, &[], &[SECOND]).await;
        scene.gets(first.key, &[VOLUME], &[]).await;
        scene.ends(1, &further, restored(0, true)).await;
    }
    let dropped = |job: &v1::Job| job.streams.iter().filter(|s| s.dropped).count() == 3;
    scene.site.until(&job, dropped).await;
    // It has left its drive to others, and gets one again.
    scene.rests(0, &first).await;
    scene.gets(first.key, &[VOLUME], &[SECOND]).await;
    let wanted = LocateVolumeRequest {
        key: Some(first.key),
        recording_uuid: scene.recording(SECOND).await,
    };
    let asked = scene.catalog().await.locate_volume(wanted.clone()).await;
    assert_eq!(asked.unwrap_err().code(), tonic::Code::Unavailable);
    let (read, Work::Read(_)) = scene.drives[1].given().await else {
        panic!("nothing is read")
    };
    let found = scene.catalog().await.locate_volume(wanted).await.unwrap();
    assert_eq!(found.into_inner().worker.unwrap().agent_id, "tape");
    assert!(scene.take(first.key, &[VOLUME, SECOND]).await.complete);
    let again = Reading { read, ..first };
    scene.ends(1, &again, restored(2, false)).await;
    scene.site.succeeded(&job).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_goes_on_without_drives_that_fail_and_remembers_the_damage_that_they_met() {
    let mut scene = scene().await;
    let version = scene.version().await;
    let job = scene.restore(&version, 0).await;
    let first = scene.reading(0).await;
    scene.gets(first.key, &[], &[VOLUME]).await;

    // The drive fails, and its worker has forgotten the work.
    let second = scene.reading(1).await;
    scene.gets(second.key, &[], &[SECOND]).await;
    scene.meets_damage(&second).await;
    scene.drives[1].fail(second.read, "LOAD_FAILED");
    assert_eq!(scene.lost(second.key, SECOND).await, "LOAD_FAILED");
    scene.drives[1].show_drive(None, Medium::Loaded, "idle");
    scene.source.finish(second.key, Some(restored(0, true)));

    // Another process is in its place.
    let third = scene.reading(1).await;
    scene.gets(third.key, &[], &[SECOND]).await;
    let site = &scene.site;
    let unit = drive_unit(OTHER_DRIVE);
    scene.drives[1] = Unit::start(&site.address, &site.tape, Uuid::new_v4(), unit);
    assert_eq!(scene.lost(third.key, SECOND).await, "DRIVE_LOST");
    scene.drives[1].show_drive(None, Medium::Loaded, "idle");
    scene.source.finish(third.key, Some(restored(0, true)));

    let last = scene.reading(1).await;
    scene.gets(last.key, &[], &[SECOND]).await;
    scene.ends(1, &last, restored(1, false)).await;
    scene.until_complete(first.key, &[VOLUME]).await;
    scene.ends(0, &first, restored(1, false)).await;
    let ended = scene.site.ended(&job).await;
    assert_eq!(ended.state(), JobState::SucceededWithIssues);
    let dropped = ended.streams.iter().map(|stream| stream.dropped);
    assert_eq!(
        dropped.collect::<Vec<_>>(),
        [false, true, true, false],
        "{ended:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn with_one_drive_everything_is_one_turn_and_a_stream_that_fails_ends_the_restore() {
    let scene = scene().await;
    let version = scene.version().await;
    let job = scene.restore(&version, 1).await;
    let first = scene.reading(0).await;
    scene.gets(first.key, &[], &[VOLUME, SECOND]).await;
    scene.ends(0, &first, restored(2, false)).await;
    assert_eq!(scene.site.succeeded(&job).await.streams.len(), 0);

    // A dump has one order, so it is as with one drive, and so is what is said of it beforehand.
    assert_eq!(scene.restoring(&version, 0, true).await.drive_count, 2);
    assert_eq!(scene.dump(&version, true).await.0.drive_count, 1);
    let (plan, _pieces) = scene.dump(&version, false).await;
    let first = scene.reading(0).await;
    scene.gets(first.key, &[], &[VOLUME, SECOND]).await;
    scene.ends(0, &first, restored(2, false)).await;
    let job = scene.site.succeeded(&plan.job).await;
    assert_eq!(job.streams.len(), 0);

    let job = scene.restore(&version, 0).await;
    let first = scene.reading(0).await;
    scene.gets(first.key, &[], &[VOLUME]).await;
    let second = scene.reading(1).await;
    scene.source.fail(second.key, "TARGET_FULL");
    for (drive, stream) in [(0, &first), (1, &second)] {
        scene.drives[drive].withdrawn(&stream.read).await;
        scene.drives[drive].fail(stream.read, "STOPPED");
    }
    assert_eq!(scene.site.failed(&job).await.reason, "TARGET_FULL");
    assert_eq!(scene.site.ended(&job).await.state(), JobState::Failed);
}
