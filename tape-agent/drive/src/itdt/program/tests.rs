#![allow(clippy::unwrap_used)]
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;

use super::*;

const FINE: &str = "Result: PASSED\nCode: OK\nExit with code: 0\n";

/// A program that is a shell script.
fn script(folder: &TempDir, text: &str) -> Program {
    let path = folder.path().join("itdt");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    Program {
        program: path,
        device: "/dev/sg9".to_owned(),
    }
}

fn call(program: &Program, limit: Duration) -> Result<String, Error> {
    program.call(&["-f", "/dev/sg9", "tur"], Effort::Poll, limit)
}

fn says(text: &str, status: i32) -> Result<String, Error> {
    let folder = TempDir::new().unwrap();
    let quoted = text.replace('\'', "");
    let program = script(&folder, &format!("printf '%s' '{quoted}'; exit {status}"));
    call(&program, Duration::from_mins(2))
}

fn reason(outcome: Result<String, Error>) -> String {
    match outcome {
        Err(Error::Program { reason, command }) => {
            assert!(command.ends_with("-f /dev/sg9 tur"), "{command}");
            reason
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_what_says_in_all_ways_that_it_succeeded_has() {
    assert_eq!(says(FINE, 0).unwrap(), FINE);
    assert!(says("Exit with code: 0", 0).is_ok());
    let why = reason(says("Drive is busy\nExit with code: 0\n", 3));
    assert_eq!(why, "exit status: 3: Drive is busy");
    let why = reason(says("Result: FAILED (20)\nExit with code: 0\n", 0));
    assert_eq!(why, "Result: FAILED (20)");
    let why = reason(says("Result: ABORTED\nCode: x\nExit with code: 0\n", 0));
    assert_eq!(why, "Result: ABORTED: Code: x");
    assert_eq!(reason(says("Exit with code: 7\n", 0)), "exit code 7");
    // Cut off, or nothing at all.
    for text in ["", "Result: PASSED\nCode: OK\nExit with co"] {
        let why = reason(says(text, 0));
        assert!(why.contains("without"), "{why}");
    }
    let long = "x".repeat(5_000);
    assert!(reason(says(&long, 1)).len() < 300);
}

#[test]
fn a_call_is_given_its_orders_and_nothing_to_read() {
    let folder = TempDir::new().unwrap();
    let program = script(&folder, "cat; pwd; echo \"$@\"; echo 'Exit with code: 0'");
    let output = program.run(Effort::Motion, &["load", "rewind"]).unwrap();
    let mut lines = output.lines();
    assert!(
        folder
            .path()
            .ends_with(lines.next().unwrap().rsplit('/').next().unwrap())
    );
    assert_eq!(
        lines.next(),
        Some("-force-generic-dd -f /dev/sg9 load rewind")
    );
}

#[test]
fn a_call_that_hangs_is_killed_with_all_that_it_started() {
    let folder = TempDir::new().unwrap();
    let program = script(&folder, "sleep 600 & echo $! > child; echo begun; wait");
    let error = call(&program, Duration::from_millis(400)).unwrap_err();
    assert!(
        matches!(&error, Error::Unknown(transport::Error::Timeout { device, .. }) if device == "/dev/sg9"),
        "{error:?}"
    );
    let child = fs::read_to_string(folder.path().join("child"));
    // On a machine that is busy it may not even have begun.
    if let Some(pid) = child.ok().and_then(|pid| pid.trim().parse::<u32>().ok()) {
        // A zombie until whoever inherits it looks; but not what it was.
        let is_gone = || {
            fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| {
                !stat.contains("(sleep)") || stat.contains(") Z ")
            })
        };
        let begun = Instant::now();
        while !is_gone() {
            assert!(begun.elapsed() < Duration::from_mins(1), "{pid} lives");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

#[test]
fn what_outlives_the_call_does_not_keep_it() {
    let folder = TempDir::new().unwrap();
    let program = script(&folder, "setsid sleep 30 & echo 'Exit with code: 0'");
    let begun = Instant::now();
    call(&program, Duration::from_mins(2)).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(25));
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let program = Program {
        program: PathBuf::from("/no/such/itdt"),
        device: "/dev/sg9".to_owned(),
    };
    let error = program.run(Effort::Ask, &["tur"]).unwrap_err().to_string();
    assert!(
        error.contains("/no/such/itdt can't be run") && error.contains("itdt:/PATH/OF/itdt@"),
        "{error}"
    );
    assert!(!is_there(&program.program) && is_there(Path::new("sh")));
}
