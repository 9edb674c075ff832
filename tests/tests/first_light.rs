//! One real backup and one real restore, end to end, by every road that leads back: TAF, the standard tools, and TAF
//! with nothing but the cartridge.
#![allow(clippy::unwrap_used, missing_docs)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use taf_tests::said::{number, objects};
use taf_tests::system::{Options, System, below};
use taf_tests::trees::{differences, ensure_equal};
use taf_tests::{again, nasty};

const CARTRIDGE: &str = "TAF001L8";
const PLAN: &str = "nasty";

/// A system with the nasty tree, a labelled cartridge and a plan.
struct Scene {
    system: System,
    tree: PathBuf,
}

impl Scene {
    fn set() -> Self {
        let seed = 7;
        println!("seed {seed}");
        let system = System::start(Options::default()).unwrap();
        let tree = system.data().join("tree");
        fs::create_dir(&tree).unwrap();
        nasty::build(&tree, seed, nix::unistd::geteuid().is_root()).unwrap();
        system.label(CARTRIDGE, "default").unwrap();
        system.plan(PLAN, &tree, "default").unwrap();
        Self { system, tree }
    }

    fn back_up(&self) {
        self.system.taf(&["run", PLAN]).unwrap().expect(0).unwrap();
    }

    fn path(&self, below: &str) -> String {
        self.tree.join(below).display().to_string()
    }

    /// Numbers of the tape files that hold parts of this version, in order.
    fn tape_files(&self, version: &str) -> Vec<u64> {
        let volume = self.system.json(&["volume", "show", CARTRIDGE]).unwrap();
        let files = objects(&volume, "number").into_iter();
        let mut numbers: Vec<u64> = files
            .filter(|file| file["kind"] == "part" && file["version"] == version)
            .map(|file| number(&file["number"]))
            .collect();
        numbers.sort_unstable();
        assert!(!numbers.is_empty(), "{volume}");
        numbers
    }

    /// What `ls` says of a directory is what is in it.
    fn list_agrees(&self, directory: &Path) {
        let list = self
            .system
            .json(&["ls", PLAN, &directory.display().to_string()])
            .unwrap();
        let there = fs::read_dir(directory).unwrap().count();
        assert_eq!(objects(&list, "kind").len(), there, "{list}");
    }

    fn restore_whole(&self, version: &str, into: &str) {
        let restored = self.system.restore(version, &[], into, &self.tree).unwrap();
        ensure_equal(&self.tree, &restored).unwrap();
    }

    /// The second name of a hard link alone gives the content, though the first carries the bytes.
    fn restore_second_name_of_hard_link(&self) {
        let name = nasty::HARD_LINKS[1];
        let restored = self
            .system
            .restore(PLAN, &[&self.path(name)], "link", &self.tree)
            .unwrap();
        assert_eq!(files_below(&restored), BTreeSet::from([name.into()]));
        assert_eq!(
            fs::read(restored.join(name)).unwrap(),
            fs::read(self.tree.join(name)).unwrap()
        );
    }

    /// Chosen paths bring what is below them and nothing else.
    fn restore_chosen_paths(&self) {
        let paths = [self.path("sparse"), self.path("dates/1942")];
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        let restored = self
            .system
            .restore(PLAN, &paths, "chosen", &self.tree)
            .unwrap();
        ensure_equal(&self.tree.join("sparse"), &restored.join("sparse")).unwrap();
        let mut expected: BTreeSet<PathBuf> = files_below(&self.tree.join("sparse"))
            .into_iter()
            .map(|file| Path::new("sparse").join(file))
            .collect();
        expected.insert("dates/1942".into());
        assert_eq!(files_below(&restored), expected);
    }

