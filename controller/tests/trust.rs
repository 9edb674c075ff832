//! A catalog that may be older than the tapes, through the API of a whole controller: nothing is written from it.
#![allow(clippy::unwrap_used, missing_docs)]

mod served;
#[path = "units/site.rs"]
mod site;
mod support;
mod units;
#[allow(dead_code)]
#[path = "support/world.rs"]
mod world;

use std::fs;
use std::path::Path;
use std::time::Duration;

use served::{reason, signed};
use site::{DRIVE, Site, VOLUME};
use taf_proto::agent::JudgePartRequest;
use taf_proto::agent::assignment::Work;
use taf_proto::agent::catalog_service_client::CatalogServiceClient;
use taf_proto::v1::system_service_client::SystemServiceClient;
use taf_proto::v1::trust_service_client::TrustServiceClient;
use taf_proto::v1::volume_service_client::VolumeServiceClient;
use taf_proto::v1::{self, JobState};
use tonic::Status;
use units::{Unit, drive_unit, within};
use uuid::Uuid;

async fn status(site: &Site) -> v1::GetStatusResponse {
    let mut system = SystemServiceClient::new(site.served.channel(None).await);
    let request = signed(&site.token, v1::GetStatusRequest {});
    system.get_status(request).await.unwrap().into_inner()
}

