//! Archives on a whole system: a line of their own, verified by themselves, never a base; and what they hold is removed if asked.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;

use taf_tests::said::objects;
use taf_tests::system::{Options, System};
use taf_tests::trees::ensure_equal;

const CARTRIDGE: &str = "TAF001L8";

#[test]
fn an_archive_is_verified_by_itself_and_its_sources_go_if_asked() {
    let system = System::start(Options {
        drives: 1,
        source_agent: "remove_allowed = [\"/\"]\n".into(),
        ..Options::default()
    })
    .unwrap();
    system.label(CARTRIDGE, "default").unwrap();
    builds(&system);
    removes(&system);
}

/// Nothing builds on an archive, and it is proved without being asked for.
fn builds(system: &System) {
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

/// What `taf … --json` tells of a removal that would be: path and obstacle of each entry.
fn preview(system: &System, arguments: &[&str]) -> Vec<(String, String)> {
    let arguments = [&["version", "remove-sources"], arguments, &["--dry-run"]].concat();
    let told = system.json(&arguments).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let entries = told["entries"].as_array().unwrap().iter();
    entries
        .map(|entry| (text(&entry["path"]["display"]), text(&entry["obstacle"])))
        .collect()
}

/// Sources go once they are verified on enough copies, and if they still are what was archived.
fn removes(system: &System) {
    let taf = |arguments: &[&str]| system.taf(arguments).unwrap();
    taf(&["pool", "create", "vault"]).expect(0).unwrap();
    system.label("TAF002L8", "vault").unwrap();
    let tree = system.data().join("reels");
    fs::create_dir_all(tree.join("sub/deep")).unwrap();
    fs::create_dir_all(tree.join("empty")).unwrap();
    fs::write(tree.join("sub/deep/one"), vec![7; 200_000]).unwrap();
    fs::hard_link(tree.join("sub/deep/one"), tree.join("sub/other")).unwrap();
    fs::write(tree.join("two"), "two").unwrap();
    std::os::unix::fs::symlink("two", tree.join("link")).unwrap();
    system.plan("reels", &tree, "default").unwrap();
    let plan = [
        "plan", "create", "second", "--source", "reels", "--pool", "vault", "--type", "archive",
    ];
    taf(&plan).expect(0).unwrap();

    // Only what is archived goes.
    let refused = taf(&["run", "reels", "--remove-sources"]);
    assert!(refused.stderr.contains("archive"), "{}", refused.stderr);
    assert_ne!(refused.status, Some(0));
    taf(&["run", "reels", "--type", "archive"])
        .expect(0)
        .unwrap();
    let told = preview(system, &["reels@a1"]);
    assert!(
        told.len() == 4 && told.iter().all(|(_, obstacle)| obstacle.is_empty()),
        "{told:?}"
    );
    let told = preview(system, &["reels@a1", "--copies", "2"]);
    assert!(
        told.iter()
            .all(|(_, obstacle)| obstacle.contains("1 of 2 copies")),
        "{told:?}"
    );
    assert!(tree.join("two").exists());

    // The second copy is made, and what it has by now is removed; one file is not what it was in the first.
    let copy = system.home().join("copy");
    let said = system
        .shell(system.home(), "cp -a data/reels copy")
        .unwrap();
    said.expect(0).unwrap();
    taf(&["run", "second"]).expect(0).unwrap();
    fs::write(tree.join("two"), "2!!").unwrap();
    let removal = taf(&[
        "version",
        "remove-sources",
        "reels@a1",
        "--copies",
        "2",
        "--empty-directories",
    ]);
    assert!(removal.stderr.contains("CHANGED"), "{}", removal.stderr);
    removal.expect(3).unwrap();
    assert!(tree.join("two").exists() && tree.join("empty").exists());
    for gone in ["sub", "link"] {
        assert!(tree.join(gone).symlink_metadata().is_err(), "{gone}");
    }
    let restored = system.restore("reels@a1", &[], "back", &tree).unwrap();
    ensure_equal(&copy, &restored).unwrap();

    // In one go.
    taf(&["run", "second", "--remove-sources", "--empty-directories"])
        .expect(0)
        .unwrap();
    assert_eq!(
        fs::read_dir(&tree).unwrap().count(),
        1,
        "only what was empty before"
    );
    let restored = system.restore("second@a", &[], "again", &tree).unwrap();
    assert_eq!(fs::read(restored.join("two")).unwrap(), b"2!!");
}
