//! Unreadable is not empty: what a run could not look at stays as the version before has it, and is caught up with later.
#![allow(clippy::unwrap_used, missing_docs)]

mod catalog;
#[path = "catalog/tree.rs"]
mod tree;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use catalog::{Catalog, Kind, Written};
use taf_format::page::{FLAG_CARRIED, FLAG_MOUNTED};
use taf_tree::walk::{Listing, Names};
use taf_tree::{Event, Issue, IssueKind};
use tree::{Tree, assert_same, on_disk};

fn build(top: &Path) {
    for directory in ["a/b/c", "a/d", "a/f", "e"] {
        fs::create_dir_all(top.join(directory)).unwrap();
    }
    for file in [
        "a/one",
        "a/two",
        "a/b/three",
        "a/b/c/four",
        "a/d/five",
        "a/f/eight",
        "e/six",
        "seven",
    ] {
        fs::write(top.join(file), file).unwrap();
    }
}

/// Changes everything below `a` and `e`.
fn change(top: &Path) {
    fs::write(top.join("a/one"), "changed").unwrap();
    fs::remove_file(top.join("a/two")).unwrap();
    fs::remove_dir_all(top.join("a/b/c")).unwrap();
    fs::remove_dir_all(top.join("a/f")).unwrap();
    fs::write(top.join("a/b/three"), "changed").unwrap();
    fs::write(top.join("a/d/new"), "new").unwrap();
    fs::write(top.join("seven"), "changed").unwrap();
}

fn issue(kind: IssueKind, path: &[u8]) -> Event {
    Event::Issue(Issue {
        path: path.to_vec(),
        kind,
        reason: "is told so by the test".into(),
    })
}

/// A full, an incremental and a differential with a twist, and one run that sees everything again.
fn check(
    kind: Kind,
    twist: impl FnMut(Event) -> Vec<Event>,
    stays: impl Fn(&[u8]) -> bool,
) -> Written {
    let folder = tempfile::tempdir().unwrap();
    let top = folder.path();
    build(top);
    let mut catalog = Catalog::default();
    catalog.run(Kind::Full, top);
    fs::write(top.join("a/two"), "second").unwrap();
    catalog.run(Kind::Incremental, top);
    let before = catalog.tree(2);
    change(top);
    let written = catalog.run_twisted(kind, top, twist);
    let disk = on_disk(top);
    let mut expected: Tree = disk.clone();
    expected.retain(|path, _| !stays(path));
    expected.extend(before.into_iter().filter(|(path, _)| stays(path)));
    assert_same(&expected, &catalog.tree(3), "the version with the issue");
    assert!(!written.issues.is_empty());
    catalog.run(Kind::Incremental, top);
    assert_same(&disk, &catalog.tree(4), "the version behind it");
    written
}

#[test]
fn a_directory_that_can_not_be_listed_stays_with_all_below() {
    for kind in [Kind::Incremental, Kind::Differential] {
        let twist = |event: Event| match event {
            Event::Enter(mut directory) if directory.path == b"a" => {
                directory.listing = Listing::Incomplete;
                let issue = issue(IssueKind::UnreadableDirectory, b"a");
                vec![Event::Enter(directory), issue]
            }
            event => vec![event],
        };
        let stays = |path: &[u8]| path == b"a" || path.starts_with(b"a/");
        let written = check(kind, twist, stays);
        assert!(written.tombstones.is_empty());
        let page = written.pages.iter().find(|page| page.directory == b"a");
        let header = page.unwrap().header.as_ref().unwrap();
        assert_ne!(header.flags & FLAG_CARRIED, 0);
        assert!(written.issues[0].reason.contains("is kept"));
        assert_eq!(written.totals.files, 8);
    }
}

#[test]
fn a_directory_that_can_not_be_entered_stays() {
    for kind in [Kind::Incremental, Kind::Differential] {
        let mut inside = false;
        let twist = |event: Event| match &event {
            Event::Enter(directory) if directory.path == b"a/b" => {
                inside = true;
                vec![issue(IssueKind::Unreadable, b"a/b")]
            }
            Event::Leave { path, .. } if path == b"a/b" => {
                inside = false;
                Vec::new()
            }
            _ if inside => Vec::new(),
            _ => vec![event],
        };
        let written = check(kind, twist, |path| path.starts_with(b"a/b"));
        assert_eq!(written.tombstones, [b"a\0f"]);
    }
}

#[test]
fn a_file_that_can_not_be_opened_stays() {
    for kind in [Kind::Incremental, Kind::Differential] {
        let twist = |event: Event| match &event {
            Event::Entry(item) if item.path == b"a/one" => {
                vec![issue(IssueKind::Unreadable, b"a/one")]
            }
            _ => vec![event],
        };
        check(kind, twist, |path| path == b"a/one");
    }
}

