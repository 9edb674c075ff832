//! Versions that build on others, on a whole system: every instant comes back as it was, an unchanged tree costs nothing, and
//! what a source drops is gone from its next version only.
//!
//! `TAF_VERSION_SEEDS` random courses are played, two if it is not set.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../../source-agent/tests/catalog/edit.rs"]
mod edit;

use std::fs;
use std::path::{Path, PathBuf};

use edit::Editor;
use taf_tests::said::{number, objects};
use taf_tests::system::{Options, System};
use taf_tests::trees::{self, ensure_equal};

const CARTRIDGE: &str = "TAF001L8";

fn system() -> System {
    let system = System::start(Options {
        drives: 1,
        ..Options::default()
    })
    .unwrap();
    system.label(CARTRIDGE, "default").unwrap();
    system
}

fn run(system: &System, plan: &str, kind: &str) {
    system
        .taf(&["run", plan, "--type", kind])
        .unwrap()
        .expect(0)
        .unwrap();
}

/// A copy of the tree as it is now, hard links and times included.
fn keep(tree: &Path, copies: &Path, name: &str) -> PathBuf {
    let copy = copies.join(name);
    trees::copy(tree, &copy).unwrap();
    copy
}

/// Tape files of the cartridge.
fn tape_files(system: &System) -> u64 {
    let volume = system.json(&["volume", "show", CARTRIDGE]).unwrap();
    objects(&volume, "number").len() as u64
}

/// Five versions, edits before each; each is restored by its number and equals the copy that was made then.
fn course(system: &System, seed: u64) {
    println!("seed {seed}");
    let plan = format!("course-{seed}");
    let tree = system.data().join(&plan);
    let copies = system.home().join(format!("copies-{seed}"));
    fs::create_dir(&tree).unwrap();
    fs::create_dir(&copies).unwrap();
    system.plan(&plan, &tree, "default").unwrap();
    let mut editor = Editor::new(&tree, seed);
    editor.edit(60);
    let mut kept = Vec::new();
    for (index, kind) in [
        "full",
        "incremental",
        "incremental",
        "differential",
        "incremental",
    ]
    .into_iter()
    .enumerate()
    {
        if index > 0 {
            let times = 1 + editor.below(12);
            editor.edit(times);
        }
        kept.push(keep(&tree, &copies, &index.to_string()));
        run(system, &plan, kind);
    }
    for (index, copy) in kept.iter().enumerate() {
        let version = format!("{plan}@{}", index + 1);
        let into = format!("{plan}-{index}");
        let restored = system.restore(&version, &[], &into, &tree).unwrap();
        ensure_equal(copy, &restored).unwrap_or_else(|error| panic!("{version}: {error}"));
    }
}

#[test]
fn every_instant_comes_back_as_it_was() {
    let system = system();
    let seeds: u64 = std::env::var("TAF_VERSION_SEEDS")
        .ok()
        .map_or(2, |seeds| seeds.parse().unwrap());
    for seed in 0..seeds {
        course(&system, seed);
    }
}

/// Sets when a file or directory was modified: long ago.
fn age(path: &Path) {
    let file = fs::File::open(path).unwrap();
    file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_hours(1))
        .unwrap();
}

