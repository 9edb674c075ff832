//! Every compression method but zstd, which the other tests go by, end to end: a backup over several parts and cartridges, one of them cut off at its hard end,
//! comes back byte for byte by TAF, by the standard tools with the commands that the first blocks print, and by TAF with
//! nothing but the cartridges.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};

use taf_tests::said::objects;
use taf_tests::system::{Options, SOURCE_AGENT, System, below};
use taf_tests::tools;
use taf_tests::trees::{build_mixed, build_random, ensure_equal};

/// Method, and a level that is not its default.
const METHODS: [(&str, Option<&str>); 3] = [("gzip", Some("1")), ("tar", None), ("7z", Some("1"))];
/// Bytes of a cartridge: a third of what a backup takes.
const CAPACITY: u64 = 5_000_000;
const CARTRIDGES: u16 = 11;

fn tree(system: &System) -> PathBuf {
    let tree = system.data().join("tree");
    // One file that crosses cartridges, small ones, and what compresses.
    build_random(&tree.join("large"), 1, 1, 7_000_000).unwrap();
    build_random(&tree.join("small"), 2, 30, 40_000).unwrap();
    build_mixed(&tree.join("mixed"), 3, 3_000_000).unwrap();
    fs::write(tree.join("empty"), "").unwrap();
    tree
}

/// What a plan is called that backs up by a method.
fn plan(method: &str) -> String {
    format!("by-{method}")
}

fn back_up(system: &System, method: &str, level: Option<&str>) {
    let plan = plan(method);
    let mut create = vec![
        "plan",
        "create",
        &plan,
        "--source",
        "tree",
        "--pool",
        "all",
        "--compression",
        method,
        "--threads",
        "2",
    ];
    if let Some(level) = level {
        create.extend(["--level", level]);
    }
    system.taf(&create).unwrap().expect(0).unwrap();
    let show = system.taf(&["plan", "show", &plan]).unwrap().text();
    let stored = [method, level.unwrap_or_default()].join(" ");
    assert!(
        show.contains(&format!("stored   {}\n", stored.trim())),
        "{show}"
    );
    system.taf(&["run", &plan]).unwrap().expect(0).unwrap();
}

/// Version and volumes, in order.
fn newest(system: &System, plan: &str) -> (String, Vec<String>) {
    let versions = system.json(&["versions", "--plan", plan]).unwrap();
    let version = objects(&versions, "number")[0];
    let volumes = version["volumes"].as_array().unwrap().iter();
    let barcode = |name: &serde_json::Value| name.as_str().unwrap().replace("volumes/", "");
    let name = version["name"].as_str().unwrap().to_owned();
    (name, volumes.map(barcode).collect())
}

/// What is needed to find it without a catalog.
struct Kept {
    volumes: Vec<String>,
    archive: String,
}

fn comes_back(system: &System, tree: &Path, method: &str) -> Kept {
    let plan = plan(method);
    let (version, volumes) = newest(system, &plan);
    assert!(volumes.len() >= 2, "{method}: {volumes:?}");
    let restored = system.restore(&plan, &[], &plan, tree).unwrap();
    ensure_equal(tree, &restored).unwrap();
    let some = tree.join("small/folder-00000/file-0000017");
    let into = format!("{plan}-some");
    let restored = system
        .restore(&plan, &[&some.display().to_string()], &into, &some)
        .unwrap();
    assert!(fs::read(restored).unwrap() == fs::read(&some).unwrap());
    let files = tools::tape_files(system, &version, &volumes).unwrap();
    assert!(files.len() >= volumes.len());
    for file in &files {
        let text = tools::block0(system, file).unwrap();
        assert_eq!(tools::field(&text, "Method").as_deref(), Some(method));
    }
    let text = tools::block0(system, &files[0]).unwrap();
    let archive = tools::field(&text, "Archive").unwrap();
    if method == "7z" && !tools::has(system, "7z") {
        println!("7z is not installed (Debian: p7zip-full): its commands are not tried");
    } else {
        let folder = system.restored(&format!("{plan}-tools")).unwrap();
        let cut = tools::unpack(system, &files, &folder).unwrap();
        ensure_equal(tree, &below(&folder, tree)).unwrap();
        assert!(cut > 0, "no part was cut off");
    }
    Kept { volumes, archive }
}

#[test]
fn every_method_comes_back_by_every_road() {
    let mut system = System::start(Options {
        drives: 1,
        cartridges: CARTRIDGES,
        capacity: CAPACITY.to_string(),
        // No warning: parts end where the cartridge does.
        emulator: ["--buffer", "1MiB", "--early-warning", "0"]
            .map(str::to_owned)
            .into(),
        ..Options::default()
    })
    .unwrap();
    let tree = tree(&system);
    let pool = [
        "pool",
        "create",
        "all",
        "--block-size",
        "64KiB",
        "--part-size",
        "16MiB",
    ];
    system.taf(&pool).unwrap().expect(0).unwrap();
    for cartridge in 1..=CARTRIDGES {
        system
            .label(&format!("TAF{cartridge:03}L8"), "all")
            .unwrap();
    }
    let folder = tree.display().to_string();
    system
        .taf(&["source", "create", "tree", "--agent", SOURCE_AGENT, &folder])
        .unwrap()
        .expect(0)
        .unwrap();
    let wrong = [
        "plan",
        "create",
        "x",
        "--source",
        "tree",
        "--pool",
        "all",
        "--compression",
        "gzip",
        "--level",
        "12",
    ];
    let said = system.taf(&wrong).unwrap().expect(2).unwrap();
    assert!(said.stderr.contains("gzip has levels 1 to 9"), "{said}");

    let mut of_methods = Vec::new();
    for (method, level) in METHODS {
        println!("{method}");
        back_up(&system, method, level);
        of_methods.push((method, comes_back(&system, &tree, method)));
    }
    let said = system.taf(&["volume", "verify", "--all"]).unwrap();
    said.expect(0).unwrap();

    system.forget_everything().unwrap();
    for (method, kept) in of_methods {
        let folder = system.restored(&format!("extracted-{method}")).unwrap();
        tools::extract(&system, &kept.volumes, &kept.archive, &folder).unwrap();
        ensure_equal(&tree, &below(&folder, &tree)).unwrap();
    }
}
