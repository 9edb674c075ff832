//! Archives on a whole system: a line of their own, verified by themselves, never a base.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;

use taf_tests::said::objects;
use taf_tests::system::{Options, System};
use taf_tests::trees::ensure_equal;

const CARTRIDGE: &str = "TAF001L8";

#[test]
fn an_archive_is_verified_by_itself_and_nothing_builds_on_it() {
    let system = System::start(Options {
        drives: 1,
        ..Options::default()
    })
    .unwrap();
    system.label(CARTRIDGE, "default").unwrap();
    let tree = system.data().join("films");
    fs::create_dir_all(tree.join("sub")).unwrap();
    fs::write(tree.join("sub/one"), vec![7; 200_000]).unwrap();
    fs::write(tree.join("two"), "two").unwrap();
    system.plan("films", &tree, "default").unwrap();

    let run = |kind: &str| {
        let said = system.taf(&["run", "films", "--type", kind]).unwrap();
        said.expect(0).unwrap()
    };
    run("full");
    let said = run("archive");
    assert!(said.stderr.contains("verification of"), "{}", said.stderr);
    fs::write(tree.join("three"), "three").unwrap();
    run("incremental");

    let list = system.json(&["versions", "--plan", "films"]).unwrap();
    let versions = objects(&list, "number");
    let told = |version: &serde_json::Value| {
        let proved = !version["verify_time"].is_null();
        let number = version["number"].as_str().unwrap().to_owned();
        (version["type"].as_str().unwrap().to_owned(), number, proved)
    };
    let told: Vec<_> = versions.into_iter().map(told).collect();
    let of = |kind: &str, number: &str, proved| {
        (format!("VERSION_TYPE_{kind}"), number.to_owned(), proved)
    };
    // Newest first. The incremental needs nothing of the archive: its base is the full.
    assert_eq!(
        told,
        [
            of("INCREMENTAL", "2", false),
            of("ARCHIVE", "1", true),
            of("FULL", "1", false)
        ]
    );

    // A plan alone means its newest version that is no archive.
    let now = system.restore("films", &[], "now", &tree).unwrap();
    ensure_equal(&tree, &now).unwrap();
    let then = system.restore("films@a1", &[], "then", &tree).unwrap();
    assert!(then.join("two").exists() && !then.join("three").exists());

    system
        .taf(&["version", "verify", "films@1", "--dry-run"])
        .unwrap()
        .expect(0)
        .unwrap();
    system
        .taf(&["version", "verify", "films@1"])
        .unwrap()
        .expect(0)
        .unwrap();
    let list = system.json(&["versions", "--plan", "films"]).unwrap();
    let full = objects(&list, "number").into_iter().last().unwrap();
    assert!(!full["verify_time"].is_null(), "{full}");
}
