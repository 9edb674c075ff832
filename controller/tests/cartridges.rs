//! Cartridges as they are: known by their own serial numbers, whatever barcode is on them; and drives that are cleaned without
//! being told. A whole controller with units made up for the test, over real mTLS and a real PostgreSQL.
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

use site::{AT_DRIVE, DRIVE, Site, Units, VOLUME};
use taf_proto::agent::assignment::Work;
use taf_proto::agent::drive_observation::Medium;
use taf_proto::agent::mount_service_client::MountServiceClient;
use taf_proto::agent::result::Done;
use taf_proto::agent::{AssignmentKey, Element, LabelDone, Recording, ReportMountRequest};
use taf_proto::v1::{self, Cleaning, VolumeState};
use units::{drive_element, slot};
use uuid::Uuid;

const BLANK: &str = "BLANK1L9";

fn labelled(medium_serial: &str) -> Done {
    Done::Label(LabelDone {
        next_block: 3,
        medium_serial: medium_serial.to_owned(),
        density: 0x60,
    })
}

/// The next work that is not to unload what is in the drive.
async fn given(units: &Units) -> (AssignmentKey, Work) {
    loop {
        let (key, work) = units.drive.given().await;
        if !matches!(work, Work::Unload(_)) {
            return (key, work);
        }
        let unloaded = Medium::Unloaded;
        units.drive.show_drive(Some(key), unloaded, "unloading");
        units.drive.finish(key, None);
    }
}

/// The next work, which is to write a label.
async fn given_label(units: &Units) -> (AssignmentKey, Recording) {
    match given(units).await {
        (key, Work::Label(work)) => (key, work.recording.unwrap()),
        other => panic!("no label: {other:?}"),
    }
}

