//! Two sources on one volume at the same time: each has a ring of its own, and the drive takes whole parts in turn.
#![allow(clippy::unwrap_used, clippy::await_holding_lock, missing_docs)]

mod site;

use site::{BARCODE, BLOCK, Segments, Site, Writing, until, unzstd};
use taf_emulator::library::{NewCartridge, Spec};
use taf_format::block0::Block0;
use taf_format::segment::{self, Sealed};
use taf_proto::agent::assignment::Work;
use taf_proto::agent::report_volume_request::Verdict;
use taf_proto::agent::*;

const SEGMENT: usize = 64 << 10;
const PART: u64 = 400 << 10;
const SECOND: &str = "TAF002L8";

/// A source agent with an archive.
struct Source {
    key: AssignmentKey,
    archive: Archive,
    segments: Segments,
    sealed: Vec<Sealed>,
    writing: Writing,
}

impl Source {
    async fn send(&mut self, range: std::ops::Range<usize>) {
        for segment in &self.sealed[range] {
            self.writing.segment(segment).await;
        }
    }

    async fn finish(&mut self) {
        self.writing.finish(self.sealed.len() as u64 - 1).await;
    }
}

/// Source agents "one" and "two" with archives of so many segments, both let in by the worker. The first one begins alone, with a
/// part that it has not ended when the other comes.
async fn sources(
    site: &mut Site,
    recording: &Recording,
    counts: [usize; 2],
    begun: usize,
) -> [Source; 2] {
    let mut assignments = Vec::new();
    let mut sources = Vec::new();
    for (agent, count) in ["one", "two"].into_iter().zip(counts) {
        let (assignment, archive) = site.write_of(agent, recording, PART);
        let key = assignment.key.unwrap();
        assignments.push(assignment);
        site.controller.assign(assignments.clone());
        let segments = Segments::new(key.attempt, count, SEGMENT);
        let mut source = Source {
            key,
            sealed: segments.seal(&archive),
            archive,
            segments,
            writing: site.writing_of(agent, key).await,
        };
        if sources.is_empty() && begun > 0 {
            source.send(0..begun).await;
            until("bytes on their way", || {
                let drive = site.library.drives()[0].lock();
                (drive.cartridge()?.objects() > recording.next_block).then_some(())
            })
            .await;
        }
        sources.push(source);
    }
    sources.try_into().ok().unwrap()
}

/// Proves that each committed part is one tape file of its archive alone; gives the archive's bytes as a person reads them.
fn read_back(site: &Site, source: &Source) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut number = 0;
    for part in site.controller.parts() {
        if part.header.archive_uuid != source.archive.archive_uuid {
            continue;
        }
        number += 1;
        let barcode = [BARCODE, SECOND]
            .into_iter()
            .find(|barcode| site::recording_uuid_of(barcode) == part.header.recording_uuid)
            .unwrap_or(BARCODE);
        let blocks = site.cartridge_of(barcode);
        let blocks = blocks.blocks(part.header.tape_file).unwrap();
        let file: Vec<u8> = blocks.flat_map(std::result::Result::unwrap).collect();
        let block0 = Block0::decode(&file[..BLOCK as usize]).unwrap();
        assert_eq!(
            block0.archive_uuid.as_bytes()[..],
            source.archive.archive_uuid
        );
        assert_eq!((block0.part, part.header.part_number), (number, number));
        let mut rest = &file[BLOCK as usize..];
        while !rest.is_empty() {
            let header = segment::peek(rest).unwrap().unwrap();
            let (this, behind) = rest.split_at(header.stored_total());
            let header = segment::verify(this).unwrap();
            assert_eq!(header.archive_uuid, block0.archive_uuid);
            rest = behind;
        }
        bytes.extend(file);
    }
    bytes
}

fn is_whole(site: &Site, source: &Source) {
    assert!(unzstd(&read_back(site, source)) == source.segments.tar);
}

