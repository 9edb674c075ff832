//! Synthetic fulls on a whole system: the newest version is copied from tape to tape while the source is not there, comes back as it
//! was, is built on like a full, and lets the older volumes go; what can't be read is named, and nothing is published, nor if somebody
//! is killed.
//!
//! `TAF_SYNTHETIC_SEEDS` random courses are played, one if it is not set. `TAF_TEST_LONG=1` adds a version of two streams over several
//! volumes.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../../source-agent/tests/catalog/edit.rs"]
mod edit;

use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use edit::Editor;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::Value;
use taf_emulator::control::Order;
use taf_emulator::faults::{At, Do, Fault};
use taf_scsi::sense::Key;
use taf_tests::patience::until;
use taf_tests::said::{number, objects, values};
use taf_tests::system::{Options, Process, System, below};
use taf_tests::trees::{self, ensure_equal};

const OLD: &str = "TAF001L8";
const NEW: &str = "TAF002L8";

fn system() -> System {
    let system = System::start(Options {
        controller: "reuse_after = \"0s\"\n".into(),
        ..Options::default()
    })
    .unwrap();
    system.label(OLD, "default").unwrap();
    system
}

fn run(system: &System, plan: &str, kind: &str) -> String {
    let said = system.taf(&["run", plan, "--type", kind]).unwrap();
    said.expect(0).unwrap().stderr
}

fn refused(system: &System, plan: &str, word: &str) {
    let said = system.taf(&["run", plan, "--type", "synthetic-full"]);
    let said = said.unwrap().expect(1).unwrap();
    assert!(said.stderr.contains(word), "{word}: {said}");
}

/// The newest version of a plan.
fn newest(system: &System, plan: &str) -> Value {
    let list = system.json(&["versions", "--plan", plan]).unwrap();
    objects(&list, "number")[0].clone()
}

/// Bytes that no compressor shrinks.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; length];
    StdRng::seed_from_u64(seed).fill(&mut bytes[..]);
    bytes
}

/// What random edits seldom make: a sparse file that changes, names of one file of which the first one goes.
struct Odd {
    top: PathBuf,
}

impl Odd {
    fn make(tree: &Path) -> Self {
        let top = tree.join("odd");
        fs::create_dir_all(top.join("below")).unwrap();
        let odd = Self { top };
        fs::write(odd.top.join("aa-first"), noise(200_000, 3)).unwrap();
        for name in ["below/name", "zz-last"] {
            fs::hard_link(odd.top.join("aa-first"), odd.top.join(name)).unwrap();
        }
        fs::write(odd.top.join("rest"), noise(400_000, 5)).unwrap();
        odd.write_at(5 << 20, b"island");
        odd
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) {
        let file = fs::File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.top.join("sparse"));
        file.unwrap().write_all_at(bytes, offset).unwrap();
    }

    /// The name that carries the bytes goes; one that comes before all others is new.
    fn change(&self) {
        fs::remove_file(self.top.join("aa-first")).unwrap();
        fs::hard_link(self.top.join("zz-last"), self.top.join("below/a-new")).unwrap();
        self.write_at(9 << 20, b"another");
        fs::write(self.top.join("changed"), noise(50_000, 7)).unwrap();
    }

    fn are_one_file(top: &Path) {
        let inode = |name: &str| fs::metadata(top.join("odd").join(name)).unwrap().ino();
        assert_eq!(inode("below/a-new"), inode("zz-last"));
        assert_eq!(inode("below/name"), inode("zz-last"));
    }
}

/// Full, incrementals and a differential, edits before each; a copy of what was there last.
fn course(system: &System, plan: &str, seed: u64) -> (PathBuf, PathBuf) {
    println!("seed {seed}");
    let tree = system.data().join(plan);
    let copy = system.home().join(format!("{plan}-copy"));
    let edited = tree.join("edited");
    fs::create_dir_all(&edited).unwrap();
    system.plan(plan, &tree, "default").unwrap();
    let mut editor = Editor::new(&edited, seed);
    editor.edit(60);
    let odd = Odd::make(&tree);
    run(system, plan, "full");
    refused(system, plan, "SYNTHETIC_FULL_NEEDLESS");
    for kind in ["incremental", "differential", "incremental"] {
        editor.edit(1 + seed as usize % 3 + 6);
        if kind == "differential" {
            odd.change();
        }
        run(system, plan, kind);
    }
    trees::copy(&tree, &copy).unwrap();
    (tree, copy)
}

