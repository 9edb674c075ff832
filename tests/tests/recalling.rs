//! How a restore goes about its volumes, by what the emulator counts: each mounted once and read forwards, only what is needed of it;
//! one that is missing is named and waited for, and nobody else waits with it.
//!
//! The long form: `TAF_RECALL_PART=17179869184 cargo nextest run -p taf-tests --test recalling` has one part of so many bytes.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "recalling/several.rs"]
mod several;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use taf_emulator::control::{Order, Report};
use taf_emulator::drive::{Stats, Status};
use taf_emulator::faults::{At, Fault};
use taf_scsi::sense::Key;
use taf_tests::patience::until;
use taf_tests::said::{number, objects};
use taf_tests::system::{Options, System, below};
use taf_tests::trees::build_random;

const PATIENCE: Duration = Duration::from_mins(2);
/// Bytes a second that a backup reaches at least.
const SLOWEST: u64 = 20_000_000;
/// Bytes of a segment of what no compressor shrinks, and of its header and records.
const SEGMENT: u64 = (4 << 20) + (64 << 10);

/// What the drives say of themselves.
fn reported(system: &System) -> Vec<Status> {
    let report: Report = serde_json::from_value(system.order(&Order::Stat).unwrap()).unwrap();
    report.drives
}

fn counted(system: &System) -> Stats {
    let drives = reported(system);
    assert_eq!(drives.len(), 1);
    drives[0].counters
}

/// Takes what is in the drive home.
fn unload(system: &System) {
    let drives = system.json(&["drive", "list"]).unwrap();
    let drive = drives["drives"][0]["name"].as_str().unwrap().to_owned();
    let drive = drive.strip_prefix("drives/").unwrap();
    // Nothing may be in it.
    system.taf(&["drive", "unload", drive]).unwrap();
}

fn ids(list: &serde_json::Value) -> Vec<String> {
    let id = |name: &serde_json::Value| name.as_str().unwrap().replace("volumes/", "");
    list.as_array().unwrap().iter().map(id).collect()
}

struct Scene {
    system: System,
    tree: PathBuf,
    /// The volumes of the version, in order.
    volumes: Vec<String>,
}

impl Scene {
    /// A thousand files on three volumes or more.
    fn set() -> Self {
        let system = System::start(Options {
            drives: 1,
            cartridges: 4,
            capacity: "8400000".into(),
            emulator: [
                "--buffer",
                "2MiB",
                "--early-warning",
                "500000",
                "--mail-slots",
                "1",
            ]
            .map(str::to_owned)
            .into(),
            ..Options::default()
        })
        .unwrap();
        let tree = system.data().join("tree");
        build_random(&tree, 3, 1_000, 20_000).unwrap();
        for cartridge in 1..=4 {
            system
                .label(&format!("TAF{cartridge:03}L8"), "default")
                .unwrap();
        }
        system.plan("many", &tree, "default").unwrap();
        system.taf(&["run", "many"]).unwrap().expect(0).unwrap();
        let versions = system.json(&["versions", "--plan", "many"]).unwrap();
        let volumes = ids(&versions["versions"][0]["volumes"]);
        assert_eq!(volumes.len(), 3, "{volumes:?}");
        Self {
            system,
            tree,
            volumes,
        }
    }

    fn arguments(&self, into: &Path) -> Vec<String> {
        let pattern = self.tree.join("**/file-*[02468]").display().to_string();
        let to = into.display().to_string();
        ["restore", "many", &pattern, "--to", &to]
            .map(str::to_owned)
            .into()
    }

    /// What the restore of every second file says, with further words.
    fn half(&self, into: &Path, further: &[&str]) -> serde_json::Value {
        let arguments = self.arguments(into);
        let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        arguments.extend(further);
        self.system.json(&arguments).unwrap()
    }

    fn is_restored(&self, into: &Path) {
        let restored = below(into, &self.tree);
        let mut found = 0;
        for folder in fs::read_dir(&restored).unwrap() {
            for file in fs::read_dir(folder.unwrap().path()).unwrap() {
                let path = file.unwrap().path();
                let origin = self.tree.join(path.strip_prefix(&restored).unwrap());
                assert!(fs::read(&path).unwrap() == fs::read(origin).unwrap());
                found += 1;
            }
        }
        assert_eq!(found, 500);
    }

    fn job(&self, name: &str) -> serde_json::Value {
        self.system
            .json(&["job", "show", name.strip_prefix("jobs/").unwrap()])
            .unwrap()
    }

    /// Follows a job to its good end.
    fn ends(&self, name: &str) -> serde_json::Value {
        let watch = [
            "job",
            "watch",
            name.strip_prefix("jobs/").unwrap(),
            "--json",
        ];
        let said = self.system.taf(&watch).unwrap();
        said.expect(0).unwrap().json().unwrap()
    }

