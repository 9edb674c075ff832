//! Jobs that need more than one volume: what the controller does between two of them.
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
use site::{AT_DRIVE, DRIVE, Site, Units, VOLUME, written};
use taf_proto::agent::assignment::Work;
use taf_proto::agent::catalog_service_client::CatalogServiceClient;
use taf_proto::agent::drive_observation::Medium;
use taf_proto::agent::result::Done;
use taf_proto::agent::{
    AssignmentKey, LocateVolumeRequest, ReadDone, ReclaimDone, RestoreDone, WriteDone, WriteWork,
};
use taf_proto::v1::volume_service_client::VolumeServiceClient;
use taf_proto::v1::{JobState, ReclaimVolumesRequest};
use tonic::Code;
use units::{drive_element, slot, within};
use uuid::Uuid;

const SECOND: &str = "TAF002L9";
const LEASE: Duration = Duration::from_secs(15);

fn full() -> Done {
    Done::Write(WriteDone {
        part_count: 1,
        next_volume_reason: "the volume is full".into(),
    })
}

/// A site whose library has these two cartridges, the first in the drive.
async fn site_with(second: &str, volume_wait: Duration) -> (Site, Units) {
    let site = Site::with_limits(LEASE, volume_wait).await;
    let units = site.units().await;
    units.library.put(vec![
        drive_element(AT_DRIVE, DRIVE, VOLUME, 1000),
        slot(1000, ""),
        slot(1001, second),
    ]);
    units.library.show(&units.robot.unit);
    site.drive_until(|d| d.barcode == VOLUME).await;
    (site, units)
}

/// The drive unloads, and gets the next work.
async fn next_volume(units: &Units) -> (AssignmentKey, Work) {
    let (unload, work) = units.drive.given().await;
    assert!(matches!(work, Work::Unload(_)), "{work:?}");
    units.drive.show_drive(None, Medium::Unloaded, "idle");
    units.drive.finish(unload, None);
    units.drive.given().await
}

/// A backup that has its first part on the first volume, which is full then.
async fn begun(site: &Site, units: &Units) -> (String, AssignmentKey) {
    let job = site.run("daily").await;
    let (key, write) = units.drive.given_write().await;
    assert!(!write.continues);
    let (source_key, _) = units.source.given().await;
    site.commit_some(key, &write, 2, 0..1).await;
    units.drive.show_drive(None, Medium::Loaded, "idle");
    units.drive.finish(key, Some(full()));
    (job, source_key)
}

/// The second part of it, on the second volume; gives the version.
async fn ended(
    site: &Site,
    units: &Units,
    job: &str,
    source_key: AssignmentKey,
    (key, write): (AssignmentKey, WriteWork),
) -> String {
    assert!(write.continues);
    assert_eq!(write.recording.as_ref().unwrap().barcode, SECOND);
    assert!(
        units.source.has(&source_key),
        "the source agent goes on all the while"
    );
    assert_eq!(site.volume(SECOND).await.reserved_by, job);
    units.drive.show_drive(None, Medium::Loaded, "idle");
    let done = site.commit_some(key, &write, 2, 1..2).await;
    units.source.finish(source_key, Some(Done::Backup(done)));
    units.drive.finish(key, Some(Done::Write(written(2))));
    let job = site.succeeded(job).await;
    let volumes = [VOLUME, SECOND].map(|barcode| format!("volumes/{barcode}"));
    assert_eq!(job.volumes, volumes);
    let version = site.versions().await.pop().unwrap();
    assert_eq!(version.volumes, volumes);
    // Indexes, which would be written before the drive is needed for another volume, have tests of their own.
    site.served
        .sql("UPDATE volumes SET index_due = false")
        .await;
    version.name
}

