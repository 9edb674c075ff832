//! Jobs over several drives at once: what the controller makes of the attempts of one.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "streams/recalls.rs"]
mod recalls;
mod served;
#[path = "units/site.rs"]
mod site;
mod support;
mod units;
#[allow(dead_code)]
#[path = "support/world.rs"]
mod world;

use std::time::Duration;

use site::{AT_DRIVE, DRIVE, Site, VOLUME, attempt, written};
use taf_proto::agent::assignment::Work;
use taf_proto::agent::catalog_service_client::CatalogServiceClient;
use taf_proto::agent::drive_observation::Medium;
use taf_proto::agent::result::Done;
use taf_proto::agent::{AssignmentKey, BackupDone, BackupWork, WriteWork};
use taf_proto::v1::plan_service_client::PlanServiceClient;
use taf_proto::v1::{self, JobState};
use units::{Library, Robot, Unit, drive_element, drive_unit, slot, within};
use uuid::Uuid;
use world::{Backup, Tree};

const SECOND: &str = "TAF002L9";
const OTHER_DRIVE: &str = "D2";

struct Scene {
    site: Site,
    library: Library,
    _robot: Robot,
    drives: [Unit; 2],
    source: Unit,
}

/// Two drives, two volumes, and a plan whose versions may have two streams. The first volume is in the first drive.
async fn scene() -> Scene {
    let site = Site::new().await;
    site.volume_row(SECOND).await;
    let plan = v1::CreatePlanRequest {
        plan_id: "wide".into(),
        plan: Some(v1::Plan {
            source: "sources/home".into(),
            pool: "pools/default".into(),
            streams: 2,
            ..Default::default()
        }),
        ..Default::default()
    };
    let made = PlanServiceClient::new(site.served.channel(None).await)
        .create_plan(served::signed(&site.token, plan))
        .await
        .unwrap();
    assert_eq!(made.into_inner().plan.unwrap().streams, 2);
    let library = Library::new(vec![
        drive_element(AT_DRIVE, DRIVE, VOLUME, 1000),
        drive_element(AT_DRIVE + 1, OTHER_DRIVE, "", 0),
        slot(1000, ""),
        slot(1001, SECOND),
    ]);
    let start = |serial| {
        Unit::start(
            &site.address,
            &site.tape,
            Uuid::new_v4(),
            drive_unit(serial),
        )
    };
    let scene = Scene {
        _robot: library.worker(&site.address, &site.tape),
        library,
        drives: [start(DRIVE), start(OTHER_DRIVE)],
        source: site.source(),
        site,
    };
    for unit in [&scene.drives[0], &scene.drives[1], &scene.source] {
        unit.connected().await;
    }
    scene.site.drive_until(|d| d.barcode == VOLUME).await;
    scene
}

/// A stream under way: what the drive and the source agent were given.
struct Stream {
    write_key: AssignmentKey,
    write: WriteWork,
    backup_key: AssignmentKey,
    backup: BackupWork,
}

impl Scene {
    async fn stream(&self, number: usize) -> Stream {
        let (write_key, write) = self.drives[number].given_write().await;
        let (backup_key, Work::Backup(backup)) = self.source.given().await else {
            panic!("no backup")
        };
        self.drives[number].show_drive(None, Medium::Loaded, "writing");
        Stream {
            write_key,
            write,
            backup_key,
            backup,
        }
    }

    /// A run whose two streams are under way.
    async fn begun(&self) -> (String, Stream, Stream) {
        let job = self.site.run("wide").await;
        let first = self.stream(0).await;
        let second = self.stream(1).await;
        (job, first, second)
    }

