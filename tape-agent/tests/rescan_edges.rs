//! A rescan where something broke: parts that an error cut off, what belongs to nobody, cartridges that tell nothing.
#![allow(clippy::unwrap_used, missing_docs)]

mod site;

use site::{BARCODE, Committed, Scanned, Segments, Site, follow, index_part};
use taf_drive::{Drive as _, Sync};
use taf_emulator::faults::{At, Fault};
use taf_format::index::{Body, IndexOrphan, IndexPart};
use taf_format::label::{self, Label};
use taf_proto::agent::assignment::Work;
use taf_proto::agent::fetch_index_response::Message;
use taf_proto::agent::result::Done;
use taf_proto::agent::{AssignmentKey, Recording, RescanDone, RescanWork};
use uuid::Uuid;

const SEGMENT: usize = 64 << 10;
const LARGE: u64 = 1 << 30;

fn rescan(site: &mut Site) -> AssignmentKey {
    site.assign(Work::Rescan(RescanWork {
        barcode: BARCODE.into(),
        recording: None,
    }))
}

async fn scanned(site: &mut Site) -> (RescanDone, Scanned) {
    let key = rescan(site);
    let result = site.result(key).await;
    assert_eq!(result.fault, None);
    let Some(Done::Rescan(done)) = result.done else {
        panic!("{result:?}");
    };
    let told = site.controller.scanned().unwrap();
    assert_eq!(told.header.key, Some(key));
    (done, told)
}

fn parts_told(told: &Scanned) -> Vec<IndexPart> {
    let part = |body: &Body| match body {
        Body::Part(part) => Some(part.clone()),
        _ => None,
    };
    told.records.iter().filter_map(part).collect()
}

fn orphans_told(told: &Scanned) -> Vec<IndexOrphan> {
    let orphan = |body: &Body| match body {
        Body::Orphan(orphan) => Some(orphan.clone()),
        _ => None,
    };
    told.records.iter().filter_map(orphan).collect()
}