fn as_write((key, work): (AssignmentKey, Work)) -> (AssignmentKey, WriteWork) {
    let Work::Write(write) = work else {
        panic!("nothing to write: {work:?}")
    };
    (key, write)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_goes_on_with_the_next_volume_and_a_restore_asks_for_each_once() {
    let (site, units) = site_with(SECOND, Duration::from_hours(1)).await;
    site.volume_row(SECOND).await;
    let (job, source_key) = begun(&site, &units).await;
    let write = as_write(next_volume(&units).await);
    assert_eq!(
        units.library.moves(),
        [
            (VOLUME.to_owned(), AT_DRIVE, 1000),
            (SECOND.to_owned(), 1001, AT_DRIVE)
        ]
    );
    assert_eq!(site.volume(VOLUME).await.reserved_by, "");
    let version = ended(&site, &units, &job, source_key, write).await;

    let job = site.restore(&version).await;
    let (unload, _) = units.drive.given().await;
    units.drive.show_drive(None, Medium::Unloaded, "idle");
    units.drive.finish(unload, None);
    let (key, work) = units.drive.given().await;
    let Work::Read(read) = work else {
        panic!("nothing to read: {work:?}")
    };
    assert_eq!(read.recording.unwrap().barcode, VOLUME);
    let (source_key, _) = units.source.given().await;
    let recording: Uuid = site.volume(SECOND).await.recording_uuid.parse().unwrap();
    let recording = bytes::Bytes::copy_from_slice(recording.as_bytes());
    let channel = site.served.channel(Some(&site.files)).await;
    let locate = || async {
        CatalogServiceClient::new(channel.clone())
            .locate_volume(LocateVolumeRequest {
                key: Some(source_key),
                recording_uuid: recording.clone(),
            })
            .await
    };
    assert_eq!(locate().await.unwrap_err().code(), Code::Unavailable);
    units.drive.show_drive(None, Medium::Loaded, "idle");
    let next = ReadDone {
        next_recording_uuid: recording.clone(),
    };
    units.drive.finish(key, Some(Done::Read(next)));
    let (key, work) = next_volume(&units).await;
    let Work::Read(read) = work else {
        panic!("nothing to read: {work:?}")
    };
    assert_eq!(read.recording.unwrap().barcode, SECOND);
    let worker = locate().await.unwrap().into_inner().worker.unwrap();
    assert_eq!(worker.agent_id, "tape");
    assert!(units.source.has(&source_key));
    let done = RestoreDone::default();
    units.source.finish(source_key, Some(Done::Restore(done)));
    units.drive.withdrawn(&key).await;
    units.drive.fail(key, "STOPPED");
    site.succeeded(&job).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_job_waits_visibly_for_a_volume_and_goes_on_when_there_is_one() {
    let (site, units) = site_with("", Duration::from_hours(1)).await;
    let (job, source_key) = begun(&site, &units).await;
    let waiting = site
        .until(&job, |job| job.waiting_for.contains("taf volume label"))
        .await;
    assert_eq!(waiting.state(), JobState::Running);
    assert!(waiting.waiting_for.contains("pool default"), "{waiting:?}");
    // It lies in no library yet.
    site.volume_row(SECOND).await;
    site.until(&job, |job| job.waiting_for.contains(SECOND))
        .await;
    units.library.put(vec![
        drive_element(AT_DRIVE, DRIVE, VOLUME, 1000),
        slot(1000, ""),
        slot(1001, SECOND),
    ]);
    units.library.show(&units.robot.unit);
    let write = as_write(next_volume(&units).await);
    assert_eq!(site.job(&job).await.waiting_for, "");
    ended(&site, &units, &job, source_key, write).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wait_for_a_volume_has_an_end_and_keeps_what_is_committed() {
    let (site, units) = site_with("", Duration::from_secs(1)).await;
    let (job, source_key) = begun(&site, &units).await;
    let fault = site.failed(&job).await;
    assert_eq!(fault.reason, "NO_VOLUME");
    for part in ["for a second", "pool default", "one part with"] {
        assert!(fault.message.contains(part), "{part}: {fault:?}");
    }
    units.source.withdrawn(&source_key).await;
    let volume = site.volume(VOLUME).await;
    assert_eq!((volume.part_count, volume.reserved_by.as_str()), (1, ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_or_a_person_that_ends_it_between_two_volumes_is_believed() {
    let (site, units) = site_with("", Duration::from_hours(1)).await;
    let (job, _) = begun(&site, &units).await;
    site.until(&job, |job| !job.waiting_for.is_empty()).await;
    // The transfer was in its memory.
    let Units { drive, .. } = units;
    drop(drive);
    let drive = site.drive();
    drive.connected().await;
    assert_eq!(site.failed(&job).await.reason, "DRIVE_LOST");

    let (site, units) = site_with("", Duration::from_hours(1)).await;
    let (job, source_key) = begun(&site, &units).await;
    site.until(&job, |job| !job.waiting_for.is_empty()).await;
    let site = site.restarted().await;
    let again = site.job(&job).await;
    assert_eq!(again.state(), JobState::Running);
    assert!(units.source.has(&source_key));
    site.cancel(&job).await.unwrap();
    assert_eq!(site.ended(&job).await.state(), JobState::Cancelled);
}

/// A version on the first volume, which is being reclaimed: what lived on it was collected, and is to be stored on the second one. Gives
/// the version, the job, and the drive's work.
async fn reclaiming(site: &Site, units: &Units) -> (String, String, AssignmentKey) {
    site.volume_row(SECOND).await;
    let version = site.backed_up(units, "daily").await;
    let unindexed = "UPDATE volumes SET index_due = false";
    site.served.sql(unindexed).await;
    let request = ReclaimVolumesRequest {
        names: vec![format!("volumes/{VOLUME}")],
        ..ReclaimVolumesRequest::default()
    };
    let mut service = VolumeServiceClient::new(site.served.channel(None).await);
    let asked = service.reclaim_volumes(signed(&site.token, request)).await;
    let job = asked.unwrap().into_inner().volumes.remove(0).job;
    let key = turn(units, units.drive.given().await, VOLUME);
    units
        .drive
        .finish(key, Some(reclaimed("the spool is full", true)));
    let key = turn(units, next_volume(units).await, SECOND);
    (version, job, key)
}

/// The turn of a reclaiming at this volume, which is in its drive.
fn turn(units: &Units, given: (AssignmentKey, Work), barcode: &str) -> AssignmentKey {
    let (key, recording) = match given {
        (key, Work::Collect(work)) => (key, work.recording),
        (key, Work::Store(work)) => (key, work.recording),
        other => panic!("nothing to reclaim: {other:?}"),
    };
    assert_eq!(recording.unwrap().barcode, barcode);
    units.drive.show_drive(None, Medium::Loaded, "idle");
    key
}

fn reclaimed(next: &str, collected: bool) -> Done {
    Done::Reclaim(ReclaimDone {
        next_volume_reason: next.into(),
        collected,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reclaiming_with_nothing_in_its_spool_lets_others_have_the_drive() {
    let (site, units) = site_with(SECOND, Duration::from_hours(1)).await;
    let (version, job, key) = reclaiming(&site, &units).await;
    // It was asked for later, and has the drive as soon as what was collected is on tape.
    let restore = site.restore(&version).await;
    site.waits_for(&restore, "").await;
    units
        .drive
        .finish(key, Some(reclaimed("more is to be read", false)));
    let (read, work) = next_volume(&units).await;
    assert!(matches!(work, Work::Read(_)), "{work:?}");
    let waiting = site.until(&job, |job| !job.waiting_for.is_empty());
    assert_eq!(waiting.await.state(), JobState::Running);
    let (source_key, _) = units.source.given().await;
    units.drive.show_drive(None, Medium::Loaded, "idle");
    let restored = RestoreDone::default();
    units
        .source
        .finish(source_key, Some(Done::Restore(restored)));
    units.drive.withdrawn(&read).await;
    units.drive.fail(read, "STOPPED");
    site.succeeded(&restore).await;
    let key = turn(&units, units.drive.given().await, VOLUME);
    units.drive.finish(key, Some(reclaimed("", false)));
    site.succeeded(&job).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reclaiming_with_nothing_in_its_spool_has_its_drive_cleaned() {
    const CLEANER: &str = "CLN001L1";
    let (site, units) = site_with(SECOND, Duration::from_hours(1)).await;
    let (_, job, key) = reclaiming(&site, &units).await;
    let cleaner = slot(1002, CLEANER);
    units.library.model.lock().unwrap().elements.push(cleaner);
    units.library.show(&units.robot.unit);
    let shown = format!("SELECT count(*) FROM elements WHERE barcode = '{CLEANER}'");
    within("the cleaning cartridge", async {
        while site.served.count(&shown).await == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    // What was collected is in the worker's memory: it gets to tape first.
    let asks = "UPDATE drives SET cleaning = 'required', clean_due = true";
    site.served.sql(asks).await;
    assert!(units.drive.has(&key));
    units
        .drive
        .finish(key, Some(reclaimed("more is to be read", false)));
    let (clean, work) = next_volume(&units).await;
    let Work::Clean(work) = work else {
        panic!("not to be cleaned: {work:?}")
    };
    assert_eq!(work.barcode, CLEANER);
    assert_eq!(site.job(&job).await.state(), JobState::Running);
    units
        .drive
        .show_drive(Some(clean), Medium::Empty, "cleaning");
    units.drive.finish(clean, None);
    let key = turn(&units, units.drive.given().await, VOLUME);
    let cleaned = "SELECT count(*) FROM jobs WHERE kind = 'drive-clean' AND state = 'succeeded'";
    assert_eq!(site.served.count(cleaned).await, 1);
    units.drive.finish(key, Some(reclaimed("", false)));
    site.succeeded(&job).await;
}
