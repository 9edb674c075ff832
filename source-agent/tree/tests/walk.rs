//! The walk: its order, its bounds, and what it says when something is wrong.
#![allow(clippy::unwrap_used, missing_docs)]

#[allow(dead_code)]
mod copying;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;

use copying::{again_as_user, open, walk};
use proptest::prelude::*;
use taf_format::entry::{Extent, Kind};
use taf_tree::walk::{Candidate, Listing, Options};
use taf_tree::{Event, IssueKind, Walk};

/// A directory of the model: files and subdirectories.
#[derive(Debug, Clone, Default)]
struct Node {
    files: BTreeSet<Vec<u8>>,
    directories: BTreeMap<Vec<u8>, Node>,
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        Just(b'a'),
        Just(b'b'),
        Just(b'.'),
        Just(b'-'),
        Just(b'\n'),
        Just(0xff),
        Just(b'0'),
        Just(b' ')
    ];
    proptest::collection::vec(byte, 1..6).prop_filter("dots", |name| name != b"." && name != b"..")
}

fn tree() -> impl Strategy<Value = Node> {
    let leaf = proptest::collection::btree_set(name(), 0..5).prop_map(|files| Node {
        files,
        directories: BTreeMap::new(),
    });
    leaf.prop_recursive(4, 30, 4, |inner| {
        (
            proptest::collection::btree_set(name(), 0..4),
            proptest::collection::btree_map(name(), inner, 0..4),
        )
            .prop_map(|(files, directories)| Node {
                files: files
                    .into_iter()
                    .filter(|name| !directories.contains_key(name))
                    .collect(),
                directories,
            })
    })
}

fn at(directory: &Path, name: &[u8]) -> std::path::PathBuf {
    directory.join(std::ffi::OsStr::from_bytes(name))
}

fn build(node: &Node, directory: &Path) {
    for name in &node.files {
        fs::write(at(directory, name), name).unwrap();
    }
    for (name, child) in &node.directories {
        let child_directory = at(directory, name);
        fs::create_dir(&child_directory).unwrap();
        build(child, &child_directory);
    }
}

fn expected(node: &Node, path: &[u8], out: &mut Vec<(char, Vec<u8>)>) {
    let join = |name: &[u8]| {
        if path.is_empty() {
            name.to_vec()
        } else {
            [path, b"/", name].concat()
        }
    };
    out.push(('>', path.to_vec()));
    out.extend(node.files.iter().map(|name| ('-', join(name))));
    for (name, child) in &node.directories {
        expected(child, &join(name), out);
    }
    out.push(('<', path.to_vec()));
}

fn steps(walk: Walk) -> Vec<(char, Vec<u8>)> {
    walk.map(|event| match event {
        Event::Enter(directory) => ('>', directory.path),
        Event::Entry(item) => ('-', item.path),
        Event::Leave { path, .. } => ('<', path),
        Event::Issue(issue) => ('!', issue.path),
    })
    .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn any_tree_is_walked_in_catalog_order(tree in tree()) {
        let folder = tempfile::tempdir().unwrap();
        build(&tree, folder.path());
        let mut order = Vec::new();
        expected(&tree, b"", &mut order);
        prop_assert_eq!(steps(walk(folder.path())), order);
        prop_assert_eq!(copying::differences(folder.path(), folder.path()), Vec::<String>::new());
    }
}

#[test]
fn chosen_paths_bring_their_ancestors_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let top = folder.path();
    fs::create_dir_all(top.join("a/b/c")).unwrap();
    fs::create_dir_all(top.join("a/x")).unwrap();
    fs::write(top.join("a/b/c/f"), "1").unwrap();
    fs::write(top.join("a/other"), "1").unwrap();
    fs::write(top.join("z"), "1").unwrap();
    std::os::unix::fs::symlink("a", top.join("link")).unwrap();
    let roots =
        ["/a/b/", "/a/b/c", "//z", "/nowhere/x", "/link/b"].map(|root| root.as_bytes().to_vec());
    let mut issues = Vec::new();
    let mut seen = Vec::new();
    for event in Walk::beneath(open(top), Options::new(roots.to_vec())).unwrap() {
        match event {
            Event::Enter(directory) => {
                let listing = if directory.path.starts_with(b"a/b") {
                    Listing::Complete
                } else {
                    Listing::Chosen
                };
                assert_eq!(directory.listing, listing);
                seen.push(directory.path);
            }
            Event::Entry(item) => seen.push(item.path),
            Event::Leave { complete, .. } => assert!(complete),
            Event::Issue(issue) => issues.push((issue.path, issue.kind)),
        }
    }
    let wanted: Vec<Vec<u8>> = ["", "link", "z", "a", "a/b", "a/b/c", "a/b/c/f"]
        .map(|path| path.as_bytes().to_vec())
        .to_vec();
    assert_eq!(seen, wanted);
    issues.sort();
    let wanted = [
        (b"link".to_vec(), IssueKind::Unreadable),
        (b"nowhere".to_vec(), IssueKind::Vanished),
    ];
    assert_eq!(issues, wanted);
}

