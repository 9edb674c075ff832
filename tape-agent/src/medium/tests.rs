#![allow(clippy::unwrap_used)]
use bytes::Bytes;
use taf_drive::ScsiDrive;
use taf_emulator::faults::{At, Do, Fault};
use taf_proto::agent::{LabelWork, Recording};
use taf_scsi::transport::in_process::InProcess;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::*;
use crate::labelling;
use crate::rig::{BARCODE, Rig};

const BLOCK: u32 = 512 << 10;

/// The rig's drive on a path that carries so many bytes.
fn narrow(rig: &Rig, largest: u32) -> ScsiDrive {
    let target = rig.library.drive_target(0).unwrap();
    let path = InProcess::new("drive", target).with_max_transfer(largest as usize);
    let mut drive = ScsiDrive::new(Box::new(path)).unwrap();
    drive.attentions().unwrap();
    drive.prepare().unwrap();
    drive
}

fn recording() -> Recording {
    let uuid = || Bytes::copy_from_slice(Uuid::new_v4().as_bytes());
    Recording {
        installation_uuid: uuid(),
        volume_uuid: uuid(),
        recording_uuid: uuid(),
        barcode: BARCODE.to_owned(),
        pool: "default".to_owned(),
        block_size: BLOCK,
        ..Recording::default()
    }
}

#[test]
fn a_label_is_read_again_before_it_counts_as_unreadable() {
    let rig = Rig::new();
    let work = LabelWork {
        recording: Some(recording()),
        ..LabelWork::default()
    };
    let stop = CancellationToken::new();
    labelling::label(&mut rig.drive(), &work, &stop, &|_| {}).unwrap();
    for (times, readable) in [(2, true), (3, false)] {
        // Unrecovered read error.
        rig.strike(At::Read, Some(0), times, (3, 0x11, 0));
        let found = beginning(&mut rig.drive(), BARCODE).unwrap();
        assert_eq!(matches!(found, Beginning::Label(_)), readable, "{times}");
        assert_eq!(matches!(found, Beginning::Unreadable(_)), !readable);
    }
    // What comes over the path otherwise than it was written is no proof against the cartridge either.
    rig.library.faults().lock().add(Fault {
        at: At::Read,
        object: Some(2),
        times: 0,
        action: Do::Flip,
        ..Fault::default()
    });
    let wanted = work.recording.unwrap();
    let wrong = prove(&mut rig.drive(), &wanted).err().unwrap();
    assert_eq!(
        wrong.fault.reason, "LABEL_UNREADABLE",
        "{}",
        wrong.fault.message
    );
    assert!(!wrong.contradicts);
}

#[test]
fn a_volume_of_larger_blocks_than_the_path_carries_is_neither_labelled_nor_used() {
    let rig = Rig::new();
    let stop = CancellationToken::new();
    let work = LabelWork {
        recording: Some(recording()),
        ..LabelWork::default()
    };
    let recording = work.recording.clone().unwrap();

    let mut drive = narrow(&rig, BLOCK - 1);
    let fault = labelling::label(&mut drive, &work, &stop, &|_| {}).unwrap_err();
    assert_eq!(fault.reason, "BLOCK_TOO_LARGE");
    assert!(
        fault.message.contains("524287 bytes at most"),
        "{}",
        fault.message
    );
    assert!(matches!(
        beginning(&mut drive, BARCODE),
        Ok(Beginning::Blank)
    ));

    // The same path, just wide enough.
    let mut drive = narrow(&rig, BLOCK);
    labelling::label(&mut drive, &work, &stop, &|_| {}).unwrap();
    prove(&mut drive, &recording).ok().unwrap();

    let mut drive = narrow(&rig, 256 << 10);
    let wrong = prove(&mut drive, &recording).err().unwrap();
    assert_eq!(wrong.fault.reason, "BLOCK_TOO_LARGE");
    // It is the path's fault, and nothing is wrong with the volume.
    assert!(!wrong.contradicts);
}
