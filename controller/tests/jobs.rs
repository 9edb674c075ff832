//! Jobs from beginning to end: a whole controller with units made up for the test, over real mTLS and a real PostgreSQL.
#![allow(clippy::unwrap_used, missing_docs)]

mod served;
#[path = "units/site.rs"]
mod site;
mod support;
mod units;
#[allow(dead_code)]
#[path = "support/world.rs"]
mod world;

use std::time::Duration;

use served::{Served, reason};
use site::{AT_DRIVE, DRIVE, Site, VOLUME};
use taf_peer::faults::reason_of;
use taf_proto::agent::assignment::Work;
use taf_proto::agent::drive_observation::Medium;
use taf_proto::agent::result::Done;
use taf_proto::agent::session_service_client::SessionServiceClient;
use taf_proto::agent::{
    AssignmentKey, Hello, LabelDone, Observation, OpenRequest, OpenResponse, RestoreDone,
    Result as WorkResult, WriteDone, hello, open_request, open_response,
};
use taf_proto::v1::{DriveFlow, DriveState, Fault, JobKind, JobState, VolumeState};
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
    assert_eq!(job.version, version);
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

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_was_restarted_fails_its_job_and_the_next_run_takes_the_number() {
    let site = Site::new().await;
    let mut units = site.units().await;
    let job = site.run("daily").await;
    let (key, work) = units.drive.given_write().await;
    units.source.given().await;
    let archive = work.archive.clone().unwrap();
    assert_eq!((archive.version, archive.ordinal), (1, 1));
    site.commit(key, &work).await;

    units.source = site.source();
    units.source.connected().await;
    units.drive.withdrawn(&key).await;
    assert_eq!(
        site.job(&job).await.state(),
        JobState::Running,
        "the drive has not stopped yet"
    );
    units.drive.fail(key, "PEER_LOST");
    assert_eq!(site.failed(&job).await.reason, "SOURCE_LOST");
    assert_eq!(site.job(&job).await.version, "", "there is no such version");

    let second = site.run("daily").await;
    let (key, work) = units.drive.given_write().await;
    let again = work.archive.clone().unwrap();
    assert_eq!((again.version, again.ordinal), (1, 2));
    assert_ne!(again.archive_uuid, archive.archive_uuid);
    let recording = work.recording.as_ref().unwrap();
    assert_eq!(
        recording.next_tape_file, 2,
        "what was committed keeps its room"
    );
    let (source_key, _) = units.source.given().await;
    let done = site.commit(key, &work).await;
    units.source.finish(source_key, Some(Done::Backup(done)));
    units.drive.finish(key, WRITTEN);
    assert!(
        site.succeeded(&second)
            .await
            .version
            .ends_with("/versions/1")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_side_whose_peer_never_comes_fails_the_job() {
    let site = Site::with_lease(SHORT).await;
    let units = site.units().await;
    let job = site.run("daily").await;
    let (key, _) = units.drive.given_write().await;
    units.source.given().await;
    // The drive is well and would wait for ever.
    units.source.fail(key, "PEER_LOST");
    units.drive.withdrawn(&key).await;
    units.drive.fail(key, "STOPPED");
    assert_eq!(site.failed(&job).await.reason, "PEER_LOST");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_drive_is_lost_and_its_volume_held_until_a_new_process_comes() {
    let site = Site::with_lease(SHORT).await;
    let units = site.units().await;
    let job = site.run("daily").await;
    units.drive.given_write().await;
    units.source.given().await;
    drop(units.drive);
    let fault = site.failed(&job).await;
    assert_eq!(fault.reason, "DRIVE_LOST");
    assert_eq!(site.volume(VOLUME).await.reserved_by, job);
    let lost = site.drive_until(|d| d.state() == DriveState::Unknown).await;
    assert!(
        lost.state_reason.contains("lost while it worked"),
        "{lost:?}"
    );

    let second = site.run("daily").await;
    site.waits_for(&second, "no drive is connected").await;
    let drive = site.drive();
    drive.given_write().await;
    assert_eq!(site.volume(VOLUME).await.reserved_by, second);
    let found = site.drive_until(|d| d.state() == DriveState::Busy).await;
    assert_eq!(found.state_reason, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drive_that_comes_back_without_ever_having_begun_frees_its_volume() {
    let site = Site::with_lease(SHORT).await;
    let mut units = site.units().await;
    let incarnation = units.drive.incarnation;
    let job = site.run("daily").await;
    units.drive.given_write().await;
    drop(units.drive);
    assert_eq!(site.failed(&job).await.reason, "DRIVE_LOST");
    // The same process: at work it keeps the volume, idle it does not.
    units.drive = site.drive_as(incarnation);
    let key = Some(AssignmentKey {
        attempt: 1,
        ..AssignmentKey::default()
    });
    units.drive.show_drive(key, Medium::Loaded, "writing");
    site.drive_until(|d| d.state() != DriveState::Unknown).await;
    let second = site.run("daily").await;
    site.waits_for(&second, "in use by another job").await;
    assert_eq!(site.volume(VOLUME).await.reserved_by, job);
    units.drive.show_drive(None, Medium::Loaded, "idle");
    units.drive.given_write().await;
    assert_eq!(site.volume(VOLUME).await.reserved_by, second);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_after_the_last_commit_costs_nothing() {
    let site = Site::new().await;
    let units = site.units().await;
    let job = site.run("daily").await;
    let (key, work) = units.drive.given_write().await;
    let (source_key, _) = units.source.given().await;
    let done = site.commit(key, &work).await;
    units.source.finish(source_key, Some(Done::Backup(done)));
    units.source.acknowledged(&source_key).await;
    drop(units.drive);
    let _drive = site.drive();
    site.succeeded(&job).await;
    assert_eq!(site.versions().await.len(), 1);
    assert_eq!(site.volume(VOLUME).await.reserved_by, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_restarted_after_its_report_costs_nothing_either() {
    let site = Site::new().await;
    let units = site.units().await;
    let job = site.run("daily").await;
    let (key, work) = units.drive.given_write().await;
    let (source_key, _) = units.source.given().await;
    let done = site.commit(key, &work).await;
    units.drive.finish(key, WRITTEN);
    units.drive.acknowledged(&key).await;
    let restarted = site.drive();
    restarted.connected().await;
    assert_eq!(site.job(&job).await.state(), JobState::Running);
    units.source.finish(source_key, Some(Done::Backup(done)));
    site.succeeded(&job).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_is_restarted_goes_on_where_it_was() {
    let site = Site::new().await;
    let units = site.units().await;
    let job = site.run("daily").await;
    let (key, work) = units.drive.given_write().await;
    let (source_key, _) = units.source.given().await;
    let site = site.restarted().await;
    // Nobody stopped meanwhile, and what ended is told to the new one.
    assert!(units.drive.has(&key) && units.source.has(&source_key));
    let done = site.commit(key, &work).await;
    units.source.finish(source_key, Some(Done::Backup(done)));
    units.drive.finish(key, WRITTEN);
    site.succeeded(&job).await;
    assert_eq!(site.versions().await.len(), 1);
    site.backed_up(&units, "daily").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_does_not_decide_shows_its_units_what_was_decided() {
    let site = Site::new().await;
    let home = tempfile::tempdir().unwrap();
    let key_file = site.served.home.path().join("cluster.key");
    let url = site.served.url.clone();
    let second =
        Served::start_changed(home, url, |config| config.cluster_key_file = key_file).await;
    let first = std::mem::replace(&mut *site.address.lock().unwrap(), second.address.clone());
    assert_ne!(first, second.address);
    let units = site.units().await;
    site.backed_up(&units, "daily").await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_robot_that_can_not_move_fails_the_job_and_frees_the_drive() {
    let site = Site::new().await;
    let units = site.units().await;
    units.library.put(elements("", VOLUME, ""));
    units.library.show(&units.robot.unit);
    units.library.model.lock().unwrap().fault = Some("MOVE_FAILED");
    site.drive_until(|d| d.state() == DriveState::Empty).await;
    let job = site.run("daily").await;
    assert_eq!(site.failed(&job).await.reason, "MOVE_FAILED");
    assert_eq!(site.volume(VOLUME).await.reserved_by, "");
    site.backed_up(&units, "daily").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_robot_restarted_in_the_middle_of_a_move_goes_on_and_one_that_stays_away_fails_the_job() {
    let site = Site::with_lease(SHORT).await;
    let mut units = site.units().await;
    units.library.put(elements("", VOLUME, ""));
    units.library.show(&units.robot.unit);
    site.drive_until(|d| d.state() == DriveState::Empty).await;
    units.library.hold(true);
    let job = site.run("daily").await;
    let mut moving = units.robot.unit.session.assignments();
    within("the move", moving.wait_for(|set| !set.is_empty()))
        .await
        .unwrap();
    // The first process moves the cartridge and dies before it can say so.
    units.library.put(elements(VOLUME, "", ""));
    units.library.hold(false);
    units.robot = units.library.worker(&site.address, &site.tape);
    let (key, _) = units.drive.given_write().await;
    units.drive.fail(key, "MEDIUM");
    assert_eq!(site.failed(&job).await.reason, "MEDIUM");

    units.library.put(elements("", VOLUME, ""));
    units.library.show(&units.robot.unit);
    site.drive_until(|d| d.state() == DriveState::Empty).await;
    units.library.hold(true);
    let job = site.run("daily").await;
    let mut moving = units.robot.unit.session.assignments();
    within("the move", moving.wait_for(|set| !set.is_empty()))
        .await
        .unwrap();
    drop(units.robot);
    assert_eq!(site.failed(&job).await.reason, "LIBRARY_LOST");
    assert_eq!(site.volume(VOLUME).await.reserved_by, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_catalog_does_not_take_fails_alone() {
    let site = Site::new().await;
    let units = site.units().await;
    units.library.put(elements("", VOLUME, "BLANK1L9"));
    units.library.show(&units.robot.unit);
    site.drive_until(|d| d.state() == DriveState::Empty).await;
    let label = site.label("BLANK1L9").await;
    let (key, _) = units.drive.given_label().await;
    // A row that no code of ours makes; a label can't be written into it.
    site.served
        .sql("UPDATE volumes SET state = 'unlabelled' WHERE barcode = 'BLANK1L9'")
        .await;
    units.drive.finish(key, LABELLED);
    units.drive.acknowledged(&key).await;
    // Another job is decided on meanwhile.
    let backup = site.run("daily").await;
    site.waits_for(&backup, "every drive of the library is busy")
        .await;
    site.cancel(&backup).await.unwrap();
    assert_eq!(site.ended(&backup).await.state(), JobState::Cancelled);
    assert_eq!(site.failed(&label).await.reason, "CATALOG_REFUSED");
    site.drive_until(|d| d.job.is_empty()).await;
}

/// A session that is spoken word by word.
struct Words {
    up: mpsc::Sender<OpenRequest>,
    down: Streaming<OpenResponse>,
}

impl Words {
    async fn open(
        site: &Site,
        own: &taf_peer::material::Material,
        unit: hello::Unit,
    ) -> Result<Self, Status> {
        let (up, requests) = mpsc::channel(8);
        let hello = Hello {
            incarnation: vec![7; 16].into(),
            unit: Some(unit),
            ..Hello::default()
        };
        let message = Some(open_request::Message::Hello(hello));
        up.send(OpenRequest { message }).await.unwrap();
        let channel = site.served.channel(Some(own)).await;
        let down = SessionServiceClient::new(channel)
            .open(ReceiverStream::new(requests))
            .await?
            .into_inner();
        let mut words = Self { up, down };
        let first = words.next().await?;
        assert!(matches!(first, open_response::Message::Welcome(_)));
        Ok(words)
    }

    async fn say(&self, message: open_request::Message) {
        let message = Some(message);
        self.up.send(OpenRequest { message }).await.unwrap();
    }

    async fn next(&mut self) -> Result<open_response::Message, Status> {
        let answer = within("an answer", self.down.message()).await?;
        Ok(answer.expect("the session goes on").message.unwrap())
    }

    /// The next set with something in it.
    async fn given(&mut self) -> (AssignmentKey, Work) {
        loop {
            if let open_response::Message::Assignments(set) = self.next().await.unwrap()
                && let Some(first) = set.assignments.into_iter().next()
            {
                return (first.key.unwrap(), first.work.unwrap());
            }
        }
    }

    async fn acknowledged(&mut self, key: AssignmentKey) {
        loop {
            if let open_response::Message::ResultAck(ack) = self.next().await.unwrap() {
                assert_eq!(ack.key, Some(key));
                return;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_session_replaces_the_older_and_gets_the_work() {
    let site = Site::new().await;
    let mut units = site.units().await;
    units.drive = site.drive();
    units.drive.connected().await;
    drop(units.drive);
    let mut older = Words::open(&site, &site.tape, drive_unit(DRIVE))
        .await
        .unwrap();
    let job = site.run("daily").await;
    let (key, _) = older.given().await;
    let mut newer = Words::open(&site, &site.tape, drive_unit(DRIVE))
        .await
        .unwrap();
    let ended = loop {
        if let Err(status) = older.next().await {
            break status;
        }
    };
    assert_eq!(ended.code(), Code::Aborted);
    assert_eq!(reason_of(&ended).unwrap().0, "SESSION_REPLACED");
    // The same process: its work goes on.
    assert_eq!(newer.given().await.0, key);
    newer
        .say(open_request::Message::Observation(Observation::default()))
        .await;
    assert_eq!(site.job(&job).await.state(), JobState::Running);
}

#[tokio::test(flavor = "multi_thread")]
async fn results_are_acknowledged_each_time_and_count_once() {
    let site = Site::new().await;
    let library = Library::new(elements("OTHER1L9", VOLUME, ""));
    let _robot = library.worker(&site.address, &site.tape);
    let _source = site.source();
    let mut drive = Words::open(&site, &site.tape, drive_unit(DRIVE))
        .await
        .unwrap();
    let job = site.run("daily").await;
    let (unload, work) = drive.given().await;
    assert!(matches!(work, Work::Unload(_)), "{work:?}");
    let result = |key, fault: Option<&str>| {
        open_request::Message::Result(WorkResult {
            key: Some(key),
            fault: fault.map(|reason| Fault {
                reason: reason.into(),
                message: "as the test wants it".into(),
                next_step: "look at the test".into(),
            }),
            done: None,
        })
    };
    let seen = taf_proto::agent::DriveObservation {
        medium: Medium::Unloaded.into(),
        phase: "idle".into(),
        ..Default::default()
    };
    drive
        .say(open_request::Message::Observation(Observation {
            key: None,
            seen: Some(taf_proto::agent::observation::Seen::Drive(seen)),
        }))
        .await;
    for _ in 0..2 {
        drive.say(result(unload, None)).await;
        drive.acknowledged(unload).await;
    }
    let (key, work) = drive.given().await;
    assert!(matches!(work, Work::Write(_)), "{work:?}");
    assert_eq!(library.moves().len(), 2);
    // A result of a step that is over, and one of another attempt, change nothing.
    drive.say(result(unload, Some("LATE"))).await;
    drive.acknowledged(unload).await;
    let foreign = AssignmentKey {
        attempt: key.attempt + 1,
        ..key
    };
    drive.say(result(foreign, Some("FOREIGN"))).await;
    drive.acknowledged(foreign).await;
    assert_eq!(site.job(&job).await.state(), JobState::Running);
    let flow = DriveFlow {
        ring_byte_count: 5,
        ring_size: 10,
        collecting: true,
        starved_count: 3,
        reposition_count: Some(4),
        ..DriveFlow::default()
    };
    let seen = taf_proto::agent::DriveObservation {
        medium: Medium::Loaded.into(),
        phase: "collecting".into(),
        flow: Some(flow),
        ..Default::default()
    };
    drive
        .say(open_request::Message::Observation(Observation {
            key: Some(key),
            seen: Some(taf_proto::agent::observation::Seen::Drive(seen)),
        }))
        .await;
    let shown = site.drive_until(|drive| drive.flow.is_some()).await;
    assert_eq!(
        (shown.phase.as_str(), shown.flow),
        ("collecting", Some(flow))
    );
    let progress = site.job(&job).await.progress.unwrap();
    assert_eq!(progress.phase, "collecting");
    assert_eq!(progress.drive_flow, Some(flow));
    drive.say(result(key, Some("MEDIUM"))).await;
    drive.acknowledged(key).await;
    drive.say(result(key, Some("LATE"))).await;
    drive.acknowledged(key).await;
    assert_eq!(site.failed(&job).await.reason, "MEDIUM");
    // What it came to stays with the job.
    let flow = site.job(&job).await.progress.unwrap().drive_flow.unwrap();
    assert_eq!((flow.starved_count, flow.reposition_count), (3, Some(4)));
    assert_eq!((flow.ring_byte_count, flow.collecting), (0, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unit_is_what_its_certificate_says() {
    let site = Site::new().await;
    let refused = Words::open(&site, &site.files, drive_unit(DRIVE)).await;
    assert_eq!(reason_of(&refused.err().unwrap()).unwrap().0, "WRONG_ROLE");
    let refused = Words::open(&site, &site.tape, units::source_unit()).await;
    assert_eq!(reason_of(&refused.err().unwrap()).unwrap().0, "WRONG_ROLE");
    // Another drive's word on somebody's work does not count.
    let units = site.units().await;
    let job = site.run("daily").await;
    let (key, _) = units.drive.given_write().await;
    let mut other = Words::open(&site, &site.tape, drive_unit("D2"))
        .await
        .unwrap();
    other
        .say(open_request::Message::Result(WorkResult {
            key: Some(key),
            fault: Some(Fault {
                reason: "MEDIUM".into(),
                ..Fault::default()
            }),
            done: None,
        }))
        .await;
    other.acknowledged(key).await;
    units.drive.fail(key, "HARDWARE");
    assert_eq!(site.failed(&job).await.reason, "HARDWARE");
}
