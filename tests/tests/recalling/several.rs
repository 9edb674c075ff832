//! The same with two drives: side by side, each volume once all the same, whatever becomes of a drive or a volume meanwhile.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;
use taf_emulator::control::Order;
use taf_emulator::drive::Status;
use taf_emulator::faults::{At, Do, Fault};
use taf_tests::patience::until;
use taf_tests::said::{Running, number, objects};
use taf_tests::system::{Options, System, below};
use taf_tests::trees::build_random;

use super::{PATIENCE, ids, reported};

struct Scene {
    system: System,
    tree: PathBuf,
    /// Of half of the files, so that none of them goes from each volume to the next.
    pattern: String,
    /// The volumes of the version, in order.
    volumes: Vec<String>,
    /// Those that one stream reads, in their order.
    turns: Vec<Vec<String>>,
}

impl Scene {
    /// A thousand files on three volumes.
    fn set() -> Self {
        let emulator = ["--buffer", "2MiB", "--early-warning", "500000"];
        let emulator = [&emulator[..], &["--mail-slots", "1"]].concat();
        let system = System::start(Options {
            drives: 2,
            cartridges: 4,
            capacity: "8400000".into(),
            emulator: emulator.iter().map(|word| (*word).to_owned()).collect(),
            ..Options::default()
        })
        .unwrap();
        let tree = system.data().join("tree");
        build_random(&tree, 3, 1_000, 20_000).unwrap();
        fs::hard_link(
            tree.join("folder-00000/file-0000000"),
            tree.join("folder-00009/file-0000990-again-0"),
        )
        .unwrap();
        for cartridge in 1..=4 {
            let name = format!("TAF{cartridge:03}L8");
            system.label(&name, "default").unwrap();
        }
        system.plan("many", &tree, "default").unwrap();
        system.taf(&["run", "many"]).unwrap().expect(0).unwrap();
        let versions = system.json(&["versions", "--plan", "many"]).unwrap();
        let volumes = ids(&versions["versions"][0]["volumes"]);
        assert_eq!(volumes.len(), 3, "{volumes:?}");
        // Indexes are written as soon as somebody wants the drive.
        until("the drives' rest", PATIENCE, || {
            let jobs = system.json(&["job", "list", "--active"])?;
            Ok(jobs["jobs"]
                .as_array()
                .is_none_or(Vec::is_empty)
                .then_some(()))
        })
        .unwrap();
        Self {
            pattern: tree.join("**/file-*[02468]").display().to_string(),
            system,
            tree,
            volumes,
            turns: Vec::new(),
        }
    }

    fn restoring(&self, into: &Path) -> Running {
        let to = into.display().to_string();
        let words = ["restore", "many", &self.pattern, "--to", &to, "--json"];
        self.system.start_taf(&words).unwrap()
    }

    fn running(&self) -> Value {
        let jobs = self.system.json(&["job", "list"]).unwrap();
        let restore = |job: &Value| job["kind"] == "JOB_KIND_RESTORE";
        let jobs = jobs["jobs"].as_array().unwrap();
        jobs.iter().find(|job| restore(job)).unwrap().clone()
    }

    /// A command to read the label of a volume hangs: its drive is not ready for anybody.
    fn hang_at_label(&self, volume: &str) {
        let fault = Fault {
            barcode: Some(volume.into()),
            object: Some(0),
            ..Fault::doing(At::Read, Do::Hang)
        };
        self.system.order(&Order::FaultAdd { fault }).unwrap();
    }

    /// A command to read data of a volume hangs, in the middle of its first part that is restored from.
    fn hang(&self, volume: &str) {
        let shown = self.system.json(&["volume", "show", volume]).unwrap();
        let files = objects(&shown, "number");
        let part = files.iter().find(|file| file["kind"] == "part").unwrap();
        let fault = Fault {
            barcode: Some(volume.into()),
            object: Some(number(&part["first_block"]) + 9),
            ..Fault::doing(At::Read, Do::Hang)
        };
        self.system.order(&Order::FaultAdd { fault }).unwrap();
    }

