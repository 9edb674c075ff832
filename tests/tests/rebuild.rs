//! The catalog is lost with everything that TAF knew, and comes back from the cartridges: in another order than they were written,
//! and without one of them at first.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../../source-agent/tests/catalog/edit.rs"]
mod edit;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use edit::Editor;
use taf_tests::patience::until;
use taf_tests::said::{number, objects};
use taf_tests::system::{Options, System};
use taf_tests::trees::ensure_equal;

fn taf(system: &System, arguments: &[&str]) {
    system.taf(arguments).unwrap().expect(0).unwrap();
}

/// A copy of the tree as it is now, hard links and times included.
fn keep(tree: &Path, copy: PathBuf) -> PathBuf {
    let said = Command::new("cp").arg("-a").args([tree, &copy]).status();
    assert!(said.unwrap().success());
    copy
}

/// Numbers of the plan's readable versions, oldest first.
fn numbers(system: &System) -> Vec<String> {
    let list = system
        .json(&["version", "list", "--plan", "daily"])
        .unwrap();
    let versions = objects(&list, "number");
    let mut numbers: Vec<String> = versions
        .iter()
        .map(|version| version["number"].as_str().unwrap().to_owned())
        .collect();
    numbers.sort();
    numbers
}

fn equals(system: &System, number: usize, copy: &Path, tree: &Path, into: &str) {
    let version = format!("daily@{number}");
    let restored = system.restore(&version, &[], into, tree).unwrap();
    ensure_equal(copy, &restored).unwrap_or_else(|error| panic!("{version}: {error}"));
}

/// Where a volume ends.
fn end_of(system: &System, barcode: &str) -> String {
    let volume = system.json(&["volume", "show", barcode]).unwrap();
    format!(
        "{} {}",
        volume["volume"]["next_tape_file"], volume["volume"]["next_block"]
    )
}

#[test]
fn a_lost_installation_comes_back_from_its_cartridges() {
    let mut system = System::start(Options {
        cartridges: 2,
        controller: "index_after = \"0s\"\n".into(),
        ..Options::default()
    })
    .unwrap();
    for (pool, barcode) in [("odd", "TAF001L8"), ("even", "TAF002L8")] {
        taf(&system, &["pool", "create", pool]);
        system.label(barcode, pool).unwrap();
    }
    let tree = system.data().join("tree");
    fs::create_dir(&tree).unwrap();
    system.plan("daily", &tree, "odd").unwrap();
    let mut editor = Editor::new(&tree, 11);
    editor.edit(60);
    let mut copies = Vec::new();
    // The second version, and what builds on it, need the second cartridge.
    for (kind, pool) in [
        ("full", "odd"),
        ("incremental", "even"),
        ("differential", "odd"),
        ("incremental", "odd"),
        ("full", "odd"),
    ] {
        taf(&system, &["plan", "update", "daily", "--pool", pool]);
        copies.push(keep(
            &tree,
            system.home().join(format!("copy-{}", copies.len() + 1)),
        ));
        taf(&system, &["run", "daily", "--type", kind]);
        editor.edit(9);
    }
    // Each closing record is on its volume when that has its index.
    for barcode in ["TAF001L8", "TAF002L8"] {
        until("an index of all parts", Duration::from_mins(2), || {
            let volume = system.json(&["volume", "show", barcode])?;
            let files = objects(&volume, "number");
            let open = files
                .iter()
                .any(|f| f["kind"] == "part" && f["indexed"] != true);
            let last = files.iter().max_by_key(|f| number(&f["number"]));
            Ok((!open && last.is_some_and(|f| f["kind"] == "index")).then_some(()))
        })
        .unwrap();
    }
    let status = system.json(&["status"]).unwrap();
    let installation = objects(&status, "installation_uuid")[0]["installation_uuid"]
        .as_str()
        .unwrap()
        .to_owned();
    let ends: Vec<String> = ["TAF001L8", "TAF002L8"]
        .iter()
        .map(|b| end_of(&system, b))
        .collect();
    let last = keep(&tree, system.home().join("copy-last"));

    system.forget_everything().unwrap();
    system.begin_anew(&installation).unwrap();
    assert!(objects(&system.json(&["versions"]).unwrap(), "number").is_empty());

    // One of two: what needs the other is named, and is not shown.
    taf(&system, &["catalog", "rebuild", "TAF001L8"]);
    let lacking = system.json(&["catalog", "rebuild", "--status"]).unwrap();
    let lacking: Vec<String> = objects(&lacking, "reason")
        .iter()
        .map(|v| v["number"].as_str().unwrap().to_owned())
        .collect();
    let readable = numbers(&system);
    assert!(
        readable.contains(&"1".to_owned()) && readable.contains(&"5".to_owned()),
        "{readable:?}"
    );
    assert!(
        readable.iter().all(|number| !lacking.contains(number)),
        "{readable:?} {lacking:?}"
    );
    equals(&system, 1, &copies[0], &tree, "without-1");
    equals(&system, 5, &copies[4], &tree, "without-5");

    taf(&system, &["catalog", "rebuild", "--all", "--dry-run"]);
    taf(&system, &["catalog", "rebuild", "--all"]);
    assert_eq!(numbers(&system), ["1", "2", "3", "4", "5"]);
    for (at, copy) in copies.iter().enumerate() {
        equals(&system, at + 1, copy, &tree, &format!("with-{}", at + 1));
    }
    let now: Vec<String> = ["TAF001L8", "TAF002L8"]
        .iter()
        .map(|b| end_of(&system, b))
        .collect();
    assert_eq!(now, ends, "nothing was written");

    // The plan is made again and goes on; before its volumes are inspected, it waits.
    system.plan("daily", &tree, "odd").unwrap();
    taf(&system, &["volume", "inspect", "--all"]);
    taf(&system, &["run", "daily", "--type", "incremental"]);
    assert_eq!(numbers(&system), ["1", "2", "3", "4", "5", "6"]);
    equals(&system, 6, &last, &tree, "after");
}
