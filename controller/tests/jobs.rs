//! Jobs from beginning to end: a whole controller with units made up for the test, over real mTLS and a real PostgreSQL.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "jobs/losses.rs"]
mod losses;
mod served;
#[path = "jobs/sessions.rs"]
mod sessions;
#[path = "units/site.rs"]
mod site;
mod support;
mod units;
#[allow(dead_code)]
#[path = "support/world.rs"]
mod world;

use std::time::Duration;

use served::{Served, reason, signed};
use site::{AT_DRIVE, DRIVE, Site, VOLUME};
use taf_peer::faults::reason_of;
use taf_proto::agent::assignment::Work;
use taf_proto::agent::drive_observation::Medium;
use taf_proto::agent::result::Done;
use taf_proto::agent::session_service_client::SessionServiceClient;
use taf_proto::agent::{
    AssignmentKey, Hello, LabelDone, Observation, OpenRequest, OpenResponse, RestoreDone,
    Result as WorkResult, SourceAbility, SourceUnit, WriteDone, hello, open_request, open_response,
};
use taf_proto::v1::version_service_client::VersionServiceClient;
use taf_proto::v1::{
    DriveFlow, DriveState, Fault, JobKind, JobState, RestoreVersionRequest, VolumeState,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use units::{Library, drive_element, drive_unit, slot, within};
use uuid::Uuid;

const WRITTEN: Option<Done> = Some(Done::Write(WriteDone {
    part_count: 1,
    next_volume_reason: String::new(),
}));
const LABELLED: Option<Done> = Some(Done::Label(LabelDone {
    next_block: 3,
    medium_serial: String::new(),
    density: 0,
}));
/// The shortest lease that units' signs of life, every 3 s, fit in.
const SHORT: Duration = Duration::from_secs(5);

fn elements(in_drive: &str, first: &str, second: &str) -> Vec<taf_proto::agent::Element> {
    vec![
        drive_element(AT_DRIVE, DRIVE, in_drive, 0),
        slot(1000, first),
        slot(1001, second),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_job_mounts_labels_and_ends() {
    let site = Site::new().await;
    let library = Library::new(elements("", VOLUME, "BLANK1L9"));
    let robot = library.worker(&site.address, &site.tape);
    let drive = site.drive();
    robot.unit.connected().await;
    drive.connected().await;
    site.drive_until(|d| !d.library.is_empty()).await;

    let job = site.label("BLANK1L9").await;
    let (key, recording) = drive.given_label().await;
    assert_eq!(recording.barcode, "BLANK1L9");
    assert_eq!(
        library.moves(),
        [("BLANK1L9".to_owned(), 1001, AT_DRIVE)],
        "it is brought before the drive is to write"
    );
    let running = site.job(&job).await;
    assert_eq!(running.state(), JobState::Running);
    assert_eq!(running.kind(), JobKind::Label);
    assert_eq!(running.drive, "drives/D1");
    assert_eq!(
        site.volume("BLANK1L9").await.state(),
        VolumeState::Labelling
    );
    assert_eq!(site.volume("BLANK1L9").await.reserved_by, job);

    drive.finish(key, LABELLED);
    site.succeeded(&job).await;
    let volume = site.volume("BLANK1L9").await;
    assert_eq!(volume.state(), VolumeState::Appendable);
    assert_eq!(volume.reserved_by, "");
    assert_eq!(volume.location, "drives/D1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_without_its_end_is_no_label() {
    let site = Site::new().await;
    let units = site.units().await;
    units.library.put(elements("", VOLUME, "BLANK1L9"));
    units.library.show(&units.robot.unit);
    site.drive_until(|d| !d.library.is_empty()).await;
    let job = site.label("BLANK1L9").await;
    let (key, _) = units.drive.given_label().await;
    units.drive.finish(key, None);
    assert_eq!(site.failed(&job).await.reason, "BAD_RESULT");
    let volume = site.volume("BLANK1L9").await;
    assert_eq!(volume.state(), VolumeState::Unlabelled);
    // And can be tried again, with another recording on the same cartridge.
    let again = site.label("BLANK1L9").await;
    let (key, recording) = units.drive.given_label().await;
    assert_ne!(
        Uuid::from_slice(&recording.recording_uuid)
            .unwrap()
            .to_string(),
        volume.recording_uuid
    );
    units.drive.finish(key, LABELLED);
    site.succeeded(&again).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_clears_the_drive_mounts_writes_and_publishes() {
    let site = Site::new().await;
    let library = Library::new(elements("OTHER1L9", VOLUME, ""));
    let robot = library.worker(&site.address, &site.tape);
    let drive = site.drive();
    let source = site.source();
    drive.show_drive(None, Medium::Loaded, "idle");
    for unit in [&*robot.unit, &drive, &source] {
        unit.connected().await;
    }
    let job = site.run("daily").await;

    let (unload, work) = drive.given().await;
    assert!(matches!(work, Work::Unload(_)), "{work:?}");
    assert!(library.moves().is_empty());
    let mounting = site.job(&job).await;
    assert_eq!(mounting.progress.unwrap().phase, "mounting");
    drive.show_drive(None, Medium::Unloaded, "idle");
    drive.finish(unload, None);

    let (key, write) = drive.given_write().await;
    assert_eq!(
        library.moves(),
        [
            ("OTHER1L9".to_owned(), AT_DRIVE, 1001),
            (VOLUME.to_owned(), 1000, AT_DRIVE)
        ]
    );
    let (source_key, work) = source.given().await;
    let Work::Backup(backup) = work else {
        panic!("no backup: {work:?}")
    };
    assert_eq!(
        (source_key.attempt, source_key.generation),
        (key.attempt, key.generation)
    );
    assert_eq!(write.peer_agent_id, "files");
    let worker = backup.worker.unwrap();
    assert_eq!(worker.agent_id, "tape");
    assert_eq!(worker.addresses, ["127.0.0.1:9"]);
    assert_eq!(backup.archive, write.archive);

    let done = site.commit(key, &write).await;
    assert!(
        site.versions().await.is_empty(),
        "committed is not published"
    );
    source.finish(source_key, Some(Done::Backup(done)));
    source.withdrawn(&source_key).await;
    assert_eq!(site.job(&job).await.state(), JobState::Running);
    drive.finish(key, WRITTEN);
    let job = site.succeeded(&job).await;
    let versions = site.versions().await;
    assert_eq!(versions.len(), 1);
    assert_eq!(versions[0].name, job.version);
    assert_eq!(versions[0].file_count, 2);
    let volume = site.volume(VOLUME).await;
    assert_eq!((volume.part_count, volume.reserved_by.as_str()), (1, ""));
    drive.withdrawn(&key).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drive_that_says_it_is_empty_after_unloading_is_cleared() {
    let site = Site::new().await;
    let units = site.units().await;
    units.library.put(elements("OTHER1L9", VOLUME, ""));
    units.library.show(&units.robot.unit);
    units.drive.show_drive(None, Medium::Empty, "idle");
    site.drive_until(|d| d.barcode == "OTHER1L9").await;
    site.run("daily").await;
    let (unload, work) = units.drive.given().await;
    assert!(matches!(work, Work::Unload(_)), "{work:?}");
    units.drive.finish(unload, None);
    units.drive.given_write().await;
    assert_eq!(units.library.moves().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_succeeds_with_its_source_and_ends_with_its_drive() {
    let site = Site::new().await;
    let units = site.units().await;
    let version = site.backed_up(&units, "daily").await;
    let job = site.restore(&version).await;
    let (key, work) = units.drive.given().await;
    let Work::Read(read) = work else {
        panic!("nothing to read: {work:?}")
    };
    assert_eq!(read.recording.unwrap().barcode, VOLUME);
    let (source_key, work) = units.source.given().await;
    let Work::Restore(restore) = work else {
        panic!("no restore: {work:?}")
    };
    assert!(restore.entry_count >= 4);
    let done = RestoreDone {
        file_count: 2,
        issue_count: 1,
        ..RestoreDone::default()
    };
    units.source.finish(source_key, Some(Done::Restore(done)));
    units.drive.withdrawn(&key).await;
    assert_eq!(site.job(&job).await.state(), JobState::Running);
    units.drive.fail(key, "STOPPED");
    let job = site.ended(&job).await;
    assert_eq!(job.state(), JobState::SucceededWithIssues, "{job:#?}");
    assert_eq!((job.version, &job.version_title[..]), (version, "daily@1"));
    site.served.sql("UPDATE lines SET archives = true").await;
    assert_eq!(site.job(&job.name).await.version_title, "daily@a1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_job_says_what_it_waits_for() {
    let site = Site::new().await;
    let job = site.run("daily").await;
    site.waits_for(&job, "source agent files is not connected")
        .await;
    let source = site.source();
    site.waits_for(&job, "no drive is connected").await;
    let drive = site.drive();
    site.waits_for(&job, "no library with a connected drive")
        .await;
    let library = Library::new(elements("", "", ""));
    let robot = library.worker(&site.address, &site.tape);
    site.waits_for(&job, "volume TAF001L9 is in no library")
        .await;
    library.put(elements("", VOLUME, VOLUME));
    library.show(&robot.unit);
    site.waits_for(&job, "two cartridges have barcode TAF001L9")
        .await;
    library.put(elements("", "", VOLUME));
    library.show(&robot.unit);
    drive.given_write().await;
    source.given().await;
    assert_eq!(site.job(&job).await.waiting_for, "");

    // One drive and one volume, and they are taken.
    site.plan("other").await;
    let second = site.run("other").await;
    site.waits_for(&second, "volume TAF001L9 is in use by another job")
        .await;
    site.volume_row("TAF002L9").await;
    library.put(elements(VOLUME, "TAF002L9", ""));
    library.show(&robot.unit);
    site.served
        .sql("UPDATE volumes SET byte_count = 5 WHERE barcode = 'TAF002L9'")
        .await;
    site.waits_for(&second, "TAF001L9 is in use").await;
    site.served
        .sql("UPDATE volumes SET state = 'full' WHERE barcode = 'TAF001L9'")
        .await;
    site.waits_for(&second, "every drive of the library is busy")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_without_volumes_fails_the_job_and_says_how_to_make_one() {
    let site = Site::new().await;
    site.served.sql("DELETE FROM volumes").await;
    let _units = site.units().await;
    let job = site.run("daily").await;
    let fault = site.failed(&job).await;
    assert_eq!(fault.reason, "NO_VOLUME");
    assert!(fault.next_step.contains("taf volume label"), "{fault:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queued_job_is_cancelled_at_once() {
    let site = Site::new().await;
    let backup = site.run("daily").await;
    site.cancel(&backup).await.unwrap();
    assert_eq!(site.ended(&backup).await.state(), JobState::Cancelled);
    assert_eq!(reason(site.cancel(&backup).await), "JOB_ENDED");

    let library = Library::new(elements("", VOLUME, "BLANK1L9"));
    let _robot = library.worker(&site.address, &site.tape);
    within("the inventory", async {
        while site
            .served
            .count("SELECT count(*) FROM elements WHERE barcode = 'BLANK1L9'")
            .await
            == 0
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let label = site.label("BLANK1L9").await;
    site.cancel(&label).await.unwrap();
    assert_eq!(site.ended(&label).await.state(), JobState::Cancelled);
    let volume = site.volume("BLANK1L9").await;
    assert_eq!(volume.state(), VolumeState::Unlabelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_cancelled_while_it_is_mounted_ends_with_the_move() {
    let site = Site::new().await;
    let units = site.units().await;
    units.library.put(elements("", VOLUME, ""));
    units.library.show(&units.robot.unit);
    site.drive_until(|d| !d.library.is_empty() && d.state() == DriveState::Empty)
        .await;
    units.library.hold(true);
    let job = site.run("daily").await;
    site.until(&job, |job| job.state() == JobState::Running)
        .await;
    let mut moving = units.robot.unit.session.assignments();
    let begun = moving.wait_for(|set| !set.is_empty());
    let key = within("the move", begun).await.unwrap()[0].key.unwrap();

    site.cancel(&job).await.unwrap();
    let sql = "SELECT count(*) FROM attempts WHERE verdict = 'cancelled'";
    within("the verdict", async {
        while site.served.count(sql).await == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    // Nobody else gets the drive while the robot is on its way to it.
    site.plan("other").await;
    let other = site.run("other").await;
    site.waits_for(&other, "in use by another job").await;
    assert_eq!(site.job(&job).await.state(), JobState::Running);
    assert!(units.robot.unit.has(&key), "a move is not taken back");

    units.library.hold(false);
    assert_eq!(site.ended(&job).await.state(), JobState::Cancelled);
    units.drive.given_write().await;
    assert_eq!(units.library.moves().len(), 1);
    assert_eq!(site.job(&other).await.state(), JobState::Running);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_cancelled_at_work_ends_when_its_drive_has_stopped() {
    let site = Site::new().await;
    let units = site.units().await;
    let job = site.run("daily").await;
    let (key, _) = units.drive.given_write().await;
    units.source.given().await;
    site.cancel(&job).await.unwrap();
    units.drive.withdrawn(&key).await;
    units.source.withdrawn(&key).await;
    units.source.fail(key, "STOPPED");
    units.source.acknowledged(&key).await;
    assert_eq!(site.job(&job).await.state(), JobState::Running);
    assert_eq!(site.volume(VOLUME).await.reserved_by, job);
    units.drive.fail(key, "STOPPED");
    let ended = site.ended(&job).await;
    assert_eq!(ended.state(), JobState::Cancelled);
    assert!(ended.error.is_none());
    assert_eq!(site.volume(VOLUME).await.reserved_by, "");
    assert!(site.versions().await.is_empty());
}
