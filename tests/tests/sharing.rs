//! Two sources to one drive at the same time: both come back, also with `zstd` and `tar` alone.
#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use taf_tests::said::{number, objects};
use taf_tests::system::{Options, System, below};
use taf_tests::trees::{build_random, ensure_equal};

const CARTRIDGE: &str = "TAF001L8";
const PLANS: [&str; 2] = ["one", "two"];

/// The tape files of the cartridge's parts, with the version of each.
fn parts(system: &System) -> Vec<(u64, String)> {
    let volume = system.json(&["volume", "show", CARTRIDGE]).unwrap();
    let mut parts: Vec<(u64, String)> = objects(&volume, "number")
        .into_iter()
        .filter(|file| file["kind"] == "part")
        .map(|file| {
            let version = file["version"].as_str().unwrap().to_owned();
            (number(&file["number"]), version)
        })
        .collect();
    parts.sort();
    parts
}

#[test]
fn two_sources_write_to_one_drive_by_turns_and_both_come_back() {
    let system = System::start(Options {
        drives: 1,
        cartridges: 1,
        ..Options::default()
    })
    .unwrap();
    let pool = "pool create shared --part-size 16MiB";
    let pool: Vec<&str> = pool.split(' ').collect();
    system.taf(&pool).unwrap().expect(0).unwrap();
    let update = ["pool", "update", "shared", "--sources-per-drive", "2"];
    system.taf(&update).unwrap().expect(0).unwrap();
    let pools = system.json(&["pool", "list"]).unwrap();
    let shared = objects(&pools, "sources_per_drive")
        .into_iter()
        .find(|pool| pool["name"] == "pools/shared");
    assert_eq!(number(&shared.unwrap()["sources_per_drive"]), 2);
    system.label(CARTRIDGE, "shared").unwrap();
    let trees = PLANS.map(|plan| {
        let tree = system.data().join(plan);
        std::fs::create_dir(&tree).unwrap();
        build_random(
            &tree,
            plan.len() as u64 + u64::from(plan.as_bytes()[0]),
            50,
            2 << 20,
        )
        .unwrap();
        system.plan(plan, &tree, "shared").unwrap();
        tree
    });
    // Which of them comes first is the machine's word, and a fast one may have ended when the other begins.
    let mut turns = 0;
    for _ in 0..5 {
        let known = parts(&system).len();
        let running = PLANS.map(|plan| {
            let run = ["run", plan, "--type", "full"];
            system.start_taf(&run).unwrap()
        });
        for run in running {
            run.wait(Duration::from_mins(2)).unwrap().expect(0).unwrap();
        }
        let new = parts(&system).split_off(known);
        turns = new.windows(2).filter(|p| p[0].1 != p[1].1).count();
        if turns >= 2 {
            break;
        }
    }
    let parts = parts(&system);
    assert!(turns >= 2, "they did not write by turns: {parts:?}");

    for (plan, tree) in PLANS.iter().zip(&trees) {
        let restored = system.restore(plan, &[], plan, tree).unwrap();
        ensure_equal(tree, &restored).unwrap();
        // As a person reads it.
        let version = system.versions(plan).unwrap().pop().unwrap();
        let cartridge = system.cartridge(CARTRIDGE).display().to_string();
        let cat = parts
            .iter()
            .filter(|(_, of)| *of == version)
            .map(|(file, _)| format!("taf tape cat '{cartridge}' {file}"));
        let cat: Vec<String> = cat.collect();
        let folder = system.restored(&format!("tools-{plan}")).unwrap();
        let line = format!("({}) | zstd -dcq | tar -xp --numeric-owner", cat.join("; "));
        system.shell(&folder, &line).unwrap().expect(0).unwrap();
        ensure_equal(tree, &below(&folder, tree)).unwrap();
    }
}
