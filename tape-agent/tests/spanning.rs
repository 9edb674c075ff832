//! One archive over several cartridges: the transfer waits in the worker while they are exchanged.
#![allow(clippy::unwrap_used, missing_docs)]

mod site;

use site::{BARCODE, PATIENCE, Segments, Site, until, unzstd};
use taf_emulator::faults::{At, Fault};
use taf_emulator::library::{NewCartridge, Spec};
use taf_format::block0::Block0;
use taf_proto::agent::assignment::Work;
use taf_proto::agent::report_volume_request::Verdict;
use taf_proto::agent::*;

const SEGMENT: usize = 64 << 10;
const PART: u64 = 600 << 10;
const SECOND: &str = "TAF002L8";
const THIRD: &str = "TAF003L8";

/// Three cartridges of 2 MiB, all labelled, the first in the drive.
async fn site_of_three(distance: u64) -> (Site, site::Process, [Recording; 3]) {
    let small = |spec: &mut Spec| {
        spec.capacity = 2 << 20;
        spec.early_warning = Some(distance);
    };
    let blank = NewCartridge::default;
    let cartridges = [(BARCODE, blank()), (SECOND, blank()), (THIRD, blank())];
    let mut site = Site::start(small, &cartridges).await;
    site.insert();
    let worker = site.drive_worker().await;
    let mut recordings = Vec::new();
    for barcode in [BARCODE, SECOND, THIRD] {
        if barcode != BARCODE {
            site.exchange(barcode).await;
        }
        recordings.push(site.labelled_as(barcode).await);
    }
    site.exchange(BARCODE).await;
    (site, worker, recordings.try_into().unwrap())
}

/// The same attempt goes on with this volume.
async fn goes_on(
    site: &mut Site,
    key: AssignmentKey,
    archive: &Archive,
    recording: &Recording,
) -> AssignmentKey {
    let unload = site.assign_next(key, Work::Unload(UnloadWork {}));
    assert_eq!(site.result(unload).await.fault, None);
    site.carry(&recording.barcode);
    let work = WriteWork {
        recording: Some(recording.clone()),
        archive: Some(archive.clone()),
        peer_agent_id: "files".into(),
        part_size: PART,
        continues: true,
        beside: Vec::new(),
    };
    site.assign_next(unload, Work::Write(work))
}

/// The bytes of all parts, each up to what its successor says.
fn as_a_person_reads_them(site: &Site) -> Vec<u8> {
    let parts = site.controller.parts();
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    for part in &parts {
        let recording = &part.header.recording_uuid;
        let barcode = [BARCODE, SECOND, THIRD]
            .into_iter()
            .find(|barcode| site::recording_uuid_of(barcode) == *recording)
            .unwrap();
        let cartridge = site.cartridge_of(barcode);
        let blocks = cartridge.blocks(part.header.tape_file).unwrap();
        let bytes: Vec<u8> = blocks.flat_map(std::result::Result::unwrap).collect();
        let block0 = Block0::decode(&bytes[..site::BLOCK as usize]).unwrap();
        if let Some(counted) = block0.predecessor.and_then(|before| before.bytes) {
            pieces.last_mut().unwrap().truncate(counted as usize);
        }
        pieces.push(bytes);
    }
    pieces.concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_goes_over_three_cartridges_on_one_connection() {
    for distance in [0, 1000, 300 << 10] {
        let (mut site, _worker, [first, second, third]) = site_of_three(distance).await;
        let (key, archive) = site.assign_write(&first, PART);
        let mut writing = site.writing(key).await;
        let segments = Segments::new(51, 70, SEGMENT);
        let sealed = segments.seal(&archive);
        for segment in &sealed {
            writing.segment(segment).await;
        }
        writing.finish(69).await;
        assert!(site.next_volume(key).await.contains("TAF001L8 is full"));
        let key = goes_on(&mut site, key, &archive, &second).await;
        assert!(site.next_volume(key).await.contains("TAF002L8 is full"));
        let key = goes_on(&mut site, key, &archive, &third).await;
        let parts = writing.committed().await.unwrap();
        let result = site.result(key).await;
        let done = WriteDone {
            part_count: parts,
            ..WriteDone::default()
        };
        assert_eq!(result.done, Some(result::Done::Write(done)));
        assert_eq!(site.controller.verdicts(), [Verdict::Full, Verdict::Full]);
        assert_eq!(site.controller.parts().len(), parts as usize);
        let unload = site.assign_next(key, Work::Unload(UnloadWork {}));
        site.result(unload).await;
        let tape = as_a_person_reads_them(&site);
        assert!(unzstd(&tape) == segments.tar, "distance {distance}");
        let (_, seen) = site.controller.drive().unwrap();
        assert!(seen.committed_byte_count == 0 || seen.committed_byte_count > 4 << 20);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_volume_ends_with_its_source_agent_or_with_other_work() {
    let (mut site, _worker, [first, second, _]) = site_of_three(300 << 10).await;
    let (key, archive) = site.assign_write(&first, PART);
    let mut writing = site.writing(key).await;
    let sealed = Segments::new(52, 40, SEGMENT).seal(&archive);
    for segment in &sealed[..39] {
        writing.segment(segment).await;
    }
    site.next_volume(key).await;
    drop(writing);
    let key = goes_on(&mut site, key, &archive, &second).await;
    assert_eq!(site.fault(key).await, "PEER_LOST");

    let (key, archive) = site.assign_write(&second, PART);
    let mut writing = site.writing(key).await;
    for segment in &Segments::new(53, 40, SEGMENT).seal(&archive) {
        writing.segment(segment).await;
    }
    site.next_volume(key).await;
    // Work for another attempt: this one is told.
    let other = site.assign_read(&second);
    until("the other to be heard", || {
        let (about, seen) = site.controller.drive()?;
        (about == Some(other) && seen.phase == "waiting").then_some(())
    })
    .await;
    let ended = tokio::time::timeout(PATIENCE, writing.ended()).await;
    ended.expect("the connection ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drive_that_fails_on_two_cartridges_gets_no_third() {
    let (mut site, _worker, [first, second, _]) = site_of_three(300 << 10).await;
    let bad = Fault {
        at: At::Write,
        object: Some(first.next_block + 1),
        times: 0,
        key: 4,
        asc: 0x44,
        ..Fault::default()
    };
    site.library.faults().lock().add(bad);
    let (key, archive) = site.assign_write(&first, PART);
    let mut writing = site.writing(key).await;
    for segment in &Segments::new(54, 10, SEGMENT).seal(&archive) {
        writing.segment(segment).await;
    }
    site.next_volume(key).await;
    let key = goes_on(&mut site, key, &archive, &second).await;
    let fault = writing.committed().await.unwrap_err();
    assert_eq!(fault.reason, "DRIVE_FAILED");
    assert_eq!(site.fault(key).await, "DRIVE_FAILED");
    assert_eq!(site.controller.verdicts(), []);
}