#[test]
fn what_tells_a_change_is_the_sources_choice() {
    let system = system();
    let tree = system.data().join("tree");
    let file = tree.join("file");
    fs::create_dir(&tree).unwrap();
    let write = |content: &str| {
        fs::write(&file, content).unwrap();
        age(&file);
    };
    // Another inode with the same content and times.
    let replace = || {
        let copy = tree.join("copy");
        fs::copy(&file, &copy).unwrap();
        age(&copy);
        let (old, new) = (file.metadata().unwrap(), copy.metadata().unwrap());
        let times = fs::FileTimes::new().set_modified(old.modified().unwrap());
        fs::File::open(&copy).unwrap().set_times(times).unwrap();
        assert_ne!(
            std::os::unix::fs::MetadataExt::ino(&old),
            std::os::unix::fs::MetadataExt::ino(&new)
        );
        fs::rename(&copy, &file).unwrap();
    };
    let past = std::time::SystemTime::now() - std::time::Duration::from_hours(2);
    // The directory's own time is no matter of this test.
    let still = || fs::File::open(&tree).unwrap().set_modified(past).unwrap();
    let update = |option: &str| {
        let said = system.taf(&["source", "update", "odd", option]).unwrap();
        said.expect(0).unwrap();
    };
    // Whether an incremental finds something to store.
    let finds = || {
        still();
        let before = tape_files(&system);
        run(&system, "odd", "incremental");
        tape_files(&system) > before
    };

    write("aaaa");
    still();
    system.plan("odd", &tree, "default").unwrap();
    run(&system, "odd", "full");
    assert!(finds(), "ctime is near to the time of reading");
    fs::set_permissions(&file, file.metadata().unwrap().permissions()).unwrap();
    assert!(finds(), "ctime differs");
    update("--ignore-ctime");
    fs::set_permissions(&file, file.metadata().unwrap().permissions()).unwrap();
    assert!(!finds(), "ctime differs and says nothing");
    replace();
    assert!(finds(), "the inode differs");
    update("--ignore-inode");
    replace();
    assert!(!finds(), "the inode differs and says nothing");
    let modified = file.metadata().unwrap().modified().unwrap();
    fs::write(&file, "bbbb").unwrap();
    let opened = fs::File::options().write(true).open(&file).unwrap();
    opened.set_modified(modified).unwrap();
    assert!(!finds(), "only the content differs");
    update("--always-compare");
    assert!(finds(), "the content is compared");
    let restored = system.restore("odd", &[], "now", &tree).unwrap();
    assert_eq!(fs::read(restored.join("file")).unwrap(), b"bbbb");
}