#[test]
fn roots_must_be_absolute_and_plain() {
    let folder = tempfile::tempdir().unwrap();
    for root in ["", "a", "/a/..", "/./a", "/a\0"] {
        let options = Options::new(vec![root.as_bytes().to_vec()]);
        assert!(
            Walk::beneath(open(folder.path()), options).is_err(),
            "{root:?}"
        );
    }
    assert!(Walk::beneath(open(folder.path()), Options::new(Vec::new())).is_err());
}

#[test]
fn what_is_excluded_by_identity_is_in_no_listing() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("keep")).unwrap();
    fs::create_dir_all(folder.path().join("home/deep")).unwrap();
    fs::write(folder.path().join("secret"), "1").unwrap();
    let home = fs::metadata(folder.path().join("home")).unwrap();
    let (device, inode) = (home.dev(), home.ino());
    let mut options = Options::new(vec![b"/".to_vec()]);
    options.exclude = Some(Box::new(move |candidate: &Candidate<'_>| {
        (candidate.device, candidate.inode) == (device, inode) || candidate.path == b"secret"
    }));
    let mut walk = Walk::beneath(open(folder.path()), options).unwrap();
    let Some(Event::Enter(top)) = walk.next() else {
        panic!("no top")
    };
    let names: Vec<_> = top.names.iter().map(Result::unwrap).collect();
    assert_eq!(names, [((&b"keep"[..]).into(), Kind::Directory)]);
    assert_eq!(steps(walk).len(), 3);
}

#[test]
fn names_beyond_the_limit_go_to_disk_and_come_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let disk = tempfile::tempdir().unwrap();
    for number in 0..700_u32 {
        let name = format!("{:03}", number * 389 % 700);
        if number % 3 == 0 {
            fs::create_dir(folder.path().join(&name)).unwrap();
            fs::write(folder.path().join(name).join("in"), "").unwrap();
        } else {
            fs::write(folder.path().join(name), "").unwrap();
        }
    }
    let known = steps(walk(folder.path()));
    assert!(known.len() > 900);
    for limit in [1, 64, 699] {
        let options = Options {
            max_names: limit,
            spill: Some(disk.path().to_owned()),
            ..Options::new(vec![b"/".to_vec()])
        };
        let walk = Walk::beneath(open(folder.path()), options).unwrap();
        assert_eq!(steps(walk), known, "{limit} in memory");
    }
    assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 0);
    // Without a place for them the directory is cut, and says so.
    let options = Options {
        max_names: 100,
        ..Options::new(vec![b"/".to_vec()])
    };
    let cut = Walk::beneath(open(folder.path()), options).unwrap();
    let cut: Vec<_> = cut.collect();
    let said = cut.iter().any(|event| matches!(event, Event::Issue(issue) if issue.reason.contains("more than 100 names")));
    let left = cut.iter().any(
        |event| matches!(event, Event::Leave { path, complete: false, .. } if path.is_empty()),
    );
    assert!(said && left);
}

#[test]
fn a_thousand_levels_take_few_descriptors() {
    let folder = tempfile::tempdir().unwrap();
    make_deep(folder.path(), 1000, 40);
    let before = fs::read_dir("/proc/self/fd").unwrap().count();
    let mut walk = walk(folder.path());
    let (mut deepest, mut files, mut most) = (0, 0, 0);
    while let Some(event) = walk.next() {
        match event {
            Event::Enter(directory) => {
                deepest = deepest.max(directory.path.len());
                // Other tests of this process open files too, so this is a wide bound.
                most = most.max(
                    fs::read_dir("/proc/self/fd")
                        .unwrap()
                        .count()
                        .saturating_sub(before),
                );
            }
            Event::Entry(_) => files += 1,
            Event::Leave { complete, .. } => assert!(complete),
            Event::Issue(issue) => panic!("{issue:?}"),
        }
    }
    assert_eq!(deepest, 1000 * 41 - 1);
    // Files in the directory visited after each return, too.
    assert_eq!(files, 2000);
    assert!(most < 200, "{most} descriptors");
}

