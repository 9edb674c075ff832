//! A synthetic full that loses its spool's disk, the worker of either drive, or the controller in the middle: nothing wrong is published,
//! nothing is held, what is said says what to do, and the next one succeeds.
//!
//! The long form, `TAF_TEST_LONG=1`, has a system for each loss, and a next one after each, not only after the last.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use taf_emulator::control::Order;
use taf_emulator::faults::{At, Do, Fault};
use taf_tests::patience::until;
use taf_tests::said::{Running, Said, objects, values};
use taf_tests::system::{Options, Process, System};
use taf_tests::trees::ensure_equal;

const OLD: &str = "TAF001L8";
const NEW: &str = "TAF002L8";
const PATIENCE: Duration = Duration::from_mins(2);
/// Bytes of a file; of the first version's 40 some 12 are in another archive, so 1.8 MB wait on disk.
const FILE: usize = 150_000;
const CHANGED: u64 = 12;

struct Scene {
    system: System,
    tree: PathBuf,
    /// Versions that there are.
    versions: usize,
}

fn noise(seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; FILE];
    StdRng::seed_from_u64(seed).fill(&mut bytes[..]);
    bytes
}

impl Scene {
    fn set() -> Self {
        let system = System::start(Options {
            lease: "5s".into(),
            ..Options::default()
        })
        .unwrap();
        system.label(OLD, "default").unwrap();
        let tree = system.data().join("tree");
        fs::create_dir(&tree).unwrap();
        for file in 0..40 {
            fs::write(tree.join(format!("file-{file:02}")), noise(file)).unwrap();
        }
        system.plan("tree", &tree, "default").unwrap();
        system.taf(&["run", "tree"]).unwrap().expect(0).unwrap();
        let mut scene = Self {
            system,
            tree,
            versions: 1,
        };
        scene.changes(100);
        scene.system.label(NEW, "default").unwrap();
        scene
    }

    /// An incremental with some new contents.
    fn changes(&mut self, seed: u64) {
        for file in 0..CHANGED {
            let path = self.tree.join(format!("file-{file:02}"));
            fs::write(path, noise(seed + file)).unwrap();
        }
        let said = self.system.taf(&["run", "tree", "--type", "incremental"]);
        said.unwrap().expect(0).unwrap();
        self.versions += 1;
    }

    fn start(&self) -> Running {
        let run = ["run", "tree", "--type", "synthetic-full"];
        self.system.start_taf(&run).unwrap()
    }

    fn strikes(&self, fault: Fault) {
        self.system.order(&Order::FaultAdd { fault }).unwrap();
    }

    /// Takes faults back, and lets go on what hangs.
    fn calms(&self) {
        self.system.order(&Order::FaultClear).unwrap();
        self.system.order(&Order::Release { unit: None }).unwrap();
    }

    /// Waits until the drive of a cartridge is in this phase, and gives its number.
    fn drive_in(&self, phase: &str, barcode: &str) -> usize {
        until("a drive at work", PATIENCE, || {
            let drives = self.system.json(&["drive", "list"])?;
            let found = objects(&drives, "phase")
                .into_iter()
                .find(|drive| drive["phase"] == phase && drive["barcode"] == barcode);
            let name = found.and_then(|drive| drive["name"].as_str());
            Ok(name.map(|name| name.as_bytes()[name.len() - 1] as usize - usize::from(b'0')))
        })
        .unwrap()
    }

    /// It failed, says what to do, and left nothing behind.
    fn left_nothing(&mut self, said: Said) {
        println!("{said}");
        let said = said.expect(1).unwrap();
        assert!(said.stderr.contains("next: "), "{said}");
        self.system.until_ready().unwrap();
        self.holds_nothing();
        assert_eq!(self.system.versions("tree").unwrap().len(), self.versions);
    }