#[test]
fn the_newest_version_is_copied_without_its_source_and_built_on() {
    let system = system();
    let seeds: u64 = std::env::var("TAF_SYNTHETIC_SEEDS")
        .ok()
        .map_or(1, |seeds| seeds.parse().unwrap());
    for seed in 1..=seeds {
        let plan = format!("course-{seed}");
        let (tree, copy) = course(&system, &plan, seed);
        let foreseen = system.json(&["run", &plan, "--type", "synthetic-full", "--dry-run"]);
        let foreseen = foreseen.unwrap();
        assert!(foreseen["volumes"].to_string().contains(OLD), "{foreseen}");
        assert!(number(&foreseen["spool_byte_count"]) > 0, "{foreseen}");
        if seed == 1 {
            system.label(NEW, "default").unwrap();
        }
        let aside = system.home().join("aside");
        fs::rename(&tree, &aside).unwrap();
        run(&system, &plan, "synthetic-full");
        let version = newest(&system, &plan);
        assert_eq!(version["type"], "VERSION_TYPE_SYNTHETIC_FULL", "{version}");
        assert_eq!(
            (&version["number"], &version["full_number"]),
            (&"5".into(), &"5".into())
        );
        let used = version["volumes"].to_string();
        assert!(used.contains(NEW) && !used.contains(OLD), "{used}");

        let restored = system
            .restore(&plan, &[], &format!("{plan}-tape"), &tree)
            .unwrap();
        ensure_equal(&copy, &restored).unwrap();
        if seed == 1 {
            Odd::are_one_file(&restored);
            by_standard_tools(&system, &tree, &copy);
            lets_go(&system, &plan);
        }
        refused(&system, &plan, "SYNTHETIC_FULL_NEEDLESS");
        // The next run finds everything where it was.
        fs::rename(&aside, &tree).unwrap();
        run(&system, &plan, "incremental");
        let next = newest(&system, &plan);
        assert_eq!(
            (&next["number"], &next["full_number"]),
            (&"6".into(), &"5".into())
        );
        let stored = next.get("stored_byte_count").map_or(0, number);
        // The first block of its part alone takes 512 KiB.
        assert!(
            stored < (512 << 10) + 50_000,
            "unchanged bytes were sent: {next}"
        );
        let restored = system
            .restore(&plan, &[], &format!("{plan}-next"), &tree)
            .unwrap();
        ensure_equal(&copy, &restored).unwrap();
    }
}

/// The new archive by `zstd` and `tar` alone.
fn by_standard_tools(system: &System, tree: &Path, copy: &Path) {
    let volume = system.json(&["volume", "show", NEW]).unwrap();
    let files = objects(&volume, "number").into_iter();
    let parts = files.filter(|file| file["kind"] == "part");
    let part = parts.map(|file| number(&file["number"])).max();
    let cartridge = system.cartridge(NEW).display().to_string();
    let folder = system.restored("standard").unwrap();
    let line = format!(
        "taf tape cat '{cartridge}' {} | zstd -dc | tar -xpf - --numeric-owner --xattrs --xattrs-include='*'",
        part.unwrap()
    );
    system.shell(&folder, &line).unwrap().expect(0).unwrap();
    ensure_equal(copy, &below(&folder, tree)).unwrap();
}