#[test]
fn a_preview_says_what_a_run_takes_and_which_word_leaves_out_the_rest() {
    let system = system();
    let tree = system.data().join("tree");
    for folder in ["a/\u{1b}[2J", "marked", "cache", "out"] {
        fs::create_dir_all(tree.join(folder)).unwrap();
    }
    let files = [
        ("a/one", 10),
        ("a/two.tmp", 20),
        ("a/\u{1b}[2J/keep.tmp", 30),
        ("a/large", 5000),
        ("marked/.nobackup", 0),
        ("marked/x", 1),
        ("marked/y", 1),
        ("cache/data", 100),
        ("out/z", 1),
    ];
    for (name, size) in files {
        fs::write(tree.join(name), vec![b'x'; size]).unwrap();
    }
    let tag = "Signature: 8a477f597d28d172789f06886806bc55\n";
    fs::write(tree.join("cache/CACHEDIR.TAG"), tag).unwrap();
    fs::hard_link(tree.join("a/one"), tree.join("a/other name")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(tree.join("a/socket")).unwrap();
    let (top, out) = (tree.display().to_string(), tree.join("out"));
    let create = [
        "source",
        "create",
        "picky",
        "--agent",
        taf_tests::system::SOURCE_AGENT,
        &top,
        "--exclude",
        out.to_str().unwrap(),
        "--rule",
        "*.tmp",
        "--rule",
        "!keep.tmp",
        "--marker",
        ".nobackup",
        "--exclude-caches",
        "--max-size",
        "1KiB",
    ];
    system.taf(&create).unwrap().expect(0).unwrap();

    let lines = system
        .json(&["source", "preview", "picky", "--all"])
        .unwrap();
    let mut lines = lines.as_array().unwrap().clone();
    let summary = lines.pop().unwrap()["summary"].clone();
    let left_out: std::collections::BTreeMap<String, String> = lines
        .iter()
        .filter(|item| item["left_out"] != "LEFT_OUT_REASON_UNSPECIFIED")
        .map(|item| {
            let path = item["path"]["display"].as_str().unwrap();
            let reason = item["left_out"].as_str().unwrap();
            let reason = reason.trim_start_matches("LEFT_OUT_REASON_").to_owned();
            (path.trim_start_matches(&top).to_owned(), reason)
        })
        .collect();
    let expected = [
        ("/a/large", "TOO_LARGE"),
        ("/a/socket", "UNSUPPORTED"),
        ("/a/two.tmp", "RULE"),
        ("/cache", "CACHE_TAG"),
        ("/marked", "MARKER"),
        ("/out", "EXCLUDED_PATH"),
    ]
    .map(|(path, reason)| (path.to_owned(), reason.to_owned()));
    assert_eq!(left_out, std::collections::BTreeMap::from(expected));
    let taken = lines.len() - left_out.len();
    let sums = summary["left_out"].as_array().unwrap();
    let of = |word: &str| sums.iter().find(|sum| sum["word"] == word).unwrap();
    assert_eq!(number(&of("*.tmp")["byte_count"]), 20);
    assert_eq!(number(&of(".nobackup")["count"]), 2);

    // Nothing of it acts on a terminal, and what is not wanted is not there.
    let said = system.taf(&["source", "preview", "picky", "--left-out"]);
    let text = String::from_utf8(said.unwrap().expect(0).unwrap().stdout).unwrap();
    assert_eq!(text.lines().count(), 6, "{text}");
    assert!(text.contains("two.tmp  (rule *.tmp)"), "{text}");
    let said = system.taf(&["source", "preview", "picky", "--all", "--limit", "3"]);
    let said = said.unwrap().expect(0).unwrap();
    let text = String::from_utf8(said.stdout).unwrap();
    assert!(!text.contains('\u{1b}'), "{text}");
    assert!(said.stderr.contains("not listed"), "{}", said.stderr);

    // A run does what was said.
    let plan = [
        "plan", "create", "picky", "--source", "picky", "--pool", "default",
    ];
    system.taf(&plan).unwrap().expect(0).unwrap();
    system.taf(&["run", "picky"]).unwrap().expect(3).unwrap();
    let list = system.json(&["versions", "--plan", "picky"]).unwrap();
    let version = objects(&list, "number")[0].clone();
    for count in ["file_count", "directory_count", "byte_count"] {
        assert_eq!(version[count], summary[count], "{count}");
    }
    let counted = number(&summary["file_count"]) + number(&summary["directory_count"]);
    assert_eq!(counted, taken as u64);

    // What a run would refuse is refused in the same words.
    let update = ["source", "update", "picky", "/etc", "--drop", "excludes"];
    system.taf(&update).unwrap().expect(0).unwrap();
    let said = system.taf(&["source", "preview", "picky"]).unwrap();
    let said = said.expect(1).unwrap();
    assert!(said.stderr.contains("PATH_NOT_ALLOWED"), "{}", said.stderr);
    assert!(said.stderr.contains("next: add it to"), "{}", said.stderr);
}

#[test]
fn an_unchanged_tree_costs_no_tape_and_a_rule_drops_what_it_matches() {
    let system = system();
    let tree = system.data().join("tree");
    fs::create_dir_all(tree.join("sub")).unwrap();
    for name in ["a.txt", "b.tmp", "sub/c.tmp", "sub/d"] {
        fs::write(tree.join(name), name).unwrap();
    }
    // Old enough that nobody needs to look into them again.
    let past = std::time::SystemTime::now() - std::time::Duration::from_hours(1);
    for name in ["a.txt", "b.tmp", "sub/c.tmp", "sub/d"] {
        let file = fs::File::options()
            .write(true)
            .open(tree.join(name))
            .unwrap();
        file.set_modified(past).unwrap();
    }
    system.plan("daily", &tree, "default").unwrap();
    // The first of the type that is asked for has nothing to build on, and says so.
    let said = system
        .taf(&["run", "daily", "--type", "incremental"])
        .unwrap();
    assert!(said.stderr.contains("full"), "{}", said.stderr);
    said.expect(0).unwrap();
    run(&system, "daily", "incremental");
    let before = tape_files(&system);
    run(&system, "daily", "incremental");
    assert_eq!(tape_files(&system), before, "nothing new is on tape");

    system
        .taf(&["source", "update", "daily", "--rule", "*.tmp"])
        .unwrap()
        .expect(0)
        .unwrap();
    let update = ["plan", "update", "daily", "--type", "incremental"];
    system.taf(&update).unwrap().expect(0).unwrap();
    system.taf(&["run", "daily"]).unwrap().expect(0).unwrap();
    let list = system.json(&["versions", "--plan", "daily"]).unwrap();
    let counts: Vec<u64> = objects(&list, "number")
        .into_iter()
        .map(|version| number(&version["file_count"]))
        .collect();
    assert_eq!(counts, [2, 4, 4, 4], "newest first");
    let newest = objects(&list, "number")[0]["type"].clone();
    assert_eq!(newest, "VERSION_TYPE_INCREMENTAL", "the plan's new type");
    let restored = system.restore("daily", &[], "now", &tree).unwrap();
    assert!(restored.join("a.txt").exists() && !restored.join("b.tmp").exists());
    let restored = system.restore("daily@3", &[], "then", &tree).unwrap();
    ensure_equal(&tree, &restored).unwrap();
}
