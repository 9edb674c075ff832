//! Cartridges as they are: known by their own serial numbers, whatever barcode is on them; blank ones labelled and drives cleaned
//! without being told. A whole controller with units made up for the test, over real mTLS and a real PostgreSQL.
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

use served::signed;
use site::{AT_DRIVE, DRIVE, Site, Units, VOLUME};
use taf_proto::agent::assignment::Work;
use taf_proto::agent::drive_observation::Medium;
use taf_proto::agent::mount_service_client::MountServiceClient;
use taf_proto::agent::result::Done;
use taf_proto::agent::{AssignmentKey, Element, LabelDone, Recording, ReportMountRequest};
use taf_proto::v1::pool_service_client::PoolServiceClient;
use taf_proto::v1::{self, Cleaning, VolumeState};
use units::{drive_element, slot, within};
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

async fn pool_updated(site: &Site, auto_label: &str) -> v1::Pool {
    let request = v1::UpdatePoolRequest {
        pool: Some(v1::Pool {
            name: "pools/default".into(),
            auto_label: auto_label.into(),
            // Not named, so not changed.
            part_size: 1,
            ..v1::Pool::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: vec!["auto_label".into()],
        }),
        ..v1::UpdatePoolRequest::default()
    };
    let mut pools = PoolServiceClient::new(site.served.channel(None).await);
    let answer = pools.update_pool(signed(&site.token, request)).await;
    answer.unwrap().into_inner().pool.unwrap()
}

/// The volume is full, and there are cartridges that nobody knows.
async fn full_with(units: &Units, site: &Site, strangers: &[&str]) {
    let sql = format!("UPDATE volumes SET state = 'full' WHERE barcode = '{VOLUME}'");
    site.served.sql(&sql).await;
    let mut here = vec![drive_element(AT_DRIVE, DRIVE, "", 0), slot(1000, VOLUME)];
    here.extend(
        (1001..)
            .zip(strangers)
            .map(|(at, barcode)| slot(at, barcode)),
    );
    units.library.put(here);
    units.library.show(&units.robot.unit);
    // What the library showed first has the volume in the drive; before that the drive is taken for empty, too.
    let stored = format!(
        "SELECT count(*) FROM elements WHERE occupied AND barcode = '{VOLUME}' AND kind <> 'drive'"
    );
    within("what the library shows", async {
        while site.served.count(&stored).await == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    site.drive_until(|d| d.state() == v1::DriveState::Empty)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_without_a_volume_gets_a_blank_cartridge_of_a_pool_that_says_so() {
    let site = Site::new().await;
    let units = site.units().await;
    let strangers = ["ALIEN1L9", "CLN001L9", "DLY001L9", "DLY002L9", "DLY003LZ"];
    full_with(&units, &site, &strangers).await;
    // Nobody said that it may.
    let job = site.run("daily").await;
    assert_eq!(site.failed(&job).await.reason, "NO_VOLUME");

    let pool = pool_updated(&site, "DLY*").await;
    assert_eq!(
        (pool.auto_label.as_str(), pool.part_size),
        ("DLY*", 16 << 30)
    );
    let job = site.run("daily").await;
    // It is not blank: it stays as it is, and is never tried again.
    let (key, recording) = given_label(&units).await;
    assert_eq!(recording.barcode, "DLY001L9");
    assert!(site.job(&job).await.waiting_for.contains("DLY001L9"));
    units.drive.fail(key, "FOREIGN_VOLUME");
    let (key, recording) = given_label(&units).await;
    assert_eq!(recording.barcode, "DLY002L9");
    units.drive.finish(key, Some(labelled("HA9")));
    let (_, work) = given(&units).await;
    let Work::Write(work) = work else {
        panic!("nothing to write: {work:?}")
    };
    assert_eq!(work.recording.unwrap().barcode, "DLY002L9");
    assert_eq!(
        site.volume("DLY001L9").await.state(),
        VolumeState::Unlabelled
    );
    let sql = "SELECT count(*) FROM audit WHERE actor = 'controller' AND action = 'VolumeService.LabelVolume'";
    assert_eq!(site.served.count(sql).await, 2);
    let sql = "SELECT count(*) FROM volumes WHERE barcode IN ('ALIEN1L9', 'CLN001L9', 'DLY003LZ')";
    assert_eq!(site.served.count(sql).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_fails_when_nothing_blank_is_left() {
    let site = Site::new().await;
    let units = site.units().await;
    full_with(&units, &site, &["DLY001L9"]).await;
    pool_updated(&site, "*").await;
    let job = site.run("daily").await;
    let (key, _) = given_label(&units).await;
    units.drive.fail(key, "FOREIGN_VOLUME");
    assert_eq!(site.failed(&job).await.reason, "NO_VOLUME");
    let again = site.run("daily").await;
    assert_eq!(site.failed(&again).await.reason, "NO_VOLUME");
}
