//! What must hold when a cartridge is mounted: barcode, label and the cartridge's own serial number agree, the drive writes its
//! format, it has one partition, its memory can be read, and what is on it can't be overwritten by mistake.
#![allow(clippy::unwrap_used, missing_docs)]

mod site;

use bytes::Bytes;
use site::{BARCODE, Segments, Site};
use taf_drive::{Drive as _, Error};
use taf_emulator::faults::Fault;
use taf_emulator::library::NewCartridge;
use taf_proto::agent::assignment::Work;
use taf_proto::agent::report_volume_request::Verdict;
use taf_proto::agent::*;
use taf_scsi::cdb::opcode;
use uuid::Uuid;

fn fresh() -> Bytes {
    Bytes::copy_from_slice(Uuid::new_v4().as_bytes())
}

/// Why the write that is assigned fails.
async fn write_fault(site: &mut Site, recording: &Recording) -> taf_proto::v1::Fault {
    let (key, _) = site.assign_write(recording, 1 << 20);
    site.result(key).await.fault.expect("a fault")
}

/// Every READ ATTRIBUTE fails like this from now on.
fn memory_fails(site: &Site, key: u8, asc: u8, ascq: u8) {
    site.library.faults().lock().add(Fault {
        opcode: Some(opcode::READ_ATTRIBUTE),
        times: 0,
        key,
        asc,
        ascq,
        ..Fault::default()
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn barcode_label_and_serial_number_must_agree_and_the_one_that_does_not_is_named() {
    let mut site = Site::with_blank().await;
    let _worker = site.drive_worker().await;
    let mut recording = site.labelled().await;
    assert!(!recording.medium_serial.is_empty());
    let objects = site.cartridge().objects();
    let another = |recording: &Recording| Recording {
        medium_serial: "ANOTHER".into(),
        ..recording.clone()
    };
    let other_label = Recording {
        recording_uuid: fresh(),
        ..recording.clone()
    };
    for (wrong, what, next) in [
        (
            another(&recording),
            "the serial number disagrees",
            "take the copy out",
        ),
        (
            other_label.clone(),
            "the label is what disagrees",
            "taf volume erase TAF001L8 --force",
        ),
        (
            another(&other_label),
            "the barcode is what disagrees",
            "the one with serial number ANOTHER",
        ),
    ] {
        let fault = write_fault(&mut site, &wrong).await;
        assert_eq!(fault.reason, "WRONG_VOLUME");
        assert!(fault.message.contains(what), "{}", fault.message);
        assert!(fault.next_step.contains(next), "{}", fault.next_step);
        let key = site.assign_read(&wrong);
        assert_eq!(site.fault(key).await, "WRONG_VOLUME");
    }
    assert_eq!(site.controller.verdicts(), [Verdict::Quarantined; 6]);
    assert_eq!(site.cartridge().objects(), objects);
    // A serial number that the catalog does not have yet is told with the mount.
    let known = std::mem::take(&mut recording.medium_serial);
    site.back_up(&mut recording, &Segments::new(1, 1, 4096), 1 << 20)
        .await;
    let mounts = site.controller.mounts();
    let proved = mounts.iter().rfind(|report| report.proved).unwrap();
    assert_eq!(proved.mount.as_ref().unwrap().medium_serial, known);
    assert_eq!(proved.density, 0x5e);
    // Of those that were not the volume, no mount says so.
    assert!(mounts[..mounts.len() - 2].iter().all(|one| !one.proved));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_cartridges_with_one_barcode_are_told_apart() {
    let twin = NewCartridge {
        another: true,
        ..NewCartridge::default()
    };
    let cartridges = [(BARCODE, NewCartridge::default()), (BARCODE, twin)];
    let mut site = Site::start(|_| {}, &cartridges).await;
    site.insert();
    let _worker = site.drive_worker().await;
    let recording = site.labelled().await;
    site.exchange(BARCODE).await;
    let fault = write_fault(&mut site, &recording).await;
    assert_eq!(fault.reason, "WRONG_VOLUME");
    assert!(fault.message.contains("it is blank"), "{}", fault.message);
    assert!(
        fault.message.contains("two cartridges have it"),
        "{}",
        fault.message
    );
    // Blank as it is: the catalog knows another one by this barcode.
    let mut work = LabelWork {
        recording: Some(Recording {
            recording_uuid: fresh(),
            ..recording.clone()
        }),
        ..LabelWork::default()
    };
    let fault = site.label_as(work.clone()).await.fault.unwrap();
    assert_eq!(fault.reason, "OTHER_CARTRIDGE");
    assert!(fault.message.contains(&recording.medium_serial));
    work.force = true;
    let result = site.label_as(work).await;
    let Some(result::Done::Label(done)) = result.done else {
        panic!("{result:?}")
    };
    assert_ne!(done.medium_serial, recording.medium_serial);
    assert_eq!(done.density, 0x5e);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cartridge_of_two_partitions_is_only_formatted_and_by_a_persons_order() {
    let partitioned = NewCartridge {
        second_partition: 64 << 20,
        ..NewCartridge::default()
    };
    let mut site = Site::start(|_| {}, &[(BARCODE, partitioned)]).await;
    site.insert();
    let _worker = site.drive_worker().await;
    let recording = site.recording();
    for force in [false, true] {
        let work = LabelWork {
            recording: Some(recording.clone()),
            force,
            ..LabelWork::default()
        };
        let fault = site.label_as(work).await.fault.unwrap();
        assert_eq!(fault.reason, "PARTITIONED_MEDIUM", "force {force}");
        assert!(fault.next_step.contains("taf volume format TAF001L8"));
    }
    let fault = write_fault(&mut site, &recording).await;
    assert_eq!(fault.reason, "PARTITIONED_MEDIUM");
    assert_eq!(site.controller.verdicts(), [Verdict::ReadOnly]);
    let erase = |method: EraseMethod, force| {
        Work::Erase(EraseWork {
            barcode: BARCODE.into(),
            method: method.into(),
            force,
            ..EraseWork::default()
        })
    };
    for (method, force) in [
        (EraseMethod::Quick, true),
        (EraseMethod::Long, true),
        (EraseMethod::Format, false),
    ] {
        let key = site.assign(erase(method, force));
        assert_eq!(site.fault(key).await, "PARTITIONED_MEDIUM", "{method:?}");
    }
    let key = site.assign(erase(EraseMethod::Format, true));
    assert_eq!(site.result(key).await.fault, None);
    let mut recording = site.labelled().await;
    site.back_up(&mut recording, &Segments::new(1, 1, 4096), 1 << 20)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drive_writes_no_format_that_it_only_reads() {
    let barcode = "TAF001L5";
    let mut site = Site::start(
        |spec| spec.generation = 7.try_into().unwrap(),
        &[(barcode, NewCartridge::default())],
    )
    .await;
    site.insert();
    let _worker = site.drive_worker().await;
    let recording = Recording {
        barcode: barcode.into(),
        ..site.recording()
    };
    let fault = site.label(&recording).await.fault.unwrap();
    assert_eq!(fault.reason, "INCOMPATIBLE_MEDIUM");
    assert!(fault.message.contains("58h"), "{}", fault.message);
    let fault = write_fault(&mut site, &recording).await;
    assert_eq!(fault.reason, "INCOMPATIBLE_MEDIUM");
    // The drive is what does not fit; nothing is wrong with the volume, and no alert came up.
    assert_eq!(site.controller.verdicts(), []);
    let mounts = site.controller.mounts();
    assert!(mounts.iter().all(|report| report.alerts.is_empty()));
    assert_eq!(site.cartridge_of(barcode).objects(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_whose_memory_can_not_be_read_is_read_and_written_no_more() {
    let mut site = Site::with_blank().await;
    let _worker = site.drive_worker().await;
    let mut recording = site.labelled().await;
    let parts = site
        .back_up(&mut recording, &Segments::new(1, 1, 4096), 1 << 20)
        .await;
    memory_fails(&site, 3, 0x11, 0x12);
    let fault = write_fault(&mut site, &recording).await;
    assert_eq!(fault.reason, "CARTRIDGE_MEMORY_BAD");
    assert!(!fault.next_step.is_empty());
    assert_eq!(site.controller.verdicts(), [Verdict::ReadOnly]);
    let key = site.assign_read(&recording);
    let mut reading = site.reading(key).await;
    reading.ask(&parts[0].header, 0, 4096).await;
    let (bytes, lost) = reading.range().await;
    assert_eq!((bytes.len(), lost), (4096, 0));
    assert_eq!(site.controller.verdicts(), [Verdict::ReadOnly; 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drive_that_shows_no_memory_is_used_without() {
    let mut site = Site::with_blank().await;
    let _worker = site.drive_worker().await;
    memory_fails(&site, 5, 0x20, 0);
    let mut recording = site.labelled().await;
    assert_eq!(recording.medium_serial, "");
    // A drive that told more has labelled it.
    recording.medium_serial = "KNOWN".into();
    site.back_up(&mut recording, &Segments::new(1, 1, 4096), 1 << 20)
        .await;
    assert_eq!(site.controller.verdicts(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_drive_itself_refuses_to_overwrite_what_was_mounted() {
    let mut site = Site::with_blank().await;
    let _worker = site.drive_worker().await;
    let mut recording = site.labelled().await;
    site.back_up(&mut recording, &Segments::new(1, 1, 4096), 1 << 20)
        .await;
    let before = (site.tape_file(0), site.tape_file(1));
    let mut theirs = site.behind();
    for block in [0, recording.next_block - 2] {
        theirs.locate(block).unwrap();
        let refused = theirs.write_block(&[7; 4096]);
        assert!(matches!(refused, Err(Error::WriteProtected(_))));
    }
    assert!((site.tape_file(0), site.tape_file(1)) == before);
    // Appending goes on, and our own relabelling has the key.
    site.back_up(&mut recording, &Segments::new(2, 1, 4096), 1 << 20)
        .await;
    let work = LabelWork {
        recording: Some(Recording {
            recording_uuid: fresh(),
            ..recording.clone()
        }),
        expired: Some(ExpiredRecording {
            recording_uuid: recording.recording_uuid.clone(),
            next_block: recording.next_block,
        }),
        ..LabelWork::default()
    };
    assert_eq!(site.label_as(work).await.fault, None);
}
