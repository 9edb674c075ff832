//! A failure at each point of a part, on a drive in process: what is said to be on tape is there, and what is not goes to the next
//! cartridge.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, RngCore as _, SeedableRng as _};
use taf_drive::Drive as _;
use taf_emulator::cartridge::Reader;
use taf_emulator::faults::{At, Do, Fault as Strike};
use taf_emulator::library::{self, NewCartridge, Spec};
use taf_format::record;
use taf_format::segment::{self, Cutter, Identity};
use taf_format::table::SegmentTable;
use taf_proto::agent::PartHeader;
use taf_proto::agent::report_volume_request::Verdict;

use super::*;
use crate::rig::{BARCODE, Rig};
use crate::ring::disk::Place;
use crate::ring::{self, Plan, gate};
use crate::spool::Spool;

mod chance;
mod collecting;

const BLOCK: u32 = 16 << 10;
const SEGMENT: usize = 40_000;
/// Where a part begins on a cartridge with a label of one block.
const BEGIN: u64 = 2;

/// An archive in segments.
struct Stream {
    uuid: Uuid,
    tar: Vec<u8>,
    segments: Vec<Segment>,
}

impl Stream {
    fn new(seed: u64, count: usize) -> Stream {
        let mut tar = vec![0; count * SEGMENT];
        StdRng::seed_from_u64(seed).fill_bytes(&mut tar);
        let uuid = Uuid::new_v4();
        let identity = Identity {
            line_uuid: Uuid::nil(),
            version: 1,
            archive_ordinal: 1,
            archive_uuid: uuid,
            attempt: 1,
        };
        let mut cutter = Cutter::with_segment_size(identity, SEGMENT);
        for entry in tar.chunks(SEGMENT) {
            cutter.entry_starts(entry.len() as u64).unwrap();
            cutter.push_tar(entry);
            let record = record::Entry {
                path: vec![b'x'; 300].into(),
                ..record::Entry::default()
            };
            cutter.push_record(&record::entry(record)).unwrap();
        }
        let seal = |raw: segment::RawSegment| {
            let sealed = raw.seal(1).unwrap();
            Segment {
                header: sealed.header,
                bytes: sealed.bytes,
            }
        };
        let segments = cutter.finish().into_iter().map(seal).collect();
        Stream {
            uuid,
            tar,
            segments,
        }
    }
}

/// What a backup is made under.
#[derive(Clone, Copy)]
struct Terms {
    ring: u64,
    /// Bytes of a file behind that.
    disk: u64,
    part_size: u64,
    capacity: u64,
    early_warning: u64,
    buffer: u64,
    /// The drive confirms what it has only buffered.
    lies: bool,
}

impl Default for Terms {
    fn default() -> Terms {
        Terms {
            ring: 600_000,
            disk: 0,
            part_size: 1 << 30,
            capacity: 64 << 20,
            early_warning: 1 << 20,
            buffer: 100_000,
            lies: false,
        }
    }
}

/// What came of it.
struct Course {
    rig: Rig,
    parts: Vec<(String, PartHeader)>,
    verdicts: Vec<Option<Verdict>>,
    outcome: Result<(), Fault>,
}

fn barcode(number: usize) -> String {
    format!("TAF{:03}L8", number + 1)
}

/// Backs up onto one cartridge after the other, as the worker does; these faults come with the first one.
fn back_up(stream: &Stream, terms: Terms, strikes: &[Strike]) -> Course {
    back_up_through(stream, terms, &mut |number| {
        if number == 0 {
            strikes.to_vec()
        } else {
            Vec::new()
        }
    })
}

