//! Versions after versions of one tree: what each has is what was there, and no more is written than that needs.
#![allow(clippy::unwrap_used, missing_docs)]

mod catalog;
#[path = "catalog/edit.rs"]
mod edit;
#[path = "catalog/tree.rs"]
mod tree;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use catalog::{Catalog, Kind, Written};
use edit::Editor;
use taf_source_agent::backup::merge::Rules;
use tree::{Tree, assert_same, on_disk};

/// A file whose times lie so far back that they prove something; only its status change time is of now.
fn write_old(path: &Path, content: &str) {
    fs::write(path, content).unwrap();
    set_mtime(path, 1_500_000_000);
}

fn set_mtime(path: &Path, seconds: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let file = fs::File::options().read(true).open(path).unwrap();
    file.set_modified(time).unwrap();
}

/// Runs a backup and checks that its version has what is on disk.
fn backup(catalog: &mut Catalog, kind: Kind, top: &Path) -> (Written, Tree) {
    let disk = on_disk(top);
    let written = catalog.run(kind, top);
    assert!(written.issues.is_empty(), "{:?}", written.issues);
    let version = catalog.tree(catalog.head);
    assert_same(&disk, &version, &format!("version {}", catalog.head));
    let directories = disk
        .values()
        .filter(|thing| thing.kind == taf_format::entry::Kind::Directory);
    let directories = directories.count() as u64 - 1;
    assert_eq!(written.totals.directories, directories);
    assert_eq!(written.totals.files, disk.len() as u64 - 1 - directories);
    (written, disk)
}

fn small_tree(top: &Path) {
    for directory in ["a/b/c", "a/d", "e", "empty"] {
        fs::create_dir_all(top.join(directory)).unwrap();
    }
    for file in [
        "a/one",
        "a/b/two",
        "a/b/c/three",
        "a/d/four",
        "e/five",
        "six",
    ] {
        write_old(&top.join(file), file);
    }
    symlink("six", top.join("e/link")).unwrap();
}

#[test]
fn an_unchanged_tree_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let top = folder.path();
    small_tree(top);
    for n in 0..3_000 {
        fs::write(top.join(format!("empty/{n}")), "").unwrap();
    }
    let mut catalog = Catalog::default();
    let (full, _) = backup(&mut catalog, Kind::Full, top);
    let chunks = full.pages.iter().filter(|page| page.directory == b"empty");
    assert!(chunks.count() > 1);
    for kind in [Kind::Incremental, Kind::Differential, Kind::Incremental] {
        let (written, _) = backup(&mut catalog, kind, top);
        assert!(written.is_nothing(), "{kind:?} {written:?}");
    }
    catalog.rules.always_compare = true;
    let (written, _) = backup(&mut catalog, Kind::Incremental, top);
    assert!(written.is_nothing(), "{written:?}");
}

#[test]
fn only_what_changed_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let top = folder.path();
    small_tree(top);
    let mut catalog = Catalog::default();
    backup(&mut catalog, Kind::Full, top);
    write_old(&top.join("a/b/two"), "changed");
    let (written, _) = backup(&mut catalog, Kind::Incremental, top);
    assert_eq!(written.stored, ["a/b/two"]);
    assert_eq!(written.rows.len(), 1);
    assert!(written.tombstones.is_empty());
    // Of the same size, with the old time: only the status change time tells.
    write_old(&top.join("a/b/two"), "CHANGED");
    let (written, _) = backup(&mut catalog, Kind::Incremental, top);
    assert_eq!(written.stored, ["a/b/two"]);
    fs::remove_dir_all(top.join("a/b")).unwrap();
    let (written, _) = backup(&mut catalog, Kind::Incremental, top);
    assert_eq!(written.tombstones, [&b"a\0b"[..], b"a\0b\0c"]);
    // The directory's own times changed.
    assert_eq!(written.stored, ["a"]);
    let (written, _) = backup(&mut catalog, Kind::Differential, top);
    assert_eq!(written.tombstones.len(), 2);
}

