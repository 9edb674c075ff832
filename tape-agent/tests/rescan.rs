//! A rescan tells all that is on a cartridge: from its volume indexes, and from parts that none has.
#![allow(clippy::unwrap_used, missing_docs)]

mod site;

use std::collections::BTreeMap;

use bytes::Bytes;
use site::{BARCODE, Committed, Process, Scanned, Segments, Site, index_part, until};
use taf_emulator::faults::{At, Fault};
use taf_format::index::{Body, ClosingRecord, IndexOrphan, IndexPart, IndexPartEnd, IndexPointer};
use taf_format::record;
use taf_proto::agent::assignment::Work;
use taf_proto::agent::fetch_index_response::Message;
use taf_proto::agent::result::Done;
use taf_proto::agent::{
    AssignmentKey, CommitIndexRequest, IndexClosing, Recording, RescanDone, RescanWork,
};
use uuid::Uuid;

const SEGMENT: usize = 64 << 10;
/// About three segments.
const SMALL: u64 = 200 << 10;

fn closing(version: u64) -> (Message, Body) {
    let record = ClosingRecord {
        format_version: 1,
        version,
        ..ClosingRecord::default()
    };
    let record: Bytes = prost::Message::encode_to_vec(&record).into();
    let message = Message::Closing(IndexClosing {
        line_uuid: Bytes::copy_from_slice(Uuid::from_u128(9).as_bytes()),
        version,
        record: record.clone(),
        plan: "nightly".into(),
    });
    (message, Body::Closing(record))
}

/// Writes an index of these parts, and moves the recording's end behind it.
async fn index(
    site: &mut Site,
    recording: &mut Recording,
    parts: &[Committed],
    further: Vec<Message>,
) -> CommitIndexRequest {
    let key = site.assign_index(recording, parts, further);
    let result = site.result(key).await;
    assert_eq!(result.fault, None);
    let index = site.controller.indexes().pop().unwrap();
    recording.next_tape_file = index.next_tape_file;
    recording.next_block = index.next_block;
    index
}

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

/// Parts by tape file, with their records.
type Parts = BTreeMap<u64, (IndexPart, Vec<Body>)>;

/// Parts by tape file, with all that follows each; and what is of no part.
fn sorted(told: &Scanned) -> (Parts, Vec<Body>) {
    let (mut parts, mut others, mut open) = (BTreeMap::new(), Vec::new(), None);
    for body in told.records.clone() {
        match (&body, &mut open) {
            (Body::Part(part), None) => open = Some((part.clone(), Vec::new())),
            (Body::PartEnd(_), Some(_)) => {
                let (part, mut records): (IndexPart, Vec<Body>) = open.take().unwrap();
                records.push(body);
                assert_eq!(parts.insert(part.tape_file, (part, records)), None);
            }
            (_, Some((_, records))) => records.push(body),
            (_, None) => others.push(body),
        }
    }
    assert!(open.is_none(), "the last part has its end");
    (parts, others)
}

/// What is to be told of a committed part behind its own record.
fn records(part: &Committed) -> Vec<Body> {
    let mut found = IndexPartEnd {
        table_byte_count: part.header.segment_table.len() as u64,
        ..IndexPartEnd::default()
    };
    let mut bodies = vec![Body::Table(part.header.segment_table.clone())];
    for record in record::iter(&part.records) {
        if let Some(record::Body::Page(page)) = record.unwrap().record {
            found.page_count += 1;
            bodies.push(Body::Page(page));
        }
    }
    bodies.push(Body::PartEnd(found));
    bodies
}

/// Every committed part is told of, as it was committed.
fn ensure_told(told: &Scanned, parts: &[Committed]) {
    let (found, _) = sorted(told);
    let files: Vec<u64> = found.keys().copied().collect();
    let expected: Vec<u64> = parts.iter().map(|part| part.header.tape_file).collect();
    assert_eq!(files, expected);
    for part in parts {
        let (known, bodies) = &found[&part.header.tape_file];
        let whole = IndexPart {
            next_tape_file: part.header.next_tape_file,
            next_block: part.header.next_block,
            // Not told by the test's index, or the part's own.
            line_uuid: known.line_uuid.clone(),
            attempt: known.attempt,
            ..index_part(part)
        };
        assert_eq!(*known, whole);
        assert_eq!(*bodies, records(part));
    }
}

