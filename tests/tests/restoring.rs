//! Restore as people use it: patterns, lists, moments, other paths, other owners, and what to do with what is there; and that it ends
//! with numbers which are the catalog's.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use taf_tests::said::{Said, number};
use taf_tests::system::{Options, System, below};
use taf_tests::trees::ensure_equal;

struct Scene {
    system: System,
    tree: PathBuf,
}

impl Scene {
    fn set() -> Self {
        let system = System::start(Options {
            drives: 1,
            ..Options::default()
        })
        .unwrap();
        let tree = system.data().join("work");
        for folder in ["letters/old", "letters/new", "pictures"] {
            fs::create_dir_all(tree.join(folder)).unwrap();
        }
        for file in [
            "letters/old/a.odt",
            "letters/old/b.txt",
            "letters/new/c.odt",
            "pictures/d[1].png",
            "pictures/e.png",
        ] {
            fs::write(tree.join(file), format!("content of {file}")).unwrap();
        }
        fs::hard_link(tree.join("pictures/e.png"), tree.join("letters/old/f")).unwrap();
        symlink("a.odt", tree.join("letters/old/link")).unwrap();
        system.label("TAF001L8", "default").unwrap();
        system.plan("work", &tree, "default").unwrap();
        system.taf(&["run", "work"]).unwrap().expect(0).unwrap();
        Self { system, tree }
    }

    fn path(&self, below: &str) -> String {
        self.tree.join(below).display().to_string()
    }

    /// Restores into a folder, with further arguments.
    fn restore(&self, into: &Path, arguments: &[&str]) -> Said {
        let to = into.display().to_string();
        let all = [&["restore", "work", "--to", &to], arguments].concat();
        self.system.taf(&all).unwrap()
    }

    /// The same as JSON: the job.
    fn job(&self, into: &Path, arguments: &[&str]) -> serde_json::Value {
        let said = self.restore(into, &[&["--json"], arguments].concat());
        said.expect(0).unwrap().json().unwrap()
    }

    fn patterns_and_lists(&self) {
        let folder = self.system.restored("patterns").unwrap();
        let letters = self.path("letters/**/*.odt");
        // The name of a file that looks like a pattern means that file.
        let odd = self.path("pictures/d[1].png");
        self.restore(&folder, &[&letters, &odd, "re:/b\\.t.t$"])
            .expect(0)
            .unwrap();
        let restored = below(&folder, &self.tree);
        assert_eq!(
            files(&restored),
            [
                "letters/new/c.odt",
                "letters/old/a.odt",
                "letters/old/b.txt",
                "pictures/d[1].png"
            ]
        );
        let wrong = self.path("letters/*.doc");
        let said = self
            .restore(&folder, &[&letters, &wrong])
            .expect(1)
            .unwrap();
        assert!(said.stderr.contains(&wrong), "{said}");
        assert!(!said.stderr.contains("**"), "{said}");

        let list = self.system.home().join("list");
        let (one, two) = (self.path("pictures/d[1].png"), self.path("letters/old/f"));
        fs::write(&list, format!("{one}\n{two}\n")).unwrap();
        let list = list.display().to_string();
        let folder = self.system.restored("list").unwrap();
        let moment = ["--at", "2100-01-01", "--files-from", &list];
        self.restore(&folder, &moment).expect(0).unwrap();
        let restored = below(&folder, &self.tree);
        assert_eq!(files(&restored), ["letters/old/f", "pictures/d[1].png"]);
        // Lists may be long: more than any other request.
        let long = self.system.home().join("long");
        let lines = (0..100_000).map(|n| format!("/no/such/directory/of/that/name/file-{n:07}\n"));
        fs::write(&long, lines.collect::<String>()).unwrap();
        let long = long.display().to_string();
        let said = self.restore(&folder, &["--files-from", &long]);
        assert!(said.expect(1).unwrap().stderr.contains("has no /no/such/"));
        let before = ["--at", "2001-01-01", "--files-from", &list];
        self.restore(&folder, &before).expect(1).unwrap();
    }

