//! Every wrong input has a reason, a next step and an exit status: 1 what failed, 2 what was asked wrongly, 3 what was
//! done with issues. Nothing hangs, nothing is half done.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use taf_tests::patience::until;
use taf_tests::said::{Running, Said, objects, values};
use taf_tests::system::{Options, PATIENCE, Process, SOURCE_AGENT, System};
use taf_tests::trees::{build_random, ensure_equal};

const CARTRIDGE: &str = "TAF001L8";

/// The exit status is this one, the talk names the reason and all of the words, and says what to do next.
#[track_caller]
fn refused(said: &Said, status: i32, reason: &str, words: &[&str]) {
    println!("{said}\n");
    assert_eq!(said.status, Some(status), "{said}");
    assert!(said.stderr.contains(reason), "no reason {reason}: {said}");
    for word in words {
        assert!(said.stderr.contains(word), "no '{word}': {said}");
    }
    if status == 1 {
        assert!(said.stderr.contains("next: "), "no next step: {said}");
    }
    assert!(!said.stderr.contains("panicked"), "{said}");
}

/// A program other than `taf` ends with 1, in one line that says what happened and what to do.
#[track_caller]
fn unwanted(said: &Said, words: &[&str]) {
    println!("{said}\n");
    assert_eq!(said.status, Some(1), "{said}");
    for word in words {
        assert!(said.stderr.contains(word), "no '{word}': {said}");
    }
    assert!(!said.stderr.contains("panicked"), "{said}");
}

fn tree(system: &System, name: &str) -> std::path::PathBuf {
    let tree = system.data().join(name);
    build_random(&tree, 1, 20, 1000).unwrap();
    tree
}

#[test]
fn what_is_not_there_or_not_allowed() {
    let system = System::start(Options::default()).unwrap();
    let tree = tree(&system, "tree");
    system.label(CARTRIDGE, "default").unwrap();
    system.plan("good", &tree, "default").unwrap();
    unknown_names(&system, &tree);
    paths(&system, &tree);
    cartridges(&system);
    issues(&system);
    // What was refused left nothing behind: the good plan still works.
    system.taf(&["run", "good"]).unwrap().expect(0).unwrap();
    let restored = system.restore("good", &[], "good", &tree).unwrap();
    ensure_equal(&tree, &restored).unwrap();
}

fn unknown_names(system: &System, tree: &Path) {
    let said = system.taf(&["run", "nobody-made-this"]).unwrap();
    refused(&said, 1, "RESOURCE_NOT_FOUND", &["nobody-made-this"]);
    let said = system.taf(&["run"]).unwrap();
    refused(&said, 2, "Usage", &[]);
    let said = system.taf(&["job", "show", "4711"]).unwrap();
    refused(&said, 1, "RESOURCE_NOT_FOUND", &["4711"]);
    let folder = tree.display().to_string();
    let said = system
        .taf(&["source", "create", "x", "--agent", "nobody", &folder])
        .unwrap();
    refused(&said, 1, "RESOURCE_NOT_FOUND", &["nobody"]);
    let said = system
        .taf(&[
            "source",
            "create",
            "Not A Name",
            "--agent",
            SOURCE_AGENT,
            &folder,
        ])
        .unwrap();
    assert!(matches!(said.status, Some(1 | 2)), "{said}");
    let said = system.taf(&["restore", "good", "--to", "/x"]).unwrap();
    assert_eq!(said.status, Some(1), "no version yet: {said}");
}

