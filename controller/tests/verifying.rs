//! Verifying a volume: what is read, what is dated, and what a damaged file makes of the job.
#![allow(clippy::unwrap_used, missing_docs)]

mod served;
#[path = "units/site.rs"]
mod site;
mod support;
mod units;
#[allow(dead_code)]
#[path = "support/world.rs"]
mod world;

use served::{reason, signed};
use site::{Site, VOLUME};
use taf_peer::faults::reason_of;
use taf_proto::agent::assignment::Work;
use taf_proto::agent::catalog_service_client::CatalogServiceClient;
use taf_proto::agent::result::Done;
use taf_proto::agent::{
    AssignmentKey, DamagedFile, FetchVerificationRequest, Recording, ReportVerificationRequest,
    VerifyDone,
};
use taf_proto::v1::version_service_client::VersionServiceClient;
use taf_proto::v1::volume_service_client::VolumeServiceClient;
use taf_proto::v1::{
    JobKind, JobState, VerifyVersionRequest, VerifyVolumeRequest, VerifyVolumeResponse,
};
use tonic::Status;

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_is_verified_part_by_part_and_damage_is_named_and_dated() {
    let site = Site::new().await;
    let units = site.units().await;
    let refused = site.verify(VOLUME, false).await.unwrap_err();
    assert_eq!(reason_of(&refused).unwrap().0, "VOLUME_EMPTY");
    site.backed_up(&units, "daily").await;
    let planned = site.verify(VOLUME, true).await.unwrap();
    assert_eq!((planned.part_count, planned.job.as_str()), (1, ""));
    assert!(planned.byte_count > 0);

    for damaged in [false, true] {
        let job = site.verify(VOLUME, false).await.unwrap().job;
        let (key, work) = units.drive.given().await;
        let Work::Verify(verify) = work else {
            panic!("nothing to verify: {work:?}")
        };
        let recording = verify.recording.unwrap();
        assert_eq!(recording.barcode, VOLUME);
        let channel = site.served.channel(Some(&site.tape)).await;
        let mut catalog = CatalogServiceClient::new(channel);
        let request = FetchVerificationRequest {
            key: Some(key),
            recording_uuid: recording.recording_uuid.clone(),
        };
        let mut parts = catalog
            .fetch_verification(request)
            .await
            .unwrap()
            .into_inner();
        let part = parts.message().await.unwrap().unwrap().part.unwrap();
        assert_eq!(parts.message().await.unwrap(), None);
        assert_eq!((part.tape_file, part.part_number), (1, 1));
        let files: &[&[u8]] = if damaged { &[b"srv/a"] } else { &[] };
        let report = ReportVerificationRequest {
            key: Some(key),
            recording_uuid: recording.recording_uuid,
            tape_file: 1,
            damage: if damaged {
                "a block could not be read"
            } else {
                ""
            }
            .to_owned(),
            damaged_count: files.len() as u64,
            damaged: files
                .iter()
                .map(|path| DamagedFile {
                    path: path.to_vec().into(),
                    reason: "a block could not be read".into(),
                })
                .collect(),
            ..ReportVerificationRequest::default()
        };
        for _ in 0..2 {
            catalog.report_verification(report.clone()).await.unwrap();
        }
        let done = VerifyDone {
            part_count: 1,
            issue_count: if damaged { 2 } else { 0 },
            ..VerifyDone::default()
        };
        units.drive.finish(key, Some(Done::Verify(done)));
        let ended = site.ended(&job).await;
        assert_eq!(ended.kind(), JobKind::Verify);
        let file = site.files(VOLUME).await.remove(1);
        let version = site.versions().await.remove(0);
        assert!(file.verify_time.is_some() && version.verify_time.is_some());
        assert_eq!(version.damaged_part_count, u64::from(damaged));
        assert_eq!(file.damage.is_empty(), !damaged);
        let issues = ended.progress.unwrap().issue_count;
        if damaged {
            assert_eq!(ended.state, i32::from(JobState::SucceededWithIssues));
            assert_eq!(issues, 2, "the part and the file, each once");
        } else {
            assert_eq!(ended.state, i32::from(JobState::Succeeded));
            assert_eq!(issues, 0);
        }
    }
}

/// What a verification that is under way is to read: tape files in their order, and for how long.
async fn to_read(site: &Site, key: AssignmentKey, recording: &Recording) -> (Vec<u64>, u64) {
    let channel = site.served.channel(Some(&site.tape)).await;
    let request = FetchVerificationRequest {
        key: Some(key),
        recording_uuid: recording.recording_uuid.clone(),
    };
    let mut catalog = CatalogServiceClient::new(channel);
    let answers = catalog.fetch_verification(request).await.unwrap();
    let mut answers = answers.into_inner();
    let (mut files, mut limit) = (Vec::new(), 0);
    while let Some(answer) = answers.message().await.unwrap() {
        files.push(answer.part.unwrap().tape_file);
        limit = answer.time_limit_seconds;
    }
    (files, limit)
}