    fn five_hundred_files_take_three_mounts_and_no_step_back(&self) {
        let folder = self.system.restored("half").unwrap();
        unload(&self.system);
        let plan = self.half(&folder, &["--dry-run"]);
        assert_eq!(ids(&plan["volumes"]), self.volumes, "{plan}");
        assert_eq!(plan["mount_count"], 3, "{plan}");
        let recall = plan["recall"].as_array().unwrap();
        let entries: u64 = recall.iter().map(|v| number(&v["entry_count"])).sum();
        assert_eq!(entries, 500, "{plan}");
        for volume in recall {
            assert!(volume["location"].as_str().unwrap().contains("/slots/"));
            assert!(number(&volume["byte_count"]) > 500_000, "{plan}");
            assert_eq!(volume["missing"], false, "{plan}");
        }
        let before = counted(&self.system);
        let job = self.half(&folder, &[]);
        let after = counted(&self.system);
        self.is_restored(&folder);
        // The numbers are the catalog's.
        let progress = &job["progress"];
        assert_eq!(number(&progress["file_count"]), 500);
        assert_eq!(number(&plan["entry_count"]), 500);
        assert_eq!(number(&progress["byte_count"]), number(&plan["byte_count"]));
        assert_eq!(ids(&job["volumes"]), self.volumes);
        assert_eq!(after.mounts - before.mounts, 3);
        let back = after.locates_backward - before.locates_backward;
        assert_eq!(back, after.rewinds - before.rewinds, "{before:?} {after:?}");
        // Gone on with, it brings what is missing, and reads nothing else.
        let missing = below(&folder, &self.tree).join("folder-00009/file-0000998");
        fs::remove_file(&missing).unwrap();
        let before = counted(&self.system);
        let job = self.half(&folder, &["--collision", "if-different"]);
        let after = counted(&self.system);
        assert_eq!(number(&job["progress"]["file_count"]), 1);
        assert_eq!(number(&job["progress"]["kept_count"]), 499);
        assert!(after.bytes_read - before.bytes_read <= 3 * SEGMENT + (2 << 20));
        self.is_restored(&folder);
    }

    fn a_missing_volume_is_waited_for_and_holds_up_nobody(&self) {
        let missing = &self.volumes[0];
        self.system.take_out(missing).unwrap();
        let folder = self.system.restored("waits").unwrap();
        let plan = self.half(&folder, &["--dry-run"]);
        let mut order = self.volumes.clone();
        order.rotate_left(1);
        assert_eq!(ids(&plan["volumes"]), order, "{plan}");
        let last = &plan["recall"][2];
        assert_eq!(last["missing"], true, "{plan}");
        assert!(last["last_location"].as_str().unwrap().contains("/slots/"));

        let arguments = [self.arguments(&folder), vec!["--dry-run".to_owned()]].concat();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let shown = self.system.taf(&arguments).unwrap().expect(0).unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap();
        for words in [
            &format!("missing: {missing};"),
            "outside; ",
            "3 mounts",
            "assumed: ",
        ] {
            assert!(shown.contains(words), "{words}: {shown}");
        }

        let said = self.half(&folder, &["--detach"]);
        let waits = said["job"].as_str().unwrap().to_owned();
        // Everything else of it is read first.
        let reason = until("what it waits for", PATIENCE, || {
            let job = self.job(&waits);
            let why = job["waiting_for"].as_str().unwrap().to_owned();
            let last = ids(&job["volumes"]).len() == 2 && why.contains(missing.as_str());
            Ok(last.then_some(why))
        })
        .unwrap();
        assert!(reason.contains("it was in element"), "{reason}");
        assert_eq!(ids(&self.job(&waits)["volumes"]), order[..2]);
        // It holds neither the drive nor what it has read.
        let other = self.system.restored("other").unwrap();
        let path = self.tree.join("folder-00009/file-0000999");
        let path = path.display().to_string();
        let to = other.display().to_string();
        self.system
            .taf(&["restore", "many", &path, "--to", &to])
            .unwrap()
            .expect(0)
            .unwrap();
        assert_eq!(self.job(&waits)["state"], "JOB_STATE_RUNNING");
        self.system.bring_in(missing).unwrap();
        let job = self.ends(&waits);
        assert_eq!(number(&job["progress"]["file_count"]), 500);
        self.is_restored(&folder);
    }

    /// With one drive, two restores of the same volumes and one of another take turns; none fails.
    fn several_restores_share_one_drive(&self) {
        let folders = ["one", "two"].map(|name| self.system.restored(name).unwrap());
        let jobs = folders.each_ref().map(|folder| {
            let said = self.half(folder, &["--detach"]);
            said["job"].as_str().unwrap().to_owned()
        });
        for (job, folder) in jobs.iter().zip(&folders) {
            let job = self.ends(job);
            let used = ids(&job["volumes"]);
            assert!(used.len() >= 3, "{used:?}");
            self.is_restored(folder);
        }
    }
}

#[test]
fn volumes_are_read_once_forwards_and_waited_for() {
    let scene = Scene::set();
    scene.five_hundred_files_take_three_mounts_and_no_step_back();
    scene.a_missing_volume_is_waited_for_and_holds_up_nobody();
    scene.several_restores_share_one_drive();
}