fn paths(system: &System, tree: &Path) {
    // A path that is not there fails the job: nothing else was asked for.
    let missing = system.data().join("not there");
    system.plan("missing", &missing, "default").unwrap();
    let said = system.taf(&["run", "missing"]).unwrap();
    println!("{said}\n");
    assert!(matches!(said.status, Some(1 | 3)), "{said}");
    assert!(said.stderr.contains("not there"), "{said}");

    let said = system
        .taf(&[
            "source",
            "create",
            "relative",
            "--agent",
            SOURCE_AGENT,
            "not/absolute/../x",
        ])
        .unwrap();
    println!("{said}\n");
    assert!(matches!(said.status, Some(0..=2)), "{said}");

    // Outside of what the agent's own configuration allows, whatever the controller says.
    system
        .plan("forbidden", Path::new("/etc"), "default")
        .unwrap();
    let said = system.taf(&["run", "forbidden"]).unwrap();
    refused(&said, 1, "PATH_NOT_ALLOWED", &["/etc"]);
    system.taf(&["run", "good"]).unwrap().expect(0).unwrap();
    let target = system.path("etc");
    let said = system.taf(&["restore", "good", "--to", &target]).unwrap();
    refused(&said, 1, "PATH_NOT_ALLOWED", &[&target]);

    let missing = tree.join("never was").display().to_string();
    let to = system.restored("x").unwrap().display().to_string();
    let said = system
        .taf(&["restore", "good", &missing, "--to", &to])
        .unwrap();
    refused(&said, 1, "PATH_NOT_FOUND", &["never was"]);
    let said = system.taf(&["ls", "good", &missing]).unwrap();
    refused(&said, 1, "NOT_FOUND", &["never was"]);
}

fn cartridges(system: &System) {
    system
        .taf(&["pool", "create", "empty"])
        .unwrap()
        .expect(0)
        .unwrap();
    let folder = system.data().join("tree").display().to_string();
    system
        .taf(&[
            "plan", "create", "homeless", "--source", "good", "--pool", "empty",
        ])
        .unwrap()
        .expect(0)
        .unwrap();
    let said = system.taf(&["run", "homeless"]).unwrap();
    refused(&said, 1, "NO_VOLUME", &["empty", "taf volume label"]);

    // A tape of somebody else's: labelling must not touch it.
    let foreign = system.path("etc/foreign.tar");
    let said = system
        .shell(Path::new(&folder), &format!("tar -cf '{foreign}' ."))
        .unwrap();
    said.expect(0).unwrap();
    let mut add = system.command("taf-emulator");
    add.args(["add", "ALIEN1L8", "--dir", &system.path("library")]);
    add.args(["--foreign", &foreign]);
    Running::start(add)
        .unwrap()
        .wait(PATIENCE)
        .unwrap()
        .expect(0)
        .unwrap();
    until("the cartridge to be seen", Duration::from_mins(1), || {
        let libraries = system.json(&["library", "list"])?;
        Ok(libraries.to_string().contains("ALIEN1L8").then_some(()))
    })
    .unwrap();
    let before = system.shell(
        system.home(),
        "taf-emulator cat library/cartridges/ALIEN1L8.tape 0 | cksum",
    );
    let before = before.unwrap().expect(0).unwrap().stdout;
    let said = system
        .taf(&["volume", "label", "ALIEN1L8", "--pool", "default"])
        .unwrap();
    refused(&said, 1, "FOREIGN_VOLUME", &["ALIEN1L8", "not blank"]);
    let after = system.shell(
        system.home(),
        "taf-emulator cat library/cartridges/ALIEN1L8.tape 0 | cksum",
    );
    assert_eq!(before, after.unwrap().expect(0).unwrap().stdout);

    let said = system
        .taf(&["volume", "label", "NOWHERE1", "--pool", "default"])
        .unwrap();
    refused(&said, 1, "CARTRIDGE_NOT_IN_LIBRARY", &["NOWHERE1"]);
    let said = system
        .taf(&["volume", "label", CARTRIDGE, "--pool", "default"])
        .unwrap();
    refused(&said, 1, "VOLUME_", &[CARTRIDGE]);
}

