//! Labels and the proof of a mount: only a blank cartridge is written from its beginning, only the right one appended to.
#![allow(clippy::unwrap_used, missing_docs)]

mod site;

use bytes::Bytes;
use site::{BARCODE, Segments, Site, until};
use taf_drive::{Changer as _, Drive as _, ScsiDrive, Sync};
use taf_emulator::faults::{At, Fault};
use taf_emulator::library::NewCartridge;
use taf_proto::agent::assignment::Work;
use taf_proto::agent::drive_observation::Medium;
use taf_proto::agent::report_volume_request::Verdict;
use taf_proto::agent::*;
use taf_scsi::transport::in_process::InProcess;
use uuid::Uuid;

fn uuid() -> Bytes {
    Bytes::copy_from_slice(Uuid::new_v4().as_bytes())
}

fn reason(result: &taf_proto::agent::Result) -> &str {
    result
        .fault
        .as_ref()
        .map_or("", |fault| fault.reason.as_str())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blank_cartridge_is_labelled_and_a_labelled_one_with_parts_is_not() {
    let mut site = Site::with_blank().await;
    let _worker = site.drive_worker().await;
    let mut recording = site.labelled().await;
    assert_eq!(site.cartridge().objects(), recording.next_block);
    // A labelling whose result was lost is done again.
    assert_eq!(reason(&site.label(&recording).await), "");
    // Another volume's label is not replaced.
    let other = site.recording();
    let result = site.label(&other).await;
    assert_eq!(reason(&result), "FOREIGN_VOLUME");
    // Nor is our own once there is something behind it.
    site.back_up(&mut recording, &Segments::new(1, 1, 4096), 1 << 20)
        .await;
    let before = site.tape_file(1);
    assert_eq!(reason(&site.label(&recording).await), "FOREIGN_VOLUME");
    assert!(site.tape_file(1) == before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_cartridge_is_named_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let tar = folder.path().join("theirs.tar");
    let mut bytes = vec![0; 10_240];
    bytes[257..262].copy_from_slice(b"ustar");
    std::fs::write(&tar, &bytes).unwrap();
    let theirs = NewCartridge {
        foreign: Some((tar, 10_240)),
        ..NewCartridge::default()
    };
    let mut site = Site::start(|_| {}, &[(BARCODE, theirs)]).await;
    site.insert();
    let _worker = site.drive_worker().await;
    let recording = site.recording();
    let result = site.label(&recording).await;
    let fault = result.fault.unwrap();
    assert_eq!(fault.reason, "FOREIGN_VOLUME");
    assert!(fault.message.contains("tar archive"), "{}", fault.message);
    assert!(fault.message.contains("nothing was written"));
    assert!(!fault.next_step.is_empty());
    // Appending to it is refused too, and the volume is not what the catalog thinks.
    let (key, _) = site.assign_write(&recording, 1);
    assert_eq!(site.fault(key).await, "WRONG_VOLUME");
    assert_eq!(site.controller.verdicts(), [Verdict::Quarantined]);
    let key = site.assign_read(&recording);
    assert_eq!(site.fault(key).await, "WRONG_VOLUME");
    assert_eq!(site.controller.verdicts().len(), 2);
    assert_eq!(site.tape_file(0), bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_label_is_not_a_blank_tape() {
    let mut site = Site::with_blank().await;
    let _worker = site.drive_worker().await;
    let recording = site.labelled().await;
    let before = site.tape_file(0);
    site.library.faults().lock().add(Fault {
        at: At::Read,
        barcode: None,
        object: Some(0),
        times: 0,
        key: 3,
        asc: 0x11,
        ascq: 0,
        ..Fault::default()
    });
    let result = site.label(&recording).await;
    assert_eq!(reason(&result), "LABEL_UNREADABLE");
    let (key, _) = site.assign_write(&recording, 1);
    assert_eq!(site.fault(key).await, "LABEL_UNREADABLE");
    assert_eq!(site.controller.verdicts(), []);
    assert!(site.tape_file(0) == before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_protected_cartridge_is_the_operators_matter() {
    let tab = NewCartridge {
        write_protected: true,
        ..NewCartridge::default()
    };
    let mut site = Site::start(|_| {}, &[(BARCODE, tab)]).await;
    site.insert();
    let _worker = site.drive_worker().await;
    let recording = site.recording();
    assert_eq!(reason(&site.label(&recording).await), "WRITE_PROTECTED");
    assert_eq!(site.controller.verdicts(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_recording_of_the_same_barcode_is_refused_and_quarantined() {
    let mut site = Site::with_blank().await;
    let _worker = site.drive_worker().await;
    let recording = site.labelled().await;
    for change in 0..3 {
        let mut wrong = recording.clone();
        match change {
            0 => wrong.recording_uuid = uuid(),
            1 => wrong.volume_uuid = uuid(),
            _ => wrong.installation_uuid = uuid(),
        }
        let (key, _) = site.assign_write(&wrong, 1);
        assert_eq!(site.fault(key).await, "WRONG_VOLUME");
    }
    assert_eq!(site.controller.verdicts(), [Verdict::Quarantined; 3]);
    assert_eq!(site.cartridge().objects(), recording.next_block);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tape_that_holds_less_than_the_catalog_says_is_written_no_more() {
    let mut site = Site::with_blank().await;
    let _worker = site.drive_worker().await;
    let mut recording = site.labelled().await;
    recording.next_block += 100;
    recording.next_tape_file += 1;
    let (key, _) = site.assign_write(&recording, 1);
    assert_eq!(site.fault(key).await, "VOLUME_TRUNCATED");
    assert_eq!(site.controller.verdicts(), [Verdict::ReadOnly]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_file_that_nobody_knows_is_reported_in_order() {
    let mut site = Site::with_blank().await;
    let worker = site.drive_worker().await;
    let mut recording = site.labelled().await;
    // Somebody wrote behind our back: two files and the beginning of a third.
    let target = site.library.drive_target(0).unwrap();
    let mut drive = ScsiDrive::new(Box::new(InProcess::new("theirs", target))).unwrap();
    drive.attentions().unwrap();
    drive.prepare().unwrap();
    drive.locate_end_of_data().unwrap();
    for _ in 0..2 {
        drive.write_block(&[7; 5000]).unwrap();
        drive.write_filemarks(1, Sync::Synchronous).unwrap();
    }
    drive.write_block(&[8; 5000]).unwrap();
    drive.flush().unwrap();
    drop(worker);
    site.controller.assign(Vec::new());
    let _worker = site.drive_worker().await;
    let (key, _) = site.assign_write(&recording, 1 << 20);
    drop(site.writing(key).await);
    site.result(key).await;
    let orphans = site.controller.orphans();
    assert_eq!(orphans.len(), 3, "{orphans:?}");
    for orphan in &orphans {
        assert_eq!(orphan.tape_file, recording.next_tape_file);
        assert_eq!(orphan.first_block, recording.next_block);
        assert_eq!(orphan.next_block, orphan.first_block + 2);
        recording.next_tape_file = orphan.next_tape_file;
        recording.next_block = orphan.next_block;
    }
    assert_eq!(site.cartridge().objects(), recording.next_block);
    site.back_up(&mut recording, &Segments::new(2, 1, 4096), 1 << 20)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unloaded_cartridge_is_shown_before_the_result_and_can_be_taken() {
    let mut site = Site::with_blank().await;
    let _worker = site.drive_worker().await;
    site.labelled().await;
    let key = site.assign(Work::Unload(UnloadWork {}));
    assert_eq!(site.result(key).await.fault, None);
    let events = site.controller.events();
    let done = events
        .iter()
        .position(|e| matches!(e, site::Event::Result(r) if r.key == Some(key)))
        .unwrap();
    let shown = events[..done].iter().rev().find_map(|event| match event {
        site::Event::Drive(_, drive) => Some(drive.medium()),
        _ => None,
    });
    assert_eq!(shown, Some(Medium::Unloaded));
    let mut changer = site.changer();
    let inventory = changer.inventory().unwrap();
    let (drive, slot) = (inventory.drives[0].address, inventory.slots[3].address);
    changer.move_medium(drive, slot).unwrap();
    until("an empty drive", || {
        (site.controller.drive()?.1.medium() == Medium::Empty).then_some(())
    })
    .await;
}
