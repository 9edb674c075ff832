//! Health: what a mount is reported with, and alerts that stop work.
#![allow(clippy::unwrap_used, missing_docs)]

mod site;

use std::fs;

use site::{BARCODE, BLOCK, Segments, Site, until};
use taf_emulator::faults::{At, Fault};
use taf_proto::agent::raised_alert::Measure;
use taf_proto::agent::{AssignmentKey, ReportMountRequest};
use taf_proto::v1::Cleaning;

const SEGMENT: usize = 64 << 10;
/// About three segments.
const SMALL: u64 = 200 << 10;
/// LOG SENSE.
const LOG_SENSE: u8 = 0x4d;
/// Pages that are read before the first part: counters, the alerts, and these again behind the positioning.
const PAGES: u32 = 9;

/// The last report of a mount of this assignment that is over.
async fn ended(site: &Site, key: AssignmentKey) -> ReportMountRequest {
    until("the report of a mount", || {
        site.controller.mounts().into_iter().rfind(|report| {
            let over = report.mount.as_ref().is_some_and(|m| m.end_time.is_some());
            report.key == Some(key) && over
        })
    })
    .await
}

/// The n-th LOG SENSE from now on is refused, and from then on the drive shows these flags.
fn raise(site: &Site, nth: u32, flags: &[u8]) {
    site.library.faults().lock().add(Fault {
        at: At::Command,
        opcode: Some(LOG_SENSE),
        nth,
        times: 1,
        key: 5,
        asc: 0x24,
        ascq: 0,
        alerts: flags.to_vec(),
        ..Fault::default()
    });
}

fn flags(report: &ReportMountRequest) -> Vec<u32> {
    let alerts = report.alerts.iter();
    alerts
        .map(|raised| raised.alert.as_ref().unwrap().flag)
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mount_is_reported_with_what_the_drive_counted() {
    let mut site = Site::with_blank().await;
    let _worker = site.drive_worker().await;
    let mut recording = site.labelled().await;
    let segments = Segments::new(1, 7, SEGMENT);
    let parts = site.back_up(&mut recording, &segments, SMALL).await;
    let key = parts[0].header.key.unwrap();
    let report = ended(&site, key).await;
    let mount = report.mount.clone().unwrap();
    let blocks: u64 = parts.iter().map(|part| part.header.block_count).sum();
    let written = mount.written_byte_count.unwrap();
    assert!(
        written > (blocks - parts.len() as u64) * u64::from(BLOCK),
        "{report:?}"
    );
    assert!(written <= blocks * u64::from(BLOCK), "{report:?}");
    assert_eq!(
        (mount.write_uncorrected_count, mount.read_uncorrected_count),
        (Some(0), Some(0))
    );
    assert!(
        !mount.medium_serial.is_empty() && mount.load_count >= Some(1),
        "{report:?}"
    );
    assert!(
        mount.native_byte_count.is_some() && mount.fault_reason.is_empty(),
        "{report:?}"
    );
    assert_eq!(report.end_block, recording.next_block);
    assert_eq!(
        (report.barcode.as_str(), report.cleaning()),
        (BARCODE, Cleaning::NotWanted)
    );
    assert!(
        report.usage.is_some() && report.alerts.is_empty(),
        "{report:?}"
    );
    // The label's mount is one of its own, and nothing waits to be delivered.
    let uuids: std::collections::BTreeSet<_> = site
        .controller
        .mounts()
        .into_iter()
        .map(|report| report.mount_uuid)
        .collect();
    assert_eq!(uuids.len(), 2);
    let serial = fs::read_dir(site.path("state/mounts"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    assert_eq!(fs::read_dir(serial.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_failure_alert_stops_the_work_between_two_parts() {
    let mut site = Site::with_blank().await;
    let _worker = site.drive_worker().await;
    let recording = site.labelled().await;
    // The first look behind a part.
    raise(&site, PAGES + 1, &[0x06]);
    let segments = Segments::new(2, 9, SEGMENT);
    let (key, archive) = site.assign_write(&recording, SMALL);
    let mut writing = site.writing(key).await;
    for segment in segments.seal(&archive) {
        writing.segment(&segment).await;
    }
    let fault = writing.committed().await.unwrap_err();
    assert_eq!(fault.reason, "TAPE_ALERT");
    assert!(fault.message.contains("06h, write failure"), "{fault:?}");
    assert!(fault.next_step.contains("another drive"), "{fault:?}");
    let report = ended(&site, key).await;
    assert_eq!(flags(&report), [6]);
    assert_eq!(report.alerts[0].measure(), Measure::CrossTest);
    assert_eq!(report.mount.unwrap().fault_reason, "TAPE_ALERT");
    // What was on tape before is committed.
    assert_eq!(site.controller.parts().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drive_that_reports_a_hardware_fault_is_not_used_and_the_controller_hears_why() {
    let mut site = Site::with_blank().await;
    let _worker = site.drive_worker().await;
    let recording = site.labelled().await;
    raise(&site, 1, &[0x1e, 0x15]);
    let (key, _) = site.assign_write(&recording, SMALL);
    assert_eq!(site.fault(key).await, "TAPE_ALERT");
    let report = ended(&site, key).await;
    assert_eq!(flags(&report), [0x15, 0x1e]);
    assert_eq!(report.cleaning(), Cleaning::Requested);
    // The next mount does not report again what is still shown: a person put the drive up, and that stands.
    let (key, archive) = site.assign_write(&recording, SMALL);
    let mut writing = site.writing(key).await;
    for segment in Segments::new(2, 2, SEGMENT).seal(&archive) {
        writing.segment(&segment).await;
    }
    writing.finish(1).await;
    writing.committed().await.unwrap();
    assert!(flags(&ended(&site, key).await).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_wait_on_disk_for_a_controller_that_is_away_also_over_a_restart() {
    let mut site = Site::with_blank().await;
    let worker = site.drive_worker().await;
    let recording = site.labelled().await;
    raise(&site, 1, &[0x13]);
    site.controller.set_away(true);
    let key = site.assign_read(&recording);
    let reading = site.reading(key).await;
    drop(reading);
    site.controller.assign(Vec::new());
    assert_eq!(site.fault(key).await, "STOPPED");
    let before = site.controller.mounts().len();
    drop(worker);
    site.controller.set_away(false);
    let _worker = site.drive_worker().await;
    let report = ended(&site, key).await;
    assert_eq!(flags(&report), [0x13]);
    assert!(site.controller.mounts().len() > before);
}