/// Labels the blank cartridge, which has this serial number; gives what the drive did it for.
async fn label(site: &Site, units: &Units, medium_serial: &str) -> AssignmentKey {
    let job = site.label(BLANK).await;
    let (key, recording) = given_label(units).await;
    assert_eq!(recording.medium_serial, "");
    units.drive.finish(key, Some(labelled(medium_serial)));
    site.succeeded(&job).await;
    key
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_tells_which_cartridge_it_is_on_and_every_mount_is_told_so() {
    let site = Site::new().await;
    let units = site.units().await;
    label(&site, &units, "HA7").await;
    assert_eq!(site.volume(BLANK).await.medium_serial, "HA7");
    // Only that one takes anything now.
    let sql = format!("UPDATE volumes SET state = 'full' WHERE barcode = '{VOLUME}'");
    site.served.sql(&sql).await;
    site.run("daily").await;
    let (_, work) = units.drive.given_write().await;
    let recording = work.recording.unwrap();
    assert_eq!(
        (recording.barcode.as_str(), recording.medium_serial.as_str()),
        (BLANK, "HA7")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cartridge_that_got_another_barcode_is_not_two_volumes() {
    for (shown, expected) in [
        // Both are there: whoever makes these numbers gives the same to all.
        (true, VolumeState::Appendable),
        (false, VolumeState::Quarantined),
    ] {
        let site = Site::new().await;
        let units = site.units().await;
        let sql = format!("UPDATE volumes SET medium_serial = 'HA7' WHERE barcode = '{VOLUME}'");
        site.served.sql(&sql).await;
        if !shown {
            let here = vec![
                drive_element(AT_DRIVE, DRIVE, "", 0),
                slot(1000, ""),
                slot(1001, BLANK),
            ];
            units.library.put(here);
            units.library.show(&units.robot.unit);
        }
        let job = site.label(BLANK).await;
        let (key, _) = given_label(&units).await;
        units.drive.finish(key, Some(labelled("HA7")));
        site.succeeded(&job).await;
        let old = site.volume(VOLUME).await;
        assert_eq!(old.state(), expected, "{}", old.state_reason);
        if !shown {
            assert!(
                old.state_reason.contains(BLANK) && old.state_reason.contains("HA7"),
                "{}",
                old.state_reason
            );
        }
    }
}

/// The drive says, after a mount, whether it wants to be cleaned.
async fn asks(site: &Site, key: AssignmentKey, cleaning: Cleaning) {
    let stamp = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let request = ReportMountRequest {
        mount_uuid: Uuid::new_v4().as_bytes().to_vec().into(),
        key: Some(key),
        drive_serial: DRIVE.to_owned(),
        barcode: BLANK.to_owned(),
        mount: Some(v1::Mount {
            begin_time: stamp(100),
            end_time: stamp(200),
            ..v1::Mount::default()
        }),
        cleaning: cleaning.into(),
        ..ReportMountRequest::default()
    };
    let channel = site.served.channel(Some(&site.tape)).await;
    let mut mounts = MountServiceClient::new(channel);
    mounts.report_mount(request).await.unwrap();
}

fn shelf(cleaner: &str) -> Vec<Element> {
    vec![
        drive_element(AT_DRIVE, DRIVE, BLANK, 1001),
        slot(1000, VOLUME),
        slot(1001, ""),
        slot(1002, cleaner),
    ]
}

/// How often the controller had a drive cleaned by itself.
async fn cleanings(site: &Site) -> i64 {
    let sql = "SELECT count(*) FROM audit WHERE actor = 'controller' AND action = 'DeviceService.CleanDrive' \
               AND subject = 'drives/D1'";
    site.served.count(sql).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drive_that_asks_is_cleaned_once_and_without_being_told() {
    let site = Site::new().await;
    let units = site.units().await;
    let key = label(&site, &units, "HA7").await;
    asks(&site, key, Cleaning::Required).await;
    // There is nothing to do it with.
    let waits = |d: &v1::Drive| d.cleaning_waits_for.contains("has no cleaning cartridge");
    let drive = site.drive_until(waits).await;
    assert_eq!(drive.cleaning(), Cleaning::Required);
    assert!(drive.cleaning_waits_for.contains("taf library import"));
    assert_eq!(cleanings(&site).await, 0);

    units.library.put(shelf("CLN001L1"));
    units.library.show(&units.robot.unit);
    let (key, work) = given(&units).await;
    let Work::Clean(work) = work else {
        panic!("not to be cleaned: {work:?}")
    };
    assert_eq!(work.barcode, "CLN001L1");
    units.drive.show_drive(Some(key), Medium::Empty, "cleaning");
    units.drive.finish(key, None);
    let free = |d: &v1::Drive| d.job.is_empty() && d.cleaning() == Cleaning::NotWanted;
    let drive = site.drive_until(free).await;
    assert_eq!(drive.cleaning_waits_for, "");
    assert_eq!(cleanings(&site).await, 1);

    // It did not help: cleaning on and on would only wear the heads.
    asks(&site, key, Cleaning::Required).await;
    let again = |d: &v1::Drive| d.cleaning_waits_for.contains("asks again");
    let drive = site.drive_until(again).await;
    assert_eq!(drive.cleaning(), Cleaning::Required);
    // A further job finds the drive free.
    let job = site.run("daily").await;
    site.until(&job, |job| !job.drive.is_empty()).await;
    assert_eq!(cleanings(&site).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_wants_to_decide_himself_is_only_told() {
    let site = Site::configured(Duration::from_secs(15), |config| config.auto_clean = false).await;
    let units = site.units().await;
    let key = label(&site, &units, "HA7").await;
    units.library.put(shelf("CLN001L1"));
    units.library.show(&units.robot.unit);
    asks(&site, key, Cleaning::Requested).await;
    let drive = site
        .drive_until(|d| d.cleaning() == Cleaning::Requested)
        .await;
    assert_eq!(drive.cleaning_waits_for, "");
    // The reconciler has come by.
    let job = site.run("daily").await;
    site.until(&job, |job| !job.drive.is_empty()).await;
    assert_eq!(cleanings(&site).await, 0);
}
