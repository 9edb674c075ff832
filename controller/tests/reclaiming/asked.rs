//! What a person who asks for a reclaiming is told, and what becomes of the volume.

use taf_proto::agent::WriteDone;
use taf_proto::agent::assignment::Work;
use taf_proto::agent::drive_observation::Medium;
use taf_proto::agent::result::Done;
use taf_proto::v1::system_service_client::SystemServiceClient;
use taf_proto::v1::volume_service_client::VolumeServiceClient;
use taf_proto::v1::{
    EraseVolumeRequest, GetStatusRequest, JobKind, JobState, ReclaimVolumesRequest,
    ReclaimVolumesResponse, VerifyVolumeRequest, VolumeState,
};
use tonic::Status;

use super::served::{reason, signed};
use super::site::{AT_DRIVE, DRIVE, Site, Units, VOLUME};
use super::told;
use super::units::{drive_element, slot};

async fn asked(
    site: &Site,
    request: &ReclaimVolumesRequest,
) -> Result<ReclaimVolumesResponse, Status> {
    let mut service = VolumeServiceClient::new(site.served.channel(None).await);
    let request = signed(&site.token, request.clone());
    Ok(service.reclaim_volumes(request).await?.into_inner())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_reclaimed_is_refused_with_the_reason() {
    let site = Site::new().await;
    let units = site.units().await;
    let of = |pool: &str, below_percent: u32| ReclaimVolumesRequest {
        pool: pool.into(),
        below_percent,
        ..ReclaimVolumesRequest::default()
    };
    for bad in [
        of("", 0),
        of("", 20),
        of("pools/default", 0),
        of("pools/default", 101),
    ] {
        assert_eq!(reason(asked(&site, &bad).await), "INVALID_FIELDS");
    }
    let mut one = ReclaimVolumesRequest {
        names: vec![format!("volumes/{VOLUME}")],
        ..ReclaimVolumesRequest::default()
    };
    assert_eq!(reason(asked(&site, &one).await), "VOLUME_EMPTY");
    site.backed_up(&units, "daily").await;
    assert_eq!(reason(asked(&site, &one).await), "NO_VOLUME");
    one.validate_only = true;
    assert_eq!(reason(asked(&site, &one).await), "NO_VOLUME");

    site.volume_row("OTHER").await;
    let planned = asked(&site, &one).await.unwrap().volumes.remove(0);
    assert_eq!((planned.part_count, planned.version_count), (1, 1));
    assert_eq!(
        (planned.job.as_str(), planned.versions[0].plan.as_str()),
        ("", "plans/daily")
    );
    assert!(planned.byte_count > 0 && planned.byte_count <= planned.volume_byte_count);
    // One that takes more is filled up first.
    let (most, all) = (of("pools/default", 99), of("pools/default", 100));
    assert!(asked(&site, &all).await.unwrap().volumes.is_empty());
    let sql =
        "UPDATE volumes SET state = 'full', byte_count = byte_count + 1 WHERE barcode <> 'OTHER'";
    site.served.sql(sql).await;
    assert!(asked(&site, &most).await.unwrap().volumes.is_empty());
    let made = asked(&site, &all).await.unwrap().volumes.remove(0);
    assert!(
        made.job.starts_with("jobs/") && made.refusal.is_empty(),
        "{made:?}"
    );
    one.validate_only = false;
    assert_eq!(reason(asked(&site, &one).await), "VOLUME_BUSY");
    let again = asked(&site, &all).await.unwrap().volumes.remove(0);
    assert!(
        again.job.is_empty() && again.refusal.contains(&made.job),
        "{again:?}"
    );
    let sql = "UPDATE jobs SET state = 'cancelled', ended_at = now() WHERE kind = 'reclaim'; DELETE FROM version_parts";
    site.served.sql(sql).await;
    assert_eq!(reason(asked(&site, &one).await), "VOLUME_FREE");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_is_not_given_up_before_its_copies_are_proved() {
    let site = Site::new().await;
    let units = site.units().await;
    site.backed_up(&units, "daily").await;
    site.volume_row("OTHER").await;
    site.served
        .sql("UPDATE volumes SET index_due = false")
        .await;
    let one = ReclaimVolumesRequest {
        names: vec![format!("volumes/{VOLUME}")],
        ..ReclaimVolumesRequest::default()
    };
    let job = asked(&site, &one).await.unwrap().volumes.remove(0).job;
    let (key, work) = units.drive.given().await;
    assert!(matches!(work, Work::Collect(_)), "{work:?}");
    let moved = "UPDATE parts SET moved_at = now(), former_recording = parts.recording_uuid, former_tape_file = tape_file, \
                 former_first_block = first_block, former_byte_count = parts.byte_count, volume_id = v.id, recording_uuid = v.recording_uuid, \
                 copy_number = 1 FROM volumes AS v WHERE v.barcode = 'OTHER'";
    // Its worker copies a part after it is to stop and before it has.
    site.cancel(&job).await.unwrap();
    units.drive.withdrawn(&key).await;
    site.served.sql(moved).await;
    units.drive.fail(key, "STOPPED");
    // What it copied is read back all the same, when nobody else wants a drive.
    assert_eq!(site.ended(&job).await.state(), JobState::Cancelled);
    let verifying = site.job(&job).await.follow_up_jobs.remove(0);
    let verifying = site.job(&verifying).await;
    assert_eq!(
        (verifying.kind(), verifying.volume.as_str()),
        (JobKind::Verify, "volumes/OTHER")
    );
    let behind = "SELECT count(*) FROM jobs WHERE kind = 'verify' AND background";
    assert_eq!(site.served.count(behind).await, 1);

    let mut other = one.clone();
    other.names = vec!["volumes/OTHER".into()];
    assert_eq!(reason(asked(&site, &other).await), "VOLUME_BUSY");

    let erase = async |force: bool| {
        let request = EraseVolumeRequest {
            name: format!("volumes/{VOLUME}"),
            force,
            dry_run: true,
            ..EraseVolumeRequest::default()
        };
        let mut service = VolumeServiceClient::new(site.served.channel(None).await);
        service.erase_volume(signed(&site.token, request)).await
    };
    let free = format!("UPDATE volumes SET freed_at = now() WHERE barcode = '{VOLUME}'");
    site.served.sql(&free).await;
    for (parts, suspect, next) in [
        ("verified_at = NULL", "NULL", "`taf volume verify OTHER`"),
        ("verified_at = now()", "now()", "`taf volume inspect OTHER`"),
        (
            "verified_at = now(), damage = 'test'",
            "NULL",
            "`taf catalog rebuild TAF001L9`",
        ),
    ] {
        let change = format!(
            "UPDATE parts SET {parts}; UPDATE volumes SET suspect_since = {suspect} WHERE barcode = 'OTHER'"
        );
        site.served.sql(&change).await;
        let shown = site.volume(VOLUME).await;
        assert!(shown.reuse_time.is_none(), "{shown:?}");
        for way in [next, "`taf volume erase TAF001L9 --force`"] {
            assert!(shown.reuse_reason.contains(way), "{shown:?}");
        }
        let refused = erase(false).await;
        let message = refused.as_ref().unwrap_err().message().to_owned();
        assert!(message.contains(next), "{message}");
        assert_eq!(reason(refused), "COPIES_UNPROVED");
        erase(true).await.unwrap();
    }
    let proved = "UPDATE parts SET verified_at = now(), damage = NULL";
    site.served.sql(proved).await;
    let shown = site.volume(VOLUME).await;
    assert!(shown.reuse_time.is_none(), "{shown:?}");
    let way = "`taf volume reclaim OTHER`";
    assert!(shown.reuse_reason.contains(way), "{shown:?}");
    assert_eq!(reason(erase(false).await), "CLOSING_RECORDS_LAST");
    site.served.sql(&told("OTHER")).await;
    let shown = site.volume(VOLUME).await;
    assert!(
        shown.reuse_time.is_some() && shown.reuse_reason.starts_with("reusable from"),
        "{shown:?}"
    );
    erase(false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_is_lost_is_given_up_without_a_job() {
    let site = Site::new().await;
    let units = site.units().await;
    site.backed_up(&units, "daily").await;
    site.volume_row("OTHER").await;
    let moved = "UPDATE parts SET moved_at = now(), former_recording = parts.recording_uuid, former_tape_file = tape_file, \
                 former_first_block = first_block, former_byte_count = parts.byte_count, volume_id = v.id, recording_uuid = v.recording_uuid, \
                 copy_number = 1, verified_at = NULL FROM volumes AS v WHERE v.barcode = 'OTHER'; \
                 UPDATE volumes SET freed_at = now(), index_due = false WHERE barcode <> 'OTHER'";
    site.served.sql(moved).await;
    let mut service = VolumeServiceClient::new(site.served.channel(None).await);
    let request = VerifyVolumeRequest {
        name: "volumes/OTHER".into(),
        ..VerifyVolumeRequest::default()
    };
    let verifying = service.verify_volume(signed(&site.token, request)).await;
    let verifying = verifying.unwrap().into_inner().job;
    let shown = site.volume(VOLUME).await.reuse_reason;
    assert!(
        shown.contains("`taf volume erase OTHER --force`"),
        "{shown}"
    );

    let mut erase = EraseVolumeRequest {
        name: "volumes/OTHER".into(),
        ..EraseVolumeRequest::default()
    };
    let refused = service
        .erase_volume(signed(&site.token, erase.clone()))
        .await;
    let message = refused.as_ref().unwrap_err().message().to_owned();
    assert!(
        message.contains("`taf volume erase OTHER --force`"),
        "{message}"
    );
    assert_eq!(reason(refused), "CARTRIDGE_NOT_IN_LIBRARY");
    erase.force = true;
    for (dry_run, living) in [(true, 1), (false, 0)] {
        erase.dry_run = dry_run;
        let answer = service
            .erase_volume(signed(&site.token, erase.clone()))
            .await;
        let answer = answer.unwrap().into_inner();
        let preview = answer.preview.unwrap();
        assert!(answer.job.is_empty());
        assert_eq!((preview.steps.len(), preview.lost_versions.len()), (1, 1));
        let whole =
            "SELECT count(*) FROM versions WHERE state = 'published' AND lost_reason IS NULL";
        assert_eq!(site.served.count(whole).await, living);
    }
    assert_eq!(site.volume("OTHER").await.state(), VolumeState::Unlabelled);
    // What was to be read there is nowhere, and the old volume is where to find it.
    assert_eq!(site.ended(&verifying).await.state(), JobState::Cancelled);
    let shown = site.volume(VOLUME).await.reuse_reason;
    assert!(
        shown.contains("damaged, or gone") && shown.contains("`taf catalog rebuild TAF001L9`"),
        "{shown}"
    );
    // By now there is nothing that could be lost.
    let refused = service.erase_volume(signed(&site.token, erase)).await;
    assert_eq!(reason(refused), "CARTRIDGE_NOT_IN_LIBRARY");
}

const OTHER: &str = "BLANK1L9";

/// What was on the one volume is on the other, where nobody has read it.
async fn copied_unread(site: &Site, units: &Units) {
    site.backed_up(units, "daily").await;
    site.volume_row(OTHER).await;
    let moved = format!(
        "UPDATE parts SET moved_at = now(), former_recording = parts.recording_uuid, former_tape_file = tape_file, \
         former_first_block = first_block, former_byte_count = parts.byte_count, volume_id = v.id, recording_uuid = v.recording_uuid, \
         copy_number = 1, verified_at = NULL FROM volumes AS v WHERE v.barcode = '{OTHER}'; \
         UPDATE volumes SET state = 'full', index_due = false; \
         UPDATE volumes SET freed_at = now() - interval '30 days' WHERE barcode = '{VOLUME}'"
    );
    site.served.sql(&moved).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_backup_whose_volume_is_full_is_told_what_would_free_another_one() {
    const THIRD: &str = "TAF003L9";
    let site = Site::new().await;
    let units = site.units().await;
    copied_unread(&site, &units).await;
    site.volume_row(THIRD).await;
    units.library.put(vec![
        drive_element(AT_DRIVE, DRIVE, THIRD, 1002),
        slot(1000, VOLUME),
        slot(1001, OTHER),
        slot(1002, ""),
    ]);
    units.library.show(&units.robot.unit);
    site.drive_until(|drive| drive.barcode == THIRD).await;
    let job = site.run("daily").await;
    let (key, write) = units.drive.given_write().await;
    assert_eq!(write.recording.as_ref().unwrap().barcode, THIRD);
    units.source.given().await;
    site.commit_some(key, &write, 2, 0..1).await;
    units.drive.show_drive(None, Medium::Loaded, "idle");
    let full = Done::Write(WriteDone {
        part_count: 1,
        next_volume_reason: "the volume is full".into(),
    });
    units.drive.finish(key, Some(full));
    let way = format!("`taf volume verify {OTHER}`");
    let waits = site
        .until(&job, |job| job.waiting_for.contains(&way))
        .await
        .waiting_for;
    for told in [
        format!("or have volume {VOLUME} labelled anew"),
        "taf volume label".into(),
        // It can't be read, nor anything labelled, in the drive that the backup keeps.
        format!("keeps drive {DRIVE}"),
    ] {
        assert!(waits.contains(&told), "{told}: {waits}");
    }
    let verifying = site.verify(OTHER, false).await.unwrap().job;
    let waits = site
        .until(&job, |job| job.waiting_for.contains("read back"))
        .await
        .waiting_for;
    let told = [verifying, format!("keeps drive {DRIVE}")];
    assert!(told.iter().all(|told| waits.contains(told)), "{waits}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_without_a_volume_waits_for_copies_to_be_read_or_says_that_they_should_be() {
    let site = Site::new().await;
    let units = site.units().await;
    copied_unread(&site, &units).await;
    let way = format!("`taf volume verify {OTHER}`");
    let fault = site.failed(&site.run("daily").await).await;
    assert_eq!(fault.reason, "NO_VOLUME");
    assert!(fault.next_step.contains(&way), "{fault:?}");
    let mut system = SystemServiceClient::new(site.served.channel(None).await);
    let asked = signed(&site.token, GetStatusRequest::default());
    let status = system.get_status(asked).await.unwrap().into_inner();
    let warned = |warning: &&String| warning.contains(&way) && warning.contains(VOLUME);
    assert_eq!(status.warnings.iter().filter(warned).count(), 1);
    // What reads them has begun.
    let verifying = site.verify(OTHER, false).await.unwrap().job;
    let job = site.run("daily").await;
    let waits = site
        .until(&job, |job| job.waiting_for.contains("read back"))
        .await;
    assert!(waits.waiting_for.contains(&verifying), "{waits:?}");
    site.cancel(&verifying).await.unwrap();
    let fault = site.failed(&job).await;
    assert_eq!(fault.reason, "NO_VOLUME");
    assert!(fault.next_step.contains(&way), "{fault:?}");
}
