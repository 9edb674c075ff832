//! When the drive, the controller or the source agent says something unexpected in the middle of work: nothing is written where
//! the tape was not proved, and nothing is condemned that may be good.
#![allow(clippy::unwrap_used, missing_docs)]

mod site;

use site::{BARCODE, BLOCK, Segments, Site, until};
use taf_drive::{Drive as _, ScsiDrive};
use taf_emulator::faults::{At, Fault};
use taf_emulator::library::{NewCartridge, Spec};
use taf_proto::agent::report_volume_request::Verdict;
use taf_proto::agent::*;
use taf_scsi::transport::in_process::InProcess;
use tonic::Code;

const SEGMENT: usize = 64 << 10;
/// About three segments.
const SMALL: u64 = 200 << 10;

fn fault(at: At, object: u64, key: u8, asc: u8) -> Fault {
    Fault {
        at,
        barcode: None,
        object: Some(object),
        times: 1,
        key,
        asc,
        ascq: 0,
        ..Fault::default()
    }
}

/// Waits until the drive has bytes behind the recording's end.
async fn bytes_on_their_way(site: &Site, recording: &Recording) {
    until("bytes on their way", || {
        let drive = site.library.drives()[0].lock();
        (drive.cartridge()?.objects() > recording.next_block).then_some(())
    })
    .await;
}

/// A backup that meets this fault of the drive: why it needs another volume.
async fn backup_with(site: &mut Site, recording: &Recording, fault: Fault) -> String {
    site.library.faults().lock().add(fault);
    let (key, archive) = site.assign_write(recording, SMALL);
    let mut writing = site.writing(key).await;
    for segment in &Segments::new(31, 6, SEGMENT).seal(&archive) {
        writing.segment(segment).await;
    }
    site.next_volume(key).await
}