/// The same, with faults on each cartridge.
fn back_up_through(
    stream: &Stream,
    terms: Terms,
    strikes: &mut dyn FnMut(usize) -> Vec<Strike>,
) -> Course {
    let spec = |spec: &mut Spec| {
        spec.slots = 48;
        spec.capacity = terms.capacity;
        spec.early_warning = Some(terms.early_warning);
        spec.buffer = terms.buffer;
    };
    let rig = Rig::with(spec, &NewCartridge::default());
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path().join("spool"), 1 << 30).unwrap();
    let journal = Journal::open(folder.path().join("journal"), spool).unwrap();
    let place = Place::prepare(folder.path().join("ring"), terms.disk).unwrap();
    let (inlet, mut outlet) = ring::ring(Plan {
        memory: terms.ring,
        disk: (terms.disk > 0).then(|| place.create("1").unwrap()),
        terms: gate::Terms {
            floor: 0,
            wait: Duration::from_secs(1),
        },
        clock: ring::clock(),
    });
    let coming = stream.segments.clone();
    let feeding = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            for segment in coming {
                if inlet.put(segment).await.is_err() {
                    break;
                }
            }
        });
    });
    let mut course = Course {
        rig,
        parts: Vec::new(),
        verdicts: Vec::new(),
        outcome: Ok(()),
    };
    let mut archive = Archive::new(stream.uuid);
    for number in 0..40 {
        let work = course.next_cartridge(number, terms);
        let mut drive = course.rig.drive();
        for strike in strikes(number) {
            course.rig.library.faults().lock().add(strike);
        }
        let load = (&mut archive, &mut outlet);
        let (parts, outcome, verdict) = one_volume(&mut drive, &journal, &work, load, terms);
        course.rig.library.faults().lock().clear();
        let barcode = barcode(number);
        for entry in parts {
            let mut whole = blake3::Hasher::new();
            whole.update(&std::fs::read(&entry.records).unwrap());
            whole.update(&entry.header.segment_table);
            assert_eq!(*whole.finalize().as_bytes(), entry.digest);
            course.parts.push((barcode.clone(), entry.header));
        }
        course.verdicts.push(verdict);
        match outcome {
            Ok(true) => {}
            Ok(false) => break,
            Err(fault) => {
                course.outcome = Err(fault);
                break;
            }
        }
    }
    drop(outlet);
    feeding.join().unwrap();
    course.rig.drive().unload().unwrap();
    course
}

impl Course {
    /// Puts the next cartridge into the drive, with a label of one block.
    fn next_cartridge(&mut self, number: usize, terms: Terms) -> WriteWork {
        let barcode = barcode(number);
        if number > 0 {
            let new = NewCartridge {
                capacity: Some(terms.capacity),
                ..NewCartridge::default()
            };
            self.rig.replace(&barcode, &new);
        }
        let mut drive = self.rig.drive();
        drive.rewind().unwrap();
        drive.write_block(b"label").unwrap();
        drive.write_filemarks(1, Sync::Synchronous).unwrap();
        WriteWork {
            recording: Some(Recording {
                barcode,
                recording_uuid: Uuid::from_u128(number as u128 + 1)
                    .as_bytes()
                    .to_vec()
                    .into(),
                block_size: BLOCK,
                ..Recording::default()
            }),
            archive: Some(taf_proto::agent::Archive {
                version: 1,
                ordinal: 1,
                plan: "nightly".into(),
                source: "files".into(),
                ..Default::default()
            }),
            part_size: terms.part_size,
            ..WriteWork::default()
        }
    }

    /// Reads the parts as a person would, and compares: every byte that is claimed is there, and nothing is missing between.
    /// Gives how many bytes of the archive they hold.
    fn prove(&self, stream: &Stream) -> usize {
        let mut tar = Vec::new();
        let mut before: Option<(String, PartHeader)> = None;
        for (number, (barcode, header)) in (1..).zip(&self.parts) {
            assert_eq!(header.part_number, number);
            let path = library::cartridges(self.rig.library.dir()).join(format!("{barcode}.tape"));
            let cartridge = Reader::open(&path).unwrap();
            let blocks = cartridge.blocks(header.tape_file).unwrap();
            let bytes: Vec<u8> = blocks.flat_map(Result::unwrap).collect();
            assert!(bytes.len() as u64 >= header.byte_count, "{header:?}");
            if !header.truncated {
                assert_eq!(bytes.len() as u64, header.byte_count);
            }
            let block0 = Block0::decode(&bytes[..BLOCK as usize]).unwrap();
            assert_eq!(block0.part, number);
            assert_eq!(block0.first_sequence, header.first_sequence);
            let predecessor = before.map(|(volume, part)| Predecessor {
                volume,
                tape_file: part.tape_file as u32,
                bytes: part.truncated.then_some(part.byte_count),
            });
            assert_eq!(block0.predecessor, predecessor);
            let table = SegmentTable::decode(&header.segment_table).unwrap();
            assert_eq!(table.byte_end(), header.byte_count);
            for located in table.segments() {
                let range = located.byte_offset as usize..located.byte_end() as usize;
                let opened = segment::open(&bytes[range]).unwrap();
                assert_eq!(opened.header.sequence, located.sequence);
                assert_eq!(opened.header.tar_offset, tar.len() as u64);
                tar.extend(opened.tar);
            }
            assert_eq!(header.end_tar_offset, tar.len() as u64);
            before = Some((barcode.clone(), header.clone()));
        }
        assert!(stream.tar.starts_with(&tar), "the tape holds other bytes");
        tar.len()
    }