    /// The drive whose command hangs.
    fn hanging(&self, volume: &str) -> Status {
        until("a command that hangs", PATIENCE, || {
            let drives = reported(&self.system).into_iter();
            let of = |d: &Status| d.hangs && d.barcode.as_deref() == Some(volume);
            Ok(drives.into_iter().find(of))
        })
        .unwrap()
    }

    fn release(&self) {
        self.system.order(&Order::Release { unit: None }).unwrap();
    }

    /// All is there, byte for byte, and the job says so in numbers.
    fn is_restored(&self, folder: &Path, running: Running) -> Value {
        let job = running.wait(PATIENCE).unwrap().expect(0).unwrap();
        let job = job.json().unwrap();
        let restored = below(folder, &self.tree);
        let mut found = 0;
        for below in fs::read_dir(&restored).unwrap() {
            for file in fs::read_dir(below.unwrap().path()).unwrap() {
                let path = file.unwrap().path();
                let origin = self.tree.join(path.strip_prefix(&restored).unwrap());
                assert!(fs::read(&path).unwrap() == fs::read(&origin).unwrap());
                found += 1;
            }
        }
        assert_eq!(found, 501);
        let inode = |name: &str| fs::metadata(restored.join(name)).unwrap().ino();
        let linked = inode("folder-00000/file-0000000");
        assert_eq!(linked, inode("folder-00009/file-0000990-again-0"));
        // Directories have their times, whoever wrote into them last.
        for folder in ["folder-00000", "folder-00005", "folder-00009"] {
            let time = |top: &Path| fs::metadata(top.join(folder)).unwrap().mtime();
            assert_eq!(time(&restored), time(&self.tree), "{folder}");
        }
        let progress = &job["progress"];
        assert_eq!(number(&progress["file_count"]), 501, "{job}");
        assert_eq!(number(&progress["issue_count"]), 0, "{job}");
        job
    }

    /// The volumes of a job's streams, each with how often it was used.
    fn used(job: &Value) -> Vec<String> {
        let streams = job["streams"].as_array().unwrap().iter();
        let mut used: Vec<String> = streams.flat_map(|stream| ids(&stream["volumes"])).collect();
        used.sort();
        used
    }

    fn two_drives_read_at_the_same_time_and_each_volume_is_mounted_once(&mut self) {
        for drive in reported(&self.system) {
            let _ = self.system.taf(&["drive", "unload", &drive.serial]);
        }
        let words = [
            "restore",
            "many",
            &self.pattern,
            "--verify-only",
            "--dry-run",
        ];
        let plan = self.system.json(&words).unwrap();
        assert_eq!(plan["drive_count"], 2, "{plan}");
        let basis = plan["estimate_basis"].as_str().unwrap();
        assert!(basis.starts_with("2 drives "), "{plan}");
        let alone = self.system.json(&[&words[..], &["--drives", "1"]].concat());
        let alone = alone.unwrap();
        assert_eq!(alone["drive_count"], 1, "{alone}");
        assert_ne!(alone["estimated_duration"], plan["estimated_duration"]);

        let folder = self.system.restored("both").unwrap();
        let before = reported(&self.system);
        // Reading the first volume hangs for as long as all the others are read: so that was at the same time.
        self.hang(&self.volumes[0]);
        let running = self.restoring(&folder);
        let slow = self.hanging(&self.volumes[0]);
        let job = until("the end of the other streams", PATIENCE, || {
            let job = self.running();
            let streams = job["streams"].as_array().map_or(&[][..], Vec::as_slice);
            let further = streams.iter().skip(1);
            let files: u64 = further.map(|s| number(&s["progress"]["file_count"])).sum();
            let used: BTreeSet<String> = streams.iter().flat_map(|s| ids(&s["volumes"])).collect();
            Ok((used.len() >= 2 && files >= 100).then_some(job))
        })
        .unwrap();
        assert_eq!(job["state"], "JOB_STATE_RUNNING");
        assert!(self.hanging(&self.volumes[0]).number == slow.number);
        self.release();
        let job = self.is_restored(&folder, running);
        let after = reported(&self.system);
        let mut sorted = self.volumes.clone();
        sorted.sort();
        assert_eq!(Self::used(&job), sorted, "{job}");
        let sum = |of: &dyn Fn(&Status) -> u64| -> u64 {
            let sum = |drives: &[Status]| drives.iter().map(of).sum::<u64>();
            sum(&after) - sum(&before)
        };
        assert_eq!(sum(&|d| d.counters.mounts), 3, "{after:?}");
        let back = sum(&|d| d.counters.locates_backward);
        assert_eq!(back, sum(&|d| d.counters.rewinds), "{after:?}");
        for (before, after) in before.iter().zip(&after) {
            assert!(after.counters.bytes_read > before.counters.bytes_read);
        }
        // What each stream read, for the rest of the test.
        let streams = job["streams"].as_array().unwrap().iter();
        self.turns = streams.map(|stream| ids(&stream["volumes"])).collect();
        let shown = ["job", "show", job["name"].as_str().unwrap()];
        let shown = self.system.taf(&shown).unwrap().expect(0).unwrap().text();
        assert!(shown.contains("\nstream "), "{shown}");
    }

