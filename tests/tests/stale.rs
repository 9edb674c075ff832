//! Yesterday's database under today's tapes: nothing is written anywhere until the volumes are inspected, and nothing of today is
//! destroyed.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::time::Duration;

use serde_json::Value;
use taf_emulator::control::{Order, Report};
use taf_tests::patience::until;
use taf_tests::said::objects;
use taf_tests::system::{Options, Process, System};
use taf_tests::trees::{self, build_random, ensure_equal};

const PATIENCE: Duration = Duration::from_mins(1);
const POOL: &str = "default";
/// Where a cartridge's records begin in its file; what lies before is its memory, which counts how often it was loaded.
const RECORDS_AT: usize = 4096;

fn taf(system: &System, arguments: &[&str]) {
    system.taf(arguments).unwrap().expect(0).unwrap();
}

/// The records of the cartridges.
fn images(system: &System, barcodes: &[&str]) -> Vec<blake3::Hash> {
    let image = |barcode: &&str| fs::read(system.cartridge(barcode)).unwrap();
    let hash = |image: Vec<u8>| blake3::hash(&image[RECORDS_AT..]);
    barcodes.iter().map(image).map(hash).collect()
}

fn written(system: &System) -> u64 {
    let report: Report = serde_json::from_value(system.order(&Order::Stat).unwrap()).unwrap();
    let drives = report.drives.iter();
    drives.map(|drive| drive.counters.bytes_written).sum()
}

/// Waits until the catalog is not trusted, for this reason.
fn distrusted(system: &System, why: &str) -> Value {
    let known = until("the loss of trust", PATIENCE, || {
        let asked = system.taf(&["status", "--json"])?;
        if asked.status != Some(0) {
            return Ok(None);
        }
        let status = asked.json()?;
        let known = status["distrust_reason"].to_string().contains(why);
        Ok(known.then_some(status))
    });
    known.unwrap()
}

fn volume(system: &System, barcode: &str) -> Value {
    system.json(&["volume", "show", barcode]).unwrap()["volume"].clone()
}

