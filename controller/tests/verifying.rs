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

use site::{Site, VOLUME};
use taf_peer::faults::reason_of;
use taf_proto::agent::assignment::Work;
use taf_proto::agent::catalog_service_client::CatalogServiceClient;
use taf_proto::agent::result::Done;
use taf_proto::agent::{
    DamagedFile, FetchVerificationRequest, ReportVerificationRequest, VerifyDone,
};
use taf_proto::v1::{JobKind, JobState};

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