    /// Commits what these directories of a small tree hold, in one part.
    async fn commit(&self, stream: &Stream, directories: &[&str]) -> BackupDone {
        let archive = stream.write.archive.as_ref().unwrap();
        let recording = stream.write.recording.as_ref().unwrap();
        let tree = Tree::of(&[("srv/a", 700, 0), ("srv/b/c", 20_000, 0)]);
        let mut backup = Backup::of(&tree, archive.ordinal);
        let wanted = |path: &[u8]| directories.iter().any(|name| name.as_bytes() == path);
        backup.pages.retain(|page| wanted(&page.directory));
        (backup.files, backup.directories) = (1, directories.len() as u64);
        let parts = backup.parts_at(
            Uuid::from_slice(&recording.recording_uuid).unwrap(),
            (recording.next_tape_file, recording.next_block),
            &attempt(stream.write_key, archive),
            1,
        );
        let channel = self.site.served.channel(Some(&self.site.tape)).await;
        for part in parts {
            CatalogServiceClient::new(channel.clone())
                .commit_part(futures::stream::iter(part.messages()))
                .await
                .unwrap();
        }
        backup.done()
    }

    /// Source agent and drive have done all of a stream.
    fn finish(&self, number: usize, stream: &Stream, done: BackupDone) {
        self.source
            .finish(stream.backup_key, Some(Done::Backup(done)));
        self.drives[number].finish(stream.write_key, Some(Done::Write(written(1))));
    }

    /// The drive ends what was withdrawn.
    async fn stop(&self, number: usize, stream: &Stream) {
        self.drives[number].withdrawn(&stream.write_key).await;
        self.drives[number].fail(stream.write_key, "STOPPED");
    }
}