    /// `tape cat` into the filter that block 0 prints, while the emulator runs.
    fn standard_tools(&self, version: &str) {
        let cartridge = self.system.cartridge(CARTRIDGE).display().to_string();
        let folder = self.system.restored("tools").unwrap();
        let files = self.tape_files(version);
        let cat = |file: u64| format!("taf tape cat '{cartridge}' {file}");
        let block0 = self
            .system
            .shell(
                &folder,
                &format!("{} > ../part; head -c 60000 ../part", cat(files[0])),
            )
            .unwrap()
            .expect(0)
            .unwrap();
        // A line by itself, up to the padding.
        let text = block0.text();
        let filter = text
            .lines()
            .find_map(|line| line.strip_prefix("Filter: "))
            .unwrap_or_else(|| panic!("block 0 has no filter: {text}"));
        println!("block 0 says: {filter}");
        let cats: Vec<String> = files.iter().map(|file| cat(*file)).collect();
        let said = self
            .system
            .shell(&folder, &format!("({}) | {filter}", cats.join("; ")))
            .unwrap();
        println!("{}", said.stderr);
        let found = differences(&self.tree, &below(&folder, &self.tree)).unwrap();
        if nix::unistd::geteuid().is_root() {
            said.expect(0).unwrap();
            assert_eq!(found, Vec::<String>::new());
        } else {
            // GNU tar can't give attributes to a file that its owner may not write, unless it is root.
            said.expect(2).unwrap();
            assert!(
                found
                    .iter()
                    .all(|line| line.starts_with("attributes/read-only: ")),
                "{found:#?}"
            );
        }
    }

    /// No database, no controller, no agent state: only the cartridge.
    fn extract_with_cartridge_alone(&mut self) {
        self.system.forget_everything().unwrap();
        let cartridge = self.system.cartridge(CARTRIDGE).display().to_string();
        let folder = self.system.restored("extracted").unwrap();
        let to = folder.display().to_string();
        self.system
            .taf(&["tape", "extract", &cartridge, "--to", &to])
            .unwrap()
            .expect(0)
            .unwrap();
        ensure_equal(&self.tree, &below(&folder, &self.tree)).unwrap();
    }
}

/// Names of all that is not a directory, relative.
fn files_below(top: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut open = vec![top.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            } else {
                found.insert(entry.path().strip_prefix(top).unwrap().to_owned());
            }
        }
    }
    found
}

#[test]
fn a_nasty_tree_comes_back_by_every_road() {
    let mut scene = Scene::set();
    scene.back_up();
    assert_eq!(scene.system.versions(PLAN).unwrap().len(), 1);
    scene.list_agrees(&scene.tree);
    scene.list_agrees(&scene.tree.join("sizes"));
    scene.restore_whole(PLAN, "first");

    fs::write(scene.tree.join("new in the second version"), "here").unwrap();
    scene.back_up();
    let versions = scene.system.versions(PLAN).unwrap();
    assert_eq!(versions.len(), 2);
    scene.restore_whole(&versions[0], "second");
    let first = scene
        .system
        .restore(&versions[1], &[&scene.path("dates")], "older", &scene.tree)
        .unwrap();
    ensure_equal(&scene.tree.join("dates"), &first.join("dates")).unwrap();

    scene.restore_second_name_of_hard_link();
    scene.restore_chosen_paths();
    scene.standard_tools(&versions[0]);
    scene.extract_with_cartridge_alone();
}

/// Paths that stock tools can't make, and files of every boundary size in small parts.
#[test]
fn paths_beyond_path_max_come_back() {
    let system = System::start(Options::default()).unwrap();
    let tree = system.data().join("deep");
    fs::create_dir(&tree).unwrap();
    let length = nasty::build_beyond_path_max(&tree).unwrap();
    assert!(length > 4096);
    assert!(tree.as_os_str().as_bytes().len() < 100);
    system.label(CARTRIDGE, "default").unwrap();
    system.plan("deep", &tree, "default").unwrap();
    system.taf(&["run", "deep"]).unwrap().expect(0).unwrap();
    let restored = system.restore("deep", &[], "deep", &tree).unwrap();
    ensure_equal(&tree, &restored).unwrap();
}

#[test]
fn an_ordinary_user_gets_it_all_back_too() {
    again::as_user("a_nasty_tree_comes_back_by_every_road").unwrap();
}
