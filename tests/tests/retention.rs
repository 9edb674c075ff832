//! Retention on a whole system: what expired makes room for what comes, in the middle of a backup, and what is kept comes back.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use taf_tests::patience::until;
use taf_tests::said::objects;
use taf_tests::system::{Options, System};
use taf_tests::trees::ensure_equal;

const MB: usize = 1_000_000;
const POOL: &str = "small";

fn taf(system: &System, arguments: &[&str]) {
    system.taf(arguments).unwrap().expect(0).unwrap();
}

#[test]
fn a_backup_goes_on_over_what_expired_and_what_is_kept_comes_back() {
    // Two cartridges that hold two versions each, and not a third.
    let system = System::start(Options {
        drives: 2,
        cartridges: 2,
        capacity: (16 * MB).to_string(),
        emulator: ["--buffer", "2MiB", "--early-warning", "700000"]
            .map(str::to_owned)
            .to_vec(),
        controller: "reuse_after = \"0s\"\nvolume_wait = \"60s\"\n".into(),
        ..Options::default()
    })
    .unwrap();
    taf(
        &system,
        &[
            "pool",
            "create",
            POOL,
            "--block-size",
            "64KiB",
            "--part-size",
            "16MiB",
        ],
    );
    system.label("TAF001L8", POOL).unwrap();
    system.label("TAF002L8", POOL).unwrap();
    let tree = system.data().join("tree");
    fs::create_dir_all(&tree).unwrap();
    system.plan("daily", &tree, POOL).unwrap();
    taf(&system, &["plan", "update", "daily", "--keep-last", "1"]);

    let mut random = StdRng::seed_from_u64(7);
    let mut run = || {
        let mut content = vec![0; 8 * MB];
        random.fill(&mut content[..]);
        fs::write(tree.join("large"), content).unwrap();
        fs::write(tree.join("small"), random.random::<u64>().to_string()).unwrap();
        taf(&system, &["run", "daily", "--type", "full"]);
    };
    let first = || system.json(&["volume", "show", "TAF001L8"]).unwrap()["volume"].clone();
    run();
    let recording = first()["recording_uuid"].clone();
    run();
    run();
    // The second version began on the first cartridge; it expires when the third is there.
    until(
        "the first cartridge to be free",
        Duration::from_mins(1),
        || {
            let volume = first();
            let why = volume["reuse_reason"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            Ok((why.starts_with("reusable since")).then_some(()))
        },
    )
    .unwrap();
    assert_eq!(
        first()["recording_uuid"],
        recording,
        "nobody has needed it yet"
    );
    run();
    let now = first();
    assert_ne!(
        now["recording_uuid"], recording,
        "it was labelled anew: {now}"
    );

    let list = system
        .json(&["version", "list", "--plan", "daily"])
        .unwrap();
    let newest = objects(&list, "number").into_iter().next().unwrap();
    assert_eq!(newest["number"], "4", "{list}");
    let volumes = newest["volumes"].to_string();
    assert!(volumes.contains("TAF001L8"), "{volumes}");
    let restored = system.restore("daily", &[], "restored", &tree).unwrap();
    ensure_equal(&tree, &restored).unwrap();

    let gone = system
        .taf(&["restore", "daily@1", "--to", "/tmp", "--dry-run"])
        .unwrap();
    assert!(gone.stderr.contains("no version 1"), "{}", gone.stderr);
    // The third one goes in the background, too; before that it is a good version, and the fourth not the last.
    until(
        "the third version to expire",
        Duration::from_mins(1),
        || {
            let list = system.json(&["version", "list", "--plan", "daily"])?;
            Ok(objects(&list, "number")
                .iter()
                .all(|version| version["number"] == "4")
                .then_some(()))
        },
    )
    .unwrap();
    taf(&system, &["catalog", "check"]);
    let held = system.taf(&["version", "expire", "daily@4"]).unwrap();
    assert!(held.stderr.contains("last good version"), "{}", held.stderr);
}
