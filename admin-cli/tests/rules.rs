//! `taf source import-rules`: old patterns become rules, and what may surprise is said.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::fs;

use support::run;
use tempfile::TempDir;

#[test]
fn old_patterns_become_rules_and_surprises_are_told() {
    let home = TempDir::new().unwrap();
    let patterns = home.path().join("patterns");
    fs::write(&patterns, "*.tmp\n\ncache\n").unwrap();
    let from = patterns.to_str().unwrap();
    let words = ["source", "import-rules", "/srv/*/x", "--from", from];
    let said = run(home.path(), &words)
        .expect(0)
        .says(&["cache: matched nothing", "*.tmp: leaves out directories"]);
    let rules = String::from_utf8(said.stdout).unwrap();
    assert_eq!(rules, "*.tmp\nre:^(?s-u:/srv/.*/x)(?:/|$)\n");

    let mut words = words.to_vec();
    words.push("--json");
    let json = run(home.path(), &words).expect(0).json();
    assert_eq!(json["rules"].as_array().unwrap().len(), 3);
    assert_eq!(json["rules"][1]["pattern"], "cache");
    assert!(json["rules"][1]["rule"].is_null());
}
