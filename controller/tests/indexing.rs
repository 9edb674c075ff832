//! When a volume gets its index: before its drive is needed for another, and never so often that nothing else is done.
#![allow(clippy::unwrap_used, missing_docs)]

mod served;
#[path = "units/site.rs"]
mod site;
mod support;
mod units;
#[allow(dead_code)]
#[path = "support/world.rs"]
mod world;

use site::{AT_DRIVE, DRIVE, Site, VOLUME};
use taf_proto::agent::assignment::Work;
use taf_proto::agent::drive_observation::Medium;
use taf_proto::agent::result::Done;
use taf_proto::agent::{AssignmentKey, IndexDone};
use taf_proto::v1::{JobKind, JobState};
use units::{Unit, drive_element, slot};

async fn given_index(drive: &Unit) -> AssignmentKey {
    let (key, work) = drive.given().await;
    let Work::Index(index) = work else {
        panic!("no index: {work:?}")
    };
    assert_eq!(index.recording.unwrap().barcode, VOLUME);
    key
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_has_its_index_before_its_drive_is_needed_for_another() {
    let site = Site::new().await;
    let units = site.units().await;
    site.backed_up(&units, "daily").await;
    units.library.put(vec![
        drive_element(AT_DRIVE, DRIVE, VOLUME, 0),
        slot(1000, "BLANK1L9"),
        slot(1001, ""),
    ]);
    units.library.show(&units.robot.unit);
    site.drive_until(|d| d.barcode == VOLUME).await;

    let label = site.label("BLANK1L9").await;
    let key = given_index(&units.drive).await;
    site.waits_for(&label, "every drive of the library is busy")
        .await;
    assert!(units.library.moves().is_empty());
    let reserved = site.volume(VOLUME).await.reserved_by;
    let index = site.job(&reserved).await;
    assert_eq!(
        (index.kind(), index.volume.as_str()),
        (JobKind::Index, "volumes/TAF001L9")
    );
    assert_eq!(index.creator, "controller");
    // It could not be written; it is tried again, and then no more until there is more to tell.
    units.drive.fail(key, "MEDIUM_ERROR");
    assert_eq!(site.ended(&reserved).await.state(), JobState::Failed);
    let key = given_index(&units.drive).await;
    units.drive.fail(key, "MEDIUM_ERROR");
    let key = given_index(&units.drive).await;
    // One that says that it is done and told of nothing counts no more than one that failed.
    units
        .drive
        .finish(key, Some(Done::Index(IndexDone::default())));
    let (_, work) = units.drive.given().await;
    assert!(matches!(work, Work::Unload(_)), "{work:?}");
    assert_eq!(site.job(&label).await.state(), JobState::Running);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_goes_on_with_the_volume_is_not_kept_waiting_by_its_index() {
    let site = Site::new().await;
    let units = site.units().await;
    site.backed_up(&units, "daily").await;
    units.drive.show_drive(None, Medium::Loaded, "idle");
    let version = site.backed_up(&units, "daily").await;
    assert!(version.ends_with("/2"), "{version}");
}