/// Without the older versions nothing on their volume is needed.
fn lets_go(system: &System, plan: &str) {
    for older in 1..=4 {
        let version = format!("{plan}@{older}");
        let said = system.taf(&["version", "expire", &version]).unwrap();
        said.expect(0).unwrap();
    }
    until("the old volume to be free", Duration::from_mins(1), || {
        let volume = system.json(&["volume", "show", OLD])?["volume"].clone();
        let why = volume["reuse_reason"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        Ok(why.starts_with("reusable since").then_some(()))
    })
    .unwrap();
}

/// The jobs of a kind, newest first.
fn jobs(system: &System, kind: &str) -> Vec<Value> {
    let list = system.json(&["job", "list"]).unwrap();
    let jobs = values(&list, "jobs")[0].as_array().unwrap().clone();
    jobs.into_iter().filter(|job| job["kind"] == kind).collect()
}

#[test]
fn what_cant_be_read_is_named_and_who_is_killed_leaves_nothing() {
    let mut system = system();
    let tree = system.data().join("tree");
    fs::create_dir(&tree).unwrap();
    for file in 0..40 {
        fs::write(tree.join(format!("file-{file:02}")), noise(150_000, file)).unwrap();
    }
    system.plan("tree", &tree, "default").unwrap();
    run(&system, "tree", "full");
    fs::write(tree.join("new"), noise(1000, 77)).unwrap();
    run(&system, "tree", "incremental");
    system.label(NEW, "default").unwrap();

    let volume = system.json(&["volume", "show", OLD]).unwrap();
    let part = objects(&volume, "number")
        .into_iter()
        .find(|file| file["kind"] == "part")
        .unwrap();
    let fault = Fault {
        barcode: Some(OLD.into()),
        object: Some(number(&part["first_block"]) + 5),
        objects: 1,
        times: 0,
        ..Fault::sense(At::Read, Key::MediumError, (0x11, 0x00))
    };
    system.order(&Order::FaultAdd { fault }).unwrap();
    let said = system.taf(&["run", "tree", "--type", "synthetic-full"]);
    let said = said.unwrap().expect(1).unwrap();
    assert!(said.stderr.contains("DAMAGED"), "{said}");
    let failed = &jobs(&system, "JOB_KIND_BACKUP")[0];
    assert_eq!(failed["state"], "JOB_STATE_FAILED", "{failed}");
    let issues = system.json(&["job", "issues", failed["name"].as_str().unwrap()]);
    let issues = issues.unwrap();
    let named = objects(&issues, "reason").len();
    // A segment of 4 MiB is lost: all that it touches are named, and no others.
    assert!((20..=34).contains(&named), "{named} are named: {issues}");
    assert_eq!(system.versions("tree").unwrap().len(), 2);

    system.order(&Order::FaultClear).unwrap();
    is_refused(&system);
    is_killed(&mut system);

    // Once it can be read it is made, anew, by whatever method the plan has now; and the older versions are as they were.
    let method = ["plan", "update", "tree", "--compression", "gzip"];
    system.taf(&method).unwrap().expect(0).unwrap();
    run(&system, "tree", "synthetic-full");
    for (version, into) in [("tree@2", "older"), ("tree@3", "newer")] {
        let restored = system.restore(version, &[], into, &tree).unwrap();
        ensure_equal(&tree, &restored).unwrap();
    }
    let feeds = jobs(&system, "JOB_KIND_FEED");
    let states: Vec<&Value> = feeds.iter().map(|job| &job["state"]).collect();
    assert_eq!(states[0], "JOB_STATE_SUCCEEDED", "{feeds:?}");
}

/// It takes two drives, and is no type for every run.
fn is_refused(system: &System) {
    let drives = system.json(&["drive", "list"]).unwrap();
    let drive = objects(&drives, "state")[0]["name"].as_str().unwrap();
    let drive = drive.rsplit('/').next().unwrap();
    let order = |words: &[&str]| system.taf(words).unwrap().expect(0).unwrap();
    order(&["drive", "down", drive, "--because", "a test"]);
    refused(system, "tree", "TWO_DRIVES_NEEDED");
    order(&["drive", "up", drive]);
    let said = system.taf(&["plan", "update", "tree", "--type", "synthetic-full"]);
    let said = said.unwrap().expect(1).unwrap();
    assert!(said.stderr.contains("never sees a change"), "{said}");
}

/// The source agent dies while it copies.
fn is_killed(system: &mut System) {
    let fault = Fault {
        barcode: Some(NEW.into()),
        ..Fault::doing(At::Write, Do::Hang)
    };
    system.order(&Order::FaultAdd { fault }).unwrap();
    let running = system.start_taf(&["run", "tree", "--type", "synthetic-full"]);
    until("a drive that writes", Duration::from_mins(1), || {
        let drives = system.json(&["drive", "list"])?;
        let mut drives = objects(&drives, "phase").into_iter();
        Ok(drives
            .any(|drive| drive["phase"] == "writing")
            .then_some(()))
    })
    .unwrap();
    system.kill(Process::SourceAgent).unwrap();
    system.order(&Order::FaultClear).unwrap();
    system.order(&Order::Release { unit: None }).unwrap();
    system.begin(Process::SourceAgent).unwrap();
    let said = running.unwrap().wait(Duration::from_mins(1)).unwrap();
    let said = said.expect(1).unwrap();
    assert!(said.stderr.contains("SOURCE_LOST"), "{said}");
    system.until_ready().unwrap();
    assert_eq!(system.versions("tree").unwrap().len(), 2);
}

/// A full of two streams, each over several volumes, with names of one file in both; then changes. Whatever is streamed is read in the
/// order of its bytes, and one archive comes of it.
#[test]
fn archives_over_several_volumes_and_streams_become_one() {
    if std::env::var_os("TAF_TEST_LONG").is_none() {
        return;
    }
    let emulator = [
        "--rate",
        "8MB",
        "--buffer",
        "2MiB",
        "--early-warning",
        "700000",
    ];
    let system = System::start(Options {
        cartridges: 12,
        capacity: "14000000".into(),
        emulator: emulator.map(str::to_owned).to_vec(),
        tape_agent: "ring = \"32MiB\"\n".into(),
        ..Options::default()
    })
    .unwrap();
    let taf = |arguments: &[&str]| system.taf(arguments).unwrap().expect(0).unwrap();
    let pool = [
        "pool",
        "create",
        "small",
        "--block-size",
        "64KiB",
        "--part-size",
        "16MiB",
    ];
    taf(&pool);
    for number in 1..=12 {
        system.label(&format!("TAF{number:03}L8"), "small").unwrap();
    }
    let tree = system.data().join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("linked"), noise(300_000, 1)).unwrap();
    for folder in 0..60 {
        let below = tree.join(format!("folder-{folder:02}/below"));
        fs::create_dir_all(&below).unwrap();
        for file in 0..4 {
            let content = noise(200_000, 1_000 + folder * 10 + file);
            fs::write(below.join(format!("file-{file}")), content).unwrap();
        }
        fs::hard_link(tree.join("linked"), below.join("again")).unwrap();
    }
    system.plan("tree", &tree, "small").unwrap();
    taf(&["plan", "update", "tree", "--streams", "2"]);
    run(&system, "tree", "full");
    let full = newest(&system, "tree");
    assert!(full["volumes"].as_array().unwrap().len() >= 4, "{full}");
    fs::remove_file(tree.join("linked")).unwrap();
    for folder in [3, 30, 59] {
        let file = tree.join(format!("folder-{folder:02}/below/file-1"));
        fs::write(file, noise(500_000, folder)).unwrap();
    }
    run(&system, "tree", "incremental");
    let aside = system.home().join("aside");
    fs::rename(&tree, &aside).unwrap();
    run(&system, "tree", "synthetic-full");
    let version = newest(&system, "tree");
    let used = version["volumes"].as_array().unwrap().clone();
    let before = full["volumes"].as_array().unwrap();
    assert!(
        used.len() >= 4 && !used.iter().any(|volume| before.contains(volume)),
        "{used:?}"
    );
    let restored = system.restore("tree", &[], "restored", &tree).unwrap();
    ensure_equal(&aside, &restored).unwrap();
}
