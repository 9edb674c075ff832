//! Verifying: what is on tape is proved file by file, and what is damaged is named.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "site/files.rs"]
mod files;
mod site;

use files::{FILES, wanted};
use site::{Committed, Site};
use taf_emulator::faults::{At, Fault};
use taf_proto::agent::assignment::Work;
use taf_proto::agent::result::Done;
use taf_proto::agent::{ReportVerificationRequest, VerifyDone, VerifyPart, VerifyWork};

/// A site with such an archive in parts of about three segments.
async fn written(
    wrong: Option<u64>,
) -> (
    Site,
    site::Process,
    taf_proto::agent::Recording,
    Vec<Committed>,
) {
    let mut site = Site::with_blank().await;
    let worker = site.drive_worker().await;
    let mut recording = site.labelled().await;
    let parts = files::written(&mut site, &mut recording, wrong).await;
    (site, worker, recording, parts)
}

async fn verified(
    site: &mut Site,
    recording: &taf_proto::agent::Recording,
    parts: &[Committed],
) -> (VerifyDone, Vec<ReportVerificationRequest>) {
    let before = site.controller.verified().len();
    site.controller.verify(parts.iter().map(wanted).collect());
    let key = site.assign(Work::Verify(VerifyWork {
        recording: Some(recording.clone()),
    }));
    let result = site.result(key).await;
    let Some(Done::Verify(done)) = result.done else {
        panic!("{result:?}");
    };
    (done, site.controller.verified().split_off(before))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_volume_is_proved_file_by_file_across_its_parts() {
    let (mut site, _worker, recording, parts) = written(None).await;
    let (done, reports) = verified(&mut site, &recording, &parts).await;
    assert_eq!(
        (done.file_count, done.unproved_file_count, done.issue_count),
        (FILES, 0, 0)
    );
    assert_eq!(done.part_count as usize, parts.len());
    let bytes: u64 = parts.iter().map(|p| p.header.byte_count).sum();
    assert_eq!(done.byte_count, bytes);
    for (report, part) in reports.iter().zip(&parts) {
        assert_eq!(
            (report.tape_file, report.damage.as_str()),
            (part.header.tape_file, "")
        );
        let segments = part.header.last_sequence - part.header.first_sequence + 1;
        assert_eq!(report.segment_count, segments);
    }
    // One part alone: what begins or ends elsewhere is counted apart, and no damage.
    let (done, reports) = verified(&mut site, &recording, &parts[1..2]).await;
    assert_eq!((reports.len(), done.issue_count), (1, 0));
    assert!(
        done.file_count > 0 && done.unproved_file_count <= 2,
        "{done:?}"
    );
    assert_eq!(
        site.cartridge().objects(),
        recording.next_block,
        "nothing is written"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_time_is_up_no_further_part_is_begun_and_what_was_read_counts() {
    let (mut site, _worker, recording, parts) = written(None).await;
    let mut wanted: Vec<VerifyPart> = parts.iter().map(wanted).collect();
    wanted.rotate_left(1);
    let first = wanted[0].tape_file;
    site.controller.verify_for(wanted, 1);
    let key = site.assign(Work::Verify(VerifyWork {
        recording: Some(recording.clone()),
    }));
    let result = site.result(key).await;
    let Some(Done::Verify(done)) = result.done else {
        panic!("{result:?}");
    };
    assert_eq!((done.part_count, done.issue_count), (1, 0));
    let reports = site.controller.verified();
    assert_eq!(reports.len(), 1);
    assert_eq!(
        (reports[0].tape_file, reports[0].damage.as_str()),
        (first, "")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_not_what_was_backed_up_is_named() {
    let (mut site, _worker, recording, parts) = written(Some(17)).await;
    let (done, reports) = verified(&mut site, &recording, &parts).await;
    assert_eq!(done.file_count, FILES - 1);
    let damaged: Vec<&[u8]> = reports
        .iter()
        .flat_map(|report| &report.damaged)
        .map(|file| &file.path[..])
        .collect();
    assert_eq!(damaged, [b"files/017"]);
    assert!(
        reports
            .iter()
            .any(|report| report.damage.contains("files in it"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_cannot_be_read_costs_its_files_and_no_other_and_they_are_named() {
    let (mut site, _worker, recording, parts) = written(None).await;
    let bad = parts[1].header.first_block + 6;
    site.library.faults().lock().add(Fault {
        at: At::Read,
        barcode: None,
        object: Some(bad),
        times: 1000,
        key: 3,
        asc: 0x11,
        ascq: 0,
        ..Fault::default()
    });
    let (done, reports) = verified(&mut site, &recording, &parts).await;
    assert!(done.issue_count > 0);
    assert!(
        done.file_count + 6 >= FILES && done.file_count < FILES,
        "{done:?}"
    );
    assert_eq!(reports[0].damage, "");
    assert!(!reports[1].damage.is_empty());
    assert_eq!(reports.last().unwrap().damage, "");
    // With only the records of its segment lost a file may have no name; then that is said.
    assert!(!reports[1].damaged.is_empty() || reports[1].unnamed_count > 0);
}
