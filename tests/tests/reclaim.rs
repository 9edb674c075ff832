//! A mostly dead volume is emptied in one drive and freed: what lives on it is restored from another volume, byte for byte, also when the
//! worker is killed in the middle.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use taf_emulator::control::{Order, Report};
use taf_emulator::faults::Fault;
use taf_tests::patience::until;
use taf_tests::said::{number, objects, values};
use taf_tests::system::{Options, Process, System};
use taf_tests::trees::{self, build_random, ensure_equal};

const PATIENCE: Duration = Duration::from_mins(3);
const OLD: &str = "TAF001L8";
const NEW: &str = "TAF002L8";
const POOL: &str = "small";

fn taf(system: &System, arguments: &[&str]) {
    system.taf(arguments).unwrap().expect(0).unwrap();
}

fn keep(tree: &Path, copy: PathBuf) -> PathBuf {
    trees::copy(tree, &copy).unwrap();
    copy
}

fn parts(system: &System, barcode: &str) -> anyhow::Result<usize> {
    let shown = system.json(&["volume", "show", barcode])?;
    let files = objects(&shown, "first_block");
    Ok(files.iter().filter(|file| file["kind"] == "part").count())
}

fn reclaimed(system: &System) -> Value {
    let planned = system.json(&["volume", "reclaim", OLD, "--dry-run"]);
    objects(&planned.unwrap(), "part_count")[0].clone()
}

#[test]
fn what_lives_on_a_volume_goes_to_another_one_and_the_volume_is_free() {
    let mut system = System::start(Options {
        drives: 1,
        cartridges: 2,
        capacity: "200MB".into(),
        lease: "5s".into(),
        controller: "index_after = \"1s\"\n".into(),
        // Each process runs in the system's folder.
        tape_agent: "spool = \"/proc/self/cwd/spool\"\nspool_size = \"34MiB\"\n".into(),
        ..Options::default()
    })
    .unwrap();
    let pool = ["pool", "create", POOL, "--part-size", "16MiB"];
    taf(&system, &pool);
    system.label(OLD, POOL).unwrap();
    let tree = system.data().join("tree");
    build_random(&tree, 1, 6, 300_000).unwrap();
    system.plan("daily", &tree, POOL).unwrap();
    taf(&system, &["run", "daily", "--type", "full"]);
    // More than the spool takes at once.
    build_random(&tree.join("more"), 2, 30, 1_500_000).unwrap();
    let second = keep(&tree, system.home().join("second"));
    taf(&system, &["run", "daily", "--type", "full"]);
    build_random(&tree.join("last"), 3, 3, 200_000).unwrap();
    let third = keep(&tree, system.home().join("third"));
    taf(&system, &["run", "daily", "--type", "incremental"]);
    taf(&system, &["version", "expire", "daily@1"]);

    // Without another volume there is nowhere to go.
    let refused = system.taf(&["volume", "reclaim", OLD]).unwrap();
    assert_ne!(refused.status, Some(0));
    assert!(
        refused.stderr.contains("taf volume label"),
        "{}",
        refused.stderr
    );
    system.label(NEW, POOL).unwrap();
    let living = until("the release of what expired", PATIENCE, || {
        let planned = reclaimed(&system);
        Ok((number(&planned["version_count"]) == 2).then_some(planned))
    })
    .unwrap();
    let all = number(&living["part_count"]);
    assert!(all >= 4, "{living}");
    assert!(number(&living["byte_count"]) < number(&living["volume_byte_count"]));

    // Its worker dies in the second turn, when a part of it is written and its end is not on the medium yet.
    let fault = Fault {
        barcode: Some(NEW.into()),
        ..Fault::parse("at = \"filemark\"\ndo = \"hang\"\nobject = 90\nobjects = 10000\n").unwrap()
    };
    system.order(&Order::FaultAdd { fault }).unwrap();
    let running = system.start_taf(&["volume", "reclaim", OLD]).unwrap();
    until("the drive to hang", PATIENCE, || {
        let report: Report = serde_json::from_value(system.order(&Order::Stat)?)?;
        Ok(report.drives.iter().any(|drive| drive.hangs).then_some(()))
    })
    .unwrap();
    let moved = parts(&system, NEW).unwrap();
    assert!(moved > 0 && moved < all as usize, "{moved} of {all}");
    system.kill(Process::DriveWorker).unwrap();
    system.calm().unwrap();
    let died = running.wait(PATIENCE).unwrap();
    assert_ne!(died.status, Some(0), "{}", died.stderr);
    let left = number(&reclaimed(&system)["part_count"]);
    assert!(left > 0 && left < all, "{left} of {all}");
    taf(&system, &["volume", "reclaim", OLD]);

    let again = system.taf(&["volume", "reclaim", OLD]).unwrap();
    assert!(
        again.stderr.contains("nothing on volume"),
        "{}",
        again.stderr
    );
    taf(&system, &["catalog", "check"]);
    for version in ["daily@2", "daily@3"] {
        let shown = system.json(&["versions", "--plan", "daily"]).unwrap();
        let volumes: Vec<String> = objects(&shown, "volumes")
            .iter()
            .flat_map(|version| values(version, "volumes"))
            .map(Value::to_string)
            .collect();
        assert!(
            volumes.iter().all(|v| !v.contains(OLD)),
            "{version}: {volumes:?}"
        );
    }
    // It is given up when its copies were read back, by a job that nobody asked for.
    let volume = until("the copies to be read back", PATIENCE, || {
        let volume = system.json(&["volume", "show", OLD])?["volume"].clone();
        let why = volume["reuse_reason"].to_string();
        Ok(why.contains("reusable from").then_some(volume))
    })
    .unwrap();
    assert!(volume["free_time"].is_string(), "{volume}");
    // Nothing on it is needed: it is erased without force, and nothing is missed.
    taf(&system, &["volume", "erase", OLD]);
    for (version, copy) in [("daily@2", &second), ("daily@3", &third)] {
        let restored = system.restore(version, &[], &version.replace('@', "-"), &tree);
        ensure_equal(copy, &restored.unwrap()).unwrap_or_else(|e| panic!("{version}: {e}"));
    }
    let _ = fs::remove_dir_all(&second);
}