/// Directories below each other, each with a file and a sibling directory that is walked on the way back.
fn make_deep(top: &Path, levels: usize, length: usize) {
    use rustix::fs::{Mode, OFlags, mkdirat, openat};
    let mut at = open(top);
    let mode = Mode::from_raw_mode(0o755);
    for _ in 0..levels {
        let name = vec![b'm'; length];
        let create = |directory: &std::os::fd::OwnedFd| {
            openat(
                directory,
                "file",
                OFlags::CREATE | OFlags::WRONLY,
                Mode::from_raw_mode(0o644),
            )
            .unwrap()
        };
        create(&at);
        mkdirat(&at, "z", mode).unwrap();
        create(&openat(&at, "z", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap());
        mkdirat(&at, &name[..], mode).unwrap();
        at = openat(
            &at,
            &name[..],
            OFlags::RDONLY | OFlags::DIRECTORY,
            Mode::empty(),
        )
        .unwrap();
    }
}

#[test]
fn a_directory_that_is_moved_away_is_never_taken_for_complete() {
    let folder = tempfile::tempdir().unwrap();
    make_deep(folder.path(), 100, 5);
    fs::create_dir(folder.path().join("elsewhere")).unwrap();
    let mut incomplete = Vec::new();
    let mut issues = Vec::new();
    for event in walk(folder.path()) {
        match event {
            Event::Enter(directory) if directory.path.len() == 100 * 6 - 1 => {
                // Level 10 is closed by now. Its child goes elsewhere, so neither `..` nor its name leads back.
                let ten = folder.path().join("mmmmm/".repeat(10));
                fs::rename(ten.join("mmmmm"), folder.path().join("elsewhere/moved")).unwrap();
                fs::rename(&ten, folder.path().join("elsewhere/ten")).unwrap();
            }
            Event::Leave {
                path,
                complete: false,
                ..
            } => incomplete.push(path.len()),
            Event::Issue(issue) => issues.push((issue.path.len(), issue.kind)),
            _ => {}
        }
    }
    assert!(!incomplete.is_empty());
    assert_eq!(
        incomplete,
        issues.iter().map(|(length, _)| *length).collect::<Vec<_>>()
    );
    assert!(
        issues
            .iter()
            .all(|(_, kind)| *kind == IssueKind::UnreadableDirectory)
    );
}

#[test]
fn sockets_are_named_and_files_swapped_for_pipes_do_not_hang() {
    let folder = tempfile::tempdir().unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket")).unwrap();
    fs::write(folder.path().join("a"), "1").unwrap();
    fs::write(folder.path().join("b"), "1").unwrap();
    fs::write(folder.path().join("c"), "1").unwrap();
    let mut walk = walk(folder.path());
    assert!(matches!(walk.next(), Some(Event::Enter(_))));
    fs::remove_file(folder.path().join("a")).unwrap();
    fs::remove_file(folder.path().join("b")).unwrap();
    fs::remove_file(folder.path().join("c")).unwrap();
    rustix::fs::mknodat(
        open(folder.path()),
        "a",
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o644),
        0,
    )
    .unwrap();
    std::os::unix::fs::symlink("/etc/passwd", folder.path().join("b")).unwrap();
    let issues: Vec<_> = walk
        .filter_map(|event| match event {
            Event::Issue(issue) => Some((issue.path, issue.kind)),
            Event::Entry(item) => panic!("{item:?}"),
            _ => None,
        })
        .collect();
    let wanted = [
        (b"socket".to_vec(), IssueKind::Unsupported),
        (b"a".to_vec(), IssueKind::Changed),
        (b"b".to_vec(), IssueKind::Changed),
        (b"c".to_vec(), IssueKind::Vanished),
    ];
    assert_eq!(issues, wanted);
}

#[test]
fn unreadable_is_not_empty() {
    if again_as_user("unreadable_is_not_empty") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (name, mode) in [
        ("closed", 0o000),
        ("unsearchable", 0o400),
        ("passable", 0o100),
    ] {
        let directory = folder.path().join(name);
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("f"), "1").unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::write(folder.path().join("file"), "1").unwrap();
    fs::set_permissions(
        folder.path().join("file"),
        fs::Permissions::from_mode(0o000),
    )
    .unwrap();
    let (mut listings, mut issues) = (Vec::new(), Vec::new());
    for event in walk(folder.path()) {
        match event {
            Event::Enter(directory) => listings.push((directory.path, directory.listing)),
            Event::Entry(item) => panic!("{item:?}"),
            Event::Leave { .. } => {}
            Event::Issue(issue) => issues.push((issue.path, issue.kind)),
        }
    }
    let path = |path: &str| path.as_bytes().to_vec();
    let unknown = |name: &str| (path(name), Listing::Incomplete);
    assert_eq!(listings[0], (path(""), Listing::Complete));
    assert_eq!(
        listings[1..],
        [
            unknown("closed"),
            unknown("passable"),
            (path("unsearchable"), Listing::Complete)
        ]
    );
    assert!(issues.contains(&(path("closed"), IssueKind::UnreadableDirectory)));
    assert!(issues.contains(&(path("passable"), IssueKind::UnreadableDirectory)));
    assert!(issues.contains(&(path("unsearchable/f"), IssueKind::Unreadable)));
    assert!(issues.contains(&(path("file"), IssueKind::Unreadable)));

    // What is chosen is reached through a directory that can only be passed.
    let options = Options::new(vec![b"/passable/f".to_vec()]);
    let seen = steps(Walk::beneath(open(folder.path()), options).unwrap());
    assert!(seen.contains(&('-', path("passable/f"))), "{seen:?}");
    for name in ["closed", "unsearchable", "passable"] {
        fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(0o700)).unwrap();
    }
}

