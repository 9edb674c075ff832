//! A drive that does not answer any more: it is shown, its work fails in time, and it is used again when it has come back.
// A lock that is held is how the drive hangs.
#![allow(clippy::unwrap_used, clippy::await_holding_lock, missing_docs)]

mod site;

use site::{Segments, Site, until};
use taf_proto::agent::assignment::Work;
use taf_proto::agent::*;

const SEGMENT: usize = 64 << 10;

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_command_fails_its_work_in_time_and_the_drive_is_used_when_it_is_back() {
    let mut site = Site::with_blank().await;
    site.configure("hung_after = \"1s\"");
    let _worker = site.drive_worker().await;
    let mut recording = site.labelled().await;
    let (key, archive) = site.assign_write(&recording, 1 << 30);
    let mut writing = site.writing(key).await;
    let sealed = Segments::new(1, 40, SEGMENT).seal(&archive);
    writing.segment(&sealed[0]).await;
    until("bytes on their way", || {
        let drive = site.library.drives()[0].lock();
        (drive.cartridge()?.objects() > recording.next_block).then_some(())
    })
    .await;
    {
        // Whoever has it answers no command.
        let drive = site.library.drives()[0].clone();
        let _held = drive.lock();
        writing.segment(&sealed[1]).await;
        let fault = site.result(key).await.fault.unwrap();
        assert_eq!(fault.reason, "DRIVE_HUNG");
        assert!(fault.message.contains("WRITE"), "{}", fault.message);
        let (about, seen) = until("a hung drive", || {
            site.controller.drive().filter(|(_, d)| d.phase == "hung")
        })
        .await;
        assert_eq!(about, None);
        assert_eq!(seen.hung_command, "WRITE");
        assert!(seen.hung_since.is_some());
        // The worker is there, and new work waits: nothing else is sent to the drive.
        let (next, _) = site.assign_write(&recording, 1 << 30);
        assert_eq!(site.controller.result(next), None);
    }
    // It is back. What it was doing is torn, is found as such, and the next work is done.
    let (key, archive) = site.assign_write(&recording, 1 << 30);
    let mut writing = site.writing(key).await;
    let orphan = site.controller.orphans().pop().unwrap();
    assert_eq!(orphan.first_block, recording.next_block);
    recording.next_block = orphan.next_block;
    recording.next_tape_file = orphan.next_tape_file;
    for segment in &Segments::new(2, 2, SEGMENT).seal(&archive) {
        writing.segment(segment).await;
    }
    writing.finish(1).await;
    assert_eq!(writing.committed().await, Ok(1));
    let (_, seen) = until("an idle drive", || {
        site.controller.drive().filter(|(_, d)| d.phase == "idle")
    })
    .await;
    assert_eq!(seen.hung_since, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_drive_that_hangs_is_shown_and_given_nothing() {
    let mut site = Site::with_blank().await;
    site.configure("hung_after = \"1s\"");
    let _worker = site.drive_worker().await;
    let recording = site.labelled().await;
    {
        let drive = site.library.drives()[0].clone();
        let _held = drive.lock();
        until("a hung drive", || {
            site.controller.drive().filter(|(_, d)| d.phase == "hung")
        })
        .await;
        let key = site.assign_read(&recording);
        assert_eq!(site.controller.result(key), None);
        site.controller.assign(Vec::new());
    }
    let key = site.assign(Work::Unload(UnloadWork {}));
    assert_eq!(site.result(key).await.fault, None);
}