async fn asked(site: &Site, request: VerifyVolumeRequest) -> Result<VerifyVolumeResponse, Status> {
    let request = VerifyVolumeRequest {
        name: format!("volumes/{VOLUME}"),
        ..request
    };
    let mut service = VolumeServiceClient::new(site.served.channel(None).await);
    let answer = service.verify_volume(signed(&site.token, request)).await?;
    Ok(answer.into_inner())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_is_chosen_by_its_seed_and_never_counts_as_the_whole() {
    let site = Site::new().await;
    let units = site.units().await;
    let job = site.run("daily").await;
    let (key, work) = units.drive.given_write().await;
    let (source_key, _) = units.source.given().await;
    let done = site.commit_some(key, &work, 2, 0..2).await;
    units.source.finish(source_key, Some(Done::Backup(done)));
    units.drive.finish(key, Some(Done::Write(site::written(2))));
    let version = site.succeeded(&job).await.version;

    let of = |sample_percent, seconds, seed| VerifyVolumeRequest {
        sample_percent,
        time_limit: (seconds > 0).then_some(prost_types::Duration { seconds, nanos: 0 }),
        seed,
        ..VerifyVolumeRequest::default()
    };
    for bad in [of(101, 0, 0), of(5, 60, 0), of(5, 0, u64::MAX)] {
        assert_eq!(reason(asked(&site, bad).await), "INVALID_FIELDS");
    }
    let first = asked(&site, of(1, 0, 0)).await.unwrap();
    assert_eq!((first.part_count, first.total_part_count), (1, 2));
    assert!(first.seed > 0);
    let again = VerifyVolumeRequest {
        validate_only: true,
        ..of(1, 0, first.seed)
    };
    let again = asked(&site, again).await.unwrap();
    assert_eq!(again.byte_count, first.byte_count);
    let (key, work) = units.drive.given().await;
    let Work::Verify(verify) = work else {
        panic!("nothing to verify: {work:?}")
    };
    let recording = verify.recording.unwrap();
    let (files, limit) = to_read(&site, key, &recording).await;
    assert_eq!((files.len(), limit), (1, 0));
    let report = ReportVerificationRequest {
        key: Some(key),
        recording_uuid: recording.recording_uuid.clone(),
        tape_file: files[0],
        ..ReportVerificationRequest::default()
    };
    let channel = site.served.channel(Some(&site.tape)).await;
    let mut catalog = CatalogServiceClient::new(channel);
    catalog.report_verification(report).await.unwrap();
    let done = VerifyDone {
        part_count: 1,
        ..VerifyDone::default()
    };
    units.drive.finish(key, Some(Done::Verify(done)));
    let ended = site.succeeded(&first.job).await;
    let sample = ended.sample.unwrap();
    assert_eq!((sample.seed, sample.percent), (first.seed, 1));
    let proved = site.files(VOLUME).await;
    let proved = proved.iter().filter(|file| file.verify_time.is_some());
    assert_eq!(proved.count(), 1);
    let shown = site.versions().await.remove(0);
    assert_eq!(shown.verify_time, None, "a sample is no proof of the whole");

    // Within limited time: all of them, from one on.
    let request = VerifyVersionRequest {
        name: version,
        time_limit: Some(prost_types::Duration {
            seconds: 60,
            nanos: 0,
        }),
        seed: 11,
        ..VerifyVersionRequest::default()
    };
    let mut versions = VersionServiceClient::new(site.served.channel(None).await);
    let answer = versions.verify_version(signed(&site.token, request)).await;
    let answer = answer.unwrap().into_inner();
    assert_eq!((answer.part_count, answer.seed), (2, 11));
    let (key, _) = units.drive.given().await;
    let (files, limit) = to_read(&site, key, &recording).await;
    let mut sorted = files.clone();
    sorted.sort_unstable();
    assert_eq!((sorted, limit), (vec![1, 2], 60));
    let begin = 1 + taf_core::sampling::first(2, 11) as u64;
    assert_eq!(files[0], begin);
    let done = VerifyDone {
        part_count: 1,
        ..VerifyDone::default()
    };
    units.drive.finish(key, Some(Done::Verify(done)));
    let ended = site.succeeded(&answer.jobs[0]).await;
    assert_eq!(ended.sample.unwrap().time_limit.unwrap().seconds, 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_went_to_another_volume_is_not_taken_for_read() {
    let site = Site::new().await;
    let units = site.units().await;
    site.backed_up(&units, "daily").await;
    site.volume_row("OTHER").await;
    let moved = "UPDATE parts SET moved_at = now(), former_recording = parts.recording_uuid, former_tape_file = tape_file, \
                 former_first_block = first_block, former_byte_count = parts.byte_count, volume_id = v.id, \
                 recording_uuid = v.recording_uuid FROM volumes AS v WHERE v.barcode = ";
    // Before it was to be read, and while it was.
    for before in [true, false] {
        let job = site.verify(VOLUME, false).await.unwrap().job;
        let (key, work) = units.drive.given().await;
        let Work::Verify(work) = work else {
            panic!("nothing to verify: {work:?}")
        };
        let recording = work.recording.unwrap();
        if before {
            site.served.sql(&format!("{moved}'OTHER'")).await;
        }
        let files = to_read(&site, key, &recording).await.0;
        assert_eq!(files.len(), usize::from(!before));
        if !before {
            site.served.sql(&format!("{moved}'OTHER'")).await;
            let report = ReportVerificationRequest {
                key: Some(key),
                recording_uuid: recording.recording_uuid,
                tape_file: files[0],
                ..ReportVerificationRequest::default()
            };
            let channel = site.served.channel(Some(&site.tape)).await;
            let mut catalog = CatalogServiceClient::new(channel);
            catalog.report_verification(report).await.unwrap();
        }
        let done = VerifyDone::default();
        units.drive.finish(key, Some(Done::Verify(done)));
        let ended = site.ended(&job).await;
        assert_eq!(ended.state(), JobState::SucceededWithIssues, "{before}");
        assert_eq!(ended.progress.unwrap().issue_count, 1, "{before}");
        site.served.sql(&format!("{moved}'{VOLUME}'")).await;
    }
    let said = "SELECT count(*) FROM issues WHERE reason = 'PART_MOVED'";
    assert_eq!(site.served.count(said).await, 2);
    let read = "SELECT count(*) FROM parts WHERE verified_at IS NOT NULL";
    assert_eq!(site.served.count(read).await, 0);
}
