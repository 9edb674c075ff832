//! Parts that a killed worker left on tape and of which nobody was told, since its journal is lost with it: adopted where they
//! are current, orphans where they are not.
#![allow(clippy::unwrap_used, missing_docs)]

mod site;

use site::{Process, Segments, Site, follow, until};
use taf_emulator::faults::{At, Fault};
use taf_format::segment::Method;
use taf_proto::agent::*;

const SEGMENT: usize = 40 << 10;
/// Three segments of any method reach it, two do not.
const SMALL: u64 = 110 << 10;

/// A volume with two whole parts and the beginning of a third of an archive that no controller has heard of; the worker is dead,
/// and its journal gone. Gives the volume as the catalog has it, and the archive.
async fn bereft(site: &mut Site, method: Method) -> (Recording, Archive) {
    let mut worker: Process = site.drive_worker().await;
    let recording = site.labelled().await;
    let (key, archive) = site.assign_write(&recording, SMALL);
    let mut writing = site.writing(key).await;
    site.controller.set_away(true);
    // Without the last one the third part stays torn, however fast the worker is.
    for segment in &content(method).seal(&archive)[..7] {
        writing.segment(segment).await;
    }
    until("two parts and a torn one", || {
        let drive = site.library.drives()[0].lock();
        let cartridge = drive.cartridge().unwrap();
        let marks = (0..cartridge.objects())
            .filter(|at| cartridge.object(*at) == Some(taf_emulator::cartridge::Object::Filemark));
        // The label's filemark, those of the parts, and something behind.
        let marks: Vec<u64> = marks.collect();
        (marks.len() >= 3 && cartridge.objects() > marks[2] + 1).then_some(())
    })
    .await;
    worker.0.kill().unwrap();
    worker.0.wait().unwrap();
    std::fs::remove_dir_all(site.path("state/journal")).unwrap();
    site.controller.assign(Vec::new());
    site.controller.set_away(false);
    assert_eq!(site.controller.parts(), []);
    (recording, archive)
}

fn content(method: Method) -> Segments {
    let mut segments = Segments::new(21, 8, SEGMENT);
    segments.method = method;
    segments
}

#[tokio::test(flavor = "multi_thread")]
async fn current_parts_are_adopted_and_what_is_torn_is_an_orphan() {
    for method in Method::ALL {
        are_adopted(method).await;
    }
}

async fn are_adopted(method: Method) {
    let mut site = Site::with_blank().await;
    let (mut recording, archive) = bereft(&mut site, method).await;
    site.controller.keep_open(&archive);
    let _worker = site.drive_worker().await;
    let (key, next) = site.assign_write(&recording, SMALL);
    let segments = Segments::new(22, 1, SEGMENT);
    let mut writing = site.writing(key).await;
    for segment in &segments.seal(&next) {
        writing.segment(segment).await;
    }
    writing.finish(0).await;
    writing.committed().await.unwrap();

    let parts = site.controller.parts();
    let (adopted, written): (Vec<_>, Vec<_>) =
        parts.into_iter().partition(|part| part.header.adopted);
    assert!(adopted.len() >= 2, "{}", adopted.len());
    for (number, part) in (1..).zip(&adopted) {
        let header = &part.header;
        assert_eq!(header.archive_uuid, archive.archive_uuid);
        assert_eq!((header.part_number, header.key), (number, Some(key)));
        assert!(!header.last && !header.truncated);
    }
    // What the segments carried is what the controller gets.
    let sealed = content(method).seal(&archive);
    let within = |sequence| {
        let header =
            |part: &site::Committed| part.header.first_sequence..=part.header.last_sequence;
        adopted.iter().any(|part| header(part).contains(&sequence))
    };
    let expected: Vec<u8> = sealed
        .iter()
        .filter(|segment| within(segment.header.sequence))
        .flat_map(|segment| {
            taf_format::segment::records(&segment.bytes)
                .unwrap()
                .to_vec()
        })
        .collect();
    let records: Vec<u8> = adopted
        .iter()
        .flat_map(|part| part.records.clone())
        .collect();
    assert!(!records.is_empty() && records == expected);
    follow(&mut recording, &adopted);
    let orphans = site.controller.orphans();
    assert_eq!(orphans.len(), 1, "{orphans:?}");
    assert_eq!(orphans[0].tape_file, recording.next_tape_file);
    assert!(orphans[0].reason.contains("torn"), "{}", orphans[0].reason);
    recording.next_tape_file = orphans[0].next_tape_file;
    recording.next_block = orphans[0].next_block;
    follow(&mut recording, &written);
    assert_eq!(site.cartridge().objects(), recording.next_block);
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_a_closed_archive_and_parts_that_can_not_be_read_are_orphans() {
    for damaged in [false, true] {
        let mut site = Site::with_blank().await;
        let (recording, archive) = bereft(&mut site, Method::Zstd).await;
        if damaged {
            site.controller.keep_open(&archive);
            // Within the first part, for ever.
            site.library.faults().lock().add(Fault {
                at: At::Read,
                object: Some(recording.next_block + 2),
                times: 0,
                key: 3,
                asc: 0x11,
                ..Fault::default()
            });
        }
        let _worker = site.drive_worker().await;
        let (key, _) = site.assign_write(&recording, SMALL);
        drop(site.writing(key).await);
        site.result(key).await;
        let orphans = site.controller.orphans();
        let adopted = site.controller.parts();
        let why = &orphans[0].reason;
        assert_eq!(orphans[0].tape_file, recording.next_tape_file);
        if damaged {
            assert!(why.contains("can't be read"), "{why}");
            // The next one is whole.
            assert!(adopted.iter().any(|part| part.header.part_number == 2));
        } else {
            assert!(why.contains("does not know its archive"), "{why}");
            assert_eq!(adopted, []);
            assert!(orphans.len() >= 3, "{orphans:?}");
        }
    }
}
