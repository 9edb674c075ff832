//! Reclaiming: what is read from one cartridge comes to another one as it is, proved on the way; what is damaged does not, and what finds
//! no room goes to the next.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "site/files.rs"]
mod files;
mod site;

use files::wanted;
use site::{BARCODE, Committed, Process, Site};
use taf_emulator::faults::{At, Fault};
use taf_emulator::library::NewCartridge;
use taf_format::block0::Block0;
use taf_proto::agent::assignment::Work;
use taf_proto::agent::report_volume_request::Verdict;
use taf_proto::agent::result::Done;
use taf_proto::agent::{AssignmentKey, CollectWork, ReclaimDone, Recording, StoreWork, VerifyPart};

const SECOND: &str = "TAF002L8";
const THIRD: &str = "TAF003L8";

/// An archive on the first cartridge, in parts of about three segments; the others are labelled, the second one so large.
struct Scene {
    site: Site,
    _worker: Process,
    recording: Recording,
    others: [Recording; 2],
    parts: Vec<Committed>,
}

impl Scene {
    async fn set(capacity: Option<u64>) -> Scene {
        let second = NewCartridge {
            capacity,
            ..NewCartridge::default()
        };
        let cartridges = [
            (BARCODE, NewCartridge::default()),
            (SECOND, second),
            (THIRD, NewCartridge::default()),
        ];
        let mut site = Site::start(|spec| spec.early_warning = Some(0), &cartridges).await;
        site.insert();
        let worker = site.drive_worker().await;
        let mut recording = site.labelled().await;
        let parts = files::written(&mut site, &mut recording, None).await;
        assert!(parts.len() > 3);
        let mut others = Vec::new();
        for barcode in [SECOND, THIRD] {
            site.exchange(barcode).await;
            others.push(site.labelled_as(barcode).await);
        }
        site.exchange(BARCODE).await;
        Scene {
            site,
            _worker: worker,
            recording,
            others: others.try_into().unwrap(),
            parts,
        }
    }

    /// What the controller says of the parts from the second on; where the first one is it was copied to before.
    fn living(&self) -> Vec<VerifyPart> {
        let of = |part: &Committed| VerifyPart {
            copy: 2,
            predecessor_volume: "TAF009L8".into(),
            predecessor_tape_file: 77,
            ..wanted(part)
        };
        self.parts[1..].iter().map(of).collect()
    }

    async fn done(&self, key: AssignmentKey) -> ReclaimDone {
        let result = self.site.result(key).await;
        match result.done {
            Some(Done::Reclaim(done)) if result.fault.is_none() => done,
            _ => panic!("{result:?}"),
        }
    }

    async fn collect(&mut self) -> AssignmentKey {
        self.site.controller.verify(self.living());
        let work = CollectWork {
            recording: Some(self.recording.clone()),
        };
        let key = self.site.assign(Work::Collect(work));
        let done = self.done(key).await;
        assert!(
            done.collected && !done.next_volume_reason.is_empty(),
            "{done:?}"
        );
        key
    }

    async fn store(&mut self, key: AssignmentKey, on: usize) -> (AssignmentKey, ReclaimDone) {
        let recording = self.others[on].clone();
        self.site.exchange(&recording.barcode).await;
        let work = StoreWork {
            recording: Some(recording),
        };
        let key = self.site.assign_next(key, Work::Store(work));
        let done = self.done(key).await;
        (key, done)
    }

    /// What was committed of copies.
    fn copies(&self) -> Vec<Committed> {
        self.site.controller.parts().split_off(self.parts.len())
    }

