//! Backups that are compared with an earlier version: they begin with their source agent alone, and a drive takes part when it
//! is asked for. A whole controller with units made up for the test.
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

use site::{Site, Units, VOLUME, written};
use taf_proto::agent::assignment::Work;
use taf_proto::agent::catalog_service_client::CatalogServiceClient;
use taf_proto::agent::result::Done;
use taf_proto::agent::{
    AssignmentKey, BackupDone, BackupWork, Base, BaseKind, FetchBaseRequest, Worker,
};
use taf_proto::v1::{JobState, VersionType};
use units::{Unit, slot, within};

impl Site {
    /// How many pages the base has.
    async fn base_pages(&self, key: AssignmentKey) -> usize {
        let channel = self.served.channel(Some(&self.files)).await;
        let request = FetchBaseRequest {
            key: Some(key),
            kind: BaseKind::Head.into(),
            ..FetchBaseRequest::default()
        };
        let mut pages = 0;
        let mut stream = CatalogServiceClient::new(channel)
            .fetch_base(request)
            .await
            .unwrap()
            .into_inner();
        while let Some(message) = stream.message().await.unwrap() {
            pages += message.pages.len();
        }
        pages
    }

    async fn claimed(&self, key: AssignmentKey) -> Worker {
        within("a drive", async {
            loop {
                match self.claim(key).await {
                    Ok(worker) => return worker,
                    Err(status) => {
                        let (reason, _) = taf_peer::faults::reason_of(&status).unwrap();
                        assert_eq!(reason, "NOT_READY", "{status}");
                    }
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await
    }
}

async fn backup(unit: &Unit) -> (AssignmentKey, BackupWork) {
    match unit.given().await {
        (key, Work::Backup(work)) => (key, work),
        other => panic!("no backup: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_with_a_base_asks_for_its_drive_when_it_has_something_to_store() {
    let site = Site::new().await;
    let units: Units = site.units().await;
    site.backed_up(&units, "daily").await;
    // Nobody could write now; the comparison needs no drive.
    let job = site.run_as("daily", VersionType::Incremental).await;
    let (key, work) = backup(&units.source).await;
    assert!(work.worker.is_none());
    let base = Base {
        head_version: 1,
        full_version: 0,
        resumes: false,
    };
    assert_eq!(work.base, Some(base));
    let running = site.job(&job).await;
    assert_eq!(
        (running.state(), running.drive.as_str()),
        (JobState::Running, "")
    );
    assert_eq!(running.version_type(), VersionType::Incremental);
    assert_eq!(site.base_pages(key).await, 3);

    let refused = site.claim(key).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unavailable);
    let (drive_key, write) = units.drive.given_write().await;
    assert_eq!(drive_key.attempt, key.attempt);
    assert!(!write.continues);
    assert_eq!(site.claimed(key).await.agent_id, "tape");
    assert!(units.source.has(&key), "it is the same work as before");
    let done = site.commit(drive_key, &write).await;
    units.source.finish(key, Some(Done::Backup(done)));
    units.drive.finish(drive_key, Some(Done::Write(written(1))));
    let job = site.succeeded(&job).await;
    let versions = site.versions().await;
    assert_eq!(versions[0].name, job.version);
    assert_eq!(versions[0].r#type(), VersionType::Incremental);
    assert_eq!((versions[0].parent_number, versions[0].full_number), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_in_which_nothing_changed_moves_no_cartridge() {
    let site = Site::new().await;
    let units = site.units().await;
    site.backed_up(&units, "daily").await;
    // The volume is outside: whoever needs it waits.
    units.library.put(vec![
        units::drive_element(site::AT_DRIVE, site::DRIVE, "", 0),
        slot(1000, ""),
    ]);
    units.library.show(&units.robot.unit);
    let job = site.run_as("daily", VersionType::Differential).await;
    let (key, work) = backup(&units.source).await;
    assert_eq!(work.base.unwrap().full_version, 1);
    let done = BackupDone {
        unchanged: true,
        file_count: 2,
        directory_count: 2,
        ..BackupDone::default()
    };
    units.source.finish(key, Some(Done::Backup(done)));
    let job = site.succeeded(&job).await;
    assert_eq!((job.drive.as_str(), job.volumes.len()), ("", 0));
    assert!(units.library.moves().is_empty());
    let version = &site.versions().await[0];
    assert_eq!((version.number, version.file_count), (2, 2));
    assert_eq!(version.r#type(), VersionType::Differential);
    assert_eq!((version.stored_byte_count, version.full_number), (0, 1));
    assert_eq!(
        version.volumes,
        [format!("volumes/{VOLUME}")],
        "it needs what the full has"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_waits_for_its_drive_says_so_and_can_be_cancelled() {
    let site = Site::new().await;
    let units = site.units().await;
    site.backed_up(&units, "daily").await;
    units.library.put(vec![
        units::drive_element(site::AT_DRIVE, site::DRIVE, "", 0),
        slot(1000, ""),
    ]);
    units.library.show(&units.robot.unit);
    site.drive_until(|d| d.barcode.is_empty()).await;
    let job = site.run_as("daily", VersionType::Incremental).await;
    let (key, _) = backup(&units.source).await;
    site.claim(key).await.unwrap_err();
    site.until(&job, |job| job.waiting_for.contains(VOLUME))
        .await;
    site.cancel(&job).await.unwrap();
    units.source.withdrawn(&key).await;
    assert_eq!(site.ended(&job).await.state(), JobState::Cancelled);
    // Nothing of it is left in the way.
    let next = site.run_as("daily", VersionType::Incremental).await;
    let (key, _) = backup(&units.source).await;
    let done = BackupDone {
        unchanged: true,
        ..BackupDone::default()
    };
    units.source.finish(key, Some(Done::Backup(done)));
    assert!(site.succeeded(&next).await.version.ends_with("/2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_dies_with_its_source_agent_before_it_has_a_drive() {
    let site = Site::new().await;
    let units = site.units().await;
    site.backed_up(&units, "daily").await;
    let job = site.run_as("daily", VersionType::Incremental).await;
    let (key, _) = backup(&units.source).await;
    units.source.fail(key, "WALK_LOST");
    assert_eq!(site.failed(&job).await.reason, "WALK_LOST");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_without_a_base_is_full_and_says_why() {
    let site = Site::new().await;
    let units = site.units().await;
    let job = site.run_as("daily", VersionType::Incremental).await;
    let (key, write) = units.drive.given_write().await;
    let (source_key, work) = backup(&units.source).await;
    assert!(work.base.is_none() && work.worker.is_some());
    let running = site.job(&job).await;
    assert_eq!(running.asked_type(), VersionType::Incremental);
    assert_eq!(running.version_type(), VersionType::Full);
    assert_eq!(running.promotion_reason, "there is no version to build on");
    let done = site.commit(key, &write).await;
    units.source.finish(source_key, Some(Done::Backup(done)));
    units.drive.finish(key, Some(Done::Write(written(1))));
    site.succeeded(&job).await;
    assert_eq!(site.versions().await[0].r#type(), VersionType::Full);
}
