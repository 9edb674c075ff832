//! Writing and reading back: what is reported as on tape is on tape, and nothing living is overwritten.
#![allow(clippy::unwrap_used, missing_docs)]

mod site;

use site::{BARCODE, BLOCK, PATIENCE, Segments, Site, Writing, follow, until, unzstd};
use taf_emulator::faults::{At, Fault};
use taf_emulator::library::NewCartridge;
use taf_format::block0::Block0;
use taf_format::table::SegmentTable;
use taf_proto::agent::drive_observation::Medium;
use taf_proto::agent::report_volume_request::Verdict;
use taf_proto::agent::*;
use tonic::Code;

const SEGMENT: usize = 64 << 10;
/// About three segments.
const SMALL: u64 = 200 << 10;

fn medium_error(at: At, object: u64, times: u32) -> Fault {
    Fault {
        at,
        barcode: None,
        object: Some(object),
        times,
        key: 3,
        asc: 0x11,
        ascq: 0,
        ..Fault::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_are_written_committed_readable_by_zstd_and_read_back() {
    let mut site = Site::with_blank().await;
    let _worker = site.drive_worker().await;
    let mut recording = site.labelled().await;
    let segments = Segments::new(1, 7, SEGMENT);
    let parts = site.back_up(&mut recording, &segments, SMALL).await;
    assert!(parts.len() >= 2, "{parts:?}");

    let mut tape = Vec::new();
    let mut behind = 0;
    for (number, part) in (1..).zip(&parts) {
        let header = &part.header;
        assert_eq!(
            (header.part_number, header.tape_file),
            (number, u64::from(number))
        );
        assert_eq!(header.first_tar_offset, behind);
        behind = header.end_tar_offset;
        let bytes = site.tape_file(header.tape_file);
        assert_eq!(bytes.len() as u64, header.byte_count);
        let block0 = Block0::decode(&bytes[..BLOCK as usize]).unwrap();
        assert_eq!((block0.part, block0.volume.as_str()), (number, BARCODE));
        assert!(!part.records.is_empty());
        tape.extend(bytes);
    }
    assert_eq!(behind, segments.tar.len() as u64);
    assert!(parts.last().unwrap().header.last);
    assert!(unzstd(&tape) == segments.tar, "the tape holds other bytes");
    assert_eq!(site.cartridge().objects(), recording.next_block);

    // All of it back, range by range, each a whole segment.
    let key = site.assign_read(&recording);
    let mut reading = site.reading(key).await;
    for part in &parts {
        let table = SegmentTable::decode(&part.header.segment_table).unwrap();
        let bytes = site.tape_file(part.header.tape_file);
        for segment in table.segments() {
            let length = u64::from(segment.stored_length);
            reading.ask(&part.header, segment.byte_offset, length).await;
            let (range, lost) = reading.range().await;
            let expected = &bytes[segment.byte_offset as usize..segment.byte_end() as usize];
            assert!(range == expected && lost == 0);
        }
    }
    let (about, seen) = site.controller.drive().unwrap();
    assert_eq!(about, Some(key));
    assert_eq!(seen.medium(), Medium::Loaded);
    // It stays until the assignment goes.
    drop(reading);
    let mut again = site.reading(key).await;
    again.ask(&parts[0].header, 0, 100).await;
    assert_eq!(again.range().await.0.len(), 100);
    drop(again);
    assert_eq!(site.controller.result(key), None);
    site.controller.assign(Vec::new());
    assert_eq!(site.fault(key).await, "STOPPED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drive_that_is_written_to_is_shown_with_its_medium_and_what_is_committed() {
    let mut site = Site::with_blank().await;
    let _worker = site.drive_worker().await;
    let recording = site.labelled().await;
    let (key, archive) = site.assign_write(&recording, 1);
    let mut writing = site.writing(key).await;
    let sealed = Segments::new(2, 2, SEGMENT).seal(&archive);
    writing.segment(&sealed[0]).await;
    writing.durable(0).await;
    let seen = until("committed bytes", || {
        let (about, seen) = site.controller.drive()?;
        (about == Some(key) && seen.committed_byte_count > 0).then_some(seen)
    })
    .await;
    assert_eq!(
        (seen.medium(), seen.barcode.as_str()),
        (Medium::Loaded, BARCODE)
    );
    writing.segment(&sealed[1]).await;
    writing.finish(1).await;
    assert_eq!(writing.committed().await, Ok(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_worker_left_is_closed_reported_and_passed_over() {
    let mut site = Site::with_blank().await;
    let mut worker = site.drive_worker().await;
    let mut recording = site.labelled().await;
    let (key, archive) = site.assign_write(&recording, SMALL);
    let mut writing = site.writing(key).await;
    let segments = Segments::new(3, 7, SEGMENT);
    for segment in &segments.seal(&archive)[..5] {
        writing.segment(segment).await;
    }
    let parts = until("a part", || {
        Some(site.controller.parts()).filter(|parts| !parts.is_empty())
    })
    .await;
    follow(&mut recording, &parts);
    // Bytes of the next part are with the drive, which the worker's death does not touch.
    until("a torn part", || {
        let drive = site.library.drives()[0].lock();
        let objects = drive.cartridge().unwrap().objects();
        (objects > recording.next_block).then_some(())
    })
    .await;
    site.controller.assign(Vec::new());
    worker.0.kill().unwrap();
    worker.0.wait().unwrap();

    let _worker = site.drive_worker().await;
    let (first, file) = (recording.next_block, recording.next_tape_file);
    let segments = Segments::new(4, 3, SEGMENT);
    let (key, archive) = site.assign_write(&recording, SMALL);
    let mut writing = site.writing(key).await;
    let orphans = site.controller.orphans();
    assert_eq!(orphans.len(), 1, "{orphans:?}");
    assert_eq!(
        (orphans[0].tape_file, orphans[0].first_block),
        (file, first)
    );
    let sealed = segments.seal(&archive);
    for segment in &sealed {
        writing.segment(segment).await;
    }
    writing.finish(2).await;
    writing.committed().await.unwrap();
    let part = site.controller.parts().pop().unwrap();
    assert_eq!(part.header.tape_file, orphans[0].next_tape_file);
    assert_eq!(part.header.first_block, orphans[0].next_block);
    assert!(unzstd(&site.tape_file(part.header.tape_file)) == segments.tar);
    // What was committed before is untouched.
    assert_eq!(site.tape_file(1).len() as u64, parts[0].header.byte_count);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_agent_that_hangs_up_leaves_an_orphan_and_a_true_position() {
    let mut site = Site::with_blank().await;
    let _worker = site.drive_worker().await;
    let mut recording = site.labelled().await;
    let (key, archive) = site.assign_write(&recording, 1 << 30);
    let mut writing = site.writing(key).await;
    writing
        .segment(&Segments::new(5, 2, SEGMENT).seal(&archive)[0])
        .await;
    until("bytes on their way", || {
        let drive = site.library.drives()[0].lock();
        (drive.cartridge()?.objects() > recording.next_block).then_some(())
    })
    .await;
    drop(writing);
    assert_eq!(site.fault(key).await, "PEER_LOST");
    let orphans = site.controller.orphans();
    assert_eq!(orphans.len(), 1);
    assert_eq!(orphans[0].first_block, recording.next_block);
    recording.next_tape_file = orphans[0].next_tape_file;
    recording.next_block = orphans[0].next_block;
    site.back_up(&mut recording, &Segments::new(6, 2, SEGMENT), SMALL)
        .await;
    assert_eq!(site.controller.orphans().len(), 1);
    assert_eq!(site.controller.verdicts(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn work_that_is_taken_away_stops_and_cleans_up() {
    let mut site = Site::with_blank().await;
    let _worker = site.drive_worker().await;
    let mut recording = site.labelled().await;
    let (key, archive) = site.assign_write(&recording, 1 << 30);
    let mut writing = site.writing(key).await;
    writing
        .segment(&Segments::new(7, 2, SEGMENT).seal(&archive)[0])
        .await;
    until("bytes on their way", || {
        let drive = site.library.drives()[0].lock();
        (drive.cartridge()?.objects() > recording.next_block).then_some(())
    })
    .await;
    site.controller.assign(Vec::new());
    assert_eq!(site.fault(key).await, "STOPPED");
    assert_eq!(writing.committed().await.unwrap_err().reason, "STOPPED");
    let orphan = site.controller.orphans().pop().unwrap();
    recording.next_tape_file = orphan.next_tape_file;
    recording.next_block = orphan.next_block;
    site.back_up(&mut recording, &Segments::new(8, 1, SEGMENT), SMALL)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_agent_that_is_named_is_let_in() {
    let mut site = Site::with_blank().await;
    let _worker = site.drive_worker().await;
    let recording = site.labelled().await;
    let (key, archive) = site.assign_write(&recording, SMALL);
    let mut writing = site.writing(key).await;
    let addresses = site.addresses();
    let attempt = async |id: &str, key| {
        let own = site.source_agent(id);
        Writing::attempt(&own, &addresses, key).await.err().unwrap()
    };
    assert_eq!(attempt("others", key).await.code(), Code::PermissionDenied);
    let older = AssignmentKey {
        attempt: key.attempt - 1,
        ..key
    };
    assert_eq!(attempt("files", older).await.code(), Code::Unavailable);
    // Whoever was there goes on.
    let sealed = Segments::new(9, 1, SEGMENT).seal(&archive);
    writing.segment(&sealed[0]).await;
    writing.finish(0).await;
    assert_eq!(writing.committed().await, Ok(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_fills_keeps_its_parts_and_is_full() {
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
    let recording = site.labelled().await;
    let (key, archive) = site.assign_write(&recording, 1 << 20);
    let mut writing = site.writing(key).await;
    let segments = Segments::new(10, 80, SEGMENT);
    for segment in &segments.seal(&archive) {
        writing.segment(segment).await;
    }
    assert!(site.next_volume(key).await.contains("is full"));
    assert_eq!(site.controller.verdicts(), [Verdict::Full]);
    assert_eq!(site.controller.orphans(), []);
    let parts = site.controller.parts();
    let end = parts.last().unwrap().header.end_tar_offset as usize;
    let files = parts
        .iter()
        .flat_map(|part| site.tape_file(part.header.tape_file));
    assert!(end > 2 << 20);
    assert!(unzstd(&files.collect::<Vec<u8>>()) == segments.tar[..end]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_ends_behind_early_warning_is_done_and_its_volume_full() {
    let blank = NewCartridge {
        capacity: Some(4 << 20),
        ..NewCartridge::default()
    };
    let warning = (4 << 20) - SEGMENT as u64;
    let mut site = Site::start(
        |spec| spec.early_warning = Some(warning),
        &[(BARCODE, blank)],
    )
    .await;
    site.insert();
    let _worker = site.drive_worker().await;
    let mut recording = site.labelled().await;
    site.back_up(&mut recording, &Segments::new(11, 1, SEGMENT), SMALL)
        .await;
    until("a verdict", || {
        Some(site.controller.verdicts()).filter(|v| !v.is_empty())
    })
    .await;
    assert_eq!(site.controller.verdicts(), [Verdict::Full]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deferred_error_ends_the_part_and_takes_the_volume_out_of_use() {
    let mut site = Site::with_blank().await;
    let _worker = site.drive_worker().await;
    let mut recording = site.labelled().await;
    site.back_up(&mut recording, &Segments::new(12, 3, SEGMENT), SMALL)
        .await;
    let bad = medium_error(At::Deferred, recording.next_block + 3, 1);
    site.library.faults().lock().add(bad);
    let committed = site.controller.parts().len();
    let (key, archive) = site.assign_write(&recording, SMALL);
    let mut writing = site.writing(key).await;
    for segment in &Segments::new(13, 6, SEGMENT).seal(&archive) {
        writing.segment(segment).await;
    }
    assert!(
        site.next_volume(key)
            .await
            .contains("an earlier write failed")
    );
    assert_eq!(site.controller.verdicts(), [Verdict::ReadOnly]);
    assert_eq!(site.controller.parts().len(), committed);
    let orphans = site.controller.orphans();
    assert_eq!(orphans.len(), 1);
    assert_eq!(orphans[0].next_block, site.cartridge().objects());
}

/// The drive comes back at the beginning of the tape, and the news of it must never be followed by a write there.
#[tokio::test(flavor = "multi_thread")]
async fn a_drive_that_loses_power_while_writing_loses_no_committed_part() {
    let mut site = Site::with_blank().await;
    let _worker = site.drive_worker().await;
    let mut recording = site.labelled().await;
    let parts = site
        .back_up(&mut recording, &Segments::new(14, 7, SEGMENT), SMALL)
        .await;
    let before: Vec<_> = (0..=parts.len() as u64)
        .map(|n| site.tape_file(n))
        .collect();

    let (key, archive) = site.assign_write(&recording, 1 << 30);
    let mut writing = site.writing(key).await;
    let sealed = Segments::new(15, 4, SEGMENT).seal(&archive);
    writing.segment(&sealed[0]).await;
    until("bytes in the drive's buffer", || {
        let drive = site.library.drives()[0].lock();
        (drive.cartridge()?.objects() > recording.next_block + 2).then_some(())
    })
    .await;
    site.library.drives()[0].lock().power_cut(1).unwrap();
    for segment in &sealed[1..] {
        writing.segment(segment).await;
    }
    writing.finish(3).await;
    let heard = writing.committed().await.unwrap_err();
    let fault = site.fault(key).await;
    assert!(
        site.cartridge().objects() >= recording.next_block,
        "the tape had {} objects and has {}; fault {fault}",
        recording.next_block,
        site.cartridge().objects()
    );
    for (number, bytes) in (0..).zip(&before) {
        assert!(
            site.tape_file(number) == *bytes,
            "tape file {number} differs"
        );
    }
    assert_eq!(
        (heard.reason.as_str(), fault.as_str()),
        ("DRIVE_RESET", "DRIVE_RESET")
    );
    // A loss of power says nothing against the cartridge.
    assert_eq!(site.controller.verdicts(), []);
    // The next mount closes and reports what was torn, and goes on.
    let (key, archive) = site.assign_write(&recording, SMALL);
    let mut writing = site.writing(key).await;
    assert_eq!(site.controller.orphans().len(), 1);
    writing
        .segment(&Segments::new(16, 1, SEGMENT).seal(&archive)[0])
        .await;
    writing.finish(0).await;
    assert_eq!(writing.committed().await, Ok(1));
    assert!(site.tape_file(0) == before[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_is_proved_anew_if_the_drive_loses_power_before_the_first_byte() {
    let mut site = Site::with_blank().await;
    let _worker = site.drive_worker().await;
    let mut recording = site.labelled().await;
    site.back_up(&mut recording, &Segments::new(17, 3, SEGMENT), SMALL)
        .await;
    let (label, part) = (site.tape_file(0), site.tape_file(1));
    let before = site.controller.parts().len();

    let (key, archive) = site.assign_write(&recording, SMALL);
    // Proved, and waiting for its source.
    until("the proof", || {
        let (about, seen) = site.controller.drive()?;
        (about == Some(key) && seen.phase == "waiting").then_some(())
    })
    .await;
    site.library.drives()[0].lock().power_cut(0).unwrap();
    let mut writing = site.writing(key).await;
    let sealed = Segments::new(18, 3, SEGMENT).seal(&archive);
    for segment in &sealed {
        writing.segment(segment).await;
    }
    writing.finish(2).await;
    assert!(writing.committed().await.is_ok());
    assert_eq!(site.result(key).await.fault, None);
    assert!(site.tape_file(0) == label && site.tape_file(1) == part);
    let written: Vec<_> = site.controller.parts().split_off(before);
    site::follow(&mut recording, &written);
    assert_eq!(site.controller.verdicts(), []);
    site.back_up(&mut recording, &Segments::new(19, 1, SEGMENT), SMALL)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_waits_for_a_controller_that_is_away() {
    let mut site = Site::with_blank().await;
    let _worker = site.drive_worker().await;
    let recording = site.labelled().await;
    let (key, archive) = site.assign_write(&recording, 1);
    let mut writing = site.writing(key).await;
    site.controller.set_away(true);
    let segments = Segments::new(20, 6, SEGMENT);
    let sealed = segments.seal(&archive);
    for segment in &sealed {
        writing.segment(segment).await;
    }
    writing.finish(5).await;
    // It goes on for a while, not for ever: each segment is a part here.
    until("parts on tape", || {
        (site.cartridge().files() >= 3).then_some(())
    })
    .await;
    assert_eq!(site.controller.parts(), []);
    site.controller.set_away(false);
    assert_eq!(writing.committed().await, Ok(6));
    let mut recording = recording;
    follow(&mut recording, &site.controller.parts());
    assert_eq!(site.result(key).await.fault, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_process_delivers_what_a_dead_one_had_on_tape_before_it_says_hello() {
    let mut site = Site::with_blank().await;
    let mut worker = site.drive_worker().await;
    let mut recording = site.labelled().await;
    let (key, archive) = site.assign_write(&recording, 1);
    let mut writing = site.writing(key).await;
    site.controller.set_away(true);
    for segment in &Segments::new(21, 2, SEGMENT).seal(&archive) {
        writing.segment(segment).await;
    }
    let journal = site.path("state/journal");
    until("a journal of two parts", || {
        let drives = std::fs::read_dir(&journal).ok()?.flatten();
        let files = drives.flat_map(|drive| std::fs::read_dir(drive.path()).unwrap().flatten());
        let parts = files.filter(|file| file.path().extension().is_some_and(|e| e == "part"));
        (parts.count() == 2).then_some(())
    })
    .await;
    worker.0.kill().unwrap();
    worker.0.wait().unwrap();
    site.controller.assign(Vec::new());
    site.controller.set_away(false);
    let hellos = site.controller.hellos().len();
    let _worker = site.drive_worker().await;
    let mut seen = site.controller.events();
    let hello = seen
        .iter()
        .enumerate()
        .filter(|(_, event)| matches!(event, site::Event::Hello(_)))
        .nth(hellos)
        .unwrap()
        .0;
    seen.truncate(hello);
    let parts = seen
        .iter()
        .filter(|event| matches!(event, site::Event::Part(_)));
    assert_eq!(parts.count(), 2);
    follow(&mut recording, &site.controller.parts());
    site.back_up(&mut recording, &Segments::new(22, 1, SEGMENT), SMALL)
        .await;
    assert_eq!(site.controller.orphans(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_is_refused_ends_the_work_with_the_controllers_reason() {
    let mut site = Site::with_blank().await;
    let _worker = site.drive_worker().await;
    let recording = site.labelled().await;
    let (key, archive) = site.assign_write(&recording, 1);
    let mut writing = site.writing(key).await;
    site.controller
        .refuse_commit(Code::FailedPrecondition, "ARCHIVE_CLOSED");
    let sealed = Segments::new(23, 8, SEGMENT).seal(&archive);
    for segment in &sealed {
        writing.segment(segment).await;
    }
    assert_eq!(
        writing.committed().await.unwrap_err().reason,
        "ARCHIVE_CLOSED"
    );
    assert_eq!(site.fault(key).await, "ARCHIVE_CLOSED");
    // Every further part that came to be on tape was offered as well: the journal keeps nothing back.
    let files = site.cartridge().files() - 1;
    assert_eq!(site.controller.parts().len() as u64, files - 1);
    assert_eq!(site.controller.orphans(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_that_can_not_be_read_costs_itself_alone() {
    let mut site = Site::with_blank().await;
    let _worker = site.drive_worker().await;
    let mut recording = site.labelled().await;
    let parts = site
        .back_up(&mut recording, &Segments::new(24, 3, SEGMENT), 1 << 30)
        .await;
    let header = &parts[0].header;
    let bad = medium_error(At::Read, header.first_block + 5, 0);
    site.library.faults().lock().add(bad);
    let key = site.assign_read(&recording);
    let mut reading = site.reading(key).await;
    reading.ask(header, 0, header.byte_count).await;
    let (bytes, lost) = reading.range().await;
    assert_eq!(lost, u64::from(BLOCK));
    let mut expected = site.tape_file(header.tape_file);
    expected[5 * BLOCK as usize..6 * BLOCK as usize].fill(0);
    assert!(bytes == expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_takes_nothing_does_not_keep_the_drive() {
    let mut site = Site::with_blank().await;
    let _worker = site.drive_worker().await;
    let mut recording = site.labelled().await;
    // More than all windows and queues hold.
    let segments = Segments::new(25, 16, 4 << 20);
    let parts = site.back_up(&mut recording, &segments, 1 << 30).await;
    let key = site.assign_read(&recording);
    let mut reading = site.reading(key).await;
    reading
        .ask(&parts[0].header, 0, parts[0].header.byte_count)
        .await;
    until("bytes to flow", || {
        let (about, seen) = site.controller.drive()?;
        (about == Some(key) && seen.received_byte_count > 1 << 20).then_some(())
    })
    .await;
    site.controller.assign(Vec::new());
    assert_eq!(site.fault(key).await, "STOPPED");
    site.back_up(&mut recording, &Segments::new(26, 1, SEGMENT), SMALL)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_in_flight_than_the_ring_holds_waits_at_the_source() {
    let mut site = Site::start(
        |spec| {
            spec.rate = 4 << 20;
            spec.buffer = 1 << 20;
        },
        &[(BARCODE, NewCartridge::default())],
    )
    .await;
    site.insert();
    site.configure("ring = \"32MiB\"\n");
    let _worker = site.drive_worker().await;
    let recording = site.labelled().await;
    let (key, archive) = site.assign_write(&recording, 1 << 30);
    let mut writing = site.writing(key).await;
    let sealed = Segments::new(27, 30, 4 << 20).seal(&archive);
    let mut sent = 0_usize;
    let offered = async {
        for segment in &sealed {
            writing.segment(segment).await;
            sent += segment.bytes.len();
        }
    };
    // Far less than the drive needs for it all.
    let all = tokio::time::timeout(PATIENCE / 12, offered).await;
    assert!(all.is_err(), "the ring took everything");
    assert!(sent >= 32 << 20, "{sent}");
    site.controller.assign(Vec::new());
    assert_eq!(site.fault(key).await, "STOPPED");
}
