//! Versions that build on others, on a whole system: every instant comes back as it was, an unchanged tree costs nothing, and
//! what a source drops is gone from its next version only.
//!
//! `TAF_VERSION_SEEDS` random courses are played, two if it is not set.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../../source-agent/tests/catalog/edit.rs"]
mod edit;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use edit::Editor;
use taf_tests::said::{number, objects};
use taf_tests::system::{Options, System};
use taf_tests::trees::ensure_equal;

const CARTRIDGE: &str = "TAF001L8";

fn system() -> System {
    let system = System::start(Options {
        drives: 1,
        ..Options::default()
    })
    .unwrap();
    system.label(CARTRIDGE, "default").unwrap();
    system
}

fn run(system: &System, plan: &str, kind: &str) {
    system
        .taf(&["run", plan, "--type", kind])
        .unwrap()
        .expect(0)
        .unwrap();
}

/// A copy of the tree as it is now, hard links and times included.
fn keep(tree: &Path, copies: &Path, name: &str) -> PathBuf {
    let copy = copies.join(name);
    let said = Command::new("cp")
        .arg("-a")
        .args([tree, &copy])
        .status()
        .unwrap();
    assert!(said.success());
    copy
}

/// Tape files of the cartridge.
fn tape_files(system: &System) -> u64 {
    let volume = system.json(&["volume", "show", CARTRIDGE]).unwrap();
    objects(&volume, "number").len() as u64
}

/// Five versions, edits before each; each is restored by its number and equals the copy that was made then.
fn course(system: &System, seed: u64) {
    println!("seed {seed}");
    let plan = format!("course-{seed}");
    let tree = system.data().join(&plan);
    let copies = system.home().join(format!("copies-{seed}"));
    fs::create_dir(&tree).unwrap();
    fs::create_dir(&copies).unwrap();
    system.plan(&plan, &tree, "default").unwrap();
    let mut editor = Editor::new(&tree, seed);
    editor.edit(60);
    let mut kept = Vec::new();
    for (index, kind) in [
        "full",
        "incremental",
        "incremental",
        "differential",
        "incremental",
    ]
    .into_iter()
    .enumerate()
    {
        if index > 0 {
            let times = 1 + editor.below(12);
            editor.edit(times);
        }
        kept.push(keep(&tree, &copies, &index.to_string()));
        run(system, &plan, kind);
    }
    for (index, copy) in kept.iter().enumerate() {
        let version = format!("{plan}@{}", index + 1);
        let into = format!("{plan}-{index}");
        let restored = system.restore(&version, &[], &into, &tree).unwrap();
        ensure_equal(copy, &restored).unwrap_or_else(|error| panic!("{version}: {error}"));
    }
}

#[test]
fn every_instant_comes_back_as_it_was() {
    let system = system();
    let seeds: u64 = std::env::var("TAF_VERSION_SEEDS")
        .ok()
        .map_or(2, |seeds| seeds.parse().unwrap());
    for seed in 0..seeds {
        course(&system, seed);
    }
}

#[test]
fn an_unchanged_tree_costs_no_tape_and_a_rule_drops_what_it_matches() {
    let system = system();
    let tree = system.data().join("tree");
    fs::create_dir_all(tree.join("sub")).unwrap();
    for name in ["a.txt", "b.tmp", "sub/c.tmp", "sub/d"] {
        fs::write(tree.join(name), name).unwrap();
    }
    // Old enough that nobody needs to look into them again.
    let past = std::time::SystemTime::now() - std::time::Duration::from_hours(1);
    for name in ["a.txt", "b.tmp", "sub/c.tmp", "sub/d"] {
        let file = fs::File::options()
            .write(true)
            .open(tree.join(name))
            .unwrap();
        file.set_modified(past).unwrap();
    }
    system.plan("daily", &tree, "default").unwrap();
    // The first of the type that is asked for has nothing to build on, and says so.
    let said = system
        .taf(&["run", "daily", "--type", "incremental"])
        .unwrap();
    assert!(said.stderr.contains("full"), "{}", said.stderr);
    said.expect(0).unwrap();
    run(&system, "daily", "incremental");
    let before = tape_files(&system);
    run(&system, "daily", "incremental");
    assert_eq!(tape_files(&system), before, "nothing new is on tape");

    system
        .taf(&["source", "update", "daily", "--rule", "*.tmp"])
        .unwrap()
        .expect(0)
        .unwrap();
    run(&system, "daily", "incremental");
    let list = system.json(&["versions", "--plan", "daily"]).unwrap();
    let counts: Vec<u64> = objects(&list, "number")
        .into_iter()
        .map(|version| number(&version["file_count"]))
        .collect();
    assert_eq!(counts, [2, 4, 4, 4], "newest first");
    let restored = system.restore("daily", &[], "now", &tree).unwrap();
    assert!(restored.join("a.txt").exists() && !restored.join("b.tmp").exists());
    let restored = system.restore("daily@3", &[], "then", &tree).unwrap();
    ensure_equal(&tree, &restored).unwrap();
}