#[test]
fn a_file_that_changes_under_the_reader_keeps_its_promise() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f");
    let read = |change: &dyn Fn()| {
        fs::write(&path, vec![7; 100_000]).unwrap();
        let file = walk(folder.path()).find_map(|event| match event {
            Event::Entry(item) => item.file,
            _ => None,
        });
        let mut reader = file.unwrap().into_reader(None);
        let mut buffer = vec![1; 200_000];
        assert_eq!(reader.read(&mut buffer[..1000]), 1000);
        change();
        assert_eq!(reader.read(&mut buffer[1000..]), 99_000);
        assert_eq!(reader.read(&mut buffer), 0);
        reader.finish().map(|fault| fault.kind)
    };
    let reopened = || fs::OpenOptions::new().write(true).open(&path).unwrap();
    assert_eq!(read(&|| {}), None);
    assert_eq!(
        read(&|| reopened().set_len(50_000).unwrap()),
        Some(IssueKind::Shrunk)
    );
    assert_eq!(
        read(&|| reopened().set_len(150_000).unwrap()),
        Some(IssueKind::Grown)
    );
    assert_eq!(
        read(&|| reopened()
            .set_times(fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH))
            .unwrap()),
        Some(IssueKind::Changed)
    );
}

#[test]
fn sparse_maps_name_the_runs_of_data() {
    let folder = tempfile::tempdir().unwrap();
    let extents = |write: &dyn Fn(&fs::File)| {
        let path = folder.path().join("f");
        let file = fs::File::create(&path).unwrap();
        write(&file);
        let file = walk(folder.path()).find_map(|event| match event {
            Event::Entry(item) => item.file,
            _ => None,
        });
        (
            file.as_ref().unwrap().extents(100).unwrap(),
            file.unwrap().extents(1).unwrap(),
        )
    };
    let hole = |file: &fs::File| file.set_len(1 << 20).unwrap();
    assert_eq!(extents(&hole), (Some(Vec::new()), Some(Vec::new())));
    let two = |file: &fs::File| {
        file.set_len(10 << 20).unwrap();
        file.write_all_at(&[1; 4096], 1 << 20).unwrap();
        file.write_all_at(&[1; 4096], 5 << 20).unwrap();
    };
    let run = |offset| Extent {
        offset,
        length: 4096,
    };
    assert_eq!(
        extents(&two),
        (Some(vec![run(1 << 20), run(5 << 20)]), None)
    );
    assert_eq!(
        extents(&|file| file.write_all_at(&[1; 5000], 0).unwrap()),
        (None, None)
    );
    assert_eq!(extents(&|_| {}), (None, None));
}

#[test]
fn a_chosen_name_that_can_not_be_looked_at_is_told_apart_from_one_that_is_not_there() {
    if again_as_user(
        "a_chosen_name_that_can_not_be_looked_at_is_told_apart_from_one_that_is_not_there",
    ) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let closed = folder.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::write(closed.join("f"), "1").unwrap();
    fs::write(folder.path().join("z"), "1").unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o400)).unwrap();
    let roots = ["/closed/f", "/gone", "/z"].map(|root| root.as_bytes().to_vec());
    let walk = Walk::beneath(open(folder.path()), Options::new(roots.to_vec())).unwrap();
    let (mut unseen, mut issues) = (Vec::new(), Vec::new());
    for event in walk {
        match event {
            Event::Enter(directory) => unseen.push((directory.path, directory.unseen)),
            Event::Issue(issue) => issues.push((issue.path, issue.kind)),
            Event::Entry(_) | Event::Leave { .. } => {}
        }
    }
    assert_eq!(
        unseen,
        [
            (Vec::new(), Vec::new()),
            (b"closed".to_vec(), vec![b"f".to_vec()]),
        ]
    );
    issues.sort();
    let wanted = [
        (b"closed/f".to_vec(), IssueKind::Unreadable),
        (b"gone".to_vec(), IssueKind::Vanished),
    ];
    assert_eq!(issues, wanted);
}