    /// No job, no drive that works for one, no spool.
    fn holds_nothing(&self) {
        until("an end of all work", PATIENCE, || {
            let jobs = self.system.json(&["job", "list"])?;
            let ended = ["SUCCEEDED", "FAILED", "CANCELLED", "COMPLETED"];
            let open = values(&jobs, "state").into_iter().any(|state| {
                let state = state.to_string();
                !ended.iter().any(|word| state.contains(word))
            });
            Ok((!open).then_some(()))
        })
        .unwrap();
        let agent = self.system.pid(Process::SourceAgent).unwrap();
        until("an end of the spool", PATIENCE, || {
            let spool = self.system.home().join("source-agent/#");
            let files = fs::read_dir(format!("/proc/{agent}/fd"))?;
            let mut files = files.flatten().map(|file| fs::read_link(file.path()));
            let is_spool = |file: PathBuf| {
                file.as_os_str()
                    .as_bytes()
                    .starts_with(spool.as_os_str().as_bytes())
            };
            Ok((!files.any(|file| file.is_ok_and(is_spool))).then_some(()))
        })
        .unwrap();
    }

    fn succeeds(&mut self) {
        let said = self.start().wait(PATIENCE).unwrap();
        said.expect(0).unwrap();
        self.versions += 1;
        self.is_there();
    }

    /// The newest version is a full one and has all.
    fn is_there(&self) {
        let list = self.system.json(&["versions", "--plan", "tree"]).unwrap();
        let versions = objects(&list, "number");
        assert_eq!(versions.len(), self.versions);
        assert_eq!(versions[0]["type"], "VERSION_TYPE_SYNTHETIC_FULL");
        let into = format!("version-{}", self.versions);
        let restored = self.system.restore("tree", &[], &into, &self.tree).unwrap();
        ensure_equal(&self.tree, &restored).unwrap();
    }

    /// In the middle of what waits on disk there is no room any more.
    fn loses_its_disk(&mut self) {
        self.system.end_process(Process::SourceAgent).unwrap();
        self.system.limit_source_agent(Some(1_000_000));
        self.system.begin(Process::SourceAgent).unwrap();
        self.system.until_ready().unwrap();
        let said = self.start().wait(PATIENCE).unwrap();
        assert!(said.stderr.contains("SPOOL_FAILED"), "{said}");
        assert!(said.stderr.contains("make room on the disk"), "{said}");
        self.system.end_process(Process::SourceAgent).unwrap();
        self.system.limit_source_agent(None);
        self.system.begin(Process::SourceAgent).unwrap();
        self.left_nothing(said);
    }

    fn loses_a_worker(&mut self, at: At, phase: &str, barcode: &str) {
        self.strikes(Fault {
            barcode: Some(barcode.into()),
            // Not the first ones, by which the volume is proved.
            object: (at == At::Read).then_some(8),
            ..Fault::doing(at, Do::Hang)
        });
        let running = self.start();
        let drive = self.drive_in(phase, barcode);
        self.system.kill_worker(drive).unwrap();
        self.calms();
        let said = running.wait(PATIENCE).unwrap();
        self.left_nothing(said);
    }

    /// The controller goes and comes back. Who copies does not mind, unless it stays away for longer than a lease.
    fn loses_its_controller(&mut self) {
        self.strikes(Fault {
            barcode: Some(NEW.into()),
            ..Fault::doing(At::Write, Do::Hang)
        });
        let running = self.start();
        self.drive_in("writing", NEW);
        self.system.kill(Process::Controller).unwrap();
        self.system.restart(Process::Controller).unwrap();
        self.calms();
        let said = running.wait(PATIENCE).unwrap();
        println!("{said}");
        self.system.until_ready().unwrap();
        self.holds_nothing();
        if self.system.versions("tree").unwrap().len() == self.versions {
            self.succeeds();
        } else {
            self.versions += 1;
            self.is_there();
        }
    }
}

#[test]
fn whatever_a_synthetic_full_loses_it_leaves_nothing_and_the_next_one_succeeds() {
    let losses: [fn(&mut Scene); 4] = [
        Scene::loses_its_disk,
        |scene| scene.loses_a_worker(At::Read, "reading", OLD),
        |scene| scene.loses_a_worker(At::Write, "writing", NEW),
        // It succeeds itself, or the next one does.
        Scene::loses_its_controller,
    ];
    if std::env::var_os("TAF_TEST_LONG").is_none() {
        let mut scene = Scene::set();
        return losses.iter().for_each(|loses| loses(&mut scene));
    }
    for (nth, loses) in losses.iter().enumerate() {
        let mut scene = Scene::set();
        loses(&mut scene);
        if nth < losses.len() - 1 {
            scene.succeeds();
        }
    }
}