fn dropped() -> BackupDone {
    BackupDone {
        dropped: true,
        ..BackupDone::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_goes_over_two_drives_and_is_published_when_both_are_done() {
    let scene = scene().await;
    let (job, first, second) = scene.begun().await;
    let work = [&first.backup, &second.backup];
    assert_eq!(work.map(|w| w.streams), [2, 2]);
    assert_eq!(work[0].leader_attempt, 0);
    assert_eq!(work[1].leader_attempt, first.backup_key.attempt);
    let archives = work.map(|w| w.archive.clone().unwrap());
    assert_eq!(archives[0].version, archives[1].version);
    assert_eq!(archives[0].ordinal + 1, archives[1].ordinal);
    assert_ne!(archives[0].archive_uuid, archives[1].archive_uuid);
    let moves = scene.library.moves();
    assert_eq!(moves, [(SECOND.to_owned(), 1001, AT_DRIVE + 1)]);
    let shown = scene.site.job(&job).await;
    let drives: Vec<&str> = shown.streams.iter().map(|s| s.drive.as_str()).collect();
    assert_eq!(drives, ["drives/D1", "drives/D2"]);

    // The first stream is done long before the other: nothing is published yet.
    let done = scene.commit(&first, &["", "srv"]).await;
    scene.finish(0, &first, done);
    scene.source.acknowledged(&first.backup_key).await;
    scene.source.withdrawn(&first.backup_key).await;
    assert_eq!(scene.site.versions().await.len(), 0);
    assert_eq!(scene.site.job(&job).await.state(), JobState::Running);
    let done = scene.commit(&second, &["srv/b"]).await;
    scene.finish(1, &second, done);
    let ended = scene.site.succeeded(&job).await;
    let volumes = [VOLUME, SECOND].map(|barcode| format!("volumes/{barcode}"));
    assert_eq!(ended.volumes, volumes);
    let progress = ended.progress.unwrap();
    assert_eq!((progress.file_count, progress.directory_count), (2, 3));
    let committed: Vec<u64> = ended
        .streams
        .iter()
        .map(|stream| stream.progress.as_ref().unwrap().committed_byte_count)
        .collect();
    assert!(committed.iter().all(|bytes| *bytes > 0), "{committed:?}");
    assert_eq!(progress.committed_byte_count, committed.iter().sum::<u64>());
    let version = scene.site.versions().await.pop().unwrap();
    assert_eq!(version.volumes, volumes);
    assert_eq!((version.file_count, version.directory_count), (2, 3));
    let sql = "SELECT count(*) FROM archives WHERE state = 'published'";
    assert_eq!(scene.site.served.count(sql).await, 2);
    // Both volumes are to get an index: the closing record names both.
    let sql = "SELECT count(*) FROM versions WHERE closing IS NOT NULL AND position(decode(replace((SELECT archive_uuid::text \
               FROM archives WHERE ordinal = 1), '-', ''), 'hex') IN closing) > 0 AND position(decode(replace((SELECT \
               archive_uuid::text FROM archives WHERE ordinal = 2), '-', ''), 'hex') IN closing) > 0";
    assert_eq!(scene.site.served.count(sql).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_has_nothing_is_dropped_and_its_drive_is_free() {
    let scene = scene().await;
    let (job, first, second) = scene.begun().await;
    scene
        .source
        .finish(second.backup_key, Some(Done::Backup(dropped())));
    scene.stop(1, &second).await;
    scene
        .site
        .until(&job, |job| job.streams.iter().any(|s| s.dropped))
        .await;
    within("a free volume", async {
        while !scene.site.volume(SECOND).await.reserved_by.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let done = scene.commit(&first, &["", "srv", "srv/b"]).await;
    scene.finish(0, &first, done);
    scene.site.succeeded(&job).await;
    let version = scene.site.versions().await.pop().unwrap();
    assert_eq!(version.volumes, [format!("volumes/{VOLUME}")]);
    let sql = "SELECT count(*) FROM archives WHERE state = 'abandoned'";
    assert_eq!(scene.site.served.count(sql).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_volume_does_not_come_does_no_harm() {
    let scene = scene().await;
    scene.library.model.lock().unwrap().fault = Some("MOVE_FAILED");
    let job = scene.site.run("wide").await;
    let first = scene.stream(0).await;
    scene
        .site
        .until(&job, |job| job.streams.iter().any(|s| s.dropped))
        .await;
    let done = scene.commit(&first, &["", "srv", "srv/b"]).await;
    scene.finish(0, &first, done);
    scene.site.succeeded(&job).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_one_stream_fails_the_job_fails_for_its_reason_and_the_next_run_is_whole() {
    let scene = scene().await;
    let (job, first, second) = scene.begun().await;
    scene.commit(&first, &["", "srv"]).await;
    // The first stream's own words say nothing of the cause, and come first.
    scene.source.fail(first.backup_key, "OTHER_STREAM");
    scene.drives[0].fail(first.write_key, "PEER_LOST");
    scene.source.acknowledged(&first.backup_key).await;
    scene.source.fail(second.backup_key, "PEER_LOST");
    scene.drives[1].fail(second.write_key, "WRITE_ERROR");
    assert_eq!(scene.site.failed(&job).await.reason, "WRITE_ERROR");
    assert_eq!(scene.site.versions().await.len(), 0);
    for volume in [VOLUME, SECOND] {
        assert_eq!(scene.site.volume(volume).await.reserved_by, "");
    }
    // Indexes have tests of their own.
    scene
        .site
        .served
        .sql("UPDATE volumes SET index_due = false")
        .await;

    let job = scene.site.run("wide").await;
    let first = scene.stream(0).await;
    // What several streams left is not gone on with: one may name places in another that never came to tape.
    let base = first.backup.base.unwrap_or_default();
    assert!(!base.resumes);
    scene.drives[1].show_drive(None, Medium::Loaded, "idle");
    let second = scene.stream(1).await;
    assert_eq!(second.backup.leader_attempt, first.backup_key.attempt);
    let done = scene.commit(&second, &["srv/b"]).await;
    scene.finish(1, &second, done);
    let done = scene.commit(&first, &["", "srv"]).await;
    scene.finish(0, &first, done);
    scene.site.succeeded(&job).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_ends_every_stream() {
    let scene = scene().await;
    let (job, first, second) = scene.begun().await;
    scene.site.cancel(&job).await.unwrap();
    scene.stop(0, &first).await;
    // The job lasts until the last drive is free.
    scene.drives[1].withdrawn(&second.write_key).await;
    assert_eq!(scene.site.job(&job).await.state(), JobState::Running);
    scene.drives[1].fail(second.write_key, "STOPPED");
    assert_eq!(scene.site.ended(&job).await.state(), JobState::Cancelled);
}
