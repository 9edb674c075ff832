//! Volume indexes: they tell of what is on tape and no index has, whatever dies in between, and never take the room of a part.
#![allow(clippy::unwrap_used, missing_docs)]

mod site;

use bytes::Bytes;
use site::{BARCODE, Committed, Segments, Site, index_part, index_volume, until, unzstd};
use taf_emulator::faults::{At, Fault};
use taf_emulator::library::NewCartridge;
use taf_format::index::{IndexEnd, IndexOrphan, IndexPartEnd, IndexPointer};
use taf_proto::agent::fetch_index_response::Message;
use taf_proto::agent::report_volume_request::Verdict;
use taf_proto::agent::result::Done;
use taf_proto::agent::{
    AssignmentKey, CommitIndexRequest, IndexClosing, IndexDone, IndexedPart, Recording,
};
use tonic::Code;
use uuid::Uuid;

const SEGMENT: usize = 64 << 10;
/// About three segments.
const SMALL: u64 = 200 << 10;

fn place(part: &Committed) -> IndexedPart {
    IndexedPart {
        recording_uuid: part.header.recording_uuid.clone(),
        tape_file: part.header.tape_file,
    }
}

fn closing(version: u64) -> Message {
    let record = taf_format::index::ClosingRecord {
        format_version: 1,
        version,
        ..Default::default()
    };
    Message::Closing(IndexClosing {
        line_uuid: Bytes::copy_from_slice(Uuid::from_u128(9).as_bytes()),
        version,
        record: prost::Message::encode_to_vec(&record).into(),
        plan: "nightly".into(),
    })
}

async fn written(site: &Site, key: AssignmentKey) -> IndexDone {
    let result = site.result(key).await;
    let Some(Done::Index(done)) = result.done else {
        panic!("{result:?}");
    };
    done
}

/// Moves the recording's end behind an index, as the catalog would.
fn follow_index(recording: &mut Recording, index: &CommitIndexRequest) {
    assert_eq!(
        (index.tape_file, index.first_block),
        (recording.next_tape_file, recording.next_block)
    );
    recording.next_tape_file = index.next_tape_file;
    recording.next_block = index.next_block;
}