#[test]
fn new_metadata_costs_no_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let top = folder.path();
    small_tree(top);
    fs::write(top.join("large"), vec![5; 600_000]).unwrap();
    let mut catalog = Catalog::default();
    backup(&mut catalog, Kind::Full, top);
    for file in ["six", "large"] {
        fs::set_permissions(top.join(file), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let (written, _) = backup(&mut catalog, Kind::Incremental, top);
    assert!(written.stored.is_empty(), "{written:?}");
    assert_eq!(written.rows.len(), 1);
    // Attributes are in the tar header alone.
    let set = rustix::fs::setxattr(
        top.join("six"),
        "user.colour",
        b"red",
        rustix::fs::XattrFlags::empty(),
    );
    set.unwrap();
    let (written, _) = backup(&mut catalog, Kind::Incremental, top);
    assert_eq!(written.stored, ["six"]);
    rustix::fs::removexattr(top.join("six"), "user.colour").unwrap();
    let (written, _) = backup(&mut catalog, Kind::Incremental, top);
    assert_eq!(written.stored, ["six"]);
}

#[test]
fn what_is_ignored_makes_no_difference() {
    let folder = tempfile::tempdir().unwrap();
    let top = folder.path();
    small_tree(top);
    let mut catalog = Catalog::default();
    catalog.rules = Rules {
        ignore_ctime: true,
        ignore_inode: true,
        always_compare: false,
    };
    backup(&mut catalog, Kind::Full, top);
    // Another inode, the same content and times.
    write_old(&top.join("other"), "six");
    fs::rename(top.join("other"), top.join("six")).unwrap();
    set_mtime(top, 1_500_000_000);
    backup(&mut catalog, Kind::Incremental, top);
    write_old(&top.join("other"), "six");
    fs::rename(top.join("other"), top.join("six")).unwrap();
    set_mtime(top, 1_500_000_000);
    let (written, _) = backup(&mut catalog, Kind::Incremental, top);
    assert!(written.is_nothing(), "{written:?}");
}

#[test]
fn renamed_and_swapped_directories_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let top = folder.path();
    for (directory, content) in [("x", "11"), ("y", "22"), ("z", "33")] {
        fs::create_dir(top.join(directory)).unwrap();
        write_old(&top.join(directory).join("same"), content);
        set_mtime(&top.join(directory), 1_500_000_000);
    }
    let mut catalog = Catalog::default();
    backup(&mut catalog, Kind::Full, top);
    // All keep their own times.
    fs::rename(top.join("x"), top.join("t")).unwrap();
    fs::rename(top.join("y"), top.join("x")).unwrap();
    fs::rename(top.join("t"), top.join("y")).unwrap();
    fs::rename(top.join("z"), top.join("new")).unwrap();
    let (written, _) = backup(&mut catalog, Kind::Incremental, top);
    let moved = "new/same".to_owned();
    assert!(written.stored.contains(&moved), "{written:?}");
    assert_eq!(written.tombstones, [b"z"]);
    backup(&mut catalog, Kind::Differential, top);
}

#[test]
fn names_of_a_file_stay_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let top = folder.path();
    for directory in ["a", "m", "z"] {
        fs::create_dir(top.join(directory)).unwrap();
    }
    write_old(&top.join("m/old"), "shared");
    let link = |from: &str, to: &str| fs::hard_link(top.join(from), top.join(to)).unwrap();
    let mut catalog = Catalog::default();
    backup(&mut catalog, Kind::Full, top);
    // Names before and behind the one that the base has.
    link("m/old", "a/first");
    link("m/old", "z/last");
    backup(&mut catalog, Kind::Incremental, top);
    link("m/old", "z/more");
    let (written, _) = backup(&mut catalog, Kind::Incremental, top);
    // The archive alone has the bytes of what it names.
    assert!(written.stored.contains(&"z/more".to_owned()), "{written:?}");
    fs::remove_file(top.join("a/first")).unwrap();
    fs::remove_file(top.join("z/last")).unwrap();
    fs::remove_file(top.join("z/more")).unwrap();
    backup(&mut catalog, Kind::Incremental, top);
    backup(&mut catalog, Kind::Differential, top);
    // A directory that moves takes names along, and no time of the file tells.
    link("m/old", "z/again");
    backup(&mut catalog, Kind::Incremental, top);
    fs::rename(top.join("m"), top.join("zz")).unwrap();
    let (written, _) = backup(&mut catalog, Kind::Incremental, top);
    assert_eq!(written.tombstones, [b"m"]);
    backup(&mut catalog, Kind::Differential, top);
}

#[test]
fn what_a_selection_drops_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let top = folder.path();
    small_tree(top);
    let mut catalog = Catalog::default();
    catalog.run(Kind::Full, top);
    let written = catalog.run_with(Kind::Incremental, top, |options| {
        options.exclude = Some(Box::new(|candidate: &taf_tree::walk::Candidate<'_>| {
            candidate.path == b"a/b"
        }));
    });
    assert_eq!(written.tombstones, [&b"a\0b"[..], b"a\0b\0c"]);
    let tree = catalog.tree(catalog.head);
    assert!(!tree.contains_key(&b"a/b"[..]) && tree.contains_key(&b"a/d/four"[..]));
}