/// Files that change or can't be read: done with issues, each named.
fn issues(system: &System) {
    let tree = system.data().join("restless");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("quiet"), "quiet").unwrap();
    fs::write(tree.join("restless"), vec![7; 30_000_000]).unwrap();
    let mut expected = vec!["restless"];
    if !nix::unistd::geteuid().is_root() {
        fs::write(tree.join("closed"), "closed").unwrap();
        fs::set_permissions(tree.join("closed"), fs::Permissions::from_mode(0o000)).unwrap();
        expected.push("closed");
    }
    system.plan("restless", &tree, "default").unwrap();
    let stop = AtomicBool::new(false);
    let said = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut file = fs::File::options()
                .append(true)
                .open(tree.join("restless"))
                .unwrap();
            while !stop.load(Ordering::Relaxed) {
                file.write_all(b"more").unwrap();
                std::thread::yield_now();
            }
        });
        let said = system.taf(&["run", "restless"]);
        stop.store(true, Ordering::Relaxed);
        said.unwrap()
    });
    println!("{said}\n");
    assert_eq!(said.status, Some(3), "{said}");
    let jobs = system.json(&["job", "list"]).unwrap();
    let job = objects(&jobs, "state")[0]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    let number = job.trim_start_matches("jobs/");
    let listed = system.json(&["job", "issues", number]).unwrap();
    assert_eq!(values(&listed, "reason").len(), expected.len(), "{listed}");
    for name in expected {
        assert!(listed.to_string().contains(name), "{listed}");
    }
    // The archive is right all the same.
    let restored = system.restore("restless", &[], "restless", &tree).unwrap();
    assert_eq!(fs::read(restored.join("quiet")).unwrap(), b"quiet");
    let content = fs::read(restored.join("restless")).unwrap();
    assert!(content.len() >= 30_000_000 && content[..30_000_000].iter().all(|byte| *byte == 7));
}

#[test]
fn who_is_not_let_in() {
    let mut system = System::start(Options::default()).unwrap();
    let token = |name: &str| system.path(&format!("etc/{name}.token"));
    let make = |name: &str, role: &str, further: &[&str]| {
        let path = token(name);
        let arguments = ["agent", "token", name, "--role", role, "--output", &path];
        system
            .taf(&[&arguments, further].concat())
            .unwrap()
            .expect(0)
            .unwrap();
        path
    };
    let enrol =
        |path: &str, state: &str| system.enrol_with("taf-source-agent", path, state).unwrap();

    let used = make("used", "source", &[]);
    enrol(&used, "once").expect(0).unwrap();
    unwanted(&enrol(&used, "twice"), &["used before", "make a new one"]);

    let begun = Instant::now();
    let expired = make("late", "source", &["--lifetime", "1s"]);
    until("the token to expire", Duration::from_mins(1), || {
        // Too short tokens are no tokens: only the clock is asked here, not the controller.
        Ok((begun.elapsed() > Duration::from_millis(1500)).then_some(()))
    })
    .unwrap();
    unwanted(&enrol(&expired, "late"), &["expired", "make a new one"]);

    let tape = make("mixed-up", "tape", &[]);
    enrol(&tape, "mixed-up").expect(0).unwrap();
    let config = system.path("etc/mixed-up.toml");
    let text = format!(
        "controller = \"{}\"\nstate = \"{}\"\n",
        system.address(),
        system.path("mixed-up")
    );
    fs::write(&config, text).unwrap();
    let mut command = system.command("taf-source-agent");
    command.args(["run", "--config", &config]);
    let said = Running::start(command).unwrap().wait(PATIENCE).unwrap();
    unwanted(&said, &["tape-agent", "source-agent"]);

    // A token of another installation: its authority is not ours, and is not asked for anything.
    let wrong = fs::read_to_string(make("wrong", "source", &[])).unwrap();
    let wrong_path = token("other-authority");
    fs::write(&wrong_path, other_fingerprint(wrong.trim())).unwrap();
    fs::set_permissions(&wrong_path, fs::Permissions::from_mode(0o600)).unwrap();
    let said = enrol(&wrong_path, "other");
    unwanted(&said, &["authority", "check the address"]);
    unwanted(&enrol(&token("no-such-file"), "none"), &["no-such-file"]);

    wrong_people(&system);
    database_gone(&mut system);
}

/// The token with another authority's fingerprint, which is its last two thirds.
fn other_fingerprint(token: &str) -> String {
    let at = token.len() - 20;
    let other = if &token[at..=at] == "A" { "B" } else { "A" };
    format!("{}{other}{}", &token[..at], &token[at + 1..])
}