#[tokio::test(flavor = "multi_thread")]
async fn news_of_another_cartridge_while_the_end_is_sought_make_it_be_proved_again() {
    let mut site = Site::with_blank().await;
    let worker = site.drive_worker().await;
    let mut recording = site.labelled().await;
    let (key, archive) = site.assign_write(&recording, 1 << 30);
    let mut writing = site.writing(key).await;
    let sealed = Segments::new(32, 2, SEGMENT).seal(&archive);
    writing.segment(&sealed[0]).await;
    bytes_on_their_way(&site, &recording).await;
    // Nobody closes what is torn.
    drop(worker);
    site.controller.assign(Vec::new());
    site.library.drives()[0].lock().settle().unwrap();
    let objects = site.cartridge().objects();
    assert!(objects > recording.next_block);

    let _worker = site.drive_worker().await;
    // Without end, and it is a drive not to be worked with.
    let mut always = fault(At::Read, recording.next_block, 6, 0x28);
    always.times = 6;
    site.library.faults().lock().add(always);
    let (key, _) = site.assign_write(&recording, SMALL);
    assert_eq!(site.fault(key).await, "DRIVE_RESET");
    assert_eq!(site.cartridge().objects(), objects);
    assert_eq!(site.controller.orphans(), []);
    assert_eq!(site.controller.verdicts(), []);

    let once = fault(At::Read, recording.next_block, 6, 0x28);
    site.library.faults().lock().add(once);
    let (key, archive) = site.assign_write(&recording, SMALL);
    let mut writing = site.writing(key).await;
    let orphan = site.controller.orphans().pop().unwrap();
    assert_eq!(orphan.first_block, recording.next_block);
    assert_eq!(orphan.next_block, objects + 1);
    recording.next_block = orphan.next_block;
    let sealed = Segments::new(33, 1, SEGMENT).seal(&archive);
    writing.segment(&sealed[0]).await;
    writing.finish(0).await;
    assert_eq!(writing.committed().await, Ok(1));
    let part = site.controller.parts().pop().unwrap().header;
    assert_eq!(part.first_block, recording.next_block);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_behind_another_number_of_filemarks_is_not_written_to() {
    let mut site = Site::with_blank().await;
    let _worker = site.drive_worker().await;
    let mut recording = site.labelled().await;
    let objects = site.cartridge().objects();
    recording.next_tape_file += 1;
    let (key, _) = site.assign_write(&recording, SMALL);
    assert_eq!(site.fault(key).await, "POSITION_UNEXPECTED");
    assert_eq!(site.controller.verdicts(), [Verdict::ReadOnly]);
    assert_eq!(site.cartridge().objects(), objects);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tape_whose_end_is_not_found_is_written_no_more_and_can_be_read() {
    let mut site = Site::with_blank().await;
    let _worker = site.drive_worker().await;
    let mut recording = site.labelled().await;
    let parts = site
        .back_up(&mut recording, &Segments::new(36, 2, SEGMENT), SMALL)
        .await;
    let objects = site.cartridge().objects();
    for (key, verdicts) in [(3, 1), (8, 2)] {
        // Positioning on the end is the second movement behind the label's reading.
        let mut lost = fault(At::Position, recording.next_block, key, 0x14);
        (lost.object, lost.ascq) = (Some(4), 3);
        site.library.faults().lock().add(lost);
        let (key, _) = site.assign_write(&recording, SMALL);
        assert_eq!(site.fault(key).await, "END_OF_DATA_MISSING");
        assert_eq!(
            site.controller.verdicts(),
            vec![Verdict::ReadOnly; verdicts]
        );
        assert_eq!(site.cartridge().objects(), objects);
        let key = site.assign_read(&recording);
        let mut reading = site.reading(key).await;
        reading.ask(&parts[0].header, 0, 100).await;
        assert_eq!(reading.range().await.0.len(), 100);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tab_that_is_found_while_writing_condemns_nothing() {
    let mut site = Site::with_blank().await;
    let _worker = site.drive_worker().await;
    let recording = site.labelled().await;
    let tab = fault(At::Write, recording.next_block + 1, 7, 0x27);
    // The archive goes on with another volume.
    let heard = backup_with(&mut site, &recording, tab).await;
    assert!(heard.contains("write protected"), "{heard}");
    assert_eq!(site.controller.verdicts(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_drive_does_not_condemn_its_cartridge() {
    let mut site = Site::with_blank().await;
    let _worker = site.drive_worker().await;
    let mut recording = site.labelled().await;
    let bad = fault(At::Write, recording.next_block + 2, 4, 0x44);
    let why = backup_with(&mut site, &recording, bad).await;
    assert!(why.contains("hardware error"), "{why}");
    assert_eq!(site.controller.verdicts(), []);
    assert_eq!(site.controller.parts().len(), 0);
    if let Some(orphan) = site.controller.orphans().pop() {
        recording.next_tape_file = orphan.next_tape_file;
        recording.next_block = orphan.next_block;
    }
    site.back_up(&mut recording, &Segments::new(34, 2, SEGMENT), SMALL)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_filemark_that_fails_the_part_is_read_back() {
    let mut site = Site::with_blank().await;
    let _worker = site.drive_worker().await;
    let recording = site.labelled().await;
    let mut bad = fault(At::Filemark, 0, 3, 0x0c);
    bad.object = None;
    let why = backup_with(&mut site, &recording, bad).await;
    assert!(why.contains("medium error"), "{why}");
    assert_eq!(site.controller.verdicts(), [Verdict::ReadOnly]);
    let part = site.controller.parts().pop().unwrap().header;
    assert_eq!(part.first_block, recording.next_block);
    assert_eq!(part.next_block, site.cartridge().objects());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_part_ends_the_work_although_the_next_is_under_way() {
    let mut site = Site::with_blank().await;
    let _worker = site.drive_worker().await;
    let recording = site.labelled().await;
    let (key, archive) = site.assign_write(&recording, SMALL);
    let mut writing = site.writing(key).await;
    site.controller
        .refuse_commit(Code::FailedPrecondition, "ARCHIVE_CLOSED");
    // One part and the beginning of another; the source then waits.
    for segment in &Segments::new(35, 9, SEGMENT).seal(&archive)[..5] {
        writing.segment(segment).await;
    }
    let heard = writing.committed().await.unwrap_err();
    assert_eq!(heard.reason, "ARCHIVE_CLOSED");
    assert_eq!(site.fault(key).await, "ARCHIVE_CLOSED");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_comes_behind_the_last_segment() {
    let mut site = Site::with_blank().await;
    let _worker = site.drive_worker().await;
    let recording = site.labelled().await;
    let (key, archive) = site.assign_write(&recording, SMALL);
    let mut writing = site.writing(key).await;
    let sealed = Segments::new(36, 1, SEGMENT).seal(&archive);
    writing.segment(&sealed[0]).await;
    writing.segment(&sealed[0]).await;
    assert_eq!(writing.committed().await.unwrap_err().reason, "BAD_STREAM");
    assert_eq!(site.fault(key).await, "BAD_STREAM");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_of_nothing_has_an_end_too() {
    let mut site = Site::with_blank().await;
    let _worker = site.drive_worker().await;
    let mut recording = site.labelled().await;
    let parts = site
        .back_up(&mut recording, &Segments::new(37, 1, SEGMENT), SMALL)
        .await;
    let key = site.assign_read(&recording);
    let mut reading = site.reading(key).await;
    reading.ask(&parts[0].header, u64::from(BLOCK), 0).await;
    assert_eq!(reading.range().await, (Vec::new(), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cartridge_is_locked_in_while_there_is_work_and_no_longer() {
    let mut site = Site::with_blank().await;
    let worker = site.drive_worker().await;
    let recording = site.labelled().await;
    let target = site.library.drive_target(0).unwrap();
    let mut theirs = ScsiDrive::new(Box::new(InProcess::new("theirs", target))).unwrap();
    // The label is written, and nobody works.
    theirs.unload().unwrap();
    let (key, archive) = site.assign_write(&recording, 1 << 30);
    let mut writing = site.writing(key).await;
    assert!(theirs.unload().is_err());
    let sealed = Segments::new(38, 2, SEGMENT).seal(&archive);
    writing.segment(&sealed[0]).await;
    bytes_on_their_way(&site, &recording).await;
    assert!(theirs.unload().is_err());
    // The next worker lets go of what a killed one has locked in.
    drop(worker);
    site.controller.assign(Vec::new());
    let _worker = site.drive_worker().await;
    // The settings that the killed one made are news to others.
    theirs.attentions().unwrap();
    theirs.unload().unwrap();
}

/// Sends an archive that does not fit: the parts that are committed.
async fn too_much(site: &mut Site, recording: &Recording, part_size: u64) -> Vec<PartHeader> {
    let (key, archive) = site.assign_write(recording, part_size);
    let mut writing = site.writing(key).await;
    let sealed = Segments::new(39, 80, SEGMENT).seal(&archive);
    for segment in &sealed {
        writing.segment(segment).await;
    }
    writing.finish(79).await;
    assert!(site.next_volume(key).await.contains("is full"));
    assert_eq!(site.controller.verdicts(), [Verdict::Full]);
    let parts = site.controller.parts();
    parts.into_iter().map(|part| part.header).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hard_end_without_a_warning_costs_the_open_part_alone() {
    let small = |spec: &mut Spec| {
        spec.capacity = 2 << 20;
        spec.early_warning = Some(0);
    };
    let mut site = Site::start(small, &[(BARCODE, NewCartridge::default())]).await;
    site.insert();
    let _worker = site.drive_worker().await;
    let recording = site.labelled().await;
    let parts = too_much(&mut site, &recording, SMALL).await;
    assert!(parts.len() >= 2, "{parts:?}");
    // All that is reported is there, and the tape goes no further than what was reported.
    for part in &parts {
        let length = site.tape_file(part.tape_file).len() as u64;
        assert!(length == part.byte_count || part.truncated && length > part.byte_count);
    }
    let last = parts.last().unwrap();
    match site.controller.orphans().pop() {
        Some(orphan) => {
            assert_eq!(orphan.first_block, last.next_block);
            assert_eq!(orphan.next_block, site.cartridge().objects());
        }
        None => assert!(site.cartridge().objects() >= last.next_block),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warning_at_the_first_block_leaves_room_for_one_segment() {
    let near = |spec: &mut Spec| {
        spec.capacity = 8 << 20;
        spec.early_warning = Some(8 << 20);
    };
    let mut site = Site::start(near, &[(BARCODE, NewCartridge::default())]).await;
    site.insert();
    let _worker = site.drive_worker().await;
    let recording = site.labelled().await;
    let parts = too_much(&mut site, &recording, 1 << 30).await;
    assert_eq!(parts.len(), 1);
    assert_eq!((parts[0].first_sequence, parts[0].last_sequence), (0, 0));
    assert_eq!(parts[0].next_block, site.cartridge().objects());
    assert_eq!(site.controller.orphans(), []);
}