    /// A stream that loses its drive has restored some files, or nothing as it never had its volume. Another one restores what is left,
    /// and no file twice.
    fn what_a_worker_that_is_killed_has_not_restored_another_stream_does(&self, early: bool) {
        let name = if early { "killed-early" } else { "killed" };
        let folder = self.system.restored(name).unwrap();
        // Whichever stream comes to it: the first one must not be the one that is killed.
        let further = self.turns.iter().skip(1).flatten().next().unwrap();
        for volume in [&self.volumes[0], further] {
            if early {
                self.hang_at_label(volume);
            } else {
                self.hang(volume);
            }
        }
        let running = self.restoring(&folder);
        let slow = self.hanging(&self.volumes[0]);
        let lost = self.hanging(further);
        assert_ne!(slow.number, lost.number);
        let first = until("the streams", PATIENCE, || {
            let streams = self.running()["streams"].clone();
            let both = streams.as_array().is_some_and(|streams| streams.len() > 1);
            Ok(both.then(|| ids(&streams[0]["volumes"])))
        })
        .unwrap();
        let killed = if first.contains(further) {
            &slow
        } else {
            &lost
        };
        self.system.kill_worker(killed.number.into()).unwrap();
        until("a dropped stream", PATIENCE, || {
            let job = self.running();
            let streams = job["streams"].as_array().unwrap().iter();
            let mut dropped = streams.filter(|stream| stream["dropped"] == true);
            Ok(dropped.next().map(|_| ()))
        })
        .unwrap();
        self.release();
        let job = self.is_restored(&folder, running);
        let dropped = job["streams"].as_array().unwrap().iter();
        let dropped = dropped.filter(|stream| stream["dropped"] == true);
        assert_eq!(dropped.count(), 1, "{job}");
        self.system.order(&Order::FaultClear).unwrap();
    }

    fn the_others_are_restored_while_a_volume_is_missing(&self) {
        let missing = self.turns.last().unwrap().last().unwrap();
        self.system.take_out(missing).unwrap();
        let folder = self.system.restored("missing").unwrap();
        let running = self.restoring(&folder);
        until("all that is there", PATIENCE, || {
            let job = self.running();
            let why = job["waiting_for"].as_str().unwrap_or_default();
            let used = ids(&job["volumes"]).len();
            Ok((used == 2 && why.contains(missing.as_str())).then_some(()))
        })
        .unwrap();
        // Nobody waits with it, neither for a drive nor for a volume.
        let small = self.system.data().join("small");
        build_random(&small, 5, 3, 100).unwrap();
        self.system.plan("small", &small, "default").unwrap();
        let backup = self.system.taf(&["run", "small"]).unwrap();
        backup.expect(0).unwrap();
        assert_eq!(self.running()["state"], "JOB_STATE_RUNNING");
        self.system.bring_in(missing).unwrap();
        self.is_restored(&folder, running);
    }
}

#[test]
fn two_drives_share_the_volumes_of_one_restore() {
    let mut scene = Scene::set();
    scene.two_drives_read_at_the_same_time_and_each_volume_is_mounted_once();
    for early in [false, true] {
        scene.what_a_worker_that_is_killed_has_not_restored_another_stream_does(early);
    }
    scene.the_others_are_restored_while_a_volume_is_missing();
}