/// Files of parts that wait for an index.
fn kept(site: &Site) -> usize {
    let folders = std::fs::read_dir(site.path("state/index-spool")).unwrap();
    folders
        .map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap().count())
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_tells_of_the_parts_since_the_last_one_and_is_stepped_over() {
    let mut site = Site::with_blank().await;
    let mut worker = site.drive_worker().await;
    let mut recording = site.labelled().await;
    let segments = Segments::new(1, 7, SEGMENT);
    let mut parts = site.back_up(&mut recording, &segments, SMALL).await;
    assert!(parts.len() >= 2);
    // What is kept survives the worker.
    site.controller.assign(Vec::new());
    worker.0.kill().unwrap();
    worker.0.wait().unwrap();
    let _worker = site.drive_worker().await;

    let orphan = IndexOrphan {
        tape_file: 77,
        first_block: 7,
        next_block: 8,
        reason: "torn".into(),
    };
    let further = vec![Message::Orphan(orphan.clone()), closing(1), closing(2)];
    let key = site.assign_index(&recording, &parts, further);
    let done = written(&site, key).await;
    assert_eq!(
        (done.part_count, done.closing_count),
        (parts.len() as u32, 2)
    );
    let index = site.controller.indexes().remove(0);
    assert_eq!(index.covered, parts.iter().map(place).collect::<Vec<_>>());
    assert_eq!((index.uncovered.len(), index.versions.len()), (0, 2));
    assert_eq!(index.key, Some(key));
    follow_index(&mut recording, &index);
    assert_eq!(site.cartridge().objects(), recording.next_block);
    assert_eq!(kept(&site), 0, "the index has it");

    let bytes = site.tape_file(index.tape_file);
    assert_eq!(bytes.len() as u64, index.byte_count);
    let (head, summary) = site.index(index.tape_file);
    assert_eq!(head.index_uuid.as_bytes()[..], index.index_uuid[..]);
    assert_eq!((head.tape_file, head.earlier), (index.tape_file, None));
    assert!(summary.is_whole(), "{summary:?}");
    let told = &summary.recordings[&recording.recording_uuid];
    assert_eq!(told.volume, index_volume(&recording));
    assert_eq!(told.orphans, [orphan]);
    for part in &parts {
        let found = &told.parts[&part.header.tape_file];
        let expected = taf_format::index::IndexPart {
            next_tape_file: part.header.next_tape_file,
            next_block: part.header.next_block,
            ..index_part(part)
        };
        assert_eq!(found.part, expected);
        let segments = part.header.last_sequence - part.header.first_sequence + 1;
        let expected = IndexPartEnd {
            table_byte_count: part.header.segment_table.len() as u64,
            page_count: 2 * segments,
            ..IndexPartEnd::default()
        };
        assert_eq!(found.found, expected);
    }

    // The next one knows of it, and of what is not kept here says so.
    let more = site
        .back_up(&mut recording, &Segments::new(2, 1, SEGMENT), SMALL)
        .await;
    let mut lost = more[0].clone();
    lost.header.tape_file = 99;
    let mut further = vec![
        Message::Earlier(IndexPointer {
            tape_file: index.tape_file,
            first_block: index.first_block,
        }),
        Message::Part(index_part(&lost)),
        Message::Part(index_part(&more[0])),
    ];
    let key = site.assign_index(&recording, &[], further.clone());
    assert_eq!(written(&site, key).await.part_count, 1);
    let second = site.controller.indexes().remove(1);
    assert_eq!(
        (second.covered, second.uncovered),
        (vec![place(&more[0])], vec![place(&lost)])
    );
    let (head, summary) = site.index(second.tape_file);
    assert_eq!(head.earlier, Some((index.tape_file, index.first_block)));
    assert!(summary.is_whole(), "{summary:?}");
    let counts = IndexEnd {
        part_count: 1,
        uncovered_count: 1,
        closing_count: 0,
    };
    assert_eq!(summary.end, Some(counts));

    // With nothing to tell nothing is written.
    recording.next_tape_file = second.next_tape_file;
    recording.next_block = second.next_block;
    further.truncate(1);
    let key = site.assign_index(&recording, &[], further);
    assert_eq!(written(&site, key).await, IndexDone::default());
    assert_eq!(site.cartridge().objects(), recording.next_block);

    // Tape files in a row are what they were without indexes.
    let tape: Vec<u8> = (1..recording.next_tape_file)
        .flat_map(|n| site.tape_file(n))
        .collect();
    parts.extend(more);
    assert!(unzstd(&tape).starts_with(&segments.tar));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_is_not_committed_is_an_orphan_and_the_next_one_tells_of_the_same() {
    let mut site = Site::with_blank().await;
    let _worker = site.drive_worker().await;
    let mut recording = site.labelled().await;
    let parts = site
        .back_up(&mut recording, &Segments::new(3, 2, SEGMENT), SMALL)
        .await;
    site.controller
        .refuse_commit(Code::FailedPrecondition, "VOLUME_POSITION");
    let key = site.assign_index(&recording, &parts, Vec::new());
    assert_eq!(site.fault(key).await, "VOLUME_POSITION");
    assert!(
        site.cartridge().objects() > recording.next_block,
        "it is on tape"
    );
    assert_eq!(site.controller.orphans(), []);

    let key = site.assign_index(&recording, &parts, Vec::new());
    assert_eq!(written(&site, key).await.part_count, 1);
    let orphan = site.controller.orphans().remove(0);
    assert_eq!(orphan.tape_file, recording.next_tape_file);
    assert!(orphan.reason.contains("index"), "{}", orphan.reason);
    let index = site.controller.indexes().remove(0);
    assert_eq!(
        (index.tape_file, index.first_block),
        (orphan.next_tape_file, orphan.next_block)
    );
    assert!(site.index(index.tape_file).1.is_whole());
    assert!(
        site.index(orphan.tape_file).1.is_whole(),
        "what it says is true all the same"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_torn_by_an_error_is_closed_and_reported() {
    let mut site = Site::with_blank().await;
    let _worker = site.drive_worker().await;
    let mut recording = site.labelled().await;
    let mut segments = Segments::new(4, 4, SEGMENT);
    segments.page = 20_000;
    let parts = site.back_up(&mut recording, &segments, 1 << 30).await;
    site.library.faults().lock().add(Fault {
        at: At::Write,
        barcode: None,
        object: Some(recording.next_block + 3),
        times: 1,
        key: 3,
        asc: 0x0C,
        ascq: 0,
        ..Fault::default()
    });
    let key = site.assign_index(&recording, &parts, Vec::new());
    assert_eq!(site.fault(key).await, "MEDIUM_ERROR");
    let orphan = site.controller.orphans().remove(0);
    assert_eq!(
        (orphan.tape_file, orphan.first_block),
        (recording.next_tape_file, recording.next_block)
    );
    assert_eq!(orphan.next_block, site.cartridge().objects());
    assert_eq!(site.controller.indexes(), []);
    recording.next_tape_file = orphan.next_tape_file;
    recording.next_block = orphan.next_block;
    let key = site.assign_index(&recording, &parts, Vec::new());
    assert_eq!(written(&site, key).await.part_count, 1);
    assert!(site.index(recording.next_tape_file).1.is_whole());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_in_an_index_leaves_an_orphan_and_nothing_is_forgotten() {
    let mut site = Site::with_blank().await;
    let mut worker = site.drive_worker().await;
    let mut recording = site.labelled().await;
    let mut segments = Segments::new(5, 4, SEGMENT);
    segments.page = 30_000;
    let parts = site.back_up(&mut recording, &segments, 1 << 30).await;
    site.controller.set_away_at_commit(true);
    site.assign_index(&recording, &parts, Vec::new());
    until("an index on tape", || {
        let drive = site.library.drives()[0].lock();
        (drive.cartridge()?.objects() > recording.next_block + 3).then_some(())
    })
    .await;
    site.controller.assign(Vec::new());
    worker.0.kill().unwrap();
    worker.0.wait().unwrap();
    site.controller.set_away_at_commit(false);
    let _worker = site.drive_worker().await;
    let key = site.assign_index(&recording, &parts, Vec::new());
    assert_eq!(written(&site, key).await.part_count, 1);
    assert_eq!(site.controller.orphans().len(), 1);
    let index = site.controller.indexes().remove(0);
    assert_eq!(index.tape_file, recording.next_tape_file + 1);
    assert!(site.index(index.tape_file).1.is_whole());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_room_at_the_end_the_volume_owes_its_index() {
    let blank = NewCartridge {
        capacity: Some(2 << 20),
        ..NewCartridge::default()
    };
    // Less than the index takes.
    let mut site = Site::start(
        |spec| spec.early_warning = Some(256 << 10),
        &[(BARCODE, blank)],
    )
    .await;
    site.insert();
    let _worker = site.drive_worker().await;
    let mut recording = site.labelled().await;
    let mut segments = Segments::new(6, 12, SEGMENT);
    segments.page = 32 << 10;
    let parts = site.back_up(&mut recording, &segments, 1 << 30).await;
    let key = site.assign_index(&recording, &parts, Vec::new());
    assert_eq!(written(&site, key).await, IndexDone::default());
    assert_eq!(
        site.controller.verdicts().last(),
        Some(&Verdict::IndexOmitted)
    );
    assert_eq!(site.controller.indexes(), []);
    assert_eq!(kept(&site), parts.len(), "another volume is to have it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_fills_has_its_index_behind_its_last_part() {
    let blank = NewCartridge {
        capacity: Some(4 << 20),
        ..NewCartridge::default()
    };
    let mut site = Site::start(
        |spec| spec.early_warning = Some(1 << 20),
        &[(BARCODE, blank)],
    )
    .await;
    site.insert();
    let _worker = site.drive_worker().await;
    site.controller.tell_all();
    let recording = site.labelled().await;
    let (key, archive) = site.assign_write(&recording, 1 << 20);
    let mut writing = site.writing(key).await;
    let segments = Segments::new(7, 80, SEGMENT).seal(&archive);
    let feeding = tokio::spawn(async move {
        for segment in &segments {
            writing.segment(segment).await;
        }
        writing
    });
    let result = site.result(key).await;
    let Some(Done::Write(done)) = &result.done else {
        panic!("{result:?}");
    };
    assert!(!done.next_volume_reason.is_empty());
    let parts = site.controller.parts();
    let index = site.controller.indexes().remove(0);
    assert_eq!(index.covered, parts.iter().map(place).collect::<Vec<_>>());
    assert_eq!(index.tape_file, parts.last().unwrap().header.next_tape_file);
    assert_eq!(site.cartridge().objects(), index.next_block);
    let (_, summary) = site.index(index.tape_file);
    assert!(summary.is_whole(), "{summary:?}");
    assert_eq!(site.controller.verdicts(), [Verdict::Full]);
    assert_eq!(kept(&site), 0);
    feeding.abort();
}