#[test]
fn an_attempt_that_failed_is_resumed_and_sends_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let top = folder.path();
    small_tree(top);
    let mut catalog = Catalog::default();
    catalog.run_cut(Kind::Full, top, |rows| rows / 2);
    catalog.run_cut(Kind::Full, top, |rows| rows / 2);
    let (written, _) = backup(&mut catalog, Kind::Full, top);
    assert!(!written.stored.is_empty());
    assert!(!written.stored.contains(&"six".to_owned()), "{written:?}");
    // Things change between the attempts.
    write_old(&top.join("a/b/two"), "changed");
    fs::remove_file(top.join("a/d/four")).unwrap();
    catalog.run_cut(Kind::Incremental, top, |rows| rows);
    write_old(&top.join("a/d/four"), "back again");
    fs::remove_dir_all(top.join("e")).unwrap();
    let (written, _) = backup(&mut catalog, Kind::Incremental, top);
    assert!(
        !written.stored.contains(&"a/b/two".to_owned()),
        "{written:?}"
    );
    catalog.run_cut(Kind::Differential, top, |rows| rows);
    let (written, _) = backup(&mut catalog, Kind::Differential, top);
    assert!(written.is_nothing(), "{written:?}");
}

#[test]
fn very_deep_directories_are_merged_and_vanish_like_others() {
    let folder = tempfile::tempdir().unwrap();
    let top = folder.path();
    let name = |letter: &str| letter.repeat(230);
    let shared = top.join(name("a")).join(name("b")).join(name("c"));
    for (last, leaf) in [("d", "x"), ("d", "y"), ("e", "x")] {
        let directory = shared.join(name(last)).join(name(leaf));
        fs::create_dir_all(&directory).unwrap();
        write_old(&directory.join("file"), leaf);
    }
    // Chunks whose keys alone are shortened.
    for n in 0..2_500 {
        fs::write(shared.join(name("d")).join(format!("{n:0200}")), "").unwrap();
    }
    let mut catalog = Catalog::default();
    backup(&mut catalog, Kind::Full, top);
    let (written, _) = backup(&mut catalog, Kind::Incremental, top);
    assert!(written.is_nothing(), "{:?}", written.totals);
    assert!(*catalog.looked_up.lock().unwrap() > 0);
    fs::remove_dir_all(shared.join(name("d")).join(name("x"))).unwrap();
    fs::remove_file(shared.join(name("d")).join(format!("{:0200}", 7))).unwrap();
    write_old(&shared.join(name("e")).join(name("x")).join("file"), "new");
    backup(&mut catalog, Kind::Incremental, top);
    fs::remove_dir_all(shared.join(name("d"))).unwrap();
    backup(&mut catalog, Kind::Differential, top);
    fs::remove_dir_all(top.join(name("a"))).unwrap();
    backup(&mut catalog, Kind::Incremental, top);
}

#[test]
fn random_versions_have_what_was_there() {
    let long = std::env::var_os("TAF_TEST_LONG").is_some();
    let first = std::env::var("TAF_VERSIONS_SEED").ok();
    let seeds = match first {
        Some(seed) => vec![seed.parse().unwrap()],
        None if long => (0..500).collect(),
        None => (0..12).collect::<Vec<u64>>(),
    };
    for seed in seeds {
        println!("seed {seed}: TAF_VERSIONS_SEED={seed} repeats it");
        random_versions(seed);
    }
}

fn random_versions(seed: u64) {
    let folder = tempfile::tempdir().unwrap();
    let top = folder.path().join("top");
    fs::create_dir(&top).unwrap();
    let mut editor = Editor::new(&top, seed);
    editor.edit(60);
    let mut catalog = Catalog::default();
    let mut versions: Vec<Tree> = Vec::new();
    let kinds = [
        Kind::Full,
        Kind::Incremental,
        Kind::Incremental,
        Kind::Differential,
        Kind::Incremental,
        Kind::Full,
        Kind::Differential,
        Kind::Incremental,
    ];
    for kind in kinds {
        if editor.chance(3) {
            let cut = editor.below(4);
            catalog.run_cut(kind, &top, |rows| rows * cut / 3);
            let edits = editor.below(6);
            editor.edit(edits);
        }
        let (_, disk) = backup(&mut catalog, kind, &top);
        versions.push(disk);
        let edits = editor.below(12);
        editor.edit(edits);
    }
    for (index, disk) in versions.iter().enumerate() {
        let version = index as u64 + 1;
        let what = format!("seed {seed}, version {version} at the end");
        assert_same(disk, &catalog.tree(version), &what);
    }
}