    /// Everything is on tape.
    fn is_whole(&self, stream: &Stream) {
        assert_eq!(self.outcome, Ok(()));
        assert_eq!(self.prove(stream), stream.tar.len());
        assert!(self.parts.last().unwrap().1.last);
    }
}

type Volume = (Vec<Entry>, Result<bool, Fault>, Option<Verdict>);

/// Writes on one cartridge: the parts, whether another is needed, and what is said of this one.
fn one_volume(
    drive: &mut dyn Drive,
    journal: &Journal,
    work: &WriteWork,
    load: (&mut Archive, &mut Outlet),
    terms: Terms,
) -> Volume {
    let end = End {
        tape_file: 1,
        block: BEGIN,
    };
    let key = AssignmentKey::default();
    load.1.part_begins(part_bytes(work));
    let mut writer = Writer::new(drive, journal, key, work, end, load).unwrap();
    let mut parts = Vec::new();
    loop {
        let taken = match writer.next_blocking() {
            Ok(Next::Segment(segment)) => segment,
            Ok(Next::Ended) => {
                assert!(writer.is_whole());
                return (parts, Ok(false), None);
            }
            other => panic!("{other:?}"),
        };
        match writer.segment(&taken) {
            Ok(Progress::Buffered) => {}
            Ok(Progress::Part(entry)) => parts.push(*entry),
            Ok(Progress::Full(entry)) => {
                parts.push(*entry);
                return (parts, Ok(true), Some(Verdict::Full));
            }
            Ok(Progress::NoRoom) => return (parts, Ok(true), Some(Verdict::Full)),
            Err(Failure::Fault(fault)) => return (parts, Err(fault), None),
            Err(Failure::Drive(error)) => {
                let rescued = writer.rescue(&error);
                parts.extend(rescued.entry);
                let verdict = rescued.verdict.map(|(verdict, _)| verdict);
                return (parts, rescued.outcome.map(|why| why.is_some()), verdict);
            }
        }
        if terms.lies {
            writer.ring.release(taken.header.sequence);
        }
    }
}

fn strike(at: At, object: Option<u64>, times: u32, (key, asc, ascq): (u8, u8, u8)) -> Strike {
    Strike {
        at,
        barcode: Some(BARCODE.into()),
        object,
        times,
        key,
        asc,
        ascq,
        ..Strike::default()
    }
}

const MEDIUM: (u8, u8, u8) = (3, 0x0c, 0);
const HARDWARE: (u8, u8, u8) = (4, 0x44, 0);
const OVERFLOW: (u8, u8, u8) = (0xd, 0, 2);

#[test]
fn what_fails_at_any_block_goes_on_with_the_next_cartridge() {
    let stream = Stream::new(1, 12);
    let blocks = back_up(&stream, Terms::default(), &[]).parts[0]
        .1
        .block_count;
    assert!(blocks > 20, "{blocks}");
    // Every block takes half a minute; otherwise some of them, and the first and the last ones.
    let seed: u64 = rand::random();
    println!("seed {seed}; TAF_TEST_LONG=1 tries every block");
    let mut dice = StdRng::seed_from_u64(seed);
    let all = std::env::var_os("TAF_TEST_LONG").is_some();
    let kinds = [
        (At::Write, MEDIUM, Some(Verdict::ReadOnly)),
        (At::Write, HARDWARE, None),
        (At::Write, OVERFLOW, Some(Verdict::Full)),
        (At::Medium, MEDIUM, Some(Verdict::ReadOnly)),
        (At::Deferred, MEDIUM, Some(Verdict::ReadOnly)),
        (At::Deferred, HARDWARE, None),
    ];
    for (at, sense, verdict) in kinds {
        for object in BEGIN..BEGIN + blocks {
            let edge = object < BEGIN + 2 || object >= BEGIN + blocks - 1;
            if !all && !edge && !dice.random_ratio(1, 8) {
                continue;
            }
            for part_size in [1 << 30, 150_000] {
                // The ring is in memory, or nearly all on a disk.
                let (ring, disk) = *[(600_000, 0), (100_000, 500_000)]
                    .get(dice.random_range(0..2))
                    .unwrap();
                let terms = Terms {
                    ring,
                    disk,
                    part_size,
                    ..Terms::default()
                };
                let course = back_up(&stream, terms, &[strike(at, Some(object), 1, sense)]);
                course.is_whole(&stream);
                // With small parts the object may be a filemark, which none of these strike at.
                if part_size > 150_000 {
                    let mut case = String::new();
                    write!(case, "{at:?} {sense:?} at object {object}").unwrap();
                    assert_eq!(course.verdicts[0], verdict, "{case}");
                    assert!(
                        course.parts.iter().any(|(on, _)| *on == barcode(1)),
                        "{case}"
                    );
                }
            }
        }
    }
}