/// A part that a write error cut off behind some of its segments and within another, as it was committed.
async fn cut_off(site: &mut Site, recording: &mut Recording) -> Committed {
    site.library.faults().lock().add(Fault {
        at: At::Write,
        barcode: None,
        object: Some(recording.next_block + 14),
        times: 1,
        key: 3,
        asc: 0x0C,
        ascq: 0,
        ..Fault::default()
    });
    let (key, archive) = site.assign_write(recording, LARGE);
    let mut writing = site.writing(key).await;
    for segment in &Segments::new(41, 6, SEGMENT).seal(&archive) {
        writing.segment(segment).await;
    }
    site.next_volume(key).await;
    let part = site.controller.parts().pop().unwrap();
    assert!(part.header.truncated && !part.header.last, "{part:?}");
    // Bytes are on tape that do not count.
    let on_tape = site.tape_file(part.header.tape_file).len() as u64;
    assert!(on_tape > part.header.byte_count);
    follow(recording, std::slice::from_ref(&part));
    part
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_was_cut_off_is_told_as_far_as_an_index_says_that_it_counts() {
    // Whether its records are in the index, or it is only listed there.
    for covered in [true, false] {
        let mut site = Site::with_blank().await;
        let mut worker = site.drive_worker().await;
        let mut recording = site.labelled().await;
        let part = cut_off(&mut site, &mut recording).await;
        if !covered {
            site.controller.assign(Vec::new());
            worker.0.kill().unwrap();
            worker.0.wait().unwrap();
            std::fs::remove_dir_all(site.path("state/index-spool")).unwrap();
            worker = site.drive_worker().await;
        }
        let listed = IndexPart {
            truncated: true,
            ..index_part(&part)
        };
        let key = site.assign_index(&recording, &[], vec![Message::Part(listed.clone())]);
        assert_eq!(site.result(key).await.fault, None);
        let index = site.controller.indexes().pop().unwrap();
        assert_eq!(index.uncovered.is_empty(), covered);

        let (done, told) = scanned(&mut site).await;
        assert_eq!(done.problem_count, 0, "{:?}", told.trailer.problems);
        assert_eq!(done.read_part_count, u64::from(!covered));
        let found = parts_told(&told);
        assert_eq!(found.len(), 1);
        let whole = IndexPart {
            next_tape_file: part.header.next_tape_file,
            next_block: part.header.next_block,
            // Not told by the test's index, but by the part's own segments.
            line_uuid: found[0].line_uuid.clone(),
            attempt: found[0].attempt,
            ..listed
        };
        assert_eq!(found[0], whole, "covered: {covered}");
        let tables = told.records.iter().filter_map(|body| match body {
            Body::Table(bytes) => Some(bytes.to_vec()),
            _ => None,
        });
        assert!(tables.collect::<Vec<_>>().concat() == part.header.segment_table);
        assert_eq!(told.trailer.next_block, index.next_block);
        drop(worker);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_was_cut_off_and_is_in_no_index_is_named_and_not_told() {
    let mut site = Site::with_blank().await;
    let _worker = site.drive_worker().await;
    let mut recording = site.labelled().await;
    let part = cut_off(&mut site, &mut recording).await;
    // How much of it counts only its successor on the next volume knows.
    let (done, told) = scanned(&mut site).await;
    assert_eq!((done.part_count, done.problem_count), (0, 1));
    assert_eq!(parts_told(&told), []);
    let problem = &told.trailer.problems[0];
    assert_eq!(
        (problem.tape_file, problem.first_block),
        (part.header.tape_file, part.header.first_block)
    );
    assert_eq!(
        (told.trailer.next_tape_file, told.trailer.next_block),
        (recording.next_tape_file, recording.next_block)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_nobody_is_an_orphan_whether_a_filemark_ends_it_or_not() {
    let mut site = Site::with_blank().await;
    let _worker = site.drive_worker().await;
    let mut recording = site.labelled().await;
    let parts = site
        .back_up(&mut recording, &Segments::new(42, 2, SEGMENT), LARGE)
        .await;
    let (file, block) = (recording.next_tape_file, recording.next_block);
    let strange = |closed: bool| {
        let mut drive = site.behind();
        drive.locate_end_of_data().unwrap();
        let end = drive.position().unwrap().block;
        drive.allow_overwrite(end).unwrap();
        drive.write_block(&vec![0x5a; SEGMENT]).unwrap();
        if closed {
            drive.write_filemarks(1, Sync::Synchronous).unwrap();
        } else {
            drive.flush().unwrap();
        }
    };
    strange(true);
    strange(false);
    assert_eq!(site.cartridge().objects(), block + 3);
    let (done, told) = scanned(&mut site).await;
    assert_eq!((done.part_count, done.problem_count), (1, 0), "{told:?}");
    assert_eq!(parts_told(&told)[0].tape_file, parts[0].header.tape_file);
    let places: Vec<_> = orphans_told(&told)
        .iter()
        .map(|orphan| (orphan.tape_file, orphan.first_block, orphan.next_block))
        .collect();
    assert_eq!(
        places,
        [(file, block, block + 2), (file + 1, block + 2, block + 3)]
    );
    let trailer = &told.trailer;
    assert_eq!(
        (trailer.next_tape_file, trailer.next_block, trailer.open),
        (file + 2, block + 3, true)
    );
}

fn write_first(site: &Site, blocks: &[Vec<u8>]) {
    let mut drive = site.behind();
    drive.rewind().unwrap();
    drive.allow_overwrite(0).unwrap();
    for block in blocks {
        drive.write_block(block).unwrap();
    }
    drive.write_filemarks(1, Sync::Synchronous).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cartridge_without_our_label_for_its_barcode_tells_nothing() {
    let mut site = Site::with_blank().await;
    let _worker = site.drive_worker().await;
    let mut tar = vec![0x20; SEGMENT];
    tar[257..262].copy_from_slice(b"ustar");
    let of_another_barcode = label::encode(&Label {
        installation_uuid: site.installation(),
        volume_uuid: Uuid::new_v4(),
        recording_uuid: Uuid::new_v4(),
        barcode: "TAF009L8".to_owned(),
        pool: "default".to_owned(),
        block_size: site::BLOCK,
        labelled_at_unix_nanos: 1,
        writer: "TAF 0".to_owned(),
    })
    .unwrap();
    for (blocks, reason) in [
        (vec![tar], "FOREIGN_CARTRIDGE"),
        (of_another_barcode, "WRONG_CARTRIDGE"),
    ] {
        write_first(&site, &blocks);
        let before = site.tape_file(0);
        let key = rescan(&mut site);
        assert_eq!(site.fault(key).await, reason);
        assert!(site.tape_file(0) == before, "{reason}");
    }
    site.library.faults().lock().add(Fault {
        at: At::Read,
        barcode: None,
        object: Some(0),
        // As often as a beginning is tried.
        times: 3,
        key: 3,
        asc: 0x11,
        ascq: 0,
        ..Fault::default()
    });
    let key = rescan(&mut site);
    assert_eq!(site.fault(key).await, "LABEL_UNREADABLE");
    assert_eq!(site.controller.scanned(), None);
}