#[test]
fn yesterdays_database_writes_nothing_and_destroys_nothing_of_today() {
    let mut system = System::start(Options {
        cartridges: 4,
        capacity: "60MB".into(),
        lease: "5s".into(),
        controller: "reuse_after = \"0s\"\nindex_after = \"1s\"\n".into(),
        ..Options::default()
    })
    .unwrap();
    let (kept, given_up, untouched) = ("TAF001L8", "TAF002L8", "TAF003L8");
    for pool in ["second", "third", "fourth"] {
        taf(&system, &["pool", "create", pool]);
    }
    taf(
        &system,
        &["pool", "update", "third", "--auto-label=TAF004*"],
    );
    system.label(kept, POOL).unwrap();
    system.label(given_up, "second").unwrap();
    system.label(untouched, "fourth").unwrap();
    let tree = system.data().join("tree");
    build_random(&tree, 1, 4, 1_000_000).unwrap();
    system.plan("daily", &tree, POOL).unwrap();
    system.plan("other", &tree, "second").unwrap();
    system.plan("third", &tree, "third").unwrap();
    taf(&system, &["plan", "update", "daily", "--keep-last", "1"]);
    taf(&system, &["run", "daily", "--type", "full"]);
    taf(&system, &["run", "other", "--type", "full"]);

    let database = system.home().join("controller/database");
    let yesterday = system.home().join("yesterday");
    system.end_process(Process::Controller).unwrap();
    trees::copy(&database, &yesterday).unwrap();
    system.begin(Process::Controller).unwrap();
    system.until_ready().unwrap();

    // Today: more on one volume, another one labelled anew, a version expired.
    build_random(&tree.join("today"), 2, 2, 1_000_000).unwrap();
    taf(&system, &["run", "daily", "--type", "full"]);
    taf(&system, &["volume", "erase", given_up, "--force"]);
    system.label(given_up, "second").unwrap();
    taf(&system, &["run", "other", "--type", "full"]);

    until("the indexes of today", PATIENCE, || {
        let indexed = |barcode| -> anyhow::Result<bool> {
            let shown = system.json(&["volume", "show", barcode])?;
            let files = objects(&shown, "indexed");
            let mut parts = files.iter().filter(|file| file["kind"] == "part");
            Ok(parts.all(|part| part["indexed"] == true))
        };
        Ok((indexed(kept)? && indexed(given_up)?).then_some(()))
    })
    .unwrap();
    let todays = system.versions("daily").unwrap().remove(0);
    let all = [kept, given_up, untouched, "TAF004L8"];
    system.end_process(Process::Controller).unwrap();
    let (today, bytes) = (images(&system, &all), written(&system));
    let length = fs::metadata(system.cartridge(kept)).unwrap().len() as usize;
    fs::remove_dir_all(&database).unwrap();
    trees::copy(&yesterday, &database).unwrap();
    // The host of the controller was set back as a whole: only the agents remember.
    fs::remove_file(system.home().join("controller/generation")).unwrap();
    system.begin(Process::Controller).unwrap();

    // Asked for before anybody can know.
    until("the API", PATIENCE, || {
        let asked = system.taf(&["run", "daily", "--type", "full", "--detach"])?;
        Ok((asked.status == Some(0)).then_some(()))
    })
    .unwrap();
    let status = distrusted(&system, "has seen generation");
    assert_eq!(status["suspect_volume_count"], 3, "{status}");
    system.until_ready().unwrap();
    for plan in ["other", "third"] {
        taf(&system, &["run", plan, "--type", "full", "--detach"]);
    }
    until("three jobs that wait for trust", PATIENCE, || {
        let jobs = system.json(&["job", "list"])?.to_string();
        Ok((jobs.matches("may be older than the tapes").count() == 3).then_some(()))
    })
    .unwrap();
    for refused in [
        &["volume", "erase", given_up][..],
        &["volume", "label", "TAF004L8", "--pool", POOL],
    ] {
        let said = system.taf(refused).unwrap();
        assert!(
            said.stderr.contains("CATALOG_DISTRUSTED"),
            "{}",
            said.stderr
        );
    }
    // What the catalog has is read all the same.
    let restored = system.restored("known").unwrap();
    let to = restored.display().to_string();
    taf(&system, &["restore", "daily", "--to", &to]);

    // Two are not what the catalog says, one is.
    let said = system.taf(&["volume", "inspect", "--all"]).unwrap();
    assert_eq!(said.status, Some(1), "{}", said.stderr);
    for word in ["goes on to block", "labelled anew"] {
        assert!(said.stderr.contains(word), "{}", said.stderr);
    }
    assert!(volume(&system, untouched)["suspect_time"].is_null());
    assert!(volume(&system, untouched)["inspect_time"].is_string());
    for differs in [kept, given_up] {
        assert!(volume(&system, differs)["suspect_time"].is_string());
    }
    // What is on a cartridge is true: the recording that the catalog had on this one is gone.
    let version = system
        .json(&["version", "list", "--plan", "other"])
        .unwrap();
    assert!(
        version.to_string().contains("the recording is gone"),
        "{version}"
    );
    assert_eq!(images(&system, &all), today);
    assert_eq!(written(&system), bytes, "nothing was written anywhere");

    // What the catalog lacks is read from the cartridges. Then they are what it says, and it goes on behind today's parts.
    taf(&system, &["catalog", "rebuild", kept, given_up]);
    assert!(system.versions("daily").unwrap().contains(&todays));
    taf(&system, &["volume", "inspect", "--all"]);
    // One cartridge is none of the catalog's: it might have been labelled since. It is blank, and that is known when it was looked at.
    distrusted(&system, "has seen generation");
    let said = system.taf(&["catalog", "rebuild", "TAF004L8"]).unwrap();
    assert!(
        said.stderr.to_lowercase().contains("blank"),
        "{}",
        said.stderr
    );
    until("trust", PATIENCE, || {
        let status = system.json(&["status"])?;
        Ok(status["distrust_time"].is_null().then_some(()))
    })
    .unwrap();
    until("the end of all that waited", PATIENCE, || {
        let jobs = system.json(&["job", "list", "--active"])?;
        Ok(objects(&jobs, "state").is_empty().then_some(()))
    })
    .unwrap();
    taf(&system, &["catalog", "check"]);
    // What waited has another number than what came back.
    let versions = system.versions("daily").unwrap();
    let next = versions.iter().max().unwrap();
    assert!(*next > todays, "{versions:?}");
    let restored = system.restore(next, &[], "restored", &tree).unwrap();
    ensure_equal(&tree, &restored).unwrap();
    let now = fs::read(system.cartridge(kept)).unwrap();
    let todays = &now[RECORDS_AT..length];
    assert_eq!(blake3::hash(todays), today[0], "it went on behind them");
}
