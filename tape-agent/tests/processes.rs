//! The robot's worker, and the supervisor with all of them.
#![allow(clippy::unwrap_used, missing_docs)]

mod site;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use site::{BARCODE, Site, until};
use taf_emulator::library::{self, NewCartridge};
use taf_proto::agent::assignment::Work;
use taf_proto::agent::*;

fn slots(elements: &[Element]) -> Vec<&Element> {
    let slots = elements.iter();
    slots
        .filter(|e| e.r#type() == element::Type::Slot)
        .collect()
}

fn with_barcode<'a>(elements: &'a [Element], barcode: &str) -> Option<&'a Element> {
    elements.iter().find(|e| e.full && e.barcode == barcode)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_robot_shows_its_elements_and_moves_what_it_is_told() {
    let mut site = Site::start(|_| {}, &[(BARCODE, NewCartridge::default())]).await;
    let _worker = site.worker("library");
    let elements = until("elements", || site.controller.elements()).await;
    assert_eq!(slots(&elements).len(), 10);
    let from = with_barcode(&elements, BARCODE).unwrap().address;
    let drives = elements.iter().find(|e| e.r#type() == element::Type::Drive);
    let drive = drives.unwrap();
    assert!(!drive.drive_serial.is_empty());

    let work = MoveWork {
        barcode: BARCODE.into(),
        from_address: from,
        to_address: drive.address,
    };
    let key = site.assign(Work::Move(work.clone()));
    assert_eq!(site.result(key).await.fault, None);
    // Seen before it was said to be done.
    let events = site.controller.events();
    let done = events
        .iter()
        .position(|e| matches!(e, site::Event::Result(r) if r.key == Some(key)))
        .unwrap();
    let shown = events[..done].iter().rev().find_map(|event| match event {
        site::Event::Library(library) => Some(library.elements.clone()),
        _ => None,
    });
    let shown = shown.unwrap();
    let there = with_barcode(&shown, BARCODE).unwrap();
    assert_eq!((there.address, there.source_address), (drive.address, from));

    // The same once more, as after a lost result: nothing is left to do.
    let key = site.assign(Work::Move(work));
    assert_eq!(site.result(key).await.fault, None);
    // From where it is not.
    let key = site.assign(Work::Move(MoveWork {
        barcode: BARCODE.into(),
        from_address: from,
        to_address: from + 1,
    }));
    assert_eq!(site.fault(key).await, "CARTRIDGE_MOVED");

    library::add(site.library.dir(), "NEW001L8", &NewCartridge::default()).unwrap();
    until("the new cartridge", || {
        with_barcode(&site.controller.elements()?, "NEW001L8").map(|_| ())
    })
    .await;
}

/// Processes of this folder's configuration, by what they are.
fn processes(site: &Site, what: &str) -> Vec<Pid> {
    let config = site.path("tape-agent.toml").display().to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else {
            continue;
        };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(&config) && line.contains(what) {
            found.push(Pid::from_raw(pid));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_is_started_again_and_all_end_together() {
    let site = Site::with_blank().await;
    let mut agent = site.agent();
    until("two workers", || {
        (site.controller.hellos().len() == 2).then_some(())
    })
    .await;
    let drive = processes(&site, "worker drive");
    assert_eq!(drive.len(), 1);
    kill(drive[0], Signal::SIGKILL).unwrap();
    until("the next worker", || {
        (site.controller.hellos().len() == 3).then_some(())
    })
    .await;
    let incarnations: std::collections::HashSet<_> = site
        .controller
        .hellos()
        .into_iter()
        .map(|hello| hello.incarnation)
        .collect();
    assert_eq!(incarnations.len(), 3);
    kill(Pid::from_raw(agent.0.id() as i32), Signal::SIGTERM).unwrap();
    let status = until("its end", || agent.0.try_wait().unwrap()).await;
    assert!(status.success());
    assert_eq!(processes(&site, "worker"), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_do_not_outlive_a_supervisor_that_was_killed() {
    let site = Site::with_blank().await;
    let mut agent = site.agent();
    until("two workers", || {
        (site.controller.hellos().len() == 2).then_some(())
    })
    .await;
    agent.0.kill().unwrap();
    agent.0.wait().unwrap();
    until("the end of the workers", || {
        processes(&site, "worker").is_empty().then_some(())
    })
    .await;
}