/// Waits until the catalog is not trusted, and says why.
async fn distrusted(site: &Site) -> String {
    within("the loss of trust", async {
        loop {
            let now = status(site).await;
            if now.distrust_time.is_some() {
                return now.distrust_reason;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

async fn distrust(site: &Site, dry_run: bool) -> v1::DistrustCatalogResponse {
    let mut service = TrustServiceClient::new(site.served.channel(None).await);
    let request = v1::DistrustCatalogRequest {
        reason: "a dump was restored".into(),
        dry_run,
        request_id: String::new(),
    };
    let answer = service.distrust_catalog(signed(&site.token, request)).await;
    answer.unwrap().into_inner()
}

async fn trust(
    site: &Site,
    (volumes, dry_run): (bool, bool),
) -> Result<v1::TrustCatalogResponse, Status> {
    let mut service = TrustServiceClient::new(site.served.channel(None).await);
    let request = v1::TrustCatalogRequest {
        volumes,
        dry_run,
        request_id: String::new(),
    };
    let answer = service.trust_catalog(signed(&site.token, request)).await?;
    Ok(answer.into_inner())
}

async fn label(site: &Site, force: bool) -> Result<String, Status> {
    let mut service = VolumeServiceClient::new(site.served.channel(None).await);
    let request = v1::LabelVolumeRequest {
        barcode: "BLANK1L9".into(),
        pool: "pools/default".into(),
        force,
        ..Default::default()
    };
    let answer = service.label_volume(signed(&site.token, request)).await?;
    Ok(answer.into_inner().job)
}

async fn erase(site: &Site) -> Result<String, Status> {
    let mut service = VolumeServiceClient::new(site.served.channel(None).await);
    let request = v1::EraseVolumeRequest {
        name: format!("volumes/{VOLUME}"),
        ..Default::default()
    };
    let answer = service.erase_volume(signed(&site.token, request)).await?;
    Ok(answer.into_inner().job)
}

/// A drive's worker whose disk remembers this generation.
fn drive_that_saw(site: &Site, serial: &str, folder: &Path, generation: &str) -> Unit {
    let file = folder.join(serial);
    fs::write(&file, generation).unwrap();
    let unit = (Uuid::new_v4(), drive_unit(serial));
    Unit::start_seen(&site.address, &site.tape, unit, Some(file))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_has_seen_ends_what_is_written_and_lets_nothing_begin() {
    let site = Site::new().await;
    let units = site.units().await;
    site.backed_up(&units, "daily").await;
    let running = site.run("daily").await;
    let (key, _) = units.drive.given_write().await;
    assert_eq!(status(&site).await.suspect_volume_count, 0);

    let folder = tempfile::tempdir().unwrap();
    let other = drive_that_saw(&site, "D2", folder.path(), "1 900");
    other.connected().await;
    let why = distrusted(&site).await;
    assert!(
        why.contains("agent tape has seen generation 1.900"),
        "{why}"
    );
    units.drive.withdrawn(&key).await;
    units.drive.fail(key, "STOPPED");
    let fault = site.failed(&running).await;
    assert_eq!(fault.reason, "CATALOG_DISTRUSTED", "{fault:?}");
    assert!(fault.message.contains(&why), "{fault:?}");

    let waiting = site.run("daily").await;
    site.waits_for(&waiting, "the catalog may be older than the tapes")
        .await;
    assert_eq!(reason(label(&site, false).await), "CATALOG_DISTRUSTED");
    assert_eq!(reason(erase(&site).await), "CATALOG_DISTRUSTED");
    assert!(site.volume(VOLUME).await.suspect_time.is_some());
    let now = status(&site).await;
    assert!(
        now.warnings
            .iter()
            .any(|w| w.contains("taf volume inspect --all")),
        "{:?}",
        now.warnings
    );
    assert_eq!(
        (now.suspect_volume_count, now.appendable_volume_count),
        (1, 0)
    );
    // What is read is read.
    let version = site.versions().await[0].name.clone();
    let restore = site.restore(&version).await;
    let (key, work) = units.drive.given().await;
    assert!(matches!(work, Work::Read(_)), "{work:?}");
    site.cancel(&restore).await.unwrap();
    units.drive.withdrawn(&key).await;
    units.drive.fail(key, "STOPPED");
    site.ended(&restore).await;

    // The volume was not inspected, and an answer for the catalog is none for the volume.
    let told = trust(&site, (false, true)).await.unwrap();
    assert_eq!(told.suspect_volumes, [format!("volumes/{VOLUME}")]);
    assert!(
        status(&site).await.distrust_time.is_some(),
        "it was a dry run"
    );
    trust(&site, (false, false)).await.unwrap();
    site.waits_for(&waiting, "is read only until it is inspected")
        .await;
    assert_eq!(reason(erase(&site).await), "VOLUME_SUSPECT");
    assert_eq!(
        reason(trust(&site, (false, false)).await),
        "CATALOG_TRUSTED"
    );
    trust(&site, (true, false)).await.unwrap();
    units.drive.given_write().await;
    site.until(&waiting, |job| job.state() == JobState::Running)
        .await;
    assert_eq!(reason(trust(&site, (true, false)).await), "CATALOG_TRUSTED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_distrusts_it_and_forces_a_label_all_the_same() {
    let site = Site::new().await;
    let units = site.units().await;
    let running = site.run("daily").await;
    let (key, _) = units.drive.given_write().await;
    let told = distrust(&site, true).await;
    let ended = vec![running.clone()];
    assert_eq!((told.suspect_volume_count, told.ended_jobs), (1, ended));
    assert!(
        status(&site).await.distrust_time.is_none(),
        "it was a dry run"
    );
    distrust(&site, false).await;
    let why = distrusted(&site).await;
    assert_eq!(why, "accounts/root said so: a dump was restored");
    let audited = "SELECT count(*) FROM audit WHERE action = 'TrustService.DistrustCatalog' AND outcome LIKE '%dump%'";
    assert_eq!(site.served.count(audited).await, 1);
    units.drive.withdrawn(&key).await;
    units.drive.fail(key, "STOPPED");
    assert_eq!(site.failed(&running).await.reason, "CATALOG_DISTRUSTED");
    let forced = label(&site, true).await.unwrap();
    site.until(&forced, |job| job.state() == JobState::Running)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_lost_what_this_controller_saw_is_known_before_anybody_comes() {
    let site = Site::new().await;
    let units = site.units().await;
    site.backed_up(&units, "daily").await;
    drop(units);
    let lost = "UPDATE installation SET generation_counter = 0";
    let site = site.restarted_after(lost, |_| ()).await;
    let why = distrusted(&site).await;
    assert!(
        why.starts_with("this controller has seen generation 1.1"),
        "{why}"
    );
    let epoch = "SELECT epoch FROM installation WHERE generation_counter = 0";
    assert_eq!(site.served.count(epoch).await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_dump_is_known_by_its_tables() {
    let site = Site::new().await;
    let marked = "SELECT count(*) FROM installation WHERE tables_mark IS NOT NULL";
    within("the mark", async {
        while site.served.count(marked).await == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    site.served
        .sql("UPDATE installation SET tables_mark = '16384 16385 16386'")
        .await;
    let why = distrusted(&site).await;
    assert_eq!(why, "the database was restored from a dump");
    // It is a new home for the catalog, not news each time.
    trust(&site, (true, false)).await.unwrap();
    let site = site.restarted().await;
    let units = site.units().await;
    site.backed_up(&units, "daily").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drive_that_saw_less_gets_nothing_before_the_others_have_spoken() {
    let site = Site::new().await;
    let folder = tempfile::tempdir().unwrap();
    let other = drive_that_saw(&site, "D2", folder.path(), "0 0");
    other.connected().await;
    let units = site.units().await;
    site.backed_up(&units, "daily").await;
    drop((units, other));

    // Database and home of the controller were both set back, and only a drive remembers.
    let lost = "UPDATE installation SET generation_counter = 0";
    let forget = |home: &Path| fs::remove_file(home.join("generation")).unwrap();
    let site = site.restarted_after(lost, forget).await;
    let job = site.run("daily").await;
    let units = site.units().await;
    site.drive_until(|drive| drive.name.ends_with(DRIVE)).await;
    let other = drive_that_saw(&site, "D2", folder.path(), "1 1");
    other.connected().await;
    let why = distrusted(&site).await;
    assert!(why.contains("agent tape has seen generation 1.1"), "{why}");
    site.waits_for(&job, "the catalog may be older than the tapes")
        .await;
    for unit in [&units.drive, &units.source] {
        assert!(unit.session.assignments().borrow().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tape_that_bears_an_archive_which_the_catalog_never_had_says_that_it_is_old() {
    let site = Site::new().await;
    let units = site.units().await;
    let job = site.run("daily").await;
    let (key, work) = units.drive.given_write().await;
    let unknown = Uuid::new_v4();
    let request = JudgePartRequest {
        key: Some(key),
        recording_uuid: work.recording.unwrap().recording_uuid,
        archive_uuid: unknown.as_bytes().to_vec().into(),
        part_number: 1,
        tape_file: 1,
    };
    let channel = site.served.channel(Some(&site.tape)).await;
    let mut catalog = CatalogServiceClient::new(channel);
    let judged = catalog.judge_part(request).await;
    assert_eq!(reason(judged), "CATALOG_DISTRUSTED");
    let why = distrusted(&site).await;
    let bears = format!("volume {VOLUME} bears archive {unknown}");
    assert!(why.contains(&bears), "{why}");
    units.drive.withdrawn(&key).await;
    units.drive.fail(key, "STOPPED");
    assert_eq!(site.failed(&job).await.reason, "CATALOG_DISTRUSTED");
}