#[test]
fn the_end_of_a_large_part_is_reached_by_one_locate() {
    let bytes: usize = std::env::var("TAF_RECALL_PART").map_or(40_000_000, |text| {
        text.parse().expect("TAF_RECALL_PART is a number of bytes")
    });
    let system = System::start(Options {
        drives: 1,
        capacity: (bytes * 2).to_string(),
        ..Options::default()
    })
    .unwrap();
    let tree = system.data().join("tree");
    build_random(&tree, 4, bytes / 1_000_000, 1_000_000).unwrap();
    let size = (bytes * 2).to_string();
    system
        .taf(&["pool", "create", "large", "--part-size", &size])
        .unwrap()
        .expect(0)
        .unwrap();
    system.label("TAF001L8", "large").unwrap();
    system.plan("large", &tree, "large").unwrap();
    let running = system.start_taf(&["run", "large"]).unwrap();
    let patience = PATIENCE + Duration::from_secs(bytes as u64 / SLOWEST);
    running.wait(patience).unwrap().expect(0).unwrap();
    unload(&system);
    let last = format!(
        "folder-{:05}/file-{:07}",
        (bytes / 1_000_000 - 1) / 100,
        bytes / 1_000_000 - 1
    );
    let path = tree.join(&last).display().to_string();
    let before = counted(&system);
    let restored = system
        .restore("large", &[&path], "last", &tree.join(&last))
        .unwrap();
    let after = counted(&system);
    assert!(fs::read(restored).unwrap() == fs::read(tree.join(&last)).unwrap());
    println!("{before:?}\n{after:?}");
    assert_eq!(after.mounts - before.mounts, 1);
    // To the label's end at most, and to the segment.
    assert_eq!(after.locates_forward - before.locates_forward, 1);
    // The label is not data; the last piece is read to its block's end.
    let label = 1 << 20;
    assert!(after.bytes_read - before.bytes_read <= 3 * SEGMENT + label);
    // Reads all of it, and writes it.
    if bytes < 8_000_000_000 {
        damage_costs_what_it_touches(&system, &tree);
    }
}

/// Of files that can't be read all are named, by a verification and a restore alike; all others come back.
fn damage_costs_what_it_touches(system: &System, tree: &Path) {
    let volume = system.json(&["volume", "show", "TAF001L8"]).unwrap();
    let files = objects(&volume, "number").into_iter();
    let mut parts = files.filter(|file| file["kind"] == "part");
    let part = parts.next_back().unwrap();
    let fault = Fault {
        barcode: Some("TAF001L8".into()),
        object: Some(number(&part["first_block"]) + 20),
        objects: 3,
        times: 0,
        ..Fault::sense(At::Read, Key::MediumError, (0x11, 0x00))
    };
    system.order(&Order::FaultAdd { fault }).unwrap();
    let plan = ["restore", "large", "--verify-only", "--dry-run"];
    let plan = system.json(&plan).unwrap();
    let folder = system.restored("damaged").unwrap();
    let (to, strip) = (folder.display().to_string(), tree.display().to_string());
    let said = |words: &[&str]| {
        let words = [&["restore", "large", "--json"], words].concat();
        let job = system
            .taf(&words)
            .unwrap()
            .expect(3)
            .unwrap()
            .json()
            .unwrap();
        let progress = &job["progress"];
        let damaged = &progress["issue_counts"][0];
        assert_eq!(damaged["reason"], "DAMAGED", "{job}");
        assert_eq!(number(&damaged["count"]), number(&progress["issue_count"]));
        let done = ["file_count", "directory_count", "issue_count"].map(|of| number(&progress[of]));
        (done, job)
    };
    let ([files, directories, verified], _) = said(&["--verify-only"]);
    assert!(verified > 0 && verified < files, "{verified} of {files}");
    assert_eq!(files + directories + verified, number(&plan["entry_count"]));
    let ([restored, _, missed], job) = said(&["--to", &to, "--strip-prefix", &strip]);
    assert_eq!((restored, missed), (files, verified));
    let id = job["name"].as_str().unwrap().replace("jobs/", "");
    let issues = system.json(&["job", "issues", &id]).unwrap();
    let lost: BTreeSet<PathBuf> = objects(&issues, "reason")
        .iter()
        .map(|issue| issue["path"]["display"].as_str().unwrap().into())
        .collect();
    assert_eq!(lost.len() as u64, missed);
    for file in fs::read_dir(tree.join("folder-00000")).unwrap() {
        let file = file.unwrap().path();
        let copy = folder.join(file.strip_prefix(tree).unwrap());
        if lost.contains(&copy) {
            assert!(!copy.exists(), "{}", copy.display());
        } else {
            assert!(fs::read(&copy).unwrap() == fs::read(&file).unwrap());
        }
    }
    system.order(&Order::FaultClear).unwrap();
}