fn unreadable(object: u64) -> Fault {
    Fault {
        at: At::Read,
        barcode: Some(BARCODE.into()),
        object: Some(object),
        times: u32::MAX,
        key: 3,
        asc: 0x11,
        ascq: 0,
        ..Fault::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn indexes_tell_and_only_what_none_has_is_read_itself() {
    let mut site = Site::with_blank().await;
    let mut worker = site.drive_worker().await;
    let mut recording = site.labelled().await;
    let mut parts = site
        .back_up(&mut recording, &Segments::new(1, 7, SEGMENT), SMALL)
        .await;
    let (closes, first_closing) = closing(1);
    let first = index(&mut site, &mut recording, &parts, vec![closes]).await;

    // Of what was written next nothing is kept, so that the second index only lists it.
    let more = site
        .back_up(&mut recording, &Segments::new(2, 4, SEGMENT), SMALL)
        .await;
    site.controller.assign(Vec::new());
    worker.0.kill().unwrap();
    worker.0.wait().unwrap();
    std::fs::remove_dir_all(site.path("state/index-spool")).unwrap();
    let mut worker: Process = site.drive_worker().await;
    let (closes, second_closing) = closing(2);
    let earlier = Message::Earlier(IndexPointer {
        tape_file: first.tape_file,
        first_block: first.first_block,
    });
    let further = vec![earlier, closes];
    let second = index(&mut site, &mut recording, &more, further).await;
    assert_eq!(second.uncovered.len(), more.len());
    let behind = site
        .back_up(&mut recording, &Segments::new(3, 1, SEGMENT), SMALL)
        .await;

    let read = more.len() + behind.len();
    parts.extend(more);
    parts.extend(behind);
    let (done, told) = scanned(&mut site).await;
    assert_eq!(done.part_count, parts.len() as u64);
    assert_eq!(done.read_part_count, read as u64);
    assert_eq!((done.index_count, done.closing_count), (2, 2));
    assert_eq!(done.problem_count, 0, "{told:?}");
    ensure_told(&told, &parts);
    let (_, others) = sorted(&told);
    assert!(others.contains(&first_closing) && others.contains(&second_closing));
    assert_eq!(others.len(), 2);

    let trailer = &told.trailer;
    assert_eq!(
        (trailer.next_tape_file, trailer.next_block, trailer.open),
        (recording.next_tape_file, recording.next_block, false)
    );
    let indexes: Vec<_> = trailer.indexes.iter().map(|i| &i.index_uuid).collect();
    assert_eq!(indexes, [&first.index_uuid, &second.index_uuid]);
    assert_eq!(trailer.indexes[0].first_block, first.first_block);
    assert_eq!(trailer.indexes[0].block_count, first.block_count);
    assert_eq!(trailer.indexes[0].byte_count, first.byte_count);
    let label = told.header.label.as_ref().unwrap();
    assert_eq!(label.recording_uuid, recording.recording_uuid);
    assert_eq!(label.barcode, BARCODE);

    // A worker that dies while the controller is away has told nothing, and the next one tells the same.
    site.controller.set_away(true);
    rescan(&mut site);
    until("a controller that is not there", || {
        let (_, drive) = site.controller.drive()?;
        (drive.phase == "telling the controller").then_some(())
    })
    .await;
    site.controller.assign(Vec::new());
    worker.0.kill().unwrap();
    worker.0.wait().unwrap();
    site.controller.set_away(false);
    let _worker = site.drive_worker().await;
    let (_, again) = scanned(&mut site).await;
    assert_eq!(again.records, told.records);
    assert_eq!(again.trailer, told.trailer);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_damaged_index_tells_of_is_read_itself_and_what_is_damaged_itself_is_named() {
    let mut site = Site::with_blank().await;
    let _worker = site.drive_worker().await;
    let mut recording = site.labelled().await;
    // More than one piece of an index.
    let mut segments = Segments::new(4, 30, SEGMENT);
    segments.page = 32_000;
    let parts = site.back_up(&mut recording, &segments, SMALL).await;
    assert!(parts.len() >= 3);
    let orphan = IndexOrphan {
        tape_file: 77,
        first_block: 70,
        next_block: 70,
        reason: "torn".into(),
    };
    let (closes, _) = closing(1);
    let further = vec![Message::Orphan(orphan), closes];
    let first = index(&mut site, &mut recording, &parts, further).await;
    assert!(first.block_count > 8);

    // In its middle.
    let middle = first.first_block + first.block_count / 2;
    site.library.faults().lock().add(unreadable(middle));
    let (done, told) = scanned(&mut site).await;
    assert!(done.read_part_count > 0 && done.read_part_count < parts.len() as u64);
    assert_eq!((done.problem_count, done.index_count), (0, 1));
    ensure_told(&told, &parts);

    // Its first block, and a block of a part.
    let lost = &parts[1].header;
    for object in [first.first_block, lost.first_block + 2] {
        site.library.faults().lock().add(unreadable(object));
    }
    let (done, told) = scanned(&mut site).await;
    assert_eq!(done.index_count, 0);
    assert_eq!(done.read_part_count, parts.len() as u64 - 1);
    let problems = &told.trailer.problems;
    let files: Vec<u64> = problems.iter().map(|p| p.tape_file).collect();
    assert_eq!(files, [first.tape_file, lost.tape_file], "{problems:?}");
    let mut others = parts.clone();
    others.remove(1);
    ensure_told(&told, &others);
    assert_eq!(told.trailer.next_block, recording.next_block);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_torn_is_named_and_an_index_counts_wherever_it_is_found() {
    let mut site = Site::with_blank().await;
    let mut worker = site.drive_worker().await;
    let mut recording = site.labelled().await;
    let parts = site
        .back_up(&mut recording, &Segments::new(5, 4, SEGMENT), SMALL)
        .await;
    // The controller never hears of the index.
    site.controller.set_away_at_commit(true);
    site.assign_index(&recording, &parts, Vec::new());
    until("an index on tape", || {
        let drive = site.library.drives()[0].lock();
        (drive.cartridge()?.objects() > recording.next_block + 2).then_some(())
    })
    .await;
    site.controller.assign(Vec::new());
    worker.0.kill().unwrap();
    worker.0.wait().unwrap();
    site.controller.set_away_at_commit(false);
    let mut worker = site.drive_worker().await;
    let (done, told) = scanned(&mut site).await;
    assert_eq!((done.index_count, done.read_part_count), (1, 0));
    ensure_told(&told, &parts);

    // A part that was being written when the worker died.
    let (key, archive) = site.assign_write(&recording, 1 << 30);
    let mut writing = site.writing(key).await;
    for segment in &Segments::new(6, 6, SEGMENT).seal(&archive)[..5] {
        writing.segment(segment).await;
    }
    let before = site.cartridge().objects();
    until("a part on tape", || {
        let drive = site.library.drives()[0].lock();
        (drive.cartridge()?.objects() > before.max(recording.next_block) + 6).then_some(())
    })
    .await;
    site.controller.assign(Vec::new());
    worker.0.kill().unwrap();
    worker.0.wait().unwrap();
    let _worker = site.drive_worker().await;
    let (done, told) = scanned(&mut site).await;
    assert_eq!(done.problem_count, u64::from(told.trailer.open), "{told:?}");
    let (found, _) = sorted(&told);
    assert!(
        parts
            .iter()
            .all(|part| found.contains_key(&part.header.tape_file))
    );
    assert_eq!(told.trailer.next_block, site.cartridge().objects());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cartridge_that_is_none_of_ours_is_not_told_of() {
    let mut site = Site::with_blank().await;
    let _worker = site.drive_worker().await;
    let key = rescan(&mut site);
    assert_eq!(site.fault(key).await, "BLANK");
    let mut recording = site.recording();
    recording.installation_uuid = vec![5; 16].into();
    assert_eq!(site.label(&recording).await.fault, None);
    let key = rescan(&mut site);
    assert_eq!(site.fault(key).await, "FOREIGN_INSTALLATION");
    assert_eq!(site.controller.scanned(), None);
}
