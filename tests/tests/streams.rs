//! One version over two drives: split at directories, restored whole, each tape read by itself; and what a drive's worker that
//! is killed costs.
//!
//! The first one goes by zstd, or by the method that `TAF_STREAMS_METHOD` names.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use taf_tests::patience::until;
use taf_tests::said::{number, objects, values};
use taf_tests::system::{Options, Process, System, below};
use taf_tests::tools;
use taf_tests::trees::ensure_equal;

const PLAN: &str = "wide";
const CARTRIDGES: [&str; 2] = ["TAF001L8", "TAF002L8"];

/// Two drives that are slow and hold little, so that the second one has its part in what there is.
fn system(rate: &str) -> System {
    let emulator = ["--rate", rate, "--buffer", "1MiB"].map(str::to_owned);
    let system = System::start(Options {
        drives: 2,
        cartridges: 2,
        lease: "5s".into(),
        emulator: emulator.into(),
        tape_agent: "ring = \"32MiB\"\n".into(),
        ..Options::default()
    })
    .unwrap();
    for cartridge in CARTRIDGES {
        system.label(cartridge, "default").unwrap();
    }
    system
}

/// Many directories of some files, and one file with a name in each.
fn build(top: &Path, megabytes: usize) {
    let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
    fs::create_dir_all(top).unwrap();
    fs::write(top.join("linked"), vec![7; 10_000]).unwrap();
    for folder in 0..megabytes * 2 {
        let folder = top.join(format!("folder-{folder:03}/below"));
        fs::create_dir_all(&folder).unwrap();
        for file in 0..5 {
            let mut bytes = Vec::with_capacity(100_008);
            while bytes.len() < 100_000 {
                noise ^= noise << 13;
                noise ^= noise >> 7;
                noise ^= noise << 17;
                bytes.extend_from_slice(&noise.to_le_bytes());
            }
            fs::write(folder.join(format!("file-{file}")), bytes).unwrap();
        }
        fs::hard_link(top.join("linked"), folder.join("again")).unwrap();
    }
}

fn plan(system: &System, tree: &Path, method: &str) {
    let folder = tree.display().to_string();
    let source = ["source", "create", PLAN, "--agent", "files", &folder];
    system.taf(&source).unwrap().expect(0).unwrap();
    let plan = [
        "plan",
        "create",
        PLAN,
        "--source",
        PLAN,
        "--pool",
        "default",
        "--streams",
        "2",
        "--compression",
        method,
    ];
    system.taf(&plan).unwrap().expect(0).unwrap();
}

fn newest_job(system: &System) -> Value {
    let jobs = system.json(&["job", "list"]).unwrap();
    let jobs = values(&jobs, "jobs")[0].as_array().unwrap().clone();
    let backup = jobs
        .into_iter()
        .find(|job| job["kind"] == "JOB_KIND_BACKUP");
    backup.unwrap_or_default()
}

/// Names of volumes, sorted.
fn barcodes(list: &Value) -> Vec<String> {
    let names = list.as_array().map_or(&[][..], Vec::as_slice).iter();
    let mut names: Vec<String> = names
        .filter_map(|name| name.as_str()?.rsplit('/').next().map(str::to_owned))
        .collect();
    names.sort();
    names
}

#[test]
fn a_version_over_two_drives_comes_back_and_each_tape_is_read_by_itself() {
    let system = system("20MB");
    let tree = system.data().join("tree");
    build(&tree, 80);
    let method = std::env::var("TAF_STREAMS_METHOD").unwrap_or_else(|_| "zstd".into());
    plan(&system, &tree, &method);
    system.taf(&["run", PLAN]).unwrap().expect(0).unwrap();
    let job = newest_job(&system);
    let streams = job["streams"].as_array().unwrap();
    let drives: Vec<&str> = streams.iter().filter_map(|s| s["drive"].as_str()).collect();
    assert!(drives.len() == 2 && drives[0] != drives[1], "{drives:?}");
    assert_eq!(barcodes(&job["volumes"]), CARTRIDGES);
    let shown = system.taf(&["job", "show", job["name"].as_str().unwrap()]);
    let shown = shown.unwrap().expect(0).unwrap().text();
    assert_eq!(shown.matches("\nstream ").count(), 2, "{shown}");
    let versions = system.json(&["versions", "--plan", PLAN]).unwrap();
    assert_eq!(
        barcodes(&objects(&versions, "number")[0]["volumes"]),
        CARTRIDGES
    );

    let restored = system.restore(PLAN, &[], "whole", &tree).unwrap();
    ensure_equal(&tree, &restored).unwrap();
    // Names of one file that went to two tapes are one file again.
    let inode = |name: &str| {
        std::os::unix::fs::MetadataExt::ino(&fs::metadata(restored.join(name)).unwrap())
    };
    assert_eq!(inode("linked"), inode("folder-000/below/again"));
    assert_eq!(inode("linked"), inode("folder-159/below/again"));
    let jobs = system.json(&["job", "list"]).unwrap();
    let jobs = values(&jobs, "jobs")[0].as_array().unwrap().clone();
    let restore = jobs
        .iter()
        .find(|job| job["kind"] == "JOB_KIND_RESTORE")
        .unwrap();
    let used = restore["volumes"].as_array().unwrap();
    assert_eq!(used.len(), 2, "each volume once: {used:?}");

    // Each tape by itself with the standard tool, then both in one place.
    let both = system.restored("both").unwrap();
    let mut found = 0;
    for barcode in CARTRIDGES {
        let volume = system.json(&["volume", "show", barcode]).unwrap();
        let file = objects(&volume, "number")
            .into_iter()
            .find(|file| file["kind"] == "part")
            .map(|file| number(&file["number"]))
            .unwrap();
        let alone = system.restored(barcode).unwrap();
        for folder in [&alone, &both] {
            tools::unpack(&system, &[(barcode.to_owned(), file)], folder).unwrap();
        }
        let count = "find . -name 'file-*' | wc -l";
        let counted = system.shell(&alone, count).unwrap().expect(0).unwrap();
        let count: usize = counted.text().trim().parse().unwrap();
        assert!(count > 0, "{barcode} has nothing");
        found += count;
    }
    assert_eq!(found, 160 * 5, "each file is on one tape");
    let compared = system.shell(
        system.home(),
        &format!(
            "diff -r '{}' '{}'",
            tree.display(),
            below(&both, &tree).display()
        ),
    );
    compared.unwrap().expect(0).unwrap();
}

#[test]
fn a_worker_that_is_killed_ends_the_backup_clearly_and_the_next_run_is_fine() {
    // Some 80 MB are on their way to the first drive before the second one is ready; there must be more for both then.
    let mut system = system("10MB");
    let tree = system.data().join("tree");
    build(&tree, 200);
    plan(&system, &tree, "zstd");
    let running = system.start_taf(&["run", PLAN]).unwrap();
    until("both drives at work", Duration::from_mins(1), || {
        let drives = system.json(&["drive", "list"])?;
        let drives = objects(&drives, "phase");
        Ok(
            (drives.len() == 2 && drives.iter().all(|drive| drive["phase"] == "writing"))
                .then_some(()),
        )
    })
    .unwrap();
    system.kill(Process::DriveWorker).unwrap();
    let said = running
        .wait(Duration::from_mins(1))
        .unwrap()
        .expect(1)
        .unwrap();
    assert!(said.stderr.contains("DRIVE_LOST"), "{said}");
    system.until_ready().unwrap();
    system.taf(&["run", PLAN]).unwrap().expect(0).unwrap();
    assert_eq!(system.versions(PLAN).unwrap().len(), 1);
}
