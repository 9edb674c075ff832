//! A backup that dies between two cartridges is gone on with, whatever it is compressed by: what is on tape is not sent again, and the
//! version comes back by TAF and by the standard tools with the commands that the first blocks print.
//!
//! The long form, `TAF_TEST_LONG=1`, takes every method, larger trees and cartridges, and a catalog that is rebuilt from them, too.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use taf_tests::patience::until;
use taf_tests::said::{number, objects, values};
use taf_tests::system::{Options, Process, SOURCE_AGENT, System, below};
use taf_tests::tools::{self, TapeFile};
use taf_tests::trees::{build_random, ensure_equal};

/// All methods; in the short form those that differ most in how a part's first block and records are hidden.
fn methods() -> &'static [&'static str] {
    if is_long() {
        &["zstd", "gzip", "tar", "7z"]
    } else {
        &["gzip", "tar"]
    }
}

fn is_long() -> bool {
    std::env::var_os("TAF_TEST_LONG").is_some()
}

const PATIENCE: Duration = Duration::from_mins(3);
/// Cartridges of each method: the first one fills, then comes the death.
const EACH: usize = 3;

/// Bytes of a cartridge, of what comes first, and of the file that crosses.
fn sizes() -> [usize; 3] {
    // A segment, 4 MiB of tar, is what a part has at least.
    let unit = 5_400_000;
    let times = if is_long() { 3 } else { 1 };
    [unit * times, 3_400_000 * times, 5_800_000 * times]
}

fn taf(system: &System, arguments: &[&str]) {
    system.taf(arguments).unwrap().expect(0).unwrap();
}

fn cartridges(nth: usize) -> Vec<String> {
    let first = nth * EACH + 1;
    (first..first + EACH)
        .map(|number| format!("TAF{number:03}L8"))
        .collect()
}

/// Runs the method's plan on its only cartridge until it asks for the next one, and kills the agent then.
fn dies_between_cartridges(system: &mut System, method: &str) {
    let running = system.start_taf(&["run", method]).unwrap();
    until("the wish for a volume", PATIENCE, || {
        let jobs = system.json(&["job", "list"])?;
        let jobs = values(&jobs, "waiting_for");
        let waits =
            |why: &&&serde_json::Value| why.as_str().is_some_and(|why| why.contains("volume"));
        Ok(jobs.iter().find(waits).map(drop))
    })
    .unwrap();
    system.kill(Process::SourceAgent).unwrap();
    system.restart(Process::SourceAgent).unwrap();
    let said = running.wait(PATIENCE).unwrap().expect(1).unwrap();
    assert!(said.stderr.contains("next: "), "{said}");
    assert!(system.versions(method).unwrap().is_empty());
    system.until_ready().unwrap();
}

/// The parts of the version by their archives, in order.
fn archives(system: &System, method: &str) -> Vec<Vec<TapeFile>> {
    let versions = system.json(&["versions", "--plan", method]).unwrap();
    let version = objects(&versions, "number")[0];
    assert_eq!(number(&version["number"]), 1, "{version}");
    let volumes = version["volumes"].as_array().unwrap().iter();
    let volumes: Vec<String> = volumes
        .map(|name| name.as_str().unwrap().replace("volumes/", ""))
        .collect();
    let name = version["name"].as_str().unwrap();
    let mut order: Vec<String> = Vec::new();
    let mut parts: BTreeMap<String, Vec<TapeFile>> = BTreeMap::new();
    for file in tools::tape_files(system, name, &volumes).unwrap() {
        let text = tools::block0(system, &file).unwrap();
        assert_eq!(tools::field(&text, "Method").as_deref(), Some(method));
        let archive = tools::field(&text, "Archive").unwrap();
        if !order.contains(&archive) {
            order.push(archive.clone());
        }
        parts.entry(archive).or_default().push(file);
    }
    let parts = order.iter().map(|archive| parts[archive].clone());
    parts.collect()
}

/// Names of files below a folder, without the folders.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path.strip_prefix(folder).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

