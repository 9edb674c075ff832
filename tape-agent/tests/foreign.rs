//! Other people's tapes: said for what they are, and not a byte of them changed, unless a person orders it.
#![allow(clippy::unwrap_used, missing_docs)]

mod site;

use bytes::Bytes;
use site::{Segments, Site};
use taf_drive::{Drive as _, Sync};
use taf_emulator::faults::{At, Fault};
use taf_format::label::{self, Label};
use taf_proto::agent::*;
use uuid::Uuid;

const BLOCK: usize = 64 << 10;
/// What must be untouched, and a bit.
const BLOCKS: usize = 161;

/// Whoever's first block it is, with their data behind.
fn theirs(first: &[u8]) -> Vec<Vec<u8>> {
    let mut blocks = vec![first.to_vec()];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    blocks.extend((1..BLOCKS).map(|_| {
        let mut block = Vec::with_capacity(BLOCK);
        while block.len() < BLOCK {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            block.extend(state.to_le_bytes());
        }
        block
    }));
    blocks
}

fn with(at: usize, what: &[u8]) -> Vec<u8> {
    let mut block = vec![0x20; BLOCK];
    block[at..at + what.len()].copy_from_slice(what);
    block
}

fn of_another_installation() -> Vec<Vec<u8>> {
    label::encode(&Label {
        installation_uuid: Uuid::new_v4(),
        volume_uuid: Uuid::new_v4(),
        recording_uuid: Uuid::new_v4(),
        barcode: site::BARCODE.to_owned(),
        pool: "default".to_owned(),
        block_size: site::BLOCK,
        labelled_at_unix_nanos: 1,
        writer: "TAF 0".to_owned(),
    })
    .unwrap()
}

/// Every kind of tape, and the words that name it.
fn tapes() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let mut ltfs = with(0, b"VOL1TAPE01L");
    ltfs[24..28].copy_from_slice(b"LTFS");
    ltfs.truncate(80);
    let mut ansi = with(0, b"VOL1THEIRS");
    ansi.truncate(80);
    vec![
        ("a tar archive", theirs(&with(257, b"ustar"))),
        ("an LTFS volume", theirs(&ltfs)),
        ("Bareos", theirs(&with(12, b"BB02"))),
        ("the ANSI volume label 'THEIRS'", theirs(&ansi)),
        ("of another installation", of_another_installation()),
        ("zeros", vec![vec![0; BLOCK]; BLOCKS]),
        ("unknown data", theirs(&theirs(b"")[1])),
    ]
}

fn write_theirs(site: &Site, blocks: &[Vec<u8>]) {
    let mut drive = site.behind();
    drive.rewind().unwrap();
    // We have left the drive in append-only mode: who writes over what is there has to mean it.
    drive.allow_overwrite(0).unwrap();
    for block in blocks {
        drive.write_block(block).unwrap();
    }
    drive.write_filemarks(1, Sync::Synchronous).unwrap();
}

fn read_error(key: u8, asc: u8, ascq: u8) -> Fault {
    Fault {
        at: At::Read,
        barcode: None,
        object: Some(0),
        // As often as a beginning is tried.
        times: 3,
        key,
        asc,
        ascq,
        ..Fault::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_tape_is_named_refused_and_unchanged() {
    let mut site = Site::with_blank().await;
    let _worker = site.drive_worker().await;
    for (words, blocks) in tapes() {
        write_theirs(&site, &blocks);
        let objects = site.cartridge().objects();
        let recording = site.recording();
        let fault = site.label(&recording).await.fault.expect(words);
        assert_eq!(fault.reason, "FOREIGN_VOLUME", "{words}");
        assert!(fault.message.contains(words), "{}", fault.message);
        assert!(fault.message.contains("nothing was written"));
        let (key, _) = site.assign_write(&recording, 1);
        assert_eq!(site.fault(key).await, "WRONG_VOLUME", "{words}");
        assert_eq!(site.cartridge().objects(), objects, "{words}");
        assert!(site.tape_file(0) == blocks.concat(), "{words}");
    }
    // What can't be read is not blank: a bad spot, a missing key, an end that can't be found.
    let before = site.tape_file(0);
    for (fault, words) in [
        (read_error(3, 0x11, 0), "unrecovered read error"),
        (read_error(7, 0x74, 1), "encrypted"),
        (read_error(8, 0x14, 3), "end of data not found"),
        (read_error(3, 0x30, 2), "incompatible format"),
    ] {
        site.library.faults().lock().add(fault);
        let recording = site.recording();
        let fault = site.label(&recording).await.fault.expect(words);
        assert_eq!(fault.reason, "LABEL_UNREADABLE", "{words}");
        assert!(fault.message.contains(words), "{}", fault.message);
        assert!(site.tape_file(0) == before, "{words}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_persons_order_overwrites_a_foreign_tape() {
    let mut site = Site::with_blank().await;
    let _worker = site.drive_worker().await;
    for (words, blocks) in tapes() {
        write_theirs(&site, &blocks);
        let mut recording = site.recording();
        let work = LabelWork {
            recording: Some(recording.clone()),
            force: true,
            ..LabelWork::default()
        };
        let result = site.label_as(work).await;
        assert_eq!(result.fault, None, "{words}");
        let Some(result::Done::Label(done)) = result.done else {
            panic!("{words}: {result:?}");
        };
        assert_eq!(site.cartridge().objects(), done.next_block, "{words}");
        recording.next_block = done.next_block;
        site.back_up(&mut recording, &Segments::new(1, 1, 4096), 1 << 20)
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_recording_is_replaced_only_if_it_is_expired_and_ends_where_the_catalog_says() {
    let mut site = Site::with_blank().await;
    let _worker = site.drive_worker().await;
    let mut old = site.labelled().await;
    site.back_up(&mut old, &Segments::new(1, 1, 4096), 1 << 20)
        .await;
    let before = site.tape_file(1);
    let fresh = Recording {
        recording_uuid: Bytes::copy_from_slice(Uuid::new_v4().as_bytes()),
        ..old.clone()
    };
    let expired = |recording_uuid: &Bytes, next_block| LabelWork {
        recording: Some(fresh.clone()),
        expired: Some(ExpiredRecording {
            recording_uuid: recording_uuid.clone(),
            next_block,
        }),
        force: false,
    };
    for refused in [
        // Living; another recording; more on tape than the catalog knows.
        LabelWork {
            recording: Some(fresh.clone()),
            ..LabelWork::default()
        },
        expired(&fresh.recording_uuid, old.next_block),
        expired(&old.recording_uuid, old.next_block - 1),
    ] {
        let fault = site.label_as(refused).await.fault.unwrap();
        assert_eq!(fault.reason, "FOREIGN_VOLUME", "{}", fault.message);
        assert!(site.tape_file(1) == before);
    }
    let result = site
        .label_as(expired(&old.recording_uuid, old.next_block))
        .await;
    assert_eq!(result.fault, None);
    let Some(result::Done::Label(done)) = result.done else {
        panic!("{result:?}");
    };
    assert_eq!(site.cartridge().objects(), done.next_block);
}
