//! Looking around in the catalog with `taf`: nothing of it reads a tape, and what it says is what was there.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use taf_tests::said::{number, objects};
use taf_tests::system::{Options, System};

const CARTRIDGE: &str = "TAF001L8";

fn write(path: &Path, content: &str, hours_ago: u64) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
    let file = fs::File::open(path).unwrap();
    let then = SystemTime::now() - Duration::from_hours(hours_ago);
    file.set_modified(then).unwrap();
}

/// What a command prints that must end with this status.
fn says(system: &System, words: &[&str], status: i32) -> String {
    let said = system.taf(words).unwrap().expect(status).unwrap();
    String::from_utf8(said.stdout).unwrap()
}

fn list(system: &System, words: &[&str], key: &str) -> Vec<Value> {
    let all = system.json(words).unwrap();
    all[key].as_array().unwrap().clone()
}

fn display(item: &Value) -> &str {
    item["path"]["display"].as_str().unwrap()
}

#[test]
fn what_is_in_versions_is_found_compared_and_measured() {
    let system = System::start(Options {
        drives: 1,
        ..Options::default()
    })
    .unwrap();
    system.label(CARTRIDGE, "default").unwrap();
    let tree = system.data().join("tree");
    let at = |name: &str| tree.join(name).display().to_string();
    write(&tree.join("a/report.odt"), "first", 50);
    write(&tree.join("a/b/large"), &"x".repeat(5000), 40);
    write(&tree.join("a/b/gone"), "gone", 30);
    write(&tree.join("esc\u{1b}[2J.odt"), "odd", 20);
    system.plan("daily", &tree, "default").unwrap();
    says(&system, &["run", "daily"], 0);
    write(&tree.join("a/report.odt"), "second, longer", 2);
    fs::remove_file(tree.join("a/b/gone")).unwrap();
    write(&tree.join("c/new"), "new", 1);
    says(&system, &["run", "daily", "--type", "incremental"], 0);

    // Finding: each state once, with its versions and its volume.
    let hits = list(&system, &["find", "report.odt"], "entries");
    let told: Vec<_> = hits
        .iter()
        .map(|hit| {
            assert_eq!(display(hit), at("a/report.odt"));
            assert_eq!(hit["volumes"][0], format!("volumes/{CARTRIDGE}"));
            (number(&hit["entry"]["size"]), number(&hit["version_count"]))
        })
        .collect();
    assert_eq!(told, [(14, 1), (5, 1)]);
    let large = [
        "find",
        "--min-size",
        "1KiB",
        "--in",
        "daily",
        "--all-versions",
    ];
    let hits = list(&system, &large, "entries");
    assert_eq!((hits.len(), number(&hits[0]["version_count"])), (1, 2));
    let recent = ["find", "--in", "daily", "--newer-than", "3h", "--paths"];
    let text = says(&system, &recent, 0);
    let expected = format!("{}\n{}\n", at("a/report.odt"), at("c/new"));
    assert_eq!(text, expected);
    let text = says(&system, &["find", "*.odt", "--in", "daily@1"], 0);
    assert!(
        text.contains("daily@1") && text.contains("\\x1b[2J.odt"),
        "{text}"
    );
    let said = system
        .taf(&["find", "--in", "daily", "--limit", "2"])
        .unwrap();
    assert!(said.stderr.contains("--limit ended"), "{}", said.stderr);
    let said = system.taf(&["find", "re:("]).unwrap().expect(1).unwrap();
    assert!(said.stderr.contains("patterns[0]"), "{}", said.stderr);

    // Comparing.
    let text = says(&system, &["diff", "daily@1", "daily", &at("a")], 1);
    assert!(
        text.contains(&format!("M {}", at("a/report.odt"))),
        "{text}"
    );
    assert!(text.contains(&format!("- {}", at("a/b/gone"))), "{text}");
    assert!(!text.contains("new") && !text.contains("large"), "{text}");
    let all = system
        .taf(&["diff", "daily@1", "daily@2", "--json"])
        .unwrap();
    let all = all.expect(1).unwrap().json().unwrap();
    let all = all["differences"].as_array().unwrap().clone();
    let kinds: Vec<_> = all
        .iter()
        .map(|it| {
            (
                display(it).trim_start_matches(&at("")),
                it["kind"].as_str().unwrap(),
            )
        })
        .collect();
    let expected = [
        ("c", "DIFFERENCE_KIND_ADDED"),
        ("a/report.odt", "DIFFERENCE_KIND_CONTENT"),
        ("a/b/gone", "DIFFERENCE_KIND_REMOVED"),
        ("c/new", "DIFFERENCE_KIND_ADDED"),
    ];
    assert_eq!(kinds, expected);
    assert_eq!(says(&system, &["diff", "daily@2", "daily@now"], 0), "");

    // A path's past.
    let states = list(&system, &["history", "daily", &at("a/b/gone")], "states");
    assert_eq!(states.len(), 2);
    assert!(states[0]["entry"].is_null(), "{states:?}");
    assert_eq!(number(&states[1]["entry"]["size"]), 4);
    let text = says(&system, &["history", "daily", &at("a/b/large")], 0);
    assert!(
        text.contains("daily@1-2") && text.contains(CARTRIDGE),
        "{text}"
    );

    // Measuring, and looking at it.
    let measures = list(
        &system,
        &["du", "daily", &at(""), "--depth", "1"],
        "directories",
    );
    let told: Vec<_> = measures
        .iter()
        .map(|it| {
            let bytes = number(&it["byte_count"]);
            (
                display(it).trim_start_matches(&at("")),
                bytes,
                number(&it["file_count"]),
            )
        })
        .collect();
    let whole = tree.display().to_string();
    assert_eq!(told, [("a", 5014, 2), ("c", 3, 1), (&whole, 5020, 4)]);
    let text = says(&system, &["tree", "daily", &whole], 0);
    let drawn = "├── a/\n│   ├── b/\n│   │   └── large\n│   └── report.odt\n├── c/\n";
    assert!(text.contains(drawn), "{text}");
    let text = says(&system, &["ls", "daily", &at("a"), "--sort", "time"], 0);
    assert_eq!(text, "report.odt\nb/\n");
    let text = says(&system, &["stat", "daily", &at("a/report.odt")], 0);
    assert!(
        text.contains("14 bytes") && text.contains(CARTRIDGE),
        "{text}"
    );

    // Moments.
    let of = |words: &[&str]| {
        let words = [&["versions"], words].concat();
        objects(&system.json(&words).unwrap(), "number").len()
    };
    assert_eq!(of(&["--since", "1 hour ago"]), 2);
    assert_eq!(of(&["--since", "1 hour ago", "--type", "full"]), 1);
    assert_eq!(of(&["--until", "1 hour ago"]), 0);
    let said = system
        .taf(&["ls", "daily@1 hour ago"])
        .unwrap()
        .expect(1)
        .unwrap();
    assert!(said.stderr.contains("NO_VERSION_THEN"), "{}", said.stderr);
    let said = system
        .taf(&["ls", "daily@the other day"])
        .unwrap()
        .expect(1)
        .unwrap();
    assert!(said.stderr.contains("is not a moment"), "{}", said.stderr);
}