#[test]
fn what_was_not_visited_of_a_directory_that_moved_stays() {
    let mut over = false;
    let twist = |event: Event| match &event {
        Event::Entry(item) if item.path == b"a/one" => {
            over = true;
            let lost = issue(IssueKind::UnreadableDirectory, b"a");
            vec![event, lost]
        }
        Event::Leave { path, names, .. } if path == b"a" => {
            over = false;
            vec![Event::Leave {
                path: path.clone(),
                complete: false,
                names: Arc::clone(names),
            }]
        }
        _ if over => Vec::new(),
        _ => vec![event],
    };
    // Of what its listing has not, it is known that it is gone.
    let stays = |path: &[u8]| path.starts_with(b"a/b") || path.starts_with(b"a/d");
    check(Kind::Incremental, twist, stays);
}

#[test]
fn a_file_system_that_is_not_mounted_stays() {
    let folder = tempfile::tempdir().unwrap();
    let top = folder.path();
    build(top);
    let mut catalog = Catalog::default();
    let mounted = |event: Event| match event {
        Event::Enter(mut directory) if directory.path == b"e" => {
            directory.device += 1;
            vec![Event::Enter(directory)]
        }
        event => vec![event],
    };
    let first = catalog.run_twisted(Kind::Full, top, mounted);
    let page = first.pages.iter().find(|page| page.directory == b"e");
    let header = page.unwrap().header.as_ref().unwrap();
    assert_ne!(header.flags & FLAG_MOUNTED, 0);
    let before = catalog.tree(1);
    for version in 2..4 {
        let twist = |event: Event| match event {
            Event::Enter(mut directory) if directory.path == b"e" => {
                directory.names = Arc::new(Names::default());
                directory.meta.inode += 1;
                vec![Event::Enter(directory)]
            }
            Event::Entry(item) if item.path == b"e/six" => Vec::new(),
            event => vec![event],
        };
        let written = catalog.run_twisted(Kind::Incremental, top, twist);
        assert!(written.tombstones.is_empty() && written.stored.is_empty());
        assert_eq!(written.issues.len(), 1, "{:?}", written.issues);
        assert_same(&before, &catalog.tree(version), "without it");
        assert_eq!(written.rows.len(), usize::from(version == 2));
    }
    // Mounted again it is as it was; somebody's new files would be taken for what they are.
    let written = catalog.run_twisted(Kind::Incremental, top, mounted);
    assert!(written.issues.is_empty() && written.stored.is_empty());
    fs::remove_file(top.join("e/six")).unwrap();
    fs::write(top.join("e/other"), "other").unwrap();
    catalog.run(Kind::Incremental, top);
    assert_same(&on_disk(top), &catalog.tree(5), "another use");
}

#[test]
fn chosen_names_that_can_not_be_looked_at_stay_whatever_they_are() {
    for kind in [Kind::Incremental, Kind::Differential] {
        let unseen: [&[u8]; 3] = [b"b", b"new", b"one"];
        let below = |path: &[u8]| {
            let name = path.strip_prefix(b"a/").unwrap_or_default();
            unseen[..]
                .iter()
                .any(|unseen| name == *unseen || name.starts_with(&[unseen, &b"/"[..]].concat()))
        };
        let twist = |event: Event| {
            let path = match &event {
                Event::Enter(directory) => &directory.path,
                Event::Entry(item) => &item.path,
                Event::Leave { path, .. } => path,
                Event::Issue(issue) => &issue.path,
            };
            if below(path) {
                return Vec::new();
            }
            let Event::Enter(mut directory) = event else {
                return vec![event];
            };
            let mut events = Vec::new();
            if directory.path == b"a" {
                let all: Vec<_> = directory.names.iter().map(Result::unwrap).collect();
                let seen = all.iter().map(|(name, kind)| (&**name, *kind));
                let seen = seen.filter(|(name, _)| !unseen.contains(name));
                directory.names = Arc::new(seen.collect());
                directory.unseen = unseen.map(<[u8]>::to_vec).to_vec();
                let paths = unseen.map(|name| [b"a/", name].concat());
                events.extend(paths.map(|path| issue(IssueKind::Unreadable, &path)));
            }
            events.insert(0, Event::Enter(directory));
            events
        };
        let written = check(kind, twist, below);
        let kept = |path: &[u8]| {
            let mut issues = written.issues.iter();
            issues.any(|issue| issue.path == path && issue.reason.contains("is kept"))
        };
        assert!(kept(b"a/b") && kept(b"a/one"));
        assert!(!kept(b"a/new"), "the version before has nothing of it");
    }
}