fn comes_back_by_standard_tools(system: &System, tree: &Path, method: &str) {
    if method == "7z" && !tools::has(system, "7z") {
        println!("7z is not installed (Debian: p7zip-full): its commands are not tried");
        return;
    }
    let archives = archives(system, method);
    let [first, second] = &archives[..] else {
        panic!("{method}: {archives:?}");
    };
    assert!(second.len() >= 2, "{method}: {second:?}");
    // Nothing but what was open then is sent again.
    let alone = system.restored(&format!("{method}-second")).unwrap();
    tools::unpack(system, second, &alone).unwrap();
    let sent = files(&below(&alone, tree));
    let again = |path: &&PathBuf| path.starts_with("first");
    assert_eq!(sent.iter().filter(again).count(), 0, "{method}: {sent:?}");
    assert!(sent.contains(&"second/folder-00000/file-0000000".into()));
    // The first one ends where its attempt died, which tar says; then the second one over it.
    let both = system.restored(&format!("{method}-both")).unwrap();
    let (line, _) = tools::line(system, first).unwrap();
    let said = system.shell(&both, &line).unwrap();
    assert_ne!(said.status, Some(0), "{method}: it has no end: {said}");
    tools::unpack(system, second, &both).unwrap();
    let diff = format!(
        "diff -r '{}' '{}'",
        tree.display(),
        below(&both, tree).display()
    );
    let said = system.shell(system.home(), &diff).unwrap();
    said.expect(0).unwrap();
}

#[test]
fn a_backup_that_died_between_cartridges_is_gone_on_with_by_every_method() {
    let [capacity, before, crossing] = sizes();
    let mut system = System::start(Options {
        drives: 1,
        cartridges: (methods().len() * EACH) as u16,
        capacity: capacity.to_string(),
        lease: "5s".into(),
        // There is room for the rest of a segment behind it, and for an index.
        emulator: ["--buffer", "1MiB", "--early-warning", "4600000"]
            .map(str::to_owned)
            .into(),
        controller: "index_after = \"0s\"\n".into(),
        ..Options::default()
    })
    .unwrap();
    let tree = system.data().join("tree");
    build_random(&tree.join("first"), 1, 40, before / 40).unwrap();
    build_random(&tree.join("second"), 2, 1, crossing).unwrap();
    build_random(&tree.join("third"), 3, 3, 20_000).unwrap();
    let folder = tree.display().to_string();
    taf(
        &system,
        &["source", "create", "tree", "--agent", SOURCE_AGENT, &folder],
    );
    for (nth, method) in methods().iter().copied().enumerate() {
        println!("{method}");
        taf(
            &system,
            &["pool", "create", method, "--block-size", "64KiB"],
        );
        let mut plan = vec!["plan", "create", method, "--source", "tree"];
        plan.extend(["--pool", method, "--compression", method]);
        if matches!(method, "7z" | "gzip") {
            plan.extend(["--level", "1"]);
        }
        taf(&system, &plan);
        let volumes = cartridges(nth);
        system.label(&volumes[0], method).unwrap();
        dies_between_cartridges(&mut system, method);
        for volume in &volumes[1..] {
            system.label(volume, method).unwrap();
        }
        taf(&system, &["run", method]);
        let restored = system.restore(method, &[], method, &tree).unwrap();
        ensure_equal(&tree, &restored).unwrap();
        comes_back_by_standard_tools(&system, &tree, method);
    }

    if is_long() {
        come_back_from_cartridges(&mut system, &tree);
    }
}

/// With nothing but them.
fn come_back_from_cartridges(system: &mut System, tree: &Path) {
    for method in methods() {
        until("the closing record on tape", PATIENCE, || {
            let mut open = 0;
            for file in archives(system, method).concat() {
                let volume = system.json(&["volume", "show", &file.0])?;
                let files = objects(&volume, "number");
                let not = |f: &&&serde_json::Value| f["kind"] == "part" && f["indexed"] != true;
                open += files.iter().filter(not).count();
            }
            Ok((open == 0).then_some(()))
        })
        .unwrap();
    }
    let status = system.json(&["status"]).unwrap();
    let installation = objects(&status, "installation_uuid")[0]["installation_uuid"].clone();
    system.forget_everything().unwrap();
    system.begin_anew(installation.as_str().unwrap()).unwrap();
    taf(system, &["catalog", "rebuild", "--all"]);
    for method in methods() {
        let into = format!("{method}-rebuilt");
        let restored = system.restore(method, &[], &into, tree).unwrap();
        ensure_equal(tree, &restored).unwrap();
    }
}
