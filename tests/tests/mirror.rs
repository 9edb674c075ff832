//! Mirrors on a whole system: one current version, which takes the place of the one before, and is made whole when most of what its
//! archives hold is dead.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::Path;

use taf_tests::said::objects;
use taf_tests::system::{Options, System};
use taf_tests::trees::ensure_equal;

#[test]
fn a_mirror_is_one_version_and_made_whole_when_most_is_dead() {
    let system = System::start(Options {
        drives: 1,
        ..Options::default()
    })
    .unwrap();
    system.label("TAF001L8", "default").unwrap();
    let taf = |arguments: &[&str]| system.taf(arguments).unwrap();
    let tree = system.data().join("home");
    fs::create_dir_all(tree.join("sub")).unwrap();
    fs::write(tree.join("sub/small"), vec![1; 20_000]).unwrap();
    fs::write(tree.join("large"), vec![2; 600_000]).unwrap();
    system.plan("home", &tree, "default").unwrap();
    let mirror = [
        "plan", "create", "mirror", "--source", "home", "--pool", "default", "--type", "mirror",
    ];
    taf(&mirror).expect(0).unwrap();

    let run = || taf(&["run", "mirror"]).expect(0).unwrap().stderr;
    let numbers = || -> Vec<(String, String)> {
        let list = system.json(&["versions", "--plan", "mirror"]).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let versions = objects(&list, "number").into_iter();
        versions
            .map(|v| (text(&v["number"]), text(&v["parent_number"])))
            .collect()
    };
    let one = |number: &str, parent: &str| vec![(number.to_owned(), parent.to_owned())];
    let said = run();
    assert!(
        said.contains("a whole mirror: there is no version to build on"),
        "{said}"
    );
    assert_eq!(numbers(), one("1", "0"));
    // Nearly all of it dies: the first one is still built on, since all of it was living.
    fs::write(tree.join("large"), vec![3; 1_000]).unwrap();
    let said = run();
    assert!(!said.contains("whole"), "{said}");
    assert_eq!(numbers(), one("2", "1"));
    let restored = system.restore("mirror", &[], "second", &tree).unwrap();
    ensure_equal(&tree, &restored).unwrap();
    taf(&["restore", "mirror@1", "--to", "/", "--dry-run"])
        .expect(1)
        .unwrap();

    fs::write(tree.join("new"), "new").unwrap();
    let said = run();
    assert!(said.contains("a whole mirror: only"), "{said}");
    assert_eq!(numbers(), one("3", "0"));
    let restored = system.restore("mirror", &[], "third", &tree).unwrap();
    ensure_equal(&tree, &restored).unwrap();
    makes_equal(&system, &tree, &restored);
}

/// A restore makes the target equal: what is extra is listed first, then removed, and nothing outside.
fn makes_equal(system: &System, tree: &Path, restored: &Path) {
    let to = system.restored("third").unwrap();
    let to = to.to_str().unwrap();
    let taf = |arguments: &[&str]| system.taf(arguments).unwrap();
    fs::create_dir_all(restored.join("extra/deep")).unwrap();
    fs::write(restored.join("extra/deep/file"), "x").unwrap();
    fs::write(restored.join("sub/more"), "more").unwrap();
    fs::write(restored.join("large"), "not what it was").unwrap();
    std::os::unix::fs::symlink(system.data(), restored.join("door")).unwrap();
    // Beside what was chosen: the directories on the way hold what nobody chose.
    let beside = restored.parent().unwrap().join("beside");
    fs::write(&beside, "stays").unwrap();

    let arguments = [
        "restore",
        "mirror",
        "--to",
        to,
        "--collision",
        "always",
        "--delete",
    ];
    let listed = taf(&[&arguments[..], &["--dry-run"]].concat())
        .expect(3)
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    for name in ["extra", "sub/more", "door"] {
        let path = restored.join(name);
        assert!(
            listed.contains(&format!("{}: ", path.display())),
            "{name}: {listed}"
        );
    }
    assert!(
        !listed.contains("beside") && !listed.contains("deep/file"),
        "{listed}"
    );
    assert!(restored.join("extra/deep/file").exists(), "only listed");

    // A single directory: nothing else.
    let chosen = tree.join("sub").display().to_string();
    taf(&[
        "restore",
        "mirror",
        &chosen,
        "--to",
        to,
        "--collision",
        "always",
        "--delete",
    ])
    .expect(0)
    .unwrap();
    assert!(!restored.join("sub/more").exists() && restored.join("extra").exists());

    let said = taf(&arguments).expect(0).unwrap();
    assert!(said.stderr.contains("removal of what"), "{}", said.stderr);
    ensure_equal(tree, restored).unwrap();
    assert!(beside.exists() && tree.join("new").exists());

    // At the origin there is what the version was never asked to hold.
    let refused = taf(&["restore", "mirror", "--to", "/", "--delete", "--dry-run"]);
    assert!(
        refused.stderr.contains("at the origin"),
        "{}",
        refused.stderr
    );
    // Also if another path leads there.
    fs::rename(tree, system.data().join("aside")).unwrap();
    std::os::unix::fs::symlink(restored, tree).unwrap();
    fs::write(restored.join("extra"), "stays").unwrap();
    let (real, origin) = (restored.to_str().unwrap(), tree.to_str().unwrap());
    let words = ["restore", "mirror", "--to", real, "--strip-prefix", origin];
    for further in [&["--dry-run"][..], &["--collision", "always"]] {
        let refused = taf(&[&words[..], &["--delete"], further].concat());
        assert_eq!(refused.status, Some(1), "{refused}");
        assert!(refused.stderr.contains("DELETE_AT_ORIGIN"), "{refused}");
    }
    assert!(restored.join("extra").exists());
}
