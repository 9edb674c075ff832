//! Two hosts at one drive: whoever has reserved it is left alone, and only what we left behind ourselves is taken over.
#![allow(clippy::unwrap_used, missing_docs)]

mod site;

use std::result::Result;

use site::{Segments, Site, until};
use taf_drive::{Drive as _, Error, OwnKeys, Reserved, ScsiDrive};
use taf_proto::agent::*;
use taf_scsi::transport::in_process::InProcess;

const SEGMENT: usize = 64 << 10;
const THEIRS: u64 = 0x00c0_ffee;

/// Another host's way to the drive.
fn other_host(site: &Site) -> ScsiDrive {
    let target = site.library.drive_target(0).unwrap();
    let mut drive = ScsiDrive::new(Box::new(InProcess::new("theirs", target))).unwrap();
    drive.reserve_with(OwnKeys {
        current: THEIRS,
        stale: Vec::new(),
    });
    drive
}

/// Reserves it, whatever news there are.
fn reserve(drive: &mut ScsiDrive) -> Result<Reserved, Error> {
    loop {
        match drive.reserve() {
            Err(Error::UnitAttention(_)) => {}
            outcome => return outcome,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drive_that_another_host_holds_is_left_alone_until_it_lets_go() {
    let mut site = Site::with_blank().await;
    let _worker = site.drive_worker().await;
    let mut recording = site.labelled().await;
    let mut theirs = other_host(&site);
    assert_eq!(reserve(&mut theirs).unwrap(), Reserved::Ours);
    let objects = site.cartridge().objects();
    let (key, _) = site.assign_write(&recording, 1 << 20);
    let fault = site.result(key).await.fault.unwrap();
    assert_eq!(fault.reason, "DRIVE_RESERVED");
    assert!(fault.message.contains("another host"), "{}", fault.message);
    let other = site.recording();
    let fault = site.label(&other).await.fault.unwrap();
    assert_eq!(fault.reason, "DRIVE_RESERVED");
    assert_eq!(site.controller.verdicts(), []);
    assert_eq!(site.cartridge().objects(), objects);
    // It still has the drive.
    theirs.position().unwrap();
    theirs.release().unwrap();
    site.back_up(&mut recording, &Segments::new(1, 1, 4096), 1 << 20)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_we_work_nobody_else_gets_in_and_what_a_killed_worker_held_is_taken_over() {
    let mut site = Site::with_blank().await;
    let mut worker = site.drive_worker().await;
    let mut recording = site.labelled().await;
    let (key, archive) = site.assign_write(&recording, 1 << 30);
    let mut writing = site.writing(key).await;
    let sealed = Segments::new(2, 2, SEGMENT).seal(&archive);
    writing.segment(&sealed[0]).await;
    let mut theirs = other_host(&site);
    assert!(matches!(
        reserve(&mut theirs),
        Err(Error::ReservedBy { .. })
    ));
    assert!(matches!(theirs.rewind(), Err(Error::ReservationConflict)));
    worker.0.kill().unwrap();
    worker.0.wait().unwrap();
    // Nobody has let go.
    assert!(matches!(theirs.rewind(), Err(Error::ReservationConflict)));
    site.controller.assign(Vec::new());

    let _worker = site.drive_worker().await;
    until("the drive let go", || theirs.position().ok()).await;
    let (key, archive) = site.assign_write(&recording, 1 << 30);
    let mut writing = site.writing(key).await;
    if let Some(orphan) = site.controller.orphans().pop() {
        recording.next_block = orphan.next_block;
    }
    writing
        .segment(&Segments::new(3, 1, SEGMENT).seal(&archive)[0])
        .await;
    writing.finish(0).await;
    assert_eq!(writing.committed().await, Ok(1));
    let part = site.controller.parts().pop().unwrap().header;
    assert_eq!(part.first_block, recording.next_block);
    assert!(matches!(
        site.result(key).await.done,
        Some(result::Done::Write(_))
    ));
    // With its work a worker lets go.
    until("the drive let go", || theirs.position().ok()).await;
}