/// Everything that was reported follows one on the other, as the catalog demands. Gives whose each tape file is; an orphan is
/// nobody's.
fn follow(site: &Site, recording: &mut Recording) -> Vec<Option<u64>> {
    let mut order = Vec::new();
    for event in site.controller.events() {
        let (of, file, block, next_file, next_block) = match event {
            site::Event::Part(part) => {
                let h = part.header;
                let of = h.key.map(|key| key.attempt);
                (
                    of,
                    h.tape_file,
                    h.first_block,
                    h.next_tape_file,
                    h.next_block,
                )
            }
            site::Event::Orphan(o) => (
                None,
                o.tape_file,
                o.first_block,
                o.next_tape_file,
                o.next_block,
            ),
            _ => continue,
        };
        assert_eq!(
            (file, block),
            (recording.next_tape_file, recording.next_block)
        );
        (recording.next_tape_file, recording.next_block) = (next_file, next_block);
        order.push(of);
    }
    order
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_two_archives_lie_one_behind_the_other_and_both_are_whole() {
    let mut site = Site::with_blank().await;
    let _worker = site.drive_worker().await;
    let mut recording = site.labelled().await;
    let [mut one, mut two] = sources(&mut site, &recording, [40, 40], 0).await;
    let alternately = async {
        for at in 0..40 {
            one.send(at..at + 1).await;
            two.send(at..at + 1).await;
        }
        one.finish().await;
        two.finish().await;
    };
    alternately.await;
    for source in [&one, &two] {
        let result = site.result(source.key).await;
        assert_eq!(result.fault, None);
        assert!(matches!(result.done, Some(result::Done::Write(_))));
        is_whole(&site, source);
    }
    let order = follow(&site, &mut recording);
    let changes = order.windows(2).filter(|pair| pair[0] != pair[1]).count();
    assert!(changes > 3, "{order:?}");
    assert_eq!(
        one.writing.committed().await.unwrap() as usize * 2,
        order.len() / 2 * 2
    );
    // It was mounted and proved once, and the health of it reported once.
    let mounts = site.controller.mounts();
    let uuids: std::collections::HashSet<_> = mounts
        .iter()
        .filter(|m| m.key.is_some_and(|key| key.attempt >= one.key.attempt))
        .map(|m| m.mount_uuid.clone())
        .collect();
    assert_eq!(uuids.len(), 1);
    // The next one finds the end where both left it.
    site.back_up(&mut recording, &Segments::new(9, 3, SEGMENT), PART)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_stalls_in_the_middle_of_its_part_does_not_hold_up_the_other() {
    let mut site = Site::with_blank().await;
    let _worker = site.drive_worker().await;
    let mut recording = site.labelled().await;
    let [mut slow, mut fast] = sources(&mut site, &recording, [12, 20], 2).await;
    fast.send(0..20).await;
    fast.finish().await;
    assert_eq!(site.result(fast.key).await.fault, None);
    is_whole(&site, &fast);
    slow.send(2..12).await;
    slow.finish().await;
    assert_eq!(site.result(slow.key).await.fault, None);
    is_whole(&site, &slow);
    let order = follow(&site, &mut recording);
    assert_eq!(order[0], Some(slow.key.attempt));
    assert_eq!(order[1], Some(fast.key.attempt));
    assert_eq!(site.controller.orphans(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_dies_or_is_stopped_in_the_middle_of_its_part_harms_no_other() {
    for stopped in [false, true] {
        let mut site = Site::with_blank().await;
        let _worker = site.drive_worker().await;
        let mut recording = site.labelled().await;
        let [dies, mut stays] = sources(&mut site, &recording, [12, 12], 2).await;
        let key = dies.key;
        if stopped {
            let (mut assignment, _) = site.write_of("two", &recording, PART);
            assignment.key = Some(stays.key);
            let Some(Work::Write(work)) = &mut assignment.work else {
                panic!()
            };
            work.archive = Some(stays.archive.clone());
            site.controller.assign(vec![assignment]);
            assert_eq!(site.fault(key).await, "STOPPED");
        } else {
            drop(dies.writing);
            assert_eq!(site.fault(key).await, "PEER_LOST");
        }
        stays.send(0..12).await;
        stays.finish().await;
        assert_eq!(site.result(stays.key).await.fault, None);
        is_whole(&site, &stays);
        // The torn tail is closed, and told before what lies behind it.
        let order = follow(&site, &mut recording);
        assert_eq!(order[0], None, "{order:?}");
        site.back_up(&mut recording, &Segments::new(9, 3, SEGMENT), PART)
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_go_on_with_the_next_volume() {
    let small = |spec: &mut Spec| {
        spec.capacity = 3 << 20;
        spec.early_warning = Some(300 << 10);
    };
    let cartridges = [
        (BARCODE, NewCartridge::default()),
        (SECOND, NewCartridge::default()),
    ];
    let mut site = Site::start(small, &cartridges).await;
    site.insert();
    let _worker = site.drive_worker().await;
    let first = site.labelled_as(BARCODE).await;
    site.exchange(SECOND).await;
    let second = site.labelled_as(SECOND).await;
    site.exchange(BARCODE).await;
    let [mut one, mut two] = sources(&mut site, &first, [35, 35], 0).await;
    let sending = async {
        for at in 0..35 {
            one.send(at..at + 1).await;
            two.send(at..at + 1).await;
        }
        one.finish().await;
        two.finish().await;
    };
    let changing = async {
        let events = || site.controller.events();
        until("both to be parked", || {
            let parked = events().iter().filter(|event| match event {
                site::Event::Result(result) => {
                    matches!(&result.done, Some(result::Done::Write(done)) if !done.next_volume_reason.is_empty())
                }
                _ => false,
            }).count();
            (parked == 2).then_some(())
        })
        .await;
    };
    // The rings are larger than what is sent, so that sending ends.
    tokio::join!(sending, changing);
    let [key_one, key_two] = [one.key, two.key];
    let unload = site.assign_next(key_one, Work::Unload(UnloadWork {}));
    assert_eq!(site.result(unload).await.fault, None);
    site.carry(SECOND);
    let mut assignments = Vec::new();
    for (source, agent, beside) in [(&one, "one", key_two), (&two, "two", key_one)] {
        let work = WriteWork {
            recording: Some(second.clone()),
            archive: Some(source.archive.clone()),
            peer_agent_id: agent.into(),
            part_size: PART,
            continues: true,
            beside: vec![beside.attempt],
        };
        assignments.push(Assignment {
            key: Some(AssignmentKey {
                step: 3,
                ..source.key
            }),
            work: Some(Work::Write(work)),
        });
    }
    // First the one, then both.
    site.controller.assign(assignments[..1].to_vec());
    let step = |key| AssignmentKey { step: 3, ..key };
    until("the first to be heard", || {
        let (about, _) = site.controller.drive()?;
        (about == Some(step(key_one))).then_some(())
    })
    .await;
    site.controller.assign(assignments);
    for source in [&one, &two] {
        assert_eq!(site.result(step(source.key)).await.fault, None);
    }
    let unload = site.assign_next(step(key_one), Work::Unload(UnloadWork {}));
    site.result(unload).await;
    for source in [&one, &two] {
        is_whole(&site, source);
    }
    // One of them met the end, and said so.
    assert_eq!(site.controller.verdicts(), [Verdict::Full]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drive_that_hangs_fails_both() {
    let mut site = Site::with_blank().await;
    site.configure("hung_after = \"1s\"");
    let _worker = site.drive_worker().await;
    let recording = site.labelled().await;
    let [mut one, mut two] = sources(&mut site, &recording, [12, 12], 2).await;
    {
        let drive = site.library.drives()[0].clone();
        let _held = drive.lock();
        one.send(2..4).await;
        two.send(0..12).await;
        for key in [one.key, two.key] {
            assert_eq!(site.fault(key).await, "DRIVE_HUNG");
        }
    }
    // It is back, and works for others.
    let (key, archive) = site.assign_write(&recording, PART);
    let mut writing = site.writing(key).await;
    writing
        .segment(&Segments::new(2, 1, SEGMENT).seal(&archive)[0])
        .await;
    writing.finish(0).await;
    assert_eq!(writing.committed().await, Ok(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_reset_between_two_parts_the_volume_is_proved_anew() {
    let mut site = Site::with_blank().await;
    let _worker = site.drive_worker().await;
    let mut recording = site.labelled().await;
    let [mut one, mut two] = sources(&mut site, &recording, [12, 12], 0).await;
    // A part exactly, so that nothing is under way.
    one.send(0..6).await;
    until("a part", || site.controller.parts().pop()).await;
    site.library.drives()[0].lock().power_cut(3).unwrap();
    one.send(6..12).await;
    one.finish().await;
    two.send(0..12).await;
    two.finish().await;
    for source in [&one, &two] {
        assert_eq!(site.result(source.key).await.fault, None);
        is_whole(&site, source);
    }
    follow(&site, &mut recording);
    site.back_up(&mut recording, &Segments::new(9, 3, SEGMENT), PART)
        .await;
}