    fn other_paths(&self) {
        let tree = self.tree.display().to_string();
        let folder = self.system.restored("stripped").unwrap();
        let job = self.job(&folder, &["--strip-prefix", &tree, "--prefix", "/old/x"]);
        ensure_equal(&self.tree.join("letters"), &folder.join("old/x/letters")).unwrap();
        assert_eq!(files(&folder).len(), 7);
        // As many as the catalog has below what became the target: 6 names and a link; the 4 directories.
        assert_eq!(number(&job["progress"]["file_count"]), 7);
        assert_eq!(number(&job["progress"]["directory_count"]), 4);

        let folder = self.system.restored("counted").unwrap();
        let components = self.tree.components().count() - 1;
        let chosen = [self.path("letters/old/*.txt"), self.path("letters/new")];
        let strip = (components + 1).to_string();
        self.restore(&folder, &["--strip", &strip, &chosen[0], &chosen[1]])
            .expect(0)
            .unwrap();
        assert_eq!(files(&folder), ["new/c.odt", "old/b.txt"]);
        // One deeper two paths could become one.
        let strip = (components + 2).to_string();
        let said = self.restore(&folder, &["--strip", &strip, &chosen[0], &chosen[1]]);
        assert!(said.expect(1).unwrap().stderr.contains("in common"));
        // Whole versions: what only leads to the source can be left out, and nothing below that.
        let folder = self.system.restored("whole").unwrap();
        self.restore(&folder, &["--strip", &components.to_string()])
            .expect(0)
            .unwrap();
        assert_eq!(files(&folder).len(), 7);
    }

    /// What is there is judged one by one, and what stays is not even read.
    fn collisions(&self) {
        let folder = self.system.restored("collisions").unwrap();
        let tree = self.tree.display().to_string();
        let again = |collision: &str| {
            let arguments = ["--strip-prefix", &tree, "--collision", collision];
            self.job(&folder, &arguments)
        };
        again("never");
        let told = |job: &serde_json::Value| {
            let of = |field: &str| match &job["progress"][field] {
                serde_json::Value::Null => 0,
                value => number(value),
            };
            (of("file_count"), of("kept_count"))
        };
        // The two names of one file are read, for which of them has the bytes is known only then.
        assert_eq!(told(&again("if-different")), (0, 7));
        let changed = folder.join("letters/old/a.odt");
        fs::write(&changed, "mine, and newer").unwrap();
        assert_eq!(told(&again("if-newer")), (0, 7));
        assert_eq!(fs::read(&changed).unwrap(), b"mine, and newer");
        let job = again("if-different");
        assert_eq!(told(&job), (1, 6));
        ensure_equal(&self.tree.join("letters"), &folder.join("letters")).unwrap();
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let file = fs::File::options().write(true).open(&changed).unwrap();
        file.set_modified(long_ago).unwrap();
        drop(file);
        assert_eq!(told(&again("if-older")), (0, 7));
        assert_eq!(told(&again("if-newer")), (1, 6));
        let said = self.restore(&folder, &["--strip-prefix", &tree]);
        let said = said.expect(3).unwrap();
        assert!(said.stderr.contains("(EXISTS)"), "{said}");
        assert_eq!(told(&again("always")), (7, 0));
        ensure_equal(&self.tree.join("letters"), &folder.join("letters")).unwrap();
    }

    fn other_owners(&self) {
        let folder = self.system.restored("owners").unwrap();
        let chosen = self.path("letters/new");
        let said = self.restore(&folder, &[&chosen, "--map-owner", "no-such-user=1"]);
        let said = said.expect(1).unwrap();
        assert!(said.stderr.contains("no-such-user"), "{said}");
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let map = self.system.home().join("owners");
        fs::write(&map, "# as root has it\nuser root=1234\n").unwrap();
        let map = map.display().to_string();
        let owners = ["--owner-map", &map, "--owner", "77:4321"];
        self.restore(&folder, &[&[chosen.as_str()][..], &owners].concat())
            .expect(0)
            .unwrap();
        let restored = below(&folder, &self.tree);
        for path in [restored.clone(), restored.join("letters/new/c.odt")] {
            let meta = fs::metadata(path).unwrap();
            assert_eq!((meta.uid(), meta.gid()), (1234, 4321));
        }
    }

    /// Everything is read and proved, and nothing is written anywhere.
    fn only_verifies(&self) {
        let said = self
            .system
            .taf(&["restore", "work", "--verify-only", "--json"])
            .unwrap();
        let job = said.expect(0).unwrap().json().unwrap();
        let progress = &job["progress"];
        assert_eq!(number(&progress["file_count"]), 7);
        let plan = ["restore", "work", "--verify-only", "--dry-run"];
        let plan = self.system.json(&plan).unwrap();
        let entries = number(&progress["file_count"]) + number(&progress["directory_count"]);
        assert_eq!(number(&plan["entry_count"]), entries, "{plan} {job}");
        assert_eq!(number(&plan["byte_count"]), number(&progress["byte_count"]));
    }
}

/// All that is no directory below a folder, relative and sorted.
fn files(top: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![top.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            } else {
                let path = entry.path();
                found.push(path.strip_prefix(top).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_restore_does_what_it_is_asked_for() {
    let scene = Scene::set();
    scene.patterns_and_lists();
    scene.other_paths();
    scene.collisions();
    scene.other_owners();
    scene.only_verifies();
}
