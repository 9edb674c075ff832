//! Several backups on one drive and one volume: what the controller gives, and when it lets go.
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

use site::{AT_DRIVE, DRIVE, Site, Units, VOLUME, written};
use taf_proto::agent::assignment::Work;
use taf_proto::agent::drive_observation::Medium;
use taf_proto::agent::result::Done;
use taf_proto::agent::{AssignmentKey, WriteDone, WriteWork};
use taf_proto::v1::JobState;
use units::{drive_element, slot, within};

const SECOND: &str = "TAF002L9";
const LEASE: Duration = Duration::from_secs(15);

/// A site with two plans, whose pool lets two sources share a drive; the first cartridge is in the drive.
async fn site_of_two() -> (Site, Units) {
    let site = Site::with_limits(LEASE, Duration::from_hours(1)).await;
    let units = site.units().await;
    units.library.put(vec![
        drive_element(AT_DRIVE, DRIVE, VOLUME, 1000),
        slot(1000, ""),
        slot(1001, SECOND),
    ]);
    units.library.show(&units.robot.unit);
    site.drive_until(|d| d.barcode == VOLUME).await;
    site.plan("hourly").await;
    site.plan("weekly").await;
    site.served
        .sql("UPDATE pools SET sources_per_drive = 2")
        .await;
    (site, units)
}

/// The work as it is now: the recording's end moves.
async fn now(units: &Units, key: AssignmentKey, next_tape_file: u64) -> WriteWork {
    let mut assignments = units.drive.session.assignments();
    let find = |set: &[taf_proto::agent::Assignment]| {
        let found = set.iter().find(|a| a.key == Some(key))?.work.clone();
        match found {
            Some(Work::Write(work))
                if work.recording.as_ref().unwrap().next_tape_file == next_tape_file =>
            {
                Some(work)
            }
            _ => None,
        }
    };
    let set = assignments.wait_for(|set| find(set).is_some());
    let set = within("the recording's end", set).await.unwrap().clone();
    find(&set).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_backups_share_a_drive_a_third_waits_and_each_ends_by_itself() {
    let (site, units) = site_of_two().await;
    let first = site.run("daily").await;
    let (key, write) = units.drive.given_write().await;
    let (source, _) = units.source.given().await;
    units.drive.show_drive(Some(key), Medium::Loaded, "writing");
    site.commit_some(key, &write, 2, 0..1).await;

    let second = site.run("hourly").await;
    let (beside, other) = units.drive.given_write().await;
    let (other_source, _) = units.source.given().await;
    assert_eq!(other.beside, [key.attempt]);
    assert_eq!(other.recording.as_ref().unwrap().barcode, VOLUME);
    assert!(!other.continues);
    assert!(units.drive.has(&key) && units.drive.has(&beside));
    // Nothing was moved.
    assert_eq!(units.library.moves(), []);
    let seen = site.drive_until(|d| d.sources.len() == 2).await;
    assert_eq!(seen.job, first);
    let jobs: Vec<&str> = seen.sources.iter().map(|s| s.job.as_str()).collect();
    assert_eq!(jobs, [&first, &second]);
    assert_eq!(seen.sources[0].phase, "writing");

    let third = site.run("weekly").await;
    site.waits_for(&third, "in use by another job").await;

    // Parts of both, one behind the other.
    let other = now(
        &units,
        beside,
        other.recording.as_ref().unwrap().next_tape_file,
    )
    .await;
    let done = site.commit_some(beside, &other, 1, 0..1).await;
    let end = other.recording.as_ref().unwrap().next_tape_file + 1;
    units.source.finish(other_source, Some(Done::Backup(done)));
    units.drive.finish(beside, Some(Done::Write(written(1))));
    site.succeeded(&second).await;
    // The first one goes on, and there is room for the third.
    assert!(units.drive.has(&key));
    let (last, work) = units.drive.given_write().await;
    assert_eq!(work.beside, [key.attempt]);
    site.cancel(&third).await.unwrap();
    units.drive.withdrawn(&last).await;
    units.drive.fail(last, "STOPPED");
    assert_eq!(site.ended(&third).await.state(), JobState::Cancelled);
    assert!(units.drive.has(&key));

    let write = now(&units, key, end).await;
    let done = site.commit_some(key, &write, 2, 1..2).await;
    units.source.finish(source, Some(Done::Backup(done)));
    units.drive.finish(key, Some(Done::Write(written(2))));
    site.succeeded(&first).await;
    let volume = site.volume(VOLUME).await;
    assert_eq!((volume.part_count, volume.reserved_by.as_str()), (3, ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_says_nothing_gives_each_backup_a_drive_of_its_own() {
    let (site, units) = site_of_two().await;
    site.served
        .sql("UPDATE pools SET sources_per_drive = 1")
        .await;
    site.run("daily").await;
    units.drive.given_write().await;
    let second = site.run("hourly").await;
    site.waits_for(&second, "in use by another job").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_come_to_the_end_of_the_volume_and_share_the_next() {
    let (site, units) = site_of_two().await;
    let first = site.run("daily").await;
    let (key, write) = units.drive.given_write().await;
    units.source.given().await;
    site.commit_some(key, &write, 2, 0..1).await;
    let second = site.run("hourly").await;
    let (beside, _) = units.drive.given_write().await;
    units.source.given().await;
    site.volume_row(SECOND).await;
    site.served
        .sql(&format!(
            "UPDATE volumes SET state = 'full' WHERE barcode = '{VOLUME}'"
        ))
        .await;
    let full = |part_count| {
        Some(Done::Write(WriteDone {
            part_count,
            next_volume_reason: "the volume is full".into(),
        }))
    };
    units.drive.show_drive(Some(key), Medium::Loaded, "writing");
    units.drive.finish(key, full(1));
    // Nothing is moved while the other one is there.
    site.until(&first, |job| job.waiting_for.contains("still at work"))
        .await;
    assert!(units.drive.has(&beside));
    assert_eq!(units.library.moves(), []);
    units.drive.finish(beside, full(0));
    let (unload, work) = units.drive.given().await;
    assert!(matches!(work, Work::Unload(_)), "{work:?}");
    units.drive.show_drive(None, Medium::Unloaded, "idle");
    units.drive.finish(unload, None);
    let (one, write) = units.drive.given_write().await;
    assert!(write.continues);
    assert_eq!(write.recording.as_ref().unwrap().barcode, SECOND);
    let (two, other) = units.drive.given_write().await;
    assert!(other.continues);
    assert_eq!(other.recording.as_ref().unwrap().barcode, SECOND);
    assert_eq!(other.beside, [one.attempt]);
    assert_eq!(
        [one.attempt, two.attempt]
            .iter()
            .collect::<std::collections::BTreeSet<_>>(),
        [key.attempt, beside.attempt].iter().collect()
    );
    assert_eq!(units.library.moves().len(), 2);
    units.drive.show_drive(Some(one), Medium::Loaded, "writing");

    // The drive is lost: both are, and the volume stays theirs.
    let Units { drive, .. } = units;
    drop(drive);
    let drive = site.drive();
    drive.connected().await;
    for job in [&first, &second] {
        assert_eq!(site.failed(job).await.reason, "DRIVE_LOST");
    }
}