fn wrong_people(system: &System) {
    let password = system.path("etc/viewer.password");
    fs::write(&password, "a long enough one\n").unwrap();
    system
        .taf(&[
            "account",
            "create",
            "onlooker",
            "--role",
            "viewer",
            "--password-file",
            &password,
        ])
        .unwrap()
        .expect(0)
        .unwrap();
    let wrong = system.path("etc/wrong.password");
    fs::write(&wrong, "this is not it\n").unwrap();
    refused(
        &system.login("onlooker", &wrong).unwrap(),
        1,
        "WRONG_PASSWORD",
        &[],
    );
    system
        .login("onlooker", &password)
        .unwrap()
        .expect(0)
        .unwrap();
    system.taf(&["status"]).unwrap().expect(0).unwrap();
    let said = system.taf(&["pool", "create", "mine"]).unwrap();
    refused(&said, 1, "ROLE_TOO_LOW", &[]);
    let administrator = system.path("etc/administrator.password");
    system
        .login("admin", &administrator)
        .unwrap()
        .expect(0)
        .unwrap();
}

fn database_gone(system: &mut System) {
    // Without its configuration it can't be started again either.
    let config = system.path("controller/database/data/postgresql.conf");
    let aside = format!("{config}.aside");
    fs::rename(&config, &aside).unwrap();
    system.kill(Process::Postgres).unwrap();
    let said = system.taf(&["status"]).unwrap();
    refused(&said, 1, "DATABASE", &[]);
    fs::rename(&aside, &config).unwrap();
    system.until_ready().unwrap();

    let config = system.path("etc/elsewhere.toml");
    let text = format!(
        "listen = \"127.0.0.1:0\"\nhome = \"{}\"\ndatabase = \"postgresql://taf@127.0.0.1:1/taf\"\n",
        system.path("elsewhere")
    );
    fs::write(&config, text).unwrap();
    let mut command = system.command("taf-controller");
    command.args(["run", "--config", &config]);
    let said = Running::start(command).unwrap().wait(PATIENCE).unwrap();
    unwanted(&said, &["127.0.0.1"]);
}

/// The disk under the virtual library is full: the job fails and says so; what was on tape before stays readable.
#[test]
fn the_emulators_disk_is_full() {
    let system = System::start(Options {
        emulator: vec!["--buffer".into(), "1MiB".into()],
        emulator_file_limit: Some(20_000_000),
        controller: "volume_wait = \"1s\"\n".into(),
        ..Options::default()
    })
    .unwrap();
    let small = tree(&system, "small");
    let large = system.data().join("large");
    build_random(&large, 2, 40, 1_000_000).unwrap();
    system.label(CARTRIDGE, "default").unwrap();
    system.plan("small", &small, "default").unwrap();
    system.plan("large", &large, "default").unwrap();
    system.taf(&["run", "small"]).unwrap().expect(0).unwrap();
    let said = system.taf(&["run", "large"]).unwrap();
    println!("{said}\n");
    assert_eq!(said.status, Some(1), "{said}");
    assert!(said.stderr.contains("next: "), "{said}");
    assert_eq!(system.versions("large").unwrap().len(), 0);
    let restored = system.restore("small", &[], "small", &small).unwrap();
    ensure_equal(&small, &restored).unwrap();
    // What is in doubt is not written to again. Another cartridge is, as the next step says.
    system.label("TAF002L8", "default").unwrap();
    system.taf(&["run", "small"]).unwrap().expect(0).unwrap();
    assert_eq!(system.versions("small").unwrap().len(), 2);
}

/// A cartridge that is full, and no other: the job waits for one, and fails clearly when none comes.
#[test]
fn a_cartridge_is_full() {
    let system = System::start(Options {
        capacity: "64MB".into(),
        emulator: vec!["--buffer".into(), "1MiB".into()],
        controller: "volume_wait = \"1s\"\n".into(),
        ..Options::default()
    })
    .unwrap();
    let small = tree(&system, "small");
    let large = system.data().join("large");
    build_random(&large, 2, 100, 1_000_000).unwrap();
    system.label(CARTRIDGE, "default").unwrap();
    system.plan("small", &small, "default").unwrap();
    system.plan("large", &large, "default").unwrap();
    system.taf(&["run", "small"]).unwrap().expect(0).unwrap();
    let said = system.taf(&["run", "large"]).unwrap();
    refused(&said, 1, "NO_VOLUME", &["pool default", "taf volume label"]);
    assert_eq!(system.versions("large").unwrap().len(), 0);
    let restored = system.restore("small", &[], "small", &small).unwrap();
    ensure_equal(&small, &restored).unwrap();
}
