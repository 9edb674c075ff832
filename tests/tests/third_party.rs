//! A program of somebody else, in Python, made from the published protobuf files alone: it signs in, lists, browses, finds, restores
//! and watches (`tests/clients`, docs/api.md).
//!
//! Where Python's grpcio or protoc is missing, the test says so and does nothing.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::Path;
use std::process::Command;

use taf_tests::said::Running;
use taf_tests::system::{Options, System, below};
use taf_tests::trees::{build_random, ensure_equal};

/// The interpreter; `TAF_TEST_PYTHON` names another one, as of a virtual environment.
/// The interpreter that has what the client needs: a host may have several, and packages are the system's.
fn python() -> String {
    if let Ok(python) = std::env::var("TAF_TEST_PYTHON") {
        return python;
    }
    let has = |python: &&str| works(python, &["-c", "import grpc, google.protobuf"]);
    let found = ["python3", "/usr/bin/python3"].into_iter().find(has);
    found.unwrap_or("python3").to_owned()
}

fn works(program: &str, arguments: &[&str]) -> bool {
    let tried = Command::new(program).args(arguments).output();
    tried.is_ok_and(|output| output.status.success())
}

/// What is missing on this machine, if anything.
fn missing() -> Option<&'static str> {
    let python = python();
    if !works(&python, &["-c", "import grpc, google.protobuf"]) {
        return Some("python3-grpcio and python3-protobuf");
    }
    // Google's own files are apart from the compiler.
    let protoc = works("protoc", &["--version"])
        && Path::new("/usr/include/google/protobuf/descriptor.proto").exists();
    let tools = works(&python, &["-c", "import grpc_tools"]) || protoc;
    (!tools).then_some("protobuf-compiler and libprotobuf-dev, or grpcio-tools")
}

/// Runs the program; gives its lines.
fn client(system: &System, arguments: &[&str]) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = system.command(&python());
    command
        .arg(root.join("clients/taf_client.py"))
        .arg(root.join("../proto"))
        .arg(system.address())
        .arg(system.home().join("controller/authority.pem"))
        .arg("admin")
        .arg(system.home().join("etc/administrator.password"))
        .args(arguments);
    let said = Running::start(command).unwrap();
    let said = said.wait(taf_tests::system::PATIENCE).unwrap();
    let text = String::from_utf8(said.expect(0).unwrap().stdout.clone()).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_program_made_from_the_protos_alone_lists_browses_finds_restores_and_watches() {
    if let Some(what) = missing() {
        println!("not tried: this machine lacks {what}");
        return;
    }
    let system = System::start(Options {
        drives: 1,
        cartridges: 1,
        ..Options::default()
    })
    .unwrap();
    system.label("TAF001L8", "default").unwrap();
    let tree = system.data().join("tree");
    build_random(&tree, 3, 5, 10_000).unwrap();
    fs::write(tree.join("r\u{e9}sum\u{e9}.txt"), "hello").unwrap();
    system.plan("daily", &tree, "default").unwrap();
    for _ in 0..3 {
        let run = ["run", "daily", "--type", "full"];
        system.taf(&run).unwrap().expect(0).unwrap();
    }

    let versions = client(&system, &["versions", "daily"]);
    assert_eq!(versions, system.versions("daily").unwrap());
    assert_eq!(versions.len(), 3);
    let newest = &versions[0];
    let listed = client(&system, &["ls", newest, &tree.display().to_string()]);
    assert_eq!(
        listed,
        [
            "ENTRY_KIND_DIRECTORY 0 folder-00000",
            "ENTRY_KIND_FILE 5 r\u{e9}sum\u{e9}.txt"
        ]
    );
    let wanted = tree.join("r\u{e9}sum\u{e9}.txt").display().to_string();
    let found = client(&system, &["find", "r\u{e9}*.txt"]);
    let each = versions.iter().map(|version| format!("{version} {wanted}"));
    assert_eq!(found, each.collect::<Vec<_>>());

    let into = system.restored("by-python").unwrap();
    let target = into.display().to_string();
    let path = tree.display().to_string();
    let states = client(&system, &["restore", newest, &target, &path]);
    assert_eq!(states.last().unwrap(), "JOB_STATE_SUCCEEDED");
    ensure_equal(&tree, &below(&into, &tree)).unwrap();
    let jobs = system.json(&["job", "list"]).unwrap();
    let job = jobs["jobs"][0]["name"].as_str().unwrap().to_owned();
    assert_eq!(client(&system, &["watch", &job]), ["JOB_STATE_SUCCEEDED"]);
    assert_eq!(client(&system, &["refused"]), ["RESOURCE_NOT_FOUND"]);
}