#[test]
fn without_a_filemark_what_can_be_read_back_counts() {
    let stream = Stream::new(2, 12);
    for sense in [MEDIUM, OVERFLOW] {
        for object in (BEGIN..BEGIN + 25).step_by(4) {
            let strikes = [
                strike(At::Write, Some(object), 1, sense),
                strike(At::Filemark, None, 0, sense),
            ];
            let course = back_up(&stream, Terms::default(), &strikes);
            course.is_whole(&stream);
            if let Some((on, part)) = course.parts.first()
                && on == BARCODE
            {
                assert!(part.truncated);
                assert_eq!(
                    part.next_block,
                    part.first_block + part.block_count,
                    "no filemark"
                );
            }
        }
    }
    // The last part of all: the archive is whole, filemark or not.
    let course = back_up(
        &stream,
        Terms::default(),
        &[strike(At::Filemark, None, 0, MEDIUM)],
    );
    course.is_whole(&stream);
    assert_eq!(course.parts.len(), 1);
    assert!(course.parts[0].1.truncated);
}

#[test]
fn what_can_not_be_read_back_does_not_count() {
    let stream = Stream::new(3, 12);
    for bad in (BEGIN..BEGIN + 15).step_by(2) {
        let strikes = [
            strike(At::Write, Some(BEGIN + 15), 1, MEDIUM),
            strike(At::Read, Some(bad), 0, (3, 0x11, 0)),
        ];
        let course = back_up(&stream, Terms::default(), &strikes);
        // The drive had passed it on, and the ring had let it go; or else it is written again.
        match &course.outcome {
            Ok(()) => course.is_whole(&stream),
            Err(fault) => {
                assert_eq!(fault.reason, "WRITTEN_DATA_LOST");
                course.prove(&stream);
            }
        }
        for (on, part) in &course.parts {
            let end = part.first_block + part.byte_count.div_ceil(u64::from(BLOCK));
            assert!(on != BARCODE || end <= bad, "block {bad} is in {part:?}");
        }
    }
}

#[test]
fn a_drive_that_loses_what_it_confirmed_is_found_out() {
    let stream = Stream::new(4, 12);
    let terms = Terms {
        lies: true,
        buffer: 64 << 20,
        ..Terms::default()
    };
    let course = back_up(
        &stream,
        terms,
        &[strike(At::Medium, Some(BEGIN + 6), 1, MEDIUM)],
    );
    let fault = course.outcome.as_ref().unwrap_err();
    assert_eq!(fault.reason, "WRITTEN_DATA_LOST");
    assert!(fault.message.contains("segments 2 to"), "{fault:?}");
    assert!(course.prove(&stream) < stream.tar.len());
}

#[test]
fn archives_go_over_as_many_cartridges_as_they_need_whatever_the_distances() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut dice = StdRng::seed_from_u64(seed);
    for round in 0..4 {
        let stream = Stream::new(seed.wrapping_add(round), 60);
        let terms = Terms {
            capacity: dice.random_range(400_000..900_000),
            // Also none, and less than a block or two.
            early_warning: *[0, 1, 10_000, 40_000, 200_000]
                .get(dice.random_range(0..5))
                .unwrap(),
            part_size: dice.random_range(60_000..600_000),
            ring: dice.random_range(200_000..700_000),
            buffer: dice.random_range(0..300_000),
            disk: *[0, 500_000].get(dice.random_range(0..2)).unwrap(),
            lies: false,
        };
        let course = back_up(&stream, terms, &[]);
        course.is_whole(&stream);
        assert!(course.verdicts.len() >= 3, "{:?}", course.verdicts);
        let full = &course.verdicts[..course.verdicts.len() - 1];
        assert!(full.iter().all(|v| *v == Some(Verdict::Full)), "{full:?}");
    }
}
