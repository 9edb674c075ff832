//! The nasty tree itself, and that walking and writing alone bring it back: what later fails in a backup is then the
//! backup's fault.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../../source-agent/tree/tests/copying/mod.rs"]
#[allow(dead_code)]
mod copying;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use copying::{copy, differences};
use taf_tests::nasty;

#[test]
fn the_nasty_tree_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    fs::create_dir(&from).unwrap();
    fs::create_dir(&to).unwrap();
    let as_root = rustix::process::geteuid().is_root();
    let summary = nasty::build(&from, 7, as_root).unwrap();
    println!("{summary:?}");
    assert!((2000..2100).contains(&summary.entries));
    let found = copying::walk(&from)
        .filter(|event| matches!(event, taf_tree::Event::Enter(_) | taf_tree::Event::Entry(_)));
    assert_eq!(found.count(), summary.entries + 1);
    let length = nasty::build_beyond_path_max(&from).unwrap();
    assert!(length > 4096);
    let (issues, warnings) = copy(&from, &to);
    assert_eq!((issues, warnings), (Vec::new(), Vec::new()));
    assert_eq!(differences(&from, &to), Vec::<String>::new());
    // An ordinary user's temporary folder can't be removed while it has directories closed to him.
    for top in [from, to] {
        for mode in ["0500", "0555"] {
            let directory = top.join("modes").join(format!("directory {mode}"));
            fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).unwrap();
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_tree() {
    let folder = tempfile::tempdir().unwrap();
    let build = |name: &str, seed| {
        let top = folder.path().join(name);
        fs::create_dir(&top).unwrap();
        nasty::build(&top, seed, rustix::process::geteuid().is_root()).unwrap();
        top
    };
    let (a, b) = (build("a", 1), build("b", 1));
    let content = |line: &String| !line.contains(": modified ");
    assert_eq!(
        differences(&a, &b)
            .into_iter()
            .filter(content)
            .collect::<Vec<_>>(),
        Vec::<String>::new()
    );
    assert_ne!(
        differences(&a, &build("c", 2))
            .into_iter()
            .filter(content)
            .count(),
        0
    );
}

#[test]
fn an_ordinary_user_gets_all_of_it_but_what_needs_root() {
    copying::again_as_user("the_nasty_tree_comes_back");
}
