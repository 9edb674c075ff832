//! Processes that die, fall silent or come back in the middle of a job.

use super::*;

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

    // It goes on with what is committed, and so begins without a drive.
    let second = site.run("daily").await;
    let (source_key, work) = units.source.given().await;
    let Work::Backup(backup) = work else {
        panic!("no backup: {work:?}")
    };
    assert!(backup.base.unwrap().resumes);
    site.claim(source_key).await.unwrap_err();
    let (key, work) = units.drive.given_write().await;
    let again = work.archive.clone().unwrap();
    assert_eq!((again.version, again.ordinal), (1, 2));
    assert_ne!(again.archive_uuid, archive.archive_uuid);
    let recording = work.recording.as_ref().unwrap();
    assert_eq!(
        recording.next_tape_file, 2,
        "what was committed keeps its room"
    );
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