    /// The copies are the parts, byte for byte behind their first block, and say where they are.
    fn are_the_parts(&self, copies: &[Committed], parts: &[Committed], on: &Recording) {
        assert_eq!(copies.len(), parts.len());
        for (nth, (copy, part)) in copies.iter().zip(parts).enumerate() {
            let (new, old) = (&copy.header, &part.header);
            assert_eq!(copy.records, part.records);
            assert_eq!(new.segment_table, old.segment_table);
            assert_eq!((new.part_number, new.last), (old.part_number, old.last));
            let from = new.moved_from.as_ref().unwrap();
            assert_eq!(from.recording_uuid, old.recording_uuid);
            assert_eq!((from.tape_file, new.copy), (old.tape_file, 3));
            assert_eq!(new.recording_uuid, on.recording_uuid);
            let read = |barcode: &str, file: u64| -> Vec<u8> {
                let cartridge = self.site.cartridge_of(barcode);
                let blocks = cartridge.blocks(file).unwrap();
                blocks.flat_map(Result::unwrap).collect()
            };
            let block = on.block_size as usize;
            let there = read(&on.barcode, new.tape_file);
            assert_eq!(there.len() as u64, new.byte_count);
            assert_eq!(there[block..], read(BARCODE, old.tape_file)[block..]);
            let block0 = Block0::decode(&there[..block]).unwrap();
            assert_eq!(
                (block0.volume.as_str(), block0.copy),
                (on.barcode.as_str(), 3)
            );
            assert_eq!(
                (u64::from(block0.tape_file), block0.part),
                (new.tape_file, old.part_number)
            );
            let before = block0.predecessor.unwrap();
            if nth == 0 {
                assert_eq!((before.volume.as_str(), before.tape_file), ("TAF009L8", 77));
            } else {
                assert_eq!(
                    (before.volume.as_str(), u64::from(before.tape_file)),
                    (on.barcode.as_str(), new.tape_file - 1)
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_come_to_another_cartridge_byte_for_byte() {
    let mut scene = Scene::set(None).await;
    let before = scene.site.cartridge_of(BARCODE).objects();
    let key = scene.collect().await;
    let (_, done) = scene.store(key, 0).await;
    assert_eq!(done, ReclaimDone::default(), "nothing is left");
    let on = scene.others[0].clone();
    scene.are_the_parts(&scene.copies(), &scene.parts[1..], &on);
    assert_eq!(scene.site.cartridge_of(BARCODE).objects(), before);
    assert!(scene.site.controller.verified().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_part_stays_and_the_others_are_copied() {
    let mut scene = Scene::set(None).await;
    let bad = scene.parts[2].header.first_block + 6;
    scene.site.library.faults().lock().add(Fault {
        at: At::Read,
        object: Some(bad),
        times: 1000,
        key: 3,
        asc: 0x11,
        ascq: 0,
        ..Fault::default()
    });
    let key = scene.collect().await;
    scene.site.library.faults().lock().clear();
    let told = scene.site.controller.verified();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].tape_file, scene.parts[2].header.tape_file);
    assert!(!told[0].damage.is_empty());
    scene.store(key, 0).await;
    let copied: Vec<u32> = scene
        .copies()
        .iter()
        .map(|c| c.header.part_number)
        .collect();
    let all = scene.parts.len() as u32;
    assert_eq!(copied, [2].into_iter().chain(4..=all).collect::<Vec<u32>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_finds_no_room_goes_wholly_to_the_next_cartridge() {
    let mut scene = Scene::set(Some(700 << 10)).await;
    let key = scene.collect().await;
    let (key, done) = scene.store(key, 0).await;
    assert!(
        done.collected && done.next_volume_reason.contains("full"),
        "{done:?}"
    );
    let first = scene.copies();
    assert!(!first.is_empty() && first.len() < scene.parts.len() - 1);
    assert_eq!(scene.site.controller.verdicts(), [Verdict::Full]);
    let (_, done) = scene.store(key, 1).await;
    assert_eq!(done, ReclaimDone::default());
    let copies = scene.copies();
    let numbers: Vec<u32> = copies.iter().map(|c| c.header.part_number).collect();
    assert_eq!(
        numbers,
        (2..=scene.parts.len() as u32).collect::<Vec<u32>>()
    );
    for copy in &copies[first.len()..] {
        assert_eq!(copy.header.recording_uuid, scene.others[1].recording_uuid);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_worker_had_collected_is_not_stored() {
    let mut scene = Scene::set(None).await;
    let key = scene.collect().await;
    // Whatever else the drive does, what waits is forgotten.
    let work = CollectWork {
        recording: Some(scene.recording.clone()),
    };
    scene.site.controller.verify(Vec::new());
    let other = scene.site.assign(Work::Collect(work));
    assert_eq!(scene.done(other).await, ReclaimDone::default());
    let recording = scene.others[0].clone();
    scene.site.exchange(SECOND).await;
    let work = StoreWork {
        recording: Some(recording),
    };
    let key = scene.site.assign_next(key, Work::Store(work));
    assert_eq!(scene.site.fault(key).await, "COLLECTED_LOST");
    assert!(scene.copies().is_empty());
}
