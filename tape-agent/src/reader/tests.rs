#![allow(clippy::unwrap_used)]

use taf_drive::reading::FAILURES_MAX;
use taf_drive::{Error, ScsiDrive, Sync};
use taf_emulator::faults::At;

use super::*;
use crate::rig::Rig;

const BLOCK: usize = 1 << 10;
const BLOCKS: u64 = 200;
const UNREADABLE: (u8, u8, u8) = (3, 0x11, 0);

/// A tape of blocks that begin with their number.
struct Tape {
    rig: Rig,
    drive: ScsiDrive,
}

fn tape() -> Tape {
    let rig = Rig::new();
    let mut drive = rig.drive();
    for number in 0..BLOCKS {
        drive.write_block(&block(number)).unwrap();
    }
    drive.write_filemarks(1, Sync::Synchronous).unwrap();
    Tape { rig, drive }
}

fn block(number: u64) -> Vec<u8> {
    let mut block = vec![number as u8; BLOCK];
    block[..8].copy_from_slice(&number.to_le_bytes());
    block
}

fn range(first: u64, count: u64) -> ReadRange {
    ReadRange {
        id: 1,
        tape_file: 0,
        first_block: first,
        byte_offset: 0,
        length: count * BLOCK as u64,
    }
}

impl Tape {
    fn bad(&self, object: u64, times: u32) {
        self.rig.strike(At::Read, Some(object), times, UNREADABLE);
    }

    /// Blocks that came, blocks that were lost, and whether the tape was found too short.
    fn read(&mut self, range: &ReadRange) -> Result<(Vec<u64>, Vec<u64>, bool), Fault> {
        let prove = |drive: &mut dyn Drive, _: &Error| {
            drive.attentions().unwrap();
            Ok(())
        };
        let (mut got, mut lost) = (Vec::new(), Vec::new());
        let mut next = range.first_block;
        let mut reader = Reader::new(&mut self.drive, "A", BLOCK as u32, &prove);
        reader.range(range, &mut |response| {
            match response.message.unwrap() {
                read_response::Message::Chunk(chunk) => {
                    assert!(chunk.data == block(next), "block {next}");
                    got.push(next);
                }
                read_response::Message::Damaged(damaged) => {
                    assert!(damaged.reason.contains("volume A"), "{}", damaged.reason);
                    lost.push(next);
                }
                other => panic!("{other:?}"),
            }
            next += 1;
            true
        })?;
        assert_eq!(next, range.first_block + range.length / BLOCK as u64);
        Ok((got, lost, reader.truncated().is_some()))
    }
}

#[test]
fn a_block_that_fails_twice_is_not_lost() {
    let mut tape = tape();
    tape.bad(20, 2);
    let (got, lost, _) = tape.read(&range(0, 60)).unwrap();
    assert_eq!((got.len(), lost), (60, vec![]));
}

#[test]
fn only_bad_blocks_are_lost_however_they_lie() {
    let mut tape = tape();
    let bad = [0, 7, 8, 9, 11, 13, 20, 22, 40, 41, 42, 43, 44, 59];
    for object in bad {
        tape.bad(object, 0);
    }
    let (got, lost, truncated) = tape.read(&range(0, 60)).unwrap();
    assert_eq!(lost, bad);
    assert_eq!(got.len(), 60 - bad.len());
    assert!(!truncated);
    // The same just behind a filemark: it is no end.
    let (_, lost, truncated) = tape.read(&range(7, 3)).unwrap();
    assert_eq!((lost.len(), truncated), (3, false));
}

#[test]
fn of_a_long_stretch_nothing_behind_it_is_lost() {
    let mut tape = tape();
    for object in 10..150 {
        tape.bad(object, 0);
    }
    let (got, lost, _) = tape.read(&range(0, BLOCKS)).unwrap();
    assert!(lost.iter().copied().eq(10..150), "{lost:?}");
    assert_eq!(got.len(), BLOCKS as usize - 140);
    // Also if the range ends in another one.
    tape.bad(BLOCKS - 1, 0);
    let (_, lost, _) = tape.read(&range(0, BLOCKS)).unwrap();
    assert!(lost.iter().copied().eq((10..150).chain([BLOCKS - 1])));
}

#[test]
fn a_filemark_or_an_end_where_blocks_should_be_is_a_loss_and_an_end_is_told() {
    let mut tape = tape();
    let (got, lost, truncated) = tape.read(&range(BLOCKS - 1, 2)).unwrap();
    assert_eq!((got, lost), (vec![BLOCKS - 1], vec![BLOCKS]));
    assert!(!truncated);
    let (got, lost, truncated) = tape.read(&range(BLOCKS - 1, 5)).unwrap();
    assert_eq!((got.len(), lost.len(), truncated), (1, 4, true));
}

#[test]
fn news_of_the_drive_make_it_prove_the_volume_and_go_on() {
    let mut tape = tape();
    for (object, asc) in [(5, 0x29), (6, 0x28), (30, 0x2a)] {
        tape.rig.strike(At::Read, Some(object), 1, (6, asc, 0));
    }
    let (got, lost, _) = tape.read(&range(0, 60)).unwrap();
    assert_eq!((got.len(), lost.len()), (60, 0));
}

#[test]
fn a_drive_that_reads_nothing_any_more_ends_it() {
    let mut tape = tape();
    tape.rig.strike(At::Read, None, 0, UNREADABLE);
    let prove = |_: &mut dyn Drive, _: &Error| Ok(());
    let mut reader = Reader::new(&mut tape.drive, "A", BLOCK as u32, &prove);
    let mut ended = None;
    for first in 0..2 * u64::from(FAILURES_MAX) {
        if let Err(fault) = reader.range(&range(first % BLOCKS, 1), &mut |_| true) {
            ended = Some(fault.reason);
            break;
        }
    }
    assert_eq!(ended.as_deref(), Some("VOLUME_UNREADABLE"));
}

#[test]
fn ranges_that_meet_within_a_block_take_no_step_back() {
    let mut tape = tape();
    let prove = |_: &mut dyn Drive, _: &Error| Ok(());
    let mut reader = Reader::new(&mut tape.drive, "A", BLOCK as u32, &prove);
    let half = BLOCK as u64 / 2;
    let mut got = Vec::new();
    let mut back = Vec::new();
    for number in 0..10 {
        let range = ReadRange {
            byte_offset: number * 5 * half,
            length: 5 * half,
            ..range(0, 1)
        };
        let mut take = |response: ReadResponse| match response.message.unwrap() {
            read_response::Message::Chunk(chunk) => {
                got.extend_from_slice(&chunk.data);
                true
            }
            other => panic!("{other:?}"),
        };
        assert!(reader.range(&range, &mut take).unwrap());
        let drive = &tape.rig.library.drives()[0];
        back.push(drive.lock().stats().locates_backward);
    }
    assert!(got == (0..25).flat_map(block).collect::<Vec<u8>>());
    assert_eq!(back[0], back[9], "only to the beginning");
}
