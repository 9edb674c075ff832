//! The catalog is lost with everything that TAF knew, and comes back from the cartridges: in another order than they were written,
//! and without one of them at first.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../../source-agent/tests/catalog/edit.rs"]
mod edit;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use edit::Editor;
use taf_tests::patience::until;
use taf_tests::said::{Said, number, objects};
use taf_tests::system::{Options, System};
use taf_tests::trees::{self, ensure_equal};

fn taf(system: &System, arguments: &[&str]) {
    system.taf(arguments).unwrap().expect(0).unwrap();
}

/// A copy of the tree as it is now, hard links and times included.
fn keep(tree: &Path, copy: PathBuf) -> PathBuf {
    trees::copy(tree, &copy).unwrap();
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

/// What a command wrote.
fn written(said: &Said) -> String {
    String::from_utf8_lossy(&said.stdout).into_owned()
}

/// The same, those that are whole and those that are not apart.
fn numbers_apart(system: &System) -> (Vec<String>, Vec<String>) {
    let list = system
        .json(&["version", "list", "--plan", "daily"])
        .unwrap();
    let mut apart = (Vec::new(), Vec::new());
    for version in objects(&list, "number") {
        let number = version["number"].as_str().unwrap().to_owned();
        match version["incomplete_reason"].as_str().unwrap() {
            "" => apart.0.push(number),
            why => {
                assert!(why.contains("TAF002L8"), "{why}");
                assert_eq!(version["lacking_volumes"][0], "volumes/TAF002L8");
                apart.1.push(number);
            }
        }
    }
    apart.0.sort();
    apart.1.sort();
    apart
}

/// Without the second cartridge the third version is shown as far as it is certain, and restored so only if somebody says so.
fn only_what_is_certain(system: &System, tree: &Path, copy: &Path) {
    let unknown = "unknown since version 2 (volume TAF002L8)";
    let at = |below: &str| tree.join("by-hand").join(below).display().to_string();
    let (kept, changed, second) = (at("kept"), at("changed"), at("changed/second"));
    let said = system.taf(&["ls", "daily@3", &kept]).unwrap();
    assert_eq!(written(&said.expect(0).unwrap()), "first\nthird\n");
    for command in ["ls", "tree", "du"] {
        let said = system.taf(&[command, "daily@3", &changed]).unwrap();
        let said = said.expect(3).unwrap();
        assert!(said.stderr.contains(unknown), "{}", said.text());
        assert!(!written(&said).contains("first"), "{}", said.text());
    }
    let said = system.taf(&["stat", "daily@3", &second]).unwrap();
    assert!(said.expect(1).unwrap().stderr.contains(unknown));
    let found = system.taf(&["find", "third", "--in", "daily@3", "--paths"]);
    let found = found.unwrap().expect(3).unwrap();
    assert_eq!(written(&found).trim(), at("kept/third"));
    assert!(found.stderr.contains(unknown), "{}", found.text());
    let said = system.taf(&["diff", "daily@3", "daily@3"]).unwrap();
    said.expect(3).unwrap();
    // What both versions are known to have differs as ever.
    let said = system.taf(&["diff", "daily@1", "daily@3", &kept]).unwrap();
    let said = said.expect(1).unwrap();
    assert_eq!(written(&said), format!("+ {}\n", at("kept/third")));
    assert!(!said.stderr.contains(unknown), "{}", said.text());
    let compared = ["diff", "daily@1", "daily@3", &changed];
    let said = system.taf(&compared).unwrap().expect(3).unwrap();
    assert_eq!(written(&said), "");
    assert!(said.stderr.contains(unknown), "{}", said.text());
    let json = [&compared[..], &["--json"]].concat();
    let said = system.taf(&json).unwrap().expect(3).unwrap();
    let told: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(told["differences"], serde_json::json!([]));
    let past = ["history", "daily", &second];
    let history = system.taf(&past).unwrap();
    assert!(written(&history.expect(3).unwrap()).contains(unknown));
    let json = [&past[..], &["--json"]].concat();
    let said = system.taf(&json).unwrap().expect(3).unwrap();
    let told: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
    let states = told["states"].as_array().unwrap();
    let state = states.iter().find(|state| state["lacks"] == unknown);
    assert!(state.unwrap()["entry"].is_null(), "{told}");
    let known = system
        .taf(&["history", "daily", &at("kept/first")])
        .unwrap();
    assert!(written(&known.expect(0).unwrap()).contains("daily@"));
    // What is listed and not known says so, and the exit status with it.
    let listed = system.taf(&["ls", "daily@3", &at("")]).unwrap();
    let listed = listed.expect(3).unwrap();
    assert!(listed.stderr.contains(unknown), "{}", listed.stderr);

    // It goes only if somebody says so who was told what is lost.
    let expire = ["version", "expire", "daily@3"];
    let told = system.taf(&[&expire[..], &["--dry-run"]].concat()).unwrap();
    assert!(written(&told.expect(0).unwrap()).contains("would lose"));
    let refused = system.taf(&expire).unwrap().expect(1).unwrap();
    assert!(refused.stderr.contains("--force"), "{}", refused.text());

    // What is known and was met is restored as ever; the rest not without consent, and then by name.
    let chosen = system.restore("daily@3", &[&kept], "certain", Path::new(&kept));
    ensure_equal(&copy.join("by-hand/kept"), &chosen.unwrap()).unwrap();
    let into = system.restored("partial").unwrap();
    let to = into.display().to_string();
    let restore = ["restore", "daily@3", "--to", &to];
    let said = system.taf(&restore).unwrap().expect(1).unwrap();
    assert!(
        said.stderr.contains("TAF002L8") && said.stderr.contains("--partial"),
        "{}",
        said.text()
    );
    let pattern = ["restore", "daily@3", "*third", "--to", &to, "--partial"];
    let said = system.taf(&pattern).unwrap().expect(1).unwrap();
    assert!(said.stderr.contains("--files-from"), "{}", said.text());
    let planned = system
        .json(&[&restore[..], &["--dry-run"]].concat())
        .unwrap();
    let lacking =
        number(&planned["unknown_directory_count"]) + number(&planned["unmet_entry_count"]);
    assert!(lacking > 0, "{planned}");
    let said = system
        .taf(&[&restore[..], &["--partial"]].concat())
        .unwrap();
    let said = said.expect(3).unwrap();
    assert!(
        said.stderr.contains("UNKNOWN") && said.stderr.contains(unknown),
        "{}",
        said.text()
    );
    let restored = taf_tests::system::below(&into, tree);
    assert_eq!(fs::read(restored.join("by-hand/kept/third")).unwrap(), b"3");
    let differing = taf_tests::trees::differing(copy, &restored).unwrap();
    assert!(!differing.is_empty());
    for path in differing.keys() {
        let here = restored.join(path);
        assert!(
            !here.exists() || here.is_dir(),
            "{} is wrong",
            path.display()
        );
    }
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
        cartridges: 3,
        controller: "index_after = \"0s\"\n".into(),
        ..Options::default()
    })
    .unwrap();
    for (pool, barcode) in [("odd", "TAF001L8"), ("even", "TAF002L8")] {
        taf(&system, &["pool", "create", pool]);
        system.label(barcode, pool).unwrap();
    }
    let tree = system.data().join("tree");
    for folder in ["random", "by-hand/kept", "by-hand/changed"] {
        fs::create_dir_all(tree.join(folder)).unwrap();
        fs::write(tree.join(folder).join("first"), folder).unwrap();
    }
    system.plan("daily", &tree, "odd").unwrap();
    let mut editor = Editor::new(&tree.join("random"), 11);
    editor.edit(60);
    let mut copies = Vec::new();
    // The second version, and what builds on it, need the second cartridge.
    for (kind, pool) in [
        ("full", "odd"),
        ("incremental", "even"),
        ("incremental", "odd"),
        ("differential", "odd"),
        ("full", "odd"),
    ] {
        // The third version has a listing of its own of one folder, and of the other that of the second.
        match copies.len() {
            1 => fs::write(tree.join("by-hand/changed/second"), "2").unwrap(),
            2 => fs::write(tree.join("by-hand/kept/third"), "3").unwrap(),
            _ => {}
        }
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

    // One of two: what needs the other is named, and shown as far as it is certain.
    taf(&system, &["catalog", "rebuild", "TAF001L8"]);
    let lacking = system.json(&["catalog", "rebuild", "--status"]).unwrap();
    let lacking: Vec<String> = objects(&lacking, "reason")
        .iter()
        .map(|v| v["number"].as_str().unwrap().to_owned())
        .collect();
    let (readable, partial) = numbers_apart(&system);
    assert_eq!(partial, lacking);
    assert!(lacking.contains(&"3".to_owned()), "{lacking:?}");
    assert!(
        readable.contains(&"1".to_owned()) && readable.contains(&"5".to_owned()),
        "{readable:?}"
    );
    equals(&system, 1, &copies[0], &tree, "without-1");
    equals(&system, 5, &copies[4], &tree, "without-5");
    only_what_is_certain(&system, &tree, &copies[2]);

    taf(&system, &["catalog", "rebuild", "--all", "--dry-run"]);
    let said = system.taf(&["catalog", "rebuild", "--all", "--json"]);
    let said = said.unwrap().expect(0).unwrap();
    assert!(
        said.stderr.contains("1 cartridge is blank"),
        "{}",
        said.text()
    );
    let jobs = said.json().unwrap();
    let blank = |job: &&serde_json::Value| {
        job["volume"] == "volumes/TAF003L8" && job["error"]["reason"] == "BLANK"
    };
    let jobs = jobs["jobs"].as_array().unwrap();
    assert_eq!((jobs.len(), jobs.iter().filter(blank).count()), (3, 1));
    // One that is named is thought to hold something.
    let named = system.taf(&["catalog", "rebuild", "TAF003L8"]);
    assert!(named.unwrap().expect(1).unwrap().stderr.contains("BLANK"));
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
